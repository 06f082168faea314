"""Real processes that start in milliseconds: each is forked from one that has imported everything and done nothing.

The nursery is a process of its own, so that no child inherits what a test holds open. A child's process id, signals,
locks, threads, open files and death are its own.
"""

import atexit
import functools
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults import storage_calls
from tests.faults.storage_calls import Decide, Watched, watch

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 60.0  # a machine that is busy otherwise is no fault
ENVIRONMENT = {
    "PYTHONPATH": str(REPOSITORY),
    "PYTHONDONTWRITEBYTECODE": "1",
    "OPENBLAS_NUM_THREADS": "1",  # numpy and Arrow would start threads on import, which a fork loses
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class Child:
    """One running child. What it prints goes to `output`; what it reports, to whoever watches it."""

    def __init__(self, home: "Nursery", pid: int, reports: socket.socket, listener: int | None, output: Path) -> None:
        self.pid, self.reports, self.output = pid, reports, output
        self._home, self._listener = home, listener

    def watch(
        self, root: Path, decide: Decide, heard: Callable[[str], None], timeout_s: float = TIMEOUT_S
    ) -> tuple[Watched, int]:
        """Answer for its storage calls until it ends; return how it ended, and its exit code."""
        assert self._listener is not None
        try:
            ended = watch(self.pid, self._listener, self.reports, root.resolve(), decide, heard, timeout_s)
        finally:
            os.close(self._listener)
        return ended, self.wait()

    def hear_until(self, heard: Callable[[str], bool], timeout_s: float = TIMEOUT_S) -> bool:
        """Pass on what it reports until `heard` has enough; return False where it ended or the time was over before."""
        return any(line is not None and heard(line) for line in self._lines(timeout_s))

    def _lines(self, timeout_s: float) -> Iterator[str | None]:
        """Yield what it reports and, at its end, None."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self.reports.settimeout(left)
            try:
                message = self.reports.recv(1 << 16)
            except TimeoutError:
                return
            except ConnectionResetError:
                continue  # it was killed before it read what it was told; what it reported is still to come
            yield message.decode() or None
            if not message:
                return

    def tell(self, word: str) -> None:
        self.reports.send(word.encode())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)  # it is not waited for yet, so the number is no other's

    def wait(self, heard: Callable[[str], None] = lambda _: None, timeout_s: float = TIMEOUT_S) -> int:
        """Wait for its end and return its exit code, or minus the signal that ended it.

        Raises:
            TimeoutError: it did not end; it is killed.
        """
        ended = False
        for line in self._lines(timeout_s):
            if line is None:
                ended = True
            else:
                heard(line)
        if not ended:
            self.signal(signal.SIGKILL)
            self._home.ask({"wait": self.pid})
            raise TimeoutError(f"process {self.pid} did not end in {timeout_s} s: {self.said()}")
        self.reports.close()
        return int(self._home.ask({"wait": self.pid}))

    def said(self) -> str:
        """Return what it printed, to either stream."""
        return self.output.read_text()


class Nursery:
    """Starts children; threads take turns. It ends with this process, or when it is closed."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="nursery-"))
        self._turn = threading.Lock()
        self._numbers = itertools.count()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own = {key: value for key, value in os.environ.items() if not key.startswith(("SPYMASTER_", "DATABENTO"))}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=REPOSITORY,
                env=own | ENVIRONMENT,
            )
        self._control = ours

    def close(self) -> None:
        self._control.close()
        self._process.wait(TIMEOUT_S)
        shutil.rmtree(self._folder)

    def ask(self, job: dict[str, Any], descriptors: tuple[int, ...] = ()) -> Any:
        with self._turn:
            socket.send_fds(self._control, [json.dumps(job).encode()], descriptors)
            answer = self._control.recv(1000)
        assert answer, "the nursery died"
        return json.loads(answer)

    def start(self, folder: Path, *command: str, watched: bool = False, **job: Any) -> Child:
        """Start a child that runs a command of `tests.faults.workload` on the log and lake below `folder`.

        Args:
            folder: its working directory.
            command: what it does, e.g. `recover`.
            watched: whether each of its storage calls is asked for; then `watch` it.
            job: what else `workload.main` understands.
        """
        output = self._folder / f"{next(self._numbers)}.txt"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            described = {"folder": str(folder), "command": command, "output": str(output), "watched": watched, **job}
            pid = self.ask(described, (theirs.fileno(),))
        listener = None
        if watched:
            ours.settimeout(TIMEOUT_S)
            _, descriptors, *_ = socket.recv_fds(ours, 100, 1)
            listener = descriptors[0]
        return Child(self, pid, ours, listener, output)

    def run(self, folder: Path, *command: str, **job: Any) -> tuple[int, str]:
        """Run a child to its end; return its exit code and what it printed."""
        child = self.start(folder, *command, **job)
        code = child.wait()
        return code, child.said()


@functools.cache
def nursery() -> Nursery:
    """Return the nursery of this process."""
    own = Nursery()
    atexit.register(own.close)
    return own


def serve(control: socket.socket) -> None:
    """Fork a child for each job, until the other side hangs up."""
    from tests.faults import workload  # here alone: whoever asks need not import what the children run

    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread before the fork would be lost in it"
    while True:
        message, descriptors, *_ = socket.recv_fds(control, 1 << 16, 1)
        if not message:
            return
        job = json.loads(message)
        if "wait" in job:
            control.send(json.dumps(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])).encode())
            continue
        pid = os.fork()
        if pid == 0:
            control.close()
            os._exit(_live(workload.main, job, socket.socket(fileno=descriptors[0])))
        os.close(descriptors[0])
        control.send(json.dumps(pid).encode())


def _live(main: Callable[[dict[str, Any], socket.socket], None], job: dict[str, Any], reports: socket.socket) -> int:
    """Be the child, and return its exit code."""
    printed = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(printed, stream)
    os.close(printed)
    try:
        os.chdir(job["folder"])
        if job.get("user"):
            os.setgroups([])
            os.setgid(job["user"])
            os.setuid(job["user"])
        if job["watched"]:
            listener = storage_calls.install()
            socket.send_fds(reports, [b"listener"], [listener])
            os.close(listener)
        if job.get("descriptors"):
            resource.setrlimit(resource.RLIMIT_NOFILE, (job["descriptors"], job["descriptors"]))
        main(job, reports)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  # as the interpreter would; a test reads it
        import traceback

        traceback.print_exc()
        code = 1
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

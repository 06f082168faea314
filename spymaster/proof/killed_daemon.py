"""A real recording daemon in a process of its own, which says what it acknowledges, to be killed.

It prints a line for each published batch, whose numbers have no hole: `schema/symbol capture_id first_seq last_seq`.
`python -m spymaster.proof.killed_daemon WAL_ROOT DATA_ROOT SOURCE` records when it reads the word on its input.
"""

import asyncio
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from spymaster import clock, settings
from spymaster.bus import Skipped, Subscription
from spymaster.daemon import Daemon
from spymaster.errors import UsageError
from spymaster.settings import Settings
from spymaster.simulation.source import SimFeed

START_LIMIT_S: Final = 60.0  # for a daemon to acknowledge its first rows
CHILD: Final = (sys.executable, "-m", "spymaster.proof.killed_daemon")
_LIFE_LIMIT_S: Final = 120.0  # a child whose parent is gone ends sooner, by its pipe
_RESERVE_MB: Final = 16  # what `DISK_RESERVE_MB` keeps free would stop the daemon on a disk with the room for trials

Line = tuple[str, int, int, int]  # of acknowledged rows: schema, capture, first `capture_seq`, last; without a hole


class Child:
    """A daemon that waits for the word to record; what it acknowledges is collected as it says so.

    Attributes:
        market: what it records.
        acknowledged: a line for each batch.
        rows: how many rows that is.
    """

    def __init__(self, wal_root: Path, data_root: Path, source: str) -> None:
        self.market = SimFeed.parse(source)
        self.acknowledged: list[Line] = []
        self.rows = 0
        self._errors = wal_root.parent / "daemon.stderr"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # ourselves
                [*CHILD, str(wal_root), str(data_root), f"sim-es:{source}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                process_group=0,  # so that Ctrl-C is ours alone
            )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def record(self) -> None:
        """Give the word."""
        with suppress(BrokenPipeError):  # it ended already; whoever waits for rows says so
            _pipe(self._process.stdin).write("record\n")
            _pipe(self._process.stdin).flush()

    def wait_for_rows(self, rows: int, longer_s: float) -> None:
        """Wait until it has acknowledged so many rows, and then `longer_s` more.

        Raises:
            UsageError: it ended by itself, or acknowledged too little in a minute.
        """
        limit_s = clock.monotonic_s() + START_LIMIT_S
        pause = threading.Event()
        while self.rows < rows and self._process.poll() is None and clock.monotonic_s() < limit_s:
            pause.wait(0.01)
        pause.wait(longer_s)
        ended = self._process.poll() is not None
        if ended or self.rows < rows:
            lines = self._errors.read_text(errors="replace").strip().splitlines() or ["it gave no reason"]
            raise UsageError(
                f"the daemon under test {'ended by itself' if ended else 'hangs'} after {self.rows} acknowledged rows: "
                f"{lines[-1]}. Nothing of yours was touched. Next: spymaster doctor"
            )

    def kill(self) -> None:
        """Kill -9, and collect the last lines."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()

    def _read(self) -> None:
        for line in _pipe(self._process.stdout):
            if line.count(" ") == 3 and line.endswith("\n"):  # else the kill cut it
                stream, capture_id, first, last = line.split()
                self.acknowledged.append((stream.partition("/")[0], int(capture_id), int(first), int(last)))
                self.rows += int(last) - int(first) + 1


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("a child without its pipes")
    return pipe


async def _say(acknowledged: Subscription) -> None:
    async for item in acknowledged:
        if isinstance(item, Skipped):
            continue  # not said, so not asked for
        stream, batch = item
        numbers = batch["capture_seq"]
        first, last = numbers[0].as_py(), numbers[-1].as_py()
        if last - first + 1 != batch.num_rows:
            raise ValueError(f"{stream}: rows {first} to {last} have a hole")
        print(stream, batch["capture_id"][0].as_py(), first, last, flush=True)


async def record(loaded: Settings, source: str, speed: float, duration_s: float | None = None) -> None:
    """Run a daemon, and print what it acknowledges; stop it when nobody listens any more."""
    daemon = Daemon(loaded, [source], speed)
    saying = asyncio.create_task(_say(daemon.bus.subscribe()))
    saying.add_done_callback(lambda _: daemon.stop())
    await daemon.run(duration_s)
    await saying


def main(wal_root: str, data_root: str, source: str) -> None:
    """Be the daemon: fast flushes and small segments, so that a kill meets all of them."""
    loaded = settings.load(
        wal_root=Path(wal_root), data_root=Path(data_root), flush_interval_sec=0.3, wal_segment_size_mb=1,
        wal_sync_interval_ms=5, use_s3=False, disk_reserve_mb=_RESERVE_MB,
    )  # fmt: skip
    asyncio.run(record(loaded, source, 1, _LIFE_LIMIT_S))


if __name__ == "__main__" and sys.stdin.readline() == "record\n":
    main(*sys.argv[1:])

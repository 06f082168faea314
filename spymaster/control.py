"""Questions to the running daemon, over a Unix socket in the log's folder that only its user may open.

One JSON line each way, one question a connection:
    {"command": "status"}  ->  the answer as one JSON document, or {"error": "a line"}
What else the question says is what its command is asked with.

The daemon answers between two pieces of recording and waits for nobody: a request has a size, a connection has a time,
and there are so many connections; whatever goes beyond loses its answer.

Why no lock of its own: whoever serves here holds the lock on the folder, so a socket found there is a dead daemon's.
"""

import asyncio
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypedDict

from spymaster import clock, durable
from spymaster.errors import ControlError, SpymasterError

SOCKET_NAME: Final = "control.sock"
MAX_REQUEST_BYTES: Final = 1024
MAX_ANSWER_BYTES: Final = 16 << 20
MAX_CONNECTIONS: Final = 32  # at once; one more is told so and closed
REQUEST_S: Final = 2.0  # from the connection to the answer's last byte, as the daemon sees it
ANSWER_S: Final = 2.0  # how long a question waits
_RETRY_S: Final = 0.02
# From Python 3.13 on asyncio would remove the socket as well, and print a line of its own where it may not.
_OURS_TO_REMOVE: Final[Mapping[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


Command = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]  # of the question's other values


class StreamGauges(TypedDict):
    """Rows of one stream in this run, by what they have passed and what they wait for."""

    appended: int
    acknowledged: int
    in_bronze: int
    appended_not_durable: int
    durable_not_in_bronze: int


class SyncTimes(TypedDict):
    """What syncs took that made rows durable: of the newest `count`."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Backlog(TypedDict):
    """Sealed segments that are not in Bronze."""

    segments: int
    bytes: int
    oldest_s: float | None


class Disk(TypedDict):
    """The room of log and Bronze at the last look. `level`: ok, warn, bronze_stopped or ingest_stopped."""

    level: str
    log_free_bytes: int
    bronze_free_bytes: int
    text: str


class LakeIndex(TypedDict):
    """The lake's catalog: whether it is open yet, and one line on files in the lake that are not ours, if there are."""

    open: bool
    strangers: str | None


class Gauges(TypedDict):
    """What a recorder knows of the rows on their way, without reading a file.

    `log_rows` wait in the log: those of this run, and those that the start found there.
    """

    streams: dict[str, StreamGauges]
    appended_not_durable: int
    durable_not_in_bronze: int
    log_rows: int
    oldest_not_durable_s: float | None
    sync: SyncTimes
    backlog: Backlog
    disk: Disk
    catalog: LakeIndex
    flush_s: float
    readers: int
    dropped_rows: int
    problems: list[str]


class JudgeGauges(TypedDict):
    """The live judge: what it judges, and how far it is. `signals` counts levels that have one now, by signal;
    `given` all since the session's begin.

    `state` is waiting, between sessions, warming up, judging or ended. `published` are the snaps that went to the bus
    in this run. `read_again_rows` left the bus too fast, and came from the log.
    """

    profile: str
    state: str
    session: str | None
    contract: str | None
    snap_ns: int | None
    void_reason: str | None
    snaps: int
    void: int
    levels: int
    signals: dict[str, int]
    given: dict[str, int]
    published: int
    read_again_rows: int


class GoldGauges(TypedDict):
    """The writer of Gold: the snaps that it took from the bus, the parts that it made of them, the rows that wait.

    `following` is whether it takes more. `abandoned_rows` are in no part. `flushed_ns` is the event time of the last
    row that is in one, `flushed_age_s` how long ago it got there.
    """

    following: bool
    snaps: int
    parts: int
    waiting_rows: int
    abandoned_rows: int
    flushed_ns: int | None
    flushed_age_s: float | None


class DaemonStatus(Gauges):
    """What a running daemon answers; `judge` and `gold` are null of one that judges nothing."""

    pid: int
    version: str
    state: str
    uptime_s: float
    judge: JudgeGauges | None
    gold: GoldGauges | None


def ask(
    folder: Path, command: str, timeout_s: float = ANSWER_S, values: Mapping[str, object] | None = None
) -> dict[str, Any] | None:
    """Ask the daemon that records in `folder`, and wait for its answer.

    Args:
        folder: the log's.
        command: what it is asked.
        timeout_s: how long it may take.
        values: what the command is asked with.

    Returns:
        The answer; None if no daemon listens there.

    Raises:
        ControlError: one listens and gives no answer in time, or an error.
    """
    path = folder / SOCKET_NAME
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return None  # and follow no link
        answer = _exchange(
            _address(path), json.dumps({"command": command, **(values or {})}).encode() + b"\n", timeout_s
        )
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None  # none was started, or it was killed and left its socket
    except TimeoutError:
        raise _no_answer(path, f"did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise _no_answer(path, f"could not be asked ({error.strerror or error})") from error
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _no_answer(path, "gave no answer that reads")
    if isinstance(reason := document.get("error"), str):
        if "Next: " in reason:  # it was understood, and cannot be done
            raise ControlError(reason)
        raise _no_answer(path, f"refused: {reason}")
    return document


def _no_answer(path: Path, what: str) -> ControlError:
    return ControlError(
        f"the daemon behind {path} {what}. Its recording is not touched by that. "
        f"Next: ask again; see what that process does"
    )


def _exchange(address: str, request: bytes, timeout_s: float) -> bytes:
    deadline_s = clock.monotonic_s() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection, address, deadline_s)
        with suppress(BrokenPipeError, ConnectionResetError):  # it said why before it closed
            connection.sendall(request)
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) <= MAX_ANSWER_BYTES:
            connection.settimeout(_left_s(deadline_s))  # of all, not of each piece
            piece = connection.recv(1 << 16)
            if not piece:
                break
            answer += piece
    return bytes(answer)


def _connect(connection: socket.socket, address: str, deadline_s: float) -> None:
    """Connect, and where too many others wait to be let in, try again until the deadline."""
    while True:
        connection.settimeout(_left_s(deadline_s))
        try:
            return connection.connect(address)
        except BlockingIOError:
            time.sleep(_RETRY_S)


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - clock.monotonic_s()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _address(path: Path) -> str:
    """Return the shorter of a path's two names: a socket's is bounded, at 107 bytes on Linux and 103 on macOS."""
    return min(str(path), os.path.relpath(path), key=lambda name: len(os.fsencode(name)))


class ControlServer:
    """The daemon's half. Lives on its event loop; never blocks it but for the commands' own work."""

    def __init__(self, folder: Path, commands: Mapping[str, Command]) -> None:
        """Take up nothing yet.

        Args:
            folder: the log's, whose lock the caller holds until after `close`.
            commands: what each returns is the answer, as JSON; a SpymasterError is the line of why there is none.
        """
        self._path = folder / SOCKET_NAME
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._listener: socket.socket | None = None
        self._serving: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen; the socket of a killed daemon is replaced, whatever else has that name is left alone.

        Raises:
            OSError: the folder takes no socket, the path is too long, or something else has the name.
        """
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise FileExistsError(f"{self._path} is no socket")
            durable.remove(self._path)
        self._listener = _bind(self._path)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._listener, limit=MAX_REQUEST_BYTES, backlog=MAX_CONNECTIONS, **_OURS_TO_REMOVE
        )

    def close(self) -> None:
        """Stop listening, drop whoever still waits, and remove the socket."""
        if self._server is None or self._listener is None:
            return
        with suppress(OSError):  # the next daemon replaces what this one may not remove
            durable.remove(self._path)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        # A connection that was accepted in this turn of the loop attaches to the server in the next: to one that is
        # closed by then it cannot, and Python 3.13 would print that as a defect.
        loop.call_soon(self._server.close)
        for writer in self._serving:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(writer)
        writer.transport.set_write_buffer_limits(high=0)  # so that `drain` means handed over
        try:
            async with asyncio.timeout(REQUEST_S):
                writer.write(await self._answer(reader))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            pass  # that client is slow or gone, or the daemon ends; Python 3.11 would print a cancelled one as a defect
        finally:
            self._serving.discard(writer)
            writer.transport.abort()  # `close` would wait for a client that does not read

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        if len(self._serving) > MAX_CONNECTIONS:
            return _error(f"{MAX_CONNECTIONS} others are being answered")
        try:
            request = json.loads(await reader.readline())
        except (ValueError, RecursionError):  # no JSON, or no end of line within the limit
            request = None
        name = request.get("command") if isinstance(request, dict) else None
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            known = ", ".join(sorted(self._commands))
            return _error(f'a request is one line of at most {MAX_REQUEST_BYTES} bytes, {{"command": "..."}}: {known}')
        try:
            answer = await command(request)
        except SpymasterError as error:
            return _error(str(error))
        return json.dumps(answer, allow_nan=False).encode() + b"\n"


def _error(line: str) -> bytes:
    return json.dumps({"error": line}).encode() + b"\n"


def _bind(path: Path) -> socket.socket:
    """Return a socket bound to `path`, which must not exist, that no other user can open at any moment.

    Raises:
        OSError: see `ControlServer.open`.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = _address(path)
    try:
        if sys.platform == "linux":
            os.fchmod(listener.fileno(), 0o600)  # `bind` gives the file the mode of the socket
            listener.bind(address)
        else:
            listener.bind(address)
            path.chmod(0o600, follow_symlinks=False)  # in time: nobody can connect before `listen`
    except OSError:
        listener.close()
        raise
    return listener

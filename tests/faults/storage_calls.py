"""Stops a real process before each of its storage calls: to kill it there, refuse the call, or keep it waiting.

The kernel itself asks (seccomp user notification): the calling thread sleeps until we answer, so a call is known, and
counted in one order over all threads, before anything of it has happened. `strace --inject=...:when=N` counts each
thread by itself, so that the calls of one thread hide those of another, and slows every start; this costs 15
microseconds a call and needs neither root nor ptrace. x86-64 Linux only.
"""

import ctypes
import errno
import fcntl
import heapq
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

# Each call's number, and which argument holds the file: ("fd", n) a descriptor, ("path", n) a name.
# Of two names the new one counts.
_CALLS: Final = {
    "write": (1, "fd", 0), "pwrite64": (18, "fd", 0), "writev": (20, "fd", 0), "pwritev": (296, "fd", 0),
    "pwritev2": (328, "fd", 0), "sendfile": (40, "fd", 0), "copy_file_range": (326, "fd", 2),
    "fallocate": (285, "fd", 0), "truncate": (76, "path", 0), "ftruncate": (77, "fd", 0),
    "fsync": (74, "fd", 0), "fdatasync": (75, "fd", 0), "sync_file_range": (277, "fd", 0),
    "open": (2, "path", 0), "openat": (257, "path", 1), "creat": (85, "path", 0),
    "link": (86, "path", 1), "linkat": (265, "path", 3), "symlink": (88, "path", 1),
    "rename": (82, "path", 1), "renameat": (264, "path", 3), "renameat2": (316, "path", 3),
    "unlink": (87, "path", 0), "unlinkat": (263, "path", 1), "rmdir": (84, "path", 0),
    "mkdir": (83, "path", 0), "mkdirat": (258, "path", 1),
}  # fmt: skip
NAMES: Final = frozenset(_CALLS)
SYNCS: Final = frozenset({"fsync", "fdatasync"})
_BY_NUMBER: Final = {number: (name, kind, index) for name, (number, kind, index) in _CALLS.items()}
_OPEN_FLAGS: Final = {2: 1, 257: 2}  # which argument of an open says whether it may create

_SECCOMP, _PRCTL_NO_NEW_PRIVILEGES = 317, 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_X86_64: Final = 0xC000003E
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101
_CARRY_ON: Final = 1
_POLL_ENDED: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL
TERM_GRACE_S: Final = 10.0


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def unsupported() -> str | None:
    """Say why storage calls cannot be stopped on this machine, if so."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "stopping a process at its storage calls is built for x86-64 Linux"
    code = "from tests.faults.storage_calls import install; install()"
    tried = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    return f"this kernel lets no one watch system calls: {tried.stderr.strip().splitlines()[-1]}"


def install() -> int:
    """Ask before every storage call of this process from now on; return the descriptor on which the kernel asks.

    Raises:
        OSError: the kernel does not offer it.
    """
    program = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, _X86_64), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for number, _, _ in _CALLS.values():
        if number in _OPEN_FLAGS:  # of opens, only those that may create a file
            flags = 16 + 8 * _OPEN_FLAGS[number]
            program += [
                (_JUMP_IF_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, flags),
                (_JUMP_IF_ANY_BIT, 0, 1, os.O_CREAT),
                (_RETURN, 0, 0, _ASK),
                (_RETURN, 0, 0, _ALLOW),
            ]
        else:
            program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ASK)]
    program.append((_RETURN, 0, 0, _ALLOW))
    instructions = (_Instruction * len(program))(*[_Instruction(*line) for line in program])
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PRCTL_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    listener = library.syscall(
        _SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(_Program(len(program), instructions))
    )
    if listener < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return int(listener)


class Call(NamedTuple):
    """A storage call that is about to happen: the `number`-th of its process, on `path` below the watched root."""

    number: int
    name: str
    path: str
    thread: int


class Kill(NamedTuple):
    """End the process here: the call is not carried out."""


class Refuse(NamedTuple):
    """Do not carry the call out; it returns this error."""

    error: int


class Wait(NamedTuple):
    """Carry the call out after this long; other threads go on meanwhile."""

    seconds: float


Answer = Kill | Refuse | Wait | None
Decide = Callable[[Call], Answer]


class Watched(NamedTuple):
    """How a watched process ended.

    Attributes:
        killed_at: the call before which it was killed by an answer.
        hung: it did not end by itself in time, nor by SIGTERM, and was killed.
        terminated: it did not end by itself in time, and did by SIGTERM.
    """

    killed_at: Call | None
    hung: bool
    terminated: bool


def watch(
    pid: int,
    listener: int,
    reports: socket.socket,
    root: Path,
    decide: Decide,
    heard: Callable[[str], None],
    timeout_s: float,
) -> Watched:
    """Answer for each storage call below `root`, and pass on what the process reports, until it ends.

    What it reported before a call is heard before the call is decided upon.
    """
    calls = 0
    killed_at: Call | None = None
    terminated = hung = False
    waiting: list[tuple[float, int]] = []  # when to answer which question
    reports.setblocking(False)
    poll = select.poll()
    poll.register(reports, select.POLLIN)
    poll.register(listener, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _answer(listener, heapq.heappop(waiting)[1], 0)
        if now >= deadline and not hung:
            os.kill(pid, signal.SIGKILL if terminated else signal.SIGTERM)
            terminated, hung, deadline = True, terminated, now + TERM_GRACE_S
        next_s = min([deadline, *(due for due, _ in waiting[:1])]) - now
        events = dict(poll.poll(max(next_s, 0.001) * 1000))
        if events.get(reports.fileno()) and not _hear(reports, heard):
            return Watched(killed_at, hung, terminated and not hung)
        asked = events.get(listener, 0)
        if asked & select.POLLIN and (question := _question(listener)) is not None:
            name, path = _described(question)
            if not path.is_relative_to(root):
                _answer(listener, question.number, 0)
                continue
            calls += 1
            call = Call(calls, name, path.relative_to(root).as_posix(), question.thread)
            match decide(call):
                case Kill():
                    killed_at = killed_at or call
                    os.kill(pid, signal.SIGKILL)
                case Refuse(error):
                    _answer(listener, question.number, error)
                case Wait(seconds):
                    heapq.heappush(waiting, (time.monotonic() + seconds, question.number))
                case None:
                    _answer(listener, question.number, 0)
        elif asked & _POLL_ENDED:
            poll.unregister(listener)


def _hear(reports: socket.socket, heard: Callable[[str], None]) -> bool:
    """Pass on all that was reported so far; return whether the process can say more."""
    while True:
        try:
            message = reports.recv(1 << 16)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            continue  # it was killed before it read what it was told; what it reported is still to come
        if not message:
            return False
        heard(message.decode())


class _Question(NamedTuple):
    number: int
    thread: int
    call: int
    arguments: tuple[int, ...]


def _question(listener: int) -> _Question | None:
    """Return what the kernel asks; None where the asking thread died meanwhile."""
    asked = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, asked)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, thread, _, call, _, _, *arguments = struct.unpack("QIIiIQ6Q", asked)
    return _Question(number, thread, call, tuple(arguments))


def _answer(listener: int, number: int, error: int) -> None:
    try:
        fcntl.ioctl(listener, _ANSWER, struct.pack("QqiI", number, 0, -error, 0 if error else _CARRY_ON))
    except FileNotFoundError:
        return  # killed meanwhile


def _described(question: _Question) -> tuple[str, Path]:
    """Return the call's name and its file."""
    name, kind, index = _BY_NUMBER[question.call]
    process = Path("/proc", str(question.thread))
    try:
        if kind == "fd":
            return name, (process / "fd" / str(question.arguments[index])).readlink()
        with (process / "mem").open("rb", 0) as memory:
            path = os.fsdecode(_up_to_nul(memory.fileno(), question.arguments[index]))
        return name, (process / "cwd").readlink() / path
    except OSError:
        return name, Path()  # it died meanwhile


def _up_to_nul(memory: int, address: int) -> bytes:
    """Read a name from another process: page by page, because the one after its end may not be there."""
    text = b""
    while b"\0" not in text:
        text += os.pread(memory, 4096 - (address + len(text)) % 4096, address + len(text))
    return text.partition(b"\0")[0]

"""How much room the disks of log and Bronze have left, and what stops for want of it.

    less than 4 x DISK_RESERVE_MB on either     a warning
    less than 2 x on Bronze's                   Bronze stops: on a disk that both share, the log comes first
    less than 1 x on the log's                  ingest stops: what is left is for a shutdown and its report

Each ends above 1.25 times of what began it, so that it does not flap. All of them begin and end by themselves.

Another program may take in a moment what was left, and a quota may refuse where the disk has room. Then a write is
refused, ingest stops too, and a file of really allocated bytes in the log's folder is given up, so that seals, end
rows and gap rows still fit. Ingest goes on only when that file could be made again, which proves more than a number.
"""

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from spymaster import durable
from spymaster.errors import DiskFullError
from spymaster.wal.folder import segments

RESERVE_MB: Final = 512  # a shutdown drains the log into Bronze, which needs a part of what it frees
RESERVE_FILE_NAME: Final = ".reserve"  # no segment's name
MAX_RESERVE_FILE_BYTES: Final = 8 << 20  # thousands of seals and rows of our own
WARN_BELOW, BRONZE_BELOW, INGEST_BELOW = 4, 2, 1  # times the reserve
RESUME_ABOVE: Final = 1.25  # times what began it
RECOVERY_BYTES: Final = 1 << 20  # a recovery's headers, seals and index, beside the rows that it copies


class DiskLevel(IntEnum):
    """What stops for want of room. Each includes those before it, where log and Bronze share a disk."""

    OK = 0
    WARN = 1
    BRONZE_STOPPED = 2
    INGEST_STOPPED = 3


class Look(NamedTuple):
    """What the disks said of themselves; None where nothing more was asked.

    Attributes:
        log_free_bytes: on the log's disk.
        bronze_free_bytes: on Bronze's.
        refusals: the refusals that were known when it began.
        reserve: whether the reserve file holds its bytes, where it was to be made.
        refusal: why it does not.
    """

    log_free_bytes: int
    bronze_free_bytes: int
    refusals: int
    reserve: bool | None
    refusal: str | None


class Disk:
    """What is left on the disks of one log and its Bronze. A thread looks; the event loop settles what that means.

    Attributes:
        log_free_bytes: on the log's disk, at the last look.
        bronze_free_bytes: on Bronze's.
        bronze_stopped: sealed segments wait.
        ingest_stopped: rows are not taken; taken back by `resume` alone.
    """

    def __init__(
        self, wal_root: Path, bronze: Path, reserve_mb: int, free_bytes: Callable[[Path], int] = durable.free_bytes
    ) -> None:
        self.log_free_bytes = self.bronze_free_bytes = 0
        self.bronze_stopped = self.ingest_stopped = False
        self._warned = False
        self._wal_root, self._bronze = wal_root, bronze
        self._reserve_bytes = reserve_mb << 20
        self._file = wal_root / RESERVE_FILE_NAME
        self._file_bytes = min(MAX_RESERVE_FILE_BYTES, self._reserve_bytes // 4)  # so making it again stops nothing
        self._free_bytes = free_bytes
        self._refusal: str | None = None
        self._refusals = 0  # of writes, in this run
        self._closed = False

    @property
    def level(self) -> DiskLevel:
        if self.ingest_stopped:
            return DiskLevel.INGEST_STOPPED
        if self.bronze_stopped:
            return DiskLevel.BRONZE_STOPPED
        return DiskLevel.WARN if self._warned else DiskLevel.OK

    @property
    def text(self) -> str:
        """The level in one line: what, where, what is safe, what to do."""
        free = f"{_mb(self.log_free_bytes)} free for {self._wal_root}, {_mb(self.bronze_free_bytes)} for {self._bronze}"
        reserve = f"DISK_RESERVE_MB is {self._reserve_bytes >> 20}"
        if self.level is DiskLevel.OK:
            return f"the disks have room: {free}"
        if self.level is DiskLevel.WARN:
            return f"the disks fill up: {free} ({reserve}). Nothing has stopped yet. Next: free space there"
        if self.level is DiskLevel.BRONZE_STOPPED:
            return (
                f"the disk is nearly full: {free} ({reserve}). Bronze waits; rows are durable in the log. "
                f"Next: free space there; it goes on by itself"
            )
        why = f"; it refused: {self._refusal}" if self._refusal else ""
        return (
            f"the log's disk is full: {free} ({reserve}{why}). Files wait; what live sources deliver is given up and "
            f"recorded as a gap. What was acknowledged is safe. Next: free space there; it goes on by itself"
        )

    def open(self) -> None:
        """Look for the first time, and make the reserve file. This may block, and is for the start alone."""
        self.settle(self.look())
        if not self.ingest_stopped and self._made() is not None:
            self.ingest_stopped = True

    def look(self) -> Look | None:
        """Ask the disks, and make the reserve file where ingest is stopped for want of it. For a thread: it blocks.

        Returns:
            None where a disk cannot be asked: its refusals will tell.
        """
        refusals, stopped = self._refusals, self.ingest_stopped
        try:
            log, bronze = self._free_bytes(self._wal_root), self._free_bytes(self._bronze)
        except OSError:
            return None
        if not stopped or self._low(log, INGEST_BELOW, stopped):
            return Look(log, bronze, refusals, None, None)
        refusal = self._made()
        if refusals != self._refusals:  # given up meanwhile, and it may have come after
            durable.remove(self._file)
        return Look(log, bronze, refusals, refusal is None, refusal)

    def settle(self, look: Look | None) -> bool:
        """Take over what a look found. Return whether ingest, which had stopped, may go on: then call `resume`."""
        if look is None:
            return False
        self.log_free_bytes, self.bronze_free_bytes = log, bronze = look.log_free_bytes, look.bronze_free_bytes
        self._warned = self._low(min(log, bronze), WARN_BELOW, self._warned)
        self.bronze_stopped = self._low(bronze, BRONZE_BELOW, self.bronze_stopped)
        if self._low(log, INGEST_BELOW, self.ingest_stopped):
            self.ingest_stopped = True
            return False
        if look.reserve is None or look.refusals != self._refusals:
            return False
        self._refusal = look.refusal
        return look.reserve

    def resume(self) -> None:
        """Take rows again, unless the disk refused a write after `settle` said yes."""
        self.ingest_stopped = self._refusal is not None

    def refused(self, error: Exception) -> None:
        """The disk was too full for a write, whatever it says of itself: stop ingest, and give up the reserve file."""
        self.ingest_stopped = True
        self._refusal = str(error.__cause__ or error)
        self._refusals += 1  # first: a look under way must not believe in its file
        self.give_up_file()

    def give_up_file(self) -> None:
        """Let what the reserve file holds be used. A look that is making it in this moment removes it again."""
        self._refusals += 1
        durable.remove(self._file)

    def close(self) -> None:
        """Remove the reserve file: a process that does not run needs none. No look may be under way."""
        self._closed = True
        self.give_up_file()

    def _low(self, free: int, times: int, already: bool) -> bool:
        return free < self._reserve_bytes * times * (RESUME_ABOVE if already else 1)

    def _made(self) -> str | None:
        """Make the reserve file, if need be; return why the disk did not give it the room."""
        if self._closed:
            return "it is closed"
        try:
            durable.allocate(self._file, self._file_bytes)
        except OSError as error:
            return str(error)
        return None


def require_room_to_salvage(wal_root: Path) -> None:
    """Refuse a recovery that would run out of the log's disk before its first copy is whole.

    It would lose nothing, and could be run again; but on a full disk even small changes are better left undone.

    Raises:
        DiskFullError: too little is free; nothing was changed.
        OSError: the disk cannot be asked.
    """
    # What is not sealed is copied before recovery does anything else with it.
    copied = max((path.stat().st_size for path, name in segments(wal_root) if not name.sealed), default=0)
    _require(wal_root, copied + RECOVERY_BYTES)


def require_room_to_recover(wal_root: Path, bronze: Path) -> None:
    """Refuse a recovery that would run out of either disk before it has done anything useful.

    Raises:
        DiskFullError: too little is free; nothing was changed.
        OSError: a disk cannot be asked.
    """
    require_room_to_salvage(wal_root)
    _require(bronze, RECOVERY_BYTES)


def _require(folder: Path, needed: int) -> None:
    free = durable.free_bytes(folder)
    if free < needed:
        raise DiskFullError(
            f"{folder} is on a full disk: {_mb(free)} free, and recovery needs {_mb(needed)} there to begin. "
            f"Nothing was changed, nothing is lost. Next: free space there, then run the command again"
        )


def _mb(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MB"

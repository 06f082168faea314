"""One stream's log: append, commit, seal. `append` moves bytes; `commit` makes promises.

At every moment a stream has one active segment and, ahead of need, the next one with its header on disk. Sealing
writes the seal frame and switches appends to the next segment at once; the commit that follows gives both their
names, in this order, so that no crash leaves a row without a file that recovery reads:

    sync the old file -> sync the new file -> link the old one to its sealed name -> sync the directory
    -> rename the new one over the active name -> sync the directory
    -> only now may rows in the new segment be acknowledged

Appends come from one thread (the event loop), commits from another, one at a time.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from spymaster import clock, durable, events, paths
from spymaster.errors import DiskFullError, StorageError
from spymaster.events import Stream
from spymaster.wal import folder
from spymaster.wal.segment import FrameEncoder, Header, Predecessor, followed, scan
from spymaster.wal.segment_writer import SegmentWriter


@dataclass
class _Pending:
    """Rows appended and not acknowledged: where they lie, and what to publish."""

    writer: SegmentWriter
    end_row: int
    batch: pa.RecordBatch
    appended_s: float


class Poisoned(NamedTuple):
    """A segment that was abandoned after a failed sync. Its first `durable_rows` wait there for the next recovery."""

    path: Path
    durable_rows: int
    reason: str


class StreamLog:
    """One stream's log. One stream has one writer process; it holds the directory's lock."""

    def __init__(self, wal_root: Path, stream: Stream, segment_bytes: int) -> None:
        """Begin a new active segment after whatever recovery left: at most one segment without rows.

        Raises:
            OSError: the disk refused.
        """
        self.stream = stream
        self._wal_root = wal_root
        self._stem = paths.stream_stem(*stream)
        self._schema = events.schema_named(stream.schema).log
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._pending: deque[_Pending] = deque()
        self._finished: SegmentWriter | None = None  # has its seal frame, not yet its sealed name
        self._sealed: list[Path] = []
        self._poisoned: list[Poisoned] = []
        self._failed: StorageError | None = None
        self.appended_rows = 0
        self.acknowledged_rows = 0
        self.sync_s: float | None = None  # how long the newest commit's sync took, if it had rows to make durable
        number, predecessor = last_segment(wal_root, self._stem)
        self._encoder = FrameEncoder(self._schema)
        self._active = plant(wal_root, stream, number + 1, predecessor, self._encoder)
        self._next: SegmentWriter | None = None  # the next seal makes it, where a full disk has refused it
        try:
            self._next = self._prepare(number + 2)
        except OSError:
            self._active.close()
            raise

    @property
    def has_rows(self) -> bool:
        """Whether the active segment has rows, so that a flush tick seals it."""
        return self._active.next_row > 0

    @property
    def oldest_append_s(self) -> float | None:
        """The monotonic second of the oldest append that is not acknowledged."""
        with self._lock:
            return self._pending[0].appended_s if self._pending else None

    def append(self, numbered: pa.RecordBatch) -> None:
        """Write rows that carry their `capture_seq` as one frame; then seal the segment if it is full.

        Args:
            numbered: rows of the stream's log schema, as many as fit a frame.

        Raises:
            ValueError: the rows have other columns; a reader would take them for what they are not.
            FrameTooLargeError: they do not fit one.
            StorageError: the disk refused; none of the rows is in the log.
            DiskFullError: it did for want of room.
        """
        if not numbered.schema.equals(self._schema):
            raise ValueError(f"rows of {self.stream} with other columns than its schema's")
        with self._lock, self._refusal("took no more rows"):
            self._active.append(numbered)
            self._pending.append(_Pending(self._active, self._active.next_row, numbered, clock.monotonic_s()))
            self.appended_rows += numbered.num_rows
        if self._active.size_bytes >= self._segment_bytes:
            with suppress(StorageError):  # the rows are in the log; the next tick tries to seal again
                self.seal()

    def seal(self) -> bool:
        """Finish the active segment if it has rows. The next commit gives it its sealed name.

        Returns:
            Whether it did; not while the segment before still waits for its name.

        Raises:
            StorageError: the disk refused; the segment stays active.
            DiskFullError: it did for want of room.
        """
        with self._lock, self._refusal("could not seal a segment"):
            if self._active.next_row == 0 or self._finished is not None:
                return False
            if self._next is None:
                self._next = self._prepare(self._active.header.number + 1)
            self._seal(self._active, self._next)
            return True

    def _seal(self, old: SegmentWriter, new: SegmentWriter) -> None:
        before = old.position
        old.mark("seal")
        try:
            new.mark("open", Predecessor(old.header.segment, old.next_row, tuple(old.last.items())))
        except OSError:
            old.rewind(before)  # or the next rows would follow a seal
            raise
        self._active, self._next, self._finished = new, None, old

    @contextmanager
    def _refusal(self, what: str, *, final: bool = False) -> Iterator[None]:
        if self._failed is not None:
            raise self._failed
        try:
            yield
        except OSError as error:
            if durable.is_full(error) and not final:
                raise DiskFullError(
                    f"{self._wal_root} is on a full disk, which {what} of {self.stream}: {error}. Rows acknowledged "
                    f"before are safe. Next: free space there, then do the same again"
                ) from error
            raise StorageError(
                f"{self._wal_root} {what} of {self.stream}: {error}. Rows acknowledged before are safe. "
                f"Next: check the disk and its free space, then start spymaster run again; it recovers first"
            ) from error

    def commit(self) -> list[pa.RecordBatch]:
        """Make every row appended before this call durable.

        Returns:
            The rows that this acknowledges, in the order of their appends. They may be published.

        Raises:
            StorageError: the disk refused twice. The rows not acknowledged are still where recovery finds them.
            DiskFullError: it had no room for a sealed segment's name. Nothing is acknowledged; commit again.
        """
        try:
            with self._refusal("could not make rows durable", final=True):  # a sync is, even for want of room
                with self._lock:
                    finished, active = self._finished, self._active
                if finished is not None:
                    self._name_finished(finished)
                waiting = active.next_row > active.durable_row  # a sync of nothing new says nothing of the disk
                started_s = clock.monotonic_s()
                try:
                    active.sync()
                    self.sync_s = clock.monotonic_s() - started_s if waiting else None
                except OSError as error:
                    self.sync_s = None
                    self._abandon(active, error)
        except DiskFullError:
            raise  # no name for a sealed segment, and all is as before: the next commit tries again
        except StorageError as error:
            self._failed = error  # for good: what a second try says of the same files proves nothing
            raise
        return self._acknowledge()

    def mark_idle(self) -> bool:
        """Put the watermark on disk when nothing more was appended; durable with the next commit.

        Returns:
            Whether there was anything to put there.
        """
        with self._lock, self._refusal("took no watermark"):
            if self._pending or not self._active.unmarked:
                return False
            self._active.mark("idle")
            return True

    def take_sealed(self) -> list[Path]:
        """Return the segments that got their sealed names since the last call, oldest first."""
        with self._lock:
            taken, self._sealed = self._sealed, []
        return taken

    def take_poisoned(self) -> list[Poisoned]:
        """Return the segments that were abandoned since the last call, oldest first."""
        with self._lock:
            taken, self._poisoned = self._poisoned, []
        return taken

    def close(self) -> None:
        """End the log after its last commit. The active segment stays: it carries number and predecessor on."""
        self._active.close()
        if self._next is not None:
            self._next.close()
            durable.remove(paths.next_segment(self._wal_root, self._stem))

    def _name_finished(self, old: SegmentWriter) -> None:
        """Give the old segment its sealed name and the new one the active name, in the order that loses nothing."""
        try:
            old.sync()
        except OSError as error:
            self._abandon(old, error)
            return
        path = self._name(old, poisoned=False)
        with self._lock:
            self._sealed.append(path)
        self._settle()

    def _abandon(self, old: SegmentWriter, reason: OSError) -> None:
        """Leave a segment poisoned after a failed sync: its unacknowledged rows go to its successor.

        Raises:
            OSError: there is no successor, or it failed as well.
        """
        with self._lock:
            homeless = [rows for rows in self._pending if rows.writer is old and rows.end_row > old.durable_row]
            before = Predecessor(old.header.segment, old.durable_row, _durable_last(old, homeless))
            if self._finished is old:
                self._active.mark("idle", before)  # its opening frame counts rows that are in doubt now
            else:
                new = self._next
                if new is None:
                    raise OSError("a sync failed while no successor was ready")
                new.mark("open", before)
                self._active, self._next, self._finished = new, None, old
        for rows in homeless:
            with self._lock:  # for each, so that appends get in between
                self._active.append(rows.batch)
                rows.writer, rows.end_row = self._active, self._active.next_row
        path = self._name(old, poisoned=True)
        with self._lock:
            self._poisoned.append(Poisoned(path, old.durable_row, str(reason)))
        self._settle()

    def _settle(self) -> None:
        """Make the next segment ahead of need, if the disk has room; from now on the active one may be sealed."""
        prepared = None
        try:
            prepared = self._prepare(self._active.header.number + 1)
        except OSError as error:
            if not durable.is_full(error):
                raise
        with self._lock:
            self._finished, self._next = None, prepared

    def _name(self, old: SegmentWriter, *, poisoned: bool) -> Path:
        active = paths.active_segment(self._wal_root, self._stem)
        final = paths.sealed_segment(self._wal_root, self._stem, old.header.number, poisoned)
        self._active.sync()  # first: it says which rows of a poisoned one were durable
        with self._refusal("could not name a sealed segment", final=poisoned):  # of a sound one nothing has changed yet
            durable.link(active, final)
        durable.sync_directory(self._wal_root)
        durable.replace(paths.next_segment(self._wal_root, self._stem), active)
        durable.sync_directory(self._wal_root)
        old.close()
        return final

    def _prepare(self, number: int) -> SegmentWriter:
        path = paths.next_segment(self._wal_root, self._stem)
        durable.remove(path)
        return SegmentWriter(path, Header.new(self.stream, number, clock.utc_now_ns()), self._encoder)

    def _acknowledge(self) -> list[pa.RecordBatch]:
        acknowledged = []
        with self._lock:
            while self._pending and self._pending[0].end_row <= self._pending[0].writer.durable_row:
                acknowledged.append(self._pending.popleft().batch)
        self.acknowledged_rows += sum(batch.num_rows for batch in acknowledged)
        return acknowledged


def _durable_last(old: SegmentWriter, homeless: list[_Pending]) -> tuple[tuple[int, int], ...]:
    """Return each capture's last row before those that a failed sync left in doubt."""
    last = dict(old.last)
    for rows in reversed(homeless):
        last[rows.batch["capture_id"][0].as_py()] = rows.batch["capture_seq"][0].as_py() - 1
    return tuple((capture, seq) for capture, seq in last.items() if seq >= 0)


def last_segment(wal_root: Path, stem: str) -> tuple[int, Predecessor | None]:
    """Return the highest number that a stream's files carry, and the segment that a new one follows.

    Only the active segment is opened, which salvage left to carry both on: sealed ones may be many, and go meanwhile.
    """
    highest = max((name.number or 0 for _, name in folder.of_stream(wal_root, stem)), default=0)
    try:
        raw = durable.read(paths.active_segment(wal_root, stem))
    except FileNotFoundError:
        return highest, None
    found = scan(raw)
    return max(highest, found.header.number if found.header else 0), followed(raw, found)


def plant(
    wal_root: Path, stream: Stream, number: int, predecessor: Predecessor | None, encoder: FrameEncoder
) -> SegmentWriter:
    """Begin an empty active segment, in place of whatever has the active name.

    The caller has made sure that the rows of the file it replaces, if any, are durable elsewhere.
    """
    stem = paths.stream_stem(*stream)
    ahead = paths.next_segment(wal_root, stem)
    durable.remove(ahead)
    writer = SegmentWriter(ahead, Header.new(stream, number, clock.utc_now_ns()), encoder)
    try:
        writer.mark("open", predecessor)
        writer.sync()
        durable.replace(ahead, paths.active_segment(wal_root, stem))
        durable.sync_directory(wal_root)
    except OSError:
        writer.close()
        raise
    return writer

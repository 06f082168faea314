"""One delivery on its way into the log: numbered, appended; and what becomes of rows that a full disk does not take."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

from spymaster.errors import DiskFullError
from spymaster.events import Stream
from spymaster.events.captures import Capture
from spymaster.recording.lane import Lane
from spymaster.wal.numbering import CaptureRows

if TYPE_CHECKING:
    from spymaster.recording.recorder import Recorder

MAX_UNACKNOWLEDGED_ROWS: Final = 500_000  # per stream, in memory; beyond, sources wait for the disk
MAX_SEALED_BACKLOG: Final = 4  # segments waiting for Bronze; beyond, file sources wait

# What becomes of rows while the disk is full: a file waits, what a live vendor sends is given up and becomes a gap, a
# program is told.
OnFull = Literal["wait", "give_up", "raise"]


class StoppedError(Exception):
    """The run is to end while a file waits for room. What was appended of it stands; the rest is read again."""


class OpenCapture:
    """Numbers and appends what one delivery gives. Between a burst and the disk are its `append` and four calls.

    Attributes:
        capture: which.
        given_up_rows: rows that a full disk did not take.
    """

    def __init__(self, recorder: "Recorder", capture: Capture, on_full: OnFull, ended: Callable[[], bool]) -> None:
        """Begin a capture in memory; `Recorder.begin` records it.

        Args:
            recorder: whose lanes take the rows.
            capture: the delivery. A file's rows may be recorded already; then the catalog is whole by now.
            on_full: what becomes of rows while the disk is full.
            ended: whether the run is to end, so that nothing waits any more.
        """
        self.capture = capture
        self.given_up_rows = 0
        self._recorder, self._on_full, self._ended = recorder, on_full, ended
        self._streams = {stream.schema: stream for stream in capture.streams}
        self._rows: dict[str, tuple[Lane, CaptureRows]] = {}
        self._opening = asyncio.Lock()  # one numbering of each stream's rows, however many append

    async def append(self, schema: str, batch: pa.RecordBatch) -> None:
        """Append delivered rows; they are acknowledged on the bus when they are durable.

        Raises:
            DiskFullError: the disk is full, and whoever appends wants to know. `next_seq` says which rows are in.
            StoppedError: the run ended while a file waited for room.
            StorageError: the disk refused for good.
        """
        rest = batch
        while rest.num_rows:
            try:
                self._recorder.room.require()
                lane, rows = self._rows.get(schema) or await self._opened(schema)
                lane.dirty.set()
                rest = rest.slice(rows.append_frame(rest))
            except DiskFullError as error:
                self._recorder.room.refused(error)
                if not await self._room_again(schema, rest, error):
                    break
            # A frame takes up to a millisecond, and a burst may be hundreds. A program that never waits would also keep
            # its rows from being made durable.
            await asyncio.sleep(0)
        await self._wait_for_the_disk()

    async def _opened(self, schema: str) -> tuple[Lane, CaptureRows]:
        async with self._opening:
            if schema not in self._rows:
                lane = await self._recorder.lane(self._streams[schema])
                recorded = None
                if self.capture.content_sha256 is not None:  # a file's rows may be there though its begin row is lost
                    recorded = await self._recorder.recorded_numbers(self.capture.capture_id, schema)
                self._rows[schema] = lane, CaptureRows(lane.log, self.capture.capture_id, recorded)
        return self._rows[schema]

    async def _room_again(self, schema: str, rest: pa.RecordBatch, error: DiskFullError) -> bool:
        """Wait for room, or give rows up; return whether `rest` is to be appended again."""
        if self._on_full == "raise":
            raise error
        if self._on_full == "wait":
            if not await self._recorder.room.wait(self._ended):
                raise StoppedError  # later rows may not take the numbers of these
            return True
        if await self._recorder.room.takes_rows():
            return True
        self._recorder.room.give_up(self._streams[schema], self.capture.capture_id, rest, self.next_seq(schema))
        self.given_up_rows += rest.num_rows
        return False

    async def _wait_for_the_disk(self) -> None:
        """Wait while too much is not durable yet or, for a file, while too much waits for Bronze."""
        recorder = self._recorder
        if self._on_full == "wait" and len(recorder.drain.waiting) > MAX_SEALED_BACKLOG:
            await recorder.change.until(
                lambda: recorder.health.has_failed or self._ended() or len(recorder.drain.waiting) <= MAX_SEALED_BACKLOG
            )
        lanes = [lane for lane, _ in self._rows.values()]
        if any(lane.unacknowledged_rows > MAX_UNACKNOWLEDGED_ROWS for lane in lanes):
            await recorder.change.until(
                lambda: (
                    recorder.health.has_failed
                    or all(lane.unacknowledged_rows <= MAX_UNACKNOWLEDGED_ROWS for lane in lanes)
                )
            )
        recorder.health.check()

    def next_seq(self, schema: str) -> int:
        """Return how many rows of a schema were delivered and are in the log: the number of the next."""
        return self._rows[schema][1].next_seq if schema in self._rows else 0

    @property
    def rows(self) -> Mapping[Stream, int]:
        """Rows per stream, as the end row counts them."""
        return {stream: self.next_seq(stream.schema) for stream in self.capture.streams}

    @property
    def appended_rows(self) -> int:
        """Of these, the rows that this process appended."""
        return sum(rows.appended_rows for _, rows in self._rows.values())

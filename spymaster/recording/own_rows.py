"""Rows of our own: captures' begins and ends, gaps, hot zones. A full disk takes them, in what is kept for that."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pyarrow as pa

from spymaster import clock, events
from spymaster.errors import DiskFullError
from spymaster.events import EventSchema, Stream
from spymaster.events.gaps import GAPS, Gap, gap_rows
from spymaster.journal import Journal
from spymaster.recording.given_up import GivenUp
from spymaster.recording.lane import Lane
from spymaster.wal.numbering import CaptureRows

GAPS_A_FRAME = 500  # some 500 bytes each, and a frame is at most 900 KB


class OwnRows:
    """What this process run says of what it records. Their capture is the run itself.

    Attributes:
        gap_seq: gap rows that are in the log in this run's name.
    """

    def __init__(
        self,
        run_capture: int,
        given_up: GivenUp,
        lanes: dict[Stream, Lane],
        open_lane: Callable[[Stream], Awaitable[Lane]],
        refused: Callable[[DiskFullError], None],
        journal: Journal,
    ) -> None:
        """Say nothing yet.

        Args:
            run_capture: the capture of this process run.
            given_up: what becomes gap rows.
            lanes: those that are open.
            open_lane: what opens another.
            refused: called when the disk had no room; it gives up the reserve file.
            journal: where gaps are told.
        """
        self.gap_seq = 0
        self._run_capture, self._given_up = run_capture, given_up
        self._lanes, self._open_lane, self._refused, self._journal = lanes, open_lane, refused, journal
        self._rows: dict[Stream, CaptureRows] = {}
        self._resuming = asyncio.Lock()

    async def append(self, schema: EventSchema, rows: pa.RecordBatch, *, in_reserve: bool = True) -> None:
        """Append rows of a schema of our own, other than `system.gaps`, durable on return.

        Args:
            schema: theirs.
            rows: as they are before they are numbered.
            in_reserve: whether a full disk takes them too, in what is kept for what must be said.

        Raises:
            DiskFullError: not even these rows fit.
        """
        stream = Stream(schema.name, events.SYSTEM_SYMBOL)
        lane = await self._open_lane(stream)
        if stream not in self._rows:
            self._rows[stream] = CaptureRows(lane.log, self._run_capture)
        append = partial(self._rows[stream].append, rows)
        if in_reserve:
            self._from_reserve(append)
        else:
            append()
        lane.dirty.set()  # for the watermark that follows once the stream is idle
        await lane.commit()

    async def record_gaps(self, gaps: Sequence[Gap] = ()) -> None:
        """Make gap rows of these gaps and of what was given up until now, durable on return.

        Raises:
            DiskFullError: not even they fit.
        """
        if gaps or self._given_up:
            lane = await self._open_lane(GAPS)
            self._from_reserve(lambda: self._append_gaps(lane, gaps))
        if GAPS in self._lanes:  # also for gap rows that another task has appended
            await self._lanes[GAPS].commit()

    def _append_gaps(self, lane: Lane, gaps: Sequence[Gap]) -> None:
        every = [*gaps, *self._given_up.gaps()]
        for at in range(0, len(every), GAPS_A_FRAME):
            rows = gap_rows(every[at : at + GAPS_A_FRAME], self._run_capture, self.gap_seq, clock.utc_now_ns())
            for batch in rows.combine_chunks().to_batches():
                lane.log.append(batch)
                self.gap_seq += batch.num_rows
        self._given_up.recorded()
        for gap in every:
            self._journal.event("gap.recorded", stream=str(gap.stream), cause=gap.cause, rows=gap.rows, text=gap.detail)
        lane.dirty.set()  # for the watermark that follows once the stream is idle

    def _from_reserve(self, append: Callable[[], None]) -> None:
        try:
            append()
        except DiskFullError as error:
            self._refused(error)
            append()

    async def before_rows_go_on(self, resume: Callable[[], None]) -> None:
        """Call `resume` once every gap row is durable.

        A power cut may keep any row that was appended. If it kept one without the gap row before it, the hole would
        not show: what was given up took no numbers.

        Raises:
            DiskFullError: they do not fit.
        """
        async with self._resuming:  # sources wait meanwhile, or one faster than a sync would give up rows for ever
            while self._given_up or (GAPS in self._lanes and self._lanes[GAPS].unacknowledged_rows):
                await self.record_gaps()
            resume()

    async def settled(self) -> None:
        """Wait for what lets rows in again: a sync of gap rows."""
        async with self._resuming:
            pass

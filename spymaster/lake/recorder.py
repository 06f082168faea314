"""Rows -> WAL -> bus -> Bronze, in one process and in that order.

What a row passes, and what each step promises:
    append   it is in the log; a killed process loses it no more
    commit   the log was synced; a power cut loses it no more; only now is it published
    flush    its segment was sealed, its Parquet parts are durable; only now does the segment go

The event loop appends and publishes; syncs and Parquet run in threads.
"""

import asyncio
import secrets
import sqlite3
from collections import deque
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import clock, events
from spymaster.bus import Bus
from spymaster.errors import StorageError, WalError
from spymaster.events import Stream
from spymaster.lake import captures
from spymaster.lake.bronze import Part, flush_segment
from spymaster.lake.captures import Capture
from spymaster.lake.catalog import Catalog
from spymaster.lake.recovery import Recovered, recover, writer_locks
from spymaster.wal.recovery import retire
from spymaster.wal.writer import CaptureRows, StreamLog

WILDCARD: Final = "ALL"
WILDCARD_FLUSH_S: Final = 60.0  # such a stream makes one Parquet file per symbol
IDLE_S: Final = 0.25  # after this long without rows the watermark is put on disk
SYNC_THREADS: Final = 4
MAX_UNACKNOWLEDGED_ROWS: Final = 500_000  # per stream, in memory; beyond, sources wait for the disk
KEPT_SYNCS: Final = 1_000  # of the newest commits' times, for `status`
MAX_SEALED_BACKLOG: Final = 4  # segments waiting for Bronze; beyond, file sources wait


def random_capture_id() -> int:
    """Return 63 random bits."""
    return secrets.randbits(63)


@dataclass
class Lane:
    """One stream's way through the recorder, with its counts of rows."""

    log: StreamLog
    dirty: asyncio.Event
    commit_lock: asyncio.Lock
    flush_every_s: float
    sealed_at_s: float
    flushed_rows: int = 0

    @property
    def unacknowledged_rows(self) -> int:
        return self.log.appended_rows - self.log.acknowledged_rows


class Recorder:
    """Makes rows durable, publishes them on the bus and drains them into Bronze.

    One process writes a log and a lake; `start` takes the locks and recovers first.

    Attributes:
        lanes: the streams in use.
        recovered: what the recovery at the start did.
        flush_seconds: how long the newest segment took to become Bronze.
        sync_seconds: how long the newest commits' syncs took, at most `KEPT_SYNCS`.
        backlog: sealed segments that are not in Bronze, each with the monotonic second of its sealing.
        problems: lines about what did not go right and did not stop the recorder.
    """

    def __init__(
        self, wal_root: Path, data_root: Path, *, bus: Bus, flush_interval_s: float, segment_mb: int, sync_ms: int
    ) -> None:
        self.bus = bus
        self.lanes: dict[Stream, Lane] = {}
        self.recovered: Recovered | None = None
        self.flush_seconds = 0.0
        self.sync_seconds: deque[float] = deque(maxlen=KEPT_SYNCS)
        self.backlog: dict[Path, float] = {}
        self.parts_written = 0
        self.problems: list[str] = []
        self._wal_root, self._data_root = wal_root, data_root
        self._bronze = data_root / "bronze"
        self._flush_interval_s, self._segment_bytes, self._sync_s = flush_interval_s, segment_mb << 20, sync_ms / 1000
        self._run_capture = random_capture_id()
        self._own_rows: CaptureRows | None = None
        self._locks = ExitStack()
        self._sync_pool = ThreadPoolExecutor(SYNC_THREADS, "sync")
        self._bronze_pool = ThreadPoolExecutor(1, "bronze")
        self._opening = asyncio.Lock()
        self._sealed: asyncio.Queue[tuple[Lane, Path]] = asyncio.Queue()
        self._tasks: list[asyncio.Future[None]] = []
        self._refused = 0  # segments that Bronze did not take
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> Recovered:
        """Lock, recover what a crash left, and begin to flush.

        Raises:
            LockedError: another process records here.
            UsageError: a folder cannot be written.
            LayoutError: the lake is laid out otherwise.
            OSError: recovery could not proceed; nothing is lost.
        """
        self._locks.enter_context(writer_locks(self._wal_root, self._data_root))
        try:
            self.catalog = await asyncio.to_thread(Catalog, self._data_root)
            self._locks.callback(self.catalog.close)
            self.recovered = await asyncio.to_thread(
                recover, self._wal_root, self.catalog, self._bronze, self._run_capture
            )
        except BaseException:
            self._locks.close()
            raise
        self._spawn(self._tick())
        self._spawn(self._flush_sealed())
        return self.recovered

    async def stop(self) -> None:
        """Drain: commit and flush every row, then let the locks go.

        Raises:
            StorageError: rows are left in the log; the next start recovers them.
        """
        try:
            if not self._failure.done():
                await self.flush()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._sync_pool.shutdown()
            self._bronze_pool.shutdown()
            for lane in self.lanes.values():
                lane.log.close()
            self.bus.close()
            self._locks.close()

    async def failed(self) -> None:
        """Wait until the disk refuses to make rows durable.

        Raises:
            StorageError: it did.
        """
        await asyncio.shield(self._failure)

    async def lane(self, stream: Stream) -> Lane:
        """Return the stream's lane, opening its log on first use."""
        async with self._opening:
            if self.recovered is None:
                raise WalError(f"{self._wal_root} is not open. Nothing was written. Next: start the recorder first")
            if stream not in self.lanes:
                log = await asyncio.to_thread(StreamLog, self._wal_root, stream, self._segment_bytes)
                interval = self._flush_interval_s
                if stream.symbol == WILDCARD:
                    interval = max(interval, WILDCARD_FLUSH_S)
                lane = Lane(log, asyncio.Event(), asyncio.Lock(), interval, clock.monotonic_s())
                self.lanes[stream] = lane
                self._spawn(self._commit_when_dirty(lane))
        return self.lanes[stream]

    async def capture_rows(
        self, stream: Stream, capture_id: int, recorded: NDArray[np.int64] | None = None
    ) -> "RecordedRows":
        """Return what numbers and appends one capture's rows of one stream."""
        lane = await self.lane(stream)
        return RecordedRows(lane, CaptureRows(lane.log, capture_id, recorded))

    async def begin(self, capture: Capture) -> None:
        """Record that a capture begins, durable on return."""
        await self._append_own(captures.begin_row(capture, clock.utc_now_ns()))

    async def end(self, capture: Capture, rows: dict[Stream, int], *, complete: bool, detail: str | None) -> None:
        """Record that a capture ended, after every row it counts is durable."""
        for stream in capture.streams:
            if stream in self.lanes:
                await self._commit(self.lanes[stream])
        await self._append_own(captures.end_row(capture, rows, clock.utc_now_ns(), complete=complete, detail=detail))

    async def _append_own(self, row: pa.RecordBatch) -> None:
        lane = await self.lane(Stream(events.SYSTEM_CAPTURES.name, events.SYSTEM_SYMBOL))
        if self._own_rows is None:
            self._own_rows = CaptureRows(lane.log, self._run_capture)
        self._own_rows.append(row)
        await self._commit(lane)

    async def room(self, *, for_file: bool) -> None:
        """Wait while too much is unacknowledged or, for a file, too many segments wait for Bronze.

        Raises:
            StorageError: the disk refused meanwhile.
        """
        while for_file and self._sealed.qsize() > MAX_SEALED_BACKLOG and not self._failure.done():
            await asyncio.sleep(0.01)
        while not self._failure.done() and any(
            lane.unacknowledged_rows > MAX_UNACKNOWLEDGED_ROWS for lane in self.lanes.values()
        ):
            await asyncio.sleep(0.001)
        if self._failure.done():
            self._failure.result()

    async def flush(self, schema: str | None = None) -> None:
        """Seal the streams of one schema, or all, and wait until their rows are in Bronze.

        Raises:
            StorageError: the disk refused; what was appended is still in the log.
        """
        refused = self._refused
        for stream, lane in list(self.lanes.items()):
            if schema in (None, stream.schema):
                await self._commit(lane)  # a seal under way gets its name, so that the next can begin
                lane.log.seal()
                await self._commit(lane)
        flushed = asyncio.ensure_future(self._sealed.join())
        await asyncio.wait({flushed, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        flushed.cancel()
        if self._failure.done():
            self._failure.result()
        if self._refused > refused:
            raise StorageError(
                f"rows are durable in {self._wal_root} and did not get into Bronze: {self.problems[-1]}. "
                f"Nothing is lost. Next: mend that, then spymaster recover"
            )

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Future[None]) -> None:
        """Let whatever ended a background task reach whoever waits in `failed`."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # seen: it is raised to whoever acts next, and need not be awaited

    async def _commit_when_dirty(self, lane: Lane) -> None:
        """Group commit: whatever was appended within the interval shares one sync."""
        while True:
            try:
                await asyncio.wait_for(lane.dirty.wait(), IDLE_S)
            except TimeoutError:
                if lane.log.mark_idle():
                    await self._commit(lane)
                await lane.dirty.wait()
            await asyncio.sleep(self._sync_s)
            lane.dirty.clear()
            await self._commit(lane)

    async def _commit(self, lane: Lane) -> None:
        """Commit and publish. Once begun it is carried through, whatever becomes of the caller."""
        committing = asyncio.ensure_future(self._commit_now(lane))
        # A caller that is cancelled leaves it alone with its error, which `_fail` has told: it is seen.
        committing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(committing)

    async def _commit_now(self, lane: Lane) -> None:
        async with lane.commit_lock:
            loop = asyncio.get_running_loop()
            try:
                batches = await loop.run_in_executor(self._sync_pool, lane.log.commit)
            except StorageError as error:
                self._fail(error)
                raise
            self.bus.publish(lane.log.stream, batches)
            if lane.log.sync_s is not None:
                self.sync_seconds.append(lane.log.sync_s)
            for segment in lane.log.take_sealed():
                self.backlog[segment] = clock.monotonic_s()
                self._sealed.put_nowait((lane, segment))

    async def _tick(self) -> None:
        """Seal each stream that has rows once its flush interval is over."""
        while True:
            await asyncio.sleep(min(self._flush_interval_s, 0.5) / 2)
            now = clock.monotonic_s()
            for lane in self.lanes.values():
                if lane.log.has_rows and now - lane.sealed_at_s >= lane.flush_every_s and lane.log.seal():
                    lane.sealed_at_s = now
                    lane.dirty.set()

    async def _flush_sealed(self) -> None:
        """Turn sealed segments into Bronze, one after another."""
        loop = asyncio.get_running_loop()
        while True:
            lane, segment = await self._sealed.get()
            started = clock.monotonic_s()
            try:
                parts = await loop.run_in_executor(self._bronze_pool, self._flush_segment, segment)
                lane.flushed_rows += sum(part.rows for part in parts)
                self.parts_written += len(parts)
                del self.backlog[segment]
                self.flush_seconds = clock.monotonic_s() - started
            except (OSError, WalError) as error:
                # The rows are durable in the log. Recovery, which may run any time later, brings them to Bronze.
                self.problems.append(f"{segment.name} was not flushed: {error}")
                self._refused += 1
            finally:
                self._sealed.task_done()

    def _flush_segment(self, segment: Path) -> list[Part]:
        parts = flush_segment(self._bronze, segment, again=False)
        try:
            self.catalog.record(parts)
        except sqlite3.Error as error:  # only an index: the next start takes in what it lacks
            self.problems.append(f"the catalog is behind: {error}")
        retire(segment)
        return parts


@dataclass
class RecordedRows:
    """One capture's rows of one stream, on their way into the recorder."""

    lane: Lane
    rows: CaptureRows

    def append(self, batch: pa.RecordBatch) -> None:
        """Append delivered rows; they are acknowledged on the bus when they are durable."""
        self.rows.append(batch)
        self.lane.dirty.set()

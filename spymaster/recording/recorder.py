"""Rows -> WAL -> bus -> Bronze, in one process and in that order.

What a row passes, and what each step promises:
    append   it is in the log; a killed process loses it no more
    commit   the log was synced; a power cut loses it no more; only now is it published
    flush    its segment was sealed, its Parquet parts are durable; only now does the segment go

The event loop appends and publishes; syncs and Parquet run in threads.

On a full disk Bronze stops first, then ingest: a source that can wait does, and what another delivers is given up,
counted and recorded as a gap. Both go on by themselves.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import clock, durable, events
from spymaster.bus import Bus
from spymaster.errors import BronzeRefusedError, DiskFullError, LayoutError, StorageError, WalError
from spymaster.events import Stream, captures
from spymaster.events.captures import Capture, random_capture_id
from spymaster.events.gaps import DISK_FULL, GAPS, Gap, gap_id, gap_rows
from spymaster.lake.bronze import flush_segment
from spymaster.lake.catalog import Catalog
from spymaster.lake.locks import writer_locks
from spymaster.recording.disk import RESERVE_MB, RESUME_ABOVE, DiskLevel, Space
from spymaster.recording.recovery import Recovered, recover
from spymaster.wal.folder import LOG_ALARM_BYTES, log_bytes
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import retire
from spymaster.wal.segment import scan
from spymaster.wal.writer import StreamLog

WILDCARD: Final = "ALL"
WILDCARD_FLUSH_S: Final = 60.0  # such a stream makes one Parquet file per symbol
IDLE_S: Final = 0.25  # after this long without rows the watermark is put on disk
SYNC_THREADS: Final = 4
MAX_UNACKNOWLEDGED_ROWS: Final = 500_000  # per stream, in memory; beyond, sources wait for the disk
KEPT_SYNCS: Final = 1_000  # of the newest commits' times, for `status`
MAX_SEALED_BACKLOG: Final = 4  # segments waiting for Bronze; beyond, file sources wait
MAX_PROBLEMS: Final = 100  # lines; more of them say nothing more
LOOK_AT_DISK_S: Final = 0.5
BRONZE_RETRY_S: Final = 3.0  # after a refusal, until the next try of a segment that was refused


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


@dataclass(eq=False)
class Sealed:
    """A sealed segment on its way to Bronze."""

    lane: Lane
    path: Path
    refusals: int = 0
    rows: int | None = None  # once they are in Bronze
    _asked: list[asyncio.Future[str | None]] = field(default_factory=list)

    @property
    def asked(self) -> bool:
        """Whether someone waits for the next try."""
        return bool(self._asked)

    def ask(self) -> asyncio.Future[str | None]:
        """Return what the next try comes to: why it was refused, or None."""
        self._asked.append(asyncio.get_running_loop().create_future())
        return self._asked[-1]

    def tell(self, refusal: str | None) -> None:
        for answer in self._asked:
            if not answer.done():
                answer.set_result(refusal)
        self._asked.clear()


@dataclass
class _GivenUp:
    """Rows of one capture's stream that a full disk did not take, all after its row `next_seq` - 1."""

    next_seq: int
    rows: int
    first_ns: int
    last_ns: int

    def gap(self, capture_id: int, stream: Stream) -> Gap:
        span = (self.first_ns, self.last_ns + 1)
        detail = f"{stream}: {self.rows} rows after the first {self.next_seq} were given up: the log's disk was full"
        identity = gap_id(DISK_FULL, capture_id, stream, self.next_seq, self.rows, *span)
        return Gap(DISK_FULL, stream, capture_id, None, None, self.rows, *span, detail, identity)


class Recorder:
    """Makes rows durable, publishes them on the bus and drains them into Bronze.

    One process writes a log and a lake; `start` takes the locks and recovers first.

    Attributes:
        lanes: the streams in use.
        recovered: what the recovery at the start did.
        space: what the disks have left, and what has stopped for want of it.
        flush_seconds: how long the newest segment took to become Bronze.
        given_up_rows: rows per stream that a full disk did not take.
        sync_seconds: how long the newest commits' syncs took, at most `KEPT_SYNCS`.
        backlog: sealed segments that are not in Bronze, each with the monotonic second of its sealing.
    """

    def __init__(
        self,
        wal_root: Path,
        data_root: Path,
        *,
        bus: Bus,
        flush_interval_s: float,
        segment_mb: int,
        sync_ms: int,
        disk_reserve_mb: int = RESERVE_MB,
        notify: Callable[[str], None] | None = None,
        free_bytes: Callable[[Path], int] = durable.free_bytes,
        look_at_disk_s: float = LOOK_AT_DISK_S,
        bronze_retry_s: float = BRONZE_RETRY_S,
    ) -> None:
        """Prepare a recorder; nothing is opened before `start`.

        Args:
            wal_root: the log.
            data_root: the lake.
            bus: where durable rows are published.
            flush_interval_s: how long rows wait in the log before Bronze.
            segment_mb: a segment is sealed at this size at the latest.
            sync_ms: how long a row may wait to be acknowledged.
            disk_reserve_mb: ingest stops when less is free.
            notify: called with one line whenever something stops or goes on for want of room, and for each alarm.
            free_bytes: what asks a folder's disk for its room.
            look_at_disk_s: how often it is asked.
            bronze_retry_s: how long Bronze waits after a refusal.
        """
        self.bus = bus
        self.lanes: dict[Stream, Lane] = {}
        self.recovered: Recovered | None = None
        self.flush_seconds = 0.0
        self.sync_seconds: deque[float] = deque(maxlen=KEPT_SYNCS)
        self.backlog: dict[Path, float] = {}
        self.parts_written = 0
        self.given_up_rows: dict[Stream, int] = {}
        self._problems: dict[str, str] = {}  # by what they are about, so that a problem that lasts is one
        self._given_up: dict[tuple[int, Stream], _GivenUp] = {}  # since ingest stopped, and in no gap row yet
        self._gap_seq = 0
        self._notify, self._look_at_disk_s, self._bronze_retry_s = notify, look_at_disk_s, bronze_retry_s
        self._wal_root, self._data_root = wal_root, data_root
        self._bronze = data_root / "bronze"
        self._flush_interval_s, self._segment_bytes, self._sync_s = flush_interval_s, segment_mb << 20, sync_ms / 1000
        self.space = Space(wal_root, self._bronze, disk_reserve_mb, free_bytes)
        self._run_capture = random_capture_id()
        self._own_rows: CaptureRows | None = None
        self._locks = ExitStack()
        self._sync_pool = ThreadPoolExecutor(SYNC_THREADS, "sync")
        self._bronze_pool = ThreadPoolExecutor(1, "bronze")
        self._opening = asyncio.Lock()
        self._resuming = asyncio.Lock()
        self._sealed: list[Sealed] = []  # oldest first
        self._bronze_may_work = asyncio.Event()
        self._retry_at_s = 0.0
        self._catalog_behind = False
        self._tasks: list[asyncio.Future[None]] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def problems(self) -> list[str]:
        """Lines about what is not right and has not stopped the recorder. What mended itself is gone from them."""
        return list(self._problems.values())

    async def start(self) -> Recovered:
        """Lock, recover what a crash left, and begin to flush.

        Raises:
            LockedError: another process records here.
            UsageError: a folder cannot be written.
            LayoutError: the lake is laid out otherwise.
            DiskFullError: the disk is too full to recover; nothing was changed.
            OSError: recovery could not proceed; nothing is lost.
        """
        self._locks.enter_context(writer_locks(self._wal_root, self._data_root))
        try:
            self.catalog = await asyncio.to_thread(Catalog, self._data_root)
            self._locks.callback(self.catalog.close)
            self.recovered = await asyncio.to_thread(
                recover, self._wal_root, self.catalog, self._bronze, self._run_capture
            )
            self._gap_seq = len(self.recovered.salvage.holes)  # it numbered a gap row for each in this run's name
            self._locks.callback(self.space.close)
            await asyncio.to_thread(self.space.open)
        except BaseException:
            self._locks.close()
            raise
        self._tell_of_disk(DiskLevel.OK)
        self._spawn(self._watch_disk())
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
                if self.space.ingest_stopped:
                    self.space.give_up_file()  # what it was kept for
                try:
                    await self._record_gaps()
                finally:
                    await self.flush()
                    await self._look_at_log()
        except BronzeRefusedError as error:
            self._problems["bronze"] = str(error)
            raise
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
                log = await self._open(stream)
                interval = self._flush_interval_s
                if stream.symbol == WILDCARD:
                    interval = max(interval, WILDCARD_FLUSH_S)
                lane = Lane(log, asyncio.Event(), asyncio.Lock(), interval, clock.monotonic_s())
                self.lanes[stream] = lane
                self._spawn(self._commit_when_dirty(lane))
        return self.lanes[stream]

    async def _open(self, stream: Stream) -> StreamLog:
        try:
            return await self._opened(stream)
        except DiskFullError as error:
            self.refused(error)
            if stream.symbol != events.SYSTEM_SYMBOL:
                raise
            return await self._opened(stream)  # in what the reserve file held

    async def _opened(self, stream: Stream) -> StreamLog:
        try:
            return await asyncio.to_thread(StreamLog, self._wal_root, stream, self._segment_bytes)
        except OSError as error:
            if not durable.is_full(error):
                raise
            raise DiskFullError(
                f"{self._wal_root} is on a full disk: no log for {stream} ({error}). What was recorded is safe. "
                f"Next: free space there, then do the same again"
            ) from error

    async def capture_rows(
        self, stream: Stream, capture_id: int, recorded: NDArray[np.int64] | None = None
    ) -> "RecordedRows":
        """Return what numbers and appends one capture's rows of one stream.

        Raises:
            DiskFullError: there is no room to open its log.
        """
        self.require_room()
        lane = await self.lane(stream)
        return RecordedRows(self, lane, CaptureRows(lane.log, capture_id, recorded))

    def require_room(self) -> None:
        """Return unless ingest is stopped.

        Raises:
            DiskFullError: it is.
        """
        if self.space.ingest_stopped:
            raise DiskFullError(self.space.text)

    def refused(self, error: DiskFullError) -> None:
        """Stop ingest: the disk refused rows for want of room. The next look at it finds when there is room again."""
        before = self.space.level
        self.space.refused(error)
        self._tell_of_disk(before)

    async def takes_rows(self) -> bool:
        """Return whether rows are taken, once what lets them in again has ended: a sync of gap rows."""
        async with self._resuming:
            return not self.space.ingest_stopped

    def give_up(self, stream: Stream, capture_id: int, rows: pa.RecordBatch, next_seq: int) -> None:
        """Count delivered rows that the disk did not take and whose source cannot wait; they become a gap row.

        Args:
            stream: theirs.
            capture_id: theirs.
            rows: as delivered.
            next_seq: rows of that capture and stream that are in the log; the number of the next.
        """
        stamps = rows["ts_event_ns"].to_numpy()
        first_ns, last_ns = int(stamps.min()), int(stamps.max())
        given_up = self._given_up.setdefault((capture_id, stream), _GivenUp(next_seq, 0, first_ns, last_ns))
        given_up.rows += rows.num_rows
        given_up.first_ns, given_up.last_ns = min(given_up.first_ns, first_ns), max(given_up.last_ns, last_ns)
        total = self.given_up_rows[stream] = self.given_up_rows.get(stream, 0) + rows.num_rows
        self.problem(f"given up {stream}", f"{total} rows of {stream} were given up: the log's disk was full")

    async def _record_gaps(self) -> None:
        """Make gap rows of what was given up until now, durable on return.

        Raises:
            DiskFullError: not even they fit.
        """
        if self._given_up:
            lane = await self.lane(GAPS)
            self._append_from_reserve(lambda: self._append_gaps(lane))
        if GAPS in self.lanes:  # also for gap rows that another task has appended
            await self._commit(self.lanes[GAPS])

    def _append_gaps(self, lane: Lane) -> None:
        gaps = [given_up.gap(*whose) for whose, given_up in self._given_up.items()]
        for rows in gap_rows(gaps, self._run_capture, self._gap_seq, clock.utc_now_ns()).combine_chunks().to_batches():
            lane.log.append(rows)
            self._gap_seq += rows.num_rows
        self._given_up.clear()
        lane.dirty.set()  # for the watermark that follows once the stream is idle

    async def whole_catalog(self) -> Catalog:
        """Return the catalog once it knows every part, also those that it was kept from taking in.

        Raises:
            StorageError: it is kept from it still.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._bronze_pool, self._catch_up)
        except (sqlite3.Error, LayoutError, OSError) as error:
            raise StorageError(
                f"the catalog of {self._data_root} is behind, so which rows of a file are recorded is not known: "
                f"{error}. Nothing was read, so that none is recorded twice. Next: mend that, then do the same again"
            ) from error
        return self.catalog

    async def begin(self, capture: Capture) -> None:
        """Record that a capture begins, durable on return.

        Raises:
            DiskFullError: there is no room for its rows.
        """
        self.require_room()
        await self._append_own(captures.begin_row(capture, clock.utc_now_ns()))

    async def end(self, capture: Capture, rows: dict[Stream, int], *, complete: bool, detail: str | None) -> None:
        """Record that a capture ended, after every row it counts is durable and every gap in it recorded.

        Raises:
            DiskFullError: not even this row fits.
        """
        await self._record_gaps()
        for stream in capture.streams:
            if stream in self.lanes:
                await self._commit(self.lanes[stream])
        await self._append_own(captures.end_row(capture, rows, clock.utc_now_ns(), complete=complete, detail=detail))
        self.bus.ended(capture.capture_id)

    async def _append_own(self, row: pa.RecordBatch) -> None:
        lane = await self.lane(Stream(events.SYSTEM_CAPTURES.name, events.SYSTEM_SYMBOL))
        if self._own_rows is None:
            self._own_rows = CaptureRows(lane.log, self._run_capture)
        own_rows = self._own_rows
        self._append_from_reserve(lambda: own_rows.append(row))
        lane.dirty.set()  # for the watermark that follows once the stream is idle
        await self._commit(lane)

    def _append_from_reserve(self, append: Callable[[], None]) -> None:
        """Append rows of our own, which a full disk must take: what stops ingest leaves room for them."""
        try:
            append()
        except DiskFullError as error:
            self.refused(error)  # gives up the reserve file
            append()

    async def room(self, *, for_file: bool, until: asyncio.Event | None = None) -> None:
        """Wait while too much is unacknowledged or, for a file, while too much waits for Bronze or the disk is full.

        Args:
            for_file: whether the source can wait for as long as it takes.
            until: ends the waiting of a file.

        Raises:
            StorageError: the disk refused meanwhile.
        """
        while for_file and len(self._sealed) > MAX_SEALED_BACKLOG and not self._ended_or(until):
            await asyncio.sleep(0.01)
        if for_file:
            await self.until_room(until)
        while not self._failure.done() and any(
            lane.unacknowledged_rows > MAX_UNACKNOWLEDGED_ROWS for lane in self.lanes.values()
        ):
            await asyncio.sleep(0.001)
        if self._failure.done():
            self._failure.result()

    async def until_room(self, until: asyncio.Event | None = None) -> None:
        """Wait until rows are taken again, or `until` is set.

        Raises:
            StorageError: the disk refused for good.
        """
        while self.space.ingest_stopped and not self._ended_or(until):
            await asyncio.sleep(0.02)
        if self._failure.done():
            self._failure.result()

    def _ended_or(self, until: asyncio.Event | None) -> bool:
        return self._failure.done() or (until is not None and until.is_set())

    async def flush(self, schema: str | None = None) -> None:
        """Seal the streams of one schema, or all, and wait until every sealed segment was tried once more.

        Raises:
            BronzeRefusedError: some are not in Bronze; what was appended is still in the log.
            StorageError: the disk refused to make rows durable.
        """
        refusals = []
        for stream, lane in list(self.lanes.items()):
            if schema in (None, stream.schema):
                try:
                    await self._commit(lane)  # a seal under way gets its name, so that the next can begin
                    try:
                        lane.log.seal()
                    finally:
                        await self._commit(lane)
                except DiskFullError as error:
                    refusals.append(str(error))
        answers = asyncio.gather(*(segment.ask() for segment in self._sealed))
        self._bronze_may_work.set()
        ends: set[asyncio.Future[Any]] = {answers, self._failure}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            self._failure.result()
        refusals += [refusal for refusal in answers.result() if refusal is not None]
        if refusals:
            raise BronzeRefusedError(
                f"rows are durable in {self._wal_root} and did not get into Bronze: {refusals[0]}. "
                f"Nothing is lost. Next: mend that, then spymaster recover"
            )

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Future[None]) -> None:
        """Let whatever ended a background task reach whoever waits in `failed`, or for what that task was to do."""
        if task.cancelled():  # by others, or by `stop` when nobody waits any more
            self._fail(StorageError("recording was cancelled. What was appended is in the log. Next: start it again"))
        elif (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # seen: it is raised to whoever acts next, and need not be awaited

    async def _commit_when_dirty(self, lane: Lane) -> None:
        """Group commit: whatever was appended within the interval shares one sync."""
        while True:
            try:
                async with asyncio.timeout(IDLE_S):  # `wait_for` may swallow a cancellation
                    await lane.dirty.wait()
            except TimeoutError:
                with suppress(DiskFullError):  # then the watermark waits for the next rows
                    if lane.log.mark_idle():
                        await self._commit(lane)
                await lane.dirty.wait()
            await asyncio.sleep(self._sync_s)
            lane.dirty.clear()
            try:
                await self._commit(lane)
            except DiskFullError:
                await asyncio.sleep(self._look_at_disk_s)

    async def _commit(self, lane: Lane) -> None:
        """Commit and publish. Once begun it is carried through, whatever becomes of the caller."""
        committing = asyncio.ensure_future(self._commit_now(lane))
        # A caller that is cancelled leaves it alone with its error, which `_fail` has told: it is seen.
        committing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(committing)

    async def _commit_now(self, lane: Lane) -> None:
        async with lane.commit_lock:
            try:
                batches = await self._made_durable(lane)
            except DiskFullError:
                lane.dirty.set()  # nothing has changed: it is done again, whoever asked for it
                raise
            except StorageError as error:
                self._fail(error)
                raise
            self.bus.publish(lane.log.stream, batches)
            if lane.log.sync_s is not None:
                self.sync_seconds.append(lane.log.sync_s)
            for path in lane.log.take_sealed():
                self.backlog[path] = clock.monotonic_s()
                self._sealed.append(Sealed(lane, path))
            for path, rows, reason in lane.log.take_poisoned():
                self.alarm(
                    path.name,
                    f"a sync of {lane.log.stream} failed ({reason}): {rows} durable rows wait in {path} for the next "
                    f"start. Nothing is lost. Next: check that disk, and spymaster recover once this run is over",
                )
            self._bronze_may_work.set()

    async def _made_durable(self, lane: Lane) -> list[pa.RecordBatch]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._sync_pool, lane.log.commit)
        except DiskFullError as error:
            self.refused(error)  # gives up the reserve file
            return await loop.run_in_executor(self._sync_pool, lane.log.commit)

    async def _tick(self) -> None:
        """Seal each stream that has rows once its flush interval is over, unless Bronze would not take them now."""
        while True:
            await asyncio.sleep(min(self._flush_interval_s, 0.5) / 2)
            now = clock.monotonic_s()
            for lane in self.lanes.values():
                if lane.log.has_rows and now - lane.sealed_at_s >= lane.flush_every_s and self._bronze_takes(lane):
                    with suppress(DiskFullError):  # a later tick tries again
                        if lane.log.seal():
                            lane.sealed_at_s = now
                            lane.dirty.set()

    def _bronze_takes(self, lane: Lane) -> bool:
        """Whether sealing makes Bronze of rows, or only one more segment that waits."""
        return not self.space.bronze_stopped and not any(
            segment.refusals and segment.lane is lane for segment in self._sealed
        )

    async def _watch_disk(self) -> None:
        """Look how much room the disks have, stop what must stop, and let it go on."""
        while True:
            await asyncio.sleep(self._look_at_disk_s)
            before = self.space.level
            if await asyncio.to_thread(self.space.look):
                with suppress(DiskFullError):  # then ingest stays stopped
                    await self._resume()
            self._tell_of_disk(before)
            await self._look_at_log()
            self._bronze_may_work.set()

    async def _look_at_log(self) -> None:
        """Sound the alarm while the log is too large: a live source goes on, whatever waits for Bronze."""
        try:
            held = await asyncio.to_thread(log_bytes, self._wal_root)
        except OSError:
            return  # as with the disks, refusals will tell
        if held > LOG_ALARM_BYTES:
            self.alarm(
                "log",
                f"the log {self._wal_root} holds {held / 1e9:.1f} GB, over 1 GB: Bronze is not keeping up or its disk "
                f"refuses. Nothing is lost. Next: check the disk of {self._data_root}",
            )
        elif held < LOG_ALARM_BYTES / RESUME_ABOVE:
            self._problems.pop("log", None)

    async def _resume(self) -> None:
        """Take rows again, once every gap row is durable.

        A power cut may keep any row that was appended. If it kept one without the gap row before it, the hole would
        not show: what was given up took no numbers.
        """
        async with self._resuming:  # sources wait meanwhile, or one faster than a sync would give up rows for ever
            while self._given_up or (GAPS in self.lanes and self.lanes[GAPS].unacknowledged_rows):
                await self._record_gaps()
            self.space.resume()

    def _tell_of_disk(self, before: DiskLevel) -> None:
        level = self.space.level
        if level >= DiskLevel.BRONZE_STOPPED:
            self.problem("disk", self.space.text)
        else:
            self._problems.pop("disk", None)
        if level != before and self._notify is not None:
            self._notify(self.space.text)

    def problem(self, about: str, line: str) -> None:
        """Note what is not right and does not stop the recorder, in place of what was noted about the same before."""
        if about in self._problems or len(self._problems) < MAX_PROBLEMS:
            self._problems[about] = line

    def alarm(self, about: str, line: str) -> None:
        """Note a problem and, unless it lasts from before, say so at once."""
        if self._notify is not None and about not in self._problems:
            self._notify(line)
        self.problem(about, line)

    async def _flush_sealed(self) -> None:
        """Turn sealed segments into Bronze, one after another."""
        while True:
            segment = self._due()
            if segment is not None:
                await self._flush(segment)
                continue
            self._bronze_may_work.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._bronze_retry_s):  # `wait_for` may swallow a cancellation
                    await self._bronze_may_work.wait()

    def _due(self) -> Sealed | None:
        """Return the segment to flush next: the oldest that is new or, after a pause, was refused the fewest times.

        So one that no try can mend holds up no other, and a disk that refuses all of them is asked once in a while.
        """
        if asked := next((segment for segment in self._sealed if segment.asked), None):
            return asked
        segment = min(self._sealed, key=lambda segment: segment.refusals, default=None)
        if segment is None or self.space.bronze_stopped:
            return None
        return segment if segment.refusals == 0 or clock.monotonic_s() >= self._retry_at_s else None

    async def _flush(self, segment: Sealed) -> None:
        started = clock.monotonic_s()
        refusal = None
        try:
            rows = await asyncio.get_running_loop().run_in_executor(self._bronze_pool, self._make_bronze, segment)
            segment.lane.flushed_rows += rows
            self.flush_seconds = clock.monotonic_s() - started
            self._sealed.remove(segment)
            del self.backlog[segment.path]
        except OSError as error:
            refusal = f"{segment.path.name} was not flushed: {error}"
            segment.refusals += 1
            self._retry_at_s = clock.monotonic_s() + self._bronze_retry_s
        except WalError as error:
            # The rows that can be saved are: recovery, which may run any time later, brings them to Bronze.
            refusal = f"{segment.path.name} was not flushed: {error}"
            self.problem(segment.path.name, refusal)
            self._sealed.remove(segment)
        refused = sum(1 for waiting in self._sealed if waiting.refusals)
        if refused == 0:
            self._problems.pop("bronze", None)
        elif refusal is not None:
            self.problem("bronze", f"{refused} segments wait in the log for Bronze, which refused: {refusal}")
        segment.tell(refusal)

    def _make_bronze(self, segment: Sealed) -> int:
        """Publish a segment's rows, index them, let the segment go; return its rows. Runs in a thread."""
        if segment.rows is None:
            again = segment.refusals > 0  # then some may be published
            rows = scan(durable.read(segment.path)).rows if again else None
            parts = flush_segment(self._bronze, segment.path, again=again)
            segment.rows = sum(part.rows for part in parts) if rows is None else rows
            self.parts_written += len(parts)
            self._catalog_behind |= again  # of parts that the first try published
            try:
                self.catalog.record(parts)
                self._catch_up()
            except (sqlite3.Error, LayoutError) as error:  # only an index: the next start takes in what it lacks
                self._catalog_behind = True
                self.problem("catalog", f"the catalog is behind: {error}")
        retire(segment.path)
        return segment.rows

    def _catch_up(self) -> None:
        if self._catalog_behind:
            self.catalog.refresh()
            self._catalog_behind = False
            self._problems.pop("catalog", None)


@dataclass
class RecordedRows:
    """One capture's rows of one stream, on their way into the recorder."""

    recorder: Recorder
    lane: Lane
    rows: CaptureRows

    def append(self, batch: pa.RecordBatch) -> None:
        """Append delivered rows; they are acknowledged on the bus when they are durable.

        Raises:
            DiskFullError: ingest is stopped, or the disk refused; `rows.next_seq` says which rows are in the log.
            StorageError: the disk refused for good.
        """
        self.recorder.require_room()
        try:
            self.rows.append(batch)
        except DiskFullError as error:
            self.recorder.refused(error)
            raise
        finally:
            self.lane.dirty.set()  # the first frames of a large batch may be in the log

"""Rows -> WAL -> bus -> Bronze, in one process and in that order.

What a row passes, and what each step promises:
    append   it is in the log; a killed process loses it no more
    commit   the log was synced; a power cut loses it no more; only now is it published
    flush    its segment was sealed, its Parquet parts are durable; only now does the segment go

Recording starts once the log is salvaged; what salvage left goes to Bronze behind it. The event loop appends,
publishes and owns every state; syncs, Parquet and looks at the disk run in threads that return what they found.

On a full disk Bronze stops first, then ingest: a source that can wait does, and what another delivers is given up,
counted and recorded as a gap. Both go on by themselves.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import clock, durable, events
from spymaster.bus import Bus
from spymaster.errors import BronzeRefusedError, DiskFullError, WalError
from spymaster.events import Stream, captures
from spymaster.events.captures import Capture, random_capture_id
from spymaster.events.gaps import Gap
from spymaster.lake.catalog import Catalog
from spymaster.lake.locks import wal_lock
from spymaster.recording.capture import OnFull, OpenCapture
from spymaster.recording.change import Change
from spymaster.recording.disk import RESERVE_MB, RESUME_ABOVE, Disk, DiskLevel, require_room_to_salvage
from spymaster.recording.drain import BRONZE_RETRY_S, Drain
from spymaster.recording.given_up import GivenUp
from spymaster.recording.health import Health
from spymaster.recording.lane import Lane, Syncs
from spymaster.recording.own_rows import OwnRows
from spymaster.recording.recovery import Recovered
from spymaster.wal.folder import LOG_ALARM_BYTES, log_bytes
from spymaster.wal.recovery import salvage
from spymaster.wal.writer import StreamLog

WILDCARD: Final = "ALL"
WILDCARD_FLUSH_S: Final = 60.0  # such a stream makes one Parquet file per symbol
SYNC_THREADS: Final = 4
LOOK_AT_DISK_S: Final = 0.5


class Recorder:
    """Makes rows durable, publishes them on the bus and drains them into Bronze.

    One process writes a log and a lake; `start` takes the locks and salvages the log first.

    Attributes:
        bus: where durable rows are published.
        lanes: the streams in use.
        recovered: what the start found in the log, and what was made of it since.
        disk: what the disks have left, and what has stopped for want of it.
        drain: what waits for Bronze.
        given_up: rows that a full disk did not take.
        health: what is not right, and what has ended the recording.
        change: what wakes whoever waits for any of these.
        syncs: what the newest commits took.
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
        wildcard_flush_s: float = WILDCARD_FLUSH_S,
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
            wildcard_flush_s: how long rows of a wildcard stream wait, if that is longer.
            disk_reserve_mb: ingest stops when less is free.
            notify: called with one line whenever something stops or goes on for want of room, and for each alarm.
            free_bytes: what asks a folder's disk for its room.
            look_at_disk_s: how often it is asked.
            bronze_retry_s: how long Bronze waits after a refusal.
        """
        self.bus = bus
        self.lanes: dict[Stream, Lane] = {}
        self.recovered: Recovered | None = None
        self.given_up = GivenUp()
        self.change = Change()
        self.health = Health(self.change, notify)
        self.disk = Disk(wal_root, data_root / "bronze", disk_reserve_mb, free_bytes)
        self.drain = Drain(
            wal_root, data_root, disk=self.disk, health=self.health, change=self.change, retry_s=bronze_retry_s
        )
        self.syncs = Syncs(ThreadPoolExecutor(SYNC_THREADS, "sync"), sync_ms / 1000)
        self._wal_root, self._data_root = wal_root, data_root
        self._flush_interval_s, self._segment_bytes = flush_interval_s, segment_mb << 20
        self._wildcard_flush_s, self._look_at_disk_s = wildcard_flush_s, look_at_disk_s
        self._run_capture = random_capture_id()
        self._frontiers: dict[Stream, int] = {}
        self._own = OwnRows(self._run_capture, self.given_up, self.lanes, self.lane, self.refused)
        self._locks = ExitStack()
        self._watch_pool = ThreadPoolExecutor(1, "disk")  # its looks wait for no sync
        self._opening = asyncio.Lock()
        self._tasks: list[asyncio.Future[None]] = []

    @property
    def problems(self) -> list[str]:
        """Lines about what is not right and has not stopped the recorder."""
        return self.health.problems

    @property
    def frontiers(self) -> Mapping[Stream, int]:
        """Per stream the newest durable `ts_event_ns` of this run, as it is at each look."""
        return MappingProxyType(self._frontiers)

    async def start(self) -> Recovered:
        """Lock, make the log sound, and begin to record; what a crash left goes to Bronze in the background.

        Raises:
            LockedError: another process records here.
            UsageError: a folder cannot be written.
            DiskFullError: the log's disk is too full to salvage; nothing was changed.
            WalError: a segment cannot be used, or its bytes cannot be had. It is as it was.
            OSError: the log's disk refused; nothing is lost.
        """
        self._locks.enter_context(wal_lock(self._wal_root))
        try:
            self._locks.callback(self.drain.close)
            await asyncio.to_thread(self.drain.lock)
            await asyncio.to_thread(require_room_to_salvage, self._wal_root)
            found = await asyncio.to_thread(salvage, self._wal_root, self._run_capture, set())
            self._own.gap_seq = len(found.holes)  # it numbered a gap row for each in this run's name
            self._locks.callback(self.disk.close)
            await asyncio.to_thread(self.disk.open)
        except BaseException:
            self._locks.close()
            raise
        self.recovered = Recovered(found, self.drain.recovered)
        for segment in found.sealed:
            self.drain.add(segment)
        self._tell_of_disk(DiskLevel.OK)
        for work in (self._watch_disk(), self._tick(), self.drain.run()):
            self._spawn(work)
        return self.recovered

    async def stop(self) -> None:
        """Drain: commit and flush every row, then let the locks go.

        Raises:
            StorageError: rows are left in the log; the next start recovers them.
        """
        try:
            if not self.health.has_failed:
                if self.disk.ingest_stopped:
                    self.disk.give_up_file()  # what it was kept for
                try:
                    await self._own.record_gaps()
                finally:
                    await self.flush()
                    await self._look_at_log()
        except BronzeRefusedError as error:
            self.health.problem("bronze", str(error))
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.syncs.pool.shutdown()
            self._watch_pool.shutdown()
            for lane in self.lanes.values():
                lane.log.close()
            self.bus.close()
            self._locks.close()

    async def failed(self) -> None:
        """Wait until the disk refuses to make rows durable.

        Raises:
            StorageError: it did.
        """
        await self.health.failed()

    async def lane(self, stream: Stream) -> Lane:
        """Return the stream's lane, opening its log on first use.

        Raises:
            DiskFullError: there is no room to open it.
        """
        async with self._opening:
            if self.recovered is None:
                raise WalError(f"{self._wal_root} is not open. Nothing was written. Next: start the recorder first")
            if stream not in self.lanes:
                log = await self._open(stream)
                flush_every_s = self._flush_interval_s
                if stream.symbol == WILDCARD:
                    flush_every_s = max(flush_every_s, self._wildcard_flush_s)
                self.lanes[stream] = Lane(
                    log,
                    flush_every_s=flush_every_s,
                    syncs=self.syncs,
                    bus=self.bus,
                    drain=self.drain,
                    frontiers=self._frontiers,
                    health=self.health,
                    change=self.change,
                    refused=self.refused,
                    retry_s=self._look_at_disk_s,
                )
                self._spawn(self.lanes[stream].run())
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
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.syncs.pool, StreamLog, self._wal_root, stream, self._segment_bytes)
        except OSError as error:
            if not durable.is_full(error):
                raise
            raise DiskFullError(
                f"{self._wal_root} is on a full disk: no log for {stream} ({error}). What was recorded is safe. "
                f"Next: free space there, then do the same again"
            ) from error

    def capture(
        self, capture: Capture, on_full: OnFull = "raise", ended: Callable[[], bool] = lambda: False
    ) -> OpenCapture:
        """Return what numbers and appends a delivery's rows; see `OpenCapture`."""
        return OpenCapture(self, capture, on_full, ended)

    def require_room(self) -> None:
        """Return unless ingest is stopped.

        Raises:
            DiskFullError: it is.
        """
        if self.disk.ingest_stopped:
            raise DiskFullError(self.disk.text)

    def refused(self, error: DiskFullError) -> None:
        """Stop ingest: the disk refused rows for want of room. The next look at it finds when there is room again."""
        before = self.disk.level
        self.disk.refused(error)
        self._tell_of_disk(before)

    def refused_rows(self, error: DiskFullError) -> None:
        """The same, where it was not stopped before the rows came."""
        if not self.disk.ingest_stopped:
            self.refused(error)

    async def room_for_rows(self, ended: Callable[[], bool]) -> bool:
        """Wait until rows are taken again; False if `ended` was true first.

        Raises:
            StorageError: the disk refused for good.
        """
        await self.change.until(lambda: not self.disk.ingest_stopped or self.health.has_failed or ended())
        self.health.check()
        return not ended() or not self.disk.ingest_stopped

    async def takes_rows(self) -> bool:
        """Return whether rows are taken, once what lets them in again has ended: a sync of gap rows."""
        await self._own.settled()
        return not self.disk.ingest_stopped

    def give_up(self, stream: Stream, capture_id: int, rows: pa.RecordBatch, next_seq: int) -> None:
        """Count delivered rows that the disk did not take and whose source cannot wait; they become a gap row."""
        self.given_up.add(stream, capture_id, rows, next_seq)
        total = self.given_up.rows[stream]
        self.health.problem(f"given up {stream}", f"{total} rows of {stream} were given up: the log's disk was full")

    async def whole_catalog(self, ended: Callable[[], bool]) -> Catalog | None:
        """Return the catalog once it knows every row that the start found; None if `ended` was true first.

        Raises:
            StorageError: it is kept from it for as long as this run lasts.
        """
        return await self.drain.whole_catalog(lambda: ended() or self.health.has_failed)

    async def recorded_numbers(self, capture_id: int, schema: str) -> NDArray[np.int64] | None:
        """Return the sorted `capture_seq`s of a capture that the lake holds; the catalog is whole by now."""
        catalog = self.drain.catalog
        if catalog is None:
            return None
        return await asyncio.to_thread(catalog.recorded_numbers, capture_id, schema)  # no sync waits for it

    async def begin(self, capture: Capture) -> None:
        """Record that a capture begins, durable on return.

        Raises:
            DiskFullError: there is no room for its rows.
        """
        self.require_room()
        await self._own.append(captures.begin_row(capture, clock.utc_now_ns()))

    async def end(self, capture: Capture, rows: Mapping[Stream, int], *, complete: bool, detail: str | None) -> None:
        """Record that a capture ended, after every row it counts is durable and every gap in it recorded.

        Raises:
            DiskFullError: not even this row fits.
        """
        await self._own.record_gaps()
        for stream in capture.streams:
            if stream in self.lanes:
                await self.lanes[stream].commit()
        row = captures.end_row(capture, rows, clock.utc_now_ns(), complete=complete, detail=detail)
        await self._own.append(row)
        self.bus.ended(capture.capture_id)

    async def record_gaps(self, gaps: list[Gap]) -> None:
        """Record what is known to be missing, durable on return.

        Raises:
            DiskFullError: not even these rows fit.
        """
        await self._own.record_gaps(gaps)

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
                    await lane.seal()
                except DiskFullError as error:
                    refusals.append(str(error))
        refusals += await self.drain.try_all()
        refusals += [segment.reason for segment in self.drain.set_aside if segment.reason is not None]
        if refusals:
            raise self.drain.refused(refusals)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.health.watch(task)
        self._tasks.append(task)

    async def _tick(self) -> None:
        """Seal each stream that has rows once its flush interval is over, unless Bronze would not take them now."""
        while True:
            await asyncio.sleep(min(self._flush_interval_s, 0.5) / 2)
            now_s = clock.monotonic_s()
            for lane in self.lanes.values():
                lane.seal_when_due(now_s)

    async def _watch_disk(self) -> None:
        """Look how much room the disks have, stop what must stop, and let it go on."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._look_at_disk_s)
            before = self.disk.level
            if self.disk.settle(await loop.run_in_executor(self._watch_pool, self.disk.look)):
                with suppress(DiskFullError):  # then ingest stays stopped
                    await self._own.before_rows_go_on(self.disk.resume)
            self._tell_of_disk(before)
            await self._look_at_log()
            self.change.happened()

    async def _look_at_log(self) -> None:
        """Sound the alarm while the log is too large: a live source goes on, whatever waits for Bronze."""
        try:
            held = await asyncio.get_running_loop().run_in_executor(self._watch_pool, log_bytes, self._wal_root)
        except OSError:
            return  # as with the disks, refusals will tell
        if held > LOG_ALARM_BYTES:
            self.health.alarm(
                "log",
                f"the log {self._wal_root} holds {held / 1e9:.1f} GB, over 1 GB: Bronze is not keeping up or its disk "
                f"refuses. Nothing is lost. Next: check the disk of {self._data_root}",
            )
        elif held < LOG_ALARM_BYTES / RESUME_ABOVE:
            self.health.mended("log")

    def _tell_of_disk(self, before: DiskLevel) -> None:
        level = self.disk.level
        if level >= DiskLevel.BRONZE_STOPPED:
            self.health.problem("disk", self.disk.text)
        else:
            self.health.mended("disk")
        if level != before:
            self.health.say(self.disk.text)

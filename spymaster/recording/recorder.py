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
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster import clock, durable
from spymaster.bus import Bus
from spymaster.errors import BronzeRefusedError, DiskFullError, WalError
from spymaster.events import SYSTEM_CAPTURES, Stream, captures
from spymaster.events.captures import Capture, random_capture_id
from spymaster.journal import SILENT, Journal
from spymaster.lake.catalog import Catalog
from spymaster.lake.layout import Tier
from spymaster.lake.locks import wal_lock
from spymaster.recording.capture import OnFull, OpenCapture
from spymaster.recording.change import Change
from spymaster.recording.disk import RESERVE_MB, Disk, require_room_to_salvage
from spymaster.recording.disk_watch import DiskWatch
from spymaster.recording.drain import BRONZE_RETRY_S, Drain, bronze_refused
from spymaster.recording.given_up import GivenUp
from spymaster.recording.health import Health
from spymaster.recording.lane import Lane, Lanes, Syncs
from spymaster.recording.own_lake import OwnLake
from spymaster.recording.own_rows import OwnRows
from spymaster.recording.recovery import Recovered
from spymaster.recording.room import Room
from spymaster.wal.recovery import salvage

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
        own: rows that this process run writes itself.
        room: whether rows are taken, and what becomes of those that are not.
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
        journal: Journal = SILENT,
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
            journal: where what happens is written.
            free_bytes: what asks a folder's disk for its room.
            look_at_disk_s: how often it is asked.
            bronze_retry_s: how long Bronze waits after a refusal.
        """
        self.bus = bus
        self.recovered: Recovered | None = None
        self.given_up = GivenUp()
        self.change = Change()
        self.health = Health(self.change, notify, journal)
        self.disk = Disk(wal_root, Tier.BRONZE.of(data_root), disk_reserve_mb, free_bytes)
        self._own_lake = OwnLake(wal_root, data_root)
        self.drain = Drain(
            self._own_lake, data_root, disk=self.disk, health=self.health, change=self.change, retry_s=bronze_retry_s
        )
        self.syncs = Syncs(ThreadPoolExecutor(SYNC_THREADS, "sync"), sync_ms / 1000)
        self._watch = DiskWatch(
            wal_root, data_root, self.disk, health=self.health, change=self.change, every_s=look_at_disk_s
        )
        self._lanes = Lanes(
            wal_root,
            segment_bytes=segment_mb << 20,
            flush_every_s=flush_interval_s,
            wildcard_flush_s=wildcard_flush_s,
            syncs=self.syncs,
            bus=bus,
            drain=self.drain,
            health=self.health,
            change=self.change,
            refused=self._watch.refused,
            retry_s=look_at_disk_s,
        )
        self.lanes = self._lanes.open
        self._wal_root, self._flush_interval_s = wal_root, flush_interval_s
        self._run_capture = random_capture_id()
        self.own = OwnRows(self._run_capture, self.given_up, self.lanes, self.lane, self._watch.refused, journal)
        self.room = Room(self.disk, self._watch, self.own, self.given_up, self.health, self.change)
        self._locks = ExitStack()
        self._tasks: list[asyncio.Future[None]] = []

    @property
    def problems(self) -> list[str]:
        """Lines about what is not right and has not stopped the recorder."""
        return self.health.problems

    @property
    def frontiers(self) -> Mapping[Stream, int]:
        """Per stream the newest durable `ts_event_ns` of this run, as it is at each look."""
        return MappingProxyType(self._lanes.frontiers)

    async def start(self, locked: Callable[[], None] = lambda: None) -> Recovered:
        """Lock, make the log sound, and begin to record; what a crash left goes to Bronze in the background.

        Args:
            locked: called once the locks are held, before anything is changed.

        Raises:
            LockedError: another process records here.
            OtherLakeError: the log is another lake's.
            UsageError: a folder cannot be written.
            DiskFullError: the log's disk is too full to salvage; nothing was changed.
            WalError: a segment cannot be used, or its bytes cannot be had. It is as it was.
            OSError: the log's disk refused; nothing is lost.
        """
        self._locks.enter_context(wal_lock(self._wal_root))
        try:
            self._locks.callback(self.drain.close)
            await asyncio.to_thread(self._own_lake.lock)
            await asyncio.to_thread(require_room_to_salvage, self._wal_root)
            locked()
            found = await asyncio.to_thread(salvage, self._wal_root, self._run_capture, set())
            self.own.gap_seq = len(found.holes)  # it numbered a gap row for each in this run's name
            self._locks.callback(self.disk.close)
            await asyncio.to_thread(self.disk.open)
        except BaseException:
            self._locks.close()
            raise
        self.recovered = Recovered(found, self.drain.recovered)
        for segment, rows in zip(found.sealed, found.sealed_rows, strict=True):
            self.drain.add(segment, left_rows=rows)
        self._watch.tell()
        for work in (self._watch.run(self.own.before_rows_go_on), self._tick(), self.drain.run()):
            self._tasks.append(asyncio.ensure_future(work))
            self.health.watch(self._tasks[-1])
        return self.recovered

    async def stop(self) -> None:
        """Drain: commit and flush every row, then let the locks go.

        Raises:
            StorageError: rows are left in the log; the next start recovers them.
        """
        try:
            if self.recovered is not None and not self.health.has_failed:  # else there is no drain to wait for
                if self.disk.ingest_stopped:
                    self.disk.close()  # gives up the reserve file, which was kept for this; no look takes it back
                try:
                    await self.own.record_gaps()
                finally:
                    await self.flush()
                    await self._watch.look_at_log()
        except BronzeRefusedError as error:
            self.health.problem("bronze", str(error))
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._lanes.close()
            self._watch.close()
            self.bus.close()
            self._locks.close()

    async def lane(self, stream: Stream) -> Lane:
        """Return the stream's lane, opening its log on first use.

        Raises:
            DiskFullError: there is no room to open it.
        """
        if self.recovered is None:
            raise WalError(f"{self._wal_root} is not open. Nothing was written. Next: start the recorder first")
        return await self._lanes.get(stream)

    def capture(
        self, capture: Capture, on_full: OnFull = "raise", ended: Callable[[], bool] = lambda: False
    ) -> OpenCapture:
        """Return what numbers and appends a delivery's rows; see `OpenCapture`."""
        return OpenCapture(self, capture, on_full, ended)

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
        self.room.require()
        await self.own.append(SYSTEM_CAPTURES, captures.begin_row(capture, clock.utc_now_ns()))

    async def end(self, capture: Capture, rows: Mapping[Stream, int], *, complete: bool, detail: str | None) -> None:
        """Record that a capture ended, after every row it counts is durable and every gap in it recorded.

        Raises:
            DiskFullError: not even this row fits.
        """
        await self.own.record_gaps()
        for stream in capture.streams:
            if stream in self.lanes:
                await self.lanes[stream].commit()
        row = captures.end_row(capture, rows, clock.utc_now_ns(), complete=complete, detail=detail)
        await self.own.append(SYSTEM_CAPTURES, row)
        self.bus.ended(capture.capture_id)

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
            raise bronze_refused(self._wal_root, refusals)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(min(self._flush_interval_s, 0.5) / 2)
            self._lanes.seal_due()

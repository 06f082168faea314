"""One stream: append, group commit, publish, seal. The order in `_commit_now` is the guarantee."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from spymaster import clock, durable, events
from spymaster.bus import Bus
from spymaster.errors import DiskFullError, StorageError
from spymaster.events import Stream
from spymaster.events.schema import WILDCARD
from spymaster.recording.change import Change
from spymaster.recording.drain import Drain
from spymaster.recording.durations import Durations
from spymaster.recording.health import Health
from spymaster.wal.writer import StreamLog

IDLE_S: Final = 0.25  # after this long without rows the watermark is put on disk
PUBLISHED_AT_ONCE: Final = 64  # batches, a step of the event loop: some 40 us each
AHEAD_NS: Final = 5 * clock.NS_PER_SECOND  # an event may be after its receipt, by clocks that differ
KEPT_SYNCS: Final = 1_000  # of the newest commits' times, for `status`


class Syncs:
    """Where logs are synced, and what that took.

    Attributes:
        pool: threads of their own, so that no sync waits for a file that is being hashed.
        every_s: how long a row may wait for the sync that it shares with others.
        seconds: how long the newest commits' syncs took, at most `KEPT_SYNCS`.
        longest_s: the longest of all, until whoever reads it begins anew.
        durations: of all.
    """

    def __init__(self, pool: Executor, every_s: float) -> None:
        self.pool, self.every_s = pool, every_s
        self.seconds: deque[float] = deque(maxlen=KEPT_SYNCS)
        self.longest_s = 0.0
        self.durations = Durations()

    def took(self, seconds: float) -> None:
        """Take note of a commit that had rows to make durable."""
        self.seconds.append(seconds)
        self.durations.took(seconds)
        self.longest_s = max(self.longest_s, seconds)


class Lane:
    """One stream's way through the recorder. The event loop appends and publishes; syncs run in threads.

    Attributes:
        log: where rows are appended; set `dirty` after it.
        dirty: rows wait for a commit.
        flush_every_s: how long rows wait before their segment is sealed.
        sealed_at_s: the monotonic second of the last seal.
        flushed_rows: rows of this run that are in Bronze.
    """

    def __init__(self, log: StreamLog, flush_every_s: float, lanes: "Lanes") -> None:
        self.log, self.flush_every_s = log, flush_every_s
        self.dirty = asyncio.Event()
        self.sealed_at_s = clock.monotonic_s()
        self.flushed_rows = 0
        self._lanes = lanes
        self._committing = asyncio.Lock()

    @property
    def unacknowledged_rows(self) -> int:
        return self.log.appended_rows - self.log.acknowledged_rows

    async def run(self) -> None:
        """Group commit: whatever was appended within the interval shares one sync. Without end."""
        while True:
            try:
                async with asyncio.timeout(IDLE_S):  # `wait_for` may swallow a cancellation
                    await self.dirty.wait()
            except TimeoutError:
                with suppress(DiskFullError):  # then the watermark waits for the next rows
                    if self.log.mark_idle():
                        await self.commit()
                await self.dirty.wait()
            await asyncio.sleep(self._lanes.syncs.every_s)
            self.dirty.clear()
            try:
                await self.commit()
            except DiskFullError:
                await asyncio.sleep(self._lanes.retry_s)

    async def commit(self) -> None:
        """Commit and publish. Once begun it is carried through, whatever becomes of the caller.

        Raises:
            DiskFullError: a sealed segment got no name; nothing has changed, and it is tried again.
            StorageError: the disk refused to make rows durable.
        """
        committing = asyncio.ensure_future(self._commit_now())
        # A caller that is cancelled leaves it alone with its error, which `fail` has told: it is seen.
        committing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(committing)

    async def _commit_now(self) -> None:
        async with self._committing:
            try:
                batches = await self._made_durable()
            except DiskFullError:
                self.dirty.set()  # nothing has changed: it is done again, whoever asked for it
                raise
            except StorageError as error:
                self._lanes.health.fail(error)
                raise
            if self.log.sync_s is not None:
                self._lanes.syncs.took(self.log.sync_s)
            for at in range(0, len(batches), PUBLISHED_AT_ONCE):
                if at:
                    await asyncio.sleep(0)
                self._publish(batches[at : at + PUBLISHED_AT_ONCE])
            for path in self.log.take_sealed():
                self._lanes.drain.add(path, self)
            for poisoned in self.log.take_poisoned():
                self._lanes.health.alarm(
                    poisoned.path.name,
                    f"a sync of {self.log.stream} failed ({poisoned.reason}): {poisoned.durable_rows} durable rows "
                    f"wait in {poisoned.path} for the next start. Nothing is lost. Next: check that disk, and "
                    f"spymaster recover once this run is over",
                )
            self._lanes.change.happened()

    async def _made_durable(self) -> list[pa.RecordBatch]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._lanes.syncs.pool, self.log.commit)
        except DiskFullError as error:
            self._lanes.refused(error)  # gives up the reserve file
            return await loop.run_in_executor(self._lanes.syncs.pool, self.log.commit)

    def _publish(self, batches: list[pa.RecordBatch]) -> None:
        stream = self.log.stream
        self._lanes.bus.publish(stream, batches)
        for batch in batches:
            newest_ns = _newest_ns(batch)
            if newest_ns is not None:
                self._lanes.frontiers[stream] = max(newest_ns, self._lanes.frontiers.get(stream, newest_ns))

    async def seal(self) -> None:
        """Seal the active segment, if it has rows, and give it its sealed name.

        Raises:
            DiskFullError: there is no room for that; all is as before.
            StorageError: the disk refused to make rows durable.
        """
        await self.commit()  # a seal under way gets its name, so that the next can begin
        try:
            self.log.seal()
        finally:
            await self.commit()

    def seal_when_due(self, now_s: float) -> None:
        """Seal once the flush interval is over, unless Bronze would not take the rows: that only makes segments."""
        due = self.log.has_rows and now_s - self.sealed_at_s >= self.flush_every_s
        if due and self._lanes.drain.takes(self):
            with suppress(DiskFullError):  # a later tick tries again
                if self.log.seal():
                    self.sealed_at_s = now_s
                    self.dirty.set()


def _newest_ns(batch: pa.RecordBatch) -> int | None:
    """Return the newest event time that is believed: one far after its receipt would move a resume into the future."""
    events_ns, received_ns = batch["ts_event_ns"].to_numpy(), batch["ts_recv_ns"].to_numpy()
    believed = events_ns[events_ns - received_ns <= AHEAD_NS]
    return int(believed.max()) if len(believed) else None


class Lanes:
    """The streams in use, each opened once, and what they share.

    Attributes:
        open: their lanes.
        syncs: where logs are synced.
        bus: where durable rows are published.
        drain: where sealed segments go.
        frontiers: each stream's newest durable event time.
        health: whom lanes tell what is not right.
        change: whom they tell that rows are durable.
        refused: called when the disk had no room for a commit; it gives up what was kept for that.
        retry_s: how long a commit waits after a second refusal.
    """

    def __init__(
        self,
        wal_root: Path,
        *,
        segment_bytes: int,
        flush_every_s: float,
        wildcard_flush_s: float,
        syncs: Syncs,
        bus: Bus,
        drain: Drain,
        health: Health,
        change: Change,
        refused: Callable[[DiskFullError], None],
        retry_s: float,
    ) -> None:
        """Open nothing yet.

        Args:
            wal_root: the log.
            segment_bytes: a segment is sealed at this size at the latest.
            flush_every_s: how long rows wait in the log before Bronze.
            wildcard_flush_s: how long those of a wildcard stream and of `system.snaps` wait, if that is longer.
            syncs, bus, drain, health, change, refused, retry_s: see the attributes.
        """
        self.open: dict[Stream, Lane] = {}
        self.frontiers: dict[Stream, int] = {}
        self.syncs, self.bus, self.drain, self.health, self.change = syncs, bus, drain, health, change
        self.refused, self.retry_s = refused, retry_s
        self._wal_root, self._segment_bytes = wal_root, segment_bytes
        self._flush_every_s, self._wildcard_flush_s = flush_every_s, wildcard_flush_s
        self._opening = asyncio.Lock()
        self._committing: list[asyncio.Task[None]] = []

    async def get(self, stream: Stream) -> Lane:
        """Return the stream's lane, opening its log on first use.

        Raises:
            DiskFullError: there is no room to open it.
        """
        async with self._opening:
            if stream not in self.open:
                log = await self._log(stream)
                flush_every_s = self._flush_every_s
                if stream.symbol == WILDCARD or stream.schema == events.SYSTEM_SNAPS.name:  # which grows by few rows
                    flush_every_s = max(flush_every_s, self._wildcard_flush_s)
                self.open[stream] = Lane(log, flush_every_s, self)
                self._committing.append(asyncio.create_task(self.open[stream].run()))
                self.health.watch(self._committing[-1])
        return self.open[stream]

    async def _log(self, stream: Stream) -> StreamLog:
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

    def seal_due(self) -> None:
        """Seal each stream whose flush interval is over."""
        now_s = clock.monotonic_s()
        for lane in self.open.values():
            lane.seal_when_due(now_s)

    async def close(self) -> None:
        """End every lane after its last commit."""
        for task in self._committing:
            task.cancel()
        await asyncio.gather(*self._committing, return_exceptions=True)
        self.syncs.pool.shutdown()
        for lane in self.open.values():
            lane.log.close()

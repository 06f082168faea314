"""Builds every object once and wires the route. The order of the lines in `Daemon._record` is the guarantee."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from spymaster import clock, durable
from spymaster.bus import Bus
from spymaster.control import ControlServer, DaemonStatus
from spymaster.errors import BronzeRefusedError, DiskFullError, SourceError, StorageError, WalError
from spymaster.events import EventSchema, Stream
from spymaster.events.captures import Capture, capture_id_of
from spymaster.events.encoding import Dbn
from spymaster.feeds import raw_manifest
from spymaster.feeds.day_files import FlatFileDelivery
from spymaster.feeds.feed import Delivery, Feed
from spymaster.lake.catalog import CaptureRecord
from spymaster.normalize.normalizer import Normalizer, Unreadable
from spymaster.normalize.open import normalizer_of
from spymaster.recording.gauges import gauges
from spymaster.recording.recorder import BRONZE_RETRY_S, LOOK_AT_DISK_S, RecordedRows, Recorder
from spymaster.recording.recovery import Recovered
from spymaster.settings import Settings
from spymaster.simulation.source import MarketFeed
from spymaster.sources import open_feeds

QUANTUM_NS: Final = 20_000_000  # paced rows are released at least every 20 ms of wall time
MAX_TOLD_HOLES: Final = 10  # of a recovery; `system.gaps` has all
MAX_QUARANTINE_FILES: Final = 1_000  # per capture; a delivery with more unreadable pieces is no market data

Batches = list[tuple[EventSchema, pa.RecordBatch]]


@dataclass
class CaptureSummary:
    """What became of one delivery.

    Attributes:
        origin: what was read.
        capture_id: its capture; None if it could not be opened.
        already_captured: the lake held it whole, so nothing was read again.
        rows: rows per schema that the delivery gave, recorded now or before.
        appended: rows that this run added; fewer where an earlier run was killed half way.
        given_up: rows that a full disk did not take; `system.gaps` says which.
        ignored: vendor records of kinds that are not recorded.
        unreadable: vendor records in quarantine.
        unmapped: rows whose instrument no mapping named.
        complete: the delivery ended where it was to end.
        error: why it did not.
    """

    origin: str
    capture_id: int | None = None
    already_captured: bool = False
    rows: dict[str, int] = field(default_factory=dict)
    appended: int = 0
    given_up: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    unmapped: int = 0
    complete: bool = False
    error: str | None = None


class Daemon:
    """One run: feeds -> normalize -> wal -> bus, and the lake behind them.

    Attributes:
        bus: where durable rows are published; subscribe before `run`.
        summaries: one for each delivery, filled while it runs.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[str],
        speed: float,
        *,
        strict: bool = False,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        """Open the sources' feeds; nothing is read or written yet.

        Args:
            settings: as they were read.
            sources: as `--source` names them.
            speed: event time per wall time; 0 is as fast as it goes.
            strict: refuse to start over newly found damage.
            notify: called with one line whenever something stops or goes on for want of disk space, and for each alarm.

        Raises:
            UsageError, SourceError: a source is not known or not there.
        """
        self._feeds = [(source, feed) for source in sources for feed in open_feeds(source)]
        self.bus = Bus(settings.bus_max_mb << 20)
        self.recorder = Recorder(
            settings.wal_root,
            settings.data_root,
            bus=self.bus,
            flush_interval_s=settings.flush_interval_sec,
            segment_mb=settings.wal_segment_size_mb,
            sync_ms=settings.wal_sync_interval_ms,
            disk_reserve_mb=settings.disk_reserve_mb,
            notify=notify,
        )
        self.summaries: list[CaptureSummary] = []
        self._control = ControlServer(settings.wal_root, {"status": self.status})
        self._started_s = clock.monotonic_s()
        self._quarantine_root = settings.data_root / "quarantine"
        self._raw = settings.data_root.parent / "raw"  # where users keep vendor files
        self._speed = speed
        self._strict = strict
        self._stopping = asyncio.Event()
        self._turns: dict[int, asyncio.Lock] = {}
        self._read: set[int] = set()

    def stop(self) -> None:
        """Drain and end: feeds first, then the log, then Bronze."""
        self._stopping.set()

    def status(self) -> DaemonStatus:
        """Return what `spymaster status` shows of this process."""
        try:
            version = metadata.version("spymaster")
        except metadata.PackageNotFoundError:
            version = "unknown"  # a source tree that is not installed
        return {
            "pid": os.getpid(),
            "version": version,
            "state": "draining" if self._stopping.is_set() else "recording",
            "uptime_s": round(clock.monotonic_s() - self._started_s, 1),
            **gauges(self.recorder),
        }

    async def run(self, duration_s: float | None = None) -> None:
        """Recover, record until the sources end, `duration_s` is over or `stop` is called, then drain.

        Raises:
            LockedError, UsageError, LayoutError: nothing was started.
            StorageError: the disk refused; what was acknowledged is safe.
        """
        recovered = await self.recorder.start()
        if self._strict and recovered.exit_code:
            await self.recorder.stop()
            raise WalError(
                f"acknowledged rows were found damaged: {recovered.salvage.holes[0].describe()}. The sound rows are in "
                f"Bronze, the bytes in quarantine. Next: see spymaster verify, then start again; it is recorded now"
            )
        self._tell_of_damage(recovered)
        feeds = asyncio.create_task(self._record_feeds())
        ends = {feeds, asyncio.create_task(self._until_stopped()), asyncio.create_task(self.recorder.failed())}
        try:
            await self._open_control()
            done, _ = await asyncio.wait(ends, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                end.result()
            self._stopping.set()
            await feeds
            with suppress(BronzeRefusedError):  # `stop` tries once more, and says so
                await self.recorder.flush()  # here too, so that `status` shows how it drains
        except BaseException:
            self._stopping.set()  # whatever waits for room or for its turn ends too
            self._control.close()
            await self._cancel(ends)
            with suppress(StorageError):  # what ended the run says more than what that kept from being drained
                await self.recorder.stop()
            raise
        self._control.close()  # before the lock goes: from then on the name is the next daemon's
        await self._cancel(ends)
        with suppress(BronzeRefusedError):  # nothing is lost, and it is among the recorder's problems
            await self.recorder.stop()

    def _tell_of_damage(self, recovered: Recovered) -> None:
        """Say now what the exit code says only once the run is over."""
        holes = [hole for hole in recovered.salvage.holes if hole.acknowledged]
        for hole in holes[:MAX_TOLD_HOLES]:
            self.recorder.alarm(
                f"damage {hole.gap_id}",
                f"acknowledged rows were found damaged: {hole.describe()}. The sound rows are in Bronze, the bytes in "
                f"quarantine. Next: spymaster verify",
            )
        if (rest := len(holes) - MAX_TOLD_HOLES) > 0:
            self.recorder.alarm("damage", f"acknowledged rows were found damaged in {rest} more places")

    async def _open_control(self) -> None:
        try:
            await self._control.open()
        except OSError as error:
            self.recorder.problem(
                "control",
                f"no control socket ({error}), so spymaster status sees only files. The recording goes on. "
                f"Next: give WAL_ROOT a shorter path on a local disk",
            )

    @staticmethod
    async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_stopped(self) -> None:
        await self._stopping.wait()

    async def _record_feeds(self) -> None:
        tasks = [asyncio.create_task(self._record_feed(source, feed)) for source, feed in self._feeds]
        truths = asyncio.create_task(self._write_truths())
        try:
            await asyncio.gather(*tasks)
        finally:
            await self._cancel([*tasks, truths])  # one that failed ends them all
            for _, feed in self._feeds:
                if isinstance(feed, MarketFeed):
                    _append_truths(feed)

    async def _write_truths(self) -> None:
        """Append what the simulated market has planted to the file that its source names."""
        markets = [feed for _, feed in self._feeds if isinstance(feed, MarketFeed) and feed.truth_path is not None]
        while markets:
            await asyncio.sleep(1)
            for market in markets:
                await asyncio.to_thread(_append_truths, market)

    async def _record_feed(self, source: str, feed: Feed) -> None:
        deliveries = feed.deliveries()
        while not self._stopping.is_set():
            summary = CaptureSummary(origin=source)
            self.summaries.append(summary)
            try:
                delivery = await asyncio.to_thread(next, deliveries, None)  # opening a file reads it once
                if delivery is None:
                    self.summaries.remove(summary)
                    return
                summary.origin = delivery.info.origin
                await self._record(delivery, summary, paced=feed.paced)
            except SourceError as error:  # of this file alone; the next one may be sound
                summary.error = str(error)

    async def _record(self, delivery: Delivery, summary: CaptureSummary, *, paced: bool) -> None:
        info = delivery.info
        # In a thread, as a normalizer of frames waits for its scanner, on a new machine some seconds.
        normalizer = await asyncio.to_thread(normalizer_of, info.encoding, origin=info.origin, simulated=info.simulated)
        capture = Capture(
            capture_id_of(info.content_sha256, normalizer.version),
            normalizer.source,
            info.origin,
            info.content_sha256,
            normalizer.version,
            tuple(Stream(*names) for names in normalizer.streams.items()),
        )
        summary.capture_id = capture.capture_id
        async with self._turns.setdefault(capture.capture_id, asyncio.Lock()):  # the same file may be named twice
            if capture.capture_id in self._read and not await self._in_bronze():
                return
            self._read.add(capture.capture_id)
            await self._record_capture(delivery, capture, normalizer, summary, paced=paced)

    async def _in_bronze(self) -> bool:
        """Wait until what this run recorded is in Bronze, where the catalog finds it; False if the run is to end."""
        while not self._stopping.is_set():
            try:
                await self.recorder.flush()
                return True
            except BronzeRefusedError:
                await asyncio.sleep(BRONZE_RETRY_S)
        return False

    async def _begun(self, capture: Capture) -> list[CaptureRecord]:
        """Return the begins and ends that are on record of a capture; where there are none, record that it begins.

        Raises:
            DiskFullError: there is no room for that, and the run is to end.
            StorageError: of a file's, the catalog may lack some.
        """
        known = []
        if capture.content_sha256 is not None:  # the others' ids were drawn just now
            catalog = await self.recorder.whole_catalog()
            known = await asyncio.to_thread(catalog.captures, capture.capture_id)
        if not known:
            await self._when_there_is_room(lambda: self.recorder.begin(capture))  # durable before the first row
        return known

    async def _record_capture(
        self,
        delivery: Delivery,
        capture: Capture,
        normalizer: Normalizer,
        summary: CaptureSummary,
        *,
        paced: bool,
    ) -> None:
        try:
            known = await self._begun(capture)
        except StorageError as error:
            summary.error = str(error)
            return
        if whole := next((record for record in known if record.event == "end" and record.complete), None):
            summary.already_captured = summary.complete = True
            summary.rows = _per_schema(whole.stream_rows)
            return
        until = None if paced else self._stopping
        recording = _Recording(self.recorder, capture, waits_until=until)
        # Of what Massive sends only the event has a vendor's time.
        pacer = Pacer(self._speed, "ts_recv_ns" if isinstance(delivery.info.encoding, Dbn) else "ts_event_ns")
        failure: SourceError | None = None
        detail = None
        try:
            async with aclosing(delivery.messages()) as messages:
                async for message in messages:
                    normalized = normalizer.normalize([message])
                    await self._quarantine(capture, normalized.unreadable, summary, until)
                    for due_s, batches in pacer.pieces(normalized.batches):
                        await self._wait_until(due_s)
                        await recording.append(batches)
                    await self.recorder.room(for_file=not paced, until=until)
                    recording.count(summary)
                    if self._stopping.is_set():
                        detail = None if paced else "stopped before its end"
                        break
                else:
                    normalizer.finish()
        except _StoppedError:
            detail = "stopped before its end"
        except SourceError as error:
            failure, detail = error, str(error)
        recording.count(summary)
        if summary.given_up:
            lost = f"{summary.given_up} rows were given up: the log's disk was full"
            detail = summary.error = lost if detail is None else f"{detail}; {lost}"
        summary.ignored, summary.unmapped = dict(normalizer.ignored), normalizer.unmapped
        await self._when_there_is_room(lambda: recording.end(known, detail))  # after every row it counts is durable
        summary.complete = detail is None
        if summary.complete and isinstance(delivery, FlatFileDelivery) and self._raw in delivery.path.parents:
            digest = delivery.info.content_sha256 or ""
            await asyncio.to_thread(
                raw_manifest.record, self._raw, delivery.path, digest, delivery.rows, capture.capture_id
            )
        if failure is not None:
            raise failure

    async def _when_there_is_room(self, step: Callable[[], Awaitable[None]]) -> None:
        """Carry a step out, waiting while the disk is full.

        Raises:
            DiskFullError: it is, and the run is to end.
        """
        while True:
            try:
                await step()
            except DiskFullError:
                if self._stopping.is_set():
                    raise
                await self.recorder.until_room(self._stopping)
            else:
                return

    async def _wait_until(self, due_s: float) -> None:
        """Wait until a paced piece is due, or the run is to end; always let other tasks in."""
        delay = due_s - clock.monotonic_s()
        if delay <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):  # `wait_for` may swallow a cancellation
                await self._stopping.wait()

    async def _quarantine(
        self, capture: Capture, unreadable: list[Unreadable], summary: CaptureSummary, until: asyncio.Event | None
    ) -> None:
        """Keep what the vendor sent and nobody can read, with the reason, in one file for each piece that has any.

        On a full disk a source that can wait does, until `until`; the bytes of another are given up and counted.
        """
        if not unreadable:
            return
        summary.unreadable += len(unreadable)
        folder = self._quarantine_root / capture.source
        name = f"{capture.capture_id:016x}-{unreadable[0].byte}"
        if len(list(folder.glob(f"{capture.capture_id:016x}-*.bin"))) >= MAX_QUARANTINE_FILES:
            raise SourceError(
                f"{capture.origin} has more than {MAX_QUARANTINE_FILES} unreadable pieces, the last at byte "
                f"{unreadable[0].byte}: {unreadable[0].reason}. What was readable is recorded. "
                f"Next: check that it is the vendor's file"
            )
        entries = [{"byte": u.byte, "length": len(u.data), "reason": u.reason} for u in unreadable]
        described = {"origin": capture.origin, "capture_id": capture.capture_id, "messages": entries}
        for suffix, data in ((".bin", b"".join(u.data for u in unreadable)), (".json", json.dumps(described).encode())):
            await self._keep(data, folder / f"{name}{suffix}", summary, until)

    async def _keep(self, data: bytes, path: Path, summary: CaptureSummary, until: asyncio.Event | None) -> None:
        while not path.exists():  # as it may where a file is read again
            try:
                await asyncio.to_thread(durable.make_directories, path.parent)
                await asyncio.to_thread(durable.publish, data, path)
            except OSError as error:
                if not durable.is_full(error):
                    raise
                if until is None:
                    summary.error = f"unreadable messages could not be kept in {path.parent}: {error}"
                    return
                if until.is_set():
                    raise _StoppedError from None
                await asyncio.sleep(LOOK_AT_DISK_S)


class _StoppedError(Exception):
    """The run is to end while a file waits for room. What was appended of it stands; the rest is read again."""


def _append_truths(market: MarketFeed) -> None:
    lines = "".join(f"{json.dumps(truth)}\n" for truth in market.take_truths())
    if lines and market.truth_path is not None:
        with market.truth_path.open("a") as file:
            file.write(lines)


class _Recording:
    """One capture on its way into the recorder.

    On a full disk a source that can wait does, until `waits_until` is set; what another delivers is given up.
    """

    def __init__(self, recorder: Recorder, capture: Capture, *, waits_until: asyncio.Event | None) -> None:
        self._recorder = recorder
        self._capture = capture
        self._waits_until = waits_until
        self._given_up_rows = 0
        self._streams = {stream.schema: stream for stream in capture.streams}
        self._rows: dict[Stream, RecordedRows] = {}

    async def append(self, batches: Batches) -> None:
        """Append rows of any of the capture's streams.

        Raises:
            StorageError: the disk refused for good.
        """
        for schema, batch in batches:
            stream, rest = self._streams[schema.name], batch
            while rest.num_rows:
                before = self._next_seq(stream)
                try:
                    await self._append(stream, rest)
                    break
                except DiskFullError:
                    rest = rest.slice(self._next_seq(stream) - before)
                    if self._waits_until is None:
                        if await self._recorder.takes_rows():
                            continue
                        self._give_up(stream, rest)
                        break
                    await self._recorder.until_room(self._waits_until)
                    if self._waits_until.is_set():
                        raise _StoppedError from None  # later rows may not take the numbers of these

    async def _append(self, stream: Stream, batch: pa.RecordBatch) -> None:
        if stream not in self._rows:
            recorded = None
            if self._capture.content_sha256 is not None:  # a file's rows may be there though its begin row is lost
                numbers = self._recorder.catalog.recorded_numbers
                recorded = await asyncio.to_thread(numbers, self._capture.capture_id, stream.schema)
            self._rows[stream] = await self._recorder.capture_rows(stream, self._capture.capture_id, recorded)
        self._rows[stream].append(batch)

    def _next_seq(self, stream: Stream) -> int:
        return self._rows[stream].rows.next_seq if stream in self._rows else 0

    def _give_up(self, stream: Stream, rows: pa.RecordBatch) -> None:
        self._recorder.give_up(stream, self._capture.capture_id, rows, self._next_seq(stream))
        self._given_up_rows += rows.num_rows

    def count(self, summary: CaptureSummary) -> None:
        summary.rows = {stream.schema: rows.rows.next_seq for stream, rows in self._rows.items()}
        summary.given_up = self._given_up_rows
        summary.appended = sum(rows.rows.appended_rows for rows in self._rows.values())

    async def end(self, known: list[CaptureRecord], detail: str | None) -> None:
        """Record the end; where the same end is on record already, a repeated reading adds nothing."""
        rows = {stream: self._next_seq(stream) for stream in self._capture.streams}
        counts = {str(stream): count for stream, count in rows.items()}
        if not any(
            record.event == "end" and (record.stream_rows, record.detail) == (counts, detail) for record in known
        ):
            await self._recorder.end(self._capture, rows, complete=detail is None, detail=detail)


class Pacer:
    """Says when rows are due, so that a file's rows arrive as they happened, `speed` times as fast; 0: at once."""

    def __init__(self, speed: float, stamp: str = "ts_recv_ns") -> None:
        self._speed, self._stamp = speed, stamp
        self._begin: tuple[int, float] | None = None  # an event time, and the wall time it is due

    def pieces(self, batches: Batches) -> Iterator[tuple[float, Batches]]:
        """Yield `batches` cut by the vendor's capture time, each piece with the monotonic second it is due.

        Rows keep their order; a row that is older than one before it is due with that one.
        """
        if self._speed == 0 or not batches:
            yield 0.0, batches
            return
        stamps = [np.maximum.accumulate(batch[self._stamp].to_numpy()) for _, batch in batches]
        if self._begin is None:
            self._begin = (min(int(times[0]) for times in stamps), clock.monotonic_s())
        begin_ns, begin_s = self._begin
        quantum = max(int(QUANTUM_NS * self._speed), 1)
        slots = [np.maximum(times - begin_ns, 0) // quantum for times in stamps]
        for slot in np.unique(np.concatenate(slots)).tolist():
            piece = []
            for (schema, batch), own in zip(batches, slots, strict=True):
                start, end = np.searchsorted(own, [slot, slot + 1]).tolist()
                if end > start:
                    piece.append((schema, batch.slice(start, end - start)))
            yield begin_s + slot * quantum / self._speed / clock.NS_PER_SECOND, piece


def _per_schema(stream_rows: dict[str, int]) -> dict[str, int]:
    return {stream.partition("/")[0]: rows for stream, rows in stream_rows.items() if rows}

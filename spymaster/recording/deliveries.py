"""Every feed's deliveries, one after another, each feed in a task of its own."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from spymaster.errors import BronzeRefusedError, SourceError
from spymaster.events import Stream
from spymaster.events.captures import Capture, CaptureSummary, capture_id_of
from spymaster.feeds.feed import Delivery, Feed
from spymaster.normalize.open import normalizer_of
from spymaster.recording.capture import OpenCapture
from spymaster.recording.delivery import DefectError, DeliveryRecording
from spymaster.recording.drain import BRONZE_RETRY_S
from spymaster.recording.pace import Pacer
from spymaster.recording.quarantine import Quarantine
from spymaster.recording.recorder import Recorder

NORMALIZE_THREADS: Final = 4
KEPT_SUMMARIES: Final = 1_000  # of the newest deliveries; a live feed has one for each connection


class Deliveries:
    """Records what feeds deliver.

    Attributes:
        summaries: what became of the newest deliveries, filled while they are recorded.
        forgotten_rows: rows per schema of deliveries whose summaries are gone.
        stopping: set when every delivery is to end.
    """

    def __init__(self, recorder: Recorder, quarantine_root: Path, speed: float) -> None:
        """Record nothing yet.

        Args:
            recorder: where rows go.
            quarantine_root: where unreadable messages go.
            speed: event time per wall time of what is paced; 0 is as fast as it goes.
        """
        self.summaries: deque[CaptureSummary] = deque()
        self.forgotten_rows: Counter[str] = Counter()
        self.stopping = asyncio.Event()
        self._recorder, self._quarantine_root, self._speed = recorder, quarantine_root, speed
        self._threads = ThreadPoolExecutor(NORMALIZE_THREADS, "normalize")
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._read: set[int] = set()  # captures of files, of this run

    def stop(self) -> None:
        """End every delivery, also one that waits for its vendor."""
        self.stopping.set()
        self._recorder.change.happened()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def record(self, source: str, feed: Feed) -> None:
        """Record a feed until it ends, or `stop`.

        Raises:
            StorageError: the disk refused for good.
        """
        deliveries = feed.deliveries(self._recorder.frontiers)
        before: OpenCapture | None = None
        while not self.stopping.is_set():
            summary = self._summary(source)
            try:
                delivery = await self._next(deliveries)
                if delivery is None:
                    self.summaries.remove(summary)
                    return
                summary.origin = delivery.info.origin
                before = await self._record(delivery, feed, summary, before) or before
            except SourceError as error:  # of this delivery alone; the next one may be sound
                summary.error = str(error)
            except DefectError as error:  # which the next delivery would meet again
                summary.error = str(error)
                return

    def _summary(self, source: str) -> CaptureSummary:
        self.summaries.append(CaptureSummary(origin=source))
        if len(self.summaries) > KEPT_SUMMARIES:
            self.forgotten_rows.update(self.summaries.popleft().rows)
        return self.summaries[-1]

    async def _next(self, deliveries: AsyncIterator[Delivery]) -> Delivery | None:
        """Return the next delivery; None if there is none, or the run is to end first."""

        async def following() -> Delivery | None:
            return await anext(deliveries, None)

        opening = asyncio.create_task(following())
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return opening.result() if opening.done() else None
        finally:
            for task in (opening, stopped):
                task.cancel()
            await asyncio.gather(opening, stopped, return_exceptions=True)

    async def _record(
        self, delivery: Delivery, feed: Feed, summary: CaptureSummary, before: OpenCapture | None
    ) -> OpenCapture | None:
        """Record one delivery; return its capture, or None if nothing of it was to be read."""
        info = delivery.info
        # In a thread, as a normalizer of frames waits for its scanner, on a new machine some seconds.
        normalizer = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: normalizer_of(info.encoding, origin=info.origin, simulated=info.simulated)
        )
        capture = Capture(
            capture_id_of(info.content_sha256, normalizer.version),
            normalizer.source,
            info.origin,
            info.content_sha256,
            normalizer.version,
            tuple(Stream(*names) for names in normalizer.streams.items()),
        )
        summary.capture_id = capture.capture_id
        recording = DeliveryRecording(
            self._recorder,
            delivery,
            normalizer,
            self._recorder.capture(capture, "wait" if feed.waits else "give_up", self.stopping.is_set),
            Quarantine(self._quarantine_root, capture, waits=feed.waits, health=self._recorder.health),
            Pacer(self._speed, feed.pace_by),
            summary,
            waits=feed.waits,
            stopping=self.stopping,
            threads=self._threads,
        )
        turn = self._turns.setdefault(capture.capture_id, asyncio.Lock())
        async with turn:  # the same file may be named twice
            if info.content_sha256 is not None:
                if capture.capture_id in self._read and not await self._in_bronze():
                    return None
                self._read.add(capture.capture_id)
            await recording.record(before)
        return recording.opened

    async def _in_bronze(self) -> bool:
        """Wait until what this run recorded is in Bronze, where the catalog finds it; False if the run is to end."""
        while not self.stopping.is_set():
            try:
                await self._recorder.flush()
                return True
            except BronzeRefusedError:
                await self._recorder.change.until(self.stopping.is_set, BRONZE_RETRY_S)
        return False

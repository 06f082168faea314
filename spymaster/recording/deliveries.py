"""Every feed's deliveries, one after another, each feed in a task of its own."""

import asyncio
import gc
from collections import Counter, deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from spymaster.errors import BronzeRefusedError, SourceError
from spymaster.events import Stream
from spymaster.events.captures import Capture, CaptureSummary, capture_id_of
from spymaster.events.encoding import Encoding
from spymaster.feeds.feed import Delivery, Feed
from spymaster.lake import layout
from spymaster.normalize.open import normalizer_of
from spymaster.recording.capture import OpenCapture
from spymaster.recording.definitions import definitions_for
from spymaster.recording.delivery import DefectError, DeliveryRecording
from spymaster.recording.drain import BRONZE_RETRY_S
from spymaster.recording.pace import Pacer
from spymaster.recording.quarantine import Quarantine
from spymaster.recording.recorder import Recorder

KEPT_SUMMARIES: Final = 1_000  # of the newest deliveries that ended; a live feed has one for each connection


class Deliveries:
    """Records what feeds deliver.

    Attributes:
        summaries: what became of the newest deliveries, filled while they are recorded.
        forgotten_rows: rows per schema of deliveries whose summaries are gone.
        stopping: set when every delivery is to end.
    """

    def __init__(self, recorder: Recorder, data_root: Path, speed: float) -> None:
        """Record nothing yet.

        Args:
            recorder: where rows go.
            data_root: the lake, which knows definitions, and where unreadable messages go.
            speed: event time per wall time of what is paced; 0 is as fast as it goes.
        """
        self.summaries: list[CaptureSummary] = []
        self.forgotten_rows: Counter[str] = Counter()
        self.stopping = asyncio.Event()
        self._recorder, self._data_root, self._speed = recorder, data_root, speed
        self._ended: deque[CaptureSummary] = deque()  # of `summaries`, oldest first
        self._forgotten_errors = 0
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._loaded: set[type[Encoding]] = set()  # whose normalizers' libraries are
        self._read: set[int] = set()  # captures of files, of this run

    @property
    def rows(self) -> dict[str, int]:
        """Rows per schema that all deliveries gave, recorded now or before."""
        rows = Counter(self.forgotten_rows)
        for summary in self.summaries:
            rows.update(summary.rows)
        return dict(rows)

    def stop(self) -> None:
        """End every delivery, also one that waits for its vendor."""
        self.stopping.set()
        self._recorder.change.happened()

    def close(self) -> None:
        """Give the garbage collector back what was kept from it, once every feed has ended."""
        gc.unfreeze()  # or libraries that look for leaks at the process's end would find some

    async def record(self, source: str, feed: Feed) -> None:
        """Record a feed until it ends, or `stop`.

        Raises:
            StorageError: the disk refused for good.
        """
        deliveries = feed.deliveries(self._recorder.frontiers)
        threads = ThreadPoolExecutor(1, "normalize")  # the feed's own, so that no other waits for its slow bursts
        before: OpenCapture | None = None
        try:
            while (delivery := await self._next(source, deliveries)) is not None:
                summary = CaptureSummary(delivery.info.origin)
                self.summaries.append(summary)
                try:
                    recording = await self._opened(delivery, feed, summary, threads)
                    if await self._record(recording, before):
                        before = recording.opened
                    if recording.defective and not feed.waits:
                        return  # the vendor's next delivery would meet it again
                except SourceError as error:  # nothing reads this one; the next may be sound
                    summary.error = str(error)
                    self._tell_refused(summary)
                finally:
                    await delivery.close()
                    self._forget(summary)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _forget(self, ended: CaptureSummary) -> None:
        """Let the oldest that ended go, beyond `KEPT_SUMMARIES`; its rows and that it had an error are still told."""
        self._ended.append(ended)
        if len(self._ended) > KEPT_SUMMARIES:
            oldest = self._ended.popleft()
            self.summaries = [summary for summary in self.summaries if summary is not oldest]
            self.forgotten_rows.update(oldest.rows)
            if oldest.error is not None:
                self._forgotten_errors += 1
                self._recorder.health.problem(
                    "forgotten deliveries",
                    f"{self._forgotten_errors} deliveries before the newest {KEPT_SUMMARIES} had an error, the last "
                    f"of them: {oldest.error}",
                )

    async def _next(self, source: str, deliveries: AsyncIterator[Delivery]) -> Delivery | None:
        """Return the next delivery that opens; None if there is none, or the run is to end first."""
        while not self.stopping.is_set():
            try:
                return await self._following(source, deliveries)
            except SourceError as error:  # of that one alone
                self._refused(source, error)
            except DefectError as error:
                self._refused(source, error)
                return None
        return None

    def _refused(self, source: str, error: Exception) -> None:
        summary = CaptureSummary(source, error=str(error))
        self.summaries.append(summary)
        self._tell_refused(summary)
        self._forget(summary)

    def _tell_refused(self, summary: CaptureSummary) -> None:
        self._recorder.health.journal.event(
            "source.refused", origin=summary.origin, capture_id=summary.capture_id, reason=summary.error
        )

    async def _following(self, source: str, deliveries: AsyncIterator[Delivery]) -> Delivery | None:
        async def following() -> Delivery | None:
            try:
                return await anext(deliveries, None)
            except SourceError:
                raise
            except Exception as error:  # whatever a defect raises: one feed's may not end what others send
                raise DefectError(
                    f"{source} ends here: a defect in its feed ({type(error).__name__}: {error}). What came before is "
                    f"recorded, other sources go on. Next: report it"
                ) from error

        opening = asyncio.create_task(following())
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return opening.result() if opening.done() else None
        finally:
            for task in (opening, stopped):
                task.cancel()
            await asyncio.gather(opening, stopped, return_exceptions=True)

    async def _opened(
        self, delivery: Delivery, feed: Feed, summary: CaptureSummary, threads: ThreadPoolExecutor
    ) -> DeliveryRecording:
        """Return what records a delivery.

        Raises:
            SourceError: nothing reads it.
        """
        info = delivery.info
        # In a thread, as a normalizer of frames waits for its scanner, on a new machine some seconds.
        normalizer = await asyncio.get_running_loop().run_in_executor(
            threads,
            lambda: normalizer_of(
                info.encoding,
                origin=info.origin,
                simulated=info.simulated,
                defined=definitions_for(self._data_root, info.encoding, info.origin),
            ),
        )
        if type(info.encoding) not in self._loaded:
            # What stays is 160,000 objects, and to look through them for garbage holds every thread up for 0.1 s.
            self._loaded.add(type(info.encoding))
            gc.freeze()
        capture = Capture(
            capture_id_of(info.content_sha256, normalizer.version),
            normalizer.source,
            info.origin,
            info.content_sha256,
            normalizer.version,
            tuple(Stream(*names) for names in normalizer.streams.items()),
        )
        summary.capture_id = capture.capture_id
        return DeliveryRecording(
            self._recorder,
            delivery,
            normalizer,
            self._recorder.capture(capture, "wait" if feed.waits else "give_up", self.stopping.is_set),
            Quarantine(layout.quarantine(self._data_root), capture, waits=feed.waits, health=self._recorder.health),
            Pacer(self._speed, feed.pace_by),
            summary,
            waits=feed.waits,
            stopping=self.stopping,
            threads=threads,
        )

    async def _record(self, recording: DeliveryRecording, before: OpenCapture | None) -> bool:
        """Record one delivery; return whether anything of it was to be read."""
        capture = recording.opened.capture
        turn = self._turns.setdefault(capture.capture_id, asyncio.Lock())
        async with turn:  # the same file may be named twice
            if capture.content_sha256 is not None:
                if capture.capture_id in self._read and not await self._in_bronze():
                    return False
                self._read.add(capture.capture_id)
            await recording.record(before)
        return True

    async def _in_bronze(self) -> bool:
        """Wait until what this run recorded is in Bronze, where the catalog finds it; False if the run is to end.

        Or set aside: that gets there with the next start, which leaves out what was recorded again.
        """
        while not self.stopping.is_set():
            try:
                await self._recorder.flush()
                return True
            except BronzeRefusedError:
                if not self._recorder.drain.waiting:
                    return True
                await self._recorder.change.until(self.stopping.is_set, BRONZE_RETRY_S)
        return False

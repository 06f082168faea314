"""One delivery: begin, bursts, end. The order of the lines in `_bursts` is the guarantee."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from typing import TypeVar

from spymaster import clock
from spymaster.errors import DiskFullError, FeedLostError, SourceError, StorageError, UsageError
from spymaster.events.captures import CaptureSummary
from spymaster.events.encoding import Dbn, Encoding, MassiveDayFile
from spymaster.events.gaps import Gap, gap_id
from spymaster.feeds.feed import Burst, Delivery, Frontiers, Lost
from spymaster.lake.catalog import CaptureRecord
from spymaster.normalize.normalizer import Normalized, Normalizer, Unreadable
from spymaster.recording.capture import OpenCapture, StoppedError
from spymaster.recording.health import Health
from spymaster.recording.pace import Pacer
from spymaster.recording.quarantine import Quarantine
from spymaster.recording.recorder import Recorder
from spymaster.recording.told import Told

_STOPPED = "stopped before its end"
_Result = TypeVar("_Result")


class DefectError(Exception):
    """A feed or a normalizer raised what it never should. Its delivery ends; the others go on."""


class DeliveryRecording:
    """Carries one delivery into the log. Its capture's begin is durable before the first row, its end after the last.

    Attributes:
        opened: its capture.
        summary: what became of it, filled meanwhile.
        defective: a defect of ours ended it, or a row that no log can take.
    """

    def __init__(
        self,
        recorder: Recorder,
        delivery: Delivery,
        normalizer: Normalizer,
        opened: OpenCapture,
        quarantine: Quarantine,
        pacer: Pacer,
        summary: CaptureSummary,
        *,
        waits: bool,
        stopping: asyncio.Event,
        threads: Executor,
    ) -> None:
        """Record nothing yet.

        Args:
            recorder: where rows go.
            delivery: what gives bursts.
            normalizer: what reads them.
            opened: what numbers and appends the rows.
            quarantine: what keeps messages that do not read.
            pacer: what says when rows are due.
            summary: what is filled in.
            waits: whether the source can wait for a full disk, as a file can.
            stopping: set when the run is to end.
            threads: where bursts are normalized.
        """
        self.opened, self.summary, self.defective = opened, summary, False
        self._recorder, self._delivery, self._normalizer = recorder, delivery, normalizer
        self._quarantine, self._pacer, self._waits = quarantine, pacer, waits
        self._stopping, self._threads = stopping, threads
        self._told = Told(recorder.health, opened.capture)
        self._byte = _header_bytes(delivery.info.encoding)  # where the next burst begins in the delivery

    async def record(self, before: OpenCapture | None) -> None:
        """Record the delivery to its end, or until the run is to end.

        Args:
            before: the feed's capture before this one, if there was one in this run.

        Raises:
            StorageError: the disk refused for good.
        """
        try:
            known = await self._begun(before)
        except StorageError as error:
            self.summary.error = str(error)
            self._told.refused(self.summary.error)
            return
        if whole := next((record for record in known if record.event == "end" and record.complete), None):
            self.summary.already_captured = self.summary.complete = True
            self.summary.rows = _per_schema(whole.stream_rows)
            self._told.known(self.summary.rows)
            await _tell(self._delivery, self.summary, self._recorder.health)
            return
        detail = None
        try:
            await self._bursts()
            if self._stopping.is_set() and self._waits:
                detail = _STOPPED
        except StoppedError:
            detail = _STOPPED
        except FeedLostError as lost:
            detail = f"{lost.cause}: {lost.evidence}"
            self._told.lost(lost)
        except (SourceError, DefectError, UsageError) as error:
            detail = self.summary.error = str(error)
            self.defective = not isinstance(error, SourceError)
            self._told.refused(detail)
        finally:
            self._count()
        await self._ended(known, detail)

    async def _begun(self, before: OpenCapture | None) -> list[CaptureRecord]:
        """Return the begins and ends that are on record of a capture; where there are none, record that it begins.

        Raises:
            DiskFullError: there is no room for that, and the run is to end.
            StorageError: of a file's, the catalog may lack some.
        """
        capture, known = self.opened.capture, []
        if capture.content_sha256 is not None:  # the others' ids were drawn just now
            catalog = await self._recorder.whole_catalog(self._stopping.is_set)
            if catalog is None:
                raise StorageError(
                    f"{capture.origin} was not read: the run ended while rows that a crash had left were not in Bronze "
                    f"yet. Nothing is lost. Next: run the same command again"
                )
            known = await self._in_thread(lambda: catalog.captures(capture.capture_id))
        if not known:
            await self._when_there_is_room(lambda: self._recorder.begin(capture))
        self._told.begun(self._delivery.info.after, again=bool(known))
        if gaps := _gaps(self._delivery.info.after, before, self.opened, self._recorder.frontiers):
            await self._when_there_is_room(lambda: self._recorder.own.record_gaps(gaps))
        return known

    async def _bursts(self) -> None:
        """Normalize a burst, keep what does not read, append the rest when it is due; and again.

        Raises:
            FeedLostError, SourceError: what the delivery or its reader says.
            DefectError: a defect in the feed, or in the normalizer; then the bytes of its burst are in quarantine.
            UsageError: no log can take a row: it is too large, or its stream's name is.
            StoppedError: the run ended while a file waited for room.
            StorageError: the disk refused for good.
        """
        closing = asyncio.create_task(self._close_at_stop())
        try:
            async with aclosing(self._delivered()) as bursts:
                async for burst in bursts:
                    normalized = await self._normalized(burst)
                    await self._keep(normalized.unreadable)
                    self._told.warned(normalized.warnings)
                    for due_s, batches in self._pacer.pieces(normalized.batches):
                        await self._wait_until(due_s)
                        for schema, batch in batches:
                            await self.opened.append(schema.name, batch)
                    self._count()
                    if self._stopping.is_set() and self._waits:  # what a live vendor has sent is taken to its end
                        return
            if not self._stopping.is_set():
                self._normalizer.finish()
        finally:
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)

    async def _delivered(self) -> AsyncGenerator[Burst]:
        """Yield the delivery's bursts.

        Raises:
            DefectError: the feed raised what it never should.
        """
        try:
            async with aclosing(self._delivery.bursts()) as bursts:
                async for burst in bursts:
                    yield burst
                    self._byte += sum(len(message.data) for message in burst)
        except (FeedLostError, SourceError):
            raise
        except Exception as error:  # whatever a defect raises: one feed's may not end what others send
            raise self._defect(f"a defect in the feed of {self.opened.capture.source}", error, "") from error

    async def _close_at_stop(self) -> None:
        await self._stopping.wait()
        await self._delivery.close()

    async def _normalized(self, burst: Burst) -> Normalized:
        try:
            return await self._in_thread(lambda: self._normalizer.normalize(burst))
        except SourceError:
            raise
        except Exception as error:  # whatever a defect raises: one vendor's may not end what others send
            defect = self._defect(
                f"a defect in the normalizer of {self.opened.capture.source}",
                error,
                "the bytes of this burst are in quarantine, ",
            )
            data = b"".join(message.data for message in burst)
            await self._keep([Unreadable(data, str(defect), self._byte)])
            raise defect from error

    def _defect(self, what: str, error: Exception, kept: str) -> DefectError:
        capture = self.opened.capture
        return DefectError(
            f"{capture.origin} ends here: {what} ({type(error).__name__}: {error}). What came before is recorded, "
            f"{kept}other sources go on. Next: report it with what is kept of capture {capture.capture_id:016x}"
        )

    async def _keep(self, unreadable: Sequence[Unreadable]) -> None:
        if unreadable and not await self._quarantine.keep(unreadable, self._stopping):
            raise StoppedError

    async def _wait_until(self, due_s: float) -> None:
        """Wait until a paced piece is due, or the run is to end; always let other tasks in."""
        delay = due_s - clock.monotonic_s()
        if delay <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):  # `wait_for` may swallow a cancellation
                await self._stopping.wait()

    async def _ended(self, known: list[CaptureRecord], detail: str | None) -> None:
        """Record the end, and tell the feed that it is on record."""
        summary, given_up = self.summary, self.opened.given_up_rows
        if given_up:
            lost = f"{given_up} rows were given up: the log's disk was full"
            detail = summary.error = lost if detail is None else f"{detail}; {lost}"
        else:
            summary.error = summary.error or self._quarantine.lost
        await self._when_there_is_room(lambda: self._record_end(known, detail))
        summary.complete = detail is None
        self._told.ended(summary, detail)
        await _tell(self._delivery, self.summary, self._recorder.health)

    async def _record_end(self, known: list[CaptureRecord], detail: str | None) -> None:
        """Record the end; where the same end is on record already, a repeated reading adds nothing."""
        rows = self.opened.rows
        counts = {str(stream): count for stream, count in rows.items()}
        if not any(
            record.event == "end" and (record.stream_rows, record.detail) == (counts, detail) for record in known
        ):
            await self._recorder.end(self.opened.capture, rows, complete=detail is None, detail=detail)

    async def _when_there_is_room(self, step: Callable[[], Awaitable[None]]) -> None:
        """Carry a step out, waiting while the disk is full.

        Raises:
            DiskFullError: it is, and the run is to end.
        """
        while True:
            try:
                await step()
            except DiskFullError:
                if not await self._recorder.room.wait(self._stopping.is_set):
                    raise
            else:
                return

    def _count(self) -> None:
        summary, opened = self.summary, self.opened
        summary.rows = {stream.schema: count for stream, count in opened.rows.items() if count}
        summary.given_up, summary.appended = opened.given_up_rows, opened.appended_rows
        summary.unreadable = self._quarantine.unreadable
        summary.ignored, summary.odd = dict(self._normalizer.ignored), dict(self._normalizer.odd)
        summary.unmapped = self._normalizer.unmapped

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _gaps(lost: Lost | None, before: OpenCapture | None, opened: OpenCapture, frontiers: Frontiers) -> list[Gap]:
    """Return what a delivery says was lost before it: of each stream, from its newest durable time on."""
    if lost is None:
        return []
    gaps = []
    for stream in (before or opened).capture.streams:
        capture_id = None if before is None else before.capture.capture_id
        seen = None if before is None else before.next_seq(stream.schema)
        start_ns = frontiers.get(stream)
        identity = gap_id(lost.cause, stream, capture_id or opened.capture.capture_id, seen)
        detail = f"{stream}: {lost.evidence}"
        gaps.append(Gap(lost.cause, stream, capture_id, None, None, None, start_ns, None, detail, identity))
    return gaps


def _header_bytes(encoding: Encoding) -> int:
    return len(encoding.header) if isinstance(encoding, Dbn | MassiveDayFile) else 0


async def _tell(delivery: Delivery, summary: CaptureSummary, health: Health) -> None:
    """Let a delivery take note of its own that it is on record; that it could not is a problem of the run."""
    try:
        await delivery.recorded(summary)
    except OSError as error:
        health.problem(
            f"recorded {summary.origin}", f"{summary.origin} is recorded; its own note of that failed: {error}"
        )


def _per_schema(stream_rows: dict[str, int]) -> dict[str, int]:
    return {stream.partition("/")[0]: rows for stream, rows in stream_rows.items() if rows}

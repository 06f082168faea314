"""Sealed segments -> Bronze, oldest first, in one thread; what was refused is tried again.

In this order, each step once the one before is done: Bronze's lock, where the start did not get it; drafts go; the
catalog; what salvage left, always by recovery's second rule; then what this run seals. No state of Bronze's disk, of
the catalog or of the lake's size delays a live row.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from spymaster import clock
from spymaster.errors import (
    BronzeRefusedError,
    LayoutError,
    LockedError,
    StorageError,
    UsageError,
    WalError,
)
from spymaster.lake.bronze import Part
from spymaster.lake.catalog import Catalog
from spymaster.lake.layout import Tier
from spymaster.recording.change import Change
from spymaster.recording.disk import Disk
from spymaster.recording.durations import Durations
from spymaster.recording.flush import Flushed, flush
from spymaster.recording.health import Health
from spymaster.recording.own_lake import OwnLake

if TYPE_CHECKING:
    from spymaster.recording.lane import Lane

BRONZE_RETRY_S: Final = 3.0  # after a refusal, until the next try of a segment that was refused


@dataclass(eq=False)
class Sealed:
    """A sealed segment on its way to Bronze.

    Attributes:
        path: where it lies.
        lane: the stream that sealed it; None for what salvage left.
        sealed_at_s: the monotonic second of its sealing, or of this start.
        left_rows: what salvage left in it; 0 of a stream's, which counts its own.
        refusals: tries that failed.
        reason: why no try of this run can succeed.
    """

    path: Path
    lane: "Lane | None"
    sealed_at_s: float
    left_rows: int = 0
    refusals: int = 0
    reason: str | None = None
    asked: list[asyncio.Future[str | None]] = field(default_factory=list)

    def tell(self, refusal: str | None) -> None:
        """Answer whoever waits for the next try: why it was refused, or None."""
        for answer in self.asked:
            if not answer.done():
                answer.set_result(refusal)
        self.asked.clear()


class Drain:
    """Brings sealed segments to Bronze. The event loop owns its state; its thread takes values and returns some.

    Attributes:
        catalog: the lake's index, once it is open.
        waiting: sealed segments that are not in Bronze, oldest first.
        set_aside: those that no try of this run can bring there; the next start salvages what is sound in them.
        recovered: parts made of what salvage left.
        parts_written: parts of this run.
        flush_seconds: how long the newest segment took to become Bronze.
        durations: how long each of this run took.
    """

    def __init__(
        self, own_lake: OwnLake, data_root: Path, *, disk: Disk, health: Health, change: Change, retry_s: float
    ) -> None:
        self.catalog: Catalog | None = None
        self.waiting: list[Sealed] = []
        self.set_aside: list[Sealed] = []
        self.recovered: list[Part] = []
        self.parts_written, self.flush_seconds = 0, 0.0
        self.durations = Durations()
        self._own_lake, self._data_root, self._bronze = own_lake, data_root, Tier.BRONZE.of(data_root)
        self._disk, self._health, self._change, self._retry_s = disk, health, change, retry_s
        self._behind = False  # the catalog, of parts that are published
        self._layout: str | None = None  # why Bronze stops until it is asked for: the lake is laid out otherwise
        self._retry_at_s = 0.0
        self._asked: list[asyncio.Future[str | None]] = []  # for the next try to open Bronze
        self._opening: Future[Catalog] | None = None  # the newest try
        self._pool = ThreadPoolExecutor(1, "bronze")

    def add(self, path: Path, lane: "Lane | None" = None, left_rows: int = 0) -> None:
        """Queue a sealed segment: of a stream, or with so many rows that salvage left."""
        self.waiting.append(Sealed(path, lane, clock.monotonic_s(), left_rows))
        self._change.happened()

    @property
    def left_rows(self) -> int:
        """Rows that salvage left and that are not in Bronze."""
        return sum(segment.left_rows for segment in [*self.waiting, *self.set_aside])

    def takes(self, lane: "Lane") -> bool:
        """Whether sealing makes Bronze of rows, or only one more segment that waits, as behind what the start found."""
        if self._disk.bronze_stopped or self.catalog is None:
            return False
        return not any(segment.lane is lane if segment.refusals else segment.lane is None for segment in self.waiting)

    async def run(self) -> None:
        """Open Bronze, then flush one segment after another. Without end."""
        while self.catalog is None:
            if self._layout is None or self._asked:
                await self._open()
            if self.catalog is None:
                await self._change.until(lambda: bool(self._asked), self._retry_s)
        while True:
            segment = self._due()
            if segment is not None:
                await self._flush(segment)
            else:
                await self._change.until(lambda: self._due() is not None, self._retry_s)

    async def _open(self) -> None:
        refusal = None
        try:
            self._opening = self._pool.submit(self._own_lake.open)
            self.catalog = await asyncio.wrap_future(self._opening)
            self._layout = None
            self._health.mended("bronze")
            if self.catalog.strangers is not None:
                self._health.say(self.catalog.strangers)
                self._health.journal.event("bronze.foreign", text=self.catalog.strangers)
        except LayoutError as error:
            refusal = self._layout = str(error)
        except (OSError, sqlite3.Error, LockedError, UsageError, StorageError) as error:
            refusal = f"{self._bronze} cannot be opened: {error}"
        if refusal is not None:
            self._health.problem("bronze", f"rows wait in the log for Bronze, which does not open: {refusal}")
        for answer in self._asked:
            if not answer.done():
                answer.set_result(refusal)
        self._asked.clear()
        self._change.happened()

    def _due(self) -> Sealed | None:
        """Return the segment to flush next: the oldest that is new or, after a pause, was refused the fewest times.

        So one that no try can mend holds up no other, and a disk that refuses all of them is asked once in a while.
        """
        if asked := next((segment for segment in self.waiting if segment.asked), None):
            return asked
        segment = min(self.waiting, key=lambda segment: segment.refusals, default=None)
        if segment is None or self._disk.bronze_stopped:
            return None
        return segment if segment.refusals == 0 or clock.monotonic_s() >= self._retry_at_s else None

    async def _flush(self, segment: Sealed) -> None:
        started = clock.monotonic_s()
        again = segment.lane is None or segment.refusals > 0  # then some of it may be published
        refusal = None
        try:
            flushed = await self._in_thread(self._make_bronze, segment.path, again, self._behind)
        except (OSError, WalError, UsageError, pa.ArrowException) as error:
            refusal = f"{segment.path.name} was not flushed: {error}"
            self._behind = True  # of parts that this try published
            if segment.refusals == 0:
                self._health.journal.event("bronze.refused", segment=segment.path.name, reason=str(error))
            if isinstance(error, OSError):
                segment.refusals += 1
                self._retry_at_s = clock.monotonic_s() + self._retry_s
            else:
                segment.reason = refusal
                self._health.alarm(segment.path.name, refusal)
                self.waiting.remove(segment)
                self.set_aside.append(segment)
        else:
            self._done(segment, flushed)
            self.flush_seconds = clock.monotonic_s() - started
            self.durations.took(self.flush_seconds)
        refused = sum(1 for waiting in self.waiting if waiting.refusals)
        if refused == 0:
            self._health.mended("bronze")
        elif refusal is not None:
            self._health.problem("bronze", f"{refused} segments wait in the log for Bronze, which refused: {refusal}")
        segment.tell(refusal)
        self._change.happened()

    def _done(self, segment: Sealed, flushed: Flushed) -> None:
        self.waiting.remove(segment)
        self.parts_written += len(flushed.parts)
        if segment.lane is None:
            self.recovered += flushed.parts
            if not any(other.lane is None for other in self.waiting):
                took_s = round(clock.monotonic_s() - segment.sealed_at_s, 3)
                rows, parts = sum(part.rows for part in self.recovered), len(self.recovered)
                self._health.journal.event("recovery.done", rows=rows, parts=parts, seconds=took_s)
        else:
            segment.lane.flushed_rows += flushed.rows
        self._behind = flushed.behind is not None
        if flushed.behind is None:
            self._health.mended("catalog")
        else:
            self._health.problem("catalog", f"the catalog is behind: {flushed.behind}")

    def _make_bronze(self, path: Path, again: bool, behind: bool) -> Flushed:
        """Flush a segment, and let the catalog catch up where it is behind. Runs in the thread."""
        flushed = flush(self._bronze, self._indexed(), path, again=again)
        if behind and flushed.behind is None:
            try:
                self._indexed().refresh()
            except (sqlite3.Error, LayoutError) as error:
                return flushed._replace(behind=str(error))
        return flushed

    def _indexed(self) -> Catalog:
        assert self.catalog is not None  # noqa: S101  # nothing is flushed before it is open
        return self.catalog

    async def whole_catalog(self, ended: Callable[[], bool]) -> Catalog | None:
        """Return the catalog once everything that the start found is in Bronze and it knows every part.

        Args:
            ended: what ends the waiting.

        Returns:
            None where the waiting ended first.

        Raises:
            StorageError: it is kept from that for as long as this run lasts.
        """

        def whole() -> bool:
            return self.catalog is not None and not any(segment.lane is None for segment in self.waiting)

        await self._change.until(lambda: whole() or ended() or self._why_not_whole is not None)
        if self._why_not_whole is not None:
            raise _not_known(self._data_root, self._why_not_whole)
        if not whole():
            return None
        if self._behind:
            try:
                await self._in_thread(self._indexed().refresh)
            except (sqlite3.Error, LayoutError, OSError) as error:
                raise _not_known(self._data_root, str(error)) from error
            self._behind = False
            self._health.mended("catalog")
        return self.catalog

    @property
    def _why_not_whole(self) -> str | None:
        return self._layout or next((segment.reason for segment in self.set_aside if segment.lane is None), None)

    async def try_all(self) -> list[str]:
        """Try every segment that waits once more, and return why some were refused.

        Raises:
            StorageError: the recording ended meanwhile.
        """
        loop = asyncio.get_running_loop()
        refusals: list[str] = []
        if self.catalog is None:
            opened: asyncio.Future[str | None] = loop.create_future()
            self._asked.append(opened)
            refusals += [refusal for refusal in await self._answered([opened]) if refusal is not None]
        if not refusals:
            answers: list[asyncio.Future[str | None]] = [loop.create_future() for _ in self.waiting]
            for segment, answer in zip(self.waiting, answers, strict=True):
                segment.asked.append(answer)
            refusals += [refusal for refusal in await self._answered(answers) if refusal is not None]
        return refusals

    async def _answered(self, answers: list[asyncio.Future[str | None]]) -> list[str | None]:
        for answer in answers:
            answer.add_done_callback(lambda _: self._change.happened())
        self._change.happened()
        await self._change.until(lambda: self._health.has_failed or all(answer.done() for answer in answers))
        self._health.check()
        return [answer.result() for answer in answers]

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def close(self) -> None:
        """End the thread after what it does, and let the lock go."""
        self._pool.shutdown()
        opening = self._opening  # also of a catalog that was opened after its waiter had gone
        if opening is not None and not opening.cancelled() and opening.exception() is None:
            opening.result().close()
        self._own_lake.close()


def bronze_refused(wal_root: Path, refusals: list[str]) -> BronzeRefusedError:
    """Return the error that says that rows did not get into Bronze."""
    return BronzeRefusedError(
        f"rows are durable in {wal_root} and did not get into Bronze: {refusals[0]}. "
        f"Nothing is lost. Next: mend that, then spymaster recover"
    )


def _not_known(data_root: Path, reason: str) -> StorageError:
    return StorageError(
        f"the catalog of {data_root} is behind, so which rows of a file are recorded is not known: "
        f"{reason}. Nothing was read, so that none is recorded twice. Next: mend that, then do the same again"
    )

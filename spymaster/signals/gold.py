"""Gold as it happens: `levels.signals` from the bus, or from a program, into parts.

Encoding and publishing is done in a thread. What the bus was too fast for abandons the part that it belongs to, all of
it: a part with a hole would have the name of the whole one. Who keeps the snaps in a log makes that part from there.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from spymaster import clock
from spymaster.bus import Bus, Published, Skipped, Subscription
from spymaster.control import GoldGauges
from spymaster.errors import LayoutError, StorageError, UsageError
from spymaster.lake.gold import GOLD, LEVELS_SIGNALS, NOBODY, Footer, Parts, publish
from spymaster.lake.layout import Tier
from spymaster.signals.payload import flatten

MOST_WAITING: Final = 16  # parts that the disk refused; a minute each in the daemon. Beyond, the oldest is abandoned

Tell = Callable[[str], None]


class SignalsWriter:
    """Collects the snaps of any underlyings, and publishes each part of Gold once it is finished.

    Attributes:
        snaps: how many were taken.
        rows: rows of these.
        parts: how many were published.
        abandoned_rows: rows that are in no part: the bus was too fast, the disk refused for too long, or other rows
            had the part's name.
        flushed_ns: event time of the last row that is in a part; None before the first.
        flushed_s: monotonic time at which it got there.
    """

    def __init__(
        self,
        data_root: Path,
        *,
        buffer_limit: int,
        flush_interval_seconds: float,
        footer: Footer = NOBODY,
        tell: Tell = lambda line: None,
    ) -> None:
        """Prepare a writer; nothing is opened.

        Args:
            data_root: the lake.
            buffer_limit: rows after which a part ends, a snap never divided.
            flush_interval_seconds: of event time, at whose multiples a part ends.
            footer: what the rows were judged by.
            tell: called with a line for each part that is abandoned or refused.

        Raises:
            UsageError: no part could have that size.
        """
        self._span_ns = round(flush_interval_seconds * clock.NS_PER_SECOND)
        if self._span_ns <= 0 or buffer_limit <= 0:
            raise UsageError(
                f"a part of {buffer_limit} rows or {flush_interval_seconds} s has nothing in it. Nothing was written. "
                f"Next: give numbers above 0"
            )
        self._data_root, self._most_rows, self._footer, self._tell = data_root, buffer_limit, footer, tell
        self._parts: dict[str, Parts] = {}
        self._finished: deque[pa.Table] = deque()
        self._publishing = asyncio.Lock()
        self._subscription: Subscription | None = None
        self._reading: asyncio.Task[None] | None = None
        self.snaps = self.rows = self.parts = self.abandoned_rows = 0
        self.flushed_ns: int | None = None
        self.flushed_s: float | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows that are in no part yet."""
        return sum(part.rows for part in self._parts.values()) + sum(table.num_rows for table in self._finished)

    async def start(self, bus: Bus | None = None) -> None:
        """Follow a bus, from its next batch on; once.

        Args:
            bus: whose `levels.signals` are written.
        """
        if bus is None or self._reading is not None:
            return
        self._subscription = bus.subscribe(wants=lambda stream: stream.schema == LEVELS_SIGNALS.name)
        self._reading = asyncio.create_task(self._follow(self._subscription))

    async def stop(self) -> None:
        """Take what waits on the bus, and publish all, the open parts too.

        Raises:
            StorageError: the disk refused; what it refused is in no part.
        """
        if self._subscription is not None and self._reading is not None:
            self._subscription.close()  # ends the reading after what is queued
            await self._reading
            self._subscription = self._reading = None
        await self.flush()

    async def write_level_signals(self, payload: Mapping[str, Any]) -> None:
        """Write a snap, one row for each level; durable once its part is finished, or after `flush`.

        Args:
            payload: as docs/levels.signals.v1.schema.json describes it; what is absent is null.

        Raises:
            UsageError: it does not fit; nothing of it was written.
            StorageError: the disk refused a part; it is tried again with the next.
        """
        if finished := self._put(flatten(payload)):
            await self._publish(finished)

    async def flush(self) -> None:
        """Publish what there is, though its part be not finished; durable on return.

        Raises:
            StorageError: the disk refused; what it refused is tried again.
        """
        cut = [rest for parts in self._parts.values() if (rest := parts.cut()) is not None]
        refused, self._finished = [*self._finished], deque()
        await self._publish([*refused, *cut])

    def gauges(self) -> GoldGauges:
        """Return what `spymaster status` shows of it."""
        return {
            "following": self._reading is not None and not self._reading.done(),
            "snaps": self.snaps,
            "parts": self.parts,
            "waiting_rows": self.waiting_rows,
            "abandoned_rows": self.abandoned_rows,
            "flushed_ns": self.flushed_ns,
            "flushed_age_s": None if self.flushed_s is None else round(clock.monotonic_s() - self.flushed_s, 1),
        }

    def get_gold_path(self) -> str:
        """Return the folder that Gold lies in."""
        return str(Tier.GOLD.of(self._data_root))

    async def _follow(self, subscription: Subscription) -> None:
        async for item in subscription:
            finished = self._take(item) if isinstance(item, Published) else self._skip(item)
            if not finished:
                continue
            try:
                await self._publish(finished)
            except StorageError as error:
                self._tell(str(error))

    def _take(self, item: Published) -> list[pa.Table]:
        if not item.batch.schema.equals(GOLD):
            self._abandon(item.batch.num_rows, f"rows of {item.stream} are of another form than this version's")
            return []
        return self._put(item.batch)

    def _put(self, rows: pa.RecordBatch) -> list[pa.Table]:
        """Take rows; return the parts that are finished by that."""
        if not rows.num_rows:
            return []
        parts = self._of(rows.column("underlying")[0].as_py())
        skipped = parts.skipped_rows
        finished = parts.put(rows)
        self.abandoned_rows += parts.skipped_rows - skipped
        self.snaps += 1
        self.rows += rows.num_rows
        return finished

    def _of(self, underlying: str) -> Parts:
        if underlying not in self._parts:
            self._parts[underlying] = Parts(self._span_ns, self._most_rows)
        return self._parts[underlying]

    def _skip(self, skipped: Skipped) -> list[pa.Table]:
        finished, dropped = self._of(skipped.stream.symbol).skip(skipped.first_ns, skipped.last_ns)
        self._abandon(dropped + skipped.rows, "they were published faster than they were written")
        return finished

    def _abandon(self, rows: int, because: str) -> None:
        self.abandoned_rows += rows
        self._tell(
            f"{rows:,} rows of {LEVELS_SIGNALS.name} are in no part of Gold: {because}. All others are. Next: publish "
            f"them again; a daemon does, from system.snaps, when it starts"
        )

    async def _publish(self, finished: Sequence[pa.Table]) -> None:
        """Publish parts, behind those that the disk refused.

        Raises:
            StorageError: the disk refused; that part and those behind it wait for the next.
        """
        self._finished += finished
        async with self._publishing:
            while self._finished:
                await self._publish_one(self._finished.popleft())

    async def _publish_one(self, table: pa.Table) -> None:
        try:
            await asyncio.to_thread(publish, self._data_root, table, self._footer)
        except LayoutError as error:
            self.abandoned_rows += table.num_rows
            self._tell(str(error))
        except OSError as error:
            self._finished.appendleft(table)
            while len(self._finished) > MOST_WAITING:
                self._abandon(self._finished.popleft().num_rows, "the disk refused for too long")
            raise StorageError(
                f"a part of Gold with {table.num_rows:,} rows was not written ({error}). It is tried again with the "
                f"next. Next: check the disk of {self._data_root}"
            ) from error
        else:
            self.parts += 1
            self.flushed_ns, self.flushed_s = table["ts_event_ns"][-1].as_py(), clock.monotonic_s()

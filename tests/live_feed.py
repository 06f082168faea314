"""A live feed for tests: it has received what it is told, and then ends, fails or is silent."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from spymaster.events.captures import CaptureSummary
from spymaster.events.encoding import Dbn, Encoding
from spymaster.feeds.feed import Burst, Delivery, DeliveryInfo, Frontiers, Lost, RawMessage
from tests.normalize.dbn_bytes import es_header

SILENT = "silent"
ES_TRADES = Dbn(es_header())


class LiveDelivery:
    """One connection: bursts of messages, then its end, an error or silence."""

    def __init__(
        self,
        bursts: Sequence[Sequence[bytes]],
        end: BaseException | str | None = None,
        encoding: Encoding = ES_TRADES,
        after: Lost | None = None,
    ) -> None:
        self.info = DeliveryInfo("live", encoding, after=after)
        self.closed = asyncio.Event()
        self._bursts, self._end = bursts, end

    async def bursts(self) -> AsyncIterator[Burst]:
        for burst in self._bursts:
            yield [RawMessage(data, time.time_ns()) for data in burst]
        if self._end == SILENT:
            await self.closed.wait()
        elif isinstance(self._end, BaseException):
            raise self._end

    async def close(self) -> None:
        self.closed.set()

    async def recorded(self, outcome: CaptureSummary) -> None:
        pass


class LiveFeed:
    """Connects as often as it is told, or waits for ever before it does."""

    waits, pace_by = False, None

    def __init__(self, *deliveries: Delivery, end: BaseException | str | None = None) -> None:
        self._deliveries, self._end = deliveries, end

    async def deliveries(self, frontiers: Frontiers) -> AsyncIterator[Delivery]:
        for delivery in self._deliveries:
            yield delivery
        if self._end == SILENT:
            await asyncio.Event().wait()
        elif isinstance(self._end, BaseException):
            raise self._end

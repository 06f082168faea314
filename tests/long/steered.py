"""A simulated market whose connection a trial holds: it falls silent, is lost, or says that trading stops."""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Final

from spymaster.clock import NS_PER_SECOND, utc_now_ns
from spymaster.errors import FeedLostError
from spymaster.events.captures import CaptureSummary
from spymaster.feeds.feed import Burst, DeliveryInfo, Frontiers, Lost, RawMessage
from spymaster.simulation.dbn import HALTED, TRADING, status
from spymaster.simulation.source import SimFeed, dbn_info

LOOK_S: Final = 0.02
MAPPING: Final = 22  # the type of the records that name an instrument's id
BOOK: Final = 10  # of those with ten levels
FIRST_LEVEL: Final = 48  # bytes before its bid, which its ask follows
_MAPPINGS_MOST: Final = 3  # future, next future, spread


class SteeredFeed:
    """ES of a simulated market, as its events happen. Set from another thread what is to become of it.

    Attributes:
        silent: nothing comes; what happens meanwhile comes late.
        lost_s: set to more than 0: the connection goes, and comes back without that many seconds of the market.
        halted: the exchange's word.
        crossed: the best bid is above the best ask in each book.
    """

    waits, pace_by = False, None

    def __init__(self, described: str) -> None:
        """Describe the market as `sim:` does."""
        self._sim = SimFeed.parse(described)
        self.silent, self.lost_s, self.halted, self.crossed = False, 0.0, False, False

    async def deliveries(self, frontiers: Frontiers) -> AsyncIterator["SteeredDelivery"]:
        market = await anext(self._sim.deliveries(frontiers))
        paced = _Paced(market.bursts())
        info = dbn_info(self._sim.market)
        try:
            yield SteeredDelivery(self, paced, info)
            while True:
                yield SteeredDelivery(self, paced, replace(info, after=Lost("disconnect", "the trial has cut it")))
        finally:
            await market.close()


class _Paced:
    """The market's messages, each once its first event has happened."""

    def __init__(self, bursts: AsyncGenerator[Burst]) -> None:
        self._bursts = bursts
        self.mappings = b""
        self.event_ns = 0

    async def next(self) -> bytes:
        (message,) = await anext(self._bursts)
        self.event_ns = int(struct.unpack_from("<Q", message.data, 8)[0])
        self.mappings = self.mappings or _first_mappings(message.data)
        await asyncio.sleep(max(0.0, (self.event_ns - utc_now_ns()) / NS_PER_SECOND))
        return message.data

    async def skip(self, seconds: float) -> None:
        """Let so much of the market pass unseen."""
        until_ns = self.event_ns + int(seconds * NS_PER_SECOND)
        while self.event_ns < until_ns:
            await self.next()


def _first_mappings(data: bytes) -> bytes:
    """Return the mappings that a connection begins with, for the next one to begin with them too."""
    end = 0
    while end < len(data) and data[end + 1] == MAPPING:
        end += 4 * data[end]
    return data[:end]


class SteeredDelivery:
    """One connection."""

    def __init__(self, feed: SteeredFeed, market: _Paced, info: DeliveryInfo) -> None:
        self.info = info
        self._feed, self._market, self._halted = feed, market, False
        self._closed = asyncio.Event()

    async def bursts(self) -> AsyncGenerator[Burst]:
        if self.info.after is not None:
            yield [RawMessage(self._market.mappings, utc_now_ns())]
        while not self._closed.is_set():
            data = await self._market.next()
            while self._feed.silent and not self._closed.is_set():
                await asyncio.sleep(LOOK_S)
            if self._feed.lost_s:
                lost_s, self._feed.lost_s = self._feed.lost_s, 0.0
                await self._market.skip(lost_s)
                raise FeedLostError("disconnect", "the trial has cut it")
            data = _crossed(data) if self._feed.crossed else data
            yield [RawMessage(data, utc_now_ns()), *self._said()]

    def _said(self) -> list[RawMessage]:
        if self._feed.halted == self._halted:
            return []
        self._halted = self._feed.halted
        ids = _ids(self._market.mappings)
        now_ns = self._market.event_ns
        return [RawMessage(status(ids, HALTED if self._halted else TRADING, now_ns, now_ns), utc_now_ns())]

    async def close(self) -> None:
        self._closed.set()

    async def recorded(self, outcome: CaptureSummary) -> None:
        pass


def _crossed(data: bytes) -> bytes:
    """Return the records with bid and ask of each book's first level exchanged."""
    crossed, at = bytearray(data), 0
    while at < len(data):
        if data[at + 1] == BOOK:
            bid, ask = at + FIRST_LEVEL, at + FIRST_LEVEL + 8
            crossed[bid:ask], crossed[ask : ask + 8] = data[ask : ask + 8], data[bid:ask]
        at += 4 * data[at]
    return bytes(crossed)


def _ids(mappings: bytes) -> list[int]:
    """Return the ids of the futures: an id stands behind the type and the publisher of its record."""
    step = 4 * mappings[0]
    return [struct.unpack_from("<I", mappings, at * step + 4)[0] for at in range(_MAPPINGS_MOST)]

"""The four deliveries of one simulated market, in lockstep: ES as DBN, SPY's frames, its options' frames, its chain.

One session advances for all. Whoever wants a message and has none waiting does the next piece of the work, and what
that gives to the others waits in their queues. A queue that holds `MAX_WAITING_BYTES` stops everybody else from
advancing until its reader has taken some, or closes; so a delivery that nobody reads stops the others when its queue
is full, and a delivery that is far ahead waits. Nothing is ever dropped. What a delivery carries does not depend on
the order in which they are read, nor on which of them are open.

Why pieces and not a thread: a step of the market is tens of milliseconds of work, much of it in the interpreter, which
one thread has at a time; and a piece needs no lock. The event loop has its turn after each.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import utc_now_ns
from spymaster.feeds.feed import DeliveryInfo, RawMessage
from spymaster.simulation.dbn import HALTED, TRADING, Encoder, Records, announce, status
from spymaster.simulation.market import Session, Step
from spymaster.simulation.massive_json import (
    ChainState,
    chain_pages,
    frames,
    option_trade_events,
    stock_quote_events,
    stock_trade_events,
)
from spymaster.simulation.options import Board
from spymaster.simulation.stock import StockQuotes

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024  # in each queue; a step may go beyond it once, of DBN a piece
MESSAGE_NS = 25_000_000  # of event time in one message of DBN
MESSAGE_BYTES = 512 * 1024
PIECE_QUOTES: Final = 4_500  # of SPY, written at once


class Writer(Protocol):
    """Writes what one delivery carries."""

    def write(self, step: Step) -> Iterator[list[bytes]]:
        """Yield the messages of a step, in order: after each piece of the work, those that it gave."""
        ...


class DbnWriter:
    """ES futures and options, as a live gateway sends them."""

    def __init__(self, seed: int) -> None:
        self._encoder = Encoder((seed, 0, 2))

    def write(self, step: Step) -> Iterator[list[bytes]]:
        if step.opened:
            yield [announce(step.listing, step.begin, self._encoder.received(step.begin))]
        if step.halted is not None:
            action = HALTED if step.halted else TRADING
            received = self._encoder.received(step.begin)
            yield [status(step.listing.instrument_ids[:3], action, step.begin, received)]
        for tape in step.tapes:
            records = self._encoder.encode(tape, step.listing.instrument_ids)
            yield list(_messages(records, tape.arrival_ns))


class StockWriter:
    """SPY's trades and quotes, as websocket frames."""

    def write(self, step: Step) -> Iterator[list[bytes]]:
        if step.quotes is None or step.trades is None:
            return
        events = []
        for quotes in _parts(step.quotes):
            events.append(stock_quote_events(quotes))
            yield []
        events.append(stock_trade_events(step.trades))
        yield []
        arrival = np.concatenate([step.quotes.arrival_ns, step.trades.arrival_ns])
        order = np.argsort(arrival, kind="stable")  # a quote before the trade of the same instant
        yield _repeating(frames(pa.concat_arrays(events).take(order), arrival[order]), step)


class OptionWriter:
    """Trades of SPY's options, as websocket frames."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._symbols = pa.array([], pa.string())

    def write(self, step: Step) -> Iterator[list[bytes]]:
        if step.options is None:
            return
        if step.spy is not self._board:
            self._board, self._symbols = step.spy, pa.array(step.spy.symbols())
        yield _repeating(frames(option_trade_events(step.options, self._symbols), step.options.arrival_ns), step)


class ChainWriter:
    """Snapshots of SPY's option chain, as the pages of a REST service."""

    def __init__(self) -> None:
        self._state: ChainState | None = None

    def write(self, step: Step) -> Iterator[list[bytes]]:
        if self._state is None or step.spy is not self._state.board:
            self._state = ChainState(step.spy)
        if step.chain_spot_e4 is not None:
            board, at = step.spy, step.begin
            number = np.arange(board.count)
            worth = board.worth(number, np.full(board.count, step.chain_spot_e4), np.full(board.count, at))
            bid, ask = board.market(worth.price)
            yield []
            yield _repeating(chain_pages(self._state.rows(worth, bid, ask, step.chain_spot_e4, at), at), step)
        if step.options is not None:
            self._state.record(step.options)


def _parts(quotes: StockQuotes) -> Iterator[StockQuotes]:
    """Cut quotes in parts of one piece of work each; not in smaller ones, because Arrow's calls cost something each."""
    count = len(quotes.seq)
    parts = max(-(-count // PIECE_QUOTES), 1)
    for begin, end in pairwise(count * part // parts for part in range(parts + 1)):
        yield StockQuotes._make(column[begin:end] for column in quotes)


def _repeating(messages: list[bytes], step: Step) -> list[bytes]:
    """Send the first message of a step twice, where repeats are planted."""
    return messages[:1] + messages if step.repeating else messages


def _messages(records: Records, times: NDArray[np.int64]) -> Iterator[bytes]:
    """Cut the records between events, where event time enters the next span and where a message would be too long."""
    if not times.size:
        return
    last_of_span = np.append(np.flatnonzero(np.diff(times // MESSAGE_NS)), len(times) - 1)
    begin = 0
    for end in records.ends[last_of_span].tolist():
        while begin < end:
            cut = end
            if end - begin > MESSAGE_BYTES:
                cut = int(records.ends[np.searchsorted(records.ends, begin + MESSAGE_BYTES, "right") - 1])
            yield records.data[begin:cut].tobytes()
            begin = cut


class _Queue:
    """What waits for one delivery."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.messages: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.closed = False

    def add(self, messages: list[bytes]) -> None:
        if not self.closed:
            self.messages.extend(messages)
            self.waiting_bytes += sum(map(len, messages))

    @property
    def full(self) -> bool:
        return not self.closed and self.waiting_bytes >= MAX_WAITING_BYTES


class Lockstep:
    """Shares one session among deliveries. All of its readers belong to one event loop."""

    def __init__(self, session: Session, writers: list[Writer]) -> None:
        self._queues = [_Queue(writer) for writer in writers]
        self._pieces = self._work(session)
        self._in_the_way = self._queues  # the next piece waits while one of these is full
        self._taken = asyncio.Event()

    def close(self, number: int) -> None:
        """Give up a delivery; what waits for it is dropped, and the others need not wait for it any more."""
        queue = self._queues[number]
        queue.closed, queue.waiting_bytes = True, 0
        queue.messages.clear()
        self._taken.set()

    async def next(self, number: int) -> bytes:
        """Return the next message of a delivery, advancing the session if none waits."""
        queue = self._queues[number]
        while not queue.messages:
            if any(other.full for other in self._in_the_way):
                self._taken.clear()
                await self._taken.wait()
            else:
                self._in_the_way = next(self._pieces)
                await asyncio.sleep(0)
        data = queue.messages.popleft()
        queue.waiting_bytes -= len(data)
        self._taken.set()
        return data

    def _work(self, session: Session) -> Iterator[list[_Queue]]:
        """Advance the session and fill the queues, without end; a turn is some milliseconds of work at the most.

        Yields, after each piece, the queues that must have room before the next one. A step begins when all have; once
        it has begun, everybody gets what is theirs of it, except that DBN, the most by far and therefore last, waits
        for its own reader.
        """
        for step in session.pieces():
            yield self._queues
            if step is not None:
                yield from self._write(step)

    def _write(self, step: Step) -> Iterator[list[_Queue]]:
        for queue in reversed(self._queues):
            if not queue.closed:
                for messages in queue.writer.write(step):
                    queue.add(messages)
                    yield [queue] if queue is self._queues[0] else []


class SimDelivery:
    """One endless delivery of a simulated market. It is read once."""

    def __init__(self, lockstep: Lockstep, number: int, info: DeliveryInfo) -> None:
        self._lockstep, self._number, self._info = lockstep, number, info

    @property
    def info(self) -> DeliveryInfo:
        return self._info

    def close(self) -> None:
        """Give it up, read or not."""
        self._lockstep.close(self._number)

    async def messages(self) -> AsyncGenerator[RawMessage]:
        """Yield the market's bytes as fast as they are asked for, giving way to other tasks after each message."""
        try:
            while True:
                data = await self._lockstep.next(self._number)
                yield RawMessage(data, utc_now_ns())
                await asyncio.sleep(0)
        finally:
            self.close()

"""The four deliveries of one simulated market, in lockstep: ES as DBN, SPY's frames, its options' frames, its chain.

One session advances for all. Whoever wants a message and has none waiting advances the session by a step, and what the
step gives to the others waits in their queues. A queue that holds `MAX_WAITING_BYTES` stops everybody else from
advancing until its reader has taken some, or closes; so a delivery that nobody reads stops the others when its queue
is full, and a delivery that is far ahead waits. Nothing is ever dropped. What a delivery carries does not depend on
the order in which they are read, nor on which of them are open.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import utc_now_ns
from spymaster.feeds.feed import DeliveryInfo, RawMessage
from spymaster.feeds.sim_dbn import HALTED, TRADING, Encoder, Records, announce, status
from spymaster.feeds.sim_json import (
    ChainState,
    chain_pages,
    frames,
    option_trade_events,
    stock_quote_events,
    stock_trade_events,
)
from spymaster.feeds.sim_market import Session, Step
from spymaster.feeds.sim_options import Board

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024  # in each queue; a step may go beyond it once
MESSAGE_NS = 25_000_000  # of event time in one message of DBN
MESSAGE_BYTES = 512 * 1024


class Writer(Protocol):
    """Writes what one delivery carries."""

    def write(self, step: Step) -> list[bytes]: ...


class DbnWriter:
    """ES futures and options, as a live gateway sends them."""

    def __init__(self, seed: int) -> None:
        self._encoder = Encoder((seed, 0, 2))

    def write(self, step: Step) -> list[bytes]:
        messages = []
        if step.opened:
            messages.append(announce(step.listing, step.begin, self._encoder.received(step.begin)))
        if step.halted is not None:
            action = HALTED if step.halted else TRADING
            received = self._encoder.received(step.begin)
            messages.append(status(step.listing.instrument_ids[:3], action, step.begin, received))
        for tape in step.tapes:
            records = self._encoder.encode(tape, step.listing.instrument_ids)
            messages += _messages(records, tape.arrival_ns)
        return messages


class StockWriter:
    """SPY's trades and quotes, as websocket frames."""

    def write(self, step: Step) -> list[bytes]:
        if step.quotes is None or step.trades is None:
            return []
        arrival = np.concatenate([step.quotes.arrival_ns, step.trades.arrival_ns])
        order = np.argsort(arrival, kind="stable")  # a quote before the trade of the same instant
        events = pa.concat_arrays([stock_quote_events(step.quotes), stock_trade_events(step.trades)])
        return _repeating(frames(events.take(order), arrival[order]), step)


class OptionWriter:
    """Trades of SPY's options, as websocket frames."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._symbols = pa.array([], pa.string())

    def write(self, step: Step) -> list[bytes]:
        if step.options is None:
            return []
        if step.spy is not self._board:
            self._board, self._symbols = step.spy, pa.array(step.spy.symbols())
        return _repeating(frames(option_trade_events(step.options, self._symbols), step.options.arrival_ns), step)


class ChainWriter:
    """Snapshots of SPY's option chain, as the pages of a REST service."""

    def __init__(self) -> None:
        self._state: ChainState | None = None

    def write(self, step: Step) -> list[bytes]:
        if self._state is None or step.spy is not self._state.board:
            self._state = ChainState(step.spy)
        pages: list[bytes] = []
        if step.chain_spot_e4 is not None:
            board, at = step.spy, step.begin
            number = np.arange(board.count)
            worth = board.worth(number, np.full(board.count, step.chain_spot_e4), np.full(board.count, at))
            bid, ask = board.market(worth.price)
            pages = chain_pages(self._state.rows(worth, bid, ask, step.chain_spot_e4, at), at)
        if step.options is not None:
            self._state.record(step.options)
        return _repeating(pages, step)


def _repeating(messages: list[bytes], step: Step) -> list[bytes]:
    """Send the first message of a step twice, where repeats are planted."""
    return messages[:1] + messages if step.repeating else messages


def _messages(records: Records, times: NDArray[np.int64]) -> Iterator[bytes]:
    """Cut the records between events, where event time enters the next span and where a message would be too long."""
    if not times.size:
        return
    span = times // MESSAGE_NS
    last_of_span = [*np.flatnonzero(np.diff(span)).tolist(), len(times) - 1]
    begin = 0
    for last in last_of_span:
        end = int(records.ends[last])
        while begin < end:
            cut = end
            if end - begin > MESSAGE_BYTES:
                cut = int(records.ends[np.searchsorted(records.ends, begin + MESSAGE_BYTES, "right") - 1])
            yield records.data[begin:cut]
            begin = cut


class _Queue:
    """What waits for one delivery."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.messages: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.closed = False

    @property
    def full(self) -> bool:
        return not self.closed and self.waiting_bytes >= MAX_WAITING_BYTES


class Lockstep:
    """Shares one session among deliveries. All of its readers belong to one event loop."""

    def __init__(self, session: Session, writers: list[Writer]) -> None:
        self._steps = session.steps()
        self._queues = [_Queue(writer) for writer in writers]
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
            if any(other.full for other in self._queues):
                self._taken.clear()
                await self._taken.wait()
            else:
                self._advance()
                await asyncio.sleep(0)  # a step is some milliseconds of work
        data = queue.messages.popleft()
        queue.waiting_bytes -= len(data)
        self._taken.set()
        return data

    def _advance(self) -> None:
        step = next(self._steps)
        for queue in self._queues:
            if not queue.closed:
                messages = queue.writer.write(step)
                queue.messages.extend(messages)
                queue.waiting_bytes += sum(map(len, messages))


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

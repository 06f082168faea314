"""The four deliveries of one simulated market, in lockstep: ES as DBN, SPY's frames, its options' frames, its chain.

One session advances for all. Whoever wants a message and has none waiting does the next piece of the work, and what
that gives to the others waits in their queues. A queue that holds `MAX_WAITING_BYTES` stops everybody else from
advancing until its reader has taken some, or closes; so a delivery that nobody reads stops the others when its queue
is full, and a delivery that is far ahead waits. Nothing is ever dropped. What a delivery carries does not depend on
the order in which they are read, nor on which of them are open.

A piece of the work is done in a thread, so that the event loop waits for none of it; one at a time, as all are parts
of one session. What the piece gave is queued on the loop, which alone owns the queues.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import monotonic_s, utc_now_ns
from spymaster.events.captures import CaptureSummary
from spymaster.feeds.feed import Burst, DeliveryInfo, RawMessage
from spymaster.simulation.dbn import HALTED, TRADING, Encoder, Records, announce
from spymaster.simulation.dbn_numbers import ExchangeEncoder, halts
from spymaster.simulation.dbn_quotes import QuoteRecords, alone, weave
from spymaster.simulation.market import Session
from spymaster.simulation.massive_json import (
    ChainState,
    chain_pages,
    frames,
    option_quote_events,
    option_trade_events,
    stock_quote_events,
    stock_trade_events,
    timed_frames,
)
from spymaster.simulation.option_quotes import OptionQuotes
from spymaster.simulation.options import Board
from spymaster.simulation.print_truth import EsPrints, Tell, print_truth
from spymaster.simulation.step import Step
from spymaster.simulation.stock import StockQuotes

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024  # in each queue; a step may go beyond it once, of DBN a piece
MESSAGE_NS = 25_000_000  # of event time in one message of DBN
MESSAGE_BYTES = 512 * 1024
TRUTHS_EVERY_S: Final = 1.0
PIECE_QUOTES: Final = 4_500  # of SPY or its options, written at once

_Message = TypeVar("_Message", bytes, tuple[int, bytes])  # with the span of time that it is of


class Writer(Protocol):
    """Writes what one delivery carries."""

    def write(self, step: Step) -> Iterator[list[bytes]]:
        """Yield the messages of a step, in order: after each piece of the work, those that it gave."""
        ...


class DbnWriter:
    """ES futures and options, as a live gateway sends them; tells, if asked, what is true of the options' prints."""

    def __init__(self, seed: int, tell: Tell | None = None) -> None:
        self._encoder, self._exchange = Encoder((seed, 0, 2)), ExchangeEncoder()
        self._tell = None if tell is None else EsPrints(tell)

    def write(self, step: Step) -> Iterator[list[bytes]]:
        listing, received = step.listing, self._encoder.received(step.begin)
        if step.opened:
            yield [announce(listing, step.begin, received)]
        if step.halted is not None:
            action = HALTED if step.halted else TRADING
            yield [halts(listing, action, step.begin, received)]
        if step.said is not None:
            yield list(self._exchange.encode(step.said, listing, received))
        quotes = QuoteRecords(step.es_quotes, listing.instrument_ids)
        if self._tell is not None:
            self._tell.begin(listing, step.es_options)
        for tape in step.tapes:
            records = self._encoder.encode(tape, listing.instrument_ids)
            if self._tell is not None:
                self._tell.tell(tape, records)
            quoted = quotes.among(records, tape.arrival_ns, received)
            yield list(_messages(*weave(records, tape.arrival_ns, quoted)))
            received = self._encoder.received(step.begin)
        rest = quotes.rest(received)
        yield list(_messages(alone(rest.records), rest.arrival_ns))


class StockWriter:
    """SPY's trades and quotes, as websocket frames."""

    def write(self, step: Step) -> Iterator[list[bytes]]:
        if step.quotes is None or step.trades is None:
            return
        events = []
        for part in _parts(len(step.quotes.seq)):
            events.append(stock_quote_events(StockQuotes._make(column[part] for column in step.quotes)))
            yield []
        events.append(stock_trade_events(step.trades))
        yield []
        arrival = np.concatenate([step.quotes.arrival_ns, step.trades.arrival_ns])
        order = np.argsort(arrival, kind="stable")  # a quote before the trade of the same instant
        yield _repeating(frames(pa.concat_arrays(events).take(order), arrival[order]), step)


class OptionWriter:
    """Trades and quotes of SPY's options, in websocket frames of their own; tells, if asked, what is true of prints."""

    def __init__(self, tell: Tell | None = None) -> None:
        self._tell = tell
        self._board: Board | None = None
        self._symbols = pa.array([], pa.string())

    def write(self, step: Step) -> Iterator[list[bytes]]:
        if step.options is None or step.spy_quotes is None:
            return
        if step.spy is not self._board:
            self._board, self._symbols = step.spy, pa.array(step.spy.symbols())
        if self._tell is not None:
            self._tell(print_truth(step.options, self._symbols, step.options.seq))
            yield []
        quoted = []
        for part in _parts(len(step.spy_quotes.seq)):
            quotes = OptionQuotes._make(column[part] for column in step.spy_quotes)
            quoted.append(option_quote_events(quotes, self._symbols))
            yield []
        # A quote comes before the print that it is for, so of one span the frames of quotes do.
        sent = [
            *_repeating(timed_frames(pa.concat_arrays(quoted), step.spy_quotes.arrival_ns), step),
            *_repeating(timed_frames(option_trade_events(step.options, self._symbols), step.options.arrival_ns), step),
        ]
        yield [frame for _, frame in sorted(sent, key=itemgetter(0))]


class ChainWriter:
    """Snapshots of SPY's option chain, as the pages of a REST service."""

    def __init__(self) -> None:
        self._state: ChainState | None = None

    def write(self, step: Step) -> Iterator[list[bytes]]:
        if self._state is None or step.spy is not self._state.board:
            self._state = ChainState(step.spy, step.spy_open_interest)
        if step.chain_spot_e4 is not None:
            board, at = step.spy, step.begin
            number = np.arange(board.count)
            worth = board.worth(number, np.full(board.count, step.chain_spot_e4), np.full(board.count, at))
            bid, ask = board.market(worth.price)
            yield []
            yield _repeating(chain_pages(self._state.rows(worth, bid, ask, step.chain_spot_e4, at), at), step)
        if step.options is not None:
            self._state.record(step.options)


def _parts(count: int) -> Iterator[slice]:
    """Cut quotes in parts of one piece of work each; not in smaller ones, because Arrow's calls cost something each."""
    parts = max(-(-count // PIECE_QUOTES), 1)
    return (slice(begin, end) for begin, end in pairwise(count * part // parts for part in range(parts + 1)))


def _repeating(messages: list[_Message], step: Step) -> list[_Message]:
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


class _Piece(NamedTuple):
    """A piece of the work: what it gave to one queue, and the queues that must have room before the next piece."""

    queue: _Queue | None
    messages: list[bytes]
    in_the_way: list[_Queue]


class Lockstep:
    """Shares one session among deliveries. All of its readers belong to one event loop."""

    def __init__(self, session: Session, writers: list[Writer]) -> None:
        self._queues = [_Queue(writer) for writer in writers]
        self._pieces = self._work(session)
        self._in_the_way = self._queues  # the next piece waits while one of these is full
        self._changed = asyncio.Event()
        self._working = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "market")

    def close(self, number: int) -> None:
        """Give up a delivery; what waits for it is dropped, and the others need not wait for it any more."""
        queue = self._queues[number]
        queue.closed, queue.waiting_bytes = True, 0
        queue.messages.clear()
        self._changed.set()
        if all(other.closed for other in self._queues):
            self._thread.shutdown(wait=False)

    async def next(self, number: int) -> bytes | None:
        """Return the next message of a delivery, advancing the session if none waits; None once it is closed."""
        queue = self._queues[number]
        while not queue.messages:
            if queue.closed:
                return None
            if any(other.full for other in self._in_the_way):
                self._changed.clear()
                await self._changed.wait()
            else:
                await self._advance(queue)
        data = queue.messages.popleft()
        queue.waiting_bytes -= len(data)
        self._changed.set()
        return data

    async def _advance(self, queue: _Queue) -> None:
        """Do the next piece, unless another reader's has given `queue` something meanwhile."""
        async with self._working:
            if queue.messages or queue.closed or any(other.full for other in self._in_the_way):
                return
            working = asyncio.get_running_loop().run_in_executor(self._thread, next, self._pieces, None)
            working.add_done_callback(self._take)  # whatever becomes of the reader, or a piece would be lost
            await asyncio.wait([working])
            if working.result() is None:  # there is no end but after an error, which whoever did that piece has raised
                raise OSError("the market has stopped, as another of its deliveries failed")

    def _take(self, worked: asyncio.Future[_Piece | None]) -> None:
        piece = None if worked.cancelled() or worked.exception() is not None else worked.result()
        if piece is None:
            return  # the reader raises what is wrong
        if piece.queue is not None:
            piece.queue.add(piece.messages)
        self._in_the_way = piece.in_the_way

    def _work(self, session: Session) -> Iterator[_Piece]:
        """Advance the session, without end; a piece is some milliseconds of work at the most. Runs in the thread.

        A step begins when all queues have room; once it has begun, everybody gets what is theirs of it, except that
        DBN, the most by far and therefore last, waits for its own reader.
        """
        for step in session.pieces():
            yield _Piece(None, [], self._queues)
            if step is not None:
                for queue in reversed(self._queues):
                    if not queue.closed:
                        for messages in queue.writer.write(step):
                            yield _Piece(queue, messages, [queue] if queue is self._queues[0] else [])


class SimDelivery:
    """One endless delivery of a simulated market. It is read once."""

    def __init__(
        self, lockstep: Lockstep, number: int, info: DeliveryInfo, write_truths: Callable[[], None] | None = None
    ) -> None:
        self._lockstep, self._number, self._info = lockstep, number, info
        self._write_truths = write_truths
        self._written_s = monotonic_s()

    @property
    def info(self) -> DeliveryInfo:
        return self._info

    async def close(self) -> None:
        """Give it up, read or not."""
        self._lockstep.close(self._number)

    async def bursts(self) -> AsyncGenerator[Burst]:
        """Yield a message at a time, as fast as they are asked for: each is some event time, and is then due."""
        try:
            while (data := await self._lockstep.next(self._number)) is not None:
                yield [RawMessage(data, utc_now_ns())]
                if self._write_truths is not None and monotonic_s() - self._written_s > TRUTHS_EVERY_S:
                    self._written_s = monotonic_s()
                    await asyncio.to_thread(self._write_truths)
                await asyncio.sleep(0)
        finally:
            await self.close()

    async def recorded(self, outcome: CaptureSummary) -> None:
        """Write down what was planted since the last time, for whoever asked for the truth."""
        if self._write_truths is not None:
            await asyncio.to_thread(self._write_truths)

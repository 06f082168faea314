"""A simulated ES market that speaks the vendor's own format, so that everything after it runs without an account.

The bytes after the header are a function of seed, rate and start alone: all randomness is PCG64's raw output, all
arithmetic is in integers. Nothing here waits: whoever reads paces by event time.

Three instruments trade: the front month, the next one, which follows it at a basis of about 50 points, and their
calendar spread. A day has its own instrument ids, announced at the start and at each UTC midnight; when the front
month is about to expire, the next one takes its place at midnight, with its book.

Why no events in the last millisecond of a UTC day: their receive time would be tomorrow's, and which day's ids they
carry would depend on the clock that a reader takes. The vendor's own reader takes the receive time.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND, utc_now_ns, utc_text
from spymaster.errors import UsageError
from spymaster.feeds.feed import DeliveryInfo, RawMessage
from spymaster.feeds.sim_book import ASK, BID, Book, Move, Tape, interleave
from spymaster.feeds.sim_calendar import CELL_NS, NS_PER_DAY, PPM, Activity, front_contract, utc_date
from spymaster.feeds.sim_dbn import (
    OUTRIGHT_TICK_E9,
    SPREAD_TICK_E9,
    Encoder,
    Records,
    announce,
    listing_of,
    live_header,
)

MAX_RATE = 1_000_000
MESSAGE_NS = 25_000_000  # of event time in one message
MESSAGE_BYTES = 512 * 1024
_BLOCK_RECORDS = 1_200  # generated at once: some milliseconds of work, between two turns of the event loop
_SHARES = (95, 4, 1)  # of 100 records: front month, next month, spread
_DUE_PER_RECORD = 100 * PPM * NS_PER_SECOND
_EVENTS_PER_100_RECORDS = 90  # a trade has three records; what this misses, the next block makes up for
_MOVES_PER_MINUTE = 90  # of the front month's price by one tick, in normal activity
_RAREST_MOVE = 40  # but at most one event in so many
_START_TICKS = 6_900 * 4
_BASIS = 50 * 20  # in the spread's ticks
_SPREAD_TICKS_PER_TICK = OUTRIGHT_TICK_E9 // SPREAD_TICK_E9
_EARLIEST_NS, _LATEST_NS = 946_684_800 * NS_PER_SECOND, 4_102_444_800 * NS_PER_SECOND  # the years 2000 to 2099
_QUIET_BEFORE_MIDNIGHT_NS = 1_000_000


@dataclass(frozen=True)
class SimulatedMarket:
    """The market that a seed, a rate and a start describe."""

    seed: int
    rate: int  # DBN records a second of event time, all kinds together, on average in normal activity
    start_ns: int

    def symbols(self) -> tuple[str, ...]:
        """Return the contracts of its first day."""
        day = utc_date(self.start_ns)
        return listing_of(front_contract(day), day).symbols

    def blocks(self) -> Iterator[bytes]:
        """Yield its records from the start, without end, in pieces of one message each; always the same."""
        session = _Session(self.seed, self.rate, self.start_ns)
        now = self.start_ns
        while True:
            yield session.open_day(now)
            midnight = now - now % NS_PER_DAY + NS_PER_DAY
            while now < midnight - _QUIET_BEFORE_MIDNIGHT_NS:
                end = min(session.block_end(now), midnight - _QUIET_BEFORE_MIDNIGHT_NS)
                yield from session.advance(now, end)
                now = end
            now = midnight


class _Session:
    """The state of a simulated market between two blocks."""

    def __init__(self, seed: int, rate: int, start: int) -> None:
        self._seed, self._rate = seed, rate
        self._activity = Activity(seed)
        self._random = np.random.PCG64(np.random.SeedSequence((seed, 0, 1)))
        self._encoder = Encoder((seed, 0, 2))
        self._basis = _BASIS
        self._due = [0, 0, 0]  # records that each instrument is behind the rate, in units of 1 / _DUE_PER_RECORD
        day = utc_date(start)
        self._listing = listing_of(front_contract(day), day)
        self._books = self._list_behind(Book(OUTRIGHT_TICK_E9, _START_TICKS, (seed, 1)), day)

    def open_day(self, now: int) -> bytes:
        """List the day's instruments, roll to the next contract if it is time, and return the announcement."""
        day = utc_date(now)
        front = front_contract(day)
        if front != self._listing.front:
            self._books = self._list_behind(self._books[1], day)
        self._listing = listing_of(front, day)
        return announce(self._listing, now, self._encoder.received(now))

    def _list_behind(self, front: Book, day: date) -> list[Book]:
        """Return the three books of which `front` is the first, the others new."""
        entropy = (self._seed, day.toordinal())
        following = Book(OUTRIGHT_TICK_E9, front.bid + self._basis // _SPREAD_TICKS_PER_TICK, (*entropy, 2))
        return [front, following, Book(SPREAD_TICK_E9, self._basis, (*entropy, 3))]

    def block_end(self, now: int) -> int:
        """Return until when to generate at once: at most one cell of activity, and not more than a block of records."""
        per_second = self._rate * self._activity.level(now) // PPM
        span = _BLOCK_RECORDS * NS_PER_SECOND // max(per_second, 1)
        return min(now + span, now - now % CELL_NS + CELL_NS)

    def advance(self, begin: int, end: int) -> Iterator[bytes]:
        """Let the market run from `begin` to `end`, which lie in one cell of activity, and yield its messages."""
        if begin % NS_PER_SECOND == 0:
            self._shift_basis()
        front, following, spread = self._books
        tapes = [self._run(0, begin, end)]
        parity = front.bid + self._basis // _SPREAD_TICKS_PER_TICK  # where the front month is now
        tapes.append(self._run(1, begin, end, parity - following.bid))
        tapes.append(self._run(2, begin, end, self._basis - spread.bid))
        happened = [tape for tape in tapes if tape is not None]
        if not happened:
            return
        tape = interleave(happened)
        records = self._encoder.encode(tape, self._listing.instrument_ids)
        self._due = [
            due - int(sent) * _DUE_PER_RECORD for due, sent in zip(self._due, records.by_instrument, strict=True)
        ]
        yield from _messages(records, tape.ts_event_ns)

    def _run(self, instrument: int, begin: int, end: int, behind: int | None = None) -> Tape | None:
        """Let one book run; its price wanders by itself, or follows another that it is `behind` by so many ticks."""
        level = self._activity.level(begin)
        self._due[instrument] += self._rate * _SHARES[instrument] * level * (end - begin)
        n = self._due[instrument] * _EVENTS_PER_100_RECORDS // (100 * _DUE_PER_RECORD)
        if n < 2:  # a move takes two events, so that a slow book waits for them
            return None
        # Sorted by its high half, which is the time; the low half stays random.
        drawn = np.sort(self._random.random_raw(n))
        times = begin + ((drawn >> 32) * np.uint64(end - begin) >> 32).astype(np.int64)
        luck = (drawn & 0xFFFFFFFF).astype(np.int64)
        moves = self._wandering(luck, begin, level * (end - begin)) if behind is None else _catching_up(behind, n)
        for event, _ in moves:  # whoever closes the spread is quick
            times[event + 1] = min(times[event + 1], times[event] + 20_000 + luck[event] % 300_000)
        return self._books[instrument].evolve(times, moves, instrument)

    def _wandering(self, luck: NDArray[np.int64], begin: int, busy: int) -> list[Move]:
        """Choose the front month's moves: a random walk with the minute's drift, held loosely to where it began."""
        n = len(luck)
        likely = min((busy * _MOVES_PER_MINUTE << 32) // (60 * PPM * NS_PER_SECOND * n), (1 << 32) // _RAREST_MOVE)
        price = self._books[0].bid
        moves: list[Move] = []
        for event in np.flatnonzero(luck[: n - 1] < likely).tolist():
            if moves and event < moves[-1].event + 2:
                continue
            home = min(max((_START_TICKS - price) // 64, -200), 200)
            up = int(self._random.random_raw()) >> 54 < 512 + self._activity.drift(begin) + home
            price += 1 if up else -1
            moves.append(Move(event, ASK if up else BID))
        return moves

    def _shift_basis(self) -> None:
        drawn = int(self._random.random_raw())
        if drawn & 7 == 0:
            self._basis += 1 if drawn >> 54 < 512 + 8 * (_BASIS - self._basis) else -1


def _catching_up(behind: int, n: int) -> list[Move]:
    """Choose the moves of a book whose price follows another, spread over the block's n events."""
    count = min(abs(behind), (n + 2) // 4)
    return [Move((i + 1) * n // (count + 1) - 1, ASK if behind > 0 else BID) for i in range(count)]


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


class SimDelivery:
    """The one endless delivery of a simulated market."""

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        self._info = DeliveryInfo(
            origin=f"sim:seed={market.seed},rate={market.rate},start={utc_text(market.start_ns)}",
            content_sha256=None,
            dbn_header=live_header(),
            symbols_in_stream=market.symbols(),
            simulated=True,
        )

    @property
    def info(self) -> DeliveryInfo:
        return self._info

    async def messages(self) -> AsyncGenerator[RawMessage]:
        """Yield the market's bytes as fast as they are asked for, giving way to other tasks after each message."""
        for data in self._market.blocks():
            yield RawMessage(data, utc_now_ns())
            await asyncio.sleep(0)


class SimFeed:
    """The source `sim`."""

    def __init__(self, seed: int = 1, rate: int = 2_000, start_ns: int | None = None) -> None:
        start = utc_now_ns() if start_ns is None else start_ns
        if seed < 0:
            raise UsageError(f"sim: seed={seed} is negative. Next: give a seed of 0 or more")
        if not 1 <= rate <= MAX_RATE:
            raise UsageError(f"sim: rate={rate} is not possible. Next: give 1 to {MAX_RATE} records per second")
        if not _EARLIEST_NS <= start < _LATEST_NS:
            raise UsageError(f"sim: start={start} is not in the years 2000 to 2099. Next: give another start")
        self.market = SimulatedMarket(seed, rate, start)

    @classmethod
    def parse(cls, text: str) -> "SimFeed":
        """Build a feed from what follows `sim:` in a source, e.g. `seed=7,rate=500,start=2025-12-16T14:30:00Z`."""
        options: dict[str, str] = {}
        for option in text.split(",") if text else []:
            name, equals, value = (part.strip() for part in option.partition("="))
            if not equals or name not in ("seed", "rate", "start") or name in options:
                raise UsageError(
                    f"sim: {option!r} is not an option, or is given twice. "
                    f"Next: sim:seed=1,rate=2000,start=2025-12-16T14:30:00Z, or a part of it"
                )
            options[name] = value
        return cls(
            seed=_whole_number("seed", options.get("seed", "1")),
            rate=_whole_number("rate", options.get("rate", "2000")),
            start_ns=_instant(options["start"]) if "start" in options else None,
        )

    @property
    def paced(self) -> bool:
        return True

    def deliveries(self) -> Iterator[SimDelivery]:
        yield SimDelivery(self.market)


def _whole_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise UsageError(f"sim: {name}={text!r} is not a whole number. Next: give digits only, e.g. {name}=7")
    return int(text)


def _instant(text: str) -> int:
    """Read integer nanoseconds, or ISO 8601 in UTC with up to nine decimals, of which `datetime` would keep six."""
    if re.fullmatch(r"[0-9]{10,}", text):
        return _whole_number("start", text)
    parts = re.fullmatch(r"([0-9-]+(?:T[0-9:]+)?)(?:\.([0-9]{1,9}))?(?:Z|\+00:00)?", text)
    try:
        whole = datetime.fromisoformat(parts[1] if parts else "").replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(
            f"sim: start={text!r} is not a time. Next: give UTC as in start=2025-12-16T14:30:00Z, or nanoseconds"
        ) from None
    fraction = int((parts[2] or "").ljust(9, "0")) if parts else 0
    return (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * NS_PER_SECOND + fraction

"""One simulated market, a step of event time after another: ES and its options, and SPY, which follows.

Everything hangs on one price path, the front month's. The next month follows it at a basis of about 50 points, their
calendar spread trades that basis, SPY follows by a slowly moving ratio, and options are priced from a model. All
randomness is PCG64's raw output, a generator for each part, so that what one part does never depends on whether
another is asked for.

A day has its own instrument ids, announced at the start and at each UTC midnight; when the front month is about to
expire, the next one takes its place at midnight, with its book.

A step is as long as the market takes for some thousand events, because much of its cost is the same however little
happens; it ends sooner where a chain is due, a minute ends, or something planted begins or ends. What happens in it is
spread as the market is busy. A step is some ten milliseconds of work, so the work is done in pieces, between which the
caller may do something else. Neither steps nor pieces depend on who asks or when.

Why no events in the last millisecond of a UTC day: their receive time would be tomorrow's, and which day's ids they
carry would depend on the clock that a reader takes. The vendor's own reader takes the receive time.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.simulation.book import ASK, BID, Book, Move, Planted, Tape, cut, interleave
from spymaster.simulation.calendar import (
    NS_PER_MINUTE,
    PPM,
    Activity,
    Stretch,
    front_contract,
    utc_date,
)
from spymaster.simulation.classic import CROSSED_TICKS, LATE_NS, TICKS_AT_ONCE, Scene
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9, SPREAD_TICK_E9, Listing, listing_of
from spymaster.simulation.exchange import Exchange, Numbers, classic_interest, open_interest
from spymaster.simulation.option_quotes import Makers, OptionQuotes
from spymaster.simulation.options import (
    LARGEST_BIAS,
    Bias,
    Board,
    OptionCrowd,
    OptionTrades,
    es_board,
    spy_board,
    tape_of,
)
from spymaster.simulation.plant import CLASSIC, Plan, Truth
from spymaster.simulation.stock import RATIO_BAND_E6, RATIO_E6, Path, Stock, StockQuotes, StockTrades, fair_e4

CHAIN_NS: Final = 10 * NS_PER_SECOND  # between two snapshots of the option chain
_MAX_TRUTHS: Final = 10_000  # that nobody has taken yet; the oldest go first
_LONGEST_NS: Final = CHAIN_NS  # a step; also where the chain comes less often, so that the market is the same
_STEP_RECORDS: Final = 20_000
_BLOCK_RECORDS: Final = 2_500  # of one book, generated at once
_LEAST_RECORDS: Final = 200  # in a block whose price is led: less, and numpy's calls cost more than their work
_SHARES: Final = (93, 4, 1, 2)  # of 100 DBN records: front month, next month, spread, options
_PER_100_RECORDS: Final = {"quotes": 40, "trades": 14, "options": 10}  # of SPY's events
_QUOTES_PER_100_RECORDS: Final = {"SPY": 30, "ES": 10}  # of options; those of ES are not among the records counted
_EVENTS_PER_100_RECORDS: Final = 90  # a trade has three records; what this misses, the next block makes up for
_LEAST_EVENTS: Final = 2  # a move takes two events, so that a slow book waits for them
_MOVES_PER_MINUTE: Final = 90  # of the front month's price by one tick, in normal activity
_RAREST_MOVE: Final = 40  # but at most one event in so many
_START_TICKS: Final = 6_900 * 4
_BASIS: Final = 50 * 20  # in the spread's ticks
_SPREAD_TICKS_PER_TICK: Final = OUTRIGHT_TICK_E9 // SPREAD_TICK_E9
_QUIET_BEFORE_MIDNIGHT_NS: Final = 1_000_000
_DUE_UNIT: Final = 100 * PPM * NS_PER_SECOND


@dataclass
class Step:
    """What happened within [begin, end)."""

    begin: int
    end: int
    listing: Listing
    spy: Board
    spy_open_interest: NDArray[np.int64]
    opened: bool = False  # a day began: its instruments are announced first
    halted: bool | None = None  # True where a halt begins, False where it ends
    tapes: list[Tape] = field(default_factory=list)  # of everything that DBN carries, one after another
    quotes: StockQuotes | None = None
    trades: StockTrades | None = None
    options: OptionTrades | None = None
    es_options: OptionTrades | None = None
    spy_quotes: OptionQuotes | None = None
    es_quotes: OptionQuotes | None = None
    said: Numbers | None = None  # what the exchange says at the begin
    chain_spot_e4: int | None = None  # a snapshot of the chain is due at the begin, while SPY is at this price
    repeating: bool = False  # the last message of each kind is sent once more


class _Due:
    """The events that are due, in units of 1 / `_DUE_UNIT`: what a block of them misses, the next makes up for."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._due: dict[int | str, int] = dict.fromkeys((0, 1, 2, 3, *_PER_100_RECORDS), 0)

    def owe(self, stretch: Stretch) -> None:
        """Add what the stretch owes to all but the front month, whose blocks do it themselves."""
        for instrument in (1, 2, 3):
            self._due[instrument] += self._rate * _SHARES[instrument] * stretch.busy
        for kind, share in _PER_100_RECORDS.items():
            self._due[kind] += self._rate * share * stretch.busy

    def owe_front(self, block: Stretch) -> None:
        self._due[0] += self._rate * _SHARES[0] * block.busy

    def events(self, instrument: int) -> int:
        """Return how many events of a book are due; `settle` takes them off."""
        return self._due[instrument] * _EVENTS_PER_100_RECORDS // (100 * _DUE_UNIT)

    def settle(self, instrument: int, tape: Tape) -> Tape:
        """Take the records of a book's tape off what is due."""
        self._due[instrument] -= int((1 + 2 * (tape.traded > 0)).sum()) * _DUE_UNIT
        return tape

    def take(self, kind: int | str) -> int:
        """Return how many whole events are due, and owe them no longer."""
        n, self._due[kind] = divmod(self._due[kind], _DUE_UNIT)
        return n


class Session:
    """The state of a simulated market between two steps.

    Attributes:
        truths: what was planted and has come to its end, for the caller to take; of more than 10,000 the oldest go.
    """

    def __init__(
        self, seed: int, rate: int, start: int, plant: tuple[str, ...], *, with_spy: bool, chain_ns: int = CHAIN_NS
    ) -> None:
        self.truths: deque[Truth] = deque(maxlen=_MAX_TRUTHS)
        self._seed, self._rate, self._start, self._now, self._with_spy = seed, rate, start, start, with_spy
        self._activity, self._plan = Activity(seed), Plan(seed, start, plant)
        self._random = np.random.PCG64(np.random.SeedSequence((seed, 0, 1)))
        self._ratio_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 3)))
        self._es_options_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 8)))
        self._spy_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 9)))
        self._basis, self._ratio_e6 = _BASIS, RATIO_E6
        self._due = _Due(rate)
        self._next_chain, self._chain_ns = start, chain_ns
        self._es_crowd, self._spy_crowd = OptionCrowd((seed, 0, 6)), OptionCrowd((seed, 0, 7))
        self._es_makers = Makers((seed, 0, 20), rate, _QUOTES_PER_100_RECORDS["ES"])
        self._spy_makers = Makers((seed, 0, 21), rate, _QUOTES_PER_100_RECORDS["SPY"])
        self._exchange, self._classic = Exchange(seed, start), CLASSIC in plant
        self._day = date.min
        self._scene: Scene | None = None
        day = utc_date(start)
        self._front = front_contract(day)
        self._books = self._list_behind(Book(OUTRIGHT_TICK_E9, _START_TICKS, (seed, 1)), day)
        self._stock = Stock((seed, 0, 4), self._fair(_START_TICKS, RATIO_E6))

    def steps(self) -> Iterator[Step]:
        """Yield what happens, without end."""
        return (step for step in self.pieces() if step is not None)

    def pieces(self) -> Iterator[Step | None]:
        """Yield what happens, without end, and None after each piece of work on what is to come."""
        while True:
            now = self._now
            opened = utc_date(now) != self._day
            if opened:
                self._open_day(now)
                yield None
            closed = self._scene_closing(now)
            stretch = self._next_stretch(now)
            step = Step(now, stretch.end, self._listing, self._spy, self._spy_interest, opened)
            if closed is not None:
                self._close_scene(closed, step)
            scene = self._scene_opening(now, step)
            halted = scene is not None and scene.kind == "halt"
            step.said = self._exchange.say(now, self._listing.options, self._books, halted=halted)
            if self._with_spy and now >= self._next_chain:
                step.chain_spot_e4 = self._fair(self._books[0].bid, self._ratio_e6)
                self._next_chain += self._chain_ns
            if step.end > now and not halted:
                yield from self._trade(step, stretch, scene)
            midnight = now - now % NS_PER_DAY + NS_PER_DAY
            self._now = midnight if step.end >= midnight - _QUIET_BEFORE_MIDNIGHT_NS else step.end
            yield step

    def _open_day(self, now: int) -> None:
        """List the day's instruments, and roll to the next contract if it is time."""
        self._day = utc_date(now)
        front = front_contract(self._day)
        if front != self._front:
            self._front, self._books = front, self._list_behind(self._books[1], self._day)
        bid = self._books[0].bid
        self._listing = listing_of(front, self._day, es_board(bid * 2_500, now, front))
        self._spy = spy_board(self._fair(bid, self._ratio_e6), now)
        self._spy_interest = (classic_interest if self._classic else open_interest)(self._seed, self._spy, self._day)

    def _list_behind(self, front: Book, day: date) -> list[Book]:
        """Return the three books of which `front` is the first, the others new."""
        entropy = (self._seed, day.toordinal())
        following = Book(OUTRIGHT_TICK_E9, front.bid + self._basis // _SPREAD_TICKS_PER_TICK, (*entropy, 2))
        return [front, following, Book(SPREAD_TICK_E9, self._basis, (*entropy, 3))]

    def _next_stretch(self, now: int) -> Stretch:
        """Return what to run next."""
        scenario = self._plan.at(now)
        if scenario is not None and scenario.begin_ns == now and scenario.kind in TICKS_AT_ONCE:
            return self._activity.stretch(now, scenario.end_ns, self._busy(PPM * _STEP_RECORDS))
        ends = [
            now - (now - self._start) % _LONGEST_NS + _LONGEST_NS,
            now - now % NS_PER_MINUTE + NS_PER_MINUTE,
            now - now % NS_PER_DAY + NS_PER_DAY - _QUIET_BEFORE_MIDNIGHT_NS,
        ]
        if scenario is not None:
            middle = (scenario.begin_ns + scenario.end_ns) // 2
            ends += [edge for edge in (scenario.begin_ns, middle, scenario.end_ns) if edge > now]
        return self._activity.stretch(now, min(ends), self._busy(_STEP_RECORDS))

    def _busy(self, records: int) -> int:
        """Return how much activity it takes for so many records."""
        return records * PPM * NS_PER_SECOND // self._rate

    def _trade(self, step: Step, stretch: Stretch, scene: Scene | None) -> Iterator[None]:
        """Let everything trade within the step, a piece after another."""
        ratio_e6 = self._wander(stretch)
        self._due.owe(stretch)
        front = step.tapes
        for tape in self._run_front(stretch, scene):
            front.append(tape)
            yield
        path = _path(step.begin, front, self._books[0].bid)
        behind = self._books[0].bid + self._basis // _SPREAD_TICKS_PER_TICK - self._books[1].bid
        others = [
            self._run_book(1, stretch, behind, None),
            self._run_book(2, stretch, self._basis - self._books[2].bid, None),
            self._run_es_options(step, stretch, path, scene),
        ]
        yield
        step.es_quotes = self._es_makers.quote(self._listing.options, stretch, step.es_options, partial(_mid_e4, path))
        yield
        step.tapes = []
        for tape in _merge(front, [tape for tape in others if tape is not None], step):
            step.tapes.append(tape)
            yield
        if self._with_spy:
            yield from self._run_spy(step, stretch, (path, ratio_e6), scene)

    # ES

    def _run_front(self, stretch: Stretch, scene: Scene | None) -> Iterator[Tape]:
        """Let the front month run, a block after another."""
        now, end = stretch.begin, stretch.end
        if scene is not None and scene.burst:
            times = now + np.arange(2 * scene.burst) * (end - now) // (2 * scene.burst + 1)
            moves = [Move(2 * i, ASK if scene.scenario.rising else BID) for i in range(scene.burst)]
            yield self._due.settle(0, self._books[0].evolve(times, moves))
            return
        led = scene is not None and scene.leads
        records = min(max(self._rate // 16, _LEAST_RECORDS), _BLOCK_RECORDS) if led else _BLOCK_RECORDS
        blocks = -(-stretch.busy // self._busy(records))
        while now < end:
            block = self._activity.stretch(now, end, -(-stretch.busy // blocks))
            now = block.end
            self._due.owe_front(block)
            goal = None if scene is None else scene.target(self._books[0].bid, now)
            tape = self._run_book(0, block, goal, scene)
            if tape is not None:
                yield tape

    def _run_book(self, instrument: int, stretch: Stretch, behind: int | None, scene: Scene | None) -> Tape | None:
        """Let a book run, whose price follows another that it is `behind` by so many ticks, or wanders."""
        n = self._due.events(instrument)
        if n < _LEAST_EVENTS:
            return None
        # Sorted by its high half, which is the time; the low half stays random.
        drawn = np.sort(self._random.random_raw(n))
        times = stretch.times(drawn >> np.uint64(32))
        luck = (drawn & 0xFFFFFFFF).astype(np.int64)
        moves = self._wandering(luck, stretch, scene) if behind is None else _catching_up(behind, n)
        for event, _ in moves:  # whoever closes the spread is quick
            times[event + 1] = min(times[event + 1], times[event] + 20_000 + luck[event] % 300_000)
        planted = Planted() if scene is None else scene.planted
        return self._due.settle(instrument, self._books[instrument].evolve(times, moves, instrument, planted))

    def _wandering(self, luck: NDArray[np.int64], stretch: Stretch, scene: Scene | None) -> list[Move]:
        """Choose the front month's moves: a random walk with the minute's drift, held loosely to where it began."""
        n = len(luck)
        likely = min(
            (stretch.busy * _MOVES_PER_MINUTE << 32) // (60 * PPM * NS_PER_SECOND * n), (1 << 32) // _RAREST_MOVE
        )
        price, drift = self._books[0].bid, self._activity.drift(stretch.begin)
        moves: list[Move] = []
        for event in np.flatnonzero(luck[: n - 1] < likely).tolist():
            if moves and event < moves[-1].event + 2:
                continue
            home = min(max((_START_TICKS - price) // 64, -200), 200)
            up = int(self._random.random_raw()) >> 54 < 512 + drift + home
            if scene is not None and scene.forbids(ASK if up else BID, price):
                continue
            price += 1 if up else -1
            moves.append(Move(event, ASK if up else BID))
        return moves

    def _wander(self, stretch: Stretch) -> Path:
        """Let basis and ratio change by a little at each whole second, and return the ratio through the stretch."""
        seconds = range(-(-stretch.begin // NS_PER_SECOND) * NS_PER_SECOND, stretch.end, NS_PER_SECOND)
        ratios = [self._ratio_e6]
        for _ in seconds:
            drawn = int(self._random.random_raw())
            if drawn & 7 == 0:
                self._basis += 1 if drawn >> 54 < 512 + 8 * (_BASIS - self._basis) else -1
            home = min(max((RATIO_E6 - self._ratio_e6) * 512 // RATIO_BAND_E6, -512), 512)
            self._ratio_e6 += 20 if int(self._ratio_random.random_raw()) >> 54 < 512 + home else -20
            ratios.append(self._ratio_e6)
        return Path(np.array([stretch.begin, *seconds]), np.array(ratios))

    def _run_es_options(self, step: Step, stretch: Stretch, path: Path, scene: Scene | None) -> Tape | None:
        times = _times(self._es_options_random, self._due.take(3), stretch)
        if not len(times):
            return None
        trades = self._es_crowd.trade(self._listing.options, times, _mid_e4(path, times), _bias(scene, step))
        step.es_options = trades = _repeated(_late(trades, scene), scene)
        return tape_of(trades)

    # SPY

    def _fair(self, bid_ticks: int, ratio_e6: int) -> int:
        return int(fair_e4(np.array([bid_ticks]), np.array([ratio_e6]))[0])

    def _run_spy(self, step: Step, stretch: Stretch, paths: tuple[Path, Path], scene: Scene | None) -> Iterator[None]:
        """Let SPY and its options trade, given ES' price and the ratio to it."""
        price, ratio_e6 = paths

        def fair(times: NDArray[np.int64]) -> NDArray[np.int64]:
            return fair_e4(price.at(times), ratio_e6.at(times))

        quoted, traded, opted = (_times(self._spy_random, self._due.take(kind), stretch) for kind in _PER_100_RECORDS)
        crossed = CROSSED_TICKS if scene is not None and scene.kind == "crossed" else 0
        before = self._stock.last
        step.quotes = self._stock.quote(quoted, fair(quoted), crossed)
        step.trades = self._stock.trade(traded, step.quotes, before)
        if scene is not None and scene.kind == "late":
            step.trades = step.trades._replace(late_ns=np.where(step.trades.seq % 4 == 0, LATE_NS, 0))
        yield
        step.options = _late(self._spy_crowd.trade(self._spy, opted, fair(opted), _bias(scene, step)), scene)
        step.repeating = scene is not None and scene.kind == "repeat"
        yield
        step.spy_quotes = self._spy_makers.quote(self._spy, stretch, step.options, fair, crossed=crossed > 0)
        yield

    # What is planted

    def _scene_closing(self, now: int) -> Scene | None:
        scene = self._scene
        if scene is None or now < scene.scenario.end_ns:
            return None
        self._scene = None
        return scene

    def _scene_opening(self, now: int, step: Step) -> Scene | None:
        if self._scene is None:
            scenario = self._plan.at(now)
            if scenario is not None and scenario.begin_ns == now:
                self._scene = Scene(scenario, self._books[0], self._listing.front.symbol)
                step.halted = True if scenario.kind == "halt" else step.halted
                if scenario.kind == "wall":
                    step.tapes.append(self._scene.raise_wall(now))
        return self._scene

    def _close_scene(self, scene: "Scene", step: Step) -> None:
        if scene.kind == "halt":
            step.halted = False
        step.tapes += scene.lower_wall(step.begin)
        truth = scene.truth(self._spy)
        if truth is not None:
            self.truths.append(truth)


def _bias(scene: Scene | None, step: Step) -> Bias | None:
    """Return who trades options while their dealers' gamma changes sign."""
    if scene is None or scene.kind != "gamma_flip":
        return None
    second_half = step.begin * 2 >= scene.scenario.begin_ns + scene.scenario.end_ns
    customers_buy = second_half == scene.scenario.rising
    return Bias(bought=236 if customers_buy else 20, size=LARGEST_BIAS if second_half else 2)


def _times(random: np.random.PCG64, n: int, stretch: Stretch) -> NDArray[np.int64]:
    """Draw n times within the stretch, ascending."""
    return stretch.times(np.sort(random.random_raw(n) >> np.uint64(32)))


def _late(trades: OptionTrades, scene: Scene | None) -> OptionTrades:
    """Make every fourth trade late, where that is planted."""
    if scene is None or scene.kind != "late":
        return trades
    return trades._replace(late_ns=np.where(trades.seq % 4 == 0, LATE_NS, 0))


def _repeated(trades: OptionTrades, scene: Scene | None) -> OptionTrades:
    """Send every fourth trade twice, where that is planted."""
    if scene is None or scene.kind != "repeat":
        return trades
    row = np.repeat(np.arange(len(trades.seq)), 1 + (trades.seq % 4 == 0))
    return OptionTrades._make([*(column[row] for column in trades[:-1]), np.diff(row, prepend=-1) == 0])


def _mid_e4(path: Path, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ES' price, given its best bid in ticks of a quarter point."""
    return (2 * path.at(times) + 1) * 1_250


def _catching_up(behind: int, n: int) -> list[Move]:
    """Choose the moves of a book whose price follows another, spread over the block's n events."""
    count = min(abs(behind), (n + 2) // 4)
    return [Move((i + 1) * n // (count + 1) - 1, ASK if behind > 0 else BID) for i in range(count)]


def _path(begin: int, tapes: list[Tape], bid: int) -> Path:
    """Return the front month's best bid through a step, which ends at `bid`."""
    happened = [tape for tape in tapes if len(tape.arrival_ns)]
    if not happened:
        return Path(np.array([begin]), np.array([bid]))
    first, *bids = (
        tape.levels[rows, 0].view(np.int64) // OUTRIGHT_TICK_E9
        for tape, rows in [(happened[0], happened[0].before[:1]), *((tape, tape.after) for tape in happened)]
    )
    return Path(np.concatenate([[begin], *(tape.arrival_ns for tape in happened)]), np.concatenate([first, *bids]))


def _merge(front: list[Tape], others: list[Tape], step: Step) -> Iterator[Tape]:
    """Sort the events of other instruments into the front month's blocks."""
    if not front:
        if others:
            yield interleave(others)
        return
    edges = [step.begin, *(int(tape.arrival_ns[0]) for tape in front[1:] if len(tape.arrival_ns)), step.end]
    blocks = [tape for i, tape in enumerate(front) if i == 0 or len(tape.arrival_ns)]
    for tape, begin, end in zip(blocks, edges[:-1], edges[1:], strict=True):
        yield interleave([tape, *(cut(other, begin, end) for other in others)])

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
from datetime import date
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.simulation.book import Book, Move, Planted, Tape
from spymaster.simulation.calendar import (
    NS_PER_MINUTE,
    PPM,
    Activity,
    Stretch,
    front_contract,
    utc_date,
)
from spymaster.simulation.classic import ClassicBook
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9, SPREAD_TICK_E9, listing_of
from spymaster.simulation.exchange import Exchange, classic_interest, open_interest
from spymaster.simulation.held import ASK, BID, NEITHER
from spymaster.simulation.option_quotes import Makers
from spymaster.simulation.options import OptionCrowd, es_board, spy_board
from spymaster.simulation.plant import CLASSIC, MOVES_PER_MINUTE, USUAL_PRICE, Truth
from spymaster.simulation.spy import SpyMarket
from spymaster.simulation.stage import AnyScene, Stage
from spymaster.simulation.step import Step
from spymaster.simulation.stock import RATIO_BAND_E6, RATIO_E6, Path, fair_e4
from spymaster.simulation.tapes import merge, option_tape, path_of, repeated

CHAIN_NS: Final = 10 * NS_PER_SECOND  # between two snapshots of the option chain
_MAX_TRUTHS: Final = 10_000  # that nobody has taken yet; the oldest go first
_LONGEST_NS: Final = CHAIN_NS  # a step; also where the chain comes less often, so that the market is the same
_STEP_RECORDS: Final = 20_000
_BLOCK_RECORDS: Final = 2_500  # of one book, generated at once
_LEAST_RECORDS: Final = 200  # in a block whose price is led: less, and numpy's calls cost more than their work
_SHARES: Final = (93, 4, 1, 2)  # of 100 DBN records: front month, next month, spread, options
_PER_100_RECORDS: Final = {"quotes": 40, "trades": 14, "options": 10}  # of SPY's events
_ES_QUOTES_PER_100_RECORDS: Final = 10  # of options; they are not among the records counted
_EVENTS_PER_100_RECORDS: Final = 90  # a trade has three records; what this misses, the next block makes up for
_LEAST_EVENTS: Final = 2  # a move takes two events, so that a slow book waits for them
_RAREST_MOVE: Final = 40  # but at most one event in so many
_START_TICKS: Final = 6_900 * 4
_BASIS: Final = 50 * 20  # in the spread's ticks
_SPREAD_TICKS_PER_TICK: Final = OUTRIGHT_TICK_E9 // SPREAD_TICK_E9
_QUIET_BEFORE_MIDNIGHT_NS: Final = 1_000_000
_DUE_UNIT: Final = 100 * PPM * NS_PER_SECOND


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
        self,
        seed: int,
        rate: int,
        start: int,
        plant: tuple[str, ...],
        *,
        with_spy: bool,
        chain_ns: int = CHAIN_NS,
        strength: float = 1.0,
        price: str = USUAL_PRICE,
    ) -> None:
        self.truths: deque[Truth] = deque(maxlen=_MAX_TRUTHS)
        self._seed, self._rate, self._start, self._now, self._with_spy = seed, rate, start, start, with_spy
        self._activity, self._classic = Activity(seed), CLASSIC in plant
        self._stage, self._moves_per_minute = Stage(seed, start, plant, strength), MOVES_PER_MINUTE[price]
        self._random = np.random.PCG64(np.random.SeedSequence((seed, 0, 1)))
        self._ratio_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 3)))
        self._es_options_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 8)))
        self._basis, self._ratio_e6 = _BASIS, RATIO_E6
        self._due = _Due(rate)
        self._next_chain, self._chain_ns = start, chain_ns
        self._es_crowd = OptionCrowd((seed, 0, 6))
        self._es_makers = Makers((seed, 0, 20), rate, _ES_QUOTES_PER_100_RECORDS)
        self._exchange = Exchange(seed, start)
        self._day = date.min
        day = utc_date(start)
        self._front = front_contract(day)
        self._books = self._list_behind(self._book(OUTRIGHT_TICK_E9, _START_TICKS, (seed, 1)), day)
        self._spy_market = SpyMarket(seed, rate, self._fair(_START_TICKS, RATIO_E6))

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
            stretch = self._next_stretch(now)
            step = Step(now, stretch.end, self._listing, self._spy, self._spy_interest, opened)
            scene = self._turn_to(now, step)
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

    def _turn_to(self, now: int, step: Step) -> AnyScene | None:
        """Return the scene that is on, after an end to the one before."""
        ended = self._stage.ended(now)
        if ended is not None:
            self.truths += ended.truths({"SPY": self._spy, "ES": self._listing.options})
            step.tapes += ended.end(now)
        scene = self._stage.scene(now, self._books[0], self._listing.front.symbol)
        if scene is not None and scene.kind == "halt" and scene.scenario.begin_ns == now:
            step.halted = True
        elif ended is not None and ended.kind == "halt":
            step.halted = False
        return scene

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
        following = self._book(OUTRIGHT_TICK_E9, front.bid + self._basis // _SPREAD_TICKS_PER_TICK, (*entropy, 2))
        return [front, following, self._book(SPREAD_TICK_E9, self._basis, (*entropy, 3))]

    def _book(self, tick_e9: int, bid: int, entropy: tuple[int, ...]) -> Book:
        return (ClassicBook if self._classic else Book)(tick_e9, bid, entropy)

    def _next_stretch(self, now: int) -> Stretch:
        """Return what to run next."""
        scenario = self._stage.next(now)
        if scenario is not None and scenario.begin_ns == now and scenario.kind in ("sweep", "jump"):
            return self._activity.stretch(now, scenario.end_ns, self._busy(PPM * _STEP_RECORDS))
        ends = [
            now - (now - self._start) % _LONGEST_NS + _LONGEST_NS,
            now - now % NS_PER_MINUTE + NS_PER_MINUTE,
            now - now % NS_PER_DAY + NS_PER_DAY - _QUIET_BEFORE_MIDNIGHT_NS,
        ]
        if scenario is not None:
            ends += [edge for edge in scenario.edges if edge > now]
        return self._activity.stretch(now, min(ends), self._busy(_STEP_RECORDS))

    def _busy(self, records: int) -> int:
        """Return how much activity it takes for so many records."""
        return records * PPM * NS_PER_SECOND // self._rate

    def _trade(self, step: Step, stretch: Stretch, scene: AnyScene | None) -> Iterator[None]:
        """Let everything trade within the step, a piece after another."""
        ratio_e6 = self._wander(stretch)
        self._due.owe(stretch)
        front = step.tapes
        for tape in self._run_front(stretch, scene):
            front.append(tape)
            yield
        path = path_of(step.begin, front, self._books[0].bid)
        front = front if scene is None else scene.send_front(front, step.end)
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
        for tape in merge(front, [tape for tape in others if tape is not None], step.begin, step.end):
            step.tapes.append(tape)
            yield
        if self._with_spy:
            yield from self._spy_market.run(step, stretch, self._due.take, partial(_fair_e4, path, ratio_e6), scene)

    # ES

    def _run_front(self, stretch: Stretch, scene: AnyScene | None) -> Iterator[Tape]:
        """Let the front month run, a block after another."""
        now, end, due = stretch.begin, stretch.end, stretch.begin
        burst = None if scene is None else scene.burst(now, end)
        if burst is not None:
            yield self._due.settle(0, self._books[0].evolve(*burst))
            return
        led = scene is not None and scene.leads
        records = min(max(self._rate // 16, _LEAST_RECORDS), _BLOCK_RECORDS) if led else _BLOCK_RECORDS
        blocks = -(-stretch.busy // self._busy(records))
        while now < end:
            if scene is not None and now == due:
                yield from scene.act(now)
            due = end if scene is None else scene.next_act(now)
            block = self._activity.stretch(now, min(end, due), -(-stretch.busy // blocks))
            now = block.end
            self._due.owe_front(block)
            goal = None if scene is None else scene.target(self._books[0].bid, now)
            tape = self._run_book(0, block, goal, scene)
            if tape is not None:
                yield tape

    def _run_book(self, instrument: int, stretch: Stretch, behind: int | None, scene: AnyScene | None) -> Tape | None:
        """Let a book run, whose price follows another that it is `behind` by so many ticks, or wanders."""
        n = self._due.events(instrument)
        if n < _LEAST_EVENTS:
            return None
        # Sorted by its high half, which is the time; the low half stays random.
        drawn = np.sort(self._random.random_raw(n))
        times = stretch.times(drawn >> np.uint64(32))
        luck = (drawn & 0xFFFFFFFF).astype(np.int64)
        moves = self._wandering(luck, stretch, scene) if behind is None else _catching_up(behind, n)
        for event, _, _ in moves:  # whoever closes the spread is quick
            times[event + 1] = min(times[event + 1], times[event] + 20_000 + luck[event] % 300_000)
        planted = Planted() if scene is None else scene.planted(stretch.end, n)
        return self._due.settle(instrument, self._books[instrument].evolve(times, moves, instrument, planted))

    def _wandering(self, luck: NDArray[np.int64], stretch: Stretch, scene: AnyScene | None) -> list[Move]:
        """Choose the front month's moves: a random walk with the minute's drift, held loosely to where it began."""
        n = len(luck)
        likely = min(
            (stretch.busy * self._moves_per_minute << 32) // (60 * PPM * NS_PER_SECOND * n), (1 << 32) // _RAREST_MOVE
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

    def _run_es_options(self, step: Step, stretch: Stretch, path: Path, scene: AnyScene | None) -> Tape | None:
        times = stretch.draw(self._es_options_random, self._due.take(3))
        if not len(times):
            return None
        bias = None if scene is None else scene.bias(step.begin)
        trades = self._es_crowd.trade(self._listing.options, times, _mid_e4(path, times), bias)
        if scene is not None:
            trades = scene.send_options("ES", trades, step.end)
            trades = repeated(trades) if scene.kind == "repeat" else trades
        step.es_options = trades
        return option_tape(trades, inside=BID if self._classic else NEITHER)

    def _fair(self, bid_ticks: int, ratio_e6: int) -> int:
        return int(fair_e4(np.array([bid_ticks]), np.array([ratio_e6]))[0])


def _mid_e4(path: Path, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ES' price, given its best bid in ticks of a quarter point."""
    return (2 * path.at(times) + 1) * 1_250


def _fair_e4(path: Path, ratio_e6: Path, times: NDArray[np.int64]) -> NDArray[np.int64]:
    return fair_e4(path.at(times), ratio_e6.at(times))


def _catching_up(behind: int, n: int) -> list[Move]:
    """Choose the moves of a book whose price follows another, spread over the block's n events."""
    count = min(abs(behind), (n + 2) // 4)
    return [Move((i + 1) * n // (count + 1) - 1, ASK if behind > 0 else BID) for i in range(count)]

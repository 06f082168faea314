"""Contests at a level: what shows before the price arrives tells how likely the level breaks, and nothing else does.

The front month's price is led to a multiple of 2.5 points and stays there for a while; then the level breaks or
rejects. How likely it breaks is the contest's state: `hold`, `even` or `go`. On the way and at the level three kinds
of evidence may show, each by luck of its own:
    defence     a wall at the level, or its price and those behind it pulled
    aggression  prints against the approach, or towards the level, that far outnumber the others
    gamma       customers who sell options of SPY and ES, or who buy them

Why the outcome cannot leak into what comes before: a generator draws it that nothing else uses, it is drawn at the
decision and not before, a step of the market ends there, and whatever was held is let go in either case. What did not
come off is not told, and that cannot select outcomes: breaks and rejections are as many moves, in as much time.
"""

from functools import cached_property
from math import ceil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.simulation.approach import Approach, best_bids
from spymaster.simulation.book import Book, Eaten, Move, Planted, Tape
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.held import ASK, BID, Hold
from spymaster.simulation.options import Bias, Board, OptionTrades
from spymaster.simulation.plant import Truth
from spymaster.simulation.stock import StockTrades

BREAKS: Final = {"hold": 0.2, "even": 0.5, "go": 0.8}  # how likely a contest of each state breaks
SHOWS: Final = {"defence": 0.9, "aggression": 0.7, "gamma": 0.7}  # how likely each shows; in `even` nothing does
LEVEL_TICKS: Final = 10  # levels are multiples of so many
BEYOND_TICKS: Final = 7  # moves from the level on, so that either touch is at least six ticks beyond it, or before it
_MS: Final = 1_000_000
_GAP_NS: Final = (12 * NS_PER_SECOND, 30 * NS_PER_SECOND)  # from the end of one to the begin of the next
_APPROACH_NS: Final = (5 * NS_PER_SECOND, 8 * NS_PER_SECOND)
_STAY_NS: Final = (1_800 * _MS, 2_700 * _MS)  # give or take a quarter of a second by which it arrives early or late
_AFTER_NS, _RUN_NS = 5 * NS_PER_SECOND, 2_500 * _MS  # after the decision: all, and while it is led away
_LEAST_STAY_NS: Final = 1_500 * _MS
_BEAT_NS: Final = 250 * _MS  # the price is led, and levels are pulled, so often
_NEAREST_TICKS: Final = 7  # from the touch to the level, at the begin
_WALL_TIMES: Final = 10  # times the usual size of any depth
_PULLED_LEFT, _PULLED_LEVELS, _PULL_BEATS = 0.04, 14, 4  # of the usual size; prices from the level on; a second
_REFILL_SHARE: Final = 0.8  # of the usual size, when what was pulled is let go
_FEWEST_LOTS: Final = 2  # of a level that is pulled: one lot would trade in moves alone
_ONE_SIDED: Final = 0.85  # of prints and of lots
_PRINTS_PER_1000_EVENTS, _LOTS_PER_PRINT = 31, 4  # of one side, in a book where nothing is planted
_CUSTOMERS_OF_256, _OPTION_SIZES = 118, 4  # that buy above, or sell below, one half; times the usual size


class Contest(NamedTuple):
    """What is drawn of a contest: everything but its outcome."""

    number: int
    begin_ns: int
    arrive_ns: int  # when the price is led to have arrived
    decide_ns: int
    end_ns: int
    rising: bool
    state: str
    shows: tuple[str, ...]
    kind: str = "contest"

    @property
    def edges(self) -> tuple[int, ...]:
        """Where a step of the market ends."""
        return self.begin_ns, self.decide_ns, self.end_ns


def draw_contest(seed: int, number: int, after: int) -> Contest:
    """Return a contest that begins some time after the one before has ended."""
    raw = np.random.PCG64(np.random.SeedSequence((seed, number, 17))).random_raw(5 + len(SHOWS))
    gap, approach, stay, state, side, *parts = ((raw >> np.uint64(32)).astype(np.int64)).tolist()
    begin = after + _between(_GAP_NS, gap)
    arrive = begin + _between(_APPROACH_NS, approach)
    decide = arrive + _between(_STAY_NS, stay)
    chosen = list(BREAKS)[state % len(BREAKS)]
    shows = tuple(part for part, luck in zip(SHOWS, parts, strict=True) if luck < SHOWS[part] * (1 << 32))
    shown = shows if chosen != "even" else ()
    return Contest(number, begin, arrive, decide, decide + _AFTER_NS, bool(side & 1), chosen, shown)


def outcome_draw(seed: int, number: int) -> int:
    """Return what alone decides a contest: 32 bits, of a generator of its own. Below P times 2^32 the level breaks."""
    return int(np.random.PCG64(np.random.SeedSequence((seed, number, 18))).random_raw()) >> 32


def breaks(seed: int, contest: Contest) -> bool:
    return outcome_draw(seed, contest.number) < BREAKS[contest.state] * (1 << 32)


def _between(span: tuple[int, int], luck: int) -> int:
    return span[0] + (span[1] - span[0]) * luck // (1 << 32)


class ContestPlan:
    """The contests of a market, one after another. One that would touch UTC midnight is left out."""

    def __init__(self, seed: int, start_ns: int) -> None:
        self._seed = seed
        self._current = self._following(0, start_ns)

    def at(self, now: int) -> Contest:
        """Return the contest that is going on at `now`, or the next one; `now` never goes back."""
        while now >= self._current.end_ns:
            self._current = self._following(self._current.number + 1, self._current.end_ns)
        return self._current

    def _following(self, number: int, after: int) -> Contest:
        contest = draw_contest(self._seed, number, after)
        while contest.begin_ns // NS_PER_DAY != (contest.end_ns + NS_PER_SECOND) // NS_PER_DAY:
            contest = draw_contest(self._seed, contest.number + 1, contest.end_ns)
        return contest


class ContestScene:
    """A contest that is being played in the front month's book.

    Args:
        strength: more than 0 and up to 1, by which the evidence is multiplied; the outcome is as likely at any.
    """

    leads, crossed = True, 0

    def __init__(self, contest: Contest, book: Book, contract: str, strength: float, seed: int) -> None:
        self.scenario, self.kind, self._strength, self._seed = contest, contest.kind, strength, seed
        self._book, self._contract = book, contract
        self.side, self._away = (ASK, 1) if contest.rising else (BID, -1)
        nearest = book.bid + contest.rising + self._away * _NEAREST_TICKS
        self.level = nearest + self._away * (-nearest * self._away % LEVEL_TICKS)
        self._bid_at_begin, self._bid_at_level = book.bid, self.level - contest.rising
        self._usual = book.typical[self.side]
        self._holds: Hold | None = None
        self._outcome_ns: int | None = None
        self._behind, self._owed_prints, self._owed_lots = 0, 0.0, 0.0
        self._approach = Approach(self.level, self.side, self._usual, (contest.begin_ns, contest.decide_ns))

    @cached_property
    def _breaks(self) -> bool:
        """Whether the level breaks. Not to be asked before the decision."""
        return breaks(self._seed, self.scenario)

    # What it does in the book

    def act(self, now: int) -> list[Tape]:
        """Raise or pull what defends the level, and let go at the decision. Harmless when there is nothing to do."""
        held, due = self._holds, self._defence(now)
        if due == held:
            return []
        self._holds = due
        if due is not None:
            return [self._book.hold(now, [due])]
        usual = max(int(self._usual.mean()), _FEWEST_LOTS)
        if self.scenario.state == "hold":
            last = Hold(self.side, self.level, most=usual)
        else:
            last = Hold(self.side, self.level, least=int(usual * _REFILL_SHARE) or 1, levels=_PULLED_LEVELS)
        return [self._book.hold(now, [last]), self._book.hold(now, ())]

    def _defence(self, now: int) -> Hold | None:
        """Return the prices to hold from `now` on."""
        if now >= self.scenario.decide_ns or "defence" not in self.scenario.shows:
            return None
        if self.scenario.state == "hold":
            lots = ceil(_WALL_TIMES * self._strength * int(self._usual.max()))
            return Hold(self.side, self.level, least=max(lots, 2))
        done = min((now - self.scenario.begin_ns) // _BEAT_NS + 1, _PULL_BEATS) / _PULL_BEATS
        left = 1 - self._strength * (1 - _PULLED_LEFT) * done
        most = max(int(self._usual.mean() * left), _FEWEST_LOTS)
        return Hold(self.side, self.level, most=most, levels=_PULLED_LEVELS)

    def next_act(self, now: int) -> int:
        """Return where the block that begins at `now` must end."""
        begin, arrive = self.scenario.begin_ns, self.scenario.arrive_ns
        beat = now + _BEAT_NS - (now - begin) % _BEAT_NS
        return min(beat, arrive) if now < arrive else min(beat, self.scenario.end_ns)

    def end(self, now: int) -> list[Tape]:
        """Leave the book to itself; it was let go at the decision."""
        return []

    def planted(self, end: int, events: int) -> Planted:
        """Return what is planted in a block of so many events, which ends at `end`: prints of one side.

        Where no aggression shows, they are as many as the moves towards the level, each of which is a print of a whole
        touch: or every approach would look like one, the more so the slower the market.
        """
        if end > self.scenario.decide_ns:
            return Planted()
        shows = "aggression" in self.scenario.shows
        share = 0.5 + (_ONE_SIDED - 0.5) * self._strength * shows
        ratio, towards = share / (1 - share), shows and self.scenario.state == "go"
        others = events * _PRINTS_PER_1000_EVENTS / 1_000
        moves, touch = min(abs(self._behind), (events + 2) // 4), max(int(self._usual.mean()), 2)
        self._owed_prints += ratio * others - moves if towards else ratio * (others + moves)
        lots = ratio * others * _LOTS_PER_PRINT
        self._owed_lots += lots - moves * touch if towards else lots + ratio * moves * touch
        prints = max(min(int(self._owed_prints), (events - 1) // 2 - moves), 0)
        clip = min(max(int(self._owed_lots / max(prints, 1)), 1), 2 * touch)
        self._owed_prints, self._owed_lots = self._owed_prints - prints, self._owed_lots - prints * clip
        return Planted(Eaten(self.side if towards else 1 - self.side, prints, clip) if prints else None)

    def burst(self, now: int, end: int) -> tuple[NDArray[np.int64], list[Move]] | None:
        """Return no events of its own."""
        return None

    def forbids(self, side: int, bid: int) -> bool:
        """Return whether the touch of `side` must not be taken now: never."""
        return False

    def target(self, bid: int, now: int) -> int | None:
        """Return how far the price is from where it should be at `now`, the end of a block; None where it is free."""
        begin, arrive, decide = self.scenario.begin_ns, self.scenario.arrive_ns, self.scenario.decide_ns
        if now <= decide:
            whole = abs(self._bid_at_level - self._bid_at_begin)
            goal = self._bid_at_begin + self._away * (whole * min(now - begin, arrive - begin) // (arrive - begin))
        else:
            if not self._arrived or self._gone(bid) >= BEYOND_TICKS:
                return None
            goal = self._bid_at_level + self._way * min(BEYOND_TICKS * (now - decide) // _RUN_NS + 1, BEYOND_TICKS)
        self._behind = goal - bid
        return self._behind

    @property
    def _arrived(self) -> bool:
        """Whether the price was at the level in time, to be asked after the decision."""
        return self._approach.arrival_ns is not None and (
            self._approach.arrival_ns <= self.scenario.decide_ns - _LEAST_STAY_NS
        )

    @property
    def _way(self) -> int:
        """Whether the price goes up or down from the decision on."""
        return self._away if self._breaks else -self._away

    def _gone(self, bid: int | NDArray[np.int64]) -> int | NDArray[np.int64]:
        """Return how far the price has gone from the level, the way that was drawn."""
        return (bid - self._bid_at_level) * self._way

    def bias(self, now: int) -> Bias | None:
        """Return who trades options in the step that begins at `now`."""
        if now >= self.scenario.decide_ns or "gamma" not in self.scenario.shows:
            return None
        more = round(_CUSTOMERS_OF_256 * self._strength) * (1 if self.scenario.state == "go" else -1)
        return Bias(bought=128 + more, size=_OPTION_SIZES)

    # What is told of it

    def send_front(self, tapes: list[Tape], end: int) -> list[Tape]:
        """Measure what the front month's book shows."""
        for tape in tapes:
            if end <= self.scenario.decide_ns:
                self._approach.watch(tape)
            elif self._outcome_ns is None and self._arrived:
                there = np.flatnonzero(self._gone(best_bids(tape)) >= BEYOND_TICKS)
                self._outcome_ns = int(tape.arrival_ns[there[0]]) if len(there) else None
        return tapes

    def send_options(self, underlying: str, trades: OptionTrades, end: int) -> OptionTrades:
        """Measure whose side the options of an underlying, SPY or ES, trade on."""
        if end <= self.scenario.decide_ns:
            self._approach.watch_flow(underlying, trades)
        return trades

    def send_stock(self, trades: StockTrades, end: int) -> StockTrades:
        return trades

    def truths(self, boards: dict[str, Board]) -> list[Truth]:
        """Return what is told of the contest: nothing if the price did not arrive, or did not go on in time."""
        if self._outcome_ns is None:
            return []
        contest = self.scenario
        told: Truth = {
            "kind": contest.kind,
            "begin_ns": contest.begin_ns,
            "end_ns": contest.end_ns,
            "instrument": self._contract,
            "price": self.level * OUTRIGHT_TICK_E9 / 1e9,
            "side": "ask" if self.side == ASK else "bid",
            "number": contest.number,
            "state": contest.state,
            "p_break": BREAKS[contest.state],
            "shows": list(contest.shows),
            **self._approach.told(contest.state, contest.shows),
            "decision_ns": contest.decide_ns,
            "outcome": "break" if self._breaks else "reject",
            "outcome_ns": self._outcome_ns,
        }
        return [told]

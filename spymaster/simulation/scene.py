"""A planted scenario while it is played: what it does in the front month's book.

What it does is a multiple of the book's own typical size, and is timed by the market's clock, so that it is the same
at every rate. It holds prices, not depths, see `held.py`. `outcome.py` measures what comes of it.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster.simulation.book import Book, Eaten, Move, Planted, Tape
from spymaster.simulation.held import ASK, BID, Hold
from spymaster.simulation.options import LARGEST_BIAS, Bias, Board, OptionTrades
from spymaster.simulation.outcome import Outcome, Place
from spymaster.simulation.plant import Scenario, Truth
from spymaster.simulation.stock import StockTrades
from spymaster.simulation.tapes import late_options, late_stock, late_tape

_WALL_TIMES, _WALL_NEAREST, _WALL_PLACES = 10, 2, 3  # times the usual size, two to four ticks beyond the touch
_VACUUM_LEFT, _VACUUM_PROMISED = 0.04, 0.05  # of the usual size
_VACUUM_LEAST_LOTS = 2  # of one lot nothing could be traded but by a move
_VACUUM_INWARD, _VACUUM_OUTWARD = 12, 30  # ticks from the touch, so that the side stays thin wherever the price goes
_VACUUM_CUTS, _CUT_NS = 8, 100_000_000
_REFILL_SHARE = 0.8  # of the usual size, at the end of a vacuum
_EATEN_TOUCHES, _EATEN_VOLUMES = 12, 8  # typical touches over the scene, and times the usual volume of the side
_TICKS_AT_ONCE: Final = {"sweep": 6, "jump": 24}
_LEAST_SWEPT = 3
_LEVEL_TICKS, _BEYOND_TICKS = 6, 6  # how far a level to break or reject lies from the touch, and how far it goes on
_CROSSED_TICKS = 3
_LATE_OF_256 = 64
_CUSTOMERS_OF_256 = 118  # that buy above, or sell below, one half


class Scene:
    """A scenario that is being played in the front month's book.

    Args:
        strength: more than 0 and up to 1, by which its size is multiplied.
    """

    def __init__(self, scenario: Scenario, book: Book, contract: str, strength: float = 1.0) -> None:
        self.scenario, self.kind, self._strength = scenario, scenario.kind, strength
        self._book, self._contract = book, contract
        self._bid_at_begin = book.bid
        self.leads = scenario.kind in ("break", "reject")
        self.side = ASK if scenario.rising else BID
        self._away = 1 if scenario.rising else -1
        touch = book.bid + scenario.rising
        self._depth = _WALL_NEAREST + scenario.luck % _WALL_PLACES if self.kind == "wall" else 0
        self.level = touch + self._away * (_LEVEL_TICKS if self.leads else self._depth)
        self._usual = book.typical[self.side]
        place = Place(self.side, self.level, touch - self._away * _VACUUM_INWARD, touch + self._away * _VACUUM_OUTWARD)
        self.outcome = Outcome(scenario, place, int(self._usual[self._depth]), int(self._usual.sum()))
        self._owed, self._asked_lots, self._asked_until = 0.0, 0.0, scenario.begin_ns
        self._beyond = max(1, round(_BEYOND_TICKS * strength))
        self._levels = max(_LEAST_SWEPT, round(_TICKS_AT_ONCE.get(self.kind, 0) * strength))
        self.crossed = max(1, round(_CROSSED_TICKS * strength)) if self.kind == "crossed" else 0

    def act(self, now: int) -> list[Tape]:
        """Hold the prices that the scene holds from now on. Due at its begin and each `next_act`; harmless between."""
        if self.kind == "wall":
            hold = Hold(self.side, self.level, least=max(2, math.ceil(self._wanted * self._usual[self._depth])))
        elif self.kind == "vacuum":
            done = min((now - self.scenario.begin_ns) // _CUT_NS + 1, _VACUUM_CUTS) / _VACUUM_CUTS
            left = 1 - self._strength * (1 - _VACUUM_LEFT) * done
            hold = self._pulled(most=max(_VACUUM_LEAST_LOTS, int(self._usual.mean() * left)))
        else:
            return []
        return [self._book.hold(now, [hold])]

    def next_act(self, now: int) -> int:
        """Return when `act` is due again; the scene's end where it is not."""
        begin, end = self.scenario.begin_ns, self.scenario.end_ns
        cut = (now - begin) // _CUT_NS + 1
        return begin + cut * _CUT_NS if self.kind == "vacuum" and cut < _VACUUM_CUTS else end

    def end(self, now: int) -> list[Tape]:
        """Take away what was raised, put back what was pulled, and let the prices go."""
        usual = max(int(self._usual[self._depth]), 2)
        if self.kind == "wall":
            last = Hold(self.side, self.level, most=usual)
        elif self.kind == "vacuum":
            last = self._pulled(least=int(usual * _REFILL_SHARE) or 1)
        else:
            return []
        return [self._book.hold(now, [last]), self._book.hold(now, ())]

    def _pulled(self, least: int = 1, most: int | None = None) -> Hold:
        nearest = self.level - self._away * _VACUUM_INWARD
        return Hold(self.side, nearest, least, most, _VACUUM_INWARD + _VACUUM_OUTWARD + 1)

    def planted(self, end: int, events: int) -> Planted:
        """Return what is planted in a block of so many events, which ends at `end`."""
        if self.kind != "absorption":
            return Planted(crossed=self.crossed)
        lasts = self.scenario.end_ns - self.scenario.begin_ns
        touch = max(int(self._usual[0]), 2)
        lots = _EATEN_TOUCHES * touch * (end - self._asked_until) / lasts
        lots = (lots + _EATEN_VOLUMES * self._book.traded(self.side, events)) * self._strength
        self._asked_until = end
        self._owed, self._asked_lots = self._owed + lots, self._asked_lots + lots
        clip = touch * 3 // 4
        trades = min(int(self._owed) // clip, max(events - 1, 0) // 2)
        self._owed -= trades * clip
        return Planted(Eaten(self.side, trades, clip))

    def burst(self, now: int, end: int) -> tuple[NDArray[np.int64], list[Move]] | None:
        """Return the events of a step in which many levels are taken, all in one instant."""
        if self.kind not in _TICKS_AT_ONCE:
            return None
        refills = now + (np.arange(self._levels) + 1) * (end - now) // (self._levels + 2)
        return np.concatenate([np.full(self._levels, now), refills]), [Move(0, self.side, self._levels)]

    def forbids(self, side: int, bid: int) -> bool:
        """Return whether the touch of `side` must not be taken now."""
        if self.kind in ("absorption", "crossed"):
            return True
        return self.kind == "wall" and side == self.side and bid + (side == ASK) == self.level

    def target(self, bid: int, now: int) -> int | None:
        """Return how far the price is from where it should be at `now`; None where it is free."""
        if not self.leads:
            return None
        begin, end = self.scenario.begin_ns, self.scenario.end_ns
        done = (now - begin) * 1_000 // (end - begin)
        if done < 350:
            goal = self._bid_at_begin + (self._bid_at_level - self._bid_at_begin) * done // 350
        elif done < 500:
            goal = self._bid_at_level
        else:
            beyond = min((done - 500) * self._beyond // 200, self._beyond)
            goal = self._bid_at_level + self._away * (beyond + 1 if self.kind == "break" else -beyond)
        return goal - bid

    @property
    def _bid_at_level(self) -> int:
        """The bid while the level is a touch."""
        return self.level - self.scenario.rising

    def bias(self, now: int) -> Bias | None:
        """Return who trades options while the flow of their customers turns."""
        if self.kind != "flow_turn":
            return None
        second_half = now * 2 >= self.scenario.begin_ns + self.scenario.end_ns
        more = round(_CUSTOMERS_OF_256 * self._strength) * (1 if second_half == self.scenario.rising else -1)
        return Bias(bought=128 + more, size=LARGEST_BIAS if second_half else 2)

    # How it is sent

    def send_front(self, tapes: list[Tape], end: int) -> list[Tape]:
        """Let some of the front month's events come late, where that is planted, but before the step's end."""
        for tape in tapes:
            self.outcome.watch(tape)
        if self.kind != "late" or not tapes:
            return tapes
        late = late_tape(tapes, end, self._late_of_256)
        self.outcome.count_late(late)
        return [late]

    def send_options(self, underlying: str, trades: OptionTrades, end: int) -> OptionTrades:
        self.outcome.watch_flow(underlying, trades)
        return late_options(trades, end, self._late_of_256) if self.kind == "late" else trades

    def send_stock(self, trades: StockTrades, end: int) -> StockTrades:
        return late_stock(trades, end, self._late_of_256) if self.kind == "late" else trades

    @property
    def _late_of_256(self) -> int:
        return max(1, round(_LATE_OF_256 * self._strength))

    # What is told of it

    @property
    def _wanted(self) -> float:
        """How strong the scenario should be, in the units of its `strength`."""
        wanted = {
            "wall": _WALL_TIMES * self._strength,
            "vacuum": 1 - self._strength * (1 - _VACUUM_PROMISED),
            "absorption": max(self._asked_lots / max(int(self._usual[0]), 1), _EATEN_TOUCHES * self._strength),
            "sweep": self._levels,
            "jump": self._levels,
            "break": self._beyond,
            "reject": self._beyond,
            "crossed": self.crossed,
            "late": self._late_of_256 / 256,
            "flow_turn": _CUSTOMERS_OF_256 * self._strength / 128,
        }
        return wanted.get(self.kind, 1.0)

    def truths(self, boards: dict[str, Board]) -> list[Truth]:
        """Return what is told of the scene, with the options of each underlying, or nothing if it did not come off."""
        beyond = (self._book.bid - self._bid_at_level) * self._away
        return self.outcome.truths(self._contract, boards, self._wanted, beyond)

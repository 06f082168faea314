"""The market as it first was, for `plant=classic`: its books, scenes and plan, so that old seeds keep their bytes.

A level that leaves the ten is forgotten. Time is cut into slots of twenty seconds; each slot holds one scenario, the
kinds in turn. When, in which direction and how large is a pure function of the seed and the slot. What is planted acts
an event at a time, so that how strong it is depends on the rate.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.simulation.book import DEPTH, FLOOR, Book, Move, Planted, Tape, walk
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.held import ASK, BID, EXTRA, ORDERS
from spymaster.simulation.options import LARGEST_BIAS, Bias, Board, OptionTrades
from spymaster.simulation.plant import FIRST_NS, JITTER_NS, LASTS_NS, Scenario, Truth
from spymaster.simulation.stock import StockTrades

SLOT_NS: Final = 20 * NS_PER_SECOND
KIND_OF: Final = {
    "walls": "wall", "vacuums": "vacuum", "absorption": "absorption", "sweeps": "sweep", "gamma": "gamma_flip",
    "breaks": "break", "rejections": "reject", "late": "late", "repeats": "repeat", "halts": "halt",
    "crossed": "crossed", "jumps": "jump",
}  # fmt: skip
_LEVEL_TICKS, _BEYOND_TICKS = 6, 6  # how far a level to break or reject lies from the touch, and how far it goes on
_WALL_LOTS, _WALL_FLOOR, _WALL_DEPTH = 500, 460, 3
_TICKS_AT_ONCE = {"sweep": 5, "jump": 24}
_LATE_NS = 400_000_000
_CROSSED_TICKS = 3
_HIT_BELOW = 112  # of 256 events, those at a touch that is hit
_PULLED_CHANCE = 10  # of 256, that a step is upwards on a side that is pulled


class ClassicPlan:
    """The scenarios of a market."""

    def __init__(self, seed: int, start_ns: int, kinds: tuple[str, ...]) -> None:
        self._seed, self._start, self._kinds = seed, start_ns, kinds
        self._slot = -1
        self._current: Scenario | None = None

    def at(self, now: int) -> Scenario | None:
        """Return the scenario that begins at or after `now`, or is going on then, in the slot of `now`."""
        if not self._kinds:
            return None
        slot = (now - self._start) // SLOT_NS
        if slot != self._slot:
            self._slot, self._current = slot, self._scenario(slot)
        return self._current

    def _scenario(self, slot: int) -> Scenario | None:
        asked = self._kinds[(slot + self._seed) % len(self._kinds)]
        draws = np.random.PCG64(np.random.SeedSequence((self._seed, slot, 5))).random_raw(2)
        begin = self._start + slot * SLOT_NS + FIRST_NS + int(draws[0] >> np.uint64(33)) % JITTER_NS
        end = begin + LASTS_NS[asked]
        if begin // NS_PER_DAY != (end + NS_PER_SECOND) // NS_PER_DAY:
            return None
        return Scenario(KIND_OF[asked], begin, end, bool(draws[1] & np.uint64(1)), int(draws[1] >> np.uint64(40)))


class _Wall(NamedTuple):
    """A level that holds at least so many orders and extra lots, wherever the touch goes."""

    side: int
    price: int
    orders: int
    extra: int


class ClassicBook(Book):
    """A book that forgets a level out of sight, and whose scenes act an event at a time."""

    wall: _Wall | None = None
    thin: int | None = None  # the side whose levels beyond the touch are pulled
    hit: int | None = None  # the side whose touch is traded against, and filled again

    def _places(self, drawn: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        column, chance = super()._places(drawn)
        if self.hit is not None:
            column = np.where(drawn[:, 4] < _HIT_BELOW, self.hit * DEPTH, column)
        if self.thin is not None:
            chance[:, self.thin * DEPTH + 1 : (self.thin + 1) * DEPTH] = _PULLED_CHANCE
        return column, chance

    def _trades(self, drawn: NDArray[np.uint8], column: NDArray[np.int64]) -> NDArray[np.bool_]:
        trades = super()._trades(drawn, column)
        if self.hit is not None:
            trades |= column == self.hit * DEPTH
        if self.thin is not None:
            trades &= column != self.thin * DEPTH
        return trades

    def _walk(
        self,
        states: NDArray[np.int32],
        steps: NDArray[np.int32],
        column: NDArray[np.int64],
        span: tuple[int, int],
        touch: Sequence[int],
    ) -> None:
        begin, end = span
        if begin < end:
            walk(states, steps, begin, end, self._floor(touch, states[begin]))

    def _floor(self, touch: Sequence[int], state: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the least numbers, with those of a wall; one that has not got them keeps none."""
        if self.wall is None:
            return FLOOR
        side, price, orders, extra = self.wall
        depth = (price - touch[side]) * (1 if side == ASK else -1)
        floor = np.broadcast_to(FLOOR, (2, 2, DEPTH)).copy()
        if 0 <= depth < DEPTH and state[ORDERS, side, depth] >= orders:
            floor[ORDERS, side, depth] = orders
        if 0 <= depth < DEPTH and state[EXTRA, side, depth] >= extra:
            floor[EXTRA, side, depth] = extra
        return floor

    def _lose_sight(self, state: NDArray[np.int32], side: int, price: int) -> None:
        pass


class ClassicScene:
    """A scenario that is being played in the front month's book."""

    def __init__(self, scenario: Scenario, book: ClassicBook, contract: str) -> None:
        self.scenario, self.kind = scenario, scenario.kind
        self._book, self._contract = book, contract
        self.bid_at_begin = book.bid
        self.outcome = None
        self.leads = scenario.kind in ("break", "reject")
        self.crossed = _CROSSED_TICKS if scenario.kind == "crossed" else 0
        up = scenario.rising
        self.side = ASK if up else BID
        touch = book.bid + 1 if up else book.bid
        away = 1 if up else -1
        self.level = touch + away * (_LEVEL_TICKS if self.leads else 0)
        if self.kind == "wall":
            self.level = touch + away * _WALL_DEPTH

    def act(self, now: int) -> list[Tape]:
        """Change the book as the scene asks, at its begin."""
        if now > self.scenario.begin_ns:
            return []
        book = self._book
        match self.kind:
            case "wall":
                raised = book.force(now, self.side, _WALL_DEPTH, 1, _WALL_LOTS - 1)
                book.wall = _Wall(self.side, self.level, 2, _WALL_FLOOR)
                return [raised]
            case "vacuum":
                book.thin = self.side
            case "absorption":
                book.hit = self.side
            case _:
                pass
        return []

    def end(self, now: int) -> list[Tape]:
        """Leave the book to itself; a wall is taken away, if it is still in sight."""
        self._book.wall = self._book.thin = self._book.hit = None
        touch = self._book.bid + (self.side == ASK)
        depth = (self.level - touch) * (1 if self.side == ASK else -1)
        if self.kind != "wall" or not 0 <= depth < DEPTH:
            return []
        orders, extra = self._book.level(self.side, depth)
        if orders < 2 or extra < _WALL_FLOOR:
            return []
        return [self._book.force(now, self.side, depth, -1, 1 - _WALL_FLOOR)]

    def next_act(self, now: int) -> int:
        """Return when the scene acts on the book again: only at its end."""
        return self.scenario.end_ns

    def planted(self, end: int, events: int) -> Planted:
        """Return what is planted in a block."""
        return Planted(crossed=self.crossed)

    def burst(self, now: int, end: int) -> tuple[NDArray[np.int64], list[Move]] | None:
        """Return the events of a step in which many levels are taken at once."""
        ticks = _TICKS_AT_ONCE.get(self.kind)
        if ticks is None:
            return None
        times = now + np.arange(2 * ticks) * (end - now) // (2 * ticks + 1)
        return times, [Move(2 * i, self.side) for i in range(ticks)]

    def bias(self, now: int) -> Bias | None:
        """Return who trades options while their dealers' gamma changes sign."""
        if self.kind != "gamma_flip":
            return None
        second_half = now * 2 >= self.scenario.begin_ns + self.scenario.end_ns
        customers_buy = second_half == self.scenario.rising
        return Bias(bought=236 if customers_buy else 20, size=LARGEST_BIAS if second_half else 2)

    def send_front(self, tapes: list[Tape], end: int) -> list[Tape]:
        return tapes

    def send_options(self, underlying: str, trades: OptionTrades, end: int) -> OptionTrades:
        """Let every fourth option trade be late, where that is planted."""
        return trades._replace(late_ns=self._late_ns(trades.seq))

    def send_stock(self, trades: StockTrades, end: int) -> StockTrades:
        return trades._replace(late_ns=self._late_ns(trades.seq))

    def _late_ns(self, seq: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(seq % 4 == 0, _LATE_NS if self.kind == "late" else 0, 0)

    def forbids(self, side: int, bid: int) -> bool:
        """Return whether the touch of `side` must not be taken now."""
        if self.kind in ("absorption", "crossed"):
            return True
        if self.kind == "vacuum":
            return side == self.side
        return self.kind == "wall" and side == self.side and bid + (side == ASK) == self.level

    def target(self, bid: int, now: int) -> int | None:
        """Return how far the price is from where it should be at `now`; None where it is free."""
        if not self.leads:
            return None
        begin, end = self.scenario.begin_ns, self.scenario.end_ns
        done = (now - begin) * 1_000 // (end - begin)
        way = 1 if self.scenario.rising else -1
        at_level = self.level - (1 if self.scenario.rising else 0)  # the bid while the level is a touch
        if done < 350:
            goal = self.bid_at_begin + (at_level - self.bid_at_begin) * done // 350
        elif done < 500:
            goal = at_level
        else:
            beyond = min((done - 500) * _BEYOND_TICKS // 200, _BEYOND_TICKS)
            goal = at_level + way * (beyond + 1 if self.kind == "break" else -beyond)
        return goal - bid

    def truths(self, boards: dict[str, Board]) -> list[Truth]:
        """Return what was planted, or nothing if the market was too slow for it to come off."""
        moved = self._book.bid - self.bid_at_begin
        way = 1 if self.scenario.rising else -1
        at_level = self.level - (1 if self.scenario.rising else 0)
        detail: dict[str, object] = {}
        match self.kind:
            case "wall":
                detail = {"least_size": _WALL_FLOOR + 1}
            case "break" | "reject":
                beyond = (self._book.bid - at_level) * way
                detail = {"beyond_ticks": beyond}
                if (beyond < _BEYOND_TICKS) if self.kind == "break" else (beyond > -_BEYOND_TICKS):
                    return []
            case "sweep" | "jump":
                detail = {"ticks": moved}
            case "crossed":
                detail = {"ticks": _CROSSED_TICKS, "also": "SPY"}
            case "late":
                detail = {"late_ns": _LATE_NS}
            case "gamma_flip":
                middle = (self.scenario.begin_ns + self.scenario.end_ns) // 2
                expiries = [one.expiration_ns for one in boards["SPY"].series]
                before, after = ("long", "short") if self.scenario.rising else ("short", "long")
                detail = {
                    "flip_ns": middle, "dealers_before": before, "dealers_after": after,
                    "expiration_ns": min(expiry for expiry in expiries if expiry > middle),
                }  # fmt: skip
            case _:
                pass
        of_market = self.kind in ("halt", "late", "repeat")
        sided = self.kind in ("wall", "vacuum", "absorption", "sweep", "break", "reject", "jump")
        told = {
            "kind": self.kind,
            "begin_ns": self.scenario.begin_ns,
            "end_ns": self.scenario.end_ns,
            "instrument": "ALL" if of_market else "SPY" if self.kind == "gamma_flip" else self._contract,
            "price": None if of_market or self.kind == "gamma_flip" else self.level * OUTRIGHT_TICK_E9 / 1e9,
            "side": ("ask" if self.side == ASK else "bid") if sided else None,
            **detail,
        }
        return [told]

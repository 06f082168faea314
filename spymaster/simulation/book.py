"""One simulated instrument's order book, and what happens to it, a block of events at a time.

A book is ten levels a side, one tick apart, and of each level two numbers: its orders, at least one, and its extra
lots, what it holds above one lot an order. Both are random walks with a floor, so that a whole block is two
accumulations over a matrix (events x numbers) instead of a loop over events. Between two moves of the price a level
keeps its number, counted from the touch. A move is a pair of events: a trade takes the whole touch, then an add on
the other side closes the spread; there the walk is cut, the levels shift by one, and it goes on. A level that leaves
the ten returns with the numbers that it had; one that was never seen has usual ones. A move through several prices is
one instant in which all their touches are taken, and an add for each thereafter.

Prices may be held, see `held.py`. A least is one more floor of the walk. A level with a most has two walls, for which
there is no such shortcut, and is walked an event at a time.

An event that a floor has swallowed, so that nothing changed, is dropped. What an event was is read from the change
itself, so that records and book cannot disagree:
    A  orders joined the level; size is what joined
    C  orders left it; size is what left
    M  an order changed its size, as after a partial fill; size is that order's new size, as the vendor has it
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.held import ASK, BID, EXTRA, ORDERS, Bounds, Hold, OutOfSight, capped, change_into

DEPTH = 10
# One level as a record holds it; levels travel as rows of 8-byte words, which numpy copies much faster than structs.
LEVEL = np.dtype(
    [("bid_px", "<i8"), ("ask_px", "<i8"), ("bid_sz", "<u4"), ("ask_sz", "<u4"), ("bid_ct", "<u4"), ("ask_ct", "<u4")]
)
BOOK_WORDS = DEPTH * LEVEL.itemsize // 8

FLOOR = np.array([[[1]], [[0]]], np.int32)
_DEPTHS = np.arange(DEPTH)
# Tables of 256 entries, to be looked up by one random byte: cheaper than a distribution, and the same everywhere.
_SHARES = np.array([42, 22, 14, 11, 9, 8, 7, 6, 5, 4])  # of 128 events a side, by level
_COLUMN = np.repeat(np.arange(2 * DEPTH), np.tile(_SHARES, 2))  # side x 10 + level
_LOTS = np.repeat(np.array([0, 1, 2, 4, 9, 19], np.int32), [128, 48, 32, 24, 16, 8])
_FILLED = np.repeat(  # by a trade that leaves something: whole orders, and lots beyond one an order
    np.array([[0, 1, 1, 1, 2, 3, 6, 10], [1, 0, 1, 3, 4, 8, 14, 20]], np.int32), [64, 64, 40, 32, 24, 16, 12, 4], axis=1
)
_TRADED_BELOW = 96  # of 256 decreases at the touch
_MODIFIED_FROM = 192  # of 256, the share of events that change an order's size
_USUAL_ORDERS = np.array([18, 20, 23, 25, 27, 28, 29, 30, 30, 30], np.int32)
USUAL = np.stack([_USUAL_ORDERS, _USUAL_ORDERS * 4 // 5])[:, None, :]  # numbers x either side x level
_STRONGEST_PULL = 88  # of 128, towards the usual numbers
_LEARNT_EVERY = 16  # of a block's events, the book after one in so many counts as typical
_TYPICAL_NS = 60 * NS_PER_SECOND  # how long the book remembers what is typical
_PER_LOT, _PER_EVENT = 256, 1 << 16  # units of what it remembers


class Tape(NamedTuple):
    """What happened in one or more books, n events in time order; the trades' sizes are 0 for other events.

    `levels[before[i]]` is the book that event i found, `levels[after[i]]` the book that it left.
    """

    arrival_ns: NDArray[np.int64]
    instrument: NDArray[np.int64]
    side: NDArray[np.int64]  # of the level that changed
    depth: NDArray[np.int64]
    price_e9: NDArray[np.int64]
    action: NDArray[np.bytes_]
    size: NDArray[np.int64]
    traded: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    late_ns: NDArray[np.int64]  # by how much the event is older than its arrival, which orders the tape
    repeated: NDArray[np.bool_]  # the event before, once more
    print_only: NDArray[np.bool_]  # a trade of an instrument whose book is not sent
    last: NDArray[np.bool_]  # of its instant; its trade finds the book that the instant found
    levels: NDArray[np.uint64]  # (books, BOOK_WORDS), each row ten LEVELs


class Move(NamedTuple):
    """From this event on trades take the touches of `side`, so many levels; then as many events close the spread."""

    event: int
    side: int
    levels: int = 1


class Eaten(NamedTuple):
    """A touch that is traded against while a block runs: so many trades of so many lots, each after an add of them."""

    side: int
    trades: int
    lots: int


class Planted(NamedTuple):
    """What is planted in a book while a block runs, beside the prices that are held."""

    eaten: Eaten | None = None
    crossed: int = 0  # ticks by which the asks lie too low


_NOTHING_PLANTED = Planted()


class Book:
    """Ten levels a side of one instrument. Touch prices are in ticks and may be negative, as spreads are."""

    def __init__(self, tick_e9: int, bid: int, entropy: tuple[int, ...]) -> None:
        self.tick_e9 = tick_e9
        self.bid = bid
        self._random = np.random.PCG64(np.random.SeedSequence(entropy))
        # Dimensions of a state: number (orders, extra lots), side, level.
        self._state: NDArray[np.int32] = np.broadcast_to(USUAL, (2, 2, DEPTH)).astype(np.int32)
        self._bounds, self._out_of_sight = Bounds(), OutOfSight()
        self._typical = self._state.sum(axis=0).astype(np.int64) * _PER_LOT
        self._volume = np.zeros(2, np.int64)  # lots traded on each side an event, times _PER_EVENT
        self._learnt_ns = 0

    @property
    def typical(self) -> NDArray[np.int64]:
        """The mean size (side, level) of the last minute or so in which nothing was planted, in lots."""
        size: NDArray[np.int64] = (self._typical + _PER_LOT // 2) // _PER_LOT
        return size

    def traded(self, side: int, events: int) -> int:
        """Return how many lots are typically traded on a side while so many events happen."""
        return int(self._volume[side]) * events // _PER_EVENT

    def evolve(
        self, times: NDArray[np.int64], moves: Sequence[Move], instrument: int = 0, planted: Planted = _NOTHING_PLANTED
    ) -> Tape:
        """Let one event happen at each of `times`, and return those that changed the book.

        Args:
            times: of the events, nondecreasing, n of them.
            moves: ascending, each at least twice its levels after the one before, none at the last event.
            instrument: what the tape calls this book.
            planted: what is not left to chance.
        """
        n = len(times)
        column, traded, steps = self._draw(n)
        if planted.eaten is not None:
            _eat(planted.eaten, column, traded, steps)
        states, touches = self._follow(column, steps, moves)
        touches[ASK] -= planted.crossed
        tape = _tape(times, instrument, column, traded, moves, states, touches, self.tick_e9)
        if planted == _NOTHING_PLANTED and not self._bounds.holds:
            self._learn(states, tape, int(times[-1] - times[0]))
        return tape

    def hold(self, time: int, holds: Sequence[Hold]) -> Tape:
        """Hold these prices from now on, instead of those before; `()` lets all go.

        Returns:
            One add or cancel at `time` for each level in sight that was out of its bounds. One that is out of sight
            is within them when it returns.
        """
        if not holds:
            self._out_of_sight.forget(self._bounds.holds)
        self._bounds.set(holds)
        change = change_into(self._state, *self._bounds.at(self._prices(self.bid, self.bid + 1)))
        column = np.flatnonzero(change.any(axis=0))
        steps = np.zeros((len(column), 2, 2 * DEPTH), np.int32)
        steps[np.arange(len(column)), :, column] = change.reshape(2, 2 * DEPTH)[:, column].T
        return self._forced(time, column, steps)

    def force(self, time: int, side: int, depth: int, orders: int, extra: int) -> Tape:
        """Let one event at `time` change a level by so much, which must leave it one order at least."""
        steps = np.zeros((1, 2, 2 * DEPTH), np.int32)
        steps[0, :, side * DEPTH + depth] = orders, extra
        return self._forced(time, np.array([side * DEPTH + depth]), steps)

    def level(self, side: int, depth: int) -> tuple[int, int]:
        """Return the orders and the extra lots of a level."""
        orders, extra = self._state[:, side, depth].tolist()
        return orders, extra

    def _forced(self, time: int, column: NDArray[np.int64], steps: NDArray[np.int32]) -> Tape:
        """Let events happen as they are; a walk within bounds would bring all levels into theirs at the first one."""
        n = len(column)
        states = np.concatenate([self._state[None], steps.reshape(n, 2, 2, DEPTH)]).cumsum(axis=0, dtype=np.int32)
        self._state = states[n].copy()
        return _tape(
            np.full(n, time), 0, column, np.zeros(n, np.bool_), (), states, self._touches(n, ()), self.tick_e9
        )  # fmt: skip

    def _follow(
        self, column: NDArray[np.int64], steps: NDArray[np.int32], moves: Sequence[Move]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the states before, between and after n events, and their touches; keep the last."""
        n = len(column)
        states = np.empty((n + 1, 2, 2, DEPTH), np.int32)
        states[0] = self._state
        begin, touch = 0, [self.bid, self.bid + 1]
        for event, side, levels in moves:
            self._walk(states, steps, column, (begin, event), touch)
            other, way = 1 - side, 1 if side == ASK else -1
            for taken in range(event, event + levels):
                touch[side] += way
                states[taken + 1] = self._taken(states[taken], side, touch[side] + way * (DEPTH - 1))
                column[taken] = side * DEPTH
            for refill in range(event + levels, event + 2 * levels):
                self._lose_sight(states[refill], other, touch[other] - way * (DEPTH - 1))
                touch[other] += way
                states[refill + 1] = self._refilled(states[refill], other, touch[other])
                column[refill] = other * DEPTH
            begin = event + 2 * levels
        self._walk(states, steps, column, (begin, n), touch)
        self._state = states[n].copy()
        return states, self._touches(n, moves)

    def _draw(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int32]]:
        """Choose for each event a level, whether a decrease there is a trade, and by how much its numbers change."""
        drawn = self._random.random_raw(n).astype("<u8", copy=False).view(np.uint8).reshape(n, 8)
        column, chance = self._places(drawn)
        modified = drawn[:, 2] >= _MODIFIED_FROM
        more = drawn[:, 1] < np.where(modified, chance[EXTRA][column], chance[ORDERS][column])
        traded = self._trades(drawn, column) & ~more
        sign = np.where(more, np.int32(1), np.int32(-1))
        orders = np.where(modified, np.int32(0), sign)
        extra = sign * (_LOTS[drawn[:, 3]] + modified)
        orders[traded], extra[traded] = -_FILLED[:, drawn[traded, 3]]
        steps = np.zeros((n, 2, 2 * DEPTH), np.int32)
        event = np.arange(n)
        steps[event, ORDERS, column], steps[event, EXTRA, column] = orders, extra
        return column, traded, steps.reshape(n, 2, 2, DEPTH)

    def _places(self, drawn: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Choose each event's level, and how likely each number's next step is upwards."""
        return _COLUMN[drawn[:, 0]], self._chance_of_more(len(drawn))

    def _trades(self, drawn: NDArray[np.uint8], column: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Choose which events are trades if they take something away."""
        trades: NDArray[np.bool_] = (drawn[:, 2] < _TRADED_BELOW) & (column % DEPTH == 0)
        return trades

    def _chance_of_more(self, n: int) -> NDArray[np.int32]:
        """Return of each number, in 1/256, how likely its next step is upwards, so that it reverts within n events."""
        pull = (USUAL - self._state) * 128 // (n * _SHARES // 256 + 16)
        chance: NDArray[np.int32] = 128 + np.clip(pull, -_STRONGEST_PULL, _STRONGEST_PULL)
        return chance.reshape(2, 2 * DEPTH)

    def _walk(
        self,
        states: NDArray[np.int32],
        steps: NDArray[np.int32],
        column: NDArray[np.int64],
        span: tuple[int, int],
        touch: Sequence[int],
    ) -> None:
        """Fill the states after the events of a span by their steps, within the bounds of the prices they are at."""
        begin, end = span
        if begin == end:
            return
        if not self._bounds.holds:
            walk(states, steps, begin, end, FLOOR)
            return
        low, high = self._bounds.at(self._prices(*touch))
        walk(states, steps, begin, end, low)
        for one in capped(high).tolist():
            side, depth = divmod(one, DEPTH)
            events = begin + np.flatnonzero(column[begin:end] == one)
            _pace(states, steps[:, :, side, depth], events, (side, depth), (begin, end), (low, high))

    def _taken(self, state: NDArray[np.int32], side: int, price: int) -> NDArray[np.int32]:
        """Return the book without the touch of `side`, and with the tenth level that is in sight now, at `price`."""
        fresh = USUAL[:, 0, -1] - 10 + self._fresh() % 20
        left = state.copy()
        left[:, side, :-1] = state[:, side, 1:]
        seen = self._out_of_sight.take(side, price)
        left[:, side, -1] = self._bounds.applied(side, price, fresh if seen is None else seen)
        return left

    def _refilled(self, state: NDArray[np.int32], side: int, price: int) -> NDArray[np.int32]:
        """Return the book with one new order as the touch of `side`; what was the tenth level is out of sight."""
        left = state.copy()
        left[:, side, 1:] = state[:, side, :-1]
        fresh = np.array([1, int(self._fresh()[0]) % 12], np.int32)
        left[:, side, 0] = self._bounds.applied(side, price, fresh)
        return left

    def _lose_sight(self, state: NDArray[np.int32], side: int, price: int) -> None:
        self._out_of_sight.keep(side, price, state[:, side, -1])

    def _fresh(self) -> NDArray[np.int32]:
        return (self._random.random_raw(2) >> 33).astype(np.int32)

    def _prices(self, bid: int, ask: int) -> NDArray[np.int64]:
        return np.stack([bid - _DEPTHS, ask + _DEPTHS])

    def _touches(self, n: int, moves: Sequence[Move]) -> NDArray[np.int64]:
        """Return the best bid and ask, in ticks, of the n + 1 states, and keep the last."""
        touches = np.empty((2, n + 1), np.int64)
        touches[BID], touches[ASK] = self.bid, self.bid + 1
        for event, side, levels in moves:
            direction = 1 if side == ASK else -1
            for taken in range(event, event + levels):
                touches[side, taken + 1 :] += direction
                touches[1 - side, taken + levels + 1 :] += direction
        self.bid = int(touches[BID, n])
        return touches

    def _learn(self, states: NDArray[np.int32], tape: Tape, lasted_ns: int) -> None:
        """Let what was seen in a block count, as long as it lasted."""
        n, seen = len(states) - 1, states[1::_LEARNT_EVERY]
        size = seen.sum(axis=(0, 1), dtype=np.int64) * _PER_LOT // len(seen)
        lots = np.array([tape.traded[tape.side == side].sum() for side in (BID, ASK)]) * _PER_EVENT // n
        weight = max(lasted_ns, 1)
        self._typical += (size - self._typical) * weight // (self._learnt_ns + weight)
        self._volume += (lots - self._volume) * weight // (self._learnt_ns + weight)
        self._learnt_ns = min(self._learnt_ns + weight, _TYPICAL_NS)


def _eat(eaten: Eaten, column: NDArray[np.int64], traded: NDArray[np.bool_], steps: NDArray[np.int32]) -> None:
    """Plant the trades at a touch, evenly among the events, in place of what was drawn; nothing else trades there."""
    n, touch = len(column), eaten.side * DEPTH
    traded &= column != touch
    joining = (2 * np.arange(eaten.trades) + 1) * (n - 1) // max(2 * eaten.trades, 1)
    for event, sign in ((joining, 1), (joining + 1, -1)):
        steps[event] = 0
        steps[event, :, eaten.side, 0] = sign, sign * (eaten.lots - 1)
        column[event], traded[event] = touch, sign < 0


def walk(states: NDArray[np.int32], steps: NDArray[np.int32], begin: int, end: int, floor: NDArray[np.int32]) -> None:
    """Fill the states after the events `begin` to `end` by their steps, none below its floor.

    A walk with a floor is the free walk, lifted by the most that it has ever been below the floor (Lindley).
    """
    walked = states[begin + 1 : end + 1]
    np.cumsum(steps[begin:end], axis=0, out=walked)
    walked += states[begin]
    lift = np.maximum(floor - walked, 0)
    np.maximum.accumulate(lift, axis=0, out=lift)
    walked += lift


def _pace(
    states: NDArray[np.int32],
    steps: NDArray[np.int32],
    events: NDArray[np.int64],
    level: tuple[int, int],
    span: tuple[int, int],
    bounds: tuple[NDArray[np.int32], NDArray[np.int32]],
) -> None:
    """Fill the states of one level, that has a most too, event by event; `steps` are that level's."""
    side, depth = level
    begin, end = span
    (least, less), (most, more) = (bound[:, side, depth].tolist() for bound in bounds)
    orders, extra = states[begin, :, side, depth].tolist()
    found = [(orders, extra)]
    for joined, lots in steps[events].tolist():
        orders, extra = min(max(orders + joined, least), most), min(max(extra + lots, less), more)
        found.append((orders, extra))
    lasted = np.diff(np.concatenate([[begin], events, [end]]))
    states[begin + 1 : end + 1, :, side, depth] = np.repeat(np.array(found, np.int32), lasted, axis=0)


def _tape(
    times: NDArray[np.int64],
    instrument: int,
    column: NDArray[np.int64],
    traded: NDArray[np.bool_],
    moves: Sequence[Move],
    states: NDArray[np.int32],
    touches: NDArray[np.int64],
    tick_e9: int,
) -> Tape:
    """Read from the states what each event was, and drop those that changed nothing."""
    n = len(times)
    event = np.arange(n)
    size = states[:, ORDERS] + states[:, EXTRA]
    flat_size, orders = size.reshape(n + 1, 2 * DEPTH), states[:, ORDERS].reshape(n + 1, 2 * DEPTH)
    size_left, orders_left = flat_size[event + 1, column], orders[event + 1, column]
    change, joined = size_left - flat_size[event, column], orders_left - orders[event, column]
    side, depth = np.divmod(column, DEPTH)
    price = touches[side, event] + np.where(side == ASK, depth, -depth)
    found, last = event.copy(), np.ones(n, np.bool_)
    for first, _, levels in moves:  # the levels shifted, so that the same column is another level after the event
        taken, refill = slice(first, first + levels), slice(first + levels, first + 2 * levels)
        change[taken], joined[taken], traded[taken] = -flat_size[event[taken], column[taken]], -1, True
        change[refill], joined[refill], traded[refill] = size_left[refill], 1, False
        price[refill] = touches[side[refill], event[refill] + 1]
        found[taken], last[first : first + levels - 1] = first, False
    one_order = np.maximum(1, change + 1) + (size_left - orders_left - np.maximum(change, 0)) // orders_left
    action = np.where(joined > 0, b"A", np.where(joined < 0, b"C", b"M"))
    amount = np.abs(change)
    kept = np.flatnonzero(change)
    return Tape(
        arrival_ns=times[kept],
        instrument=np.full(len(kept), instrument),
        side=side[kept],
        depth=depth[kept],
        price_e9=price[kept] * tick_e9,
        action=action[kept],
        size=np.where(joined == 0, one_order, amount)[kept],
        traded=np.where(traded, amount, 0)[kept],
        before=found[kept],
        after=kept + 1,
        late_ns=np.zeros(len(kept), np.int64),
        repeated=np.zeros(len(kept), np.bool_),
        print_only=np.zeros(len(kept), np.bool_),
        last=last[kept],
        levels=_levels(states, size, touches, tick_e9),
    )


def _levels(
    states: NDArray[np.int32], size: NDArray[np.int32], touches: NDArray[np.int64], tick_e9: int
) -> NDArray[np.uint64]:
    levels = np.empty((len(states), DEPTH), LEVEL)
    for side, name, away in ((BID, "bid", -tick_e9), (ASK, "ask", tick_e9)):
        levels[f"{name}_px"] = touches[side][:, None] * tick_e9 + _DEPTHS * away
        levels[f"{name}_sz"] = size[:, side]
        levels[f"{name}_ct"] = states[:, ORDERS, side]
    return levels.view(np.uint64)


def interleave(tapes: Sequence[Tape]) -> Tape:
    """Merge the tapes of several books into one, by time of arrival; ties in the order given."""
    shifts = np.cumsum([0, *(len(tape.levels) for tape in tapes)])
    order = np.argsort(np.concatenate([tape.arrival_ns for tape in tapes]), kind="stable")
    shifted = [
        tape._replace(before=tape.before + shift, after=tape.after + shift)
        for tape, shift in zip(tapes, shifts, strict=False)
    ]
    columns = [np.concatenate(column) for column in zip(*shifted, strict=True)]
    return Tape._make([*(column[order] for column in columns[:-1]), columns[-1]])


def cut(tape: Tape, begin: int, end: int) -> Tape:
    """Return the events that arrive within [begin, end), with no more books than they need."""
    first, last = np.searchsorted(tape.arrival_ns, [begin, end]).tolist()
    part = [column[first:last] for column in tape[:-1]]
    if first == last:
        return Tape._make([*part, tape.levels[:1]])
    base, top = int(tape.before[first]), int(tape.after[last - 1]) + 1
    cut_out = Tape._make([*part, tape.levels[base:top]])
    return cut_out._replace(before=cut_out.before - base, after=cut_out.after - base)

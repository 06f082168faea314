"""One simulated instrument's order book, and what happens to it, a block of events at a time.

A book is ten levels a side, one tick apart, and of each level two numbers: its orders, at least one, and its extra
lots, what it holds above one lot an order. Both are random walks with a floor, so that a whole block is two
accumulations over a matrix (events x numbers) instead of a loop over events. Between two moves of the price a level
keeps its number, counted from the touch. A move is a pair of events: a trade takes the whole touch, then an add on
the other side closes the spread; there the walk is cut, the levels shift by one, and it goes on.

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

DEPTH = 10
BID, ASK = 0, 1
# One level as a record holds it; levels travel as rows of 8-byte words, which numpy copies much faster than structs.
LEVEL = np.dtype(
    [("bid_px", "<i8"), ("ask_px", "<i8"), ("bid_sz", "<u4"), ("ask_sz", "<u4"), ("bid_ct", "<u4"), ("ask_ct", "<u4")]
)
BOOK_WORDS = DEPTH * LEVEL.itemsize // 8

_ORDERS, _EXTRA = 0, 1
_FLOOR = np.array([[[1]], [[0]]], np.int32)
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
_USUAL = np.stack([_USUAL_ORDERS, _USUAL_ORDERS * 4 // 5])[:, None, :]  # numbers x either side x level
_STRONGEST_PULL = 88  # of 128, towards the usual numbers
_HIT_BELOW = 112  # of 256 events, those at a touch that is hit
_PULLED_CHANCE = 10  # of 256, that a step is upwards on a side that is pulled


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
    levels: NDArray[np.uint64]  # (books, BOOK_WORDS), each row ten LEVELs


class Move(NamedTuple):
    """At this event a trade takes the whole touch of `side`, and the next event closes the spread."""

    event: int
    side: int


class Hold(NamedTuple):
    """A level that holds at least so many orders and extra lots, wherever the touch goes."""

    side: int
    price: int
    orders: int
    extra: int


class Planted(NamedTuple):
    """What is planted in a book while a block runs."""

    hold: Hold | None = None
    thin: int | None = None  # the side whose levels beyond the touch are pulled
    hit: int | None = None  # the side whose touch is traded against, and filled again
    crossed: int = 0  # ticks by which the asks lie too low


_NOTHING_PLANTED = Planted()


class Book:
    """Ten levels a side of one instrument. Touch prices are in ticks and may be negative, as spreads are."""

    def __init__(self, tick_e9: int, bid: int, entropy: tuple[int, ...]) -> None:
        self.tick_e9 = tick_e9
        self.bid = bid
        self._random = np.random.PCG64(np.random.SeedSequence(entropy))
        # Dimensions of a state: number (orders, extra lots), side, level.
        self._state: NDArray[np.int32] = np.broadcast_to(_USUAL, (2, 2, DEPTH)).astype(np.int32)

    def evolve(
        self, times: NDArray[np.int64], moves: Sequence[Move], instrument: int = 0, planted: Planted = _NOTHING_PLANTED
    ) -> Tape:
        """Let one event happen at each of `times`, and return those that changed the book.

        Args:
            times: of the events, nondecreasing, n of them.
            moves: ascending, at least two events apart, none at the last event.
            instrument: what the tape calls this book.
            planted: what is not left to chance.
        """
        n = len(times)
        column, traded, steps = self._draw(n, planted)
        return self._follow(times, column, traded, steps, moves, instrument, planted)

    def force(self, time: int, side: int, depth: int, orders: int, extra: int) -> Tape:
        """Let one event at `time` change a level by so much, which must leave it one order at least."""
        steps = np.zeros((1, 2, 2, DEPTH), np.int32)
        steps[0, :, side, depth] = orders, extra
        column, traded = np.array([side * DEPTH + depth]), np.zeros(1, np.bool_)
        return self._follow(np.array([time]), column, traded, steps, (), 0, _NOTHING_PLANTED)

    def level(self, side: int, depth: int) -> tuple[int, int]:
        """Return the orders and the extra lots of a level."""
        orders, extra = self._state[:, side, depth].tolist()
        return orders, extra

    def _follow(
        self,
        times: NDArray[np.int64],
        column: NDArray[np.int64],
        traded: NDArray[np.bool_],
        steps: NDArray[np.int32],
        moves: Sequence[Move],
        instrument: int,
        planted: Planted,
    ) -> Tape:
        n = len(times)
        states = np.empty((n + 1, 2, 2, DEPTH), np.int32)
        states[0] = self._state
        begin, touch = 0, [self.bid, self.bid + 1]
        for event, side in moves:
            _walk(states, steps, begin, event, _floor(planted.hold, touch, states[begin]))
            states[event + 1] = self._taken(states[event], side)
            states[event + 2] = self._refilled(states[event + 1], 1 - side)
            column[event], column[event + 1] = side * DEPTH, (1 - side) * DEPTH
            begin, touch = event + 2, [price + (1 if side == ASK else -1) for price in touch]
        _walk(states, steps, begin, n, _floor(planted.hold, touch, states[begin]))
        self._state = states[n].copy()
        touches = self._touches(n, moves)
        touches[ASK] -= planted.crossed
        return _tape(times, instrument, column, traded, moves, states, touches, self.tick_e9)

    def _draw(
        self, n: int, planted: Planted = _NOTHING_PLANTED
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int32]]:
        """Choose for each event a level, whether a decrease there is a trade, and by how much its numbers change."""
        drawn = self._random.random_raw(n).astype("<u8", copy=False).view(np.uint8).reshape(n, 8)
        column = _COLUMN[drawn[:, 0]]
        chance = self._chance_of_more(n)
        if planted.hit is not None:
            column = np.where(drawn[:, 4] < _HIT_BELOW, planted.hit * DEPTH, column)
        if planted.thin is not None:
            chance[:, planted.thin * DEPTH + 1 : (planted.thin + 1) * DEPTH] = _PULLED_CHANCE
        modified = drawn[:, 2] >= _MODIFIED_FROM
        more = drawn[:, 1] < np.where(modified, chance[_EXTRA][column], chance[_ORDERS][column])
        traded = (drawn[:, 2] < _TRADED_BELOW) & ~more & (column % DEPTH == 0)
        if planted.hit is not None:
            traded |= ~more & (column == planted.hit * DEPTH)
        if planted.thin is not None:
            traded &= column != planted.thin * DEPTH
        sign = np.where(more, np.int32(1), np.int32(-1))
        orders = np.where(modified, np.int32(0), sign)
        extra = sign * (_LOTS[drawn[:, 3]] + modified)
        orders[traded], extra[traded] = -_FILLED[:, drawn[traded, 3]]
        steps = np.zeros((n, 2, 2 * DEPTH), np.int32)
        event = np.arange(n)
        steps[event, _ORDERS, column], steps[event, _EXTRA, column] = orders, extra
        return column, traded, steps.reshape(n, 2, 2, DEPTH)

    def _chance_of_more(self, n: int) -> NDArray[np.int32]:
        """Return of each number, in 1/256, how likely its next step is upwards, so that it reverts within n events."""
        pull = (_USUAL - self._state) * 128 // (n * _SHARES // 256 + 16)
        chance: NDArray[np.int32] = 128 + np.clip(pull, -_STRONGEST_PULL, _STRONGEST_PULL)
        return chance.reshape(2, 2 * DEPTH)

    def _taken(self, state: NDArray[np.int32], side: int) -> NDArray[np.int32]:
        """Return the book without the touch of `side`, and with a tenth level there that was the eleventh."""
        left = state.copy()
        left[:, side, :-1] = state[:, side, 1:]
        left[:, side, -1] = _USUAL[:, 0, -1] - 10 + self._fresh() % 20
        return left

    def _refilled(self, state: NDArray[np.int32], side: int) -> NDArray[np.int32]:
        """Return the book with one new order as the touch of `side`; what was the tenth level is out of sight."""
        left = state.copy()
        left[:, side, 1:] = state[:, side, :-1]
        left[:, side, 0] = 1, int(self._fresh()[0]) % 12
        return left

    def _fresh(self) -> NDArray[np.int32]:
        return (self._random.random_raw(2) >> 33).astype(np.int32)

    def _touches(self, n: int, moves: Sequence[Move]) -> NDArray[np.int64]:
        """Return the best bid and ask, in ticks, of the n + 1 states, and keep the last."""
        touches = np.empty((2, n + 1), np.int64)
        touches[BID], touches[ASK] = self.bid, self.bid + 1
        for event, side in moves:
            direction = 1 if side == ASK else -1
            touches[side, event + 1 :] += direction
            touches[1 - side, event + 2 :] += direction
        self.bid = int(touches[BID, n])
        return touches


def _floor(hold: Hold | None, touch: Sequence[int], state: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the least numbers of a book, with those of a level that is held; one that has not got them keeps none."""
    if hold is None:
        return _FLOOR
    depth = (hold.price - touch[hold.side]) * (1 if hold.side == ASK else -1)
    floor = np.broadcast_to(_FLOOR, (2, 2, DEPTH)).copy()
    if 0 <= depth < DEPTH:
        least = (hold.orders, hold.extra)
        floor[:, hold.side, depth] = np.where(state[:, hold.side, depth] >= least, least, floor[:, hold.side, depth])
    return floor


def _walk(states: NDArray[np.int32], steps: NDArray[np.int32], begin: int, end: int, floor: NDArray[np.int32]) -> None:
    """Fill the states after the events `begin` to `end` by their steps, none below its floor.

    A walk with a floor is the free walk, lifted by the most that it has ever been below the floor (Lindley).
    """
    if begin == end:
        return
    walked = states[begin + 1 : end + 1]
    np.cumsum(steps[begin:end], axis=0, out=walked)
    walked += states[begin]
    lift = np.maximum(floor - walked, 0)
    np.maximum.accumulate(lift, axis=0, out=lift)
    walked += lift


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
    size = states[:, _ORDERS] + states[:, _EXTRA]
    flat_size, orders = size.reshape(n + 1, 2 * DEPTH), states[:, _ORDERS].reshape(n + 1, 2 * DEPTH)
    size_left, orders_left = flat_size[event + 1, column], orders[event + 1, column]
    change, joined = size_left - flat_size[event, column], orders_left - orders[event, column]
    side, depth = np.divmod(column, DEPTH)
    price = touches[side, event] + np.where(side == ASK, depth, -depth)
    for taken, _ in moves:  # the levels shifted, so that the same column is another level after the event
        change[taken], joined[taken], traded[taken] = -flat_size[taken, column[taken]], -1, True
        refill = taken + 1
        change[refill], joined[refill], traded[refill] = size_left[refill], 1, False
        price[refill] = touches[side[refill], refill + 1]
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
        before=kept,
        after=kept + 1,
        late_ns=np.zeros(len(kept), np.int64),
        repeated=np.zeros(len(kept), np.bool_),
        print_only=np.zeros(len(kept), np.bool_),
        levels=_levels(states, size, touches, tick_e9),
    )


def _levels(
    states: NDArray[np.int32], size: NDArray[np.int32], touches: NDArray[np.int64], tick_e9: int
) -> NDArray[np.uint64]:
    levels = np.empty((len(states), DEPTH), LEVEL)
    for side, name, away in ((BID, "bid", -tick_e9), (ASK, "ask", tick_e9)):
        levels[f"{name}_px"] = touches[side][:, None] * tick_e9 + _DEPTHS * away
        levels[f"{name}_sz"] = size[:, side]
        levels[f"{name}_ct"] = states[:, _ORDERS, side]
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

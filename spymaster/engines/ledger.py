"""What was added, filled and canceled at each price of a book: one account for all levels.

The unit is the instant: all rows of one event time. B0 is the book before it, B1 the last book within it that is the
last of its event, V the contracts printed in it at a price whose aggressor consumes the side. At each price that both
books show,

    d = size1 - size0;  net = d + V
    filled += V;  added += max(net, 0);  canceled += max(-net, 0)

so that added - canceled - filled is the change of size, always, and no time lies between two books that would have to
be closed at an end. An instant of prints without a book has B1 = B0: an iceberg that refills. A refill within an
instant shows as added. A book shows a side from the touch outward to its tenth price, or all of it where it has fewer,
and inward without end, as a price better than the touch is known to be empty. So a price that scrolls out of the ten
and in again is no cancel and no add, and a constant book that drifts gives zeros.

What is not accounted, and makes windows whole only from the end of its bucket on:
- the first book, and what stands before it;
- an instant whose last book is not sound: crossed, locked, without any price, or with prices that do not lie outward
  from the touch. The last sound book stays B0, to which the next sound one is compared at the prices of both; prints
  meanwhile count nowhere;
- an instant with a snapshot, which replaces the book and says nothing of the time between; as its own time says nothing
  either, windows are whole from the snap on that works it.

Late rows, of an event time at or before the newest worked, are left out and counted: their instant was accounted
without them. Snapshots are never late and move no clock, as one bears the time of the event before it, or of days ago.

Prices are stored outward, so that both sides are the same: an ask's ticks, a bid's ticks negated. 1,024 of a side are
kept, in slots by their lowest ten bits. Where a bucket leaves the touch more than 256 ticks from the middle of these,
the middle moves there, and slots that other prices take are cleared. So what lies within 128 ticks of the touch is kept
unless the touch moves further than that within a bucket, from which on windows are whole again; a price that was not
kept meanwhile begins anew, its visible buckets too.

A bucket is the 250 ms that end at a snap, and a row's is that of its time, or the first after the newest snap. Each
window has a running sum: a snap adds the bucket that ends there and subtracts the ones that leave, as whole arrays, so
that its cost depends neither on the rate nor on the number of levels.
"""

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.engines.rows import ASK, BID, BOOK, NO_PRICE, PRINT, SIDES, SNAPSHOT, BookRows, Ints
from spymaster.events.market import BOOK_LEVELS

SNAP_NS: Final = 250 * NS_PER_MS
WINDOWS_S: Final = (5, 60, 240)
ADDED, CANCELED, FILLED, VISIBLE = range(4)  # the last index of what `sums` returns

KEPT: Final = 1024  # prices of a side
_SLOT: Final = KEPT - 1
_FROM_MIDDLE: Final = 256  # ticks that the touch may be from the middle of what is kept
_MOST_MOVED: Final = 384  # so that what is within 128 ticks of the touch was kept before it moved
_OUTWARD: Final = np.array([[-1], [1]])  # the sign of outward ticks of a side, BID and ASK
_BOTH: Final = np.array(SIDES)[:, None]
_NO_MIDDLE: Final = 2**40  # from which no price is near
_NEVER: Final = -(2**62)
NO_LIMIT: Final = 2**31 - 1  # outward of every price: of a level without one, or of a side that is visible whole

_BUCKETS: Final = tuple(seconds * 1000 * NS_PER_MS // SNAP_NS for seconds in WINDOWS_S)
_RING: Final = max(_BUCKETS)
_CELLS: Final = 2**17  # of the grid of books and prices at once, which stays in the cache

Longs = NDArray[np.int64]
HAS_BOOK, UNSOUND, BROKEN = range(3)  # of a state: there is a sound book, the newest is none, something broke


class State(NamedTuple):
    """What a body reads and writes beside the bucket.

    Attributes:
        px: (2, 10) ticks of the last sound book, as in `BookRows`.
        sz: (2, 10) contracts.
        base: (2) the first outward tick that is kept, of each side.
        flags: HAS_BOOK, UNSOUND and BROKEN.
    """

    px: Ints
    sz: Ints
    base: Longs
    flags: Longs


class Book(NamedTuple):
    """A book: (2, 10) ticks and contracts, side BID or ASK first, best level first, NO_PRICE where it is empty."""

    px: Ints
    sz: Ints


Body = Callable[[BookRows, State, Ints], None]


@lru_cache(maxsize=1)
def fastest_body() -> Body:
    """Return `account` as numba compiles it, or as it stands here where numba has no package."""
    if importlib.util.find_spec("numba") is None:
        return account
    from spymaster.engines import ledger_compiled  # noqa: PLC0415 - loading numba takes most of a second

    return ledger_compiled.load()


class Ledger:
    """Accounts of one contract's book, a snap after another.

    Attributes:
        late_rows: rows that were left out as late.
        unsided: contracts printed that say no aggressor, such as an auction's; they consume nothing.
        whole_since_ns: buckets that begin here or later are accounted whole; None before the first snap.
    """

    def __init__(self, body: Body | None = None) -> None:
        self.late_rows = 0
        self.unsided = 0
        self.whole_since_ns: int | None = None
        self._account = body or fastest_body()
        self._ring = np.zeros((_RING, len(SIDES), KEPT, 4), np.int32)
        self._sums = np.zeros((len(WINDOWS_S), len(SIDES), KEPT, 4), np.int64)
        # At all prices, of each bucket and window: ADDED to FILLED.
        self._bucket_totals = np.zeros((_RING, VISIBLE), np.int64)
        self._totals = np.zeros((len(WINDOWS_S), VISIBLE), np.int64)
        self._closed = _NEVER  # the newest bucket that ended, numbered by its snap's time
        self._newest_ns = -(2**63)
        self._state = State(
            np.full((2, BOOK_LEVELS), NO_PRICE, np.int32), np.zeros((2, BOOK_LEVELS), np.int32),
            np.full(2, _NO_MIDDLE, np.int64), np.zeros(3, np.int64),
        )  # fmt: skip

    @property
    def book(self) -> Book | None:
        """The last sound book, as a copy; None where there was none, also since a snapshot that is not sound."""
        return Book(self._state.px.copy(), self._state.sz.copy()) if self._state.flags[HAS_BOOK] else None

    @property
    def crossed(self) -> bool:
        """Whether the newest book is crossed, locked or otherwise not sound, so that this snap is void."""
        return bool(self._state.flags[UNSOUND])

    def work(self, rows: BookRows, snap_ns: int) -> None:
        """Account the rows between the snap before and this one, and end at this one.

        Args:
            rows: whole instants, in order, none after the snap.
            snap_ns: a multiple of SNAP_NS, after the snap before.

        Raises:
            ValueError: rows or snap are out of order, or columns of unequal lengths; nothing was worked.
        """
        snap, count = self._number(snap_ns), len(rows.ts_ns)
        if {column.shape for column in rows} != {(count,), (count, BOOK_LEVELS)}:
            raise ValueError(f"columns of {count} rows differ in length. Next: take all of them from one BookRows")
        if (rows.ts_ns > snap_ns).any() or (rows.ts_ns[1:] < rows.ts_ns[:-1]).any():
            raise ValueError(f"rows of the snap {snap_ns} are not in order, or after it. Next: sort and hold them back")
        late = (rows.ts_ns <= self._newest_ns) & (rows.kind != SNAPSHOT)
        if late.any():
            self.late_rows += int(late.sum())
            rows = rows.take(~late)
        self.unsided += int(rows.size[(rows.kind == PRINT) & (rows.side == 0)].sum(dtype=np.int64))
        clocked = rows.ts_ns[rows.kind != SNAPSHOT]
        if self._closed == _NEVER:
            self._closed = (-(-int(clocked[0]) // SNAP_NS) if len(clocked) else snap) - 1
        numbers = np.maximum(-(-rows.ts_ns // SNAP_NS), self._closed + 1)
        begins = np.flatnonzero(np.diff(numbers, prepend=self._closed))
        for begin, end in pairwise([*begins, len(numbers)]):
            self._pass_quiet(int(numbers[begin]) - 1)
            self._work_bucket(rows.take(slice(begin, end)), int(numbers[begin]))
        self._pass_quiet(snap)
        if len(clocked):
            self._newest_ns = int(clocked[-1])
        if len(clocked) < len(rows.ts_ns):
            self.whole_since_ns = snap_ns

    def advance(self, snap_ns: int) -> None:
        """Go on to a snap before which no row came: windows move, and the book stands.

        Raises:
            ValueError: the snap is not after the one before.
        """
        snap = self._number(snap_ns)
        if self._closed == _NEVER:
            self._closed = snap - 1
        self._pass_quiet(snap)

    def forget_book(self) -> None:
        """Let the next book be the first: books before it are missing, so what changed is not known."""
        self._state.flags[HAS_BOOK], self._state.flags[BROKEN] = 0, 1

    def sums(self, side: int, prices: Longs | Ints, window_s: int) -> Longs:
        """Return what happened at some prices within a window that ends at the newest snap.

        Args:
            side: BID or ASK.
            prices: ticks, of shape (n).
            window_s: one of WINDOWS_S.

        Returns:
            (n, 4): contracts ADDED, CANCELED and FILLED, and VISIBLE: at the ends of how many buckets of 250 ms the
            price was visible in a sound book. All 0 of a price that is not kept.
        """
        outward = np.asarray(prices, np.int64) * (1 if side == ASK else -1)
        return np.where(
            self._is_kept(side, outward)[:, None], self._sums[WINDOWS_S.index(window_s), side, outward & _SLOT], 0
        )

    def windows(self, prices: Longs) -> Longs:
        """Return what `sums` returns, of both sides' prices, (2, n), and all WINDOWS_S: (3, 2, n, 4)."""
        outward = prices * _OUTWARD
        sums: Longs = self._sums[:, _BOTH, outward & _SLOT] * self._are_kept(outward)
        return sums

    def newest(self, prices: Longs, buckets: int) -> Longs:
        """Return what `sums` returns, of both sides' prices, (2, n), and the newest so many buckets, of 240 s at most.

        Returns:
            (2, n, 4) as `sums`.
        """
        outward = prices * _OUTWARD
        numbers = np.arange(self._closed + 1 - min(buckets, _RING), self._closed + 1) % _RING
        found = self._ring[numbers[:, None, None], _BOTH, outward & _SLOT].sum(axis=0, dtype=np.int64)
        newest: Longs = found * self._are_kept(outward)
        return newest

    def totals(self, window_s: int) -> Longs:
        """Return contracts ADDED, CANCELED and FILLED in a window, (3), at all prices of both sides that are kept."""
        totals: Longs = self._totals[WINDOWS_S.index(window_s)].copy()
        return totals

    def _is_kept(self, side: int, outward: Longs) -> NDArray[np.bool_]:
        return _kept(outward, int(self._state.base[side]))

    def _are_kept(self, outward: Longs) -> NDArray[np.bool_]:
        base = self._state.base[:, None]
        kept: NDArray[np.bool_] = (outward >= base) & (outward < base + KEPT)
        return kept[:, :, None]

    def _number(self, snap_ns: int) -> int:
        number, rest = divmod(snap_ns, SNAP_NS)
        if rest or (self._closed != _NEVER and number <= self._closed):
            raise ValueError(f"snap {snap_ns} is not on 250 ms, or not after the one before. Next: ask for the next")
        return number

    def _work_bucket(self, rows: BookRows, number: int) -> None:
        self._expire(1)
        self._middle_by(rows)
        bucket, totals = self._ring[number % _RING], self._bucket_totals[number % _RING]
        self._account(rows, self._state, bucket)
        for side in SIDES:
            self._settle(side)
            for visible in self._visible(side):
                bucket[side, visible, VISIBLE] = 1
        totals[:] = bucket.sum(axis=(0, 1), dtype=np.int64)[:VISIBLE]
        self._sums += bucket
        self._totals += totals
        self._close(number)

    def _pass_quiet(self, until: int) -> None:
        """Close the buckets up to a number, in which nothing happened."""
        count = until - self._closed
        if count <= 0:
            return
        self._expire(count)
        new = np.arange(until - min(count, _RING) + 1, until + 1) % _RING
        shown = np.minimum(count, _BUCKETS)[:, None]
        for side in SIDES:
            for visible in self._visible(side):
                self._ring[new, side, visible, VISIBLE] = 1
                self._sums[:, side, visible, VISIBLE] += shown
        self._close(until)

    def _expire(self, count: int) -> None:
        """Subtract what leaves each window when so many buckets follow, and empty the slots that these will take."""
        for window, buckets in enumerate(_BUCKETS):
            if count >= buckets:
                self._sums[window], self._totals[window] = 0, 0
                continue
            oldest = self._closed - buckets + 1
            for number in range(oldest, oldest + count):
                self._sums[window] -= self._ring[number % _RING]
                self._totals[window] -= self._bucket_totals[number % _RING]
        for number in range(self._closed + 1, self._closed + 1 + min(count, _RING)):
            self._ring[number % _RING], self._bucket_totals[number % _RING] = 0, 0

    def _close(self, number: int) -> None:
        self._closed = number
        flags = self._state.flags
        if flags[BROKEN] or flags[UNSOUND] or not flags[HAS_BOOK]:
            self.whole_since_ns = number * SNAP_NS
            flags[BROKEN] = 0

    def _visible(self, side: int) -> list[slice]:
        """Return the slots that the newest book shows, which go on with the first after the last; none if not sound."""
        flags, base = self._state.flags, int(self._state.base[side])
        if not flags[HAS_BOOK] or flags[UNSOUND] or base == _NO_MIDDLE:
            return []
        last = int(self._state.px[side, -1])
        outward = NO_LIMIT if last == NO_PRICE else last if side == ASK else -last
        begin, count = base & _SLOT, min(outward - base + 1, KEPT)
        if count <= 0:
            return []
        return [slice(begin, min(begin + count, KEPT)), slice(0, max(begin + count - KEPT, 0))]

    def _middle_by(self, rows: BookRows) -> None:
        """Keep the prices around the first touch that there is, where none are kept yet."""
        for side, px in ((BID, rows.bid_px), (ASK, rows.ask_px)):
            if self._state.base[side] == _NO_MIDDLE:
                touches = px[((rows.kind == BOOK) | (rows.kind == SNAPSHOT)) & (px[:, 0] != NO_PRICE), 0]
                if len(touches):
                    self._state.base[side] = _outward(touches[:1], side)[0] - KEPT // 2

    def _settle(self, side: int) -> None:
        """Move the middle of what is kept to the touch, where it went too far from it."""
        base, px = int(self._state.base[side]), self._state.px[side]
        if not self._state.flags[HAS_BOOK] or px[0] == NO_PRICE:
            return
        moved = int(_outward(px[:1], side)[0]) - KEPT // 2 - base
        if abs(moved) <= _FROM_MIDDLE:
            return
        self._state.base[side] = base + moved
        if abs(moved) > _MOST_MOVED:
            self._state.flags[BROKEN] = 1
        gone = np.arange(base, base + moved) if moved > 0 else np.arange(base + KEPT + moved, base + KEPT)
        slots = gone[:KEPT] & _SLOT
        self._bucket_totals -= self._ring[:, side, slots].sum(axis=1, dtype=np.int64)[:, :VISIBLE]
        self._totals -= self._sums[:, side, slots].sum(axis=1)[:, :VISIBLE]
        self._ring[:, side, slots] = 0
        self._sums[:, side, slots] = 0


def account(rows: BookRows, state: State, bucket: Ints) -> None:
    """Account the rows of one bucket in numpy: of neighbouring books, as rows of a grid by price, the differences."""
    flags = state.flags
    instant = np.cumsum(np.diff(rows.ts_ns, prepend=rows.ts_ns[:1]) != 0)
    last = np.full(int(instant[-1]) + 1, -1)
    at = np.flatnonzero((rows.kind == BOOK) | (rows.kind == SNAPSHOT))
    last[instant[at]] = at  # of equal instants the last stays
    with_book = np.flatnonzero(last >= 0)
    replaced = np.isin(with_book, instant[rows.kind == SNAPSHOT])

    # The books in their order, with the one from before as the first.
    outward, sizes = _books(rows, state, last[with_book])
    good = _sound(outward)
    good[0] = flags[HAS_BOOK]
    places = np.arange(len(good))
    standing = np.maximum.accumulate(np.where(good, places, -1))
    lost = np.maximum.accumulate(np.where(np.append(False, replaced) & ~good, places, -1))
    standing[standing < lost] = -1  # since a snapshot that is not sound
    paired = good & np.append(False, (standing[:-1] >= 0) & ~replaced)
    if replaced.any() or (good[1:] != paired[1:]).any() or not good[1:].all() or (flags[UNSOUND] and good[1:].any()):
        flags[BROKEN] = 1

    prints = np.flatnonzero((rows.side != 0) & (rows.price != NO_PRICE) & (rows.size > 0))
    book = np.cumsum(last >= 0)[instant[prints]]  # the newest within its instant or before
    alone = last[instant[prints]] < 0
    stands = good.copy()  # as the newest book
    stands[0] &= not flags[UNSOUND]
    counted = np.where(alone, stands[book], paired[book])
    rank = np.cumsum(good) - 1
    for side in SIDES:
        mine = counted & (rows.side[prints] == (1 if side == ASK else -1))
        which = prints[mine]
        printed = _Printed(_outward(rows.price[which], side), rows.size[which], rank[book[mine]], alone[mine])
        _account_side(
            outward[good, side], sizes[good, side], paired[good], printed, int(state.base[side]), bucket[side]
        )

    if len(with_book):
        flags[UNSOUND], flags[HAS_BOOK] = not good[-1], standing[-1] >= 0
        if standing[-1] > 0:
            newest = last[with_book][standing[-1] - 1]
            state.px[:] = rows.bid_px[newest], rows.ask_px[newest]
            state.sz[:] = rows.bid_sz[newest], rows.ask_sz[newest]


class _Printed(NamedTuple):
    """Prints that consume one side: where, how much, by which of its books, and whether their instant had none."""

    outward: Ints
    size: Ints
    book: NDArray[np.intp]
    alone: NDArray[np.bool_]


def _account_side(
    outward: Ints, sizes: Ints, paired: NDArray[np.bool_], printed: _Printed, base: int, bucket: Ints
) -> None:
    """Account one side's sound books, each against the one before where it is paired, and what was printed."""
    limits = outward[:, -1]
    common = np.full(len(limits), -NO_LIMIT, np.int32)
    common[1:][paired[1:]] = np.minimum(limits[1:], limits[:-1])[paired[1:]]

    limit = np.where(printed.alone, limits[printed.book], common[printed.book])
    shown = (printed.outward <= limit) & _kept(printed.outward, base)
    where, size, book, alone = (column[shown] for column in printed)
    np.add.at(bucket[:, FILLED], where & _SLOT, size)
    np.add.at(bucket[:, ADDED], where[alone] & _SLOT, size[alone])
    where, size, book = where[~alone], size[~alone], book[~alone]

    listed = _kept(outward, base)
    if not paired.any() or not (listed.any() or len(where)):
        return
    named = np.append(outward[listed], where)
    least, most = int(named.min()), int(named.max())
    span = most - least + 1
    columns = np.arange(least, least + span)
    slots = columns & _SLOT
    step = max(_CELLS // span, 1)
    for begin in range(0, len(limits) - 1, step):
        end = min(begin + step, len(limits) - 1)  # of the differences; of the books it is one more
        here = listed[begin : end + 1]
        grid = np.zeros((end + 1 - begin, span), np.int32)
        at, _ = np.nonzero(here)
        grid[at, outward[begin : end + 1][here] - least] = sizes[begin : end + 1][here]
        net = np.diff(grid, axis=0)
        mine = (book > begin) & (book <= end)
        np.add.at(net, (book[mine] - begin - 1, where[mine] - least), size[mine])
        net *= columns <= common[begin + 1 : end + 1, None]
        gained = np.maximum(net, 0).sum(axis=0)
        bucket[slots, ADDED] += gained.astype(np.int32)
        bucket[slots, CANCELED] += (gained - net.sum(axis=0)).astype(np.int32)


def _books(rows: BookRows, state: State, which: NDArray[np.intp]) -> tuple[Ints, Ints]:
    """Return the outward prices and the sizes of the book from before and of some rows, (books, 2, 10)."""
    outward = np.empty((len(which) + 1, len(SIDES), BOOK_LEVELS), np.int32)
    sizes = np.empty_like(outward)
    for side, px, sz in ((BID, rows.bid_px, rows.bid_sz), (ASK, rows.ask_px, rows.ask_sz)):
        outward[0, side], sizes[0, side] = _outward(state.px[side], side), state.sz[side]
        outward[1:, side], sizes[1:, side] = _outward(px[which], side), sz[which]
    return outward, sizes


def _sound(outward: Ints) -> NDArray[np.bool_]:
    """Return which books have a price, are neither crossed nor locked, and lie outward from the touch on both sides."""
    further, nearer = outward[:, :, 1:], outward[:, :, :-1]
    in_order = ((further > nearer) | (further == NO_LIMIT)).all(axis=(1, 2))
    bid, ask = outward[:, BID, 0], outward[:, ASK, 0]
    one_sided = (bid == NO_LIMIT) ^ (ask == NO_LIMIT)
    sound: NDArray[np.bool_] = in_order & (one_sided | ((bid != NO_LIMIT) & (bid + ask > 0)))
    return sound


def _outward(px: Ints, side: int) -> Ints:
    """Return prices as ticks outward: of a bid negated; NO_LIMIT where there is none."""
    outward: Ints = np.where(px == NO_PRICE, np.int32(NO_LIMIT), px if side == ASK else -px)
    return outward


def _kept(outward: Ints | Longs, base: int) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = (outward >= base) & (outward < base + KEPT)
    return kept

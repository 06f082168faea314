"""The ledger's account of a bucket, compiled by numba: the same as `ledger.account`, in every bit.

It goes from instant to instant. The change of size and the volume at each price that the two books or the prints name
are gathered in slots, and each of these slots is then counted once: what is counted is emptied.

Bounds are not checked, which makes it 2.5 times as fast: a slot is ten bits, a level one of ten, and `Ledger.work`
refuses columns of unequal lengths.

As for the frames' scanner, numba keeps what it compiled on disk, and a cache that cannot be used is done without.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numba import int8, int32, int64, njit, types
from numpy.typing import NDArray

from spymaster.engines.compiled import compiled
from spymaster.engines.ledger import (
    ADDED,
    BROKEN,
    CANCELED,
    FILLED,
    HAS_BOOK,
    KEPT,
    NO_LIMIT,
    UNSOUND,
    Body,
    Longs,
    State,
)
from spymaster.engines.rows import ASK, BID, BOOK, NO_PRICE, SNAPSHOT, BookRows, Ints
from spymaster.events.market import BOOK_LEVELS

_SLOT: Final = KEPT - 1
_wide: Any = np.int64  # to calculate with what is narrower

_Function = TypeVar("_Function", bound=Callable[..., object])


@lru_cache(maxsize=1)
def load() -> Body:
    """Compile the account, which takes seconds, or take it from numba's cache."""
    accounted = compiled(account_rows, _signature())

    def account(rows: BookRows, state: State, bucket: Ints) -> None:
        accounted(*(np.ascontiguousarray(column) for column in rows), *state, bucket)

    return account


def _signature() -> Any:
    """Say what is compiled, now and once: columns may be read-only, as those that lie in Arrow's memory are."""
    time, letter, one, ten = (
        types.Array(kind, dimensions, "C", readonly=True)
        for kind, dimensions in ((int64, 1), (int8, 1), (int32, 1), (int32, 2))
    )
    columns = (time, letter, letter, one, one, ten, ten, ten, ten)
    return types.void(*columns, int32[:, ::1], int32[:, ::1], int64[::1], int64[::1], int32[:, :, ::1])


def _compiled(function: _Function) -> _Function:
    # Kept on disk with the function that calls it.
    inner: Any = njit(nogil=True, forceinline=True)(function)
    return inner  # type: ignore[no-any-return]


def account_rows(
    ts_ns: Longs,
    kind: NDArray[np.int8],
    aggressor: NDArray[np.int8],
    price: Ints,
    size: Ints,
    bid_px: Ints,
    ask_px: Ints,
    bid_sz: Ints,
    ask_sz: Ints,
    px: Ints,
    sz: Ints,
    base: Longs,
    flags: Longs,
    bucket: Ints,
) -> None:
    """Account the rows of one bucket: the columns of `BookRows`, the arrays of `State`, and the bucket."""
    change, volume = np.zeros(KEPT, np.int64), np.zeros(KEPT, np.int64)
    begin, rows = 0, len(ts_ns)
    while begin < rows:
        end, last, replaced = begin, -1, False
        while end < rows and ts_ns[end] == ts_ns[begin]:
            if kind[end] == BOOK or kind[end] == SNAPSHOT:
                last = end
            if kind[end] == SNAPSHOT:
                replaced = True
            end += 1
        if last < 0:
            if flags[HAS_BOOK] and not flags[UNSOUND]:
                for side in (BID, ASK):
                    _side(
                        side, px[side], sz[side], px[side], sz[side], aggressor[begin:end], price[begin:end],
                        size[begin:end], base[side], bucket[side], change, volume,
                    )  # fmt: skip
        elif not _sound(bid_px[last], ask_px[last]):
            flags[UNSOUND] = flags[BROKEN] = 1
            if replaced:
                flags[HAS_BOOK] = 0
        else:
            if replaced or flags[UNSOUND] or not flags[HAS_BOOK]:
                flags[BROKEN] = 1
            if flags[HAS_BOOK] and not replaced:
                _side(
                    BID, px[BID], sz[BID], bid_px[last], bid_sz[last], aggressor[begin:end], price[begin:end],
                    size[begin:end], base[BID], bucket[BID], change, volume,
                )  # fmt: skip
                _side(
                    ASK, px[ASK], sz[ASK], ask_px[last], ask_sz[last], aggressor[begin:end], price[begin:end],
                    size[begin:end], base[ASK], bucket[ASK], change, volume,
                )  # fmt: skip
            _copy(bid_px[last], px[BID])
            _copy(ask_px[last], px[ASK])
            _copy(bid_sz[last], sz[BID])
            _copy(ask_sz[last], sz[ASK])
            flags[HAS_BOOK], flags[UNSOUND] = 1, 0
        begin = end


@_compiled
def _copy(levels: Ints, kept: Ints) -> None:
    for level in range(BOOK_LEVELS):
        kept[level] = levels[level]


@_compiled
def _side(
    side: int,
    px0: Ints,
    sz0: Ints,
    px1: Ints,
    sz1: Ints,
    aggressor: NDArray[np.int8],
    price: Ints,
    size: Ints,
    base: int,
    bucket: Ints,
    change: Longs,
    volume: Longs,
) -> None:
    """Account one side of one instant; `change` and `volume` are all 0 before and after."""
    limit = min(_outward(px0[-1], side), _outward(px1[-1], side))
    limit = min(limit, base + KEPT - 1)
    consumer = 1 if side == ASK else -1
    for level in range(BOOK_LEVELS):
        if px1[level] != px0[level] or sz1[level] != sz0[level]:  # as few are
            _add(change, sz1[level], px1[level], side, base, limit)
            _add(change, -_wide(sz0[level]), px0[level], side, base, limit)
    for row in range(len(price)):
        if aggressor[row] == consumer:
            _add(volume, max(size[row], 0), price[row], side, base, limit)
    for row in range(len(price)):
        if aggressor[row] == consumer:
            _count(bucket, change, volume, price[row], side, base, limit)
    for level in range(BOOK_LEVELS):
        if px1[level] != px0[level] or sz1[level] != sz0[level]:
            _count(bucket, change, volume, px1[level], side, base, limit)
            _count(bucket, change, volume, px0[level], side, base, limit)


@_compiled
def _add(slots: Longs, contracts: int, price: int, side: int, base: int, limit: int) -> None:
    outward = _outward(price, side)
    if base <= outward <= limit:
        slots[outward & _SLOT] += contracts


@_compiled
def _count(bucket: Ints, change: Longs, volume: Longs, price: int, side: int, base: int, limit: int) -> None:
    """Count what was gathered in a price's slot, and empty it, so that it is counted once."""
    outward = _outward(price, side)
    if base <= outward <= limit:
        slot = outward & _SLOT
        net = change[slot] + volume[slot]
        bucket[slot, FILLED] += volume[slot]
        bucket[slot, ADDED] += max(net, 0)
        bucket[slot, CANCELED] += max(-net, 0)
        change[slot] = volume[slot] = 0


@_compiled
def _sound(bid: Ints, ask: Ints) -> bool:
    """Return whether a book is sound, as `ledger` says it."""
    for level in range(BOOK_LEVELS - 1):
        for side, px in ((BID, bid), (ASK, ask)):
            nearer, further = _outward(px[level], side), _outward(px[level + 1], side)
            if further <= nearer and further != NO_LIMIT:
                return False
    if bid[0] == NO_PRICE or ask[0] == NO_PRICE:
        return bool(bid[0] != NO_PRICE or ask[0] != NO_PRICE)
    return bool(bid[0] < ask[0])


@_compiled
def _outward(price: int, side: int) -> int:
    wide: int = _wide(price)
    if wide == NO_PRICE:
        return NO_LIMIT
    return wide if side == ASK else -wide

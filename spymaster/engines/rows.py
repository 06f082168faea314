"""Record batches of `futures.mbp10` to the rows of one contract: whole ticks, in the order in which they are worked.

A price is a whole number of ticks from here on, because sums over prices have to give the same bits on every machine.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.events.market import BOOK_LEVELS

SIDES = BID, ASK = range(2)  # the first index wherever something has two sides
NO_PRICE: Final = -(2**31)
OTHER, PRINT, BOOK, SNAPSHOT = range(4)  # of a row; OTHER is a book within its event, and of no use

LAST_OF_EVENT: Final = 128
_MOST_TICKS: Final = 2**30  # so that no difference of two prices leaves int32
_OFF: Final = 1e-6  # of a tick: dividing by a tick such as 0.01 gives no whole number
_SIDES: Final = ("bid", "ask")
_PLAIN: Final = ("ts_event_ns", "capture_id", "capture_seq", "flags", "is_snapshot")
_LEVELS: Final = range(1, BOOK_LEVELS + 1)
_PRICES: Final = ("price", *(f"{side}_px_{level}" for side in _SIDES for level in _LEVELS))
_SIZES: Final = ("size", *(f"{side}_sz_{level}" for side in _SIDES for level in _LEVELS))
_BID_LEVELS, _ASK_LEVELS = slice(1, 1 + BOOK_LEVELS), slice(1 + BOOK_LEVELS, None)  # of these
COLUMNS: Final = ("contract", "action", "side", *_PLAIN, *_PRICES, *_SIZES)  # that are of use here
_EQUAL: Final = pc.get_function("equal")  # `pc.equal` costs a snap's few rows twice as much

Ints = NDArray[np.int32]


class BookRows(NamedTuple):
    """MBP-10 rows of one contract, n of them, in order of (`ts_event_ns`, `capture_id`, `capture_seq`).

    Attributes:
        ts_ns: event times, UTC nanoseconds, int64.
        kind: PRINT (action T), BOOK (last of its event), SNAPSHOT or OTHER, int8. What says both is a SNAPSHOT.
        side: the aggressor of a print, +1 buyer, -1 seller, 0 neither; 0 of the others. int8.
        price: ticks, or NO_PRICE.
        size: contracts, 0 where not said.
        bid_px: (n, 10) ticks, best first; NO_PRICE where the level is empty.
        ask_px: as `bid_px`.
        bid_sz: (n, 10) contracts.
        ask_sz: as `bid_sz`.
    """

    ts_ns: NDArray[np.int64]
    kind: NDArray[np.int8]
    side: NDArray[np.int8]
    price: Ints
    size: Ints
    bid_px: Ints
    ask_px: Ints
    bid_sz: Ints
    ask_sz: Ints

    def take(self, which: Any) -> "BookRows":
        """Return the rows of a slice, a mask or indices."""
        return BookRows(*(column[which] for column in self))


def book_rows(batches: Sequence[pa.RecordBatch], contract: str, tick: float) -> tuple[BookRows, int]:
    """Return one contract's rows in order, and how many of them had a price that is no whole tick.

    Such a row has no price at all, neither its own nor a book's: with a hole where the odd price was, the ledger would
    take the level for canceled.

    Args:
        batches: of `futures.mbp10`, with the same columns, in any order.
        contract: the venue's symbol, e.g. ESZ5; rows of others and of none are left out.
        tick: the least difference of two prices, in the unit of the prices.
    """
    if not sum(batch.num_rows for batch in batches):
        return no_rows(), 0
    whole = joined(batches)  # some fifty columns: a piece at a time costs more than its rows
    mine = equal(whole.column("contract"), contract)
    prices, sizes = (_stacked(whole, names)[:, mine] for names in (_PRICES, _SIZES))
    ticks, off = whole_ticks(prices, tick)
    ts_ns, capture, seq, flags, snapshot = (values_of(whole.column(name))[mine] for name in _PLAIN)
    kind = np.where(flags & LAST_OF_EVENT, np.int8(BOOK), np.int8(OTHER))
    kind[equal(whole.column("action"), "T")[mine]] = PRINT
    kind[snapshot] = SNAPSHOT
    letters = whole.column("side")
    side = (equal(letters, "B").astype(np.int8) - equal(letters, "A"))[mine] * (kind == PRINT)
    rows = BookRows(
        ts_ns, kind, side, ticks[0], sizes[0], _by_row(ticks[_BID_LEVELS]), _by_row(ticks[_ASK_LEVELS]),
        _by_row(sizes[_BID_LEVELS]), _by_row(sizes[_ASK_LEVELS]),
    )  # fmt: skip
    order = in_order(ts_ns, capture, seq)
    return (rows if order is None else rows.take(order)), int(off.sum())


def mids_of(rows: BookRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return times and mids, in half ticks, of the sound books among some rows: both sides there, and not crossed."""
    bid, ask = rows.bid_px[:, 0], rows.ask_px[:, 0]
    sound = (rows.kind == BOOK) & (bid != NO_PRICE) & (bid < ask)
    return rows.ts_ns[sound], bid[sound].astype(np.int64) + ask[sound]


def volume(batches: Sequence[pa.RecordBatch], contract: str, begin_ns: int) -> int:
    """Return how many of a contract were traded by rows of `futures.trades`, one batch or more, since a time."""
    whole = joined(batches)
    mine = equal(whole.column("contract"), contract) & (whole.column("ts_event_ns").to_numpy() >= begin_ns)
    return int(values_of(whole.column("size"))[mine].sum(dtype=np.int64))


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of one or more batches with the same columns."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)  # type: ignore[attr-defined]  # no stub


def equal(texts: pa.Array, text: str) -> NDArray[np.bool_]:
    """Return which texts are this one; null is not."""
    found: Any = _EQUAL.call([texts, _scalar(text)])
    if found.null_count:
        found = pc.fill_null(found, False)
    same: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return same


@cache
def _scalar(text: str) -> pa.Scalar:
    return pa.scalar(text)


def _stacked(batch: pa.RecordBatch, names: tuple[str, ...]) -> NDArray[Any]:
    """Return columns of one type, (columns, rows), as `values_of` does: by one call, since they are more than rows."""
    chosen: Any = batch.select(names)
    try:
        tensor = chosen.to_tensor(null_to_nan=chosen.schema.types[0] == pa.float64(), row_major=False)
    except pa.ArrowTypeError:  # some are null
        return np.stack([values_of(column) for column in chosen.columns])
    stacked: NDArray[Any] = tensor.to_numpy().T
    return stacked


def values_of(column: pa.Array) -> NDArray[Any]:
    """Return a column; a null price is NaN, any other null is 0."""
    if column.null_count and not pa.types.is_floating(column.type):
        column = column.fill_null(0)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def whole_ticks(prices: NDArray[np.float64], tick: float) -> tuple[Ints, NDArray[np.bool_]]:
    """Return prices in ticks, and which rows have one that is no whole number of them.

    Args:
        prices: (columns, rows), NaN where there is none.
        tick: of the same unit.
    """
    exact = prices / tick
    whole = np.rint(exact)
    # In place: a new array of this size comes from the system a page at a time, and took seven times as long.
    exact -= whole
    fits = np.abs(exact, out=exact) <= _OFF
    fits &= np.abs(whole, out=exact) < _MOST_TICKS
    if fits.all():
        return whole.astype(np.int32), np.zeros(prices.shape[1], np.bool_)
    off: NDArray[np.bool_] = np.any(~fits & ~np.isnan(prices), axis=0)
    return np.where(fits & ~off, whole, NO_PRICE).astype(np.int32), off


def _by_row(columns: Ints) -> Ints:
    return np.ascontiguousarray(columns.T)


def in_order(ts_ns: NDArray[np.int64], capture: NDArray[np.int64], seq: NDArray[np.int64]) -> NDArray[np.intp] | None:
    """Return the order of rows by time, capture and number, or None where they are in it."""
    before, after = slice(None, -1), slice(1, None)
    ordered = ts_ns[before] < ts_ns[after]
    if not ordered.all():
        same_time, same_capture = ts_ns[before] == ts_ns[after], capture[before] == capture[after]
        ordered |= same_time & (capture[before] < capture[after])
        ordered |= same_time & same_capture & (seq[before] <= seq[after])
    return None if ordered.all() else np.lexsort((seq, capture, ts_ns))


def no_rows() -> BookRows:
    """Return no rows."""
    one, ten = np.empty(0, np.int32), np.empty((0, BOOK_LEVELS), np.int32)
    letters = one.astype(np.int8)
    return BookRows(np.empty(0, np.int64), letters, letters, one, one, ten, ten, ten, ten)

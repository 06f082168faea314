"""Columns of trades, books and quotes. Pure."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.events import BOOK_LEVELS
from spymaster.normalize.columns import Columns
from spymaster.normalize.databento.fields import byte, characters, key_columns, optional_times, prices, sizes
from spymaster.normalize.databento.records import (
    BBO_1M,
    BBO_1S,
    CBBO_1M,
    CBBO_1S,
    CMBP1,
    MBP1,
    PRICE_SCALE,
    SAMPLES,
    TCBBO,
    UNDEFINED_PRICE,
    Records,
    book_counts,
    level_words,
    received_ns,
)

_SNAPSHOT_FLAG: Final = 32
_AGGRESSORS: Final = np.zeros(256, np.int8)
_AGGRESSORS[ord("B")], _AGGRESSORS[ord("A")] = 1, -1
AT_A_TRADE: Final = -1  # such a quote's `sample_s`
SAMPLE_S: Final = {MBP1: 0, CMBP1: 0, TCBBO: AT_A_TRADE, CBBO_1S: 1, CBBO_1M: 60, BBO_1S: 1, BBO_1M: 60}


def trade_columns(records: Records) -> Columns:
    """Return a trade's columns, all but those of its instrument."""
    return _event_columns(records) | {
        "aggressor": pa.array(_AGGRESSORS[byte(records["side"])]),
        "ts_in_delta_ns": pa.array(records["ts_in_delta"].astype(np.int32)),
        "seq": pa.array(records["sequence"].astype(np.int64)),
    }


def book_columns(records: Records) -> Columns:
    """Return an MBP-10 record's columns: the change, and the ten levels after it.

    An empty level has no price; its size and count stand as sent.
    """
    columns = trade_columns(records) | {
        "action": characters(records["action"]),
        "side": characters(records["side"]),
        "depth": pa.array(records["depth"].astype(np.int16)),
        "is_snapshot": pa.array((records["flags"] & _SNAPSHOT_FLAG) != 0),
    }
    fixed = np.ascontiguousarray(level_words(records, np.int64)[:, :, :2].transpose(1, 2, 0))
    counts = np.ascontiguousarray(book_counts(records).transpose(1, 2, 0)).view(np.int32)
    empty = fixed == UNDEFINED_PRICE
    some_empty = empty.any(axis=2)
    floats = fixed / PRICE_SCALE
    if some_empty.any():
        floats[empty] = 0.0
    for level in range(BOOK_LEVELS):
        for number, side in enumerate(("bid", "ask")):
            own = floats[level, number]
            some = some_empty[level, number]
            price = pa.array(own, mask=empty[level, number]) if some else _filled(own, pa.float64())
            columns[f"{side}_px_{level + 1}"] = price
            columns[f"{side}_sz_{level + 1}"] = _filled(counts[level, number], pa.int32())
            columns[f"{side}_ct_{level + 1}"] = _filled(counts[level, number + 2], pa.int32())
    return columns


def quote_columns(kind: int, records: Records, sample_s: int) -> Columns:
    """Return a quote's columns; those that its kind does not have are left out.

    A sample is as of its `ts_recv`, the end of its interval: its `ts_event` is when the last trade was.

    Args:
        kind: of the records.
        records: sound ones.
        sample_s: what the schema says of them.
    """
    has = set(records.dtype.names or ())
    columns = _event_columns(records) | {
        "sample_s": pa.array(np.full(len(records), sample_s, np.int32)),
        "side": characters(records["side"]),
        "bid_px": prices(records["bid_px_00"]),
        "bid_sz": sizes(records["bid_sz_00"]),
        "ask_px": prices(records["ask_px_00"]),
        "ask_sz": sizes(records["ask_sz_00"]),
    }
    for side in ("bid", "ask"):  # some kinds have order counts, the others who quotes
        if f"{side}_ct_00" in has:
            columns[f"{side}_ct"] = sizes(records[f"{side}_ct_00"])
        else:
            columns[f"{side}_exch"] = pa.array(records[f"{side}_pb_00"].astype(np.int32))
    if "sequence" in has:
        columns["seq"] = pa.array(records["sequence"].astype(np.int64))
    if kind in SAMPLES:
        columns |= {"ts_event_ns": columns["ts_recv_ns"], "trade_ts_ns": optional_times(records["ts_event"])}
    else:
        columns["action"] = characters(records["action"])
        columns["ts_in_delta_ns"] = pa.array(records["ts_in_delta"].astype(np.int32))
    return columns


def crossed(quotes: Records) -> int:
    """Count the quotes that bid more than they ask. Locked ones, which bid as much, are not crossed."""
    bid, ask = quotes["bid_px_00"], quotes["ask_px_00"]
    return int(np.count_nonzero((bid > ask) & (bid != UNDEFINED_PRICE)))  # nothing is above an undefined ask


def _event_columns(records: Records) -> Columns:
    """Return what trades, book updates and quotes have in common."""
    return key_columns(records) | {
        "ts_event_ns": pa.array(records["ts_event"].astype(np.int64)),
        "ts_recv_ns": pa.array(received_ns(records)),
        "price": prices(records["price"]),
        "size": sizes(records["size"]),
        "flags": pa.array(records["flags"].astype(np.int16)),
    }


def _filled(values: NDArray[Any], kind: Any) -> pa.Array:
    """Return a column without nulls over the values' own bytes. (`pa.array`, which asks what they are, costs more.)"""
    own: Any = values
    return pa.Array.from_buffers(kind, len(own), [None, pa.py_buffer(own)])

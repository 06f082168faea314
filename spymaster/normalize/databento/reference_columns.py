"""Columns of definitions, mappings, statistics and status. Pure."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.normalize.columns import Columns, repeat_text
from spymaster.normalize.databento.codes import CODES
from spymaster.normalize.databento.fields import key_columns, optional, optional_times, prices, texts
from spymaster.normalize.databento.records import MAX_INT32, UNDEFINED_TIME, Group, Records, received_ns

_DEFINITION_TEXTS: Final = {
    "contract": "raw_symbol",
    "action": "security_update_action",
    "instrument_class": "instrument_class",
    "asset": "asset",
    "security_type": "security_type",
    "cfi": "cfi",
    "exchange": "exchange",
    "underlying": "underlying",
    "currency": "currency",
    "user_defined": "user_defined_instrument",
}
_DEFINITION_PRICES: Final = {
    "strike": "strike_price",
    "min_price_increment": "min_price_increment",
    "unit_of_measure_qty": "unit_of_measure_qty",
}


def definition_columns(records: Records) -> Columns:
    """Return a definition's columns, all but the root that it is filed under."""
    multipliers = records["contract_multiplier"].astype(np.int32)
    return (
        _keys_and_times(records)
        | {name: texts(records[part]) for name, part in _DEFINITION_TEXTS.items()}
        | {name: prices(records[part]) for name, part in _DEFINITION_PRICES.items()}
        | {
            "record": repeat_text("definition", len(records)),
            "underlying_id": pa.array(records["underlying_id"].astype(np.int64)),
            "expiration_ns": optional_times(records["expiration"]),
            "activation_ns": optional_times(records["activation"]),
            "contract_multiplier": optional(multipliers, multipliers == MAX_INT32),
        }
    )


def mapping_columns(mappings: Group, start_ns: int) -> Columns:
    """Return a mapping's columns, all but the symbol that it gives and its root.

    When it came by our clock is its capture time, as the vendor sends none.

    Args:
        mappings: mapping records.
        start_ns: of the delivery; in a file the time of a mapping that has none of its own.
    """
    records, arrived_ns = mappings.records, mappings.arrived_ns
    otherwise = start_ns if arrived_ns is None else arrived_ns
    sent = records["ts_event"]
    times = np.where(sent == UNDEFINED_TIME, otherwise, sent.astype(np.int64))
    return key_columns(records) | {
        "ts_event_ns": pa.array(times),
        "ts_recv_ns": pa.array(times if arrived_ns is None else arrived_ns),
        "record": repeat_text("mapping", len(records)),
        "stype_in_symbol": texts(records["stype_in_symbol"]),
        "start_ns": optional_times(records["start_ts"]),
        "end_ns": optional_times(records["end_ts"]),
    }


def statistics_columns(records: Records) -> Columns:
    """Return a statistic's columns, all but those of its instrument. A quantity is undefined at its type's largest."""
    quantities = records["quantity"]
    undefined = quantities == np.iinfo(quantities.dtype).max
    return (
        _keys_and_times(records)
        | _named(records["stat_type"], "kind")
        | {
            "price": prices(records["price"]),
            "quantity": optional(quantities.astype(np.int64), undefined),
            "ref_ts_ns": optional_times(records["ts_ref"]),
            "update_code": pa.array(records["update_action"].astype(np.int16)),
            "stat_flags": pa.array(records["stat_flags"].astype(np.int16)),
            "channel_id": pa.array(records["channel_id"].astype(np.int32)),
            "ts_in_delta_ns": pa.array(records["ts_in_delta"].astype(np.int32)),
            "seq": pa.array(records["sequence"].astype(np.int64)),
        }
    )


def status_columns(records: Records) -> Columns:
    """Return a status's columns, all but those of its instrument."""
    return (
        _keys_and_times(records)
        | _named(records["action"], "action")
        | _named(records["reason"], "reason")
        | _named(records["trading_event"], "trading_event")
        | {name: _yes_or_no(records[name]) for name in ("is_trading", "is_quoting", "is_short_sell_restricted")}
    )


def _keys_and_times(records: Records) -> Columns:
    return key_columns(records) | {
        "ts_event_ns": pa.array(records["ts_event"].astype(np.int64)),
        "ts_recv_ns": pa.array(received_ns(records)),
    }


def _named(numbers: NDArray[np.uint16], column: str) -> Columns:
    """Return a code's name, null where we know none, and its number."""
    distinct, which = np.unique(numbers, return_inverse=True)
    names: Any = pa.array([CODES[column].get(number) for number in distinct.tolist()], pa.string())
    return {column: names.take(pa.array(which)), f"{column}_code": pa.array(numbers.astype(np.int32))}


def _yes_or_no(column: NDArray[np.bytes_]) -> pa.Array:
    yes: NDArray[np.bool_] = column == b"Y"
    return pa.array(yes, mask=~(yes | (column == b"N")))

"""Massive's values: how one is read strictly, and how columns of them become a batch. Pure.

a field that is missing or null is null; one of another type than its table's makes its message unreadable
times are whole numbers and never pass through a float; a row has the time of the SIP (the consolidated feed)
a trade's size that is no whole number of 32 bits is null, and its text stands in `size_decimal`
prices are the float nearest to the decimal text; sizes and codes that do not fit their column are unreadable
a side of a quote that is left out is null; one that is sent as 0 is 0
an option's expiration, strike and right come from its symbol, read from the right; one that reads as none keeps
its row with nulls, filed under the root that was asked for or else itself, as other vendors' odd symbols do, and is
counted
a quote whose bid is above its ask is recorded as it came and counted
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.events import OPTIONS_QUOTES, OPTIONS_TRADES, EventSchema
from spymaster.events.schema import WILDCARD
from spymaster.normalize.columns import Columns, repeat_text
from spymaster.normalize.massive.fields import CONTRACT, RECORDS, SNAPSHOT, Channel
from spymaster.normalize.normalizer import CROSSED
from spymaster.normalize.symbols import Asked, Instrument, read_occ
from spymaster.paths import MAX_SYMBOL_BYTES

OPTION_PREFIX: Final = "O:"
ALL: Final = Asked()  # of whatever root
MAX_NS: Final = 2**63 - 1
MAX_MS: Final = MAX_NS // NS_PER_MS
_REASON_CHARACTERS: Final = 60


class Part(NamedTuple):
    """Rows of one kind of event out of several frames.

    Attributes:
        columns: what the vendor sends, by our names.
        frames: the number of the frame that each row came in.
    """

    columns: Columns
    frames: NDArray[np.int64]


class UnreadableError(Exception):
    """A message cannot become rows; the text is the reason."""


def columns_of(objects: Sequence[Mapping[str, Any]], channel: Channel) -> Columns:
    """Read decoded events of one kind, fractions as `Decimal`, value by value.

    Raises:
        UnreadableError: a value is not what its field's should be, or an event lacks its symbol or its time.
    """
    columns: Columns = {}
    exact = "size_decimal" in channel.schema.log.names
    for key, field in channel.fields.items():
        kind = channel.schema.log.field(field.column).type
        read = _reader("exact size" if exact and field.column == "size" else field.unit, kind)
        values = [None if value is None else _read(read, key, value) for value in (o.get(key) for o in objects)]
        if field.unit in ("ticker", "option") and None in values:
            raise UnreadableError(f"an event has no {key}")
        if field.column == "ts_event_ns" and not all(values):
            raise UnreadableError(f"an event has no time: {key} is missing or 0")
        columns[field.column] = pa.array(values, kind)
    if exact:
        columns["size_decimal"] = _size_texts(objects, channel)
    return columns


def batch_of(
    schema: EventSchema, columns: Columns, source: str, received: pa.Array | None, asked: Asked = ALL
) -> pa.RecordBatch:
    """Put columns in the schema's order and add what follows from them; those that the vendor does not send are null.

    Args:
        schema: what the rows are.
        columns: at least its time and its symbol.
        source: what the rows name as theirs.
        received: when each row arrived by our clock; None for a file.
        asked: what was asked for; an option whose symbol does not read is filed under its root.
    """
    rows = len(columns["ts_event_ns"])
    columns["source"] = repeat_text(source, rows)
    columns["ts_recv_ns"] = columns["ts_event_ns"] if received is None else received
    if received is not None:
        columns["ts_local_ns"] = received
    if "option_symbol" in columns:
        columns |= _option_columns(columns["option_symbol"], asked)
    if schema is OPTIONS_TRADES:
        columns["aggressor"] = pa.array(np.zeros(rows, np.int8))  # the vendor does not say
    if schema is OPTIONS_QUOTES:
        columns["sample_s"] = pa.array(np.zeros(rows, np.int32))  # each is a change
    delivered, fields = _DELIVERED[schema.name]
    arrays = [columns[name] if name in columns else pa.nulls(rows, kind) for name, kind in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=delivered)


def odd_rows(schema: EventSchema, batch: pa.RecordBatch) -> Counter[str]:
    """Count a batch's rows that are recorded as they came though something is odd in them, by what it is."""
    odd: Counter[str] = Counter()
    if "exp_date" in schema.log.names and (unread := batch["exp_date"].null_count):
        odd["option whose symbol does not read"] = unread
    if schema is OPTIONS_QUOTES:
        bid, ask = (batch[name].to_numpy(zero_copy_only=False) for name in ("bid_px", "ask_px"))  # null is NaN
        if crossed := int(np.count_nonzero((bid > ask) & (ask > 0))):  # files have 0 for a side that is empty
            odd[CROSSED] = crossed
    return odd


def each_distinct(column: pa.Array, kind: Any, read: Callable[[Any], Any]) -> pa.Array:
    """Return `read` of every value, called once for each distinct one; null stays null."""
    encoded: Any = column.dictionary_encode()
    distinct = pa.array([read(value) for value in encoded.dictionary.to_pylist()], kind)
    rows: pa.Array = distinct.take(encoded.indices)
    return rows


def read_symbol(unit: str, symbol: Any) -> str:
    """Return a ticker or an option's symbol.

    Raises:
        ValueError: it is not a symbol of this market, or cannot be stored.
    """
    text = read_text(symbol)
    if (unit == "option") != text.startswith(OPTION_PREFIX) or not 0 < len(text.encode()) <= MAX_SYMBOL_BYTES:
        raise ValueError
    return text


def read_text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    return value


def read_codes(value: Any) -> list[int]:
    """Return a list of condition or indicator codes."""
    if type(value) is not list:
        raise ValueError
    return [_whole(code, 1 - 2**15, 2**15 - 1) for code in value]


def read_size(value: Any, limit: int) -> int:
    """Return a size, which may be written as a decimal: `100.000000`.

    Raises:
        ValueError: it is no whole number, or beyond the limit.
    """
    if type(value) is Decimal:
        # The exponent first: to write 1e999999999 out as a whole number takes all the memory there is.
        if not value.is_finite() or value.adjusted() > 18 or value != value.to_integral_value():
            raise ValueError
        value = int(value)
    return _whole(value, -limit, limit)


def read_exact_size(value: Any, limit: int) -> int | None:
    """Return a size that has its text beside it: None where it is no whole number, or beyond the limit.

    Raises:
        ValueError: it is no number.
    """
    if type(value) not in (int, Decimal):
        raise ValueError
    try:
        return read_size(value, limit)
    except ValueError:
        return None


def size_text(size: Any, limit: int = 2**31 - 1) -> str | None:
    """Return a trade's size as text, where it was not sent as a whole number that fits."""
    return None if size is None or (type(size) is int and -limit <= size <= limit) else str(size)


def _size_texts(objects: Sequence[Mapping[str, Any]], channel: Channel) -> pa.Array:
    key = {field.column: key for key, field in channel.fields.items()}
    sent = [(o.get(key["size_decimal"]), o.get(key["size"])) for o in objects]
    return pa.array([size_text(size) if exact is None else exact for exact, size in sent], pa.string())


def _read(read: Callable[[Any], Any], key: str, value: Any) -> Any:
    try:
        return read(value)
    except (ValueError, OverflowError) as error:
        shown = repr(value)
        cut = shown if len(shown) <= _REASON_CHARACTERS else f"{shown[:_REASON_CHARACTERS]}..."
        raise UnreadableError(f"{key} cannot be {cut}") from error


@lru_cache(maxsize=256)
def _reader(unit: str, kind: Any) -> Callable[[Any], Any]:
    limit = 2 ** (kind.bit_width - 1) - 1 if pa.types.is_integer(kind) else 0
    return {
        "text": read_text,
        "ticker": lambda value: read_symbol("ticker", value),
        "option": lambda value: read_symbol("option", value),
        "whole": lambda value: _whole(value, -limit, limit),  # the smallest number of a type stands for null
        "size": lambda value: read_size(value, limit),
        "exact size": lambda value: read_exact_size(value, limit),
        "price": _price,
        "codes": read_codes,
        "code": lambda value: read_codes(value if type(value) is list else [value]),
        "ms": lambda value: _whole(value, 0, MAX_MS) * NS_PER_MS,
        "ns": lambda value: _whole(value, 0, MAX_NS),
    }[unit]


def _whole(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError
    return value


def _price(value: Any) -> float:
    if type(value) not in (int, Decimal):
        raise ValueError
    price = float(value)
    if not np.isfinite(price):
        raise ValueError
    return price


_DELIVERED: Final = {
    channel.schema.name: (channel.schema.delivered, [(field.name, field.type) for field in channel.schema.delivered])
    for channel in (*RECORDS.values(), SNAPSHOT, CONTRACT)
}


@lru_cache(maxsize=65_536)
def _option(symbol: str, asked: Asked) -> Instrument:
    return read_occ(symbol, asked)


def asked_for(symbol: str) -> Asked:
    """Return what the delivery was asked for whose streams are named so."""
    return ALL if symbol == WILDCARD else Asked(symbol)


def option_root(symbol: str, asked: Asked) -> str:
    """Return what an option's rows are filed under."""
    return _option(symbol, asked).root


def _option_columns(symbols: pa.Array, asked: Asked) -> Columns:
    encoded: Any = symbols.dictionary_encode()
    options = [_option(symbol, asked) for symbol in encoded.dictionary.to_pylist()]
    distinct: Columns = {
        "underlying": pa.array([option.root for option in options], pa.string()),
        "exp_date": pa.array([option.exp_date for option in options], pa.date32()),
        "strike": pa.array([option.strike for option in options], pa.float64()),
        "right": pa.array([option.right for option in options], pa.string()),
    }
    return {name: values.take(encoded.indices) for name, values in distinct.items()}

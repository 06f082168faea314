"""DBN records: how they lie in bytes, what keeps one from becoming a row, and their columns. Pure.

Records come back to back: a length in 4-byte words, a kind (rtype), then the kind's fields. The fields of definitions
and mappings differ by DBN version. Arrays of records are in the vendor's own layout, whatever the version.

The vendor writes `undefined` as a type's largest value, which as a price would pass for 9,223,372,036.85. Here it
becomes null, except where a column of ours must be filled: such a record is at fault, like one whose number does not
fit its column.
"""

from typing import Any, Final, NamedTuple

import databento_dbn as dbn
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.events import BOOK_LEVELS
from spymaster.normalize.columns import Columns, repeat_text

TRADE, MBP10, DEFINITION, MAPPING = 0, 10, 19, 22

HEADER_MAGIC: Final = b"DBN"  # of a delivery's metadata
_HEADER_HEAD: Final = int.from_bytes(HEADER_MAGIC[:2], "little")
MAX_NS: Final = 2**63 - 1
UNDEFINED_TIME: Final = 2**64 - 1
UNDEFINED_PRICE: Final = 2**63 - 1
PRICE_SCALE: Final = 1e9
_UNDEFINED_SIZE: Final = 2**32 - 1
_MAX_INT32: Final = 2**31 - 1  # the largest size; in a multiplier it means undefined
_SNAPSHOT_FLAG: Final = 32

Records = NDArray[np.void]


class Group(NamedTuple):
    """The sound records of one kind in a piece.

    Attributes:
        records: as they came.
        offsets: at which byte of the piece each begins.
        arrived_ns: when the last byte of each came by our clock; None for a file.
    """

    records: Records
    offsets: NDArray[np.int64]
    arrived_ns: NDArray[np.int64] | None


def _layout(record: Any) -> np.dtype[np.void]:
    """Return the vendor library's own account of a record's bytes."""
    layout: np.dtype[np.void] = np.dtype(record._dtypes)
    return layout


LAYOUTS: Final = {
    version: {
        TRADE: _layout(dbn.TradeMsg),
        MBP10: _layout(dbn.MBP10Msg),
        DEFINITION: _layout(definition),
        MAPPING: _layout(mapping),
    }
    for version, definition, mapping in (
        (1, dbn.InstrumentDefMsgV1, dbn.SymbolMappingMsgV1),
        (2, dbn.InstrumentDefMsgV2, dbn.SymbolMappingMsg),
        (3, dbn.InstrumentDefMsg, dbn.SymbolMappingMsg),
    )
}
KIND_NAMES: Final = {int(kind.value): str(kind) for kind in dbn.RType.variants()}
# The times of a kind, and whether a record still makes a row where one is undefined.
_TIMES: Final = {
    TRADE: {"ts_event": False, "ts_recv": True},
    MBP10: {"ts_event": False, "ts_recv": True},
    DEFINITION: {"ts_event": False, "ts_recv": True, "expiration": True, "activation": True},
    MAPPING: {"ts_event": True, "start_ts": True, "end_ts": True},
}
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
_AGGRESSORS: Final = np.zeros(256, np.int8)
_AGGRESSORS[ord("B")], _AGGRESSORS[ord("A")] = 1, -1
_CHARACTERS: Final = pa.array(["", *map(chr, range(1, 256))])  # by byte; a NUL says nothing
_LEVEL_BYTES: Final = slice(48, 368)


def frame(piece: bytes) -> tuple[NDArray[np.int64], int]:
    """Return where each whole record begins, and where the last one ends: before a cut record, or one of length 0."""
    size = piece[0] * 4
    count = len(piece) // size if size else 0
    if count:
        heads = np.ndarray((count,), "<u2", piece, strides=(size,))
        rest = len(piece) - count * size
        # All alike, as in most pieces; unless the rest, too short for one more of the same, holds a smaller record.
        if (heads == heads[0]).all() and (rest == 0 or rest < piece[-rest] * 4):
            return np.arange(count) * size, count * size
    begins: list[int] = []
    at, end = 0, len(piece)
    while at < end and (size := piece[at] * 4) and at + size <= end:
        begins.append(at)
        at += size
    return np.array(begins, np.int64), at


def second_header(piece: bytes, offsets: NDArray[np.int64], end: int) -> int | None:
    """Return where a metadata header stands where a record would begin, if one does.

    Its first bytes are `DBN`: as a record's, a length of 272 and a kind that there is none of.

    Args:
        piece: the bytes that were framed.
        offsets: where its records begin.
        end: where the last one ends.
    """
    heads = np.ndarray((len(piece) - 1,), "<u2", piece, strides=(1,))[offsets] if len(offsets) else offsets
    for offset in [*offsets[heads == _HEADER_HEAD].tolist(), end]:
        if piece.startswith(HEADER_MAGIC, offset):
            return int(offset)
    return None


def gather(piece: bytes, offsets: NDArray[np.int64], size: int, layout: np.dtype[np.void]) -> Records:
    """Return the records of `size` bytes that begin at `offsets`, without copying where nothing lies between them."""
    if size == layout.itemsize and len(offsets) * size == offsets[-1] + size:
        return np.frombuffer(piece, layout, len(offsets))
    anywhere = np.ndarray((len(piece) - size + 1,), f"V{layout.itemsize}", piece, strides=(1,))
    return anywhere[offsets].view(layout)


def faults(kind: int, records: Records) -> dict[int, str]:
    """Return the records that cannot become rows, by number, with the first reason."""
    found: dict[int, str] = {}
    for name, dispensable in _TIMES[kind].items():
        late = records[name] > MAX_NS
        if late.any():
            found |= _because(late & (records[name] != UNDEFINED_TIME), f"{name} does not fit 64 bits", found)
            if not dispensable:
                found |= _because(late, f"{name} is undefined", found)
    if kind in (TRADE, MBP10):
        large = (records["size"] > _MAX_INT32) & (records["size"] != _UNDEFINED_SIZE)
        found |= _because(large, "size does not fit 32 bits", found)
    # Or-ing whole levels is five times as fast as the maximum of the counts in them.
    if kind == MBP10 and (np.bitwise_or.reduce(_level_words(records, np.uint32))[:, 4:] > _MAX_INT32).any():
        large = (_book_counts(records) > _MAX_INT32).any(axis=(1, 2))
        found |= _because(large, "a size or order count of the book does not fit 32 bits", found)
    return found


def _because(where: Any, reason: str, known: dict[int, str]) -> dict[int, str]:
    return {row: reason for row in np.flatnonzero(where).tolist() if row not in known}


def received_ns(records: Records) -> NDArray[np.int64]:
    """Return the vendor's capture time of sound records, or the venue's time where it is undefined."""
    received = records["ts_recv"]
    undefined = received == UNDEFINED_TIME
    return (np.where(undefined, records["ts_event"], received) if undefined.any() else received).astype(np.int64)


def market_columns(records: Records) -> Columns:
    """Return what trades and book updates have in common."""
    sizes = records["size"].astype(np.int64)
    return _key_columns(records) | {
        "ts_event_ns": pa.array(records["ts_event"].astype(np.int64)),
        "ts_recv_ns": pa.array(received_ns(records)),
        "price": _prices(records["price"]),
        "size": _optional(sizes.astype(np.int32), sizes == _UNDEFINED_SIZE),
        "aggressor": pa.array(_AGGRESSORS[_byte(records["side"])]),
        "flags": pa.array(records["flags"].astype(np.int16)),
        "ts_in_delta_ns": pa.array(records["ts_in_delta"].astype(np.int32)),
        "seq": pa.array(records["sequence"].astype(np.int64)),
    }


def book_columns(records: Records) -> Columns:
    """Return what only MBP-10 has: the change's kind and the ten levels after it.

    An empty level has no price; its size and count stand as sent.
    """
    columns = {
        "action": _CHARACTERS.take(_byte(records["action"])),
        "side": _CHARACTERS.take(_byte(records["side"])),
        "depth": pa.array(records["depth"].astype(np.int16)),
        "is_snapshot": pa.array((records["flags"] & _SNAPSHOT_FLAG) != 0),
    }
    fixed = np.ascontiguousarray(_level_words(records, np.int64)[:, :, :2].transpose(1, 2, 0))
    counts = np.ascontiguousarray(_book_counts(records).transpose(1, 2, 0)).view(np.int32)
    empty = fixed == UNDEFINED_PRICE
    some_empty = empty.any(axis=2)
    prices = fixed / PRICE_SCALE
    if some_empty.any():
        prices[empty] = 0.0
    for level in range(BOOK_LEVELS):
        for number, side in enumerate(("bid", "ask")):
            own = prices[level, number]
            some = some_empty[level, number]
            price = pa.array(own, mask=empty[level, number]) if some else _filled(own, pa.float64())
            columns[f"{side}_px_{level + 1}"] = price
            columns[f"{side}_sz_{level + 1}"] = _filled(counts[level, number], pa.int32())
            columns[f"{side}_ct_{level + 1}"] = _filled(counts[level, number + 2], pa.int32())
    return columns


def definition_columns(records: Records) -> Columns:
    """Return a definition's columns, all but the root that it is filed under."""
    multipliers = records["contract_multiplier"].astype(np.int32)
    return (
        _key_columns(records)
        | {name: texts(records[part]) for name, part in _DEFINITION_TEXTS.items()}
        | {name: _prices(records[part]) for name, part in _DEFINITION_PRICES.items()}
        | {
            "ts_event_ns": pa.array(records["ts_event"].astype(np.int64)),
            "ts_recv_ns": pa.array(received_ns(records)),
            "record": repeat_text("definition", len(records)),
            "underlying_id": pa.array(records["underlying_id"].astype(np.int64)),
            "expiration_ns": _optional_times(records["expiration"]),
            "activation_ns": _optional_times(records["activation"]),
            "contract_multiplier": _optional(multipliers, multipliers == _MAX_INT32),
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
    return _key_columns(records) | {
        "ts_event_ns": pa.array(times),
        "ts_recv_ns": pa.array(times if arrived_ns is None else arrived_ns),
        "record": repeat_text("mapping", len(records)),
        "stype_in_symbol": texts(records["stype_in_symbol"]),
        "start_ns": _optional_times(records["start_ts"]),
        "end_ns": _optional_times(records["end_ts"]),
    }


def texts(column: NDArray[np.bytes_]) -> pa.Array:
    """Return NUL-padded text, null where it is empty. Each distinct text is decoded once."""
    raw: Any = np.ascontiguousarray(column)
    fixed = pa.Array.from_buffers(pa.binary(raw.itemsize), len(raw), [None, pa.py_buffer(raw)])
    encoded: Any = fixed.dictionary_encode()
    distinct = pa.array([text(value) or None for value in encoded.dictionary.to_pylist()], pa.string())
    rows: pa.Array = distinct.take(encoded.indices)
    return rows


def text(raw: bytes) -> str:
    """Decode a NUL-padded field. It should be ASCII; what is not UTF-8 is taken byte by byte, so nothing is lost."""
    meant = raw.split(b"\0", 1)[0]
    try:
        return meant.decode()
    except UnicodeDecodeError:
        return meant.decode("latin-1")


def _filled(values: Any, kind: Any) -> pa.Array:
    """Return a column without nulls over the values' own bytes. (`pa.array`, which asks what they are, costs more.)"""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _key_columns(records: Records) -> Columns:
    return {
        "instrument_id": pa.array(records["instrument_id"].astype(np.int64)),
        "publisher_id": pa.array(records["publisher_id"].astype(np.int32)),
    }


def _byte(column: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(column).view(np.uint8)


def _level_words(records: Records, word: type[np.generic]) -> NDArray[Any]:
    """View the book as words of shape (records, levels, words a level): two prices, two sizes, two order counts."""
    size = np.dtype(word).itemsize
    words = np.ascontiguousarray(records).view(word).reshape(len(records), -1)
    return words[:, _LEVEL_BYTES.start // size : _LEVEL_BYTES.stop // size].reshape(len(records), BOOK_LEVELS, -1)


def _book_counts(records: Records) -> NDArray[np.uint32]:
    """View sizes and counts as (records, levels, bid size, ask size, bid count, ask count)."""
    return _level_words(records, np.uint32)[:, :, 4:]


def _prices(fixed: NDArray[np.int64]) -> pa.Array:
    return _optional(fixed / PRICE_SCALE, fixed == UNDEFINED_PRICE)


def _optional_times(times: NDArray[np.uint64]) -> pa.Array:
    return _optional(times.astype(np.int64), times == UNDEFINED_TIME)


def _optional(values: NDArray[Any], missing: NDArray[np.bool_]) -> pa.Array:
    """Return `values`, null where `missing`, with zero bytes beneath each null."""
    return (
        pa.array(np.where(missing, values.dtype.type(0), values), mask=missing) if missing.any() else pa.array(values)
    )

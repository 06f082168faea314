"""Fields of DBN records -> Arrow columns: what the vendor writes as undefined becomes null. Pure."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.normalize.columns import Columns
from spymaster.normalize.databento.records import (
    PRICE_SCALE,
    UNDEFINED_PRICE,
    UNDEFINED_SIZE,
    UNDEFINED_TIME,
    Records,
    text,
)

_CHARACTERS: Final = pa.array(["", *map(chr, range(1, 256))])  # by byte; a NUL says nothing


def key_columns(records: Records) -> Columns:
    """Return whose record each is."""
    return {
        "instrument_id": pa.array(records["instrument_id"].astype(np.int64)),
        "publisher_id": pa.array(records["publisher_id"].astype(np.int32)),
    }


def texts(column: NDArray[np.bytes_]) -> pa.Array:
    """Return NUL-padded text, null where it is empty. Each distinct text is decoded once."""
    raw: Any = np.ascontiguousarray(column)
    fixed = pa.Array.from_buffers(pa.binary(raw.itemsize), len(raw), [None, pa.py_buffer(raw)])
    encoded: Any = fixed.dictionary_encode()
    distinct = pa.array([text(value) or None for value in encoded.dictionary.to_pylist()], pa.string())
    rows: pa.Array = distinct.take(encoded.indices)
    return rows


def characters(column: NDArray[np.bytes_]) -> pa.Array:
    """Return one character as text."""
    return _CHARACTERS.take(byte(column))


def byte(column: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    """View one character as its byte."""
    return np.ascontiguousarray(column).view(np.uint8)


def prices(fixed: NDArray[np.int64]) -> pa.Array:
    """Return fixed-point prices as floats."""
    return optional(fixed / PRICE_SCALE, fixed == UNDEFINED_PRICE)


def sizes(counts: NDArray[np.uint32]) -> pa.Array:
    """Return sizes or order counts of sound records."""
    return optional(counts.astype(np.int32), counts == UNDEFINED_SIZE)


def optional_times(times: NDArray[np.uint64]) -> pa.Array:
    """Return times of sound records."""
    return optional(times.astype(np.int64), times == UNDEFINED_TIME)


def optional(values: NDArray[Any], missing: NDArray[np.bool_]) -> pa.Array:
    """Return `values`, null where `missing`, with zero bytes beneath each null."""
    return (
        pa.array(np.where(missing, values.dtype.type(0), values), mask=missing) if missing.any() else pa.array(values)
    )

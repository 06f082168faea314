"""Plain frames of Massive's websocket to Arrow columns: what `massive_scan` is told to look for, and what it found."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.normalize import massive_scan
from spymaster.normalize.massive import MAX_MS, NS_PER_MS, Channel, Columns, Field, Part
from spymaster.paths import MAX_SYMBOL_BYTES

_EVENT_BYTES: Final = len('{"ev":"T","sym":"A","t":1}')  # no plain event is shorter
_UNITS: Final = {
    "whole": massive_scan.WHOLE,
    "size": massive_scan.WHOLE,
    "ms": massive_scan.WHOLE,
    "price": massive_scan.PRICE,
    "text": massive_scan.TEXT,
    "ticker": massive_scan.TICKER,
    "option": massive_scan.OPTION,
    "codes": massive_scan.CODES,
    "code": massive_scan.CODE,
}
_MOST: Final = 2**63 - 1


class PlainFrames:
    """Reads the plain ones among the frames of one connection, in memory that it keeps for the next time."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels
        self._kinds = np.frombuffer("".join(channels).encode(), np.uint8)
        self._fields = _fields(channels)
        self._make_room(0)

    def read(self, frames: Sequence[bytes]) -> tuple[dict[str, Part], list[int]]:
        """Return the rows of all plain frames by kind, in order, and the numbers of the frames that are not plain."""
        joined = b"".join((*frames, b"\0"))
        text = np.frombuffer(joined, np.uint8)
        ends = np.cumsum([len(frame) for frame in frames])
        most = len(joined) // _EVENT_BYTES + 2
        if most > self._sent.shape[1]:
            self._make_room(most)
        rows = np.zeros(len(self._kinds), np.int64)
        massive_scan.scan(text, ends, self._kinds, self._fields, self._numbers, self._sent, self._frames, rows)
        parts = {
            name: Part(self._columns(text, kind, count), self._frames[kind, :count].copy())
            for kind, (name, count) in enumerate(zip(self._channels, rows.tolist(), strict=True))
            if count
        }
        return parts, np.flatnonzero(ends < 0).tolist()

    def _make_room(self, rows: int) -> None:
        kinds, places, _ = self._fields.shape
        self._numbers = np.empty((kinds, rows, places), np.int64)
        self._sent, self._frames = np.empty((kinds, rows), np.int64), np.empty((kinds, rows), np.int64)

    def _columns(self, text: NDArray[np.uint8], kind: int, rows: int) -> Columns:
        columns: Columns = {}
        channel = list(self._channels.values())[kind]
        sent = self._sent[kind, :rows]
        by_all, by_any = int(np.bitwise_and.reduce(sent)), int(np.bitwise_or.reduce(sent))
        for place, field in enumerate(channel.fields.values()):
            column_type = channel.schema.log.field(field.column).type
            if not by_any >> place & 1:
                columns[field.column] = pa.nulls(rows, column_type)
                continue
            valid = None if by_all >> place & 1 else _bitmap(sent >> place & 1)
            numbers = self._numbers[kind, :rows, place]
            columns[field.column] = _ARRAYS[field.unit](text, numbers, valid, column_type)
        return columns


def _fields(channels: Mapping[str, Channel]) -> NDArray[np.int64]:
    """Return what `massive_scan.scan` is told of each kind's fields."""
    fields = np.full((len(channels), max(len(channel.fields) for channel in channels.values()), 5), -1)
    for kind, channel in enumerate(channels.values()):
        for place, (key, field) in enumerate(channel.fields.items()):
            least, most = _limits(field, channel.schema.log.field(field.column).type)
            needed = field.unit in ("ticker", "option") or field.column == "ts_event_ns"
            fields[kind, place] = int.from_bytes(key.encode(), "little"), _UNITS[field.unit], least, most, needed
        fields[kind, len(channel.fields) :, massive_scan.NEEDED] = False
    return fields


def _limits(field: Field, column_type: Any) -> tuple[int, int]:
    """Return the smallest and the largest number, or length of a text, that a column holds."""
    if field.unit == "ms":
        return int(field.column == "ts_event_ns"), MAX_MS
    if field.unit in ("ticker", "option"):
        return 1, MAX_SYMBOL_BYTES
    if field.unit in ("codes", "code"):
        return massive_scan.LEAST_CODE, massive_scan.MOST_CODE
    if field.unit in ("whole", "size"):
        most = 2 ** (column_type.bit_width - 1) - 1
        return -most, most
    return 0, _MOST


def _buffer(values: Any) -> pa.Buffer:
    return pa.py_buffer(values)  # without a copy


def _bitmap(bits: NDArray[np.int64]) -> pa.Buffer:
    return _buffer(np.packbits(bits.astype(np.bool_), bitorder="little"))


def _wholes(_: Any, numbers: NDArray[np.int64], valid: pa.Buffer | None, column_type: Any) -> pa.Array:
    values = numbers.astype(column_type.to_pandas_dtype())
    return pa.Array.from_buffers(column_type, len(numbers), [valid, _buffer(values)])


def _times(_: Any, numbers: NDArray[np.int64], valid: pa.Buffer | None, column_type: Any) -> pa.Array:
    return pa.Array.from_buffers(column_type, len(numbers), [valid, _buffer(numbers * NS_PER_MS)])


def _prices(_: Any, numbers: NDArray[np.int64], valid: pa.Buffer | None, column_type: Any) -> pa.Array:
    return pa.Array.from_buffers(column_type, len(numbers), [valid, _buffer(numbers.copy())])


def _texts(text: NDArray[np.uint8], spans: NDArray[np.int64], valid: pa.Buffer | None, column_type: Any) -> pa.Array:
    ends = np.empty(len(spans) + 1, np.int32)
    copied = np.empty(int((spans & massive_scan.LENGTH).sum()), np.uint8)
    massive_scan.copy_texts(text, spans, ends, copied)
    return pa.Array.from_buffers(column_type, len(spans), [valid, _buffer(ends), _buffer(copied)])


def _codes(text: NDArray[np.uint8], spans: NDArray[np.int64], valid: pa.Buffer | None, column_type: Any) -> pa.Array:
    ends = np.empty(len(spans) + 1, np.int32)
    copied = np.empty(int((spans & massive_scan.LENGTH).sum()), np.int16)
    massive_scan.copy_codes(text, spans, ends, copied)
    codes = pa.array(copied[: ends[-1]])
    return pa.Array.from_buffers(column_type, len(spans), [valid, _buffer(ends)], children=[codes])


_ARRAYS: Final = {
    "whole": _wholes,
    "size": _wholes,
    "ms": _times,
    "price": _prices,
    "text": _texts,
    "ticker": _texts,
    "option": _texts,
    "codes": _codes,
    "code": _codes,
}

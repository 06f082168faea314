"""Plain frames of Massive's websocket to Arrow columns: what `frame_scanner` is told to look for, and what it found."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.normalize.massive import frame_scanner
from spymaster.normalize.massive.fields import Channel, Field
from spymaster.normalize.massive.values import MAX_MS, Columns, Part
from spymaster.paths import MAX_SYMBOL_BYTES

_EVENT_BYTES: Final = len('{"ev":"T","sym":"A","t":1}')  # no plain event is shorter: as many rows need room
_KEPT_EVENTS: Final = 100_000  # for more of them, of a single great frame, the room is given back
_UNITS: Final = {
    "whole": frame_scanner.WHOLE,
    "size": frame_scanner.WHOLE,
    "ms": frame_scanner.WHOLE,
    "price": frame_scanner.PRICE,
    "text": frame_scanner.TEXT,
    "ticker": frame_scanner.TICKER,
    "option": frame_scanner.OPTION,
    "codes": frame_scanner.CODES,
    "code": frame_scanner.CODE,
}
_ANY_LENGTH: Final = 2**31 - 1


class PlainFrames:
    """Reads the plain ones among the frames of one connection, in memory that it keeps for the next time."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels
        self._scanner = frame_scanner.load()
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
        self._scanner.scan(text, ends, self._kinds, self._fields, self._numbers, self._sent, self._frames, rows)
        parts = {
            name: Part(self._columns(channel, text, kind, int(rows[kind])), self._frames[kind, : rows[kind]].copy())
            for kind, (name, channel) in enumerate(self._channels.items())
            if rows[kind]
        }
        if most > _KEPT_EVENTS:
            self._make_room(0)
        return parts, np.flatnonzero(ends < 0).tolist()

    def _make_room(self, rows: int) -> None:
        kinds, places, _ = self._fields.shape
        self._numbers = np.empty((kinds, rows, places), np.int64)
        self._sent, self._frames = np.empty((kinds, rows), np.int64), np.empty((kinds, rows), np.int64)

    def _columns(self, channel: Channel, text: NDArray[np.uint8], kind: int, rows: int) -> Columns:
        columns: Columns = {}
        sent = self._sent[kind, :rows]
        by_all, by_any = int(np.bitwise_and.reduce(sent)), int(np.bitwise_or.reduce(sent))
        for place, field in enumerate(channel.fields.values()):
            column_type = channel.schema.log.field(field.column).type
            if not by_any >> place & 1:
                columns[field.column] = pa.nulls(rows, column_type)
                continue
            valid = None if by_all >> place & 1 else _bitmap(sent >> place & 1)
            numbers = self._numbers[kind, :rows, place].copy()
            columns[field.column] = self._array(field.unit, text, numbers, valid, column_type)
        return columns

    def _array(
        self, unit: str, text: NDArray[np.uint8], numbers: NDArray[np.int64], valid: pa.Buffer | None, column_type: Any
    ) -> pa.Array:
        rows = len(numbers)
        if unit == "ms":
            numbers *= NS_PER_MS
        elif unit in ("whole", "size"):
            numbers = numbers.astype(column_type.to_pandas_dtype())
        elif unit != "price":
            ends = np.empty(rows + 1, np.int32)
            length = int((numbers & frame_scanner.LENGTH).sum())
            if unit in ("codes", "code"):
                codes = np.empty(length, np.int16)
                self._scanner.copy_codes(text, numbers, ends, codes)
                children = [pa.array(codes[: ends[-1]])]
                return pa.Array.from_buffers(column_type, rows, [valid, _buffer(ends)], children=children)
            texts = np.empty(length, np.uint8)
            self._scanner.copy_texts(text, numbers, ends, texts)
            return pa.Array.from_buffers(column_type, rows, [valid, _buffer(ends), _buffer(texts)])
        return pa.Array.from_buffers(column_type, rows, [valid, _buffer(numbers)])


def _fields(channels: Mapping[str, Channel]) -> NDArray[np.int64]:
    """Return what `frame_scanner.scan` is told of each kind's fields."""
    fields = np.full((len(channels), max(len(channel.fields) for channel in channels.values()), 5), -1)
    for kind, channel in enumerate(channels.values()):
        for place, (key, field) in enumerate(channel.fields.items()):
            least, most = _limits(field, channel.schema.log.field(field.column).type)
            needed = field.unit in ("ticker", "option") or field.column == "ts_event_ns"
            fields[kind, place] = int.from_bytes(key.encode(), "little"), _UNITS[field.unit], least, most, needed
        fields[kind, len(channel.fields) :, frame_scanner.NEEDED] = False
    return fields


def _limits(field: Field, column_type: Any) -> tuple[int, int]:
    """Return the smallest and the largest number, or length of a text, that a column holds."""
    if field.unit == "ms":
        return int(field.column == "ts_event_ns"), MAX_MS
    if field.unit in ("ticker", "option"):
        return 1, MAX_SYMBOL_BYTES
    if field.unit in ("codes", "code"):
        return frame_scanner.LEAST_CODE, frame_scanner.MOST_CODE
    if field.unit in ("whole", "size"):
        most = 2 ** (column_type.bit_width - 1) - 1
        return -most, most
    return 0, _ANY_LENGTH


def _buffer(values: Any) -> pa.Buffer:
    return pa.py_buffer(values)  # without a copy


def _bitmap(bits: NDArray[np.int64]) -> pa.Buffer:
    return _buffer(np.packbits(bits.astype(np.bool_), bitorder="little"))

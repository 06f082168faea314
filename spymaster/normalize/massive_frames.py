"""Massive's websocket: frames as they came, JSON arrays of events, to rows of trades and quotes. Pure.

Frames are read many at a time: all that came within a tick. Each is decoded into typed objects and these are turned
into columns together. What the types do not foresee, be it a null, makes its frames be read again in quarters, and the
few frames that remain with it go the slow way, value by value (`massive.columns_of`), which is also what says why a
frame cannot be read. Both ways give the same rows. A frame that cannot be read goes to quarantine whole, and the others
are not touched by it.

The vendor's own messages (`status`) and events that are not recorded (aggregates, option quotes) are counted.

Why typed objects: of what was measured they are the fastest way from JSON text to columns (bench/massive_frames);
pyarrow's JSON reader takes twice as long for the decoding alone, and so does searching the bytes with numpy.
Why `struct`: it writes numbers out in half the time that numpy or pyarrow need to read them one by one, and refuses
what does not fit its column.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from itertools import chain, compress
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.events import EventSchema
from spymaster.normalize.massive import (
    FRAMES,
    MAX_MS,
    NS_PER_MS,
    OPTION_PREFIX,
    Channel,
    Columns,
    UnreadableError,
    batch_of,
    columns_of,
    read_symbol,
    repeat_text,
)
from spymaster.normalize.normalized import Normalized, Rows, Unreadable
from spymaster.normalize.symbols import SEVERAL
from spymaster.paths import MAX_SYMBOL_BYTES

_GROUP_BYTES: Final = 1024 * 1024  # become one batch of each kind
_BLOCK_BYTES: Final = 96 * 1024  # are objects at a time: they stay in the cache
_PARTS: Final = 4
_FEW: Final = 8  # frames that are not split further to keep one that is not plain from the others
_NOT_RECORDED: Final = ("status", "Q", "A", "AM", "LULD", "NOI", "FMV", "LV")  # what else a cluster may send
_OBJECTS: Final = ("ticker", "option", "text", "codes")  # what is not read as a number
_CODES: Final = pa.list_(pa.int16())
_WIDTHS: Final = {pa.int16(): "h", pa.int32(): "i", pa.int64(): "q", pa.float64(): "d"}
# A number that was not sent is the smallest of its type; a frame in which it stands goes the slow way.
_ABSENT: Final = {width: int(np.iinfo(width).min) for width in "hiq"}
_ABSENT_TEXTS: Final = tuple(str(number).encode() for number in _ABSENT.values())
_IS: Final = [bytes(int(byte == number) for byte in range(256)) for number in range(2)]  # marks a kind among numbers

Message = tuple[bytes, int | None]


class _NotPlainError(Exception):
    """These frames may be sound, but are not for the fast way."""


class _Kind(msgspec.Struct):
    ev: str


class _Column(NamedTuple):
    """How one field's values become a column; `width` is `struct`'s and numpy's letter for its numbers."""

    name: str
    unit: str
    kind: pa.DataType
    width: str


class _Block(NamedTuple):
    """Columns of numbers, by their places in the plan, that are read as one."""

    unit: str  # `ms`, the first of which are the events' times; or the width
    width: str
    places: list[int]


class _Plan(NamedTuple):
    """The columns of a kind of event: those that are blocks of numbers, and the places of the others."""

    columns: list[_Column]
    blocks: list[_Block]
    others: list[int]


class _Pieces(NamedTuple):
    """What blocks of events gave for the columns of a `_Plan`."""

    blocks: dict[str, list[NDArray[Any]]]
    others: list[list[Any]]


def _plan(channel: Channel) -> _Plan:
    kinds = [channel.schema.log.field(field.column).type for field in channel.fields.values()]
    columns = [
        _Column(field.column, field.unit, kind, _width(field.unit, kind))
        for field, kind in zip(channel.fields.values(), kinds, strict=True)
    ]
    blocks: dict[str, _Block] = {}
    for place, column in enumerate(columns):
        if column.width:
            unit = "ms" if column.unit == "ms" else column.width
            blocks.setdefault(unit, _Block(unit, column.width, [])).places.append(place)
    return _Plan(columns, list(blocks.values()), [place for place, column in enumerate(columns) if not column.width])


def _width(unit: str, kind: pa.DataType) -> str:
    return "" if unit in _OBJECTS else "h" if unit == "code" else _WIDTHS[kind]


def _strict(column: _Column) -> tuple[Any, Any]:
    """Return the type of a column's values and what stands for one that was not sent."""
    if column.unit in ("ticker", "option"):
        return str, msgspec.NODEFAULT
    if column.unit == "text":
        return str, None
    if column.unit == "price":
        return float, float("nan")
    if column.unit == "codes":
        return tuple[int, ...], None
    return int, _ABSENT[column.width]


def _structure(name: str, channel: Channel, *, strict: bool, **options: Any) -> Any:
    """Define a struct with our columns' names, read from the vendor's fields."""
    columns = [(column.name, *(_strict(column) if strict else (Any, None))) for column in _plan(channel).columns]
    rename = {field.column: key for key, field in channel.fields.items()}
    return msgspec.defstruct(name, columns, rename=rename, gc=False, kw_only=True, **options)


def _fast_decoder(channels: Mapping[str, Channel]) -> tuple[msgspec.json.Decoder, dict[Any, int]]:
    """Return what decodes a frame at once, and by its type the number of each kind, recorded kinds first."""
    recorded = [_structure(kind, c, strict=True, tag_field="ev", tag=kind) for kind, c in channels.items()]
    others = [msgspec.defstruct(k, [], tag_field="ev", tag=k, gc=False) for k in _NOT_RECORDED if k not in channels]
    anything: Any = None
    for kind in (*recorded, *others):
        anything = kind if anything is None else anything | kind
    return msgspec.json.Decoder(list[anything]), {kind: number for number, kind in enumerate((*recorded, *others))}


_decode_raw: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_kind: Final = msgspec.json.Decoder(_Kind).decode
_PLANS: Final = {cluster: {kind: _plan(c) for kind, c in channels.items()} for cluster, channels in FRAMES.items()}
_FAST: Final = {cluster: _fast_decoder(channels) for cluster, channels in FRAMES.items()}
_SLOW: Final = {
    cluster: {
        kind: msgspec.json.Decoder(_structure(kind, channel, strict=False), float_hook=Decimal).decode
        for kind, channel in channels.items()
    }
    for cluster, channels in FRAMES.items()
}


class MassiveFrames:
    """Turns the frames of one connection into rows.

    Attributes:
        source: the vendor's dataset, as rows name it; `sim` if the delivery is simulated.
        streams: the stream's symbol for every schema that this connection can give.
        ignored: events that are not recorded, by the vendor's name.
        unmapped: 0; every event names its instrument.
    """

    def __init__(self, *, cluster: str, symbol: str = SEVERAL, simulated: bool = False) -> None:
        """Begin a connection.

        Args:
            cluster: `stocks` or `options`.
            symbol: the one root that was subscribed, which names the streams; `ALL` for several.
            simulated: the rows' source is `sim`.
        """
        self._channels, self._slow, self._plans = FRAMES[cluster], _SLOW[cluster], _PLANS[cluster]
        decoder, self._numbers = _FAST[cluster]
        self._decode = decoder.decode
        self.source = "sim" if simulated else f"massive.{cluster}"
        self.streams = {channel.schema.name: symbol for channel in self._channels.values()}
        self.ignored: Counter[str] = Counter()
        self.unmapped = 0
        self._byte = 0

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        """Turn frames into rows.

        Args:
            messages: frames in order, each with our time of receipt; None where they were not received live.
        """
        done = Normalized([], [])
        for group in _grouped(messages, _GROUP_BYTES):
            some = Normalized([], [])
            self._read(group, some)
            done.batches.extend(_joined(some.batches))
            done.unreadable.extend(some.unreadable)
        return done

    def finish(self) -> None:
        """Do nothing: a frame is whole or was not sent."""

    def _read(self, messages: Sequence[Message], done: Normalized) -> None:
        """Read frames together, and those of them that are not plain as few together as that takes."""
        try:
            batches, ignored = self._read_together(messages)
        except _NotPlainError:
            if len(messages) > _FEW:
                part = -(-len(messages) // _PARTS)
                for begin in range(0, len(messages), part):
                    self._read(messages[begin : begin + part], done)
                return
            self._read_each(messages, done)
        else:
            done.batches.extend(batches)
            self.ignored.update(ignored)
        self._byte += sum(len(frame) for frame, _ in messages)

    def _read_together(self, messages: Sequence[Message]) -> tuple[list[Any], Counter[str]]:
        """Read frames at once.

        Raises:
            _NotPlainError: not all are plain.
        """
        pieces = {
            kind: _Pieces({block.unit: [] for block in p.blocks}, [[] for _ in p.others])
            for kind, p in self._plans.items()
        }
        counts: list[int] = []
        numbered = []
        try:
            for block in _grouped(messages, _BLOCK_BYTES):
                numbered.append(self._gather(block, counts, pieces))
            numbers = np.frombuffer(b"".join(numbered), np.uint8)
            batches = self._batches(messages, numbers, counts, pieces)
        except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError, struct.error) as error:
            raise _NotPlainError from error
        if sum(batch.num_rows for _, batch in batches) == len(numbers):
            return batches, Counter()
        return batches, self._others(numbers)

    def _gather(self, messages: Sequence[Message], counts: list[int], pieces: dict[str, _Pieces]) -> bytes:
        """Decode a block of frames and add it to the pieces; return each event's kind as a number."""
        text = b"".join([frame for frame, _ in messages])
        # Of what the decoder skips it does not look at the characters.
        if not text.isascii() or (b"-" in text and any(absent in text for absent in _ABSENT_TEXTS)):
            raise _NotPlainError
        events: list[Any] = []
        for frame, _ in messages:
            some = self._decode(frame)
            events += some
            counts.append(len(some))
        numbers = bytes(map(self._numbers.__getitem__, map(type, events)))
        for number, (kind, mine) in enumerate(pieces.items()):
            rows = numbers.count(number)
            if rows:
                where = numbers.translate(_IS[number]) if rows < len(events) else None
                _take_apart(events if where is None else compress(events, where), rows, self._plans[kind], mine)
        return numbers

    def _batches(
        self, messages: Sequence[Message], numbers: NDArray[np.uint8], counts: list[int], pieces: dict[str, _Pieces]
    ) -> list[Any]:
        live = messages[0][1] is not None
        received = np.repeat(np.array([time for _, time in messages], np.int64), counts) if live else None
        batches = []
        for number, (kind, channel) in enumerate(self._channels.items()):
            where = numbers == number
            rows = int(np.count_nonzero(where))
            if rows:
                columns = _columns(pieces[kind], self._plans[kind])
                times = None if received is None else pa.array(received if rows == len(where) else received[where])
                batches.append((channel.schema, batch_of(channel.schema, columns, self.source, times)))
        return batches

    def _others(self, numbers: NDArray[np.uint8]) -> Counter[str]:
        """Count the events that are not recorded."""
        found = np.bincount(numbers, minlength=len(self._numbers)).tolist()
        return Counter(
            {
                kind.__name__: found[number]
                for kind, number in self._numbers.items()
                if found[number] and number >= len(self._channels)
            }
        )

    def _read_each(self, messages: Sequence[Message], done: Normalized) -> None:
        """Read frame by frame."""
        parts: defaultdict[str, list[tuple[Columns, int | None]]] = defaultdict(list)
        byte = self._byte
        for frame, ts_local_ns in messages:
            try:
                events, others = self._events(frame)
                columns = {kind: columns_of(mine, self._channels[kind]) for kind, mine in events.items()}
            except UnreadableError as error:
                done.unreadable.append(Unreadable(frame, str(error), byte))
            else:
                self.ignored.update(others)
                for kind, mine in columns.items():
                    parts[kind].append((mine, ts_local_ns))
            byte += len(frame)
        for kind, some in parts.items():
            done.batches.append((self._channels[kind].schema, self._batch(kind, some)))

    def _events(self, frame: bytes) -> tuple[dict[str, list[dict[str, Any]]], Counter[str]]:
        """Decode a frame strictly; return the events to record by kind, and how many others of which kind."""
        events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        others: Counter[str] = Counter()
        try:
            frame.decode()
            for raw in _decode_raw(frame):
                kind = _decode_kind(raw).ev
                if kind in self._slow:
                    event = self._slow[kind](raw)
                    fields = self._channels[kind].fields
                    events[kind].append({key: getattr(event, field.column) for key, field in fields.items()})
                else:
                    others[kind] += 1
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
            raise UnreadableError(f"it is no array of events: {error}") from error
        return events, others

    def _batch(self, kind: str, parts: list[tuple[Columns, int | None]]) -> pa.RecordBatch:
        columns = {name: pa.concat_arrays([part[name] for part, _ in parts]) for name in parts[0][0]}
        received = None
        if parts[0][1] is not None:
            rows = [len(part["ts_event_ns"]) for part, _ in parts]
            received = pa.array(np.repeat(np.array([time for _, time in parts], np.int64), rows))
        return batch_of(self._channels[kind].schema, columns, self.source, received)


def _grouped(messages: Sequence[Message], most_bytes: int) -> Iterator[Sequence[Message]]:
    begin = size = 0
    for number, (frame, _) in enumerate(messages):
        if number > begin and size + len(frame) > most_bytes:
            yield messages[begin:number]
            begin, size = number, 0
        size += len(frame)
    if begin < len(messages):
        yield messages[begin:]


def _joined(batches: list[Rows]) -> list[Rows]:
    """Make one batch of each schema's."""
    parts: dict[str, tuple[EventSchema, list[pa.RecordBatch]]] = {}
    for schema, batch in batches:
        parts.setdefault(schema.name, (schema, []))[1].append(batch)
    return [
        (schema, some[0] if len(some) == 1 else pa.Table.from_batches(some).combine_chunks().to_batches()[0])
        for schema, some in parts.values()
    ]


def _take_apart(events: Iterable[Any], rows: int, plan: _Plan, pieces: _Pieces) -> None:
    """Add typed objects to the pieces of their columns.

    Raises:
        ValueError, struct.error: a value does not fit.
    """
    flat = list(chain.from_iterable(map(msgspec.structs.astuple, events)))
    step = len(plan.columns)
    for unit, width, places in plan.blocks:
        numbers: list[Any] = []
        for place in places:
            numbers += flat[place::step]
        packed = struct.Struct(f"{len(numbers)}{width}").pack(*numbers)
        pieces.blocks[unit].append(np.frombuffer(packed, width).reshape(len(places), rows))
    for place, mine in zip(plan.others, pieces.others, strict=True):
        mine.append(_OTHERS[plan.columns[place].unit](flat[place::step]))


def _columns(pieces: _Pieces, plan: _Plan) -> Columns:
    """Make columns of their pieces.

    Raises:
        ValueError: a value is for the slow way.
    """
    columns: Columns = {}
    for block in plan.blocks:
        numbers = np.concatenate(pieces.blocks[block.unit], axis=1)
        present = ~np.isnan(numbers) if block.width == "d" else numbers != _ABSENT[block.width]
        if block.unit == "ms":
            numbers = _nanoseconds(numbers, present)
        written, row_bytes = _buffer(numbers), numbers.nbytes // len(numbers)
        for row, (place, whole) in enumerate(zip(block.places, present.all(axis=1).tolist(), strict=True)):
            column, valid = plan.columns[place], None if whole else _validity(present[row])
            mine = written.slice(row * row_bytes, row_bytes)
            make = _lists_of_one if column.unit == "code" else pa.Array.from_buffers
            columns[column.name] = make(column.kind, numbers.shape[1], [valid, mine])
    for place, some in zip(plan.others, pieces.others, strict=True):
        column = plan.columns[place]
        columns[column.name] = some[0] if len(some) == 1 else pa.concat_arrays(some)
    return columns


def _buffer(numbers: Any) -> pa.Buffer:
    return pa.py_buffer(numbers)  # without a copy


def _validity(valid: NDArray[np.bool_]) -> pa.Buffer:
    return _buffer(np.packbits(valid, bitorder="little"))


def _nanoseconds(millis: NDArray[np.int64], present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return times, those of the events first, in nanoseconds."""
    sent = np.where(present, millis, 0)
    if sent.min() < 0 or sent.max() > MAX_MS or not sent[0].all():
        raise ValueError
    return sent * NS_PER_MS


def _texts(texts: list[str | None]) -> pa.Array:
    return pa.array(texts, pa.string())


def _codes(lists: list[tuple[int, ...] | None]) -> pa.Array:
    return pa.array(lists, _CODES)


def _symbols(unit: str, symbols: list[str]) -> pa.Array:
    """Return a column of symbols, if all are this market's and can be stored."""
    if symbols.count(symbols[0]) == len(symbols):
        return repeat_text(read_symbol(unit, symbols[0]), len(symbols))
    column = pa.array(symbols, pa.string())
    sizes = pc.min_max(pc.binary_length(column))
    options: Any = pc.starts_with(column, OPTION_PREFIX)
    if options.true_count != (len(symbols) if unit == "option" else 0):
        raise ValueError
    if not 0 < sizes["min"].as_py() <= sizes["max"].as_py() <= MAX_SYMBOL_BYTES:
        raise ValueError
    return column


_OTHERS: Final[dict[str, Callable[[Any], Any]]] = {
    "ticker": partial(_symbols, "ticker"),
    "option": partial(_symbols, "option"),
    "text": _texts,
    "codes": _codes,
}


def _lists_of_one(kind: pa.DataType, rows: int, buffers: list[pa.Buffer | None]) -> pa.Array:
    valid, codes = buffers
    values = pa.Array.from_buffers(pa.int16(), rows, [None, codes])
    offsets = _buffer(np.arange(rows + 1, dtype=np.int32))
    return pa.Array.from_buffers(kind, rows, [valid, offsets], children=[values])

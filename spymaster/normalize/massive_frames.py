"""Massive's websocket: frames as they came, JSON arrays of events, to rows of trades and quotes. Pure.

Frames are read many at a time: all that came within a tick. Each is decoded into typed objects and these are turned
into columns together; what any frame of a group does that the types do not foresee, be it a null, sends its group the
slow way, value by value (`massive.columns_of`), which is also what says why a frame cannot be read. Both ways give the
same rows. A frame that cannot be read goes to quarantine whole, and the others are not touched by it.

The vendor's own messages (`status`) and events that are not recorded (aggregates, option quotes) are counted.

Why typed objects: of what was measured they are the fastest way from JSON text to columns (bench/massive_frames);
pyarrow's JSON reader takes twice as long for the decoding alone, and so does searching the bytes with numpy.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import chain, compress
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.normalize.massive import (
    FRAMES,
    MAX_MS,
    NS_PER_MS,
    Channel,
    Columns,
    UnreadableError,
    batch_of,
    columns_of,
    read_symbol,
    repeat_text,
)
from spymaster.normalize.normalized import Normalized, Unreadable
from spymaster.normalize.symbols import SEVERAL

_GROUP_BYTES: Final = 512 * 1024  # read at once: it stays in the cache
_NOT_RECORDED: Final = ("status", "Q", "A", "AM", "LULD", "NOI", "FMV", "LV")  # what else a cluster may send
_MISSING: Final = -(2**63)  # stands for a number that was not sent, so a frame in which it was goes the slow way
_MOST_CODE: Final = 2**15 - 1
_NO_CODES: Final = (0,)  # known by its identity, as an empty list is something else
_MISSING_TEXT: Final = str(_MISSING).encode()
_TYPES: Final[dict[str, tuple[Any, Any]]] = {
    "ticker": (str, msgspec.NODEFAULT),
    "option": (str, msgspec.NODEFAULT),
    "text": (str | None, None),
    "price": (float, float("nan")),
    "codes": (tuple[int, ...], _NO_CODES),
}

Message = tuple[bytes, int | None]


class _NotPlainError(Exception):
    """These frames may be sound, but are not for the fast way."""


class _Kind(msgspec.Struct):
    ev: str


class _Column(NamedTuple):
    """How one field's values become a column."""

    name: str
    unit: str
    kind: pa.DataType
    number: Any  # numpy's type for `kind`


class _Plan(NamedTuple):
    """The columns of a kind of event, and which of them are whole numbers, which are read as one block.

    `scale` makes nanoseconds of milliseconds; a number must lie from `least` to `most`.
    """

    columns: list[_Column]
    whole: list[int]
    scale: NDArray[np.int64]
    least: NDArray[np.int64]
    most: NDArray[np.int64]


def _plan(channel: Channel) -> _Plan:
    columns = [
        _Column(field.column, field.unit, kind, np.dtype(kind.to_pandas_dtype()))
        for field in channel.fields.values()
        for kind in [channel.schema.log.field(field.column).type]
    ]
    whole = [number for number, column in enumerate(columns) if column.unit not in _TYPES]
    limits = [_limits(columns[number]) for number in whole]
    return _Plan(
        columns,
        whole,
        np.array([[NS_PER_MS if columns[number].unit == "ms" else 1] for number in whole]),
        np.array([least for least, _ in limits])[:, None],
        np.array([most for _, most in limits])[:, None],
    )


def _limits(column: _Column) -> tuple[int, int]:
    if column.unit == "ms":
        return int(column.name == "ts_event_ns"), MAX_MS
    most = _MOST_CODE if column.unit == "code" else 2 ** (column.kind.bit_width - 1) - 1
    return -most, most


def _structure(name: str, channel: Channel, *, strict: bool, **options: Any) -> Any:
    """Define a struct with our columns' names, read from the vendor's fields."""
    columns = [
        (field.column, *(_TYPES.get(field.unit, (int, _MISSING)) if strict else (Any, None)))
        for field in channel.fields.values()
    ]
    rename = {field.column: key for key, field in channel.fields.items()}
    return msgspec.defstruct(name, columns, rename=rename, gc=False, kw_only=True, **options)


def _fast_decoder(channels: Mapping[str, Channel]) -> tuple[msgspec.json.Decoder, dict[str, Any]]:
    """Return what decodes a frame at once, and the type of each recorded kind."""
    recorded = {kind: _structure(kind, c, strict=True, tag_field="ev", tag=kind) for kind, c in channels.items()}
    others = [msgspec.defstruct(k, [], tag_field="ev", tag=k, gc=False) for k in _NOT_RECORDED if k not in channels]
    anything: Any = None
    for kind in (*recorded.values(), *others):
        anything = kind if anything is None else anything | kind
    return msgspec.json.Decoder(list[anything]), recorded


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
        decoder, self._types = _FAST[cluster]
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
        for group in _grouped(messages):
            try:
                batches, ignored = self._read_together(group)
            except _NotPlainError:
                self._read_each(group, done)
            else:
                done.batches.extend(batches)
                self.ignored.update(ignored)
            self._byte += sum(len(frame) for frame, _ in group)
        return done

    def finish(self) -> None:
        """Do nothing: a frame is whole or was not sent."""

    def _read_together(self, messages: Sequence[Message]) -> tuple[list[Any], Counter[str]]:
        """Read frames at once.

        Raises:
            _NotPlainError: not all are plain.
        """
        events: list[Any] = []
        counts = []
        try:
            for frame, _ in messages:
                # Of what the decoder skips it does not look at the characters.
                if not frame.isascii() or _MISSING_TEXT in frame:
                    raise _NotPlainError
                some = self._decode(frame)
                events += some
                counts.append(len(some))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _NotPlainError from error
        live = messages[0][1] is not None
        received = np.repeat(np.array([time for _, time in messages], np.int64), counts) if live else None
        batches, recorded = [], 0
        types = list(map(type, events))
        for kind, channel in self._channels.items():
            rows = types.count(self._types[kind])
            if rows:
                where = [found is self._types[kind] for found in types] if rows < len(events) else None
                mine = events if where is None else list(compress(events, where))
                columns = _columns(mine, self._plans[kind])
                times = None if received is None else pa.array(received if where is None else received[np.array(where)])
                batches.append((channel.schema, batch_of(channel.schema, columns, self.source, times)))
                recorded += rows
        if recorded == len(events):
            return batches, Counter()
        return batches, Counter(kind.__name__ for kind in types if kind.__name__ not in self._channels)

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
            done.batches.append((self._channels[kind].schema, self._joined(kind, some)))

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

    def _joined(self, kind: str, parts: list[tuple[Columns, int | None]]) -> pa.RecordBatch:
        columns = {name: pa.concat_arrays([part[name] for part, _ in parts]) for name in parts[0][0]}
        received = None
        if parts[0][1] is not None:
            rows = [len(part["ts_event_ns"]) for part, _ in parts]
            received = pa.array(np.repeat(np.array([time for _, time in parts], np.int64), rows))
        return batch_of(self._channels[kind].schema, columns, self.source, received)


def _grouped(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    begin = size = 0
    for number, (frame, _) in enumerate(messages):
        if number > begin and size + len(frame) > _GROUP_BYTES:
            yield messages[begin:number]
            begin, size = number, 0
        size += len(frame)
    if begin < len(messages):
        yield messages[begin:]


def _columns(events: list[Any], plan: _Plan) -> Columns:
    """Turn typed objects into columns.

    Raises:
        _NotPlainError: one of their values is for the slow way.
    """
    values = list(zip(*map(msgspec.structs.astuple, events), strict=True))
    try:
        columns = _whole_columns([values[number] for number in plan.whole], plan)
        for column, mine in zip(plan.columns, values, strict=True):
            if column.unit in _TYPES:
                columns[column.name] = _other_column(mine, column)
    except (ValueError, OverflowError) as error:
        raise _NotPlainError from error
    return columns


def _whole_columns(values: list[tuple[int, ...]], plan: _Plan) -> Columns:
    """Turn whole numbers, a tuple for each column, into columns as one block."""
    shape = len(values), len(values[0])
    numbers = np.fromiter(chain.from_iterable(values), np.int64, shape[0] * shape[1]).reshape(shape)
    absent = numbers == _MISSING
    some_absent = absent.any(axis=1)
    if some_absent.any():
        numbers = np.where(absent, 1, numbers)
    if (numbers.min(axis=1, keepdims=True) < plan.least).any() or (
        numbers.max(axis=1, keepdims=True) > plan.most
    ).any():
        raise ValueError
    numbers *= plan.scale
    columns = {}
    for number, place in enumerate(plan.whole):
        column = plan.columns[place]
        if some_absent[number] and column.name == "ts_event_ns":
            raise ValueError
        mask = absent[number] if some_absent[number] else None
        if column.unit == "code":
            columns[column.name] = _lists_of_one(numbers[number], mask)
        elif mask is not None:
            columns[column.name] = pa.array(numbers[number].astype(column.number), mask=mask)
        else:
            narrow: Any = numbers[number].astype(column.number)
            columns[column.name] = pa.Array.from_buffers(column.kind, shape[1], [None, pa.py_buffer(narrow)])
    return columns


def _lists_of_one(codes: NDArray[np.int64], absent: NDArray[np.bool_] | None) -> pa.Array:
    return _list_array(np.arange(len(codes) + 1, dtype=np.int32), codes, absent)


def _other_column(values: tuple[Any, ...], column: _Column) -> pa.Array:
    if column.unit == "price":
        prices = np.fromiter(values, np.float64, len(values))
        absent = np.isnan(prices)
        return pa.array(prices, mask=absent) if absent.any() else pa.array(prices)
    if column.unit == "codes":
        return _lists(values)
    if column.unit == "text":
        return pa.array(values, column.kind)
    return _symbols(values, column.unit)


def _symbols(values: tuple[str, ...], unit: str) -> pa.Array:
    """Return a column of symbols, each distinct one checked once."""
    distinct = list(dict.fromkeys(values))
    for symbol in distinct:
        read_symbol(unit, symbol)
    return repeat_text(distinct[0], len(values)) if len(distinct) == 1 else pa.array(values, pa.string())


def _lists(values: tuple[Any, ...]) -> pa.Array:
    """Turn tuples of codes into a column of lists."""
    absent = [codes is _NO_CODES for codes in values]
    some_absent = any(absent)
    if some_absent:
        values = tuple(() if codes is _NO_CODES else codes for codes in values)
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    codes = np.fromiter(chain.from_iterable(values), np.int64, offsets[-1])
    if len(codes) and (codes.min() < -_MOST_CODE or codes.max() > _MOST_CODE):
        raise ValueError
    return _list_array(offsets, codes, np.array(absent) if some_absent else None)


def _list_array(offsets: Any, codes: NDArray[np.int64], absent: Any) -> pa.Array:
    lists: Any = pa.ListArray  # whose stub knows no list without a type of its own
    nulls = None if absent is None else pa.array(absent)
    made: pa.Array = lists.from_arrays(pa.array(offsets), pa.array(codes.astype(np.int16)), mask=nulls)
    return made

"""Massive's websocket: frames as they came, JSON arrays of events, to rows of trades and quotes. Pure.

Frames are read many at a time: all that came within a tick. Plain ones are scanned at once into columns
(`frame_scanner`). Each of the others goes the slow way, value by value (`values.columns_of`), which is also what says
why a frame cannot be read. Both ways give the same rows, and the rows keep the order of their frames. A frame that
cannot be read goes to quarantine whole, and the others are not touched by it.

The vendor's own messages (`status`) and events that are not recorded (aggregates) are counted.

Why a scanner of our own: the decoding alone into typed objects (msgspec), the fastest of the libraries', takes three
quarters of its time, and from objects to columns it is more than twice as far again (bench/massive_frames). It is
compiled by numba, which needs no compiler on the machine; where numba has no package, on Macs with Intel processors,
all frames go the slow way.
"""

import importlib.util
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.events.encoding import MassiveFrames
from spymaster.normalize.massive.fields import FRAMES, VERSION, Channel
from spymaster.normalize.massive.values import Part, UnreadableError, asked_for, batch_of, columns_of, odd_rows
from spymaster.normalize.normalizer import Message, Normalized, Rows, Unreadable, grouped

if TYPE_CHECKING:
    from spymaster.normalize.massive.frame_columns import PlainFrames

GROUP_BYTES: Final = 1024 * 1024  # become one batch of each kind


class _Kind(msgspec.Struct):
    ev: str


def _structure(name: str, channel: Channel) -> Any:
    """Define a struct with our columns' names and any values, read from the vendor's fields."""
    columns = [(field.column, Any, None) for field in channel.fields.values()]
    rename = {field.column: key for key, field in channel.fields.items()}
    return msgspec.defstruct(name, columns, rename=rename, gc=False, kw_only=True)


_decode_raw: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_kind: Final = msgspec.json.Decoder(_Kind).decode
_DECODERS: Final = {
    cluster: {
        kind: msgspec.json.Decoder(_structure(kind, channel), float_hook=Decimal).decode
        for kind, channel in channels.items()
    }
    for cluster, channels in FRAMES.items()
}


class FrameNormalizer:
    """Turns the frames of one connection into rows.

    What it counts as ignored are events that are not recorded. Every event names its instrument.
    """

    version: int = VERSION

    def __init__(self, encoding: MassiveFrames, *, origin: str, simulated: bool = False) -> None:
        """Begin a connection."""
        self._channels, self._decoders = FRAMES[encoding.cluster], _DECODERS[encoding.cluster]
        self._plain = _plain_frames(self._channels)
        self.source = "sim" if simulated else f"massive.{encoding.cluster}"
        self.streams = {channel.schema.name: encoding.symbol for channel in self._channels.values()}
        self._asked = asked_for(encoding.symbol)
        self.ignored: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.unmapped = 0
        self._byte = 0

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        """Turn frames into rows.

        Args:
            messages: frames in order, each with our time of receipt; None where they were not received live.
        """
        done = Normalized([], [])
        for group in grouped(messages, GROUP_BYTES):
            done.batches.extend(self._read(group, done.unreadable))
        return done

    def finish(self) -> None:
        """Do nothing: a frame is whole or was not sent."""

    def _read(self, messages: Sequence[Message], unreadable: list[Unreadable]) -> list[Rows]:
        parts: defaultdict[str, list[Part]] = defaultdict(list)
        odd: Sequence[int] = range(len(messages))
        if self._plain is not None:
            plain, odd = self._plain.read([frame for frame, _ in messages])
            for kind, part in plain.items():
                parts[kind].append(part)
        byte = self._byte + np.cumsum([0, *(len(frame) for frame, _ in messages)])
        for number in odd:
            frame = messages[number][0]
            try:
                some = self._read_odd(frame, number)
            except UnreadableError as error:
                unreadable.append(Unreadable(frame, str(error), int(byte[number])))
            else:
                for kind, part in some.items():
                    parts[kind].append(part)
        self._byte = int(byte[-1])
        live = messages[0][1] is not None
        received = np.array([time for _, time in messages], np.int64) if live else None
        return [
            (channel.schema, self._batch(channel, parts[kind], received))
            for kind, channel in self._channels.items()
            if kind in parts
        ]

    def _read_odd(self, frame: bytes, number: int) -> dict[str, Part]:
        """Read a frame value by value.

        Raises:
            UnreadableError: it cannot become rows; it is for quarantine.
        """
        events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        others: Counter[str] = Counter()
        try:
            frame.decode()
            for raw in _decode_raw(frame):
                kind = _decode_kind(raw).ev
                if kind in self._decoders:
                    event = self._decoders[kind](raw)
                    fields = self._channels[kind].fields
                    events[kind].append({key: getattr(event, field.column) for key, field in fields.items()})
                else:
                    others[kind] += 1
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
            raise UnreadableError(f"it is no array of events: {error}") from error
        parts = {
            kind: Part(columns_of(mine, self._channels[kind]), np.full(len(mine), number))
            for kind, mine in events.items()
        }
        self.ignored.update(others)
        return parts

    def _batch(self, channel: Channel, parts: list[Part], received: NDArray[np.int64] | None) -> pa.RecordBatch:
        """Join parts in the order of their frames.

        Args:
            channel: what the events are.
            parts: at least one.
            received: when each frame was.
        """
        frames, columns = parts[0].frames, parts[0].columns
        if len(parts) > 1:
            frames = np.concatenate([part.frames for part in parts])
            columns = {name: pa.concat_arrays([part.columns[name] for part in parts]) for name in columns}
        times = None if received is None else pa.array(received[frames])
        batch = batch_of(channel.schema, columns, self.source, times, self._asked)
        self.odd.update(odd_rows(channel.schema, batch))
        if len(parts) == 1:
            return batch
        order: Any = pa.array(np.argsort(frames, kind="stable"))
        return batch.take(order)


def _plain_frames(channels: Mapping[str, Channel]) -> "PlainFrames | None":
    if importlib.util.find_spec("numba") is None:
        return None
    # Loading numba takes most of a second, and the first time on a machine the compiling some more: here, not later.
    from spymaster.normalize.massive.frame_columns import PlainFrames  # noqa: PLC0415

    return PlainFrames(channels)

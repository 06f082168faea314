"""The rows of `system.snaps`: what each snap of the engines had seen, which is a fact of the live run.

A snap is one row for each capture of a stream that moved since the snap before, or one without any where none did.
Given these positions, what a snap puts out is a function of the rows alone.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import pyarrow as pa

from spymaster import events
from spymaster.events import Stream

START: Final = "start"  # a sequence of snaps begins: its judge has seen nothing yet
WARM: Final = "warm"  # worked when its time was over, by a judge that began late; not published
SNAP: Final = "snap"  # published
STOP: Final = "stop"  # the judge ended here, and Gold's part was cut
_NO_POSITION: Final = (None, None, None, None, None)


class Position(NamedTuple):
    """How far a capture of a stream had left; see `SYSTEM_SNAPS`."""

    stream: Stream
    capture_id: int
    last_seq: int
    newest_ns: int | None


class Marked(NamedTuple):
    """What a snap had seen since the one before, as it is recorded."""

    mark: str
    snap_ns: int
    positions: Sequence[Position]


def snap_rows(profile: str, snaps: Sequence[Marked], now_ns: int) -> pa.RecordBatch:
    """Return the rows of snaps, before they are numbered.

    Args:
        profile: by whose numbers they were judged.
        snaps: in order.
        now_ns: our clock.
    """
    rows = [(one.snap_ns, one.mark, *of) for one in snaps for of in _of(one)]
    stamps, marks, *columns = zip(*rows, strict=True)
    names = ("of_schema", "of_symbol", "of_capture_id", "last_seq", "newest_ns")
    of = dict(zip(names, columns, strict=True))
    return _rows(profile, {"snap_ns": stamps, "mark": marks, **of}, now_ns)


def start_row(profile: str, begin_ns: int, begun: str, now_ns: int) -> pa.RecordBatch:
    """Return the row that begins a session's snaps, before it is numbered.

    Args:
        profile: by whose numbers they will be judged.
        begin_ns: the session's begin.
        begun: what the judge is begun with, as JSON.
        now_ns: our clock.
    """
    return _rows(profile, {"snap_ns": [begin_ns], "mark": [START], "begun": [begun]}, now_ns)


def _of(snap: Marked) -> list[tuple[object, ...]]:
    if not snap.positions:
        return [_NO_POSITION]
    return [(*own.stream, own.capture_id, own.last_seq, own.newest_ns) for own in snap.positions]


def _rows(profile: str, columns: Mapping[str, Sequence[object]], now_ns: int) -> pa.RecordBatch:
    schema, count, own = events.SYSTEM_SNAPS.delivered, len(columns["snap_ns"]), events.SYSTEM_SYMBOL
    now, text = [now_ns] * count, [own] * count
    plain = {"ts_event_ns": columns["snap_ns"], "ts_recv_ns": now, "ts_local_ns": now, "source": text, "symbol": text}
    every = {**plain, "profile": [profile] * count, **columns}
    none = [None] * count
    arrays = [pa.array(every.get(column.name, none), column.type) for column in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

"""What every normalizer gives. Pure."""

from typing import NamedTuple

import pyarrow as pa

from spymaster.events import EventSchema

Rows = tuple[EventSchema, pa.RecordBatch]


class Unreadable(NamedTuple):
    """A message that cannot become rows, whole. `byte` is where it begins in the delivery, its header included."""

    data: bytes
    reason: str
    byte: int


class Normalized(NamedTuple):
    """What some messages became: rows in order of arrival within each schema, and what could not become rows."""

    batches: list[Rows]
    unreadable: list[Unreadable]

"""The rows of `system.zones`: hot zones that the user sets and removes."""

from typing import Final

import pyarrow as pa

from spymaster import events
from spymaster.events import Stream

ZONES: Final = Stream(events.SYSTEM_ZONES.name, events.SYSTEM_SYMBOL)
SET: Final = "set"
REMOVED: Final = "removed"


def zone_row(underlying: str, zone: str, price: float | None, ts_event_ns: int, now_ns: int) -> pa.RecordBatch:
    """Return the row of one change, before it is numbered.

    Args:
        underlying: whose prices it is among.
        zone: its name.
        price: of the level; None removes it.
        ts_event_ns: of the newest snap, so that it counts in the next.
        now_ns: our clock.
    """
    own, event = events.SYSTEM_SYMBOL, SET if price is not None else REMOVED
    values = [ts_event_ns, now_ns, now_ns, own, own, underlying, zone, event, price]
    schema = events.SYSTEM_ZONES.delivered
    columns = [pa.array([value], column.type) for value, column in zip(values, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)

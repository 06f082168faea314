"""The rows of `system.alerts`: what the watch told people, one for each transition."""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import pyarrow as pa

from spymaster import events
from spymaster.events import Stream

ALERTS: Final = Stream(events.SYSTEM_ALERTS.name, events.SYSTEM_SYMBOL)
RAISED: Final = "raised"
CLEARED: Final = "cleared"
TOLD: Final = ""  # of what is never cleared, as a signal or a roll


class Alert(NamedTuple):
    """One transition.

    Attributes:
        kind: what it is about.
        state: RAISED, CLEARED or TOLD.
        subject: the level, stream, gap or problem.
        ts_event_ns: of a signal the snap's time, else our clock's.
        text: one line in plain words.
        level_price: of a level.
        signal: of a level.
        value: its figure.
    """

    kind: str
    state: str
    subject: str
    ts_event_ns: int
    text: str
    level_price: float | None = None
    signal: str | None = None
    value: float | None = None

    @property
    def alert_id(self) -> int:
        """63 bits of a hash over what and when: the same transition told twice is one alert."""
        told = "|".join((self.kind, self.state, self.subject, str(self.ts_event_ns)))
        return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big") >> 1


def alert_rows(alerts: Sequence[Alert], now_ns: int) -> pa.RecordBatch:
    """Return one row for each alert, before they are numbered."""
    schema, own = events.SYSTEM_ALERTS.delivered, events.SYSTEM_SYMBOL
    alike = {"ts_recv_ns": now_ns, "ts_local_ns": now_ns, "source": own, "symbol": own}
    rows = [{**alike, **alert._asdict(), "alert_id": alert.alert_id} for alert in alerts]
    columns = [pa.array([row[column.name] for row in rows], column.type) for column in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)

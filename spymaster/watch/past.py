"""What earlier runs recorded that the desk still shows: gaps, alerts, the exchange's words, and whether any row."""

from pathlib import Path
from typing import Any, Final, NamedTuple

from spymaster.clock import NS_PER_DAY
from spymaster.engines.whole import HALTING, RESUMING
from spymaster.events import MARKET_SCHEMAS, EventSchema
from spymaster.events.alerts import Alert
from spymaster.query.lake import Lake
from spymaster.watch.condition import Status
from spymaster.watch.documents import AlertDocument, GapDocument

KEPT_NS: Final = NS_PER_DAY  # how far back gaps and alerts go
MOST_GAPS: Final = 1_000  # of that day; the newest
MOST_ALERTS: Final = 200
OPEN: Final = "open"  # until something heals it


class Past(NamedTuple):
    """What was found.

    Attributes:
        recorded: the lake has a row of a market.
        gaps: of the newest day, oldest first, each with when it became known.
        alerts: of the newest day, oldest first.
        statuses: by contract the exchange's newest word.
    """

    recorded: bool
    gaps: list[tuple[GapDocument, int]]
    alerts: list[AlertDocument]
    statuses: dict[str, Status]


def gap_document(row: dict[str, Any]) -> GapDocument:
    """Return a row of `system.gaps` as the desk shows it."""
    return {
        "gap_id": str(row["gap_id"]),
        "stream": f"{row['of_schema']}/{row['of_symbol']}",
        "cause": row["cause"],
        "start_ns": row["start_ns"],
        "end_ns": row["end_ns"],
        "rows": row["rows"],
        "detail": row["detail"],
        "state": OPEN,
    }


def alert_document(alert: Alert, alert_id: int, at_ns: int) -> AlertDocument:
    """Return an alert as the desk shows it."""
    return {
        "alert_id": str(alert_id),
        "ts_event_ns": alert.ts_event_ns,
        "at_ns": at_ns,
        "kind": alert.kind,
        "state": alert.state,
        "subject": alert.subject,
        "text": alert.text,
        "level_price": alert.level_price,
        "signal": alert.signal,
        "value": alert.value,
    }


def read_past(data_root: Path, wal_root: Path, root: str | None, now_ns: int) -> Past:
    """Read it. For a thread: it takes some tenths of a second.

    Args:
        data_root: the lake.
        wal_root: its log.
        root: of the judged book; None where nothing is judged.
        now_ns: our clock.

    Raises:
        SpymasterError, OSError, duckdb.Error: log or lake cannot be read.
    """
    since = f"ts_recv_ns >= {now_ns - KEPT_NS}"
    with Lake(data_root, wal_root) as lake:
        gaps = _newest(lake, "system_gaps", since, MOST_GAPS)
        alerts = _newest(lake, "system_alerts", since, MOST_ALERTS)
        statuses = {} if root is None else _statuses(lake, root, since)
        recorded = any(_has_rows(lake, schema) for schema in MARKET_SCHEMAS)
    return Past(
        recorded,
        [(gap_document(row), row["ts_event_ns"]) for row in gaps],
        [
            alert_document(Alert(*(row[name] for name in Alert._fields)), row["alert_id"], row["ts_recv_ns"])
            for row in alerts
        ],
        statuses,
    )


def _statuses(lake: Lake, root: str, since: str) -> dict[str, Status]:
    words = ", ".join(f"'{word}'" for word in sorted({*HALTING, RESUMING}))
    of_root = f"symbol = '{root}' and strike is null and action in ({words}) and {since}"
    columns = "contract, arg_max(action, ts_event_ns) word, max(ts_event_ns) since_ns"
    query = f"select {columns} from reference_status where {of_root} group by contract"  # noqa: S608  # words of ours
    return {row["contract"]: Status(row["word"], row["since_ns"]) for row in _rows(lake, query)}


def _newest(lake: Lake, table: str, since: str, most: int) -> list[dict[str, Any]]:
    order = "order by ts_recv_ns desc, capture_seq desc"
    return _rows(lake, f"from {table} where {since} {order} limit {most}")[::-1]


def _has_rows(lake: Lake, schema: EventSchema) -> bool:
    return bool(_rows(lake, f"select 1 from bronze_{schema.name.replace('.', '_')} limit 1"))  # noqa: S608  # our names


def _rows(lake: Lake, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.sql(query).to_arrow_table().to_pylist()
    return rows

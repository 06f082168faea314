"""How much lies where: bytes and rows per tier, which rows are at risk, and whether the log grows beyond its measure.

A running daemon is asked; what it does not answer is read from the files, without a lock.
"""

from pathlib import Path
from typing import Final, TypedDict, cast

from spymaster import control, durable
from spymaster.control import DaemonStatus
from spymaster.errors import ControlError, LayoutError
from spymaster.lake import catalog, lake_id, layout
from spymaster.lake.layout import MAX_FOREIGN
from spymaster.lake.parquet import is_foreign
from spymaster.wal import folder
from spymaster.wal.folder import LOG_ALARM_BYTES, QUARANTINE
from spymaster.wal.segment import scan

MAX_SHOWN: Final = 5  # names in one line
PROMISE: Final = (
    ("a killed process", "loses nothing that was appended"),
    ("a power cut", "loses only rows not yet acknowledged"),
    ("damage by the medium", "is detected, delimited and reported"),
)


class Tier(TypedDict):
    """One tier: its bytes on disk, its files and its rows."""

    bytes: int
    files: int
    rows: int


class Files(TypedDict):
    """A tier whose rows are not counted: each file's footer would have to be read."""

    bytes: int
    files: int


class AtRisk(TypedDict):
    """Rows that wait: as the daemon counts them, else at most these, as the log's files say."""

    appended_not_durable: int
    durable_not_in_bronze: int


class Status(TypedDict):
    """What `spymaster status --json` prints. `daemon` is null if none answered, `holder` the log's writer's pid."""

    daemon: DaemonStatus | None
    holder: str | None
    at_risk: AtRisk
    wal: Tier
    bronze: dict[str, Tier]
    bronze_total: Tier
    silver: Files
    quarantine: dict[str, int]
    alarms: list[str]
    promise: dict[str, str]


class SegmentRow(TypedDict):
    """One segment of the log, as `spymaster wal ls` shows it."""

    file: str
    stream: str | None
    state: str
    rows: int
    durable_rows: int
    bytes: int
    problem: str | None


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # it went in this moment


def segments(wal_root: Path) -> list[SegmentRow]:
    """Return every segment of the log, by name. Reads and verifies them; takes no lock.

    A segment that has two names, as between the link and the unlink that rename it, is one.
    """
    rows: list[SegmentRow] = []
    seen: set[str] = set()
    for path, name in sorted(folder.segments(wal_root), reverse=True) if wal_root.is_dir() else []:
        try:
            raw = durable.read(path)
        except FileNotFoundError:
            continue  # retired by the daemon since the listing
        found = scan(raw)
        if found.header is not None:
            if found.header.segment in seen:
                continue
            seen.add(found.header.segment)
        rows.append(
            {
                "file": path.name,
                "stream": str(found.header.stream) if found.header else None,
                "state": name.state,
                "rows": found.rows,
                "durable_rows": found.rows if name.sealed else found.durable_row,
                "bytes": len(raw),
                "problem": found.problem,
            }
        )
    return rows[::-1]


def status(wal_root: Path, data_root: Path) -> Status:
    """Return bytes and rows per tier, and the running daemon's gauges. Reads only."""
    alarms = []
    daemon = None
    holder = durable.lock_holder(wal_root)
    try:
        daemon = cast(DaemonStatus | None, control.ask(wal_root, "status"))
    except ControlError as error:
        alarms.append(str(error) if holder is None else f"process {holder} holds the log: {error}")
    log = segments(wal_root)
    wal = Tier(bytes=sum(row["bytes"] for row in log), files=len(log), rows=sum(row["rows"] for row in log))
    durable_rows = sum(row["durable_rows"] for row in log)
    at_risk = AtRisk(appended_not_durable=wal["rows"] - durable_rows, durable_not_in_bronze=durable_rows)
    if daemon is not None:
        at_risk = AtRisk(
            appended_not_durable=daemon["appended_not_durable"], durable_not_in_bronze=daemon["durable_not_in_bronze"]
        )
    bronze: dict[str, Tier] = {}
    try:
        indexed = catalog.read_files(data_root)
    except LayoutError as error:
        indexed = {}
        alarms.append(str(error))
    for file in indexed.values():
        tier = bronze.setdefault(file.schema, Tier(bytes=0, files=0, rows=0))
        tier["bytes"] += file.size_bytes
        tier["files"] += 1
        tier["rows"] += file.rows
    found = layout.find_parts(data_root)
    total = Tier(
        bytes=sum(_bytes(layout.path(data_root, found.tier_of(key), key)) for key in found.parts),
        files=len(found.parts),
        rows=sum(tier["rows"] for tier in bronze.values()),
    )
    if wal["bytes"] > LOG_ALARM_BYTES:
        alarms.append(
            f"the log holds {wal['bytes'] / 1e9:.1f} GB, over 1 GB: Bronze is not keeping up or its disk refuses. "
            f"Next: if no daemon runs, spymaster recover; else check the disk of {data_root}"
        )
    try:
        lake_id.require_own_log(wal_root, data_root)
        layout.require_own_layout(data_root, found)
    except LayoutError as error:
        alarms.append(str(error))
    # A writer records a part a moment after it publishes it.
    unindexed = [] if holder is not None else [key for key in found.parts if key not in indexed]
    foreign = [key for key in unindexed[:MAX_FOREIGN] if is_foreign(layout.locate(data_root, key))]
    if len(unindexed) > len(foreign) or (holder is None and indexed.keys() - found.parts.keys()):
        alarms.append(
            f"the catalog knows {len(indexed)} of {len(found.parts) - len(foreign)} Bronze parts. "
            f"Next: if no daemon runs, spymaster catalog rebuild"
        )
    named = [*found.foreign, *(f"{found.tier_of(key)}/{key}" for key in foreign)]
    if named:
        alarms.append(_strangers(data_root, named, found.foreign_count + len(foreign)))
    return {
        "daemon": daemon,
        "holder": holder,
        "at_risk": at_risk,
        "wal": wal,
        "bronze": dict(sorted(bronze.items())),
        "bronze_total": total,
        "silver": _silver(data_root),
        "quarantine": {
            "wal": durable.bytes_below(wal_root / QUARANTINE),
            "feeds": durable.bytes_below(layout.quarantine(data_root)),
        },
        "alarms": alarms,
        "promise": dict(PROMISE),
    }


def _strangers(data_root: Path, named: list[str], count: int) -> str:
    more = f" and {count - MAX_SHOWN} more" if count > MAX_SHOWN else ""
    return (
        f"{data_root} has {count} Parquet files that are not ours, which are passed over: "
        f"{', '.join(named[:MAX_SHOWN])}{more}. Next: move them out of the lake"
    )


def _silver(data_root: Path) -> Files:
    files = [key for key, own in layout.silver_files(data_root).items() if own is not None]
    sizes = [_bytes(layout.path(data_root, layout.Tier.SILVER, key)) for key in files]
    return Files(bytes=sum(sizes), files=len(sizes))

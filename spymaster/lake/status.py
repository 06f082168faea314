"""How much lies where: bytes and rows per tier, which rows are at risk, and whether the log grows beyond its measure.

A running daemon is asked; what it does not answer is read from the files, without a lock.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypedDict, cast

from spymaster import clock, control, durable, paths
from spymaster.errors import ControlError, LayoutError
from spymaster.lake import archive, catalog, silver
from spymaster.lake.recorder import Lane, Recorder
from spymaster.lake.space import LOG_ALARM_BYTES
from spymaster.wal.recovery import QUARANTINE
from spymaster.wal.segment import scan

SHOWN_PROBLEMS: Final = 20  # the newest; the run's summary has all

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


class StreamGauges(TypedDict):
    """Rows of one stream in this run, by what they have passed and what they wait for."""

    appended: int
    acknowledged: int
    in_bronze: int
    appended_not_durable: int
    durable_not_in_bronze: int


class SyncTimes(TypedDict):
    """What syncs took that made rows durable: of the newest `count`."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Backlog(TypedDict):
    """Sealed segments that are not in Bronze."""

    segments: int
    bytes: int
    oldest_s: float | None


class Disk(TypedDict):
    """The room of log and Bronze at the last look. `level`: ok, warn, bronze_stopped or ingest_stopped."""

    level: str
    log_free_bytes: int
    bronze_free_bytes: int
    text: str


class Gauges(TypedDict):
    """What a recorder knows of the rows on their way, without reading a file."""

    streams: dict[str, StreamGauges]
    appended_not_durable: int
    durable_not_in_bronze: int
    oldest_not_durable_s: float | None
    sync: SyncTimes
    backlog: Backlog
    disk: Disk
    flush_s: float
    readers: int
    dropped_rows: int
    problems: list[str]


class DaemonStatus(Gauges):
    """What a running daemon answers."""

    pid: int
    version: str
    state: str
    uptime_s: float


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


def gauges(recorder: Recorder) -> Gauges:
    """Return the gauges of a running recorder. For its event loop: it waits for no disk."""
    now_s = clock.monotonic_s()
    streams = {str(stream): _stream_gauges(lane) for stream, lane in sorted(recorder.lanes.items())}
    appends = [at_s for lane in recorder.lanes.values() if (at_s := lane.log.oldest_append_s) is not None]
    return {
        "streams": streams,
        "appended_not_durable": sum(stream["appended_not_durable"] for stream in streams.values()),
        "durable_not_in_bronze": sum(stream["durable_not_in_bronze"] for stream in streams.values()),
        "oldest_not_durable_s": _age_s(appends, now_s),
        "sync": _sync_times(recorder.sync_seconds),
        "backlog": {
            "segments": len(recorder.backlog),
            "bytes": sum(_bytes(segment) for segment in recorder.backlog),
            "oldest_s": _age_s(list(recorder.backlog.values()), now_s),
        },
        "disk": {
            "level": recorder.space.level.name.lower(),
            "log_free_bytes": recorder.space.log_free_bytes,
            "bronze_free_bytes": recorder.space.bronze_free_bytes,
            "text": recorder.space.text,
        },
        "flush_s": round(recorder.flush_seconds, 3),
        "readers": recorder.bus.readers,
        "dropped_rows": recorder.bus.dropped_rows,
        "problems": recorder.problems[-SHOWN_PROBLEMS:],
    }


def _stream_gauges(lane: Lane) -> StreamGauges:
    acknowledged = lane.log.acknowledged_rows  # first: the sync thread moves it, up to what is appended
    appended = lane.log.appended_rows
    return {
        "appended": appended,
        "acknowledged": acknowledged,
        "in_bronze": lane.flushed_rows,
        "appended_not_durable": appended - acknowledged,
        "durable_not_in_bronze": acknowledged - lane.flushed_rows,
    }


def _age_s(since_s: Sequence[float], now_s: float) -> float | None:
    return round(max(now_s - min(since_s), 0.0), 3) if since_s else None


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # it went in this moment


def _sync_times(seconds: Sequence[float]) -> SyncTimes:
    """Return nearest-rank percentiles: each is a sync that was measured."""
    ordered = [round(s * 1000, 3) for s in sorted(seconds)]
    if not ordered:
        return {"count": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
    p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.50, 0.99))
    return {"count": len(ordered), "p50_ms": p50, "p99_ms": p99, "max_ms": ordered[-1]}


def segments(wal_root: Path) -> list[SegmentRow]:
    """Return every segment of the log, by name. Reads and verifies them; takes no lock.

    A segment that has two names, as between the link and the unlink that rename it, is one.
    """
    rows: list[SegmentRow] = []
    seen: set[str] = set()
    for path in sorted(wal_root.iterdir(), reverse=True) if wal_root.is_dir() else []:
        name = paths.parse_segment_name(path.name)
        if name is None:
            continue
        try:
            raw = durable.read(path)
        except FileNotFoundError:
            continue  # retired by the daemon since the listing
        found = scan(raw)
        if found.header is not None:
            if found.header.segment in seen:
                continue
            seen.add(found.header.segment)
        state = "poisoned" if name.poisoned else "sealed" if name.sealed else "ahead" if name.ahead else "active"
        rows.append(
            {
                "file": path.name,
                "stream": str(found.header.stream) if found.header else None,
                "state": state,
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
    parts = archive.find_parts(data_root).values()
    total = Tier(
        bytes=sum(path.stat().st_size for path in parts),
        files=len(parts),
        rows=sum(tier["rows"] for tier in bronze.values()),
    )
    if wal["bytes"] > LOG_ALARM_BYTES:
        alarms.append(
            f"the log holds {wal['bytes'] / 1e9:.1f} GB, over 1 GB: Bronze is not keeping up or its disk refuses. "
            f"Next: if no daemon runs, spymaster recover; else check the disk of {data_root}"
        )
    if holder is None and len(indexed) != len(parts):  # a writer records a part a moment after it publishes it
        alarms.append(
            f"the catalog knows {len(indexed)} of {len(parts)} Bronze parts. "
            f"Next: if no daemon runs, spymaster catalog rebuild"
        )
    return {
        "daemon": daemon,
        "holder": holder,
        "at_risk": at_risk,
        "wal": wal,
        "bronze": dict(sorted(bronze.items())),
        "bronze_total": total,
        "silver": _silver(data_root),
        "quarantine": {"wal": _size(wal_root / QUARANTINE), "feeds": _size(data_root / "quarantine")},
        "alarms": alarms,
        "promise": dict(PROMISE),
    }


def _silver(data_root: Path) -> Files:
    sizes = [_bytes(path) for path in (data_root / "silver").rglob(silver.FILE_NAME)]
    return Files(bytes=sum(sizes), files=len(sizes))


def _size(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

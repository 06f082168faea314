"""How much lies where: bytes and rows per tier, and whether the log grows beyond what a healthy flush leaves."""

from pathlib import Path
from typing import Final, TypedDict

from spymaster import durable, paths
from spymaster.errors import LayoutError
from spymaster.lake import catalog
from spymaster.wal.recovery import QUARANTINE
from spymaster.wal.segment import scan

WAL_ALARM_BYTES: Final = 1_000_000_000

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


class Status(TypedDict):
    """What `spymaster status --json` prints."""

    wal: Tier
    bronze: dict[str, Tier]
    bronze_total: Tier
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
    """Return bytes and rows per tier. Reads only."""
    log = segments(wal_root)
    wal = Tier(bytes=sum(row["bytes"] for row in log), files=len(log), rows=sum(row["rows"] for row in log))
    bronze: dict[str, Tier] = {}
    alarms = []
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
    parts = [path for path in (data_root / "bronze").rglob("part-*.parquet") if not path.name.startswith(".")]
    total = Tier(
        bytes=sum(path.stat().st_size for path in parts),
        files=len(parts),
        rows=sum(tier["rows"] for tier in bronze.values()),
    )
    if wal["bytes"] > WAL_ALARM_BYTES:
        alarms.append(
            f"the log holds {wal['bytes'] / 1e9:.1f} GB, over 1 GB: Bronze is not keeping up or its disk refuses. "
            f"Next: if no daemon runs, spymaster recover; else check the disk of {data_root}"
        )
    if len(indexed) != len(parts):
        alarms.append(
            f"the catalog knows {len(indexed)} of {len(parts)} Bronze parts. "
            f"Next: if no daemon runs, spymaster catalog rebuild"
        )
    return {
        "wal": wal,
        "bronze": dict(sorted(bronze.items())),
        "bronze_total": total,
        "quarantine": {"wal": _size(wal_root / QUARANTINE), "feeds": _size(data_root / "quarantine")},
        "alarms": alarms,
        "promise": dict(PROMISE),
    }


def _size(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

"""How much lies where: bytes and rows per tier, which rows are at risk, and whether the log grows beyond its measure.

A running daemon is asked; what it does not answer is read from the log's files and the catalog, without a lock. Bronze
is not listed, so that the answer takes no longer over a large lake than over a small one: that the catalog knows every
part is seen to at each start, and proven by `verify`.
"""

from pathlib import Path
from typing import Final, TypedDict, cast

from spymaster import clock, control, durable
from spymaster.control import DaemonStatus
from spymaster.errors import ControlError, LayoutError
from spymaster.lake import catalog, datasets, lake_id, layout
from spymaster.lake.gold import LEVELS_SIGNALS
from spymaster.wal import folder
from spymaster.wal.folder import LOG_ALARM_BYTES, QUARANTINE
from spymaster.wal.segment import scan

MAX_COUNTED_BYTES: Final = LOG_ALARM_BYTES  # of a log whose rows are counted without a daemon; verified in seconds
PROMISE: Final = (
    ("a killed process", "loses nothing that was appended"),
    ("a power cut", "loses only rows not yet acknowledged"),
    ("damage by the medium", "is detected, delimited and reported"),
)

MISSING: Final = {
    "core": "the core is missing: nobody judges, so no signal is published. Next: see the problems, or start it again",
    "writer": "the writer of Gold is missing: what is published is not kept. Next: see the problems, or start it again",
}


class Tier(TypedDict):
    """One tier: its bytes on disk, its files and its rows."""

    bytes: int
    files: int
    rows: int


class Files(TypedDict):
    """A tier whose rows are not counted: each file's footer would have to be read."""

    bytes: int
    files: int


class Log(TypedDict):
    """The log: its bytes on disk, its files and its rows, None where these are not counted."""

    bytes: int
    files: int
    rows: int | None


class AtRisk(TypedDict):
    """Rows that wait: as the daemon counts them, else at most these, as the log's files say; None if not counted."""

    appended_not_durable: int | None
    durable_not_in_bronze: int | None


class Signals(TypedDict):
    """The way of signals in the running daemon: snaps that were published, and how far Gold has them.

    `missing` is `core` where nobody judges, `writer` where nobody writes Gold, else null.
    """

    published: int
    gold_flushed_ns: int | None
    gold_flush_age_s: float | None
    missing: str | None


class Status(TypedDict):
    """What `spymaster status --json` prints. `daemon` is null if none answered, and so are `signals`; `holder` is the
    log's writer's pid.
    """

    daemon: DaemonStatus | None
    holder: str | None
    at_risk: AtRisk
    wal: Log
    bronze: dict[str, Tier]
    bronze_total: Tier
    silver: Files
    gold: Files
    datasets: Files
    signals: Signals | None
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


def running(wal_root: Path) -> DaemonStatus | None:
    """Return what the running daemon says; None where none runs.

    Raises:
        ControlError: it gives no answer, or another than this version's.
    """
    answer = control.ask(wal_root, "status")
    if answer is not None and not DaemonStatus.__required_keys__ <= answer.keys():
        raise ControlError(
            f"the daemon (version {answer.get('version')}) answers otherwise than this version asks. Its recording is "
            f"not touched by that. Next: restart it with this version; until then only the files are looked at"
        )
    return cast(DaemonStatus | None, answer)


def status(wal_root: Path, data_root: Path) -> Status:
    """Return bytes and rows per tier, and the running daemon's gauges. Reads only."""
    alarms: list[str] = []
    daemon = None
    holder = durable.lock_holder(wal_root)
    try:
        daemon = running(wal_root)
    except ControlError as error:
        alarms.append(str(error) if holder is None else f"process {holder} holds the log: {error}")
    wal, at_risk = _log(wal_root, daemon)
    if wal["bytes"] > LOG_ALARM_BYTES:
        alarms.append(
            f"the log holds {wal['bytes'] / 1e9:.1f} GB, over 1 GB: Bronze is not keeping up or its disk refuses. "
            f"Next: if no daemon runs, spymaster recover; else check the disk of {data_root}"
        )
    bronze: dict[str, Tier] = {}
    try:
        lake_id.require_own_log(wal_root, data_root)
        totals = catalog.read_totals(data_root)
        bronze = {schema: Tier(bytes=t.size_bytes, files=t.files, rows=t.rows) for schema, t in sorted(totals.items())}
        if not bronze and (alarm := _index_alarm(data_root, daemon, holder)) is not None:
            alarms.append(alarm)
    except LayoutError as error:
        alarms.append(str(error))
    if daemon is not None and (strangers := daemon["catalog"]["strangers"]) is not None:
        alarms.append(strangers)
    silver, gold = layout.silver_sizes(data_root), layout.gold_sizes(data_root, LEVELS_SIGNALS)
    made = datasets.sizes(data_root)
    return {
        "daemon": daemon,
        "holder": holder,
        "at_risk": at_risk,
        "wal": wal,
        "bronze": bronze,
        "bronze_total": Tier(
            bytes=sum(tier["bytes"] for tier in bronze.values()),
            files=sum(tier["files"] for tier in bronze.values()),
            rows=sum(tier["rows"] for tier in bronze.values()),
        ),
        "silver": Files(bytes=sum(silver), files=len(silver)),
        "gold": Files(bytes=sum(gold), files=len(gold)),
        "datasets": Files(bytes=sum(made), files=len(made)),
        "signals": None if daemon is None else signals_of(daemon),
        "quarantine": {
            "wal": durable.bytes_below(wal_root / QUARANTINE),
            "feeds": durable.bytes_below(layout.quarantine(data_root)),
        },
        "alarms": alarms,
        "promise": dict(PROMISE),
    }


def signals_of(daemon: DaemonStatus) -> Signals:
    """Return how far the signals of a running daemon got, and which of judge and writer is missing."""
    judge, gold = daemon["judge"], daemon["gold"]
    missing = None
    if judge is None or judge["state"] == "ended":
        missing = "core"
    elif gold is None or not gold["following"]:
        missing = "writer"
    return {
        "published": 0 if judge is None else judge["published"],
        "gold_flushed_ns": None if gold is None else gold["flushed_ns"],
        "gold_flush_age_s": None if gold is None else gold["flushed_age_s"],
        "missing": missing,
    }


def signal_words(found: Signals) -> str:
    """Return them in a line."""
    if found["gold_flushed_ns"] is None or found["gold_flush_age_s"] is None:
        flushed = "Gold has none of them yet"
    else:
        until = clock.utc_text(found["gold_flushed_ns"])[:19]
        flushed = f"Gold has them to {until}Z, flushed {found['gold_flush_age_s']:.0f} s ago"
    return f"{found['published']:,} snaps of signals published; {flushed}"


def _log(wal_root: Path, daemon: DaemonStatus | None) -> tuple[Log, AtRisk]:
    """Return what the log holds, and which of its rows wait: as the daemon says, else as its files do."""
    sizes = folder.log_sizes(wal_root)
    held, files = sum(sizes), len(sizes)
    if daemon is not None:
        return Log(bytes=held, files=files, rows=daemon["log_rows"]), AtRisk(
            appended_not_durable=daemon["appended_not_durable"], durable_not_in_bronze=daemon["durable_not_in_bronze"]
        )
    if held > MAX_COUNTED_BYTES:
        nothing = AtRisk(appended_not_durable=None, durable_not_in_bronze=None)
        return Log(bytes=held, files=files, rows=None), nothing
    found = segments(wal_root)
    rows, durable_rows = sum(row["rows"] for row in found), sum(row["durable_rows"] for row in found)
    waiting = AtRisk(appended_not_durable=rows - durable_rows, durable_not_in_bronze=durable_rows)
    return Log(bytes=held, files=files, rows=rows), waiting


def _index_alarm(data_root: Path, daemon: DaemonStatus | None, holder: str | None) -> str | None:
    """Return why a catalog that knows no part may be wrong; None if it is not, or if nobody can tell."""
    if daemon is not None and not daemon["catalog"]["open"] and layout.has_parts(data_root):
        return "the catalog is being made, so what Bronze holds is not known yet. Next: ask again"
    # Another writer records a part a moment after it publishes it.
    if holder is None and layout.has_parts(data_root):
        return "the catalog knows none of the Bronze parts. Next: spymaster catalog rebuild"
    return None

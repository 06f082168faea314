"""Proves, or refutes, that what was recorded is all there: log, Bronze, catalog and Silver against each other.

A capture is proven whole when its rows carry `capture_seq` 0 to n-1, each once, and its end row says n. Without an
end row, as after a crash, it is proven to the row before the first that is missing. It is always audited whole,
whatever dates it touches. Each segment, and each part made of one, names the last rows of the segment before it, so a
tail, a segment or a whole capture that vanished is missed even where no end row counts it. Reads only; takes no lock.

A daemon may record meanwhile, so the order of reading is the proof: end rows before the rows they count, the log
before the lake that its rows move to, the catalog and the archive's manifests before the parts they list, Bronze twice,
so that what comes meanwhile is not missed before what is seen, and begin rows, which come before the rows they
announce, last.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from crc32c import crc32c

from spymaster import clock, durable, events, paths
from spymaster.errors import LayoutError, UsageError
from spymaster.events import EventSchema
from spymaster.events.gaps import DISK_FULL
from spymaster.lake import archive, catalog
from spymaster.lake.bronze import list_parts, misread, read_footer
from spymaster.lake.catalog import IndexedFile
from spymaster.paths import Partition, SegmentName
from spymaster.proof import silver as verify_silver
from spymaster.proof.silver import SilverVerdict
from spymaster.query.lake import escape_glob
from spymaster.wal.folder import QUARANTINE
from spymaster.wal.quarantine import quarantined
from spymaster.wal.segment import Predecessor, Scan, decode_rows, predecessor_of, scan

MAX_LISTINGS: Final = 10  # of the log, until one names no segment that was not read
_MEMORY: Final = "1GB"  # for the keys of some 7 million rows; those of more go to temporary files
_NS_PER_DAY: Final = 24 * clock.NS_PER_HOUR
_NOT_ACKNOWLEDGED: Final = "not_acknowledged"

_TABLES: Final = """
create table keys (schema varchar, partition_value varchar, capture_id bigint, capture_seq bigint);
create table log_keys as from keys;
create table log_days (day bigint, capture_id bigint);
create table gaps (capture_id bigint, schema varchar, symbol varchar, cause varchar, first bigint, last bigint);
create table given_up (capture_id bigint, detail varchar);
create table declared (
  capture_id bigint, origin varchar, event varchar, complete boolean, detail varchar,
  schema varchar, symbol varchar, rows bigint
);
"""

# One row for each capture and stream: what stands in log and lake, beside what its begin and end rows say.
_AUDIT: Final = """
create view streams as
  select capture_id, schema, symbol, any_value(origin) as origin, bool_or(event <> 'before') as begun,
         max(rows) filter (event = 'end' and complete) as whole,
         max(rows) filter (event in ('end', 'before')) as at_least
  from declared group by all;
create view placed as
  select k.capture_id, k.schema, coalesce(own.symbol, wild.symbol, k.partition_value) as symbol, k.capture_seq
  from keys k
  left join streams own
    on own.capture_id = k.capture_id and own.schema = k.schema and own.symbol = k.partition_value
  left join streams wild on wild.capture_id = k.capture_id and wild.schema = k.schema and wild.symbol = 'ALL';
create view held as  -- grouped twice, because a distinct count does not go to temporary files
  select capture_id, schema, symbol, sum(times)::bigint as rows, count(*) as numbers, max(capture_seq) as last
  from (select capture_id, schema, symbol, capture_seq, count(*) as times from placed group by all)
  group by all;
create view audit as
  select capture_id, schema, symbol, coalesce(h.rows, 0) as rows, coalesce(h.numbers, 0) as numbers,
         coalesce(h.last, -1) as last, coalesce(s.begun, false) as begun, s.whole, s.at_least, s.origin
  from held h full join streams s using (capture_id, schema, symbol)
  where h.rows > 0 or s.at_least > 0;
"""


class Proof(NamedTuple):
    """What is known of one capture's rows of one stream: `rows` of them, numbered without hole or repeat."""

    capture_id: int
    stream: str
    rows: int
    whole: bool


@dataclass
class Verdict:
    """What an audit found.

    Attributes:
        findings: one line for each thing that is not as recorded. None: proven.
        notes: one line for each thing worth knowing that is no finding.
        proofs: the captures that stand.
        files: parts read and compared.
        rows: rows audited.
        silver: what was found of Silver; its lines are among the others too.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    files: int = 0
    rows: int = 0
    silver: SilverVerdict = field(default_factory=SilverVerdict)


def verify(
    wal_root: Path, data_root: Path, date: str | None = None, progress: Callable[[int, int], None] | None = None
) -> Verdict:
    """Audit log and lake; with `date`, only its Silver, and the captures that have rows of that UTC date, these whole.

    Raises:
        UsageError: there is neither log nor lake, or `date` is none.
        LayoutError: the lake is laid out otherwise.
        OSError: a file cannot be read, and the medium is not why: what that keeps back is a finding.
        duckdb.OutOfMemoryException: neither memory nor the disk for temporary files is enough.
    """
    if date is not None:
        paths.check_date(date)
    bronze, compacted = data_root / "bronze", verify_silver.list_files(data_root, date)
    recorded = bronze.is_dir() or (data_root / catalog.FILE_NAME).exists() or any(_segments(wal_root))
    if not recorded and not compacted:
        raise UsageError(
            f"there is no lake at {data_root} and no log at {wal_root}. Nothing was read. "
            f"Next: check DATA_ROOT and WAL_ROOT; spymaster config show"
        )
    verdict = Verdict()
    with _spilling() as connection:
        connection.execute(_TABLES)
        _load_system(connection, wal_root, bronze, "end")
        _load_wal(connection, wal_root, verdict)
        try:
            indexed = catalog.read_files(data_root)
        except LayoutError as error:
            indexed = {}
            verdict.findings.append(str(error))
        archived = _audit_archive(data_root, verdict)
        parts, later = _list_twice(bronze)
        known = archived | indexed
        absent = {relative: file for relative, file in known.items() if relative not in parts}
        if date is not None:
            held = {relative: _captures_in(archive.locate(data_root, relative)) for relative in parts}
            wanted = _touching(connection, parts, held, known, date)
            # A part whose footer does not read may hold anything.
            parts = {path: where for path, where in parts.items() if (has := held[path]) is None or wanted & has}
            absent = {path: file for path, file in absent.items() if file.date == date or wanted & file.captures}
            connection.execute("delete from log_keys where not list_contains(?, capture_id)", [list(wanted)])
        verdict.findings += [
            f"bronze/{relative} is in {'its archive manifest' if relative in archived else 'the catalog'} "
            f"({absent[relative].rows} rows) and not on disk"
            for relative in sorted(absent)
        ]
        _audit_quarantine(wal_root, data_root, verdict)
        todo = len(parts) + len(compacted)
        spoiled = absent.keys() | parts.keys()
        parts = _audit_files(data_root, parts, indexed, archived, verdict, progress, todo)
        spoiled -= parts.keys()
        known_to: dict[tuple[str, int], int] = {}  # the last row of each stream and capture that some part speaks of
        for relative in parts:
            footer = read_footer(archive.locate(data_root, relative))
            _declare_before(connection, footer.stream, footer.before)
            for capture_id, seq in (*((span.capture_id, span.last_seq) for span in footer.captures), *footer.before):
                known_to[footer.stream, capture_id] = max(seq, known_to.get((footer.stream, capture_id), -1))
        _load_bronze_keys(connection, data_root, parts)
        _load_later_keys(connection, data_root, later, known_to)
        # For a moment a row may stand in two segments, or in one and in Bronze: of equal keys one counts.
        connection.execute("insert into keys select distinct * from log_keys except select * from keys")
        _load_system(connection, wal_root, bronze, "begin")
        _audit_captures(connection, verdict, None if date is None else wanted)
    verdict.silver = verify_silver.audit_silver(
        data_root, compacted, spoiled, lambda done: progress and progress(verdict.files + done, todo)
    )
    verdict.findings += verdict.silver.findings
    verdict.notes += verdict.silver.notes
    return verdict


@contextmanager
def _spilling() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database for keys that goes to temporary files where a lake has more of them than memory may hold."""
    with tempfile.TemporaryDirectory() as spill:
        config: dict[str, Any] = {"memory_limit": _MEMORY, "threads": 2, "temp_directory": spill}
        with duckdb.connect(config=config) as connection:
            yield connection


def _read(path: Path) -> memoryview | str:
    """Return a file's bytes, or what the medium says where it does not give them.

    Raises:
        OSError: they cannot be read for another reason, of which nothing follows.
    """
    try:
        return durable.read(path)
    except OSError as error:
        if not durable.is_damage(error):
            raise
        return f"cannot be read: {error.strerror}"


def _list_twice(bronze: Path) -> tuple[dict[str, Partition], dict[str, Partition]]:
    """Return the parts, and those that a second listing has more.

    A walk may pass a folder before a part comes, and meet a later part: what came before that one is in the second.
    """
    parts = dict(list_parts(bronze))
    return parts, {relative: where for relative, where in list_parts(bronze) if relative not in parts}


def _captures_in(part: Path) -> frozenset[int] | None:
    """Return the captures that a part has rows of; None where its footer does not read."""
    try:
        return frozenset(span.capture_id for span in read_footer(part).captures)
    except LayoutError:
        return None


def _touching(
    connection: duckdb.DuckDBPyConnection,
    parts: dict[str, Partition],
    held: dict[str, frozenset[int] | None],
    known: dict[str, IndexedFile],
    date: str,
) -> set[int]:
    """Return the captures that have, or by the catalog or a manifest had, rows of `date`."""
    logged = connection.execute(
        "select capture_id from log_days where day = datediff('day', date '1970-01-01', ?::date)", [date]
    ).fetchall()
    on_disk = [held[relative] or frozenset() for relative, partition in parts.items() if partition.date == date]
    once = [file.captures for file in known.values() if file.date == date]
    return {capture_id for (capture_id,) in logged}.union(*on_disk, *once)


def _audit_archive(data_root: Path, verdict: Verdict) -> dict[str, IndexedFile]:
    """Return what the manifests of the archive say of every part, and compare them with what is there.

    An archiver names a part before its Bronze name goes, so of parts that no manifest names these are asked for first.
    """
    tier = archive.bronze_of(data_root)
    present = {path.relative_to(tier).as_posix() for path in tier.rglob("part-*.parquet")}
    doubled = {relative for relative in present if (data_root / "bronze" / relative).exists()}
    named: dict[str, IndexedFile] = {}
    for path in sorted((data_root / "bronze").rglob(archive.MANIFEST)):
        folder = path.parent.relative_to(data_root / "bronze").as_posix()
        try:
            entries = archive.read_manifest(path.parent)
        except LayoutError as error:
            verdict.findings.append(str(error))
            present = {relative for relative in present if not relative.startswith(f"{folder}/")}
            continue
        for name, entry in entries.items():
            if (where := paths.parse_part(f"{folder}/{name}")) is not None:
                captures = frozenset(capture_id for capture_id, *_ in entry.captures)
                named[f"{folder}/{name}"] = IndexedFile(
                    where.schema, where.date, entry.rows, entry.size_bytes, entry.crc32c, captures
                )
    for relative in sorted(present - named.keys() - doubled):
        verdict.findings.append(f"archive/bronze/{relative} is there, and no manifest names it")
    for relative in sorted(doubled):
        verdict.notes.append(f"{relative} is in Bronze and in the archive. Next: spymaster archive, as before")
    return named


def _audit_files(
    data_root: Path,
    parts: dict[str, Partition],
    indexed: dict[str, IndexedFile],
    archived: dict[str, IndexedFile],
    verdict: Verdict,
    progress: Callable[[int, int], None] | None,
    todo: int,
) -> dict[str, Partition]:
    """Compare every part's bytes with the CRC32C that catalog and archive have of it; return the parts that stand."""
    sound = {}
    for number, (relative, partition) in enumerate(parts.items(), 1):
        path = archive.locate(data_root, relative)
        data = _read(path)
        claims = [claim for claim in (indexed.get(relative), archived.get(relative)) if claim is not None]
        if relative not in indexed:
            verdict.notes.append(
                f"bronze/{relative} is not in the catalog. Next: if no daemon runs, spymaster catalog rebuild"
            )
        place = path.relative_to(data_root).as_posix()
        if isinstance(data, str):
            verdict.findings.append(f"{place} {data}")
        elif any((len(data), crc32c(data)) != (claim.size_bytes, claim.crc32c) for claim in claims):
            verdict.findings.append(f"{place} has other bytes than were written (CRC32C differs)")
        elif (problem := misread(path, data)) is not None:
            verdict.findings.append(f"{place} does not read: {problem}")
        else:
            sound[relative] = partition
        verdict.files += 1
        if progress is not None:
            progress(number, todo)
    return sound


def _audit_quarantine(wal_root: Path, data_root: Path, verdict: Verdict) -> None:
    """Compare what lies in quarantine with its descriptions. Both are kept; that the bytes are gone is a finding."""
    for entry in quarantined(wal_root):
        if entry.description is None:
            verdict.notes.append(f"{entry.path} has no description: a recovery was cut short. Next: spymaster recover")
        elif isinstance(data := _read(entry.path), str):
            verdict.findings.append(f"{entry.path} in quarantine {data}")
        elif hashlib.sha256(data).hexdigest() != entry.description.get("sha256"):
            verdict.notes.append(f"{entry.path} reads otherwise than when it was put there. Next: spymaster recover")
    described = {path: path.with_suffix("") for path in (wal_root / QUARANTINE).glob("[!.]*.arrow.json")}
    described |= {path: path.with_suffix(".bin") for path in (data_root / QUARANTINE).rglob("[!.]*.json")}
    for description, kept in sorted(described.items()):
        if not kept.exists():
            verdict.findings.append(f"{kept} is gone from quarantine; {description.name} says what it held")


def _load_bronze_keys(connection: duckdb.DuckDBPyConnection, data_root: Path, parts: dict[str, Partition]) -> None:
    groups: dict[tuple[str, str], list[str]] = {}
    for relative, partition in parts.items():
        path = archive.locate(data_root, relative)
        groups.setdefault((partition.schema, partition.value), []).append(escape_glob(path))
    for (schema, value), files in groups.items():
        connection.execute(
            "insert into keys select ?, ?, capture_id, capture_seq from read_parquet(?, hive_partitioning = false)",
            [schema, value, files],
        )


def _load_later_keys(
    connection: duckdb.DuckDBPyConnection,
    data_root: Path,
    later: dict[str, Partition],
    known_to: dict[tuple[str, int], int],
) -> None:
    """Add the rows of parts that came meanwhile, where they come before rows that were listed, and no newer ones."""
    for relative, partition in later.items():
        path = archive.locate(data_root, relative)
        try:
            footer = read_footer(path)
        except LayoutError:
            continue  # a finding of the next audit
        for span in footer.captures:
            if span.first_seq <= (last := known_to.get((footer.stream, span.capture_id), -1)):
                connection.execute(
                    "insert into keys select ?, ?, capture_id, capture_seq from read_parquet(?, hive_partitioning = "
                    "false) where capture_id = ? and capture_seq <= ?",
                    [partition.schema, partition.value, escape_glob(path), span.capture_id, last],
                )


def _load_system(connection: duckdb.DuckDBPyConnection, wal_root: Path, bronze: Path, event: str) -> None:
    """Add what the begin or end rows of captures say, and with the begins all gaps; from log and Bronze themselves."""
    wanted = {events.SYSTEM_CAPTURES, events.SYSTEM_GAPS} if event == "begin" else {events.SYSTEM_CAPTURES}
    for schema, rows in _system_rows(wal_root, bronze, wanted):
        if schema is events.SYSTEM_GAPS:
            connection.register("gap_rows", rows)
            connection.execute(
                "insert into gaps select of_capture_id, of_schema, of_symbol, cause, first_seq, last_seq from gap_rows "
                "where of_capture_id is not null and first_seq is not null and last_seq is not null"
            )
            connection.execute(
                "insert into given_up select of_capture_id, detail from gap_rows where cause = ?", [DISK_FULL]
            )
            connection.unregister("gap_rows")
        else:
            _declare(connection, rows.filter(pc.field("event") == event))


def _system_rows(wal_root: Path, bronze: Path, wanted: set[EventSchema]) -> Iterator[tuple[EventSchema, pa.Table]]:
    stems = {paths.stream_stem(schema.name, events.SYSTEM_SYMBOL) for schema in wanted}
    for _, _, found, schema, rows, _ in _read_log(wal_root, [], stems):  # what does not read is a finding of its own
        if found.header is not None and schema in wanted:
            yield schema, rows
    for schema in wanted:
        folder = bronze / schema.name.replace(".", "/")
        for path in sorted(folder.rglob("part-*.parquet")):
            data = _read(path)
            if not isinstance(data, str) and misread(path, data) is None:  # else it is a finding of its own
                yield schema, pq.read_table(path, partitioning=None)


def _declare(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
    connection.register("capture_rows", rows)
    connection.execute(
        "insert into declared select of_capture_id, origin, event, complete, detail, "
        "split_part(entry.key, '/', 1), substr(entry.key, strpos(entry.key, '/') + 1), entry.value "
        "from (select *, unnest(map_entries(stream_rows)) as entry from capture_rows)"
    )
    connection.unregister("capture_rows")


def _declare_before(connection: duckdb.DuckDBPyConnection, stream: str, last: tuple[tuple[int, int], ...]) -> None:
    """Add what a segment says of the one before it."""
    schema, _, symbol = stream.partition("/")
    if last:
        connection.executemany(
            "insert into declared values (?, null, 'before', false, null, ?, ?, ?)",
            [(capture_id, schema, symbol, seq + 1) for capture_id, seq in last],
        )


def _segments(wal_root: Path) -> Iterator[tuple[Path, SegmentName]]:
    for path in sorted(wal_root.iterdir()) if wal_root.is_dir() else []:
        name = paths.parse_segment_name(path.name)
        if name is not None:
            yield path, name


def _read_log(
    wal_root: Path, findings: list[str], stems: set[str] | None = None
) -> Iterator[tuple[Path, SegmentName, Scan, EventSchema | None, pa.Table, Predecessor | None]]:
    """Yield every segment, or those of some streams, with its rows and what it says of the one before.

    One that the medium does not give is added to the findings.

    A segment may be sealed, so renamed, or retired between the listing and the reading; hence listings until one has
    no name that was not tried. A retired one's rows are in Bronze.
    """
    tried: set[Path] = set()
    for _ in range(MAX_LISTINGS):
        fresh = [entry for entry in _segments(wal_root) if entry[0] not in tried]
        fresh = [(path, name) for path, name in fresh if stems is None or name.stem in stems]
        if not fresh:
            return
        for path, name in fresh:
            try:
                raw = _read(path)
            except FileNotFoundError:
                continue  # not held for tried: an active segment's name comes back
            tried.add(path)
            if isinstance(raw, str):
                findings.append(f"{path} {raw}. Next: spymaster recover")
                continue
            found = scan(raw)
            if found.header is None:
                yield path, name, found, None, pa.table({}), None
            else:
                rows, _ = decode_rows(raw, [*found.frames, *found.islands], found.header.stream)
                # One that has no sealed name yet may follow rows that a power cut took before they were acknowledged.
                before = predecessor_of(raw, found.frames[0]) if found.frames and not name.ahead else None
                yield path, name, found, events.schema_named(found.header.stream.schema), rows, before


def _load_wal(connection: duckdb.DuckDBPyConnection, wal_root: Path, verdict: Verdict) -> None:
    """Add the rows that are in the log; report what does not read."""
    waiting = 0
    for path, name, found, schema, rows, before in _read_log(wal_root, verdict.findings):
        if found.problem is not None:
            line = f"{path}: {found.problem} at byte {found.end}, after {found.rows} sound rows"
            if name.sealed or found.islands or found.rows < found.durable_row:
                verdict.findings.append(f"{line}. Next: spymaster recover")
            else:
                verdict.notes.append(f"{line}: being written, or what a crash cut")
        elif name.sealed and not found.sealed:  # cut between two frames, so that it reads well as far as it goes
            verdict.findings.append(f"{path} ends without its seal, after {found.rows} rows. Next: spymaster recover")
        if schema is None:
            continue
        waiting += rows.num_rows
        if before is not None and found.header is not None:
            _declare_before(connection, str(found.header.stream), before.last)
        columns = [schema.partition_by, "ts_event_ns", "capture_id", "capture_seq"]
        connection.register("segment", rows.select(columns))
        connection.execute(
            f"insert into log_keys select ?, {schema.partition_by}, capture_id, capture_seq from segment",  # noqa: S608
            [schema.name],
        )
        connection.execute(
            "insert into log_days select distinct ts_event_ns // ?, capture_id from segment", [_NS_PER_DAY]
        )
        connection.unregister("segment")
    if waiting:
        verdict.notes.append(f"{waiting} rows are in the log, on their way to Bronze")


def _audit_captures(connection: duckdb.DuckDBPyConnection, verdict: Verdict, wanted: set[int] | None) -> None:
    connection.execute(_AUDIT)
    _note_given_up(connection, verdict, wanted)
    audited = connection.execute("select * from audit order by all").fetchall()
    for capture_id, schema, symbol, rows, numbers, last, begun, whole, at_least, origin in audited:
        if wanted is not None and capture_id not in wanted:
            continue
        name = f"capture {capture_id} ({origin or 'no begin row'}), {schema}/{symbol}"
        verdict.rows += rows
        if not begun and events.SCHEMAS[schema].kind == "market":
            verdict.findings.append(f"{name}: {rows} rows of a capture that no begin row announces")
        if rows != numbers:
            verdict.findings.append(f"{name}: {rows - numbers} rows stand twice")
        expected = whole if whole is not None else at_least
        if expected is not None and last + 1 < expected:
            verdict.findings.append(f"{name}: its last {expected - last - 1} rows are missing")
        if whole is not None and last + 1 > whole:
            verdict.findings.append(f"{name}: {last + 1 - whole} rows more than its end row counts")
        holes = _holes(connection, capture_id, schema, symbol) if numbers != last + 1 else []
        excused = [hole.cause == _NOT_ACKNOWLEDGED for hole in holes]
        unexplained = sum(hole.last - hole.first + 1 for hole in holes if hole.cause is None)
        if unexplained:
            verdict.findings.append(f"{name}: {unexplained} rows are missing below row {last}")
        for hole in holes:
            line = f"rows {hole.first} to {hole.last} are missing"
            if hole.cause == _NOT_ACKNOWLEDGED:
                verdict.notes.append(f"{name}: {line}; a power cut took them before they were acknowledged")
            elif hole.cause is not None:
                verdict.findings.append(f"{name}: known gap: {line} ({hole.cause})")
        if all(excused) and (expected is None or expected <= last + 1):
            proven = holes[0].first if holes else numbers
            verdict.proofs.append(Proof(capture_id, f"{schema}/{symbol}", proven, whole is not None and not holes))


def _note_given_up(connection: duckdb.DuckDBPyConnection, verdict: Verdict, wanted: set[int] | None) -> None:
    """Name the rows that were delivered and never recorded: no hole in the numbers shows them."""
    for capture_id, detail in connection.execute("select distinct * from given_up order by all").fetchall():
        if wanted is None or capture_id in wanted:
            verdict.notes.append(f"capture {capture_id}: known gap: {detail}")


class _Hole(NamedTuple):
    """Missing rows `first` to `last`, and the cause that gap rows give for all of them, if they do."""

    first: int
    last: int
    cause: str | None


def _holes(connection: duckdb.DuckDBPyConnection, capture_id: int, schema: str, symbol: str) -> list[_Hole]:
    stream = [capture_id, schema, symbol]
    gaps = connection.execute(
        "select first, last, cause from gaps where capture_id = ? and schema = ? and symbol = ? order by all", stream
    ).fetchall()
    missing = connection.execute(
        "select before + 1, capture_seq - 1 from ("
        "select capture_seq, lag(capture_seq, 1, -1) over (order by capture_seq) as before from placed "
        "where capture_id = ? and schema = ? and symbol = ?) where capture_seq > before + 1 order by all",
        stream,
    ).fetchall()
    return [_Hole(first, last, _cause(first, last, gaps)) for first, last in missing]


def _cause(first: int, last: int, gaps: list[tuple[int, int, str]]) -> str | None:
    """Return the cause of gaps, ordered by their first rows, that together cover a hole; None if they do not."""
    reached, causes = first, set()
    for gap_first, gap_last, cause in gaps:
        if gap_first <= reached <= gap_last:
            reached = gap_last + 1
            causes.add(cause)
    if reached <= last:
        return None
    return ", ".join(sorted(causes))

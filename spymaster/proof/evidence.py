"""Log, parts, begin and end rows and gaps, as tables of one database: what `captures` judges."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster import events, paths
from spymaster.clock import NS_PER_DAY
from spymaster.errors import LayoutError
from spymaster.events import EventSchema
from spymaster.events.gaps import DISK_FULL
from spymaster.lake import layout
from spymaster.lake.bronze import misread, read_footer
from spymaster.lake.catalog import IndexedFile
from spymaster.lake.layout import Tier, escape_glob
from spymaster.paths import Partition, SegmentName
from spymaster.proof.files import read_bytes
from spymaster.proof.verdict import Verdict
from spymaster.wal import folder
from spymaster.wal.segment import Predecessor, Scan, decode_rows, predecessor_of, scan

MAX_LISTINGS: Final = 10  # of the log, until one names no segment that was not read

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


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables that all else here fills."""
    connection.execute(_TABLES)


def load_system(connection: duckdb.DuckDBPyConnection, wal_root: Path, data_root: Path, event: str) -> None:
    """Add what the begin or end rows of captures say, and with the begins all gaps; from log and Bronze themselves."""
    wanted = {events.SYSTEM_CAPTURES, events.SYSTEM_GAPS} if event == "begin" else {events.SYSTEM_CAPTURES}
    for schema, rows in _system_rows(wal_root, data_root, wanted):
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


def _system_rows(wal_root: Path, data_root: Path, wanted: set[EventSchema]) -> Iterator[tuple[EventSchema, pa.Table]]:
    stems = {paths.stream_stem(schema.name, events.SYSTEM_SYMBOL) for schema in wanted}
    for _, _, found, schema, rows, _ in _read_log(wal_root, [], stems):  # what does not read is a finding of its own
        if found.header is not None and schema in wanted:
            yield schema, rows
    for schema in wanted:
        for own in layout.partitions(data_root, schema, tiers=[Tier.BRONZE]):  # our own events are never archived
            for path in layout.parts(data_root, own).values():
                data = read_bytes(path)
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


def segments(wal_root: Path) -> list[tuple[Path, SegmentName]]:
    """Return the log's segments by name; none where there is no log."""
    return sorted(folder.segments(wal_root)) if wal_root.is_dir() else []


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
        fresh = [entry for entry in segments(wal_root) if entry[0] not in tried]
        fresh = [(path, name) for path, name in fresh if stems is None or name.stem in stems]
        if not fresh:
            return
        for path, name in fresh:
            try:
                raw = read_bytes(path)
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


def load_log(connection: duckdb.DuckDBPyConnection, wal_root: Path, verdict: Verdict) -> None:
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
            "insert into log_days select distinct ts_event_ns // ?, capture_id from segment", [NS_PER_DAY]
        )
        connection.unregister("segment")
    if waiting:
        verdict.notes.append(f"{waiting} rows are in the log, on their way to Bronze")


def keep_captures_of(
    connection: duckdb.DuckDBPyConnection,
    date: str,
    data_root: Path,
    parts: dict[str, Partition],
    absent: dict[str, IndexedFile],
    known: dict[str, IndexedFile],
) -> tuple[dict[str, Partition], dict[str, IndexedFile], set[int]]:
    """Leave out what has no rows of the captures that touch a date; also of the log's rows.

    Args:
        connection: with the log's rows.
        date: a UTC date.
        data_root: the lake.
        parts: of Bronze and the archive.
        absent: those that are named and not there.
        known: what catalog and manifests say of parts.

    Returns:
        The parts and the absent ones that remain, and these captures.
    """
    held = {relative: _captures_in(layout.locate(data_root, relative)) for relative in parts}
    wanted = _touching(connection, parts, held, known, date)
    # A part whose footer does not read may hold anything.
    parts = {path: where for path, where in parts.items() if (has := held[path]) is None or wanted & has}
    absent = {path: file for path, file in absent.items() if file.date == date or wanted & file.captures}
    connection.execute("delete from log_keys where not list_contains(?, capture_id)", [list(wanted)])
    return parts, absent, wanted


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


def declare_parts(
    connection: duckdb.DuckDBPyConnection, data_root: Path, parts: dict[str, Partition]
) -> dict[tuple[str, int], int]:
    """Add what parts say of the segments before theirs.

    Returns:
        The last row of each stream and capture that some part speaks of.
    """
    known_to: dict[tuple[str, int], int] = {}
    for relative in parts:
        footer = read_footer(layout.locate(data_root, relative))
        _declare_before(connection, footer.stream, footer.before)
        for capture_id, seq in (*((span.capture_id, span.last_seq) for span in footer.captures), *footer.before):
            known_to[footer.stream, capture_id] = max(seq, known_to.get((footer.stream, capture_id), -1))
    return known_to


def load_bronze_keys(connection: duckdb.DuckDBPyConnection, data_root: Path, parts: dict[str, Partition]) -> None:
    groups: dict[tuple[str, str], list[str]] = {}
    for relative, partition in parts.items():
        path = layout.locate(data_root, relative)
        groups.setdefault((partition.schema, partition.value), []).append(escape_glob(path))
    for (schema, value), files in groups.items():
        connection.execute(
            "insert into keys select ?, ?, capture_id, capture_seq from read_parquet(?, hive_partitioning = false)",
            [schema, value, files],
        )


def load_later_keys(
    connection: duckdb.DuckDBPyConnection,
    data_root: Path,
    later: dict[str, Partition],
    known_to: dict[tuple[str, int], int],
) -> None:
    """Add the rows of parts that came meanwhile, where they come before rows that were listed, and no newer ones."""
    for relative, partition in later.items():
        path = layout.locate(data_root, relative)
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


def add_log_keys(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the log's rows to those of the lake.

    For a moment a row may stand in two segments, or in one and in Bronze: of equal keys one counts.
    """
    connection.execute("insert into keys select distinct * from log_keys except select * from keys")

"""Proves, or refutes, that what was recorded is all there: log, Bronze and catalog against each other.

A capture is proven whole when its rows carry `capture_seq` 0 to n-1, each once, and its end row says n. Without an
end row, as after a crash, it is proven to the row before the first that is missing. It is always audited whole,
whatever dates it touches. Reads only; takes no lock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from crc32c import crc32c

from spymaster import durable, events, paths
from spymaster.errors import LayoutError
from spymaster.lake import catalog
from spymaster.lake.bronze import list_parts, read_footer
from spymaster.paths import Partition
from spymaster.wal.segment import decode_rows, scan

_TABLES: Final = """
create table keys (schema varchar, partition_value varchar, capture_id bigint, capture_seq bigint);
create table log_keys as from keys;
create table declared (
  capture_id bigint, origin varchar, event varchar, complete boolean, detail varchar,
  schema varchar, symbol varchar, rows bigint
);
"""

# One row for each capture and stream: what stands in log and lake, beside what its begin and end rows say.
_AUDIT: Final = """
create view streams as
  select capture_id, schema, symbol, any_value(origin) as origin,
         max(rows) filter (event = 'end' and complete) as whole, max(rows) filter (event = 'end') as at_least
  from declared group by all;
create view audit as
  select coalesce(k.capture_id, s.capture_id) as capture_id, coalesce(k.schema, s.schema) as schema,
         coalesce(s.symbol, k.partition_value) as symbol, count(k.capture_seq) as rows,
         count(distinct k.capture_seq) as numbers, coalesce(max(k.capture_seq), -1) as last,
         s.capture_id is not null as begun, s.whole, s.at_least, s.origin
  from keys k full join streams s
    on k.capture_id = s.capture_id and k.schema = s.schema and s.symbol in (k.partition_value, 'ALL')
  group by all
  having count(k.capture_seq) > 0 or s.at_least > 0;
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
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    files: int = 0
    rows: int = 0


def verify(
    wal_root: Path, data_root: Path, date: str | None = None, progress: Callable[[int, int], None] | None = None
) -> Verdict:
    """Audit log and lake; with `date`, only the captures that have rows of that UTC date, but these whole.

    Raises:
        LayoutError: the lake is laid out otherwise.
        OSError: a file cannot be read.
    """
    verdict = Verdict()
    bronze = data_root / "bronze"
    parts = dict(list_parts(bronze)) if bronze.is_dir() else {}
    if date is not None:
        parts = _touching(bronze, parts, paths.check_date(date))
    parts = _audit_files(data_root, parts, verdict, partial=date is not None, progress=progress)
    with duckdb.connect() as connection:
        connection.execute(_TABLES)
        _load_bronze_keys(connection, bronze, parts)
        _load_declared(connection, bronze)
        _load_wal(connection, wal_root, verdict, all_captures=date is None)
        _audit_captures(connection, verdict, all_captures=date is None)
    return verdict


def _touching(bronze: Path, parts: dict[str, Partition], date: str) -> dict[str, Partition]:
    """Return the parts of every capture that has rows of `date`."""
    held = {relative: {span.capture_id for span in read_footer(bronze / relative)[1]} for relative in parts}
    wanted = set().union(*(held[relative] for relative, partition in parts.items() if partition.date == date))
    return {relative: partition for relative, partition in parts.items() if held[relative] & wanted}


def _audit_files(
    data_root: Path,
    parts: dict[str, Partition],
    verdict: Verdict,
    *,
    partial: bool,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Partition]:
    """Compare every part's bytes with the CRC32C that the catalog has of it, and return the parts that stand."""
    indexed = catalog.read_files(data_root)
    sound = {}
    for number, (relative, partition) in enumerate(parts.items()):
        path = data_root / "bronze" / relative
        known = indexed.get(relative)
        data = durable.read(path)
        if known is None:
            verdict.notes.append(f"bronze/{relative} is not in the catalog. Next: spymaster catalog rebuild")
        if known is not None and (len(data), crc32c(data)) != (known.size_bytes, known.crc32c):
            verdict.findings.append(f"bronze/{relative} has other bytes than were written (CRC32C differs)")
        elif (problem := _misread(path)) is not None:
            verdict.findings.append(f"bronze/{relative} does not read: {problem}")
        else:
            sound[relative] = partition
        verdict.files += 1
        if progress is not None:
            progress(number + 1, len(parts))
    if not partial:
        verdict.findings += [
            f"bronze/{relative} is in the catalog ({indexed[relative].rows} rows) and not on disk"
            for relative in sorted(indexed.keys() - parts.keys())
        ]

    return sound


def _misread(path: Path) -> str | None:
    """Say why a part's keys do not read, if they do not; every page is checked against its own checksum."""
    try:
        pq.read_table(path, columns=["capture_id", "capture_seq"], partitioning=None, page_checksum_verification=True)
        read_footer(path)
    except (pa.ArrowException, OSError, LayoutError) as error:
        return str(error)
    return None


def _load_bronze_keys(connection: duckdb.DuckDBPyConnection, bronze: Path, parts: dict[str, Partition]) -> None:
    groups: dict[tuple[str, str], list[str]] = {}
    for relative, partition in parts.items():
        groups.setdefault((partition.schema, partition.value), []).append(str(bronze / relative))
    for (schema, value), files in groups.items():
        connection.execute(
            "insert into keys select ?, ?, capture_id, capture_seq from read_parquet(?, hive_partitioning = false)",
            [schema, value, files],
        )


def _load_declared(connection: duckdb.DuckDBPyConnection, bronze: Path) -> None:
    """Add what the begin and end rows of captures say, from Bronze itself and not from its index."""
    for path in sorted((bronze / "system" / "captures").rglob("part-*.parquet")):
        rows = pq.read_table(path, partitioning=None)
        _declare(connection, rows)


def _declare(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
    connection.register("capture_rows", rows)
    connection.execute(
        "insert into declared select of_capture_id, origin, event, complete, detail, "
        "split_part(entry.key, '/', 1), substr(entry.key, strpos(entry.key, '/') + 1), entry.value "
        "from (select *, unnest(map_entries(stream_rows)) as entry from capture_rows)"
    )
    connection.unregister("capture_rows")


def _load_wal(connection: duckdb.DuckDBPyConnection, wal_root: Path, verdict: Verdict, *, all_captures: bool) -> None:
    """Add the rows that are in the log and not yet in Bronze; report what does not read."""
    waiting = 0
    for path in sorted(wal_root.iterdir()) if wal_root.is_dir() else []:
        name = paths.parse_segment_name(path.name)
        if name is None:
            continue
        raw = durable.read(path)
        found = scan(raw)
        if found.problem is not None:
            line = (
                f"{path}: {found.problem} at byte {found.end}, after {found.rows} sound rows. Next: spymaster recover"
            )
            damaged = name.sealed or found.islands or found.rows < found.durable_row
            (verdict.findings if damaged else verdict.notes).append(line)
        if found.header is None:
            continue
        schema = events.schema_named(found.header.stream.schema)
        rows, _ = decode_rows(raw, [*found.frames, *found.islands], found.header.stream)
        waiting += rows.num_rows
        if schema is events.SYSTEM_CAPTURES:
            _declare(connection, rows)
        connection.register("segment", rows.select([schema.partition_by, "capture_id", "capture_seq"]))
        connection.execute(
            f"insert into log_keys select ?, {schema.partition_by}, capture_id, capture_seq from segment "  # noqa: S608
            "where ? or capture_id in (select capture_id from keys)",
            [schema.name, all_captures],
        )
        connection.unregister("segment")
    if waiting:
        # For a moment a row may stand in two segments, or in one and in Bronze: of equal keys one counts.
        connection.execute("insert into keys select distinct * from log_keys except select * from keys")
        verdict.notes.append(f"{waiting} rows are in the log, on their way to Bronze")


def _audit_captures(connection: duckdb.DuckDBPyConnection, verdict: Verdict, *, all_captures: bool) -> None:
    connection.execute(_AUDIT)
    scope = "true" if all_captures else "capture_id in (select capture_id from keys)"
    audited = connection.execute(f"select * from audit where {scope} order by all").fetchall()  # noqa: S608
    for capture_id, schema, symbol, rows, numbers, last, begun, whole, at_least, origin in audited:
        name = f"capture {capture_id} ({origin or 'no begin row'}), {schema}/{symbol}"
        verdict.rows += rows
        if not begun and not schema.startswith("system."):
            verdict.findings.append(f"{name}: {rows} rows of a capture that no begin row announces")
        if rows != numbers:
            verdict.findings.append(f"{name}: {rows - numbers} rows stand twice")
        if numbers != last + 1:
            verdict.findings.append(f"{name}: {last + 1 - numbers} rows are missing below row {last}")
        expected = whole if whole is not None else at_least
        if expected is not None and last + 1 < expected:
            verdict.findings.append(f"{name}: its last {expected - last - 1} rows are missing")
        if whole is not None and last + 1 > whole:
            verdict.findings.append(f"{name}: {last + 1 - whole} rows more than its end row counts")
        if numbers == last + 1 and (expected is None or expected <= numbers):
            verdict.proofs.append(Proof(capture_id, f"{schema}/{symbol}", numbers, whole is not None))

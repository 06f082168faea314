"""An index of the lake in SQLite, rebuilt from the files at will. Nothing that matters lives only here.

Losing it loses nothing, so it may be behind the files but never ahead of them: a part is recorded once it is
durable, and opening the catalog takes in what a crash kept from being recorded. A catalog that does not read is moved
aside and made again.

SQLite has no checksums: it reads a flipped bit in a value without complaint, and a wrong CRC32C of a part would accuse
a sound part, a lost row of a capture would let a file be recorded twice. So every row ends in its own checksum.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from crc32c import crc32c
from numpy.typing import NDArray

from spymaster import durable, events
from spymaster.errors import DiskFullError, LayoutError, SpymasterError, UsageError
from spymaster.lake import layout
from spymaster.lake.bronze import Part, misread, read_footer, recorded_numbers, require_known_version
from spymaster.lake.layout import Tier
from spymaster.lake.parquet import is_foreign

FILE_NAME: Final = "catalog.db"
MAX_SHOWN: Final = 5  # names in one line

COMPACTIONS: Final = """
create table if not exists compactions (
  path text primary key, inputs text not null, engine text not null, row_crc32c integer not null
) strict;
"""  # `compactions` fills it
_TABLES: Final = f"""
create table if not exists files (
  path text primary key, schema text not null, partition_value text not null, date text not null, hour integer,
  segment text not null, rows integer not null, bytes integer not null, crc32c integer not null,
  row_crc32c integer not null
) strict;
create table if not exists file_captures (
  path text not null, capture_id integer not null, rows integer not null,
  first_seq integer not null, last_seq integer not null, row_crc32c integer not null, primary key (path, capture_id)
) strict;
create index if not exists captures_of_files on file_captures (capture_id);
create table if not exists captures (
  capture_id integer not null, event text not null, source text not null, origin text not null,
  content_sha256 text, complete integer not null, stream_rows text not null, detail text, ts_event_ns integer not null,
  path text not null, row_crc32c integer not null
) strict;
create table if not exists gaps (
  gap_id integer not null, cause text not null, schema text not null, symbol text not null, capture_id integer,
  first_seq integer, last_seq integer, rows integer, detail text not null, path text not null,
  row_crc32c integer not null
) strict;
create table if not exists totals (
  schema text primary key, files integer not null, rows integer not null, bytes integer not null,
  row_crc32c integer not null
) strict;
{COMPACTIONS}"""
BY_PART: Final = ("files", "file_captures", "captures", "gaps")  # tables whose rows a part has made
_NAMES: Final = (*BY_PART, "totals", "compactions")
_LAYOUT: Final = "select name, sql from sqlite_master order by name"


class CaptureRecord(NamedTuple):
    """One row of `system.captures`: the begin or the end of a capture."""

    capture_id: int
    event: str
    source: str
    origin: str
    content_sha256: str | None
    complete: bool
    stream_rows: dict[str, int]
    detail: str | None
    ts_event_ns: int


class Catalog:
    """The index of one lake. Threads take turns.

    Attributes:
        foreign: the first `layout.MAX_FOREIGN` Parquet files in Bronze and archive that are not ours, by their keys
            below DATA_ROOT, as of the last `refresh`. They are passed over.
        foreign_count: how many there are.
    """

    def __init__(self, data_root: Path) -> None:
        """Open or create `catalog.db`, and take in the files that it does not know. The caller holds the locks.

        Raises:
            LayoutError: the lake is laid out otherwise.
            UsageError: `catalog.db` is a folder.
            DiskFullError: there is no room to take files in.
        """
        self._data_root, self._bronze = data_root, Tier.BRONZE.of(data_root)
        durable.make_directories(data_root)
        self._turn = threading.RLock()
        path = _file(data_root)
        try:
            self._open(path)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise DiskFullError(
                    f"{path} is on a full disk ({error}). Nothing was changed, nothing is lost. Next: free space "
                    f"there, then run the command again"
                ) from error
            if _speaks_of_the_disk(error, path):
                raise
            durable.replace(path, path.with_name(f"{FILE_NAME}.damaged"))
            durable.remove(path.with_name(f"{FILE_NAME}-journal"))  # of the damaged one; it would spoil the new
            self._open(path)

    def _open(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        try:
            self._db.executescript(_TABLES)
            _check(self._db)
            with self._db:
                self._sum_up()
            self.refresh()
        except (sqlite3.Error, UnicodeDecodeError, SpymasterError, OSError):
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def refresh(self) -> None:
        """Make the index match the files: add what is missing, drop what is gone.

        A part that does not read is left out: its CRC32C would vouch for the damage. `verify` reports it. So is one
        of which the medium does not give the bytes: an index that cannot be made would stop the recording. So is a
        file that is not ours.

        Raises:
            LayoutError: the lake is laid out otherwise, or a later version wrote it.
        """
        known = {path for (path,) in self._all("select path from files")}
        found = layout.find_parts(self._data_root)
        layout.require_own_layout(self._data_root, found)
        foreign = []
        parts = []
        for relative, partition in found.parts.items():
            if relative not in known:
                path = layout.locate(self._data_root, relative)
                try:
                    data = durable.read(path)
                except OSError as error:
                    if durable.is_damage(error):
                        continue
                    raise
                if misread(path, data) is not None:
                    if is_foreign(path):
                        foreign.append(f"{found.tier_of(relative)}/{relative}")
                    continue
                footer = read_footer(path)
                require_known_version(path, footer.version)
                crc = crc32c(data)
                parts.append(Part(relative, partition, footer.segment, footer.rows, len(data), crc, footer.captures))
        self.foreign = sorted([*found.foreign, *foreign])[: layout.MAX_FOREIGN]
        self.foreign_count = found.foreign_count + len(foreign)
        with self._turn, self._db:
            for path in known - found.parts.keys():
                for table in BY_PART:
                    self._db.execute(f"delete from {table} where path = ?", (path,))  # noqa: S608  # our own names
            self._sum_up()
        self.record(parts)

    @property
    def strangers(self) -> str | None:
        """One line that names the files that are not ours; None if there are none."""
        if not self.foreign:
            return None
        more = f" and {self.foreign_count - MAX_SHOWN} more" if self.foreign_count > MAX_SHOWN else ""
        return (
            f"{self._data_root} has {self.foreign_count} Parquet files that are not ours, which are passed over: "
            f"{', '.join(self.foreign[:MAX_SHOWN])}{more}. Next: move them out of the lake"
        )

    def record(self, parts: Iterable[Part]) -> None:
        """Add parts that are durable."""
        with self._turn, self._db:
            for part in parts:
                where = part.partition
                self._count(part)
                self._insert(
                    "files",
                    [(part.relative, where.schema, where.value, where.date, where.hour,
                      part.segment, part.rows, part.size_bytes, part.crc32c)],
                )  # fmt: skip
                self._insert(
                    "file_captures",
                    [(part.relative, s.capture_id, s.rows, s.first_seq, s.last_seq) for s in part.captures],
                )
                if where.schema == events.SYSTEM_CAPTURES.name:
                    self._record_captures(part.relative)
                elif where.schema == events.SYSTEM_GAPS.name:
                    self._record_gaps(part.relative)

    def _count(self, part: Part) -> None:
        """Add a part to its schema's totals, before it is inserted."""
        schema = part.partition.schema
        query = "select files, rows, bytes from totals where schema = ?"
        files, rows, size = self._db.execute(query, (schema,)).fetchone() or (0, 0, 0)
        known = self._db.execute("select rows, bytes from files where path = ?", (part.relative,)).fetchone()
        was_rows, was_bytes = known or (0, 0)
        totals = (files + (known is None), rows + part.rows - was_rows, size + part.size_bytes - was_bytes)
        self._insert("totals", [(schema, *totals)])

    def _sum_up(self) -> None:
        """Make the totals what the parts say, where they are not: an index of before this table has none."""
        query = "select schema, count(*), sum(rows), sum(bytes) from files group by schema order by schema"
        sums = self._db.execute(query).fetchall()
        if sums != self._db.execute("select schema, files, rows, bytes from totals order by schema").fetchall():
            self._db.execute("delete from totals")
            self._insert("totals", sums)

    def _insert(self, table: str, rows: list[tuple[object, ...]]) -> None:
        if not rows:
            return
        places = ",".join("?" * (len(rows[0]) + 1))
        self._db.executemany(
            f"insert or replace into {table} values ({places})",  # noqa: S608  # our own names
            [(*row, row_crc32c_of(row)) for row in rows],
        )

    def _columns(self, relative: str, names: list[str]) -> list[tuple[object, ...]]:
        """Read a part of our own events: a handful of rows. These are never archived."""
        rows = pq.read_table(self._bronze / relative, columns=names, partitioning=None).to_pydict()
        return list(zip(*(rows[name] for name in names), strict=True))

    def _record_captures(self, relative: str) -> None:
        names = ["of_capture_id", "event", "of_source", "origin", "content_sha256", "complete", "stream_rows",
                 "detail", "ts_event_ns"]  # fmt: skip
        rows = [
            # a map column reads as pairs
            (*head, int(complete), json.dumps(dict(stream_rows)), detail, stamp, relative)  # type: ignore[call-overload]
            for *head, complete, stream_rows, detail, stamp in self._columns(relative, names)
        ]
        self._insert("captures", rows)

    def _record_gaps(self, relative: str) -> None:
        names = [
            "gap_id",
            "cause",
            "of_schema",
            "of_symbol",
            "of_capture_id",
            "first_seq",
            "last_seq",
            "rows",
            "detail",
        ]
        rows = self._columns(relative, names)
        self._insert("gaps", [(*row, relative) for row in rows])

    def _all(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._turn:
            return self._db.execute(query, parameters).fetchall()

    def captures(self, capture_id: int | None = None) -> list[CaptureRecord]:
        """Return the begins and ends of captures, of one or of all, in the order of their times."""
        rows = self._all(
            "select capture_id, event, source, origin, content_sha256, complete, stream_rows, detail, ts_event_ns "
            "from captures where ? is null or capture_id = ? order by ts_event_ns, event",
            (capture_id, capture_id),
        )
        return [CaptureRecord(i, e, s, o, h, bool(c), json.loads(r), d, t) for i, e, s, o, h, c, r, d, t in rows]

    def gap_ids(self) -> set[int]:
        return {gap_id for (gap_id,) in self._all("select gap_id from gaps")}

    def files_of_capture(self, capture_id: int, schema: str) -> list[tuple[Path, str]]:
        """Return the parts that hold rows of a capture, each with its partition value."""
        rows = self._all(
            "select path, partition_value from files join file_captures using (path) "
            "where capture_id = ? and schema = ? order by path",
            (capture_id, schema),
        )
        return [(layout.locate(self._data_root, path), value) for path, value in rows]

    def recorded_numbers(self, capture_id: int, schema: str) -> NDArray[np.int64]:
        """Return the sorted `capture_seq`s that the lake holds of a capture's rows of one schema."""
        pieces = [recorded_numbers(path, capture_id) for path, _ in self.files_of_capture(capture_id, schema)]
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *pieces]))


def row_crc32c_of(values: tuple[object, ...]) -> int:
    """Sum up a row's texts, integers and nulls, as they stand in the table."""
    return crc32c(repr(values).encode())


def rows_of(database: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield a table's rows without their checksums.

    Raises:
        sqlite3.DatabaseError: a row is not as it was written.
    """
    for *values, summed in database.execute(f"select * from {table}"):  # noqa: S608  # our own names
        if row_crc32c_of(tuple(values)) != summed:
            raise sqlite3.DatabaseError(f"a row of its table {table} is not as it was written")
        yield tuple(values)


def _check(database: sqlite3.Connection) -> None:
    """Make sure that the index is as it was written: its layout, its trees, every row; and that it takes more.

    Raises:
        sqlite3.DatabaseError: it is not.
        UnicodeDecodeError: it is not, and SQLite's complaint quotes the damage.
    """
    (state,) = database.execute("pragma integrity_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(state)
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_TABLES)
        if database.execute(_LAYOUT).fetchall() != fresh.execute(_LAYOUT).fetchall():
            raise sqlite3.DatabaseError("its tables are not those of this version")
    for table in _NAMES:
        for _ in rows_of(database, table):
            pass
    database.execute("begin immediate")  # refused where the file's header says that a later SQLite wrote it
    database.rollback()


def _speaks_of_the_disk(error: Exception, path: Path) -> bool:
    """Whether SQLite was refused by disk or locks, which say nothing of what the file holds."""
    if not isinstance(error, sqlite3.OperationalError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # text that is no UTF-8 has none
    if code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK):
        return False
    return code != sqlite3.SQLITE_ERROR


class IndexedFile(NamedTuple):
    """What the index says of one part."""

    schema: str
    date: str
    rows: int
    size_bytes: int
    crc32c: int
    captures: frozenset[int]


class Totals(NamedTuple):
    """What the index says of all parts of a schema."""

    files: int
    rows: int
    size_bytes: int


def read_totals(data_root: Path) -> dict[str, Totals]:
    """Return what the index says of each schema's parts, archived ones included; empty without an index.

    Reads only, beside a running daemon, and as much of a large lake as of a small one.

    Raises:
        LayoutError: the index does not read.
    """
    with reading(data_root) as database:
        if database is None:
            return {}
        if database.execute("select 1 from sqlite_master where name = 'totals'").fetchone():
            return {schema: Totals(*sums) for schema, *sums in rows_of(database, "totals")}
        sums: dict[str, Totals] = {}  # it is of before, and has them from the next start on
        for _, schema, _, _, _, _, rows, size, _ in rows_of(database, "files"):
            before = sums.get(schema, Totals(0, 0, 0))
            sums[schema] = Totals(before.files + 1, before.rows + rows, before.size_bytes + size)
        return sums


def read_files(data_root: Path) -> dict[str, IndexedFile]:
    """Return what the index says of every part, by its path below `bronze/`, also of an archived one; empty without.

    Reads only, beside a running daemon.

    Raises:
        LayoutError: the index does not read.
    """
    captures: dict[str, set[int]] = {}
    with reading(data_root) as database:
        if database is None:
            return {}
        files = list(rows_of(database, "files"))
        for relative, capture_id, *_ in rows_of(database, "file_captures"):
            captures.setdefault(relative, set()).add(capture_id)
    return {
        path: IndexedFile(schema, date, rows, size, crc, frozenset(captures.get(path, ())))
        for path, schema, _, date, _, _, rows, size, crc in files
    }


@contextmanager
def reading(data_root: Path) -> Iterator[sqlite3.Connection | None]:
    """Give the index, all its tables as of one moment, or None where there is none.

    Raises:
        LayoutError: the index does not read.
    """
    index = data_root / FILE_NAME
    if not index.exists():
        yield None
        return
    try:
        with closing(sqlite3.connect(f"{index.resolve().as_uri()}?mode=ro", timeout=30, uri=True)) as database:
            database.execute("begin")
            yield database
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise LayoutError(
            f"{index} does not read ({error}). It is only an index: nothing is lost. Next: spymaster catalog rebuild"
        ) from error


def rebuild(data_root: Path) -> str | None:
    """Make the catalog again from the files alone. The caller holds the locks.

    Returns:
        What `Catalog.strangers` says.

    Raises:
        UsageError: `catalog.db` is a folder.
    """
    path = _file(data_root)
    for suffix in ("", "-journal"):
        durable.remove(path.with_name(f"{FILE_NAME}{suffix}"))
    index = Catalog(data_root)
    index.close()
    return index.strangers


def _file(data_root: Path) -> Path:
    path = data_root / FILE_NAME
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder, where the lake's index would be. Nothing was changed. Next: move that folder away"
        )
    return path

"""An index of the lake in SQLite, rebuilt from the files at will. Nothing that matters lives only here.

Losing it loses nothing, so it may be behind the files but never ahead of them: a part is recorded once it is
durable, and opening the catalog takes in what a crash kept from being recorded. A catalog that does not read is moved
aside and made again.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from crc32c import crc32c
from numpy.typing import NDArray

from spymaster import durable, events
from spymaster.errors import LayoutError, SpymasterError, UsageError
from spymaster.lake.bronze import Part, list_parts, read_footer, recorded_numbers

FILE_NAME: Final = "catalog.db"

_TABLES: Final = """
create table if not exists files (
  path text primary key, schema text not null, partition_value text not null, date text not null, hour integer,
  segment text not null, rows integer not null, bytes integer not null, crc32c integer not null
) strict;
create table if not exists file_captures (
  path text not null, capture_id integer not null, rows integer not null,
  first_seq integer not null, last_seq integer not null, primary key (path, capture_id)
) strict;
create index if not exists captures_of_files on file_captures (capture_id);
create table if not exists captures (
  capture_id integer not null, event text not null, source text not null, origin text not null,
  content_sha256 text, complete integer not null, stream_rows text not null, detail text, ts_event_ns integer not null,
  path text not null
) strict;
create table if not exists gaps (
  gap_id integer not null, cause text not null, schema text not null, symbol text not null, capture_id integer,
  first_seq integer, last_seq integer, rows integer, detail text not null, path text not null
) strict;
"""


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
    """The index of one lake. Threads take turns."""

    def __init__(self, data_root: Path) -> None:
        """Open or create `catalog.db`, and take in the files that it does not know. The caller holds the locks.

        Raises:
            LayoutError: the lake is laid out otherwise.
            UsageError: `catalog.db` is a folder.
        """
        self._bronze = data_root / "bronze"
        durable.make_directories(data_root)
        self._turn = threading.RLock()
        path = _file(data_root)
        try:
            self._open(path)
        except sqlite3.DatabaseError as error:
            # Of operational errors only "no such column" speaks of what the file holds; the others of disk and locks.
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            durable.replace(path, path.with_name(f"{FILE_NAME}.damaged"))
            durable.remove(path.with_name(f"{FILE_NAME}-journal"))  # of the damaged one; it would spoil the new
            self._open(path)

    def _open(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        try:
            self._db.executescript(_TABLES)
            (state,) = self._db.execute("pragma quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            self.refresh()
        except (sqlite3.Error, SpymasterError, OSError):
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def refresh(self) -> None:
        """Make the index match the files: add what is missing, drop what is gone.

        A part that does not read is left out: its CRC32C would vouch for the damage. `verify` reports it.
        """
        known = {path for (path,) in self._all("select path from files")}
        present = dict(list_parts(self._bronze)) if self._bronze.is_dir() else {}
        parts = []
        for relative, partition in present.items():
            if relative not in known:
                data = durable.read(self._bronze / relative)
                if misread(self._bronze / relative) is not None:
                    continue
                footer = read_footer(self._bronze / relative)
                if footer.version != f"{partition.schema}.v{events.SCHEMAS[partition.schema].version}":
                    raise LayoutError(
                        f"{self._bronze / relative} holds {footer.version}, which this version does not read. Nothing "
                        f"was changed. Next: use the version of spymaster that wrote it"
                    )
                crc = crc32c(data)
                parts.append(Part(relative, partition, footer.segment, footer.rows, len(data), crc, footer.captures))
        with self._turn, self._db:
            for path in known - present.keys():
                for table in ("files", "file_captures", "captures", "gaps"):
                    self._db.execute(f"delete from {table} where path = ?", (path,))  # noqa: S608  # our own names
        self.record(parts)

    def record(self, parts: Iterable[Part]) -> None:
        """Add parts that are durable."""
        with self._turn, self._db:
            for part in parts:
                where = part.partition
                self._db.execute(
                    "insert or replace into files values (?,?,?,?,?,?,?,?,?)",
                    (part.relative, where.schema, where.value, where.date, where.hour,
                     part.segment, part.rows, part.size_bytes, part.crc32c),
                )  # fmt: skip
                self._db.executemany(
                    "insert or replace into file_captures values (?,?,?,?,?)",
                    [(part.relative, s.capture_id, s.rows, s.first_seq, s.last_seq) for s in part.captures],
                )
                if where.schema == events.SYSTEM_CAPTURES.name:
                    self._record_captures(part.relative)
                elif where.schema == events.SYSTEM_GAPS.name:
                    self._record_gaps(part.relative)

    def _columns(self, relative: str, names: list[str]) -> list[tuple[object, ...]]:
        """Read a part of our own events: a handful of rows."""
        rows = pq.read_table(self._bronze / relative, columns=names, partitioning=None).to_pydict()
        return list(zip(*(rows[name] for name in names), strict=True))

    def _record_captures(self, relative: str) -> None:
        names = ["of_capture_id", "event", "of_source", "origin", "content_sha256", "complete", "stream_rows",
                 "detail", "ts_event_ns"]  # fmt: skip
        for *head, stream_rows, detail, stamp in self._columns(relative, names):
            rows = json.dumps(dict(stream_rows))  # type: ignore[call-overload]  # a map column reads as pairs
            self._db.execute(
                "insert into captures values (?,?,?,?,?,?,?,?,?,?)", (*head, rows, detail, stamp, relative)
            )

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
        self._db.executemany("insert into gaps values (?,?,?,?,?,?,?,?,?,?)", [(*row, relative) for row in rows])

    def _all(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._turn:
            return self._db.execute(query, parameters).fetchall()

    def captures(self, capture_id: int | None = None) -> list[CaptureRecord]:
        """Return the begins and ends of captures, of one or of all, in the order of their times."""
        rows = self._all(
            "select capture_id, event, source, origin, content_sha256, complete, stream_rows, detail, ts_event_ns "
            "from captures where ?1 is null or capture_id = ?1 order by ts_event_ns, event",
            (capture_id,),
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
        return [(self._bronze / path, value) for path, value in rows]

    def recorded_numbers(self, capture_id: int, schema: str) -> NDArray[np.int64]:
        """Return the sorted `capture_seq`s that the lake holds of a capture's rows of one schema."""
        pieces = [recorded_numbers(path, capture_id) for path, _ in self.files_of_capture(capture_id, schema)]
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *pieces]))


def misread(part: Path, columns: list[str] | None = None) -> str | None:
    """Say why a part does not read, if it does not: all of it, each page against its checksum, or some columns."""
    try:
        pq.read_table(part, columns=columns, partitioning=None, page_checksum_verification=True)
        read_footer(part)
    except (pa.ArrowException, OSError, LayoutError) as error:
        return str(error)
    return None


class IndexedFile(NamedTuple):
    """What the index says of one part."""

    schema: str
    date: str
    rows: int
    size_bytes: int
    crc32c: int
    captures: frozenset[int]


def read_files(data_root: Path) -> dict[str, IndexedFile]:
    """Return what the index says of every part, by its path below `bronze/`; empty where there is no index.

    Reads only, beside a running daemon.

    Raises:
        LayoutError: the index does not read.
    """
    index = data_root / FILE_NAME
    if not index.exists():
        return {}
    captures: dict[str, set[int]] = {}
    try:
        with closing(sqlite3.connect(f"{index.resolve().as_uri()}?mode=ro", timeout=30, uri=True)) as database:
            database.execute("begin")  # both tables as of one moment
            files = database.execute("select path, schema, date, rows, bytes, crc32c from files").fetchall()
            for relative, capture_id in database.execute("select path, capture_id from file_captures"):
                captures.setdefault(relative, set()).add(capture_id)
    except sqlite3.Error as error:
        raise LayoutError(
            f"{index} does not read ({error}). It is only an index: nothing is lost. Next: spymaster catalog rebuild"
        ) from error
    return {
        path: IndexedFile(schema, date, rows, size, crc, frozenset(captures.get(path, ())))
        for path, schema, date, rows, size, crc in files
    }


def rebuild(data_root: Path) -> None:
    """Make the catalog again from the files alone. The caller holds the locks.

    Raises:
        UsageError: `catalog.db` is a folder.
    """
    path = _file(data_root)
    for suffix in ("", "-journal"):
        durable.remove(path.with_name(f"{FILE_NAME}{suffix}"))
    Catalog(data_root).close()


def _file(data_root: Path) -> Path:
    path = data_root / FILE_NAME
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder, where the lake's index would be. Nothing was changed. Next: move that folder away"
        )
    return path

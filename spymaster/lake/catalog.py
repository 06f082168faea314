"""An index of the lake in SQLite, rebuilt from the files at will. Nothing that matters lives only here.

Losing it loses nothing, so it may be behind the files but never ahead of them: a part is recorded once it is
durable, and opening the catalog takes in what a crash kept from being recorded.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from crc32c import crc32c
from numpy.typing import NDArray

from spymaster import durable, events
from spymaster.errors import LayoutError
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
        """
        self._bronze = data_root / "bronze"
        durable.make_directories(data_root)
        self._turn = threading.RLock()
        self._db = sqlite3.connect(data_root / FILE_NAME, timeout=30, check_same_thread=False)
        self._db.executescript(_TABLES)
        self.refresh()

    def close(self) -> None:
        self._db.close()

    def refresh(self) -> None:
        """Make the index match the files: add what is missing, drop what is gone."""
        known = {path for (path,) in self._all("select path from files")}
        present = dict(list_parts(self._bronze)) if self._bronze.is_dir() else {}
        parts = []
        for relative, partition in present.items():
            if relative not in known:
                segment, spans, rows, version = read_footer(self._bronze / relative)
                if version != f"{partition.schema}.v{events.SCHEMAS[partition.schema].version}":
                    raise LayoutError(
                        f"{self._bronze / relative} holds {version}, which this version does not read. Nothing was "
                        f"changed. Next: use the version of spymaster that wrote it"
                    )
                data = durable.read(self._bronze / relative)
                parts.append(Part(relative, partition, segment, rows, len(data), crc32c(data), spans))
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


class IndexedFile(NamedTuple):
    """What the index says of one part."""

    schema: str
    rows: int
    size_bytes: int
    crc32c: int


def read_files(data_root: Path) -> dict[str, IndexedFile]:
    """Return what the index says of every part, by its path below `bronze/`; empty where there is no index.

    Reads only, beside a running daemon.
    """
    path = data_root / FILE_NAME
    if not path.exists():
        return {}
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", timeout=30, uri=True)
    try:
        rows = database.execute("select path, schema, rows, bytes, crc32c from files").fetchall()
        return {relative: IndexedFile(*rest) for relative, *rest in rows}
    finally:
        database.close()


def rebuild(data_root: Path) -> None:
    """Make the catalog again from the files alone. The caller holds the locks."""
    for suffix in ("", "-journal"):
        durable.remove(data_root / f"{FILE_NAME}{suffix}")
    Catalog(data_root).close()

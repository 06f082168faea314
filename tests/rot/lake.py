"""Rot in the lake: what a damaged part or a damaged index may do, and what it must not."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import durable, events
from spymaster.errors import LayoutError
from spymaster.events import Stream
from spymaster.lake import bronze, catalog
from spymaster.lake.bronze import Part, flush_segment
from spymaster.lake.catalog import Catalog, read_files, rebuild
from spymaster.lake.layout import find_parts
from spymaster.proof.files import audit_files
from spymaster.proof.verdict import Verdict
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.crash.scratch import MEMORY_FOLDER
from tests.rot.audit import Finding
from tests.rows import NOON_NS, numbered

CAPTURE = 5


class Lake(NamedTuple):
    """A small lake, and what is true of it.

    Attributes:
        root: its folder.
        part: one of its parts.
        part_raw: that part's bytes.
        part_rows: that part's rows.
        index_raw: the bytes of its catalog as of before its last part came.
        index: what its catalog says once it has taken in that part.
        files: what readers of the bytes `index_raw` are told.
    """

    root: Path
    part: Path
    part_raw: bytes
    part_rows: pa.Table
    index_raw: bytes
    index: list[str]
    files: dict[str, catalog.IndexedFile]

    @property
    def index_path(self) -> Path:
        return self.root / catalog.FILE_NAME

    @property
    def aside(self) -> Path:
        return self.root / f"{catalog.FILE_NAME}.damaged"

    def put_index(self, raw: bytes) -> None:
        self.aside.unlink(missing_ok=True)
        self.index_path.with_name(f"{catalog.FILE_NAME}-journal").unlink(missing_ok=True)
        self.index_path.write_bytes(raw)


@contextmanager
def small_lake() -> Iterator[Lake]:
    """Make a lake of four parts in the catalog and a fifth that it does not know yet."""
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        root = Path(folder)
        index = Catalog(root)
        flushed = [("futures.trades", 0), ("futures.trades", 10), ("system.captures", 0), ("system.gaps", 0)]
        for schema, start in flushed:
            index.record(_flush(root, schema, start))
        index.close()
        index_raw = (root / catalog.FILE_NAME).read_bytes()
        files = read_files(root)
        _flush(root, "futures.trades", 20)
        rebuild(root)
        part = root / "bronze" / min(path for path in files if path.startswith("futures"))
        yield Lake(root, part, part.read_bytes(), read_part(part), index_raw, dump(root), files)


def _flush(root: Path, schema: str, start: int) -> list[Part]:
    symbol = events.SYSTEM_SYMBOL if schema.startswith("system.") else "ES"
    rows = numbered(events.SCHEMAS[schema], 10, start, CAPTURE, symbol)
    path = root / "segment.arrow"
    path.write_bytes(encode_segment(Header.new(Stream(schema, symbol), 1, NOON_NS), rows, None))
    parts = flush_segment(root / "bronze", read_sealed(path), again=False)
    path.unlink()
    return parts


def dump(root: Path) -> list[str]:
    """Return all that a catalog holds, as text."""
    with closing(sqlite3.connect(root / catalog.FILE_NAME)) as database:
        return sorted(database.iterdump())


def read_part(part: Path) -> pa.Table:
    return pq.read_table(part, partitioning=None)


def audit_index(lake: Lake, damaged: bytes) -> Finding | None:
    """Read a damaged catalog, open it, let it take in a part; it must say nothing wrong before and all of it after."""
    lake.put_index(damaged)
    try:
        told = read_files(lake.root)
    except LayoutError:
        told = {}  # one line that names the next step
    for path, file in told.items():
        if lake.files.get(path) != file:
            return Finding("invented", f"the reader of the index is told {path}: {file}")
    Catalog(lake.root).close()
    try:
        says = dump(lake.root)
    except sqlite3.Error as error:
        return Finding("undetected", f"the catalog was opened and does not read: {error}")
    if says != lake.index:
        return Finding("undetected", f"the catalog says {sorted({*says} ^ {*lake.index})[:2]}")
    return None


def audit_part(lake: Lake, damaged: bytes) -> Finding | None:
    """Compare a damaged part with what the catalog knows of it, as `verify` does with every part."""
    lake.part.write_bytes(damaged)
    bronze, verdict = lake.root / "bronze", Verdict()
    relative = lake.part.relative_to(bronze).as_posix()
    parts = {path: partition for path, partition in find_parts(lake.root).parts.items() if path == relative}
    try:
        sound = audit_files(lake.root, parts, lake.files, {}, verdict, None, 1)
    finally:
        lake.part.write_bytes(lake.part_raw)
    if sound or not any(relative in line for line in verdict.findings):
        return Finding("undetected", f"verify says {verdict.findings} of a damaged part")
    return None


def seen_without_catalog(lake: Lake, damaged: bytes) -> Literal["refused", "same rows", "other rows"]:
    """Read a damaged part by its own checksums alone."""
    lake.part.write_bytes(damaged)
    try:
        if bronze.misread(lake.part, durable.read(lake.part)) is not None:
            return "refused"
        return "same rows" if read_part(lake.part).equals(lake.part_rows) else "other rows"
    finally:
        lake.part.write_bytes(lake.part_raw)

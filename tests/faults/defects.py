"""Defects planted in a child, one at a time, to show that the checks can fail: each says what it breaks."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster import durable
from spymaster.compaction import by_columns, compactor
from spymaster.lake import bronze, layout, silver
from spymaster.lake.bronze import Part
from spymaster.recording import flush as flush_module
from spymaster.wal.sealed import SealedSegment, read_sealed
from spymaster.wal.segment_writer import SegmentWriter


def acknowledge_before_sync() -> None:
    """Take a failed sync for a good one: what it was to make durable is acknowledged, and lost with its pages."""

    def sync(self: SegmentWriter) -> None:
        target = self.next_row
        with suppress(OSError):
            durable.sync(self._file)
        self.durable_row = target

    SegmentWriter.sync = sync  # type: ignore[method-assign]


def retire_before_publish() -> None:
    """Remove a segment first and write its Bronze afterwards: a kill between the two loses all its rows."""

    def publish_afterwards(folder: Path, segment: SealedSegment, *, again: bool) -> list[Part]:
        held = segment.path.with_name(f".{segment.path.name}.held")  # a name that no recovery reads
        segment.path.rename(held)
        parts = bronze.flush_segment(folder, read_sealed(held), again=again)
        held.unlink()
        return parts

    flush_module.flush_segment = publish_afterwards  # type: ignore[attr-defined]


def publish_in_place() -> None:
    """Write parts under their final names: a kill leaves a torn file where readers look."""

    def publish(data: bytes | memoryview, target: Path) -> None:
        descriptor = durable.create(target)
        try:
            durable.write_fully(descriptor, data, 0)
            durable.sync(descriptor)
        finally:
            durable.close(descriptor)
        durable.sync_directory(target.parent)

    durable.publish = publish


def publish_again() -> None:
    """Let recovery publish rows without asking whether they are in Bronze already: they stand there twice."""

    def missing(folder: Path, rows: pa.Table) -> pa.Table:
        return rows

    bronze._missing = missing


def publish_other_prices() -> None:
    """Change a value of each row on its way to Bronze."""
    encode = bronze.encode

    def encode_others(columns: pa.Schema, rows: pa.Table, *more: Any) -> memoryview:
        if "price" in rows.column_names:
            at = rows.schema.get_field_index("price")
            rows = rows.set_column(at, rows.schema.field(at), pc.add(rows["price"], 0.25))
        return encode(columns, rows, *more)

    bronze.encode = encode_others  # type: ignore[attr-defined]


def lock_nothing() -> None:
    """Let everyone in: two processes write one log."""

    @contextmanager
    def lock_directory(path: Path) -> Iterator[None]:
        durable.make_directories(path)
        (path / ".holder").write_text(f"{os.getpid()}\n")
        yield

    durable.lock_directory = lock_directory


def publish_silver_in_place() -> None:
    """Write Silver under its final name: readers see it while it grows, and a kill leaves it torn."""

    @contextmanager
    def replacing(target: Path) -> Iterator[Path]:
        yield target

    durable.replacing = replacing


def publish_silver_unfinished() -> None:
    """Give a draft its name before it is complete."""
    real = silver.writer

    def writer(draft: Path, *more: Any) -> pq.ParquetWriter:
        file = real(draft, *more)
        _name_at_once(draft)
        return file

    silver.writer = writer  # type: ignore[assignment]


def publish_silver_unproven() -> None:
    """Give a draft its name before it was compared with Bronze, and make drafts that lost a row."""
    conserved, keep_once = compactor.Check.conserved, by_columns.keep_once

    def publish_first(self: compactor.Check, parts: Sequence[Path], draft: Path) -> None:
        _name_at_once(draft)
        conserved(self, parts, draft)

    def forgetful(*arguments: Any) -> by_columns.Once:
        once = keep_once(*arguments)
        return once._replace(kept=once.kept[1:], late=once.late[1:])

    compactor.Check.conserved = publish_first  # type: ignore[method-assign]
    by_columns.keep_once = forgetful


def forget_drafts() -> None:
    """Give each draft a name of its own, so that none takes away what a killed run left."""

    @contextmanager
    def replacing(target: Path) -> Iterator[Path]:
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        yield draft
        durable.replace(draft, target)

    durable.replacing = replacing


def _name_at_once(draft: Path) -> None:
    other = draft.with_suffix(".named")
    os.link(draft, other)
    other.rename(draft.with_name(layout.SILVER_FILE))


PLANT: dict[str, Callable[[], None]] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        acknowledge_before_sync,
        retire_before_publish,
        publish_in_place,
        publish_again,
        publish_other_prices,
        lock_nothing,
        publish_silver_in_place,
        publish_silver_unfinished,
        publish_silver_unproven,
        forget_drafts,
    )
}

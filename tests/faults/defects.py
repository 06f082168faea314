"""Defects planted in a child, one at a time, to show that the checks can fail: each says what it breaks."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from spymaster import durable
from spymaster.lake import bronze, recorder
from spymaster.lake.bronze import Part
from spymaster.wal.writer import SegmentWriter


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

    def flush(folder: Path, segment: Path, *, again: bool) -> list[Part]:
        held = segment.with_name(f".{segment.name}.held")  # a name that no recovery reads
        segment.rename(held)
        parts = bronze.flush_segment(folder, held, again=again)
        held.unlink()
        return parts

    recorder.flush_segment = flush  # type: ignore[attr-defined]


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


def lock_nothing() -> None:
    """Let everyone in: two processes write one log."""

    @contextmanager
    def lock_directory(path: Path) -> Iterator[None]:
        durable.make_directories(path)
        (path / ".holder").write_text(f"{os.getpid()}\n")
        yield

    durable.lock_directory = lock_directory


PLANT: dict[str, Callable[[], None]] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        acknowledge_before_sync,
        retire_before_publish,
        publish_in_place,
        publish_again,
        lock_nothing,
    )
}

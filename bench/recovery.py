"""Claim: a crash's 256 MB segment is verified, salvaged and durable in Bronze within 5 seconds.

Unsealed, as a kill leaves it, and not in the page cache, as after a power cut. Baseline: copying the same bytes to
another file and syncing it.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.market import START_NS, delivered
from bench.rounds import Figures, interleave, report
from spymaster import events
from spymaster.events import EventSchema, Stream
from spymaster.lake.catalog import Catalog
from spymaster.recording.recovery import recover
from spymaster.wal.writer import StreamLog

ROUNDS = 3
SEGMENT_BYTES = 256 << 20
FRAME_ROWS = 1_000


def killed_segment(folder: Path, schema: EventSchema) -> tuple[Path, int]:
    """Leave an unsealed segment of 256 MB; return it and its rows."""
    table = delivered(schema, 100_000)
    stamp = table.schema.get_field_index("ts_event_ns")
    log = StreamLog(folder, Stream(schema.name, "ES"), 1 << 40)
    path = folder / f"{schema.name.replace('.', '_')}_ES.arrow"
    rows = 0
    while path.stat().st_size < SEGMENT_BYTES:
        piece = table.slice(rows % 100_000, FRAME_ROWS).combine_chunks()
        stamps = pa.array(START_NS + np.arange(rows, rows + FRAME_ROWS) * 1_000_000)  # on and on, as a market's
        piece = piece.set_column(stamp, "ts_event_ns", stamps)
        keys = (pa.array(np.ones(FRAME_ROWS, dtype=np.int64)), pa.array(np.arange(rows, rows + FRAME_ROWS)))
        log.append(pa.RecordBatch.from_arrays([*(c.combine_chunks() for c in piece.columns), *keys], schema=schema.log))
        rows += FRAME_ROWS
    log.commit()
    log.close()
    return path, rows


def recovery(segment: Path, rows: int) -> Figures:
    """Recover a copy of the segment in a fresh log and lake."""
    with tempfile.TemporaryDirectory(dir=segment.parent) as folder:
        root = Path(folder)
        (root / "wal").mkdir()
        cold_copy(segment, root / "wal" / segment.name)
        began = time.perf_counter()
        catalog = Catalog(root / "lake")
        recovered = recover(root / "wal", catalog, root / "lake" / "bronze", run_capture=2)
        seconds = time.perf_counter() - began
        catalog.close()
        assert recovered.rows == rows
    return {"rows_per_s": rows / seconds, "seconds": seconds}


def copying(segment: Path, rows: int) -> Figures:
    with tempfile.TemporaryDirectory(dir=segment.parent) as folder:
        source = Path(folder, "source")
        cold_copy(segment, source)
        began = time.perf_counter()
        durable_copy(source, Path(folder, "copy"))
        seconds = time.perf_counter() - began
    return {"rows_per_s": rows / seconds, "seconds": seconds}


def cold_copy(source: Path, target: Path) -> None:
    durable_copy(source, target)
    if hasattr(os, "posix_fadvise"):
        with target.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def durable_copy(source: Path, target: Path) -> None:
    with source.open("rb") as original, target.open("wb") as copy:
        shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())


def measure(rounds: int) -> dict[str, object]:
    """Return the figures of both kinds of rows."""
    results: dict[str, object] = {}
    for schema in (events.FUTURES_TRADES, events.FUTURES_MBP10):
        with tempfile.TemporaryDirectory() as folder:
            segment, rows = killed_segment(Path(folder), schema)
            results[schema.name] = interleave(
                lambda s=segment, r=rows: recovery(s, r),  # type: ignore[misc]
                lambda s=segment, r=rows: copying(s, r),  # type: ignore[misc]
                rounds,
            )
    return results


if __name__ == "__main__":
    report("Recovery of a 256 MB segment", measure(ROUNDS))

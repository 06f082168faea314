"""Claim: a sealed segment becomes durable Bronze at 500,000 trades/s and more.

Baseline: the same rows by pyarrow's `write_table` with its defaults (zstd), not synced.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.market import START_NS, delivered
from bench.rounds import Figures, interleave, report
from spymaster import events
from spymaster.events import EventSchema, Stream
from spymaster.lake.bronze import flush_segment
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment

ROUNDS = 5


def flush(schema: EventSchema, rows: pa.Table) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        segment = Path(folder, "sealed.arrow")
        segment.write_bytes(encode_segment(Header.new(Stream(schema.name, "ES"), 1, START_NS), rows, None))
        began = time.perf_counter()
        parts = flush_segment(Path(folder, "bronze"), read_sealed(segment), again=False)
        seconds = time.perf_counter() - began
    return {"rows_per_s": rows.num_rows / seconds, "bytes_per_row": sum(p.size_bytes for p in parts) / rows.num_rows}


def defaults(rows: pa.Table) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.parquet")
        began = time.perf_counter()
        pq.write_table(rows, path, compression="zstd")
        seconds = time.perf_counter() - began
        return {"rows_per_s": rows.num_rows / seconds, "bytes_per_row": path.stat().st_size / rows.num_rows}


def main() -> None:
    results: dict[str, object] = {}
    for schema, count in ((events.FUTURES_TRADES, 500_000), (events.FUTURES_MBP10, 200_000)):
        table = delivered(schema, count)
        keys = [pa.array(np.ones(count, dtype=np.int64)), pa.array(np.arange(count))]
        rows = pa.Table.from_arrays([*table.columns, *keys], schema=schema.log).combine_chunks()
        results[schema.name] = interleave(
            lambda s=schema, r=rows: flush(s, r),  # type: ignore[misc]
            lambda r=rows: defaults(r),  # type: ignore[misc]
            ROUNDS,
        )
    report("Bronze flush", results)


if __name__ == "__main__":
    main()

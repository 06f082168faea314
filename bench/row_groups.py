"""Claim: row groups of 128,000 rows cost half a percent of bytes beside groups of 64 MB, and a minute reads faster.

An hour of one symbol as Silver writes it, with the row groups of today and with groups of 64 MB before compression, in
two files. An hour and a minute of three columns out of each, by pyarrow on one thread, which reads the groups and the
pages that may hold the span.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from bench.market import START_NS, delivered
from bench.rounds import Figures, interleave, report
from spymaster import clock
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, EventSchema
from spymaster.lake import parquet
from spymaster.lake.parquet import ROW_GROUP_ROWS

ROUNDS = 11
GROUP_BYTES = 64 << 20
HOURS = {FUTURES_TRADES: (2_170_000, ["ts_event_ns", "price", "size"]),
         FUTURES_MBP10: (1_000_000, ["ts_event_ns", "bid_px_1", "ask_px_1"])}  # fmt: skip


def hour_of(schema: EventSchema, count: int) -> pa.Table:
    """Return `count` rows spread over an hour, as they stand in the log."""
    rows = delivered(schema, count)
    stamps = pa.array(START_NS + np.linspace(0, clock.NS_PER_HOUR - 1, count).astype(np.int64))
    rows = rows.set_column(0, rows.schema.field(0), stamps)
    keys = [pa.array(np.ones(count, np.int64)), pa.array(np.arange(count))]
    return pa.Table.from_arrays([*rows.columns, *keys], schema=schema.log)


def written(path: Path, schema: EventSchema, rows: pa.Table, group_rows: int) -> Path:
    with parquet.writer(path, schema.log, ["ts_event_ns"]) as file:
        file.write_table(rows, row_group_size=group_rows)
    return path


def reading(path: Path, columns: list[str], span_ns: int) -> Callable[[], Figures]:
    wanted = ds.field("ts_event_ns") < START_NS + span_ns

    def read() -> Figures:
        began = time.perf_counter()
        rows = ds.dataset(path, format="parquet").to_table(columns=columns, filter=wanted, use_threads=False)
        seconds = time.perf_counter() - began
        return {"milliseconds": seconds * 1e3, "rows_per_s": rows.num_rows / seconds}

    return read


def main() -> None:
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for schema, (count, columns) in HOURS.items():
            rows = hour_of(schema, count)
            ours = written(Path(folder, "ours"), schema, rows, ROW_GROUP_ROWS)
            group = pq.read_metadata(ours).row_group(0)
            large_rows = GROUP_BYTES * group.num_rows // group.total_byte_size
            large = written(Path(folder, "large"), schema, rows, large_rows)
            results[schema.name] = {
                "rows in a group": {"measured": ROW_GROUP_ROWS, "baseline": large_rows},
                "MB of a group before compression": round(group.total_byte_size / 1e6, 1),
                "bytes a row": {
                    "measured": round(ours.stat().st_size / count, 2),
                    "baseline": round(large.stat().st_size / count, 2),
                },
                **{
                    name: interleave(reading(ours, columns, span_ns), reading(large, columns, span_ns), ROUNDS)
                    for name, span_ns in (("an hour", clock.NS_PER_HOUR), ("a minute", 60 * clock.NS_PER_SECOND))
                },
            }
    report("row groups of 128,000 rows, and of 64 MB", results)


if __name__ == "__main__":
    main()

"""Claim: to publish 100 books to four readers that lag takes less time than to ask for their `nbytes` once.

With their bytes counted, positions kept, and as many rows dropped as come. Baseline: `nbytes` of the same batches.
"""

import time

import numpy as np
import pyarrow as pa

from bench.market import delivered
from bench.rounds import Figures, interleave, report
from spymaster.bus import Bus
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, EventSchema, Stream

ROUNDS = 7
BATCHES = 1_000
BATCH_ROWS = 100
READERS = 4


def batches_of(schema: EventSchema) -> list[pa.RecordBatch]:
    rows = BATCHES * BATCH_ROWS
    keys = pa.array(np.ones(rows, np.int64)), pa.array(np.arange(rows))
    table = pa.table([*delivered(schema, rows).columns, *keys], schema=schema.log).combine_chunks()
    return [table.slice(start, BATCH_ROWS).to_batches()[0] for start in range(0, rows, BATCH_ROWS)]


def publish(stream: Stream, batches: list[pa.RecordBatch]) -> Figures:
    bus = Bus(max_bytes=1 << 20)
    readers = [bus.subscribe() for _ in range(READERS)]
    began = time.perf_counter()
    for batch in batches:
        bus.publish(stream, [batch])
    seconds = time.perf_counter() - began
    assert all(reader.dropped_rows for reader in readers)
    return figures(seconds)


def ask_nbytes(batches: list[pa.RecordBatch]) -> Figures:
    began = time.perf_counter()
    assert sum(batch.nbytes for batch in batches)
    return figures(time.perf_counter() - began)


def figures(seconds: float) -> Figures:
    return {"rows_per_s": BATCHES * BATCH_ROWS / seconds, "us_per_batch": 1e6 * seconds / BATCHES}


def main() -> None:
    found = {}
    for schema in (FUTURES_TRADES, FUTURES_MBP10):
        stream, batches = Stream(schema.name, "ES"), batches_of(schema)
        found[schema.name] = interleave(
            lambda stream=stream, batches=batches: publish(stream, batches),
            lambda batches=batches: ask_nbytes(batches),
            ROUNDS,
        )
    report(f"to publish {BATCH_ROWS} books to {READERS} readers that lag takes less time than their nbytes", found)


if __name__ == "__main__":
    main()

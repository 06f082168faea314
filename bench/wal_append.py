"""Claim: the log takes 500,000 trades/s and 200,000 MBP-10/s, call p99 below 1 ms, at a group commit of 5 ms.

`as fast as it goes` gives the rate, beside a baseline: the same bytes by `pwrite` to one file, synced as often. `paced`
gives the call's latency at the rate of the claim.
"""

import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.market import delivered
from bench.rounds import Figures, interleave, report, spread
from spymaster import events
from spymaster.events import EventSchema, Stream
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.segment import FrameEncoder
from spymaster.wal.writer import StreamLog

SYNC_S = 0.005
ROUNDS = 5


def append(schema: EventSchema, batches: list[pa.RecordBatch], rows_per_s: float = 0) -> Figures:
    """Append every batch, at a rate or as fast as it goes, while another thread commits each 5 ms."""
    with tempfile.TemporaryDirectory() as folder:
        log = StreamLog(Path(folder), Stream(schema.name, "ES"), 256 << 20)
        rows = CaptureRows(log, 1)
        durable_s: list[float] = []
        done = threading.Event()

        def commit() -> None:
            while not done.wait(SYNC_S):
                began = time.perf_counter()
                log.commit()
                durable_s.append(time.perf_counter() - began)

        committer = threading.Thread(target=commit)
        committer.start()
        calls = np.empty(len(batches))
        began = time.perf_counter()
        for number, batch in enumerate(batches):
            if rows_per_s:
                time.sleep(max(0.0, began + rows.next_seq / rows_per_s - time.perf_counter()))
            call = time.perf_counter()
            rows.append(batch)
            calls[number] = time.perf_counter() - call
        done.set()
        committer.join()
        log.commit()
        seconds = time.perf_counter() - began
        log.close()
    return {
        "rows_per_s": rows.next_seq / seconds,
        "call_p50_us": float(np.percentile(calls, 50)) * 1e6,
        "call_p99_us": float(np.percentile(calls, 99)) * 1e6,
        "commit_p99_ms": float(np.percentile(durable_s, 99)) * 1e3 if durable_s else 0.0,
    }


def raw(frames: list[bytes], rows: int) -> Figures:
    """Write the same bytes, with the same syncs."""
    with tempfile.NamedTemporaryFile() as file:
        done = threading.Event()

        def commit() -> None:
            while not done.wait(SYNC_S):
                os.fdatasync(file.fileno())

        committer = threading.Thread(target=commit)
        committer.start()
        began = time.perf_counter()
        at = 0
        for frame in frames:
            at += os.pwrite(file.fileno(), frame, at)
        done.set()
        committer.join()
        os.fdatasync(file.fileno())
        return {"rows_per_s": rows / (time.perf_counter() - began)}


def main() -> None:
    results: dict[str, object] = {}
    for schema, rows, claimed in (
        (events.FUTURES_TRADES, 2_000_000, 500_000),
        (events.FUTURES_MBP10, 400_000, 200_000),
    ):
        for per_batch in (1_000, 100):
            table = delivered(schema, rows if per_batch == 1_000 else rows // 10)
            batches = table.to_batches(max_chunksize=per_batch)
            keys = [pa.array(np.zeros(batches[0].num_rows, dtype=np.int64))] * 2
            first = pa.RecordBatch.from_arrays([*batches[0].columns, *keys], schema=schema.log)
            frame = FrameEncoder(schema.log).encode(
                first, kind="data", segment="0" * 32, first_row=0, durable_row=0, prev=0
            )[0]
            frames = [bytes(frame)] * len(batches)
            name = f"{schema.name}, {per_batch} rows a batch"
            results[f"{name}, paced at {claimed:,} rows/s"] = spread(
                [append(schema, batches, claimed) for _ in range(ROUNDS)]
            )
            results[f"{name}, as fast as it goes"] = interleave(
                lambda s=schema, b=batches: append(s, b),  # type: ignore[misc]
                lambda f=frames, n=table.num_rows: raw(f, n),  # type: ignore[misc]
                ROUNDS,
            )
    report("WAL append at a group commit of 5 ms", results)


if __name__ == "__main__":
    main()

"""Claim: one core accounts a contract's book at 1 M rows a second in numba and 400,000 in numpy, in 60 MB.

From decoded columns, a snap of 250 ms after another, at 2,000 and 20,000 rows a second of event time; the same in both
bodies, of which the numpy one is the baseline. A snap is its rows' work and what leaves the windows; beside it a snap
without rows, and what 40 levels of five prices ask of it. From record batches: pieces of 430 rows that came in the
wrong order, sorted, into numba (claim: 200,000 a second). Compiling: in a new process with an empty cache, and again.
Of snaps the thread's processor time is given beside the wall's, in which the machine's others stand too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.market import SEED, START_NS
from bench.rounds import Figures, interleave, report
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.ledger import SNAP_NS, WINDOWS_S, Body, Ledger, account, fastest_body
from spymaster.engines.rows import SIDES, BookRows, book_rows
from spymaster.events import FUTURES_MBP10
from spymaster.normalize.open import normalizer_of
from spymaster.simulation.source import SimulatedMarket, dbn_info

ROUNDS = 5
RATES = {2_000: 780, 20_000: 3_000}  # of the front month's rows, and of the simulated market, which is busy at the open
ROWS = 200_000
PIECE_ROWS = 430
LEVELS, ZONE = 40, 5
COMPILES = """
import time
from spymaster.engines import ledger_compiled
began = time.perf_counter()
ledger_compiled.load()
print(time.perf_counter() - began)
"""

Snaps = list[tuple[int, BookRows]]


def logged(rate: int) -> tuple[pa.Table, str]:
    """Return a simulated market's books as they stand in the log, and the contract that most are of."""
    market = SimulatedMarket(SEED, rate, START_NS)
    info = dbn_info(market)
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=info.simulated)
    batches: list[pa.RecordBatch] = []
    for block in market.blocks():
        batches += [batch for schema, batch in normalizer.normalize([(block, START_NS)]).batches
                    if schema is FUTURES_MBP10]  # fmt: skip
        if sum(batch.num_rows for batch in batches) >= ROWS:
            break
    table = pa.Table.from_batches(batches)
    keys = pa.array(np.ones(table.num_rows, np.int64)), pa.array(np.arange(table.num_rows))
    counts = {one["values"]: one["counts"] for one in table.column("contract").value_counts().to_pylist()}
    whole = pa.table([*table.columns, *keys], schema=FUTURES_MBP10.log).combine_chunks()
    return whole, max(counts, key=lambda contract: counts[contract])


def in_snaps(rows: BookRows) -> Snaps:
    ends = np.arange(-(-rows.ts_ns[0] // SNAP_NS), -(-rows.ts_ns[-1] // SNAP_NS) + 1) * SNAP_NS
    cuts = np.searchsorted(rows.ts_ns, ends, side="right")
    return [(int(end), rows.take(slice(begin, cut)))
            for end, begin, cut in zip(ends, [0, *cuts[:-1]], cuts, strict=True)]  # fmt: skip


def columns(body: Body, snaps: Snaps) -> Figures:
    """Work decoded columns."""
    ledger, took = Ledger(body), []
    began, worked = time.perf_counter(), time.process_time()
    for snap, rows in snaps:
        since = now()
        ledger.work(rows, snap)
        took.append(now() - since)
    count = sum(len(rows.ts_ns) for _, rows in snaps)
    figures = rates(count, time.perf_counter() - began, time.process_time() - worked) | tail("snap", took)
    return figures | quiet(ledger, snaps[-1][0])


def quiet(ledger: Ledger, snap: int) -> Figures:
    """Time snaps without rows, and what their levels ask."""
    advanced, asked = [], []
    prices = np.arange(LEVELS * ZONE) + int(ledger.book.px[0, 0]) - LEVELS * ZONE // 2 if ledger.book else np.arange(0)
    for number in range(1, 200):
        since = now()
        ledger.advance(snap + number * SNAP_NS)
        advanced.append(now() - since)
        since = now()
        for side in SIDES:
            for window_s in WINDOWS_S:
                ledger.sums(side, prices, window_s)
        asked.append(now() - since)
    return tail("quiet_snap", advanced) | tail("sums_of_40_levels", asked)


def from_batches(table: pa.Table, contract: str, *, in_order: bool) -> Figures:
    """Decode the pieces of each snap, sort where needed, and work the rows."""
    times = table.column("ts_event_ns").to_numpy()
    ends = np.arange(-(-times.min() // SNAP_NS), -(-times.max() // SNAP_NS) + 1) * SNAP_NS
    cuts = np.searchsorted(np.maximum.accumulate(times), ends, side="right")
    ledger, took, count = Ledger(), [], 0
    began, worked = time.perf_counter(), time.process_time()
    for end, begin, cut in zip(ends.tolist(), [0, *cuts[:-1]], cuts, strict=True):
        pieces = table.slice(begin, cut - begin).to_batches(max_chunksize=PIECE_ROWS)
        since = now()
        rows, _ = book_rows(pieces if in_order else pieces[::-1], contract, 0.25)
        ledger.work(rows, end)
        took.append(now() - since)
        count += cut - begin
    return rates(count, time.perf_counter() - began, time.process_time() - worked) | tail("snap", took)


def rates(count: int, wall_s: float, cpu_s: float) -> Figures:
    return {"rows_per_s": count / wall_s, "rows_per_cpu_s": count / cpu_s}


def now() -> NDArray[np.float64]:
    """Return the wall's time and this thread's processor time."""
    return np.array([time.perf_counter(), time.thread_time()])


def tail(name: str, took: list[NDArray[np.float64]]) -> Figures:
    return {
        f"{name}_p{share}_{clock}ms": 1e3 * float(seconds)
        for share in (50, 99)
        for clock, seconds in zip(("", "cpu_"), np.percentile(took, share, axis=0), strict=True)
    }


def compiling() -> dict[str, float]:
    """Return how long a new process compiles, and how long it takes what is kept."""
    cold, kept = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            for seconds in (cold, kept):
                env = os.environ | {"NUMBA_CACHE_DIR": folder}
                done = subprocess.run([sys.executable, "-c", COMPILES], env=env, check=True, capture_output=True)
                seconds.append(float(done.stdout))
    return {"cold_s": round(statistics.median(cold), 2), "from_cache_s": round(statistics.median(kept), 2)}


def megabytes() -> float:
    fastest_body()
    tracemalloc.start()
    ledger = Ledger()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ledger.book is None
    return round(held / 1e6, 1)


def main() -> None:
    results: dict[str, object] = {"megabytes_of_a_ledger": megabytes(), "compiling": compiling()}
    for rate, busy in RATES.items():
        table, contract = logged(busy)
        rows, _ = book_rows(table.to_batches(), contract, 0.25)
        snaps = in_snaps(rows)
        seconds = (rows.ts_ns[-1] - rows.ts_ns[0]) / NS_PER_SECOND
        found: dict[str, object] = {"rows_per_s_of_event_time": round(len(rows.ts_ns) / seconds)}
        found["columns, numba over numpy"] = interleave(
            partial(columns, fastest_body(), snaps), partial(columns, account, snaps), ROUNDS
        )
        found["record batches, out of order over in order"] = interleave(
            partial(from_batches, table, contract, in_order=False),
            partial(from_batches, table, contract, in_order=True),
            ROUNDS,
        )
        results[f"{rate} rows a second"] = found
    report("a contract's book is accounted at a million rows a second", results)


if __name__ == "__main__":
    main()

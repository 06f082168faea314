"""Claim: one core judges 40 levels at a snap in less than 1 ms with numba and 3 ms with numpy (p99).

A snap is all that follows the rows: windows, market state, universe, barrier, tape, score, runway, and the record batch
that comes out; it is measured on snaps without rows, of which a quiet market has most. Rows and snap together, from
record batches as they leave the bus, are claimed to take less than 10 ms (p99) at 20,000 rows a second, and to keep up
with 200,000 rows a second. Rows are the simulated market's, at even times. Both bodies of the ledger in turns, numpy's
the baseline. Of snaps the thread's processor time is given beside the wall's, in which the machine's others stand too.
Memory is what a judge has allocated once its first snaps are over, and later.
"""

import time
import tracemalloc
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.ledger import logged, now, rates, tail
from bench.market import START_NS
from bench.rounds import Figures, interleave, report
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.judge import Judge
from spymaster.engines.ledger import SNAP_NS, Body, account, fastest_body
from spymaster.engines.levels import Zone
from spymaster.engines.profile import profile_named
from spymaster.engines.session import Session
from spymaster.engines.typical import SCALE, Norms
from spymaster.events import FUTURES_MBP10, Stream

ROUNDS = 3
RATES = {2_000: 780, 20_000: 3_000}  # of the front month's rows, and of the simulated market, which is busy at the open
COMMIT_ROWS = {2_000: 10, 20_000: 100}  # in 5 ms
BOOKS = Stream(FUTURES_MBP10.name, "ES")
LEVELS = 40
DAY_NS = 23 * 3_600 * NS_PER_SECOND
SESSION = Session("2025-12-22", START_NS, START_NS + DAY_NS, START_NS, START_NS + DAY_NS)
SEED = Norms(np.full((2, 10), 50 * SCALE, np.int64), 300 * SCALE, 3_000 * SCALE, SCALE // 10)


def spread(table: pa.Table, rate: int) -> pa.Table:
    """Return the rows with so many in each second of event time; instants stay instants."""
    _, firsts, which = np.unique(table.column("ts_event_ns").to_numpy(), return_index=True, return_inverse=True)
    times = pa.array(START_NS + firsts[which] * (NS_PER_SECOND // rate))
    for name in ("ts_event_ns", "ts_recv_ns"):
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), times)
    return table.combine_chunks()


def begun(contract: str, body: Body | None = None) -> Judge:
    """Return a judge that is warm and has some 40 levels within ten ticks."""
    zones = [Zone(str(at), 27_600 + at) for at in range(-LEVELS // 2, LEVELS // 2)]
    profile = profile_named("ES")
    return Judge(profile, [SESSION], contract, seeds={SESSION.date: SEED}, zones=zones, body=body)


def judging(table: pa.Table, contract: str, commit_rows: int, body: Body) -> Figures:
    """Judge batches as they leave the bus, then snaps without rows."""
    judge, took, levels = begun(contract, body), [], []
    batches = table.to_batches(max_chunksize=commit_rows)
    spent = np.zeros(2)
    began, worked = time.perf_counter(), time.process_time()
    for batch in batches:
        since = now()
        snaps = judge.take(BOOKS, batch)
        spent += now() - since
        if snaps:
            took.append(spent)
            spent = np.zeros(2)
            levels.append(snaps[-1].levels.num_rows)
    figures = rates(table.num_rows, time.perf_counter() - began, time.process_time() - worked)
    return figures | tail("rows_and_snap", took[1:]) | quiet(judge, snaps_after(table)) | {"levels": float(levels[-1])}


def snaps_after(table: pa.Table) -> NDArray[np.int64]:
    last = int(table.column("ts_event_ns").to_numpy().max()) // SNAP_NS + 1
    return (last + np.arange(1, 400)) * SNAP_NS


def quiet(judge: Judge, snaps: NDArray[np.int64]) -> Figures:
    took = []
    for snap_ns in snaps.tolist():
        since = now()
        judge.snap(snap_ns)
        took.append(now() - since)
    return tail("snap", took)


def megabytes(table: pa.Table, contract: str) -> dict[str, float]:
    """Return what is allocated by a judge once its windows are full, and after as long again."""
    fastest_body()
    tracemalloc.start()
    judge, found = begun(contract), {}
    for batch in table.to_batches(max_chunksize=1_000):
        judge.take(BOOKS, batch)
    for minute, snaps in enumerate(np.split(snaps_after(table)[:396], 2)):
        quiet(judge, snaps)
        found[f"after_part_{minute + 1}"] = round(tracemalloc.get_traced_memory()[0] / 1e6, 1)
    tracemalloc.stop()
    return found


def main() -> None:
    results: dict[str, object] = {}
    for rate, busy in RATES.items():
        table, contract = logged(busy)
        table = spread(table, rate)
        results[f"{rate} rows a second"] = {
            "numba over numpy": interleave(
                partial(judging, table, contract, COMMIT_ROWS[rate], fastest_body()),
                partial(judging, table, contract, COMMIT_ROWS[rate], account),
                ROUNDS,
            )
        }
        results[f"megabytes at {rate} rows a second"] = megabytes(table, contract)
    report("a snap of 40 levels is judged within a millisecond", results)


if __name__ == "__main__":
    main()

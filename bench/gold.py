"""Claim: a snap's rows of `levels.signals` take 0.2 ms, and six columns of a day's Gold are read back in less than 1 s.

A day is 93,600 snaps, 6.5 h of four a second, of a simulated market, over and over with times of their own, in parts of
a minute. `sight` chooses the levels, `rows` makes the record batch; a part is encoded, synced and published. Read back
through `GoldReader`, as Arrow; the baseline is DuckDB's own `**` glob over the same files and columns, sorted likewise.
Times of a snap are the thread's processor time, each the least of three runs.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.engines import BOOKS, SEED, SESSION
from bench.ledger import logged
from bench.rounds import Figures, interleave, report
from spymaster.engines.judge import Judge
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import profile_named
from spymaster.engines.snap import Snap
from spymaster.lake import gold
from spymaster.lake.gold import NOBODY, Parts
from spymaster.query.gold_rows import GoldRows
from spymaster.signals import payload
from spymaster.signals.sight import Sight

RATE, SNAPS_A_DAY, MINUTE_NS, RUNS, ROUNDS = 800, 93_600, 60_000_000_000, 3, 5
SIX = ["ts_event_ns", "level_id", "level_price", "barrier_state", "break_score_smooth", "signal"]


def judged() -> list[Snap]:
    """Return the snaps of a simulated market."""
    table, contract = logged(RATE)
    judge = Judge(profile_named("ES"), [SESSION], contract, seeds={SESSION.date: SEED})
    return [snap for batch in table.to_batches(max_chunksize=100) for snap in judge.take(BOOKS, batch)]


def least_ms(work: Callable[[], list[float]]) -> Figures:
    """Return median and p99 of what each snap took, of each the least of some runs."""
    took = np.min([work() for _ in range(RUNS)], axis=0) * 1e3
    return {"median_ms": round(float(np.median(took)), 3), "p99_ms": round(float(np.quantile(took, 0.99)), 3)}


def timed(works: list[Callable[[], object]]) -> list[float]:
    took = []
    for work in works:
        began = time.thread_time()
        work()
        took.append(time.thread_time() - began)
    return took


def at(rows: pa.RecordBatch, ts_ns: int) -> pa.RecordBatch:
    return rows.set_column(0, rows.schema.field(0), pa.array(np.full(rows.num_rows, ts_ns)))


def publish_day(root: Path, snaps: list[pa.RecordBatch]) -> dict[str, float]:
    """Write a day; return what its parts took."""
    parts, took, rows = Parts(MINUTE_NS, 1_000_000), [], 0
    first_ns = -(-SESSION.begin_ns // MINUTE_NS) * MINUTE_NS
    for number in range(SNAPS_A_DAY):
        one = at(snaps[number % len(snaps)], first_ns + number * SNAP_NS)
        rows += one.num_rows
        finished = parts.put(one)
        for table in [*finished, parts.cut()] if number == SNAPS_A_DAY - 1 else finished:
            if table is not None:
                began = time.perf_counter()
                gold.publish(root, table, NOBODY)
                took.append(time.perf_counter() - began)
    held = sum(path.stat().st_size for path in (root / "gold").rglob("*.parquet"))
    return {
        "parts": len(took), "rows": rows, "megabytes": round(held / 1e6, 1), "bytes_a_row": round(held / rows, 1),
        "part_ms_median": round(float(np.median(took)) * 1e3, 1), "part_ms_max": round(max(took) * 1e3, 1),
    }  # fmt: skip


def read(root: Path) -> Figures:
    began = time.perf_counter()
    rows = GoldRows(root, "arrow").read_level_signals(columns=SIX).num_rows
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows_per_s": rows / seconds}


def read_plainly(root: Path) -> Figures:
    began = time.perf_counter()
    query = f"select {', '.join(SIX)} from '{root}/gold/**/*.parquet' order by ts_event_ns, level_price"  # noqa: S608
    rows = duckdb.connect().sql(query).to_arrow_table().num_rows
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows_per_s": rows / seconds}


def main() -> None:
    snaps = [snap for snap in judged() if snap.levels.num_rows]

    def sight() -> list[float]:
        choose = Sight()
        return timed([lambda snap=snap: choose.rows(snap) for snap in snaps])  # type: ignore[misc]

    chooser = Sight()
    shown = [(snap, chooser.rows(snap)) for snap in snaps]
    made = [payload.rows(snap, levels, "ES", "ES") for snap, levels in shown]
    results: dict[str, object] = {
        "snaps": len(snaps),
        "levels in sight": round(sum(rows.num_rows for rows in made) / len(made), 1),
        "sight": least_ms(sight),
        "rows": least_ms(
            lambda: timed([lambda one=one: payload.rows(*one, "ES", "ES") for one in shown])  # type: ignore[misc]
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        results["published"] = publish_day(Path(folder), made)
        results["read"] = interleave(lambda: read(Path(folder)), lambda: read_plainly(Path(folder)), ROUNDS)
    report("a snap's rows take 0.2 ms, a day's Gold is read in 1 s", {**results, "load": os.getloadavg()[0]})


if __name__ == "__main__":
    main()

"""Claim: a count over an hour of 5-second flushes, 720 parts that are not compacted, takes less than 300 ms.

With the look at log, Bronze and Silver that each query begins with, and rows in the log. `first` is a lake that was
just opened, which has read no footer yet. Baseline: DuckDB counting the same parts by a glob, without the log.
"""

import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.market import START_NS, delivered
from bench.rounds import Figures, report, spread
from spymaster import clock
from spymaster.events import FUTURES_TRADES, Stream
from spymaster.lake.bronze import flush_segment
from spymaster.query.lake import connect
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment

ROUNDS = 11
PARTS = 720
PART_ROWS = 1_000
FLUSH_NS = 5 * clock.NS_PER_SECOND
HOUR_NS = START_NS - START_NS % clock.NS_PER_HOUR
QUERY = "select count(*) from futures_trades"


def fill(wal: Path, bronze: Path) -> None:
    """Write an hour of one capture: each 5 seconds a part, the last 5 in the log."""
    table = delivered(FUTURES_TRADES, PART_ROWS)
    at = table.schema.get_field_index("ts_event_ns")
    segment = wal / "futures_trades_ES.arrow"
    for part in range(PARTS + 1):
        begin = HOUR_NS + part * FLUSH_NS if part < PARTS else HOUR_NS + PARTS * FLUSH_NS - clock.NS_PER_SECOND
        stamps = pa.array(begin + np.sort(np.random.default_rng(part).integers(0, clock.NS_PER_SECOND, PART_ROWS)))
        keys = (pa.array(np.ones(PART_ROWS, np.int64)), pa.array(np.arange(part * PART_ROWS, (part + 1) * PART_ROWS)))
        columns = [*table.set_column(at, table.schema.field(at), stamps).columns, *keys]
        header = Header.new(Stream(FUTURES_TRADES.name, "ES"), part + 1, begin)
        segment.write_bytes(encode_segment(header, pa.table(columns, schema=FUTURES_TRADES.log), None))
        if part < PARTS:
            flush_segment(bronze, read_sealed(segment), again=False)


def timed(ask: object) -> Figures:
    began, used = time.perf_counter(), time.process_time()
    rows = ask()  # type: ignore[operator]
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    assert rows in (PARTS * PART_ROWS, (PARTS + 1) * PART_ROWS)
    return {"ms": 1000 * seconds, "cpu_ms": 1000 * cpu, "rows_per_s": rows / seconds}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wal, data = Path(folder, "wal"), Path(folder, "lake")
        wal.mkdir()
        fill(wal, data / "bronze")
        plain = duckdb.connect()
        glob = f"select count(*) from read_parquet('{data}/bronze/futures/trades/*/*/*/part-*.parquet')"  # noqa: S608
        figures: dict[str, list[Figures]] = {"hot_tail": [], "look_alone": [], "first": [], "glob": []}
        with connect(data, wal) as lake:
            for _ in range(ROUNDS + 1):
                with connect(data, wal) as opened:
                    figures["first"].append(timed(lambda: opened.execute(QUERY).fetchall()[0][0]))
                figures["glob"].append(timed(lambda: plain.execute(glob).fetchall()[0][0]))
                figures["hot_tail"].append(timed(lambda: lake.execute(QUERY).fetchall()[0][0]))
                figures["look_alone"].append(timed(lambda: lake.refresh(QUERY) or PARTS * PART_ROWS))
        found: dict[str, object] = {name: spread(rounds[1:]) for name, rounds in figures.items()}
        for name in ("ms", "cpu_ms"):
            pairs = zip(figures["hot_tail"][1:], figures["glob"][1:], strict=True)
            found[f"hot_tail_over_glob_{name}"] = round(float(np.median([a[name] / b[name] for a, b in pairs])), 2)
    report(f"a count over {PARTS} parts that are not compacted takes less than 300 ms", found)


if __name__ == "__main__":
    main()

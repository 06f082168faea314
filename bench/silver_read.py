"""Claim: an hour of one symbol comes out of Silver in milliseconds, however many other files there are.

A day of 50 M trades in 23 files, two columns and the time to Arrow, among 10,000 files of other symbols; the look at
log, Bronze and Silver included. Decoding the 2.2 M rows of the hour takes its time in any case, so a minute of it is
measured too. Baseline: DuckDB with a `**` glob over the same files, told symbol, date, hour and span.
"""

import shutil
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.market import START_NS, delivered
from bench.rounds import Figures, interleave, report
from spymaster import SilverReader, clock, durable
from spymaster.compaction import compactor
from spymaster.events import FUTURES_TRADES, Stream
from spymaster.lake import silver
from spymaster.lake.bronze import flush_segment
from spymaster.paths import Partition
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import segment_pieces

ROUNDS = 11
ROWS_AN_HOUR = 2_170_000
HOURS = 23
OTHER_FILES = 10_000
COLUMNS = ["ts_event_ns", "price", "size"]
DATE, HOUR = "2025-12-22", 14
HOUR_NS = START_NS - START_NS % clock.NS_PER_HOUR


def one_hour(lake: Path) -> Path:
    """Compact one hour of trades; return its file."""
    rows = delivered(FUTURES_TRADES, ROWS_AN_HOUR)
    stamps = pa.array(HOUR_NS + np.linspace(0, clock.NS_PER_HOUR - 1, ROWS_AN_HOUR).astype(np.int64))
    rows = rows.set_column(0, rows.schema.field(0), stamps)
    keys = [pa.array(np.ones(ROWS_AN_HOUR, np.int64)), pa.array(np.arange(ROWS_AN_HOUR))]
    table = pa.Table.from_arrays([*rows.columns, *keys], schema=FUTURES_TRADES.log)
    header = Header.new(Stream(FUTURES_TRADES.name, "ES"), 1, HOUR_NS)
    segment = lake / "segment.arrow"
    with segment.open("wb") as file:
        for piece in segment_pieces(header, table, None):
            file.write(piece)
    flush_segment(lake / "bronze", read_sealed(segment), again=False)
    segment.unlink()
    with compactor.lock(lake):
        compactor.compact(lake, compactor.partitions(lake, [FUTURES_TRADES]))
    return silver.file_of(lake, Partition(FUTURES_TRADES.name, "symbol", "ES", DATE, HOUR))


def fill(lake: Path, hour: Path) -> None:
    """Give the day its other hours, and the lake its other files. Their rows are not asked for."""
    for other in range(HOURS):
        target = hour.parent.parent / f"hour={other:02d}" / hour.name
        if not target.exists():
            durable.make_directories(target.parent)
            shutil.copyfile(hour, target)
    small = lake / "small.parquet"
    duckdb.execute(f"copy (select * from read_parquet('{hour}') limit 10) to '{small}'")  # noqa: S608  # our own path
    base = lake / "silver" / "futures" / "trades"
    for number in range(OTHER_FILES):
        folder = (
            base / f"symbol=X{number // 240}" / f"date=2025-11-{1 + number // 24 % 10:02d}" / f"hour={number % 24:02d}"
        )
        folder.mkdir(parents=True)
        shutil.copyfile(small, folder / hour.name)


def ours(reader: SilverReader, end_ns: int) -> Figures:
    began = time.perf_counter()
    rows = reader.read_date(DATE, "futures.trades", "ES", start_ns=HOUR_NS, end_ns=end_ns, columns=COLUMNS)
    return _figures(rows, began, end_ns)


def glob(connection: duckdb.DuckDBPyConnection, lake: Path, end_ns: int) -> Figures:
    began = time.perf_counter()
    rows = connection.sql(
        f"select {', '.join(COLUMNS)} from read_parquet('{lake}/silver/futures/trades/**/*.parquet', "  # noqa: S608
        f"hive_partitioning = true, hive_types = {{'symbol': varchar, 'date': date, 'hour': int}}) where symbol = 'ES' "
        f"and date = '{DATE}' and hour = {HOUR} and ts_event_ns >= {HOUR_NS} and ts_event_ns < {end_ns}"
    ).to_arrow_table()
    return _figures(rows, began, end_ns)


def _figures(rows: pa.Table, began: float, end_ns: int) -> Figures:
    seconds = time.perf_counter() - began
    assert abs(rows.num_rows - ROWS_AN_HOUR * (end_ns - HOUR_NS) / clock.NS_PER_HOUR) < 10
    return {"milliseconds": seconds * 1e3, "rows_per_s": rows.num_rows / seconds}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake, log = Path(folder, "lake"), Path(folder, "wal")
        lake.mkdir()
        log.mkdir()
        fill(lake, one_hour(lake))
        reader, connection = SilverReader(lake, log).arrow(), duckdb.connect()
        results: dict[str, object] = {}
        for name, span_ns in (("an hour", clock.NS_PER_HOUR), ("a minute", 60 * clock.NS_PER_SECOND)):
            end_ns = HOUR_NS + span_ns
            results[name] = interleave(
                lambda end=end_ns: ours(reader, end),  # type: ignore[misc]
                lambda end=end_ns: glob(connection, lake, end),  # type: ignore[misc]
                ROUNDS,
            )
        report("one symbol out of Silver, among 10,000 files", results)


if __name__ == "__main__":
    main()

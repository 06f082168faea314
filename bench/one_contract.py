"""Claim: Silver, sorted by time, gives one of 5,000 contracts of a day of quotes in half a second, the busiest in one.

Seven hours of Silver, each the same hour of 2.86 M quotes as a compaction makes it of Bronze. Contracts are quoted very
unequally (log-normal, sigma 2). Asked for are the busiest, the median and one that nine in ten are busier than: five
columns, of the day and of an hour of it, through `SilverReader` and through `silver_options_quotes` in SQL. Baseline:
the same columns of all contracts.

A row group's statistics spare nothing of it: 128,000 quotes in order of time have contracts from all over the alphabet.
What spares it is that texts are dictionaries: DuckDB looks the contract up there, compares codes, and decodes the other
columns only where some are equal. What would spare more is measured on files of the same rows, and none is made so:
Bloom filters, which help where most groups lack the contract and which pyarrow writes from 24 on; pages of 2,048 rows,
which cost a twentieth of the bytes; smaller groups with Bloom filters, which lose; an order by contract, which would be
the remedy, and which Silver's order by time forbids.
"""

import functools
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.rounds import Figures, interleave, report, spread
from spymaster import SilverReader, clock, connect
from spymaster.compaction import compactor
from spymaster.events import OPTIONS_QUOTES, Stream
from spymaster.lake import parquet, silver
from spymaster.lake.bronze import flush_segment
from spymaster.paths import Partition
from spymaster.query.lake import Lake
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import segment_pieces

ROUNDS = 7
CONTRACTS, ROWS_AN_HOUR = 5_000, 2_860_000
HOURS = range(14, 21)
DATE, HOUR = "2025-12-22", 14
HOUR_NS = 1_766_412_000_000_000_000  # 2025-12-22 14:00 UTC
COLUMNS = ["ts_event_ns", "bid_px", "bid_sz", "ask_px", "ask_sz"]
BLOOM = {"option_symbol": {"ndv": CONTRACTS, "fpp": 0.01}}
WAYS: dict[str, tuple[int, dict[str, object]]] = {
    "as it is": (parquet.ROW_GROUP_ROWS, {}),
    "Bloom filters": (parquet.ROW_GROUP_ROWS, {"bloom_filter_options": BLOOM}),
    "pages of 2,048 rows": (parquet.ROW_GROUP_ROWS, {"max_rows_per_page": 2_048}),
    "groups of 16,384 rows, Bloom filters": (16_384, {"bloom_filter_options": BLOOM}),
    "sorted by contract": (parquet.ROW_GROUP_ROWS, {}),
}


def quotes(chance: np.random.Generator) -> pa.Table:
    """Return an hour of quotes as they stand in the log; `contract n` is the n-th busiest."""
    count, names = (
        ROWS_AN_HOUR,
        [f"O:SPY{251222 + n % 5}{'CP'[n % 2]}{500_000 + n * 100:08d}" for n in range(CONTRACTS)],
    )
    names = [names[place] for place in chance.permutation(CONTRACTS)]
    weights = np.sort(chance.lognormal(0, 2, CONTRACTS))[::-1]
    which = chance.choice(CONTRACTS, count, p=weights / weights.sum()).astype(np.int32)
    stamps = HOUR_NS + np.sort(chance.integers(0, clock.NS_PER_HOUR // clock.NS_PER_MS, count)) * clock.NS_PER_MS
    middle = np.maximum(chance.lognormal(1, 1, CONTRACTS)[which] + chance.integers(-5, 6, count) * 0.01, 0.05)
    ours = {
        "ts_event_ns": stamps, "ts_recv_ns": stamps + chance.integers(1, 50, count) * clock.NS_PER_MS,
        "bid_px": np.round(middle, 2), "ask_px": np.round(middle + chance.integers(1, 8, count) * 0.01, 2),
        "bid_sz": chance.integers(1, 200, count), "ask_sz": chance.integers(1, 200, count),
        "bid_exch": chance.integers(300, 318, count), "ask_exch": chance.integers(300, 318, count),
        "strike": 500.0 + which // 10, "seq": np.arange(count) * 7, "sample_s": np.zeros(count, np.int32),
        "capture_id": np.ones(count, np.int64), "capture_seq": np.arange(count),
    }  # fmt: skip
    ours["ts_local_ns"] = ours["ts_recv_ns"]
    texts = {"source": "massive.options", "underlying": "SPY"}
    columns = []
    for column in OPTIONS_QUOTES.log:
        if column.name == "option_symbol":
            columns.append(pa.DictionaryArray.from_arrays(which, names).cast(pa.string()))
        elif column.name in texts:
            columns.append(pa.repeat(texts[column.name], count))
        else:
            given = ours.get(column.name)
            columns.append(pa.nulls(count, column.type) if given is None else pa.array(given).cast(column.type))
    return pa.Table.from_arrays(columns, schema=OPTIONS_QUOTES.log)


def one_hour(lake: Path) -> Path:
    """Compact one hour of quotes; return its file."""
    header = Header.new(Stream(OPTIONS_QUOTES.name, "SPY"), 1, HOUR_NS)
    segment = lake / "segment.arrow"
    with segment.open("wb") as file:
        for piece in segment_pieces(header, quotes(np.random.default_rng(1)), None):
            file.write(piece)
    flush_segment(lake / "bronze", read_sealed(segment), again=False)
    segment.unlink()
    with compactor.lock(lake):
        compactor.compact(lake, compactor.partitions(lake, [OPTIONS_QUOTES]))
    shutil.rmtree(lake / "bronze")
    return silver.file_of(lake, Partition(OPTIONS_QUOTES.name, "underlying", "SPY", DATE, HOUR))


def other_hours(hour: Path) -> None:
    for other in HOURS:
        target = hour.parent.parent / f"hour={other:02d}" / hour.name
        if other != HOUR:
            target.parent.mkdir()
            shutil.copyfile(hour, target)


def written(path: Path, rows: pa.Table, way: str) -> Path:
    """Write an hour as Silver does, but for what a way changes."""
    group_rows, more = WAYS[way]
    if way == "sorted by contract":
        rows = rows.take(pc.sort_indices(rows, [("option_symbol", "ascending"), ("ts_event_ns", "ascending")]))
    with (
        mock.patch.object(parquet.pq, "ParquetWriter", functools.partial(pq.ParquetWriter, **more)),
        silver.writer(path, OPTIONS_QUOTES) as file,
    ):
        file.write_table(rows, row_group_size=group_rows)
    return path


def reading(reader: SilverReader, contract: str | None, end_ns: int | None) -> Callable[[], Figures]:
    def read() -> Figures:
        began = time.perf_counter()
        rows = reader.read_date(
            DATE, "options.quotes", "SPY", None if end_ns is None else HOUR_NS, end_ns, COLUMNS, contract
        )
        return _figures(rows, began)

    return read


def asking(lake: Lake, contract: str, hours: str) -> Callable[[], Figures]:
    query = (
        f"select {', '.join(COLUMNS)} from silver_options_quotes where underlying = 'SPY' and date = '{DATE}' "  # noqa: S608  # ours
        f"and option_symbol = '{contract}'{hours}"
    )

    def ask() -> Figures:
        began = time.perf_counter()
        return _figures(lake.sql(query).to_arrow_table(), began)

    return ask


def of_files(connection: duckdb.DuckDBPyConnection, file: Path, contract: str) -> Callable[[], Figures]:
    source = connection.read_parquet([str(file)] * len(HOURS), hive_partitioning=False)

    def read() -> Figures:
        began = time.perf_counter()
        rows = source.filter(f"option_symbol = '{contract}'").project(", ".join(COLUMNS)).to_arrow_table()
        return _figures(rows, began)

    return read


def _figures(rows: pa.Table, began: float) -> Figures:
    seconds = time.perf_counter() - began
    return {"milliseconds": seconds * 1e3, "rows": rows.num_rows, "per_s": 1 / seconds}


def in_turn(ways: dict[str, Callable[[], Figures]]) -> dict[str, dict[str, dict[str, float]]]:
    """Run all in turn, one uncounted round first."""
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, read in ways.items():
            figures = read()
            if number:
                found[way].append(figures)
        print(f"round {number}/{ROUNDS}", file=sys.stderr)
    return {way: spread(figures) for way, figures in found.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data_root, log = Path(folder, "lake"), Path(folder, "wal")
        data_root.mkdir()
        log.mkdir()
        hour = one_hour(data_root)
        rows = pq.read_table(hour, partitioning=None)
        counts = rows["option_symbol"].value_counts().to_pylist()
        names = [one["values"] for one in sorted(counts, key=lambda one: -one["counts"])]
        contracts = {"busiest": names[0], "median": names[CONTRACTS // 2], "rare": names[CONTRACTS * 9 // 10]}
        files = {way: written(Path(folder, f"way{number}"), rows, way) for number, way in enumerate(WAYS)}
        results: dict[str, object] = {
            "rows of a day": {
                name: len(HOURS) * pc.sum(pc.equal(rows["option_symbol"], own)).as_py()
                for name, own in contracts.items()
            },
            "bytes a row": {way: round(file.stat().st_size / rows.num_rows, 2) for way, file in files.items()},
        }
        del rows
        with duckdb.connect() as connection:
            for name, contract in contracts.items():
                results[f"the files of a day, {name} contract"] = in_turn(
                    {way: of_files(connection, file, contract) for way, file in files.items()}
                )
        other_hours(hour)
        reader = SilverReader(data_root, log).arrow()
        spans = {"a day": (None, ""), "an hour": (HOUR_NS + clock.NS_PER_HOUR, f" and hour = {HOUR}")}
        with connect(data_root, log) as lake:
            for (name, contract), (span, (end_ns, hours)) in itertools.product(contracts.items(), spans.items()):
                ways = {"SilverReader": reading(reader, contract, end_ns), "SQL": asking(lake, contract, hours)}
                for way, one in ways.items():
                    key = f"{span} of the {name} contract, {way}"
                    results[key] = interleave(one, reading(reader, None, end_ns), ROUNDS, rate="per_s")
        report("one contract of 5,000 out of a day of option quotes", results)


if __name__ == "__main__":
    main()

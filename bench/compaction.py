"""Bronze as the daemon leaves it, and its compaction against the common way: DuckDB numbering rows by a key's MD5.

Each hour is one partition of many small parts, through the real flush. Two captures share it and overlap, so that 5 %
of the rows were delivered twice; a fifth share their time with the row before, and 1 % came up to a minute late.
Every run has a process of its own, so that its peak of memory is its own.
"""

import json
import multiprocessing
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.market import START_NS, delivered
from bench.rounds import Figures
from spymaster import clock
from spymaster.compaction import compactor
from spymaster.compaction.engines import FASTER, Engine
from spymaster.events import EventSchema, Stream
from spymaster.lake.bronze import flush_segment
from spymaster.paths import Partition
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment

THREADS = 2
PART_ROWS = 20_000
DELIVERED_TWICE = 0.05
SAME_TIME = 0.2
LATE = 0.01
LATE_NS = 60_000_000_000
FIRST_HOUR_NS = START_NS // clock.NS_PER_HOUR * clock.NS_PER_HOUR

_BY_ANOTHER_TREE = """
import json, pathlib, sys
from bench.compaction import compacted, figures
from spymaster.compaction import compactor
from spymaster.events import MARKET_SCHEMAS
root = pathlib.Path(sys.argv[1])
print(json.dumps(figures(compacted, root, compactor.partitions(root, MARKET_SCHEMAS))))
"""

Numbers = NDArray[np.int64]
Run = Callable[[Path, list[Partition]], tuple[int, int]]


def write_bronze(root: Path, schema: EventSchema, hours: int, rows_an_hour: int) -> list[Partition]:
    """Fill a lake with `hours` partitions of about `rows_an_hour` rows; return them in time order."""
    rng = np.random.default_rng(1)
    content = delivered(schema, round(rows_an_hour / (1 + DELIVERED_TWICE)))
    recorded = [0] * (hours + 2)  # rows of each capture so far
    found: dict[Partition, None] = {}
    for hour in range(hours):
        for capture_id, rows in hour_of_captures(rng, content, hour):
            for first in range(0, rows.num_rows, PART_ROWS):
                piece = rows.slice(first, PART_ROWS)
                keys = np.full(piece.num_rows, capture_id), recorded[capture_id] + np.arange(piece.num_rows)
                recorded[capture_id] += piece.num_rows
                piece = pa.table([*piece.columns, *map(pa.array, keys)], schema=schema.log).combine_chunks()
                found |= dict.fromkeys(flushed(root, schema, piece))
    return list(found)


def hour_of_captures(rng: np.random.Generator, content: pa.Table, hour: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield an hour's rows of the capture that ends in it and of the one that begins in it, as they arrived."""
    stamps = times(rng, content.num_rows) + FIRST_HOUR_NS + hour * clock.NS_PER_HOUR
    arrived = stamps + np.where(rng.random(len(stamps)) < LATE, rng.integers(0, LATE_NS, len(stamps)), 0)
    begin, end = stamps[int(len(stamps) * 0.5)], stamps[int(len(stamps) * (0.5 + DELIVERED_TWICE))]
    order = np.argsort(arrived, kind="stable")
    numbers = hour * content.num_rows + np.arange(content.num_rows)
    for capture_id, own in ((hour, arrived < end), (hour + 1, (stamps >= begin) | (arrived >= end))):
        chosen = order[own[order]]
        rows = content.take(chosen)
        received = arrived[chosen] + 100_000 + 1_000 * capture_id
        for name, values in (("ts_event_ns", stamps[chosen]), ("ts_recv_ns", received), ("seq", numbers[chosen])):
            rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
        yield capture_id, rows


def times(rng: np.random.Generator, count: int) -> Numbers:
    """Return nanoseconds within an hour, ascending, some of them equal."""
    stamps = np.sort(rng.integers(0, clock.NS_PER_HOUR, count))
    same = np.flatnonzero(rng.random(count - 1) < SAME_TIME)
    stamps[same + 1] = stamps[same]
    return np.sort(stamps)


def flushed(root: Path, schema: EventSchema, rows: pa.Table) -> list[Partition]:
    segment = root / "sealed.arrow"
    created_ns = int(rows["ts_recv_ns"][-1].as_py())
    segment.write_bytes(encode_segment(Header.new(Stream(schema.name, "ES"), 1, created_ns), rows, None))
    parts = flush_segment(root / "bronze", read_sealed(segment), again=False)
    segment.unlink()
    return [part.partition for part in parts]


def compaction(root: Path, wanted: list[Partition], engine: Engine = FASTER) -> Figures:
    """Compact partitions of which there is no Silver."""
    shutil.rmtree(root / "silver", ignore_errors=True)
    return in_a_process(partial(compacted, engine=engine), root, wanted)


def compaction_before(root: Path, tree: Path) -> Figures:
    """Compact all partitions of a lake by the code of another tree, e.g. a worktree of the commit before."""
    shutil.rmtree(root / "silver", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-c", _BY_ANOTHER_TREE, root], cwd=tree, check=True, capture_output=True, text=True
    )
    figures_before: Figures = json.loads(done.stdout)
    return figures_before


def common_way(root: Path, wanted: list[Partition]) -> Figures:
    """The same partitions by DuckDB, one after another."""
    shutil.rmtree(root / "numbered", ignore_errors=True)
    return in_a_process(numbered, root, wanted)


def compacted(root: Path, wanted: list[Partition], engine: Engine = FASTER) -> tuple[int, int]:
    with compactor.lock(root):
        done = compactor.compact(root, wanted, threads=THREADS, engine=engine)
    counts = [one.counts for one in done if one.status == "compacted" and one.counts is not None]
    assert len(counts) == len(wanted), [one.reason for one in done]
    return sum(own.rows_in for own in counts), sum(own.rows_out for own in counts)


def numbered(root: Path, wanted: list[Partition]) -> tuple[int, int]:
    rows_in = rows_out = 0
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.execute("set enable_progress_bar = false")
        for partition in wanted:
            target = root / "numbered" / partition.folder / "part-0000.parquet"
            target.parent.mkdir(parents=True)
            parts = [str(root / "bronze" / partition.folder / "*.parquet")]
            key = "md5(concat_ws('|', source, ts_event_ns, symbol, price, size, seq))"
            (copied,) = connection.execute(
                f"copy (select *, {key} as event_id from read_parquet(?, hive_partitioning = false) "  # noqa: S608
                f"qualify row_number() over (partition by {key} order by ts_recv_ns) = 1 order by ts_event_ns) "
                f"to '{target}' (format parquet, compression zstd, compression_level 3)",
                parts,
            ).fetchall()
            rows_out += copied[0]
            rows_in += connection.execute("select sum(num_rows) from parquet_file_metadata(?)", parts).fetchall()[0][0]
    return rows_in, rows_out


def in_a_process(run: Run, root: Path, wanted: list[Partition]) -> Figures:
    """Run one side in a fresh process. Its peak of memory includes the interpreter and the libraries, about 0.15 GB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(figures, run, root, wanted).result()


def figures(run: Run, root: Path, wanted: list[Partition]) -> Figures:
    began, worked = time.perf_counter(), time.process_time()
    rows_in, rows_out = run(root, wanted)
    seconds, processor_s = time.perf_counter() - began, time.process_time() - worked
    return {
        "rows_per_s": rows_in / seconds,
        "million_rows_per_min": rows_in / seconds * 60 / 1e6,
        "rows_per_processor_s": rows_in / processor_s,
        "peak_gb": peak_bytes() / 1e9,
        "rows_in": rows_in,
        "rows_out": rows_out,
    }


def peak_bytes() -> int:
    """Return the most memory that this process had; `ru_maxrss` would count its parent's on Linux."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

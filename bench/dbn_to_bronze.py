"""Claim: a DBN file becomes durable Bronze at 300,000 MBP-10/s and more, through normalizer, log and flush.

Baseline: the vendor library's own `to_parquet` of the same file, neither logged nor synced.
"""

import asyncio
import tempfile
import time
import warnings
from pathlib import Path

import databento

from bench.market import write_books
from bench.rounds import Figures, interleave, report
from spymaster import settings
from spymaster.daemon import Daemon

RECORDS = 1_000_000
ROUNDS = 3


def record(path: Path) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        loaded = settings.load(data_root=f"{folder}/lake", wal_root=f"{folder}/wal")

        async def run() -> Daemon:
            daemon = Daemon(loaded, [f"dbn:{path}"], speed=0)
            await daemon.run()
            return daemon

        began = time.perf_counter()
        daemon = asyncio.run(run())
        seconds = time.perf_counter() - began
        (summary,) = daemon.summaries
        assert summary.complete
        assert summary.rows == {"futures.mbp10": RECORDS}
    return {"rows_per_s": RECORDS / seconds}


def vendor(path: Path) -> Figures:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the vendor's use of pandas
        began = time.perf_counter()
        databento.DBNStore.from_bytes(path.read_bytes()).to_parquet(Path(folder, "part.parquet"))
        return {"rows_per_s": RECORDS / (time.perf_counter() - began)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "books.dbn")
        write_books(path, RECORDS)
        results = interleave(lambda: record(path), lambda: vendor(path), ROUNDS)
    report("DBN file to durable Bronze, MBP-10", {"futures.mbp10": results})


if __name__ == "__main__":
    main()

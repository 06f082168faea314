"""Claim: the first row of a live source is durable half a second later at most, whatever state Bronze is in.

Later than over an empty log and an empty lake, whose starts are interleaved with the others': with Bronze's disk full,
with a stray file in Bronze, with 50,000 parts there that the catalog does not know. And three seconds later at most for
each GB of sealed segments that a killed process left in the log. Each start is a process of its own, from the daemon's
`run` to the first row on the bus, and ends there. What does not run as root has no small disk, and leaves that one out.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.loop_steps import Vendor
from bench.market import RATE, SEED, START_NS, delivered
from bench.rounds import report
from spymaster import clock, events, paths, settings
from spymaster.bus import Published, Subscription
from spymaster.daemon import Daemon
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, Stream
from spymaster.lake.bronze import Part, flush_segment
from spymaster.simulation.source import SimulatedMarket, dbn_info
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.sealed import read_sealed
from spymaster.wal.writer import StreamLog

ROUNDS = 5
PARTS = 50_000
PART_ROWS = 100
SEALED_BYTES = 512 << 20
SEGMENT_BYTES = 64 << 20
SMALL_DISK_MB = 16


def first_durable_row_s(wal: Path, lake: Path) -> float:
    """Start a daemon over them, and return how long its first row took to be durable. For a process of its own."""
    market = SimulatedMarket(SEED, RATE, START_NS)
    feed = Vendor(dbn_info(market).encoding, [[next(market.blocks())]], 0.0)
    daemon = Daemon(settings.load(data_root=lake, wal_root=wal), [], 0, feeds=[("live", feed)])

    async def run() -> float:
        published = daemon.bus.subscribe()
        began = time.perf_counter()
        running = asyncio.create_task(daemon.run())
        row = asyncio.create_task(first_row(published))
        await asyncio.wait({running, row}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        print(time.perf_counter() - began, flush=True)
        os._exit(0)  # what it does behind the live rows may take a minute

    return asyncio.run(run())


async def first_row(published: Subscription) -> None:
    async for some in published:
        if isinstance(some, Published) and not some.stream.schema.startswith("system."):
            return


def start(wal: Path, lake: Path) -> float:
    command = [sys.executable, "-m", "bench.start", str(wal), str(lake)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@contextmanager
def a_small_disk(root: Path) -> Iterator[Path]:
    """Mount a disk that has no byte left."""
    root.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "tmpfs", str(root)]
    subprocess.run(["mount", *options], check=True)  # noqa: S607
    try:
        with (root / "ballast").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)) == 1 << 20:
                pass
    except OSError:
        pass
    try:
        yield root
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)  # noqa: S607


def sealed_part(folder: Path) -> tuple[Path, Part]:
    """Return a part of real rows: its file, and what it is."""
    segment = filled_log(folder / "one", Stream(FUTURES_TRADES.name, "ES"), 1)[0]
    (part,) = flush_segment(folder / "one-lake" / "bronze", read_sealed(segment), again=False)
    return folder / "one-lake" / "bronze" / part.relative, part


def filled_log(wal: Path, stream: Stream, least_bytes: int) -> list[Path]:
    """Write sealed segments of so many bytes at least."""
    wal.mkdir()
    log = StreamLog(wal, stream, SEGMENT_BYTES)
    rows = CaptureRows(log, 1)
    batch = delivered(events.schema_named(stream.schema), PART_ROWS if least_bytes == 1 else 20_000).to_batches()[0]
    sealed: list[Path] = []
    while sum(path.stat().st_size for path in sealed) < least_bytes:
        rows.append(batch)
        if least_bytes == 1:
            log.seal()
        log.commit()
        sealed += log.take_sealed()
    log.close()
    return sealed


def many_parts(bronze: Path, part: Path, count: int) -> list[str]:
    """Link one part to so many names in the partitions of a year of trading hours, and return their keys."""
    keys = []
    for number in range(count):
        day, hour = divmod(number // 8, 24)
        date = np.datetime64("2025-01-01") + day
        folder = bronze / "futures" / "trades" / "symbol=ES" / f"date={date}" / f"hour={hour:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = paths.part_name(clock.part_stamp(START_NS + number), f"{number:08x}".ljust(32, "0"), 0)
        os.link(part, folder / name)
        keys.append((folder / name).relative_to(bronze).as_posix())
    return keys


def main() -> None:
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) == 2 else None) as name:
        folder = Path(name)
        part, _ = sealed_part(folder)
        stray = folder / "stray"
        (stray / "bronze" / "futures").mkdir(parents=True)
        (stray / "bronze" / "futures" / "mine.parquet").write_bytes(part.read_bytes())
        many = folder / "many"
        many_parts(many / "bronze", part, PARTS)
        left = sum(
            path.stat().st_size for path in filled_log(folder / "left", Stream(FUTURES_MBP10.name, "ES"), SEALED_BYTES)
        )

        def timed(what: str, lake: Path, log: Path | None = None) -> None:
            wal = folder / "wal"
            shutil.copytree(log, wal, copy_function=os.link) if log else wal.mkdir()
            seconds.setdefault(what, []).append(start(wal, lake))
            shutil.rmtree(wal)
            (lake / "catalog.db").unlink(missing_ok=True)

        for done in range(ROUNDS):
            for what, lake, log in (
                ("empty", folder / "empty", None),
                ("a stray file in Bronze", stray, None),
                (f"{PARTS} parts in Bronze", many, None),
                ("sealed segments left", folder / "after", folder / "left"),
            ):
                timed(what, lake, log)
                if lake.name in ("empty", "after"):
                    shutil.rmtree(lake)
            if os.geteuid() == 0:
                with a_small_disk(folder / "full") as full:
                    timed("Bronze's disk is full", full / "lake")
            print(f"round {done + 1}/{ROUNDS}", file=sys.stderr)
    empty = statistics.median(seconds["empty"])
    report(
        "the first durable row comes 0.5 s later at most than over an empty log and lake",
        {
            "sealed_GB": round(left / 1e9, 2),
            **{
                what: {
                    "median_s": round(statistics.median(some), 3),
                    "min_s": round(min(some), 3),
                    "max_s": round(max(some), 3),
                    "later_s": round(statistics.median(some) - empty, 3),
                }
                for what, some in seconds.items()
            },
            "later_s_per_GB": round((statistics.median(seconds["sealed segments left"]) - empty) / (left / 1e9), 2),
        },
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        first_durable_row_s(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()

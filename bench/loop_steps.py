"""Claim: no step of the daemon's event loop takes more than 10 ms of processor time, whatever it records.

A step is one callback. Its thread's processor time is counted and not the wall's, in which the machine's others and
the daemon's own threads stand too. Recorded is a paced simulated market, at its default rate and at 5,000 records a
second, beside one of three bad neighbours: a day file with odd lines, as fast as it goes; 1,000 pages of an option
chain that come at once; a live connection whose quarantine is full and that goes on sending what nobody can read.
"""

import asyncio
import gzip
import random
import tempfile
import time
from asyncio.events import Handle
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from bench.market import SEED, START_NS
from bench.rounds import Figures, report, spread
from spymaster import clock, settings
from spymaster.bus import Subscription
from spymaster.daemon import Daemon
from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS
from spymaster.events.captures import CaptureSummary
from spymaster.events.encoding import Encoding, MassiveFrames, MassivePages
from spymaster.feeds.arrivals import Arrivals
from spymaster.feeds.day_files import FlatFileFeed
from spymaster.feeds.feed import BURST_BYTES, Burst, DeliveryInfo, Feed, Frontiers, RawMessage
from spymaster.recording import quarantine
from spymaster.simulation.deliveries import ChainWriter
from spymaster.simulation.source import SimulatedMarket

ROUNDS = 3
SECONDS = 10.0
RATES = (2_000, 5_000)
PAGES = 1_000
DAY_FILE_LINES, ODD_LINES = 400_000, 800
FULL_FILES = 100  # instead of 1,000, which take a minute to write
LARGE_PARTS = 16  # as it is read from the socket
SHOWN_STEPS = 8


class Step(NamedTuple):
    cpu_ms: float
    wall_ms: float
    name: str


class Vendor:
    """A live vendor's feed of one connection: what comes at once comes so many seconds after what came before."""

    waits, pace_by = False, None

    def __init__(self, encoding: Encoding, at_once: Sequence[Sequence[bytes]], every_s: float) -> None:
        self.info = DeliveryInfo("a live vendor", encoding)
        self._at_once, self._every_s = at_once, every_s
        self._arrivals = Arrivals()

    async def deliveries(self, frontiers: Frontiers) -> AsyncIterator["Vendor"]:
        yield self

    async def bursts(self) -> AsyncGenerator[Burst]:
        sending = asyncio.create_task(self._send())
        async for burst in self._arrivals.bursts():
            yield burst
        sending.cancel()

    async def _send(self) -> None:
        for messages in self._at_once:
            await asyncio.sleep(self._every_s)
            for message in messages:
                self._arrivals.put(RawMessage(message, clock.utc_now_ns()))

    async def close(self) -> None:
        self._arrivals.end()

    async def recorded(self, outcome: CaptureSummary) -> None:
        pass


def day_file(folder: Path) -> Feed:
    """Return a day file's feed, not paced. Of its lines some are odd: quoted, of other columns, no line at all."""
    rng = random.Random(1)  # noqa: S311 - the same file each time
    lines = [
        f"SPY,12,0,{number % 20},{600 + rng.random():.4f},{START_NS + number * 50_000},{number},{START_NS},100,4,0,1"
        for number in range(DAY_FILE_LINES)
    ]
    for number in rng.sample(range(DAY_FILE_LINES), ODD_LINES):
        lines[number] = rng.choice((f'"{lines[number]}', lines[number].replace("SPY", '"SPY"'), "SPY,,,", "x" * 900))
    header = "ticker,conditions,correction,exchange,price,sip_timestamp,sequence_number,participant_timestamp,size,tape"
    text = "\n".join([f"{header},trf_id,trf_timestamp", *lines, ""])
    path = folder / "2025-12-22.csv.gz"
    path.write_bytes(gzip.compress(text.encode(), 1))
    feed = FlatFileFeed(str(path))
    feed.pace_by = None  # type: ignore[assignment]
    return feed


def chain_pages(folder: Path) -> Feed:
    writer = ChainWriter()
    steps = SimulatedMarket(SEED, RATES[0], START_NS).session(with_spy=True).steps()
    chain = next(pages for step in steps if (pages := [page for some in writer.write(step) for page in some]))
    pages = [chain[number % len(chain)] for number in range(PAGES)]
    return Vendor(MassivePages(OPTIONS_GREEKS_SNAPSHOTS, "SPY", "SPY"), [pages], SECONDS / 4)


def full_quarantine(folder: Path) -> Feed:
    """Return a connection whose quarantine is full soon, and which sends a megabyte of nonsense all the same."""
    small = [[b"nonsense"]] * FULL_FILES
    large = [[b"nonsense" * 64] * (BURST_BYTES // 512 // LARGE_PARTS)] * (8 * LARGE_PARTS)
    return Vendor(MassiveFrames("stocks", "SPY"), small + large, SECONDS / 2 / len(small + large))


NEIGHBOURS = {"a bad day file": day_file, "1,000 pages at once": chain_pages, "a full quarantine": full_quarantine}


@contextmanager
def watched(steps: list[Step]) -> Iterator[None]:
    """Note what each callback of an event loop takes."""
    run = Handle._run

    def timed(handle: Handle) -> None:
        name = name_of(handle)
        began, worked = time.perf_counter(), time.thread_time()
        run(handle)
        steps.append(Step(1000 * (time.thread_time() - worked), 1000 * (time.perf_counter() - began), name))

    with mock.patch.object(Handle, "_run", timed):
        yield


def name_of(handle: Handle) -> str:
    """Say where the task that a callback steps was waiting, or what else the callback is."""
    callback = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(callback, "__qualname__", type(callback).__name__))
    names, waiting = [], task.get_coro()
    while waiting is not None and len(names) < 8:
        names.append(getattr(waiting, "__qualname__", type(waiting).__name__))
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return " < ".join(reversed(names))


def measure(rate: int, neighbour: str) -> tuple[Figures, list[Step]]:
    steps: list[Step] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded = settings.load(data_root=folder / "lake", wal_root=folder / "wal", flush_interval_sec=2.0)
        feed = NEIGHBOURS[neighbour](folder)
        daemon = Daemon(loaded, [f"sim:seed=1,rate={rate}"], 1.0, feeds=[(neighbour, feed)])

        async def run() -> None:
            reader = asyncio.create_task(read(daemon.bus.subscribe()))
            await daemon.run(SECONDS)
            await reader

        with watched(steps), mock.patch.object(quarantine, "MAX_FILES", FULL_FILES):
            asyncio.run(run())
        rows = sum(daemon.rows.values())
    cpu, wall = (np.array([step[at] for step in steps]) for at in (0, 1))
    return {
        "rows": rows,
        "unreadable": sum(summary.unreadable for summary in daemon.summaries),
        "steps": len(steps),
        "steps_over_10_ms": int((cpu > 10).sum()),
        "cpu_max_ms": float(cpu.max()),
        "cpu_p99_ms": float(np.percentile(cpu, 99)),
        "wall_max_ms": float(wall.max()),
        "wall_p99_ms": float(np.percentile(wall, 99)),
    }, sorted(steps, reverse=True)[:SHOWN_STEPS]


async def read(published: Subscription) -> None:
    """Read one thing a step, so that the reader has no long ones."""
    async for _ in published:
        await asyncio.sleep(0)


def main() -> None:
    results: dict[str, object] = {}
    for neighbour in NEIGHBOURS:
        for rate in RATES:
            rounds = [measure(rate, neighbour) for _ in range(ROUNDS)]
            longest = sorted((step for _, steps in rounds for step in steps), reverse=True)[:SHOWN_STEPS]
            results[f"{rate} records a second beside {neighbour}"] = {
                **spread([figures for figures, _ in rounds]),
                "longest": [f"{step.cpu_ms:.1f} ms (wall {step.wall_ms:.1f}): {step.name}" for step in longest],
            }
    report("steps of the event loop below 10 ms of processor time", results)


if __name__ == "__main__":
    main()

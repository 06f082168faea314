"""Claim: option quotes at 50,000 a second from frames of 20 reach the log with nothing dropped.

Another process sends quotes of 1,000 contracts, as many as the vendor allows on a connection, by TCP: for 20 s at that
rate, and once more as fast as they are read. Counted is what lies on disk when the daemon has ended. A step is one
callback of the event loop, as for `bench/loop_steps`.
"""

import asyncio
import multiprocessing
import random
import socket
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from bench.live import FLUSH_S, LENGTH, LiveFeed, Sent, appended, recorded, send
from bench.loop_steps import Step, watched
from bench.market import START_NS
from bench.rounds import Figures, report, spread
from spymaster import connect, settings
from spymaster.clock import NS_PER_MS
from spymaster.events.encoding import MassiveFrames
from spymaster.feeds.feed import DeliveryInfo

ROUNDS = 3
RATE, SECONDS = 50_000, 20
EVENTS = 20  # in a frame
CONTRACTS = 1_000
EVERY_S = 0.002
READ_BYTES = 64 << 10


def write_quotes(path: Path, quotes: int) -> None:
    """Write frames of quotes, each with its length before it; every quote has a sequence of its own."""
    rng = random.Random(1)  # noqa: S311 - the same quotes each time
    contracts = [f"O:SPY251222{'CP'[n % 2]}{600_000 + 500 * (n // 2):08d}" for n in range(CONTRACTS)]
    with path.open("wb") as file:
        for begin in range(0, quotes, EVENTS):
            frame = f"[{','.join(quote(rng, contracts, number) for number in range(begin, begin + EVENTS))}]".encode()
            file.write(LENGTH.pack(len(frame)) + frame)


def quote(rng: random.Random, contracts: list[str], number: int) -> str:
    cents, millis = rng.randint(1, 2_000), START_NS // NS_PER_MS + number * 1_000 // RATE
    return (
        f'{{"ev":"Q","sym":"{rng.choice(contracts)}","bx":{rng.randint(300, 325)},"ax":{rng.randint(300, 325)},'
        f'"bp":{cents / 100},"ap":{(cents + 1) / 100},"bs":{rng.randint(1, 900)},"as":{rng.randint(1, 900)},'
        f'"t":{millis},"q":{number + 1}}}'
    )


def measure(sender: ProcessPoolExecutor, sent: Sent) -> tuple[Figures, Step]:
    steps: list[Step] = []
    delays_ms: list[float] = []
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        lake, wal = f"{folder}/lake", f"{folder}/wal"
        feed = LiveFeed(sent, listener, gathered=True)
        sending = sender.submit(send, listener.getsockname()[1], sent)
        with watched(steps), appended(delays_ms):
            loaded = settings.load(data_root=lake, wal_root=wal, flush_interval_sec=FLUSH_S)
            daemon, published = asyncio.run(recorded(loaded, feed))
        cpu_s, seconds = time.process_time() - feed.connected_cpu_s, time.perf_counter() - feed.connected_s
        sending.result()
        (summary,) = daemon.summaries
        assert summary.complete, summary.error
        with connect(lake, wal) as opened:
            ((rows, sequences),) = opened.execute("select count(*), count(distinct seq) from options_quotes").fetchall()
    return {
        "rows": rows,
        "lost": RATE * SECONDS - sequences,
        "published": published,
        "dropped": daemon.bus.dropped_rows_ever,
        "given_up": summary.given_up,
        "unreadable": summary.unreadable,
        "seconds": seconds,
        "rows_per_cpu_s": rows / cpu_s,
        "receipt_to_log_p50_ms": float(np.percentile(delays_ms, 50)),
        "receipt_to_log_p99_ms": float(np.percentile(delays_ms, 99)),
        "steps_over_10_ms": sum(step.cpu_ms > 10 for step in steps),
        "step_cpu_max_ms": max(step.cpu_ms for step in steps),
        "step_wall_max_ms": max(step.wall_ms for step in steps),
    }, max(steps)


def main() -> None:
    info = DeliveryInfo("frames", MassiveFrames("options", "SPY"), simulated=True)
    results: dict[str, object] = {}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, context) as sender:
        path = Path(folder, "frames")
        write_quotes(path, RATE * SECONDS)
        paced = Sent(path, info, True, int(path.stat().st_size / SECONDS * EVERY_S), EVERY_S)
        for name, sent in ((f"{RATE:,} a second", paced), ("as fast as read", Sent(path, info, True, READ_BYTES))):
            rounds = [measure(sender, sent) for _ in range(ROUNDS)]
            results[name] = {
                **spread([figures for figures, _ in rounds]),
                "longest": [f"{step.cpu_ms:.1f} ms (wall {step.wall_ms:.1f}): {step.name}" for _, step in rounds],
            }
    report("option quotes to the log with nothing dropped", results)


if __name__ == "__main__":
    main()

"""Claim: with levels judged, a live row is durable as soon as without, 1.5 times as late at most (p99).

50,000 DBN records a second of a simulated market of that rate come by TCP, each 10 ms, for some seconds, once the judge
has caught up; each batch that the bus publishes says how long ago its first row was received. Baseline: the same, and
nobody judges.
"""

import asyncio
import multiprocessing
import socket
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from bench.live import LiveFeed, Sent, send
from bench.market import BOOK_BYTES
from bench.rounds import Figures, report, spread
from spymaster import clock, settings
from spymaster.bus import Published, Subscription
from spymaster.daemon import Daemon
from spymaster.engines.profile import profile_named
from spymaster.events import FUTURES_MBP10
from spymaster.query.sessions import calendar
from spymaster.simulation.source import SimulatedMarket, dbn_info

RATE, SECONDS, BEFORE_S = 50_000, 12, 4.0  # the judge begins meanwhile
ROUNDS, EVERY_S = 5, 0.01
START_NS = 1_766_415_600_000_000_000  # 2025-12-22 15:00 UTC


def write(path: Path) -> None:
    """Write the records of the market, nearly all books."""
    written = 0
    with path.open("wb") as file:
        for block in SimulatedMarket(1, RATE, START_NS).blocks():
            written += file.write(block)
            if written >= RATE * SECONDS * BOOK_BYTES:
                return


async def delays(published: Subscription) -> list[tuple[float, int]]:
    """Return of each batch of books how many ms after its receipt it was published, and its rows."""
    found: list[tuple[float, int]] = []
    async for some in published:
        assert isinstance(some, Published), "this reader was too slow"
        now_ns = clock.utc_now_ns()
        if some.stream.schema == FUTURES_MBP10.name:
            received_ns = some.batch["ts_local_ns"].to_numpy()
            found += [((now_ns - int(received_ns[0])) / clock.NS_PER_MS, some.batch.num_rows)]
    return found


def record(sender: ProcessPoolExecutor, sent: Sent, *, judged: bool) -> Figures:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loaded = settings.load(data_root=f"{folder}/lake", wal_root=f"{folder}/wal")
        profile = profile_named("ES") if judged else None
        daemon = Daemon(loaded, [], 1, feeds=[("live", LiveFeed(sent, listener, gathered=True))], profile=profile)
        sending = sender.submit(send, listener.getsockname()[1], sent)

        async def run() -> list[tuple[float, int]]:
            noting = asyncio.create_task(delays(daemon.bus.subscribe()))
            await daemon.run()
            return await noting

        found = asyncio.run(run())
        sending.result()
    times, rows = np.array(found).T
    first = np.searchsorted(np.cumsum(rows), BEFORE_S / SECONDS * rows.sum())
    each = np.repeat(times[first:], rows[first:].astype(int))
    figures = {f"durable_p{p}_ms": float(np.percentile(each, p)) for p in (50, 99)}
    if daemon.judge is not None:
        gauges = daemon.judge.gauges()
        figures |= {"snaps": gauges["snaps"], "read_again_rows": gauges["read_again_rows"]}
    return figures


def main() -> None:
    calendar()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, context) as sender:
        path = Path(folder, "records")
        write(path)
        sent = Sent(
            path, dbn_info(SimulatedMarket(1, RATE, START_NS)), False, int(RATE * EVERY_S) * BOOK_BYTES, EVERY_S
        )
        both = [(record(sender, sent, judged=True), record(sender, sent, judged=False)) for _ in range(ROUNDS)]
    ours, theirs = (spread(list(figures)) for figures in zip(*both, strict=True))
    ratio = statistics.median(a["durable_p99_ms"] / b["durable_p99_ms"] for a, b in both)
    report(
        "receipt to durable and published, 50,000 records a second",
        {"judged": ours, "not judged": theirs, "p99 ratio": round(ratio, 3)},
    )


if __name__ == "__main__":
    main()

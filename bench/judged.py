"""Claims: with levels judged and Gold written, a live row is durable 1.5 times as late as without at most (p99).

And a signal is published within 50 ms (p99) of the row that made its snap due: the first that is 100 ms after it.

50,000 DBN records a second of a simulated market of that rate come by TCP, each 10 ms, for some seconds, once the judge
has caught up; each batch that the bus publishes says how long ago its first row was received. A snap's signals are
timed from the publishing of that row to their own, when what the snap had seen is durable too. Baseline: the same, and
nobody judges.
"""

import asyncio
import multiprocessing
import os
import socket
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.live import LiveFeed, Sent, send
from bench.market import BOOK_BYTES
from bench.rounds import Figures, report, spread
from spymaster import clock, settings
from spymaster.bus import Bus, Published
from spymaster.daemon import Daemon
from spymaster.engines.intake import GRACE_NS
from spymaster.engines.profile import profile_named
from spymaster.events import FUTURES_MBP10, Stream
from spymaster.lake.gold import LEVELS_SIGNALS
from spymaster.query.sessions import calendar
from spymaster.simulation.source import SimulatedMarket, dbn_info

RATE, SECONDS, BEFORE_S = 50_000, 16, 8.0  # the judge catches up meanwhile: 4 to 6.5 s at a load of 6
ROUNDS, EVERY_S = 3, 0.01
START_NS = 1_766_415_600_000_000_000  # 2025-12-22 15:00 UTC


def write(path: Path) -> None:
    """Write the records of the market, nearly all books."""
    written = 0
    with path.open("wb") as file:
        for block in SimulatedMarket(1, RATE, START_NS).blocks():
            written += file.write(block)
            if written >= RATE * SECONDS * BOOK_BYTES:
                return


class Noted(NamedTuple):
    """What was published, in order.

    Attributes:
        delays: of each batch of books how many ms after its receipt it was, and its rows.
        books: of each batch of books its newest event time, and our clock.
        snaps: of each snap with levels its time, and our clock.
    """

    delays: list[tuple[float, int]]
    books: list[tuple[int, int]]
    snaps: list[tuple[int, int]]

    def read(self, some: Published) -> None:
        now_ns = clock.utc_now_ns()
        if some.stream.schema == FUTURES_MBP10.name:
            received_ns = some.batch["ts_local_ns"].to_numpy()
            self.delays.append(((now_ns - int(received_ns[0])) / clock.NS_PER_MS, some.batch.num_rows))
            self.books.append((int(some.batch["ts_event_ns"].to_numpy().max()), now_ns))
        elif some.stream.schema == LEVELS_SIGNALS.name and some.batch.num_rows:
            self.snaps.append((some.batch["ts_event_ns"][0].as_py(), now_ns))

    def signals_ms(self, first: int) -> NDArray[np.float64]:
        """Return how many ms after their rows signals were, of those whose row is in a batch of books from `first`."""
        newest_ns, book_ns = np.array(self.books).T
        snap_ns, shown_ns = np.array(self.snaps, np.int64).reshape(-1, 2).T
        by = np.searchsorted(np.maximum.accumulate(newest_ns), snap_ns + GRACE_NS)
        mine = (by >= first) & (by < len(book_ns))
        return (shown_ns[mine] - book_ns[by[mine]]) / clock.NS_PER_MS


@contextmanager
def noting() -> Iterator[Noted]:
    """Note what buses publish, as they do."""
    noted, publish = Noted([], [], []), Bus.publish

    def published(bus: Bus, stream: Stream, batches: Iterable[pa.RecordBatch]) -> None:
        batches = list(batches)
        for batch in batches:
            noted.read(Published(stream, batch))
        publish(bus, stream, batches)

    with mock.patch.object(Bus, "publish", published):
        yield noted


def record(sender: ProcessPoolExecutor, sent: Sent, signals_ms: list[float], *, judged: bool) -> Figures:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loaded = settings.load(data_root=f"{folder}/lake", wal_root=f"{folder}/wal")
        profile = profile_named("ES") if judged else None
        daemon = Daemon(loaded, [], 1, feeds=[("live", LiveFeed(sent, listener, gathered=True))], profile=profile)
        sending = sender.submit(send, listener.getsockname()[1], sent)
        with noting() as noted:
            asyncio.run(daemon.run())
        sending.result()
    times, rows = np.array(noted.delays).T
    first = int(np.searchsorted(np.cumsum(rows), BEFORE_S / SECONDS * rows.sum()))
    each = np.repeat(times[first:], rows[first:].astype(int))
    figures = {f"durable_p{p}_ms": float(np.percentile(each, p)) for p in (50, 99)}
    if daemon.judge is not None:
        gauges = daemon.judge.gauges()
        own_ms = noted.signals_ms(first)
        signals_ms += own_ms.tolist()
        figures |= {
            "published": gauges["published"],
            "timed": len(own_ms),
            "read_again_rows": gauges["read_again_rows"],
        }
    return figures


def quantile(values: list[float], percent: int) -> float | None:
    return round(float(np.percentile(values, percent)), 1) if values else None


def main() -> None:
    calendar()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, context) as sender:
        path = Path(folder, "records")
        write(path)
        sent = Sent(
            path, dbn_info(SimulatedMarket(1, RATE, START_NS)), False, int(RATE * EVERY_S) * BOOK_BYTES, EVERY_S
        )
        signals_ms: list[float] = []
        both = [
            (record(sender, sent, signals_ms, judged=True), record(sender, sent, [], judged=False))
            for _ in range(ROUNDS)
        ]
    ours, theirs = (spread(list(figures)) for figures in zip(*both, strict=True))
    ratio = statistics.median(a["durable_p99_ms"] / b["durable_p99_ms"] for a, b in both)
    report(
        "receipt to durable and published, 50,000 records a second",
        {
            "judged": ours,
            "not judged": theirs,
            "p99 ratio": round(ratio, 3),
            "signals of all rounds, ms": {
                "snaps": len(signals_ms),
                **{f"p{p}": quantile(signals_ms, p) for p in (50, 90, 99)},
            },
            "load": os.getloadavg()[0],
        },
    )


if __name__ == "__main__":
    main()

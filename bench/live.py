"""Claim: a second of the daemon's processor records 200,000 DBN records and more that come live in reads of 64 KB.

Of reads of 4 KB 120,000, of websocket frames of 20 events 500,000 events: published on the bus, so durable, and brought
into Bronze beside it. Another process sends by TCP as fast as it is read. Baseline: the same feed gives its messages
one by one, where Arrivals gathers what came meanwhile; of small messages gathering is 15 times as fast and more.

At 100 messages a second gathering adds at most 0.3 ms to the way from the receipt of a message to the log.
"""

import asyncio
import multiprocessing
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa

from bench.market import RATE, SEED, START_NS
from bench.rounds import Figures, interleave, report, spread
from spymaster import clock, settings
from spymaster.bus import Published, Subscription
from spymaster.daemon import Daemon
from spymaster.events.captures import CaptureSummary
from spymaster.events.encoding import MassiveFrames
from spymaster.feeds.arrivals import Arrivals
from spymaster.feeds.feed import Burst, DeliveryInfo, Frontiers, RawMessage
from spymaster.simulation.deliveries import StockWriter
from spymaster.simulation.source import SimulatedMarket, dbn_info
from spymaster.wal.writer import StreamLog

ROUNDS = 5
FLUSH_S = 2.0
DBN_BYTES, FRAME_BYTES = 288 << 20, 160 << 20
SHORT_BYTES = 12 << 20  # for the baseline
FRAME_MARKET_RATE = 200_000  # busy enough for frames of 20
LENGTH = struct.Struct(">I")
PACED_EVERY_S = 0.01
PACED_BYTES = 300 * (4 << 10)
SENT_AT_ONCE = 256 << 10  # so that the sender is no slower than the reader, however little that reads at once
MOST_S_TO_CONNECT = 60.0


@dataclass(frozen=True)
class Sent:
    """What another process sends: a file's bytes, as fast as they are read, or so many each `every_s`.

    Attributes:
        info: what they are.
        framed: each message has its length before it.
        read_bytes: what is read at once at most.
    """

    path: Path
    info: DeliveryInfo
    framed: bool
    read_bytes: int
    every_s: float = 0.0


def send(port: int, sent: Sent) -> None:
    """Send to whoever listens. Runs in a process of its own."""
    data = memoryview(sent.path.read_bytes())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        piece_bytes = sent.read_bytes if sent.every_s else SENT_AT_ONCE
        due = time.perf_counter()
        for at in range(0, len(data), piece_bytes):
            connection.sendall(data[at : at + piece_bytes])
            due += sent.every_s
            time.sleep(max(0.0, due - time.perf_counter()))


class Connection(asyncio.BufferedProtocol):
    """Puts what is read, at most so many bytes at once: each read is a message, or some frames and a part of one."""

    def __init__(self, sent: Sent) -> None:
        self.arrivals = Arrivals(self._pause, self._resume)
        self._buffer = memoryview(bytearray(sent.read_bytes))
        self._framed, self._rest = sent.framed, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def _pause(self) -> None:
        self._transport.pause_reading()

    def _resume(self) -> None:
        self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        now_ns = clock.utc_now_ns()
        data = bytes(self._buffer[:nbytes])
        for message in self._frames(data) if self._framed else [data]:
            self.arrivals.put(RawMessage(message, now_ns))

    def _frames(self, data: bytes) -> Iterator[bytes]:
        data, at = self._rest + data, 0
        while at + LENGTH.size <= len(data):
            end = at + LENGTH.size + LENGTH.unpack_from(data, at)[0]
            if end > len(data):
                break
            yield data[at + LENGTH.size : end]
            at = end
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrivals.end(exc)

    def close(self) -> None:
        self.arrivals.end()
        self._transport.close()


class LiveFeed:
    """A vendor's feed of one connection, and its one delivery."""

    waits, pace_by = False, None

    def __init__(self, sent: Sent, listener: socket.socket, *, gathered: bool) -> None:
        self.info = sent.info
        self._sent, self._listener, self._gathered = sent, listener, gathered
        self._connection: Connection | None = None
        self.connected_cpu_s = self.connected_s = 0.0

    async def deliveries(self, frontiers: Frontiers) -> AsyncIterator["LiveFeed"]:
        yield self

    async def bursts(self) -> AsyncGenerator[Burst]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(MOST_S_TO_CONNECT):
            connected, _ = await loop.sock_accept(self._listener)
        connection = self._connection = Connection(self._sent)
        self.connected_cpu_s, self.connected_s = time.process_time(), time.perf_counter()
        await loop.connect_accepted_socket(lambda: connection, connected)
        async for burst in connection.arrivals.bursts():
            if self._gathered:
                yield burst
            else:
                for message in burst:
                    yield [message]

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def recorded(self, outcome: CaptureSummary) -> None:
        pass


async def recorded(loaded: settings.Settings, feed: LiveFeed) -> tuple[Daemon, int]:
    """Record a feed to its end; return the daemon that did, and how many of its rows the bus published."""
    daemon = Daemon(loaded, [], 0, feeds=[("live", feed)])
    counting = asyncio.create_task(count(daemon.bus.subscribe()))
    await daemon.run()
    return daemon, await counting


async def count(published: Subscription) -> int:
    """Count the feed's rows where the bus publishes them."""
    rows = 0
    async for some in published:
        assert isinstance(some, Published), "this reader was too slow"
        rows += 0 if some.stream.schema.startswith("system.") else some.batch.num_rows
    return rows


def record(sender: ProcessPoolExecutor, sent: Sent, *, gathered: bool) -> Figures:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loaded = settings.load(data_root=f"{folder}/lake", wal_root=f"{folder}/wal", flush_interval_sec=FLUSH_S)
        feed = LiveFeed(sent, listener, gathered=gathered)
        sending = sender.submit(send, listener.getsockname()[1], sent)
        daemon, rows = asyncio.run(recorded(loaded, feed))
        cpu_s, seconds = time.process_time() - feed.connected_cpu_s, time.perf_counter() - feed.connected_s
        sending.result()
        (summary,) = daemon.summaries
        assert summary.complete, summary.error
        assert rows == sum(summary.rows.values())
    return {"rows_per_cpu_s": rows / cpu_s, "rows_per_s": rows / seconds}


@contextmanager
def appended(delays_ms: list[float]) -> Iterator[None]:
    """Note how long after its receipt each row's frame was in the log."""
    append = StreamLog.append

    def noted(log: StreamLog, numbered: pa.RecordBatch) -> None:
        append(log, numbered)
        if not log.stream.schema.startswith("system."):
            delays_ms.append((clock.utc_now_ns() - numbered["ts_local_ns"][-1].as_py()) / clock.NS_PER_MS)

    with mock.patch.object(StreamLog, "append", noted):
        yield


def latency(sender: ProcessPoolExecutor, sent: Sent, *, gathered: bool) -> Figures:
    delays_ms: list[float] = []
    with appended(delays_ms):
        record(sender, sent, gathered=gathered)
    return {f"receipt_to_log_p{p}_ms": float(np.percentile(delays_ms, p)) for p in (50, 99)}


def write_dbn(path: Path, least_bytes: int) -> None:
    """Write the records of a simulated market, without a header."""
    written = 0
    with path.open("wb") as file:
        for block in SimulatedMarket(SEED, RATE, START_NS).blocks():
            written += file.write(block)
            if written >= least_bytes:
                return


def write_frames(path: Path, least_bytes: int) -> None:
    """Write SPY's frames, each with its length before it."""
    written = 0
    writer = StockWriter()
    with path.open("wb") as file:
        for step in SimulatedMarket(SEED, FRAME_MARKET_RATE, START_NS).session(with_spy=True).steps():
            for frame in (frame for frames in writer.write(step) for frame in frames):
                written += file.write(LENGTH.pack(len(frame)) + frame)
            if written >= least_bytes:
                return


def main() -> None:
    results: dict[str, object] = {}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, context) as sender:
        files = {name: Path(folder, name) for name in ("dbn", "dbn, short", "dbn, paced", "frames", "frames, short")}
        for name, size in (("dbn", DBN_BYTES), ("dbn, short", SHORT_BYTES), ("dbn, paced", PACED_BYTES)):
            write_dbn(files[name], size)
        for name, size in (("frames", FRAME_BYTES), ("frames, short", SHORT_BYTES // 8)):
            write_frames(files[name], size)
        market = dbn_info(SimulatedMarket(SEED, RATE, START_NS))
        spy = DeliveryInfo("frames", MassiveFrames("stocks", "SPY"), simulated=True)
        for name, file, info, read_bytes in (
            ("DBN, reads of 64 KB", "dbn", market, 64 << 10),
            ("DBN, reads of 4 KB", "dbn", market, 4 << 10),
            ("frames of 20 events", "frames", spy, 64 << 10),
        ):
            whole, short = (Sent(files[which], info, info is spy, read_bytes) for which in (file, f"{file}, short"))
            results[name] = interleave(
                partial(record, sender, whole, gathered=True),
                partial(record, sender, short, gathered=False),
                ROUNDS,
                "rows_per_cpu_s",
            )
        paced = Sent(files["dbn, paced"], market, False, 4 << 10, PACED_EVERY_S)
        both = [(latency(sender, paced, gathered=True), latency(sender, paced, gathered=False)) for _ in range(ROUNDS)]
        ours, theirs = (spread(list(figures)) for figures in zip(*both, strict=True))
        added = [a["receipt_to_log_p50_ms"] - b["receipt_to_log_p50_ms"] for a, b in both]
        results["100 messages a second"] = {
            "gathered": ours, "one by one": theirs, "added_p50_ms": round(statistics.median(added), 3)
        }  # fmt: skip
    report("live bytes to durable rows and Bronze, per second of the daemon's processor", results)


if __name__ == "__main__":
    main()

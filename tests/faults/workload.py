"""What the processes do that are to be killed: they record, recover or verify, by the real command line.

A child reports through a socket, so that what it said before its death is known:
    stage NAME                                it is starting, recording or stopping
    left NAME                                 a sealed segment that its start found, on its way to Bronze from now on
    appending STREAM CAPTURE FIRST LAST       rows it is about to append
    acknowledged STREAM CAPTURE FIRST LAST    rows that were published
    lag SECONDS                               the longest that its event loop was not to be had
    stage compact                             it has the lock, knows the partitions, and makes Silver of them now
"""

import asyncio
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset  # the Parquet reader imports it on first use, once for all is enough

from spymaster import bus, cli, clock, daemon, events
from spymaster.bus import Bus, Skipped
from spymaster.compaction import compactor
from spymaster.compaction.compactor import Compacted
from spymaster.engines.profile import profile_named
from spymaster.errors import StorageError
from spymaster.events import SCHEMAS, Stream
from spymaster.events.captures import Capture
from spymaster.lake.locks import writer_locks
from spymaster.query.sessions import calendar
from spymaster.recording import lane
from spymaster.recording.recorder import Recorder
from tests.capturing import capture_rows
from tests.faults import defects
from tests.rows import delivered

profile_named("ES")  # a child of another user may not read what Python loads on first use
calendar()

Report = Callable[[str], None]

STREAMS = {
    Stream("futures.trades", "ES"): events.FUTURES_TRADES,
    Stream("reference.instruments", "ES"): events.REFERENCE_INSTRUMENTS,
}
SPREAD_MS = 100_000  # between a row number and the next batch's, so that a few batches cross the hour
DAY_NS = 24 * clock.NS_PER_HOUR


def batch(stream: Stream, first: int, count: int) -> pa.RecordBatch:
    """Return the rows that a child appends as `first` and following of a stream, in every column."""
    return delivered(STREAMS[stream], count, first * SPREAD_MS)


def main(job: dict[str, Any], reports: socket.socket) -> None:
    """Run one job; exit as the command line does.

    Args:
        job: the command, and what is to go wrong: `defect`, a name of `defects`; `clock`, how it jumps; `slow_reader`.
        reports: where to report.
    """

    def report(line: str) -> None:
        reports.send(line.encode())

    os.environ.update({"DATA_ROOT": "lake", "WAL_ROOT": "wal", "FLUSH_INTERVAL_SEC": "0.3", "WAL_SEGMENT_SIZE_MB": "1"})
    report_acknowledgements(report)
    if job.get("defect"):
        defects.PLANT[job["defect"]]()
    if job.get("clock"):
        jump_clock(job["clock"])
    command, *arguments = job["command"]
    if command == "record":
        cli.app = lambda *_, standalone_mode: asyncio.run(record(job, report))
    elif command == "hold":
        cli.app = lambda *_, standalone_mode: hold(reports)
    elif command == "calls":
        cli.app = lambda *_, standalone_mode: make_calls(report)
    elif command == "run":
        measure_lag(report)
    elif command == "compact":
        report_compaction(report)
    if job.get("slow_reader"):
        read_slowly(report)
    sys.argv = ["spymaster", command, *arguments]
    cli.main()


def report_acknowledgements(report: Report) -> None:
    """Report rows in the moment in which they are published."""
    publish = Bus.publish

    def publish_and_report(self: Bus, stream: Stream, batches: Iterable[pa.RecordBatch]) -> None:
        published = list(batches)
        publish(self, stream, published)
        for rows in published if stream.schema in SCHEMAS else ():  # signals pass no log
            first, last = rows["capture_seq"][0].as_py(), rows["capture_seq"][-1].as_py()
            assert last - first + 1 == rows.num_rows
            report(f"acknowledged {stream} {rows['capture_id'][0].as_py()} {first} {last}")

    bus.Bus.publish = publish_and_report  # type: ignore[method-assign]


def report_compaction(report: Report) -> None:
    """Report when Silver is begun, and heed Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores Ctrl-C
    real = compactor.compact

    def compact(*arguments: Any, **named: Any) -> list[Compacted]:
        report("stage compact")
        return real(*arguments, **named)

    compactor.compact = compact


async def record(job: dict[str, Any], report: Report) -> None:
    """Record two streams: appends, commits, seals, flushes, an end row, a clean stop; the seed gives the order."""
    lane.IDLE_S = 0.01  # type: ignore[misc]  # so that a short run puts watermarks on disk, too
    seed = job["seed"]
    report("stage start")
    own = Recorder(
        Path("wal"), Path("lake"), bus=Bus(),
        flush_interval_s=0.2 if seed % 3 == 2 else 300,  # by its own clock too, or only when told
        segment_mb=0 if seed % 3 == 1 else 256,  # sealed at every append, or only when told
        sync_ms=1,
    )  # fmt: skip
    recovered = await own.start()
    for segment in recovered.salvage.sealed:  # before the event loop gets to draining them
        report(f"left {segment.name}")
    try:
        await record_capture(own, job["capture"], random.Random(seed) if seed else None, report)
    except BaseException:
        with suppress(StorageError):  # as the daemon does
            await own.stop()
        raise
    await own.stop()


async def record_capture(own: Recorder, capture_id: int, chance: random.Random | None, report: Report) -> None:
    """Record one capture, whole: by chance, or a short one that does everything once."""
    capture = Capture(capture_id, "sim", "sim", None, 1, tuple(STREAMS))
    await own.begin(capture)
    rows = {stream: await capture_rows(own, stream, capture_id) for stream in STREAMS}
    report("stage record")

    async def append(stream: Stream, count: int) -> None:
        first = rows[stream].next_seq
        report(f"appending {stream} {capture_id} {first} {first + count - 1}")
        await rows[stream].append(batch(stream, first, count))

    async def commit() -> None:
        while any(each.unacknowledged_rows for each in own.lanes.values()):
            own.health.check()
            await asyncio.sleep(0.001)

    def seal() -> None:
        for each in own.lanes.values():
            each.log.seal()

    if chance is None:
        for _ in range(2):
            for stream in STREAMS:
                await append(stream, 5)
            await commit()
            for stream in STREAMS:
                await append(stream, 3)
            seal()
            for stream in STREAMS:
                await append(stream, 2)  # while the sealed segments wait for their names
            await own.flush()
        await asyncio.sleep(0.03)  # the watermark of the idle streams
    else:
        for _ in range(chance.randint(8, 14)):
            for _ in range(chance.randint(1, 3)):
                await append(chance.choice(list(STREAMS)), chance.choice([1, 5, 40, 300]))
            step = chance.choice([commit, commit, own.flush, None, seal])
            if step is seal:
                seal()
            elif step is not None:
                await step()
            if chance.random() < 0.3:
                await asyncio.sleep(0.02)
    report("stage stop")
    counts = {stream: own_rows.next_seq for stream, own_rows in rows.items()}
    await own.end(capture, counts, complete=True, detail=None)


def make_calls(report: Report) -> None:
    """Make one storage call of each kind, half of them in a second thread."""
    Path("folder").mkdir()
    file = os.open("folder/a", os.O_CREAT | os.O_WRONLY)
    os.pwrite(file, b"one", 0)

    def more() -> None:
        os.pwrite(file, b"two", 3)
        try:
            os.fdatasync(file)
        except OSError as error:
            report(error.strerror)
            os._exit(1)

    thread = threading.Thread(target=more)
    thread.start()
    thread.join()
    os.link("folder/a", "folder/b")
    folder = os.open("folder", os.O_RDONLY)
    os.fsync(folder)
    Path("folder/b").rename("folder/c")
    os.ftruncate(file, 1)
    Path("folder/c").unlink()
    report("done")


def hold(reports: socket.socket) -> None:
    """Wait for a word, take the writer's locks, hold them until the next word."""
    reports.send(b"ready")
    reports.recv(100)
    with writer_locks(Path("wal"), Path("lake")):
        reports.send(b"held")
        reports.recv(100)
        reports.send(b"released")


def jump_clock(how: str) -> None:
    """Let the wall clock jump a day forth and back with every look at it, or stand still."""
    real, looks = clock.utc_now_ns, 0

    def jumping() -> int:
        nonlocal looks
        looks += 1
        return real() + (DAY_NS if looks % 2 else -DAY_NS)

    frozen = real()
    clock.utc_now_ns = {"jumps": jumping, "back": lambda: real() - DAY_NS, "stands": lambda: frozen}[how]


def measure_lag(report: Report) -> None:
    """Report at its end how long a run's event loop was not to be had."""
    real = daemon.Daemon.run

    async def measured(self: daemon.Daemon, duration_s: float | None = None) -> None:
        longest = 0.0

        async def measure() -> None:
            nonlocal longest
            while True:
                before = clock.monotonic_s()
                await asyncio.sleep(0.001)
                longest = max(longest, clock.monotonic_s() - before - 0.001)

        measuring = asyncio.ensure_future(measure())
        try:
            await real(self, duration_s)
        finally:
            measuring.cancel()
            with suppress(asyncio.CancelledError):
                await measuring
            report(f"lag {longest:.3f}")

    daemon.Daemon.run = measured  # type: ignore[method-assign]


def read_slowly(report: Report) -> None:
    """Subscribe a reader that holds 10 KB at most and takes its time; report what it read and what it missed."""
    real = Recorder.start

    async def start(self: Recorder, *locked: Any) -> Any:
        subscription = self.bus.subscribe(max_bytes=10_000)

        async def read() -> None:
            read_rows = skipped_rows = 0
            async for item in subscription:
                if isinstance(item, Skipped):
                    skipped_rows += item.rows
                else:
                    read_rows += item.batch.num_rows
                    await asyncio.sleep(0.05)
            report(f"reader {read_rows} {skipped_rows} {subscription.dropped_rows}")

        self.slow_reader = asyncio.ensure_future(read())  # type: ignore[attr-defined]
        return await real(self, *locked)

    stop = Recorder.stop

    async def stop_and_read_on(self: Recorder) -> None:
        await stop(self)
        await self.slow_reader  # type: ignore[attr-defined]

    Recorder.start, Recorder.stop = start, stop_and_read_on  # type: ignore[method-assign]

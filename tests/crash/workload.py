"""Runs of the real recorder whose storage calls are the traces that the explorer cuts."""

import asyncio
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from spymaster import durable, events
from spymaster.bus import Bus
from spymaster.compaction.archiver import archive_before
from spymaster.errors import SpymasterError
from spymaster.events import Stream
from spymaster.events.captures import Capture
from spymaster.lake.bronze import flush_segment
from spymaster.recording.recorder import Recorder
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import retire
from spymaster.wal.sealed import read_sealed
from spymaster.wal.writer import StreamLog
from tests.capturing import capture_rows
from tests.crash.disk import Call, Recording, State, recording
from tests.crash.scratch import MEMORY_FOLDER, Key, Outcome, Scratch
from tests.crash.starts import (
    STEP_MS,
    FileContent,
    Started,
    StartTroubleError,
    as_run,
    read_file,
    recorder_at,
    start_and_record,
)
from tests.rows import delivered
from tests.silver_files import pretend_compacted

TRADES, INSTRUMENTS = Stream("futures.trades", "ES"), Stream("reference.instruments", "ES")
STREAMS = (
    TRADES, INSTRUMENTS, Stream("futures.mbp10", "NQ"), Stream("options.quotes", "SPY"),
    Stream("options.greeks_snapshots", "SPY"), Stream("reference.status", "ES"), Stream("reference.statistics", "ES"),
)  # fmt: skip


class Workload(NamedTuple):
    """What a recorder is made to do.

    Attributes:
        flushes: how often everything goes to Bronze, each after three batches of every stream; a last one ends it.
        streams: what is recorded.
        rows: in each batch.
        captures: deliveries one after another, each with its begin and end.
        file: whether a file comes first, whose rows are looked up when it is read again.
        failing_sync: the sync that fails, counted from 1.
    """

    flushes: int = 2
    streams: tuple[Stream, ...] = (TRADES, INSTRUMENTS)
    rows: int = 3
    captures: int = 1
    file: bool = False
    failing_sync: int | None = None

    @classmethod
    def drawn(cls, chance: random.Random) -> "Workload":
        """Return one of many; every second has a sync that fails, every third has a file in place of live captures."""
        file = chance.random() < 1 / 3
        return cls(
            flushes=chance.randint(1, 2),
            streams=tuple(chance.sample(STREAMS, chance.choice([1, 1, 2]))),
            rows=chance.randint(1, 4),
            captures=0 if file else chance.randint(1, 2),
            file=file,
            failing_sync=chance.choice([None, chance.randint(1, 100)]),
        )


@dataclass
class Trace:
    """A run: its storage calls, and what was promised of which rows by when.

    Attributes:
        calls: in order.
        begun: for each row, the number of calls made before its append began; from there on it may be seen.
        appended: and before it returned; from there on a kill must not lose it.
        acknowledged: and before it was published; from there on a power cut must not lose it.
        counted: for each end row of a capture, the rows that it counts.
        streams: what was recorded.
        file: what the run read, so that a start reads it again.
    """

    calls: list[Call] = field(default_factory=list)
    begun: dict[Key, int] = field(default_factory=dict)
    appended: dict[Key, int] = field(default_factory=dict)
    acknowledged: dict[Key, int] = field(default_factory=dict)
    counted: dict[Key, frozenset[Key]] = field(default_factory=dict)
    streams: tuple[Stream, ...] = (TRADES,)
    file: FileContent | None = None

    def publish(self, stream: Stream, batches: list[pa.RecordBatch]) -> None:
        for batch in batches:
            for key in keys_of(stream.schema, batch):
                self.acknowledged.setdefault(key, len(self.calls))


class NotingBus(Bus):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def publish(self, stream, batches) -> None:
        self.trace.publish(stream, list(batches))


def keys_of(schema: str, rows: pa.RecordBatch | pa.Table) -> list[Key]:
    numbers = zip(rows["capture_id"].to_pylist(), rows["capture_seq"].to_pylist(), strict=True)
    return [(schema, capture, number) for capture, number in numbers]


@contextmanager
def tracing(root: Path, failing_sync: int | None = None) -> Iterator[tuple[Trace, Recording]]:
    """Trace what is done below `root`: storage calls, and appends to its logs."""
    with recording(root, failing_sync) as made, pytest.MonkeyPatch.context() as patch:
        trace = Trace(made.calls)
        append = StreamLog.append

        def noting(log: StreamLog, rows: pa.RecordBatch) -> None:
            keys, before = keys_of(log.stream.schema, rows), len(made.calls)
            for key in keys:
                trace.begun.setdefault(key, before)
            append(log, rows)
            trace.appended.update(dict.fromkeys(keys, len(made.calls)))
            if log.stream.schema == events.SYSTEM_CAPTURES.name:
                trace.counted.update(_counted(rows, keys))

        patch.setattr(StreamLog, "append", noting)
        yield trace, made


def _counted(rows: pa.RecordBatch, keys: list[Key]) -> dict[Key, frozenset[Key]]:
    counted = {}
    for key, row in zip(keys, rows.to_pylist(), strict=True):
        if row["event"] == "end":
            counted[key] = frozenset(
                (stream.split("/")[0], row["of_capture_id"], number)
                for stream, rows_ in row["stream_rows"]
                for number in range(rows_)
            )
    return counted


def run_recorder(workload: Workload = Workload()) -> Trace:  # noqa: B008  # a named tuple never changes
    """Record rows over some hours: commits, seals, flushes, retirements and a clean stop, or until a sync fails."""
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        root = Path(folder)
        with tracing(root, workload.failing_sync) as (trace, _):
            asyncio.run(_record(root, workload, trace))
    return trace


async def _record(root: Path, workload: Workload, trace: Trace) -> None:
    bus = NotingBus(trace)
    recorder = recorder_at(root, bus)
    trace.streams = workload.streams
    try:
        await recorder.start()
        if workload.file:
            trace.file = FileContent(workload.streams, workload.rows, 3 * workload.flushes + 1)
            await _read(recorder, trace.file)
        for capture_id in range(77, 77 + workload.captures):
            await _deliver(recorder, Capture(capture_id, "sim", "sim", None, 1, workload.streams), workload)
    except (SpymasterError, OSError):
        assert workload.failing_sync is not None
    finally:
        try:
            await recorder.stop()
        except (SpymasterError, OSError):
            assert workload.failing_sync is not None


async def _read(recorder: Recorder, content: FileContent) -> None:
    """Read a file; of each three batches one is committed, one sealed, and then all go to Bronze."""

    async def between(number: int) -> None:
        if number % 3 == 0:
            await asyncio.sleep(0.01)
        elif number % 3 == 1:
            for lane in recorder.lanes.values():
                lane.log.seal()
        else:
            await recorder.flush()

    await read_file(recorder, content, between)


async def _deliver(recorder: Recorder, capture: Capture, workload: Workload) -> None:
    await recorder.begin(capture)
    rows = {stream: await capture_rows(recorder, stream, capture.capture_id) for stream in capture.streams}

    async def append(number: int) -> None:
        for stream in capture.streams:
            schema = events.schema_named(stream.schema)
            await rows[stream].append(delivered(schema, workload.rows, number * STEP_MS, stream.symbol))

    for number in range(0, workload.flushes * 3, 3):
        await append(number)
        await asyncio.sleep(0.01)  # a group commit
        await append(number + 1)
        for lane in recorder.lanes.values():
            lane.log.seal()
        await append(number + 2)  # the sealed segments have not got their names yet
        await recorder.flush()
    await append(3 * workload.flushes)  # the end row comes after the commit of these
    counts = {stream: own.next_seq for stream, own in rows.items()}
    await recorder.end(capture, counts, complete=True, detail=None)


def run_start(
    scratch: Scratch, state: State, before: Trace, chance: random.Random, failing_sync: int | None = None
) -> Outcome:
    """Start the recorder on a state, let it record and read what the run before read, and stop it.

    Args:
        scratch: where.
        state: what a crash left of a run.
        before: that run.
        chance: which threads are slow.
        failing_sync: the sync that fails, counted from 1.
    """
    started: list[Started] = []
    traces: list[Trace] = []

    @contextmanager
    def traced() -> Iterator[Recording]:
        with tracing(scratch.root, failing_sync) as (trace, made):
            traces.append(trace)
            yield made

    def work(root: Path, run_capture: int) -> int:
        own = recorder_at(root, NotingBus(traces[0]))
        started.append(asyncio.run(start_and_record(own, before.streams, before.file, live=run_capture ^ 1)))
        if failing_sync is None and (started[0].trouble or not started[0].file_read):
            raise StartTroubleError("; ".join(started[0].trouble) or "the file was not read to its end")
        return started[0].exit_code

    with as_run(scratch.run_capture_of(state), chance):
        outcome = scratch.carry_out(state, traced(), work)
    return outcome._replace(trace=traces[0], file_read=bool(started) and started[0].file_read)


def run_archive() -> tuple[Trace, int]:
    """Flush two segments, retire the first, and archive the parts of both; others of their rows wait in the log.

    Returns:
        The trace, and how many calls were made before the archiving.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder, tracing(root := Path(folder)) as (trace, made):
        durable.make_directories(root / "wal")
        log = StreamLog(root / "wal", TRADES, segment_bytes=256 << 20)
        rows = CaptureRows(log, 77)
        for number in range(7):
            rows.append(delivered(events.FUTURES_TRADES, 3, number * STEP_MS))
            if number in (2, 5):
                log.seal()
            trace.publish(TRADES, log.commit())
        first, second = log.take_sealed()
        for segment in (first, second):
            flush_segment(root / "lake" / "bronze", read_sealed(segment), again=False)
        retire(first)
        pretend_compacted(root / "lake")
        before = len(made.calls)
        assert archive_before(root / "lake", "2025-12-23").parts == 3
        log.close()
    return trace, before


def run_log(failing_commits: tuple[int, ...] = (), *, commits: int = 5, flush: bool = False) -> Trace:
    """Append and commit rows of one stream, in one thread; before every fourth commit the segment is sealed.

    Args:
        failing_commits: those whose first sync fails, counted from 0.
        commits: how many there are.
        flush: whether sealed segments become Bronze and go, or stay for recovery.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder, tracing(root := Path(folder)) as (trace, made):
        durable.make_directories(root / "wal")
        log = StreamLog(root / "wal", TRADES, segment_bytes=256 << 20)
        rows = CaptureRows(log, 77)
        for number in range(commits):
            rows.append(delivered(events.FUTURES_TRADES, 3, number * STEP_MS))
            if number % 4 == 3:
                log.seal()
                rows.append(delivered(events.FUTURES_TRADES, 2, number * STEP_MS + 1_000))
            if number in failing_commits:
                made.fail_next_sync()
            trace.publish(TRADES, log.commit())
            for segment in log.take_sealed() if flush else ():
                flush_segment(root / "lake" / "bronze", read_sealed(segment), again=False)
                retire(segment)
        log.close()
    return trace

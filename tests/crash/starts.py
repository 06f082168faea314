"""The recorder's real start on a crash state: what the crash left goes to Bronze while more of the same streams comes.

A start does all that a running daemon does at once: it salvages, drains behind, records a capture of each stream, and
reads the file again that a killed run was reading. Then it stops. Its threads take turns as they like, so two starts on
one state differ; each has a trace of its own, which says what it promised by when. Some have slow threads: those that
open streams then meet a log that the drain empties meanwhile, or the drain a file that comes early.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from spymaster import durable, events
from spymaster.events import Stream
from spymaster.events.captures import Capture, CaptureSummary
from spymaster.events.encoding import MassiveFrames
from spymaster.events.gaps import Gap, gap_id
from spymaster.feeds.feed import Burst, DeliveryInfo, RawMessage
from spymaster.normalize.normalizer import Message, Normalized
from spymaster.recording import recorder
from spymaster.recording.delivery import DeliveryRecording
from spymaster.recording.pace import Pacer
from spymaster.recording.quarantine import Quarantine
from spymaster.recording.recorder import Recorder
from tests.capturing import capture_rows
from tests.crash.scratch import Key
from tests.rows import delivered

STEP_MS: Final = 1_000_000  # between batches, so that some segments cross the hour
FILE_CAPTURE: Final = 99
SLOW_S: Final = 0.005  # a segment on a memory disk takes about as long to become Bronze
HANGS_S: Final = 30.0  # on a machine that is busy otherwise
LIVE_BATCHES: Final = 2


class StartTroubleError(Exception):
    """A start on a sound disk was not through with what it does, or had something to say."""


class FileContent(NamedTuple):
    """A file that gives batches of rows of some streams, the same at each reading."""

    streams: tuple[Stream, ...]
    rows: int
    batches: int

    @property
    def capture(self) -> Capture:
        return Capture(FILE_CAPTURE, "sim", "file", "f" * 64, 1, self.streams)

    @property
    def keys(self) -> frozenset[Key]:
        """The rows that are on record once it was read to its end."""
        count = self.rows * self.batches
        return frozenset((stream.schema, FILE_CAPTURE, number) for stream in self.streams for number in range(count))


class Reading:
    """One reading of a file: its delivery, and what makes rows of that."""

    info = DeliveryInfo("file", MassiveFrames("stocks", "ALL"), "f" * 64)  # an encoding that nothing looks at
    unmapped = 0

    def __init__(self, content: FileContent, between: Callable[[int], object]) -> None:
        self.ignored: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self._content, self._between = content, between

    async def bursts(self) -> AsyncGenerator[Burst]:
        for number in range(self._content.batches):
            yield [RawMessage(str(number).encode(), None)]
            await self._between(number)

    async def close(self) -> None:
        """Nothing waits here."""

    async def recorded(self, outcome: CaptureSummary) -> None:
        """A file has no note of its own."""

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        batches = []
        for data, _ in messages:
            for stream in self._content.streams:
                schema = events.schema_named(stream.schema)
                batches.append((schema, delivered(schema, self._content.rows, int(data) * STEP_MS, stream.symbol)))
        return Normalized(batches, [])

    def finish(self) -> None:
        """It may end anywhere."""


async def read_file(own: Recorder, content: FileContent, between: Callable[[int], object]) -> CaptureSummary:
    """Record a file as the daemon does.

    Args:
        own: the recorder, started.
        content: what the file gives.
        between: awaited after each batch, with its number.
    """
    summary = CaptureSummary(origin="file")
    reading, stopping = Reading(content, between), asyncio.Event()
    with ThreadPoolExecutor(1, "normalize") as threads:
        await DeliveryRecording(
            own,
            reading,
            reading,
            own.capture(content.capture, "wait", stopping.is_set),
            Quarantine(Path(), content.capture, waits=True, health=own.health),
            Pacer(0, None),
            summary,
            waits=True,
            stopping=stopping,
            threads=threads,
        ).record(None)
    return summary


class Started(NamedTuple):
    """What came of a start.

    Attributes:
        exit_code: as the recovery's.
        trouble: what went on and was not right, a line each.
        file_read: whether the file was read to its end, now or before.
    """

    exit_code: int
    trouble: list[str]
    file_read: bool


async def start_and_record(own: Recorder, streams: tuple[Stream, ...], file: FileContent | None, live: int) -> Started:
    """Start, record a capture of each stream beside what is left, and read the file again; then stop.

    Args:
        own: the recorder.
        streams: what it records.
        file: what it reads beside them.
        live: the id of its capture.
    """
    recovered = await own.start()
    works = [_record_live(own, Capture(live, "sim", "sim", None, 1, streams))]
    if file is not None:
        works.append(_read_again(own, file))
    try:
        async with asyncio.timeout(HANGS_S):
            _, *read = await asyncio.gather(*works)
    finally:
        await own.stop()
    return Started(recovered.exit_code, own.problems, all(read))


async def _record_live(own: Recorder, capture: Capture) -> None:
    await own.begin(capture)
    rows = {stream: await capture_rows(own, stream, capture.capture_id) for stream in capture.streams}
    for number in range(LIVE_BATCHES):
        for stream in capture.streams:
            await rows[stream].append(delivered(events.schema_named(stream.schema), 2, number * STEP_MS, stream.symbol))
            own.lanes[stream].log.seal()  # it goes to Bronze behind what was left
        await asyncio.sleep(0.001)
    lost = gap_id("disconnect", capture.capture_id)
    await own.own.record_gaps([Gap("disconnect", capture.streams[0], None, None, None, None, None, None, "", lost)])
    counts = {stream: each.next_seq for stream, each in rows.items()}
    await own.end(capture, counts, complete=True, detail=None)


async def _read_again(own: Recorder, file: FileContent) -> bool:
    async def at_once(_: int) -> None:
        """A file that is read again meets no flush."""

    return (await read_file(own, file, at_once)).complete


def recorder_at(root: Path, bus) -> Recorder:
    """Return a recorder that flushes only when told, and keeps a small reserve."""
    return Recorder(
        root / "wal", root / "lake", bus=bus, flush_interval_s=300, segment_mb=256, sync_ms=1, disk_reserve_mb=1,
        bronze_retry_s=0.005,
    )  # fmt: skip


@contextmanager
def as_run(run_capture: int, chance: random.Random) -> Iterator[None]:
    """Give the process run a capture, and by chance let one kind of its threads read slowly."""
    slow = chance.choice(["sync", "bronze", "nobody"])
    real = durable.read

    def read(path: Path, limit: int | None = None) -> memoryview:
        if threading.current_thread().name.startswith(slow):
            time.sleep(SLOW_S)
        return real(path, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "read", read)
        patch.setattr(recorder, "random_capture_id", lambda: run_capture)
        yield

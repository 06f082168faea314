"""SIGKILL while Silver is made: whoever reads beside it finds every event once at any moment, and a rerun completes it.

A lake of several schemas and hours, each delivered by two captures that overlap; between kills more rows arrive late,
delivered again in part. Nobody looks in the instant in which rows arrive, so each look knows what it has to find.
"""

import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster import events
from spymaster.errors import SpymasterError
from spymaster.events import EventSchema, Stream
from spymaster.lake import silver
from spymaster.lake.bronze import flush_segment
from spymaster.paths import Partition
from spymaster.query import lake as views
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.faults.nursery import nursery
from tests.faults.storage_calls import Answer, Call, Kill
from tests.rows import NOON_NS, numbered

HOURS: Final = {
    events.FUTURES_TRADES: 4, events.FUTURES_MBP10: 1, events.STOCKS_TRADES: 3, events.OPTIONS_TRADES: 2,
    events.OPTIONS_GREEKS_SNAPSHOTS: 1, events.OPTIONS_QUOTES: 1, events.REFERENCE_STATISTICS: 1,
    events.REFERENCE_STATUS: 1,
}  # fmt: skip
SYMBOL: Final = "SPY"
ROWS: Final = 1_000  # of each of the first two captures, in each hour
OVERLAP: Final = 400
LATE_ROWS: Final = 60
LATE_OVERLAP: Final = 20
HOUR_MS: Final = 3_600_000
PAUSE_S: Final = 0.2  # between looks, so that a delivery gets its turn
ATTEMPTS: Final = 3  # for each kill: a run may end before it


@dataclass
class CompactionFigures:
    """What a series of kills came to.

    Attributes:
        kills: compactions that were killed after they began and before they ended.
        survived: those that ended before the kill.
        mid_write: kills that left a draft.
        mid_run: kills after some partitions of a run were published, and before all were.
        polls: looks of the readers beside them, each at all tables and all Silver files.
        wrong: what a reader saw that is not so, and runs that did not end as they should, a line each.
    """

    kills: int = 0
    survived: int = 0
    mid_write: int = 0
    mid_run: int = 0
    polls: int = 0
    wrong: list[str] = field(default_factory=list)


class GrowingLake:
    """A lake that rows arrive in, and what its readers have to find.

    Attributes:
        events: how many each partition has.
        compacted: how many a partition's Silver had when the latest rows arrived; None where there was none.
    """

    def __init__(self, folder: Path, hours: dict[EventSchema, int]) -> None:
        self.folder, self.data = folder, folder / "lake"
        self.hours = hours
        self.events: Counter[Partition] = Counter()
        self.compacted: dict[Partition, int | None] = {}
        self.still = threading.Lock()  # held by whoever looks, and while rows arrive
        self._captures = 0
        for schema, count in hours.items():
            self.deliver(schema, range(count), ROWS, 0)
            self.deliver(schema, range(count), ROWS, OVERLAP)

    def deliver(self, schema: EventSchema, hours: Iterable[int], count: int, overlap: int) -> None:
        """Let a capture deliver this many rows in each of some hours, the first of them again; flush them."""
        with self.still:
            self._captures += 1
            pieces = []
            for partition in self.partitions(schema):  # whose Silver may have changed since rows arrived last
                self.compacted[partition] = self.silver_rows(partition)
            for hour in hours:
                partition = self.partition(schema, hour)
                first = hour * HOUR_MS + self.events[partition] - overlap
                pieces.append(numbered(schema, count, first, self._captures, SYMBOL))
                self.events[partition] += count - overlap
            header = Header.new(Stream(schema.name, SYMBOL), 1, NOON_NS + self._captures)
            segment = self.folder / f"{header.segment}.arrow"
            segment.write_bytes(encode_segment(header, pa.concat_tables(pieces).combine_chunks(), None))
            flush_segment(self.data / "bronze", read_sealed(segment), again=False)
            segment.unlink()

    def partitions(self, schema: EventSchema) -> list[Partition]:
        return [self.partition(schema, hour) for hour in range(self.hours[schema])]

    @staticmethod
    def partition(schema: EventSchema, hour: int) -> Partition:
        own = 12 + hour if schema.hourly else None
        return Partition(schema.name, schema.partition_by, SYMBOL, "2025-12-22", own)

    def silver_rows(self, partition: Partition) -> int | None:
        """Return the rows of a partition's Silver by its footer, as the trial's own bookkeeping."""
        with suppress(FileNotFoundError, pa.ArrowException):
            return pq.read_metadata(silver.file_of(self.data, partition)).num_rows
        return None

    def due(self) -> list[Partition]:
        """Return the partitions that a compaction has to do."""
        return [partition for partition, rows in self.events.items() if self.silver_rows(partition) != rows]

    def drafts(self) -> list[Path]:
        return [path for path in (self.data / "silver").rglob(".*") if path.name != ".holder"]

    def look(self, tables: views.Lake) -> Iterator[str]:
        """Yield what is wrong now with the one tables, and with the files of Silver, read without our code."""
        for schema in self.hours:
            rows = sum(self.events[partition] for partition in self.partitions(schema))
            try:
                found = tables.execute(f"select count(*) from {schema.name.replace('.', '_')}").fetchall()[0][0]
            except (SpymasterError, duckdb.Error, pa.ArrowException, OSError) as error:
                found = f"{type(error).__name__}: {error}"
            if found != rows:
                yield f"{schema.name} shows {found} of {rows} rows"
        files = {silver.file_of(self.data, partition): partition for partition in self.events}
        for path in (self.data / "silver").rglob("*.parquet"):
            allowed = {self.events[files[path]], self.compacted[files[path]]}
            try:
                with pq.ParquetFile(path, page_checksum_verification=True) as file:  # read_table would open it twice
                    table = file.read()
                found = table.num_rows, pc.count_distinct(table["ts_event_ns"]).as_py()
            except (pa.ArrowException, OSError) as error:
                found = type(error).__name__, error
            if found not in {(rows, rows) for rows in allowed}:
                yield f"{path} has {found} (rows, of them different) where {allowed} were due"


class Readers(threading.Thread):
    """Looks at a lake on and on."""

    def __init__(self, lake: GrowingLake) -> None:
        super().__init__()
        self._lake, self._ended = lake, threading.Event()
        self._tables = views.connect(lake.data, lake.folder / "wal")  # before there is anything to stumble over
        self.polls = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        with self._tables as tables:
            while not self._ended.is_set():
                with self._lake.still:
                    self.wrong += self._lake.look(tables)
                self.polls += 1
                self._ended.wait(PAUSE_S)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def kill_compactions(
    folder: Path,
    kills: int,
    *,
    at_calls: bool = False,
    seed: int = 0,
    hours: dict[EventSchema, int] | None = None,
    defect: str | None = None,
) -> CompactionFigures:
    """Kill `spymaster compact --all` again and again on one lake that grows, then let it complete.

    Args:
        folder: where to do it.
        kills: how many.
        at_calls: kill before storage calls, evenly over a run's; or else at moments, evenly over its time.
        seed: of all chances.
        hours: how many hours of which schemas; default `HOURS`.
        defect: one of `defects`, planted in each run.
    """
    (folder / "wal").mkdir(parents=True)
    lake, chance, figures = GrowingLake(folder, hours or HOURS), random.Random(seed), CompactionFigures()
    full = measure(lake, folder / "measured", at_calls=at_calls)
    readers = Readers(lake)
    readers.start()
    try:
        while figures.kills < kills and figures.survived < kills * ATTEMPTS:
            due = lake.due()
            share = (figures.kills + chance.random()) / kills if at_calls else chance.random()
            after = share * full * len(due) / len(lake.events)
            killed = kill_one(lake, after, at_calls=at_calls, defect=defect)
            figures.kills += killed
            figures.survived += not killed
            figures.mid_write += killed and bool(lake.drafts())
            figures.mid_run += killed and 0 < len(lake.due()) < len(due)
            schema = chance.choice(list(lake.hours))
            late = chance.sample(range(lake.hours[schema]), chance.randint(1, lake.hours[schema]))
            lake.deliver(schema, sorted(late), LATE_ROWS, LATE_OVERLAP)
        complete(lake, figures, defect)
    finally:
        readers.stop()
    figures.polls, figures.wrong = readers.polls, readers.wrong + figures.wrong
    return figures


def kill_one(lake: GrowingLake, after: float, *, at_calls: bool, defect: str | None) -> bool:
    """Start a compaction, kill it after so many seconds or storage calls; return whether it was alive then."""
    began = False

    def heard(line: str) -> bool:
        nonlocal began
        began |= line == "stage compact"
        return began

    child = nursery().start(lake.folder, "compact", "--all", watched=at_calls, defect=defect)
    if at_calls:
        calls = 0

        def decide(_: Call) -> Answer:
            nonlocal calls
            calls += began
            return Kill() if calls > after else None

        return child.watch(lake.folder, decide, lambda line: heard(line) and None)[0].killed_at is not None
    child.hear_until(heard)
    time.sleep(after)
    child.signal(signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


def measure(lake: GrowingLake, folder: Path, *, at_calls: bool) -> float:
    """Compact a copy without a kill; return the seconds or the storage calls that it takes once it has begun."""
    shutil.copytree(lake.data, folder / "lake")
    child = nursery().start(folder, "compact", "--all", watched=at_calls)
    began: list[str] = []
    calls = 0

    def count(_: Call) -> None:
        nonlocal calls
        calls += bool(began)

    if at_calls:
        code = child.watch(folder, count, began.append)[1]
    else:
        child.hear_until(lambda line: not began.append(line))
    before = time.monotonic()
    if not at_calls:
        code = child.wait()
    assert code == 0, child.said()
    shutil.rmtree(folder)
    return calls if at_calls else time.monotonic() - before


def complete(lake: GrowingLake, figures: CompactionFigures, defect: str | None = None) -> None:
    """Run it to its end, twice, and compare Silver with one that nobody interrupted."""
    for _ in range(2):
        code, said = nursery().run(lake.folder, "compact", "--all", defect=defect)
        if code != 0:
            figures.wrong.append(f"the rerun ended with {code}: {said}")
    if f"{len(lake.events)} partitions, 0 of them new or changed." not in said:
        figures.wrong.append(f"the rerun after the rerun says: {said}")
    figures.wrong += [f"{partition} is not compacted" for partition in lake.due()]
    figures.wrong += [f"{path} is left" for path in lake.drafts()]
    other = lake.folder / "uninterrupted"
    shutil.copytree(lake.data / "bronze", other / "lake" / "bronze")
    code, said = nursery().run(other, "compact", "--all")
    if code != 0 or files_of(lake.data) != files_of(other / "lake"):
        figures.wrong.append(f"Silver is not what an uninterrupted run makes: {said}")


def files_of(data: Path) -> dict[str, bytes]:
    found = (data / "silver").rglob("*.parquet")
    return {path.relative_to(data).as_posix(): path.read_bytes() for path in found}

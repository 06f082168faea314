"""The one table beside whoever records, flushes and compacts: every acknowledged row, none twice, none from nowhere."""

import asyncio
import os
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spymaster import durable
from spymaster.bus import Bus
from spymaster.compaction import compactor
from spymaster.compaction.archiver import archive_before
from spymaster.control import ask
from spymaster.errors import UsageError
from spymaster.events import Stream
from spymaster.lake import layout, silver
from spymaster.lake.bronze import flush_segment
from spymaster.query.lake import connect
from spymaster.query.one_table import OneTable
from spymaster.recording.recorder import Recorder
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import retire
from spymaster.wal.sealed import read_sealed
from spymaster.wal.writer import StreamLog
from tests.capturing import capture_rows
from tests.command_line import clean_environment
from tests.compaction.silver_oracle import flush
from tests.faults.nursery import nursery
from tests.rows import NOON_NS, TRADES, delivered, numbered
from tests.test_daemon import Child

STREAM = Stream("futures.trades", "ES")
HOUR_MS = 3_600_000
HOURS = 4
ROWS = 20  # a batch
BATCHES_AN_HOUR = 50
BATCHES_A_DAY = 600  # then it has been in each hour three times
POLL_S = 5
PATIENCE_S = 120  # with a machine that is busy otherwise


def compact(data):
    """Bring the Silver of the last hours up to date; those before are."""
    with compactor.lock(data):
        done = compactor.compact(data, compactor.partitions(data, [TRADES])[-3:], threads=1)
    assert {result.status for result in done} <= {"compacted", "unchanged"}, done


class Compacting(threading.Thread):
    """`spymaster compact --all` on and on, each in a process of its own, and what is to be done between two."""

    def __init__(self, folder, between=lambda: None):
        super().__init__()
        self.runs = 0
        self.wrong = []
        self._folder, self._between, self._ended = folder, between, threading.Event()

    def run(self):
        while not self._ended.wait(0.05):
            code, said = nursery().run(self._folder, "compact", "--all")
            self.wrong += [said] * (code != 0)
            self.runs += 1
            self._between()

    def stop(self):
        self._ended.set()
        self.join()
        assert not self.wrong


class Market:
    """A log whose every step a test takes itself. Its rows move on to the next hour, so that hours come to rest."""

    def __init__(self, root):
        self.wal, self.data = root / "wal", root / "lake"
        self.wal.mkdir()
        self.log = StreamLog(self.wal, STREAM, 1 << 30)
        self.rows = CaptureRows(self.log, 7)
        self.appended = self.acknowledged = self.hour = 0

    def append(self):
        batch = delivered(TRADES, 3, self.hour * HOUR_MS + self.appended)
        self.appended += 3
        self.rows.append(batch)

    def commit(self):
        self.acknowledged += sum(batch.num_rows for batch in self.log.commit())

    def seal(self):
        self.append()
        self.commit()
        self.log.seal()
        self.append()
        self.commit()

    def drain(self):
        self.seal()
        for path in sorted(self.wal.glob("*.0*.arrow")):
            flush_segment(self.data / "bronze", read_sealed(path), again=False)
            retire(path)

    def compact(self):
        self.drain()
        self.hour += 1
        compact(self.data)

    def archive(self):
        self.compact()
        with compactor.lock(self.data):
            archive_before(self.data, "2025-12-23")

    def hurry(self):
        self.drain()
        self.compact()
        self.drain()


class Steps:
    """Lets something happen before one of the moments at which a snapshot touches log or lake."""

    def __init__(self, monkeypatch):
        self.taken, self.at, self.act = 0, -1, lambda: None
        self._acting = True
        for owner, name in ((os, "scandir"), (durable, "read"), (silver, "bronze_parts"), (silver, "read_footer")):
            monkeypatch.setattr(owner, name, self._before(getattr(owner, name)))

    def _before(self, call):
        def step(*arguments, **named):
            if not self._acting:
                self.taken += 1
                if self.taken - 1 == self.at:
                    self._acting = True
                    self.act()
                    self._acting = False
            return call(*arguments, **named)

        return step

    def snapshot(self, table, at=-1, act=None):
        self.taken, self.at, self.act, self._acting = 0, at, act, False
        try:
            return table.snapshot()
        finally:
            self._acting = True


def numbers_of(found):
    pieces = [pq.read_table(path, columns=["capture_seq"], partitioning=None) for path in found.silver + found.bronze]
    return np.sort(np.concatenate([table["capture_seq"].to_numpy() for table in [*pieces, found.log]]))


def inexact_snapshots(folder, monkeypatch, act):
    """Let a market act before each of the steps of a snapshot; return those that were not exact, by the step."""
    steps = Steps(monkeypatch)
    market = Market(folder)
    table = OneTable(market.data, market.wal, TRADES)
    market.compact()  # an hour in Silver, one in Bronze, one in a sealed segment and an active one
    market.compact()
    market.drain()
    market.hour += 1
    market.seal()
    steps.snapshot(table)
    assert steps.taken > 10

    inexact = {}
    for at in range(steps.taken + 4):
        acknowledged = market.acknowledged
        found = steps.snapshot(table, at, getattr(market, act))
        try:
            numbers = numbers_of(found)
        except FileNotFoundError:  # archived between snapshot and read; then SQL takes another
            numbers = numbers_of(steps.snapshot(table))
        if not acknowledged <= len(numbers) <= market.appended or np.any(numbers != np.arange(len(numbers))):
            inexact[at] = len(numbers), acknowledged, market.appended
    market.log.close()
    return inexact


@pytest.mark.parametrize("act", ["append", "commit", "seal", "drain", "compact", "hurry", "archive"])
def test_whatever_happens_between_two_steps_of_a_snapshot_it_is_exact(tmp_path, monkeypatch, act):
    assert inexact_snapshots(tmp_path, monkeypatch, act) == {}


def test_these_steps_would_show_silver_that_is_taken_though_bronze_has_more(tmp_path, monkeypatch):
    monkeypatch.setattr(OneTable, "_is_fresh", trusting)

    assert inexact_snapshots(tmp_path, monkeypatch, "append")


def test_these_steps_would_show_a_lake_that_is_listed_before_the_log_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(OneTable, "_snapshot", lake_first(OneTable._snapshot))

    assert inexact_snapshots(tmp_path, monkeypatch, "drain")


def trusting(table, partition, parts):
    """Take any Silver there is, whatever it is made of."""
    file = silver.file_of(table._data_root, partition)
    return layout.token(file) if file.exists() else None


def lake_first(take):
    """List the lake before the log is read."""

    def taken(table, within):
        partitions = layout.partitions(table._data_root, table._schema, within, tuple(layout.Tier))
        listed = {partition: silver.bronze_parts(table._data_root, partition) for partition in partitions}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(silver, "bronze_parts", lambda _, partition: listed.get(partition, []))
            return take(table, within)

    return taken


def test_a_query_amid_which_silver_is_replaced_is_of_one_file_and_not_of_both(tmp_path):
    """DuckDB opens a file several times; of one that was replaced in between it would show rows of neither state."""
    data = tmp_path / "lake"
    for name, late in (("old", 0), ("new", 500)):
        (tmp_path / name).mkdir()
        flush(tmp_path / name, TRADES, numbered(TRADES, 50_000 + late, 1_000 - 2 * late))
        compact(tmp_path / name / "lake")
        (file,) = (tmp_path / name / "lake" / "silver").rglob("part-0000.parquet")
        file.rename(tmp_path / name / "silver")
    target = data / file.relative_to(tmp_path / "new" / "lake")
    target.parent.mkdir(parents=True)  # of a lake whose Bronze was taken away: then any Silver there is counts

    def replace(name):
        os.link(tmp_path / name / "silver", tmp_path / "draft")
        (tmp_path / "draft").rename(target)

    replace("old")
    states = {(50_000, NOON_NS + 10**9), (50_500, NOON_NS)}
    chance, took_s = random.Random(0), 0.02
    with connect(data, tmp_path / "wal") as lake, ThreadPoolExecutor(1) as other:
        for number in range(100):
            name, moment_s = ("new", "old")[number % 2], chance.uniform(0, 1.5 * took_s)
            replacing = other.submit(lambda name=name, moment_s=moment_s: (time.sleep(moment_s), replace(name)))
            began = time.monotonic()
            found = lake.execute("select count(ts_event_ns), min(ts_event_ns) from futures_trades where price > 0")
            took_s = time.monotonic() - began

            assert found.fetchall()[0] in states
            replacing.result()


def test_an_answer_is_as_of_its_query_whatever_is_replaced_before_it_is_fetched(tmp_path):
    """Far more hours than DuckDB opens ahead of the rows that are fetched."""
    data, hours, rows = tmp_path / "lake", 150, 5_000
    flush(tmp_path, TRADES, numbered(TRADES, rows))
    compact(data)
    (file,) = (data / "silver").rglob("part-0000.parquet")
    shutil.rmtree(data / "bronze")  # any Silver there is counts then
    files = []
    for number in range(hours):
        date = f"2025-0{1 + number // 28}-{1 + number % 28:02d}"
        files.append(file.parent.parent.parent / f"date={date}" / "hour=10" / file.name)
        files[-1].parent.mkdir(parents=True)
        os.link(file, files[-1])
    shorter = pq.read_table(file, partitioning=None).slice(0, 10)
    with connect(data, tmp_path / "wal") as lake:
        answer = lake.execute("select ts_event_ns from futures_trades")
        first = len(answer.fetchmany(1))
        pq.write_table(shorter, tmp_path / "draft")
        (tmp_path / "draft").rename(files[-1])
        files[-2].unlink()

        assert first + sum(len(some) for some in iter(lambda: answer.fetchmany(50_000), [])) == (hours + 1) * rows


class Recording(threading.Thread):
    """A recorder in a thread: one capture, and a second one that delivers what the first did a moment before.

    Its market goes a few times over the hours of a day, so that hours come to rest and get late rows, and then on to
    the next day.
    """

    def __init__(self, wal, data):
        super().__init__()
        self.wal, self.data = wal, data
        self.batches = self.acknowledged = 0
        self.stopping = False

    def run(self):
        asyncio.run(self._record())

    @property
    def day(self):
        return self.batches // BATCHES_A_DAY

    async def _record(self):
        bus = Bus()
        recorder = Recorder(self.wal, self.data, bus=bus, flush_interval_s=0.1, segment_mb=1, sync_ms=1)
        following = asyncio.create_task(self._follow(bus.subscribe()))
        await recorder.start()
        first, second = [await capture_rows(recorder, STREAM, capture) for capture in (7, 8)]
        before = None
        while not self.stopping:
            number = self.batches
            hour = 24 * self.day + number // BATCHES_AN_HOUR % HOURS
            batch = delivered(TRADES, ROWS, hour * HOUR_MS + number)
            self.batches += 1
            await first.append(batch)
            if before is not None and number % 300 == 0:
                await second.append(before)
            before = batch
            await asyncio.sleep(0.01)
        await recorder.stop()
        await following

    async def _follow(self, subscription):
        async for _, batch in subscription:
            if batch["capture_id"][0].as_py() == 7:
                self.acknowledged += batch.num_rows


def test_polls_beside_flushes_retirements_compactions_and_archiving_hold_each_event_once(tmp_path):
    data = tmp_path / "lake"
    recording = Recording(tmp_path / "wal", data)
    archived = 0

    def archive_days_before():
        nonlocal archived
        date = np.datetime64("2025-12-22") + np.timedelta64(recording.day, "D")
        with compactor.lock(data), suppress(UsageError):  # nothing can be moved yet
            archived += archive_before(data, str(date)).parts

    compacting = Compacting(tmp_path, archive_days_before)
    recording.start()
    compacting.start()
    beside = OneTable(data, tmp_path / "wal", TRADES)
    polls = from_silver = 0
    try:
        deadline = time.monotonic() + POLL_S
        with connect(data, tmp_path / "wal") as lake:
            while time.monotonic() < deadline or polls < 5 or compacting.runs < 3 or not archived:
                acknowledged = recording.acknowledged
                rows = lake.execute("select capture_id, capture_seq from futures_trades").fetchnumpy()
                appended = recording.batches * ROWS

                once, counts = np.unique(rows["capture_seq"], return_counts=True)
                assert np.all(counts == 1)
                assert np.all(rows["capture_id"] == 7)
                assert np.array_equal(once[:acknowledged], np.arange(acknowledged))
                assert once[-1:] < appended
                polls += 1
                from_silver += bool(beside.snapshot().silver)
                assert time.monotonic() < deadline + PATIENCE_S
    finally:
        recording.stopping = True
        compacting.stop()
        recording.join()
    assert from_silver > 0


def test_polls_beside_a_daemon_hold_what_it_acknowledged(tmp_path):
    roots = clean_environment() | {
        "DATA_ROOT": str(tmp_path / "lake"), "WAL_ROOT": str(tmp_path / "wal"), "FLUSH_INTERVAL_SEC": "0.1",
        "WAL_SEGMENT_SIZE_MB": "1", "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    child = Child(roots, "sim-es:rate=5000")
    compacting = Compacting(tmp_path)
    try:
        child.wait_for_rows(1_000)
        compacting.start()
        deadline = time.monotonic() + POLL_S
        polls = 0
        with connect(tmp_path / "lake", tmp_path / "wal") as lake:
            while time.monotonic() < deadline or polls < 5 or compacting.runs < 3:
                for name in ("futures.trades", "futures.mbp10"):
                    acknowledged = max(last + 1 for stream, _, _, last in child.acknowledged[:] if name in stream)
                    view = name.replace(".", "_")
                    rows = lake.execute(f"select capture_id, capture_seq from {view}").fetchnumpy()
                    appended = ask(tmp_path / "wal", "status")["streams"][f"{name}/ES"]["appended"]

                    assert acknowledged <= len(rows["capture_seq"]) <= appended
                    assert len(np.unique(rows["capture_id"])) == 1
                    assert np.array_equal(np.sort(rows["capture_seq"]), np.arange(len(rows["capture_seq"])))
                polls += 1
            (compacted,) = lake.execute("select count(*) from silver_futures_trades").fetchone()
    finally:
        compacting.stop()
        child.kill()
    assert compacted > 0

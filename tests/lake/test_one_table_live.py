"""The one table beside whoever records, flushes and compacts: every acknowledged row, none twice, none from nowhere."""

import asyncio
import os
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spymaster import durable
from spymaster.bus import Bus
from spymaster.control import ask
from spymaster.events import Stream
from spymaster.lake import compactor, silver
from spymaster.lake.bronze import flush_segment
from spymaster.lake.one_table import OneTable
from spymaster.lake.recorder import Recorder
from spymaster.lake.views import connect
from spymaster.wal.recovery import retire
from spymaster.wal.writer import CaptureRows, StreamLog
from tests.rows import TRADES, delivered
from tests.test_daemon import Child

STREAM = Stream("futures.trades", "ES")
HOUR_MS = 3_600_000
HOUR_ROWS = 2_000  # then the next hour begins, and the one before comes to rest
POLL_S = 5


def compact(data):
    """Bring the Silver of the last hours up to date; those before are."""
    with compactor.lock(data):
        done = compactor.compact(data, compactor.partitions(data, [TRADES])[-3:], threads=1)
    assert {result.status for result in done} <= {"compacted", "unchanged"}, done


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
            flush_segment(self.data / "bronze", path, again=False)
            retire(path)

    def compact(self):
        self.drain()
        self.hour += 1
        compact(self.data)

    def hurry(self):
        self.drain()
        self.compact()
        self.drain()


class Steps:
    """Lets something happen before one of the moments at which a look touches log or lake."""

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

    def look(self, table, at=-1, act=None):
        self.taken, self.at, self.act, self._acting = 0, at, act, False
        try:
            return table.look()
        finally:
            self._acting = True


def numbers_of(found):
    pieces = [pq.read_table(path, columns=["capture_seq"], partitioning=None) for path in found.silver + found.bronze]
    return np.sort(np.concatenate([table["capture_seq"].to_numpy() for table in [*pieces, found.log]]))


@pytest.mark.parametrize("act", ["append", "commit", "seal", "drain", "compact", "hurry"])
def test_whatever_happens_between_two_steps_of_a_look_it_is_exact(tmp_path, monkeypatch, act):
    steps = Steps(monkeypatch)
    market = Market(tmp_path)
    table = OneTable(market.data, market.wal, TRADES)
    market.compact()  # an hour in Silver, one in Bronze, one in a sealed segment and an active one
    market.compact()
    market.drain()
    market.hour += 1
    market.seal()
    steps.look(table)
    assert steps.taken > 10

    for at in range(steps.taken + 4):
        acknowledged = market.acknowledged
        found = numbers_of(steps.look(table, at, getattr(market, act)))

        assert acknowledged <= len(found) <= market.appended, at
        assert np.array_equal(found, np.arange(len(found))), at
    market.log.close()


class Recording(threading.Thread):
    """A recorder in a thread: one capture, and a second one that delivers what the first did a moment before."""

    def __init__(self, wal, data):
        super().__init__()
        self.wal, self.data = wal, data
        self.stamps = []
        self.acknowledged = 0
        self.stopping = False

    def run(self):
        asyncio.run(self._record())

    async def _record(self):
        bus = Bus()
        recorder = Recorder(self.wal, self.data, bus=bus, flush_interval_s=0.1, segment_mb=1, sync_ms=1)
        following = asyncio.create_task(self._follow(bus.subscribe()))
        await recorder.start()
        first, second = [await recorder.capture_rows(STREAM, capture) for capture in (7, 8)]
        before = None
        while not self.stopping:
            number = len(self.stamps)
            batch = delivered(TRADES, 20, number // HOUR_ROWS * HOUR_MS + number)
            self.stamps.extend(batch["ts_event_ns"].to_pylist())
            first.append(batch)
            if before is not None and number % 300 == 0:
                second.append(before)
            before = batch
            await asyncio.sleep(0.01)
        await recorder.stop()
        await following

    async def _follow(self, subscription):
        async for _, batch in subscription:
            if batch["capture_id"][0].as_py() == 7:
                self.acknowledged += batch.num_rows


def test_polls_beside_flushes_retirements_and_compactions_hold_each_event_once(tmp_path):
    recording = Recording(tmp_path / "wal", tmp_path / "lake")
    recording.start()
    polls = compactions = 0
    ended = threading.Event()

    def compact_on_and_on():
        nonlocal compactions
        while not ended.wait(0.1):
            compact(tmp_path / "lake")
            compactions += 1

    compacting = threading.Thread(target=compact_on_and_on)
    compacting.start()
    try:
        deadline = time.monotonic() + POLL_S
        with connect(tmp_path / "lake", tmp_path / "wal") as lake:
            while time.monotonic() < deadline or polls < 5:
                acknowledged = recording.acknowledged
                stamps = lake.execute("select ts_event_ns from futures_trades").fetchnumpy()["ts_event_ns"]
                appended = recording.stamps[:]

                assert acknowledged <= len(stamps) <= len(appended)
                assert np.array_equal(np.sort(stamps), np.sort(appended[: len(stamps)]))
                polls += 1
            (compacted,) = lake.execute("select count(*) from silver_futures_trades").fetchone()
    finally:
        ended.set()
        compacting.join()
        recording.stopping = True
        recording.join()
    assert compactions > 1
    assert compacted > 0
    assert polls >= 5


def test_polls_beside_a_daemon_hold_what_it_acknowledged(tmp_path):
    roots = {key: value for key, value in os.environ.items() if not key.startswith(("SPYMASTER_", "DATABENTO"))} | {
        "DATA_ROOT": str(tmp_path / "lake"), "WAL_ROOT": str(tmp_path / "wal"), "FLUSH_INTERVAL_SEC": "0.1",
        "WAL_SEGMENT_SIZE_MB": "1", "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    child = Child(roots, "sim-es:rate=5000")
    try:
        child.wait_for_rows(1_000)
        deadline = time.monotonic() + POLL_S
        polls = 0
        with connect(tmp_path / "lake", tmp_path / "wal") as lake:
            while time.monotonic() < deadline or polls < 5:
                for name in ("futures.trades", "futures.mbp10"):
                    acknowledged = max(last + 1 for stream, _, _, last in child.acknowledged[:] if name in stream)
                    view = name.replace(".", "_")
                    rows = lake.execute(f"select capture_id, capture_seq from {view}").fetchnumpy()
                    appended = ask(tmp_path / "wal", "status")["streams"][f"{name}/ES"]["appended"]

                    assert acknowledged <= len(rows["capture_seq"]) <= appended
                    assert len(np.unique(rows["capture_id"])) == 1
                    assert np.array_equal(np.sort(rows["capture_seq"]), np.arange(len(rows["capture_seq"])))
                polls += 1
    finally:
        child.kill()

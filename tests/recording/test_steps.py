"""What may be much is done in parts, or in a thread, so that nothing else on the event loop waits for it."""

import asyncio
import gc
import json
import threading
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

from spymaster import settings
from spymaster.bus import Bus
from spymaster.daemon import Daemon
from spymaster.events import Stream
from spymaster.normalize.open import normalizer_of
from spymaster.recording import deliveries, lane, quarantine
from spymaster.recording.recorder import Recorder
from spymaster.wal.writer import StreamLog
from tests.capturing import capture_rows
from tests.live_feed import LiveDelivery, LiveFeed
from tests.normalize.dbn_bytes import record, trade
from tests.rows import TRADES, delivered

STREAM = Stream(TRADES.name, "ES")


def record_all(tmp_path, *of_feeds) -> None:
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    daemon = Daemon(loaded, [], 0, feeds=[(f"live{number}", feed) for number, feed in enumerate(of_feeds)])
    asyncio.run(daemon.run())


async def started(tmp_path, bus: Bus) -> Recorder:
    """Start a recorder that syncs only when it is asked to."""
    folders = tmp_path / "wal", tmp_path / "lake"
    recorder = Recorder(*folders, bus=bus, flush_interval_s=60, segment_mb=99, sync_ms=60_000)
    await recorder.start()
    return recorder


class Turns:
    """Counts the turns that another task got."""

    def __init__(self) -> None:
        self.count = 0
        self._task = asyncio.create_task(self._take())

    async def _take(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)

    async def end(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@pytest.mark.parametrize(("batches", "rows"), [(1, 40_000), (5, 10)])
def test_other_tasks_get_a_turn_after_each_frame_however_many_are_appended(tmp_path, monkeypatch, batches, rows):
    seen: list[int] = []

    async def run() -> None:
        recorder = Recorder(
            tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=99, sync_ms=1
        )
        await recorder.start()
        capture = await capture_rows(recorder, STREAM, 7)
        turns = Turns()
        real = StreamLog.append

        def noted(log: StreamLog, numbered: pa.RecordBatch) -> None:
            seen.append(turns.count)
            real(log, numbered)

        with monkeypatch.context() as patch:
            patch.setattr(StreamLog, "append", noted)
            for number in range(batches):
                await capture.append(delivered(TRADES, rows, start=number * rows))
        assert capture.next_seq == batches * rows
        await turns.end()
        await recorder.stop()

    asyncio.run(run())
    assert len(seen) >= 5
    assert (np.diff(seen) > 0).all()


def test_a_commit_of_many_batches_publishes_them_in_parts_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(lane, "PUBLISHED_AT_ONCE", 3)
    seen: list[tuple[int, list[int]]] = []

    async def run() -> None:
        bus = Bus()
        recorder = Recorder(
            tmp_path / "wal", tmp_path / "lake", bus=bus, flush_interval_s=60, segment_mb=1, sync_ms=60_000
        )
        await recorder.start()
        capture = await capture_rows(recorder, STREAM, 7)
        turns = Turns()
        real = bus.publish

        def noted(stream: Stream, batches: list[pa.RecordBatch]) -> None:
            seen.append((turns.count, [seq for batch in batches for seq in batch["capture_seq"].to_pylist()]))
            real(stream, batches)

        monkeypatch.setattr(bus, "publish", noted)
        for number in range(8):
            await capture.append(delivered(TRADES, 1, start=number))
        await capture.lane.commit()
        await turns.end()
        await recorder.stop()

    asyncio.run(run())
    parts = [part for part in seen if part[1]]
    assert [numbers for _, numbers in parts] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert (np.diff([turn for turn, _ in parts]) > 0).all()


def test_what_nobody_can_read_is_described_in_a_thread(tmp_path, monkeypatch):
    """In one burst it may be tens of thousands of messages."""
    threads: list[threading.Thread] = []
    real = json.dumps

    def noted(document: object) -> str:
        threads.append(threading.current_thread())
        return real(document)

    monkeypatch.setattr(quarantine.json, "dumps", noted)
    record_all(tmp_path, LiveFeed(LiveDelivery([[record(10)]])))
    assert threads
    assert threading.main_thread() not in threads


def test_what_normalizers_loaded_is_kept_from_the_garbage_collector_once_for_each_kind_until_the_end(
    tmp_path, monkeypatch
):
    said: list[str] = []

    def opened(*arguments, **named):
        said.append("opened")
        return normalizer_of(*arguments, **named)

    monkeypatch.setattr(deliveries, "normalizer_of", opened)
    monkeypatch.setattr(gc, "freeze", lambda: said.append("frozen"))
    monkeypatch.setattr(gc, "unfreeze", lambda: said.append("given back"))
    record_all(tmp_path, LiveFeed(*(LiveDelivery([[trade()]]) for _ in range(3))))
    assert said == ["opened", "frozen", "opened", "opened", "given back"]

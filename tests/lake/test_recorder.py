"""The recorder when something under it fails: it says so, it ends, and what was acknowledged is safe."""

import asyncio
import errno

import pytest

from spymaster import durable
from spymaster.bus import Bus
from spymaster.errors import StorageError
from spymaster.events import Stream
from spymaster.lake import recorder as recorder_module
from spymaster.lake.catalog import Catalog
from spymaster.lake.recorder import Recorder
from spymaster.lake.recovery import recover
from tests.rows import TRADES, delivered

STREAM = Stream("futures.trades", "ES")


def make(tmp_path) -> Recorder:
    return Recorder(tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1)


async def recording(tmp_path):
    recorder = make(tmp_path)
    await recorder.start()
    rows = await recorder.capture_rows(STREAM, 7)
    rows.append(delivered(TRADES, 10))
    return recorder, rows


def recovered_rows(tmp_path) -> int:
    catalog = Catalog(tmp_path / "lake")
    recover(tmp_path / "wal", catalog, tmp_path / "lake" / "bronze", run_capture=1)
    numbers = catalog.recorded_numbers(7, "futures.trades")
    catalog.close()
    assert len(set(numbers)) == len(numbers)
    return len(numbers)


def test_a_disk_that_refuses_syncs_fails_the_recorder_and_stop_does_not_hang(tmp_path, monkeypatch):
    async def run():
        recorder, _ = await recording(tmp_path)

        def fail(descriptor):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(durable, "sync", fail)
        with pytest.raises(StorageError, match="could not make rows durable"):
            await asyncio.wait_for(recorder.failed(), 5)
        monkeypatch.undo()
        with pytest.raises(StorageError):
            await asyncio.wait_for(recorder.flush(), 5)
        await asyncio.wait_for(recorder.stop(), 5)

    asyncio.run(run())
    assert recovered_rows(tmp_path) == 10


def test_a_defect_in_a_background_task_reaches_whoever_waits(tmp_path, monkeypatch):
    async def run():
        recorder, _ = await recording(tmp_path)

        def defect(*_, **__):
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(recorder_module, "flush_segment", defect)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(recorder.flush(), 5)
        monkeypatch.undo()
        await asyncio.wait_for(recorder.stop(), 5)

    asyncio.run(run())
    assert recovered_rows(tmp_path) == 10


def test_bronze_that_refuses_leaves_the_rows_in_the_log_and_says_so(tmp_path, monkeypatch):
    async def run():
        recorder, rows = await recording(tmp_path)
        real = durable.publish

        def refuse(data, target):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(durable, "publish", refuse)
        with pytest.raises(StorageError, match="did not get into Bronze"):
            await recorder.flush()
        monkeypatch.setattr(durable, "publish", real)
        rows.append(delivered(TRADES, 5, start=10))
        await recorder.flush()
        await recorder.stop()
        return recorder.problems

    assert "No space left" in asyncio.run(run())[0]
    assert recovered_rows(tmp_path) == 15


def test_a_stream_that_opens_while_another_is_flushed_disturbs_nothing(tmp_path):
    async def run():
        recorder, _ = await recording(tmp_path)

        async def open_more():
            for number in range(5):
                rows = await recorder.capture_rows(Stream("futures.trades", f"X{number}"), 8)
                rows.append(delivered(TRADES, 1, symbol=f"X{number}"))

        await asyncio.gather(recorder.flush(), open_more(), recorder.flush(), recorder.room(for_file=True))
        await recorder.stop()

    asyncio.run(run())
    assert recovered_rows(tmp_path) == 10


def test_a_cancelled_flush_loses_no_acknowledgement(tmp_path):
    async def run():
        recorder, rows = await recording(tmp_path)
        seen = recorder.bus.subscribe()
        flushing = asyncio.create_task(recorder.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        await recorder.flush()
        await recorder.stop()
        return sum([batch.num_rows async for _, batch in seen]), rows.rows.next_seq

    assert asyncio.run(run()) == (10, 10)

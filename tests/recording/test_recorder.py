"""The recorder when something under it fails: it says so, it ends, and what was acknowledged is safe."""

import asyncio
import errno
import itertools
import threading
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import durable
from spymaster.bus import Bus
from spymaster.errors import BronzeRefusedError, DiskFullError, StorageError, UsageError
from spymaster.events import Stream
from spymaster.events.captures import Capture
from spymaster.events.gaps import GAPS
from spymaster.lake.catalog import Catalog
from spymaster.proof.verify import verify
from spymaster.recording import flush
from spymaster.recording.disk import DiskLevel
from spymaster.recording.recorder import Recorder
from spymaster.recording.recovery import recover
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.segment import scan
from spymaster.wal.segment_writer import MAX_FRAME_ROWS
from spymaster.wal.writer import StreamLog
from tests.capturing import capture_rows
from tests.rows import BOOKS, NOON_NS, TRADES, delivered
from tests.small_disk import MB, small_disk

STREAM = Stream("futures.trades", "ES")


def make(tmp_path) -> Recorder:
    return Recorder(tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1)


async def recording(tmp_path):
    recorder = make(tmp_path)
    await recorder.start()
    rows = await capture_rows(recorder, STREAM, 7)
    await rows.append(delivered(TRADES, 10))
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
            await asyncio.wait_for(recorder.health.failed(), 5)
        monkeypatch.undo()
        with pytest.raises(StorageError):
            await asyncio.wait_for(recorder.flush(), 5)
        await asyncio.wait_for(recorder.stop(), 5)

    asyncio.run(run())
    assert recovered_rows(tmp_path) == 10


def test_a_failed_sync_that_was_survived_is_told_at_once_with_the_rows_that_wait_for_the_next_start(
    tmp_path, monkeypatch
):
    said: list[str] = []

    async def run():
        recorder = Recorder(
            tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1,
            notify=said.append,
        )  # fmt: skip
        await recorder.start()
        rows = await capture_rows(recorder, STREAM, 7)
        await rows.append(delivered(TRADES, 10))
        await until(lambda: rows.lane.log.acknowledged_rows == 10)
        real, active = durable.sync, rows.lane.log._active._file

        def fail_once(descriptor):
            if descriptor == active:
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        monkeypatch.setattr(durable, "sync", fail_once)
        await rows.append(delivered(TRADES, 10, start=10))
        await until(lambda: rows.lane.log.acknowledged_rows == 20)
        monkeypatch.undo()
        await recorder.stop()
        return recorder.problems

    (problem,) = asyncio.run(run())
    assert said == [problem]
    assert "a sync of futures.trades/ES failed ([Errno 5] Input/output error): 10 durable rows wait in" in problem
    assert "futures_trades_ES.001.poisoned.arrow for the next start" in problem
    assert in_lake(tmp_path) == list(range(10, 20))
    assert recovered_rows(tmp_path) == 20


def test_a_defect_in_a_background_task_reaches_whoever_waits(tmp_path, monkeypatch):
    async def run():
        recorder, _ = await recording(tmp_path)

        def defect(*_, **__):
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(flush, "flush_segment", defect)
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
        problems = recorder.problems
        monkeypatch.setattr(durable, "publish", real)
        await rows.append(delivered(TRADES, 5, start=10))
        await recorder.flush()
        await recorder.stop()
        assert recorder.problems == []
        return problems

    assert "No space left" in asyncio.run(run())[0]
    assert recovered_rows(tmp_path) == 15


def test_a_stream_that_opens_while_another_is_flushed_disturbs_nothing(tmp_path):
    async def run():
        recorder, _ = await recording(tmp_path)

        async def open_more():
            for number in range(5):
                rows = await capture_rows(recorder, Stream("futures.trades", f"X{number}"), 8)
                await rows.append(delivered(TRADES, 1, symbol=f"X{number}"))

        await asyncio.gather(recorder.flush(), open_more(), recorder.flush())
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
        return sum([batch.num_rows async for _, batch in seen]), rows.next_seq

    assert asyncio.run(run()) == (10, 10)


def test_a_capture_has_a_position_on_the_bus_from_its_first_durable_rows_until_its_end_row_is_durable(tmp_path):
    async def run():
        recorder, _ = await recording(tmp_path)
        before = recorder.bus.subscribe()
        await recorder.flush()
        during = recorder.bus.subscribe()
        await recorder.end(Capture(7, "sim", "sim", None, 1, (STREAM,)), {STREAM: 10}, complete=True, detail=None)
        after = recorder.bus.subscribe()
        await recorder.stop()
        ends = [batch async for stream, batch in during if stream.schema == "system.captures"]
        return before.positions, during.positions, after.positions, ends

    before, during, after, (end,) = asyncio.run(run())

    assert (before, during) == ({}, {STREAM: {7: 9}})
    assert after == {Stream("system.captures", "spymaster"): {end["capture_id"][0].as_py(): 0}}
    assert (end["event"][0].as_py(), end["of_capture_id"][0].as_py()) == ("end", 7)


def test_a_recorder_whose_tasks_are_cancelled_with_everything_else_ends_and_leaves_its_rows_in_the_log(tmp_path):
    async def run():
        recorder, _ = await recording(tmp_path)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # as `asyncio.run` does when its task fails
            task.cancel()
        with pytest.raises(StorageError, match="cancelled"):
            await asyncio.wait_for(recorder.stop(), 5)

    asyncio.run(run())
    assert recovered_rows(tmp_path) == 10


class Numbers:
    """What the disk says of itself."""

    free_mb = 10_000

    def __call__(self, folder):
        return self.free_mb << 20


def hasty(tmp_path, disk=None) -> Recorder:
    """Return a recorder that looks at its disk and retries Bronze often, and seals when it is told to."""
    return Recorder(
        tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1,
        disk_reserve_mb=100, free_bytes=disk or Numbers(), look_at_disk_s=0.01, bronze_retry_s=0.05,
    )  # fmt: skip


async def until(met) -> None:
    async with asyncio.timeout(10):
        while not met():
            await asyncio.sleep(0.01)


def in_lake(tmp_path, schema: str = "futures.trades") -> list[int]:
    files = (tmp_path / "lake" / "bronze" / Path(*schema.split("."))).rglob("part-*.parquet")
    return sorted(seq for part in files for seq in pq.read_table(part, partitioning=None)["capture_seq"].to_pylist())


def test_what_bronze_refused_is_tried_again_while_the_recorder_runs(tmp_path):
    async def run():
        recorder = hasty(tmp_path)
        await recorder.start()
        rows = await capture_rows(recorder, STREAM, 7)
        await rows.append(delivered(TRADES, 10))
        obstacle = tmp_path / "lake" / "bronze" / "futures"
        obstacle.write_text("where a folder is to be")
        with pytest.raises(BronzeRefusedError, match="did not get into Bronze"):
            await asyncio.wait_for(recorder.flush(), 5)
        (problem,) = recorder.problems
        assert "1 segments wait in the log for Bronze" in problem
        obstacle.unlink()
        await until(lambda: in_lake(tmp_path))
        await until(lambda: not recorder.problems)
        await recorder.stop()
        return recorder

    recorder = asyncio.run(run())
    assert in_lake(tmp_path) == list(range(10))
    assert recorder.lanes[STREAM].flushed_rows == 10
    assert recovered_rows(tmp_path) == 10


def test_a_segment_that_no_try_can_mend_holds_up_no_other(tmp_path):
    async def run():
        recorder = hasty(tmp_path)
        await recorder.start()
        (tmp_path / "lake" / "bronze" / "futures").mkdir()
        (tmp_path / "lake" / "bronze" / "futures" / "trades").write_text("where a folder is to be")
        rows = await capture_rows(recorder, STREAM, 7)
        await rows.append(delivered(TRADES, 10))
        with pytest.raises(BronzeRefusedError):
            await recorder.flush()
        rows = await capture_rows(recorder, Stream(BOOKS.name, "ES"), 7)
        rows.lane.flush_every_s = 0.05
        await rows.append(delivered(BOOKS, 10))
        await until(lambda: in_lake(tmp_path, "futures.mbp10"))
        with pytest.raises(BronzeRefusedError):
            await asyncio.wait_for(recorder.stop(), 5)

    asyncio.run(run())
    assert in_lake(tmp_path, "futures.mbp10") == list(range(10))
    (tmp_path / "lake" / "bronze" / "futures" / "trades").unlink()
    assert recovered_rows(tmp_path) == 10


def test_a_segment_that_was_published_in_part_is_completed_each_row_once_and_the_catalog_knows(tmp_path):
    hour_ns = 3_600_000_000_000

    async def run():
        recorder = hasty(tmp_path)
        await recorder.start()
        rows = await capture_rows(recorder, STREAM, 7)
        for batch in (delivered(TRADES, 10), delivered(TRADES, 10, start=hour_ns // 1_000_000)):
            await rows.append(batch)
        later = tmp_path / "lake" / "bronze" / "futures" / "trades" / "symbol=ES" / "date=2025-12-22" / "hour=13"
        later.parent.mkdir(parents=True)
        later.write_text("where a folder is to be")
        with pytest.raises(BronzeRefusedError):
            await recorder.flush()
        assert in_lake(tmp_path) == list(range(10))
        later.unlink()
        await until(lambda: not recorder.problems)
        known = recorder.drain.catalog.recorded_numbers(7, "futures.trades").tolist()
        await recorder.stop()
        return known, recorder.lanes[STREAM].flushed_rows

    assert asyncio.run(run()) == (list(range(20)), 20)
    assert in_lake(tmp_path) == list(range(20))


def test_a_segment_whose_removal_is_not_durable_is_in_bronze_and_not_waited_for(tmp_path, monkeypatch):
    real, refused = durable.sync_directory, []

    def refuse_after_a_removal(folder):
        sealed = tmp_path / "wal" / "futures_trades_ES.001.arrow"
        if folder == tmp_path / "wal" and (tmp_path / "lake" / "bronze" / "futures").exists() and not sealed.exists():
            refused.append(folder)
            raise OSError(errno.EIO, "the disk refused a sync")
        real(folder)

    async def run():
        recorder, _ = await recording(tmp_path)
        monkeypatch.setattr(durable, "sync_directory", refuse_after_a_removal)
        await recorder.flush()
        monkeypatch.setattr(durable, "sync_directory", real)
        assert (recorder.problems, recorder.drain.waiting) == ([], [])
        assert recorder.lanes[STREAM].flushed_rows == 10
        assert len(recorder.drain.catalog.recorded_numbers(7, "futures.trades")) == 10
        await recorder.stop()

    asyncio.run(run())
    assert len(refused) == 1


def test_streams_are_not_cut_into_ever_more_segments_while_bronze_refuses(tmp_path):
    async def run():
        disk = Numbers()
        recorder = hasty(tmp_path, disk)
        await recorder.start()
        rows = await capture_rows(recorder, STREAM, 7)
        rows.lane.flush_every_s = 0.05
        disk.free_mb = 150
        await until(lambda: recorder.disk.level is DiskLevel.BRONZE_STOPPED)
        for number in range(40):
            await rows.append(delivered(TRADES, 10, start=10 * number))
            await asyncio.sleep(0.02)
        sealed = list((tmp_path / "wal").glob("*.[0-9]*.arrow"))
        rows.lane.log.seal()  # as its size would do
        rows.lane.dirty.set()
        await asyncio.sleep(0.3)
        assert in_lake(tmp_path) == []
        disk.free_mb = 10_000
        await until(lambda: len(in_lake(tmp_path)) == 400)
        await recorder.stop()
        return sealed

    assert asyncio.run(run()) == []


def test_a_full_disk_that_refuses_the_name_of_a_sealed_segment_stops_ingest_and_all_goes_on_by_itself(
    tmp_path, monkeypatch
):
    async def run():
        recorder = hasty(tmp_path)
        await recorder.start()
        rows = await capture_rows(recorder, STREAM, 7)
        await rows.append(delivered(TRADES, 10))
        real = durable.link

        def refuse(source, target):
            if target.parent == tmp_path / "wal":
                raise OSError(errno.ENOSPC, "No space left on device")
            real(source, target)

        monkeypatch.setattr(durable, "link", refuse)
        with pytest.raises(BronzeRefusedError, match="could not name a sealed segment"):
            await recorder.flush()
        await until(lambda: recorder.disk.ingest_stopped)  # at every try
        await until(lambda: not recorder.disk.ingest_stopped)  # at every look, as there is room
        await rows.append(delivered(TRADES, 10, start=10))
        monkeypatch.undo()
        await until(lambda: rows.lane.log.acknowledged_rows == 20)
        await until(lambda: recorder.disk.level is DiskLevel.OK)
        await recorder.stop()
        return recorder.problems

    assert asyncio.run(run()) == []
    assert in_lake(tmp_path) == list(range(20))


def test_rows_that_a_full_disk_does_not_take_are_refused_whole_and_leave_no_hole_in_the_numbers(tmp_path):
    async def run():
        disk = Numbers()
        recorder = hasty(tmp_path, disk)
        await recorder.start()
        rows = await capture_rows(recorder, STREAM, 7)
        await rows.append(delivered(TRADES, 10))
        disk.free_mb = 50
        await until(lambda: recorder.disk.level is DiskLevel.INGEST_STOPPED)
        for start in (10, 20):
            with pytest.raises(DiskFullError, match="Next: free space there"):
                await rows.append(delivered(TRADES, 10, start=start))
            recorder.room.give_up(STREAM, 7, delivered(TRADES, 10, start=start), rows.next_seq)
        with pytest.raises(DiskFullError):
            await capture_rows(recorder, Stream("futures.trades", "NQ"), 7)
        disk.free_mb = 10_000
        await until(lambda: recorder.disk.level is DiskLevel.OK)
        await rows.append(delivered(TRADES, 10, start=30))
        await recorder.stop()
        return recorder.problems

    assert asyncio.run(run()) == ["20 rows of futures.trades/ES were given up: the log's disk was full"]
    assert in_lake(tmp_path) == list(range(20))
    (gap,) = gap_rows_of(tmp_path)
    millisecond = 1_000_000
    assert gap == {
        **gap,
        "cause": "disk_full",
        "of_schema": "futures.trades",
        "of_symbol": "ES",
        "of_capture_id": 7,
        "first_seq": None,
        "last_seq": None,
        "rows": 20,
        "start_ns": NOON_NS + 10 * millisecond,
        "end_ns": NOON_NS + 29 * millisecond + 1,
        "detail": "futures.trades/ES: 20 rows after the first 10 were given up: the log's disk was full",
    }


def test_the_recorders_own_streams_put_their_watermark_on_disk_too_whenever_they_are_idle(tmp_path):
    def watermarks() -> list[int]:
        segments = [tmp_path / "wal" / f"system_{name}_spymaster.arrow" for name in ("captures", "gaps")]
        return [scan(memoryview(segment.read_bytes())).durable_row for segment in segments if segment.exists()]

    async def run():
        disk = Numbers()
        recorder = hasty(tmp_path, disk)
        await recorder.start()
        capture = Capture(7, "sim", "sim", None, 1, (STREAM,))
        await recorder.begin(capture)
        await until(lambda: watermarks() == [1])
        for number in (1, 2):
            disk.free_mb = 50
            await until(lambda: recorder.disk.level is DiskLevel.INGEST_STOPPED)
            recorder.room.give_up(STREAM, 7, delivered(TRADES, 5), 0)
            await recorder.end(capture, {STREAM: 0}, complete=False, detail=None)
            await until(lambda number=number: watermarks() == [1 + number, number])
            disk.free_mb = 10_000
            await until(lambda: recorder.disk.level is DiskLevel.OK)
        await recorder.stop()

    asyncio.run(run())


def slow_syncs_of_gap_rows(monkeypatch, recorder, may_sync) -> None:
    """Make a sync of the gap rows' segment wait for `may_sync`; others are as fast as they were."""
    real = durable.sync

    def sync(descriptor):
        gaps = recorder.lanes.get(GAPS)
        if gaps is not None and descriptor == gaps.log._active._file:
            may_sync()
        real(descriptor)

    monkeypatch.setattr(durable, "sync", sync)


def test_after_a_full_disk_no_row_is_taken_before_the_gap_row_that_precedes_it_is_durable(tmp_path, monkeypatch):
    async def run():
        disk, may_sync = Numbers(), threading.Event()
        recorder = hasty(tmp_path, disk)
        await recorder.start()
        slow_syncs_of_gap_rows(monkeypatch, recorder, lambda: may_sync.wait(20))
        rows = await capture_rows(recorder, STREAM, 7)
        await rows.append(delivered(TRADES, 10))
        disk.free_mb = 50
        await until(lambda: recorder.disk.level is DiskLevel.INGEST_STOPPED)
        recorder.room.give_up(STREAM, 7, delivered(TRADES, 5, start=10), 10)
        disk.free_mb = 10_000
        await until(lambda: GAPS in recorder.lanes and recorder.lanes[GAPS].unacknowledged_rows)
        await asyncio.sleep(0.1)
        with pytest.raises(DiskFullError):
            await rows.append(delivered(TRADES, 1, start=15))
        recorder.room.give_up(STREAM, 7, delivered(TRADES, 1, start=15), 10)  # while the gap row before is synced
        may_sync.set()
        await until(lambda: not recorder.disk.ingest_stopped)
        acknowledged = recorder.lanes[GAPS].log.acknowledged_rows
        await rows.append(delivered(TRADES, 10, start=16))
        await recorder.stop()
        return acknowledged

    assert asyncio.run(run()) == 2
    assert [gap["rows"] for gap in gap_rows_of(tmp_path)] == [5, 1]
    assert in_lake(tmp_path) == list(range(20))


def test_a_source_that_is_faster_than_a_sync_of_its_gap_row_goes_on_all_the_same(tmp_path, monkeypatch):
    async def run():
        disk = Numbers()
        recorder = hasty(tmp_path, disk)
        await recorder.start()
        slow_syncs_of_gap_rows(monkeypatch, recorder, lambda: time.sleep(0.05))
        recording = recorder.capture(Capture(7, "sim", "sim", None, 1, (STREAM,)), "give_up")

        async def deliver():
            for start in itertools.count(step=10):
                await recording.append(TRADES.name, delivered(TRADES, 10, start=start))
                await asyncio.sleep(0.001)

        delivering = asyncio.create_task(deliver())
        await until(lambda: STREAM in recorder.lanes)
        disk.free_mb = 50
        await until(lambda: recorder.given_up.rows)
        disk.free_mb = 10_000
        await until(lambda: recorder.disk.level is DiskLevel.OK)
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        await recorder.stop()
        return recorder.given_up.rows[STREAM]

    assert asyncio.run(run()) == sum(gap["rows"] for gap in gap_rows_of(tmp_path))


def gap_rows_of(tmp_path) -> list[dict]:
    files = (tmp_path / "lake" / "bronze" / "system" / "gaps").rglob("part-*.parquet")
    rows = pa.concat_tables(pq.read_table(part, partitioning=None) for part in files)
    return rows.sort_by("capture_seq").to_pylist()


def test_gap_rows_of_a_run_are_numbered_on_from_those_of_its_recovery(tmp_path):
    (tmp_path / "wal").mkdir()
    log = StreamLog(tmp_path / "wal", STREAM, segment_bytes=1 << 20)
    rows = CaptureRows(log, 7)
    for start in (0, 10, 20):
        rows.append(delivered(TRADES, 10, start=start))
        log.commit()
    log.close()
    segment = tmp_path / "wal" / "futures_trades_ES.arrow"
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)

    async def run():
        disk = Numbers()
        recorder = hasty(tmp_path, disk)
        assert len((await recorder.start()).salvage.holes) == 1
        disk.free_mb = 50
        await until(lambda: recorder.disk.level is DiskLevel.INGEST_STOPPED)
        recorder.room.give_up(STREAM, 8, delivered(TRADES, 5), 0)
        await recorder.stop()

    asyncio.run(run())
    first, second = gap_rows_of(tmp_path)
    assert (first["cause"], second["cause"]) == ("wal_damage", "disk_full")
    assert first["capture_id"] == second["capture_id"]
    assert (first["capture_seq"], second["capture_seq"]) == (0, 1)


def test_a_gap_that_a_start_finds_though_bronze_has_it_counts_once(tmp_path):
    (tmp_path / "wal").mkdir()
    log = StreamLog(tmp_path / "wal", STREAM, segment_bytes=1 << 20)
    rows = CaptureRows(log, 7)
    for start in (0, 10, 20):
        rows.append(delivered(TRADES, 10, start=start))
        log.commit()
    log.close()
    segment = tmp_path / "wal" / "futures_trades_ES.arrow"
    damaged = bytearray(segment.read_bytes())
    damaged[scan(memoryview(bytes(damaged))).frames[2].end - 10] ^= 1

    async def run():
        recorder = make(tmp_path)
        found = await recorder.start()
        await recorder.flush()
        assert recorder.drain.catalog.gap_ids() == {hole.gap_id for hole in found.salvage.holes}
        await recorder.stop()

    for _ in range(2):  # as where somebody puts a copy of the file in its place
        segment.write_bytes(damaged)
        asyncio.run(run())

    first, second = gap_rows_of(tmp_path)
    assert first["gap_id"] == second["gap_id"]  # a start does not wait for Bronze to say what it has
    assert [line for line in verify(tmp_path / "wal", tmp_path / "lake").findings if "known gap" in line] == [
        "capture 7 (no begin row), futures.trades/ES: known gap: rows 10 to 19 are missing (wal_damage)"
    ]
    segment.write_bytes(damaged)
    assert recovered_rows(tmp_path) == 20
    assert len(gap_rows_of(tmp_path)) == 2  # the command asks


def test_the_same_trouble_again_and_again_is_one_problem(tmp_path):
    async def run():
        disk = Numbers()
        recorder = hasty(tmp_path, disk)
        await recorder.start()
        for _ in range(5):
            disk.free_mb = 50
            await until(lambda: recorder.disk.level is DiskLevel.INGEST_STOPPED)
            recorder.room.give_up(STREAM, 7, delivered(TRADES, 5), 0)
            assert len(recorder.problems) == 2
            disk.free_mb = 10_000
            await until(lambda: recorder.disk.level is DiskLevel.OK)
        await recorder.stop()
        return recorder.problems

    assert asyncio.run(run()) == ["25 rows of futures.trades/ES were given up: the log's disk was full"]
    assert [gap["rows"] for gap in gap_rows_of(tmp_path)] == [5] * 5


def on_small_disk(disk) -> Recorder:
    """Return a recorder on a disk that claims more room than it has, as one with a quota does."""
    return Recorder(
        disk.root / "wal", disk.root / "lake", bus=Bus(), flush_interval_s=60, segment_mb=64, sync_ms=1,
        disk_reserve_mb=4, free_bytes=Numbers(), look_at_disk_s=0.01, bronze_retry_s=0.05,
    )  # fmt: skip


def test_what_a_shutdown_has_to_say_fits_into_the_reserve_file_of_a_disk_without_a_byte(tmp_path):
    async def run(disk):
        recorder = on_small_disk(disk)
        await recorder.start()
        capture = Capture(7, "sim", "sim", None, 1, (STREAM,))
        await recorder.begin(capture)
        rows = await capture_rows(recorder, STREAM, 7)
        disk.leave(0)
        with pytest.raises(DiskFullError):
            await rows.append(delivered(TRADES, 50_000))
        disk.free()
        await until(lambda: recorder.disk.level is DiskLevel.OK)
        disk.leave(0)
        for _ in range(20):  # more than the last page of the log has room for
            await recorder.end(capture, {STREAM: 0}, complete=False, detail=None)
        recorder.room.give_up(STREAM, 7, delivered(TRADES, 5), 0)
        with suppress(BronzeRefusedError):
            await recorder.stop()

    with small_disk(tmp_path / "disk", 32) as disk:
        asyncio.run(run(disk))
        disk.free()
        recovered_rows(disk.root)
        (gap,) = gap_rows_of(disk.root)
    assert gap["rows"] == 5


def test_a_file_whose_batch_was_taken_in_part_goes_on_after_that_part(tmp_path):
    count = 3 * MAX_FRAME_ROWS

    async def run(disk):
        recorder = on_small_disk(disk)
        await recorder.start()
        capture = Capture(7, "sim", "sim", None, 1, (STREAM,))
        await recorder.begin(capture)
        recording = recorder.capture(capture, "wait")
        disk.leave(20 * MB)
        appending = asyncio.create_task(recording.append(TRADES.name, delivered(TRADES, count)))
        await until(lambda: recorder.disk.level is DiskLevel.INGEST_STOPPED)
        taken = recorder.lanes[STREAM].log.appended_rows
        disk.free()
        await asyncio.wait_for(appending, 20)
        await recorder.stop()
        return taken, recorder.lanes[STREAM].log.appended_rows

    with small_disk(tmp_path / "disk", 128) as disk:
        taken, appended = asyncio.run(run(disk))
        assert 0 < taken < count == appended
        assert in_lake(disk.root) == list(range(count))


def test_a_time_far_after_its_receipt_moves_no_frontier(tmp_path):
    async def run():
        recorder = make(tmp_path)
        await recorder.start()
        rows = await capture_rows(recorder, STREAM, 7)
        batch = delivered(TRADES, 3)
        at = batch.schema.get_field_index("ts_event_ns")
        times = batch["ts_event_ns"].to_numpy().copy()
        times[1] += 3_600_000_000_000
        await rows.append(batch.set_column(at, batch.schema.field(at), pa.array(times)))
        await until(lambda: rows.lane.log.acknowledged_rows == 3)
        frontier = recorder.frontiers[STREAM]
        await recorder.stop()
        return frontier

    assert asyncio.run(run()) == NOON_NS + 2_000_000


def test_a_recorder_that_could_not_start_stops_at_once(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "the disk refused")

    async def run():
        recorder = hasty(tmp_path)
        with monkeypatch.context() as disk:
            disk.setattr(durable, "sync_directory", refuse)
            with pytest.raises(UsageError, match="the disk refused"):
                await recorder.start()
        await asyncio.wait_for(recorder.stop(), 5)

    asyncio.run(run())

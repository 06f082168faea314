"""The drain: no state of Bronze keeps live rows from being recorded, and each row gets there once."""

import asyncio
import errno
import hashlib
import json
import sqlite3
import time
from pathlib import Path

import pyarrow as pa
import pytest

from spymaster import durable, settings
from spymaster.bus import Bus
from spymaster.daemon import Daemon
from spymaster.errors import BronzeRefusedError, LockedError, OtherLakeError, StorageError, UsageError, WalError
from spymaster.events import Stream
from spymaster.events.captures import capture_id_of
from spymaster.lake import bronze, lake_id
from spymaster.lake.catalog import Catalog
from spymaster.lake.locks import bronze_lock, wal_lock
from spymaster.recording import flush, own_lake
from spymaster.recording.recorder import Recorder
from spymaster.recording.recovery import recover
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.writer import StreamLog
from tests.capturing import capture_rows
from tests.live_feed import SILENT, LiveDelivery, LiveFeed
from tests.normalize.dbn_bytes import T0, Run, es_header, trade
from tests.rows import BOOKS, TRADES, delivered
from tests.small_disk import small_disk
from tests.stored import stored

ES = Stream("futures.trades", "ES")


def recorder_of(wal: Path, lake: Path, said: list[str] | None = None) -> Recorder:
    return Recorder(
        wal, lake, bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1, disk_reserve_mb=2, look_at_disk_s=0.05,
        bronze_retry_s=0.05, notify=None if said is None else said.append,
    )  # fmt: skip


async def until(met) -> None:
    async with asyncio.timeout(30):
        while not met():
            await asyncio.sleep(0.01)


def numbers(lake: Path, schema: str = "futures.trades") -> list[int]:
    return sorted(row["capture_seq"] for row in stored(lake, schema))


def left_in_log(wal: Path, capture_id: int, rows: pa.RecordBatch) -> None:
    """Leave durable rows as a killed process does."""
    wal.mkdir(exist_ok=True)
    log = StreamLog(wal, ES, segment_bytes=1 << 30)
    CaptureRows(log, capture_id).append(rows)
    log.commit()
    log.close()


async def record_live(recorder: Recorder, count: int) -> None:
    """Append rows, and wait until they are published."""
    seen = recorder.bus.subscribe()
    rows = await capture_rows(recorder, ES, 8)
    await rows.append(delivered(TRADES, count))
    async with asyncio.timeout(10):
        assert (await anext(seen)).batch.num_rows == count


def test_while_bronzes_disk_is_full_at_the_start_live_rows_are_recorded_and_get_there_once_there_is_room(tmp_path):
    async def record(lake: Path, free) -> float:
        recorder = recorder_of(tmp_path / "wal", lake)
        began = time.monotonic()
        await recorder.start()
        started_s = time.monotonic() - began
        await record_live(recorder, 20)
        assert not list(lake.rglob("*.parquet"))
        assert json.loads((tmp_path / "wal" / "lake.json").read_bytes())["data_root"] == str(lake)
        assert not (lake / "lake.json").exists()
        free()
        await until(lambda: recorder.drain.catalog is not None)
        await recorder.flush()
        assert recorder.problems == []
        await recorder.stop()
        return started_s

    left_in_log(tmp_path / "wal", 7, delivered(TRADES, 10))
    with small_disk(tmp_path / "disk", 16) as disk:
        disk.leave(0)
        assert asyncio.run(record(disk.root / "lake", disk.free)) < 2
        assert numbers(disk.root / "lake") == sorted([*range(10), *range(20)])
        lake_id.require_own_log(tmp_path / "wal", disk.root / "lake")
        assert (disk.root / "lake" / "lake.json").exists()


def test_a_lake_that_cannot_be_read_at_the_start_and_is_another_logs_gets_no_part(tmp_path, monkeypatch):
    wal, lake, own = tmp_path / "wal", tmp_path / "lake", tmp_path / "own"
    left_in_log(wal, 7, delivered(TRADES, 10))
    own.mkdir()
    lake_id.join(wal, own)
    (lake / "bronze").mkdir(parents=True)
    (lake / "lake.json").write_text('{"lake": "0123456789abcdef"}')
    unreadable = [lake / "lake.json"]
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path in unreadable:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)

    async def record() -> None:
        recorder = recorder_of(wal, lake)
        await recorder.start()
        await record_live(recorder, 20)
        await until(lambda: "Input/output error" in str(recorder.problems))
        unreadable.clear()
        await until(lambda: "is the log of another lake" in str(recorder.problems))
        with pytest.raises(BronzeRefusedError, match="is the log of another lake"):
            await recorder.stop()

    asyncio.run(record())

    assert not list(lake.rglob("*.parquet"))
    lake_id.require_own_log(wal, own)
    recorder = recorder_of(wal, lake)
    with pytest.raises(OtherLakeError):
        asyncio.run(recorder.start())


def stray(lake: Path) -> Path:
    return lake / "bronze" / "mine.parquet"


def of_another_layout(lake: Path) -> Path:
    return lake / "bronze" / "futures" / "trades" / "date=2025-12-22" / "ES.parquet"


def test_a_file_in_bronze_that_we_did_not_write_keeps_no_row_from_getting_there(tmp_path):
    lake = tmp_path / "lake"
    file = stray(lake)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1")
    left_in_log(tmp_path / "wal", 7, delivered(TRADES, 10))

    async def record() -> list[str]:
        recorder = recorder_of(tmp_path / "wal", lake)
        await recorder.start()
        await record_live(recorder, 20)
        await recorder.stop()
        return recorder.problems

    assert asyncio.run(record()) == []
    file.unlink()
    assert numbers(lake) == sorted([*range(10), *range(20)])


def test_a_lake_of_another_layout_stops_bronze_in_one_line_and_keeps_no_live_row_from_being_recorded(tmp_path):
    lake = tmp_path / "lake"
    file = of_another_layout(lake)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1")
    left_in_log(tmp_path / "wal", 7, delivered(TRADES, 10))

    async def record() -> list[str]:
        recorder = recorder_of(tmp_path / "wal", lake)
        await recorder.start()
        await record_live(recorder, 20)
        await until(lambda: recorder.problems)
        problems = recorder.problems
        with pytest.raises(BronzeRefusedError, match=f"{file.name} .*laid out otherwise"):
            await recorder.stop()
        return problems

    (problem,) = asyncio.run(record())
    assert problem.startswith("rows wait in the log for Bronze, which does not open: ")
    assert "\n" not in problem
    file.unlink()
    catalog = Catalog(lake)
    recover(tmp_path / "wal", catalog, lake / "bronze", run_capture=1)
    catalog.close()
    assert numbers(lake) == sorted([*range(10), *range(20)])


def test_another_layout_that_was_moved_away_is_forgiven_at_the_next_flush(tmp_path):
    file = of_another_layout(tmp_path / "lake")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1")

    async def record() -> list[str]:
        recorder = recorder_of(tmp_path / "wal", tmp_path / "lake")
        await recorder.start()
        await record_live(recorder, 20)
        await until(lambda: recorder.problems)
        with pytest.raises(StorageError, match="is behind"):
            await recorder.whole_catalog(lambda: False)
        file.unlink()
        await recorder.flush()
        assert await recorder.whole_catalog(lambda: False) is recorder.drain.catalog
        await recorder.stop()
        return recorder.problems

    assert asyncio.run(record()) == []
    assert numbers(tmp_path / "lake") == list(range(20))


def test_a_lock_on_bronze_that_another_holds_ends_the_start_and_lets_the_logs_lock_go(tmp_path):
    async def start() -> None:
        await recorder_of(tmp_path / "wal", tmp_path / "lake").start()

    with bronze_lock(tmp_path / "lake"), pytest.raises(LockedError, match="bronze is in use by process"):
        asyncio.run(start())

    with wal_lock(tmp_path / "wal"):
        assert list((tmp_path / "wal").glob("*.arrow")) == []


def test_a_lock_on_bronze_that_a_full_disk_refuses_is_taken_before_anything_is_written_there(tmp_path, monkeypatch):
    real, full = durable.lock_directory, True

    def lock(folder: Path):
        if full and folder.name == "bronze":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(folder)

    monkeypatch.setattr(durable, "lock_directory", lock)

    async def record() -> None:
        nonlocal full
        recorder = recorder_of(tmp_path / "wal", tmp_path / "lake")
        await recorder.start()
        await record_live(recorder, 20)
        await until(lambda: recorder.problems)
        assert not (tmp_path / "lake").exists()
        full = False
        await recorder.flush()
        with pytest.raises(LockedError), bronze_lock(tmp_path / "lake"):
            pass
        await recorder.stop()

    asyncio.run(record())
    assert numbers(tmp_path / "lake") == list(range(20))


@pytest.mark.parametrize(
    "error", [pa.ArrowInvalid("a column is odd"), UsageError("symbol '' is empty"), WalError("it is not sound")]
)
def test_a_segment_that_cannot_become_bronze_waits_with_its_reason_while_ingest_goes_on(tmp_path, monkeypatch, error):
    real, said = flush.flush_segment, []

    def refuse(folder, segment, *, again):
        if segment.path.name == "futures_trades_ES.001.arrow":
            raise error
        return real(folder, segment, again=again)

    async def record() -> list[str]:
        recorder = recorder_of(tmp_path / "wal", tmp_path / "lake", said)
        await recorder.start()
        rows = await capture_rows(recorder, ES, 8)
        await rows.append(delivered(TRADES, 10))
        with monkeypatch.context() as code:
            code.setattr(flush, "flush_segment", refuse)
            with pytest.raises(BronzeRefusedError, match=str(error)):
                await recorder.flush()
            await rows.append(delivered(TRADES, 10, start=10))
            await (await capture_rows(recorder, Stream(BOOKS.name, "ES"), 8)).append(delivered(BOOKS, 5))
            with pytest.raises(BronzeRefusedError, match=str(error)):
                await recorder.stop()
        return recorder.problems

    problem, at_the_stop = asyncio.run(record())
    assert said == [problem] == [f"futures_trades_ES.001.arrow was not flushed: {error}"]
    assert f"did not get into Bronze: {problem}. Nothing is lost. Next:" in at_the_stop
    assert numbers(tmp_path / "lake") == list(range(10, 20))
    assert numbers(tmp_path / "lake", BOOKS.name) == list(range(5))
    catalog = Catalog(tmp_path / "lake")
    recover(tmp_path / "wal", catalog, tmp_path / "lake" / "bronze", run_capture=1)
    catalog.close()
    assert numbers(tmp_path / "lake") == list(range(20))


def test_parts_of_a_segment_that_was_set_aside_are_known_to_the_catalog_before_a_file_asks(tmp_path, monkeypatch):
    real, encoded = bronze.encode, []

    def refuse_the_second(*arguments):
        encoded.append(arguments)
        if len(encoded) == 2:
            raise pa.ArrowInvalid("a column is odd")
        return real(*arguments)

    async def record() -> list[int]:
        recorder = recorder_of(tmp_path / "wal", tmp_path / "lake")
        await recorder.start()
        rows = await capture_rows(recorder, ES, 8)
        await rows.append(delivered(TRADES, 10))
        await rows.append(delivered(TRADES, 10, start=3_600_000))  # an hour later
        monkeypatch.setattr(bronze, "encode", refuse_the_second)
        with pytest.raises(BronzeRefusedError):
            await recorder.flush()
        monkeypatch.undo()
        catalog = await recorder.whole_catalog(lambda: False)
        known = catalog.recorded_numbers(8, TRADES.name).tolist()
        with pytest.raises(BronzeRefusedError):
            await recorder.stop()
        return known

    assert asyncio.run(record()) == list(range(10))


def file_of(tmp_path, count: int) -> tuple[Path, int, pa.RecordBatch]:
    """Write a file of trades; return it with its capture and its rows."""
    file = tmp_path / "ES.dbn"
    data = b"".join(trade(ts_event=T0 + number) for number in range(count))
    file.write_bytes(es_header() + data)
    capture_id = capture_id_of(hashlib.sha256(file.read_bytes()).hexdigest(), 1)
    (rows,) = Run(es_header(), data).tables["futures.trades"].combine_chunks().to_batches()
    return file, capture_id, rows


async def run_daemon(tmp_path, file: Path, *feeds, stop_when=None) -> Daemon:
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    daemon = Daemon(loaded, [f"dbn:{file}"], 0, feeds=feeds)
    running = asyncio.create_task(daemon.run())
    if stop_when is not None:
        await until(lambda: stop_when(daemon))
        daemon.stop()
    async with asyncio.timeout(60):
        await running
    return daemon


def test_a_file_waits_until_what_the_start_found_of_it_is_in_bronze_and_stands_there_once(tmp_path, monkeypatch):
    file, capture_id, rows = file_of(tmp_path, 1_000)
    left_in_log(tmp_path / "wal", capture_id, rows.slice(0, 600))
    real = flush.flush_segment

    def slow(folder, segment, *, again):
        time.sleep(0.5)
        return real(folder, segment, again=again)

    monkeypatch.setattr(flush, "flush_segment", slow)
    daemon = asyncio.run(run_daemon(tmp_path, file))

    (summary,) = daemon.summaries
    assert (summary.complete, summary.appended, summary.rows) == (True, 400, {"futures.trades": 1_000})
    assert numbers(tmp_path / "lake") == list(range(1_000))


def test_a_file_is_refused_where_what_the_start_found_cannot_become_bronze_and_a_live_source_goes_on(
    tmp_path, monkeypatch
):
    file, capture_id, rows = file_of(tmp_path, 100)
    left_in_log(tmp_path / "wal", capture_id, rows.slice(0, 60))
    real = flush.flush_segment

    def refuse(folder, segment, *, again):
        if again:
            raise WalError(f"{segment} is not sound")
        return real(folder, segment, again=again)

    monkeypatch.setattr(flush, "flush_segment", refuse)
    live = LiveFeed(LiveDelivery([[trade(ts_event=T0 + 7)]], SILENT))

    def told(daemon: Daemon) -> bool:
        return any(summary.error for summary in daemon.summaries) and "futures.trades" in daemon.rows

    daemon = asyncio.run(run_daemon(tmp_path, file, ("live", live), stop_when=told))

    (refused,) = [summary for summary in daemon.summaries if summary.error]
    assert refused.origin == f"dbn:{file}"
    assert "so which rows of a file are recorded is not known: futures_trades_ES." in refused.error
    assert "is not sound. Nothing was read, so that none is recorded twice. Next: " in refused.error
    assert numbers(tmp_path / "lake") == [0]


def test_a_catalog_that_opens_while_the_recorder_stops_is_closed(tmp_path, monkeypatch):
    opened = []

    class Slow(Catalog):
        def __init__(self, data_root):
            time.sleep(0.3)
            super().__init__(data_root)
            opened.append(self)

    monkeypatch.setattr(own_lake, "Catalog", Slow)

    async def run():
        recorder = recorder_of(tmp_path / "wal", tmp_path / "lake")
        await recorder.start()
        await asyncio.sleep(0.1)
        recorder.health.fail(StorageError("the disk refused"))  # so that the stop waits for nothing
        await recorder.stop()

    asyncio.run(run())
    (catalog,) = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        catalog.gap_ids()

"""A disk that fills up: a warning, then Bronze stops, then ingest; and all goes on by itself when there is room."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from spymaster import WALManager, durable, settings
from spymaster.bus import Bus
from spymaster.daemon import Daemon
from spymaster.errors import DiskFullError
from spymaster.events import SYSTEM_ALERTS
from spymaster.proof.verify import verify
from spymaster.recording.disk import Disk, DiskLevel, require_room_to_recover
from spymaster.recording.recorder import Recorder
from tests.command_line import spymaster
from tests.normalize.dbn_bytes import es_header, trade
from tests.small_disk import MB, small_disk

OK, WARN, BRONZE_STOPPED, INGEST_STOPPED = DiskLevel
CHILD = Path(__file__).parents[1] / "daemon_process.py"
RESERVE_MB = 4


class Numbers:
    """What disks say of themselves, by folder name."""

    def __init__(self, log: int, bronze: int | None = None) -> None:
        self.set(log, bronze)

    def set(self, log: int, bronze: int | None = None) -> None:
        self.free = {"wal": log * MB, "bronze": (log if bronze is None else bronze) * MB}

    def __call__(self, folder: Path) -> int:
        return self.free[folder.name]


def space(tmp_path, numbers) -> Disk:
    (tmp_path / "wal").mkdir(exist_ok=True)
    return Disk(tmp_path / "wal", tmp_path / "bronze", 100, numbers)


def levels(disk: Disk, numbers: Numbers, *free: int | tuple[int, int]) -> list[DiskLevel]:
    found = []
    for each in free:
        numbers.set(*(each if isinstance(each, tuple) else (each,)))
        if disk.settle(disk.look()):
            disk.resume()
        found.append(disk.level)
    return found


def test_a_warning_comes_first_then_bronze_stops_then_ingest(tmp_path):
    disk = space(tmp_path, numbers := Numbers(400))

    assert levels(disk, numbers, 400, 399, 200, 199, 100, 99) == [
        OK, WARN, WARN, BRONZE_STOPPED, BRONZE_STOPPED, INGEST_STOPPED,
    ]  # fmt: skip


def test_each_level_ends_a_quarter_above_where_it_began_so_that_none_flaps(tmp_path):
    disk = space(tmp_path, numbers := Numbers(50))

    assert levels(disk, numbers, 99, 124, 125, 249, 250, 499, 500, 499) == [
        INGEST_STOPPED, INGEST_STOPPED, BRONZE_STOPPED, BRONZE_STOPPED, WARN, WARN, OK, OK,
    ]  # fmt: skip


def test_on_two_disks_each_stops_what_writes_there(tmp_path):
    disk = space(tmp_path, numbers := Numbers(1000))

    assert levels(disk, numbers, (1000, 10)) == [BRONZE_STOPPED]
    assert not disk.ingest_stopped
    assert levels(disk, numbers, (10, 1000)) == [INGEST_STOPPED]
    assert not disk.bronze_stopped


def test_a_disk_that_cannot_be_asked_leaves_things_as_they_are(tmp_path):
    def refuse(folder):
        raise OSError("Stale file handle")

    disk = space(tmp_path, refuse)
    disk.open()

    assert disk.level is OK


@pytest.mark.parametrize("level", DiskLevel)
def test_each_level_is_one_line_that_says_what_is_free_and_what_to_do(tmp_path, level):
    disk = space(tmp_path, numbers := Numbers(1000))
    levels(disk, numbers, {OK: 1000, WARN: 300, BRONZE_STOPPED: 150, INGEST_STOPPED: 50}[level])

    assert disk.level is level
    assert "\n" not in disk.text
    assert "MB free for" in disk.text
    assert level is OK or "Next: free space there" in disk.text


def test_the_reserve_file_really_holds_its_bytes_until_it_is_given_up(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        reserve = Disk(disk.root, disk.root, RESERVE_MB)
        reserve.open()
        assert disk.free_bytes == 15 * MB

        disk.leave(0)
        with pytest.raises(OSError, match="No space left"):
            durable.publish(b"row", disk.root / "part")
        reserve.refused(DiskFullError("it did"))
        durable.publish(b"row", disk.root / "part")

        assert reserve.level is INGEST_STOPPED


def test_a_quota_that_refuses_where_the_disk_claims_room_keeps_ingest_stopped_until_it_gives_way(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        reserve = Disk(disk.root, disk.root, RESERVE_MB, free_bytes=lambda folder: 1000 * MB)
        reserve.open()
        reserve.refused(DiskFullError("quota"))
        disk.leave(0)

        assert not reserve.settle(reserve.look())
        assert "No space left" in reserve.text
        disk.free()
        assert reserve.settle(reserve.look())


def test_the_reserve_file_is_gone_when_nothing_runs(tmp_path):
    disk = space(tmp_path, Numbers(1000))
    disk.open()
    assert [path.name for path in (tmp_path / "wal").iterdir()] == [".reserve"]
    disk.refused(DiskFullError("it did"))
    disk.close()

    assert not disk.settle(disk.look())
    assert list((tmp_path / "wal").iterdir()) == []


class SlowAllocation:
    """Makes a look wait amid the making of the reserve file, before it is there or once it is."""

    def __init__(self, monkeypatch, *, there: bool = True) -> None:
        self.begun, self.may_end, self._real = threading.Event(), threading.Event(), durable.allocate
        self._there = there
        monkeypatch.setattr(durable, "allocate", self)

    def __call__(self, path: Path, size: int) -> None:
        if self._there:
            self._real(path, size)
        self.begun.set()
        assert self.may_end.wait(20)
        if not self._there:
            self._real(path, size)


@pytest.mark.parametrize("there", [True, False])
def test_a_refusal_that_comes_while_a_look_is_under_way_is_not_forgotten(tmp_path, monkeypatch, there):
    disk = space(tmp_path, Numbers(1000))
    disk.open()
    disk.refused(DiskFullError("the first"))
    slow = SlowAllocation(monkeypatch, there=there)

    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(disk.look)
        assert slow.begun.wait(20)
        disk.refused(DiskFullError("the second"))
        slow.may_end.set()
        may_go_on = disk.settle(looking.result())

    assert not may_go_on
    assert (disk.level, "the second" in disk.text) == (INGEST_STOPPED, True)
    assert not (tmp_path / "wal" / ".reserve").exists()
    assert disk.settle(disk.look())  # and the next look makes it again
    assert (tmp_path / "wal" / ".reserve").exists()


def test_a_refusal_between_a_look_and_the_going_on_keeps_ingest_stopped(tmp_path):
    disk = space(tmp_path, Numbers(1000))
    disk.open()
    disk.refused(DiskFullError("the first"))

    assert disk.settle(disk.look())
    disk.refused(DiskFullError("the second"))  # while gap rows are synced
    disk.resume()

    assert disk.ingest_stopped


def test_the_event_loop_waits_for_no_look_at_the_disk(tmp_path, monkeypatch):
    async def record() -> float:
        recorder = Recorder(
            tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1,
            disk_reserve_mb=RESERVE_MB, look_at_disk_s=0.01,
        )  # fmt: skip
        await recorder.start()
        slow = SlowAllocation(monkeypatch)
        recorder.disk.refused(DiskFullError("the first"))
        while not slow.begun.is_set():
            await asyncio.sleep(0.01)
        began = time.monotonic()
        recorder.disk.refused(DiskFullError("the second"))
        await asyncio.sleep(0)
        waited_s = time.monotonic() - began
        slow.may_end.set()
        async with asyncio.timeout(20):
            while recorder.disk.ingest_stopped:
                await asyncio.sleep(0.01)
        await recorder.stop()
        return waited_s

    assert asyncio.run(record()) < 1


def test_recovery_on_a_disk_too_full_for_its_first_copy_is_refused_in_one_line(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        (disk.root / "futures_trades_ES.arrow").write_bytes(bytes(6 * MB))
        (disk.root / "futures_trades_ES.001.arrow").write_bytes(bytes(2 * MB))
        require_room_to_recover(disk.root, tmp_path)
        disk.leave(6 * MB)

        with pytest.raises(DiskFullError, match=r"recovery needs 7\.0 MB there to begin") as refused:
            require_room_to_recover(disk.root, tmp_path)
        assert "\n" not in str(refused.value)


class Recording:
    """A daemon of this process that records onto a small disk, with what it acknowledged and said."""

    def __init__(self, wal: Path, lake: Path, source: str) -> None:
        self.wal, self.lake = wal, lake
        loaded = settings.load(
            wal_root=wal, data_root=lake, flush_interval_sec=0.3, wal_segment_size_mb=1, disk_reserve_mb=RESERVE_MB
        )
        self.said: list[str] = []
        self.acknowledged: Counter = Counter()
        self.daemon = Daemon(loaded, [source], 1 if source.startswith("sim") else 0, notify=self.said.append)
        self.recorder = self.daemon.recorder
        self._reading = asyncio.create_task(self._read(self.daemon.bus.subscribe()))
        self.running = asyncio.create_task(self.daemon.run())

    async def _read(self, subscription) -> None:
        async for stream, batch in subscription:
            keys = zip(batch["capture_id"].to_pylist(), batch["capture_seq"].to_pylist(), strict=True)
            self.acknowledged.update((stream.schema, *key) for key in keys)

    async def until(self, met, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not met():
            assert not self.running.done(), self.running.result()
            assert time.monotonic() < deadline, (self.recorder.disk.text, self.recorder.problems, self.said)
            await asyncio.sleep(0.02)

    async def until_level(self, level: DiskLevel) -> None:
        await self.until(lambda: self.recorder.disk.level is level)

    async def until_more_rows(self, rows: int = 1000) -> None:
        before = self.rows
        await self.until(lambda: self.rows > before + rows)

    @property
    def rows(self) -> int:
        """What a source gave; that the disk is full is an alert, and a row as well."""
        return sum(count for (schema, *_), count in self.acknowledged.items() if schema != SYSTEM_ALERTS.name)

    async def end(self) -> None:
        self.daemon.stop()
        await self.ended()

    async def ended(self) -> None:
        await asyncio.wait_for(self.running, 30)
        await self._reading


def recovered(wal: Path, lake: Path) -> int:
    """Recover, and return how many rows that brought to Bronze."""
    return len(WALManager(wal, lake).recover_all())


def in_bronze(lake: Path) -> Counter:
    """Count each (schema, capture_id, capture_seq) that Bronze holds, read without our code."""
    counts: Counter = Counter()
    for folder in lake.glob("bronze/*/*"):
        rows = duckdb.sql(f"select capture_id, capture_seq from read_parquet('{folder}/**/part-*.parquet')").fetchall()
        counts.update((f"{folder.parent.name}.{folder.name}", *row) for row in rows)
    return counts


def gaps_in(lake: Path) -> list[dict]:
    files = f"{lake}/bronze/system/gaps/**/part-*.parquet"
    return duckdb.sql(f"from read_parquet('{files}') order by capture_seq").arrow().read_all().to_pylist()


def segments_of(wal: Path) -> list[str]:
    return sorted(path.name for path in wal.glob("*.[0-9]*.arrow"))


def test_a_disk_that_fills_up_stops_bronze_then_ingest_and_all_goes_on_by_itself(tmp_path):
    async def record(disk):
        run = Recording(disk.root / "wal", disk.root / "lake", "sim-es:rate=5000")
        await run.until_more_rows()
        disk.leave(13 * MB)
        await run.until_level(WARN)
        await run.until_more_rows()

        disk.leave(7 * MB)
        await run.until_level(BRONZE_STOPPED)
        sealed = segments_of(run.wal)
        await run.until_more_rows()  # the log goes on
        assert len(segments_of(run.wal)) <= len(sealed) + 4  # and is not cut into more and more segments

        disk.leave(3 * MB)
        await run.until_level(INGEST_STOPPED)
        await run.until(lambda: sum(run.recorder.given_up.rows.values()) > 1000)
        before = run.rows
        await asyncio.sleep(0.5)
        assert run.rows == before
        assert any("given up" in problem for problem in run.recorder.problems)

        disk.free()
        await run.until_level(OK)
        await run.until_more_rows()
        await run.end()
        return run

    with small_disk(tmp_path / "disk", 64) as disk:
        run = asyncio.run(record(disk))
        verdict = verify(run.wal, run.lake)
        counts = in_bronze(run.lake)
        gaps = gaps_in(run.lake)
        (detail,) = details_of_incomplete_ends(run.lake)
        files = f"{run.lake}/bronze/futures/mbp10/**/part-*.parquet"
        stamps = duckdb.sql(f"select ts_event_ns from read_parquet('{files}') order by capture_seq").fetchnumpy()

    (summary,) = run.daemon.summaries
    assert [line.partition(":")[0] for line in run.said] == [
        "the disks fill up", "the disk is nearly full", "the log's disk is full", "the disks have room",
    ]  # fmt: skip
    assert counts == run.acknowledged  # each acknowledged row is in Bronze once, and no other
    assert verdict.findings == []
    market = [proof for proof in verdict.proofs if proof.capture_id == summary.capture_id]
    assert {proof.stream.partition("/")[0]: proof.rows for proof in market} == summary.rows
    assert not any(proof.whole for proof in market)
    assert {gap["cause"] for gap in gaps} == {"disk_full"}
    assert [line for line in verdict.notes if "known gap" in line] == sorted(
        f"capture {summary.capture_id}: known gap: {gap['detail']}" for gap in gaps
    )
    given_up = {(gap["of_schema"], gap["of_symbol"]): gap["rows"] for gap in gaps}
    assert given_up == run.recorder.given_up.rows
    assert sum(given_up.values()) == summary.given_up > 1000
    assert detail == summary.error == f"{summary.given_up} rows were given up: the log's disk was full"
    (books,) = [gap for gap in gaps if gap["of_schema"] == "futures.mbp10"]
    stamps, first = stamps["ts_event_ns"], int(books["detail"].partition("after the first ")[2].split()[0])
    assert stamps[first - 1] <= books["start_ns"] < books["end_ns"] <= stamps[first] + 1  # half-open
    assert not ((stamps > books["start_ns"]) & (stamps < books["end_ns"] - 1)).any()
    assert all(gap["of_capture_id"] == summary.capture_id and gap["first_seq"] is None for gap in gaps)


def details_of_incomplete_ends(lake: Path) -> list[str]:
    files = f"{lake}/bronze/system/captures/**/part-*.parquet"
    rows = duckdb.sql(f"select detail from read_parquet('{files}') where event = 'end' and not complete").fetchall()
    return [detail for (detail,) in rows]


def test_a_full_disk_that_nobody_saw_coming_ends_no_run_and_tears_no_row(tmp_path):
    """The ballast takes every byte between two looks, so that writes are refused in the middle of anything."""

    async def record(disk):
        run = Recording(disk.root / "wal", disk.root / "lake", "sim-es:rate=20000")
        for _ in range(2):
            await run.until_more_rows(3000)
            disk.leave(0)
            await run.until_level(INGEST_STOPPED)
            disk.free()
            await run.until_level(OK)
        await run.end()
        return run

    with small_disk(tmp_path / "disk", 64) as disk:
        run = asyncio.run(record(disk))
        verdict = verify(run.wal, run.lake)
        counts = in_bronze(run.lake)
        gaps = gaps_in(run.lake)

    assert counts == run.acknowledged
    assert verdict.findings == []
    assert sum(gap["rows"] for gap in gaps) == run.daemon.summaries[0].given_up > 0
    assert len({gap["gap_id"] for gap in gaps}) == len(gaps)


def test_a_file_waits_for_room_and_then_has_every_row(tmp_path):
    path = tmp_path / "ES.dbn"
    path.write_bytes(es_header() + trade() * 200_000)

    async def record(disk):
        disk.leave(3 * MB)
        run = Recording(disk.root / "wal", disk.root / "lake", f"dbn:{path}")
        await run.until_level(INGEST_STOPPED)
        await asyncio.sleep(0.5)
        assert run.rows == 0
        disk.leave(6 * MB)  # room for the log, until it has taken some of it; Bronze waits
        await run.until(lambda: run.rows > 0)
        await run.until_level(INGEST_STOPPED)
        assert run.rows < 200_000
        disk.free()
        await run.ended()
        return run

    with small_disk(tmp_path / "disk", 64) as disk:
        run = asyncio.run(record(disk))
        verdict = verify(run.wal, run.lake)
        counts = in_bronze(run.lake)

    (summary,) = run.daemon.summaries
    assert (summary.complete, summary.given_up, summary.rows) == (True, 0, {"futures.trades": 200_000})
    assert verdict.findings == []
    assert all(proof.whole for proof in verdict.proofs if proof.stream.startswith("futures"))
    assert {seq for schema, _, seq in counts if schema == "futures.trades"} == set(range(200_000))
    assert max(counts.values()) == 1


def test_a_file_that_is_stopped_while_it_waits_is_completed_by_the_next_run(tmp_path):
    path = tmp_path / "ES.dbn"
    path.write_bytes(es_header() + trade() * 200_000)

    async def stopped(disk):
        disk.leave(6 * MB)
        run = Recording(disk.root / "wal", disk.root / "lake", f"dbn:{path}")
        await run.until(lambda: run.rows > 0)
        await run.until_level(INGEST_STOPPED)
        await run.end()
        return run

    async def completed(disk):
        run = Recording(disk.root / "wal", disk.root / "lake", f"dbn:{path}")
        await run.ended()
        return run

    with small_disk(tmp_path / "disk", 64) as disk:
        first = asyncio.run(stopped(disk))
        disk.free()
        second = asyncio.run(completed(disk))
        verdict = verify(second.wal, second.lake)
        counts = in_bronze(second.lake)

    (stopped_summary,), (summary,) = first.daemon.summaries, second.daemon.summaries
    assert (stopped_summary.complete, stopped_summary.given_up) == (False, 0)
    assert 0 < stopped_summary.appended < 200_000
    assert stopped_summary.appended + summary.appended == 200_000
    assert summary.complete
    assert verdict.findings == []
    assert max(counts.values()) == 1


def test_while_bronzes_own_disk_is_full_the_log_grows_and_later_drains(tmp_path):
    async def record(log, bronze):
        run = Recording(log.root / "wal", bronze.root / "lake", "sim-es:rate=5000")
        await run.until_more_rows()
        bronze.leave(0)
        await run.until_level(BRONZE_STOPPED)
        held = run.recorder.drain.parts_written
        await run.until_more_rows(5000)
        assert run.recorder.drain.parts_written <= held + 1  # one was under way
        assert not run.recorder.given_up.rows
        bronze.free()
        await run.until(lambda: run.recorder.drain.parts_written > held + 3)
        await run.end()
        return run

    with small_disk(tmp_path / "log", 64) as log, small_disk(tmp_path / "bronze", 64) as bronze:
        run = asyncio.run(record(log, bronze))
        verdict = verify(run.wal, run.lake)
        counts = in_bronze(run.lake)

    assert counts == run.acknowledged
    assert verdict.findings == verdict.notes == []
    assert run.recorder.problems == []  # what mended itself is none


def test_a_shutdown_that_bronze_refuses_says_so_and_leaves_every_row_in_the_log(tmp_path):
    async def record(log, bronze):
        run = Recording(log.root / "wal", bronze.root / "lake", "sim-es:rate=5000")
        await run.until_more_rows()
        bronze.leave(0)
        await run.until_level(BRONZE_STOPPED)
        await run.until_more_rows()
        await run.end()  # raises nothing: the report follows
        return run

    with small_disk(tmp_path / "log", 64) as log, small_disk(tmp_path / "bronze", 64) as bronze:
        run = asyncio.run(record(log, bronze))
        (problem,) = [line for line in run.recorder.problems if "did not get into Bronze" in line]
        bronze.free()
        assert recovered(run.wal, run.lake)
        counts = in_bronze(run.lake)

    assert "No space left on device" in problem
    assert "Nothing is lost. Next:" in problem
    assert run.acknowledged == {key: count for key, count in counts.items() if key in run.acknowledged}


@pytest.fixture
def process(tmp_path):
    """Environment and disk of a daemon in a process of its own."""
    with small_disk(tmp_path / "disk", 64) as disk:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SPYMASTER_", "DATA"))}
        yield (
            disk,
            environment
            | {
                "DATA_ROOT": str(disk.root / "lake"),
                "WAL_ROOT": str(disk.root / "wal"),
                "FLUSH_INTERVAL_SEC": "1",
                "WAL_SEGMENT_SIZE_MB": "1",
                "DISK_RESERVE_MB": str(RESERVE_MB),
                "PYTHONPATH": str(CHILD.parents[1]),
            },
        )


@pytest.fixture
def start():
    """Start processes that end with their test, however it ends."""
    started: list[subprocess.Popen] = []

    def start(environment, *arguments) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, *arguments], env=environment, **pipes))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def test_sigterm_on_a_full_disk_seals_and_reports_within_the_reserve(process, start):
    disk, environment = process
    running = start(environment, "-m", "spymaster", "run", "--source", "sim-es:rate=5000", "--json")
    wait_for(lambda: list(disk.root.glob("lake/bronze/futures/**/part-*.parquet")))
    disk.leave(0)  # but for the reserve file
    said = []
    while "the log's disk is full" not in "".join(said):
        said.append(running.stderr.readline())
        assert said[-1], (said, running.wait(10))
    time.sleep(0.5)
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    summary = json.loads(out)

    assert running.returncode == 1, summary
    (capture,) = summary["captures"]
    assert capture["given_up"] > 0
    assert not any("\n" in problem for problem in summary["problems"])
    disk.free()
    wal, lake = Path(environment["WAL_ROOT"]), Path(environment["DATA_ROOT"])
    recovered(wal, lake)
    assert verify(wal, lake).findings == []
    assert sum(gap["rows"] for gap in gaps_in(lake)) == capture["given_up"]
    assert len(details_of_incomplete_ends(lake)) == 1


def wait_for(met, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_daemon_killed_on_a_full_disk_is_recovered_once_there_is_room_and_nothing_changes_before(process, start):
    disk, environment = process
    child = start(environment, "-u", str(CHILD), "sim-es:rate=5000", "1")
    lines = [child.stdout.readline() for _ in range(100)]
    disk.leave(0)
    time.sleep(1)
    child.kill()
    lines += child.communicate()[0].splitlines(keepends=True)
    (disk.root / "wal" / ".reserve").unlink(missing_ok=True)
    disk.leave(0)
    before = contents(disk.root)

    refused = spymaster("recover", environment=environment)
    refused_run = spymaster("run", "--duration", "1", environment=environment)

    for tried in (refused, refused_run):
        assert tried.returncode == 4
        assert tried.stderr.startswith("error: ")
        assert tried.stderr.count("\n") == 1
        assert "on a full disk" in tried.stderr
        assert "Nothing was changed" in tried.stderr
    assert contents(disk.root) == before
    disk.free()
    wal, lake = Path(environment["WAL_ROOT"]), Path(environment["DATA_ROOT"])
    recovered(wal, lake)  # nothing, if all had just been flushed
    assert verify(wal, lake).findings == []
    counts = in_bronze(lake)
    for stream, capture, first, last in (line.split() for line in lines if line.endswith("\n")):
        schema = stream.partition("/")[0]
        assert all(counts[schema, int(capture), seq] == 1 for seq in range(int(first), int(last) + 1))
    assert max(counts.values()) == 1


def contents(root: Path) -> dict[str, bytes]:
    """Every file but the one that names the lock's holder."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in (".holder", "ballast")]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}

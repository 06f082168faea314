"""Rows at risk, as `spymaster status` tells them: by a running daemon, by what a dead one left, and by a stuck one."""

import asyncio
import errno
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spymaster import WALManager, durable, settings
from spymaster.cli import screen
from spymaster.control import SOCKET_NAME, ControlServer
from spymaster.daemon import Daemon
from spymaster.engines.ledger import SNAP_NS
from spymaster.errors import BronzeRefusedError, StorageError
from spymaster.events import SYSTEM_SNAPS
from spymaster.events.snaps import SNAP, Marked, Position, snap_rows
from spymaster.lake.catalog import Catalog
from spymaster.proof.verify import verify
from spymaster.query import status as status_module
from spymaster.query.status import PROMISE, Status
from spymaster.recording.disk import DiskLevel
from spymaster.recording.gauges import gauges
from spymaster.wal.segment import scan
from tests.command_line import clean_environment, spymaster
from tests.recording.test_recorder import STREAM, Numbers, capture_rows, hasty, recording, until
from tests.rows import TRADES, delivered
from tests.signals.recordings import Recording
from tests.silver_files import compacted
from tests.test_daemon import Child

REPOSITORY = Path(__file__).parents[2]
SLOW_SYNC_S = 0.4
SLOW_DISK = f"""
import time
from spymaster import durable
fast = durable.sync
def slow(descriptor):
    time.sleep({SLOW_SYNC_S})
    fast(descriptor)
durable.sync = slow
"""


@pytest.fixture
def roots(tmp_path):
    """Environment of a fresh lake whose rows stay in the log, unless a test says otherwise."""
    return clean_environment() | {
        "DATA_ROOT": str(tmp_path / "lake"),
        "WAL_ROOT": str(tmp_path / "wal"),
        "FLUSH_INTERVAL_SEC": "300",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def status(roots) -> Status:
    return status_module.status(Path(roots["WAL_ROOT"]), Path(roots["DATA_ROOT"]))


def words(found: Status) -> str:
    return "\n".join(screen.contract(found))


def rows_in_log(wal: Path) -> int:
    return sum(scan(memoryview(path.read_bytes())).rows for path in wal.glob("*.arrow"))


@contextmanager
def running(roots, source="sim-es:rate=20000", rows=500):
    """A daemon that has acknowledged `rows`; killed at the end if it still runs."""
    child = Child(roots, source)
    try:
        child.wait_for_rows(rows)
        yield child
    finally:
        child.kill()


def test_a_running_daemon_says_which_rows_are_at_risk(roots, tmp_path):
    with running(roots) as child:
        appended_before, published_before = rows_in_log(tmp_path / "wal"), child.rows
        found = spymaster("status", "--json", environment=roots).document
        appended_after, socket_file = rows_in_log(tmp_path / "wal"), (tmp_path / "wal" / SOCKET_NAME).lstat()
        child.wait_for_rows(found["daemon"]["appended_not_durable"] + found["daemon"]["durable_not_in_bronze"])
        told = spymaster("status", environment=roots).stdout

    daemon = found["daemon"]
    assert (daemon["pid"], found["holder"], daemon["state"]) == (child.process.pid, str(child.process.pid), "recording")
    streams = daemon["streams"].values()
    assert appended_before <= sum(stream["appended"] for stream in streams) <= appended_after
    assert published_before <= sum(stream["acknowledged"] for stream in streams)
    for stream in streams:
        assert stream["appended"] == stream["acknowledged"] + stream["appended_not_durable"]
        assert stream["acknowledged"] == stream["in_bronze"] + stream["durable_not_in_bronze"]
    for gauge in ("appended_not_durable", "durable_not_in_bronze"):
        assert found["at_risk"][gauge] == daemon[gauge] == sum(stream[gauge] for stream in streams)
    assert 0 < daemon["sync"]["p50_ms"] <= daemon["sync"]["p99_ms"] <= daemon["sync"]["max_ms"]
    assert 0 < daemon["sync"]["count"] <= 1_000
    assert (daemon["problems"], found["alarms"]) == ([], [])
    assert stat.S_IMODE(socket_file.st_mode) == 0o600
    assert stat.S_ISSOCK(socket_file.st_mode)
    assert socket_file.st_uid == os.geteuid()
    assert re.search(r"a power cut now would lose at most the [\d,]+ rows not yet durable", told)
    assert re.search(r"sync p50 \S+ ms, p99 \S+ ms, longest \S+ ms of the last [\d,]+, on this disk", told)
    assert f"process {child.process.pid} " in told


def test_the_gauge_counts_what_a_slow_disk_has_not_taken(roots, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SLOW_DISK)
    slow = roots | {"PYTHONPATH": f"{site}{os.pathsep}{REPOSITORY}"}

    with running(slow) as child:
        readings = []
        for _ in range(12):
            published = child.rows
            daemon = status(roots)["daemon"]
            readings.append(daemon)
            appended = rows_in_log(tmp_path / "wal")
            acknowledged = sum(stream["acknowledged"] for stream in daemon["streams"].values())
            assert published <= acknowledged
            assert acknowledged + daemon["appended_not_durable"] <= appended
            if daemon["appended_not_durable"]:
                assert daemon["oldest_not_durable_s"] >= 0  # of a row of this very millisecond 0
            time.sleep(0.1)

    # A market of 20,000 rows a second at most, several hundred of them in each sync of 0.4 s.
    assert max(daemon["appended_not_durable"] for daemon in readings) > 100
    assert all(daemon["sync"]["p50_ms"] >= SLOW_SYNC_S * 1000 for daemon in readings)


def test_after_a_kill_the_rows_in_the_log_are_counted_and_the_way_out_is_named(roots, tmp_path):
    with running(roots, rows=10_000) as child:  # so that several frames tell the watermark
        pass

    found = status(roots)

    assert stat.S_ISSOCK((tmp_path / "wal" / SOCKET_NAME).lstat().st_mode)  # nobody removed it
    assert (found["daemon"], found["holder"], found["alarms"]) == (None, None, [])
    assert sum(found["at_risk"].values()) == found["wal"]["rows"] == rows_in_log(tmp_path / "wal") >= child.rows
    assert found["at_risk"]["durable_not_in_bronze"] > 0
    assert "no daemon runs" in words(found)
    assert f"{found['at_risk']['durable_not_in_bronze']:,} rows wait in the log: durable, not in Bronze" in words(found)
    assert words(found).endswith("Next: spymaster recover")
    assert len(WALManager(roots["WAL_ROOT"], roots["DATA_ROOT"]).recover_all()) >= child.rows  # it passes by the socket
    assert status(roots)["at_risk"] == {"appended_not_durable": 0, "durable_not_in_bronze": 0}
    assert "no row waits in the log" in words(status(roots))
    with running(roots):
        assert status(roots)["daemon"] is not None  # the dead one's socket was replaced
        assert verify(Path(roots["WAL_ROOT"]), Path(roots["DATA_ROOT"])).findings == []
        assert all(row["state"] in {"active", "ahead"} for row in status_module.segments(tmp_path / "wal"))


def test_a_daemon_that_does_not_answer_is_named_in_one_line(roots):
    with running(roots) as child:
        child.process.send_signal(signal.SIGSTOP)
        done = spymaster("status", "--json", environment=roots)
        child.process.send_signal(signal.SIGCONT)

    found = json.loads(done.stdout)
    assert (done.returncode, found["daemon"], found["holder"]) == (0, None, str(child.process.pid))
    (alarm,) = found["alarms"]
    assert f"process {child.process.pid} holds the log" in alarm
    assert "did not answer within 2 s" in alarm
    assert "\n" not in alarm
    assert "spymaster recover" not in words(found)


HOLD = "import sys\nfrom pathlib import Path\nfrom spymaster import durable\n" + (
    "with durable.lock_directory(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


def test_a_daemon_of_another_version_is_named_in_one_line_and_the_files_are_looked_at(tmp_path):
    wal = tmp_path / "wal"
    wal.mkdir()

    async def answer(request):
        return {"pid": 1, "version": "0.0.1", "streams": {}}

    async def ask():
        server = ControlServer(wal, {"status": answer})
        await server.open()
        try:
            return await asyncio.to_thread(status_module.status, wal, tmp_path / "lake")
        finally:
            server.close()

    found = asyncio.run(ask())

    assert found["daemon"] is None
    (alarm,) = found["alarms"]
    assert "version 0.0.1" in alarm
    assert "Next: restart it" in alarm


def test_a_process_that_holds_the_log_and_is_no_daemon_is_named(roots, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "wal")],
        env=roots, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout.readline() == "held\n"
        found = status(roots)

    assert (found["daemon"], found["holder"]) == (None, str(holder.pid))
    assert f"process {holder.pid} holds the log and answers no questions" in words(found)


def record(wal: Path, lake: Path) -> tuple[int, list[str]]:
    """Record the simulated market for a moment; return how many rows are proven, and the problems."""

    async def run():
        daemon = Daemon(settings.load(wal_root=wal, data_root=lake), ["sim-es:rate=20000"], 1)
        await daemon.run(0.5)
        return daemon.recorder.problems

    problems = asyncio.run(run())
    verdict = verify(wal, lake)
    assert verdict.findings == []
    return verdict.rows, problems


def test_a_link_at_the_sockets_place_is_left_alone_and_the_recording_goes_on(tmp_path):
    wal = tmp_path / "wal"
    wal.mkdir()
    (wal / SOCKET_NAME).symlink_to(tmp_path / "victim")

    rows, (problem,) = record(wal, tmp_path / "lake")

    assert rows > 0
    assert "no control socket" in problem
    assert "is no socket" in problem
    assert (wal / SOCKET_NAME).is_symlink()
    assert not (tmp_path / "victim").exists()


def test_a_path_that_no_socket_fits_costs_the_answers_and_no_row(tmp_path):
    rows, (problem,) = record(tmp_path / ("d" * 60) / ("e" * 60), tmp_path / "lake")

    assert rows > 0
    assert "path too long" in problem


def test_clients_gone_wild_do_not_disturb_the_recording(roots, tmp_path):
    address = str(tmp_path / "wal" / SOCKET_NAME)
    process = subprocess.Popen(
        [sys.executable, "-m", "spymaster", "run", "--source", "sim-es:rate=20000", "--duration", "4", "--json"],
        env=roots | {"FLUSH_INTERVAL_SEC": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    connected, held = 0, []
    while process.poll() is None:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            connection.connect(address)
            connection.send([b"", b"\x00\xff" * 400, b"[" * 5_000, b'{"command": "status"}\n'][connected % 4])
            connected += 1
        except OSError:
            time.sleep(0.01)
        held.append(connection)  # and never read
        if len(held) > 200:
            held.pop(0).close()
    for connection in held:
        connection.close()
    out, err = process.communicate(timeout=60)

    summary = json.loads(out)
    assert (process.returncode, summary["problems"]) == (0, [])
    assert [line for line in err.splitlines() if line.split()[1:2] != ["info"]] == []  # all of it is its journal
    assert connected > 100
    assert not Path(address).exists()
    for stream in summary["streams"].values():
        assert stream["appended"] == stream["acknowledged"] == stream["in_bronze"]
    assert spymaster("verify", environment=roots).returncode == 0


def test_rows_that_bronze_refuses_stay_in_the_gauge_until_it_takes_them(tmp_path, monkeypatch):
    async def run():
        recorder, rows = await recording(tmp_path)
        real = durable.publish

        def refuse(data, target):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(durable, "publish", refuse)
        with pytest.raises(StorageError):
            await recorder.flush()
        monkeypatch.setattr(durable, "publish", real)
        refused = gauges(recorder)
        await rows.append(delivered(TRADES, 5, start=10))
        appended = gauges(recorder)
        await recorder.flush()
        flushed = gauges(recorder)
        await recorder.stop()
        return refused, appended, flushed

    refused, appended, flushed = asyncio.run(run())

    assert (refused["appended_not_durable"], refused["durable_not_in_bronze"]) == (0, 10)
    assert refused["oldest_not_durable_s"] is None
    assert refused["backlog"]["segments"] == 1
    assert refused["backlog"]["bytes"] > 0
    assert refused["backlog"]["oldest_s"] >= 0
    assert "No space left" in refused["problems"][0]
    assert (appended["appended_not_durable"], appended["durable_not_in_bronze"]) == (5, 10)
    assert appended["oldest_not_durable_s"] >= 0
    assert (flushed["appended_not_durable"], flushed["durable_not_in_bronze"]) == (0, 0)  # it was tried again
    assert flushed["streams"]["futures.trades/ES"]["in_bronze"] == 15
    assert flushed["backlog"]["segments"] == 0


def test_a_disk_that_fills_up_is_told_before_anything_stops(tmp_path):
    async def run():
        disk = Numbers()
        recorder = hasty(tmp_path, disk)  # with a reserve of 100 MB
        await recorder.start()
        plenty = gauges(recorder)
        disk.free_mb = 399
        await until(lambda: recorder.disk.level is DiskLevel.WARN)
        low = gauges(recorder)
        await recorder.stop()
        return plenty["disk"], low["disk"]

    plenty, low = asyncio.run(run())

    assert (plenty["level"], low["level"]) == ("ok", "warn")
    assert low["log_free_bytes"] == low["bronze_free_bytes"] == 399 << 20
    assert "Nothing has stopped yet. Next: free space there" in low["text"]


def test_a_log_over_1_gb_is_told_at_once_until_it_has_drained(tmp_path):
    waiting = tmp_path / "wal" / "futures_trades_ES.900.arrow"

    async def run():
        recorder = hasty(tmp_path)
        await recorder.start()
        with waiting.open("wb") as file:
            file.truncate(1_000_000_001)
        await until(lambda: recorder.problems)
        told = gauges(recorder)["problems"]
        waiting.unlink()
        await until(lambda: not recorder.problems)
        await recorder.stop()
        return told

    (told,) = asyncio.run(run())

    assert "holds 1.0 GB, over 1 GB: Bronze is not keeping up" in told
    assert "Nothing is lost. Next: check the disk of" in told


def test_status_sounds_the_alarm_over_a_log_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(status_module, "LOG_ALARM_BYTES", 1_000)  # to read a real one takes a minute

    async def run():
        recorder, _ = await recording(tmp_path)
        alarms = status_module.status(tmp_path / "wal", tmp_path / "lake")["alarms"]
        await recorder.flush()
        await recorder.stop()
        return alarms

    (alarm,) = asyncio.run(run())
    assert "Bronze is not keeping up or its disk refuses. Next: if no daemon runs, spymaster recover" in alarm


def test_the_bytes_and_files_of_silver_stand_beside_those_of_bronze(roots, tmp_path):
    record(tmp_path / "wal", tmp_path / "lake")
    assert status(roots)["silver"] == {"bytes": 0, "files": 0}
    assert compacted(tmp_path / "lake")

    files = list((tmp_path / "lake" / "silver").rglob("*.parquet"))
    size = sum(path.stat().st_size for path in files)
    assert status(roots)["silver"] == {"bytes": size, "files": len(files)}
    (line,) = [line for line in spymaster("status", environment=roots).stdout.splitlines() if "Silver" in line]
    assert re.findall(r"[\w,]+(?: \w+)*", line) == ["Silver", str(len(files)), f"{size:,}"]  # its rows are not counted


def test_beside_a_daemon_no_segment_is_read_and_it_says_what_is_not_ours(roots, tmp_path, monkeypatch):
    stray = tmp_path / "lake" / "bronze" / "mine.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"PAR1")

    with running(roots):
        monkeypatch.setattr(status_module, "segments", None)  # a call would fail
        found = status(roots)

    assert found["wal"]["rows"] == found["daemon"]["log_rows"] == sum(found["at_risk"].values()) > 0
    (alarm,) = found["alarms"]
    assert "1 Parquet files that are not ours, which are passed over: bronze/mine.parquet. Next: move them" in alarm


def test_rows_that_a_start_found_wait_in_the_log_until_bronze_takes_them(tmp_path):
    obstacle = tmp_path / "lake" / "bronze" / "futures"

    async def killed():
        recorder, _ = await recording(tmp_path)
        await recorder.lanes[next(iter(recorder.lanes))].commit()
        shutil.copytree(tmp_path / "wal", tmp_path / "killed")
        await recorder.stop()

    async def started():
        recorder = hasty(tmp_path)
        await recorder.start()
        before = gauges(recorder)
        rows = await capture_rows(recorder, STREAM, 8)
        await rows.append(delivered(TRADES, 5, start=10))
        both = gauges(recorder)
        obstacle.unlink()
        await recorder.flush()
        after = gauges(recorder)
        await recorder.stop()
        return before, both, after

    asyncio.run(killed())
    for folder in ("wal", "lake"):
        shutil.rmtree(tmp_path / folder)
    (tmp_path / "killed").rename(tmp_path / "wal")
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("where a folder is to be")
    before, both, after = asyncio.run(started())

    assert [found["log_rows"] for found in (before, both, after)] == [10, 15, 0]
    assert (both["durable_not_in_bronze"] + both["appended_not_durable"], after["catalog"]["open"]) == (5, True)


def test_the_rows_of_a_log_that_is_too_large_are_not_counted_and_it_says_so(roots, monkeypatch):
    with running(roots):
        pass
    monkeypatch.setattr(status_module, "MAX_COUNTED_BYTES", 1_000)

    found = status(roots)
    told = spymaster("status", environment=roots).stdout

    assert found["wal"]["rows"] is None
    assert found["wal"]["bytes"] > 1_000
    assert found["at_risk"] == {"appended_not_durable": None, "durable_not_in_bronze": None}
    assert "rows wait in the log, which is too large to count them. Next: spymaster recover" in told
    assert spymaster("status", "--json", environment=roots).document["wal"]["rows"] is None


def test_no_part_is_listed_and_the_bytes_are_those_on_the_disk(roots, tmp_path, monkeypatch):
    record(tmp_path / "wal", tmp_path / "lake")
    parts = list((tmp_path / "lake" / "bronze").rglob("*.parquet"))
    listed = []

    def seen(event, arguments):
        if event in {"os.scandir", "os.listdir"} and listed is not None:
            listed.append(str(arguments[0]))

    sys.addaudithook(seen)
    found, asked = status(roots), tuple(listed)
    listed = None  # the hook stays

    assert [folder for folder in asked if "/bronze" in folder] == []
    assert str(tmp_path / "wal") in asked  # the hook sees
    assert found["bronze_total"]["bytes"] == sum(part.stat().st_size for part in parts)
    assert found["bronze_total"]["files"] == len(parts)
    assert found["wal"]["bytes"] == sum(path.stat().st_size for path in (tmp_path / "wal").glob("*.arrow"))


def test_what_snaps_had_seen_has_bytes_of_its_own(roots, tmp_path):
    seen = [Marked(SNAP, at * SNAP_NS, [Position(STREAM, 7, at, at * SNAP_NS)]) for at in range(1, 50)]
    Recording(tmp_path).write_own(SYSTEM_SNAPS.name, snap_rows("ES", seen, 0))
    assert spymaster("recover", environment=roots).returncode == 0
    parts = list((tmp_path / "lake/bronze/system/snaps").rglob("*.parquet"))

    found, told = status(roots)["bronze"]["system.snaps"], spymaster("status", environment=roots).stdout

    assert found == {"bytes": sum(part.stat().st_size for part in parts), "files": 1, "rows": 49}
    assert re.search(rf"system\.snaps +\| +1 \| +49 \| +{found['bytes']:,}", told)


def test_parts_without_a_catalog_are_an_alarm(roots, tmp_path):
    assert status(roots)["alarms"] == []
    record(tmp_path / "wal", tmp_path / "lake")
    (tmp_path / "lake" / "catalog.db").unlink()

    (alarm,) = status(roots)["alarms"]

    assert alarm == "the catalog knows none of the Bronze parts. Next: spymaster catalog rebuild"
    assert spymaster("catalog", "rebuild", environment=roots).returncode == 0
    assert status(roots)["alarms"] == []


def test_a_catalog_that_a_daemon_still_makes_is_an_alarm(roots, tmp_path, monkeypatch):
    record(tmp_path / "wal", tmp_path / "lake")
    (tmp_path / "lake" / "catalog.db").unlink()
    monkeypatch.setattr(Catalog, "__init__", refuse)

    async def run():
        daemon = Daemon(settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake"), [], 0)
        await daemon.recorder.start()
        await daemon._control.open()
        found = await asyncio.to_thread(status, roots)
        daemon._control.close()
        with suppress(BronzeRefusedError):
            await daemon.recorder.stop()
        return found

    assert "the catalog is being made" in asyncio.run(run())["alarms"][0]


def refuse(catalog, data_root):
    raise OSError(errno.EIO, "Input/output error")


def test_a_sync_that_had_no_row_to_make_durable_says_nothing_of_the_disk(tmp_path):
    async def run():
        recorder, _ = await recording(tmp_path)
        for _ in range(3):
            await recorder.flush()  # two commits each, and one that found rows
        await recorder.stop()
        return gauges(recorder)["sync"]

    sync = asyncio.run(run())

    assert sync["count"] == 1
    assert 0 < sync["p50_ms"] == sync["p99_ms"] == sync["max_ms"]


def test_the_promise_is_printed_where_nothing_runs_and_nothing_is(roots):
    done = spymaster("status", environment=roots | {"FLUSH_INTERVAL_SEC": "5"})

    assert (done.returncode, done.stderr) == (0, "")
    for cause, loss in PROMISE:
        assert f"{cause} {loss}" in done.stdout

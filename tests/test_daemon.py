"""The whole route in real processes: recorded, killed, recovered, proved. Kills by the dozen are in `faults`."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import databento
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from spymaster import daemon as daemon_module
from spymaster import events, settings
from spymaster.control import ask
from spymaster.daemon import CaptureSummary, Daemon
from spymaster.events import Stream
from spymaster.feeds.dbn_files import DbnFileDelivery
from spymaster.journal import Journal
from spymaster.normalize.open import normalizer_of
from spymaster.proof.verify import verify
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.segment import scan
from spymaster.wal.writer import StreamLog
from tests.command_line import clean_environment, spymaster
from tests.conftest import is_recorded
from tests.feeding import messages
from tests.normalize.dbn_bytes import es_header, trade
from tests.rows import TRADES, delivered

ROWS_PER_KILL = 1_000
CHILD = Path(__file__).with_name("daemon_process.py")


@pytest.fixture
def roots(tmp_path):
    """Environment of a fresh lake with fast flushes and small segments, so that a kill meets all of them."""
    return clean_environment() | {
        "DATA_ROOT": str(tmp_path / "lake"),
        "WAL_ROOT": str(tmp_path / "wal"),
        "FLUSH_INTERVAL_SEC": "0.3",
        "WAL_SEGMENT_SIZE_MB": "1",
        "PYTHONPATH": str(CHILD.parents[1]),
    }


def asked(roots, *arguments, code=0):
    """Run the command line and return what `--json` printed."""
    done = spymaster(*arguments, "--json", environment=roots)
    assert done.returncode == code, done
    return done.document


class Child:
    """A daemon whose acknowledgements are collected as it prints them."""

    def __init__(self, roots, source: str, speed: str = "1") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(CHILD), source, speed], env=roots, stdout=subprocess.PIPE, text=True
        )
        self.acknowledged: list[tuple[str, int, int, int]] = []
        self.rows = 0
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.count(" ") == 3 and line.endswith("\n"):
                stream, capture, first, last = line.split()
                self.acknowledged.append((stream, int(capture), int(first), int(last)))
                self.rows += int(last) - int(first) + 1

    def wait_for_rows(self, rows: int) -> None:
        deadline = time.monotonic() + 60
        while self.rows < rows:
            assert self.process.poll() is None, "the daemon ended by itself"
            assert time.monotonic() < deadline, f"only {self.rows} rows were acknowledged in 60 s"
            time.sleep(0.01)

    def kill(self, signal_number=signal.SIGKILL) -> None:
        self.process.send_signal(signal_number)
        self.process.wait(60)
        self._reading.join()
        self.process.stdout.close()


def bronze_counts(roots) -> Counter:
    """Count each (stream, capture_id, capture_seq) that Bronze holds, read without our code."""
    counts: Counter = Counter()
    for path in Path(roots["DATA_ROOT"]).glob("bronze/*/*"):
        stream = f"{path.parent.name}.{path.name}"
        rows = duckdb.sql(f"select capture_id, capture_seq from read_parquet('{path}/**/part-*.parquet')").fetchall()
        counts.update((stream, capture, seq) for capture, seq in rows)
    return counts


def test_a_file_that_was_killed_half_way_is_completed_each_row_once_and_then_known(roots, real_data):
    path = real_data / "nautilus_trader" / "derived" / "ESH4_mbp-10_20231225_part1.dbn.zst"
    expected = sum(1 for _ in databento.DBNStore.from_bytes(path.read_bytes()))
    child = Child(roots, f"dbn:{path}", "2000")  # 1.5 hours in a few seconds
    child.wait_for_rows(ROWS_PER_KILL)
    child.kill()
    assert child.rows < expected

    finished = asked(roots, "run", "--source", f"dbn:{path}", "--speed", "0")
    known = asked(roots, "run", "--source", f"dbn:{path}", "--speed", "0")

    assert finished["rows"] == {"futures.mbp10": expected}
    assert 0 < finished["captures"][0]["appended"] < expected
    assert known["captures"][0]["already_captured"]
    assert known["rows"] == {"futures.mbp10": expected}
    assert known["streams"] == {}
    books = Counter(count for (schema, *_), count in bronze_counts(roots).items() if schema == "futures.mbp10")
    assert books == {1: expected}
    (proof,) = [p for p in asked(roots, "verify")["captures"] if p["stream"] == "futures.mbp10/ES"]
    assert proof == {**proof, "rows": expected, "whole": True}


def test_every_real_file_is_in_bronze_as_the_normalizer_gives_it(roots, real_data):
    """The normalizer's every value is compared with the vendor library's in `normalize/test_databento_vendor.py`."""
    summary = asked(roots, "backfill", f"dbn:{real_data}", code=1)  # files of other schemas are refused, by name
    captures = {capture["origin"].removeprefix("dbn:"): capture for capture in summary["captures"]}
    recorded = {path: capture for path, capture in captures.items() if not capture["error"]}
    assert {path for path in captures if is_recorded(Path(path))} == set(recorded)

    for path, capture in recorded.items():
        delivery = DbnFileDelivery(Path(path), path)
        normalizer = normalizer_of(delivery.info.encoding, origin=path)
        expected: dict[str, list[pa.RecordBatch]] = {}
        for message in asyncio.run(_all(delivery)):
            for schema, batch in normalizer.normalize([message]).batches:
                expected.setdefault(schema.name, []).append(batch)
        assert capture["rows"] == {name: sum(b.num_rows for b in batches) for name, batches in expected.items()}, path
        for name, batches in expected.items():
            stored = _stored(roots, name, capture["capture_id"])
            assert stored.equals(pa.Table.from_batches(batches)), (path, name)
    assert asked(roots, "verify")["proven"]


async def _all(delivery: DbnFileDelivery):
    return [message async for message in messages(delivery)]


def _stored(roots, schema: str, capture_id: int) -> pa.Table:
    """Return a capture's rows as they were delivered: in the order of their numbers, without them."""
    folder = Path(roots["DATA_ROOT"], "bronze", *schema.split("."))
    rows = ds.dataset(folder).to_table(filter=ds.field("capture_id") == capture_id).sort_by("capture_seq")
    return rows.select(events.SCHEMAS[schema].delivered.names).cast(events.SCHEMAS[schema].delivered).combine_chunks()


def test_the_same_content_twice_in_one_run_is_one_capture(roots, real_data, tmp_path):
    source = real_data / "dbn" / "test_data.trades.v3.dbn.zst"
    folder = tmp_path / "day"
    folder.mkdir()
    for name in ("a.dbn.zst", "b.dbn.zst"):
        (folder / name).write_bytes(source.read_bytes())

    summary = asked(roots, "run", "--source", f"dbn:{folder}", "--source", f"dbn:{source}", "--speed", "0")

    assert sorted(capture["already_captured"] for capture in summary["captures"]) == [False, True, True]
    assert asked(roots, "verify")["proven"]
    assert {count for (schema, *_), count in bronze_counts(roots).items() if schema == "futures.trades"} == {1}


def backfill(roots, *sources, catalog_refuses_until: str | None = None) -> list[CaptureSummary]:
    """Record files in this process.

    Args:
        roots: log and lake.
        sources: the files.
        catalog_refuses_until: "a flush" that somebody waited for, or "its end"; until then SQLite takes no row.
    """

    async def run() -> Daemon:
        loaded = settings.load(wal_root=Path(roots["WAL_ROOT"]), data_root=Path(roots["DATA_ROOT"]))
        daemon = Daemon(loaded, [f"dbn:{source}" for source in sources], 0)
        start, flush = daemon.recorder.start, daemon.recorder.flush

        async def start_with_a_refusing_catalog(*arguments):
            await start(*arguments)
            await daemon.recorder.whole_catalog(lambda: False)
            daemon.recorder.drain.catalog._db.execute(f"pragma query_only = {catalog_refuses_until is not None}")
            return daemon.recorder.recovered

        async def flush_and_let_the_catalog_go_on():
            await flush()
            daemon.recorder.drain.catalog._db.execute(f"pragma query_only = {catalog_refuses_until == 'its end'}")

        daemon.recorder.start, daemon.recorder.flush = start_with_a_refusing_catalog, flush_and_let_the_catalog_go_on
        await daemon.run()
        return daemon

    return asyncio.run(run()).summaries


def test_a_file_whose_begin_and_end_are_lost_is_read_again_and_no_row_stands_twice(roots, tmp_path):
    (tmp_path / "a.dbn").write_bytes(es_header() + trade() * 500)
    backfill(roots, tmp_path / "a.dbn")
    shutil.rmtree(tmp_path / "lake" / "bronze" / "system")

    (summary,) = backfill(roots, tmp_path / "a.dbn")

    assert (summary.complete, summary.rows, summary.appended) == (True, {"futures.trades": 500}, 0)
    assert {count for (schema, *_), count in bronze_counts(roots).items() if schema == "futures.trades"} == {1}


@pytest.mark.parametrize("until", ["a flush", "its end"])
def test_a_file_twice_in_one_run_stands_there_once_though_the_catalog_refused_meanwhile(roots, tmp_path, until):
    for name in ("a.dbn", "b.dbn"):
        (tmp_path / name).write_bytes(es_header() + trade() * 500)

    both = backfill(roots, tmp_path / "a.dbn", tmp_path / "b.dbn", catalog_refuses_until=until)

    second, first = sorted(both, key=lambda summary: summary.appended)
    assert (first.complete, first.appended) == (True, 500)
    if until == "a flush":
        assert (second.already_captured, second.error) == (True, None)
    else:
        assert not second.complete
        assert "is behind, so which rows of a file are recorded is not known" in second.error
    assert {count for (schema, *_), count in bronze_counts(roots).items() if schema == "futures.trades"} == {1}
    (again,) = backfill(roots, tmp_path / "b.dbn")
    assert again.already_captured
    assert verify(tmp_path / "wal", tmp_path / "lake").findings == []


def leave_damage(roots, *damaged: int) -> None:
    """Leave a log as a killed process does, with some of its frames of five acknowledged rows damaged."""
    wal = Path(roots["WAL_ROOT"])
    wal.mkdir()
    log = StreamLog(wal, Stream("futures.trades", "ES"), segment_bytes=1 << 30)
    rows = CaptureRows(log, 7)
    for start in range(0, 5 * (max(damaged) + 2), 5):
        rows.append(delivered(TRADES, 5, start=start))
        log.commit()
    log.close()
    segment = wal / "futures_trades_ES.arrow"
    raw = bytearray(segment.read_bytes())
    for frame in scan(memoryview(bytes(raw))).frames[1:]:
        if frame.first_row // 5 in damaged:
            raw[frame.end - 20] ^= 1
    segment.write_bytes(raw)


def test_a_run_over_damage_says_so_while_it_goes_on(roots):
    leave_damage(roots, *range(0, 24, 2))

    lines: list[str] = []
    journal = Journal(lines.append, "json")

    async def run() -> tuple[list[str], list[str]]:
        said: list[str] = []
        loaded = settings.load(wal_root=Path(roots["WAL_ROOT"]), data_root=Path(roots["DATA_ROOT"]))
        daemon = Daemon(loaded, ["sim-es"], 1, notify=said.append, journal=journal)
        rows = daemon.bus.subscribe()
        running = asyncio.create_task(daemon.run())
        await anext(rows)
        problems = daemon.status()["problems"]
        daemon.stop()
        await running
        return [line for line in said if "damaged" in line], problems

    said, problems = asyncio.run(run())
    journal.close()

    assert said == problems
    told = [event for event in map(json.loads, lines) if event["level"] == "error"]
    assert [(event["event"], event["text"]) for event in told] == [("damage.found", line) for line in said]
    recovered = {event["event"]: event for event in map(json.loads, lines) if event["event"].startswith("recovery")}
    found, done = recovered["recovery.found"], recovered["recovery.done"]
    assert (found["rows"], found["missing"], done["rows"]) == (60 + 12, 12, 60 + 12)  # a gap row for each hole
    assert len(said) == 11
    assert "futures.trades/ES: rows 0 to 4 of segment" in said[0]
    assert said[0].endswith("Next: spymaster verify")
    assert said[10] == "acknowledged rows were found damaged in 2 more places"


def test_a_run_over_damage_exits_3_and_its_summary_says_why(roots):
    leave_damage(roots, 1)

    (problem,) = asked(roots, "run", "--source", "sim-es", "--duration", "0.5", code=3)["problems"]

    assert "acknowledged rows were found damaged: futures.trades/ES: rows 5 to 9 of segment" in problem


def books_acknowledged(roots) -> int:
    """Ask the running daemon; 0 until there is one."""
    answer = ask(Path(roots["WAL_ROOT"]), "status") or {"streams": {}}
    return answer["streams"].get("futures.mbp10/ES", {"acknowledged": 0})["acknowledged"]


def test_sigterm_drains_so_that_nothing_is_left_in_the_log(roots):
    child = Child(roots, "sim-es:rate=20000")
    child.wait_for_rows(ROWS_PER_KILL)
    child.kill(signal.SIGTERM)  # the child has no handler: like a kill
    asked(roots, "recover")

    running = subprocess.Popen(
        [sys.executable, "-m", "spymaster", "run", "--source", "sim-es:rate=20000", "--json"],
        env=roots, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (books := books_acknowledged(roots)) <= ROWS_PER_KILL:
        assert time.monotonic() < deadline, f"only {books} books were acknowledged in 60 s"
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    summary = json.loads(running.communicate(timeout=60)[0])

    assert running.returncode == 0
    assert summary["rows"]["futures.mbp10"] > ROWS_PER_KILL
    for stream in summary["streams"].values():
        assert stream["appended"] == stream["acknowledged"] == stream["in_bronze"]
    assert asked(roots, "status")["wal"]["rows"] == 0
    assert asked(roots, "verify")["proven"]


SILENT_SOURCE = """
import asyncio, signal
from spymaster import settings
from spymaster.daemon import Daemon
from tests.live_feed import SILENT, LiveDelivery, LiveFeed
from tests.normalize.dbn_bytes import trade

async def main():
    feed = {"delivery": LiveFeed(LiveDelivery([[trade()]], SILENT)), "connection": LiveFeed(end=SILENT)}
    daemon = Daemon(settings.load(), [], 1, feeds=list(feed.items()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, daemon.stop)
    seen = daemon.bus.subscribe()
    running = asyncio.create_task(daemon.run())
    async for stream, _ in seen:
        if stream.schema == "futures.trades":
            break
    print("silent", flush=True)
    await running

asyncio.run(main())
"""


def seconds_to_end_a_silent_run(roots) -> float:
    running = subprocess.Popen([sys.executable, "-c", SILENT_SOURCE], env=roots, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout.readline() == "silent\n"
        time.sleep(0.5)  # until nothing is left to do
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
        return time.monotonic() - began
    finally:
        running.kill()
        running.communicate()


def test_sigterm_ends_a_process_with_silent_sources_in_two_seconds(roots):
    # One of three: a machine that gives this process a third of a core is none of its own doing.
    assert any(seconds_to_end_a_silent_run(roots) < 2 for _ in range(3))
    assert asked(roots, "verify")["proven"]


def test_a_second_daemon_on_the_same_log_is_refused_by_the_name_of_the_first(roots):
    child = Child(roots, "sim")
    child.wait_for_rows(1)
    try:
        refused = asked(roots, "run", "--duration", "1", code=2)
    finally:
        child.kill()

    assert f"is in use by process {child.process.pid}" in refused["error"]
    assert "\n" not in refused["error"]


def test_a_daemon_that_is_asked_again_and_again_reads_its_version_once(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(daemon_module.metadata, "version", lambda name: read.append(name) or "1.2")
    daemon_module._version.cache_clear()

    async def run():
        daemon = Daemon(settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake"), [], 0)
        return [daemon.status()["version"] for _ in range(3)]

    try:
        assert (asyncio.run(run()), read) == (["1.2"] * 3, ["spymaster"])
    finally:
        daemon_module._version.cache_clear()

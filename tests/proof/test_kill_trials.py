"""`doctor --torture`: kills that lose nothing, and each kind of loss planted once, to see the count fail."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from spymaster import cli
from spymaster.errors import UsageError
from spymaster.events import Stream
from spymaster.proof import kill_trials as torture
from spymaster.proof import killed_daemon
from spymaster.proof.kill_ledger import Ledger, market_rows
from spymaster.proof.kill_trials import tear
from spymaster.simulation.source import SimFeed
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import salvage
from spymaster.wal.segment import decode_rows, scan
from spymaster.wal.writer import StreamLog
from tests.rows import TRADES, delivered
from tests.small_disk import MB, small_disk

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
COMMAND = [sys.executable, "-m", "spymaster", "doctor", "--torture"]
MARKET = "seed=3,rate=20000,start=2025-12-16T14:30:00Z"

LYING_DAEMON = """
import sys
from spymaster.proof import killed_daemon

def acknowledge_one_row_more(stream, capture_id, first, last, flush):
    print(stream, capture_id, first, last + 1, flush=flush)

killed_daemon.print = acknowledge_one_row_more
if sys.stdin.readline():
    killed_daemon.main(*sys.argv[1:])
"""


@pytest.fixture
def child_script(tmp_path, monkeypatch):
    """Let another program take the daemon's place."""

    def take(text):
        script = tmp_path / "daemon.py"
        script.write_text(text)
        monkeypatch.setattr(killed_daemon, "CHILD", (sys.executable, str(script)))
        monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])

    return take


def test_three_kills_lose_nothing_and_leave_nothing_behind(tmp_path):
    (tmp_path / "a [log]*").mkdir()
    done = subprocess.run(
        [*COMMAND, "--kills", "3", "--json", "--wal-root", "a [log]*"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, (done.stdout, done.stderr)
    report = json.loads(done.stdout)
    assert report["held"]
    assert report["kills"] == 3
    assert report["torn_tails"] == 1  # of the third
    assert (report["lost"], report["doubled"], report["invented"], report["findings"]) == (0, 0, 0, [])
    assert all(trial["acknowledged"] >= torture.MIN_ROWS for trial in report["trials"])
    assert report["rows_counted"] >= report["acknowledged"]
    assert report["recovery_s"]["max"] > 0 < report["sync_s"]["max"]
    assert [path.name for path in tmp_path.rglob("*")] == ["a [log]*"]


def test_a_disk_with_the_room_that_the_trials_take_is_not_too_small_for_their_daemon(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    monkeypatch.setattr(killed_daemon, "START_LIMIT_S", 20)

    with small_disk(tmp_path / "disk", torture.NEEDED_BYTES // MB) as disk:
        report = torture.torture(disk.root, 1, None, 5, lambda _trial: None)

    assert report.findings == []


def test_rows_that_were_acknowledged_and_never_appended_are_found(tmp_path, child_script, monkeypatch, capsys):
    child_script(LYING_DAEMON)
    wal = tmp_path / "wal"
    wal.mkdir()
    monkeypatch.setattr("sys.argv", ["spymaster", "doctor", "--torture", "--kills", "5", "--wal-root", str(wal)])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "finding: kill 1: " in printed
    assert "acknowledged rows are lost" in printed
    (kept,) = wal.iterdir()
    assert f"Log and lake are kept in {kept}" in printed
    assert list(kept.rglob("part-*.parquet"))


def test_a_part_that_vanishes_after_it_was_counted_is_missed_at_the_end(tmp_path):
    def lose(_trial):
        oldest = min(tmp_path.rglob("futures/mbp10/**/part-*.parquet"), key=lambda path: path.name)
        oldest.unlink()  # its rows were acknowledged long before the kill

    report = torture.torture(tmp_path, 1, None, 5, lose)

    assert any("acknowledged rows of futures.mbp10" in finding for finding in report.findings), report.findings
    assert any("verify: " in finding and "not on disk" in finding for finding in report.findings)
    assert report.kept is not None


def test_a_daemon_that_ends_by_itself_is_one_clear_line(tmp_path, child_script):
    child_script("raise SystemExit('no such disk')")
    before = sorted(tmp_path.iterdir())

    with pytest.raises(UsageError, match="ended by itself after 0 acknowledged rows: no such disk"):
        torture.torture(tmp_path, 1, None, 5, lambda _trial: None)

    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_torture_takes_its_daemons_and_its_folder_along(tmp_path, number):
    running = subprocess.Popen(
        [*COMMAND], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    children: list[int] = []
    while not children:
        time.sleep(0.05)
        listed = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True)
        children = [int(line) for line in listed.stdout.split()]

    running.send_signal(number)
    _, errors = running.communicate(timeout=60)

    assert running.returncode == 130
    assert "interrupted after" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    for child in children:
        assert any(is_gone(child) for _ in range(200))


def is_gone(process):
    """Whether a process is; whoever inherits an orphan takes its time to bury it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    time.sleep(0.05)
    return False


def stored_trades(count: int) -> pa.Table:
    """Return the first trades of `MARKET` as Bronze would hold them, in reverse."""
    rows = market_rows(SimFeed.parse(MARKET), {"futures.trades": count})["futures.trades"].slice(0, count)
    rows = rows.append_column("capture_id", pa.array([7] * count, pa.int64()))
    return rows.append_column("capture_seq", pa.array(np.arange(count))).take(np.arange(count)[::-1])


def dearer(rows: pa.Table) -> pa.Table:
    """Change the price of the first row."""
    prices = rows["price"].to_pylist()
    return rows.set_column(rows.column_names.index("price"), "price", pa.array([prices[0] + 0.25, *prices[1:]]))


def of_capture_8(rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.column_names.index("capture_id"), "capture_id", pa.array([8] * rows.num_rows))


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        (lambda rows: [rows], (0, 0, 0)),
        (lambda rows: [rows.slice(0, 20), rows.slice(20)], (0, 0, 0)),
        (lambda rows: [rows.slice(3)], (3, 0, 0)),
        (lambda rows: [rows.slice(0, 10), rows.slice(11)], (1, 0, 0)),
        (lambda rows: [rows, rows.slice(0, 4)], (0, 4, 0)),
        (lambda rows: [dearer(rows)], (0, 0, 1)),
        (lambda rows: [rows, of_capture_8(rows.slice(0, 2))], (0, 0, 2)),
    ],
    ids=["one part", "two parts", "three last rows lost", "one row lost", "four rows doubled", "a row changed",
         "rows of nobody"],
)  # fmt: skip
def test_the_count_sees_each_kind_of_defect(tmp_path, defect, expected):
    folder = tmp_path / "futures" / "trades" / "symbol=ES"
    folder.mkdir(parents=True)
    for number, part in enumerate(defect(stored_trades(50))):
        pq.write_table(part, folder / f"part-{number}.parquet")
    acknowledged = [("futures.trades", 7, 0, 29), ("futures.trades", 7, 30, 49)]
    ledger = Ledger(tmp_path)
    ledger.acknowledge(acknowledged)

    assert ledger.count(SimFeed.parse(MARKET), acknowledged) == expected
    assert ledger.count(SimFeed.parse(MARKET), acknowledged) == (expected[0], 0, 0)  # what is new, and what is missing
    lost, doubled, _ = expected
    assert [finding.split()[2:4] for finding in ledger.count_again()[1]] == [
        [str(count), word] for count, word in ((doubled, "rows"), (lost, "acknowledged")) if count
    ]


def test_a_part_that_does_not_read_is_named(tmp_path):
    folder = tmp_path / "futures" / "trades"
    folder.mkdir(parents=True)
    (folder / "part-1.parquet").write_bytes(b"PAR1garbagePAR1")
    ledger = Ledger(tmp_path)

    ledger.count(SimFeed.parse(MARKET), [])

    assert "part-1.parquet does not read" in ledger.unreadable[0]


def test_tearing_never_takes_a_promised_row_and_takes_unpromised_ones(tmp_path):
    kinds, survivors = set(), []
    for seed in range(30):
        folder = tmp_path / str(seed)
        folder.mkdir()
        log = StreamLog(folder, Stream("futures.trades", "ES"), 1 << 30)
        rows = CaptureRows(log, capture_id=7)
        for committed in (True, False, False):  # so that no frame says that more than ten are durable
            rows.append(delivered(TRADES, 10, start=rows.next_seq))
            if committed:
                log.commit()
        ledger = Ledger(folder)
        ledger.acknowledge([("futures.trades", 7, 0, 19)])

        kinds.add(tear(folder, ledger, random.Random(seed)).split()[1])

        found = salvage(folder, 9, set())
        assert not found.acknowledged_damage, seed
        (copy,) = found.sealed
        raw = memoryview(copy.read_bytes())
        kept = decode_rows(raw, scan(raw).frames, log.stream)[0]["capture_seq"]
        assert kept.slice(0, 20).to_pylist() == list(range(20)), seed
        survivors.append(pc.max(kept).as_py())
    assert kinds == {"cut", "zeroed", "garbled", "followed"}
    assert set(survivors) == {19, 29}


def test_without_torture_the_options_of_it_are_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "spymaster", "doctor", "--minutes", "1"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr == "error: --minutes and --kills go with --torture. Nothing was started. Next: add --torture\n"

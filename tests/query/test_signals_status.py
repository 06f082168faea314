"""What `status` and `doctor` say of signals: how many, how far Gold has them, and who is missing on their way."""

import asyncio
import json

import pytest

from spymaster.cli import screen
from spymaster.control import ask
from spymaster.errors import ControlError
from spymaster.proof import doctor
from spymaster.query import status as status_module
from spymaster.query.status import MISSING, signal_words, signals_of, status
from tests.command_line import clean_environment, spymaster
from tests.signals.test_live import NOON, daemon_of, until

JUDGE = {"state": "judging", "published": 1_234}
GOLD = {"following": True, "flushed_ns": 1_766_404_800_000_000_000, "flushed_age_s": 12.3}


def of(judge=JUDGE, gold=GOLD):
    return signals_of({"judge": judge, "gold": gold})


@pytest.mark.parametrize(("judge", "gold", "missing"), [
    (JUDGE, GOLD, None),
    ({**JUDGE, "state": "warming up"}, GOLD, None),
    ({**JUDGE, "state": "ended"}, GOLD, "core"),
    (None, None, "core"),
    (JUDGE, {**GOLD, "following": False}, "writer"),
    (JUDGE, None, "writer"),
])  # fmt: skip
def test_who_is_missing_is_told(judge, gold, missing):
    assert of(judge, gold)["missing"] == missing
    assert missing is None or "Next: " in MISSING[missing]


def test_signals_are_told_in_a_line():
    line = "1,234 snaps of signals published; Gold has them to 2025-12-22T12:00:00Z, flushed 12 s ago"
    assert signal_words(of()) == line
    assert signal_words(of(None, None)) == "0 snaps of signals published; Gold has none of them yet"


def test_a_running_daemon_says_how_far_its_signals_got(tmp_path):
    daemon = daemon_of(tmp_path, f"sim:rate=300,start={NOON}", 40)
    environment = clean_environment(DATA_ROOT=str(tmp_path / "lake"), WAL_ROOT=str(tmp_path / "wal"), PROFILE="SIM")

    async def flushed():
        answer = await asyncio.to_thread(ask, tmp_path / "wal", "status", 5)
        return answer if answer and answer["gold"]["flushed_ns"] is not None else None

    def checked():
        return doctor.check_signals(tmp_path / "wal"), doctor.check_gold(tmp_path / "lake")

    async def run():
        running = asyncio.create_task(daemon.run())
        answer = await until(flushed, 120)
        found = await asyncio.to_thread(status, tmp_path / "wal", tmp_path / "lake")
        shown = await asyncio.to_thread(spymaster, "status", environment=environment)
        checks = await asyncio.to_thread(checked)
        daemon.stop()
        await running
        return answer, found, shown.stdout, checks

    answer, found, shown, (signals, gold) = asyncio.run(run())

    assert answer["judge"]["published"] >= answer["gold"]["snaps"] > 0
    assert answer["gold"]["parts"] >= 1
    assert found["signals"]["missing"] is None
    assert found["signals"]["gold_flushed_ns"] <= found["daemon"]["judge"]["snap_ns"]
    assert 0 <= found["signals"]["gold_flush_age_s"] < 120
    assert found["gold"]["files"] >= 1
    assert found["gold"]["bytes"] > 1_000
    assert "snaps of signals published; Gold has them to 2025-12-02T17:0" in shown
    assert any(line.startswith("Gold") for line in shown.splitlines())
    assert signals.verdict == "OK"
    assert "Gold has them to" in signals.found
    assert gold.found.endswith("bytes")


def test_a_core_that_broke_is_missing_and_doctor_warns(tmp_path, monkeypatch):
    answer = {"judge": {**JUDGE, "state": "ended"}, "gold": GOLD}
    monkeypatch.setattr(status_module, "running", lambda wal_root: answer)

    found = doctor.check_signals(tmp_path)
    assert found.verdict == "WARN"
    assert "the core is missing" in found.found
    assert found.advice
    assert screen._signal_lines(signals_of(answer))[1] == MISSING["core"]


def test_without_a_daemon_there_are_none_and_gold_is_counted_still(tmp_path):
    environment = clean_environment(DATA_ROOT=str(tmp_path / "lake"), WAL_ROOT=str(tmp_path / "wal"))
    found = json.loads(spymaster("status", "--json", environment=environment).stdout)

    assert found["signals"] is None
    assert found["gold"] == found["datasets"] == {"bytes": 0, "files": 0}
    assert doctor.check_signals(tmp_path / "wal") == ("signals", "OK", "no daemon runs, so none are published", "")
    assert doctor.check_gold(tmp_path / "lake").found == "0 parts, 0 bytes"
    assert doctor.check_datasets(tmp_path / "lake").found == "0 files, 0 bytes"


def test_a_daemon_that_gives_no_answer_is_a_warning(tmp_path, monkeypatch):
    def silent(wal_root):
        raise ControlError("the daemon behind x did not answer within 2 s")

    monkeypatch.setattr(status_module, "running", silent)
    assert doctor.check_signals(tmp_path).verdict == "WARN"

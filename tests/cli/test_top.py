"""`spymaster top`: what a running daemon sees, as a user asks for it."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spymaster.cli import top
from tests.command_line import clean_environment, spymaster

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a folder in which a daemon records a simulated market."""
    folder = tmp_path_factory.mktemp("topped")
    found = clean_environment(
        PYTHONPATH=str(REPOSITORY), DATA_ROOT=str(folder / "lake"), WAL_ROOT=str(folder / "wal"), PROFILE="SIM"
    )
    command = [sys.executable, "-m", "spymaster", "run", "--source", "sim:rate=200", "--no-gateway"]
    daemon = subprocess.Popen(command, env=found, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            done = spymaster("top", "--json", environment=found)
            if done.returncode == 0 and done.document["streams"].get("futures.mbp10/ES", {}).get("rows"):
                break
            time.sleep(0.1)
        yield found
    finally:
        daemon.terminate()
        daemon.wait(60)


def test_top_as_json_is_one_document_of_desk_streams_gaps_alerts_health_and_snap(environment):
    found = spymaster("top", "--json", "--once", environment=environment).document

    assert found.keys() == {"desk", "streams", "gaps", "alerts", "health", "snap"}
    assert found["desk"]["state"] in {"first", "live", "void"}
    assert found["desk"]["feeds"]["of"] == 4
    assert found["streams"]["futures.mbp10/ES"].keys() == {
        "rows_s", "rows_s_5min", "lag_ms", "lag_p99_ms", "age_ms", "rows"
    }  # fmt: skip
    assert found["health"]["disk_level"] in {"ok", "warn"}


def test_top_once_says_the_state_the_streams_and_the_rows_at_risk_and_ends(environment):
    done = spymaster("top", "--once", environment=environment | {"COLUMNS": "160"})

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("LIVE")
    assert " of 4 feeds" in " ".join(done.stdout.split())
    assert "futures.mbp10/ES" in done.stdout
    assert "rows at risk" in done.stdout


def test_top_on_a_terminal_goes_on_until_q(environment):
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "spymaster", "top"]
    following = subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    try:
        for _ in range(300):
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 1 << 16)
            if shown.count(b"rows at risk") >= 2:
                os.write(master, b"q")
                break
        for _ in range(100):
            if following.poll() is not None:
                break
            if select.select([master], [], [], 0.1)[0]:
                try:
                    shown += os.read(master, 1 << 16)
                except OSError:  # the other side is closed
                    break
        assert following.wait(10) == 0
    finally:
        following.kill()
        following.wait()
        os.close(master)

    assert shown.count(b"rows at risk") >= 2


@pytest.mark.parametrize("arguments", [(), ("--once",), ("--json",)])
def test_without_a_daemon_top_is_one_line(tmp_path, arguments):
    done = spymaster("top", *arguments, "--data-root", str(tmp_path))

    assert done.returncode == 2
    line = done.document["error"] if "--json" in arguments else done.stderr
    assert "no daemon records in" in line
    assert len((done.stdout + done.stderr).splitlines()) == 1


def test_a_gap_a_silence_a_problem_and_an_alert_are_each_a_word_on_the_screen():
    found = {
        "desk": {"state": "stale", "since_ns": 10**18, "reason": "futures.mbp10/ES", "halt": None, "first": None,
                 "gap": None, "silent": {"futures.mbp10/ES": {"since_ns": 10**18, "age_ms": 3_400}},
                 "feeds": {"up": 0, "of": 1}},
        "gaps": {"7": {"stream": "futures.mbp10/ES"}},
        "health": {"rows_at_risk": 4_000, "sync_p50_ms": None, "durable_to_ns": None, "gold_age_s": None,
                   "disk_free_bytes": 2 * 10**9, "disk_days": 1.5, "not_in_bronze": 5,
                   "problems": ["no control socket"]},
        "snap": None,
    }  # fmt: skip

    assert top.headline(found) == (
        "STALE · futures.mbp10/ES · since 01:46:40 · futures.mbp10/ES silent for 3.4 s · 0 of 1 feeds"
    )
    assert top.health_lines(found) == [
        "4,000 rows at risk · no sync yet · 1 open gaps · no Gold yet · disk 2.0 GB free, 1.5 days · "
        "5 rows not in Bronze",
        "problem: no control socket",
    ]
    alert = {"at_ns": 10**18, "kind": "gap", "state": "raised", "text": "gap in futures.mbp10/ES"}
    assert top.alert_lines([alert]) == ["01:46:40 gap raised: gap in futures.mbp10/ES"]

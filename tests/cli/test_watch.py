"""Signals, gamma and hot zones as a user asks a running daemon for them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from docs import make_reference, signals_schema
from spymaster.lake import gold
from spymaster.lake.gold import NOBODY
from tests.command_line import clean_environment, spymaster
from tests.json_schema import misfits
from tests.signals import snaps

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a folder in which a daemon judges a simulated market."""
    folder = tmp_path_factory.mktemp("watched")
    found = clean_environment(
        PYTHONPATH=str(REPOSITORY), DATA_ROOT=str(folder / "lake"), WAL_ROOT=str(folder / "wal"), PROFILE="SIM"
    )
    source = "sim:rate=300,start=2025-12-02T17:00:00Z"
    command = [sys.executable, "-m", "spymaster", "run", "--source", source, "--speed", "4"]
    daemon = subprocess.Popen(command, env=found, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if spymaster("gamma", "--json", environment=found).returncode == 0:
                break
            time.sleep(0.1)
        yield found
    finally:
        daemon.terminate()
        daemon.wait(60)


@pytest.fixture
def ask(environment):
    def call(*arguments):
        done = spymaster(*arguments, environment=environment)
        assert done.returncode == 0, done
        return done.stdout

    return call


def test_signals_are_a_line_of_the_snap_and_a_row_a_level(ask):
    head, names, line, *rows = ask("signals", "--format", "table").splitlines()

    assert head.startswith("ES 6") or head.startswith("ES no quote")
    assert "UTC, ESZ5, " in head
    assert names.split("|")[0].strip() == "price"
    assert set(line) == {"-", "+"}
    prices = [float(row.split("|")[0]) for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert any("ROUND_" in row for row in rows)


def test_signals_as_json_have_every_column_and_one_level_alone_is_asked_for_by_id(ask):
    snap = json.loads(ask("signals", "--json"))
    (level,) = json.loads(ask("signals", "--json", "--level", "VWAP"))["levels"]

    assert (snap["contract"], snap["profile"], snap["session"]) == ("ESZ5", "SIM", "2025-12-02")
    assert "VWAP" in level["ids"]
    assert {"price", "break_score_smooth", "break_score_barrier", "signal", "p_break", "note"} <= level.keys()
    assert {"state", "held_state", "added_60s", "coverage"} <= level["barrier"].keys()
    assert json.loads(ask("signals", "--json", "--level", "NOTHING"))["levels"] == []
    schema = json.loads((make_reference.HERE / signals_schema.NAME).read_text())
    assert misfits(snap, schema) == []


def test_signals_that_are_followed_are_a_line_of_json_each_new_snap(environment):
    command = [sys.executable, "-m", "spymaster", "signals", "--follow", "--json"]
    following = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        snaps = [json.loads(following.stdout.readline())["ts_event_ns"] for _ in range(3)]
    finally:
        following.kill()
        following.wait()
        following.stdout.close()

    assert snaps == sorted(set(snaps))


def test_a_zone_is_added_listed_judged_moved_and_removed(ask):
    assert ask("zone", "add", "gap-fill", "6905.3") == "gap-fill is at 6905.25 of ES.\n"
    assert json.loads(ask("zone", "add", "gap-fill", "6906", "--json"))["price"] == 6906.0
    assert json.loads(ask("zone", "list", "--json"))["zones"] == [{"zone": "gap-fill", "price": 6906.0}]
    assert "gap-fill" in ask("zone", "list")
    assert ask("zone", "remove", "gap-fill") == "gap-fill is removed.\n"
    assert json.loads(ask("zone", "list", "--json"))["zones"] == []


def test_gamma_is_by_strike_three_ways_with_what_it_rests_on(ask):
    found = json.loads(ask("gamma", "--json"))
    lines = ask("gamma", "--format", "table").splitlines()

    assert found["strikes"][0].keys() == {"strike", "open_interest", "volume", "flow", "flow_open"}
    assert sum(found["shares"]["aggressor"].values()) == found["shares"]["prints"]
    assert lines[1].startswith("call wall ")
    assert "aggressor by" in lines[3]
    assert any(line.startswith("strike |") for line in lines)


@pytest.mark.parametrize(("arguments", "line"), [
    (("zone", "add", "../x", "6900"), "'../x' is no name of a zone. Nothing was set. Next: "),
    (("zone", "add", "x", "nan"), "nan is no price of a zone. Nothing was set. Next: "),
    (("zone", "remove", "nobody"), "there is no zone 'nobody'. Nothing was removed. Next: spymaster zone list"),
    (("gamma", "--plot", "gamma.txt"), "gamma.txt is no picture. Nothing was drawn. Next: "),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line(environment, arguments, line):
    done = spymaster(*arguments, environment=environment)

    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [
    ("signals",), ("signals", "--follow"), ("gamma",), ("zone", "list"), ("zone", "add", "x", "6900"),
])  # fmt: skip
def test_without_a_daemon_there_is_nothing_to_ask(tmp_path, arguments):
    done = spymaster(*arguments, environment=clean_environment(DATA_ROOT=str(tmp_path), WAL_ROOT=str(tmp_path)))

    assert done.returncode == 2
    assert "no daemon records in" in done.stderr
    assert "Next: spymaster run" in done.stderr


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """The environment of a lake whose Gold has a minute of a market, and no daemon."""
    folder = tmp_path_factory.mktemp("past")
    gold.publish(folder / "lake", pa.Table.from_batches(snaps.gold()), NOBODY)
    return clean_environment(DATA_ROOT=str(folder / "lake"), WAL_ROOT=str(folder / "wal"), PROFILE="SIM")


def of(environment, *arguments):
    done = spymaster("signals", *arguments, environment=environment)
    assert done.returncode == 0, done
    return done.stdout


def test_the_snap_of_a_past_time_is_shown_as_it_was_judged(past):
    snap = json.loads(of(past, "--at", "2025-12-22T14:30:10.100Z", "--json"))
    first, head, names, *_ = of(past, "--at", "2025-12-22T14:30:10.1", "--format", "table").splitlines()
    (level,) = json.loads(of(past, "--at", str(snap["ts_event_ns"]), "--level", snap["levels"][0]["id"], "--json"))[
        "levels"
    ]

    assert snap == json.loads(json.dumps(_document(snap["ts_event_ns"])))
    assert first == "2025-12-22, as it was judged:"
    assert "at 14:30:10." in head
    assert names.split("|")[0].strip() == "price"
    assert level == snap["levels"][0]


def _document(ts_ns):
    return next(snaps.payload.document(rows) for rows in snaps.gold() if rows.column("ts_event_ns")[0].as_py() == ts_ns)


def test_the_signals_of_a_past_day_are_a_row_each(past):
    found = json.loads(of(past, "--date", "2025-12-22", "--json"))
    (names, _, *rows) = of(past, "--date", "2025-12-22", "--format", "table").splitlines()

    columns = ["signal_since_ns", "level_id", "signal"]
    given = {tuple(row.values()) for row in pa.Table.from_batches(snaps.gold()).select(columns).to_pylist()}
    assert {(row[0], row[1], row[3]) for row in found["rows"]} == {one for one in given if one[0] is not None}
    assert {row[3] for row in found["rows"]} == {"BREAK", "REJECT"}
    assert len(rows) == len(found["rows"])
    assert names.split("|")[0].strip() == "signal_since_ns"
    level = found["rows"][0][1]
    assert {row[1] for row in json.loads(of(past, "--date", "2025-12-22", "--level", level, "--json"))["rows"]} == {
        level
    }


@pytest.mark.parametrize(("arguments", "line"), [
    (("--at", "noon"), "'noon' is no time. Nothing was read. Next: "),
    (("--at", "2025-12-01T00:00:00Z"), "Gold has no snap of ES at or before 2025-12-01T00:00:00.000000000Z"),
    (("--date", "2025-12-01"), "there is no Gold of ES in the session of 2025-12-01"),
    (("--date", "2025-12-22", "--follow"), "exclude each other"),
])  # fmt: skip
def test_a_past_that_is_not_there_is_one_line(past, arguments, line):
    done = spymaster("signals", *arguments, environment=past)

    assert done.returncode == 2
    assert line in done.stderr
    assert "Next: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

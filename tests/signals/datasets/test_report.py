"""What the touches on record say: shares counted by hand, their intervals, and what does not count."""

import pyarrow as pa
import pytest

from spymaster.engines.profile import profile_named
from spymaster.lake import datasets
from spymaster.lake.datasets import CONTROLS, OUTCOMES, TOUCHES
from spymaster.signals.datasets.report import bands_of, report, wilson
from tests.command_line import clean_environment, spymaster
from tests.engines import truths

SIM = profile_named("SIM")
DAYS = "2025-12-01", "2025-12-02", "2025-12-03"


def put(lake, dataset, date, rows, profile="SIM"):
    """Publish a session's rows, plain values where they say nothing and must."""
    own = [column for column in dataset.columns if column.name not in dataset.keys]
    plain = {pa.string(): "", pa.bool_(): False, pa.list_(pa.string()): [], **dict.fromkeys(
        [pa.int8(), pa.int32(), pa.int64(), pa.float64()], 0)}  # fmt: skip
    filled = [{column.name: row.get(column.name, None if column.nullable else plain[column.type]) for column in own}
              for row in rows]  # fmt: skip
    table = pa.Table.from_pylist(filled, pa.schema(own))
    datasets.publish(lake, dataset, ("ES", profile, date), table, "by hand", {})


def keep(lake, date, touches, controls=(), profile="SIM"):
    """Keep touches (kinds, score, outcome, whole) and controls (outcome, whole) of a session."""
    named = [(f"t{number}", *touch) for number, touch in enumerate(touches)]
    beside = [(f"c{number}", ["RANDOM"], None, *control) for number, control in enumerate(controls)]
    for dataset, rows in ((TOUCHES, named), (CONTROLS, beside)):
        said = [dict(zip(("touch_id", "kinds", "score"), row[:3], strict=True)) for row in rows]
        put(lake, dataset, date, said, profile)
    known = [(row[0], *row[3:]) for row in (*named, *beside) if row[3]]
    outcomes = [dict(zip(("touch_id", "outcome", "data_whole"), row, strict=True)) for row in known]
    put(lake, OUTCOMES, date, outcomes, profile)


@pytest.fixture
def lake(tmp_path):
    root = tmp_path / "lake"
    keep(
        root,
        DAYS[0],
        [
            (["ROUND", "VWAP"], 30.0, "REJECT", True),
            (["ROUND"], 34.9, "REJECT", True),
            (["ROUND", "STRIKE", "STRIKE"], 35.0, "BREAK", True),
            (["VWAP"], 100.0, "BREAK", True),
            (["VWAP"], 65.0, "NEITHER", True),
            (["ROUND"], 80.0, "BREAK", False),
            (["ROUND"], None, "UNKNOWN", False),
            (["POC"], 50.0, None, None),
        ],
        [("BREAK", True), ("REJECT", True), ("REJECT", True), ("NEITHER", False), (None, None)],
    )
    keep(root, DAYS[1], [(["VWAP"], None, "REJECT", True)], [("NEITHER", True)])
    keep(root, DAYS[1], [(["VWAP"], 10.0, "BREAK", True)] * 9, profile="ES")
    return root


def counted(tally):
    return tally.name, tally.breaks, tally.rejects, tally.neither


def test_each_kind_and_each_band_has_its_own_and_the_control_stands_beside(lake):
    found = report(lake, lake.parent / "wal", SIM)

    assert found.sessions == list(DAYS[:2])
    assert [counted(each) for each in found.kinds] == [("VWAP", 1, 2, 1), ("ROUND", 1, 2, 0), ("STRIKE", 1, 0, 0)]
    assert [counted(each) for each in found.bands] == [
        ("0 to 35", 0, 2, 0), ("35 to 42.5", 1, 0, 0), ("42.5 to 57.5", 0, 0, 0), ("57.5 to 65", 0, 0, 0),
        ("65 to 100", 1, 0, 1),
    ]  # fmt: skip
    assert [each.score for each in found.bands] == [pytest.approx(32.45), 35.0, None, None, 82.5]
    assert counted(found.control) == ("RANDOM", 1, 2, 1)
    assert (found.touches, found.unscored, found.not_whole, found.unknown, found.waiting) == (6, 1, 1, 1, 1)


def test_a_range_has_its_sessions_alone_both_ends_included(lake):
    wal = lake.parent / "wal"

    assert report(lake, wal, SIM, DAYS[1], DAYS[1]).touches == 1
    assert report(lake, wal, SIM, DAYS[0], DAYS[0]).touches == 5
    assert report(lake, wal, SIM, first=DAYS[2]).sessions == []
    assert report(lake, wal, profile_named("ES")).kinds[0].touches == 9


def test_the_interval_is_wilsons():
    for right, of in ((0, 1), (1, 3), (40, 100), (7, 7)):
        found = wilson(right, of)
        assert (found.low, found.high) == pytest.approx(truths.wilson(right, of))
        assert found.share == right / of
    assert wilson(0, 0) == (None, 0.0, 1.0)


def test_every_score_is_in_one_band():
    bands = bands_of(SIM.score)

    assert all(sum(low <= score < high for low, high in bands) == 1 for score in (0, 34.9, 35, 50, 57.5, 65, 100))


def test_the_command_prints_shares_with_n_and_interval_and_the_control(lake):
    roots = "--data-root", str(lake)
    environment = clean_environment(SPYMASTER_PROFILE="SIM")
    shown = spymaster("levels-report", *roots, "--format", "table", environment=environment)

    assert shown.returncode == 0
    cells = [[cell.strip() for cell in line.split("|")] for line in shown.stdout.splitlines()]
    lines = {line[0]: line for line in cells}
    assert lines["VWAP"][1:4] == ["4", "25.0%", "4.6% to 69.9%"]
    assert lines["score 0 to 35"][4:] == ["100.0%", "34.2% to 100.0%", "0"]
    assert lines["levels at random prices"][1] == "4"
    assert "6 touches count. Left out: 1 of data that was not whole, 1 whose price was lost, 1 without" in shown.stdout

    told = spymaster("levels-report", "--date", DAYS[0], *roots, "--json", environment=environment).document
    assert told["sessions"] == [DAYS[0]]
    low, high = truths.wilson(2, 3)
    assert told["control"]["hold_rate"] == {"share": 2 / 3, "low": pytest.approx(low), "high": pytest.approx(high)}
    assert told["scores"][0]["name"] == "0 to 35"


def test_what_cannot_be_reported_is_refused_with_what_to_do(lake):
    roots = "--data-root", str(lake)
    empty = spymaster("levels-report", "--from", "2026-01-01", *roots)
    assert empty.returncode == 0
    assert "no session on record. Next: spymaster datasets --all" in empty.stdout

    for wrong in (["--date", DAYS[0], "--to", DAYS[1]], ["--from", "yesterday"], ["--plot", "report.txt"]):
        refused = spymaster("levels-report", *wrong, *roots)
        assert refused.returncode == 2
        assert "Next: " in refused.stderr

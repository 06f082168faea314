"""The audit of recovery can fail: each rule of salvage is dropped once, and must be missed."""

import pytest

from spymaster.wal import damage, recovery
from tests.long.rot import salvaged
from tests.rot.originals import original

CASES = 60


def _without_islands(raw):
    return _scan(raw)._replace(islands=[])


def _believing(raw):
    found = _scan(raw)
    return found._replace(problem=None, islands=[])


def _unacknowledged(header, first_row, end_row, *, acknowledged):
    return _hole(header, first_row, end_row, acknowledged=False)


_scan, _hole = recovery.scan, damage.hole_of
MUTANTS = {
    "no gap row is written (holes)": (recovery._Recovery, "_record", lambda *_: None),
    "unsound bytes are not kept (I14)": (recovery._Recovery, "_quarantine", lambda *_: None),
    "what is sound after damage is given up (holes)": (recovery, "scan", _without_islands),
    "unsound bytes are taken for the end (I14)": (recovery, "scan", _believing),
    "damage is held for rows that nobody acknowledged (holes)": (damage, "hole_of", _unacknowledged),
    "gaps of an earlier recovery are forgotten (killed)": (recovery, "_gap_ids_in", lambda _: set()),
}  # fmt: skip


def caught(cases: int = CASES) -> str | None:
    found = (salvaged(number, cases) for number in range(cases))
    return next((finding.kind for finding in found if finding is not None), None)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_recovery_without_one_of_its_rules_is_caught(monkeypatch, name):
    monkeypatch.setattr(*MUTANTS[name])

    assert caught() is not None


def test_recovery_as_it_is_passes_the_same_cases():
    assert caught() is None


def test_of_two_holes_side_by_side_each_names_its_own_rows():
    assert salvaged(516, 700) is None  # a frame that does not read, then an idle frame, and no seal


@pytest.mark.parametrize("frames_of_the_other", [1, 2, 99])
def test_a_segment_that_begins_with_another_ones_bytes_is_not_passed_over_as_the_same(tmp_path, frames_of_the_other):
    one = original("stocks.quotes", number=1)
    two = original("stocks.quotes", number=2, start=4, before=one.last)
    three = original("stocks.quotes", number=3, frames=0, sealed=False, before=two.last)
    spliced = one.pieces[frames_of_the_other].offset if frames_of_the_other < len(one.pieces) else one.size
    damaged = one.raw[:spliced] + two.raw[spliced:]
    for name, data in ((".001", one.raw), (".002", damaged), ("", three.raw)):
        (tmp_path / f"stocks_quotes_ES{name}.arrow").write_bytes(data)

    found = recovery.salvage(tmp_path, 9, set())

    assert found.acknowledged_damage
    assert [(hole.segment, hole.first_row, hole.end_row) for hole in found.holes] == [(two.header.segment, 0, two.rows)]
    assert [path.read_bytes() for path in (tmp_path / "quarantine").glob("*.arrow")] == [damaged]
    assert not (tmp_path / "stocks_quotes_ES.002.arrow").exists()

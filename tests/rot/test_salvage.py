"""The audit of recovery can fail: each rule of salvage is dropped once, and must be missed."""

import pytest

from spymaster.wal import recovery
from tests.rot.torture import salvaged

CASES = 60


def _without_islands(raw):
    return _scan(raw)._replace(islands=[])


def _believing(raw):
    found = _scan(raw)
    return found._replace(problem=None, islands=[])


def _unacknowledged(header, first_row, end_row, *, acknowledged):
    return _hole(header, first_row, end_row, acknowledged=False)


_scan, _hole = recovery.scan, recovery._hole
MUTANTS = {
    "no gap row is written (holes)": (recovery._Recovery, "_record", lambda *_: None),
    "unsound bytes are not kept (I14)": (recovery._Recovery, "_quarantine", lambda *_: None),
    "what is sound after damage is given up (holes)": (recovery, "scan", _without_islands),
    "unsound bytes are taken for the end (I14)": (recovery, "scan", _believing),
    "damage is held for rows that nobody acknowledged (holes)": (recovery, "_hole", _unacknowledged),
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

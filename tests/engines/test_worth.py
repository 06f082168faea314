"""How alarms and worth are counted; the counts themselves are those of `tests/long/alarms.py` and `worth.py`."""

from collections import Counter

import numpy as np
import pytest

from spymaster.engines.passage import Path
from spymaster.engines.profile import profile_named
from spymaster.engines.rows import book_rows
from tests.engines.books import columns, wild_market
from tests.engines.tapes import batch_of
from tests.long import alarms, worth
from tests.long.alarms import Alarms, listen
from tests.long.worth import ascends, bands, before, passages, play

S = 1_000_000_000
SIM = profile_named("SIM")


def test_a_batch_of_rows_is_read_as_these_rows():
    rows = columns(wild_market(4, oddities=False))
    found, off_tick = book_rows([batch_of(rows, "ESH6", first_seq=9)], "ESH6", 0.25)

    assert off_tick == 0
    assert len(rows.ts_ns) > 300
    for name, one, other in zip(rows._fields, found, rows, strict=True):
        assert np.array_equal(one, other), name
    assert len(book_rows([batch_of(rows, "ESH6")], "ESZ5", 0.25)[0].ts_ns) == 0


def test_each_signal_is_counted_once_however_long_it_lasts(monkeypatch):
    """Thresholds next to no evidence signal always; those of the profile do not within half a minute."""
    assert listen(81, 200, 30).begun.total() == 0

    eager = {"break_points": 51.0, "break_release_points": 50.5, "reject_points": 49.0, "reject_release_points": 49.5}
    changed = SIM.model_copy(update={"score": SIM.score.model_copy(update=eager)})
    monkeypatch.setattr(alarms, "profile_named", lambda name: changed)
    found = listen(81, 200, 30)

    assert found.hours == pytest.approx(30 / 3_600, rel=0.05)
    assert 2 <= found.begun.total() <= 40


def test_more_than_two_signals_an_hour_are_too_many():
    found = Alarms(200, 6.0, Counter(BREAK=5, REJECT=8), Counter())

    assert found.an_hour == pytest.approx(13 / 6)
    assert found.begun.total() > found.most(1)
    assert found.begun.total() <= found.most(0.5)
    assert Alarms(200, 0.06, Counter(BREAK=2), Counter()).most(0.01) < 2


def test_contests_are_scored_before_their_outcome_and_beside_levels_without_them():
    found = play(4, 200, 2)

    assert len(found.touch) == len(found.decision) == 2
    assert any(score != 50 for score, _ in found.decision)
    assert all(0 <= score <= 100 for pairs in found for score, _ in pairs)


def scored(*rows, mids=()):
    """Return (second, price, score, touched) of levels above the price, and (second, mid)."""
    second, price, score, touched = map(np.array, zip(*rows, strict=True))
    at, mid = map(np.array, zip(*mids, strict=True)) if mids else ((), ())
    path = Path(np.array(at, np.int64) * S, np.array(mid, np.int64), 100 * S)
    return worth._Scored(second * S, price, score.astype(float), touched, np.ones(len(price), np.int8), path)


def test_a_contests_score_is_that_of_its_level_between_its_begin_and_its_decision():
    truth = {"price": 27_600 / 4, "begin_ns": 10 * S, "decision_ns": 20 * S}
    seen = scored(
        (10, 27_600, 1, True), (12, 27_600, 40, False), (13, 27_590, 2, True), (14, 27_600, 60, True),
        (15, 27_600, 70, True), (20, 27_600, 80, False), (21, 27_600, 99, True),
    )  # fmt: skip

    assert before(seen, truth, at_touch=True) == 60
    assert before(seen, truth, at_touch=False) == 80
    assert before(seen, truth | {"price": 27_610 / 4}, at_touch=False) == 50


def test_a_passage_counts_where_the_price_went_on_either_way():
    mids = [(0, 200), (3, 212), (20, 188), (40, 201)]
    seen = scored((1, 100, 70, True), (2, 100, 71, False), (15, 100, 30, True), (35, 100, 50, True), mids=mids)

    assert passages(seen, np.ones(4, bool), SIM) == [(70.0, True), (30.0, False)]
    assert passages(seen, seen.price == 101, SIM) == []


def test_the_area_and_the_bands():
    pairs = [(20.0, False)] * 30 + [(20.0, True)] * 10 + [(80.0, True)] * 30 + [(80.0, False)] * 10

    assert worth.area(pairs)[0] == pytest.approx((30 * 30 + 0.5 * (30 * 10 + 10 * 30)) / 1_600)
    assert worth.area([(20.0, True)]) == (0.5, 0.5)
    assert bands(pairs) == [(0.0, 35.0, 10, 40), (65.0, 100.1, 30, 40)]
    assert ascends(bands(pairs))
    assert not ascends(bands([(100 - score, broke) for score, broke in pairs]))
    assert ascends([(0.0, 35.0, 3, 5), (35.0, 45.0, 2, 5)])

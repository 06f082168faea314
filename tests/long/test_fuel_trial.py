"""The trial of options on a minute of market, and what it takes for enough."""

import pytest

from tests.engines.truths import Score
from tests.long import fuel
from tests.long.fuel import Correlation, Found, Market, judge, measure

ENOUGH = Score(95, 100)


@pytest.mark.parametrize(
    ("of", "total", "whole", "part"),
    [
        ("iv", Score(85, 100), True, True),
        ("iv", Score(84, 100), False, True),  # of less than the whole it may be chance
        ("iv", Score(70, 100), False, False),
        ("recall", ENOUGH, True, True),
        ("recall", Score(49, 49), False, True),  # too few
        ("precision", Score(45, 50), False, True),  # .9, and may be .786
        ("flow", Correlation(0.96, 120), True, True),
        ("flow", Correlation(0.9, 120), False, False),
        ("flow", Correlation(0.9, 3), False, True),
    ],
)
def test_a_bar_is_for_the_whole_and_of_a_part_for_its_upper_bound(of, total, whole, part):
    found = Found("ES", 200, of, total, (0.0, 1.0))

    assert (found.holds(1.0), found.holds(0.1)) == (whole, part)


def test_a_market_is_judged_by_what_is_asked_of_it():
    (by_quote, flow), (by_iv,) = (judge(Market(asked, "SPY", 200, 401, 60)) for asked in ("quote", "iv"))
    recall, precision = judge(Market("turn", "SPY", 500, 401, 60))

    assert by_quote.share >= 0.99
    assert 0.6 < by_iv.share < 1
    assert by_iv.of < by_quote.of
    assert flow.shape[0] == 2
    assert abs(flow).max() <= 1.001
    assert recall == precision
    assert recall.of > 0


def test_the_trial_sums_its_markets_and_says_how_far_they_are_apart(monkeypatch):
    asked = []

    def judged(market):
        asked.append(market)
        right = 9 if market.seed % 2 else 10
        return {"quote": (Score(10, 10), [[0.1, 0.2], [0.1, 0.3]]), "iv": (Score(right, 10),)}.get(
            market.asked, (Score(right, 10), Score(10, 10))
        )

    class Here:
        def __init__(self, *_, **__): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def map(self, function, markets):
            return map(function, markets)

    monkeypatch.setattr(fuel, "judge", judged)
    monkeypatch.setattr(fuel, "ProcessPoolExecutor", Here)
    told = []
    found = list(measure(1.0, 1, lambda done, of: told.append((done, of))))

    assert {(one.root, one.rate, one.of) for one in found} == {
        (root, rate, of)
        for root in fuel.ROOTS
        for rates, names in ((fuel.RATES, ("quote", "flow", "iv")), (fuel.TURN_RATES, ("recall", "precision")))
        for rate in rates
        for of in names
    }
    (by_iv, *_) = [one for one in found if one.of == "iv"]
    assert (by_iv.total, by_iv.apart) == (Score(76, 80), (0.9, 1.0))
    assert told[-1] == (len(asked), len(asked))
    assert len(set(asked)) == len(asked)
    assert {one.seconds for one in asked} == {fuel.SECONDS}

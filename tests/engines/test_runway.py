"""The way from a level: against a plain search, mirrored, and by hand."""

import numpy as np
import pytest

from spymaster.engines.levels import LevelRows
from spymaster.engines.profile import profile_named
from spymaster.engines.runway import CLEAR, NONE, OBSTRUCTED, UNKNOWN, is_strong, runways

RULES = profile_named("ES")
DISTANCE = RULES.passage.distance_ticks


def universe(levels, spot):
    """Return levels given as (price, kinds), ascending, as seen from a mid in half ticks."""
    prices = np.array([price for price, _ in levels], np.int32)
    distance = 2 * prices.astype(np.int64) - spot
    names = tuple(str(price) for price in prices)
    flags, zeros = np.ones(len(levels), np.bool_), np.zeros(len(levels))
    kinds = tuple(kinds if isinstance(kinds, tuple) else (kinds,) for _, kinds in levels)
    direction = np.sign(distance).astype(np.int8)
    return LevelRows(
        names, tuple((name,) for name in names), kinds, prices, flags, flags, direction, distance, flags, ~flags,
        zeros.astype(np.int32), zeros, zeros.astype(np.int32), zeros,
    )  # fmt: skip


def ways(levels, spot, *rejects):
    """Return (direction, next price, its distance, strong price, its distance, quality) of each level."""
    seen = universe(levels, spot)
    strong = is_strong(seen, RULES.levels, RULES.runway.strong)
    rejected = np.isin(seen.price, rejects)
    found = runways(seen, strong, np.arange(len(levels)), rejected, DISTANCE)
    prices = [*seen.price.tolist(), None]
    columns = [found.direction.tolist(), [prices[at] for at in found.next], found.next_distance.tolist(),
               [prices[at] for at in found.strong], found.strong_distance.tolist(), found.quality.tolist()]  # fmt: skip
    return dict(zip(seen.price.tolist(), zip(*columns, strict=True), strict=True))


def plainly(levels, spot, price, reject):
    side = (2 * price > spot) - (2 * price < spot)
    direction = -side if reject else side
    begin = spot if reject else 2 * price
    on_way = [(abs(2 * other - spot), other, kinds) for other, kinds in levels if direction * (2 * other - begin) > 0]
    on_way = sorted(on_way) if direction else []
    weights = RULES.levels.weights
    strong = [one for one in on_way if max(weights[kind] for kind in one[2]) >= RULES.runway.strong]
    first, hard = (on_way[0] if on_way else (0, None)), (strong[0] if strong else (0, None))
    quality = UNKNOWN if not on_way else CLEAR
    if strong and abs(2 * hard[1] - 2 * price) <= 2 * DISTANCE:
        quality = OBSTRUCTED
    return direction, first[1], first[0], hard[1], hard[0], quality


@pytest.mark.parametrize("seed", range(40))
def test_the_way_is_what_a_plain_search_finds(seed):
    rng = np.random.default_rng(seed)
    prices = np.unique(rng.integers(-40, 40, rng.integers(1, 25))).tolist()
    kinds = list(RULES.levels.weights)
    levels = [(price, tuple(rng.choice(kinds, rng.integers(1, 3)).tolist())) for price in prices]
    spot = int(rng.integers(-90, 90))
    rejects = rng.choice(prices, len(prices) // 2, replace=False).tolist()
    found = ways(levels, spot, *rejects)
    for price in prices:
        assert found[price] == plainly(levels, spot, price, price in rejects), price


@pytest.mark.parametrize("seed", range(10))
def test_the_mirrored_market_has_the_mirrored_way(seed):
    rng = np.random.default_rng(seed)
    prices = np.unique(rng.integers(-40, 40, 12)).tolist()
    levels = [(price, str(rng.choice(("VWAP", "ROUND")))) for price in prices]
    turned = [(-price, kind) for price, kind in reversed(levels)]
    spot = int(rng.integers(-40, 40))
    found, mirror = ways(levels, spot, *prices[::2]), ways(turned, -spot, *(-price for price in prices[::2]))
    for price, (direction, first, far, strong, hard, quality) in found.items():
        negated = [None if one is None else -one for one in (direction, first, strong)]
        assert mirror[-price] == (negated[0], negated[1], far, negated[2], hard, quality)


def test_a_break_runs_beyond_its_level_and_a_rejection_away_from_it():
    levels = [(90, "VWAP"), (96, "ROUND"), (101, "ROUND"), (105, "ROUND"), (110, "PM_HIGH")]
    assert ways(levels, 199)[101] == (1, 105, 11, 110, 21, CLEAR)  # PM_HIGH is 9 ticks from the level
    assert ways(levels, 199, 101)[101] == (-1, 96, 7, 90, 19, CLEAR)


def test_a_strong_level_within_the_outcomes_distance_obstructs():
    near, far = 101 + DISTANCE, 101 + DISTANCE + 1
    assert ways([(101, "ROUND"), (near, "VWAP")], 199)[101][-1] == OBSTRUCTED
    assert ways([(101, "ROUND"), (far, "VWAP")], 199)[101][-1] == CLEAR
    assert ways([(101, "ROUND"), (near, "ROUND")], 199)[101][-1] == CLEAR
    assert ways([(101, "ROUND"), (near, ("ROUND", "VWAP"))], 199)[101][-1] == OBSTRUCTED


def test_where_no_level_is_nothing_is_known():
    assert ways([(101, "ROUND")], 199)[101] == (1, None, 0, None, 0, UNKNOWN)
    assert ways([(101, "ROUND")], 199, 101)[101] == (-1, None, 0, None, 0, UNKNOWN)
    assert ways([(99, "VWAP"), (101, "ROUND"), (105, "VWAP")], 202)[101] == (0, None, 0, None, 0, UNKNOWN)
    assert NONE == -1

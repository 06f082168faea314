"""Levels on hand-built markets: ids, merging, bands, touches, approach, confluence; and the mirrored market."""

import math

import numpy as np
import pytest

from spymaster.engines import levels as module
from spymaster.engines.levels import Levels, Zone
from spymaster.engines.market import Named
from spymaster.engines.profile import profile_named

ES, SPY = profile_named("ES"), profile_named("SPY")
MILD = ES.levels.model_copy(update={"round_spacing_ticks": 1_000_000})  # no ROUND but at 0


def named(**prices):
    return [Named(kind, price, False, True) for kind, price in prices.items()]


def levels(rules=MILD, tick=0.25):
    return Levels(rules, tick)


def row(rows, level):
    """The row that a level is in, as a dictionary."""
    at = next(at for at, ids in enumerate(rows.ids) if level in ids)
    return {name: column[at] for name, column in rows._asdict().items()}


def walked(found, mids, level="VWAP", **prices):
    """The row of a level at each mid, given in ticks."""
    return [row(found.snap(named(**prices), [], round(2 * mid), None), level) for mid in mids]


def test_levels_have_names_that_people_can_read():
    rows = levels(ES.levels).snap(named(PM_HIGH=27_640), [Zone("lunch", 27_633)], 2 * 27_630, None)
    assert rows.id == (
        "ROUND_6890.00", "ROUND_6900.00", "HOTZONE_lunch", "PM_HIGH", "ROUND_6920.00", "ROUND_6930.00"
    )  # fmt: skip
    assert rows.price.tolist() == [27_560, 27_600, 27_633, 27_640, 27_680, 27_720]

    assert levels(SPY.levels, 0.01).snap([], [], 2 * 69_050, None).id == tuple(f"ROUND_{d}.00" for d in range(688, 694))
    half = ES.levels.model_copy(update={"round_spacing_ticks": 10, "round_range_ticks": 10})
    assert levels(half).snap([], [], 2 * 27_645, None).id == ("ROUND_6910.00", "ROUND_6912.50")


def test_round_numbers_reach_as_far_on_both_sides_and_over_zero():
    rules = ES.levels.model_copy(update={"round_spacing_ticks": 10, "round_range_ticks": 20})

    def at(spot):
        return levels(rules).snap([], [], spot, None).price.tolist()

    assert at(0) == [-20, -10, 0, 10, 20]
    assert at(1) == [-10, 0, 10, 20]
    assert at(-1) == [-20, -10, 0, 10]
    for spot in range(-50, 51):
        assert at(-spot) == [-price for price in reversed(at(spot))]
    assert levels(rules).snap([], [], 0, None).id[1:4] == ("ROUND_-2.50", "ROUND_0.00", "ROUND_2.50")


def test_levels_at_one_price_are_one_row_led_by_the_steadiest():
    rows = levels(ES.levels).snap(
        named(VWAP=27_640, SESSION_HIGH=27_640, PM_HIGH=27_640, POC=27_639), [Zone("mine", 27_640)], 2 * 27_640, None
    )
    merged = row(rows, "VWAP")

    assert merged["id"] == "HOTZONE_mine"
    assert merged["ids"] == ("HOTZONE_mine", "PM_HIGH", "ROUND_6910.00", "SESSION_HIGH", "VWAP")
    assert merged["kinds"] == ("USER_HOTZONE", "PM_HIGH", "ROUND", "SESSION_HIGH", "VWAP")
    assert row(rows, "POC")["ids"] == ("POC",)
    assert sorted(set(rows.price.tolist())) == rows.price.tolist()


def test_a_row_says_whether_its_leading_level_is_fixed_and_whole():
    prices = [Named("VWAP", 50, False, False), Named("PM_LOW", 50, True, True), Named("VAL", 40, False, False)]
    rows = levels().snap(prices, [], 100, None)

    assert [(row(rows, level)["fixed"], row(rows, level)["whole"]) for level in ("PM_LOW", "VAL")] == [
        (True, True), (False, False)
    ]  # fmt: skip


def test_a_moving_level_keeps_its_id_and_what_it_remembers_through_a_merge():
    found = levels()

    def snap(vwap, mid):
        return found.snap(named(VWAP=vwap, PM_HIGH=1_020), [], 2 * mid, None)

    assert row(snap(1_000, 990), "VWAP")["touches"] == 0
    assert row(snap(1_001, 1_000), "VWAP")["touched"]
    merged = snap(1_020, 1_008)
    assert merged.id[-1] == "PM_HIGH"
    assert row(merged, "VWAP")["touches"] == 0  # PM_HIGH's
    assert row(snap(1_021, 1_010), "VWAP")["touches"] == 1
    again = row(snap(1_021, 1_019), "VWAP")
    assert (again["id"], again["touched"], again["touches"]) == ("VWAP", True, 2)


def test_the_monitor_band_ends_at_its_last_half_tick():
    found = levels()

    sight = [entry["in_sight"] for entry in walked(found, [90, 89.5, 110, 110.5], VWAP=100)]
    assert sight == [True, False, True, False]


def test_a_touch_is_the_first_snap_in_the_band_after_a_re_arm():
    mids = [94.5, 98.5, 94, 97.5, 98, 99, 103, 105.5, 102, 106, 102.5, 102, 100]
    entries = walked(levels(), mids, VWAP=100)

    assert [at for at, entry in enumerate(entries) if entry["touched"]] == [4, 11]
    assert [entry["touches"] for entry in entries] == [0] * 4 + [1] * 7 + [2] * 2


def test_a_level_that_the_price_makes_is_not_touched_until_the_price_has_been_away():
    found = levels()
    highs = [row(found.snap(named(SESSION_HIGH=mid), [], 2 * mid, None), "SESSION_HIGH") for mid in range(100, 130)]
    assert not any(entry["touched"] for entry in highs)

    back = walked(found, [126, 123, 128], level="SESSION_HIGH", SESSION_HIGH=129)
    assert [entry["touched"] for entry in back] == [False, False, True]


def test_a_level_at_the_mid_has_the_side_that_it_had():
    assert [entry["direction"] for entry in walked(levels(), [100, 99, 100, 101, 100], VWAP=100)] == [0, 1, 1, -1, -1]
    assert [entry["distance"] for entry in walked(levels(), [100, 99.5, 102], VWAP=100)] == [0, 1, -4]


def test_velocity_is_positive_towards_the_level():
    found = levels()
    rows = found.snap(named(VWAP=90, PM_HIGH=110), [], 200, 2.5)
    assert rows.velocity[[0, -1]].tolist() == [-2.5, 2.5]
    assert all(math.isnan(value) for value in found.snap(named(VWAP=90), [], 200, None).velocity)


def test_confluence_counts_the_others_within_the_band_the_nearer_the_more():
    found = levels()
    rows = found.snap(named(PM_HIGH=100, IB_LOW=100, POC=104, VWAP=108), [], 180, None)
    merged, poc, vwap = (row(rows, level) for level in ("PM_HIGH", "POC", "VWAP"))

    assert (merged["confluence"], merged["pressure"]) == (2, (0.8 + 0.7 * 4 / 8) / 2)
    assert (poc["confluence"], poc["pressure"]) == (3, (1.8 * 4 / 8 + 0.7 * 4 / 8) / 2)
    assert (vwap["confluence"], vwap["pressure"]) == (1, 0.7 * 4 / 8 / 2)  # what is a whole band off does not count


def test_ranges_within_each_other_with_one_extreme_do_not_confirm_each_other():
    def merged(*kinds):
        found = levels().snap(named(**dict.fromkeys(kinds, 1_000)), [], 2 * 990, None)
        return int(found.confluence[0]), float(found.pressure[0])

    assert merged("OVERNIGHT_HIGH", "SESSION_HIGH", "PM_HIGH") == (0, 0)
    assert merged("OR_HIGH", "IB_HIGH", "SESSION_HIGH") == (0, 0)
    assert merged("OVERNIGHT_HIGH", "OR_HIGH", "SESSION_HIGH") == (1, 0.9 / 2)  # two prints, hours apart
    assert merged("OVERNIGHT_HIGH", "OVERNIGHT_LOW") == (1, 0.9 / 2)
    assert merged("PRIOR_DAY_HIGH", "SESSION_HIGH") == (1, 0.6 / 2)
    apart = levels().snap(named(PM_HIGH=1_000, SESSION_HIGH=1_004), [], 2 * 990, None)
    assert apart.confluence.tolist() == [1, 1]


def test_pressure_reaches_nothing_and_one():
    alone = levels().snap(named(VWAP=100), [], 180, None)
    crowd = levels().snap(named(PM_HIGH=100, PRIOR_DAY_HIGH=100, OR_HIGH=100, VWAP=100, SMA_400=101), [], 180, None)

    assert (alone.confluence[-1], alone.pressure[-1]) == (0, 0)
    assert (row(crowd, "VWAP")["confluence"], row(crowd, "VWAP")["pressure"]) == (4, 1)


def test_nothing_named_and_nothing_round_in_reach_is_no_row():
    rows = levels().snap([], [], 1_000_000, None)

    assert rows.id == ()
    assert {len(column) for column in rows} == {0}


def test_a_rows_values_depend_on_the_market_now_and_not_on_the_cache():
    found, rng = levels(ES.levels), np.random.default_rng(5)
    mid, vwap = 27_600, 27_590
    for _ in range(300):
        mid, vwap = mid + int(rng.integers(-6, 7)), vwap + int(rng.integers(-1, 2))
        now = found.snap(named(VWAP=vwap, POC=27_600), [], 2 * mid, 0.5)
        fresh = levels(ES.levels).snap(named(VWAP=vwap, POC=27_600), [], 2 * mid, 0.5)
        for name in ("id", "ids", "kinds", "price", "distance", "in_sight", "confluence", "pressure"):
            np.testing.assert_array_equal(np.array(getattr(now, name), object), np.array(getattr(fresh, name), object))


def test_the_mirrored_market_has_the_mirrored_rows():
    one, other, rng = levels(ES.levels), levels(ES.levels), np.random.default_rng(6)
    mid, vwap, touches = 0, 5, 0
    for _ in range(2_000):
        mid, vwap = mid + int(rng.integers(-5, 6)), vwap + int(rng.integers(-1, 2))
        zone = Zone("mine", 33)
        rows = one.snap(named(VWAP=vwap, PM_HIGH=40), [zone], mid, 0.25)
        mirror = other.snap(named(VWAP=-vwap, PM_LOW=-40), [zone._replace(price=-33)], -mid, -0.25)
        for name in ("in_sight", "touched", "touches", "velocity", "confluence", "pressure", "fixed", "whole"):
            np.testing.assert_array_equal(getattr(mirror, name)[::-1], getattr(rows, name), name)
        for name in ("price", "direction", "distance"):
            np.testing.assert_array_equal(-getattr(mirror, name)[::-1], getattr(rows, name), name)
        assert [len(ids) for ids in reversed(mirror.ids)] == [len(ids) for ids in rows.ids]
        touches += int(rows.touched.sum())
    assert touches > 20


def test_the_memory_is_bounded_and_keeps_what_is_in_the_universe(monkeypatch):
    monkeypatch.setattr(module, "_MOST_LEVELS", 8)
    rules = ES.levels.model_copy(update={"round_spacing_ticks": 40, "round_range_ticks": 100})
    found = levels(rules)

    def snap(mid):
        return found.snap(named(VWAP=1_005), [], 2 * mid, None)

    for mid in (990, 1_000, 1_005):
        rows = snap(mid)
    assert [row(rows, level)["touches"] for level in ("VWAP", "ROUND_250.00")] == [1, 1]
    for mid in range(1_000, 9_000, 20):
        assert row(snap(mid), "VWAP")["touches"] == 1
        assert len(found._slots) + len(found._free) == 8
    back = snap(1_005)
    assert [row(back, level)["touches"] for level in ("VWAP", "ROUND_250.00")] == [2, 0]


def test_of_too_many_zones_the_first_count(monkeypatch):
    monkeypatch.setattr(module, "_MOST_ZONES", 2)

    assert levels().snap([], [Zone(str(at), at) for at in range(5, 9)], 1, None).id[-2:] == ("HOTZONE_5", "HOTZONE_6")


@pytest.mark.parametrize(("tick", "shown"), [(0.25, "ROUND_2.50"), (0.01, "ROUND_0.10"), (1.0, "ROUND_10")])
def test_a_price_is_shown_with_its_ticks_digits(tick, shown):
    rules = ES.levels.model_copy(update={"round_spacing_ticks": 10, "round_range_ticks": 9})

    assert levels(rules, tick).snap([], [], 20, None).id == (shown,)

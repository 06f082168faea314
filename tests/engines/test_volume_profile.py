"""The volume profile on hand-made days and against dictionaries."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spymaster.engines.volume_profile import VolumeProfile
from tests.engines import plain_market as plain

prints = st.lists(st.tuples(st.integers(-30, 30), st.integers(1, 9)), min_size=1, max_size=60)


def profile(*pieces, pct=70):
    found = VolumeProfile(pct)
    for piece in pieces:
        price, size = zip(*piece, strict=True)
        found.add(np.array(price, np.int32), np.array(size, np.int32))
    return found


def test_the_value_area_takes_in_the_heavier_two_prices_each_time():
    day = [(100, 30), (101, 5), (102, 20), (103, 1), (99, 10), (98, 10), (97, 14), (96, 10)]

    assert profile(day).value_area() == (
        100,
        102,
        98,
    )  # 30, then above 25 against 20, then below 20 against 1: 75 of 100
    assert profile(day, pct=50).value_area() == (100, 102, 100)
    assert profile(day, pct=100).value_area() == (100, 103, 96)


def test_of_prices_with_as_much_volume_the_first_to_have_it_is_the_control():
    assert profile([(100, 5), (102, 4)], [(102, 1), (101, 1)]).value_area().poc == 100
    assert profile([(100, 4), (102, 5)], [(100, 1), (101, 1)]).value_area().poc == 102


def test_sides_with_as_much_are_both_taken_in():
    assert profile([(100, 10), (101, 4), (99, 4), (103, 1)]).value_area() == (100, 102, 99)


def test_there_is_none_without_volume():
    assert VolumeProfile(70).value_area() is None
    assert VolumeProfile(70).at(5) == 0


@given(st.lists(prints, min_size=1, max_size=5))
def test_it_is_what_dictionaries_say_however_the_day_is_cut(pieces):
    day = [one for piece in pieces for one in piece]
    found = profile(*pieces)

    assert found.value_area() == plain.value_area([plain.Print(0, price, size, 0) for price, size in day])
    assert found.value_area() == profile(day).value_area()
    assert found.volume == sum(size for _, size in day)


@given(prints)
def test_the_mirrored_day_has_the_mirrored_area(day):
    area, mirror = profile(day).value_area(), profile([(-price, size) for price, size in day]).value_area()

    assert mirror == (-area.poc, -area.val, -area.vah)


def test_it_grows_with_the_prices_and_counts_what_is_out_of_reach():
    found = profile([(27_000, 1)], [(27_000 - 5_000, 2)], [(27_000 + 9_000, 3)], [(27_001, 9)])
    assert [found.at(price) for price in (22_000, 27_000, 27_001, 36_000)] == [2, 1, 9, 3]
    assert found.value_area().poc == 27_001

    found.add(np.array([27_001, 10_000_000], np.int32), np.array([1, 4], np.int32))
    assert (found.at(27_001), found.beyond, found.volume) == (10, 4, 16)

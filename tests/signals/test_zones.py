"""Hot zones: what may be set, and what rows of `system.zones` say of them."""

import pytest

from spymaster.engines.levels import Zone
from spymaster.errors import UsageError
from spymaster.events.zones import zone_row
from spymaster.signals.zones import MOST_ZONES, Zones


def zones(**prices):
    found = Zones("ES", 0.25)
    for at, (name, price) in enumerate(prices.items()):
        found.read(zone_row("ES", name, price, at, at))
    return found


def test_the_newest_row_of_a_name_counts():
    found = zones(a=6850.0, b=6900.25)
    found.read(zone_row("ES", "a", 6851.0, 5, 5))
    found.read(zone_row("ES", "b", None, 6, 6))
    found.read(zone_row("SPY", "a", 685.0, 7, 7))

    assert found.prices == {"a": 6851.0}
    assert found.at() == (Zone("a", 27404),)


def test_a_zone_lies_on_a_whole_tick():
    assert zones().check("gap-fill", 6850.3) == ("gap-fill", 6850.25)
    assert Zones("SPY", 0.01).check("x", 594.231) == ("x", 594.23)
    assert zones().check("x", 6850) == ("x", 6850.0)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/../b", "ä", "x" * 33, 7, None, "a\n"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match="no name of a zone. Nothing was set. Next: "):
        zones().check(name, 6850.0)


@pytest.mark.parametrize("price", [0, -1, float("nan"), float("inf"), 1e12, None, True, "6850", 0.1])
def test_a_price_that_is_none_is_refused(price):
    with pytest.raises(UsageError, match="no price of a zone. Nothing was set. Next: "):
        zones().check("a", price)


def test_there_are_so_many_zones_and_one_that_is_there_can_still_be_moved():
    found = zones(**{f"z{number}": 6000.0 + number for number in range(MOST_ZONES)})

    with pytest.raises(UsageError, match=f"there are {MOST_ZONES} zones. Nothing was set"):
        found.check("another", 6850.0)
    assert found.check("z0", 6850.0) == ("z0", 6850.0)


def test_only_a_zone_that_is_set_can_be_removed():
    assert zones(a=6850.0).known("a") == "a"
    for name in ("b", None, 7):
        with pytest.raises(UsageError, match="there is no zone"):
            zones(a=6850.0).known(name)

"""Profiles: what is in the package is usable and says why, what is not usable is refused in one line."""

import re
from importlib import resources
from typing import get_args

import pytest
from pydantic import BaseModel

from spymaster.engines.profile import KINDS, ProfileName, profile_named, read_profile
from spymaster.errors import UsageError

NAMES = get_args(ProfileName)
ES = (resources.files("spymaster.engines") / "profiles" / "es.toml").read_text()


def leaves(model, path=""):
    for name in type(model).model_fields:
        value = getattr(model, name)
        yield from leaves(value, f"{path}{name}.") if isinstance(value, BaseModel) else [(f"{path}{name}", value)]


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_of_the_package_is_usable_and_bears_its_name(name):
    assert profile_named(name).name == name


def test_the_bands_and_horizons_are_the_designs_in_points_and_dollars():
    def bands(name):
        profile = profile_named(name)
        levels, passage, tick = profile.levels, profile.passage, profile.market.tick
        ticks = levels.monitor_band_ticks, levels.touch_band_ticks, levels.rearm_ticks, passage.distance_ticks
        return *(round(tick * count, 9) for count in ticks), passage.horizon_s

    assert bands("ES") == (2.5, 0.5, 1.5, 2.0, 240)
    assert bands("SPY") == (0.25, 0.02, 0.1, 0.2, 240)
    assert bands("SIM") == (2.5, 0.5, 1.5, 1.5, 12)


def test_sim_is_es_but_for_its_rounds_horizon_and_distance():
    es, sim = dict(leaves(profile_named("ES"))), dict(leaves(profile_named("SIM")))

    assert {key: value for key, value in sim.items() if value != es[key]} == {
        "name": "SIM",
        "levels.round_spacing_ticks": 10,
        "passage.horizon_s": 12,
        "passage.distance_ticks": 6,
    }


def test_spy_differs_from_es_in_nothing_that_is_about_the_book():
    es, spy = profile_named("ES"), profile_named("SPY")

    for part in ("typical", "barrier", "tape", "runway"):
        assert getattr(spy, part) == getattr(es, part), part
    assert spy.book.model_copy(update={"ratio_s": None}) == es.book


def test_a_kind_has_its_weight_whatever_the_order_of_the_file():
    assert set(profile_named("ES").levels.weights) == set(KINDS)


def test_the_hash_is_of_the_numbers_and_not_of_the_file():
    hashes = {profile_named(name).profile_hash for name in NAMES}
    assert len(hashes) == len(NAMES)

    plain = re.sub(r"\s*#.*", "", ES).replace("wall_typ = 6.0", "wall_typ = 6")
    assert plain != ES
    assert read_profile(plain, "plain").profile_hash == profile_named("ES").profile_hash


def test_every_number_of_the_file_is_in_the_hash():
    es = profile_named("ES")
    numbers = [(key, value) for key, value in leaves(es) if isinstance(value, int | float)]
    hashes = {es.profile_hash}
    for key, value in numbers:
        table, name = key.split(".")
        part = getattr(es, table).model_copy(update={name: value + 1})
        hashes.add(es.model_copy(update={table: part}).profile_hash)

    assert len(hashes) == len(numbers) + 1 > 60


def test_a_key_that_is_missing_or_unknown_in_any_table_is_refused_by_its_name():
    lines = ES.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if not (found := re.match(r"(\w+) = ", line)):
            continue
        missing = "".join(lines[:at] + lines[at + 1 :])
        with pytest.raises(UsageError, match=rf"\b{found[1]}\b"):
            read_profile(missing, "es.toml")
    for at, line in enumerate(lines):
        if line.startswith("["):
            with pytest.raises(UsageError, match="unheard_of"):
                read_profile("".join([*lines[: at + 1], "unheard_of = 1\n", *lines[at + 1 :]]), "es.toml")


def test_a_table_that_is_missing_is_refused_by_its_name():
    with pytest.raises(UsageError, match="passage: Field required"):
        read_profile(ES.partition("[passage]")[0], "es.toml")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("wall_typ = 6.0", "wall_typ = '6'", "barrier.wall_typ: Input should be a valid number"),
        ("wall_typ = 6.0", "wall_typ = -6", "barrier.wall_typ: Input should be greater than 0"),
        ("wall_typ = 6.0", "wall_typ = inf", "barrier.wall_typ: Input should be a finite number"),
        ("wall_typ = 6.0", "wall_typ = true", "barrier.wall_typ: Input should be a valid number"),
        ("zone_ticks = 5", "zone_ticks = 5.5", "barrier.zone_ticks: Input should be a valid integer"),
        ("context_s = [60, 240]", "context_s = [60]", "barrier.context_s"),
        ("weak_depth = 0.45", "weak_depth = 0.2", "barrier: vacuum_depth, consumed_depth, weak_depth must ascend"),
        ("depth_ticks = 3", "depth_ticks = 6", "barrier: depth_ticks must not exceed zone_ticks"),
        ("rearm_ticks = 6", "rearm_ticks = 2", "levels: touch_band_ticks must be less than rearm_ticks"),
        ("VWAP = 0.7", "VWAP = 1.7", "levels.weights.VWAP: Input should be less than or equal to 1"),
        ("fuel = 0.15", "fuel = 0.2", "score: barrier, tape and fuel must add up to 1"),
        ("break_points = 65.0", "break_points = 55.0", "score: reject, .* must not descend"),
        ('calendar = "cme"', 'calendar = "moon"', "market.calendar: Input should be 'cme' or 'us'"),
        ('name = "ES"', 'name = "NQ"', "name: Input should be 'ES', 'SPY' or 'SIM'"),
        ('name = "ES"', 'name = "SIM"\nlike = "NQ"', "nq.toml"),
        ('name = "ES"', "name = ", "Invalid value"),
    ],
)
def test_what_is_not_usable_is_refused_in_one_line(old, new, line):
    assert old in ES
    with pytest.raises(UsageError, match=line) as refused:
        read_profile(ES.replace(old, new), "mine.toml")

    assert "\n" not in str(refused.value)
    assert "mine.toml" in str(refused.value)
    assert "Next:" in str(refused.value)


def test_a_profile_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match="no profile 'NQ'.* ES, SPY, SIM"):
        profile_named("NQ")


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_its_unit_or_reason_beside_it(name):
    text = (resources.files("spymaster.engines") / "profiles" / f"{name.lower()}.toml").read_text()
    before, _, after = text.partition("[levels.weights]")  # which one comment is about
    lines = (before + after.partition("\n[")[2]).splitlines()

    assert [line for line in lines if re.match(r"\w+ = [\d\[-]", line) and "#" not in line] == []

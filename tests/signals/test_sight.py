"""Which levels of a snap are in sight: near ones, hot zones, and what has just changed; at most so many."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from spymaster.engines.snap import SIGNALS
from spymaster.signals.sight import MOST_IN_SIGHT, Sight
from tests.signals.snaps import snaps

NEAREST = 4


def chosen(snap, sight=None):
    return (sight or Sight()).rows(snap).column("id").to_pylist()


def told(snap):
    columns = (snap.levels.column(name).to_pylist() for name in ("id", "held_state", "signal"))
    return {name: said for name, *said in zip(*columns, strict=True)}


def with_columns(snap, **columns):
    levels = snap.levels
    for name, values in columns.items():
        at = SIGNALS.get_field_index(name)
        levels = levels.set_column(at, SIGNALS.field(at), pa.array(values, SIGNALS.field(at).type))
    return snap._replace(levels=levels)


def by_hand(snap, before):
    """Return the ids in sight, by the rule in plain words."""
    rows = snap.levels.select(["id", "kinds", "distance_ticks", "in_sight"]).to_pylist()
    now, known = told(snap), {} if before is None else told(before)
    changed = {name for name in now if before is not None and now[name] != known.get(name, [None, "NEUTRAL"])}
    first = {row["id"] for row in rows if "USER_HOTZONE" in row["kinds"]} | changed
    below = [row["id"] for row in rows if row["distance_ticks"] < 0][-NEAREST:]
    above = [row["id"] for row in rows if row["distance_ticks"] >= 0][:NEAREST]
    seen = [row for row in rows if row["in_sight"] or row["id"] in {*first, *below, *above}]
    kept = sorted(seen, key=lambda row: (row["id"] not in first, abs(row["distance_ticks"])))[:MOST_IN_SIGHT]
    return {row["id"] for row in kept}


def test_what_is_in_sight_is_what_the_rule_says_at_every_snap():
    sight, before, changed, rng = Sight(), None, 0, np.random.default_rng(1)
    for real in snaps()[1:]:
        held = real.levels.column("held_state").to_pylist()
        held[rng.integers(len(held))] = str(rng.choice(["WALL", "WEAK"]))  # far levels seldom change by themselves
        snap = with_columns(real, held_state=held)
        found = chosen(snap, sight)
        assert set(found) == by_hand(snap, before)
        assert len(found) == len(set(found)) <= MOST_IN_SIGHT
        near = set(chosen(snap))
        changed += bool(set(found) - near)
        before = snap
    assert changed > 20


def test_rows_are_those_of_the_snap_ascending_by_price():
    sight = Sight()
    for snap in snaps()[::11]:
        rows = sight.rows(snap)
        rows.validate(full=True)
        prices = rows.column("price").to_pylist()
        assert prices == sorted(prices)
        same = snap.levels.filter(pc.is_in(snap.levels.column("id"), rows.column("id")))
        assert pa.Table.from_batches([rows]).equals(pa.Table.from_batches([same]))


def test_a_far_level_is_shown_once_when_its_state_or_its_signal_changes():
    snap = snaps()[-1]
    ids, held, signals = (snap.levels.column(name).to_pylist() for name in ("id", "held_state", "signal"))
    assert ids[0] not in chosen(snap)
    states = with_columns(snap, held_state=["WALL" if held[0] != "WALL" else "WEAK", *held[1:]])
    signalled = with_columns(states, signal=["REJECT", *signals[1:]])

    sight = Sight()
    shown = [ids[0] in chosen(one, sight) for one in (snap, states, states, signalled, signalled)]
    assert shown == [False, True, False, True, False]


def test_a_session_begins_anew_and_its_first_snap_has_changed_nothing():
    snap = snaps()[-1]
    other = with_columns(snap, held_state=["WEAK"] * snap.levels.num_rows)._replace(session="2025-12-23")
    sight = Sight()
    chosen(snap, sight)

    assert chosen(other, sight) == chosen(snap)


def test_of_too_many_the_changed_and_hot_ones_stay_and_then_the_nearest():
    snap = snaps()[-1]
    levels = snap.levels.num_rows
    assert levels > MOST_IN_SIGHT
    kinds = snap.levels.column("kinds").to_pylist()
    crowded = with_columns(snap, in_sight=[True] * levels, kinds=[["USER_HOTZONE"], *kinds[1:]])
    distance = np.abs(crowded.levels.column("distance_ticks").to_numpy())
    ids = np.array(crowded.levels.column("id").to_pylist())
    found = chosen(crowded)

    hot = {name for name, kind in zip(ids, crowded.levels.column("kinds").to_pylist(), strict=True)
           if "USER_HOTZONE" in kind}  # fmt: skip
    assert hot <= set(found)
    assert ids[0] in hot
    others = [name for name in found if name not in hot]
    beyond = distance[[name not in hot and name not in others for name in ids]]
    assert max(distance[np.isin(ids, others)]) <= min(beyond)

    sight = Sight()
    chosen(snap, sight)
    all_new = with_columns(snap, held_state=["CONSUMED"] * levels)
    assert len(chosen(all_new, sight)) == MOST_IN_SIGHT


def test_a_snap_without_levels_has_none_in_sight():
    snap = snaps()[-1]
    assert chosen(snap._replace(levels=snap.levels.slice(0, 0))) == []


@pytest.mark.parametrize("wrong", ["held_state", "signal"])
def test_each_of_both_changes_is_seen_alone(wrong):
    snap = snaps()[-1]
    values = snap.levels.column(wrong).to_pylist()
    values[0] = {"held_state": "CONSUMED", "signal": "BREAK"}[wrong]
    sight = Sight()
    chosen(snap, sight)

    assert snap.levels.column("id")[0].as_py() in chosen(with_columns(snap, **{wrong: values}), sight)

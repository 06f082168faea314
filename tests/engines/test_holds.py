"""Which state holds: what was seen for its time, holes bridged; and how a ratio ranks in its history."""

import numpy as np
import pytest

from spymaster.engines.history import BINS, History
from spymaster.engines.holds import NEUTRAL, STATES, VACUUM, VOID, WALL, WEAK, Holds
from spymaster.engines.ledger import SNAP_NS

S = 1_000_000_000
HOLD_NS = np.array([0, 0, 1, 1, 1.5, 2, 1]) * S
BEGIN = 1_000 * S


def held(*states, side=None, snaps=None, holds=None, level="a"):
    """Return what holds of one level at each snap, and from which snap."""
    holds = holds or Holds(HOLD_NS.astype(np.int64), S)
    found = []
    for number, state in enumerate(states):
        at = number if snaps is None else snaps[number]
        one_side = 0 if side is None else side[number]
        now, since = holds.work(
            BEGIN + at * SNAP_NS, [level], np.array([one_side], np.int8), np.array([state], np.int8)
        )
        found.append((STATES[now[0]], (int(since[0]) - BEGIN) // SNAP_NS))
    return found


def names(*args, **kwargs):
    return [name for name, _ in held(*args, **kwargs)]


def test_a_state_holds_when_it_was_seen_for_its_time_and_since_it_was_seen():
    found = held(*[NEUTRAL] * 3, *[WALL] * 10)

    assert found[:11] == [("NEUTRAL", 0)] * 11
    assert found[11:] == [("WALL", 3)] * 2


def test_a_hole_of_a_second_is_bridged_and_a_longer_one_is_not():
    bridged = held(*[WALL] * 9, *[NEUTRAL] * 4, WALL)
    assert bridged[8:] == [("WALL", 0)] * 6

    longer = held(*[WALL] * 9, *[NEUTRAL] * 5, *[WALL] * 9)
    assert longer[8:13] == [("WALL", 0)] * 5
    assert longer[13:22] == [("NEUTRAL", 13)] * 9
    assert longer[22] == ("WALL", 14)


def test_a_hole_before_it_holds_is_bridged_too():
    assert held(*[WALL] * 4, *[WEAK] * 2, *[WALL] * 3)[-1] == ("WALL", 0)


def test_another_state_takes_over_when_it_holds_itself():
    found = held(*[WALL] * 9, *[WEAK] * 5)

    assert found[-2:] == [("WALL", 0), ("WEAK", 9)]


def test_what_stood_at_a_snap_stands_until_the_next_so_that_quiet_is_no_hole():
    assert held(WALL, WALL, snaps=[0, 8]) == [("NEUTRAL", 0), ("WALL", 0)]
    assert held(WALL, NEUTRAL, WALL, snaps=[0, 8, 20])[-1] == ("NEUTRAL", 0)


@pytest.mark.parametrize("between", [(VOID, 0), (WALL, 1)])
def test_a_level_that_was_void_or_on_the_other_side_begins_anew(between):
    state, side = between
    found = held(*[WALL] * 9, state, *[WALL] * 9, side=[0] * 9 + [side] + [0] * 9)

    assert found[8] == ("WALL", 0)
    assert found[9] == ("VOID" if state == VOID else "NEUTRAL", 9)
    assert [name for name, _ in found[10:18]] == ["NEUTRAL"] * 8
    assert found[18] == ("WALL", 10)


def test_void_is_held_at_once_and_since_it_began():
    assert held(NEUTRAL, VOID, VOID, NEUTRAL) == [("NEUTRAL", 0), ("VOID", 1), ("VOID", 1), ("NEUTRAL", 3)]


def test_a_level_that_is_not_asked_for_begins_anew_and_is_forgotten():
    holds = Holds(HOLD_NS.astype(np.int64), S)
    held(*[WALL] * 9, holds=holds)
    held(NEUTRAL, snaps=[9], holds=holds, level="b")

    assert held(WALL, snaps=[10], holds=holds) == [("NEUTRAL", 10)]
    assert len(holds._memory.side) == 2  # itself and the blank one


def test_levels_do_not_mix_whatever_their_order():
    holds, rng = Holds(HOLD_NS.astype(np.int64), S), np.random.default_rng(3)
    alone = {level: Holds(HOLD_NS.astype(np.int64), S) for level in range(12)}
    for number in range(200):
        ids = rng.permutation(12).tolist()
        side = (rng.random(12) < 0.02).astype(np.int8)
        state = rng.choice([WALL] * 9 + [VACUUM, WEAK, VOID, NEUTRAL], 12).astype(np.int8)
        now, since = holds.work(BEGIN + number * SNAP_NS, ids, side, state)
        for at, level in enumerate(ids):
            one, begun = alone[level].work(BEGIN + number * SNAP_NS, [level], side[at : at + 1], state[at : at + 1])
            assert (now[at], since[at]) == (one[0], begun[0])


def held_at(snaps, *, vacant_from=4, level="a", numbers=None):
    """Return the held state at each (side, state), of which side 1 holds VACUUM from a snap on."""
    holds, found = Holds(HOLD_NS.astype(np.int64), S), []
    for number, (side, state) in zip(numbers or range(len(snaps)), snaps, strict=True):
        vacant = np.array([False, number >= vacant_from])
        now, since = holds.work(
            BEGIN + number * SNAP_NS, [level], np.array([side], np.int8), np.array([state], np.int8), vacant
        )
        found.append((STATES[now[0]], (int(since[0]) - BEGIN) // SNAP_NS))
    return found


def test_a_level_holds_vacuum_at_once_where_its_side_does_and_not_before():
    assert held_at([(1, VACUUM)] * 12, vacant_from=8) == [("NEUTRAL", 0)] * 8 + [("VACUUM", 0)] * 4
    assert held_at([(1, NEUTRAL)] * 6 + [(1, VACUUM)])[-1] == ("VACUUM", 6)
    assert held_at([(0, VACUUM)] * 12)[-1] == ("NEUTRAL", 0)
    assert held_at([(1, WEAK)] * 6 + [(1, WEAK)])[-1] == ("WEAK", 0)


def test_a_level_that_the_price_went_through_holds_its_vacuum_for_a_hole():
    passed = held_at([(1, VACUUM)] * 2 + [(0, NEUTRAL)] * 6)
    assert passed == [("NEUTRAL", 0)] * 2 + [("NEUTRAL", 2)] * 2 + [("VACUUM", 0)] * 2 + [("NEUTRAL", 6)] * 2

    through_the_spread = held_at([(1, VACUUM)] * 3 + [(-1, VOID), (0, NEUTRAL)])
    assert through_the_spread[3:] == [("VOID", 3), ("VACUUM", 0)]

    after_a_pause = held_at([(1, VACUUM), (0, NEUTRAL), (0, NEUTRAL)], numbers=[0, 12, 16])
    assert after_a_pause[1:] == [("VACUUM", 0), ("NEUTRAL", 16)]

    back = held_at([(1, VACUUM)] * 2 + [(0, VACUUM)] + [(1, VACUUM)] * 2)
    assert back[-1] == ("VACUUM", 3)


def test_another_state_takes_over_from_vacuum_when_it_holds_itself():
    assert held_at([(1, VACUUM)] * 6 + [(1, WALL)] * 9)[9:] == [("VACUUM", 0)] + [("NEUTRAL", 10)] * 4 + [("WALL", 6)]


def test_a_rank_is_the_share_of_earlier_snaps_with_less_and_half_of_those_with_as_much():
    history = History((1,), np.array([0.125]))
    ranks = [float(history.rank(np.array([value]))[0]) for value in (1.0, 2.0, 0.5, 1.0, np.nan, 1.06, 99.0, 500.0)]

    assert np.isnan(ranks[0])
    assert ranks[1:4] == [1.0, 0.0, (1 + 0.5) / 3]
    assert np.isnan(ranks[4])
    assert ranks[5:] == [(1 + 1) / 4, 1.0, (5 + 0.5) / 6]
    assert history._below[0, -1] == 7
    assert history._below.shape == (1, BINS + 1)


def random_snaps(seed, levels=6, snaps=400):
    """Yield levels that come, go, turn and are void, with what is seen of them, and which sides hold VACUUM."""
    random = np.random.default_rng(seed)
    at, side, state = BEGIN, random.integers(-1, 2, levels), random.integers(0, len(STATES), levels)
    for _ in range(snaps):
        at += SNAP_NS * int(random.choice([1, 1, 1, 1, 2, 9]))
        change = random.random(levels) < 0.2
        state = np.where(change, random.integers(0, len(STATES), levels), state)
        side = np.where(random.random(levels) < 0.05, random.integers(-1, 2, levels), side)
        here = np.flatnonzero(random.random(levels) < 0.98)
        yield at, here.tolist(), side[here].astype(np.int8), state[here].astype(np.int8), random.random(2) < 0.5


@pytest.mark.parametrize("by_side", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_loop_holds_what_numpy_holds(monkeypatch, seed, by_side):
    fast = Holds(HOLD_NS.astype(np.int64), S)
    monkeypatch.setattr("spymaster.engines.holds.loops", lambda: None)
    plain = Holds(HOLD_NS.astype(np.int64), S)
    seen = set()
    for at, ids, side, state, vacant in random_snaps(seed):
        one, other = (by.work(at, ids, side, state, vacant if by_side else None) for by in (fast, plain))
        assert [column.tobytes() for column in one] == [column.tobytes() for column in other]
        seen |= set(one[0].tolist())
    assert seen == set(range(len(STATES)))


def test_a_level_without_a_side_is_refused():
    with pytest.raises(ValueError, match="unequal numbers"):
        Holds(HOLD_NS.astype(np.int64), S).work(BEGIN, ["a", "b"], np.zeros(1, np.int8), np.zeros(2, np.int8))

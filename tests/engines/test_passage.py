"""The first passage against a plain loop over the path, and its definition on hand-made ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spymaster.engines.passage import BREAK, NEITHER, NO_MID, OUTCOMES, REJECT, UNKNOWN, Path, first_passage

LEVEL, DISTANCE, HORIZON = 200, 16, 240


def path(*points, end=1_000):
    times, mids = zip(*points, strict=True)
    return Path(np.array(times, np.int64), np.array(mids, np.int64), end)


def outcome(walk, *, start=0, direction=1, level=LEVEL, distance=DISTANCE, horizon=HORIZON):
    found = first_passage(walk, start, level, direction, distance, horizon)
    return OUTCOMES[found.outcome[0]], int(found.when_ns[0])


def by_loop(walk, start, level, direction, distance, horizon):
    """The definition, point by point."""
    points = list(zip(walk.ts_ns.tolist(), walk.mid.tolist(), strict=True))
    before = [mid for time, mid in points if time <= start]
    if not before or before[-1] == NO_MID:
        return UNKNOWN, start
    for time, mid in points:
        if start < time <= start + horizon:
            if mid == NO_MID:
                return UNKNOWN, time
            if (mid >= level + distance) if direction > 0 else (mid <= level - distance):
                return BREAK, time
            if (mid <= level - distance) if direction > 0 else (mid >= level + distance):
                return REJECT, time
    if start + horizon <= walk.end_ns:
        return NEITHER, start + horizon
    return UNKNOWN, max(walk.end_ns, start)


def test_a_distance_beyond_is_a_break_and_as_far_back_a_rejection_to_the_half_tick():
    assert outcome(path((0, 200), (5, 215), (9, 216))) == ("BREAK", 9)
    assert outcome(path((0, 200), (5, 185), (9, 184))) == ("REJECT", 9)
    assert outcome(path((0, 200), (5, 215), (9, 185))) == ("NEITHER", HORIZON)
    assert outcome(path((0, 200), (9, 184)), direction=-1) == ("BREAK", 9)
    assert outcome(path((0, 200), (9, 216)), direction=-1) == ("REJECT", 9)


def test_what_was_known_at_the_start_does_not_count_and_the_horizons_last_instant_does():
    assert outcome(path((0, 300), (10, 250), (11, 184)), start=10) == ("REJECT", 11)
    assert outcome(path((0, 200), (HORIZON, 216))) == ("BREAK", HORIZON)
    assert outcome(path((0, 200), (HORIZON + 1, 216))) == ("NEITHER", HORIZON)


def test_a_path_that_ends_or_is_void_before_the_horizon_leaves_the_outcome_unknown():
    assert outcome(path((0, 200), (5, 201), end=239)) == ("UNKNOWN", 239)
    assert outcome(path((0, 200), (5, 201), end=240)) == ("NEITHER", 240)
    assert outcome(path((0, 200), (5, NO_MID), (6, 216))) == ("UNKNOWN", 5)
    assert outcome(path((0, 200), (5, 216), (6, NO_MID))) == ("BREAK", 5)
    assert outcome(path((0, 200), (HORIZON + 1, NO_MID))) == ("NEITHER", HORIZON)


def test_a_start_at_which_the_mid_is_not_known_is_unknown_from_there():
    assert outcome(path((5, 200), (6, 216)), start=4) == ("UNKNOWN", 4)
    assert outcome(path((0, 200), (3, NO_MID), (5, 216)), start=4) == ("UNKNOWN", 4)
    assert outcome(path((0, 200), end=10), start=20) == ("UNKNOWN", 20)
    assert outcome(Path(np.empty(0, np.int64), np.empty(0, np.int64), 0)) == ("UNKNOWN", 0)


def test_a_jump_is_decided_by_where_it_was_first_seen():
    assert outcome(path((0, 100), (1, 300), (2, 100))) == ("BREAK", 1)


@st.composite
def walks(draw):
    steps = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3) | st.just(99)), min_size=1, max_size=300))
    times = np.cumsum([wait for wait, _ in steps])
    moves = np.array([move for _, move in steps])
    mids = np.where(moves == 99, NO_MID, LEVEL + np.cumsum(np.where(moves == 99, 0, moves)))
    return Path(times.astype(np.int64), mids.astype(np.int64), int(times[-1]) + draw(st.integers(0, 60)))


touches = st.lists(
    st.tuples(
        st.integers(-5, 400), st.integers(-9, 9), st.sampled_from([1, -1]), st.integers(1, 12), st.integers(0, 300)
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@given(walks(), touches)
def test_many_touches_at_once_are_what_a_loop_over_the_path_says_of_each(walk, asked):
    start, offset, direction, distance, horizon = (np.array(column) for column in zip(*asked, strict=True))

    found = first_passage(walk, start, LEVEL + offset, direction, distance, horizon)

    expected = [by_loop(walk, a, LEVEL + b, c, d, e) for a, b, c, d, e in asked]
    assert list(zip(found.outcome.tolist(), found.when_ns.tolist(), strict=True)) == expected


@given(walks(), touches)
def test_the_mirrored_market_has_the_same_outcomes_and_the_turned_direction_the_opposite_ones(walk, asked):
    start, offset, direction, distance, horizon = (np.array(column) for column in zip(*asked, strict=True))
    level = LEVEL + offset
    mirrored = walk._replace(mid=np.where(walk.mid == NO_MID, NO_MID, -walk.mid))
    opposite = np.array([UNKNOWN, NEITHER, REJECT, BREAK])

    found = first_passage(walk, start, level, direction, distance, horizon)
    mirror = first_passage(mirrored, start, -level, -direction, distance, horizon)
    turned = first_passage(walk, start, level, -direction, distance, horizon)

    for other, outcomes in ((mirror, found.outcome), (turned, opposite[found.outcome])):
        np.testing.assert_array_equal(other.outcome, outcomes)
        np.testing.assert_array_equal(other.when_ns, found.when_ns)


@pytest.mark.parametrize("at", [1, 63, 64, 65, 66, 128, 129, 199])
def test_a_single_point_decides_wherever_it_stands(at):
    mids = np.full(201, LEVEL)
    mids[at] += DISTANCE

    assert outcome(Path(np.arange(201), mids, 300)) == ("BREAK", at)


def test_thousands_of_touches_are_cut_into_pieces_without_a_seam():
    times = np.arange(40_000)
    mids = LEVEL + np.cumsum(np.random.default_rng(7).integers(-1, 2, len(times)))
    walk = Path(times, mids, len(times))
    start = np.sort(np.random.default_rng(8).integers(0, len(times), 9_000))
    level = mids[start] + 2

    found = first_passage(walk, start, level, 1, 8, 500)

    assert set(found.outcome.tolist()) == {UNKNOWN, NEITHER, BREAK, REJECT}
    for at in (0, 4_095, 4_096, 8_191, 8_192, 8_999):
        assert (found.outcome[at], found.when_ns[at]) == by_loop(walk, start[at], level[at], 1, 8, 500)


@pytest.mark.parametrize(
    ("walk", "changed", "reason"),
    [
        (path((1, 200), (0, 200)), {}, "descend"),
        (path((0, 200), (9, 200), end=8), {}, "after its end"),
        (path((0, 200)), {"direction": 0}, "neither 1 nor -1"),
        (path((0, 200)), {"distance": 0}, "not more than 0"),
    ],
)
def test_what_is_no_question_is_refused(walk, changed, reason):
    with pytest.raises(ValueError, match=reason):
        outcome(walk, **changed)

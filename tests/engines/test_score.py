"""Points that add up from 50, honest half-lives, and one trigger per level with hold and release."""

import math

import numpy as np
import pytest

from spymaster.engines.holds import ABSORPTION, CONSUMED, NEUTRAL, VACUUM, VOID, WALL, WEAK
from spymaster.engines.profile import profile_named
from spymaster.engines.score import SIGNALS, Evidence, Score

SNAP = 250_000_000
SECOND = 4 * SNAP
BEGIN = 7_065_655_200 * SNAP
RULES = profile_named("ES").score


def evidence(*levels, age_s=0.0, fuel=0.0):
    """Return evidence of levels given as (state, tape[, coverage, direction, distance])."""
    whole = [(*level, *(1.0, 1, 2)[len(level) - 2 :]) for level in levels]
    state, tape, coverage, direction, distance = zip(*whole, strict=True)
    covered = np.array(coverage, float)
    return Evidence(
        np.array(state, np.int8), covered, np.array(tape, float), np.array(direction, np.int8),
        np.array(distance, np.int64), np.ones(len(levels)), age_s, np.full(len(levels), fuel),
    )  # fmt: skip


class One:
    """One level, snap after snap."""

    def __init__(self):
        self.score, self.snap = Score(RULES), 0

    def see(self, state, tape=0.0, coverage=1.0, direction=1, distance=2, snaps=1, step=1):
        """Return the level's scores at the last of some snaps that see the same."""
        for _ in range(snaps):
            self.snap += step
            level = (state, tape, coverage, direction, distance)
            found = self.score.snap(BEGIN + self.snap * SNAP, ["L"], evidence(level))
        return found

    def signals(self, state, *args, snaps, **more):
        return [SIGNALS[self.see(state, *args, **more).signal[0]] for _ in range(snaps)]


@pytest.mark.parametrize(
    ("state", "tape", "coverage", "points"),
    [
        (NEUTRAL, 0, 1, 50), (VACUUM, 0, 1, 75), (CONSUMED, 0, 1, 65), (WEAK, 0, 1, 57.5), (ABSORPTION, 0, 1, 30),
        (WALL, 0, 1, 25), (NEUTRAL, 1, 1, 67.5), (NEUTRAL, -1, 1, 32.5), (VACUUM, 1, 1, 92.5), (WALL, -1, 1, 7.5),
        (VACUUM, 0, 0.4, 60), (WALL, 0.5, 0.2, 53.75),
    ],
)  # fmt: skip
def test_the_points_add_up_from_50(state, tape, coverage, points):
    found = One().see(state, tape, coverage)
    assert found.raw[0] == pytest.approx(points)
    assert found.raw[0] == 50 + found.barrier[0] + found.tape[0] + found.fuel[0]
    assert found.fuel[0] == 0


@pytest.mark.parametrize(("fuel", "points"), [(1.0, 7.5), (-1.0, -7.5), (0.0, 0.0)])
def test_fuel_adds_its_points_and_none_to_what_is_void(fuel, points):
    found = Score(RULES).snap(BEGIN, ["L", "M"], evidence((WALL, 0.2), (VOID, 0.2), fuel=fuel))
    assert found.fuel[0] == points
    assert found.raw[0] == 50 + found.barrier[0] + found.tape[0] + points
    assert np.isnan(found.fuel[1])
    assert np.isnan(found.raw[1])


def test_the_smoothed_score_is_halfway_after_its_half_life():
    one = One()
    found = [one.see(VACUUM).smooth[0] for _ in range(12)]
    assert found[3] == pytest.approx(62.5)
    assert found[7] == pytest.approx(68.75)
    assert found[11] == pytest.approx(71.875)


def test_a_pause_smooths_as_the_quiet_snaps_in_it_would_have():
    one, other = One(), One()
    for each in (one, other):
        each.see(WALL, snaps=2)
    one.see(WALL, snaps=9)
    other.snap += 9
    assert one.see(VACUUM).smooth[0] == pytest.approx(other.see(VACUUM).smooth[0])


def test_a_pause_of_days_leaves_nothing_of_what_was_before_it():
    one = One()
    one.see(VACUUM, snaps=20)
    one.see(WALL)
    one.snap += 4 * 86_400 * 3
    assert one.see(NEUTRAL).smooth[0] == 50 - 25 * 2**-0.25


def test_a_pause_after_a_void_snap_is_void_and_one_after_another_is_not():
    one, other = One(), One()
    for each in (one, other):
        each.see(VACUUM, snaps=20)
    other.see(VOID)
    assert SIGNALS[one.see(VACUUM, step=9).signal[0]] == "BREAK"
    assert SIGNALS[other.see(VACUUM, step=9).signal[0]] == "NEUTRAL"


def test_a_vacuum_breaks_after_smoothing_and_hold_and_is_released_after_its_own():
    one = One()
    signals = one.signals(VACUUM, snaps=12)
    crossed = next(at for at in range(20) if 75 - 25 * 2 ** (-(at + 1) / 4) >= 65)
    assert signals.index("BREAK") == crossed + 4
    since = BEGIN + (crossed + 5) * SNAP
    assert one.see(VACUUM, snaps=8).since_ns[0] == since
    signals = one.signals(NEUTRAL, snaps=12)
    below = next(at for at in range(20) if 50 + (one_smooth() - 50) * 2 ** (-(at + 1) / 4) < 57.5)
    assert signals.index("NEUTRAL") == below + 4
    assert set(signals[below + 4 :]) == {"NEUTRAL"}
    assert one.see(NEUTRAL).since_ns[0] == 0


def one_smooth():
    """The score after 20 snaps of a vacuum."""
    return 75 - 25 * 2 ** (-20 / 4)


def test_a_wall_rejects_as_a_vacuum_breaks():
    one, other = One(), One()
    names = {"BREAK": "REJECT", "REJECT": "BREAK", "NEUTRAL": "NEUTRAL"}
    for up, down, snaps in ((VACUUM, WALL, 15), (NEUTRAL, NEUTRAL, 3), (VACUUM, WALL, 2), (WALL, VACUUM, 30)):
        one_signals = one.signals(up, snaps=snaps)
        assert [names[name] for name in other.signals(down, snaps=snaps)] == one_signals
    assert one_signals[-1] == "REJECT"


def test_a_hold_that_is_interrupted_begins_anew():
    one = One()
    one.see(VACUUM, snaps=9)
    before = one.see(VACUUM, 0.5)
    assert (before.smooth[0] > 65, SIGNALS[before.signal[0]]) == (True, "BREAK")
    one, signals, high = One(), [], []
    for _ in range(8):  # now and then at 65 or more, but never for a second on end
        for state, tape, snaps in ((VACUUM, 1.0, 4), (WALL, -1.0, 4)):
            found = [one.see(state, tape) for _ in range(snaps)]
            signals += [SIGNALS[each.signal[0]] for each in found]
            high += [each.smooth[0] >= 65 for each in found]
    assert any(high[at] and high[at + 1] for at in range(len(high) - 1))
    assert set(signals) == {"NEUTRAL"}


def test_what_is_farther_than_the_profile_says_triggers_nothing_and_releases():
    one = One()
    assert set(one.signals(VACUUM, distance=2 * RULES.within_ticks + 1, snaps=40)) == {"NEUTRAL"}
    assert one.signals(VACUUM, distance=2 * RULES.within_ticks, snaps=5)[-1] == "BREAK"
    assert one.signals(VACUUM, distance=-2 * RULES.within_ticks - 1, snaps=5) == ["BREAK"] * 4 + ["NEUTRAL"]


def test_a_tape_against_a_wall_is_contested_until_a_decision():
    one = One()
    assert one.signals(WALL, 0.5, coverage=0.4, snaps=6) == ["NEUTRAL"] * 4 + ["CONTESTED"] * 2
    assert one.signals(WALL, 0.49, coverage=0.4, snaps=6) == ["CONTESTED"] * 4 + ["NEUTRAL"] * 2
    one.see(ABSORPTION, 0.5, coverage=0.4, snaps=6)
    signals = one.signals(WALL, -1.0, snaps=12)
    assert signals[-1] == "REJECT"
    assert "NEUTRAL" in signals  # the tape turned: released long before it is decided
    one = One()
    one.see(WALL, 0.5, coverage=0.4, snaps=6)
    assert SIGNALS[one.see(VACUUM, 1.0, snaps=8).signal[0]] == "BREAK"


def test_a_decision_is_not_overruled_by_contest():
    one = One()
    one.see(WALL, -1, snaps=12)
    contested = one.see(WALL, 0.8, snaps=24)  # 39 points: neither beyond the trigger's any more nor released
    assert (round(contested.smooth[0]), SIGNALS[contested.signal[0]]) == (39, "REJECT")


def test_void_is_neutral_at_once_and_clears_after_its_time():
    one = One()
    one.see(VACUUM, snaps=20)
    void = one.see(VOID, snaps=1)
    assert SIGNALS[void.signal[0]] == "NEUTRAL"
    assert all(math.isnan(column[0]) for column in (void.raw, void.smooth, void.barrier, void.tape, void.fuel))
    assert (void.confidence[0], void.since_ns[0]) == (0, 0)
    one.see(VOID, snaps=6)
    assert SIGNALS[one.see(VACUUM).signal[0]] == "BREAK"  # 2 s after the last that was not
    one.see(VOID, snaps=8)
    again = one.see(VACUUM)
    assert SIGNALS[again.signal[0]] == "NEUTRAL"
    assert again.smooth[0] == pytest.approx(75 - 25 * 2**-0.25)


def test_a_tape_or_direction_that_is_not_known_is_void():
    for level in ((VACUUM, math.nan), (VACUUM, 0, 1.0, 0)):
        assert math.isnan(Score(RULES).snap(BEGIN, ["L"], evidence(level)).raw[0])


def test_a_price_that_passes_the_level_lets_it_begin_anew():
    one = One()
    one.see(VACUUM, snaps=20)
    passed = one.see(VACUUM, direction=-1)
    assert SIGNALS[passed.signal[0]] == "NEUTRAL"
    assert passed.smooth[0] == pytest.approx(75 - 25 * 2**-0.25)


def test_each_level_has_its_own_memory_whatever_its_place():
    alone, many = [One() for _ in range(3)], Score(RULES)
    states = (VACUUM, WALL, NEUTRAL)
    rng = np.random.default_rng(5)
    for snap in range(1, 60):
        order = rng.permutation(3).tolist()
        tapes = rng.uniform(-1, 1, 3).tolist()
        found = many.snap(
            BEGIN + snap * SNAP, [str(at) for at in order], evidence(*((states[at], tapes[at]) for at in order))
        )
        for place, at in enumerate(order):
            own = alone[at].see(states[at], tapes[at])
            assert [column[place] for column in found] == [column[0] for column in own]
    assert {one.see(state).signal[0] for one, state in zip(alone, states, strict=True)} == {0, 2, 3}


def test_a_level_that_left_is_known_again_for_two_seconds_and_then_forgotten():
    score = Score(RULES)
    for snap in range(1, 21):
        score.snap(BEGIN + snap * SNAP, ["A", "B"], evidence((VACUUM, 0), (VACUUM, 0)))
    for snap in range(21, 28):
        score.snap(BEGIN + snap * SNAP, ["A"], evidence((VACUUM, 0)))
    back = score.snap(BEGIN + 28 * SNAP, ["B", "A"], evidence((VACUUM, 0), (VACUUM, 0)))
    assert back.signal.tolist() == [3, 3]
    for snap in range(29, 37):
        score.snap(BEGIN + snap * SNAP, ["A"], evidence((VACUUM, 0)))
    back = score.snap(BEGIN + 37 * SNAP, ["B", "A"], evidence((VACUUM, 0), (VACUUM, 0)))
    assert back.signal.tolist() == [0, 3]


def test_what_is_remembered_is_bounded():
    score = Score(RULES)
    for snap in range(1, 60):
        ids = [f"{snap}-{at}" for at in range(200)]
        score.snap(BEGIN + snap * SNAP, ids, evidence(*[(WALL, 0)] * 200))
        assert len(score._ids) <= 1_024
    for snap, name in ((100, "L"), (110, "M")):
        score.snap(BEGIN + snap * SNAP, [name], evidence((WALL, 0)))
    assert score._ids == ("M", "L")


def test_confidence_is_coverage_and_the_age_of_the_data():
    sure = Score(RULES).snap(BEGIN, ["L"], evidence((WALL, 0)))
    half = Score(RULES).snap(BEGIN, ["L"], evidence((WALL, 0, 0.6), age_s=RULES.stale_s / 2))
    stale = Score(RULES).snap(BEGIN, ["L"], evidence((WALL, 0), age_s=RULES.stale_s * 3))
    assert (sure.confidence[0], half.confidence[0], stale.confidence[0]) == (1, pytest.approx(0.3), 0)

"""Fuel: what a flow means, and how many prints say so."""

import numpy as np
import pytest

from spymaster.engines.fuel import AMPLIFY, DAMPEN, NEUTRAL, fuel, part


def of(prints, share=0.3, errors=3.0):
    """Return the fuel of (sign, weight) of prints."""
    sign, weight = (np.array(column, np.int64) for column in zip(*prints, strict=True))
    sums = (np.array([value]) for value in ((sign * weight).sum(), weight.sum(), (weight**2).sum().astype(float)))
    return fuel(*sums, share, errors)


@pytest.mark.parametrize(
    ("prints", "effect"),
    [
        ([(1, 5)] * 20, AMPLIFY),  # customers buy: dealers are short
        ([(-1, 5)] * 20, DAMPEN),
        ([(1, 5)] * 8, NEUTRAL),  # X is 1, three errors are 1.06
        ([(1, 5)] * 9, AMPLIFY),
        ([(1, 5)] * 20 + [(1, 500)], NEUTRAL),  # one print speaks
        ([(1, 5)] * 640 + [(-1, 5)] * 360, NEUTRAL),  # nine errors, but .28 of the flow
        ([(1, 5)] * 660 + [(-1, 5)] * 340, AMPLIFY),
        ([(1, 5)] * 20 + [(0, 5)] * 60, NEUTRAL),  # of three quarters nobody knows who began
    ],
)
def test_an_effect_takes_a_share_of_the_flow_and_prints_that_speak_for_it(prints, effect):
    assert of(prints).effect.tolist() == [effect]


def test_the_error_says_how_many_prints_of_one_weight_would_tell_as_much():
    even, uneven = of([(1, 7)] * 16), of([(1, 7)] * 16 + [(1, 7_000_000)])

    assert (even.error[0], even.speak[0]) == (0.25, 16.0)
    assert uneven.speak[0] == pytest.approx(1.0, abs=1e-4)


def test_without_prints_there_is_no_flow_and_not_one_of_zero():
    nothing = fuel(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1), 0.1, 3.0)

    assert nothing.effect.tolist() == [NEUTRAL]
    assert np.isnan(nothing.net[0])
    assert np.isnan(nothing.error[0])
    assert nothing.speak[0] == 0


def test_prints_too_light_for_their_squares_speak_for_nothing_and_divide_by_nothing():
    light = fuel(np.array([9]), np.array([10**9]), np.zeros(1), 0.1, 3.0)

    assert (light.effect.tolist(), light.error[0], light.speak[0]) == ([NEUTRAL], 0.0, 0.0)


def test_amplified_levels_have_points_for_a_break_and_dampened_ones_against_it():
    assert part(np.array([AMPLIFY, NEUTRAL, DAMPEN], np.int8)).tolist() == [1.0, 0.0, -1.0]

"""The flow turns when what customers do is the opposite of what they did, and prints enough say so."""

import numpy as np
import pytest

from spymaster.engines.flow_turn import FlowTurns
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import profile_named
from tests.engines.option_truths import turn_scores

RULES = profile_named("ES").options
PER_S = 4


def turns(flow):
    """Return the turns of a flow, which is told by seconds: a sign, and prints in each 250 ms; of any weights."""
    told, number, random, found = FlowTurns(RULES), 0, np.random.default_rng(2), []
    for seconds, sign, prints in flow:
        for _ in range(seconds * PER_S):
            number += 1
            if prints:
                told.add(number * SNAP_NS, np.full(prints, sign, np.int8), random.integers(1, 50, prints).astype(float))
            if told.snap(number * SNAP_NS):
                found.append((number / PER_S, told.newest.dealers))
            assert told.newest == (None if not found else (found[-1][0] * PER_S * SNAP_NS, found[-1][1]))
    return found


def test_a_flow_that_turns_is_seen_once_and_tells_what_it_leaves_dealers_with():
    ((at, dealers),) = turns([(10, 1, 3), (10, -1, 3)])
    ((_, other),) = turns([(10, -1, 3), (10, 1, 3)])

    assert 10 < at <= 10 + RULES.turn_s
    assert (dealers, other) == (1, -1)


@pytest.mark.parametrize(
    "flow",
    [
        [(30, 1, 3)],
        [(10, 1, 3), (10, 0, 3)],  # nobody knows who begins
        [(10, 1, 3), (12, 0, 3), (10, -1, 3)],  # not a turn: it had ended before
        [(10, 1, 3), (12, 0, 0), (10, -1, 3)],
    ],
)
def test_a_flow_that_goes_on_or_ends_does_not_turn(flow):
    assert turns(flow) == []


def test_a_handful_of_prints_turns_nothing():
    told = FlowTurns(RULES)
    for number, sign in ((1, 1), (2, 1), (21, -1), (22, -1)):
        told.add(number * SNAP_NS, np.array([sign], np.int8), np.ones(1))
    assert not told.snap(22 * SNAP_NS)


def test_a_flow_that_turns_back_is_two_turns():
    assert [dealers for _, dealers in turns([(10, 1, 3), (10, -1, 3), (10, 1, 3)])] == [1, -1]


def test_planted_turns_are_found_and_nothing_else_is():
    recall, precision = turn_scores("SPY", 500, 75, seed=12)

    assert recall.of >= 2
    assert (recall.right, precision.right) == (recall.of, precision.of)

"""Power cuts and kills at storage calls of the real recorder and of recovery; and proof that this can fail."""

import pytest

from tests.long.explorer import MUTANTS, find_mutant, torture


def test_no_kill_power_cut_failed_sync_or_damage_breaks_an_invariant_in_1000_states_and_2500_of_recovery():
    """The short form of what `make torture` runs for longer."""
    figures = torture(distinct=1_000, nested=2_500, workers=1, progress=lambda done, total: None, mutants=())

    assert figures.violations == []
    assert figures.distinct >= 1_000
    assert figures.nested >= 2_500
    assert figures.deepest == 3


@pytest.mark.parametrize("name", MUTANTS)
def test_a_defect_is_caught_by_an_invariant_that_it_breaks(name):
    assert find_mutant(name) in MUTANTS[name].breaks

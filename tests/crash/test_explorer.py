"""Power cuts and kills at every storage call of the real recorder and of recovery; and proof that this can fail."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.crash.torture import MUTANTS, Figures, find_mutant, torture

WORKERS = 2


@pytest.fixture(scope="module")
def figures() -> Figures:
    """The short form of what `make torture` runs for longer."""
    return torture(distinct=2_000, nested=5_000, workers=WORKERS, progress=lambda done, total: None, mutants=())


@pytest.fixture(scope="module")
def broken() -> dict[str, str | None]:
    """The invariant that broke first for each mutant."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return dict(zip(MUTANTS, pool.map(find_mutant, MUTANTS), strict=True))


def test_no_kill_power_cut_failed_sync_or_damage_breaks_an_invariant(figures):
    assert figures.violations == []


def test_the_short_form_tries_2000_states_of_the_recorder_and_5000_of_recovery_three_deep(figures):
    assert figures.distinct >= 2_000
    assert figures.nested >= 5_000
    assert figures.deepest == 3


@pytest.mark.parametrize("name", MUTANTS)
def test_a_defect_is_caught_by_an_invariant_that_it_breaks(broken, name):
    assert broken[name] in MUTANTS[name].breaks

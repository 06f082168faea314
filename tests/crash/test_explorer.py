"""Power cuts and kills at every storage call of the real recorder and of recovery; and proof that this can fail."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.crash.explorer import Trace, explore, run_recorder
from tests.crash.mutants import RECOVERY_MUTANTS, TRACE_MUTANTS

STATES_PER_CALL = 2  # of each model
WORKERS = 2  # each with its own seed


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A short run is enough for a mutant, which breaks at its first flush."""
    return run_recorder(flushes=1)


def test_no_power_cut_or_kill_loses_an_acknowledged_row_or_doubles_one():
    trace = run_recorder(flushes=2)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:
        runs = [pool.submit(explore, trace, STATES_PER_CALL, 2, seed) for seed in range(WORKERS)]
        results = [run.result() for run in runs]

    for states, nested, violation in results:
        assert violation is None
        assert states > 500
        assert nested > 100


@pytest.mark.parametrize("name", TRACE_MUTANTS)
def test_a_recorder_that_leaves_a_step_out_is_caught(trace, name):
    *_, violation = explore(TRACE_MUTANTS[name](trace), 3, 0, seed=1)

    assert violation is not None


@pytest.mark.parametrize("name", RECOVERY_MUTANTS)
def test_a_recovery_that_drops_a_rule_is_caught(trace, name):
    with RECOVERY_MUTANTS[name]():
        *_, violation = explore(trace, 3, 2, seed=1)

    assert violation is not None

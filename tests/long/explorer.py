"""The explorer's long form: many workloads in several processes, until enough states were tried; then every mutant."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from multiprocessing import get_context
from typing import NamedTuple

from tests.crash.explorer import Explorer, Plan, Violation
from tests.crash.mutants import RECOVERY_MUTANTS, START_MUTANTS, TRACE_MUTANTS, WRITER_MUTANTS
from tests.crash.scratch import Scratch
from tests.crash.workload import TRADES, Workload, run_log, run_recorder

# A defect may show only in what is tried of few states; none needs many recoveries that are cut.
FOR_MUTANTS = Plan(nested=0.005, again=0.1, damaged=0.2, refused=0.1, started=0, cut_starts=0)
TRACES = 3  # of a defect: on a loaded machine a sync may be done before the step that does not wait for it
FOR_STARTS = Plan(cuts=0, nested=0, again=0, damaged=0, refused=0, started=1)
SHORT = Workload(flushes=1, streams=(TRADES,))  # a mutant breaks at its first flush
WITH_FILE = SHORT._replace(captures=0, file=True)
NESTED_PER_STATE = 80  # about so many new ones come of a state whose recovery is cut, three deep
MOST_PER_WORKLOAD = 500  # states, so that many workloads share their number


class Figures(NamedTuple):
    """What was tried and found.

    Attributes:
        distinct: states that a kill or a power cut left of a recorder's files, each different.
        nested: states that one left of a recovery's, each different.
        deepest: the most recoveries in a row that were cut.
        violations: one line for each that was found; an exploration ends at its first.
        mutants: defects that were planted.
        caught: of these, those found by an invariant that they are said to break.
        missed: the names of the others.
        seconds: how long it took.
    """

    distinct: int
    nested: int
    deepest: int
    violations: list[str]
    mutants: int
    caught: int
    missed: list[str]
    seconds: float


class Tried(NamedTuple):
    """One exploration: its part of the figures, and the violation that ended it."""

    distinct: int
    nested: int
    deepest: int
    violation: str | None


def try_workload(seed: int, distinct: int, nested: int) -> Tried:
    """Explore one workload until so many of its states were tried, or all that were drawn.

    No two runs make the same segments, so that their states add up.
    """
    chance = random.Random(seed)
    if seed % 2:
        commits = chance.randint(5, 12)
        failing = chance.sample(range(commits), chance.choice([0, 1, 2]))
        trace = run_log(tuple(failing), commits=commits, flush=chance.random() < 0.7)
    else:
        trace = run_recorder(Workload.drawn(chance))
    plan = Plan(nested=nested / distinct / NESTED_PER_STATE)
    with Scratch() as scratch:
        explorer = Explorer(scratch, trace, plan, seed)
        violation = None
        try:
            explorer.explore(lambda: len(explorer.distinct) >= distinct and len(explorer.nested) >= nested)
        except Violation as found:
            violation = f"seed {seed}: {found.invariant}: {found.args[1]} ({'; '.join(found.__notes__)})"
        return Tried(len(explorer.distinct), len(explorer.nested), explorer.deepest, violation)


MUTANTS = {**TRACE_MUTANTS, **WRITER_MUTANTS, **RECOVERY_MUTANTS, **START_MUTANTS}


def find_mutant(name: str) -> str | None:
    """Plant a defect and explore until an invariant breaks; return that invariant."""
    found = (_broken_by(name) for _ in range(TRACES))
    return next((invariant for invariant in found if invariant is not None), None)


def _broken_by(name: str) -> str | None:
    mutant = MUTANTS[name]
    if name in WRITER_MUTANTS:
        with mutant.plant():
            trace = run_recorder(SHORT) if "end row" in mutant.breaks else run_log((1, 3))
    else:
        trace = run_recorder(WITH_FILE if name in START_MUTANTS else SHORT)
    if name in TRACE_MUTANTS:
        trace = mutant.plant(trace)
    with Scratch() as scratch:
        explorer = Explorer(scratch, trace, FOR_STARTS if name in START_MUTANTS else FOR_MUTANTS, seed=1)
        # Only what comes after an end row shows one that came too early, and it comes last.
        first = min(trace.begun[end] for end in trace.counted) if mutant.breaks == ("end row",) else 0
        try:
            if name in RECOVERY_MUTANTS or name in START_MUTANTS:
                with mutant.plant():
                    explorer.explore()
            else:
                explorer.explore(first=first)
        except Violation as violation:
            return violation.invariant
    return None


def torture(
    distinct: int,
    nested: int,
    workers: int,
    progress: Callable[[int, int], None],
    mutants: Sequence[str] = tuple(MUTANTS),
) -> Figures:
    """Explore workloads until so many states were tried, then plant every mutant.

    Args:
        distinct: states of a recorder to try at least.
        nested: states of a recovery to try at least.
        workers: processes.
        progress: called with (states and mutants done, of how many).
        mutants: the defects to plant.
    """
    began = time.monotonic()
    states = in_recovery = deepest = 0
    violations: list[str] = []
    total = distinct + nested + len(mutants)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        seeds = count(1)
        share = min(
            MOST_PER_WORKLOAD, distinct // (4 * workers) + 1
        )  # small enough that the last one is not waited for
        each = (share, share * nested // distinct)
        running: set[Future[Tried]] = {pool.submit(try_workload, next(seeds), *each) for _ in range(workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for job in done:
                tried = job.result()
                states, in_recovery = states + tried.distinct, in_recovery + tried.nested
                deepest = max(deepest, tried.deepest)
                violations += [tried.violation] if tried.violation else []
                progress(min(states, distinct) + min(in_recovery, nested), total)
                if states < distinct or in_recovery < nested:
                    running.add(pool.submit(try_workload, next(seeds), *each))
        missed = []
        for number, (name, invariant) in enumerate(zip(mutants, pool.map(find_mutant, mutants), strict=True), 1):
            if invariant not in MUTANTS[name].breaks:
                missed.append(f"{name} ({invariant or 'nothing'} broke)")
            progress(distinct + nested + number, total)
    seconds = time.monotonic() - began
    return Figures(states, in_recovery, deepest, violations, len(mutants), len(mutants) - len(missed), missed, seconds)

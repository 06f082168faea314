"""Contests of the simulated market by the thousand: do outcomes follow their stated odds, and nothing else?

Markets of `MARKET` contests each, a seed each, at three rates. Of each contest the market says what came of it; what it
does not say, because it did not come off, is known from the draws and counted by state and outcome.

5,000 took 138 s on 2 cores: 0 findings, AUC 0.508 +- 0.008, of the stated odds 0.760; of each rate, state and outcome
100.0% came off at the least (2026-11-30).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.contests import BREAKS, Contest, ContestPlan, breaks
from spymaster.simulation.source import SimulatedMarket

START = 1_764_694_800 * NS_PER_SECOND  # 2025-12-02 17:00 UTC, of New York, in normal activity
MARKET = 50
RATES = (200, 500, 200, 500, 200, 500, 200, 500, 200, 2_000)  # of one market after another; a fast one costs the most
Z = 2.576  # of 99 of 100 intervals
CAME_OFF = 0.98


class Played(NamedTuple):
    """One contest that was drawn: what is known of it before its decision, and what came of it.

    Attributes:
        before: order, spacing in seconds, side, price, rate; the price of one that is not told is that of the last.
        told: whether the truth has it.
    """

    state: str
    broke: bool
    before: tuple[float, ...]
    told: bool


@dataclass
class ContestFigures:
    """What was played, and what is wrong with it."""

    played: list[Played] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    control: float = 0.5
    control_error: float = 0.0
    by_odds: float = 0.5
    least_share: float = 1.0


def drawn(seed: int, start: int, count: int) -> list[Contest]:
    """Return the first contests of a market."""
    plan, found, now = ContestPlan(seed, start), [], start
    while len(found) < count:
        found.append(plan.at(now))
        now = found[-1].end_ns
    return found


def truths_of(market: SimulatedMarket, until: int) -> list[dict[str, Any]]:
    """Play a market until an instant, its ES half alone, and return what it tells."""
    session = market.session(with_spy=False)
    for step in session.steps():
        if step.begin >= until:
            break
    return list(session.truths)


def play(seed: int, rate: int, count: int) -> list[Played]:
    """Play so many contests of a market, and say what came of each that was drawn."""
    contests = drawn(seed, START, count)
    truths = truths_of(SimulatedMarket(seed, rate, START, ("contests",)), contests[-1].end_ns + 1)
    told = {truth["number"]: truth for truth in truths}
    played, before, price = [], START, 0.0
    for contest in contests:
        truth = told.get(contest.number)
        broke = breaks(seed, contest)
        if truth is not None:
            price = truth["price"]
            same = (truth["state"], truth["begin_ns"], truth["outcome"]) == (
                contest.state, contest.begin_ns, "break" if broke else "reject",
            )  # fmt: skip
            assert same, f"seed {seed}: contest {contest.number} is told as {truth}"
        known = (contest.number, (contest.begin_ns - before) / NS_PER_SECOND, contest.rising, price, rate)
        played.append(Played(contest.state, broke, tuple(map(float, known)), truth is not None))
        before = contest.end_ns
    return played


def play_many(count: int, workers: int, advance: Callable[[int, int], None]) -> ContestFigures:
    """Play `count` contests and judge them.

    Args:
        count: of contests.
        workers: processes.
        advance: called with (contests played, of how many).
    """
    figures = ContestFigures()
    markets = range(-(-count // MARKET))
    seeds = [1_000 + number for number in markets]
    rates = [RATES[number % len(RATES)] for number in markets]
    counts = [min(MARKET, count - number * MARKET) for number in markets]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for played in pool.map(play, seeds, rates, counts):
            figures.played += played
            advance(len(figures.played), count)
    judge(figures)
    return figures


def judge(figures: ContestFigures) -> None:
    """Find what is wrong with the contests that were played."""
    told = [one for one in figures.played if one.told]
    for state, odds in BREAKS.items():
        of_state = [one.broke for one in told if one.state == state]
        low, high = wilson(sum(of_state), len(of_state))
        if not low <= odds <= high:
            figures.findings.append(
                f"{state}: {sum(of_state)} of {len(of_state)} broke, which is not {odds:.0%} ({low:.1%} to {high:.1%})"
            )
    for cell, (came, of) in shares(figures.played).items():
        figures.least_share = min(figures.least_share, came / of)
        if came < CAME_OFF * of:
            figures.findings.append(f"{cell}: only {came} of {of} came off")
    broke = np.array([one.broke for one in told])
    before = np.array([one.before for one in told])
    figures.control, figures.control_error = held_out_auc(before, broke)
    if abs(figures.control - 0.5) > 3 * figures.control_error:
        figures.findings.append(
            f"order, spacing, side, price and rate foretell the outcome: AUC {figures.control:.3f} "
            f"+- {figures.control_error:.3f}"
        )
    odds = np.array([[BREAKS[one.state]] for one in told])
    figures.by_odds, error = held_out_auc(odds, broke)
    if figures.by_odds < 0.5 + 3 * error:
        figures.findings.append(f"the stated odds foretell nothing: AUC {figures.by_odds:.3f} +- {error:.3f}")


def shares(played: Sequence[Played]) -> dict[tuple[float, str, bool], tuple[int, int]]:
    """Return by rate, state and outcome how many came off, of how many that were drawn."""
    of = Counter((one.before[-1], one.state, one.broke) for one in played)
    came = Counter((one.before[-1], one.state, one.broke) for one in played if one.told)
    return {cell: (came[cell], count) for cell, count in sorted(of.items())}


def wilson(hits: int, count: int, z: float = Z) -> tuple[float, float]:
    """Return Wilson's interval of a share of `count`."""
    middle = (hits + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * (hits * (count - hits) / count + z * z / 4) ** 0.5
    return middle - half, middle + half


def held_out_auc(features: Any, broke: Any) -> tuple[float, float]:
    """Fit each half by logistic regression and rank the other by it; return the mean AUC and its standard error.

    Args:
        features: shape (n, k), without a constant.
        broke: bool, shape (n,).
    """
    spread = features.std(axis=0)
    scaled = np.column_stack([np.ones(len(broke)), (features - features.mean(axis=0)) / np.where(spread, spread, 1)])
    even = np.arange(len(broke)) % 2 == 0
    areas, variance = [], 0.0
    for fitted, ranked in ((even, ~even), (~even, even)):
        scores = scaled[ranked] @ logistic(scaled[fitted], broke[fitted])
        ups, downs = scores[broke[ranked]], scores[~broke[ranked]]
        areas.append(auc(ups, downs))
        variance += (len(ups) + len(downs) + 1) / (12 * len(ups) * len(downs)) / 4
    return float(np.mean(areas)), variance**0.5


def logistic(features: Any, broke: Any) -> Any:
    """Return the weights of most likelihood, by Newton's method; a little ridge keeps a constant column harmless."""
    weights = np.zeros(features.shape[1])
    for _ in range(25):
        likely = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (broke - likely) - 1e-3 * weights
        curve = (features * (likely * (1 - likely))[:, None]).T @ features + 1e-3 * np.eye(len(weights))
        weights = weights + np.linalg.solve(curve, slope)
    return weights


def auc(ups: Any, downs: Any) -> float:
    """Return how often one of `ups` is above one of `downs`, ties as one half."""
    ranked = np.sort(downs)
    below = np.searchsorted(ranked, ups, "left") + np.searchsorted(ranked, ups, "right")
    return float(below.sum() / (2 * len(ups) * len(downs)))

"""What of the planted the engines find, on seeds that no threshold was chosen on: `python -m tests.long truth`.

A market of forty minutes after another in which all is planted, seeds 61 up, until there are enough truths of each
kind, at all prices and at levels, or `MOST_MARKETS`. Thresholds were chosen on seeds 1 to 3 and, with nothing planted,
21 and 22; what 11 to 17 gave was known when it was chosen how to tell pulled from eaten, and what 23 and 24 gave when
it was chosen how long a level holds a vacuum. How truths are matched is in `tests/engines/truths.py`.

The whole took 50 minutes on two cores that others used as well: every bar held (2026-11-30).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from spymaster.engines.profile import profile_named
from spymaster.simulation.plant import parse_plant
from spymaster.simulation.source import SimulatedMarket
from tests.engines.truths import KINDS, Score, level_scores, scores, watch

START_NS = 1_765_897_200_000_000_000  # 2025-12-16 15:00 UTC, normal activity
MINUTES = 40
FIRST_SEED = 61
MOST_MARKETS = 60  # of a rate and strength; where few scenes come off, there are fewer truths
RATES = (200, 500, 2_000)
STRENGTHS = (0.75, 0.5, 0.25)  # beside 1; at one rate
STRENGTH_RATE = 500

Pair = tuple[Score, Score]


class Market(NamedTuple):
    """One of the markets, see `SimulatedMarket`."""

    seed: int
    rate: int
    strength: float


class Truth(NamedTuple):
    """What was found at a rate and a strength: recall and precision of each kind, at all prices and at levels."""

    rate: int
    strength: float
    everywhere: dict[str, Pair]
    at_levels: dict[str, Pair]


def judge(market: Market) -> Truth:
    """Run the engines over one market."""
    profile = profile_named("ES")
    simulated = SimulatedMarket(market.seed, market.rate, START_NS, parse_plant("all"), market.strength)
    seen = watch(simulated, MINUTES * 60, profile)
    return Truth(market.rate, market.strength, scores(seen, profile), level_scores(seen, profile, market.seed))


def measure(
    truths: int, workers: int, advance: Callable[[int, int], None], cases: list[tuple[int, float]] | None = None
) -> Iterator[Truth]:
    """Yield what was found at each rate, then at each strength, of at least so many truths of each kind."""
    cases = cases or [(rate, 1.0) for rate in RATES] + [(STRENGTH_RATE, strength) for strength in STRENGTHS]
    with ProcessPoolExecutor(workers) as pool:
        for number, (rate, strength) in enumerate(cases):
            total = Truth(rate, strength, {}, {})
            for seed in range(FIRST_SEED, FIRST_SEED + MOST_MARKETS, workers):
                pairs = (*total.everywhere.values(), *total.at_levels.values())
                least = min((recall.of for recall, _ in pairs), default=0)
                if least >= truths:
                    break
                advance(number * truths + least, len(cases) * truths)
                markets = [Market(seed + worker, rate, strength) for worker in range(workers)]
                for found in pool.map(judge, markets):
                    total = total._replace(
                        everywhere=_sum(total.everywhere, found.everywhere),
                        at_levels=_sum(total.at_levels, found.at_levels),
                    )
            yield total


def _sum(one: dict[str, Pair], other: dict[str, Pair]) -> dict[str, Pair]:
    if not one:
        return other
    return {
        kind: tuple(Score(a.right + b.right, a.of + b.of) for a, b in zip(one[kind], other[kind], strict=True))
        for kind in KINDS
        if kind in one
    }

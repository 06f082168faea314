"""How well options are understood, against what the simulator alone knows: `python -m tests.long fuel`.

Of ES and of SPY, some markets of a quarter of an hour at each rate, from seed 401 on. `turn_share` was chosen on seeds
21 to 32, since at .7 it had missed the bar on these and on those; nothing else was.

- who began a print: with quotes, of the prints that are told by them; without, of those told by their volatility. Both
  of prints that somebody began; a tenth are inside the quote, and nobody did.
- net flow, with quotes: its correlation with the true one in windows of `flow_s`, as shares of the true gross flow.
- flow_turn: how many of the planted were seen, and of those seen were planted, in time and direction (`turn_scores`).

The bounds take prints for independent of each other. Those of one market are not: its price moves much or little.

The whole took six minutes on two cores that others used as well: every bar held (2026-12-01).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from math import atanh, sqrt, tanh
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.aggressor import IV, QUOTE
from spymaster.engines.profile import profile_named
from tests.engines.option_truths import judged, turn_scores
from tests.engines.truths import Score

ROOTS = ("ES", "SPY")
RATES = (100, 2_000)
TURN_RATES = (200, 500, 2_000)
SECONDS = 900  # of event time of a market: 26 planted turns
MARKETS, TURN_MARKETS = 8, 6  # at each rate
FIRST_SEED = 401
LEAST_SECONDS = 120  # two windows, and three planted turns
LEAST_TURNS = 50
LEAST = {"quote": 0.99, "iv": 0.85, "flow": 0.95, "recall": 0.9, "precision": 0.9}
LEAST_BOUND = 0.8  # of recall and precision
_LOOKS_NS = 5 * NS_PER_SECOND  # between snaps, where no turn is asked for


class Correlation(NamedTuple):
    """A correlation of so many windows."""

    share: float
    of: int

    @property
    def bounds(self) -> tuple[float, float]:
        """At 95 %, by Fisher's transformation."""
        if self.of < 4:
            return -1.0, 1.0
        middle, half = atanh(self.share), 1.96 / sqrt(self.of - 3)
        return tanh(middle - half), tanh(middle + half)

    def __str__(self) -> str:
        low, high = self.bounds
        return f"{self.share:.3f} of {self.of} windows ({low:.3f} to {high:.3f})"


class Found(NamedTuple):
    """What was found of one root at a rate.

    Attributes:
        root: ES or SPY.
        rate: of the markets.
        of: `quote`, `iv`, `flow`, `recall` or `precision`.
        total: of all markets.
        apart: the least and the most of a market.
    """

    root: str
    rate: int
    of: str
    total: Score | Correlation
    apart: tuple[float, float]

    def holds(self, share: float) -> bool:
        """Return whether it is enough; of less than the whole, whether it might be."""
        if share < 1:
            return self.total.bounds[1] >= LEAST[self.of]
        of_turns = self.of in ("recall", "precision")
        sure = not of_turns or (self.total.of >= LEAST_TURNS and self.total.bounds[0] >= LEAST_BOUND)
        return sure and self.total.share >= LEAST[self.of]


class Market(NamedTuple):
    """One of the markets, and what of it is asked: `quote` with `flow`, `iv`, or `turn`."""

    asked: str
    root: str
    rate: int
    seed: int
    seconds: int


def judge(market: Market) -> tuple[Score | Any, ...]:
    """Return what was found in one market: scores, and of the flow its shares."""
    asked, root, rate, seed, seconds = market
    if asked == "turn":
        return turn_scores(root, rate, seconds, seed)
    run = judged(root, rate, seconds, seed=seed, quotes=asked == "quote", every_ns=_LOOKS_NS)
    told = (run.side != 0) & (run.prints.how == (QUOTE if asked == "quote" else IV))
    score = Score(int((run.prints.sign == run.side)[told].sum()), int(told.sum()))
    return (score, run.flow_shares(profile_named(root).options.flow_s)) if asked == "quote" else (score,)


NAMES = {"quote": ("quote", "flow"), "iv": ("iv",), "turn": ("recall", "precision")}


def measure(share: float, workers: int, advance: Callable[[int, int], None]) -> Iterator[Found]:
    """Yield what was found of each root at each rate.

    Args:
        share: of the event time.
        workers: processes.
        advance: is told of markets done, and of how many.
    """
    seconds, markets = max(LEAST_SECONDS, round(SECONDS * share)), max(1, round(MARKETS * share))
    cases = [(asked, root, rate, markets) for asked in ("quote", "iv") for root in ROOTS for rate in RATES]
    cases += [("turn", root, rate, min(TURN_MARKETS, markets)) for root in ROOTS for rate in TURN_RATES]
    total, done = sum(count for *_, count in cases), 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for asked, root, rate, count in cases:
            some = [Market(asked, root, rate, FIRST_SEED + number, seconds) for number in range(count)]
            found = list(pool.map(judge, some))
            done += count
            advance(done, total)
            for name, parts in zip(NAMES[asked], zip(*found, strict=True), strict=True):
                yield Found(root, rate, name, *_together(parts))


def _together(parts: tuple[Any, ...]) -> tuple[Score | Correlation, tuple[float, float]]:
    if isinstance(parts[0], Score):
        total = Score(sum(part.right for part in parts), sum(part.of for part in parts))
        shares = [part.share for part in parts]
        return total, (min(shares), max(shares))
    whole = np.concatenate(parts, axis=1)
    each = [_correlation(part) for part in parts]
    return Correlation(_correlation(whole), whole.shape[1]), (min(each), max(each))


def _correlation(shares: Any) -> float:
    return float(np.corrcoef(shares)[0, 1])

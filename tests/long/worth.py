"""What a level's score is worth: `python -m tests.long worth`. Does it tell breaks from rejections before they come?

Contests of the simulator (`simulation/contests.py`), 50 a market, at three rates, on seeds that nothing was chosen on;
their level is a round one of profile SIM. A score is taken twice: at the snap of the level's first touch, two ticks
before it, and at the last snap before the decision, some two seconds after the price has arrived. What comes of a
contest is what the market tells.

Beside them, at touches of which the market tells nothing and `first_passage` says what came: the same round levels in
the same markets with nothing planted, and levels at random prices, one between each two round ones, in both.

300 contests took 30 minutes on two shared cores: AUC 0.767 +- 0.033 at either; nothing planted 0.550 +- 0.071 of 83
touches of round levels, 0.539 +- 0.069 of 91 of random ones (2026-11-30).
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.levels import Zone
from spymaster.engines.passage import BREAK, NO_MID, REJECT, Path, first_passage
from spymaster.engines.profile import Profile, profile_named
from spymaster.simulation.contests import LEVEL_TICKS
from spymaster.simulation.source import SimulatedMarket
from tests.engines.judging import snaps
from tests.engines.truths import wilson
from tests.long.contests import MARKET, RATES, START, auc, drawn

FIRST_SEED = 2_000
CONTESTS = 300
LEAST_AUC = 0.65
BANDS = (0.0, 35.0, 45.0, 55.0, 65.0, 100.1)  # points; the profile's triggers, and what lies about 50
_FIRST_TICKS = 27_600  # where every market begins
_ZONES = 10  # levels at random prices, on either side of it
_IN_WARM_UP = 3  # contests that may begin in a minute, and have no score
_NO_EVIDENCE = 50.0

Pairs = list[tuple[float, bool]]  # a score, and whether the level broke


class Worth(NamedTuple):
    """Scores and outcomes.

    Attributes:
        touch: of contests, at the level's first touch.
        decision: of contests, at the last snap before the decision.
        random: of random levels where contests are.
        round_alone: of round levels where nothing is planted.
        random_alone: of random levels there.
    """

    touch: Pairs
    decision: Pairs
    random: Pairs
    round_alone: Pairs
    random_alone: Pairs

    def and_(self, other: "Worth") -> "Worth":
        return Worth(*(one + two for one, two in zip(self, other, strict=True)))


class _Scored(NamedTuple):
    """What was seen of levels, a row for a level and snap: n rows; the mids of the S snaps."""

    snap_ns: Any
    price: Any
    score: Any
    touched: Any
    direction: Any
    path: Path


def score_market(market: SimulatedMarket, until_ns: int, zones: list[Zone]) -> tuple[_Scored, list[dict[str, Any]]]:
    """Return the scores of a market's levels, and its truths."""
    profile, session = profile_named("SIM"), market.session(with_spy=False)
    columns: dict[str, list[Any]] = {name: [] for name in ("price", "score", "touched", "direction")}
    times, mids = [], []
    for snap in snaps(session, until_ns, profile, zones):
        known = snap.void_reason is None and snap.bid is not None and snap.ask is not None
        times.append(snap.snap_ns)
        mids.append(round((snap.bid + snap.ask) / profile.market.tick) if known else NO_MID)
        for name, found in columns.items():
            found.append(snap.levels[name].to_numpy(zero_copy_only=False))
    snap_ns = np.repeat(np.array(times), [len(one) for one in columns["price"]])
    price, score, touched, direction = map(np.concatenate, columns.values())
    path = Path(np.array(times), np.array(mids), times[-1])
    ticks = np.rint(price / profile.market.tick).astype(np.int64)
    return _Scored(snap_ns, ticks, np.nan_to_num(score, nan=_NO_EVIDENCE), touched, direction, path), list(
        session.truths
    )


def play(seed: int, rate: int, count: int) -> Worth:
    """Score the levels of a market of so many contests, and of the same without them."""
    profile, random = profile_named("SIM"), np.random.default_rng(seed)
    warm_ns = START + profile.typical.warm_up_s * NS_PER_SECOND
    contests = [one for one in drawn(seed, START, count + _IN_WARM_UP) if one.begin_ns >= warm_ns][:count]
    until_ns = contests[-1].end_ns + 1
    prices = [_FIRST_TICKS + at * LEVEL_TICKS + int(random.integers(2, 9)) for at in range(-_ZONES, _ZONES)]
    zones = [Zone(str(price), price) for price in prices]
    scored, truths = score_market(SimulatedMarket(seed, rate, START, ("contests",)), until_ns, zones)
    truths = [truth for truth in truths if truth["begin_ns"] >= warm_ns]
    alone, _ = score_market(SimulatedMarket(seed, rate, START), until_ns, zones)
    known = np.isin(scored.price, prices), np.isin(alone.price, prices)
    return Worth(
        [(before(scored, truth, at_touch=True), truth["outcome"] == "break") for truth in truths],
        [(before(scored, truth, at_touch=False), truth["outcome"] == "break") for truth in truths],
        passages(scored, known[0], profile),
        passages(alone, alone.price % LEVEL_TICKS == 0, profile),
        passages(alone, known[1], profile),
    )


def before(scored: _Scored, truth: dict[str, Any], *, at_touch: bool) -> float:
    """Return the score of a contest's level: at its first touch, or at the last snap before the decision."""
    price = round(truth["price"] * 4)
    mine = (scored.price == price) & (scored.snap_ns > truth["begin_ns"]) & (scored.snap_ns <= truth["decision_ns"])
    if at_touch:
        mine &= scored.touched
    at = np.flatnonzero(mine)
    return float(scored.score[at[0 if at_touch else -1]]) if len(at) else _NO_EVIDENCE


def passages(scored: _Scored, which: Any, profile: Profile) -> Pairs:
    """Return the scores of some levels at each touch, of which the price went on either way in time."""
    at = np.flatnonzero(which & scored.touched & (scored.direction != 0))
    rules = profile.passage
    found = first_passage(
        scored.path, scored.snap_ns[at], 2 * scored.price[at], scored.direction[at], 2 * rules.distance_ticks,
        rules.horizon_s * NS_PER_SECOND,
    )  # fmt: skip
    decided = np.isin(found.outcome, (BREAK, REJECT))
    return list(zip(scored.score[at][decided].tolist(), (found.outcome[decided] == BREAK).tolist(), strict=True))


def measure(count: int, workers: int, advance: Callable[[int, int], None]) -> Worth:
    """Return scores and outcomes of so many contests, and of what stands beside them."""
    markets = range(-(-count // MARKET))
    counts = [min(MARKET, count - number * MARKET) for number in markets]
    seeds, rates = [FIRST_SEED + number for number in markets], [RATES[-1 - number % len(RATES)] for number in markets]
    total = Worth([], [], [], [], [])
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for found in pool.map(play, seeds, rates, counts):
            total = total.and_(found)
            advance(len(total.touch), count)
    return total


def area(pairs: Pairs) -> tuple[float, float]:
    """Return how often the score of a break is above that of a rejection, and the standard error of chance."""
    broke = np.array([one for one, outcome in pairs if outcome])
    held = np.array([one for one, outcome in pairs if not outcome])
    if not len(broke) or not len(held):
        return 0.5, 0.5
    return auc(broke, held), ((len(broke) + len(held) + 1) / (12 * len(broke) * len(held))) ** 0.5


def bands(pairs: Pairs) -> list[tuple[float, float, int, int]]:
    """Return of each band of scores that occurs its ends, how many broke, and of how many."""
    found = []
    for low, high in pairwise(BANDS):
        outcomes = [outcome for score, outcome in pairs if low <= score < high]
        if outcomes:
            found.append((low, high, sum(outcomes), len(outcomes)))
    return found


def ascends(found: list[tuple[float, float, int, int]]) -> bool:
    """Return whether no band breaks less often than a lower one, within the intervals of both."""
    bounds = [wilson(broke, of) for *_, broke, of in found]
    return all(high[1] >= low[0] for at, high in enumerate(bounds) for low in bounds[:at])

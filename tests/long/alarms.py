"""How often levels signal where nothing is planted: `python -m tests.long alarms`.

Six hours of event time at each rate, an hour after another, each a market and a session of its own; nothing was chosen
on their seeds. By profile SIM, which has every level that ES has and a round one each 2.5 points.

Six hours at each took 31 minutes on two cores that others used as well: one BREAK at 200 rows/s, one REJECT at 500,
none at 2,000 (2026-11-30).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import profile_named
from spymaster.engines.snap import Snap
from spymaster.simulation.source import SimulatedMarket
from tests.engines.judging import snaps
from tests.long.truth import START_NS

RATES = (200, 500, 2_000)
HOURS = 6
MOST_AN_HOUR = 2.0
FIRST_SEED = 81
SIGNALS = ("BREAK", "REJECT")
STATES = ("WALL", "VACUUM", "ABSORPTION")


class Alarms(NamedTuple):
    """What was heard at a rate.

    Attributes:
        rate: rows a second.
        hours: of event time that could be judged.
        begun: how often each of SIGNALS began, over all levels.
        held: how often a level began to hold each of STATES.
    """

    rate: int
    hours: float
    begun: Counter[str]
    held: Counter[str]

    @property
    def an_hour(self) -> float:
        return self.begun.total() / self.hours if self.hours else 0.0

    def most(self, share: float) -> float:
        """Return how many signals are not too many; of less than the whole, three standard errors more."""
        most = MOST_AN_HOUR * self.hours
        return most if share >= 1 else most + 3 * most**0.5


def listen(seed: int, rate: int, seconds: int) -> Alarms:
    """Judge a market in which nothing is planted, for so many seconds after its warm-up."""
    profile, market = profile_named("SIM"), SimulatedMarket(seed, rate, START_NS)
    until_ns = START_NS + (profile.typical.warm_up_s + seconds) * NS_PER_SECOND
    begun: set[tuple[str, str, int]] = set()
    held: set[tuple[str, str, int]] = set()
    judged = 0
    for snap in snaps(market.session(with_spy=False), until_ns, profile):
        judged += snap.void_reason is None
        begun |= _seen(snap, SIGNALS, "signal", "signal_since_ns")
        held |= _seen(snap, STATES, "held_state", "held_since_ns")
    hours = judged * SNAP_NS / NS_PER_SECOND / 3_600
    return Alarms(rate, hours, *(Counter(name for name, *_ in one) for one in (begun, held)))


def _seen(snap: Snap, names: tuple[str, ...], column: str, since: str) -> set[tuple[str, str, int]]:
    """Return which levels have some of these values in a column, and since when."""
    rows = snap.levels.filter(pc.is_in(snap.levels[column], pa.array(names)))
    return set(zip(*(rows[name].to_pylist() for name in (column, "id", since)), strict=True))


def measure(share: float, workers: int, advance: Callable[[int, int], None]) -> Iterator[Alarms]:
    """Yield what was heard at each rate in so much of six hours."""
    whole, rest = divmod(round(HOURS * 3_600 * share), 3_600)
    spans = [3_600] * whole + [rest] * (rest > 0)
    cases = [(FIRST_SEED + hour, rate, seconds) for rate in RATES for hour, seconds in enumerate(spans)]
    totals = {rate: Alarms(rate, 0.0, Counter(), Counter()) for rate in RATES}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for number, found in enumerate(pool.map(listen, *zip(*cases, strict=True))):
            total = totals[found.rate]
            begun, held = total.begun + found.begun, total.held + found.held
            totals[found.rate] = Alarms(found.rate, total.hours + found.hours, begun, held)
            advance(number + 1, len(cases))
    yield from totals.values()

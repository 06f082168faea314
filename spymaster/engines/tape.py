"""Prints: who buys and who sells, how fast the price goes, and whether somebody swept through several prices.

Prints are MBP-10's own, whose side is the vendor's aggressor. They are counted in buckets of 250 ms, as integers, and a
print that comes late counts in the bucket of the snap that has it: the past it belongs to has been told already.

    imbalance  (bought - sold) / (bought + sold + v0) over `window_s`, + is up; shrunk by v0, the larger of what is
               typical for such a window and of `shrink_prints` mean prints of it, so that little volume says little.
               For `sweep_hold_s` after a sweep it is +1 or -1.
    velocity   slope of the prints' prices over `velocity_s` by least squares, ticks a second, + is up, weighted by size:
               what is printed in two parts counts as what is printed in one.
    sweep      prints of one aggressor within `sweep_gap_ms` (one instant, or the packets it came in), at `sweep_prices`
               prices or more, of `sweep_typ` typical touches or more; a crossed book or the other aggressor ends it.

Towards a level is outward from the touch: up for an ask, down for a bid, and so the sign of the imbalance is turned.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS, NS_PER_SECOND
from spymaster.engines import profile
from spymaster.engines.ledger import SNAP_NS, Longs
from spymaster.engines.rows import ASK, BID, BOOK, NO_PRICE, PRINT, BookRows
from spymaster.engines.typical import SCALE, Norms


class Sweep(NamedTuple):
    """Prints of one aggressor through several prices at once.

    Attributes:
        ts_ns: of its first print.
        direction: +1 up (a buyer), -1 down.
        prices: how many.
        contracts: how many.
        first: ticks, where it began.
        last: ticks, where it ended.
    """

    ts_ns: int
    direction: int
    prices: int
    contracts: int
    first: int
    last: int


class Traded(NamedTuple):
    """The tape at a snap.

    Attributes:
        bought: contracts in `window_s` whose aggressor bought.
        sold: likewise.
        unsided: contracts in the same window with neither.
        prints: how many were bought or sold.
        imbalance: -1 to 1, + is up.
        velocity: ticks a second, + is up; None where there are not two times.
        sweep: the newest; None before the first, or once older than `window_s`.
        coverage: share of the window since the first snap, or since `restart`.
    """

    bought: int
    sold: int
    unsided: int
    prints: int
    imbalance: float
    velocity: float | None
    sweep: Sweep | None
    coverage: float

    def towards(self, side: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return the imbalance towards levels of a side, BID or ASK; NaN of those without one (-1)."""
        return np.select([side == ASK, side == BID], [self.imbalance, -self.imbalance], np.nan)


class Tape:
    """The tape of one contract, a snap after another.

    Args:
        rules: of the profile.
        flow_s: seconds of `Norms.volume`, the profile's `barrier.flow_s`.
    """

    def __init__(self, rules: profile.Tape, flow_s: int) -> None:
        raise NotImplementedError

    def work(self, snap_ns: int, rows: BookRows, norms: Norms) -> Traded:
        """Count the rows between the snap before and this one, late ones included.

        Args:
            snap_ns: a multiple of SNAP_NS, after the one before.
            rows: in order of time, none after the snap.
            norms: what was typical before.

        Returns:
            The tape at this snap, whether the snap is void or not.
        """
        raise NotImplementedError

    def restart(self) -> None:
        """Forget what came before: prints are missing since, or the contract is another."""
        raise NotImplementedError

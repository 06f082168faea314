"""Prints: who buys and who sells, how fast the price goes, and whether somebody swept through several prices.

Prints are MBP-10's own, whose side is the vendor's aggressor. They are counted in buckets of 250 ms, as integers, and a
print that comes late counts in the bucket of the snap that has it: the past it belongs to has been told already.

    imbalance  (bought - sold) / (bought + sold + v0) over `window_s`, + is up; shrunk by v0, the larger of what is
               typical for such a window and of `shrink_prints` mean prints of it, so that little volume says little.
               For `sweep_hold_s` after a sweep it is +1 or -1.
    velocity   slope of the prints' prices over `velocity_s` by least squares, ticks a second, + is up, weighted by
               size: what is printed in two parts counts as what is printed in one.
    sweep      see `sweeps.py`.

Towards a level is outward from the touch: up for an ask, down for a bid, and so the sign of the imbalance is turned.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import profile
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.rows import ASK, BID, NO_PRICE, PRINT, BookRows
from spymaster.engines.sweeps import Sweep, Sweeps
from spymaster.engines.typical import SCALE, Norms

_UNSIDED: Final = 3  # the last of a bucket's volumes: bought, sold, prints with a side, without one
_MOMENTS: Final = 5  # of a bucket: size, and size times time, price, time squared, time times price
_TIME_NS: Final = 100_000  # the unit of time in these


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
        return np.where(side == ASK, self.imbalance, np.where(side == BID, -self.imbalance, np.nan))


class Tape:
    """The tape of one contract, a snap after another.

    Args:
        rules: of the profile.
        flow_s: seconds of `Norms.volume`, the profile's `barrier.flow_s`.
    """

    def __init__(self, rules: profile.Tape, flow_s: int) -> None:
        self._rules, self._flow_s = rules, flow_s
        self._sweeps = Sweeps(rules)
        self.restart()

    def restart(self) -> None:
        """Forget what came before: prints are missing since, or the contract is another."""
        self._volumes = np.zeros((_buckets(self._rules.window_s), _UNSIDED + 1), np.int64)
        self._moments = np.zeros((_buckets(self._rules.velocity_s), _MOMENTS), np.int64)
        self._closed: int | None = None  # the newest bucket that ended, numbered by its snap's time
        self._since = 0
        self._base = 0  # the price from which the others are counted, so that no sum leaves int64
        self._sweeps.restart()

    def work(self, snap_ns: int, rows: BookRows, norms: Norms) -> Traded:
        """Count the rows between the snap before and this one, late ones included.

        Args:
            snap_ns: a multiple of SNAP_NS, after the one before.
            rows: in order of time, none after the snap.
            norms: what was typical before.

        Returns:
            The tape at this snap, whether the snap is void or not.
        """
        newest = snap_ns // SNAP_NS
        prints = rows
        if len(rows.ts_ns):
            prints = rows.take((rows.kind == PRINT) & (rows.price != NO_PRICE) & (rows.size > 0))
        if self._closed is None:
            self._closed = self._since = (_bucket(int(prints.ts_ns[0])) if len(prints.ts_ns) else newest) - 1
            self._base = int(prints.price[0]) if len(prints.ts_ns) else 0
        self._count(prints, newest)
        self._closed = newest
        sweep = self._sweeps.work(snap_ns, rows, norms)
        if sweep is not None and snap_ns - sweep.ts_ns > self._rules.window_s * NS_PER_SECOND:
            sweep = None
        bought, sold, count, unsided = self._volumes.sum(axis=0).tolist()
        coverage = min((newest - self._since) / len(self._volumes), 1.0)
        return Traded(
            bought, sold, unsided, count, self._imbalance(snap_ns, bought, sold, count, norms, sweep),
            self._velocity(), sweep, coverage,
        )  # fmt: skip

    def _count(self, prints: BookRows, newest: int) -> None:
        """Count prints in their buckets, which end at the newest."""
        closed = newest - 1 if self._closed is None else self._closed
        for ring in (self._volumes, self._moments):
            ring[np.arange(max(closed, newest - len(ring)) + 1, newest + 1) % len(ring)] = 0
        if not len(prints.ts_ns):
            return
        ts_ns = np.maximum(prints.ts_ns, closed * SNAP_NS + 1)
        bucket, size = -(-ts_ns // SNAP_NS), prints.size.astype(np.int64)
        volumes = np.stack(
            [size * (prints.side > 0), size * (prints.side < 0), prints.side != 0, size * (prints.side == 0)]
        )
        time, price = (ts_ns - bucket * SNAP_NS) // _TIME_NS, prints.price.astype(np.int64) - self._base
        moments = np.stack([size, size * time, size * price, size * time * time, size * time * price])
        for ring, counted in ((self._volumes, volumes), (self._moments, moments)):
            recent = bucket > newest - len(ring)
            np.add.at(ring, bucket[recent] % len(ring), counted.T[recent])

    def _imbalance(self, snap_ns: int, bought: int, sold: int, count: int, norms: Norms, sweep: Sweep | None) -> float:
        rules = self._rules
        if sweep is not None and snap_ns - sweep.ts_ns <= rules.sweep_hold_s * NS_PER_SECOND:
            return float(sweep.direction)
        if not count:
            return 0.0
        typical = norms.volume * rules.window_s / (self._flow_s * SCALE)
        return (bought - sold) / (bought + sold + max(typical, rules.shrink_prints * (bought + sold) / count))

    def _velocity(self) -> float | None:
        """Return the slope of price by time, from the moments of the buckets, each of which counts from its own end."""
        size = by_time = by_price = by_time_2 = by_both = 0
        ring, newest = self._moments, self._closed or 0
        for age in range(len(ring)):
            moments = ring[(newest - age) % len(ring)].tolist()
            earlier = age * SNAP_NS // _TIME_NS
            size += moments[0]
            by_time += moments[1] - earlier * moments[0]
            by_price += moments[2]
            by_time_2 += moments[3] - 2 * earlier * moments[1] + earlier**2 * moments[0]
            by_both += moments[4] - earlier * moments[2]
        spread = size * by_time_2 - by_time**2
        return (size * by_both - by_time * by_price) / spread * (NS_PER_SECOND // _TIME_NS) if spread else None


def _buckets(seconds: int) -> int:
    return seconds * NS_PER_SECOND // SNAP_NS


def _bucket(ts_ns: int) -> int:
    return -(-ts_ns // SNAP_NS)

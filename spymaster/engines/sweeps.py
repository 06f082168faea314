"""Sweeps: prints of one aggressor through several prices at once.

A sweep is prints of one aggressor within `sweep_gap_ms` of the first (one instant, or the packets it came in), at
`sweep_prices` prices or more, of `sweep_typ` typical touches or more. The other aggressor ends it, and so does a
crossed or locked book, in which nothing is a sweep.
"""

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.engines import profile
from spymaster.engines.rows import ASK, BID, BOOK, NO_PRICE, PRINT, SNAPSHOT, BookRows
from spymaster.engines.typical import SCALE, Norms

_MOST_KEPT: Final = 4_096  # prints of the last milliseconds, to go on with at the next snap; the oldest go first


class Sweep(NamedTuple):
    """Prints of one aggressor through several prices at once.

    Attributes:
        ts_ns: of its first print.
        end_ns: of its last.
        direction: +1 up (a buyer), -1 down.
        prices: how many.
        contracts: how many.
        nearest: ticks, the best price of it.
        farthest: ticks, the worst.
    """

    ts_ns: int
    end_ns: int
    direction: int
    prices: int
    contracts: int
    nearest: int
    farthest: int


class _Prints(NamedTuple):
    """Prints with an aggressor; `span` counts the crossed books before each."""

    ts_ns: NDArray[np.int64]
    side: NDArray[np.int8]
    price: NDArray[np.int32]
    size: NDArray[np.int32]
    span: NDArray[np.int64]

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "_Prints":
        """Return the prints of a mask, indices or a slice."""
        return _Prints._make(column[which] for column in self)

    def followed_by(self, other: "_Prints") -> "_Prints":
        """Return these prints and others behind them."""
        return _Prints._make(np.concatenate((getattr(self, name), getattr(other, name))) for name in self._fields)


class Sweeps:
    """The newest sweep of one contract, a snap after another."""

    def __init__(self, rules: profile.Tape) -> None:
        self._gap_ns = rules.sweep_gap_ms * NS_PER_MS
        self._least_prices, self._least_typ = rules.sweep_prices, rules.sweep_typ
        self.restart()

    def restart(self) -> None:
        """Forget what came before."""
        self._newest: Sweep | None = None
        self._kept: _Prints | None = None
        self._crossed, self._span = False, 0

    def work(self, snap_ns: int, rows: BookRows, norms: Norms) -> Sweep | None:
        """Return the newest sweep, after the rows of a snap in order of time; norms are those before."""
        if self._kept is not None and not len(rows.ts_ns) + len(self._kept.ts_ns):
            return self._newest
        prints = self._prints(rows)
        least = {
            1 if side == ASK else -1: self._least_typ * max(int(norms.sizes[side, 0]), SCALE) for side in (BID, ASK)
        }
        for sweep in self._found(prints):
            newer = self._newest is None or sweep.ts_ns >= self._newest.ts_ns
            if newer and sweep.contracts * SCALE >= least[sweep.direction]:
                self._newest = sweep
        self._kept = prints.take(prints.ts_ns > snap_ns - self._gap_ns).take(slice(-_MOST_KEPT, None))
        return self._newest

    def _prints(self, rows: BookRows) -> _Prints:
        """Return the prints of a snap that can be of a sweep, behind those of the snap before, in order of time."""
        is_book = (rows.kind == BOOK) | (rows.kind == SNAPSHOT)
        bid, ask = rows.bid_px[:, 0], rows.ask_px[:, 0]
        crossed = is_book & (bid != NO_PRICE) & (ask != NO_PRICE) & (bid >= ask)
        newest_book = np.maximum.accumulate(np.where(is_book, np.arange(len(is_book)), -1))
        in_crossed = np.where(newest_book >= 0, crossed[newest_book], self._crossed) if len(crossed) else crossed
        span = self._span + np.cumsum(crossed)
        mine = (rows.kind == PRINT) & (rows.side != 0) & (rows.price != NO_PRICE) & (rows.size > 0) & ~in_crossed
        prints = _Prints(rows.ts_ns[mine], rows.side[mine], rows.price[mine], rows.size[mine], span[mine])
        if len(crossed):
            self._crossed, self._span = bool(in_crossed[-1]), int(span[-1])
        if self._kept is None or not len(self._kept.ts_ns):
            return prints
        both = self._kept.followed_by(prints)
        return both.take(np.argsort(both.ts_ns, kind="stable"))  # a late print may be older than those kept

    def _found(self, prints: _Prints) -> list[Sweep]:
        """Return what spans enough prices, whatever its size, in order of time."""
        if not len(prints.ts_ns):
            return []
        ends = (np.diff(prints.ts_ns) > self._gap_ns) | (np.diff(prints.side) != 0) | (np.diff(prints.span) != 0)
        edges = [0, *(np.flatnonzero(ends) + 1).tolist(), len(prints.ts_ns)]
        found = []
        for begin, end in pairwise(edges):
            if end - begin >= self._least_prices:
                found += self._within(prints.take(slice(begin, end)))
        return found

    def _within(self, run: _Prints) -> list[Sweep]:
        """Return the sweeps of one aggressor's prints between which no gap is."""
        found, begin = [], 0
        while begin <= len(run.ts_ns) - self._least_prices:
            end = int(np.searchsorted(run.ts_ns, run.ts_ns[begin] + self._gap_ns, "right"))
            one = run.take(slice(begin, end))
            prices, direction = np.unique(one.price).tolist(), int(one.side[0])
            if len(prices) < self._least_prices:
                begin += 1
                continue
            nearest, farthest = (prices[0], prices[-1])[::direction]
            first_ns, last_ns = int(one.ts_ns[0]), int(one.ts_ns[-1])
            found.append(Sweep(first_ns, last_ns, direction, len(prices), int(one.size.sum()), nearest, farthest))
            begin = end
        return found

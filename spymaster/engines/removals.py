"""Who took what is missing at a price: those who canceled, or those who traded.

A sum over a window cannot tell: over 5 s a touch is eaten and refilled many times, and nobody emptied it. So of each
price in sight is known what was canceled and what was filled since it was last full, at half its typical size or more,
until it was thin, at a quarter or less. There it stays until the price is full again, however long that takes, as what
single lots do in a thin book says nothing of who emptied it. A price that was never full has none of either, nor has
one that took longer than `within_s` to become thin: sizes wander so far by themselves.

Prices out of sight are forgotten, and at a snap that is void all are.
"""

from typing import Final

import numpy as np

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.ledger import CANCELED, FILLED, SNAP_NS, Ledger, Longs
from spymaster.engines.rows import SIDES
from spymaster.engines.typical import OFFSETS, SCALE

_FULL: Final = 2  # a size times this is the typical one
_THIN: Final = 4
_OUTWARD: Final = np.array([[-1], [1]], np.int64)  # of a side, BID and ASK
_OFFSETS: Final = np.arange(OFFSETS, dtype=np.int64)
_SHAPE: Final = (len(SIDES), OFFSETS)


class Removals:
    """What was removed at each offset, a snap after another.

    Attributes:
        pulled: (2, 10) contracts canceled.
        eaten: (2, 10) contracts filled.
    """

    def __init__(self, within_s: int) -> None:
        self._within_ns = within_s * NS_PER_SECOND
        self.forget()

    def forget(self) -> None:
        """Know nothing, as at the begin."""
        self.pulled, self.eaten = np.zeros(_SHAPE, np.int64), np.zeros(_SHAPE, np.int64)
        self._full_ns = np.zeros(_SHAPE, np.int64)  # when it was full last
        self._thin = np.ones(_SHAPE, np.bool_)  # of a price that was never full nothing counts
        self._touch: Longs | None = None
        self._snap_ns = 0

    def work(self, snap_ns: int, ledger: Ledger, touch: Longs, sizes: Longs, typical: Longs) -> None:
        """Count what was removed since the snap before.

        Args:
            snap_ns: the ledger's newest snap.
            ledger: what happened.
            touch: (2) ticks.
            sizes: (2, 10) by side and offset.
            typical: likewise, of 1 / SCALE.
        """
        prices = touch[:, None] + _OUTWARD * _OFFSETS
        if self._touch is not None:
            self._move(touch - self._touch)
            buckets = (snap_ns - self._snap_ns) // SNAP_NS
            removed, counted = ledger.newest(prices, buckets), ~self._thin
            self.pulled += removed[:, :, CANCELED] * counted
            self.eaten += removed[:, :, FILLED] * counted
        full = sizes * (_FULL * SCALE) >= typical
        self._full_ns[full] = snap_ns
        lost = full | (~self._thin & (snap_ns - self._full_ns > self._within_ns))
        self.pulled[lost] = self.eaten[lost] = 0
        self._thin = ~full & (self._thin | lost | (sizes * (_THIN * SCALE) <= typical))
        self._snap_ns, self._touch = snap_ns, touch

    def _move(self, ticks: Longs) -> None:
        """Let each price keep what it has, as the touches have moved."""
        if not ticks.any():
            return
        before = _OFFSETS + ticks[:, None] * _OUTWARD
        known, before = (before >= 0) & (before < OFFSETS), np.clip(before, 0, OFFSETS - 1)
        self.pulled, self.eaten, self._full_ns = (
            np.where(known, np.take_along_axis(one, before, axis=1), 0)
            for one in (self.pulled, self.eaten, self._full_ns)
        )
        self._thin = ~known | np.take_along_axis(self._thin, before, axis=1)

"""A session's volume by price: its point of control and its value area."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_STEP: Final = 1_024  # ticks that the array grows by
_MOST: Final = 2**16  # ticks it may span: 16,384 points of ES, 655 dollars of SPY


class ValueArea(NamedTuple):
    """In ticks: the price with most volume, and the least range round it that holds the profile's share."""

    poc: int
    vah: int
    val: int


class VolumeProfile:
    """Contracts by price, in ticks. It spans at most `_MOST` ticks; what is printed beyond is counted in `beyond`.

    Everything is the same for the mirrored market, so ties are broken by time, never by height: of the prices with most
    volume the control is at that one which had it first.
    """

    def __init__(self, value_area_pct: int) -> None:
        self.volume = 0
        self.beyond = 0
        self._pct = value_area_pct
        self._base = 0
        self._sizes: NDArray[np.int64] = np.zeros(0, np.int64)
        self._last: NDArray[np.int64] = np.zeros(0, np.int64)  # number of the last print at a price
        self._prints = 0

    def add(self, price: NDArray[np.int32], size: NDArray[np.int32]) -> None:
        """Count prints, in their order."""
        if not self._reach(int(price.min()), int(price.max())):
            inside = (price >= self._base) & (price < self._base + len(self._sizes))
            self.beyond += int(size[~inside].sum())
            price, size = price[inside], size[inside]
        at = price - self._base
        np.add.at(self._sizes, at, size)
        self._last[at] = np.arange(self._prints, self._prints + len(at))  # of equal places the last assignment stays
        self._prints += len(at)
        self.volume += int(size.sum())

    def at(self, price: int) -> int:
        """Return the contracts printed at a price."""
        place = price - self._base
        return int(self._sizes[place]) if 0 <= place < len(self._sizes) else 0

    def value_area(self) -> ValueArea | None:
        """Return control and value area; None without volume.

        From the control outward, each time the side whose next two prices have more volume is taken in, both sides
        where they have as much, until the share is reached.
        """
        traded = np.flatnonzero(self._sizes)
        if not len(traded):
            return None
        low, high = int(traded[0]), int(traded[-1])
        most = traded[self._sizes[traded] == self._sizes[traded].max()]
        control = int(most[self._last[most].argmin()])
        sizes = self._sizes[low : high + 1].tolist()
        bottom = top = control - low
        held = sizes[control - low]
        while held * 100 < self.volume * self._pct and (bottom > 0 or top < len(sizes) - 1):
            above, below = sum(sizes[top + 1 : top + 3]), sum(sizes[max(bottom - 2, 0) : bottom])
            if above >= below:
                top, held = min(top + 2, len(sizes) - 1), held + above
            if below >= above:
                bottom, held = max(bottom - 2, 0), held + below
        offset = self._base + low
        return ValueArea(self._base + control, offset + top, offset + bottom)

    def _reach(self, low: int, high: int) -> bool:
        """Let the array hold prices from `low` to `high`; False if it would be too long."""
        base, end = self._base, self._base + len(self._sizes)
        if base <= low and high < end:
            return True
        if not len(self._sizes):
            base = end = low
        new_base = base if base <= low else low - _STEP
        new_end = end if high < end else high + 1 + _STEP
        if new_end - new_base > _MOST:
            return False
        around = base - new_base, new_end - end
        self._base, self._sizes, self._last = new_base, np.pad(self._sizes, around), np.pad(self._last, around)
        return True

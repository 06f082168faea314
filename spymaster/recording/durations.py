"""How long something took, counted by bounds since the start: what a scraper makes rates and shares of."""

from bisect import bisect_left
from typing import Final

# From a sync of a fast disk to one that stalls, and to a flush of a full segment.
BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Durations:
    """Counts of durations.

    Attributes:
        counts: how many took at most each of `BOUNDS_S` and more than the one before; the last, more than all.
        total_s: their sum.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def took(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

"""How a ratio ranks in its own history, which says what a threshold tuned on another market cannot.

A history is a histogram of integers: BINS of a width of its own for each ratio, the last of which has all that is
larger. A rank is the share of earlier snaps with a smaller bin, and of half of those with the same one: 0.5 is usual, 0
the least of the session, 1 the most. It is NaN of a ratio that is NaN, and without a history.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 128

Floats = NDArray[np.float64]


class History:
    """The histories of an array of ratios in one session.

    Args:
        shape: of the array.
        widths: of the bins, broadcast to it.
    """

    def __init__(self, shape: tuple[int, ...], widths: Floats) -> None:
        self._widths = widths
        self._below = np.zeros((*shape, BINS + 1), np.int32)  # how many were in a smaller bin, at last how many at all
        self._edges = np.arange(BINS + 1, dtype=np.int16)
        self._places = np.indices(shape)

    def rank(self, ratios: Floats) -> Floats:
        """Rank ratios, none of them negative, then count them."""
        known = ~np.isnan(ratios)
        bins = np.minimum(np.where(known, ratios, 0) / self._widths, BINS - 1).astype(np.int16)
        at, total = tuple(self._places), self._below[..., -1].copy()
        twice = self._below[*at, bins] + self._below[*at, bins + 1]  # the smaller ones, and half of the same
        self._below += self._edges > np.where(known, bins, np.int16(BINS))[..., None]
        ranks: Floats = np.where(known & (total > 0), twice / np.maximum(2 * total, 1), np.nan)
        return ranks

"""The last good volatility of each expiration and strike, and where there is none that of the nearest strike.

Call and put of a strike have one volatility, by put-call parity. A volatility stays with its strike whatever the price.
"""

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.asof import Keys
from spymaster.engines.ledger import Longs

Floats = NDArray[np.float64]


class StrikeVols:
    """Volatilities by pair, the number of an expiration and strike in the order in which they came.

    Attributes:
        last: by pair; NaN where none is known.
    """

    def __init__(self) -> None:
        self.last: Floats = np.empty(0)
        self._pairs: dict[tuple[int, float], int] = {}
        self._expires_ns: Longs = np.empty(0, np.int64)
        self._strike: Floats = np.empty(0)

    def pair(self, expires_ns: int, strike: float) -> int:
        """Return the number of an expiration and strike."""
        pair = self._pairs.setdefault((expires_ns, strike), len(self._pairs))
        if pair == len(self.last):
            self.last = np.append(self.last, np.nan)
            self._expires_ns = np.append(self._expires_ns, expires_ns)
            self._strike = np.append(self._strike, strike)
        return pair

    def note(self, pair: Keys, vol: Floats) -> None:
        """Take volatilities; of several of a pair the last stays, as numpy assigns in order."""
        self.last[pair] = vol

    def note_where_unknown(self, pair: Keys, vol: Floats) -> None:
        """Take those of pairs that have none."""
        unknown = np.isnan(self.last[pair])
        self.last[pair[unknown]] = vol[unknown]

    def of(self, pair: Keys) -> Floats:
        """Return the last volatility of each, else that of the nearest strike of its expiration, else NaN."""
        vol: Floats = self.last[pair]
        missing = np.flatnonzero(np.isnan(vol))
        if not len(missing):
            return vol
        expires, known = self._expires_ns[pair[missing]], ~np.isnan(self.last)
        for at in np.unique(expires).tolist():
            there = np.flatnonzero(known & (self._expires_ns == at))
            if len(there):
                there = there[np.argsort(self._strike[there])]
                asked = missing[expires == at]
                vol[asked] = self.last[there[_nearest(self._strike[there], self._strike[pair[asked]])]]
        return vol


def _nearest(ladder: Floats, asked: Floats) -> Keys:
    """Return the place of the nearest in an ascending ladder; of two as near the lower."""
    above = np.clip(np.searchsorted(ladder, asked), 0, len(ladder) - 1)
    below = np.maximum(above - 1, 0)
    return np.where(np.abs(asked - ladder[below]) <= np.abs(ladder[above] - asked), below, above)

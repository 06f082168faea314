"""The latest row at or before a time, where rows may come late: what was known of something when something else was.

The rows of the last `keep_ns` are kept one by one, so that also who comes late, by no more than that, finds what stood
then and nothing later. Of older ones the newest of each key is kept.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.compiled import loops
from spymaster.engines.ledger import Longs

MOST_KEYS: Final = 1 << 15
_TIME_BITS: Final = 48  # of a key with a time: 78 hours, and a session has 24
_MOST_KEPT: Final = 1 << 18  # rows; of more, the oldest count as older than `keep_ns`
_NEVER: Final = -(2**62)

Floats = NDArray[np.float64]
Keys = NDArray[np.intp]


class AsOf:
    """Rows of `columns` values by key, 0 to MOST_KEYS - 1."""

    def __init__(self, columns: int, keep_ns: int) -> None:
        self._keep_ns, self._loops = keep_ns, loops()
        self._old = np.full((0, columns), np.nan)  # by key, the newest of those that are not kept one by one
        self._old_ns = np.empty(0, np.int64)
        self._key = np.empty(0, np.intp)  # of the others, which are in order of key and time
        self._ts_ns = np.empty(0, np.int64)
        self._values = np.empty((0, columns))

    def add(self, key: Keys, ts_ns: Longs, values: Floats) -> None:
        """Add rows; of two of one key and time the one that was added later is the later.

        Args:
            key: (n).
            ts_ns: (n) in any order of keys, and of one key in that of time, but for what comes late.
            values: (n, columns).
        """
        if not len(key):
            return
        key, ts_ns = np.concatenate([self._key, key]), np.concatenate([self._ts_ns, ts_ns])
        values = np.concatenate([self._values, values])
        if not _ordered(key, ts_ns):
            order = np.lexsort((ts_ns, key))  # stable
            key, ts_ns, values = key[order], ts_ns[order], values[order]
        self._key, self._ts_ns, self._values = key, ts_ns, values
        self._grow(int(key[-1]) + 1)

    def at(self, key: Keys, ts_ns: Longs, *, included: bool = True) -> Floats:
        """Return the latest values of keys before times, or at them where that is `included`; NaN where there are none.

        Args:
            key: (n).
            ts_ns: (n).
            included: whether a row of the very time counts.

        Returns:
            (n, columns).
        """
        found = np.full((len(key), self._values.shape[1]), np.nan)
        if self._loops is not None:
            known = self._key, self._ts_ns, self._values, self._old_ns, self._old
            self._loops.look_up(*known, key, ts_ns, included, found)
            return found
        begin = int(self._ts_ns.min()) if len(self._ts_ns) else 0
        kept, asked = _joined(self._key, self._ts_ns, begin), _joined(key, ts_ns, begin)
        place = np.searchsorted(kept, asked, side="right" if included else "left") - 1
        among = (place >= 0) & (ts_ns >= begin)
        among[among] = self._key[place[among]] == key[among]
        found[among] = self._values[place[among]]
        rest = ~among & (key < len(self._old))
        rest[rest] = self._old_ns[key[rest]] <= ts_ns[rest] - (not included)
        found[rest] = self._old[key[rest]]
        return found

    def age(self, now_ns: int) -> None:
        """Let rows from before `now_ns` - `keep_ns` count as old ones, of which the newest of each key is kept."""
        before_ns = now_ns - self._keep_ns
        if len(self._ts_ns) > _MOST_KEPT:
            before_ns = max(before_ns, int(np.sort(self._ts_ns)[-_MOST_KEPT - 1]) + 1)
        if self._loops is not None:
            known = self._key, self._ts_ns, self._values, self._old_ns, self._old
            left = self._loops.age(*known, before_ns)
            self._key, self._ts_ns, self._values = self._key[:left], self._ts_ns[:left], self._values[:left]
            return
        old = self._ts_ns < before_ns
        key, ts_ns, values = self._key[old], self._ts_ns[old], self._values[old]
        last = np.append(key[1:] != key[:-1], True)[: len(key)]
        key, ts_ns, values = key[last], ts_ns[last], values[last]
        newer = ts_ns >= self._old_ns[key]
        self._old[key[newer]], self._old_ns[key[newer]] = values[newer], ts_ns[newer]
        self._key, self._ts_ns, self._values = self._key[~old], self._ts_ns[~old], self._values[~old]

    def _grow(self, count: int) -> None:
        more = count - len(self._old)
        if more > 0:
            self._old = np.concatenate([self._old, np.full((more, self._old.shape[1]), np.nan)])
            self._old_ns = np.concatenate([self._old_ns, np.full(more, _NEVER)])


def latest(key: Keys, known: NDArray[np.bool_]) -> Keys:
    """Return for each row the last one of its key, at or before it, that is known; -1 where there is none.

    Args:
        key: (n) of rows in their order.
        known: (n).
    """
    order = np.argsort(key, kind="stable")
    place = np.where(known[order], np.arange(len(key)), -1)
    place = np.maximum.accumulate(place) if len(place) else place
    sorted_key = key[order]
    here = (place >= 0) & (sorted_key[place] == sorted_key)
    found = np.full(len(key), -1, np.intp)
    found[order[here]] = order[place[here]]
    return found


def _ordered(key: Keys, ts_ns: Longs) -> bool:
    """Return whether rows are in order of key and time, as those of one key mostly come."""
    same = key[1:] == key[:-1]
    in_time = ts_ns[1:] >= ts_ns[:-1]
    return bool(in_time.all() and same.all()) or bool(((key[1:] > key[:-1]) | (same & in_time)).all())


def _joined(key: Keys, ts_ns: Longs, begin_ns: int) -> Longs:
    """Return numbers that sort by key, then by time."""
    since = np.clip(ts_ns - begin_ns, 0, (1 << _TIME_BITS) - 1)
    joined: Longs = (key.astype(np.int64) << _TIME_BITS) + since
    return joined

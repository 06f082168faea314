"""What became of touches: the mids that the judge saw, and `engines/passage.py` over them.

The path is of every sound book of the contract, or quote of a stock, that a snap had seen, so mids and not prints, and
not the mids of snaps alone. What a snap had not seen in its time is no part of it: a book that came after its snap was
never the newest one. So the path up to a snap is a function of what that snap had seen, and an outcome is known from
the snap on that had seen what decided, or the end of the horizon.

Of a void snap nothing is known since the one before, but for a warm-up, in which the book is sound and only what is
typical is missing; and a hole within a piece ends the path until what follows the hole. Where the data ends before an
outcome, there is none: nobody knows yet, or will not.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import barrier
from spymaster.engines.passage import BREAK, NEITHER, NO_MID, OUTCOMES, REJECT, UNKNOWN, Path, first_passage
from spymaster.engines.profile import Passage
from spymaster.engines.snap import Snap
from spymaster.lake import datasets

_BOOK_KNOWN: Final = frozenset({None, barrier.REASONS[barrier.NOT_WHOLE], barrier.REASONS[barrier.WARM_UP]})
_NO_TIME: Final = -(2**63)

Longs = NDArray[np.int64]


class Touched(NamedTuple):
    """Touches, n of them, in order of their snaps.

    Attributes:
        id: of each.
        snap_ns: of each.
        price: ticks.
        direction: +1 a break goes up, -1 down; 0 has none, and no outcome.
    """

    id: Sequence[str]
    snap_ns: Longs
    price: Longs
    direction: Longs


class Mids:
    """The path of one session, a snap after another. Memory: 16 bytes for each change of the mid."""

    def __init__(self) -> None:
        self._snaps: list[int] = []
        self._reasons: list[str | None] = []  # why each was void
        self._ts_ns: list[Longs] = []
        self._mid: list[Longs] = []
        self._newest = NO_MID

    def add(self, snap: Snap) -> None:
        """Add what a snap had seen since the one before."""
        before = self._snaps[-1] if self._snaps else _NO_TIME
        self._snaps.append(snap.snap_ns)
        self._reasons.append(snap.void_reason)
        spot = snap.market.spot
        known = spot is not None and snap.void_reason in _BOOK_KNOWN
        if self._newest != NO_MID and (not known or snap.whole_since_ns > before):
            self._append(np.array([before + 1]), np.array([NO_MID]))
        if not known or spot is None:
            return
        ts_ns, mid = snap.mids
        fresh = (ts_ns > before) & (ts_ns >= snap.whole_since_ns if snap.whole_since_ns > before else True)
        if fresh.any():
            self._append(ts_ns[fresh], mid[fresh])
        elif self._newest == NO_MID:  # it stood through a halt
            self._append(np.array([snap.snap_ns]), np.array([spot]))

    def _append(self, ts_ns: Longs, mid: Longs) -> None:
        changed = np.diff(mid, prepend=self._newest) != 0
        self._newest = int(mid[-1])
        if changed.any():
            self._ts_ns.append(ts_ns[changed])
            self._mid.append(mid[changed])

    def outcomes(self, touched: Touched, rules: Passage) -> pa.Table:
        """Return what is known of touches: the columns of `OUTCOMES` but its keys, in order of when it was known."""
        own = [column for column in datasets.OUTCOMES.columns if column.name not in datasets.OUTCOMES.keys]
        at = np.flatnonzero(touched.direction)
        if not len(at):
            return pa.schema(own).empty_table()
        none = np.empty(0, np.int64)
        path = Path(np.concatenate([none, *self._ts_ns]), np.concatenate([none, *self._mid]), self._snaps[-1])
        start, price, direction = touched.snap_ns[at], 2 * touched.price[at], touched.direction[at]
        found = first_passage(path, start, price, direction, 2 * rules.distance_ticks, rules.horizon_s * NS_PER_SECOND)
        last = np.searchsorted(path.ts_ns, found.when_ns, "right") - 1  # the mid that stood when it was decided
        decided = (found.outcome != UNKNOWN) | (last < 0) | (path.mid[last] == NO_MID if len(path.mid) else True)
        snaps = np.array(self._snaps)
        known = np.searchsorted(snaps, found.when_ns)
        void = np.cumsum([0, *(reason is not None for reason in self._reasons)])
        whole = void[known + 1] == void[np.searchsorted(snaps, start)]
        rows = []
        for row in np.flatnonzero(decided).tolist():
            outcome, when_ns = int(found.outcome[row]), int(found.when_ns[row])
            beyond, back = _excursions(path, int(start[row]), int(last[row]), int(price[row]), int(direction[row]))
            is_known = outcome in (BREAK, REJECT, NEITHER)
            rows.append(
                {
                    "touch_id": touched.id[at[row]],
                    "outcome": OUTCOMES[outcome],
                    "decided_ns": when_ns,
                    "outcome_known_ns": int(snaps[known[row]]),
                    "beyond_ticks": beyond if is_known else None,
                    "back_ticks": back if is_known else None,
                    "data_whole": bool(whole[row]),
                    "unknown_because": None if is_known else self._why(int(known[row])),
                }
            )
        rows.sort(key=lambda row: (row["outcome_known_ns"], row["touch_id"]))
        return pa.Table.from_pylist(rows, pa.schema(own))

    def _why(self, number: int) -> str:
        return self._reasons[number] or barrier.REASONS[barrier.NOT_WHOLE]


def _excursions(path: Path, start_ns: int, last: int, price: int, direction: int) -> tuple[float, float]:
    """Return how far the mid went beyond a level and back from it, in ticks, since a start until a point, included."""
    first = int(np.searchsorted(path.ts_ns, start_ns, "right")) - 1
    gone = direction * (path.mid[max(first, 0) : last + 1] - price)
    gone = gone[np.abs(gone) < -NO_MID // 2]
    return (max(float(gone.max()), 0.0) / 2, max(float(-gone.min()), 0.0) / 2) if len(gone) else (0.0, 0.0)

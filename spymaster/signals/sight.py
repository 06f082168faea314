"""Which levels of a snap people see, and the snap as a JSON document."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.engines.snap import SIGNALS, Snap

MOST_IN_SIGHT: Final = 16  # levels of a snap: what a screen shows
_NEAREST: Final = 4  # on each side, though they be outside of the monitor band
_OF_SNAP: Final = frozenset(SIGNALS.names[: SIGNALS.names.index("id")])  # what all its levels have alike
_HOTZONE: Final = "USER_HOTZONE"


def in_sight(levels: pa.RecordBatch, most: int = MOST_IN_SIGHT) -> pa.RecordBatch:
    """Return the levels in the monitor band, the four nearest on each side of the mid, and the user's hot zones.

    Args:
        levels: of a snap, ascending by price.
        most: rows; beyond, hot zones stay first, then the nearest.
    """
    distance: NDArray[np.float64] = levels.column("distance_ticks").to_numpy()
    seen = levels.column("in_sight").to_numpy(zero_copy_only=False).copy()
    middle = int(np.searchsorted(distance, 0))
    seen[max(middle - _NEAREST, 0) : middle + _NEAREST] = True
    hot = _hot(levels.column("kinds"))
    rows = np.flatnonzero(seen | hot)
    order = np.lexsort((np.abs(distance[rows]), ~hot[rows]))
    return levels.take(np.sort(rows[order[:most]]))


def _hot(kinds: Any) -> NDArray[np.bool_]:
    """Return which levels have a hot zone among them."""
    parents = pc.list_parent_indices(kinds).to_numpy()
    named: Any = pc.equal(kinds.flatten(), pa.scalar(_HOTZONE))
    hot = np.zeros(len(kinds), np.bool_)
    hot[parents[named.to_numpy(zero_copy_only=False)]] = True
    return hot


def document(snap: Snap, profile: str, underlying: str, ids: Sequence[str] = ()) -> dict[str, Any]:
    """Return a snap as JSON: what it says of itself, and its levels in sight.

    Args:
        snap: the snap.
        profile: the name of what it was judged by.
        underlying: whose prices they are.
        ids: only levels that have one of these, wherever they are; all in sight if none.
    """
    levels = in_sight(snap.levels)
    if ids:
        found = [bool({*(each or ())} & {*ids}) for each in snap.levels.column("ids").to_pylist()]
        levels = snap.levels.filter(pa.array(found, pa.bool_()))
    rows = levels.select([name for name in SIGNALS.names if name not in _OF_SNAP])
    return {
        "ts": snap.snap_ns // NS_PER_MS,
        "ts_event_ns": snap.snap_ns,
        underlying.lower(): {"spot": snap.spot, "bid": snap.bid, "ask": snap.ask},
        "profile": profile,
        "profile_hash": snap.profile_hash,
        "session": snap.session,
        "contract": snap.contract,
        "age_ns": snap.age_ns,
        "whole_since_ns": snap.whole_since_ns,
        "void_reason": snap.void_reason,
        "levels": rows.to_pylist(),
    }

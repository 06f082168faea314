"""Which levels of a snap people see, and Gold has; the snap, and dealer gamma at it, as JSON documents."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.engines.aggressor import HOW
from spymaster.engines.board import VOL_FROM
from spymaster.engines.dealer import Shares
from spymaster.engines.fuel import EFFECTS
from spymaster.engines.snap import Snap
from spymaster.signals import payload

MOST_IN_SIGHT: Final = 16  # levels of a snap: what a screen shows
_NEAREST: Final = 4  # on each side, though they be outside of the monitor band
STRIKE_COLUMNS: Final = ("strike", "open_interest", "volume", "flow", "flow_open")
_HOTZONE: Final = "USER_HOTZONE"
_TOLD: Final = ["id", "held_state", "signal"]
_NOTHING: Final = [None, "NEUTRAL"]


class Sight:
    """Chooses, snap after snap, which levels are in sight; has the memory that this needs.

    In sight are those in the monitor band, the four nearest on each side of the mid, the user's hot zones, and those
    whose state that holds, or whose signal, is another one than at the snap before.
    """

    def __init__(self) -> None:
        """Begin with nothing known of a snap before."""
        self._session: str | None = None
        self._before: pa.RecordBatch | None = None  # `_TOLD` of the snap before
        self._kinds: pa.Array | None = None
        self._hot: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def rows(self, snap: Snap) -> pa.RecordBatch:
        """Return the levels in sight, ascending by price, of the columns SIGNALS; at most `MOST_IN_SIGHT`.

        Beyond, those that changed and hot zones stay first, then the nearest.

        Args:
            snap: the next of its session; a session's first begins anew.
        """
        levels = snap.levels
        if snap.session != self._session:
            self._session, self._before = snap.session, None
        first = self._hot_ones(levels.column("kinds")) | self._changed(levels.select(_TOLD))
        distance: NDArray[np.float64] = levels.column("distance_ticks").to_numpy()
        seen = levels.column("in_sight").to_numpy(zero_copy_only=False) | first
        middle = int(np.searchsorted(distance, 0))
        seen[max(middle - _NEAREST, 0) : middle + _NEAREST] = True
        rows = np.flatnonzero(seen)
        if len(rows) > MOST_IN_SIGHT:
            order = np.lexsort((np.abs(distance[rows]), ~first[rows]))
            rows = np.sort(rows[order[:MOST_IN_SIGHT]])
        return _rows_of(levels, rows)

    def _hot_ones(self, kinds: pa.Array) -> NDArray[np.bool_]:
        """Return which levels have a hot zone among them; what kinds there are changes seldom."""
        if self._kinds is None or not kinds.equals(self._kinds):
            self._kinds, self._hot = kinds, _hot(kinds)
        return self._hot

    def _changed(self, told: pa.RecordBatch) -> NDArray[np.bool_]:
        """Return which levels say something else than before; what is new said nothing before."""
        before, self._before = self._before, told
        if before is None or told.equals(before):
            return np.zeros(told.num_rows, np.bool_)
        known = {name: said for name, *said in _values(before)}
        return np.array([known.get(name, _NOTHING) != said for name, *said in _values(told)], np.bool_)


def _values(told: pa.RecordBatch) -> "zip[tuple[Any, ...]]":
    return zip(*(column.to_pylist() for column in told.columns), strict=True)


def _rows_of(levels: pa.RecordBatch, rows: NDArray[np.intp]) -> pa.RecordBatch:
    """Return some rows, in order. They mostly lie side by side, and to cut them out copies nothing."""
    if not len(rows):
        return levels.slice(0, 0)
    breaks = np.flatnonzero(np.diff(rows) > 1) + 1
    pieces = [levels.slice(int(run[0]), len(run)) for run in np.split(rows, breaks)]
    if len(pieces) == 1:
        return pieces[0]
    joined: pa.RecordBatch = pa.concat_batches(pieces)  # type: ignore[attr-defined]  # the stubs lack it
    return joined


def _hot(kinds: Any) -> NDArray[np.bool_]:
    parents = pc.list_parent_indices(kinds).to_numpy()
    named: Any = pc.equal(kinds.flatten(), pa.scalar(_HOTZONE))
    hot = np.zeros(len(kinds), np.bool_)
    hot[parents[named.to_numpy(zero_copy_only=False)]] = True
    return hot


def gamma_document(snap: Snap, profile: str, underlying: str) -> dict[str, Any]:
    """Return dealer gamma at a snap as JSON: strikes three ways, walls, flip, what they rest on.

    Args:
        snap: the snap.
        profile: the name of what it was judged by.
        underlying: whose options they are.
    """
    gamma = snap.gamma
    strikes, fuel = gamma.strikes, gamma.fuel
    figures = (strikes.strike, strikes.by_open_interest, strikes.by_volume, strikes.flow, strikes.flow_open)
    (effect,) = fuel.effect.tolist()
    net, error = (None if np.isnan(one[0]) else float(one[0]) for one in (fuel.net, fuel.error))
    return {
        **_head(snap, profile, underlying),
        "call_wall": gamma.walls.call,
        "put_wall": gamma.walls.put,
        "gamma_flip": gamma.flip,
        "looked_ns": gamma.looked_ns,
        "pressure": gamma.pressure,
        "pressure_change": gamma.pressure_change,
        "fuel": {"effect": EFFECTS[effect], "net": net, "error": error, "prints": float(fuel.speak[0])},
        "flow_turn": None if gamma.turn_ns is None else {"ts_event_ns": gamma.turn_ns, "dealers": gamma.turn},
        "shares": _shares(gamma.shares),
        "refused": gamma.refused,
        "unnamed": gamma.unnamed,
        "strikes": [
            dict(zip(STRIKE_COLUMNS, row, strict=True)) for row in zip(*(one.tolist() for one in figures), strict=True)
        ],
    }


def _shares(shares: Shares) -> dict[str, Any]:
    """Return what the figures rest on: counts, by name."""
    return {
        "prints": shares.prints,
        "aggressor": dict(zip(HOW, shares.how.tolist(), strict=True)),
        "volatility": dict(zip(VOL_FROM, shares.vol_from.tolist(), strict=True)),
        "open_interest": shares.interest,
        "open_interest_valued": shares.valued,
    }


def document(snap: Snap, profile: str, underlying: str, ids: Sequence[str] = ()) -> dict[str, Any]:
    """Return a snap as the JSON document of `levels.signals`.

    Args:
        snap: the snap.
        profile: the name of what it was judged by.
        underlying: whose prices they are.
        ids: only levels that have one of these, wherever they are; all in sight if none.
    """
    if ids:
        found = [bool({*(each or ())} & {*ids}) for each in snap.levels.column("ids").to_pylist()]
        levels = snap.levels.filter(pa.array(found, pa.bool_()))
    else:
        levels = Sight().rows(snap)
    return payload.document(payload.rows(snap, levels, underlying, profile), payload.head(snap, underlying, profile))


def _head(snap: Snap, profile: str, underlying: str) -> dict[str, Any]:
    """Return whose snap it is, and of when."""
    return {
        "ts": snap.snap_ns // NS_PER_MS,
        "ts_event_ns": snap.snap_ns,
        underlying.lower(): {"spot": snap.spot, "bid": snap.bid, "ask": snap.ask},
        "profile": profile,
        "profile_hash": snap.profile_hash,
        "session": snap.session,
        "contract": snap.contract,
    }

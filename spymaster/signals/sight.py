"""Which levels of a snap people see, and the snap as a JSON document."""

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
from spymaster.engines.snap import SIGNALS, Snap

MOST_IN_SIGHT: Final = 16  # levels of a snap: what a screen shows
_NEAREST: Final = 4  # on each side, though they be outside of the monitor band
STRIKE_COLUMNS: Final = ("strike", "open_interest", "volume", "flow", "flow_open")
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
        **_head(snap, profile, underlying),
        "age_ns": snap.age_ns,
        "whole_since_ns": snap.whole_since_ns,
        "void_reason": snap.void_reason,
        "levels": rows.to_pylist(),
    }


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

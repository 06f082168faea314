"""A snap as the page has it: the levels that Gold has of it, and the nearest on each side, by their id.

Values are Gold's own, under the names that the page uses; scores and points are rounded to .01, shares and rates to
.001, prices are exact. What is null is left out.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from spymaster.engines.snap import Snap
from spymaster.gateway.patch import Document, known
from spymaster.signals import payload

NEAREST: Final = 8  # on each side, beside those that Gold has
OF_SESSION: Final = frozenset({"VWAP", "POC", "VAH", "VAL"})  # kinds that are sums over all of a session

_LEVEL: Final = {
    "price": "level_price", "ids": "level_ids", "kinds": "level_kinds", "fixed": "level_fixed", "whole": "level_whole",
    "direction": "level_direction", "distance_ticks": "level_distance_ticks", "in_sight": "level_in_sight",
    "touched": "level_touched", "touches": "level_touches", "score": "break_score_smooth", "raw": "break_score_raw",
    "signal": "signal", "signal_since_ns": "signal_since_ns", "confidence": "confidence", "note": "note",
    "p_break": "p_break", "p_reject": "p_reject", "p_neither": "p_neither", "p_horizon_s": "p_horizon_s",
    "model_id": "model_id", "model_note": "model_note",
}  # fmt: skip
_GROUPS: Final = {
    "points": {name: f"break_score_{name}" for name in ("barrier", "tape", "fuel")},
    "barrier": {
        name: f"barrier_{name}"
        for name in (
            "side", "state", "held_state", "held_since_ns", "void_reason", "coverage", "depth", "typical_depth",
            "added_5s", "canceled_5s", "filled_5s", "added_60s", "canceled_60s", "filled_60s", "wall_ratio",
            "depth_ratio", "eaten_ratio", "replenishment_ratio_60s",
        )
    },
    "tape": {
        name: f"tape_{name}"
        for name in (
            "imbalance", "bought", "sold", "coverage", "velocity_ticks_s", "sweep_direction", "sweep_age_ns",
            "sweep_contracts",
        )
    },
    "fuel": {
        name: f"fuel_{name}"
        for name in ("effect", "net", "error", "prints", "gamma_open_interest", "gamma_volume", "gamma_flow")
    },
    "runway": {
        name: f"runway_{name}"
        for name in ("direction", "next_id", "next_ticks", "strong_id", "strong_ticks", "quality")
    },
}  # fmt: skip
_COLUMNS: Final = ["level_id", *_LEVEL.values(), *(name for group in _GROUPS.values() for name in group.values())]
_HUNDREDTHS: Final = frozenset(
    {"break_score_smooth", "break_score_raw", "break_score_barrier", "break_score_tape", "break_score_fuel"}
)
_EXACT: Final = frozenset({"level_price", "level_distance_ticks", "runway_next_ticks", "runway_strong_ticks"})


def judged_document(snap: Snap, in_gold: pa.RecordBatch | None, underlying: str, profile: str) -> Document:
    """Return a snap as a page has it.

    Args:
        snap: the snap.
        in_gold: its rows in Gold, of GOLD; None if they did not come here.
        underlying: whose prices they are.
        profile: the name of what it was judged by.
    """
    head = payload.head(snap, underlying, profile)
    levels = _chosen(snap, in_gold)
    rows = payload.rows(snap, levels, underlying, profile)
    kinds = zip(levels.column("kinds").to_pylist(), levels.column("level_whole").to_pylist(), strict=True)
    names = ("ts_event_ns", "session", "contract", "spot", "bid", "ask", "age_ns", "whole_since_ns", "void_reason",
             "void_until_ns")  # fmt: skip
    found: Document = known(
        {
            **{name: head[name] for name in names},
            "vwap_gap": any(not whole and not OF_SESSION.isdisjoint(own or ()) for own, whole in kinds),
            "levels": {row["level_id"]: level_document(row) for row in rows.select(_COLUMNS).to_pylist()},
        }
    )
    return found


def level_document(row: Mapping[str, Any]) -> Document:
    """Return a row of Gold as a page has it; what is null is null."""
    return {
        **{name: _rounded(column, row[column]) for name, column in _LEVEL.items()},
        **{
            group: {name: _rounded(column, row[column]) for name, column in columns.items()}
            for group, columns in _GROUPS.items()
        },
    }


def _rounded(column: str, value: Any) -> Any:
    if not isinstance(value, float) or column in _EXACT:
        return value
    return round(value, 2 if column in _HUNDREDTHS else 3)


def _chosen(snap: Snap, in_gold: pa.RecordBatch | None) -> pa.RecordBatch:
    """Return the levels that a page gets, ascending by price."""
    levels = snap.levels
    distance = levels.column("distance_ticks").to_numpy()
    middle = int(np.searchsorted(distance, 0))
    seen = np.zeros(levels.num_rows, np.bool_)
    seen[max(middle - NEAREST, 0) : middle + NEAREST] = True
    if in_gold is not None:
        own = frozenset(in_gold.column("level_id").to_pylist())
        seen |= np.array([name in own for name in levels.column("id").to_pylist()], np.bool_)
    chosen: pa.RecordBatch = levels.filter(pa.array(seen))
    return chosen

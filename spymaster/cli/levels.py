"""A snap in words, for `signals` and the live screen: a line of what it says of itself, and its levels as rows."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from spymaster import clock

TEXTS: Final = ("level", "state", "signal", "why not")
COLUMNS: Final = ("price", "level", "ticks away", "state", "score", "signal", "confidence", "why not")


def head(snap: Mapping[str, Any]) -> str:
    """Return what a snap says of itself, a line."""
    void = f"VOID: {snap['void_reason']}" if snap["void_reason"] else "sound"
    since_ns = snap["whole_since_ns"]
    since = "" if since_ns is None else f", whole since {clock.utc_text(since_ns)[11:19]}"
    return f"{quote(snap)}, {void}{since}"


def quote(snap: Mapping[str, Any]) -> str:
    """Return whose snap it is, its quote, time and contract."""
    underlying, of = _quoted(snap)
    at = clock.utc_text(snap["ts_event_ns"])[11:23]
    price = "no quote" if of["bid"] is None else f"{of['bid']:g} / {of['ask']:g}"
    return f"{underlying.upper()} {price} at {at} UTC, {snap['contract']}"


def spot(snap: Mapping[str, Any]) -> float | None:
    """Return its mid, None without a quote."""
    mid: float | None = _quoted(snap)[1]["spot"]
    return mid


def _quoted(snap: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the underlying and its quote, which stands under its name."""
    return next((name, of) for name, of in snap.items() if isinstance(of, dict) and "bid" in of)


def rows(levels: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """Return the rows of `COLUMNS`, the highest price first."""
    return [
        [
            level["price"],
            ", ".join(level["ids"] or [level["id"]]),
            level["distance_ticks"],
            level["barrier"]["held_state"] or level["barrier"]["state"],
            None if level["break_score_smooth"] is None else round(level["break_score_smooth"], 1),
            None if level["signal"] == "NEUTRAL" else level["signal"],
            None if level["confidence"] is None else round(level["confidence"], 2),
            level["barrier"]["void_reason"],
        ]
        for level in reversed(levels)
    ]

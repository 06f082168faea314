"""What a level is made of: a price by rule, a print, a row of `system.zones`, or more than can be listed."""

from collections.abc import Mapping
from typing import Any, Final

from spymaster.engines.profile import Profile
from spymaster.events import FUTURES_MBP10, SYSTEM_SYMBOL, SYSTEM_ZONES
from spymaster.events.zones import SET
from spymaster.query.lake import Lake
from spymaster.signals.feed import Roots
from spymaster.signals.moment import Moment
from spymaster.signals.trace import Trace

_BY_PRINT: Final = (
    "PM_HIGH", "PM_LOW", "OVERNIGHT_HIGH", "OVERNIGHT_LOW", "OR_HIGH", "OR_LOW", "IB_HIGH", "IB_LOW", "SESSION_HIGH",
    "SESSION_LOW",
)  # fmt: skip
_MEANT: Final = {
    "USER_HOTZONE": "a row of system.zones",
    "PRIOR_DAY_HIGH": "prints of the session before",
    "PRIOR_DAY_LOW": "prints of the session before",
    "ROUND": "a rule: each multiple of round_spacing_ticks",
    "STRIKE": "the terms of options that were known",
    "CALL_WALL": "open interest or volume of all options, at a look",
    "PUT_WALL": "open interest or volume of all options, at a look",
    "GAMMA_FLIP": "open interest or volume of all options, at a look",
    "POC": "each print of the session",
    "VAH": "each print of the session",
    "VAL": "each print of the session",
    "VWAP": "each print of the session",
    "SMA_200": "closes of two minutes, of this session and earlier ones",
    "SMA_400": "closes of two minutes, of this session and earlier ones",
}
_ZONE: Final = """
    select capture_id, capture_seq, ts_event_ns, price from system_zones
    where underlying = ? and zone = ? and event = ? and ts_event_ns <= ?
    order by ts_recv_ns desc, capture_seq desc limit 1
"""


def set_by_print(values: Mapping[str, Any], since_ns: Mapping[str, int]) -> int | None:
    """Return the snap with which a print set a level's price, the latest of the kinds at it; None where none did."""
    return max((since_ns[kind] for kind in values["kinds"] if kind in _BY_PRINT and kind in since_ns), default=None)


def made_by(
    roots: Roots, profile: Profile, moment: Moment, values: Mapping[str, Any], found: Trace
) -> list[dict[str, Any]]:
    """Return of each level at the price what made it, since when it is there, and the row, where one is the reason.

    Args:
        roots: lake and log.
        profile: the numbers.
        moment: the snap.
        values: the row of the level.
        found: the rows behind it.

    Raises:
        SpymasterError, OSError: log or lake cannot be read.
    """
    latest = set_by_print(values, moment.since_ns)
    made = []
    for name, kind in zip(values["ids"], values["kinds"], strict=True):
        since_ns, rows = moment.since_ns.get(kind), []
        if kind in _BY_PRINT and since_ns == latest and found.set_by is not None:
            row = found.set_by
            key = found.keys.of(FUTURES_MBP10.name, row.place)._asdict()
            rows = [{"schema": FUTURES_MBP10.name, **key, "ts_event_ns": row.ts_ns, "what": "print"}]
            rows[0] |= {"price": values["price"], "size": row.size, "aggressor": row.side}
        if kind == "USER_HOTZONE":
            rows = _zone(roots, profile, name.removeprefix("HOTZONE_"), moment.snap.snap_ns)
            since_ns = rows[0]["ts_event_ns"] if rows else None
        made.append({"id": name, "kind": kind, "since_ns": since_ns, "of": _MEANT.get(kind, "a print"), "rows": rows})
    return made


def _zone(roots: Roots, profile: Profile, name: str, snap_ns: int) -> list[dict[str, Any]]:
    given = [profile.market.underlying, name, SET, snap_ns]
    with Lake(*roots) as lake, lake.stream(_ZONE, given) as batches:
        rows = batches.read_all().to_pylist()
    return [{"schema": SYSTEM_ZONES.name, "symbol": SYSTEM_SYMBOL, **row, "what": "set"} for row in rows]

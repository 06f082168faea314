"""The snap that stood at a time, worked again, and the level in it that somebody asks for."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from spymaster.clock import utc_text
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.errors import LayoutError, UsageError
from spymaster.query.sessions import session_at
from spymaster.signals.feed import Roots
from spymaster.signals.past import Past

KEPT: Final = 241  # snaps up to the one that is asked for: a minute
_NAMED_BY_LOOK: Final = ("CALL_WALL", "PUT_WALL", "GAMMA_FLIP")
_MOST_NAMED: Final = 6  # levels that an error lists


class Moment(NamedTuple):
    """A snap of the past.

    Attributes:
        session: it is of.
        past: its session's snaps, worked up to it.
        number: of it among those on record; None where none are.
        mark: WARM or SNAP.
        snaps: those of the minute before, and it as the last.
        since_ns: by kind, the snap since which a named price has been where it is.
    """

    session: Session
    past: Past
    number: int | None
    mark: str
    snaps: list[Snap]
    since_ns: Mapping[str, int]

    @property
    def snap(self) -> Snap:
        """The snap."""
        return self.snaps[-1]


def moment_at(roots: Roots, profile: Profile, at_ns: int) -> Moment:
    """Work the snap of a time again: the one that stands at the 250 ms in which the time lies.

    Args:
        roots: lake and log.
        profile: the numbers.
        at_ns: UTC nanoseconds.

    Raises:
        UsageError: there is no such snap; it says which is the nearest.
        SpymasterError, OSError: log or lake cannot be read.
    """
    session = session_at(at_ns, profile.market.calendar)
    if session is None:
        raise UsageError(
            f"{utc_text(at_ns)} is in no session of {profile.name}. Nothing was explained. Next: a time of one"
        )
    snap_ns = at_ns // SNAP_NS * SNAP_NS
    past = Past(*roots, profile, session)
    if past.chain is not None:
        _require(past.chain.snap_ns.tolist(), snap_ns, session)
    snaps: deque[Snap] = deque(maxlen=KEPT)
    prices: dict[str, tuple[float, int]] = {}
    for mark, snap in past.snaps():
        if snap is None:
            continue
        if snap.snap_ns > snap_ns:
            _require([*(one.snap_ns for one in snaps), snap.snap_ns], snap_ns, session)
        snaps.append(snap)
        for kind, price in _named(snap):
            if prices.get(kind, (None,))[0] != price:
                prices[kind] = price, snap.snap_ns
        if snap.snap_ns == snap_ns:
            number = None if past.chain is None else int(np.searchsorted(past.chain.snap_ns, snap_ns))
            return Moment(session, past, number, mark, list(snaps), {kind: at for kind, (_, at) in prices.items()})
    _require([one.snap_ns for one in snaps], snap_ns, session)
    raise LayoutError(
        f"the snap at {utc_text(snap_ns)} is on record, and was not made again: rows that it had are missing. Nothing "
        f"was explained. Next: spymaster verify"
    )


def _require(known: list[int], snap_ns: int, session: Session) -> None:
    """Refuse a time at which no snap stands.

    Raises:
        UsageError: there is none; it names those next to it.
    """
    if snap_ns in known:
        return
    asked = f"no snap stands at {utc_text(snap_ns)}"
    before, after = (
        max((at for at in known if at < snap_ns), default=None),
        min((at for at in known if at > snap_ns), default=None),
    )
    if before is None and after is None:
        raise UsageError(
            f"{asked}: log and lake have no snap of the session {session.date}. Nothing was explained. Next: "
            f"spymaster status, for what was recorded"
        )
    if before is None or after is None:
        edge = before or after or 0
        why = f"the first of the session is at {utc_text(edge)}, before which nothing was judged"
        why = why if before is None else f"the last of the session is at {utc_text(edge)}"
        raise UsageError(f"{asked}: {why}. Nothing was explained. Next: --at {utc_text(edge)}")
    nearest = before if snap_ns - before <= after - snap_ns else after
    raise UsageError(
        f"{asked}, as no row came: the one before is at {utc_text(before)}, the next at {utc_text(after)}. Nothing was "
        f"explained. Next: --at {utc_text(nearest)}"
    )


def _named(snap: Snap) -> list[tuple[str, float]]:
    """Return the prices of a snap that have a name of their own, by kind."""
    found: list[tuple[str, float]] = [(one.kind, one.price) for one in snap.market.named]
    walls = (snap.gamma.walls.call, snap.gamma.walls.put, snap.gamma.flip)
    return found + [(kind, price) for kind, price in zip(_NAMED_BY_LOOK, walls, strict=True) if price is not None]


def level_of(snap: Snap, asked: str) -> int:
    """Return the row of a level.

    Args:
        snap: its snap.
        asked: an id, whose price need not be written as there, or a price.

    Raises:
        UsageError: it is not judged at the snap.
    """
    levels = snap.levels
    wanted = _price(asked)
    prices: list[Any] = levels.column("price").to_pylist()
    ids: list[Any] = levels.column("ids").to_pylist()
    for row, (price, names) in enumerate(zip(prices, ids, strict=True)):
        if price == wanted or any(_is_same(asked, name) for name in names):
            return row
    near = sorted(range(len(prices)), key=lambda row: abs(levels.column("distance_ticks")[row].as_py()))[:_MOST_NAMED]
    why = (
        f"these are, nearest first: {', '.join(ids[row][0] for row in near)}"
        if near
        else (f"no level is ({snap.void_reason or 'no quote'})")
    )
    raise UsageError(
        f"{asked!r} is not judged at {utc_text(snap.snap_ns)}; {why}. Nothing was explained. Next: name one that is"
    )


def _is_same(asked: str, name: str) -> bool:
    """Whether an id is meant, ROUND_6900 being ROUND_6900.00."""
    if asked == name:
        return True
    (stem, _, end), (own, _, price) = asked.rpartition("_"), name.rpartition("_")
    return bool(stem) and stem == own and _price(end) is not None and _price(end) == _price(price)


def _price(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def row_of(levels: pa.RecordBatch, row: int) -> dict[str, Any]:
    """Return a row of SIGNALS as values by column."""
    values: dict[str, Any] = levels.slice(row, 1).to_pylist()[0]
    return values

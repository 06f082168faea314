"""A simulated market through the judge, as its rows would leave the bus: what alarms and worth are counted on."""

from collections.abc import Iterator, Sequence
from typing import Any

from spymaster.engines.judge import Judge
from spymaster.engines.levels import Zone
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events import FUTURES_MBP10, Stream
from tests.engines.tapes import batch_of, rows_of

BOOKS = Stream(FUTURES_MBP10.name, "ES")


def snaps(market: Any, until_ns: int, profile: Profile, zones: Sequence[Zone] = ()) -> Iterator[Snap]:
    """Yield the snaps of a simulated market's session, the front month's book alone.

    Args:
        market: `SimulatedMarket.session`; what it plants is in its `truths`.
        until_ns: event time at which no step begins any more.
        profile: whose levels are judged.
        zones: hot zones.
    """
    judge, seq = None, 0
    for step in market.steps():
        if step.begin >= until_ns:
            return
        if judge is None:
            contract = step.listing.front.symbol
            session = Session("2025-12-16", step.begin, until_ns, step.begin, until_ns)
            judge = Judge(profile, [session], contract, zones=zones)
        for tape in step.tapes:
            rows = rows_of(tape)
            yield from judge.take(BOOKS, batch_of(rows, contract, seq))
            seq += len(rows.ts_ns)

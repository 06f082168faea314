"""Which contract a session is judged by, and what that rests on.

The most traded one of an earlier date, as `ContractSelector` finds it. Where the lake has none, the calendar says which
outright expires next and more than eight days after the session's date: eight days before a quarterly expiry, on the
Thursday, volume moves to the next one. The same where what traded most has expired since, or is about to and the
evidence is older than a week: a lake with a hole says nothing of a roll that lies in it.

Expiries are those of index futures, the third Fridays of March, June, September and December, and names have one digit
of the year: ESZ5, ESH6.
"""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from spymaster.engines.expiry import QUARTERS, quarterly_from, third_friday
from spymaster.engines.session import Session
from spymaster.query.front_month import BronzeTrades, ContractSelector

_ROLL: Final = timedelta(days=8)
_FRESH: Final = timedelta(days=7)  # longer than any pause of the exchange


class _TradesBefore(BronzeTrades):
    """What traded on dates before one: its own trades would be known too late, and take long to read."""

    def __init__(self, data_root: Path, date: str) -> None:
        super().__init__(data_root, duckdb.connect())
        self._date = date

    def of(self, root: str, date: str) -> duckdb.DuckDBPyRelation | None:
        return super().of(root, date) if date < self._date else None


class Front(NamedTuple):
    """A front month.

    Attributes:
        contract: the venue's symbol.
        evidence_date: the date whose trades decided; None where the calendar did.
        because: what the choice rests on, one line.
    """

    contract: str
    evidence_date: str | None
    because: str


def front(data_root: Path, root: str, session: Session) -> Front:
    """Return the front month of a root for a session, as it could be known before the session began.

    Args:
        data_root: the lake.
        root: whose outrights, e.g. ES.
        session: the session.

    Raises:
        LayoutError: an archived part is not where its manifest says.
    """
    day = date.fromisoformat(session.date)
    by_calendar = nearest_quarterly(root, day)
    trades = _TradesBefore(data_root, session.date)
    choice = ContractSelector(data_root, trades=trades).front_month(root, session.date)
    if choice.contract is None or choice.evidence_date is None:
        reason = "the lake has no earlier session"
    elif _is_over(root, choice.contract, date.fromisoformat(choice.evidence_date), day):
        reason = f"{choice.contract}, which led on {choice.evidence_date}, the last date in the lake, has rolled since"
    else:
        share = f"{choice.share:.0%} of the volume" if choice.share is not None else "the most volume"
        return Front(
            choice.contract,
            choice.evidence_date,
            f"{choice.contract} for {session.date}: {share} in regular hours of {choice.evidence_date}",
        )
    return Front(by_calendar, None, f"{by_calendar} for {session.date} by the calendar of expiries: {reason}")


def nearest_quarterly(root: str, day: date) -> str:
    """Return the outright that expires next of those with more than eight days left."""
    return quarterly_from(root, day + _ROLL + timedelta(days=1))


def _is_over(root: str, contract: str, evidence: date, day: date) -> bool:
    """Whether what led once cannot be relied on any more; of names that are no quarterly's nothing is known."""
    found = re.fullmatch(rf"{re.escape(root)}([HMUZ])(\d)", contract)
    if found is None:
        return False
    month = next(month for month, letter in QUARTERS.items() if letter == found[1])
    year = evidence.year + (int(found[2]) - evidence.year) % 10
    expiry = third_friday(year, month)
    return expiry < day or (expiry - _ROLL <= day and day - evidence > _FRESH)

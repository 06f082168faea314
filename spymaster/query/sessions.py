"""The exchanges' trading days: which date a moment belongs to, and whether New York trades stocks in it.

    session_date, CME          the trading date whose session began at 17:00 Chicago the evening before; it lasts until
                               17:00 Chicago, through the pause from 16:00 and after an early close
    session_date, US equities  the New York date, from 04:00 to 20:00, if it is a trading day
    is_rth                     09:30 to 16:00 New York, or to 13:00 on a half day, on trading days of the US equities;
                               for CME's instruments too

Spans are half-open. `session_date` is null at all other times (weekends, holidays), and both are null for times
outside of the calendar's years. Which days trade is what the library `exchange_calendars` says (CMES, XNYS), and for
CME the days in `CME_OPEN` too, which the library calls closed though equity index futures traded for a morning. It
gives other holidays a session of their own where CME counts their trades to the next day.

Whose calendar a row follows is its source's: GLBX is CME's whatever the root, OPRA, Nasdaq and Massive are the US
equities'. A simulated market and rows of a user's program name no venue, and are told apart by schema, then by root.

Every boundary is a whole half hour of UTC, so that both are a lookup by `ts_event_ns // HALF_HOUR_NS`. In SQL the
table is a string of bits in a macro. A join would be paid by every query on a view; the macro only by one that names
the column. A list in place of the bits is copied for every 2,048 rows.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import clock
from spymaster.engines.session import Session
from spymaster.events import EventSchema

if TYPE_CHECKING:
    import pandas as pd

Market = Literal["cme", "us"]

HALF_HOUR_NS: Final = 1_800 * clock.NS_PER_SECOND
CME_SOURCES: Final = ("databento.glbx",)
US_SOURCES: Final = ("databento.opra", "databento.xnas", "massive.stocks", "massive.options")
_CME_ROOTS: Final = ("ES",)  # of options and instruments whose source names no venue
# Days without a session in the library on which CME's equity index futures traded, from the evening before until an
# hour of the morning in Chicago, and who says so. On other Good Fridays they did not: the exchange opens those on which
# the Labor Department reports on employment.
CME_OPEN: Final = {
    "2012-04-06": "Good Friday, abbreviated: Wall Street Journal, 9 April 2012",
    "2015-04-03": "Good Friday, until 08:15: MarketWatch, 3 April 2015",
    "2018-12-05": "mourning of George H. W. Bush, until 08:30: CME Group's press release of 2 December 2018",
    "2021-04-02": "Good Friday, until 08:15: MarketWatch, 2 April 2021",
    "2023-04-07": "Good Friday, until 08:15: MarketWatch, 7 April 2023, and CME's trading hours of that date",
    "2025-01-09": "mourning of Jimmy Carter, until 08:30: CME Group's press release of 30 December 2024",
    "2026-04-03": "Good Friday, until 08:15: CME's 2026 hours as trade.xyz lists them, docs.trade.xyz",
}
_FIRST_DATE: Final = "2000-01-01"
_EPOCH: Final = date(1970, 1, 1)
_CHICAGO, _NEW_YORK = ZoneInfo("America/Chicago"), ZoneInfo("America/New_York")
_A_DAY: Final = 48  # half hours
_NO_DATE: Final = np.iinfo(np.int32).min
_US_SHIFT: Final = -10  # half hours that bring 04:00-20:00 New York into one UTC date, in summer and in winter
_CME_WINTER: Final = 2  # the same for 17:00-17:00 Chicago,
_CME_SUMMER: Final = 4  # which needs two: 22:00 UTC begins a session in summer, and is a session's last hour in winter


@dataclass(frozen=True)
class SessionTable:
    """The calendar by half hour; entry 0 is for half hour `first` since 1970 UTC.

    Attributes:
        first: number of the first half hour.
        dates: of each market, days since 1970.
        rth: whether it lies in regular trading hours.
    """

    first: int
    dates: dict[Market, NDArray[np.int32]]
    rth: NDArray[np.bool_]

    def session_date(self, market: Market, ts_ns: NDArray[np.int64]) -> pa.Array:
        """Return the session's date of each time, null where there is none."""
        at, known = self._places(ts_ns)
        days = self.dates[market][at]
        return pa.array(days, pa.date32(), mask=~known | (days == _NO_DATE))

    def is_rth(self, ts_ns: NDArray[np.int64]) -> pa.Array:
        """Return whether each time lies in regular trading hours, null outside of the calendar."""
        at, known = self._places(ts_ns)
        return pa.array(self.rth[at], pa.bool_(), mask=~known)

    def rth_span_ns(self, day: str) -> tuple[int, int] | None:
        """Return the regular trading hours of a date, half-open; None if it has none or is outside of the calendar."""
        at = (date.fromisoformat(day) - _EPOCH).days * _A_DAY - self.first
        open_at = np.flatnonzero(self.rth[at : at + _A_DAY]) if at >= 0 else np.empty(0, np.int64)
        if not len(open_at):
            return None
        begin = self.first + at + int(open_at[0])
        return begin * HALF_HOUR_NS, (begin + len(open_at)) * HALF_HOUR_NS

    def session_of(self, ts_ns: int, market: Market) -> Session | None:
        """Return the session that a time lies in; None at a time without one and outside of the calendar."""
        found = self.sessions_between(ts_ns, ts_ns + 1, market)
        return found[0] if found else None

    def sessions_between(self, begin_ns: int, end_ns: int, market: Market) -> list[Session]:
        """Return the sessions that have a part in [begin, end), whole and in order."""
        dates = self.dates[market]
        first = max(begin_ns // HALF_HOUR_NS - self.first, 0)
        last = min(-(-end_ns // HALF_HOUR_NS) - self.first, len(dates))
        days = np.unique(dates[first:last]) if first < last else dates[:0]
        margin = slice(max(first - _A_DAY, 0), last + _A_DAY)  # no session is longer than a day
        return [
            self._session(margin.start + np.flatnonzero(dates[margin] == day), int(day))
            for day in days.tolist()
            if day != _NO_DATE
        ]

    def _session(self, half_hours: NDArray[np.intp], day: int) -> Session:
        begin, end = int(half_hours[0]), int(half_hours[-1]) + 1
        rth = begin + np.flatnonzero(self.rth[begin:end])
        rth_begin, rth_end = (int(rth[0]), int(rth[-1]) + 1) if len(rth) else (end, end)
        spans = ((self.first + at) * HALF_HOUR_NS for at in (begin, end, rth_begin, rth_end))
        return Session((_EPOCH + timedelta(days=day)).isoformat(), *spans)

    def _places(self, ts_ns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        at = ts_ns // HALF_HOUR_NS - self.first
        known = (at >= 0) & (at < len(self.rth))
        return np.where(known, at, 0), known


@cache
def calendar() -> SessionTable:
    """Return the calendar from 2000 to the end of next year. The first call costs a second, nearly half for pandas."""
    next_year = datetime.fromtimestamp(clock.utc_now_ns() // clock.NS_PER_SECOND, UTC).year + 1
    return session_table(_FIRST_DATE, f"{next_year}-12-31")


def session_at(ts_ns: int, market: Market) -> Session | None:
    """Return the session that a live event lies in.

    Where the calendar has none, as on weekends, it is the one that the clock would have on a trading day: the simulated
    market never closes. Only New York's nights have none, as no session of its calendar begins the evening before.

    Args:
        ts_ns: the event's time, UTC nanoseconds.
        market: whose calendar, see the profiles.
    """
    return calendar().session_of(ts_ns, market) or (clock_session(ts_ns) if market == "cme" else _clock_us(ts_ns))


def _clock_us(ts_ns: int) -> Session | None:
    """Return New York's session of a time as if every date were a whole trading day."""
    day = datetime.fromtimestamp(ts_ns // clock.NS_PER_SECOND, _NEW_YORK).date()
    stamps = (datetime.combine(day, moment, _NEW_YORK) for moment in (time(4), time(20), time(9, 30), time(16)))
    begin, end, rth_begin, rth_end = (int(stamp.timestamp()) * clock.NS_PER_SECOND for stamp in stamps)
    return Session(day.isoformat(), begin, end, rth_begin, rth_end) if begin <= ts_ns < end else None


def session_of_date(day: str, market: Market) -> Session | None:
    """Return the session that the exchange names by a date; None where it has none.

    Args:
        day: YYYY-MM-DD.
        market: whose calendar, see the profiles.
    """
    noon = datetime.combine(date.fromisoformat(day), time(17), UTC)  # in New York, of a session of either market
    found = session_at(int(noon.timestamp()) * clock.NS_PER_SECOND, market)
    return found if found is not None and found.date == day else None


def clock_session(ts_ns: int) -> Session:
    """Return CME's session of a time as if every date were a whole trading day: the simulated market never closes."""
    moment = datetime.fromtimestamp(ts_ns // clock.NS_PER_SECOND, _CHICAGO)
    day = moment.date() + timedelta(days=moment.time() >= time(17))

    def ns(on: date, hour: int, minute: int, zone: ZoneInfo) -> int:
        return int(datetime.combine(on, time(hour, minute), zone).timestamp()) * clock.NS_PER_SECOND

    return Session(
        day.isoformat(),
        ns(day - timedelta(1), 17, 0, _CHICAGO),
        ns(day, 17, 0, _CHICAGO),
        ns(day, 9, 30, _NEW_YORK),
        ns(day, 16, 0, _NEW_YORK),
    )


def session_table(first_date: str, last_date: str) -> SessionTable:
    """Return the calendar of these UTC dates, both included."""
    import exchange_calendars  # noqa: PLC0415  # it imports pandas, which a command without sessions need not wait for
    import pandas as pd  # noqa: PLC0415

    first = pd.Timestamp(first_date).as_unit("ns").value // HALF_HOUR_NS
    count = pd.Timestamp(last_date).as_unit("ns").value // HALF_HOUR_NS + _A_DAY - first
    # A date's last hours belong to the next session, and the library wants a session between its bounds.
    margin = pd.Timedelta(days=14)
    bounds = {"start": pd.Timestamp(first_date) - margin, "end": pd.Timestamp(last_date) + margin}
    us = exchange_calendars.get_calendar("XNYS", **bounds).schedule
    cme = exchange_calendars.get_calendar("CMES", **bounds).schedule.index
    opened = pd.DatetimeIndex(list(CME_OPEN))
    day = us.index
    extended = _fill(first, count, _local(day, 4, "America/New_York"), _local(day, 20, "America/New_York"), day)
    rth = _fill(first, count, _half_hours(us["open"]), _half_hours(us["close"]), day)
    day = cme.union(opened[(opened >= bounds["start"]) & (opened <= bounds["end"])])
    globex = _fill(first, count, _local(day, -7, "America/Chicago"), _local(day, 17, "America/Chicago"), day)
    return SessionTable(first, {"us": extended, "cme": globex}, rth != _NO_DATE)


def _local(days: "pd.DatetimeIndex", hours: int, zone: str) -> NDArray[np.int64]:
    import pandas as pd  # noqa: PLC0415

    return _half_hours((days + pd.Timedelta(hours=hours)).tz_localize(zone))


def _half_hours(times: "pd.DatetimeIndex | pd.Series") -> NDArray[np.int64]:
    import pandas as pd  # noqa: PLC0415

    stamps: NDArray[np.int64] = pd.DatetimeIndex(times).tz_convert("UTC").as_unit("ns").asi8
    if (stamps % HALF_HOUR_NS).any():
        raise ValueError("the exchange calendar has a boundary that is no whole half hour of UTC")
    return stamps // HALF_HOUR_NS


def _fill(
    first: int, count: int, opens: NDArray[np.int64], closes: NDArray[np.int64], days: "pd.DatetimeIndex"
) -> NDArray[np.int32]:
    """Return for each half hour the day whose span it lies in."""
    half_hours = np.arange(first, first + count)
    span = np.maximum(np.searchsorted(opens, half_hours, "right") - 1, 0)
    inside = (half_hours >= opens[span]) & (half_hours < closes[span])
    numbers = days.to_numpy().astype("datetime64[D]").astype(np.int32)
    filled: NDArray[np.int32] = np.where(inside, numbers[span], _NO_DATE).astype(np.int32)
    return filled


def install(connection: duckdb.DuckDBPyConnection, table: SessionTable | None = None) -> None:
    """Give a connection, and its cursors, the macros that `columns` names. They take any UTC nanoseconds.

    Args:
        connection: its catalog gets `cme_session_date`, `us_session_date` and `is_rth`.
        table: `calendar()` if None.
    """
    known = table or calendar()
    cme, us = known.dates["cme"], known.dates["us"]
    numbers = np.arange(known.first, known.first + len(cme))
    summer = cme == (numbers + _CME_SUMMER) // _A_DAY
    place = f"(ts_ns // {HALF_HOUR_NS} - {known.first})::int"
    # By microseconds: DuckDB rounds a timestamp of nanoseconds, so that a date's last half microsecond is the next's.
    us_date = f"make_timestamp((ts_ns + {_US_SHIFT * HALF_HOUR_NS}) // 1000)::date"
    later = f"{(_CME_SUMMER - _CME_WINTER) * HALF_HOUR_NS} * get_bit({_bits(summer)}, {place})"
    cme_date = f"make_timestamp((ts_ns + {_CME_WINTER * HALF_HOUR_NS} + {later}) // 1000)::date"
    macros = {
        "us_session_date": f"case when get_bit({_bits(us != _NO_DATE)}, {place}) = 1 then {us_date} end",
        "cme_session_date": f"case when get_bit({_bits(cme != _NO_DATE)}, {place}) = 1 then {cme_date} end",
        "is_rth": f"get_bit({_bits(known.rth)}, {place}) = 1",
    }
    start_ns, end_ns = known.first * HALF_HOUR_NS, (known.first + len(cme)) * HALF_HOUR_NS
    for name, body in macros.items():
        # get_bit refuses a place outside of its bits, and only a case keeps it from being asked.
        guarded = f"case when ts_ns >= {start_ns} and ts_ns < {end_ns} then {body} end"
        connection.execute(f"create or replace macro {name}(ts_ns) as {guarded}")


def _bits(flags: NDArray[np.bool_]) -> str:
    """Return flags as a constant of SQL. A DuckDB variable would be shorter, but a cursor has none of its parent's."""
    return f"from_base64('{base64.b64encode(np.packbits(flags).tobytes()).decode()}')::bit"


def columns(schema: EventSchema) -> str:
    """Return the select expressions of `session_date` and `is_rth` for rows of a schema, by asset and source.

    `options.*` and `reference.*` hold both markets. Our own events are no exchange's, and have neither.
    """
    asset = schema.name.partition(".")[0]
    if asset == "system":
        return "null::date as session_date, null::boolean as is_rth"
    if "session" in schema.log.names:  # it says so itself
        return "try_cast(session as date) as session_date, is_rth(ts_event_ns) as is_rth"
    cme, us = "cme_session_date(ts_event_ns)", "us_session_date(ts_event_ns)"
    by_venue = (
        f"case when source in ({_listed(CME_SOURCES)}) then {cme} when source in ({_listed(US_SOURCES)}) then {us} "
        f"when {schema.partition_by} in ({_listed(_CME_ROOTS)}) then {cme} else {us} end"
    )
    session = {"futures": cme, "stocks": us}.get(asset, by_venue)
    return f"{session} as session_date, is_rth(ts_event_ns) as is_rth"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)

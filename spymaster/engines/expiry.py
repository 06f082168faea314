"""When an option expires, to the minute: what its definition says, else what its family's rules say of its date.

    ES, quarterly (ESH ESM ESU ESZ)           09:30 New York, with the future, on the third Friday of that month
    ES, serial (ESF ESG ESJ ...; until 2021)  16:00 New York
    EW month's end, EW1-EW5 Fridays,          16:00 New York, 13:00 on a half day
    E1A-E5E by week and weekday, EYC quarterly
    SPY                                       16:00 New York, 13:00 on a half day

Hours are from CME Group's contract specifications ('8:30 a.m. / 3rd Friday' and '3:00 p.m.', in Chicago), for SPY the
close of the stocks, whose price decides; its options trade 15 minutes on. That an EW expires with the stocks on a half
day is our assumption; its definition has the time. A definition of OPRA's has only the date, as midnight of UTC.

The clock is New York's: Chicago's changes in the same night, so that three there is always four here. Other families
have no rule here, and no time: an hour too many makes a gamma of the last day wrong by half.
"""

import re
from collections.abc import Container, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.session import NS_PER_MINUTE, Session

_NEW_YORK: Final = ZoneInfo("America/New_York")
_MORNING, _AFTERNOON, _HALF_DAY = time(9, 30), time(16), time(13)
_FUTURE: Final = re.compile(r"([A-Z]+)[HMUZ][0-9]")
QUARTERS: Final = {3: "H", 6: "M", 9: "U", 12: "Z"}
_FRIDAY: Final = 4
_FULL_DAY_NS: Final = 390 * NS_PER_MINUTE
_NS_PER_DAY: Final = 86_400 * NS_PER_SECOND
_QUARTERLY: Final = re.compile(r"ES[HMUZ][0-9]{1,2} [CP].+")
_OTHERS: Final = re.compile(
    r"(?:ES|EYC|EW[1-5]?|E[1-5][A-E])[FGHJKMNQUVXZ][0-9]{1,2} [CP].+"  # CME
    r"|(?:O:)?SPY *[0-9]{6}[CP][0-9]{8}"  # OCC
)


def expires_ns(
    option_symbol: str, exp_date: date | None, *, defined_ns: int | None = None, half_days: Container[date] = ()
) -> int | None:
    """Return when an option expires, UTC nanoseconds; None if neither its definition nor its family says.

    Args:
        option_symbol: as CME or OCC writes it, e.g. `EW2Z5 C6800` or `O:SPY251216C00680000`.
        exp_date: of it; None where only a definition says.
        defined_ns: `expiration_ns` of its definition; a whole day of UTC is a date without a time.
        half_days: dates on which the stocks close at 13:00 in New York.
    """
    if defined_ns is not None and defined_ns % _NS_PER_DAY:
        return defined_ns
    if defined_ns is not None:
        exp_date = datetime.fromtimestamp(defined_ns // NS_PER_SECOND, UTC).date()
    if exp_date is None:
        return None
    if _QUARTERLY.fullmatch(option_symbol):
        return _new_york_ns(exp_date, _MORNING)
    if _OTHERS.fullmatch(option_symbol):
        return _new_york_ns(exp_date, _HALF_DAY if exp_date in half_days else _AFTERNOON)
    return None


def third_friday(year: int, month: int) -> date:
    """Return when a quarterly index future expires."""
    middle = date(year, month, 15)
    return middle + timedelta(days=(_FRIDAY - middle.weekday()) % 7)


def quarterly_from(root: str, day: date) -> str:
    """Return the quarterly that expires first on a day or after it, e.g. ESH6: an index option's future of that day."""
    year, month = day.year, -(-day.month // 3) * 3
    if third_friday(year, month) < day:
        year, month = (year, month + 3) if month < 12 else (year + 1, 3)
    return f"{root}{QUARTERS[month]}{year % 10}"


def is_written_on(contract: str, expires: int) -> bool:
    """Return whether an option is written on a contract: any on a stock is, one of futures by its expiration alone.

    Args:
        contract: of a future as CME writes it, or a stock.
        expires: of the option, UTC nanoseconds.
    """
    future = _FUTURE.fullmatch(contract)
    day = datetime.fromtimestamp(expires // NS_PER_SECOND, _NEW_YORK).date()
    return future is None or contract == quarterly_from(future[1], day)


def half_days(sessions: Iterable[Session]) -> frozenset[date]:
    """Return the dates of the sessions whose regular hours are shorter than on other days."""
    return frozenset(
        date.fromisoformat(one.date) for one in sessions if 0 < one.rth_end_ns - one.rth_begin_ns < _FULL_DAY_NS
    )


def _new_york_ns(day: date, hour: time) -> int:
    return int(datetime.combine(day, hour, _NEW_YORK).timestamp()) * NS_PER_SECOND

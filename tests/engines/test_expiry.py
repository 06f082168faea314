"""When options expire: by their definitions, and by the rules of each family, in summer, winter and on half days."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.expiry import expires_ns, half_days
from spymaster.engines.session import Session
from spymaster.normalize.symbols import cme_product_root
from spymaster.query.sessions import Market, calendar
from spymaster.simulation.calendar import front_contract
from spymaster.simulation.options import es_board, spy_board
from tests.engines.test_option_model import records

FRIDAY_AFTER_THANKSGIVING = date(2025, 11, 28)


def utc(text: str | None) -> int | None:
    return None if text is None else int(datetime.fromisoformat(text + "+00:00").timestamp()) * NS_PER_SECOND


def day_of(text: str) -> date:
    return datetime.fromisoformat(text).date()


@pytest.mark.parametrize(
    ("symbol", "expires"),
    [
        ("ESZ5 C6800", "2025-12-19T14:30"),  # a quarterly: with the future, in winter
        ("ESM4 P5230", "2024-06-21T13:30"),  # and in summer
        ("ESH26 C7000", "2026-03-20T13:30"),  # March is summer by then
        ("ESV0 C3400", "2020-10-16T20:00"),  # a serial one, as there were until 2021
        ("EYCZ5 P6800", "2025-12-19T21:00"),
        ("EWV5 C6800", "2025-10-31T20:00"),  # month's end, the Friday before the clocks change
        ("EW1X5 C6800", "2025-11-07T21:00"),  # and the one after
        ("EW2H6 P6800", "2026-03-13T20:00"),  # spring: the week after they changed
        ("EW3H6 P6800", "2026-03-20T20:00"),  # the afternoon of the quarterly's day
        ("EW4X5 C6800", "2025-11-28T18:00"),  # a half day
        ("E1AX5 C6800", "2025-11-03T21:00"),  # Monday, Tuesday, Wednesday, Thursday, Friday
        ("E2BX5 C6800", "2025-11-11T21:00"),
        ("E3CX5 C6800", "2025-11-19T21:00"),
        ("E4DX5 C6800", "2025-11-26T21:00"),  # the last one before Thanksgiving is a Wednesday, and whole
        ("E5EV5 C6800", "2025-10-31T20:00"),
        ("E4CZ5 C6800", "2025-12-24T18:00"),  # Christmas Eve
        ("O:SPY251128C00680000", "2025-11-28T18:00"),
        ("O:SPY251216C00680000", "2025-12-16T21:00"),
        ("SPY   250703P00620000", "2025-07-03T17:00"),  # a half day of summer, in OPRA's spelling
        ("SPY   250702P00620000", "2025-07-02T20:00"),
    ],
)
def test_an_option_expires_at_its_familys_hour_of_new_york(symbol: str, expires: str) -> None:
    half = half_days(sessions(date(2025, 6, 1), date(2025, 12, 31)))

    assert expires_ns(symbol, day_of(expires), half_days=half) == utc(expires)


def test_every_root_of_es_options_has_its_hour() -> None:
    weekly = [f"EW{week}" for week in range(1, 5)] + [f"E{week}{day}" for week in range(1, 6) for day in "ABCD"]
    for root in ["EW", "EYC", *weekly]:
        assert cme_product_root(root) == "ES"
        assert expires_ns(f"{root}N5 C6300", date(2025, 7, 9)) == utc("2025-07-09T20:00")
        assert expires_ns(f"{root}F5 C6300", date(2025, 1, 8)) == utc("2025-01-08T21:00")


def test_half_days_are_those_of_the_stock_markets_calendar() -> None:
    assert half_days(sessions(date(2024, 7, 1), date(2025, 12, 31))) == {
        date(2024, 7, 3), date(2024, 11, 29), date(2024, 12, 24),
        date(2025, 7, 3), FRIDAY_AFTER_THANKSGIVING, date(2025, 12, 24),
    }  # fmt: skip


def test_a_session_without_regular_hours_is_no_half_day() -> None:
    independence_day, good_friday = (
        sessions(date(2025, 7, 4), date(2025, 7, 4), "cme"),
        sessions(date(2026, 4, 3), date(2026, 4, 3), "cme"),
    )

    assert [one.date for one in independence_day + good_friday] == ["2025-07-04", "2026-04-03"]
    assert half_days(independence_day + good_friday) == frozenset()


def test_a_definition_is_believed_before_any_rule() -> None:
    assert expires_ns("EW4X5 C6800", FRIDAY_AFTER_THANKSGIVING, defined_ns=utc("2025-11-28T18:15")) == utc(
        "2025-11-28T18:15"
    )
    assert expires_ns("UD:1V: VT 2858150", None, defined_ns=utc("2025-11-28T21:00")) == utc("2025-11-28T21:00")


def test_a_definition_that_has_only_the_date_gives_the_date_and_the_rule_the_hour() -> None:
    # As OPRA's do: midnight of UTC, which would be the evening before.
    assert expires_ns("SPY   250221C00610000", None, defined_ns=utc("2025-02-21T00:00")) == utc("2025-02-21T21:00")
    assert expires_ns("AAPL  250221C00250000", None, defined_ns=utc("2025-02-21T00:00")) is None


@pytest.mark.parametrize(
    "symbol",
    [
        "SPX   251219C06800000",
        "SPY1  251216C00680000",
        "NQZ5 C25000",
        "E6AX5 C6800",
        "UD:1V: VT 2858150",
        "ES",
        "",
        "../etc",
    ],
)
def test_a_family_without_a_rule_has_no_hour(symbol: str) -> None:
    assert expires_ns(symbol, date(2025, 12, 19)) is None


def test_without_a_date_nothing_expires() -> None:
    assert expires_ns("EW1X5 C6800", None) is None


def test_real_definitions_say_what_the_rule_says(real_data: Path) -> None:
    seen = 0
    for path in sorted(real_data.rglob("*definition*.dbn.zst")):
        for definition in records(path):
            if definition.instrument_class in ("C", "P"):
                defined, day = definition.expiration, utc_day(definition.expiration)
                rule = expires_ns(definition.raw_symbol, day)
                assert rule == (None if definition.raw_symbol.startswith("AAPL") else defined)
                assert expires_ns(definition.raw_symbol, day, defined_ns=defined) == rule
                seen += 1
    assert seen >= 4


def test_the_simulated_boards_expire_by_these_rules() -> None:
    # The simulator knows no half days.
    for week in range(52):
        day = date(2025, 1, 6) + timedelta(weeks=week)
        now = utc(f"{day}T15:00")
        for board in (es_board(68_000_000, now, front_contract(day)), spy_board(6_800_000, now)):
            symbols, expiries = board.symbols(), board.expiration_ns
            for number in np.unique(expiries, return_index=True)[1]:
                assert expires_ns(symbols[number], utc_day(int(expiries[number]))) == expiries[number]


def utc_day(ns: int) -> date:
    return datetime.fromtimestamp(ns // NS_PER_SECOND, UTC).date()


def sessions(first: date, last: date, market: Market = "us") -> list[Session]:
    return calendar().sessions_between(utc(f"{first}T12:00"), utc(f"{last}T12:30"), market)

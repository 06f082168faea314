"""Which contract a session is judged by: yesterday's volume, and without a yesterday the calendar of expiries."""

from datetime import date, timedelta

import pytest

from spymaster.engines.expiry import third_friday
from spymaster.events import FUTURES_TRADES
from spymaster.query.sessions import calendar, session_at
from spymaster.signals.contract import front, nearest_quarterly
from spymaster.simulation.calendar import front_contract
from tests.engines.test_intake import rows_of
from tests.signals.recordings import SECOND, TRADES, Recording

REAL = "nautilus_trader/derived/ESH4_trades_20231225_part1.dbn.zst"


def session_of(day):
    begin = int((date.fromisoformat(day) - date(1970, 1, 1)).total_seconds()) * SECOND
    return session_at(begin + 15 * 3_600 * SECOND, "cme")


def record(tmp_path, *trades):
    """Record trades (date, contract, size), each at 15:00 UTC, within New York's regular hours."""
    rows = [
        {"ts_event_ns": session_of(day).rth_begin_ns + at, "contract": contract, "size": size, "price": 6900.0,
         "capture_seq": at}
        for at, (day, contract, size) in enumerate(trades)
    ]  # fmt: skip
    return Recording(tmp_path).write([(TRADES, rows_of(FUTURES_TRADES, rows))]).drain().data


def test_the_most_traded_contract_of_the_day_before_is_it_and_the_choice_says_what_it_rests_on(tmp_path):
    data = record(tmp_path, ("2025-12-15", "ESZ5", 40), ("2025-12-15", "ESH6", 60), ("2025-12-16", "ESZ5", 900))
    found = front(data, "ES", session_of("2025-12-16"))

    assert (found.contract, found.evidence_date) == ("ESH6", "2025-12-15")
    assert found.because == "ESH6 for 2025-12-16: 60% of the volume in regular hours of 2025-12-15"


def test_the_sessions_own_trades_are_no_evidence(tmp_path):
    data = record(tmp_path, ("2025-12-16", "ESM6", 900), ("2025-12-17", "ESM6", 900))
    found = front(data, "ES", session_of("2025-12-16"))

    assert (found.contract, found.evidence_date) == ("ESH6", None)
    assert found.because == "ESH6 for 2025-12-16 by the calendar of expiries: the lake has no earlier session"


def test_an_empty_lake_has_the_calendars(tmp_path):
    assert front(tmp_path, "ES", session_of("2025-12-02")).contract == "ESZ5"


@pytest.mark.parametrize(
    ("day", "contract"),
    [("2025-12-02", "ESZ5"), ("2025-12-10", "ESZ5"), ("2025-12-11", "ESH6"), ("2025-12-31", "ESH6"),
     ("2026-03-11", "ESH6"), ("2026-03-12", "ESM6"), ("2029-12-14", "ESH0")],
)  # fmt: skip
def test_by_the_calendar_it_is_the_next_to_expire_in_more_than_eight_days(day, contract):
    assert nearest_quarterly("ES", date.fromisoformat(day)) == contract
    assert nearest_quarterly("NQ", date.fromisoformat(day)) == contract.replace("ES", "NQ")


def test_the_simulated_markets_front_month_is_the_calendars_on_every_day():
    days = [date(2025, 1, 1) + timedelta(days=at) for at in range(1_500)]

    assert [nearest_quarterly("ES", day) for day in days] == [front_contract(day).symbol for day in days]
    assert len({front_contract(day).symbol for day in days}) > 15


def test_a_third_friday_is_one():
    assert [third_friday(2025, month).isoformat() for month in (3, 6, 9, 12)] == [
        "2025-03-21", "2025-06-20", "2025-09-19", "2025-12-19"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("evidence", "contract", "day", "expected"),
    [
        ("2025-12-18", "ESZ5", "2025-12-19", "ESZ5"),  # its last day
        ("2025-12-19", "ESZ5", "2025-12-22", "ESH6"),  # expired
        ("2025-12-10", "ESZ5", "2025-12-15", "ESZ5"),  # about to, and it led days ago
        ("2025-12-05", "ESZ5", "2025-12-15", "ESH6"),  # long ago
        ("2025-11-03", "ESZ5", "2025-12-02", "ESZ5"),
        ("2025-11-03", "CLF6", "2025-12-22", "CLF6"),  # no quarterly of this root: nothing is known of its expiry
    ],
)
def test_what_led_before_a_hole_in_the_lake_is_not_taken_beyond_its_roll(tmp_path, evidence, contract, day, expected):
    found = front(record(tmp_path, (evidence, contract, 9)), "ES", session_of(day))

    assert found.contract == expected
    assert (found.evidence_date == evidence) is (contract == expected)
    if contract != expected:
        assert f"ESZ5, which led on {evidence}" in found.because


def test_the_real_sessions_contract_is_the_files(tmp_path, real_data):
    name = (real_data / REAL).name
    session = calendar().session_of(1_703_545_200 * SECOND, "cme")  # 2023-12-25 23:00 UTC

    assert session.date == "2023-12-26"
    assert front(tmp_path, "ES", session).contract == name.partition("_")[0]

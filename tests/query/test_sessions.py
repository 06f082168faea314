"""What day a moment belongs to, against the zone database and the exchanges' published holidays of 2025."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from spymaster import events
from spymaster.normalize.databento.datasets import DATASETS
from spymaster.query import sessions

CHICAGO, NEW_YORK = ZoneInfo("America/Chicago"), ZoneInfo("America/New_York")

US_HOLIDAYS = {
    "2025-01-01", "2025-01-09", "2025-01-20", "2025-02-17", "2025-04-18", "2025-05-26", "2025-06-19", "2025-07-04",
    "2025-09-01", "2025-11-27", "2025-12-25", "2026-01-01",
}  # fmt: skip
US_HALF_DAYS = {"2025-07-03", "2025-11-28", "2025-12-24"}
CME_HOLIDAYS = {"2025-01-01", "2025-04-18", "2025-12-25", "2026-01-01"}


@pytest.fixture(scope="module")
def connection():
    connection = duckdb.connect()
    sessions.install(connection)
    return connection


def ns(text, zone=UTC):
    """Nanoseconds of e.g. `2025-03-09 15:59:59.999999999`, in integers."""
    moment, _, fraction = text.partition(".")
    seconds = int(datetime.fromisoformat(moment).replace(tzinfo=zone).timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def cme(text, zone=CHICAGO):
    return shown(sessions.calendar().session_date("cme", np.array([ns(text, zone)])))


def us(text, zone=NEW_YORK):
    return shown(sessions.calendar().session_date("us", np.array([ns(text, zone)])))


def rth(text, zone=NEW_YORK):
    return sessions.calendar().is_rth(np.array([ns(text, zone)]))[0].as_py()


def shown(dates):
    return dates[0].as_py().isoformat() if dates[0].is_valid else None


def expected(stamp_ns):
    """Of one moment: CME's date, the US date, and whether it is RTH; by the wall clocks of both cities."""
    moment = datetime.fromtimestamp(stamp_ns // 1_000_000_000, UTC)
    chicago, new_york = moment.astimezone(CHICAGO), moment.astimezone(NEW_YORK)
    globex = chicago.date() + timedelta(days=chicago.time() >= time(17))
    day, clock = new_york.date(), new_york.time()
    opens = day.weekday() < 5 and str(day) not in US_HOLIDAYS
    closes = time(13) if str(day) in US_HALF_DAYS else time(16)
    return (
        globex if globex.weekday() < 5 and str(globex) not in CME_HOLIDAYS else None,
        day if opens and time(4) <= clock < time(20) else None,
        opens and time(9, 30) <= clock < closes,
    )


def test_every_half_hour_of_2025_and_the_nanosecond_before_it_fall_where_the_wall_clocks_say():
    first, last = ns("2025-01-01 00:00:00"), ns("2026-01-01 12:00:00")
    starts = np.arange(first, last, sessions.HALF_HOUR_NS)
    stamps = np.sort(np.concatenate([starts, starts - 1, starts + 1]))[1:]
    table = sessions.calendar()

    found = zip(
        table.session_date("cme", stamps).to_pylist(),
        table.session_date("us", stamps).to_pylist(),
        table.is_rth(stamps).to_pylist(),
        strict=True,
    )
    for stamp, row in zip(stamps.tolist(), found, strict=True):
        assert row == expected(stamp), stamp


def test_sql_says_of_every_half_hour_of_the_calendar_what_python_says(connection):
    table = sessions.calendar()
    stamps = (np.arange(len(table.rth)) + table.first) * sessions.HALF_HOUR_NS
    stamps = np.concatenate([stamps, stamps + sessions.HALF_HOUR_NS - 1])
    moments = pa.table({"ts_ns": stamps})
    connection.register("moments", moments)

    for macro, column in (
        ("cme_session_date", table.session_date("cme", stamps)),
        ("us_session_date", table.session_date("us", stamps)),
        ("is_rth", table.is_rth(stamps)),
    ):
        found = connection.sql(f"select {macro}(ts_ns) as x from moments").to_arrow_table()["x"].combine_chunks()
        assert found.equals(column), macro


def test_ours_begin_with_the_librarys_sessions_of_cme_and_hold_them_whole():
    import exchange_calendars

    schedule = exchange_calendars.get_calendar("CMES", start="2000-01-03", end="2026-12-31").schedule
    opens, closes = (schedule[name].dt.as_unit("ns").dt.tz_convert(None).to_numpy() for name in ("open", "close"))
    table = sessions.calendar()
    days = schedule.index.to_numpy().astype("datetime64[D]").tolist()

    assert table.session_date("cme", opens.astype(np.int64)).to_pylist() == days
    assert table.session_date("cme", closes.astype(np.int64) - 1).to_pylist() == days
    before = table.session_date("cme", opens.astype(np.int64) - 1).to_pylist()
    assert all(earlier != day for earlier, day in zip(before, days, strict=True))


def test_rth_is_half_open_to_the_nanosecond():
    assert not rth("2025-12-22 09:29:59.999999999")
    assert rth("2025-12-22 09:30:00")
    assert rth("2025-12-22 15:59:59.999999999")
    assert not rth("2025-12-22 16:00:00")


def test_a_half_day_ends_at_one_and_a_holiday_has_no_rth():
    assert rth("2025-11-28 12:59:59.999999999")
    assert not rth("2025-11-28 13:00:00")
    assert not rth("2025-11-27 11:00:00")
    assert not rth("2025-12-25 11:00:00")


def test_rth_follows_new_yorks_clock_over_both_changes():
    for day, open_utc in (("2025-03-07", 14), ("2025-03-10", 13), ("2025-10-31", 13), ("2025-11-03", 14)):
        assert not rth(f"{day} {open_utc}:29:59.999999999", UTC)
        assert rth(f"{day} {open_utc}:30:00", UTC)


def test_extended_hours_belong_to_new_yorks_date_and_the_night_to_none():
    assert us("2025-12-22 03:59:59.999999999") is None
    assert us("2025-12-22 04:00:00") == "2025-12-22"
    assert us("2025-12-22 19:59:59.999999999") == "2025-12-22"  # 00:59 UTC of the next date
    assert us("2025-12-22 20:00:00") is None
    assert us("2025-12-20 11:00:00") is None  # a Saturday
    assert us("2025-11-27 11:00:00") is None
    assert us("2025-11-28 17:00:00") == "2025-11-28"  # after an early close


def test_cme_opens_the_evening_before():
    assert cme("2025-12-21 16:59:59.999999999") is None
    assert cme("2025-12-21 17:00:00") == "2025-12-22"  # Sunday
    assert cme("2025-12-22 16:59:59.999999999") == "2025-12-22"
    assert cme("2025-12-22 17:00:00") == "2025-12-23"
    assert cme("2025-12-26 17:00:00") is None  # Friday


def test_the_daily_pause_belongs_to_the_session_that_it_ends():
    assert cme("2025-12-22 15:59:59.999999999") == "2025-12-22"
    assert cme("2025-12-22 16:00:00") == "2025-12-22"
    assert cme("2025-12-22 16:30:00") == "2025-12-22"


def test_cme_has_a_session_on_thanksgiving_and_none_on_christmas():
    assert cme("2025-11-26 17:00:00") == "2025-11-27"
    assert cme("2025-11-27 11:59:59.999999999") == "2025-11-27"
    assert cme("2025-11-27 17:00:00") == "2025-11-28"
    assert cme("2025-12-24 12:14:59.999999999") == "2025-12-24"  # a quarter past noon, when ES closes
    assert cme("2025-12-24 17:00:00") is None
    assert cme("2025-12-25 16:59:59.999999999") is None
    assert cme("2025-12-25 17:00:00") == "2025-12-26"


@pytest.mark.parametrize("day", sessions.CME_OPEN)
def test_a_morning_on_which_only_new_york_was_closed_has_a_session_of_cme_and_no_regular_hours(day):
    evening = date.fromisoformat(day) - timedelta(1)
    following = None if date.fromisoformat(day).weekday() == 4 else str(date.fromisoformat(day) + timedelta(1))

    assert cme(f"{evening} 16:59:59.999999999") == str(evening)
    assert cme(f"{evening} 17:00:00") == day
    assert cme(f"{day} 08:14:59.999999999") == day
    assert cme(f"{day} 17:00:00") == following
    assert us(f"{day} 10:00:00") is None
    assert not rth(f"{day} 10:00:00")


def test_the_other_good_fridays_have_no_session():
    for day in ("2016-03-25", "2017-04-14", "2018-03-30", "2019-04-19", "2020-04-10", "2022-04-15", "2024-03-29"):
        assert cme(f"{day} 08:00:00") is None


def test_of_what_the_library_calls_closed_every_day_is_new_years_christmas_or_a_good_friday_or_known_to_be_open():
    import exchange_calendars
    import pandas as pd

    days = pd.bdate_range("2015-01-01", "2026-12-31")
    schedule = exchange_calendars.get_calendar("CMES", start="2015-01-01", end="2026-12-31").schedule.index
    closed = [day for day in days.difference(schedule) if str(day.date()) not in sessions.CME_OPEN]

    assert {(day.month, day.day) for day in closed if day.month in (1, 12)} <= {
        (1, 1),
        (1, 2),
        (12, 24),
        (12, 25),
        (12, 26),
    }
    assert {day.weekday() for day in closed if day.month in (3, 4)} == {4}
    assert {day.month for day in closed} == {1, 3, 4, 12}


def test_cmes_boundary_follows_chicagos_clock_over_both_changes():
    assert cme("2025-03-09 21:59:59.999999999", UTC) is None
    assert cme("2025-03-09 22:00:00", UTC) == "2025-03-10"
    assert cme("2025-03-06 22:59:59.999999999", UTC) == "2025-03-06"
    assert cme("2025-11-02 22:59:59.999999999", UTC) is None
    assert cme("2025-11-02 23:00:00", UTC) == "2025-11-03"
    assert cme("2025-10-30 22:00:00", UTC) == "2025-10-31"


def test_a_moment_outside_of_the_calendar_has_neither_and_fails_no_query(connection):
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    stamps = np.array([0, -1, lowest, highest, ns("1999-12-31 23:59:59"), ns("2100-01-04 15:00:00")])
    table = sessions.calendar()

    assert table.session_date("cme", stamps).null_count == len(stamps)
    assert table.is_rth(stamps).null_count == len(stamps)
    for macro in ("cme_session_date", "us_session_date", "is_rth"):
        found = connection.execute(f"select {macro}(x) from (select unnest(?::bigint[]) as x)", [stamps.tolist()])
        assert found.fetchall() == [(None,)] * len(stamps)


def test_the_rth_of_a_date_is_a_span_and_none_on_a_day_without():
    table = sessions.calendar()

    assert table.rth_span_ns("2025-12-22") == (ns("2025-12-22 14:30:00"), ns("2025-12-22 21:00:00"))
    assert table.rth_span_ns("2025-07-03") == (ns("2025-07-03 13:30:00"), ns("2025-07-03 17:00:00"))
    for day in ("2025-11-27", "2025-12-21", "1990-01-02", "2100-01-04"):
        assert table.rth_span_ns(day) is None


def test_a_table_of_some_dates_says_what_the_whole_says():
    part, whole = sessions.session_table("2025-12-20", "2025-12-31"), sessions.calendar()
    stamps = (np.arange(len(part.rth)) + part.first) * sessions.HALF_HOUR_NS

    assert len(part.rth) == 12 * 48
    assert part.session_date("cme", stamps).equals(whole.session_date("cme", stamps))
    assert part.session_date("us", stamps).equals(whole.session_date("us", stamps))
    assert part.is_rth(stamps).equals(whole.is_rth(stamps))


def test_a_session_of_cme_has_its_evening_its_morning_and_new_yorks_hours():
    session = sessions.calendar().session_of(ns("2025-12-22 12:00:00"), "cme")

    assert session.date == "2025-12-22"
    assert (session.begin_ns, session.end_ns) == (
        ns("2025-12-21 17:00:00", CHICAGO),
        ns("2025-12-22 17:00:00", CHICAGO),
    )
    assert session.rth == (ns("2025-12-22 09:30:00", NEW_YORK), ns("2025-12-22 16:00:00", NEW_YORK))
    assert session.overnight == (session.begin_ns, session.rth_begin_ns)
    assert session.premarket == (ns("2025-12-22 04:00:00", NEW_YORK), session.rth_begin_ns)
    assert session.opening_range == (session.rth_begin_ns, ns("2025-12-22 09:45:00", NEW_YORK))
    assert session.initial_balance == (session.rth_begin_ns, ns("2025-12-22 10:30:00", NEW_YORK))


def test_a_session_of_the_us_equities_is_the_new_york_day():
    session = sessions.calendar().session_of(ns("2025-12-22 20:00:00", UTC), "us")

    assert (session.begin_ns, session.end_ns) == (
        ns("2025-12-22 04:00:00", NEW_YORK),
        ns("2025-12-22 20:00:00", NEW_YORK),
    )
    assert session.overnight == session.premarket == (session.begin_ns, session.rth_begin_ns)


def test_spans_follow_the_wall_clocks_over_both_changes_of_the_clocks():
    for day in ("2025-03-07", "2025-03-10", "2025-10-31", "2025-11-03"):
        session = sessions.calendar().session_of(ns(f"{day} 12:00:00", NEW_YORK), "cme")
        evening = date.fromisoformat(day) - timedelta(1)
        assert session.begin_ns == ns(f"{evening} 17:00:00", CHICAGO)
        assert session.end_ns == ns(f"{day} 17:00:00", CHICAGO)
        assert session.premarket[0] == ns(f"{day} 04:00:00", NEW_YORK)
        assert session.opening_range[1] == ns(f"{day} 09:45:00", NEW_YORK)


def test_a_half_day_ends_early_and_a_morning_without_new_york_has_no_regular_hours():
    half = sessions.calendar().session_of(ns("2025-11-28 12:00:00", NEW_YORK), "cme")
    assert half.rth == (ns("2025-11-28 09:30:00", NEW_YORK), ns("2025-11-28 13:00:00", NEW_YORK))

    thanksgiving = sessions.calendar().session_of(ns("2025-11-27 12:00:00", NEW_YORK), "cme")
    assert thanksgiving.date == "2025-11-27"
    assert thanksgiving.overnight == (thanksgiving.begin_ns, thanksgiving.end_ns)
    empty = (thanksgiving.end_ns, thanksgiving.end_ns)
    assert {thanksgiving.rth, thanksgiving.opening_range, thanksgiving.initial_balance} == {empty}
    assert thanksgiving.premarket == empty


def test_sessions_between_two_times_are_those_with_a_part_in_it_and_each_is_whole():
    table = sessions.calendar()
    evening = ns("2025-12-22 17:00:00", CHICAGO)  # where the 22nd ends and the 23rd begins

    def between(begin, end):
        return [session.date for session in table.sessions_between(begin, end, "cme")]

    assert between(evening - 1, evening) == ["2025-12-22"]
    assert between(evening, evening + 1) == ["2025-12-23"]
    assert between(evening - 1, evening + 1) == ["2025-12-22", "2025-12-23"]
    assert between(evening, evening) == []
    assert between(ns("2025-12-18 12:00:00"), ns("2025-12-23 12:00:00")) == [
        "2025-12-18", "2025-12-19", "2025-12-22", "2025-12-23"
    ]  # fmt: skip
    for session in table.sessions_between(ns("2025-01-01 00:00:00"), ns("2026-01-01 00:00:00"), "cme"):
        assert session == table.session_of(session.begin_ns, "cme") == table.session_of(session.end_ns - 1, "cme")


def test_a_time_without_a_session_has_none():
    table = sessions.calendar()

    for stamp in (ns("2025-12-20 15:00:00"), ns("1999-01-04 15:00:00"), ns("2100-01-04 15:00:00"), -1):
        assert table.session_of(stamp, "cme") is None
        assert table.session_of(stamp, "us") is None
    assert table.session_of(ns("2025-12-22 03:59:59", NEW_YORK), "us") is None


def test_the_clocks_session_is_cmes_on_a_whole_day_and_there_is_one_on_every_other():
    table = sessions.calendar()
    whole = [ns(f"{day} 15:00:00") for day in ("2025-12-22", "2025-03-10", "2025-11-03")]
    for stamp in (*whole, ns("2025-12-21 17:00:00", CHICAGO)):
        assert sessions.clock_session(stamp) == table.session_of(stamp, "cme")

    stamp, days = ns("2025-10-31 17:00:00", CHICAGO), []
    for _ in range(4):  # Saturday, Sunday with its 25 hours, Monday, Tuesday
        session = sessions.clock_session(stamp)
        assert session.begin_ns == stamp
        days.append((session.date, (session.end_ns - stamp) // 3_600_000_000_000))
        stamp = session.end_ns
    assert days == [("2025-11-01", 24), ("2025-11-02", 25), ("2025-11-03", 24), ("2025-11-04", 24)]


@pytest.mark.parametrize(
    ("schema", "source", "root", "expected"),
    [
        ("futures.trades", "databento.glbx", "NQ", "2025-12-22"),
        ("futures.mbp10", "sim", "ES", "2025-12-22"),
        ("futures.trades", "api", "NQ", "2025-12-22"),
        ("options.trades", "databento.glbx", "ES", "2025-12-22"),
        ("options.trades", "databento.glbx", "QN3", "2025-12-22"),
        ("options.trades", "databento.glbx", "SPY", "2025-12-22"),
        ("options.trades", "databento.opra", "ES", None),  # the utility's
        ("options.trades", "massive.options", "ES", None),
        ("options.trades", "sim", "ES", "2025-12-22"),
        ("options.trades", "sim", "SPY", None),
        ("options.trades", "api", "ES", "2025-12-22"),
        ("options.trades", "api", "SPY", None),
        ("options.greeks_snapshots", "massive.options", "SPY", None),
        ("options.quotes", "databento.glbx", "ES", "2025-12-22"),
        ("options.quotes", "databento.opra", "SPY", None),
        ("options.quotes", "massive.options", "SPY", None),
        ("options.quotes", "sim", "ES", "2025-12-22"),
        ("options.quotes", "sim", "SPY", None),
        ("reference.statistics", "databento.glbx", "CL", "2025-12-22"),
        ("reference.statistics", "databento.opra", "SPY", None),
        ("reference.status", "databento.glbx", "ES", "2025-12-22"),
        ("reference.status", "databento.xnas", "SPY", None),
        ("reference.instruments", "databento.glbx", "CL", "2025-12-22"),
        ("reference.instruments", "databento.xnas", "ES", None),
        ("reference.instruments", "sim", "ES", "2025-12-22"),
        ("stocks.trades", "massive.stocks", "ES", None),
        ("stocks.quotes", "massive.stocks", "SPY", None),
        ("system.gaps", "spymaster", "spymaster", None),
    ],
)
def test_rows_follow_the_calendar_of_their_venue(connection, schema, source, root, expected):
    kind = events.schema_named(schema)
    moment = ns("2025-12-21 17:00:00", CHICAGO)
    rows = f"(select {moment} as ts_event_ns, '{source}' as source, '{root}' as {kind.partition_by})"
    found = connection.sql(f"select session_date, is_rth from (select {sessions.columns(kind)} from {rows})")

    assert [str(column).upper() for column in found.types] == ["DATE", "BOOLEAN"]
    in_rth = None if schema.startswith("system.") else False
    assert found.fetchall() == [(date.fromisoformat(expected) if expected else None, in_rth)]


def test_every_source_that_a_vendor_has_is_a_venues():
    named = {dataset.source for dataset in DATASETS.values()} | {"massive.stocks", "massive.options"}

    assert named == {*sessions.CME_SOURCES, *sessions.US_SOURCES}


def test_a_query_that_names_neither_column_does_not_read_the_time(connection, tmp_path):
    connection.execute(f"copy (select 0::bigint as ts_event_ns, 1 as size) to '{tmp_path}/rows.parquet'")
    rows = f"(select *, {sessions.columns(events.FUTURES_TRADES)} from '{tmp_path}/rows.parquet')"

    def plan(query):
        return connection.execute(f"explain {query}").fetchall()[0][1]

    assert "ts_event_ns" not in plan(f"select sum(size) from {rows}")
    assert "ts_event_ns" not in plan(f"select count(*) from {rows}")
    assert "ts_event_ns" in plan(f"select session_date from {rows}")


def test_a_cursor_has_the_columns_too(connection):
    moment = f"select is_rth({ns('2025-12-22 15:00:00')}), cme_session_date({ns('2025-12-22 15:00:00')})"

    assert connection.cursor().execute(moment).fetchone() == (True, date(2025, 12, 22))


@pytest.mark.parametrize("market", ["cme", "us"])
def test_a_live_time_lies_in_the_calendars_session_or_in_the_clocks(market):
    table = sessions.calendar()
    for half_hour in range(24 * 14 * 2):
        stamp = ns("2025-12-20 00:30:00") + half_hour * sessions.HALF_HOUR_NS
        found = sessions.session_at(stamp, market)
        known = table.session_of(stamp, market)
        if known is not None:
            assert found == known
        elif found is not None:
            assert found.begin_ns <= stamp < found.end_ns
            assert table.sessions_between(found.begin_ns, found.end_ns, market) == []
    assert sessions.session_at(ns("2025-12-20 12:00:00", NEW_YORK), market).date == "2025-12-20"  # a Saturday
    assert (sessions.session_at(ns("2025-12-22 21:00:00", NEW_YORK), market) is None) is (market == "us")

"""Gold read back: by underlying, date and span, in order, in each form; and as a view."""

import pandas as pd
import polars
import pyarrow as pa
import pytest

from spymaster import GoldReader
from spymaster.errors import UsageError
from spymaster.lake import gold
from spymaster.lake.gold import FILES, NOBODY
from spymaster.query.gold_rows import GIVEN, GoldRows
from spymaster.query.lake import connect
from tests.lake.test_gold import NOON_NS, SECOND, at

HOUR_S = 3_600


@pytest.fixture
def data(tmp_path):
    """Two snaps in each of three hours about midnight, and one of another underlying."""
    root = tmp_path / "lake"
    for hour in (10, 11, 12):  # 22:00, 23:00 and 0:00
        gold.publish(root, pa.Table.from_batches(at(hour * HOUR_S + 1, hour * HOUR_S + 2)), NOBODY)
    gold.publish(root, pa.Table.from_batches(at(11 * HOUR_S, underlying="SPY", levels=1)), NOBODY)
    return root


def seconds(frame):
    return sorted({(ns - NOON_NS) / SECOND for ns in frame["ts_event_ns"].tolist()})


def test_rows_are_those_that_were_written_in_order(data):
    frame = GoldReader(data).read_level_signals()

    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == FILES.names
    assert len(frame) == 12
    assert seconds(frame) == [36_001, 36_002, 39_601, 39_602, 43_201, 43_202]
    assert frame["ts_event_ns"].is_monotonic_increasing
    assert frame["level_price"].tolist() == [6_000.0, 6_001.0] * 6
    assert frame["level_touches"].dtype.kind in "iu"


def test_a_date_a_span_and_columns_are_all_that_is_read(data):
    read = GoldReader(data).read_level_signals

    assert seconds(read(date="2025-12-22")) == [36_001, 36_002, 39_601, 39_602]
    assert seconds(read(date="2025-12-23")) == [43_201, 43_202]
    begin, end = (NOON_NS + second * SECOND for second in (36_002, 43_202))
    assert seconds(read(start_ns=begin, end_ns=end)) == [36_002, 39_601, 39_602, 43_201]
    assert seconds(read(date="2025-12-23", end_ns=end)) == [43_201]
    assert read("SPY")["underlying"].tolist() == ["SPY"]
    assert read(columns=["signal", "spot"]).columns.tolist() == ["signal", "spot"]


def test_what_is_not_there_is_an_empty_frame_of_all_columns(data, tmp_path):
    for frame in (GoldReader(data).read_level_signals("NQ"), GoldReader(tmp_path / "none").read_level_signals()):
        assert frame.empty
        assert frame.columns.tolist() == FILES.names


def test_each_form_has_the_same_rows(data):
    reader = GoldReader(data)
    table = reader.arrow().read_level_signals()

    assert isinstance(table, pa.Table)
    assert isinstance(reader.polars().read_level_signals(), polars.DataFrame)
    assert reader.polars().read_level_signals()["ts_event_ns"].to_list() == table["ts_event_ns"].to_pylist()
    assert reader.relation().read_level_signals().fetchall() == [tuple(row.values()) for row in table.to_pylist()]


def test_a_late_snap_in_a_part_of_its_own_is_in_its_place(data):
    gold.publish(data, pa.Table.from_batches(at(36_001.5)), NOBODY)

    assert seconds(GoldReader(data).read_level_signals()) == [36_001, 36_001.5, 36_002, 39_601, 39_602, 43_201, 43_202]


def test_dates_on_disk_are_listed_in_order(data):
    assert GoldReader(data).get_available_dates() == ["2025-12-22", "2025-12-23"]
    assert GoldReader(data).get_available_dates("SPY") == ["2025-12-22"]
    assert GoldReader(data).get_available_dates("NQ") == []


def test_files_of_others_are_passed_over(data):
    folder = next((data / "gold").rglob("hour=22"))
    pd.DataFrame({"x": [1]}).to_parquet(folder / "mine.parquet")
    pd.DataFrame({"x": [1]}).to_parquet(folder / "part-220000_000000.parquet")

    assert len(GoldReader(data).read_level_signals()) == 12


@pytest.mark.parametrize("arguments", [{"date": "2025-13-01"}, {"columns": ["colour"]}])
def test_what_cannot_be_read_is_one_line(data, arguments):
    with pytest.raises(UsageError, match=r"Nothing was read\. Next: "):
        GoldReader(data).read_level_signals(**arguments)


def test_the_newest_snap_at_or_before_a_time_is_found(data):
    found = GoldRows(data).newest_ns

    assert found("ES", 2**62) == NOON_NS + 43_202 * SECOND
    assert found("ES", NOON_NS + 39_602 * SECOND) == NOON_NS + 39_602 * SECOND
    assert found("ES", NOON_NS + 39_602 * SECOND - 1) == NOON_NS + 39_601 * SECOND
    assert found("ES", NOON_NS + 39_600 * SECOND) == NOON_NS + 36_002 * SECOND
    assert found("ES", NOON_NS) is None


def test_each_signal_of_a_trading_day_is_given_once_as_it_began(tmp_path):
    root = tmp_path / "lake"
    rows = pa.Table.from_batches(at(1, 2, 3, 4)).to_pylist()
    said = {2: ("BREAK", 7), 4: ("BREAK", 7), 6: ("REJECT", 9)}  # of the first level at all snaps but the first
    for row, each in enumerate(rows):
        each["signal"], each["signal_since_ns"] = said.get(row, ("NEUTRAL", None))
    gold.publish(root, pa.Table.from_pylist(rows, FILES).select(gold.GOLD.names), NOBODY)

    names, given = GoldRows(root).given("ES", rows[0]["session"])
    assert names == list(GIVEN)
    assert [(one[0], one[1], one[3]) for one in given] == [(7, "ROUND_0", "BREAK"), (9, "ROUND_0", "REJECT")]
    with pytest.raises(
        UsageError, match=r"no Gold of ES in the session of 2025-12-29.*ask for 2025-12-22 to 2025-12-22"
    ):
        GoldRows(root).given("ES", "2025-12-29")


# As a view


def test_the_view_shows_gold_as_it_is_when_it_is_asked(data, tmp_path):
    with connect(data, tmp_path / "wal") as lake:
        assert lake.execute("select count(*), count(distinct underlying) from levels_signals").fetchone() == (13, 2)
        gold.publish(data, pa.Table.from_batches(at(43_260)), NOBODY)
        assert lake.execute("select count(*) from levels_signals where hour = 0").fetchone() == (6,)
        row = lake.execute("select date, session_date, is_rth, level_ids from levels_signals limit 1").fetchone()
        assert (str(row[0]), str(row[1]), row[2]) == ("2025-12-22", "2025-12-22", False)
        assert isinstance(row[3], list)


def test_the_view_is_there_and_empty_without_gold(tmp_path):
    with connect(tmp_path / "lake", tmp_path / "wal") as lake:
        assert lake.execute("select * from levels_signals").fetchall() == []
        names = [name for name, *_ in lake.execute("describe levels_signals").fetchall()]
        assert names == [*FILES.names, "session_date", "is_rth"]

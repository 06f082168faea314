"""What a reader gives for a question, against plain Python over the same rows."""

import asyncio

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from spymaster import BronzeReader, BronzeWriter, events, settings
from spymaster.errors import UsageError
from tests.rows import NOON_NS, TRADES, delivered

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """Trades of two contracts and a spread over three days; the later contract trades most on the last."""
    monkeypatch.setenv("WAL_ROOT", str(tmp_path / "wal"))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "lake"))
    rows = []
    for day, busiest in enumerate(("ESZ5", "ESZ5", "ESH6")):
        for contract in ("ESZ5", "ESH6", "ESZ5-ESH6"):
            size = 9 if "-" in contract else 5 if contract == busiest else 2
            for hour in (0, 1):
                stamp = NOON_NS + (day * 24 + hour) * HOUR_NS
                rows.append({"ts_event_ns": stamp, "contract": contract, "size": size})
    batch = delivered(TRADES, len(rows))
    for name in ("ts_event_ns", "contract", "size"):
        index = batch.schema.get_field_index(name)
        values = pa.array([row[name] for row in rows], batch.schema.field(name).type)
        batch = batch.set_column(index, batch.schema.field(name), values)

    async def write():
        writer = BronzeWriter()
        await writer.write("futures.trades", batch)
        await writer.stop()

    asyncio.run(write())
    return rows


def found(frame):
    return sorted(zip(frame["ts_event_ns"], frame["contract"], strict=True))


def expected(rows, keep):
    return sorted((row["ts_event_ns"], row["contract"]) for row in rows if keep(row))


def test_all_rows_come_sorted_by_event_time(lake):
    frame = BronzeReader().read_futures_trades(front_month_only=False)

    assert found(frame) == expected(lake, lambda row: True)
    assert frame["ts_event_ns"].is_monotonic_increasing


def test_a_span_is_half_open_and_a_date_is_utc(lake):
    start, end = NOON_NS + HOUR_NS, NOON_NS + 24 * HOUR_NS
    reader = BronzeReader()

    span = reader.read_futures_trades(start_ns=start, end_ns=end + 1, front_month_only=False)
    assert found(span) == expected(lake, lambda row: start <= row["ts_event_ns"] <= end)
    assert end not in set(reader.read_futures_trades(start_ns=start, end_ns=end, front_month_only=False)["ts_event_ns"])
    day = reader.read_futures_trades(date="2025-12-23", front_month_only=False)
    assert set(day["date"]) == {"2025-12-23"}
    assert len(day) == 6


def test_the_front_month_is_each_dates_most_traded_outright_never_a_spread(lake):
    frame = BronzeReader().read_futures_trades()

    by_date = {date: set(group["contract"]) for date, group in frame.groupby("date")}
    assert by_date == {"2025-12-22": {"ESZ5"}, "2025-12-23": {"ESZ5"}, "2025-12-24": {"ESH6"}}


def test_one_contract_can_be_asked_for(lake):
    assert set(BronzeReader().read_futures_trades(specific_contract="ESZ5-ESH6")["contract"]) == {"ESZ5-ESH6"}


def test_the_forms_hold_the_same_rows_and_integers_are_exact(lake):
    reader = BronzeReader()
    frame = reader.read_futures_trades()
    table = reader.arrow().read_futures_trades()

    assert isinstance(frame, pd.DataFrame)
    assert isinstance(table, pa.Table)
    assert isinstance(reader.polars().read_futures_trades(), pl.DataFrame)
    assert reader.relation().read_futures_trades().count("*").fetchall() == [(len(frame),)]
    assert frame["ts_event_ns"].dtype == np.int64
    assert frame["capture_seq"].tolist() == table["capture_seq"].to_pylist()


def test_option_quotes_are_read_of_an_underlying_or_of_one_option_and_statistics_and_states_of_a_root(lake):
    async def write():
        writer = BronzeWriter()
        await writer.write("options.quotes", delivered(events.OPTIONS_QUOTES, 14))
        for schema in (events.REFERENCE_STATISTICS, events.REFERENCE_STATUS):
            await writer.write(schema.name, delivered(schema, 5))
            await writer.write(schema.name, delivered(schema, 3, symbol="NQ"))
        await writer.stop()

    asyncio.run(write())
    reader = BronzeReader()

    assert len(reader.read_option_quotes()) == 14
    one = reader.read_option_quotes(option_symbol="option_symbol3", end_ns=NOON_NS + 10 * 1_000_000)
    assert one["ts_event_ns"].tolist() == [NOON_NS + 3 * 1_000_000]
    assert reader.read_option_quotes("SPY").empty
    for read in (reader.read_statistics, reader.read_status):
        assert [len(read()), len(read("NQ", date="2025-12-22")), len(read(start_ns=NOON_NS + 1))] == [5, 3, 4]


def test_a_column_of_integers_with_a_null_stays_exact(tmp_path, monkeypatch, lake):
    odd = NOON_NS + 1
    batch = delivered(TRADES, 2, symbol="NQ")
    index = batch.schema.get_field_index("seq")
    batch = batch.set_column(index, batch.schema.field("seq"), pa.array([odd, None], pa.int64()))

    async def write():
        writer = BronzeWriter()
        await writer.write("futures.trades", batch)
        await writer.stop()

    asyncio.run(write())
    frame = BronzeReader().read_futures_trades(symbol="NQ", front_month_only=False)

    assert frame["seq"].tolist() == [odd, pd.NA]


def test_what_is_not_there_is_an_empty_frame_with_the_columns(lake):
    frame = BronzeReader().read_option_trades()

    assert len(frame) == 0
    assert "strike" in frame.columns


def test_dates_are_listed_by_partition_as_the_layout_prints_it(lake):
    reader = BronzeReader()

    assert reader.get_available_dates("futures/trades", "symbol=ES") == ["2025-12-22", "2025-12-23", "2025-12-24"]
    assert reader.get_latest_date("futures/trades", "symbol=ES") == "2025-12-24"
    assert reader.get_latest_date("futures/trades", "symbol=NQ") is None
    for partition in ("ES", "underlying=ES", "symbol="):
        with pytest.raises(UsageError, match="is not a partition"):
            reader.get_available_dates("futures/trades", partition)
    for given, advised in (
        ("symbol", "symbol=ES"),
        ("ES", "symbol=ES"),
        ("NQ", "symbol=NQ"),
        ("underlying=NQ", "symbol=NQ"),
    ):
        with pytest.raises(UsageError, match=f"Next: give it as {advised}$"):
            reader.get_available_dates("futures/trades", given)


def test_a_symbol_from_outside_never_leaves_the_lake(lake):
    secret = settings.load().data_root.parent / "etc"
    secret.mkdir()

    assert len(BronzeReader().read_futures_trades(symbol="../../etc", front_month_only=False)) == 0
    with pytest.raises(UsageError, match="is not a date"):
        BronzeReader().read_futures_trades(date="../../etc")

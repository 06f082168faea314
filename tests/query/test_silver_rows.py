"""A date reads the same before and after it is compacted, and reading an hour touches the files of that hour alone."""

import shutil

import duckdb
import pyarrow as pa
import pytest

from spymaster import SilverReader, events
from spymaster.compaction import compactor
from spymaster.compaction.compactor import compact, partitions
from spymaster.errors import UsageError
from spymaster.events import MARKET_SCHEMAS
from spymaster.lake import silver
from tests.compaction.silver_oracle import flush
from tests.rows import BOOKS, NOON_NS, TRADES, numbered

HOUR_MS, DAY_MS = 3_600_000, 24 * 3_600_000
HOUR_NS = HOUR_MS * 1_000_000


@pytest.fixture
def lake(tmp_path):
    (tmp_path / "wal").mkdir()
    return tmp_path / "lake"


@pytest.fixture
def reader(tmp_path, lake):
    return SilverReader(lake, tmp_path / "wal")


def compacted(lake, hours=range(24)):
    wanted = [own for own in partitions(lake, MARKET_SCHEMAS) if own.hour is None or own.hour in hours]
    with compactor.lock(lake):
        return compact(lake, wanted)


def three_hours(tmp_path):
    """Two captures that overlap by 50 rows in the second of three hours."""
    for hour in range(3):
        flush(tmp_path, TRADES, numbered(TRADES, 100, hour * HOUR_MS), created_ns=NOON_NS + hour)
    again = numbered(TRADES, 50, HOUR_MS, capture_id=2)
    flush(tmp_path, TRADES, again, created_ns=NOON_NS + 9)


def test_a_date_reads_the_same_before_while_and_after_it_is_compacted(tmp_path, lake, reader):
    three_hours(tmp_path)

    found = []
    for hours in ([], [13], range(24)):
        compacted(lake, hours)
        found.append(reader.arrow().read_date("2025-12-22", schema="futures.trades"))

    assert found[0].equals(found[1])
    assert found[0].equals(found[2])
    assert found[0].num_rows == 300
    assert found[0].schema.names == [*silver.columns_of(events.FUTURES_TRADES).names, "session_date", "is_rth"]
    stamps = found[0]["ts_event_ns"].to_pylist()
    assert stamps == sorted(stamps)


def test_a_plain_duckdb_read_of_silver_gives_the_same_rows(tmp_path, lake, reader):
    three_hours(tmp_path)
    compacted(lake)

    found = reader.arrow().read_date("2025-12-22", schema="futures.trades.v1", columns=["ts_event_ns", "price"])

    plain = duckdb.sql(f"select ts_event_ns, price from read_parquet('{lake}/silver/futures/trades/**/*.parquet')")
    assert found.to_pylist() == plain.order("ts_event_ns").to_arrow_table().to_pylist()


def test_a_range_has_both_of_its_dates_and_one_symbol_where_one_is_asked_for(tmp_path, lake, reader):
    for day in range(4):
        for symbol in ("ES", "NQ"):
            rows = numbered(BOOKS, 10, day * DAY_MS, symbol=symbol)
            flush(tmp_path, BOOKS, rows, symbol, created_ns=NOON_NS + day)
    compacted(lake)

    df = reader.read_date_range(start_date="2025-12-23", end_date="2025-12-24", schema="futures.mbp10", symbol="ES")

    assert (len(df), set(df["symbol"]), set(df["date"].astype(str))) == (20, {"ES"}, {"2025-12-23", "2025-12-24"})
    start_ns, end_ns = NOON_NS + 24 * HOUR_NS + 2_000_000, NOON_NS + 24 * HOUR_NS + 5_000_000
    df = df[(df["ts_event_ns"] >= start_ns) & (df["ts_event_ns"] < end_ns)]
    assert len(df) == 3
    assert len(reader.read_date("2025-12-22", schema="futures.mbp10")) == 20


def test_a_range_is_in_order_though_some_of_its_dates_have_silver_alone(tmp_path, lake, reader):
    for day in range(3):
        flush(tmp_path, TRADES, numbered(TRADES, 10, day * DAY_MS), created_ns=NOON_NS + day)
    compacted(lake)
    shutil.rmtree(lake / "bronze/futures/trades/symbol=ES/date=2025-12-22")  # as people do who clean up

    found = reader.arrow().read_date_range("2025-12-22", "2025-12-24", "futures.trades", "ES")

    assert found["capture_seq"].to_pylist() == [day * DAY_MS + number for day in range(3) for number in range(10)]


def test_a_span_is_half_open_and_reads_only_the_files_of_its_hours(tmp_path, lake, reader):
    three_hours(tmp_path)
    done = compacted(lake)
    for result in done:
        if result.partition.hour != 13:  # whoever opens these fails
            silver.file_of(lake, result.partition).write_bytes(b"no Parquet")
            for path in (lake / "bronze" / result.partition.folder).iterdir():
                path.unlink()
                path.mkdir()

    found = reader.arrow().read_date(
        "2025-12-22", "futures.trades", symbol="ES",
        start_ns=NOON_NS + HOUR_NS + 10_000_000, end_ns=NOON_NS + HOUR_NS + 20_000_000,
    )  # fmt: skip

    assert found["ts_event_ns"].to_pylist() == [NOON_NS + HOUR_NS + ms * 1_000_000 for ms in range(10, 20)]


@pytest.mark.parametrize("schema", [TRADES, events.OPTIONS_QUOTES, events.REFERENCE_STATUS, events.STOCKS_QUOTES])
def test_one_instrument_is_read_alone_before_and_after_it_is_compacted(tmp_path, lake, reader, schema):
    for hour in range(2):
        rows = numbered(schema, 100, hour * HOUR_MS, symbol="SPY")
        flush(tmp_path, schema, rows, "SPY", created_ns=NOON_NS + hour)
    whole = reader.arrow().read_date("2025-12-22", schema.name)
    name = schema.identity[0]
    wanted = whole[name][3].as_py()

    before = reader.arrow().read_date("2025-12-22", schema.name, instrument=wanted)
    compacted(lake)
    after = reader.arrow().read_date("2025-12-22", schema.name, "SPY", NOON_NS, instrument=wanted)

    expected = [row for row in whole.to_pylist() if row[name] == wanted]
    assert before.to_pylist() == expected
    assert after.to_pylist() == expected
    assert (20 < len(expected) < 50) is (name != "symbol")


def test_option_trades_come_enriched_and_with_nulls_before_they_are(tmp_path, lake, reader):
    flush(tmp_path, events.OPTIONS_TRADES, numbered(events.OPTIONS_TRADES, 10, symbol="SPY"), "SPY")
    greeks = numbered(events.OPTIONS_GREEKS_SNAPSHOTS, 10, symbol="SPY")
    flush(tmp_path, events.OPTIONS_GREEKS_SNAPSHOTS, greeks, "SPY")

    before = reader.arrow().read_date("2025-12-22", "options.trades")
    compacted(lake)
    after = reader.arrow().read_date("2025-12-22", "options.trades_enriched.v1")

    assert before["greeks_snapshot_id"].null_count == 10
    assert after["greeks_snapshot_id"].to_pylist() == greeks["snapshot_id"].to_pylist()
    assert after["greeks_age_ns"].to_pylist() == [0] * 10
    assert before.select(events.OPTIONS_TRADES.log.names).equals(after.select(events.OPTIONS_TRADES.log.names))
    assert len(reader.read_date("2025-12-22", "options.greeks")) == 10


def test_what_names_an_event_is_the_same_in_hours_that_are_compacted_and_in_others(tmp_path, lake, reader):
    three_hours(tmp_path)
    compacted(lake, [12, 13])
    names = ["event_id", "occurrence"]

    found = reader.arrow().read_date("2025-12-22", "futures.trades", columns=["capture_seq", *names])

    compacted(lake, range(24))
    plain = duckdb.sql(
        f"select event_id, occurrence from read_parquet('{lake}/silver/**/*.parquet') order by ts_event_ns"
    )
    assert found.select(names).to_pylist() == plain.to_arrow_table().to_pylist()
    assert found["occurrence"].to_pylist() == [1] * 300
    assert set(names) <= set(reader.read_date("2025-12-22", "futures.trades"))


def test_results_come_as_they_are_asked_for_and_integers_stay_exact(tmp_path, lake, reader):
    flush(tmp_path, TRADES, numbered(TRADES, 100))
    expected = NOON_NS + 99_000_000
    given = {"date": "2025-12-22", "schema": "futures.trades"}

    frame = reader.read_date(**given)
    assert frame["ts_event_ns"].max() == expected
    assert str(frame["ts_event_ns"].dtype) == "int64"
    assert reader.polars().read_date(**given)["ts_event_ns"].max() == expected
    assert reader.relation().read_date(**given).aggregate("max(ts_event_ns)").fetchall() == [(expected,)]
    assert isinstance(reader.arrow().read_date(**given), pa.Table)


def test_what_is_not_there_is_an_empty_frame_and_what_cannot_be_is_refused(tmp_path, lake, reader):
    flush(tmp_path, TRADES, numbered(TRADES, 10))

    assert len(reader.read_date("2024-01-01", "futures.trades")) == 0
    assert len(reader.read_date("2025-12-22", "futures.trades", symbol="NQ")) == 0
    assert list(reader.read_date("2024-01-01", "futures.trades", columns=["price"])) == ["price"]
    for arguments, complaint in (
        (("yesterday", "futures.trades"), "is not a date"),
        (("2025-12-22", "futures.candles"), "there is no schema"),
        (("2025-12-22", "futures.trades", None, None, None, ["prize"]), "has no column 'prize'"),
        (("2025-12-22", "futures.trades", ""), "is empty"),
    ):
        with pytest.raises(UsageError, match=complaint):
            reader.read_date(*arguments)

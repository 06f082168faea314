"""Lakes whose place, or whose rows' times, are odd: every reader shows what was recorded."""

import asyncio

import pyarrow as pa
import pytest

from spymaster import BronzeReader, BronzeWriter, ContractSelector, SilverCompactor, SilverReader
from spymaster.query.lake import connect

TIME_NS = 1_765_897_200_000_000_000  # 15:00 UTC on 2025-12-16
LAST_NS = 2**63 - 1  # on 2262-04-11
SHOWN = [
    (TIME_NS, "ES", "ESZ5", 6900.25, 1, "api", "2025-12-16", 15),
    (TIME_NS, "NQ", "NQZ5", 25000.0, 2, "api", "2025-12-16", 15),
]
COLUMNS = "ts_event_ns, symbol, contract, price, size, source, date::text, hour"


def record(monkeypatch, root, times_ns=(TIME_NS, TIME_NS)):
    monkeypatch.setenv("DATA_ROOT", str(root / "lake"))
    monkeypatch.setenv("WAL_ROOT", str(root / "wal"))
    columns = {
        "ts_event_ns": list(times_ns),
        "symbol": ["ES", "NQ"],
        "contract": ["ESZ5", "NQZ5"],
        "price": [6900.25, 25000.0],
        "size": pa.array([1, 2], pa.int32()),
        "aggressor": pa.array([0, 0], pa.int8()),
    }

    async def write():
        writer = BronzeWriter()
        await writer.write("futures.trades", pa.RecordBatch.from_pydict(columns))
        await writer.stop()

    asyncio.run(write())
    return root / "lake"


@pytest.mark.parametrize(
    "above", ["symbol=X/date=y", "date=2020-01-01/hour=3", "price=3/source=z/size=9/contract=Q", "a=b", "[a=*]"]
)
def test_no_reader_takes_a_column_from_a_name_above_the_lake(tmp_path, monkeypatch, above):
    root = tmp_path / above
    data = record(monkeypatch, root)

    def shown(view):
        with connect(data, root / "wal") as lake:
            return lake.sql(f"select {COLUMNS} from {view} order by symbol").fetchall()

    assert shown("futures_trades") == SHOWN
    assert shown("bronze_futures_trades") == SHOWN
    SilverCompactor().compact_all_schemas("2025-12-16")
    assert shown("futures_trades") == SHOWN
    assert shown("silver_futures_trades") == SHOWN
    with connect(data, root / "wal") as lake:
        assert lake.sql("from futures_trades").columns == lake.sql("from silver_futures_trades").columns
        assert lake.sql(
            "select sum(rows) from (select count(*) as rows from futures_trades where date = '2025-12-16')"
        ).fetchall() == [(2,)]
    for rows in (
        BronzeReader().arrow().read_futures_trades("ES"),
        BronzeReader().arrow().read("futures.trades", "ES", "2025-12-16"),
        SilverReader().arrow().read_date("2025-12-16", "futures.trades", "ES"),
    ):
        (row,) = rows.to_pylist()
        assert (row["symbol"], row["contract"], row["price"], row["size"], row["source"]) == (
            "ES",
            "ESZ5",
            6900.25,
            1,
            "api",
        )
        assert (str(row["date"]), row["hour"]) == ("2025-12-16", 15)
    assert BronzeReader().get_available_dates("futures/trades", "symbol=ES") == ["2025-12-16"]
    assert ContractSelector(data).front_month("ES", "2025-12-16").contract == "ESZ5"


def test_a_row_at_the_last_instant_of_64_bits_is_shown_by_every_reader(tmp_path, monkeypatch):
    data = record(monkeypatch, tmp_path, (LAST_NS, TIME_NS))

    for _ in range(2):
        with connect(data, tmp_path / "wal") as lake:
            query = "select session_date, is_rth, date::text, hour, contract from futures_trades where symbol = 'ES'"
            assert lake.sql(query).fetchall() == [(None, None, "2262-04-11", 23, "ESZ5")]
        for rows in (
            BronzeReader().arrow().read_futures_trades("ES"),
            BronzeReader().arrow().read("futures.trades", "ES", start_ns=LAST_NS),
            SilverReader().arrow().read_date("2262-04-11", "futures.trades", "ES", start_ns=LAST_NS),
        ):
            assert rows["ts_event_ns"].to_pylist() == [LAST_NS]
        assert BronzeReader().arrow().read("futures.trades", "ES", end_ns=LAST_NS).num_rows == 0
        assert ContractSelector(data).front_month("ES", "2262-04-11").contract == "ESZ5"
        SilverCompactor().compact_all_schemas("2262-04-11")

"""A lake for SQL: it reads what a query names, writes nothing, and gives every type without further packages."""

import hashlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import duckdb
import pytest

from spymaster.errors import UsageError
from spymaster.lake.layout import Tier
from spymaster.query.lake import connect
from spymaster.query.one_table import OneTable
from tests.compaction.silver_oracle import flush
from tests.rows import TRADES, numbered


@pytest.fixture
def data(tmp_path):
    (tmp_path / "wal").mkdir()
    flush(tmp_path, TRADES, numbered(TRADES, 100))
    return tmp_path / "lake"


@pytest.fixture
def lake(tmp_path, data):
    with connect(data, tmp_path / "wal") as opened:
        yield opened


def files(data):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in data.rglob("*") if path.is_file()}


def test_a_query_takes_snapshots_of_the_tables_it_names_and_of_no_other(lake, monkeypatch):
    taken = []
    snapshot = OneTable.snapshot
    monkeypatch.setattr(
        OneTable, "snapshot", lambda table, *within: taken.append(table._schema.name) or snapshot(table, *within)
    )

    lake.execute("with futures_mbp10 as (select 'stocks_trades') select count(*) from futures_trades, futures_mbp10")
    assert sorted(taken) == ["futures.mbp10", "futures.trades"]
    taken.clear()
    lake.execute("select count(*) from bronze_futures_trades, silver_options_trades_enriched")
    assert taken == []
    lake.execute("create view mine as from futures_trades")
    lake.execute("from mine")
    assert set(taken) == {table._schema.name for table in lake._tables.values()}


WRITERS = {
    "execute": lambda lake, file: lake.execute(f"copy (select 1) to '{file}'"),
    "sql": lambda lake, file: lake.sql(f"copy (select 1) to '{file}'"),
    "the connection": lambda lake, file: lake.connection.execute(f"copy (select 1) to '{file}'"),
    "its statements": lambda lake, file: lake.connection.execute(
        lake.connection.extract_statements(f"copy (select 1) to '{file}'")[0]
    ),
    "its cursor": lambda lake, file: lake.connection.cursor().sql(f"copy (select 1) to '{file}'"),
    "an answer": lambda lake, file: lake.execute("select 1").execute(f"copy (select 1) to '{file}'"),
    "a relation": lambda lake, file: lake.sql("from futures_trades").write_parquet(str(file)),
    "one made of it": lambda lake, file: lake.sql("from futures_trades").limit(1).write_csv(str(file)),
    "a query on it": lambda lake, file: lake.sql("select 1 as a").query("t", f"copy t to '{file}'"),
    "a prepared one": lambda lake, file: (
        lake.execute(f"prepare p as copy (select 1) to '{file}'"), lake.execute("execute p"),
    ),
    "an explained one": lambda lake, file: lake.execute(f"explain analyze copy (select 1) to '{file}'"),
    "a database": lambda lake, file: lake.execute(f"attach '{file}'"),
    "a log": lambda lake, file: (
        lake.execute(f"call enable_logging('QueryLog', storage = 'file', storage_config = {{'path': '{file}'}})"),
        lake.execute("select 1"),
    ),
    "extensions": lambda lake, file: (lake.execute(f"set extension_directory = '{file}'"), lake.execute("load httpfs")),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_nothing_is_written_into_the_lake_whichever_way_is_tried(lake, data, write):
    before = files(data)

    for tier in Tier:
        tier.of(data).mkdir(exist_ok=True, parents=True)
        with pytest.raises(UsageError, match="is refused") as error:
            write(lake, tier.of(data) / "x.parquet")

        assert "the lake is as it was" in str(error.value) or "Nothing was changed" in str(error.value)
        assert files(data) == before
    assert lake.execute("select count(*) from futures_trades").fetchone() == (100,)


def test_tables_and_views_of_ones_own_live_in_memory(lake, data):
    before = files(data)

    lake.execute("create temp table mine as select symbol, sum(size) as volume from futures_trades group by all")
    lake.execute("insert into mine values ('NQ', 1)")
    lake.sql("from mine where symbol = 'NQ'").create_view("few")
    lake.execute("set threads = 1")

    assert lake.execute("from few").fetchall() == [("NQ", 1)]
    assert lake.sql("from mine").join(lake.sql("select 'NQ' as symbol"), "symbol").fetchall() == [("NQ", 1)]
    assert files(data) == before


def test_a_relation_is_one_to_everybody_who_reads_it(lake):
    relation = lake.sql("select capture_seq from futures_trades order by 1")

    assert len(relation) == 100
    assert relation.columns == ["capture_seq"]
    assert "capture_seq" in repr(relation)
    assert duckdb.sql("select count(*) from relation").fetchall() == [(100,)]
    assert relation.filter("capture_seq < 2").fetchall() == [(0,), (1,)]


def test_times_with_a_zone_need_no_other_package_and_are_in_utc(lake):
    """DuckDB's own fetching needs pytz, which is nobody's dependency."""
    noon = datetime(2025, 12, 22, 17, tzinfo=UTC)
    query = "select timezone('America/New_York', timestamp '2025-12-22 12:00:00') as t union all select null order by 1"

    assert lake.execute(query).fetchall() == [(noon,), (None,)]
    answer = lake.execute(query)
    assert [answer.fetchone(), answer.fetchone(), answer.fetchone()] == [(noon,), (None,), None]
    relation = lake.sql(query)
    assert relation.fetchall() == relation.fetchall() == [(noon,), (None,)]
    assert lake.execute("select [timestamptz '2025-12-22 17:00:00+00']").fetchone() == ([noon],)
    assert lake.execute("select timestamptz '2025-12-22 12:00:00'::varchar").fetchone() == ("2025-12-22 12:00:00+00",)
    local = lake.execute("select timestamptz '2025-12-22 17:00:00Z' at time zone 'America/New_York'").fetchone()
    assert local == (noon.astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None),)
    assert lake.sql(query).df()["t"][0] == noon


@pytest.mark.parametrize("ask", ["execute", "sql"])
def test_an_empty_query_is_one_line(lake, ask):
    with pytest.raises(UsageError, match="the query is empty"):
        getattr(lake, ask)(" ; ")

"""A lake for SQL: it reads what a query names, writes nothing, and gives every type without further packages."""

import hashlib
import shutil
import tempfile
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import duckdb
import pytest

from spymaster.compaction import compactor
from spymaster.compaction.compactor import compact, partitions
from spymaster.errors import ReplacedError, UsageError
from spymaster.lake.layout import Tier
from spymaster.query.lake import STREAM_ROWS, connect
from spymaster.query.one_table import OneTable
from spymaster.query.statements import SETTINGS
from tests.compaction.silver_oracle import flush
from tests.rows import NOON_NS, TRADES, numbered


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
    "stream": lambda lake, file: lake.stream(f"copy (select 1) to '{file}'").__enter__(),
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
    "groups of one": lambda lake, file: lake.sql("select 1 as a").group_by("a").agg("a").write_csv(str(file)),
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


@pytest.mark.parametrize(
    "query",
    [
        "call enable_logging('QueryLog', storage = 'file', storage_config = {{'path': '{}'}})",
        "from query('from enable_' || 'logging(storage = ''file'', storage_path = ''{}'')')",
        "call enable_profiling(format = 'json', save_location = '{}.json')",
        "from enable_profiling(format = 'json', save_location = '{}.json')",
        "set variable x = 1; from query('from enable_profiling(format = ''json'', save_location = ''{}.json'')')",
    ],
)
def test_functions_that_set_where_duckdb_writes_are_refused_by_duckdb_itself(lake, data, query):
    before = files(data)

    with pytest.raises(duckdb.InvalidInputException, match="the configuration has been locked"):
        lake.execute(query.format(Tier.BRONZE.of(data) / "x")).fetchall()

    lake.execute("select 1").fetchall()
    assert files(data) == before


def test_the_package_runs_no_statement_past_the_guard(lake, data):
    """`duckdb.sql` takes any object for a connection, and asks it by private names."""
    before = files(data)
    copy = f"copy (select 1) to '{Tier.BRONZE.of(data) / 'x.parquet'}'"

    with pytest.raises(AttributeError, match="would end the guard"):
        duckdb.sql(copy, connection=lake.connection)

    assert files(data) == before


def test_a_session_may_set_what_is_said_that_it_may(lake):
    for name in SETTINGS:
        lake.execute(f"reset {name}")
    lake.execute("set threads = 1; set time zone 'UTC'; set variable x = 1")
    assert lake.execute("select getvariable('x'), current_setting('threads')").fetchall() == [(1, 1)]


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


def many_hours(tmp_path, hours=40):
    """A lake of more hours than DuckDB opens ahead of the rows that are fetched."""
    for hour in range(hours):
        flush(tmp_path, TRADES, numbered(TRADES, 3_000, hour * 3_600_000), created_ns=NOON_NS + hour)
    return 3_000 * hours


def test_a_stream_gives_all_rows_in_batches_while_they_are_read(tmp_path):
    rows = many_hours(tmp_path)

    with connect(tmp_path / "lake", tmp_path / "wal") as lake:
        with lake.stream("from futures_trades") as batches:
            sizes = [batch.num_rows for batch in batches]
        with lake.stream("from futures_trades where capture_seq < ?", [7]) as batches:
            assert batches.read_all().num_rows == 7
        with lake.stream("from futures_trades") as batches:
            assert batches.read_next_batch().num_rows  # and no more
        assert lake.execute("select count(*) from futures_trades").fetchone() == (rows,)

    assert sum(sizes) == rows
    assert len(sizes) > 1
    assert max(sizes) <= STREAM_ROWS


def test_a_stream_gives_types_as_text_where_it_is_asked_to(lake):
    query = 'select 1 as a, interval 1 day as a, [1, 2] as "q""", \'x\' as b'

    with lake.stream(query, as_text=["interval", "list"]) as batches:
        found = batches.read_all()

    assert found.column_names == ["a", "a", 'q"', "b"]
    assert [column.to_pylist() for column in found.columns] == [[1], ["1 day"], ["[1, 2]"], ["x"]]


def test_a_stream_amid_which_silver_is_replaced_says_that_its_rows_are_not_to_be_kept(tmp_path):
    many_hours(tmp_path, 2)
    with compactor.lock(tmp_path / "lake"):
        compact(tmp_path / "lake", partitions(tmp_path / "lake", [TRADES]))
    files = sorted((tmp_path / "lake" / "silver").rglob("part-0000.parquet"))

    def fetch(lake):
        with lake.stream("from futures_trades"):
            shutil.copy(files[0], tmp_path / "draft")
            (tmp_path / "draft").rename(files[0])

    with connect(tmp_path / "lake", tmp_path / "wal") as lake:
        with pytest.raises(ReplacedError, match="not to be kept.*Next: ask again"):
            fetch(lake)
        with lake.stream("select count(*) from futures_trades") as batches:
            assert batches.read_all().to_pylist() == [{"count_star()": 6_000}]


def test_a_stream_whose_parts_are_archived_before_they_are_read_says_so_too(tmp_path):
    many_hours(tmp_path)
    parts = sorted((tmp_path / "lake" / "bronze").rglob("*.parquet"))

    def fetch(lake):
        with lake.stream("from futures_trades") as batches:
            for part in parts:
                part.rename(tmp_path / part.name)
            batches.read_all()

    with connect(tmp_path / "lake", tmp_path / "wal") as lake, pytest.raises(ReplacedError):
        fetch(lake)


def test_a_stream_that_fails_for_another_reason_says_which(lake):
    with pytest.raises(OSError, match="no room"), lake.stream("from futures_trades"):
        raise OSError("no room")
    late = "select case when i = 1_200_000 then error('not a number') else i end from range(3_000_000) t(i)"
    for query in ("select error('not a number') from futures_trades", late):
        with pytest.raises(duckdb.Error, match="not a number"), lake.stream(query) as batches:
            batches.read_all()


def test_a_query_says_which_of_its_views_are_empty_and_what_fills_them(tmp_path, lake, data):
    assert lake.empty_views("from futures_trades, bronze_futures_trades, system_gaps") == []
    assert lake.empty_views("from silver_futures_trades") == [("silver_futures_trades", True)]
    assert lake.empty_views("from stocks_trades join silver_stocks_trades using (symbol)") == [
        ("silver_stocks_trades", False), ("stocks_trades", False),
    ]  # fmt: skip
    path = tmp_path / "wal" / "stocks_trades_SPY.001.arrow"
    path.write_bytes(b"")
    assert lake.empty_views("from stocks_trades") == []
    assert lake.empty_views("execute p") == []


def test_what_a_query_spills_goes_to_the_folder_for_temporary_files_and_is_gone_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()

    with connect(tmp_path / "lake", tmp_path / "wal") as lake:
        lake.execute("set memory_limit = '60MB'")
        lake.execute("create table large as select range as a, range::varchar || 'x' as b from range(3_000_000)")
        spilled = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert lake.execute("select count(*) from (from large order by b)").fetchone() == (3_000_000,)

    assert spilled
    assert all(path.is_relative_to(tmp_path / "temporary") for path in spilled)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

"""What a query names and does, as DuckDB's parser reads it."""

import duckdb
import pytest

from spymaster.errors import UsageError
from spymaster.query.statements import Statements


@pytest.fixture
def statements():
    with duckdb.connect() as connection:
        yield Statements(connection)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("from futures_trades", {"futures_trades"}),
        ('from main."Futures_Trades"', {"futures_trades"}),
        ("with futures_trades as (from futures_trades where size > 1) from futures_trades", {"futures_trades"}),
        ("select is_rth(ts_event_ns), ? from a join b using (symbol)", {"a", "b"}),
        ("select (select max(x) from a), [y for y in (select list(z) from b)]", {"a", "b"}),
        ("select 'from futures_mbp10' -- from futures_quotes", set()),
        ("select 1; from a; set threads = 2", {"a"}),
        ("describe a", {"a"}),
        ("summarize a", {"a"}),
        ("unpivot a on x into name n value v", {"a"}),
        ("values (1)", set()),
        ("begin", set()),
    ],
)
def test_the_tables_of_a_query_are_those_it_reads(statements, query, names):
    assert statements.tables(query) == names


@pytest.mark.parametrize(
    "query",
    [
        "from query_table('futures_' || 'trades')",
        "from query('from futures_trades')",
        "prepare p as from futures_trades",
        "execute p",
        "explain from futures_trades",
        "create table mine as from futures_trades",
        "insert into mine from futures_trades",
        "pivot futures_trades on symbol using sum(size)",
    ],
)
def test_where_the_tables_cannot_be_told_it_says_so(statements, query):
    assert statements.tables(query) is None


@pytest.mark.parametrize("query", ["create view v as from a", "create macro m() as (select max(x) from a)"])
def test_from_a_view_or_macro_of_ones_own_on_no_name_tells_the_tables(statements, query):
    statements.check("create table t (a int)")
    assert statements.tables("from t") == {"t"}
    statements.check(query)

    assert statements.tables("from t") is None


@pytest.mark.parametrize(
    "query",
    [
        "copy (select 1) to 'x.parquet'",
        "copy t from 'x.csv'",
        "select 1; copy t to 'x.csv'",
        "explain analyze copy t to 'x.csv'",
        "prepare p as copy t to 'x.csv'",
        "export database 'x'",
        "import database 'x'",
        "attach 'x.db'",
        "detach x",
        "install httpfs",
        "load 'x'",
        "update extensions",
        "create persistent secret k (type s3)",
        "set enable_external_file_cache = true",
        'set "allowed_directories" = []',
        "reset python_enable_replacements",
        "set profile_output = 'x.json'",
        "set extension_directory = 'x'",
        "pragma enable_profiling",
    ],
)
def test_what_writes_a_file_or_ends_the_guard_is_refused_in_one_line(statements, query):
    with pytest.raises(UsageError, match="is refused") as error:
        statements.check(query)

    assert "\n" not in str(error.value)
    assert "Next: " in str(error.value)


@pytest.mark.parametrize(
    "query",
    [
        "select copy, load, attach from t",
        "select 'copy x to y'",
        "set time zone 'UTC'",
        "set session threads = 1",
        "set variable x = 1",
        "pragma table_info('t')",
        "create temp table t as select 1",
        "create or replace view v as from t",
        "insert into t values (1)",
        "drop table t",
        "explain analyze from t",
        "pivot t on a",
        "begin; commit",
    ],
)
def test_what_reads_or_stays_in_memory_is_not_refused(statements, query):
    assert statements.check(query)


@pytest.mark.parametrize("query", ["", "  ", ";", "-- nothing", "/* nothing */ ;"])
def test_an_empty_query_is_refused_in_one_line(statements, query):
    with pytest.raises(UsageError, match="is empty. Nothing was run. Next: "):
        statements.check(query)


def test_only_what_selects_may_be_run_again(statements):
    assert statements.only_reads("select 1; from t")
    assert not statements.only_reads("select 1; insert into t values (1)")

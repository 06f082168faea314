"""The one table: each event once, whatever of it is in the log, in Bronze, in Silver, or in two of them."""

import asyncio
import os
import shutil

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import spymaster
from spymaster import events
from spymaster.errors import LayoutError
from spymaster.events import Stream
from spymaster.events.identity import event_ids, identity_of
from spymaster.lake import archive, layout, silver
from spymaster.lake.bronze import flush_segment, split
from spymaster.lake.datasets import DATASETS
from spymaster.paths import Partition
from spymaster.query import one_table
from spymaster.query.lake import connect
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import BOOKS, NOON_NS, TRADES, delivered, numbered

HOUR = Partition("futures.trades", "symbol", "ES", "2025-12-22", 12)
HOUR_MS = 3_600_000  # rows are a millisecond apart


@pytest.fixture
def wal(tmp_path):
    (tmp_path / "wal").mkdir()
    return tmp_path / "wal"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def lake(wal, data):
    with connect(data, wal) as opened:
        yield opened


def seal(wal, rows, number, schema=TRADES, symbol="ES"):
    """Leave a sealed segment of some rows, as a crash before its flush does."""
    header = Header.new(Stream(schema.name, symbol), number, NOON_NS)
    path = wal / f"{schema.name.replace('.', '_')}_{symbol}.{number:03d}.arrow"
    path.write_bytes(encode_segment(header, rows, None))
    return path


def publish(wal, data, rows, number, schema=TRADES, symbol="ES"):
    """Bring rows to Bronze as the daemon does; return their parts."""
    path = seal(wal, rows, number, schema, symbol)
    parts = flush_segment(data / "bronze", read_sealed(path), again=False)
    path.unlink()
    return [data / "bronze" / part.relative for part in parts]


def compact(data, partition, rows, parts=None):
    """Write a partition's Silver of `rows`, as of the parts that are there, or of `parts`."""
    schema = events.SCHEMAS[partition.schema]
    digest = silver.inputs_digest(silver.bronze_parts(data, partition) if parts is None else parts)
    file = silver.file_of(data, partition)
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = silver.columns_of(schema)
    ((_, own),) = split(schema, rows)
    more = [pa.nulls(own.num_rows, column.type) for column in list(columns)[own.num_columns :]]
    more[0] = event_ids(identity_of(schema, own))
    more[1] = pa.array(np.ones(own.num_rows, np.int32))
    with silver.writer(file.with_suffix(".tmp"), schema) as writer:
        writer.write_table(pa.table([*own.columns, *more], schema=columns))
        counts = silver.Counts(own.num_rows, own.num_rows, 0, 0, 0)
        silver.add_footer(writer, silver.Footer(digest, digest, counts))
    file.with_suffix(".tmp").rename(file)
    return file


def keys(lake, table="futures_trades"):
    rows = lake.execute(f"select symbol, capture_id, capture_seq from {table} order by all").fetchall()
    assert len(set(rows)) == len(rows), "a row came twice"
    return [(capture, seq) for _, capture, seq in rows]


def numbers(lake, table="futures_trades"):
    return [seq for _, seq in keys(lake, table)]


def delivered_again(capture_id, start, count, number_from=0, price_shift=0.0, symbol="ES"):
    """Rows with the content of `numbered(TRADES, count, start)`, of another capture and received a second later."""
    rows = numbered(TRADES, count, start, capture_id, symbol)
    changed = {
        "capture_seq": pa.array(np.arange(number_from, number_from + count)),
        "ts_recv_ns": pa.array(rows["ts_recv_ns"].to_numpy() + 10**9),
        "price": pa.array(rows["price"].to_numpy() + price_shift),
    }
    for name, values in changed.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    return rows


def test_a_lake_that_is_not_there_has_every_view_and_no_row(tmp_path):
    with connect(tmp_path / "nowhere", tmp_path / "nolog") as lake:
        for schema in events.SCHEMAS.values():
            name = schema.name.replace(".", "_")
            for view in (name, f"bronze_{name}", f"silver_{name}"):
                assert lake.execute(f"select count(*) from {view}").fetchone() == (0,), view
        assert lake.execute("select count(*) from silver_options_trades_enriched").fetchone() == (0,)
        shown = lake.execute("show tables").fetchall()
        made = {"levels_signals", *DATASETS}  # by us, of what was recorded
        assert all(lake.execute(f"select count(*) from {view}").fetchone() == (0,) for view in made)
        assert len(shown) == 3 * len(events.SCHEMAS) + 1 + len(made)
        kinds = dict(lake.execute("select column_name, column_type from (describe futures_trades)").fetchall())
        assert kinds["date"] == "DATE"
        assert kinds["ts_event_ns"] == "BIGINT"


@pytest.mark.parametrize("schema", events.SCHEMAS.values(), ids=lambda schema: schema.name)
def test_every_schema_reads_the_same_from_log_bronze_and_silver(lake, wal, data, schema):
    name = schema.name.replace(".", "_")
    rows = numbered(schema, 30)
    ((partition, _),) = split(schema, rows)
    query = f"select * from {name} order by capture_seq"
    path = seal(wal, rows, 1, schema)

    logged = lake.sql(query).to_arrow_table()
    flush_segment(data / "bronze", read_sealed(path), again=False)
    both = lake.sql(query).to_arrow_table()
    path.unlink()
    bronze = lake.sql(query).to_arrow_table()
    compact(data, partition, rows)
    compacted = lake.sql(query).to_arrow_table()

    assert logged.num_rows == 30
    assert logged.column_names == [*silver.one_table_columns_of(schema).names, "session_date", "is_rth"]
    assert logged.select(schema.log.names).cast(schema.log).equals(rows)
    assert logged.equals(both)
    assert logged.equals(bronze)
    if schema.kind == "market":  # whose occurrence is counted by compaction
        assert (logged["occurrence"].null_count, compacted["occurrence"].null_count) == (30, 0)
        logged, compacted = logged.drop_columns("occurrence"), compacted.drop_columns("occurrence")
    assert logged.equals(compacted)


def test_rows_of_every_state_are_there_once(lake, wal, data):
    publish(wal, data, numbered(TRADES, 10), 1)
    compact(data, HOUR, numbered(TRADES, 10))
    assert numbers(lake) == list(range(10))  # Silver

    publish(wal, data, numbered(TRADES, 10, 10), 2)
    assert numbers(lake) == list(range(20))  # Silver is behind: Bronze

    sealed = seal(wal, numbered(TRADES, 10, 20), 3)
    assert numbers(lake) == list(range(30))  # Bronze and a sealed segment

    flush_segment(data / "bronze", read_sealed(sealed), again=False)
    assert numbers(lake) == list(range(30))  # which is in Bronze, and has not retired

    seal(wal, numbered(TRADES, 10, 30), 4).rename(wal / "futures_trades_ES.arrow")
    assert numbers(lake) == list(range(40))  # and an active one

    sealed.unlink()
    (wal / "futures_trades_ES.arrow").unlink()
    assert numbers(lake) == list(range(30))
    assert numbers(lake, "bronze_futures_trades") == list(range(30))
    assert numbers(lake, "silver_futures_trades") == list(range(10))


def test_fresh_silver_is_read_in_place_of_bronze_and_stale_silver_is_not(lake, wal, data):
    rows = numbered(TRADES, 10)
    publish(wal, data, rows, 1)
    compact(data, HOUR, rows.slice(0, 4))  # so that it shows which is read

    assert numbers(lake) == list(range(4))
    publish(wal, data, numbered(TRADES, 10, HOUR_MS), 2)  # the next hour's
    assert numbers(lake) == [*range(4), *range(HOUR_MS, HOUR_MS + 10)]
    (late,) = publish(wal, data, numbered(TRADES, 1, 10), 3)
    assert numbers(lake) == [*range(11), *range(HOUR_MS, HOUR_MS + 10)]
    compact(data, HOUR, rows.slice(0, 5))  # the file of that name is another one now
    assert numbers(lake) == [*range(5), *range(HOUR_MS, HOUR_MS + 10)]
    seal(wal, numbered(TRADES, 1, 11), 4)
    assert numbers(lake) == [*range(12), *range(HOUR_MS, HOUR_MS + 10)]
    assert late.exists()


def test_silver_whose_bronze_someone_took_away_is_what_there_is(lake, wal, data):
    publish(wal, data, numbered(TRADES, 10), 1)
    compact(data, HOUR, numbered(TRADES, 10))
    shutil.rmtree(data / "bronze")

    assert numbers(lake) == list(range(10))


def test_of_silver_without_end_the_latest_footers_are_remembered_and_the_others_read_again(wal, data, monkeypatch):
    monkeypatch.setattr(one_table, "MAX_KNOWN_FILES", 2)
    for number, symbol in enumerate(("ES", "NQ", "YM"), 1):
        rows = numbered(TRADES, 10, symbol=symbol)
        publish(wal, data, rows, number, symbol=symbol)
        compact(data, HOUR._replace(value=symbol), rows)
    table = one_table.OneTable(data, wal, TRADES)
    read = []
    footer = silver.read_footer
    monkeypatch.setattr(silver, "read_footer", lambda file: read.append(file) or footer(file))

    found = [table.snapshot(), table.snapshot()]

    assert [len(each.silver) for each in found] == [3, 3]
    assert all(table.still_valid(each) for each in found)
    assert len(table._silver) == 2
    assert len(read) == 6
    within = layout.Within("YM")
    read.clear()
    assert len(table.snapshot(within).silver) == 1
    assert read == []
    os.utime(found[0].silver[0])
    assert not table.still_valid(found[0])


def test_archived_parts_are_read_where_they_are(lake, wal, data, monkeypatch):
    (first,) = publish(wal, data, numbered(TRADES, 10), 1)
    publish(wal, data, numbered(TRADES, 10, 10), 2)
    moved = layout.Tier.ARCHIVE.of(data) / first.relative_to(data / "bronze")
    moved.parent.mkdir(parents=True)
    first.rename(moved)
    monkeypatch.setattr(archive, "parts_of", lambda root, partition: {moved.name: moved} if partition == HOUR else {})

    assert numbers(lake) == list(range(20))
    assert numbers(lake, "bronze_futures_trades") == list(range(20))


@pytest.mark.parametrize("second", ["logged", "both", "bronze"])
@pytest.mark.parametrize("first", ["logged", "both", "bronze"])
def test_what_two_captures_deliver_counts_once_in_whichever_state(lake, wal, data, first, second):
    """Capture 1 has rows 0 to 99, capture 2 from row 60 on, inclusive, to row 149."""
    for number, (state, rows) in enumerate(
        [(first, numbered(TRADES, 100)), (second, delivered_again(2, 60, 90))], start=1
    ):
        path = seal(wal, rows, number)
        if state != "logged":
            flush_segment(data / "bronze", read_sealed(path), again=False)
        if state == "bronze":
            path.unlink()

    assert keys(lake) == [(1, seq) for seq in range(100)] + [(2, seq) for seq in range(40, 90)]
    assert len(keys(lake, "bronze_futures_trades")) == 100 * (first != "logged") + 90 * (second != "logged")


def test_genuine_repeats_within_a_capture_stay(lake, wal, data):
    twice = pa.concat_tables([numbered(TRADES, 10), delivered_again(1, 0, 10, number_from=10)])
    publish(wal, data, twice, 1)
    publish(wal, data, delivered_again(2, 0, 10), 2)  # has each of them once

    assert keys(lake) == [(1, seq) for seq in range(20)]


def test_captures_that_share_no_time_or_no_event_lose_nothing(lake, wal, data):
    publish(wal, data, numbered(TRADES, 10), 1)
    publish(wal, data, delivered_again(2, 20, 10), 2)  # later
    publish(wal, data, delivered_again(3, 0, 10, price_shift=0.01), 3)  # at the same times, others

    assert keys(lake) == [(capture, seq) for capture in (1, 2, 3) for seq in range(10)]


def test_a_print_that_comes_in_milliseconds_live_and_in_nanoseconds_in_a_file_is_one(lake, wal, data):
    live = numbered(events.STOCKS_TRADES, 1, symbol="SPY")
    file = numbered(events.STOCKS_TRADES, 1, capture_id=2, symbol="SPY")
    stamps = pa.array(file["ts_event_ns"].to_numpy() + 400_000)
    for number, rows in enumerate([live, file.set_column(0, file.schema.field(0), stamps)], start=1):
        at = rows.schema.get_field_index("source")
        sourced = rows.set_column(at, rows.schema.field(at), pa.array(["massive.stocks"]))
        publish(wal, data, sourced, number, events.STOCKS_TRADES, "SPY")

    assert keys(lake, "stocks_trades") == [(1, 0)]


def test_a_part_that_does_not_read_is_an_error_that_names_it(lake, wal, data):
    (part,) = publish(wal, data, numbered(TRADES, 10), 1)
    part.write_bytes(part.read_bytes()[:100])

    with pytest.raises(LayoutError, match=part.name):
        lake.execute("from futures_trades")


def test_equal_keys_of_two_symbols_are_two_rows(lake, wal, data):
    """Capture 2 delivers all of ES again, and half of what it has of NQ, under the same numbers."""
    for number, symbol in enumerate(["ES", "NQ"], start=1):
        publish(wal, data, numbered(TRADES, 10, symbol=symbol), number, symbol=symbol)
    publish(wal, data, delivered_again(2, 0, 10), 3)
    publish(wal, data, delivered_again(2, 5, 10, symbol="NQ"), 4, symbol="NQ")

    rows = lake.execute("select symbol, capture_id, count(*) from futures_trades group by all order by all").fetchall()
    assert rows == [("ES", 1, 10), ("NQ", 1, 10), ("NQ", 2, 5)]


@pytest.mark.parametrize("symbol", ["BRK.B", "es f", "a/b", "é"])
def test_a_symbol_reads_the_same_from_every_source(lake, wal, data, symbol):
    schema = events.STOCKS_TRADES
    rows = numbered(schema, 5, symbol=symbol)
    path = wal / "stocks_trades_ALL.001.arrow"
    path.write_bytes(encode_segment(Header.new(Stream(schema.name, "ALL"), 1, NOON_NS), rows, None))
    query = "select distinct symbol from stocks_trades"
    assert lake.execute(query).fetchall() == [(symbol,)]
    flush_segment(data / "bronze", read_sealed(path), again=False)
    path.unlink()
    assert lake.execute(query).fetchall() == [(symbol,)]
    ((partition, _),) = split(schema, rows)
    compact(data, partition, rows)
    assert lake.execute(query).fetchall() == [(symbol,)]
    assert lake.execute(query.replace("from ", "from silver_")).fetchall() == [(symbol,)]


def test_a_torn_tail_is_not_shown_and_rows_beyond_damage_are(lake, wal):
    rows = numbered(TRADES, 200_000)  # several frames
    path = seal(wal, rows, 1)
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[: len(raw) * 2 // 3])
    torn = numbers(lake)
    assert torn == list(range(len(torn)))
    assert 65_536 <= len(torn) < 200_000

    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    damaged = numbers(lake)
    assert damaged[0] == 0
    assert damaged[-1] == 199_999
    assert 200_000 - 65_536 <= len(damaged) < 200_000


def test_a_poisoned_segment_and_its_successor_count_each_row_once(lake, wal):
    seal(wal, numbered(TRADES, 10), 1).rename(wal / "futures_trades_ES.001.poisoned.arrow")
    seal(wal, numbered(TRADES, 8, 5), 2)

    assert numbers(lake) == list(range(13))


def test_the_next_segment_is_not_shown(lake, wal):
    seal(wal, numbered(TRADES, 10), 1).rename(wal / ".futures_trades_ES.next")

    assert numbers(lake) == []


def test_rows_written_by_the_library_are_there_before_and_after_each_flush(tmp_path, monkeypatch):
    monkeypatch.setenv("WAL_ROOT", str(tmp_path / "wal"))

    async def write():
        writer = spymaster.BronzeWriter(data_root=str(tmp_path / "lake"), flush_interval_seconds=60)
        counts = []
        with spymaster.connect(tmp_path / "lake") as lake:
            for start in (0, 100, 200):
                await writer.write("futures.trades", delivered(TRADES, 100, start))
                counts.append(len(numbers(lake)))
                await writer.flush_all()
                counts.append(len(numbers(lake)))
            await writer.stop()
            counts.append(len(numbers(lake)))
            assert lake.execute("select count(*) from system_captures").fetchone() == (2,)
        return counts

    assert asyncio.run(write()) == [100, 100, 200, 200, 300, 300, 300]


@pytest.mark.parametrize(
    "query",
    [
        "with x as (from futures_trades) select count(*) from x",
        'select count(*) from "Futures_Trades"',
        "select (select count(*) from main.futures_trades)",
        "select count(*) from mine",
        "select count(*) from query_table('futures_' || 'trades')",
    ],
)
def test_a_query_is_over_what_is_there_now_however_it_names_the_table(lake, wal, query):
    lake.execute("create view mine as from futures_trades")
    assert lake.execute(query).fetchone() == (0,)
    seal(wal, numbered(TRADES, 10), 1)

    assert lake.execute(query).fetchone() == (10,)
    assert lake.execute("select count(*) from futures_trades where capture_seq < ?", [4]).fetchone() == (4,)


def test_a_relation_keeps_its_rows_when_the_log_has_retired(lake, wal, data):
    path = seal(wal, numbered(TRADES, 10), 1)
    relation = lake.sql("from futures_trades")
    flush_segment(data / "bronze", read_sealed(path), again=False)
    path.unlink()

    assert relation.count("*").fetchall() == [(10,)]


def test_a_view_reads_no_file_but_the_lakes(lake, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")

    with pytest.raises(duckdb.Error):
        lake.execute(f"from '{tmp_path}/secret.csv'")


def test_options_trades_are_plain_in_the_one_table_and_enriched_in_silver(lake, wal, data):
    schema = events.OPTIONS_TRADES
    rows = numbered(schema, 10)
    publish(wal, data, rows, 1, schema)
    ((partition, _),) = split(schema, rows)
    compact(data, partition, rows)

    assert lake.sql("from options_trades").columns == [
        *silver.one_table_columns_of(schema).names,
        "session_date",
        "is_rth",
    ]
    for view in ("silver_options_trades", "silver_options_trades_enriched"):
        assert "delta_notional" in lake.sql(f"from {view}").columns
        assert lake.execute(f"select count(*) from {view}").fetchone() == (10,)


def test_greeks_among_the_inputs_do_not_make_enriched_silver_stale(lake, wal, data):
    schema = events.OPTIONS_TRADES
    rows = numbered(schema, 10)
    publish(wal, data, rows, 1, schema)
    ((partition, _),) = split(schema, rows)
    file = compact(data, partition, rows.slice(0, 3))
    keys = pq.read_metadata(file).metadata
    assert keys[b"spymaster_parts"].decode() == silver.inputs_digest(silver.bronze_parts(data, partition))

    assert lake.execute("select count(*) from options_trades").fetchone() == (3,)


def test_books_of_two_captures_count_once(lake, wal, data):
    publish(wal, data, numbered(BOOKS, 50), 1, BOOKS)
    publish(wal, data, numbered(BOOKS, 50, capture_id=2), 2, BOOKS)

    assert keys(lake, "futures_mbp10") == [(1, seq) for seq in range(50)]

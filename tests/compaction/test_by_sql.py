"""Two engines make Silver, numpy and SQL: the same bytes of the same Bronze, also of rows that no vendor would send."""

import random
import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster import SilverCompactor, events
from spymaster.compaction import by_columns, by_sql, enrich, keys_by_sql, spans
from spymaster.compaction.compactor import compact, lock, partitions
from spymaster.compaction.deliveries import Deliveries
from spymaster.compaction.engines import Engine
from spymaster.compaction.made import Greeks, open_parts
from spymaster.compaction.spans import WHOLE
from spymaster.events import MARKET_SCHEMAS
from spymaster.events.exactly_once import Edges
from spymaster.events.sameness import one_form
from spymaster.lake import silver
from tests.compaction.silver_oracle import flush
from tests.events.test_sameness import KINDS, history
from tests.rows import NOON_NS, numbered

HISTORIES = 40  # of each kind
MS, DAY_NS = 1_000_000, 86_400 * 10**9
SOURCES = ("massive.stocks", "massive.options", "databento.glbx", "sim")
TEXTS = (None, "", "0", "a", "ab" * 40)
NUMBERS = (None, 0, 1, 2, 100)
PRICES = (None, 0.0, -0.0, 680.0, 680.01, 1e290, float("nan"), float("inf"), -1e15)
LISTS = (None, [], [1], [1, 2], [1, None])
SIZES = (None, "1", "1.0", "1.25", "01.250", "1e3", "", "100.000000")
MOST = 2**63 - 1


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        yield connection


def any_value(column, chance):
    """Return one of few values of a column, so that rows are often equal and none is spared."""
    if column.name == "size_decimal":
        return chance.choice(SIZES)
    if pa.types.is_string(column.type):
        values = TEXTS
    elif pa.types.is_floating(column.type):
        values = PRICES
    elif pa.types.is_list(column.type):
        values = LISTS
    elif pa.types.is_boolean(column.type):
        values = (None, True, False)
    elif column.name.endswith("_ts_ns"):
        values = (None, 0, NOON_NS, NOON_NS + 1, NOON_NS + MS)
    else:
        values = NUMBERS
    return chance.choice(values if column.nullable else values[1:])


def any_event(schema, chance):
    """Return a row that differs from others in few columns: few of all have a value at all."""
    given = chance.sample(schema.log.names, min(6, len(schema.log.names)))
    row = {
        column.name: any_value(column, chance) if column.name in given or not column.nullable else None
        for column in schema.log
    }
    stamp = NOON_NS + chance.randint(0, 2) * MS + chance.randint(0, 1)
    return row | {
        "ts_event_ns": stamp, "ts_recv_ns": stamp + chance.choice([0, 5, DAY_NS]), "source": chance.choice(SOURCES),
        schema.partition_by: "SPY",
    }  # fmt: skip


def any_captures(schema, chance):
    """Return deliveries of some events, live and files, cut, reordered, with other values in any column."""
    truth = [any_event(schema, chance) for _ in range(30)]
    truth += chance.choices(truth, k=30)
    for capture_id in chance.sample(range(1, 100), 5):
        live, rows = chance.random() < 0.5, []
        for number, event in enumerate(chance.sample(truth, chance.randint(1, 60))):
            row = event | {"capture_id": capture_id, "capture_seq": number}
            row["ts_local_ns"] = row["ts_recv_ns"] + chance.randint(0, 2) if live else None
            free = [column for column in schema.log if column.name not in (*ARRIVAL, schema.partition_by)]
            for column in chance.sample(free, chance.choice([0, 0, 1, 2])):
                row[column.name] = any_value(column, chance)
            rows.append(row)
        yield live, pa.Table.from_pylist(rows, schema=schema.log)


ARRIVAL = ("ts_event_ns", "ts_recv_ns", "ts_local_ns", "source", "capture_id", "capture_seq")


def say_begun(tmp_path, capture_ids):
    """Leave the begin rows of captures in Bronze."""
    schema = events.SYSTEM_CAPTURES
    rows = numbered(schema, len(capture_ids))
    for name, values in {"of_capture_id": capture_ids, "event": ["begin"] * len(capture_ids)}.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
    flush(tmp_path, schema, rows.cast(schema.log), "ALL")


def greeks_of(schema):
    if schema is not events.OPTIONS_TRADES:
        return None
    own = events.OPTIONS_GREEKS_SNAPSHOTS
    rows = numbered(own, 3, symbol="SPY")
    keys = {"option_symbol": ["a", "a", "ab" * 40], "ts_recv_ns": [NOON_NS, NOON_NS, NOON_NS + MS]}
    for name, values in keys.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
    return Greeks(rows.select(enrich._COLUMNS), MS)


def keys_of(rows):
    return sorted(zip(rows["capture_id"].to_pylist(), rows["capture_seq"].to_pylist(), strict=True))


def both_make(connection, schema, source, deliveries):
    """Return what both engines make of rows, once it is seen that it is the same."""
    greeks = greeks_of(schema)
    one = by_columns.make(schema, source, WHOLE, deliveries, greeks)
    other = by_sql.make(connection, schema, source, WHOLE, deliveries, greeks)
    assert other.counts == one.counts
    assert keys_of(other.rows) == keys_of(one.rows)
    for name in one.rows.column_names:
        assert str(other.rows[name].to_pylist()) == str(one.rows[name].to_pylist()), name  # NaN is itself
    assert keys_of(other.removed) == keys_of(one.removed)
    assert other.rows.schema.equals(one.rows.schema, check_metadata=True)
    return one


def part_of(tmp_path, schema, rows):
    """Write rows as one part."""
    more = {"date": pa.repeat("2025-12-22", rows.num_rows), "hour": pa.array([12] * rows.num_rows, pa.int32())}
    for name, values in more.items():
        rows = rows.append_column(name, values)
    path = tmp_path / "part.parquet"
    pq.write_table(rows.select(schema.bronze.names).cast(schema.bronze), path)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_of_histories_of_mixed_routes_both_engines_make_the_same(tmp_path, connection, name):
    schema, kind = KINDS[name]
    removed = 0
    for seed in range(HISTORIES):
        chance = random.Random(seed)
        _, captures, begins = history(chance, kind)
        rows = [row | ({"aggressor": 0} if "aggressor" in row else {}) for own, _ in captures for row in own]
        if not rows:
            continue
        begins |= {capture_id: None for capture_id in begins if chance.random() < 0.2}
        times = [row["ts_event_ns"] for row in rows]
        edges = {
            row["capture_id"]: Edges(chance.choice([None, min(times)]), chance.choice([None, max(times)]))
            for row in rows
            if chance.random() < 0.8
        }
        path = part_of(tmp_path, schema, pa.Table.from_pylist(rows, schema=schema.log))

        made = both_make(connection, schema, open_parts(schema, [path]), Deliveries(edges, begins))

        removed += made.counts.redelivered
    assert removed > HISTORIES


@pytest.mark.parametrize("schema", MARKET_SCHEMAS, ids=lambda schema: schema.name)
def test_of_rows_with_any_value_in_any_column_both_engines_make_the_same(tmp_path, connection, schema):
    counts = dict.fromkeys(silver.Counts._fields, 0)
    for seed in range(8):
        chance = random.Random(seed)
        captures = list(any_captures(schema, chance))
        rows = pa.concat_tables(own for _, own in captures)
        begins = {own["capture_id"][0].as_py(): chance.choice([None, 1, 2]) for live, own in captures if not live}
        path = part_of(tmp_path, schema, rows)

        made = both_make(connection, schema, open_parts(schema, [path]), Deliveries({}, begins))

        counts = {name: counts[name] + number for name, number in made.counts._asdict().items()}
    assert counts["redelivered"] > 100
    assert counts["repeats"] > 10
    assert counts["differing"] > 3


def test_both_engines_make_the_same_bytes_whatever_the_threads_and_the_order_of_files(tmp_path, monkeypatch):
    chance = random.Random(3)
    begun = []
    for schema in MARKET_SCHEMAS:
        for number, (_, rows) in enumerate(any_captures(schema, chance)):
            flush(tmp_path, schema, rows, "SPY", NOON_NS + number)
            begun.append(rows["capture_id"][0].as_py())
    say_begun(tmp_path, sorted({*begun})[::2])
    bronze_parts, lake, found = silver.bronze_parts, tmp_path / "lake", []

    def shuffled(data_root, partition):
        parts = bronze_parts(data_root, partition)
        chance.shuffle(parts)
        return parts

    for engine, threads in ((Engine.NUMPY, 1), (Engine.DUCKDB, 1), (Engine.DUCKDB, 2), (Engine.DUCKDB, 4)):
        with lock(lake):
            results = compact(lake, partitions(lake, MARKET_SCHEMAS), threads=threads, engine=engine)
        assert [result.reason for result in results] == [None] * len(MARKET_SCHEMAS)
        found.append({file: file.read_bytes() for file in (lake / "silver").rglob("part-*.parquet")})
        shutil.rmtree(lake / "silver")
        monkeypatch.setattr(silver, "bronze_parts", shuffled)
        monkeypatch.setattr(spans, "_SPAN_BYTES", 30_000)  # several spans; a file's row groups are of one of them

    assert len(found[0]) == len(MARKET_SCHEMAS)
    assert found[1].keys() == found[0].keys()
    assert found[1] == found[2] == found[3]
    results = SilverCompactor(data_root=lake, engine="numpy").compact_all_schemas("2025-12-22")
    assert found[1] == {file: file.read_bytes() for file in (lake / "silver").rglob("part-*.parquet")}
    assert sum(result.counts.unordered for result in results) > 0
    assert sum(result.counts.differing for result in results) > 0


@pytest.mark.parametrize("engine", Engine)
def test_a_lake_in_a_folder_with_glob_characters_is_compacted(tmp_path, engine):
    root = tmp_path / "a[b]*"
    root.mkdir()
    flush(root, events.FUTURES_TRADES, numbered(events.FUTURES_TRADES, 10))

    with lock(root / "lake"):
        (result,) = compact(root / "lake", partitions(root / "lake", MARKET_SCHEMAS), engine=engine)

    assert (result.status, result.counts.rows_out) == ("compacted", 10), result.reason


@settings(deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"[0-9]{0,4}\.?[0-9]{0,4}", fullmatch=True)))
def test_the_text_of_a_size_has_one_form_for_both_engines(text):
    with duckdb.connect() as connection:
        found = connection.execute(
            f"select {keys_by_sql._compared_size()} from (select ? as size_decimal, 1 as size)", [text]
        ).fetchall()
    assert found == [(one_form(text),)]


def test_a_size_is_one_form_of_its_text():
    assert [one_form(text) for text in ("0.250000", "00.25", "100.0", "100", "000", "0.0", "1e3", "-5", "")] == [
        "0.25", "0.25", "100", "100", "0", "0", "1e3", "-5", "",
    ]  # fmt: skip

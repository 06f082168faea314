"""The vocabulary: what every schema has, what it says of itself, and that it only ever grows."""

import hashlib

import pyarrow as pa
import pytest

from spymaster import events
from spymaster.errors import UsageError
from spymaster.lake import silver
from spymaster.lake.datasets import DATASETS
from spymaster.lake.gold import FILES

ALL = pytest.mark.parametrize("schema", events.SCHEMAS.values(), ids=lambda schema: schema.name)


@ALL
def test_every_schema_has_the_common_columns_with_their_nullability(schema):
    nullable = {column.name: column.nullable for column in schema.log}

    assert schema.log.names[:4] == ["ts_event_ns", "ts_recv_ns", "ts_local_ns", "source"]
    assert schema.log.names[-2:] == ["capture_id", "capture_seq"]
    required = ("ts_event_ns", "ts_recv_ns", "source", schema.partition_by, "capture_id", "capture_seq")
    assert not any(nullable[name] for name in required)
    assert nullable["ts_local_ns"]


@ALL
def test_every_column_says_what_it_means_and_a_time_carries_its_unit(schema):
    for column in schema.bronze:
        assert column.metadata[b"meaning"], column.name
        if column.name.startswith(("ts_", "start_", "end_", "expiration", "activation")):
            assert column.name.endswith("_ns")
            assert column.type in (pa.int64(), pa.int32())


@ALL
def test_the_lake_holds_the_log_schema_and_the_partition_columns(schema):
    assert schema.bronze.names == schema.log.names + (["date", "hour"] if schema.hourly else ["date"])
    assert schema.log.metadata == {b"schema_name": schema.name.encode(), b"schema_version": b"1"}
    assert not any(pa.types.is_dictionary(column.type) for column in schema.log)


def types_of(kind: pa.DataType):
    """Yield a type and those of its values."""
    yield kind
    for at in range(kind.num_fields):
        yield from types_of(kind.field(at).type)


FOREIGN_TO_TABLE_FORMATS = (
    pa.types.is_unsigned_integer,
    pa.types.is_timestamp,
    pa.types.is_duration,
    pa.types.is_float16,
    pa.types.is_null,
    pa.types.is_dictionary,
)


def published():
    """Yield the columns of every file that we publish: Bronze's, Silver's, Gold's and those of data sets."""
    yield pytest.param(FILES, id="gold")
    for schema in events.SCHEMAS.values():
        yield pytest.param(schema.bronze, id=f"bronze {schema.name}")
        if schema.kind == "market":
            yield pytest.param(silver.columns_of(schema), id=f"silver {schema.name}")
    for dataset in DATASETS.values():
        yield pytest.param(dataset.columns, id=f"data set {dataset.name}")


@pytest.mark.parametrize("columns", list(published()))
def test_no_published_column_has_a_type_that_other_programs_read_otherwise(columns):
    for column in columns:
        kinds = list(types_of(column.type))
        assert not [kind for kind in kinds for is_one in FOREIGN_TO_TABLE_FORMATS if is_one(kind)], column
        assert b"PARQUET:field_id" not in (column.metadata or {}), column  # a table format gives its own
    assert columns.field("date").type == pa.string()


@pytest.mark.parametrize("kind", [pa.uint8(), pa.timestamp("ns"), pa.list_(pa.uint32()), pa.float16(), pa.null()])
def test_a_type_that_other_programs_read_otherwise_would_be_found(kind):
    assert any(is_one(each) for each in types_of(kind) for is_one in FOREIGN_TO_TABLE_FORMATS)


def test_the_partitions_are_the_documented_ones():
    by = {schema.name: (schema.partition_by, schema.hourly) for schema in events.SCHEMAS.values()}

    assert by == {
        "stocks.trades": ("symbol", True),
        "stocks.quotes": ("symbol", True),
        "futures.trades": ("symbol", True),
        "futures.mbp10": ("symbol", True),
        "options.trades": ("underlying", True),
        "options.quotes": ("underlying", True),
        "options.greeks_snapshots": ("underlying", False),
        "reference.instruments": ("symbol", False),
        "reference.statistics": ("symbol", False),
        "reference.status": ("symbol", False),
        "system.captures": ("symbol", False),
        "system.gaps": ("symbol", False),
        "system.snaps": ("symbol", False),
        "system.zones": ("symbol", False),
        "system.alerts": ("symbol", False),
    }


def test_a_schema_is_found_with_and_without_its_version_and_by_its_alias():
    assert events.schema_named("futures.trades.v1") is events.schema_named("futures.trades")
    assert events.schema_named("options.greeks").name == "options.greeks_snapshots"
    assert events.FuturesTradeV1 is events.FUTURES_TRADES.log
    for unknown in ("futures.trades.v2", "futures", "", "../trades"):
        with pytest.raises(UsageError, match="use one of stocks.trades"):
            events.schema_named(unknown)


LATER = ("options.quotes", "reference.statistics", "reference.status")
ENGINES = ("system.zones", "system.snaps")
WATCH = ("system.alerts",)
FIRST = events.SCHEMAS.keys() - {*LATER, *ENGINES, *WATCH}


@pytest.mark.parametrize(("names", "pinned"), [
    (FIRST, "d90b531d547b19ab9bd713aba6beb2f0fb4dcf5564c3c871568d87c8edd27ee0"),
    (LATER, "ae28e852d853bc491cc6b4193415b54f2e9f03d0ba1ca5948c6c987933026ff6"),
    (WATCH, "ca22d0d1e5bb06da5125d7e087c791217fad54a015154a5503b59b2be38c0a89"),
], ids=["the first nine", "later ones", "of the watch"])  # fmt: skip
def test_no_column_of_version_1_changes_or_goes(names, pinned):
    """A new column makes this fail on purpose: append it, nullable, and pin the new text beside the reason."""
    text = "\n".join(
        f"{schema.name} {column.name} {column.type} {'null' if column.nullable else 'required'}"
        for schema in events.SCHEMAS.values()
        if schema.name in names
        for column in schema.log
    )

    assert hashlib.sha256(text.encode()).hexdigest() == pinned

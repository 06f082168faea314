"""Parts as they lie on disk: where, how named, how sorted, who can read them, and never the same row twice."""

import re

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from spymaster import events
from spymaster.errors import WalError
from spymaster.events import Stream
from spymaster.lake.bronze import flush_segment, read_footer
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import BOOKS, NOON_NS, TRADES, numbered

HOUR_NS = 3_600_000_000_000


def sealed(tmp_path, rows, stream=None, created_ns=NOON_NS):
    stream = stream or Stream("futures.trades", "ES")
    header = Header.new(stream, 1, created_ns)
    path = tmp_path / f"{header.segment}.arrow"
    path.write_bytes(encode_segment(header, rows, None))
    return path, header


def at(rows, **columns):
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
    return rows


@pytest.mark.parametrize("schema", events.SCHEMAS.values(), ids=lambda schema: schema.name)
def test_every_schema_becomes_a_part_with_the_same_rows(tmp_path, schema):
    rows = numbered(schema, 50)
    segment, header = sealed(tmp_path, rows, Stream(schema.name, "ES"))

    (part,) = flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)

    written = pq.read_table(tmp_path / "bronze" / part.relative, partitioning=None)
    assert written.schema.equals(schema.bronze)
    assert written.select(schema.log.names).equals(rows)
    assert set(written["date"].to_pylist()) == {"2025-12-22"}
    assert part.rows == 50
    asset, kind = schema.name.split(".")
    hour = "/hour=12" if schema.hourly else ""
    assert part.relative == (
        f"{asset}/{kind}/{schema.partition_by}=ES/date=2025-12-22{hour}/part-120000_000000-{header.segment[:8]}.parquet"
    )


def test_rows_are_split_by_symbol_and_utc_hour_and_the_last_nanosecond_of_a_day_stays_in_it(tmp_path):
    midnight = NOON_NS + 12 * HOUR_NS
    rows = at(
        numbered(TRADES, 4), ts_event_ns=[midnight - 1, midnight, NOON_NS, NOON_NS], symbol=["ES", "ES", "NQ", "ES"]
    )
    segment, _ = sealed(tmp_path, rows, Stream("futures.trades", "ALL"))

    parts = flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)

    assert sorted((p.partition.value, p.partition.date, p.partition.hour, p.rows) for p in parts) == [
        ("ES", "2025-12-22", 12, 1),
        ("ES", "2025-12-22", 23, 1),
        ("ES", "2025-12-23", 0, 1),
        ("NQ", "2025-12-22", 12, 1),
    ]


def test_a_part_is_sorted_by_event_time_then_by_capture_seq(tmp_path):
    rows = at(numbered(TRADES, 5), ts_event_ns=[NOON_NS + t for t in (30, 10, 20, 10, 0)])
    segment, _ = sealed(tmp_path, rows)

    (part,) = flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)

    keys = pq.read_table(tmp_path / "bronze" / part.relative, columns=["capture_seq"], partitioning=None)
    assert keys["capture_seq"].to_pylist() == [4, 1, 3, 2, 0]


def test_pyarrow_polars_and_duckdb_read_the_tree_without_our_code(tmp_path):
    for start, symbol in ((0, "ES"), (100, "BRK/B")):
        segment, _ = sealed(tmp_path, numbered(TRADES, 100, start, symbol=symbol), Stream("futures.trades", symbol))
        flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)
    root = tmp_path / "bronze" / "futures" / "trades"

    assert ds.dataset(root, partitioning="hive").count_rows(filter=ds.field("symbol") == "BRK/B") == 100
    assert pl.scan_parquet(root / "**/*.parquet").filter(pl.col("symbol") == "BRK/B").collect().height == 100
    counted = duckdb.sql(f"select symbol, count(*) from read_parquet('{root}/**/*.parquet') group by all order by all")
    assert counted.fetchall() == [("BRK/B", 100), ("ES", 100)]


def test_parts_are_zstd_with_deltas_byte_streams_page_checksums_and_an_index(tmp_path):
    segment, _ = sealed(tmp_path, numbered(BOOKS, 100), Stream("futures.mbp10", "ES"))
    (part,) = flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)

    with pq.ParquetFile(tmp_path / "bronze" / part.relative, page_checksum_verification=True) as file:
        group = file.metadata.row_group(0)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "DELTA_BINARY_PACKED" in columns["ts_event_ns"].encodings
    assert "BYTE_STREAM_SPLIT" in columns["bid_px_1"].encodings
    assert all(column.has_column_index for column in columns.values())


def test_flushing_a_segment_again_adds_nothing_and_changes_nothing(tmp_path):
    segment, _ = sealed(tmp_path, numbered(TRADES, 100))
    (part,) = flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)
    before = (tmp_path / "bronze" / part.relative).read_bytes()

    assert flush_segment(tmp_path / "bronze", read_sealed(segment), again=True) == []
    with pytest.raises(WalError, match="was flushed before"):
        flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)
    assert (tmp_path / "bronze" / part.relative).read_bytes() == before
    assert len(list((tmp_path / "bronze").rglob("*"))) == 6  # the folders and one part: no draft is left


def test_of_rows_that_another_segment_brought_only_the_missing_ones_are_added(tmp_path):
    first, _ = sealed(tmp_path, numbered(TRADES, 10))
    flush_segment(tmp_path / "bronze", read_sealed(first), again=False)
    longer, _ = sealed(tmp_path, numbered(TRADES, 15))  # a salvage that found more

    (part,) = flush_segment(tmp_path / "bronze", read_sealed(longer), again=True)

    added = pq.read_table(tmp_path / "bronze" / part.relative, partitioning=None)
    assert added["capture_seq"].to_pylist() == [10, 11, 12, 13, 14]


def test_more_rows_of_a_segment_that_has_a_part_get_a_second_name(tmp_path):
    header = Header.new(Stream("futures.trades", "ES"), 1, NOON_NS)
    for count in (10, 15):
        path = tmp_path / "segment.arrow"
        path.write_bytes(encode_segment(header, numbered(TRADES, count), None))
        flush_segment(tmp_path / "bronze", read_sealed(path), again=True)

    names = sorted(path.name for path in (tmp_path / "bronze").rglob("*.parquet"))
    stem = f"part-120000_000000-{header.segment[:8]}"
    assert names == [f"{stem}.1.parquet", f"{stem}.parquet"]


def test_an_unsealed_segment_is_never_flushed(tmp_path):
    segment, _ = sealed(tmp_path, numbered(TRADES, 10))
    segment.write_bytes(segment.read_bytes()[:-8])

    with pytest.raises(WalError, match=re.escape("Next: spymaster recover")):
        flush_segment(tmp_path / "bronze", read_sealed(segment), again=True)
    assert not (tmp_path / "bronze").exists()


def test_a_footer_says_which_rows_of_which_captures_a_part_holds(tmp_path):
    rows = pa.concat_tables([numbered(TRADES, 5, capture_id=7), numbered(TRADES, 3, start=10, capture_id=8)])
    segment, header = sealed(tmp_path, rows)
    (part,) = flush_segment(tmp_path / "bronze", read_sealed(segment), again=False)

    footer = read_footer(tmp_path / "bronze" / part.relative)

    assert (footer.segment, footer.rows, footer.version) == (header.segment, 8, "futures.trades.v1")
    assert [(s.capture_id, s.rows, s.first_seq, s.last_seq) for s in footer.captures] == [(7, 5, 0, 4), (8, 3, 10, 12)]
    assert footer.stream == "futures.trades/ES"

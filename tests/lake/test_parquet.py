"""The bytes of our Parquet files: what they are made of decides them, and they vouch for themselves."""

import hashlib
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster.events import MARKET_SCHEMAS, SCHEMAS, Stream
from spymaster.lake import parquet, silver
from spymaster.lake.bronze import flush_segment
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import NOON_NS, numbered
from tests.silver_files import compacted

LOCKED = re.search(r"^pyarrow==(\S+)", (Path(__file__).parents[2] / "requirements.lock").read_text(), re.MULTILINE)[1]
HOUR = "symbol=ES/date=2025-12-22/hour=12"
PART = "part-120000_000000-abababab.parquet"
SHA256 = {
    f"bronze/futures/mbp10/{HOUR}/{PART}": "bfebaad6400573ae523376d99c8bc89a85bb1a95ea249fd7d1ea5d2fa270c7e7",
    f"bronze/futures/trades/{HOUR}/{PART}": "111889145ee5fd71fed0bced0de37c0a154a8808d91f778fef15b235f1b10fdf",
    f"bronze/options/trades/{HOUR.replace('symbol', 'underlying')}/{PART}": (
        "453b5a2511e8187fc5670a2eb841f31f5b0767c2851529d2214ffc7f90f8d764"
    ),
    f"bronze/system/gaps/{HOUR.removesuffix('/hour=12')}/{PART}": (
        "4740e9124068fea63c0adce263ea1d0a6bfa89b899f9ec154bcb4d65472d8079"
    ),
    f"silver/futures/mbp10/{HOUR}/part-0000.parquet": (
        "1dd4998de9a2535efb25027bd40b0f5fd00dbdb42dfb173681ea3d20228de095"
    ),
    f"silver/futures/trades/{HOUR}/part-0000.parquet": (
        "f5f7915651d7ba45392d09c6f1192374df1d9d4f8fa9254ec8ce6dbac5c080bb"
    ),
    f"silver/options/trades_enriched/{HOUR.replace('symbol', 'underlying')}/part-0000.parquet": (
        "3485be9ebd3f2f8323b56bf2a3425892e6058c4a919c2ee7ca4392d494a52532"
    ),
}


@pytest.mark.skipif(pa.__version__ != LOCKED, reason=f"pyarrow {pa.__version__} stands in the bytes, not {LOCKED}")
def test_the_same_rows_make_the_same_bytes_as_ever(tmp_path):
    """A file that is made again, here or in a later version, must be the one that was there."""
    for name in ("futures.trades", "futures.mbp10", "options.trades", "system.gaps"):
        header = Header("ab" * 16, Stream(name, "ES"), 1, NOON_NS, None)
        segment = tmp_path / "segment.arrow"
        segment.write_bytes(encode_segment(header, numbered(SCHEMAS[name], 1000), None))
        flush_segment(tmp_path / "lake" / "bronze", read_sealed(segment), again=False)
    compacted(tmp_path / "lake")

    files = {path.relative_to(tmp_path / "lake").as_posix(): path for path in (tmp_path / "lake").rglob("*.parquet")}
    assert {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in files.items()} == SHA256


COLUMNS = pa.schema([("at", pa.int64()), ("text", pa.string())], {"schema_name": "x"})


def encoded(**footer):
    return parquet.encode(COLUMNS, pa.table({"at": [1, 2], "text": ["a", "b"]}, COLUMNS), footer, ["at"])


def test_a_footer_says_what_it_was_given_beside_the_schemas_own(tmp_path):
    keys = pq.read_metadata(pa.BufferReader(encoded(spymaster_of="y"))).metadata

    assert (keys[b"schema_name"], keys[b"spymaster_of"]) == (b"x", b"y")
    assert pq.read_metadata(pa.BufferReader(encoded())).row_group(0).sorting_columns[0].column_index == 0


def test_a_file_vouches_for_each_of_its_bytes():
    data = bytes(encoded())
    assert parquet.damage(memoryview(data)) is None

    for at in range(len(data)):
        other = bytearray(data)
        other[at] ^= 4
        assert parquet.damage(memoryview(other)) is not None, at


def test_a_file_is_of_another_program_if_it_reads_and_says_nothing_of_ours(tmp_path):
    own, other, damaged = tmp_path / "own", tmp_path / "other", tmp_path / "damaged"
    own.write_bytes(encoded())
    pq.write_table(pa.table({"x": [1]}), other)
    damaged.write_bytes(bytes(encoded())[:-9] + b"123456789")

    assert [parquet.is_foreign(file) for file in (own, other, damaged, tmp_path / "absent")] == [
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("schema", MARKET_SCHEMAS, ids=lambda schema: schema.name)
def test_every_column_of_silver_is_compressed_but_event_id_whose_bytes_are_random(tmp_path, schema):
    with silver.writer(tmp_path / "x.parquet", schema) as file:
        file.write_table(silver.columns_of(schema).empty_table())

    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at).compression for at in range(group.num_columns)}
    assert {name for name, compression in columns.items() if compression != "ZSTD"} == {"event_id"}
    assert schema.name != "stocks.trades" or "conditions.list.element" in columns

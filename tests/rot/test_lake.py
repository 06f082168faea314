"""Rot in Bronze and in its catalog: seen by `verify`, and in nobody's way."""

import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster.errors import LayoutError
from spymaster.events import FUTURES_TRADES, Stream
from spymaster.lake import bronze, catalog, parquet
from spymaster.lake.catalog import Catalog, read_files, rebuild
from spymaster.proof import files
from spymaster.proof.verify import verify
from spymaster.query.bronze_rows import Reader
from spymaster.recording.recovery import recover
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rot.damage import TAILS, flipped, mutated_bytes
from tests.rot.lake import CAPTURE, Lake, audit_index, audit_part, seen_without_catalog, small_lake
from tests.rows import NOON_NS, numbered

SPREAD = 53  # bits between two that are flipped


@pytest.fixture
def lake():
    with small_lake() as lake:
        yield lake


def damaged_parts(lake: Lake, count: int) -> list[bytes]:
    raw, chance = lake.part_raw, random.Random(3)
    flips = [flipped(raw, chance.randrange(len(raw) * 8)) for _ in range(count)]
    tails = [tail(raw, chance.randrange(len(raw))) for tail in TAILS.values() for _ in range(count // 4)]
    return [*flips, *tails, *[mutated_bytes(raw, chance) for _ in range(count // 2)]]


def test_without_a_catalog_a_part_vouches_for_itself(lake):
    bits = range(0, len(lake.part_raw) * 8, SPREAD)

    assert {seen_without_catalog(lake, flipped(lake.part_raw, bit)) for bit in bits} == {"refused"}


def test_a_part_that_is_read_without_its_own_checksum_is_caught(lake, monkeypatch):
    monkeypatch.setattr(bronze, "misread", _misread_unsummed)

    bits = range(0, len(lake.part_raw) * 8, SPREAD)
    assert any(seen_without_catalog(lake, flipped(lake.part_raw, bit)) == "other rows" for bit in bits)


def _misread_unsummed(part, data):
    """The defect: bytes are read and not compared with their checksums."""
    try:
        pq.read_table(part, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        return str(error)
    return None


def resummed(lake: Lake) -> bytes:
    """Return the part with another value in its first column's page, and a sum of its own that says it is well."""
    other = bytearray(flipped(lake.part_raw, 100 * 8))
    parquet.put_sum(memoryview(other))
    return bytes(other)


def test_a_part_that_was_changed_and_summed_again_is_found_by_the_catalog(lake):
    assert audit_part(lake, resummed(lake)) is None


def test_a_verify_that_does_not_compare_the_catalogs_sum_is_caught(lake, monkeypatch):
    true = lake.files[lake.part.relative_to(lake.root / "bronze").as_posix()].crc32c
    monkeypatch.setattr(files, "crc32c", lambda _: true)

    assert audit_part(lake, resummed(lake)) is not None


def test_the_whole_audit_names_a_damaged_part_with_a_catalog_and_proves_nothing_of_it(lake):
    proven = len(lake.part_rows)
    for damaged in damaged_parts(lake, 4):
        lake.part.write_bytes(damaged)
        verdict = verify(lake.root / "wal", lake.root)
        assert any(lake.part.name in line for line in verdict.findings)
        own = [proof.rows for proof in verdict.proofs if proof.stream == "futures.trades/ES"]
        assert sum(own) <= 3 * proven - len(lake.part_rows)


def test_a_damaged_part_crashes_neither_the_catalog_nor_recovery_nor_a_reader(lake):
    """Rows that the log still has are published beside a part that does not read."""
    wal = lake.root / "wal"
    wal.mkdir()
    segment = wal / "futures_trades_ES.001.arrow"
    header = Header("ab" * 16, Stream("futures.trades", "ES"), 1, NOON_NS, None)
    same_rows = numbered(FUTURES_TRADES, 10, lake.part_rows["capture_seq"][0].as_py(), CAPTURE)
    data = encode_segment(header, same_rows, None)
    outcomes: Counter[str] = Counter()
    for damaged in damaged_parts(lake, 40):
        lake.part.write_bytes(damaged)
        segment.write_bytes(data)
        with closing(Catalog(lake.root)) as index:
            published = recover(wal, index, lake.root / "bronze", 9)
            outcomes[f"{published.rows} rows"] += 1
        for part in published.parts:
            (lake.root / "bronze" / part.relative).unlink()
        try:
            Reader(lake.root, "arrow").read("futures.trades", "ES")
        except (duckdb.Error, RuntimeError, UnicodeDecodeError):  # of a name that is no UTF-8
            outcomes["not read"] += 1

    assert outcomes["10 rows"] > 10
    assert outcomes["not read"] > 10


def test_rebuilding_a_damaged_catalog_gives_what_it_said(lake):
    chance = random.Random(5)
    for _ in range(20):
        lake.put_index(mutated_bytes(lake.index_raw, chance))
        rebuild(lake.root)
        with closing(sqlite3.connect(lake.index_path)) as database:
            assert sorted(database.iterdump()) == lake.index


def test_verify_beside_a_damaged_catalog_proves_no_row_that_is_not_there(lake, tmp_path):
    shutil.copytree(lake.root / "bronze", tmp_path / "bronze")
    (tmp_path / "bronze" / lake.part.relative_to(lake.root / "bronze")).unlink()
    for bit in random.Random(2).sample(range(len(lake.index_raw) * 8), 12):
        (tmp_path / "catalog.db").write_bytes(flipped(lake.index_raw, bit))
        verdict = verify(tmp_path / "wal", tmp_path)
        assert verdict.findings, bit
        assert sum(proof.rows for proof in verdict.proofs if proof.stream == "futures.trades/ES") <= 20


@pytest.mark.parametrize("column", ["crc32c", "rows", "bytes"])
def test_a_row_of_the_catalog_that_is_not_as_it_was_written_is_not_believed(lake, column):
    lake.put_index(lake.index_raw)
    change(lake, column)

    with pytest.raises(LayoutError, match=r"not as it was written.*Next: spymaster catalog rebuild"):
        read_files(lake.root)
    assert audit_index(lake, lake.index_path.read_bytes()) is None


def test_a_catalog_whose_rows_are_not_summed_is_caught(lake, monkeypatch):
    monkeypatch.setattr(catalog, "row_crc32c_of", lambda _: 0)
    rebuild(lake.root)
    change(lake, "crc32c")

    assert audit_index(lake, lake.index_path.read_bytes()) is not None


def change(lake: Lake, column: str) -> None:
    with closing(sqlite3.connect(lake.index_path)) as database, database:
        database.execute(f"update files set {column} = {column} + 1")

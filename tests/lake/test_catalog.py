"""An index that may be lost: rebuilt from the files, it says the same."""

import sqlite3

import pytest

from spymaster.errors import LayoutError
from spymaster.events import Stream
from spymaster.lake.bronze import flush_segment
from spymaster.lake.catalog import Catalog, read_files, rebuild
from spymaster.wal.segment import Header
from spymaster.wal.writer import encode_segment
from tests.rows import NOON_NS, TRADES, numbered


@pytest.fixture
def lake(tmp_path):
    """A lake of two parts, recorded in its catalog."""
    catalog = Catalog(tmp_path)
    for start in (0, 100):
        path = tmp_path / "segment.arrow"
        header = Header.new(Stream("futures.trades", "ES"), 1, NOON_NS)
        path.write_bytes(encode_segment(header, numbered(TRADES, 100, start, capture_id=5), None))
        catalog.record(flush_segment(tmp_path / "bronze", path, again=False))
    catalog.close()
    return tmp_path


def dump(lake):
    with sqlite3.connect(lake / "catalog.db") as database:
        lines = sorted(database.iterdump())
    database.close()
    return lines


def test_losing_the_catalog_loses_nothing(lake):
    before = dump(lake)
    (lake / "catalog.db").unlink()

    rebuild(lake)

    assert dump(lake) == before
    assert sum(file.rows for file in read_files(lake).values()) == 200


def test_opening_takes_in_parts_that_a_crash_kept_from_being_recorded_and_drops_what_is_gone(lake):
    before = dump(lake)
    with sqlite3.connect(lake / "catalog.db") as database:
        path = database.execute("select path from files").fetchone()[0]
        database.execute("delete from files where path = ?", (path,))
        database.execute("update files set path = 'futures/trades/gone'")
    database.close()

    Catalog(lake).close()

    assert dump(lake) == before


def test_it_finds_the_rows_of_a_capture(lake):
    catalog = Catalog(lake)

    assert catalog.recorded_numbers(5, "futures.trades").tolist() == list(range(200))
    assert catalog.recorded_numbers(6, "futures.trades").tolist() == []
    catalog.close()


def test_a_file_of_another_schema_version_is_refused(lake, monkeypatch):
    part = next((lake / "bronze").rglob("*.parquet"))
    data = part.read_bytes()
    assert data.count(b"schema_version\x18\x011") >= 1
    part.unlink()
    part.with_name(part.name.replace(".parquet", ".1.parquet")).write_bytes(
        data.replace(b"schema_version\x18\x011", b"schema_version\x18\x019")
    )

    with pytest.raises(LayoutError, match="which this version does not read"):
        Catalog(lake)

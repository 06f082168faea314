"""An index that may be lost: rebuilt from the files, it says the same."""

import sqlite3
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from spymaster.errors import DiskFullError, LayoutError, UsageError
from spymaster.events import Stream
from spymaster.lake.bronze import flush_segment
from spymaster.lake.catalog import Catalog, Totals, read_files, read_totals, rebuild
from spymaster.lake.parquet import put_sum
from spymaster.query import lake as views
from spymaster.query.status import segments, status
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests import bad_sector
from tests.command_line import clean_environment, spymaster
from tests.compaction.silver_oracle import flush
from tests.rows import NOON_NS, TRADES, numbered
from tests.small_disk import small_disk


@pytest.fixture
def lake(tmp_path):
    """A lake of two parts, recorded in its catalog."""
    catalog = Catalog(tmp_path)
    for start in (0, 100):
        catalog.record(published(tmp_path, 100, start))
    catalog.close()
    return tmp_path


def published(lake, rows, start):
    path = lake / "segment.arrow"
    header = Header.new(Stream("futures.trades", "ES"), 1, NOON_NS)
    path.write_bytes(encode_segment(header, numbered(TRADES, rows, start, capture_id=5), None))
    return flush_segment(lake / "bronze", read_sealed(path), again=False)


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
    other = bytearray(data.replace(b"schema_version\x18\x011", b"schema_version\x18\x019"))
    put_sum(memoryview(other))
    part.with_name(part.name.replace(".parquet", ".1.parquet")).write_bytes(other)

    with pytest.raises(LayoutError, match="which this version does not read"):
        Catalog(lake)


def otherwise(part: Path) -> None:
    """Let a lake hold a part in folders that are not ours."""
    folder = part.parents[3] / "root=ES" / "date=2025-12-22" / "hour=12"
    folder.mkdir(parents=True)
    (folder / part.name).write_bytes(part.read_bytes())


def later(part: Path) -> None:
    """Let a lake hold a part of a later schema, sound, as its version would have written it."""
    other = bytearray(part.read_bytes().replace(b"schema_version\x18\x011", b"schema_version\x18\x012"))
    put_sum(memoryview(other))
    part.with_name(part.name.replace(".parquet", ".1.parquet")).write_bytes(other)


@pytest.mark.parametrize("change", [otherwise, later])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("compact", "--all"), {otherwise: 4, later: 1}),
        (("verify",), {otherwise: 2, later: 2}),
        (("catalog", "rebuild"), {otherwise: 2, later: 2}),
        (("recover",), {otherwise: 4, later: 4}),
        (("sql", "select count(*) from futures_trades"), {otherwise: 2, later: 2}),
        (("sql", "select count(*) from bronze_futures_trades"), {otherwise: 2, later: 2}),
    ],
)
def test_a_lake_that_another_version_wrote_is_refused_in_one_line_by_whoever_reads_it(lake, change, command, code):
    change(next((lake / "bronze" / "futures" / "trades").rglob("*.parquet")))

    environment = clean_environment(DATA_ROOT=str(lake), WAL_ROOT=str(lake / "wal"))
    done = spymaster(*command, environment=environment)

    assert done.returncode == code[change], done
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "refused: "))]
    assert ("holds futures.trades.v2" if change is later else "laid out otherwise") in line
    assert "Nothing was changed. Next:" in line


def summed(lake):
    """What the totals have to be: read from the parts."""
    parts = list((lake / "bronze").rglob("*.parquet"))
    return Totals(len(parts), sum(pq.read_metadata(part).num_rows for part in parts), sum(map(size_of, parts)))


def size_of(part):
    return part.stat().st_size


def test_the_totals_are_those_of_the_parts_whatever_comes_and_goes(lake):
    assert read_totals(lake) == {TRADES.name: summed(lake)} == {TRADES.name: Totals(2, 200, summed(lake).size_bytes)}

    (part,) = published(lake, 30, 500)
    catalog = Catalog(lake)  # which finds it
    assert read_totals(lake) == {TRADES.name: summed(lake)}
    catalog.record([part])  # and is told of it once more
    assert read_totals(lake) == {TRADES.name: summed(lake)}
    (lake / "bronze" / part.relative).unlink()
    catalog.refresh()
    catalog.close()

    assert read_totals(lake) == {TRADES.name: summed(lake)}
    assert summed(lake).rows == 200


def test_a_lake_whose_last_part_is_gone_keeps_its_catalog(lake):
    for part in (lake / "bronze").rglob("*.parquet"):
        part.unlink()

    Catalog(lake).close()

    assert read_totals(lake) == read_files(lake) == {}
    assert not (lake / "catalog.db.damaged").exists()


def test_an_index_of_before_the_totals_gives_them_too_and_has_them_from_the_next_start_on(lake):
    before = dump(lake)
    with sqlite3.connect(lake / "catalog.db") as database:
        database.execute("drop table totals")
    database.close()

    assert read_totals(lake) == {TRADES.name: summed(lake)}
    Catalog(lake).close()

    assert dump(lake) == before
    assert not (lake / "catalog.db.damaged").exists()


@pytest.mark.parametrize("column", ["files", "rows", "bytes", "row_crc32c"])
def test_a_total_that_is_not_as_it_was_written_is_not_believed(lake, column):
    before = dump(lake)
    with sqlite3.connect(lake / "catalog.db") as database:
        database.execute(f"update totals set {column} = {column} + 1")
    database.close()

    with pytest.raises(LayoutError, match=r"not as it was written.*Next: spymaster catalog rebuild"):
        read_totals(lake)
    Catalog(lake).close()

    assert dump(lake) == before


DAMAGE = {
    "garbage": lambda data: b"garbage" * 1000,
    "cut": lambda data: data[: len(data) // 2],
    "cut short": lambda data: data[:100],
    "empty": lambda data: b"",
    "zeros inside": lambda data: data[:4096] + bytes(4096) + data[8192:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_catalog_is_moved_aside_and_made_again(lake, how):
    before = dump(lake)
    path = lake / "catalog.db"
    damaged = DAMAGE[how](path.read_bytes())
    path.write_bytes(damaged)

    with pytest.raises(LayoutError, match="Next: spymaster catalog rebuild"):
        read_files(lake)
    Catalog(lake).close()

    assert dump(lake) == before
    if damaged:
        assert (lake / "catalog.db.damaged").read_bytes() == damaged
    path.write_bytes(damaged)
    rebuild(lake)
    assert dump(lake) == before


def test_a_database_of_another_shape_is_moved_aside(lake):
    before = dump(lake)
    (lake / "catalog.db").unlink()
    with sqlite3.connect(lake / "catalog.db") as database:
        database.execute("create table files (name text)")
    database.close()

    Catalog(lake).close()

    assert dump(lake) == before


def test_a_folder_in_the_place_of_the_catalog_is_named(lake):
    (lake / "catalog.db").unlink()
    (lake / "catalog.db").mkdir()

    for call in (Catalog, rebuild):
        with pytest.raises(UsageError, match=r"catalog\.db is a folder"):
            call(lake)
    with pytest.raises(LayoutError, match="does not read"):
        read_files(lake)


def test_status_names_a_damaged_catalog_as_an_alarm(lake):
    (lake / "catalog.db").write_bytes(b"garbage" * 1000)

    assert any("Next: spymaster catalog rebuild" in line for line in status(lake / "wal", lake)["alarms"])


def test_a_part_that_does_not_read_is_not_adopted(lake):
    part = next((lake / "bronze").rglob("*.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)

    rebuild(lake)

    assert sum(file.rows for file in read_files(lake).values()) == 100


def test_a_part_under_which_a_sector_is_bad_is_not_adopted_until_it_reads_again(lake, monkeypatch):
    before = dump(lake)
    part = next((lake / "bronze").rglob("*.parquet"))
    with monkeypatch.context() as patch:
        bad_sector.lies_under(patch, part.name)
        rebuild(lake)
    assert sum(file.rows for file in read_files(lake).values()) == 100

    Catalog(lake).close()

    assert dump(lake) == before


def test_the_index_knows_the_dates_and_captures_of_a_part(lake):
    assert {(file.date, file.captures) for file in read_files(lake).values()} == {("2025-12-22", frozenset({5}))}


def test_a_segment_with_two_names_counts_once(lake):
    wal = lake / "wal"
    wal.mkdir()
    header = Header.new(Stream("futures.trades", "ES"), 1, NOON_NS)
    (wal / "futures_trades_ES.arrow").write_bytes(encode_segment(header, numbered(TRADES, 100), None))
    (wal / "futures_trades_ES.001.arrow").hardlink_to(wal / "futures_trades_ES.arrow")

    assert [row["rows"] for row in segments(wal)] == [100]
    assert status(wal, lake)["wal"]["rows"] == 100


@pytest.mark.parametrize("name", ["[ab]", "a*b", "what?", "it's [odd"])
def test_the_views_read_a_lake_in_a_folder_with_glob_characters(lake, name):
    odd = lake.parent / name
    lake.rename(odd)

    assert views.connect(odd, odd / "wal").execute("select count(*) from futures_trades").fetchone() == (200,)


def test_the_views_see_no_file_outside_bronze(lake):
    connection = views.connect(lake, lake / "wal")

    for query in ("copy (select 1) to '{}/x.csv'", "attach '{}/x.db'", "from read_csv('{}/catalog.db')"):
        with pytest.raises((duckdb.Error, UsageError)):
            connection.execute(query.format(lake))


def test_a_full_disk_that_has_no_room_for_the_index_is_one_line_and_nothing_is_changed(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        Catalog(disk.root / "lake").close()
        before = (disk.root / "lake" / "catalog.db").read_bytes()
        for number in range(200):  # more than fits into the pages that the file has
            flush(disk.root, TRADES, numbered(TRADES, 1, number), created_ns=NOON_NS + number)
        disk.leave(0)

        with pytest.raises(DiskFullError, match="on a full disk.*Nothing was changed.*Next: free space"):
            Catalog(disk.root / "lake")

        assert (disk.root / "lake" / "catalog.db").read_bytes() == before
        disk.free()
        index = Catalog(disk.root / "lake")
        assert len(index.recorded_numbers(1, TRADES.name)) == 200
        index.close()

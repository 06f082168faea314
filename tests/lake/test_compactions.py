"""The catalog names the engine of each Silver file, where it can; where it cannot nothing is lost or delayed."""

import sqlite3

import pytest

from spymaster.lake import compactions
from spymaster.lake.catalog import Catalog
from spymaster.lake.compactions import Compaction

ONE = Compaction("silver/a/part-0000.parquet", "abc", "numpy")
OTHER = ONE._replace(path="silver/b/part-0000.parquet", engine="duckdb")


@pytest.fixture
def lake(tmp_path):
    Catalog(tmp_path).close()
    return tmp_path


def test_what_was_recorded_is_read_and_the_last_word_of_a_file_counts(lake):
    compactions.record(lake, [ONE, OTHER])
    compactions.record(lake, [OTHER._replace(engine="numpy")])

    expected = {ONE.path: ONE, OTHER.path: OTHER._replace(engine="numpy")}
    assert compactions.read(lake) == expected
    Catalog(lake).close()  # which finds it sound
    assert compactions.read(lake) == expected
    assert not (lake / "catalog.db.damaged").exists()


def test_a_catalog_of_before_gets_the_table_and_is_not_made_again(lake):
    with sqlite3.connect(lake / "catalog.db") as database:
        database.execute("drop table compactions")
    database.close()

    assert compactions.read(lake) == {}
    compactions.record(lake, [ONE])
    Catalog(lake).close()

    assert compactions.read(lake) == {ONE.path: ONE}
    assert not (lake / "catalog.db.damaged").exists()


def test_without_a_catalog_none_is_made(tmp_path):
    compactions.record(tmp_path, [ONE])

    assert compactions.read(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_beside_a_daemon_that_holds_the_catalog_the_files_stay_unnamed(lake, monkeypatch):
    monkeypatch.setattr(compactions, "_WAIT_S", 0.1)
    database = sqlite3.connect(lake / "catalog.db", isolation_level=None)
    database.execute("begin immediate")

    compactions.record(lake, [ONE])
    database.rollback()

    assert compactions.read(lake) == {}
    compactions.record(lake, [ONE])
    assert compactions.read(lake) == {ONE.path: ONE}
    database.close()


@pytest.mark.parametrize("column", ["path", "inputs", "engine"])
def test_a_name_that_is_not_as_it_was_written_is_not_believed(lake, column):
    compactions.record(lake, [ONE])
    with sqlite3.connect(lake / "catalog.db") as database:
        database.execute(f"update compactions set {column} = 'duckdb'")
    database.close()

    assert compactions.read(lake) == {}
    Catalog(lake).close()
    assert (lake / "catalog.db.damaged").exists()


def test_a_catalog_that_is_none_is_left_as_it_is(lake):
    (lake / "catalog.db").write_bytes(b"none of ours")

    compactions.record(lake, [ONE])

    assert compactions.read(lake) == {}
    assert (lake / "catalog.db").read_bytes() == b"none of ours"

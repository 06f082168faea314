"""`raw/manifest.json`: what was ingested, once for each content, and never in the way."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spymaster.feeds import raw_manifest
from tests.command_line import clean_environment, spymaster
from tests.normalize.dbn_bytes import es_header, trade

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


def test_a_file_is_recorded_with_its_path_rows_and_capture(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "raw"
    rows = {"stocks.trades": 1, "stocks.quotes": 250_600}
    raw_manifest.record(raw, raw / "polygon" / "day.csv.gz", ONE, 4_000, rows, 2**62 + 1)
    raw_manifest.record(raw, tmp_path / "elsewhere.csv", TWO, 70, {}, 5)

    assert json.loads((raw / "manifest.json").read_bytes()) == {
        "files": {
            ONE: {
                "path": "polygon/day.csv.gz",
                "bytes": 4_000,
                "rows": 250_601,
                "rows_per_schema": rows,
                "capture_id": 2**62 + 1,
            },
            TWO: {
                "path": str(tmp_path / "elsewhere.csv"),
                "bytes": 70,
                "rows": 0,
                "rows_per_schema": {},
                "capture_id": 5,
            },
        }
    }
    assert list(raw_manifest.entries(raw)) == [ONE, TWO]


def test_the_same_content_is_one_entry_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        raw_manifest.record(tmp_path, tmp_path / name, ONE, 9, {"stocks.trades": 7}, 1)

    (entry,) = raw_manifest.entries(tmp_path).values()
    assert (entry["path"], entry["rows"]) == ("b.csv", 7)


def test_files_that_are_recorded_at_the_same_time_are_all_listed(tmp_path: Path) -> None:
    names = [f"{number:064x}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        for listed in [
            threads.submit(raw_manifest.record, tmp_path, tmp_path / name, name, 1, {}, 1) for name in names
        ]:
            listed.result()

    assert set(raw_manifest.entries(tmp_path)) == set(names)


def test_beyond_its_bound_the_entries_recorded_first_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_manifest, "MAX_FILES", 2)
    for sha256 in (ONE, TWO, ONE, THREE):
        raw_manifest.record(tmp_path, tmp_path / "day.csv", sha256, 1, {}, 1)

    assert list(raw_manifest.entries(tmp_path)) == [ONE, THREE]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"files": []}',
        b'{"files": {"x": {}}}',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"files": {ONE: {"path": "a", "rows": "7", "capture_id": 1}}}).encode(),
    ],
    ids=range(8),
)
def test_a_manifest_that_does_not_read_is_moved_aside_and_begun_anew(tmp_path: Path, damage: bytes) -> None:
    for number in (1, 2):
        (tmp_path / "manifest.json").write_bytes(damage)
        assert raw_manifest.entries(tmp_path) == {}

        raw_manifest.record(tmp_path, tmp_path / "day.csv", TWO, 1, {}, 1)

        assert list(raw_manifest.entries(tmp_path)) == [TWO]
        assert (tmp_path / f"manifest.json.damaged-{number}").read_bytes() == damage


def test_a_manifest_of_before_is_read_and_goes_on(tmp_path: Path) -> None:
    before = {ONE: {"path": "a.csv", "rows": 7, "capture_id": 1}}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": before}))

    raw_manifest.record(tmp_path, tmp_path / "b.csv", TWO, 1, {}, 2)

    assert raw_manifest.entries(tmp_path)[ONE] == before[ONE]
    assert list(raw_manifest.entries(tmp_path)) == [ONE, TWO]


def test_no_manifest_holds_no_entries(tmp_path: Path) -> None:
    assert raw_manifest.entries(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("data_root", ["data/lake", "{folder}/data/lake"])
def test_a_file_of_the_folder_is_listed_however_it_and_the_lake_are_named(tmp_path: Path, data_root: str) -> None:
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    environment = clean_environment(DATA_ROOT=data_root.format(folder=tmp_path))
    header = "ticker,conditions,correction,exchange,price,sip_timestamp,size\n"
    for number, name in enumerate((f"{raw}/absolute.csv", "data/raw/relative.csv")):
        (tmp_path / name).write_text(f"{header}O:SPY251216C00680000,233,0,302,1.5,162982067633300000{number},1\n")
        done = spymaster("backfill", f"flatfile:{name}", environment=environment, folder=tmp_path)
        assert done.returncode == 0, done

    listed = raw_manifest.entries(raw).values()
    assert [(entry["path"], entry["rows"]) for entry in listed] == [("absolute.csv", 1), ("relative.csv", 1)]


def test_dbn_files_are_listed_with_their_bytes_and_the_rows_of_each_schema(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "raw"
    file = raw / "dbn" / "es.dbn"
    file.parent.mkdir(parents=True)
    file.write_bytes(es_header() + trade() + trade(sequence=2))
    outside = tmp_path / "outside.dbn"
    outside.write_bytes(es_header() + trade(sequence=3))
    environment = clean_environment(DATA_ROOT=str(tmp_path / "lake"), WAL_ROOT=str(tmp_path / "wal"), RAW_ROOT=str(raw))

    def backfilled(path: Path) -> bool:
        done = spymaster("backfill", f"dbn:{path}", "--json", environment=environment)
        assert done.returncode == 0, done
        (capture,) = done.document["captures"]
        return capture["already_captured"]

    assert not backfilled(file)
    assert not backfilled(outside)
    ((sha256, entry),) = raw_manifest.entries(raw).items()
    assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (entry["path"], entry["bytes"]) == ("dbn/es.dbn", file.stat().st_size)
    assert (entry["rows"], entry["rows_per_schema"]) == (2, {"futures.trades": 2})

    listed = (raw / "manifest.json").stat().st_mtime_ns
    assert backfilled(file)
    assert (raw / "manifest.json").stat().st_mtime_ns == listed  # nothing to add
    (raw / "manifest.json").unlink()
    assert backfilled(file)  # and found in the lake, as of a file that was captured before such were listed
    assert raw_manifest.entries(raw) == {sha256: entry}

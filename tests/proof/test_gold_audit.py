"""An audit of Gold that can fail: each kind of harm is planted and must become a finding."""

import json

import pandas as pd
import pyarrow as pa
import pytest

from spymaster import durable
from spymaster.lake import gold, parquet
from spymaster.lake.gold import FILES, NOBODY
from spymaster.proof.verify import verify
from tests import bad_sector
from tests.command_line import clean_environment, spymaster
from tests.lake.test_gold import at


@pytest.fixture
def root(tmp_path):
    """Three parts of an hour, and one of the next."""
    for batches in (at(1, 2), at(60, 61), at(120), at(3_600)):
        gold.publish(tmp_path / "lake", pa.Table.from_batches(batches), NOBODY)
    return tmp_path


def part(root, name="part-120100_000000.parquet"):
    (found,) = (root / "lake" / "gold").rglob(name)
    return found


def audited(root, date=None):
    return verify(root / "wal", root / "lake", date)


def findings(root):
    return audited(root).findings


def test_gold_as_it_was_published_has_no_finding(root):
    verdict = audited(root)

    assert verdict.findings == []
    assert (verdict.gold.files, verdict.gold.rows) == (4, 12)


def test_a_date_has_its_own_parts_alone(root):
    gold.publish(root / "lake", pa.Table.from_batches(at(50_000)), NOBODY)

    assert audited(root, "2025-12-22").gold.files == 4
    assert audited(root, "2025-12-23").gold.files == 1


@pytest.mark.parametrize("at_byte", [4, 300, -20])
def test_a_flipped_bit_is_found_and_the_part_named(root, at_byte):
    data = bytearray(part(root).read_bytes())
    data[at_byte] ^= 1
    part(root).write_bytes(data)

    (line,) = findings(root)
    assert part(root).name in line
    assert "Next: " in line
    assert audited(root).gold.rows == 8


def test_a_part_cut_short_is_found(root):
    data = part(root).read_bytes()
    part(root).write_bytes(data[: len(data) // 2])

    (line,) = findings(root)
    assert part(root).name in line


def test_a_part_that_was_moved_is_found(root):
    here = part(root)
    here.rename(here.with_name("part-120101_000000.parquet"))
    assert "its name and folder do not follow from its rows" in findings(root)[0]

    there = here.parents[1] / "hour=15" / here.name
    there.parent.mkdir()
    here.with_name("part-120101_000000.parquet").rename(there)
    assert "its name and folder do not follow from its rows" in findings(root)[0]

    there.rename(there.parents[1] / there.name)
    assert "it lies where no Gold belongs" in findings(root)[0]


def test_rows_out_of_order_are_found(root):
    rows = gold.read(part(root)).take([2, 3, 0, 1])
    said = {"spymaster_profile": "", "spymaster_profile_hash": "", "spymaster_code_hash": ""}
    part(root).write_bytes(parquet.encode(FILES, rows, said, ["ts_event_ns"]))

    assert "its rows are not in order" in findings(root)[0]


def test_a_level_that_stands_twice_at_a_snap_is_found(root):
    gold.publish(root / "lake", pa.Table.from_batches(at(61, 62)), NOBODY)

    (line,) = findings(root)
    first_ns = at(61)[0].column("ts_event_ns")[0].as_py()
    assert "has 2 rows of a level that stands there already at the same snap" in line
    assert str(first_ns) in line
    assert "hour=12" in line


def test_a_file_of_somebody_else_is_found_and_not_called_damaged(root):
    pd.DataFrame({"x": [1]}).to_parquet(part(root).with_name("part-120500_000000.parquet"))
    pd.DataFrame({"x": [1]}).to_parquet(part(root).with_name("mine.parquet"))

    found = findings(root)
    assert len(found) == 2
    assert all("is not ours and was passed over" in line for line in found)


def test_a_part_of_a_later_version_is_found(root, monkeypatch):
    later = {key.decode(): value.decode() for key, value in FILES.metadata.items()} | {"schema_version": "2"}
    monkeypatch.setattr(gold, "FILES", FILES.with_metadata(later))
    gold.publish(root / "lake", pa.Table.from_batches(at(180)), NOBODY)

    assert "holds levels.signals.v2, which this version does not read" in findings(root)[0]


def test_a_sector_that_does_not_read_is_found(root, monkeypatch):
    bad_sector.lies_under(monkeypatch, part(root).name)

    assert "cannot be read" in findings(root)[0]


def test_the_command_says_it_and_counts(root):
    environment = clean_environment(DATA_ROOT=str(root / "lake"), WAL_ROOT=str(root / "wal"))
    said = json.loads(spymaster("verify", "--json", environment=environment).stdout)
    assert (said["proven"], said["gold"]) == (True, {"files": 4, "rows": 12})

    durable.remove(part(root))
    gold.publish(root / "lake", pa.Table.from_batches(at(2, 3)), NOBODY)
    done = spymaster("verify", environment=environment)
    assert done.returncode == 1
    assert "12 rows in 4 parts of Gold; 1 findings." in done.stdout
    assert "finding: gold/levels/signals" in done.stdout

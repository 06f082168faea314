"""What an earlier version wrote is read, recovered, proved and refined by this one.

`data/before/` says what was left by a whole earlier version, `data/v1/` has each schema as its version 1 wrote it.
"""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from spymaster.events import SCHEMAS
from spymaster.query.lake import Lake
from tests.command_line import clean_environment, spymaster

BEFORE = Path(__file__).parent / "data" / "before" / "before.tar.xz"
TRADES_LEFT = 100 + 100 + 8_192  # sealed; in the active segment below its watermark; above it, in one large frame
LEFT_IN_LOG = TRADES_LEFT + 1  # the begin row of their capture
ONE_TABLES = ("futures_trades", "futures_mbp10", "options_greeks_snapshots")
COMPUTED = {"event_id", "occurrence", "late_correction", "late_conditions"}  # by the one table
NOON = "date = '2025-12-22'"


@pytest.fixture
def before(tmp_path):
    """A folder with the lake and the log, and the environment that names them."""
    with tarfile.open(BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path, clean_environment(DATA_ROOT=str(tmp_path / "lake"), WAL_ROOT=str(tmp_path / "wal"))


def asked(environment, *arguments, code=0):
    done = spymaster(*arguments, "--json", environment=environment)
    assert done.returncode == code, done
    return done.document


def answer(environment, query):
    ((value,),) = asked(environment, "sql", query)["rows"]
    return value


def silver_of(folder: Path) -> dict[str, str]:
    files = sorted((folder / "lake" / "silver").rglob("part-*.parquet"))
    return {str(file.relative_to(folder / "lake")): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_what_an_earlier_version_left_is_recovered_proved_refined_and_answered(before):
    folder, environment = before
    made = json.loads((folder / "made.json").read_text())
    assert silver_of(folder) == made["silver"]

    recovered = asked(environment, "recover")
    assert (recovered["rows"], recovered["missing"]) == (LEFT_IN_LOG, [])
    assert recovered["torn_bytes"] == 200
    verdict = asked(environment, "verify")
    assert (verdict["findings"], verdict["silver"]["stale"]) == ([], len(made["silver"]))  # by the former rule
    before_it = [answer(environment, f"select count(*) from {table}") for table in ONE_TABLES]

    done = asked(environment, "compact", "--all")
    again = silver_of(folder)
    assert {one["status"] for one in done["partitions"]} == {"compacted"}
    assert not again.items() & made["silver"].items()
    assert {one["status"] for one in asked(environment, "compact", "--all")["partitions"]} == {"unchanged"}
    assert [answer(environment, f"select count(*) from {table}") for table in ONE_TABLES] == before_it
    if pa.__version__ == made["pyarrow"]:
        shutil.rmtree(folder / "lake" / "silver")
        asked(environment, "compact", "--all")
        assert silver_of(folder) == again
    assert asked(environment, "verify")["proven"]

    assert answer(environment, f"select count(*) from futures_trades where {NOON}") == TRADES_LEFT
    assert answer(environment, f"select count(*) from futures_mbp10 where {NOON}") == 15
    assert answer(environment, "select count(*) from bronze_futures_trades where date = '2025-12-16'") == 53  # archived
    assert answer(environment, "select rows from system_gaps") == 5
    assert answer(environment, "select count(*) from options_greeks_snapshots") == 730


LATER = {"options.quotes", "reference.statistics", "reference.status"}
ARCHIVES = {"v1": SCHEMAS.keys() - LATER, "v1_quotes_and_states": LATER}  # by the schemas that came together


@pytest.fixture(params=ARCHIVES)
def version_1(request, tmp_path):
    """A lake and a log with three rows of each schema of an archive in version 1, these rows, and the schemas."""
    with tarfile.open(BEFORE.parents[1] / "v1" / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path, json.loads((tmp_path / "rows.json").read_text()), ARCHIVES[request.param]


@pytest.mark.parametrize("tier", ["bronze", "silver"])
def test_a_file_of_every_schema_in_version_1_reads_as_it_was_written(version_1, tier):
    folder, rows, schemas = version_1

    with Lake(folder / "lake", folder / "none") as lake:
        for name, expected in rows[tier].items():
            read = lake.sql(f"from {tier}_{name.replace('.', '_')}").to_arrow_table().to_pylist()
            assert [as_it_was(row, known) for row, known in zip(read, expected, strict=True)] == expected, name
    assert rows[tier].keys() == {name for name in schemas if tier == "bronze" or not name.startswith("system.")}


def test_a_segment_of_every_schema_in_version_1_reads_as_it_was_written(version_1):
    folder, rows, _ = version_1

    with Lake(folder / "none", folder / "wal") as lake:
        for name, expected in rows["bronze"].items():
            read = lake.sql(f"from {name.replace('.', '_')}").to_arrow_table().to_pylist()
            assert [as_it_was(row, known) for row, known in zip(read, expected, strict=True)] == expected, name


def as_it_was(row: dict, known: dict) -> dict:
    """Return a row as JSON says it, without columns that came later, which are null but where they are computed."""
    assert all(row[name] is None for name in row.keys() - known.keys() - COMPUTED)
    return json.loads(json.dumps({name: row[name] for name in known}, default=str))


def test_a_recorder_starts_on_what_an_earlier_version_left_and_knows_its_files(before):
    folder, environment = before

    run = asked(environment, "run", "--source", f"dbn:{folder / 'a.dbn'}", "--speed", "0")

    (capture,) = run["captures"]
    assert (capture["already_captured"], capture["rows"]) == (True, {"futures.trades": 50})
    assert (run["recovered_rows"], run["problems"]) == (LEFT_IN_LOG, [])
    assert asked(environment, "run", "--source", "sim-es", "--duration", "1")["rows"]["futures.mbp10"] > 0
    assert asked(environment, "verify")["proven"]
    assert answer(environment, f"select count(*) from futures_trades where {NOON}") == TRADES_LEFT

"""What an earlier version wrote is read, recovered, proved and refined by this one. `data/before/` says what it is."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from tests.command_line import clean_environment, spymaster

BEFORE = Path(__file__).parent / "data" / "before" / "before.tar.xz"
TRADES_LEFT = 100 + 100 + 8_192  # sealed; in the active segment below its watermark; above it, in one large frame
LEFT_IN_LOG = TRADES_LEFT + 1  # the begin row of their capture
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
    assert asked(environment, "verify")["findings"] == []

    asked(environment, "compact", "--all")
    again = silver_of(folder)
    assert {name: again[name] for name in made["silver"]} == made["silver"]  # what did not change is left alone
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


def test_a_recorder_starts_on_what_an_earlier_version_left_and_knows_its_files(before):
    folder, environment = before

    run = asked(environment, "run", "--source", f"dbn:{folder / 'a.dbn'}", "--speed", "0")

    (capture,) = run["captures"]
    assert (capture["already_captured"], capture["rows"]) == (True, {"futures.trades": 50})
    assert (run["recovered_rows"], run["problems"]) == (LEFT_IN_LOG, [])
    assert asked(environment, "run", "--source", "sim-es", "--duration", "1")["rows"]["futures.mbp10"] > 0
    assert asked(environment, "verify")["proven"]
    assert answer(environment, f"select count(*) from futures_trades where {NOON}") == TRADES_LEFT

"""The command line as a user meets it: help, answers, and one clear line for each kind of bad input."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import pytest

from spymaster import cli
from spymaster.events import SCHEMAS, SYSTEM_ALERTS, SYSTEM_GAPS, SYSTEM_SNAPS, SYSTEM_ZONES
from spymaster.simulation.day import DAY_RATE
from spymaster.simulation.source import MAX_RATE, SimFeed
from tests.command_line import clean_environment, spymaster
from tests.feeding import opened

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def settings():
    """The environment of someone who has set nothing but a quicker flush."""
    return clean_environment(FLUSH_INTERVAL_SEC="1", PYTHONPATH=str(REPOSITORY))


@pytest.fixture
def shell(tmp_path, settings):
    """Run the command line in an empty folder; returns what came of it."""

    def call(*arguments, **extra):
        return spymaster(*arguments, environment=settings | extra, folder=tmp_path)

    return call


@pytest.fixture
def process(tmp_path, settings):
    """Run it as a process of its own."""

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "spymaster", *arguments],
            cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return call


def refusal(done, code):
    """Check that a command failed with one clear line on stderr, and return it."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert "Next: " in lines[0]
    assert "Traceback" not in done.stderr
    return lines[0]


def commands(app, *names):
    """Return the words of every command that there is."""
    found = [[*names, command.name] for command in app.registered_commands]
    return found + [words for group in app.registered_groups for words in commands(group.typer_instance, group.name)]


COMMANDS = commands(cli.app)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(shell, command):
    done = shell(*command, "--help")

    assert done.returncode == 0
    assert f"Example: spymaster {' '.join(command)}" in done.stdout
    for option in ("--json", "--data-root", *(["--wal-root"] if command != ["compact"] else [])):
        assert option in done.stdout


@pytest.mark.parametrize("arguments", [[], ["wal"]])
def test_no_command_is_answered_by_the_help_alone(shell, arguments):
    done = shell(*arguments)

    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage: " in done.stdout


def test_the_version_is_that_of_the_installed_package(shell):
    assert shell("--version").stdout == f"spymaster {metadata.version('spymaster')}\n"


HEAVY = {
    "asyncio",
    "databento",
    "databento_dbn",
    "duckdb",
    "massive",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic_settings",
    "sqlite3",
}


@pytest.mark.parametrize("command", [[], ["run"]], ids=["all", "one"])
def test_help_loads_nothing_that_only_an_answer_needs(settings, command):
    script = "import sys, spymaster.cli as c\ntry: c.main()\nfinally: print('LOADED', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--help"], env=settings, capture_output=True, text=True, timeout=60
    )

    shown, loaded = done.stdout.split("LOADED ")
    assert "Usage: " in shown
    assert HEAVY & set(loaded.split()) == set()


def test_the_default_that_the_help_names_is_the_default(shell):
    assert f"default: {DAY_RATE}" in " ".join(shell("simulate-day", "--help").stdout.replace("│", "").split())
    assert "give 1 to" in refusal(
        shell("simulate-day", "--date", "2025-12-16", "--out", "x", "--rate", str(MAX_RATE + 1)), 2
    )
    assert "plant=''" in refusal(shell("simulate-day", "--date", "2025-12-16", "--out", "x", "--plant", ""), 2)


TABLES = [["status"], ["wal", "ls"], ["wal", "verify"], ["config", "show"], ["compact", "--all"], ["doctor"]]


def test_what_prints_a_table_prints_it_as_records_and_as_json_too(shell):
    # Of a busy hour: in a quiet one nothing happens while a slow machine starts.
    assert shell("run", "--source", "sim:start=2025-12-02T15:00:00Z", "--duration", "3").returncode == 0
    day = ["simulate-day", "--date", "2025-12-16", "--end", "00:01", "--out"]

    for number, command in enumerate([*TABLES, day]):
        shown = []
        for form in (["--format", "table"], ["--format", "record"], ["--format", "json"], ["--json"]):
            done = shell(*command, *([f"{form[-1]}{number}"] if command is day else []), *form)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            shown.append(done.stdout)
        table, record, *documents = shown
        assert re.match(r"\w.*\n-[-+]+\n\w", table), command
        assert re.match(r"-\[ 1 \]---\n\w+: ", record), command
        first, second = map(json.loads, documents)
        assert (type(first), len(first)) == (type(second), len(second)), command
    both = shell("status", "--json", "--format", "table")
    assert (both.returncode, "exclude each other" in both.document["error"]) == (2, True)


def test_a_first_run_simulates_a_market_and_answers_a_query(process, tmp_path):
    done = process("run", "--duration", "10")

    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout
    for schema in SCHEMAS.values():
        folder = tmp_path / "data/lake/bronze" / schema.name.replace(".", "/")
        assert list(folder.rglob("part-*.parquet")) or schema in (
            SYSTEM_ALERTS,
            SYSTEM_GAPS,
            SYSTEM_SNAPS,
            SYSTEM_ZONES,
        ), folder
    answer = process("sql", "select count(*) as n from futures_mbp10 where bid_px_1 >= ask_px_1", "--json")
    assert json.loads(answer.stdout) == {"columns": ["n"], "rows": [[0]]}
    assert process("verify").returncode == 0
    status = json.loads(process("status", "--json").stdout)
    assert status["alarms"] == []
    assert status["wal"]["rows"] == 0
    disk = sum(path.stat().st_size for path in (tmp_path / "data/lake/bronze").rglob("*.parquet"))
    assert status["bronze_total"]["bytes"] == disk == sum(tier["bytes"] for tier in status["bronze"].values())
    segments = json.loads(process("wal", "ls", "--json").stdout)
    assert {segment["state"] for segment in segments} == {"active"}


def test_a_run_without_the_gateway_records_as_before_and_the_help_says_what_that_is(shell):
    assert shell("run", "--duration", "0.5", "--no-gateway", "--json").document["captures"][0]["complete"]
    assert "Serve no page" in shell("run", "--help").stdout


def test_json_prints_one_document_and_errors_are_one_too(shell):
    assert json.loads(shell("run", "--duration", "0.5", "--json").stdout)["captures"][0]["complete"]
    done = shell("verify", "--date", "tomorrow", "--json")
    assert done.returncode == 2
    assert "'tomorrow' is not a date" in json.loads(done.stdout)["error"]


def test_secrets_are_never_shown(shell):
    done = shell("config", "show", DATABENTO_API_KEY="db-topsecret")

    assert done.returncode == 0
    assert "topsecret" not in done.stdout + done.stderr
    assert json.loads(shell("config", "show", "--json").stdout)["DATABENTO_API_KEY"]["value"] == "not set"


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (["run", "--source", "kafka:x"], {}, "source 'kafka:x' is not known"),
        (["run", "--source", "dbn:missing.dbn"], {}, "missing.dbn"),
        (["run", "--source", "sim:speed=9"], {}, "speed"),
        (["run"], {"USE_S3": "true"}, "USE_S3=true"),
        (["run"], {"FLUSH_INTERVAL_SEC": "0"}, "FLUSH_INTERVAL_SEC"),
        (["run", "--speed", "inf"], {}, "--speed inf"),
        (["run", "--speed", "nan"], {}, "greater than or equal to 0"),
        (["run"], {"DATA_ROOT": ""}, "DATA_ROOT"),
        (["verify"], {}, "there is no lake"),
        (["sql", "copy (select 1) to 'x.parquet'"], {}, "COPY is refused"),
        (["sql", " ; -- nothing"], {}, "the query is empty"),
        (["verify", "--date", "2025-02-30"], {}, "'2025-02-30' is not a date"),
        (["sql", "select * from nowhere"], {}, "the query failed"),
        (["backfill", "sim"], {}, "no file source"),
        (["run", "--no-such-option"], {}, "No such option"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(shell, tmp_path, arguments, environment, line):
    assert line in refusal(shell(*arguments, **environment), 2)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob("*.arrow"))


def test_a_process_that_fails_prints_its_one_line_and_nothing_else(process):
    done = process("verify", "--date", "tomorrow")

    refusal(done, 2)
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["WAL_ROOT", "DATA_ROOT"])
def test_an_unwritable_folder_is_named_with_its_setting(shell, tmp_path, name):
    (tmp_path / "file").write_text("not a folder")

    line = refusal(shell("run", "--duration", "1", **{name: "file/below"}), 2)

    assert f"{name}: file/below" in line
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_lake_laid_out_otherwise_is_refused_and_recording_goes_on_in_the_log(shell, tmp_path):
    stray = tmp_path / "data/lake/bronze/futures/trades/date=2025-12-22/x.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"PAR1")

    recorded = shell("run", "--duration", "1", "--json")
    assert recorded.returncode == 1
    problems = recorded.document["problems"]  # of Bronze, and of the judge if it got as far
    assert problems
    assert all("laid out otherwise" in problem for problem in problems)
    assert sum(stream["acknowledged"] for stream in recorded.document["streams"].values()) > 0
    for command, code in ((["verify"], 2), (["recover"], 4)):
        assert "laid out otherwise" in refusal(shell(*command), code)
    assert stray.read_bytes() == b"PAR1"


def test_a_file_that_somebody_left_in_bronze_is_named_and_stops_neither_recording_nor_recovery(shell, tmp_path):
    stray = tmp_path / "data/lake/bronze/mine.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"PAR1")

    for command in (["run", "--duration", "1"], ["recover"], ["catalog", "rebuild"]):
        done = shell(*command)
        assert done.returncode == 0, command
        assert "not ours, which are passed over: bronze/mine.parquet. Next: move them out" in done.stderr, command
    for command in (["compact", "--all"], ["sql", "from futures_trades"], ["status"]):
        assert shell(*command).returncode == 0, command
    assert stray.read_bytes() == b"PAR1"


def dbn_file(path, *, dataset="GLBX.MDP3", schema=dbn.Schema.TRADES, symbol="ESZ5", records=3):
    """Write a genuine DBN file of trades of one symbol."""
    day = 1_766_404_800_000_000_000
    interval = type("Interval", (), {"start_date": np.datetime64("2025-12-22").item(),
                                     "end_date": np.datetime64("2025-12-23").item(), "symbol": "17077"})  # fmt: skip
    mapping = type("Mapping", (), {"raw_symbol": symbol, "intervals": [interval]})
    header = dbn.Metadata(
        dataset=dataset, start=day, end=day + 1, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=schema, symbols=[symbol], partial=[], not_found=[], mappings=[mapping],
    )  # fmt: skip
    trades = [
        dbn.TradeMsg(
            publisher_id=1, instrument_id=17077, ts_event=day + n, price=6900_250000000, size=1 + n,
            action=dbn.Action.TRADE, side=dbn.Side.BID, depth=0, ts_recv=day + n, flags=0, ts_in_delta=0, sequence=n,
        )
        for n in range(records)
    ]  # fmt: skip
    path.write_bytes(bytes(header.encode()) + b"".join(bytes(trade) for trade in trades))
    return path


def test_an_odd_symbol_is_recorded_inside_the_lake_and_nowhere_else(shell, tmp_path):
    symbols = ["../../etc", "BRK/B", "UD:1V: VT 2858150", "..", "a b%c"]
    (tmp_path / "odd").mkdir()
    for number, symbol in enumerate(symbols):
        dbn_file(tmp_path / f"odd/{number}.dbn", symbol=symbol)
    before = set(tmp_path.parent.iterdir())

    done = shell("backfill", "dbn:odd", "--json")

    assert json.loads(done.stdout)["rows"] == {"futures.trades": 3 * len(symbols)}
    stored = shell("sql", "select contract, count(*) from futures_trades group by 1", "--json")
    assert dict(json.loads(stored.stdout)["rows"]) == dict.fromkeys(symbols, 3)
    parts = list((tmp_path / "data/lake/bronze/futures").rglob("*.parquet"))
    assert len(parts) == len(symbols)
    assert {len(part.relative_to(tmp_path / "data/lake/bronze").parts) for part in parts} == {6}
    assert set(tmp_path.parent.iterdir()) == before
    assert shell("verify").returncode == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [({"dataset": "XCME.NOPE"}, "XCME.NOPE"), ({"schema": dbn.Schema.OHLCV_1S}, "ohlcv-1s")],
)
def test_an_unknown_dataset_or_schema_is_one_clear_line(shell, tmp_path, options, line):
    dbn_file(tmp_path / "odd.dbn", **options)

    done = shell("backfill", "dbn:odd.dbn", "--json")

    assert done.returncode == 1
    (capture,) = json.loads(done.stdout)["captures"]
    assert line in capture["error"]
    assert "Next: " in capture["error"]
    assert not list((tmp_path / "data").rglob("futures/**/*.parquet"))


def test_a_truncated_file_names_the_byte_keeps_its_rows_and_is_not_called_complete(shell, tmp_path):
    path = dbn_file(tmp_path / "cut.dbn")
    path.write_bytes(path.read_bytes()[:-10])

    for _ in range(2):  # reading it again adds nothing
        done = shell("backfill", "dbn:cut.dbn", "--json")
        assert done.returncode == 1
        (capture,) = json.loads(done.stdout)["captures"]
        assert "truncated at byte" in capture["error"]
        assert not capture["complete"]
        assert capture["rows"] == {"futures.trades": 2}
    counted = shell(
        "sql", "select (select count(*) from futures_trades), (select count(*) from system_captures)", "--json"
    )
    assert json.loads(counted.stdout)["rows"] == [[2, 2]]


def test_one_bad_file_in_a_folder_does_not_keep_the_others_out(shell, tmp_path):
    folder = tmp_path / "day"
    folder.mkdir()
    dbn_file(folder / "a.dbn")
    dbn_file(folder / "b.dbn", schema=dbn.Schema.OHLCV_1S)
    dbn_file(folder / "c.dbn", records=5)
    (folder / "d.dbn").write_bytes(b"")

    done = shell("backfill", "dbn:day", "--json")

    assert done.returncode == 1
    captures = json.loads(done.stdout)["captures"]
    assert [bool(capture["error"]) for capture in captures] == [False, True, False, True]
    assert json.loads(done.stdout)["rows"] == {"futures.trades": 8}


def test_unreadable_messages_are_kept_with_their_bytes_and_the_reason(shell, tmp_path):
    path = dbn_file(tmp_path / "odd.dbn")
    data = bytearray(path.read_bytes())
    data[-96 + 8 : -96 + 16] = b"\xff" * 8  # the second trade's ts_event: undefined
    path.write_bytes(data)

    done = shell("backfill", "dbn:odd.dbn", "--json")

    assert done.returncode == 0
    (capture,) = json.loads(done.stdout)["captures"]
    assert (capture["unreadable"], capture["rows"]) == (1, {"futures.trades": 2})
    (kept,) = (tmp_path / "data/lake/quarantine").rglob("*.bin")
    assert kept.read_bytes() == bytes(data[-96:-48])
    assert json.loads(kept.with_suffix(".json").read_text())["messages"][0]["byte"] == len(data) - 96
    path.write_bytes(bytes(data[:-8]) + b"\1" * 8)  # another file with the same message
    assert "2 futures.trades; complete, but for 1 unreadable records." in shell("backfill", "dbn:odd.dbn").stdout


def test_a_paced_file_takes_its_time(shell, tmp_path):
    path = dbn_file(tmp_path / "slow.dbn", records=2)
    data = bytearray(path.read_bytes())
    for field in (8, 32):  # ts_event and ts_recv of the second trade, two seconds later
        stamp = int.from_bytes(data[-48 + field : -48 + field + 8], "little") + 2_000_000_000
        data[-48 + field : -48 + field + 8] = stamp.to_bytes(8, "little")
    path.write_bytes(data)

    seconds = [
        json.loads(shell("run", "--source", "dbn:slow.dbn", "--speed", speed, "--data-root", speed, "--json").stdout)[
            "seconds"
        ]
        for speed in ("1", "0")
    ]

    assert seconds[0] >= 2 > seconds[1]


def test_the_simulated_market_is_a_feed_that_keeps_its_name():
    assert opened(SimFeed.parse("seed=5"))[0].info.origin.startswith("sim:seed=5")


def test_sql_answers_with_valid_json(shell):
    done = shell("sql", "select 'nan'::double as a, ['inf'::double, 1] as b, {'c': '-inf'::double} as d", "--json")

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(done.stdout, parse_constant=refuse)["rows"] == [[None, [None, 1], {"c": None}]]


def test_a_catalog_that_does_not_read_stops_nothing(shell, tmp_path):
    assert shell("run", "--duration", "0.5").returncode == 0
    catalog = tmp_path / "data/lake/catalog.db"
    for command, code in ((["verify"], 1), (["status"], 0), (["catalog", "rebuild"], 0), (["recover"], 0)):
        catalog.write_bytes(b"garbage" * 1000)
        done = shell(*command)
        assert done.returncode == code, (command, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    assert shell("verify").returncode == 0


def test_recover_and_verify_keep_their_exit_codes_when_a_file_cannot_be_read(shell, tmp_path):
    (tmp_path / "wal/futures_trades_ES.001.arrow").mkdir(parents=True)

    refusal(shell("verify"), 2)
    (tmp_path / "file").write_text("not a folder")
    assert "WAL_ROOT" in refusal(shell("recover", "--wal-root", "file/below"), 4)

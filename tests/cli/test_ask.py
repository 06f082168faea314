"""`spymaster sql`: an answer people can read, and files of all rows in little memory."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.ipc
import pytest

from spymaster.cli import ask
from spymaster.events import FUTURES_TRADES
from spymaster.query.lake import connect
from spymaster.query.one_table import MAX_TRIES, OneTable
from tests.command_line import clean_environment, spymaster
from tests.compaction.silver_oracle import flush
from tests.rows import NOON_NS, TRADES, numbered

ROWS = 2_500
ALL = "from futures_trades order by capture_seq"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    flush(tmp_path, TRADES, numbered(TRADES, ROWS))
    return tmp_path


@pytest.fixture
def sql(folder):
    """Ask the lake; returns what came of it."""

    def run(*arguments, **environment):
        roots = {"DATA_ROOT": str(folder / "lake"), "WAL_ROOT": str(folder / "wal")}
        return spymaster("sql", *arguments, environment=clean_environment(**roots, **environment), folder=folder)

    return run


@pytest.fixture
def stored(folder):
    """What another reader finds in Bronze."""
    parts = f"read_parquet('{folder}/lake/bronze/futures/trades/**/*.parquet')"
    return duckdb.sql(f"select capture_seq, price, contract from {parts} order by 1").fetchall()


def test_an_answer_wider_than_the_screen_shows_every_columns_name_and_value(sql):
    done = sql("from futures_trades limit 3", COLUMNS="80")

    lines = done.stdout.splitlines()
    for name in [*FUTURES_TRADES.bronze.names, "session_date", "is_rth"]:
        assert len([line for line in lines if line.startswith(f"{name}:")]) == 3, name
    assert "symbol: ES" in lines
    assert sql("select 1 as a, 2 as b", COLUMNS="80").stdout.splitlines()[-1].split() == ["1", "|", "2"]


def test_what_is_shown_to_people_is_all_that_is_fetched(sql):
    """The rest of these rows would take hours, and more memory than there is."""
    done = sql("select range as n from range(1_000_000_000_000)", "--format", "table")

    assert [int(line) for line in done.stdout.splitlines()[2:]] == list(range(ask.MAX_SHOWN_ROWS))
    assert done.stderr == "the first 1,000 rows; all with --format json, csv, parquet or arrow\n"
    assert sql("from range(1000)", "--format", "table").stderr == ""


READERS = {
    "csv": lambda raw: [
        (int(row["capture_seq"]), float(row["price"]), row["contract"])
        for row in csv.DictReader(io.StringIO(raw.decode()))
    ],
    "json": lambda raw: [
        tuple(dict(zip(document["columns"], row, strict=True))[name] for name in ("capture_seq", "price", "contract"))
        for document in [json.loads(raw)]
        for row in document["rows"]
    ],
    "parquet": lambda raw: (
        duckdb.from_arrow(pa.parquet.read_table(pa.BufferReader(raw)))
        .project("capture_seq, price, contract")
        .fetchall()
    ),
    "arrow": lambda raw: (
        duckdb.from_arrow(pa.ipc.open_file(raw).read_all()).project("capture_seq, price, contract").fetchall()
    ),
}


@pytest.mark.parametrize("form", READERS)
def test_a_file_has_all_rows_as_any_reader_reads_them(sql, folder, stored, form):
    done = sql(ALL, "--format", form, "--out", "answer")

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"answer: {ROWS:,} rows, " in done.stderr
    assert READERS[form]((folder / "answer").read_bytes()) == stored
    assert not list(folder.glob(".answer*"))


@pytest.mark.parametrize("form", ["csv", "json"])
def test_without_a_file_all_rows_go_to_stdout(sql, stored, form):
    done = sql(ALL, "--format", form)

    assert done.stderr == ""
    assert READERS[form](done.stdout.encode()) == stored


def test_arrow_on_stdout_is_a_stream(folder, stored):
    done = subprocess.run(
        [sys.executable, "-m", "spymaster", "sql", ALL, "--format", "arrow", "--data-root", str(folder / "lake")],
        env=clean_environment(PYTHONPATH=str(REPOSITORY)), cwd=folder, capture_output=True, timeout=120,
    )  # fmt: skip

    assert pa.ipc.open_stream(done.stdout).read_all()["capture_seq"].to_pylist() == [row[0] for row in stored]


def test_json_is_one_document_of_columns_and_rows(sql):
    query = (
        "select sum(size) as s, 'nan'::double as x, ['inf'::double] as l, map {'k': 1} as m, date '2025-12-22' as d, "
        "timestamptz '2025-12-22 12:00:00-05' as t, interval 90 minute as i, null as n, '\\xff'::blob as o "
        "from range(2), (select 3 as size)"
    )

    for way in (["--json"], ["--format", "json"]):
        assert sql(query, *way).document == {
            "columns": ["s", "x", "l", "m", "d", "t", "i", "n", "o"],
            "rows": [[6, None, [None], {"k": 1}, "2025-12-22", "2025-12-22 17:00:00+00:00", "01:30:00", None, "ff"]],
        }
    assert sql("select 1 as a where false", "--json").document == {"columns": ["a"], "rows": []}


def test_values_that_csv_cannot_hold_come_as_text(sql):
    query = "select [1, 2] as l, {'a': 'x,y'} as s, '101'::bit as b, '\\x00'::blob as o, interval 1 month as i"

    assert list(csv.reader(io.StringIO(sql(query, "--format", "csv").stdout))) == [
        ["l", "s", "b", "o", "i"],
        ["[1, 2]", "{'a': 'x,y'}", "101", "00", "1 month"],
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--format", "csv", "--out", "there.csv"], "there.csv exists"),
        (["--format", "csv", "--out", "lake/bronze/x.csv"], "would lie in"),
        (["--format", "csv", "--out", "elsewhere/../wal/x.csv"], "would lie in"),
        (["--format", "csv", "--out", "linked/x.csv"], "would lie in"),
        (["--format", "csv", "--out", "nowhere/x.csv"], "is not a folder"),
        (["--format", "table", "--out", "x.txt"], "needs a format"),
        (["--out", "x.csv"], "needs a format"),
        (["--format", "parquet"], "cannot go to stdout"),
        (["--json", "--format", "csv"], "exclude each other"),
    ],
)
def test_an_answer_that_cannot_be_given_so_is_refused_in_one_line(sql, folder, arguments, line):
    (folder / "there.csv").write_text("mine")
    (folder / "linked").symlink_to(folder / "lake")
    before = {path for path in folder.rglob("*") if path.is_file()}

    done = sql("select 1", *arguments)

    assert done.returncode == 2
    said = done.document["error"] if "--json" in arguments else done.stderr
    assert line in said
    assert "Next: " in said
    assert len(said.splitlines()) == 1
    assert {path for path in folder.rglob("*") if path.is_file()} == before
    assert (folder / "there.csv").read_text() == "mine"


@pytest.fixture
def replaced(monkeypatch):
    """Let so many snapshots be of files that a compaction replaced; counts those that were judged."""

    def first(times):
        judged = []
        monkeypatch.setattr(OneTable, "still_valid", lambda *_: judged.append(1) or len(judged) > times)
        return judged

    return first


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--format", "csv"], ["--format", "csv", "--out", "t.csv"]])
def test_an_answer_whose_files_were_replaced_is_asked_again_and_given_once(sql, folder, replaced, arguments):
    expected = sql("select count(*) as n from futures_trades", *arguments).stdout
    (folder / "t.csv").unlink(missing_ok=True)
    judged = replaced(MAX_TRIES - 1)

    done = sql("select count(*) as n from futures_trades", *arguments)

    assert (done.returncode, done.stdout) == (0, expected)
    assert len(judged) == MAX_TRIES
    assert str(ROWS) in ((folder / "t.csv").read_text() if "--out" in arguments else done.stdout)


def test_a_file_whose_rows_are_not_to_be_kept_does_not_appear(sql, folder, replaced):
    replaced(MAX_TRIES)

    done = sql(ALL, "--format", "csv", "--out", "t.csv")

    assert done.returncode == 2
    assert "were replaced by a compaction" in done.stderr
    assert not list(folder.glob("*t.csv*"))


def test_a_long_answer_on_stdout_is_not_given_twice(sql, replaced, monkeypatch):
    monkeypatch.setattr(ask, "HELD_BYTES", 1_000)
    judged = replaced(1)

    done = sql(ALL, "--format", "csv")

    assert done.returncode == 2
    assert "is not to be kept" in done.stderr
    assert len(done.stdout.splitlines()) == ROWS + 1
    assert len(judged) == 1


def test_an_empty_view_says_which_command_fills_it(sql):
    assert "Next: spymaster run" in sql("from stocks_trades").stderr
    assert sql("from silver_futures_trades", "--json").document["rows"] == []
    assert "Next: spymaster compact --all" in sql("from silver_futures_trades", "--json").stderr
    assert sql("from futures_trades where price < 0").stderr == ""


def peak_bytes(folder, query):
    """Return the most memory that a process had which wrote the answer as CSV."""
    (folder / "t.csv").unlink(missing_ok=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "spymaster", "sql", query, "--data-root", str(folder / "lake"),
         "--format", "csv", "--out", "t.csv"],
        env=clean_environment(PYTHONPATH=str(REPOSITORY)), cwd=folder, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_a_file_of_a_million_rows_takes_little_more_memory_than_one_of_a_row(tmp_path):
    """As Python's objects they would take a gigabyte, as a table 140 MB."""
    for number in range(5):
        flush(tmp_path, TRADES, numbered(TRADES, 200_000, number * 200_000), created_ns=NOON_NS + number)

    one = peak_bytes(tmp_path, "from futures_trades limit 1")
    every = peak_bytes(tmp_path, "from futures_trades")

    with (tmp_path / "t.csv").open() as file:
        assert sum(1 for _ in file) == 1_000_001
    assert every - one < 100_000_000


@pytest.mark.parametrize("more", [[], ["--format", "csv", "--out", "x.csv"]])
def test_ctrl_c_ends_a_query_whatever_duckdb_is_at(tmp_path, more):
    """To its end this one takes minutes."""
    query = "select sum(a.i * b.i) from range(100_000) a(i), range(300_000) b(i)"
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun_s = time.monotonic()

    done = spymaster("sql", query, *more, folder=tmp_path)

    assert done.returncode == 130
    assert time.monotonic() - begun_s < 8
    assert not list(tmp_path.rglob("*x.csv*"))


def test_a_signal_that_duckdb_saw_itself_is_ctrl_c_too(folder):
    """It asks Python for signals now and then, and makes a RuntimeError of the KeyboardInterrupt."""

    def look_for_signals():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("Query interrupted") from None

    with connect(folder / "lake", folder / "wal") as lake:
        for _ in range(20):
            with pytest.raises(KeyboardInterrupt), ask._interruptible(lake):
                look_for_signals()

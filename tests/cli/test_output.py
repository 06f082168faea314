"""How rows are shown: what a screen of so many columns makes of them."""

import json

import pytest

from spymaster.cli import options, output
from spymaster.cli.output import Count, Format
from spymaster.errors import UsageError

STAMP = 1_766_415_600_123_456_789
READABLE = "2025-12-22T15:00:00.123456789Z"


@pytest.fixture
def shown(capsys, monkeypatch):
    """Show rows on a screen of so many columns; returns the lines."""

    def show(names, rows, form=None, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        output.show_rows(names, rows, form)
        return capsys.readouterr().out.splitlines()

    return show


def test_a_table_that_fits_the_screen_has_its_numbers_at_the_right(shown):
    assert shown(["name", "rows", "share"], [["ES", Count(1_234_567), 0.5], ["options.trades", Count(3), None]]) == [
        "name           |      rows | share",
        "---------------+-----------+------",
        "ES             | 1,234,567 |   0.5",
        "options.trades |         3 |",
    ]


def test_rows_wider_than_the_screen_are_shown_record_by_record_and_whole(shown):
    names, rows = ["one", "two"], [["a" * 40, None], ["b", 7]]
    width = len(shown(names, rows, Format.TABLE)[0])

    assert len(shown(names, rows, columns=width)) == 4
    assert shown(names, rows, columns=width - 1) == [
        "-[ 1 ]---", "one: " + "a" * 40, "two:", "-[ 2 ]---", "one: b", "two: 7",
    ]  # fmt: skip


def test_what_is_asked_for_is_shown_on_any_screen(shown):
    assert shown(["a"], [["x" * 50]], Format.TABLE, columns=10) == ["a", "-" * 50, "x" * 50]
    assert shown(["a"], [[1]], Format.RECORD, columns=200) == ["-[ 1 ]---", "a: 1"]
    assert json.loads(shown(["a"], [[STAMP], [float("nan")]], Format.JSON)[0]) == {
        "columns": ["a"], "rows": [[STAMP], [None]],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ts_event_ns", "start_ns", "max(ts_event_ns)"])
def test_a_time_is_readable_beside_its_number(shown, name):
    assert shown([name], [[STAMP]], Format.RECORD)[1] == f"{name}: {STAMP}  {READABLE}"
    assert shown([name], [[STAMP]])[2] == f"{STAMP}  {READABLE}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ts_in_delta_ns", 31_000), ("volume", STAMP), ("sum(ts_event_ns)", 1 << 63), ("start_ns", "never")],
)
def test_what_is_no_time_is_the_number_alone(shown, name, value):
    assert shown([name], [[value]], Format.RECORD)[1] == f"{name}: {value}"


def test_neither_markup_nor_a_terminal_is_obeyed(shown):
    text, seen = "[red]\x1b[2J\r\x9b1m[/] 価格", "[red]\\x1b[2J\\r\\x9b1m[/] 価格"

    assert shown(["[bold]a", "b"], [[text, "|"]]) == [
        f"[bold]a{' ' * 21} | b", "-" * 28 + "-+--", f"{seen} | |",
    ]  # fmt: skip
    assert shown(["[bold]a\n"], [[text]], Format.RECORD)[1] == f"[bold]a\\n: {seen}"


def test_a_value_of_several_lines_keeps_them(shown):
    assert shown(["key", "plan"], [["p", "one\ntwo"]]) == ["key | plan", "----+-----", "p   | one", "    | two"]
    assert shown(["plan"], [["one\ntwo"]], Format.RECORD) == ["-[ 1 ]---", "plan:", "one", "two"]


def test_no_rows_still_name_their_columns_and_no_answer_says_nothing(shown):
    assert shown(["a", "b"], []) == ["a | b", "--+--", "(no rows)"]
    assert shown(["a" * 90], []) == ["(no rows)"]
    assert shown([], []) == []


def test_two_formats_at_once_are_refused():
    assert options.chosen(None, as_json=True) is options.chosen(Format.JSON, as_json=True) is Format.JSON
    assert options.chosen(Format.TABLE, as_json=False) is Format.TABLE
    with pytest.raises(UsageError, match="--json and --format record exclude each other"):
        options.chosen(Format.RECORD, as_json=True)

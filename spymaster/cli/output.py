"""How a command answers: rows or one JSON document on stdout, progress and errors on stderr, and its exit code."""

import json
import math
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import duckdb
import pyarrow as pa
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from spymaster.errors import SpymasterError

OK: Final = 0
FINDINGS: Final = 1  # also: a source that could not be read to its end
COULD_NOT_RUN: Final = 2
DAMAGE: Final = 3  # acknowledged rows were newly found damaged
CANNOT_PROCEED: Final = 4
INTERRUPTED: Final = 130

PIPED_WIDTH: Final = 200  # columns of a table that no terminal limits

out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)

# What a user can act on, or at least can do no more about than read one line.
FAILURES: Final = (SpymasterError, OSError, sqlite3.Error, duckdb.Error, pa.ArrowException, UnicodeDecodeError)


@contextmanager
def failing_with(code: int) -> Iterator[None]:
    """Give every failure of a command the one exit code that it documents."""
    try:
        yield
    except FAILURES as error:
        print_error(error_line(error))
        raise typer.Exit(code) from error


def error_line(error: Exception) -> str:
    if isinstance(error, SpymasterError):
        return str(error)
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return f"{place}{reason}. What is durable is safe. Next: mend that, then run the command again"


def print_error(line: str) -> None:
    one_line = " ".join(line.split())
    if "--json" in sys.argv:
        print(json.dumps({"error": one_line}))
    else:
        err.print(f"error: {one_line}", markup=False)


def warn(line: str) -> None:
    err.print(f"warning: {line}", markup=False)


def print_line(line: str) -> None:
    """Print a line of the journal on stderr, above what is drawn there."""
    if err.is_terminal:
        err.out(line, highlight=False)
    else:  # as a console whose reader has gone silences stdout and ends the thread
        print(line, file=sys.stderr, flush=True)


def print_json(document: object) -> None:
    print(json.dumps(_plain(document), default=str, allow_nan=False))


def _plain(value: object) -> object:
    """Return `value` as JSON can say it: what is no finite number is null, and every key is text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


@contextmanager
def progress(what: str, *, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a callback that draws a bar on a terminal and does nothing elsewhere."""
    if as_json or not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

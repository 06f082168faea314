"""How a command answers: rows or one JSON document on stdout, progress and errors on stderr, and its exit code.

A library that only some commands need is imported where they need it, here and in every file of this folder: to import
them all takes a second of processor time, and `--help` is to be there at once.
"""

import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from itertools import zip_longest
from typing import Final

from spymaster import clock
from spymaster.errors import SpymasterError

OK: Final = 0
FINDINGS: Final = 1  # also: a source that could not be read to its end
COULD_NOT_RUN: Final = 2
DAMAGE: Final = 3  # acknowledged rows were newly found damaged
CANNOT_PROCEED: Final = 4
INTERRUPTED: Final = 130

PIPED_WIDTH: Final = 200  # columns of a table that neither a terminal nor COLUMNS limits
NO_TIME_BEFORE_NS: Final = 10 * 365 * clock.NS_PER_DAY  # a smaller number of a column `..._ns` is a duration
MAX_NS: Final = (1 << 63) - 1

_NS_NAME: Final = re.compile(r"_ns\b")
_VISIBLE: Final = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, *range(128, 160)) if chr(code) != "\n"}

_FOREIGN_FAILURES: Final = (("sqlite3", "Error"), ("duckdb", "Error"), ("pyarrow", "ArrowException"))


def failures() -> tuple[type[Exception], ...]:
    """Return what a user can act on, or at least can do no more about than read one line.

    A library that was not imported cannot have raised, and is not imported to say so.
    """
    foreign = [getattr(sys.modules[module], name) for module, name in _FOREIGN_FAILURES if module in sys.modules]
    return (SpymasterError, OSError, UnicodeDecodeError, *foreign)


class CommandFailedError(Exception):
    """A command failed for its `__cause__`, one of `failures`, and documents this exit code for it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def failing_with(code: int) -> Iterator[None]:
    """Give every failure of a command the one exit code that it documents."""
    try:
        yield
    except failures() as error:
        raise CommandFailedError(code) from error


def error_line(error: BaseException) -> str:
    if isinstance(error, SpymasterError):
        return str(error)
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return f"{place}{reason}. What is durable is safe. Next: mend that, then run the command again"


def print_error(line: str, *, as_json: bool) -> None:
    one_line = " ".join(line.split())
    if as_json:
        print(json.dumps({"error": one_line}))
    else:
        remark(f"error: {one_line}")


def remark(line: str) -> None:
    """Print a line on stderr, beside the answer."""
    print(line, file=sys.stderr)


def warn(line: str) -> None:
    remark(f"warning: {line}")


def print_line(line: str) -> None:
    """Print a line of the journal on stderr; where a live table is drawn there, it shows the line above itself."""
    print(line, file=sys.stderr, flush=True)


def print_json(document: object) -> None:
    print(json_text(plain(document)))


def json_text(document: object) -> str:
    """Return a document that is `plain` as JSON."""
    return json.dumps(document, default=str, allow_nan=False)


class Format(StrEnum):
    """How rows are shown."""

    TABLE = "table"
    RECORD = "record"
    JSON = "json"


class Count(int):
    """A number that is counted: people read it in groups of three digits, JSON has it as it is."""

    def __str__(self) -> str:
        return f"{int(self):,}"


def show_rows(names: Sequence[str], rows: Sequence[Sequence[object]], form: Format | None = None) -> None:
    """Print rows on stdout: no column is cut, and no value is taken for markup or moves the terminal's cursor.

    A time, an integer of a column `..._ns`, is shown readable beside the number, but not in JSON.

    Args:
        names: of the columns; none where a statement has no answer, of which nothing is printed.
        rows: each with a value for each name, all held in memory.
        form: by default a table where it fits the screen, else record by record.
    """
    if form is Format.JSON:
        print_json({"columns": names, "rows": rows})
        return
    if not names:
        return
    from rich.cells import cell_len

    heads = [name.translate(_VISIBLE | {10: "\\n"}) for name in names]
    cells = [[_cell(name, value) for name, value in zip(names, row, strict=True)] for row in rows]
    lines = (
        list(_records(heads, cells)) if form is Format.RECORD else _table(heads, cells, list(zip(*rows, strict=True)))
    )
    if form is None and max(map(cell_len, lines)) > shutil.get_terminal_size((PIPED_WIDTH, 0)).columns:
        lines = list(_records(heads, cells))
    for line in lines:
        print(line)
    if not rows:
        print("(no rows)")


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if type(value) is int and _NS_NAME.search(name) and NO_TIME_BEFORE_NS <= value <= MAX_NS:
        return f"{value}  {clock.utc_text(value)}"
    return str(value).translate(_VISIBLE)


def _is_numeric(values: Sequence[object]) -> bool:
    return all(
        value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool)) for value in values
    )


def _table(heads: list[str], cells: list[list[str]], columns: list[tuple[object, ...]]) -> list[str]:
    """Return the lines of a table. A cell of several lines, such as a query plan, has several here too."""
    from rich.cells import cell_len

    rows = [[cell.split("\n") for cell in row] for row in [heads, *cells]]
    widths = [max(cell_len(line) for cell in column for line in cell) for column in zip(*rows, strict=True)]
    numeric = [_is_numeric(column) for column in columns] or [False] * len(heads)
    lines = []
    for row in rows:
        for parts in zip_longest(*row, fillvalue=""):
            spaces = [" " * (width - cell_len(part)) for part, width in zip(parts, widths, strict=True)]
            padded = [
                space + part if right else part + space
                for part, space, right in zip(parts, spaces, numeric, strict=True)
            ]
            lines.append(" | ".join(padded).rstrip())
    return [lines[0], "-+-".join("-" * width for width in widths), *lines[1:]]


def _records(heads: list[str], cells: list[list[str]]) -> Iterator[str]:
    for number, row in enumerate(cells, 1):
        yield f"-[ {number} ]---"
        for head, cell in zip(heads, row, strict=True):
            value = f"\n{cell}" if "\n" in cell else f" {cell}" if cell else ""
            yield f"{head}:{value}"


def plain(value: object) -> object:
    """Return `value` as JSON can say it: what is no finite number is null, and every key is text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


@contextmanager
def progress(what: str, *, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a callback that draws a bar on a terminal and does nothing elsewhere."""
    if as_json or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

"""`sql`: what is shown to people is held in memory, what is written for programs goes by in batches."""

import io
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from spymaster.cli.options import AsJson, DataRoot, WalRoot, load
from spymaster.cli.output import Format, json_text, plain, remark, show_rows, warn
from spymaster.errors import ReplacedError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from spymaster.query.lake import Lake
    from spymaster.settings import Settings

MAX_SHOWN_ROWS: Final = 1_000  # of an answer for people; the other formats give all
JSON_ROWS: Final = 4_096  # that are Python objects at once
HELD_BYTES: Final = 16_000_000  # of what goes to stdout: a shorter answer is printed once it is known to be right
INTERRUPT_S: Final = 0.1  # between interrupts; one that comes just before DuckDB begins is forgotten
_NESTED: Final = ("list", "array", "struct", "map", "union")

_Answer = TypeVar("_Answer")


class AnswerFormat(StrEnum):
    """How an answer is given."""

    TABLE = "table"
    RECORD = "record"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


# DuckDB types that a format has no values for: they come as their text.
_AS_TEXT: Final = {
    None: ("interval", "bit", "blob", "union", "time with time zone"),
    AnswerFormat.CSV: (*_NESTED, "interval", "bit", "blob", "time with time zone"),
    AnswerFormat.PARQUET: ("interval", "union", "time with time zone"),
    AnswerFormat.ARROW: (),
}


def sql_command(
    query: Annotated[str, typer.Argument(help="DuckDB SQL; tables: futures_trades, bronze_futures_trades, ...")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: Annotated[
        AnswerFormat | None,
        typer.Option("--format", help="Default: a table where it fits the screen, else record by record."),
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="A new file for all rows as json, csv, parquet or arrow.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask lake and log, also while a daemon records: futures_trades is the one table, each event once, newest included.

    Its tiers are bronze_futures_trades, as received, and silver_futures_trades, as compacted; so for every schema.
    A table or records have at most 1,000 rows; json, csv, parquet and arrow all of them, whatever memory there is.

    Example: spymaster sql "select contract, count(*) from futures_trades group by all"
    """
    form = _chosen(form, target, as_json=as_json)
    loaded = load(data_root, wal_root)
    if target is not None:
        _check_target(target, loaded)
    import duckdb

    from spymaster.query.lake import connect

    try:
        with connect(loaded.data_root, loaded.wal_root) as lake, _interruptible(lake):
            if form in {None, AnswerFormat.TABLE, AnswerFormat.RECORD}:
                _show(lake, query, None if form is None else Format(form))
            else:
                _write(lake, query, form, target)
            for view, to_compact in lake.empty_views(query):
                warn(_about_empty(view, loaded, to_compact=to_compact))
    except duckdb.Error as error:
        raise UsageError(
            f"the query failed: {error}. Nothing was changed. Next: spymaster sql 'show tables'"
        ) from error


@contextmanager
def _interruptible(lake: "Lake") -> Iterator[None]:
    """Let Ctrl-C end the query that runs. Python's own handler waits until DuckDB is done, which seldom looks for one.

    Raises:
        KeyboardInterrupt: Ctrl-C came.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    interrupted = threading.Event()

    def interrupt() -> None:
        while numbers := _received(ours):
            if signal.SIGINT in numbers or interrupted.is_set():
                interrupted.set()
                ours.settimeout(INTERRUPT_S)
                lake.connection.interrupt()

    def note(_number: int, _frame: FrameType | None) -> None:
        """Note it before DuckDB, which now and then looks for a signal, makes a RuntimeError of it."""
        interrupted.set()
        raise KeyboardInterrupt

    thread = threading.Thread(target=interrupt, name="interrupt", daemon=True)
    thread.start()
    handler = signal.signal(signal.SIGINT, note)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield
    except Exception as error:
        if interrupted.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGINT, handler)
        theirs.close()
        thread.join()
        ours.close()


def _received(end: socket.socket) -> bytes:
    """Return the numbers of signals; zero if none came for a while, nothing once the other end is closed."""
    try:
        return end.recv(64)
    except TimeoutError:
        return b"\0"


def _chosen(form: AnswerFormat | None, target: Path | None, *, as_json: bool) -> AnswerFormat | None:
    """Return the one format that is asked for."""
    if as_json and form not in {None, AnswerFormat.JSON}:
        raise UsageError(f"--json and --format {form} exclude each other. Nothing was done. Next: give one of them")
    form = AnswerFormat.JSON if as_json else form
    if target is not None and form in {None, AnswerFormat.TABLE, AnswerFormat.RECORD}:
        raise UsageError(f"{target} needs a format. Nothing was done. Next: add --format csv, parquet, arrow or json")
    if target is None and form is AnswerFormat.PARQUET:
        raise UsageError("parquet cannot go to stdout. Nothing was done. Next: add --out FILE")
    return form


def _check_target(target: Path, loaded: "Settings") -> None:
    """Refuse a file that exists, or would lie in the lake or its log."""
    place = target.resolve()
    for root in (loaded.data_root.resolve(), loaded.wal_root.resolve()):
        if place.is_relative_to(root):
            raise UsageError(f"{target} would lie in {root}, where only spymaster's own files do. Nothing was written. "
                             f"Next: name a file elsewhere")  # fmt: skip
    if place.exists():
        raise UsageError(f"{target} exists. It is as it was. Next: remove it, or name another file")
    if not place.parent.is_dir():
        raise UsageError(f"{target.parent} is not a folder. Nothing was written. Next: make it, or name another file")


def _about_empty(view: str, loaded: "Settings", *, to_compact: bool) -> str:
    if to_compact:
        return f"{view} is empty, as nothing of it is compacted. Next: spymaster compact --all"
    return (
        f"{view} is empty: {loaded.data_root} and {loaded.wal_root} have nothing of it. Next: spymaster run, or "
        f"backfill; spymaster config show says where it is looked for"
    )


def _show(lake: "Lake", query: str, form: Format | None) -> None:
    """Print the first rows for people."""

    def fetch() -> tuple[list[str], list[tuple[Any, ...]]]:
        rows: list[tuple[Any, ...]] = []
        with lake.stream(query, as_text=_AS_TEXT[None]) as batches:
            for batch in batches:
                rows += _values(batch.slice(0, MAX_SHOWN_ROWS + 1 - len(rows)))
                if len(rows) > MAX_SHOWN_ROWS:
                    break
            return batches.schema.names, rows

    names, rows = _again_if_replaced(fetch)
    show_rows(names, rows[:MAX_SHOWN_ROWS], form)
    if len(rows) > MAX_SHOWN_ROWS:
        remark(f"the first {MAX_SHOWN_ROWS:,} rows; all with --format json, csv, parquet or arrow")


def _write(lake: "Lake", query: str, form: AnswerFormat, target: Path | None) -> None:
    """Write all rows to a new file, which appears whole or not at all, or to stdout."""
    from spymaster import durable

    write, as_text = _WRITERS[form], _AS_TEXT.get(form, _AS_TEXT[None])
    held = _Stdout()

    def to_file(file: Path) -> int:
        # The stream ends, and says whether its rows are right, before the draft gets its name.
        with durable.publishing(file) as draft, draft.open("xb") as sink, lake.stream(query, as_text=as_text) as rows:
            return write(rows, sink)

    def to_stdout() -> int:
        held.begin()
        with lake.stream(query, as_text=as_text) as rows:
            return write(rows, held)

    if target is None:
        _again_if_replaced(to_stdout, lambda: not held.released)
        held.release()
    else:
        count = _again_if_replaced(lambda: to_file(target))
        remark(f"{target}: {count:,} rows, {target.stat().st_size:,} bytes")


def _again_if_replaced(ask: Callable[[], _Answer], may: Callable[[], bool] = lambda: True) -> _Answer:
    from spymaster.query.one_table import MAX_TRIES

    for _ in range(MAX_TRIES - 1):
        try:
            return ask()
        except ReplacedError:
            if not may():
                raise
    return ask()


class _Stdout(io.RawIOBase):
    """Stdout that keeps what is written until it is released, or is more than `HELD_BYTES`."""

    def __init__(self) -> None:
        super().__init__()
        self.released = False
        self._held = bytearray()

    def begin(self) -> None:
        """Forget what was written; nobody saw it."""
        self._held.clear()

    def release(self) -> None:
        sys.stdout.buffer.write(self._held)
        sys.stdout.buffer.flush()
        self._held.clear()
        self.released = True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.released:
            sys.stdout.buffer.write(data)
        else:
            self._held += data
            if len(self._held) > HELD_BYTES:
                self.release()
        return len(data)


def _write_json(rows: "pa.RecordBatchReader", sink: Any) -> int:
    sink.write(f'{{"columns": {json_text(rows.schema.names)}, "rows": ['.encode())
    count = 0
    for batch in rows:
        for start in range(0, batch.num_rows, JSON_ROWS):
            piece = batch.slice(start, JSON_ROWS)
            sink.write(((", " if count else "") + json_text(list(_values(piece, plainly=True)))[1:-1]).encode())
            count += piece.num_rows
    sink.write(b"]}\n")
    return count


def _write_csv(rows: "pa.RecordBatchReader", sink: Any) -> int:
    import pyarrow.csv

    return _write_batches(rows, lambda: pyarrow.csv.CSVWriter(sink, rows.schema))


def _write_parquet(rows: "pa.RecordBatchReader", sink: Any) -> int:
    import pyarrow.parquet

    return _write_batches(rows, lambda: pyarrow.parquet.ParquetWriter(sink, rows.schema, compression="zstd"))


def _write_arrow(rows: "pa.RecordBatchReader", sink: Any) -> int:
    """Write an Arrow file where it can be sought in, else a stream."""
    import pyarrow as pa

    new = pa.ipc.new_file if sink.seekable() else pa.ipc.new_stream
    return _write_batches(rows, lambda: new(sink, rows.schema))


def _write_batches(rows: "pa.RecordBatchReader", open_writer: Callable[[], Any]) -> int:
    count = 0
    with open_writer() as writer:
        for batch in rows:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


_WRITERS: Final[dict[AnswerFormat, Callable[["pa.RecordBatchReader", Any], int]]] = {
    AnswerFormat.JSON: _write_json,
    AnswerFormat.CSV: _write_csv,
    AnswerFormat.PARQUET: _write_parquet,
    AnswerFormat.ARROW: _write_arrow,
}


def _values(batch: "pa.RecordBatch", *, plainly: bool = False) -> Iterator[tuple[Any, ...]]:
    """Return a batch's rows as Python has them, and where it is asked for as JSON can say them.

    A sum of integers is an integer, though Arrow has none so wide.
    """
    import pyarrow as pa

    columns = []
    for column in batch.columns:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
        if column.type == pa.decimal128(38, 0):
            values = [None if value is None else int(value) for value in values]
        elif plainly and (pa.types.is_nested(column.type) or pa.types.is_floating(column.type)):
            values = [plain(value) for value in values]
        columns.append(values)
    return zip(*columns, strict=True)

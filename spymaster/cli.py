"""The command line: parse, call one function, print. Answers go to stdout, progress and errors to stderr."""

import asyncio
import json
import math
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import duckdb
import pyarrow as pa
import typer
import typer.exceptions
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from spymaster import clock, screen, settings
from spymaster.daemon import Daemon
from spymaster.errors import SpymasterError, StorageError, UsageError
from spymaster.lake import catalog, views
from spymaster.lake.recorder import random_capture_id
from spymaster.lake.recovery import Recovered, recover, writer_locks
from spymaster.lake.status import Status, segments, status
from spymaster.lake.verify import verify
from spymaster.settings import Settings

OK: Final = 0
FINDINGS: Final = 1  # also: a source that could not be read to its end
COULD_NOT_RUN: Final = 2
DAMAGE: Final = 3  # acknowledged rows were newly found damaged
CANNOT_PROCEED: Final = 4
INTERRUPTED: Final = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Records market data and proves it.",
)
wal_app = typer.Typer(no_args_is_help=True, help="Look into the write-ahead log.")
catalog_app = typer.Typer(no_args_is_help=True, help="The lake's index.")
config_app = typer.Typer(no_args_is_help=True, help="Settings.")
app.add_typer(wal_app, name="wal")
app.add_typer(catalog_app, name="catalog")
app.add_typer(config_app, name="config")

PIPED_WIDTH: Final = 200  # columns of a table that no terminal limits
MAX_SHOWN_ROWS: Final = 1_000  # of an answer for people; --json gives all
_WRITING_STATEMENTS: Final = {duckdb.StatementType.COPY, duckdb.StatementType.EXPORT}

out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
DataRoot = Annotated[Path | None, typer.Option(help="The lake; default: setting DATA_ROOT.")]
WalRoot = Annotated[Path | None, typer.Option(help="The log; default: setting WAL_ROOT.")]


# What a user can act on, or at least can do no more about than read one line.
_FAILURES: Final = (SpymasterError, OSError, sqlite3.Error, duckdb.Error, pa.ArrowException, UnicodeDecodeError)


def main() -> None:
    """Run the command line; an error a user can act on is one line and a non-zero exit."""
    try:
        code = app(standalone_mode=False)
    except typer.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except typer.exceptions.TyperException as error:
        _fail(f"{str(error).rstrip('.')}. Nothing was started. Next: spymaster --help")
        sys.exit(COULD_NOT_RUN)
    except _FAILURES as error:
        _fail(_line(error))
        refused = isinstance(error, SpymasterError) and not isinstance(error, StorageError)
        sys.exit(COULD_NOT_RUN if refused else CANNOT_PROCEED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else OK)


@contextmanager
def _failing_with(code: int) -> Iterator[None]:
    """Give every failure of a command the one exit code that it documents."""
    try:
        yield
    except _FAILURES as error:
        _fail(_line(error))
        raise typer.Exit(code) from error


def _line(error: Exception) -> str:
    if isinstance(error, SpymasterError):
        return str(error)
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return f"{place}{reason}. What is durable is safe. Next: mend that, then run the command again"


def _fail(line: str) -> None:
    one_line = " ".join(line.split())
    if "--json" in sys.argv:
        print(json.dumps({"error": one_line}))
    else:
        err.print(f"error: {one_line}", markup=False)


def _print_json(document: object) -> None:
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


@app.command()
def run(
    source: Annotated[
        list[str] | None,
        typer.Option(help="sim[:seed=1,rate=2000] or dbn:PATH; may be repeated. Default: sim."),
    ] = None,
    speed: Annotated[float, typer.Option(min=0, help="Event time per wall time; 0 is as fast as it goes.")] = 1.0,
    duration: Annotated[float | None, typer.Option(min=0, help="Drain and end after so many seconds.")] = None,
    strict: Annotated[bool, typer.Option(help="Refuse to start over newly found damage.")] = False,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Record until the sources end or Ctrl-C; recover first what a crash left.

    Example: spymaster run --source dbn:data/raw/dbn --speed 0
    """
    for name, number in (("--speed", speed), ("--duration", duration)):
        if number is not None and not math.isfinite(number):
            raise UsageError(f"{name} {number} is no number of seconds or times. Nothing was started. Next: give one")
    loaded = _load(data_root, wal_root)
    return _record(loaded, source or ["sim"], speed, duration, strict=strict, as_json=as_json)


@app.command()
def backfill(
    source: Annotated[str, typer.Argument(help="dbn:PATH: a file, a folder or a pattern.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Record files as fast as they go; what is captured already is left alone.

    Example: spymaster backfill dbn:data/raw/dbn/trades
    """
    if not source.startswith("dbn:"):
        raise UsageError(f"{source!r} is no file source. Nothing was read. Next: spymaster backfill dbn:PATH")
    return _record(_load(data_root, wal_root), [source], 0, None, strict=False, as_json=as_json)


def _record(
    loaded: Settings, sources: list[str], speed: float, duration: float | None, *, strict: bool, as_json: bool
) -> int:
    started = clock.monotonic_s()

    async def record() -> Daemon:
        daemon = Daemon(loaded, sources, speed, strict=strict)
        _drain_on_signals(daemon)
        live = asyncio.create_task(screen.show_live(daemon, err)) if err.is_terminal and not as_json else None
        try:
            await daemon.run(duration)
        finally:
            if live is not None:
                live.cancel()
                await asyncio.gather(live, return_exceptions=True)
        return daemon

    daemon = asyncio.run(record())
    summary = screen.summarize(daemon, clock.monotonic_s() - started)
    if as_json:
        _print_json(summary)
    else:
        _print_recovery(daemon.recorder.recovered)
        screen.print_summary(summary, out)
    if any(capture["error"] for capture in summary["captures"]):
        return FINDINGS
    if daemon.recorder.recovered is not None and daemon.recorder.recovered.exit_code:
        return daemon.recorder.recovered.exit_code
    return FINDINGS if summary["problems"] else OK


def _drain_on_signals(daemon: Daemon) -> None:
    """Drain on the first SIGTERM or Ctrl-C; the second ends the process at once, and recovery drains the rest."""
    loop = asyncio.get_running_loop()

    def first(received: signal.Signals) -> None:
        daemon.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first, number)


def _load(data_root: Path | None, wal_root: Path | None) -> Settings:
    loaded = settings.load(data_root=data_root, wal_root=wal_root)
    for warning in loaded.warnings:
        err.print(f"warning: {warning}", markup=False)
    return loaded


@app.command("recover")
@_failing_with(CANNOT_PROCEED)
def recover_command(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> int:
    """Drain what a crash left into Bronze. Exit 0 clean or torn tails only, 3 damage newly found, 4 cannot proceed.

    Example: spymaster recover
    """
    loaded = _load(data_root, wal_root)
    with writer_locks(loaded.wal_root, loaded.data_root), _progress("segments", as_json=as_json) as advance:
        index = catalog.Catalog(loaded.data_root)
        try:
            report = recover(loaded.wal_root, index, loaded.data_root / "bronze", random_capture_id(), advance)
        finally:
            index.close()
    if as_json:
        _print_json(_recovery_document(report))
    else:
        _print_recovery(report)
        out.print(f"{report.rows:,} rows brought to Bronze in {len(report.parts):,} parts.")
    return report.exit_code


def _recovery_document(report: Recovered) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "parts": [part.relative for part in report.parts],
        "rows_found_in_log": report.salvage.rows,
        "torn_bytes": report.salvage.torn_bytes,
        "missing": [hole.describe() for hole in report.salvage.holes],
        "notes": report.salvage.notes,
        "exit_code": report.exit_code,
    }


def _print_recovery(report: Recovered | None) -> None:
    if report is not None:
        for line in [*report.salvage.notes, *(hole.describe() for hole in report.salvage.holes)]:
            err.print(f"recovery: {line}", markup=False)


@app.command("verify")
@_failing_with(COULD_NOT_RUN)
def verify_command(
    date: Annotated[str | None, typer.Option(help="Only captures that touch this UTC date, YYYY-MM-DD.")] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Prove that what was recorded is all there. Exit 0 proven, 1 findings, a line each, 2 could not run.

    Example: spymaster verify --date 2025-12-22
    """
    loaded = _load(data_root, wal_root)
    with _progress("parts", as_json=as_json) as advance:
        verdict = verify(loaded.wal_root, loaded.data_root, date, advance)
    whole = sum(proof.whole for proof in verdict.proofs)
    if as_json:
        _print_json(
            {
                "proven": not verdict.findings,
                "findings": verdict.findings,
                "notes": verdict.notes,
                "files": verdict.files,
                "rows": verdict.rows,
                "captures": [proof._asdict() for proof in verdict.proofs],
            }
        )
    else:
        for line in verdict.findings:
            out.print(f"finding: {line}", markup=False)
        for line in verdict.notes:
            err.print(f"note: {line}", markup=False)
        for proof in verdict.proofs:
            if not proof.whole:
                out.print(f"capture {proof.capture_id}, {proof.stream}: proven to row {proof.rows}", markup=False)
        out.print(
            f"{verdict.rows:,} rows in {verdict.files:,} parts read; {whole:,} streams of captures proven whole, "
            f"{len(verdict.proofs) - whole:,} proven to a row, {len(verdict.findings):,} findings."
        )
    return FINDINGS if verdict.findings else OK


@app.command("status")
def status_command(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> None:
    """Show bytes and rows per tier, and what is promised.

    Example: spymaster status --json
    """
    loaded = _load(data_root, wal_root)
    found = status(loaded.wal_root, loaded.data_root)
    if as_json:
        _print_json(found)
    else:
        _print_status(found)


def _print_status(found: Status) -> None:
    table = Table("tier", "files", "rows", "bytes")
    table.add_row("log", *(f"{found['wal'][key]:,}" for key in ("files", "rows", "bytes")))
    for name, tier in [*found["bronze"].items(), ("all Bronze", found["bronze_total"])]:
        table.add_row(name, f"{tier['files']:,}", f"{tier['rows']:,}", f"{tier['bytes']:,}")
    out.print(table)
    for cause, loss in found["promise"].items():
        out.print(f"{cause} {loss}")
    for alarm in found["alarms"]:
        err.print(f"ALARM: {alarm}", markup=False)


@app.command("sql")
def sql_command(
    query: Annotated[str, typer.Argument(help="DuckDB SQL; tables: futures_trades, bronze_futures_trades, ...")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> None:
    """Ask the lake.

    Example: spymaster sql "select contract, count(*) from futures_trades group by all"
    """
    loaded = _load(data_root, wal_root)
    try:
        connection = views.connect(loaded.data_root)
        if any(statement.type in _WRITING_STATEMENTS for statement in connection.extract_statements(query)):
            raise UsageError("sql only reads. Nothing was written. Next: spymaster sql --json QUERY > FILE")
        result = connection.execute(query)
        names = [column[0] for column in result.description or []]
        rows = result.fetchall()
    except duckdb.Error as error:
        raise UsageError(
            f"the query failed: {error}. Nothing was changed. Next: spymaster sql 'show tables'"
        ) from error
    if as_json:
        _print_json({"columns": names, "rows": rows})
        return
    table = Table(*names)
    for row in rows[:MAX_SHOWN_ROWS]:
        table.add_row(*("" if value is None else str(value) for value in row))
    out.print(table)
    if len(rows) > MAX_SHOWN_ROWS:
        err.print(f"the first {MAX_SHOWN_ROWS:,} of {len(rows):,} rows; all with --json")


@wal_app.command("ls")
def wal_ls(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> None:
    """List the segments of the log, each with its rows, its watermark and whether it is sound.

    Example: spymaster wal ls
    """
    rows = segments(_load(data_root, wal_root).wal_root)
    if as_json:
        _print_json(rows)
        return
    table = Table("file", "stream", "state", "rows", "durable", "bytes", "problem")
    for row in rows:
        table.add_row(
            row["file"], row["stream"] or "", row["state"], f"{row['rows']:,}", f"{row['durable_rows']:,}",
            f"{row['bytes']:,}", row["problem"] or "",
        )  # fmt: skip
    out.print(table)


@catalog_app.command("rebuild")
def catalog_rebuild(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> None:
    """Make the index again from the files alone.

    Example: spymaster catalog rebuild
    """
    loaded = _load(data_root, wal_root)
    with writer_locks(loaded.wal_root, loaded.data_root):
        catalog.rebuild(loaded.data_root)
    count = len(catalog.read_files(loaded.data_root))
    if as_json:
        _print_json({"files": count})
    else:
        out.print(f"{count:,} parts are in the catalog.")


@config_app.command("show")
def config_show(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> None:
    """Show every setting, its value and what it means; of a secret only whether it is set.

    Example: spymaster config show
    """
    loaded = _load(data_root, wal_root)
    shown: dict[str, dict[str, Any]] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(loaded, name)
        if isinstance(value, SecretStr):
            value = "set"
        elif value is None:
            value = "not set"
        shown[name.upper()] = {"value": str(value) if isinstance(value, Path) else value, "meaning": field.description}
    if as_json:
        _print_json(shown)
        return
    table = Table("setting", "value", "meaning")
    for name, entry in shown.items():
        table.add_row(name, str(entry["value"]), entry["meaning"])
    out.print(table)


@contextmanager
def _progress(what: str, *, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a callback that draws a bar on a terminal and does nothing elsewhere."""
    if as_json or not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

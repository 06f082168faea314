"""The command line: parse, call one function, print. Answers go to stdout, progress and errors to stderr."""

import asyncio
import json
import math
import secrets
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date as calendar_date
from pathlib import Path
from typing import Annotated, Any, Final

import duckdb
import pyarrow as pa
import typer
import typer.exceptions
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from spymaster import clock, screen, settings
from spymaster.compaction import compactor
from spymaster.compaction.archiver import archive_before
from spymaster.daemon import Daemon
from spymaster.errors import SpymasterError, StorageError, UsageError
from spymaster.events import MARKET_SCHEMAS, OPTIONS_TRADES, schema_named
from spymaster.events.captures import random_capture_id
from spymaster.lake import catalog
from spymaster.lake.locks import archive_locks, writer_locks
from spymaster.paths import check_date
from spymaster.proof import doctor
from spymaster.proof import kill_trials as torture
from spymaster.proof.verify import verify
from spymaster.query import lake as views
from spymaster.query.status import Status, segments, status
from spymaster.recording.recovery import Recovered, recover
from spymaster.settings import Settings
from spymaster.simulation import day as sim_day
from spymaster.simulation import plant as sim_plant
from spymaster.simulation import source as sim
from spymaster.wal import audit

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
_COLOURS: Final = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
_LOSSES: Final = ("lost", "doubled", "invented")
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
        typer.Option(
            help="sim[:seed=1,rate=2000,plant=all,truth=FILE], sim-es, dbn:PATH or flatfile:PATH; may be repeated. "
            "Default: sim."
        ),
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
    source: Annotated[str, typer.Argument(help="dbn:PATH or flatfile:PATH: a file, a folder or a pattern.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Record files as fast as they go; what is captured already is left alone.

    Example: spymaster backfill dbn:data/raw/dbn/trades
    """
    if not source.startswith(("dbn:", "flatfile:")):
        raise UsageError(
            f"{source!r} is no file source. Nothing was read. Next: spymaster backfill dbn:PATH, or flatfile:PATH"
        )
    return _record(_load(data_root, wal_root), [source], 0, None, strict=False, as_json=as_json)


def _record(
    loaded: Settings, sources: list[str], speed: float, duration: float | None, *, strict: bool, as_json: bool
) -> int:
    started = clock.monotonic_s()

    async def record() -> Daemon:
        daemon = Daemon(loaded, sources, speed, strict=strict, notify=_warn)
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
        _warn(warning)
    return loaded


def _warn(line: str) -> None:
    err.print(f"warning: {line}", markup=False)


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


@app.command("compact")
@_failing_with(CANNOT_PROCEED)
def compact_command(
    date: Annotated[str | None, typer.Option(help="This UTC date, YYYY-MM-DD.")] = None,
    schema: Annotated[str | None, typer.Option(help="Only this schema, e.g. futures.trades.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every date.")] = False,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> int:
    """Make Silver of Bronze: every event once, of what changed. Exit 0 done, 1 a partition was refused, 4 could not.

    Example: spymaster compact --date 2025-12-22
    """
    if (date is None) == (not every):
        raise UsageError("name one date, or all. Nothing was done. Next: spymaster compact --date YYYY-MM-DD, or --all")
    loaded = _load(data_root, None)
    schemas = [schema_named(schema)] if schema is not None else MARKET_SCHEMAS
    with compactor.lock(loaded.data_root), _progress("partitions", as_json=as_json) as advance:
        wanted = compactor.partitions(loaded.data_root, schemas, date, date)
        results = compactor.compact(
            loaded.data_root,
            wanted,
            progress=advance,
            tolerance_ns=round(loaded.greeks_tolerance_sec * clock.NS_PER_SECOND),
        )
    if as_json:
        _print_json({"partitions": [_compacted_document(result) for result in results]})
    else:
        _print_compacted(results)
    return FINDINGS if any(result.status == "refused" for result in results) else OK


def _compacted_document(result: compactor.Compacted) -> dict[str, Any]:
    where = result.partition
    return {
        "schema": where.schema, "partition": f"{where.key}={where.value}", "date": where.date, "hour": where.hour,
        "status": result.status, "reason": result.reason, **(result.counts._asdict() if result.counts else {}),
        "parts": result.parts, "bytes_in": result.bytes_in, "bytes_out": result.bytes_out,
        "seconds": round(result.seconds, 3), "mb_per_s": round(result.mb_per_s, 1),
    }  # fmt: skip


def _print_compacted(results: list[compactor.Compacted]) -> None:
    """Print a line for each schema and partition value, and one for each that was refused."""
    table = Table(
        "schema", "of", "partitions", "new", "rows in", "rows out", "redelivered", "repeats", "unproven", "enriched"
    )
    groups: dict[tuple[str, str], list[compactor.Compacted]] = {}
    for result in results:
        groups.setdefault((result.partition.schema, result.partition.value), []).append(result)
    for (name, value), own in groups.items():
        sums = [sum(counts) for counts in zip(*(result.counts for result in own if result.counts), strict=True)]
        new = sum(result.status == "compacted" for result in own)
        shown = sums if name == OPTIONS_TRADES.name else sums[:-1]
        table.add_row(name, value, f"{len(own):,}", f"{new:,}", *(f"{number:,}" for number in shown))
    if results:
        out.print(table)
    for result in results:
        if result.reason is not None:
            err.print(f"refused: {result.reason}", markup=False)
    new = sum(result.status == "compacted" for result in results)
    out.print(f"{len(results):,} partitions, {new:,} of them new or changed.")


@app.command("verify")
@_failing_with(COULD_NOT_RUN)
def verify_command(
    date: Annotated[
        str | None, typer.Option(help="Only its Silver, and captures that touch this UTC date, YYYY-MM-DD.")
    ] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Prove that what was recorded is all there, and Silver what it gives. Exit 0 proven, 1 findings, 2 could not run.

    Example: spymaster verify --date 2025-12-22
    """
    loaded = _load(data_root, wal_root)
    with _progress("files", as_json=as_json) as advance:
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
                "silver": {
                    "audited": verdict.silver.audited,
                    "stale": verdict.silver.stale,
                    "rows_in": verdict.silver.rows_in,
                    "rows": verdict.silver.rows,
                    "redelivered_share": round(verdict.silver.redelivered_share, 6),
                },
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
            f"{len(verdict.proofs) - whole:,} proven to a row; {verdict.silver.audited:,} silver partitions audited, "
            f"{verdict.silver.stale:,} stale: {verdict.silver.rows:,} events of {verdict.silver.rows_in:,} rows, "
            f"{verdict.silver.redelivered_share:.2%} delivered again; {len(verdict.findings):,} findings."
        )
    return FINDINGS if verdict.findings else OK


@app.command("status")
def status_command(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> None:
    """Show which rows are at risk, with this disk's sync times; bytes and rows per tier; and what is promised.

    Asks the running daemon. Where none answers, the rows that wait are counted in the log's files.

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
    table.add_row("Silver", f"{found['silver']['files']:,}", "not counted", f"{found['silver']['bytes']:,}")
    out.print(table)
    if found["daemon"] is not None:
        out.print(screen.gauges_table(found["daemon"]))
    for line in screen.contract(found):
        out.print(line, markup=False)
    for alarm in found["alarms"]:
        err.print(f"ALARM: {alarm}", markup=False)


@app.command("sql")
def sql_command(
    query: Annotated[str, typer.Argument(help="DuckDB SQL; tables: futures_trades, bronze_futures_trades, ...")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> None:
    """Ask lake and log, also while a daemon records: futures_trades is the one table, each event once, newest included.

    Its tiers are bronze_futures_trades, as received, and silver_futures_trades, as compacted; so for every schema.

    Example: spymaster sql "select contract, count(*) from futures_trades group by all"
    """
    loaded = _load(data_root, wal_root)
    try:
        with views.connect(loaded.data_root, loaded.wal_root) as lake:
            if any(statement.type in _WRITING_STATEMENTS for statement in lake.connection.extract_statements(query)):
                raise UsageError("sql only reads. Nothing was written. Next: spymaster sql --json QUERY > FILE")
            result = lake.execute(query)
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


@wal_app.command("verify")
@_failing_with(COULD_NOT_RUN)
def wal_verify(
    path: Annotated[Path | None, typer.Argument(help="A segment or a folder of them; default: WAL_ROOT.")] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Check every byte of every segment, then decode it. Exit 0 sound or torn tails only, 1 damage, 2 could not run.

    Reads only, takes no lock; files in quarantine are read when they or their folder are named.

    Example: spymaster wal verify wal/futures_trades_ES.007.arrow
    """
    found = audit.audit(path or _load(data_root, wal_root).wal_root)
    damaged = [entry for entry in found if entry.verdict == "damaged"]
    if as_json:
        _print_json({"sound": not damaged, "segments": [_audit_document(entry) for entry in found]})
    else:
        _print_audits(found)
    return FINDINGS if damaged else OK


def _audit_document(entry: audit.Audit) -> dict[str, Any]:
    lists = {
        "islands": [island._asdict() for island in entry.islands],
        "missing": [hole._asdict() for hole in entry.missing],
    }
    return {**vars(entry), "path": str(entry.path), "stream": entry.stream and str(entry.stream), **lists}


def _print_audits(found: list[audit.Audit]) -> None:
    table = Table("file", "stream", "state", "sound rows", "durable", "bytes", "verdict")
    for entry in found:
        table.add_row(
            entry.path.name, str(entry.stream or ""), entry.state, f"{entry.rows:,}", f"{entry.durable_rows:,}",
            f"{entry.size_bytes:,}", entry.verdict,
        )  # fmt: skip
    out.print(table)
    for entry in found:
        if entry.problem is not None:
            out.print(f"{entry.path}: {entry.problem} at byte {entry.problem_at}", markup=False)
        for line in entry.details:
            out.print(f"  {line}", markup=False)
    counts = ", ".join(
        f"{sum(e.verdict == verdict for e in found)} {verdict}" for verdict in ("sound", "torn tail", "damaged")
    )
    out.print(f"{sum(entry.rows for entry in found):,} sound rows in {len(found)} segments: {counts}.")
    if any(entry.verdict == "damaged" for entry in found):
        out.print("Next: spymaster recover, which keeps the bytes and what reads of them")


@wal_app.command("export")
@_failing_with(COULD_NOT_RUN)
def wal_export(
    segment: Annotated[Path, typer.Argument(help="A file of the log or of its quarantine.")],
    target: Annotated[Path, typer.Option("--out", help="The new Arrow file; one that exists is refused.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Write a segment's rows, up to the first damage, as an Arrow IPC file for pyarrow, polars or DuckDB.

    Exit 0 exported, 1 exported and acknowledged rows had to be left out, 2 nothing was written.

    Example: spymaster wal export wal/futures_trades_ES.arrow --out trades.arrow
    """
    done = audit.export(segment, target)
    if as_json:
        _print_json({**vars(done), "out": str(target), "audit": _audit_document(done.audit)})
    else:
        out.print(f"{target}: {done.rows:,} rows of {done.audit.stream}, {done.size_bytes:,} bytes.", markup=False)
        if done.left_out_bytes:
            out.print(f"Left out: {done.left_out_bytes:,} bytes. {done.audit.problem or 'Appended meanwhile'}")
        for line in done.audit.details:
            out.print(f"  {line}", markup=False)
    return FINDINGS if done.audit.verdict == "damaged" else OK


@app.command("doctor")
@_failing_with(COULD_NOT_RUN)
def doctor_command(
    kill: Annotated[bool, typer.Option("--torture", help="Kill real daemons in a scratch folder, and count.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0, help="With --torture: for so long, however many.")] = None,
    kills: Annotated[int | None, typer.Option(min=1, help="With --torture: so many; default: 50.")] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Check whether this machine is fit to record on, a line each; or watch the daemon being killed and lose nothing.

    Exit 0 all OK or warnings only, 1 something failed or was lost, 2 could not run. Nothing of yours is changed.

    Example: spymaster doctor

    Example: spymaster doctor --torture --minutes 10
    """
    loaded = _load(data_root, wal_root)
    if kill:
        return _torture(loaded, kills or (torture.KILLS if minutes is None else None), minutes, as_json=as_json)
    if minutes is not None or kills is not None:
        raise UsageError("--minutes and --kills go with --torture. Nothing was started. Next: add --torture")
    checks = []
    for check in doctor.examine(loaded):
        checks.append(check)
        if not as_json:
            out.print(f"[{_COLOURS[check.verdict]}]{check.verdict:4}[/] {escape(check.name)}: {escape(check.found)}")
            if check.advice:
                out.print(f"     -> {check.advice}", markup=False)
    failed = any(check.verdict == "FAIL" for check in checks)
    if as_json:
        _print_json({"fit": not failed, "checks": [check._asdict() for check in checks]})
    return FINDINGS if failed else OK


def _torture(loaded: Settings, kills: int | None, minutes: float | None, *, as_json: bool) -> int:
    done: list[torture.Trial] = []

    def show(trial: torture.Trial) -> None:
        done.append(trial)
        if not as_json:
            out.print(_trial_line(trial, kills))

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # child and scratch folder go in any case
    if not as_json:
        out.print("A real daemon records a simulated market, is killed (kill -9) at a random moment, and recovers.")
    try:
        report = torture.torture(loaded.wal_root, kills, minutes, secrets.randbits(32), show)
    except KeyboardInterrupt:
        err.print(f"interrupted after {len(done)} kills; the scratch folder is removed")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        _print_json(_torture_document(report))
    else:
        _print_torture(report)
    return FINDINGS if report.findings else OK


def _trial_line(trial: torture.Trial, kills: int | None) -> str:
    many = "" if kills is None else f" of {kills}"
    found = f"{trial.lost:,} lost, {trial.doubled:,} doubled"
    line = f"kill {trial.number}{many}: {trial.acknowledged:,} rows acknowledged, "
    if trial.torn:
        line += f"{trial.torn}, "
    return (
        f"{line}recovered in {trial.recovery_s:.2f} s, {found}{f', {trial.invented:,} invented' * (trial.invented > 0)}"
    )


def _torture_document(report: torture.Report) -> dict[str, Any]:
    totals = {name: sum(getattr(trial, name) for trial in report.trials) for name in ("acknowledged", *_LOSSES)}
    return {
        "held": not report.findings,
        "seed": report.seed,
        "kills": len(report.trials),
        "torn_tails": sum(trial.torn is not None for trial in report.trials),
        **totals,
        "rows_counted": report.rows_counted,
        "recovery_s": {name: report.recovery_s(share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
        "sync_s": {"p50": report.syncs.p50_s, "p99": report.syncs.p99_s, "max": report.syncs.max_s},
        "findings": report.findings,
        "kept": report.kept and str(report.kept),
        "trials": [trial._asdict() for trial in report.trials],
    }


def _print_torture(report: torture.Report) -> None:
    found = _torture_document(report)
    table = Table("measured on this disk", "")
    table.columns[1].justify = "right"
    for name in ("kills", "torn_tails", "acknowledged", *_LOSSES, "rows_counted"):
        table.add_row(name.replace("_", " "), f"{found[name]:,}")
    for name, unit, factor in (("recovery", "s", 1), ("sync", "ms", 1000)):
        values = " / ".join(f"{found[f'{name}_s'][share] * factor:.2f}" for share in ("p50", "p99", "max"))
        table.add_row(f"{name} {unit}, p50 / p99 / max", values)
    out.print(table)
    for line in report.findings:
        out.print(f"finding: {line}", markup=False)
    if report.kept is not None:
        out.print(f"Log and lake are kept in {report.kept} (seed {report.seed}).", markup=False)
    else:
        out.print("Every acknowledged row is in Bronze once, as the market gave it; verify finds nothing.")
    out.print(
        "A kill keeps what the system has in memory. Power cuts are shown by a model of the disk, in tests/crash."
    )


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


@app.command("archive")
@_failing_with(COULD_NOT_RUN)
def archive_command(
    before: Annotated[str, typer.Option(help="The first UTC date that stays, YYYY-MM-DD.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Move the Bronze parts of compacted hours from before a date to DATA_ROOT/archive.

    Everything reads them there as before; it may be a link to another disk. No daemon may run meanwhile.

    Exit 0 all moved or nothing to move, 1 some hours stayed, a line each, 2 could not run or all of them have to stay.

    Example: spymaster archive --before 2025-12-01
    """
    loaded = _load(data_root, wal_root)
    with archive_locks(loaded.wal_root, loaded.data_root), _progress("partitions", as_json=as_json) as advance:
        done = archive_before(loaded.data_root, before, advance)
    if as_json:
        stayed = [{"partition": each.place, "reason": each.reason} for each in done.stayed]
        _print_json({**vars(done), "stayed": stayed})
    else:
        for each in done.stayed:
            err.print(f"stays: {each.place} {each.reason}", markup=False)
        out.print(
            f"{done.parts:,} parts of {done.partitions:,} partitions archived: {done.rows:,} rows, "
            f"{done.size_bytes:,} bytes, read back and sound; {len(done.stayed):,} partitions stayed."
        )
    return FINDINGS if done.stayed else OK


@app.command("simulate-day")
def simulate_day(
    date: Annotated[str, typer.Option(help="The UTC date, YYYY-MM-DD.")],
    path: Annotated[Path, typer.Option("--out", help="A new folder.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 1,
    rate: Annotated[int, typer.Option(min=1, max=sim.MAX_RATE, help="DBN records per second.")] = sim_day.DAY_RATE,
    plant: Annotated[str | None, typer.Option(help="What to plant: all, or kinds joined by +.")] = None,
    begin: Annotated[str, typer.Option(help="From this minute of the day, HH:MM in UTC.")] = "00:00",
    end: Annotated[str, typer.Option(help="Before this minute.")] = "24:00",
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> None:
    """Write a day of the simulated market as the vendors' files: DBN, flat files, chain pages, and what was planted.

    Example: spymaster simulate-day --date 2025-12-16 --out /tmp/day --plant all
    """
    _load(data_root, wal_root)
    day = calendar_date.fromisoformat(check_date(date))
    kinds = sim_plant.parse_plant(plant) if plant else ()
    with _progress("seconds", as_json=as_json) as advance:
        written = sim_day.write_day(day, path, seed, rate, kinds, advance, (_minute(begin), _minute(end)))
    if as_json:
        _print_json({"out": str(written.out), "rows": written.rows, "truths": written.truths, "files": written.files})
        return
    table = Table("file", "rows", "bytes")
    pages = [entry for entry in written.files if entry["path"].startswith("chain/")]
    for entry in written.files:
        if entry not in pages:
            table.add_row(entry["path"], f"{entry['rows']:,}", f"{entry['bytes']:,}")
    shown = (sum(entry[name] for entry in pages) for name in ("rows", "bytes"))
    table.add_row(f"chain/*.json ({len(pages):,} pages)", *(f"{number:,}" for number in shown))
    out.print(table)


def _minute(text: str) -> int:
    hours, colon, minutes = text.partition(":")
    if not (colon and text.isascii() and hours.isdigit() and minutes.isdigit()) or int(minutes) >= 60:
        raise UsageError(f"{text!r} is no minute of a day. Nothing was written. Next: give it as HH:MM, e.g. 14:30")
    return int(hours) * 60 + int(minutes)


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

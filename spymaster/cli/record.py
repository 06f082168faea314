"""What writes the log and Bronze: `run`, `backfill`, `recover`."""

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spymaster import clock
from spymaster.cli import screen
from spymaster.cli.options import AsJson, DataRoot, WalRoot, load
from spymaster.cli.output import (
    CANNOT_PROCEED,
    FINDINGS,
    OK,
    failing_with,
    print_json,
    print_line,
    progress,
    remark,
    warn,
)
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.daemon import Daemon
    from spymaster.gateway.address import GatewayAt
    from spymaster.journal import Journal
    from spymaster.recording.recovery import Recovered
    from spymaster.settings import Settings


def run(
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="sim[:seed=1,rate=2000,plant=all,strength=0.5,price=calm,truth=FILE], sim-es, dbn:PATH or "
            "flatfile:PATH; may be repeated. Default: sim."
        ),
    ] = None,
    speed: Annotated[float, typer.Option(min=0, help="Event time per wall time; 0 is as fast as it goes.")] = 1.0,
    duration: Annotated[float | None, typer.Option(min=0, help="Drain and end after so many seconds.")] = None,
    strict: Annotated[bool, typer.Option(help="Refuse to start over newly found damage.")] = False,
    no_gateway: Annotated[bool, typer.Option("--no-gateway", help="Serve no page; see GATEWAY_PORT.")] = False,
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
    loaded = load(data_root, wal_root)
    served = not no_gateway
    return _record(loaded, source or ["sim"], speed, duration, strict=strict, as_json=as_json, served=served)


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
    return _record(load(data_root, wal_root), [source], 0, None, strict=False, as_json=as_json, quiet=True)


def _record(
    loaded: "Settings",
    sources: list[str],
    speed: float,
    duration: float | None,
    *,
    strict: bool,
    as_json: bool,
    quiet: bool = False,
    served: bool = False,
) -> int:
    """Record, and keep the journal: in LOG_FILE, else on stderr, where it says alarms too; or only there if `quiet`."""
    import asyncio

    from spymaster.daemon import Daemon
    from spymaster.engines.profile import profile_named

    started = clock.monotonic_s()
    profile = None if quiet else profile_named(loaded.profile)
    shown = loaded.log_file is None and not quiet

    async def record(journal: "Journal", terminal: screen.Terminal) -> Daemon:
        def notify(line: str) -> None:
            terminal.do(lambda: warn(line))

        def opened(url: str) -> None:
            if drawn or not shown:  # else the journal's line is there, and lines for programs are its own
                terminal.do(lambda: remark(f"The page is at {url}"))

        drawn = sys.stderr.isatty() and not as_json
        daemon = Daemon(
            loaded, sources, speed,
            profile=profile, strict=strict, notify=None if shown else notify, journal=journal,
            gateway=_gateway_at(loaded) if served else None,
            opened=opened,
        )  # fmt: skip
        _drain_on_signals(daemon)
        live = asyncio.create_task(screen.show_live(daemon, terminal)) if drawn else None
        try:
            await daemon.run(duration)
        finally:
            if live is not None:
                live.cancel()
                await asyncio.gather(live, return_exceptions=True)
        return daemon

    with _journal(loaded, shown=shown) as journal, screen.Terminal() as terminal:
        daemon = asyncio.run(record(journal, terminal))
    summary = screen.summarize(daemon, clock.monotonic_s() - started)
    if as_json:
        print_json(summary)
    else:
        if not shown:
            _print_recovery(daemon.recorder.recovered)
        screen.print_summary(summary)
    if any(capture["error"] for capture in summary["captures"]):
        return FINDINGS
    if daemon.recorder.recovered is not None and daemon.recorder.recovered.exit_code:
        return daemon.recorder.recovered.exit_code
    return FINDINGS if summary["problems"] else OK


def _gateway_at(loaded: "Settings") -> "GatewayAt":
    from spymaster.gateway.address import GatewayAt

    token = loaded.gateway_token
    return GatewayAt(loaded.gateway_host, loaded.gateway_port, None if token is None else token.get_secret_value())


@contextmanager
def _journal(loaded: "Settings", *, shown: bool) -> "Iterator[Journal]":
    from spymaster.journal import Journal, LogFile

    file = None if loaded.log_file is None else LogFile(loaded.log_file)
    write = print_line if shown else None if file is None else file.write
    journal = Journal(write, loaded.log_format, loaded.secrets)
    try:
        yield journal
    finally:
        if journal.close() and file is not None:
            file.close()


def _drain_on_signals(daemon: "Daemon") -> None:
    """Drain on the first SIGTERM or Ctrl-C; the second ends the process at once, and recovery drains the rest."""
    import asyncio

    loop = asyncio.get_running_loop()

    def first(received: signal.Signals) -> None:
        daemon.stop(received.name)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first, number)


@failing_with(CANNOT_PROCEED)
def recover_command(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> int:
    """Drain what a crash left into Bronze. Exit 0 clean or torn tails only, 3 damage newly found, 4 cannot proceed.

    Example: spymaster recover
    """
    from spymaster.events.captures import random_capture_id
    from spymaster.lake import catalog
    from spymaster.lake.layout import Tier
    from spymaster.lake.locks import writer_locks
    from spymaster.recording.recovery import recover

    loaded = load(data_root, wal_root)
    with writer_locks(loaded.wal_root, loaded.data_root), progress("segments", as_json=as_json) as advance:
        index = catalog.Catalog(loaded.data_root)
        try:
            report = recover(loaded.wal_root, index, Tier.BRONZE.of(loaded.data_root), random_capture_id(), advance)
        finally:
            index.close()
    if index.strangers is not None:
        warn(index.strangers)
    if as_json:
        print_json(_recovery_document(report))
    else:
        _print_recovery(report)
        print(f"{report.rows:,} rows brought to Bronze in {len(report.parts):,} parts.")
    return report.exit_code


def _recovery_document(report: "Recovered") -> dict[str, Any]:
    return {
        "rows": report.rows,
        "parts": [part.relative for part in report.parts],
        "rows_found_in_log": report.salvage.rows,
        "torn_bytes": report.salvage.torn_bytes,
        "missing": [hole.describe() for hole in report.salvage.holes],
        "notes": report.salvage.notes,
        "exit_code": report.exit_code,
    }


def _print_recovery(report: "Recovered | None") -> None:
    if report is not None:
        for line in [*report.salvage.notes, *(hole.describe() for hole in report.salvage.holes)]:
            remark(f"recovery: {line}")

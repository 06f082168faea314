"""What a person sees of a run: the live table, and the summary after it. Pictures go to stderr, answers to stdout."""

import dataclasses
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict

from spymaster import clock
from spymaster.cli import gamma, levels
from spymaster.cli.output import Count

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from spymaster.control import Gauges, JudgeGauges, SyncTimes
    from spymaster.daemon import Daemon
    from spymaster.query.status import Signals, Status

REFRESH_S = 0.5
MAX_WAITING: Final = 100  # writes to the terminal; beyond, the new ones are lost
CLOSE_S: Final = 2.0  # how long the last may take
MOST_STRIKES: Final = 6  # of the live screen; `spymaster gamma` has more
GAUGES: Final = ["stream", "rows", "appended, not durable", "durable, not in Bronze", "in Bronze"]


class StreamState(TypedDict):
    """Rows of one stream in this run, by what they have passed."""

    appended: int
    acknowledged: int
    in_bronze: int


class Summary(TypedDict):
    """What a run did, as `--json` prints it."""

    seconds: float
    recovered_rows: int
    streams: dict[str, StreamState]
    captures: list[dict[str, Any]]
    rows: dict[str, int]
    parts: int
    judge: "JudgeGauges | None"
    problems: list[str]


def stream_states(daemon: "Daemon") -> dict[str, StreamState]:
    return {
        str(stream): {
            "appended": lane.log.appended_rows,
            "acknowledged": lane.log.acknowledged_rows,
            "in_bronze": lane.flushed_rows,
        }
        for stream, lane in sorted(daemon.recorder.lanes.items())
    }


def summarize(daemon: "Daemon", seconds: float) -> Summary:
    """Return what a finished run did."""
    recovered = daemon.recorder.recovered
    return {
        "seconds": round(seconds, 3),
        "recovered_rows": recovered.rows if recovered else 0,
        "streams": stream_states(daemon),
        "captures": [dataclasses.asdict(summary) for summary in daemon.summaries],
        "rows": daemon.rows,
        "parts": daemon.recorder.drain.parts_written,
        "judge": None if daemon.judge is None else daemon.judge.gauges(),
        "problems": daemon.recorder.problems,
    }


class Terminal:
    """Writes to stderr in a thread of its own: a paused terminal holds a write up, maybe for ever, and no recording."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)  # a stuck one holds up no exit

    def do(self, write: Callable[[], object]) -> None:
        """Write, after what was asked for before. It waits for nothing."""
        with suppress(queue.Full):
            self._queue.put_nowait(write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        with suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_S)
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (write := self._queue.get()) is not None:
            with suppress(OSError, ValueError):  # a reader that went away
                write()


async def show_live(daemon: "Daemon", terminal: Terminal) -> None:
    """Draw the live tables on stderr until cancelled: streams, and levels as they are judged."""
    import asyncio

    from rich.console import Console, Group
    from rich.live import Live

    from spymaster.recording.gauges import gauges

    before: dict[str, int] = {}
    last_s = clock.monotonic_s()
    # No thread of its own, which would hold its lock while it writes; and answers are not pictures.
    live = Live(console=Console(stderr=True, soft_wrap=True), auto_refresh=False, redirect_stdout=False, transient=True)
    terminal.do(live.start)
    try:
        while True:
            now_s = clock.monotonic_s()
            now = gauges(daemon.recorder)
            appended = {name: stream["appended"] for name, stream in now["streams"].items()}
            seconds = max(now_s - last_s, 1e-9)
            rates = {name: (rows - before.get(name, rows)) / seconds for name, rows in appended.items()}
            drawn = Group(*_level_table(daemon), _live_table(now, rates))
            terminal.do(partial(live.update, drawn, refresh=True))
            before, last_s = appended, now_s
            await asyncio.sleep(REFRESH_S)
    finally:
        terminal.do(live.stop)


def gauge_rows(now: "Gauges") -> list[list[object]]:
    """Return the rows of each stream by what they wait for, in the order of `GAUGES`."""
    counted = ("appended", "appended_not_durable", "durable_not_in_bronze", "in_bronze")
    return [
        [name, *(Count(state[key]) for key in counted)]  # type: ignore[literal-required]  # mypy cannot follow `counted`
        for name, state in now["streams"].items()
    ]


def _live_table(now: "Gauges", rates: dict[str, float]) -> "Table":
    """Return the gauges of a run as it goes on, with `rates` in rows a second."""
    from rich.table import Table

    table = Table(title="spymaster run")
    table.add_column(GAUGES[0])
    for column in ["rows/s", *GAUGES[1:]]:
        table.add_column(column, justify="right")
    for stream, *counts in gauge_rows(now):
        table.add_row(str(stream), f"{rates[str(stream)]:,.0f}", *map(str, counts))
    table.caption = (
        f"a power cut now loses at most {now['appended_not_durable']:,} rows · {_sync_words(now['sync'])}\n"
        f"newest segment became Bronze in {now['flush_s']:.2f} s · Ctrl-C drains and ends"
    )
    return table


def _level_table(daemon: "Daemon") -> "list[Table | Text]":
    """Return the levels in sight of the newest snap, the highest price first; before the first, what is waited for."""
    if daemon.judge is None:
        return []
    from rich.table import Table
    from rich.text import Text

    if daemon.judge.snap is None:
        state = daemon.judge.gauges()["state"]
        return [Text(f"{daemon.judge.profile.name}: no level is judged yet; the judge is {state}\n", style="italic")]

    from spymaster.signals.sight import document, gamma_document

    profile = daemon.judge.profile
    snap = document(daemon.judge.snap, profile.name, profile.market.underlying)
    table = Table(title=levels.head(snap))
    for column in levels.COLUMNS:
        table.add_column(column, justify="left" if column in levels.TEXTS else "right")
    for row in levels.rows(snap["levels"]):
        table.add_row(*("" if value is None else str(value) for value in row))
    return [table, *gamma_tables(gamma_document(daemon.judge.snap, profile.name, profile.market.underlying))]


def gamma_tables(found: Mapping[str, Any]) -> "list[Table]":
    """Return dealer gamma of the strikes next to the spot; nothing while none is known."""
    from rich.table import Table

    rows = gamma.rows(found, MOST_STRIKES)
    if not rows:
        return []
    table = Table(title="dealer gamma by strike")
    for column in gamma.COLUMNS:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    table.caption = "\n".join(gamma.head(found)[1:])
    return [table]


def contract(found: "Status") -> list[str]:
    """Return what is promised, in words, with the numbers of this machine and this moment."""
    lines = [_who_writes(found)]
    not_durable, not_in_bronze = found["at_risk"]["appended_not_durable"], found["at_risk"]["durable_not_in_bronze"]
    daemon = found["daemon"]
    if daemon is None:
        lines += [f"{cause} {loss}" for cause, loss in found["promise"].items()]
        return [*lines, _waiting_words(not_durable, not_in_bronze, alone=found["holder"] is None)]
    waited = f", the oldest for {daemon['oldest_not_durable_s']:.3f} s" if daemon["oldest_not_durable_s"] else ""
    backlog = daemon["backlog"]
    sealed = ""
    if backlog["segments"]:
        sealed = f" ({backlog['segments']:,} sealed segments, {backlog['bytes']:,} bytes, for {backlog['oldest_s']} s)"
    lines += [
        "a killed process loses nothing that was appended",
        f"a power cut now would lose at most the {not_durable:,} rows not yet durable{waited} "
        f"({_sync_words(daemon['sync'])}, on this disk)",
        f"{not_in_bronze:,} rows are durable and not in Bronze{sealed}; a crash loses none of them",
        f"damage by the medium {found['promise']['damage by the medium']}",
        *_signal_lines(found["signals"]),
    ]
    if daemon["disk"]["level"] == "warn":  # a worse one is among the problems
        lines.append(daemon["disk"]["text"])
    if daemon["dropped_rows"]:
        lines.append(f"live readers were too slow for {daemon['dropped_rows']:,} rows; log and lake have them")
    return lines + [f"problem: {problem}" for problem in daemon["problems"]]


def _signal_lines(found: "Signals | None") -> list[str]:
    """Say how far signals got, and who is missing on their way."""
    from spymaster.query.status import MISSING, signal_words

    if found is None:
        return []
    missing = found["missing"]
    return [signal_words(found), *([MISSING[missing]] if missing is not None else [])]


def _waiting_words(not_durable: int | None, not_in_bronze: int | None, *, alone: bool) -> str:
    """Say what the log's files hold; a part of it may be in Bronze already."""
    if not_durable is None or not_in_bronze is None:
        words = "rows wait in the log, which is too large to count them"
        return f"{words}. Next: spymaster recover" if alone else words
    if not not_durable + not_in_bronze:
        return "no row waits in the log"
    words = f"{not_in_bronze:,} rows wait in the log: durable, not in Bronze"
    if not_durable:
        words += f"; and {not_durable:,} more, which a power cut before they are recovered may lose"
    return f"{words}. Next: spymaster recover" if alone else words


def _who_writes(found: "Status") -> str:
    if (daemon := found["daemon"]) is not None:
        return f"process {daemon['pid']} (version {daemon['version']}) is {daemon['state']}, for {daemon['uptime_s']} s"
    if found["holder"] is None:
        return "no daemon runs"
    return (
        f"process {found['holder']} holds the log and answers no questions: it starts, recovers, or is a program that "
        f"uses BronzeWriter"
    )


def _sync_words(sync: "SyncTimes") -> str:
    if not sync["count"]:
        return "no sync measured yet"
    times = f"sync p50 {sync['p50_ms']:.3g} ms, p99 {sync['p99_ms']:.3g} ms, longest {sync['max_ms']:.3g} ms"
    return f"{times} of the last {sync['count']:,}"


def print_summary(summary: Summary) -> None:
    """Print what a run did, a line each."""
    if summary["recovered_rows"]:
        print(f"Recovered {summary['recovered_rows']:,} rows that an earlier process had left in the log.")
    for capture in summary["captures"]:
        if capture["already_captured"]:
            print(f"{capture['origin']}: already captured ({_rows(capture['rows'])}); nothing was added.")
            continue
        end = "complete" if capture["complete"] else f"NOT complete: {capture['error'] or 'stopped before its end'}"
        if capture["complete"] and capture["unreadable"]:
            end = f"complete, but for {capture['unreadable']:,} unreadable records"
        print(f"{capture['origin']}: {_rows(capture['rows'])}; {end}.")
        for kind, count in sorted(capture["ignored"].items()):
            print(f"  {count:,} {kind} records are of a kind that is not recorded.")
        for kind, count in sorted(capture["odd"].items()):
            print(f"  {count:,} odd rows are recorded as they came: {kind}.")
        if capture["unreadable"]:
            print(f"  {capture['unreadable']:,} unreadable records are in DATA_ROOT/quarantine, each with why.")
        if capture["unmapped"]:
            print(f"  {capture['unmapped']:,} rows have no symbol: no mapping named their instrument.")
    in_bronze = sum(state["in_bronze"] for state in summary["streams"].values())
    print(
        f"{in_bronze:,} rows in {summary['parts']:,} Bronze parts, in {summary['seconds']:.1f} s. "
        f"Next: spymaster verify; spymaster sql 'from futures_trades limit 5'"
    )
    if (judge := summary["judge"]) is not None and judge["snaps"]:
        given = ", ".join(f"{count:,} {signal}" for signal, count in judge["given"].items())
        print(
            f"Judged {judge['snaps']:,} snaps of {judge['contract']} in the session of {judge['session']}, "
            f"{judge['void']:,} of them void: {given}. docs/engines.md says what they mean."
        )
    for problem in summary["problems"]:
        print(f"Problem: {problem}")


def _rows(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {schema}" for schema, count in sorted(rows.items())) or "no rows"

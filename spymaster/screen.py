"""What a person sees of a run: the live table, and the summary after it. Pictures go to stderr, answers to stdout."""

import asyncio
import dataclasses
from typing import Any, TypedDict

from rich.console import Console
from rich.live import Live
from rich.table import Table

from spymaster import clock
from spymaster.daemon import Daemon

REFRESH_S = 0.5


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
    problems: list[str]


def stream_states(daemon: Daemon) -> dict[str, StreamState]:
    return {
        str(stream): {
            "appended": lane.log.appended_rows,
            "acknowledged": lane.log.acknowledged_rows,
            "in_bronze": lane.flushed_rows,
        }
        for stream, lane in sorted(daemon.recorder.lanes.items())
    }


def summarize(daemon: Daemon, seconds: float) -> Summary:
    """Return what a finished run did."""
    recovered = daemon.recorder.recovered
    rows: dict[str, int] = {}
    for summary in daemon.summaries:
        for schema, count in summary.rows.items():
            rows[schema] = rows.get(schema, 0) + count
    return {
        "seconds": round(seconds, 3),
        "recovered_rows": recovered.rows if recovered else 0,
        "streams": stream_states(daemon),
        "captures": [dataclasses.asdict(summary) for summary in daemon.summaries],
        "rows": rows,
        "parts": daemon.recorder.parts_written,
        "problems": daemon.recorder.problems,
    }


async def show_live(daemon: Daemon, console: Console) -> None:
    """Draw the live table until cancelled."""
    before: dict[str, StreamState] = {}
    last_s = clock.monotonic_s()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            now_s = clock.monotonic_s()
            states = stream_states(daemon)
            live.update(_table(daemon, states, before, max(now_s - last_s, 1e-9)))
            before, last_s = states, now_s
            await asyncio.sleep(REFRESH_S)


def _table(daemon: Daemon, states: dict[str, StreamState], before: dict[str, StreamState], seconds: float) -> Table:
    recorder = daemon.recorder
    table = Table(
        title="spymaster run",
        caption=f"newest segment became Bronze in {recorder.flush_seconds:.2f} s · Ctrl-C drains and ends",
    )
    for name in ("stream", "rows/s", "rows", "not yet durable", "durable, not in Bronze", "in Bronze"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for stream, state in states.items():
        earlier = before.get(stream, state)["appended"]
        table.add_row(
            stream,
            f"{(state['appended'] - earlier) / seconds:,.0f}",
            f"{state['appended']:,}",
            f"{state['appended'] - state['acknowledged']:,}",
            f"{state['acknowledged'] - state['in_bronze']:,}",
            f"{state['in_bronze']:,}",
        )
    return table


def print_summary(summary: Summary, console: Console) -> None:
    """Print what a run did, a line each."""
    if summary["recovered_rows"]:
        console.print(f"Recovered {summary['recovered_rows']:,} rows that an earlier process had left in the log.")
    for capture in summary["captures"]:
        if capture["already_captured"]:
            console.print(f"{capture['origin']}: already captured ({_rows(capture['rows'])}); nothing was added.")
            continue
        end = "complete" if capture["complete"] else f"NOT complete: {capture['error'] or 'stopped before its end'}"
        console.print(f"{capture['origin']}: {_rows(capture['rows'])}; {end}.", highlight=False)
        for kind, count in sorted(capture["ignored"].items()):
            console.print(f"  {count:,} {kind} records are of a kind that is not recorded.")
        if capture["unreadable"]:
            console.print(f"  {capture['unreadable']:,} unreadable records are in quarantine, with their bytes.")
        if capture["unmapped"]:
            console.print(f"  {capture['unmapped']:,} rows have no symbol: no mapping named their instrument.")
    in_bronze = sum(state["in_bronze"] for state in summary["streams"].values())
    console.print(
        f"{in_bronze:,} rows in {summary['parts']:,} Bronze parts, in {summary['seconds']:.1f} s. "
        f"Next: spymaster verify; spymaster sql 'from futures_trades limit 5'"
    )
    for problem in summary["problems"]:
        console.print(f"Problem: {problem}")


def _rows(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {schema}" for schema, count in sorted(rows.items())) or "no rows"

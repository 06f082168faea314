"""`top`: what the running daemon sees, in a terminal: may it be trusted, the levels, the streams, what was told."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spymaster import clock
from spymaster.cli import levels
from spymaster.cli.options import AsJson, DataRoot, WalRoot, load
from spymaster.cli.output import print_json
from spymaster.cli.watch import asked
from spymaster.errors import ControlError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

POLL_S: Final = 0.5
MOST_LEVELS: Final = 10  # next to the price
MOST_ALERTS: Final = 8
STREAMS: Final = ("stream", "rows/s", "lag", "lag p99", "age", "rows")
WORDS: Final = {  # of a state, as the page has them
    "live": "LIVE", "stale": "STALE", "halt": "HALT", "gap": "LIVE, with a gap", "void": "LIVE, void",
    "first": "LIVE, first minute", "empty": "NO DATA",
}  # fmt: skip
_COLORS: Final = {"live": "bold", "empty": "dim", "first": "bold"}  # others need a look


def top_command(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> None:
    """Show what the running daemon sees, twice a second: its state, levels, streams, health and newest alerts.

    q or Ctrl-C ends it. With --json, or where the output is no terminal, it is shown once.

    Example: spymaster top
    """
    folder = load(data_root, wal_root).wal_root
    found = look(folder)
    if as_json:
        print_json(found)
    elif once or not sys.stdout.isatty():
        from rich.console import Console

        Console().print(drawn(found))
    else:
        _follow(folder, found)


def look(folder: Path) -> dict[str, Any]:
    """Return the desk's documents, and as `snap` the newest snap with its levels in sight; null before the first.

    Raises:
        UsageError: no daemon runs.
        ControlError: it gives no answer.
    """
    found = asked(folder, "desk")
    snap = None
    with suppress(ControlError):  # none yet, or nothing is judged
        snap = asked(folder, "signals")
    return {**found, "snap": snap}


def _follow(folder: Path, found: Mapping[str, Any]) -> None:
    from rich.live import Live

    with Live(drawn(found), screen=True, auto_refresh=False) as live, _keys() as pressed:
        while not pressed(POLL_S):
            try:
                live.update(drawn(look(folder)), refresh=True)
            except UsageError:
                break
            except ControlError:
                continue  # it drains or is busy; what was shown stays
        else:
            return
    print(f"the daemon that recorded in {folder} has ended")


@contextmanager
def _keys() -> "Iterator[Any]":
    """Give what waits so many seconds and returns whether q was pressed meanwhile."""
    import select
    import termios
    import time
    import tty

    def waited(seconds: float) -> bool:
        if not sys.stdin.isatty():
            time.sleep(seconds)
            return False
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(ready) and sys.stdin.read(1) in {"q", "Q"}

    if not sys.stdin.isatty():
        yield waited
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield waited
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def drawn(found: Mapping[str, Any]) -> "RenderableType":
    """Return what is shown, from the top."""
    from rich.console import Group
    from rich.text import Text

    state = found["desk"]["state"]
    head = Text(headline(found), style=_COLORS.get(state, "bold yellow"))
    health = Text("\n".join(health_lines(found)))
    parts: list[RenderableType] = [head, *_levels(found["snap"]), _streams(found["streams"]), health]
    parts += [Text(line) for line in alert_lines(found["alerts"])]
    return Group(*parts)


def headline(found: Mapping[str, Any]) -> str:
    """Return the state and what stands behind it, a line."""
    desk, snap = found["desk"], found["snap"]
    parts = [WORDS[desk["state"]]]
    if desk["reason"] is not None:
        parts.append(str(desk["reason"]))
    parts.append(f"since {_time(desk['since_ns'])}")
    parts += [f"{name} silent for {one['age_ms'] / 1000:.1f} s" for name, one in desk["silent"].items()]
    feeds = desk["feeds"]
    parts.append(f"{feeds['up']} of {feeds['of']} feeds")
    if snap is not None:
        parts.append(levels.head(snap))
    return " · ".join(parts)


def health_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the recorder's figures, and each problem."""
    health, gaps = found["health"], found["gaps"]
    sync = "no sync yet" if health["sync_p50_ms"] is None else f"sync p50 {health['sync_p50_ms']:.1f} ms"
    to = "" if health["durable_to_ns"] is None else f" · durable to {_time(health['durable_to_ns'])}"
    gold = "no Gold yet" if health["gold_age_s"] is None else f"Gold {health['gold_age_s']:.0f} s ago"
    free = f"disk {health['disk_free_bytes'] / 1e9:,.1f} GB free"
    days = "" if health["disk_days"] is None else f", {health['disk_days']:g} days"
    lines = [
        f"{health['rows_at_risk']:,} rows at risk · {sync}{to} · {len(gaps):,} open gaps · {gold} · {free}{days}"
        f" · {health['not_in_bronze']:,} rows not in Bronze"
    ]
    return [*lines, *(f"problem: {line}" for line in health["problems"])]


def alert_lines(alerts: list[dict[str, Any]]) -> list[str]:
    """Return the newest alerts, a line each."""
    return [f"{_time(one['at_ns'])} {one['kind']} {one['state']}: {one['text']}" for one in alerts[:MOST_ALERTS]]


def _levels(snap: Mapping[str, Any] | None) -> "list[Table]":
    if snap is None:
        return []
    near = sorted(snap["levels"], key=lambda level: abs(level["distance_ticks"]))[:MOST_LEVELS]
    rows = levels.rows(sorted(near, key=lambda level: level["price"]))
    return [_table(levels.COLUMNS, rows, levels.TEXTS)]


def _streams(streams: Mapping[str, Mapping[str, Any]]) -> "Table":
    rows = [
        [
            name, f"{one['rows_s']:,.0f}", _ms(one["lag_ms"]), _ms(one["lag_p99_ms"]), _ms(one["age_ms"]),
            f"{one['rows']:,}",
        ]
        for name, one in streams.items()
    ]  # fmt: skip
    return _table(STREAMS, rows, ("stream",))


def _table(columns: tuple[str, ...], rows: list[list[Any]], texts: tuple[str, ...]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in texts else "right")
    for row in rows:
        table.add_row(*("" if value is None else escape(str(value)) for value in row))
    return table


def _ms(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.0f} s"


def _time(ns: int) -> str:
    return clock.utc_text(ns)[11:19]

"""What the running daemon judges: `signals`, and the user's hot zones: `zone`."""

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spymaster import clock
from spymaster.cli import levels
from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load, moment_ns
from spymaster.cli.output import Format, json_text, plain, print_json, show_rows
from spymaster.errors import ControlError, UsageError

if TYPE_CHECKING:
    from spymaster.settings import Settings

POLL_S: Final = 0.25  # a snap of event time


def signals_command(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Each new snap, until Ctrl-C.")] = False,
    level: Annotated[str | None, typer.Option(help="Only the level of this id, e.g. VWAP or ROUND_6850.00.")] = None,
    at: Annotated[str | None, typer.Option(help="The last snap in Gold at or before this time, UTC.")] = None,
    date: Annotated[str | None, typer.Option(help="The signals in Gold of this trading day, each as it began.")] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> None:
    """Show the levels in sight as the running daemon judges them, or as it did: state, score and signal.

    What each means is in docs/engines.md. With --follow --json each snap is one line. Gold has a snap once its part is
    finished, a minute later. It is that of the underlying of PROFILE.

    Example: spymaster signals --follow
    """
    form = chosen(form, as_json=as_json)
    if (at is not None) + (date is not None) + follow > 1:
        raise UsageError("--follow, --at and --date exclude each other. Nothing was done. Next: give one of them")
    loaded = load(data_root, wal_root)
    if at is not None or date is not None:
        _show_past(loaded, at, date, level, form)
        return
    folder = loaded.wal_root
    values = {} if level is None else {"level": level}
    if not follow:
        _print_snap(asked(folder, "signals", values), form)
        return
    draw = _redrawn if form is None and sys.stdout.isatty() else _print_snap
    for snap in _snaps(folder, values):
        draw(snap, form)


def _show_past(settings: "Settings", at: str | None, date: str | None, level: str | None, form: Format | None) -> None:
    from spymaster.engines.profile import profile_named
    from spymaster.query.gold_rows import GoldRows
    from spymaster.signals.payload import document

    underlying = profile_named(settings.profile).market.underlying
    gold = GoldRows(settings.data_root, "arrow")
    if date is not None:
        names, rows = gold.given(underlying, date)
        show_rows(names, [row for row in rows if level in {None, row[names.index("level_id")]}], form)
        return
    until_ns = moment_ns(str(at))
    newest_ns = gold.newest_ns(underlying, until_ns)
    if newest_ns is None:
        raise UsageError(
            f"Gold has no snap of {underlying} at or before {clock.utc_text(until_ns)}. Nothing was read. "
            f"{gold.advice(underlying)}"
        )
    (rows_of_snap,) = (
        gold.read_level_signals(underlying, start_ns=newest_ns, end_ns=newest_ns + 1).combine_chunks().to_batches()
    )
    snap = document(rows_of_snap)
    if level is not None:
        snap["levels"] = [one for one in snap["levels"] if level in (one["ids"] or [one["id"]])]
    if form is not Format.JSON:
        print(f"{clock.utc_text(newest_ns)[:10]}, as it was judged:")
    _print_snap(snap, form)


def zone_set(
    zone: Annotated[str, typer.Argument(help="Its name: letters, digits, _ . or -.")],
    price: Annotated[float, typer.Argument(help="Of the level, in the unit of what is judged.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> None:
    """Set a hot zone, a level of your own, or move it; the running daemon judges it from the next snap on.

    Example: spymaster zone add gap-fill 6850.25
    """
    done = asked(load(data_root, wal_root).wal_root, "zone.set", {"zone": zone, "price": price})
    _print_zone(done, f"{done['zone']} is at {done['price']:g} of {done['underlying']}.", as_json=as_json)


def zone_remove(
    zone: Annotated[str, typer.Argument(help="Its name.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> None:
    """Remove a hot zone; what it was stays recorded.

    Example: spymaster zone remove gap-fill
    """
    done = asked(load(data_root, wal_root).wal_root, "zone.remove", {"zone": zone})
    _print_zone(done, f"{done['zone']} is removed.", as_json=as_json)


def zone_list(
    data_root: DataRoot = None, wal_root: WalRoot = None, form: AsFormat = None, as_json: AsJson = False
) -> None:
    """List the hot zones that the running daemon judges.

    Example: spymaster zone list
    """
    form = chosen(form, as_json=as_json)
    found = asked(load(data_root, wal_root).wal_root, "zones")
    if form is Format.JSON:
        print_json(found)
        return
    rows = [[found["underlying"], each["zone"], each["price"]] for each in found["zones"]]
    show_rows(["underlying", "zone", "price"], rows, form)


def _print_zone(done: Mapping[str, Any], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        print(line)


def asked(folder: Path, command: str, values: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return what the running daemon answers.

    Raises:
        UsageError: none runs.
        ControlError: it gives no answer, or says why it cannot.
    """
    from spymaster import control

    answer = control.ask(folder, command, values=values)
    if answer is None:
        raise UsageError(f"no daemon records in {folder}. Nothing was done. Next: spymaster run, then ask again")
    return answer


def _snaps(folder: Path, values: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    """Yield each snap once, from the newest on, until the daemon ends; one that has none yet is waited for."""
    from spymaster import control

    before_ns, begun = 0, False
    while True:
        began_s = clock.monotonic_s()
        try:
            snap = control.ask(folder, "signals", values=values)
        except ControlError as error:
            if "no snap yet" not in str(error):
                raise
            snap = {"ts_event_ns": before_ns}
        if snap is None:
            if begun:
                return
            raise UsageError(f"no daemon records in {folder}. Nothing was done. Next: spymaster run, then ask again")
        begun = True
        if snap["ts_event_ns"] != before_ns:
            before_ns = snap["ts_event_ns"]
            yield snap
        time.sleep(max(POLL_S - (clock.monotonic_s() - began_s), 0.01))


def _print_snap(snap: Mapping[str, Any], form: Format | None) -> None:
    if form is Format.JSON:
        print(json_text(plain(snap)), flush=True)
        return
    print(levels.head(snap))
    show_rows(levels.COLUMNS, levels.rows(snap["levels"]), form)


def _redrawn(snap: Mapping[str, Any], form: Format | None) -> None:
    """Print a snap over the one before."""
    print("\x1b[H\x1b[2J", end="")
    _print_snap(snap, form)

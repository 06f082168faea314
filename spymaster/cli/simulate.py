"""What simulates: `simulate-day`."""

from datetime import date as calendar_date
from pathlib import Path
from typing import Annotated

import typer

from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import Count, Format, print_json, progress, show_rows
from spymaster.errors import UsageError


def simulate_day(
    date: Annotated[str, typer.Option(help="The UTC date, YYYY-MM-DD.")],
    path: Annotated[Path, typer.Option("--out", help="A new folder.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 1,
    rate: Annotated[int | None, typer.Option(min=1, help="DBN records per second; default: 100.")] = None,
    plant: Annotated[
        str | None,
        typer.Option(help="What to plant: all, kinds joined by +, contests; classic for the first market."),
    ] = None,
    strength: Annotated[str | None, typer.Option(help="By how much it is planted, up to 1; default: 1.")] = None,
    price: Annotated[str | None, typer.Option(help="calm: the price moves 15 times a minute, not 90.")] = None,
    begin: Annotated[str, typer.Option(help="From this minute of the day, HH:MM in UTC.")] = "00:00",
    end: Annotated[str, typer.Option(help="Before this minute.")] = "24:00",
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> None:
    """Write a day of the simulated market as the vendors' files: DBN, flat files, chain pages, and what was planted.

    Example: spymaster simulate-day --date 2025-12-16 --out /tmp/day --plant all
    """
    from spymaster.paths import check_date
    from spymaster.simulation.day import DAY_RATE, write_day
    from spymaster.simulation.plant import USUAL_PRICE, parse_plant, parse_price, parse_strength
    from spymaster.simulation.source import MAX_RATE

    form = chosen(form, as_json=as_json)
    load(data_root, wal_root)
    rate = DAY_RATE if rate is None else rate
    if rate > MAX_RATE:
        raise UsageError(f"--rate {rate} is too much. Nothing was written. Next: give 1 to {MAX_RATE}")
    day = calendar_date.fromisoformat(check_date(date))
    kinds = parse_plant(plant) if plant is not None else ()
    times = parse_strength(strength, kinds) if strength is not None else 1.0
    moving = parse_price(USUAL_PRICE if price is None else price)
    with progress("seconds", as_json=form is Format.JSON) as advance:
        written = write_day(day, path, seed, rate, kinds, advance, (_minute(begin), _minute(end)), times, moving)
    if form is Format.JSON:
        print_json({"out": str(written.out), "rows": written.rows, "truths": written.truths, "files": written.files})
        return
    pages = [entry for entry in written.files if entry["path"].startswith("chain/")]
    rows = [
        [entry["path"], Count(entry["rows"]), Count(entry["bytes"])] for entry in written.files if entry not in pages
    ]
    sums = (Count(sum(entry[name] for entry in pages)) for name in ("rows", "bytes"))
    show_rows(["file", "rows", "bytes"], [*rows, [f"chain/*.json ({len(pages):,} pages)", *sums]], form)


def _minute(text: str) -> int:
    hours, colon, minutes = text.partition(":")
    if not (colon and text.isascii() and hours.isdigit() and minutes.isdigit()) or int(minutes) >= 60:
        raise UsageError(f"{text!r} is no minute of a day. Nothing was written. Next: give it as HH:MM, e.g. 14:30")
    return int(hours) * 60 + int(minutes)

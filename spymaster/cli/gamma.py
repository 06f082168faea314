"""`gamma`: what dealers have to hedge, by strike, as the running daemon knows it."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from spymaster import clock
from spymaster.cli import levels
from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import Format, print_json, show_rows
from spymaster.cli.pictures import figure_for
from spymaster.cli.watch import asked

MOST_SHOWN: Final = 40  # strikes, the nearest to the spot; JSON has all
COLUMNS: Final = ("strike", "by open interest", "by volume", "by flow", "flow since open", "is")


def gamma_command(
    plot: Annotated[
        Path | None, typer.Option(help="Draw it into this file, .png or .svg; needs spymaster[plots].")
    ] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> None:
    """Show dealer gamma by strike, from open interest, from volume and from flow; walls, flip, and what they rest on.

    More than 0: dealers are long, sell rallies and buy breaks. docs/engines.md defines each number.

    Example: spymaster gamma --json
    """
    form = chosen(form, as_json=as_json)
    found = asked(load(data_root, wal_root).wal_root, "gamma")
    if plot is not None:
        _draw(found, plot)
    if form is Format.JSON:
        print_json(found)
        return
    for line in head(found):
        print(line)
    show_rows(COLUMNS, rows(found), form)


def head(found: Mapping[str, Any]) -> list[str]:
    """Return whose snap it is; walls and flip; pressure and fuel; what they rest on: a line each."""
    shares, fuel, turn = found["shares"], found["fuel"], found["flow_turn"]
    looked = "never" if found["looked_ns"] is None else f"{clock.utc_text(found['looked_ns'])[11:19]} UTC"
    told = ", ".join(f"{count:,} {how}" for how, count in shares["aggressor"].items() if count)
    vols = ", ".join(f"{count:,} {source}" for source, count in shares["volatility"].items() if count)
    net = "" if fuel["net"] is None else f" (net {fuel['net']:+.2f} +- {fuel['error']:.2f}, {fuel['prints']:.0f} speak)"
    lines = [
        levels.quote(found),
        f"call wall {_price(found['call_wall'])}, put wall {_price(found['put_wall'])}, "
        f"flip {_price(found['gamma_flip'])}; looked at {looked}",
        f"pressure {found['pressure']:,.0f} units a point, {found['pressure_change']:+,.0f} in a minute; "
        f"fuel {fuel['effect']}{net}",
        f"{shares['prints']:,} prints; aggressor by {told or 'nothing'}",
        f"volatility by {vols or 'nothing'}; {shares['open_interest_valued']:,} of {shares['open_interest']:,} "
        f"contracts of open interest valued",
    ]
    if turn is not None:
        lines.append(
            f"flow turned at {clock.utc_text(turn['ts_event_ns'])[11:19]} UTC: dealers {_side(turn['dealers'])}"
        )
    return lines


def _side(dealers: int) -> str:
    return "long" if dealers > 0 else "short"


def _price(price: float | None) -> str:
    return "none" if price is None else f"{price:g}"


def rows(found: Mapping[str, Any], most: int = MOST_SHOWN) -> list[list[Any]]:
    """Return the strikes nearest to the spot, the highest first."""
    spot = levels.spot(found)
    near = sorted(found["strikes"], key=lambda row: 0.0 if spot is None else abs(row["strike"] - spot))[:most]
    named = {found["call_wall"]: "CALL_WALL", found["put_wall"]: "PUT_WALL"}
    if found["call_wall"] == found["put_wall"] is not None:
        named[found["call_wall"]] = "CALL_WALL, PUT_WALL"
    figures = ("open_interest", "volume", "flow", "flow_open")
    return [
        [row["strike"], *(round(row[name], 1) for name in figures), named.get(row["strike"])]
        for row in sorted(near, key=lambda row: -row["strike"])
    ]


def _draw(found: Mapping[str, Any], file: Path) -> None:
    """Draw the strikes near the spot.

    Raises:
        UsageError: matplotlib is not there, or the file's ending is none of a picture.
    """
    figure = figure_for(file, 9, 7)
    near = rows(found)
    strikes = [row[0] for row in near]
    axes = figure.subplots(1, 3, sharey=True)
    titles = ("open interest", "volume", "flow since the open")
    for part, title, column in zip(axes, titles, (1, 2, 4), strict=True):
        values = [row[column] for row in near]
        part.barh(
            strikes, values, height=_height(strikes), color=["#2a78b5" if value > 0 else "#c2473d" for value in values]
        )
        part.axvline(0, color="#888888", linewidth=0.8)
        part.set_title(f"by {title}")
        part.set_xlabel("dealer gamma, units a point")
        for price, style in ((levels.spot(found), "-"), (found["gamma_flip"], ":")):
            if price is not None:
                part.axhline(price, color="#444444", linewidth=0.9, linestyle=style)
    axes[0].set_ylabel("strike; the line is the spot, dots are the flip")
    figure.suptitle(levels.quote(found))
    figure.savefig(file)


def _height(strikes: list[Any]) -> float:
    gaps = [abs(one - other) for one, other in pairwise(strikes)]
    return 0.8 * min(gaps, default=1.0)

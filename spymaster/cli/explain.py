"""`explain`: the rows that made a level's score at a time, where they lie, and a picture of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from spymaster import clock
from spymaster.cli.explained_picture import draw
from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import FINDINGS, OK, Format, print_json, show_rows
from spymaster.cli.pictures import figure_for
from spymaster.errors import UsageError

MOST_SHOWN: Final = 20  # rows of a part; JSON has up to 1,000
PARTS: Final = ("barrier", "tape", "fuel")
_COLUMNS: Final = {
    "barrier": ("price", "what", "before", "after", "added", "canceled", "filled"),
    "tape": ("price", "size", "aggressor"),
    "fuel": ("option", "price", "size", "customer", "gamma"),
}
_PLACE: Final = ("capture", "its row", "part", "row in it")
_SIDES: Final = {1: "buyer", -1: "seller", 0: ""}


def explain_command(
    level: Annotated[str, typer.Argument(help="Its id or its price, e.g. VWAP, ROUND_6900 or 6900.")],
    at: Annotated[str, typer.Option("--at", help="UTC, e.g. 2025-12-16T14:30:00.25Z, or nanoseconds.")],
    plot: Annotated[
        Path | None, typer.Option(help="Draw it into this file, .png or .svg; needs spymaster[plots].")
    ] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> int:
    """Explain a level's score at a time: the book updates, trades and option prints behind it, and where each lies.

    The snap is worked again, then its parts from these rows alone. Exit code 1: the two differ, or Gold has another
    row. docs/engines.md says what is not traced.

    Example: spymaster explain ROUND_6900 --at 2025-12-16T14:30:00Z
    """
    form = chosen(form, as_json=as_json)
    loaded = load(data_root, wal_root)
    try:
        at_ns = clock.utc_ns(at)
    except ValueError:
        raise UsageError(
            f"{at!r} is not a time. Nothing was explained. Next: give UTC as in 2025-12-16T14:30:00Z, or nanoseconds"
        ) from None
    figure = None if plot is None else figure_for(plot, 11, 7)  # before anything is worked
    from spymaster.engines.profile import profile_named
    from spymaster.signals.explain import MOST_ROWS, explain

    most = MOST_ROWS if form is Format.JSON else MOST_SHOWN
    found = explain(loaded.data_root, loaded.wal_root, profile_named(loaded.profile), level, at_ns, most)
    if figure is not None:
        draw(found, figure)
        figure.savefig(plot)
    if form is Format.JSON:
        print_json(found.document)
    else:
        _print(found.document, form)
    whole = found.document["recomputed"] == "same" and found.document["gold"]["same"] is not False
    return OK if whole else FINDINGS


def _print(document: Mapping[str, Any], form: Format | None) -> None:
    captures = {each["capture_id"]: f"c{at}" for at, each in enumerate(document["captures"], 1)}
    parts: dict[str, str] = {}
    for line in (*_head(document), *_made(document)):
        print(line)
    for name in PARTS:
        part = document[name]
        print()
        print(_part(name, part))
        for line in _recomputed(part):
            print(line)
        if part["rows"]:
            columns = ("time, UTC", *_COLUMNS[name], *_PLACE)
            show_rows(columns, [_row(name, row, captures, parts) for row in part["rows"]], form)
        if len(part["rows"]) < part["rows_in_all"]:
            print(f"the largest {len(part['rows'])} of {part['rows_in_all']:,} rows; more with --json")
    print()
    for capture in document["captures"]:
        content = "" if capture["content_sha256"] is None else f", sha256 {capture['content_sha256']}"
        origin = f"{capture['source']} from {capture['origin']}"
        print(f"{captures[capture['capture_id']]}: capture {capture['capture_id']} of {origin}{content}")
    for key, short in parts.items():
        print(f"{short}: {key}")
    print(f"not traced: {'; '.join(document['not_traced'])}")


def _head(document: Mapping[str, Any]) -> list[str]:
    level, gold, score = document["level"], document["gold"], document["score"]
    at, since = (clock.utc_text(document[name]) for name in ("ts_event_ns", "whole_since_ns"))
    state = f"VOID: {document['void_reason']}" if document["void_reason"] else "sound"
    seen = f", {len(document['seen'])} of them" if document["seen"] else ""
    if gold["part"] is None:
        where = f"not there: {gold['why']}"
    else:
        same = {True: "the same", False: "ANOTHER row than is made now", None: gold["why"]}[gold["same"]]
        where = f"{gold['part']} row {gold['row']}, {same}"
    return [
        f"{level['id']} at {level['price']:g} of {document['underlying']}, {document['contract']}, {at}",
        _points(score),
        f"{state}, whole since {since}; known by the {document['known']}{seen}",
        f"Gold: {where}",
        f"worked again from the rows: {document['recomputed']}",
    ]


def _points(score: Mapping[str, Any]) -> str:
    if score["raw"] is None:
        return "void: it has no score"
    points = " ".join(f"{score[name]:+.2f} {name}" for name in PARTS)
    before = "" if score["smooth_before"] is None else f" ({score['smooth_before']:.2f} at the snap before)"
    return (
        f"{score['no_evidence']:g} {points} = {score['raw']:.2f}, smoothed {score['smooth']:.2f}{before}; "
        f"{score['signal']}, confidence {score['confidence']:.2f}"
    )


def _made(document: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in document["level"]["made_by"]:
        since = "" if one["since_ns"] is None else f", there since {clock.utc_text(one['since_ns'])}"
        rows = [f": {_key(row)}, {_lies(row)}" for row in one["rows"]]
        lines.append(f"{one['id']} is made of {one['of']}{since}{''.join(rows)}")
    return lines


def _key(row: Mapping[str, Any]) -> str:
    at = clock.utc_text(row["ts_event_ns"])
    return f"{row['what']} of {at}, capture {row['capture_id']} row {row['capture_seq']}"


def _lies(row: Mapping[str, Any]) -> str:
    return "in the log" if row["bronze"] is None else f"{row['bronze']['part']} row {row['bronze']['row']}"


def _part(name: str, part: Mapping[str, Any]) -> str:
    """Return what a part is, a line."""
    points = "no points" if part["points"] is None else f"{part['points']:+.2f} points"
    void = f", void: {part['void']}" if part["void"] else ""
    counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in part["counts"].items() if count)
    said = {
        "barrier": lambda: (
            f"{part['state']}, held {part['held_state'] or 'nothing'}, {part['barrier_side'] or 'no side'}"
            + (f" {part['zone'][0]:g} to {part['zone'][-1]:g}" if part["zone"] else "")
        ),
        "tape": lambda: "imbalance " + ("none" if part["tape_imbalance"] is None else f"{part['tape_imbalance']:+.3f}"),
        "fuel": lambda: f"{part['fuel']}, strikes within {part['near_ticks']} ticks",
    }[name]()
    return f"{name}: {points}{void}; {said}; {part['window_s']} s: {counts or 'nothing'}"


def _recomputed(part: Mapping[str, Any]) -> list[str]:
    checks = part["recomputed"]
    if not checks:
        return []
    values = ", ".join(f"{name} {_number(check['recomputed'])}" for name, check in checks.items())
    wrong = [name for name, check in checks.items() if check["row"] != check["recomputed"]]
    said = ", ".join(f"{name} is {_number(checks[name]['row'])} there" for name in wrong)
    return [f"  from the rows: {values}: {said or 'the same'}"]


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _row(name: str, row: Mapping[str, Any], captures: Mapping[int, str], parts: dict[str, str]) -> list[Any]:
    """Return a row of a part's table; captures and files have short names there, which are given to new files."""
    values = {**row, **{key: _SIDES[row[key]] for key in ("aggressor", "customer") if key in row}}
    short, at = "log", None
    if row["bronze"] is not None:
        short, at = parts.setdefault(row["bronze"]["part"], f"p{len(parts) + 1}"), row["bronze"]["row"]
    place = [captures.get(row["capture_id"], str(row["capture_id"])), row["capture_seq"], short, at]
    return [clock.utc_text(row["ts_event_ns"])[11:-1], *(values.get(column) for column in _COLUMNS[name]), *place]

"""`datasets`: what is made of whole sessions, for whoever studies or trains on it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import (
    CANNOT_PROCEED,
    FINDINGS,
    OK,
    Count,
    Format,
    failing_with,
    print_json,
    progress,
    remark,
    show_rows,
)
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.signals.datasets.build import Made


@failing_with(CANNOT_PROCEED)
def datasets_command(
    date: Annotated[str | None, typer.Option(help="This session, by its trading day, YYYY-MM-DD.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every session.")] = False,
    only: Annotated[str | None, typer.Option(help="Only this data set, e.g. ohlcv.")] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> int:
    """Make the data sets of sessions, of those that changed. Exit 0 done, 1 a session was refused, 4 could not.

    Bars and books are made of Silver as it is: run `compact` before. Levels and touches are those of setting PROFILE.
    Each data set is a view: ohlcv, book_1s, levels, touches, controls, outcomes.

    Example: spymaster datasets --date 2025-12-22
    """
    from spymaster.compaction import compactor
    from spymaster.engines.profile import profile_named
    from spymaster.signals.datasets import build

    form = chosen(form, as_json=as_json)
    if (date is None) == (not every):
        raise UsageError("name one date, or all. Nothing was made. Next: spymaster datasets --date YYYY-MM-DD or --all")
    loaded = load(data_root, wal_root)
    with compactor.lock(loaded.data_root), progress("sessions", as_json=form is Format.JSON) as advance:
        profile = profile_named(loaded.profile)
        found = build.make(loaded.data_root, loaded.wal_root, profile, date=date, only=only, progress=advance)
    if form is Format.JSON:
        print_json({"datasets": [_document(each) for each in found]})
    else:
        _print(found, form)
    return FINDINGS if any(each.status == "refused" for each in found) else OK


def _document(made: "Made") -> dict[str, Any]:
    return {**made._asdict(), "of": list(made.of[:-1]), "date": made.of[-1], "seconds": round(made.seconds, 3)}


def _print(found: list["Made"], form: Format | None) -> None:
    """Print a row for each data set and what it is of, and a line for each session that was refused."""
    groups: dict[tuple[str, ...], list[Made]] = {}
    for made in found:
        groups.setdefault((made.dataset, *made.of[:-1]), []).append(made)
    rows = [
        [
            name, " ".join(of), Count(len(own)), Count(sum(each.status == "made" for each in own)),
            Count(sum(each.rows for each in own)), Count(sum(each.size_bytes for each in own)),
            round(sum(each.seconds for each in own), 2),
        ]
        for (name, *of), own in groups.items()
    ]  # fmt: skip
    if rows:
        show_rows(["data set", "of", "sessions", "new", "rows", "bytes", "seconds"], rows, form)
    for made in found:
        if made.reason is not None:
            remark(f"refused: {made.reason}")
    print(f"{len(found):,} files of sessions, {sum(made.status == 'made' for made in found):,} of them new or changed.")

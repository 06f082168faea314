"""`levels-report`: how often levels break and hold, from the touches on record."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import Count, Format, print_json, show_rows
from spymaster.cli.pictures import figure_for
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.signals.datasets.report import Report, Share, Tally

COLUMNS: Final = ("touches of", "touches", "broke", "95 %", "held", "of 95 %", "neither")


def levels_report_command(
    date: Annotated[str | None, typer.Option(help="This session alone, by its trading day, YYYY-MM-DD.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="The first session.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last session, included.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it into this file, .png or .svg; needs spymaster[plots].")
    ] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> None:
    """Show how many touches broke and held, per kind of level and band of score, beside levels at random prices.

    Of setting PROFILE, from the touches that `spymaster datasets` keeps, of every session if no date is given. Shares
    have Wilson's interval of 95 %. docs/datasets.md says what counts.

    Example: spymaster levels-report --from 2025-12-01 --to 2025-12-22
    """
    from spymaster.engines.profile import profile_named
    from spymaster.signals.datasets.report import report

    form = chosen(form, as_json=as_json)
    if date is not None and (first, last) != (None, None):
        raise UsageError("--date and a span exclude each other. Nothing was read. Next: give one of them")
    loaded = load(data_root, wal_root)
    first, last = (date, date) if date is not None else (first, last)
    found = report(loaded.data_root, loaded.wal_root, profile_named(loaded.profile), first, last)
    if plot is not None:
        _draw(found, plot)
    if form is Format.JSON:
        print_json(_document(found))
        return
    show_rows(COLUMNS, [_row(name, tally) for name, tally in _groups(found)], form)
    print(_summary(found))


def _groups(found: "Report") -> list[tuple[str, "Tally"]]:
    return [
        *((each.name, each) for each in found.kinds),
        *((f"score {each.name}", each) for each in found.bands),
        ("levels at random prices", found.control),
    ]


def _row(name: str, tally: "Tally") -> list[object]:
    shares = (text for share in (tally.broke, tally.held) for text in (_percent(share.share), _interval(share)))
    return [name, Count(tally.touches), *shares, Count(tally.neither)]


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _interval(share: "Share") -> str | None:
    return None if share.share is None else f"{share.low:.1%} to {share.high:.1%}"


def _summary(found: "Report") -> str:
    if not found.sessions:
        return f"{found.profile}: no session on record. Next: spymaster datasets --all"
    count = len(found.sessions)
    of = f"{count:,} sessions, {found.sessions[0]} to {found.sessions[-1]}" if count > 1 else found.sessions[0]
    return (
        f"{found.profile}, {of}: {found.touches:,} touches count. Left out: {found.not_whole:,} of data that was not "
        f"whole, {found.unknown:,} whose price was lost, {found.waiting:,} without an outcome yet."
    )


def _document(found: "Report") -> dict[str, Any]:
    left_out = {name: getattr(found, name) for name in ("unscored", "not_whole", "unknown", "waiting")}
    return {
        "profile": found.profile,
        "sessions": list(found.sessions),
        "touches": found.touches,
        "kinds": [_tally(each) for each in found.kinds],
        "scores": [_tally(each) for each in found.bands],
        "control": _tally(found.control),
        **left_out,
    }


def _tally(tally: "Tally") -> dict[str, Any]:
    return {
        "name": tally.name, "touches": tally.touches, "breaks": tally.breaks, "rejects": tally.rejects,
        "neither": tally.neither, "mean_score": tally.score, "break_rate": tally.broke._asdict(),
        "hold_rate": tally.held._asdict(),
    }  # fmt: skip


def _draw(found: "Report", file: Path) -> None:
    """Draw how many break and hold by score, beside what random levels do, and how many break by kind.

    Raises:
        UsageError: matplotlib is not there, or the file's ending is none of a picture.
    """
    figure = figure_for(file, 11, 5)
    by_score, by_kind = figure.subplots(1, 2, width_ratios=(3, 2))
    scored = [each for each in found.bands if each.touches]
    for name, colour, shares in (
        ("broke", "#2a78b5", [each.broke for each in scored]), ("held", "#c2473d", [each.held for each in scored]),
    ):  # fmt: skip
        _points(by_score, [each.score or 0 for each in scored], shares, name, colour)
    for share, colour in ((found.control.broke, "#2a78b5"), (found.control.held, "#c2473d")):
        by_score.axhspan(share.low, share.high, color=colour, alpha=0.12, linewidth=0)
    by_score.set(xlim=(0, 100), ylim=(0, 1), xlabel="mean score of the band", ylabel="share of touches")
    by_score.set_title("by score; shaded: levels at random prices, 95 %")
    by_score.legend()
    kinds = [each for each in (*found.kinds, found.control) if each.touches][::-1]
    for at, each in enumerate(kinds):
        by_kind.plot([each.broke.low, each.broke.high], [at, at], color="#2a78b5")
        by_kind.plot([each.broke.share or 0], [at], "o", color="#2a78b5")
    by_kind.set_yticks(range(len(kinds)), [f"{each.name} ({each.touches:,})" for each in kinds])
    by_kind.set(xlim=(0, 1), xlabel="share that broke")
    by_kind.set_title("by kind")
    figure.suptitle(_summary(found).partition(". ")[0])
    figure.savefig(file)


def _points(axes: Any, at: list[float], shares: "list[Share]", name: str, colour: str) -> None:
    middle = [each.share or 0 for each in shares]
    below = [one - each.low for one, each in zip(middle, shares, strict=True)]
    above = [each.high - one for one, each in zip(middle, shares, strict=True)]
    axes.errorbar(at, middle, yerr=[below, above], fmt="o-", color=colour, label=name, capsize=3)

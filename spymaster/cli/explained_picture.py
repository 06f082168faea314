"""The picture of an explanation: price and level of the minute before, the zone's book, prints, and the points."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from spymaster import clock
from spymaster.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spymaster.signals.explain import Explained

_UP, _DOWN, _PLAIN = "#2a78b5", "#c2473d", "#888888"
_COLORS: Final = {1: _UP, -1: _DOWN, 0: _PLAIN}
_LARGEST: Final = 300.0  # points squared, of the dot of the largest print


def draw(found: "Explained", figure: "Figure") -> None:
    """Draw an explanation into an empty figure, some 11 by 7 inches."""
    (price, points), (depth, book) = figure.subplots(2, 2, width_ratios=(3, 1))
    _price(price, found)
    _points(points, found)
    _depth(depth, found)
    _book(book, found)
    document = found.document
    figure.suptitle(f"{found.level_id} at {clock.utc_text(document['ts_event_ns'])}, {document['score']['signal']}")


def _price(axes: Any, found: "Explained") -> None:
    """Draw the mid and the prints of the tape's window, and where the level was."""
    at_ns, tick = found.document["ts_event_ns"], found.tick
    seconds = [(snap.snap_ns - at_ns) / NS_PER_SECOND for snap in found.moment.snaps]
    axes.plot(seconds, [_nan(snap.spot) for snap in found.moment.snaps], color="#444444", linewidth=0.9)
    axes.step(seconds, _series(found, "price"), where="post", color="#b8860b", linewidth=1.4)
    if found.on_book:  # a stock's prices are not the book's
        most = max((row.size for row in found.trace.tape), default=1)
        axes.scatter(
            [(row.ts_ns - at_ns) / NS_PER_SECOND for row in found.trace.tape],
            [(row.price or 0) * tick for row in found.trace.tape],
            s=[_LARGEST * row.size / most for row in found.trace.tape],
            color=[_COLORS[row.side] for row in found.trace.tape],
            alpha=0.4,
        )
    axes.set_ylabel("price; the level is gold, prints are dots")
    axes.set_xlabel("seconds to the snap")


def _depth(axes: Any, found: "Explained") -> None:
    """Draw what stood in the zone against what is typical, and the score above."""
    at_ns = found.document["ts_event_ns"]
    seconds = [(snap.snap_ns - at_ns) / NS_PER_SECOND for snap in found.moment.snaps]
    axes.step(seconds, _series(found, "depth"), where="post", color=_UP, label="in the zone")
    axes.plot(seconds, _series(found, "typical_depth"), color=_PLAIN, linestyle=":", label="typical")
    axes.set_ylabel("contracts")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds to the snap")
    score = axes.twinx()
    score.plot(seconds, _series(found, "score"), color=_DOWN, linewidth=1.0, label="score")
    score.set_ylim(0, 100)
    score.set_ylabel("score, red")
    axes.legend(loc="upper left")


def _points(axes: Any, found: "Explained") -> None:
    """Draw the parts of the score as bars."""
    score = found.document["score"]
    names = ("barrier", "tape", "fuel")
    values = [score[name] or 0.0 for name in names]
    axes.bar(names, values, color=[_UP if value > 0 else _DOWN for value in values])
    axes.axhline(0, color=_PLAIN, linewidth=0.8)
    axes.set_ylim(-50, 50)
    raw = "void" if score["raw"] is None else f"50 and these: {score['raw']:.1f}"
    axes.set_title(raw)


def _book(axes: Any, found: "Explained") -> None:
    """Draw the zone's sizes at the snap."""
    barrier = found.document["barrier"]
    if barrier["zone"]:
        prices, sizes = zip(*sorted(zip(barrier["zone"], barrier["book"]["sizes"], strict=True)), strict=True)
        axes.barh([f"{price:g}" for price in prices], sizes, color=_UP)
    axes.set_title(f"the zone, {barrier['state']}")
    axes.set_xlabel("contracts")


def _series(found: "Explained", column: str) -> Sequence[float]:
    """Return a column of the level in the snaps of the minute before; NaN where it was not judged."""
    values = []
    for snap in found.moment.snaps:
        rows = zip(snap.levels.column("id").to_pylist(), snap.levels.column(column).to_pylist(), strict=True)
        values.append(_nan(dict(rows).get(found.level_id)))
    return values


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value

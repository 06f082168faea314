"""Draws the pictures of docs/engines.md into docs/pictures: `python -m docs.draw_engines [NAME]...`.

It needs matplotlib, the extra `plots`. A picture is a function of its seed, and has no date. That of a recorded session
is drawn where its file lies, into a file of yours, as a vendor's data is not ours to publish:

    python -m docs.draw_engines --dbn ESH4_mbp-10.dbn.zst --out session.png
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from PIL import Image

from docs.engine_runs import TICK, LevelRun, Market, Run, eaten, of_file, simulated
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.passage import BREAK, OUTCOMES, REJECT, first_passage
from spymaster.engines.passage import Path as MidPath
from spymaster.engines.profile import profile_named

PICTURES: Final = Path(__file__).parent / "pictures"
SIM: Final = profile_named("SIM")
# Told apart by those who see fewer colours (Okabe and Ito), on the white that each picture brings along.
COLOURS: Final = {
    "WEAK": "#e69f00", "CONSUMED": "#d55e00", "VACUUM": "#cc79a7", "WALL": "#0072b2", "ABSORPTION": "#009e73",
    "VOID": "#999999", "BREAK": "#d55e00", "REJECT": "#0072b2", "CONTESTED": "#009e73", "NEITHER": "#999999",
}  # fmt: skip
INK, SOFT = "#222222", "#8a8a8a"
STYLE: Final = {
    "font.size": 9, "axes.formatter.useoffset": False, "axes.titlesize": 10, "axes.grid": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.edgecolor": SOFT, "axes.spines.top": False,
    "axes.spines.right": False, "lines.linewidth": 1.4, "legend.frameon": False, "legend.fontsize": 8,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip


class Scene(NamedTuple):
    """A state, where it can be seen.

    Attributes:
        state: which.
        market: in which simulated market; None of the one that is written by hand.
        price: of the level, index points.
        begin: of the picture, seconds of the market.
        end: likewise.
        ratio: what decides, a column.
        says: how the axis calls it.
        bound: of it, in the profile.
    """

    state: str
    market: Market | None
    price: float
    begin: float
    end: float
    ratio: str
    says: str
    bound: float


SHOWN: Final = Market("walls+vacuums", 3, 500, 190, (6896.0, 6900.0, 6902.5))
ABSORBED: Final = Market("absorption", 5, 500, 160, (6898.75, 6902.25))
STOPPED: Final = Market("halts+crossed", 2, 200, 150)
SWEPT: Final = Market("sweeps+jumps", 3, 500, 150, (6900.0,))
CONTESTED: Final = Market("contests", 5, 200, 420)
MIXED: Final = Market("walls+vacuums+absorption+sweeps", 3, 500, 300)
_DPI: Final = 120
_MOST_OFF: Final = 8  # of 255, of a colour; not to be seen
_TOUCHES: Final = 20  # more lines hide each other
DEPTH: Final = "depth / typical depth"

SCENES: Final = {
    "wall": Scene("WALL", SHOWN, 6902.5, 114, 134, "wall_ratio", "largest size / typical size", SIM.barrier.wall_typ),
    "absorption": Scene(
        "ABSORPTION", ABSORBED, 6898.75, 125, 147, "eaten_ratio", "share of 5 s' volume", SIM.barrier.absorption_share
    ),
    "vacuum": Scene("VACUUM", SHOWN, 6900.0, 170, 190, "depth_ratio", DEPTH, SIM.barrier.vacuum_depth),
    "consumed": Scene("CONSUMED", None, 6900.25, 70, 84, "depth_ratio", DEPTH, SIM.barrier.consumed_depth),
    "weak": Scene("WEAK", ABSORBED, 6902.25, 148, 160, "depth_ratio", DEPTH, SIM.barrier.weak_depth),
}


def draw_state(scene: Scene) -> Figure:
    """Draw a level through a state: the mid, depth against typical depth, what flowed, what decides."""
    run = eaten() if scene.market is None else simulated(scene.market)
    level = run.level(scene.price).between(scene.begin, scene.end)
    figure, axes = _panels((1.0, 1.1, 1.1, 1.0), height=6.4)
    price, depth, flow, ratio = axes
    inside = (run.times >= scene.begin) & (run.times <= scene.end)
    price.step(run.times[inside], run.spot[inside], where="post", color=INK, label="mid")
    price.axhline(scene.price, color=COLOURS[scene.state], linestyle="--", label=f"level {scene.price:.2f}")
    price.set_ylabel("index points")
    shown = (*run.spot[inside], scene.price)
    price.set_ylim(min(shown) - 0.5, max(shown) + 0.5)
    _steps(depth, level, "depth", INK, "depth of the zone")
    _steps(depth, level, "typical_depth", SOFT, "typical depth", linestyle="--")
    depth.set_ylabel("contracts")
    depth.set_ylim(bottom=0)
    for name, colour in (("added", "#009e73"), ("canceled", "#cc79a7"), ("filled", "#d55e00")):
        _steps(flow, level, f"{name}_5s", colour, f"{name} in 5 s")
    flow.set_ylabel("contracts in 5 s")
    flow.set_ylim(bottom=0)
    _steps(ratio, level, scene.ratio, INK, scene.says)
    ratio.axhline(scene.bound, color=COLOURS[scene.state], linestyle=":", label=f"{scene.state} at {scene.bound:g}")
    ratio.set_ylabel("ratio")
    ratio.set_ylim(bottom=0)
    ratio.set_xlabel("s of the market")
    seen, held = level.words("state") == scene.state, level.words("held_state") == scene.state
    for ax in axes:
        _spans(ax, level.times, seen & ~held, COLOURS[scene.state], 0.14, None)
        _spans(ax, level.times, held, COLOURS[scene.state], 0.32, None)
        ax.set_xlim(scene.begin, scene.end)
        ax.xaxis.set_major_locator(MultipleLocator(2))
        _legend(ax)
    figure.suptitle(f"{scene.state}: shaded light where it is seen, dark where it holds")
    return figure


def draw_score() -> Figure:
    """Draw the points of the vacuum's level, the score they add up to, smoothed, and its trigger."""
    scene = SCENES["vacuum"]
    level = simulated(SHOWN).level(scene.price).between(scene.begin, scene.end)
    figure, (points, score) = _panels((1.0, 1.4), height=4.4)
    _steps(points, level, "points_barrier", COLOURS["VACUUM"], "barrier")
    _steps(points, level, "points_tape", COLOURS["WALL"], "tape")
    points.set_ylabel("points")
    _steps(score, level, "score_raw", SOFT, "score_raw: 50 + points")
    _steps(score, level, "score", INK, "score: smoothed")
    rules = SIM.score
    for bound, style, says in (
        (rules.break_points, "--", f"BREAK at {rules.break_points:g} for {rules.hold_s:g} s"),
        (rules.break_release_points, ":", f"released below {rules.break_release_points:g}"),
    ):
        score.axhline(bound, color=COLOURS["BREAK"], linestyle=style, linewidth=1, label=says)
    broke = level.words("signal") == "BREAK"
    _spans(score, level.times, broke, COLOURS["BREAK"], 0.16, "signal BREAK")
    score.set_ylabel("score, 0 to 100")
    score.set_ylim(40, 90)
    score.set_xlabel("s of the market")
    for ax in (points, score):
        ax.set_xlim(scene.begin, scene.end)
        ax.xaxis.set_major_locator(MultipleLocator(2))
        _legend(ax)
    figure.suptitle("Points, score and trigger of the level of the VACUUM above")
    return figure


def draw_void() -> Figure:
    """Draw when the outputs are void: the session's first minute, a halt, crossed books."""
    run = simulated(STOPPED)
    figure, (price, whole) = _panels((1.3, 1.0), height=3.8)
    price.step(run.times, run.spot, where="post", color=INK, linewidth=1, label="mid of the last sound book")
    price.set_ylabel("index points")
    since = [snap.snap_ns - snap.whole_since_ns for snap in run.snaps]
    whole.step(run.times, np.array(since) / NS_PER_SECOND, where="post", color=INK)
    whole.set_ylabel("whole for, s")
    whole.set_xlabel("s of the market")
    reasons = np.array([snap.void_reason for snap in run.snaps], object)
    shades = {"warm-up": "#dddddd", "not whole": "#f0c674", "halt": "#d55e00", "crossed": "#cc79a7"}
    for reason, colour in shades.items():
        for ax, label in ((price, reason), (whole, None)):
            _spans(ax, run.times, reasons == reason, colour, 0.55, label)
    for ax in (price, whole):
        ax.set_xlim(0, run.times[-1])
    _legend(price)
    figure.suptitle("Void snaps, by their void_reason")
    return figure


def draw_sweep() -> Figure:
    """Draw the prints round a sweep, and the tape of the minute."""
    run = simulated(SWEPT)
    truth = next(one for one in run.truths if one["kind"] == "sweep" and run.seconds(one["begin_ns"]) > 65)
    begin = float(run.seconds(truth["begin_ns"]))
    figure = Figure(figsize=(8.2, 3.2), layout="constrained")
    near, wide = figure.subplots(1, 2, width_ratios=(1.2, 1))
    prints = run.prints()
    mine = (prints["t"] > begin - 1.5) & (prints["t"] < begin + 1.5)
    for side, colour, says in ((1, COLOURS["BREAK"], "a buyer's"), (-1, COLOURS["REJECT"], "a seller's")):
        which = mine & (prints["side"] == side)
        near.scatter(
            prints["t"][which] - begin, prints["price"][which], s=6 + 1.2 * prints["size"][which], color=colour,
            alpha=0.6, linewidths=0, label=says,
        )  # fmt: skip
    near.set(xlabel="s from the sweep", ylabel="index points", title="prints; area by contracts")
    near.legend(loc="best")
    level = run.level(6900.0)
    toward = np.where(level.words("barrier_side") == "bid", -1, 1) * level.numbers("tape_imbalance")
    wide.step(level.times - begin, toward, where="post", color=INK)
    wide.axvspan(0, SIM.tape.sweep_hold_s, color=COLOURS["WEAK"], alpha=0.25, linewidth=0, label="the sweep rules")
    wide.set(xlim=(-6, 8), ylim=(-1.08, 1.08), xlabel="s from the sweep", title="tape imbalance, + is bought")
    wide.legend(loc="best")
    return figure


def draw_passage() -> Figure:
    """Draw what became of touches of round numbers: which of two prices the mid reached first."""
    run, rules = simulated(CONTESTED), SIM.passage
    rows = run.rows.select(["snap_ns", "id", "price", "touched", "direction"]).to_pandas()
    rows = rows[rows["touched"] & rows["id"].str.startswith("ROUND") & (rows["direction"] != 0)].head(_TOUCHES)
    half = 2 / TICK
    known = ~np.isnan(run.spot)
    snaps = np.array([snap.snap_ns for snap in run.snaps], np.int64)
    path = MidPath(snaps[known], np.rint(run.spot[known] * half).astype(np.int64), int(snaps[-1]))
    found = first_passage(
        path, rows["snap_ns"].to_numpy(), np.rint(rows["price"].to_numpy() * half), rows["direction"].to_numpy(),
        2 * rules.distance_ticks, rules.horizon_s * NS_PER_SECOND,
    )  # fmt: skip
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    ax = figure.subplots()
    told: set[str] = set()
    touches = zip(rows.itertuples(), found.outcome.tolist(), found.when_ns.tolist(), strict=True)
    for touch, outcome, when_ns in touches:
        span = (snaps >= touch.snap_ns) & (snaps <= when_ns)
        gone = touch.direction * (run.spot[span] - touch.price) / TICK
        word = OUTCOMES[outcome]
        colour = COLOURS.get(word, SOFT)
        ax.step(
            (snaps[span] - touch.snap_ns) / NS_PER_SECOND, gone, where="post", color=colour, linewidth=1, alpha=0.75,
            label=None if word in told else word,
        )  # fmt: skip
        if outcome in (BREAK, REJECT):
            ax.plot((when_ns - touch.snap_ns) / NS_PER_SECOND, gone[-1], "o", color=colour, markersize=3.5)
        told.add(word)
    for at, colour in ((rules.distance_ticks, COLOURS["BREAK"]), (-rules.distance_ticks, COLOURS["REJECT"])):
        ax.axhline(at, color=colour, linestyle="--", linewidth=1)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set(xlim=(0, rules.horizon_s), xlabel="s after the touch", ylabel="ticks beyond the level")
    _legend(ax)
    figure.suptitle(f"{len(rows)} touches of round numbers, and which of the two prices came first")
    return figure


def draw_session(run: Run) -> Figure:
    """Draw a session: the mid, its levels, what state held at them, and their signals."""
    figure = Figure(figsize=(8.6, 4.6), layout="constrained")
    ax = figure.subplots()
    low, high = np.nanmin(run.spot) - 1, np.nanmax(run.spot) + 1
    rows = run.rows.select(["snap_ns", "id", "price", "held_state", "signal"]).to_pandas()
    rows = rows[(rows["price"] >= low) & (rows["price"] <= high)]
    rows["t"] = run.seconds(rows["snap_ns"].to_numpy())
    for name, one in rows.groupby("id"):
        ax.step(one["t"], one["price"], where="post", color="#c8c8c8", linewidth=0.8, zorder=1)
        ax.annotate(f" {name}", (one["t"].iloc[-1], one["price"].iloc[-1]), fontsize=6, color=SOFT, va="center",
                    annotation_clip=False)  # fmt: skip
    for state in ("WEAK", "CONSUMED", "VACUUM", "WALL", "ABSORPTION"):
        held = rows[rows["held_state"] == state]
        if len(held):
            ax.scatter(held["t"], held["price"], s=14, marker="s", color=COLOURS[state], linewidths=0, label=state,
                       zorder=2)  # fmt: skip
    ax.step(run.times, run.spot, where="post", color=INK, linewidth=0.8, label="mid", zorder=3)
    for signal, marker in (("BREAK", "^"), ("REJECT", "v"), ("CONTESTED", "D")):
        begins = rows[(rows["signal"] == signal) & (rows.groupby("id")["signal"].shift() != signal)]
        if len(begins):
            ax.scatter(begins["t"], begins["price"], s=34, marker=marker, facecolor="white", linewidths=1.4,
                       edgecolor=COLOURS[signal], label=f"{signal} begins", zorder=4)  # fmt: skip
    void = np.array([snap.void_reason is not None for snap in run.snaps])
    _spans(ax, run.times, void, "#bbbbbb", 0.35, "void")
    ax.set(xlim=(0, run.times[-1]), ylim=(low, high), xlabel="s of the session's data", ylabel="index points")
    ax.legend(loc="upper left", bbox_to_anchor=(1.13, 1.02))
    return figure


DRAWN: Final[dict[str, Callable[[], Figure]]] = {
    **{name: partial(draw_state, scene) for name, scene in SCENES.items()},
    "score": draw_score,
    "void": draw_void,
    "sweep": draw_sweep,
    "passage": draw_passage,
    "session": lambda: draw_session(simulated(MIXED)),
}


def save(figure: Figure, path: Path) -> None:
    """Write a picture as PNG of 256 colours: a third of the bytes, and of an SVG with its letters a quarter.

    Raises:
        ValueError: a colour would not be what was drawn, as the usual choice of them gave two states the same one.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    whole = Image.open(drawn).convert("RGB")
    few = whole.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    if (off := int(np.abs(np.subtract(few.convert("RGB"), whole, dtype=np.int16)).max())) > _MOST_OFF:
        raise ValueError(f"{path.name} would have a colour that is {off} of 255 off. Next: save `whole`")
    few.save(path, "PNG", optimize=True)
    print(path)


def _panels(heights: Sequence[float], height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8.2, height), layout="constrained")
    return figure, figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)


def _steps(ax: Any, level: LevelRun, name: str, colour: str, label: str, linestyle: str = "-") -> None:
    ax.step(level.times, level.numbers(name), where="post", color=colour, label=label, linestyle=linestyle)


def _legend(ax: Any) -> None:
    ax.legend(loc="upper left", bbox_to_anchor=(1.005, 1.03), handlelength=1.4)


def _spans(ax: Any, times: Any, which: Any, colour: str, alpha: float, label: str | None) -> None:
    """Shade runs of snaps; what stands at a snap stands until the next."""
    edges = np.flatnonzero(np.diff(which.astype(np.int8), prepend=0, append=0)).tolist()
    for begin, end in list(pairwise(edges))[::2]:
        last = times[min(end, len(times) - 1)]
        ax.axvspan(times[begin], last, color=colour, alpha=alpha, linewidth=0, label=label)
        label = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.draw_engines", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(DRAWN)}; default: all")
    parser.add_argument("--dbn", type=Path, help="draw the session of this MBP-10 file instead")
    parser.add_argument("--out", type=Path, help="where to")
    asked = parser.parse_args()
    if unknown := set(asked.names) - DRAWN.keys():
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    if (asked.dbn is None) != (asked.out is None):
        parser.error("--dbn and --out go together")
    with mpl.rc_context(STYLE):
        if asked.dbn is not None:
            save(draw_session(of_file(asked.dbn)), asked.out)
            return
        for name in asked.names or DRAWN:
            save(DRAWN[name](), PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()

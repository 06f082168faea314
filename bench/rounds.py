"""Interleaved rounds of a measured thing and its baseline: medians, spread and the ratio, as one JSON document.

The machine is shared and noisy, so the ratio of neighbouring rounds is the figure to quote; absolute numbers are good
to about a factor of two.
"""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable

import pyarrow as pa

Figures = dict[str, float]


def interleave(
    measured: Callable[[], Figures], baseline: Callable[[], Figures], rounds: int, rate: str = "rows_per_s"
) -> dict[str, object]:
    """Run both in turn, one uncounted round first.

    Returns:
        For each figure its median, lowest and highest; and the median over rounds of measured `rate` / baseline `rate`.
    """
    measured(), baseline()
    ours: list[Figures] = []
    theirs: list[Figures] = []
    for done in range(rounds):
        ours.append(measured())
        theirs.append(baseline())
        print(f"round {done + 1}/{rounds}", file=sys.stderr)
    ratios = [a[rate] / b[rate] for a, b in zip(ours, theirs, strict=True)]
    return {"measured": spread(ours), "baseline": spread(theirs), "ratio": round(statistics.median(ratios), 3)}


def spread(rounds: list[Figures]) -> dict[str, dict[str, float]]:
    """Return each figure's median, lowest and highest."""
    return {
        name: {
            "median": round(statistics.median(figures[name] for figures in rounds), 3),
            "min": round(min(figures[name] for figures in rounds), 3),
            "max": round(max(figures[name] for figures in rounds), 3),
        }
        for name in rounds[0]
    }


def report(claim: str, results: dict[str, object]) -> None:
    """Print one JSON document."""
    machine = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    print(json.dumps({"claim": claim, "machine": machine, **results}, indent=2))

"""Claim: trades become Silver, with an `event_id` each, 1.6 times as fast as DuckDB numbers them by the MD5 of a key.

`python -m bench.silver_trades 5 10 20 40` measures instead, at so many million rows, that the cost of a row and the
peak of memory do not grow.

`python -m bench.silver_trades engines` compares the two engines instead, numpy to DuckDB's SQL, and `... before PATH`
this code to that of another tree, such as a worktree of the commit before.
"""

import os
import sys
import tempfile
from pathlib import Path

from bench.compaction import common_way, compaction, compaction_before, write_bronze
from bench.rounds import interleave, report
from spymaster import events
from spymaster.compaction.engines import Engine

HOURS, ROWS_AN_HOUR, ROUNDS = 4, 1_000_000, 3


def rate(against: str = "", tree: str = "") -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wanted = write_bronze(root, events.FUTURES_TRADES, HOURS, ROWS_AN_HOUR)
        others = {
            "": lambda: common_way(root, wanted),
            "engines": lambda: compaction(root, wanted, Engine.DUCKDB),
            "before": lambda: compaction_before(root, Path(tree)),
        }
        return interleave(lambda: compaction(root, wanted), others[against], ROUNDS)


def growth(million_rows: list[int]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wanted = write_bronze(root, events.FUTURES_TRADES, max(million_rows), ROWS_AN_HOUR)
        compaction(root, wanted[:1])
        return {f"{hours} M rows": compaction(root, wanted[:hours]) for hours in million_rows}


if __name__ == "__main__":
    asked = sys.argv[1:]
    results = growth([int(size) for size in asked]) if asked and asked[0].isdigit() else rate(*asked)
    report("Silver of trades", {**results, "load": os.getloadavg()[0]})

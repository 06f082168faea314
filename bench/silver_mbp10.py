"""Claim: MBP-10 becomes Silver, with an `event_id` of the whole book each, 1.5 times as fast as DuckDB numbers it.

DuckDB's key leaves the book out, as the common way does.

`python -m bench.silver_mbp10 engines` compares the two engines instead, numpy to DuckDB's SQL, and `... before PATH`
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

HOURS, ROWS_AN_HOUR, ROUNDS = 4, 400_000, 3


def rate(against: str = "", tree: str = "") -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wanted = write_bronze(root, events.FUTURES_MBP10, HOURS, ROWS_AN_HOUR)
        others = {
            "": lambda: common_way(root, wanted),
            "engines": lambda: compaction(root, wanted, Engine.DUCKDB),
            "before": lambda: compaction_before(root, Path(tree)),
        }
        return interleave(lambda: compaction(root, wanted), others[against], ROUNDS)


if __name__ == "__main__":
    report("Silver of MBP-10", {**rate(*sys.argv[1:]), "load": os.getloadavg()[0]})

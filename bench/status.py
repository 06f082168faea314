"""Claim: `spymaster status` of a lake of 50,000 parts takes at most 1.2 times as long as of one of 100 parts.

In processor time, of processes started in turn. The parts are names of one file, eight in each hour; the catalog knows
them. Beside them a lake of 50,000 parts with a Silver file for each of its 6,250 hours, whose sizes are asked for.
"""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench.cli_start import processor_s
from bench.rounds import report
from bench.start import many_parts, sealed_part
from spymaster.lake import layout
from spymaster.lake.bronze import Part
from spymaster.lake.catalog import Catalog
from spymaster.lake.layout import SILVER_FILE, Tier
from spymaster.paths import parse_part

ROUNDS = 11
FEW, MANY = 100, 50_000


def lake_of(root: Path, file: Path, part: Part, count: int, *, silver: bool = False) -> None:
    """Make a lake of so many parts, which its catalog knows."""
    index = Catalog(root)
    own = Path(shutil.copy(file, root / "part"))  # a file may have 65,000 names
    parts = []
    for key in many_parts(Tier.BRONZE.of(root), own, count):
        where = parse_part(key)
        assert where is not None
        parts.append(Part(key, where, part.segment, part.rows, part.size_bytes, part.crc32c, part.captures))
    index.record(parts)
    index.close()
    for folder in {part.partition.folder for part in parts} if silver else ():
        target = layout.path(root, Tier.SILVER, f"{folder}/{SILVER_FILE}")
        target.parent.mkdir(parents=True)
        os.link(own, target)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) == 2 else None) as name:
        folder = Path(name)
        file, part = sealed_part(folder)
        lakes = {f"{FEW} parts": FEW, f"{MANY} parts": MANY, f"{MANY} parts and their Silver": MANY}
        for what, count in lakes.items():
            lake_of(folder / what, file, part, count, silver="Silver" in what)
        seconds: dict[str, list[float]] = {what: [] for what in lakes}
        for done in range(ROUNDS + 1):
            for what in lakes:
                command = ["-m", "spymaster", "status", "--data-root", what, "--wal-root", "wal"]
                took_s = processor_s(command, folder)
                if done:  # the first fills the page cache
                    seconds[what].append(took_s)
            print(f"round {done}/{ROUNDS}", file=sys.stderr)
    few = seconds[f"{FEW} parts"]
    report(
        f"status of a lake of {MANY} parts takes at most 1.2 times as long as of one of {FEW}",
        {
            what: {
                "median_s": round(statistics.median(some), 3),
                "min_s": round(min(some), 3),
                "max_s": round(max(some), 3),
                "ratio": round(statistics.median(a / b for a, b in zip(some, few, strict=True)), 3),
            }
            for what, some in seconds.items()
        },
    )


if __name__ == "__main__":
    main()

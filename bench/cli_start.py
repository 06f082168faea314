"""Claim: `spymaster --help` takes less than 0.3 s of processor time, and `spymaster status` less than 0.55 s.

Of a process each, user and system time, from a folder with a small lake that no daemon records. Baseline: a Python that
does nothing, started in turn with them.
"""

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.rounds import report
from spymaster import settings
from spymaster.daemon import Daemon

STARTS = 11
COMMANDS = {
    "help": ["-m", "spymaster", "--help"],
    "status": ["-m", "spymaster", "status"],
    "python": ["-c", "pass"],
}


def processor_s(arguments: list[str], folder: Path) -> float:
    """Run Python to its end, and return the processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded = settings.load(data_root=folder / "data/lake", wal_root=folder / "wal")
        asyncio.run(Daemon(loaded, ["sim"], 1).run(1.0))
        for start in range(STARTS + 1):
            for what, arguments in COMMANDS.items():
                took_s = processor_s(arguments, folder)
                if start:  # the first compiles and fills the page cache
                    seconds[what].append(took_s)
            print(f"round {start}/{STARTS}", file=sys.stderr)
    report(
        "--help takes less than 0.3 s of processor time, and status less than 0.55 s",
        {
            what: {
                "median_s": round(statistics.median(some), 3),
                "min_s": round(min(some), 3),
                "max_s": round(max(some), 3),
            }
            for what, some in seconds.items()
        },
    )


if __name__ == "__main__":
    main()

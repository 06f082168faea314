"""The real ES session of Christmas evening, recorded from its files and judged again: the same bytes on any threads."""

import json
import shutil
import subprocess
import sys

from spymaster.query.sessions import session_of_date
from spymaster.signals.chain import chains_of
from tests.command_line import clean_environment

DATE = "2023-12-26"
FILES = ("ESH4_mbp-10_20231225_part1.dbn.zst", "ESH4_trades_20231225_part1.dbn.zst")
THREADS = (1, 2, 4)


def started(root, *words, **environment):
    """Start a command on a lake that has its log in it, in a process of its own."""
    environment = clean_environment(
        DATA_ROOT=str(root), WAL_ROOT=str(root / "wal"), PROFILE="ES", DISK_RESERVE_MB="16", **environment
    )
    command = [sys.executable, "-m", "spymaster", *words, "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """Return what it printed; it found nothing wrong."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-2_000:] + out[-2_000:]
    return json.loads(out)


def test_the_real_session_has_the_bytes_that_it_had_and_one_certificate_on_any_threads(real_data, tmp_path):
    files = [real_data / "nautilus_trader" / "derived" / name for name in FILES]
    ended(started(tmp_path / "lake", "run", "--speed=0", *(f"--source=dbn:{file}" for file in files)))
    lakes = [shutil.copytree(tmp_path / "lake", tmp_path / str(threads)) for threads in THREADS]
    # Arrow and numba take as many threads as these say.
    counts = [{f"{of}_NUM_THREADS": str(threads) for of in ("OMP", "NUMBA")} for threads in THREADS]
    replays = [
        started(lake, "replay", "--date", DATE, "--check", **count) for lake, count in zip(lakes, counts, strict=True)
    ]
    one, *others = [ended(replay) for replay in replays]

    certificate, check = one["certificate"], one["check"]
    assert [other["certificate"] for other in others] == [certificate] * 2
    assert [(other["check"]["same_bytes"], other["check"]["different"]) for other in (one, *others)] == [(28, 0)] * 3
    assert (certificate["contract"], certificate["snaps_by"]) == ("ESH4", "record")
    assert [(own["schema"], own["rows"]) for own in certificate["inputs"]] == [
        ("futures.mbp10", 21_709), ("futures.trades", 1_675),
    ]  # fmt: skip  # those that the last snap had seen
    assert certificate["outputs"]["snaps"] == 2_686
    assert certificate["void"]["snaps"] == 185
    assert check["other"] == 0
    assert {one["reason"] for one in certificate["void"]["named"]} == {"not whole", "warm-up"}
    (chain,) = chains_of(tmp_path / "lake", tmp_path / "lake" / "wal", "ES", session_of_date(DATE, "cme"))
    assert not chain.warm.any()  # who judges at the end of a run over files judges all of it as published

"""A hostile machine: no permission, no descriptors, a jumping clock, a slow disk, a slow reader. Nothing is lost."""

import os
import random
import resource
import signal
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.checker import Journal, visible_files
from tests.faults.errors import is_one_line
from tests.faults.kills import ROWS_UNDER_LOAD
from tests.faults.nursery import Child, nursery
from tests.faults.storage_calls import Wait
from tests.faults.trials import Figures, audit

NOBODY = 65534
LOAD = ("run", "--source", "sim-es:rate=10000")


def under_load(folder: Path, journal: Journal, **job: object) -> Child:
    """Start a daemon and return when it has acknowledged rows."""
    child = nursery().start(folder, *LOAD, **job)

    def enough(line: str) -> bool:
        journal.hear(line)
        return journal.acknowledged_rows >= ROWS_UNDER_LOAD

    assert child.hear_until(enough), child.said()
    return child


def end_of(child: Child, journal: Journal, patience_s: float) -> tuple[int, str]:
    """Let a daemon run on for a while, or end by itself; then tell it to end. It must."""
    until = time.monotonic() + patience_s
    while (left := until - time.monotonic()) > 0 and child.hear_until(lambda line: journal.hear(line) is None, left):
        pass
    child.signal(signal.SIGTERM)
    return child.wait(journal.hear), child.said()


def stopped_clearly(code: int, said: str) -> bool:
    """Whether a daemon drained, or said in one line why not."""
    return code == 0 or is_one_line(said) or (code == 1 and "Traceback" not in said)  # 1: problems in its summary


@pytest.mark.parametrize("denied", ["wal", "lake/bronze"])
def test_a_daemon_that_loses_the_permission_to_write_keeps_what_it_acknowledged_and_says_so(denied):
    """As root nobody is denied anything, so the daemon is then another user."""
    user = NOBODY if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as temporary:  # that other user cannot enter `tmp_path`
        root = Path(temporary)
        root.chmod(0o755)
        folder = root / "scratch"
        folder.mkdir()
        if user:
            os.chown(folder, user, user)
        journal, figures = Journal(), Figures()
        child = under_load(folder, journal, user=user)
        permit(folder / denied, 0o555)
        code, said = end_of(child, journal, 1.5)
        permit(folder / denied, 0o755)

        assert code != 0
        assert stopped_clearly(code, said), said
        audit(folder, journal, figures, f"without permission in {denied}")
        assert figures.clean, figures.findings


def test_a_daemon_out_of_descriptors_goes_on_or_stops_clearly_and_keeps_what_it_acknowledged(tmp_path):
    journal, figures = Journal(), Figures()
    child = under_load(tmp_path, journal)
    in_use = len(list(Path("/proc", str(child.pid), "fd").iterdir()))
    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (in_use, 4096))
    code, said = end_of(child, journal, 1.5)

    assert stopped_clearly(code, said), said
    audit(tmp_path, journal, figures, "out of descriptors")
    assert figures.clean, figures.findings


@pytest.mark.parametrize("how", ["jumps", "back", "stands"])
def test_a_wall_clock_that_jumps_a_day_or_stands_still_changes_no_partition_and_no_row(tmp_path, how):
    """The same rows lie in the same folders, names never clash, and nothing is lost."""
    placed = []
    for clock in (None, how):
        folder = tmp_path / str(clock)
        folder.mkdir()
        journal, figures = Journal(), Figures()
        for capture in (1, 2):  # the second starts on the lake of the first
            child = nursery().start(folder, "record", seed=4, capture=capture, clock=clock)
            assert child.wait(journal.hear) == 0, child.said()
        placed.append(rows_by_folder(folder / "lake"))
        audit(folder, journal, figures, f"with a clock that {clock}")
        assert figures.clean, figures.findings

    assert placed[0] == placed[1]
    assert sum(map(len, placed[0].values())) > 1_000


def permit(folder: Path, mode: int) -> None:
    """Set the mode of a folder and of every folder in it."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(mode)


def rows_by_folder(lake: Path) -> dict[str, list[tuple[int, int]]]:
    """Return the keys of market data in each partition."""
    keys: dict[str, list[tuple[int, int]]] = {}
    for path in visible_files(lake):
        if "system" not in path.parts:
            rows = pq.ParquetFile(path).read(["capture_id", "capture_seq"]).to_pydict()
            keys.setdefault(str(path.parent.relative_to(lake)), []).extend(zip(*rows.values(), strict=True))
    return {folder: sorted(own) for folder, own in keys.items()}


@pytest.mark.usefixtures("storage_taps")
def test_a_slow_disk_delays_acknowledgements_and_loses_nothing(tmp_path, record_property):
    """Every sync takes 50 to 300 ms. How long the event loop was not to be had is reported, not judged."""
    chance = random.Random(1)
    journal, figures = Journal(), Figures()
    child = nursery().start(tmp_path, *LOAD, "--duration", "2", watched=True)
    ended, code = child.watch(
        tmp_path,
        lambda call: (
            Wait(chance.uniform(0.05, 0.3)) if call.name == "fdatasync" and "catalog" not in call.path else None
        ),
        journal.hear,
        timeout_s=60,
    )

    assert (ended.terminated, code) == (False, 0), child.said()
    (lag,) = (line for line in journal.other if line.startswith("lag"))
    record_property("longest_event_loop_lag_s", lag.split()[1])
    print(f"slow disk: the event loop was away for {lag.split()[1]} s at the longest")
    assert journal.acknowledged_rows > 0
    audit(tmp_path, journal, figures, "on a slow disk")
    assert figures.clean, figures.findings


def test_a_slow_bus_reader_loses_rows_by_count_and_the_recording_none(tmp_path):
    journal, figures = Journal(), Figures()
    child = nursery().start(tmp_path, *LOAD, "--duration", "1.5", slow_reader=True)
    assert child.wait(journal.hear) == 0, child.said()

    (report,) = (line for line in journal.other if line.startswith("reader"))
    read, skipped, dropped = map(int, report.split()[1:])
    published = sum(last - first + 1 for spans in journal.acknowledged.values() for first, last in spans)
    assert skipped == dropped > 0
    assert read + skipped == published
    audit(tmp_path, journal, figures, "beside a slow reader")
    assert figures.clean, figures.findings

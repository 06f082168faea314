"""A disk that is really full: a small file system in memory, filled while a daemon records."""

import hashlib
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.checker import Journal
from tests.faults.errors import is_one_line
from tests.faults.nursery import nursery
from tests.faults.test_environment import end_of, stopped_clearly, under_load
from tests.faults.trials import Figures, audit

SIZE = "24m"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Write until there is no space; return the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("ab", 0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of every file of log and Bronze; who holds the lock is not part of them."""
    files = [path for root in ("wal", "lake/bronze") for path in (folder / root).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != ".holder"
    }


def test_a_disk_that_fills_up_tears_nothing_and_recovery_on_it_changes_nothing(small_disk):
    """Killed on the full disk; what was acknowledged is in Bronze once as soon as there is space."""
    folder = small_disk / "scratch"
    folder.mkdir()
    journal, figures = Journal(), Figures()
    child = under_load(folder, journal)
    ballast = fill(small_disk)
    child.hear_until(lambda line: journal.hear(line) is not None, 0.7)
    child.signal(signal.SIGKILL)
    child.wait(journal.hear)
    fill(small_disk)

    before = contents(folder)
    code, said = nursery().run(folder, "recover")
    assert code != 0
    assert is_one_line(said), said
    assert contents(folder) == before

    ballast.unlink()
    audit(folder, journal, figures, "after its disk was full")
    assert figures.clean, figures.findings


def test_a_daemon_on_a_full_disk_obeys_sigterm_and_what_it_acknowledged_is_in_bronze_once_there_is_space(small_disk):
    folder = small_disk / "scratch"
    folder.mkdir()
    journal, figures = Journal(), Figures()
    child = under_load(folder, journal)
    ballast = fill(small_disk)
    code, said = end_of(child, journal, 1.5)

    assert code != 0
    assert stopped_clearly(code, said), said
    ballast.unlink()
    audit(folder, journal, figures, "after its disk was full")
    assert figures.clean, figures.findings

"""A disk that refuses stops the process in one line at the worst; what it acknowledged is safe."""

import errno
import signal

import pytest

from tests.faults.checker import Journal
from tests.faults.errors import FailingDisk, Fault, errors_at_syscalls, fail_on_one_lake, is_one_line
from tests.faults.kills import PhaseOfCall, Point
from tests.faults.nursery import nursery
from tests.faults.trials import Figures, audit

pytestmark = pytest.mark.usefixtures("storage_taps")

CANNOT_PROCEED = 4


def test_a_refused_storage_call_loses_no_acknowledged_row_and_ends_in_one_line_at_the_worst(tmp_path):
    """Catches `acknowledge before sync`, below: what a failed sync was to make durable is gone, as after a real one."""
    figures = errors_at_syscalls(tmp_path, 36)

    assert figures.clean, (figures.wrong, figures.findings)
    assert figures.trials >= 32
    assert figures.went_on > 0
    assert figures.stopped > 0
    assert {name for name, _ in map(str.split, figures.refused)} >= {"pwrite64", "fdatasync", "fsync", "unlink"}


def test_these_errors_would_show_rows_that_are_acknowledged_before_their_sync(tmp_path):
    faults = [(0, Fault(Point("commit", number), errno.EIO, "the same")) for number in (1, 2)]
    figures = fail_on_one_lake(tmp_path / "defective", faults, "acknowledge before sync")

    assert figures.wrong.lost > 0


@pytest.mark.parametrize("error", [errno.EROFS, errno.EIO], ids=["read-only", "broken"])
def test_a_daemon_whose_disk_takes_nothing_any_more_stops_in_one_line_and_what_it_acknowledged_is_safe(tmp_path, error):
    journal, figures = Journal(), Figures()
    disk = FailingDisk(tmp_path, Fault(Point("commit", 40), error, "all"), PhaseOfCall(journal, "run"))
    child = nursery().start(tmp_path, "run", "--source", "sim-es:rate=20000", watched=True)
    ended, code = child.watch(tmp_path, disk.decide, journal.hear)

    assert not ended.terminated
    assert code == CANNOT_PROCEED
    assert is_one_line(child.said()), child.said()
    assert journal.acknowledged_rows > 0
    audit(tmp_path, journal, figures, "after the disk took nothing any more")
    assert figures.clean, figures.findings


def test_a_daemon_on_a_disk_without_space_ends_when_it_is_told_to_and_what_it_acknowledged_is_safe(tmp_path):
    """Whether it stops by itself or waits for space, SIGTERM is obeyed."""
    journal, figures = Journal(), Figures()
    disk = FailingDisk(tmp_path, Fault(Point("append", 40), errno.ENOSPC, "all"), PhaseOfCall(journal, "run"))
    child = nursery().start(tmp_path, "run", "--source", "sim-es:rate=20000", watched=True)
    ended, code = child.watch(tmp_path, disk.decide, journal.hear, timeout_s=4)

    assert not ended.hung, child.said()
    assert code not in (0, -signal.SIGTERM)
    assert is_one_line(child.said()), child.said()
    audit(tmp_path, journal, figures, "after the disk had no space")
    assert figures.clean, figures.findings

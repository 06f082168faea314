"""Power cuts on real file systems, the short form of `make torture ARGS=power`."""

import sys

import pytest

from spymaster.proof import killed_daemon
from tests.long.power import KINDS, CannotCutError, power_cuts

FORGETFUL_DAEMON = """
import sys
from spymaster import durable
from spymaster.proof import killed_daemon

durable.sync = lambda descriptor: None
if sys.stdin.readline():
    killed_daemon.main(*sys.argv[1:])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_takes_no_published_row(tmp_path, kind):
    try:
        found = power_cuts(kind, tmp_path, 2)
    except CannotCutError as reason:
        pytest.skip(str(reason))

    assert found.findings == []
    assert found.cuts == 2
    assert found.published_rows >= 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_publishes_without_a_sync_is_found(tmp_path, kind, monkeypatch):
    script = tmp_path / "daemon.py"
    script.write_text(FORGETFUL_DAEMON)
    monkeypatch.setattr(killed_daemon, "CHILD", (sys.executable, str(script)))
    try:
        found = power_cuts(kind, tmp_path, 3)
    except CannotCutError as reason:
        pytest.skip(str(reason))

    assert found.lost > 0
    assert any("published rows are lost" in line for line in found.findings)

"""One process writes a log and a lake; whoever else tries is told in one line who does."""

from spymaster.lake import lake_id
from tests.faults.checker import Journal
from tests.faults.locks import COULD_NOT_RUN, RaceFigures, race_once, races_for_the_lock
from tests.faults.nursery import nursery
from tests.faults.trials import Figures, audit


def test_of_two_processes_that_race_for_a_log_one_gets_it_and_the_other_names_it(tmp_path):
    """Catches `lock nothing`, below."""
    figures = races_for_the_lock(tmp_path, 50)

    assert figures == RaceFigures(races=50, double_holders=0, no_holder=0, misled=[])


def test_these_races_would_show_two_holders(tmp_path):
    for name in ("wal", "lake"):
        (tmp_path / name).mkdir()
    lake_id.join(tmp_path / "wal", tmp_path / "lake")  # else one of two that make it at once may fail of that
    figures = RaceFigures()
    race_once(tmp_path, figures, killed=False, defect="lock nothing")

    assert figures.double_holders == 1


def test_of_three_daemons_that_start_at_once_one_records_and_the_others_name_it(tmp_path):
    journal, figures = Journal(), Figures()
    command = ("run", "--source", "sim-es:rate=20000", "--duration", "2", "--json")
    daemons = [nursery().start(tmp_path, *command) for _ in range(3)]
    codes = [daemon.wait(journal.hear) for daemon in daemons]

    assert sorted(codes) == [0, COULD_NOT_RUN, COULD_NOT_RUN]
    (recorded,) = (daemon for daemon, code in zip(daemons, codes, strict=True) if code == 0)
    for daemon in daemons:
        if daemon is not recorded:
            assert f"is in use by process {recorded.pid}." in daemon.said()
    assert journal.acknowledged_rows > 0
    audit(tmp_path, journal, figures, "recorded by one of three")
    assert figures.clean, figures.findings

"""A killed process loses nothing that it acknowledged, doubles nothing, and leaves no torn file where readers look."""

import random

import pytest

from spymaster.events import Stream
from spymaster.lake.bronze import flush_segment
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.faults.checker import Journal, Tally, check
from tests.faults.kills import PHASES, Point, kill_on_one_lake, kill_under_load, kills_at_random, kills_at_syscalls
from tests.rows import NOON_NS, TRADES, numbered


@pytest.mark.usefixtures("storage_taps")
def test_a_process_killed_at_any_of_its_storage_calls_loses_no_acknowledged_row_and_doubles_none(tmp_path):
    """Catches `retire before publish`, `publish in place` and `publish again`, below."""
    figures = kills_at_syscalls(tmp_path, 162)

    assert figures.clean, (figures.wrong, figures.findings)
    assert figures.kills >= 150
    assert {phase: figures.per_phase[phase] >= 8 for phase in PHASES} == dict.fromkeys(PHASES, True)
    assert figures.acknowledged_rows >= 10 * figures.kills


def test_a_daemon_killed_under_load_at_random_moments_loses_no_acknowledged_row_and_doubles_none(tmp_path):
    """Each of 30 kills comes after at least 1,000 rows that this very process acknowledged."""
    figures = kills_at_random(tmp_path, 30)

    assert figures.clean, (figures.wrong, figures.findings)
    assert figures.kills == 30
    assert figures.acknowledged_rows >= 30 * 1_000


@pytest.mark.usefixtures("storage_taps")
def test_these_kills_would_show_a_segment_that_is_retired_before_its_rows_are_in_bronze(tmp_path):
    figures = kill_on_one_lake(tmp_path / "defective", [(0, Point("flush", 3))], [], "retire before publish")

    assert figures.wrong.lost > 0


@pytest.mark.usefixtures("storage_taps")
def test_these_kills_would_show_a_part_that_is_written_under_its_final_name(tmp_path):
    kills = [(0, Point("flush", number)) for number in range(36, 41)]  # a part takes four calls: one of these writes it
    figures = kill_on_one_lake(tmp_path / "defective", kills, [], "publish in place")

    assert figures.wrong.torn > 0


@pytest.mark.usefixtures("storage_taps")
def test_these_kills_would_show_a_recovery_that_publishes_what_is_in_bronze_already(tmp_path):
    figures = kill_on_one_lake(tmp_path / "defective", [(0, Point("retire", 1))], [], "publish again")

    assert figures.wrong.doubled > 0


def test_these_kills_would_show_rows_with_other_values_than_the_market_gave(tmp_path):
    figures = kill_under_load(tmp_path / "defective", 1, random.Random(0), "publish other prices")

    assert figures.wrong.invented > 0
    assert (figures.wrong.lost, figures.wrong.doubled, figures.wrong.torn) == (0, 0, 0)


def test_rows_of_a_capture_that_nobody_announced_would_show(tmp_path):
    segment = tmp_path / "segment.arrow"
    header = Header.new(Stream("futures.trades", "ES"), 1, NOON_NS)
    segment.write_bytes(encode_segment(header, numbered(TRADES, 30, capture_id=666), None))
    flush_segment(tmp_path / "lake" / "bronze", read_sealed(segment), again=False)

    assert check(tmp_path / "lake", Journal()) == Tally(invented=30)

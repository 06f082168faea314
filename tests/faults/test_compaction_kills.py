"""A killed compaction is never seen: not in the one table, not in a file of Silver, and not after the next run."""

import signal

import pytest

from spymaster import events
from tests.faults.compaction import HOURS, CompactionFigures, GrowingLake, complete, kill_compactions
from tests.faults.nursery import nursery

FEW = {events.FUTURES_TRADES: 1, events.OPTIONS_TRADES: 1}


def test_fifty_kills_of_compactions_show_no_reader_a_wrong_count_and_the_rerun_completes(tmp_path):
    """Catches the four defects below."""
    figures = kill_compactions(tmp_path, 50)

    assert not figures.wrong, figures
    assert figures.kills == 50
    assert figures.polls >= 10


@pytest.mark.usefixtures("storage_taps")
def test_kills_at_storage_calls_of_compactions_show_no_reader_a_wrong_count_and_the_rerun_completes(tmp_path):
    figures = kill_compactions(tmp_path, 15, at_calls=True, hours=FEW)

    assert not figures.wrong, figures
    assert figures.kills == 15
    assert figures.mid_write > 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_compaction_that_is_told_to_end_does_so_without_a_word_and_the_rerun_completes(tmp_path, number, code):
    lake, figures = GrowingLake(tmp_path, HOURS), CompactionFigures()
    child = nursery().start(tmp_path, "compact", "--all")
    child.hear_until(lambda line: line == "stage compact")
    child.signal(number)

    assert child.wait() == code
    assert [line for line in child.said().splitlines() if "FLUSH_INTERVAL_SEC" not in line] == []
    assert not lake.drafts() or number == signal.SIGTERM
    complete(lake, figures)
    assert not figures.wrong, figures


@pytest.mark.usefixtures("storage_taps")
@pytest.mark.parametrize(
    ("defect", "kills", "complaint"),
    [
        pytest.param("publish silver in place", 4, "part-0000.parquet has ('ArrowInvalid'", id="in place"),
        pytest.param("publish silver unfinished", 4, "part-0000.parquet has ('ArrowInvalid'", id="unfinished"),
        pytest.param("publish silver unproven", 1, "futures.trades shows 1599 of 1600 rows", id="unproven"),
        pytest.param("forget drafts", 4, ".tmp is left", id="forgotten draft"),
    ],
)
def test_these_kills_would_show_silver_that_is_not_published_whole_proven_and_at_once(
    tmp_path, defect, kills, complaint
):
    figures = kill_compactions(tmp_path, kills, at_calls=True, hours=FEW, defect=defect)

    assert any(complaint in line for line in figures.wrong), figures.wrong

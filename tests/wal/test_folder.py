"""Which files of WAL_ROOT are the log's."""

import pytest

from spymaster.paths import SegmentName
from spymaster.wal import folder

SEALED, POISONED = "futures_trades_ES.001.arrow", "futures_trades_ES.002.poisoned.arrow"
ACTIVE, AHEAD, OTHER = "futures_trades_ES.arrow", ".futures_trades_ES.next", "stocks_quotes_ALL.1000.arrow"
STRANGE = (".reserve", ".holder", "notes.txt", ".futures_trades_ES.001.arrow.tmp", "futures_trades_ES.01.arrow")


@pytest.fixture
def log(tmp_path):
    for at, name in enumerate((SEALED, POISONED, ACTIVE, AHEAD, OTHER, *STRANGE)):
        (tmp_path / name).write_bytes(b"x" * 10**at if name not in STRANGE else b"a stranger")
    (tmp_path / folder.QUARANTINE).mkdir()
    return tmp_path


def test_segments_are_known_by_their_names_and_nothing_else_is_listed(log):
    assert {path.name: name for path, name in folder.segments(log)} == {
        SEALED: SegmentName("futures_trades_ES", 1, poisoned=False, ahead=False),
        POISONED: SegmentName("futures_trades_ES", 2, poisoned=True, ahead=False),
        ACTIVE: SegmentName("futures_trades_ES", None, poisoned=False, ahead=False),
        AHEAD: SegmentName("futures_trades_ES", None, poisoned=False, ahead=True),
        OTHER: SegmentName("stocks_quotes_ALL", 1000, poisoned=False, ahead=False),
    }
    assert {path.parent for path, _ in folder.segments(log)} == {log}


def test_a_streams_segments_are_those_of_its_whole_name(log):
    (log / "futures_trades_ES-Z.001.arrow").write_bytes(b"")

    assert {path.name for path, _ in folder.of_stream(log, "futures_trades_ES")} == {SEALED, POISONED, ACTIVE, AHEAD}


def test_the_log_holds_what_its_segments_hold(log):
    assert folder.log_bytes(log) == 11_111


def test_a_folder_that_is_not_there_is_no_empty_log(tmp_path):
    with pytest.raises(FileNotFoundError):
        folder.segments(tmp_path / "absent")


def test_files_that_may_hold_a_segment_come_by_name_and_folders_are_none(log):
    (log / "moved.arrow").write_bytes(b"")
    (log / "folder.arrow").mkdir()

    found = [path.name for path in folder.files_in(log)]

    assert found == sorted([SEALED, POISONED, ACTIVE, AHEAD, OTHER, "futures_trades_ES.01.arrow", "moved.arrow"])


def test_quarantine_lists_its_segments_and_not_their_descriptions(log):
    for name in ("b-1.arrow", "a-2.arrow", "a-2.arrow.json"):
        (log / folder.QUARANTINE / name).write_bytes(b"")

    assert [path.name for path in folder.quarantined_files(log)] == ["a-2.arrow", "b-1.arrow"]
    assert folder.quarantined_files(log / "absent") == []

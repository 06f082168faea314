"""A file's capture id is a hash of its content and of the version of what reads it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from spymaster import settings
from spymaster.daemon import CaptureSummary, Daemon
from spymaster.events.captures import capture_id_of
from spymaster.normalize.databento.normalizer import DatabentoNormalizer
from spymaster.normalize.massive.day_files import DayFileNormalizer

CONTENT = "0" * 64
PINNED = 2_136_201_312_788_952_381
DAY_FILE = (
    b"ticker,conditions,correction,exchange,price,sip_timestamp,size\n"
    b"O:SPY251216C00680000,233,0,302,1.54,1629820676333000001,1\n"
)
PINNED_OF_DAY_FILE = 1_578_714_354_121_068_149


def record(folder: Path) -> CaptureSummary:
    path = folder / "day.csv"
    path.write_bytes(DAY_FILE)

    async def run() -> list[CaptureSummary]:
        daemon = Daemon(
            settings.load(data_root=str(folder / "lake"), wal_root=str(folder / "wal")), [f"flatfile:{path}"], speed=0
        )
        await daemon.run()
        return daemon.summaries

    (summary,) = asyncio.run(run())
    return summary


@pytest.mark.parametrize("normalizer", [DatabentoNormalizer, DayFileNormalizer])
def test_the_id_of_a_files_capture_is_pinned_because_it_tells_what_is_already_captured(normalizer: Any) -> None:
    assert capture_id_of(CONTENT, normalizer.version) == PINNED


def test_a_file_is_recorded_under_the_id_that_it_always_had(tmp_path: Path) -> None:
    assert record(tmp_path).capture_id == PINNED_OF_DAY_FILE


def test_a_new_version_of_what_reads_a_file_makes_a_new_capture_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not record(tmp_path).already_captured
    assert record(tmp_path).already_captured
    monkeypatch.setattr(DayFileNormalizer, "version", DayFileNormalizer.version + 1)
    again = record(tmp_path)

    assert not again.already_captured
    assert again.capture_id != PINNED_OF_DAY_FILE


def test_what_no_file_holds_has_another_id_each_time() -> None:
    first, second = capture_id_of(None, 1), capture_id_of(None, 1)

    assert first != second
    assert 0 <= first < 2**63

"""A file's capture id is a hash of its content and of the version of what reads it."""

import asyncio
from pathlib import Path

import pytest

from spymaster import settings
from spymaster.daemon import CaptureSummary, Daemon
from spymaster.events.captures import capture_id_of
from spymaster.normalize.massive.day_files import DayFileNormalizer
from tests.normalize.dbn_bytes import DAY, es_header, header_of, reader

CONTENT = "0" * 64
PINNED = {1: 2_136_201_312_788_952_381, 2: 6_228_719_684_507_186_048}  # by version
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


def test_the_id_of_a_files_capture_is_pinned_because_it_tells_what_is_already_captured() -> None:
    assert DayFileNormalizer.version == 1
    assert {version: capture_id_of(CONTENT, version) for version in PINNED} == PINNED


@pytest.mark.parametrize(
    ("header", "version"),
    [
        (es_header(), 1),
        (es_header("mbp-10"), 1),
        (header_of(stype_in="parent", symbols=["ES.FUT"], mappings={"ESZ5": [(DAY, DAY, 1)]}), 1),
        (header_of(stype_in="continuous", mappings={"ES.c.0": [(DAY, DAY, 1)]}), 2),
        (header_of(mappings={"ESZ5": [(DAY, DAY, 1)], "EYCZ5 C6900": [(DAY, DAY, 2)]}), 2),
        (es_header("definition"), 2),
        (es_header(None), 3),
        (header_of("OPRA.PILLAR", schema=None), 3),
        (header_of("XNAS.ITCH", schema=None), 3),
        (es_header("statistics"), 1),
        (header_of("OPRA.PILLAR", schema="cbbo-1m"), 1),
        (header_of("XNAS.ITCH", schema="definition"), 1),
    ],
)
def test_only_a_file_whose_rows_the_version_before_made_otherwise_is_captured_anew(header: bytes, version: int) -> None:
    assert reader(header).version == version


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

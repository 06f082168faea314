"""An audit that can fail: each kind of loss is planted and must become a finding."""

import asyncio
import shutil

import pyarrow.parquet as pq
import pytest

from spymaster.bus import Bus
from spymaster.events import Stream
from spymaster.lake.captures import Capture
from spymaster.lake.catalog import rebuild
from spymaster.lake.recorder import Recorder
from spymaster.lake.verify import verify
from tests.rows import TRADES, delivered

STREAM = Stream("futures.trades", "ES")
CAPTURE = Capture(77, "sim", "sim", None, 1, (STREAM,))


async def record(root, rows: int, *, end: bool) -> None:
    recorder = Recorder(root / "wal", root / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1)
    await recorder.start()
    await recorder.begin(CAPTURE)
    stream = await recorder.capture_rows(STREAM, CAPTURE.capture_id)
    for start in range(0, rows, 100):
        stream.append(delivered(TRADES, 100, start))
        await recorder.flush()
    if end:
        await recorder.end(CAPTURE, {STREAM: rows}, complete=True, detail=None)
    await recorder.stop()


@pytest.fixture
def root(tmp_path):
    asyncio.run(record(tmp_path, 300, end=True))
    return tmp_path


def audit(root, date=None):
    return verify(root / "wal", root / "lake", date)


def parts(root):
    return sorted((root / "lake" / "bronze" / "futures").rglob("*.parquet"))


def test_what_was_recorded_is_proven_whole(root):
    verdict = audit(root)

    assert verdict.findings == []
    assert (77, "futures.trades/ES", 300, True) in verdict.proofs
    assert len(parts(root)) == 3


def test_without_an_end_row_a_capture_is_proven_to_a_row(tmp_path):
    asyncio.run(record(tmp_path, 300, end=False))

    verdict = audit(tmp_path)

    assert verdict.findings == []
    assert (77, "futures.trades/ES", 300, False) in verdict.proofs


@pytest.mark.parametrize(
    ("lost", "finding"),
    [(0, "100 rows are missing below row 299"), (1, "100 rows are missing"), (2, "its last 100 rows")],
)
def test_a_lost_part_is_found_even_after_the_catalog_was_rebuilt(root, lost, finding):
    holding = {first_number(path): path for path in parts(root)}
    holding[lost * 100].unlink()

    verdict = audit(root)
    assert any("is in the catalog (100 rows) and not on disk" in line for line in verdict.findings)
    rebuild(root / "lake")
    assert any(finding in line for line in audit(root).findings), audit(root).findings


def first_number(path):
    return pq.read_table(path, columns=["capture_seq"], partitioning=None)["capture_seq"][0].as_py()


def test_a_lost_capture_is_found_by_its_end_row(root):
    shutil.rmtree(root / "lake" / "bronze" / "futures")
    rebuild(root / "lake")

    assert any("its last 300 rows are missing" in line for line in audit(root).findings)


def test_rows_that_stand_twice_are_found(root):
    path = parts(root)[0]
    path.with_name(path.name.replace(".parquet", ".1.parquet")).write_bytes(path.read_bytes())
    rebuild(root / "lake")

    assert any("100 rows stand twice" in line for line in audit(root).findings)


def test_rows_of_a_capture_that_nobody_announced_are_found(root):
    shutil.rmtree(root / "lake" / "bronze" / "system")
    rebuild(root / "lake")

    assert any("no begin row announces" in line for line in audit(root).findings)


def test_a_flipped_bit_in_a_part_is_found(root):
    path = parts(root)[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    assert any("CRC32C differs" in line for line in audit(root).findings)


def test_a_date_audits_the_captures_that_touch_it_whole(root):
    assert audit(root, "2025-12-22").rows >= 300
    assert audit(root, "2025-12-23").rows == 0


def test_rows_still_in_the_log_count_as_held(tmp_path):
    async def leave_in_log():
        recorder = Recorder(
            tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1
        )
        await recorder.start()
        await recorder.begin(CAPTURE)
        stream = await recorder.capture_rows(STREAM, CAPTURE.capture_id)
        stream.append(delivered(TRADES, 50))
        await asyncio.sleep(0.1)
        verdict = audit(tmp_path)
        await recorder.stop()
        return verdict

    verdict = asyncio.run(leave_in_log())
    assert verdict.findings == []
    assert (77, "futures.trades/ES", 50, False) in verdict.proofs
    assert any("52 rows are in the log" in line or "51 rows are in the log" in line for line in verdict.notes)

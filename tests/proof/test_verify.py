"""An audit that can fail: each kind of loss is planted and must become a finding."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import durable, events
from spymaster.bus import Bus
from spymaster.errors import UsageError
from spymaster.events import Stream
from spymaster.events.captures import Capture
from spymaster.lake import layout
from spymaster.lake.bronze import flush_segment
from spymaster.lake.catalog import rebuild
from spymaster.proof import evidence, spill
from spymaster.proof.verify import verify
from spymaster.recording.recorder import Recorder
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header, Predecessor, scan
from spymaster.wal.segment_writer import encode_segment
from spymaster.wal.writer import StreamLog
from tests import bad_sector
from tests.capturing import capture_rows
from tests.command_line import clean_environment, spymaster
from tests.rows import NOON_NS, TRADES, delivered, numbered
from tests.test_daemon import Child

STREAM = Stream("futures.trades", "ES")
CAPTURE = Capture(77, "sim", "sim", None, 1, (STREAM,))


async def record(root, rows: int, *, end: bool) -> None:
    recorder = Recorder(root / "wal", root / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1)
    await recorder.start()
    await recorder.begin(CAPTURE)
    stream = await capture_rows(recorder, STREAM, CAPTURE.capture_id)
    for start in range(0, rows, 100):
        await stream.append(delivered(TRADES, 100, start))
        await recorder.flush()
    if end:
        await recorder.end(CAPTURE, {STREAM: rows}, complete=True, detail=None)
    await recorder.stop()


async def recovered(root) -> None:
    recorder = Recorder(root / "wal", root / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1)
    await recorder.start()
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


def test_the_lost_tail_of_a_capture_without_an_end_row_is_found(tmp_path):
    asyncio.run(record(tmp_path, 300, end=False))
    max(parts(tmp_path), key=first_number).unlink()
    rebuild(tmp_path / "lake")

    assert any("its last 100 rows are missing" in line for line in audit(tmp_path).findings)


def test_a_lost_capture_without_an_end_row_is_found(tmp_path):
    asyncio.run(record(tmp_path, 100, end=False))
    (only,) = parts(tmp_path)
    only.unlink()
    rebuild(tmp_path / "lake")

    assert any("its last 100 rows are missing" in line for line in audit(tmp_path).findings)


def test_a_sealed_segment_that_vanishes_before_its_flush_is_found_also_after_recovery(tmp_path):
    (tmp_path / "wal").mkdir()
    log = StreamLog(tmp_path / "wal", STREAM, 1 << 30)
    rows = CaptureRows(log, 77)
    for start in (0, 10, 20):
        rows.append(delivered(TRADES, 10, start))
        log.seal()
        log.commit()
    log.take_sealed()[-1].unlink()

    assert any("its last 10 rows are missing" in line for line in audit(tmp_path).findings)
    asyncio.run(recovered(tmp_path))
    assert any("its last 10 rows are missing" in line for line in audit(tmp_path).findings)


def test_rows_that_a_power_cut_took_from_the_end_of_a_segment_with_a_successor_are_no_finding(tmp_path):
    wal = tmp_path / "wal"
    wal.mkdir()
    log = StreamLog(wal, STREAM, 1 << 30)
    rows = CaptureRows(log, 77)
    rows.append(delivered(TRADES, 10))
    log.commit()
    rows.append(delivered(TRADES, 10, start=10))
    log.seal()  # neither committed
    rows.append(delivered(TRADES, 5, start=20))
    active = wal / "futures_trades_ES.arrow"
    active.write_bytes(active.read_bytes()[: scan(memoryview(active.read_bytes())).frames[2].offset])

    asyncio.run(recovered(tmp_path))

    assert [line for line in audit(tmp_path).findings if "missing" in line] == []
    assert any("rows 10 to 19 are missing; a power cut took them" in line for line in audit(tmp_path).notes)


def test_bytes_that_are_gone_from_quarantine_are_found(tmp_path):
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "futures_trades_ES.arrow").write_bytes(b"not ours")
    asyncio.run(recovered(tmp_path))
    assert audit(tmp_path).findings == []
    (kept,) = (tmp_path / "wal" / "quarantine").glob("*.arrow")
    kept.write_bytes(b"otherwise")
    assert any("reads otherwise" in line for line in audit(tmp_path).notes)

    kept.unlink()

    assert any("is gone from quarantine" in line for line in audit(tmp_path).findings)


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


def test_a_bad_sector_under_a_part_is_a_finding(root, monkeypatch):
    path = parts(root)[1]
    bad_sector.lies_under(monkeypatch, path.name)

    (bad, missing) = audit(root).findings

    assert bad == f"{path.relative_to(root / 'lake').as_posix()} cannot be read: Input/output error"
    assert "100 rows are missing" in missing


@pytest.mark.parametrize("where", ["bronze/system", "quarantine", "wal/futures_trades_ES.901.arrow"])
def test_a_bad_sector_elsewhere_is_a_finding(root, monkeypatch, where):
    (root / "wal" / "futures_trades_ES.900.arrow").write_bytes(b"not ours")
    asyncio.run(recovered(root))
    write_segment(root, numbered(TRADES, 10, 300, capture_id=77), 901)
    bad_sector.lies_under(monkeypatch, where)

    assert any(where in line and "cannot be read: Input/output error" in line for line in audit(root).findings)


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
        stream = await capture_rows(recorder, STREAM, CAPTURE.capture_id)
        await stream.append(delivered(TRADES, 50))
        await asyncio.sleep(0.1)
        verdict = audit(tmp_path)
        await recorder.stop()
        return verdict

    verdict = asyncio.run(leave_in_log())
    assert verdict.findings == []
    assert (77, "futures.trades/ES", 50, False) in verdict.proofs
    assert any("52 rows are in the log" in line or "51 rows are in the log" in line for line in verdict.notes)


def test_beside_a_recording_daemon_nothing_is_found(tmp_path):
    roots = clean_environment() | {
        "DATA_ROOT": str(tmp_path / "lake"),
        "WAL_ROOT": str(tmp_path / "wal"),
        "FLUSH_INTERVAL_SEC": "0.2",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    child = Child(roots, "sim-es:rate=5000")
    child.wait_for_rows(1_000)
    try:
        for _ in range(2):
            done = spymaster("verify", environment=roots)
            assert done.returncode == 0, done.stdout + done.stderr
    finally:
        child.kill()


def write_segment(root, rows, number: int, *, stream: Stream = STREAM):
    path = root / "wal" / f"{stream.schema.replace('.', '_')}_{stream.symbol}.{number:03d}.arrow"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_segment(Header.new(stream, number, NOON_NS), rows, None))
    return path


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("rows_after", [0, 5])
def test_a_segment_that_is_renamed_or_flushed_while_the_log_is_read_is_not_missed(
    root, monkeypatch, flushed, rows_after
):
    sealed = write_segment(root, numbered(TRADES, 10, 0, capture_id=5), 901)
    active = sealed.with_name("futures_trades_ES.arrow")
    sealed.rename(active)
    read = durable.read
    done = []

    def meanwhile(path, *arguments):
        if path == active and not done:
            done.append("sealed")
            active.rename(sealed)
            if rows_after:
                write_segment(root, numbered(TRADES, rows_after, 10, capture_id=5), 902).rename(active)
        if path == sealed and flushed and len(done) == 1:
            done.append("flushed")
            flush_segment(root / "lake" / "bronze", read_sealed(sealed), again=False)
            sealed.unlink()
        return read(path, *arguments)

    monkeypatch.setattr(durable, "read", meanwhile)
    verdict = audit(root)

    assert (5, "futures.trades/ES", 10 + rows_after, False) in verdict.proofs
    assert len(done) == 1 + flushed


@pytest.mark.parametrize("capture_of", [lambda number: 5, lambda number: 5 + number], ids=["one", "each its own"])
def test_parts_that_come_while_a_busy_lake_is_listed_are_no_finding(root, monkeypatch, capture_of):
    listed = layout.find_parts
    published: list[Predecessor] = []

    def publish() -> str:
        number = len(published)
        capture = capture_of(number)
        start = 10 * number if capture == 5 else 0
        header = Header.new(STREAM, 901 + number, NOON_NS + number)
        path = root / "wal" / f"futures_trades_ES.{901 + number}.arrow"
        rows = numbered(TRADES, 10, start, capture)
        path.write_bytes(encode_segment(header, rows, published[-1] if published else None))
        (part,) = flush_segment(root / "lake" / "bronze", read_sealed(path), again=False)
        path.unlink()
        published.append(Predecessor(header.segment, 10, ((capture, start + 9),)))
        return part.relative

    def listing(data_root):
        """Pass a folder just before a part comes there, and meet the next part."""
        missed = publish()
        publish()
        found = listed(data_root)
        return found._replace(parts={key: own for key, own in found.parts.items() if key != missed})

    monkeypatch.setattr(layout, "find_parts", listing)

    assert [line for line in audit(root).findings if "missing" in line] == []
    assert len(published) >= 4


def test_the_keys_of_a_lake_that_is_larger_than_memory_go_to_temporary_files(root, monkeypatch):
    load, used = evidence.load_bronze_keys, []

    def load_many(connection, *arguments):
        load(connection, *arguments)
        connection.execute("insert into keys select 'futures.trades', 'ES', 5, range from range(2000000)")
        used.extend(connection.execute("select sum(memory_usage_bytes) from duckdb_memory()").fetchone())

    monkeypatch.setattr(evidence, "load_bronze_keys", load_many)
    monkeypatch.setattr(spill, "MEMORY", "64MB")

    assert any("5 (no begin row), futures.trades/ES: 2000000 rows" in line for line in audit(root).findings)
    assert used[0] <= 64_000_000


def test_a_cut_frame_at_the_end_of_an_active_segment_is_no_finding(root):
    sealed = write_segment(root, numbered(TRADES, 10, 300, capture_id=77), 901)
    whole = sealed.read_bytes()
    sealed.unlink()
    (root / "wal" / "futures_trades_ES.arrow").write_bytes(whole[:-20])
    (root / "wal" / ".futures_trades_ES.next").write_bytes(whole[:100])

    verdict = audit(root)

    assert not any("torn" in line for line in verdict.findings)
    assert sum("being written" in line for line in verdict.notes) == 2


@pytest.mark.parametrize("frames_left", [-1, -2], ids=["before its seal", "before its last rows"])
def test_a_sealed_segment_that_ends_between_two_frames_is_a_finding(root, frames_left):
    sealed = write_segment(root, numbered(TRADES, 10, 300, capture_id=77), 901)
    frames = scan(memoryview(sealed.read_bytes())).frames
    sealed.write_bytes(sealed.read_bytes()[: frames[frames_left].offset])

    assert any(f"{sealed} ends without its seal" in line for line in audit(root).findings)


def test_a_date_whose_parts_are_gone_is_not_proven(root):
    for path in parts(root):
        path.unlink()

    findings = audit(root, "2025-12-22").findings

    assert sum("not on disk" in line for line in findings) == 3
    assert any("its last 300 rows are missing" in line for line in findings)


def test_a_date_finds_captures_whose_rows_are_still_in_the_log(root):
    write_segment(root, numbered(TRADES, 10, 5, capture_id=6), 901)

    assert any("5 rows are missing" in line for line in audit(root, "2025-12-22").findings)
    assert not any("capture 6" in line for line in audit(root, "2025-12-23").findings)


def test_a_date_whose_part_does_not_read_is_a_finding(root):
    parts(root)[0].write_bytes(b"PAR1")

    assert any("CRC32C differs" in line for line in audit(root, "2025-12-22").findings)


def test_where_nothing_was_recorded_nothing_is_proven(tmp_path):
    with pytest.raises(UsageError, match="there is no lake"):
        audit(tmp_path)
    (tmp_path / "lake" / "bronze").mkdir(parents=True)
    assert audit(tmp_path).findings == []


def test_rot_is_found_in_every_column_without_the_catalog(root):
    path = parts(root)[1]
    column = pq.read_metadata(path).row_group(0).column(TRADES.bronze.get_field_index("price"))
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    path.write_bytes(data)
    relative = path.relative_to(root / "lake" / "bronze").as_posix()
    (root / "lake" / "catalog.db").unlink()

    assert any(f"{relative} does not read" in line for line in audit(root).findings)
    rebuild(root / "lake")
    assert any(f"{relative} does not read" in line for line in audit(root).findings)


def test_a_catalog_that_does_not_read_is_a_finding(root):
    (root / "lake" / "catalog.db").write_bytes(b"garbage" * 1000)

    (finding,) = audit(root).findings
    assert "Next: spymaster catalog rebuild" in finding


def test_a_total_of_the_catalog_that_is_not_as_it_was_written_is_a_finding(root):
    with sqlite3.connect(root / "lake" / "catalog.db") as database:
        database.execute("update totals set rows = rows + 1")
    database.close()

    (finding,) = audit(root).findings
    assert "a row of its table totals is not as it was written" in finding


def gap_row(cause: str, first: int, last: int) -> pa.Table:
    values = {
        "of_capture_id": 5, "first_seq": first, "last_seq": last, "of_schema": "futures.trades", "of_symbol": "ES",
        "cause": cause,
    }  # fmt: skip
    row = numbered(events.SYSTEM_GAPS, 1, capture_id=900 + first, symbol="spymaster")
    for name, value in values.items():
        index = row.schema.get_field_index(name)
        row = row.set_column(index, row.schema.field(index), pa.array([value], row.schema.field(index).type))
    return row


GAPS = Stream("system.gaps", "spymaster")


@pytest.mark.parametrize("in_log", [True, False])
@pytest.mark.parametrize(("cause", "finding"), [("not_acknowledged", False), ("wal_damage", True)])
def test_a_hole_that_recovery_explained_is_told_by_its_cause(root, cause, finding, in_log):
    begin = numbered(events.SYSTEM_CAPTURES, 1, capture_id=901, symbol="spymaster")
    begin = begin.set_column(
        begin.schema.get_field_index("of_capture_id"), begin.schema.field("of_capture_id"), pa.array([5])
    )
    begin = begin.set_column(begin.schema.get_field_index("event"), begin.schema.field("event"), pa.array(["begin"]))
    write_segment(root, begin, 900, stream=Stream("system.captures", "spymaster"))
    write_segment(root, numbered(TRADES, 10, 0, capture_id=5), 901)
    write_segment(root, numbered(TRADES, 10, 15, capture_id=5), 902)
    unexplained = audit(root)
    for number, (first, last) in enumerate([(10, 12), (13, 14)]):  # two gaps cover the hole together
        path = write_segment(root, gap_row(cause, first, last), 903 + number, stream=GAPS)
        if not in_log:
            flush_segment(root / "lake" / "bronze", read_sealed(path), again=False)
            path.unlink()
    verdict = audit(root)

    assert any("5 rows are missing below row 24" in line for line in unexplained.findings)
    assert any("known gap: rows 10 to 14 are missing (wal_damage)" in line for line in verdict.findings) == finding
    assert any("rows 10 to 14 are missing" in line for line in verdict.notes) == (not finding)
    assert ((5, "futures.trades/ES", 10, False) in verdict.proofs) == (not finding)
    assert bool([line for line in verdict.findings if "capture 5 " in line]) == finding


@pytest.mark.parametrize(("cause", "told"), [("wal_damage", "findings"), ("disk_full", "notes")])
def test_a_gap_row_that_log_and_bronze_both_have_is_told_once(root, cause, told):
    write_segment(root, numbered(TRADES, 10, 0, capture_id=5), 901)
    write_segment(root, numbered(TRADES, 10, 15, capture_id=5), 902)
    for number in range(2):  # of two runs, the first of which is in Bronze
        row = gap_row(cause, 10, 14)
        path = write_segment(root, row.set_column(*run_of(row, 910 + number)), 903 + number, stream=GAPS)
        if number == 0:
            flush_segment(root / "lake" / "bronze", read_sealed(path), again=False)
            path.unlink()

    assert len([line for line in getattr(audit(root), told) if "known gap: " in line]) == 1


def run_of(row: pa.Table, run_capture: int) -> tuple[int, pa.Field, pa.Array]:
    """Return the column that says of which process run a row of our own is."""
    index = row.schema.get_field_index("capture_id")
    return index, row.schema.field(index), pa.array([run_capture])


def test_the_ticker_all_beside_other_streams_is_a_ticker(tmp_path):
    schema = events.schema_named("stocks.trades")
    streams = (Stream("stocks.trades", "ALL"), Stream("stocks.trades", "SPY"))
    capture = Capture(78, "sim", "sim", None, 1, streams)

    async def record_both():
        recorder = Recorder(
            tmp_path / "wal", tmp_path / "lake", bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1
        )
        await recorder.start()
        await recorder.begin(capture)
        for stream, rows in zip(streams, (30, 20), strict=True):
            log = await capture_rows(recorder, stream, capture.capture_id)
            await log.append(delivered(schema, rows, symbol=stream.symbol))
        await recorder.flush()
        await recorder.end(capture, dict(zip(streams, (30, 20), strict=True)), complete=True, detail=None)
        await recorder.stop()

    asyncio.run(record_both())
    verdict = audit(tmp_path)

    assert verdict.findings == []
    assert {proof[1:] for proof in verdict.proofs if proof.capture_id == 78} == {
        ("stocks.trades/ALL", 30, True), ("stocks.trades/SPY", 20, True)
    }  # fmt: skip

"""Append, commit, seal: what is acknowledged when, and what a refusing disk leaves."""

import errno
import os

import pyarrow as pa
import pytest

from spymaster import durable, paths
from spymaster.errors import DiskFullError, StorageError, UsageError
from spymaster.events import Stream
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import salvage
from spymaster.wal.segment import FrameEncoder, Header, decode_rows, predecessor_of, scan
from spymaster.wal.segment_writer import SegmentWriter
from spymaster.wal.writer import StreamLog
from tests.rows import TRADES, delivered, numbered
from tests.small_disk import small_disk

STREAM = Stream("futures.trades", "ES")
STEM = "futures_trades_ES"
LARGE = 1 << 30


def rows_in(path):
    raw = memoryview(path.read_bytes())
    return decode_rows(raw, scan(raw).frames, STREAM)[0]


def test_rows_are_in_the_file_on_append_and_acknowledged_only_by_a_commit(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)

    rows.append(delivered(TRADES, 10))

    assert rows_in(tmp_path / f"{STEM}.arrow").equals(numbered(TRADES, 10))
    assert (log.appended_rows, log.acknowledged_rows) == (10, 0)
    assert pa.Table.from_batches(log.commit()).equals(numbered(TRADES, 10))
    assert (log.appended_rows, log.acknowledged_rows) == (10, 10)


def test_a_commit_does_not_acknowledge_rows_appended_while_it_syncs(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 10))
    real = durable.sync

    def sync_while_another_row_arrives(descriptor):
        real(descriptor)
        monkeypatch.setattr(durable, "sync", real)
        rows.append(delivered(TRADES, 5, start=10))

    monkeypatch.setattr(durable, "sync", sync_while_another_row_arrives)

    assert sum(batch.num_rows for batch in log.commit()) == 10
    assert sum(batch.num_rows for batch in log.commit()) == 5


def test_a_sealed_segment_ends_with_its_seal_and_its_successor_names_it(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 10))
    log.seal()
    rows.append(delivered(TRADES, 3, start=10))
    log.commit()

    sealed = tmp_path / f"{STEM}.001.arrow"
    assert log.take_sealed() == [sealed]
    old, new = scan(memoryview(sealed.read_bytes())), scan(raw := memoryview((tmp_path / f"{STEM}.arrow").read_bytes()))
    assert old.sealed
    assert old.rows == 10
    assert predecessor_of(raw, new.frames[0]) == (old.header.segment, 10, ((1, 9),))
    assert new.rows == 3


def test_appends_go_on_between_a_seal_and_its_commit_and_nothing_is_acknowledged_before_the_names_are(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 10))
    log.seal()
    rows.append(delivered(TRADES, 5, start=10))

    assert not (tmp_path / f"{STEM}.001.arrow").exists()
    assert log.acknowledged_rows == 0
    found = salvage(tmp_path, 9, set())  # as after a kill at this moment
    assert sum(rows_in(path).num_rows for path in found.sealed) == 15


def test_a_segment_is_sealed_at_its_size(tmp_path):
    log = StreamLog(tmp_path, STREAM, segment_bytes=50_000)
    rows = CaptureRows(log, capture_id=1)
    for start in range(0, 2_000, 100):
        rows.append(delivered(TRADES, 100, start))
        log.commit()

    sealed = log.take_sealed()
    assert len(sealed) > 2
    assert [path.name for path in sealed] == [f"{STEM}.{n:03d}.arrow" for n in range(1, len(sealed) + 1)]
    assert all(50_000 <= path.stat().st_size < 80_000 for path in sealed)


def test_an_idle_stream_puts_its_watermark_on_disk(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    CaptureRows(log, capture_id=1).append(delivered(TRADES, 10))
    log.commit()
    active = tmp_path / f"{STEM}.arrow"
    assert scan(memoryview(active.read_bytes())).durable_row == 0

    assert log.mark_idle()
    assert scan(memoryview(active.read_bytes())).durable_row == 10
    assert not log.mark_idle()


def test_numbers_go_on_after_a_clean_stop_and_are_never_used_twice(tmp_path):
    used = []
    for _ in range(3):
        log = StreamLog(tmp_path, STREAM, LARGE)
        CaptureRows(log, capture_id=1).append(delivered(TRADES, 10))
        log.seal()
        log.commit()
        for path in log.take_sealed():
            used.append(paths.parse_segment_name(path.name).number)
            path.unlink()
        log.close()

    assert used == sorted(set(used))
    assert len(used) == 3
    assert [path.name for path in tmp_path.iterdir()] == [f"{STEM}.arrow"]


def test_a_failed_sync_poisons_the_segment_and_its_rows_go_to_a_successor_with_their_numbers(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 10))
    log.commit()
    rows.append(delivered(TRADES, 5, start=10))
    real, calls = durable.sync, []

    def fail_once(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(durable, "sync", fail_once)

    acknowledged = pa.Table.from_batches(log.commit())

    assert acknowledged.equals(numbered(TRADES, 15).slice(10))
    assert calls[0] not in calls[1:]  # never synced again
    assert rows_in(tmp_path / f"{STEM}.001.poisoned.arrow").num_rows == 15
    successor = memoryview((tmp_path / f"{STEM}.arrow").read_bytes())
    assert predecessor_of(successor, scan(successor).frames[0]).last == ((1, 9),)  # no row that is in doubt
    assert rows_in(tmp_path / f"{STEM}.arrow").equals(numbered(TRADES, 15).slice(10))
    rows.append(delivered(TRADES, 5, start=15))
    assert sum(batch.num_rows for batch in log.commit()) == 5


def test_a_second_failed_sync_stops_the_log_and_acknowledges_nothing(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, LARGE)
    CaptureRows(log, capture_id=1).append(delivered(TRADES, 10))

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(durable, "sync", fail)

    with pytest.raises(StorageError, match="could not make rows durable"):
        log.commit()
    assert log.acknowledged_rows == 0


def test_a_full_disk_takes_no_part_of_a_frame_and_no_number(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 10))
    size = (tmp_path / f"{STEM}.arrow").stat().st_size
    real = os.pwrite

    def short_then_full(descriptor, data, offset):
        if offset > size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:100], offset)

    monkeypatch.setattr(os, "pwrite", short_then_full)
    with pytest.raises(StorageError, match="took no more rows"):
        rows.append(delivered(TRADES, 5, start=10))
    monkeypatch.undo()

    assert (tmp_path / f"{STEM}.arrow").stat().st_size == size
    assert rows.next_seq == 10
    rows.append(delivered(TRADES, 5, start=10))
    assert rows_in(tmp_path / f"{STEM}.arrow").equals(numbered(TRADES, 15))


def test_rows_that_are_recorded_already_are_counted_and_not_appended_again(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    recorded = numbered(TRADES, 10)["capture_seq"].to_numpy()[[0, 1, 2, 5]]
    rows = CaptureRows(log, capture_id=1, recorded=recorded)

    rows.append(delivered(TRADES, 4))
    rows.append(delivered(TRADES, 4, start=4))

    assert rows.next_seq == 8
    assert rows.appended_rows == 4
    assert rows_in(tmp_path / f"{STEM}.arrow")["capture_seq"].to_pylist() == [3, 4, 6, 7]


def test_a_batch_larger_than_a_frame_is_cut_into_frames(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    CaptureRows(log, capture_id=1).append(delivered(TRADES, 70_000))

    found = scan(memoryview((tmp_path / f"{STEM}.arrow").read_bytes()))
    assert found.rows == 70_000
    assert 700_000 < max(frame.length for frame in found.frames) <= 900_000
    assert len(found.frames) < 15


def test_after_a_refused_commit_nothing_is_ever_acknowledged_again(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, LARGE)
    CaptureRows(log, capture_id=1).append(delivered(TRADES, 10))

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(durable, "sync", fail)
    with pytest.raises(StorageError):
        log.commit()
    monkeypatch.undo()  # the disk says that all is well again; it proves nothing

    for act in (log.commit, log.seal, log.mark_idle, lambda: CaptureRows(log, 2).append(delivered(TRADES, 1))):
        with pytest.raises(StorageError):
            act()
    assert log.acknowledged_rows == 0
    assert sum(rows_in(path).num_rows for path in salvage(tmp_path, 9, set()).sealed) >= 10


def test_rows_sealed_while_a_commit_syncs_are_not_acknowledged_before_their_segment_has_its_name(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 10))
    real = durable.sync

    def seal_and_append_meanwhile(descriptor):
        monkeypatch.setattr(durable, "sync", real)
        log.seal()
        rows.append(delivered(TRADES, 5, start=10))
        real(descriptor)

    monkeypatch.setattr(durable, "sync", seal_and_append_meanwhile)

    assert sum(batch.num_rows for batch in log.commit()) == 10
    assert not (tmp_path / f"{STEM}.001.arrow").exists()
    assert sum(batch.num_rows for batch in log.commit()) == 5
    assert (tmp_path / f"{STEM}.001.arrow").exists()


def test_a_seal_that_the_disk_refuses_does_not_take_the_rows_back(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, segment_bytes=1)  # every append seals
    rows = CaptureRows(log, capture_id=1)
    real, calls = durable.write_fully, []

    def refuse_the_seal(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(durable, "write_fully", refuse_the_seal)
    rows.append(delivered(TRADES, 10))
    rows.append(delivered(TRADES, 10, start=10))
    log.commit()

    (sealed,) = log.take_sealed()
    assert rows_in(sealed).equals(numbered(TRADES, 20))


def test_rows_too_large_for_one_frame_are_cut_until_they_fit(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    contracts = pa.array(["x" * 300_000] * 20 + ["ESZ5"] * 9_980)  # a frame's worth of rows on average
    rows = delivered(TRADES, 10_000)
    at = rows.schema.get_field_index("contract")
    CaptureRows(log, capture_id=1).append(rows.set_column(at, rows.schema.field(at), contracts))

    found = scan(memoryview((tmp_path / f"{STEM}.arrow").read_bytes()))
    assert found.problem is None
    assert found.rows == 10_000
    assert max(frame.length for frame in found.frames) <= 900_000


def test_a_row_too_large_for_any_frame_is_refused_by_name_and_nothing_of_it_is_in_the_log(tmp_path):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = delivered(TRADES, 1)
    at = rows.schema.get_field_index("contract")

    with pytest.raises(UsageError, match="a row of futures.trades/ES is too large"):
        CaptureRows(log, capture_id=1).append(rows.set_column(at, rows.schema.field(at), pa.array(["x" * 1_000_000])))

    assert scan(memoryview((tmp_path / f"{STEM}.arrow").read_bytes())).rows == 0


def test_a_frame_of_a_former_size_is_read(tmp_path):
    path = tmp_path / "futures_trades_ES.001.arrow"
    writer = SegmentWriter(path, Header.new(STREAM, 1, 0), FrameEncoder(TRADES.log, max_bytes=64 << 20))
    writer.mark("open")
    writer.append(numbered(TRADES, 60_000).combine_chunks().to_batches()[0])

    assert [frame.rows for frame in scan(memoryview(path.read_bytes())).frames] == [0, 60_000]


def test_a_full_disk_refuses_appends_and_seals_ends_no_log_and_leaves_nothing_torn(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        log = StreamLog(disk.root, STREAM, LARGE)
        rows = CaptureRows(log, capture_id=1)
        rows.append(delivered(TRADES, 10))
        log.seal()
        disk.leave(0)
        assert sum(batch.num_rows for batch in log.commit()) == 10  # with no room for a next segment
        with pytest.raises(DiskFullError, match="took no more rows"):
            rows.append(delivered(TRADES, 50_000, start=10))
        assert rows.next_seq == 10
        disk.leave(100_000)
        rows.append(delivered(TRADES, 10, start=10))
        disk.leave(0)
        with pytest.raises(DiskFullError, match="could not seal"):
            log.seal()
        log.commit()
        assert [path.name for path in disk.root.glob(".*")] == []  # no half-made next one
        disk.free()
        rows.append(delivered(TRADES, 10, start=20))
        assert log.seal()
        log.commit()

        first, second = log.take_sealed()
        assert rows_in(first).equals(numbered(TRADES, 10))
        assert rows_in(second).equals(numbered(TRADES, 20, start=10))
        log.close()


def test_a_full_disk_that_refuses_a_sealed_name_acknowledges_nothing_and_the_next_commit_gives_it(
    tmp_path, monkeypatch
):
    log = StreamLog(tmp_path, STREAM, LARGE)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 10))
    log.seal()
    rows.append(delivered(TRADES, 5, start=10))

    def refuse(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "link", refuse)
    for _ in range(2):
        with pytest.raises(DiskFullError, match="could not name a sealed segment"):
            log.commit()
    assert not log.seal()
    rows.append(delivered(TRADES, 5, start=15))
    assert log.acknowledged_rows == 0
    monkeypatch.undo()

    assert pa.Table.from_batches(log.commit()).equals(numbered(TRADES, 20))
    (sealed,) = log.take_sealed()
    assert rows_in(sealed).equals(numbered(TRADES, 10))
    assert rows_in(tmp_path / f"{STEM}.arrow").equals(numbered(TRADES, 20).slice(10))


def test_a_full_disk_that_refuses_the_name_of_a_poisoned_segment_stops_the_log(tmp_path, monkeypatch):
    """Its file may not be synced again, as a commit that was done again would."""
    log = StreamLog(tmp_path, STREAM, LARGE)
    CaptureRows(log, capture_id=1).append(delivered(TRADES, 10))
    real, failed = durable.sync, []

    def fail_once(descriptor):
        if not failed:
            failed.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    def refuse(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "sync", fail_once)
    monkeypatch.setattr(durable, "link", refuse)
    for _ in range(2):
        with pytest.raises(StorageError) as refused:
            log.commit()
        assert not isinstance(refused.value, DiskFullError)
    assert log.acknowledged_rows == 0

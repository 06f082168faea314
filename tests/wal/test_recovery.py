"""What recovery makes of each kind of damage. Every test plants the damage in real segments."""

import json
import weakref

import numpy as np
import pyarrow as pa
import pytest

from spymaster import durable
from spymaster.errors import WalError
from spymaster.events import SYSTEM_GAPS, Stream
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import salvage
from spymaster.wal.segment import Predecessor, decode_rows, predecessor_of, scan
from spymaster.wal.writer import StreamLog
from tests import bad_sector
from tests.rows import TRADES, delivered, numbered

STREAM = Stream("futures.trades", "ES")
STEM = "futures_trades_ES"


def log_with(tmp_path, *commits: int) -> StreamLog:
    """Leave a log as a killed process does, with one frame and one commit for each number of rows."""
    tmp_path.mkdir(exist_ok=True)
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=1)
    for count in commits:
        rows.append(delivered(TRADES, count, start=rows.next_seq))
        log.commit()
    return log


def recovered_rows(found, stream=STREAM) -> pa.Table:
    tables = []
    for path in found.sealed:
        raw = memoryview(path.read_bytes())
        segment = scan(raw)
        assert segment.sealed
        if segment.header.stream == stream:
            tables.append(decode_rows(raw, segment.frames, stream)[0])
    return pa.concat_tables(tables)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_killed_process_loses_nothing_that_was_appended(tmp_path):
    log = log_with(tmp_path, 10, 10)
    CaptureRows(log, capture_id=2).append(delivered(TRADES, 5))  # never committed

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found).num_rows == 25
    assert not found.acknowledged_damage
    assert names(tmp_path) == [f"{STEM}.003.arrow", f"{STEM}.arrow"]


def test_recovery_twice_changes_nothing(tmp_path):
    log_with(tmp_path, 10)
    first = salvage(tmp_path, 9, set())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    again = salvage(tmp_path, 9, set())

    assert again.sealed == first.sealed
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".arrow"
    }.keys() == before.keys()
    assert (tmp_path / first.sealed[0].name).read_bytes() == before[first.sealed[0].name]


def test_a_torn_tail_goes_to_quarantine_and_the_rows_before_it_are_kept(tmp_path):
    log_with(tmp_path, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    last = scan(memoryview(active.read_bytes())).frames[-1]
    torn = active.read_bytes()[: last.offset + last.length // 2]
    active.write_bytes(torn)

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found).equals(numbered(TRADES, 10))
    assert found.torn_bytes == last.length // 2
    assert not found.acknowledged_damage  # the last frame's rows were above the watermark
    kept = next((tmp_path / "quarantine").glob("*.arrow"))
    assert kept.read_bytes() == torn
    assert json.loads(kept.with_name(kept.name + ".json").read_text())["unsound"] == [[last.offset, len(torn)]]


def test_quarantine_is_read_again_and_rows_that_read_well_later_come_into_the_log(tmp_path):
    log_with(tmp_path, 10, 10, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    whole = active.read_bytes()
    second = scan(memoryview(whole)).frames[2]
    active.write_bytes(whole[: second.offset + 60] + b"misread" + whole[second.offset + 67 :])
    first = salvage(tmp_path, 9, set())
    assert first.acknowledged_damage
    for path in first.sealed:
        path.unlink()  # as after their flush
    kept = next((tmp_path / "quarantine").glob("*.arrow"))

    assert salvage(tmp_path, 10, set()).sealed == []  # it still misreads
    kept.write_bytes(whole)
    healed = salvage(tmp_path, 11, set())
    for path in healed.sealed:
        path.unlink()

    assert not healed.acknowledged_damage
    assert "reads better now: 40 rows, 30 before" in healed.notes[0]
    assert json.loads(kept.with_name(kept.name + ".json").read_text())["sound_rows"] == 40
    assert salvage(tmp_path, 12, set()).sealed == []  # once is enough


def test_what_reads_well_again_stands_in_the_log_whole_and_in_order(tmp_path):
    log_with(tmp_path, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    whole = active.read_bytes()
    active.write_bytes(whole[:-5])
    salvage(tmp_path, 9, set())
    next((tmp_path / "quarantine").glob("*.arrow")).write_bytes(whole)

    found = salvage(tmp_path, 10, set())

    assert recovered_rows(found).slice(10).equals(numbered(TRADES, 20))  # after the ten of the first recovery


def test_a_bad_sector_under_quarantine_does_not_stop_recovery(tmp_path, monkeypatch):
    log_with(tmp_path, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    active.write_bytes(active.read_bytes()[:-5])
    first = salvage(tmp_path, 9, set())
    (kept,) = (tmp_path / "quarantine").glob("*.arrow")
    bad_sector.lies_under(monkeypatch, "quarantine")

    found = salvage(tmp_path, 10, set())

    assert found.sealed == first.sealed
    assert f"{kept} in quarantine cannot be read (Input/output error)" in found.notes[0]
    assert kept.exists()


def test_a_bad_sector_under_the_log_stops_recovery_which_names_the_segment_and_leaves_it(tmp_path, monkeypatch):
    log_with(tmp_path, 10, 10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    bad_sector.lies_under(monkeypatch, f"/{STEM}.arrow")

    with pytest.raises(WalError, match=rf"{STEM}\.arrow cannot be read .*It is as it was\. Next: mend the disk"):
        salvage(tmp_path, 9, set())

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_segment_without_its_bad_sectors_is_salvaged_on_both_sides_of_them(tmp_path):
    """What the refusal of the test before tells the user to do."""
    log_with(tmp_path, *[100] * 8)
    active = tmp_path / f"{STEM}.arrow"
    raw = bytearray(active.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 512] = bytes(512)
    active.write_bytes(raw)

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found).num_rows == 700
    assert sum(hole.end_row - hole.first_row for hole in found.holes) == 100


def test_damaged_acknowledged_rows_are_named_salvaged_on_both_sides_and_recorded_once_as_a_gap(tmp_path):
    log_with(tmp_path, 10, 10, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    damaged = bytearray(active.read_bytes())
    second = scan(memoryview(bytes(damaged))).frames[2]
    damaged[second.offset + second.length - 10] ^= 4
    active.write_bytes(damaged)

    found = salvage(tmp_path, 9, set())

    numbers = recovered_rows(found)["capture_seq"].to_pylist()
    assert numbers == [*range(10), *range(20, 40)]
    (hole,) = found.holes
    assert hole.acknowledged
    assert (hole.capture_id, hole.first_seq, hole.last_seq) == (1, 10, 19)
    gaps = recovered_rows(found, Stream("system.gaps", "spymaster"))
    assert gaps.select(["of_capture_id", "first_seq", "last_seq", "rows"]).to_pylist() == [
        {"of_capture_id": 1, "first_seq": 10, "last_seq": 19, "rows": 10}
    ]
    assert gaps.schema.equals(SYSTEM_GAPS.log)
    assert next((tmp_path / "quarantine").glob("*.arrow")).read_bytes() == damaged

    again = salvage(tmp_path, 9, set())
    assert again.holes == []
    assert recovered_rows(again, Stream("system.gaps", "spymaster")).num_rows == 1


@pytest.mark.parametrize("earlier", [False, True])
def test_the_stream_of_gap_rows_goes_on_behind_those_that_recovery_wrote_though_their_segment_is_gone(
    tmp_path, earlier
):
    gaps = Stream("system.gaps", "spymaster")
    if earlier:
        StreamLog(tmp_path, gaps, 1 << 30).close()  # an active segment, without rows
    log_with(tmp_path, 10, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    damaged = bytearray(active.read_bytes())
    damaged[scan(memoryview(bytes(damaged))).frames[2].end - 10] ^= 4
    active.write_bytes(damaged)
    found = salvage(tmp_path, 9, set())
    (sealed,) = [path for path in found.sealed if path.name.startswith("system_gaps_spymaster.")]
    raw = memoryview(sealed.read_bytes())
    sealed.unlink()  # in Bronze, before a lane of these rows is opened

    StreamLog(tmp_path, gaps, 1 << 30).close()

    raw_after = memoryview((tmp_path / "system_gaps_spymaster.arrow").read_bytes())
    after = scan(raw_after)
    assert after.header.number > scan(raw).header.number
    assert predecessor_of(raw_after, after.frames[0]) == Predecessor(scan(raw).header.segment, 1, ((9, 0),))


def test_a_lost_tail_below_the_watermark_is_acknowledged_damage(tmp_path):
    log = log_with(tmp_path, 10, 10)
    log.mark_idle()
    active = tmp_path / f"{STEM}.arrow"
    frames = scan(memoryview(active.read_bytes())).frames
    raw = bytearray(active.read_bytes())
    raw[frames[2].offset + 40] ^= 1  # the second ten rows; the idle frame after them says that they were durable
    active.write_bytes(raw)

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found).num_rows == 10
    assert found.acknowledged_damage
    assert (found.holes[0].first_row, found.holes[0].end_row) == (10, 20)
    assert found.holes[0].capture_id is None  # another may have begun in them; no next segment says


def test_a_sealed_name_without_its_seal_is_damage_and_its_successor_says_how_much(tmp_path):
    log = log_with(tmp_path, 10, 10)
    log.seal()
    log.commit()
    sealed = tmp_path / f"{STEM}.001.arrow"
    frames = scan(memoryview(sealed.read_bytes())).frames
    sealed.write_bytes(sealed.read_bytes()[: frames[2].offset])

    found = salvage(tmp_path, 9, set())

    assert (found.holes[0].first_row, found.holes[0].end_row) == (10, 20)
    assert found.holes[0].acknowledged


def test_a_file_that_died_in_creation_and_a_foreign_one_are_set_aside_whole(tmp_path):
    (tmp_path / f"{STEM}.arrow").write_bytes(b"")
    (tmp_path / "futures_mbp10_ES.arrow").write_bytes(b"PAR1 not ours")
    (tmp_path / "notes.txt").write_text("not a segment's name, so none of our business")

    found = salvage(tmp_path, 9, set())

    assert found.sealed == []
    assert not found.acknowledged_damage
    assert names(tmp_path) == ["notes.txt"]
    assert sorted(p.read_bytes() for p in (tmp_path / "quarantine").glob("*.arrow")) == [b"", b"PAR1 not ours"]


@pytest.mark.parametrize("successor", [True, False])
def test_a_sealed_segment_of_which_nothing_reads_is_acknowledged_damage(tmp_path, successor):
    log = log_with(tmp_path, 10, 10)
    log.seal()
    log.commit()
    (tmp_path / f"{STEM}.001.arrow").write_bytes(bytes(4096))
    if not successor:
        (tmp_path / f"{STEM}.arrow").unlink()

    found = salvage(tmp_path, 9, set())

    assert found.acknowledged_damage
    assert [(hole.first_row, hole.end_row) for hole in found.holes] == [(0, 20 if successor else None)]
    gaps = recovered_rows(found, Stream("system.gaps", "spymaster"))
    assert gaps["rows"].to_pylist() == [20 if successor else None]
    assert salvage(tmp_path, 9, set()).holes == []


def test_a_link_in_the_log_that_leads_nowhere_is_none_of_recoverys_business(tmp_path):
    log_with(tmp_path, 10)
    (tmp_path / "control.sock").symlink_to(tmp_path / "gone")

    assert recovered_rows(salvage(tmp_path, 9, set())).num_rows == 10


def test_recovery_holds_a_few_segments_in_memory_however_many_there_are(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=1)
    for _ in range(12):
        rows.append(delivered(TRADES, 10, start=rows.next_seq))
        log.seal()
        log.commit()
    read, held, most = durable.read, [], []

    def reading(path, limit=None):
        raw = read(path, limit)
        if limit is None:
            held.append(weakref.ref(raw))
            most.append(sum(reference() is not None for reference in held))
        return raw

    monkeypatch.setattr(durable, "read", reading)

    assert len(salvage(tmp_path, 9, set()).sealed) == 12
    assert max(most) <= 3


def test_two_names_of_one_segment_are_one_segment(tmp_path):
    log = log_with(tmp_path, 10)
    log.seal()
    log.commit()
    sealed = tmp_path / f"{STEM}.001.arrow"
    (tmp_path / f"{STEM}.arrow").unlink()
    (tmp_path / f"{STEM}.arrow").hardlink_to(sealed)  # a crash between link and rename

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found).num_rows == 10


def test_a_poisoned_segment_is_recovered_like_an_unsealed_one(tmp_path):
    log_with(tmp_path, 10)
    (tmp_path / f"{STEM}.arrow").rename(tmp_path / f"{STEM}.001.poisoned.arrow")

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found).num_rows == 10
    assert not found.acknowledged_damage


def test_a_recovery_killed_between_copy_and_retirement_finds_its_copy_again(tmp_path):
    log_with(tmp_path, 10)
    origin = (tmp_path / f"{STEM}.arrow").read_bytes()
    salvage(tmp_path, 9, set())
    (tmp_path / f"{STEM}.arrow").write_bytes(origin)  # as if it had not been replaced yet

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found).equals(numbered(TRADES, 10))


def test_a_copy_with_other_rows_than_its_origin_has_is_not_taken_for_all_of_them(tmp_path):
    log_with(tmp_path, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    origin = active.read_bytes()
    active.write_bytes(origin[:-5])  # misread
    salvage(tmp_path, 9, set())
    active.write_bytes(origin)

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found)["capture_seq"].to_pylist() == [*range(10), *range(20)]  # the lake takes one of each


def test_a_quarantine_that_refuses_does_not_fill_the_log_with_copies(tmp_path):
    log_with(tmp_path, 10, 10)
    active = tmp_path / f"{STEM}.arrow"
    active.write_bytes(active.read_bytes()[:-5])
    (tmp_path / "quarantine").write_text("a file")
    for _ in range(3):
        with pytest.raises(FileExistsError):
            salvage(tmp_path, 9, set())
        assert len(list(tmp_path.glob(f"{STEM}.*.arrow"))) == 1
    (tmp_path / "quarantine").unlink()

    assert recovered_rows(salvage(tmp_path, 9, set())).equals(numbered(TRADES, 10))


def test_no_flipped_bit_of_a_header_takes_a_row_with_it(tmp_path):
    log_with(tmp_path / "whole", 5, 5, 5)
    active = tmp_path / "whole" / f"{STEM}.arrow"
    good = active.read_bytes()
    header_bytes = scan(memoryview(good)).frames[0].offset
    for byte in range(0, header_bytes, 7):
        folder = tmp_path / str(byte)
        folder.mkdir()
        damaged = bytearray(good)
        damaged[byte] ^= 1 << byte % 8
        (folder / f"{STEM}.arrow").write_bytes(damaged)

        found = salvage(folder, 9, set())

        assert recovered_rows(found).equals(numbered(TRADES, 15)), byte


def test_a_segment_of_another_version_stops_recovery_and_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("spymaster.wal.segment.FORMAT_VERSION", 2)
    log_with(tmp_path, 5)
    monkeypatch.undo()
    active = tmp_path / f"{STEM}.arrow"
    before = active.read_bytes()

    with pytest.raises(WalError, match="another version of spymaster"):
        salvage(tmp_path, 9, set())
    assert active.read_bytes() == before


def test_a_sealed_segment_with_a_batch_that_does_not_decode_does_not_stop_recovery(tmp_path):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 5))
    poison = delivered(TRADES, 5, start=5)
    text = pa.StringArray.from_buffers(5, pa.py_buffer(np.arange(6, dtype=np.int32)), pa.py_buffer(b"\xff" * 5))
    rows.append(poison.set_column(poison.schema.get_field_index("contract"), poison.schema.field("contract"), text))
    rows.append(delivered(TRADES, 5, start=10))
    log.commit()
    log.seal()
    log.commit()

    found = salvage(tmp_path, 9, set())

    assert recovered_rows(found)["capture_seq"].to_pylist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert (found.holes[0].first_seq, found.holes[0].last_seq) == (5, 9)


def test_a_gap_of_damage_names_no_row_that_was_lost_before_it_was_acknowledged(tmp_path):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 5))
    log.commit()
    rows.append(delivered(TRADES, 5, start=5))
    rows.append(delivered(TRADES, 5, start=10))
    active = tmp_path / f"{STEM}.arrow"
    raw = bytearray(active.read_bytes())
    acknowledged, lost, _ = [frame for frame in scan(memoryview(bytes(raw))).frames if frame.rows]
    for frame in (acknowledged, lost):
        raw[frame.offset + 100] ^= 1
    active.write_bytes(raw)

    found = salvage(tmp_path, 9, set())

    gaps = recovered_rows(found, Stream("system.gaps", "spymaster"))
    assert gaps.select(["cause", "first_seq", "last_seq"]).to_pylist() == [
        {"cause": "wal_damage", "first_seq": 0, "last_seq": 4},
        {"cause": "not_acknowledged", "first_seq": 5, "last_seq": 9},
    ]


def test_rows_lost_before_they_were_acknowledged_are_a_gap_and_no_damage(tmp_path):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=1)
    for _ in range(3):
        rows.append(delivered(TRADES, 5, start=rows.next_seq))  # never committed
    active = tmp_path / f"{STEM}.arrow"
    raw = bytearray(active.read_bytes())
    raw[scan(memoryview(bytes(raw))).frames[2].offset + 100] ^= 1
    active.write_bytes(raw)

    found = salvage(tmp_path, 9, set())

    assert not found.acknowledged_damage
    gaps = recovered_rows(found, Stream("system.gaps", "spymaster"))
    assert gaps.select(["cause", "first_seq", "last_seq"]).to_pylist() == [
        {"cause": "not_acknowledged", "first_seq": 5, "last_seq": 9}
    ]


def test_a_gap_between_two_captures_names_neither(tmp_path):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    for capture in (1, 2, 3):
        CaptureRows(log, capture).append(delivered(TRADES, 5))
        log.commit()
    active = tmp_path / f"{STEM}.arrow"
    raw = bytearray(active.read_bytes())
    raw[scan(memoryview(bytes(raw))).frames[2].offset + 100] ^= 1
    active.write_bytes(raw)

    (hole,) = salvage(tmp_path, 9, set()).holes

    assert (hole.capture_id, hole.first_seq, hole.last_seq) == (None, None, None)
    assert (hole.first_row, hole.end_row) == (5, 10)


def test_a_gap_before_the_first_rows_of_a_capture_does_not_name_that_capture(tmp_path):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    for capture in (1, 2):
        CaptureRows(log, capture).append(delivered(TRADES, 5))
        log.commit()
    log.mark_idle()
    active = tmp_path / f"{STEM}.arrow"
    raw = bytearray(active.read_bytes())
    raw[scan(memoryview(bytes(raw))).frames[1].offset + 100] ^= 1
    active.write_bytes(raw)

    (hole,) = salvage(tmp_path, 9, set()).holes

    assert (hole.capture_id, hole.first_seq, hole.last_seq) == (None, None, None)
    assert (hole.first_row, hole.end_row) == (0, 5)


def sealed_and_struck(tmp_path, *captures: tuple[int, int], frame: int) -> None:
    """Seal a segment of a frame for each (capture, rows), with a successor, and flip a bit in one of its frames."""
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = {capture: CaptureRows(log, capture) for capture, _ in captures}
    for capture, count in captures:
        rows[capture].append(delivered(TRADES, count, start=rows[capture].next_seq))
    log.seal()
    log.commit()
    sealed = tmp_path / f"{STEM}.001.arrow"
    raw = bytearray(sealed.read_bytes())
    raw[scan(memoryview(bytes(raw))).frames[1 + frame].offset + 100] ^= 1
    sealed.write_bytes(raw)


@pytest.mark.parametrize(
    ("captures", "named"),
    [
        ([(1, 5), (2, 5)], (2, 0, 4)),  # all of it was in the hole
        ([(2, 5), (1, 5), (2, 5)], (2, 5, 9)),
        ([(1, 5), (1, 5)], (1, 5, 9)),
    ],
)
def test_a_gap_at_the_end_of_a_segment_names_the_capture_whose_last_row_the_next_segment_misses(
    tmp_path, captures, named
):
    sealed_and_struck(tmp_path, *captures, frame=len(captures) - 1)

    (hole,) = salvage(tmp_path, 9, set()).holes

    assert (hole.capture_id, hole.first_seq, hole.last_seq) == named


def test_a_gap_at_the_end_of_a_segment_that_took_rows_of_two_captures_names_neither(tmp_path):
    sealed_and_struck(tmp_path, (1, 5), (1, 5), (2, 5), frame=1)
    sealed = tmp_path / f"{STEM}.001.arrow"
    sealed.write_bytes(sealed.read_bytes()[: scan(memoryview(sealed.read_bytes())).end])  # cut at the bit

    (hole,) = salvage(tmp_path, 9, set()).holes

    assert (hole.first_row, hole.end_row) == (5, 15)
    assert (hole.capture_id, hole.first_seq, hole.last_seq) == (None, None, None)


def test_rows_in_doubt_after_a_failed_sync_of_a_sealed_segment_are_no_damage_when_its_pages_are_gone(
    tmp_path, monkeypatch
):
    log = log_with(tmp_path, 10)
    rows = CaptureRows(log, capture_id=2)
    rows.append(delivered(TRADES, 5))
    log.seal()

    def refuse_once(descriptor):
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "sync", refuse_once)
    log.commit()
    (poisoned,) = tmp_path.glob("*.poisoned.arrow")
    acknowledged = scan(memoryview(poisoned.read_bytes())).frames[1]
    poisoned.write_bytes(poisoned.read_bytes()[: acknowledged.end])  # the kernel dropped what it could not write

    found = salvage(tmp_path, 9, set())

    assert not found.acknowledged_damage
    assert recovered_rows(found).num_rows == 15


def test_what_a_successor_says_behind_damage_of_its_own_still_counts(tmp_path, monkeypatch):
    log = log_with(tmp_path, 10)
    rows = CaptureRows(log, capture_id=2)
    rows.append(delivered(TRADES, 5))
    log.seal()
    rows.append(delivered(TRADES, 5, start=5))

    def refuse_once(descriptor):
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "sync", refuse_once)
    log.commit()
    (poisoned,) = tmp_path.glob("*.poisoned.arrow")
    found = scan(memoryview(poisoned.read_bytes()))
    poisoned.write_bytes(poisoned.read_bytes()[: found.frames[1].end])
    active = tmp_path / f"{STEM}.arrow"
    raw = bytearray(active.read_bytes())
    raw[scan(memoryview(bytes(raw))).frames[1].offset + 100] ^= 1
    active.write_bytes(raw)

    holes = salvage(tmp_path, 9, set()).holes

    assert found.header.segment not in [hole.segment for hole in holes]

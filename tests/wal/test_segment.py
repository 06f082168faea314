"""The format of a segment: what readers without our code see, and what a damaged byte does."""

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster import events
from spymaster.events import Stream
from spymaster.wal import segment
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.segment import Header, Predecessor, decode_rows, predecessor_of, scan
from spymaster.wal.segment_writer import encode_segment
from spymaster.wal.writer import StreamLog
from tests.rows import NOON_NS, TRADES, delivered, numbered

STREAM = Stream("futures.trades", "ES")


def segment_bytes(rows: int = 40, per_frame: int = 8) -> bytes:
    header = Header("ab" * 16, STREAM, 7, NOON_NS, None)
    table = pa.Table.from_batches(numbered(TRADES, rows).to_batches(max_chunksize=per_frame))
    return encode_segment(header, table, Predecessor("cd" * 16, 123))


def test_a_segment_reads_back_as_it_was_written():
    found = scan(raw := memoryview(segment_bytes()))

    assert found.problem is None
    assert found.sealed
    assert found.header == Header("ab" * 16, STREAM, 7, NOON_NS, None)
    assert predecessor_of(raw, found.frames[0]) == Predecessor("cd" * 16, 123)
    rows, poison = decode_rows(raw, found.frames, STREAM)
    assert poison == []
    assert rows.equals(numbered(TRADES, 40))


def test_a_segment_of_several_large_frames_reads_back_as_it_was_written():
    rows = numbered(TRADES, 200_000)
    found = scan(raw := memoryview(encode_segment(Header("ab" * 16, STREAM, 7, NOON_NS, None), rows, None)))

    assert found.sealed
    assert decode_rows(raw, found.frames, STREAM)[0].equals(rows)


@pytest.mark.parametrize("schema", events.SCHEMAS.values(), ids=lambda schema: schema.name)
def test_every_schema_passes_the_log_unchanged(schema):
    stream = Stream(schema.name, "X")
    raw = memoryview(encode_segment(Header.new(stream, 1, 0), numbered(schema, 5), None))

    rows, _ = decode_rows(raw, scan(raw).frames, stream)

    assert rows.equals(numbered(schema, 5))
    assert rows.schema.metadata == schema.log.metadata


@pytest.mark.parametrize("name", ["futures_trades_ES.arrow", "futures_trades_ES.001.arrow"], ids=["active", "sealed"])
def test_stock_readers_open_a_segment_of_a_running_log_without_our_code(tmp_path, name):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=1)
    rows.append(delivered(TRADES, 40))
    log.seal()
    log.commit()
    rows.append(delivered(TRADES, 40))

    with pa.ipc.open_stream(tmp_path / name) as reader:
        table = reader.read_all()
    assert table.num_rows == 40
    assert pl.read_ipc_stream(tmp_path / name).height == 40
    with duckdb.connect() as connection:
        assert connection.from_arrow(table).count("*").fetchall() == [(40,)]


def test_every_flipped_bit_is_seen_and_no_row_after_it_counts_as_unbroken():
    good = segment_bytes(rows=6, per_frame=3)
    rows = numbered(TRADES, 6)
    for byte in range(len(good)):
        damaged = bytearray(good)
        damaged[byte] ^= 1 << byte % 8
        raw = memoryview(bytes(damaged))
        found = scan(raw)
        assert not found.sealed, byte
        if found.header is not None:
            kept, poison = decode_rows(raw, found.frames, STREAM)
            assert poison == []
            assert kept.equals(rows.slice(0, kept.num_rows)), byte


def test_damage_in_the_middle_leaves_the_frames_on_both_sides():
    good = segment_bytes(rows=40, per_frame=8)
    frames = scan(memoryview(good)).frames
    third = frames[3]  # the opening frame is the first
    damaged = bytearray(good)
    damaged[third.offset + third.length // 2] ^= 1

    found = scan(memoryview(bytes(damaged)))

    assert found.problem == "CRC32C does not match"
    assert found.end == third.offset
    assert found.rows == 16
    assert [frame.first_row for frame in found.islands] == [24, 32, 40]


def test_where_whole_frames_are_missing_the_frame_in_their_place_is_kept():
    good = segment_bytes(rows=40, per_frame=8)
    frames = scan(memoryview(good)).frames

    found = scan(memoryview(good[: frames[2].offset] + good[frames[4].offset :]))

    assert found.rows == 8
    assert [frame.first_row for frame in found.islands] == [24, 32, 40]


@given(cut=st.floats(0, 1), tail=st.binary(max_size=200))
@settings(deadline=None)
def test_a_segment_cut_anywhere_with_any_tail_gives_a_prefix_of_its_rows(cut, tail):
    good = segment_bytes()
    raw = memoryview(good[: int(cut * len(good))] + tail)

    found = scan(raw)

    rows, poison = decode_rows(raw, found.frames, STREAM)
    assert poison == []
    assert rows.equals(numbered(TRADES, 40).slice(0, rows.num_rows))


@given(data=st.binary(max_size=2_000))
@settings(deadline=None)
def test_arbitrary_bytes_are_no_segment_and_do_no_harm(data):
    found = scan(memoryview(data))

    assert found.header is None
    assert found.frames == []
    assert found.problem


def test_a_frame_of_another_segment_is_not_taken_for_ours():
    ours = segment_bytes(rows=8)
    other = encode_segment(Header("ee" * 16, STREAM, 8, NOON_NS, None), numbered(TRADES, 8), None)
    frame = scan(memoryview(other)).frames[1]
    place = scan(memoryview(ours)).frames[1]
    spliced = ours[: place.offset] + other[frame.offset : frame.end] + ours[place.end :]

    assert scan(memoryview(spliced)).problem == "a frame of another segment"


def test_a_length_that_claims_gigabytes_allocates_nothing():
    good = bytearray(segment_bytes(rows=8))
    frame = scan(memoryview(bytes(good))).frames[1]
    good[frame.offset + 4 : frame.offset + 8] = (0x7FFFFFF0).to_bytes(4, "little")

    assert scan(memoryview(bytes(good))).problem == "no frame begins here"


def test_bytes_that_claim_frames_over_one_another_are_summed_a_few_times_over_and_no_more(monkeypatch):
    good = segment_bytes(rows=8)
    frame = scan(memoryview(good)).frames[1]
    claims = bytearray(good[frame.offset : frame.offset + 400])
    body = bytes(claims).index(b"body=") + 5
    claims[body : body + 12] = f"{200_000:012d}".encode()  # each says that it reaches over hundreds of others
    summed = []
    monkeypatch.setattr(segment, "crc32c", lambda data, crc=0: summed.append(len(data)) or crc32c(data, crc))
    raw = good[: frame.offset] + b"damage.." + bytes(claims) * 1_000

    assert scan(memoryview(raw)).islands == []
    assert sum(summed) < 6 * len(raw)

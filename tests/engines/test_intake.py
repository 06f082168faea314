"""Which rows count for which snap: by hand, and at random against a row at a time in plain Python."""

import random

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.intake import Intake, Missing, Seen
from spymaster.events import (
    FUTURES_MBP10,
    FUTURES_TRADES,
    OPTIONS_TRADES,
    REFERENCE_STATUS,
    SYSTEM_GAPS,
    EventSchema,
    Stream,
)  # fmt: skip

MS = 1_000_000
SECOND = 1_000 * MS
SNAP = 250 * MS
BEGIN = 7_065_655_200 * SNAP  # 2025-12-22 14:30 UTC
BOOKS, TRADES = Stream("futures.mbp10", "ES"), Stream("futures.trades", "ES")
STATUS, GAPS = Stream("reference.status", "ES"), Stream("system.gaps", "spymaster")
SCHEMAS = {
    schema.name: schema for schema in (FUTURES_MBP10, FUTURES_TRADES, OPTIONS_TRADES, REFERENCE_STATUS, SYSTEM_GAPS)
}
FIRST, LAST = -(2**63), 2**63 - 1


def rows_of(schema: EventSchema, rows):
    """Return rows given as dicts: what they do not say is a plain default."""
    defaults = {"symbol": "ES", "source": "sim", "is_snapshot": False, "aggressor": 0, "capture_id": 1}
    columns = []
    for column in schema.log:
        empty = None if column.nullable else {pa.string(): "", pa.bool_(): False}.get(column.type, 0)
        columns.append(pa.array([row.get(column.name, defaults.get(column.name, empty)) for row in rows], column.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema.log)


def batch(stream, *rows):
    """Return rows of (event time after BEGIN, capture_seq), or dicts."""
    found = [row if isinstance(row, dict) else {"ts_event_ns": BEGIN + row[0], "capture_seq": row[1]} for row in rows]
    return rows_of(SCHEMAS[stream.schema], [{"ts_recv_ns": row["ts_event_ns"], **row} for row in found])


def numbers(piece, stream=BOOKS):
    """Return the capture_seq of a piece's rows."""
    return [seq for found in piece.batches.get(stream.schema, []) for seq in found.column("capture_seq").to_pylist()]


def after(piece):
    return piece.snap_ns - BEGIN


def test_a_snap_is_due_100_ms_after_its_time_and_has_the_rows_up_to_it():
    intake = Intake("ES")
    (piece,) = intake.take(BOOKS, batch(BOOKS, (100 * MS - 1, 0)))
    assert (after(piece), piece.since_ns, numbers(piece)) == (-SNAP, None, [])
    (piece,) = intake.take(BOOKS, batch(BOOKS, (100 * MS, 1)))
    assert (after(piece), piece.since_ns, numbers(piece)) == (0, BEGIN - SNAP, [])
    pieces = intake.take(BOOKS, batch(BOOKS, (SNAP, 2), (SNAP + 100 * MS, 3), (2 * SNAP + 100 * MS, 4)))
    assert [(after(piece), numbers(piece)) for piece in pieces] == [(SNAP, [0, 1, 2]), (2 * SNAP, [3])]


def test_the_row_that_makes_a_snap_due_and_those_after_the_snap_wait_for_their_own():
    intake = Intake("ES")
    intake.take(BOOKS, batch(BOOKS, (100 * MS, 0)))
    assert intake.take(BOOKS, batch(BOOKS, (SNAP, 1), (SNAP + 1, 2), (SNAP + 100 * MS - 1, 3))) == []
    (piece,) = intake.take(BOOKS, batch(BOOKS, (SNAP + 100 * MS, 4), (SNAP + 100 * MS, 5)))
    assert (after(piece), piece.since_ns, numbers(piece)) == (SNAP, BEGIN, [0, 1])
    assert intake.waiting_rows == 4
    (piece,) = intake.take(BOOKS, batch(BOOKS, (2 * SNAP + 100 * MS, 6)))
    assert (after(piece), numbers(piece)) == (2 * SNAP, [2, 3, 4, 5])


def test_after_a_pause_there_is_one_snap_the_last_that_is_due():
    intake = Intake("ES")
    intake.take(BOOKS, batch(BOOKS, (100 * MS, 0)))
    (piece,) = intake.take(TRADES, batch(TRADES, (60 * SECOND + 99 * MS, 0)))
    assert (after(piece), numbers(piece)) == (60 * SECOND - SNAP, [0])


def test_a_late_row_counts_in_the_next_snap_and_for_its_stream():
    intake = Intake("ES")
    intake.take(BOOKS, batch(BOOKS, (SNAP + 100 * MS, 0)))
    intake.take(TRADES, batch(TRADES, (SNAP, 0), (SNAP + 1, 1)))
    (piece,) = intake.take(BOOKS, batch(BOOKS, (2 * SNAP + 100 * MS, 1)))
    assert numbers(piece, TRADES) == [0, 1]
    assert piece.late == {TRADES: 1}
    (piece,) = intake.take(BOOKS, batch(BOOKS, (3 * SNAP + 100 * MS, 2)))
    assert piece.late == {}


def test_a_time_that_cannot_be_moves_no_clock_and_its_row_goes_no_further():
    intake = Intake("ES")
    wrong = {"ts_event_ns": BEGIN + 10 * SECOND, "ts_recv_ns": BEGIN + 5 * SECOND - 1, "capture_seq": 1}
    early = {"ts_event_ns": BEGIN + 6 * SECOND, "ts_recv_ns": BEGIN + SECOND, "capture_seq": 2}
    intake.take(BOOKS, batch(BOOKS, (100 * MS, 0), wrong))
    (piece,) = intake.take(BOOKS, batch(BOOKS, early))
    assert (after(piece), numbers(piece), piece.ahead) == (6 * SECOND - SNAP, [0], {BOOKS: 1})
    assert piece.seen == {(BOOKS, 1): Seen(1, BEGIN + 100 * MS)}  # so far ahead, nothing is waited for
    (piece,) = intake.take(BOOKS, batch(BOOKS, (7 * SECOND + 100 * MS, 3)))
    assert (after(piece), numbers(piece), piece.ahead) == (7 * SECOND, [2], {})


def test_a_snapshot_moves_no_clock_and_is_never_late():
    intake = Intake("ES")
    intake.take(BOOKS, batch(BOOKS, (10 * SECOND, 0)))
    old = {"ts_event_ns": BEGIN - 3600 * SECOND, "is_snapshot": True, "capture_seq": 1}
    later = {"ts_event_ns": BEGIN + 11 * SECOND, "is_snapshot": True, "capture_seq": 2}
    assert intake.take(BOOKS, batch(BOOKS, old, later)) == []
    (piece,) = intake.take(BOOKS, batch(BOOKS, (10 * SECOND + 100 * MS, 3)))
    assert (numbers(piece), piece.late) == ([0, 1], {})
    (piece,) = intake.take(BOOKS, batch(BOOKS, (11 * SECOND + 100 * MS, 4)))
    assert numbers(piece) == [2, 3]


def test_only_book_and_trades_of_the_root_move_the_clock():
    intake = Intake("ES")
    intake.take(BOOKS, batch(BOOKS, (100 * MS, 0)))
    assert intake.take(STATUS, batch(STATUS, (60 * SECOND, 0))) == []
    other = Stream("futures.mbp10", "NQ")
    assert intake.take(other, batch(other, (60 * SECOND, 0))) == []
    options = Stream("options.trades", "ES")
    assert intake.take(options, rows_of(OPTIONS_TRADES, [{"ts_event_ns": BEGIN + 60 * SECOND}])) == []
    (piece,) = intake.take(BOOKS, batch(BOOKS, (70 * SECOND, 1)))
    assert numbers(piece, STATUS) == [0]
    assert set(piece.seen) == {(BOOKS, 1), (STATUS, 1), (options, 1)}


def test_of_a_stream_of_several_roots_the_rows_of_this_one_count():
    intake = Intake("ES")
    every = Stream("futures.mbp10", "ALL")
    mine, other = ({"ts_event_ns": BEGIN + at, "capture_seq": at, "symbol": symbol}
                   for at, symbol in ((100 * MS, "ES"), (90 * SECOND, "NQ")))  # fmt: skip
    (zero,) = intake.take(every, batch(every, mine, other))
    (piece,) = intake.take(every, batch(every, {**mine, "ts_event_ns": BEGIN + SECOND}))
    assert (after(zero), after(piece), numbers(piece)) == (0, SECOND - SNAP, [100 * MS])
    assert piece.seen == {(every, 1): Seen(90 * SECOND, BEGIN + 90 * SECOND)}


@pytest.mark.parametrize("schema", [FUTURES_MBP10, FUTURES_TRADES, OPTIONS_TRADES])
def test_rows_of_a_schema_have_the_same_columns_from_whichever_stream_and_however_many_wait(schema):
    own, every, intake = Stream(schema.name, "ES"), Stream(schema.name, "ALL"), Intake("ES", most_waiting=3)
    row = {"ts_event_ns": BEGIN + SECOND, schema.partition_by: "ES"}
    intake.put(own, batch(own, row))
    intake.snap(BEGIN)  # through which it waits, so that it is not joined with the others
    for stream in (every, own, every):  # one more than may wait
        intake.put(stream, batch(stream, row))
    found = intake.snap(BEGIN + SECOND).batches[schema.name]

    assert len(found) == 3
    assert len({tuple(each.schema.names) for each in found}) == 1


def test_what_waits_is_bounded_and_those_that_left_first_are_lost():
    for size in (1, 3, 7):
        intake = Intake("ES", most_waiting=5)
        intake.take(BOOKS, batch(BOOKS, (100 * MS, 0)))
        rows = [(100 * MS + at, at) for at in range(1, 9)]
        for begin in range(0, 8, size):
            intake.take(BOOKS, batch(BOOKS, *rows[begin : begin + size]))
            assert intake.waiting_rows <= 5
        (piece,) = intake.take(BOOKS, batch(BOOKS, (SECOND, 9)))
        assert numbers(piece) == [4, 5, 6, 7, 8]
        assert piece.missing == (Missing(BEGIN + 100 * MS, BEGIN + 100 * MS + 4, "overflow"),)
        assert piece.seen == {(BOOKS, 1): Seen(8, BEGIN + 100 * MS + 8)}


def test_skipped_books_are_missing_and_trades_are_not():
    intake = Intake("ES")
    intake.skip(TRADES, 1, 2)
    intake.skip(Stream("futures.mbp10", "NQ"), 1, 2)
    intake.skip(BOOKS, BEGIN, BEGIN + 7)
    intake.skip(BOOKS, FIRST, LAST)
    (piece,) = intake.take(BOOKS, batch(BOOKS, (100 * MS, 0)))
    assert piece.missing == (
        Missing(FIRST, BEGIN + SNAP + 100 * MS, "skipped"), Missing(BEGIN, BEGIN + 8, "skipped")
    )  # fmt: skip
    (piece,) = intake.take(BOOKS, batch(BOOKS, (SECOND, 1)))
    assert piece.missing == ()


def gap(schema="futures.mbp10", symbol="ES", start=None, end=None):
    return {"ts_event_ns": 0, "of_schema": schema, "of_symbol": symbol, "start_ns": start, "end_ns": end}


def test_gaps_of_the_book_are_missing_from_when_they_are_known():
    intake = Intake("ES")
    rows = [gap(), gap(start=5, end=9), gap("futures.trades"), gap(symbol="NQ"), gap(symbol="ALL", start=1, end=2)]
    assert intake.take(GAPS, batch(GAPS, *rows)) == []
    (piece,) = intake.take(BOOKS, batch(BOOKS, (100 * MS, 0)))
    assert piece.missing == (
        Missing(FIRST, BEGIN + SNAP + 100 * MS, "gap"), Missing(1, 2, "gap"), Missing(5, 9, "gap")
    )  # fmt: skip


def test_no_number_of_gaps_is_more_than_a_bound():
    intake = Intake("ES")
    intake.take(GAPS, batch(GAPS, *(gap(start=at, end=at + 1) for at in range(5_000))))
    (piece,) = intake.take(BOOKS, batch(BOOKS, (100 * MS, 0)))
    assert len(piece.missing) == 256
    assert piece.missing[-1] == Missing(255, 5_000, "gap")


def test_a_snap_off_the_grid_or_not_after_the_one_before_is_refused():
    intake = Intake("ES")
    intake.snap(BEGIN)
    for wrong in (BEGIN, BEGIN - SNAP, BEGIN + 1):
        with pytest.raises(ValueError, match="Next: ask for the next"):
            intake.snap(wrong)


# At random


def random_rows(seed, count=1_200):
    """Rows as they leave: (stream, row), of two captures each, some late, some snapshots, some of a wrong time."""
    rng = random.Random(seed)
    now, rows, seqs, stream = 0, [], {}, BOOKS
    for _ in range(count):
        now += rng.choice((0, 0, 1, rng.randrange(40 * MS), rng.randrange(40 * MS), rng.randrange(2 * SECOND)))
        stream = rng.choice((*[stream] * 8, BOOKS, BOOKS, TRADES, STATUS))
        at = now - rng.choice((0, 0, 0, rng.randrange(SECOND)))
        capture = rng.choice((3, 8))
        row = {"ts_event_ns": BEGIN + at, "ts_recv_ns": BEGIN + at, "capture_id": capture, "contract": f"ES{capture}"}
        if stream is BOOKS and rng.random() < 0.05:
            row |= {"is_snapshot": True, "ts_event_ns": BEGIN + at - rng.randrange(9) * SECOND}
        if rng.random() < 0.03:
            row["ts_event_ns"] += rng.choice((5 * SECOND, 5 * SECOND + 1, 10**13))
        key = stream, row["capture_id"]
        row["capture_seq"] = seqs[key] = seqs.get(key, -1) + 1
        rows.append((stream, row))
    return rows


def plainly(rows):
    """Return (snap, since, rows by stream, late, ahead, seen) of each snap, a row at a time."""
    last, waiting, pieces = None, [], []
    late, ahead, seen = {}, {}, {}
    for stream, row in rows:
        ts_ns = row["ts_event_ns"]
        sound = ts_ns <= row["ts_recv_ns"] + 5 * SECOND
        clocked = not row.get("is_snapshot", False)
        due = (ts_ns - 100 * MS) // SNAP * SNAP
        if sound and clocked and stream in (BOOKS, TRADES) and (last is None or due > last):
            had = [one for one in waiting if one[1]["ts_event_ns"] <= due]
            pieces.append((due, last, had, late, ahead, seen))
            waiting = [one for one in waiting if one[1]["ts_event_ns"] > due]
            last, late, ahead, seen = due, {}, {}, {}
        key = stream, row["capture_id"]
        known = [ns for ns in (seen.get(key, Seen(0, None)).newest_ns, ts_ns if sound else None) if ns is not None]
        seen[key] = Seen(row["capture_seq"], max(known, default=None))
        if not sound:
            ahead[stream] = ahead.get(stream, 0) + 1
            continue
        if clocked and last is not None and ts_ns <= last:
            late[stream] = late.get(stream, 0) + 1
        waiting.append((stream, row))
    return pieces


def in_batches(rows, rng, longest):
    """Yield the rows as batches of one stream each, cut at random."""
    streams = {stream for stream, _ in rows}
    whole = {stream: batch(stream, *(row for of, row in rows if of == stream)) for stream in streams}
    done = dict.fromkeys(streams, 0)
    begin = 0
    while begin < len(rows):
        stream, count = rows[begin][0], 1
        most = rng.randint(1, longest)
        while begin + count < len(rows) and rows[begin + count][0] == stream and count < most:
            count += 1
        yield stream, whole[stream].slice(done[stream], count)
        done[stream] += count
        begin += count


def keys(piece):
    return [
        (schema, one["contract"], one["capture_seq"])
        for schema, batches in sorted(piece.batches.items())
        for found in batches
        for one in found.select(["contract", "capture_seq"]).to_pylist()
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("longest", [1, 40])
def test_every_cut_of_the_batches_gives_what_a_row_at_a_time_does(seed, longest):
    rows = random_rows(seed)
    expected = plainly(rows)
    intake = Intake("ES")
    found = [piece for stream, part in in_batches(rows, random.Random(seed), longest)
             for piece in intake.take(stream, part)]  # fmt: skip
    assert len(found) > 100
    assert sum(len(piece.late) for piece in found) > 20
    assert sum(len(piece.ahead) for piece in found) > 5
    for piece, (snap, since, had, late, ahead, seen) in zip(found, expected, strict=True):
        assert (piece.snap_ns, piece.since_ns, piece.late, piece.ahead, piece.seen) == (snap, since, late, ahead, seen)
        order = sorted((stream.schema, row["contract"], row["capture_seq"]) for stream, row in had)
        assert sorted(keys(piece)) == order


def test_a_replay_of_the_positions_has_the_same_pieces():
    rows = random_rows(9)
    intake, replay = Intake("ES"), Intake("ES")
    streams = {(stream, row["capture_id"]) for stream, row in rows}
    whole = {
        (stream, capture): batch(stream, *(row for of, row in rows if of == stream and row["capture_id"] == capture))
        for stream, capture in streams
    }
    done = dict.fromkeys(streams, 0)
    rng = np.random.default_rng(1)
    count = 0
    for stream, part in in_batches(rows, random.Random(2), 9):
        for piece in intake.take(stream, part):
            for of, capture in [list(piece.seen)[at] for at in rng.permutation(len(piece.seen))]:
                until = piece.seen[of, capture].last_seq + 1
                replay.put(of, whole[of, capture].slice(done[of, capture], until - done[of, capture]))
                done[of, capture] = until
            again = replay.snap(piece.snap_ns)
            assert sorted(keys(again)) == sorted(keys(piece))
            assert again._replace(batches={}) == piece._replace(batches={})
            count += 1
    assert count > 100

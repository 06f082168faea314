"""Captures that follow one another: by hand, at random against a row at a time, and one delivery cut into many."""

import random
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.deliveries import MOST_CAPTURES, MOST_INSTRUMENTS, Deliveries
from spymaster.engines.intake import Intake, Missing
from spymaster.engines.ledger import SNAP_NS
from tests.engines.books import OPEN_NS
from tests.engines.leaving import BOOKS, SECOND, TRADES, judged, same, simulated_streams
from tests.engines.test_intake import BEGIN, MS, STATUS, batch, numbers
from tests.engines.test_judge import warm

ONE = None  # the instrument of a stream that has one


def followed(by, *rows):
    """Return which rows of (capture, time) or (capture, time, instrument) come again, and what is missing."""
    captures = np.array([row[0] for row in rows], np.int64)
    ts_ns = np.array([row[1] for row in rows], np.int64)
    names = pa.array([row[2] for row in rows], pa.string()) if len(rows[0]) > 2 else ONE
    found = by.follow(captures, names, ts_ns, np.ones(len(rows), np.bool_))
    return [] if found.again is None else np.flatnonzero(found.again).tolist(), found.missing


def captured(capture, *times):
    return [(capture, at) for at in times]


def test_one_capture_tells_all_its_rows_late_ones_too():
    by = Deliveries()
    assert followed(by, *captured(7, 1, 5, 5, 3)) == ([], [])
    assert followed(by, *captured(7, 5, 2, 9)) == ([], [])


def test_rows_of_the_next_capture_come_again_until_it_is_beyond_what_was_told():
    by = Deliveries()
    followed(by, *captured(7, 1, 5, 5))
    assert followed(by, *captured(8, 1, 5)) == ([0, 1], [])
    assert followed(by, *captured(8, 5, 5, 6, 4)) == ([0], [])  # a third row of time 5 is new, and so is a late one
    assert followed(by, *captured(8, 4, 9)) == ([], [])


def test_where_a_capture_begins_later_than_all_that_was_told_nobody_listened():
    by = Deliveries()
    followed(by, *captured(7, 1, 5))
    assert followed(by, *captured(8, 9, 10)) == ([], [(5, 9)])
    assert followed(by, *captured(8, 20)) == ([], [])
    assert followed(by, *captured(7, 19, 30)) == ([0], [])  # it has begun already
    assert followed(by, *captured(9, 30, 31)) == ([0], [])


def test_two_captures_of_two_instruments_withhold_nothing_from_each_other():
    by = Deliveries()
    followed(by, (7, 5, "ESZ5"), (7, 6, "ESZ5"))
    assert followed(by, (8, 6, "ESH6"), (7, 10, "ESZ5"), (8, 3, "ESH6")) == ([], [])
    assert followed(by, (8, 10, "ESZ5"), (8, 11, "ESZ5"), (8, 12, None)) == ([0], [])


def test_a_resume_is_inclusive_though_it_says_nothing_of_an_instrument_for_long():
    by = Deliveries()
    followed(by, (7, 5, "ESH6"), (7, 90, "ESZ5"))
    assert followed(by, (8, 90, "ESZ5")) == ([0], [])
    assert followed(by, (9, 90, "ESZ5"), (9, 99, "ESH6")) == ([0], [])


def test_captures_that_were_mixed_on_the_way_are_followed_one_after_another():
    for rows in ([*captured(7, 1, 3), *captured(8, 3, 4)], [(8, 3), (7, 1), (8, 4), (7, 3)]):
        again, missing = followed(Deliveries(), *rows)
        assert ([rows[at] for at in again], missing) == ([(8, 3)], [])


def test_a_capture_is_worked_after_those_that_began_before_it():
    by, clocked = Deliveries(), np.ones(2, np.bool_)

    def order(*rows):
        captures, ts_ns = np.array(rows, np.int64).T
        found = by.follow(captures, ONE, ts_ns, clocked).order
        return None if found is None else found.tolist()

    assert order((7, 1), (7, 2)) is None
    assert order((9, 2), (9, 3)) is None
    assert order((3, 3), (3, 4)) == [10, 10]
    assert order((3, 4), (9, 4)) == [10, 9]
    assert order((12, 5), (12, 5)) is None


def test_what_is_remembered_is_bounded():
    by = Deliveries()
    for capture in range(300):
        again, missing = followed(by, (capture, capture), (capture, capture + 1))
        assert (again, missing) == ([0] if capture else [], [])
    assert max(map(len, (by._newest, by._order, by._told[None]))) <= MOST_CAPTURES
    for number in range(0, MOST_INSTRUMENTS + 50, 50):
        followed(by, *((1, 1, str(number + at)) for at in range(50)))
    assert len(by._told) <= MOST_INSTRUMENTS


def plainly(rows):
    """Return what comes again and is missing, a row at a time, of one instrument."""
    told, again, missing = {}, [], []
    for at, (capture, ts_ns) in enumerate(rows):
        others = max((one for other, one in told.items() if other != capture), default=None)
        if others is not None and capture not in told and ts_ns > others[0]:
            missing.append((others[0], ts_ns))
        newest, count = told.get(capture, (-1, 0))
        own = (ts_ns, count + 1 if ts_ns == newest else 1)
        if others is not None and (newest, count) <= others and own <= others:
            again.append(at)
        told[capture] = max(own, (newest, count))
    return again, missing


@pytest.mark.parametrize("seed", range(20))
def test_any_captures_one_after_another_are_what_a_row_at_a_time_finds(seed):
    rng, rows, now = random.Random(seed), [], 100
    for capture in range(6):
        now = max(now - rng.choice((0, 0, 1, 9)), 0) + rng.choice((0, 0, 0, 7))
        for _ in range(rng.randint(1, 20)):
            now += rng.choice((0, 0, 0, 1, 3))
            rows.append((capture, now - rng.choice((0, 0, 0, 0, 2))))
    by, again, missing, begin = Deliveries(), [], [], 0
    while begin < len(rows):
        count = rng.randint(1, 30)
        while begin + count < len(rows) and rows[begin + count][0] != rows[begin + count - 1][0]:
            count += 1
        part = [row for row in rows[begin : begin + count] if row[0] == rows[begin][0]]
        found, spans = followed(by, *part)
        again += [begin + at for at in found]
        missing += spans
        begin += len(part)
    assert (again, missing) == plainly(rows)


# In the intake


def rows_at(capture, *times, **more):
    return batch(
        BOOKS, *({"ts_event_ns": BEGIN + at * MS, "capture_seq": at, "capture_id": capture, **more} for at in times)
    )


def test_what_comes_again_is_counted_and_goes_no_further_nor_is_it_late():
    intake = Intake("ES")
    intake.put(BOOKS, rows_at(7, 10, 20))
    intake.snap(BEGIN + SNAP_NS)
    intake.put(BOOKS, rows_at(3, 10, 20, 260))
    intake.put(STATUS, batch(STATUS, (10 * MS, 5), (10 * MS, 5)))
    piece = intake.snap(BEGIN + 2 * SNAP_NS)
    assert (numbers(piece), piece.again, piece.late.get(BOOKS, 0)) == ([260], {BOOKS: 2}, 0)
    assert (piece.missing, piece.seen[BOOKS, 3].last_seq) == ((), 260)
    assert intake.snap(BEGIN + 3 * SNAP_NS).again == {}


def test_a_snapshot_that_begins_a_capture_neither_fills_the_gap_nor_comes_again():
    intake = Intake("ES")
    intake.put(BOOKS, rows_at(7, 10, 20))
    intake.put(BOOKS, rows_at(3, 15, is_snapshot=True))
    intake.put(BOOKS, rows_at(3, 90))
    piece = intake.snap(BEGIN + SNAP_NS)
    assert (numbers(piece), piece.again) == ([10, 20, 15, 90], {})
    assert piece.missing == (Missing(BEGIN + 20 * MS, BEGIN + 90 * MS, "gap"),)


def test_of_trades_nothing_is_missed_but_what_comes_again_is_left_out():
    intake = Intake("ES")
    for capture, times in ((7, (10, 20)), (8, (90, 99)), (9, (99, 100))):
        rows = ({"ts_event_ns": BEGIN + at * MS, "capture_seq": at, "capture_id": capture} for at in times)
        intake.put(TRADES, batch(TRADES, *rows))
    piece = intake.snap(BEGIN + SNAP_NS)
    assert (piece.missing, numbers(piece, TRADES), piece.again) == ((), [10, 20, 90, 99, 100], {TRADES: 1})


# The whole judge


def market():
    return simulated_streams(20, 24, ("walls",))


def recaptured(seed):
    """Yield the market's rows with each stream cut into captures of random ids that resume at a whole time.

    A cut lies within an instant where there is one; a capture begins with what the one before told in up to a second.
    """
    rng = np.random.default_rng(seed)
    wholes = {
        stream: pa.Table.from_batches([part for of, part in market() if of == stream]).combine_chunks()
        for stream in (BOOKS, TRADES)
    }
    times = {stream: whole.column("ts_event_ns").to_numpy() for stream, whole in wholes.items()}
    done, begun, capture = dict.fromkeys(wholes, 0), dict.fromkeys(wholes, 0), dict.fromkeys(wholes, 7)
    for stream, part in market():
        if stream not in wholes:
            yield stream, part
            continue
        row, end = done[stream], done[stream] + part.num_rows
        if row and rng.random() < 0.2:
            within = np.flatnonzero(np.diff(times[stream][row - 1 : end]) == 0) + row
            cut = int(rng.choice(within if len(within) else [row]))
            yield stream, renumbered(wholes[stream], row, cut, begun[stream], capture[stream])
            resume = times[stream][cut - 1] - rng.choice((0, 1, rng.integers(SECOND)))
            row = begun[stream] = int(np.searchsorted(times[stream], resume))
            capture[stream] = int(rng.integers(2**62))
        yield stream, renumbered(wholes[stream], row, end, begun[stream], capture[stream])
        done[stream] = end


def renumbered(whole, begin, end, first, capture):
    """Return rows as those of a capture that began with the row `first`."""
    columns = [column.combine_chunks() for column in whole.slice(begin, end - begin).columns]
    part = pa.RecordBatch.from_arrays(columns, schema=whole.schema)
    for name, values in (("capture_id", np.full(end - begin, capture)), ("capture_seq", np.arange(begin, end) - first)):
        part = part.set_column(part.schema.get_field_index(name), part.schema.field(name), pa.array(values, pa.int64()))
    return part


@cache
def whole_run():
    return judged(market(), warm())


@pytest.mark.parametrize("seed", range(2))
def test_one_delivery_cut_into_captures_that_resume_gives_the_same_snaps(seed):
    whole, found = whole_run(), judged(recaptured(seed), warm())
    again = found[-1].counters.again
    assert min(again[BOOKS], again[TRADES]) > 10
    assert len(found) == len(whole) > 60
    for one, other in zip(found, whole, strict=True):
        assert same(one._replace(seen={}, counters=one.counters._replace(again={})), other._replace(seen={}))


def test_a_capture_that_begins_after_a_pause_says_what_nobody_heard():
    begin, end = OPEN_NS + 12 * SECOND, OPEN_NS + 13 * SECOND
    heard = []
    for stream, part in market():
        at = part.column("ts_recv_ns")[0].as_py()
        if at < begin:
            heard.append((stream, part))
        elif at >= end:
            heard.append((stream, renumbered(pa.Table.from_batches([part]), 0, part.num_rows, 0, 3)))
    snaps = {(snap.snap_ns - OPEN_NS) / SECOND: snap for snap in judged(heard, warm())}
    assert (snaps[11.5].void_reason, snaps[13.25].void_reason, snaps[13.75].void_reason) == (None, "gap", "not whole")
    assert (snaps[19.0].void_reason, snaps[19.0].market.voids) == (None, 1)
    assert end <= snaps[13.5].market.whole_since_ns < end + 100 * MS

"""A genuine event is never deleted and a re-delivered one never kept, whatever captures overlap, and in what order."""

import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spymaster import events
from spymaster.events import exactly_once
from spymaster.events.exactly_once import Edges, keep_once, occurrence_of
from spymaster.events.identity import event_ids, identity_of
from spymaster.events.sameness import keys_of
from tests.compaction import silver_oracle
from tests.rows import NOON_NS, TRADES

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Few times, prices and sizes: what a venue prints in a burst cannot be told apart.
EVENTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(1, 2)), min_size=1, max_size=40)
CHANCE = st.integers(0, 2**32).map(random.Random)


def market(drawn):
    """Return the true stream: (time, price, size) in the order of the venue's clock."""
    return sorted(drawn, key=lambda event: event[0])


def delivered(capture_id, stream):
    return [
        {"capture_id": capture_id, "capture_seq": number, "ts_event_ns": NOON_NS + time, "ts_recv_ns": NOON_NS + time,
         "ts_local_ns": NOON_NS + time, "source": "sim",
         "contract": "ESZ5", "price": 6900.0 + price, "size": size, "seq": None, "aggressor": 0,
         "publisher_id": None, "symbol": "ES"}
        for number, (time, price, size) in enumerate(stream)
    ]  # fmt: skip


def table(rows):
    return pa.table(
        [pa.array([row.get(column.name) for row in rows], column.type) for column in TRADES.log],
        schema=pa.schema([column.with_nullable(True) for column in TRADES.log]),
    )


def edges_of(captures):
    """Each capture is cut at the times of its first and last row."""
    return {rows[0]["capture_id"]: Edges(rows[0]["ts_event_ns"], rows[-1]["ts_event_ns"]) for rows in captures if rows}


def kept(rows, edges):
    """Return Silver's rows as (time, price, size) and the whole result, from rows in the order given."""
    columns = table(rows)
    once = keep_once(TRADES, columns, keys_of(TRADES, columns), edges, {})
    out = columns.take(once.kept).to_pylist()
    return [(row["ts_event_ns"] - NOON_NS, row["price"] - 6900.0, row["size"]) for row in out], once, out


def resumed(stream, chance):
    """Cut a stream into captures that overlap: each resumes inclusively from a whole time at or before the last cut.

    The first begins with the stream, the last ends with it, as nothing is known of what lies beyond.
    """
    captures, begin = [], 0
    while True:
        end = chance.randint(begin + 1, len(stream))
        captures.append(stream[begin:end])
        if end == len(stream):
            return captures
        back = chance.randint(0, end - 1)
        time = stream[back][0]
        begin = next(number for number, event in enumerate(stream) if event[0] == time)


@MANY
@given(EVENTS, CHANCE)
def test_captures_that_resume_inclusively_from_a_whole_time_give_the_single_capture(drawn, chance):
    stream = market(drawn)
    pieces = resumed(stream, chance)
    identifiers = chance.sample(range(1, 100_000), len(pieces))
    captures = [delivered(capture_id, some) for capture_id, some in zip(identifiers, pieces, strict=True)]
    rows = [row for capture in captures for row in capture]
    chance.shuffle(rows)  # late arrival, and parts in any order

    found, once, out = kept(rows, edges_of(captures))

    assert Counter(found) == Counter(stream)
    assert [row["ts_event_ns"] for row in out] == [NOON_NS + time for time, *_ in stream]
    assert len(once.removed) == len(rows) - len(stream)


@MANY
@given(EVENTS, CHANCE)
def test_what_is_kept_is_what_counting_row_by_row_in_plain_python_keeps(drawn, chance):
    """Any captures at all: each a random part of the stream in a random order, received at random times."""
    rows = []
    for capture_id in chance.sample(range(1, 100), chance.randint(1, 4)):
        some = [event for event in drawn if chance.random() < 0.7]
        chance.shuffle(some)
        own = delivered(capture_id, some)
        for row in own:
            row["ts_local_ns"] += chance.randint(0, 2)
        rows += own
    chance.shuffle(rows)
    expected = silver_oracle.once(TRADES, rows)

    _, _, out = kept(rows, {})

    keys = ("capture_id", "capture_seq")
    assert [[row[key] for key in keys] for row in out] == [[row[key] for key in keys] for row in expected]
    ids = event_ids(identity_of(TRADES, table(out)))
    assert occurrence_of(table(out)["ts_event_ns"].to_numpy(), ids).tolist() == [row["occurrence"] for row in expected]


@MANY
@given(EVENTS, CHANCE)
def test_where_captures_break_the_rule_every_event_that_is_missing_is_among_the_unproven(drawn, chance):
    """Each capture begins wherever the one before ended or earlier, in the middle of equal events too."""
    stream = market(drawn)
    captures, begin, end = [], 0, 0
    while end < len(stream):
        end = chance.randint(begin + 1, len(stream))
        captures.append(delivered(len(captures) + 1, stream[begin:end]))
        begin = chance.randint(max(0, end - 3), end)
    rows = [row for capture in captures for row in capture]

    found, once, _ = kept(rows, edges_of(captures))

    missing = Counter(stream) - Counter(found)
    assert sum(missing.values()) <= once.unproven
    assert not Counter(found) - Counter(stream)


def test_a_repeat_that_only_captures_cut_just_there_have_seen_is_counted_as_unproven():
    first, second = delivered(1, [(0, 0, 1), (5, 0, 1)]), delivered(2, [(5, 0, 1), (6, 0, 1)])

    _, once, out = kept(first + second, edges_of([first, second]))

    assert (len(out), once.unproven, len(once.removed)) == (3, 1, 1)


def test_one_capture_that_goes_on_before_and_after_proves_it():
    first, second = delivered(1, [(0, 0, 1), (5, 0, 1), (7, 0, 1)]), delivered(2, [(5, 0, 1), (6, 0, 1)])

    _, once, out = kept(first + second, edges_of([first, second]))

    assert (len(out), once.unproven, len(once.removed)) == (4, 0, 1)


def test_equal_prints_of_one_capture_all_stay():
    rows = delivered(1, [(3, 0, 1)] * 5)

    _, once, _ = kept(rows, edges_of([rows]))

    ids = event_ids(identity_of(TRADES, table(rows)))
    assert (len(once.kept), once.unproven) == (5, 0)
    assert occurrence_of(table(rows)["ts_event_ns"].to_numpy(), ids).tolist() == [1, 2, 3, 4, 5]


def test_identities_whose_hashes_collide_are_still_told_apart(monkeypatch):
    rows = delivered(1, [(3, 0, 1), (3, 1, 1), (3, 0, 1), (3, 1, 2)]) + delivered(2, [(3, 1, 1), (3, 0, 1)])
    before = kept(rows, {})[1]
    monkeypatch.setattr(exactly_once, "_hash", lambda keys: keys[0].view("u8") * 0)

    after = kept(rows, {})[1]

    assert after.kept.tolist() == before.kept.tolist()
    assert len(after.kept) == 4


@pytest.mark.parametrize("schema", [events.FUTURES_TRADES, events.STOCKS_TRADES], ids=lambda schema: schema.name)
def test_two_events_with_null_where_the_other_has_a_value_are_two(schema):
    names = ("price", "size", "seq", "aggressor")
    rows = [dict.fromkeys(column.name for column in schema.log) for _ in range(1 + len(names))]
    for number, row in enumerate(rows):
        row |= {"ts_event_ns": NOON_NS, "ts_recv_ns": NOON_NS, "source": "sim", "symbol": "ES", "capture_id": number,
                "capture_seq": 0, "aggressor": 0, "price": 0.0, "size": 0, "seq": 0}  # fmt: skip
        if number:
            row[names[number - 1]] = None
    columns = pa.table(
        [pa.array([row[column.name] for row in rows], column.type) for column in schema.log],
        schema=pa.schema([column.with_nullable(True) for column in schema.log]),
    )

    assert len(keep_once(schema, columns, keys_of(schema, columns), {}, {}).kept) == len(rows)

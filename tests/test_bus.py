"""Bounded queues: a slow reader loses its oldest batches and finds what they were in their place; nobody waits."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spymaster import bus as bus_module
from spymaster import settings
from spymaster.bus import Bus, Published, Skipped
from spymaster.events import Stream
from tests.rows import BOOKS, NOON_NS, TRADES, delivered, numbered

STREAM = Stream("futures.trades", "ES")
OTHER = Stream("futures.trades", "NQ")
MS = 1_000_000


def rows(count: int, start: int = 0, capture_id: int = 1) -> pa.RecordBatch:
    return numbered(TRADES, count, start, capture_id).combine_chunks().to_batches()[0]


def in_turns(capture_ids: list[int], numbers: list[int]) -> pa.RecordBatch:
    """Return one batch with a row of each of these captures, as numbered."""
    batch = rows(len(capture_ids))
    for name, values in (("capture_id", capture_ids), ("capture_seq", numbers)):
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, batch.schema.field(at), pa.array(values, pa.int64()))
    return batch


def bytes_of(batch: pa.RecordBatch) -> int:
    """Return what a batch counts for in a queue."""
    bus = Bus()
    reader = bus.subscribe()
    bus.publish(STREAM, [batch])
    return reader.waiting_bytes


async def read_all(subscription):
    return [item async for item in subscription]


async def counts_of(subscription):
    return [(stream, batch.num_rows) for stream, batch in await read_all(subscription)]


def test_every_reader_sees_every_batch_in_order():
    async def run():
        bus = Bus()
        readers = [bus.subscribe(), bus.subscribe()]
        bus.publish(STREAM, [rows(1), rows(2)])
        bus.publish(STREAM, [rows(3)])
        bus.close()
        return [await counts_of(reader) for reader in readers]

    assert asyncio.run(run()) == [[(STREAM, 1), (STREAM, 2), (STREAM, 3)]] * 2


def test_what_a_reader_missed_stays_counted_once_it_has_left():
    bus = Bus()
    slow = bus.subscribe(max_bytes=1)
    bus.publish(STREAM, [rows(1), rows(2)])
    slow.close()
    bus.publish(STREAM, [rows(3)])

    assert (bus.dropped_rows, bus.dropped_rows_ever) == (0, 1)


def test_a_slow_reader_finds_what_was_dropped_where_it_would_have_stood():
    async def run():
        bus = Bus()
        slow, quick = bus.subscribe(max_bytes=4 * bytes_of(rows(2))), bus.subscribe()
        for start in range(0, 10, 2):
            bus.publish(STREAM, [rows(2, start)])
        bus.close()
        assert bus.dropped_rows == slow.dropped_rows == 6
        assert quick.dropped_rows == 0
        return await read_all(slow), await counts_of(quick)

    (skipped, *kept), seen = asyncio.run(run())
    assert skipped == Skipped(STREAM, 6, NOON_NS, NOON_NS + 5 * MS, {1: (0, 5)})
    assert [published.batch["capture_seq"].to_pylist() for published in kept] == [[6, 7], [8, 9]]
    assert seen == [(STREAM, 2)] * 5


def test_a_queue_that_overflows_is_left_half_empty_so_that_catching_up_meets_no_second_loss():
    async def run():
        bus = Bus()
        reader = bus.subscribe(max_bytes=100 * bytes_of(rows(1)))
        bus.publish(STREAM, [rows(1, start) for start in range(101)])
        first = await anext(reader)
        bus.publish(STREAM, [rows(1, start) for start in range(101, 151)])  # while it catches up
        bus.close()
        return first, await read_all(reader)

    first, rest = asyncio.run(run())
    assert (first.rows, first.captures) == (51, {1: (0, 50)})
    assert [item.batch["capture_seq"][0].as_py() for item in rest] == list(range(51, 151))


def test_a_batch_larger_than_the_bound_is_kept_while_it_is_the_newest():
    async def run():
        bus = Bus()
        reader = bus.subscribe(max_bytes=1)
        bus.publish(STREAM, [rows(9), rows(8, 9)])
        bus.close()
        return await read_all(reader)

    skipped, published = asyncio.run(run())
    assert (skipped.rows, published.batch.num_rows) == (9, 8)


def test_drops_of_one_stream_are_one_marker_until_it_is_read():
    async def run():
        bus = Bus()
        reader = bus.subscribe(max_bytes=1)
        for start in range(5):
            bus.publish(STREAM, [rows(1, start)])
            bus.publish(OTHER, [rows(1, start, capture_id=2)])
        before = [await anext(reader), await anext(reader)]
        for start in range(5, 7):
            bus.publish(STREAM, [rows(1, start)])
            bus.publish(OTHER, [rows(1, start, capture_id=2)])
        bus.close()
        return before, await read_all(reader)

    before, after = asyncio.run(run())
    assert [(skipped.stream, skipped.captures) for skipped in before] == [(STREAM, {1: (0, 4)}), (OTHER, {2: (0, 3)})]
    assert [(skipped.stream, skipped.captures) for skipped in after[:2]] == [
        (OTHER, {2: (4, 5)}),
        (STREAM, {1: (5, 6)}),
    ]
    assert [published.stream for published in after[2:]] == [OTHER]


def test_a_marker_spans_the_event_times_of_its_rows_also_where_they_are_out_of_order():
    async def run():
        bus = Bus()
        reader = bus.subscribe(max_bytes=1)
        bus.publish(STREAM, [rows(3, 7).take([1, 2, 0]), rows(2, 3).take([1, 0]), rows(1, 8, capture_id=2), rows(1)])
        return await anext(reader)

    skipped = asyncio.run(run())
    assert (skipped.first_ns, skipped.last_ns) == (NOON_NS + 3 * MS, NOON_NS + 9 * MS)


def test_a_batch_with_rows_of_several_captures_is_dropped_by_capture():
    async def run():
        bus = Bus()
        reader = bus.subscribe(max_bytes=1)
        bus.publish(STREAM, [in_turns([1, 1, 2, 1, 2], [5, 6, 0, 7, 1]), in_turns([3, 2], [4, 2]), rows(1)])
        return bus.subscribe().positions, await anext(reader)

    positions, skipped = asyncio.run(run())
    assert skipped.captures == {1: (5, 7), 2: (0, 2), 3: (4, 4)}
    assert positions == {STREAM: {1: 0, 2: 2, 3: 4}}


def test_a_slice_counts_only_its_own_rows():
    delivery = rows(10_000)
    own = bytes_of(delivery)

    slices = [bytes_of(delivery.slice(start, 1_000)) for start in range(0, 10_000, 1_000)]

    assert sum(slices) == pytest.approx(own, rel=0.03)
    assert own == pytest.approx(delivery.nbytes, rel=0.01)


def test_a_queue_holds_what_the_setting_says_unless_its_reader_asks_otherwise():
    loaded = settings.load()
    assert loaded.bus_max_mb == bus_module.MAX_MB
    book = numbered(BOOKS, 10_000).combine_chunks().to_batches()[0]
    small, own = Bus(max_bytes=3 * book.nbytes), Bus(max_bytes=1)
    readers = small.subscribe(), own.subscribe(max_bytes=3 * book.nbytes), own.subscribe()

    for bus in (small, own):
        bus.publish(Stream("futures.mbp10", "ES"), [book, book])

    assert [reader.dropped_rows for reader in readers] == [0, 0, 10_000]


def test_a_subscription_begins_behind_its_positions():
    async def run():
        bus = Bus()
        bus.publish(STREAM, [rows(4), rows(2, capture_id=7)])
        bus.publish(OTHER, [rows(3, capture_id=7)])
        reader = bus.subscribe()
        bus.publish(STREAM, [rows(2, 4)])
        bus.close()
        return reader.positions, bus.subscribe().positions, await read_all(reader)

    positions, later, (published,) = asyncio.run(run())
    assert positions == {STREAM: {1: 3, 7: 1}, OTHER: {7: 2}}
    assert later == {STREAM: {1: 5, 7: 1}, OTHER: {7: 2}}
    assert published.batch["capture_seq"].to_pylist() == [4, 5]


def test_a_capture_that_ended_has_no_position():
    bus = Bus()
    bus.publish(STREAM, [rows(4), rows(2, capture_id=7)])
    bus.publish(OTHER, [rows(3, capture_id=7)])

    bus.ended(7)
    bus.ended(8)  # had no rows

    assert bus.subscribe().positions == {STREAM: {1: 3}}


def test_of_more_captures_than_are_kept_the_one_that_came_longest_ago_loses_its_numbers(monkeypatch):
    monkeypatch.setattr(bus_module, "MAX_CAPTURES", 3)

    async def run():
        bus = Bus()
        reader = bus.subscribe(max_bytes=1)
        bus.publish(STREAM, [rows(1, start, capture_id) for start, capture_id in enumerate([1, 2, 3, 1, 4, 5])])
        positions = bus.subscribe().positions
        bus.publish(STREAM, [rows(1)])
        return positions, await anext(reader)

    positions, skipped = asyncio.run(run())
    assert positions == {STREAM: {1: 3, 4: 4, 5: 5}}
    assert (skipped.rows, skipped.captures) == (6, {1: (0, 3), 4: (4, 4), 5: (5, 5)})
    assert (skipped.first_ns, skipped.last_ns) == (NOON_NS, NOON_NS + 5 * MS)


def test_rows_without_keys_and_time_have_no_position_and_void_all_of_time():
    async def run():
        bus = Bus()
        reader = bus.subscribe(max_bytes=1)
        bus.publish(STREAM, [delivered(TRADES, 3), pa.record_batch({"price": [1.0]}), rows(1), rows(1, 1)])
        return bus.subscribe().positions, await anext(reader)

    positions, skipped = asyncio.run(run())
    assert positions == {STREAM: {1: 1}}
    assert skipped == Skipped(STREAM, 5, -(2**63), 2**63 - 1, {1: (0, 0)})


def test_a_batch_without_rows_is_not_handed_on():
    async def run():
        bus = Bus()
        reader = bus.subscribe()
        bus.publish(STREAM, [rows(1), rows(1).slice(1), rows(1, 1)])
        bus.close()
        return await counts_of(reader)

    assert asyncio.run(run()) == [(STREAM, 1)] * 2


def test_a_reader_that_waits_is_woken():
    async def run():
        bus = Bus()
        reading = asyncio.create_task(counts_of(bus.subscribe()))
        await asyncio.sleep(0)
        bus.publish(STREAM, [rows(1)])
        await asyncio.sleep(0)
        bus.close()
        return await reading

    assert asyncio.run(run()) == [(STREAM, 1)]


class Account:
    """What one reader has been told of each stream's captures: every row by its number, and the rows in all."""

    def __init__(self) -> None:
        self.rows = 0
        self._told: dict[tuple[Stream, int], list[int]] = {}

    def add(self, item: Published | Skipped) -> None:
        if isinstance(item, Skipped):
            self.rows += item.rows
            told = item.captures.items()
            assert sum(last - first + 1 for _, (first, last) in told) == item.rows
        else:
            self.rows += item.batch.num_rows
            told = spans_of(item.batch).items()
        for capture_id, (first, last) in told:
            self._told.setdefault((item.stream, capture_id), []).extend(range(first, last + 1))

    def is_whole(self, published: dict[tuple[Stream, int], int]) -> bool:
        """Whether it was told of each row once, in order."""
        return self._told == {key: list(range(count)) for key, count in published.items()}


def spans_of(batch: pa.RecordBatch) -> dict[int, tuple[int, int]]:
    keys = list(zip(batch["capture_id"].to_pylist(), batch["capture_seq"].to_pylist(), strict=True))
    spans = {}
    for capture_id in {capture_id for capture_id, _ in keys}:
        own = [number for of_capture, number in keys if of_capture == capture_id]
        assert own == list(range(own[0], own[-1] + 1))
        spans[capture_id] = own[0], own[-1]
    return spans


turns = st.lists(st.sampled_from([7, 8, 9]), min_size=1, max_size=30)
puts = st.tuples(st.sampled_from([STREAM, OTHER]), turns)
reads = st.integers(1, 4)


@given(steps=st.lists(puts | reads, max_size=40), bound=st.integers(1, 20_000))
def test_what_a_reader_got_and_what_its_markers_say_is_what_was_published_in_order(steps, bound):
    published: dict[tuple[Stream, int], int] = {}

    def made(stream: Stream, capture_ids: list[int]) -> pa.RecordBatch:
        numbers = []
        for capture_id in capture_ids:
            numbers.append(published.get((stream, capture_id), 0))
            published[stream, capture_id] = numbers[-1] + 1
        return in_turns(capture_ids, numbers)

    async def run() -> tuple[Account, int]:
        bus, account = Bus(), Account()
        reader = bus.subscribe(bound)
        newest = 0
        for step in steps:
            if isinstance(step, int):
                for _ in range(step):
                    if reader.waiting_bytes:
                        account.add(await anext(reader))
            else:
                batch = made(*step)
                newest = bytes_of(batch)
                bus.publish(step[0], [batch])
                assert reader.waiting_bytes <= max(bound, newest)
        joined = bus.subscribe().positions
        assert joined == {
            stream: {capture_id: count - 1 for (of, capture_id), count in published.items() if of == stream}
            for stream in {stream for stream, _ in published}
        }
        bus.close()
        rest = await read_all(reader)
        assert len({item.stream for item in rest if isinstance(item, Skipped)}) == sum(
            isinstance(item, Skipped) for item in rest
        )
        for item in rest:
            account.add(item)
        return account, reader.waiting_bytes

    account, left = asyncio.run(run())
    assert account.is_whole(published)
    assert account.rows == sum(published.values())
    assert left == 0


@given(capture_ids=st.lists(st.integers(0, 3), min_size=1), start=st.integers(0, 5))
def test_the_positions_after_a_slice_are_the_last_rows_of_its_captures(capture_ids, start):
    batch = in_turns(capture_ids, list(np.arange(len(capture_ids)))).slice(min(start, len(capture_ids) - 1))
    bus = Bus()

    bus.publish(STREAM, [batch])

    keys = zip(batch["capture_id"].to_pylist(), batch["capture_seq"].to_pylist(), strict=True)
    assert bus.subscribe().positions == {STREAM: dict(keys)}


def test_streams_that_a_reader_does_not_want_take_no_room_in_its_queue():
    async def run():
        bus = Bus(max_bytes=bytes_of(rows(10)) * 2)
        picky, all_of_it = bus.subscribe(wants=lambda stream: stream == STREAM), bus.subscribe()
        bus.publish(STREAM, [rows(10)])
        for at in range(5):
            bus.publish(OTHER, [rows(10, 10 * at)])
        bus.close()
        return picky, await read_all(picky), all_of_it.dropped_rows

    picky, got, dropped = asyncio.run(run())

    assert [item.stream for item in got] == [STREAM]
    assert (picky.dropped_rows, dropped > 0) == (0, True)


def test_what_waits_is_taken_at_once_in_order_up_to_a_bound():
    async def run():
        bus = Bus()
        reader = bus.subscribe()
        for at in range(5):
            bus.publish(STREAM, [rows(10, 10 * at)])
        some = reader.waiting(bytes_of(rows(10)) + 1)
        return some, reader.waiting(1 << 20), reader.waiting(1 << 20), reader.waiting_bytes

    some, rest, none, left = asyncio.run(run())

    assert [item.batch["capture_seq"][0].as_py() for item in (*some, *rest)] == [0, 10, 20, 30, 40]
    assert (len(some), none, left) == (2, [], 0)


def test_what_waits_begins_with_what_was_skipped():
    async def run():
        bus = Bus(max_bytes=bytes_of(rows(10)) * 2)
        reader = bus.subscribe()
        for at in range(4):
            bus.publish(STREAM, [rows(10, 10 * at)])
        return reader.waiting(1 << 20)

    first, *others = asyncio.run(run())

    assert isinstance(first, Skipped)
    assert first.rows + sum(item.batch.num_rows for item in others) == 40

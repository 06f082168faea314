"""Bounded queues: a slow reader loses its oldest batches, counted; nobody waits for it."""

import asyncio

from spymaster.bus import Bus
from spymaster.events import Stream
from tests.rows import TRADES, delivered

STREAM = Stream("futures.trades", "ES")


async def read_all(subscription):
    return [(stream, batch.num_rows) async for stream, batch in subscription]


def test_every_reader_sees_every_batch_in_order():
    async def run():
        bus = Bus()
        readers = [bus.subscribe(), bus.subscribe()]
        bus.publish(STREAM, [delivered(TRADES, 1), delivered(TRADES, 2)])
        bus.publish(STREAM, [delivered(TRADES, 3)])
        bus.close()
        return [await read_all(reader) for reader in readers]

    assert asyncio.run(run()) == [[(STREAM, 1), (STREAM, 2), (STREAM, 3)]] * 2


def test_a_slow_reader_loses_its_oldest_and_knows_how_many():
    async def run():
        bus = Bus()
        slow, quick = bus.subscribe(max_rows=5), bus.subscribe()
        for _ in range(10):
            bus.publish(STREAM, [delivered(TRADES, 2)])
        bus.close()
        return await read_all(slow), slow.dropped_rows, await read_all(quick), quick.dropped_rows

    slow, dropped, quick, none = asyncio.run(run())
    assert (sum(rows for _, rows in slow), dropped) == (4, 16)
    assert (sum(rows for _, rows in quick), none) == (20, 0)


def test_a_batch_larger_than_the_bound_is_kept_while_it_is_the_newest():
    async def run():
        bus = Bus()
        reader = bus.subscribe(max_rows=5)
        bus.publish(STREAM, [delivered(TRADES, 9)])
        bus.close()
        return await read_all(reader)

    assert asyncio.run(run()) == [(STREAM, 9)]


def test_a_reader_that_waits_is_woken():
    async def run():
        bus = Bus()
        reading = asyncio.create_task(read_all(bus.subscribe()))
        await asyncio.sleep(0)
        bus.publish(STREAM, [delivered(TRADES, 1)])
        await asyncio.sleep(0)
        bus.close()
        return await reading

    assert asyncio.run(run()) == [(STREAM, 1)]

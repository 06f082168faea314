"""What a connection received, as bursts: bounded, in order, and whole before its end."""

import asyncio

import pytest

from spymaster.errors import FeedLostError
from spymaster.feeds.arrivals import Arrivals
from spymaster.feeds.feed import BURST_BYTES, RawMessage


def message(number: int, size: int = 1) -> RawMessage:
    return RawMessage(bytes([number]) * size, number)


def test_all_that_came_meanwhile_is_one_burst_and_what_comes_then_the_next():
    async def read():
        arrivals = Arrivals()
        bursts = arrivals.bursts()
        arrivals.put(message(1))
        arrivals.put(message(2))
        first = await anext(bursts)
        waiting = asyncio.ensure_future(anext(bursts))
        await asyncio.sleep(0)
        assert not waiting.done()
        arrivals.put(message(3))
        return first, await waiting

    assert asyncio.run(read()) == ([message(1), message(2)], [message(3)])


def test_a_burst_of_full_size_pauses_the_vendor_until_it_is_taken():
    said = []

    async def read():
        arrivals = Arrivals(lambda: said.append("pause"), lambda: said.append("resume"))
        bursts = arrivals.bursts()
        arrivals.put(message(1, BURST_BYTES - 1))
        assert said == []
        arrivals.put(message(2))
        arrivals.put(message(3))  # was under way
        assert said == ["pause"]
        assert len(await anext(bursts)) == 2
        assert said == ["pause", "resume"]
        assert len(await anext(bursts)) == 1

    asyncio.run(read())
    assert said == ["pause", "resume"]


def test_what_comes_though_the_vendor_was_paused_makes_bursts_of_at_most_full_size_or_one_larger_message():
    half = BURST_BYTES // 2
    said = []

    async def read():
        arrivals = Arrivals(lambda: said.append("pause"), lambda: said.append("resume"))
        bursts = arrivals.bursts()
        for number, size in enumerate((half, half, half, 3 * half, 1, 1)):
            arrivals.put(message(number, size))
        arrivals.end()
        taken = []
        async for burst in bursts:
            taken.append([one.ts_local_ns for one in burst])
            said.append(len(burst))
        return taken

    assert asyncio.run(read()) == [[0, 1], [2], [3], [4, 5]]
    assert said == ["pause", 2, 1, "resume", 1, 2]


def test_a_loss_is_told_after_all_that_came_before_it_though_the_delivery_is_closed_then():
    async def read():
        arrivals = Arrivals()
        arrivals.put(message(1))
        arrivals.end(FeedLostError("disconnect", "reset by peer"))
        arrivals.end()
        arrivals.put(message(2))
        bursts = arrivals.bursts()
        assert await anext(bursts) == [message(1)]
        await anext(bursts)

    with pytest.raises(FeedLostError, match="reset by peer"):
        asyncio.run(read())


def test_a_close_ends_bursts_that_wait():
    async def read():
        arrivals = Arrivals()
        asyncio.get_running_loop().call_later(0.01, arrivals.end)
        return [burst async for burst in arrivals.bursts()]

    assert asyncio.run(read()) == []

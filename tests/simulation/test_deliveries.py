"""Four deliveries of one market: the same bytes in whatever order they are read, none far ahead, each free to go."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import databento_dbn
import pytest

from spymaster.errors import UsageError
from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS
from spymaster.events.captures import CaptureSummary
from spymaster.events.encoding import Dbn, MassiveFrames, MassivePages
from spymaster.feeds.feed import Delivery
from spymaster.simulation import deliveries as sim_deliveries
from spymaster.simulation.dbn import live_header
from spymaster.simulation.source import SimFeed, TruthFile, open_market
from tests.feeding import messages, opened
from tests.sim_recording import NOON, Recorded

SOURCE = "seed=4,rate=2000,start=2025-12-02T17:00:00Z"
COUNTS = (120, 400, 200, 4)


def deliveries(text: str = SOURCE) -> list[Any]:
    return [feed.delivery for feed in open_market(text)]


async def take(delivery: Delivery, count: int) -> list[bytes]:
    taken: list[bytes] = []
    taking = messages(delivery)
    while len(taken) < count:
        taken.append((await anext(taking)).data)
    await taking.aclose()
    return taken


async def together(opened: list[Any]) -> list[list[bytes]]:
    return await asyncio.gather(*(take(one, count) for one, count in zip(opened, COUNTS, strict=True)))


async def one_after_another(opened: list[Any]) -> list[list[bytes]]:
    return [await take(one, count) for one, count in zip(opened, COUNTS, strict=True)]


async def last_first(opened: list[Any]) -> list[list[bytes]]:
    taken = [await take(one, count) for one, count in reversed(list(zip(opened, COUNTS, strict=True)))]
    return taken[::-1]


@pytest.mark.parametrize("order", [together, one_after_another, last_first])
def test_each_delivery_has_the_same_bytes_in_whatever_order_they_are_read(
    order: Callable[[list[Any]], Coroutine[Any, Any, list[list[bytes]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_deliveries, "MAX_WAITING_BYTES", 1 << 30)  # who reads one alone needs all to fit
    recorded = Recorded(4, 2_000, 12)
    expected = (recorded.dbn, recorded.stock, recorded.options, recorded.chain)

    read = asyncio.run(asyncio.wait_for(order(deliveries()), 60))

    for ours, theirs, count in zip(read, expected, COUNTS, strict=True):
        assert len(theirs) >= count == len(ours)
        assert ours == theirs[:count]


def test_dbn_is_the_same_with_spy_beside_it_and_alone() -> None:
    (alone,) = opened(SimFeed.parse(SOURCE))

    assert asyncio.run(take(alone, 100)) == asyncio.run(take(deliveries()[0], 100))


def test_each_delivery_says_what_it_carries() -> None:
    feeds = open_market(SOURCE)
    infos = [delivery.info for feed in feeds for delivery in opened(feed)]

    assert not any(feed.waits for feed in feeds)
    assert [feed.pace_by for feed in feeds] == ["ts_recv_ns", "ts_event_ns", "ts_event_ns", "ts_event_ns"]
    assert all(info.simulated and info.content_sha256 is None for info in infos)
    assert [info.encoding for info in infos] == [
        Dbn(live_header(), SimFeed.parse(SOURCE).market.symbols()),
        MassiveFrames("stocks", "SPY"),
        MassiveFrames("options", "SPY"),
        MassivePages(OPTIONS_GREEKS_SNAPSHOTS, "SPY", "SPY"),
    ]
    assert len({info.origin for info in infos}) == 4


def test_the_vendors_library_reads_every_record_of_the_dbn() -> None:
    opened = deliveries(f"{SOURCE},plant=halts")
    for other in opened[1:]:
        asyncio.run(other.close())
    messages = asyncio.run(take(opened[0], 400))
    decoder = databento_dbn.DBNDecoder()
    decoder.write(opened[0].info.encoding.header + b"".join(messages))
    _, *records = decoder.decode()

    lengths = []
    for message in messages:
        at = 0
        while at < len(message):
            lengths.append(message[at] * 4)
            at += lengths[-1]
    assert [len(bytes(record)) for record in records] == lengths
    assert {type(record).__name__ for record in records} == {
        "SymbolMappingMsg", "InstrumentDefMsg", "TradeMsg", "MBP10Msg", "StatusMsg", "MBP1Msg", "StatMsg",
    }  # fmt: skip


def test_a_delivery_far_ahead_waits_for_one_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim_deliveries, "MAX_WAITING_BYTES", 200_000)

    async def scenario() -> None:
        dbn, stock, options, chain = deliveries()
        task = asyncio.create_task(take(chain, 6))  # 20 s of the market, in which the others get more than fits
        async with asyncio.timeout(60):
            while not dbn._lockstep._queues[0].full:
                await asyncio.sleep(0.01)
        assert not task.done()
        waiting = [queue.waiting_bytes for queue in dbn._lockstep._queues]
        assert max(waiting) >= 200_000
        assert max(waiting) < 200_000 + 2_500_000, "one step of SPY or one piece of DBN beyond the bound at the most"
        before = list(waiting)
        await asyncio.sleep(0.2)
        assert [queue.waiting_bytes for queue in dbn._lockstep._queues] == before
        for other in (dbn, stock, options):
            await other.close()
        assert len(await asyncio.wait_for(task, 20)) == 6

    asyncio.run(scenario())


@pytest.mark.parametrize("rate", [2_000, 200_000])
def test_the_event_loop_has_its_turn_between_pieces_each_of_which_is_a_small_part_of_a_step(rate: int) -> None:
    (lockstep,) = {delivery._lockstep for delivery in deliveries(f"seed=4,rate={rate},start=2025-12-02T17:00:00Z")}
    steps = 0
    grown: list[tuple[int, int]] = []  # which queue a turn has filled, and by how much
    before = [0] * 4
    while steps < 4:
        piece = next(lockstep._pieces)
        if piece.queue is not None:
            piece.queue.add(piece.messages)
        now = [queue.waiting_bytes for queue in lockstep._queues]
        more = [(number, size - was) for number, (size, was) in enumerate(zip(now, before, strict=True)) if size > was]
        assert len(more) <= 1, "a turn writes for one delivery at the most"
        grown, before, steps = grown + more, now, steps + any(number == 1 for number, _ in more)
    assert sum(size for number, size in grown if number == 0) > 10_000_000
    assert max(size for number, size in grown if number == 0) < 2_500_000


def test_quotes_are_written_in_parts_of_some_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[str, list[int]] = {"stock_quote_events": [], "option_quote_events": []}
    for name, counts in parts.items():
        write = getattr(sim_deliveries, name)

        def counted(quotes: Any, *more: Any, write: Any = write, counts: Any = counts) -> Any:
            counts.append(len(quotes.seq))
            return write(quotes, *more)

        monkeypatch.setattr(sim_deliveries, name, counted)
    recorded = Recorded(4, 2_000, 40)

    for counts, of_step in zip(parts.values(), ("quotes", "spy_quotes"), strict=True):
        written = sum(len(getattr(step, of_step).seq) for step in recorded.steps)
        assert sum(counts) == written > 20_000
        assert max(counts) <= sim_deliveries.PIECE_QUOTES
        assert len(counts) > len(recorded.steps)


def test_when_one_delivery_is_closed_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim_deliveries, "MAX_WAITING_BYTES", 200_000)

    async def scenario() -> list[list[bytes]]:
        opened = deliveries()
        await take(opened[0], 3)  # leaves it, which closes it
        return await asyncio.gather(take(opened[1], 400), take(opened[2], 200), take(opened[3], 4))

    stock, options, chain = asyncio.run(asyncio.wait_for(scenario(), 60))
    recorded = Recorded(4, 2_000, 12)

    assert stock == recorded.stock[:400]
    assert options == recorded.options[:200]
    assert chain == recorded.chain[:4]


def test_the_ground_truth_is_written_once_whichever_delivery_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"

    async def run() -> None:
        source = f"seed=1,rate=500,start=2025-12-02T17:00:00Z,plant=sweeps,truth={path}"
        taken = [await anext(feed.deliveries({})) for feed in open_market(source)]
        await asyncio.gather(*(take(one, count) for one, count in zip(taken, (400, 400, 200, 2), strict=True)))
        for one in taken[1:3]:
            await one.recorded(CaptureSummary("sim"))

    asyncio.run(asyncio.wait_for(run(), 60))
    truths = [json.loads(line) for line in path.read_text().splitlines()]
    (truth,) = [one for one in truths if one["kind"] != "option_trade"]
    prints = [(one["instrument"], one["seq"]) for one in truths if one["kind"] == "option_trade"]
    assert len(prints) == len(set(prints)) > 150
    assert (truth["kind"], truth["instrument"]) == ("sweep", "ESZ5")
    assert NOON < truth["begin_ns"] < truth["end_ns"]


def test_option_prints_push_nothing_that_was_planted_out_of_the_truths() -> None:
    recorded = Recorded(1, 2_000, 60, plant=("sweeps",))

    assert len(recorded.prints) > 10_000, "more than the truths that may wait"
    assert [truth["kind"] for truth in recorded.truths] == ["sweep"] * 3


def test_a_message_of_a_frame_delivery_is_one_whole_array() -> None:
    for message in asyncio.run(take(deliveries()[1], 50)):
        assert isinstance(json.loads(message), list)


@pytest.mark.parametrize("path", ["none/truth.jsonl", "."])
def test_a_file_that_cannot_hold_the_truth_is_refused_in_one_line(path: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Next: ") as refusal:
        open_market(f"{SOURCE},plant=all,truth={tmp_path / path}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("failing", range(4))
def test_where_the_truth_cannot_be_written_any_more_no_delivery_waits_for_ever(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TruthFile, "tell", full)
    feeds = deliveries(f"{SOURCE},plant=all,truth={tmp_path / 'truth.jsonl'}")

    async def read_all() -> list[Any]:
        await asyncio.wait([asyncio.ensure_future(take(feeds[failing], 10_000))])
        rest = (take(one, 10_000) for one in feeds if one is not feeds[failing])
        return await asyncio.gather(*rest, return_exceptions=True)

    assert all(isinstance(one, OSError) for one in asyncio.run(asyncio.wait_for(read_all(), 20)))


def full(_file: TruthFile, _lines: bytes) -> None:
    raise OSError("No space left on device")

"""A live feed that reconnects: each connection is a capture, and what was lost between two is a gap."""

import asyncio
import time

from spymaster import settings
from spymaster.daemon import Daemon
from spymaster.errors import FeedLostError
from spymaster.events import Stream
from spymaster.events.encoding import Dbn
from spymaster.feeds.arrivals import Arrivals
from spymaster.feeds.feed import DeliveryInfo, Lost, RawMessage
from spymaster.proof.verify import verify
from tests import live_feed
from tests.normalize.dbn_bytes import T0, es_header, trade
from tests.stored import stored

ES = Stream("futures.trades", "ES")


class LiveFeed:
    """Sends a tape: each connection from the cursor on, inclusively, until it is lost at one of its numbers."""

    waits, pace_by = False, None

    def __init__(self, tape, *connections):
        self.tape, self.connections, self.resumed_ns = tape, connections, []

    async def deliveries(self, frontiers):
        self.frontiers, self.cursor_ns, after = frontiers, 0, None
        for missed, until in self.connections:  # what this connection does not give again, and where it ends
            self.resumed_ns.append(self.cursor_ns)
            sent = [number for number in self.tape if number >= self.cursor_ns - T0 and number not in missed]
            yield LiveDelivery(self, sent, until, after)
            after = Lost("disconnect", f"lost at {until}")


class LiveDelivery:
    def __init__(self, feed, sent, until, after):
        self.info = DeliveryInfo("live", Dbn(es_header(), ()), after=after)
        self.feed, self.arrivals = feed, Arrivals()
        self.bursts = self.arrivals.bursts
        for number in sent[: sent.index(until) if until in sent else None]:
            self.arrivals.put(RawMessage(trade(ts_event=T0 + number), time.time_ns()))
        if until != "silent":
            self.arrivals.end(FeedLostError("disconnect", f"lost at {until}") if until else None)

    async def close(self):
        self.arrivals.end()

    async def recorded(self, outcome):
        self.feed.cursor_ns = self.feed.frontiers[ES]


def daemon_of(tmp_path, **feeds) -> Daemon:
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    return Daemon(loaded, [], 1, feeds=list(feeds.items()))


def test_each_connection_is_a_capture_and_what_was_lost_between_two_is_a_gap_from_the_newest_durable_time_on(tmp_path):
    feed = LiveFeed(range(100), ((), 40), (range(40, 50), 70), ((), None))
    daemon = daemon_of(tmp_path, live=feed)

    asyncio.run(daemon.run())

    first, second, third = [summary.capture_id for summary in daemon.summaries]
    rows = stored(tmp_path / "lake", "futures.trades")
    numbers = {capture: [row["ts_event_ns"] - T0 for row in rows if row["capture_id"] == capture] for capture in
               (first, second, third)}  # fmt: skip
    assert numbers == {first: [*range(40)], second: [39, *range(50, 70)], third: [*range(69, 100)]}
    assert feed.resumed_ns == [0, T0 + 39, T0 + 69]
    told = [
        (
            row["of_capture_id"],
            row["event"],
            row["complete"],
            row["detail"],
            dict(row["stream_rows"])["futures.trades/ES"],
        )
        for row in stored(tmp_path / "lake", "system.captures")
    ]
    assert told == [
        (first, "begin", False, None, 0),
        (first, "end", False, "disconnect: lost at 40", 40),
        (second, "begin", False, None, 0),
        (second, "end", False, "disconnect: lost at 70", 21),
        (third, "begin", False, None, 0),
        (third, "end", True, None, 31),
    ]
    gaps = stored(tmp_path / "lake", "system.gaps")
    assert {gap["cause"] for gap in gaps} == {"disconnect"}
    known = {(gap["of_capture_id"], f"{gap['of_schema']}/{gap['of_symbol']}"): gap["start_ns"] for gap in gaps}
    assert known == {  # of a stream without rows nobody knows since when it lacks some
        (first, "reference.instruments/ES"): None,
        (first, "futures.trades/ES"): T0 + 39,
        (first, "options.trades/ES"): None,
        (second, "reference.instruments/ES"): None,
        (second, "futures.trades/ES"): T0 + 69,
        (second, "options.trades/ES"): None,
    }
    assert len({gap["gap_id"] for gap in gaps}) == len(gaps) == 6
    assert verify(tmp_path / "wal", tmp_path / "lake").findings == []


def test_a_stop_ends_a_live_feed_that_is_silent(tmp_path):
    daemon = daemon_of(tmp_path, live=LiveFeed(range(10), ((), "silent")))

    async def run() -> float:
        running = asyncio.create_task(daemon.run())
        await anext(daemon.bus.subscribe())
        daemon.stop()
        began = time.monotonic()
        await running
        return time.monotonic() - began

    assert asyncio.run(run()) < 5
    assert [summary.complete for summary in daemon.summaries] == [True]
    assert len(stored(tmp_path / "lake", "futures.trades")) == 10


def test_what_a_live_feed_has_received_by_the_stop_is_recorded_to_its_end(tmp_path):
    received = live_feed.LiveDelivery([[trade(ts_event=T0 + number)] for number in range(200)], live_feed.SILENT)
    daemon = daemon_of(tmp_path, live=live_feed.LiveFeed(received))

    async def stop_at_the_first_row():
        rows = daemon.bus.subscribe()
        running = asyncio.create_task(daemon.run())
        async for published in rows:
            if published.stream == ES:
                break
        daemon.stop()
        await running

    asyncio.run(stop_at_the_first_row())
    assert [row["ts_event_ns"] - T0 for row in stored(tmp_path / "lake", "futures.trades")] == [*range(200)]
    (summary,) = daemon.summaries
    assert summary.complete

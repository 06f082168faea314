"""The watch beside a real recorder: what happens there is told once, is on record, and is on the desk."""

import asyncio
import json
import time

import pyarrow as pa

from spymaster import settings
from spymaster.clock import utc_now_ns
from spymaster.daemon import Daemon
from spymaster.errors import FeedLostError
from spymaster.events import REFERENCE_STATUS, Stream
from spymaster.events.gaps import Gap, gap_id
from spymaster.feeds.arrivals import Arrivals
from spymaster.feeds.feed import DeliveryInfo, Lost, RawMessage
from spymaster.journal import Journal
from spymaster.proof.verify import verify
from spymaster.watch import changes
from tests.capturing import capture_rows
from tests.live_feed import ES_TRADES
from tests.normalize.dbn_bytes import trade
from tests.rows import BOOKS, delivered
from tests.watch.watched import NOW_NS, recorded_alerts, snap, watched

BOOK = Stream("futures.mbp10", "ES")
STATUS = Stream("reference.status", "ES")


class FlowingFeed:
    """Sends a trade each 20 ms; is silent, is lost, or comes back when it is told."""

    waits, pace_by = False, None

    def __init__(self):
        self.flows, self.lost = True, asyncio.Event()

    async def deliveries(self, frontiers):
        yield FlowingDelivery(self, None)
        yield FlowingDelivery(self, Lost("disconnect", "the test has cut it"))


class FlowingDelivery:
    def __init__(self, feed, after):
        self.info = DeliveryInfo("live", ES_TRADES, after=after)
        self._feed, self._arrivals = feed, Arrivals()
        self._sending = asyncio.create_task(self._send())

    async def _send(self):
        while not self._feed.lost.is_set():
            if self._feed.flows:
                self._arrivals.put(RawMessage(trade(ts_event=time.time_ns()), time.time_ns()))
            await asyncio.sleep(0.02)
        self._feed.lost.clear()
        self._arrivals.end(FeedLostError("disconnect", "the test has cut it"))

    def bursts(self):
        return self._arrivals.bursts()

    async def close(self):
        self._sending.cancel()
        self._arrivals.end()

    async def recorded(self, outcome):
        pass


def test_a_feed_that_falls_silent_and_one_that_is_lost_are_told_once_each_and_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alerts.toml").write_text("[thresholds]\nsilent_s = 2\n")
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    seen = {}

    async def run():
        feed = FlowingFeed()
        daemon = Daemon(loaded, [], 1, feeds=[("live", feed)])
        running = asyncio.create_task(daemon.run())
        desk = lambda: daemon.watch.desk()["desk"]  # noqa: E731

        async def until(true):
            for _ in range(1_500):
                if true():
                    return
                await asyncio.sleep(0.01)
            raise TimeoutError(daemon.watch.desk())

        await until(lambda: daemon.watch.desk()["streams"].get("futures.trades/ES", {}).get("rows", 0) > 130)
        seen["flowing"] = desk()
        feed.flows = False
        await until(lambda: desk()["state"] == "stale")
        seen["stale"] = desk()
        await until(lambda: daemon.watch.alerts.newest)
        feed.flows = True
        await until(lambda: desk()["state"] == "live")
        await until(lambda: len(daemon.watch.alerts.newest) == 2)
        feed.lost.set()
        await until(lambda: daemon.watch.desk()["gaps"])
        await until(lambda: len(daemon.watch.alerts.newest) == 3)
        await until(lambda: any(gap["end_ns"] for gap in daemon.watch.desk()["gaps"].values()))
        seen["after"] = daemon.watch.desk()
        daemon.stop()
        async with asyncio.timeout(60):
            await running

    asyncio.run(run())

    assert seen["flowing"]["state"] == "live"
    assert seen["flowing"]["feeds"] == {"up": 1, "of": 1}
    assert seen["stale"]["reason"] == "futures.trades/ES"
    assert seen["stale"]["silent"]["futures.trades/ES"]["age_ms"] >= 2_000
    assert {gap["cause"] for gap in seen["after"]["gaps"].values()} == {"disconnect"}
    assert seen["after"]["health"]["open_gaps"] == len(seen["after"]["gaps"]) == 3
    (gap,) = [gap for gap in seen["after"]["gaps"].values() if gap["stream"] == "futures.trades/ES"]
    assert gap["start_ns"] < gap["end_ns"] < gap["start_ns"] + 60 * 10**9  # where the stream goes on
    kinds = [(kind, state) for kind, state, _, _ in recorded_alerts(tmp_path)]
    assert kinds == [("silent", "raised"), ("silent", "cleared"), ("gap", "raised")]  # none while it drains
    assert verify(tmp_path / "wal", tmp_path / "lake").findings == []


def test_a_lake_without_a_row_is_empty_until_one_comes_and_in_no_run_after_it(tmp_path):
    async def run():
        found = []
        async with watched(tmp_path) as seen:
            await seen.until(lambda: seen.watch.desk()["desk"]["state"] == "empty")
            await (await capture_rows(seen.recorder, BOOK, 7)).append(delivered(BOOKS, 10))
            await seen.until(lambda: seen.watch.desk()["desk"]["state"] != "empty")
        async with watched(tmp_path) as seen:
            found.append(seen.watch.desk()["desk"]["state"])
            await seen.until(lambda: seen.watch._seen.recorded is not None)
            found.append(seen.watch.desk()["desk"]["state"])
        return found

    assert asyncio.run(run()) == ["first", "first"]  # nobody judges here


def gap(number):
    """Return a gap of some stream."""
    known = gap_id("disconnect", number)
    return Gap("disconnect", BOOK, 7, None, None, None, NOW_NS, NOW_NS + 10**9, f"lost at {number}", known)


def test_what_an_earlier_run_has_told_is_on_the_desk_and_is_not_told_again(tmp_path):
    async def run():
        async with watched(tmp_path) as seen:
            await seen.recorder.own.record_gaps([gap(1)])
            seen.recorder.health.problem("control", "no control socket")
            await seen.until(lambda: len(seen.told()) == 2)
        first = recorded_alerts(tmp_path)
        async with watched(tmp_path) as seen:
            await seen.until(lambda: seen.watch.desk()["gaps"])
            await seen.recorder.own.record_gaps([gap(2)])
            await seen.until(lambda: len(seen.told()) == 3)
            return first, seen.watch.desk()

    first, desk = asyncio.run(run())

    newest = "gap in futures.mbp10/ES (disconnect): lost at 2"
    assert [alert["text"] for alert in desk["alerts"]] == [newest, *(text for *_, text in reversed(first))]
    assert [gap["detail"] for gap in desk["gaps"].values()] == ["lost at 1", "lost at 2"]
    assert len(recorded_alerts(tmp_path)) == 3
    json.dumps(desk, allow_nan=False)


def statuses(*actions, contract="ESH6", strike=None, recv_ns=NOW_NS):
    """Return rows of the exchange's words on a contract, a second apart."""
    rows = delivered(REFERENCE_STATUS, len(actions)).to_pylist()
    for at, (row, action) in enumerate(zip(rows, actions, strict=True), 1):
        row |= {"contract": contract, "action": action, "strike": strike, "ts_recv_ns": recv_ns,
                "ts_event_ns": NOW_NS + at * 10**9}  # fmt: skip
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return pa.RecordBatch.from_pydict(columns, schema=REFERENCE_STATUS.delivered)


def test_the_exchange_s_word_on_the_judged_contract_alone_is_a_halt_until_it_trades(tmp_path):
    async def run():
        found = []
        async with watched(tmp_path) as seen:
            seen.judge.snap = snap()
            rows = await capture_rows(seen.recorder, STATUS, 7)
            desk = lambda: seen.watch.desk()["desk"]  # noqa: E731
            await rows.append(statuses("halt", contract="ESM6"))
            await rows.append(statuses("halt", strike=6900.0))
            await seen.until(lambda: seen.watch.desk()["streams"].get(str(STATUS), {}).get("rows") == 2)
            found.append(desk()["halt"])
            await rows.append(statuses("pre_open", "halt"))
            await seen.until(lambda: desk()["state"] == "halt")
            found.append(desk()["halt"])
            await seen.until(lambda: seen.told() == [("halt", "raised")])
            await asyncio.sleep(0.6)  # looks in which it lasts
            await rows.append(statuses("pause", "pre_open", "trading"))
            await seen.until(lambda: desk()["halt"] is None)
            await seen.until(lambda: len(seen.told()) == 2)
            found.append(seen.told())
        return found

    assert asyncio.run(run()) == [
        None,
        {"word": "halt", "since_ns": NOW_NS + 2 * 10**9},
        [("halt", "raised"), ("halt", "cleared")],
    ]


def test_a_halt_of_an_earlier_run_is_known_to_the_next(tmp_path):
    async def run():
        async with watched(tmp_path) as seen:
            rows = await capture_rows(seen.recorder, STATUS, 7)
            await rows.append(statuses("trading", "close", recv_ns=utc_now_ns()))
        async with watched(tmp_path) as seen:
            seen.judge.snap = snap()
            await seen.until(lambda: seen.watch.desk()["desk"]["halt"] is not None)
            return seen.watch.desk()["desk"]

    found = asyncio.run(run())
    assert (found["state"], found["reason"], found["since_ns"]) == ("halt", "close", NOW_NS + 2 * 10**9)


def test_a_disk_that_fills_up_is_told_at_each_level_and_the_room_after_it(tmp_path):
    free = {"bytes": 10 << 30}

    async def run():
        async with watched(tmp_path, disk_reserve_mb=512, free_bytes=lambda _: free["bytes"]) as seen:
            for megabytes, count in ((1_500, 1), (800, 2), (10_000, 3)):
                free["bytes"] = megabytes << 20
                await seen.until(lambda count=count: len(seen.told()) == count)
                await asyncio.sleep(0.3)
            return seen.told(), seen.watch.desk()["health"]["disk_level"]

    told, level = asyncio.run(run())

    assert told == [("disk", "raised"), ("disk", "raised"), ("disk", "cleared")]
    assert level == "ok"
    assert [state for _, state, _, _ in recorded_alerts(tmp_path)] == ["raised", "raised", "cleared"]


def test_more_alerts_than_a_minute_may_have_are_counted_in_one(tmp_path):
    async def run():
        async with watched(tmp_path, rules="most_a_minute = 5\n") as seen:
            for number in range(12):
                seen.recorder.health.problem(f"thing {number}", f"line {number}")
            await seen.until(lambda: len(seen.told()) == 5)
            await asyncio.sleep(0.3)

    asyncio.run(run())

    alerts = recorded_alerts(tmp_path)
    assert [kind for kind, *_ in alerts] == ["problem"] * 5 + ["limit"]
    assert alerts[-1][3] == "7 more alerts came within a minute and are left out"


def test_an_alert_is_shown_once_it_is_on_record(tmp_path):
    async def run():
        async with watched(tmp_path) as seen:
            own = Stream("system.alerts", "spymaster")
            seen.recorder.health.problem("control", "no control socket")
            while not seen.watch.alerts.newest:  # each turn of the loop, so that none between is missed
                await asyncio.sleep(0)
            return seen.watch.alerts.newest[0]["text"], seen.recorder.lanes[own].log.acknowledged_rows

    assert asyncio.run(run()) == ("no control socket", 1)


def test_a_lake_that_does_not_read_costs_the_past_and_nothing_else(tmp_path):
    lines = []
    strange = tmp_path / "lake/bronze/system/gaps/symbol=spymaster/date=2025-12-22/part-120000_000000-0000000a.parquet"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"no Parquet")

    async def run():
        journal = Journal(lines.append, "text", [])
        async with watched(tmp_path, journal=journal) as seen:
            rows = await capture_rows(seen.recorder, BOOK, 7)
            await rows.append(delivered(BOOKS, 10))
            await seen.until(lambda: seen.watch.desk()["desk"]["state"] != "empty")
            seen.recorder.health.problem("control", "no control socket")
            await seen.until(lambda: ("problem", "raised", "control") in recorded_now(seen))
            await seen.until(lambda: any(" watch.blind " in line for line in lines))
        journal.close()

    asyncio.run(run())

    (line,) = [line for line in lines if " watch.blind " in line]
    assert "is no part that spymaster wrote" in line


def recorded_now(seen):
    return [(alert["kind"], alert["state"], alert["subject"]) for alert in seen.watch.alerts.newest]


def test_a_defect_in_the_watch_is_a_problem_and_the_recording_goes_on(tmp_path, monkeypatch):
    def defect(self, look):
        raise KeyError("lag")

    async def run():
        async with watched(tmp_path) as seen:
            monkeypatch.setattr(changes.Changes, "look", defect)
            await seen.until(lambda: seen.recorder.problems)
            monkeypatch.undo()
            rows = await capture_rows(seen.recorder, BOOK, 7)
            await rows.append(delivered(BOOKS, 10))
            await seen.until(lambda: seen.recorder.frontiers.get(BOOK))
            return seen.recorder.problems

    (problem,) = asyncio.run(run())
    assert problem.startswith("the watch is not whole any more (KeyError: 'lag')")

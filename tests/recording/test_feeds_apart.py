"""Feeds side by side: none waits for another, and what goes wrong with one is its own."""

import asyncio
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from spymaster import settings
from spymaster.daemon import Daemon
from spymaster.errors import FeedLostError, SourceError
from spymaster.events.encoding import MassiveFrames
from spymaster.feeds import dbn_files
from spymaster.feeds.feed import Lost
from spymaster.lake.catalog import Catalog
from spymaster.normalize.databento.normalizer import DatabentoNormalizer
from spymaster.normalize.massive.frames import FrameNormalizer
from spymaster.recording import deliveries, quarantine
from tests.command_line import clean_environment, spymaster
from tests.live_feed import SILENT, LiveDelivery, LiveFeed
from tests.normalize.dbn_bytes import T0, es_header, header_of, record, trade
from tests.stored import stored

UNREADABLE = record(10)  # a book among trades
MINUTE_NS = 60 * 10**9
FRAMES = MassiveFrames("stocks", "SPY")
FRAME = b'[{"ev":"T","sym":"SPY","x":4,"i":"1","z":1,"p":687.25,"s":100,"c":[12],"t":1766404800000,"q":1,"trfi":0}]'


def daemon_of(tmp_path, *feeds, sources=(), speed=1.0, said=None) -> Daemon:
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    named = [(f"live{number}", feed) for number, feed in enumerate(feeds)]
    return Daemon(loaded, sources, speed, feeds=named, notify=None if said is None else said.append)


def record_all(tmp_path, *feeds, **more) -> Daemon:
    async def run() -> Daemon:
        daemon = daemon_of(tmp_path, *feeds, **more)
        async with asyncio.timeout(60):
            await daemon.run()
        return daemon

    return asyncio.run(run())


def trades_in(tmp_path) -> list[int]:
    return [row["ts_event_ns"] - T0 for row in stored(tmp_path / "lake", "futures.trades")]


def quarantined(tmp_path) -> dict[bytes, list[str]]:
    """Return the reasons by the bytes that were kept."""
    files = (tmp_path / "lake" / "quarantine").rglob("*.bin")
    described = {file.read_bytes(): json.loads(file.with_suffix(".json").read_bytes()) for file in files}
    return {data: [one["reason"] for one in document["messages"]] for data, document in described.items()}


def test_live_rows_that_are_ten_minutes_old_are_recorded_at_once_at_speed_1(tmp_path):
    stamps = [minute * MINUTE_NS for minute in range(11)]

    record_all(tmp_path, LiveFeed(LiveDelivery([[trade(ts_event=T0 + stamp) for stamp in stamps]])))

    assert trades_in(tmp_path) == stamps


def test_a_defect_in_one_normalizer_ends_its_delivery_and_no_other_and_run_says_so(tmp_path, monkeypatch):
    environment = clean_environment(DATA_ROOT=str(tmp_path / "lake"), WAL_ROOT=str(tmp_path / "wal"))
    real, met, met_ns = FrameNormalizer.normalize, [], []

    def defect(self, messages):
        if "stocks.trades" in self.streams:
            met.append(b"".join(data for data, _ in messages))
            if len(met) == 3:
                met_ns.append(time.time_ns())
                stop_soon.start()
                raise KeyError("ask_px")
        return real(self, messages)

    monkeypatch.setattr(FrameNormalizer, "normalize", defect)
    stop_soon = threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        done = spymaster("run", "--source", "sim", "--duration", "60", "--json", environment=environment)
    finally:
        stop_soon.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)

    assert done.returncode == 1
    summary = done.document
    (stocks,) = [capture for capture in summary["captures"] if capture["error"]]
    reason = "a defect in the normalizer of sim (KeyError: 'ask_px')"
    assert f"#stocks ends here: {reason}. What came before is recorded, the bytes of this burst" in stocks["error"]
    assert not stocks["complete"]
    assert len(met) == 3
    assert quarantined(tmp_path) == {met[2]: [stocks["error"]]}
    others = [capture for capture in summary["captures"] if capture is not stocks]
    assert [(capture["complete"], capture["error"]) for capture in others] == [(True, None)] * 3
    assert max(row["ts_local_ns"] for row in stored(tmp_path / "lake", "futures.mbp10")) > met_ns[0]  # ES goes on
    (end,) = [row for row in stored(tmp_path / "lake", "system.captures") if row["detail"]]
    assert (end["complete"], end["detail"]) == (False, stocks["error"])
    assert spymaster("verify", environment=environment).returncode == 0


def test_the_bytes_that_met_a_defect_are_kept_beside_others_of_the_same_delivery(tmp_path, monkeypatch):
    real = FrameNormalizer.normalize

    def defect(self, messages):
        if messages[0][0] == FRAME:
            raise KeyError("p")
        return real(self, messages)

    monkeypatch.setattr(FrameNormalizer, "normalize", defect)
    daemon = record_all(tmp_path, LiveFeed(LiveDelivery([[b"{"], [FRAME]], SILENT, FRAMES)))

    assert set(quarantined(tmp_path)) == {b"{", FRAME}
    assert "KeyError" in daemon.summaries[0].error


@pytest.mark.parametrize("where", ["bursts", "deliveries"])
def test_a_defect_in_one_feed_ends_that_feed_and_no_other(tmp_path, where):
    async def run() -> Daemon:
        good = LiveDelivery([[trade(ts_event=T0 + 1)]], SILENT)
        if where == "bursts":
            bad = LiveFeed(LiveDelivery([[trade(ts_event=T0 + 2)]], ZeroDivisionError("a defect")), end=SILENT)
        else:
            bad = LiveFeed(LiveDelivery([[trade(ts_event=T0 + 2)]]), end=ZeroDivisionError("a defect"))
        daemon = daemon_of(tmp_path, LiveFeed(good), bad)
        running = asyncio.create_task(daemon.run())
        async with asyncio.timeout(30):
            while not any(summary.error for summary in daemon.summaries):
                assert not running.done(), running.result()
                await asyncio.sleep(0.01)
        daemon.stop()
        await running
        return daemon

    daemon = asyncio.run(run())
    assert trades_in(tmp_path) == [1, 2]
    (error,) = [summary.error for summary in daemon.summaries if summary.error]
    assert "(ZeroDivisionError: a defect)" in error
    assert "other sources go on" in error


def test_a_row_that_no_log_can_take_ends_its_feed_and_no_other(tmp_path):
    conditions = b",".join([b"1"] * 500_000)
    too_large = FRAME.replace(b"[12]", b"[" + conditions + b"]")

    daemon = record_all(
        tmp_path,
        LiveFeed(LiveDelivery([[FRAME], [too_large], [FRAME]], encoding=FRAMES)),
        LiveFeed(LiveDelivery([[trade(ts_event=T0 + number)] for number in range(5)])),
    )

    too_wide, other = daemon.summaries
    assert (too_wide.complete, too_wide.rows) == (False, {"stocks.trades": 1})
    assert "a row of stocks.trades/SPY is too large" in too_wide.error
    assert (other.complete, trades_in(tmp_path)) == (True, [*range(5)])


def test_a_file_that_meets_a_defect_keeps_those_behind_it_from_nothing(tmp_path, monkeypatch):
    real = DatabentoNormalizer.normalize

    def defect(self, messages):
        if len(messages[0][0]) == len(trade()):
            raise KeyError("price")
        return real(self, messages)

    monkeypatch.setattr(DatabentoNormalizer, "normalize", defect)
    (tmp_path / "a.dbn").write_bytes(es_header() + trade())
    (tmp_path / "b.dbn").write_bytes(es_header() + trade(ts_event=T0 + 7) * 2)

    daemon = record_all(tmp_path, sources=[f"dbn:{tmp_path}"], speed=0)

    assert ["KeyError" in (summary.error or "") for summary in daemon.summaries] == [True, False]
    assert trades_in(tmp_path) == [7, 7]


def test_a_delivery_that_nothing_reads_is_closed(tmp_path):
    async def run() -> LiveDelivery:
        delivery = LiveDelivery([], SILENT, encoding=dbn_files.Dbn(header_of("NO.SUCH")))
        daemon = daemon_of(tmp_path, LiveFeed(delivery))
        await daemon.run()
        assert daemon.summaries[0].error
        return delivery

    assert asyncio.run(run()).closed.is_set()


def test_a_gap_names_the_newest_capture_though_that_one_ended_in_an_error(tmp_path):
    daemon = record_all(
        tmp_path,
        LiveFeed(
            LiveDelivery([[trade(ts_event=T0 + 1)]], FeedLostError("disconnect", "first")),
            LiveDelivery([[trade(ts_event=T0 + 2)]], SourceError("unreadable")),
            LiveDelivery([[trade(ts_event=T0 + 3)]], after=Lost("disconnect", "second")),
        ),
    )

    of = {gap["of_capture_id"] for gap in stored(tmp_path / "lake", "system.gaps")}
    assert of == {daemon.summaries[1].capture_id}


def test_of_a_live_capture_that_sends_too_much_that_nobody_reads_the_newest_stay_and_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "MAX_FILES", 5)

    def guarded(real):
        def listed(path=".", *arguments, **named):
            assert "lake/quarantine" not in str(path), "the folder was listed"
            return real(path, *arguments, **named)

        return listed

    for owner, name in ((os, "scandir"), (os, "listdir"), (Path, "glob"), (Path, "rglob"), (Path, "iterdir")):
        monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))
    said: list[str] = []
    bad = [record(10, instrument_id=number) for number in range(12)]

    feed = LiveFeed(LiveDelivery([*([data] for data in bad), [trade(ts_event=T0 + 1)]]))
    daemon = record_all(tmp_path, feed, said=said)

    monkeypatch.undo()
    (summary,) = daemon.summaries
    assert (summary.complete, summary.unreadable, summary.error) == (True, 12, None)
    assert set(quarantined(tmp_path)) == set(bad[-5:])
    assert trades_in(tmp_path) == [1]
    (alarm,) = said
    assert "live has sent more than 5 unreadable pieces; the newest are kept" in alarm
    assert daemon.recorder.problems == said


def test_a_file_that_has_too_much_that_nobody_reads_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "MAX_FILES", 2)
    monkeypatch.setattr(dbn_files, "MESSAGE_BYTES", 1_000)
    (tmp_path / "a.dbn").write_bytes(es_header() + (UNREADABLE + trade() * 40) * 3)

    (summary,) = record_all(tmp_path, sources=[f"dbn:{tmp_path / 'a.dbn'}"], speed=0).summaries

    assert not summary.complete
    assert "has more than 2 unreadable pieces" in summary.error


@pytest.mark.parametrize("at", ["hash", "normalize", "catalog"])
def test_many_files_that_take_long_hold_up_no_live_source(tmp_path, monkeypatch, at):
    files, may_go_on, waiting = 8, threading.Event(), set()

    def slow(real):
        def blocked(*arguments, **named):
            waiting.add(threading.get_ident())
            may_go_on.wait(30)
            return real(*arguments, **named)

        return blocked

    owner, name = {
        "hash": (dbn_files.hashlib, "file_digest"),
        "normalize": (DatabentoNormalizer, "normalize"),
        "catalog": (Catalog, "recorded_numbers"),
    }[at]
    for number in range(files):
        (tmp_path / f"{number}.dbn").write_bytes(es_header() + trade(ts_event=T0 + number))

    async def run() -> bool:
        monkeypatch.setattr(owner, name, slow(getattr(owner, name)))
        sources = [f"dbn:{tmp_path / f'{number}.dbn'}" for number in range(files)]
        live = LiveDelivery([[FRAME]], SILENT, FRAMES)
        go = asyncio.Event()

        class Later(LiveFeed):
            async def deliveries(self, frontiers):
                await go.wait()
                yield live

        daemon = daemon_of(tmp_path, Later(), sources=sources, speed=0)
        seen = daemon.bus.subscribe()
        running = asyncio.create_task(daemon.run())
        try:
            async with asyncio.timeout(15):
                while len(waiting) < (files if at == "hash" else 4):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                go.set()
                async for stream, _ in seen:
                    if stream.schema == "stocks.trades":
                        break
        finally:
            may_go_on.set()
            daemon.stop()
            await running
        return True

    assert asyncio.run(run())


def test_of_many_deliveries_the_newest_are_told_and_all_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(deliveries, "KEPT_SUMMARIES", 3)
    many = [LiveDelivery([[trade(ts_event=T0 + number)]]) for number in range(9)]
    many[1] = LiveDelivery([], SourceError("the second is unreadable"))

    async def run() -> Daemon:
        daemon = daemon_of(tmp_path, LiveFeed(LiveDelivery([[trade()]], SILENT)), LiveFeed(end=SILENT), LiveFeed(*many))
        running = asyncio.create_task(daemon.run())
        async with asyncio.timeout(30):
            while daemon.rows.get("futures.trades", 0) < 9 or len(daemon.summaries) != 4:
                await asyncio.sleep(0.01)
        daemon.stop()
        await running
        return daemon

    daemon = asyncio.run(run())
    assert len(daemon.summaries) == 3
    assert daemon.rows == {"futures.trades": 9}
    (problem,) = daemon.recorder.problems
    assert problem.endswith("had an error, the last of them: the second is unreadable")


@pytest.mark.parametrize("feed", [LiveFeed(end=SILENT), LiveFeed(LiveDelivery([], SILENT))], ids=["feed", "delivery"])
def test_a_stop_ends_a_feed_that_waits_for_ever(tmp_path, feed):
    async def run() -> None:
        daemon = daemon_of(tmp_path, feed)
        running = asyncio.create_task(daemon.run())
        await asyncio.sleep(0.5)
        daemon.stop()
        async with asyncio.timeout(10):
            await running

    asyncio.run(run())

"""The live judge: whole after a late start, a skip and a session's end; and no defect of it touches the recording."""

import asyncio
from contextlib import suppress

import pytest

from spymaster import control, settings
from spymaster.daemon import Daemon
from spymaster.engines.judge import Judge
from spymaster.engines.profile import profile_named
from spymaster.errors import ControlError
from spymaster.query.sessions import session_at
from spymaster.signals import live, warm_up
from spymaster.signals.chain import chains_of
from spymaster.signals.check import check
from spymaster.signals.replay import replay
from spymaster.signals.sight import MOST_IN_SIGHT
from spymaster.signals.warm_up import WarmUp

SIM = profile_named("SIM")
NOON = "2025-12-02T17:00:00Z"
SECOND = 1_000_000_000


@pytest.fixture(autouse=True, scope="module")
def the_calendar_is_loaded():
    session_at(0, "cme")


def daemon_of(tmp_path, source, speed, profile=SIM, **of):
    loaded = settings.load(
        data_root=tmp_path / "lake", wal_root=tmp_path / "wal", flush_interval_sec=0.5, profile=profile.name, **of
    )
    return Daemon(loaded, [source], speed, profile=profile)


def afresh(tmp_path, snap):
    """Return the same snap of a judge that works again what those on record had seen."""
    session = session_at(snap.snap_ns, "cme")
    chain = chains_of(tmp_path / "lake", tmp_path / "wal", SIM.name, session)[-1]
    warm = WarmUp(tmp_path / "lake", tmp_path / "wal", SIM, session, snap.contract, chain=chain)
    *_, (_, last) = warm.again()
    return last


async def asked(tmp_path, command, **values):
    return await asyncio.to_thread(control.ask, tmp_path / "wal", command, 5, values)


def judged(daemon, snaps):
    """Run a daemon until its judge has so many snaps."""

    async def run():
        running = asyncio.create_task(daemon.run())
        await until(lambda: _is(daemon.judge.gauges()["snaps"] >= snaps))
        daemon.stop()
        await running

    asyncio.run(run())
    return daemon.judge.snap


async def _is(true):
    return true


async def until(true, seconds=60):
    for _ in range(int(seconds / 0.05)):
        with suppress(ControlError):
            if found := await true():
                return found
        await asyncio.sleep(0.05)
    raise TimeoutError


def test_signals_of_a_running_daemon_move_and_are_whole_to_the_last_row(tmp_path):
    daemon = daemon_of(tmp_path, f"sim:rate=500,start={NOON}", 8)

    async def run():
        running = asyncio.create_task(daemon.run())
        first = await until(lambda: asked(tmp_path, "signals"))
        then = await until(lambda: newer(first["ts_event_ns"]))
        status = await asked(tmp_path, "status")
        daemon.stop()
        await running
        return then, status["judge"]

    async def newer(than_ns):
        snap = await asked(tmp_path, "signals")
        return snap if snap["ts_event_ns"] > than_ns and snap["es"]["spot"] is not None else None

    then, judge = asyncio.run(run())

    assert then["es"]["bid"] < then["es"]["spot"] < then["es"]["ask"]
    assert (then["session"], then["contract"], then["profile"]) == ("2025-12-02", "ESZ5", "SIM")
    assert 4 <= len(then["levels"]) <= MOST_IN_SIGHT
    assert [level["price"] for level in then["levels"]] == sorted(level["price"] for level in then["levels"])
    assert (judge["state"], judge["snaps"] > 0) == ("judging", True)
    last, again = daemon.judge.snap, afresh(tmp_path, daemon.judge.snap)
    assert last.snap_ns == again.snap_ns
    assert last.levels == again.levels
    assert last.counters == again.counters
    assert daemon.judge.gauges()["state"] == "ended"
    assert daemon.recorder.problems == []


def test_of_rows_of_a_closed_market_it_says_that_it_is_between_sessions(tmp_path):
    daemon = daemon_of(tmp_path, "sim:rate=2000,start=2025-12-02T04:05:00Z", 8, profile_named("SPY"))

    async def run():
        running = asyncio.create_task(daemon.run())
        await until(lambda: _is(daemon.judge.gauges()["state"] == "between sessions"))
        daemon.stop()
        await running

    asyncio.run(run())

    assert daemon.judge.snap is None
    assert daemon.recorder.problems == []


def test_one_that_starts_again_in_a_session_goes_on_where_it_was(tmp_path):
    first = daemon_of(tmp_path, f"sim:rate=300,start={NOON}", 8)
    before = judged(first, 20).counters
    second = daemon_of(tmp_path, "sim:rate=300,start=2025-12-02T17:05:00Z,seed=2", 8)
    after = judged(second, before.snaps + 20).counters

    assert after.rows > before.rows
    assert second.judge.snap.levels == afresh(tmp_path, second.judge.snap).levels


def test_what_the_bus_skipped_is_read_from_the_log_and_nothing_is_void_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.4)
    daemon = daemon_of(tmp_path, f"sim:rate=20000,start={NOON}", 1, bus_max_mb=1)

    async def run():
        running = asyncio.create_task(daemon.run())
        await until(lambda: _is(daemon.judge.gauges()["read_again_rows"] and daemon.judge.gauges()["snaps"] > 8))
        daemon.stop()
        await running

    asyncio.run(run())

    snap, again = daemon.judge.snap, afresh(tmp_path, daemon.judge.snap)
    assert snap.counters == again.counters
    assert snap.levels == again.levels


def test_a_session_that_ends_is_followed_by_the_next(tmp_path):
    daemon = daemon_of(tmp_path, "sim:rate=200,start=2025-12-02T22:59:50Z", 8)  # 17:00 Chicago is its end

    async def run():
        running = asyncio.create_task(daemon.run())
        await until(lambda: _is(daemon.judge.snap is not None and daemon.judge.snap.session == "2025-12-03"))
        daemon.stop()
        await running

    asyncio.run(run())

    snap = daemon.judge.snap
    assert snap.session == "2025-12-03"
    assert snap.levels == afresh(tmp_path, snap).levels
    assert {"PRIOR_DAY_HIGH", "PRIOR_DAY_LOW"} <= {name for names in snap.levels["ids"].to_pylist() for name in names}


def test_a_defect_of_the_engines_is_told_and_the_recording_goes_on(tmp_path, monkeypatch):
    def broken(self, stream, batch):
        raise IndexError("planted")

    monkeypatch.setattr(Judge, "take", broken)
    daemon = daemon_of(tmp_path, f"sim:rate=500,start={NOON}", 4)

    async def run():
        running = asyncio.create_task(daemon.run())
        await until(lambda: _is(daemon.recorder.problems))
        before = daemon.rows["futures.mbp10"]
        await until(lambda: _is(daemon.rows["futures.mbp10"] > before + 1_000))
        daemon.stop()
        await running

    asyncio.run(run())

    (problem,) = daemon.recorder.problems
    assert problem.startswith("levels are judged no more (IndexError: planted). The recording goes on. Next: ")
    assert daemon.judge.gauges()["state"] == "ended"


def test_one_that_is_stopped_while_it_warms_up_leaves_no_snap_without_its_gold(tmp_path, monkeypatch):
    monkeypatch.setattr(warm_up, "MOST_AT_ONCE", 1)
    first = daemon_of(tmp_path, f"sim-es:rate=300,start={NOON}", 8)
    judged(first, 20)
    unjudged = Daemon(first._settings, ["sim-es:rate=300,start=2025-12-02T17:05:00Z,seed=2"], 50)
    asyncio.run(unjudged.run(2))
    second = daemon_of(tmp_path, "sim-es:rate=300,start=2025-12-02T17:10:00Z,seed=3", 8)

    async def run():
        running = asyncio.create_task(second.run())
        await until(lambda: _is(second.judge.gauges()["published"] > 5))
        state = second.judge.gauges()["state"]
        second.stop()
        await running
        return state

    assert asyncio.run(run()) == "warming up"
    session = session_at(second.judge.snap.snap_ns, "cme")
    made = replay(tmp_path / "lake", tmp_path / "wal", SIM, session)
    assert check(tmp_path / "lake", made.folder, SIM, session).different == 0
    (chain,) = chains_of(tmp_path / "lake", tmp_path / "wal", SIM.name, session)
    assert len(chain.snap_ns) - 1 in chain.stops


def test_a_hot_zone_is_judged_from_the_next_snap_and_is_there_after_a_restart(tmp_path):
    async def first():
        daemon = daemon_of(tmp_path, f"sim:rate=300,start={NOON}", 8)
        running = asyncio.create_task(daemon.run())
        await until(lambda: asked(tmp_path, "signals"))
        assert (await asked(tmp_path, "zone.set", zone="mine", price=6905.3))["price"] == 6905.25
        await asked(tmp_path, "zone.set", zone="gone", price=6906)
        await asked(tmp_path, "zone.remove", zone="gone")
        with pytest.raises(ControlError, match="there is no zone 'gone'"):
            await asked(tmp_path, "zone.remove", zone="gone")
        shown = await until(lambda: level("HOTZONE_mine"))
        zones = await asked(tmp_path, "zones")
        daemon.stop()
        await running
        return shown, zones

    async def level(name):
        return (await asked(tmp_path, "signals", level=name))["levels"]

    (shown,), zones = asyncio.run(first())
    again = daemon_of(tmp_path, "sim:rate=300,start=2025-12-02T17:05:00Z", 8)
    judged(again, 1)

    assert (shown["price"], shown["kinds"][0]) == (6905.25, "USER_HOTZONE")
    assert zones == {"underlying": "ES", "zones": [{"zone": "mine", "price": 6905.25}]}
    assert "HOTZONE_mine" in [name for names in again.judge.snap.levels["ids"].to_pylist() for name in names]
    assert again.judge.zones.prices == {"mine": 6905.25}

"""The stream of a page: a full state, what changes, a beat; and no page that stalls is felt by another."""

import asyncio
import json
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from spymaster.gateway.address import GatewayAt
from spymaster.gateway.clients import MOST_CLIENTS, MOST_FRAMES, Clients
from spymaster.gateway.frames import Frames
from spymaster.gateway.patch import difference, known, patched
from spymaster.query.gold_rows import GoldRows
from tests.gateway.serving import EARLY, FULL_S, NOON, WAIT_S, Serving


def test_a_page_gets_everything_at_once_then_changes_that_make_the_next_full_frame(live):
    with live.page() as page:
        first = page.next()
        fulls = 0
        while fulls < 3:
            before, n = page.state, page.n
            frame = page.next()
            if frame["type"] == "full":
                fulls += 1
                assert (frame["n"], page.state) == (n, before)

    assert first["type"] == "full"
    assert {"run", "desk", "snap", "gamma", "streams", "gaps", "alerts", "zones", "held", "health"} <= first.keys()
    assert sum(frame["type"] == "change" for frame in page.frames) > 3
    at_ns = [frame["at_ns"] for frame in page.frames if frame["type"] == "full"]
    assert 0.5 * FULL_S < (at_ns[-1] - at_ns[1]) / 1e9 / (len(at_ns) - 2) < 20 * FULL_S


def test_the_daemons_clock_and_each_streams_age_come_though_nothing_changes(live):
    with live.page() as page:
        beats = [page.until(lambda frame: frame["type"] == "beat") for _ in range(3)]

    assert [beat["at_ns"] for beat in beats] == sorted({beat["at_ns"] for beat in beats})
    for beat in beats:
        assert {"futures.mbp10/ES", "futures.trades/ES"} <= beat["ages"].keys()
        assert all(age >= 0 for age in beat["ages"].values())


def test_what_a_frame_says_of_a_level_is_the_row_of_that_snap_in_gold(live):
    seen = {}
    with live.page() as page:
        page.until(lambda _: collected(seen, page.state.get("snap")) == 8)
    gold = GoldRows(live.settings.data_root)
    for _ in range(WAIT_S * 10):
        rows = gold.arrow().read_level_signals(start_ns=min(seen), end_ns=max(seen) + 1).to_pylist()
        if {*seen} <= {row["ts_event_ns"] for row in rows}:
            break
        time.sleep(0.1)

    compared = 0
    for row in rows:
        snap = seen.get(row["ts_event_ns"])
        if snap is None:
            continue  # between two frames
        level = snap["levels"][row["level_id"]]
        compared += 1
        points = {name: row[f"break_score_{name}"] for name in ("barrier", "tape", "fuel")}
        assert (level["price"], level["signal"]) == (row["level_price"], row["signal"])
        assert level.get("score") == rounded(row["break_score_smooth"])
        assert level["points"] == {name: rounded(one) for name, one in points.items() if one is not None}
        assert (snap.get("void_reason"), snap["whole_since_ns"]) == (row["void_reason"], row["whole_since_ns"])
        assert level["barrier"].get("held_state") == row["barrier_held_state"]
    assert compared > 40


def collected(seen, snap):
    """Keep a snap; return how many are kept that have a score."""
    if snap is not None and any("score" in level for level in snap["levels"].values()):
        seen[snap["ts_event_ns"]] = snap
    return len(seen)


def rounded(value):
    return None if value is None else round(value, 2)


def test_bars_are_those_of_the_trades_in_log_and_lake(live):
    with live.page() as page:
        page.until(lambda _: len(page.bars) > 20)
        newest = max(page.bars) // 5 * 5 - 5  # behind it a late print may still count
        bars = [bar for second, bar in sorted(page.bars.items()) if newest - 10 <= second < newest]

    span = f"from_ns={(newest - 10) * 10**9}&to_ns={newest * 10**9}"
    fives = live.document(f"/api/history/candles?step=5&{span}")["candles"]

    assert fives == [joined(bars, begin) for begin in (newest - 10, newest - 5)]


def joined(bars, begin):
    """Return the candle of five seconds."""
    own = [bar for bar in bars if begin <= bar[0] < begin + 5]
    sums = [sum(bar[at] for bar in own) for at in (5, 6, 7)]
    return [begin, own[0][1], max(bar[2] for bar in own), min(bar[3] for bar in own), own[-1][4], *sums]


def test_a_page_that_says_something_is_sent_away(live):
    with live.page() as page:
        page.next()
        page.socket.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            page.until(lambda _: False)

    assert closed.value.rcvd.code == 1008


def test_of_a_hundred_pages_ten_that_stall_are_given_up_and_the_others_miss_nothing(tmp_path):
    at = GatewayAt(port=0, full_s=0.05)
    with Serving(tmp_path, f"sim-es:rate=100,start={NOON}", 4, profile=EARLY, at=at) as serving:
        serving.opened()
        stalled = [stalling(serving.port) for _ in range(10)]
        try:
            frames = asyncio.run(followed(serving, 90))
        finally:
            for one in stalled:
                one.close()
        for _ in range(WAIT_S * 10):
            if not serving.in_loop(lambda: len(serving.gateway.broadcast.clients)):
                break
            time.sleep(0.1)
        metrics = serving.ask("/metrics")[2].decode()
        status = serving.daemon.status()

    assert min(frames) > 20  # each without a change missed, as `Page` has it
    behind = next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("spymaster_pages_behind_"))
    assert behind >= 10
    assert status["dropped_rows"] == 0
    assert not serving.daemon.recorder.problems
    assert all(summary.complete for summary in serving.daemon.summaries)


def stalling(port):
    """Return a connection that asks for the stream and never reads."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.connect(("127.0.0.1", port))
    made.sendall(
        f"GET /ws/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return made


async def followed(serving, count):
    """Follow with so many pages until those that stall were given up; return how many frames each got."""
    url = f"ws://127.0.0.1:{serving.port}/ws/stream"
    enough = asyncio.Event()

    async def follow():
        frames, n = 0, None
        async with connect(url, compression=None, max_size=None, open_timeout=WAIT_S) as page:
            while not enough.is_set() or frames <= 20:
                frame = json.loads(await asyncio.wait_for(page.recv(), WAIT_S))
                if frame["type"] == "change":
                    assert frame["n"] == n + 1
                n, frames = frame["n"], frames + 1
        return frames

    async def wait():
        for _ in range(WAIT_S * 10):
            await asyncio.sleep(0.1)
            clients = serving.gateway.broadcast.clients
            if sum(client.behind > 0 for client in tuple(clients._clients)) >= 10:
                break
        enough.set()

    waiting = asyncio.create_task(wait())
    found = await asyncio.gather(*(follow() for _ in range(count)))
    await waiting
    return found


def test_a_slow_page_gets_the_newest_state_in_place_of_what_it_missed():
    clients, state = Clients(), ["full 0"]
    slow, quick = clients.add(lambda: state[0]), clients.add(lambda: state[0])
    for n in range(1, MOST_FRAMES + 1):
        state[0] = f"full {n}"
        clients.send(f"change {n}")
        asyncio.run(quick.next())

    assert asyncio.run(slow.next()) == f"full {MOST_FRAMES}"
    assert (clients.behind, slow.behind, quick.behind) == (1, 1, 0)
    assert (slow.waiting, quick.waiting) == (0, 1)


def test_there_are_so_many_pages_and_one_more_is_counted():
    clients = Clients()
    for _ in range(MOST_CLIENTS):
        assert not clients.is_full
        clients.add(str)

    assert clients.is_full
    assert clients.refused == 1


def test_a_state_that_is_as_it_was_is_no_frame_and_a_defects_number_is_refused():
    frames = Frames()

    assert json.loads(frames.change({"a": {"b": 1}}, [], [], 7)) == {
        "type": "change", "n": 1, "at_ns": 7, "set": {"a": {"b": 1}},
    }  # fmt: skip
    assert frames.change({"a": {"b": 1}}, [], [], 8) is None
    assert json.loads(frames.change({"a": {"b": 1}}, [[1, 2]], [[0, 1], [1, 2]], 9))["set"] == {"bars": [[1, 2]]}
    assert json.loads(frames.full()) == {"type": "full", "n": 2, "at_ns": 9, "a": {"b": 1}, "bars": [[0, 1], [1, 2]]}
    with pytest.raises(ValueError, match="JSON"):
        frames.change({"a": float("nan")}, [], [], 10)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4).map(known)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=DOCUMENTS, after=DOCUMENTS)
def test_a_patch_makes_the_next_state_of_the_one_before(before, after):
    patch = difference(before, after)

    assert patched(before, patch) == after
    assert (patch == {}) == (before == after)

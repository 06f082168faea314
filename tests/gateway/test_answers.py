"""What a page asks: rows, scores, explanations, history, zones, health. Each is what the engines, log and lake have."""

import asyncio
import json
import time

import numpy as np
import pyarrow as pa
import pytest

from spymaster.bus import Published
from spymaster.engines.profile import profile_named
from spymaster.errors import UsageError
from spymaster.events import FUTURES_MBP10, Stream
from spymaster.gateway import explained
from spymaster.gateway.explained import Explainer
from spymaster.gateway.history import MOST_WAITING, BusyError, History, TooLongError, hold_rate
from spymaster.gateway.newest_rows import COMPONENTS, NewestRows, Place, rows_behind
from spymaster.gateway.openapi import openapi_document
from spymaster.query.lake import Lake
from tests.gateway.serving import WAIT_S, nearest

SIM = profile_named("SIM")
PLAIN = {pa.string(): "", pa.bool_(): False, **dict.fromkeys([pa.int8(), pa.int32(), pa.int64(), pa.float64()], 0)}
HELD = {"held", "broke", "neither", "n"}


def test_the_rows_behind_a_level_are_newest_first_and_of_its_components(live):
    level = nearest(live)
    for component in COMPONENTS:
        found = live.document(f"/api/rows?level={level}&component={component}")
        rows = found["rows"]
        assert [row["ts_event_ns"] for row in rows] == sorted((row["ts_event_ns"] for row in rows), reverse=True)
        assert {row["component"] for row in rows} <= {component if component != "all" else one for one in COMPONENTS}
        assert all(isinstance(row["capture_id"], str) for row in rows)
    tape = live.document(f"/api/rows?level={level}&component=tape")["rows"]

    assert tape
    with Lake(live.settings.data_root, live.settings.wal_root) as lake:
        for row in tape[:3]:
            key = f"capture_id = {row['capture_id']} and capture_seq = {row['capture_seq']}"
            query = f"select ts_event_ns, price, size, aggressor from futures_trades where {key}"
            (stored,) = lake.sql(query).fetchall()
            assert stored == (row["ts_event_ns"], row["price"], row["size"], row["aggressor"])


def test_a_level_that_has_left_has_no_rows_and_what_can_be_no_id_is_refused(live):
    assert live.document("/api/rows?level=GONE")["rows"] == []
    for text in ("", "%00", "-", "a%20b", "A" * 65, "%22"):
        assert "Next:" in live.document(f"/api/rows?level={text}", code=400)["error"]


def test_the_course_of_a_score_ends_with_the_score_of_now(live):
    level = nearest(live)
    for _ in range(50):
        before = live.document("/api/levels")["snap"]
        course = live.document(f"/api/levels/scores?level={level}")["scores"]
        now = {ts_ns: score for ts_ns, score, _, _ in course}
        if before["ts_event_ns"] in now:
            break

    assert now[before["ts_event_ns"]] == before["levels"][level].get("score")
    assert list(now) == sorted(now)
    assert live.document("/api/levels/scores?level=NONE")["scores"] == []


def test_an_explanation_has_captures_as_texts_wherever_they_stand():
    found = explained._with_texts({"capture_id": 2**62, "tape": {"rows": [{"capture_id": 2**62 + 1, "size": 2}]}})

    assert found == {"capture_id": str(2**62), "tape": {"rows": [{"capture_id": str(2**62 + 1), "size": 2}]}}
    assert explained._checked(b'{"a": 1}', 0) == '{"a": 1}'


def test_what_cannot_be_explained_is_said_in_one_line(live, capsys):
    roots = [str(live.settings.data_root), str(live.settings.wal_root)]

    assert explained.main([*roots, "SIM", "VWAP", "5"]) == 1
    said = capsys.readouterr().out
    assert "Next:" in json.loads(said)["error"]
    with pytest.raises(UsageError, match="Next:"):
        explained._checked(said.encode(), 1)
    with pytest.raises(UsageError, match="exit code -9"):
        explained._checked(b"", -9)


def test_an_explanation_that_takes_too_long_is_ended_and_another_one_waits_for_none(live):
    explainer = Explainer(live.settings.data_root, live.settings.wal_root, time_s=0.05)

    async def ask():
        first = asyncio.create_task(explainer.ask("SIM", "VWAP", 5))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await explainer.ask("SIM", "VWAP", 5)
        with pytest.raises(TooLongError):
            await first
        with pytest.raises(TooLongError):
            await explainer.ask("SIM", "VWAP", 5)

    asyncio.run(ask())


def test_a_zone_that_is_set_is_on_every_page_and_one_that_is_removed_on_none(live):
    price = live.document("/api/levels")["snap"]["spot"] // 1 + 2.0
    with live.page() as page:
        assert live.post({"zone": "MINE", "price": price})["price"] == price
        page.until(lambda _: page.state["zones"].get("MINE") == price)
        page.until(lambda _: any("USER_HOTZONE" in one["kinds"] for one in page.state["snap"]["levels"].values()))
        assert live.post({"zone": "MINE", "price": None})["price"] is None
        page.until(lambda _: "MINE" not in page.state["zones"])

    assert "no zone" in live.post({"zone": "MINE", "price": None}, code=400)["error"]
    assert "no price" in live.post({"zone": "MINE", "price": 1e308 * 10}, code=400)["error"]
    assert "no name" in live.post({"zone": "<b>", "price": 5}, code=400)["error"]


def test_health_is_said_with_reasons(live):
    status, _, _ = live.ask("/health")
    found = live.document("/health", code=status)

    assert (found["ok"], status) in {(True, 200), (False, 503)}
    assert bool(found["reasons"]) is not found["ok"]
    live.in_loop(lambda: live.daemon.recorder.health.problem("test", "something is not right"))
    assert live.document("/health", code=503)["reasons"][0] == "something is not right"
    live.in_loop(lambda: live.daemon.recorder.health.mended("test"))


def test_history_answers_beside_the_recording(live):
    assert isinstance(live.document("/api/gaps")["gaps"], list)
    assert isinstance(live.document("/api/alerts")["alerts"], list)
    before = live.document("/api/alerts?before_ns=5")
    assert before["alerts"] == []
    assert live.document("/api/status")["held"] == {}


def test_questions_beyond_the_bound_are_refused_and_one_that_takes_long_is_ended(live, monkeypatch):
    monkeypatch.setattr("spymaster.gateway.history.TIME_S", 0.3)
    history = History(live.settings.data_root, live.settings.wal_root)
    endless = "select count(*) from range(100000000000) a, range(1000) b"

    async def ask():
        asked = [asyncio.create_task(history.ask(lambda lake: lake.execute(endless))) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await history.ask(lambda lake: lake.execute("select 1"))
        return await asyncio.gather(*asked, return_exceptions=True)

    began_s = time.monotonic()
    found = asyncio.run(ask())
    history.close()

    assert [type(one) for one in found] == [TooLongError] * MOST_WAITING
    assert time.monotonic() - began_s < WAIT_S


@pytest.mark.parametrize(
    ("counts", "interval"),
    [((72, 30, 16), (0.52, 0.693)), ((10, 10, 0), (0.299, 0.701)), ((20, 0, 0), (0.839, 1.0)), ((3, 1, 0), None)],
)
def test_a_share_of_touches_has_its_interval_and_too_few_have_none(counts, interval):
    found = hold_rate(*counts)

    assert found["n"] == sum(counts)
    if interval is None:
        assert found.keys() == HELD
    else:
        assert (found["low"], found["high"]) == pytest.approx(interval, abs=0.001)


def books(count, rows=1, step_ns=5_000_000):
    """Return so many batches of book updates."""
    batch, begin_ns = one_book(6900.0, rows), 10**18
    stream = Stream(FUTURES_MBP10.name, SIM.book.symbol)
    at = batch.schema.get_field_index("ts_event_ns")
    for n in range(count):
        times = pa.array([begin_ns + n * step_ns] * rows, pa.int64())
        yield Published(stream, batch.set_column(at, batch.schema.field(at), times))


def one_book(price, rows):
    said = {"contract": "ESZ5", "price": price, "action": "A", "side": "A"}
    plain = [said.get(column.name, None if column.nullable else PLAIN[column.type]) for column in FUTURES_MBP10.log]
    columns = zip(plain, FUTURES_MBP10.log, strict=True)
    return pa.record_batch(
        [pa.array([value] * rows, column.type) for value, column in columns], schema=FUTURES_MBP10.log
    )


class TestNewestRows:
    """A minute of rows, in a bound of bytes, looked through from its end."""

    def test_batches_are_joined_to_seconds_and_the_second_of_now_is_there_too(self):
        newest, taken = NewestRows(SIM), list(books(1_100))
        for item in taken:
            newest.take(item)
        kept = newest.kept()

        assert len(kept) == 6
        rows = pa.concat_batches([item.batch for item in reversed(kept)])
        assert rows.equals(pa.concat_batches([item.batch for item in taken]).select(rows.schema.names))
        newest.take(taken[-1])
        assert sum(item.batch.num_rows for item in newest.kept()) == 1_101

    def test_what_is_older_than_a_minute_goes(self):
        newest = NewestRows(SIM)
        for item in books(70 * 10, step_ns=10**8):
            newest.take(item)
        times = np.concatenate([item.batch.column("ts_event_ns").to_numpy() for item in newest.kept()])

        assert 59 * 10**9 <= times.max() - times.min() <= 62 * 10**9

    def test_beyond_the_bound_the_oldest_go(self, monkeypatch):
        monkeypatch.setattr("spymaster.gateway.newest_rows.MOST_BYTES", 200_000)
        newest = NewestRows(SIM)
        for item in books(600, rows=9):
            newest.take(item)
            assert newest.bytes <= 200_000

        kept = newest.kept()
        assert kept[0].batch.column("ts_event_ns")[-1].as_py() == 10**18 + 599 * 5_000_000
        assert 500 < sum(item.batch.num_rows for item in kept) < 5_400

    def test_book_changes_are_those_in_the_zone_on_its_side(self, live):
        kept = live.in_loop(live.gateway.broadcast.rows.kept)
        of_books = [item for item in kept if item.stream.schema == "futures.mbp10"]
        prices = np.concatenate([item.batch.column("price").to_numpy(zero_copy_only=False) for item in of_books])
        price = float(np.nanmedian(prices))
        place = Place("ESZ5", 0, (price, price + 0.25), "ask", price)

        rows = rows_behind(SIM, kept, place, "barrier")

        assert rows
        assert {row["price"] for row in rows} <= {price, price + 0.25}
        assert {row["side"] for row in rows if row["action"] != "T"} <= {"A"}
        assert rows_behind(SIM, kept, place._replace(zone=None), "barrier") == []


def test_the_openapi_document_names_every_route_and_each_parameter_of_it(live):
    document = live.document("/openapi.json")
    routes = {route.path.replace(":path", "") for route in live.gateway._server.config.app._app.routes}

    assert document == openapi_document(live.daemon.status()["version"])
    assert document["openapi"] == "3.1.0"
    assert {*document["paths"]} == routes - {"/ws/stream"}
    for path, methods in document["paths"].items():
        for parameter in methods.get("get", {}).get("parameters", []):
            if parameter["in"] == "query":
                error = live.document(f"{path}?{parameter['name']}=%00", code=400)["error"]
                assert "is no parameter here" not in error

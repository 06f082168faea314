"""How streams flow, and which of them should have rows and have none."""

import pytest

from spymaster import clock
from spymaster.events import Stream
from spymaster.watch.streams import Streams
from tests.rows import BOOKS, NOON_NS, delivered

BOOK, TRADES, CHAIN = (Stream(name, "ES") for name in ("futures.mbp10", "futures.trades", "options.greeks_snapshots"))
DEFINITIONS = Stream("reference.instruments", "ES")


class Clock:
    """Time that goes on when a test says so, instead of the machine's."""

    def __init__(self, monkeypatch):
        self.at_s = 1_000.0
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.at_s)
        monkeypatch.setattr(clock, "utc_now_ns", lambda: NOON_NS + int(self.at_s * 1e9))

    def flow(self, streams, stream, seconds, rows_a_second, late_ms=0):
        """Let rows come, ten times a second."""
        for _ in range(seconds * 10):
            self.at_s += 0.1
            streams.count(stream, rows_a_second // 10, clock.utc_now_ns() - late_ms * 1_000_000)


@pytest.fixture
def time(monkeypatch):
    return Clock(monkeypatch)


def test_a_stream_that_flowed_is_silent_after_two_seconds_and_stays_so_for_hours_until_a_row_comes(time):
    streams = Streams()
    time.flow(streams, BOOK, 60, 10)
    time.at_s += 1.9
    assert streams.silent() == {}

    time.at_s += 0.1
    silent = streams.silent()
    time.at_s += 3 * 3600

    assert silent.keys() == {str(BOOK)}
    assert silent[str(BOOK)]["age_ms"] == pytest.approx(2_000, abs=5)
    assert streams.silent()[str(BOOK)]["since_ns"] == silent[str(BOOK)]["since_ns"]
    streams.count(BOOK, 1, None)
    assert streams.silent() == {}


@pytest.mark.parametrize(("stream", "seconds", "rows_a_second"), [
    (TRADES, 600, 0),  # nothing flowed
    (BOOK, 1, 5_000),  # all at once, as when a connection is opened
    (CHAIN, 60, 100),  # comes by polls
    (DEFINITIONS, 60, 100),
], ids=["seldom", "a burst", "polled", "definitions"])  # fmt: skip
def test_the_silence_of_what_does_not_flow_says_nothing(time, stream, seconds, rows_a_second):
    streams = Streams()
    time.flow(streams, stream, seconds, rows_a_second)
    time.at_s += 60

    assert streams.silent() == {}


def test_five_rows_a_second_are_no_flow_and_ten_are_however_long_ago_more_came(time):
    streams = Streams()
    time.flow(streams, BOOK, 300, 1_000)
    for _ in range(300):
        time.at_s += 1.0
        streams.count(BOOK, 5, None)
        streams.count(TRADES, 10, None)
    time.at_s += 5

    assert streams.silent().keys() == {str(TRADES)}


def test_a_stream_whose_delivery_came_to_its_end_is_not_silent(time):
    streams = Streams()
    time.flow(streams, BOOK, 10, 100)
    streams.ended(BOOK)
    time.at_s += 60

    assert streams.silent() == {}


def test_figures_are_of_the_newest_second_and_lags_of_the_newest_minute(time):
    streams = Streams()
    time.flow(streams, BOOK, 60, 100, late_ms=500)
    time.flow(streams, BOOK, 60, 200, late_ms=20)
    found = streams.documents()[str(BOOK)]

    assert found["rows_s"] == pytest.approx(200, rel=0.15)
    assert found["rows_s_5min"] == pytest.approx(150, rel=0.05)
    assert (found["lag_ms"], found["age_ms"], found["rows"]) == (20, 0, 18_000)
    time.flow(streams, BOOK, 30, 200, late_ms=900)
    assert streams.documents()[str(BOOK)]["lag_p99_ms"] == 900


def test_the_lag_of_rows_of_another_day_is_not_known(time):
    streams = Streams()
    streams.put(BOOK, delivered(BOOKS, 3))

    assert streams.documents()[str(BOOK)]["lag_ms"] == 1_000_000 - 2  # of now, by that clock
    time.at_s += 86_400
    streams.put(TRADES, delivered(BOOKS, 3))
    assert streams.documents()[str(TRADES)]["lag_ms"] is None
    assert streams.lags() == {}  # and an alarm waits for a minute of them

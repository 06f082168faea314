"""What a session takes over from earlier ones: the day before, the closes of averages, and typical sizes."""

from itertools import islice

import numpy as np
import pytest

from spymaster.engines.market import Market, Prints
from spymaster.engines.profile import profile_named
from spymaster.engines.typical import SCALE
from spymaster.events import FUTURES_TRADES, STOCKS_TRADES, SYSTEM_GAPS, Stream
from spymaster.query.sessions import session_at
from spymaster.signals.earlier import earlier_of, seed_of, sessions_before
from spymaster.signals.feed import Roots
from spymaster.signals.warm_up import WarmUp
from tests.engines.books import batch as books
from tests.engines.books import even
from tests.engines.test_intake import rows_of
from tests.signals.recordings import (
    BEFORE,
    BOOKS,
    FRONT,
    SECOND,
    SESSION,
    TRADES,
    Recording,
    last_of,
    renumbered,
    stored,
)

PROFILE = profile_named("ES")
MINUTE = 60 * SECOND
OPENING = 1_800 * SECOND
EARLIEST = session_at(BEFORE.begin_ns - 1, "cme")


def minutes_of(session, contract=FRONT, capture=7, first=0, last=None, start=27_600):
    """Return a trade a minute of a session, each a tick above the one before, the last row of it after its end."""
    last = (session.end_ns - session.begin_ns) // MINUTE + 1 if last is None else last
    rows = [
        {"ts_event_ns": session.begin_ns + at * MINUTE, "contract": contract, "price": (start + at) / 4, "size": 1,
         "aggressor": 1, "capture_id": capture, "capture_seq": at}
        for at in range(first, last)
    ]  # fmt: skip
    rows = [row | {"ts_recv_ns": row["ts_event_ns"], "ts_local_ns": row["ts_event_ns"]} for row in rows]
    return [(TRADES, rows_of(FUTURES_TRADES, rows))]


def recorded(tmp_path, *batches):
    recording = Recording(tmp_path)
    for rows in batches:
        recording.write(rows)
    return recording.drain()


def earlier(recording, contract=FRONT, session=SESSION):
    return earlier_of(Roots(recording.data, recording.wal), PROFILE, session, contract)


def test_the_day_before_is_its_regular_hours_and_the_averages_have_its_closes(tmp_path):
    found = earlier(recorded(tmp_path, minutes_of(BEFORE)))
    regular = [(BEFORE.rth_begin_ns - BEFORE.begin_ns) // MINUTE, (BEFORE.rth_end_ns - BEFORE.begin_ns) // MINUTE - 1]

    assert (found.low, found.high, found.close) == (27_600 + regular[0], 27_600 + regular[1], 27_600 + regular[1])
    assert len(found.closes) == 400
    assert found.closes[-1] == 27_600 + (BEFORE.end_ns - BEFORE.begin_ns) // MINUTE - 1
    assert set(np.diff(found.closes).tolist()) == {2}
    assert found.whole  # in its regular hours; it began with the session's first minute


def test_the_levels_of_the_day_before_and_the_averages_are_there_from_the_first_snap(tmp_path):
    recording = recorded(tmp_path, minutes_of(BEFORE))
    opening = books([even(SESSION.begin_ns + at * SECOND, 29_000) for at in range(5)], contract=FRONT)
    recording.write([(BOOKS, stored(opening))])
    warm_up = WarmUp(recording.data, recording.wal, PROFILE, SESSION, FRONT)
    caught = last_of(warm_up.catch_up(recording.positions()))

    kinds = {named.kind for named in caught.market.named}
    assert {"PRIOR_DAY_HIGH", "PRIOR_DAY_LOW", "SMA_200", "SMA_400"} <= kinds
    assert caught.market.prior_close == warm_up.earlier.close


def test_a_market_that_ran_through_the_session_before_leaves_the_same(tmp_path):
    """Trades at random times, with the same bits as piece after piece."""
    rng = np.random.default_rng(5)
    ts_ns = np.sort(rng.integers(EARLIEST.end_ns - MINUTE, BEFORE.end_ns - MINUTE, 4_000))
    ticks, size = 27_600 + rng.integers(-40, 40, 4_000), rng.integers(1, 9, 4_000)
    rows = [
        {"ts_event_ns": at, "ts_recv_ns": at, "contract": FRONT, "price": px / 4, "size": lots, "capture_seq": number}
        for number, (at, px, lots) in enumerate(zip(ts_ns.tolist(), ticks.tolist(), size.tolist(), strict=True))
    ]
    market = Market(PROFILE.market, BEFORE)
    for snap_ns in range(BEFORE.begin_ns, BEFORE.end_ns, MINUTE // 4):
        mine = (snap_ns - MINUTE // 4 < ts_ns) & (ts_ns <= snap_ns)
        prints = Prints(
            ts_ns[mine], ticks[mine].astype(np.int32), size[mine].astype(np.int32), np.zeros(mine.sum(), np.int8)
        )
        market.work(snap_ns, prints, None)
    found = earlier(recorded(tmp_path, [(TRADES, rows_of(FUTURES_TRADES, rows))]))

    assert found == market.earlier()._replace(whole=True)


def test_a_short_session_before_is_completed_by_the_one_before_it(tmp_path):
    short = minutes_of(BEFORE, capture=8, first=1_000, start=30_000)
    found = earlier(recorded(tmp_path, minutes_of(EARLIEST), renumbered(short, 8, BEFORE.begin_ns)))

    assert len(found.closes) == 400
    assert found.closes[-1] > 30_000
    assert found.closes[0] < 30_000
    assert found.high > 30_000


@pytest.mark.parametrize("contract", ["ESH6", "ESZ5-ESH6"])
def test_without_a_trade_of_the_contract_there_is_nothing(tmp_path, contract):
    assert earlier(recorded(tmp_path, minutes_of(BEFORE)), contract) is None


def test_a_lake_that_has_only_the_session_before_the_one_before_has_nothing_of_the_day_before(tmp_path):
    assert earlier(recorded(tmp_path, minutes_of(EARLIEST, last=1_300))) is None


def test_a_weekend_of_the_simulated_market_counts_where_there_is_one(tmp_path):
    (sunday, _), _, (friday, _) = islice(sessions_before(BEFORE, PROFILE), 3)
    only_friday = recorded(tmp_path / "a", minutes_of(friday, last=1_300))
    both = recorded(tmp_path / "b", [*minutes_of(friday, last=1_300), *minutes_of(sunday, capture=8, start=20_000)])

    assert (sunday.date, friday.date) == ("2025-11-30", "2025-11-28")
    assert earlier(only_friday, session=BEFORE).close > 27_600
    assert earlier(both, session=BEFORE).high < 27_600


def test_of_a_stock_it_is_its_own_prints_that_set_a_price(tmp_path):
    now = session_at(SESSION.rth_begin_ns, "us")
    past = session_at(BEFORE.rth_begin_ns, "us")
    rows = [
        {"ts_event_ns": past.begin_ns + at * MINUTE, "symbol": "SPY", "price": (69_000 + at) / 100, "size": 100,
         "aggressor": 0, "capture_seq": at, "conditions": [37] if at == 500 else []}
        for at in range((past.end_ns - past.begin_ns) // MINUTE)
    ]  # fmt: skip
    rows[500]["price"] = 1.0  # an odd lot
    rows = [row | {"ts_recv_ns": row["ts_event_ns"]} for row in rows]
    recording = recorded(tmp_path, [(Stream(STOCKS_TRADES.name, "SPY"), rows_of(STOCKS_TRADES, rows))])
    found = earlier_of(Roots(recording.data, recording.wal), profile_named("SPY"), now, FRONT)

    assert (found.low, found.high, found.close) == (69_330, 69_719, 69_719)
    assert len(found.closes) == 400


# What is missing


def test_a_day_before_that_was_recorded_through_is_whole(tmp_path):
    rows = [*minutes_of(EARLIEST, last=3), *minutes_of(BEFORE, first=3)]
    assert earlier(recorded(tmp_path, rows)).whole


def test_a_restart_within_its_regular_hours_makes_it_not_whole(tmp_path):
    noon = (BEFORE.rth_begin_ns - BEFORE.begin_ns) // MINUTE + 60
    before, after = minutes_of(BEFORE, first=3, last=noon), minutes_of(BEFORE, capture=8, first=noon + 5)
    recording = recorded(tmp_path, minutes_of(EARLIEST, last=3), before, renumbered(after, 8))
    assert not earlier(recording).whole


def test_a_restart_that_missed_nothing_leaves_it_whole(tmp_path):
    noon = (BEFORE.rth_begin_ns - BEFORE.begin_ns) // MINUTE + 60
    before, after = minutes_of(BEFORE, first=3, last=noon), minutes_of(BEFORE, capture=8, first=noon - 1)
    recording = recorded(tmp_path, minutes_of(EARLIEST, last=3), before, renumbered(after, 8))
    assert earlier(recording).whole


def test_a_gap_within_its_regular_hours_makes_it_not_whole(tmp_path):
    recording = recorded(tmp_path, minutes_of(EARLIEST, last=3), minutes_of(BEFORE, first=3))
    begin_ns, end_ns = BEFORE.rth
    row = {"ts_event_ns": end_ns, "ts_recv_ns": end_ns, "of_schema": "futures.mbp10", "of_symbol": "ES",
           "symbol": "spymaster", "start_ns": begin_ns, "end_ns": begin_ns + 1}  # fmt: skip
    recording.write_own(SYSTEM_GAPS.name, rows_of(SYSTEM_GAPS, [row])).drain()
    assert not earlier(recording).whole


# What is typical


def opening_of(session, size, capture=7, first=0, last=1_900, every=4):
    """Return books of the begin of a session, one each 4 s, and trades of its front month the day before."""
    rows = [even(session.begin_ns + at * SECOND, 27_600, size=size) for at in range(first, last, every)]
    return list(renumbered([(BOOKS, stored(books(rows, contract=FRONT)))], capture))


def seed(recording):
    return seed_of(Roots(recording.data, recording.wal), PROFILE, SESSION)


def test_the_seed_is_the_mean_of_what_was_typical_when_the_first_half_hour_was_over(tmp_path):
    found = seed(recorded(tmp_path, opening_of(EARLIEST, 40), opening_of(BEFORE, 60, capture=8)))

    assert (found.sizes == 50 * SCALE).all()
    assert found.volume == 0


@pytest.mark.parametrize(
    "span", [{"first": 120}, {"last": 1_200}, {"every": 1_800}], ids=["begins late", "ends early", "two books"]
)
def test_a_first_half_hour_that_is_not_there_is_no_seed(tmp_path, span):
    recording = recorded(tmp_path, opening_of(EARLIEST, 40), opening_of(BEFORE, 60, capture=8, **span))
    assert (seed(recording).sizes == 40 * SCALE).all()


def test_without_an_earlier_session_there_is_no_seed(tmp_path):
    assert seed(recorded(tmp_path, opening_of(SESSION, 40))) is None


def test_the_judge_begins_with_the_seed_and_has_no_warm_up(tmp_path):
    recording = recorded(tmp_path, opening_of(BEFORE, 60), opening_of(SESSION, 60, capture=8, last=12, every=1))
    warm_up = WarmUp(recording.data, recording.wal, PROFILE, SESSION, FRONT)
    caught = last_of(warm_up.catch_up(recording.positions()))

    assert (warm_up.seed.sizes == 60 * SCALE).all()
    assert caught.void_reason is None

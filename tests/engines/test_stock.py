"""SPY judged by the book of ES: its prints and quote, the places of its levels, and what a missing side does."""

from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.intake import Intake, Missing
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.levels import Zone
from spymaster.engines.profile import profile_named, read_profile
from spymaster.engines.snap import SIGNALS
from spymaster.engines.stock import Stock
from spymaster.errors import UsageError
from spymaster.events import FUTURES_TRADES, STOCKS_QUOTES, STOCKS_TRADES, SYSTEM_GAPS, Stream
from tests.engines.books import OPEN_NS
from tests.engines.leaving import (
    BOOKS,
    QUOTES,
    SECOND,
    SESSION,
    STATUS,
    STOCK,
    TRADES,
    judge,
    judged,
    pieces_of,
    same,
    simulated_with_spy,
    sliced,
    up_to,
)
from tests.engines.test_intake import rows_of
from tests.engines.test_judge import SEEDS
from tests.engines.test_whole import WHOLE, Snaps

MS = 1_000_000
HOUR_NS = 3_600 * SECOND
ZONES = [Zone(str(at), 68_730 + 4 * at) for at in range(30)]
ES_ZONES = [Zone(str(at), 27_570 + at) for at in range(60)]


def market():
    return simulated_with_spy(24, 40, ("walls", "vacuums"), seed=5)


def spy(zones=ZONES, **more):
    return judge(profile="SPY", seeds=SEEDS, zones=zones, **more)


@cache
def whole_run():
    return judged(market(), spy())


# The stock itself


def quotes(*rows):
    """Return quotes of (ms after the open, bid, ask) in dollars."""
    return rows_of(
        STOCKS_QUOTES,
        [
            {"ts_event_ns": OPEN_NS + at * MS, "symbol": "SPY", "bid_px": bid, "ask_px": ask, "capture_seq": seq}
            for seq, (at, bid, ask) in enumerate(rows)
        ],
    )


def trades(*rows):
    """Return trades of (ns after the open, price, shares, conditions, correction)."""
    return rows_of(
        STOCKS_TRADES,
        [
            {"ts_event_ns": OPEN_NS + at, "symbol": "SPY", "price": price, "size": size, "conditions": codes,
             "correction": correction, "capture_seq": seq}
            for seq, (at, price, size, codes, correction) in enumerate(rows)
        ],
    )  # fmt: skip


def stock():
    return Stock(SESSION, 0.01, 10.0, 10)


def worked(one, snap, *batches, quotes_from=None):
    """Let a stock work a snap, counted from the open; return the prints that count."""
    found = {STOCKS_QUOTES.name: [], STOCKS_TRADES.name: []}
    for part in batches:
        found[STOCKS_QUOTES.name if "bid_px" in part.schema.names else STOCKS_TRADES.name].append(part)
    return one.work(OPEN_NS + snap * SNAP_NS, found, None if quotes_from is None else OPEN_NS + quotes_from * MS)


@pytest.mark.parametrize(
    "codes",
    [[2], [5], [7], [10], [13], [15], [16], [20], [21], [22], [29], [32], [33], [37], [38], [52], [53], [14, 37]],
)
def test_a_print_that_sets_no_price_on_the_consolidated_tape_counts_nowhere(codes):
    one = stock()
    prints = worked(one, 1, trades((1, 687.5, 300, codes, None), (2, 687.51, 100, None, None)))
    assert (prints.price.tolist(), prints.size.tolist(), one.unpriced) == ([68_751], [100], 300)


def test_all_other_prints_count_in_order_at_the_nearest_cent():
    one = stock()
    prints = worked(
        one, 1, trades((9, 687.504, 100, [14, 41], 0), (1, 687.497, 50, [], None), (5, None, 7, None, None),
                       (6, 687.5, 70, None, 8), (-1, 687.5, 90, None, None)),
    )  # fmt: skip
    assert prints.ts_ns.tolist() == [OPEN_NS + 1, OPEN_NS + 9]
    assert prints.price.tolist() == [68_750, 68_750]
    assert prints.side.tolist() == [0, 0]
    assert one.unpriced == 70  # the corrected one; neither the one without a price nor that of before the session


def test_form_t_counts_outside_of_the_regular_hours_and_only_there():
    session = SESSION._replace(begin_ns=OPEN_NS - HOUR_NS, rth_begin_ns=OPEN_NS)
    one = Stock(session, 0.01, 10.0, 10)
    prints = worked(
        one, 1, trades((-1, 687.5, 100, [12], None), (-1, 687.4, 10, [12, 37], None), (0, 687.6, 5, [12], None))
    )
    assert (prints.price.tolist(), one.unpriced) == ([68_750], 15)


def test_the_quote_is_the_newest_sound_one_until_it_is_stale():
    one = stock()
    worked(one, 1)
    assert (one.quote, one.quote_ns, one.reason) == (None, None, "no quote")
    worked(
        one,
        2,
        quotes((200, 687.5, 687.51), (100, 687.4, 687.41), (201, 687.6, 687.5), (202, 0.0, 687.5), (203, None, 687.5)),
    )
    assert (one.quote, one.quote_ns, one.reason) == ((68_750, 68_751), OPEN_NS + 200 * MS, None)
    worked(one, 3, quotes((199, 687.2, 687.3)))
    assert one.quote == (68_750, 68_751)  # a late one is older
    worked(one, 4, quotes((900, 687.52, 687.52)))
    assert one.quote == (68_752, 68_752)  # locked
    worked(one, 43)
    assert one.reason is None
    worked(one, 44)
    assert (one.quote, one.reason) == (None, "stale quote")
    worked(one, 45, quotes((11_200, 687.5, 687.51)))
    assert one.reason is None


def test_a_hole_forgets_the_quote_and_those_before_its_end():
    one = stock()
    worked(one, 2, quotes((200, 687.5, 687.51)))
    worked(one, 3, quotes((600, 687.5, 687.51)), quotes_from=601)
    assert (one.quote, one.reason) == (None, "no quote")
    worked(one, 4, quotes((601, 687.5, 687.51)))
    assert one.reason is None


def placed(one, price, direction=0, book=None):
    return one.places(np.array([price], np.int32), np.array([direction], np.int8), book).tolist()[0]


def test_a_flickering_spread_moves_no_level_by_a_tick():
    one, places, flickering = stock(), [], []
    for snap in range(1, 200):
        flicker = snap % 3 == 0
        worked(one, snap, quotes((snap * 250, 687.5, 687.52 if flicker else 687.51)))
        one.pair(OPEN_NS + snap * SNAP_NS, (27_602, 27_603))
        places.append(placed(one, 68_800))
        flickering.append(68_800 * 55_205 / sum(one.quote))
    settled = places[40:]
    assert max(settled) - min(settled) < 0.02
    assert abs(settled[-1] - 68_800 * 27_602.5 / 68_750.667) < 0.02
    assert max(flickering) - min(flickering) > 0.19


def test_the_ratio_forgets_what_is_older_than_its_window():
    one = stock()
    worked(one, 1, quotes((100, 687.5, 687.5)))
    one.pair(OPEN_NS + SNAP_NS, (27_600, 27_600))
    worked(one, 2, quotes((400, 688.5, 688.5)))
    one.pair(OPEN_NS + 2 * SNAP_NS, None)  # a book that is not sound says nothing
    assert placed(one, 68_750) == 27_600
    worked(one, 40, quotes((10_000, 690.0, 690.0)))
    one.pair(OPEN_NS + 40 * SNAP_NS, (27_600, 27_600))
    assert placed(one, 69_000) == 69_000 * 55_200 / (68_750 + 69_000)
    one.pair(OPEN_NS + 41 * SNAP_NS, None)
    assert placed(one, 69_000) == 27_600
    one.pair(OPEN_NS + 90 * SNAP_NS, None)
    assert not one.has_ratio


def test_a_level_is_on_the_side_of_the_books_mid_that_it_is_on_of_the_stocks():
    one = stock()
    worked(one, 1, quotes((100, 690.0, 690.0)))
    one.pair(OPEN_NS + SNAP_NS, (27_600, 27_600))
    assert [placed(one, 69_000, way, (27_603, 27_604)) for way in (1, -1, 0)] == [27_603.5, 27_600, 27_600]
    assert [placed(one, 69_000, way, (27_590, 27_591)) for way in (1, -1, 0)] == [27_600, 27_590.5, 27_600]


def test_a_profile_says_how_the_ratio_is_made_where_there_is_one_and_nowhere_else():
    assert profile_named("SPY").book.ratio_s == 10
    with pytest.raises(UsageError, match=r"book\.ratio_s is for an underlying that is judged by another"):
        read_profile('like = "ES"\n[book]\nratio_s = 10', "mine.toml")
    with pytest.raises(UsageError, match=r"book\.ratio_s is for"):
        read_profile('like = "ES"\n[market]\nunderlying = "SPY"', "mine.toml")


# Which rows, and what is missing


def test_the_clock_is_the_book_and_the_stocks_trades():
    intake = Intake("ES", "SPY")
    assert all(map(intake.wants, (BOOKS, STATUS, STOCK, QUOTES, Stream("stocks.trades", "ALL"))))
    assert not any(map(intake.wants, (TRADES, Stream("stocks.quotes", "QQQ"), Stream("stocks.quotes", "ES"))))
    intake.take(STOCK, recent(trades((1, 687.5, 1, None, None))))
    assert intake.take(QUOTES, recent(quotes((900, 687.5, 687.6)))) == []
    late = {"ts_event_ns": OPEN_NS + 2 * SECOND, "ts_recv_ns": OPEN_NS + 2 * SECOND}
    assert intake.take(TRADES, rows_of(FUTURES_TRADES, [late])) == []
    (piece,) = intake.take(STOCK, recent(trades((SECOND, 687.5, 1, None, None))))
    assert piece.snap_ns == OPEN_NS + SECOND - SNAP_NS


def recent(part):
    """Let rows be received when they happened."""
    return part.set_column(
        part.schema.get_field_index("ts_recv_ns"), part.schema.field("ts_recv_ns"), part["ts_event_ns"]
    )


def test_each_of_the_three_streams_is_missed():
    intake = Intake("ES", "SPY")
    for stream in (BOOKS, STOCK, QUOTES, STATUS, TRADES):
        intake.skip(stream, 5, 8)
    row = {"of_schema": STOCKS_QUOTES.name, "of_symbol": "SPY", "start_ns": 1, "end_ns": 2}
    intake.put(Stream(SYSTEM_GAPS.name, "spymaster"), rows_of(SYSTEM_GAPS, [row, row | {"of_symbol": "QQQ"}]))
    assert intake.snap(OPEN_NS).missing == (
        Missing(1, 2, "gap", "stocks.quotes"),
        Missing(5, 9, "skipped"), Missing(5, 9, "skipped", "stocks.quotes"), Missing(5, 9, "skipped", "stocks.trades"),
    )  # fmt: skip


def test_a_hole_of_the_stock_marks_its_market_and_one_of_the_book_restarts_the_book():
    snaps = Snaps(of_stock=True)
    snaps.at(1)
    found = snaps.at(2, (SNAP_NS + 5, SNAP_NS + 9, "gap", "stocks.quotes"))
    assert (found.reason, found.stock_reason) == (None, "gap in stocks.quotes")
    assert (found.spans, found.books_from_ns) == (((SNAP_NS + 5, SNAP_NS + 9),), None)
    assert snaps.since == 2 * SNAP_NS
    found = snaps.at(3, (2 * SNAP_NS + 5, 2 * SNAP_NS + 9, "skipped"))
    assert (found.reason, found.stock_reason) == ("skipped", None)
    assert (found.spans, found.books_from_ns, found.quotes_from_ns) == ((), 2 * SNAP_NS + 9, None)
    assert snaps.at(4, status=[(3 * SNAP_NS + 1, "halt")])._replace(reason=None) == WHOLE


# The simulated market


def test_levels_in_dollars_are_judged_as_the_levels_of_es_at_their_places_are():
    es = {snap.snap_ns: snap for snap in judged(market(), judge(profile="ES", seeds=SEEDS, zones=ES_ZONES))}
    ends = ("_5s", "_60s", "_240s", "_ratio", "_rank")
    names = [name for name in SIGNALS.names if name.endswith(ends) and not name.startswith("confluence")]
    names += ["barrier_side", "offset_ticks", "state", "coverage", "depth", "typical_depth", "tape_imbalance"]
    compared, states = 0, set()
    for snap in whole_run():
        other = es[snap.snap_ns]
        places = {row["zone_ticks"]: row for row in other.levels.to_pylist() if row["state"] != "VOID"}
        for row in snap.levels.to_pylist():
            if row["zone_ticks"] is None:
                continue
            place = row["price"] * other.spot / snap.spot / 0.25
            assert abs(row["zone_ticks"] - place) < 2.5
            if (found := places.get(row["zone_ticks"])) is not None and row["state"] != "VOID":
                assert {name: row[name] for name in names} == {name: found[name] for name in names}
                states.add(row["state"])
                compared += 1
    assert compared > 500
    assert {"WALL", "VACUUM", "NEUTRAL"} <= states


def test_market_state_is_the_stocks_own():
    last = whole_run()[-1]
    prices = np.concatenate([part.column("price").to_numpy() for stream, part in market() if stream == STOCK])
    assert 680 < prices.min() <= last.spot <= prices.max() < 700
    assert (last.contract, last.counters.traded, last.void_reason) == ("ESH6", 0, None)
    counted = last.market.volume + last.counters.unpriced
    printed = sum(part.column("size").to_numpy()[part.column("ts_event_ns").to_numpy() <= last.snap_ns].sum()
                  for stream, part in market() if stream == STOCK)  # fmt: skip
    assert counted == printed > last.counters.unpriced > 0
    assert last.ask - last.bid < 0.03
    assert {"OR_HIGH", "VWAP", "ROUND_688.00"} <= {
        name for ids in last.levels.column("ids").to_pylist() for name in ids
    }


def parted(begin, end, *lost):
    """Return the market before, within (without the lost streams) and after a span of seconds."""
    parts = [[], [], []]
    for stream, part in market():
        at = (part.column("ts_recv_ns")[0].as_py() - OPEN_NS) / SECOND
        number = 0 if at < begin else 1 if at < end else 2
        if number != 1 or stream not in lost:
            parts[number].append((stream, part))
    return parts


@pytest.mark.parametrize("lost", [QUOTES, STOCK])
def test_a_hole_of_a_stock_stream_voids_its_snaps_and_no_others(lost):
    by = spy()
    before, within, after = parted(12, 13, lost)
    found = judged(before, by)
    by.skip(lost, OPEN_NS + 12 * SECOND, OPEN_NS + 13 * SECOND - 1)
    seconds = {(snap.snap_ns - OPEN_NS) / SECOND: snap for snap in found + judged(within, by) + judged(after, by)}
    for at in (12.25, 12.5, 12.75, 13.0):
        snap = seconds[at]
        assert (snap.void_reason, snap.spot, snap.levels.num_rows) == (f"skipped in {lost.schema}", None, 0)
        assert snap.whole_since_ns == snap.snap_ns
    assert (seconds[11.5].void_reason, seconds[13.25].void_reason) == (None, None)
    assert set(seconds[13.25].levels.column("state").to_pylist()) > {"VOID"}  # the book went on
    assert (seconds[13.25].market.voids, seconds[13.25].counters.unaccounted) == (1, 0)
    assert seconds[13.25].whole_since_ns == OPEN_NS + 13 * SECOND


def test_a_hole_of_the_book_voids_and_leaves_the_stocks_market_whole():
    by = spy()
    before, within, after = parted(12, 13, BOOKS)
    found = judged(before, by)
    by.skip(BOOKS, OPEN_NS + 12 * SECOND, OPEN_NS + 13 * SECOND - 1)
    seconds = {(snap.snap_ns - OPEN_NS) / SECOND: snap for snap in found + judged(within, by) + judged(after, by)}
    reasons = [seconds[at].void_reason for at in (12.25, 13.0, 13.5, 18.5)]
    assert reasons == ["skipped", "skipped", "not whole", None]
    assert seconds[12.5].spot is not None
    assert set(seconds[12.5].levels.column("state").to_pylist()) == {"VOID"}
    assert seconds[18.5].market.voids == 0


@pytest.mark.parametrize(("lost", "reason"), [((QUOTES,), "stale quote"), ((BOOKS, STATUS), "stale book")])
def test_a_side_that_does_not_come_any_more_is_stale(lost, reason):
    before, within, _ = parted(6, 24, *lost)
    found = judged(before + within, spy())
    stale = [snap for snap in found if snap.void_reason == reason]
    assert stale[0].age_ns > 10 * SECOND
    assert min(snap.snap_ns for snap in stale) <= OPEN_NS + 16 * SECOND + SNAP_NS
    assert found[-1] == stale[-1]
    assert {state for snap in stale for state in snap.levels.column("state").to_pylist()} <= {"VOID"}


def test_a_roll_begins_anew_with_the_book_and_leaves_the_stocks_market_as_it_is():
    by = spy()
    before, _, after = parted(12, 12)
    found = judged(before, by)
    by.roll("ESM6")
    rolled = judged(after, by)
    assert (rolled[0].void_reason, rolled[0].contract, rolled[0].market.voids) == ("roll", "ESM6", 0)
    assert [snap.market for snap in found + rolled] == [snap.market for snap in whole_run()]
    assert rolled[-1].whole_since_ns >= found[-1].snap_ns


def test_a_roll_between_sessions_hands_the_stocks_day_to_the_next():
    middle = OPEN_NS + 12 * SECOND
    days = [SESSION._replace(end_ns=middle, rth_end_ns=middle), SESSION._replace(date="2025-12-23", begin_ns=middle)]
    along, rolled = (judge(days, profile="SPY", seeds=SEEDS) for _ in range(2))
    before, _, after = parted(12, 12)
    judged(before, rolled)
    rolled.roll("ESM6")
    (*_, last), (*_, other) = judged(after, rolled), judged(market(), along)
    assert last.session == "2025-12-23"
    assert last.market == other.market
    assert last.market.prior_close is not None


def test_without_a_quote_or_a_book_there_is_no_level():
    quiet = judged([one for one in market() if one[0] != QUOTES], spy())
    bookless = judged([one for one in market() if one[0] != BOOKS], spy())
    assert {snap.void_reason for snap in quiet[1:]} <= {"no quote"}
    assert {snap.void_reason for snap in bookless[2:]} == {"no book"}
    assert sum(snap.levels.num_rows for snap in quiet + bookless) == 0


def test_streams_in_any_order_within_a_snap_give_the_same_bits():
    rng, shuffled, found = np.random.default_rng(5), spy(), []
    for snap_ns, left in pieces_of(market(), "SPY"):
        parts = list(sliced(left, rng))
        for at in rng.permutation(len(parts)).tolist():
            stream, part = parts[at]
            shuffled.put(stream, part.take(pa.array(rng.permutation(part.num_rows))))
        if snap_ns >= OPEN_NS:
            found.append(shuffled.snap(snap_ns))
    assert len(found) == len(whole_run()) > 80
    assert all(
        same(one._replace(seen={}), other._replace(seen={})) for one, other in zip(found, whole_run(), strict=True)
    )


def test_what_came_later_changes_no_snap_of_the_stock_before_it():
    rows, compared = sum(part.num_rows for _, part in market()), 0
    for cut in np.random.default_rng(7).integers(rows // 8, rows // 2, 4).tolist():
        found = judged(up_to(market(), cut), spy())
        compared += len(found)
        assert all(map(same, found, whole_run()))
    assert compared > 60

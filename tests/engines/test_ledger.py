"""The ledger accounts each contract once: by hand, at random, on real and simulated books, in three bodies."""

import importlib.util
import os
import random
import shutil
from pathlib import Path

import numba
import numpy as np
import pytest

from spymaster.engines import ledger as ledger_module
from spymaster.engines import ledger_compiled
from spymaster.engines.ledger import KEPT, SNAP_NS, VISIBLE, WINDOWS_S, Ledger, account, fastest_body
from spymaster.engines.rows import ASK, BID, book_rows, no_rows
from tests.engines.books import (
    OPEN_NS,
    batch,
    book,
    by_snap,
    columns,
    even,
    ladder,
    listed,
    mirrored,
    printed,
    real_books,
    simulated,
    wild_market,
)  # fmt: skip
from tests.engines.plain_ledger import BOOK, SNAPSHOT, PlainLedger, Row

MS = 1_000_000
FIRST = OPEN_NS + SNAP_NS  # the first snap of most tests
REAL = "nautilus_trader/derived/ESH4_mbp-10_20231225_part1.dbn.zst"
ZERO = [0, 0, 0]

BODIES = [lambda: account, ledger_compiled.load]


class Ledgers:
    """The three bodies side by side; asked at any time, they agree at every price that was ever named."""

    def __init__(self):
        self.numpy, self.numba, self.plain = Ledger(account), Ledger(ledger_compiled.load()), PlainLedger()
        self.prices = set()

    def work(self, rows, snap_ns):
        for ledger in (self.numpy, self.numba):
            ledger.work(columns(rows) if rows else no_rows(), snap_ns)
        self.plain.work(rows, snap_ns)
        for row in rows:
            self.prices |= {price for price, _ in (*row.bids, *row.asks)} | ({row.price} - {None})

    def advance(self, snap_ns):
        for ledger in (self.numpy, self.numba, self.plain):
            ledger.advance(snap_ns)

    def sums(self, side, price, window_s=5):
        """Return added, canceled, filled and visible, which the three agree on."""
        self.agree()
        return self.numpy.sums(side, np.array([price]), window_s)[0].tolist()

    def flows(self, side, *prices, window_s=5):
        return [self.sums(side, price, window_s)[:3] for price in prices]

    def agree(self):
        same_bits(self.numpy, self.numba)
        prices = sorted({price + off for price in self.prices for off in (-1, 0, 1)})
        for side in (BID, ASK):
            for window_s in WINDOWS_S:
                found = self.numpy.sums(side, np.array(prices), window_s).tolist()
                assert found == self.plain.sums(side, prices, window_s), (side, window_s)
                both = np.array([prices, prices])
                assert found == self.numpy.newest(both, window_s * 4)[side].tolist()
                assert found == self.numpy.windows(both)[WINDOWS_S.index(window_s), side].tolist()
        assert self.numpy.crossed == self.plain.crossed
        assert self.numpy.late_rows == self.plain.late_rows
        assert self.numpy.unsided == self.plain.unsided
        assert self.numpy.whole_since_ns == self.plain.whole_since_ns
        assert (self.numpy.book is None) == (self.plain.book is None)
        if self.plain.book is not None:
            (row,) = listed(columns([Row(0, BOOK, bids=self.plain.book[0], asks=self.plain.book[1])]))
            assert np.array_equal(
                self.numpy.book.px, [side[0] for side in (columns([row]).bid_px, columns([row]).ask_px)]
            )
            assert np.array_equal(
                self.numpy.book.sz, [side[0] for side in (columns([row]).bid_sz, columns([row]).ask_sz)]
            )


def totals_are_sums(ledger):
    assert np.array_equal(ledger._totals, ledger._sums.sum(axis=(1, 2))[:, :VISIBLE])
    assert np.array_equal(ledger._bucket_totals, ledger._ring.sum(axis=(1, 2))[:, :VISIBLE])


def same_bits(one, other):
    assert np.array_equal(one._ring, other._ring)
    assert np.array_equal(one._sums, other._sums)
    totals_are_sums(one)
    totals_are_sums(other)
    assert (one.crossed, one.late_rows, one.unsided, one.whole_since_ns) == (
        other.crossed, other.late_rows, other.unsided, other.whole_since_ns,
    )  # fmt: skip
    assert (one.book is None) == (other.book is None)
    assert one.book is None or all(map(np.array_equal, one.book, other.book))


@pytest.fixture
def three():
    return Ledgers()


def after(*rows, snap_ns=FIRST):
    """Return ledgers that worked these rows in one snap, behind an even book at 100 and 101."""
    three = Ledgers()
    three.work([even(OPEN_NS, 100)], OPEN_NS)
    three.work(list(rows), snap_ns)
    return three


# By hand.


def test_a_constant_book_that_drifts_gives_zeros_but_where_its_touch_passes(three):
    """What scrolls into the ten was not canceled before, nor added; where the touch was, the book was seen empty."""
    sizes = {price: 30 + price % 7 for price in range(50, 200)}
    for step in range(60):
        bid = 100 + step % 30
        bids, asks = ([(p, sizes[p]) for p in span] for span in (range(bid, bid - 10, -1), range(bid + 40, bid + 50)))
        three.work([book(OPEN_NS + step * SNAP_NS, bids, asks)], OPEN_NS + step * SNAP_NS)

    assert three.flows(BID, *range(60, 101), window_s=60) == [ZERO] * 41
    assert three.flows(ASK, *range(169, 190), window_s=60) == [ZERO] * 21
    assert all(added for added, _, _ in three.flows(BID, *range(101, 130), window_s=60))


def test_49_cancels_of_one_lot_are_canceled_49_and_filled_0():
    rows = [even(OPEN_NS + (k + 1) * MS, 100) for k in range(49)]
    rows = [row._replace(bids=((100, 49 - k), *row.bids[1:])) for k, row in enumerate(rows)]

    three = after(*rows)

    assert three.flows(BID, 100, 99) == [[0, 50 - 1, 0], ZERO]


def test_a_print_that_the_book_does_not_show_is_an_iceberg_filled_and_added():
    three = after(printed(OPEN_NS + MS, 1, 101, 7), even(OPEN_NS + 2 * MS, 100))

    assert three.flows(ASK, 101) == [[7, 0, 7]]
    assert three.flows(BID, 101, 100) == [ZERO, ZERO]


def test_totals_are_of_all_prices_of_both_sides():
    three = after(
        printed(OPEN_NS + MS, 1, 101, 7), printed(OPEN_NS + MS, -1, 100, 2), even(OPEN_NS + 2 * MS, 100, size=40)
    )

    assert three.numpy.totals(5).tolist() == [9, 200, 9]
    newest = three.numpy.newest(np.array([[100, 99], [101, 102]]), 1)
    assert newest[ASK].tolist() == [[7, 10, 7, 1], [0, 10, 0, 1]]


def test_a_refill_within_the_instant_shows_as_added():
    ts = OPEN_NS + MS
    gone = even(ts, 100)._replace(asks=ladder(102, [50] * 10, 1))
    back = gone._replace(asks=((101, 30), *gone.asks[:9]))

    assert after(printed(ts, 1, 101, 50), gone, back).flows(ASK, 101) == [[30, 0, 50]]


def test_what_a_print_took_is_no_cancel_whatever_else_was_canceled():
    row = even(OPEN_NS + MS, 100)
    left = row._replace(bids=((100, 20), *row.bids[1:]))

    assert after(printed(row.ts, -1, 100, 10), left).flows(BID, 100) == [[0, 20, 10]]
    assert after(printed(row.ts, -1, 100, 30), left).flows(BID, 100) == [[0, 0, 30]]
    assert after(printed(row.ts, -1, 100, 45), left).flows(BID, 100) == [[15, 0, 45]]  # more printed than lost


def test_a_hidden_fill_hides_no_later_cancel():
    """As it would if prints without a book were carried to the next one."""
    row = even(OPEN_NS + 2 * MS, 100)
    three = after(printed(OPEN_NS + MS, -1, 100, 10), row._replace(bids=((100, 40), *row.bids[1:])))

    assert three.flows(BID, 100) == [[10, 10, 10]]


def test_a_level_that_scrolls_out_and_in_again_is_not_accounted():
    up, down = even(OPEN_NS + MS, 101), even(OPEN_NS + 2 * MS, 100)
    changed = down._replace(bids=(*down.bids[:9], (91, 7)))

    three = after(up, changed)

    assert three.flows(BID, 91, 92) == [ZERO, ZERO]
    assert three.flows(BID, 101) == [[50, 50, 0]]  # was known to be empty, before and after


def test_a_side_of_fewer_than_ten_levels_is_visible_whole():
    row = even(OPEN_NS + MS, 100)
    short = row._replace(bids=row.bids[:3])
    ten = short._replace(ts=OPEN_NS + 2 * MS, bids=(*short.bids, (40, 5)))

    three = after(short, ten)

    assert three.flows(BID, 97, 91, 40) == [[0, 50, 0], [0, 50, 0], [5, 0, 0]]
    assert three.sums(BID, 10) == [0, 0, 0, 1]
    assert three.sums(BID, 99)[3] == 2


def test_a_crossed_pre_open_book_accounts_nothing_until_it_is_sound(three):
    for step in range(4):
        crossed = even(OPEN_NS + step * SNAP_NS, 100, 10 * step + 10, spread=-94)
        three.work([printed(crossed.ts, 1, 100, 5), crossed], crossed.ts)
        assert three.numpy.crossed
        assert three.numpy.book is None
        assert three.numpy.whole_since_ns == crossed.ts
        assert three.flows(BID, 100) == [ZERO]
    opened = OPEN_NS + 4 * SNAP_NS
    three.work([even(opened, 50)], opened)
    assert not three.numpy.crossed
    assert three.flows(BID, 50) == [ZERO]

    row = even(opened + MS, 50)
    three.work([row._replace(bids=((50, 45), *row.bids[1:]))], opened + SNAP_NS)
    assert three.flows(BID, 50) == [[0, 5, 0]]
    assert three.numpy.whole_since_ns == opened


def test_prints_alone_count_nowhere_while_the_book_of_an_earlier_snap_is_crossed():
    three = after(even(OPEN_NS + MS, 100, 80, -1))
    three.work([printed(FIRST + MS, -1, 100, 9)], FIRST + SNAP_NS)

    assert three.flows(BID, 100) == [ZERO]


def test_the_first_sound_book_after_a_snap_that_was_crossed_makes_windows_whole_from_its_own_snap_on():
    three = after(even(OPEN_NS + MS, 100, 80, -1))
    three.work([even(FIRST + MS, 100, 45)], FIRST + SNAP_NS)

    assert three.flows(BID, 100) == [[0, 5, 0]]
    assert three.numpy.whole_since_ns == FIRST + SNAP_NS


def test_windows_are_not_whole_as_long_as_the_book_stays_crossed():
    three = after(even(OPEN_NS + MS, 100, 80, -1))
    three.advance(FIRST + 9 * SNAP_NS)

    assert three.numpy.whole_since_ns == FIRST + 9 * SNAP_NS
    three.agree()


@pytest.mark.parametrize("spread", [0, -1])
def test_a_book_is_compared_with_the_last_sound_one_across_locked_and_crossed_ones(spread):
    unsound = even(OPEN_NS + MS, 100, 80, spread)
    during = printed(OPEN_NS + 2 * MS, -1, 100, 9)
    row = even(OPEN_NS + 3 * MS, 100)

    void = after(unsound, during)
    assert void.flows(BID, 100) == [ZERO]
    assert void.numpy.crossed
    assert np.array_equal(void.numpy.book.sz, np.full((2, 10), 50))
    assert void.sums(BID, 100)[3] == 1  # at the snap before

    three = after(unsound, during, row._replace(bids=((100, 46), *row.bids[1:])))
    assert three.flows(BID, 100) == [[0, 4, 0]]
    assert three.numpy.whole_since_ns == FIRST


def test_a_book_crossed_within_an_instant_counts_as_little_as_any_other_within_it():
    ts = OPEN_NS + MS
    row = even(ts, 100)
    three = after(even(ts, 100, 80, -3), row._replace(bids=((100, 46), *row.bids[1:])))

    assert three.flows(BID, 100) == [[0, 4, 0]]
    assert three.numpy.whole_since_ns == OPEN_NS


@pytest.mark.parametrize(
    "empty", [Row(OPEN_NS + MS, BOOK), even(OPEN_NS + MS, 100)._replace(bids=ladder(91, [50] * 10, 1))]
)
def test_a_book_that_is_cleared_or_out_of_order_is_not_sound_and_cancels_nothing(empty):
    three = after(empty)

    assert three.numpy.crossed
    assert three.flows(BID, 100, 91) == [ZERO, ZERO]


def test_a_snapshot_at_midnight_with_the_time_of_the_event_before_it_replaces_the_book(three):
    event = even(OPEN_NS + MS, 100)
    three.work([even(OPEN_NS, 100)], OPEN_NS)
    three.work([event], FIRST)
    assert three.numpy.whole_since_ns == OPEN_NS

    snapshot = even(event.ts, 100, 20, kind=SNAPSHOT)
    follows = even(FIRST + MS, 100, 20)._replace(asks=ladder(101, [19] + [20] * 9, 1))
    three.work([snapshot, follows], FIRST + SNAP_NS)

    assert three.flows(BID, 100) == [ZERO]
    assert three.flows(ASK, 101) == [[0, 1, 0]]
    assert three.numpy.whole_since_ns == FIRST + SNAP_NS
    assert three.numpy.late_rows == 0


def test_windows_are_whole_from_the_snap_that_works_a_snapshot_as_nobody_knows_when_it_was(three):
    three.work([even(OPEN_NS, 100)], OPEN_NS)
    resumed = FIRST + 20 * SNAP_NS
    three.work([even(OPEN_NS, 100, 20, kind=SNAPSHOT), even(resumed - MS, 100, 20)], resumed)

    assert three.numpy.whole_since_ns == resumed
    three.agree()


def test_a_snapshot_moves_no_clock_so_that_no_row_is_late_for_it(three):
    three.work([even(OPEN_NS, 100)], OPEN_NS)
    three.work([even(OPEN_NS + 3 * MS, 100, 20, kind=SNAPSHOT)], FIRST)
    row = even(OPEN_NS + 2 * MS, 100, 20)
    three.work([row._replace(bids=((100, 15), *row.bids[1:]))], FIRST + SNAP_NS)

    assert three.flows(BID, 100) == [[0, 5, 0]]
    assert three.numpy.late_rows == 0


def test_the_instant_of_a_snapshot_accounts_nothing():
    ts = OPEN_NS + MS
    three = after(printed(ts, -1, 100, 3), even(ts, 100, 30), even(ts, 100, 20, kind=SNAPSHOT))

    assert three.flows(BID, 100) == [ZERO]
    assert three.numpy.book.sz[BID, 0] == 20


def test_after_a_snapshot_that_is_crossed_there_is_no_book_to_compare_with():
    crossed = even(OPEN_NS + MS, 100, 20, -2, SNAPSHOT)
    assert after(crossed).numpy.book is None

    three = after(crossed, even(OPEN_NS + 2 * MS, 100, 30))
    assert three.flows(BID, 100) == [ZERO]
    assert three.numpy.book.sz[BID, 0] == 30


def test_a_print_without_a_side_consumes_nothing_and_is_counted_apart():
    row = even(OPEN_NS + MS, 100)
    three = after(printed(row.ts, 0, 100, 44), row._replace(bids=((100, 6), *row.bids[1:])))

    assert three.flows(BID, 100) == [[0, 44, 0]]
    assert three.numpy.unsided == 44


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (2, 0, 1, 3), (1, 0, 2, 3)])
def test_several_prints_before_or_after_the_books_of_their_instant_give_the_same(order):
    ts = OPEN_NS + MS
    between = even(ts, 100, 90)
    last = even(ts, 100)._replace(bids=ladder(99, [12] + [50] * 9, -1))
    rows = [printed(ts, -1, 100, 50), printed(ts, -1, 99, 38), between, last]

    three = after(*(rows[place] for place in order))

    assert three.flows(BID, 100, 99, 98) == [[0, 0, 50], [0, 0, 38], ZERO]


def test_a_print_where_neither_book_has_a_size_counts_if_the_price_is_visible():
    three = after(printed(OPEN_NS + MS, 1, 99, 4), printed(OPEN_NS + MS, 1, 120, 4))

    assert three.flows(ASK, 99, 120) == [[4, 0, 4], ZERO]


def test_a_late_row_is_left_out_and_its_instant_stays_as_it_was(three):
    newest = even(OPEN_NS + 5 * MS, 100)
    three.work([even(OPEN_NS, 100), newest], FIRST)
    late = [even(OPEN_NS + 4 * MS, 100, 10), printed(newest.ts, 1, 101, 3), even(newest.ts, 100, 30)]
    three.work([*late, even(FIRST + MS, 100, 49)], FIRST + SNAP_NS)

    assert three.numpy.late_rows == 3
    assert three.flows(BID, 100) == [[0, 1, 0]]
    assert three.flows(ASK, 101) == [[0, 1, 0]]


def test_a_late_book_does_not_replace_a_newer_one(three):
    three.work([even(OPEN_NS, 100)], FIRST)
    three.work([even(OPEN_NS - MS, 100, 10)], FIRST + SNAP_NS)

    assert three.numpy.book.sz[BID, 0] == 50


# Windows.


def test_a_change_stays_in_a_window_for_its_length_and_no_longer(three):
    three.work([even(OPEN_NS, 100)], OPEN_NS)
    three.work([even(OPEN_NS + MS, 100, 60)], FIRST)
    for buckets, window_s in ((20, 5), (240, 60), (960, 240)):
        three.advance(FIRST + (buckets - 1) * SNAP_NS)
        assert three.flows(BID, 100, window_s=window_s) == [[10, 0, 0]]
        assert three.sums(BID, 100, window_s)[3] == buckets
        three.advance(FIRST + buckets * SNAP_NS)
        assert three.flows(BID, 100, window_s=window_s) == [ZERO]
        assert three.sums(BID, 100, window_s)[3] == buckets


def test_a_bucket_that_another_takes_240_seconds_later_begins_empty(three):
    three.work([even(OPEN_NS, 100)], OPEN_NS)
    three.work([even(OPEN_NS + MS, 100, 60)], FIRST)
    three.advance(FIRST + 959 * SNAP_NS)
    three.work([even(FIRST + 960 * SNAP_NS, 100, 57)], FIRST + 960 * SNAP_NS)

    for window_s in WINDOWS_S:
        assert three.flows(BID, 100, window_s=window_s) == [[0, 3, 0]]


@pytest.mark.parametrize("seconds", [4, 5, 6, 59, 61, 239, 240, 241, 10_000])
def test_after_a_pause_the_windows_hold_what_they_would_have_held_snap_by_snap(seconds):
    begin = [even(OPEN_NS, 100), even(OPEN_NS + MS, 100, 60)]
    resumed = even(FIRST + seconds * 10**9 + MS, 100, 40)
    paused = after(*begin)
    paused.work([resumed], resumed.ts - MS + SNAP_NS)
    paused.agree()
    if seconds < 300:
        stepped = after(*begin)
        for snap in range(FIRST + SNAP_NS, resumed.ts, SNAP_NS):
            stepped.advance(snap)
        stepped.work([resumed], resumed.ts - MS + SNAP_NS)
        same_bits(paused.numpy, stepped.numpy)

    assert paused.flows(BID, 100, window_s=5) == [[0, 20, 0] if seconds >= 5 else [10, 20, 0]]
    assert paused.flows(BID, 100, window_s=240) == [[10, 20, 0] if seconds < 240 else [0, 20, 0]]


def test_rows_of_several_snaps_at_once_go_to_the_buckets_of_their_times():
    rows = [even(OPEN_NS + k * 70 * MS, 100, 50 + k) for k in range(1, 40)]
    stepped, at_once = after(), after(*rows, snap_ns=OPEN_NS + 12 * SNAP_NS)
    stepped = Ledgers()
    stepped.work([even(OPEN_NS, 100)], OPEN_NS)
    for snap in range(FIRST, OPEN_NS + 12 * SNAP_NS + 1, SNAP_NS):
        stepped.work([row for row in rows if snap - SNAP_NS < row.ts <= snap], snap)

    same_bits(at_once.numpy, stepped.numpy)
    same_bits(at_once.numba, stepped.numba)
    at_once.agree()


def test_a_price_is_visible_in_the_buckets_at_whose_end_the_book_shows_it(three):
    for step, bid in enumerate((100, 104, 104, 100)):
        three.work([even(OPEN_NS + step * SNAP_NS, bid)], OPEN_NS + step * SNAP_NS)

    assert [three.sums(BID, price)[3] for price in (90, 91, 94, 95, 104, 300)] == [0, 2, 2, 4, 4, 4]
    assert [three.sums(ASK, price)[3] for price in (110, 111, 114, 115, 3)] == [4, 2, 2, 0, 4]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("side", [BID, ASK])
def test_a_price_that_the_touch_left_by_more_than_what_is_kept_is_forgotten_and_its_slot_begins_anew(body, side):
    market = Walk(body, side)
    market.to(100)
    assert market.sums(100) == [9, 0, 0, 1]
    market.to(300)
    assert market.sums(100)[:3] == [9, 59 if side == ASK else 0, 0]

    for touch in range(350, 1_101, 50):
        market.to(touch)
    assert market.sums(100) == [0, 0, 0, 0]
    assert market.sums(100 + KEPT)[:3] == ZERO
    market.to(100 + KEPT)
    assert market.sums(100 + KEPT)[:3] == [9 if side == ASK else 59, 0, 0]
    assert market.ledger.whole_since_ns == OPEN_NS + SNAP_NS

    for buckets in (500, 1_000):
        market.ledger.advance(market.snap + buckets * SNAP_NS)
    assert market.sums(100 + KEPT) == [0, 0, 0, 960]
    assert not market.ledger._sums[..., :VISIBLE].any()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("side", [BID, ASK])
def test_a_touch_that_leaves_what_is_kept_within_a_bucket_begins_anew_and_windows_are_whole_from_there(body, side):
    market = Walk(body, side)
    market.to(100)
    market.to(5_000)
    assert market.ledger.whole_since_ns == OPEN_NS + 2 * SNAP_NS
    assert market.sums(5_000) == [0, 0, 0, 1]

    market.to(100)
    assert market.sums(100) == [0, 0, 0, 1]
    market.to(100)
    assert market.sums(100) == [9, 9, 0, 2]
    assert market.ledger.whole_since_ns == OPEN_NS + 3 * SNAP_NS


@pytest.mark.parametrize("body", BODIES)
def test_a_level_beyond_what_is_kept_is_not_accounted_and_leaves_the_price_of_its_slot_alone(body):
    ledger = Ledger(body())
    for step, size in enumerate((5, 9)):
        bids = ((100, 50), (0, size), (-500, size))
        ledger.work(columns([even(OPEN_NS + step * SNAP_NS, 100)._replace(bids=bids)]), OPEN_NS + step * SNAP_NS)

    assert ledger.sums(BID, np.array([0, -500, -500 + KEPT]), 5).tolist() == [[4, 0, 0, 2], [0] * 4, [0, 0, 0, 2]]


@pytest.mark.parametrize("side", [BID, ASK])
@pytest.mark.parametrize(("ticks", "whole"), [(384, True), (-384, True), (385, False), (-385, False)])
def test_windows_are_whole_if_what_is_near_the_touch_was_kept_before_it_moved(side, ticks, whole):
    market = Walk(lambda: account, side)
    market.to(100)
    market.to(100 + ticks)

    assert (market.ledger.whole_since_ns == OPEN_NS + SNAP_NS) is whole


class Walk:
    """A market that goes where it is told, a bucket a step, and adds 9 lots at the touch within each."""

    def __init__(self, body, side):
        self.ledger, self.side, self.snap = Ledger(body()), side, OPEN_NS

    def to(self, touch):
        bid = touch - (self.side == ASK)
        begins, ends = (even(self.snap + MS * step, bid, 50) for step in (1, 2))
        ends = ends._replace(bids=((bid, 59), *ends.bids[1:]), asks=((bid + 1, 59), *ends.asks[1:]))
        self.snap += SNAP_NS
        self.ledger.work(columns([begins, ends]), self.snap)
        totals_are_sums(self.ledger)

    def sums(self, price):
        return self.ledger.sums(self.side, np.array([price]), 240)[0].tolist()


def test_rows_and_snaps_out_of_order_are_refused_and_work_nothing(three):
    three.work([even(OPEN_NS, 100)], FIRST)
    later = columns([even(FIRST + MS, 100, 60), even(FIRST + 2 * MS, 100, 70)])
    for rows, snap_ns in (
        (later, FIRST), (later, FIRST + SNAP_NS - 1), (later, FIRST + MS), (later.take([1, 0]), FIRST + SNAP_NS),
        (columns([even(FIRST + 2 * SNAP_NS, 100)]), FIRST + SNAP_NS),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="Next"):
            three.numpy.work(rows, snap_ns)
    with pytest.raises(ValueError, match="Next"):
        three.numpy.advance(FIRST)

    assert three.flows(BID, 100) == [ZERO]


# At random.

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_three_bodies_agree_on_a_wild_market(seed):
    three = Ledgers()
    rows = wild_market(seed)
    delayed = sorted(rows, key=lambda row: row.ts + (seed % 3 == 0 and row.ts % 50 == 0) * 300 * MS)
    for number, (snap, worked) in enumerate(by_snap(delayed)):
        three.work(worked, snap)
        if number % 4 == 0:
            three.agree()
    three.agree()
    totals = three.numpy._sums[-1].sum(axis=(0, 1))
    assert (totals > 0).all()
    assert three.numpy.late_rows > 0 or seed % 3


@pytest.mark.parametrize("cells", [1, 150, 1_000])
def test_a_grid_that_is_cut_into_pieces_gives_the_same_bits(monkeypatch, cells):
    rows = wild_market(5, seconds=1, rate=1_000)
    whole, cut = Ledger(account), Ledger(account)
    for snap, worked in by_snap(rows):
        whole.work(columns(worked), snap)
        with monkeypatch.context() as patched:
            patched.setattr(ledger_module, "_CELLS", cells)
            cut.work(columns(worked), snap)
    same_bits(whole, cut)
    assert whole._sums[-1].any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("body", BODIES)
def test_added_less_canceled_less_filled_is_the_change_of_size_where_both_books_show_the_price(seed, body):
    ledger, books, checked = Ledger(body()), [], 0
    for snap, worked in by_snap(wild_market(seed, oddities=False)):
        books = books[-1:] + list({row.ts: row for row in worked if row.kind == BOOK}.values())
        before = ledger._sums[-1].copy()
        ledger.work(columns(worked), snap)
        for side in (BID, ASK) if len(books) > 1 else ():
            shown = [levels_of(row, side) for row in books]
            common = sorted(set.intersection(*(set(visible(levels, side)) for levels in shown)))
            outward = np.array(common) * (1 if side == ASK else -1)
            change = (ledger._sums[-1] - before)[side, outward & (KEPT - 1)]
            expected = [shown[-1].get(price, 0) - shown[0].get(price, 0) for price in common]
            assert (change[:, 0] - change[:, 1] - change[:, 2]).tolist() == expected
            checked += np.count_nonzero(expected)
    assert checked > 30


def levels_of(row, side):
    return dict(row.asks if side == ASK else row.bids)


def visible(levels, side):
    prices = list(levels)
    span = range(-200, 200)
    if len(prices) < 10:
        return span
    return [price for price in span if (price <= prices[9] if side == ASK else price >= prices[9])]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("body", BODIES)
def test_the_mirrored_market_gives_the_mirrored_sums(seed, body):
    rows, prices = wild_market(seed), np.arange(-300, 300)
    one, other = Ledger(body()), Ledger(body())
    for snap, worked in by_snap(rows):
        one.work(columns(worked), snap)
        other.work(columns(mirrored(worked)), snap)
    for window_s in WINDOWS_S:
        for side in (BID, ASK):
            assert np.array_equal(one.sums(side, prices, window_s), other.sums(1 - side, -prices, window_s))
    assert (one.crossed, one.whole_since_ns) == (other.crossed, other.whole_since_ns)
    assert one.sums(BID, prices, 240).any()


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_another_tick_another_price_and_other_units_of_size_change_nothing_but_themselves(seed):
    prices = np.arange(-120, 120)
    one, other = Ledger(account), Ledger(account)
    for snap, worked in by_snap(wild_market(seed)):
        larger = [moved(row, 27_000, 3) for row in worked]
        one.work(book_rows([batch(worked)], "ESZ5", 0.25)[0], snap)
        other.work(book_rows([batch(larger, tick=0.01)], "ESZ5", 0.01)[0], snap)
    for side in (BID, ASK):
        found, expected = other.sums(side, prices + 27_000, 240), one.sums(side, prices, 240)
        assert np.array_equal(found[:, :3], 3 * expected[:, :3])
        assert np.array_equal(found[:, 3], expected[:, 3])
        assert expected.any(axis=0).all()


def moved(row, ticks, times):
    bids, asks = (tuple((price + ticks, size * times) for price, size in side) for side in (row.bids, row.asks))
    price = None if row.price is None else row.price + ticks
    return row._replace(price=price, size=row.size * times, bids=bids, asks=asks)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_batches_cut_anywhere_and_rows_that_arrive_in_any_order_within_a_snap_give_the_same_bits(seed):
    rng, rows = random.Random(seed), wild_market(seed)
    straight, cut = Ledger(account), Ledger(fastest_body())
    for snap, worked in by_snap(rows):
        whole = batch(worked)
        straight.work(book_rows([whole], "ESZ5", 0.25)[0], snap)
        arrived = list(range(len(worked)))
        rng.shuffle(arrived)
        shuffled, pieces = whole.take(arrived), []
        while shuffled.num_rows:
            at = rng.randint(0, shuffled.num_rows)
            pieces.append(shuffled.slice(0, at))
            shuffled = shuffled.slice(at)
        cut.work(book_rows(pieces, "ESZ5", 0.25)[0], snap)
    same_bits(straight, cut)
    assert straight._sums[-1].any()


# Real and simulated books.


def check_bodies_agree_on(batches, contract, every=20):
    rows, off_tick = book_rows(batches, contract, 0.25)
    assert off_tick == 0
    three, plain_rows = Ledgers(), listed(rows)
    for number, (snap, worked) in enumerate(by_snap(plain_rows)):
        three.work(worked, snap)
        if number % every == 0:
            same_bits(three.numpy, three.numba)
    three.prices = set(sorted(three.prices)[:: max(len(three.prices) // 60, 1)])
    three.agree()
    return three


def test_the_three_bodies_agree_on_the_real_es_session(real_data):
    three = check_bodies_agree_on(*real_books(real_data / REAL), every=200)

    assert three.numpy.unsided == 44  # the opening auction
    assert not three.numpy.crossed
    assert (three.numpy._sums[-1].sum(axis=(0, 1)) > 0).all()


def test_the_three_bodies_agree_on_half_a_minute_of_the_simulated_market():
    three = check_bodies_agree_on(*simulated(30, 120, ("walls", "vacuums", "absorption", "sweeps", "crossed")))

    assert (three.numpy._sums[-1].sum(axis=(0, 1)) > 1_000).all()


# Which body.


def test_the_compiled_body_is_chosen_where_numba_is_there():
    assert fastest_body() is ledger_compiled.load()


def test_where_numba_has_no_package_the_ledger_is_worked_in_numpy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fastest_body.cache_clear()
    try:
        assert fastest_body() is account
    finally:
        fastest_body.cache_clear()


@pytest.fixture
def kept_elsewhere(tmp_path, monkeypatch):
    """A folder of its own for what numba keeps, with what it has kept so far."""
    ledger_compiled.load()
    kept = Path(numba.njit(cache=True)(ledger_compiled.account_rows).stats.cache_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    own = Path(numba.njit(cache=True)(ledger_compiled.account_rows).stats.cache_path)
    for path in kept.glob("ledger_compiled.*"):
        shutil.copy(path, own)
    ledger_compiled.load.cache_clear()
    yield own
    ledger_compiled.load.cache_clear()
    fastest_body.cache_clear()


def test_what_was_compiled_once_is_not_compiled_again(kept_elsewhere):
    kept = {path: path.stat().st_mtime_ns for path in kept_elsewhere.iterdir()}
    assert len(kept) >= 2
    ledger_compiled.load()

    assert {path: path.stat().st_mtime_ns for path in kept_elsewhere.iterdir()} == kept


def test_a_cache_that_was_cut_short_is_done_without(kept_elsewhere):
    for path in kept_elsewhere.iterdir():
        os.truncate(path, path.stat().st_size // 2)
    ledger = Ledger(ledger_compiled.load())
    ledger.work(columns([even(OPEN_NS, 100), even(OPEN_NS + MS, 100, 60)]), FIRST)

    assert ledger.sums(BID, np.array([100]), 5)[0].tolist() == [10, 0, 0, 2]


def test_columns_that_are_read_only_or_not_contiguous_are_worked_without_compiling_again():
    rows = columns([even(OPEN_NS, 100), even(OPEN_NS + MS, 100, 60), even(OPEN_NS + MS, 100, 60)])
    for column in rows:
        column.flags.writeable = False
    ledger = Ledger(ledger_compiled.load())
    ledger.work(rows.take(slice(0, None, 2)), FIRST)

    assert ledger.sums(BID, np.array([100]), 5)[0].tolist() == [10, 0, 0, 2]


@pytest.mark.parametrize("column", ["kind", "size", "bid_px", "ask_sz"])
def test_columns_of_unequal_lengths_are_refused_before_anything_is_read(column):
    rows = columns([even(OPEN_NS, 100), even(OPEN_NS + MS, 100, 60)])
    with pytest.raises(ValueError, match="Next"):
        Ledger().work(rows._replace(**{column: getattr(rows, column)[:1]}), FIRST)


@pytest.mark.parametrize("body", BODIES)
def test_a_forgotten_book_is_compared_with_no_other(body):
    ledger = Ledger(body())
    ledger.work(columns([even(OPEN_NS, 100), even(OPEN_NS + 1, 100, size=60)]), FIRST)
    ledger.forget_book()
    assert ledger.book is None
    before = ledger.sums(BID, np.array([100]), 5).tolist()
    ledger.work(columns([even(OPEN_NS + SNAP_NS, 100, size=10)]), FIRST + SNAP_NS)
    ledger.work(columns([even(FIRST + SNAP_NS + 1, 100, size=11)]), FIRST + 2 * SNAP_NS)
    assert ledger.whole_since_ns == FIRST + SNAP_NS
    added = before[0][0] + 1
    assert ledger.sums(BID, np.array([100]), 5)[0, :VISIBLE].tolist() == [added, 0, 0]

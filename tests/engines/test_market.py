"""Market state against its definitions in plain Python, mirrored, begun anew, late and with holes."""

import numpy as np
import pytest

from spymaster.engines.market import Earlier, Market, Named, Prints, nearest
from spymaster.engines.profile import profile_named
from spymaster.engines.session import Session
from tests.engines import plain_market as plain
from tests.engines.plain_market import MINUTE, Print

SECOND = 1_000_000_000
SNAP = SECOND // 4
HOUR = 60 * MINUTE
BEGIN = 489_000 * HOUR
SESSION = Session("2025-12-22", BEGIN, BEGIN + 24 * HOUR, BEGIN + 15 * HOUR + 30 * MINUTE, BEGIN + 22 * HOUR)
RTH = SESSION.rth_begin_ns
RULES = profile_named("ES").market
NONE = Prints(np.zeros(0, np.int64), *(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int8)))


def columns(prints):
    if not prints:
        return NONE
    times, *others = zip(*prints, strict=True)
    kinds = (np.int32, np.int32, np.int8)
    return Prints(np.array(times), *(np.array(values, kind) for values, kind in zip(others, kinds, strict=True)))


def market(session=SESSION, earlier=None):
    return Market(RULES, session, earlier)


def worked(*pieces, on=None):
    """A market after pieces of (snap, prints[, quote])."""
    found = on or market()
    for snap, prints, *quote in pieces:
        found.work(snap, columns(prints), quote[0] if quote else (99, 101))
    return found


def kinds(state):
    return {named.kind: named.price for named in state.named}


def random_day(seed, session=SESSION, hours=24, count=6_000, level=27_000):
    """Pieces of (snap, prints, quote): a walk in ticks, snaps 0.25 to 90 s apart, every twentieth print late."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(session.begin_ns, session.begin_ns + hours * HOUR, count))
    prices = level + np.cumsum(rng.integers(-2, 3, count))
    sizes, sides = rng.integers(1, 40, count), rng.integers(-1, 2, count)
    known = times + np.where(rng.random(count) < 0.05, rng.integers(0, 3 * MINUTE, count), 0)
    snaps, pieces, at = [], [], session.begin_ns
    while at < session.begin_ns + hours * HOUR - MINUTE * 2:
        at += int(rng.integers(1, 361)) * SNAP
        snaps.append(at)
    rows = sorted(zip(known.tolist(), times.tolist(), prices.tolist(), sizes.tolist(), sides.tolist(), strict=True))
    place = 0
    for snap in snaps:
        piece = []
        while place < len(rows) and rows[place][0] <= snap:
            piece.append(Print(*rows[place][1:]))
            place += 1
        mid = piece[-1].price if piece else (pieces[-1][2][0] if pieces else level)
        pieces.append((snap, sorted(piece), (mid, mid + int(rng.integers(1, 3)))))
    return pieces


def test_a_day_is_what_the_definitions_say_at_every_hour():
    pieces = random_day(1)
    found, earlier = market(earlier=Earlier(28_000, 26_000, 27_001, True, tuple(range(26_800, 27_100)))), []
    asked = set(np.random.default_rng(2).choice(len(pieces), 40, replace=False).tolist()) | {len(pieces) - 1}
    spans = {
        "PM": SESSION.premarket, "OVERNIGHT": SESSION.overnight, "OR": SESSION.opening_range,
        "IB": SESSION.initial_balance, "SESSION": (SESSION.begin_ns, SESSION.end_ns),
    }  # fmt: skip
    seen = set()
    for at, (snap, piece, quote) in enumerate(pieces):
        found.work(snap, columns(piece), quote)
        earlier.append((snap, piece))
        if at not in asked:
            continue
        prints, state = plain.as_counted(earlier), found.state()
        closes = [*range(26_800, 27_100), *plain.two_minute_closes(prints, BEGIN, snap)]
        expected = {"PRIOR_DAY_HIGH": 28_000, "PRIOR_DAY_LOW": 26_000, "VWAP": plain.nearest(plain.vwap(prints))}
        for name, span in spans.items():
            if pair := plain.high_low(prints, span):
                expected |= {f"{name}_HIGH": pair[0], f"{name}_LOW": pair[1]}
        for count in (200, 400):
            if len(closes) >= count:
                expected[f"SMA_{count}"] = plain.nearest(plain.Fraction(sum(closes[-count:]), count))
        profiled = plain.as_counted(up_to_last_minute(earlier))
        if profiled:
            expected |= dict(zip(("POC", "VAH", "VAL"), plain.value_area(profiled), strict=True))
        assert kinds(state) == expected
        assert state.vwap == float(plain.vwap(prints))
        assert state.volume == sum(one.size for one in prints)
        assert state.cvd == sum(one.size * one.side for one in prints)
        assert state.unsided == sum(one.size for one in prints if one.side == 0)
        assert state.last == prints[-1].price
        assert state.spot == sum(quote)
        assert state.atr == plain.atr(prints, BEGIN, snap, RULES.atr_bars)
        seen |= set(expected)
    assert len(seen) == 2 + 1 + 10 + 2 + 3
    for minute in range(0, found.bars.closed, 37):
        prints = [one for one in plain.as_counted(earlier) if (one.time - BEGIN) // MINUTE == minute]
        footprint = found.bars.footprint(minute)
        assert footprint.price.tolist() == sorted({one.price for one in prints})
        for side, column in ((1, footprint.bought), (-1, footprint.sold)):
            assert column.tolist() == [
                sum(one.size for one in prints if one.price == price and one.side == side)
                for price in footprint.price.tolist()
            ]


def up_to_last_minute(pieces):
    """Pieces up to and with the last at which a minute closed."""
    last = 0
    for at in range(len(pieces)):
        before = pieces[at - 1][0] if at else BEGIN
        if (pieces[at][0] - BEGIN) // MINUTE > (before - BEGIN) // MINUTE:
            last = at + 1
    return pieces[:last]


def test_the_mirrored_market_has_the_mirrored_state():
    def mirrored(pieces):
        for snap, piece, (bid, ask) in pieces:
            yield snap, [one._replace(price=-one.price, side=-one.side) for one in piece], (-ask, -bid)

    names = {"HIGH": "LOW", "LOW": "HIGH", "VAH": "VAL", "VAL": "VAH"}
    one, other = market(), market()
    pieces = random_day(3, hours=20, level=0)
    for (snap, piece, quote), (_, turned, turned_quote) in zip(pieces, mirrored(pieces), strict=True):
        one.work(snap, columns(piece), quote)
        other.work(snap, columns(turned), turned_quote)
        state, mirror = one.state(), other.state()
        expected = {}
        for kind, price in kinds(state).items():
            stem, _, end = kind.rpartition("_")
            expected[f"{stem}_{names[end]}" if end in ("HIGH", "LOW") else names.get(kind, kind)] = -price
        assert kinds(mirror) == expected
        assert (mirror.spot, mirror.cvd, mirror.atr) == (-state.spot, -state.cvd, state.atr)
        assert mirror.vwap == (None if state.vwap is None else -state.vwap)
        assert mirror.velocity == (None if state.velocity is None else -state.velocity)


def test_a_market_that_warmed_up_from_the_sessions_begin_is_the_one_that_ran_all_along():
    following = Session("2025-12-23", SESSION.end_ns, *(SESSION.end_ns + hours * HOUR for hours in (24, 15, 22)))
    first, second = random_day(4), random_day(5, following, hours=10)
    yesterday = market()
    for snap, piece, quote in first:
        yesterday.work(snap, columns(piece), quote)
    along, warmed = market(following, yesterday.earlier()), market(following, yesterday.earlier())
    last = first[-1][0]
    tail = [Print(last - 5, 1, 1, 1), Print(following.begin_ns - 1, 2, 1, 1), Print(following.begin_ns, 27_000, 1, 1)]
    along.work(following.begin_ns, columns(tail), (26_999, 27_001))  # a piece over both sessions
    warmed.work(following.begin_ns, columns(tail[-1:]), (26_999, 27_001))
    for snap, piece, quote in second:
        along.work(snap, columns(piece), quote)
        warmed.work(snap, columns(piece), quote)
        assert along.state() == warmed.state()
    assert "SMA_200" in kinds(along.state())
    assert (along.outside, warmed.outside) == (2, 0)


def test_the_prior_day_is_its_regular_hours_or_the_whole_session_where_nothing_was_printed_in_them():
    night = (BEGIN + MINUTE, [Print(BEGIN, 150, 1, 1), Print(BEGIN + 1, 50, 1, 1)])
    day = (RTH + MINUTE, [Print(RTH, 110, 1, 1), Print(RTH + 2, 90, 1, -1), Print(RTH + 3, 105, 1, -1)])
    evening = (SESSION.end_ns - MINUTE, [Print(SESSION.rth_end_ns, 120, 1, 1)])

    assert worked(night, day, evening).earlier()[:4] == (110, 90, 105, True)
    assert worked(night, evening).earlier()[:4] == (150, 50, 120, True)


def test_a_session_without_a_print_hands_on_what_it_was_given():
    given = Earlier(3, 1, 2, False, (7, 8))

    assert worked((BEGIN + HOUR, []), on=market(earlier=given)).earlier() == given


def test_closes_of_a_session_reach_the_next_and_only_those_that_averages_need():
    found = worked(
        *((BEGIN + at * 2 * MINUTE + MINUTE, [Print(BEGIN + at * 2 * MINUTE, at, 1, 1)]) for at in range(500))
    )

    assert found.earlier().closes == tuple(range(100, 500))


def test_a_late_print_counts_and_changes_nothing_that_was_over():
    opening_end = SESSION.opening_range[1]
    found = worked(
        (opening_end - SECOND, [Print(RTH + SECOND, 100, 5, 1)]),
        (opening_end, [Print(opening_end - SECOND // 2, 102, 1, 1)]),
        (opening_end + SNAP, [Print(opening_end - 1, 200, 3, -1)]),  # in time before the end, known after
    )
    state, minute = found.state(), (opening_end - BEGIN) // MINUTE

    assert kinds(state)["OR_HIGH"] == 102
    assert kinds(state)["IB_HIGH"] == kinds(state)["SESSION_HIGH"] == 200
    assert (state.volume, state.cvd, state.last) == (9, 3, 200)
    assert (found.bars.close[minute - 1], found.bars.close[minute]) == (102, 200)


def test_a_print_that_a_session_ended_before_is_no_ones():
    found = worked((SESSION.end_ns, [Print(SESSION.end_ns - 1, 100, 1, 1)]), (SESSION.end_ns + SNAP, [
        Print(SESSION.end_ns - 1, 7, 1, 1), Print(SESSION.end_ns, 8, 1, 1)
    ]))  # fmt: skip

    assert (found.state().volume, found.outside) == (1, 2)


def test_a_print_from_before_the_session_is_no_ones_however_late_it_comes():
    found = worked((BEGIN + SNAP, [Print(BEGIN, 100, 1, 1)]), (BEGIN + 2 * SNAP, [Print(BEGIN - 1, 7, 1, 1)]))

    assert (found.state().volume, found.outside) == (1, 1)


def test_a_piece_over_the_ends_of_a_range_is_cut_there():
    opening_end = SESSION.opening_range[1]
    found = worked((opening_end + SNAP, [
        Print(RTH - 1, 500, 1, 1), Print(RTH, 100, 1, 1), Print(opening_end - 1, 98, 1, 1), Print(opening_end, 5, 1, 1)
    ]))  # fmt: skip
    prices = kinds(found.state())

    assert (prices["OR_HIGH"], prices["OR_LOW"]) == (100, 98)
    assert (prices["PM_HIGH"], prices["PM_LOW"], prices["IB_LOW"]) == (500, 500, 5)
    begun = worked((RTH + SNAP, [Print(RTH - 1, 500, 1, 1), Print(RTH, 100, 1, 1)]))
    assert kinds(begun.state())["OR_HIGH"] == 100
    assert "OR_HIGH" not in kinds(worked((RTH + HOUR, [Print(RTH - 1, 1, 1, 1), Print(opening_end, 2, 1, 1)])).state())


def test_a_range_is_fixed_when_its_span_is_over():
    found = worked((RTH + MINUTE, [Print(BEGIN, 90, 1, 1), Print(RTH, 100, 1, 1)]))

    fixed = {named.kind: named.fixed for named in found.state().named}
    assert fixed["OVERNIGHT_HIGH"]
    assert not fixed["OR_HIGH"]
    assert not fixed["SESSION_HIGH"]
    assert "PM_HIGH" not in fixed
    worked((SESSION.opening_range[1], []), on=found)
    assert {named.kind: named.fixed for named in found.state().named}["OR_HIGH"]


def test_a_hole_is_marked_on_what_it_touches_and_on_nothing_else():
    found = worked((RTH, [Print(BEGIN, 90, 1, 1)]))
    found.void(RTH, RTH + 20 * MINUTE)
    worked((RTH + 30 * MINUTE, [Print(RTH + 25 * MINUTE, 100, 1, 1)]), on=found)
    state = found.state()

    whole = {named.kind: named.whole for named in state.named}
    assert whole["OVERNIGHT_HIGH"]
    assert not whole["IB_HIGH"]
    assert not whole["SESSION_HIGH"]
    assert not whole["VWAP"]
    assert not whole["POC"]
    assert (state.voids, state.whole_since_ns) == (1, RTH + 20 * MINUTE)
    first = (RTH - BEGIN) // MINUTE
    assert np.flatnonzero(found.bars.void).tolist() == list(range(first, first + 20))


def test_holes_that_meet_are_one_and_their_number_is_bounded():
    found = market()
    found.void(BEGIN + 10, BEGIN + 20)
    found.void(BEGIN + 20, BEGIN + 30)
    worked((BEGIN + MINUTE, []), on=found)
    assert (found.state().voids, found.state().whole_since_ns) == (1, BEGIN + 30)

    for at in range(200):
        found.void(BEGIN + (1 + at) * MINUTE, BEGIN + (1 + at) * MINUTE + 1)
    assert (found.state().voids, found.state().whole_since_ns) == (64, BEGIN + 200 * MINUTE + 1)
    assert not found.is_whole(BEGIN + 199 * MINUTE + 5, BEGIN + 199 * MINUTE + 6)  # of a later one, widened


def test_what_was_missing_before_the_session_is_no_hole_of_it():
    found = worked((BEGIN + MINUTE, []))
    found.void(BEGIN - HOUR, BEGIN)

    assert (found.state().voids, found.state().whole_since_ns) == (0, BEGIN)


def test_an_average_is_whole_if_no_minute_of_it_is_void():
    closes = tuple(range(199))
    one_close = (BEGIN + 2 * MINUTE, [Print(BEGIN, 100, 1, 1)])

    def whole(found):
        return {named.kind: named.whole for named in found.state().named}["SMA_200"]

    assert whole(worked(one_close, on=market(earlier=Earlier(closes=closes))))
    assert not whole(worked(one_close, on=market(earlier=Earlier(whole=False, closes=closes))))
    for minute in (0, 1):
        holed = market(earlier=Earlier(closes=closes))
        holed.void(BEGIN + minute * MINUTE, BEGIN + minute * MINUTE + 1)
        assert not whole(worked(one_close, on=holed))


def test_true_ranges_begin_anew_after_a_hole():
    def bar(minute, high, low):
        at = BEGIN + minute * MINUTE
        return at + MINUTE, [Print(at, high, 1, 1), Print(at + 1, low, 1, 1)]

    found = worked(*(bar(minute, 100 + minute, 99) for minute in range(14)))
    assert found.state().atr == sum(range(1, 15)) / 14
    found.void(BEGIN + 14 * MINUTE, BEGIN + 14 * MINUTE + 1)
    worked(bar(14, 500, 400), *(bar(minute, 900, 898) for minute in range(15, 28)), on=found)
    assert found.state().atr is None
    worked(bar(28, 900, 897), on=found)
    assert found.state().atr == (13 * 2 + 3) / 14  # neither the void bar nor the way from it


def test_velocity_is_that_of_the_window_and_a_pause_is_quiet():
    found = worked((BEGIN + SECOND, [], (99, 101)), (BEGIN + 6 * SECOND, [], (100, 102)))
    assert found.state().velocity is None  # not ten seconds yet
    worked((BEGIN + 11 * SECOND, [], (104, 106)), on=found)
    assert found.state().velocity == 5 / 10
    worked((BEGIN + 16 * SECOND, [], (104, 106)), on=found)
    assert found.state().velocity == 4 / 10
    worked((BEGIN + 60 * SECOND, [], (105, 108)), on=found)
    assert found.state().velocity == 1.5 / 10  # since the mid as of 50 s, which was that of 16 s
    found.void(BEGIN + 60 * SECOND, BEGIN + 61 * SECOND)
    worked((BEGIN + 62 * SECOND, [], (105, 108)), on=found)
    assert found.state().velocity is None


def test_before_a_book_and_a_print_nothing_is_known():
    found = market()
    with pytest.raises(ValueError, match="before its first snap"):
        found.state()
    found.work(BEGIN + SNAP, NONE, None)
    state = found.state()

    assert (state.spot, state.bid, state.last, state.vwap, state.atr, state.velocity) == (None,) * 6
    assert state.named == ()
    assert found.bars.footprint(0).price.tolist() == []
    assert found.earlier() == Earlier()


def test_a_print_without_a_price_is_counted_apart():
    found = worked((BEGIN + SNAP, [Print(BEGIN, -(2**31), 9, 1), Print(BEGIN, 100, 1, 1)]))

    assert (found.state().volume, found.outside) == (1, 1)


def test_prior_prices_are_named_with_whether_they_are_whole():
    found = worked((BEGIN + SNAP, []), on=market(earlier=Earlier(30, 10, 20, False, ())))

    assert found.state().named == (Named("PRIOR_DAY_HIGH", 30, True, False), Named("PRIOR_DAY_LOW", 10, True, False))
    assert found.state().prior_close == 20


@pytest.mark.parametrize(
    ("total", "count", "whole"), [(5, 2, 3), (-5, 2, -3), (4, 3, 1), (-4, 3, -1), (5, 3, 2), (0, 7, 0)]
)
def test_a_half_is_rounded_away_from_zero_on_both_sides(total, count, whole):
    assert nearest(total, count) == whole

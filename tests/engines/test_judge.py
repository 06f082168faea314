"""The whole pipeline: no look-ahead, the same bits however rows come, symmetry, holes, halts, rolls, a real session."""

import importlib.util
from collections import Counter
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines import compiled, ledger, option_model
from spymaster.engines.judge import MOST_LEVELS
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.levels import Zone
from spymaster.engines.rows import book_rows
from spymaster.engines.session import Session
from spymaster.engines.snap import SIGNALS, made
from spymaster.engines.typical import SCALE, Norms
from spymaster.events import FUTURES_MBP10, SYSTEM_GAPS, Stream
from spymaster.query.sessions import calendar
from spymaster.simulation.source import SimulatedMarket
from tests.engines.books import OPEN_NS, batch, even, ladder, listed, mirrored
from tests.engines.leaving import (
    BOOKS,
    FRONT,
    HOUR,
    SECOND,
    SESSION,
    TRADES,
    judge,
    judged,
    pieces_of,
    real_stream,
    same,
    simulated_streams,
    sliced,
    up_to,
)  # fmt: skip
from tests.engines.test_intake import rows_of

REAL = "nautilus_trader/derived/ESH4_{}_20231225_part1.dbn.zst"
TYPICAL = 50
SEED = Norms(np.full((2, 10), TYPICAL * SCALE, np.int64), 300 * SCALE, 3_000 * SCALE, SCALE // 10)
ZONES = [Zone(str(at), 27_600 + 2 * at) for at in range(-12, 12)]  # so that what is planted is at a level
SHORT_NS = OPEN_NS + 30 * SECOND
SEEDS = {SESSION.date: SEED}  # so that tests need no minute of warm-up


def market():
    """Rows of a simulated market with much that disturbs one."""
    return simulated_streams(60, 40, ("walls", "sweeps", "vacuums", "late", "crossed"))


@cache
def short_market():
    """The first half minute of it, which has a vacuum and a break."""
    return tuple((stream, part) for stream, part in market() if part.column("ts_event_ns")[0].as_py() < SHORT_NS)


def plain_market():
    """Rows of one that nothing disturbs."""
    return simulated_streams(30, 30)


def warm(zones=ZONES, **more):
    return judge(seeds=SEEDS, zones=zones, **more)


@cache
def whole_run():
    return judged(market(), warm())


@cache
def short_run():
    return judged(short_market(), warm())


def test_all_that_comes_out_depends_on_something():
    """Else the tests of equal bits below would compare nothing."""
    rows = pa.Table.from_batches([snap.levels for snap in whole_run()])
    alike = {
        "profile_hash",
        "contract",
        "points_fuel",
        "gamma_open_interest",
        "fuel",
        "call_wall",
        "put_wall",
        "gamma_flip",
        "level_whole",
        "tape_coverage",
        "whole_since_ns",
        "void_reason",
    }
    once = {"sweep_direction", "sweep_contracts", "flow_turn", "flow_turn_age_ns"}
    names = [column.name for column in SIGNALS if not pa.types.is_list(column.type)]
    constant = {name for name in names if len(rows.column(name).drop_null().unique()) < 2}
    assert constant <= alike | once, constant
    rare = {"call_wall", "gamma_flip", "flow_turn", "flow_turn_age_ns"}  # of options, which trade little in a minute
    assert {name for name in names if rows.column(name).null_count == rows.num_rows} <= rare
    assert {"WALL", "VACUUM", "WEAK", "NEUTRAL", "VOID"} <= set(rows.column("state").to_pylist())
    assert {"BREAK", "REJECT", "NEUTRAL"} <= set(rows.column("signal").to_pylist())
    assert len(whole_run()) > 150
    assert {"VACUUM"} <= {state for snap in short_run() for state in snap.levels.column("state").to_pylist()}
    assert {"BREAK"} <= {signal for snap in short_run() for signal in snap.levels.column("signal").to_pylist()}


def test_a_judge_says_which_streams_it_wants_and_the_others_change_nothing():
    by = warm()
    assert all(
        by.wants(Stream(name, symbol)) for name, symbol in (*((BOOKS.schema, one) for one in ("ES", "ALL")), TRADES)
    )
    others = [Stream("futures.mbp10", "NQ"), Stream("options.trades", "NQ"), Stream("stocks.quotes", "SPY")]
    assert not any(by.wants(stream) for stream in others)
    assert {stream for stream, _ in market() if not by.wants(stream)} == set()


# No look-ahead


def cuts(batches, count):
    rows = sum(part.num_rows for _, part in batches)
    return np.random.default_rng(7).integers(1, rows, count).tolist()


def differing(run, count):
    """Return how many snaps of inputs cut at that many rows are not those of the whole input."""
    whole, wrong, compared = run(short_market()), 0, 0
    for cut in cuts(short_market(), count):
        found = run(tuple(up_to(short_market(), cut)))
        compared += len(found)
        wrong += sum(not same(one, other) for one, other in zip(found, whole, strict=False))
    assert compared > 40 * count
    return wrong


def test_what_came_later_changes_no_snap_before_it():
    assert differing(lambda batches: judged(batches, warm()), 24) == 0


def test_a_norm_over_the_whole_day_is_caught():
    def leaking(batches):
        books = [part for stream, part in batches if stream == BOOKS]
        sizes = pa.Table.from_batches(books, FUTURES_MBP10.log).column("bid_sz_1").to_numpy()
        norms = SEED._replace(sizes=np.full((2, 10), int(sizes.sum() * SCALE) // max(len(sizes), 1), np.int64))
        return judged(batches, judge(seeds={SESSION.date: norms}, zones=ZONES))

    assert differing(leaking, 4) > 50


# The same bits


@pytest.mark.parametrize("seed", range(2))
def test_batches_cut_anywhere_give_the_same_bits(seed):
    found = judged(sliced(short_market(), np.random.default_rng(seed)), warm())
    assert len(found) == len(short_run()) > 100
    assert all(map(same, found, short_run()))


def test_rows_in_any_order_before_their_snap_give_the_same_bits():
    rng, shuffled, found = np.random.default_rng(3), warm(), []
    for snap_ns, left in pieces_of(short_market()):
        parts = list(sliced(left, rng))
        for at in rng.permutation(len(parts)).tolist():
            stream, part = parts[at]
            shuffled.put(stream, part.take(pa.array(rng.permutation(part.num_rows))))
        if snap_ns >= OPEN_NS:
            found.append(shuffled.snap(snap_ns))
    whole = [snap._replace(seen={}) for snap in short_run()]
    found = [snap._replace(seen={}) for snap in found]
    assert len(found) == len(whole)
    assert all(map(same, found, whole))


def test_snaps_that_are_made_together_have_the_bits_of_those_made_one_by_one():
    together, worked = warm(), []
    for snap_ns, left in pieces_of(short_market()):
        for stream, part in left:
            together.put(stream, part)
        if snap_ns >= OPEN_NS:
            worked.append(together.work(snap_ns))
    without = worked[-1]._replace(columns=None)  # as before the first book
    found = [snap._replace(seen={}) for snap in made([*worked, without])]
    whole = [snap._replace(seen={}) for snap in short_run()]
    assert len(found) == len(whole) + 1
    assert all(map(same, found[:-1], whole))
    assert found[-1].levels.num_rows == 0


def test_a_judge_warmed_up_from_the_sessions_begin_has_the_bits_of_one_that_ran_all_along():
    middle = OPEN_NS + 30 * SECOND + 70_000_000  # whose snap has rows of both sessions
    first = Session("2025-12-22", OPEN_NS, middle, OPEN_NS, middle)
    second = Session("2025-12-23", middle, OPEN_NS + 6 * HOUR, middle, OPEN_NS + 6 * HOUR)
    seeds = {day.date: SEED for day in (first, second)}
    along = judge((first, second), seeds=seeds)
    all_along = [snap for snap in judged(market(), along) if snap.session == second.date]
    earlier = judge((first,), seeds=seeds)
    judged(market(), earlier)
    later = [
        (stream, part.filter(pa.array(part.column("ts_event_ns").to_numpy() >= middle))) for stream, part in market()
    ]
    warmed = judged(later, judge((second,), seeds=seeds, earlier=earlier._day.market.earlier()))
    assert all_along[0].counters.before > 0
    assert all_along[0].market.prior_close is not None
    assert len(warmed) == len(all_along) > 50
    for one, other in zip(warmed, all_along, strict=True):
        counters = other.counters._replace(before=0, late=one.counters.late)
        assert same(one._replace(seen={}), other._replace(seen={}, counters=counters))


# Symmetry


def turned(column, values):
    """Return a column's values as the mirrored market has them."""
    if column in ("spot", "price"):
        return [-value for value in values]
    if column in ("direction", "distance_ticks", "zone_ticks", "sweep_direction", "runway_direction",
                  "tape_velocity_ticks_s"):  # fmt: skip
        return [None if value is None else -value for value in values]
    if column == "barrier_side":
        return [{"bid": "ask", "ask": "bid", None: None}[value] for value in values]
    return values


def test_the_mirrored_market_has_the_mirrored_signals():
    rows = listed(book_rows([part for stream, part in market() if stream == BOOKS], FRONT, 0.25)[0])
    rows = [row for row in rows if row.ts < OPEN_NS + 40 * SECOND]
    one, other = (
        judged([(BOOKS, batch(way, contract=FRONT))], warm(zones=zones))
        for way, zones in ((rows, ZONES), (mirrored(rows), [Zone(name, -price) for name, price in ZONES]))
    )
    by_id = {"id", "ids", "kinds", "runway_next_id", "runway_strong_id"}
    apart = {"bid", "ask", "tape_bought", "tape_sold"}
    compared = 0
    for snap, mirror in zip(one, other, strict=True):
        assert (snap.void_reason, snap.whole_since_ns) == (mirror.void_reason, mirror.whole_since_ns)
        if snap.spot is None:
            continue
        assert (snap.bid, snap.ask) == (-mirror.ask, -mirror.bid)
        left, right = snap.levels.to_pydict(), mirror.levels.to_pydict()
        assert (left["tape_bought"], left["tape_sold"]) == (right["tape_sold"], right["tape_bought"])
        for name in SIGNALS.names:
            if name not in by_id | apart:
                assert left[name] == turned(name, right[name][::-1]), (name, snap.snap_ns - OPEN_NS)
        compared += 1
    assert compared > 100


# By hand


def steady(seconds, touch=27_600, sizes=TYPICAL, begin=0):
    """A book that flickers by a lot 20 times a second, and trades a lot on both sides each second."""
    for at in range(begin * 20, (begin + seconds) * 20):
        ts = OPEN_NS + at * SECOND // 20
        yield even(ts, touch, size=sizes + at % 2)


def signals(rows, **more):
    """Return (seconds, id, state, signal) of the level at 6902.50, one tick above the ask."""
    found = judged([(BOOKS, batch(list(rows), contract=FRONT))], warm(**more))
    for snap in found:
        for row in snap.levels.select(["id", "price", "state", "signal", "score", "direction"]).to_pylist():
            if row["price"] == 6902.5:
                yield (snap.snap_ns - OPEN_NS) / SECOND, row


def test_a_side_that_is_pulled_breaks_and_one_that_stands_does_not():
    rows = list(steady(8, touch=27_608))
    asks = ladder(27_609, [TYPICAL, 1, 1, 1, 1, 1, *[TYPICAL] * 4], 1)
    pulled = [row if row.ts < OPEN_NS + 6 * SECOND else row._replace(asks=asks) for row in steady(14, touch=27_608)]
    assert {row["signal"] for _, row in signals(rows)} == {"NEUTRAL"}
    seen = list(signals(pulled))
    first = min(second for second, row in seen if row["state"] == "VACUUM")
    broke = min(second for second, row in seen if row["signal"] == "BREAK")
    assert first == 6.0
    assert broke - first == 5 * 0.25 + 1  # 65 points are passed with the sixth snap, and held for a second


def test_a_wall_rejects():
    asks = ladder(27_609, [TYPICAL, 10 * TYPICAL, *[TYPICAL] * 8], 1)
    walled = [row if row.ts < OPEN_NS + 6 * SECOND else row._replace(asks=asks) for row in steady(14, touch=27_608)]
    seen = list(signals(walled))
    assert {row["state"] for _, row in seen} == {"VOID", "NEUTRAL", "WALL"}
    assert {row["signal"] for _, row in seen} == {"NEUTRAL", "REJECT"}
    assert seen[-1][1]["score"] < 26


def test_without_a_sound_book_there_are_no_levels_and_while_it_is_crossed_all_are_void():
    rows = [even(OPEN_NS + at * SECOND // 4, 27_600, spread=-3 if at in (0, 1, 30, 31) else 1) for at in range(40)]
    found = judged([(BOOKS, batch(rows, contract=FRONT))], warm())
    assert [snap.levels.num_rows > 0 for snap in found[:4]] == [False, False, True, True]
    crossed = [snap for snap in found if snap.void_reason == "crossed"]
    assert len(crossed) >= 2
    assert {state for snap in crossed if snap.spot for state in snap.levels.column("state").to_pylist()} <= {"VOID"}
    assert found[-1].void_reason == "not whole"


def test_levels_are_the_nearest_and_as_many_on_both_sides():
    zones = [Zone(str(at), 27_600 + at) for at in range(-100, 101)]
    (*_, snap) = judged([(BOOKS, batch(list(steady(8)), contract=FRONT))], warm(zones=zones))
    far = np.abs(snap.levels.column("distance_ticks").to_numpy())
    assert MOST_LEVELS - 2 <= len(far) <= MOST_LEVELS
    assert far.max() == np.sort(np.abs(np.arange(-100, 101) - 0.5))[len(far) - 1]


# What is missing


def parted(batches, at):
    """Return the batches before a time and those from it on."""
    before = [part.column("ts_event_ns")[0].as_py() < at for _, part in batches]
    return [one for one, is_before in zip(batches, before, strict=True) if is_before], [
        one for one, is_before in zip(batches, before, strict=True) if not is_before
    ]


def by_second(snaps):
    return {(snap.snap_ns - OPEN_NS) / SECOND: snap for snap in snaps}


def test_skipped_rows_void_what_they_touch_and_the_book_begins_anew():
    by = warm()
    before, rest = parted(plain_market(), OPEN_NS + 12 * SECOND)
    lost, after = parted(rest, OPEN_NS + 13 * SECOND)
    found = judged(before, by)
    by.skip(BOOKS, OPEN_NS + 12 * SECOND, OPEN_NS + 13 * SECOND - 1)
    found += judged([one for one in lost if one[0] == TRADES], by)
    seconds = by_second(found + judged(after, by))
    assert seconds[11.5].void_reason is None
    for at, reason in (
        (12.25, "skipped"),
        (13.0, "skipped"),
        (13.25, "not whole"),
        (17.75, "not whole"),
        (18.25, None),
    ):
        assert seconds[at].void_reason == reason, at
    assert (seconds[12.75].spot, seconds[12.75].levels.num_rows) == (None, 0)
    assert seconds[13.5].whole_since_ns == OPEN_NS + 13 * SECOND + SNAP_NS
    assert set(seconds[18.25].levels.column("state").to_pylist()) > {"VOID"}
    assert seconds[18.25].market.voids == 1


def test_a_gap_on_record_is_as_skipped_rows():
    by = warm()
    before, after = parted(plain_market(), OPEN_NS + 12 * SECOND)
    judged(before, by)
    row = {"ts_event_ns": 0, "of_schema": "futures.mbp10", "of_symbol": "ES", "start_ns": OPEN_NS + 11 * SECOND}
    by.take(Stream("system.gaps", "spymaster"), rows_of(SYSTEM_GAPS, [row]))
    found = judged(after, by)
    assert found[0].void_reason == "gap"
    assert {snap.void_reason for snap in found[3:12]} == {"not whole"}


def test_a_roll_begins_anew_and_says_so():
    by = warm()
    half = len(market()) // 2
    before = judged(market()[:half], by)
    by.roll("ESM6")
    after = judged(market()[half:], by)
    assert {snap.contract for snap in before} == {FRONT}
    assert {snap.contract for snap in after} == {"ESM6"}
    assert after[0].void_reason == "roll"
    assert after[0].market.volume == after[0].counters.printed
    assert after[0].whole_since_ns >= before[-1].snap_ns
    assert {snap.market.voids for snap in after[:3]} == {1}


def test_a_judge_that_begins_within_a_session_says_what_it_did_not_see():
    begin = OPEN_NS + 20 * SECOND
    later = [(stream, part) for stream, part in market() if part.column("ts_event_ns")[0].as_py() > begin]
    found = judged(later, warm(since_ns=begin))
    assert (found[0].market.voids, found[-1].market.whole_since_ns) == (1, begin)
    session = [named for named in found[-1].market.named if named.kind == "SESSION_HIGH"]
    assert not session[0].whole


# Simulated disturbances


def test_halts_and_crossed_books_void_their_time_and_late_rows_are_counted():
    plant = ("halts", "crossed", "late", "repeats")
    batches = simulated_streams(120, 20, plant, seed=5)
    found = judged(batches, warm())
    session = SimulatedMarket(5, 20, OPEN_NS, plant).session(with_spy=False)
    for step in session.steps():
        if step.end > OPEN_NS + 120 * SECOND:
            break
    truths = [one for one in session.truths if one["end_ns"] < OPEN_NS + 115 * SECOND]
    assert {one["kind"] for one in truths} >= {"halt", "late"}
    reasons = {snap.snap_ns: snap.void_reason for snap in found}
    for truth in truths:
        if truth["kind"] == "halt":
            inside = [why for at, why in reasons.items() if truth["begin_ns"] < at <= truth["end_ns"]]
            assert set(inside) <= {"halt"}
    assert "halt" in reasons.values()
    assert sum(found[-1].counters.late.values()) > 0
    assert found[-1].counters.unaccounted > 0


# The real session


def test_the_real_session_runs_through(real_data):
    books, trades = (
        real_stream(real_data / REAL.format(kind), capture) for kind, capture in (("mbp-10", 1), ("trades", 2))
    )
    both = sorted((*books, *trades), key=lambda one: one[1].column("ts_recv_ns")[-1].as_py())
    sessions = calendar().sessions_between(OPEN_NS - 800 * 24 * HOUR, OPEN_NS - 650 * 24 * HOUR, "cme")
    found = judged(both, judge(sessions, "ESH4", "ES"))
    last = found[-1]
    assert last.session == "2023-12-26"
    counters = last.counters
    assert counters.printed == counters.traded == last.market.volume == 4_798  # of the session; 5 were before it
    assert (counters.off_tick, counters.ahead, counters.unaccounted, counters.unsided) == (0, {}, 0, 44)
    # As docs/engines.md tells it: a calm half hour, in which no side was ever thin, pulled or walled.
    reasons = Counter(snap.void_reason for snap in found)
    assert reasons == {None: 2_500, "no book": 1, "not whole": 19, "warm-up": 166}
    rows = pa.Table.from_batches([snap.levels for snap in found])
    assert Counter(rows.column("state").to_pylist()) == {"VOID": 17_613, "NEUTRAL": 9_917}
    assert set(rows.column("signal").to_pylist()) == {"NEUTRAL"}
    assert rows.column("score").null_count == 17_613


def test_where_numba_has_no_package_the_same_bits_come_out(monkeypatch):
    chosen = ledger.fastest_body, option_model.fastest_model, compiled.loops
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for choice in chosen:
        choice.cache_clear()
    try:
        found = judged(short_market(), warm())
    finally:
        for choice in chosen:
            choice.cache_clear()

    assert len(found) == len(short_run())
    assert all(map(same, found, short_run()))

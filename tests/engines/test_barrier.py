"""The barrier's states by hand: each one, what it is not, where a level lies, what is void, and that sides mirror."""

import numpy as np
import pytest

from spymaster.engines.barrier import (
    CROSSED,
    DEPTH_RATIO,
    EATEN_SHARE,
    INSIDE,
    NEUTRAL,
    NO_BOOK,
    NO_SIDE,
    NOT_WHOLE,
    REASONS,
    SNAP_VOID,
    SOUND,
    STATES,
    VOID,
    WALL_RATIO,
    WARM_UP,
    Barrier,
)  # fmt: skip
from spymaster.engines.ledger import SNAP_NS, Ledger
from spymaster.engines.profile import profile_named
from spymaster.engines.rows import ASK, BID, book_rows, no_rows
from spymaster.engines.typical import SCALE, Norms
from tests.engines.books import OPEN_NS, batch, book, by_snap, columns, even, ladder, mirrored, printed, wild_market
from tests.engines.plain_ledger import SNAPSHOT, Row

MS, S = 1_000_000, 1_000_000_000
RULES = profile_named("ES").barrier
USUAL = Norms(np.full((2, 10), 50 * SCALE), 60 * SCALE, 200 * SCALE, SCALE // 4)
LATER = OPEN_NS + 60 * S  # when what is told of happens; the book stood even until then, at 100 and 101


class Micro:
    """A book of 50 contracts at each of twenty prices, and what comes after."""

    def __init__(self, norms=USUAL, rows=None, first=None):
        self.ledger, self.barrier, self.norms = Ledger(), Barrier(RULES), norms
        self.snap_ns = OPEN_NS
        self.work(*(rows if rows is not None else [even(OPEN_NS, 100)]))
        self.until(LATER if first is None else first)

    def work(self, *rows, warm=True, void=False):
        """Work the rows of one snap, the next that is not before them."""
        ends = max((row.ts for row in rows), default=0)
        self.snap_ns = max(-(-ends // SNAP_NS) * SNAP_NS, self.snap_ns + SNAP_NS)
        self.ledger.work(columns(rows) if rows else no_rows(), self.snap_ns)
        self.barrier.work(self.snap_ns, self.ledger, self.norms, warm=warm, void=void)
        return self

    def until(self, snap_ns):
        while self.snap_ns < snap_ns:
            self.work()
        return self

    def judge(self, *levels):
        return self.barrier.judge(list(levels), levels)

    def states(self, *levels):
        return [STATES[state] for state in self.judge(*levels).state]


def asks(*sizes, ts=LATER + MS, touch=101):
    """Return the even book with these asks, 50 behind them."""
    return even(ts, 100)._replace(asks=ladder(touch, [*sizes, *[50] * (10 - len(sizes))], 1))


def pulled(size, ts=LATER + MS):
    """Return the even book with five asks of this size."""
    return asks(*[size] * 5, ts=ts)


def eaten(*left, ts=LATER + MS):
    """Return prints that leave so many at the asks, and the book after them."""
    prints = [printed(ts, 1, 101 + at, 50 - size) for at, size in enumerate(left)]
    return [*prints, asks(*left, ts=ts)]


# Where a level lies.


def test_a_level_has_the_side_it_lies_on_and_a_zone_of_five_prices_outward():
    judged = Micro().judge(101, 100, 107, 98)

    assert judged.side.tolist() == [ASK, BID, ASK, BID]
    assert judged.price.tolist() == [101, 100, 107, 98]
    assert judged.offset.tolist() == [0, 0, 6, 2]
    assert judged.depth.tolist() == [250, 250, 200, 250]
    assert judged.typical.tolist() == [250, 250, 200, 250]
    assert judged.coverage.tolist() == [1, 1, 0.8, 1]


def test_a_level_off_the_ticks_is_taken_at_the_nearest_tick_outward():
    judged = Micro().judge(101.25, 99.75, 108.01)

    assert judged.price.tolist() == [102, 99, 109]
    assert judged.side.tolist() == [ASK, BID, ASK]


def test_a_level_inside_the_spread_has_no_side_and_one_beyond_ten_levels_no_size():
    judged = Micro().judge(100.5, 110, 111, 91, 90, 90.5, 1e12, float("nan"))

    assert [REASONS[reason] for reason in judged.reason] == [
        "inside the spread", "", "beyond ten levels", "", "beyond ten levels", "beyond ten levels", "beyond ten levels",
        "inside the spread",
    ]  # fmt: skip
    assert judged.side[:2].tolist() == [NO_SIDE, ASK]
    assert judged.state.tolist() == [VOID, NEUTRAL, VOID, NEUTRAL, VOID, VOID, VOID, VOID]
    assert judged.depth.tolist() == [0, 50, 0, 50, 0, 0, 0, 0]
    assert np.isnan(judged.ratios[2]).all()
    assert judged.coverage[2] == 0


def test_a_side_without_a_touch_has_no_levels():
    micro = Micro().work(book(LATER + MS, ladder(100, [50] * 10, -1), ()))
    judged = micro.judge(101, 100)

    assert judged.reason.tolist() == [INSIDE, SOUND]
    assert judged.state.tolist() == [VOID, NEUTRAL]


# States.


def test_a_constant_book_is_neutral_and_so_is_one_that_drifts():
    micro = Micro()
    assert micro.states(101, 105, 110, 100, 91) == ["NEUTRAL"] * 5

    for step in range(1, 17):
        micro.work(even(LATER + step * SNAP_NS, 100 + step))
    judged = micro.judge(117, 121, 116, 110)
    assert judged.state.tolist() == [NEUTRAL] * 4
    assert judged.added.tolist()[:2] == [[0] * 3] * 2
    assert judged.delta_liq.tolist()[:2] == [[0] * 3] * 2


def test_a_wall_is_a_price_of_six_typical_sizes_in_the_zone():
    micro = Micro().work(asks(50, 50, 50, 300))

    assert micro.states(100, 101, 103, 104, 105) == ["NEUTRAL", "WALL", "WALL", "WALL", "NEUTRAL"]
    assert micro.judge(101).ratios[0, WALL_RATIO] == 6
    assert Micro().work(asks(50, 50, 50, 299)).states(104) == ["NEUTRAL"]


def test_at_a_touch_that_is_small_as_a_rule_it_takes_six_of_the_sides_mean():
    small = USUAL.sizes.copy()
    small[:, 0] //= 5
    micro = Micro(USUAL._replace(sizes=small))

    assert micro.work(asks(6 * 46 - 1)).states(101) == ["NEUTRAL"]
    assert micro.work(asks(6 * 46, ts=micro.snap_ns + MS)).states(101) == ["WALL"]


def test_absorption_is_much_of_the_volume_eaten_at_a_price_that_is_refilled():
    micro, rows = Micro(), []
    for number in range(10):
        ts = LATER + (2 * number + 1) * MS
        rows += [*eaten(20, ts=ts), even(ts + MS, 100)]
    micro.work(*rows)

    assert micro.states(101, 102, 100) == ["ABSORPTION", "NEUTRAL", "NEUTRAL"]
    judged = micro.judge(101)
    assert judged.filled.tolist() == judged.added.tolist() == [[300, 300, 300]]
    assert judged.ratios[0, EATEN_SHARE] == 1


def test_what_is_added_and_canceled_without_a_fill_is_no_absorption():
    """The original's needed no fill at all."""
    micro = Micro().work(*(asks(20 + 30 * (number % 2), ts=LATER + (number + 1) * MS) for number in range(40)))

    assert micro.states(101) == ["NEUTRAL"]
    assert micro.judge(101).added[0, 0] > 500


def test_what_is_eaten_at_several_prices_alike_is_no_absorption():
    rows = []
    for number in range(6):
        ts, price = LATER + (2 * number + 1) * MS, (101, 100)[number % 2]
        rows += [printed(ts, 1 if price == 101 else -1, price, 30), even(ts, 100)]
    micro = Micro().work(*rows)

    assert micro.judge(101).ratios[0, EATEN_SHARE] == 0.5
    assert micro.states(101, 100) == ["NEUTRAL"] * 2


def test_liquidity_that_was_pulled_is_a_vacuum_and_what_was_eaten_is_consumed():
    """The original called eaten liquidity pulled, as it did not ask who removed it."""
    assert Micro().work(pulled(2)).states(101, 100) == ["VACUUM", "NEUTRAL"]
    assert Micro().work(*eaten(2, 2, 2, 2, 2)).states(101, 100) == ["CONSUMED", "NEUTRAL"]


def test_the_last_two_prices_in_sight_are_too_few_to_be_thin():
    gone = even(LATER + MS, 100)._replace(asks=(*ladder(101, [50] * 7, 1), *ladder(108, [1] * 3, 1)))
    micro = Micro().work(gone)

    assert micro.states(107, 108, 109, 110) == ["WEAK", "VACUUM", "NEUTRAL", "NEUTRAL"]
    assert micro.judge(109, 110).coverage.tolist() == [0.4, 0.2]


def test_a_vacuum_in_which_single_lots_are_still_traded_is_one():
    micro = Micro().work(pulled(2))
    for number in range(1, 60):
        ts = LATER + number * SNAP_NS
        micro.work(printed(ts, 1, 101, 1), pulled(1, ts=ts), pulled(2, ts=ts + MS))
        assert micro.states(101) == ["VACUUM"], number


def test_a_vacuum_is_one_until_it_is_filled_and_in_a_full_book_all_is_forgotten():
    micro = Micro().work(pulled(2))
    assert micro.until(LATER + 90 * S).states(101) == ["VACUUM"]

    ts = micro.snap_ns + MS
    micro.work(asks(ts=ts))
    assert micro.states(101) == ["NEUTRAL"]
    micro.work(*eaten(2, 2, 2, 2, 2, ts=micro.snap_ns + MS))
    assert micro.states(101) == ["CONSUMED"]


def test_a_touch_that_was_eaten_and_refilled_for_long_and_is_then_pulled_is_a_vacuum():
    """Over five seconds much more was eaten than is missing, and over a minute too; nobody emptied it so."""
    micro = Micro()
    for number in range(80):
        ts = LATER + number * SNAP_NS + MS
        micro.work(*eaten(30, ts=ts), printed(ts, -1, 100, 20), even(ts + MS, 100))
    micro.work(pulled(2, ts=micro.snap_ns + MS))

    assert micro.judge(101).filled[0].tolist() > [250, 500, 500]
    assert micro.states(101) == ["VACUUM"]


def test_where_the_price_comes_into_a_side_that_was_pulled_the_side_says_who_did_it():
    micro = Micro().work(pulled(2))
    ts = micro.snap_ns + MS
    lower = book(ts, ladder(97, [50] * 10, -1), (*ladder(98, [2] * 8, 1), (106, 50), (107, 50)))
    assert micro.work(lower).states(98, 99) == ["VACUUM"] * 2


def test_a_crossed_book_forgets_who_emptied_it():
    micro = Micro().work(pulled(2))
    micro.work(even(micro.snap_ns + MS, 100, spread=-3))
    micro.work(pulled(2, ts=micro.snap_ns + MS)).until(micro.snap_ns + 6 * S)

    assert micro.states(101) == ["WEAK"]


def test_49_cancels_of_one_lot_are_canceled_49_and_filled_0():
    judged = Micro().work(*(asks(50 - k, ts=LATER + k * MS) for k in range(1, 50))).judge(101)

    assert (judged.added[0, 0], judged.canceled[0, 0], judged.filled[0, 0]) == (0, 49, 0)
    assert judged.delta_liq.tolist() == [[-49] * 3]
    assert judged.state.tolist() == [NEUTRAL]


def test_a_book_that_was_always_thin_is_weak_and_neither_pulled_nor_eaten():
    micro = Micro(rows=[even(OPEN_NS, 100, size=5)])

    assert micro.states(101, 100) == ["WEAK"] * 2
    assert micro.judge(101).ratios[0, DEPTH_RATIO] == 0.1
    assert Micro(rows=[even(OPEN_NS, 100, size=23)]).states(101) == ["NEUTRAL"]


def test_states_are_multiples_of_typical_sizes_whatever_the_contract():
    """Ten times all sizes, of the book, of prints and typical: the same states and ratios."""
    one, ten = Micro(), Micro(
        Norms(USUAL.sizes * 10, USUAL.volume * 10, USUAL.churn * 10, USUAL.density), [even(OPEN_NS, 100, size=500)]
    )  # fmt: skip
    for number in range(40):
        rows = [*eaten(20, 50, 300 * (number % 3), ts=LATER + (number + 1) * 40 * MS)]
        one.work(*rows)
        ten.work(*(times_ten(row) for row in rows))
        same = one.judge(*range(92, 111)), ten.judge(*range(92, 111))
        assert same[0].state.tolist() == same[1].state.tolist()
        assert np.array_equal(same[0].ratios, same[1].ratios, equal_nan=True)


def times_ten(row):
    bids, asks_ = (tuple((price, 10 * size) for price, size in levels) for levels in (row.bids, row.asks))
    return row._replace(size=10 * row.size, bids=bids, asks=asks_)


# What is void.


def test_what_is_void_says_why():
    micro = Micro()
    crossed = even(LATER + MS, 100, spread=-3)

    assert reason_of(Micro(rows=[Row(OPEN_NS, 2)], first=OPEN_NS + 8 * S)) == NO_BOOK
    assert reason_of(micro.work(crossed)) == CROSSED
    assert reason_of(micro.work(even(LATER + S, 100))) == NOT_WHOLE
    assert reason_of(micro.until(LATER + 7 * S)) == SOUND
    assert reason_of(micro.work(warm=False)) == WARM_UP
    assert reason_of(micro.work(void=True)) == SNAP_VOID
    assert micro.judge(101, 100).side.tolist() == [NO_SIDE] * 2
    assert micro.states(101) == ["VOID"]


def reason_of(micro):
    (reason,) = set(micro.judge(101, 100).reason.tolist())
    assert micro.barrier.ladder.reason == reason
    return reason


def test_what_flows_is_not_whole_for_five_seconds_after_a_void_that_only_the_caller_knows():
    micro = Micro().work(void=True)
    since = micro.snap_ns
    reasons = [reason_of(micro.work()) for _ in range(21)]

    assert reasons == [NOT_WHOLE] * 19 + [SOUND] * 2
    assert micro.snap_ns == since + 21 * SNAP_NS
    assert micro.barrier.flow is not None


def test_a_crossed_book_before_the_open_is_void_and_no_wall():
    """An hour of bids through the asks, as before a real open."""
    micro = Micro(rows=[even(OPEN_NS, 190, spread=-94, size=900)], first=OPEN_NS + 8 * S)

    assert micro.states(101, 100, 190) == ["VOID"] * 3
    assert reason_of(micro) == NO_BOOK


def test_a_snapshot_row_of_midnight_voids_five_seconds():
    micro = Micro()
    micro.work(even(OPEN_NS, 100, kind=SNAPSHOT))
    assert reason_of(micro) == NOT_WHOLE

    micro.until(micro.snap_ns + 5 * S)
    assert reason_of(micro) == SOUND
    assert micro.states(101) == ["NEUTRAL"]


# What stands beside a state.


def test_nothing_removed_gives_no_replenishment_ratio():
    """The original gave up to 1e8."""
    judged = Micro().work(asks(90)).judge(101)

    assert judged.added.tolist() == [[40] * 3]
    assert np.isnan(judged.replenishment_ratio).all()


def test_windows_say_what_happened_within_them_and_how_much_of_them_was_seen():
    micro = Micro().work(asks(30)).work(asks(40, ts=LATER + 2 * SNAP_NS)).until(LATER + 10 * S)
    judged = micro.judge(101, 105)

    assert judged.canceled[0].tolist() == [0, 20, 20]
    assert judged.added[0].tolist() == [0, 10, 10]
    assert judged.replenishment_ratio[0, 1:].tolist() == [0.5, 0.5]
    assert judged.delta_liq[0].tolist() == [0, -10, -10]
    assert judged.flow_coverage[0, :2].tolist() == [1, 1]
    assert judged.flow_coverage[0, 2] == pytest.approx(70 / 240, abs=0.005)


def test_ranks_are_in_the_history_of_the_side_and_the_offset():
    micro = Micro()
    before = micro.judge(101, 100).ranks[:, WALL_RATIO]
    after = micro.work(asks(200)).judge(101, 100, 106).ranks

    assert before.tolist() == [0.5, 0.5]
    assert after[:, WALL_RATIO].tolist() == [1, 0.5, 0.5]
    assert after[:, DEPTH_RATIO].tolist() == [1, 0.5, 0.5]


def test_a_level_holds_its_state_after_its_time_wherever_it_moves():
    micro = Micro().work(asks(50, 50, 400))
    begun, held = micro.snap_ns, []
    for number in range(12):
        judged = micro.barrier.judge(["vwap"], [101.0 + number / 10])
        held.append((STATES[judged.held[0]], int(judged.held_since_ns[0])))
        micro.work()

    assert held == [("NEUTRAL", begun)] * 8 + [("WALL", begun)] * 4


# Properties.


def run(rows, levels):
    """Return all outputs of a market's snaps at some levels."""
    ledger, barrier, found = Ledger(), Barrier(RULES), []
    for snap_ns, here in by_snap(rows):
        in_time = [row._replace(ts=min(row.ts, snap_ns)) for row in here]  # a snapshot moves no clock
        ledger.work(columns(in_time) if here else no_rows(), snap_ns)
        barrier.work(snap_ns, ledger, USUAL, warm=True, void=False)
        found.append(barrier.judge(levels, levels))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_mirrored_market_has_the_same_states_on_the_other_side(seed):
    rows = wild_market(seed, seconds=12, oddities=seed % 2 == 1)
    levels = np.arange(-60.0, 60.25, 0.5)
    seen = set()
    for one, other in zip(run(rows, levels.tolist()), run(mirrored(rows), (-levels).tolist()), strict=True):
        sided = one.side != NO_SIDE
        seen |= {STATES[state] for state in one.state}
        assert np.array_equal(np.where(sided, 1 - one.side, NO_SIDE), other.side)
        assert np.array_equal(np.where(sided, -one.price, 0), other.price)
        for name in set(one._fields) - {"side", "price"}:
            assert np.array_equal(
                getattr(one, name), getattr(other, name), equal_nan=getattr(one, name).dtype.kind == "f"
            ), name
    assert len(seen) > 3 or seed % 2


def test_where_prices_lie_does_not_matter():
    rows = wild_market(5, seconds=12, oddities=False)
    far = [
        row._replace(
            price=None if row.price is None else row.price + 27_001,
            bids=tuple((p + 27_001, s) for p, s in row.bids),
            asks=tuple((p + 27_001, s) for p, s in row.asks),
        )
        for row in rows
    ]
    levels = list(range(-60, 61))
    for one, other in zip(run(rows, levels), run(far, [level + 27_001 for level in levels]), strict=True):
        for name in set(one._fields) - {"price"}:
            assert np.array_equal(
                getattr(one, name), getattr(other, name), equal_nan=getattr(one, name).dtype.kind == "f"
            ), name


def test_batches_cut_anywhere_and_rows_of_a_snap_in_any_order_give_the_same_bits():
    rows, rng = wild_market(9, seconds=12), np.random.default_rng(9)
    whole = batch(rows)

    def judged(shuffled):
        ledger, barrier, found, at = Ledger(), Barrier(RULES), [], 0
        for snap_ns, here in by_snap(rows):
            mine = whole.slice(at, len(here))
            at += len(here)
            if shuffled:
                cuts = sorted(rng.integers(0, len(here) + 1, 3).tolist())
                pieces = [mine.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, len(here)], strict=True)]
                pieces = [piece.take(rng.permutation(piece.num_rows)) for piece in pieces]
                mine_rows, _ = book_rows([pieces[k] for k in rng.permutation(4)], "ESZ5", 0.25)
            else:
                mine_rows, _ = book_rows([mine], "ESZ5", 0.25)
            ledger.work(mine_rows, snap_ns)
            barrier.work(snap_ns, ledger, USUAL, warm=True, void=False)
            found.append(barrier.judge(list(range(-50, 50)), range(-50, 50)))
        return found

    for one, other in zip(judged(False), judged(True), strict=True):
        assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, other, strict=True))

"""The tape by hand: who buys, how fast, and what is a sweep; late prints, crossed books, mirrors, cuts anywhere."""

import random

import numpy as np
import pytest

from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import profile_named
from spymaster.engines.rows import ASK, BID, book_rows, no_rows
from spymaster.engines.sweeps import Sweep
from spymaster.engines.tape import Tape
from spymaster.engines.typical import SCALE, Norms
from tests.engines.books import OPEN_NS, batch, by_snap, columns, even, mirrored, printed, wild_market

MS, S = 1_000_000, 1_000_000_000
RULES = profile_named("ES").tape
FLOW_S = profile_named("ES").barrier.flow_s
NOTHING = Norms(np.zeros((2, 10), np.int64), 0, 0, 0)
USUAL = Norms(np.full((2, 10), 50 * SCALE), 60 * SCALE, 200 * SCALE, SCALE // 4)
WINDOW = RULES.window_s


class Prints:
    """A tape, and what is printed on it; times are ns after the open."""

    def __init__(self, norms=USUAL):
        self.tape, self.norms, self.snap_ns = Tape(RULES, FLOW_S), norms, OPEN_NS
        self.now = self.tape.work(OPEN_NS, no_rows(), norms)

    def work(self, *rows, until=None):
        self.snap_ns = OPEN_NS + until if until is not None else self.snap_ns + SNAP_NS
        rows = [row._replace(ts=OPEN_NS + row.ts) for row in rows]
        self.now = self.tape.work(self.snap_ns, columns(rows) if rows else no_rows(), self.norms)
        return self.now


def sweep_of(*prints, norms=USUAL):
    return Prints(norms).work(*prints).sweep


def bought(ts, price, size=50):
    return printed(ts, 1, price, size)


def test_volume_is_counted_by_the_vendors_aggressor_and_what_has_none_apart():
    now = Prints().work(bought(1, 101, 7), printed(2, -1, 100, 4), printed(3, 0, 100, 44), bought(3, 101, 1))

    assert (now.bought, now.sold, now.unsided, now.prints) == (8, 4, 44, 3)


def test_a_print_leaves_the_window_after_its_time_and_coverage_says_how_much_there_was():
    tape = Prints()
    assert tape.work(bought(1, 101, 7)).coverage == 2 / (4 * WINDOW)

    assert tape.work(until=WINDOW * S).bought == 7
    assert tape.now.coverage == 1
    assert tape.work(until=WINDOW * S + SNAP_NS).bought == 0


def test_a_long_pause_with_prints_within_it_counts_those_of_the_window():
    tape = Prints()
    now = tape.work(bought(S, 101, 3), bought(200 * S, 101, 5), bought(290 * S, 101, 7), until=300 * S)

    assert (now.bought, now.prints) == (7, 1)
    assert tape.work(bought(330 * S, 101, 1), until=340 * S).bought == 8
    assert tape.work(until=351 * S).bought == 1


def test_the_imbalance_is_shrunk_by_what_is_typical_of_such_a_window():
    volume = 60 * WINDOW / FLOW_S  # typical
    assert Prints().work(*[bought(k + 1, 101, 10) for k in range(90)]).imbalance == 900 / (900 + volume)


def test_few_prints_are_shrunk_by_ten_of_their_mean_whatever_is_typical():
    assert Prints(NOTHING).work(bought(1, 101, 500)).imbalance == 1 / 11
    assert Prints(NOTHING).work(*[bought(1, 101, 5)] * 30, printed(2, -1, 100, 5)).imbalance == 29 / 41
    assert Prints(NOTHING).work().imbalance == 0
    assert Prints().work(printed(1, 0, 100, 44)).imbalance == 0


def test_towards_a_level_is_up_for_an_ask_and_down_for_a_bid():
    towards = Prints(NOTHING).work(bought(1, 101)).towards(np.array([ASK, BID, -1], np.int8))

    assert towards[:2].tolist() == [1 / 11, -1 / 11]
    assert np.isnan(towards[2])


def test_a_late_print_counts_in_the_snap_that_has_it():
    tape = Prints()
    tape.work(bought(1, 101, 7), until=2 * S)
    now = tape.work(bought(1, 101, 5), until=2 * S + SNAP_NS)
    assert now.bought == 12

    assert tape.work(until=WINDOW * S + SNAP_NS).bought == 5
    assert tape.work(until=WINDOW * S + 2 * S + SNAP_NS).bought == 0


# Velocity.


def test_velocity_is_the_slope_of_the_prices_in_ticks_a_second():
    tape = Prints()
    for number in range(12):
        now = tape.work(bought(number * SNAP_NS + 125 * MS, 100 + 2 * number, 9))

    assert now.velocity == pytest.approx(8)
    assert tape.work(until=RULES.velocity_s * S * 2).velocity is None


def test_one_time_has_no_slope():
    assert Prints().work(bought(1, 101), bought(1, 105)).velocity is None
    assert Prints().work().velocity is None


def test_what_is_printed_in_two_parts_counts_as_what_is_printed_in_one():
    one, two = Prints(), Prints()
    one.work(bought(MS, 101, 40), bought(100 * MS, 103, 8), bought(200 * MS, 104, 2))
    two.work(*[bought(MS, 101, 20)] * 2, bought(100 * MS, 103, 8), bought(200 * MS, 104, 1), bought(200 * MS, 104, 1))

    assert one.now.velocity == two.now.velocity > 0


def test_velocity_is_that_of_least_squares_over_random_prints():
    rng = random.Random(8)
    tape, points = Prints(), []
    for number in range(40):
        times = sorted(rng.randrange(1, SNAP_NS) // 100_000 * 100_000 + 50_000 for _ in range(rng.randrange(6)))
        rows = [bought(number * SNAP_NS + at, rng.randrange(27_000, 27_040), rng.randrange(1, 90)) for at in times]
        points += rows
        now = tape.work(*rows)
    recent = [row for row in points if row.ts > (40 * SNAP_NS) - RULES.velocity_s * S]
    times, prices = np.array([row.ts / S for row in recent]), np.array([row.price for row in recent])
    slope, _ = np.polyfit(times, prices, 1, w=np.sqrt([row.size for row in recent]))

    assert now.velocity == pytest.approx(slope, rel=1e-3)


# Sweeps.


def test_a_sweep_is_one_instant_at_three_prices_of_two_typical_touches():
    prints = [bought(MS, 101, 50), bought(MS, 102, 40), bought(MS, 103, 10)]
    ts = OPEN_NS + MS

    assert sweep_of(*prints) == Sweep(ts, ts, 1, 3, 100, 101, 103)
    assert sweep_of(*prints[:2], bought(MS, 102, 90)) is None
    assert sweep_of(*prints[:2], bought(MS, 103, 9)) is None


def test_it_may_come_in_packets_a_moment_apart_but_not_longer():
    gap = RULES.sweep_gap_ms * MS
    assert sweep_of(bought(MS, 101), bought(MS + gap // 2, 102), bought(MS + gap, 103)).prices == 3
    assert sweep_of(bought(MS, 101), bought(MS + gap // 2, 102), bought(MS + gap + 1, 103)) is None


def test_the_other_aggressor_ends_it_and_a_print_of_neither_does_not():
    between = [bought(MS, 101), bought(MS, 102), printed(MS, -1, 100, 1), bought(MS, 103)]

    assert sweep_of(*between) is None
    assert sweep_of(*between[:2], printed(MS, 0, 100, 1), between[3]).contracts == 150


def test_a_crossed_book_ends_it_and_within_one_there_is_none():
    rows = [bought(MS, 101), bought(MS, 102), bought(MS, 103)]
    crossed, sound = even(MS, 100, spread=-2), even(MS, 103)

    assert sweep_of(*rows[:2], sound, rows[2]).prices == 3
    assert sweep_of(*rows[:2], crossed, sound, rows[2]) is None
    assert sweep_of(crossed, *rows) is None
    tape = Prints()
    tape.work(crossed)
    assert tape.work(*(row._replace(ts=row.ts + SNAP_NS) for row in rows)).sweep is None
    assert tape.work(sound, *(row._replace(ts=2 * SNAP_NS + MS) for row in rows)).sweep is not None


def test_a_sweep_across_a_snap_is_one():
    gap = RULES.sweep_gap_ms * MS
    tape = Prints()
    assert tape.work(bought(SNAP_NS - gap // 2, 101), bought(SNAP_NS, 102)).sweep is None

    assert tape.work(bought(SNAP_NS + gap // 2, 103)).sweep == Sweep(
        OPEN_NS + SNAP_NS - gap // 2, OPEN_NS + SNAP_NS + gap // 2, 1, 3, 150, 101, 103
    )


def test_a_sweep_rules_the_tape_for_two_seconds_and_then_ages():
    tape = Prints()
    assert tape.work(*(printed(MS, -1, 100 - k, 60) for k in range(3))).imbalance == -1
    assert tape.now.sweep == Sweep(OPEN_NS + MS, OPEN_NS + MS, -1, 3, 180, 100, 98)

    assert tape.work(until=2 * S).imbalance == -1
    assert -1 < tape.work(until=2 * S + SNAP_NS).imbalance < 0
    assert tape.work(until=WINDOW * S).sweep is not None
    assert tape.work(until=WINDOW * S + SNAP_NS).sweep is None


def test_a_restart_forgets_all():
    tape = Prints()
    tape.work(*(bought(MS, 101 + k, 60) for k in range(3)))
    tape.tape.restart()
    now = tape.work(until=10 * S)

    assert (now.bought, now.imbalance, now.velocity, now.sweep) == (0, 0, None, None)
    assert now.coverage == 1 / (4 * WINDOW)


# Properties.


def run(rows, norms=USUAL):
    tape = Tape(RULES, FLOW_S)
    return [tape.work(snap_ns, columns(in_time(here, snap_ns)), norms) for snap_ns, here in by_snap(rows) if here]


def in_time(rows, snap_ns):
    return [row._replace(ts=min(row.ts, snap_ns)) for row in rows]  # a snapshot moves no clock


@pytest.mark.parametrize("seed", range(6))
def test_the_mirrored_market_has_the_opposite_tape(seed):
    rows, swept = wild_market(seed, seconds=10, rate=600, oddities=seed % 2 == 1), 0
    few = USUAL._replace(sizes=USUAL.sizes // 50)
    for one, other in zip(run(rows, few), run(mirrored(rows), few), strict=True):
        assert (one.bought, one.sold, one.unsided, one.prints) == (
            other.sold,
            other.bought,
            other.unsided,
            other.prints,
        )
        assert one.imbalance == -other.imbalance
        assert one.velocity == (None if other.velocity is None else -other.velocity)
        assert (one.sweep is None) == (other.sweep is None)
        if one.sweep is not None:
            swept += 1
            turned = other.sweep._replace(
                direction=-other.sweep.direction, nearest=-other.sweep.nearest, farthest=-other.sweep.farthest
            )
            assert one.sweep == turned
    assert swept


def test_batches_cut_anywhere_and_rows_of_a_snap_in_any_order_give_the_same_bits():
    rows, rng = wild_market(9, seconds=10, rate=600), np.random.default_rng(9)
    whole, at, one, other = batch(rows), 0, Tape(RULES, FLOW_S), Tape(RULES, FLOW_S)
    for snap_ns, here in by_snap(rows):
        mine, at = whole.slice(at, len(here)), at + len(here)
        cuts = sorted(rng.integers(0, len(here) + 1, 3).tolist())
        pieces = [mine.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, len(here)], strict=True)]
        shuffled = [pieces[k].take(rng.permutation(pieces[k].num_rows)) for k in rng.permutation(4)]
        straight, _ = book_rows([mine], "ESZ5", 0.25)
        sorted_again, _ = book_rows(shuffled, "ESZ5", 0.25)
        assert one.work(snap_ns, straight, USUAL) == other.work(snap_ns, sorted_again, USUAL)

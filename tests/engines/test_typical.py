"""What is typical of a book: a filter of integers, exactly as its docstring states it."""

from fractions import Fraction

import numpy as np
import pytest

from spymaster.engines.ledger import SNAP_NS, Book
from spymaster.engines.profile import profile_named
from spymaster.engines.rows import ASK, BID, NO_PRICE
from spymaster.engines.typical import SCALE, Flow, Norms, Typical, by_offset, mean_of
from tests.engines.books import OPEN_NS, columns, even, ladder

RULES = profile_named("ES").typical
FIRST = OPEN_NS
WARM = RULES.warm_up_s * 4
HALF_LIFE = RULES.half_life_s * 4


def book_of(bids, asks):
    (row,) = [even(OPEN_NS, 100)._replace(bids=tuple(bids), asks=tuple(asks))]
    rows = columns([row])
    return Book(np.concatenate([rows.bid_px, rows.ask_px]), np.concatenate([rows.bid_sz, rows.ask_sz]))


def flat(size):
    return book_of(ladder(100, [size] * 10, -1), ladder(101, [size] * 10, 1))


def after(*sizes, flow=None, typical=None, begin=0):
    typical = typical or Typical(RULES)
    for number, size in enumerate(sizes):
        typical.work(FIRST + (begin + number) * SNAP_NS, size if size is None else flat(size), flow)
    return typical


def touch(typical):
    return Fraction(int(typical.norms.sizes[BID, 0]), SCALE)


def test_offsets_are_ticks_from_the_touch_and_not_places_in_the_list():
    book = book_of([(100, 7), (98, 5), (91, 3), (90, 2)], [(101, 1), (110, 9), (111, 8)])

    assert by_offset(book).tolist() == [[7, 0, 5, 0, 0, 0, 0, 0, 0, 3], [1, 0, 0, 0, 0, 0, 0, 0, 0, 9]]


def test_the_first_snaps_are_their_plain_mean():
    sizes = [10, 40, 1000, 30, 20, 77]

    assert touch(after(*sizes)) == pytest.approx(sum(sizes) / len(sizes), abs=len(sizes) / SCALE)


def test_after_them_it_forgets_by_half_in_the_half_life():
    typical = after(*[100] * RULES.mean_snaps, *[50] * HALF_LIFE)

    assert float(touch(typical)) == pytest.approx(75, abs=0.05)


def test_a_sample_counts_as_at_most_three_times_and_at_least_a_third_of_what_is_typical():
    usual = [60] * RULES.mean_snaps
    least, most = touch(after(*usual, 20)), touch(after(*usual, 180))

    assert touch(after(*usual, 0)) == least < 60 < most == touch(after(*usual, 5_000))


def test_a_wall_of_eight_seconds_moves_it_by_less_than_a_twentieth():
    assert 60 < touch(after(*[60] * 400, *[600] * 32)) < 63


def test_a_void_snap_moves_nothing_and_no_pause_spans_it():
    whole, holed = after(*[60] * 300), after(*[60] * 300, *[None] * 9)
    assert np.array_equal(whole.norms.sizes, holed.norms.sizes)

    after(90, typical=whole, begin=300)
    after(90, typical=holed, begin=309)
    assert np.array_equal(whole.norms.sizes, holed.norms.sizes)


def test_a_book_without_a_side_is_as_void():
    typical = after(60)
    typical.work(FIRST + SNAP_NS, book_of([(100, 5)], []), None)

    assert touch(typical) == 60
    assert typical.norms.sizes[ASK].tolist() == [60 * SCALE] * 10


def test_in_a_pause_the_book_before_stood():
    """Snaps at each bucket of a quiet time, or one snap after it: the same to the rounding of a step."""
    usual, quiet = [60] * 300, [90] * 12
    every = after(*usual, *quiet, 50)
    once = after(*usual, quiet[0])
    once.work(FIRST + (300 + len(quiet)) * SNAP_NS, flat(50), None)

    assert float(touch(once)) == pytest.approx(float(touch(every)), abs=1e-3)
    assert touch(once) != touch(after(*usual, quiet[0], 50))


def test_a_pause_counts_as_five_seconds_at_most():
    def after_pause(buckets):
        typical = after(*[60] * 300, 90)
        typical.work(FIRST + (300 + 1 + buckets) * SNAP_NS, flat(90), None)
        return touch(typical)

    assert after_pause(20) == after_pause(20_000) > after_pause(10)


def test_it_is_ready_after_the_warm_up_which_counts_what_was_not_void():
    assert not after(*[60] * (WARM - 1)).ready
    assert after(*[60] * WARM).ready
    assert not after(*[60] * (WARM - 1), *[None] * 50).ready


def test_the_norms_are_of_volume_churn_and_their_density_where_the_flow_is_whole():
    typical = after(60, 60, flow=Flow(30, 120))
    after(60, 60, flow=None, typical=typical, begin=2)
    norms = typical.norms

    assert (norms.volume, norms.churn, norms.density) == (30 * SCALE, 120 * SCALE, SCALE // 4)


def test_nothing_happening_says_nothing_of_density():
    norms = after(60, flow=Flow(0, 0), typical=after(60, flow=Flow(30, 120)), begin=1).norms

    assert (norms.volume, norms.density) == (15 * SCALE, SCALE // 4)


def test_a_session_that_begins_with_earlier_ones_is_ready_and_goes_on_from_them():
    earlier = [after(*[size] * 300, flow=Flow(size, 4 * size)).norms for size in (40, 60, 80)]
    seed = mean_of(earlier)
    typical = Typical(RULES, seed)

    assert typical.ready
    assert typical.norms.sizes.tolist() == [[60 * SCALE] * 10] * 2
    assert typical.norms[1:] == (60 * SCALE, 240 * SCALE, SCALE // 4)
    assert 60 < touch(after(180, typical=typical)) < Fraction(601, 10)
    assert touch(Typical(RULES, seed)) == 60


def test_every_number_is_an_integer_and_sides_do_not_differ():
    rng = np.random.default_rng(4)
    one, other = Typical(RULES), Typical(RULES)
    for number in range(400):
        sizes = rng.integers(1, 400, (2, 10)).tolist()
        flow = Flow(*map(int, rng.integers(1, 900, 2)))
        up = book_of(ladder(100, sizes[0], -1), ladder(101, sizes[1], 1))
        down = book_of(ladder(-101, sizes[1], -1), ladder(-100, sizes[0], 1))
        one.work(FIRST + number * SNAP_NS, up, flow)
        other.work(FIRST + number * SNAP_NS, down, flow)

    assert one.norms.sizes.dtype == np.int64
    assert np.array_equal(one.norms.sizes, other.norms.sizes[::-1])
    assert one.norms[1:] == other.norms[1:]
    assert isinstance(one.norms, Norms)
    assert NO_PRICE not in one.norms.sizes


def test_no_size_leaves_int64():
    norms = after(*[2**31 - 1] * 300, flow=Flow(2**40, 2**41)).norms

    assert norms.sizes.tolist() == [[2**26 * SCALE] * 10] * 2
    assert norms.volume == 2**26 * SCALE

"""The simulated book: levels out of sight are remembered by price, and prices that are held stay so through moves."""

from typing import Any

import numpy as np
import pytest

from spymaster.simulation.book import LEVEL, Book, Eaten, Move, Planted, Tape
from spymaster.simulation.held import ASK, BID, Hold

TICK, START = 250_000_000, 1_000
SIDES = {BID: "bid", ASK: "ask"}


def book(seed: int = 1) -> Book:
    return Book(TICK, START, (seed,))


def run(one: Book, moves: list[int], n: int = 400, planted: Planted | None = None) -> Tape:
    """Let n events happen, with moves of the price to the sides given spread among them."""
    times = np.arange(n) * 1_000_000
    at = [Move((i + 1) * n // (len(moves) + 1), side) for i, side in enumerate(moves)]
    return one.evolve(times, at, planted=planted or Planted())


def shown(tape: Tape, side: int) -> dict[int, Any]:
    """Of each price in ticks the sizes that it had, one after another, while it was in sight."""
    books = tape.levels.view(LEVEL)
    prices, sizes = books[f"{SIDES[side]}_px"] // TICK, books[f"{SIDES[side]}_sz"].astype(int)
    return {int(price): sizes[prices == price] for price in np.unique(prices)}


@pytest.mark.parametrize("side", [BID, ASK])
def test_a_level_that_leaves_the_ten_returns_with_its_numbers(side: int) -> None:
    one = book()
    away = 1 if side == BID else -1
    lost = START - 9 if side == BID else START + 1 + 9
    run(one, [])
    numbers = one.level(side, 9)
    gone = run(one, [1 - side] * 4)
    assert gone.levels.view(LEVEL)[f"{SIDES[side]}_px"][-1, 9] // TICK == lost + 4 * away
    last_seen = shown(gone, side)[lost][-1]
    back = run(one, [side] * 4)

    assert numbers[0] + numbers[1] > 20
    assert shown(back, side)[lost][0] == last_seen


def test_a_level_that_was_never_seen_has_usual_numbers() -> None:
    fresh = [shown(run(book(seed), [ASK]), ASK)[START + 11][0] for seed in range(40)]

    assert 40 < np.mean(fresh) < 70
    assert len(set(fresh)) > 10


def test_what_is_remembered_is_bounded_and_an_old_level_gives_way_to_one_far_away() -> None:
    one = book()
    run(one, [ASK] * 1_100, 6_000)
    assert one._out_of_sight._price.shape == (2, 1_024)
    assert START - 9 not in one._out_of_sight._price
    assert START + 200 in one._out_of_sight._price


@pytest.mark.parametrize("side", [BID, ASK])
def test_a_price_holds_so_many_lots_at_least_and_at_most_wherever_the_touch_goes(side: int) -> None:
    one = book()
    outwards = 1 if side == ASK else -1
    wall, thin = START + outwards * 5, START + outwards * 8
    raised = one.hold(7, [Hold(side, wall, least=400), Hold(side, thin, most=3, levels=20)])
    assert set(raised.arrival_ns.tolist()) == {7}
    assert set(raised.action.tolist()) == {b"A", b"C"}
    away, back = run(one, [1 - side] * 8 + [side] * 8, 4_000), run(one, [side] * 3 + [1 - side] * 3, 4_000)

    for tape in (away, back):
        sizes = shown(tape, side)
        assert sizes[wall].min() >= 400
        held = [price for price in sizes if (price - thin) * outwards >= 0]
        assert len(held) >= 2
        assert max(sizes[price].max() for price in held) <= 3
        assert min(sizes[price].min() for price in held) >= 1
        others = [price for price in sizes if (price - thin) * outwards < 0 and price != wall]
        assert max(sizes[price].max() for price in others) > 20
        assert (tape.traded > 0).sum() > 100
    assert len(one.hold(8, [Hold(side, wall, least=400), Hold(side, thin, most=3, levels=20)]).traded) == 0


@pytest.mark.parametrize("hold", [Hold(ASK, START + 1, least=200, levels=20), Hold(ASK, START + 1, most=3, levels=20)])
def test_each_record_of_a_hold_changes_the_level_that_it_names_and_no_other(hold: Hold) -> None:
    one = book()
    tape = one.hold(7, [hold])
    sizes = tape.levels.view(LEVEL)["ask_sz"].astype(int)
    changes = np.diff(sizes, axis=0)

    assert tape.depth.tolist() == list(range(10))
    assert (np.diag(changes) == tape.size * (1 if hold.most is None else -1)).all()
    assert (changes == np.diag(np.diag(changes))).all()
    assert (sizes[-1] == [sum(one.level(ASK, depth)) for depth in range(10)]).all()


def test_prices_that_are_let_go_are_as_others_and_are_forgotten_out_of_sight() -> None:
    one = book()
    one.hold(7, [Hold(ASK, START + 1, most=2, levels=20)])
    run(one, [BID] * 5, 2_000)
    one.hold(8, ())

    later = shown(run(one, [ASK] * 5, 8_000), ASK)
    assert later[START + 6][0] > 20, "out of sight when they were let go"
    assert later[START + 4][-1] > 20, "in sight, and grown again"


def test_a_touch_is_eaten_by_so_many_lots_each_after_as_many_have_joined() -> None:
    one = book()
    tape = run(one, [], 400, Planted(Eaten(ASK, 40, 25)))
    eaten = tape.traded[(tape.traded > 0) & (tape.side == ASK) & (tape.price_e9 == (START + 1) * TICK)]

    assert len(eaten) == 40
    assert eaten.sum() == pytest.approx(40 * 25, rel=0.1)
    assert (tape.traded[tape.side == BID] > 0).any(), "the other side trades as ever"


def test_a_move_through_levels_is_one_instant_that_finds_one_book() -> None:
    one = book()
    times = np.array([5, 5, 5, 5, 9, 10, 11, 12])
    tape = one.evolve(times, [Move(0, ASK, 4)])
    books = tape.levels.view(LEVEL)

    assert tape.last.tolist() == [False] * 3 + [True] * 5
    assert tape.before[:4].tolist() == [0] * 4
    assert (tape.price_e9[:4] // TICK).tolist() == [START + 1, START + 2, START + 3, START + 4]
    assert tape.traded[:4].tolist() == books["ask_sz"][0, :4].tolist()
    assert books["ask_px"][tape.after[3], 0] // TICK == START + 5
    assert books["bid_px"][-1, 0] // TICK == START + 4 == one.bid
    assert tape.action.tolist() == [b"C"] * 4 + [b"A"] * 4


def test_typical_sizes_and_volume_are_learnt_while_nothing_is_planted() -> None:
    one = book()
    for _ in range(20):
        run(one, [ASK, BID], 2_000)
    size, volume = one.typical, one.traded(ASK, 1_000)
    assert ((size > 20) & (size < 110)).all()
    assert 50 < volume < 400

    one.hold(7, [Hold(ASK, START + 1, most=2, levels=20)])
    run(one, [], 2_000)
    assert (one.typical == size).all()
    assert one.traded(ASK, 1_000) == volume

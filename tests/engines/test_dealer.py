"""Dealers' gamma: what stands in the docstring is what a plain script finds; `test_gamma_by_sql.py` has the rest."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.board import Board
from spymaster.engines.dealer import PRICES, Dealer, _crossing
from spymaster.engines.fuel import AMPLIFY, DAMPEN, NEUTRAL
from spymaster.engines.option_rows import option_rows
from spymaster.engines.profile import profile_named
from spymaster.simulation.source import SimulatedMarket
from tests.engines.option_batches import CALL, PUT, S, batches, quote, snap, spots, statistic, trade
from tests.engines.option_tapes import definition_batch, quote_batch, recorded, snaps, trade_batch
from tests.sim_recording import NOON

ES = profile_named("ES")
RULES, TICK = ES.options, ES.market.tick
STRIKES = range(6_700, 7_105, 10)
NAMES = [f"{root} {right}{strike}" for root in ("E1BZ5", "ESZ5") for right in "CP" for strike in STRIKES]


def standing(swapped=False):
    """Return what is open: by strike, and more calls above than below; and volatilities of a smile."""
    random, rows = np.random.default_rng(3), []
    for name in NAMES:
        strike, call = int(name.split()[1][1:]), name.split()[1][0] == "C"
        quantity = int(random.integers(100, 900)) + (3_000 if call == (strike > 6_880) else 0)
        symbol = name.replace(" C", " x").replace(" P", " C").replace(" x", " P") if swapped else name
        rows += [
            statistic(symbol, "open_interest", quantity=quantity),
            statistic(symbol, "volatility", price=0.13 + abs(strike - 6_900) / 5_000),
        ]
    return rows


def looked(spot=6_897.5, swapped=False, shuffled=False):
    board, dealer = Board(RULES, "ESZ5"), Dealer(RULES, TICK)
    rows = standing(swapped)
    if shuffled:
        rows = [{**row, "capture_seq": at} for at, row in enumerate(rows)]
        np.random.default_rng(9).shuffle(rows)
    prints = board.work(snap(1), option_rows(batches(statistics=rows)), spots((4, spot)))
    dealer.work(snap(1), prints, board, spot)
    return board, dealer


def plain_gamma(spot, strike, expires_ns, vol, now_ns):
    """Black-76, from the book."""
    years = (expires_ns - now_ns) / (365 * 86_400 * 1e9)
    deviation = vol * math.sqrt(years)
    d1 = math.log(spot / strike) / deviation + deviation / 2
    return math.exp(-RULES.rate * years) * math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi) / (spot * deviation)


def plain_position(at_price):
    """Return call and put gamma by strike at a price."""
    expires = {"E1BZ5": snap(0) + 4 * 3_600 * S, "ESZ5": 1_766_154_600 * S}
    said = {(row["option_symbol"], row["kind"]): row for row in standing()}
    calls, puts = dict.fromkeys(STRIKES, 0.0), dict.fromkeys(STRIKES, 0.0)
    for name in NAMES:
        strike = int(name.split()[1][1:])
        vol, held = said[name, "volatility"]["price"], said[name, "open_interest"]["quantity"]
        gamma = plain_gamma(at_price, strike, expires[name.split()[0]], vol, snap(1)) * held * 50
        if name.split()[1][0] == "C":
            calls[strike] += gamma
        else:
            puts[strike] -= gamma
    return calls, puts


def test_walls_and_flip_by_open_interest_are_those_of_a_plain_script():
    spot = 6_897.5
    _, dealer = looked(spot)
    calls, puts = plain_position(spot)
    profile = []
    for step in range(PRICES):
        price = spot + (step - 99.5) * 2.0
        profile.append((price, sum(map(sum, (one.values() for one in plain_position(price))))))
    crossings = [
        low + (high - low) * below / (below - above)
        for (low, below), (high, above) in pairwise(profile)
        if below * above < 0
    ]

    strikes = dealer.strikes()
    assert strikes.strike.tolist() == list(STRIKES)
    assert strikes.calls == pytest.approx(list(calls.values()), rel=1e-6, abs=1e-3)
    assert strikes.puts == pytest.approx(list(puts.values()), rel=1e-6, abs=1e-3)
    assert dealer.walls() == (max(calls, key=calls.get), min(puts, key=puts.get))
    assert dealer.flip() == pytest.approx(min(crossings, key=lambda price: abs(price - spot)), abs=1e-4)


def test_calls_and_puts_swapped_swap_the_walls_and_negate_the_position_and_leave_the_flip():
    (_, one), (_, other) = looked(), looked(swapped=True)

    assert other.strikes().by_open_interest.tolist() == (-one.strikes().by_open_interest).tolist()
    assert other.walls() == one.walls()[::-1]
    assert other.flip() == one.flip()


def test_the_order_in_which_rows_come_changes_no_bit():
    (_, one), (_, other) = looked(), looked(shuffled=True)

    assert [c.tobytes() for c in other.strikes()] == [c.tobytes() for c in one.strikes()]
    assert (other.walls(), other.flip()) == (one.walls(), one.flip())


@pytest.mark.parametrize(
    ("spot", "walls"), [(6_897.5, (6_900.0, 6_900.0)), (6_892.5, (6_890.0, 6_890.0)), (6_895.0, (6_900.0, 6_890.0))]
)
def test_of_two_strikes_with_as_much_gamma_the_wall_is_the_nearer_then_the_outer_one(spot, walls):
    dealer = Dealer(RULES, TICK)
    dealer._strikes, dealer._spot, dealer._by_interest = np.array([6_890.0, 6_900.0]), spot, True
    dealer._position = np.array([[5, 5], [-5, -5], [0, 0], [0, 0]])

    assert dealer.walls() == walls


@pytest.mark.parametrize(
    ("total", "flip"),
    [
        ([0, 0, 4, 4, -4, 0], 103.5), ([0, 3, 3, 0, 0], None), ([0, 0, -2, -2, -2, 0], None), ([6, 0, 0, -6], 101.5),
        ([1, -1, -1, -1, -1, -1, 1], 100.5), ([0, 0], None), ([], None),
    ],
)  # fmt: skip
def test_the_flip_lies_between_opposite_signs_and_zeros_are_none(total, flip):
    profile = np.array(total, np.int64)
    prices = 100.0 + np.arange(len(total))

    assert _crossing(prices, profile, 100.0) == flip
    assert _crossing(prices, -profile, 100.0) == flip


def test_by_volume_where_no_open_interest_is_known():
    board, dealer = Board(RULES, "ESZ5"), Dealer(RULES, TICK)
    trades = [trade(5, "E1BZ5 C6910", 8.0, size=30), trade(6, "E1BZ5 P6890", 9.0, size=20), trade(7, PUT, 12.0, size=5)]
    prints = board.work(snap(1), option_rows(batches(trades=trades)), spots((4, 6_900.0)))
    dealer.work(snap(1), prints, board, 6_900.0)

    strikes = dealer.strikes()
    assert not strikes.calls.any()
    assert (strikes.calls_by_volume > 0).tolist() == [False, False, True]
    assert (strikes.puts_by_volume < 0).tolist() == [True, True, False]
    assert dealer.walls() == (6_910.0, 6_890.0)
    assert 6_880 < dealer.flip() < 6_910


def test_before_anything_is_known_there_is_neither_wall_nor_flip():
    board, dealer = Board(RULES, "ESZ5"), Dealer(RULES, TICK)
    prints = board.work(snap(1), option_rows({}), spots())
    dealer.work(snap(1), prints, board, None)

    assert (dealer.walls(), dealer.flip(), dealer.pressure(), dealer.pressure_change()) == (
        (None, None),
        None,
        0.0,
        0.0,
    )
    assert dealer.fuel().effect.tolist() == [NEUTRAL]
    assert dealer.fuel_at(np.array([6_900.0])).effect.tolist() == [NEUTRAL]


def test_a_look_stands_until_the_next_minute_of_the_clock():
    board, dealer = Board(RULES, "ESZ5"), Dealer(RULES, TICK)
    prints = board.work(snap(1), option_rows(batches(statistics=standing())), spots((4, 6_897.5)))
    dealer.work(snap(1), prints, board, 6_897.5)
    before = dealer.flip()
    nothing = board.work(snap(239), option_rows({}), spots())
    dealer.work(snap(239), nothing, board, 6_850.0)
    assert (dealer.looked_ns, dealer.flip()) == (snap(1), before)
    nothing = board.work(snap(240), option_rows({}), spots())
    dealer.work(snap(240), nothing, board, 6_850.0)
    assert dealer.looked_ns == snap(240)
    assert dealer.flip() != before


@cache
def market():
    return recorded(SimulatedMarket(41, 500, NOON, ()), 150, "ES")


def rows_of(tape):
    return {
        "options.trades": trade_batch(tape), "options.quotes": quote_batch(tape),
        "reference.instruments": definition_batch(tape, RULES.multiplier),
    }  # fmt: skip


def walk(tape, until=None, cut=None):
    """Yield each snap's figures; each snap's rows in one batch, or cut and in any order."""
    board, dealer, spot = Board(RULES, "ESZ5"), Dealer(RULES, TICK), None
    for snap_ns, found, told in snaps(tape, rows_of(tape), 4 * 250_000_000):
        if until is not None and snap_ns > until:
            return
        rows = found if cut is None else {name: cut(batch) for name, (batch,) in found.items()}
        prints = board.work(snap_ns, option_rows(rows), told)
        spot = float(told.price[-1]) if len(told.price) else spot
        dealer.work(snap_ns, prints, board, spot)
        yield snap_ns, prints, dealer


def bits(dealer):
    return (
        *(column.tobytes() for column in dealer.strikes()), dealer.walls(), dealer.flip(), dealer.pressure(),
        dealer.pressure_change(), dealer.turns.newest,
        *(c.tobytes() for c in dealer.fuel_at(np.arange(6_880.0, 6_920.0, 2.5))),
    )  # fmt: skip


@cache
def walked():
    """Return all bits of each snap."""
    return {snap_ns: bits(dealer) for snap_ns, _, dealer in walk(market())}


def test_how_batches_are_cut_and_ordered_within_a_snap_changes_no_bit():
    random = np.random.default_rng(1)

    def cut(batch):
        order = random.permutation(batch.num_rows)
        pieces = np.array_split(order, random.integers(1, 4))
        return [batch.take(pa.array(piece)) for piece in pieces if len(piece)]

    whole, cut_up = walk(market(), until=snap(160)), walk(market(), until=snap(160), cut=cut)
    for (_, one, dealer), (_, other, cut_dealer) in zip(whole, cut_up, strict=True):
        assert one.sign.tobytes() == other.sign.tobytes()
        assert one.gamma.tobytes() == other.gamma.tobytes()
        assert bits(dealer) == bits(cut_dealer)


def test_what_comes_later_changes_nothing_of_a_snap():
    seen, tape = walked(), market()
    for number in (40, 101):
        at = snap(number) // S * S
        early = tape.prints["ts_ns"] <= at
        short = tape._replace(
            prints={name: column[early] for name, column in tape.prints.items()},
            quotes={name: column[tape.quotes["ts_ns"] <= at] for name, column in tape.quotes.items()},
        )
        *_, (snap_ns, _, dealer) = walk(short, until=at)
        assert bits(dealer) == seen[snap_ns]


def test_a_late_print_counts_in_the_window_of_the_snap_that_has_it():
    board, dealer = Board(RULES, "ESZ5"), Dealer(RULES, TICK)
    quoted = [quote(1, CALL, 9.5, 10.0)]
    for number, rows in (
        (1, {"quotes": quoted}),
        (8, {"trades": [trade(20, CALL, 10.0, size=4)]}),
        (241, {}),
        (247, {}),
        (248, {}),
    ):
        prints = board.work(snap(number), option_rows(batches(**rows)), spots((2, 6_900.0)))
        dealer.work(snap(number), prints, board, 6_900.0)
        assert (dealer.pressure() != 0) == (8 <= number < 242)


def test_fuel_of_a_level_is_that_of_the_strikes_near_it():
    board, dealer = Board(RULES, "ESZ5"), Dealer(RULES, TICK)
    bought = [trade(5 + at, CALL, 10.0, opt_bid=9.0, opt_ask=10.0) for at in range(30)]
    sold = [trade(5 + at, "E1BZ5 C6950", 1.0, 9, opt_bid=1.0, opt_ask=1.2) for at in range(30)]
    prints = board.work(snap(1), option_rows(batches(trades=[*bought, *sold])), spots((4, 6_900.0)))
    dealer.work(snap(1), prints, board, 6_900.0)

    found = dealer.fuel_at(np.array([6_880.0, 6_885.0, 6_915.0, 6_925.0, 6_935.0, 6_965.0]))
    assert found.effect.tolist() == [NEUTRAL, AMPLIFY, AMPLIFY, NEUTRAL, DAMPEN, DAMPEN]
    assert found.speak.tolist() == pytest.approx([0, 30, 30, 0, 30, 30], rel=1e-3)
    assert dealer.shares().prints == 60

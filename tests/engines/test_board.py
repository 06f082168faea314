"""The board: each print is valued by what was known at its place, and by nothing that came later."""

import math
from datetime import date
from statistics import NormalDist

import numpy as np
import pytest

from spymaster.engines import board as board_module
from spymaster.engines import option_model
from spymaster.engines.aggressor import IV, QUOTE, TICK, UNKNOWN
from spymaster.engines.board import NEAR, NONE, PRINT, SNAPSHOT, STRIKE, UNKNOWN_GAMMA, Board
from spymaster.engines.option_model import GAMMA_SCALE
from spymaster.engines.option_rows import option_rows
from spymaster.engines.profile import profile_named
from tests.engines.option_batches import (
    CALL,
    NOON,
    PUT,
    S,
    batches,
    definition,
    greeks,
    quote,
    snap,
    spots,
    statistic,
    trade,
)

RULES, NORMAL = profile_named("ES").options, NormalDist()
FOUR_PM = NOON + 4 * 3_600 * S


def worked(board, number, told=(), **rows):
    return board.work(snap(number), option_rows(batches(**rows)), spots(*told))


def test_a_print_is_valued_by_the_last_spot_and_quote_before_it_in_the_order_of_events():
    board = Board(RULES, "ESZ5")
    quotes = [quote(10, CALL, 9.5, 10.0), quote(30, CALL, 9.0, 9.4)]
    trades = [trade(5, CALL, 10.0), trade(10, CALL, 10.0), trade(29, CALL, 10.0), trade(31, CALL, 9.0)]
    found = worked(board, 1, [(4, 6_900.0), (20, 6_901.0), (29.5, 6_990.0)], quotes=quotes, trades=trades)

    assert found.how.tolist() == [UNKNOWN, QUOTE, QUOTE, QUOTE]
    assert found.sign.tolist() == [0, 1, 1, -1]
    years = (FOUR_PM - found.ts_ns) / option_model.NS_PER_YEAR
    for at, spot in enumerate((6_900.0, 6_900.0, 6_901.0)):
        one = option_model.Terms(
            *(np.array([value]) for value in (spot, 6_900.0, years[at], np.exp(-0.04 * years[at]), True))
        )
        assert found.vol[at] == pytest.approx(option_model.implied(one, np.array([10.0]), 0.05)[0], rel=1e-9)
        gamma = option_model.value(one, found.vol[at : at + 1]).gamma[0]
        assert found.gamma[at] == pytest.approx(gamma * GAMMA_SCALE, abs=1)


def test_a_print_that_comes_late_meets_the_spot_and_the_quote_of_its_time():
    board = Board(RULES, "ESZ5")
    quotes = [quote(10, CALL, 9.5, 10.0), quote(200, CALL, 8.0, 8.4)]
    on_time = worked(board, 1, [(4, 6_900.0), (200, 6_950.0)], quotes=quotes, trades=[trade(20, CALL, 10.0)])
    late = worked(board, 2, [(251, 6_960.0)], quotes=[quote(252, CALL, 7.0, 7.5)], trades=[trade(20, CALL, 10.0)])

    assert (late.sign[0], late.how[0], late.vol[0], late.gamma[0]) == (
        on_time.sign[0], on_time.how[0], on_time.vol[0], on_time.gamma[0],
    )  # fmt: skip


def test_the_gamma_of_an_option_on_a_stock_is_with_regard_to_its_price_and_not_to_its_forward():
    board = Board(profile_named("SPY").options, "SPY")
    name, month = "O:SPY260109C00690000", 38 * 86_400 * S + 4 * 3_600 * S
    one = trade(5, CALL, 12.0, option_symbol=name, contract=None, strike=690.0, exp_date=date(2026, 1, 9))
    found = board.work(snap(1), option_rows(batches(trades=[one])), spots((4, 690.0), included=False))

    root, rate = math.sqrt((month - 5_000_000) / option_model.NS_PER_YEAR), 0.04
    d1 = (rate * root * root + found.vol[0] ** 2 / 2 * root * root) / (found.vol[0] * root)  # Black-Scholes, S = K
    gamma = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi) / (690.0 * found.vol[0] * root)
    price = 690.0 * (NORMAL.cdf(d1) - math.exp(-rate * root * root) * NORMAL.cdf(d1 - found.vol[0] * root))
    assert price == pytest.approx(12.0, abs=1e-6)
    assert found.gamma[0] == pytest.approx(gamma * GAMMA_SCALE, rel=1e-6)


def test_a_stocks_quote_of_the_very_time_of_a_print_came_after_it():
    board = Board(RULES, "ESZ5")
    rows = option_rows(batches(trades=[trade(5, CALL, 10.0), trade(6, CALL, 10.0)]))
    found = board.work(snap(1), rows, spots((5, 6_900.0), included=False))

    assert (found.gamma != UNKNOWN_GAMMA).tolist() == [False, True]


def test_the_quote_on_the_row_goes_before_any_other():
    board = Board(RULES, "ESZ5")
    given = trade(20, CALL, 9.0, opt_bid=9.0, opt_ask=9.5)
    found = worked(board, 1, [(4, 6_900.0)], quotes=[quote(10, CALL, 8.0, 9.0)], trades=[given])

    assert (found.sign[0], found.how[0]) == (-1, QUOTE)


def test_volatility_is_of_the_print_then_of_its_strike_then_of_the_nearest_of_its_expiration():
    board = Board(RULES, "ESZ5")
    trades = [
        trade(5, "E1BZ5 C6800", 100.0),  # at its intrinsic value, and nothing is known yet
        trade(6, CALL, 10.0),
        trade(7, PUT, 0.10),  # less than 5 ticks
    ]
    first = worked(board, 1, [(4, 6_900.0)], trades=trades)
    second = worked(
        board, 2, [(251, 6_900.0)], trades=[trade(252, "E1BZ5 C6800", 100.0), trade(253, "E2BZ5 C6900", 0.1)]
    )

    assert first.vol_from.tolist() == [NONE, PRINT, STRIKE]
    assert first.vol[2] == first.vol[1]
    assert first.gamma[0] == UNKNOWN_GAMMA
    assert second.vol_from.tolist() == [NEAR, NONE]  # of the other expiration nothing is known
    assert second.vol[0] == first.vol[1]


def test_a_vendors_volatility_counts_from_the_next_snap_on_and_until_it_is_old():
    board = Board(RULES, "ESZ5")
    told = [greeks(CALL, implied_volatility=0.5, open_interest=7)]
    same = worked(board, 1, [(4, 6_900.0)], greeks=told, trades=[trade(6, CALL, 10.0)])
    fresh = worked(board, 2, [(251, 6_900.0)], trades=[trade(252, CALL, 10.0)])
    old = worked(board, 60, [(14_900, 6_900.0)], trades=[trade(14_999, CALL, 10.0)])

    assert [one.vol_from[0] for one in (same, fresh, old)] == [PRINT, SNAPSHOT, PRINT]
    assert fresh.vol[0] == 0.5


def test_the_exchanges_volatility_counts_where_nothing_better_is_known():
    board = Board(RULES, "ESZ5")
    worked(board, 1, [(4, 6_900.0)], trades=[trade(5, CALL, 10.0)], statistics=[
        statistic(CALL, "volatility", price=0.9), statistic("E1BZ5 C6950", "volatility", price=0.3),
        statistic("E1BZ5 C6960", "volatility", price=0.4, update_code=2),
    ])  # fmt: skip
    found = worked(
        board, 2, trades=[trade(251, PUT, 0.05), trade(252, "E1BZ5 P6950", 50.0), trade(253, "E1BZ5 P6960", 60.0)]
    )

    assert found.vol_from.tolist() == [STRIKE, STRIKE, NEAR]
    assert found.vol[0] != 0.9
    assert found.vol[1:].tolist() == [0.3, 0.3]


@pytest.mark.parametrize("more", [{"underlying": "ESH6"}, {"unit_of_measure_qty": 10.0}])
def test_an_option_on_another_contract_or_of_another_size_counts_for_nothing(more):
    board = Board(RULES, "ESZ5")
    found = worked(
        board, 1, [(4, 6_900.0)], definitions=[definition(CALL, FOUR_PM, **more)], trades=[trade(5, CALL, 10.0)]
    )

    assert found.gamma.tolist() == [UNKNOWN_GAMMA]
    assert not board.counted(found.slot, NOON).any()


def test_a_definition_knows_better_when_an_option_expires_than_its_name():
    board, minute = Board(RULES, "ESZ5"), 60 * S
    worked(board, 1, trades=[trade(5, CALL, 10.0)])
    assert board.options.expires_ns.tolist() == [FOUR_PM]
    worked(board, 2, definitions=[definition(CALL, FOUR_PM + minute)])
    assert board.options.expires_ns.tolist() == [FOUR_PM + minute]


def test_an_option_counts_until_it_expires_and_from_so_many_days_before():
    board = Board(RULES, "ESZ5")
    day = 86_400 * S
    near, far = NOON + RULES.expiry_days * day, NOON + (RULES.expiry_days + 2) * day
    worked(
        board, 0, definitions=[definition(CALL, FOUR_PM), definition("EWF6 C6900", near), definition("EWF6 C6950", far)]
    )

    slots = np.arange(2)
    assert board.names == (CALL, "EWF6 C6900")
    assert board.counted(slots, NOON - 1).tolist() == [True, False]
    assert board.counted(slots, NOON).tolist() == [True, True]
    assert board.counted(slots, FOUR_PM - 1).tolist() == [True, True]
    assert board.counted(slots, FOUR_PM).tolist() == [False, True]


def test_options_beyond_the_most_are_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(board_module, "MOST_CONTRACTS", 2)
    board = Board(RULES, "ESZ5")
    names = [CALL, PUT, "E1BZ5 C6950"]
    found = worked(board, 1, [(4, 6_900.0)], trades=[trade(5 + at, name, 10.0) for at, name in enumerate(names)])

    assert board.names == (CALL, PUT)
    assert (len(found.ts_ns), board.refused, board.unnamed) == (2, 1, 1)


def test_what_is_no_print_is_none_and_what_has_no_terms_is_counted():
    board = Board(RULES, "ESZ5")
    spread = trade(5, CALL, 10.0) | {
        "option_symbol": "UD:1V: GN 2012345",
        "strike": None,
        "right": None,
        "exp_date": None,
    }
    found = worked(board, 1, [(4, 6_900.0)], trades=[trade(5, CALL, None), trade(6, CALL, 10.0, size=0), spread])

    assert len(found.ts_ns) == 0
    assert board.unnamed == 1


def test_without_quotes_a_print_is_judged_by_its_options_volatility_then_by_its_tick():
    board = Board(RULES, "ESZ5")
    trades = [
        trade(5, CALL, 10.0), trade(6, CALL, 10.1), trade(7, CALL, 9.9),
        trade(8, "E1BZ5 C6500", 390.0), trade(9, "E1BZ5 C6500", 389.0),  # below their intrinsic value
    ]  # fmt: skip
    found = worked(board, 1, [(4, 6_900.0)], trades=trades)

    assert found.how.tolist() == [UNKNOWN, IV, IV, UNKNOWN, TICK]
    assert found.sign.tolist() == [0, 1, -1, 0, -1]


def test_what_stands_open_is_by_expiration_and_strike():
    board = Board(RULES, "ESZ5")
    said = [
        statistic(CALL, "open_interest", quantity=70), statistic(PUT, "open_interest", quantity=40),
        statistic(CALL, "open_interest", quantity=60, capture_seq=9),
        statistic("ESZ5 C6900", "open_interest", quantity=5),
    ]  # fmt: skip
    worked(board, 1, [(4, 6_900.0)], trades=[trade(5, PUT, 10.0, size=3)], statistics=said)
    standing = board.standing(snap(1), 6_900.0)

    assert standing.interest.tolist() == [[60, 40], [5, 0]]
    assert standing.volume.tolist() == [[0, 3], [0, 0]]
    assert board.strikes[standing.row].tolist() == [6_900.0, 6_900.0]

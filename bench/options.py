"""Claim: one core takes 10,000 option prints to implied volatility and gamma in less than 20 ms, and 5,000 contracts'
positions to a profile of 200 prices in less than 50 ms.

Prints are the simulated SPY's of four hours before the close, at tick prices, each with its own spot and time; those
without an answer (deep in the money, mostly) are asked too. The baseline takes the same prints by 100, which is what a
snap of a busy second has. The profile is of strikes 10 % around the money and expiries of up to three months. Figures
are the thread's processor time, and the wall's beside it, in which the machine's others stand too.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from bench.rounds import Figures, interleave, report, spread
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.option_model import Terms, gamma_profile, implied, value, years_between
from spymaster.simulation.options import SPY_RATE, OptionCrowd, spy_board

ROUNDS = 9
PRINTS, PIECE = 10_000, 100
CONTRACTS, PRICES = 5_000, 200
BEGIN_NS = 1_766_422_800_000_000_000  # 2025-12-22 12:00 in New York
SPOT_E4 = 6_800_000
LEAST = 0.05


def prints() -> tuple[Terms, np.ndarray]:
    random = np.random.default_rng(1)
    times = BEGIN_NS + np.sort(random.integers(0, 4 * 3_600 * NS_PER_SECOND, 2 * PRINTS))
    spot_e4 = SPOT_E4 + np.cumsum(random.integers(-100, 101, 2 * PRINTS))
    board = spy_board(SPOT_E4, BEGIN_NS)
    trades = OptionCrowd((1,)).trade(board, times, spot_e4)
    number, arrival_ns, ticks = (column[:PRINTS] for column in (trades.number, trades.arrival_ns, trades.price))
    spot = spot_e4[np.searchsorted(times, arrival_ns)] / 10_000
    years = years_between(arrival_ns, board.expiration_ns[number])
    discount = np.exp(-SPY_RATE * years)
    terms = Terms(spot / discount, board.strikes[number].astype(np.float64), years, discount, board.is_call[number])
    return terms, ticks / 100


def position() -> tuple[Terms, np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    strike = 6_800.0 * (1 + np.round(random.uniform(-0.1, 0.1, CONTRACTS), 3))
    same = np.ones(CONTRACTS)
    years = np.round(random.uniform(0.3, 90, CONTRACTS)) / 365 + 1e-3
    terms = Terms(6_800.0 * same, strike, years, same, random.random(CONTRACTS) < 0.5)
    return terms, random.uniform(0.1, 0.3, CONTRACTS), random.integers(-20_000, 20_000, CONTRACTS)


def timed(work: Callable[[], object], name: str) -> Figures:
    wall, own = time.perf_counter(), time.thread_time()
    work()
    own, wall = time.thread_time() - own, time.perf_counter() - wall
    return {f"{name}_ms": own * 1e3, f"{name}_wall_ms": wall * 1e3}


def solve(terms: Terms, price: np.ndarray, piece: int) -> None:
    for begin in range(0, len(price), piece):
        some = np.arange(begin, min(begin + piece, len(price)))
        own = terms.of(some)
        value(own, implied(own, price[some], LEAST))


def solving(terms: Terms, price: np.ndarray, piece: int) -> Figures:
    figures = timed(partial(solve, terms, price, piece), "prints")
    return figures | {"prints_per_s": len(price) / figures["prints_ms"] * 1e3}


def main() -> None:
    terms, price = prints()
    results: dict[str, object] = {
        "prints": interleave(
            partial(solving, terms, price, PRINTS), partial(solving, terms, price, PIECE), ROUNDS, "prints_per_s"
        ),
        "share_solved": round(float((~np.isnan(implied(terms, price, LEAST))).mean()), 3),
    }
    terms, vol, contracts = position()
    prices = 6_800.0 * np.linspace(0.95, 1.05, PRICES)
    work = partial(gamma_profile, terms, vol, contracts, 6_800.0, prices)
    results["profile"] = spread([timed(work, "profile") for _ in range(ROUNDS + 1)][1:])
    report("10,000 option prints in less than 20 ms, a profile of 5,000 contracts in less than 50 ms", results)


if __name__ == "__main__":
    main()

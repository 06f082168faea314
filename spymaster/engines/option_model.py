"""What an option is worth, how it moves with its underlying, and the volatility that a price implies: Black-76.

    price = discount * (forward * N(d1) - strike * N(d2)) for a call
    delta = discount * N(d1)                              and of a put: discount * (N(d1) - 1)
    gamma = discount * n(d1) / (forward * deviation)      of both
    d1, d2 = log(forward / strike) / deviation +- deviation / 2,    deviation = vol * sqrt(years)

`forward` is the future for an option on a future; for one on a stock it is spot / discount, which is Black-Scholes
without dividends, and with regard to the spot delta is delta / discount and gamma is gamma / discount**2. Exercise
before expiration is worth nothing here: for ES and SPY it is worth something deep in the money or before a dividend.

What is computed is the one of call and put that is out of the money; the other follows by put-call parity, so that no
digit of the time value is lost in the intrinsic value. An unknown number is NaN, never 0, and `unsolved` says why. All
arithmetic is of `exact`, number by number: a result has the same bits on every machine, in whatever batch it is asked.

There are two bodies, in numpy here and compiled by numba, equal in every bit: `fastest_model` says which is used.
"""

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.exact import ROOT_2PI, Floats, exp, hart, log

NS_PER_YEAR: Final = 365 * 86_400 * 1_000_000_000
REASONS: Final = ("solved", "unknown", "expired", "no time value", "too dear")  # by code, of `unsolved`
SOLVED, UNKNOWN, EXPIRED, NO_TIME_VALUE, TOO_DEAR = range(len(REASONS))
GAMMA_SCALE: Final = 10**9  # of `gamma_profile`: parts of one gamma

_BLOCK: Final = 8_192  # numbers worked at once: what they need stays in a core's cache
FARTHEST: Final = 37.0  # deviations; beyond, a density is 1e-298 and no product of it a float64 in full
DEAREST: Final = 0.999  # of the most that an option can be worth; more is no price, and its volatility has no end
WIDEST: Final = 12.0  # deviation, above that of `DEAREST`
STEPS: Final = 60  # by then halving the bracket alone has found it
CLOSE: Final = 1e-7  # of the deviation: an error of that size is cubed by the step that shows it
ROUNDING: Final = 1e-9  # points by which a time value may fall short of the least one: 5.30 - 5.25 is below 0.05


class Terms(NamedTuple):
    """Options, each with its underlying at a moment; float64 arrays of shape (n,).

    Attributes:
        forward: price of the underlying for the time of expiration, in points or dollars; more than 0.
        strike: more than 0.
        years: to expiration.
        discount: what 1 at expiration is worth now; 1 without interest.
        is_call: bool.
    """

    forward: Floats
    strike: Floats
    years: Floats
    discount: Floats
    is_call: NDArray[np.bool_]

    def of(self, which: NDArray[np.intp]) -> "Terms":
        """Return the terms of some of the options, by place."""
        forward, strike, years, discount, is_call = self
        return Terms(forward[which], strike[which], years[which], discount[which], is_call[which])


class Worth(NamedTuple):
    """Model values of n options; NaN where the terms or the volatility say nothing, or the option has expired.

    Attributes:
        price: discounted, in points or dollars.
        delta: per point of the forward, discounted; negative for a put.
        gamma: change of delta per point of the forward.
    """

    price: Floats
    delta: Floats
    gamma: Floats


def years_between(now_ns: int | NDArray[np.int64], expiry_ns: NDArray[np.int64]) -> Floats:
    """Return years of 365 days from one time to another; 0 or less once the option has expired."""
    return (expiry_ns - now_ns) / NS_PER_YEAR


class Model(NamedTuple):
    """One body of the model: `exact.exp`, `value` and `implied`."""

    exp: Callable[[Floats], Floats]
    value: Callable[[Terms, Floats], Worth]
    implied: Callable[[Terms, Floats, float | Floats], Floats]


@lru_cache(maxsize=1)
def fastest_model() -> Model:
    """Return the model as numba compiles it, or as it stands here where numba has no package."""
    if importlib.util.find_spec("numba") is None:
        return IN_NUMPY
    from spymaster.engines import option_model_compiled  # noqa: PLC0415 - loading numba takes most of a second

    return option_model_compiled.load()


def value(terms: Terms, vol: Floats) -> Worth:
    """Value options at their volatilities, 0.2 for 20 % a year."""
    return fastest_model().value(terms, vol)


def implied(terms: Terms, price: Floats, least_time_value: float | Floats) -> Floats:
    """Return the volatility at which the model has these prices; NaN where `unsolved` has a reason.

    Args:
        terms: of the options, when the prices were.
        price: of each, in points or dollars.
        least_time_value: in the same. Below it a price says nothing: half a tick more or less is another volatility.
    """
    return fastest_model().implied(terms, price, least_time_value)


def _value_all(terms: Terms, vol: Floats) -> Worth:
    out = Worth(*(np.full(len(vol), np.nan) for _ in Worth._fields))
    with np.errstate(invalid="ignore"):
        known = np.flatnonzero(_live(terms) & (vol > 0) & (vol < np.inf))
    for some in _blocks(known):
        worth = _value(terms.of(some), vol[some])
        for column, numbers in zip(out, worth, strict=True):
            column[some] = numbers
    return out


def _imply_all(terms: Terms, price: Floats, least_time_value: float | Floats) -> Floats:
    vol = np.full(len(price), np.nan)
    for some in _blocks(np.flatnonzero(unsolved(terms, price, least_time_value) == SOLVED)):
        own = terms.of(some)
        low = np.minimum(own.forward, own.strike)
        share = _time_value(own, price[some]) / (own.discount * low)
        vol[some] = _solve(np.abs(log(own.forward / own.strike)), share) / np.sqrt(own.years)
    return vol


IN_NUMPY: Final = Model(exp, _value_all, _imply_all)


def unsolved(terms: Terms, price: Floats, least_time_value: float | Floats) -> NDArray[np.int8]:
    """Return why each price has no implied volatility, as a place in `REASONS`; SOLVED where it has one.

    UNKNOWN: a term or the price is no finite number, or not one above 0. EXPIRED: no time is left. NO_TIME_VALUE: less
    than the least, as deep in the money or below the intrinsic value. TOO_DEAR: as much as the underlying, or more.
    """
    with np.errstate(invalid="ignore"):
        whole = (price > 0) & (price < np.inf) & (np.abs(terms.years) < np.inf)
        for column in (terms.forward, terms.strike, terms.discount):
            whole &= (column > 0) & (column < np.inf)
        over = _time_value(terms, price)
        most = terms.discount * np.minimum(terms.forward, terms.strike) * DEAREST
        why = np.where(over > most, TOO_DEAR, SOLVED)
        why[~((over > 0) & (over >= least_time_value - ROUNDING))] = NO_TIME_VALUE
    why[terms.years <= 0] = EXPIRED
    why[~whole] = UNKNOWN
    return why.astype(np.int8)


def gamma_profile(
    terms: Terms, vol: Floats, contracts: NDArray[np.int64], spot: float, prices: Floats
) -> NDArray[np.int64]:
    """Return the gamma of a position as it would be at other prices of the underlying, all else as it is now.

    Each forward moves in the proportion of its price to the spot, and gamma is with regard to that price. The sum is of
    integers, so that no order of the options changes it: what one contract has is rounded to 1 / GAMMA_SCALE.

    Args:
        terms: of n options, as the underlying is at `spot`.
        vol: of each; an option without one, or expired, counts nothing.
        contracts: of each, signed; times gamma 9e9 in total at most, so that the sum stays in int64.
        spot: price of the underlying, more than 0.
        prices: of the underlying, shape (m,), each more than 0.

    Returns:
        Change of delta per point of the underlying, in contracts / GAMMA_SCALE, shape (m,); without a multiplier.
    """
    with np.errstate(invalid="ignore"):
        known = np.flatnonzero(_live(terms) & (vol > 0) & (vol < np.inf) & (contracts != 0))
    moves, nearer = log(prices / spot), spot / prices
    total = np.zeros(len(prices), np.int64)
    for some in _blocks(known, max(1, _BLOCK // len(prices))):
        forward, strike, years, discount, _ = terms.of(some)
        deviation = vol[some] * np.sqrt(years)
        at_spot = log(forward / strike) / deviation + deviation / 2
        height = discount / (deviation * ROOT_2PI) * (forward / spot) * (GAMMA_SCALE / spot)
        above = moves * (1 / deviation)[:, None]  # options by prices: what is long lies inside
        above += at_spot[:, None]
        gamma = _bell(np.abs(above, out=above))
        gamma *= height[:, None]
        gamma *= nearer
        total += contracts[some] @ np.rint(gamma, out=gamma).astype(np.int64)
    return total


def _live(terms: Terms) -> NDArray[np.bool_]:
    live = (terms.years > 0) & (terms.years < np.inf)
    for column in (terms.forward, terms.strike, terms.discount):
        live &= (column > 0) & (column < np.inf)
    return live


def _blocks(places: NDArray[np.intp], size: int = _BLOCK) -> list[NDArray[np.intp]]:
    return [places[begin : begin + size] for begin in range(0, len(places), size)]


def _time_value(terms: Terms, price: Floats) -> Floats:
    """Return the price of the option out of the money, by parity."""
    ahead = np.where(terms.is_call, terms.forward - terms.strike, terms.strike - terms.forward)
    return price - terms.discount * np.maximum(ahead, 0.0)


def _value(terms: Terms, vol: Floats) -> Worth:
    forward, strike, years, discount, is_call = terms
    deviation = vol * np.sqrt(years)
    low = np.minimum(forward, strike)
    likely, lost, bell = _sides(np.abs(log(forward / strike)), deviation)
    ahead = np.where(is_call, forward - strike, strike - forward)
    # In the words of the one out of the money: `likely` is N(d1) of a call, and N(-d2) of a put.
    in_money = np.where(forward < strike, likely, 1 - lost * (low / forward))
    return Worth(
        price=discount * (low * (likely - lost) + np.maximum(ahead, 0.0)),
        delta=discount * np.where(is_call, in_money, in_money - 1),
        gamma=discount * bell / ROOT_2PI * (low / forward) / (forward * deviation),
    )


def _sides(far: Floats, deviation: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what the option out of the money is made of: its time value is low * (likely - lost).

    Args:
        far: |log(forward / strike)|.
        deviation: of the logarithm until expiration.

    Returns:
        `likely`, the probability that multiplies the lower of forward and strike; `lost`, the one that multiplies the
        higher, times higher / lower; and exp(-d**2 / 2) of the former. Both densities are the same, up to that factor:
        one exponential does for all.
    """
    shift = far / deviation
    upper = deviation / 2 - shift
    sizes = np.stack([np.minimum(np.abs(upper), FARTHEST), np.minimum(deviation / 2 + shift, 1e3 * FARTHEST)])
    bell = _bell(sizes[0])
    above, below = hart(sizes)
    tail, lost = bell * above / below
    return np.where(upper > 0, 1 - tail, tail), lost, bell


def _solve(far: Floats, share: Floats) -> Floats:
    """Return the deviation at which likely - lost is `share`, number by number: none knows of the others.

    Halley's steps within a bracket. They begin at the turning point of the price as a function of the deviation, or at
    what the price would need at the money if that is higher. Nearly all are done after three to five.
    """
    deviation = np.maximum(np.sqrt(2 * far), share * ROOT_2PI)
    found = np.empty_like(share)
    low, high = np.zeros_like(share), np.full_like(share, WIDEST)
    left = np.arange(len(share))
    for _ in range(STEPS):
        likely, lost, bell = _sides(far, deviation)
        over = likely - lost - share
        low, high = np.where(over > 0, low, deviation), np.where(over > 0, deviation, high)
        newton = over / (bell / ROOT_2PI)
        bend = far * far / (deviation * deviation * deviation) - deviation / 4
        step = newton / np.maximum(1 - newton * bend / 2, 0.5)
        close = np.abs(step) <= CLOSE * deviation
        onward = deviation - step
        onward = np.where(close | ((onward > low) & (onward < high)), onward, (low + high) / 2)
        found[left] = onward
        if close.all():
            break
        wide = ~close
        left, far, share = left[wide], far[wide], share[wide]
        deviation, low, high = onward[wide], low[wide], high[wide]
    return found


def _bell(size: Floats) -> Floats:
    """Return exp(-size**2 / 2) for sizes of at least 0."""
    size = np.minimum(size, FARTHEST)
    return exp(size * size / -2)

"""What a simulated option is worth: Black-Scholes with a smile, the same to the last bit on every machine.

Only +, -, *, / and sqrt are used, which IEEE 754 rounds in one way; exp, log and the normal distribution of a C library
differ between platforms in the last bits, so they are made of these here, to about 1e-14. A put is priced by parity.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NS_PER_YEAR = 365 * 86_400 * 1_000_000_000
LEAST_NS = 60 * 1_000_000_000  # to expiration: in the last minute nothing decays any more
DAYS_PER_YEAR = 365.0

_LN2_HIGH, _LN2_LOW, _PER_LN2 = 0.693147180369123816490, 1.90821492927058770002e-10, 1.44269504088896338700
_ROOT_2PI = 2.50662827463100050242
_FARTHEST = 7.07  # standard deviations, where the approximation of the distribution ends
_BASE_VOLATILITY, _SKEW, _SMILE, _WIDEST = 0.13, 0.04, 0.012, 6.0
# Numerator and denominator of Hart's approximation to the normal distribution, highest power first.
_HART_ABOVE = (
    3.52624965998911e-2, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871, 221.213596169931,
    220.206867912376,
)  # fmt: skip
_HART_BELOW = (
    8.83883476483184e-2, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674, 637.333633378831,
    793.826512519948, 440.413735824752,
)  # fmt: skip


class Worth(NamedTuple):
    """Model values of n options, per unit of the underlying.

    Theta is per day, vega per volatility point, as the vendor has them.
    """

    price: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    volatility: Floats


class _Terms(NamedTuple):
    """What price and greeks are made of."""

    price: Floats
    discounted: Floats
    root: Floats
    volatility: Floats
    above: Floats
    in_money: Floats
    likely: Floats


def price(spot: Floats, strike: Floats, ns_left: NDArray[np.int64], is_call: NDArray[np.bool_], rate: float) -> Floats:
    """Price options on `spot`, as `worth` does, without what else there is to know."""
    return _terms(spot, strike, ns_left, is_call, rate).price


def worth(spot: Floats, strike: Floats, ns_left: NDArray[np.int64], is_call: NDArray[np.bool_], rate: float) -> Worth:
    """Price options on `spot`; with a rate of 0, `spot` is a future."""
    terms = _terms(spot, strike, ns_left, is_call, rate)
    in_money, likely = terms.in_money, terms.likely
    density = exp(-terms.above * terms.above / 2) / _ROOT_2PI
    decay = -spot * density * terms.volatility / (2 * terms.root)
    interest = rate * terms.discounted
    return Worth(
        price=terms.price,
        delta=np.where(is_call, in_money, in_money - 1),
        gamma=density / (spot * terms.volatility * terms.root),
        theta=np.where(is_call, decay - interest * likely, decay + interest * (1 - likely)) / DAYS_PER_YEAR,
        vega=spot * density * terms.root / 100,
        volatility=terms.volatility,
    )


def _terms(spot: Floats, strike: Floats, ns_left: NDArray[np.int64], is_call: NDArray[np.bool_], rate: float) -> _Terms:
    years = np.maximum(ns_left, LEAST_NS) / NS_PER_YEAR
    root = np.sqrt(years)
    discounted = strike * exp(-rate * years)
    moneyness = log(spot / discounted)
    volatility = _smile(moneyness, root)
    deviation = volatility * root
    above = moneyness / deviation + deviation / 2
    in_money, likely = normal(np.stack([above, above - deviation]))
    call = np.maximum(spot * in_money - discounted * likely, 0.0)
    put = np.maximum(call - spot + discounted, 0.0)
    return _Terms(np.where(is_call, call, put), discounted, root, volatility, above, in_money, likely)


def _smile(moneyness: Floats, root: Floats) -> Floats:
    """Return the volatility, higher for low strikes and somewhat for high ones."""
    above = np.clip(-moneyness / (_BASE_VOLATILITY * root), -_WIDEST, _WIDEST)  # of the strike, in deviations
    smile: Floats = _BASE_VOLATILITY * (1 - _SKEW * above + _SMILE * above * above)
    return smile


def exp(x: Floats) -> Floats:
    """Return e to the x, for x between -700 and 700."""
    twos = np.rint(x * _PER_LN2)
    rest = x - twos * _LN2_HIGH - twos * _LN2_LOW
    total = np.ones_like(rest)
    for power in range(13, 0, -1):
        total *= rest
        total /= power
        total += 1
    scaled: Floats = np.ldexp(total, twos.astype(np.int32))
    return scaled


def log(x: Floats) -> Floats:
    """Return the natural logarithm of a number between a half and two: the ratio of a price to a strike near it."""
    slope = (x - 1) / (x + 1)
    square = slope * slope
    total = np.zeros_like(slope)
    for power in range(31, 0, -2):
        total *= square
        total += 1 / power
    doubled: Floats = 2 * slope * total
    return doubled


def normal(x: Floats) -> Floats:
    """Return the probability that a standard normal number is below x."""
    size = np.minimum(np.abs(x), _FARTHEST)
    above, below = np.full_like(size, _HART_ABOVE[0]), np.full_like(size, _HART_BELOW[0])
    for factor in _HART_ABOVE[1:]:
        above *= size
        above += factor
    for factor in _HART_BELOW[1:]:
        below *= size
        below += factor
    tail = exp(-size * size / 2) * above / below
    return np.where(x > 0, 1 - tail, tail)

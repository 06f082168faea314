"""What a simulated option is worth: Black-Scholes with a smile, the same to the last bit on every machine.

The functions are those of `engines.exact`; the formulas are the simulator's own, for the engines' option model is
tested with what it makes. A put is priced by parity.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.exact import ROOT_2PI, Floats, exp, log, normal

NS_PER_YEAR = 365 * 86_400 * 1_000_000_000
LEAST_NS = 60 * 1_000_000_000  # to expiration: in the last minute nothing decays any more
DAYS_PER_YEAR = 365.0

_BASE_VOLATILITY, _SKEW, _SMILE, _WIDEST = 0.13, 0.04, 0.012, 6.0


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
    density = exp(-terms.above * terms.above / 2) / ROOT_2PI
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

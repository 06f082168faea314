"""The option model compiled by numba, an option after another: the same as `option_model` in numpy, in every bit.

A snap has some ten prints, for which numpy needs four hundred calls, whatever their number; here it is one. The bits
are the same since either rounds each operation by itself, in one order: none is contracted with the next, as `fastmath`
would allow.
"""

from collections.abc import Callable
from functools import lru_cache
from math import frexp, ldexp
from typing import Any, Final, TypeVar

import numpy as np
from numba import boolean, float64, njit, types

from spymaster.engines.compiled import compiled
from spymaster.engines.exact import (
    HART_ABOVE,
    HART_BELOW,
    LAST_POWER,
    LN2_HIGH,
    LN2_LOW,
    PER_LN2,
    ROOT_2PI,
    Floats,
)
from spymaster.engines.option_model import (
    CLOSE,
    DEAREST,
    FARTHEST,
    ROUNDING,
    STEPS,
    WIDEST,
    Model,
    Terms,
    Worth,
)

_NO_POWER: Final = -2_000.0  # of two; below it all are 0, and none leaves the exponent's 32 bits

_Function = TypeVar("_Function", bound=Callable[..., object])


@lru_cache(maxsize=1)
def load() -> Model:
    """Compile the model, which takes seconds, or take it from numba's cache."""
    given = types.Array(float64, 1, "C", readonly=True)
    terms = (given, given, given, given, types.Array(boolean, 1, "C", readonly=True))
    out = float64[::1]
    exps = compiled(exp_of_all, types.void(given, out))
    values = compiled(value_all, types.void(*terms, given, out, out, out))
    vols = compiled(imply_all, types.void(*terms, given, given, out))

    def exp(x: Floats) -> Floats:
        found = np.empty(len(x))
        exps(np.ascontiguousarray(x), found)
        return found

    def value(terms: Terms, vol: Floats) -> Worth:
        worth = Worth(*(np.empty(len(vol)) for _ in Worth._fields))
        values(*_columns(terms, vol), *worth)
        return worth

    def implied(terms: Terms, price: Floats, least_time_value: float | Floats) -> Floats:
        vol, least = np.empty(len(price)), np.full(len(price), least_time_value, np.float64)
        vols(*_columns(terms, price), least, vol)
        return vol

    return Model(exp, value, implied)


def _columns(terms: Terms, numbers: Floats) -> list[Any]:
    *floats, is_call = terms
    columns: list[Any] = [np.ascontiguousarray(column, np.float64) for column in floats]
    columns += [np.ascontiguousarray(is_call, np.bool_), np.ascontiguousarray(numbers, np.float64)]
    if any(len(column) != len(numbers) for column in columns):  # as bounds are not checked
        raise ValueError("terms of an unequal number of options. Next: give each option all of its terms")
    return columns


def _inner(function: _Function) -> _Function:
    # Kept on disk with the function that calls it.
    inner: Any = njit(nogil=True, error_model="numpy")(function)
    return inner  # type: ignore[no-any-return]


def exp_of_all(x: Floats, out: Floats) -> None:
    """Write what `exact.exp` returns."""
    for at in range(len(x)):
        out[at] = _exp(x[at])


def value_all(
    forward: Floats, strike: Floats, years: Floats, discount: Floats, is_call: Any, vol: Floats,
    price: Floats, delta: Floats, gamma: Floats,
) -> None:  # fmt: skip
    """Write what `option_model.value` returns of these terms and volatilities."""
    for at in range(len(vol)):
        price[at] = delta[at] = gamma[at] = np.nan
        if _is_live(forward[at], strike[at], years[at], discount[at]) and _is_sound(vol[at]):
            price[at], delta[at], gamma[at] = _value(
                forward[at], strike[at], years[at], discount[at], is_call[at], vol[at]
            )


def imply_all(
    forward: Floats, strike: Floats, years: Floats, discount: Floats, is_call: Any, price: Floats, least: Floats,
    vol: Floats,
) -> None:  # fmt: skip
    """Write what `option_model.implied` returns of these terms, prices and least time values."""
    for at in range(len(vol)):
        vol[at] = np.nan
        if not (_is_live(forward[at], strike[at], years[at], discount[at]) and _is_sound(price[at])):
            continue
        over = price[at] - discount[at] * max(_ahead(forward[at], strike[at], is_call[at]), 0.0)
        low = min(forward[at], strike[at])
        if over > 0 and over >= least[at] - ROUNDING and not over > discount[at] * low * DEAREST:
            far, share = abs(_log(forward[at] / strike[at])), over / (discount[at] * low)
            vol[at] = _solve(far, share) / np.sqrt(years[at])


@_inner
def _is_sound(number: float) -> bool:
    return number > 0 and number < np.inf


@_inner
def _is_live(forward: float, strike: float, years: float, discount: float) -> bool:
    return _is_sound(years) and _is_sound(forward) and _is_sound(strike) and _is_sound(discount)


@_inner
def _ahead(forward: float, strike: float, is_call: bool) -> float:
    return forward - strike if is_call else strike - forward


@_inner
def _value(
    forward: float, strike: float, years: float, discount: float, is_call: bool, vol: float
) -> tuple[float, float, float]:
    deviation = vol * np.sqrt(years)
    low = min(forward, strike)
    likely, lost, bell = _sides(abs(_log(forward / strike)), deviation)
    in_money = likely if forward < strike else 1 - lost * (low / forward)
    return (
        discount * (low * (likely - lost) + max(_ahead(forward, strike, is_call), 0.0)),
        discount * (in_money if is_call else in_money - 1),
        discount * bell / ROOT_2PI * (low / forward) / (forward * deviation),
    )


@_inner
def _sides(far: float, deviation: float) -> tuple[float, float, float]:
    shift = far / deviation
    upper = deviation / 2 - shift
    size, beyond = min(abs(upper), FARTHEST), min(deviation / 2 + shift, 1e3 * FARTHEST)
    bell = _exp(size * size / -2)
    tail = bell * _polynomial(HART_ABOVE, size) / _polynomial(HART_BELOW, size)
    lost = bell * _polynomial(HART_ABOVE, beyond) / _polynomial(HART_BELOW, beyond)
    return 1 - tail if upper > 0 else tail, lost, bell


@_inner
def _solve(far: float, share: float) -> float:
    deviation: float = max(np.sqrt(2 * far), share * ROOT_2PI)
    onward, low, high = deviation, 0.0, WIDEST
    for _ in range(STEPS):
        likely, lost, bell = _sides(far, deviation)
        over = likely - lost - share
        if over > 0:
            high = deviation
        else:
            low = deviation
        newton = over / (bell / ROOT_2PI)
        bend = far * far / (deviation * deviation * deviation) - deviation / 4
        step = newton / max(1 - newton * bend / 2, 0.5)
        onward = deviation - step
        if abs(step) <= CLOSE * deviation:
            break
        if not (onward > low and onward < high):
            onward = (low + high) / 2
        deviation = onward
    return onward


@_inner
def _exp(x: float) -> float:
    twos = np.rint(x * PER_LN2)
    rest = x - twos * LN2_HIGH
    rest -= twos * LN2_LOW
    total = rest / LAST_POWER
    for power in range(LAST_POWER - 1, 0, -1):
        total += 1
        total *= rest
        total /= power
    total += 1
    return ldexp(total, int(max(twos, _NO_POWER)))


@_inner
def _log(x: float) -> float:
    if x >= 0.5 and x <= 2:
        return _log_near(x)
    part, twos = frexp(x)
    return twos * LN2_HIGH + (_log_near(part) + twos * LN2_LOW)


@_inner
def _log_near(x: float) -> float:
    slope = (x - 1) / (x + 1)
    square = slope * slope
    total = 0.0
    for power in range(31, 0, -2):
        total *= square
        total += 1 / power
    doubled: float = 2 * slope * total
    return doubled


@_inner
def _polynomial(factors: tuple[float, ...], x: float) -> float:
    """Return its value, as `exact.hart` has it; the highest power's factor is the first."""
    total = factors[0]
    for factor in factors[1:]:
        total = total * x + factor
    return total

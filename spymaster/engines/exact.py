"""Exponential, logarithm and normal distribution that give the same bits on every machine, to about 1e-14.

Only +, -, *, /, sqrt and powers of two are used, which IEEE 754 rounds in one way; those of a C library, and numpy's,
differ between processors in the last bits. No argument may be NaN or infinite: who calls these sets such values aside.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROOT_2PI: Final = 2.50662827463100050242

LN2_HIGH, LN2_LOW, PER_LN2 = 0.693147180369123816490, 1.90821492927058770002e-10, 1.44269504088896338700
LAST_POWER = 13  # of the series of exp
_FARTHEST = 7.07  # standard deviations, where the approximation of the distribution ends
# What follows is also compiled, see `option_model_compiled`.
# Numerator and denominator of Hart's approximation to the normal distribution, highest power first.
HART_ABOVE = (
    3.52624965998911e-2, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871, 221.213596169931,
    220.206867912376,
)  # fmt: skip
HART_BELOW = (
    8.83883476483184e-2, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674, 637.333633378831,
    793.826512519948, 440.413735824752,
)  # fmt: skip


def exp(x: Floats) -> Floats:
    """Return e to the x, for x up to 700; below -745 that is 0."""
    twos = x * PER_LN2
    np.rint(twos, out=twos)
    rest = x - twos * LN2_HIGH
    rest -= twos * LN2_LOW
    total = rest / LAST_POWER
    for power in range(LAST_POWER - 1, 0, -1):
        total += 1
        total *= rest
        total /= power
    total += 1
    return np.ldexp(total, twos.astype(np.int32))


def log(x: Floats) -> Floats:
    """Return the natural logarithm of positive normal numbers."""
    # Between a half and two the series takes the number as it is; of others the powers of two are taken out first.
    near = (x >= 0.5) & (x <= 2)
    if near.all():
        return _log_near(x)
    part, twos = np.frexp(x)
    twos = np.where(near, 0, twos)
    return twos * LN2_HIGH + (_log_near(np.where(near, x, part)) + twos * LN2_LOW)


def _log_near(x: Floats) -> Floats:
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
    above, below = hart(size)
    tail = exp(-size * size / 2) * above / below
    return np.where(x > 0, 1 - tail, tail)


def hart(size: Floats) -> tuple[Floats, Floats]:
    """Return a and b for sizes of at least 0, so that exp(-size**2 / 2) * a / b is the probability beyond `size`.

    In digits, a / b has 13 up to 3 deviations, 7 up to 10, and still 5 at 37.
    """
    above, below = np.full_like(size, HART_ABOVE[0]), np.full_like(size, HART_BELOW[0])
    for factor in HART_ABOVE[1:]:
        above *= size
        above += factor
    for factor in HART_BELOW[1:]:
        below *= size
        below += factor
    return above, below

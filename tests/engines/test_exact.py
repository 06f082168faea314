"""Our own exponential, logarithm and normal distribution, against the C library's and to the last bit."""

import math
from hashlib import sha256

import numpy as np

from spymaster.engines.exact import exp, hart, log, normal


def test_exp_log_and_normal_agree_with_the_c_library_to_twelve_digits() -> None:
    x = np.linspace(-30, 30, 4_001)
    assert np.allclose(exp(x), np.exp(x), rtol=1e-13, atol=0)
    y = np.linspace(0.5, 2, 4_001)
    assert np.abs(log(y) - np.log(y)).max() < 1e-13
    z = np.linspace(-7, 7, 2_001)
    assert np.abs(normal(z) - [0.5 * math.erfc(-v / math.sqrt(2)) for v in z]).max() < 1e-12


def test_exp_and_log_are_right_to_the_ends_of_their_ranges() -> None:
    x = np.array([-700.0, -699.9, -0.0, 0.0, 699.9, 700.0])
    assert np.allclose(exp(x), [math.exp(v) for v in x], rtol=1e-12, atol=0)
    assert exp(np.array([-746.0, -5_000.0, -1e9])).tolist() == [0, 0, 0]  # of an option far out in its last second
    y = np.array([1e-300, 0.1, 0.4999999, 2.0000001, 3.5, 1e9, 1e300])
    assert np.allclose(log(y), [math.log(v) for v in y], rtol=1e-14, atol=0)


def test_a_logarithm_does_not_depend_on_what_else_is_asked() -> None:
    near, far = np.array([0.5, 0.97, 1.0, 1.31, 2.0]), np.array([0.1, 17.0])

    assert log(np.concatenate([near, far])).tobytes() == log(near).tobytes() + log(far).tobytes()


def test_the_tail_of_the_normal_distribution_keeps_its_digits_far_out() -> None:
    for size, digits in ((0.0, 15), (1.0, 15), (3.0, 13), (5.0, 10), (7.0, 8), (10.0, 7), (20.0, 6), (37.0, 5)):
        above, below = hart(np.array([size]))
        tail = math.exp(-size * size / 2) * above[0] / below[0]

        assert abs(tail / (0.5 * math.erfc(size / math.sqrt(2))) - 1) < 10.0**-digits


def test_the_bits_are_those_that_were_recorded() -> None:
    # A certificate of one machine is checked on others, and days were simulated with these bits.
    bits = b"".join(
        function(np.linspace(low, high, 10_001)).tobytes()
        for function, low, high in ((exp, -700, 700), (exp, -3, 3), (log, 0.5, 2), (normal, -9, 9))
    )

    assert sha256(bits).hexdigest() == "139718344475d566206f72ad88086117f725dae46a28ae2ce707e0fe0604cecb"

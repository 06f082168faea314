"""What dealers must do, by what customers have just traded with them, and what that is worth in points.

    X = sum(s g q) / sum(g q)            over the prints of a window whose gamma is known
    e = sqrt(sum((g q)^2)) / sum(g q)    its standard error, were each print's sign the toss of a coin

s is +1 where a customer bought, -1 where one sold, 0 where that is unknown; g is the gamma of one contract at the
print, q its size. Dealers have the other side: customers that buy leave them short of gamma, so that they buy rallies
and sell breaks.

    AMPLIFY  X >= share and X >= errors e
    DAMPEN   X <= -share and X <= -errors e
    NEUTRAL  otherwise

1 / e^2 is how many prints of one weight would tell as much: the prints that speak. The same of the prints of strikes
within `near_ticks` of a level is the level's fuel; an amplified level breaks the easier, a dampened one holds.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

EFFECTS: Final = ("NEUTRAL", "AMPLIFY", "DAMPEN")
NEUTRAL, AMPLIFY, DAMPEN = range(len(EFFECTS))

Floats = NDArray[np.float64]


class Fuel(NamedTuple):
    """Fuel of n places.

    Attributes:
        effect: of EFFECTS, int8.
        net: X, -1 to 1; NaN where nothing was traded.
        error: e, 0 to 1; NaN likewise.
        speak: 1 / e^2; 0 likewise.
    """

    effect: NDArray[np.int8]
    net: Floats
    error: Floats
    speak: Floats


def fuel(net: NDArray[np.int64], gross: NDArray[np.int64], squares: Floats, share: float, errors: float) -> Fuel:
    """Return the fuel of places.

    Args:
        net: (n) sum(s g q), in any unit.
        gross: (n) sum(g q), in the same.
        squares: (n) sum((g q)^2), in its square.
        share: least size of X.
        errors: least multiple of e.
    """
    whole = np.where(gross > 0, gross, np.nan)  # what was not traded compares as false
    x, error = net / whole, np.sqrt(squares) / whole
    enough = np.abs(x) >= np.maximum(share, errors * error)
    effect = np.where(enough, np.where(x > 0, AMPLIFY, DAMPEN), NEUTRAL).astype(np.int8)
    speak = np.where((whole > 0) & (squares > 0), whole * whole / np.where(squares > 0, squares, 1.0), 0.0)
    return Fuel(effect, x, error, speak)


def part(effect: NDArray[np.int8]) -> Floats:
    """Return each effect's part of the score's weight `fuel`: +1 for a break, -1 against it, 0 neither.

    The points are 50 * weight * part, as those of barrier and tape.
    """
    parts: Floats = np.array([0.0, 1.0, -1.0])[effect]
    return parts

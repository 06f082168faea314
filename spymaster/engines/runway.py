"""How far the price can run from a level until the next one, and until one that is strong.

A break runs beyond its level in the level's direction, a rejection away from it on the other side of the mid. On that
way the next level is the first one, the strong one the first with a kind whose weight is the profile's `strong` or
more. Distances are from the mid, in half ticks as in `LevelRows`. The way is OBSTRUCTED if a strong one stands on it no
farther from the level than the outcome that is asked for (`passage.distance_ticks`), else CLEAR. Where no level stands
on the way nothing is known of it, since the universe ends there.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.engines import profile
from spymaster.engines.levels import LevelRows

UNKNOWN, CLEAR, OBSTRUCTED = range(3)
QUALITIES: Final = (None, "CLEAR", "OBSTRUCTED")
NONE: Final = -1  # the row of no level


class Runways(NamedTuple):
    """The way from the mid, one for each level asked for.

    Attributes:
        direction: +1 up, -1 down, 0 of a level at the mid, whose way is not known.
        next: row of the next level on it, NONE without.
        next_distance: from the mid to it in half ticks, 0 without.
        strong: row of the next strong one, NONE without.
        strong_distance: from the mid to it in half ticks, 0 without.
        quality: UNKNOWN, CLEAR or OBSTRUCTED.
    """

    direction: NDArray[np.int8]
    next: NDArray[np.intp]
    next_distance: NDArray[np.int64]
    strong: NDArray[np.intp]
    strong_distance: NDArray[np.int64]
    quality: NDArray[np.int8]


def is_strong(levels: LevelRows, rules: profile.Levels, strong: float) -> NDArray[np.bool_]:
    """Return which rows have a kind of that weight."""
    strongest = {kind for kind, weight in rules.weights.items() if weight >= strong}
    return np.array([not strongest.isdisjoint(kinds) for kinds in levels.kinds], np.bool_)


def runways(
    levels: LevelRows, strong: NDArray[np.bool_], rows: NDArray[np.intp], rejects: NDArray[np.bool_], distance: int
) -> Runways:
    """Return the way of each of some levels.

    Args:
        levels: the universe, ascending by price.
        strong: which of its rows are strong.
        rows: the levels asked for.
        rejects: which of these are judged to reject; the way of all others is a break's.
        distance: of the outcome, ticks.
    """
    count = len(levels.price)
    side = levels.direction[rows]
    direction = np.where(rejects, -side, side).astype(np.int8)
    places = np.arange(count)
    # The first row on the way: of a break the one after the level's, of a rejection the first on the mid's other side.
    below = int(np.searchsorted(levels.distance, 0, "left")) - 1
    above = int(np.searchsorted(levels.distance, 0, "right"))
    up, down = np.where(rejects, above, rows + 1), np.where(rejects, below, rows - 1)
    following = np.append(np.minimum.accumulate(np.where(strong, places, count)[::-1])[::-1], count)
    preceding = np.append(np.maximum.accumulate(np.where(strong, places, NONE)), NONE)  # of NONE: the last
    upward = np.where(up < count, up, NONE), following[np.minimum(up, count)]
    first = np.where(direction > 0, upward[0], np.where(direction < 0, down, NONE))
    hard = np.where(direction > 0, np.where(upward[1] < count, upward[1], NONE), preceding[down])
    hard = np.where(direction == 0, NONE, hard)
    far = np.append(np.abs(levels.distance), 0)
    own = direction * levels.distance[rows]  # of the level itself: negative where it is left behind
    blocked = (hard != NONE) & (far[hard] - own <= 2 * distance)
    return Runways(
        direction, first, far[first], hard, far[hard],
        np.where(first == NONE, UNKNOWN, np.where(blocked, OBSTRUCTED, CLEAR)).astype(np.int8),
    )  # fmt: skip

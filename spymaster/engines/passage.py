"""The one function of outcome: which of two prices a path of mids reaches first. Studies, touches and labels use it.

All prices are whole half ticks, bid + ask of a book in ticks: half of that sum is no integer, and rounding it would
favour one side. With `gone = direction * (mid - level)`

    beyond   gone >= distance     the level broke: BREAK
    back     gone <= -distance    it held: REJECT

so that the mirrored market (prices and direction negated) has the same outcome, and a turned direction the opposite
one. Where the price stood at the start does not enter, so a price at the level itself belongs to neither side.

The points that count are those of (start, start + horizon]: what was known at the start is no outcome. The first that
is beyond, back or void decides. A jump over both prices does not exist, since the first price observed decides.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNKNOWN, NEITHER, BREAK, REJECT = range(4)
OUTCOMES: Final = ("UNKNOWN", "NEITHER", "BREAK", "REJECT")
NO_MID: Final = -(2**32)  # twice the price that stands for none, so that no difference leaves int64

_STEPS: Final = np.arange(64)  # points of the path looked at in one round
_TOUCHES: Final = 4_096  # worked at once: 2 MB for each column of a round


class Path(NamedTuple):
    """How the mid moved.

    Attributes:
        ts_ns: when it changed, UTC nanoseconds, ascending; of equal times the last one counts from then on.
        mid: half ticks, or NO_MID from where on it is not known (a gap, a halt, a crossed book).
        end_ns: until when the path is known, not before its last point: quiet is knowledge, an end of data is not.
    """

    ts_ns: NDArray[np.int64]
    mid: NDArray[np.int64]
    end_ns: int


class Passages(NamedTuple):
    """The outcome of each start, UNKNOWN to REJECT, and when it was known."""

    outcome: NDArray[np.int8]
    when_ns: NDArray[np.int64]


def first_passage(
    path: Path, start_ns: ArrayLike, level: ArrayLike, direction: ArrayLike, distance: ArrayLike, horizon_ns: ArrayLike
) -> Passages:
    """Return what became of each start; the arguments after `path` are broadcast against each other.

    Args:
        path: the mids.
        start_ns: when the level was touched.
        level: half ticks.
        direction: +1 where a break goes up, -1 where it goes down.
        distance: half ticks, more than 0.
        horizon_ns: how long after the start an outcome counts.

    Returns:
        BREAK and REJECT with the time of the deciding point; NEITHER with the end of the horizon; UNKNOWN, with the
        time from which on nothing is known, where the path is void at the start, or void or over before the horizon.

    Raises:
        ValueError: the path's times descend or pass its end, a direction is not 1 or -1, a distance not above 0.
    """
    columns = (start_ns, level, direction, distance, horizon_ns)
    touches = np.broadcast_arrays(*(np.atleast_1d(np.asarray(column, np.int64)) for column in columns))
    _check(path, touches[2], touches[3])
    outcome, when = np.empty(len(touches[0]), np.int8), np.empty(len(touches[0]), np.int64)
    for begin in range(0, len(outcome), _TOUCHES):
        part = slice(begin, begin + _TOUCHES)
        outcome[part], when[part] = _passages(path, *(column[part] for column in touches))
    return Passages(outcome, when)


def _check(path: Path, direction: NDArray[np.int64], distance: NDArray[np.int64]) -> None:
    if (np.diff(path.ts_ns) < 0).any():
        raise ValueError("the times of the path descend")
    if len(path.ts_ns) and path.ts_ns[-1] > path.end_ns:
        raise ValueError("the path has a point after its end")
    if (np.abs(direction) != 1).any():
        raise ValueError("a direction is neither 1 nor -1")
    if (distance <= 0).any():
        raise ValueError("a distance is not more than 0")


def _passages(
    path: Path,
    start: NDArray[np.int64],
    level: NDArray[np.int64],
    direction: NDArray[np.int64],
    distance: NDArray[np.int64],
    horizon: NDArray[np.int64],
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    last = start + horizon
    at = np.searchsorted(path.ts_ns, start, "right")
    end = np.searchsorted(path.ts_ns, last, "right")
    known = at > 0
    known[known] = path.mid[at[known] - 1] != NO_MID
    outcome = np.where(known & (last <= path.end_ns), NEITHER, UNKNOWN).astype(np.int8)
    when = np.where(known, np.clip(path.end_ns, start, last), start)
    waiting = np.flatnonzero(known & (at < end))
    while len(waiting):
        points = at[waiting, None] + _STEPS
        mids = path.mid[np.minimum(points, len(path.mid) - 1)]
        gone = direction[waiting, None] * (mids - level[waiting, None])
        void, beyond = mids == NO_MID, gone >= distance[waiting, None]
        decides = (void | beyond | (gone <= -distance[waiting, None])) & (points < end[waiting, None])
        row = np.flatnonzero(decides.any(axis=1))
        column = decides[row].argmax(axis=1)
        decided = waiting[row]
        outcome[decided] = np.where(void[row, column], UNKNOWN, np.where(beyond[row, column], BREAK, REJECT))
        when[decided] = path.ts_ns[points[row, column]]
        at[waiting] += len(_STEPS)
        waiting = np.setdiff1d(waiting, decided, assume_unique=True)
        waiting = waiting[at[waiting] < end[waiting]]
    return outcome, when

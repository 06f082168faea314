"""When the flow of customers through options turns: whom they leave short of gamma, they now leave long, or back.

    X = sum(s r) / sum(r)                e = sqrt(sum(r^2)) / sum(r)                r = (g q)^(1/4)

over the prints of a window whose gamma g is known; q is the size, s +1 where a customer bought, -1 where one sold, 0
where that is unknown. A flow_turn is a snap T at which X of (T - W, T] and X of (T - 2 W, T - W] have opposite signs,
each is `turn_share` or more, and their difference is `errors` or more times its error, sqrt(e1^2 + e2^2). Of one
direction there is no second one until the condition has failed for W.

Why roots: gamma times size is so uneven that a window at four prints a second has an error of 0.5, and of 40 planted
turns 11 were found; with square roots four in five, with fourth roots 39. They tell of a flow's sign, not of how much
of it there is, which `fuel` does. Why not from the last turn on: of two flows minutes apart the second would be a turn.
"""

from collections import deque
from math import sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import profile
from spymaster.engines.ledger import Longs

_UNIT: Final = 1 << 20  # of a root

_Step = tuple[int, int, int, int]  # its time; net, gross and squares


class Turn(NamedTuple):
    """A flow_turn: its snap, and +1 where dealers turned long (customers sell), -1 where short."""

    snap_ns: int
    dealers: int


class FlowTurns:
    """The turns of one underlying's flow, a snap after another.

    Attributes:
        newest: None before the first.
    """

    def __init__(self, rules: profile.Options) -> None:
        self.newest: Turn | None = None
        self._rules = rules
        self._window_ns = rules.turn_s * NS_PER_SECOND
        self._before, self._now = _Sums(), _Sums()
        self._held = 0
        self._held_ns = 0

    def add(self, at_ns: int, sign: NDArray[np.int8], weight: NDArray[np.float64]) -> None:
        """Count the prints of 250 ms that end at a time, later than those before.

        Args:
            at_ns: the time.
            sign: (n) of the aggressor.
            weight: (n) gamma times contracts.
        """
        square = np.sqrt(weight)
        root: Longs = np.rint(np.sqrt(square) * _UNIT).astype(np.int64)
        square = np.rint(square * _UNIT).astype(np.int64)
        self._now.add((at_ns, int((root * sign).sum()), int(root.sum()), int(square.sum())))

    def snap(self, snap_ns: int) -> bool:
        """Return whether a snap is a turn; no prints after it have been counted."""
        for step in self._now.leave(snap_ns - self._window_ns):
            self._before.add(step)
        self._before.leave(snap_ns - 2 * self._window_ns)
        before, now = self._before.share(), self._now.share()
        if not self._opposite(before, now):
            return False
        dealers = -1 if now[0] > 0 else 1
        again = dealers == self._held and snap_ns - self._held_ns <= self._window_ns
        self._held, self._held_ns = dealers, snap_ns
        if not again:
            self.newest = Turn(snap_ns, dealers)
        return not again

    def _opposite(self, before: tuple[float, float], now: tuple[float, float]) -> bool:
        (x1, e1), (x2, e2) = before, now
        least, errors = self._rules.turn_share, self._rules.errors
        return x1 * x2 < 0 and min(abs(x1), abs(x2)) >= least and abs(x1 - x2) >= errors * sqrt(e1 * e1 + e2 * e2)


class _Sums:
    """Steps of one window, at most one for each 250 ms, and their sums."""

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque()
        self._net = self._gross = self._squares = 0

    def add(self, step: _Step) -> None:
        self._steps.append(step)
        self._sum(step, 1)

    def leave(self, until_ns: int) -> list[_Step]:
        """Return the steps up to a time, which are no longer here."""
        gone = []
        while self._steps and self._steps[0][0] <= until_ns:
            gone.append(self._steps.popleft())
            self._sum(gone[-1], -1)
        return gone

    def share(self) -> tuple[float, float]:
        """Return X and its error; of no prints 0 and 1."""
        gross = self._gross
        return (self._net / gross, sqrt(self._squares * _UNIT) / gross) if gross else (0.0, 1.0)

    def _sum(self, step: _Step, times: int) -> None:
        _, net, gross, squares = step
        self._net, self._gross, self._squares = (
            self._net + times * net, self._gross + times * gross, self._squares + times * squares,
        )  # fmt: skip

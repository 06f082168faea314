"""Which state of a level holds: what was seen for long enough, and has not been gone for too long.

A VACUUM is a side's: the price moves within it, and passes a level of it sooner than it could hold there. So it is the
side's VACUUM that must be seen for its time. While it holds, a level holds VACUUM at once when it shows it, until it
has not shown it for longer than a hole, also where the price has just gone through it.
"""

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.compiled import loops
from spymaster.engines.ledger import SNAP_NS, Longs

STATES: Final = ("VOID", "NEUTRAL", "WEAK", "CONSUMED", "VACUUM", "WALL", "ABSORPTION")
VOID, NEUTRAL, WEAK, CONSUMED, VACUUM, WALL, ABSORPTION = range(len(STATES))

NEVER: Final = -(2**62)
_NO_SIDES: Final = np.zeros(2, np.bool_)

Bytes = NDArray[np.int8]


class _Memory(NamedTuple):
    """What is known of levels as of the snap before; the last row is that of a level that is new.

    Attributes:
        side: of each.
        state: seen then.
        begun: (n, 7) from when each state was seen, holes bridged.
        seen: (n, 7) until when.
        thin: on which side it was last seen as VACUUM.
        held: what held.
        since: from when.
    """

    side: Bytes
    state: Bytes
    begun: Longs
    seen: Longs
    thin: Bytes
    held: Bytes
    since: Longs

    def take(self, rows: Longs) -> "_Memory":
        """Return the memory of some rows."""
        return _Memory._make(column[rows] for column in self)


class Holds:
    """What each level holds, from snap to snap.

    A state holds from when it was seen for its time, holes bridged, until it has not been seen for longer than a hole,
    or another holds; where none does, NEUTRAL is held. What stood at a snap stands until the next, so that quiet is no
    hole. A level that is void, on another side, or was not there at the snap before, begins anew; but the VACUUM of one
    that is on another side or void is remembered for a hole, with the side it was seen on.

    Args:
        hold_ns: how long each of STATES must be seen; 0 of VOID and NEUTRAL.
        hole_ns: how long another state may be seen meanwhile.
    """

    def __init__(self, hold_ns: Longs, hole_ns: int) -> None:
        self._hold_ns, self._hole_ns, self._loops = hold_ns, hole_ns, loops()
        self._ids: tuple[Hashable, ...] = ()
        never, none = np.full((1, len(STATES)), NEVER), np.full(1, -1, np.int8)
        self._memory = _Memory(none, np.full(1, VOID, np.int8), never, never, none, none, np.zeros(1, np.int64))

    def work(
        self,
        snap_ns: int,
        ids: Sequence[Hashable],
        side: Bytes,
        state: Bytes,
        vacant: NDArray[np.bool_] | None = None,
    ) -> tuple[Bytes, Longs]:
        """Return the state that holds of each level, and from when it was seen.

        Args:
            snap_ns: later than the one before.
            ids: of the levels, each once.
            side: at this snap.
            state: at this snap.
            vacant: (2) which sides hold VACUUM; None where it is held as any other state.
        """
        if not len(ids) == len(side) == len(state):
            raise ValueError("levels, sides and states of unequal numbers. Next: give each level a side and a state")
        self._remember(tuple(ids))
        last = _Memory._make(column[:-1] for column in self._memory)  # views, changed in place
        if self._loops is not None:
            by_side, sides = vacant is not None, _NO_SIDES if vacant is None else vacant
            self._loops.hold(snap_ns, side, state, by_side, sides, self._hold_ns, self._hole_ns, *last)
        else:
            self._work(snap_ns, last, side, state, vacant)
        return last.held.copy(), last.since.copy()

    def _work(self, snap_ns: int, last: _Memory, side: Bytes, state: Bytes, vacant: NDArray[np.bool_] | None) -> None:
        """Bring the memory to a snap: `loops.hold` in numpy."""
        every, turned = np.arange(len(side)), last.side != side
        anew = turned | (last.state == VOID)
        kept = (np.arange(len(STATES)) == VACUUM) & (vacant is not None)
        begun, seen = last.begun, last.seen
        seen[anew[:, None] & ~kept] = NEVER
        stood = ~anew | kept[last.state]
        seen[every[stood], last.state[stood]] = snap_ns - SNAP_NS

        thin = np.where(state == VACUUM, side, last.thin)
        gone = (snap_ns - SNAP_NS - seen[every, state] > self._hole_ns) | ((state == VACUUM) & (thin != last.thin))
        begun[every[gone], state[gone]] = snap_ns
        seen[every, state] = snap_ns
        ready = (state > NEUTRAL) & (snap_ns - begun[every, state] >= self._hold_ns[state])
        lasting = ~turned & (last.held > NEUTRAL) & (snap_ns - seen[every, last.held] <= self._hole_ns)
        shown = state
        if vacant is not None:
            ready &= state != VACUUM
            shown = np.where(ready, state, VACUUM)
            ready |= vacant[thin] & (snap_ns - seen[:, VACUUM] <= self._hole_ns)
        held = np.select([state == VOID, ready, lasting], [VOID, shown, last.held], NEUTRAL).astype(np.int8)
        stayed = np.where((held == last.held) & ~turned, last.since, snap_ns)
        since = np.where(held > NEUTRAL, begun[every, held], stayed)

        last.side[:], last.state[:], last.thin[:], last.held[:], last.since[:] = side, state, thin, held, since

    def _remember(self, ids: tuple[Hashable, ...]) -> None:
        """Bring the memory into the order of these levels."""
        if ids != self._ids:
            known = {level: row for row, level in enumerate(self._ids)}
            self._memory = self._memory.take(np.array([*(known.get(level, -1) for level in ids), -1]))
            self._ids = ids

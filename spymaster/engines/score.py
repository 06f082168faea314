"""Break score and signal of each level, from points that add up from 50, which is no evidence.

    score = 50 + 50 (barrier b + tape t + fuel g)

with the profile's weights; b is the state's part (VACUUM 1 .. WALL -1) times the zone's coverage, t the tape towards
the level, g the dealers' gamma, 0 until there is one. High speaks for a break, low for a rejection; it is no
probability.

The smoothed score begins at 50 and follows with a half-life of event time. What is seen at a snap stands for the 250 ms
that end there, what was seen before for the quiet time between; so a pause smooths as its quiet snaps would have.

Each level has a trigger of its own, decided on the smoothed score of snaps that are not void:

    BREAK      at break_points or above, within within_ticks of the mid, for hold_s
    REJECT     at reject_points or below, likewise
    CONTESTED  WALL or ABSORPTION with a tape of contested_tape or more towards it, for hold_s; it yields to the others
    NEUTRAL    otherwise, and when what was triggered has been released: the score beyond its release points, or the
               mid beyond within_ticks, for release_s

Snaps that are void give NEUTRAL and no score, and interrupt what is being held; after void_s of them, or when the price
has passed to a level's other side, the level begins anew. As what stood at a snap stands until the next, a pause after
one that is not void is none. A level that has left the universe is as a void one, and forgotten after the same time.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import profile
from spymaster.engines.holds import ABSORPTION, CONSUMED, STATES, VACUUM, VOID, WALL, WEAK
from spymaster.engines.ledger import SNAP_NS, Longs

SIGNALS: Final = ("NEUTRAL", "CONTESTED", "REJECT", "BREAK")
NEUTRAL, CONTESTED, REJECT, BREAK = range(len(SIGNALS))
NO_EVIDENCE: Final = 50.0

_MOST_REMEMBERED: Final = 1_024  # levels; of more, those that have been void for longest begin anew
_NEVER, _NOT_VOID = -(2**62), 2**62
_GONE: Final = 64  # half-lives, after which no bit of a difference is left

Floats = NDArray[np.float64]


class Evidence(NamedTuple):
    """What is known of levels at a snap, n of them.

    Attributes:
        state: of `holds.STATES`; VOID is without a judgement.
        coverage: of the barrier, 0 to 1.
        tape: towards the level, -1 to 1; NaN counts as void.
        direction: +1 or -1, of a break; 0 counts as void.
        distance: from the mid in half ticks.
        flow_coverage: of the barrier's `flow_s`, 0 to 1.
        age_s: of the newest row of the book.
        fuel: of options, its part of the weight: +1 for a break, -1 against it, 0 neither.
    """

    state: NDArray[np.int8]
    coverage: Floats
    tape: Floats
    direction: NDArray[np.int8]
    distance: Longs
    flow_coverage: Floats
    age_s: float
    fuel: Floats


NOTHING: Final = Evidence(
    np.empty(0, np.int8),
    np.empty(0),
    np.empty(0),
    np.empty(0, np.int8),
    np.empty(0, np.int64),
    np.empty(0),
    0.0,
    np.empty(0),
)  # of no levels


class Scores(NamedTuple):
    """Levels' scores at a snap, n of them; NaN where void.

    Attributes:
        barrier: points, their part of the score's distance from 50.
        tape: likewise.
        fuel: likewise.
        raw: 0 to 100.
        smooth: likewise, smoothed.
        signal: NEUTRAL to BREAK, int8.
        since_ns: since when the signal is this one, int64; 0 of NEUTRAL.
        confidence: coverage of zone and flow, less the older the book is; 0 where void.
    """

    barrier: Floats
    tape: Floats
    fuel: Floats
    raw: Floats
    smooth: Floats
    signal: NDArray[np.int8]
    since_ns: Longs
    confidence: Floats


class _Memory(NamedTuple):
    """What is remembered of levels; arrays of one length, changed in place."""

    void_ns: Longs  # since when it is void or absent; _NOT_VOID of one that is not, _NEVER of one that begins
    direction: NDArray[np.int8]
    smooth: Floats
    raw: Floats  # of the snap before; NaN where that was void
    signal: NDArray[np.int8]
    signal_ns: Longs
    holding_ns: Longs  # (n, 4) since when each signal's condition has held; of NEUTRAL, since when a release's has


class Score:
    """Scores of one session's levels, snap by snap."""

    def __init__(self, rules: profile.Score) -> None:
        self._rules = rules
        parts = {VACUUM: rules.vacuum, CONSUMED: rules.consumed, WEAK: rules.weak, ABSORPTION: rules.absorption}
        parts[WALL] = rules.wall
        self._parts = np.array([parts.get(state, 0.0) for state in range(len(STATES))])
        self._void_ns, self._hold_ns, self._release_ns = (
            round(seconds * NS_PER_SECOND) for seconds in (rules.void_s, rules.hold_s, rules.release_s)
        )
        self._holds_ns = np.array((self._release_ns, *(self._hold_ns,) * 3))  # of each signal
        self._snap_ns: int | None = None
        self._ids: tuple[str, ...] = ()
        self._memory = _begun(0)

    def snap(self, snap_ns: int, ids: Sequence[str], evidence: Evidence) -> Scores:
        """Score the levels of a snap.

        Args:
            snap_ns: later than the one before.
            ids: what makes a level the same from snap to snap, each once.
            evidence: of the same levels.
        """
        count, rules = len(ids), self._rules
        self._remember(snap_ns, tuple(ids))
        memory = _Memory._make(column[:count] for column in self._memory)  # views
        void = (evidence.state == VOID) | np.isnan(evidence.tape) | (evidence.direction == 0)
        anew = (snap_ns - memory.void_ns >= self._void_ns) | (~void & (evidence.direction != memory.direction))
        if anew.any():
            _begin(memory, anew)

        barrier = 50 * rules.barrier * self._parts[evidence.state] * evidence.coverage
        tape = 50 * rules.tape * evidence.tape
        fuel = 50 * rules.fuel * evidence.fuel
        raw = NO_EVIDENCE + barrier + tape + fuel
        self._smooth(snap_ns, memory, raw, void)
        self._trigger(snap_ns, memory, evidence, void)
        memory.void_ns[:] = np.where(void, np.minimum(memory.void_ns, snap_ns), _NOT_VOID)
        memory.direction[:] = np.where(void, memory.direction, evidence.direction)
        memory.raw[:] = np.where(void, np.nan, raw)
        self._snap_ns = snap_ns

        fresh = max(1 - evidence.age_s / rules.stale_s, 0.0)
        nothing = np.where(void, np.nan, 0.0)
        signal = np.where(void, NEUTRAL, memory.signal).astype(np.int8)
        return Scores(
            barrier=barrier + nothing,
            tape=tape + nothing,
            fuel=fuel + nothing,
            raw=raw + nothing,
            smooth=memory.smooth + nothing,
            signal=signal,
            since_ns=np.where(signal == NEUTRAL, 0, memory.signal_ns),
            confidence=np.where(void, 0.0, evidence.coverage * evidence.flow_coverage * fresh),
        )

    def _remember(self, snap_ns: int, ids: tuple[str, ...]) -> None:
        """Bring the memory into the order of these levels, those that are absent and not yet forgotten behind them."""
        if ids == self._ids[: len(ids)]:
            self._leave(snap_ns, len(ids))
            return
        known = {name: place for place, name in enumerate(self._ids)}
        void_ns = self._memory.void_ns.tolist()
        absent = [name for name in known.keys() - set(ids) if snap_ns - void_ns[known[name]] < self._void_ns]
        absent = sorted(absent, key=lambda name: (-void_ns[known[name]], name))[: max(_MOST_REMEMBERED - len(ids), 0)]
        everyone = (*ids, *absent)
        place = np.array([known.get(name, -1) for name in everyone], np.intp)
        if not self._ids:
            self._memory = _begun(1)  # to take from, what is none
        self._ids, self._memory = everyone, _Memory._make(column[place] for column in self._memory)
        _begin(self._memory, place < 0)
        self._leave(snap_ns, len(ids))

    def _leave(self, snap_ns: int, begin: int) -> None:
        """Let the levels from a place on be absent."""
        self._memory.void_ns[begin:] = np.minimum(self._memory.void_ns[begin:], snap_ns)
        self._memory.raw[begin:] = np.nan
        self._memory.holding_ns[begin:] = _NEVER

    def _smooth(self, snap_ns: int, memory: _Memory, raw: Floats, void: NDArray[np.bool_]) -> None:
        quiet = 0 if self._snap_ns is None else max(snap_ns - self._snap_ns - SNAP_NS, 0)
        stood = memory.raw + (memory.smooth - memory.raw) * self._left(quiet // SNAP_NS)
        before = np.where(np.isnan(memory.raw), memory.smooth, stood)
        memory.smooth[:] = np.where(void, memory.smooth, raw + (before - raw) * self._left(1))

    def _left(self, buckets: int) -> float:
        """Return what is left of a difference after so many of 250 ms; by decimals, as pow differs by machine."""
        half_lives = Decimal(buckets * SNAP_NS) / (Decimal(self._rules.half_life_s) * NS_PER_SECOND)
        return 0.0 if half_lives > _GONE else _power(-half_lives)

    def _trigger(self, snap_ns: int, memory: _Memory, evidence: Evidence, void: NDArray[np.bool_]) -> None:
        rules, smooth, signal = self._rules, memory.smooth, memory.signal
        near = np.abs(evidence.distance) <= 2 * rules.within_ticks
        holds = (evidence.state == WALL) | (evidence.state == ABSORPTION)
        contested = holds & (evidence.tape >= rules.contested_tape)
        conditions = np.empty((len(signal), len(SIGNALS)), np.bool_)
        conditions[:, NEUTRAL] = False
        if signal.any():
            risen, fallen = smooth > rules.reject_release_points, smooth < rules.break_release_points
            released = (signal == CONTESTED) & ~contested
            released |= ((signal == REJECT) & (risen | ~near)) | ((signal == BREAK) & (fallen | ~near))
            conditions[:, NEUTRAL] = released
        conditions[:, CONTESTED] = contested
        conditions[:, REJECT] = near & (smooth <= rules.reject_points)
        conditions[:, BREAK] = near & (smooth >= rules.break_points)
        conditions &= ~void[:, None]
        since = memory.holding_ns
        since[~conditions] = _NEVER
        since[conditions & (since == _NEVER)] = snap_ns
        held = conditions & (snap_ns - since >= self._holds_ns)
        if not held.any():
            return
        after = np.where(held[:, NEUTRAL], NEUTRAL, signal)
        after = np.where(held[:, CONTESTED] & (after == NEUTRAL), CONTESTED, after)
        for which in (REJECT, BREAK):
            after = np.where(held[:, which], which, after)
        changed = after != signal
        signal[:] = after
        memory.signal_ns[changed] = snap_ns
        since[changed, NEUTRAL] = _NEVER  # a release is held anew for each signal


@lru_cache(maxsize=256)
def _power(exponent: Decimal) -> float:
    return float(Decimal(2) ** exponent)


def _begun(count: int) -> _Memory:
    memory = _Memory(
        np.full(count, _NEVER), np.zeros(count, np.int8), np.empty(count), np.empty(count), np.zeros(count, np.int8),
        np.zeros(count, np.int64), np.empty((count, len(SIGNALS)), np.int64),
    )  # fmt: skip
    _begin(memory, np.ones(count, np.bool_))
    return memory


def _begin(memory: _Memory, which: NDArray[np.bool_]) -> None:
    """Let levels begin anew."""
    memory.void_ns[which] = _NEVER
    memory.smooth[which] = NO_EVIDENCE
    memory.raw[which] = np.nan
    memory.signal[which], memory.signal_ns[which], memory.holding_ns[which] = NEUTRAL, 0, _NEVER

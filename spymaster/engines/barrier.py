"""What stands at a level and behind it: the state of its liquidity, by depth against typical depth and by 5 s of flow.

A level on or outward of the best bid is the bid's, one on or outward of the best ask the ask's; between them it has no
side, and is void. One that is off the book's ticks (an average, or a price of another instrument) is taken at the
nearest tick outward. Its zone is `zone_ticks` prices from there outward, of which those within ten ticks of the touch
count: coverage is their share, and without any the level is void. Over these prices:

    D depth, T typical depth, A, C, F added, canceled, filled in `flow_s`, A60, C60, F60 in `context_s[0]`
    v volume, c churn in `flow_s` of the whole book, v', g' the norms of v and of v / c

    ABSORPTION  a price p of the zone, at most `absorption_offset_ticks` from the touch, with
                F(p) >= absorption_share v, F(p) >= absorption_filled_typ of its typical size,
                F(p) >= absorption_density g' c, and v >= absorption_volume v'
    WALL        a price of the zone has wall_typ of its typical size or more
    VACUUM      D <= vacuum_depth T, and of the missing T - D much was pulled and little eaten:
                C - A >= vacuum_pulled (T - D) and F <= vacuum_filled (T - D),
                or C60 - A60 >= vacuum_pulled (T - D) and F60 <= vacuum_context_filled C60
    CONSUMED    D <= consumed_depth T and F >= consumed_filled (T - D)
    WEAK        D <= weak_depth T
    NEUTRAL     otherwise

The first that matches is the state of the snap. As nothing but side and offset from the touch enters, states are found
for the 2 x 10 offsets once, whatever the number of levels. A typical size counts as one contract at least.

What is void says why; the first of REASONS that matches.

A state has held when it was seen for its `_hold_s`, holes of up to HOLE_NS bridged; what stood at a snap stands until the
next, so that quiet is no hole. What has held stays until another has held, or the hole is longer. To be void, or on the other
side, is to begin anew.

Mended from the original: prices scroll in and out of the ten without being canceled or added (`ledger.py`); eaten and
pulled are told apart; ABSORPTION needs fills; nothing is measured in contracts; `replenishment_ratio` is null where
nothing was removed; 240 s is context and never a condition, as over 240 s a book adds what it removes.
"""

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import profile
from spymaster.engines.ledger import Ledger, Longs
from spymaster.engines.typical import Flow, Norms, Typical

STATES: Final = ("VOID", "NEUTRAL", "WEAK", "CONSUMED", "VACUUM", "WALL", "ABSORPTION")
VOID, NEUTRAL, WEAK, CONSUMED, VACUUM, WALL, ABSORPTION = range(len(STATES))
REASONS: Final = (
    "", "snap is void", "no book", "crossed", "not whole", "warm-up", "inside the spread", "beyond ten levels",
)  # fmt: skip
SOUND, SNAP_VOID, NO_BOOK, CROSSED, NOT_WHOLE, WARM_UP, INSIDE, BEYOND = range(len(REASONS))
NO_SIDE: Final = -1
HOLE_NS: Final = NS_PER_SECOND

RATIOS: Final = ("depth_ratio", "wall_ratio", "eaten_share", "replenishment_ratio")
Floats = NDArray[np.float64]


class Ladder(NamedTuple):
    """The book at a snap by side and offset from the touch, arrays of (2, 10) unless said: an offset's are its zone's.

    Attributes:
        snap_ns: the snap.
        reason: SOUND, or why all of it is void; then the rest is zeros and NaN.
        touch: (2) ticks, BID and ASK; NO_PRICE where a side is empty.
        state: VOID to ABSORPTION, int8. VOID on a side that is empty.
        coverage: share of the zone that lies within the ten.
        depth: contracts.
        typical: contracts, typical depth.
        flows: (3 windows, 4, 2, 10) contracts ADDED, CANCELED, FILLED, and VISIBLE in price-buckets, int64.
        ratios: (4, 2, 10) as RATIOS names them: depth / typical; largest size / its typical one; largest share of the
            volume of `flow_s` that was eaten at a price near the touch, NaN of zones without one or where there was no volume; added / removed
            of `flow_s`, NaN where nothing was removed.
        ranks: (4, 2, 10) of each ratio in its own history, 0 to 1, see `_History`; NaN where there is none.
    """

    snap_ns: int
    reason: int
    touch: Longs
    state: NDArray[np.int8]
    coverage: Floats
    depth: Longs
    typical: Floats
    flows: Longs
    ratios: Floats
    ranks: Floats


class Judged(NamedTuple):
    """Levels at a snap, n of them: arrays of (n) unless said.

    Attributes:
        side: BID, ASK or NO_SIDE, int8.
        price: ticks of the book at which the zone begins, int64; 0 where there is no side.
        offset: ticks from the touch, int64.
        state: at this snap, int8.
        reason: why it is VOID, see REASONS; int8.
        held: the state that has held; VOID where none has yet, int8.
        held_since_ns: since when, int64; 0 where none has.
        coverage: share of the zone that is visible, 0 where void.
        depth: contracts in the zone.
        typical: contracts, typical depth of the zone.
        added: (n, 3) contracts in the zone in 5, 60 and 240 s.
        canceled: as `added`.
        filled: as `added`.
        flow_coverage: (n, 3) visible buckets of the zone's prices / buckets.
        delta_liq: (n, 3) added - canceled - filled.
        replenishment_ratio: (n, 3) added / (canceled + filled), NaN where nothing was removed.
        ratios: (4, n) as `Ladder.ratios`; NaN where void.
        ranks: (4, n) as `Ladder.ranks`.
    """

    side: NDArray[np.int8]
    price: Longs
    offset: Longs
    state: NDArray[np.int8]
    reason: NDArray[np.int8]
    held: NDArray[np.int8]
    held_since_ns: Longs
    coverage: Floats
    depth: Longs
    typical: Floats
    added: Longs
    canceled: Longs
    filled: Longs
    flow_coverage: Floats
    delta_liq: Longs
    replenishment_ratio: Floats
    ratios: Floats
    ranks: Floats


class Barrier:
    """The barrier of one contract's book, a snap after another: `work`, then `judge` of that snap."""

    def __init__(self, rules: profile.Barrier) -> None:
        raise NotImplementedError

    def work(self, snap_ns: int, ledger: Ledger, norms: Norms, *, warm: bool, void: bool) -> Ladder:
        """Find the states of a snap that the ledger has worked.

        Args:
            snap_ns: the ledger's newest snap.
            ledger: what happened.
            norms: what was typical before this snap.
            warm: `Typical.ready`.
            void: the snap is void for a reason that the caller has: a gap, a halt, skipped rows.
        """
        raise NotImplementedError

    def judge(self, ids: Sequence[Hashable], levels: ArrayLike) -> Judged:
        """Judge levels at the snap that was worked last, once.

        Args:
            ids: what makes a level the same from snap to snap though it moves, each once. One that is not asked for
                at a snap begins anew, so that no more is remembered than was asked for last.
            levels: their prices in ticks of the book, also fractions of them.
        """
        raise NotImplementedError


def flow_of(ledger: Ledger, flow_s: int) -> Flow:
    """Return what happened in the whole book in the profile's `flow_s`."""
    raise NotImplementedError

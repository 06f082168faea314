"""What stands at a level and behind it: the state of its liquidity, by depth against typical depth and by 5 s of flow.

A level on or outward of the best bid is the bid's, one on or outward of the best ask the ask's; between them it has no
side, and is void. One that is off the book's ticks (an average, or a price of another instrument) is taken at the
nearest tick outward. Its zone is `zone_ticks` prices from there outward, of which those within ten ticks of the touch
count: coverage is their share, and without any the level is void. Over these prices:

    D depth, T typical depth, F filled in `flow_s`
    v volume, c churn in `flow_s` of the whole book; v', g' the norms of v and of v / c

    ABSORPTION  a price p of the zone, at most `absorption_offset_ticks` from the touch, with
                F(p) >= absorption_share v, F(p) >= absorption_filled_typ of its typical size,
                F(p) >= absorption_density g' c, and v >= absorption_volume v'
    WALL        a price of the zone has wall_typ of the typical size or more: of its own, or of the mean of the side's
                ten, whichever is larger
    VACUUM      D <= vacuum_depth T, and of what was removed there, C' + F', at least vacuum_pulled was canceled
    CONSUMED    D <= consumed_depth T, and more than consumed_filled of it was filled
    WEAK        D <= weak_depth T
    NEUTRAL     otherwise

C' and F' are what was canceled and filled at the zone's prices since each was last full (`removals.py`), if it was not
long ago; where they are less than removed_known (T - D), as at prices that were the other side's a moment ago, those of
the side's ten; where these are less too, nobody knows who removed it.
VACUUM, CONSUMED and WEAK are of zones of which `depth_ticks` prices or more count, since one alone is often empty.
The first that matches is the state of the snap. As nothing but side and offset from the touch enters, states are found
for the 2 x 10 offsets once, whatever the number of levels. A typical size counts as one contract at least.

What is void says why: the first of REASONS that is true of it.

A state holds from when it was seen for its `_hold_s`, holes of up to HOLE_NS bridged, until it has not been seen for
longer than that, or another holds. Where none does, NEUTRAL is held. What stood at a snap stands until the next, so
that quiet is no hole. A level that is void, or on the other side than before, begins anew. But a VACUUM is a side's: it
holds when any price of the side has shown it for its time, and then at once at each level that shows it (`holds.py`).

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
from spymaster.engines.history import History
from spymaster.engines.holds import ABSORPTION, CONSUMED, NEUTRAL, STATES, VACUUM, VOID, WALL, WEAK, Bytes, Holds
from spymaster.engines.ledger import ADDED, CANCELED, FILLED, SNAP_NS, VISIBLE, WINDOWS_S, Book, Ledger, Longs
from spymaster.engines.removals import Removals
from spymaster.engines.rows import ASK, BID, NO_PRICE, SIDES
from spymaster.engines.typical import OFFSETS, SCALE, Flow, Norms, by_offset

REASONS: Final = (
    "", "snap is void", "no book", "crossed", "not whole", "warm-up", "inside the spread", "beyond ten levels",
)  # fmt: skip
SOUND, SNAP_VOID, NO_BOOK, CROSSED, NOT_WHOLE, WARM_UP, INSIDE, BEYOND = range(len(REASONS))
NO_SIDE: Final = -1
HOLE_NS: Final = NS_PER_SECOND  # a move of one tick and back

RATIOS: Final = ("depth_ratio", "wall_ratio", "eaten_share", "replenishment_ratio")
DEPTH_RATIO, WALL_RATIO, EATEN_SHARE, REPLENISHMENT_RATIO = range(len(RATIOS))
_OUTWARD: Final = np.array([[-1], [1]], np.int64)  # of a side, BID and ASK
_OFFSETS: Final = np.arange(OFFSETS, dtype=np.int64)
_BUCKETS: Final = np.array(WINDOWS_S) * (NS_PER_SECOND // SNAP_NS)
_FARTHEST: Final = 2.0**40  # ticks; farther is beyond any book
_SHAPE: Final = (len(SIDES), OFFSETS)
_STEPS: Final = np.array([[1 / 32], [1 / 8], [1 / 128], [1 / 32]])[:, :, None]  # of the histogram of each ratio

Floats = NDArray[np.float64]


class Ladder(NamedTuple):
    """The book at a snap by side and offset from the touch: arrays of (2, 10) unless said, an offset's are its zone's.

    Attributes:
        snap_ns: the snap.
        reason: SOUND, or why all of it is void; then the rest is zeros and NaN.
        touch: (2) ticks, BID and ASK; NO_PRICE where a side is empty.
        state: VOID to ABSORPTION. VOID on a side that is empty.
        coverage: share of the zone that lies within the ten.
        depth: contracts.
        typical: contracts, typical depth.
        flows: (3, 4, 2, 10) by window; contracts ADDED, CANCELED, FILLED, and VISIBLE in prices times buckets.
        ratios: (4, 2, 10) as RATIOS names them: depth / typical; largest size / the typical size that a WALL goes by;
            largest share of the volume of `flow_s` that was eaten at a price near the touch, NaN of zones without one
            and where nothing was printed; added / removed of `flow_s`, NaN where nothing was removed.
        ranks: (4, 2, 10) of each ratio in its own history, see `history.py`.
    """

    snap_ns: int
    reason: int
    touch: Longs
    state: Bytes
    coverage: Floats
    depth: Longs
    typical: Floats
    flows: Longs
    ratios: Floats
    ranks: Floats


class Judged(NamedTuple):
    """Levels at a snap, n of them: arrays of (n) unless said. What is void has zeros and NaN.

    Attributes:
        side: BID, ASK or NO_SIDE.
        price: ticks of the book at which the zone begins.
        offset: ticks of it from the touch, also where it is beyond ten levels.
        state: at this snap.
        reason: why it is VOID, see REASONS.
        held: the state that holds.
        held_since_ns: from when it was seen.
        coverage: share of the zone that is visible.
        depth: contracts in the zone.
        typical: contracts, typical depth of the zone.
        added: (n, 3) contracts in the zone in 5, 60 and 240 s.
        canceled: as `added`.
        filled: as `added`.
        flow_coverage: (n, 3) share of the window's buckets in which the zone's visible prices were visible.
        delta_liq: (n, 3) added - canceled - filled.
        replenishment_ratio: (n, 3) added / (canceled + filled), NaN where nothing was removed.
        ratios: (n, 4) as `Ladder.ratios`.
        ranks: (n, 4) as `Ladder.ranks`.
    """

    side: Bytes
    price: Longs
    offset: Longs
    state: Bytes
    reason: Bytes
    held: Bytes
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
    """The barrier of one contract's book in one session, a snap after another: `work`, then `judge` of that snap.

    Attributes:
        ladder: of the snap that was worked last.
        flow: of the same, for `Typical`; None where `flow_s` are not whole.
    """

    def __init__(self, rules: profile.Barrier) -> None:
        self.ladder = _void_ladder(0, SNAP_VOID)
        self._rules = rules
        # [j, k]: the price at offset j is in the zone that begins at offset k.
        self._zone = np.array(
            [[k <= j < k + rules.zone_ticks for k in range(OFFSETS)] for j in range(OFFSETS)], np.int64
        )
        self._coverage = self._zone.sum(axis=0) / rules.zone_ticks
        self._history = History((len(RATIOS), *_SHAPE), _STEPS)
        self._removals = Removals(rules.flow_s)
        self._holds = Holds(_hold_ns(rules), HOLE_NS)
        self._sides = Holds(_hold_ns(rules), HOLE_NS)
        self._vacant = np.zeros(len(SIDES), np.bool_)  # which sides hold VACUUM
        self.flow: Flow | None = None
        self._void_ns = -(2**62)  # the newest snap that the caller said is void

    def work(self, snap_ns: int, ledger: Ledger, norms: Norms, *, warm: bool, void: bool) -> Ladder:
        """Find the states of a snap that the ledger has worked.

        Args:
            snap_ns: the ledger's newest snap.
            ledger: what happened.
            norms: what was typical before this snap.
            warm: `Typical.ready`.
            void: the snap is void for a reason that the caller has: a gap, a halt, skipped rows, now or since the snap
                before. What flows is whole `flow_s` after the last of these.
        """
        self._void_ns = snap_ns if void else self._void_ns
        after_void = snap_ns - self._void_ns < self._rules.flow_s * NS_PER_SECOND
        book, whole = ledger.book, is_whole(ledger, snap_ns, self._rules.flow_s) and not after_void
        self.flow = flow_of(ledger, self._rules.flow_s) if whole and not ledger.crossed else None
        broken = (void, book is None, ledger.crossed, not whole, not warm)
        if book is None or any(broken):
            self.ladder = _void_ladder(snap_ns, SNAP_VOID + broken.index(True))
            self._removals.forget()
        else:
            self.ladder = self._find(snap_ns, book, ledger, norms)
        shown = np.where((self.ladder.state == VACUUM).any(axis=1), VACUUM, NEUTRAL).astype(np.int8)
        shown[self.ladder.reason != SOUND] = VOID
        held, _ = self._sides.work(snap_ns, SIDES, np.array(SIDES, np.int8), shown)
        self._vacant = held == VACUUM
        return self.ladder

    def judge(self, ids: Sequence[Hashable], levels: ArrayLike) -> Judged:
        """Judge levels at the snap that was worked last, once a snap.

        Args:
            ids: what makes a level the same from snap to snap though it moves, each once. One that is not asked for
                at a snap begins anew, so that no more is remembered than was asked for last.
            levels: their prices in ticks of the book, also fractions of them.
        """
        ladder = self.ladder
        side, price, offset, reason = _places(ladder, np.asarray(levels, np.float64))
        sound = reason == SOUND
        at = np.where(sound, side * OFFSETS + offset, 0)  # of what is by side and offset, laid flat
        state = np.where(sound, ladder.state.ravel()[at], VOID).astype(np.int8)
        held, since = self._holds.work(ladder.snap_ns, ids, side, state, self._vacant)
        flows = ladder.flows.reshape(-1, len(SIDES) * OFFSETS)[:, at] * sound
        added, canceled, filled, visible = flows.reshape(len(WINDOWS_S), VISIBLE + 1, -1).transpose(1, 2, 0)
        removed, coverage = canceled + filled, np.where(sound, ladder.coverage.ravel()[at], 0)
        most = np.maximum(np.rint(coverage * self._rules.zone_ticks), 1)[:, None] * _BUCKETS
        return Judged(
            side, price, offset, state, reason, held, since, coverage,
            depth=ladder.depth.ravel()[at] * sound,
            typical=ladder.typical.ravel()[at] * sound,
            added=added, canceled=canceled, filled=filled, flow_coverage=visible / most,
            delta_liq=added - removed, replenishment_ratio=_quotient(added, removed),
            ratios=np.where(sound, ladder.ratios.reshape(len(RATIOS), -1)[:, at], np.nan).T,
            ranks=np.where(sound, ladder.ranks.reshape(len(RATIOS), -1)[:, at], np.nan).T,
        )  # fmt: skip

    def _find(self, snap_ns: int, book: Book, ledger: Ledger, norms: Norms) -> Ladder:
        rules, zone = self._rules, self._zone
        touch = book.px[:, 0].astype(np.int64)
        there = (touch != NO_PRICE)[:, None]
        sizes, typical = by_offset(book).astype(np.int64), np.maximum(norms.sizes, SCALE)
        priced = _flows(ledger, touch) * there
        zoned = _Zoned(priced @ zone, sizes @ zone, (typical @ zone) / SCALE)
        eaten = priced[WINDOWS_S.index(rules.flow_s), FILLED]
        whole = flow_of(ledger, rules.flow_s)
        near = np.less_equal(_OFFSETS, rules.absorption_offset_ticks)
        shares = np.where(near, eaten / whole.volume, np.nan) if whole.volume else np.full(_SHAPE, np.nan)
        # A touch is small as it is always eaten, and whatever comes up to it would be a wall by its own typical size.
        walls = sizes * SCALE / np.maximum(typical, typical.sum(axis=1, keepdims=True) // OFFSETS)
        share, wall = _most(np.array((shares, walls)), zone)
        absorbed = (near & self._is_eaten(eaten, typical, norms, whole)) @ zone > 0
        self._removals.work(snap_ns, ledger, touch, sizes, typical)
        state = self._state(zoned, wall, absorbed)
        flow = zoned.flows[WINDOWS_S.index(rules.flow_s)]
        replenished = _quotient(flow[ADDED], flow[CANCELED] + flow[FILLED])
        ratios = np.where(there, np.array((zoned.depth / zoned.typical, wall, share, replenished)), np.nan)
        return Ladder(
            snap_ns, SOUND, touch, np.where(there, state, VOID).astype(np.int8),
            np.broadcast_to(self._coverage, _SHAPE), zoned.depth, zoned.typical, zoned.flows, ratios,
            self._history.rank(ratios),
        )  # fmt: skip

    def _is_eaten(self, eaten: Longs, typical: Longs, norms: Norms, flow: Flow) -> NDArray[np.bool_]:
        """Return at which prices the flow is eaten, of (2, 10)."""
        rules = self._rules
        if flow.volume * SCALE < rules.absorption_volume * norms.volume:
            return np.zeros(_SHAPE, np.bool_)
        least = max(
            rules.absorption_share * flow.volume, rules.absorption_density * norms.density * flow.churn / SCALE, 1.0
        )
        found: NDArray[np.bool_] = (eaten >= least) & (eaten * SCALE >= rules.absorption_filled_typ * typical)
        return found

    def _state(self, zoned: "_Zoned", wall: Floats, absorbed: NDArray[np.bool_]) -> Bytes:
        rules, depth, typical = self._rules, zoned.depth, zoned.typical
        pulled, removed = self._removed(typical - depth)
        wide = self._zone.sum(axis=0) >= rules.depth_ticks
        found = {
            ABSORPTION: absorbed,
            WALL: wall >= rules.wall_typ,
            VACUUM: wide & (depth <= rules.vacuum_depth * typical) & (removed > 0)
            & (pulled >= rules.vacuum_pulled * removed),
            CONSUMED: wide & (depth <= rules.consumed_depth * typical)
            & (removed - pulled > rules.consumed_filled * removed),
            WEAK: wide & (depth <= rules.weak_depth * typical),
        }  # fmt: skip
        states = np.full(_SHAPE, NEUTRAL, np.int8)
        for state, where in reversed(found.items()):  # so that the first that matches stays
            states[where] = state
        return states

    def _removed(self, missing: Floats) -> tuple[Longs, Longs]:
        """Return what was pulled, and what was removed at all: of the zone, else of the side, else nothing."""
        one = np.array((self._removals.pulled, self._removals.pulled + self._removals.eaten))
        zone, side = one @ self._zone, one.sum(axis=2, keepdims=True)
        least = self._rules.removed_known * missing
        pulled, removed = np.where(zone[1] >= least, zone, side * (side[1] >= least))
        return pulled, removed


class _Zoned(NamedTuple):
    """What `Ladder` has of each zone."""

    flows: Longs
    depth: Longs
    typical: Floats


def flow_of(ledger: Ledger, flow_s: int) -> Flow:
    """Return what happened in the whole book in the profile's `flow_s`."""
    totals = ledger.totals(flow_s)
    return Flow(int(totals[FILLED]), int(totals.sum()))


def is_whole(ledger: Ledger, snap_ns: int, window_s: int) -> bool:
    """Return whether the ledger's window that ends at its newest snap has been accounted whole."""
    since_ns = ledger.whole_since_ns
    return since_ns is not None and since_ns <= snap_ns - window_s * NS_PER_SECOND


def _flows(ledger: Ledger, touch: Longs) -> Longs:
    """Return ADDED to VISIBLE of each window at each offset, (3, 4, 2, 10)."""
    return ledger.windows(touch[:, None] + _OUTWARD * _OFFSETS).transpose(0, 3, 1, 2)


def _most(values: Floats, zone: NDArray[np.int64]) -> Floats:
    """Return the largest value of each zone, of (..., 10) by price; NaN of zones without one."""
    values = values[..., None]
    spread = np.where(zone & ~np.isnan(values), values, -np.inf).max(axis=-2)
    return np.where(spread > -np.inf, spread, np.nan)


def _quotient(above: Longs, below: Longs) -> Floats:
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)


def _hold_ns(rules: profile.Barrier) -> Longs:
    """Return how long each of STATES must be seen."""
    seconds = [0.0, 0.0, *(getattr(rules, f"{name.lower()}_hold_s") for name in STATES[WEAK:])]
    return np.array([round(hold_s * NS_PER_SECOND) for hold_s in seconds], np.int64)


def _void_ladder(snap_ns: int, reason: int) -> Ladder:
    none, unknown = np.zeros(_SHAPE), np.full((len(RATIOS), *_SHAPE), np.nan)
    flows = np.zeros((len(WINDOWS_S), VISIBLE + 1, *_SHAPE), np.int64)
    return Ladder(
        snap_ns, reason, np.full(len(SIDES), NO_PRICE, np.int64), np.full(_SHAPE, VOID, np.int8), none,
        none.astype(np.int64), none, flows, unknown, unknown,
    )  # fmt: skip


def _places(ladder: Ladder, levels: Floats) -> tuple[Bytes, Longs, Longs, Bytes]:
    """Return side, price, offset and reason of each level."""
    levels = np.clip(levels, -_FARTHEST, _FARTHEST)
    there = ladder.touch != NO_PRICE
    bid, ask = (levels <= ladder.touch[BID]) & there[BID], (levels >= ladder.touch[ASK]) & there[ASK]
    side = np.where(bid, BID, np.where(ask, ASK, NO_SIDE)).astype(np.int8)
    price = np.where(bid, np.floor(levels), np.where(ask, np.ceil(levels), 0)).astype(np.int64)
    offset = np.where(bid, ladder.touch[BID] - price, np.where(ask, price - ladder.touch[ASK], 0))
    found = np.where(side == NO_SIDE, INSIDE, np.where(offset >= OFFSETS, BEYOND, SOUND))
    return side, price, offset, np.where(ladder.reason, ladder.reason, found).astype(np.int8)

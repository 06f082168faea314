"""What is typical of a book right now: sizes by offset from the touch, and the norms of what flows through it.

An offset is a number of ticks outward from the touch of its side, 0 to 9: a book shows ten prices, so it shows these.
Each number is a filter over buckets of 250 ms. A sample x moves it by

    m += a(n) * (min(max(x, m / clip), clip * m) - m),    a(n) = 1 - 2 ** (-n / half_life)

where n counts the buckets it stands for: 1, or those of a pause before it, in which the sample before stood (5 s of
them at most, as what flowed in 5 s is 0 after that). For the first `mean_snaps` buckets it is their plain mean, because
from one first sample it took ten minutes to recover. A snap that is void moves nothing, and no pause spans it.

Values are integers of 1 / SCALE contract, weights of 2 ** -20, and a step rounds half up, so that the same bits come
on every machine. A sample counts as at most 2 ** 26 contracts, so that no product leaves int64.

A session begins with nothing, and is not `ready` for `warm_up_s`; or with what earlier sessions had at that time.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import profile
from spymaster.engines.ledger import SNAP_NS, Book, Longs
from spymaster.engines.rows import NO_PRICE, SIDES, Ints
from spymaster.events.market import BOOK_LEVELS

SCALE_BITS: Final = 16
SCALE: Final = 1 << SCALE_BITS  # of one contract, and of a density of 1
OFFSETS: Final = BOOK_LEVELS  # ticks outward from the touch that are known in any book

_OUTWARD: Final = np.array([[-1], [1]])  # of a side, BID and ASK
_WEIGHT_BITS: Final = 20
_MOST: Final = 2**26  # contracts
_MOST_QUIET: Final = 5 * NS_PER_SECOND // SNAP_NS  # buckets that a pause stands for at most


class Flow(NamedTuple):
    """What happened in the whole book in the profile's `flow_s`, in contracts.

    Attributes:
        volume: filled on both sides.
        churn: added, canceled and filled on both sides.
    """

    volume: int
    churn: int


class Norms(NamedTuple):
    """What is typical, as fixed-point integers of 1 / SCALE.

    Attributes:
        sizes: (2, 10) by side and offset.
        volume: of `flow_s`.
        churn: of `flow_s`.
        density: volume / churn.
    """

    sizes: Longs
    volume: int
    churn: int
    density: int


def mean_of(sessions: Sequence[Norms]) -> Norms:
    """Return the mean of what earlier sessions had at the same time of day, to begin a session with; at least one."""
    count = len(sessions)
    total = sum(norms.sizes for norms in sessions)
    rest = (sum(column) // count for column in list(zip(*sessions, strict=True))[1:])
    return Norms(np.asarray(total // count, np.int64), *rest)


def by_offset(book: Book) -> Ints:
    """Return the size at each offset of a sound book, (2, 10) contracts; 0 where nothing is listed."""
    sizes = np.zeros((len(SIDES), OFFSETS), np.int32)
    px = book.px.astype(np.int64)
    offset = (px - px[:, :1]) * _OUTWARD
    side, level = np.nonzero((px != NO_PRICE) & (offset < OFFSETS))
    sizes[side, offset[side, level]] = book.sz[side, level]
    return sizes


class Typical:
    """The typical sizes and norms of one contract in one session, a snap after another.

    Args:
        rules: of the profile.
        seed: what earlier sessions had at this time of day, see `mean_of`; then there is no warm-up.
    """

    def __init__(self, rules: profile.Typical, seed: Norms | None = None) -> None:
        self._sizes = _Filter(rules, len(SIDES) * OFFSETS, None if seed is None else seed.sizes.ravel())
        self._flow = _Filter(rules, 3, None if seed is None else np.array(seed[1:], np.int64))
        self._warm_up = 0 if seed is not None else rules.warm_up_s * NS_PER_SECOND // SNAP_NS
        self._snap_ns = 0
        self._stood: tuple[Longs, Flow | None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over: it counts the time that was not void."""
        return self._sizes.buckets >= self._warm_up

    @property
    def norms(self) -> Norms:
        """What is typical as of the newest snap; zeros before the first."""
        volume, churn, density = self._flow.values.tolist()
        return Norms(self._sizes.values.reshape(len(SIDES), OFFSETS).copy(), volume, churn, density)

    def work(self, snap_ns: int, book: Book | None, flow: Flow | None) -> None:
        """Count a snap, after it was judged by what was typical before.

        Args:
            snap_ns: later than the one before.
            book: the sound book of the snap; None where the snap is void. One without a touch on a side is as void.
            flow: None where the 5 s are not whole.
        """
        if book is None or (book.px[:, 0] == NO_PRICE).any():
            self._stood = None
            return
        sizes = by_offset(book).ravel().astype(np.int64)
        quiet = min((snap_ns - self._snap_ns) // SNAP_NS - 1, _MOST_QUIET)
        if self._stood is not None and quiet > 0:
            self._count(*self._stood, quiet)
        self._count(sizes, flow, 1)
        self._snap_ns, self._stood = snap_ns, (sizes, flow)

    def _count(self, sizes: Longs, flow: Flow | None, buckets: int) -> None:
        self._sizes.step(np.minimum(sizes, _MOST) << SCALE_BITS, buckets)
        if flow is not None:
            volume, churn = (min(contracts, _MOST) << SCALE_BITS for contracts in flow)
            density = (flow.volume << SCALE_BITS) // flow.churn if flow.churn else int(self._flow.values[2])
            self._flow.step(np.array([volume, churn, density], np.int64), buckets)


class _Filter:
    """Some numbers that follow their samples."""

    def __init__(self, rules: profile.Typical, count: int, values: Longs | None) -> None:
        self.values = np.zeros(count, np.int64) if values is None else values.copy()
        self.buckets = 0
        self._clip, self._mean = rules.clip, 0 if values is not None else rules.mean_snaps
        self._weights = _weights(rules.half_life_s * NS_PER_SECOND // SNAP_NS)

    def step(self, sample: Longs, buckets: int) -> None:
        """Move towards a sample that stands for some buckets."""
        values, self.buckets = self.values, self.buckets + buckets
        if self.buckets <= self._mean:
            twice = 2 * buckets * (sample - values) + self.buckets
            self.values = values + twice // (2 * self.buckets)
            return
        sample = np.clip(sample, values // self._clip, values * self._clip)
        self.values = values + (((sample - values) * self._weights[buckets] + (1 << _WEIGHT_BITS - 1)) >> _WEIGHT_BITS)


@lru_cache
def _weights(half_life: int) -> tuple[int, ...]:
    """Return a(n) of 0 to the most buckets; by decimals, as powers of floats differ between machines."""
    powers = (Decimal(2) ** (Decimal(-buckets) / half_life) for buckets in range(_MOST_QUIET + 1))
    return tuple(int((1 - power) * (1 << _WEIGHT_BITS) + Decimal("0.5")) for power in powers)

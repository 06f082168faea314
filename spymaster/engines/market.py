"""The state of one market in one session, from its prints and the touch of its book, a piece at each snap.

Every memory begins anew at the session's begin: a `Market` is one session's, and the next one gets `Earlier`, the named
values of whole sessions before. So what has warmed up from there is what has run all along.

Prices are whole ticks, the mid whole half ticks (bid + ask); sums are integers, and a quotient is taken once, at
output. A print counts at its own time, a late one (not after the snap before) just after that snap: else it would
change a bar or a range that was over, which nobody could have known then. Where data is missing (`void`) nothing is
bridged silently: each value says whether its own span is whole, slopes and true ranges begin anew.
"""

from collections import deque
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import profile
from spymaster.engines.bars import Bars
from spymaster.engines.profile import Kind
from spymaster.engines.rows import NO_PRICE
from spymaster.engines.session import Session, Span
from spymaster.engines.volume_profile import ValueArea, VolumeProfile

_MOST_VOIDS: Final = 64  # then the last one is widened: it says void for longer than was
_AVERAGES: Final[tuple[tuple[Kind, int], ...]] = (("SMA_200", 200), ("SMA_400", 400))


class Prints(NamedTuple):
    """Prints of a piece, in order: UTC nanoseconds, ticks, contracts or shares, aggressor +1, -1 or 0."""

    ts_ns: NDArray[np.int64]
    price: NDArray[np.int32]
    size: NDArray[np.int32]
    side: NDArray[np.int8]

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Prints":
        """Return the prints of a mask, or of indices."""
        return Prints(self.ts_ns[which], self.price[which], self.size[which], self.side[which])


class Earlier(NamedTuple):
    """What a session takes over from whole ones before it.

    Attributes:
        high: of the prior day in ticks: of its regular hours, of the whole session where nothing was printed in them.
        low: likewise.
        close: the last print of the same span.
        whole: nothing was missing in that span.
        closes: two-minute closes in ticks, the newest last; 400 are enough.
    """

    high: int | None = None
    low: int | None = None
    close: int | None = None
    whole: bool = True
    closes: tuple[int, ...] = ()


class Named(NamedTuple):
    """A price that the session gave a name.

    Attributes:
        kind: its name.
        price: ticks; of a fraction the nearest, a half away from zero.
        fixed: it will not move any more in this session.
        whole: nothing is missing in the span it is made of.
    """

    kind: Kind
    price: int
    fixed: bool
    whole: bool


class MarketState(NamedTuple):
    """The market at a snap. What is not known yet is None.

    Attributes:
        snap_ns: the snap.
        bid: ticks, of the last sound book.
        ask: likewise.
        spot: their sum: the mid in half ticks.
        last: price of the last print.
        velocity: of the mid, ticks a second over the profile's `approach_s`, + is up.
        volume: contracts or shares since the session's begin.
        vwap: ticks, of the same.
        cvd: bought less sold, by the vendor's side, of the same; `voids` says how many holes it has.
        unsided: contracts in neither.
        atr: ticks.
        prior_close: ticks.
        voids: spans without data in the session.
        whole_since_ns: the end of the last of them, the session's begin if there is none.
        named: the named prices.
    """

    snap_ns: int
    bid: int | None
    ask: int | None
    spot: int | None
    last: int | None
    velocity: float | None
    volume: int
    vwap: float | None
    cvd: int
    unsided: int
    atr: float | None
    prior_close: int | None
    voids: int
    whole_since_ns: int
    named: tuple[Named, ...]


def nearest(total: int, count: int) -> int:
    """Return the whole number nearest to a fraction, a half away from zero, so that it mirrors."""
    whole = (2 * abs(total) + count) // (2 * count)
    return whole if total >= 0 else -whole


class _Range:
    """High, low and last print of a span."""

    def __init__(self, span: Span) -> None:
        self.begin_ns, self.end_ns = span
        self.high: int | None = None
        self.low: int | None = None
        self.last: int | None = None

    def add(self, ts_ns: NDArray[np.int64], price: NDArray[np.int32], high: int, low: int) -> None:
        """Count prints, ascending in time, whose own high and low are given."""
        if self.end_ns <= ts_ns[0] or ts_ns[-1] < self.begin_ns:
            return
        if ts_ns[0] < self.begin_ns or self.end_ns <= ts_ns[-1]:
            begin, end = np.searchsorted(ts_ns, (self.begin_ns, self.end_ns))
            price = price[begin:end]
            if not len(price):
                return
            high, low = int(price.max()), int(price.min())
        self.high = high if self.high is None else max(high, self.high)
        self.low = low if self.low is None else min(low, self.low)
        self.last = int(price[-1])


class Market:
    """One session's market state, worked piece by piece.

    Attributes:
        bars: its minutes, with their footprint.
        volumes: its volume by price; the value area is renewed when a minute closes.
        outside: prints that were not of this session, or had no price.
    """

    def __init__(self, rules: profile.Market, session: Session, earlier: Earlier | None = None) -> None:
        self.session = session
        self.bars = Bars(session, earlier.closes if earlier else (), rules.atr_bars)
        self.volumes = VolumeProfile(rules.value_area_pct)
        self.outside = 0
        self._earlier = earlier or Earlier()
        self._approach_ns = rules.approach_s * NS_PER_SECOND
        self._whole_session, self._rth = _Range((session.begin_ns, session.end_ns)), _Range(session.rth)
        spans = (session.premarket, session.overnight, session.opening_range, session.initial_balance)
        self._ranges: list[tuple[Kind, Kind, _Range]] = [
            ("PM_HIGH", "PM_LOW", _Range(spans[0])),
            ("OVERNIGHT_HIGH", "OVERNIGHT_LOW", _Range(spans[1])),
            ("OR_HIGH", "OR_LOW", _Range(spans[2])),
            ("IB_HIGH", "IB_LOW", _Range(spans[3])),
            ("SESSION_HIGH", "SESSION_LOW", self._whole_session),
        ]
        self._snap_ns: int | None = None
        self._quote: tuple[int, int] | None = None
        self._spots: deque[tuple[int, int]] = deque()  # of the snaps of the last `approach_s`, and one before
        self._area: ValueArea | None = None
        self._value = self._cvd = self._sided = 0
        self._voids: list[Span] = []

    def work(self, snap_ns: int, prints: Prints, quote: tuple[int, int] | None) -> None:
        """Work the piece that ends at a snap.

        Args:
            snap_ns: the snap, later than the one before.
            prints: those after the snap before, up to and with this one, and late ones.
            quote: bid and ask in ticks of the last sound book, None if there has been none.
        """
        mine = self._mine(prints)
        if len(mine.ts_ns):
            self._count(mine)
        if self.bars.close_until(snap_ns):
            self._area = self.volumes.value_area()
        self._quote = quote
        if quote is not None:
            self._spots.append((snap_ns, sum(quote)))
            while len(self._spots) > 1 and self._spots[1][0] <= snap_ns - self._approach_ns:
                self._spots.popleft()
        self._snap_ns = snap_ns

    def _mine(self, prints: Prints) -> Prints:
        begin, end = self.session.begin_ns, self.session.end_ns
        times = prints.ts_ns if self._snap_ns is None else np.maximum(prints.ts_ns, self._snap_ns + 1)
        inside = (prints.ts_ns >= begin) & (times < end) & (prints.price != NO_PRICE)
        if inside.all():
            return prints._replace(ts_ns=times)
        self.outside += int((~inside).sum())
        return prints._replace(ts_ns=times).take(inside)

    def _count(self, prints: Prints) -> None:
        ts_ns, price, size, side = prints
        high, low = int(price.max()), int(price.min())
        for _, _, span in self._ranges:
            span.add(ts_ns, price, high, low)
        self._rth.add(ts_ns, price, high, low)
        self.volumes.add(price, size)
        self.bars.add(ts_ns, price, size, side)
        wide = size.astype(np.int64)
        self._value += int((wide * price).sum())
        self._cvd += int((wide * side).sum())
        self._sided += int(wide[side != 0].sum())

    def void(self, begin_ns: int, end_ns: int) -> None:
        """Say that data of [begin, end) is missing: a gap, skipped rows, a halt, or that nobody listened yet."""
        begin, end = max(begin_ns, self.session.begin_ns), min(end_ns, self.session.end_ns)
        if begin >= end:
            return
        last = self._voids[-1] if self._voids else None
        if last is not None and ((begin <= last[1] and last[0] <= end) or len(self._voids) == _MOST_VOIDS):
            self._voids[-1] = (min(begin, last[0]), max(end, last[1]))
        else:
            self._voids.append((begin, end))
        self.bars.mark_void(begin, end)
        self._spots.clear()

    def is_whole(self, begin_ns: int, end_ns: int) -> bool:
        """Return whether no data of a span is known to be missing."""
        return not any(begin < end_ns and begin_ns < end for begin, end in self._voids)

    def state(self) -> MarketState:
        """Return the market at the last snap.

        Raises:
            ValueError: no piece has been worked.
        """
        if self._snap_ns is None:
            raise ValueError("a market has no state before its first snap")
        bid, ask = self._quote or (None, None)
        volume = self.volumes.volume + self.volumes.beyond
        return MarketState(
            snap_ns=self._snap_ns,
            bid=bid,
            ask=ask,
            spot=None if self._quote is None else sum(self._quote),
            last=self._whole_session.last,
            velocity=self._velocity(self._snap_ns),
            volume=volume,
            vwap=self._value / volume if volume else None,
            cvd=self._cvd,
            unsided=volume - self._sided,
            atr=self.bars.atr,
            prior_close=self._earlier.close,
            voids=len(self._voids),
            whole_since_ns=max((end for _, end in self._voids), default=self.session.begin_ns),
            named=tuple(self._named(self._snap_ns, volume)),
        )

    def _velocity(self, snap_ns: int) -> float | None:
        """The mid now less the mid as of the window's begin: quiet counts, a pause is no missing point."""
        if not self._spots or self._spots[0][0] > snap_ns - self._approach_ns:
            return None
        return (self._spots[-1][1] - self._spots[0][1]) * NS_PER_SECOND / (2 * self._approach_ns)

    def _named(self, snap_ns: int, volume: int) -> list[Named]:
        prior, found = self._earlier, []
        if prior.high is not None and prior.low is not None:
            found += [Named("PRIOR_DAY_HIGH", prior.high, True, prior.whole)]
            found += [Named("PRIOR_DAY_LOW", prior.low, True, prior.whole)]
        for high_kind, low_kind, span in self._ranges:
            if span.high is not None and span.low is not None:
                over, whole = snap_ns >= span.end_ns, self.is_whole(span.begin_ns, min(span.end_ns, snap_ns))
                found += [Named(high_kind, span.high, over, whole), Named(low_kind, span.low, over, whole)]
        whole = self.is_whole(self.session.begin_ns, snap_ns)
        if self._area is not None:
            found += [Named("POC", self._area.poc, False, whole), Named("VAH", self._area.vah, False, whole)]
            found += [Named("VAL", self._area.val, False, whole)]
        for kind, count in _AVERAGES:
            if (average := self.bars.average(count)) is not None:
                found += [Named(kind, nearest(average.total, count), False, self._is_whole_since(average.since_minute))]
        if volume:
            found += [Named("VWAP", nearest(self._value, volume), False, whole)]
        return found

    def _is_whole_since(self, minute: int) -> bool:
        earlier = minute >= 0 or self._earlier.whole
        return earlier and not self.bars.void[max(minute, 0) : self.bars.closed].any()

    def earlier(self) -> Earlier:
        """Return what the next session takes over; asked when this one is over."""
        self.bars.close_until(self.session.end_ns)
        day = self._rth if self._rth.last is not None else self._whole_session
        if day.last is None:
            return self._earlier
        whole = self.is_whole(day.begin_ns, day.end_ns)
        return Earlier(day.high, day.low, day.last, whole, self.bars.last_closes())

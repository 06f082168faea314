"""One-minute bars of a session with their footprint, and what is made of closed ones: moving averages, true ranges.

A minute in which nothing was printed is no bar. A bar closes at the first snap at or after its minute's end, and never
changes after: who hands late prints over has moved them to the snap that has them.
"""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.session import NS_PER_MINUTE, Session

LONGEST_AVERAGE: Final = 400  # two-minute closes, SMA_400
_PAIR: Final = 2  # minutes of a bar that the averages are made of


class Footprint(NamedTuple):
    """Contracts that buyers and sellers took in a minute, by price in ticks, ascending."""

    price: NDArray[np.int32]
    bought: NDArray[np.int64]
    sold: NDArray[np.int64]


class Average(NamedTuple):
    """A moving average as a fraction, in ticks, and since which minute of the session it needs prints.

    `since_minute` is -1 where closes of earlier sessions are among its own.
    """

    total: int
    closes: int
    since_minute: int


class Bars:
    """The columns of a session's minutes, entry 0 its first: ticks and contracts, meaningless where `prints` is 0.

    Attributes:
        void: the minute lacks data, in part or whole.
        closed: how many minutes are over.
    """

    def __init__(self, session: Session, earlier_closes: Sequence[int], atr_bars: int) -> None:
        self._begin_ns = session.begin_ns
        minutes = -(-(session.end_ns - session.begin_ns) // NS_PER_MINUTE)
        self.high, self.low, self.close = (np.zeros(minutes, np.int32) for _ in range(3))
        self.prints, self.bought, self.sold, self.unsided = (np.zeros(minutes, np.int64) for _ in range(4))
        self.void = np.zeros(minutes, np.bool_)
        self.closed = 0
        self._footprints: dict[int, Footprint] = {}  # of closed minutes: a session's, so at most 1,500
        self._open: list[tuple[int, NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]] = []  # not closed yet
        self._ranges: deque[int] = deque(maxlen=atr_bars)
        self._before: int | None = None  # the close that the next true range reaches back to
        self._sums = [0]  # of two-minute closes up to each
        self._minutes: list[int] = []  # of each close, -1 in earlier sessions
        for close in list(earlier_closes)[-LONGEST_AVERAGE:]:
            self._append(close, -1)

    def add(
        self, ts_ns: NDArray[np.int64], price: NDArray[np.int32], size: NDArray[np.int32], side: NDArray[np.int8]
    ) -> None:
        """Count prints of minutes that are not closed, ascending in time."""
        minutes = (ts_ns - self._begin_ns) // NS_PER_MINUTE
        cuts = [0, *(np.flatnonzero(np.diff(minutes)) + 1).tolist(), len(minutes)]
        for begin, end in pairwise(cuts):
            self._add(int(minutes[begin]), price[begin:end], size[begin:end], side[begin:end])

    def _add(self, at: int, price: NDArray[np.int32], size: NDArray[np.int32], side: NDArray[np.int8]) -> None:
        high, low = price.max(), price.min()
        first = not self.prints[at]
        self.high[at] = high if first else max(high, self.high[at])
        self.low[at] = low if first else min(low, self.low[at])
        self.close[at] = price[-1]
        self.prints[at] += len(price)
        bought, sold = size[side > 0].sum(dtype=np.int64), size[side < 0].sum(dtype=np.int64)
        self.bought[at] += bought
        self.sold[at] += sold
        self.unsided[at] += size.sum(dtype=np.int64) - bought - sold
        self._open.append((at, price, size, side))

    def mark_void(self, begin_ns: int, end_ns: int) -> None:
        """Mark the minutes that lack data; true ranges begin anew, as one over a hole would be any size."""
        first, last = (begin_ns - self._begin_ns) // NS_PER_MINUTE, -((self._begin_ns - end_ns) // NS_PER_MINUTE)
        self.void[max(first, 0) : max(last, 0)] = True
        self._ranges.clear()
        self._before = None

    def close_until(self, snap_ns: int) -> bool:
        """Close the minutes that are over; whether there were any."""
        over = min((snap_ns - self._begin_ns) // NS_PER_MINUTE, len(self.prints))
        if over <= self.closed:
            return False
        for at in range(self.closed, over):
            self._close(at)
        self._open = [piece for piece in self._open if piece[0] >= over]
        self.closed = over
        return True

    def _close(self, at: int) -> None:
        if self.void[at]:
            self._before = None
        elif self.prints[at]:
            high, low = int(self.high[at]), int(self.low[at])
            before = low if self._before is None else self._before
            self._ranges.append(max(high, before) - min(low, before))
            self._before = int(self.close[at])
        if self.prints[at]:
            self._footprints[at] = self._footprint(at)
        if at % _PAIR == _PAIR - 1 and (traded := [minute for minute in (at - 1, at) if self.prints[minute]]):
            self._append(int(self.close[traded[-1]]), at - 1)

    def _append(self, close: int, minute: int) -> None:
        self._sums.append(self._sums[-1] + close)
        self._minutes.append(minute)

    def footprint(self, minute: int) -> Footprint:
        """Return who took what in a minute; prints without a side are in neither column."""
        return self._footprints[minute] if minute in self._footprints else self._footprint(minute)

    def _footprint(self, minute: int) -> Footprint:
        pieces = [piece[1:] for piece in self._open if piece[0] == minute]
        if not pieces:
            return Footprint(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))
        price, size, side = (np.concatenate(column) for column in zip(*pieces, strict=True))
        prices, place = np.unique(price, return_inverse=True)
        bought, sold = np.zeros(len(prices), np.int64), np.zeros(len(prices), np.int64)
        np.add.at(bought, place[side > 0], size[side > 0])
        np.add.at(sold, place[side < 0], size[side < 0])
        return Footprint(prices, bought, sold)

    def average(self, count: int) -> Average | None:
        """Return the mean of the last `count` two-minute closes; None while there are not so many."""
        if len(self._minutes) < count:
            return None
        return Average(self._sums[-1] - self._sums[-1 - count], count, self._minutes[-count])

    def last_closes(self) -> tuple[int, ...]:
        """Return the two-minute closes that the next session needs, the newest last."""
        sums = self._sums[-LONGEST_AVERAGE - 1 :]
        return tuple(after - before for before, after in pairwise(sums))

    @property
    def atr(self) -> float | None:
        """Mean true range of the last closed bars in ticks; None until there are enough since the last void."""
        return sum(self._ranges) / len(self._ranges) if len(self._ranges) == self._ranges.maxlen else None

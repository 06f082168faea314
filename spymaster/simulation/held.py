"""Prices of a book that are held: what a level may hold there at least and at most, and levels out of sight.

Both go by price, not by depth, so that they survive moves of the price. A price is a number of ticks; its slot is the
price modulo `_SLOTS`, so that memory is bounded. A book shows twenty prices and a scene holds a few dozen, far fewer.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BID, ASK, NEITHER = 0, 1, 2
ORDERS, EXTRA = 0, 1  # the two numbers of a level: its orders, and what it holds above one lot an order
_SLOTS: Final = 1_024
_UNBOUNDED: Final = 1 << 30
_NOBODY: Final = np.iinfo(np.int64).min


class Hold(NamedTuple):
    """Prices of one side that hold at least and at most so many lots, in sight or not, wherever the touch goes.

    The prices are `levels` ones from `price` outwards: upwards for asks, downwards for bids. A level that is to hold
    one lot at most never changes, so that nothing but a move trades there; of two lots and more it trades.
    """

    side: int
    price: int
    least: int = 1
    most: int | None = None
    levels: int = 1


class Bounds:
    """The least and the greatest numbers that levels may have, by side and price."""

    def __init__(self) -> None:
        self._low = np.zeros((2, 2, _SLOTS), np.int32)
        self._high = np.zeros((2, 2, _SLOTS), np.int32)
        self.holds: tuple[Hold, ...] = ()
        self.set(())

    def set(self, holds: Iterable[Hold]) -> None:
        """Hold these prices, and no others any more."""
        self.holds = tuple(holds)
        self._low[ORDERS], self._low[EXTRA], self._high[:] = 1, 0, _UNBOUNDED
        for side, price, least, most, levels in self.holds:
            slots = (price + np.arange(levels) * (1 if side == ASK else -1)) % _SLOTS
            self._low[EXTRA, side, slots] = least - 1
            if most is not None:
                orders = max(1, most * 5 // 9)  # as an ordinary level has them
                self._high[ORDERS, side, slots], self._high[EXTRA, side, slots] = orders, most - orders

    def at(self, prices: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the least and the greatest numbers (number, side, level) at prices (side, level)."""
        slots = prices % _SLOTS
        sides = np.arange(2)[:, None]
        return self._low[:, sides, slots], self._high[:, sides, slots]

    def applied(self, side: int, price: int, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the numbers of one level, brought within its bounds."""
        slot = price % _SLOTS
        return np.clip(numbers, self._low[:, side, slot], self._high[:, side, slot])


def capped(high: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the columns (side x 10 + level) of those that must not grow beyond something."""
    return np.flatnonzero((high < _UNBOUNDED).any(axis=0))


def change_into(state: NDArray[np.int32], low: NDArray[np.int32], high: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return by how much each level must change to be within its bounds: by one order that joins, or some that go."""
    short = (state < low).any(axis=0)
    long = (state > high).any(axis=0)
    wanted = np.clip(state, low, high)
    wanted[ORDERS] += short & (wanted[ORDERS] == state[ORDERS]) & (state[ORDERS] < high[ORDERS])
    wanted[ORDERS] -= long & (wanted[ORDERS] == state[ORDERS]) & (state[ORDERS] > 1)
    return wanted - state


class OutOfSight:
    """The levels that have left the ten, until they return. A slot keeps the last level that has taken it."""

    def __init__(self) -> None:
        self._price = np.full((2, _SLOTS), _NOBODY)
        self._numbers = np.zeros((2, _SLOTS, 2), np.int32)

    def keep(self, side: int, price: int, numbers: NDArray[np.int32]) -> None:
        slot = price % _SLOTS
        self._price[side, slot], self._numbers[side, slot] = price, numbers

    def take(self, side: int, price: int) -> NDArray[np.int32] | None:
        """Return the numbers of a level that comes into sight; None where it has never been seen."""
        slot = price % _SLOTS
        if self._price[side, slot] != price:
            return None
        self._price[side, slot] = _NOBODY
        numbers: NDArray[np.int32] = self._numbers[side, slot].copy()
        return numbers

    def forget(self, holds: Iterable[Hold]) -> None:
        """Let the levels of prices that were held be as fresh ones."""
        for side, price, _, _, levels in holds:
            self._price[side, (price + np.arange(levels) * (1 if side == ASK else -1)) % _SLOTS] = _NOBODY

"""Who began an option print, and how that is known.

    venue    the venue says so, as CME does of its trades
    quote    at or above the ask of the time a customer bought, at or below the bid one sold
    iv       else the print's implied volatility against the running mean of that option's prints: above, bought
    tick     else the price against the last different one of that option: above, bought
    unknown  else

Each is asked only where those before it have nothing to go by; a quote whose sides are crossed or locked is none. A
print inside its quote stays unknown, as nobody paid the spread: guessed at by volatility, the tenth of all prints that
are inside brought the net flow's correlation with the truth from 1.00 down to .94.

Why volatility before the tick: the underlying moves an option's price between two prints, so that the tick alone is
right of 70 in 100 at a print every ten seconds.

The running mean of an option's prints moves by `iv_weight` of the difference with each print; until there are as many
as that makes of one, it is their plain mean, as the first print stands on one side of it. It is an integer of
2 ** -30, and a step rounds half up, so that the same bits come on every machine.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.asof import Keys, latest
from spymaster.engines.compiled import loops
from spymaster.engines.ledger import Longs

HOW: Final = ("quote", "iv", "tick", "unknown", "venue")
QUOTE, IV, TICK, UNKNOWN, VENUE = range(len(HOW))
IV_UNIT: Final = 1 << 30  # of a volatility of 1
NO_IV: Final = -1
WEIGHT_BITS: Final = 20

Floats = NDArray[np.float64]
Signs = NDArray[np.int8]


class Told(NamedTuple):
    """What is known of n prints, each at its own place.

    Attributes:
        said: by the venue, +1 a buyer, -1 a seller, 0 nothing.
        price: premium.
        bid: of the option at the time, NaN where there is none.
        ask: likewise.
        iv: implied by the price in 1 / IV_UNIT, NO_IV where none is.
        mean: of that option before the print, likewise.
        tick: +1 where the price is above the last different one of the option, -1 below, 0 where there is none.
    """

    said: Signs
    price: Floats
    bid: Floats
    ask: Floats
    iv: Longs
    mean: Longs
    tick: Signs


def classify(told: Told) -> tuple[Signs, Signs]:
    """Return who began prints: +1 a customer bought, -1 sold, 0 unknown; and of HOW, how that is known."""
    usable = ~(told.bid >= told.ask)  # NaN compares as False: one side alone is usable
    inside = (told.price > told.bid) & (told.price < told.ask)
    quote = ((usable & (told.price >= told.ask)).astype(np.int8) - (usable & (told.price <= told.bid))).astype(np.int8)
    known = (told.iv != NO_IV) & (told.mean != NO_IV)
    iv = (np.sign(told.iv - told.mean) * known).astype(np.int8)
    sign, how = np.zeros(len(quote), np.int8), np.full(len(quote), UNKNOWN, np.int8)
    for says, name in ((told.tick, TICK), (iv, IV), (quote, QUOTE), (told.said, VENUE)):
        if name == QUOTE:
            sign, how = np.where(inside, np.int8(0), sign), np.where(inside, np.int8(UNKNOWN), how)
        sign, how = np.where(says, says, sign), np.where(says, np.int8(name), how)
    return sign, how


class Memory:
    """What prints are compared with: the running mean, the last price and its last change, by option."""

    def __init__(self, iv_weight: float) -> None:
        self._weight, self._loops = round(iv_weight * (1 << WEIGHT_BITS)), loops()
        self._mean = np.empty(0, np.int64)
        self._seen = np.empty(0, np.int64)  # prints that it is of
        self._price = np.empty(0)
        self._tick = np.empty(0, np.int8)

    def follow(self, slot: Keys, price: Floats, iv: Longs) -> tuple[Longs, Signs]:
        """Return each print's mean before it and its tick, and go on.

        Args:
            slot: (n) of the options, of prints in their order.
            price: (n) premiums.
            iv: (n) in 1 / IV_UNIT, NO_IV where none is.
        """
        if len(slot):
            self._grow(int(slot.max()) + 1)
        mean, tick = np.empty(len(slot), np.int64), np.empty(len(slot), np.int8)
        if self._loops is not None:
            memory = self._mean, self._seen, self._price, self._tick
            self._loops.follow(slot, price, iv, self._weight, *memory, mean, tick)
            return mean, tick
        order = np.argsort(slot, kind="stable")
        mean[order] = self._means(slot[order], iv[order])
        tick[order] = self._ticks(slot[order], price[order])
        return mean, tick

    def _means(self, slot: Keys, iv: Longs) -> Longs:
        """Work the first print of each option at once, then the second of each, and so on."""
        before = np.empty(len(slot), np.int64)
        first = np.flatnonzero(np.diff(slot, prepend=-1))
        count = np.diff(first, append=len(slot))
        for turn in range(int(count.max(initial=0))):
            place = first[count > turn] + turn
            here, now = slot[place], iv[place]
            stood = self._mean[here]
            before[place] = stood
            seen = self._seen[here] + (now != NO_IV)
            weight = np.maximum(self._weight, (1 << WEIGHT_BITS) // np.maximum(seen, 1))
            moved = stood + (((now - stood) * weight + (1 << WEIGHT_BITS - 1)) >> WEIGHT_BITS)
            self._mean[here] = np.where(now == NO_IV, stood, np.where(seen == 1, now, moved))
            self._seen[here] = seen
        return before

    def _ticks(self, slot: Keys, price: Floats) -> Signs:
        first = np.diff(slot, prepend=-1) != 0
        before = np.where(first, self._price[slot], np.roll(price, 1))
        step = np.nan_to_num(np.sign(price - before)).astype(np.int8)
        moved = latest(slot, step != 0)
        tick: Signs = np.where(moved >= 0, step[moved], self._tick[slot])
        last = np.append(first[1:], True)[: len(slot)]
        self._price[slot[last]], self._tick[slot[last]] = price[last], tick[last]
        return tick

    def _grow(self, count: int) -> None:
        more = count - len(self._mean)
        if more > 0:
            self._mean = np.append(self._mean, np.full(more, NO_IV))
            self._seen = np.append(self._seen, np.zeros(more, np.int64))
            self._price = np.append(self._price, np.full(more, np.nan))
            self._tick = np.append(self._tick, np.zeros(more, np.int8))

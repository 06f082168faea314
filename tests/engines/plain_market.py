"""Market state by its definitions, from a list of all prints: no column, no running sum, no code of the engine's."""

from collections import Counter
from fractions import Fraction
from typing import NamedTuple

MINUTE = 60_000_000_000


class Print(NamedTuple):
    time: int
    price: int
    size: int
    side: int


def as_counted(pieces):
    """Prints of (snap, prints) pieces, a late one just after the snap before its piece."""
    found, before = [], None
    for snap, prints in pieces:
        for one in prints:
            late = before is not None and one.time <= before
            found.append(one._replace(time=before + 1) if late else one)
        before = snap
    return found


def high_low(prints, span):
    prices = [one.price for one in prints if span[0] <= one.time < span[1]]
    return (max(prices), min(prices)) if prices else None


def minutes(prints, begin, until):
    """(minute, high, low, close) of each closed minute with a print."""
    bars = {}
    for one in prints:
        bars.setdefault((one.time - begin) // MINUTE, []).append(one.price)
    over = (until - begin) // MINUTE
    return [(minute, max(prices), min(prices), prices[-1]) for minute, prices in sorted(bars.items()) if minute < over]


def two_minute_closes(prints, begin, until):
    closes = {minute // 2: close for minute, _, _, close in minutes(prints, begin, until)}
    return [close for pair, close in sorted(closes.items()) if (pair + 1) * 2 <= (until - begin) // MINUTE]


def atr(prints, begin, until, count):
    bars, before, ranges = minutes(prints, begin, until), None, []
    for _, high, low, close in bars:
        reach = [high - low] if before is None else [high - low, abs(high - before), abs(low - before)]
        ranges.append(max(reach))
        before = close
    return sum(ranges[-count:]) / count if len(ranges) >= count else None


def nearest(value):
    """Half away from zero."""
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def vwap(prints):
    return Fraction(sum(one.price * one.size for one in prints), sum(one.size for one in prints))


def value_area(prints, share=Fraction(7, 10)):
    """POC, VAH and VAL, a price at a time in dictionaries."""
    volume, reached = Counter(), {}
    for at, one in enumerate(prints):
        volume[one.price] += one.size
        reached[one.price] = at
    most = max(volume.values())
    poc = min((price for price in volume if volume[price] == most), key=reached.get)
    top = bottom = poc
    taken = {poc}
    while sum(volume[price] for price in taken) < share * sum(volume.values()):
        above, below = [top + 1, top + 2], [bottom - 1, bottom - 2]
        up, down = (sum(volume[price] for price in side) for side in (above, below))
        if up >= down:
            top = min(top + 2, max(volume))
            taken.update(above)
        if down >= up:
            bottom = max(bottom - 2, min(volume))
            taken.update(below)
    return poc, top, bottom

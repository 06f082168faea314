"""The ledger by its definitions, in plain Python and dicts of prices: slow, forgets no price, and shares no code."""

from collections import defaultdict
from itertools import groupby
from typing import NamedTuple

PRINT, BOOK, SNAPSHOT = 1, 2, 3
BID, ASK = 0, 1
QUARTER_NS = 250_000_000
EVERYTHING = 10**12


class Row(NamedTuple):
    """A row of MBP-10; a side's levels are (ticks, contracts), best first, and end where they are empty."""

    ts: int
    kind: int
    side: int = 0
    price: int | None = None
    size: int = 0
    bids: tuple[tuple[int, int], ...] = ()
    asks: tuple[tuple[int, int], ...] = ()


class PlainLedger:
    def __init__(self):
        self.late_rows = 0
        self.unsided = 0
        self.whole_since_ns = None
        self.book = None  # the last sound one: bids, asks
        self.crossed = False
        self.flows = defaultdict(lambda: [0, 0, 0])  # (bucket, side, price) -> added, canceled, filled
        self.shown = {}  # bucket -> the prices that each side shows
        self.closed = None
        self.newest = None
        self.broken = False

    def work(self, rows, snap_ns):
        snap = snap_ns // QUARTER_NS
        in_time = [r for r in rows if r.kind == SNAPSHOT or self.newest is None or r.ts > self.newest]
        self.late_rows += len(rows) - len(in_time)
        self.unsided += sum(row.size for row in in_time if row.kind == PRINT and row.side == 0)
        clocked = [row.ts for row in in_time if row.kind != SNAPSHOT]
        if self.closed is None:
            self.closed = (bucket_of(clocked[0]) if clocked else snap) - 1
        first = self.closed + 1
        for ts, instant in groupby(in_time, key=lambda row: row.ts):
            bucket = max(first, bucket_of(ts))
            self._close_until(bucket - 1)
            self._instant(list(instant), bucket)
        self._close_until(snap)
        if clocked:
            self.newest = clocked[-1]
        if any(row.kind == SNAPSHOT for row in in_time):
            self.whole_since_ns = snap_ns

    def advance(self, snap_ns):
        if self.closed is None:
            self.closed = snap_ns // QUARTER_NS - 1
        self._close_until(snap_ns // QUARTER_NS)

    def _close_until(self, bucket):
        while self.closed < bucket:
            self.closed += 1
            if self.book is not None and not self.crossed:
                self.shown[self.closed] = [shown(self.book, side) for side in (BID, ASK)]
            if self.broken or self.crossed or self.book is None:
                self.whole_since_ns = self.closed * QUARTER_NS
            self.broken = False

    def _instant(self, rows, bucket):
        books = [(row.bids, row.asks) for row in rows if row.kind in (BOOK, SNAPSHOT)]
        replaced = any(row.kind == SNAPSHOT for row in rows)
        before, was_crossed = self.book, self.crossed
        if books:
            self.crossed = not is_sound(books[-1])
            if not self.crossed:
                self.book = books[-1]
            elif replaced:
                self.book = None
            if self.crossed or was_crossed or replaced or before is None:
                self.broken = True
        if before is None or replaced or self.crossed:
            return
        for side in (BID, ASK):
            consumer = 1 if side == ASK else -1
            volume = defaultdict(int)
            for row in rows:
                if row.kind == PRINT and row.side == consumer and row.price is not None:
                    volume[row.price] += row.size
            size0, size1 = dict(before[side]), dict(self.book[side])
            for price in {*size0, *size1, *volume}:
                if all(low <= price <= high for low, high in (shown(before, side), shown(self.book, side))):
                    net = size1.get(price, 0) - size0.get(price, 0) + volume[price]
                    flow = self.flows[bucket, side, price]
                    flow[0] += max(net, 0)
                    flow[1] += max(-net, 0)
                    flow[2] += volume[price]

    def sums(self, side, prices, window_s):
        """Return rows of added, canceled, filled and the number of buckets that showed the price."""
        first = self.closed - 4 * window_s + 1
        totals = {price: [0, 0, 0, 0] for price in prices}
        for (bucket, its_side, price), flow in self.flows.items():
            if bucket >= first and its_side == side and price in totals:
                totals[price][:3] = [total + part for total, part in zip(totals[price][:3], flow, strict=True)]
        for bucket in range(first, self.closed + 1):
            if bucket in self.shown:
                low, high = self.shown[bucket][side]
                for price in prices:
                    totals[price][3] += low <= price <= high
        return [totals[price] for price in prices]


def bucket_of(ts):
    return (ts + QUARTER_NS - 1) // QUARTER_NS


def shown(book, side):
    """Return the least and the greatest price of which a book says the size."""
    levels = book[side]
    furthest = levels[9][0] if len(levels) == 10 else EVERYTHING * (1 if side == ASK else -1)
    return (furthest, EVERYTHING) if side == BID else (-EVERYTHING, furthest)


def is_sound(book):
    bids, asks = ([price for price, _ in levels] for levels in book)
    if bids and asks and bids[0] >= asks[0]:
        return False
    return bool(bids or asks) and bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks))

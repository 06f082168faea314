"""The sums of a snap from the rows themselves: plainly, one after another, by the definitions and not the engines.

Each function takes what the snaps of a window had and returns the rows that count with what each of them gives, so
that their sum is the engines' own number. That two ways lead to it is what makes an explanation a proof.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from spymaster.engines.dealer import MOST_WEIGHT
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.option_model import GAMMA_SCALE
from spymaster.engines.rows import equal, in_order, joined, values_of, whole_ticks
from spymaster.events.market import BOOK_LEVELS

PRINT, BOOK, SNAPSHOT, OTHER = "print", "book", "snapshot", "other"
OUTWARD: Final = {"bid": -1, "ask": 1}  # also the aggressor that consumes the side
_LAST_OF_EVENT: Final = 128
_SQUARE: Final = 1 << 24  # a square of gamma times contracts is counted in parts of so much
_LEVELS: Final = range(1, BOOK_LEVELS + 1)
_PRICES: Final = ("price", *(f"{side}_px_{at}" for side in OUTWARD for at in _LEVELS))
_SIZES: Final = ("size", *(f"{side}_sz_{at}" for side in OUTWARD for at in _LEVELS))
_NOTHING: Final = -(2**31)

Book = dict[str, dict[int, int]]  # by side, contracts by price in ticks


class Row(NamedTuple):
    """A row of MBP-10.

    Attributes:
        place: which, see `pieces`.
        ts_ns: event time.
        kind: PRINT, BOOK (the last of its event), SNAPSHOT or OTHER.
        side: of a print's aggressor, +1 a buyer, -1 a seller, 0 neither.
        price: ticks; None where there is none.
        size: contracts.
        book: as of the row.
    """

    place: int
    ts_ns: int
    kind: str
    side: int
    price: int | None
    size: int
    book: Book


class Had(NamedTuple):
    """The rows that a snap had.

    Attributes:
        snap_ns: the snap.
        since_ns: the snap before; None of the first.
        rows: in order of time.
    """

    snap_ns: int
    since_ns: int | None
    rows: list[Row]


class Change(NamedTuple):
    """What an instant did at a price of the zone.

    Attributes:
        place: of its last book; None where it has prints alone.
        prints: of its prints at the price, the place and the contracts of each.
        ts_ns: the instant.
        price: ticks.
        before: contracts before it.
        after: contracts after it.
        added: contracts.
        canceled: contracts.
        filled: contracts.
    """

    place: int | None
    prints: tuple[tuple[int, int], ...]
    ts_ns: int
    price: int
    before: int
    after: int
    added: int
    canceled: int
    filled: int


class Flow(NamedTuple):
    """What happened in a window.

    Attributes:
        changes: in the zone, in order of time.
        volume: contracts filled at all prices of both sides.
        book: the last one.
        place: of its row; None where that was before the window.
    """

    changes: list[Change]
    volume: int
    book: Book
    place: int | None


class OptionPrint(NamedTuple):
    """A print of an option as the option model understands it.

    Attributes:
        place: of its row.
        step_ns: the end of the 250 ms that it counts in.
        ts_ns: event time.
        option: the vendor's name of it.
        strike: in the underlying's unit.
        price: premium.
        size: contracts.
        sign: +1 a customer bought, -1 sold, 0 unknown.
        gamma: of one contract in 1 / GAMMA_SCALE; None where it is not known.
    """

    place: int
    step_ns: int
    ts_ns: int
    option: str
    strike: float
    price: float
    size: int
    sign: int
    gamma: int | None


def rows_of(batches: Sequence[pa.RecordBatch], contract: str, tick: float, begin_ns: int) -> list[Row]:
    """Return a contract's rows of a session in order of time.

    Args:
        batches: of `futures.mbp10`, what one snap had.
        contract: the venue's symbol.
        tick: of the book. A row with a price that is no whole tick has none.
        begin_ns: the session's; earlier rows count nothing, but for a snapshot's.
    """
    if not batches:
        return []
    whole = joined(batches)
    whole = whole.filter(pa.array(equal(whole.column("contract"), contract)))
    order = in_order(*(whole.column(name).to_numpy() for name in ("ts_event_ns", "capture_id", "capture_seq")))
    if order is not None:
        whole = whole.take(order)
    prices, _ = whole_ticks(np.stack([values_of(whole.column(name)) for name in _PRICES]), tick)
    sizes = np.stack([values_of(whole.column(name)) for name in _SIZES])
    names = ("capture_seq", "ts_event_ns", "flags", "is_snapshot", "action", "side")
    plain = zip(*(whole.column(name).to_pylist() for name in names), strict=True)
    found = []
    for (place, ts_ns, flags, snapshot, action, letter), (price, *px), (size, *sz) in zip(
        plain, prices.T.tolist(), sizes.T.tolist(), strict=True
    ):
        if ts_ns < begin_ns and not snapshot:
            continue
        last = BOOK if (flags or 0) & _LAST_OF_EVENT else OTHER
        kind = SNAPSHOT if snapshot else PRINT if action == "T" else last
        side = {"B": 1, "A": -1}.get(letter, 0) if kind == PRINT else 0
        levels = {name: (px[at : at + BOOK_LEVELS], sz[at : at + BOOK_LEVELS]) for name, at in _SIDES.items()}
        book = {name: {p: s for p, s in zip(*both, strict=True) if p != _NOTHING} for name, both in levels.items()}
        found.append(Row(place, ts_ns, kind, side, None if price == _NOTHING else price, int(size), book))
    return found


_SIDES: Final = {"bid": 0, "ask": BOOK_LEVELS}  # where each begins


def bucket_of(ts_ns: int) -> int:
    """Return the number of the 250 ms that a time lies in, each with its end."""
    return -(-ts_ns // SNAP_NS)


def flow(before: Row | None, newest_ns: int, had: Sequence[Had], first: int, side: str, zone: Sequence[int]) -> Flow:
    """Return what happened in a window that is whole: without a snapshot, a gap or a crossed book.

    Of the rows of one time the last book counts against the one before. At a price that both show, what the size
    changed by, and what was printed beside, is what was added or canceled.

    Args:
        before: the last book before.
        newest_ns: the newest time that was worked before; what is not after it comes too late.
        had: snap after snap.
        first: the window's first bucket.
        side: of the zone, bid or ask.
        zone: its prices that count, in ticks.
    """
    book: Book | None = None if before is None else before.book
    place, changes, volume = None, [], 0
    for snap in had:
        in_time = [row for row in snap.rows if row.ts_ns > newest_ns]
        least = first if snap.since_ns is None else snap.since_ns // SNAP_NS + 1
        for ts_ns, instant in groupby(in_time, key=lambda row: row.ts_ns):
            rows = list(instant)
            books = [row for row in rows if row.kind == BOOK]
            after = books[-1].book if books else book
            if book is not None and after is not None and max(bucket_of(ts_ns), least) >= first:
                prints = [row for row in rows if row.kind == PRINT]
                last = books[-1].place if books else None
                for one in OUTWARD:
                    found = _changes(book, after, prints, one, last, ts_ns)
                    volume += sum(change.filled for change in found)
                    changes += [change for change in found if one == side and change.price in zone]
            book, place = after, books[-1].place if books else place
        newest_ns = max([newest_ns, *(row.ts_ns for row in in_time)])
    return Flow(changes, volume, book or {"bid": {}, "ask": {}}, place)


def _changes(book: Book, after: Book, prints: Sequence[Row], side: str, place: int | None, ts_ns: int) -> list[Change]:
    """Return what an instant did at the prices of a side that both books show."""
    outward = OUTWARD[side]
    printed: dict[int, list[Row]] = defaultdict(list)
    for row in prints:
        if row.side == outward and row.price is not None and row.size > 0:
            printed[row.price].append(row)
    limit = min(_limit(book[side], outward), _limit(after[side], outward))
    found = []
    for price in sorted({*book[side], *after[side], *printed}):
        old, new, of = book[side].get(price, 0), after[side].get(price, 0), printed.get(price, [])
        filled = sum(row.size for row in of)
        net = new - old + filled
        if price * outward <= limit and (net or filled):
            places = tuple((row.place, row.size) for row in of)
            found.append(Change(place, places, ts_ns, price, old, new, max(net, 0), max(-net, 0), filled))
    return found


def _limit(levels: dict[int, int], outward: int) -> float:
    """Return how far outward a book shows a side: to its tenth price, or to no end where it has fewer."""
    return max(price * outward for price in levels) if len(levels) == BOOK_LEVELS else math.inf


def tape(had: Sequence[Had], window: int) -> list[Row]:
    """Return the prints of the tape's window, in the order in which they came.

    A print that comes late counts in the first 250 ms after the snap before.

    Args:
        had: snap after snap. With the first the tape begins, so that its rows are in time; the last one's end is the
            window's.
        window: how many 250 ms.
    """
    prints = []
    for at, snap in enumerate(had):
        least = 0 if at == 0 or snap.since_ns is None else snap.since_ns // SNAP_NS + 1
        for row in snap.rows:
            in_window = max(bucket_of(row.ts_ns), least) > had[-1].snap_ns // SNAP_NS - window
            if row.kind == PRINT and row.price is not None and row.size > 0 and in_window:
                prints.append(row)
    return prints


class FuelSums(NamedTuple):
    """Sums of option prints.

    Attributes:
        net: what customers bought less what they sold, of the gamma traded; None where nothing was.
        error: its standard error.
        speak: how many prints of one weight would tell as much.
    """

    net: float | None
    error: float | None
    speak: float


def fuel(prints: Iterable[OptionPrint]) -> FuelSums:
    """Return what prints near a level add up to, those alone whose gamma is known."""
    net = gross = squares = 0
    for one in prints:
        if one.gamma is None:
            continue
        weight = one.gamma * one.size
        net, gross = net + weight * one.sign, gross + weight
        light = min(weight / GAMMA_SCALE, MOST_WEIGHT)
        squares += int(np.rint(light * light * _SQUARE))
    if gross <= 0:
        return FuelSums(None, None, 0.0)
    square = squares * (float(GAMMA_SCALE) ** 2 / _SQUARE)
    speak = float(gross) * float(gross) / square if square > 0 else 0.0
    return FuelSums(float(net) / float(gross), math.sqrt(square) / float(gross), speak)

"""The rows behind one level at one snap: those that its barrier, tape and fuel were made of, found again one by one."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import Profile
from spymaster.engines.rows import equal
from spymaster.engines.session import Session
from spymaster.engines.whole import Whole
from spymaster.events import FUTURES_MBP10
from spymaster.signals import sums
from spymaster.signals.chain import Chain
from spymaster.signals.feed import Roots
from spymaster.signals.pieces import Keys, pieces
from spymaster.signals.sums import Flow, Had, OptionPrint, Row
from spymaster.signals.understood import Understood

_LAST_OF_EVENT = 128


class Sought(NamedTuple):
    """Whose rows are sought.

    Attributes:
        snap_ns: the snap.
        price: of the level, in ticks of the underlying.
        strikes: prices of strikes that are near it, lowest and highest; None where no option print is sought.
        side: bid or ask; None where the barrier is void.
        zone: prices of the zone that count, in ticks of the book.
        set_ns: the snap since which the level is at its price by a print; None where no print set it.
    """

    snap_ns: int
    price: int
    strikes: tuple[float, float] | None
    side: str | None
    zone: Sequence[int]
    set_ns: int | None


class Trace(NamedTuple):
    """What was found.

    Attributes:
        flow: of the zone; None where the barrier is void.
        tape: prints of the tape's window, in order.
        fuel: prints of options near the level, in order; None where none was sought.
        lost: prints of options that could not be told apart, near the level or not.
        set_by: the first print at the level's price in the snap that set it.
        keys: of the rows.
    """

    flow: Flow | None
    tape: list[Row]
    fuel: list[OptionPrint] | None
    lost: int
    set_by: Row | None
    keys: Keys


class _Before:
    """The newest book of a contract, and the newest time of any of its rows, before a window."""

    def __init__(self, contract: str) -> None:
        self.newest_ns = -(2**62)
        self._contract = contract
        self._batches: list[pa.RecordBatch] = []  # of the last snap that had a book
        self._older_ns = -(2**62)  # the newest time before it

    def work(self, batches: list[pa.RecordBatch]) -> None:
        """Take what a snap had of books."""
        newest_ns, has_book = self.newest_ns, False
        for batch in batches:
            mine = equal(batch.column("contract"), self._contract)
            if not mine.any():
                continue
            snapshot = batch.column("is_snapshot").to_numpy(zero_copy_only=False)
            last = (batch.column("flags").to_numpy() & _LAST_OF_EVENT) != 0
            has_book |= bool((mine & (snapshot | (last & ~equal(batch.column("action"), "T")))).any())
            times = batch.column("ts_event_ns").to_numpy()[mine & ~snapshot]
            newest_ns = max(newest_ns, int(times.max(initial=newest_ns)))
        if has_book:
            self._batches, self._older_ns = batches, self.newest_ns
        self.newest_ns = newest_ns

    def book(self, tick: float, begin_ns: int) -> Row | None:
        """Return the last row that has a book, of those that came in time."""
        rows = sums.rows_of(self._batches, self._contract, tick, begin_ns)
        found = [
            row for row in rows if row.kind == sums.SNAPSHOT or (row.kind == sums.BOOK and row.ts_ns > self._older_ns)
        ]
        return found[-1] if found else None


def trace(
    roots: Roots, profile: Profile, session: Session, contract: str, chain: Chain | None, sought: Sought
) -> Trace:
    """Find the rows behind a level, by reading the session up to its snap.

    Args:
        roots: lake and log.
        profile: the numbers.
        session: the session.
        contract: its front month.
        chain: the snaps on record; None where the rule of known time decides.
        sought: which.

    Raises:
        WalError: the log cannot be read.
        LayoutError: a file in the lake cannot be.
    """
    keys, tick = Keys(), profile.book.tick
    flow_ns, tape_ns = (seconds * NS_PER_SECOND for seconds in (profile.barrier.flow_s, profile.tape.window_s))
    fuel_ns = profile.options.flow_s * NS_PER_SECOND
    whole = Whole(session, contract, of_stock=profile.book.ratio_s is not None)
    understood = Understood(profile, session, contract, sought.snap_ns - fuel_ns)
    before, had, set_by = _Before(contract), list[Had](), None
    restarts = True  # the tape begins with the session
    for piece in pieces(roots, profile, session, contract, chain, sought.snap_ns, keys):
        holes = whole.work(piece)
        if sought.strikes is not None:
            understood.work(piece, holes.quotes_from_ns)
        restarts |= holes.books_from_ns is not None
        books = piece.batches.get(FUTURES_MBP10.name, [])
        if piece.snap_ns <= sought.snap_ns - flow_ns:
            before.work(books)
        near = piece.snap_ns > sought.snap_ns - max(tape_ns, flow_ns)
        if near or piece.snap_ns == sought.set_ns or restarts:
            rows = sums.rows_of(books, contract, tick, session.begin_ns)
            if piece.snap_ns == sought.set_ns:
                set_by = next((row for row in rows if row.kind == sums.PRINT and row.price == sought.price), None)
            if restarts:
                had.clear()
            if near or restarts:
                had.append(Had(piece.snap_ns, piece.since_ns, rows))
        restarts = False
    return Trace(
        None if sought.side is None else _flow(before, tick, session, had, sought, flow_ns),
        sums.tape(had, tape_ns // SNAP_NS),
        None if sought.strikes is None else _near(understood, sought, fuel_ns),
        understood.lost,
        set_by,
        keys,
    )


def _flow(before: _Before, tick: float, session: Session, had: Sequence[Had], sought: Sought, flow_ns: int) -> Flow:
    since_ns = sought.snap_ns - flow_ns
    inside = [one for one in had if one.snap_ns > since_ns]
    first = since_ns // SNAP_NS + 1
    book = before.book(tick, session.begin_ns)
    return sums.flow(book, before.newest_ns, inside, first, sought.side or "", sought.zone)


def _near(understood: Understood, sought: Sought, fuel_ns: int) -> list[OptionPrint]:
    least, most = sought.strikes or (0.0, 0.0)
    return [one for one in understood.prints if least <= one.strike <= most and one.step_ns > sought.snap_ns - fuel_ns]

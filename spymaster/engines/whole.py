"""What is missing from one session, as it becomes known: which snaps that voids, and since when nothing is missing.

A hole (skipped rows, a gap, rows that found no room) is a span of event time. Wherever it lies, market state marks the
values that it touches. If some of it lies after the snap before, the snap is void, and so is each later one until its
end; books from before its end say nothing of those after it, so the ledger begins anew with the first one from there.
Where the underlying is a stock, market state is made of its streams: a hole of theirs marks it and forgets its quote,
one of the book does not, and the ledger goes on through a stock's.

The front month's `reference.status` halts it (halt, pause, suspend, close, what stands for an end of trading) until it
says trading. Snaps within are void, but nothing is missing: the book stands. A status older than the newest one known
changes nothing. As every memory does, this one begins anew with the session, in which the market trades until a status
says that it does not.
"""

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spymaster.engines.intake import Missing, Piece
from spymaster.engines.session import Session, Span
from spymaster.events import FUTURES_MBP10, REFERENCE_STATUS

HALTING: Final = frozenset({"halt", "pause", "suspend", "close", "post_close", "not_available_for_trading"})
RESUMING: Final = "trading"
_NEVER: Final = -(2**63)


class Holes(NamedTuple):
    """What a snap lacks.

    Attributes:
        reason: why the book's side of the snap is void: halt, skipped, gap or overflow; None where it is not.
        spans: what market state has to mark, [begin, end) of event time.
        books_from_ns: books before this time say nothing of those after it; None where none of the piece is missing.
        stock_reason: why the stock's side is void, e.g. "gap in stocks.quotes"; None where it is not.
        quotes_from_ns: as `books_from_ns`, of the stock's quotes.
    """

    reason: str | None
    spans: tuple[Span, ...]
    books_from_ns: int | None
    stock_reason: str | None = None
    quotes_from_ns: int | None = None


class Whole:
    """One session's holes.

    Attributes:
        since_ns: nothing is missing since then, and nothing was halted.
        halted: whether the market is, as of the newest snap.
    """

    def __init__(self, session: Session, contract: str, *, of_stock: bool = False) -> None:
        """Begin whole.

        Args:
            session: the day.
            contract: whose statuses count.
            of_stock: market state is made of a stock's streams.
        """
        self.since_ns = session.begin_ns
        self.halted = False
        self._session, self._of_stock = session, of_stock
        self._contract = contract
        self._status_ns = _NEVER
        self._ahead: list[Missing] = []  # holes that go on after the newest snap

    def work(self, piece: Piece) -> Holes:
        """Return what the piece's snap lacks."""
        snap_ns = piece.snap_ns
        before = self._session.begin_ns if piece.since_ns is None else max(piece.since_ns, self._session.begin_ns)
        known = [span for span in (*self._ahead, *piece.missing) if span.end_ns > self._session.begin_ns]
        self._ahead = [span._replace(begin_ns=max(span.begin_ns, snap_ns)) for span in known if span.end_ns > snap_ns]
        begun = [span for span in known if span.begin_ns <= snap_ns]
        here = [span for span in begun if span.end_ns > before]
        cut = [(max(span.begin_ns, self._session.begin_ns), min(span.end_ns, snap_ns)) for span in begun]
        self.since_ns = max((self.since_ns, *(end for _, end in cut)))
        of_market = [(span.schema != FUTURES_MBP10.name) == self._of_stock for span in begun]
        spans = [one for one, marks in zip(cut, of_market, strict=True) if marks]

        halt = self._halt(piece, before)
        if halt is not None and not self._of_stock:
            spans.append(halt)
        if here or halt is not None:
            self.since_ns = snap_ns
        books = [span for span in here if span.schema == FUTURES_MBP10.name]
        stock = [span for span in here if span.schema != FUTURES_MBP10.name]
        return Holes(
            reason="halt" if halt is not None else books[0].reason if books else None,
            spans=tuple(span for span in spans if span[0] < span[1]),
            books_from_ns=max((span.end_ns for span in books), default=None),
            stock_reason=f"{stock[0].reason} in {stock[0].schema}" if stock else None,
            quotes_from_ns=max((span.end_ns for span in stock), default=None),
        )

    def _halt(self, piece: Piece, before: int) -> Span | None:
        """Work the piece's statuses; return what it was halted in."""
        begin = before if self.halted else None
        end = piece.snap_ns
        for ts_ns, action in _statuses(piece.batches.get(REFERENCE_STATUS.name, []), self._contract):
            if ts_ns < max(self._status_ns, self._session.begin_ns):
                continue
            self._status_ns = ts_ns
            if action in HALTING:
                begin = max(ts_ns, before) if begin is None else begin
                self.halted, end = True, piece.snap_ns
            elif action == RESUMING:
                self.halted, end = False, max(ts_ns, before)
        return None if begin is None else (begin, end)


def _statuses(batches: list[pa.RecordBatch], contract: str) -> list[tuple[int, str | None]]:
    """Return a contract's times and states, in order."""
    if not batches:
        return []
    table = pa.Table.from_batches(batches)
    table = table.filter(pc.equal(table.column("contract"), pa.scalar(contract)))
    keys = [table.column(name).to_numpy() for name in ("capture_seq", "capture_id", "ts_event_ns")]
    times, actions = table.column("ts_event_ns").to_pylist(), table.column("action").to_pylist()
    return [(times[at], actions[at]) for at in np.lexsort(keys).tolist()]

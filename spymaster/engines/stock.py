"""A stock that is judged by a future's book: its prints and quote from its own streams, and where its levels lie there.

A print makes market state only if it sets high, low and last by the consolidated tape's rules, as the vendor lists them
for its codes of conditions: no odd lot, average price, derivative or earlier price, no report out of sequence, no
contingent trade, no official open or close, no other settlement; nor one that the vendor corrected. Whoever draws such
levels draws them by these. Volume, VWAP and profile are of the same prints, so that one rule says what counted; the
shares of the others are counted beside. A print outside of the regular hours bears Form T and counts there; within them
Form T is a late report. A price between two ticks, of a dealer, is the nearest one's.

The quote is the newest sound one (both sides there, the bid not above the ask: the tape's best is often locked for a
moment), until it is older than `stale_s`: of a quote that does not come any more nothing is known.

A level at P is judged at P x (mid of the book / mid of the stock), both in their own ticks. The ratio is that of the
sums of both mids over the snaps of the last `ratio_s`, whole numbers. Of one snap it would flicker: half a cent of the
stock's mid is a fifth of a tick of ES, so that one level in five would jump by a tick with each change of a spread; of
40 snaps one in fifty does. What lies between the two prices, carry and dividends, moves by less than that in minutes. A
level above the stock's mid is judged no lower than the book's mid, and the other way round: while one of the two lags,
it is inside the spread, and no barrier of the other side.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.market import Prints
from spymaster.engines.rows import in_order, values_of, whole_ticks
from spymaster.engines.session import Session
from spymaster.events import STOCKS_QUOTES, STOCKS_TRADES, EventSchema
from spymaster.events.schema import no_rows

# Average price, bunched sold, cash, derivatively priced, extended hours out of sequence, official close and open, next
# day, price variation, prior reference price, seller, sold out of sequence, the same and stopped, odd lot, corrected
# close, contingent, qualified contingent: the vendor's codes that leave high, low or last as they are.
_SETS_NO_PRICE: Final = pa.array([2, 5, 7, 10, 13, 15, 16, 20, 21, 22, 29, 32, 33, 37, 38, 52, 53], pa.int16())
_FORM_T: Final = pa.array([12], pa.int16())
_NO_MIDS: Final = (np.empty(0, np.int64), np.empty(0, np.int64))
_KEYS: Final = ["ts_event_ns", "capture_id", "capture_seq"]


class Stock:
    """One session's stock, a snap after another.

    Attributes:
        quote: bid and ask in ticks; None where there is none, or it is stale.
        quote_ns: its time, also of a stale one; None where there is none.
        reason: why there is no quote, "no quote" or "stale quote"; None where there is one.
        unpriced: shares of prints that set no price.
        mids: times and mids in half ticks of the sound quotes of the newest piece, in order.
    """

    def __init__(self, session: Session, tick: float, stale_s: float, ratio_s: int) -> None:
        self.quote: tuple[int, int] | None = None
        self.quote_ns: int | None = None
        self.reason: str | None = None
        self.unpriced = 0
        self.mids = _NO_MIDS
        self._session, self._tick = session, tick
        self._stale_ns, self._ratio_ns = round(stale_s * NS_PER_SECOND), ratio_s * NS_PER_SECOND
        self._newest: tuple[int, int] | None = None
        self._mids: deque[tuple[int, int, int]] = deque()  # snap, and both sums of bid and ask; at most `ratio_s`'
        self._book_sum = self._stock_sum = 0

    def work(self, snap_ns: int, batches: Mapping[str, Sequence[pa.RecordBatch]], quotes_from_ns: int | None) -> Prints:
        """Work a piece's rows of the stock; return the prints that count.

        Args:
            snap_ns: the snap.
            batches: by schema.
            quotes_from_ns: quotes before this time say nothing of now; None where none is missing.
        """
        if quotes_from_ns is not None:
            self._newest = self.quote_ns = None
        since_ns = self._session.begin_ns if quotes_from_ns is None else max(quotes_from_ns, self._session.begin_ns)
        self._take_quotes(batches.get(STOCKS_QUOTES.name, []), since_ns)
        stale = self.quote_ns is not None and snap_ns - self.quote_ns > self._stale_ns
        self.quote = None if stale else self._newest
        self.reason = "stale quote" if stale else "no quote" if self.quote is None else None
        return self._prints(batches.get(STOCKS_TRADES.name, []))

    def pair(self, snap_ns: int, book: tuple[int, int] | None) -> None:
        """Let a snap count for the ratio.

        Args:
            snap_ns: the snap.
            book: bid and ask of the book in its ticks; None where it is not sound.
        """
        while self._mids and self._mids[0][0] <= snap_ns - self._ratio_ns:
            _, book_mid, stock_mid = self._mids.popleft()
            self._book_sum, self._stock_sum = self._book_sum - book_mid, self._stock_sum - stock_mid
        if book is not None and self.quote is not None:
            self._mids.append((snap_ns, sum(book), sum(self.quote)))
            self._book_sum, self._stock_sum = self._book_sum + sum(book), self._stock_sum + sum(self.quote)

    @property
    def has_ratio(self) -> bool:
        """Whether both had a mid at a snap of the last `ratio_s`."""
        return bool(self._mids)

    def places(
        self, prices: NDArray[np.int32], direction: NDArray[np.int8], book: tuple[int, int] | None
    ) -> NDArray[np.float64]:
        """Return where levels lie in the book, in its ticks.

        Args:
            prices: theirs, in ticks of the stock.
            direction: +1 of one above the stock's mid, -1 below, 0 at it.
            book: bid and ask of the book; None without.
        """
        # Whole numbers below 2**53 on both sides, so that the one division gives the same bits on every machine.
        places = prices * np.int64(self._book_sum) / self._stock_sum
        if book is None:
            return places
        mid = sum(book) / 2
        bounded: NDArray[np.float64] = np.where(
            direction > 0, np.maximum(places, mid), np.where(direction < 0, np.minimum(places, mid), places)
        )
        return bounded

    def _take_quotes(self, batches: Sequence[pa.RecordBatch], since_ns: int) -> None:
        """Take the newest sound quote, unless there is a newer one already."""
        self.mids = _NO_MIDS
        if not batches:
            return
        whole = _whole(batches, STOCKS_QUOTES, ["bid_px", "ask_px"])
        ts_ns, capture, seq = (whole.column(name).to_numpy() for name in _KEYS)
        (bid, ask), _ = whole_ticks(
            np.stack([values_of(whole.column(name)) for name in ("bid_px", "ask_px")]), self._tick
        )
        usable = np.flatnonzero((bid > 0) & (bid <= ask) & (ts_ns >= since_ns))
        usable = usable[np.lexsort((seq[usable], capture[usable], ts_ns[usable]))]
        self.mids = ts_ns[usable], bid[usable].astype(np.int64) + ask[usable]
        least_ns = since_ns if self.quote_ns is None else max(self.quote_ns, since_ns)
        sound = np.flatnonzero((bid > 0) & (bid <= ask) & (ts_ns >= least_ns))
        if not len(sound):
            return
        newest = sound[ts_ns[sound] == ts_ns[sound].max()]
        at = newest[np.lexsort((seq[newest], capture[newest]))[-1]]
        self._newest, self.quote_ns = (int(bid[at]), int(ask[at])), int(ts_ns[at])

    def _prints(self, batches: Sequence[pa.RecordBatch]) -> Prints:
        whole = _whole(batches, STOCKS_TRADES, ["price", "size", "aggressor", "conditions", "correction"])
        keys = [whole.column(name).to_numpy() for name in _KEYS]
        price, size, side = (values_of(whole.column(name)) for name in ("price", "size", "aggressor"))
        ts_ns = keys[0]
        counts = (ts_ns >= self._session.begin_ns) & ~np.isnan(price)
        priced = counts & _sets_price(whole, ts_ns, self._session)
        self.unpriced += int(size[counts & ~priced].sum(dtype=np.int64))
        ticks = np.rint(np.where(priced, price, 0) / self._tick).astype(np.int32)
        prints = Prints(ts_ns, ticks, size.astype(np.int32), side.astype(np.int8))
        order = in_order(*keys)
        if order is not None:
            prints, priced = prints.take(order), priced[order]
        return prints.take(priced)


def _whole(batches: Sequence[pa.RecordBatch], schema: EventSchema, names: list[str]) -> pa.RecordBatch:
    columns = [*_KEYS, *names]
    fields = pa.schema([schema.log.field(name) for name in columns])
    table = pa.Table.from_batches([batch.select(columns) for batch in batches], fields)
    return table.combine_chunks().to_batches()[0] if table.num_rows else no_rows(fields)


def _sets_price(rows: pa.RecordBatch, ts_ns: NDArray[np.int64], session: Session) -> NDArray[np.bool_]:
    """Return which prints set high, low and last."""
    begin_ns, end_ns = session.rth
    regular = (begin_ns <= ts_ns) & (ts_ns < end_ns)
    conditions = rows.column("conditions")
    sets_none = _has(conditions, _SETS_NO_PRICE) | (_has(conditions, _FORM_T) & regular)
    sets: NDArray[np.bool_] = ~sets_none & (values_of(rows.column("correction")) == 0)
    return sets


def _has(lists: Any, codes: pa.Array) -> NDArray[np.bool_]:
    """Return which lists have one of the codes."""
    counts: Any = pc.list_value_length(lists)
    lengths = pc.fill_null(counts, 0).to_numpy()
    found: NDArray[np.bool_] = np.zeros(len(lists), np.bool_)
    hits: Any = pc.is_in(lists.flatten(), value_set=codes)
    found[np.repeat(np.arange(len(lists)), lengths)[hits.to_numpy(zero_copy_only=False)]] = True
    return found

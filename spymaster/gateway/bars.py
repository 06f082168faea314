"""One-second bars of what is judged, from the bus: the newest hour, for a chart that moves.

A bar is [second, open, high, low, close, volume, bought, sold]; the second is of event time. A row that comes late
still counts in its bar; one of another delivery that tells what was told before does not.
"""

from collections import OrderedDict
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.rows import values_of
from spymaster.events import FUTURES_TRADES, STOCKS_TRADES, Stream
from spymaster.gateway.newest_rows import is_text

MOST_BARS: Final = 3_600
Bar = list[float]


class Bars:
    """The newest bars of one contract, or of a stock."""

    def __init__(self, symbol: str, *, is_stock: bool) -> None:
        """Begin without bars.

        Args:
            symbol: the root of the future, or the ticker.
            is_stock: which of both it is; a stock has no contract.
        """
        self._schema = STOCKS_TRADES.name if is_stock else FUTURES_TRADES.name
        self._symbol, self._is_stock = symbol, is_stock
        self._contract: str | None = None
        self._bars: OrderedDict[int, Bar] = OrderedDict()
        self._changed: set[int] = set()
        self._newest: dict[int, int] = {}  # by capture, the newest time; the newest capture is the last

    def wants(self, stream: Stream) -> bool:
        """Return whether a stream has prints of it."""
        return stream.schema == self._schema and stream.symbol in {self._symbol, "ALL"}

    def judge(self, contract: str | None) -> None:
        """Draw this contract from now on; bars of another one go."""
        if contract != self._contract and not self._is_stock:
            self._bars.clear()
            self._changed.clear()
            self._contract = contract

    def take(self, batch: pa.RecordBatch) -> None:
        """Take prints as they are published."""
        rows = self._own(batch)
        if not rows.num_rows:
            return
        ts_ns = rows.column("ts_event_ns").to_numpy()
        seconds = ts_ns // NS_PER_SECOND
        price, size = values_of(rows.column("price")), values_of(rows.column("size"))
        side = values_of(rows.column("aggressor"))
        order = np.argsort(seconds, kind="stable") if np.any(np.diff(seconds) < 0) else slice(None)
        seconds, price, size, side = seconds[order], price[order], size[order], side[order]
        starts = np.append(0, np.flatnonzero(np.diff(seconds)) + 1)
        figures = (
            price[starts],
            np.maximum.reduceat(price, starts),
            np.minimum.reduceat(price, starts),
            price[np.append(starts[1:], len(price)) - 1],
            *(np.add.reduceat(each, starts) for each in (size, size * (side > 0), size * (side < 0))),
        )
        for second, *bar in zip(seconds[starts].tolist(), *(each.tolist() for each in figures), strict=True):
            self._add(second, bar)
        self._forget()

    def _own(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that count: of the contract, priced, and not told before by another delivery."""
        name, wanted = ("symbol", self._symbol) if self._is_stock else ("contract", self._contract)
        mine = is_text(batch.column(name), wanted) & ~np.isnan(values_of(batch.column("price")))
        capture = batch.column("capture_id")[0].as_py()
        ts_ns: NDArray[np.int64] = batch.column("ts_event_ns").to_numpy()
        told_ns = max((ns for other, ns in self._newest.items() if other != capture), default=None)
        if told_ns is not None:
            mine &= ts_ns > told_ns
        self._newest[capture] = max(self._newest.pop(capture, 0), int(ts_ns.max()))
        while len(self._newest) > 8:
            del self._newest[next(iter(self._newest))]
        own: pa.RecordBatch = batch.select(["ts_event_ns", "price", "size", "aggressor"]).filter(pa.array(mine))
        return own

    def _add(self, second: int, bar: list[float]) -> None:
        before = self._bars.get(second)
        if before is None:
            self._bars[second] = bar
        else:
            _, high, low, close, volume, bought, sold = bar
            self._bars[second] = [
                before[0], max(before[1], high), min(before[2], low), close,
                before[4] + volume, before[5] + bought, before[6] + sold,
            ]  # fmt: skip
        self._changed.add(second)

    def _forget(self) -> None:
        while len(self._bars) > MOST_BARS:
            second, _ = self._bars.popitem(last=False)
            self._changed.discard(second)

    def changed(self) -> list[Bar]:
        """Return the bars that changed since this was asked before."""
        found = [[second, *self._bars[second]] for second in sorted(self._changed)]
        self._changed.clear()
        return found

    def newest(self, count: int) -> list[Bar]:
        """Return so many of the newest, oldest first."""
        return [[second, *self._bars[second]] for second in sorted(self._bars)[-count:]]

    def between(self, from_ns: int, to_ns: int) -> list[Bar]:
        """Return those of a span, both ends' seconds included."""
        first, last = from_ns // NS_PER_SECOND, to_ns // NS_PER_SECOND
        return [[second, *self._bars[second]] for second in sorted(self._bars) if first <= second <= last]

    @property
    def begins_s(self) -> int | None:
        """The second of the oldest; None without."""
        return min(self._bars, default=None)

"""How each stream flows: rows a second, how old its newest row is, how late it came. Of a batch no row is looked at."""

import math
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from spymaster import clock
from spymaster.clock import NS_PER_HOUR, NS_PER_MS
from spymaster.events import Stream
from spymaster.watch.documents import Silent, StreamDocument

RATE_S: Final = 300  # over which a stream counts as one that flows
SILENT_S: Final = 2.0  # without a row of a stream that flows
FLOWS_ABOVE: Final = 5.0  # rows a second
LAG_S: Final = 60  # whose lags are shown
LAG_EVERY_S: Final = 0.06  # a lag is kept so often, the largest since the one before
_LAGS: Final = round(LAG_S / LAG_EVERY_S)
_OTHER_TIME_NS: Final = NS_PER_HOUR  # events that far from now are of another time
_SELDOM: Final = ("system.", "reference.", "options.greeks_snapshots")  # come at once or by polls; silence says nothing


class _Flow:
    """One stream's figures."""

    def __init__(self, at_s: float) -> None:
        self.rows = 0
        self.first_s = self.newest_s = at_s
        self.newest_ns = 0  # our clock then
        self.has_ended = False
        self._counts = [0] * RATE_S  # rows by second, a ring
        self._second = int(at_s)
        self._lags_ms: list[tuple[float, float]] = []  # when and how late, a ring
        self._next_lag, self._lag_s, self._largest_ms = 0, at_s, -math.inf
        self._shown: tuple[float, float | None, float | None] = (-math.inf, None, None)

    def put(self, rows: int, event_ns: int | None, at_s: float, now_ns: int) -> None:
        self._turn(at_s)
        self._counts[self._second % RATE_S] += rows
        self.rows += rows
        self.newest_s, self.newest_ns, self.has_ended = at_s, now_ns, False
        if event_ns is not None and abs(now_ns - event_ns) < _OTHER_TIME_NS:
            self._largest_ms = max(self._largest_ms, (now_ns - event_ns) / NS_PER_MS)
            if at_s - self._lag_s >= LAG_EVERY_S or not self._lags_ms:
                self._keep_lag(at_s)

    def _keep_lag(self, at_s: float) -> None:
        kept = (at_s, self._largest_ms)
        if len(self._lags_ms) < _LAGS:
            self._lags_ms.append(kept)
        else:
            self._lags_ms[self._next_lag % _LAGS] = kept
        self._next_lag += 1
        self._lag_s, self._largest_ms = at_s, -math.inf

    def _turn(self, at_s: float) -> None:
        """Forget the seconds that went by."""
        second = int(at_s)
        for passed in range(self._second + 1, min(second, self._second + RATE_S) + 1):
            self._counts[passed % RATE_S] = 0
        self._second = max(second, self._second)

    def rate(self, at_s: float) -> float:
        """Return rows a second of the newest second: this one's, and of the one before what still is in it."""
        self._turn(at_s)
        before = self._counts[(self._second - 1) % RATE_S]
        return self._counts[self._second % RATE_S] + before * (1 - (at_s - self._second))

    def steady_rate(self) -> float:
        """Return rows a second of the five minutes up to its newest row, or since its first.

        Up to that row and not up to now, so that a stream that fell silent stays one that flowed.
        """
        newest = int(self.newest_s)
        kept = range(max(self._second - RATE_S + 1, newest - RATE_S + 1), newest + 1)
        seen_s = min(RATE_S, max(self.newest_s - self.first_s, 1.0))
        return sum(self._counts[second % RATE_S] for second in kept) / seen_s

    def lags_ms(self, at_s: float) -> tuple[float | None, float | None]:
        """Return the median and the 99th percentile of the newest minute, at most a second old; None where none is."""
        if at_s - self._shown[0] >= 1.0:
            lags = sorted(ms for kept_s, ms in self._lags_ms if at_s - kept_s <= LAG_S)
            middle, last = (lags[math.ceil(part * len(lags)) - 1] if lags else None for part in (0.5, 0.99))
            self._shown = (at_s, middle, last)
        return self._shown[1:]


class Streams:
    """All streams that were published since the start. There are as many as logs are open."""

    def __init__(self) -> None:
        self._flows: dict[Stream, _Flow] = {}

    def put(self, stream: Stream, batch: pa.RecordBatch) -> None:
        """Take note of rows as they are published."""
        self.count(stream, batch.num_rows, _newest_ns(batch))

    def count(self, stream: Stream, rows: int, event_ns: int | None) -> None:
        """Take note of so many rows.

        Args:
            stream: theirs.
            rows: how many.
            event_ns: the newest `ts_event_ns` among them; None where it is not known.
        """
        at_s = clock.monotonic_s()
        if stream not in self._flows:
            self._flows[stream] = _Flow(at_s)
        self._flows[stream].put(rows, event_ns, at_s, clock.utc_now_ns())

    def ended(self, stream: Stream) -> None:
        """Take note that its delivery ended where the vendor ended it: that it is silent says nothing."""
        if stream in self._flows:
            self._flows[stream].has_ended = True

    @property
    def rows(self) -> int:
        """How many of all streams."""
        return sum(flow.rows for flow in self._flows.values())

    def documents(self) -> dict[str, StreamDocument]:
        """Return each stream's figures, by name."""
        at_s = clock.monotonic_s()
        return {str(stream): _document(flow, at_s) for stream, flow in sorted(self._flows.items())}

    def silent(self, after_s: float = SILENT_S) -> dict[str, Silent]:
        """Return the streams that had more than `FLOWS_ABOVE` rows a second, and for `after_s` none."""
        return dict(self._silent(after_s))

    def _silent(self, after_s: float) -> Iterator[tuple[str, Silent]]:
        at_s = clock.monotonic_s()
        for stream, flow in sorted(self._flows.items()):
            age_s = at_s - flow.newest_s
            if age_s >= after_s and not flow.has_ended and not stream.schema.startswith(_SELDOM) and _flowed(flow):
                yield str(stream), {"since_ns": flow.newest_ns, "age_ms": round(age_s * 1000)}

    def lags(self) -> dict[str, float]:
        """Return by name the median lag, ms, of each stream whose events are of now, once a minute of it was seen."""
        at_s = clock.monotonic_s()
        seen = [(stream, flow) for stream, flow in sorted(self._flows.items()) if at_s - flow.first_s >= LAG_S]
        found = {str(stream): flow.lags_ms(at_s)[0] for stream, flow in seen}
        return {name: lag for name, lag in found.items() if lag is not None}


def _flowed(flow: _Flow) -> bool:
    """Whether it flowed before it fell silent; what came at once when it was opened is no flow."""
    return flow.newest_s - flow.first_s >= SILENT_S and flow.steady_rate() > FLOWS_ABOVE


def _document(flow: _Flow, at_s: float) -> StreamDocument:
    middle, last = flow.lags_ms(at_s)
    return {
        "rows_s": round(flow.rate(at_s), 1),
        "rows_s_5min": round(flow.steady_rate(), 1),
        "lag_ms": None if middle is None else round(middle, 1),
        "lag_p99_ms": None if last is None else round(last, 1),
        "age_ms": max(round((at_s - flow.newest_s) * 1000), 0),
        "rows": flow.rows,
    }


def _newest_ns(batch: pa.RecordBatch) -> int | None:
    """Return the newest time; every event schema begins with it, and to look for its name takes longer."""
    return int(batch.column(0).to_numpy().max()) if batch.num_rows else None

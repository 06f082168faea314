"""Durable batches -> bounded queues of live readers; loss stands in the queue. The recorder never waits for a reader.

A reader that falls behind loses its oldest batches and finds a `Skipped` in their place. The rows themselves are in the
log and the lake, where it can read them again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from spymaster.events import Stream

# 15 s of the open: 20,000 books a second of 451 bytes, and 60,000 prints and quotes of 125. A reader that is away for
# longer has more to catch up with than a queue is for.
MAX_MB: Final = 256
MAX_CAPTURES: Final = 1_000  # whose numbers are kept for one stream; beyond, those of the oldest go
_FIRST_NS, _LAST_NS = -(2**63), 2**63 - 1


class Published(NamedTuple):
    """Rows of one stream, durable before anyone sees them."""

    stream: Stream
    batch: pa.RecordBatch


class Skipped(NamedTuple):
    """Rows of one stream that a reader was too slow for, where they would have stood in its queue.

    Attributes:
        stream: theirs.
        rows: how many.
        first_ns: the lowest `ts_event_ns` among them.
        last_ns: the highest, so that the span `first_ns` to `last_ns`, both included, is void. Rows that a program
            published without a `ts_event_ns` may be of any time: then it is all of int64.
        captures: the first and the last `capture_seq` of each of their captures: what to read again from log and lake.
            They are the newest `MAX_CAPTURES`; `rows` and the span count the others too.
    """

    stream: Stream
    rows: int
    first_ns: int
    last_ns: int
    captures: Mapping[int, tuple[int, int]]


class _Queued(NamedTuple):
    """A batch, with what was found out about it once for all readers."""

    published: Published
    size_bytes: int
    captures: Mapping[int, tuple[int, int]]

    def skipped(self) -> Skipped:
        stream, batch = self.published
        times = _int64s(batch, "ts_event_ns")
        span = (_FIRST_NS, _LAST_NS) if times is None else (int(times.min()), int(times.max()))
        return Skipped(stream, batch.num_rows, *span, self.captures)


class Subscription:
    """One reader's queue. Iterate it with `async for`; the iteration ends when the bus closes.

    Attributes:
        positions: of each stream, the last `capture_seq` that each open capture had published when this subscription
            began. What is at or before it stands in log and lake, what follows comes here. A capture without one has
            ended, and log and lake have it whole; or it has published nothing yet, and what it publishes comes here.
        dropped_rows: rows this reader was too slow for.
        waiting_bytes: what is in the queue.
        wants: whether a stream's rows come here.
    """

    def __init__(
        self, max_bytes: int, positions: Mapping[Stream, Mapping[int, int]], wants: Callable[[Stream], bool]
    ) -> None:
        self.positions = positions
        self.dropped_rows = 0
        self.waiting_bytes = 0
        self.closed = False
        self.wants = wants
        self._max_bytes = max_bytes
        self._skipped: dict[Stream, Skipped] = {}  # all of it older than all that waits; one for each stream
        self._waiting: deque[_Queued] = deque()
        self._changed = asyncio.Event()

    def put(self, queued: _Queued) -> None:
        """Queue rows. Beyond `max_bytes` the oldest batches go until half of it waits, but never the newest.

        Half: in a queue that stays full, the next rows drop others while the reader catches up with the first loss.
        """
        self._waiting.append(queued)
        self.waiting_bytes += queued.size_bytes
        if self.waiting_bytes > self._max_bytes:
            while self.waiting_bytes > self._max_bytes // 2 and len(self._waiting) > 1:
                self._skip(self._take().skipped())
        self._changed.set()

    def _take(self) -> _Queued:
        oldest = self._waiting.popleft()
        self.waiting_bytes -= oldest.size_bytes
        return oldest

    def _skip(self, skipped: Skipped) -> None:
        self.dropped_rows += skipped.rows
        before = self._skipped.get(skipped.stream)
        self._skipped[skipped.stream] = skipped if before is None else _joined(before, skipped)

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Published | Skipped:
        while not self._waiting:  # what was skipped has rows behind it
            if self.closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._next()

    def waiting(self, max_bytes: int) -> list[Published | Skipped]:
        """Take what waits now, oldest first, until so many bytes are taken; for a reader that works many at once."""
        taken: list[Published | Skipped] = []
        least = self.waiting_bytes - max_bytes
        while self._waiting and self.waiting_bytes > least:
            taken.append(self._next())
        return taken

    def _next(self) -> Published | Skipped:
        if self._skipped:
            return self._skipped.pop(next(iter(self._skipped)))
        return self._take().published


class Bus:
    """Hands each durable batch to every subscription. Used from the event loop alone."""

    def __init__(self, max_bytes: int = MAX_MB << 20) -> None:
        """Make a bus without readers.

        Args:
            max_bytes: what may wait for one reader, unless it asks for another bound.
        """
        self._max_bytes = max_bytes
        self._subscriptions: list[Subscription] = []
        self._positions: dict[Stream, dict[int, int]] = {}
        self._dropped_before = 0  # rows that readers who left were too slow for

    def subscribe(self, max_bytes: int | None = None, wants: Callable[[Stream], bool] = lambda _: True) -> Subscription:
        """Return a queue of everything published from now on, with the positions of this instant.

        Args:
            max_bytes: what may wait for this reader; the bus's if None.
            wants: which streams it reads; others take no room in its queue.
        """
        positions = {stream: dict(captures) for stream, captures in self._positions.items()}
        subscription = Subscription(self._max_bytes if max_bytes is None else max_bytes, positions, wants)
        self._subscriptions.append(subscription)
        return subscription

    @property
    def readers(self) -> int:
        return sum(not subscription.closed for subscription in self._subscriptions)

    @property
    def dropped_rows(self) -> int:
        """Rows that today's readers were too slow for."""
        return sum(subscription.dropped_rows for subscription in self._subscriptions)

    @property
    def dropped_rows_ever(self) -> int:
        """Rows that any reader was too slow for, also one that has left."""
        return self._dropped_before + self.dropped_rows

    def publish(self, stream: Stream, batches: Iterable[pa.RecordBatch]) -> None:
        """Hand rows to every reader.

        Args:
            stream: theirs.
            batches: as they stand in the log. Without `capture_id` and `capture_seq`, as a program may publish them on
                a bus of its own, they have no positions.
        """
        self._dropped_before += sum(each.dropped_rows for each in self._subscriptions if each.closed)
        self._subscriptions = [subscription for subscription in self._subscriptions if not subscription.closed]
        for batch in batches:
            if batch.num_rows == 0:
                continue
            captures = _captures(batch)
            self._advance(stream, captures)
            if readers := [each for each in self._subscriptions if each.wants(stream)]:
                # What a frame of these rows takes, 4 KB of it for a book's columns. `get_total_buffer_size` counts the
                # buffers of a whole delivery for each slice of it; `nbytes` does not, but of books it takes
                # longer than all else here (bench/bus.py).
                queued = _Queued(Published(stream, batch), ipc.get_record_batch_size(batch), captures)
                for subscription in readers:
                    subscription.put(queued)

    def _advance(self, stream: Stream, captures: Mapping[int, tuple[int, int]]) -> None:
        if captures:
            positions = self._positions.setdefault(stream, {})
            for capture_id, (_, last) in captures.items():
                positions.pop(capture_id, None)  # so that the newest is the last
                positions[capture_id] = last
            _forget_oldest(positions)

    def ended(self, capture_id: int) -> None:
        """Forget a capture's positions. Its end row is durable: log and lake have it whole, and no row follows."""
        for captures in self._positions.values():
            captures.pop(capture_id, None)
        self._positions = {stream: captures for stream, captures in self._positions.items() if captures}

    def close(self) -> None:
        """End every subscription after what is queued."""
        for subscription in self._subscriptions:
            subscription.close()


def _captures(rows: pa.RecordBatch) -> dict[int, tuple[int, int]]:
    """Return each capture's first and last `capture_seq`; none where rows have no such columns."""
    ids, numbers = _int64s(rows, "capture_id"), _int64s(rows, "capture_seq")
    if ids is None or numbers is None:
        return {}
    turns = np.flatnonzero(ids[1:] != ids[:-1])  # captures take turns, nearly always one in a batch
    starts, ends = np.append(0, turns + 1), np.append(turns, len(ids) - 1)
    firsts = dict(zip(ids[starts[::-1]].tolist(), numbers[starts[::-1]].tolist(), strict=True))
    lasts = dict(zip(ids[ends].tolist(), numbers[ends].tolist(), strict=True))
    return {capture_id: (firsts[capture_id], last) for capture_id, last in lasts.items()}


def _int64s(rows: pa.RecordBatch, name: str) -> NDArray[np.int64] | None:
    at = rows.schema.get_field_index(name)
    if at < 0 or rows.schema.field(at).type != pa.int64() or rows.column(at).null_count:
        return None
    return rows.column(at).to_numpy()


def _joined(before: Skipped, after: Skipped) -> Skipped:
    captures = dict(before.captures)
    for capture_id, (first, last) in after.captures.items():
        known = captures.pop(capture_id, None)  # so that the newest is the last
        captures[capture_id] = (known[0] if known else first, last)
    _forget_oldest(captures)
    span = min(before.first_ns, after.first_ns), max(before.last_ns, after.last_ns)
    return Skipped(before.stream, before.rows + after.rows, *span, captures)


def _forget_oldest(captures: dict) -> None:
    while len(captures) > MAX_CAPTURES:
        del captures[next(iter(captures))]

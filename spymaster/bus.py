"""Durable batches -> bounded queues of live readers. The recorder never waits for a reader.

A reader that falls behind loses its oldest batches, and `dropped_rows` counts them; the rows themselves are in the
log and the lake, where it can read them again.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from spymaster.events import Stream


class Published(NamedTuple):
    """Rows of one stream, durable before anyone sees them."""

    stream: Stream
    batch: pa.RecordBatch


class Subscription:
    """One reader's queue. Iterate it with `async for`; the iteration ends when the bus closes.

    Attributes:
        dropped_rows: rows this reader was too slow for.
    """

    def __init__(self, max_rows: int) -> None:
        self.dropped_rows = 0
        self._max_rows = max_rows
        self._waiting: deque[Published] = deque()
        self._waiting_rows = 0
        self.closed = False
        self._changed = asyncio.Event()

    def put(self, published: Published) -> None:
        """Queue rows; drop the oldest batches beyond `max_rows`, but never the newest."""
        self._waiting.append(published)
        self._waiting_rows += published.batch.num_rows
        while self._waiting_rows > self._max_rows and len(self._waiting) > 1:
            oldest = self._waiting.popleft().batch.num_rows
            self._waiting_rows -= oldest
            self.dropped_rows += oldest
        self._changed.set()

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Published:
        while not self._waiting:
            if self.closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        published = self._waiting.popleft()
        self._waiting_rows -= published.batch.num_rows
        return published


class Bus:
    """Hands each durable batch to every subscription. Used from the event loop alone."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []

    def subscribe(self, max_rows: int = 1_000_000) -> Subscription:
        """Return a queue of everything published from now on, bounded in rows."""
        subscription = Subscription(max_rows)
        self._subscriptions.append(subscription)
        return subscription

    @property
    def readers(self) -> int:
        return sum(not subscription.closed for subscription in self._subscriptions)

    @property
    def dropped_rows(self) -> int:
        """Rows that today's readers were too slow for."""
        return sum(subscription.dropped_rows for subscription in self._subscriptions)

    def publish(self, stream: Stream, batches: Iterable[pa.RecordBatch]) -> None:
        self._subscriptions = [subscription for subscription in self._subscriptions if not subscription.closed]
        for batch in batches:
            published = Published(stream, batch)
            for subscription in self._subscriptions:
                subscription.put(published)

    def close(self) -> None:
        """End every subscription after what is queued."""
        for subscription in self._subscriptions:
            subscription.close()

"""What a connection has received and nobody has taken yet: the bursts of a live delivery."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from spymaster.feeds.feed import BURST_BYTES, Burst, RawMessage


class Arrivals:
    """Gathers messages on the event loop. An idle feed has one in a burst and no delay; a busy one has what came.

    Once it holds `BURST_BYTES`, `pause` is called, and the vendor's socket fills up instead. What comes all the same
    makes several bursts.
    """

    def __init__(self, pause: Callable[[], None] = lambda: None, resume: Callable[[], None] = lambda: None) -> None:
        """Hold nothing yet.

        Args:
            pause: called when no more should be read for now.
            resume: called when it should again.
        """
        self._pause, self._resume = pause, resume
        self._messages: list[RawMessage] = []
        self._bytes = 0
        self._paused = False
        self._ended: BaseException | None = None
        self._closed = False
        self._arrived = asyncio.Event()

    def put(self, message: RawMessage) -> None:
        """Add what came; nothing after the end."""
        if self._closed:
            return
        self._messages.append(message)
        self._bytes += len(message.data)
        if self._bytes >= BURST_BYTES and not self._paused:
            self._paused = True
            self._pause()
        self._arrived.set()

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, and why if the vendor did not end it: raised once all that came is taken.

        The first end counts: a loss stays one though the delivery is closed after it.
        """
        if not self._closed:
            self._closed, self._ended = True, error
        self._arrived.set()

    async def bursts(self) -> AsyncGenerator[Burst]:
        """Yield all that has arrived since the last time, until the end; at most `BURST_BYTES`, or one larger message.

        Raises:
            FeedLostError: or whatever `end` was told.
        """
        while True:
            if not self._messages:
                if self._closed:
                    break
                self._arrived.clear()
                await self._arrived.wait()
                continue
            yield self._taken()
        if self._ended is not None:
            raise self._ended

    def _taken(self) -> Burst:
        count = size = 0
        for message in self._messages:
            if count and size + len(message.data) > BURST_BYTES:
                break
            count, size = count + 1, size + len(message.data)
        taken, self._messages, self._bytes = self._messages[:count], self._messages[count:], self._bytes - size
        if self._paused and self._bytes < BURST_BYTES:
            self._paused = False
            self._resume()
        return taken

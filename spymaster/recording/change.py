"""Wakes whoever waits for the recorder's state to change."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Change:
    """One thing to wait for instead of many questions asked again and again: room, a backlog, a failure, the end.

    The event loop owns that state and calls `happened` where it changes some; threads hand their results to the loop.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def happened(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def until(self, met: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `met` is true, or the time is over; return whether it is true."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):  # `wait_for` may swallow a cancellation
                while not met():
                    await self._next.wait()
        return met()

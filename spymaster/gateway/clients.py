"""Frames -> a bounded queue per client. A slow client never delays another: it loses frames, and gets the newest state.

A client that reads too little has `MOST_FRAMES` waiting, and what the operating system and the socket's buffer hold,
some 100 KB. Then its queue is emptied and it gets a full frame; each of those is counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_FRAMES: Final = 8  # waiting for one client: two seconds
MOST_CLIENTS: Final = 128  # at once; one more is refused


class Client:
    """One page's queue.

    Attributes:
        behind: how often its queue was emptied as it was too slow.
    """

    def __init__(self, full: Callable[[], str]) -> None:
        """Begin with a full frame.

        Args:
            full: returns the newest state.
        """
        self.behind = 0
        self._full, self._has_left = full, False
        self._waiting: deque[str] = deque([full()])
        self._changed = asyncio.Event()
        self._changed.set()

    def put(self, frame: str) -> bool:
        """Queue a frame; return whether the client kept up. One that has not gets the newest state instead."""
        kept_up = len(self._waiting) < MOST_FRAMES
        if kept_up:
            self._waiting.append(frame)
        else:
            self._waiting.clear()
            self._waiting.append(self._full())
            self.behind += 1
        self._changed.set()
        return kept_up

    def end(self) -> None:
        """Say that the page has left: no frame follows."""
        self._has_left = True
        self._changed.set()

    async def next(self) -> str | None:
        """Wait for the next frame; None once the page has left."""
        while not self._waiting and not self._has_left:
            self._changed.clear()
            await self._changed.wait()
        return None if self._has_left else self._waiting.popleft()

    @property
    def waiting(self) -> int:
        """Frames in the queue."""
        return len(self._waiting)


class Clients:
    """All pages that are open.

    Attributes:
        behind: how often a client was too slow.
        frames: that were sent to all.
        refused: pages that were one too many.
    """

    def __init__(self) -> None:
        self.behind = self.frames = self.refused = 0
        self._clients: set[Client] = set()

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def waiting(self) -> int:
        """Frames that wait for the slowest of them."""
        return max((client.waiting for client in self._clients), default=0)

    @property
    def is_full(self) -> bool:
        """Whether one more would be too many; that one is counted."""
        if len(self._clients) < MOST_CLIENTS:
            return False
        self.refused += 1
        return True

    def add(self, full: Callable[[], str]) -> Client:
        """Return a new client's queue, which begins with a full frame."""
        client = Client(full)
        self._clients.add(client)
        return client

    def remove(self, client: Client) -> None:
        """Forget a client that has left."""
        self._clients.discard(client)

    def send(self, frame: str) -> None:
        """Put one frame into every queue. It waits for nobody."""
        self.frames += 1
        self.behind += sum(not client.put(frame) for client in tuple(self._clients))

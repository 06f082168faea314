"""Keeps what a vendor sent and nobody can read, with the reason: in one file for each burst that has any."""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from spymaster import durable
from spymaster.errors import SourceError
from spymaster.events.captures import Capture
from spymaster.normalize.normalizer import Unreadable
from spymaster.recording.health import Health

MAX_FILES: Final = 1_000  # per capture; a file with more unreadable pieces is no market data
RETRY_S: Final = 0.5  # while the disk is full


class Quarantine:
    """One capture's unreadable messages. A file that has too many is refused; of a live capture the newest stay.

    Attributes:
        unreadable: messages so far.
        lost: why some could not be kept, if they could not.
    """

    def __init__(self, root: Path, capture: Capture, *, waits: bool, health: Health) -> None:
        """Keep nothing yet.

        Args:
            root: the folder of all.
            capture: whose messages they are.
            waits: the source can wait for a full disk, and is refused beyond `MAX_FILES`.
            health: whom it tells that a live source's oldest go.
        """
        self.unreadable = 0
        self.lost: str | None = None
        self._folder = root / capture.source
        self._capture, self._waits, self._health = capture, waits, health
        self._kept: deque[str] = deque()  # names without suffix, oldest first

    async def keep(self, unreadable: Sequence[Unreadable], ended: asyncio.Event) -> bool:
        """Keep some messages, durable on return; the caller gives at least one.

        Args:
            unreadable: messages of one burst.
            ended: ends the waiting for a full disk.

        Returns:
            False where the run ended first.

        Raises:
            SourceError: a file has more of them than market data has.
            OSError: the disk refused for another reason than want of room.
        """
        first = unreadable[0]
        if not self.unreadable:
            self._health.journal.event(
                "quarantine.began",
                origin=self._capture.origin,
                capture_id=self._capture.capture_id,
                reason=f"byte {first.byte}: {first.reason}",
                folder=self._folder,
            )
        self.unreadable += len(unreadable)
        name = f"{self._capture.capture_id:016x}-{first.byte}"
        if len(self._kept) >= MAX_FILES:
            if self._waits:
                raise SourceError(
                    f"{self._capture.origin} has more than {MAX_FILES} unreadable pieces, the last at byte "
                    f"{first.byte}: {first.reason}. What was readable is recorded. Next: check that it is the "
                    f"vendor's file"
                )
            await asyncio.to_thread(self._remove, self._kept.popleft())
            self._health.alarm(
                f"quarantine {self._capture.capture_id}",
                f"{self._capture.origin} has sent more than {MAX_FILES} unreadable pieces; the newest are kept in "
                f"{self._folder}, the last for: {first.reason}. What is readable is recorded. Next: look at them",
            )
        self._kept.append(name)
        while True:
            try:
                await asyncio.to_thread(self._write, name, unreadable)
            except OSError as error:
                if not durable.is_full(error):
                    raise
                if not self._waits:
                    self.lost = f"unreadable messages could not be kept in {self._folder}: {error}"
                    return True
                if ended.is_set():
                    return False
                await asyncio.sleep(RETRY_S)
            else:
                return True

    def _write(self, name: str, unreadable: Sequence[Unreadable]) -> None:
        """Write both files, unless they are there. For a thread: a burst may be tens of thousands of messages."""
        entries = [{"byte": one.byte, "length": len(one.data), "reason": one.reason} for one in unreadable]
        described = {"origin": self._capture.origin, "capture_id": self._capture.capture_id, "messages": entries}
        durable.make_directories(self._folder)
        pieces = {".bin": b"".join(one.data for one in unreadable), ".json": json.dumps(described).encode()}
        for suffix, data in pieces.items():
            path = self._folder / f"{name}{suffix}"
            if not path.exists():  # as it may where a file is read again
                durable.publish(data, path)

    def _remove(self, name: str) -> None:
        for suffix in (".bin", ".json"):
            durable.remove(self._folder / f"{name}{suffix}")

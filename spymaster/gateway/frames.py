"""Documents -> frames of the stream, each encoded once for all clients.

    full    everything; on connect, now and then, and to a client that fell behind
    change  a merge patch of what changed since the frame before; lists are replaced whole, `bars` added by their time
    beat    the daemon's clock and the age of each stream, so that a page knows that nothing came

`n` counts full states and changes: a change makes state n of state n - 1, a full frame says state n.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from spymaster.gateway.patch import Document, difference

CHANGE_S: Final = 0.25  # at least between two changes
BEAT_S: Final = 0.5
BARS: Final = "bars"


def encoded(document: Mapping[str, Any]) -> str:
    """Return strict JSON.

    Raises:
        ValueError: a number is none of JSON's, which is a defect of whoever made the document.
    """
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


class Frames:
    """The states that were sent, one behind the other.

    Attributes:
        n: of the newest state; 0 before the first.
    """

    def __init__(self) -> None:
        self.n = 0
        self._state: Document = {}
        self._full: str | None = None
        self._bars: Sequence[Any] = ()
        self._at_ns = 0

    def change(self, state: Document, bars: Sequence[Any], recent: Sequence[Any], at_ns: int) -> str | None:
        """Take the next state; return the frame that makes it of the one before, None where nothing changed.

        Args:
            state: all documents but the bars. It is kept, and not changed any more by whoever made it.
            bars: those that changed since the state before.
            recent: those that a full frame has.
            at_ns: our clock.
        """
        patch = difference(self._state, state)
        self._state, self._bars = state, recent
        if bars:
            patch[BARS] = list(bars)
        if not patch and self.n:
            return None
        self.n, self._full, self._at_ns = self.n + 1, None, at_ns
        return encoded({"type": "change", "n": self.n, "at_ns": at_ns, "set": patch})

    def full(self) -> str:
        """Return the newest state as a frame."""
        if self._full is None:
            head = {"type": "full", "n": self.n, "at_ns": self._at_ns}
            self._full = encoded({**head, **self._state, BARS: list(self._bars)})
        return self._full

    @property
    def state(self) -> Document:
        """The newest state, without bars."""
        return self._state


def beat(n: int, at_ns: int, ages: Mapping[str, int]) -> str:
    """Return the frame that says that the daemon is there.

    Args:
        n: of the newest state.
        at_ns: our clock.
        ages: milliseconds since the newest row, by stream.
    """
    return encoded({"type": "beat", "n": n, "at_ns": at_ns, "ages": ages})

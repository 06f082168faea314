"""Says when a replayed file's rows are due, so that they arrive as they happened."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from spymaster import clock
from spymaster.normalize.normalizer import Rows

QUANTUM_NS: Final = 20_000_000  # paced rows are released at least every 20 ms of wall time


class Pacer:
    """Cuts batches by one of their time columns; `speed` times as fast as they happened, 0: at once."""

    def __init__(self, speed: float, stamp: str | None) -> None:
        """Begin a pace.

        Args:
            speed: event time per wall time.
            stamp: the column of UTC nanoseconds that says when a row is due; None: rows are due when they come.
        """
        self._speed, self._stamp = speed, stamp
        self._begin: tuple[int, float] | None = None  # an event time, and the wall time it is due

    def pieces(self, batches: list[Rows]) -> Iterator[tuple[float, list[Rows]]]:
        """Yield `batches` cut by their time, each piece with the monotonic second at which it is due.

        Rows keep their order; a row that is older than one before it is due with that one.
        """
        if self._speed == 0 or self._stamp is None or not batches:
            yield 0.0, batches
            return
        stamps = [np.maximum.accumulate(batch[self._stamp].to_numpy()) for _, batch in batches]
        if self._begin is None:
            self._begin = (min(int(times[0]) for times in stamps), clock.monotonic_s())
        begin_ns, begin_s = self._begin
        quantum = max(int(QUANTUM_NS * self._speed), 1)
        slots = [np.maximum(times - begin_ns, 0) // quantum for times in stamps]
        for slot in np.unique(np.concatenate(slots)).tolist():
            piece = []
            for (schema, batch), own in zip(batches, slots, strict=True):
                start, end = np.searchsorted(own, [slot, slot + 1]).tolist()
                if end > start:
                    piece.append((schema, batch.slice(start, end - start)))
            yield begin_s + slot * quantum / self._speed / clock.NS_PER_SECOND, piece

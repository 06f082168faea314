"""The recorder's figures that a desk looks at, without reading a file."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from spymaster import clock
from spymaster.events import Stream
from spymaster.recording.gauges import gauges
from spymaster.recording.recorder import Recorder
from spymaster.signals.gold import SignalsWriter
from spymaster.watch.documents import HealthDocument

KEPT_S: Final = 0.5  # a document is made so often: it asks for the sizes of the files that wait
FREE_EVERY_S: Final = 10.0
FREE_SAMPLES: Final = 360  # an hour of them
LEAST_S: Final = 600.0  # a shorter look says nothing of days
_FLOWING: Final = (".trades", ".quotes", ".mbp10")
_S_PER_DAY: Final = 86_400


class Room:
    """How many days the disk lasts if it fills as it did in the newest hour."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=FREE_SAMPLES)

    def days(self, free_bytes: int, at_s: float) -> float | None:
        """Take note of what is free now; return the days, None where too little was seen, or it does not shrink."""
        if not self._seen or at_s - self._seen[-1][0] >= FREE_EVERY_S:
            self._seen.append((at_s, free_bytes))
        since_s, before = self._seen[0]
        used = before - free_bytes
        if at_s - since_s < LEAST_S or used <= 0:
            return None
        return round(free_bytes / used * (at_s - since_s) / _S_PER_DAY, 1)


class Figures:
    """Makes the document, at most each `KEPT_S`."""

    def __init__(self, recorder: Recorder, gold: SignalsWriter | None) -> None:
        self._recorder, self._gold, self._room = recorder, gold, Room()
        self._made: HealthDocument | None = None
        self._made_s = 0.0

    def document(self, open_gaps: int) -> HealthDocument:
        """Return the figures. For the event loop: it waits for no disk."""
        at_s = clock.monotonic_s()
        if self._made is None or at_s - self._made_s >= KEPT_S:
            self._made, self._made_s = self._look(at_s), at_s
        self._made["open_gaps"] = open_gaps
        return self._made

    def _look(self, at_s: float) -> HealthDocument:
        found = gauges(self._recorder)
        gold = None if self._gold is None else self._gold.gauges()
        disk, sync = found["disk"], found["sync"]
        free = min(disk["log_free_bytes"], disk["bronze_free_bytes"])
        return {
            "rows_at_risk": found["appended_not_durable"],
            "durable_to_ns": _durable_to_ns(self._recorder.frontiers),
            "sync_p50_ms": sync["p50_ms"],
            "sync_p99_ms": sync["p99_ms"],
            "not_in_bronze": found["durable_not_in_bronze"],
            "open_gaps": 0,
            "gold_age_s": None if gold is None else gold["flushed_age_s"],
            "gold_snaps": None if gold is None else gold["snaps"],
            "disk_free_bytes": free,
            "disk_days": self._room.days(free, at_s),
            "disk_level": disk["level"],
            "disk_text": disk["text"],
            "dropped_rows": found["dropped_rows"],
            "backlog_segments": found["backlog"]["segments"],
            "problems": found["problems"],
        }


def _durable_to_ns(frontiers: Mapping[Stream, int]) -> int | None:
    """Return the newest durable event time of trades, quotes and books; other rows have times of their own."""
    flowing = [ns for stream, ns in frontiers.items() if stream.schema.endswith(_FLOWING)]
    return max(flowing, default=None)

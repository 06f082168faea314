"""What a day of a run came to: told when the UTC date changes, and at the end."""

import asyncio
from collections import Counter
from typing import Final

from spymaster import clock
from spymaster.events.gaps import GAPS
from spymaster.recording.recorder import Recorder

LOOK_S: Final = 1.0  # at the clock


class Daily:
    """Counts what a recorder does between one summary and the next, from what it counts itself."""

    def __init__(self, recorder: Recorder) -> None:
        """Begin with this instant and its date."""
        self._recorder = recorder
        self._date = _date()
        self._before = self._counts()

    async def run(self) -> None:
        """Look at the clock, without end."""
        while True:
            await asyncio.sleep(LOOK_S)
            if (date := _date()) > self._date:  # the clock may step back, and a day is told once
                self.tell()
                self._date = date

    def tell(self) -> None:
        """Write the summary of the day until now."""
        now = self._counts()
        new, syncs = now - self._before, self._recorder.syncs
        self._before = now
        parts, dropped = new.pop("parts", 0), new.pop("dropped", 0)
        self._recorder.health.journal.event(
            "day.summary",
            date=self._date,
            rows=dict(new),
            parts=parts,
            gaps=new[str(GAPS)],
            dropped=dropped,
            longest_sync_ms=round(syncs.longest_s * 1000, 1),
        )
        syncs.longest_s = 0.0

    def _counts(self) -> Counter[str]:
        recorder = self._recorder
        counts = Counter({str(stream): lane.log.appended_rows for stream, lane in sorted(recorder.lanes.items())})
        counts["parts"], counts["dropped"] = recorder.drain.parts_written, recorder.bus.dropped_rows_ever
        return counts


def _date() -> str:
    return clock.utc_text(clock.utc_now_ns())[:10]

"""What the journal says of signals."""

from collections import Counter
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from spymaster import clock
from spymaster.engines.snap import Snap
from spymaster.journal import Journal

NEUTRAL: Final = "NEUTRAL"


class Changes:
    """Tells of each level whose signal is another one now."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._given: dict[str, str] = {}  # signals that are not NEUTRAL, by level

    @property
    def counts(self) -> dict[str, int]:
        """How many levels have which signal now."""
        return dict(Counter(self._given.values()))

    def snap(self, snap: Snap) -> None:
        """Tell of the next snap."""
        levels = snap.levels.select(["id", "signal"])
        given = levels.filter(pc.not_equal(levels.column("signal"), pa.scalar(NEUTRAL)))  # of 64 levels one or two
        ids, signals = (list[Any](given.column(name).to_pylist()) for name in ("id", "signal"))
        now: dict[str, str] = dict(zip(ids, signals, strict=True))
        before, self._given = self._given, now
        if now == before:
            return
        for name in sorted(now.keys() | before.keys()):
            if now.get(name) != before.get(name):
                self._journal.event(
                    "signal.changed",
                    of_level=name,
                    signal=now.get(name, NEUTRAL),
                    before=before.get(name, NEUTRAL),
                    snap=clock.utc_text(snap.snap_ns),
                    spot=snap.spot,
                )

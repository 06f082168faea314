"""The course of each level's score: the newest ten minutes, as Gold has them."""

from collections import deque
from typing import Any, Final

import pyarrow as pa

from spymaster.clock import NS_PER_SECOND

KEPT_S: Final = 600
_MOST_SNAPS: Final = KEPT_S * 4
_COLUMNS: Final = ["level_id", "break_score_smooth", "signal", "barrier_void_reason"]


class Scores:
    """Scores of the levels in sight, snap after snap."""

    def __init__(self) -> None:
        self._snaps: deque[tuple[int, dict[str, tuple[Any, ...]]]] = deque(maxlen=_MOST_SNAPS)

    def take(self, rows: pa.RecordBatch) -> None:
        """Take a snap's rows of Gold."""
        if not rows.num_rows:
            return
        ts_ns = rows.column("ts_event_ns")[0].as_py()
        if self._snaps and ts_ns <= self._snaps[-1][0]:
            self._snaps.clear()  # a session that is played again
        said = rows.select(_COLUMNS).to_pylist()
        self._snaps.append((ts_ns, {one["level_id"]: tuple(one[name] for name in _COLUMNS[1:]) for one in said}))
        while self._snaps[0][0] < ts_ns - KEPT_S * NS_PER_SECOND:
            self._snaps.popleft()

    def of(self, level: str) -> list[list[Any]]:
        """Return a level's course, oldest first: time, score, signal, why it is void. What is not known is null.

        A snap at which the level was not in sight is not among them.
        """
        found = []
        for ts_ns, levels in self._snaps:
            if level in levels:
                score, signal, void = levels[level]
                found.append([ts_ns, None if score is None else round(score, 2), signal, void])
        return found

"""What a judge's snaps had seen, as rows of `system.snaps`: a start, the snaps, a stop."""

from collections.abc import Sequence

import pyarrow as pa

from spymaster import clock
from spymaster.engines.snap import Snap
from spymaster.events.snaps import STOP, Marked, Position, snap_rows, start_row
from spymaster.signals.warm_up import WarmUp


class Record:
    """Makes the rows of one run's snaps, in order."""

    def __init__(self, profile: str) -> None:
        """Make none yet.

        Args:
            profile: by whose numbers snaps are judged.
        """
        self._profile = profile
        self._starting: WarmUp | None = None  # whose start is not on record
        self._newest_ns: int | None = None  # behind which no stop is on record

    def begin(self, warm: WarmUp) -> None:
        """Go on with a session's chain, or begin one with its first snap."""
        chain = warm.chain
        self._starting = warm if chain is None else None
        if chain is not None and len(chain.snap_ns) and len(chain.snap_ns) - 1 not in chain.stops:
            self._newest_ns = int(chain.snap_ns[-1])  # a kill kept it from its stop

    def rows(self, snaps: Sequence[Snap], mark: str) -> list[pa.RecordBatch]:
        """Return the rows of snaps; of the first of a session also its start.

        Args:
            snaps: in order, at least one.
            mark: WARM or SNAP.
        """
        now_ns = clock.utc_now_ns()
        batches = [snap_rows(self._profile, [_marked(snap, mark) for snap in snaps], now_ns)]
        if self._starting is not None:
            begin_ns, begun = self._starting.session.begin_ns, self._starting.begun.to_json()
            batches.insert(0, start_row(self._profile, begin_ns, begun, now_ns))
            self._starting = None
        self._newest_ns = snaps[-1].snap_ns
        return batches

    def stop(self) -> list[pa.RecordBatch]:
        """Return the row of the end, if any snap came before it."""
        if self._newest_ns is None:
            return []
        stopped, self._newest_ns = Marked(STOP, self._newest_ns, ()), None
        return [snap_rows(self._profile, [stopped], clock.utc_now_ns())]


def _marked(snap: Snap, mark: str) -> Marked:
    seen = sorted(snap.seen.items())
    return Marked(mark, snap.snap_ns, [Position(*of, *found) for of, found in seen])

"""A judge that begins where it would be had it run all along, from log and lake.

Three things are read: of the session before, what is named after it; of the first half hours of earlier ones, what is
typical; and the session's own rows so far, which the judge takes as it would have from the bus.

`WarmUp.catch_up` is called again and again while it takes long, then once more with the positions of a subscription:
what is at or before them it reads, what follows comes from the bus.

Rows of before the session are not read. So whether the recording had begun by then is told by its capture: its first
row in the session is not its first at all, or it began before the session did. Else the judge is told since when.
"""

from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from spymaster.clock import NS_PER_DAY
from spymaster.engines.expiry import half_days
from spymaster.engines.judge import Judge
from spymaster.engines.ledger import Body
from spymaster.engines.levels import Zone
from spymaster.engines.profile import MOST_EXPIRY_DAYS, Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events import Stream
from spymaster.query.recorded import Recorded
from spymaster.query.sessions import calendar
from spymaster.query.stretches import MOST_ROWS, Bounds, Positions, Taken, by_capture
from spymaster.signals.earlier import earlier_of, seed_of
from spymaster.signals.feed import Caught, Roots, begin_of, feed, quoting_of, streams_of


@cache
def half_days_from(session: Session) -> frozenset[date]:
    """Return the dates on which stocks close early, as far ahead as an option that counts may expire."""
    return half_days(
        calendar().sessions_between(session.begin_ns, session.end_ns + MOST_EXPIRY_DAYS * NS_PER_DAY, "us")
    )


class WarmUp:
    """Warms up one judge for one session.

    Attributes:
        judge: None until log or lake had a book of the session, or `begin` was called.
        since_ns: the judge's rows begin there, though the session had begun; None where they begin with the session,
            or there is no judge yet.
        earlier: what the session takes over from the one before; None where the lake has none.
        seed: what was typical in earlier sessions; None where the lake has none.
        session: which one.
        contract: its front month.
        taken: by schema and capture id the last `capture_seq` that the judge was given.
    """

    def __init__(
        self,
        data_root: Path,
        wal_root: Path,
        profile: Profile,
        session: Session,
        contract: str,
        *,
        zones: Sequence[Zone] = (),
        body: Body | None = None,
        most_rows: int = MOST_ROWS,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read what earlier sessions leave; nothing of this one yet.

        Args:
            data_root: the lake.
            wal_root: its log.
            profile: the numbers.
            session: the session.
            contract: its front month.
            zones: the user's hot zones.
            body: of the ledger; the fastest if None.
            most_rows: that are read at once.
            stopped: whether nobody waits any more for what a pass reads; asked a batch.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        self.judge: Judge | None = None
        self.since_ns: int | None = None
        self.taken: dict[tuple[str, int], int] = {}
        self._roots = Roots(data_root, wal_root)
        self.session, self.contract = session, contract
        self._profile, self._stopped = profile, stopped
        self._zones, self._body, self._most_rows = zones, body, most_rows
        self.earlier = earlier_of(self._roots, profile, session, contract)
        self.seed = seed_of(self._roots, profile, session)

    def catch_up(self, positions: Positions | None = None) -> Caught:
        """Give the judge the rows of log and lake that it has not got yet.

        Args:
            positions: as in `Subscription.positions`: of captures named there, rows at or before; of others all. None:
                all but the last 5 s, as the logs of several streams are not read at one instant.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be. The judge has what was before it; it cannot go on.
        """
        until = {} if positions is None else by_capture(positions)
        judge = self.judge or self._begun(until)
        if judge is None:
            return Caught(0, None, None, 0.0, None)
        bounds = Bounds(self.session.begin_ns, judge.sessions[-1].end_ns, dict(self.taken), until)
        recorded = Recorded(*self._roots, streams_of(self._profile, judge), bounds, self._most_rows)
        return feed(judge, recorded, self.taken, to_the_end=positions is not None, stopped=self._stopped)

    def take(self, stream: Stream, batch: pa.RecordBatch) -> list[Snap]:
        """Give the judge rows as they leave the bus; return the snaps that they make due.

        Those that it was given already, from the log, are left out: a capture that began after a subscription has no
        position there, and its first rows were in the log. There is a judge by then.
        """
        judge = self.judge
        if judge is None or not judge.wants(stream):
            return []
        ids, numbers = batch.column("capture_id").to_numpy(), batch.column("capture_seq").to_numpy()
        for capture_id in np.unique(ids).tolist():
            key, mine = (stream.schema, capture_id), ids == capture_id
            given = self.taken.get(key, -1)
            self.taken[key] = max(given, int(numbers[mine].max()))
            if given >= int(numbers[mine].min()):
                fresh = ~mine | (numbers > given)
                batch, ids, numbers = batch.filter(pa.array(fresh)), ids[fresh], numbers[fresh]
        return judge.take(stream, batch) if batch.num_rows else []

    def _begun(self, until: Taken) -> Judge | None:
        """Return a judge that knows since when its rows are there; None while there is no book, or no quote."""
        bounds = Bounds(self.session.begin_ns, self.session.end_ns, {}, until)
        begins = [begin_of(self._roots, stream, self.session, bounds) for stream in quoting_of(self._profile)]
        if not all(begins):
            return None
        return self.begin(
            max((found.since_ns for found in begins if found and found.since_ns is not None), default=None)
        )

    def begin(self, since_ns: int | None) -> Judge:
        """Make the judge of a session of which log and lake have no book; return it.

        Args:
            since_ns: its rows begin there, though the session had begun; None where they begin with the session.
        """
        self.since_ns = since_ns
        seeds = {} if self.seed is None else {self.session.date: self.seed}
        self.judge = Judge(
            self._profile,
            [self.session],
            self.contract,
            earlier=self.earlier,
            seeds=seeds,
            zones=self._zones,
            since_ns=since_ns,
            half_days=half_days_from(self.session),
            body=self._body,
        )
        return self.judge

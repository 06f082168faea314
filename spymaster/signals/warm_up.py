"""A judge that begins where it would be had it run all along, from log and lake.

Three things are read: of the session before, what is named after it; of the first half hours of earlier ones, what is
typical; and the session's own rows so far, which the judge takes as it would have from the bus.

`WarmUp.catch_up` is called again and again while it takes long, then once more with the positions of a subscription:
what is at or before them it reads, what follows comes from the bus.

Rows of before the session are not read. So whether the recording had begun by then is told by its capture: its first
row in the session is not its first at all, or it began before the session did. Else the judge is told since when.
"""

from collections.abc import Sequence
from pathlib import Path

from spymaster.engines.judge import Judge
from spymaster.engines.ledger import Body
from spymaster.engines.levels import Zone
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.query.recorded import Recorded
from spymaster.query.stretches import MOST_ROWS, Bounds, Positions, Taken, by_capture
from spymaster.signals.earlier import earlier_of, seed_of
from spymaster.signals.feed import Caught, Roots, begin_of, feed, quoting_of, streams_of


class WarmUp:
    """Warms up one judge for one session.

    Attributes:
        judge: None until log or lake had a book of the session, or `begin` was called.
        since_ns: the judge's rows begin there, though the session had begun; None where they begin with the session,
            or there is no judge yet.
        earlier: what the session takes over from the one before; None where the lake has none.
        seed: what was typical in earlier sessions; None where the lake has none.
        taken: by schema and capture id the last `capture_seq` that the judge was given. Rows of the bus up to it are
            not to be handed over: a capture that began after a subscription has no position, and may be in the log.
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

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        self.judge: Judge | None = None
        self.since_ns: int | None = None
        self.taken: dict[tuple[str, int], int] = {}
        self._roots = Roots(data_root, wal_root)
        self._profile, self._session, self._contract = profile, session, contract
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
        bounds = Bounds(self._session.begin_ns, judge.sessions[-1].end_ns, dict(self.taken), until)
        recorded = Recorded(*self._roots, streams_of(self._profile, judge), bounds, self._most_rows)
        return feed(judge, recorded, self.taken, to_the_end=positions is not None)

    def _begun(self, until: Taken) -> Judge | None:
        """Return a judge that knows since when its rows are there; None while there is no book, or no quote."""
        bounds = Bounds(self._session.begin_ns, self._session.end_ns, {}, until)
        begins = [begin_of(self._roots, stream, self._session, bounds) for stream in quoting_of(self._profile)]
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
        seeds = {} if self.seed is None else {self._session.date: self.seed}
        self.judge = Judge(
            self._profile,
            [self._session],
            self._contract,
            earlier=self.earlier,
            seeds=seeds,
            zones=self._zones,
            since_ns=since_ns,
            body=self._body,
        )
        return self.judge

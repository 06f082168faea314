"""A session's snaps again, by the rule of known time: its rows count from when they were known, by `ts_recv_ns`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from spymaster.engines.judge import Judge
from spymaster.engines.ledger import Body
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.query.recorded import Recorded
from spymaster.query.stretches import Bounds
from spymaster.signals import contract
from spymaster.signals.feed import Roots, begin_of, quoting_of, streams_of
from spymaster.signals.warm_up import WarmUp

SNAP: Final = "snap"


class Snaps:
    """The snaps of one session and profile, once.

    Attributes:
        recorded: whether it is on record what each had seen.
        contract: the front month.
    """

    recorded = False

    def __init__(
        self, data_root: Path, wal_root: Path, profile: Profile, session: Session, *, body: Body | None = None
    ) -> None:
        """Read what the session takes over from those before it.

        Args:
            data_root: the lake.
            wal_root: its log.
            profile: the numbers.
            session: the session.
            body: of the ledger; the fastest if None.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        self.contract = contract.front(data_root, profile.book.symbol, session).contract
        self._roots, self._profile, self._session = Roots(data_root, wal_root), profile, session
        self._warm_up = WarmUp(data_root, wal_root, profile, session, self.contract, body=body)

    def snaps(self) -> Iterator[tuple[str, Snap | None]]:
        """Yield each snap behind its mark; none where there is no book.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        bounds = Bounds(self._session.begin_ns, self._session.end_ns, {}, {})
        begins = [begin_of(self._roots, stream, self._session, bounds) for stream in quoting_of(self._profile)]
        if not all(begins):
            return
        since = [found.since_ns for found in begins if found is not None and found.since_ns is not None]
        judge: Judge = self._warm_up.begin(max(since, default=None))
        for stream, batch in Recorded(*self._roots, streams_of(self._profile, judge), bounds).batches():
            yield from ((SNAP, snap) for snap in judge.take(stream, batch))

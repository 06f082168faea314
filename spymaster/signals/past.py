"""A session's snaps again, from log and lake: with the bits that they had live.

Where they are on record, each has the rows that it had seen then. Of a day that was backfilled nothing is on record:
its rows count from when they were known, by `ts_recv_ns`, and the user's hot zones of another day do not.
"""

from collections.abc import Iterator
from pathlib import Path

from spymaster.engines.ledger import Body
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events.snaps import SNAP, STOP, WARM
from spymaster.signals import contract
from spymaster.signals.chain import Chain, chains_of
from spymaster.signals.warm_up import WarmUp


class Past:
    """The snaps of one session and profile, once.

    Attributes:
        chain: those on record; None where the rule of known time decides.
        contract: the front month.
    """

    def __init__(
        self, data_root: Path, wal_root: Path, profile: Profile, session: Session, *, body: Body | None = None
    ) -> None:
        """Read what the session was begun with.

        Args:
            data_root: the lake.
            wal_root: its log.
            profile: the numbers.
            session: the session.
            body: of the ledger; the fastest if None.

        Raises:
            SpymasterError, OSError: log or lake cannot be read.
        """
        chains = chains_of(data_root, wal_root, profile.name, session)
        self.chain: Chain | None = chains[-1] if chains else None
        if self.chain is None:
            self.contract = contract.front(data_root, profile.book.symbol, session).contract
        else:
            self.contract = self.chain.begun.contract
        self._warm_up = WarmUp(data_root, wal_root, profile, session, self.contract, chain=self.chain, body=body)

    @property
    def recorded(self) -> bool:
        """Whether the snaps are on record."""
        return self.chain is not None

    def snaps(self) -> Iterator[tuple[str, Snap | None]]:
        """Yield each snap behind its mark, WARM or SNAP; and STOP with None where the judge had ended.

        Raises:
            SpymasterError, OSError: log or lake cannot be read.
        """
        chain = self.chain
        if chain is None:
            for snaps in self._warm_up.catch_up({}):
                yield from ((SNAP, snap) for snap in snaps)
            return
        for number, snap in self._warm_up.again():
            yield (WARM if chain.warm[number] else SNAP), snap
            if number in chain.stops:
                yield STOP, None

"""A session's snaps again, from log and lake: with the bits that they had live.

Where they are on record, each has the rows that it had seen then. Of a day that was backfilled nothing is on record:
its rows count from when they were known, by `ts_recv_ns`, and the user's hot zones of another day do not.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from spymaster.engines.ledger import Body
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events import SCHEMAS, Stream
from spymaster.events.snaps import SNAP, STOP, WARM
from spymaster.signals import contract
from spymaster.signals.begun import Begun
from spymaster.signals.chain import Chain, chains_of
from spymaster.signals.digest import Digest
from spymaster.signals.warm_up import WarmUp


class Input(NamedTuple):
    """What the judge was given of one capture's rows of a schema."""

    rows: int
    sha256: str


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
        self._given: dict[tuple[str, int], Digest] = {}
        self._warm_up = WarmUp(
            data_root, wal_root, profile, session, self.contract, chain=self.chain, body=body, given=self._take
        )

    @property
    def recorded(self) -> bool:
        """Whether the snaps are on record."""
        return self.chain is not None

    @property
    def begun(self) -> Begun:
        """What the judge was begun with; after the first snap."""
        return self._warm_up.begun if self.chain is None else self.chain.begun

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

    def inputs(self) -> Mapping[tuple[str, int], Input]:
        """Return by schema and capture id what the judge was given so far, each capture's rows in their order."""
        return {key: Input(own.rows, own.hexdigest()) for key, own in sorted(self._given.items())}

    def _take(self, stream: Stream, rows: pa.RecordBatch) -> None:
        ids = rows.column("capture_id").to_numpy()
        captures = [int(ids[0])] if (ids == ids[0]).all() else sorted(set(ids.tolist()))
        for capture in captures:
            key = stream.schema, capture
            if key not in self._given:
                self._given[key] = Digest(SCHEMAS[stream.schema].log)
            mine = rows if len(captures) == 1 else rows.filter(pc.equal(rows.column("capture_id"), pa.scalar(capture)))
            self._given[key].add(mine)

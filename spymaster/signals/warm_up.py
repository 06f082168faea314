"""A judge that begins where it would be had it run all along, from log and lake.

Three things are read: of the session before, what is named after it; of the first half hours of earlier ones, what is
typical; and the session's own rows so far, which the judge takes as it would have from the bus.

`WarmUp.catch_up` is called again and again while it takes long, then once more with the positions of a subscription:
what is at or before them it reads, what follows comes from the bus.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from spymaster.engines.judge import Judge
from spymaster.engines.ledger import Body
from spymaster.engines.levels import Zone
from spymaster.engines.market import Earlier
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.engines.typical import Norms
from spymaster.query.recorded import Positions


class Caught(NamedTuple):
    """What a pass over log and lake gave a judge.

    Attributes:
        rows: how many it took.
        first_ns: the lowest `ts_event_ns` among them; None where there were none.
        last_ns: the highest.
        took_s: seconds of the wall's clock.
        snap: the newest snap that they made due, None if there was none.
    """

    rows: int
    first_ns: int | None
    last_ns: int | None
    took_s: float
    snap: Snap | None


class WarmUp:
    """Warms up one judge for one session.

    Attributes:
        judge: None until log or lake had a row of the session, or `begin` was called.
        since_ns: the judge's rows begin there, though the session had begun; None where they begin with the session,
            or there is no judge yet.
        earlier: what the session takes over from the one before; None where the lake has none.
        seed: what was typical in earlier sessions; None where the lake has none.
        taken: by schema and capture id the last `capture_seq` that the judge was given. Rows of the bus up to it are
            not to be handed over: a capture that began after a subscription has no position, and may be in the log.
    """

    judge: Judge | None
    since_ns: int | None
    earlier: Earlier | None
    seed: Norms | None
    taken: Mapping[tuple[str, int], int]

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

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        raise NotImplementedError

    def catch_up(self, positions: Positions | None = None) -> Caught:
        """Give the judge the rows of log and lake that it has not got yet.

        Args:
            positions: as in `Subscription.positions`: of captures named there, rows at or before; of others all. None:
                all but the last 5 s, as the logs of several streams are not read at one instant.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        raise NotImplementedError

    def begin(self, since_ns: int) -> Judge:
        """Return a judge of a session of which log and lake have nothing, whose rows begin at a time."""
        raise NotImplementedError


def earlier_of(data_root: Path, wal_root: Path, profile: Profile, session: Session, contract: str) -> Earlier | None:
    """Return what a session takes over from the one before, by the trades of its own contract there.

    None where the lake has none of them.
    """
    raise NotImplementedError


def seed_of(data_root: Path, wal_root: Path, profile: Profile, session: Session) -> Norms | None:
    """Return what is typical as a session begins: the mean of what earlier ones had after their first half hour.

    Of the profile's `seed_sessions` sessions before it those count whose first half hour the lake has from its begin.
    None where there are none.
    """
    raise NotImplementedError

"""How a session's judge is begun live: on record or anew, and Gold made whole of what a kill took from it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_HOUR, NS_PER_SECOND
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.errors import LayoutError
from spymaster.lake import gold
from spymaster.lake.gold import Footer, Parts
from spymaster.signals import contract, payload
from spymaster.signals.begun import code_hash
from spymaster.signals.chain import Chain, chains_of
from spymaster.signals.gold import DAEMON_ROWS, DAEMON_SPAN_S
from spymaster.signals.sight import Sight
from spymaster.signals.warm_up import WarmUp

SPAN_NS = DAEMON_SPAN_S * NS_PER_SECOND

Tell = Callable[[str], None]


class Started(NamedTuple):
    """A session's judge that has worked the snaps on record again.

    Attributes:
        warm: the judge.
        sight: which chooses the levels in sight, as of the newest snap.
        because: what its contract rests on, one line.
        pending: rows of Gold's part that is not finished.
    """

    warm: WarmUp
    sight: Sight
    because: str
    pending: list[pa.RecordBatch]


def footer_of(profile: Profile) -> Footer:
    """Return what Gold's files say of who judged: this profile, by this code."""
    return Footer(profile.name, profile.profile_hash, code_hash())


def start(
    data_root: Path, wal_root: Path, profile: Profile, session: Session, tell: Tell, stopped: Callable[[], bool]
) -> Started:
    """Begin a session's judge, or go on with the snaps on record.

    Args:
        data_root: the lake.
        wal_root: its log.
        profile: the numbers.
        session: the session.
        tell: called with a line for each part of Gold that holds other rows than are made again.
        stopped: whether nobody waits any more.

    Raises:
        SpymasterError, OSError: log or lake cannot be read, or Gold cannot be written.
    """
    chain = _chain(data_root, wal_root, profile, session)
    if chain is None:
        front = contract.front(data_root, profile.book.symbol, session)
        name, because = front.contract, front.because
    else:
        name, because = chain.begun.contract, "its snaps are on record"
    warm = WarmUp(data_root, wal_root, profile, session, name, chain=chain, stopped=stopped)
    sight = Sight()
    pending = [] if chain is None else _worked_again(warm, chain, sight, data_root, profile, tell)
    return Started(warm, sight, because, pending)


def _chain(data_root: Path, wal_root: Path, profile: Profile, session: Session) -> Chain | None:
    """Return the snaps on record that the same code goes on with."""
    chains = chains_of(data_root, wal_root, profile.name, session)
    newest = chains[-1] if chains else None
    mine = (profile.profile_hash, code_hash())
    return newest if newest and (newest.begun.profile_hash, newest.begun.code_hash) == mine else None


def _worked_again(
    warm: WarmUp, chain: Chain, sight: Sight, data_root: Path, profile: Profile, tell: Tell
) -> list[pa.RecordBatch]:
    """Work the snaps on record again, publish the parts of Gold that lack, return the rows of the open one."""
    underlying, footer = profile.market.underlying, footer_of(profile)
    there = gold.begun_within(data_root, underlying, warm.session.begin_ns, warm.session.end_ns)
    wanted = _lacking(chain, np.array(sorted(there), np.int64))
    parts, last = Parts(SPAN_NS, DAEMON_ROWS), len(chain.snap_ns) - 1
    for number, snap in warm.again():
        shown = sight.rows(snap)
        finished = parts.put(payload.rows(snap, shown, underlying, profile.name)) if wanted[number] else []
        ends = number in chain.stops or (number < last and not wanted[number + 1])
        if ends and (rest := parts.cut()) is not None:
            finished.append(rest)
        for table in finished:
            try:
                gold.publish(data_root, table, footer)
            except LayoutError as error:
                tell(str(error))
    rest = parts.cut()
    return [] if rest is None else rest.to_batches()


def _lacking(chain: Chain, there: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which snaps belong to a part that Gold has not.

    A part is named by its first snap with a level, which only who works them knows; so one is there if any begins
    within it.
    """
    snap_ns = chain.snap_ns
    stopped = np.zeros(len(snap_ns) + 1, np.int64)
    stopped[[at + 1 for at in chain.stops]] = 1
    window = np.stack([snap_ns // SPAN_NS, snap_ns // NS_PER_HOUR, np.cumsum(stopped)[:-1]])
    _, part = np.unique(window, axis=1, return_inverse=True)
    part = part.reshape(-1)
    has = np.zeros(int(part.max(initial=-1)) + 1, np.bool_)
    has[part[np.searchsorted(snap_ns, there[np.isin(there, snap_ns)])]] = True
    lacking: NDArray[np.bool_] = ~has[part] & ~chain.warm
    return lacking

"""How a session's judge is begun live: on record or anew, and Gold made whole of what a kill took from it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import clock
from spymaster.clock import NS_PER_HOUR, NS_PER_SECOND
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.errors import LayoutError
from spymaster.events import SYSTEM_SNAPS, SYSTEM_SYMBOL
from spymaster.lake import gold, layout
from spymaster.lake.gold import DAEMON_ROWS, DAEMON_SPAN_S, Footer, Parts
from spymaster.query.sessions import Market, session_at
from spymaster.signals import contract, payload
from spymaster.signals.begun import code_hash
from spymaster.signals.chain import Chain, chains_of
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
    _finish_before(data_root, wal_root, profile, session, tell, stopped)
    sight = Sight()
    pending = [] if chain is None else _worked_again(warm, chain, sight, data_root, profile, tell)
    return Started(warm, sight, because, pending)


def _finish_before(
    data_root: Path, wal_root: Path, profile: Profile, session: Session, tell: Tell, stopped: Callable[[], bool]
) -> None:
    """Publish what a kill took from Gold in the newest session before, to which no snap comes any more."""
    for past in _before(data_root, session, profile.market.calendar):
        chain = _chain(data_root, wal_root, profile, past)
        if chain is None:
            continue
        if _lacking(chain, _there(data_root, profile, past)).any():
            warm = WarmUp(data_root, wal_root, profile, past, chain.begun.contract, chain=chain, stopped=stopped)
            rest = _worked_again(warm, chain, Sight(), data_root, profile, tell)
            if rest and not stopped():
                gold.publish(data_root, pa.Table.from_batches(rest), footer_of(profile))
        return


def _before(data_root: Path, session: Session, market: Market) -> list[Session]:
    """Return the newest sessions before one of which snaps are on record, by their dates alone: at most two."""
    last = clock.utc_text(session.begin_ns)[:10]
    dates = [date for date in layout.dates(data_root, SYSTEM_SNAPS, SYSTEM_SYMBOL) if date <= last]
    if not dates:
        return []
    midnight_ns = int(datetime.fromisoformat(f"{dates[-1]}T00:00+00:00").timestamp()) * NS_PER_SECOND
    found = [session_at(midnight_ns + hour * NS_PER_HOUR, market) for hour in (23, 17)]  # an evening is the next one's
    return [past for past in dict.fromkeys(found) if past is not None and past.begin_ns < session.begin_ns]


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
    wanted = _lacking(chain, _there(data_root, profile, warm.session))
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


def _there(data_root: Path, profile: Profile, session: Session) -> NDArray[np.int64]:
    """Return the first snaps of the parts that Gold has of a session."""
    found = gold.begun_within(data_root, profile.market.underlying, session.begin_ns, session.end_ns)
    return np.array(sorted(found), np.int64)


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

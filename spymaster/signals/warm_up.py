"""A judge that is where it would be had it run all along, from log and lake.

Three things are read: of the session before, what is named after it; of the first half hours of earlier ones, what is
typical; and the session's own rows so far. Where snaps of the session are on record, the judge works these again first,
each by what it had seen, and what earlier sessions left is on record too. All else it takes as it would have from the
bus.

`WarmUp.catch_up` is called again and again while it takes long, then once more with the positions of a subscription:
what is at or before them it reads, what follows comes from the bus.

Rows of before the session are not read. So whether the recording had begun by then is told by its capture: its first
row in the session is not its first at all, or it began before the session did. Else the judge is told since when.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from spymaster.clock import NS_PER_DAY
from spymaster.engines.expiry import half_days
from spymaster.engines.intake import Seen
from spymaster.engines.judge import Judge
from spymaster.engines.ledger import Body
from spymaster.engines.levels import Zone
from spymaster.engines.profile import MOST_EXPIRY_DAYS, Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap, Unmade, made
from spymaster.events import Stream
from spymaster.events.zones import ZONES
from spymaster.query.as_seen import AsSeen
from spymaster.query.recorded import Recorded
from spymaster.query.sessions import calendar
from spymaster.query.stretches import MOST_ROWS, Bounds, Positions, Taken, by_capture
from spymaster.signals.begun import Begun, code_hash
from spymaster.signals.chain import Chain
from spymaster.signals.earlier import earlier_of, seed_of
from spymaster.signals.feed import Given, Roots, begin_of, feed, quoting_of, streams_of
from spymaster.signals.zones import Zones, ZonesAsSeen, recorded

MOST_AT_ONCE: Final = 64  # snaps of a pass, which are recorded by one sync; 16 s of a session


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
        chain: the snaps on record that it goes on with; None where it begins.
        zones: the user's hot zones, as the judge has them.
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
        chain: Chain | None = None,
        zones: Sequence[Zone] = (),
        body: Body | None = None,
        most_rows: int = MOST_ROWS,
        stopped: Callable[[], bool] = lambda: False,
        given: Given = lambda stream, rows: None,
    ) -> None:
        """Read what earlier sessions leave; nothing of this one yet.

        Args:
            data_root: the lake.
            wal_root: its log.
            profile: the numbers.
            session: the session.
            contract: its front month.
            chain: snaps of the session to go on with; what they were begun with stands for what is read.
            zones: the user's hot zones to begin with.
            body: of the ledger; the fastest if None.
            most_rows: that are read at once.
            stopped: whether nobody waits any more for what a pass reads; asked a batch.
            given: called with the rows that the judge is given from log and lake.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        self.judge: Judge | None = None
        self.since_ns: int | None = None
        self.taken: dict[tuple[str, int], int] = {}
        self._roots = Roots(data_root, wal_root)
        self.session, self.contract, self.chain = session, contract, chain
        self.zones = Zones(profile.market.underlying, profile.market.tick)
        self._profile, self._stopped, self._given = profile, stopped, given
        self._zones_seen: tuple[int, int] | None = None  # by the newest snap
        self._first_zones, self._body, self._most_rows = zones, body, most_rows
        if chain is not None:
            self.earlier, self.seed = chain.begun.earlier, chain.begun.seed
        else:
            self.earlier = earlier_of(self._roots, profile, session, contract)
            self.seed = seed_of(self._roots, profile, session)

    @property
    def begun(self) -> Begun:
        """What the judge is begun with; there is one by then."""
        return Begun(self.contract, self.since_ns, self.earlier, self.seed, self._profile.profile_hash, code_hash())

    def again(self) -> Iterator[tuple[int, Snap]]:
        """Work the snaps of the chain again, some at a time; yield each with its number. Before anything else.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        chain = self.chain
        if chain is None:
            return
        judge = self.begin(chain.begun.since_ns)
        by_zones = {capture: track for (schema, capture), track in chain.tracks.items() if schema == ZONES.schema}
        zones = ZonesAsSeen(self.zones, recorded(*self._roots), by_zones)
        rows = AsSeen(
            *self._roots,
            streams_of(self._profile, judge),
            (self.session.begin_ns, self.session.end_ns),
            {key: track for key, track in chain.tracks.items() if key[0] != ZONES.schema},
            chain.newest_ns,
            self._most_rows,
        )
        worked: list[tuple[int, Unmade]] = []
        for number, batches in rows.snaps():
            if self._stopped():
                return
            for stream, batch in batches:
                self._given(stream, batch)
                judge.put(stream, batch)
            judge.zones = zones.at(number)
            found = judge.work(int(chain.snap_ns[number]))
            if found is not None:
                worked.append((number, found))
            if len(worked) >= MOST_AT_ONCE:
                yield from _made(worked)
                worked = []
        yield from _made(worked)
        self._zones_seen = self.zones.read_to
        self.taken = {key: int(track.last_seq[-1]) for key, track in chain.tracks.items()}

    def read_zones(self) -> None:
        """Let the judge have the hot zones of now.

        Raises:
            SpymasterError, OSError: they cannot be read.
        """
        self.zones.read(recorded(*self._roots))
        self._place_zones()

    def _place_zones(self) -> None:
        if self.judge is not None and self.zones.read_to is not None:
            self.judge.zones = self.zones.at()

    def _noted(self, snaps: list[Snap]) -> list[Snap]:
        """Say of the first of some snaps that it had seen the hot zones, if they moved since the one before."""
        read_to = self.zones.read_to
        if not snaps or read_to is None or read_to == self._zones_seen:
            return snaps
        self._zones_seen = read_to
        seen = {**snaps[0].seen, (ZONES, read_to[0]): Seen(read_to[1], None)}
        return [snaps[0]._replace(seen=seen), *snaps[1:]]

    def catch_up(self, positions: Positions | None = None) -> Iterator[list[Snap]]:
        """Give the judge the rows of log and lake that it has not got yet; yield the snaps that they make due.

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
            return
        self._place_zones()
        bounds = Bounds(self.session.begin_ns, self.session.end_ns, dict(self.taken), until)
        rows = Recorded(*self._roots, streams_of(self._profile, judge), bounds, self._most_rows)
        waiting: list[Snap] = []
        to_the_end = positions is not None
        for snaps in feed(judge, rows, self.taken, to_the_end=to_the_end, stopped=self._stopped, given=self._given):
            waiting += self._noted(snaps)
            if len(waiting) >= MOST_AT_ONCE:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def take(self, stream: Stream, batch: pa.RecordBatch) -> list[Snap]:
        """Give the judge rows as they leave the bus; return the snaps that they make due.

        Those that it was given already, from the log, are left out: a capture that began after a subscription has no
        position there, and its first rows were in the log. So are those of other sessions, which no replay would read.
        """
        if stream == ZONES:
            self.zones.read(batch)
            self._place_zones()
            return []
        judge = self.judge
        if judge is None or not judge.wants(stream):
            return []
        ids, numbers = batch.column("capture_id").to_numpy(), batch.column("capture_seq").to_numpy()
        fresh = Bounds(self.session.begin_ns, self.session.end_ns, {}, {}).in_span(stream, batch)
        for capture_id in np.unique(ids).tolist():
            key, mine = (stream.schema, capture_id), ids == capture_id
            given = self.taken.get(key, -1)
            self.taken[key] = max(given, int(numbers[mine].max()))
            if given >= int(numbers[mine].min()):
                fresh &= ~mine | (numbers > given)
        if not fresh.all():
            batch = batch.filter(pa.array(fresh))
        return self._noted(judge.take(stream, batch)) if batch.num_rows else []

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
            zones=self._first_zones,
            since_ns=since_ns,
            half_days=half_days_from(self.session),
            body=self._body,
        )
        return self.judge


def _made(worked: list[tuple[int, Unmade]]) -> Iterator[tuple[int, Snap]]:
    return zip((number for number, _ in worked), made([found for _, found in worked]), strict=True)

"""Judges what the bus publishes. The recorder waits for nothing here.

The rows of a session so far come from log and lake, those after them from the bus (`warm_up.py`). All of that, and the
judging, is done in one thread; the event loop hands bursts over and keeps the newest snap. Where the bus was too fast
for that thread, what it skipped is read from the log as well: signals come late then, and none is judged by less.

Each session begins with a judge of its own, so that one that was started in its middle has the same bits.

What a snap had seen is durable in `system.snaps` before anybody sees the snap, so that a replay can have the same. A
judge that is started again goes on with the snaps on record. One that begins late in its session works the time before
as well; those snaps are marked warm and not published, as nobody could have had them then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import pyarrow as pa

from spymaster import clock
from spymaster.bus import Bus, Published, Subscription
from spymaster.control import JudgeGauges
from spymaster.engines.intake import AHEAD_NS, moves_clock
from spymaster.engines.judge import Judge
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.errors import DiskFullError
from spymaster.events import FUTURES_MBP10, SYSTEM_SNAPS, EventSchema, Stream
from spymaster.events.snaps import SNAP, WARM
from spymaster.events.zones import ZONES
from spymaster.journal import Journal
from spymaster.lake.gold import LEVELS_SIGNALS
from spymaster.query.sessions import session_at
from spymaster.signals import payload
from spymaster.signals.changed import Changes
from spymaster.signals.record import Record
from spymaster.signals.sight import Sight
from spymaster.signals.start import start
from spymaster.signals.warm_up import WarmUp
from spymaster.signals.zones import Zones, recorded

BURST_BYTES: Final = 32 << 20  # that the thread works at once; beyond the queue's bound the bus drops what is older
PAUSE_S: Final = 0.01  # between two bursts: 25 to a snap
NEARLY_S: Final = 1.0  # a pass over the log that took no longer leaves little for the next
LAST_ROWS_S: Final = 10.0  # for signals of the last rows once the bus is closed; a busy open's queue is worked in two
NO_BOOK_S: Final = 0.5  # until the log is read again for the first book
NO_GAIN: Final = 0.7  # of what the pass before took: at a busy open each reads seconds of log, and the queue has room
MOST_PASSES: Final = 20  # each has what came while the one before ran; a machine that falls behind would read for ever
NO_ROOM_S: Final = 1.0  # until a full disk is asked again to take what a snap had seen
BETWEEN: Final = "between sessions"  # the state of a judge whose rows come while its market is closed
_READ_ON: Final = -1  # instead of a time: the bus was too fast, or there is no book yet
Append = Callable[[EventSchema, pa.RecordBatch], Awaitable[None]]
Tell = Callable[[str], None]
_Seen = tuple[Snap, pa.RecordBatch]
_Result = TypeVar("_Result")
_Given = TypeVarTuple("_Given")


class LiveJudge:
    """The signals of one profile, while the daemon records.

    Attributes:
        snap: the newest; None before the first.
        profile: the numbers.
        zones: the user's hot zones as they were last set; None until what was recorded of them is read.
    """

    def __init__(
        self,
        profile: Profile,
        data_root: Path,
        wal_root: Path,
        bus: Bus,
        append: Append,
        journal: Journal,
        tell: Tell,
        *,
        at_the_end: bool = False,
    ) -> None:
        """Listen to the bus from now on; nothing is read yet.

        Args:
            profile: the numbers.
            data_root: the lake.
            wal_root: its log.
            bus: where durable rows are published.
            append: makes rows of our own durable.
            journal: where what begins and what is triggered is told.
            tell: called with a line for what is not right, and does not end it.
            at_the_end: judge the newest session that has books once all is recorded, and nothing before. Files that are
                read as fast as it goes come one after another: by the trades alone each book would be late.
        """
        self.snap: Snap | None = None
        self.zones: Zones | None = None
        self.profile = profile
        self._data_root, self._wal_root = data_root, wal_root
        self._bus, self._append, self._journal = bus, append, journal
        self._wants = Judge(profile, (), "").wants
        self._finishing = self._stopping = False
        self._subscription = self._subscribed()
        self._thread = ThreadPoolExecutor(1, "judge")
        self._state, self._at_the_end = "waiting", at_the_end
        self._told, self._sight, self._tell = Changes(journal), Sight(), tell
        self._signals = Stream(LEVELS_SIGNALS.name, profile.market.underlying)
        self._published = 0
        self._skipped_rows = 0  # by earlier subscriptions; they were read from the log
        self._record = Record(profile.name)

    def _no_zones(self) -> Zones:
        return Zones(self.profile.market.underlying, self.profile.market.tick)

    def _subscribed(self) -> Subscription:
        subscription = self._bus.subscribe(wants=lambda stream: stream == ZONES or self._wants(stream))
        if self._finishing:
            subscription.close()
        return subscription

    @property
    def most_s_to_end(self) -> float | None:
        """Seconds that what waits may take once all is recorded; None if as long as it takes, 0 if none is judged."""
        return None if self._at_the_end else LAST_ROWS_S if self._state == "judging" else 0.0

    def finish(self) -> None:
        """Say that all rows are durable: judge what waits, and end."""
        self._finishing = True
        self._subscription.close()

    def stop(self) -> None:
        """End now; what waits is judged by the next start."""
        self._stopping = True
        self.finish()

    async def run(self) -> None:
        """Judge until `finish` or `stop` is called.

        Raises:
            SpymasterError, OSError: log or lake cannot be read, so that nothing can be judged.
        """
        try:
            zones = self._no_zones()
            zones.read(await self._in_thread(recorded, self._data_root, self._wal_root))
            self.zones = zones
            if self._at_the_end:
                await self._judge_recorded()
                return
            session = await self._next_session()
            while session is not None and not self._stopping:
                at_ns = await self._judged_session(session)
                session = None if at_ns is None else await self._session_at(at_ns) or await self._next_session()
            await self._recorded(self._record.stop())
        finally:
            self._state = "ended"
            self._subscription.close()
            self._thread.shutdown(wait=False)

    async def _judge_recorded(self) -> None:
        newest_ns = None
        async for item in self._subscription:
            if isinstance(item, Published) and item.stream.schema == FUTURES_MBP10.name:
                newest_ns = max(filter(None, (newest_ns, _newest_ns(item))), default=None)
        session = None if newest_ns is None else await self._session_at(newest_ns)
        if session is not None:
            began_s = clock.monotonic_s()
            warm, because = await self._begun(session)
            await self._in_thread(warm.read_zones)
            await self._pass(warm.catch_up({}), SNAP)
            _tell_began(self._journal, self.profile, warm, because, clock.monotonic_s() - began_s)
            await self._recorded(self._record.stop())

    async def _next_session(self) -> Session | None:
        """Return the session of the first rows that have one; None if there are no more. The log has them too."""
        async for item in self._subscription:
            newest_ns = _newest_ns(item) if isinstance(item, Published) else None
            if newest_ns is None:
                continue
            if (session := await self._session_at(newest_ns)) is not None:
                return session
            self._state = BETWEEN
        return None

    async def _session_at(self, ts_ns: int) -> Session | None:
        """Return the session of a time; to load the calendar takes a second."""
        return await self._in_thread(session_at, ts_ns, self.profile.market.calendar)

    async def _judged_session(self, session: Session) -> int | None:
        """Judge a session; return a time beyond it, None if there are no more rows."""
        self._state, began_s = "warming up", clock.monotonic_s()
        warm, because = await self._begun(session)
        mark = WARM if warm.chain is None else SNAP
        while not self._stopping:
            await self._nearly_caught_up(warm, mark)
            self._renew()  # the rows that waited are in the log
            await self._in_thread(warm.read_zones)
            await self._pass(warm.catch_up(self._subscription.positions), mark)
            if self._stopping:
                break  # perhaps short of those positions: what waits on the bus does not follow
            if self._state == "warming up":
                _tell_began(self._journal, self.profile, warm, because, clock.monotonic_s() - began_s)
            self._state, mark = "judging", SNAP
            at_ns = await self._follow(warm)
            if at_ns != _READ_ON:
                return at_ns
        return None

    async def _begun(self, session: Session) -> tuple[WarmUp, str]:
        """Return a session's judge, which has worked the snaps on record again, and what its contract rests on."""
        started = await self._in_thread(
            start, self._data_root, self._wal_root, self.profile, session, self._tell, lambda: self._stopping
        )
        if self._stopping:  # perhaps in the middle of the snaps on record
            return started.warm, started.because
        self._record.begin(started.warm)
        self._sight = started.sight
        self._bus.publish(self._signals, started.pending)  # for the rest of their part
        return started.warm, started.because

    async def _nearly_caught_up(self, warm: WarmUp, mark: str) -> None:
        """Read what came while it was read, until that takes no time to speak of, or not much less than before."""
        before_s = inf
        for _ in range(MOST_PASSES):
            began_s = clock.monotonic_s()
            await self._pass(warm.catch_up(), mark)
            took_s = clock.monotonic_s() - began_s
            if took_s < NEARLY_S or took_s > NO_GAIN * before_s or self._stopping:
                return
            before_s = took_s

    async def _pass(self, passing: Iterator[list[Snap]], mark: str) -> None:
        """Record and show the snaps of a pass over log and lake."""
        while (seen := await self._in_thread(lambda: self._seen(next(passing, [])))) != []:
            await self._publish(seen, mark)

    async def _follow(self, warm: WarmUp) -> int | None:
        """Judge what the bus has; return a time beyond the session, `_READ_ON`, or None where there is no more."""
        async for first in self._subscription:
            if warm.judge is None:
                await asyncio.sleep(NO_BOOK_S)
                return _READ_ON
            came = [first, *self._subscription.waiting(BURST_BYTES)]
            burst = [item for item in came if isinstance(item, Published)]
            if len(burst) < len(came):
                return _READ_ON
            await self._publish(await self._in_thread(self._worked, warm, burst), SNAP)
            newest_ns = max(_newest_ns(item) or 0 for item in burst)
            if newest_ns >= warm.session.end_ns:
                return newest_ns
            await asyncio.sleep(PAUSE_S)
        return None

    def _worked(self, warm: WarmUp, burst: Sequence[Published]) -> list[_Seen]:
        return self._seen([snap for stream, batch in burst for snap in warm.take(stream, batch)])

    def _seen(self, snaps: Sequence[Snap]) -> list[_Seen]:
        """Return each snap with its rows in sight, as the bus has them."""
        underlying, profile = self._signals.symbol, self.profile.name
        return [(snap, payload.rows(snap, self._sight.rows(snap), underlying, profile)) for snap in snaps]

    async def _publish(self, seen: Sequence[_Seen], mark: str) -> None:
        """Show snaps once it is durable what they had seen, but for warm ones."""
        if not seen:
            return
        await self._recorded(self._record.rows([snap for snap, _ in seen], mark))
        for snap, rows in seen if mark == SNAP else ():
            self.snap = snap
            self._told.snap(snap)
            self._bus.publish(self._signals, [rows])
            self._published += 1

    async def _recorded(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Make rows of `system.snaps` durable. On a full disk signals wait for room, as their rows do."""
        for batch in batches:
            while True:
                try:
                    await self._append(SYSTEM_SNAPS, batch)
                    break
                except DiskFullError:
                    if self._finishing:
                        raise
                await asyncio.sleep(NO_ROOM_S)

    def _renew(self) -> None:
        """Listen from now on; what was skipped before is counted and not missed."""
        self._skipped_rows += self._subscription.dropped_rows
        self._subscription.close()
        self._subscription = self._subscribed()

    async def _in_thread(self, work: Callable[[*_Given], _Result], *given: *_Given) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    def gauges(self) -> JudgeGauges:
        """Return what `spymaster status` shows of it."""
        snap = self.snap
        return {
            "profile": self.profile.name,
            "state": self._state,
            "session": None if snap is None else snap.session,
            "contract": None if snap is None else snap.contract,
            "snap_ns": None if snap is None else snap.snap_ns,
            "void_reason": None if snap is None else snap.void_reason,
            "snaps": 0 if snap is None else snap.counters.snaps,
            "void": 0 if snap is None else snap.counters.void,
            "levels": 0 if snap is None else snap.levels.num_rows,
            "signals": self._told.counts,
            "given": {} if snap is None else _given(snap),
            "published": self._published,
            "read_again_rows": self._skipped_rows + self._subscription.dropped_rows,
        }


def _tell_began(journal: Journal, profile: Profile, warm: WarmUp, because: str, seconds: float) -> None:
    journal.event(
        "judge.began",
        profile=profile.name,
        session=warm.session.date,
        contract=warm.contract,
        because=because,
        seconds=round(seconds, 3),
    )


def _given(snap: Snap) -> dict[str, int]:
    counted = snap.counters
    return {"BREAK": counted.breaks, "REJECT": counted.rejects, "CONTESTED": counted.contested}


def _newest_ns(item: Published) -> int | None:
    """Return the newest time that can be of rows that make snaps due; None where there is none.

    Definitions and statistics bear times of days before, of which nobody wants the session.
    """
    if not moves_clock(item.stream):
        return None
    ts_ns = item.batch.column("ts_event_ns").to_numpy()
    sound = ts_ns[ts_ns - AHEAD_NS <= item.batch.column("ts_recv_ns").to_numpy()]
    return int(sound.max()) if len(sound) else None

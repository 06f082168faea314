"""Judges what the bus publishes. The recorder waits for nothing here.

The rows of a session so far come from log and lake, those after them from the bus (`warm_up.py`). All of that, and the
judging, is done in one thread; the event loop hands bursts over and keeps the newest snap. Where the bus was too fast
for that thread, what it skipped is read from the log as well: signals come late then, and none is judged by less.

Each session begins with a judge of its own, so that one that was started in its middle has the same bits.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import pyarrow as pa
import pyarrow.compute as pc

from spymaster import clock
from spymaster.bus import Bus, Published, Subscription
from spymaster.control import JudgeGauges
from spymaster.engines.intake import AHEAD_NS, moves_clock
from spymaster.engines.judge import Judge
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events import FUTURES_MBP10
from spymaster.events.zones import ZONES
from spymaster.journal import Journal
from spymaster.query.sessions import session_at
from spymaster.query.stretches import Positions
from spymaster.signals import contract
from spymaster.signals.feed import Caught
from spymaster.signals.warm_up import WarmUp
from spymaster.signals.zones import Zones, recorded

BURST_BYTES: Final = 32 << 20  # that the thread works at once; beyond the queue's bound the bus drops what is older
PAUSE_S: Final = 0.01  # between two bursts: 25 to a snap
NEARLY_S: Final = 1.0  # a pass over the log that took no longer leaves little for the next
LAST_ROWS_S: Final = 10.0  # for signals of the last rows once the bus is closed; a busy open's queue is worked in two
NO_BOOK_S: Final = 0.5  # until the log is read again for the first book
MOST_PASSES: Final = 20  # each has what came while the one before ran; a machine that falls behind would read for ever
NEUTRAL: Final = "NEUTRAL"
_READ_ON: Final = -1  # instead of a time: the bus was too fast, or there is no book yet
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
        self, profile: Profile, data_root: Path, wal_root: Path, bus: Bus, journal: Journal, *, at_the_end: bool = False
    ) -> None:
        """Listen to the bus from now on; nothing is read yet.

        Args:
            profile: the numbers.
            data_root: the lake.
            wal_root: its log.
            bus: where durable rows are published.
            journal: where what begins and what is triggered is told.
            at_the_end: judge the newest session that has books once all is recorded, and nothing before. Files that are
                read as fast as it goes come one after another: by the trades alone each book would be late.
        """
        self.snap: Snap | None = None
        self.zones: Zones | None = None
        self.profile = profile
        self._data_root, self._wal_root = data_root, wal_root
        self._bus, self._journal = bus, journal
        self._wants = Judge(profile, (), "").wants
        self._judged_zones = self._no_zones()  # the thread's own
        self._subscription = self._subscribed()
        self._thread = ThreadPoolExecutor(1, "judge")
        self._state, self._at_the_end = "waiting", at_the_end
        self._stopping = False
        self._told: dict[str, str] = {}  # signals that are not NEUTRAL, by level
        self._skipped_rows = 0  # by earlier subscriptions; they were read from the log

    def _no_zones(self) -> Zones:
        return Zones(self.profile.market.underlying, self.profile.market.tick)

    def _subscribed(self) -> Subscription:
        return self._bus.subscribe(wants=lambda stream: stream == ZONES or self._wants(stream))

    @property
    def most_s_to_end(self) -> float | None:
        """Seconds that what waits on a closed bus may take; None if as long as it takes, 0 if nothing is judged yet."""
        return None if self._at_the_end else LAST_ROWS_S if self._state == "judging" else 0.0

    def stop(self) -> None:
        """End a warm-up that is under way."""
        self._stopping = True

    async def run(self) -> None:
        """Judge until the bus closes.

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
            warm, because = await self._in_thread(self._begun, session)
            caught = await self._in_thread(self._caught_up, warm, {})
            self._tell_began(session, warm, because, clock.monotonic_s() - began_s)
            self._show([] if caught.snap is None else [caught.snap])

    async def _next_session(self) -> Session | None:
        """Return the session of the first rows that have one; None if the bus closed. The log has them too."""
        async for item in self._subscription:
            newest_ns = _newest_ns(item) if isinstance(item, Published) else None
            if newest_ns is not None and (session := await self._session_at(newest_ns)) is not None:
                return session
        return None

    async def _session_at(self, ts_ns: int) -> Session | None:
        """Return the session of a time; to load the calendar takes a second."""
        return await self._in_thread(session_at, ts_ns, self.profile.market.calendar)

    async def _judged_session(self, session: Session) -> int | None:
        """Judge a session; return a time beyond it, None if the bus closed."""
        self._state, began_s = "warming up", clock.monotonic_s()
        warm, because = await self._in_thread(self._begun, session)
        while not self._stopping:
            await self._nearly_caught_up(warm)
            self._renew()  # the rows that waited are in the log
            positions = self._subscription.positions
            caught = await self._in_thread(self._caught_up, warm, positions)
            if self._state == "warming up":
                self._tell_began(session, warm, because, clock.monotonic_s() - began_s)
            self._state = "judging"
            self._show([] if caught.snap is None else [caught.snap])
            at_ns = await self._follow(warm)
            if at_ns != _READ_ON:
                return at_ns
        return None

    def _begun(self, session: Session) -> tuple[WarmUp, str]:
        front = contract.front(self._data_root, self.profile.book.symbol, session)
        warm = WarmUp(
            self._data_root, self._wal_root, self.profile, session, front.contract, stopped=lambda: self._stopping
        )
        return warm, front.because

    async def _nearly_caught_up(self, warm: WarmUp) -> None:
        for _ in range(MOST_PASSES):
            caught = await self._in_thread(warm.catch_up)
            if caught.took_s < NEARLY_S or self._stopping:
                return

    def _caught_up(self, warm: WarmUp, positions: Positions) -> Caught:
        self._judged_zones.read(recorded(self._data_root, self._wal_root))
        caught = warm.catch_up(positions)
        if warm.judge is not None:
            warm.judge.zones = self._judged_zones.at()
        return caught

    async def _follow(self, warm: WarmUp) -> int | None:
        """Judge what the bus has; return a time beyond the session, `_READ_ON`, or None where the bus closed."""
        async for first in self._subscription:
            if warm.judge is None:
                await asyncio.sleep(NO_BOOK_S)
                return _READ_ON
            came = [first, *self._subscription.waiting(BURST_BYTES)]
            burst = [item for item in came if isinstance(item, Published)]
            if len(burst) < len(came):
                return _READ_ON
            self._show(await self._in_thread(self._worked, warm, burst))
            newest_ns = max(_newest_ns(item) or 0 for item in burst)
            if newest_ns >= warm.session.end_ns:
                return newest_ns
            await asyncio.sleep(PAUSE_S)
        return None

    def _worked(self, warm: WarmUp, burst: Sequence[Published]) -> list[Snap]:
        snaps: list[Snap] = []
        for stream, batch in burst:
            if stream == ZONES:
                self._judged_zones.read(batch)
                if warm.judge is not None:
                    warm.judge.zones = self._judged_zones.at()
            else:
                snaps += warm.take(stream, batch)
        return snaps

    def _show(self, snaps: Sequence[Snap]) -> None:
        for snap in snaps:
            self.snap = snap
            self._tell_signals(snap)

    def _tell_signals(self, snap: Snap) -> None:
        """Tell the journal of each level whose signal is another one now."""
        levels = snap.levels.select(["id", "signal"])
        given = levels.filter(pc.not_equal(levels.column("signal"), pa.scalar(NEUTRAL)))  # of 64 levels one or two
        ids, signals = (list[Any](given.column(name).to_pylist()) for name in ("id", "signal"))
        now: dict[str, str] = dict(zip(ids, signals, strict=True))
        if now == self._told:
            return
        for name in sorted(now.keys() | self._told.keys()):
            if now.get(name) != self._told.get(name):
                self._journal.event(
                    "signal.changed",
                    of_level=name,
                    signal=now.get(name, NEUTRAL),
                    before=self._told.get(name, NEUTRAL),
                    snap=clock.utc_text(snap.snap_ns),
                    spot=snap.spot,
                )
        self._told = now

    def _tell_began(self, session: Session, warm: WarmUp, because: str, seconds: float) -> None:
        self._journal.event(
            "judge.began",
            profile=self.profile.name,
            session=session.date,
            contract=warm.contract,
            because=because,
            seconds=round(seconds, 3),
        )

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
            "signals": dict(Counter(self._told.values())),
            "given": {} if snap is None else _given(snap),
            "read_again_rows": self._skipped_rows + self._subscription.dropped_rows,
        }


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

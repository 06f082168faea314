"""Watches the recording from beside it. Nothing here delays a row, or ends the recording.

bus -> what is seen -------------------+-> condition -> the desk's documents
judge, disk, problems, each 250 ms ----+-> changes -> alerts -> system.alerts, page, webhook
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
from pydantic import SecretStr

from spymaster import clock
from spymaster.bus import Bus
from spymaster.control import Command
from spymaster.errors import SpymasterError
from spymaster.events import FUTURES_MBP10, Stream
from spymaster.recording.recorder import Recorder
from spymaster.signals.gold import SignalsWriter
from spymaster.signals.live import LiveJudge
from spymaster.watch.alerts import WEBHOOK, Alerts
from spymaster.watch.changes import Changes, Look
from spymaster.watch.condition import Condition, Facts, Status, condition, halted
from spymaster.watch.documents import DeskDocuments, Silent
from spymaster.watch.health import Figures
from spymaster.watch.past import read_past
from spymaster.watch.rules import read_rules
from spymaster.watch.seen import Seen, wants
from spymaster.watch.webhook import Webhook, checked, end

PAUSE_S: Final = 0.005  # between two looks at the bus
TICK_S: Final = 0.25
TAKEN_BYTES: Final = 32 << 20  # at one look at the bus
LAST_S: Final = 1.25  # for what waits on the bus at the end, and again for the last alerts to get on record
REMEMBER_S: Final = 1.5  # until the past is read: to open the lake takes a second of what the first rows need
SHOWN_ALERTS: Final = 50
ANSWERED_ALERTS: Final = 20  # by the control socket
_JUDGED: Final = ("futures.", "stocks.")  # whose holes are in a window of the score; options have fuel alone


class Watch:
    """How the recording stands at this second, and who is told when that changes.

    Attributes:
        alerts: what was told.
    """

    def __init__(
        self,
        recorder: Recorder,
        bus: Bus,
        judge: LiveJudge | None,
        gold: SignalsWriter | None,
        *,
        data_root: Path,
        wal_root: Path,
        sources: Sequence[str],
        alerts_file: Path | None = None,
        webhook_url: SecretStr | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Watch nothing yet; subscribe to the bus now, so that no row of the run is missed.

        Args:
            recorder: what is watched.
            bus: where it publishes.
            judge: the signals; None where nothing is judged.
            gold: what writes them; likewise.
            data_root: the lake.
            wal_root: its log.
            sources: as the user named them.
            alerts_file: the rules; `alerts.toml` in the working folder, if it is there, if None.
            webhook_url: where alerts are posted; None posts none.
            stopping: whether the run is to end, so that silence is meant.

        Raises:
            UsageError: the rules are not usable, or alerts may not be posted there.
        """
        self._recorder, self._judge = recorder, judge
        self._data_root, self._wal_root, self._sources = data_root, wal_root, sources
        self._rules, self._stopping = read_rules(alerts_file), stopping
        self._webhook = None if webhook_url is None else Webhook(checked(webhook_url), self._tell_webhook)
        self.alerts = Alerts(self._rules, recorder.own.append, recorder.health.journal, self._webhook)
        self._changes = Changes(self._rules)
        self._seen, self._figures = Seen(self._changes), Figures(recorder, gold)
        self._began_ns = clock.utc_now_ns()
        self._state, self._state_ns = "", self._began_ns
        live = judge is not None and judge.most_s_to_end is not None  # else it judges a session that is over
        self._subscription = bus.subscribe(wants=lambda stream: wants(stream, signals=live))
        self._thread = ThreadPoolExecutor(1, "watch")
        self._watching: list[asyncio.Task[None]] = []
        self._telling: asyncio.Task[None] | None = None
        self._posting: asyncio.Task[None] | None = None

    @property
    def commands(self) -> Mapping[str, Command]:
        """What a running daemon answers, by the name that it is asked by."""
        return {"desk": self._answer_desk}

    async def _answer_desk(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        documents = self.desk()
        return {**documents, "alerts": documents["alerts"][:ANSWERED_ALERTS]}

    async def start(self) -> None:
        """Begin to watch; what earlier runs recorded is read meanwhile, in a thread."""
        self._watching = [self._task(work) for work in (self._follow, self._look, self._remember)]
        self._telling = self._task(self.alerts.run)
        if self._webhook is not None:
            self._posting = self._task(self._webhook.run)

    async def stop(self) -> None:
        """Look once more, and end. Call it before the recorder stops: the last alerts are recorded."""
        self._subscription.close()
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._telling is None:
            return
        follow, *others = self._watching
        await asyncio.wait({follow}, timeout=LAST_S)
        await _cancel([follow, *others])
        try:
            self._find_changes()
        except Exception as error:  # noqa: BLE001 - whatever a defect raises: the recorder is to stop behind this
            self._tell_defect(error)
        self.alerts.finish()
        await asyncio.wait({self._telling}, timeout=LAST_S)
        await _cancel([self._telling])
        if self._webhook is not None and self._posting is not None:
            await end(self._webhook, self._posting)

    def desk(self) -> DeskDocuments:
        """Return how all stands now. For the event loop: it waits for nothing."""
        silent = self._silent()
        now = self._condition(silent)
        seen = self._seen
        return {
            "desk": {
                "state": now.state,
                "since_ns": self._state_ns if now.since_ns is None else now.since_ns,
                "reason": now.reason,
                "silent": dict(silent),
                "halt": now.halt,
                "first": now.first,
                "gap": now.gap,
                "feeds": {"up": min(len(seen.captures), len(self._sources)), "of": len(self._sources)},
            },
            "streams": seen.streams.documents(),
            "gaps": dict(seen.gaps),
            "alerts": list(self.alerts.newest)[: -SHOWN_ALERTS - 1 : -1],
            "health": self._figures.document(len(seen.gaps)),
        }

    def _silent(self, after_s: float | None = None) -> Mapping[str, Silent]:
        """Return the silent streams; once the run is to end silence is meant."""
        if self._stopping():
            return {}
        return self._seen.streams.silent() if after_s is None else self._seen.streams.silent(after_s)

    def _condition(self, silent: Mapping[str, Silent]) -> Condition:
        """Return what may be trusted, and take note of when that became another state."""
        judge, frontiers = self._judge, self._recorder.frontiers
        book_ns, judged = None, frozenset[str]()
        if judge is not None:
            symbols = {judge.profile.book.symbol, judge.profile.market.underlying}
            judged = frozenset(
                str(one) for one in frontiers if one.symbol in symbols and one.schema.startswith(_JUDGED)
            )
            book_ns = frontiers.get(Stream(FUTURES_MBP10.name, judge.profile.book.symbol))
        facts = Facts(
            now_ns=clock.utc_now_ns(),
            began_ns=self._began_ns,
            recorded=self._seen.recorded is not False or self._seen.streams.rows > 0,
            silent=silent,
            judge_state=None if judge is None else judge.gauges()["state"],
            snap=None if judge is None else judge.snap,
            book_ns=book_ns,
            status=self._status(),
            gaps=self._seen.gaps.values(),
            judged_streams=judged,
            warm_up_s=0 if judge is None else judge.profile.typical.warm_up_s,
        )
        found = condition(facts)
        if found.state != self._state:
            self._state, self._state_ns = found.state, facts.now_ns
        return found

    def _status(self) -> Status | None:
        """Return the exchange's newest word on the judged contract."""
        snap = None if self._judge is None else self._judge.snap
        return None if snap is None else self._seen.statuses.get(snap.contract)

    async def _follow(self) -> None:
        async for first in self._subscription:
            for item in (first, *self._subscription.waiting(TAKEN_BYTES)):
                for alert in self._seen.take(item):
                    self.alerts.put(alert)
            await asyncio.sleep(PAUSE_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._find_changes()

    def _find_changes(self) -> None:
        recorder, snap = self._recorder, None if self._judge is None else self._judge.snap
        look = Look(
            now_ns=clock.utc_now_ns(),
            snap=snap,
            silent=self._silent(self._rules.thresholds.silent_s),
            halt=halted(self._status(), snap),
            disk_level=recorder.disk.level,
            disk_text=recorder.disk.text,
            lags_ms=self._seen.streams.lags(),
            problems=recorder.health.noted,
        )
        for alert in self._changes.look(look):
            self.alerts.put(alert)
        self.alerts.turn()
        self._condition(self._silent())

    async def _remember(self) -> None:
        """Read what earlier runs recorded; without it the desk knows of this run alone, and the journal says so."""
        await asyncio.sleep(REMEMBER_S)
        root = None if self._judge is None else self._judge.profile.book.symbol
        read = partial(read_past, self._data_root, self._wal_root, root, self._began_ns)
        try:
            past = await asyncio.get_running_loop().run_in_executor(self._thread, read)
        except (SpymasterError, OSError, duckdb.Error) as error:
            self._recorder.health.journal.event("watch.blind", text=str(error))
            return
        self.alerts.remember(past.alerts)
        for alert in self._seen.learn(past, self._began_ns):
            self.alerts.put(alert)

    def _task(self, work: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
        async def guarded() -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - whatever a defect raises: no recording ends for it
                self._tell_defect(error)

        return asyncio.create_task(guarded())

    def _tell_defect(self, error: Exception) -> None:
        self._recorder.health.problem(
            "watch",
            f"the watch is not whole any more ({type(error).__name__}: {error}): states and alerts may be missing. "
            f"The recording goes on. Next: start it again; report it if that does not mend it",
        )

    def _tell_webhook(self, line: str | None) -> None:
        if line is None:
            self._recorder.health.mended(WEBHOOK)
        else:
            self._recorder.health.problem(WEBHOOK, line)


async def _cancel(tasks: "Sequence[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

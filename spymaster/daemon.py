"""Builds every object once, runs until told to stop."""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import metadata
from typing import Any

from spymaster import clock
from spymaster.bus import Bus
from spymaster.control import Command, ControlServer, DaemonStatus
from spymaster.engines.profile import Profile
from spymaster.errors import BronzeRefusedError, StorageError, WalError
from spymaster.events.captures import CaptureSummary
from spymaster.feeds.feed import Feed
from spymaster.gateway.address import GatewayAt
from spymaster.gateway.served import Served
from spymaster.journal import SILENT, Journal
from spymaster.judging import Judging
from spymaster.lookout import Lookout
from spymaster.recording.daily import Daily
from spymaster.recording.deliveries import Deliveries
from spymaster.recording.found import tell_found
from spymaster.recording.gauges import gauges
from spymaster.recording.recorder import Recorder
from spymaster.recording.recovery import Recovered
from spymaster.service_manager import ServiceManager
from spymaster.settings import Settings, service_manager
from spymaster.signals.answers import Answers
from spymaster.signals.gold import SignalsWriter
from spymaster.signals.live import LiveJudge
from spymaster.sources import open_feeds
from spymaster.watch.watch import Watch


class Daemon:
    """One run: feeds -> normalize -> wal -> bus, and the lake behind them.

    Attributes:
        bus: where durable rows are published; subscribe before `run`.
        recorder: what makes rows durable.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[str],
        speed: float,
        *,
        feeds: Sequence[tuple[str, Feed]] = (),
        profile: Profile | None = None,
        strict: bool = False,
        notify: Callable[[str], None] | None = None,
        journal: Journal = SILENT,
        gateway: GatewayAt | None = None,
        opened: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open the sources' feeds; nothing is read or written yet.

        Args:
            settings: as they were read.
            sources: as `--source` names them.
            speed: event time per wall time of what is paced; 0 is as fast as it goes.
            feeds: more of them, that a program brings, each with a name.
            profile: what its levels are judged by; None judges nothing.
            strict: refuse to start over newly found damage.
            notify: called with one line whenever something stops or goes on for want of disk space, and for each alarm.
            journal: where what happens is written; the caller closes it.
            gateway: where the page is served; None serves none.
            opened: called with the page's address once it is served.

        Raises:
            UsageError, SourceError: a source is not known or not there, or the page would be open to others.
        """
        self._feeds = [(source, feed) for source in sources for feed in open_feeds(source, settings.raw_root)]
        self._feeds += feeds
        self.bus = Bus(settings.bus_max_mb << 20)
        self.recorder = Recorder(
            settings.wal_root,
            settings.data_root,
            bus=self.bus,
            flush_interval_s=settings.flush_interval_sec,
            segment_mb=settings.wal_segment_size_mb,
            sync_ms=settings.wal_sync_interval_ms,
            disk_reserve_mb=settings.disk_reserve_mb,
            notify=notify,
            journal=journal,
        )
        self._journal, self._settings, self._speed = journal, settings, speed
        self._sources = [source for source, _ in self._feeds]
        self._deliveries = Deliveries(self.recorder, settings.data_root, speed)
        commands: dict[str, Command] = {"status": self._answer_status}
        self._judging: Judging | None = None
        if profile is not None:
            self._judging = Judging(profile, settings, self.recorder, journal, at_the_end=speed == 0)
            commands |= Answers(self._judging.judge, self.recorder.own.append).commands
        self.watch = self._watching()
        commands |= self.watch.commands
        self._lookout = self._looking_on(commands, gateway, opened)
        self._control = ControlServer(settings.wal_root, commands)
        self._manager = ServiceManager(service_manager())
        self._started_s = clock.monotonic_s()
        self._strict = strict

    @property
    def judge(self) -> LiveJudge | None:
        """The signals; None where nothing is judged."""
        return None if self._judging is None else self._judging.judge

    @property
    def gold(self) -> SignalsWriter | None:
        """What writes them; likewise."""
        return None if self._judging is None else self._judging.gold

    def _watching(self) -> Watch:
        watched = (self.recorder, self.bus, self.judge, self.gold)
        return Watch(
            *watched,
            data_root=self._settings.data_root,
            wal_root=self._settings.wal_root,
            sources=self._sources,
            alerts_file=self._settings.alerts_file,
            webhook_url=self._settings.alert_webhook_url,
            stopping=self._deliveries.stopping.is_set,
        )

    def _looking_on(
        self, commands: dict[str, Command], gateway: GatewayAt | None, opened: Callable[[str], None]
    ) -> Lookout:
        settings, health = self._settings, self.recorder.health
        served = Served(
            settings.data_root, settings.wal_root, self.bus, self.judge, commands, self.status, self.watch.desk,
            self.recorder, partial(health.problem, "gateway"), self._journal, self._sources, self._speed,
        )  # fmt: skip
        return Lookout(self.watch, served, gateway, health, opened)

    def stop(self, reason: str = "it was asked to") -> None:
        """Drain and end: feeds first, then the log, then Bronze.

        Args:
            reason: why, for the journal.
        """
        if not self._deliveries.stopping.is_set():
            self._journal.event("run.stopping", reason=reason)
            self._manager.stopping()
        self._deliveries.stop()

    @property
    def summaries(self) -> Sequence[CaptureSummary]:
        """What became of the newest deliveries, filled while they are recorded."""
        return self._deliveries.summaries

    @property
    def rows(self) -> dict[str, int]:
        """Rows per schema that all deliveries gave, recorded now or before."""
        return self._deliveries.rows

    def status(self) -> DaemonStatus:
        """Return what `spymaster status` shows of this process."""
        return {
            "pid": os.getpid(),
            "version": _version(),
            "state": "draining" if self._deliveries.stopping.is_set() else "recording",
            "uptime_s": round(clock.monotonic_s() - self._started_s, 1),
            "judge": None if self.judge is None else self.judge.gauges(),
            "gold": None if self.gold is None else self.gold.gauges(),
            **gauges(self.recorder),
        }

    async def _answer_status(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(self.status())

    async def run(self, duration_s: float | None = None) -> None:
        """Recover, record until the sources end, `duration_s` is over or `stop` is called, then drain.

        Raises:
            LockedError, UsageError: nothing was started.
            StorageError: the disk refused; what was acknowledged is safe.
        """
        recovered = await self.recorder.start(self._tell_started)
        tell_found(recovered, self.recorder.health, clock.monotonic_s() - self._started_s)
        daily, error = Daily(self.recorder), None
        days = asyncio.create_task(daily.run())
        judging = asyncio.create_task(self._judge_levels())
        try:
            await self._record(recovered, duration_s, judging)
        except BaseException as ended:
            error = str(ended) or type(ended).__name__
            raise
        finally:
            await self._end_judging(judging)
            await _cancel([days])
            self._manager.ended()
            daily.tell()
            self._tell_ended(error)

    async def _record(self, recovered: Recovered, duration_s: float | None, judging: asyncio.Task[None]) -> None:
        if self._strict and recovered.exit_code:
            with suppress(BronzeRefusedError):  # nothing is lost, and the damage says more
                await self.recorder.stop()
            raise WalError(
                f"acknowledged rows were found damaged: {recovered.salvage.holes[0].describe()}. The sound rows are in "
                f"Bronze, the bytes in quarantine. Next: see spymaster verify, then start again; it is recorded now"
            )
        self._journal.event("recording.began", sources=self._sources, speed=self._speed, duration_s=duration_s)
        feeds = asyncio.create_task(self._record_feeds())
        stopping = self._deliveries.stopping
        ends = {feeds, asyncio.create_task(_set(stopping)), asyncio.create_task(self.recorder.health.failed())}
        try:
            await self._open_control()
            await self._lookout.start()
            self._manager.began()
            done, _ = await asyncio.wait(ends, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                end.result()
            stopped_s = clock.monotonic_s()
            self.stop("the sources ended" if feeds in done else "its duration is over")
            await feeds
            with suppress(BronzeRefusedError):  # `stop` tries once more, and says so
                await self.recorder.flush()  # here too, so that `status` shows how it drains
            await self._end_judging(judging)  # while rows of our own are recorded
            await self._lookout.stop()
        except BaseException:
            self.stop("it failed")  # whatever waits for room or for its turn ends too
            if self.judge is not None:
                self.judge.stop()
            self._control.close()
            await _cancel(ends)
            await self._lookout.stop()
            with suppress(StorageError):  # what ended the run says more than what that kept from being drained
                await self.recorder.stop()
            raise
        self._control.close()  # before the lock goes: from then on the name is the next daemon's
        await _cancel(ends)
        with suppress(BronzeRefusedError):  # nothing is lost, and it is among the recorder's problems
            await self.recorder.stop()
        waiting = len(self.recorder.drain.waiting) + len(self.recorder.drain.set_aside)
        self._journal.event("run.drained", waiting=waiting, seconds=round(clock.monotonic_s() - stopped_s, 3))

    def _tell_started(self) -> None:
        self._journal.event(
            "run.started",
            version=_version(),
            pid=os.getpid(),
            wal_root=self._settings.wal_root.absolute(),
            data_root=self._settings.data_root.absolute(),
        )

    def _tell_ended(self, error: str | None) -> None:
        self._journal.event(
            "run.ended",
            seconds=round(clock.monotonic_s() - self._started_s, 3),
            rows=self.rows,
            parts=self.recorder.drain.parts_written,
            problems=len(self.recorder.problems),
            error=error,
        )

    async def _end_judging(self, judging: asyncio.Task[None]) -> None:
        if self._judging is not None:
            await self._judging.end(judging)
        await _cancel([judging])

    async def _judge_levels(self) -> None:
        if self._judging is not None:
            await self._judging.run()

    async def _open_control(self) -> None:
        try:
            await self._control.open()
        except OSError as error:
            self.recorder.health.problem(
                "control",
                f"no control socket ({error}), so spymaster status sees only files. The recording goes on. "
                f"Next: give WAL_ROOT a shorter path on a local disk",
            )

    async def _record_feeds(self) -> None:
        tasks = [asyncio.create_task(self._deliveries.record(source, feed)) for source, feed in self._feeds]
        try:
            await asyncio.gather(*tasks)
        finally:
            await _cancel(tasks)  # one that failed ends them all
            self._deliveries.close()


@cache
def _version() -> str:
    try:
        return metadata.version("spymaster")
    except metadata.PackageNotFoundError:
        return "unknown"  # a source tree that is not installed


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

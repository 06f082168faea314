"""The state of the page, made from what the daemon holds, and sent to all pages: at most four times a second.

It is made only while a page is open. The bus's queue here has a bound of its own; what it drops is counted and read
again by nobody: bars and rows of a chart, and never a signal, as those are the judge's.
"""

import asyncio
from typing import Any, Final

import pyarrow as pa

from spymaster import clock
from spymaster.bus import Published, Subscription
from spymaster.clock import NS_PER_SECOND
from spymaster.control import DaemonStatus
from spymaster.events import Stream
from spymaster.gateway.bars import Bars
from spymaster.gateway.clients import Client, Clients
from spymaster.gateway.frames import BEAT_S, CHANGE_S, Frames, beat
from spymaster.gateway.judged import judged_document
from spymaster.gateway.newest_rows import NewestRows
from spymaster.gateway.patch import Document, known
from spymaster.gateway.scores import Scores
from spymaster.gateway.served import Served
from spymaster.lake.gold import LEVELS_SIGNALS
from spymaster.signals.live import LiveJudge
from spymaster.signals.sight import gamma_document

QUEUE_BYTES: Final = 32 << 20  # of the bus for charts and rows
TICK_S: Final = 0.05  # so late comes a snap at most
SLOWLY_S: Final = 1.0  # between two looks at what no eye follows: gamma, rates, disks
RECENT_BARS: Final = 60  # of a full frame; the chart's history is asked for
ALERTS: Final = 50


class Broadcast:
    """Sends the state to all pages, as it changes.

    Attributes:
        clients: the pages.
        bars: of what is judged; None where nothing is.
        rows: the newest that scores rest on; likewise.
        scores: the course of each level's.
        held: how often levels of each kind held, as log and lake say; empty until they were asked.
    """

    def __init__(self, served: Served, *, full_s: float) -> None:
        """Listen to the bus from now on.

        Args:
            served: the daemon.
            full_s: between two full frames.
        """
        self.clients = Clients()
        self.bars = _bars_of(served.judge)
        self.rows = None if served.judge is None else NewestRows(served.judge.profile)
        self.scores = Scores()
        self.held: Document = {}
        self._served, self._full_s = served, full_s
        self._frames = Frames()
        self._subscription: Subscription = served.bus.subscribe(QUEUE_BYTES, self._wants)
        self._in_gold: pa.RecordBatch | None = None
        self._snap_ns: int | None = None  # of the newest state
        self._judged: Document | None = None
        self._slow: Document = {}
        self._since_ns = clock.utc_now_ns() - round(served.status()["uptime_s"] * NS_PER_SECOND)
        self._slow_s = self._change_s = self._beat_s = self._all_s = 0.0

    def _wants(self, stream: Stream) -> bool:
        if stream.schema == LEVELS_SIGNALS.name:
            return True
        return any(each is not None and each.wants(stream) for each in (self.bars, self.rows))

    @property
    def dropped_rows(self) -> int:
        """Rows that this was too slow for."""
        return self._subscription.dropped_rows

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                self._listen()
                if len(self.clients):
                    self._tick(clock.monotonic_s())
                await asyncio.sleep(TICK_S)
        finally:
            self._subscription.close()

    def join(self) -> Client:
        """Return the queue of a new page, which begins with the state of now."""
        if not len(self.clients):
            self._look(clock.monotonic_s())
        return self.clients.add(self._frames.full)

    @property
    def state(self) -> Document:
        """All documents as they are now, but for bars."""
        self._listen()
        return self._made(clock.monotonic_s())

    def _listen(self) -> None:
        for item in self._subscription.waiting(QUEUE_BYTES):
            if not isinstance(item, Published):
                continue
            if item.stream.schema == LEVELS_SIGNALS.name:
                self._in_gold = item.batch
                self.scores.take(item.batch)
                continue
            if self.rows is not None and self.rows.wants(item.stream):
                self.rows.take(item)
            if self.bars is not None and self.bars.wants(item.stream):
                self.bars.take(item.batch)

    def _tick(self, now_s: float) -> None:
        if now_s - self._change_s >= CHANGE_S - TICK_S / 2:
            self._look(now_s)
        if now_s - self._all_s >= self._full_s:
            self._all_s = now_s
            self.clients.send(self._frames.full())
        if now_s - self._beat_s >= BEAT_S - TICK_S / 2:
            self._beat_s = now_s
            ages = {name: one["age_ms"] for name, one in self._served.desk()["streams"].items()}
            self.clients.send(beat(self._frames.n, clock.utc_now_ns(), ages))

    def _look(self, now_s: float) -> None:
        """Send what changed, if something has."""
        self._change_s = now_s
        changed, recent = ([], []) if self.bars is None else (self.bars.changed(), self.bars.newest(RECENT_BARS))
        frame = self._frames.change(self._made(now_s), changed, recent, clock.utc_now_ns())
        if frame is not None:
            self.clients.send(frame)

    def _made(self, now_s: float) -> Document:
        self._judge()
        desk = self._served.desk()
        if now_s - self._slow_s >= SLOWLY_S or not self._slow:
            self._slow, self._slow_s = self._slowly(desk), now_s
        return {
            **self._slow,
            **known({"desk": _copied(desk["desk"]), "snap": self._judged, "gaps": _copied(desk["gaps"])}),
            "alerts": [known(one) for one in desk["alerts"][:ALERTS]],
            "zones": self._zones(),
        }

    def _judge(self) -> None:
        """Make the document of the newest snap, once."""
        judge = self._served.judge
        snap = None if judge is None else judge.snap
        if judge is None or snap is None or snap.snap_ns == self._snap_ns:
            return
        rows, self._snap_ns = self._in_gold, snap.snap_ns
        is_its = rows is not None and rows.num_rows and rows.column("ts_event_ns")[0].as_py() == snap.snap_ns
        self._judged = judged_document(
            snap, rows if is_its else None, judge.profile.market.underlying, judge.profile.name
        )
        if self.bars is not None:
            self.bars.judge(snap.contract)

    def _slowly(self, desk: Any) -> Document:
        status = self._served.status()
        judge = self._served.judge
        snap = None if judge is None else judge.snap
        health = {**desk["health"], "clients": len(self.clients), "problems": list(desk["health"]["problems"])}
        found: Document = {
            "run": known(self._run(status)),
            "streams": known(_copied(desk["streams"])),
            "health": known(health),
            "held": self.held,
        }
        if judge is not None and snap is not None:
            found["gamma"] = _rounded(known(gamma_document(snap, judge.profile.name, judge.profile.market.underlying)))
        return found

    def _run(self, status: DaemonStatus) -> Document:
        served, judge = self._served, self._served.judge
        profile = None if judge is None else judge.profile
        return {
            "version": status["version"],
            "pid": status["pid"],
            "uptime_s": round(status["uptime_s"]),
            "recorded_since_ns": self._since_ns,
            "sources": list(served.sources),
            "speed": served.speed,
            "simulated": any(source.startswith("sim") for source in served.sources),
            "profile": None if profile is None else profile.name,
            "underlying": None if profile is None else profile.market.underlying,
            "tick": None if profile is None else profile.market.tick,
            "break_at": None if profile is None else profile.score.break_points,
            "reject_at": None if profile is None else profile.score.reject_points,
            "zone_label": "America/New_York",
        }

    def _zones(self) -> dict[str, float]:
        judge = self._served.judge
        return {} if judge is None or judge.zones is None else dict(sorted(judge.zones.prices.items()))


def _bars_of(judge: LiveJudge | None) -> Bars | None:
    if judge is None:
        return None
    profile = judge.profile
    is_stock = profile.book.ratio_s is not None
    return Bars(profile.market.underlying if is_stock else profile.book.symbol, is_stock=is_stock)


def _rounded(value: Any) -> Any:
    """Return a document whose numbers have two decimals, which is what a page shows of contracts a point."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 2) if isinstance(value, float) else value


def _copied(value: Any) -> Any:
    """Return a document of its own, at any depth of objects, as a state that was sent must not change."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return value

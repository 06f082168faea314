"""What a page or a program asks by HTTP, answered from what the daemon holds; of before, from log and lake."""

import asyncio
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from spymaster import clock
from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.engines.snap import Snap
from spymaster.gateway import history
from spymaster.gateway.asked import Asked, NotUsableError
from spymaster.gateway.broadcast import Broadcast
from spymaster.gateway.explained import Explainer
from spymaster.gateway.history import History
from spymaster.gateway.metrics import Metrics
from spymaster.gateway.newest_rows import COMPONENTS, place_of, rows_behind
from spymaster.gateway.openapi import openapi_document
from spymaster.gateway.patch import Document
from spymaster.gateway.served import Served
from spymaster.signals.live import LiveJudge

_STOPPED: Final = frozenset({"bronze_stopped", "ingest_stopped"})
_OF_SNAP: Final = frozenset({"snap", "gamma"})


class Answers:
    """The answers of one daemon."""

    def __init__(self, served: Served, broadcast: Broadcast, asked: History, version: str) -> None:
        """Answer nothing yet.

        Args:
            served: the daemon.
            broadcast: what pages are streamed.
            asked: log and lake.
            version: of the package.
        """
        self._served, self._broadcast, self._history, self._version = served, broadcast, asked, version
        self._explainer = Explainer(served.data_root, served.wal_root)
        self._metrics = Metrics(served, broadcast, asked)

    @cached_property
    def _openapi(self) -> Document:
        return openapi_document(self._version)

    def openapi(self, asked: Asked) -> Document:
        """Return what may be asked here."""
        asked.only()
        return self._openapi

    def status(self, asked: Asked) -> Document:
        """Return how all stands: the documents of the stream, but for signals and gamma."""
        asked.only()
        return {name: one for name, one in self._broadcast.state.items() if name not in _OF_SNAP}

    def levels(self, asked: Asked) -> Document:
        """Return the newest snap, and gamma by strike."""
        asked.only()
        state = self._broadcast.state
        return {name: state.get(name) for name in sorted(_OF_SNAP)}

    def scores(self, asked: Asked) -> Document:
        """Return the newest ten minutes of a level's score."""
        level = asked.only("level").level()
        return {"level": level, "scores": self._broadcast.scores.of(level)}

    async def rows(self, asked: Asked) -> Document:
        """Return the newest rows that a level's score rests on; none of a level that the newest snap does not have."""
        asked.only("level", "component")
        level, component = asked.level(), asked.one_of("component", COMPONENTS, COMPONENTS[0])
        judge, snap = self._judged()
        found = snap.levels.filter(pc.equal(snap.levels.column("id"), pa.scalar(level)))
        answer = {"level": level, "component": component, "ts_event_ns": snap.snap_ns}
        if not found.num_rows:  # it may have left the universe since the page saw it
            return {**answer, "rows": []}
        place = place_of(judge.profile, snap.contract, snap.snap_ns, found)
        newest = self._broadcast.rows
        assert newest is not None  # noqa: S101  # where there is a judge
        kept = newest.kept()
        return {**answer, "rows": await asyncio.to_thread(rows_behind, judge.profile, kept, place, component)}

    async def explain(self, asked: Asked) -> str:
        """Return all rows behind a level's score, and where each lies, as JSON."""
        asked.only("level", "at")
        judge, snap = self._judged()
        return await self._explainer.ask(judge.profile.name, asked.level(), asked.ns("at", snap.snap_ns))

    async def candles(self, asked: Asked) -> Document:
        """Return candles of what is judged."""
        asked.only("step", "from_ns", "to_ns")
        step_s = int(asked.one_of("step", tuple(map(str, history.STEPS_S)), "60"))
        to_ns = asked.ns("to_ns", clock.utc_now_ns())
        from_ns = asked.ns("from_ns", max(to_ns - 240 * step_s * NS_PER_SECOND, 0))
        span_s = (to_ns - from_ns) / NS_PER_SECOND
        if span_s <= 0 or span_s > min(step_s * history.MOST_ROWS, history.MOST_SPAN_S):
            raise NotUsableError(
                f"a span is from_ns < to_ns of at most {history.MOST_ROWS} candles and {history.MOST_SPAN_S} s. "
                f"Nothing was read. Next: ask for less, or for a longer step"
            )
        judge, snap = self._judged()
        found = await self._candles(judge, snap, step_s, from_ns, to_ns)
        return {"step_s": step_s, "from_ns": from_ns, "to_ns": to_ns, "contract": snap.contract, "candles": found}

    async def _candles(self, judge: LiveJudge, snap: Snap, step_s: int, from_ns: int, to_ns: int) -> list[list[Any]]:
        """Return candles from the newest hour, where that has all of the span, else from log and lake."""
        bars = self._broadcast.bars
        begins_s = None if bars is None else bars.begins_s
        if step_s == 1 and bars is not None and begins_s is not None and begins_s < from_ns // NS_PER_SECOND:
            return bars.between(from_ns, to_ns - 1)
        return await self._history.ask(history.candles(judge.profile, snap.contract, step_s, from_ns, to_ns))

    async def gaps(self, asked: Asked) -> Document:
        """Return the gaps that touch a span; of the last day by default."""
        asked.only("from_ns", "to_ns")
        to_ns = asked.ns("to_ns", clock.utc_now_ns())
        from_ns = asked.ns("from_ns", max(to_ns - NS_PER_DAY, 0))
        if from_ns >= to_ns:
            raise NotUsableError("from_ns is not before to_ns. Nothing was read. Next: give them in order")
        return {"from_ns": from_ns, "to_ns": to_ns, "gaps": await self._history.ask(history.gaps(from_ns, to_ns))}

    async def alerts(self, asked: Asked) -> Document:
        """Return alerts, newest first: those that are at hand, or those recorded before a time."""
        asked.only("before_ns")
        if not asked.has("before_ns"):
            return {"alerts": list(self._served.desk()["alerts"])}
        return {"alerts": await self._history.ask(history.alerts(asked.ns("before_ns")))}

    async def set_zone(self, given: Document) -> Document:
        """Set a hot zone, move it, or remove it where its price is null."""
        if given.keys() - {"zone", "price"} or "price" not in given:
            raise NotUsableError("a zone has `zone` and `price`. Nothing was set. Next: price null removes it")
        command = self._served.commands.get("zone.remove" if given["price"] is None else "zone.set")
        if command is None:
            raise NotUsableError("nothing is judged here. Nothing was set. Next: start spymaster run with a profile")
        return dict(await command(given))

    def metrics(self, asked: Asked) -> bytes:
        """Return the gauges as Prometheus reads them."""
        asked.only()
        return self._metrics.text()

    def health(self, asked: Asked) -> Document:
        """Return whether what is recorded now may be relied on, and if not why."""
        asked.only()
        desk, status = self._served.desk(), self._served.status()
        reasons = list(status["problems"])  # the desk's are half a second old
        if desk["health"]["disk_level"] in _STOPPED:
            reasons.append(desk["health"]["disk_text"])
        reasons += [f"{name}: no row for {one['age_ms'] / 1000:.1f} s" for name, one in desk["desk"]["silent"].items()]
        if desk["desk"]["state"] == "stale" and not desk["desk"]["silent"]:
            reasons.append(f"nothing comes: {desk['desk']['reason']}")
        if status["state"] != "recording":
            reasons.append(f"the daemon is {status['state']}")
        return {"ok": not reasons, "state": desk["desk"]["state"], "reasons": reasons}

    def _judged(self) -> tuple[LiveJudge, Snap]:
        """Return the judge and its newest snap.

        Raises:
            NotUsableError: there is none.
        """
        judge = self._served.judge
        if judge is None or judge.snap is None:
            state = "none" if judge is None else judge.gauges()["state"]
            raise NotUsableError(
                f"no snap yet: the judge is {state}. Nothing was read. Next: ask again in some seconds"
            )
        return judge, judge.snap

"""What a running daemon answers about its signals, and what it is told of hot zones."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pyarrow as pa

from spymaster import clock, events
from spymaster.control import Command
from spymaster.engines.snap import Snap
from spymaster.errors import UsageError
from spymaster.events import EventSchema
from spymaster.events.zones import zone_row
from spymaster.signals import sight
from spymaster.signals.live import LiveJudge
from spymaster.signals.zones import Zones

Append = Callable[[EventSchema, pa.RecordBatch], Awaitable[None]]


class Answers:
    """The commands of one judge, for the daemon's event loop."""

    def __init__(self, judge: LiveJudge, append: Append) -> None:
        """Answer nothing yet.

        Args:
            judge: whose signals they are.
            append: makes a row of our own durable and publishes it.
        """
        self._judge, self._append = judge, append

    @property
    def commands(self) -> Mapping[str, Command]:
        """By the name that they are asked by."""
        return {
            "signals": self.signals,
            "gamma": self.gamma,
            "zones": self.zones,
            "zone.set": self.set_zone,
            "zone.remove": self.remove_zone,
        }

    async def signals(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the newest snap, with the levels in sight, or those whose id is asked for as `level`.

        Raises:
            UsageError: there is none yet.
        """
        snap = self._newest()
        level = request.get("level")
        ids = (level,) if isinstance(level, str) else ()
        # A few hundred values take a millisecond, so they need no thread.
        return sight.document(snap, self._judge.profile.name, self._underlying, ids)

    async def gamma(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return dealer gamma at the newest snap, by strike.

        Raises:
            UsageError: there is none yet.
        """
        return sight.gamma_document(self._newest(), self._judge.profile.name, self._underlying)

    def _newest(self) -> Snap:
        snap = self._judge.snap
        if snap is None:
            state = self._judge.gauges()["state"]
            raise UsageError(f"no snap yet: the judge is {state}. Nothing was done. Next: ask again in some seconds")
        return snap

    async def zones(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the hot zones, by name."""
        prices = sorted(self._zones().prices.items())
        return {"underlying": self._underlying, "zones": [{"zone": name, "price": price} for name, price in prices]}

    async def set_zone(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Set a hot zone, or move it; it counts from the next snap on.

        Raises:
            UsageError: its name or price is none.
            DiskFullError: the row is not recorded.
        """
        name, price = self._zones().check(request.get("zone"), request.get("price"))
        await self._record(name, price)
        return {"underlying": self._underlying, "zone": name, "price": price}

    async def remove_zone(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove a hot zone.

        Raises:
            UsageError: there is none of that name.
            DiskFullError: the row is not recorded.
        """
        name = self._zones().known(request.get("zone"))
        await self._record(name, None)
        return {"underlying": self._underlying, "zone": name, "price": None}

    @property
    def _underlying(self) -> str:
        return self._judge.profile.market.underlying

    async def _record(self, name: str, price: float | None) -> None:
        now_ns, snap = clock.utc_now_ns(), self._judge.snap
        row = zone_row(self._underlying, name, price, now_ns if snap is None else snap.snap_ns, now_ns)
        await self._append(events.SYSTEM_ZONES, row)
        self._zones().read(row)  # the judge has it from the bus, in its turn

    def _zones(self) -> Zones:
        if self._judge.zones is None:
            raise UsageError("zones are being read. Nothing was done. Next: ask again in some seconds")
        return self._judge.zones

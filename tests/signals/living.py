"""A live judge over a recording, one step of whose bus at a time, with Gold behind it."""

import asyncio

from spymaster.bus import Bus
from spymaster.engines.profile import profile_named
from spymaster.journal import SILENT
from spymaster.lake.gold import DAEMON_ROWS, DAEMON_SPAN_S
from spymaster.signals.gold import SignalsWriter
from spymaster.signals.live import LiveJudge
from spymaster.signals.start import footer_of
from tests.signals.recordings import batched

SIM = profile_named("SIM")
_TOGETHER = 16  # batches that share a sync, some 0.8 s of a session
_FIRST = 10  # of these, until the judge is waited for


class Living:
    """What a run of the daemon has of signals.

    Attributes:
        told: what was not right.
        snaps: those that were shown.
    """

    def __init__(self, recording, profile=SIM):
        self.told, self.snaps = [], []
        self._recording = recording
        self._bus = Bus()

        async def append(schema, rows):
            recording.write_own(schema.name, rows)

        self.judge = LiveJudge(profile, recording.data, recording.wal, self._bus, append, SILENT, self.told.append)
        self._gold = SignalsWriter(
            recording.data, buffer_limit=DAEMON_ROWS, flush_interval_seconds=DAEMON_SPAN_S, footer=footer_of(profile)
        )

    async def run(self, batches, *, end="stop"):
        """Record and publish batches, the judge never far behind; end by a stop, or as a kill does."""
        await self._gold.start(self._bus)
        judging = asyncio.create_task(self.judge.run())
        for at, together in enumerate(batched(batches, _TOGETHER)):
            self._recording.write(together)
            for stream, part in together:
                self._bus.publish(stream, [part])
            if at == _FIRST:
                await self._until(lambda: self.judge.gauges()["state"] == "judging", judging)
            await asyncio.sleep(0.02)  # two of its pauses
        if end == "stop":
            self.judge.finish()
            await judging
            await self._gold.stop()
            return
        shown = -1
        while shown != (shown := self.judge.gauges()["snaps"]):
            await asyncio.sleep(0.5)
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)

    async def _until(self, true, judging):
        for _ in range(6_000):
            if true() or judging.done():
                return
            await asyncio.sleep(0.01)
        raise TimeoutError


def lived(recording, batches, **how):
    """Return what a run had of signals."""
    living = Living(recording)
    asyncio.run(living.run(batches, **how))
    return living

"""Watches the recording from beside it. Nothing here delays a row, or ends the recording."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from spymaster import clock
from spymaster.bus import Bus, Published, Skipped
from spymaster.events import SYSTEM_GAPS, Stream
from spymaster.recording.recorder import Recorder
from spymaster.signals.gold import SignalsWriter
from spymaster.signals.live import LiveJudge
from spymaster.watch.documents import AlertDocument, DeskDocuments, GapDocument
from spymaster.watch.health import Figures
from spymaster.watch.streams import Streams

PAUSE_S: Final = 0.005  # between two looks at the bus
TAKEN_BYTES: Final = 32 << 20  # at one look


class Watch:
    """How the recording stands at this second."""

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
            alerts_file: the rules; those of the code where it is not there.
            webhook_url: where alerts are posted; None posts none.

        Raises:
            UsageError: rules or address are not usable.
        """
        self._recorder, self._judge, self._gold = recorder, judge, gold
        self._data_root, self._wal_root, self._sources = data_root, wal_root, sources
        self._streams, self._figures = Streams(), Figures(recorder, gold)
        self._gaps: dict[str, GapDocument] = {}
        self._alerts: list[AlertDocument] = []
        self._subscription = bus.subscribe(wants=_wants)
        self._since_ns = clock.utc_now_ns()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to watch."""
        self._tasks = [asyncio.create_task(self._follow())]

    async def stop(self) -> None:
        """Watch no more. Call it before the recorder stops: the last alerts are recorded."""
        self._subscription.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def desk(self) -> DeskDocuments:
        """Return how all stands now. For the event loop: it waits for nothing."""
        silent = self._streams.silent()
        return {
            "desk": {
                "state": "stale" if silent else "live" if self._streams.rows else "empty",
                "since_ns": self._since_ns,
                "reason": next(iter(silent), None),
                "silent": silent,
                "halt": None,
                "first": None,
                "gap": None,
                "feeds": {"up": len(self._sources), "of": len(self._sources)},
            },
            "streams": self._streams.documents(),
            "gaps": self._gaps,
            "alerts": self._alerts,
            "health": self._figures.document(len(self._gaps)),
        }

    async def _follow(self) -> None:
        async for first in self._subscription:
            for item in (first, *self._subscription.waiting(TAKEN_BYTES)):
                self._take(item)
            await asyncio.sleep(PAUSE_S)

    def _take(self, item: Published | Skipped) -> None:
        if isinstance(item, Skipped):
            self._streams.count(item.stream, item.rows, item.last_ns)
        else:
            self._streams.put(item.stream, item.batch)


def _wants(stream: Stream) -> bool:
    return not stream.schema.startswith("system.") or stream.schema == SYSTEM_GAPS.name

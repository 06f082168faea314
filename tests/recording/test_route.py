"""The walk of a row from its delivery's burst to the disk."""

import asyncio
import os
import sys
from pathlib import Path

import spymaster
from spymaster import settings
from spymaster.daemon import Daemon
from spymaster.recording.delivery import DeliveryRecording
from tests.live_feed import LiveDelivery, LiveFeed
from tests.normalize.dbn_bytes import trade

MOST_CALLS = 5  # LevelDB's record passes three
PACKAGE = str(Path(spymaster.__file__).parent)


def calls_since_the_burst() -> list[str] | None:
    """Return our functions from the one that iterates the bursts to this write; None if the write is not of one."""
    calls, frame = [], sys._getframe(2)
    while frame is not None and frame.f_code is not DeliveryRecording._bursts.__code__:
        if frame.f_code.co_filename.startswith(PACKAGE):
            calls.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return None if frame is None else calls


def test_a_row_passes_at_most_five_calls_from_its_burst_to_the_disk(tmp_path, monkeypatch):
    real, walks = os.pwrite, []

    def pwrite(*arguments):
        walks.append(calls_since_the_burst())
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    asyncio.run(Daemon(loaded, [], 1, feeds=[("live", LiveFeed(LiveDelivery([[trade()]] * 3)))]).run())

    rows = [walk for walk in walks if walk is not None]
    assert len(rows) == 3
    for walk in rows:
        assert len(walk) <= MOST_CALLS, " <- ".join(walk)

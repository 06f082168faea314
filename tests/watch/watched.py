"""A recorder with a watch beside it, as the daemon has them; what is recorded is appended by hand."""

import asyncio
from contextlib import asynccontextmanager
from typing import NamedTuple

from spymaster.bus import Bus
from spymaster.engines.profile import profile_named
from spymaster.engines.snap import NO_LEVELS, Counters, Snap
from spymaster.journal import SILENT
from spymaster.query.lake import Lake
from spymaster.recording.recorder import Recorder
from spymaster.signals.live import LiveJudge
from spymaster.watch.watch import Watch

NO_COUNTERS = Counters(*[0] * (len(Counters._fields) - 3), late={}, ahead={}, again={})
NOW_NS = 1_766_404_800_000_000_000


def snap(**values) -> Snap:
    """Return a snap that is sound, but for these values."""
    sound = {
        "snap_ns": NOW_NS,
        "session": "2025-12-22",
        "contract": "ESH6",
        "whole_since_ns": NOW_NS - 10**12,
        "counters": NO_COUNTERS,
    }
    nothing = Snap(*[None] * len(Snap._fields))
    return nothing._replace(**{**sound, "levels": NO_LEVELS, **values})


class Watched(NamedTuple):
    """What a test has in hand."""

    recorder: Recorder
    watch: Watch
    judge: LiveJudge

    async def until(self, true):
        """Wait until something is true."""
        for _ in range(1_000):
            if true():
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(f"not true within ten seconds: {self.watch.desk()}")

    def told(self):
        """Return kind and state of each alert so far, oldest first."""
        return [(alert["kind"], alert["state"]) for alert in self.watch.alerts.newest]


@asynccontextmanager
async def watched(folder, *, rules=None, webhook_url=None, journal=SILENT, **more):
    """Record and watch in a folder."""
    wal, lake = folder / "wal", folder / "lake"
    recorder = Recorder(
        wal, lake, bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1, journal=journal, look_at_disk_s=0.05, **more
    )
    judge = LiveJudge(profile_named("ES"), lake, wal, recorder.bus, recorder.own.append, SILENT, lambda line: None)
    if rules is not None:
        (folder / "alerts.toml").write_text(rules)
    watch = Watch(
        recorder, recorder.bus, judge, None, data_root=lake, wal_root=wal, sources=["live"],
        alerts_file=None if rules is None else folder / "alerts.toml", webhook_url=webhook_url,
    )  # fmt: skip
    await recorder.start()
    try:
        await watch.start()
        yield Watched(recorder, watch, judge)
    finally:
        await watch.stop()
        await recorder.stop()


def recorded_alerts(folder):
    """Return kind, state, subject and text of the alerts in log and lake, in the order in which they were told."""
    with Lake(folder / "lake", folder / "wal") as lake:
        return lake.execute(
            "select kind, state, subject, text from system_alerts order by ts_recv_ns, capture_seq"
        ).fetchall()

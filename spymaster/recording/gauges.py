"""What a recorder knows of the rows on their way, without reading a file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from spymaster import clock
from spymaster.control import Gauges, StreamGauges, SyncTimes
from spymaster.recording.lane import Lane
from spymaster.recording.recorder import Recorder

SHOWN_PROBLEMS: Final = 20  # the newest; the run's summary has all


def gauges(recorder: Recorder) -> Gauges:
    """Return the gauges of a running recorder. For its event loop: it waits for no disk."""
    now_s = clock.monotonic_s()
    streams = {str(stream): _stream_gauges(lane) for stream, lane in sorted(recorder.lanes.items())}
    appends = [at_s for lane in recorder.lanes.values() if (at_s := lane.log.oldest_append_s) is not None]
    not_durable = sum(stream["appended_not_durable"] for stream in streams.values())
    not_in_bronze = sum(stream["durable_not_in_bronze"] for stream in streams.values())
    index = recorder.drain.catalog
    return {
        "streams": streams,
        "appended_not_durable": not_durable,
        "durable_not_in_bronze": not_in_bronze,
        "log_rows": not_durable + not_in_bronze + recorder.drain.left_rows,
        "oldest_not_durable_s": _age_s(appends, now_s),
        "sync": _sync_times(recorder.syncs.seconds),
        "backlog": {
            "segments": len(recorder.drain.waiting),
            "bytes": sum(_bytes(segment.path) for segment in recorder.drain.waiting),
            "oldest_s": _age_s([segment.sealed_at_s for segment in recorder.drain.waiting], now_s),
        },
        "disk": {
            "level": recorder.disk.level.name.lower(),
            "log_free_bytes": recorder.disk.log_free_bytes,
            "bronze_free_bytes": recorder.disk.bronze_free_bytes,
            "text": recorder.disk.text,
        },
        "catalog": {"open": index is not None, "strangers": index.strangers if index is not None else None},
        "flush_s": round(recorder.drain.flush_seconds, 3),
        "readers": recorder.bus.readers,
        "dropped_rows": recorder.bus.dropped_rows,
        "problems": recorder.problems[-SHOWN_PROBLEMS:],
    }


def _stream_gauges(lane: Lane) -> StreamGauges:
    acknowledged = lane.log.acknowledged_rows  # first: the sync thread moves it, up to what is appended
    appended = lane.log.appended_rows
    return {
        "appended": appended,
        "acknowledged": acknowledged,
        "in_bronze": lane.flushed_rows,
        "appended_not_durable": appended - acknowledged,
        "durable_not_in_bronze": acknowledged - lane.flushed_rows,
    }


def _age_s(since_s: Sequence[float], now_s: float) -> float | None:
    return round(max(now_s - min(since_s), 0.0), 3) if since_s else None


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # it went in this moment


def _sync_times(seconds: Sequence[float]) -> SyncTimes:
    """Return nearest-rank percentiles: each is a sync that was measured."""
    ordered = [round(s * 1000, 3) for s in sorted(seconds)]
    if not ordered:
        return {"count": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
    p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.50, 0.99))
    return {"count": len(ordered), "p50_ms": p50, "p99_ms": p99, "max_ms": ordered[-1]}

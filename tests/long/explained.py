"""Scores of a daemon that records and judges, each explained beside it in a process of its own: `python -m tests.long
explained`. Each has to be worked again to the same numbers.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from spymaster.query.sessions import session_at
from tests.gateway.serving import EARLY, NOON, WAIT_S, Serving, is_judged, nearest

SCORES = 10


class Explained(NamedTuple):
    """What came of it.

    Attributes:
        asked: how many scores.
        findings: what was not the same, a line each.
    """

    asked: int
    findings: list[str]


def measure(wanted: int, folder: Path, advance: Callable[[int, int], None]) -> Explained:
    """Explain scores of the levels that are nearest at their times."""
    session_at(0, "cme")
    findings = []
    with Serving(folder, f"sim-es:rate=100,start={NOON}", 2, profile=EARLY) as serving:
        serving.opened()
        for _ in range(WAIT_S * 10):
            if is_judged(serving):
                break
            time.sleep(0.1)
        for done in range(wanted):
            snap, level = serving.document("/api/levels")["snap"], nearest(serving)
            found = serving.document(f"/api/explain?level={level}&at={snap['ts_event_ns']}")
            said = found["ts_event_ns"], found["level"]["id"], found["recomputed"]
            if said != (snap["ts_event_ns"], level, "same"):
                findings.append(f"{level} at {snap['ts_event_ns']}: {said}")
            if not all(isinstance(row["capture_id"], str) for row in found["tape"]["rows"]):
                findings.append(f"{level} at {snap['ts_event_ns']}: a capture is a number that JavaScript rounds")
            advance(done + 1, wanted)
    return Explained(wanted, findings)

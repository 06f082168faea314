"""SIGKILL at storage calls and at random moments: whatever was acknowledged before is in Bronze afterwards, once.

A kill keeps the page cache, so this shows our order of doing things, in the real process with its threads; what a
power cut takes is the business of `tests/crash`.
"""

import itertools
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.faults.checker import Journal
from tests.faults.nursery import nursery
from tests.faults.storage_calls import Answer, Call, Kill, Wait
from tests.faults.trials import Figures, Progress, audit, in_workers, recover

PHASES: Final = ("start", "append", "commit", "seal", "drain", "flush", "index", "retire", "recover", "shutdown")
MINIMUM_ROWS: Final = 10  # that a process has acknowledged before a kill counts for a phase after `start`
KILLS_PER_LAKE: Final = 8  # each on what the one before left; then the lake is checked
DRAIN_WAITS_S: Final = 0.02  # until rows are acknowledged, so that what was left drains while more comes
ATTEMPTS: Final = 3  # to reach a call: a run makes some more or fewer than the one that was counted


@dataclass
class KillFigures(Figures):
    """What a series of kills came to.

    Attributes:
        kills: processes that were killed; of those that had to acknowledge rows first, only after they did.
        per_phase: these, by what the process was about to do.
    """

    kills: int = 0
    per_phase: Counter[str] = field(default_factory=Counter)

    @classmethod
    def total(cls, parts: Iterable["KillFigures"]) -> "KillFigures":
        total = cls()
        for part in parts:
            total.add(part)
            total.kills += part.kills
            total.per_phase += part.per_phase
        return total


class Point(NamedTuple):
    """Before the `number`-th call of a phase."""

    phase: str
    number: int


LEAVES_SEGMENTS: Final = Point("retire", 1)  # a kill here leaves sealed segments, one of them in Bronze already


class PhaseOfCall:
    """Says what each storage call of one process belongs to; `drain` is what its start found, on its way to Bronze."""

    def __init__(self, journal: Journal, command: str) -> None:
        self._journal, self._recovering = journal, command == "recover"
        self._rows_before = journal.acknowledged_rows
        self._of_thread: dict[int, str] = {}
        self.calls: Counter[str] = Counter()

    def waits(self, call: Call) -> bool:
        """Whether it is a drain's call that comes before anything was recorded beside it."""
        return self._records_nothing and self._is_drain(call)

    @property
    def _records_nothing(self) -> bool:
        return self._journal.acknowledged_rows - self._rows_before < MINIMUM_ROWS

    def _is_drain(self, call: Call) -> bool:
        return bool(self._journal.left) and (
            call.path.startswith("lake") or call.path.removeprefix("wal/") in self._journal.left
        )

    def point(self, call: Call) -> Point:
        phase = self._phase(call)
        if call.name == "unlink":
            self._journal.left.discard(call.path.removeprefix("wal/"))
        self.calls[phase] += 1
        return Point(phase, self.calls[phase])

    def _phase(self, call: Call) -> str:
        if self._recovering:
            return "recover"
        if self._records_nothing:
            return "start"
        if self._is_drain(call):
            self._of_thread[call.thread] = "drain"
            return "drain"
        if self._journal.stage == "stop":
            return "shutdown"
        if call.path.startswith("lake"):
            return "flush" if call.path.startswith("lake/bronze/") else "index"
        phase = self._of_log(call)
        self._of_thread[call.thread] = phase
        return phase

    def _of_log(self, call: Call) -> str:
        active = call.path.endswith(".arrow") and call.path.count(".") == 1
        if active and call.name in ("pwrite64", "ftruncate"):
            return "append"
        if active and call.name == "fdatasync":
            return "commit"
        if call.name == "unlink" and not call.path.endswith(".next"):
            return "retire"
        if call.name == "fsync":  # of the folder, after whatever this thread did there
            return self._of_thread.get(call.thread, "seal")
        return "seal"


def kills_at_syscalls(
    folder: Path, points: int, progress: Progress | None = None, seeds: Sequence[int] = (0,)
) -> KillFigures:
    """Kill recorders and recoveries before their storage calls, evenly over the calls of each phase.

    Args:
        folder: where to do it; what was sound is removed again.
        points: kills in all, shared by the seeds; with more than a workload has calls, at each of them.
        progress: called with (lakes done, lakes in all), a few kills each.
        seeds: workloads; see `workload.record`.
    """
    plan = []
    for seed in seeds:
        sizes = count_calls(folder / f"count{seed}", seed)
        plan += [(seed, point) for point in spread(sizes, points // len(seeds))]
    recoveries = [point for _, point in plan if point.phase == "recover"]
    recordings = [(seed, point) for seed, point in plan if point.phase != "recover"]
    random.Random(0).shuffle(recordings)  # so that each lake meets several phases
    random.Random(1).shuffle(recoveries)
    lakes = []
    for first in range(0, len(recordings), KILLS_PER_LAKE):
        own = recordings[first : first + KILLS_PER_LAKE]
        share = slice(
            first * len(recoveries) // len(recordings), (first + len(own)) * len(recoveries) // len(recordings)
        )
        lakes.append((own, recoveries[share]))

    def work(number: int) -> KillFigures:
        return kill_on_one_lake(folder / f"lake{number}", *lakes[number])

    return KillFigures.total(in_workers(work, len(lakes), progress))


def count_calls(folder: Path, seed: int) -> dict[str, int]:
    """Return how many storage calls a workload makes in each phase, beside what a killed one left, and its recovery."""
    journal = Journal()
    folder.mkdir(parents=True)
    phases = _watch(folder, journal, None, "record", seed=seed, capture=1)[1]
    _watch(folder, journal, LEAVES_SEGMENTS, "record", seed=seed, capture=2)
    draining = _watch(folder, journal, None, "record", seed=seed, capture=3)[1]
    _watch(folder, journal, Point("flush", max(phases.calls["flush"] // 2, 1)), "record", seed=seed, capture=4)
    recovering = _watch(folder, journal, None, "recover")[1]
    shutil.rmtree(folder)
    return dict(phases.calls + recovering.calls) | {"drain": draining.calls["drain"]}


def spread(sizes: dict[str, int], points: int) -> Iterator[Point]:
    """Yield about that many points: as many for each phase, or all of its calls where it has not so many."""
    left = points
    for done, (phase, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        share = min(size, -(-left // (len(sizes) - done)))
        left -= share
        for number in range(share):
            yield Point(phase, 1 + number * size // share)


def kill_on_one_lake(
    folder: Path,
    recordings: Sequence[tuple[int, Point]],
    recoveries: Sequence[Point],
    defect: str | None = None,
) -> KillFigures:
    """Kill recorders one after another on one lake, and recoveries between them; then recover, verify and compare.

    Half of the recorders find what a killed one left, and recover it themselves; one that is to be killed while it
    drains always does.
    """
    folder.mkdir(parents=True)
    figures, journal = KillFigures(), Journal()
    captures = itertools.count(100, ATTEMPTS)
    for number, (seed, point) in enumerate(recordings):
        if point.phase == "drain":
            _kill(folder, journal, figures, LEAVES_SEGMENTS, "record", seed=seed, capture=next(captures), defect=defect)
        _kill(folder, journal, figures, point, "record", seed=seed, capture=next(captures), defect=defect)
        first, last = (n * len(recoveries) // len(recordings) for n in (number, number + 1))
        for recovery in recoveries[first:last]:
            _kill(folder, journal, figures, recovery, "recover", defect=defect)
        if number % 2:
            recover(folder, figures, defect)
    audit(folder, journal, figures, f"killed at {[*recordings, *recoveries]}", defect)
    return figures


def _kill(folder: Path, journal: Journal, figures: KillFigures, point: Point, command: str, **job: Any) -> None:
    """Kill a process at a point; where it ended before it got there, another one at half of the way."""
    for attempt in range(ATTEMPTS):
        reached = point._replace(number=max(point.number >> attempt, 1))
        killed, _, code, said = _watch(folder, journal, reached, command, **job)
        if killed:
            assert code == -signal.SIGKILL
            figures.kills += 1
            figures.per_phase[point.phase] += 1
            return
        if code != 0:
            figures.findings.append(f"{folder}: {command}, to be killed at {reached}, ended with {code}: {said}")
            return
        if "capture" in job:
            job["capture"] += 1


def _watch(
    folder: Path, journal: Journal, kill_at: Point | None, command: str, **job: object
) -> tuple[bool, PhaseOfCall, int, str]:
    """Run a child, killed at a point if it gets there; return whether it did, its calls, exit code and output."""
    journal.stage = "start"
    journal.left.clear()
    phases = PhaseOfCall(journal, command)

    def decide(call: Call) -> Answer:
        waits = Wait(DRAIN_WAITS_S) if phases.waits(call) else None
        return Kill() if phases.point(call) == kill_at else waits

    child = nursery().start(folder, command, watched=True, **job)
    ended, code = child.watch(folder, decide, journal.hear)
    said = "it hung; " * (ended.hung or ended.terminated) + child.said()
    return ended.killed_at is not None, phases, code, said


def kills_at_random(
    folder: Path, kills: int, progress: Progress | None = None, seed: int = 0, kills_per_lake: int = 10
) -> KillFigures:
    """Kill `spymaster run` under load at random moments, each after at least `ROWS_UNDER_LOAD` acknowledged rows.

    Each starts on what the one before left; some are followed by a `spymaster recover`, killed at a random moment too.
    """
    lakes = -(-kills // kills_per_lake)

    def work(number: int) -> KillFigures:
        chance = random.Random(seed * 1_000_003 + number)
        wanted = min(kills_per_lake, kills - number * kills_per_lake)
        return kill_under_load(folder / f"load{number}", wanted, chance)

    return KillFigures.total(in_workers(work, lakes, progress))


ROWS_UNDER_LOAD: Final = 1_000


def kill_under_load(folder: Path, kills: int, chance: random.Random, defect: str | None = None) -> KillFigures:
    folder.mkdir(parents=True)
    figures, journal = KillFigures(), Journal()
    while figures.kills < kills:
        before = journal.acknowledged_rows
        journal.market = f"seed={chance.randrange(1 << 30)},rate=10000,start=2025-12-16T14:30:00Z"
        child = nursery().start(folder, "run", "--source", f"sim-es:{journal.market}", defect=defect)

        def enough(line: str, before: int = before) -> bool:
            journal.hear(line)
            return journal.acknowledged_rows - before >= ROWS_UNDER_LOAD

        if not child.hear_until(enough):
            child.signal(signal.SIGKILL)
            figures.findings.append(f"{folder}: a run did not acknowledge {ROWS_UNDER_LOAD} rows: {child.said()}")
            child.wait()
            break
        until = time.monotonic() + chance.uniform(0, 0.4)  # more than a flush interval
        child.hear_until(lambda line: journal.hear(line) or False, max(until - time.monotonic(), 0.001))
        child.signal(signal.SIGKILL)
        code = child.wait(journal.hear)
        if code != -signal.SIGKILL:
            figures.findings.append(f"{folder}: a run ended with {code} by itself: {child.said()}")
            break
        figures.kills += 1
        figures.per_phase["under load"] += 1
        if chance.random() < 0.3:
            recovery = nursery().start(folder, "recover", defect=defect)
            time.sleep(chance.uniform(0, 0.1))
            recovery.signal(signal.SIGKILL)
            recovery.wait()
    audit(folder, journal, figures, f"{figures.kills} kills under load", defect)
    return figures

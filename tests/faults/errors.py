"""Storage calls that fail: the process goes on or says in one line why not, and what it acknowledged is safe."""

import errno
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.checker import Journal
from tests.faults.kills import PhaseOfCall, Point, count_calls, spread
from tests.faults.nursery import TIMEOUT_S, nursery
from tests.faults.storage_calls import Answer, Call, Refuse
from tests.faults.trials import Figures, Progress, audit, in_workers

ERRORS: Final = (errno.EIO, errno.ENOSPC)
TRIALS_PER_LAKE: Final = 4
PATIENCE_S: Final = {errno.ENOSPC: 3.0}  # for a process that may wait until space is freed; it is then asked to end


@dataclass
class ErrorFigures(Figures):
    """What refused storage calls came to.

    Attributes:
        refused: calls that were refused in all, by name and error.
        went_on: processes that did their work all the same.
        stopped: processes that ended in one line and a non-zero exit.
        waited: processes on a full disk that waited for space until SIGTERM ended them.
    """

    refused: Counter[str] = field(default_factory=Counter)
    went_on: int = 0
    stopped: int = 0
    waited: int = 0

    @classmethod
    def total(cls, parts: Iterable["ErrorFigures"]) -> "ErrorFigures":
        total = cls()
        for part in parts:
            total.add(part)
            total.refused += part.refused
            total.went_on += part.went_on
            total.stopped += part.stopped
            total.waited += part.waited
        return total

    @property
    def trials(self) -> int:
        return self.went_on + self.stopped + self.waited


class Fault(NamedTuple):
    """A disk that refuses: at one call, or from it on every call of its name, or every call."""

    point: Point
    error: int
    lasting: str = "once"  # or "the same" or "all"


class FailingDisk:
    """Refuses calls of a process, and loses what a refused sync was to make durable.

    After a failed sync the kernel drops the pages, and a second sync that succeeds proves nothing. So at the refusal
    the bytes that no earlier sync covered are zeroed: whoever acknowledged them all the same has lost them.
    """

    def __init__(self, root: Path, fault: Fault, phases: PhaseOfCall) -> None:
        self._root, self._fault, self._phases = root, fault, phases
        self._synced_bytes: dict[int, int] = {}
        self._broken: str | None = None  # the name of the first call refused
        self.refused: Counter[str] = Counter()

    def decide(self, call: Call) -> Answer:
        first = self._broken is None and self._phases.point(call) == self._fault.point
        lasting = self._broken is not None and (
            self._fault.lasting == "all" or (self._fault.lasting == "the same" and self._broken == call.name)
        )
        refuse = first or lasting
        if call.name == "fdatasync" and call.path.startswith("wal/"):
            self._sync(self._root / call.path, refused=refuse)
        if not refuse:
            return None
        self._broken = self._broken or call.name
        self.refused[f"{call.name} {errno.errorcode[self._fault.error]}"] += 1
        return Refuse(self._fault.error)

    def _sync(self, path: Path, *, refused: bool) -> None:
        try:
            found = path.stat()
        except FileNotFoundError:
            return  # it was renamed in this very moment
        synced = self._synced_bytes.get(found.st_ino, 0)
        if not refused:
            self._synced_bytes[found.st_ino] = found.st_size
        elif found.st_size > synced:
            with path.open("r+b") as file:
                os.pwrite(file.fileno(), bytes(found.st_size - synced), synced)


def errors_at_syscalls(
    folder: Path,
    points: int,
    progress: Progress | None = None,
    seeds: Sequence[int] = (0,),
    errors: Sequence[int] = ERRORS,
) -> ErrorFigures:
    """Refuse storage calls of recorders and recoveries, evenly over the calls of each phase.

    Args:
        folder: where to do it; what was sound is removed again.
        points: calls in all, shared by seeds and errors; with more than a workload has calls, each of them.
        progress: called with (lakes done, lakes in all), a few trials each.
        seeds: workloads; see `workload.record`.
        errors: what the calls return.
    """
    faults = []
    for seed in seeds:
        sizes = count_calls(folder / f"count{seed}", seed)
        for error in errors:
            for number, point in enumerate(spread(sizes, points // len(seeds) // len(errors))):
                lasting = ("once", "the same", "once", "all")[number % 4]
                faults.append((seed, Fault(point, error, lasting)))
    random.Random(0).shuffle(faults)
    lakes = [faults[first : first + TRIALS_PER_LAKE] for first in range(0, len(faults), TRIALS_PER_LAKE)]

    def work(number: int) -> ErrorFigures:
        return fail_on_one_lake(folder / f"failing{number}", lakes[number])

    return ErrorFigures.total(in_workers(work, len(lakes), progress))


def fail_on_one_lake(folder: Path, faults: Sequence[tuple[int, Fault]], defect: str | None = None) -> ErrorFigures:
    """Run recorders one after another, each on a disk that fails in its way; then recover, verify and compare.

    Where a recovery is to fail, it is that of a recorder which was killed half way.
    """
    folder.mkdir(parents=True)
    figures, journal = ErrorFigures(), Journal()
    for number, (seed, fault) in enumerate(faults):
        job = {"seed": seed, "capture": 100 + number}
        if fault.point.phase == "recover":
            _leave_half_way(folder, journal, **job)
            _fail(folder, journal, figures, fault, "recover", defect=defect)
        else:
            _fail(folder, journal, figures, fault, "record", defect=defect, **job)
    audit(folder, journal, figures, f"failed at {faults}", defect)
    return figures


def _leave_half_way(folder: Path, journal: Journal, **job: object) -> None:
    """Let a recorder die with rows in every stream's log."""
    child = nursery().start(folder, "record", **job)
    child.hear_until(lambda line: journal.hear(line) or line.startswith("acknowledged reference"))
    child.signal(signal.SIGKILL)
    child.wait(journal.hear)


def _fail(folder: Path, journal: Journal, figures: ErrorFigures, fault: Fault, command: str, **job: object) -> None:
    journal.stage = "start"
    disk = FailingDisk(folder, fault, PhaseOfCall(journal, command))
    child = nursery().start(folder, command, watched=True, **job)
    ended, code = child.watch(folder, disk.decide, journal.hear, PATIENCE_S.get(fault.error, TIMEOUT_S))
    said = child.said()
    figures.refused += disk.refused
    what = f"{folder}: {command} with {fault}"
    if ended.hung:
        figures.findings.append(f"{what} hung: {said}")
    elif ended.terminated and fault.error == errno.ENOSPC:
        figures.waited += 1
    elif code == 0:
        figures.went_on += 1
    elif is_one_line(said):
        figures.stopped += 1
    else:
        figures.findings.append(f"{what} ended with {code}: {said[-2000:]}")


def is_one_line(said: str) -> bool:
    """Whether a process said in one line what went wrong, beside the lines of its journal."""
    known = re.compile(r"recovery: |warning: |[-\d]{10}T[.:\d]+Z ")
    lines = [line for line in said.splitlines() if not known.match(line)]
    return len(lines) == 1 and lines[0].startswith("error: ")

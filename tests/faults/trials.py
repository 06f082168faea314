"""What all trials share: a lake that was mistreated is recovered, verified and compared, and the outcomes summed."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from tests.faults.checker import Journal, Tally, check
from tests.faults.nursery import nursery

WORKERS: Final = 2

Progress = Callable[[int, int], None]
Result = TypeVar("Result")


@dataclass
class Figures:
    """What trials came to.

    Attributes:
        acknowledged_rows: rows of market data that processes had acknowledged.
        wrong: what Bronze held after recovery beside what it should; all 0.
        findings: what `verify` found, and processes that did not end as they should, a line each.
    """

    acknowledged_rows: int = 0
    wrong: Tally = field(default_factory=Tally)
    findings: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.wrong.clean and not self.findings

    def add(self, other: "Figures") -> None:
        self.acknowledged_rows += other.acknowledged_rows
        self.wrong.add(other.wrong)
        self.findings += other.findings


def recover(folder: Path, figures: Figures, defect: str | None = None) -> None:
    """Recover a lake; that it does not end clean is a finding."""
    code, said = nursery().run(folder, "recover", defect=defect)
    if code != 0:
        figures.findings.append(f"{folder}: recover ended with {code}: {said}")


def audit(folder: Path, journal: Journal, figures: Figures, what: str, defect: str | None = None) -> None:
    """Recover, verify and compare; remove the folder if all is well.

    Args:
        what: what was done to the lake, for the finding if there is one.
        defect: one of `defects`, planted in the recovery.
    """
    before = len(figures.findings)
    recover(folder, figures, defect)
    code, said = nursery().run(folder, "verify", "--json")
    if code != 0:
        figures.findings.append(f"{folder}: verify ended with {code}: {said}")
    wrong = check(folder / "lake", journal)
    figures.wrong.add(wrong)
    figures.acknowledged_rows += journal.acknowledged_rows
    if not wrong.clean or len(figures.findings) > before:
        figures.findings.append(f"{folder}: {wrong}, {what}")
    else:
        shutil.rmtree(folder)


def in_workers(work: Callable[[int], Result], jobs: int, progress: Progress | None) -> list[Result]:
    """Do numbered jobs in a few threads; `progress` gets (jobs done, jobs)."""
    nursery()  # before the threads, so that they share one
    with ThreadPoolExecutor(WORKERS) as pool:
        running = [pool.submit(work, number) for number in range(jobs)]
        for done, _ in enumerate(as_completed(running)):
            if progress is not None:
                progress(done + 1, jobs)
        return [job.result() for job in running]

"""Races for the single writer's lock: one gets it, the others say in one line who has it."""

import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.errors import is_one_line
from tests.faults.nursery import nursery
from tests.faults.trials import Progress, in_workers

COULD_NOT_RUN = 2
RACES_PER_FOLDER = 25


@dataclass
class RaceFigures:
    """What races came to.

    Attributes:
        races: pairs of processes that went for one log at once.
        double_holders: races in which both had the lock; 0.
        no_holder: races in which neither got it; 0.
        misled: lines of losers that did not name the holder, or were no single line.
    """

    races: int = 0
    double_holders: int = 0
    no_holder: int = 0
    misled: list[str] = field(default_factory=list)

    def add(self, other: "RaceFigures") -> None:
        self.races += other.races
        self.double_holders += other.double_holders
        self.no_holder += other.no_holder
        self.misled += other.misled


def races_for_the_lock(folder: Path, races: int, progress: Progress | None = None) -> RaceFigures:
    """Let two processes at a time go for the locks of one log and lake; every other winner is killed while it holds.

    Args:
        folder: where to do it.
        races: how many.
        progress: called with (batches of races done, batches in all).
    """
    batches = -(-races // RACES_PER_FOLDER)

    def work(number: int) -> RaceFigures:
        own = folder / f"races{number}"
        own.mkdir(parents=True)
        figures = RaceFigures()
        for race in range(min(RACES_PER_FOLDER, races - number * RACES_PER_FOLDER)):
            race_once(own, figures, killed=race % 2 == 1)
        return figures

    total = RaceFigures()
    for figures in in_workers(work, batches, progress):
        total.add(figures)
    return total


def race_once(folder: Path, figures: RaceFigures, *, killed: bool, defect: str | None = None) -> None:
    runners = [nursery().start(folder, "hold", defect=defect) for _ in range(2)]
    for runner in runners:
        assert runner.hear_until(lambda line: line == "ready"), runner.said()
    random.shuffle(runners)
    for runner in runners:
        runner.tell("go")
    holders = [runner for runner in runners if runner.hear_until(lambda line: line == "held")]
    losers = [runner for runner in runners if runner not in holders]
    figures.races += 1
    figures.double_holders += len(holders) == 2
    figures.no_holder += not holders
    for loser in losers:
        code, said = loser.wait(), loser.said()
        if code != COULD_NOT_RUN or not is_one_line(said) or (holders and f"process {holders[0].pid}." not in said):
            figures.misled.append(f"{[holder.pid for holder in holders]} held, and another ended with {code}: {said}")
    for holder in holders:
        if killed:
            holder.signal(signal.SIGKILL)
        else:
            holder.tell("enough")
        holder.wait()

"""What the gateway reads of the daemon; it owns none of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from spymaster.bus import Bus
from spymaster.control import Command, DaemonStatus
from spymaster.journal import Journal
from spymaster.recording.recorder import Recorder
from spymaster.signals.live import LiveJudge
from spymaster.watch.documents import DeskDocuments


class Served(NamedTuple):
    """One daemon, as its gateway sees it.

    Attributes:
        data_root: the lake.
        wal_root: its log.
        bus: where durable rows are published.
        judge: the signals; None where nothing is judged.
        commands: what it answers over its control socket, by name.
        status: returns its gauges.
        desk: returns how all stands now.
        recorder: what makes rows durable.
        problem: called with a line for what is not right here.
        journal: where the gateway tells what it does.
        sources: as the user named them.
        speed: event time per wall time of what is paced.
    """

    data_root: Path
    wal_root: Path
    bus: Bus
    judge: LiveJudge | None
    commands: Mapping[str, Command]
    status: Callable[[], DaemonStatus]
    desk: Callable[[], DeskDocuments]
    recorder: Recorder
    problem: Callable[[str], None]
    journal: Journal
    sources: Sequence[str]
    speed: float

"""Kill a real recording daemon again and again, on this disk, and count what that cost.

One trial:
    record   a daemon in a process of its own records a simulated market into a scratch folder, and says through a
             pipe what was acknowledged
    kill     -9, at a random moment after at least `MIN_ROWS` acknowledged rows
    tear     in every third trial the end of an unsealed segment is cut, zeroed, garbled or followed by garbage,
             above the watermark and above everything acknowledged: what a power cut may leave of unsynced bytes
    recover  as the next start would
    count    in the Parquet files themselves, without our readers: each acknowledged row once, and each row the one
             that the market gave, which is a function of its seed

Every 50 trials share a log and a lake; at their end all rows are counted again, and `verify` has its say.

What a kill shows and what it does not: the page cache survives it, so a sync that was forgotten goes unseen here.
Power cuts are shown by the model of the disk in `tests/crash`.
"""

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from spymaster import clock
from spymaster.errors import SpymasterError, UsageError
from spymaster.events.captures import random_capture_id
from spymaster.lake.catalog import Catalog
from spymaster.lake.layout import Tier
from spymaster.lake.locks import writer_locks
from spymaster.proof.doctor import Latency, existing, measure_appends
from spymaster.proof.kill_ledger import Ledger
from spymaster.proof.killed_daemon import Child
from spymaster.proof.verify import verify
from spymaster.recording.recovery import recover
from spymaster.wal.folder import segments
from spymaster.wal.segment import decode_rows, scan

KILLS: Final = 50
ROUND_KILLS: Final = 50  # then a fresh log and lake: bounds disk and memory, however long it goes on
MIN_ROWS: Final = 1_000  # acknowledged before a kill counts
MAX_WAIT_S: Final = 0.6  # from then to the kill; two flushes and some seals
TORN_EVERY: Final = 3
NEEDED_BYTES: Final = 500 << 20
_RATE: Final = 20_000
_FIRST_DAY_NS: Final = 1_765_895_400 * clock.NS_PER_SECOND  # 2025-12-16 14:30 UTC, when New York opens


class Trial(NamedTuple):
    """One kill and what was found after it.

    Attributes:
        number: counted from 1.
        acknowledged: rows that the daemon had acknowledged.
        torn: what was done to the log's end; None if nothing.
        recovery_s: how long recovery took.
        recovered: rows that it brought to Bronze.
        lost: acknowledged rows that are not in Bronze.
        doubled: rows that stand in Bronze more than once.
        invented: rows in Bronze that the market never gave.
    """

    number: int
    acknowledged: int
    torn: str | None
    recovery_s: float
    recovered: int
    lost: int
    doubled: int
    invented: int


@dataclass
class Report:
    """What all trials together found. `findings` is empty if nothing was lost, doubled or invented.

    Attributes:
        seed: of the random moments and of the simulated markets.
        syncs: what a sync takes on this disk.
        rows_counted: rows in Bronze at the ends of the rounds, where all are counted again.
        kept: the scratch folder, if something was found.
    """

    seed: int
    syncs: Latency
    trials: list[Trial] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    rows_counted: int = 0
    kept: Path | None = None

    def recovery_s(self, share: float) -> float:
        """Return the seconds that this share of the recoveries took at most."""
        return float(np.quantile([trial.recovery_s for trial in self.trials], share)) if self.trials else 0.0


def torture(
    wal_root: Path, kills: int | None, minutes: float | None, seed: int, progress: Callable[[Trial], None]
) -> Report:
    """Kill daemons until `kills` or `minutes` are over, or something is found.

    Args:
        wal_root: where the user's log is or will be. Only a scratch folder in it, or in the nearest folder above that
            exists, is written; it is removed at the end, unless something was found.
        kills: how many; None for as many as fit into `minutes`.
        minutes: how long; None for as long as `kills` takes.
        seed: of everything random but the scheduling of processes.
        progress: called after each trial.

    Raises:
        UsageError: there is no room here, or a daemon could not record.
    """
    home = existing(wal_root)
    if (free := shutil.disk_usage(home).free) < NEEDED_BYTES:
        raise UsageError(
            f"{home} has {free / 1e6:,.0f} MB free; the trials take up to {NEEDED_BYTES / 1e6:,.0f} MB. Nothing was "
            f"started. Next: make room, or set WAL_ROOT to another disk"
        )
    scratch = Path(tempfile.mkdtemp(prefix="torture-", dir=home))
    found = False
    try:
        report = Report(seed, measure_appends(scratch))
        _try(scratch, report, kills, minutes, progress)
        found = bool(report.findings)
        report.kept = scratch if found else None
        return report
    finally:
        if not found:
            shutil.rmtree(scratch)


def _try(
    scratch: Path, report: Report, kills: int | None, minutes: float | None, progress: Callable[[Trial], None]
) -> None:
    chance = random.Random(report.seed)  # noqa: S311  # moments to kill at, no secrets
    end_s = clock.monotonic_s() + (minutes * 60 if minutes is not None else float("inf"))

    def wanted() -> bool:
        done = len(report.trials)
        return not report.findings and (kills is None or done < kills) and (done == 0 or clock.monotonic_s() < end_s)

    while wanted():
        folder = scratch / f"round-{len(report.trials) // ROUND_KILLS + 1:03d}"
        with _Round(folder, report, chance) as trials:
            for left in reversed(range(ROUND_KILLS)):
                if not wanted():
                    break
                report.trials.append(trials.next_trial(last=left == 0 or len(report.trials) + 1 == kills))
                progress(report.trials[-1])
            trials.prove()
        if not report.findings:
            shutil.rmtree(folder)


class _Round:
    """Trials that share a log and a lake."""

    def __init__(self, folder: Path, report: Report, chance: random.Random) -> None:
        self._wal_root, self._data_root = folder / "wal", folder / "lake"
        self._report = report
        self._chance = chance
        self._ledger = Ledger(Tier.BRONZE.of(self._data_root))
        folder.mkdir()
        self._child = self._next_child()

    def __enter__(self) -> "_Round":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()

    def _next_child(self) -> Child:
        """Start the next process ahead of need: its imports take longer than what it is started for."""
        day_ns = _FIRST_DAY_NS + len(self._report.trials) % ROUND_KILLS * clock.NS_PER_DAY
        source = f"seed={self._chance.randrange(1 << 30)},rate={_RATE},start={day_ns}"
        return Child(self._wal_root, self._data_root, source, self._wal_root.parent / "daemon.stderr")

    def next_trial(self, *, last: bool) -> Trial:
        """Let a daemon record, kill it, recover and count; unless it is the last, start the next one meanwhile."""
        child = self._child
        number = len(self._report.trials) + 1
        try:
            child.record()
            if not last:
                self._child = self._next_child()
            child.wait_for_rows(MIN_ROWS, self._chance.uniform(0, MAX_WAIT_S))
        finally:
            child.kill()
        self._ledger.acknowledge(child.acknowledged)
        torn = tear(self._wal_root, self._ledger, self._chance) if number % TORN_EVERY == 0 else None
        started_s = clock.monotonic_s()
        try:
            recovered = self._recover(number)
        except (SpymasterError, OSError, sqlite3.Error, pa.ArrowException) as error:
            recovered = 0
            self._find(f"kill {number}: recovery could not proceed: {error}")
        recovery_s = clock.monotonic_s() - started_s
        lost, doubled, invented = self._ledger.count(child.market, child.acknowledged)
        for problem in self._ledger.unreadable:
            self._find(f"kill {number}: {problem}")
        for count, what in ((lost, "acknowledged rows are lost"), (doubled, "rows stand twice in Bronze")):
            if count:
                self._find(f"kill {number}: {count} {what}")
        if invented:
            self._find(f"kill {number}: {invented} rows in Bronze are not those that the market gave")
        return Trial(number, child.rows, torn, recovery_s, recovered, lost, doubled, invented)

    def _recover(self, number: int) -> int:
        run_capture = random_capture_id()
        self._ledger.announce(run_capture)
        with writer_locks(self._wal_root, self._data_root):
            catalog = Catalog(self._data_root)
            try:
                done = recover(self._wal_root, catalog, Tier.BRONZE.of(self._data_root), run_capture)
            finally:
                catalog.close()
        for hole in done.salvage.holes:
            if hole.acknowledged:
                self._find(f"kill {number}: recovery reports: {hole.describe()}")
        return done.rows

    def prove(self) -> None:
        """Count everything again, from the files alone, and let `verify` audit log and lake."""
        try:
            rows, findings = self._ledger.count_again()
            self._report.rows_counted += rows
            findings += [f"verify: {line}" for line in verify(self._wal_root, self._data_root).findings]
        except (SpymasterError, OSError, duckdb.Error, pa.ArrowException) as error:
            findings = [f"the lake cannot be counted again: {error}"]
        for finding in findings:
            self._find(finding)

    def _find(self, finding: str) -> None:
        self._report.findings.append(finding)


def tear(wal_root: Path, ledger: Ledger, chance: random.Random) -> str | None:
    """Damage the end of a stream's log above everything that was promised, as a power cut may.

    Returns:
        What was done; None if no stream has an unsealed segment with rows.
    """
    ends: dict[str, tuple[Path, int, int]] = {}
    for path, name in sorted(segments(wal_root), reverse=True):  # so that the one ahead, if it has rows, is a log's end
        if name.number is None and (end := _promised_end(path, ledger)) is not None:
            ends[name.stem] = (path, end, path.stat().st_size - end)
    if not ends:
        return None
    unpromised = [place for place in ends.values() if place[2] > 0]
    path, end, length = chance.choice(unpromised or list(ends.values()))
    garbage = chance.randbytes(chance.randrange(1, 4096))
    data = path.read_bytes()
    at = end + (chance.randrange(length) if length else 0)
    kind = chance.choice(("cut", "zeroed", "garbled", "followed by garbage") if length else ("followed by garbage",))
    torn = {
        "cut": data[:at],
        "zeroed": data[:at] + bytes(len(data) - at),
        "garbled": data[:at] + garbage[: len(data) - at] + data[at + len(garbage) :],
        "followed by garbage": data + garbage,
    }[kind]
    path.write_bytes(torn)
    return f"{path.name} {kind} at byte {at if kind != 'followed by garbage' else len(data):,}"


def _promised_end(path: Path, ledger: Ledger) -> int | None:
    """Return the byte behind the last row of a segment that any line or the watermark promised; None without rows."""
    raw = memoryview(path.read_bytes())
    found = scan(raw)
    if found.header is None or found.rows == 0:
        return None
    rows, _ = decode_rows(raw, found.frames, found.header.stream)
    captures, numbers = rows["capture_id"].to_numpy(), rows["capture_seq"].to_numpy()
    promised = found.durable_row
    for capture_id in np.unique(captures).tolist():
        own = np.flatnonzero(captures == capture_id)
        known = own[ledger.is_acknowledged((found.header.stream.schema, capture_id), numbers[own])]
        promised = max(promised, int(known.max()) + 1 if len(known) else 0)
    return max([found.frames[0].end, *(frame.end for frame in found.frames if frame.first_row < promised)])

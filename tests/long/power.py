"""Power cuts on real file systems: a recording daemon's disk is there, and from one instant to the next it is not.

One cut:
    record   a daemon in a process of its own records a simulated market, log and lake on a file system in a file,
             and says through a pipe what the bus published
    cut      at a random moment the file system is shut down without its journal being flushed: from then on every call
             fails, and what no sync had made durable is gone. The daemon goes on for a moment, and is killed
    mount    again, so that the file system replays its journal
    recover  by the command
    count    in the Parquet files themselves: each published row once, and each row the one that the market gave; and
             `spymaster verify` finds nothing

Every `ROUND_CUTS` cuts share a file system, a log and a lake.

What this shows and the model of `tests/crash` cannot: which bytes and names ext4 and XFS keep of those that were synced
or not. What it does not show: a drive that loses what it said to have; the file below the file system keeps all that
reached it.
"""

import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from spymaster import clock
from spymaster.errors import UsageError
from spymaster.proof.kill_ledger import Ledger
from spymaster.proof.killed_daemon import Child
from tests.command_line import Done, clean_environment, spymaster

KINDS = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}  # and the packages that make them
IMAGE_BYTES = 512 << 20  # sparse; XFS takes no less than 300 MB
ROUND_CUTS = 20
RATE = 5_000
MIN_ROWS = (50, 1_000, 5_000)  # published before a cut; one of them
MAX_WAIT_S = 1.0  # from then to the cut; three flushes and some seals
MAX_BLIND_S = 0.05  # from the cut to the kill: what does the daemon do with a disk that is gone?
_FIRST_DAY_NS = 1_765_895_400 * clock.NS_PER_SECOND  # 2025-12-16 14:30 UTC, when New York opens
_DAY_NS = 24 * clock.NS_PER_HOUR
_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32): EXT4_IOC_SHUTDOWN, and XFS_IOC_GOINGDOWN
_NO_LOG_FLUSH = 2
_SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class CannotCutError(Exception):
    """There is no such file system to be had here; says why."""


@dataclass
class PowerFigures:
    """What was cut and what was found.

    Attributes:
        cuts: of the power.
        published_rows: before them.
        torn: cuts that left a torn tail in the log.
        lost: published rows that are not in Bronze.
        doubled: rows that stand in Bronze more than once.
        foreign: rows in Bronze that the market never gave.
        findings: one line for all that is wrong, these too.
    """

    cuts: int = 0
    published_rows: int = 0
    torn: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    findings: list[str] = field(default_factory=list)


class Disk:
    """A file system in a file, mounted on a loop device at `root`."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.root = folder / "disk"
        self._kind, self._image = kind, folder / "image"
        self.root.mkdir(parents=True)
        self._image.touch()
        os.truncate(self._image, IMAGE_BYTES)
        _run(f"mkfs.{kind}", "-q", str(self._image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-t", self._kind, "-o", "loop", str(self._image), str(self.root))

    def unmount(self) -> None:
        _run("umount", str(self.root))

    def cut(self) -> None:
        """Let the power fail: every call fails from now on, and nothing more gets to the file."""
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("=I", _NO_LOG_FLUSH))
        finally:
            os.close(folder)


@contextmanager
def disk(kind: str, folder: Path) -> Iterator[Disk]:
    """Make a file system, and take it away.

    Raises:
        CannotCutError: that takes root, loop devices, and the tools of that file system.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise CannotCutError("needs root, to mount a file system in a file")
    if shutil.which(f"mkfs.{kind}", path=_SBIN) is None:
        raise CannotCutError(f"needs mkfs.{kind} (Debian: {KINDS[kind]})")
    try:
        made = Disk(kind, folder)
    except subprocess.CalledProcessError as error:
        said, _, _ = error.stderr.partition("\n")
        raise CannotCutError(f"needs to mount {kind} in a file: {said}") from error
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", str(made.root)], capture_output=True)


def power_cuts(
    kind: str, folder: Path, cuts: int, advance: Callable[[int, int], None] = lambda done, total: None, seed: int = 1
) -> PowerFigures:
    """Cut a daemon's power until `cuts` are done or something is found.

    Args:
        kind: of file system.
        folder: for its file; empty.
        cuts: how many.
        advance: called with (cuts done, of how many).
        seed: of the moments and the markets.

    Raises:
        CannotCutError: this machine cannot.
    """
    figures, chance = PowerFigures(), random.Random(seed)
    while figures.cuts < cuts:
        home = folder / f"{kind}-{figures.cuts}"
        with disk(kind, home) as own:
            ledger = Ledger(own.root / "lake" / "bronze")
            for day in range(min(ROUND_CUTS, cuts - figures.cuts)):
                _cut(own, ledger, figures, chance, day)
                advance(figures.cuts, cuts)
                if figures.findings:
                    return figures
        shutil.rmtree(home)
    return figures


def _cut(own: Disk, ledger: Ledger, figures: PowerFigures, chance: random.Random, day: int) -> None:
    """Let a daemon record, cut its power, recover and count."""
    source = f"seed={chance.randrange(1 << 30)},rate={RATE},start={_FIRST_DAY_NS + day * _DAY_NS}"
    child = Child(own.root / "wal", own.root / "lake", source, own.root.parent / "daemon.stderr")
    figures.cuts += 1
    try:
        child.record()
        child.wait_for_rows(chance.choice(MIN_ROWS), chance.uniform(0, MAX_WAIT_S))
        own.cut()
        time.sleep(chance.uniform(0, MAX_BLIND_S))
    except UsageError as error:
        figures.findings.append(f"cut {figures.cuts}: {error}")
    finally:
        child.kill()
    figures.published_rows += child.rows
    own.unmount()
    own.mount()
    ledger.acknowledge(child.acknowledged)
    found = [*_recover(own.root, ledger, figures), *_count(own.root, ledger, child, figures)]
    figures.findings += [f"cut {figures.cuts}: {finding}" for finding in found]


def _recover(root: Path, ledger: Ledger, figures: PowerFigures) -> list[str]:
    """Recover by the command; return what it should not have said."""
    done = _command("recover", root)
    if done.returncode != 0:
        return [f"recover exits with {done.returncode}: {done.stdout}{done.stderr}"]
    figures.torn += done.document["torn_bytes"] > 0
    for part in done.document["parts"]:
        if part.startswith("system/gaps/"):  # its own rows, of a capture that nobody else announces
            rows = pq.read_table(root / "lake" / "bronze" / part, columns=["capture_id"], partitioning=None)
            for capture_id in rows["capture_id"].unique().to_pylist():
                ledger.announce(capture_id)
    return []


def _count(root: Path, ledger: Ledger, child: Child, figures: PowerFigures) -> list[str]:
    """Count what stands in Bronze, all of it, and let `verify` have its say; return what is wrong."""
    lost, doubled, foreign = ledger.count(child.market, child.acknowledged)
    figures.lost += lost
    figures.doubled += doubled
    figures.foreign += foreign
    wrong = list(ledger.unreadable)
    try:
        wrong += ledger.count_again()[1]
    except duckdb.Error as error:
        wrong.append(f"Bronze cannot be counted again: {error}")
    if lost or doubled or foreign:
        wrong.append(f"{lost} published rows are lost, {doubled} stand twice, {foreign} are not the market's")
    done = _command("verify", root)
    if done.returncode != 0:
        wrong.append(f"verify exits with {done.returncode}: {done.stdout}{done.stderr}")
    return wrong


def _command(name: str, root: Path) -> Done:
    roots = ("--data-root", str(root / "lake"), "--wal-root", str(root / "wal"))
    return spymaster(name, "--json", *roots, environment=clean_environment(), folder=root.parent)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"PATH": _SBIN})

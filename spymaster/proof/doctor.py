"""Is this machine fit to record on? One line per check, and what to do about it. Nothing is changed.

Scratch files for the measurements go into WAL_ROOT, or the nearest folder above it that exists, and are removed.
"""

import ctypes
import os
import platform
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pydantic import SecretStr

from spymaster import clock, durable
from spymaster.errors import ControlError
from spymaster.feeds import massive_package
from spymaster.lake import datasets, layout
from spymaster.lake.gold import LEVELS_SIGNALS
from spymaster.query import status
from spymaster.settings import Settings

Verdict = Literal["OK", "WARN", "FAIL"]

SYNCS: Final = 200
SYNC_BYTES: Final = 64 << 10
NAME_SYNCS: Final = 50
SLOW_SYNC_S: Final = 0.05  # a p99 beyond makes rows wait noticeably for their acknowledgement
UNBELIEVABLE_SYNC_S: Final = 5e-6  # no medium is that fast; memory is, or a disk that does not sync
NEEDED_FREE_BYTES: Final = 2 << 30  # twice the size of the log at which `status` sounds its alarm
COMFORTABLE_FREE_BYTES: Final = 10 << 30
NEEDED_DESCRIPTORS: Final = 256  # three for each of many streams, and Bronze's
COMFORTABLE_DESCRIPTORS: Final = 1024
SEGMENTS_IN_MEMORY: Final = 4  # while one is recovered: its bytes, its columns, the sorted copy, the Parquet file
MASSIVE_PACKAGES: Final = {client.package for client in massive_package.CLIENTS}
_NETWORK: Final = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "ceph", "glusterfs", "lustre", "afs"}
_SHARED: Final = {"9p", "drvfs", "virtiofs", "vboxsf", "prl_fs", "vmhgfs", "fuse.vmhgfs-fuse"}  # the host's
_MEMORY: Final = {"tmpfs", "ramfs", "devtmpfs"}
_MOUNT_COMMAND_PATH: Final = "/sbin:/usr/sbin:/bin:/usr/bin"
_LINUX_MOUNTS: Final = Path("/proc/mounts")
_LINUX_MEMORY: Final = Path("/proc/meminfo")
_TIMEX_BYTES: Final = 512  # more than any kernel's struct timex
_TIMEX_STATUS_AT: Final = 40  # of its field `status`, on 64-bit machines
_STA_UNSYNC: Final = 0x40


class Check(NamedTuple):
    """One thing looked at: what was found, and for what is not OK, what to do."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


class Latency(NamedTuple):
    """How long syncs took, in seconds."""

    p50_s: float
    p99_s: float
    max_s: float

    def describe(self) -> str:
        return f"p50 {self.p50_s * 1e3:.2f} ms, p99 {self.p99_s * 1e3:.2f} ms, max {self.max_s * 1e3:.2f} ms"


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, and yield each check as it is done."""
    python, packages = _requirements()
    yield check_python(platform.python_version(), python)
    yield Check("platform", "OK", f"{platform.platform()}, {os.cpu_count()} cores")
    yield check_packages(packages)
    yield check_massive_client()
    yield check_clock(settings)
    yield check_time_zones()
    for name, folder in (("WAL_ROOT", settings.wal_root), ("DATA_ROOT", settings.data_root)):
        yield check_folder(name, folder)
        yield check_file_system(name, existing(folder), mounts())
        yield check_free_space(name, shutil.disk_usage(existing(folder)).free)
    yield check_same_disk(settings)
    yield from check_syncs(settings.wal_root)
    yield check_descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield check_memory(_available_memory_bytes(), settings.wal_segment_size_mb << 20)
    yield check_keys(settings)
    yield check_daemon(settings.wal_root)
    yield check_signals(settings.wal_root)
    yield check_gold(settings.data_root)
    yield check_datasets(settings.data_root)


def _requirements() -> tuple[str | None, list[str]]:
    """Return the Python and the packages that `pyproject.toml` requires; nothing if spymaster was never installed."""
    try:
        installed = metadata.distribution("spymaster")
    except metadata.PackageNotFoundError:
        return None, []
    python = installed.metadata.json.get("requires_python")
    return None if python is None else str(python), installed.requires or []


def check_python(version: str, required: str | None) -> Check:
    if required is not None and not SpecifierSet(required).contains(version, prereleases=True):
        advice = f"make .venv with a Python that is {required}: make clean, then make run PYTHON=python3.12, say"
        return Check("Python", "FAIL", f"{version}, not {required}", advice)
    return Check("Python", "OK", f"{version} ({required or 'requirement unknown'}), SQLite {sqlite3.sqlite_version}")


def check_packages(requirements: list[str]) -> Check:
    """Compare what is installed with what `pyproject.toml` requires on this machine, extras left out.

    Massive's client has a check of its own, as either of two packages will do.
    """
    if not requirements:
        return Check("packages", "WARN", "unknown: spymaster is not installed here", "make run installs it")
    found, wrong = [], []
    for requirement in map(Requirement, requirements):
        not_here = requirement.marker is not None and not requirement.marker.evaluate()
        if not_here or requirement.name in MASSIVE_PACKAGES:
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing ({requirement.specifier})")
            continue
        found.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        return Check("packages", "FAIL", "; ".join(wrong), "remove .venv; make run installs the locked ones")
    return Check("packages", "OK", ", ".join(found))


def check_massive_client() -> Check:
    """Look for Massive's client under either of its names."""
    versions = massive_package.installed()
    if massive_package.usable(versions) is None:
        return Check("Massive's client", "FAIL", massive_package.describe(versions), massive_package.ADVICE)
    return Check("Massive's client", "OK", massive_package.describe(versions))


def check_clock(settings: Settings) -> Check:
    now_ns = clock.utc_now_ns()
    shown = f"{clock.utc_text(now_ns)[:19]}Z"
    newest_ns = max((_modified_ns(path) for path in _own_files(settings)), default=0)
    resolution_s = time.get_clock_info("monotonic").resolution
    if newest_ns > now_ns + clock.NS_PER_HOUR:
        found = f"{shown} is before the newest file of log and lake, {clock.utc_text(newest_ns)[:19]}Z"
        return Check("clock", "FAIL", found, "set the clock; parts and gaps would carry wrong times of creation")
    if not 2025 <= int(shown[:4]) < 2100:
        return Check("clock", "FAIL", f"the clock says {shown}", "set the clock, and let NTP keep it")
    if resolution_s > 0.001:
        return Check("clock", "WARN", f"{shown}, timers tick every {resolution_s * 1e3:.1f} ms", "paced rows come late")
    synchronized = clock_is_synchronized()
    if synchronized is False:
        advice = "let NTP keep it (timedatectl set-ntp true): our receive times are as good as this clock"
        return Check("clock", "WARN", f"{shown}; the kernel says that nothing synchronizes it", advice)
    known = "synchronized" if synchronized else "whether it is synchronized is unknown"
    return Check("clock", "OK", f"{shown}, {known}, timers to {resolution_s * 1e9:.0f} ns")


def _own_files(settings: Settings) -> Iterator[Path]:
    for folder in (settings.wal_root, settings.data_root):
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield from durable.entries(folder)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # the daemon retired it
        return 0


def clock_is_synchronized() -> bool | None:
    """Ask the kernel whether something keeps its clock; None where it cannot say. The network is not asked."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return None
    answer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: read only
    if ctypes.CDLL(None, use_errno=True).adjtimex(answer) < 0:
        return None
    status = int.from_bytes(answer.raw[_TIMEX_STATUS_AT : _TIMEX_STATUS_AT + 4], sys.byteorder)
    return not status & _STA_UNSYNC


def check_time_zones() -> Check:
    try:
        zoneinfo.ZoneInfo("America/New_York")
    except zoneinfo.ZoneInfoNotFoundError:
        return Check("time zones", "FAIL", "America/New_York is not known", "install the package tzdata")
    return Check("time zones", "OK", "America/New_York is known")


def check_folder(name: str, folder: Path) -> Check:
    there = existing(folder)
    if not there.is_dir():
        return Check(name, "FAIL", f"{there} is a file", f"choose another folder with {name}")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, "FAIL", f"{there} cannot be written", f"mend its permissions, or choose another {name}")
    inside = durable.entries(folder) if folder.is_dir() else []
    unwritable = [path for path in inside if path.is_dir() and not os.access(path, os.W_OK)]
    if unwritable:
        return Check(name, "FAIL", f"{unwritable[0]} cannot be written", "mend its permissions")
    missing = "" if folder.is_dir() else "; it does not exist yet, the first run makes it"
    return Check(name, "OK", f"{folder.absolute()} is writable{missing}")


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def mounts() -> list[tuple[str, str]]:
    """Return (mount point, kind) of every file system; none where the system does not tell."""
    if _LINUX_MOUNTS.exists():
        return parse_linux_mounts(_LINUX_MOUNTS.read_text(errors="surrogateescape"))
    program = shutil.which("mount", path=_MOUNT_COMMAND_PATH)
    if program is None:
        return []
    done = subprocess.run([program], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  # found above
    return re.findall(r" on (/.*?) \((\w+)", done.stdout)


def parse_linux_mounts(text: str) -> list[tuple[str, str]]:
    """Read the lines of /proc/mounts, in which a blank in a name is \\040."""

    def plain(name: str) -> str:
        return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), name)

    return [(plain(fields[1]), fields[2]) for fields in map(str.split, text.splitlines()) if len(fields) > 2]


def check_file_system(name: str, folder: Path, mounted: list[tuple[str, str]]) -> Check:
    """Say what kind of file system a folder lies on: of mounts over one another, the last that holds it."""
    holding = [(point, kind) for point, kind in mounted if folder.resolve().is_relative_to(point)]
    if not holding:
        return Check(f"{name} disk", "WARN", "kind of file system unknown", "make sure that it is a local disk")
    point, kind = max(reversed(holding), key=lambda entry: len(entry[0]))
    found = f"{kind} at {point}"
    if kind in _MEMORY:
        return Check(
            f"{name} disk", "FAIL", f"{found} is memory: gone at the next power cut", f"point {name} at a disk"
        )
    if kind in _NETWORK or kind.startswith("fuse.sshfs"):
        verdict: Verdict = "FAIL" if name == "WAL_ROOT" else "WARN"
        advice = f"point {name} at a local disk: what a sync and a lock mean is up to that server"
        return Check(f"{name} disk", verdict, f"{found} is a network file system", advice)
    if kind in _SHARED:
        advice = "use a disk of this system: whether a sync reaches the medium is up to the host"
        return Check(f"{name} disk", "WARN", f"{found} is shared by a host", advice)
    if kind == "overlay":
        return Check(
            f"{name} disk", "WARN", f"{found} is a container's layer", "mount a volume: it goes with its container"
        )
    return Check(f"{name} disk", "OK", f"{found}, local")


def check_free_space(name: str, free_bytes: int) -> Check:
    found = f"{free_bytes / 1e9:,.1f} GB free"
    if free_bytes < NEEDED_FREE_BYTES:
        return Check(f"{name} space", "FAIL", found, f"make room: {NEEDED_FREE_BYTES / 1e9:.0f} GB at the least")
    if free_bytes < COMFORTABLE_FREE_BYTES:
        return Check(f"{name} space", "WARN", found, "make room: a busy day takes some GB")
    return Check(f"{name} space", "OK", found)


def check_same_disk(settings: Settings) -> Check:
    log, lake = existing(settings.wal_root), existing(settings.data_root)
    if log.stat().st_dev == lake.stat().st_dev:
        return Check("log and lake", "OK", "on one file system: a full disk stops both, a lost disk takes both")
    return Check("log and lake", "OK", "on different file systems")


@contextmanager
def scratch_folder(wal_root: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder on the log's file system, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=existing(wal_root)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_syncs(wal_root: Path) -> Iterator[Check]:
    """Measure what an acknowledgement and a new name cost on the log's disk."""
    try:
        with scratch_folder(wal_root, ".doctor-") as folder:
            appends, names = measure_appends(folder), measure_names(folder)
    except OSError as error:
        advice = "mend that: without syncs nothing can be acknowledged"
        yield Check("sync", "FAIL", f"{error.strerror or error} in {existing(wal_root)}", advice)
        return
    yield judge_latency(f"sync of {SYNC_BYTES >> 10} KiB", appends)
    yield judge_latency("sync of a new name", names)


def judge_latency(name: str, measured: Latency) -> Check:
    if measured.p50_s < UNBELIEVABLE_SYNC_S:
        advice = (
            "make sure that this is a disk, and that its writes are not only cached (eatmydata, a VM's unsafe mode)"
        )
        return Check(name, "WARN", f"{measured.describe()}: faster than any disk", advice)
    if measured.p99_s > SLOW_SYNC_S:
        advice = "a faster disk acknowledges sooner; nothing is lost on a slow one"
        return Check(name, "WARN", measured.describe(), advice)
    return Check(name, "OK", measured.describe())


def measure_appends(folder: Path) -> Latency:
    """Append and sync, as a commit does."""
    data = os.urandom(SYNC_BYTES)
    file = durable.create(folder / "appends")
    try:

        def append(number: int) -> None:
            durable.write_fully(file, data, number * SYNC_BYTES)
            durable.sync(file)

        return _timed(append, SYNCS)
    finally:
        durable.close(file)


def measure_names(folder: Path) -> Latency:
    """Give a file one more name and sync the directory, as a seal does."""
    source = folder / "source"
    durable.close(durable.create(source))

    def link(number: int) -> None:
        durable.link(source, folder / f"name-{number}")
        durable.sync_directory(folder)

    return _timed(link, NAME_SYNCS)


def _timed(act: Callable[[int], None], times: int) -> Latency:
    seconds = []
    for number in range(times):
        started_s = clock.monotonic_s()
        act(number)
        seconds.append(clock.monotonic_s() - started_s)
    return Latency(*(float(np.quantile(seconds, share)) for share in (0.5, 0.99, 1.0)))


def check_descriptors(soft: int, hard: int) -> Check:
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    found = f"{limit} (hard limit {'unlimited' if hard == resource.RLIM_INFINITY else f'{hard:,}'})"
    advice = f"raise it before the start: ulimit -n {COMFORTABLE_DESCRIPTORS}"
    if soft != resource.RLIM_INFINITY and soft < COMFORTABLE_DESCRIPTORS:
        return Check("open files", "FAIL" if soft < NEEDED_DESCRIPTORS else "WARN", found, advice)
    return Check("open files", "OK", found)


def _available_memory_bytes() -> int:
    if _LINUX_MEMORY.exists() and (match := re.search(r"MemAvailable:\s+(\d+) kB", _LINUX_MEMORY.read_text())):
        return int(match[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(available_bytes: int, segment_bytes: int) -> Check:
    found = f"{available_bytes / 1e9:,.1f} GB"
    needed = SEGMENTS_IN_MEMORY * segment_bytes
    if available_bytes < needed:
        advice = (
            f"free {needed / 1e9:.1f} GB, or lower WAL_SEGMENT_SIZE_MB: recovery holds a segment several times over"
        )
        return Check("memory", "WARN", found, advice)
    return Check("memory", "OK", found)


def check_keys(settings: Settings) -> Check:
    """Say which keys are set, never what they are."""
    keys = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    present = {name.upper(): isinstance(getattr(settings, name), SecretStr) for name in keys}
    blank = [
        name.upper() for name in keys if (key := getattr(settings, name)) is not None and not key.get_secret_value()
    ]
    if blank:
        return Check("keys", "WARN", f"{', '.join(blank)} is set and empty", "set it to the vendor's key, or unset it")
    found = ", ".join(f"{name} {'set' if is_set else 'not set'}" for name, is_set in present.items())
    return Check("keys", "OK", found)


def check_daemon(wal_root: Path) -> Check:
    """Say who records here; asked as `status` does, which keeps no writer from its lock."""
    try:
        holder = durable.lock_holder(wal_root)
    except OSError as error:
        advice = "mend the permissions of WAL_ROOT, or choose another"
        return Check("daemon", "WARN", f"unknown: {error.strerror or error}", advice)
    return Check("daemon", "OK", "none records here" if holder is None else f"process {holder} records here")


def check_signals(wal_root: Path) -> Check:
    """Ask the running daemon whether signals are published, and get into Gold."""
    try:
        daemon = status.running(wal_root)
    except (ControlError, OSError) as error:
        return Check("signals", "WARN", f"unknown: {error}", "ask again; see what that process does")
    if daemon is None:
        return Check("signals", "OK", "no daemon runs, so none are published")
    found = status.signals_of(daemon)
    missing = found["missing"]
    if missing is not None:
        said, _, advice = status.MISSING[missing].partition(" Next: ")
        return Check("signals", "WARN", f"{said} {status.signal_words(found)}", advice)
    return Check("signals", "OK", status.signal_words(found))


def check_gold(data_root: Path) -> Check:
    """Say how much Gold there is."""
    sizes = layout.gold_sizes(data_root, LEVELS_SIGNALS)
    return Check("Gold", "OK", f"{len(sizes):,} parts, {sum(sizes):,} bytes")


def check_datasets(data_root: Path) -> Check:
    """Say how much there is of data sets."""
    sizes = datasets.sizes(data_root)
    return Check("data sets", "OK", f"{len(sizes):,} files, {sum(sizes):,} bytes")

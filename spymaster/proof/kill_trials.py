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

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spymaster import clock, paths, settings
from spymaster.bus import Skipped, Subscription
from spymaster.daemon import Daemon
from spymaster.errors import SpymasterError, UsageError
from spymaster.events.captures import random_capture_id
from spymaster.lake.catalog import Catalog
from spymaster.lake.locks import writer_locks
from spymaster.normalize.databento.normalizer import DatabentoNormalizer
from spymaster.proof.doctor import Latency, existing, measure_appends
from spymaster.proof.verify import verify
from spymaster.query.lake import escape_glob
from spymaster.recording.recovery import recover
from spymaster.simulation.source import SimFeed
from spymaster.wal.segment import decode_rows, scan

KILLS: Final = 50
ROUND_KILLS: Final = 50  # then a fresh log and lake: bounds disk and memory, however long it goes on
MIN_ROWS: Final = 1_000  # acknowledged before a kill counts
MAX_WAIT_S: Final = 0.6  # from then to the kill; two flushes and some seals
TORN_EVERY: Final = 3
START_LIMIT_S: Final = 60.0  # for a daemon to acknowledge its first rows
NEEDED_BYTES: Final = 500 << 20
CHILD: Final = (sys.executable, "-m", "spymaster.proof.kill_trials")
_LIFE_LIMIT_S: Final = 120.0  # a child whose parent is gone ends sooner, by its pipe
_RATE: Final = 20_000
_RESERVE_MB: Final = 16  # what `DISK_RESERVE_MB` keeps free would stop the daemon on a disk with `NEEDED_BYTES`
_FIRST_DAY_NS: Final = 1_765_895_400 * clock.NS_PER_SECOND  # 2025-12-16 14:30 UTC, when New York opens
_DAY_NS: Final = 24 * clock.NS_PER_HOUR
_OURS: Final = "system"
_NO_CLOCK_NS: Final = 0  # stands for our clock on arrival where the market is given again

Key = tuple[str, int]  # a schema and a capture
Line = tuple[str, int, int, int]  # of acknowledged rows: schema, capture, first `capture_seq`, last; without a hole


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
        self._ledger = Ledger(self._data_root / "bronze")
        folder.mkdir()
        self._child = self._next_child()

    def __enter__(self) -> "_Round":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()

    def _next_child(self) -> "Child":
        """Start the next process ahead of need: its imports take longer than what it is started for."""
        day_ns = _FIRST_DAY_NS + len(self._report.trials) % ROUND_KILLS * _DAY_NS
        source = f"seed={self._chance.randrange(1 << 30)},rate={_RATE},start={day_ns}"
        return Child(self._wal_root, self._data_root, source)

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
                done = recover(self._wal_root, catalog, self._data_root / "bronze", run_capture)
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


class Child:
    """A daemon that waits for the word to record; what it acknowledges is collected as it says so.

    Attributes:
        market: what it records.
        acknowledged: a line for each batch.
        rows: how many rows that is.
    """

    def __init__(self, wal_root: Path, data_root: Path, source: str) -> None:
        self.market = SimFeed.parse(source)
        self.acknowledged: list[Line] = []
        self.rows = 0
        self._errors = wal_root.parent / "daemon.stderr"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # ourselves
                [*CHILD, str(wal_root), str(data_root), f"sim-es:{source}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                process_group=0,  # so that Ctrl-C is ours alone
            )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def record(self) -> None:
        """Give the word."""
        with suppress(BrokenPipeError):  # it ended already; whoever waits for rows says so
            _pipe(self._process.stdin).write("record\n")
            _pipe(self._process.stdin).flush()

    def wait_for_rows(self, rows: int, longer_s: float) -> None:
        """Wait until it has acknowledged so many rows, and then `longer_s` more.

        Raises:
            UsageError: it ended by itself, or acknowledged too little in a minute.
        """
        limit_s = clock.monotonic_s() + START_LIMIT_S
        pause = threading.Event()
        while self.rows < rows and self._process.poll() is None and clock.monotonic_s() < limit_s:
            pause.wait(0.01)
        pause.wait(longer_s)
        ended = self._process.poll() is not None
        if ended or self.rows < rows:
            lines = self._errors.read_text(errors="replace").strip().splitlines() or ["it gave no reason"]
            raise UsageError(
                f"the daemon under test {'ended by itself' if ended else 'hangs'} after {self.rows} acknowledged rows: "
                f"{lines[-1]}. Nothing of yours was touched. Next: spymaster doctor"
            )

    def kill(self) -> None:
        """Kill -9, and collect the last lines."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()

    def _read(self) -> None:
        for line in _pipe(self._process.stdout):
            if line.count(" ") == 3 and line.endswith("\n"):  # else the kill cut it
                schema, capture_id, first, last = line.split()
                self.acknowledged.append((schema, int(capture_id), int(first), int(last)))
                self.rows += int(last) - int(first) + 1


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("a child without its pipes")
    return pipe


class Ledger:
    """What was acknowledged, and how often each row stands in Bronze. Reads Parquet files and nothing else of ours.

    Attributes:
        unreadable: a line for each part that does not read.
    """

    def __init__(self, bronze: Path) -> None:
        self.unreadable: list[str] = []
        self._bronze = bronze
        self._acknowledged: dict[Key, list[tuple[int, int]]] = {}
        self._times: dict[Key, NDArray[np.int64]] = {}  # by `capture_seq`
        self._announced: set[int] = set()
        self._read: set[Path] = set()
        self._doubled = 0

    def announce(self, capture_id: int) -> None:
        """Expect rows of our own of this process run."""
        self._announced.add(capture_id)

    def acknowledge(self, lines: list[Line]) -> None:
        for schema, capture_id, first, last in lines:
            self._announced.add(capture_id)
            self._acknowledged.setdefault((schema, capture_id), []).append((first, last))

    def is_acknowledged(self, key: Key, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of a capture's rows were acknowledged."""
        known = np.zeros(len(numbers), dtype=bool)
        for first, last in self._acknowledged.get(key, []):
            known |= (numbers >= first) & (numbers <= last)
        return known

    def count(self, market: SimFeed, acknowledged: list[Line]) -> tuple[int, int, int]:
        """Read the parts that are new, and return the rows lost, doubled and invented since the last call."""
        fresh: dict[Key, list[pa.Table]] = {}
        for path in sorted(self._bronze.rglob("part-*.parquet")):
            if path in self._read or path.name.startswith("."):
                continue
            self._read.add(path)
            schema = ".".join(path.relative_to(self._bronze).parts[:2])
            try:
                rows = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                self.unreadable.append(f"{path} does not read: {error}")
                continue
            captures = rows["capture_id"].to_numpy()
            for capture_id in np.unique(captures).tolist():
                key = (schema, capture_id)
                own = rows.filter(pa.array(captures == capture_id))
                fresh.setdefault(key, []).append(own)
                self._add(key, own["capture_seq"].to_numpy())
        lost = sum(self._lost(key) for key in {(schema, capture) for schema, capture, *_ in acknowledged})
        doubled = sum(int((times > 1).sum()) for times in self._times.values())
        doubled, self._doubled = doubled - self._doubled, doubled
        return lost, doubled, self._invented(fresh, market, acknowledged)

    def _add(self, key: Key, numbers: NDArray[np.int64]) -> None:
        times = np.bincount(numbers)
        known = self._times.get(key, times[:0])
        longer, shorter = (times, known) if len(times) > len(known) else (known, times)
        self._times[key] = longer.copy()
        self._times[key][: len(shorter)] += shorter

    def _lost(self, key: Key) -> int:
        times = self._times.get(key, np.zeros(0, dtype=np.int64))
        return sum(
            last - first + 1 - int((times[first : last + 1] > 0).sum()) for first, last in self._acknowledged[key]
        )

    def _invented(self, fresh: dict[Key, list[pa.Table]], market: SimFeed, acknowledged: list[Line]) -> int:
        """Return how many new rows no delivery gave: of captures that nobody announced, or with other values."""
        invented = sum(t.num_rows for (_, capture), ts in fresh.items() if capture not in self._announced for t in ts)
        ours = {capture for schema, capture, *_ in acknowledged if not schema.startswith(_OURS)}
        recorded = {schema: pa.concat_tables(ts) for (schema, capture), ts in fresh.items() if capture in ours}
        wanted = {schema: int(rows["capture_seq"].to_numpy().max()) + 1 for schema, rows in recorded.items()}
        given = market_rows(market, wanted)
        return invented + sum(differing(rows, given[schema]) for schema, rows in recorded.items())

    def count_again(self) -> tuple[int, list[str]]:
        """Count from the files alone, with DuckDB, and return the rows in Bronze and what is not as it should be."""
        rows, findings = 0, []
        held: dict[Key, NDArray[np.int64]] = {}
        with duckdb.connect() as connection:
            for folder in sorted(self._bronze.glob("*/*")):
                pattern = f"{escape_glob(folder)}/**/part-*.parquet"
                keys = connection.execute(
                    "select capture_id, capture_seq, count(*) as times from read_parquet(?, hive_partitioning = false) "
                    "group by all order by all",
                    [pattern],
                ).fetchnumpy()
                schema = f"{folder.parent.name}.{folder.name}"
                rows += int(keys["times"].sum())
                for capture_id in np.unique(keys["capture_id"]).tolist():
                    held[schema, capture_id] = keys["capture_seq"][keys["capture_id"] == capture_id]
                if doubled := int((keys["times"] > 1).sum()):
                    findings.append(f"counted again: {doubled} rows of {schema} stand twice in Bronze")
        for key, ranges in self._acknowledged.items():
            numbers = held.get(key, np.zeros(0, dtype=np.int64))
            there = int(self.is_acknowledged(key, numbers).sum())
            if lost := sum(last - first + 1 for first, last in ranges) - there:
                findings.append(f"counted again: {lost} acknowledged rows of {key[0]}, capture {key[1]}, are lost")
        return rows, findings


def market_rows(market: SimFeed, wanted: dict[str, int]) -> dict[str, pa.Table]:
    """Return the first rows that a simulated market gives, per schema at least as many as wanted; row k is number k."""
    (delivery,) = market.deliveries()
    info = delivery.info
    normalizer = DatabentoNormalizer(
        header=info.dbn_header, origin=info.origin, symbols_in_stream=info.symbols_in_stream, simulated=True
    )
    given: dict[str, list[pa.RecordBatch]] = {schema: [] for schema in wanted}
    missing = dict(wanted)
    for data in market.market.blocks():
        if all(count <= 0 for count in missing.values()):
            break
        for schema, batch in normalizer.normalize([(data, _NO_CLOCK_NS)]).batches:
            if schema.name in given:
                given[schema.name].append(batch)
                missing[schema.name] -= batch.num_rows
    return {schema: pa.Table.from_batches(batches) for schema, batches in given.items() if batches}


def differing(stored: pa.Table, given: pa.Table) -> int:
    """Return how many stored rows are not the given ones of their number, whatever our clock said on arrival."""
    given = _without_our_clock(given.take(stored["capture_seq"].combine_chunks()))
    stored = _without_our_clock(stored).select(given.column_names)
    if stored.equals(given.cast(stored.schema)):
        return 0
    return sum(a != b for a, b in zip(stored.to_pylist(), given.to_pylist(), strict=True))


def _without_our_clock(rows: pa.Table) -> pa.Table:
    """Leave out when a row arrived here, which also stands for the vendor's capture time where it sends none."""
    received = pc.if_else(pc.equal(rows["ts_recv_ns"], rows["ts_local_ns"]), None, rows["ts_recv_ns"])
    others = [name for name in rows.column_names if name not in ("ts_recv_ns", "ts_local_ns")]
    return rows.select(others).append_column("ts_recv_ns", received)


def tear(wal_root: Path, ledger: Ledger, chance: random.Random) -> str | None:
    """Damage the end of a stream's log above everything that was promised, as a power cut may.

    Returns:
        What was done; None if no stream has an unsealed segment with rows.
    """
    ends: dict[str, tuple[Path, int, int]] = {}
    for path in sorted(wal_root.iterdir(), reverse=True):  # so that the one ahead, where it has rows, is a log's end
        name = paths.parse_segment_name(path.name)
        if name is not None and name.number is None and (end := _promised_end(path, ledger)) is not None:
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


async def _say(acknowledged: Subscription) -> None:
    async for item in acknowledged:
        if isinstance(item, Skipped):
            continue  # not said, so not asked for
        stream, batch = item
        numbers = batch["capture_seq"]
        first, last = numbers[0].as_py(), numbers[-1].as_py()
        if last - first + 1 != batch.num_rows:
            raise ValueError(f"{stream}: rows {first} to {last} have a hole")
        print(stream.schema, batch["capture_id"][0].as_py(), first, last, flush=True)


async def _record(wal_root: str, data_root: str, source: str) -> None:
    """Be the daemon: fast flushes and small segments, so that a kill meets all of them."""
    loaded = settings.load(
        wal_root=Path(wal_root), data_root=Path(data_root), flush_interval_sec=0.3, wal_segment_size_mb=1,
        wal_sync_interval_ms=5, use_s3=False, disk_reserve_mb=_RESERVE_MB,
    )  # fmt: skip
    daemon = Daemon(loaded, [source], speed=1)
    saying = asyncio.create_task(_say(daemon.bus.subscribe()))
    saying.add_done_callback(lambda _: daemon.stop())  # nobody listens any more
    await daemon.run(_LIFE_LIMIT_S)
    await saying


if __name__ == "__main__" and sys.stdin.readline() == "record\n":
    asyncio.run(_record(*sys.argv[1:]))

"""Runs the recorder once, cuts the power at every storage call, recovers, and checks what must never break.

I1  every acknowledged row is in Bronze after recovery, once
I2  nothing is in Bronze that was not appended, and nothing twice
I6  recovering again changes nothing in Bronze
I8  every visible part is whole
and a plain power cut is never reported as damage
"""

import asyncio
import copy
import hashlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster.bus import Bus
from spymaster.events import FUTURES_TRADES, REFERENCE_INSTRUMENTS, Stream
from spymaster.lake.captures import Capture
from spymaster.lake.catalog import Catalog
from spymaster.lake.recorder import Recorder
from spymaster.lake.recovery import recover
from tests.crash.disk import Call, Disk, materialize, recording
from tests.rows import delivered

TRADES, INSTRUMENTS = Stream("futures.trades", "ES"), Stream("reference.instruments", "ES")
CAPTURE = Capture(77, "sim", "sim", None, 1, (TRADES, INSTRUMENTS))
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # states are made and gone by thousands

Key = tuple[str, int, int]
State = dict[str, bytes | None]


class Trace(NamedTuple):
    """A run of the recorder: its storage calls, and which rows were appended and acknowledged by when.

    `appended` and `acknowledged` map each row's key to the number of calls made before it.
    """

    calls: list[Call]
    appended: dict[Key, int]
    acknowledged: dict[Key, int]


class _NotingBus(Bus):
    """A bus that notes how far the trace was when each row was published."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self.calls = calls
        self.acknowledged: dict[Key, int] = {}

    def publish(self, stream, batches) -> None:
        for batch in batches:
            for capture, seq in zip(batch["capture_id"].to_pylist(), batch["capture_seq"].to_pylist(), strict=True):
                self.acknowledged.setdefault((stream.schema, capture, seq), len(self.calls))


def run_recorder(flushes: int = 3) -> Trace:
    """Record rows of two streams over two hours, with commits, seals, flushes, retirements and a clean stop."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder, recording(root := Path(folder)) as made:
        bus = _NotingBus(made.calls)
        appended: dict[Key, int] = {}

        async def work() -> None:
            recorder = Recorder(root / "wal", root / "lake", bus=bus, flush_interval_s=300, segment_mb=256, sync_ms=1)
            await recorder.start()
            await recorder.begin(CAPTURE)
            rows = {stream: await recorder.capture_rows(stream, 77) for stream in CAPTURE.streams}
            step = 3_000_000  # milliseconds between batches, so that they cross the hour

            def append(number: int) -> None:
                for stream, schema in ((TRADES, FUTURES_TRADES), (INSTRUMENTS, REFERENCE_INSTRUMENTS)):
                    first = rows[stream].rows.next_seq
                    appended.update(dict.fromkeys(((stream.schema, 77, first + i) for i in range(3)), len(made.calls)))
                    rows[stream].append(delivered(schema, 3, number * step))

            for number in range(0, flushes * 3, 3):
                append(number)
                await asyncio.sleep(0.02)  # a group commit
                append(number + 1)
                for lane in recorder.lanes.values():
                    lane.log.seal()
                append(number + 2)  # the sealed segments have not got their names yet
                await recorder.flush()
            counts = {stream: own.rows.next_seq for stream, own in rows.items()}
            await recorder.end(CAPTURE, counts, complete=True, detail=None)
            await recorder.stop()

        asyncio.run(work())
    return Trace(made.calls, appended, bus.acknowledged)


def disk_after(calls: list[Call]) -> Disk:
    disk = Disk()
    for call in calls:
        disk.apply(call)
    return disk


def fingerprint(state: State) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(state):
        content = state[path]
        digest.update(f"{path}\0{'' if content is None else len(content)}\0".encode() + (content or b""))
    return digest.digest()


def crash_states(trace: Trace, limit: int, seed: int) -> Iterator[tuple[int, State, Disk | None]]:
    """Yield distinct states that a kill or a power cut may leave: the calls before it, the state, and a kill's disk.

    After a kill what was not synced is visible and may still be lost to a later power cut, so the disk goes with it.
    """
    chance = random.Random(seed)
    seen: set[bytes] = set()
    disk = Disk()
    for number in range(len(trace.calls) + 1):
        candidates: list[tuple[State, Disk | None]] = [(disk.killed(), disk)]
        for ordered in (False, True):
            candidates += [(state, None) for state in disk.states(chance, limit, ordered=ordered)]
        for state, killed in candidates:
            mark = fingerprint(state)
            if mark not in seen:
                seen.add(mark)
                yield number, state, killed
        if number < len(trace.calls):
            disk.apply(trace.calls[number])


def bronze_keys(root: Path) -> tuple[Counter[Key], str]:
    """Read every visible part; return how often each row stands in Bronze, and a hash of all parts."""
    keys: Counter[Key] = Counter()
    digest = hashlib.sha256()
    for path in sorted((root / "lake" / "bronze").rglob("part-*.parquet")):
        if path.name.startswith("."):
            continue
        relative = path.relative_to(root / "lake" / "bronze")
        content = path.read_bytes()
        schema = ".".join(relative.parts[:2])
        keys.update((schema, *key) for key in _keys(content))
        digest.update(str(relative).encode() + content)
    return keys, digest.hexdigest()


@lru_cache(maxsize=1_000)  # most parts of most states are the same
def _keys(content: bytes) -> list[tuple[int, int]]:
    """Read a part whole, and return its rows' (`capture_id`, `capture_seq`)."""
    rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    return list(zip(rows["capture_id"].to_pylist(), rows["capture_seq"].to_pylist(), strict=True))


def run_recovery(root: Path) -> int:
    """Recover as the daemon does at its start; return the exit code."""
    (root / "wal").mkdir(exist_ok=True)
    catalog = Catalog(root / "lake")
    try:
        return recover(root / "wal", catalog, root / "lake" / "bronze", run_capture=99).exit_code
    finally:
        catalog.close()


def violation(
    state: State, acknowledged: set[Key], appended: set[Key], nested: int, seed: int, killed: Disk | None = None
) -> tuple[str | None, int]:
    """Recover from a state and say what broke, if anything did.

    With `nested`, the recovery itself is cut at every one of its calls, `nested` states each, and so on three deep. A
    kill loses no row whose append had returned; a power cut in the recovery after it may, unless it was acknowledged.

    Returns:
        The violation, and how many nested states were tried.
    """
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        root = Path(folder)
        materialize(state, root)
        disk = Disk.holding(state) if killed is None else copy.deepcopy(killed)
        try:
            with recording(root, disk.next_inode) as made:
                code = run_recovery(root)
            keys, before = bronze_keys(root)
            found = _judge(keys, acknowledged if killed is None else appended, appended)
            if found is None and code != 0:
                found = f"a power cut was reported as damage (exit {code})"
            if found is None and not nested:
                run_recovery(root)
                if bronze_keys(root)[1] != before:
                    found = "recovering again changed Bronze"
        except Exception as error:  # noqa: BLE001  # whatever escapes recovery is the finding
            return f"{type(error).__name__}: {error}", 0
    tried = 0
    if found is None and nested:
        chance = random.Random(seed)
        for call in made.calls:
            disk.apply(call)
            for below in disk.states(chance, max(nested, 2), ordered=bool(chance.getrandbits(1))):
                deeper = 2 if nested > 2 and chance.random() < 0.02 else 0
                tried += 1
                found, more = violation(below, acknowledged, appended, deeper, chance.getrandbits(32))
                tried += more
                if found is not None:
                    return f"after a cut in recovery at {call.name} {call.target or call.path}: {found}", tried
    return found, tried


def _judge(keys: Counter[Key], acknowledged: set[Key], appended: set[Key]) -> str | None:
    market = {key: count for key, count in keys.items() if not key[0].startswith("system.")}
    if lost := acknowledged - keys.keys():
        return f"{len(lost)} acknowledged rows are lost, e.g. {min(lost)}"
    if doubled := [key for key, count in keys.items() if count > 1]:
        return f"{len(doubled)} rows stand twice, e.g. {min(doubled)}"
    if invented := market.keys() - appended:
        return f"{len(invented)} rows were never appended, e.g. {min(invented)}"
    return None


def explore(trace: Trace, limit: int, nested: int, seed: int) -> tuple[int, int, str | None]:
    """Try every crash state; stop at the first violation.

    Returns:
        Distinct states, nested states, and the violation with the call before it.
    """
    states = deeper = 0
    chance = random.Random(seed)
    for number, state, killed in crash_states(trace, limit, seed):
        # An append is one call, so before the first call after it the row may be there or not.
        appended = {key for key, at in trace.appended.items() if at < number or (killed is None and at == number)}
        acknowledged = {key for key, at in trace.acknowledged.items() if at <= number}
        # Nested crashes for a sample: each costs as much as a state, at every call of a recovery.
        depth = nested if chance.random() < (0.02 if killed else 0.005) else 0
        found, tried = violation(state, acknowledged, appended, depth, chance.getrandbits(32), killed)
        states, deeper = states + 1, deeper + tried
        if found is not None:
            call = trace.calls[number - 1] if number else None
            return (
                states,
                deeper,
                f"cut after call {number} ({call and call.name} {call and (call.target or call.path)}): {found}",
            )
    return states, deeper, None

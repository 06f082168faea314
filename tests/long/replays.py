"""A session that goes wrong in every way it may, replayed: `python -m tests.long replay`, half an hour of a market, and
`python -m tests.long session`, six and a half.

Daemons in processes of their own record a simulated market, one after another (`LEGS`), and judge it by SIM: events
come late and twice, books cross, hot zones are set, moved and removed. One is killed in the middle of a minute, the
next while it warms up, and one more; between two nobody listens. One's disk is full for a while, so that it gives up
rows. One has more to judge than the bus holds, so that it reads the log again. One is stopped in order, and so is the
last, which makes good what kills took from Gold.

Then `replay --check` has to find all of Gold the same, and `verify` nothing; and in Gold, counted by other code, each
snap that was published stands with each level once, and none that lies where nobody listened is said to be sound.

A disk that is full takes root, to mount one that is small; else the log is where the lake is, and no row is given up.
"""

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from spymaster import clock, control
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.profile import profile_named
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.errors import ControlError
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, SYSTEM_GAPS
from spymaster.lake import gold
from spymaster.query.lake import Lake
from spymaster.query.sessions import session_of_date
from spymaster.signals.chain import Chain, chains_of
from spymaster.signals.check import check
from spymaster.signals.replay import MOST_VOIDS, replay
from tests.command_line import Done, clean_environment, spymaster
from tests.small_disk import SmallDisk, small_disk

DATE: Final = "2025-12-02"
PROFILE: Final = profile_named("SIM")
UNDERLYING: Final = PROFILE.market.underlying
RATE, HIGH_RATE = 300, 1_500
SPEED: Final = 20
PLANTED: Final = "late+repeats+crossed+sweeps"
HOLE_NS: Final = 7 * NS_PER_SECOND + 123_456_789  # between two daemons; nobody listens
LOG_MB, RESERVE_MB = 96, 8
FULL_S: Final = 1.0
LEAST_NS: Final = 20 * NS_PER_SECOND  # that a judge judges, though it came late to it
PATIENCE_S: Final = 120  # without a snap more
MINUTE_NS: Final = 60 * NS_PER_SECOND

Findings = Iterator[str]
STOP, KILL, KILL_WARMING = "stop", "kill -9", "kill -9 while it warms up"


class Leg(NamedTuple):
    """One daemon's life.

    Attributes:
        end: STOP, KILL in the middle of a minute, or KILL_WARMING.
        part: of the whole's event time; 0 where it is over before it judges.
        rate: of its market.
        bus_mb: what may wait for its judge.
        full: whether its log's disk is full for a while.
    """

    end: str
    part: float
    rate: int = RATE
    bus_mb: int = 256
    full: bool = False


LEGS: Final = (
    Leg(KILL, 0.25),
    Leg(KILL_WARMING, 0),
    Leg(STOP, 0.3, full=True),
    Leg(KILL, 0.15, rate=HIGH_RATE, bus_mb=1),
    Leg(STOP, 0.3),
)


@dataclass
class Found:
    """What came of it.

    Attributes:
        seconds: of event time that was recorded.
        took_s: of wall time, until the last daemon ended.
        kills: daemons that were killed.
        read_again: rows that the bus skipped, and the log had.
        late: rows that came after the snap of their time.
        snaps: that were published.
        void: of these, those that were void.
        warm: snaps that were worked and not published.
        zones: snaps that had a hot zone in sight.
        rows: of Gold.
        same: recorded parts that a replay has, byte for byte.
        holes: spans in which nobody listened.
        given_up: spans of which a full disk took no rows.
        small_disk: whether one could be had.
        findings: one line for all that is wrong.
    """

    seconds: float = 0.0
    took_s: float = 0.0
    kills: int = 0
    read_again: int = 0
    late: int = 0
    snaps: int = 0
    void: int = 0
    warm: int = 0
    zones: int = 0
    rows: int = 0
    same: int = 0
    holes: int = 0
    given_up: int = 0
    small_disk: bool = False
    findings: list[str] = field(default_factory=list)


class Roots(NamedTuple):
    """The lake and its log."""

    data: Path
    wal: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return the settings of whoever works there."""
        return clean_environment(
            DATA_ROOT=str(self.data), WAL_ROOT=str(self.wal), PROFILE=PROFILE.name, FLUSH_INTERVAL_SEC="1",
            DISK_RESERVE_MB=str(RESERVE_MB), **more,
        )  # fmt: skip

    def command(self, *words: str) -> Done:
        return spymaster(*words, environment=self.environment(), folder=self.data)

    def newest_ns(self) -> int:
        """Return the newest time of the book; 0 if there is none."""
        with Lake(self.data, self.wal) as lake, lake.stream("select max(ts_event_ns) from futures_mbp10", []) as rows:
            return rows.read_all()[0][0].as_py() or 0


def live_through(minutes: float, folder: Path, advance: Callable[[int, int], None] = lambda done, total: None) -> Found:
    """Record, break off, go on, and replay.

    Args:
        minutes: of event time, of all daemons.
        folder: an empty one.
        advance: is told of seconds recorded, and of how many.
    """
    found, session = Found(), session_of_date(DATE, PROFILE.market.calendar)
    assert session is not None
    with ExitStack() as stack:
        disk = _small_disk(stack, folder)
        found.small_disk = disk is not None
        roots = Roots(folder / "lake", (folder if disk is None else disk.root) / "wal")
        roots.data.mkdir()
        began_s, total = time.monotonic(), round(minutes * 60)
        begin_ns = session.begin_ns + 10 * NS_PER_SECOND
        for leg in LEGS:
            first_ns = begin_ns
            _live(leg, roots, disk, begin_ns, total, found)
            begin_ns = max(roots.newest_ns() + HOLE_NS, begin_ns + NS_PER_SECOND)
            found.seconds += (begin_ns - HOLE_NS - first_ns) / NS_PER_SECOND
            advance(round(found.seconds), total)
        found.took_s = time.monotonic() - began_s
        _judge(roots, session, found)
    return found


def _small_disk(stack: ExitStack, folder: Path) -> SmallDisk | None:
    try:
        return stack.enter_context(small_disk(folder / "disk", LOG_MB))
    except pytest.skip.Exception:
        return None


def _live(leg: Leg, roots: Roots, disk: SmallDisk | None, begin_ns: int, total_s: int, found: Found) -> None:
    """Let a daemon live."""
    start = f"start={begin_ns},rate={leg.rate},seed={begin_ns % 1_009},plant={PLANTED}"
    with (roots.data.parent / "daemons.log").open("ab") as journal:
        process = subprocess.Popen(
            [sys.executable, "-m", "spymaster", "run", "--json", f"--source=sim-es:{start}", f"--speed={SPEED}"],
            env=roots.environment(BUS_MAX_MB=str(leg.bus_mb)), stdout=subprocess.PIPE, stderr=journal, process_group=0,
        )  # fmt: skip
    try:
        if leg.end == KILL_WARMING:
            _until(process, roots, lambda judge: judge["state"] == "warming up")
        else:
            _lived(leg, process, roots, disk, begin_ns + round(leg.part * total_s) * NS_PER_SECOND, found)
        if leg.end == STOP:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
            if process.returncode not in {0, int(leg.full and disk is not None)}:  # 1 says that rows were given up
                found.findings.append(f"a daemon that was asked to stop exits with {process.returncode}")
        else:
            found.kills += 1
    finally:
        process.kill()
        process.communicate()


def _lived(leg: Leg, process: Any, roots: Roots, disk: SmallDisk | None, end_ns: int, found: Found) -> None:
    """Wait for a leg's end, and do meanwhile what its user and its disk do."""
    snap = _until(process, roots, lambda judge: judge["snap_ns"] is not None and judge["state"] == "judging")
    first_ns = snap["snap_ns"]
    _use_zones(roots)
    end_ns = max(end_ns, first_ns + LEAST_NS)
    if leg.full and disk is not None:
        _passed(process, roots, first_ns + (end_ns - first_ns) // 3)
        disk.leave(0)
        time.sleep(FULL_S)
        disk.free()
        judge = _until(process, roots, lambda judge: "gap.recorded" in _journal(roots))
        end_ns = max(end_ns, judge["snap_ns"] + LEAST_NS)
    judge = _passed(process, roots, end_ns)
    if leg.end == KILL:
        middle = range(15 * NS_PER_SECOND, 45 * NS_PER_SECOND)
        judge = _until(process, roots, lambda judge: (judge["snap_ns"] or 0) % MINUTE_NS in middle)
    found.read_again += judge["read_again_rows"]


def _journal(roots: Roots) -> str:
    return (roots.data.parent / "daemons.log").read_text()


def _passed(process: Any, roots: Roots, at_ns: int) -> Mapping[str, Any]:
    return _until(process, roots, lambda judge: (judge["snap_ns"] or 0) >= at_ns)


def _until(process: Any, roots: Roots, true: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """Wait for something of the judge; return what it says of itself."""
    waited_s, newest = time.monotonic(), None
    while time.monotonic() - waited_s < PATIENCE_S:
        assert process.poll() is None, f"a daemon ended by itself: {roots.data.parent / 'daemons.log'}"
        try:
            status = control.ask(roots.wal, "status")
        except ControlError:
            status = None  # it is slow
        if status is not None:
            judge: Mapping[str, Any] = status["judge"]
            if true(judge):
                return judge
            if judge["snap_ns"] != newest:
                waited_s, newest = time.monotonic(), judge["snap_ns"]
        time.sleep(0.02)
    raise TimeoutError(f"no snap for {PATIENCE_S} s: {roots.data.parent / 'daemons.log'}")


def _use_zones(roots: Roots) -> None:
    """Set a hot zone near the price, move it, and set and remove another."""
    snap = control.ask(roots.wal, "signals")
    assert snap is not None
    spot = snap[UNDERLYING.lower()]["spot"] or 6_900.0
    for words in (
        ("add", "near", f"{spot + 0.75:g}"), ("add", "gone", f"{spot - 1:g}"), ("add", "near", f"{spot + 0.5:g}"),
        ("remove", "gone"),
    ):  # fmt: skip
        done = roots.command("zone", *words)
        assert done.returncode == 0, done.stderr


def _judge(roots: Roots, session: Session, found: Found) -> None:
    """Replay what was recorded, by the command and here, and count what Gold has."""
    done = roots.command("replay", "--date", DATE, "--check", "--json")
    if done.returncode:
        found.findings.append(f"replay exits with {done.returncode}: {done.stdout[-2_000:]}{done.stderr}")
    found.findings += _named(done)
    published: list[Snap] = []
    made = replay(roots.data, roots.wal, PROFILE, session, shown=published.append)
    checked = check(roots.data, made.folder, PROFILE, session)
    found.same = checked.same_bytes
    if checked.different or checked.other or checked.same != checked.same_bytes:
        found.findings.append(f"checked here, Gold is not the same: {checked}")
    if done.returncode == 0 and made.certificate != done.document["certificate"]:
        found.findings.append("the command's certificate is another one than was made here")
    found.snaps, found.void = len(published), sum(snap.void_reason is not None for snap in published)
    found.late = 0 if not published else sum(published[-1].counters.late.values())
    (*earlier, chain) = chains_of(roots.data, roots.wal, PROFILE.name, session)
    if earlier:
        found.findings.append(f"there are {len(earlier) + 1} sequences of snaps, of one code and one profile")
    parts = gold.begun_within(roots.data, UNDERLYING, session.begin_ns, session.end_ns)
    rows = pa.concat_tables([gold.read(part) for part in parts.values()])
    found.rows, found.warm = rows.num_rows, int(chain.warm.sum())
    found.zones = sum("HOTZONE_near" in names for names in rows["level_ids"].to_pylist())
    found.findings += of_gold(chain, rows, published)
    gaps, holes = missing_spans(roots, chain)
    found.given_up, found.holes = len(gaps), len(holes)
    reasons = {snap.snap_ns: snap.void_reason for snap in published}
    found.findings += of_gaps(chain, [*gaps, *holes], reasons, made.certificate["void"]["named"])
    verified = roots.command("verify")
    if verified.returncode:
        found.findings.append(f"verify exits with {verified.returncode}: {verified.stdout[-2_000:]}{verified.stderr}")


def _named(done: Done) -> Findings:
    for one in json.loads(done.stdout or "{}").get("check", {}).get("differences", []):
        yield f"{one['part']}: {one['what']}"


def of_gold(chain: Chain, rows: pa.Table, published: Sequence[Snap]) -> Findings:
    """Say what stands twice in Gold, and which snaps on record it lacks.

    Args:
        chain: the snaps on record.
        rows: of Gold.
        published: by a replay.
    """
    keys = set(zip(rows["ts_event_ns"].to_pylist(), rows["level_id"].to_pylist(), strict=True))
    if len(keys) != rows.num_rows:
        yield f"{rows.num_rows - len(keys)} rows of Gold have a snap and a level that another has"
    recorded, there = set(chain.snap_ns[~chain.warm].tolist()), {at for at, _ in keys}
    bare = {snap.snap_ns for snap in published if not snap.levels.num_rows}
    if recorded != {snap.snap_ns for snap in published}:
        yield "a replay publishes other snaps than are on record"
    if lacks := recorded - there - bare:
        yield f"{len(lacks)} snaps on record have levels, and no Gold; the first is {clock.utc_text(min(lacks))}"
    if strange := there - recorded:
        yield f"{len(strange)} snaps of Gold are not on record; the first is {clock.utc_text(min(strange))}"


_GAPS: Final = """
    select start_ns, end_ns, capture_id, capture_seq from system_gaps
    where of_schema in (?, ?) and start_ns is not null and end_ns is not null
"""
_CAPTURES: Final = """
    select min(ts_event_ns), max(ts_event_ns), capture_id from bronze_futures_mbp10 group by capture_id order by 1
"""


class Span(NamedTuple):
    """Time of which rows are missing; `known` is the number of the first snap that had seen so."""

    begin_ns: int
    end_ns: int
    known: int


def missing_spans(roots: Roots, chain: Chain) -> tuple[list[Span], ...]:
    """Return where rows were given up, and where nobody listened."""
    with Lake(roots.data, roots.wal) as lake:
        with lake.stream(_GAPS, [FUTURES_MBP10.name, FUTURES_TRADES.name]) as rows:
            gaps = [tuple(row.values()) for row in rows.read_all().to_pylist()]
        with lake.stream(_CAPTURES, []) as rows:
            captures = [tuple(row.values()) for row in rows.read_all().to_pylist()]
    holes = [(end, begin, capture, 0) for (_, end, _), (begin, _, capture) in itertools.pairwise(captures)]
    return tuple(
        [Span(begin, end, _known(chain, schema, capture, seq)) for begin, end, capture, seq in found]
        for schema, found in ((SYSTEM_GAPS.name, gaps), (FUTURES_MBP10.name, holes))
    )


def _known(chain: Chain, schema: str, capture_id: int, seq: int) -> int:
    """Return the number of the first snap that had seen a row; how many there are if none had."""
    track = chain.tracks.get((schema, capture_id))
    seen = [] if track is None else track.at[np.searchsorted(track.last_seq, seq) :].tolist()
    return seen[0] if seen else len(chain.snap_ns)


def of_gaps(chain: Chain, spans: Iterable[Span], reasons: Mapping[int, str | None], named: Sequence[Any]) -> Findings:
    """Say where a snap is sound that lies where rows are missing, or is the first one after, though it had seen so.

    Args:
        chain: the snaps on record.
        spans: where rows are missing.
        reasons: why those published are void, by their times; None for sound ones.
        named: the certificate's void spans.
    """
    for begin_ns, end_ns, known in spans:
        first, last = np.searchsorted(chain.snap_ns, [begin_ns, end_ns]).tolist()
        within = chain.snap_ns[max(first, known) : max(last, known) + 1].tolist()
        published = [at for at in within if at in reasons]
        sound = [at for at in published if reasons[at] is None]
        unnamed = [at for at in published if not any(one["first_ns"] <= at <= one["last_ns"] for one in named)]
        if sound or (unnamed and len(named) < MOST_VOIDS):
            span = f"{clock.utc_text(begin_ns)} to {clock.utc_text(end_ns)}"
            at = clock.utc_text((sound or unnamed)[0])
            yield f"no rows came from {span}, and the snap at {at} is {'sound' if sound else 'not named as void'}"

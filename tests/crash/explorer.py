"""Cuts the power at every storage call of a trace, recovers, cuts that short too, and checks what must never break.

A state is recovered by the command, or started on by the recorder, which records more rows of the same streams and
reads its file again while what the crash left goes to Bronze behind; for these rows, too, holds what is promised.

I1   every acknowledged row is in Bronze after recovery, once; after a kill every appended one
I2   nothing is in Bronze that was not appended, and nothing twice
I3   a row is acknowledged only after a sync of its bytes and of its segment's name
I6   recovering again changes nothing in Bronze
I7   a part that was visible is never changed, replaced or removed, but where the archive has it, durable and named
I8   every visible part is whole
I10  a segment goes only once its rows are durable elsewhere
I11  a sync that failed is never passed over
I14  bytes that do not read are kept, and their rows come back into Bronze, once, if they read well later
and by name: *numbers*, of a stream's segments none is used twice; *proof*, `verify` has no finding after a power cut or
kill; *end row*, which is never there without the rows it counts; *false alarm*, a plain power cut is never
reported as damage; *damage* to rows that can be known to have been acknowledged is reported, and costs no other row.

The exploration is a search: a node is a disk (what is durable, what only visible), an edge one call of a recovery and
then a kill or a cut. A state whose fingerprint was met before is not tried again for the same promise.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import paths
from spymaster.errors import WalError
from spymaster.events import SCHEMAS, SYSTEM_CAPTURES, SYSTEM_GAPS, Stream
from spymaster.proof.verify import verify
from spymaster.wal.segment import Frame, decode_header, decode_rows, scan
from tests.crash.disk import Call, Disk, State
from tests.crash.scratch import BRONZE, Key, Outcome, Scratch
from tests.crash.workload import Trace, keys_of, run_start

ARCHIVE = "lake/archive/bronze/"
MOST_DEEP = 3  # recoveries that are cut in a row
CUT_OF_START = 0.15  # of its calls: it makes that many more than a recovery
STRIDE = 8  # what breaks, breaks for a while: a defect is found sooner than call by call


class Violation(Exception):  # noqa: N818  # a finding, not an error of the explorer
    """An invariant broke. Its notes say after which calls."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(invariant, what)
        self.invariant = invariant


class Plan(NamedTuple):
    """How much to try.

    Attributes:
        cuts: power cuts per call and per model of a directory.
        nested: share of the states whose recovery is cut at every call; at one of them the next recovery is cut too.
        nested_cuts: power cuts per call of such a recovery, beside a kill.
        again: share of the states that are recovered twice.
        damaged: share of the states that are also damaged.
        refused: share of the states whose recovery also meets a sync that fails.
        started: share of the states on which the recorder itself starts; the others are only recovered.
        cut_starts: and of those that are cut or damaged.
        verified: share of these after which `verify` has its say.
    """

    cuts: int = 2
    nested: float = 0.02
    nested_cuts: int = 1
    again: float = 0.05
    damaged: float = 0.05
    refused: float = 0.02
    started: float = 0.005
    cut_starts: float = 0.05
    verified: float = 0.1


class Promise(NamedTuple):
    """What Bronze has to hold after recovery.

    Attributes:
        acknowledged: what no power cut may take.
        appended: what no kill may take.
        begun: all that may be there.
        spoiled: what was damaged, and so may be missing.
        plain: whether nothing was damaged, so that nothing may be reported.
    """

    acknowledged: frozenset[Key]
    appended: frozenset[Key]
    begun: frozenset[Key]
    counted: dict[Key, frozenset[Key]]
    spoiled: frozenset[Key] = frozenset()
    plain: bool = True

    def and_of(self, outcome: Outcome, number: int | None = None) -> "Promise":
        """Return what holds after so many calls of a recovery, or all: of a start, also of what it recorded."""
        if outcome.trace is None:
            return self
        own = promised(outcome.trace, len(outcome.calls) if number is None else number)
        return self._replace(
            acknowledged=self.acknowledged | own.acknowledged,
            appended=self.appended | own.appended,
            begun=self.begun | own.begun,
            counted=self.counted | own.counted,
        )


class Explorer:
    """Tries the states of one trace.

    Attributes:
        distinct: fingerprints of the states of the trace that were recovered.
        nested: fingerprints of the states in which a recovery was cut.
        deepest: the most recoveries in a row that were cut.
        starts: how often the recorder was started on a state.
    """

    def __init__(self, scratch: Scratch, trace: Trace, plan: Plan, seed: int) -> None:
        self.distinct: set[bytes] = set()
        self.nested: set[bytes] = set()
        self.deepest = self.starts = 0
        self._scratch, self._trace, self._plan = scratch, trace, plan
        market = {capture for schema, capture, _ in trace.begun if not schema.startswith("system.")}
        self._exact = len(market) == 1 and all(call.name != "sync_failed" for call in trace.calls)
        self._announced = any(schema == SYSTEM_CAPTURES.name for schema, _, _ in trace.begun)
        self._chance = random.Random(seed)
        self._tried: set[tuple[bytes, frozenset[Key]]] = set()

    def explore(self, enough: Callable[[], bool] = lambda: False, first: int = 0) -> None:
        """Try the states after every call, until that is `enough`: first every eighth call, then those between.

        Args:
            enough: asked after each call.
            first: the call after which to begin.

        Raises:
            Violation: the first that is found.
        """
        for offset in range(STRIDE):
            disk = Disk()
            for number in range(len(self._trace.calls) + 1):
                call = self._trace.calls[number - 1] if number else None
                crash = number >= first and number % STRIDE == offset
                try:
                    self._after(disk, call, number, crash=crash, check=offset == 0)
                except Violation as violation:
                    violation.add_note(f"after call {number} of the recorder: {call}")
                    raise
                if enough():
                    return

    def _after(self, disk: Disk, call: Call | None, number: int, *, crash: bool, check: bool) -> None:
        if call is not None:
            if check:
                check_call(disk, call)
            disk.apply(call)
        promise = promised(self._trace, number)
        if check:
            check_acknowledged(disk, promise.acknowledged)
        if crash:
            self._crash(disk, promise)

    def _crash(self, disk: Disk, promise: Promise) -> None:
        # An append is one call, so in a cut before the first call after it the row may be there or not.
        self._state(disk.restarted(), promise, promise.appended)
        check_recovery(disk, self._scratch.recover(disk.killed()))
        cuts = [disk.durable()]
        for ordered in (False, True):
            cuts += [disk.cut(self._chance, ordered=ordered) for _ in range(self._plan.cuts)]
        for state in cuts:
            self._state(Disk.holding(state), promise, promise.acknowledged)

    def _state(
        self, disk: Disk, promise: Promise, must: frozenset[Key], deep: int = 0, *, deeper: bool = False
    ) -> None:
        """Try one crash state.

        Args:
            disk: what is visible on it, and what is durable.
            promise: what was promised.
            must: the rows that have to be there.
            deep: how many recoveries were cut on the way.
            deeper: whether to cut the recovery of this one at each of its calls.
        """
        state = disk.killed()
        mark = self._scratch.fingerprint(state)
        if any(state.values()):  # else two workloads have it in common
            (self.nested if deep else self.distinct).add(mark)
        if (mark, must) in self._tried:
            return
        self._tried.add((mark, must))
        self.deepest = max(self.deepest, deep)
        plan, draw = self._plan, self._chance.random
        cut = deep < MOST_DEEP and (deeper or (deep == 0 and draw() < plan.nested))
        outcome = self._recovered(state, promise, must, plan.cut_starts if cut else plan.started)
        if deep < MOST_DEEP:
            if cut:
                self._cut_short(disk, outcome, promise, must, deep)
            if draw() < plan.refused:
                self._refuse(disk, outcome, promise, must, deep)
        if deep == 0:
            if draw() < plan.again:
                self._again(outcome)
            if draw() < plan.damaged:
                self._damage(state, outcome, promise, must)

    def _recovered(self, state: State, promise: Promise, must: frozenset[Key], starts: float) -> Outcome:
        """Recover a state, by the command or in a share of cases by a start, and judge what that did."""
        if self._chance.random() >= starts:
            outcome = self._scratch.recover(state)
            judge(state, outcome, promise, must)
            return outcome
        try:
            outcome = self._started(state, promise, must)
            if self._announced and promise.plain and self._chance.random() < self._plan.verified:
                findings = verify(self._scratch.root / "wal", self._scratch.root / "lake").findings
                if findings:
                    raise Violation("proof", f"verify finds {findings}")
        except Violation as violation:
            violation.add_note("by a start that records meanwhile")
            raise
        return outcome

    def _started(
        self, state: State, promise: Promise, must: frozenset[Key], failing_sync: int | None = None
    ) -> Outcome:
        """Start on a state and judge that; not where a sync fails, as rows may wait in a poisoned segment then."""
        outcome = run_start(self._scratch, state, self._trace, self._chance, failing_sync)
        self.starts += 1
        if failing_sync is None:
            promise = promise.and_of(outcome)
            read = self._trace.file.keys if self._trace.file is not None and outcome.file_read else frozenset()
            judge(state, outcome, promise, must | outcome.trace.appended.keys() | read)
        return outcome

    def _again(self, outcome: Outcome) -> None:
        again = self._scratch.recover(outcome.after)
        if again.error is not None or parts_of(again.after) != parts_of(outcome.after):
            raise Violation("I6", f"recovering again changed Bronze, or raised {again.error}")

    def _cut_short(self, disk: Disk, outcome: Outcome, promise: Promise, must: frozenset[Key], deep: int) -> None:
        """Cut a recovery at each of its calls, a start at some: kill it there, or cut the power."""
        disk = disk.restarted()
        first = disk.next_inode
        dive = self._chance.randrange(len(outcome.calls) or 1)
        for number, call in enumerate(outcome.calls):
            try:
                check_call(disk, call, promise.spoiled)
                disk.apply(call, first)
                own = promise.and_of(outcome, number + 1)
                if outcome.trace is not None:
                    check_acknowledged(disk, own.acknowledged - own.spoiled)
                    if number != dive and self._chance.random() > CUT_OF_START:
                        continue
                kept = must | (own.appended - promise.appended)
                killed = self._chance.random() < 0.5
                self._state(disk.restarted(), own, kept, deep + 1, deeper=number == dive and killed)
                for _ in range(self._plan.nested_cuts):
                    cut = Disk.holding(disk.cut(self._chance, ordered=self._chance.random() < 0.5))
                    self._state(cut, own, own.acknowledged, deep + 1, deeper=number == dive and not killed)
            except Violation as violation:
                violation.add_note(f"in a recovery, after {call}")
                raise

    def _refuse(self, disk: Disk, outcome: Outcome, promise: Promise, must: frozenset[Key], deep: int) -> None:
        """Let one sync of a recovery fail, and then kill it or cut the power."""
        syncs = sum(call.name in ("sync", "sync_directory") for call in outcome.calls)
        if syncs == 0:
            return
        failing = self._chance.randint(1, syncs)
        if outcome.trace is None:
            refused = self._scratch.recover(disk.killed(), failing)
            if refused.error is None or not refused.error.startswith(("OSError", "StorageError")):
                raise Violation("I11", f"a recovery whose sync failed ended with {refused.error or refused.exit_code}")
        else:  # rows go to another segment, a part is written again; some syncs no recorder can do without
            refused = self._started(disk.killed(), promise, must, failing)
            if refused.error is not None and not refused.error.startswith(
                ("OSError", "StorageError", "BronzeRefused", "DiskFull")
            ):
                raise Violation("I11", f"a start whose sync failed ended with {refused.error}")
            must |= frozenset(refused.trace.appended)
            promise = promise.and_of(refused)
        disk = disk.restarted()
        first = disk.next_inode
        for call in refused.calls:
            disk.apply(call, first)
        try:
            self._state(disk.restarted(), promise, must, deep + 1)
            self._state(Disk.holding(disk.durable()), promise, promise.acknowledged, deep + 1)
            self._state(Disk.holding(disk.cut(self._chance, ordered=False)), promise, promise.acknowledged, deep + 1)
        except Violation as violation:
            violation.add_note(f"in a recovery whose sync {failing} failed")
            raise

    def _damage(self, state: State, outcome: Outcome, promise: Promise, must: frozenset[Key]) -> None:
        """Damage one file of the log, wherever its bytes have a name."""
        segments = sorted(path for path, content in state.items() if _is_segment(path) and content)
        if not segments:
            return
        damage = damaged(state, self._chance.choice(segments), self._chance)
        spoiled = promise._replace(spoiled=damage.spoiled, plain=False)
        try:
            after = self._recovered(damage.state, spoiled, must, self._plan.cut_starts)
            sound = outcome if outcome.trace is None else self._scratch.recover(state)  # a start reads lost rows again
            check_damage(damage, sound, after, promise.begun, must, exact=self._exact)
            if self._chance.random() < self._plan.nested:
                self._cut_short(Disk.holding(damage.state), after, spoiled, must, 0)
            if damage.spoiled:
                healed = {path: damage.whole if was == damage.broken else was for path, was in after.after.items()}
                judge(healed, self._scratch.recover(healed), promise.and_of(after), must)
        except Violation as violation:
            violation.add_note(f"with damage: {damage.what}")
            raise


def promised(trace: Trace, number: int) -> Promise:
    """Return what holds after `number` calls of a trace."""
    return Promise(
        acknowledged=frozenset(key for key, at in trace.acknowledged.items() if at <= number),
        appended=frozenset(key for key, at in trace.appended.items() if at <= number),
        begun=frozenset(key for key, at in trace.begun.items() if at <= number),
        counted=trace.counted,
    )


def judge(state: State, outcome: Outcome, promise: Promise, must: frozenset[Key]) -> None:
    """Compare what a recovery did with what was promised of its state.

    Raises:
        Violation: it broke a promise.
    """
    bronze_rows(state)
    if outcome.error is not None:
        raise Violation("recovery", f"it raised {outcome.error}")
    before, after = parts_of(state), parts_of(outcome.after)
    if changed := [path for path in before if after.get(path) != before[path]]:
        raise Violation("I7", f"{min(changed)} was changed or removed")
    rows = bronze_rows(outcome.after)
    if lost := must - rows.keys() - promise.spoiled:
        raise Violation("I1", f"{len(lost)} rows are lost, e.g. {min(lost)}")
    if doubled := [key for key, count in rows.items() if count > 1]:
        raise Violation("I2", f"{len(doubled)} rows stand twice, e.g. {min(doubled)}")
    if invented := {key for key in rows if key[0] != SYSTEM_GAPS.name} - promise.begun:
        raise Violation("I2", f"{len(invented)} rows were never appended, e.g. {min(invented)}")
    for end, counted in promise.counted.items():
        if end in rows and (absent := counted - rows.keys() - promise.spoiled):
            raise Violation("end row", f"it is there without {len(absent)} rows that it counts, e.g. {min(absent)}")
    if promise.plain:  # else a number may have gone with its header
        check_numbers(state, outcome.calls)
    if outcome.exit_code != 0 and promise.plain:
        raise Violation("false alarm", f"a power cut was reported as damage (exit {outcome.exit_code})")


def check_numbers(state: State, calls: list[Call]) -> None:
    """Check that each sealed name that is given has a number above all of its stream, and is given once.

    Args:
        state: what was there before.
        calls: what was done.
    """
    highest: dict[str, int] = {}
    for path, content in state.items():
        if _is_segment(path):
            name = paths.parse_segment_name(path.rpartition("/")[2])
            if not name.ahead:  # one that is made ahead of need and never used gives its number back
                highest[name.stem] = max(highest.get(name.stem, 0), name.number or 0, _number_in(content))
    for call in calls:
        if call.name == "link" and _is_segment(call.target):
            name = paths.parse_segment_name(call.target.rpartition("/")[2])
            if name.number <= highest.get(name.stem, 0):
                raise Violation("numbers", f"{call.target} has a number that was used before")
            highest[name.stem] = name.number


@lru_cache(maxsize=2_000)
def _number_in(content: bytes) -> int:
    with suppress(WalError):
        return decode_header(memoryview(content))[0].number
    return 0


def check_acknowledged(disk: Disk, acknowledged: frozenset[Key]) -> None:
    """Check I3 without any recovery: what no cut can take holds every acknowledged row."""
    held = rows_of(disk.durable())
    if early := acknowledged - held:
        raise Violation("I3", f"{len(early)} rows were acknowledged before they were durable, e.g. {min(early)}")


def check_recovery(disk: Disk, outcome: Outcome) -> None:
    """Check every call of a recovery after a kill, where much of what it finds may still be lost."""
    disk = disk.restarted()
    first = disk.next_inode
    for call in outcome.calls:
        check_call(disk, call)
        disk.apply(call, first)


def check_call(disk: Disk, call: Call, spoiled: frozenset[Key] = frozenset()) -> None:
    """Check a call that takes a name away, before it is made: I7 of a part, I10 of a segment."""
    gone = call.target if call.name == "replace" else call.path
    if call.name not in ("remove", "replace") or gone is None:
        return
    visible = disk.killed()
    if gone not in visible:
        return
    if _is_part(gone) and not _is_archived(gone, visible[gone], disk.durable()):
        raise Violation("I7", f"{gone} is taken away")
    if _is_segment(gone):
        kept = disk.durable()
        kept.pop(gone, None)
        if homeless := segment_rows(gone, visible[gone]) - rows_of(kept) - spoiled:
            raise Violation("I10", f"{gone} goes with {len(homeless)} rows durable nowhere else, e.g. {min(homeless)}")


class Damage(NamedTuple):
    """A state in which one file of the log was damaged.

    Attributes:
        state: with the damage.
        spoiled: the rows of the frames that were hit.
        provable: those of them that sound bytes or the sealed name show to have been acknowledged.
        whole, broken: the file's bytes before and after.
        what: the damage, for people.
    """

    state: State
    whole: bytes
    broken: bytes
    spoiled: frozenset[Key]
    provable: frozenset[Key]
    what: str


def damaged(state: State, path: str, chance: random.Random) -> Damage:
    """Flip a bit of a segment or zero up to a sector of it, under all names of the file."""
    content = state[path]
    at = chance.randrange(len(content))
    length = chance.choice([1, 1, 64, 512])
    hit = bytes([content[at] ^ 1 << chance.randrange(8)]) if length == 1 else bytes(len(content[at : at + length]))
    broken = content[:at] + hit + content[at + length :]
    view = memoryview(content)
    found = scan(view)
    frames = [*found.frames, *found.islands]
    struck = [frame for frame in frames if frame.offset < at + length and at < frame.end and broken != content]
    watermark = max((frame.durable_row for frame in frames if frame not in struck), default=0)
    sealed = paths.parse_segment_name(path.rpartition("/")[2]).sealed
    known = [frame for frame in struck if sealed or frame.end_row <= watermark]
    return Damage(
        {name: broken if other == content else other for name, other in state.items()},
        content,
        broken,
        frozenset(_frame_rows(path, view, struck)),
        frozenset(_frame_rows(path, view, known)),
        f"{length} bytes at {at} of {path}, in {[frame.kind for frame in struck]}",
    )


def check_damage(
    damage: Damage, sound: Outcome, after: Outcome, begun: frozenset[Key], must: frozenset[Key], *, exact: bool
) -> None:
    """Check that damage costs only the rows that it hit, and is reported where it can be known.

    Args:
        damage: what was damaged.
        sound: what recovery made of the state without the damage.
        after: and with it.
        begun: the rows that may have been there.
        must: the rows that had to be there.
        exact: whether the gap rows can say which rows are missing, and not only of which schema. They cannot where the
            numbers of a segment have steps: where captures change, and where rows moved after a failed sync.
    """
    rows = bronze_rows(after.after)
    had = {key for key in begun.intersection(bronze_rows(sound.after)) if key[0] != SYSTEM_GAPS.name}
    if others := had - rows.keys() - damage.spoiled:
        raise Violation("damage", f"it cost {len(others)} rows that it did not hit, e.g. {min(others)}")
    missing = (damage.provable & must) - rows.keys()
    if missing and after.exit_code != 3:
        raise Violation("damage", f"{len(missing)} acknowledged rows are gone and the exit code is {after.exit_code}")
    if had - rows.keys() and damage.broken not in after.after.values():
        raise Violation("I14", "the bytes that did not read were not kept")
    gaps = gaps_of(after.after)
    if unnamed := [key for key in missing if not any(gap.covers(key, exact=exact) for gap in gaps)]:
        raise Violation("damage", f"no gap row names {len(unnamed)} missing rows, e.g. {min(unnamed)}")
    for gap in gaps:
        if exact and gap.capture is not None and gap.last is not None and not set() < gap.rows() <= damage.spoiled:
            raise Violation("damage", f"a gap row names rows that were not hit: {gap}")


class Gap(NamedTuple):
    """What a gap row says; None where it cannot be known."""

    schema: str
    capture: int | None
    first: int | None
    last: int | None

    def covers(self, key: Key, *, exact: bool) -> bool:
        schema, capture, number = key
        return schema == self.schema and (
            not exact
            or self.capture is None
            or (
                self.capture == capture
                and (self.first is None or self.first <= number)
                and (self.last is None or number <= self.last)
            )
        )

    def rows(self) -> set[Key]:
        """Return the rows that it names, where it names the last."""
        return {(self.schema, self.capture, number) for number in range(self.first or 0, self.last + 1)}


def gaps_of(state: State) -> list[Gap]:
    """Return the gaps of damage that Bronze names."""
    gaps = []
    for path, content in parts_of(state).items():
        if path.startswith("lake/bronze/system/gaps/"):
            rows = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False).to_pylist()
            gaps += [
                Gap(row["of_schema"], row["of_capture_id"], row["first_seq"], row["last_seq"])
                for row in rows
                if row["cause"] == "wal_damage"
            ]
    return gaps


def _is_part(path: str) -> bool:
    name = path.rpartition("/")[2]
    return path.startswith((BRONZE, ARCHIVE)) and name.startswith("part-") and name.endswith(".parquet")


def _is_archived(path: str, content: bytes | None, durable: State) -> bool:
    """Whether no power cut can take a part of Bronze from the archive, nor the manifest that names it there."""
    if not path.startswith(BRONZE):
        return False
    archived = ARCHIVE + path.removeprefix(BRONZE)
    folder, _, name = path.rpartition("/")
    manifest = durable.get(f"{folder}/_archived.json")
    return durable.get(archived) == content and manifest is not None and name in json.loads(manifest)["parts"]


def _is_segment(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder == "wal" and paths.parse_segment_name(name) is not None


def parts_of(state: State) -> dict[str, bytes]:
    """Return the parts that a reader sees."""
    return {path: content for path, content in state.items() if _is_part(path) and content is not None}


def bronze_rows(state: State) -> Counter[Key]:
    """Return how often each row stands in Bronze; in a part that was archived, and in one in both places, as in one.

    Raises:
        Violation: a part is not whole.
    """
    rows: Counter[Key] = Counter()
    once: dict[str, bytes] = {}
    for path, content in parts_of(state).items():
        own = path.removeprefix(ARCHIVE).removeprefix(BRONZE)
        if once.setdefault(own, content) != content:
            raise Violation("I7", f"{own} is in Bronze and in the archive with other bytes")
    for path, content in once.items():
        schema = ".".join(path.split("/")[:2])
        keys = _part_keys(content)
        if keys is None:
            raise Violation("I8", f"{path} is visible and not whole")
        rows.update((schema, *key) for key in keys)
    return rows


@lru_cache(maxsize=2_000)  # most parts of most states are the same
def _part_keys(content: bytes) -> tuple[tuple[int, int], ...] | None:
    """Read a part whole; return its rows' (`capture_id`, `capture_seq`), or None if it does not read."""
    try:
        rows = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(use_threads=False)
    except (pa.ArrowException, OSError):
        return None
    return tuple(zip(rows["capture_id"].to_pylist(), rows["capture_seq"].to_pylist(), strict=True))


@lru_cache(maxsize=2_000)
def segment_rows(path: str, content: bytes) -> frozenset[Key]:
    """Return the rows of a segment's sound frames."""
    view = memoryview(content)
    found = scan(view)
    return frozenset(_frame_rows(path, view, [*found.frames, *found.islands]))


def _frame_rows(path: str, view: memoryview, frames: list[Frame]) -> list[Key]:
    stem = paths.parse_segment_name(path.rpartition("/")[2]).stem
    schema = next(name for name in SCHEMAS if stem.startswith(paths.stream_stem(name, "")))
    rows, _ = decode_rows(view, frames, Stream(schema, ""))
    return keys_of(schema, rows)


def rows_of(state: State) -> set[Key]:
    """Return the rows that a state holds, in Bronze or in its log."""
    rows = set(bronze_rows(state))
    for path, content in state.items():
        if content and _is_segment(path):
            rows.update(segment_rows(path, content))
    return rows

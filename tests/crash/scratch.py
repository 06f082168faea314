"""The real recovery on a real folder, a few milliseconds a run.

`Scratch.recover` puts a state's files below one folder, runs the real `recover` there (real segments, real Parquet,
real system calls), and returns what it did. Three things make that cheap, and none of them decides an outcome:

*Pure functions of a file's bytes are remembered by those bytes*: verifying a segment's frames, decoding them, cutting
rows into partitions, encoding a part, reading a part whole or its footer. The bytes themselves are read from the
folder each time, so a function is never given what is not there.

*Recovery is made a function of the state*: the clock stands still, the capture of the run is a hash of the state, and
where a segment's id would be random, it is a hash of the frames that it is a copy of, or of its stream's files. Two
runs make the same id only for a copy of the same rows. So a state that is met twice is recovered once.

*The catalog is in memory*, and knows what it knew after the run before: opening it drops what is gone and takes in
what is new, which is all that it is documented to need. The folder, too, keeps what two states have in common.
"""

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa
import pytest

from spymaster import clock, durable, paths
from spymaster.errors import SpymasterError
from spymaster.events import SYSTEM_GAPS, EventSchema, Stream
from spymaster.lake import bronze, catalog, parquet
from spymaster.lake.catalog import Catalog
from spymaster.recording.recovery import recover
from spymaster.wal import recovery, sealed, segment, segment_writer, writer
from spymaster.wal.segment import Header
from tests.crash.disk import Call, Disk, Recording, State, links_of, recording

if TYPE_CHECKING:
    from tests.crash.workload import Trace

MEMORY_FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # states are made by thousands
BRONZE = "lake/bronze/"
NOW_NS = 1_766_500_000_000_000_000
AUDIT_EVERY = 50  # runs between comparisons of the model with the folder
REMEMBERED = 1_500  # results of each function, outcomes of states; then all are forgotten

Key = tuple[str, int, int]  # schema, capture_id, capture_seq


class Outcome(NamedTuple):
    """What one recovery did.

    Attributes:
        calls: its storage calls.
        exit_code: None if it raised.
        error: what it raised.
        after: what a kill right after it leaves.
        trace: of a start, what it promised of the rows that it recorded.
        file_read: whether a start read a file to its end.
    """

    calls: list[Call]
    exit_code: int | None
    error: str | None
    after: State
    trace: "Trace | None" = None
    file_read: bool = False


class Work(Protocol):
    """What is done on a state; returns the exit code."""

    def __call__(self, root: Path, run_capture: int) -> int: ...


class _Index(sqlite3.Connection):
    """One database in memory, in place of `catalog.db`."""

    def forget(self, parts: list[str]) -> None:
        """Drop what it says of some parts, whose bytes are others now; the totals are made again when it is opened."""
        for table in catalog.BY_PART:
            self.executemany(f"delete from {table} where path = ?", [(path,) for path in parts])
        self.commit()

    def forget_all(self) -> None:
        for (table,) in self.execute("select name from sqlite_master where type = 'table'").fetchall():
            self.execute(f"delete from {table}")
        self.commit()

    def close(self) -> None:
        """Stay for the next run."""

    def end(self) -> None:
        super().close()


class Scratch:
    """A folder for one state after another. One process has one."""

    def __init__(self) -> None:
        self.runs = 0
        self._folder = Path(tempfile.mkdtemp(dir=MEMORY_FOLDER))
        self.root = self._folder / "root"
        self.root.mkdir()
        self._there: State = {}
        self._digests: dict[bytes, bytes] = {}
        self._outcomes: dict[tuple[bytes, int | None], Outcome] = {}
        self._state: State = {}
        self._made: dict[str, int] = {}
        self._index = _Index(":memory:", check_same_thread=False)
        self._patch = pytest.MonkeyPatch()
        pa.set_cpu_count(1)  # a process for each core is faster than threads for a handful of rows
        self._remember()
        self._freeze()

    def close(self) -> None:
        self._patch.undo()
        self._index.end()
        shutil.rmtree(self._folder)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def fingerprint(self, state: State, prefix: str = "") -> bytes:
        """Return a hash of the paths that begin with `prefix`, and of their bytes."""
        digest = hashlib.sha256()
        for path in sorted(path for path in state if path.startswith(prefix)):
            digest.update(path.encode() + b"\0" + self._digest(state[path]))
        return digest.digest()

    def _digest(self, content: bytes | None) -> bytes:
        if content is None:
            return b"a folder"
        known = self._digests.get(content)
        if known is None:
            known = _bounded(self._digests)[content] = hashlib.sha256(content).digest()
        return known

    def run_capture_of(self, state: State) -> int:
        """Return the capture of a process run that begins with a state."""
        return int.from_bytes(self.fingerprint(state)[:8], "big") >> 1

    def recover(self, state: State, failing_sync: int | None = None) -> Outcome:
        """Recover a state as the command does, or have from memory what that did before."""
        mark = (self.fingerprint(state), failing_sync)
        outcome = self._outcomes.get(mark)
        if outcome is None:
            outcome = _bounded(self._outcomes)[mark] = self.carry_out(
                state, recording(self.root, failing_sync), recover_all
            )
        return outcome

    def carry_out(self, state: State, traced: AbstractContextManager[Recording], work: Work) -> Outcome:
        """Do something on a state, in a process that begins with it as far as `durable` can tell.

        Args:
            state: what lies there.
            traced: what records the calls below `root`.
            work: what is done.
        """
        self._materialize(state)
        self._state, self._made = state, {}
        durable._synced_directories.clear()  # it is another process each time
        durable._synced_directories.update(dict.fromkeys((self.root, *self.root.parents)))
        code = error = None
        with traced as made:
            try:
                code = work(self.root, self.run_capture_of(state))
            except Exception as raised:  # noqa: BLE001  # whatever escapes recovery is what it did
                error = f"{type(raised).__name__}: {raised}"
                self._index.forget_all()  # it may not have been opened, and so know what is not there any more
        for holder in self.root.rglob(".holder"):  # who had the locks; that passes the model by
            holder.unlink()
        disk = Disk.holding(state)
        first = disk.next_inode
        for call in made.calls:
            disk.apply(call, first)
        after = disk.killed()
        self._there = dict(after)
        self.runs += 1
        if self.runs % AUDIT_EVERY == 1:
            self._audit()
        return Outcome(made.calls, code, error, after)

    def _materialize(self, state: State) -> None:
        """Change the folder from the state that it holds to another."""
        root = f"{self.root}/"
        second = links_of(self._there)
        changed = []
        for path in sorted(self._there, reverse=True):
            content = self._there[path]
            if path not in state or path in second or (state[path] is not content and state[path] != content):
                if content is None:
                    os.rmdir(root + path)  # noqa: PTH106  # thousands of them: paths as objects cost more than calls
                else:
                    os.unlink(root + path)  # noqa: PTH108
                    if path in state and path.startswith(BRONZE):
                        changed.append(path.removeprefix(BRONZE))
                del self._there[path]
        if changed:
            self._index.forget(changed)
        linked = links_of(state)
        for path in sorted(state.keys() - self._there.keys()):
            content = state[path]
            if content is None:
                os.mkdir(root + path)  # noqa: PTH102
            elif path in linked:
                os.link(root + linked[path], root + path)
            else:
                with open(root + path, "xb") as file:  # noqa: PTH123
                    file.write(content)
        self._there = {}  # until the run is through

    def _audit(self) -> None:
        """Compare the model of the disk with the folder: a write that passes `durable` by would be found here."""
        real: State = {}
        for path in self.root.rglob("*"):
            real[path.relative_to(self.root).as_posix()] = None if path.is_dir() else path.read_bytes()
        assert real == self._there, f"the model is not the folder: {real.keys() ^ self._there.keys()}"

    def _freeze(self) -> None:
        self._patch.setattr(clock, "utc_now_ns", lambda: NOW_NS)
        self._patch.setattr(Header, "new", self._new_header)
        self._patch.setattr(catalog.sqlite3, "connect", lambda *_, **__: self._index)

    def _new_header(self, stream: Stream, number: int, created_ns: int, origin: str | None = None) -> Header:
        stem = paths.stream_stem(*stream)
        self._made[stem] = self._made.get(stem, 0) + 1
        digest = hashlib.sha256(f"{stem} {number} {origin} {self._made[stem]}".encode())
        if origin is not None:
            digest.update(repr(self._sound_frames(stem, origin)).encode())
        elif stream.schema == SYSTEM_GAPS.name:
            digest.update(self.fingerprint(self._state))  # a gap row depends on every stream, and on what the lake has
        else:
            for prefix in (f"wal/{stem}.", f"wal/.{stem}."):
                digest.update(self.fingerprint(self._state, prefix))
        return Header(digest.hexdigest()[:32], stream, number, created_ns, origin)

    def _sound_frames(self, stem: str, origin: str) -> list[int]:
        """Return the CRCs of the frames that a copy of a segment holds, in whatever files have them."""
        found = [
            recovery.scan(memoryview(content))
            for path, content in sorted(self._state.items())
            if content and path.startswith((f"wal/{stem}.", f"wal/.{stem}.", f"wal/quarantine/{stem}-"))
        ]
        frames = [frame for each in found for frame in (*each.frames, *each.islands)]
        return [frame.crc for frame in frames if frame.segment == origin]

    def _remember(self) -> None:
        """Put a memory before each pure function of bytes, in every module that calls it."""
        for name, real, modules in (
            ("scan", segment.scan, (recovery, sealed, writer)),
            ("decode_rows", segment.decode_rows, (recovery, sealed)),
            ("decode_header", segment.decode_header, (recovery, segment_writer)),
            ("empty_batch", segment.empty_batch, (segment_writer,)),
            ("FrameEncoder", segment.FrameEncoder, (recovery, segment_writer, writer)),  # it uses its memory again
            ("segment_pieces", segment_writer.segment_pieces, (recovery,)),
            ("encode_segment", segment_writer.encode_segment, (recovery,)),
            ("split", bronze.split, (bronze,)),
            ("encode", parquet.encode, (bronze,)),
            ("recorded_numbers", bronze.recorded_numbers, (bronze, catalog)),
            ("read_footer", bronze.read_footer, (bronze, catalog)),
            ("misread", catalog.misread, (catalog,)),
        ):
            remembered = _remembered(real)
            for module in modules:
                self._patch.setattr(module, name, remembered)
        real_columns = Catalog._columns
        columns = _remembered(
            lambda path, names: real_columns(SimpleNamespace(_bronze=path.parent), path.name, names)  # type: ignore[arg-type]
        )
        self._patch.setattr(Catalog, "_columns", lambda index, part, names: columns(index._bronze / part, names))


def recover_all(root: Path, run_capture: int) -> int:
    """Recover as the command does."""
    durable.make_directories(root / "wal")
    index = Catalog(root / "lake")
    try:
        return recover(root / "wal", index, root / "lake" / "bronze", run_capture).exit_code
    finally:
        index.close()


def _remembered(function: Callable) -> Callable:
    """Return `function` with a memory of what it returned or raised for the same bytes.

    A path counts as the bytes that lie there now, a table as itself: it never changes, and one that came out of a
    memory is the same for the same bytes.
    """
    memory: dict[tuple, tuple] = {}

    def call(*arguments):
        key = tuple(_content(argument) for argument in arguments)
        known = memory.get(key)
        if known is None:
            result = raised = None
            try:
                result = function(*arguments)
                if isinstance(result, Iterator):
                    result = [bytes(item) if isinstance(item, memoryview) else item for item in result]
            except SpymasterError as error:
                raised = error
            known = _bounded(memory)[key] = (result, raised, arguments)  # arguments: so that no other gets their id
        if known[1] is not None:
            raise known[1]
        return known[0]

    return call


def _content(argument: object) -> object:
    if isinstance(argument, memoryview):
        return bytes(argument)
    if isinstance(argument, Path):
        return argument.read_bytes()
    if isinstance(argument, list):
        return tuple(argument)
    if isinstance(argument, dict):
        return tuple(argument.items())
    if isinstance(argument, pa.Table | pa.Schema | EventSchema):
        return id(argument)
    return argument


def _bounded(memory: dict) -> dict:
    if len(memory) >= REMEMBERED:
        memory.clear()
    return memory

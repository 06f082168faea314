"""Defects planted one at a time, to show that the explorer can fail: each names the invariants that it may break.

Four kinds. A *trace mutant* is a recorder that leaves a storage call out, or makes it elsewhere: a recorded trace is
changed. A *writer mutant* is a recorder with one line of its code changed, mostly of what it does after a failed sync.
A *recovery mutant* is a recovery that drops one of its rules, a *start mutant* a start that does. Letters are those of
the designs that the protocol was chosen over: A writes in place and never syncs, B renames and never syncs, C syncs
files and no directories, D publishes again what is there, F does not sync the log's directory when a segment is made.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from spymaster import durable, paths
from spymaster.lake import bronze
from spymaster.lake.catalog import Catalog
from spymaster.recording import recorder
from spymaster.recording import recovery as recovery_of_lake
from spymaster.recording.drain import Drain
from spymaster.wal import folder, recovery, segment, writer
from spymaster.wal.segment import Predecessor
from tests.crash.disk import Call
from tests.crash.workload import Trace


class Mutant(NamedTuple):
    """A defect: the invariants that may show it first, and how it is planted."""

    breaks: tuple[str, ...]
    plant: Callable


def without(trace: Trace, dropped: Callable[[int, Call], bool]) -> Trace:
    """Return the trace without some calls; what happened after call n happens after those of them that are left."""
    kept = [not dropped(number, call) for number, call in enumerate(trace.calls)]
    at = [sum(kept[:number]) for number in range(len(kept) + 1)]
    return Trace(
        [call for call, keep in zip(trace.calls, kept, strict=True) if keep],
        {key: at[number] for key, number in trace.begun.items()},
        {key: at[number] for key, number in trace.appended.items()},
        {key: at[number] for key, number in trace.acknowledged.items()},
        trace.counted,
    )


def _unsynced(wanted: Callable[[str], bool]) -> Callable[[Trace], Trace]:
    def mutant(trace: Trace) -> Trace:
        names = {call.inode: str(call.path) for call in trace.calls if call.name == "create"}
        return without(trace, lambda _, call: call.name == "sync" and wanted(names[call.inode]))

    return mutant


def _folders_unsynced(wanted: Callable[[str], bool]) -> Callable[[Trace], Trace]:
    return lambda trace: without(trace, lambda _, call: call.name == "sync_directory" and wanted(str(call.path)))


def _unsynced_after(name: str) -> Callable[[Trace], Trace]:
    """Skip the sync of the log's folder that follows a call of that name."""
    return lambda trace: without(
        trace,
        lambda n, call: call.name == "sync_directory" and call.path == "wal" and trace.calls[n - 1].name == name,
    )


def published_from_page_cache(trace: Trace) -> Trace:
    """Rows are published when they are appended, not when they are durable."""
    return Trace(trace.calls, trace.begun, trace.appended, dict(trace.appended), trace.counted)


def _retired_before_flushed(trace: Trace) -> Trace:
    """A sealed segment is removed as soon as it has its name."""
    calls = list(trace.calls)
    for call in trace.calls:
        if call.name == "remove" and ".arrow" in str(call.path):
            calls.remove(call)
            linked = next(i for i, other in enumerate(calls) if other.name == "link" and other.target == call.path)
            calls.insert(linked + 2, call._replace(at=calls[linked + 1].at))  # after the directory's sync
    return Trace(calls, trace.begun, trace.appended, trace.acknowledged, trace.counted)


def _written_in_place(trace: Trace) -> Trace:
    """Parts are written under their final names, as a plain writer does."""
    final = {call.path: call.target for call in trace.calls if call.name == "link" and "bronze" in str(call.path)}
    dropped = without(trace, lambda _, call: call.path in final and call.name in ("link", "remove"))
    dropped.calls = [call._replace(path=final[call.path]) if call.path in final else call for call in dropped.calls]
    return dropped


def _never_synced(trace: Trace) -> Trace:
    return without(trace, lambda _, call: call.name in ("sync", "sync_directory"))


TRACE_MUTANTS: dict[str, Mutant] = {
    "A: parts are written in place and nothing is synced": Mutant(
        ("I1", "I3", "I8"), lambda trace: _never_synced(_written_in_place(trace))
    ),
    "B: nothing is synced": Mutant(("I1", "I3"), _never_synced),
    "C: files are synced and directories are not": Mutant(("I1", "I3"), _folders_unsynced(lambda path: True)),
    "F: the log's directory is not synced": Mutant(("I1", "I3"), _folders_unsynced(lambda path: path == "wal")),
    "the directory of a new stream's log is not synced": Mutant(("I1", "I3"), _unsynced_after("replace")),
    "no file is synced": Mutant(("I1", "I3"), _unsynced(lambda name: True)),
    "segments are not synced": Mutant(("I1", "I3"), _unsynced(lambda name: name.startswith("wal"))),
    "parts are not synced": Mutant(("I1", "I8", "I10"), _unsynced(lambda name: "bronze" in name)),
    "parts are written in place": Mutant(("I8",), _written_in_place),
    "the lake's directories are not synced": Mutant(("I1", "I10"), _folders_unsynced(lambda path: "lake" in path)),
    "a part's directory is not synced": Mutant(
        ("I1", "I10"), _folders_unsynced(lambda path: "date=" in path.rpartition("/")[2] or "hour=" in path)
    ),
    "rows are published from the page cache": Mutant(("I1", "I3"), published_from_page_cache),
    "a segment is retired before its Bronze is durable": Mutant(("I1", "I3", "I10"), _retired_before_flushed),
}


@contextmanager
def patched(*patches: tuple[object, str, object]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for target, name, value in patches:
            patch.setattr(target, name, value)
        yield


def _sync_twice(segment: writer.SegmentWriter) -> None:
    """A second sync that succeeds is believed."""
    target = segment.next_row
    try:
        durable.sync(segment._file)
    except OSError:
        durable.sync(segment._file)
    segment.durable_row = target


def _sync_ignored(segment: writer.SegmentWriter) -> None:
    """A sync that failed is passed over."""
    target = segment.next_row
    with suppress(OSError):
        durable.sync(segment._file)
    segment.durable_row = target


def _rows_left_behind(log: writer.StreamLog, old: writer.SegmentWriter, reason: OSError) -> None:
    """After a failed sync the rows count as written to the successor, and are not."""
    real = writer.SegmentWriter.append

    def append(segment, batch, kind="data", predecessor=None):
        real(segment, batch.slice(0, 0), kind, predecessor)

    with patched((writer.SegmentWriter, "append", append)):
        _abandon(log, old, reason)


_abandon = writer.StreamLog._abandon
_name = writer.StreamLog._name


def _names_unsynced(log: writer.StreamLog, old: writer.SegmentWriter, *, poisoned: bool):
    """The directory is not synced once the successor has the active name."""
    real, synced = durable.sync_directory, []

    def once(folder):
        if not synced:
            real(folder)
        synced.append(folder)

    with patched((durable, "sync_directory", once)):
        return _name(log, old, poisoned=poisoned)


def _successor_unsynced(log: writer.StreamLog, old: writer.SegmentWriter, *, poisoned: bool):
    """The successor's rows are acknowledged without a sync of it."""
    with patched((writer.SegmentWriter, "sync", lambda segment: setattr(segment, "durable_row", segment.next_row))):
        return _name(log, old, poisoned=poisoned)


def _named_first(log: writer.StreamLog, old: writer.SegmentWriter, *, poisoned: bool):
    """A poisoned segment gets its name before its successor, which says what of it was durable, is synced."""
    with patched((writer.SegmentWriter, "sync", lambda segment: None)):
        found = _name(log, old, poisoned=poisoned)
    log._active.sync()
    return found


async def _end_at_once(self, capture, rows, *, complete, detail) -> None:
    """The end row is appended before the rows that it counts are durable."""
    row = recorder.captures.end_row(capture, rows, recorder.clock.utc_now_ns(), complete=complete, detail=detail)
    await self.own.append(recorder.SYSTEM_CAPTURES, row)


WRITER_MUTANTS: dict[str, Mutant] = {
    "a failed sync is tried again and believed": Mutant(
        ("I1", "I3"), lambda: patched((writer.SegmentWriter, "sync", _sync_twice))
    ),
    "a failed sync is passed over": Mutant(
        ("I1", "I3"), lambda: patched((writer.SegmentWriter, "sync", _sync_ignored))
    ),
    "rows of a failed sync are not written to the successor": Mutant(
        ("I1", "I3", "I10"), lambda: patched((writer.StreamLog, "_abandon", _rows_left_behind))
    ),
    "rows are acknowledged before the successor's name is durable": Mutant(
        ("I1", "I3", "I10"), lambda: patched((writer.StreamLog, "_name", _names_unsynced))
    ),
    "a poisoned segment is named before its successor is synced": Mutant(
        ("false alarm", "I10"), lambda: patched((writer.StreamLog, "_name", _named_first))
    ),
    "rows are acknowledged before the successor is synced": Mutant(
        ("I1", "I3", "I10"), lambda: patched((writer.StreamLog, "_name", _successor_unsynced))
    ),
    "an end row is appended before the rows that it counts are durable": Mutant(
        ("end row",), lambda: patched((recorder.Recorder, "end", _end_at_once))
    ),
}


def _retire_first() -> AbstractContextManager:
    """Salvage lets the origin go before its copy is durable."""
    real = durable.publish

    def publish(data, target):
        if target.suffix == ".arrow" and "quarantine" not in target.parts:
            stem = paths.parse_segment_name(target.name).stem
            durable.remove(paths.active_segment(target.parent, stem))
            durable.sync_directory(target.parent)
        real(data, target)

    return patched((durable, "publish", publish))


def _published_without(name: str) -> AbstractContextManager:
    """Copies are published without one of the syncs."""
    real = durable.publish

    def publish(data, target):
        if target.suffix == ".arrow":
            with patched((durable, name, lambda *_: None)):
                real(data, target)
        else:
            real(data, target)

    return patched((durable, "publish", publish))


def _refusal_passed_over() -> AbstractContextManager:
    real = durable.publish

    def publish(data, target):
        with suppress(OSError):
            real(data, target)

    return patched((durable, "publish", publish))


def _without_files(ahead: bool) -> AbstractContextManager:
    real = paths.parse_segment_name

    def parse(name):
        parsed = real(name)
        return None if parsed is not None and parsed.ahead == ahead and not parsed.sealed else parsed

    return patched((folder, "paths", _But(paths, parse_segment_name=parse)))


class _But:
    """A module as others see it, but for some of its functions."""

    def __init__(self, module: ModuleType, **changed: Callable) -> None:
        self.__dict__.update(changed)
        self._module = module

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


def _made_directories_only(path) -> None:
    """Only directories that are made now are synced, not those that a killed process made."""
    if not path.is_dir():
        _made_directories_only(path.parent)
        durable.make_directory(path)
        durable.sync_directory(path.parent)


def _holes(**changed) -> Callable[[], AbstractContextManager]:
    real = recovery.holes_in
    return lambda: patched((recovery, "holes_in", lambda *a: [hole._replace(**changed) for hole in real(*a)]))


def _no_islands() -> AbstractContextManager:
    real = recovery.scan
    return patched((recovery, "scan", lambda raw: real(raw)._replace(islands=[])))


def _no_seal() -> AbstractContextManager:
    """A sealed segment is taken for sound whatever it ends with."""
    real = recovery.scan

    def scan(raw):
        found = real(raw)
        return found._replace(problem=None)

    return patched((recovery, "scan", scan))


def _swept(bronze_folder) -> None:
    for part in bronze_folder.rglob("*part-*.parquet*"):
        durable.remove(part)


RECOVERY_MUTANTS: dict[str, Mutant] = {
    "D: rows that the lake has are published again": Mutant(
        ("I2",), lambda: patched((bronze, "_missing", lambda folder, rows: rows))
    ),
    "the origin goes before its copy is durable": Mutant(("I1", "I10", "recovery"), _retire_first),
    "the copy is not synced": Mutant(("I1", "I10"), lambda: _published_without("sync")),
    "the copy's name is not synced": Mutant(("I1", "I10"), lambda: _published_without("sync_directory")),
    "a sync that fails in recovery is passed over": Mutant(("I1", "I11", "recovery"), _refusal_passed_over),
    "active segments are passed over": Mutant(("I1",), lambda: _without_files(ahead=False)),
    "segments that have no name yet are passed over": Mutant(("I1",), lambda: _without_files(ahead=True)),
    "sealed segments are retired and not flushed": Mutant(
        ("I1",), lambda: patched((bronze, "split", lambda *_: iter(())))
    ),
    "the folder of parts that are there already is not synced": Mutant(
        ("I1", "I10"), lambda: patched((bronze, "durable", _But(durable, sync_directory=lambda path: None)))
    ),
    "directories that are there already are not synced": Mutant(
        ("I1", "I10"), lambda: patched((durable, "make_directories", _made_directories_only))
    ),
    "parts are swept away with the drafts": Mutant(
        ("I6", "I7"), lambda: patched((recovery_of_lake, "remove_drafts", _swept))
    ),
    "a torn tail is taken for damage": Mutant(
        ("false alarm",),
        lambda: patched(
            (recovery, "holes_in", lambda _, __, header, ___: [recovery.hole_of(header, 0, 1, acknowledged=True)])
        ),
    ),
    "acknowledged damage is taken for a torn tail": Mutant(("damage",), _holes(acknowledged=False)),
    "no gap row is written": Mutant(
        ("damage",),
        lambda: patched((recovery._Recovery, "_record", lambda self, holes: self.result.holes.extend(holes))),
    ),
    "bytes that do not read are not kept": Mutant(
        ("I14",), lambda: patched((recovery._Recovery, "_quarantine", lambda self, *_: None))
    ),
    "quarantine is not read again": Mutant(
        ("I1", "end row"), lambda: patched((recovery._Recovery, "_read_again", lambda self, entry: None))
    ),
    "rows behind damage are not salvaged": Mutant(("damage", "I1"), _no_islands),
    "a sealed segment is believed without its seal": Mutant(("damage", "I1", "I14", "recovery"), _no_seal),
}


async def _any_catalog(self: Drain, ended: Callable[[], bool]) -> Catalog | None:
    """The catalog is had once it is open, whatever is not in Bronze yet."""
    await self._change.until(lambda: self.catalog is not None or ended())
    return self.catalog


def _last_of_all(wal_root: Path, stem: str) -> tuple[int, Predecessor | None]:
    """A lane takes its number and predecessor from whatever segment has the highest number."""
    highest, predecessor = 0, None
    for path, name in folder.of_stream(wal_root, stem):
        raw = durable.read(path)
        found = segment.scan(raw)
        number = max(name.number or 0, found.header.number if found.header else 0)
        if number > highest:
            highest, predecessor = number, segment.followed(raw, found)
    return highest, predecessor


START_MUTANTS: dict[str, Mutant] = {
    "a file does not wait": Mutant(("I2",), lambda: patched((Drain, "whole_catalog", _any_catalog))),
    "a lane reads its sealed segments": Mutant(("recovery",), lambda: patched((writer, "last_segment", _last_of_all))),
}

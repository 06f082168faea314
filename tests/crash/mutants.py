"""Defects planted one at a time, to show that the explorer can fail: each names the invariant that it breaks.

Two kinds. A *trace mutant* is a recorder that leaves a storage call out, or makes it elsewhere: the recorded trace is
changed. A *recovery mutant* is a recovery that drops one of its rules: its code is patched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spymaster import durable, paths
from spymaster.lake import bronze
from tests.crash.disk import Call
from tests.crash.explorer import Trace

TraceMutant = Callable[[Trace], Trace]


def without(trace: Trace, dropped: Callable[[int, Call], bool]) -> Trace:
    """Return the trace without some calls; what happened after call n happens after those of them that are left."""
    kept = [not dropped(number, call) for number, call in enumerate(trace.calls)]
    at = [sum(kept[:number]) for number in range(len(kept) + 1)]
    return Trace(
        [call for call, keep in zip(trace.calls, kept, strict=True) if keep],
        {key: at[number] for key, number in trace.appended.items()},
        {key: at[number] for key, number in trace.acknowledged.items()},
    )


def names_of(trace: Trace) -> dict[int, str]:
    """Return each file's first name."""
    return {call.inode: str(call.path) for call in trace.calls if call.name == "create"}


def _unsynced(wanted: Callable[[str], bool]) -> TraceMutant:
    def mutant(trace: Trace) -> Trace:
        names = names_of(trace)
        return without(trace, lambda _, call: call.name == "sync" and wanted(names[call.inode]))

    return mutant


def _folders_unsynced(wanted: Callable[[Path], bool]) -> TraceMutant:
    return lambda trace: without(trace, lambda _, call: call.name == "sync_directory" and wanted(call.path))


def _unsynced_after(name: str) -> TraceMutant:
    """Skip the directory sync that follows a call of that name in the log's folder."""

    def mutant(trace: Trace) -> Trace:
        return without(
            trace,
            lambda n, call: (
                call.name == "sync_directory" and call.path == Path("wal") and trace.calls[n - 1].name == name
            ),
        )

    return mutant


def published_from_page_cache(trace: Trace) -> Trace:
    """Rows are published when they are appended, not when they are durable."""
    return trace._replace(acknowledged=dict(trace.appended))


def retired_before_flushed(trace: Trace) -> Trace:
    """A sealed segment is removed as soon as it has its name."""
    calls = list(trace.calls)
    for call in trace.calls:
        if call.name == "remove" and ".arrow" in str(call.path):
            calls.remove(call)
            linked = next(i for i, other in enumerate(calls) if other.name == "link" and other.target == call.path)
            calls.insert(linked + 2, call)  # after the directory's sync
    return trace._replace(calls=calls)


def written_in_place(trace: Trace) -> Trace:
    """Parts are written under their final names, as a plain writer does."""
    final = {call.path: call.target for call in trace.calls if call.name == "link" and "bronze" in str(call.path)}
    dropped = without(trace, lambda _, call: call.path in final and call.name in ("link", "remove"))
    calls = [call._replace(path=final[call.path]) if call.path in final else call for call in dropped.calls]
    return dropped._replace(calls=calls)


TRACE_MUTANTS: dict[str, TraceMutant] = {
    "no file is synced (I1)": _unsynced(lambda name: True),
    "segments are not synced (I1)": _unsynced(lambda name: name.startswith("wal")),
    "parts are not synced (I1, I8)": _unsynced(lambda name: "bronze" in name),
    "no directory is synced (I1)": _folders_unsynced(lambda path: True),
    "the log's directory is not synced (I1)": _folders_unsynced(lambda path: path == Path("wal")),
    "the lake's directories are not synced (I1)": _folders_unsynced(lambda path: "lake" in path.parts),
    "the directory of a new stream's log is not synced (I1)": _unsynced_after("replace"),
    "a part's directory is not synced (I1)": _folders_unsynced(
        lambda path: "hour=" in path.name or "date=" in path.name
    ),
    "rows are published from the page cache (I1)": published_from_page_cache,
    "a segment is retired before its Bronze is durable (I1)": retired_before_flushed,
    "parts are written in place (I8)": written_in_place,
}


@contextmanager
def _patched(*patches: tuple[object, str, object]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for target, name, value in patches:
            patch.setattr(target, name, value)
        yield


def _retire_first():
    """Salvage lets the origin go before its copy is durable."""
    real = durable.publish

    def publish(data, target):
        if target.suffix == ".arrow" and "quarantine" not in target.parts:
            stem = paths.parse_segment_name(target.name).stem
            for origin in (paths.active_segment(target.parent, stem), paths.next_segment(target.parent, stem)):
                durable.remove(origin)
            durable.sync_directory(target.parent)
        real(data, target)

    return _patched((durable, "publish", publish))


def _unsynced_copy():
    """Salvage publishes its copy without syncing it."""
    real = durable.publish

    def publish(data, target):
        if target.suffix == ".arrow":
            descriptor = durable.create(target)
            durable.write_fully(descriptor, data, 0)
            durable.close(descriptor)
        else:
            real(data, target)

    return _patched((durable, "publish", publish))


def _without_files(ahead: bool):
    real = paths.parse_segment_name

    def parse(name):
        parsed = real(name)
        return None if parsed is not None and parsed.ahead == ahead and not parsed.sealed else parsed

    return _patched((paths, "parse_segment_name", parse))


RECOVERY_MUTANTS: dict[str, Callable[[], object]] = {
    "rows that the lake has are published again (I2)": lambda: _patched(
        (bronze, "_missing", lambda folder, rows: rows)
    ),
    "the origin goes before its copy is durable (I1)": _retire_first,
    "the copy is not synced (I1)": _unsynced_copy,
    "active segments are passed over (I1)": lambda: _without_files(ahead=False),
    "segments that have no name yet are passed over (I1)": lambda: _without_files(ahead=True),
    "sealed segments are retired and not flushed (I1)": lambda: _patched((bronze, "split", lambda *_: iter(()))),
}

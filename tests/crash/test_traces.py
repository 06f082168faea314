"""The crashes that have cost other recorders their data, each by its name."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from spymaster.events import SYSTEM_GAPS
from spymaster.lake.catalog import Catalog
from spymaster.recording.recovery import Recovered, recover
from spymaster.wal.segment import scan
from tests.crash.disk import Disk, State
from tests.crash.explorer import (
    Promise,
    Violation,
    bronze_rows,
    check_acknowledged,
    check_call,
    check_recovery,
    judge,
    parts_of,
    promised,
    rows_of,
    segment_rows,
)
from tests.crash.mutants import published_from_page_cache
from tests.crash.scratch import BRONZE, Scratch
from tests.crash.workload import TRADES, Trace, Workload, run_archive, run_log, run_recorder


def disks_of(trace: Trace, first: int = 0, last: int | None = None) -> Iterator[tuple[Disk, Promise]]:
    """Yield the disk and what was promised after each call of a trace, from call `first` to call `last`."""
    disk = Disk()
    for number, call in enumerate(trace.calls[:last], 1):
        disk.apply(call)
        if number >= first:
            yield disk.restarted(), promised(trace, number)


def kill_and_cut(scratch: Scratch, disk: Disk, promise: Promise) -> None:
    """Recover after a kill, and after the power cut that keeps nothing that was not synced."""
    killed, cut = disk.killed(), disk.durable()
    judge(killed, scratch.recover(killed), promise, promise.appended)
    judge(cut, scratch.recover(cut), promise, promise.acknowledged)


def kill_and_cut_everywhere(scratch: Scratch, trace: Trace) -> None:
    for disk, promise in disks_of(trace):
        kill_and_cut(scratch, disk, promise)


def kill_and_cut_recovery(scratch: Scratch, disk: Disk, promise: Promise) -> int:
    """Do that at every call of a recovery from this disk; return how many there were."""
    outcome = scratch.recover(disk.killed())
    disk = disk.restarted()
    first = disk.next_inode
    for call in outcome.calls:
        disk.apply(call, first)
        kill_and_cut(scratch, disk, promise)
    return len(outcome.calls)


def call_number(trace: Trace, name: str, path: str = "") -> int:
    """Return after how many calls the first of that name was made, on a path that holds `path`."""
    return next(n for n, call in enumerate(trace.calls, 1) if call.name == name and path in f"{call.target}{call.path}")


def test_rows_published_from_the_page_cache_would_be_lost_to_a_power_cut():
    trace = published_from_page_cache(run_log())

    with Scratch() as scratch, pytest.raises(Violation) as found:
        kill_and_cut_everywhere(scratch, trace)

    assert found.value.invariant == "I1"


def test_rows_are_published_only_when_no_power_cut_takes_them():
    trace = run_log()

    with Scratch() as scratch:
        kill_and_cut_everywhere(scratch, trace)

    for disk, promise in disks_of(trace):
        check_acknowledged(disk, promise.acknowledged)
    assert len(trace.acknowledged) == len(trace.appended) == 17


def test_rows_written_again_after_a_failed_sync_count_once_when_both_segments_are_left():
    trace = run_log((1,))
    *_, (disk, promise) = disks_of(trace)
    state = disk.killed()
    poisoned = next(path for path in state if "poisoned" in path)
    others = {path: content for path, content in state.items() if path != poisoned}

    with Scratch() as scratch:
        outcome = scratch.recover(state)
        judge(state, outcome, promise, promise.appended)

    assert len(segment_rows(poisoned, state[poisoned]) & rows_of(others)) == 3
    assert bronze_rows(outcome.after) == Counter(trace.appended.keys())
    assert outcome.exit_code == 0


@pytest.mark.parametrize("failing_commit", [1, 3])  # of an active segment, and of one that was sealed
def test_a_crash_while_rows_move_to_another_segment_after_a_failed_sync_loses_and_doubles_none(failing_commit):
    trace = run_log((failing_commit,))
    failed = call_number(trace, "sync_failed")
    moved = next(n for n, call in enumerate(trace.calls, 1) if n > failed and call.name == "replace") + 1

    with Scratch() as scratch:
        for disk, promise in disks_of(trace, failed, moved):
            kill_and_cut(scratch, disk, promise)
            kill_and_cut_recovery(scratch, disk, promise)


def test_a_crash_between_the_two_names_of_a_seal_leaves_one_segment():
    trace = run_log()
    linked = call_number(trace, "link", ".001.arrow")
    renamed = next(n for n, call in enumerate(trace.calls, 1) if n > linked and call.name == "replace") + 1

    with Scratch() as scratch:
        for disk, promise in disks_of(trace, linked, renamed):
            kill_and_cut(scratch, disk, promise)
            outcome = scratch.recover(disk.killed())
            assert bronze_rows(outcome.after) == Counter(promise.appended)


def test_of_a_segment_with_two_names_the_one_that_stays_is_durable_before_the_other_goes():
    """Also where a recovery was killed on the way, so that the next one finds nothing to remove, and so to sync."""
    trace = run_recorder(Workload(flushes=1))
    links = [n for n, call in enumerate(trace.calls, 1) if call.name == "link" and call.target.startswith("wal/")]

    with Scratch() as scratch:
        for linked in links:
            ((disk, _),) = disks_of(trace, linked, linked)
            outcome = scratch.recover(disk.killed())
            check_recovery(disk, outcome)
            first = disk.next_inode
            for call in outcome.calls:
                disk.apply(call, first)
                check_recovery(disk, scratch.recover(disk.killed()))

    assert len(links) > 2


def test_a_crash_inside_the_copy_that_recovery_makes_loses_and_doubles_no_row():
    trace = run_log(commits=2)
    appended = max(trace.appended.values())

    with Scratch() as scratch:
        calls = [
            kill_and_cut_recovery(scratch, disk, promise) for disk, promise in disks_of(trace, appended, appended + 1)
        ]

    assert min(calls) > 20


def test_an_end_row_is_durable_only_where_the_rows_that_it_counts_are():
    trace = run_recorder(Workload(flushes=1))
    ((end, counted),) = trace.counted.items()

    with Scratch() as scratch:
        held = 0
        for disk, promise in disks_of(trace, trace.begun[end]):
            assert counted <= rows_of(disk.durable())
            cut = disk.durable()
            outcome = scratch.recover(cut)
            judge(cut, outcome, promise, promise.acknowledged)
            held += end in bronze_rows(outcome.after)

    assert len(counted) == 24
    assert held > 10


def test_rows_that_read_again_in_quarantine_come_into_bronze_once(tmp_path):
    *_, (disk, _) = disks_of(run_log())
    for path, content in disk.killed().items():
        (tmp_path / path).mkdir() if content is None else (tmp_path / path).write_bytes(content)
    sealed = tmp_path / "wal" / "futures_trades_ES.001.arrow"
    whole = sealed.read_bytes()
    struck = [frame for frame in scan(memoryview(whole)).frames if frame.kind == "data"][1]
    with sealed.open("r+b") as file:
        file.seek(struck.end - 100)
        file.write(bytes(byte ^ 0xFF for byte in whole[struck.end - 100 : struck.end - 90]))

    damaged = recover_folder(tmp_path)
    salvaged = bronze_rows(read_state(tmp_path))
    (quarantined,) = (tmp_path / "wal" / "quarantine").glob("*.arrow")
    with quarantined.open("r+b") as file:
        file.write(whole)
    parts = parts_of(read_state(tmp_path))
    healed = recover_folder(tmp_path)
    after = read_state(tmp_path)
    recover_folder(tmp_path)

    gap = (SYSTEM_GAPS.name, 1, 0)
    rows = [(TRADES.schema, 77, number) for number in range(17)]
    assert damaged.exit_code == 3
    assert salvaged == Counter({gap, *rows} - {*rows[struck.first_row : struck.end_row]})
    assert healed.exit_code == 0
    assert healed.rows == 3
    assert bronze_rows(after) == Counter([gap, *rows])
    assert parts.items() <= parts_of(after).items()
    assert parts_of(read_state(tmp_path)) == parts_of(after)


def test_parts_that_are_archived_are_never_lost_and_recovery_publishes_none_of_their_rows_again():
    trace, archiving = run_archive()
    chance = random.Random(1)

    with Scratch() as scratch:
        before = Disk()
        for number, call in enumerate(trace.calls, 1):
            if number > archiving:
                check_call(before, call)
            before.apply(call)
        for disk, promise in disks_of(trace, archiving):
            kill_and_cut(scratch, disk, promise)
            for ordered in (False, True, False, True):
                cut = disk.cut(chance, ordered=ordered)
                judge(cut, scratch.recover(cut), promise, promise.acknowledged)
        kill_and_cut_recovery(scratch, disk, promise)
        outcome = scratch.recover(disk.killed())

    assert len(trace.calls) - archiving > 15
    assert not [path for path in parts_of(disk.killed()) if path.startswith(BRONZE)]
    assert len(segment_rows(*next(item for item in disk.killed().items() if ".002.arrow" in item[0]))) == 9
    assert bronze_rows(outcome.after) == Counter(trace.appended.keys())


def recover_folder(root) -> Recovered:
    index = Catalog(root / "lake")
    try:
        return recover(root / "wal", index, root / "lake" / "bronze", run_capture=1)
    finally:
        index.close()


def read_state(root) -> State:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

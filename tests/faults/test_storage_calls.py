"""The instrument itself: it sees every storage call of every thread, once, and what it answers is what happens."""

import errno
import os
import signal
import threading
import time

import pytest

from tests.faults.nursery import nursery
from tests.faults.storage_calls import Call, Kill, Refuse, Wait

pytestmark = pytest.mark.usefixtures("storage_taps")

CALLS = [
    ("mkdir", "folder"), ("openat", "folder/a"), ("pwrite64", "folder/a"), ("pwrite64", "folder/a"),
    ("fdatasync", "folder/a"), ("link", "folder/b"), ("fsync", "folder"), ("rename", "folder/c"),
    ("ftruncate", "folder/a"), ("unlink", "folder/c"),
]  # fmt: skip


def calls_of(folder, decide):
    """Watch a child that makes `CALLS`, half of them in a second thread; return what it reports, and its end."""
    heard = []
    child = nursery().start(folder, "calls", watched=True)
    ended, code = child.watch(folder, decide, heard.append)
    return heard, ended, code


def test_each_storage_call_of_each_thread_is_seen_once_and_in_order(tmp_path):
    seen: list[Call] = []
    heard, ended, code = calls_of(tmp_path, seen.append)

    assert [(call.name, call.path) for call in seen] == CALLS
    assert [call.number for call in seen] == list(range(1, len(CALLS) + 1))
    assert len({call.thread for call in seen}) == 2
    assert (heard, ended.killed_at, code) == (["done"], None, 0)


def test_a_process_is_killed_before_the_call_and_not_after(tmp_path):
    heard, ended, code = calls_of(tmp_path, lambda call: Kill() if call.name == "link" else None)

    assert ended.killed_at == Call(6, "link", "folder/b", ended.killed_at.thread)
    assert code == -signal.SIGKILL
    assert (heard, [path.name for path in (tmp_path / "folder").iterdir()]) == ([], ["a"])


def test_a_refused_call_returns_its_error_and_does_nothing(tmp_path):
    heard, _, code = calls_of(tmp_path, lambda call: Refuse(errno.ENOSPC) if call.name == "fdatasync" else None)

    assert code == 1
    assert heard == [os.strerror(errno.ENOSPC)]


def test_a_call_waits_as_long_as_it_is_told_to(tmp_path):
    threads, began = threading.active_count(), time.monotonic()
    calls_of(tmp_path, lambda call: Wait(0.3) if call.name == "fdatasync" else None)

    assert time.monotonic() - began >= 0.3
    assert threading.active_count() == threads

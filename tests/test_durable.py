"""Files that appear whole or not at all, and one writer."""

import errno
import fcntl
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from spymaster import durable
from spymaster.errors import LockedError


def test_a_published_file_is_whole_and_leaves_no_draft(tmp_path):
    durable.publish(b"rows", tmp_path / "part")

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("part", b"rows")]


def test_publishing_never_replaces_a_file(tmp_path):
    (tmp_path / "part").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        durable.publish(b"new", tmp_path / "part")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("part", b"old")]


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_disk_that_refuses_leaves_no_file(tmp_path, monkeypatch, call):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, refuse)

    with pytest.raises(OSError, match="Input/output"):
        durable.publish(b"rows", tmp_path / "part")
    assert list(tmp_path.iterdir()) == []


def test_the_calls_come_in_the_order_that_survives_a_power_cut(tmp_path, monkeypatch):
    calls = []
    for module, name in ((os, "pwrite"), (os, "fdatasync"), (os, "link"), (os, "fsync")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])

    durable.publish(b"rows", tmp_path / "part")

    assert calls == ["pwrite", "fdatasync", "link", "fsync"]


def test_directories_are_synced_in_the_one_above_them_old_ones_too_but_once(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable, "sync_directory", synced.append)

    (tmp_path / "a").mkdir()  # by a process that was killed before it synced the name
    durable.make_directories(tmp_path / "a" / "b")
    assert synced[-2:] == [tmp_path, tmp_path / "a"]

    durable.make_directories(tmp_path / "a" / "c")
    assert synced[-3:] == [tmp_path, tmp_path / "a", tmp_path / "a"]


def test_a_lock_has_one_holder_and_dies_with_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from spymaster import durable\n"
        "with durable.lock_directory(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    root = Path(durable.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"in use by process {holder.pid}"), durable.lock_directory(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with durable.lock_directory(tmp_path):
        pass


def test_the_holder_of_a_lock_is_named_while_it_lives(tmp_path):
    assert durable.lock_holder(tmp_path / "missing") is None
    with durable.lock_directory(tmp_path):
        assert durable.lock_holder(tmp_path) == str(os.getpid())
    assert durable.lock_holder(tmp_path) is None  # though its pid still stands there


def test_whoever_asks_for_the_holder_in_that_instant_keeps_nobody_from_the_lock(tmp_path, monkeypatch):
    asking = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(durable.time, "sleep", lambda _: fcntl.flock(asking, fcntl.LOCK_UN))

    with durable.lock_directory(tmp_path):
        assert durable.lock_holder(tmp_path) == str(os.getpid())
    os.close(asking)


def test_a_refusal_waits_for_the_name_of_a_holder_that_has_just_got_the_lock(tmp_path):
    """What the file says before may be nothing, or a dead process's number, which is no one's or a stranger's."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / ".holder").write_text(f"{dead.pid}\n")
    code = (
        "import fcntl, os, sys, time; from pathlib import Path\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print('locked', flush=True); time.sleep(0.3)\n"
        "Path(sys.argv[1], '.holder').write_text(f'{os.getpid()}'); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(LockedError, match=f"in use by process {holder.pid}"), durable.lock_directory(tmp_path):
            pass
        holder.kill()


def test_of_directories_without_end_the_latest_are_remembered_and_another_is_synced_again(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_MAX_SYNCED", 3)
    monkeypatch.setattr(durable, "_synced_directories", OrderedDict())
    folders = [tmp_path / str(number) for number in range(4)]
    synced = []
    monkeypatch.setattr(durable, "sync_directory", synced.append)

    for folder in (*folders, folders[-1]):
        durable.make_directories(folder)
    assert set(durable._synced_directories) == {folders[2], tmp_path, folders[3]}  # parents are met again and again
    synced.clear()
    durable.make_directories(folders[-1])
    assert synced == []
    durable.make_directories(folders[0])

    assert tmp_path in synced


def test_files_below_a_folder_are_those_of_all_its_folders_and_none_where_it_is_not(tmp_path):
    for name in ("b/c/two", "a", "b/one"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"xy")

    assert durable.files_below(tmp_path) == [tmp_path / name for name in ("a", "b/c/two", "b/one")]
    assert durable.bytes_below(tmp_path) == 6
    assert durable.files_below(tmp_path / "absent") == []


def test_a_large_new_file_takes_no_name_that_is_in_use_and_leaves_no_draft(tmp_path):
    with durable.publishing(tmp_path / "new") as draft:
        draft.write_text("whole")
        assert not (tmp_path / "new").exists()
    with pytest.raises(FileExistsError), durable.publishing(tmp_path / "new") as draft:
        draft.write_text("other")
    with pytest.raises(FileNotFoundError), durable.publishing(tmp_path / "never"):
        (tmp_path / "nowhere").read_text()

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"new": "whole"}

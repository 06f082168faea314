"""A model of a disk under `spymaster.durable`: it records every storage call, and knows what a power cut may leave.

What a cut leaves of a file: the bytes of its last sync, and of what was written since nothing, a part, zeros, garbage
or all. What it leaves of a directory: the names of its last sync, and of the changes since any subset (*weak*), or any
prefix (*ordered*, what journalling file systems do). A rename is one change: both names or neither. A file system may
keep more than this; it must not be relied on to.

A sync covers what was written before it began. After a sync of a file that failed, whatever it should have covered is
in *limbo*: it reads well until the cut, which leaves any subset of it, and no later sync brings it back, because the
kernel holds those pages for clean. The names of a directory whose sync failed are covered by a later one that
succeeds: file systems journal them, and one that cannot write its journal takes no more syncs.
"""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

from spymaster import durable

RECORDED = (
    "create", "write_fully", "truncate", "sync", "close",
    "make_directory", "sync_directory", "link", "replace", "remove",
)  # fmt: skip

State = dict[str, bytes | None]  # each path's bytes below the root, or None for a folder


def links_of(state: State) -> dict[str, str]:
    """Return the second names of files with the first of each, in the order of names.

    Two names of the log with the same bytes are one file: each segment has an id of its own.
    """
    first: dict[bytes, str] = {}
    linked = {}
    for path in sorted(path for path in state if path.startswith("wal/")):
        content = state[path]
        if content and first.setdefault(content, path) != path:
            linked[path] = first[content]
    return linked


class Call(NamedTuple):
    """One storage call, after it succeeded, or a sync that failed.

    Attributes:
        name: the function of `durable`, or `sync_failed`.
        at: its place among the calls that were made.
        path: the name it is about, relative to the root.
        target: the second name of a link or replace.
        inode: names a file beyond its names.
        offset: where a write begins, or a file is cut.
        data: what was written.
        covers: of a sync, the number of calls that were made before it began.
    """

    name: str
    at: int = 0
    path: str | None = None
    target: str | None = None
    inode: int | None = None
    offset: int = 0
    data: bytes = b""
    covers: int = 0

    def __str__(self) -> str:
        return f"{self.name} {self.target or self.path or f'inode {self.inode}'}"


class Write(NamedTuple):
    """Bytes appended to a file, or with none a file cut back."""

    at: int
    offset: int
    data: bytes


class Change(NamedTuple):
    """A change of a directory's names: each named inode, or None for a name that goes."""

    at: int
    names: tuple[tuple[str, int | None], ...]


@dataclass
class File:
    """A file's bytes: what is durable, what a failed sync should have covered, and what was written since."""

    synced: bytes = b""
    limbo: tuple[Write, ...] = ()
    pending: tuple[Write, ...] = ()
    _full: bytes | None = None

    def restarted(self) -> "File":
        return File(self.synced, self.limbo, tuple(write._replace(at=-1) for write in self.pending), self._full)

    def full(self) -> bytes:
        """Return what a reader sees before the cut."""
        if self._full is None:
            self._full = written(self.synced, (*self.limbo, *self.pending))
        return self._full

    def write(self, write: Write) -> None:
        self.pending, self._full = (*self.pending, write), None

    def sync(self, covers: int) -> None:
        """Make durable what was written before the sync began, and no write that an earlier one failed on."""
        self.synced = written(self.synced, (write for write in self.pending if write.at < covers))
        self.pending = tuple(write for write in self.pending if write.at >= covers)
        self._full = None

    def fail(self, covers: int) -> None:
        self.limbo += tuple(write for write in self.pending if write.at < covers)
        self.pending = tuple(write for write in self.pending if write.at >= covers)


def written(content: bytes, writes: Iterable[Write]) -> bytes:
    """Return a file's bytes after some writes; bytes that no write reached are zeros."""
    grown = bytearray(content)
    for write in writes:
        # A write never shortens a file, only a cut does; behind a write that was lost lie the later ones.
        end = write.offset + len(write.data) if write.data else len(grown)
        grown.extend(bytes(max(0, write.offset - len(grown))))
        grown[write.offset : end] = write.data
    return bytes(grown)


@dataclass
class Folder:
    """A directory's names: as of its last sync, and the changes since. Folders hold the inode of their own."""

    synced: dict[str, int] = field(default_factory=dict)
    pending: tuple[Change, ...] = ()

    def restarted(self) -> "Folder":
        return Folder(self.synced, tuple(change._replace(at=-1) for change in self.pending))

    def after(self, changes: Iterable[Change]) -> dict[str, int]:
        names = dict(self.synced)
        for change in changes:
            for name, inode in change.names:
                if inode is None:
                    names.pop(name, None)
                else:
                    names[name] = inode
        return names

    def sync(self, covers: int) -> None:
        self.synced = self.after(change for change in self.pending if change.at < covers)
        self.pending = tuple(change for change in self.pending if change.at >= covers)


class Disk:
    """Files and folders by inode, as a sequence of calls made them. The root folder is inode 0."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.folders: dict[int, Folder] = {0: Folder()}

    @classmethod
    def holding(cls, state: State) -> "Disk":
        """Return a disk on which a state is durable."""
        disk = cls()
        inodes = {"": 0}
        linked = links_of(state)
        for inode, path in enumerate(sorted(state), 1):
            inodes[path] = inodes[linked[path]] if path in linked else inode
            disk.folders[inodes[_parent(path)]].synced[_name(path)] = inodes[path]
            content = state[path]
            if content is None:
                disk.folders[inode] = Folder()
            elif path not in linked:
                disk.files[inode] = File(synced=content)
        return disk

    def restarted(self) -> "Disk":
        """Return a copy for the calls of the next process; whatever is pending was written before any of them."""
        twin = Disk()
        twin.files = {inode: file.restarted() for inode, file in self.files.items()}
        twin.folders = {inode: folder.restarted() for inode, folder in self.folders.items()}
        return twin

    @property
    def next_inode(self) -> int:
        return max([*self.files, *self.folders]) + 1

    def lookup(self, path: str) -> int | None:
        """Return the inode that a reader finds at a path."""
        inode: int | None = 0
        for part in path.split("/") if path else ():
            if inode is None or inode not in self.folders:
                return None
            folder = self.folders[inode]
            inode = folder.after(folder.pending).get(part)
        return inode

    def apply(self, call: Call, first_inode: int = 1) -> None:
        """Carry out one call; a recording counts the files that it made from 0, and here they follow `first_inode`."""
        inode = None if call.inode is None else first_inode + call.inode
        if call.name == "create":
            self.files[inode] = File()
            self._change(call.at, _parent(call.path), (_name(call.path), inode))
        elif call.name == "make_directory":
            self.folders[inode] = Folder()
            self._change(call.at, _parent(call.path), (_name(call.path), inode))
        elif call.name in ("write_fully", "truncate"):
            self.files[inode].write(Write(call.at, call.offset, call.data))
        elif call.name == "sync":
            self.files[inode].sync(call.covers)
        elif call.name == "sync_failed":
            self.files[inode].fail(call.covers)
        elif call.name == "sync_directory":
            self.folders[self.lookup(call.path)].sync(call.covers)
        elif call.name == "link":
            self._change(call.at, _parent(call.target), (_name(call.target), self.lookup(call.path)))
        elif call.name == "replace":
            moved = self.lookup(call.path)
            self._change(call.at, _parent(call.target), (_name(call.path), None), (_name(call.target), moved))
        elif call.name == "remove":
            self._change(call.at, _parent(call.path), (_name(call.path), None))

    def _change(self, at: int, folder: str, *names: tuple[str, int | None]) -> None:
        self.folders[self.lookup(folder)].pending += (Change(at, names),)

    def killed(self) -> State:
        """Return what a kill now leaves, which loses nothing."""
        return self._state(lambda changes: changes, File.full)

    def durable(self) -> State:
        """Return what every power cut now leaves: nothing that was not synced."""
        return self._state(lambda changes: (), lambda file: file.synced)

    def cut(self, chance: random.Random, *, ordered: bool) -> State:
        """Return a state that a power cut now may leave."""
        if ordered:
            return self._state(lambda c: c[: chance.randint(0, len(c))], lambda file: torn(file, chance))
        return self._state(lambda c: [x for x in c if chance.random() < 0.5], lambda file: torn(file, chance))

    def _state(self, kept: Callable, content: Callable[[File], bytes]) -> State:
        found: State = {}
        waiting = [("", 0)]
        contents: dict[int, bytes] = {}
        while waiting:
            path, inode = waiting.pop()
            folder = self.folders[inode]
            names = folder.after(kept(folder.pending)) if folder.pending else folder.synced
            for name, child in sorted(names.items()):
                below = f"{path}{name}"
                if child in self.folders:
                    found[below] = None
                    waiting.append((f"{below}/", child))
                else:
                    if child not in contents:  # two names of one file have the same bytes
                        contents[child] = content(self.files[child])
                    found[below] = contents[child]
        return found


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def torn(file: File, chance: random.Random) -> bytes:
    """Return what a cut may leave of a file: of limbo any writes or halves of them, of the rest a torn tail."""
    if not file.limbo and not file.pending:
        return file.synced
    limbo = [kept for write in file.limbo if (kept := _half(write, chance)) is not None]
    before = written(file.synced, limbo)
    full = written(before, file.pending)
    if len(full) <= len(before):
        return chance.choice([before, full])
    # Eighths and one garbage for all: states that differ only in random bytes would be one state many times.
    cut = len(before) + (len(full) - len(before)) * chance.randint(0, 8) // 8
    return chance.choice(
        [
            before,
            full,
            full[:cut],
            full[:cut] + bytes(len(full) - cut),
            full[:cut] + _garbage(len(full) - cut),
            before + bytes(cut - len(before)) + full[cut:],
        ]
    )


def _half(write: Write, chance: random.Random) -> Write | None:
    """Return what is left of a write whose sync failed: all, nothing, or one half over zeros."""
    middle = len(write.data) // 2
    zeros, rest = bytes(middle), bytes(len(write.data) - middle)
    kept = chance.choice([write.data, None, write.data[:middle] + rest, zeros + write.data[middle:]])
    return None if kept is None else write._replace(data=kept)


@lru_cache(maxsize=1_000)
def _garbage(length: int) -> bytes:
    return random.Random(length).randbytes(length)


class Recording:
    """The calls that were made below a root, in order. The files and folders that they made have inodes from 0 on.

    Attributes:
        calls: those that succeeded, and the sync that failed.
        syncs: syncs of files and directories that were asked for.
    """

    def __init__(self, root: Path, failing_sync: int | None) -> None:
        self.calls: list[Call] = []
        self.syncs = 0
        self._root = str(root)
        self._failing_sync = failing_sync
        self._inodes: dict[int, int] = {}
        self._next = 0
        self._turn = threading.Lock()

    def fail_next_sync(self) -> None:
        self._failing_sync = self.syncs + 1

    def wrap(self, name: str, real: Callable) -> Callable:
        def call(*arguments):
            first = arguments[0]
            path = str(first) if isinstance(first, Path) else None
            if path is not None and not path.startswith(self._root):
                return real(*arguments)
            if name == "close":
                self._inodes.pop(first)  # before another thread's file may get this descriptor
                return real(*arguments)
            began = len(self.calls)
            if name in ("sync", "sync_directory") and self._fails():
                if name == "sync":
                    self._note("sync_failed", arguments, None, began)
                raise OSError(errno.EIO, "the disk refused a sync")
            existed = name == "remove" and os.path.lexists(path)
            result = real(*arguments)
            if existed or (name != "remove" and result is not False):  # a remove or mkdir that had nothing to do
                self._note(name, arguments, result, began)
            return result

        return call

    def _fails(self) -> bool:
        with self._turn:
            self.syncs += 1
            return self.syncs == self._failing_sync

    def _note(self, name: str, arguments: tuple, result, began: int) -> None:
        first = arguments[0]
        with self._turn:
            at, path, target, inode, offset, data = len(self.calls), None, None, None, 0, b""
            if isinstance(first, Path):
                path = self._relative(first)
                if name in ("create", "make_directory"):
                    inode, self._next = self._next, self._next + 1
                    if name == "create":
                        self._inodes[result] = inode
                elif name in ("link", "replace"):
                    target = self._relative(arguments[1])
            else:
                inode = self._inodes[first]
                if name == "write_fully":
                    data, offset = bytes(arguments[1]), arguments[2]
                elif name == "truncate":
                    offset = arguments[1]
            self.calls.append(Call(name, at, path, target, inode, offset, data, began))

    def _relative(self, path: Path) -> str:
        return str(path)[len(self._root) + 1 :]


@contextmanager
def recording(root: Path, failing_sync: int | None = None) -> Iterator[Recording]:
    """Record every storage call below `root` while it is carried out for real.

    Args:
        root: the folder.
        failing_sync: the sync, counted from 1, that fails without being carried out.
    """
    made = Recording(root, failing_sync)
    with pytest.MonkeyPatch.context() as patch:
        for name in RECORDED:
            patch.setattr(durable, name, made.wrap(name, getattr(durable, name)))
        yield made

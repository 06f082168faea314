"""A model of a disk under `spymaster.durable`: it records every storage call, and knows what a power cut may leave.

What a cut leaves of a file: the bytes of its last sync, and of what was written since nothing, a part, zeros, garbage
or all. What it leaves of a directory: the names of its last sync, and of the changes since any subset (*weak*), or any
prefix (*ordered*, what journalling file systems do). A rename is one change: both names or neither. A file system may
keep more than this; it must not be relied on to.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from spymaster import durable

RECORDED = (
    "create", "write_fully", "truncate", "sync", "close",
    "make_directory", "sync_directory", "link", "replace", "remove",
)  # fmt: skip


class Call(NamedTuple):
    """One storage call, after it succeeded. `inode` names a file beyond its names."""

    name: str
    path: Path | None = None
    target: Path | None = None
    inode: int | None = None
    offset: int = 0
    data: bytes = b""


class Change(NamedTuple):
    """A change of a directory's names: each named inode, or None for a name that goes."""

    names: tuple[tuple[str, int | None], ...]


@dataclass
class File:
    """A file's bytes: as of its last sync, and the writes and cuts since."""

    synced: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def full(self) -> bytes:
        content = bytearray(self.synced)
        for offset, data in self.pending:
            content[offset:] = data if offset <= len(content) else bytes(offset - len(content)) + data
        return bytes(content)


@dataclass
class Folder:
    """A directory's names: as of its last sync, and the changes since. Folders hold the inode of their own."""

    synced: dict[str, int] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def after(self, changes: list[Change]) -> dict[str, int]:
        names = dict(self.synced)
        for change in changes:
            for name, inode in change.names:
                if inode is None:
                    names.pop(name, None)
                else:
                    names[name] = inode
        return names


class Disk:
    """Files and folders by inode, as a sequence of calls made them. The root folder is inode 0."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.folders: dict[int, Folder] = {0: Folder()}

    @classmethod
    def holding(cls, state: dict[str, bytes | None]) -> "Disk":
        """Return a disk on which a state is durable."""
        disk = cls()
        for inode, path in enumerate(sorted(state), 1):
            parent, _, name = path.rpartition("/")
            disk.folders[disk.lookup(tuple(parent.split("/")) if parent else ())].synced[name] = inode
            content = state[path]
            if content is None:
                disk.folders[inode] = Folder()
            else:
                disk.files[inode] = File(synced=content)
        return disk

    @property
    def next_inode(self) -> int:
        return max([*self.files, *self.folders]) + 1

    def lookup(self, parts: tuple[str, ...]) -> int | None:
        inode: int | None = 0
        for part in parts:
            if inode is None or inode not in self.folders:
                return None
            folder = self.folders[inode]
            inode = folder.after(folder.pending).get(part)
        return inode

    def apply(self, call: Call) -> None:
        """Carry out one call; `path` and `target` are relative to the root."""
        if call.name in ("create", "make_directory"):
            kinds: dict[str, dict] = {"create": self.files, "make_directory": self.folders}
            kinds[call.name][call.inode] = File() if call.name == "create" else Folder()
            self._change(call.path.parent, (call.path.name, call.inode))
        elif call.name == "write_fully":
            self.files[call.inode].pending.append((call.offset, call.data))
        elif call.name == "truncate":
            self.files[call.inode].pending.append((call.offset, b""))
        elif call.name == "sync":
            file = self.files[call.inode]
            file.synced, file.pending = file.full(), []
        elif call.name == "sync_directory":
            folder = self.folders[self.lookup(call.path.parts)]
            folder.synced, folder.pending = folder.after(folder.pending), []
        elif call.name == "link":
            self._change(call.target.parent, (call.target.name, self.lookup(call.path.parts)))
        elif call.name == "replace":
            inode = self.lookup(call.path.parts)
            self._change(call.target.parent, (call.path.name, None), (call.target.name, inode))
        elif call.name == "remove":
            self._change(call.path.parent, (call.path.name, None))

    def _change(self, folder: Path, *names: tuple[str, int | None]) -> None:
        self.folders[self.lookup(folder.parts)].pending.append(Change(names))

    def killed(self) -> dict[str, bytes | None]:
        """Return what a kill now leaves, which loses nothing: each path's bytes, or None for a folder."""
        return self._state(lambda changes: changes, File.full)

    def states(self, chance: random.Random, limit: int, *, ordered: bool) -> Iterator[dict[str, bytes | None]]:
        """Yield up to `limit` states that a power cut now may leave; the first keeps nothing that was not synced."""
        yield self._state(lambda changes: [], lambda file: file.synced)
        for _ in range(limit - 1):
            if ordered:
                yield self._state(lambda c: c[: chance.randint(0, len(c))], lambda f: _torn(f, chance))
            else:
                yield self._state(lambda c: [x for x in c if chance.random() < 0.5], lambda f: _torn(f, chance))

    def _state(self, kept, content) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        waiting = [("", 0)]
        contents: dict[int, bytes] = {}
        while waiting:
            path, inode = waiting.pop()
            folder = self.folders[inode]
            for name, child in sorted(folder.after(kept(folder.pending)).items()):
                below = f"{path}{name}"
                if child in self.folders:
                    found[below] = None
                    waiting.append((f"{below}/", child))
                else:
                    if child not in contents:  # two names of one file have the same bytes
                        contents[child] = content(self.files[child])
                    found[below] = contents[child]
        return found


def _torn(file: File, chance: random.Random) -> bytes:
    """Return what a cut may leave of a file's unsynced bytes."""
    full, kept = file.full(), len(file.synced)
    if not file.pending or len(full) <= kept:
        return chance.choice([file.synced, full])
    cut = chance.randint(kept, len(full))
    return chance.choice(
        [
            file.synced,
            full,
            full[:cut],
            full[:cut] + bytes(len(full) - cut),
            full[:cut] + chance.randbytes(len(full) - cut),
            full[:kept] + bytes(cut - kept) + full[cut:],
        ]
    )


class Recording:
    """The calls that were made below a root, in order. New files get inodes from `first_inode` on."""

    def __init__(self, root: Path, first_inode: int) -> None:
        self.root = root
        self.calls: list[Call] = []
        self._inodes: dict[int, int] = {}
        self._next = first_inode

    def note(self, name: str, arguments: tuple, result) -> None:
        if isinstance(arguments[0], Path) and not arguments[0].is_relative_to(self.root):
            return
        if name in ("create", "make_directory"):
            if name == "make_directory" and not result:
                return
            self.calls.append(Call(name, path=arguments[0].relative_to(self.root), inode=self._next))
            if name == "create":
                self._inodes[result] = self._next
            self._next += 1
        elif name == "write_fully":
            self.calls.append(
                Call(name, inode=self._inodes[arguments[0]], data=bytes(arguments[1]), offset=arguments[2])
            )
        elif name == "truncate":
            self.calls.append(Call(name, inode=self._inodes[arguments[0]], offset=arguments[1]))
        elif name == "sync":
            self.calls.append(Call(name, inode=self._inodes[arguments[0]]))
        elif name == "close":
            self._inodes.pop(arguments[0])
        elif name in ("link", "replace"):
            self.calls.append(
                Call(name, path=arguments[0].relative_to(self.root), target=arguments[1].relative_to(self.root))
            )
        elif name == "sync_directory" or result:  # result: of a remove that removed something
            self.calls.append(Call(name, path=arguments[0].relative_to(self.root)))


@contextmanager
def recording(root: Path, first_inode: int = 1) -> Iterator[Recording]:
    """Record every storage call below `root` while it is carried out for real."""
    made = Recording(root, first_inode)
    with pytest.MonkeyPatch.context() as patch:
        for name in RECORDED:
            real = getattr(durable, name)

            def call(*arguments, real=real, name=name):
                existed = name == "remove" and arguments[0].exists()
                result = real(*arguments)
                made.note(name, arguments, existed if name == "remove" else result)
                return result

            patch.setattr(durable, name, call)
        yield made


def materialize(state: dict[str, bytes | None], root: Path) -> None:
    """Make the files and folders of a state below an empty root."""
    for path, content in state.items():
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)

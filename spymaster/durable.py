"""The only fsync, rename, link and lock: everything a crash can see goes through here.

What holds on ext4, XFS, btrfs and APFS alike: a file's bytes survive a power cut once the file was synced; its name
survives once its directory was synced; and nothing else survives for certain. A failed sync is never retried: the
kernel may have dropped the pages, so that a second call that succeeds proves nothing.
"""

import errno
import fcntl
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from spymaster.errors import LockedError

_HOLDER = ".holder"  # names the lock's holder for the refusal; the lock itself is on the directory
_LOCK_TRIES = 3  # in case someone asks in that instant who holds it
_LOCK_RETRY_S = 0.01
_LOOKS_FOR_HOLDER = 100  # as far apart
# What a file system says of a sector that does not read, or whose own checksum differs (ext4, XFS).
_BAD_MEDIUM = {errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}
_WHOLE = 0o666  # the user's umask decides
_MAX_SYNCED: Final = 10_000  # directories, of about 500 bytes each; one that is forgotten is synced once more
# Whose names this process knows to be durable, the latest last. Threads take turns.
_synced_directories: OrderedDict[Path, None] = OrderedDict()
_synced_turn = threading.Lock()


def create(path: Path) -> int:
    """Create a file that must not exist, open for writing, and return its descriptor.

    Raises:
        FileExistsError: it exists. A segment is never reopened: its writer is gone.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _WHOLE)


def write_fully(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write `data` at `offset`, the file's end, whole or not at all.

    A disk that fills up writes short before it refuses, so the write loops; on refusal the file is cut back to
    `offset`, so that no torn bytes stay in the middle of a log.
    """
    view = memoryview(data)
    written = 0
    try:
        while written < len(view):
            written += os.pwrite(descriptor, view[written:], offset + written)
    except OSError:
        os.ftruncate(descriptor, offset)
        raise


def sync(descriptor: int) -> None:
    """Make a file's bytes survive a power cut.

    Raises:
        OSError: the disk refused; what was written since the last sync is to be held for lost.
    """
    if sys.platform == "darwin":
        # fsync there leaves the bytes in the drive's cache; this call empties it.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def truncate(descriptor: int, size: int) -> None:
    """Cut a file back to `size` bytes."""
    os.ftruncate(descriptor, size)


def close(descriptor: int) -> None:
    os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut: of files created, linked, renamed or removed there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path) -> None:
    """Create a directory and its parents where they are missing, and make all their names durable.

    One that exists may have been made by a process that was killed before it synced the name, so each is synced in the
    one above the first time that this process meets it.
    """
    if _is_synced(path) and path.is_dir():
        return
    if path.parent != path:
        make_directories(path.parent)
    if make_directory(path) or os.access(path.parent, os.W_OK):  # where we cannot write, we made nothing
        sync_directory(path.parent)
    with _synced_turn:
        _synced_directories[path] = None
        while len(_synced_directories) > _MAX_SYNCED:
            _synced_directories.popitem(last=False)


def _is_synced(path: Path) -> bool:
    with _synced_turn:
        known = path in _synced_directories
        if known:
            _synced_directories.move_to_end(path)
    return known


def make_directory(path: Path) -> bool:
    """Create a directory; return whether it was not there. Its name is not synced.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    if path.is_dir():
        return False
    path.mkdir(exist_ok=True)
    return True


def link(source: Path, target: Path) -> None:
    """Give a file a second name in the same file system, never taking a name that is in use.

    Raises:
        FileExistsError: `target` exists.
    """
    os.link(source, target)


def replace(source: Path, target: Path) -> None:
    """Give `source` the name `target`, whose file is gone in the same instant. The directory is not synced."""
    source.replace(target)


def remove(path: Path) -> None:
    """Remove a file's name. The directory is not synced: a name that comes back is known by its content."""
    path.unlink(missing_ok=True)


def publish(data: bytes | memoryview | Iterable[bytes | memoryview], target: Path) -> None:
    """Make a new file appear whole and durable, or not at all; never in place of another.

    Args:
        data: its bytes, or pieces of them in order.
        target: its name.

    Raises:
        FileExistsError: `target` exists; it is as it was.
    """
    draft = _draft(data, target)
    try:
        link(draft, target)  # a rename would take the name from another file
    finally:
        remove(draft)
    sync_directory(target.parent)


def rewrite(data: bytes | memoryview, target: Path) -> None:
    """Give a file other content, all of it in one instant and durable. For reports; what is recorded never changes."""
    replace(_draft(data, target), target)
    sync_directory(target.parent)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield the draft of a large file; when the caller is done with it, it takes the target's name, whole and durable.

    If the caller raises, the draft is gone and the target is as it was.
    """
    with _large_draft(target, replace) as draft:
        yield draft


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Yield the draft of a large new file, as `replacing` does, but never take a name that is in use.

    Raises:
        FileExistsError: `target` exists; it is as it was.
    """
    with _large_draft(target, link) as draft:
        yield draft


@contextmanager
def _large_draft(target: Path, name: Callable[[Path, Path], None]) -> Iterator[Path]:
    draft = target.with_name(f".{target.name}.tmp")
    remove(draft)
    try:
        yield draft
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            close(descriptor)
        name(draft, target)
    finally:
        remove(draft)
    sync_directory(target.parent)


def _draft(data: bytes | memoryview | Iterable[bytes | memoryview], target: Path) -> Path:
    """Write `data` to a draft of `target`, its bytes durable, its name not yet."""
    draft = target.with_name(f".{target.name}.tmp")  # readers pass over names that begin with a dot
    remove(draft)
    descriptor = create(draft)
    try:
        size = 0
        for piece in [data] if isinstance(data, bytes | memoryview) else data:
            write_fully(descriptor, piece, size)
            size += len(piece)
        sync(descriptor)
    except OSError:
        remove(draft)
        raise
    finally:
        close(descriptor)
    return draft


def is_full(error: OSError) -> bool:
    """Whether a refusal is for want of room, which ends when someone frees some."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_damage(error: OSError) -> bool:
    """Whether a refusal to read speaks of the medium, and not of this process: its rights, its open files."""
    return error.errno in _BAD_MEDIUM


def free_bytes(path: Path) -> int:
    """Return how much more a user without privileges may write to the disk where a folder is, or would be."""
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, whatever it is, in no order.

    Raises:
        OSError: it cannot be listed.
    """
    return list(folder.iterdir())


def files_below(folder: Path) -> list[Path]:
    """Return all files in a folder and in those below it, in order; none where there is no folder."""
    return sorted(Path(where, name) for where, _, names in os.walk(folder) for name in names)


def bytes_below(folder: Path) -> int:
    """Return the size of all files in a folder and in those below it. Some may go meanwhile."""
    held = 0
    for path in files_below(folder):
        with suppress(FileNotFoundError):
            held += path.stat().st_size
    return held


def allocate(path: Path, size: int) -> None:
    """Make a file that holds `size` bytes of the disk, until it is removed. Nothing reads it.

    Raises:
        OSError: the disk has not got them; there is no file.
    """
    if path.exists() and path.stat().st_size == size:
        return
    remove(path)
    descriptor = create(path)
    try:
        if sys.platform == "linux":
            os.posix_fallocate(descriptor, 0, size)
        else:
            write_fully(descriptor, os.urandom(size), 0)  # zeros could be held in no space at all
        sync(descriptor)
    except OSError:
        remove(path)
        raise
    finally:
        close(descriptor)


def read(path: Path, limit: int | None = None) -> memoryview:
    """Return a file's bytes, or its first `limit`.

    Into memory that Arrow keeps for the next segment: fresh memory of that size costs more than the read. Not through
    a memory map: there a file cut short, or a bad sector, would kill the process instead of raising.

    Raises:
        OSError: it cannot be read.
    """
    with pa.OSFile(str(path), "rb") as file:
        return memoryview(file.read_buffer(limit)).cast("B")


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """Hold the single-writer lock of a directory, which dies with its process.

    The lock is on the directory and not on a file in it, because a lock file that someone deletes has two holders.

    Raises:
        LockedError: another process holds it; names its pid.
    """
    make_directories(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for left in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise LockedError(path, _holder(path)) from None
                time.sleep(_LOCK_RETRY_S)
        _name_holder(path / _HOLDER)
        yield
    finally:
        os.close(descriptor)


def _name_holder(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        if not is_full(error):
            raise
        # The lock holds without it: a refusal will say that the holder is unknown.


def lock_holder(path: Path) -> str | None:
    """Return the pid of the process that holds a directory's lock, `unknown` if it does not say; None if nobody does.

    Asks by a shared lock, held for an instant: that a process is alive whose pid was once written proves nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)
    finally:
        os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    """Name the process that has the lock: it may have got it in this instant, and not have said so yet."""
    for _ in range(_LOOKS_FOR_HOLDER):
        text = ""
        try:
            text = (path / _HOLDER).read_text().strip()
            os.kill(int(text), 0)  # a name that a killed process left would send the user after a stranger
        except PermissionError:
            return text  # alive, and another user's
        except (OSError, ValueError):
            time.sleep(_LOCK_RETRY_S)
        else:
            return text
    return "unknown"

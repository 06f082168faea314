"""Who may write what: one process a folder, by the folder's own lock."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spymaster import durable
from spymaster.errors import UsageError
from spymaster.lake import lake_id
from spymaster.lake.layout import Tier


@contextmanager
def wal_lock(wal_root: Path) -> Iterator[None]:
    """Hold the lock of the one process that writes this log.

    Raises:
        LockedError: another process holds it; names its pid.
        UsageError: the folder cannot be written; its cause says why.
    """
    with _lock("WAL_ROOT", wal_root):
        yield


@contextmanager
def bronze_lock(data_root: Path) -> Iterator[None]:
    """Hold the lock of the one process that writes this Bronze.

    Raises:
        LockedError: another process holds it; names its pid.
        UsageError: the folder cannot be written; its cause says why.
    """
    with _lock("DATA_ROOT", Tier.BRONZE.of(data_root)):
        yield


@contextmanager
def writer_locks(wal_root: Path, data_root: Path) -> Iterator[None]:
    """Hold both, of a lake and its own log.

    Raises:
        LockedError: another process holds one; names its pid.
        UsageError: a folder cannot be written.
        OtherLakeError: the log is another lake's.
    """
    with wal_lock(wal_root), bronze_lock(data_root):
        lake_id.join(wal_root, data_root)
        yield


@contextmanager
def archive_locks(wal_root: Path, data_root: Path) -> Iterator[None]:
    """Hold every lock: nobody may record, recover or compact while parts move.

    Raises:
        LockedError: another process holds one; names its pid.
        UsageError: a folder cannot be written.
        OtherLakeError: the log is another lake's.
    """
    with writer_locks(wal_root, data_root), durable.lock_directory(Tier.SILVER.of(data_root)):
        yield


@contextmanager
def _lock(name: str, folder: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(durable.lock_directory(folder))
        except OSError as error:
            raise UsageError(
                f"{name}: {folder} cannot be written ({error.strerror or error}). Nothing was started, nothing was "
                f"written elsewhere. Next: choose another folder with {name}, or mend its permissions"
            ) from error
        yield

"""Who may write what: one process a folder, by the folder's own lock."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spymaster import durable
from spymaster.errors import LockedError, UsageError
from spymaster.lake.layout import Tier


@contextmanager
def writer_locks(wal_root: Path, data_root: Path) -> Iterator[None]:
    """Hold the locks of the one process that writes this log and this Bronze.

    Raises:
        LockedError: another process holds one; names its pid.
        UsageError: a folder cannot be written.
    """
    with ExitStack() as stack:
        for name, folder in (("WAL_ROOT", wal_root), ("DATA_ROOT", Tier.BRONZE.of(data_root))):
            try:
                stack.enter_context(durable.lock_directory(folder))
            except LockedError:
                raise
            except OSError as error:
                raise UsageError(
                    f"{name}: {folder} cannot be written ({error.strerror or error}). Nothing was started, nothing was "
                    f"written elsewhere. Next: choose another folder with {name}, or mend its permissions"
                ) from error
        yield


@contextmanager
def archive_locks(wal_root: Path, data_root: Path) -> Iterator[None]:
    """Hold every lock: nobody may record, recover or compact while parts move.

    Raises:
        LockedError: another process holds one; names its pid.
        UsageError: a folder cannot be written.
    """
    with writer_locks(wal_root, data_root), durable.lock_directory(Tier.SILVER.of(data_root)):
        yield

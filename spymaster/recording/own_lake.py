"""The lake that a log drains into: Bronze's lock, and that log and lake belong together.

Both are asked for at the start, where Bronze's disk may refuse, and again before the first part is written.
"""

from contextlib import ExitStack
from pathlib import Path

from spymaster import durable
from spymaster.errors import LayoutError, OtherLakeError, UsageError
from spymaster.lake import lake_id
from spymaster.lake.bronze import remove_drafts
from spymaster.lake.catalog import Catalog
from spymaster.lake.layout import Tier
from spymaster.lake.locks import bronze_lock


class OwnLake:
    """What a recorder holds of its lake. One thread at a time."""

    def __init__(self, wal_root: Path, data_root: Path) -> None:
        self._wal_root, self._data_root = wal_root, data_root
        self._locks = ExitStack()
        self._locked = False

    def lock(self) -> None:
        """Lock Bronze at the start, of the log's own lake. What cannot be asked now is asked before Bronze is written.

        Raises:
            LockedError: another process holds it; names its pid.
            OtherLakeError: the log is another lake's.
            UsageError: the folder cannot be written, for another reason than a full or failing disk.
        """
        try:
            self._locks.enter_context(bronze_lock(self._data_root))
            self._locked = True
        except UsageError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or not (durable.is_full(cause) or durable.is_damage(cause)):
                raise
        try:
            lake_id.join(self._wal_root, self._data_root, lake_locked=self._locked)
        except OtherLakeError:
            raise
        except (OSError, LayoutError):
            pass  # `open` asks again, and says so

    def open(self) -> Catalog:
        """Lock Bronze unless that is done, see that it is the log's, remove drafts, open the catalog."""
        if not self._locked:
            self._locks.enter_context(bronze_lock(self._data_root))
            self._locked = True
        lake_id.join(self._wal_root, self._data_root)
        remove_drafts(Tier.BRONZE.of(self._data_root))
        return Catalog(self._data_root)

    def close(self) -> None:
        """Let the lock go."""
        self._locks.close()

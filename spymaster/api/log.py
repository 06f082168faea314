"""Brings what a crash left in the log to Bronze, and hands it over."""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import settings
from spymaster.events.captures import random_capture_id
from spymaster.lake.catalog import Catalog
from spymaster.lake.layout import Tier
from spymaster.lake.locks import writer_locks
from spymaster.recording.recovery import Recovered, recover


class RecoveredEvents:
    """What `WALManager.recover_all` brought to Bronze. `len` counts rows; iteration yields them in event-time order.

    Attributes:
        report: what recovery found and did.
    """

    def __init__(self, report: Recovered, bronze: Path) -> None:
        self.report = report
        self._bronze = bronze

    def __len__(self) -> int:
        return self.report.rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield one mapping per row, a batch of each part in memory at a time."""
        parts = (self._rows(part.relative) for part in self.report.parts)
        yield from heapq.merge(*parts, key=lambda row: row["ts_event_ns"])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as columns, part by part, each sorted by `ts_event_ns`."""
        for part in self.report.parts:
            with pq.ParquetFile(self._bronze / part.relative) as file:
                yield from file.iter_batches()

    def _rows(self, relative: str) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(self._bronze / relative) as file:
            for batch in file.iter_batches(batch_size=1_000):
                columns = batch.to_pydict()
                for values in zip(*columns.values(), strict=True):
                    yield dict(zip(columns, values, strict=True))


class WALManager:
    """The write-ahead log as a whole, for scripts and notebooks.

    Example:
        recovered = WALManager().recover_all()
        print(f"Recovered {len(recovered)} unflushed events")
    """

    def __init__(self, wal_root: str | Path | None = None, data_root: str | Path | None = None) -> None:
        """Name a log and its lake; nothing is opened before `recover_all`.

        Args:
            wal_root: the log; if None the settings', or of another lake the one in it.
            data_root: the lake; the settings' if None.

        Raises:
            UsageError: a setting is not usable.
        """
        loaded = settings.load(wal_root=wal_root, data_root=data_root)
        self._wal_root, self._data_root = loaded.wal_root, loaded.data_root

    def recover_all(self, progress: Callable[[int, int], None] | None = None) -> RecoveredEvents:
        """Drain everything that a crash left into Bronze. A second call finds nothing.

        Args:
            progress: called with (segments done, of how many).

        Raises:
            LockedError: a daemon records here; names its pid.
            UsageError: a folder cannot be written.
        """
        bronze = Tier.BRONZE.of(self._data_root)
        with writer_locks(self._wal_root, self._data_root):
            catalog = Catalog(self._data_root)
            try:
                report = recover(self._wal_root, catalog, bronze, random_capture_id(), progress)
            finally:
                catalog.close()
        return RecoveredEvents(report, bronze)

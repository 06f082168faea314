"""Makes Silver from a program, as `spymaster compact` does."""

from collections.abc import Sequence
from pathlib import Path

from spymaster import clock, settings
from spymaster.compaction import compactor
from spymaster.compaction.compactor import THREADS, Compacted, Progress
from spymaster.compaction.engines import FASTER, Engine
from spymaster.events import MARKET_SCHEMAS, EventSchema
from spymaster.lake.layout import schema_of_silver


class SilverCompactor:
    """Makes Silver of Bronze: every event once. May work beside a running daemon; one process compacts at a time.

    Each call returns one result per partition: its status, rows in and out, the counts, bytes, seconds and MB/s.

    Example:
        SilverCompactor().compact_date("2025-12-22", schema="futures.trades")
    """

    def __init__(self, data_root: str | Path | None = None, threads: int = THREADS, engine: str = FASTER.value) -> None:
        """Name a lake; nothing is read.

        Args:
            data_root: the lake; the settings' if None.
            threads: partitions that are compacted at once.
            engine: `numpy` or `duckdb`, which make the same bytes.

        Raises:
            UsageError: a setting is not usable, or there is no such engine.
        """
        loaded = settings.load(data_root=data_root)
        self._data_root, self._threads, self._engine = loaded.data_root, threads, Engine.named(engine)
        self._tolerance_ns = round(loaded.greeks_tolerance_sec * clock.NS_PER_SECOND)

    def compact_date(self, date: str, schema: str, progress: Progress | None = None) -> list[Compacted]:
        """Compact one UTC date of one schema.

        Args:
            date: `YYYY-MM-DD`.
            schema: with or without its version, e.g. `futures.trades`.
            progress: called with (partitions done, of how many).

        Raises:
            UsageError: the date is not a calendar date, the schema has no Silver, or the folder cannot be written.
            LockedError: another process compacts here; names its pid.
            LayoutError: the lake is laid out otherwise.
            OSError: the disk refused; what was published before is whole.
        """
        return self._compact([schema_of_silver(schema)], date, date, progress)

    def compact_all_schemas(self, date: str, progress: Progress | None = None) -> list[Compacted]:
        """Compact one UTC date of every market schema; raises as `compact_date` does.

        Args:
            date: `YYYY-MM-DD`.
            progress: called with (partitions done, of how many).
        """
        return self._compact(MARKET_SCHEMAS, date, date, progress)

    def compact_all_dates(
        self, schema: str, start_date: str | None = None, end_date: str | None = None, progress: Progress | None = None
    ) -> list[Compacted]:
        """Compact every UTC date of one schema, or those between two; raises as `compact_date` does.

        Args:
            schema: with or without its version.
            start_date: the first date; None for the first that there is.
            end_date: the last date, included; None for the last that there is.
            progress: called with (partitions done, of how many).
        """
        return self._compact([schema_of_silver(schema)], start_date, end_date, progress)

    def _compact(
        self, schemas: Sequence[EventSchema], start_date: str | None, end_date: str | None, progress: Progress | None
    ) -> list[Compacted]:
        with compactor.lock(self._data_root):
            wanted = compactor.partitions(self._data_root, schemas, start_date, end_date)
            return compactor.compact(
                self._data_root,
                wanted,
                threads=self._threads,
                progress=progress,
                tolerance_ns=self._tolerance_ns,
                engine=self._engine,
            )

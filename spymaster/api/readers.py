"""Reads lake and log, wherever the settings say that they are, by the same code as the command line."""

from pathlib import Path

from spymaster import settings
from spymaster.query.bronze_rows import Form, Reader
from spymaster.query.gold_rows import GoldRows
from spymaster.query.lake import Lake
from spymaster.query.silver_rows import SilverRows


def connect(data_root: str | Path | None = None, wal_root: str | Path | None = None) -> Lake:
    """Open lake and log for SQL, also beside a running daemon; see `Lake`.

    Args:
        data_root: the lake; the settings' if None.
        wal_root: its log; if None the settings', or of another lake the one in it.

    Raises:
        UsageError: a setting is not usable.
        LayoutError: the log is another lake's.

    Example:
        with spymaster.connect() as lake:
            print(lake.sql("select contract, count(*) from futures_trades group by all"))
    """
    loaded = settings.load(data_root=data_root, wal_root=wal_root)
    return Lake(loaded.data_root, loaded.wal_root)


class BronzeReader(Reader):
    """Reads Bronze: pandas frames, or Arrow, polars or DuckDB relations: `BronzeReader().arrow().read_...`.

    Spans are half-open in `ts_event_ns`, dates are UTC. An empty span is an empty frame. A pandas column of integers
    keeps them exactly: it is nullable where a value is missing, never a float.
    """

    def __init__(self, data_root: str | Path | None = None, form: Form = "pandas") -> None:
        """Prepare a reader.

        Args:
            data_root: the lake; the settings' if None.
            form: of the results; `arrow()`, `polars()` and `relation()` say it too.

        Raises:
            UsageError: a setting is not usable.
        """
        super().__init__(settings.load(data_root=data_root).data_root, form)


class SilverReader(SilverRows):
    """Reads the market, each event once: pandas frames, or as asked: `SilverReader().arrow().read_date(...)`.

    Hours that are not compacted yet, or changed since, come from Bronze and log, so that a date reads the same before
    and after it was compacted. Dates are UTC, spans half-open in `ts_event_ns`. What is not there is an empty frame
    without a warning, which a loop over dates would repeat for every holiday; `spymaster sql` names the command that
    would fill it. One thread uses a reader.

    Example:
        df = SilverReader().read_date("2025-12-22", schema="futures.trades")
    """

    def __init__(
        self, data_root: str | Path | None = None, wal_root: str | Path | None = None, form: Form = "pandas"
    ) -> None:
        """Prepare a reader.

        Args:
            data_root: the lake; the settings' if None.
            wal_root: its log; if None the settings', or of another lake the one in it.
            form: of the results; `arrow()`, `polars()` and `relation()` say it too.

        Raises:
            UsageError: a setting is not usable.
            LayoutError: the log is another lake's.
        """
        loaded = settings.load(data_root=data_root, wal_root=wal_root)
        super().__init__(Lake(loaded.data_root, loaded.wal_root), form)


class GoldReader(GoldRows):
    """Reads the signals in Gold: pandas frames, or as asked: `GoldReader().arrow().read_level_signals(...)`.

    Spans are half-open in `ts_event_ns`, dates are UTC. An empty span is an empty frame. A snap is there once its part
    is finished, a minute later where a daemon runs.

    Example:
        df = GoldReader().read_level_signals(date="2025-12-22")
    """

    def __init__(self, data_root: str | Path | None = None, form: Form = "pandas") -> None:
        """Prepare a reader.

        Args:
            data_root: the lake; the settings' if None.
            form: of the results; `arrow()`, `polars()` and `relation()` say it too.

        Raises:
            UsageError: a setting is not usable.
        """
        super().__init__(settings.load(data_root=data_root).data_root, form)

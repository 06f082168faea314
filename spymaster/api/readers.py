"""Reads lake and log, wherever the settings say that they are, by the same code as the command line."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import pandas as pd

from spymaster import settings
from spymaster.query.bronze_rows import Form, Reader
from spymaster.query.lake import Lake
from spymaster.query.silver_rows import SilverRows


def connect(data_root: str | Path | None = None, wal_root: str | Path | None = None) -> Lake:
    """Open lake and log for SQL, also beside a running daemon; see `Lake`.

    Example:
        with spymaster.connect() as lake:
            print(lake.sql("select contract, count(*) from futures_trades group by all"))
    """
    loaded = settings.load(data_root=data_root, wal_root=wal_root)
    return Lake(loaded.data_root, loaded.wal_root)


class BronzeReader:
    """Reads Bronze: pandas frames, or Arrow, polars or DuckDB relations: `BronzeReader().arrow().read_...`.

    Spans are half-open in `ts_event_ns`, dates are UTC. An empty span is an empty frame.
    """

    def __init__(self, data_root: str | Path | None = None, form: Form = "pandas") -> None:
        self._data_root = settings.load(data_root=data_root).data_root
        self._reader = Reader(self._data_root, form)

    def arrow(self) -> "BronzeReader":
        """Return a reader whose results are `pyarrow.Table`."""
        return BronzeReader(self._data_root, "arrow")

    def polars(self) -> "BronzeReader":
        """Return a reader whose results are `polars.DataFrame`. Needs the extra `spymaster[polars]`."""
        return BronzeReader(self._data_root, "polars")

    def relation(self) -> "BronzeReader":
        """Return a reader whose results are DuckDB relations, not yet executed."""
        return BronzeReader(self._data_root, "relation")

    def read(
        self,
        schema: str,
        symbol: str,
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return rows of any schema, of one partition value: a root symbol or an underlying."""
        return self._reader.read(schema, symbol, date, start_ns, end_ns, columns)

    def read_futures_trades(
        self,
        symbol: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        front_month_only: bool = True,
        specific_contract: str | None = None,
    ) -> pd.DataFrame:
        """Return trades of a root: of each date's most traded outright, of one contract, or of all."""
        return self._reader.read(
            "futures.trades", symbol, date, start_ns, end_ns,
            contract=specific_contract, front_month_only=front_month_only,
        )  # fmt: skip

    def read_futures_mbp10(
        self,
        symbol: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        front_month_only: bool = True,
        specific_contract: str | None = None,
    ) -> pd.DataFrame:
        """Return books of a root, chosen as the trades are."""
        return self._reader.read(
            "futures.mbp10", symbol, date, start_ns, end_ns,
            contract=specific_contract, front_month_only=front_month_only,
        )  # fmt: skip

    def read_option_trades(
        self,
        underlying: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> pd.DataFrame:
        """Return trades of every option on an underlying."""
        return self._reader.read("options.trades", underlying, date, start_ns, end_ns)

    def get_available_dates(self, schema_path: str, partition_key: str) -> list[str]:
        """Return the dates on disk, in order, e.g. of `("futures/trades", "symbol=ES")`."""
        return self._reader.dates(schema_path, partition_key)

    def get_latest_date(self, schema_path: str, partition_key: str) -> str | None:
        """Return the last of these dates, or None."""
        return next(reversed(self.get_available_dates(schema_path, partition_key)), None)


class SilverReader:
    """Reads the market, each event once: pandas frames, or as asked: `SilverReader().arrow().read_date(...)`.

    Hours that are not compacted yet, or changed since, come from Bronze and log, so that a date reads the same before
    and after it was compacted. Dates are UTC, spans half-open in `ts_event_ns`. One thread uses a reader.

    Example:
        df = SilverReader().read_date("2025-12-22", schema="futures.trades")
    """

    def __init__(
        self, data_root: str | Path | None = None, wal_root: str | Path | None = None, form: Form = "pandas"
    ) -> None:
        loaded = settings.load(data_root=data_root, wal_root=wal_root)
        self._lake = Lake(loaded.data_root, loaded.wal_root)
        self._rows = SilverRows(self._lake, form)

    def arrow(self) -> "SilverReader":
        """Return a reader, over the same connection, whose results are `pyarrow.Table`."""
        return self._as("arrow")

    def polars(self) -> "SilverReader":
        """Return one whose results are `polars.DataFrame`. Needs the extra `spymaster[polars]`."""
        return self._as("polars")

    def relation(self) -> "SilverReader":
        """Return one whose results are DuckDB relations, not yet executed, each good until the next read."""
        return self._as("relation")

    def _as(self, form: Form) -> "SilverReader":
        other = copy(self)
        other._rows = SilverRows(self._lake, form)
        return other

    def read_date(
        self,
        date: str,
        schema: str,
        symbol: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Return one date's rows of a schema, of all symbols or of one; `options.trades` come with greeks."""
        return self._rows.read(schema, date, date, symbol, start_ns, end_ns, columns)

    def read_date_range(
        self,
        start_date: str,
        end_date: str,
        schema: str,
        symbol: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Return the rows of some dates, both included."""
        return self._rows.read(schema, start_date, end_date, symbol, start_ns, end_ns, columns)

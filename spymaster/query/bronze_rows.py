"""Reads Bronze as people ask for it: a schema, an instrument, a span of event time.

Paths are built from the question, never found by a recursive glob: at ten thousand files the glob is the cost.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

import duckdb
import pandas as pd
import pyarrow as pa

from spymaster import clock, events, paths
from spymaster.errors import UsageError
from spymaster.events import EventSchema
from spymaster.lake import layout, silver
from spymaster.lake.parquet import is_foreign
from spymaster.query.front_month import OUTRIGHT, BronzeTrades, ContractSelector
from spymaster.query.one_table import MAX_TRIES

Form = Literal["pandas", "arrow", "polars", "relation"]


class Reader:
    """Reads one Bronze. Results are pandas frames unless asked otherwise: `reader.arrow().read(...)`.

    A pandas column of integers keeps them exactly: it is nullable where a value is missing, never a float.
    """

    def __init__(self, data_root: Path, form: Form = "pandas") -> None:
        self._data_root = data_root
        self._form: Form = form
        self._connection = duckdb.connect()
        self._contracts = ContractSelector(data_root, trades=BronzeTrades(data_root, self._connection))

    def arrow(self) -> Self:
        """Return a reader whose results are `pyarrow.Table`."""
        return type(self)(self._data_root, "arrow")

    def polars(self) -> Self:
        """Return a reader whose results are `polars.DataFrame`. Needs the extra `spymaster[polars]`."""
        return type(self)(self._data_root, "polars")

    def relation(self) -> Self:
        """Return a reader whose results are DuckDB relations, not yet executed."""
        return type(self)(self._data_root, "relation")

    def read(
        self,
        schema: str,
        symbol: str,
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return rows of any schema, of one partition value, sorted by `ts_event_ns`.

        Args:
            schema: with or without its version, e.g. `futures.trades`.
            symbol: the partition value: a root symbol or an underlying.
            date: UTC date; None for all.
            start_ns: first `ts_event_ns`, inclusive.
            end_ns: first `ts_event_ns` after the span, exclusive.
            columns: only these; None for all.

        Raises:
            UsageError: an argument is not usable.
            LayoutError: a part that was archived is not there.
        """
        return self._read(schema, symbol, date, start_ns, end_ns, columns)

    def read_futures_trades(
        self,
        symbol: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        front_month_only: bool = True,
        specific_contract: str | None = None,
    ) -> pd.DataFrame:
        """Return trades of a root: of each date's most traded outright, of one contract, or of all.

        The most traded is that of the date's regular hours, or of all hours where none traded then. A date without
        trades takes the choice of the last earlier one, and keeps all but spreads where there is none either.

        Args:
            symbol: the root.
            date: UTC date; None for all.
            start_ns: first `ts_event_ns`, inclusive.
            end_ns: first `ts_event_ns` after the span, exclusive.
            front_month_only: only each date's most traded outright.
            specific_contract: only this one, e.g. `ESZ5`, whatever `front_month_only` says.

        Raises:
            UsageError: an argument is not usable.
            LayoutError: a part that was archived is not there.
        """
        return self._read(
            "futures.trades", symbol, date, start_ns, end_ns,
            instrument=specific_contract, front_month_only=front_month_only,
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
        """Return books of a root, chosen as the trades are; arguments and errors are those of the trades."""
        return self._read(
            "futures.mbp10", symbol, date, start_ns, end_ns,
            instrument=specific_contract, front_month_only=front_month_only,
        )  # fmt: skip

    def read_option_trades(
        self,
        underlying: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> pd.DataFrame:
        """Return trades of every option on an underlying.

        Args:
            underlying: its root, e.g. `ES` or `SPY`.
            date: UTC date; None for all.
            start_ns: first `ts_event_ns`, inclusive.
            end_ns: first `ts_event_ns` after the span, exclusive.

        Raises:
            UsageError: an argument is not usable.
            LayoutError: a part that was archived is not there.
        """
        return self._read("options.trades", underlying, date, start_ns, end_ns)

    def read_option_quotes(
        self,
        underlying: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        option_symbol: str | None = None,
    ) -> pd.DataFrame:
        """Return quotes of the options on an underlying; the other arguments and the errors are those of the trades.

        Args:
            option_symbol: only this option's, as the vendor writes it; None for all.
        """
        return self._read("options.quotes", underlying, date, start_ns, end_ns, instrument=option_symbol)

    def read_statistics(
        self, symbol: str = "ES", date: str | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> pd.DataFrame:
        """Return what the exchange says of a root's instruments; arguments and errors are those of `read`."""
        return self._read("reference.statistics", symbol, date, start_ns, end_ns)

    def read_status(
        self, symbol: str = "ES", date: str | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> pd.DataFrame:
        """Return each change of the trading state of a root's instruments, as `read_statistics` does."""
        return self._read("reference.status", symbol, date, start_ns, end_ns)

    def get_available_dates(self, schema_path: str, partition_key: str) -> list[str]:
        """Return the dates on disk, in order, e.g. of `("futures/trades", "symbol=ES")`.

        Args:
            schema_path: the schema's folder.
            partition_key: the partition's folder.

        Raises:
            UsageError: the schema or the partition is not written as the lake writes it.
        """
        kind = events.schema_named(schema_path.replace("/", "."))
        key, given, value = partition_key.partition("=")
        if not given or key != kind.partition_by or not value:
            meant = value or (key if key not in {"", "symbol", "underlying"} else "ES")
            raise UsageError(
                f"{partition_key!r} is not a partition of {schema_path}. Nothing was read. Next: give it as "
                f"{kind.partition_by}={meant}"
            )
        return layout.dates(self._data_root, kind, value)

    def get_latest_date(self, schema_path: str, partition_key: str) -> str | None:
        """Return the last of these dates, or None; arguments and errors are theirs."""
        return next(reversed(self.get_available_dates(schema_path, partition_key)), None)

    def _read(
        self,
        schema: str,
        value: str,
        date: str | None,
        start_ns: int | None,
        end_ns: int | None,
        columns: Sequence[str] | None = None,
        instrument: str | None = None,
        front_month_only: bool = False,
    ) -> Any:
        kind = events.schema_named(schema)
        names = _known(kind, columns)

        def rows_of(files: list[str]) -> Any:
            if not files:
                return shaped(self._connection.from_arrow(_empty(kind).select(names)), self._form)
            relation = self._relation(files, start_ns, end_ns)
            if instrument is not None:
                named = duckdb.ColumnExpression(str(kind.identity[0]))
                relation = relation.filter(named == duckdb.ConstantExpression(instrument))
            elif front_month_only:
                relation = relation.filter(self._front_month(files, value))
            ordered = relation.order("ts_event_ns, capture_id, capture_seq")
            return shaped(ordered.project(", ".join(f'"{name}"' for name in names)), self._form)

        def ask() -> Any:
            files = self._files(kind, value, date, start_ns, end_ns)
            try:
                return rows_of(files)
            except duckdb.Error:
                ours = [file for file in files if not is_foreign(Path(file))]
                if len(ours) == len(files):
                    raise
                return rows_of(ours)  # a stranger has a part's name: to look at each footer first takes too long

        for _ in range(MAX_TRIES - 1):
            with suppress(duckdb.IOException):  # a part was archived since it was listed
                return ask()
        return ask()

    def _files(
        self, kind: EventSchema, value: str, date: str | None, start_ns: int | None, end_ns: int | None
    ) -> list[str]:
        within = layout.ALL._replace(value=value) if date is None else layout.of_date(value, paths.check_date(date))
        if start_ns is not None:
            within = within._replace(first=max(within.first, clock.utc_text(start_ns)[:13]))
        if end_ns is not None:
            within = within._replace(last=min(within.last, clock.utc_text(end_ns - 1)[:13]))
        partitions = layout.partitions(self._data_root, kind, within)
        return [str(path) for own in partitions for path in silver.bronze_parts(self._data_root, own)]

    def _relation(self, files: list[str], start_ns: int | None, end_ns: int | None) -> duckdb.DuckDBPyRelation:
        relation = self._connection.read_parquet(files, hive_partitioning=False)
        stamp = duckdb.ColumnExpression("ts_event_ns")
        if start_ns is not None:
            relation = relation.filter(stamp >= duckdb.ConstantExpression(start_ns))
        if end_ns is not None:
            relation = relation.filter(stamp < duckdb.ConstantExpression(end_ns))
        return relation

    def _front_month(self, files: list[str], value: str) -> duckdb.Expression:
        """Return what is true of rows of each date's own front month; these dates are over, so it is theirs."""
        dates_of: dict[str | None, list[str]] = {}
        for date in sorted({_date_of(file) for file in files}):
            choice = self._contracts.front_month(value, date, as_of="close")
            dates_of.setdefault(choice.contract, []).append(date)
        kept = duckdb.ConstantExpression(False)
        for contract, dates in dates_of.items():
            if contract is None:
                own = duckdb.SQLExpression(f"contract is null or {OUTRIGHT}")
            else:
                own = duckdb.ColumnExpression("contract") == duckdb.ConstantExpression(contract)
            kept |= own & duckdb.ColumnExpression("date").isin(*map(duckdb.ConstantExpression, dates))
        return kept


def shaped(relation: duckdb.DuckDBPyRelation, form: Form) -> Any:
    """Return a relation's rows as they were asked for."""
    if form == "relation":
        return relation
    if form == "polars":
        return relation.pl()
    table = relation.to_arrow_table()
    return table if form == "arrow" else to_pandas(table)


def _known(kind: EventSchema, columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return kind.bronze.names
    unknown = [name for name in columns if name not in kind.bronze.names]
    if unknown:
        raise UsageError(f"{kind.name} has no column {unknown[0]!r}. Nothing was read. Next: see schema.names")
    return list(columns)


def _date_of(file: str) -> str:
    """Return the date in a part's path, the last one in it."""
    return next(folder for folder in reversed(Path(file).parts) if folder.startswith("date=")).removeprefix("date=")


def _empty(kind: EventSchema) -> pa.Table:
    return pa.table({column.name: pa.nulls(0, column.type) for column in kind.bronze})


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return a frame whose integers are exact: a column with nulls becomes `Int64`, not float."""
    frame = table.to_pandas()
    for name in table.column_names:
        column = table[name]
        if pa.types.is_integer(column.type) and column.null_count:
            frame[name] = pd.array(column.to_pandas(integer_object_nulls=True), dtype="Int64")
    return frame

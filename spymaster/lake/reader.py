"""Reads Bronze as people ask for it: a schema, an instrument, a span of event time.

Paths are built from the question, never found by a recursive glob: at ten thousand files the glob is the cost.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa

from spymaster import clock, events, paths
from spymaster.errors import UsageError
from spymaster.events import EventSchema

Form = Literal["pandas", "arrow", "polars", "relation"]


class Reader:
    """Reads one Bronze. Results are pandas frames unless asked otherwise: `reader.arrow().read(...)`.

    A pandas column of integers keeps them exactly: it is nullable where a value is missing, never a float.
    """

    def __init__(self, data_root: Path, form: Form = "pandas") -> None:
        self._data_root = data_root
        self._bronze = data_root / "bronze"
        self._form: Form = form
        self._connection = duckdb.connect()

    def read(
        self,
        schema: str,
        value: str,
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
        contract: str | None = None,
        front_month_only: bool = False,
    ) -> Any:
        """Return rows of one partition value, sorted by `ts_event_ns`.

        Args:
            schema: with or without its version, e.g. `futures.trades`.
            value: the root symbol or underlying.
            date: UTC date; None for all.
            start_ns: first `ts_event_ns`, inclusive.
            end_ns: first `ts_event_ns` after the span, exclusive.
            columns: only these; None for all.
            contract: only this contract.
            front_month_only: only each date's outright with the largest traded volume.

        Raises:
            UsageError: an argument is not usable.
        """
        kind = events.schema_named(schema)
        files = self._files(kind, value, date, start_ns, end_ns)
        names = self._columns(kind, columns)
        if not files:
            return self._shape(self._connection.from_arrow(_empty(kind).select(names)))
        relation = self._relation(files, start_ns, end_ns)
        if contract is not None:
            relation = relation.filter(duckdb.ColumnExpression("contract") == duckdb.ConstantExpression(contract))
        elif front_month_only:
            relation = self._front_month(relation, value, date)
        ordered = relation.order("ts_event_ns, capture_id, capture_seq")
        return self._shape(ordered.project(", ".join(f'"{name}"' for name in names)))

    def dates(self, folder: str, partition: str) -> list[str]:
        """Return the dates on disk below e.g. `futures/trades`, `symbol=ES`, in order.

        Raises:
            UsageError: the schema or the partition is not written as the lake writes it.
        """
        kind = events.schema_named(folder.replace("/", "."))
        key, given, value = partition.partition("=")
        if not given or key != kind.partition_by or not value:
            raise UsageError(
                f"{partition!r} is not a partition of {folder}. Nothing was read. Next: give it as "
                f"{kind.partition_by}={value or key or 'ES'}"
            )
        base = self._bronze / folder / f"{key}={paths.encode_symbol(value)}"
        return sorted(path.name.removeprefix("date=") for path in base.glob("date=*"))

    def _files(
        self, kind: EventSchema, value: str, date: str | None, start_ns: int | None, end_ns: int | None
    ) -> list[str]:
        base = self._bronze / kind.name.replace(".", "/") / f"{kind.partition_by}={paths.encode_symbol(value)}"
        days = [base / f"date={paths.check_date(date)}"] if date is not None else sorted(base.glob("date=*"))
        low = clock.utc_text(start_ns)[:13] if start_ns is not None else ""
        high = clock.utc_text(end_ns - 1)[:13] if end_ns is not None else "9"
        files = []
        for day in days:
            stamp = day.name.removeprefix("date=")
            if not low[:10] <= stamp <= high[:10] + "~":
                continue
            folders = sorted(day.glob("hour=*")) if kind.hourly else [day]
            for folder in folders:
                hour = f"{stamp}T{folder.name.removeprefix('hour=')}" if kind.hourly else stamp
                if not kind.hourly or low <= hour <= high:
                    files += sorted(str(path) for path in folder.glob("part-*.parquet"))
        return files

    @staticmethod
    def _columns(kind: EventSchema, columns: Sequence[str] | None) -> list[str]:
        if columns is None:
            return kind.bronze.names
        unknown = [name for name in columns if name not in kind.bronze.names]
        if unknown:
            raise UsageError(f"{kind.name} has no column {unknown[0]!r}. Nothing was read. Next: see schema.names")
        return list(columns)

    def _relation(self, files: list[str], start_ns: int | None, end_ns: int | None) -> duckdb.DuckDBPyRelation:
        relation = self._connection.read_parquet(files, hive_partitioning=False)
        stamp = duckdb.ColumnExpression("ts_event_ns")
        if start_ns is not None:
            relation = relation.filter(stamp >= duckdb.ConstantExpression(start_ns))
        if end_ns is not None:
            relation = relation.filter(stamp < duckdb.ConstantExpression(end_ns))
        return relation

    def _front_month(self, relation: duckdb.DuckDBPyRelation, value: str, date: str | None) -> duckdb.DuckDBPyRelation:
        """Keep, of each date, the outright that traded most; without trades there is nothing to choose by."""
        trades = self._files(events.FUTURES_TRADES, value, date, None, None)
        if not trades:
            return relation
        volume = self._connection.read_parquet(trades, hive_partitioning=False)
        front = volume.filter("contract not similar to '.*[-: ].*'").aggregate(
            "date, contract, sum(size) as volume", "date, contract"
        )
        chosen = front.aggregate("date, arg_max(contract, volume) as contract", "date").set_alias("chosen")
        return relation.set_alias("rows").join(
            chosen, "rows.date = chosen.date and rows.contract = chosen.contract", "semi"
        )

    def _shape(self, relation: duckdb.DuckDBPyRelation) -> Any:
        if self._form == "relation":
            return relation
        if self._form == "polars":
            return relation.pl()
        table = relation.to_arrow_table()
        return table if self._form == "arrow" else to_pandas(table)


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

"""Reads the market as it was: each event once, from Silver, and from Bronze and log where Silver is not made yet."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import duckdb

from spymaster import clock, paths
from spymaster.errors import UsageError
from spymaster.events import EventSchema
from spymaster.lake.layout import Within, schema_of_silver
from spymaster.query.bronze_rows import Form, shaped
from spymaster.query.lake import Lake

_MIDNIGHT = "T00"
_LAST_HOUR = "T23"


class SilverRows:
    """Reads one lake, its results in one form."""

    def __init__(self, lake: Lake, form: Form) -> None:
        self._lake = lake
        self._form: Form = form

    def arrow(self) -> Self:
        """Return a reader, over the same connection, whose results are `pyarrow.Table`."""
        return self._as("arrow")

    def polars(self) -> Self:
        """Return one whose results are `polars.DataFrame`. Needs the extra `spymaster[polars]`."""
        return self._as("polars")

    def relation(self) -> Self:
        """Return one whose results are DuckDB relations, not yet executed, each good until the next read."""
        return self._as("relation")

    def _as(self, form: Form) -> Self:
        other = copy(self)
        other._form = form
        return other

    def read_date(
        self,
        date: str,
        schema: str,
        symbol: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
        instrument: str | None = None,
    ) -> Any:
        """Return one date's rows of a schema; `options.trades` come with greeks. Errors are those of a range.

        Args:
            date: the UTC date, `YYYY-MM-DD`.
            schema: with or without its version; `options.trades` means the enriched ones.
            symbol: the root symbol or underlying; None for all.
            start_ns: first `ts_event_ns`, inclusive.
            end_ns: first `ts_event_ns` after the span, exclusive.
            columns: as for `read_date_range`.
            instrument: likewise.
        """
        return self.read_date_range(date, date, schema, symbol, start_ns, end_ns, columns, instrument)

    def read_date_range(
        self,
        start_date: str,
        end_date: str,
        schema: str,
        symbol: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
        instrument: str | None = None,
    ) -> Any:
        """Return the rows of some UTC dates, both included, in order of `ts_event_ns`.

        Args:
            start_date: the first date.
            end_date: the last date.
            schema: with or without its version; `options.trades` means the enriched ones.
            symbol: the root symbol or underlying; None for all.
            start_ns: first `ts_event_ns`, inclusive.
            end_ns: first `ts_event_ns` after the span, exclusive.
            columns: only these; None for all. `event_id` and `occurrence`, which name an event, are made when asked
                for where an hour is not compacted yet.
            instrument: only this one: a `contract`, an `option_symbol`, of stocks a `symbol`; None for all.

        Raises:
            UsageError: an argument is not usable.
            SpymasterError: log or lake cannot be read.
        """
        kind = schema_of_silver(schema)
        within = _within(kind, start_date, end_date, symbol, start_ns, end_ns)

        def read() -> Any:
            relation = self._lake.table(kind, within)
            unknown = [name for name in columns or () if name not in relation.columns]
            if unknown:
                raise UsageError(
                    f"{schema} has no column {unknown[0]!r}. Nothing was read. Next: use some of "
                    f"{', '.join(relation.columns)}"
                )
            stamp = duckdb.ColumnExpression("ts_event_ns")
            if start_ns is not None:
                relation = relation.filter(stamp >= duckdb.ConstantExpression(start_ns))
            if end_ns is not None:
                relation = relation.filter(stamp < duckdb.ConstantExpression(end_ns))
            if instrument is not None:
                named = duckdb.ColumnExpression(str(kind.identity[0]))
                relation = relation.filter(named == duckdb.ConstantExpression(instrument))
            names = columns or relation.columns
            return self._lake.guarded(shaped(relation.project(", ".join(f'"{name}"' for name in names)), self._form))

        return self._lake.retry(read)


def _within(
    kind: EventSchema, start_date: str, end_date: str, value: str | None, start_ns: int | None, end_ns: int | None
) -> Within:
    """Return the partitions that may hold the rows: of the dates and, where a span says so, of their hours."""
    first, last = paths.check_date(start_date) + _MIDNIGHT, paths.check_date(end_date) + _LAST_HOUR
    if value is not None:
        paths.encode_symbol(value)
    if kind.hourly and start_ns is not None:
        first = max(first, clock.utc_text(start_ns)[:13])
    if kind.hourly and end_ns is not None:
        last = min(last, clock.utc_text(end_ns - 1)[:13])
    return Within(value, first, last)

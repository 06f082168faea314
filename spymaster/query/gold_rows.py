"""Reads Gold as people ask for it: the signals of an underlying, a date, a span of event time."""

from collections.abc import Sequence
from datetime import date as calendar_date
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import duckdb

from spymaster import clock, paths
from spymaster.errors import UsageError
from spymaster.lake import layout
from spymaster.lake.gold import FILES, LEVELS_SIGNALS
from spymaster.lake.layout import ALL, Tier, Within
from spymaster.lake.parquet import is_foreign
from spymaster.query.bronze_rows import Form, shaped

_ORDER: Final = "ts_event_ns, level_price, level_id"
GIVEN: Final = (
    "signal_since_ns", "level_id", "level_price", "signal", "break_score_smooth", "barrier_held_state", "confidence",
    "note",
)  # fmt: skip


class GoldRows:
    """Reads one Gold. Results are pandas frames unless asked otherwise: `reader.arrow().read_level_signals(...)`."""

    def __init__(self, data_root: Path, form: Form = "pandas") -> None:
        self._data_root = data_root
        self._form: Form = form
        self._connection = duckdb.connect()

    def arrow(self) -> Self:
        """Return a reader whose results are `pyarrow.Table`."""
        return type(self)(self._data_root, "arrow")

    def polars(self) -> Self:
        """Return a reader whose results are `polars.DataFrame`. Needs the extra `spymaster[polars]`."""
        return type(self)(self._data_root, "polars")

    def relation(self) -> Self:
        """Return a reader whose results are DuckDB relations, not yet executed."""
        return type(self)(self._data_root, "relation")

    def read_level_signals(
        self,
        underlying: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Return a row for each level in sight at each snap, by time, then by price.

        Args:
            underlying: whose levels.
            date: UTC date; None for all.
            start_ns: first `ts_event_ns`, inclusive.
            end_ns: first `ts_event_ns` after the span, exclusive.
            columns: only these; None for all.

        Raises:
            UsageError: an argument is not usable.
        """
        names = _known(columns)
        files = self._files(_within(underlying, date, start_ns, end_ns))
        try:
            return self._rows_of(files, start_ns, end_ns, names)
        except duckdb.Error:
            ours = [file for file in files if not is_foreign(Path(file))]
            if len(ours) == len(files):
                raise
            return self._rows_of(ours, start_ns, end_ns, names)

    def newest_ns(self, underlying: str, until_ns: int) -> int | None:
        """Return the time of the last snap at or before a time; None where there is none.

        Args:
            underlying: whose.
            until_ns: the time, UTC nanoseconds.
        """
        within = _within(underlying, None, None, until_ns + 1)
        for partition in reversed(layout.partitions(self._data_root, LEVELS_SIGNALS, within, [Tier.GOLD])):
            files = self._parts(partition)
            if files:
                (newest,) = self._spanned(files, None, until_ns + 1).aggregate("max(ts_event_ns)").fetchall()[0]
                if newest is not None:
                    return int(newest)
        return None

    def given(self, underlying: str, session: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return the signals of a trading day, each at its first row, as columns and rows.

        Args:
            underlying: whose.
            session: the trading day.

        Raises:
            UsageError: there is no Gold of it.
        """
        day = paths.check_date(session)
        before = (calendar_date.fromisoformat(day) - timedelta(days=1)).isoformat()  # where CME's session begins
        files = self._files(Within(underlying, f"{before}T00", f"{day}T23"))
        found = self._spanned(files, None, None).filter(_is("session", day)) if files else None
        if found is None or not found.limit(1).fetchall():
            raise UsageError(
                f"there is no Gold of {underlying} in the session of {day}. Nothing was read. {self.advice(underlying)}"
            )
        first = "row_number() over (partition by level_id, signal, signal_since_ns order by ts_event_ns) = 1"
        shown = f"select {', '.join(GIVEN)} from rows qualify {first} order by signal_since_ns, level_price"  # noqa: S608  # ours
        rows = found.filter("signal <> 'NEUTRAL'").query("rows", shown)
        return list(GIVEN), [] if rows is None else rows.fetchall()

    def get_available_dates(self, underlying: str = "ES") -> list[str]:
        """Return the UTC dates on disk, in order.

        Args:
            underlying: whose.
        """
        return layout.dates(self._data_root, LEVELS_SIGNALS, underlying, [Tier.GOLD])

    def advice(self, underlying: str) -> str:
        """Return what to ask for, or to do, where something is not there."""
        dates = self.get_available_dates(underlying)
        return f"Next: ask for {dates[0]} to {dates[-1]} (UTC)" if dates else "Next: spymaster run"

    def _rows_of(self, files: list[str], start_ns: int | None, end_ns: int | None, names: list[str]) -> Any:
        if not files:
            return shaped(self._connection.from_arrow(FILES.empty_table().select(names)), self._form)
        ordered = self._spanned(files, start_ns, end_ns).order(_ORDER)
        return shaped(ordered.project(", ".join(f'"{name}"' for name in names)), self._form)

    def _files(self, within: Within) -> list[str]:
        partitions = layout.partitions(self._data_root, LEVELS_SIGNALS, within, [Tier.GOLD])
        return [file for own in partitions for file in self._parts(own)]

    def _parts(self, partition: paths.Partition) -> list[str]:
        names = layout.part_names(self._data_root, Tier.GOLD, partition)
        folder = layout.path(self._data_root, Tier.GOLD, partition.folder)
        return [str(folder / name) for name in sorted(names)]

    def _spanned(self, files: list[str], start_ns: int | None, end_ns: int | None) -> duckdb.DuckDBPyRelation:
        relation = self._connection.read_parquet(files, hive_partitioning=False)
        stamp = duckdb.ColumnExpression("ts_event_ns")
        if start_ns is not None:
            relation = relation.filter(stamp >= duckdb.ConstantExpression(start_ns))
        if end_ns is not None:
            relation = relation.filter(stamp < duckdb.ConstantExpression(end_ns))
        return relation


def _is(column: str, value: str) -> duckdb.Expression:
    return duckdb.ColumnExpression(column) == duckdb.ConstantExpression(value)


def _within(underlying: str, date: str | None, start_ns: int | None, end_ns: int | None) -> Within:
    within = ALL._replace(value=underlying) if date is None else layout.of_date(underlying, paths.check_date(date))
    if start_ns is not None:
        within = within._replace(first=max(within.first, clock.utc_text(start_ns)[:13]))
    if end_ns is not None:
        within = within._replace(last=min(within.last, clock.utc_text(end_ns - 1)[:13]))
    return within


def _known(columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return FILES.names
    unknown = [name for name in columns if name not in FILES.names]
    if unknown:
        raise UsageError(f"levels.signals has no column {unknown[0]!r}. Nothing was read. Next: see docs/schemas.md")
    return list(columns)

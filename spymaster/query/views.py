"""The views of every schema in DuckDB: what each reads, by the names of files."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from spymaster import events
from spymaster.events import EventSchema
from spymaster.lake import layout, silver
from spymaster.lake.datasets import DATASETS, JOINED, OUTCOMES, TOUCHING, DataSet
from spymaster.lake.gold import FILES, LEVELS_SIGNALS
from spymaster.lake.layout import Tier, escape_glob
from spymaster.query import naming, sessions
from spymaster.query.one_table import Snapshot

GOLD: Final = "levels_signals"  # the view's name
_FILES: Final = {Tier.SILVER: layout.SILVER_FILE, Tier.GOLD: layout.GOLD_PATTERN}


class Views:
    """Makes the views of a lake on a connection that has no result under way."""

    def __init__(self, data_root: Path, connection: duckdb.DuckDBPyConnection) -> None:
        """Make all views, without rows, so that they can be listed; a file is opened when it is asked for."""
        self._data_root, self._connection = data_root, connection
        self._shown: dict[str, str] = {}
        self._none: dict[pa.Schema, str] = {}
        for schema in events.SCHEMAS.values():
            self._view(plain(schema.name), schema, silver.one_table_columns_of(schema), [])
            self._view(f"bronze_{plain(schema.name)}", schema, schema.bronze, [])
            for view in silver_views(schema):
                self._view(view, schema, silver.columns_of(schema), [])
        for dataset in DATASETS.values():
            self._show(dataset.name, self._dataset(dataset, dict.fromkeys(DATASETS, False)))
        self._view(GOLD, LEVELS_SIGNALS, FILES, [])

    def show_made(self, names: Collection[str] | None) -> None:
        """Make the views of Gold and of data sets, those that are among some names, or all."""
        if names is None or GOLD in names:
            self._view(GOLD, LEVELS_SIGNALS, FILES, self._tier(LEVELS_SIGNALS, Tier.GOLD))
        self._show_datasets(names)

    def show_tiers(self, schema: EventSchema) -> None:
        """Make the views of a schema's tiers."""
        twice = layout.parts_in_both(self._data_root, schema)
        bronze = [*self._tier(schema, Tier.BRONZE), *self._tier(schema, Tier.ARCHIVE, twice)]
        self._view(f"bronze_{plain(schema.name)}", schema, schema.bronze, bronze)
        compacted = self._tier(schema, Tier.SILVER)
        for view in silver_views(schema):
            self._view(view, schema, silver.columns_of(schema), compacted)

    def _show_datasets(self, names: Collection[str] | None) -> None:
        wanted = [dataset for dataset in DATASETS.values() if names is None or dataset.name in names]
        there = {name: bool(wanted) and bool(layout.dataset_files(self._data_root, name)) for name in DATASETS}
        for dataset in wanted:
            self._show(dataset.name, self._dataset(dataset, there))

    def _dataset(self, dataset: DataSet, there: Mapping[str, bool]) -> str:
        """Return the query whose rows are a data set's, in no order where there are several files; touches have theirs.

        Args:
            dataset: which one.
            there: of each data set whether it has a file.
        """
        rows = self._dataset_files(dataset, there=there[dataset.name])
        if dataset not in TOUCHING:
            return rows
        outcomes = self._dataset_files(OUTCOMES, there=there[OUTCOMES.name])
        keys, names = ", ".join([*OUTCOMES.keys, "touch_id"]), ", ".join(JOINED)
        # By all keys, so that a condition on a date spares the outcomes of others; and named before the join, in which
        # DuckDB would take the names of types for columns.
        named = f"with touched as not materialized ({rows}), known as not materialized ({outcomes})"
        return f"{named} select touched.*, {names} from touched left join known using ({keys})"  # noqa: S608

    def _dataset_files(self, dataset: DataSet, *, there: bool) -> str:
        names = ", ".join(f'"{name}"' for name in dataset.columns.names)
        none = self._none_of(dataset.columns)
        if not there:
            return f"select {names} from ({none})"  # noqa: S608  # names of ours
        folder = escape_glob(layout.dataset_folder(self._data_root, dataset.name))
        pattern = f"{folder}/{'*/' * len(dataset.keys)}{layout.SILVER_FILE}"
        return f"select {names} from ({none} union all by name {_read(dataset.keys, [pattern])})"  # noqa: S608

    def _tier(self, schema: EventSchema, tier: Tier, without: Sequence[Path] = ()) -> list[str]:
        """Return the query whose rows are a tier's: all its files as they are, but for some; none if it has none."""
        if not layout.has_files(self._data_root, tier, schema):
            return []
        folder = escape_glob(layout.schema_folder(self._data_root, tier, schema))
        levels = "*/*/*" if schema.hourly else "*/*"
        files = _FILES.get(tier, layout.PART_PATTERN)
        return [_read_events(schema, [f"{folder}/{levels}/{files}"], without)]

    def show_table(self, name: str, schema: EventSchema, found: Snapshot, columns: pa.Schema, *, counted: bool) -> None:
        """Make a view of what was found; `counted` as `naming.named` has it."""
        tables = (("log", found.log), ("removed", found.removed), ("late", found.late))
        for kind, rows in tables:
            if rows.num_rows:
                self._connection.from_arrow(rows).create_view(f"{kind}_{name}", replace=True)
        self._view(
            name, schema, columns, _one_table(name, schema, found, counted=counted), where=_not_cancelled(schema)
        )
        for kind, rows in tables:
            if not rows.num_rows:
                self._connection.execute(f"drop view if exists {kind}_{name}")  # no view uses it now

    def _none_of(self, columns: pa.Schema) -> str:
        """Return a query of no rows and these columns."""
        if columns not in self._none:
            types = self._connection.from_arrow(columns.empty_table()).types
            # The date first: of a query that needs no column DuckDB reads the first, and this one is a folder's name.
            kinds = {"date": "date"} | dict(zip(columns.names, types, strict=True)) | {"date": "date"}
            nulls = ", ".join(f'null::{kind} as "{name}"' for name, kind in kinds.items())
            self._none[columns] = f"select {nulls} where false"
        return self._none[columns]

    def _view(self, name: str, schema: EventSchema, columns: pa.Schema, pieces: list[str], where: str = "") -> None:
        """Make a view of these columns over pieces, each of which may lack some or have more."""
        names = ", ".join(f'"{column}"' for column in columns.names)
        source = " union all by name ".join([self._none_of(columns), *pieces])
        self._show(name, f"select {names}{_computed(schema)} from ({source}){where}")  # noqa: S608  # names of ours, paths quoted

    def _show(self, name: str, query: str) -> None:
        if self._shown.get(name) != query:  # its tables have the same names when they have other rows
            self._connection.execute(f"create or replace view {name} as {query}")
            self._shown[name] = query


def silver_views(schema: EventSchema) -> list[str]:
    """Return the names of Silver's view: option trades have a second one, as they come enriched."""
    return [f"silver_{plain(name)}" for name in dict.fromkeys([layout.silver_name(schema), schema.name])]


def _computed(schema: EventSchema) -> str:
    """Return the columns that views have and files have not, each after a comma."""
    return f", {sessions.columns(schema)}"


def _one_table(name: str, schema: EventSchema, found: Snapshot, *, counted: bool) -> list[str]:
    """Return the queries whose rows are the one table's, with the view's name in those of the rows it needs."""
    keys = f"({schema.partition_by}, capture_id, capture_seq)"
    late = {column.name: f"case when ts_local_ns is null then {own} end" for column, own in silver.late_columns(schema)}
    pieces = []
    if found.bronze:
        rows = _read_events(schema, [escape_glob(file) for file in found.bronze])
        pieces.append(f"select *{_as(late)} from ({rows})")  # noqa: S608  # ours
    if found.mended:
        rows = _read_events(schema, [escape_glob(file) for file in found.mended])
        if found.removed.num_rows:
            rows += f" anti join removed_{name} using {keys}"
        if found.late.num_rows:
            said = ", ".join(f"{column} as last_{column}" for column in late)
            again = f"select * exclude ({', '.join(late)}), {said}, true as said from late_{name}"  # noqa: S608  # ours
            rows += f" left join ({again}) using {keys}"
            late = {column: f"case when said then last_{column} else {own} end" for column, own in late.items()}
        pieces.append(f"select *{_as(late)} from ({rows})")  # noqa: S608  # names of ours
    if found.log.num_rows:
        pieces.append(f"select * replace (date::date as date) from log_{name}")  # noqa: S608  # a name of ours
    if schema.kind == "market" and pieces:
        pieces = [naming.named(schema, " union all by name ".join(pieces), counted=counted)]
    return [*([_read_events(schema, [escape_glob(file) for file in found.silver])] if found.silver else []), *pieces]


def _as(columns: Mapping[str, str]) -> str:
    """Return computed columns, each after a comma."""
    return "".join(f", {expression} as {name}" for name, expression in columns.items())


def _not_cancelled(schema: EventSchema) -> str:
    """Return the condition that leaves out prints which the last captured file cancels."""
    if not silver.late_columns(schema):
        return ""
    return f" where coalesce(late_correction, 0) not in {silver.CANCELLED}"


def _read_events(schema: EventSchema, patterns: Sequence[str], without: Sequence[Path] = ()) -> str:
    """Return a query of a schema's files."""
    keys = [schema.partition_by, "date", *(["hour"] if schema.hourly else [])]
    return _read(keys, patterns, without, versions=schema.version)


def _read(keys: Sequence[str], patterns: Sequence[str], without: Sequence[Path] = (), *, versions: int = 1) -> str:
    """Return a query of files by their patterns. Their folders say where their rows are, so that few are opened.

    DuckDB takes columns from every `name=value` in a path. Where there are others above the lake, in place of ours or
    of a file's own, none are taken: then each file is opened, as its rows say where they are too.
    """
    kinds = {"date": "date", "hour": "int"}
    hive_types = ", ".join(f"'{key}': {kinds.get(key, 'varchar')}" for key in keys)
    options = f"hive_partitioning = true, hive_types = {{{hive_types}}}"
    columns = "*"
    if any("=" in "/".join(pattern.split("/")[: -len(keys) - 1]) for pattern in patterns):
        options, columns = "hive_partitioning = false", "* replace (date::date as date)"
    if versions > 1:  # then files of earlier versions lack columns; to find out, each is opened
        options += ", union_by_name = true"
    files = ", ".join(map(quote, patterns))
    if without:
        others = ", ".join(quote(str(path)) for path in without)
        columns = columns.replace("*", "* exclude (filename)", 1)
        return (
            f"select {columns} from read_parquet([{files}], {options}, filename = true) "  # noqa: S608
            f"where filename not in ({others})"
        )
    return f"select {columns} from read_parquet([{files}], {options})"  # noqa: S608  # quoted


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def plain(name: str) -> str:
    return name.replace(".", "_")

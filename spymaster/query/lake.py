"""The lake as SQL tables: one in-memory DuckDB connection with views of every schema.

`futures_trades` is the one table, from the newest row to the oldest: Silver, Bronze that is not in it yet, and the log.
`bronze_futures_trades` is Bronze as received, `silver_futures_trades` Silver as compacted. Options' trades come
enriched in Silver (`silver_options_trades_enriched`, also `silver_options_trades`) and plain in `options_trades`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import duckdb
import pyarrow as pa

from spymaster import events
from spymaster.errors import ReplacedError
from spymaster.events import EventSchema
from spymaster.lake import lake_id, layout, silver
from spymaster.lake.layout import ALL, Tier, Within, escape_glob
from spymaster.query import naming, sessions
from spymaster.query.one_table import MAX_TRIES, OneTable, Snapshot
from spymaster.query.read_only import ReadOnly
from spymaster.query.statements import Statements

_ANSWER: Final = "spymaster_answer"
_Answer = TypeVar("_Answer")


class Lake:
    """All views over one connection. It takes no lock, reads no file outside the lake and its log, and writes none.

    Each query sees every row that was acknowledged before it began, none twice, and none that was appended after its
    end, while a daemon records, flushes and compacts beside it. A relation shows the lake as of the call that made it,
    a prepared statement as of its PREPARE. Relations, and views of Silver alone, read files by their names when they
    are fetched, and nobody notices a file that a compaction replaces amid that. One thread uses it.

    Tables, views and macros of your own are kept in memory until it is closed. Times with a zone are in UTC.

    Attributes:
        connection: DuckDB's, which queries here run on, without what writes files; asked directly, it has the views as
            the last query here left them.
    """

    def __init__(self, data_root: Path, wal_root: Path) -> None:
        """Open a lake and its log; neither folder need exist.

        Raises:
            OtherLakeError: the log is another lake's.
            LayoutError: the lake is laid out otherwise.
        """
        lake_id.require_own_log(wal_root, data_root)
        layout.require_own_layout(data_root, layout.find_parts(data_root))
        self._views = duckdb.connect()
        self._connection = self._views.cursor()  # of its own, as one with a result under way can make no view
        self._statements = Statements(self._views.cursor())
        self.connection = ReadOnly(self._connection, self._statements)
        self._data_root = data_root.resolve()
        self._tables = {schema.name: OneTable(self._data_root, wal_root, schema) for schema in events.SCHEMAS.values()}
        # Apart, as each remembers what it found last.
        self._tables_within = {
            schema.name: OneTable(self._data_root, wal_root, schema) for schema in events.SCHEMAS.values()
        }
        self._snapshots: list[tuple[OneTable, Snapshot]] = []  # that the query under way depends on
        self._shown: dict[str, str] = {}
        self._none: dict[pa.Schema, str] = {}
        roots = [tier.of(self._data_root) for tier in Tier]
        # DuckDB compares names as they are written, so a pattern must be allowed as a pattern.
        allowed = ", ".join(_quote(name) for root in roots for name in sorted({str(root), escape_glob(root)}))
        self._views.execute(f"set allowed_directories = [{allowed}]")
        self._views.execute("set enable_external_access = false")
        self._views.execute("set enable_external_file_cache = false")  # Silver's names get other files
        self._views.execute("set global timezone = 'UTC'")
        self._connection.execute("set python_enable_replacements = false")  # they would be our variables
        sessions.install(self._views)
        naming.install(self._views)
        for schema in events.SCHEMAS.values():  # so that they can be listed; a file is opened when it is asked for
            self._view(_plain(schema.name), schema, silver.one_table_columns_of(schema), [])
            self._view(f"bronze_{_plain(schema.name)}", schema, schema.bronze, [])
            for view in _silver_views(schema):
                self._view(view, schema, silver.columns_of(schema), [])

    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> ReadOnly:
        """Run a query over the rows that are there now, to its end, and return the connection to fetch from.

        The rows of the answer are in memory until the next call: files that were read while somebody fetches could be
        replaced meanwhile.

        Raises:
            duckdb.Error: the query is wrong.
            UsageError: it does more than read, or is empty.
            SpymasterError: log or lake cannot be read.
        """
        self._statements.check(query)
        self._connection.abort()  # an earlier answer that was not fetched to its end
        self._connection.unregister(_ANSWER)
        if not self._statements.only_reads(query):
            self._run(query, lambda: self._connection.execute(query, parameters))
        else:
            answer = self._run(query, lambda: self._connection.sql(query, params=parameters).materialize())
            self._connection.register(_ANSWER, answer)
            self._connection.execute(f"from {_ANSWER}")
        return ReadOnly(self._connection, self._statements)  # a new one: it remembers how far it was fetched

    def sql(self, query: str) -> Any:
        """Return a query as a DuckDB relation, to go on with or to fetch; None for a statement without a result.

        Raises:
            duckdb.Error: the query is wrong.
            UsageError: it does more than read, or is empty.
            SpymasterError: log or lake cannot be read.
        """
        self._statements.check(query)
        self._connection.abort()
        return self.guarded(self._run(query, lambda: self._connection.sql(query)))

    def guarded(self, found: Any) -> Any:
        """Return a relation or connection without what writes files, and anything else as it is."""
        wraps = isinstance(found, duckdb.DuckDBPyConnection | duckdb.DuckDBPyRelation)
        return ReadOnly(found, self._statements) if wraps else found

    def _run(self, query: str, run: Callable[[], _Answer]) -> _Answer:
        def refresh_and_run() -> _Answer:
            self.refresh(query)
            return run()

        return self.retry(refresh_and_run, MAX_TRIES if self._statements.only_reads(query) else 1)

    def retry(self, read: Callable[[], _Answer], tries: int = MAX_TRIES) -> _Answer:
        """Return an answer during which no file of Silver was replaced that the one table was read from.

        DuckDB opens a file several times: of one that was replaced in between it shows rows of neither, or nonsense.

        Args:
            read: takes snapshots of tables and reads them to the end; is called again if need be.
            tries: how often; what inserts must not be done twice.

        Raises:
            duckdb.Error: the query is wrong.
            ReplacedError: Silver was replaced each time.
            SpymasterError: log or lake cannot be read.
        """
        failed: duckdb.Error | None = None
        for _ in range(tries):
            self._snapshots.clear()
            try:
                answer = read()
            except duckdb.Error as error:
                # Of a file that is gone: a part was archived meanwhile, or the query names a file of its own.
                if not isinstance(error, duckdb.IOException) and self._still_valid():
                    raise
                failed = error
            else:
                if self._still_valid():
                    return answer
                failed = None
        if failed is not None:
            raise failed
        raise self._replaced()

    def _replaced(self) -> ReplacedError:
        return ReplacedError(
            f"{self._data_root}: files were replaced by a compaction, or archived, while they were read. What was "
            f"shown until then is not to be kept, and nothing is lost. Next: ask again, or after the compaction"
        )

    def _still_valid(self) -> bool:
        return all(table.still_valid(found) for table, found in self._snapshots)

    def refresh(self, query: str = "") -> None:
        """Let the views that a query names show what is there now; all of them, if that cannot be told."""
        names = self._statements.tables(query) if query else None
        for schema in events.SCHEMAS.values():
            name = _plain(schema.name)
            if names is None or name in names:
                self._show_table(
                    name, schema, self._snapshot(self._tables[schema.name]), silver.one_table_columns_of(schema)
                )
            if names is None or not names.isdisjoint([f"bronze_{name}", *_silver_views(schema)]):
                self._show_tiers(schema)

    def table(self, schema: EventSchema, within: Within) -> duckdb.DuckDBPyRelation:
        """Return a schema's one table of some partitions as a relation in Silver's order; good until asked for again.

        Read it within `retry`.

        It has Silver's columns too, null where a partition is not compacted yet.

        Raises:
            SpymasterError: log or lake cannot be read.
        """
        own = f"{_plain(schema.name)}_within"
        found = self._snapshot(self._tables_within[schema.name], within)
        self._show_table(own, schema, found, silver.columns_of(schema))
        table = self._connection.table(own)
        # Silver's files are sorted, and one after another for one symbol; to sort so many rows again takes longest.
        sorted_already = within.value is not None and not (found.bronze or found.mended or found.log.num_rows)
        return table if sorted_already else table.order("ts_event_ns, ts_recv_ns, capture_id, capture_seq")

    def _snapshot(self, table: OneTable, within: Within = ALL) -> Snapshot:
        found = table.snapshot(within)
        self._snapshots.append((table, found))
        return found

    def close(self) -> None:
        self._connection.close()
        self._views.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show_tiers(self, schema: EventSchema) -> None:
        """Make the views of a schema's tiers."""
        twice = layout.parts_in_both(self._data_root, schema)
        bronze = [*self._tier(schema, Tier.BRONZE), *self._tier(schema, Tier.ARCHIVE, twice)]
        self._view(f"bronze_{_plain(schema.name)}", schema, schema.bronze, bronze)
        compacted = self._tier(schema, Tier.SILVER)
        for view in _silver_views(schema):
            self._view(view, schema, silver.columns_of(schema), compacted)

    def _tier(self, schema: EventSchema, tier: Tier, without: Sequence[Path] = ()) -> list[str]:
        """Return the query whose rows are a tier's: all its files as they are, but for some; none if it has none."""
        if not layout.has_files(self._data_root, tier, schema):
            return []
        folder = escape_glob(layout.schema_folder(self._data_root, tier, schema))
        levels = "*/*/*" if schema.hourly else "*/*"
        files = layout.SILVER_FILE if tier is Tier.SILVER else layout.PART_PATTERN
        return [_read(schema, [f"{folder}/{levels}/{files}"], without)]

    def _show_table(self, name: str, schema: EventSchema, found: Snapshot, columns: pa.Schema) -> None:
        """Make a view of what was found."""
        tables = (("log", found.log), ("removed", found.removed), ("late", found.late))
        for kind, rows in tables:
            if rows.num_rows:
                self._views.from_arrow(rows).create_view(f"{kind}_{name}", replace=True)
        self._view(name, schema, columns, _one_table(name, schema, found), where=_not_cancelled(schema))
        for kind, rows in tables:
            if not rows.num_rows:
                self._views.execute(f"drop view if exists {kind}_{name}")  # no view uses it now

    def _none_of(self, columns: pa.Schema) -> str:
        """Return a query of no rows and these columns."""
        if columns not in self._none:
            types = self._views.from_arrow(columns.empty_table()).types
            # The date first: of a query that needs no column DuckDB reads the first, and this one is a folder's name.
            kinds = {"date": "date"} | dict(zip(columns.names, types, strict=True)) | {"date": "date"}
            nulls = ", ".join(f'null::{kind} as "{name}"' for name, kind in kinds.items())
            self._none[columns] = f"select {nulls} where false"
        return self._none[columns]

    def _view(self, name: str, schema: EventSchema, columns: pa.Schema, pieces: list[str], where: str = "") -> None:
        """Make a view of these columns over pieces, each of which may lack some or have more."""
        names = ", ".join(f'"{column}"' for column in columns.names)
        source = " union all by name ".join([self._none_of(columns), *pieces])
        query = f"select {names}{_computed(schema)} from ({source}){where}"  # noqa: S608  # names of ours, paths quoted
        if self._shown.get(name) != query:  # its tables have the same names when they have other rows
            self._views.execute(f"create or replace view {name} as {query}")
            self._shown[name] = query


def connect(data_root: Path, wal_root: Path) -> Lake:
    """Open a lake and its log for SQL."""
    return Lake(data_root, wal_root)


def _silver_views(schema: EventSchema) -> list[str]:
    """Return the names of Silver's view: option trades have a second one, as they come enriched."""
    return [f"silver_{_plain(name)}" for name in dict.fromkeys([layout.silver_name(schema), schema.name])]


def _computed(schema: EventSchema) -> str:
    """Return the columns that views have and files have not, each after a comma."""
    return f", {sessions.columns(schema)}"


def _one_table(name: str, schema: EventSchema, found: Snapshot) -> list[str]:
    """Return the queries whose rows are the one table's, with the view's name in those of the rows it needs."""
    keys = f"({schema.partition_by}, capture_id, capture_seq)"
    late = {column.name: f"case when ts_local_ns is null then {own} end" for column, own in silver.late_columns(schema)}
    pieces = []
    if found.bronze:
        pieces.append(f"select *{_as(late)} from ({_read(schema, [escape_glob(file) for file in found.bronze])})")  # noqa: S608  # ours
    if found.mended:
        rows = _read(schema, [escape_glob(file) for file in found.mended])
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
        pieces = [naming.named(schema, " union all by name ".join(pieces))]
    return [*([_read(schema, [escape_glob(file) for file in found.silver])] if found.silver else []), *pieces]


def _as(columns: Mapping[str, str]) -> str:
    """Return computed columns, each after a comma."""
    return "".join(f", {expression} as {name}" for name, expression in columns.items())


def _not_cancelled(schema: EventSchema) -> str:
    """Return the condition that leaves out prints which the last captured file cancels."""
    if not silver.late_columns(schema):
        return ""
    return f" where coalesce(late_correction, 0) not in {silver.CANCELLED}"


def _read(schema: EventSchema, patterns: Sequence[str], without: Sequence[Path] = ()) -> str:
    """Return a query of files by their patterns. Their folders say where their rows are, so that few are opened.

    DuckDB takes columns from every `name=value` in a path. Where there are others above the lake, in place of ours or
    of a file's own, none are taken: then each file is opened, as its rows say where they are too.
    """
    hour = ", 'hour': int" if schema.hourly else ""
    options = f"hive_partitioning = true, hive_types = {{'{schema.partition_by}': varchar, 'date': date{hour}}}"
    columns = "*"
    levels = 3 if schema.hourly else 2
    if any("=" in "/".join(pattern.split("/")[: -levels - 1]) for pattern in patterns):
        options, columns = "hive_partitioning = false", "* replace (date::date as date)"
    if schema.version > 1:  # then files of earlier versions lack columns; to find out, each is opened
        options += ", union_by_name = true"
    files = ", ".join(map(_quote, patterns))
    if without:
        others = ", ".join(_quote(str(path)) for path in without)
        columns = columns.replace("*", "* exclude (filename)", 1)
        return (
            f"select {columns} from read_parquet([{files}], {options}, filename = true) "  # noqa: S608
            f"where filename not in ({others})"
        )
    return f"select {columns} from read_parquet([{files}], {options})"  # noqa: S608  # quoted


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _plain(name: str) -> str:
    return name.replace(".", "_")

"""The lake as SQL tables: one in-memory DuckDB connection with views of every schema.

`futures_trades` is the one table, from the newest row to the oldest: Silver, Bronze that is not in it yet, and the log.
`bronze_futures_trades` is Bronze as received, `silver_futures_trades` Silver as compacted. Options' trades come
enriched in Silver (`silver_options_trades_enriched`, also `silver_options_trades`) and plain in `options_trades`.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import duckdb
import pyarrow as pa

from spymaster import events
from spymaster.errors import LayoutError
from spymaster.events import EventSchema
from spymaster.lake import layout, silver
from spymaster.lake.layout import ALL, Tier, Within
from spymaster.query import sessions
from spymaster.query.one_table import MAX_TRIES, OneTable, Snapshot

_HIDING: Final = re.compile(r"\b(create|query|query_table)\b", re.IGNORECASE)  # a view's name, from its user
_ANSWER: Final = "spymaster_answer"
_Answer = TypeVar("_Answer")


class Lake:
    """All views over one connection. It takes no lock, and reads no file outside the lake and its log.

    Each query sees every row that was acknowledged before it began, none twice, and none that was appended after its
    end, while a daemon records, flushes and compacts beside it. A relation is as of the call that made it, or later; a
    statement of SQL's own PREPARE is as of that. Relations, and views of Silver alone, read files by their names when
    they are fetched, and nobody notices a file that a compaction replaces amid that. One thread uses it.

    Attributes:
        connection: that queries here run on; asked directly, it has the views as the last query here left them.
    """

    def __init__(self, data_root: Path, wal_root: Path) -> None:
        """Open a lake; neither folder need exist."""
        self._views = duckdb.connect()
        self.connection = self._views.cursor()  # of its own, as one with a result under way can make no view
        self._data_root = data_root.resolve()
        self._tables = {schema.name: OneTable(self._data_root, wal_root, schema) for schema in events.SCHEMAS.values()}
        # Apart, as each remembers what it last looked at.
        self._tables_within = {
            schema.name: OneTable(self._data_root, wal_root, schema) for schema in events.SCHEMAS.values()
        }
        self._looks: list[tuple[OneTable, Snapshot]] = []  # that the query under way depends on
        self._shown: dict[str, str] = {}
        self._none: dict[pa.Schema, str] = {}
        self._hidden = False  # whether a query may use our views by a name of the user's own
        roots = [tier.of(self._data_root) for tier in Tier]
        # DuckDB compares names as they are written, so a pattern must be allowed as a pattern.
        allowed = ", ".join(_quote(name) for root in roots for name in sorted({str(root), escape_glob(root)}))
        self._views.execute(f"set allowed_directories = [{allowed}]")
        self._views.execute("set enable_external_access = false")
        self._views.execute("set enable_external_file_cache = false")  # Silver's names get other files
        self.connection.execute("set python_enable_replacements = false")  # they would be our variables
        sessions.install(self._views)
        for schema in events.SCHEMAS.values():  # so that they can be listed; a file is opened when it is asked for
            self._view(_plain(schema.name), schema, schema.bronze, [])
            self._view(f"bronze_{_plain(schema.name)}", schema, schema.bronze, [])
            for view in dict.fromkeys([layout.silver_name(schema), schema.name]):
                self._view(f"silver_{_plain(view)}", schema, silver.columns_of(schema), [])

    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run a query over the rows that are there now, to its end, and return the connection to fetch from.

        The rows of the answer are in memory until the next call: files that were read while somebody fetches could be
        replaced meanwhile.

        Raises:
            duckdb.Error: the query is wrong.
            SpymasterError: log or lake cannot be read.
        """
        if not self._only_reads(query):
            return self._asked(query, lambda: self.connection.execute(query, parameters))
        self.connection.abort()  # of an earlier answer that was not fetched to its end
        self.connection.unregister(_ANSWER)
        answer = self._asked(query, lambda: self.connection.sql(query, params=parameters).materialize())
        self.connection.register(_ANSWER, answer)
        return self.connection.execute(f"from {_ANSWER}")

    def sql(self, query: str) -> Any:
        """Return a query as a DuckDB relation, to go on with or to fetch; None for a statement without a result.

        Raises:
            duckdb.Error: the query is wrong.
            SpymasterError: log or lake cannot be read.
        """
        return self._asked(query, lambda: self.connection.sql(query))

    def _asked(self, query: str, ask: Callable[[], _Answer]) -> _Answer:
        def look_and_ask() -> _Answer:
            self.refresh(query)
            return ask()

        return self.steady(look_and_ask, MAX_TRIES if self._only_reads(query) else 1)

    def _only_reads(self, query: str) -> bool:
        statements = self.connection.extract_statements(query)
        return bool(statements) and all(statement.type == duckdb.StatementType.SELECT for statement in statements)

    def steady(self, ask: Callable[[], _Answer], tries: int = MAX_TRIES) -> _Answer:
        """Return an answer during which no file of Silver was replaced that the one table was read from.

        DuckDB opens a file several times: of one that was replaced in between it shows rows of neither, or nonsense.

        Args:
            ask: looks at tables and reads them to the end; is called again if need be.
            tries: how often; what inserts must not be done twice.

        Raises:
            duckdb.Error: the query is wrong.
            SpymasterError: log or lake cannot be read, or Silver was replaced each time.
        """
        failed: duckdb.Error | None = None
        for _ in range(tries):
            self._looks.clear()
            try:
                answer = ask()
            except duckdb.Error as error:
                # Of a file that is gone: a part was archived meanwhile, or the query names a file of its own.
                if not isinstance(error, duckdb.IOException) and self._held():
                    raise
                failed = error
            else:
                if self._held():
                    return answer
                failed = None
        if failed is not None:
            raise failed
        raise LayoutError(
            f"{self._data_root / 'silver'}: files were replaced by a compaction while they were read. Nothing was "
            f"shown, and nothing is lost. Next: ask again, or after the compaction"
        )

    def _held(self) -> bool:
        return all(table.holds(found) for table, found in self._looks)

    def refresh(self, query: str = "") -> None:
        """Let the views that a query names show what is there now; all of them, if it may use some by another name."""
        text = query.lower()
        self._hidden |= _HIDING.search(query) is not None
        named = [schema for schema in events.SCHEMAS.values() if _plain(schema.name) in text]
        for schema in events.SCHEMAS.values() if self._hidden or not query else named:
            self._show(schema, self._look(self._tables[schema.name]))

    def table(self, schema: EventSchema, within: Within) -> duckdb.DuckDBPyRelation:
        """Return a schema's one table of some partitions as a relation in Silver's order; good until asked for again.

        Read it within `steady`.

        Option trades have Silver's columns of enrichment, null where Silver has not got them yet.

        Raises:
            SpymasterError: log or lake cannot be read.
        """
        own = f"{_plain(schema.name)}_within"
        found = self._look(self._tables_within[schema.name], within)
        self._show_table(own, schema, found, silver.plain_columns_of(schema))
        table = self.connection.table(own)
        # Silver's files are sorted, and one after another for one symbol; to sort so many rows again takes longest.
        sorted_already = within.value is not None and not (found.bronze or found.doubled or found.log.num_rows)
        return table if sorted_already else table.order("ts_event_ns, ts_recv_ns, capture_id, capture_seq")

    def _look(self, table: OneTable, within: Within = ALL) -> Snapshot:
        found = table.look(within)
        self._looks.append((table, found))
        return found

    def close(self) -> None:
        self.connection.close()
        self._views.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show(self, schema: EventSchema, found: Snapshot) -> None:
        """Make a schema's views."""
        name = _plain(schema.name)
        self._show_table(name, schema, found, schema.bronze)
        twice = layout.parts_in_both(self._data_root, schema)
        bronze = [*self._tier(schema, Tier.BRONZE), *self._tier(schema, Tier.ARCHIVE, twice)]
        self._view(f"bronze_{name}", schema, schema.bronze, bronze)
        compacted = self._tier(schema, Tier.SILVER)
        for view in dict.fromkeys([_plain(layout.silver_name(schema)), name]):
            self._view(f"silver_{view}", schema, silver.columns_of(schema), compacted)

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
        for kind, rows in (("log", found.log), ("removed", found.removed)):
            if rows.num_rows:
                self._views.from_arrow(rows).create_view(f"{kind}_{name}", replace=True)
        self._view(name, schema, columns, _one_table(name, schema, found))
        for kind, rows in (("log", found.log), ("removed", found.removed)):
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

    def _view(self, name: str, schema: EventSchema, columns: pa.Schema, pieces: list[str]) -> None:
        """Make a view of these columns over pieces, each of which may lack some or have more."""
        names = ", ".join(f'"{column}"' for column in columns.names)
        source = " union all by name ".join([self._none_of(columns), *pieces])
        query = f"select {names}{_computed(schema)} from ({source})"  # noqa: S608  # names of ours, paths quoted
        if self._shown.get(name) != query:  # its tables have the same names when they have other rows
            self._views.execute(f"create or replace view {name} as {query}")
            self._shown[name] = query


def connect(data_root: Path, wal_root: Path) -> Lake:
    """Open a lake and its log for SQL."""
    return Lake(data_root, wal_root)


def escape_glob(path: Path) -> str:
    """Return `path` as a DuckDB pattern that matches itself alone."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def _computed(schema: EventSchema) -> str:
    """Return the columns that views have and files have not, each after a comma."""
    return f", {sessions.columns(schema)}"


def _one_table(name: str, schema: EventSchema, found: Snapshot) -> list[str]:
    """Return the queries whose rows are the one table's, with the view's name in those of the rows it needs."""
    pieces = [_read(schema, [escape_glob(file) for file in files]) for files in (found.silver, found.bronze) if files]
    if found.doubled:
        again = f"anti join removed_{name} using ({schema.partition_by}, capture_id, capture_seq)"
        pieces.append(f"{_read(schema, [escape_glob(file) for file in found.doubled])} {again}")
    if found.log.num_rows:
        pieces.append(f"select * replace (date::date as date) from log_{name}")  # noqa: S608  # a name of ours
    return pieces


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

"""The lake as SQL tables: one in-memory DuckDB connection with views of every schema.

`futures_trades` is the one table, from the newest row to the oldest: Silver, Bronze that is not in it yet, and the log.
`bronze_futures_trades` is Bronze as received, `silver_futures_trades` Silver as compacted. Options' trades come
enriched in Silver (`silver_options_trades_enriched`, also `silver_options_trades`) and plain in `options_trades`.
Each data set is a view by its own name, such as `ohlcv`.
"""

import re
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import duckdb
import pyarrow as pa

from spymaster import events
from spymaster.errors import ReplacedError
from spymaster.events import EventSchema
from spymaster.lake import lake_id, layout, silver
from spymaster.lake.layout import ALL, RECEIVED, Tier, Within, escape_glob
from spymaster.paths import stream_stem
from spymaster.query import naming, sessions
from spymaster.query.one_table import MAX_TRIES, OneTable, Snapshot
from spymaster.query.read_only import ReadOnly, guarded
from spymaster.query.statements import SETTINGS, Statements
from spymaster.query.views import Views, plain, quote, silver_views
from spymaster.wal import folder

STREAM_ROWS: Final = 65_536  # of a batch: 35 MB of books, of which a few are held
SPILL_GB: Final = 16  # on the disk for temporary files; a query that needs more fails
_ANSWER: Final = "spymaster_answer"
_DUCKDB_SAYS: Final = re.compile(r"[A-Z][\w ]* Error: ")  # what ends a stream comes through Arrow, as an OSError
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
        self._database = duckdb.connect()
        self._connection = self._database.cursor()  # of its own, as one with a result under way can make no view
        self._statements = Statements(self._database.cursor())
        self.connection = ReadOnly(self._connection, self._statements)
        self._data_root, self._wal_root = data_root.resolve(), wal_root
        self._tables = {schema.name: OneTable(self._data_root, wal_root, schema) for schema in events.SCHEMAS.values()}
        # Apart, as each remembers what it found last.
        self._tables_within = {
            schema.name: OneTable(self._data_root, wal_root, schema) for schema in events.SCHEMAS.values()
        }
        self._snapshots: list[tuple[OneTable, Snapshot]] = []  # that the query under way depends on
        roots = [tier.of(self._data_root) for tier in Tier]
        # DuckDB compares names as they are written, so a pattern must be allowed as a pattern.
        allowed = ", ".join(quote(name) for root in roots for name in sorted({str(root), escape_glob(root)}))
        self._database.execute(f"set allowed_directories = [{allowed}]")
        # By default a query spills into the working folder, beside the log, up to 90 % of what is free there.
        spill = Path(tempfile.gettempdir(), f"spymaster-{secrets.token_hex(8)}")  # DuckDB makes it, and removes it
        self._database.execute(f"set temp_directory = {quote(str(spill))}")
        self._database.execute(f"set max_temp_directory_size = '{SPILL_GB}GB'")
        self._database.execute("set enable_external_access = false")
        self._database.execute("set enable_external_file_cache = false")  # Silver's names get other files
        self._database.execute("set global timezone = 'UTC'")
        self._connection.execute("set python_enable_replacements = false")  # they would be our variables
        # Else `enable_logging` and `enable_profiling`, called from a text, let DuckDB write any file of the lake.
        self._database.execute(f"set allowed_configs = {sorted(SETTINGS)}")
        self._database.execute("set lock_configuration = true")
        sessions.install(self._database)
        naming.install(self._database)
        self._views = Views(self._data_root, self._database)

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

    @contextmanager
    def stream(
        self, query: str, parameters: Sequence[Any] | None = None, *, as_text: Collection[str] = ()
    ) -> Iterator[pa.RecordBatchReader]:
        """Yield a query's rows in batches of at most `STREAM_ROWS`, read from the files while they are fetched.

        Nothing else runs on this lake meanwhile. Keep what you fetched only if the block ends without an error.

        Args:
            query: SQL, which reads, or makes tables and views of your own.
            parameters: for its `?`.
            as_text: DuckDB types whose columns come as their text, e.g. `interval`, `list`.

        Raises:
            duckdb.Error: the query is wrong.
            UsageError: it does more than read, or is empty.
            ReplacedError: at the end: a compaction replaced files that were being read.
            SpymasterError: log or lake cannot be read.
        """
        self._statements.check(query)
        self._connection.abort()
        self._snapshots.clear()
        self.refresh(query)
        relation = self._connection.sql(query, params=parameters)
        if relation is None:
            yield pa.RecordBatchReader.from_batches(pa.schema([]), [])
            return
        if not {kind.id for kind in relation.types}.isdisjoint(as_text):
            relation = relation.project(", ".join(_as_text(relation, as_text)))
        batches = relation.to_arrow_reader(STREAM_ROWS)
        try:
            yield batches
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if not self._still_valid(though_archived=False):
                raise self._replaced() from error
            if isinstance(error, OSError) and _DUCKDB_SAYS.match(str(error)):
                raise duckdb.Error(str(error)) from error
            raise
        finally:
            batches.close()  # what was not fetched
        if not self._still_valid():
            raise self._replaced()

    def guarded(self, found: Any) -> Any:
        """Return a relation or connection without what writes files, and anything else as it is."""
        return guarded(found, self._statements)

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

    def _still_valid(self, *, though_archived: bool = True) -> bool:
        return all(
            table.still_valid(found) and (though_archived or all(map(Path.exists, [*found.bronze, *found.mended])))
            for table, found in self._snapshots
        )

    def refresh(self, query: str = "") -> None:
        """Let the views that a query names show what is there now; all of them, if that cannot be told."""
        names = self._statements.tables(query) if query else None
        for schema in events.SCHEMAS.values():
            name = plain(schema.name)
            if names is None or name in names:
                found = self._snapshot(self._tables[schema.name])
                self._views.show_table(name, schema, found, silver.one_table_columns_of(schema), counted=False)
            if names is None or f"bronze_{name}" in names:
                self._tables[schema.name].require_known_parts()
            if names is None or not names.isdisjoint([f"bronze_{name}", *silver_views(schema)]):
                self._views.show_tiers(schema)
        self._views.show_made(names)

    def empty_views(self, query: str) -> list[tuple[str, bool]]:
        """Return the views of market data that a query names and that have no row, and whether a compaction helps."""
        names = self._statements.tables(query) or set()
        found = []
        for schema in events.MARKET_SCHEMAS:
            name = plain(schema.name)
            silver_only = [view for view in silver_views(schema) if view in names]
            named = [view for view in (name, f"bronze_{name}") if view in names]
            received = any(layout.has_files(self._data_root, tier, schema) for tier in RECEIVED)
            if not layout.has_files(self._data_root, Tier.SILVER, schema):
                logged = _is_logged(self._wal_root, schema)
                found += [(view, received) for view in silver_only]
                found += [(view, False) for view in named if not received and not logged]
        return found

    def table(self, schema: EventSchema, within: Within) -> duckdb.DuckDBPyRelation:
        """Return a schema's one table of some partitions as a relation in Silver's order; good until asked for again.

        Read it within `retry`.

        It has Silver's columns too, null where a partition is not compacted yet.

        Raises:
            SpymasterError: log or lake cannot be read.
        """
        own = f"{plain(schema.name)}_within"
        found = self._snapshot(self._tables_within[schema.name], within)
        self._views.show_table(own, schema, found, silver.columns_of(schema), counted=True)
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
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(data_root: Path, wal_root: Path) -> Lake:
    """Open a lake and its log for SQL."""
    return Lake(data_root, wal_root)


def _is_logged(wal_root: Path, schema: EventSchema) -> bool:
    """Whether the log has a segment of a schema."""
    with suppress(FileNotFoundError):
        return any(name.stem.startswith(stream_stem(schema.name, "")) for _, name in folder.segments(wal_root))
    return False


def _as_text(relation: duckdb.DuckDBPyRelation, kinds: Collection[str]) -> Iterator[str]:
    """Yield the select expressions of a relation's columns, by their places as names may come twice.

    Bytes come as hexadecimal digits, by which an `event_id` can be looked up.
    """
    for place, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True), 1):
        quoted = name.replace('"', '""')
        text = f"lower(hex(#{place}))" if kind.id == "blob" else f"#{place}::varchar"
        yield f'{text if kind.id in kinds else f"#{place}"} as "{quoted}"'

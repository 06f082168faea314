"""What the Bronze of one partition gives, made by an engine anew, beside what its file of Silver holds.

Due and held are compared whole, by SQL: every column of every row, how often it stands there, and where. Memory is
bounded by slices of event time. They are cut at whole seconds, so that equal events share one.
"""
# ruff: noqa: S608  # names of ours; all that comes from outside is a parameter

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import duckdb

from spymaster.compaction.deliveries import Deliveries
from spymaster.compaction.engines import Make
from spymaster.compaction.made import Greeks, open_parts
from spymaster.compaction.spans import WHOLE, Span
from spymaster.events import EventSchema
from spymaster.lake import silver
from spymaster.lake.layout import escape_glob
from spymaster.lake.silver import Counts

_SLICE_VALUES: Final = 6_000_000  # of due rows in memory at once, all columns together
_ORDER: Final = "ts_event_ns, ts_recv_ns, capture_id, capture_seq"


class UnreadableError(Exception):
    """The file of Silver does not read."""


@dataclass
class Difference:
    """How a file differs from what its parts give.

    Attributes:
        missing: rows that are due and not held.
        surplus: rows that are held and not due.
        differing: rows that are held with another value.
        columns: which these are in.
        first: `capture_id` and `capture_seq` of the first of all these.
        misplaced: rows that are not where Silver's order has them.
        counts: what became of the rows of the parts.
        held: rows that are held.
    """

    missing: int = 0
    surplus: int = 0
    differing: int = 0
    columns: set[str] = field(default_factory=set)
    first: tuple[int, int] | None = None
    misplaced: int = 0
    counts: Counts = Counts(0, 0, 0, 0, 0)  # noqa: RUF009  # it cannot be changed
    held: int = 0


class Comparison:
    """What the parts of one partition give, beside what its file holds.

    Attributes:
        rows_in: rows of the parts.

    Raises:
        UnreadableError: the file does not read; also of its methods.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, schema: EventSchema, parts: list[Path], file: Path
    ) -> None:
        self._connection, self._schema, self._file = connection, schema, escape_glob(file)
        connection.register("no_rows", silver.columns_of(schema).empty_table())
        times = connection.sql(
            "select filename as part, ts_event_ns // 1000000000 as second, count(*) as rows "
            "from read_parquet(?, hive_partitioning = false, filename = true) group by all",
            params=[[escape_glob(part) for part in parts]],
        ).to_arrow_table()
        connection.register("times", times)
        self.rows_in = int(self._one("coalesce(sum(rows), 0) from times")[0])

    def foreign_columns(self) -> list[str]:
        """Return the columns of the file that are none of Silver's, or of another type."""
        due = {name: kind for name, kind, *_ in self._connection.execute("describe no_rows").fetchall()}
        held = self._read_file("describe from read_parquet(?, hive_partitioning = false)")
        return [name for name, kind, *_ in held if due.get(name) != kind]

    def unknown_rows(self) -> int:
        """Return how many rows of the file the parts have not got."""
        unknown = 0
        names = _quoted(self._schema.bronze.names)
        for piece in self._slices():
            self._load_held(piece)
            delivered, parameters = self._delivered(piece)
            unknown += self._connection.execute(
                f"select count(*) from (select {names} from held except all {delivered})", parameters
            ).fetchall()[0][0]
        return unknown

    def run(self, make: Make, deliveries: Deliveries, greeks: Greeks | None, *, enriched: bool) -> Difference:
        """Compare every row.

        Args:
            make: the engine that makes what is due.
            deliveries: where they are cut, and when they began.
            greeks: what option trades may know; None for other schemas.
            enriched: whether to compare what greeks gave.
        """
        found = Difference()
        given = [] if enriched else [column.name for column in silver.ENRICHMENT]
        for piece in self._slices():
            made = make(self._schema, open_parts(self._schema, self._parts_of(piece)), piece, deliveries, greeks)
            due = made.rows.drop_columns([name for name in given if name in made.rows.column_names])
            found.counts = Counts(*(sum(pair) for pair in zip(found.counts, made.counts, strict=True)))
            self._connection.register("due", due)
            self._load_held(piece)
            self._count(found, due.column_names)
            self._connection.unregister("due")
        return found

    def _slices(self) -> Iterator[Span]:
        most = _SLICE_VALUES // len(silver.columns_of(self._schema))
        begins = self._connection.execute(
            "select min(second) * 1000000000 from ("
            "select second, (sum(sum(rows)) over (order by second) - 1) // ? as slice from times group by second"
            ") group by slice order by 1",
            [most],
        ).fetchall()
        for begin_ns, next_ns in pairwise([WHOLE.begin_ns, *(begin for (begin,) in begins[1:]), None]):
            yield Span(begin_ns, WHOLE.last_ns if next_ns is None else next_ns - 1)

    def _parts_of(self, piece: Span) -> list[Path]:
        """Return the parts that have rows of some times."""
        parts = self._connection.execute(
            "select distinct part from times where second * 1000000000 between ? and ? order by part", piece
        ).fetchall()
        return [Path(part) for (part,) in parts]

    def _delivered(self, piece: Span) -> tuple[str, list[Any]]:
        """Return a query of the rows that the parts have of some times, and its parameters."""
        parts, names = self._parts_of(piece), _quoted(self._schema.bronze.names)
        if not parts:
            return f"select {names} from no_rows", []
        return (
            f"select {names} from (from no_rows union all by name from read_parquet(?, hive_partitioning = false, "
            f"union_by_name = true) where ts_event_ns between ? and ?)"
        ), [[escape_glob(part) for part in parts], *piece]

    def _load_held(self, piece: Span) -> None:
        """Make a table of the rows that the file has of some times, each with its place in the file."""
        self._read_file(
            "create or replace temp table held as from no_rows union all by name "
            "select * exclude (file_row_number), file_row_number as place "
            "from read_parquet(?, hive_partitioning = false, file_row_number = true) "
            "where ts_event_ns between ? and ?",
            piece,
        )

    def _read_file(self, query: str, more: tuple[int, ...] = ()) -> list[tuple]:
        try:
            return self._connection.execute(query, [self._file, *more]).fetchall()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise UnreadableError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error

    def _count(self, found: Difference, columns: list[str]) -> None:
        """Add how `held` differs from `due`."""
        names = _quoted(columns)
        self._connection.execute(
            f"create or replace temp table difference as select {names}, sum(times) as times from ("
            f"select {names}, 1 as times from due union all select {names}, -1 from held) group by all "
            f"having sum(times) <> 0"
        )
        lost, more, *first = self._one(
            "coalesce(sum(times) filter (times > 0), 0), coalesce(-sum(times) filter (times < 0), 0), "
            f"arg_min(capture_id, ({_ORDER})), arg_min(capture_seq, ({_ORDER})) from difference"
        )
        others = ", ".join(f'coalesce(bool_or(d."{name}" is distinct from h."{name}"), false)' for name in columns)
        differing, *which = self._one(
            f"count(distinct (capture_id, capture_seq)), {others} "
            f"from difference d join difference h using (capture_id, capture_seq) where d.times > 0 and h.times < 0"
        )
        found.missing += lost - differing
        found.surplus += more - differing
        found.differing += differing
        found.columns.update(name for name, other in zip(columns, which, strict=True) if other)
        if found.first is None and lost + more:
            found.first = (first[0], first[1])
        misplaced, held = self._one(
            "count(*) filter (number <> place), count(*) from ("
            f"select place, row_number() over (order by {_ORDER}, place) - 1 + {found.held} as number from held)"
        )
        found.misplaced, found.held = found.misplaced + misplaced, found.held + held

    def _one(self, query: str) -> tuple:
        """Return the one row of a query."""
        return self._connection.execute(f"select {query}").fetchall()[0]


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)

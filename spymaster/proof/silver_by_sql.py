"""What the Bronze of one partition gives, by SQL alone, beside what its file of Silver holds.

The compactor works on numpy columns. Here DuckDB reads the parts anew and makes of them what Silver has to hold: it
numbers and orders by windows, and finds greeks by an as-of join; hashlib names each event, from the layout as it is
documented. Due and held are then compared whole: every column of every row, how often it stands there, and where.

Memory is bounded by slices of event time. They are cut at whole seconds, so that equal events share one.
"""
# ruff: noqa: S608  # names of ours; all that comes from outside is a parameter

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date as calendar_date
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import clock, events
from spymaster.events import EventSchema
from spymaster.lake import silver
from spymaster.lake.layout import escape_glob
from spymaster.paths import Partition

_SLICE_VALUES: Final = 6_000_000  # of due rows in memory at once, all columns together
_NULL: Final = -(2**63)
_BLOCK_BYTES: Final = 64
_ORDER: Final = "ts_event_ns, ts_recv_ns, capture_id, capture_seq"


class UnreadableError(Exception):
    """The file of Silver does not read."""


class _Slice(NamedTuple):
    """Event times that are compared together; half-open, whole seconds."""

    begin_ns: int
    end_ns: int


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
        rows: rows that are due.
        repeats: of these, those with an occurrence above 1.
        enriched: of these, those that greeks were found for.
        held: rows that are held.
    """

    missing: int = 0
    surplus: int = 0
    differing: int = 0
    columns: set[str] = field(default_factory=set)
    first: tuple[int, int] | None = None
    misplaced: int = 0
    rows: int = 0
    repeats: int = 0
    enriched: int = 0
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
        self._connection, self._schema, self._file, self._parts = connection, schema, escape_glob(file), parts
        self._tolerance_ns = 0
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

    def load_greeks(self, data_root: Path, partition: Partition, tolerance_ns: int) -> str | None:
        """Make a table of the snapshots that an hour of option trades may know.

        Args:
            data_root: the lake.
            partition: the hour.
            tolerance_ns: how old they may be.

        Returns:
            What the footer of these trades says of its inputs if they took these; None if they do not read.
        """
        self._tolerance_ns = tolerance_ns
        self._connection.register("no_greeks", events.OPTIONS_GREEKS_SNAPSHOTS.bronze.empty_table())
        source, parameters = "from no_greeks", list[Any]()
        if files := [escape_glob(path) for path in _greeks_files(data_root, partition) if path.exists()]:
            source += " union all by name from read_parquet(?, hive_partitioning = false, union_by_name = true)"
            parameters = [files]
        day = calendar_date.fromisoformat(partition.date) - calendar_date(1970, 1, 1)
        begin_ns = (24 * day.days + (partition.hour or 0)) * clock.NS_PER_HOUR
        try:
            self._connection.execute(
                "create or replace temp table greeks as select option_symbol, ts_event_ns, ts_recv_ns, capture_id, "
                f"capture_seq, snapshot_id, delta, gamma, shares_per_contract from ({source}) "
                "where ts_recv_ns >= ? and ts_recv_ns < ?",
                [*parameters, begin_ns - tolerance_ns, begin_ns + clock.NS_PER_HOUR],
            )
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            return None
        self._connection.execute(
            "create or replace temp table latest as from greeks qualify row_number() over ("
            "partition by option_symbol, ts_recv_ns order by ts_event_ns desc, capture_id desc, capture_seq desc) = 1"
        )
        keys = self._connection.execute("select capture_id, capture_seq from greeks order by all").fetchnumpy()
        numbers = [np.asarray(keys[name]).astype("<i8").tobytes() for name in ("capture_id", "capture_seq")]
        digest = hashlib.sha256(b"".join(numbers)).digest()
        return silver.inputs_digest(self._schema, self._parts, digest + str(tolerance_ns).encode())

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

    def run(self, *, enriched: bool) -> Difference:
        """Compare every row; what greeks gave only where `enriched`."""
        found = Difference()
        for piece in self._slices():
            due = self._due(piece, enriched=enriched)
            self._connection.register("due", due)
            self._load_held(piece)
            self._count(found, due.column_names)
            self._connection.unregister("due")
        return found

    def _slices(self) -> Iterator[_Slice]:
        most = _SLICE_VALUES // len(silver.columns_of(self._schema))
        begins = self._connection.execute(
            "select min(second) * 1000000000 from ("
            "select second, (sum(sum(rows)) over (order by second) - 1) // ? as slice from times group by second"
            ") group by slice order by 1",
            [most],
        ).fetchall()
        for begin_ns, end_ns in pairwise([_NULL, *(begin for (begin,) in begins[1:]), 2**63 - 1]):
            yield _Slice(begin_ns, end_ns)

    def _delivered(self, piece: _Slice) -> tuple[str, list[Any]]:
        """Return a query of the rows that the parts have of some times, and its parameters."""
        parts = self._connection.execute(
            "select distinct part from times where second * 1000000000 >= ? and second * 1000000000 < ? order by part",
            piece,
        ).fetchall()
        names = _quoted(self._schema.bronze.names)
        if not parts:
            return f"select {names} from no_rows", []
        return (
            f"select {names} from (from no_rows union all by name from read_parquet(?, hive_partitioning = false, "
            f"union_by_name = true) where ts_event_ns >= ? and ts_event_ns < ?)"
        ), [[escape_glob(Path(part)) for (part,) in parts], *piece]

    def _load_held(self, piece: _Slice) -> None:
        """Make a table of the rows that the file has of some times, each with its place in the file."""
        self._read_file(
            "create or replace temp table held as from no_rows union all by name "
            "select * exclude (file_row_number), file_row_number as place "
            "from read_parquet(?, hive_partitioning = false, file_row_number = true) "
            "where ts_event_ns >= ? and ts_event_ns < ?",
            piece,
        )

    def _read_file(self, query: str, more: tuple[int, ...] = ()) -> list[tuple]:
        try:
            return self._connection.execute(query, [self._file, *more]).fetchall()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise UnreadableError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error

    def _due(self, piece: _Slice, *, enriched: bool) -> pa.Table:
        """Return the rows that Silver has to hold of some times."""
        delivered, parameters = self._delivered(piece)
        keys = _identity(self._schema)
        names, computed = ", ".join(keys), ", ".join(f"{key} as {name}" for name, key in keys.items())
        once = (
            f"with keyed as (select *, {computed} from ({delivered})), "
            f"counted as (select *, row_number() over (partition by {names}, capture_id order by capture_seq)::int "
            f"as occurrence from keyed) "
            f"from counted qualify row_number() over (partition by {names}, occurrence "
            f"order by ts_recv_ns, capture_id, capture_seq) = 1"
        )
        if enriched and self._schema is events.OPTIONS_TRADES:
            once = _with_greeks(once, self._tolerance_ns)
        due: pa.Table = self._connection.sql(once, params=parameters).to_arrow_table()
        ids = _event_ids(due.select(list(keys)))
        return due.drop_columns(list(keys)).append_column(silver.EVENT_ID, ids)

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
        greeks = "count(greeks_snapshot_id)" if "greeks_snapshot_id" in columns else "0"
        rows, repeats, enriched = self._one(f"count(*), count(*) filter (occurrence > 1), {greeks} from due")
        found.misplaced, found.held = found.misplaced + misplaced, found.held + held
        found.rows, found.repeats, found.enriched = (
            found.rows + rows, found.repeats + repeats, found.enriched + enriched,
        )  # fmt: skip

    def _one(self, query: str) -> tuple:
        """Return the one row of a query."""
        return self._connection.execute(f"select {query}").fetchall()[0]


def _greeks_files(data_root: Path, partition: Partition) -> Iterator[Path]:
    """Yield where Silver has the greeks that an hour of option trades may know."""
    day = calendar_date.fromisoformat(partition.date)
    for back in range(silver.DAYS_BEFORE + 1):
        date = (day - timedelta(days=back)).isoformat()
        own = Partition(events.OPTIONS_GREEKS_SNAPSHOTS.name, partition.key, partition.value, date, None)
        yield silver.file_of(data_root, own)


def _with_greeks(trades: str, tolerance_ns: int) -> str:
    """Return the query of trades with what was known of their options."""
    usual = " ".join(f"when '{root}' then {units}" for root, units in silver.MULTIPLIERS.items())
    known = {
        "greeks_snapshot_id": "snapshot_id", "greeks_age_ns": "age", "delta": "delta", "gamma": "gamma",
        "delta_notional": "delta * units", "gamma_notional": "gamma * units",
    }  # fmt: skip
    tolerated = f"case when age <= {tolerance_ns} then"
    columns = ", ".join(f"{tolerated} {value} end as {name}" for name, value in known.items())
    return (
        f"select * exclude (snapshot_id, delta, gamma, age, units), {columns} from ("
        f"select t.*, g.snapshot_id, g.delta, g.gamma, t.ts_event_ns - g.ts_recv_ns as age, "
        f"t.size::double * coalesce(g.shares_per_contract, case t.underlying {usual} end)::double as units "
        f"from ({trades}) t asof left join latest g "
        f"on t.option_symbol = g.option_symbol and t.ts_event_ns >= g.ts_recv_ns)"
    )


def _identity(schema: EventSchema) -> dict[str, str]:
    """Return an expression for each piece of the layout that `events.identity` documents, by the names they get."""
    instrument, *rest = schema.identity
    floored = "ts_event_ns - ((ts_event_ns % 1000000) + 1000000) % 1000000"
    pieces = [
        f"source || '|' || coalesce(\"{instrument}\", '')",
        f"case when starts_with(source, 'massive.') then {floored} else ts_event_ns end",
        *(_key(schema.log.field(name)) if name else f"({_NULL})::bigint" for name in rest),
    ]
    return {f"key_{number}": piece for number, piece in enumerate(pieces)}


def _key(column: pa.Field) -> str:
    name = f'"{column.name}"'
    if pa.types.is_string(column.type):
        return name
    if pa.types.is_floating(column.type):  # one that is no price of 64 bits is the bits that it is made of
        exact = f"case when abs({name} * 1e9) < 9223372036854775808 then cast({name} * 1e9 as bigint)"
        return f"coalesce({exact} else {name}::bit::bigint end, {_NULL})"
    return f"coalesce({name}::bigint, {_NULL})"


def _event_ids(keys: pa.Table) -> pa.Array:
    """Return the MD5 of each row's pieces, a text as its block and a number as its eight bytes."""
    rows = keys.num_rows
    layout = np.concatenate([_bytes_of(column) for column in keys.columns], axis=1)
    width, raw = layout.shape[1], memoryview(layout.tobytes())
    digests = b"".join(
        hashlib.md5(raw[at : at + width], usedforsecurity=False).digest() for at in range(0, rows * width, width)
    )
    return pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(digests)])


def _bytes_of(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    if not pa.types.is_string(column.type):
        numbers: NDArray[np.int64] = column.to_numpy().astype("<i8")
        return numbers.view(np.uint8).reshape(-1, 8)
    texts = column.combine_chunks().dictionary_encode(null_encoding="encode")
    blocks = b"".join(map(_block, texts.dictionary.to_pylist()))  # the distinct ones only
    repeated: NDArray[np.uint8] = np.frombuffer(blocks, np.uint8).reshape(-1, _BLOCK_BYTES)[texts.indices.to_numpy()]
    return repeated


def _block(text: str | None) -> bytes:
    if text is None:
        return b"\xff" * _BLOCK_BYTES
    raw = text.encode()
    plain = len(raw) <= _BLOCK_BYTES and not raw.endswith(b"\0")
    return raw.ljust(_BLOCK_BYTES, b"\0") if plain else hashlib.sha256(raw).hexdigest().encode()


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)

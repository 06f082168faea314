"""What an event schema is: one Arrow schema with its partition key, its identity columns and its units."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import pyarrow as pa

# The columns that Bronze files hold beside the log's, so that table formats can adopt them.
# `date` is text: pyarrow, polars and DuckDB all take it from file and from path alike; a date32 clashes in pyarrow.
PARTITION_FIELDS: Final = (
    pa.field("date", pa.string(), nullable=False, metadata={"meaning": "UTC date of ts_event_ns, YYYY-MM-DD"}),
    pa.field("hour", pa.int32(), nullable=False, metadata={"meaning": "UTC hour of ts_event_ns, 0 to 23"}),
)


WILDCARD: Final = "ALL"  # the symbol of a stream that has all, or several
Kind = Literal["market", "own"]  # what a vendor sent, or what we say of it


def field(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    """Declare a column that every row fills."""
    return pa.field(name, kind, nullable=False, metadata={"meaning": meaning})


def optional(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    """Declare a column that is null where the vendor said nothing or `undefined`."""
    return pa.field(name, kind, nullable=True, metadata={"meaning": meaning})


def no_rows(columns: pa.Schema) -> pa.RecordBatch:
    """Return a batch without rows. `from_pylist` would import pandas, a third of a second."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, column.type) for column in columns], schema=columns)


class Stream(NamedTuple):
    """One event schema for one subscribed symbol, or for the wildcard `ALL`. It has one WAL."""

    schema: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.schema}/{self.symbol}"


@dataclass(frozen=True)
class EventSchema:
    """One kind of event.

    Attributes:
        name: `asset.type`, which is also its folder in the lake and, as `asset_type`, its WAL name.
        version: grows with the fields; a change only ever adds nullable columns.
        partition_by: the column whose value names the Hive folder.
        hourly: whether the lake partitions it by hour below the date.
        identity: the columns that tell one event from another beside source and time, in the order in which
            they enter `event_id`: the instrument, price, size and seq (None where it has no such column), then more.
        log: the schema of its rows in the WAL and on the bus, with name, version, units and meanings as metadata.
        kind: `own` events have no Silver and are never archived.
    """

    name: str
    version: int
    partition_by: str
    hourly: bool
    identity: tuple[str | None, ...]
    log: pa.Schema
    kind: Kind

    @property
    def delivered(self) -> pa.Schema:
        """The schema of rows as a normalizer makes them, before they are numbered: the log's without its last two."""
        return self._with_columns(list(self.log)[:-2])

    @property
    def bronze(self) -> pa.Schema:
        """The schema of its Parquet files: the log's and the partition columns."""
        return self._with_columns([*self.log, *PARTITION_FIELDS[: 2 if self.hourly else 1]])

    def _with_columns(self, columns: list[pa.Field]) -> pa.Schema:
        return pa.schema(columns, {"schema_name": self.name, "schema_version": str(self.version)})


def event_schema(
    name: str,
    fields: list[pa.Field],
    *,
    identity: tuple[str | None, ...],
    version: int = 1,
    partition_by: str = "symbol",
    hourly: bool = True,
    kind: Kind = "market",
) -> EventSchema:
    """Declare an event schema: the columns every schema has, around its own `fields`."""
    columns = [
        field("ts_event_ns", pa.int64(), "the venue's time, UTC nanoseconds"),
        field("ts_recv_ns", pa.int64(), "the vendor's capture time, UTC nanoseconds; ours where it sends none"),
        optional("ts_local_ns", pa.int64(), "our clock on arrival, UTC nanoseconds; null for a file"),
        field("source", pa.string(), "the vendor's dataset, not the route"),
        *fields,
        field("capture_id", pa.int64(), "which delivery; 63 bits"),
        field("capture_seq", pa.int64(), "the row's number in its capture's stream, from 0 without a hole"),
    ]
    missing = {partition_by, *identity} - {None, *(column.name for column in columns)}
    if missing:
        raise ValueError(f"{name}: {missing} are no columns")
    log = pa.schema(columns, {"schema_name": name, "schema_version": str(version)})
    return EventSchema(name, version, partition_by, hourly, identity, log, kind)

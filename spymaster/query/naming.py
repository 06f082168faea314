"""What names an event, of rows that no Silver has yet: `event_id` and `occurrence`, made when a query asks for them.

DuckDB leaves out a column that a query does not use, so nothing is computed for the others. The occurrence is counted
among rows whose identity is equal, column by column, so that a filter on one of these columns, on a time, a contract or
a partition, still spares the files that it rules out. Counting needs all rows of an hour, and gives up their order: a
reader of some partitions pays that, a `select * limit 5` over all would not, so there it is null.
"""

from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa

from spymaster import events
from spymaster.clock import NS_PER_MS
from spymaster.events import EventSchema
from spymaster.events.identity import columns_of, event_ids, identity_of
from spymaster.events.sameness import MASSIVE, comes_in_two_precisions


def install(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the functions that name events, each of one struct: it has as many columns as its schema's identity."""
    for schema in events.SCHEMAS.values():
        names = columns_of(schema)
        types = connection.from_arrow(schema.bronze.empty_table().select(names)).types
        given = duckdb.struct_type(dict(zip(names, types, strict=True)))
        connection.create_function(
            _function(schema), _namer(schema), [given], duckdb.type("BLOB"), type="arrow", null_handling="special"
        )  # type: ignore[call-overload]  # the stubs know its types as strings alone


def _namer(schema: EventSchema) -> Callable[[Any], pa.Array]:
    def name(given: Any) -> pa.Array:
        chunks = given.chunks if isinstance(given, pa.ChunkedArray) else [given]
        rows = pa.Table.from_batches([pa.RecordBatch.from_struct_array(chunk) for chunk in chunks])  # type: ignore[arg-type]
        return event_ids(identity_of(schema, rows)).cast(pa.binary())

    return name


def named(schema: EventSchema, query: str, *, counted: bool) -> str:
    """Return a query of all rows of some partitions with `event_id` and `occurrence`, which is null if not counted."""
    given = "{" + ", ".join(f"'{name}': \"{name}\"" for name in columns_of(schema)) + "}"
    hour = ["hour"] if schema.hourly else []
    time = "ts_event_ns"
    if comes_in_two_precisions(schema):  # of that vendor's sources alone
        time = f"case when starts_with(source, '{MASSIVE}') then {time} - {time} % {NS_PER_MS} else {time} end"
    equal = [schema.partition_by, "date", *hour, "source", *filter(None, schema.identity)]
    group = ", ".join([time, *(f'"{name}"' for name in dict.fromkeys(equal))])
    order = "ts_event_ns, ts_recv_ns, capture_id, capture_seq"
    occurrence = f"row_number() over (partition by {group} order by {order})" if counted else "null"
    return f"select *, {_function(schema)}({given}) as event_id, {occurrence}::int as occurrence from ({query})"  # noqa: S608  # ours


def _function(schema: EventSchema) -> str:
    return f"event_id_of_{schema.name.replace('.', '_')}"

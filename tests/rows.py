"""Rows for tests: plausible values in every column of a schema, each row different from the others."""

import numpy as np
import pyarrow as pa

from spymaster import events
from spymaster.events import EventSchema

NOON_NS = 1_766_404_800_000_000_000  # 2025-12-22 12:00 UTC


def delivered(schema: EventSchema, count: int, start: int = 0, symbol: str = "ES") -> pa.RecordBatch:
    """Return `count` rows as a normalizer makes them, one a millisecond from `NOON_NS` + `start` ms on."""
    numbers = np.arange(start, start + count)
    columns = []
    for column in schema.delivered:
        if column.name.endswith("_ns") and column.name.startswith("ts_") and pa.types.is_int64(column.type):
            values = pa.array(NOON_NS + numbers * 1_000_000)
        elif column.name == schema.partition_by:
            values = pa.repeat(symbol, count)
        elif pa.types.is_integer(column.type):
            values = pa.array(numbers % 100).cast(column.type)
        elif pa.types.is_floating(column.type):
            values = pa.array(6900 + numbers * 0.25)
        elif pa.types.is_boolean(column.type):
            values = pa.array(numbers % 2 == 0)
        elif pa.types.is_string(column.type):
            values = pa.array([f"{column.name}{number % 7}" for number in numbers])
        elif pa.types.is_map(column.type):
            values = pa.array([[("futures.trades/ES", int(number))] for number in numbers], column.type)
        else:
            values = pa.nulls(count, column.type)
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, schema=schema.delivered)


def numbered(schema: EventSchema, count: int, start: int = 0, capture_id: int = 1, symbol: str = "ES") -> pa.Table:
    """Return rows as they stand in the log, `capture_seq` from `start` on."""
    batch = delivered(schema, count, start, symbol)
    keys = [pa.array([capture_id] * count, pa.int64()), pa.array(np.arange(start, start + count))]
    return pa.Table.from_arrays([*batch.columns, *keys], schema=schema.log)


TRADES = events.FUTURES_TRADES
BOOKS = events.FUTURES_MBP10

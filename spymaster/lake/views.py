"""The lake as SQL tables: an in-memory DuckDB connection with one view per schema and tier.

`bronze_futures_trades` is Bronze as received. `futures_trades` is the table for every day; today it is Bronze too.
"""

from pathlib import Path

import duckdb
import pyarrow as pa

from spymaster import events
from spymaster.events import EventSchema


def connect(data_root: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection with all views. It reads only, takes no lock, and sees parts as they appear."""
    connection = duckdb.connect()
    for schema in events.SCHEMAS.values():
        name = schema.name.replace(".", "_")
        connection.execute(f"create view bronze_{name} as {_bronze(connection, data_root, schema)}")
        connection.execute(f"create view {name} as from bronze_{name}")
    return connection


def _bronze(connection: duckdb.DuckDBPyConnection, data_root: Path, schema: EventSchema) -> str:
    folder = data_root / "bronze" / schema.name.replace(".", "/")
    if next(folder.rglob("part-*.parquet"), None) is None:
        name = f"empty_{schema.name.replace('.', '_')}"
        columns = {column.name: pa.nulls(0, column.type) for column in schema.bronze}
        connection.register(name, pa.table(columns))
        return f"select * replace (date::date as date) from {name}"  # noqa: S608  # a name of ours
    levels, hour = ("*/*/*", ", 'hour': int") if schema.hourly else ("*/*", "")
    pattern = f"{folder}/{levels}/part-*.parquet".replace("'", "''")
    kinds = f"{{'{schema.partition_by}': varchar, 'date': date{hour}}}"
    return f"select * from read_parquet('{pattern}', hive_partitioning = true, hive_types = {kinds})"  # noqa: S608

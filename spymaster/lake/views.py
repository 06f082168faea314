"""The lake as SQL tables: an in-memory DuckDB connection with one view per schema and tier.

`bronze_futures_trades` is Bronze as received. `futures_trades` is the table for every day; today it is Bronze too.
"""

import re
from pathlib import Path

import duckdb
import pyarrow as pa

from spymaster import events
from spymaster.events import EventSchema


def connect(data_root: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection with all views. It takes no lock, sees parts as they appear, and no file outside Bronze."""
    connection = duckdb.connect()
    bronze = (data_root / "bronze").resolve()
    for schema in events.SCHEMAS.values():
        name = schema.name.replace(".", "_")
        connection.execute(f"create view bronze_{name} as {_bronze(connection, bronze, schema)}")
        connection.execute(f"create view {name} as from bronze_{name}")
    # DuckDB compares names as they are written, so a pattern must be allowed as a pattern.
    allowed = ", ".join(_quote(name) for name in {str(bronze), escape_glob(bronze)})
    connection.execute(f"set allowed_directories = [{allowed}]")
    connection.execute("set enable_external_access = false")
    return connection


def escape_glob(path: Path) -> str:
    """Return `path` as a DuckDB pattern that matches itself alone."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _bronze(connection: duckdb.DuckDBPyConnection, bronze: Path, schema: EventSchema) -> str:
    folder = bronze / schema.name.replace(".", "/")
    if next(folder.rglob("part-*.parquet"), None) is None:
        name = f"empty_{schema.name.replace('.', '_')}"
        columns = {column.name: pa.nulls(0, column.type) for column in schema.bronze}
        connection.register(name, pa.table(columns))
        return f"select * replace (date::date as date) from {name}"  # noqa: S608  # a name of ours
    levels, hour = ("*/*/*", ", 'hour': int") if schema.hourly else ("*/*", "")
    pattern = _quote(f"{escape_glob(folder)}/{levels}/part-*.parquet")
    kinds = f"{{'{schema.partition_by}': varchar, 'date': date{hour}}}"
    return f"select * from read_parquet({pattern}, hive_partitioning = true, hive_types = {kinds})"  # noqa: S608

"""A database of keys or rows that may be larger than memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import duckdb

MEMORY: Final = "1GB"  # for the keys of some 7 million rows; those of more go to temporary files


@contextmanager
def spilling() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database for keys that goes to temporary files where a lake has more of them than memory may hold."""
    with tempfile.TemporaryDirectory() as spill:
        config: dict[str, Any] = {"memory_limit": MEMORY, "threads": 2, "temp_directory": spill}
        with duckdb.connect(config=config) as connection:
            yield connection

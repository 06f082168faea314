"""Proves, before a Silver file is published, that it holds the rows of its Bronze without those that were removed.

By another way than the file was made: DuckDB reads the parts and the draft back from the disk, counts, and sums up a
hash of every row over all of Bronze's columns. The sum does not depend on the order, and no row can be lost, doubled,
mixed up with another or changed in a value without changing it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa

from spymaster.errors import SpymasterError
from spymaster.events import EventSchema
from spymaster.lake.layout import escape_glob


class ConservationError(SpymasterError):
    """The draft does not hold exactly what it should; nothing was published."""


class Content(NamedTuple):
    """How many rows, and the sum of their hashes."""

    rows: int
    hashes: int


class Check:
    """The conservation of one partition's rows."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: EventSchema) -> None:
        self._connection = connection
        names = ", ".join(f'"{name}"' for name in schema.bronze.names)
        self._content = f"select count(*), coalesce(sum(hash({names})::hugeint), 0)::varchar from "  # noqa: S608
        self._removed = Content(0, 0)

    def remove(self, rows: pa.Table) -> None:
        """Note rows of Bronze that the draft will not have."""
        if rows.num_rows:
            own = self._of(self._content + "removed", {"removed": rows})
            self._removed = Content(self._removed.rows + own.rows, self._removed.hashes + own.hashes)

    def conserved(self, parts: Sequence[Path], draft: Path) -> None:
        """Compare the draft with its parts.

        Raises:
            ConservationError: they do not agree.
        """
        query = self._content + "read_parquet(?, hive_partitioning = false, union_by_name = true)"
        before = self._of(query, [[escape_glob(path) for path in parts]])
        after = self._of(query, [[escape_glob(draft)]])
        expected = Content(before.rows - self._removed.rows, before.hashes - self._removed.hashes)
        if after != expected:
            raise ConservationError(
                f"{draft.parent}: the new Silver has {after.rows:,} rows where {expected.rows:,} were due"
                f"{'' if after.rows != expected.rows else ', and not the same ones'}. Nothing was published; Bronze is "
                f"as it was. Next: spymaster verify, and report this"
            )

    def _of(self, query: str, given: dict[str, pa.Table] | list[list[str]]) -> Content:
        if isinstance(given, dict):
            for name, table in given.items():
                self._connection.register(name, table)
            found = self._connection.execute(query).fetchall()
            for name in given:
                self._connection.unregister(name)
        else:
            found = self._connection.execute(query, given).fetchall()
        rows, hashes = found[0]
        return Content(rows, int(hashes))

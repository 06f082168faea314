"""The two ways to make the rows of Silver. Both make the same bytes, so that each proves what the other made."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Final

import duckdb
import pyarrow.dataset as ds

from spymaster.compaction import by_columns, by_sql
from spymaster.compaction.deliveries import Deliveries
from spymaster.compaction.made import Greeks, Made
from spymaster.compaction.spans import Span
from spymaster.errors import UsageError
from spymaster.events import EventSchema

Make = Callable[[EventSchema, ds.Dataset, Span, Deliveries, Greeks | None], Made]


class Engine(StrEnum):
    """What makes the rows of Silver."""

    NUMPY = "numpy"
    DUCKDB = "duckdb"

    @classmethod
    def named(cls, name: str) -> "Engine":
        """Return an engine by its name.

        Raises:
            UsageError: there is none of that name.
        """
        try:
            return cls(name)
        except ValueError:
            raise UsageError(
                f"{name!r} makes no Silver. Nothing was done. Next: choose one of {', '.join(cls)}"
            ) from None

    @property
    def other(self) -> "Engine":
        """The one that proves what this one made."""
        return Engine.DUCKDB if self is Engine.NUMPY else Engine.NUMPY

    def maker(self, connection: duckdb.DuckDBPyConnection) -> Make:
        """Return what makes the rows of a span; `connection` is for DuckDB alone."""
        return by_columns.make if self is Engine.NUMPY else partial(by_sql.make, connection)


FASTER: Final = Engine.NUMPY  # bench/silver_trades.py and bench/silver_mbp10.py

"""DuckDB's connection and relations as users get them: they read the lake, and write no file.

Why not by DuckDB's own settings: who may read a folder by `allowed_directories` may write to it, and links and other
spellings of a path are resolved first. A file system of ours below DuckDB could tell the two apart; in Python it makes
a query over 720 small parts take twice as long.
"""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Self

import duckdb
from duckdb._relation import GroupedRelation  # which the package does not name

from spymaster.query.statements import Statements, refusal

_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
_SQL_ARGUMENTS: Final = {"query", "sql_query"}
_TAKES_SQL: Final = {"execute", "executemany", "sql", "query", "from_query"}
_WRITES: Final = {
    "write_parquet", "write_csv", "to_parquet", "to_csv", "install_extension", "load_extension", "register_filesystem",
    "enable_profiling",
}  # fmt: skip
_DEFINES: Final = {"create_view", "to_view", "query"}  # a view by a name of the user's


class ReadOnly:
    """A DuckDB connection or relation with all its methods, but those that write a file.

    `fetchone`, `fetchmany` and `fetchall` give times with a zone without the package `pytz`, which DuckDB's own need.
    """

    def __init__(self, wrapped: Any, statements: Statements) -> None:
        self._wrapped, self._statements = wrapped, statements
        self._left: Iterator[tuple[Any, ...]] | None = None  # of an answer, where DuckDB cannot give it as Python

    def __getattr__(self, name: str) -> Any:
        if name in _WRITES:
            raise refusal(name)
        if name.startswith("_") and not name.endswith("_"):  # DuckDB's own calls run any statement by such names
            raise AttributeError(f"{name} is not given: it would end the guard of the lake")
        found = getattr(self._wrapped, name)
        if not callable(found):
            return self._guarded(found)

        def call(*arguments: Any, **named: Any) -> Any:
            if name in _TAKES_SQL:
                self._check([*arguments[:2], *(named[key] for key in _SQL_ARGUMENTS & named.keys())])
                self._left = None
            self._statements.hidden |= name in _DEFINES
            plain = {key: _unwrapped(value) for key, value in named.items()}
            return self._guarded(found(*map(_unwrapped, arguments), **plain))

        return call

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row of an answer, None after the last."""
        return next(iter(self.fetchmany(1)), None)

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """Return the next rows of an answer."""
        fetch = self._wrapped.fetchmany  # which relations have not
        return list(islice(self._rows(), size) if self._has_zones() else fetch(size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that are left of an answer, or those of a relation."""
        return list(self._rows() if self._has_zones() else self._wrapped.fetchall())

    def __repr__(self) -> str:
        return repr(self._wrapped)

    def __str__(self) -> str:
        return str(self._wrapped)

    def __len__(self) -> int:
        return len(self._wrapped)

    def __getitem__(self, name: str) -> Any:
        return self._guarded(self._wrapped[name])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._wrapped.close()

    def _check(self, given: list[Any]) -> None:
        for query in given:
            text = query.query if isinstance(query, duckdb.Statement) else query
            if isinstance(text, str):
                with suppress(duckdb.ParserException):  # DuckDB says so itself; or it is the name of the answer
                    self._statements.check(text)

    def _has_zones(self) -> bool:
        return any(_ZONED in str(column[1]) for column in self._wrapped.description or [])

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows that are left of an answer; a relation runs again."""
        if self._left is not None:
            return self._left
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a connection's answer: that Arrow is a copy of it
            table = self._wrapped.to_arrow_table()
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        if isinstance(self._wrapped, duckdb.DuckDBPyConnection):
            self._left = rows
        return rows

    def _guarded(self, found: Any) -> Any:
        if found is self._wrapped:
            return self
        return guarded(found, self._statements)


def guarded(found: Any, statements: Statements) -> Any:
    """Return a relation, its groups or a connection without what writes files, and anything else as it is."""
    wraps = isinstance(found, duckdb.DuckDBPyConnection | duckdb.DuckDBPyRelation | GroupedRelation)
    return ReadOnly(found, statements) if wraps else found


def _unwrapped(value: Any) -> Any:
    return value._wrapped if isinstance(value, ReadOnly) else value

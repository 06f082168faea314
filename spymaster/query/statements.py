"""What a query consists of, by DuckDB's own parser: which tables it names, and whether it does more than read.

Only parsed: to bind a query, as `get_table_names` does, DuckDB needs the columns of its tables, and of a view it names
the tables below it.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import duckdb
from duckdb import StatementType

from spymaster.errors import UsageError

_SAFE: Final = {
    StatementType.SELECT, StatementType.EXPLAIN, StatementType.PREPARE, StatementType.EXECUTE, StatementType.MULTI,
    StatementType.SET, StatementType.VARIABLE_SET, StatementType.PRAGMA, StatementType.TRANSACTION, StatementType.CALL,
    StatementType.CREATE, StatementType.DROP, StatementType.ALTER, StatementType.INSERT, StatementType.UPDATE,
    StatementType.DELETE, StatementType.MERGE_INTO, StatementType.ANALYZE, StatementType.VACUUM, StatementType.RELATION,
}  # fmt: skip
_NAME_NO_TABLE: Final = {StatementType.SET, StatementType.VARIABLE_SET, StatementType.TRANSACTION}
# A statement within another, a secret that is written to the disk.
_WRITING_WORDS: Final = {"copy", "export", "import", "import_database", "attach", "install", "load", "secret"}
_MAY_CONTAIN_THEM: Final = {StatementType.SELECT, StatementType.MULTI}  # as names of columns; neither holds a statement
# What a session may set. Others open files, or end the guard: they are refused because they are not listed.
SETTINGS: Final = {
    "timezone", "calendar", "threads", "memory_limit", "max_memory", "default_order", "default_null_order",
    "null_order", "preserve_insertion_order", "enable_progress_bar", "integer_division",
}  # fmt: skip
_SET_OR_SHOWN: Final = {"time", "variable", "table_info", "show", "show_tables", "version", "database_size"}
_BEFORE_A_SETTING: Final = {"set", "reset", "pragma", "session", "global", "local"}
_BY_TEXT: Final = {"query", "query_table"}  # functions whose tables stand in a text
_DEFINES: Final = {"view", "macro", "function"}


class Statements:
    """Parses queries on a connection that nothing else uses.

    Attributes:
        hidden: whether the session may know our views by names of its own, those of views and macros that it made.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.hidden = False

    def check(self, query: str) -> list[duckdb.Statement]:
        """Return a query's statements, of which none writes a file.

        Raises:
            duckdb.Error: it is not SQL.
            UsageError: it has no statement, or one that could write a file or change what guards the lake.
        """
        found = self._connection.extract_statements(query)
        if not found:
            raise UsageError("the query is empty. Nothing was run. Next: spymaster sql 'show tables'")
        for statement in found:
            kind, words = _kind(statement), list(_words(statement.query))
            if kind in {StatementType.SET, StatementType.PRAGMA}:
                _check_setting(words)
            if kind not in _SAFE or not (kind in _MAY_CONTAIN_THEM or _WRITING_WORDS.isdisjoint(words)):
                raise refusal(next((word for word in words if word in _WRITING_WORDS), words[0]).upper())
            if kind == StatementType.CREATE and not _DEFINES.isdisjoint(words):
                self.hidden = True
        return found

    def tables(self, query: str) -> set[str] | None:
        """Return the names, in small letters, of all tables that a query may read; None where they cannot be told."""
        names: set[str] = set()
        for statement in self._connection.extract_statements(query):
            if statement.type in _NAME_NO_TABLE:
                continue
            found = None if self.hidden or statement.type != StatementType.SELECT else self._tree(statement.query)
            if found is None:
                return None
            for node in _nodes(found):
                if str(node.get("function_name")).lower() in _BY_TEXT:
                    return None
                if node.get("table_name"):
                    names.add(node["table_name"].lower())
        return names

    def only_reads(self, query: str) -> bool:
        """Whether a query may be run again."""
        return all(found.type == StatementType.SELECT for found in self._connection.extract_statements(query))

    def _tree(self, query: str) -> Any:
        """Return a query's parse tree; None where this DuckDB gives none."""
        try:
            rows = self._connection.execute("select json_serialize_sql(?::varchar)", [query]).fetchall()
        except duckdb.Error:
            return None
        tree = json.loads(rows[0][0])
        return None if tree["error"] else tree


def refusal(what: str) -> UsageError:
    """Return the error of what could write a file."""
    return UsageError(
        f"{what} is refused: SQL over the lake reads, and writes no file. Nothing was run; the lake is as it was. "
        f"Next: spymaster sql --format parquet --out FILE QUERY, or write what you fetched"
    )


def _kind(statement: duckdb.Statement) -> StatementType | None:
    """Return a statement's type; None where DuckDB's parser knows one more than its Python does."""
    try:
        return statement.type
    except ValueError:
        return None


def _check_setting(words: list[str]) -> None:
    name = next((word for word in words if word not in _BEFORE_A_SETTING), "")
    if name not in SETTINGS | _SET_OR_SHOWN:
        raise UsageError(
            f"setting {name!r} is refused: it might let SQL write files, or read others than the lake's. Nothing was "
            f"changed. Next: use one of {', '.join(sorted(SETTINGS | _SET_OR_SHOWN - {'time', 'show'}))}"
        )


def _words(query: str) -> Iterator[str]:
    """Return a statement's keywords and names, in small letters."""
    raw = query.encode()  # positions are of bytes
    tokens = duckdb.tokenize(query)
    ends = [place for place, _ in tokens[1:]] + [len(raw)]
    for (start, kind), end in zip(tokens, ends, strict=True):
        if kind in {duckdb.token_type.keyword, duckdb.token_type.identifier}:
            yield raw[start:end].decode(errors="replace").strip().strip('"').lower()


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Return each object of a parse tree."""
    if isinstance(tree, dict):
        yield tree
    for below in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(below)

"""Which engine made each Silver file, as the catalog says, so that `verify` makes its rows by the other one.

Nothing depends on it: a file that the catalog does not name, or of which it names other inputs, is proven by both.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from spymaster.errors import LayoutError
from spymaster.lake import catalog

_WAIT_S: Final = 5  # for a daemon that writes the catalog meanwhile; then the files stay unnamed


class Compaction(NamedTuple):
    """What was published.

    Attributes:
        path: the Silver file's, below DATA_ROOT.
        inputs: as its footer has them.
        engine: that made its rows.
    """

    path: str
    inputs: str
    engine: str


def record(data_root: Path, done: Iterable[Compaction]) -> None:
    """Name files that are published, if there is a catalog that takes it."""
    index = data_root / catalog.FILE_NAME
    rows = [tuple(own) for own in done]
    if not rows or not index.exists():
        return
    with (
        suppress(sqlite3.Error, UnicodeDecodeError),
        closing(sqlite3.connect(f"{index.resolve().as_uri()}?mode=rw", timeout=_WAIT_S, uri=True)) as database,
        database,
    ):
        database.execute(catalog.COMPACTIONS)  # an index of before has not got it
        database.executemany(
            "insert or replace into compactions values (?, ?, ?, ?)",
            [(*row, catalog.row_crc32c_of(row)) for row in rows],
        )


def read(data_root: Path) -> dict[str, Compaction]:
    """Return what the catalog says of Silver files, by their paths below DATA_ROOT; nothing where it does not read."""
    with suppress(LayoutError), catalog.reading(data_root) as database:
        if (
            database is not None
            and database.execute("select 1 from sqlite_master where name = 'compactions'").fetchone()
        ):
            return {row[0]: Compaction(*row) for row in catalog.rows_of(database, "compactions")}
    return {}

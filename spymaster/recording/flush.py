"""One sealed segment -> Bronze, the catalog, and out of the log: the only place that lets a flushed segment go."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from spymaster.errors import LayoutError
from spymaster.lake.bronze import Part, flush_segment
from spymaster.lake.catalog import Catalog
from spymaster.wal.recovery import retire
from spymaster.wal.sealed import read_sealed


class Flushed(NamedTuple):
    """What became of a segment.

    Attributes:
        rows: its rows.
        parts: the parts that were published now.
        behind: why the catalog does not know them; None where it does.
        lingering: why it is not durable that the segment is gone; a power cut may bring back a name whose rows the lake
            has.
    """

    rows: int
    parts: list[Part]
    behind: str | None
    lingering: OSError | None


def flush(bronze: Path, catalog: Catalog, path: Path, *, again: bool) -> Flushed:
    """Publish a sealed segment's rows, index them, let the segment go once the lake holds it.

    Args:
        bronze: the tier's folder.
        catalog: the lake's index.
        path: the segment.
        again: some of the rows may be in the lake already, as after a crash.

    Raises:
        WalError: the segment is not sound; it is as it was.
        OSError: the disk refused; flush it `again`.
    """
    segment = read_sealed(path)
    parts = flush_segment(bronze, segment, again=again)
    behind = None
    try:
        catalog.record(parts)
    except (sqlite3.Error, LayoutError) as error:  # only an index: the next refresh takes in what it lacks
        behind = str(error)
    lingering = None
    try:
        retire(path)
    except OSError as error:
        if path.exists():
            raise
        lingering = error
    return Flushed(segment.rows.num_rows, parts, behind, lingering)

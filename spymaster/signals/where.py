"""Where recorded rows lie: the part of Bronze and the row in it, and the capture that brought them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import clock
from spymaster.errors import LayoutError
from spymaster.events import SCHEMAS
from spymaster.lake.bronze import read_footer
from spymaster.lake.parquet import is_foreign
from spymaster.lake.silver import bronze_parts
from spymaster.paths import Partition
from spymaster.query.lake import Lake
from spymaster.signals.feed import Roots
from spymaster.signals.pieces import Key

_KEYS: Final = ["capture_id", "capture_seq"]
_MORE: Final = ("seq",)  # what the vendor numbers its messages by, where a schema has it


class Row(NamedTuple):
    """A row that is looked for: its schema, the partition's symbol, its key and its event time."""

    schema: str
    symbol: str
    key: Key
    ts_ns: int


def places(data_root: Path, rows: Iterable[Row]) -> dict[tuple[str, Key], dict[str, Any]]:
    """Return the part below the lake and the row in it, from 0, of each row that is in Bronze; others are in the log.

    Args:
        data_root: the lake.
        rows: of any schemas.

    Raises:
        LayoutError: a part does not read.
    """
    wanted: dict[Partition, dict[Key, Row]] = {}
    for row in rows:
        wanted.setdefault(_partition_of(row), {})[row.key] = row
    found = {}
    for partition, keys in wanted.items():
        for part in bronze_parts(data_root, partition):
            if not is_foreign(part) and _may_hold(part, keys):
                for key, at, more in _read(part, keys):
                    name = part.relative_to(data_root).as_posix() if part.is_relative_to(data_root) else str(part)
                    found[partition.schema, key] = {"part": name, "row": at, **more}
    return found


def _partition_of(row: Row) -> Partition:
    schema = SCHEMAS[row.schema]
    begins = datetime.fromtimestamp(row.ts_ns // clock.NS_PER_SECOND, UTC)
    hour = begins.hour if schema.hourly else None
    return Partition(schema.name, schema.partition_by, row.symbol, f"{begins:%Y-%m-%d}", hour)


def _may_hold(part: Path, keys: Iterable[Key]) -> bool:
    spans = {span.capture_id: (span.first_seq, span.last_seq) for span in read_footer(part).captures}
    none = (0, -1)
    return any(first <= key.capture_seq <= last for key in keys for first, last in [spans.get(key.capture_id, none)])


def _read(part: Path, keys: Iterable[Key]) -> Iterable[tuple[Key, int, dict[str, Any]]]:
    """Yield each of the keys that the part has, its row, and what else identifies it."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            more = [name for name in _MORE if name in file.schema_arrow.names]
            table = file.read([*_KEYS, *more])
    except (pa.ArrowException, OSError) as error:
        raise LayoutError(f"{part} does not read ({error}). It was left as it is. Next: spymaster verify") from error
    captures, numbers = (table[name].to_numpy() for name in _KEYS)
    wanted = set(keys)
    of_them = np.isin(captures, [key.capture_id for key in wanted]) & np.isin(
        numbers, [key.capture_seq for key in wanted]
    )
    for at in np.flatnonzero(of_them).tolist():
        key = Key(int(captures[at]), int(numbers[at]))
        if key in wanted:
            yield key, at, {name: table[name][at].as_py() for name in more}


def captures(roots: Roots, ids: Iterable[int]) -> list[dict[str, Any]]:
    """Return what is on record of captures: where their rows came from.

    Args:
        roots: lake and log.
        ids: of the captures. One that no row of `system.captures` names, as a program's, is left out.

    Raises:
        SpymasterError, OSError: log or lake cannot be read.
    """
    names = ("capture_id", "source", "origin", "content_sha256", "normalizer_version")
    listed = sorted(set(ids))
    if not listed:
        return []
    query = (
        "select distinct of_capture_id, of_source, origin, content_sha256, normalizer_version from system_captures "  # noqa: S608  # numbers alone
        f"where event = 'begin' and of_capture_id in ({', '.join(map(str, listed))}) order by 1"
    )
    with Lake(*roots) as lake, lake.stream(query) as batches:
        rows = batches.read_all().to_pylist()
    return [dict(zip(names, row.values(), strict=True)) for row in rows]

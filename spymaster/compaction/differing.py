"""What deliveries say differently of one event: the values of a removed row beside those of the row that is kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster import events
from spymaster.clock import NS_PER_MS
from spymaster.compaction.deliveries import deliveries_of, several_captures
from spymaster.compaction.made import open_parts, read
from spymaster.compaction.spans import spans
from spymaster.events import EventSchema
from spymaster.events.exactly_once import Once, keep_once
from spymaster.events.identity import NULL, filled, texts_of
from spymaster.events.sameness import MASSIVE, compared_sizes, keys_of, said_freely
from spymaster.lake import silver
from spymaster.lake.begins import capture_begins
from spymaster.paths import Partition

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


class Difference(NamedTuple):
    """A removed row that says something else than the row that is kept of its event.

    Attributes:
        partition: of both.
        ts_event_ns: of the kept row.
        removed: `capture_id` and `capture_seq` of the removed row.
        kept: those of the kept row.
        values: by column what the removed row says, and what the kept one says.
    """

    partition: Partition
    ts_event_ns: int
    removed: tuple[int, int]
    kept: tuple[int, int]
    values: dict[str, tuple[Any, Any]]


def differences(data_root: Path, partition: Partition) -> Iterator[Difference]:
    """Yield the removed rows of a partition that say something else, a span of event time at once.

    Raises:
        LayoutError: an archived part is not there.
        OSError, pyarrow.ArrowException: a part does not read.
    """
    schema, parts = events.SCHEMAS[partition.schema], silver.bronze_parts(data_root, partition)
    source, captures = open_parts(schema, parts), several_captures(parts)
    if not captures:
        return
    began = deliveries_of(source, captures, (), capture_begins(data_root)).began
    for span in spans(schema, source):
        rows = read(source, span)
        once = keep_once(schema, rows, keys_of(schema, rows), {}, began)
        columns = differing_columns(schema, rows, once)
        for place in np.flatnonzero(np.logical_or.reduce([*columns.values()])).tolist() if columns else ():
            removed, kept = (_row(rows, which[place]) for which in (once.removed, once.kept_for))
            yield Difference(
                partition, kept["ts_event_ns"], _key(removed), _key(kept),
                {name: (removed[name], kept[name]) for name, differs in columns.items() if differs[place]},
            )  # fmt: skip


def _row(rows: pa.Table, place: int) -> dict[str, Any]:
    row: dict[str, Any] = rows.slice(place, 1).to_pylist()[0]
    if row.get("size_decimal") is not None:
        row["size"] = row["size_decimal"]
    return row


def _key(row: dict[str, Any]) -> tuple[int, int]:
    return row["capture_id"], row["capture_seq"]


def differing_columns(schema: EventSchema, rows: pa.Table, once: Once) -> dict[str, Flags]:
    """Say of each column in which removed rows it says something else than in the kept row; null says nothing."""
    found: dict[str, Flags] = {}
    sources = texts_of(rows["source"].take(once.removed))
    for number, source in enumerate(sources.distinct):
        own = np.flatnonzero(sources.codes == number)
        removed, kept = once.removed[own], once.kept_for[own]
        for name in said_freely(schema, str(source)):
            differs = _differs(rows, name, removed, kept, to_ms=str(source).startswith(MASSIVE))
            if differs.any():
                found.setdefault(name, np.zeros(len(once.removed), bool))[own] = differs
    return found


def _differs(rows: pa.Table, name: str, one: Numbers, other: Numbers, *, to_ms: bool) -> Flags:
    if name == "size" and "size_decimal" in rows.column_names:
        sizes = compared_sizes(rows)
        return _numbers_differ(sizes[one], sizes[other])
    ones, others = rows[name].take(one), rows[name].take(other)
    if to_ms and name.endswith("_ts_ns"):  # given in milliseconds by one route, and finer by another
        numbers = (filled(column, NULL) for column in (ones, others))
        return _numbers_differ(*(np.where(values == NULL, NULL, values // NS_PER_MS) for values in numbers))
    differs: Flags = filled(pc.not_equal(_comparable(ones), _comparable(others)), False)
    if pa.types.is_floating(ones.type) and differs.any():
        differs &= ~filled(pc.and_(pc.is_nan(ones), pc.is_nan(others)), False)
    return differs


def _numbers_differ(one: Numbers, other: Numbers) -> Flags:
    differ: Flags = (one != NULL) & (other != NULL) & (one != other)
    return differ


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column that Arrow compares: codes as texts, a list as one text, null if one of its values is."""
    if pa.types.is_list(column.type):
        texts: Any = column.cast(pa.list_(pa.string()))
        joined: list[Any] = [pc.binary_join(chunk, ",") for chunk in texts.chunks]
        return pa.chunked_array(joined, pa.string())
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column

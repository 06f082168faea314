"""Makes the rows of Silver from the columns of Bronze, in numpy: the faster of the two engines, and the default."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.compaction import enrich
from spymaster.compaction.deliveries import Deliveries
from spymaster.compaction.spans import WHOLE, Span
from spymaster.events import EventSchema
from spymaster.events.exactly_once import Once, keep_once, occurrence_of
from spymaster.events.identity import NULL, event_ids, filled, identity_of
from spymaster.events.sameness import MASSIVE, compared_sizes, keys_of, said_freely
from spymaster.lake import silver
from spymaster.lake.silver import Counts

_CODES: Final = pa.dictionary(pa.int32(), pa.string())
# What says how and when a row came, and where it lies: of one event each delivery has its own.
_ARRIVAL: Final = frozenset(
    {"ts_event_ns", "ts_recv_ns", "ts_local_ns", "source", "capture_id", "capture_seq", "date", "hour", "size_decimal"}
)


class Made(NamedTuple):
    """What becomes of the rows of a span.

    Attributes:
        rows: of Silver, in its order.
        removed: rows of Bronze that were delivered again.
        counts: of these rows; `unordered` is not counted here.
    """

    rows: pa.Table
    removed: pa.Table
    counts: Counts


class Greeks(NamedTuple):
    """What option trades may know, and how old it may be."""

    rows: pa.Table
    tolerance_ns: int


def open_parts(schema: EventSchema, parts: Sequence[Path]) -> ds.Dataset:
    """Open parts as one, with texts as codes; a column that an older one has not got is null."""
    texts = [column.name for column in schema.bronze if pa.types.is_string(column.type)]
    # A flipped bit in a compressed page reads as other values.
    checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    form = ds.ParquetFileFormat(ds.ParquetReadOptions(dictionary_columns=texts), default_fragment_scan_options=checked)
    columns = pa.schema([column.with_type(_CODES) if column.name in texts else column for column in schema.bronze])
    return ds.dataset([str(path) for path in parts], schema=columns, format=form)


def make(
    schema: EventSchema,
    source: ds.Dataset,
    span: Span,
    deliveries: Deliveries,
    greeks: Greeks | None,
) -> Made:
    """Return every event of a span once.

    Args:
        schema: of the rows.
        source: all parts of the partition, as `open_parts` gives them.
        span: which times.
        deliveries: where they are cut, and when they began.
        greeks: what option trades may know; None for other schemas.
    """
    rows = _read(source, span)
    keys = keys_of(schema, rows)
    once = keep_once(schema, rows, keys, deliveries.edges, deliveries.began)
    out = _silver_rows(schema, rows, once)
    enriched = 0
    if greeks is not None:
        out = enrich.enrich(out, greeks.rows, greeks.tolerance_ns)
        enriched = out.num_rows - out["greeks_snapshot_id"].null_count
    repeats = int(np.count_nonzero(out["occurrence"].to_numpy() > 1))
    counts = Counts(
        rows.num_rows, len(once.kept), len(once.removed), repeats, once.unproven, enriched,
        _differing(schema, rows, once), once.repeated_numbers,
    )  # fmt: skip
    return Made(out.cast(silver.columns_of(schema)), rows.take(once.removed), counts)


def _read(source: ds.Dataset, span: Span) -> pa.Table:
    """Return the rows of a span, as one chunk a column."""
    stamp = ds.field("ts_event_ns")
    inside = None if span == WHOLE else (stamp >= span.begin_ns) & (stamp <= span.last_ns)
    return source.to_table(filter=inside).combine_chunks()


def _silver_rows(schema: EventSchema, rows: pa.Table, once: Once) -> pa.Table:
    """Return the rows that are kept, in Silver's order, with what names each event and what came of it."""
    late = _late_columns(schema, rows, once)
    if len(once.kept) < rows.num_rows or np.any(once.kept[1:] < once.kept[:-1]):
        rows = rows.take(once.kept)
    identity = identity_of(schema, rows)
    ids = event_ids(identity)
    named = rows.cast(schema.bronze).append_column(silver.EVENT_ID, ids)
    named = named.append_column(silver.OCCURRENCE, pa.array(occurrence_of(identity.time_ns, ids)))
    for column, values in late.items():
        named = named.append_column(column, values)
    return named


def _late_columns(schema: EventSchema, rows: pa.Table, once: Once) -> dict[pa.Field, pa.ChunkedArray]:
    """Return what the last captured file says of each event."""
    place = pa.array(once.late, pa.int64(), mask=once.late < 0)
    return {column: rows[name].take(place) for column, name in silver.late_columns(schema)}


def _differing(schema: EventSchema, rows: pa.Table, once: Once) -> int:
    """Count the removed rows that say something else than the row that is kept; null says nothing."""
    if not len(once.removed):
        return 0
    sources = [str(source) for source in rows["source"].unique().to_pylist()]
    names = [name for name in said_freely(schema, sources) if name not in _ARRIVAL]
    one, other = (rows.select(names).take(which) for which in (once.removed, once.kept_for))
    massive = pc.starts_with(rows["source"].take(once.removed).cast(pa.string()), MASSIVE).to_numpy()
    differs = np.zeros(len(once.removed), bool)
    if "size" in names:
        sizes = compared_sizes(rows)
        differs |= _says_else(sizes[once.removed], sizes[once.kept_for])
    for name in names:
        if name != "size":
            floor = massive if name.endswith("_ts_ns") else np.zeros(len(massive), bool)
            differs |= _values_differ(one[name], other[name], floor)
    return int(np.count_nonzero(differs))


def _values_differ(one: pa.ChunkedArray, other: pa.ChunkedArray, floor: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether values differ where both are given; to the millisecond where `floor` says so."""
    if floor.any():
        ones, others = (filled(column, NULL) for column in (one, other))
        unit = np.where(floor, NS_PER_MS, 1)
        return _says_else(*(np.where(values == NULL, NULL, values // unit) for values in (ones, others)))
    found: NDArray[np.bool_] = filled(pc.not_equal(_comparable(one), _comparable(other)), False)
    return found


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column that Arrow compares: codes as their texts, a list as one text."""
    if pa.types.is_list(column.type):
        texts: Any = column.cast(pa.list_(pa.string()))
        joined: list[Any] = [pc.binary_join(chunk, ",") for chunk in texts.chunks]
        return pa.chunked_array(joined, pa.string())
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _says_else(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    differ: NDArray[np.bool_] = (one != NULL) & (other != NULL) & (one != other)
    return differ

"""Makes the rows of Silver from the columns of Bronze, in numpy: the faster of the two engines, and the default."""

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from spymaster.compaction import enrich
from spymaster.compaction.deliveries import Deliveries
from spymaster.compaction.differing import differing_columns
from spymaster.compaction.made import Greeks, Made, read
from spymaster.compaction.spans import Span
from spymaster.events import EventSchema
from spymaster.events.exactly_once import Once, keep_once, occurrence_of
from spymaster.events.identity import event_ids, identity_of
from spymaster.events.sameness import keys_of
from spymaster.lake import silver
from spymaster.lake.silver import Counts


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
        source: all parts of the partition, as `made.open_parts` gives them.
        span: which times.
        deliveries: where they are cut, and when they began.
        greeks: what option trades may know; None for other schemas.
    """
    rows = read(source, span)
    keys = keys_of(schema, rows)
    once = keep_once(schema, rows, keys, deliveries.edges, deliveries.began)
    out = _silver_rows(schema, rows, once)
    enriched = 0
    if greeks is not None:
        out = enrich.enrich(out, greeks.rows, greeks.tolerance_ns)
        enriched = out.num_rows - out["greeks_snapshot_id"].null_count
    differing = np.zeros(len(once.removed), bool)
    for differs in differing_columns(schema, rows, once).values():
        differing |= differs
    repeats = int(np.count_nonzero(out["occurrence"].to_numpy() > 1))
    counts = Counts(
        rows.num_rows, len(once.kept), len(once.removed), repeats, once.unproven, enriched,
        int(np.count_nonzero(differing)), once.repeated_numbers,
    )  # fmt: skip
    return Made(out.cast(silver.columns_of(schema)), rows.take(once.removed), counts)


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

"""What an engine makes Silver of, span by span, and what it makes. Which rows are one event it decides itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from spymaster.compaction.spans import WHOLE, Span
from spymaster.events import EventSchema
from spymaster.lake.silver import Counts

_CODES: Final = pa.dictionary(pa.int32(), pa.string())


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


def read(source: ds.Dataset, span: Span) -> pa.Table:
    """Return the rows of a span, as one chunk a column."""
    stamp = ds.field("ts_event_ns")
    inside = None if span == WHOLE else (stamp >= span.begin_ns) & (stamp <= span.last_ns)
    return source.to_table(filter=inside).combine_chunks()

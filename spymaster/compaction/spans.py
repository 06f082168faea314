"""Cuts a partition into spans of event time that fit into memory."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from spymaster.clock import NS_PER_MS
from spymaster.events import EventSchema

_SPAN_BYTES: Final = 32 << 20  # of columns in memory at once, of each thread; about seven times that with its copies
_TEXT_BYTES: Final = 12  # of a text or a list, as an estimate


class Span(NamedTuple):
    """Event times that are compacted together, both included; it begins and ends with whole milliseconds."""

    begin_ns: int
    last_ns: int


WHOLE: Final = Span(-(2**63), 2**63 - 1)


def spans(schema: EventSchema, source: ds.Dataset) -> Iterator[Span]:
    """Cut a partition into spans of event time that fit into memory; a function of its rows alone.

    Equal events share their millisecond, so each span is as closed as the partition.
    """
    most = _SPAN_BYTES // sum(_width(column.type) for column in schema.bronze)
    stamps = np.empty(source.count_rows(), np.int64)
    if len(stamps) <= most:
        yield WHOLE
        return
    at = 0
    for batch in source.to_batches(columns=["ts_event_ns"]):
        stamps[at : at + batch.num_rows] = batch["ts_event_ns"].to_numpy()
        at += batch.num_rows
    stamps.sort()
    cuts = np.unique(stamps[most::most] // NS_PER_MS * NS_PER_MS)
    begins = [WHOLE.begin_ns, *cuts.tolist()]
    for begin_ns, next_ns in pairwise([*begins, None]):
        yield Span(begin_ns, WHOLE.last_ns if next_ns is None else next_ns - 1)


def _width(kind: pa.DataType) -> int:
    """Return the bytes of a value, of those of varying size an estimate."""
    return max(kind.bit_width // 8, 1) if pa.types.is_primitive(kind) else _TEXT_BYTES

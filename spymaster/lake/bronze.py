"""WAL segment -> Parquet parts, exactly as received. A part is never changed and never deleted.

A sealed segment's rows become one part per partition, named by the segment and never by the clock at flush time:
flushing it again finds the same names. A footer holds the CRC32C of the whole file, with its eight digits as zeros, so
that a part vouches for itself. The second of the two rules that make recovery exact lives here: publish only
rows whose (`capture_id`, `capture_seq`) is in no part of their partition yet.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from crc32c import crc32c
from numpy.typing import NDArray

from spymaster import clock, durable, events, paths
from spymaster.clock import NS_PER_DAY
from spymaster.errors import LayoutError, WalError
from spymaster.events import EventSchema
from spymaster.lake import archive, layout
from spymaster.lake.layout import Tier
from spymaster.lake.parquet import damage, encode
from spymaster.paths import Partition
from spymaster.wal.sealed import SealedSegment
from spymaster.wal.segment import Header, Predecessor

_SORTING: Final = ("ts_event_ns", "capture_seq")


@dataclass(frozen=True)
class CaptureSpan:
    """The rows of one capture in one part."""

    capture_id: int
    rows: int
    first_seq: int
    last_seq: int


@dataclass(frozen=True)
class Part:
    """One Parquet file of Bronze. `relative` is its path below `bronze/`."""

    relative: str
    partition: Partition
    segment: str
    rows: int
    size_bytes: int
    crc32c: int
    captures: tuple[CaptureSpan, ...]


class Footer(NamedTuple):
    """What a part's footer says of it.

    Attributes:
        segment: the segment its rows came from.
        captures: their captures.
        rows: its rows.
        version: `schema_name.vN`.
        stream: `schema/symbol` of the segment.
        before: (`capture_id`, last `capture_seq`) of each capture in the segment that came before.
    """

    segment: str
    captures: tuple[CaptureSpan, ...]
    rows: int
    version: str
    stream: str
    before: tuple[tuple[int, int], ...]


def flush_segment(bronze: Path, segment: SealedSegment, *, again: bool) -> list[Part]:
    """Publish a sealed segment's rows as Parquet parts, durable on return.

    Args:
        bronze: the tier's folder.
        segment: verified. It is not removed.
        again: some of the rows may be in the lake already, as after a crash; those are left out.

    Returns:
        The parts that hold rows of the segment and did not exist before.

    Raises:
        WalError: parts of it are there already, and not `again`; nothing was published.
        OSError: the disk refused. Parts published before it refused are whole; flush again with `again`.
    """
    schema = events.schema_named(segment.header.stream.schema)
    parts = []
    for partition, piece in split(schema, segment.rows):
        part = _publish(bronze, schema, partition, piece, segment.header, segment.before, again=again)
        if part is not None:
            parts.append(part)
    return parts


def split(schema: EventSchema, rows: pa.Table) -> Iterator[tuple[Partition, pa.Table]]:
    """Yield each partition's rows, sorted by `ts_event_ns` then `capture_seq`, with the partition columns."""
    stamps, numbers = rows["ts_event_ns"].to_numpy(), rows["capture_seq"].to_numpy()
    symbols = rows[schema.partition_by].combine_chunks().dictionary_encode()
    values = symbols.dictionary.to_pylist()  # one per root, not per row
    span = clock.NS_PER_HOUR if schema.hourly else NS_PER_DAY
    spans, codes = stamps // span, symbols.indices.to_numpy()
    if len(values) > 1 or not _sorted(stamps, numbers):
        order = np.lexsort((numbers, stamps, spans, codes))
        rows = rows.combine_chunks().take(order)
        spans, codes = spans[order], codes[order]
    edges = np.flatnonzero((np.diff(spans) != 0) | (np.diff(codes) != 0)) + 1
    for start, end in zip([0, *edges.tolist()], [*edges.tolist(), rows.num_rows], strict=True):
        begins = datetime.fromtimestamp(int(spans[start]) * (span // clock.NS_PER_SECOND), UTC)
        hour = begins.hour if schema.hourly else None
        key, value = schema.partition_by, values[codes[start]]
        partition = Partition(schema.name, key, value, f"{begins:%Y-%m-%d}", hour)
        yield partition, _with_partition_columns(schema, rows.slice(start, end - start), partition)


def _sorted(stamps: NDArray[np.int64], numbers: NDArray[np.int64]) -> bool:
    """Whether rows are in order already, as a vendor's nearly always are; a copy of every column costs more to see."""
    later = stamps[1:] > stamps[:-1]
    return bool(np.all(later | ((stamps[1:] == stamps[:-1]) & (numbers[1:] > numbers[:-1]))))


def _with_partition_columns(schema: EventSchema, rows: pa.Table, partition: Partition) -> pa.Table:
    columns: list[pa.ChunkedArray | pa.Array] = [*rows.columns, pa.repeat(partition.date, rows.num_rows)]
    if partition.hour is not None:
        columns.append(pa.repeat(pa.scalar(partition.hour, pa.int32()), rows.num_rows))
    return pa.table(columns, schema=schema.bronze)


def _publish(
    bronze: Path,
    schema: EventSchema,
    partition: Partition,
    rows: pa.Table,
    header: Header,
    before: Predecessor | None,
    *,
    again: bool,
) -> Part | None:
    folder = bronze / partition.folder
    durable.make_directories(folder)
    if again:
        rows = _missing(layout.parts(bronze.parent, partition).values(), rows)
        # A part that a killed process left may be visible and not durable. What is left out must be.
        durable.sync_directory(folder)
        if rows.num_rows == 0:
            return None
    spans = capture_spans(rows["capture_id"].to_numpy(), rows["capture_seq"].to_numpy())
    data = encode(schema.bronze, rows, _footer(header, spans, before), _SORTING)
    attempt = 0
    while True:
        name = paths.part_name(clock.part_stamp(header.created_ns), header.segment, attempt)
        try:
            if archive.is_archived(bronze.parent, partition, name):
                raise FileExistsError
            durable.publish(data, folder / name)
            break
        except FileExistsError:
            if not again:
                raise WalError(
                    f"{folder / name} exists already, so this segment was flushed before. Nothing was published. "
                    f"Next: spymaster recover"
                ) from None
            attempt += 1
    relative = f"{partition.folder}/{name}"
    return Part(relative, partition, header.segment, rows.num_rows, len(data), crc32c(data), spans)


def _footer(header: Header, spans: tuple[CaptureSpan, ...], before: Predecessor | None) -> dict[str, str]:
    """Return what a part says of itself; `read_footer` reads it."""
    return {
        "spymaster_segment": header.segment,
        "spymaster_captures": json.dumps([[s.capture_id, s.rows, s.first_seq, s.last_seq] for s in spans]),
        "spymaster_stream": str(header.stream),
        "spymaster_before": json.dumps(before.last if before is not None else []),
    }


def _missing(parts: Iterable[Path], rows: pa.Table) -> pa.Table:
    """Return the rows whose key is in no part of the partition yet; archived ones count.

    A part that does not read holds none: what it may have held of these rows stands in the log now, and might not soon.
    """
    held: dict[Path, tuple[CaptureSpan, ...]] = {}
    for part in parts:
        with suppress(LayoutError, pa.ArrowException, OSError):  # verify names it
            held[part] = read_footer(part).captures

    def stored(part: Path, capture_id: int) -> NDArray[np.int64]:
        with suppress(LayoutError, pa.ArrowException, OSError):
            return recorded_numbers(part, capture_id)
        return np.empty(0, np.int64)

    return rows_not_held(rows, held, stored)


def recorded_numbers(part: Path, capture_id: int) -> NDArray[np.int64]:
    """Return the `capture_seq`s of one capture in one part."""
    keys = pq.read_table(
        part, columns=["capture_id", "capture_seq"], partitioning=None, page_checksum_verification=True
    )
    own = keys["capture_id"].to_numpy() == capture_id
    numbers: NDArray[np.int64] = keys["capture_seq"].to_numpy()[own]
    return numbers


def capture_spans(captures: NDArray[np.int64], numbers: NDArray[np.int64]) -> tuple[CaptureSpan, ...]:
    """Sum up which rows of which captures stand in the two key columns."""
    spans = []
    for capture_id in np.unique(captures):
        own = numbers[captures == capture_id]
        spans.append(CaptureSpan(int(capture_id), len(own), int(own.min()), int(own.max())))
    return tuple(spans)


def rows_not_held(
    rows: pa.Table,
    held: Mapping[Path, Iterable[CaptureSpan]],
    read: Callable[[Path, int], NDArray[np.int64]] = recorded_numbers,
) -> pa.Table:
    """Return the rows whose key is in none of some parts.

    Args:
        rows: with `capture_id` and `capture_seq`.
        held: what the footer of each part says of its captures; a part is read only where these meet the rows'.
        read: returns the `capture_seq`s of one capture in one part.
    """
    captures, numbers = rows["capture_id"].to_numpy(), rows["capture_seq"].to_numpy()
    missing = np.ones(len(captures), dtype=bool)
    own = {span.capture_id: span for span in capture_spans(captures, numbers)}
    for part, spans in held.items():
        for other in spans:
            span = own.get(other.capture_id)
            if span is not None and other.first_seq <= span.last_seq and span.first_seq <= other.last_seq:
                missing &= ~((captures == other.capture_id) & np.isin(numbers, read(part, other.capture_id)))
    return rows if missing.all() else rows.filter(pa.array(missing))


def misread(part: Path, data: memoryview) -> str | None:
    """Say why a part does not read, if it does not: its bytes against their CRC32C, then its footer and its keys.

    Args:
        part: where it lies.
        data: its bytes.
    """
    wrong = damage(data)
    if wrong is not None:
        return wrong
    try:
        read_footer(part)
        pq.read_table(part, columns=["capture_id", "capture_seq"], partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError, LayoutError) as error:
        return str(error)
    return None


def read_footer(part: Path) -> Footer:
    """Return what a part's footer says.

    Raises:
        LayoutError: it is not a part that this version wrote.
    """
    try:
        metadata = pq.read_metadata(part)
        keys = metadata.metadata or {}
        return Footer(
            segment=keys[b"spymaster_segment"].decode(),
            captures=tuple(CaptureSpan(*span) for span in json.loads(keys[b"spymaster_captures"])),
            rows=metadata.num_rows,
            version=f"{keys[b'schema_name'].decode()}.v{keys[b'schema_version'].decode()}",
            stream=keys[b"spymaster_stream"].decode(),
            before=tuple((int(capture), int(seq)) for capture, seq in json.loads(keys[b"spymaster_before"])),
        )
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise LayoutError(
            f"{part} is no part that spymaster wrote ({type(error).__name__}: {error}). It was left as it is. "
            f"Next: move it out of the lake, or point DATA_ROOT at an empty folder"
        ) from error


def require_known_version(part: Path, version: str) -> None:
    """Refuse a part that a later version of spymaster wrote, whose columns this one would drop.

    Args:
        part: where it lies.
        version: what its footer says, as in `Footer`.

    Raises:
        LayoutError: it is.
    """
    name, _, number = version.rpartition(".v")
    schema = events.SCHEMAS.get(name)
    if schema is None or not number.isdecimal() or int(number) > schema.version:
        raise LayoutError(
            f"{part} holds {version}, which this version does not read. Nothing was changed. "
            f"Next: use the version of spymaster that wrote it"
        )


def remove_drafts(bronze: Path) -> None:
    """Remove drafts of parts that a crash left; their rows are in the log. The caller holds the lock."""
    for draft in layout.drafts(bronze.parent, Tier.BRONZE):
        if draft.name.startswith(".part-"):  # others are the archiver's
            durable.remove(draft)

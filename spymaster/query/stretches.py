"""Rows of some streams from log and lake, a stretch of event time at a time, each (`capture_id`, `capture_seq`) once.

Not the one table: an event that was delivered twice is there twice, as whoever judged live had it twice. As for the one
table, the log is read before Bronze is listed; what stands in both has one event time, and so is in one stretch.

Gaps have no place in time by their own, which is our clock's: those that reach into the span are in the first stretch.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spymaster import clock, events
from spymaster.clock import NS_PER_SECOND
from spymaster.errors import LayoutError
from spymaster.events import SYSTEM_GAPS, Stream
from spymaster.lake import layout, silver
from spymaster.lake.bronze import require_known_version
from spymaster.lake.layout import Tier, Within
from spymaster.paths import Partition
from spymaster.wal.reader import read_log

STRETCH_NS: Final = 300 * NS_PER_SECOND
MOST_ROWS: Final = 50_000  # of a stretch, 22 MB of books; or one row group of a part, if that has more
FIRST, LAST = -(2**63), 2**63 - 1

Positions = Mapping[Stream, Mapping[int, int]]  # of each stream, by capture id, a `capture_seq`
Taken = Mapping[tuple[str, int], int]  # by schema and capture id, a `capture_seq`
Times = NDArray[np.int64]


class Bounds(NamedTuple):
    """Which rows are read.

    Attributes:
        begin_ns: the first event time; of gaps any that reaches into the span.
        end_ns: the first after.
        after: rows up to these were read before.
        until: of the captures named here rows at or before; of others all.
        named_alone: of others none.
    """

    begin_ns: int
    end_ns: int
    after: Taken
    until: Taken
    named_alone: bool = False

    def numbers(self, schema: str, capture_id: int) -> tuple[int, int]:
        """Return after which and up to which `capture_seq` a capture's rows are read."""
        of_others = -1 if self.named_alone else LAST
        return self.after.get((schema, capture_id), -1), self.until.get((schema, capture_id), of_others)

    def of(self, stream: Stream, rows: pa.Table) -> pa.Table:
        """Return those of some rows that are read."""
        captures, numbers = rows["capture_id"].to_numpy(), rows["capture_seq"].to_numpy()
        kept = self.in_span(stream, rows)
        for capture_id in np.unique(captures).tolist():
            first, last = self.numbers(stream.schema, capture_id)
            if first >= 0 or last != LAST:
                kept &= (captures != capture_id) | ((first < numbers) & (numbers <= last))
        return rows if kept.all() else rows.filter(pa.array(kept))

    def in_span(self, stream: Stream, rows: pa.Table | pa.RecordBatch) -> NDArray[np.bool_]:
        """Return which rows are of the span."""
        if stream.schema == SYSTEM_GAPS.name:
            begin, end = span_of(rows)
            return (begin < self.end_ns) & (self.begin_ns < end)
        ts_ns = rows["ts_event_ns"].to_numpy()
        kept: NDArray[np.bool_] = (self.begin_ns <= ts_ns) & (ts_ns < self.end_ns)
        return kept


class _Piece(NamedTuple):
    """Rows that are read at once: a row group of a part, or what the log has; ordered by the first event time."""

    first_ns: int
    number: int  # so that two are told apart
    rank: int  # of their stream
    rows: int
    read: Callable[[], pa.Table]


def by_capture(positions: Positions) -> dict[tuple[str, int], int]:
    """Return positions without the stream's symbol: of a wildcard's stream, rows are read by their root."""
    return {(stream.schema, capture): last for stream, own in positions.items() for capture, last in own.items()}


class Stretches:
    """One reading of some streams.

    Memory: a stretch, the rest of row groups that go on after it, and what the log has of the streams.
    """

    def __init__(
        self, data_root: Path, wal_root: Path, streams: Sequence[Stream], bounds: Bounds, most_rows: int = MOST_ROWS
    ) -> None:
        """Read the log, and list Bronze.

        Args:
            data_root: the lake.
            wal_root: its log.
            streams: each by its root, also where a wildcard's stream has its rows.
            bounds: which of their rows.
            most_rows: of a stretch.

        Raises:
            WalError: the log cannot be read.
            LayoutError: an archived part is not where its manifest says.
        """
        self._data_root = data_root
        self._streams = list(streams)
        self._schemas = [events.SCHEMAS[stream.schema] for stream in streams]
        self._bounds = bounds
        self._most_rows = most_rows
        self._at = bounds.begin_ns
        self._made = 0
        self._pieces: list[_Piece] = []
        self._rest: list[list[pa.Table]] = [[] for _ in streams]  # read, sorted by event time, of times not reached
        for rank in range(len(streams)):
            self._add_log(rank, wal_root)
        found = [(self._begin_ns(rank, own), rank, own) for rank in range(len(streams)) for own in self._of(rank)]
        self._later = deque(sorted(found))
        self._parts = {own: silver.bronze_parts(data_root, own) for _, _, own in found}

    def __iter__(self) -> Iterator[tuple[int, list[list[pa.Table]]]]:
        """Yield the end of each stretch, and each stream's tables of it.

        Raises:
            LayoutError: a part does not read.
        """
        while self._pieces or self._later or any(self._rest):
            end_ns = self._read_stretch()
            yield end_ns, [self._cut(rank, end_ns) for rank in range(len(self._streams))]
            self._at = end_ns

    def _cut(self, rank: int, end_ns: int) -> list[pa.Table]:
        """Take a stream's rows before a time; the others are of a later stretch."""
        tables = self._rest[rank]
        counts = [
            table.num_rows if self._is_gaps(rank) else int(np.searchsorted(table["ts_event_ns"].to_numpy(), end_ns))
            for table in tables
        ]
        rest = [table.slice(count) for table, count in zip(tables, counts, strict=True)]
        self._rest[rank] = [table for table in rest if table.num_rows]
        return [table.slice(0, count) for table, count in zip(tables, counts, strict=True) if count]

    def _is_gaps(self, rank: int) -> bool:
        return self._streams[rank].schema == SYSTEM_GAPS.name

    def _begin_ns(self, rank: int, own: Partition) -> int:
        if self._is_gaps(rank):
            return self._bounds.begin_ns
        begin = datetime.fromisoformat(f"{own.date}T{own.hour or 0:02d}:00+00:00")
        return int(begin.timestamp()) * NS_PER_SECOND

    def _add_log(self, rank: int, wal_root: Path) -> None:
        stream, schema = self._streams[rank], self._schemas[rank]

        def wanted(rows: pa.Table) -> pa.Table:
            mine = rows.filter(pc.equal(rows[schema.partition_by], pa.scalar(stream.symbol)))
            return self._bounds.of(stream, mine)

        rows = read_log(wal_root, schema, wanted)
        if rows.num_rows:
            first_ns = int(rows["ts_event_ns"].to_numpy().min())
            self._add(rank, first_ns, rows.num_rows, lambda: rows)

    def _add(self, rank: int, first_ns: int, rows: int, read: Callable[[], pa.Table]) -> None:
        begin_ns = self._bounds.begin_ns
        self._made += 1
        first_ns = begin_ns if self._is_gaps(rank) else max(first_ns, begin_ns)
        heappush(self._pieces, _Piece(first_ns, self._made, rank, rows, read))

    def _of(self, rank: int) -> list[Partition]:
        """Return the partitions that may have rows of a stream."""
        first, last = (clock.utc_text(max(at, 0))[:13] for at in (self._bounds.begin_ns, self._bounds.end_ns - 1))
        if self._is_gaps(rank):
            last = "~"  # of our clock: when it was found
        within = Within(self._streams[rank].symbol, first, last)
        return layout.partitions(self._data_root, self._schemas[rank], within)

    def _read_stretch(self) -> int:
        """Read what begins in the next stretch; return where that ends."""
        self._skip_to_rows()
        end_ns = min(self._at + STRETCH_NS, self._bounds.end_ns)
        self._open_before(end_ns)
        rows = sum(table.num_rows for tables in self._rest for table in tables)
        while self._pieces and self._pieces[0].first_ns < end_ns:
            piece = self._pieces[0]
            if rows and rows + piece.rows > self._most_rows and piece.first_ns > self._at:
                return piece.first_ns
            heappop(self._pieces)
            table = self._bounds.of(self._streams[piece.rank], piece.read())
            if table.num_rows:
                self._rest[piece.rank].append(_by_time(table))
                rows += table.num_rows
        return end_ns

    def _skip_to_rows(self) -> None:
        """Pass over time without rows."""
        if any(self._rest):
            return
        while self._later and (not self._pieces or self._later[0][0] <= self._pieces[0].first_ns):
            self._open_before(self._later[0][0] + 1)
        if self._pieces:
            self._at = max(self._at, self._pieces[0].first_ns)

    def _open_before(self, end_ns: int) -> None:
        """Look into the parts of partitions that begin before a time. The gaps' are of our clock: all at once."""
        while self._later and self._later[0][0] < end_ns:
            _, rank, own = self._later.popleft()
            for part in self._parts.pop(own):
                self._open(rank, own, part)

    def _open(self, rank: int, own: Partition, part: Path) -> None:
        with self._file(own, part) as file:
            metadata = file.metadata
        keys = metadata.metadata or {}
        if not any(key.startswith(b"spymaster_") for key in keys):
            return  # a stranger with a part's name
        require_known_version(part, f"{keys[b'schema_name'].decode()}.v{keys[b'schema_version'].decode()}")
        if not any(self._is_wanted(rank, *span) for span in json.loads(keys[b"spymaster_captures"])):
            return
        column = metadata.schema.names.index("ts_event_ns")
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            times: Any = group.column(column).statistics
            if self._is_gaps(rank) or (times.min < self._bounds.end_ns and self._bounds.begin_ns <= times.max):
                self._add(rank, times.min, group.num_rows, partial(self._read, rank, own, part, number))

    def _is_wanted(self, rank: int, capture_id: int, _rows: int, first_seq: int, last_seq: int) -> bool:
        after, until = self._bounds.numbers(self._streams[rank].schema, capture_id)
        return last_seq > after and first_seq <= until

    def _read(self, rank: int, own: Partition, part: Path, group: int) -> pa.Table:
        log = self._schemas[rank].log
        with self._file(own, part) as file:
            there = set(file.schema_arrow.names)  # which is made anew each time
            try:
                table = file.read_row_group(group, [name for name in log.names if name in there])
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(part, error) from error
        columns = [
            table[name] if name in there else pa.nulls(table.num_rows, log.field(name).type) for name in log.names
        ]
        return pa.table(columns, schema=log)

    def _file(self, own: Partition, part: Path) -> pq.ParquetFile:
        """Open a part, where it lies or was archived to since it was listed."""
        archived = layout.path(self._data_root, Tier.ARCHIVE, f"{own.folder}/{part.name}")
        try:
            try:
                return pq.ParquetFile(part, page_checksum_verification=True)
            except FileNotFoundError:
                return pq.ParquetFile(archived, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(part, error) from error


def span_of(gaps: pa.Table | pa.RecordBatch) -> tuple[Times, Times]:
    """Return the begins and the ends of gaps; one without either may reach as far as there is time."""
    return _filled(gaps["start_ns"], FIRST), _filled(gaps["end_ns"], LAST)


def _filled(column: pa.ChunkedArray | pa.Array, otherwise: int) -> Times:
    filled: Any = pc.coalesce(column, pa.scalar(otherwise, pa.int64()))
    times: Times = filled.to_numpy()
    return times


def _by_time(table: pa.Table) -> pa.Table:
    return table if ascends(table["ts_event_ns"].to_numpy()) else table.sort_by("ts_event_ns")


def ascends(values: Times) -> bool:
    """Whether no value is less than the one before."""
    return bool((values[1:] >= values[:-1]).all())


def _unreadable(part: Path, error: Exception) -> LayoutError:
    return LayoutError(
        f"{part} does not read ({' '.join(str(error).split())}). Nothing was changed. Next: spymaster verify, and "
        f"restore that file from a copy"
    )

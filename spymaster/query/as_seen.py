"""Rows of some streams as recorded snaps had seen them: for each snap those that had left since the one before.

Of a capture the rows left by `capture_seq`, so a snap's are those up to its position. They are read by event time, a
stretch at a time; a snap's rows are all there once the highest event time that had left by then is reached. A row with
a time that cannot be may lie beyond: it comes with the first snap after it is read, and nobody works it.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.events import Stream
from spymaster.query.stretches import MOST_ROWS, Bounds, Stretches, ascends

Longs = NDArray[np.int64]


class Track(NamedTuple):
    """How far one capture of a stream had left, n times, as it moved on.

    Attributes:
        at: the numbers of the snaps, ascending.
        last_seq: as of each, ascending.
    """

    at: Longs
    last_seq: Longs


class _Rows(NamedTuple):
    """Rows of one stream and the snap that each is of; in order of snap, capture and number."""

    table: pa.Table
    snap: Longs


class AsSeen:
    """One reading. Memory: two stretches, and the rows of snaps that are not complete."""

    def __init__(
        self,
        data_root: Path,
        wal_root: Path,
        streams: Sequence[Stream],
        span: tuple[int, int],
        tracks: Mapping[tuple[str, int], Track],
        newest_ns: Longs,
        most_rows: int = MOST_ROWS,
    ) -> None:
        """Read the log, and list Bronze.

        Args:
            data_root: the lake.
            wal_root: its log.
            streams: each by its root.
            span: of event time, [begin, end) in UTC nanoseconds.
            tracks: positions by schema and capture id.
            newest_ns: as of each snap, the highest event time of all rows that had left.
            most_rows: of a stretch.

        Raises:
            WalError: the log cannot be read.
            LayoutError: an archived part is not where its manifest says.
        """
        self._streams, self._tracks, self._newest_ns = list(streams), tracks, newest_ns
        until = {key: int(track.last_seq[-1]) for key, track in tracks.items()}
        bounds = Bounds(*span, {}, until, named_alone=True)
        self._stretches = Stretches(data_root, wal_root, streams, bounds, most_rows)
        self._held: list[list[_Rows]] = [[] for _ in streams]

    def snaps(self) -> Iterator[tuple[int, list[tuple[Stream, pa.RecordBatch]]]]:
        """Yield each snap's number and rows, in order, each (`capture_id`, `capture_seq`) once.

        Raises:
            LayoutError: a part does not read.
        """
        done, count = 0, len(self._newest_ns)
        for end_ns, found in _ahead(self._stretches):
            for rank, tables in enumerate(found):
                if tables:
                    self._held[rank].append(self._numbered(rank, pa.concat_tables(tables)))
            ready = int(np.searchsorted(self._newest_ns, end_ns))
            yield from self._leave(done, ready)
            done = max(done, ready)
        yield from self._leave(done, count)

    def _numbered(self, rank: int, table: pa.Table) -> _Rows:
        """Find the snap of each row."""
        captures, numbers = table["capture_id"].to_numpy(), table["capture_seq"].to_numpy()
        snap = np.empty(len(numbers), np.int64)
        for capture in np.unique(captures).tolist():
            mine = captures == capture
            track = self._tracks[self._streams[rank].schema, capture]
            snap[mine] = track.at[np.searchsorted(track.last_seq, numbers[mine])]
        return _Rows(table, snap)

    def _leave(self, done: int, ready: int) -> Iterator[tuple[int, list[tuple[Stream, pa.RecordBatch]]]]:
        """Let the rows of snaps go, and what was read too late for its own."""
        if done >= ready:
            return
        going = [self._taken(rank, ready) for rank in range(len(self._streams))]
        numbers = np.arange(done, ready + 1)
        places = [np.searchsorted(own.snap.clip(done), numbers).tolist() for own in going]
        batches = [own.table.combine_chunks().to_batches() for own in going]
        for at in range(ready - done):
            yield (
                done + at,
                [
                    (stream, rows[0].slice(edges[at], edges[at + 1] - edges[at]))
                    for stream, rows, edges in zip(self._streams, batches, places, strict=True)
                    if edges[at] < edges[at + 1]
                ],
            )

    def _taken(self, rank: int, ready: int) -> _Rows:
        """Take a stream's rows of snaps before a number, in order."""
        held = self._held[rank]
        if not held:
            return _Rows(pa.table({}), np.empty(0, np.int64))
        table = pa.concat_tables([own.table for own in held])
        snap = np.concatenate([own.snap for own in held])
        captures, numbers = table["capture_id"].to_numpy(), table["capture_seq"].to_numpy()
        order = np.lexsort((numbers, captures, snap))
        again = (np.diff(captures[order]) == 0) & (np.diff(numbers[order]) == 0)  # in Bronze, and in the log still
        order = order[np.append(True, ~again)]
        if len(order) < table.num_rows or not ascends(order):
            table, snap = table.take(pa.array(order)), snap[order]
        going = int(np.searchsorted(snap, ready))
        self._held[rank] = [_Rows(table.slice(going), snap[going:])] if going < len(snap) else []
        return _Rows(table.slice(0, going), snap[:going])


def _ahead(stretches: Stretches) -> Iterator[tuple[int, list[list[pa.Table]]]]:
    """Yield stretches; while one is worked, the next is read in a thread."""
    reading = iter(stretches)
    with ThreadPoolExecutor(1, "stretches") as thread:
        coming = thread.submit(next, reading, None)
        while (found := coming.result()) is not None:
            coming = thread.submit(next, reading, None)
            yield found

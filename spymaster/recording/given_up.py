"""Rows that a full disk did not take and whose source cannot wait: counted, and recorded as gaps."""

from dataclasses import dataclass

import pyarrow as pa

from spymaster.events import Stream
from spymaster.events.gaps import DISK_FULL, Gap, gap_id


@dataclass
class _Span:
    """Rows of one capture's stream that were given up, all after its row `next_seq` - 1."""

    next_seq: int
    rows: int
    first_ns: int
    last_ns: int

    def gap(self, capture_id: int, stream: Stream) -> Gap:
        span = (self.first_ns, self.last_ns + 1)
        detail = f"{stream}: {self.rows} rows after the first {self.next_seq} were given up: the log's disk was full"
        identity = gap_id(DISK_FULL, capture_id, stream, self.next_seq, self.rows, *span)
        return Gap(DISK_FULL, stream, capture_id, None, None, self.rows, *span, detail, identity)


class GivenUp:
    """What was given up since ingest stopped.

    Attributes:
        rows: rows per stream, of the whole run.
    """

    def __init__(self) -> None:
        self.rows: dict[Stream, int] = {}
        self._spans: dict[tuple[int, Stream], _Span] = {}  # in no gap row yet

    def __bool__(self) -> bool:
        """Whether some of it is in no gap row yet."""
        return bool(self._spans)

    def add(self, stream: Stream, capture_id: int, rows: pa.RecordBatch, next_seq: int) -> None:
        """Count delivered rows that the disk did not take.

        Args:
            stream: theirs.
            capture_id: theirs.
            rows: as delivered, at least one.
            next_seq: rows of that capture and stream that are in the log; the number of the next.
        """
        stamps = rows["ts_event_ns"].to_numpy()
        first_ns, last_ns = int(stamps.min()), int(stamps.max())
        span = self._spans.setdefault((capture_id, stream), _Span(next_seq, 0, first_ns, last_ns))
        span.rows += rows.num_rows
        span.first_ns, span.last_ns = min(span.first_ns, first_ns), max(span.last_ns, last_ns)
        self.rows[stream] = self.rows.get(stream, 0) + rows.num_rows

    def gaps(self) -> list[Gap]:
        """Return a gap for each capture and stream that has rows in none yet; `recorded` lets them go."""
        return [span.gap(*whose) for whose, span in self._spans.items()]

    def recorded(self) -> None:
        self._spans.clear()

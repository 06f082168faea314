"""Numbers the rows of a capture: `capture_seq` grows by one a row delivered, and only once the row is in the log."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import events
from spymaster.errors import UsageError
from spymaster.wal.segment import FrameTooLargeError
from spymaster.wal.segment_writer import frame_rows
from spymaster.wal.writer import StreamLog


class CaptureRows:
    """Numbers the rows of one capture in one stream and appends them to its log.

    Attributes:
        next_seq: rows delivered so far; the `capture_seq` of the next.
        appended_rows: of these, the rows that this process appended.
    """

    def __init__(self, log: StreamLog, capture_id: int, recorded: NDArray[np.int64] | None = None) -> None:
        """Begin numbering at 0.

        Args:
            log: the stream's log.
            capture_id: the delivery.
            recorded: sorted `capture_seq`s that WAL or lake hold already, for a file that is read again.
        """
        self.log = log
        self.next_seq = 0
        self.appended_rows = 0
        self._capture_id = capture_id
        self._key_fields = list(events.schema_named(log.stream.schema).log)[-2:]
        self._recorded = recorded if recorded is not None and len(recorded) else None

    def append(self, delivered: pa.RecordBatch) -> None:
        """Number `delivered` and append the rows that are not recorded yet, in frames of at most `MAX_FRAME_BYTES`.

        Raises:
            StorageError, UsageError: as from `append_frame`; `next_seq` says which rows are in the log.
        """
        while delivered.num_rows:
            delivered = delivered.slice(self.append_frame(delivered))

    def append_frame(self, delivered: pa.RecordBatch) -> int:
        """Append as many of the first rows as one frame takes, and return how many of `delivered` that were.

        Raises:
            StorageError: the disk refused, and none of them is in the log.
            UsageError: the first row is too large for a frame.
        """
        count = min(frame_rows(delivered), delivered.num_rows)
        while True:
            numbered = self._numbered(delivered.slice(0, count) if count < delivered.num_rows else delivered)
            try:
                if numbered.num_rows:
                    self.log.append(numbered)
            except FrameTooLargeError as error:  # the rows differ much in size
                if count == 1:
                    raise UsageError(
                        f"a row of {self.log.stream} is too large: {error}. Nothing of it was written"
                    ) from error
                count //= 2
            else:
                self.next_seq += count
                self.appended_rows += numbered.num_rows
                return count

    def _numbered(self, piece: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with their keys, without those that are recorded already."""
        count = piece.num_rows
        numbers = np.arange(self.next_seq, self.next_seq + count, dtype=np.int64)
        keys = (np.full(count, self._capture_id, dtype=np.int64), numbers)
        numbered = piece  # column by column: taking 77 columns apart and together again costs more than the write
        for field, values in zip(self._key_fields, keys, strict=True):
            numbered = numbered.append_column(field, pa.array(values))
        if self._recorded is not None:
            at = np.minimum(np.searchsorted(self._recorded, numbers), len(self._recorded) - 1)
            numbered = numbered.filter(pa.array(self._recorded[at] != numbers))
        return numbered

"""Writes one segment: frame by frame as rows come, or whole for rows that are there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import ipc

from spymaster import durable
from spymaster.wal.segment import (
    MAX_BODY_BYTES,
    MAX_FRAME_BYTES,
    FrameEncoder,
    Header,
    Kind,
    Predecessor,
    decode_header,
    empty_batch,
)

MAX_FRAME_ROWS: Final = 65_536
_KEY_BYTES: Final = 16  # of `capture_id` and `capture_seq` a row
_AIM_BYTES: Final = MAX_FRAME_BYTES * 9 // 10  # rows of one delivery differ a little in size
_SURELY_FIT_ROWS: Final = 256  # unless a row is larger than 3 KB, as none of a market is


class SegmentWriter:
    """Appends frames to one segment file. It knows nothing of the file's names.

    Attributes:
        next_row: rows appended.
        durable_row: rows that a sync has covered. Only these may be published.
    """

    def __init__(self, path: Path, header: Header, encoder: FrameEncoder) -> None:
        """Create the file and write its header.

        Raises:
            OSError: the disk refused, or the file exists.
        """
        self.header = header
        self.next_row = 0
        self.durable_row = 0
        self.last: dict[int, int] = {}  # each capture's last `capture_seq`
        self._marked_row = 0  # the watermark that the last frame carries
        self._encoder = encoder
        message = header.encode()
        self._prev = decode_header(memoryview(message))[2]
        self._file = durable.create(path)
        self.size_bytes = len(message)
        try:
            durable.write_fully(self._file, message, 0)
        except OSError:
            durable.close(self._file)
            durable.remove(path)  # a full disk is left as it was
            raise

    def append(self, batch: pa.RecordBatch, kind: Kind = "data", predecessor: Predecessor | None = None) -> None:
        """Write `batch` as one frame with one `write`, so that a crash tears at most one.

        Raises:
            OSError: the disk refused; the file is as before.
        """
        durable_row = self.durable_row
        frame, crc = self._encoder.encode(
            batch,
            kind=kind,
            segment=self.header.segment,
            first_row=self.next_row,
            durable_row=durable_row,
            prev=self._prev,
            predecessor=predecessor,
        )
        durable.write_fully(self._file, frame, self.size_bytes)
        self.size_bytes += len(frame)
        self.next_row += batch.num_rows
        if batch.num_rows:
            at = batch.num_rows - 1
            capture_id = batch["capture_id"][at].as_py()
            self.last.pop(capture_id, None)  # so that the newest capture is the last
            self.last[capture_id] = batch["capture_seq"][at].as_py()
        self._prev = crc
        self._marked_row = durable_row

    def mark(self, kind: Kind, predecessor: Predecessor | None = None) -> None:
        """Append a zero-row frame."""
        self.append(empty_batch(self.header.stream), kind, predecessor)

    @property
    def unmarked(self) -> bool:
        """Whether the watermark on disk is behind."""
        return self._marked_row < self.durable_row

    def sync(self) -> None:
        """Make every appended row durable.

        Raises:
            OSError: the disk refused. Never retried on this file.
        """
        target = self.next_row  # rows appended while we sync belong to the next one
        durable.sync(self._file)
        self.durable_row = target

    def close(self) -> None:
        durable.close(self._file)

    @property
    def position(self) -> tuple[int, int, int]:
        """Where the next frame would go, for `rewind`."""
        return self.size_bytes, self._prev, self._marked_row

    def rewind(self, position: tuple[int, int, int]) -> None:
        """Take back zero-row frames appended since `position`, before anyone was told of them."""
        self.size_bytes, self._prev, self._marked_row = position
        durable.truncate(self._file, self.size_bytes)


def encode_segment(header: Header, rows: pa.Table, predecessor: Predecessor | None) -> bytes:
    """Return the bytes of a whole sealed segment that holds `rows`."""
    return b"".join(map(bytes, segment_pieces(header, rows, predecessor)))  # join asks for all before it copies one


def segment_pieces(header: Header, rows: pa.Table, predecessor: Predecessor | None) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a whole sealed segment that holds `rows`, each piece good until the next is asked for."""
    message = header.encode()
    yield message
    encoder = FrameEncoder(rows.schema, MAX_BODY_BYTES)  # one row may be as large as frames were once
    prev = decode_header(memoryview(message))[2]
    row = 0
    empty = empty_batch(header.stream)
    batches = [
        batch.slice(at, count)
        for batch in rows.to_batches()
        for count in [frame_rows(batch)]
        for at in range(0, batch.num_rows, count)
    ]
    kinds: list[Kind] = ["open", *["data"] * len(batches), "seal"]  # type: ignore[list-item]
    for kind, batch in zip(kinds, [empty, *batches, empty], strict=True):
        frame, prev = encoder.encode(
            batch,
            kind=kind,
            segment=header.segment,
            first_row=row,
            durable_row=0,
            prev=prev,
            predecessor=predecessor if kind == "open" else None,
        )
        yield frame
        row += batch.num_rows


def frame_rows(rows: pa.RecordBatch) -> int:
    """Return how many of these rows to put in a frame, so that with their keys it is within `MAX_FRAME_BYTES`.

    Rows that differ much in size may still be too large for one.
    """
    if rows.num_rows <= _SURELY_FIT_ROWS:
        return max(rows.num_rows, 1)
    size = ipc.get_record_batch_size(rows) + rows.num_rows * _KEY_BYTES
    return max(min(rows.num_rows * _AIM_BYTES // size, MAX_FRAME_ROWS), 1)

"""What a WAL segment is. Writer, recovery and flush share this module and nothing else of the format.

A segment is one Arrow IPC stream, readable by anything that reads Arrow: a schema message, then frames. Each frame
is one record batch message whose custom metadata holds one fixed-width text under the key `spymaster`:

    v1            format version
    kind          open | data | idle | seal
    seg           id of the segment, as in the header
    row           number of the frame's first row, counted from 0 in each segment
    rows          its rows
    body          bytes of its body
    durable       rows of this segment that were known durable when the frame was built
    prev          CRC32C of the frame before; of the first frame, CRC32C of the schema message
    crc           CRC32C of this frame's raw bytes, with these eight digits as zeros

The schema message's metadata is the header: segment id, stream, number, UTC time of creation, and the id of the
segment that this one was salvaged from. The first frame is a zero-row `open` frame; its metadata key `predecessor`
names the segment before, its row count and the last `capture_seq` of each capture in it, so that a segment that
vanishes is missed. `idle` frames have no rows and put the watermark on disk; one names the predecessor once more where
a failed sync left fewer of its rows durable. The zero-row `seal` frame ends a segment. A frame is valid if and only if
it is whole, its crc matches, its segment is the header's, and row and prev continue the frame before.

Why our own checksum: Arrow reads a flipped bit in a batch body without complaint.
Why raw bytes first: decoding a damaged batch, even to checksum it, can crash the process.
Why fixed width: a reader finds the fields without parsing a flatbuffer, and the writer fills in what it only knows
after serializing.
Why no end-of-stream marker: a stream cut between two messages reads as finished too, so it would prove nothing.
"""

import re
import struct
import uuid
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from crc32c import crc32c

from spymaster import events
from spymaster.errors import UsageError, WalError
from spymaster.events import Stream

FORMAT_VERSION: Final = 1
MAX_FRAME_BYTES: Final = 900_000  # of frames that are appended; a message of 1 MB is what other transports take
MAX_METADATA_BYTES: Final = 0xFFFF  # bounds what a damaged length makes a reader allocate
MAX_BODY_BYTES: Final = 64 << 20  # when reading: frames were larger once
MAX_NAMED_CAPTURES: Final = 1_000  # by an opening frame; of more, as when a folder of tiny files is read, the newest

Kind = Literal["open", "data", "idle", "seal"]

_PREFIX: Final = struct.Struct("<Ii")  # continuation word, metadata length
_CONTINUATION: Final = 0xFFFFFFFF
_CRC_DIGITS: Final = 8
_SCRATCH_BYTES: Final = 256 << 10  # to begin with: there may be a log for each of many symbols
_BUSY_SCRATCH_BYTES: Final = 4 << 20  # of a stream with large frames, so that it begins anew only every few frames
_FIELDS: Final = re.compile(
    rb"v1 kind=(open|data|idle|seal) seg=([0-9a-f]{32}) row=(\d{20}) rows=(\d{10}) body=(\d{12})"
    rb" durable=(\d{20}) prev=([0-9a-f]{8}) crc=([0-9a-f]{8})"
)
_PREDECESSOR: Final = re.compile(rb"seg=([0-9a-f]{32}) rows=(\d{20})(?: last=((?:\d+:\d+,?)*))?")
_SEARCH_FACTOR: Final = 4  # how many times over damaged bytes are summed in search of sound frames
_FRAME_START: Final = re.compile(rb"(?=\xff\xff\xff\xff..\x00\x00)", re.DOTALL)  # and a length below 64 KiB


@dataclass(frozen=True)
class Header:
    """What a segment says of itself in its schema message."""

    segment: str
    stream: Stream
    number: int
    created_ns: int
    origin: str | None  # the segment that recovery copied these rows from

    @classmethod
    def new(cls, stream: Stream, number: int, created_ns: int, origin: str | None = None) -> "Header":
        return cls(uuid.uuid4().hex, stream, number, created_ns, origin)

    def encode(self) -> bytes:
        """Return the schema message that opens the segment."""
        schema = events.schema_named(self.stream.schema).log
        metadata = {
            **{key.decode(): value.decode() for key, value in (schema.metadata or {}).items()},
            "format_version": str(FORMAT_VERSION),
            "segment": self.segment,
            "stream_schema": self.stream.schema,
            "stream_symbol": self.stream.symbol,
            "number": str(self.number),
            "created_ns": str(self.created_ns),
            "origin": self.origin or "",
        }
        return schema.with_metadata(metadata).serialize().to_pybytes()


class Frame(NamedTuple):
    """A frame whose raw bytes were verified, by its place in the segment."""

    kind: Kind
    segment: str
    offset: int
    length: int
    first_row: int
    rows: int
    durable_row: int
    prev: int
    crc: int

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def end_row(self) -> int:
        return self.first_row + self.rows


class Predecessor(NamedTuple):
    """The segment before, as an `open` frame names it.

    Attributes:
        segment: its id.
        rows: its rows.
        last: (`capture_id`, last `capture_seq`) of each capture that has rows in it.
    """

    segment: str
    rows: int
    last: tuple[tuple[int, int], ...] = ()

    def encode(self) -> bytes:
        last = ",".join(f"{capture}:{seq}" for capture, seq in self.last[-MAX_NAMED_CAPTURES:])
        return f"seg={self.segment} rows={self.rows:020d} last={last}".encode()


class FrameTooLargeError(ValueError):
    """Rows that would make a frame larger than any reader takes. Nothing was written; fewer rows may fit."""


class FrameEncoder:
    """Serializes the frames of one schema, none larger than `max_bytes`, into memory that it uses again.

    Fresh memory and a fresh schema message for every frame cost three times the copy itself.
    """

    def __init__(self, schema: pa.Schema, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._schema, self._max_bytes = schema, max_bytes
        self._memory = memoryview(b"")
        self._allocate(_SCRATCH_BYTES)

    def encode(
        self,
        batch: pa.RecordBatch,
        *,
        kind: Kind,
        segment: str,
        first_row: int,
        durable_row: int,
        prev: int,
        predecessor: Predecessor | None = None,
    ) -> tuple[memoryview, int]:
        """Return a frame's raw bytes, good until the next call, and their CRC32C.

        Raises:
            FrameTooLargeError: they would be more than a frame holds.
        """
        fields = (
            f"v1 kind={kind} seg={segment} row={first_row:020d} rows={batch.num_rows:010d} body={0:012d}"
            f" durable={durable_row:020d} prev={prev:08x} crc={0:08x}"
        ).encode()
        metadata = {b"spymaster": fields}
        if predecessor is not None:
            metadata[b"predecessor"] = predecessor.encode()
        frame = self._serialize(batch, metadata)
        metadata_end = 8 + _PREFIX.unpack_from(frame)[1]
        if batch.num_rows and len(frame) > self._max_bytes:
            raise FrameTooLargeError(f"{batch.num_rows} rows take {len(frame):,} bytes, over {self._max_bytes:,}")
        place = bytes(frame[:metadata_end]).index(fields)
        body_at = place + fields.index(b"body=") + 5
        frame[body_at : body_at + 12] = f"{len(frame) - metadata_end:012d}".encode()
        crc = crc32c(frame)
        crc_at = place + len(fields) - _CRC_DIGITS
        frame[crc_at : crc_at + _CRC_DIGITS] = f"{crc:08x}".encode()
        return frame, crc

    def _serialize(self, batch: pa.RecordBatch, metadata: dict[bytes, bytes]) -> memoryview:
        start = self._sink.tell()
        try:
            self._writer.write_batch(batch, custom_metadata=metadata)
        except OSError:  # the memory is used up; nothing else can refuse here
            size = pa.ipc.get_record_batch_size(batch) + MAX_METADATA_BYTES
            self._allocate(max(2 * size, min(8 * size, _BUSY_SCRATCH_BYTES)))
            start = self._sink.tell()
            self._writer.write_batch(batch, custom_metadata=metadata)
        return self._memory[start : self._sink.tell()]

    def _allocate(self, size: int) -> None:
        if size > len(self._memory):
            self._buffer = pa.allocate_buffer(size)
            self._memory = memoryview(self._buffer).cast("B")
        self._sink = pa.FixedSizeBufferWriter(self._buffer)
        self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._writer.write_batch(_empty(self._schema))  # makes it write the schema message, which the header is


def empty_batch(stream: Stream) -> pa.RecordBatch:
    """Return the zero rows of an `open`, `idle` or `seal` frame."""
    return _empty(events.schema_named(stream.schema).log)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, column.type) for column in schema], schema=schema)


def decode_header(raw: memoryview) -> tuple[Header, int, int]:
    """Return the header at the start of `raw`, its length in bytes and its CRC32C.

    The first frame's `prev` proves it.

    Raises:
        WalError: there is no header of this format; the reason is in the message.
    """
    if len(raw) < 8:
        raise WalError("died in creation: shorter than a header")
    continuation, length = _PREFIX.unpack_from(raw)
    if continuation != _CONTINUATION or not 0 < length <= MAX_METADATA_BYTES or 8 + length > len(raw):
        raise WalError("died in creation or foreign: no whole Arrow schema message at byte 0")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(bytes(raw[: 8 + length])))
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        if metadata["format_version"] != str(FORMAT_VERSION):
            raise WalError(f"format version {metadata['format_version']}, not {FORMAT_VERSION}")
        header = Header(
            segment=metadata["segment"],
            stream=Stream(metadata["stream_schema"], metadata["stream_symbol"]),
            number=int(metadata["number"]),
            created_ns=int(metadata["created_ns"]),
            origin=metadata["origin"] or None,
        )
        known = events.schema_named(header.stream.schema).log
    except (pa.ArrowException, OSError, KeyError, ValueError, UsageError) as error:
        raise WalError(f"foreign: no header of a segment ({error})") from error
    if not re.fullmatch("[0-9a-f]{32}", header.segment) or not schema.equals(known):
        raise WalError(f"foreign: its columns are not those of {header.stream.schema}")
    return header, 8 + length, crc32c(raw[: 8 + length])


class Scan(NamedTuple):
    """The sound part of a segment's bytes.

    Attributes:
        header: None if there is none.
        frames: valid frames from the first on, without a hole.
        end: where they end, in bytes.
        size: the segment's bytes. More than `end` means that the rest is torn or damaged.
        problem: what is wrong at `end`; None if nothing is.
        islands: whole frames of this segment after the damage, in order, each with its own sound CRC.
    """

    header: Header | None
    frames: list[Frame]
    end: int
    size: int
    problem: str | None
    islands: list[Frame]

    @property
    def sealed(self) -> bool:
        return bool(self.frames) and self.frames[-1].kind == "seal" and self.problem is None

    @property
    def rows(self) -> int:
        """Rows of the unbroken part."""
        return self.frames[-1].end_row if self.frames else 0

    @property
    def durable_row(self) -> int:
        """The recovered watermark: rows that some sound frame says were durable."""
        return max((frame.durable_row for frame in [*self.frames, *self.islands]), default=0)


def scan(raw: memoryview) -> Scan:
    """Verify a segment's raw bytes, frame by frame, without decoding one.

    Bounded: allocates nothing in proportion to what the bytes claim. A header is believed only if the first frame
    proves it; without one, whole frames are islands all the same.
    """
    try:
        header, offset, prev = decode_header(raw)
    except WalError as error:
        islands = _islands(raw, 0, None, 0)
        if islands and _header_crc(raw) == islands[0].prev:
            islands = []  # a sound header that we do not understand: another version's, not damage
        return Scan(None, [], 0, len(raw), str(error), islands)
    frames: list[Frame] = []
    row = 0
    problem = None
    while offset < len(raw):
        found = _frame_at(raw, offset)
        if isinstance(found, str):
            problem = found
        elif found.segment != header.segment:
            problem = "a frame of another segment"
        elif found.first_row != row or found.prev != prev:
            problem = f"frame continues row {found.first_row}, not {row}, or another chain"
        elif (found.kind == "open") != (not frames):
            problem = "the opening frame is missing or repeated"
        elif frames and frames[-1].kind == "seal":
            problem = "bytes after the seal"
        if problem is not None or isinstance(found, str):
            break
        frames.append(found)
        offset, row, prev = found.end, found.end_row, found.crc
    if problem is not None and not frames and (islands := _islands(raw, 0, None, 0)):
        return Scan(None, [], 0, len(raw), "the header is damaged", islands)
    islands = _islands(raw, offset, header.segment, row) if problem is not None else []
    return Scan(header, frames, offset, len(raw), problem, islands)


def _header_crc(raw: memoryview) -> int | None:
    """Return the CRC32C of whatever message stands at the start."""
    if len(raw) < 8:
        return None
    length = 8 + int(_PREFIX.unpack_from(raw)[1])
    return crc32c(raw[:length]) if 8 < length <= len(raw) else None


def _frame_at(raw: memoryview, offset: int) -> Frame | str:
    """Return the frame at `offset` if its bytes are whole and match their CRC, else what is wrong."""
    claimed = _claimed_at(raw, offset)
    if isinstance(claimed, str):
        return claimed
    frame, crc_at = claimed
    return frame if _crc_of(raw, frame, crc_at) == frame.crc else "CRC32C does not match"


def _claimed_at(raw: memoryview, offset: int) -> tuple[Frame, int] | str:  # noqa: PLR0911  # one way out per damage
    """Return what the bytes at `offset` say of themselves, and where their CRC stands. Nothing is summed yet."""
    if len(raw) - offset < 8:
        return "torn: less than a frame's first 8 bytes"
    continuation, length = _PREFIX.unpack_from(raw, offset)
    if continuation != _CONTINUATION or not 0 < length <= MAX_METADATA_BYTES:
        return "no frame begins here"
    if offset + 8 + length > len(raw):
        return "torn: the frame's metadata is cut"
    metadata = bytes(raw[offset + 8 : offset + 8 + length])
    match = _FIELDS.search(metadata)
    if match is None:
        return "a message without our metadata"
    kind, segment, row, rows, body, durable, prev, crc = match.groups()
    total = 8 + length + int(body)
    if int(body) > MAX_BODY_BYTES:
        return "a body larger than any we write"
    if offset + total > len(raw):
        return "torn: the frame's body is cut"
    kind_text: Kind = kind.decode()  # type: ignore[assignment]  # the pattern admits no other
    numbers = (int(row), int(rows), int(durable), int(prev, 16), int(crc, 16))
    return Frame(kind_text, segment.decode(), offset, total, *numbers), offset + 8 + match.end() - _CRC_DIGITS


def _crc_of(raw: memoryview, frame: Frame, crc_at: int) -> int:
    computed = crc32c(raw[frame.offset : crc_at])
    computed = crc32c(b"0" * _CRC_DIGITS, computed)
    return crc32c(raw[crc_at + _CRC_DIGITS : frame.end], computed)


def predecessor_of(raw: memoryview, frame: Frame) -> Predecessor | None:
    """Return what an `open` frame says of the segment before; None where there was none."""
    match = _PREDECESSOR.search(_metadata(raw, frame))
    if match is None:
        return None
    pairs = (pair.split(":") for pair in (match[3] or b"").decode().split(",") if pair)
    return Predecessor(match[1].decode(), int(match[2]), tuple((int(capture), int(seq)) for capture, seq in pairs))


def _metadata(raw: memoryview, frame: Frame) -> bytes:
    length = _PREFIX.unpack_from(raw, frame.offset)[1]
    return bytes(raw[frame.offset + 8 : frame.offset + 8 + length])


def _islands(raw: memoryview, start: int, segment: str | None, row: int) -> list[Frame]:
    """Find the sound frames of `segment` from damage at `start` on, whose rows are numbered from `row` on.

    Without a segment, the first sound frame says which. Bounded: bytes that claim ever new frames over one another
    are summed a few times over and no more; what is not found then stays in quarantine.
    """
    found: list[Frame] = []
    end = start  # where whole frames are missing, the frame that stands in their place is sound
    budget = _SEARCH_FACTOR * len(raw)
    for match in _FRAME_START.finditer(raw, start):
        if match.start() < end:
            continue
        claimed = _claimed_at(raw, match.start())
        if isinstance(claimed, str):
            continue
        frame, crc_at = claimed
        if frame.first_row < row or frame.segment != (segment or frame.segment):
            continue
        budget -= frame.length
        if budget < 0:
            break
        if _crc_of(raw, frame, crc_at) == frame.crc:
            segment = frame.segment
            found.append(frame)
            row, end = frame.end_row, frame.end
    return found


def named(segment: str, rows: pa.Table) -> Predecessor:
    """Return what the successor of a segment that holds `rows` names."""
    last: dict[int, int] = {}
    if rows.num_rows:
        captures, numbers = rows["capture_id"].to_numpy(), rows["capture_seq"].to_numpy()
        ends = np.append(np.flatnonzero(np.diff(captures)), len(captures) - 1)  # captures come in runs, in order
        for capture, number in zip(captures[ends].tolist(), numbers[ends].tolist(), strict=True):
            last[capture] = max(number, last.pop(capture, -1))
    return Predecessor(segment, rows.num_rows, tuple(last.items()))


def followed(raw: memoryview, found: Scan, rows: pa.Table | None = None) -> Predecessor | None:
    """Return what a segment that follows this one names: this one, or if it has no rows what itself follows.

    Args:
        raw: the segment's bytes.
        found: their scan.
        rows: its sound rows, if the caller has decoded them.
    """
    if found.header is None:
        return None
    if rows is None:
        rows, _ = decode_rows(raw, found.frames, found.header.stream)
    if rows.num_rows == 0 and found.frames and (before := predecessor_of(raw, found.frames[0])) is not None:
        return before
    return named(found.header.segment, rows)


def decode_rows(raw: memoryview, frames: list[Frame], stream: Stream) -> tuple[pa.Table, list[tuple[Frame, str]]]:
    """Decode verified frames to one table of the stream's schema.

    Returns:
        The rows, and the frames that are sound bytes but no sound batch (a defect of their writer) with the reason.
    """
    schema = events.schema_named(stream.schema).log
    batches: list[pa.RecordBatch] = []
    poison: list[tuple[Frame, str]] = []
    whole = pa.py_buffer(raw)
    for frame in frames:
        if frame.rows == 0:
            continue
        try:
            message = pa.ipc.read_message(whole.slice(frame.offset, frame.length))
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)
            if batch.num_rows != frame.rows:
                raise pa.ArrowInvalid(f"{batch.num_rows} rows, not {frame.rows}")
        except (pa.ArrowException, OSError) as error:
            poison.append((frame, str(error)))
            continue
        batches.append(batch)
    return pa.Table.from_batches(batches, schema), poison

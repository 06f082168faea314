"""Segments whose every byte is known: where each frame lies is noted as it is made, not found by the reader."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import pyarrow as pa
from crc32c import crc32c

from spymaster import events
from spymaster.events import EventSchema, Stream
from spymaster.wal.segment import FrameEncoder, Header, Kind, Predecessor, empty_batch
from tests.rows import NOON_NS, numbered

SYMBOL = "ES"
CAPTURE = 5


class Piece(NamedTuple):
    """One frame as it was written."""

    kind: Kind
    raw: bytes
    offset: int
    first_row: int
    rows: int
    durable_row: int


@dataclass(frozen=True, eq=False)
class Original:
    """One segment as it was written, and what it says."""

    header: Header
    header_raw: bytes
    pieces: tuple[Piece, ...]
    table: pa.Table

    @cached_property
    def raw(self) -> bytes:
        return self.header_raw + b"".join(piece.raw for piece in self.pieces)

    @property
    def size(self) -> int:
        return self.pieces[-1].offset + len(self.pieces[-1].raw)

    @property
    def rows(self) -> int:
        return self.table.num_rows

    @property
    def last(self) -> Predecessor:
        """How the next segment names this one."""
        return Predecessor(self.header.segment, self.rows)


@cache
def original(
    name: str,
    *,
    number: int = 1,
    frames: int = 2,
    rows: int = 2,
    start: int = 0,
    sealed: bool = True,
    before: Predecessor | None = None,
) -> Original:
    """Return a segment of `frames` commits of `rows` rows each, the same at every call in every process.

    Each frame says that the rows before it are durable; before the seal, or in its place, an idle frame says that all
    are. Rows are numbered from `start`, the first `capture_seq`.
    """
    schema: EventSchema = events.SCHEMAS[name]
    stream = Stream(name, SYMBOL)
    header = Header(f"{number:02x}{crc32c(name.encode()):08x}".ljust(32, "a"), stream, number, NOON_NS + number, None)
    table = numbered(schema, frames * rows, start, CAPTURE, SYMBOL)
    header_raw = header.encode()
    encoder = FrameEncoder(schema.log)
    pieces: list[Piece] = []
    prev, at, row = crc32c(header_raw), len(header_raw), 0
    empty = empty_batch(stream)
    data = table.to_batches(max_chunksize=rows) if frames else []
    kinds: list[Kind] = ["open", *["data"] * frames, "idle", *["seal"] * sealed]
    batches = [empty, *data, *[empty] * (1 + sealed)]
    for kind, batch in zip(kinds, batches, strict=True):
        named = before if kind == "open" else None
        frame, prev = encoder.encode(
            batch, kind=kind, segment=header.segment, first_row=row, durable_row=row, prev=prev, predecessor=named
        )
        pieces.append(Piece(kind, bytes(frame), at, row, batch.num_rows, row))
        at, row = at + len(frame), row + batch.num_rows
    return Original(header, header_raw, tuple(pieces), table)

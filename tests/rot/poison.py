"""Sound bytes that are no sound batch: damage below the checksum, as a defect of a writer would leave it.

Every claim in a frame's flatbuffer and many in its body are replaced by extreme ones, and the frame's CRC32C is made
again, so that the raw check passes and only the decoding is left to refuse. Run as a program, it reads them one after
the other under a limit on memory and time, each announced before it is read, so that a crash names its case:

    python -m tests.rot.poison SCHEMA EVERY_NTH_CASE
"""

import random
import re
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from crc32c import crc32c

from spymaster import events
from spymaster.lake.bronze import split
from spymaster.wal.segment import Header, decode_rows, scan
from spymaster.wal.segment_writer import encode_segment
from tests.rot.originals import Original, original

EXTREMES = (
    0,
    1,
    2,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    1 << 40,
    1 << 60,
    (1 << 63) - 8,
    (1 << 63) - 1,
    -1,
    -8,
    -(1 << 63),
)
BODY_CASES = 200
MEMORY_BYTES = 512 << 20  # beyond what the process has before it begins
CPU_S = 100


def resealed(raw: bytes) -> bytes:
    """Return a frame with its CRC32C made again."""
    place = raw.index(b" crc=") + 5
    zeroed = raw[:place] + b"0" * 8 + raw[place + 8 :]
    return zeroed[:place] + f"{crc32c(zeroed):08x}".encode() + zeroed[place + 8 :]


def poisoned(whole: Original, number: int, raw: bytes) -> bytes:
    """Return a segment whose frame `number` is `raw`, with a sound CRC32C; the frames after it become islands."""
    pieces = [piece.raw for piece in whole.pieces]
    pieces[number] = resealed(raw)
    return whole.header_raw + b"".join(pieces)


def _claims(raw: bytes) -> Iterator[bytes]:
    """Yield a frame with each of its flatbuffer's words replaced, and with its rows said to be others."""
    length = struct.unpack_from("<i", raw, 4)[0]
    text = re.search(rb"v1 kind=", raw)
    assert text is not None
    for at in range(8, 8 + length - 8, 4):
        if text.start() - 8 <= at < text.start() + 180:
            continue  # our own metadata, which the raw check reads
        for value in EXTREMES:
            yield raw[:at] + struct.pack("<q", value) + raw[at + 8 :]
    for rows in (1, 3, 80, (1 << 31), 9_999_999_999):
        field = re.search(rb"rows=\d{10}", raw)
        assert field is not None
        yield raw[: field.start()] + f"rows={rows:010d}".encode() + raw[field.end() :]


def _bodies(raw: bytes) -> Iterator[bytes]:
    """Yield a frame with words of its body replaced: offsets into text, null bitmaps, values."""
    start = 8 + struct.unpack_from("<i", raw, 4)[0]
    for case in range(BODY_CASES):
        chance = random.Random(case)
        at = chance.randrange(start, len(raw) - 4) // 4 * 4
        yield raw[:at] + struct.pack("<i", chance.choice([-1, 1 << 30, 0x7FFFFFFF, -(1 << 31), 9])) + raw[at + 4 :]


def cases(whole: Original) -> Iterator[bytes]:
    for raw in (*_claims(whole.pieces[1].raw), *_bodies(whole.pieces[1].raw)):
        yield poisoned(whole, 1, raw)


def read(raw: bytes, whole: Original) -> int:
    """Do all that recovery and flush do with a segment's bytes, and return its rows."""
    view = memoryview(raw)
    found = scan(view)
    frames = [*found.frames, *found.islands]
    rows, _ = decode_rows(view, frames, whole.header.stream)
    if rows.num_rows:
        encode_segment(Header.new(whole.header.stream, 9, 0), rows, None)
        for _, piece in split(events.SCHEMAS[whole.header.stream.schema], rows):
            piece.to_pylist()
    return rows.num_rows


def overlapping(whole: Original, size: int, header: bytes) -> bytes:
    """Return bytes of nothing but beginnings of frames, each of which claims to reach to the end."""
    piece = whole.pieces[1].raw
    length = 8 + struct.unpack_from("<i", piece, 4)[0]
    begin = piece[:length]
    place = begin.index(b" body=") + 6
    starts = range(len(header), size - length, length)
    claims = (begin[:place] + f"{size - start - length:012d}".encode() + begin[place + 12 :] for start in starts)
    return (header + b"".join(claims)).ljust(size, b"\0")


def decode_first(raw: bytes) -> None:
    """Do what the reader must not: decode, and sum up what was decoded."""
    with pa.ipc.open_stream(raw) as stream:
        for batch in stream:
            batch.serialize()


def main(name: str, every: int, wrong_order: bool) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    whole = original(name)
    for number, raw in enumerate(cases(whole)):
        if number % every == 0:
            print(number, flush=True)  # names the case that kills this process
            if wrong_order:
                with suppress(pa.ArrowException, OSError):
                    decode_first(raw)
            else:
                read(raw, whole)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "--decode-first" in sys.argv)

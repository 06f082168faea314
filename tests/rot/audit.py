"""What must be found in damaged bytes, told from the undamaged ones: the judge of every flip and mutation.

The expectation uses no CRC and no parser: a frame is sound where its bytes, as they were written, stand whole.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from spymaster.events import Stream
from spymaster.wal.segment import Frame, Header, Scan
from tests.rot.originals import Original, Piece

MAX_DECODED = 100_000
_decoded: set[tuple[object, ...]] = set()


class Reader(Protocol):
    """The two functions of `spymaster.wal.segment` under test; a mutant of that module has them too."""

    def scan(self, raw: memoryview, /) -> Scan: ...

    def decode_rows(
        self, raw: memoryview, frames: list[Frame], stream: Stream, /
    ) -> tuple[pa.Table, list[tuple[Frame, str]]]: ...


class Sound(NamedTuple):
    """A frame of an original that stands whole in damaged bytes."""

    at: int
    whole: Original
    piece: Piece

    @property
    def end(self) -> int:
        return self.at + len(self.piece.raw)


class Expected(NamedTuple):
    """What a scan must find: whose header, the unbroken part, the islands, and whether anything is wrong."""

    header: Original | None
    frames: list[Sound]
    islands: list[Sound]
    damaged: bool


def expected(raw: bytes, originals: Sequence[Original]) -> Expected:
    standing = sorted(
        (Sound(at, whole, piece) for whole in originals for piece in whole.pieces for at in _places(raw, piece.raw)),
        key=lambda sound: sound.at,
    )
    header = next((whole for whole in originals if raw.startswith(whole.header_raw)), None)
    if header is None:
        return Expected(None, [], _greedy(standing, 0, None, 0), True)
    frames: list[Sound] = []
    at = len(header.header_raw)
    for piece in header.pieces:
        if not raw.startswith(piece.raw, at):
            break
        frames.append(Sound(at, header, piece))
        at += len(piece.raw)
    if at == len(raw):
        return Expected(header, frames, [], len(frames) < len(header.pieces))
    if not frames and (islands := _greedy(standing, 0, None, 0)):
        return Expected(None, [], islands, True)
    row = frames[-1].piece.first_row + frames[-1].piece.rows if frames else 0
    return Expected(header, frames, _greedy(standing, at, header, row), True)


def _places(raw: bytes, piece: bytes) -> list[int]:
    places, at = [], raw.find(piece)
    while at >= 0:
        places.append(at)
        at = raw.find(piece, at + 1)
    return places


def _greedy(standing: list[Sound], start: int, whole: Original | None, row: int) -> list[Sound]:
    """Return the sound frames from `start` on, of one segment, whose rows follow each other."""
    islands = []
    for sound in standing:
        if sound.at >= start and sound.piece.first_row >= row and sound.whole is (whole or sound.whole):
            whole = sound.whole
            islands.append(sound)
            start, row = sound.end, sound.piece.first_row + sound.piece.rows
    return islands


class Finding(NamedTuple):
    """What an audit objects to: `undetected`, `invented` or `delimited`, and how."""

    kind: str
    detail: str


def audit(reader: Reader, raw: bytes, own: Original, others: Sequence[Original] = ()) -> Finding | None:
    """Scan and decode damaged bytes of `own`; return what is wrong with the result, None if nothing is.

    Args:
        reader: what is under test.
        raw: the damaged bytes, unlike those of `own`.
        own: the segment they were.
        others: segments whose bytes may have got into them.
    """
    view = memoryview(raw)
    found = reader.scan(view)
    stated = next((whole for whole in others if _same(found.header, whole.header)), own)
    want = expected(raw, [own, *others])
    # A segment that was replaced by another whole one betrays itself by its number, which its name carries too.
    if found.problem is None and found.sealed and stated is own:
        return Finding("undetected", f"sealed and sound, {found.rows} rows")
    if want.damaged and found.problem is None and found.sealed:
        return Finding("undetected", f"another segment's, {found.rows} rows")
    kept = [*found.frames, *found.islands]
    for frame in kept:
        piece = bytes(view[frame.offset : frame.end])
        source = next((p for whole in (own, *others) for p in whole.pieces if p.raw == piece), None)
        if source is None or (source.first_row, source.rows) != (frame.first_row, frame.rows):
            return Finding("invented", f"a {frame.kind} frame at {frame.offset} that nobody wrote")
    told = ([frame.offset for frame in found.frames], [frame.offset for frame in found.islands])
    true = ([sound.at for sound in want.frames], [sound.at for sound in want.islands])
    if told != true:
        return Finding("delimited", f"{found.problem}: frames and islands at {told}, not {true}")
    if found.frames and not (want.header and _same(found.header, want.header.header)):
        return Finding("invented", f"a header that nobody wrote: {found.header}")
    return _audit_rows(reader, view, kept, want)


def _same(header: Header | None, other: Header) -> bool:
    """Whether two headers say the same; a mutant's are of a class of its own."""
    return header is not None and vars(header) == vars(other)


def _audit_rows(reader: Reader, view: memoryview, kept: list[Frame], want: Expected) -> Finding | None:
    sound = [*want.frames, *want.islands]
    if not sound:
        return None
    whole = sound[0].whole
    # What is decoded are these frames' bytes, which are known by now to be as they were written: once is enough.
    case = (id(reader), id(whole), tuple((s.at, s.piece.offset) for s in sound))
    if case in _decoded:
        return None
    rows, poison = reader.decode_rows(view, kept, whole.header.stream)
    if poison:
        return Finding("delimited", f"a sound frame does not decode: {poison[0][1]}")
    pieces = [whole.table.slice(s.piece.first_row, s.piece.rows) for s in sound if s.piece.rows]
    if not rows.equals(pa.concat_tables(pieces) if pieces else whole.table.slice(0, 0)):
        return Finding("invented", "rows of sound frames read with other values")
    if len(_decoded) < MAX_DECODED:
        _decoded.add(case)
    return None

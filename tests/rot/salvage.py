"""Recovery of one damaged segment in a folder of its own: what it keeps, what it names as missing, what it sets aside.

I9   no row is invented or changed
I14  every byte of input ends in a sealed copy or in quarantine
     the sound rows are kept, exactly; of the others each that is known to have been there is in a gap row
     recovering again changes nothing
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from spymaster import events, paths
from spymaster.errors import WalError
from spymaster.events import Stream
from spymaster.wal import recovery
from spymaster.wal.folder import QUARANTINE
from spymaster.wal.recovery import Hole, Salvage
from spymaster.wal.segment import decode_rows, scan
from tests.crash.scratch import MEMORY_FOLDER
from tests.rot.audit import Expected, Finding, expected
from tests.rot.originals import CAPTURE, SYMBOL, Original, original

Name = Literal["active", "sealed", "poisoned"]
NAMES: tuple[Name, ...] = ("active", "sealed", "poisoned")
GAPS = Stream(events.SYSTEM_GAPS.name, events.SYSTEM_SYMBOL)
RUN_CAPTURE = 9


def audit_salvage(
    raw: bytes, own: Original, others: Sequence[Original] = (), *, name: Name = "sealed", followed: bool = False
) -> Finding | None:
    """Recover damaged bytes of `own`, twice; return what is wrong with the outcome, None if nothing is.

    Args:
        raw: the damaged bytes.
        own: the segment they were.
        others: segments of the same stream whose bytes may have got into them.
        name: what the file is called.
        followed: whether the stream's next segment is there and names this one.
    """
    want = expected(raw, [own, *others])
    if name != "active" and want.header not in (None, own):
        want = Expected(
            None, [], [], True
        )  # it begins as a segment that its name denies: kept whole, believed in nothing
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        root = Path(folder)
        path = _put(root, raw, own, name, followed=followed)
        try:
            found = recovery.salvage(root, RUN_CAPTURE, set())
        except WalError as error:
            if "another version" in str(error) and not want.frames and not want.islands:
                return None  # it refuses, and changes nothing
            raise
        return (
            _audit_rows(found, [own, *others], want)
            or _audit_holes(found, own, want, name, followed=followed)
            or _audit_bytes(root, raw, want)
            or _audit_again(root, found)
            or _audit_killed(root, path, raw, followed=followed)
        )


def _put(root: Path, raw: bytes, own: Original, name: Name, *, followed: bool) -> Path:
    stem = paths.stream_stem(own.header.stream.schema, SYMBOL)
    if name == "active":
        path = paths.active_segment(root, stem)
    else:
        path = paths.sealed_segment(root, stem, own.header.number, poisoned=name == "poisoned")
    path.write_bytes(raw)
    if followed and name != "active":
        number = own.header.number + 1
        successor = original(own.header.stream.schema, number=number, frames=0, sealed=False, before=own.last)
        paths.active_segment(root, stem).write_bytes(successor.raw)
    return path


def _rows_of(found: Salvage, stream: Stream) -> pa.Table | None:
    tables = []
    for path in found.sealed:
        raw = memoryview(path.read_bytes())
        segment = scan(raw)
        assert segment.sealed, path
        if segment.header is not None and segment.header.stream == stream:
            tables.append(decode_rows(raw, segment.frames, stream)[0])
    return pa.concat_tables(tables) if tables else None


def _audit_rows(found: Salvage, originals: Sequence[Original], want: Expected) -> Finding | None:
    stream = originals[0].header.stream
    own_gaps = len(found.holes) if stream == GAPS else 0  # recovery adds its own to that stream
    rows = _rows_of(found, stream)
    kept = [s.whole.table.slice(s.piece.first_row, s.piece.rows) for s in (*want.frames, *want.islands) if s.piece.rows]
    true = pa.concat_tables(kept) if kept else originals[0].table.slice(0, 0)
    told = true.slice(0, 0) if rows is None else rows.slice(0, rows.num_rows - own_gaps)
    if not told.equals(true):
        kind = "invented" if told.num_rows >= true.num_rows else "delimited"
        return Finding(kind, f"rows {told['capture_seq'].to_pylist()}, not {true['capture_seq'].to_pylist()}")
    return None


def _audit_holes(found: Salvage, own: Original, want: Expected, name: Name, *, followed: bool) -> Finding | None:
    sound = [*want.frames, *want.islands]
    if any(s.whole is not own for s in sound):
        return None  # another's rows in its place: what is missing of our own only the next segment tells
    kept = {row for s in sound for row in range(s.piece.first_row, s.piece.first_row + s.piece.rows)}
    last = max((s.piece.first_row + s.piece.rows for s in sound), default=0)
    watermark = max((s.piece.durable_row for s in sound), default=0)
    known = max(last, watermark)
    if name == "sealed" or (followed and name == "poisoned"):
        known = own.rows
    missing = set(range(known)) - kept
    exact = name == "active" or followed or any(s.piece.kind == "seal" for s in sound)
    named = {row for hole in found.holes for row in _range(hole, own.rows)}
    if not missing <= named or (exact and named != missing):
        return Finding("delimited", f"{name}: rows {sorted(named)} named as missing, not {sorted(missing)}")
    acknowledged = {row for row in missing if name == "sealed" or followed or row < watermark}
    if bool(acknowledged) > found.acknowledged_damage or (exact and bool(acknowledged) < found.acknowledged_damage):
        return Finding("delimited", f"{name}: rows {sorted(acknowledged)} were acknowledged, and it does not say so")
    return _audit_gap_rows(found, own)


def _range(hole: Hole, rows: int) -> range:
    return range(hole.first_row, rows if hole.end_row is None else hole.end_row)


def _audit_gap_rows(found: Salvage, own: Original) -> Finding | None:
    rows = _rows_of(found, GAPS)
    recorded = [] if rows is None else rows.to_pylist()[-len(found.holes) or len(rows) :]
    if len(recorded) != len(found.holes):
        return Finding("delimited", f"{len(recorded)} gap rows of {len(found.holes)} holes")
    first = own.table["capture_seq"][0].as_py()
    for hole, gap in zip(found.holes, recorded, strict=True):
        if (gap["gap_id"], gap["of_schema"], gap["first_seq"]) != (
            hole.gap_id,
            own.header.stream.schema,
            hole.first_seq,
        ):
            return Finding("delimited", f"a gap row says {gap}, not {hole}")
        if hole.capture_id not in (None, CAPTURE):
            return Finding("invented", f"a hole of capture {hole.capture_id}")
        if hole.first_seq is not None and hole.first_seq != first + hole.first_row:
            return Finding("delimited", f"{hole}: its first missing row is {first + hole.first_row}")
        if hole.last_seq is not None and hole.end_row is not None and hole.last_seq != first + hole.end_row - 1:
            return Finding("delimited", f"{hole}: its last missing row is {first + hole.end_row - 1}")
    return None


def _audit_bytes(root: Path, raw: bytes, want: Expected) -> Finding | None:
    """Every byte that is in no sound frame and no sound header is in quarantine."""
    kept = [path.read_bytes() for path in (root / QUARANTINE).glob("*") if path.suffix in (".arrow", ".bin")]
    at = 0 if want.header is None else len(want.header.header_raw)
    for sound in [*want.frames, *want.islands, None]:
        end = len(raw) if sound is None else sound.at
        if end > at and not any(raw[at:end] in entry for entry in kept):
            return Finding("delimited", f"bytes {at} to {end} are in no copy and not in quarantine")
        at = end if sound is None else sound.end
    return None


def _audit_again(root: Path, found: Salvage) -> Finding | None:
    before = _files(root)
    again = recovery.salvage(root, RUN_CAPTURE, set())
    if again.holes or again.sealed != found.sealed or _files(root) != before:
        return Finding("delimited", f"recovering again finds {again.holes} and {again.sealed}, not {found.sealed}")
    return None


def _audit_killed(root: Path, path: Path, raw: bytes, *, followed: bool) -> Finding | None:
    """Recover with the origin still there, as a recovery that was killed before it let it go leaves it."""
    if followed:
        return None  # the next segment was drained meanwhile and no longer says how many rows there were
    path.unlink(missing_ok=True)
    path.write_bytes(raw)
    again = recovery.salvage(root, RUN_CAPTURE, set())
    return Finding("delimited", f"the same holes found anew: {again.holes}") if again.holes else None


def _files(root: Path) -> dict[str, bytes]:
    """Return all files but active segments, which recovery makes anew."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    own = {name: paths.parse_segment_name(name) for name in files}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if (parsed := own[name]) is None or parsed.number is not None
    }

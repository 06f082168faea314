"""Make the log sound after a crash. The first of the two rules that make recovery exact lives here:

    first make the chosen rows durable: whatever sound rows an unsealed, poisoned or damaged segment holds are
    copied into a new sealed segment, and only then do its unsound bytes go to quarantine and it goes itself.

The second rule, publish only rows that the lake has not got yet, is `lake.bronze`'s. Between the two there are only
sound sealed segments. May be killed anywhere, and run again.

What is found, and what it means:
    torn tail           bytes after the last sound frame, none of them acknowledged; the crash we plan for
    acknowledged damage rows below the watermark, or of a sealed segment, do not read; the exact hole becomes a gap
    unacknowledged hole rows above the watermark between sound frames; lost to a power cut before their commit
    poison              sound bytes that are no sound batch, a defect of their writer
    died in creation    no header yet; nothing was ever acknowledged in it
    foreign             not a segment of ours

A file with unsound bytes is kept whole in quarantine, by a second name and not by a copy: a medium that misreads today
may read well tomorrow. So each recovery reads the quarantine again, and brings rows that read now into the log.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from spymaster import clock, durable, events, paths
from spymaster.errors import WalError
from spymaster.events import Stream
from spymaster.events.gaps import GAPS, gap_rows
from spymaster.wal import folder, quarantine
from spymaster.wal.damage import Hole, hole_of, holes_in, name_rows, named_before
from spymaster.wal.quarantine import Found, Quarantined
from spymaster.wal.segment import (
    MAX_METADATA_BYTES,
    Frame,
    FrameEncoder,
    Header,
    Predecessor,
    decode_header,
    decode_rows,
    followed,
    named,
    scan,
)
from spymaster.wal.segment_writer import encode_segment, segment_pieces
from spymaster.wal.writer import plant

_GAPS_STEM: Final = paths.stream_stem(*GAPS)


@dataclass
class Salvage:
    """What recovery found in the log.

    Attributes:
        sealed: sound sealed segments, per stream in the order of their numbers, for the lake to publish.
        sealed_rows: rows in each of them.
        torn_bytes: bytes of torn tails moved to quarantine.
        holes: rows found missing now, not at an earlier recovery.
        notes: one line for each file that was not simply sound, for the report.
    """

    sealed: list[Path] = field(default_factory=list)
    sealed_rows: list[int] = field(default_factory=list)
    torn_bytes: int = 0
    holes: list[Hole] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows in the sealed segments."""
        return sum(self.sealed_rows)

    @property
    def acknowledged_damage(self) -> bool:
        return any(hole.acknowledged for hole in self.holes)


class _Outline(NamedTuple):
    """What is kept of a file while others of its stream have their turn: a log may be larger than the memory."""

    path: Path
    name: paths.SegmentName
    header: Header | None
    names: dict[str, Predecessor]  # what it states of the segment before, by its id


def salvage(wal_root: Path, run_capture: int, known_gaps: set[int]) -> Salvage:
    """Turn every segment under `wal_root` into sound sealed ones. The caller holds the directory's lock.

    Args:
        wal_root: the log.
        run_capture: the capture of this process run, for the gap rows it writes.
        known_gaps: `gap_id`s that the lake holds.

    Raises:
        WalError: the medium does not give a segment's bytes, or another version wrote it. It is as it was.
        OSError: a segment cannot be read, or the disk refused a copy. Nothing was removed that is not copied.
    """
    recovery = _Recovery(wal_root, run_capture, set(known_gaps))
    stems = {name.stem for _, name in folder.segments(wal_root)}
    stems |= {entry.stem for entry in quarantine.quarantined(wal_root)}
    for stem in sorted(stems - {_GAPS_STEM}):
        recovery.stream(stem)
    recovery.stream(_GAPS_STEM)  # last: the others add to it, or begin it
    return recovery.result


class _Recovery:
    def __init__(self, wal_root: Path, run_capture: int, known_gaps: set[int]) -> None:
        self.result = Salvage()
        self._wal_root = wal_root
        self._run_capture = run_capture
        self._known_gaps = known_gaps | _gap_ids_in(wal_root)
        self._gap_seq = 0
        self._last_gaps: Predecessor | None = None  # the newest segment of gap rows that this recovery made

    def stream(self, stem: str) -> None:
        """Salvage one stream's files, then leave an empty active segment that carries its number on."""
        files = self._outlines(stem)
        known = {file.path.stat().st_ino for file in files}
        kept = [entry for entry in quarantine.quarantined(self._wal_root) if entry.stem == stem]
        wholes = {segment: before for file in files for segment, before in file.names.items()}
        done: set[str] = set()
        last: Predecessor | None = None
        stream: Stream | None = None
        idle = True
        for outline in files:
            file = _read(outline.path, outline.name)
            header = file.scan.header or _header_by_name(file)
            if header is None or _of_another_number(file.scan.header, file.name):
                self._record(_holes_of_unreadable(file, files))
                self._quarantine(file, [(0, len(file.raw))], file.scan.problem or "no header of its own")
                self._retire(file)
                idle = False
                continue
            stream = header.stream
            if header.segment in done:  # a crash between link and unlink: two names, one segment
                durable.sync_directory(self._wal_root)  # the sealed name, before the other one goes
                continue
            done.add(header.segment)
            whole = wholes.get(header.segment)
            holes = holes_in(file.scan, file.name, header, whole.rows if whole else None)
            rows, poison = decode_rows(file.raw, [*file.scan.frames, *file.scan.islands], stream)
            if file.name.sealed and file.scan.sealed and not poison:
                self._keep(file.path, file.scan.rows)
                last, idle = followed(file.raw, file.scan, rows), False
            elif file.scan.rows == 0 and file.scan.problem is None and not holes:
                last = self._followed(file, rows) or last
                if file.name.ahead or file.name.number is not None:
                    self._retire(file)  # nothing but a header and zero-row frames
            else:
                last, idle = self._salvage(file, header, rows, poison, holes, whole, last) or last, False
        for entry in kept:
            if entry.path.stat().st_ino not in known and (again := self._read_again(entry)) is not None:
                stream, idle = again, False
        if stem == _GAPS_STEM and self._last_gaps is not None:
            stream, last, idle = GAPS, self._last_gaps, False
        if stream is not None and not idle:
            encoder = FrameEncoder(events.schema_named(stream.schema).log)
            plant(self._wal_root, stream, highest_number(self._wal_root, stem) + 1, last, encoder).close()

    def _outlines(self, stem: str) -> list[_Outline]:
        listed = folder.of_stream(self._wal_root, stem)
        files = [_outline(_read(path, name)) for path, name in listed if path not in self.result.sealed]
        return sorted(files, key=lambda file: (file.name.ahead, file.name.number is None, file.name.number or 0))

    def _keep(self, sealed: Path, rows: int) -> None:
        self.result.sealed.append(sealed)
        self.result.sealed_rows.append(rows)

    def _salvage(
        self,
        file: Found,
        header: Header,
        rows: pa.Table,
        poison: list[tuple[Frame, str]],
        holes: list[Hole],
        whole: Predecessor | None,
        last: Predecessor | None,
    ) -> Predecessor | None:
        """Copy a segment's sound rows into a new sealed one, record what is missing, and let the origin go.

        In that order: a crash between any two of these leaves the origin, and the next recovery does it again.
        """
        frames = [*file.scan.frames, *file.scan.islands]
        bad = {frame.offset for frame, _ in poison}
        holes = [*holes, *(hole_of(header, frame.first_row, frame.end_row, acknowledged=True) for frame, _ in poison)]
        sound = [frame for frame in frames if frame.offset not in bad]
        holes = [name_rows(hole, sound, rows, whole) for hole in holes]
        copy = self._copy(header, file.name.stem, rows, last) if rows.num_rows else self._followed(file, rows)
        self._record(holes)
        spans = quarantine.unsound_spans(file.scan)
        damaged = any(hole.acknowledged for hole in holes)
        if poison:
            self._quarantine(file, [(frame.offset, frame.end) for frame, _ in poison], f"poison: {poison[0][1]}")
        elif damaged:
            self._quarantine(file, spans, f"acknowledged rows do not read: {file.scan.problem or 'its end is missing'}")
        elif spans:
            self._quarantine(file, spans, f"unsound bytes: {file.scan.problem}")
        else:
            self.result.notes.append(f"{file.path.name}: {rows.num_rows} rows of an unsealed segment recovered")
        if not damaged:
            self.result.torn_bytes += sum(end - start for start, end in spans)
        self._retire(file)
        return copy

    @staticmethod
    def _followed(file: Found, rows: pa.Table) -> Predecessor | None:
        """Return what a segment without rows names, if it was durable, so that it is missed should it be gone.

        What a segment names that has no name of its own yet may never have been acknowledged.
        """
        return None if file.name.ahead else followed(file.raw, file.scan, rows)

    def _copy(self, origin: Header, stem: str, rows: pa.Table, last: Predecessor | None) -> Predecessor:
        """Make the chosen rows durable in a new sealed segment, which names its origin."""
        if (left := self._copy_left(origin, stem, rows)) is not None:
            durable.sync_directory(self._wal_root)  # whoever left it may not have got that far
            return named(left.segment, rows)
        number = highest_number(self._wal_root, stem) + 1
        header = Header.new(origin.stream, number, clock.utc_now_ns(), origin=origin.segment)
        target = paths.sealed_segment(self._wal_root, stem, number)
        durable.publish(segment_pieces(header, rows, last), target)
        self._keep(target, rows.num_rows)
        return named(header.segment, rows)

    def _copy_left(self, origin: Header, stem: str, rows: pa.Table) -> Header | None:
        """Return the copy of just these rows that an earlier recovery made, which did not get to let the origin go.

        Else each try would leave one more, and fill a disk that refuses what comes after the copy.
        """
        for path, name in folder.of_stream(self._wal_root, stem):
            if not name.sealed:
                continue
            with suppress(WalError):  # no header: no copy of ours
                header = decode_header(_read_segment(path, MAX_METADATA_BYTES + 8))[0]
                if (header.origin, header.number) != (origin.segment, name.number):
                    continue
                raw = _read_segment(path)
                found = scan(raw)
                held, poison = decode_rows(raw, found.frames, header.stream)
                if found.sealed and found.header == header and not poison and held.equals(rows):
                    return header
        return None

    def _read_again(self, entry: Quarantined) -> Stream | None:
        """Bring the rows of a quarantined file into the log if more of them read than when it was put there.

        All of them: the lake leaves out those that it has. Returns their stream, if it did.
        """
        try:
            raw = durable.read(entry.path)
        except OSError as error:
            if not durable.is_damage(error):
                raise
            self.result.notes.append(f"{entry.path} in quarantine cannot be read ({error.strerror}); left as it is")
            return None
        file = Found(entry.path, paths.SegmentName(entry.stem, 0, False, False), raw, scan(raw))
        try:
            header = file.scan.header or _header_by_name(file)
        except WalError:  # of another version, put here by it
            return None
        if header is None:
            return None
        rows, _ = decode_rows(raw, [*file.scan.frames, *file.scan.islands], header.stream)
        if rows.num_rows <= entry.sound_rows:
            return None
        self._copy(header, entry.stem, rows, None)
        spans = quarantine.unsound_spans(file.scan)
        quarantine.describe(entry.path, file, spans, "read again, with more rows than before", rows.num_rows)
        self.result.notes.append(
            f"{entry.path.name} in quarantine reads better now: {rows.num_rows} rows, {entry.sound_rows} before"
        )
        return header.stream

    def _retire(self, file: Found) -> None:
        """Remove an origin, but not the active name: `plant` replaces it, so that a stream's number is never lost."""
        if file.name.number is not None or file.name.ahead or _header_by_name(file) is file.scan.header is None:
            retire(file.path)

    def _record(self, holes: list[Hole]) -> None:
        """Make a gap row of each hole that has none, durable in a sealed segment."""
        fresh = [hole for hole in holes if hole.gap_id not in self._known_gaps]
        self.result.holes += fresh
        if fresh:
            rows = gap_rows([hole.gap for hole in fresh], self._run_capture, self._gap_seq, clock.utc_now_ns())
            number = highest_number(self._wal_root, _GAPS_STEM) + 1
            header = Header.new(GAPS, number, clock.utc_now_ns())
            target = paths.sealed_segment(self._wal_root, _GAPS_STEM, number)
            durable.publish(encode_segment(header, rows, self._last_gaps), target)
            self._last_gaps = named(header.segment, rows)
            self._keep(target, rows.num_rows)
            self._gap_seq += rows.num_rows
            self._known_gaps |= {hole.gap_id for hole in fresh}

    def _quarantine(self, file: Found, spans: list[tuple[int, int]], reason: str) -> None:
        """Keep a file with unsound bytes whole, and say so in the report."""
        target = quarantine.keep(self._wal_root, file, spans, reason)
        unsound = sum(end - start for start, end in spans)
        self.result.notes.append(f"{file.path.name}: {reason} ({unsound} bytes); kept whole as {target}")


def highest_number(wal_root: Path, stem: str) -> int:
    """Return the highest segment number that names or headers of a stream's files carry; 0 if there is none."""
    highest = 0
    for path, name in folder.of_stream(wal_root, stem):
        head = _read_segment(path, MAX_METADATA_BYTES + 8)
        try:
            highest = max(highest, name.number or 0, decode_header(head)[0].number)
        except WalError:
            highest = max(highest, name.number or 0)
    return highest


def _gap_ids_in(wal_root: Path) -> set[int]:
    """Return the gaps that sealed segments hold already, from a recovery that was cut short."""
    known: set[int] = set()
    for path, name in folder.of_stream(wal_root, _GAPS_STEM):
        if name.number is not None:
            raw = _read_segment(path)
            rows, _ = decode_rows(raw, scan(raw).frames, GAPS)
            known.update(rows["gap_id"].to_numpy().tolist())
    return known


def _read_segment(path: Path, limit: int | None = None) -> memoryview:
    """Return a segment's bytes, or its first `limit`.

    Raises:
        WalError: the medium does not give them. That they are damage would be a guess: a cable may be loose.
        OSError: they cannot be read for another reason.
    """
    try:
        return durable.read(path, limit)
    except OSError as error:
        if not durable.is_damage(error):
            raise
        raise WalError(
            f"{path} cannot be read ({error.strerror}), so which of its rows are lost is not known. It is as it was. "
            f"Next: mend the disk, or put in its place a copy that has zeros for bad sectors (ddrescue), and run "
            f"spymaster recover, which names the rows that are missing then"
        ) from error


def _read(path: Path, name: paths.SegmentName) -> Found:
    raw = _read_segment(path)
    return Found(path, name, raw, scan(raw))


def _outline(file: Found) -> _Outline:
    return _Outline(file.path, file.name, file.scan.header, named_before(file.raw, file.scan))


def _header_by_name(file: Found) -> Header | None:
    """Return what a segment with a damaged header is by its file's name and its sound frames; None without any.

    Raises:
        WalError: the file is of another version of spymaster; nothing was changed.
    """
    if "format version" in (file.scan.problem or "") and not file.scan.islands:
        raise WalError(
            f"{file.path} has {file.scan.problem}: another version of spymaster wrote it. Nothing was changed. "
            f"Next: start that version, which drains it"
        )
    stream = _stream_by_name(file.name.stem)
    if stream is None or not file.scan.islands:
        return None
    return Header(file.scan.islands[0].segment, stream, file.name.number or 0, clock.utc_now_ns(), None)


def _of_another_number(header: Header | None, name: paths.SegmentName) -> bool:
    """Whether a file begins with another segment's bytes, as a recycled block leaves them: its name says its number."""
    return header is not None and name.number is not None and header.number != name.number


def _stream_by_name(stem: str) -> Stream | None:
    for schema in events.SCHEMAS.values():
        prefix = paths.stream_stem(schema.name, "")
        if stem.startswith(prefix):
            return Stream(schema.name, paths.decode_symbol(stem.removeprefix(prefix)))
    return None


def _holes_of_unreadable(file: Found, files: list[_Outline]) -> list[Hole]:
    """Return what is missing with a segment of which nothing reads: all its rows, if by its name it had been sealed.

    The next segment, if it is there, says which segment that was and how many rows it had.
    """
    stream, number = _stream_by_name(file.name.stem), file.name.number
    if stream is None or number is None:
        return []
    sound = [other for other in files if not _of_another_number(other.header, other.name)]
    known = {other.header.segment for other in sound if other.header}
    for other in files:
        if other.header and other.header.number == number + 1:
            for before in other.names.values():
                if before.segment not in known:
                    hole = Hole(stream, before.segment, 0, before.rows, None, None, None, acknowledged=True)
                    return [hole] if before.rows else []
    if not file.name.sealed:
        return []
    by_content = hashlib.sha256(file.raw).hexdigest()[:32]  # so that the same file found twice is one gap
    return [Hole(stream, by_content, 0, None, None, None, None, acknowledged=True)]


def retire(segment: Path) -> None:
    """Remove a segment whose rows are all durable elsewhere."""
    durable.remove(segment)
    durable.sync_directory(segment.parent)

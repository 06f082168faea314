"""Look at segments without changing or locking anything: is each sound, where is it not, and which rows are missing?

Raw bytes first, frame by frame, then every sound frame is decoded and validated. The verdicts:
    sound      every byte belongs to a valid frame, and a sealed name has its seal
    torn tail  what does not read lies above the watermark: none of it was acknowledged; the crash we plan for
    damaged    acknowledged rows do not read, or it cannot be told which do

`export` writes the sound prefix of a segment as a stock Arrow IPC file. A stock reader refuses a torn segment, or
reads it wrong.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from spymaster import durable, events, paths
from spymaster.errors import UsageError, WalError
from spymaster.events import Stream
from spymaster.paths import SegmentName
from spymaster.wal.damage import Hole, hole_of, holes_in, name_rows, named_before
from spymaster.wal.folder import files_in
from spymaster.wal.segment import Frame, Predecessor, Scan, decode_rows, scan

Verdict = Literal["sound", "torn tail", "damaged"]


class Island(NamedTuple):
    """Sound frames that follow one another, after damage: bytes [offset, end), rows [first_row, end_row)."""

    offset: int
    end: int
    first_row: int
    end_row: int

    def describe(self) -> str:
        rows = "no rows" if self.first_row == self.end_row else f"rows {self.first_row} to {self.end_row - 1}"
        return f"sound again from byte {self.offset} to {self.end}: {rows}"


@dataclass(frozen=True)
class Audit:
    """What one file of the log is.

    Attributes:
        path: the file.
        stream: None if it has no header that reads.
        state: active, sealed, poisoned, ahead; with `quarantined` before it, what it was before recovery moved it.
        rows: rows of the unbroken part, from the start.
        durable_rows: rows that were acknowledged for certain: all of a sealed segment, else up to the watermark.
        size_bytes: its length.
        problem: what is wrong first, and `problem_at` the byte where.
        islands: what is sound after that.
        missing: the rows that do not read.
    """

    path: Path
    stream: Stream | None
    state: str
    rows: int
    durable_rows: int
    size_bytes: int
    problem: str | None
    problem_at: int | None
    islands: tuple[Island, ...]
    missing: tuple[Hole, ...]
    verdict: Verdict

    @property
    def details(self) -> list[str]:
        """A line for each stretch that is sound after damage, and for each that is missing."""
        return [*(island.describe() for island in self.islands), *(hole.describe() for hole in self.missing)]


def audit(path: Path) -> list[Audit]:
    """Audit a segment, or every segment in a folder, by name. Those in folders below it are not read.

    Raises:
        UsageError: there is no such file or folder.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        segments = files_in(path)
        return [found for segment in segments if (found := _audited(segment, segments)) is not None]
    found = _audited(path, files_in(path.parent)) if path.exists() else None
    if found is None:
        raise UsageError(f"there is no segment and no folder at {path}. Nothing was read. Next: spymaster wal ls")
    return [found]


def _named_by_successor(segment: str, stem: str, beside: Iterable[Path]) -> Predecessor | None:
    """Return what a segment's successor states of it; the last statement holds. None where there is none."""
    found = None
    for path in beside:
        name = paths.parse_segment_name(path.name)
        if name is None or name.stem != stem:
            continue
        try:
            raw = durable.read(path)
        except FileNotFoundError:
            continue  # retired by the daemon since the listing
        found = named_before(raw, scan(raw)).get(segment, found)
    return found


def _audited(path: Path, beside: Iterable[Path]) -> Audit | None:
    """Return what a file is; None if the daemon retired it meanwhile.

    `beside` are the files among which its successor is. They are read only where its own seal does not tell its rows.
    """
    try:
        raw = durable.read(path)
    except FileNotFoundError:
        return None
    found = scan(raw)
    name, state = _name_and_state(path)
    frames = [*found.frames, *found.islands]
    poison: list[tuple[Frame, str]] = []
    rows: pa.Table | None = None
    if found.header is not None:
        rows, poison = decode_rows(raw, frames, found.header.stream)
        bad = {frame.offset for frame, _ in poison}
        frames = [frame for frame in frames if frame.offset not in bad]
    missing: list[Hole] = []
    total = None
    if found.header is not None and rows is not None:
        whole = None
        if not any(frame.kind == "seal" for frame in frames):
            whole = _named_by_successor(found.header.segment, name.stem, beside)
        total = whole.rows if whole else None
        holes = holes_in(found, name, found.header, total)
        holes += [hole_of(found.header, frame.first_row, frame.end_row, acknowledged=True) for frame, _ in poison]
        missing = [name_rows(hole, frames, rows, whole) for hole in holes]
    problem, problem_at = _first_problem(found, poison, name)
    unsound = bool(poison) or (problem is not None and (name.sealed or found.header is None))
    if found.header is None and name.ahead and not found.islands:
        unsound = False  # died in creation: nothing was ever acknowledged in it
    verdict: Verdict = "sound"
    if unsound or any(hole.acknowledged for hole in missing):
        verdict = "damaged"
    elif problem is not None or missing:
        verdict = "torn tail"
    return Audit(
        path=path,
        stream=found.header.stream if found.header else None,
        state=state,
        rows=min([found.rows, *(frame.first_row for frame, _ in poison)]),
        durable_rows=max([total or 0, *(f.end_row for f in frames)]) if name.sealed else found.durable_row,
        size_bytes=found.size,
        problem=problem,
        problem_at=problem_at,
        islands=_merged(found.islands),
        missing=tuple(missing),
        verdict=verdict,
    )


def _name_and_state(path: Path) -> tuple[SegmentName, str]:
    """Return what a file's name says, for a file in quarantine the name that it had; other names are like an active."""
    description = path.with_name(path.name + ".json")
    quarantined = ""
    text = path.name
    if description.exists():
        with suppress(ValueError, KeyError, TypeError):  # no description of ours
            text, quarantined = str(json.loads(description.read_bytes())["file"]), "quarantined "
    name = paths.parse_segment_name(text) or SegmentName(path.stem, None, poisoned=False, ahead=False)
    return name, quarantined + name.state


def _first_problem(
    found: Scan, poison: Sequence[tuple[Frame, str]], name: SegmentName
) -> tuple[str, int] | tuple[None, None]:
    problems = [(frame.offset, f"sound bytes that are no sound batch: {reason}") for frame, reason in poison]
    if found.problem is not None:
        problems.append((found.end, found.problem))
    elif name.sealed and not found.sealed:
        problems.append((found.end, "it ends without its seal"))
    if not problems:
        return None, None
    at, problem = min(problems)
    return problem, at


def _merged(frames: Sequence[Frame]) -> tuple[Island, ...]:
    """Join frames that follow one another."""
    edges = [0, *(at for at, (a, b) in enumerate(pairwise(frames), 1) if (a.end, a.end_row) != (b.offset, b.first_row))]
    runs = [frames[start:end] for start, end in zip(edges, [*edges[1:], len(frames)], strict=True) if start < end]
    return tuple(Island(run[0].offset, run[-1].end, run[0].first_row, run[-1].end_row) for run in runs)


@dataclass(frozen=True)
class Export:
    """What went into an exported file, and what the segment held beside it: `audit` says it exactly."""

    rows: int
    size_bytes: int
    left_out_bytes: int
    audit: Audit


def export(segment: Path, target: Path) -> Export:
    """Write the sound prefix of a segment as an Arrow IPC file, which appears whole and durable or not at all.

    Frames are decoded one after another, so that beside the segment's bytes only one is in memory.

    Raises:
        UsageError: `target` exists, its folder does not, or there is no such segment.
        WalError: the segment has no header that reads. Nothing was written.
        OSError: a file cannot be read or written. Nothing of `target` is left.
    """
    if target.exists() or not target.parent.is_dir():
        raise UsageError(
            f"{target} {'exists' if target.exists() else 'is in a folder that does not exist'}. Nothing was written. "
            f"Next: give --out a new file name"
        )
    (found,) = audit(segment) if not segment.is_dir() else [None]
    if found is None:
        raise UsageError(f"{segment} is a folder. Nothing was written. Next: name one segment; spymaster wal ls")
    raw = durable.read(segment)
    scanned = scan(raw)  # once more: the audit's bytes are gone, and an active segment may have grown
    if scanned.header is None:
        raise WalError(
            f"{segment} has no sound prefix to export: {scanned.problem}. Nothing was written. "
            f"Next: spymaster wal verify {segment}"
        )
    stream = scanned.header.stream
    draft = target.with_name(f".{target.name}.tmp")
    durable.remove(draft)
    rows, end = 0, scanned.frames[0].offset if scanned.frames else scanned.end
    try:
        with draft.open("xb") as file:
            with pa.ipc.new_file(file, events.schema_named(stream.schema).log) as writer:
                for frame in scanned.frames:
                    piece, poison = decode_rows(raw, [frame], stream)
                    if poison:
                        break
                    writer.write_table(piece)
                    rows, end = rows + piece.num_rows, frame.end
            file.flush()
            durable.sync(file.fileno())
        size_bytes = draft.stat().st_size
        durable.link(draft, target)
    finally:
        durable.remove(draft)
    durable.sync_directory(target.parent)
    return Export(rows, size_bytes, len(raw) - end, found)

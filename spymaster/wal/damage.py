"""Which rows of a segment do not read, and whether they were acknowledged. Recovery records it, an audit shows it."""

from typing import NamedTuple

import pyarrow as pa

from spymaster.events import Stream
from spymaster.events.gaps import Gap, gap_id
from spymaster.paths import SegmentName
from spymaster.wal.segment import MAX_NAMED_CAPTURES, Frame, Header, Predecessor, Scan, named, predecessor_of


class Hole(NamedTuple):
    """Rows of a segment that do not read: [first_row, end_row). `end_row` is None where the count is unknown."""

    stream: Stream
    segment: str
    first_row: int
    end_row: int | None
    capture_id: int | None
    first_seq: int | None
    last_seq: int | None
    acknowledged: bool

    @property
    def cause(self) -> str:
        return "wal_damage" if self.acknowledged else "not_acknowledged"

    @property
    def gap_id(self) -> int:
        """63 bits of a hash over cause and range: the same hole found twice is one gap."""
        return gap_id(self.cause, self.segment, self.first_row, self.end_row)

    @property
    def gap(self) -> Gap:
        rows = None if self.end_row is None else self.end_row - self.first_row
        seqs = (self.first_seq, self.last_seq)
        return Gap(self.cause, self.stream, self.capture_id, *seqs, rows, None, None, self.describe(), self.gap_id)

    def describe(self) -> str:
        rows = f"rows {self.first_row} to {'its end' if self.end_row is None else self.end_row - 1}"
        kind = "acknowledged" if self.acknowledged else "not yet acknowledged"
        whose = "" if self.capture_id is None else f", capture {self.capture_id}: {self.first_seq} to {self.last_seq}"
        return f"{self.stream}: {rows} of segment {self.segment[:8]} do not read ({kind}{whose})"


def hole_of(header: Header, first_row: int, end_row: int | None, *, acknowledged: bool) -> Hole:
    return Hole(header.stream, header.segment, first_row, end_row, None, None, None, acknowledged)


def named_before(raw: memoryview, found: Scan) -> dict[str, Predecessor]:
    """Return what a segment's zero-row frames state of the one before it, by its id; the last statement holds."""
    stated = [predecessor_of(raw, frame) for frame in [*found.frames, *found.islands] if frame.rows == 0]
    return {before.segment: before for before in stated if before is not None}


def holes_in(found: Scan, name: SegmentName, header: Header, total: int | None) -> list[Hole]:
    """Return the rows that are missing between the sound frames of a segment and after the last.

    Args:
        found: the segment's scan.
        name: its file's name. A sealed one is given only after a sync of all rows, so every one was acknowledged.
        header: its header.
        total: its rows as the next segment states them, if it does.
    """
    holes = []
    watermark = found.durable_row
    row = found.rows
    for island in found.islands:
        holes += _missing(header, row, island.first_row, island.first_row if name.sealed else watermark)
        row = island.end_row
    if any(frame.kind == "seal" for frame in [*found.frames, *found.islands]):
        return holes
    if name.sealed:
        if total is None or row < total:
            holes.append(hole_of(header, row, total, acknowledged=True))
        return holes
    # A power cut may take an active segment's tail and leave rows that follow in the next one. That one names rows of a
    # poisoned segment that were durable.
    end = max(watermark, total or 0)
    return holes + _missing(header, row, end, end if name.poisoned else watermark)


def _missing(header: Header, first_row: int, end_row: int, watermark: int) -> list[Hole]:
    """Return the rows that are missing: those below the watermark, which were acknowledged, and the others."""
    cut = min(max(first_row, watermark), end_row)
    spans = ((first_row, cut, True), (cut, end_row, False))
    return [hole_of(header, first, end, acknowledged=below) for first, end, below in spans if first < end]


def name_rows(hole: Hole, sound: list[Frame], rows: pa.Table, whole: Predecessor | None) -> Hole:
    """Say which `capture_seq`s a hole took, where one capture stands on both sides of it, or alone behind it.

    Args:
        hole: the missing rows.
        sound: the frames that read.
        rows: their rows.
        whole: the segment as the next one names it, if it does.
    """
    before = sum(frame.rows for frame in sound if frame.end_row <= hole.first_row)
    captures = rows["capture_id"].to_numpy()
    numbers = rows["capture_seq"].to_numpy()
    if hole.end_row is None or before == len(captures):
        return hole if whole is None else _name_tail(hole, sound, rows, whole)
    one_capture = captures.min() == captures.max()
    between = before > 0 and captures[before - 1] == captures[before]
    if not one_capture and not between:
        return hole  # whose rows they were cannot be known
    # Another hole may stand between this one and the sound rows beside it.
    resumed = min(frame.first_row for frame in sound if frame.rows and frame.first_row >= hole.end_row)
    last = int(numbers[before]) - 1 - (resumed - hole.end_row)
    first = last - (hole.end_row - hole.first_row) + 1
    if before > 0:
        reached = max(frame.end_row for frame in sound if frame.rows and frame.end_row <= hole.first_row)
        first = int(numbers[before - 1]) + 1 + hole.first_row - reached
    if first < 0:
        return hole  # some of them are of a capture that ended in the hole
    return hole._replace(capture_id=int(captures[before]), first_seq=first, last_seq=last)


def _name_tail(hole: Hole, sound: list[Frame], rows: pa.Table, whole: Predecessor) -> Hole:
    """Name a hole behind which nothing reads: a capture may have begun in it, so the next segment has to say whose.

    It names each capture's last row, so that the rows are known where one capture alone lacks its own.
    """
    seen = dict(named(hole.segment, rows).last)
    short = [(capture, last) for capture, last in whole.last if seen.get(capture, -1) < last]
    end = whole.rows if hole.end_row is None else hole.end_row
    if len(short) != 1 or len(whole.last) == MAX_NAMED_CAPTURES or end > whole.rows:
        return hole
    ((capture, last),) = short
    reached = max((frame.end_row for frame in sound if frame.rows), default=0)
    first = last + 1 - (whole.rows - reached)
    if first < 0 or first != seen.get(capture, first - 1) + 1:
        return hole  # some of them are of a capture that ended in the hole
    first += hole.first_row - reached
    return hole._replace(capture_id=capture, first_seq=first, last_seq=first + end - hole.first_row - 1)

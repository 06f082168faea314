"""Files with unsound bytes, kept whole by a second name and described: nothing that did not read is ever deleted.

Each is `{stem}-{sha256[:12]}.arrow`, named by what it holds so that a repeated recovery finds it there, and beside it
a JSON document of the same name with `.json`.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from spymaster import clock, durable
from spymaster.paths import SegmentName
from spymaster.wal.folder import QUARANTINE, quarantined_files
from spymaster.wal.segment import Scan


class Found(NamedTuple):
    """A file of the log, its bytes and what of them is sound."""

    path: Path
    name: SegmentName
    raw: memoryview
    scan: Scan


class Quarantined(NamedTuple):
    """A file in quarantine: the stream it is of, and the rows of it that were sound when it was last read."""

    path: Path
    stem: str
    sound_rows: int
    description: dict[str, Any] | None


def quarantined(wal_root: Path) -> list[Quarantined]:
    """Return what is in the log's quarantine. A description that a crash kept from being written is None."""
    entries = []
    for path in quarantined_files(wal_root):
        description = None
        if _description(path).exists():
            with suppress(ValueError, OSError):  # it is only a report, and is written again
                description = json.loads(_description(path).read_bytes())
        sound_rows = description.get("sound_rows", 0) if isinstance(description, dict) else 0
        entries.append(Quarantined(path, path.stem.rpartition("-")[0], sound_rows, description))
    return entries


def keep(wal_root: Path, file: Found, spans: list[tuple[int, int]], reason: str) -> Path:
    """Give a file a second name in quarantine, durable on return, with a description beside it; return that name."""
    digest = hashlib.sha256(file.raw).hexdigest()[:12]
    target = wal_root / QUARANTINE / f"{file.name.stem}-{digest}.arrow"
    durable.make_directories(target.parent)
    if not target.exists():
        durable.link(file.path, target)
    if not _description(target).exists():
        rows = 0
        if file.scan.header is not None or file.scan.islands:
            rows = sum(frame.rows for frame in [*file.scan.frames, *file.scan.islands])
        describe(target, file, spans, reason, rows)
    durable.sync_directory(target.parent)  # a killed recovery may have left it visible and not durable
    return target


def _description(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def describe(target: Path, file: Found, spans: list[tuple[int, int]], reason: str, sound_rows: int) -> None:
    """Write what is known of a quarantined file beside it, in place of what was known before."""
    header = file.scan.header
    entry = {
        "file": file.path.name,
        "segment": header.segment if header else None,
        "stream": str(header.stream) if header else None,
        "bytes": len(file.raw),
        "unsound": spans,
        "sound_rows": sound_rows,
        "reason": reason,
        "sha256": hashlib.sha256(file.raw).hexdigest(),
        "found_at": clock.utc_text(clock.utc_now_ns()),
    }
    durable.rewrite(json.dumps(entry, indent=2).encode(), _description(target))


def unsound_spans(found: Scan) -> list[tuple[int, int]]:
    """Return where a file's bytes belong to no sound frame, as half-open spans."""
    spans, at = [], found.end
    for island in found.islands:
        if island.offset > at:
            spans.append((at, island.offset))
        at = island.end
    return [*spans, (at, found.size)] if at < found.size else spans

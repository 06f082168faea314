"""Which files lie in WAL_ROOT and its quarantine. The only place that lists them.

A listing is one call, in the order that the disk gives where nothing else is said: whoever needs an order sorts by
number. Files may go while somebody looks at what was listed.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from spymaster import paths
from spymaster.paths import SegmentName

QUARANTINE: Final = "quarantine"  # below WAL_ROOT: files with unsound bytes, whole, each with a description beside it
LOG_ALARM_BYTES: Final = 1_000_000_000  # a log that grows this large does not drain as it should


def segments(wal_root: Path) -> list[tuple[Path, SegmentName]]:
    """Return each file that is a segment by its name, and what the name says.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: the disk cannot be asked.
    """
    with os.scandir(wal_root) as entries:
        found = [entry.name for entry in entries]
    return [(wal_root / text, name) for text in found if (name := paths.parse_segment_name(text)) is not None]


def of_stream(wal_root: Path, stem: str) -> list[tuple[Path, SegmentName]]:
    """Return a stream's segments, as `segments` does."""
    return [(path, name) for path, name in segments(wal_root) if name.stem == stem]


def log_sizes(wal_root: Path) -> list[int]:
    """Return the bytes of each segment; one that has two names, as amid a renaming, is one. None where no log is.

    Raises:
        OSError: the disk cannot be asked.
    """
    sizes: dict[tuple[int, int], int] = {}
    with suppress(FileNotFoundError):
        for path, _ in segments(wal_root):
            with suppress(FileNotFoundError):  # retired in this moment
                found = path.stat()
                sizes[found.st_dev, found.st_ino] = found.st_size
    return list(sizes.values())


def log_bytes(wal_root: Path) -> int:
    """Return what the log's segments hold.

    Raises:
        OSError: the disk cannot be asked.
    """
    held = 0
    for path, _ in segments(wal_root):
        with suppress(FileNotFoundError):  # retired in this moment
            held += path.stat().st_size
    return held


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder that may hold a segment, by name: in quarantine they have names of their own.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        found = sorted(entry.name for entry in entries if _may_hold_segment(entry.name) and entry.is_file())
    return [folder / name for name in found]


def quarantined_files(wal_root: Path) -> list[Path]:
    """Return the files in the log's quarantine, by name; none where there is no quarantine."""
    return _in_quarantine(wal_root, ".arrow")


def quarantine_descriptions(wal_root: Path) -> list[Path]:
    """Return the descriptions of the files in the log's quarantine, by name."""
    return [path for path in _in_quarantine(wal_root, ".arrow.json") if not path.name.startswith(".")]


def _in_quarantine(wal_root: Path, suffix: str) -> list[Path]:
    try:
        with os.scandir(wal_root / QUARANTINE) as entries:
            found = sorted(entry.name for entry in entries if entry.name.endswith(suffix))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [wal_root / QUARANTINE / name for name in found]


def _may_hold_segment(name: str) -> bool:
    return paths.parse_segment_name(name) is not None or Path(name).suffix == ".arrow"

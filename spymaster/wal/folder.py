"""Which files lie in WAL_ROOT. The only place that lists it."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from spymaster import paths

LOG_ALARM_BYTES: Final = 1_000_000_000  # a log that grows this large does not drain as it should


def log_bytes(wal_root: Path) -> int:
    """Return what the log's segments hold. Some may go meanwhile.

    Raises:
        OSError: the disk cannot be asked.
    """
    held = 0
    for path in wal_root.iterdir():
        if paths.parse_segment_name(path.name) is not None:
            with suppress(FileNotFoundError):  # retired in this moment
                held += path.stat().st_size
    return held

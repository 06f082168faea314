"""When each capture began, as `system.captures` says: it decides which of two files is the later."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import events
from spymaster.errors import LayoutError
from spymaster.lake import layout, silver

_COLUMNS = ["event", "of_capture_id", "ts_event_ns"]
Begins = dict[int, int]


def capture_begins(data_root: Path, known: dict[Path, Begins] | None = None) -> Begins:
    """Return by capture id the time of its first begin row in Bronze, UTC nanoseconds.

    Args:
        data_root: the lake.
        known: what was read of parts before, as a part never changes; on return what is known of those there now.

    Raises:
        LayoutError: a part does not read, or an archived one is not where its manifest says.
    """
    known = {} if known is None else known
    begins: Begins = {}
    before = dict(known)
    known.clear()
    for partition in layout.partitions(data_root, events.SYSTEM_CAPTURES):
        for part in silver.bronze_parts(data_root, partition):
            known[part] = before[part] if part in before else _begins_in_part(part)
            _take_earlier(begins, known[part])
    return begins


def begins_in(rows: pa.Table) -> Begins:
    """Return by capture id the time of its first begin row among rows of `system.captures`."""
    begins: Begins = {}
    for event, capture_id, stamp in zip(*(rows[name].to_pylist() for name in _COLUMNS), strict=True):
        if event == "begin":
            _take_earlier(begins, {capture_id: stamp})
    return begins


def _begins_in_part(part: Path) -> Begins:
    try:
        return begins_in(pq.read_table(part, columns=_COLUMNS, partitioning=None, page_checksum_verification=True))
    except (OSError, pa.ArrowException) as error:  # the cause says where a part was only moved meanwhile
        raise LayoutError(
            f"{part} does not read ({' '.join(str(error).split())}), which says when captures began. Nothing was "
            f"changed. Next: spymaster verify, and restore that file from a copy"
        ) from error


def _take_earlier(begins: Begins, others: Begins) -> None:
    for capture_id, stamp in others.items():
        begins[capture_id] = min(stamp, begins.get(capture_id, stamp))

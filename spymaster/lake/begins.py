"""When each capture began, as `system.captures` in Bronze says: it decides which of two files is the later."""

from pathlib import Path

import pyarrow.parquet as pq

from spymaster import events
from spymaster.lake import layout, silver


def capture_begins(data_root: Path) -> dict[int, int]:
    """Return by capture id the time of its first begin row, UTC nanoseconds.

    Raises:
        LayoutError: an archived part is not where its manifest says.
        OSError, pyarrow.ArrowException: a part does not read.
    """
    begins: dict[int, int] = {}
    for partition in layout.partitions(data_root, events.SYSTEM_CAPTURES):
        for part in silver.bronze_parts(data_root, partition):
            rows = pq.read_table(part, columns=["event", "of_capture_id", "ts_event_ns"], partitioning=None)
            for event, capture_id, stamp in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                if event == "begin":
                    begins[capture_id] = min(stamp, begins.get(capture_id, stamp))
    return begins

"""The rows of `system.gaps`: what is known to be missing, and why. Recovery writes them, and who gives rows up."""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import pyarrow as pa

from spymaster import events
from spymaster.events import Stream

DISK_FULL: Final = "disk_full"  # the cause of rows given up
GAPS: Final = Stream(events.SYSTEM_GAPS.name, events.SYSTEM_SYMBOL)


class Gap(NamedTuple):
    """Rows of one stream that are known to be missing.

    Attributes:
        cause: what made the gap.
        stream: the stream that lacks rows.
        capture_id: the capture that lacks them, where it is known.
        first_seq: the first missing `capture_seq`; None where it is not known, and for rows given up, which had none.
        last_seq: the last.
        rows: how many; None where it is not known.
        start_ns: the span of event time that may lack data, half-open; None where it is not known.
        end_ns: its end.
        detail: what, where.
        gap_id: a hash over cause and range, from `gap_id`.
    """

    cause: str
    stream: Stream
    capture_id: int | None
    first_seq: int | None
    last_seq: int | None
    rows: int | None
    start_ns: int | None
    end_ns: int | None
    detail: str
    gap_id: int


def gap_id(cause: str, *where: object) -> int:
    """Return 63 bits of a hash over cause and range: the same gap found twice is one gap."""
    text = "|".join(str(part) for part in (cause, *where))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def gap_rows(gaps: Sequence[Gap], run_capture: int, first_seq: int, now_ns: int) -> pa.Table:
    """Return one `system.gaps` row for each gap, as it stands in the log, numbered from `first_seq` on."""
    count = len(gaps)
    now, text = [now_ns] * count, [events.SYSTEM_SYMBOL] * count
    columns: dict[str, Sequence[object]] = {
        "ts_event_ns": now,
        "ts_recv_ns": now,
        "ts_local_ns": now,
        "source": text,
        "symbol": text,
        "gap_id": [gap.gap_id for gap in gaps],
        "cause": [gap.cause for gap in gaps],
        "of_schema": [gap.stream.schema for gap in gaps],
        "of_symbol": [gap.stream.symbol for gap in gaps],
        "of_capture_id": [gap.capture_id for gap in gaps],
        "first_seq": [gap.first_seq for gap in gaps],
        "last_seq": [gap.last_seq for gap in gaps],
        "rows": [gap.rows for gap in gaps],
        "start_ns": [gap.start_ns for gap in gaps],
        "end_ns": [gap.end_ns for gap in gaps],
        "detail": [gap.detail for gap in gaps],
        "capture_id": [run_capture] * count,
        "capture_seq": list(range(first_seq, first_seq + count)),
    }
    return pa.table(columns, schema=events.SYSTEM_GAPS.log)

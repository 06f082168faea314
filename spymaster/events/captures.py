"""The rows of `system.captures`: the begin and the end of each delivery, which prove it whole."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from spymaster import events


@dataclass(frozen=True)
class Capture:
    """One delivery: a subscription on a connection, or a file."""

    capture_id: int
    source: str
    origin: str
    content_sha256: str | None
    normalizer_version: int
    streams: tuple[events.Stream, ...]


@dataclass
class CaptureSummary:
    """What became of one delivery.

    Attributes:
        origin: what was read.
        capture_id: its capture; None if it could not be opened.
        already_captured: the lake held it whole, so nothing was read again.
        rows: rows per schema that the delivery gave, recorded now or before.
        appended: rows that this run added; fewer where an earlier run was killed half way.
        given_up: rows that a full disk did not take; `system.gaps` says which.
        ignored: vendor records of kinds that are not recorded.
        odd: rows recorded as they came though something is wrong with them, by what they are.
        unreadable: vendor records in quarantine.
        unmapped: rows whose instrument no mapping named.
        complete: the delivery ended where it was to end.
        error: why it did not.
    """

    origin: str
    capture_id: int | None = None
    already_captured: bool = False
    rows: dict[str, int] = field(default_factory=dict)
    appended: int = 0
    given_up: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    odd: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    unmapped: int = 0
    complete: bool = False
    error: str | None = None


def random_capture_id() -> int:
    """Return 63 random bits."""
    return secrets.randbits(63)


def capture_id_of(content_sha256: str | None, normalizer_version: int) -> int:
    """Return a file's capture id, a hash of its content and of what makes rows of it; else 63 random bits."""
    if content_sha256 is None:
        return random_capture_id()
    text = f"{content_sha256}|{normalizer_version}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def begin_row(capture: Capture, now_ns: int) -> pa.RecordBatch:
    """Return the row that is durable before the capture's first."""
    return _row(capture, "begin", dict.fromkeys(capture.streams, 0), False, None, now_ns)


def end_row(
    capture: Capture, rows: Mapping[events.Stream, int], now_ns: int, *, complete: bool, detail: str | None
) -> pa.RecordBatch:
    """Return the row that is appended after every row it counts is durable."""
    return _row(capture, "end", rows, complete, detail, now_ns)


def _row(
    capture: Capture, event: str, rows: Mapping[events.Stream, int], complete: bool, detail: str | None, now_ns: int
) -> pa.RecordBatch:
    values = [
        now_ns, now_ns, now_ns, events.SYSTEM_SYMBOL, events.SYSTEM_SYMBOL, event, capture.capture_id, capture.source,
        capture.origin, capture.content_sha256, capture.normalizer_version,
        [(str(stream), count) for stream, count in rows.items()], complete, detail,
    ]  # fmt: skip
    schema = events.SYSTEM_CAPTURES.delivered
    columns = [pa.array([value], column.type) for value, column in zip(values, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)

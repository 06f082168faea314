"""The rows of `system.captures`: the begin and the end of each delivery, which prove it whole."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

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

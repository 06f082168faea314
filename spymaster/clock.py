"""The only wall clock. Order never depends on it: rows are ordered by their numbers and event times."""

import re
import time
from datetime import UTC, datetime, timedelta

NS_PER_MS = 1_000_000
NS_PER_SECOND = 1_000_000_000
NS_PER_HOUR = 3600 * NS_PER_SECOND
NS_PER_DAY = 24 * NS_PER_HOUR


def utc_now_ns() -> int:
    """Return the host's UTC time in nanoseconds. It may step backwards."""
    return time.time_ns()


def monotonic_s() -> float:
    """Return seconds that never step backwards, for timers and rates."""
    return time.monotonic()


def utc_text(ns: int) -> str:
    """Show UTC nanoseconds as ISO 8601 with all nine digits; integers only, so that none is lost."""
    seconds, fraction = divmod(ns, NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def utc_ns(text: str) -> int:
    """Read what `utc_text` shows, or less: ISO 8601 in UTC, a date alone is its midnight; or integer nanoseconds.

    With up to nine decimals, of which `datetime` would keep six.

    Raises:
        ValueError: it is no time, or of another zone.
    """
    if re.fullmatch(r"[0-9]{10,19}", text):
        return int(text)
    parts = re.fullmatch(r"([0-9-]+(?:T[0-9:]+)?)(?:\.([0-9]{1,9}))?(?:Z|\+00:00)?", text)
    whole = datetime.fromisoformat(parts[1] if parts else "").replace(tzinfo=UTC)
    fraction = int((parts[2] or "").ljust(9, "0")) if parts else 0
    return (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * NS_PER_SECOND + fraction


def part_stamp(ns: int) -> str:
    """Return `HHMMSS_micros` of a UTC time, the first half of a Parquet part's name."""
    seconds, fraction = divmod(ns, NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%H%M%S}_{fraction // 1000:06d}"

"""What `Watch.desk` says, as JSON can say it: strict, times in UTC nanoseconds under names that end in `_ns`.

What is not known is null. The page, `spymaster top` and `/api/status` show these and decide none of it again.
"""

from typing import Literal, TypedDict

State = Literal["empty", "first", "stale", "halt", "gap", "void", "live"]


class Silent(TypedDict):
    """A stream that should have rows and has none."""

    since_ns: int
    age_ms: int


class Halt(TypedDict):
    """What the exchange says of the judged contract, by its word."""

    word: str
    since_ns: int


class First(TypedDict):
    """When the first scores are due, and those whose longest window is whole."""

    scores_ns: int | None
    whole_ns: int | None


class GapDocument(TypedDict):
    """A span in which rows are known to be missing. `gap_id` is text, as 63 bits are no number of JavaScript's."""

    gap_id: str
    stream: str
    cause: str
    start_ns: int | None
    end_ns: int | None
    rows: int | None
    detail: str
    state: str


class Feeds(TypedDict):
    """Deliveries under way, of the sources that were named."""

    up: int
    of: int


class Desk(TypedDict):
    """What may be trusted now. `reason` is the engines' word, or the stream's that is silent.

    `gap` is the one that voids what is judged, where the state is `gap`.
    """

    state: State
    since_ns: int
    reason: str | None
    silent: dict[str, Silent]
    halt: Halt | None
    first: First | None
    gap: GapDocument | None
    feeds: Feeds


class StreamDocument(TypedDict):
    """One stream as it is published. `lag` is our clock at that moment less the newest event's time.

    It is null where events are of another time than now, as of a file.
    """

    rows_s: float
    rows_s_5min: float
    lag_ms: float | None
    lag_p99_ms: float | None
    age_ms: int
    rows: int


class AlertDocument(TypedDict):
    """One alert, as it is recorded in `system.alerts`. `alert_id` is text, as 63 bits are no number of JavaScript's."""

    alert_id: str
    ts_event_ns: int
    at_ns: int
    kind: str
    state: str
    subject: str
    text: str
    level_price: float | None
    signal: str | None
    value: float | None


class HealthDocument(TypedDict):
    """The recorder's figures. `disk_days` is null until the free space is seen to shrink for ten minutes."""

    rows_at_risk: int
    durable_to_ns: int | None
    sync_p50_ms: float | None
    sync_p99_ms: float | None
    not_in_bronze: int
    open_gaps: int
    gold_age_s: float | None
    gold_snaps: int | None
    disk_free_bytes: int
    disk_days: float | None
    disk_level: str
    disk_text: str
    dropped_rows: int
    backlog_segments: int
    problems: list[str]


class DeskDocuments(TypedDict):
    """All of it. Gaps by `gap_id`; alerts newest first."""

    desk: Desk
    streams: dict[str, StreamDocument]
    gaps: dict[str, GapDocument]
    alerts: list[AlertDocument]
    health: HealthDocument

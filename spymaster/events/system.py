"""Our own events, in the same WAL and lake: deliveries, known holes, hot zones, what snaps had seen, alerts.

Their symbol and source are `spymaster`, and their capture is the process run, which has no end row.
"""

from typing import Final

import pyarrow as pa

from spymaster import paths
from spymaster.events.schema import event_schema, field, optional

SYSTEM_SYMBOL: Final = paths.OWN_SYMBOL

SYSTEM_CAPTURES = event_schema(
    "system.captures",
    [
        field("symbol", pa.string(), "spymaster"),
        field("event", pa.string(), "begin, durable before the first row; or end, after every row it counts"),
        field("of_capture_id", pa.int64(), "the capture that began or ended"),
        field("of_source", pa.string(), "the source of its rows"),
        field("origin", pa.string(), "what was opened, as a user would name it"),
        optional("content_sha256", pa.string(), "of the file's bytes; null where no file was read"),
        field("normalizer_version", pa.int32(), "of the code that made rows of bytes"),
        field("stream_rows", pa.map_(pa.string(), pa.int64()), "rows per stream `schema/symbol`; 0 each at the begin"),
        field("complete", pa.bool_(), "the delivery ended where the vendor ended it"),
        optional("detail", pa.string(), "why it is not complete"),
    ],
    hourly=False,
    kind="own",
    identity=("symbol", None, None, None, "of_capture_id", "event"),
)

SYSTEM_GAPS = event_schema(
    "system.gaps",
    [
        field("symbol", pa.string(), "spymaster"),
        field("gap_id", pa.int64(), "63-bit hash of cause and range, so that a repeated recovery adds none"),
        field("cause", pa.string(), "what made the gap, e.g. wal_damage"),
        field("of_schema", pa.string(), "the schema that lacks rows"),
        field("of_symbol", pa.string(), "its stream's symbol"),
        optional("of_capture_id", pa.int64(), "the capture that lacks rows, where one is known"),
        optional("first_seq", pa.int64(), "first missing capture_seq"),
        optional("last_seq", pa.int64(), "last missing capture_seq"),
        optional("rows", pa.int64(), "missing rows, where their number is known"),
        optional("start_ns", pa.int64(), "the span that may lack data, UTC nanoseconds, half-open"),
        optional("end_ns", pa.int64(), "its end"),
        field("detail", pa.string(), "what, where"),
    ],
    hourly=False,
    kind="own",
    identity=("symbol", None, None, None, "gap_id"),
)

SYSTEM_ZONES = event_schema(
    "system.zones",
    [
        field("symbol", pa.string(), "spymaster"),
        field("underlying", pa.string(), "whose prices it is among, e.g. ES"),
        field("zone", pa.string(), "its name"),
        field("event", pa.string(), "set, also to another price, or removed"),
        optional("price", pa.float64(), "of the level, in the underlying's unit; null of one removed"),
    ],
    hourly=False,
    kind="own",
    identity=("symbol", "price", None, None, "underlying", "zone", "event"),
)

SYSTEM_SNAPS = event_schema(
    "system.snaps",
    [
        field("symbol", pa.string(), "spymaster"),
        field("profile", pa.string(), "by whose numbers it was judged, e.g. ES"),
        field("snap_ns", pa.int64(), "event time of the snap, UTC nanoseconds; of a start that of the session's begin"),
        field("mark", pa.string(), "start, warm (worked, not published), snap or stop"),
        optional("of_schema", pa.string(), "a stream of which rows left since the snap before"),
        optional("of_symbol", pa.string(), "its symbol"),
        optional("of_capture_id", pa.int64(), "whose rows"),
        optional("last_seq", pa.int64(), "capture_seq of the last row that had left"),
        optional("newest_ns", pa.int64(), "the highest event time among them that can be, UTC nanoseconds"),
        optional("begun", pa.string(), "of a start: what the judge was begun with, as JSON"),
    ],
    hourly=False,
    kind="own",
    identity=(
        "symbol",
        None,
        None,
        "last_seq",
        "profile",
        "snap_ns",
        "mark",
        "of_schema",
        "of_symbol",
        "of_capture_id",
    ),
)

SYSTEM_ALERTS = event_schema(
    "system.alerts",
    [
        field("symbol", pa.string(), "spymaster"),
        field("alert_id", pa.int64(), "63-bit hash of kind, state, subject and ts_event_ns"),
        field("kind", pa.string(), "what it is about: signal, void, gap, silent, disk, lag, roll, halt, problem, ..."),
        field("state", pa.string(), "raised, cleared, or empty where nothing is to be cleared"),
        field("subject", pa.string(), "the level, stream, gap or problem that it is about"),
        optional("level_price", pa.float64(), "of the level, in the underlying's unit"),
        optional("signal", pa.string(), "BREAK, REJECT or CONTESTED"),
        field("text", pa.string(), "one line in plain words"),
        optional(
            "value", pa.float64(), "its figure: of a signal the score, of a lag milliseconds, of a silence seconds"
        ),
    ],
    hourly=False,
    kind="own",
    identity=("symbol", None, None, None, "alert_id"),
)

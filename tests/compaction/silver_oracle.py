"""What Silver has to hold, in plain Python over rows, and a lake to hold it. It shares no code with the compactor."""

from collections import Counter, defaultdict

from spymaster.events import Stream
from spymaster.lake.bronze import flush_segment
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import NOON_NS


def identity(schema, row):
    """Return what makes a row the same event as another."""
    time_ns = row["ts_event_ns"]
    if row["source"].startswith("massive."):
        time_ns -= time_ns % 1_000_000
    return (time_ns, row["source"], *(row[name] for name in schema.identity if name is not None))


def order(row):
    return row["ts_event_ns"], row["ts_recv_ns"], row["capture_id"], row["capture_seq"]


def once(schema, rows):
    """Return the rows that stay, in Silver's order, each with its occurrence."""
    seen = Counter()
    candidates = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["capture_id"], row["capture_seq"])):
        key = identity(schema, row)
        seen[row["capture_id"], key] += 1
        candidates[key, seen[row["capture_id"], key]].append(row)
    kept = [
        min(equal, key=lambda row: order(row)[1:]) | {"occurrence": occurrence}
        for (_, occurrence), equal in candidates.items()
    ]
    return sorted(kept, key=order)


def flush(tmp_path, schema, rows, symbol="ES", created_ns=NOON_NS):
    """Bring rows into Bronze through a sealed segment, as the recorder does; return the parts."""
    header = Header.new(Stream(schema.name, symbol), 1, created_ns)
    segment = tmp_path / f"{header.segment}.arrow"
    segment.write_bytes(encode_segment(header, rows, None))
    parts = flush_segment(tmp_path / "lake" / "bronze", read_sealed(segment), again=False)
    segment.unlink()
    return parts

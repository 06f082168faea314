"""What Silver has to hold, in plain Python over rows, and a lake to hold it. It shares no code with the compactor."""

from collections import Counter, defaultdict
from decimal import Decimal

from spymaster.events import Stream
from spymaster.lake.bronze import flush_segment
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import NOON_NS

DAY_NS = 86_400 * 10**9


def identity(schema, row):
    """Return what names a row."""
    return (time_of(row), row["source"], *(row[name] for name in schema.identity if name is not None))


def time_of(row):
    stamp = row["ts_event_ns"]
    return stamp - stamp % 1_000_000 if row["source"].startswith("massive.") else stamp


def size_of(row):
    text = row.get("size_decimal")
    return row["size"] if text is None else Decimal(text)


def keys(schema, row):
    """Return the poorer key, the richer one or None, and whether a documented number tells the event from any other."""
    massive, start = row["source"].startswith("massive."), (row["source"], time_of(row))
    if massive and schema.name == "stocks.trades":
        numbers = [None if row[name] in (None, "", "0", 0) else row[name] for name in ("exchange", "trade_id", "seq")]
        if None not in numbers:
            return (*start, row["symbol"], *numbers), None, True
        return (*start, row["symbol"], *numbers, row["price"], size_of(row)), None, False
    if massive and schema.name in ("stocks.quotes", "options.quotes"):
        sides = [row[name] or 0 for name in ("bid_px", "bid_sz", "ask_px", "ask_sz", "bid_exch", "ask_exch")]
        return (*start, row[schema.identity[0]], row["seq"], *sides), None, False
    if massive and schema.name == "options.trades":
        poor = (*start, row["option_symbol"], row["price"], row["size"], row["exchange"])
        return poor, ((*poor, row["seq"]) if row["seq"] else None), bool(row["seq"])
    instrument, *rest = (name for name in schema.identity if name is not None)
    values = [size_of(row) if name == "size" else row[name] for name in rest]
    if row["source"].startswith("databento.") and row.get("instrument_id"):
        standing = schema.name in ("reference.statistics", "reference.status")
        day = None if standing else row["ts_recv_ns"] // DAY_NS
        return (*start, row["publisher_id"], row["instrument_id"], day, *values), None, False
    return (*start, row[instrument], *values), None, False


def order(row):
    return row["ts_event_ns"], row["ts_recv_ns"], row["capture_id"], row["capture_seq"]


def preference(schema, row, begins):
    poorer, unnamed = keys(schema, row)[1] is None, row[schema.identity[0]] is None
    if row["ts_local_ns"] is None:
        return poorer, 1, unnamed, -begins.get(row["capture_id"], -(2**63)), 0, row["capture_id"]
    return poorer, 0, unnamed, row["ts_local_ns"], row["ts_recv_ns"], row["capture_id"]


def deliveries_of(schema, rows):
    """Return the rows of each event, by what tells the events apart."""
    found, events = defaultdict(list), defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["capture_id"], row["capture_seq"])):
        poor, rich, _ = keys(schema, row)
        found[poor, row["capture_id"]].append((rich, row))
    poorer = defaultdict(list)
    richer = defaultdict(set)
    for (poor, _), own in found.items():
        seen = Counter()
        for rich, row in own:
            if rich is not None:
                seen[rich] += 1
                events[poor, rich, seen[rich]].append(row)
                richer[poor].add((rich, seen[rich]))
        poorer[poor].append((sum(seen.values()), [row for rich, row in own if rich is None]))
    for poor, captures in poorer.items():
        of_richer = sorted(richer[poor], key=lambda event: (event[0][-1], event[1]))
        for before, own in captures:
            for occurrence, row in enumerate(own, before + 1):
                event = of_richer[occurrence - 1] if occurrence <= len(of_richer) else (None, occurrence)
                events[(poor, *event)].append(row)
    return events


def once(schema, rows, begins=None):
    """Return the rows that stay, in Silver's order, each with its occurrence and what the last file says of it."""
    kept = []
    for own in deliveries_of(schema, rows).values():
        row = min(own, key=lambda row: preference(schema, row, begins or {}))
        files = [other for other in own if other["ts_local_ns"] is None]
        late = min(
            files,
            key=lambda other: (-(begins or {}).get(other["capture_id"], -(2**63)), other["capture_id"]),
            default={},
        )
        if "correction" in row:
            row |= {"late_correction": late.get("correction"), "late_conditions": late.get("conditions")}
        kept.append(row)
    seen = Counter()
    named = []
    for row in sorted(kept, key=order):
        seen[identity(schema, row)] += 1
        named.append(row | {"occurrence": seen[identity(schema, row)]})
    return named


def flush(tmp_path, schema, rows, symbol="ES", created_ns=NOON_NS):
    """Bring rows into Bronze through a sealed segment, as the recorder does; return the parts."""
    header = Header.new(Stream(schema.name, symbol), 1, created_ns)
    segment = tmp_path / f"{header.segment}.arrow"
    segment.write_bytes(encode_segment(header, rows, None))
    parts = flush_segment(tmp_path / "lake" / "bronze", read_sealed(segment), again=False)
    segment.unlink()
    return parts

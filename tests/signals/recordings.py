"""Logs and lakes of a simulated market, and the same rows in the order in which they left."""

import itertools
from functools import cache

import numpy as np
import pyarrow as pa

from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS, SCHEMAS, SYSTEM_SYMBOL, Stream
from spymaster.lake.bronze import flush_segment
from spymaster.normalize.open import normalizer_of
from spymaster.query.sessions import session_at
from spymaster.simulation.source import SimulatedMarket, dbn_info
from spymaster.wal.folder import segments
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import retire
from spymaster.wal.sealed import read_sealed
from spymaster.wal.writer import StreamLog

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
NOON_NS = 1_764_694_800 * SECOND  # 2025-12-02 17:00 UTC
SESSION = session_at(NOON_NS, "cme")
BEFORE = session_at(SESSION.begin_ns - 1, "cme")
BEGIN_NS = SESSION.begin_ns
FRONT = "ESZ5"
BOOKS, TRADES, STATUS = (Stream(schema.name, "ES") for schema in (FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS))
STREAMS = BOOKS, TRADES, STATUS
LOCAL = FUTURES_MBP10.log.get_field_index("ts_local_ns")  # of every schema
_COMMIT_NS = 20_000_000


@cache
def market(seconds, begin_ns=BEGIN_NS - 5 * SECOND, rate=150, plant=("walls", "late", "crossed"), seed=3, capture=7):
    """Return (stream, numbered batch) of a simulated market, one for each stream and 20 ms, as they leave."""
    described = SimulatedMarket(seed, rate, begin_ns, plant)
    info = dbn_info(described)
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=True)
    seqs, waiting = dict.fromkeys(STREAMS, 0), {}
    for block in described.blocks():
        for schema, part in normalizer.normalize([(block, None)]).batches:
            stream = Stream(schema.name, "ES")
            if stream not in STREAMS:
                continue
            at = seqs[stream]
            seqs[stream] += part.num_rows
            rows = numbered(schema, arrived(part, part.column("ts_recv_ns")), at, capture)
            turns = rows.column("ts_recv_ns").to_numpy() // _COMMIT_NS
            cuts = [0, *(np.flatnonzero(np.diff(turns)) + 1).tolist(), part.num_rows]
            for begin, end in itertools.pairwise(cuts):
                waiting.setdefault((int(turns[begin]), stream), []).append(rows.slice(begin, end - begin))
        if waiting and max(waiting)[0] * _COMMIT_NS >= begin_ns + seconds * SECOND:
            break
    return tuple((stream, _joined(parts)) for (_, stream), parts in sorted(waiting.items()))


def numbered(schema, part, at, capture):
    keys = pa.array(np.full(part.num_rows, capture)), pa.array(np.arange(at, at + part.num_rows))
    return pa.RecordBatch.from_arrays([*part.columns, *keys], schema=schema.log)


def _joined(parts):
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]


def renumbered(batches, capture, since_ns=0):
    """Return rows as another capture delivers them, from 0 on, none of them before a time."""
    seqs = dict.fromkeys(STREAMS, 0)
    for stream, part in batches:
        local = pa.array(np.maximum(part.column("ts_recv_ns").to_numpy(), since_ns))
        delivered = arrived(part, local).select(part.schema.names[:-2])
        yield stream, numbered(SCHEMAS[stream.schema], delivered, seqs[stream], capture)
        seqs[stream] += part.num_rows


def arrived(part, local):
    """Return rows as a live delivery has them."""
    return part.set_column(LOCAL, part.schema.field(LOCAL), local)


def parted(batches, at_ns):
    """Return the batches whose first row was received before a time, and the others."""
    before = [part.column("ts_recv_ns")[0].as_py() < at_ns for _, part in batches]
    return [one for one, is_before in zip(batches, before, strict=True) if is_before], [
        one for one, is_before in zip(batches, before, strict=True) if not is_before
    ]


class Recording:
    """A log and a lake whose every step a test takes itself."""

    def __init__(self, root):
        self.wal, self.data = root / "wal", root / "lake"
        self.wal.mkdir(parents=True)
        self._logs, self._rows = {}, {}

    def write(self, batches):
        """Append numbered rows, and make them durable."""
        for stream, part in batches:
            capture = part.column("capture_id")[0].as_py()
            if stream not in self._logs:
                self._logs[stream] = StreamLog(self.wal, stream, 1 << 30)
            if (stream, capture) not in self._rows:
                self._rows[stream, capture] = CaptureRows(self._logs[stream], capture)
            self._rows[stream, capture].append(part.select(part.schema.names[:-2]))
        for log in self._logs.values():
            log.commit()
        return self

    def write_own(self, schema, rows):
        """Append rows of our own, as far as a normalizer would make them or numbered."""
        delivered = SCHEMAS[schema].delivered.names
        return self.write([(Stream(schema, SYSTEM_SYMBOL), numbered(SCHEMAS[schema], rows.select(delivered), 0, 1))])

    def drain(self, *, leave=False):
        """Bring all rows to Bronze; `leave` what is in Bronze then in the log too."""
        for log in self._logs.values():
            log.seal()
            log.commit()
        for path, name in sorted(segments(self.wal)):
            if name.number is not None:
                flush_segment(self.data / "bronze", read_sealed(path), again=True)
                if not leave:
                    retire(path)
        return self

    def record(self, batches, pieces=5):
        """Write and drain rows, a few parts for each stream."""
        for piece in batched(batches, len(batches) // pieces + 1):
            self.write(piece).drain()
        return self

    def positions(self):
        """Return what a subscription would say now."""
        found = {}
        for (stream, capture), rows in self._rows.items():
            found.setdefault(stream, {})[capture] = rows.next_seq - 1
        return found


def batched(values, count):
    for at in range(0, len(values), count):
        yield values[at : at + count]


def last_of(passing):
    """Return the last snap of a pass; None if it had none."""
    last = None
    for snaps in passing:
        last = snaps[-1]
    return last


def stored(batch):
    """Return rows made by hand as a log takes them: a plain value where they say nothing and must."""
    plain = {pa.string(): "", pa.bool_(): False}
    columns = [
        column if field.nullable or not column.null_count else column.fill_null(plain.get(field.type, 0))
        for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

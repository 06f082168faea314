"""Claim: a judge is warmed up twenty times as fast as the market ran, at 2,000 rows a second, by processor time.

Rows are the simulated market's, the front month's and what else its DBN has, 2,000 rows a second of event time for some
minutes of a session, in parts of 5 s as the daemon leaves them. Measured is all of it, in minutes of the session a
second: listing, footers, parts, order, and the judge with 40 levels. Baseline: the judge alone, given the same rows
from memory. The share of the reading is the difference. Processor time is
given beside the wall's, in which the machine's others stand too.
"""

import sys
import tempfile
import time
import tracemalloc
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.engines import LEVELS
from bench.rounds import Figures, interleave, report
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.judge import Judge
from spymaster.engines.ledger import fastest_body
from spymaster.engines.levels import Zone
from spymaster.engines.profile import profile_named
from spymaster.engines.session import Session
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, SCHEMAS, Stream
from spymaster.lake.bronze import flush_segment
from spymaster.normalize.open import normalizer_of
from spymaster.query.recorded import Recorded
from spymaster.query.sessions import session_at
from spymaster.query.stretches import Bounds
from spymaster.signals.feed import Roots, feed
from spymaster.simulation.source import SimulatedMarket, dbn_info
from spymaster.wal.folder import segments
from spymaster.wal.recovery import retire
from spymaster.wal.sealed import read_sealed
from spymaster.wal.writer import StreamLog

MINUTES = 10
ROUNDS = 3
ROWS_PER_S = 2_000
FLUSH_S = 5
NOON_NS = 1_764_694_800 * NS_PER_SECOND
SESSION = session_at(NOON_NS, "cme")
STREAMS = [Stream(schema.name, "ES") for schema in (FUTURES_MBP10, FUTURES_TRADES)]


def record(root: Path, minutes: int) -> tuple[Roots, int]:
    """Leave a lake of so many minutes; return where, and its rows."""
    market = SimulatedMarket(1, ROWS_PER_S, NOON_NS)
    info = dbn_info(market)
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=True)
    wal, data = root / "wal", root / "lake"
    wal.mkdir()
    logs = {stream: StreamLog(wal, stream, 1 << 40) for stream in STREAMS}
    seqs, due_ns, now_ns = dict.fromkeys(STREAMS, 0), NOON_NS + FLUSH_S * NS_PER_SECOND, NOON_NS
    for block in market.blocks():
        for schema, part in normalizer.normalize([(block, None)]).batches:
            stream = Stream(schema.name, "ES")
            if stream not in logs:
                continue
            numbers = np.arange(seqs[stream], seqs[stream] + part.num_rows)
            keys = pa.array(np.full(part.num_rows, 7)), pa.array(numbers)
            rows = pa.RecordBatch.from_arrays([*part.columns, *keys], schema=SCHEMAS[schema.name].log)
            for begin in range(0, part.num_rows, 1_000):
                logs[stream].append(rows.slice(begin, 1_000))
            seqs[stream] += part.num_rows
            now_ns = max(now_ns, int(part.column("ts_event_ns").to_numpy().max()))
        if now_ns >= due_ns:
            due_ns += FLUSH_S * NS_PER_SECOND
            drain(wal, data, logs)
        if now_ns >= NOON_NS + minutes * 60 * NS_PER_SECOND:
            break
    drain(wal, data, logs)
    return Roots(data, wal), sum(seqs.values())


def drain(wal: Path, data: Path, logs: dict[Stream, StreamLog]) -> None:
    for log in logs.values():
        log.commit()
        log.seal()
        log.commit()
    for path, name in segments(wal):
        if name.number is not None:
            flush_segment(data / "bronze", read_sealed(path), again=False)
            retire(path)


def begun() -> Judge:
    zones = [Zone(str(at), 27_600 + at) for at in range(-LEVELS // 2, LEVELS // 2)]
    return Judge(profile_named("ES"), [Session(*SESSION)], "ESZ5", zones=zones, since_ns=NOON_NS)


def reading(roots: Roots) -> Recorded:
    return Recorded(*roots, STREAMS, Bounds(SESSION.begin_ns, SESSION.end_ns, {}, {}))


def warming(roots: Roots, minutes: int, rows: int) -> Figures:
    began = time.perf_counter(), time.process_time()
    taken: dict[tuple[str, int], int] = {}
    deque(feed(begun(), reading(roots), taken, to_the_end=True), maxlen=0)
    assert taken
    return figures(began, minutes, rows)


def judging(batches: list[tuple[Stream, pa.RecordBatch]], minutes: int, rows: int) -> Figures:
    judge, began = begun(), (time.perf_counter(), time.process_time())
    for stream, batch in batches:
        judge.take(stream, batch)
    return figures(began, minutes, rows)


def figures(began: tuple[float, float], minutes: int, rows: int) -> Figures:
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    return {
        "rows_per_s": rows / seconds,
        "minutes_per_s": minutes / seconds,
        "minutes_per_processor_s": minutes / processor,
        "seconds": seconds,
        "processor_seconds": processor,
    }


def peak_mb(roots: Roots) -> float:
    """Return the most that Arrow has allocated, beside what Python has, while rows are read."""
    most, before = 0, pa.total_allocated_bytes()
    tracemalloc.start()
    for _ in reading(roots).batches():
        most = max(most, pa.total_allocated_bytes() - before)
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round((most + python) / 1e6, 1)


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    fastest_body()
    with tempfile.TemporaryDirectory() as folder:
        roots, rows = record(Path(folder), minutes)
        batches = list(reading(roots).batches())
        results: dict[str, object] = {"minutes": minutes, "rows": rows}
        results["warm-up over judge"] = interleave(
            partial(warming, roots, minutes, rows), partial(judging, batches, minutes, rows), ROUNDS
        )
        batches.clear()
        results["megabytes while reading"] = peak_mb(roots)
    report("a session is warmed up twenty times as fast as it ran, by processor time", results)


if __name__ == "__main__":
    main()

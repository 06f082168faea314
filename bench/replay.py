"""Claim: a session of 6.5 h with 5 M book updates, 93,600 snaps, is replayed in 120 s.

Ten minutes of such a session of a simulated ES are recorded, 214 book updates a second, with what each snap had
seen, in parts of 5 s as the daemon leaves them, and replayed whole: log, parts, judge, levels in sight, Gold, digests,
certificate. A day's seconds are these by 93,600 snaps; what is done once, before the first, is counted once.
Baseline: the judge alone, given the same rows for the same snaps from memory; what is beyond is the replay's.

Beside it stand the bytes a day of `system.snaps`, in Bronze and while they are in the log.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.engines import SEED
from bench.gold import SNAPS_A_DAY
from bench.rounds import Figures, interleave, report
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.ledger import fastest_body
from spymaster.engines.profile import profile_named
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS, SYSTEM_SNAPS, SYSTEM_SYMBOL, Stream
from spymaster.events.snaps import SNAP
from spymaster.lake.bronze import flush_segment
from spymaster.normalize.open import normalizer_of
from spymaster.paths import stream_stem
from spymaster.query.as_seen import AsSeen
from spymaster.query.sessions import session_at
from spymaster.signals.chain import Chain, chains_of
from spymaster.signals.feed import streams_of
from spymaster.signals.past import Past
from spymaster.signals.record import Record
from spymaster.signals.replay import replay
from spymaster.signals.warm_up import WarmUp
from spymaster.signals.zones import recorded
from spymaster.simulation.source import SimulatedMarket, dbn_info
from spymaster.wal.folder import segments
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import retire
from spymaster.wal.sealed import read_sealed
from spymaster.wal.writer import StreamLog

MINUTES, ROUNDS = 10, 3
RATE = 232  # of the market's DBN records, by which 214 a second are books
FLUSH_S, SNAPS_FLUSH_S, COMMIT_NS = 5, 60, 20_000_000
PROFILE = profile_named("ES")
NOON_NS = 1_764_694_800 * NS_PER_SECOND
SESSION = session_at(NOON_NS, PROFILE.market.calendar)
BOOKS = Stream(FUTURES_MBP10.name, "ES")
STREAMS = BOOKS, Stream(FUTURES_TRADES.name, "ES"), Stream(REFERENCE_STATUS.name, "ES")
SNAPS = Stream(SYSTEM_SNAPS.name, SYSTEM_SYMBOL)
Rows = list[tuple[Stream, pa.RecordBatch]]


def leaving(minutes: int) -> Iterator[tuple[int, Rows]]:
    """Yield the market's rows by commits, each with the time of its last book."""
    market = SimulatedMarket(1, RATE, NOON_NS)
    info = dbn_info(market)
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=True)
    due_ns, waiting, newest_ns = NOON_NS, [], NOON_NS
    for block in market.blocks():
        for schema, part in normalizer.normalize([(block, None)]).batches:
            stream = Stream(schema.name, "ES")
            waiting += [(stream, part)] if stream in STREAMS else []
            if stream == BOOKS:
                newest_ns = max(newest_ns, int(part.column("ts_event_ns").to_numpy().max()))
        if newest_ns >= due_ns:
            yield newest_ns, [(stream, _joined(waiting, stream)) for stream in dict(waiting)]
            due_ns, waiting = newest_ns + COMMIT_NS, []
        if newest_ns >= NOON_NS + minutes * 60 * NS_PER_SECOND:
            return


def _joined(waiting: Rows, of: Stream) -> pa.RecordBatch:
    (batch,) = pa.Table.from_batches([part for stream, part in waiting if stream == of]).combine_chunks().to_batches()
    return batch


class Recording:
    """A lake and its log, as the daemon leaves them."""

    def __init__(self, root: Path) -> None:
        self.data, self.wal = root / "lake", root / "wal"
        self.wal.mkdir()
        self.log_bytes = 0  # that system.snaps had, one segment after another
        self._rows: dict[Stream, CaptureRows] = {}

    def append(self, stream: Stream, rows: pa.RecordBatch, capture: int) -> pa.RecordBatch:
        """Return the rows as they leave, in the log and numbered."""
        if stream not in self._rows:
            self._rows[stream] = CaptureRows(StreamLog(self.wal, stream, 1 << 40), capture)
        self._rows[stream].append(rows)
        (numbered,) = self._rows[stream].log.commit()
        return numbered

    def drain(self, streams: tuple[Stream, ...]) -> None:
        for log in (self._rows[stream].log for stream in streams if stream in self._rows):
            log.seal()
            log.commit()
        for path, name in sorted(segments(self.wal)):
            if name.number is not None:
                sealed = read_sealed(path)
                self.log_bytes += path.stat().st_size if name.stem == stream_stem(*SNAPS) else 0
                flush_segment(self.data / "bronze", sealed, again=False)
                retire(path)


def record(recording: Recording, minutes: int) -> int:
    """Record the market and what a judge's snaps had seen; return how many book updates it has."""
    warm = WarmUp(recording.data, recording.wal, PROFILE, SESSION, "ESZ5")
    warm.seed = SEED
    warm.begin(NOON_NS)
    rows = Record(PROFILE.name)
    rows.begin(warm)
    books, every = 0, [(FLUSH_S, STREAMS), (SNAPS_FLUSH_S, (SNAPS,))]
    due = dict.fromkeys(range(len(every)), NOON_NS)
    for newest_ns, batches in leaving(minutes):
        for stream, part in batches:
            snaps = warm.take(stream, recording.append(stream, part, 7))
            books += part.num_rows if stream == BOOKS else 0
            for snap_rows in rows.rows(snaps, SNAP) if snaps else ():
                recording.append(SNAPS, snap_rows, 1)
        for which, (seconds, streams) in enumerate(every):
            if newest_ns >= due[which] + seconds * NS_PER_SECOND:
                recording.drain(streams)
                due[which] = newest_ns
    for last in rows.stop():
        recording.append(SNAPS, last, 1)
    recording.drain((*STREAMS, SNAPS))
    return books


def replaying(recording: Recording) -> Figures:
    began = now()
    Past(recording.data, recording.wal, PROFILE, SESSION)
    recorded(recording.data, recording.wal)
    once, began = now() - began, now()
    outputs = replay(recording.data, recording.wal, PROFILE, SESSION).certificate["outputs"]
    return figures(now() - began, outputs["snaps"], once) | {"in_sight": outputs["rows"] / outputs["snaps"]}


def judging(recording: Recording, chain: Chain, rows: list[Rows]) -> Figures:
    warm = WarmUp(recording.data, recording.wal, PROFILE, SESSION, "ESZ5", chain=chain)
    judge, levels = warm.begin(chain.begun.since_ns), 0
    began = now()
    for snap_ns, batches in zip(chain.snap_ns.tolist(), rows, strict=True):
        for stream, batch in batches:
            judge.put(stream, batch)
        snap = judge.snap(snap_ns)
        levels += 0 if snap is None else snap.levels.num_rows
    return figures(now() - began, len(rows)) | {"levels": levels / len(rows)}


def now() -> NDArray[np.float64]:
    """Return the wall's seconds, and the processor's of all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def figures(took: NDArray[np.float64], snaps: int, once: NDArray[np.float64] | float = 0.0) -> Figures:
    seconds, processor = (took - once) / snaps * SNAPS_A_DAY + once
    return {"snaps_per_s": SNAPS_A_DAY / float(seconds), "day_s": float(seconds), "day_processor_s": float(processor)}


def from_memory(recording: Recording, chain: Chain) -> list[Rows]:
    judge = WarmUp(recording.data, recording.wal, PROFILE, SESSION, "ESZ5", chain=chain).begin(None)
    rows = AsSeen(
        recording.data,
        recording.wal,
        streams_of(PROFILE, judge),
        (SESSION.begin_ns, SESSION.end_ns),
        chain.tracks,
        chain.newest_ns,
    )
    return [batches for _, batches in rows.snaps()]


def bytes_a_day(recording: Recording, snaps: int) -> dict[str, float]:
    """Return what a day of `system.snaps` takes."""
    held = sum(path.stat().st_size for path in (recording.data / "bronze/system/snaps").rglob("*.parquet"))
    return {
        "bronze_mb_a_day": round(held / snaps * SNAPS_A_DAY / 1e6, 2),
        "bronze_bytes_a_snap": round(held / snaps, 1),
        "log_mb_a_day": round(recording.log_bytes / snaps * SNAPS_A_DAY / 1e6, 2),
    }


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    fastest_body()
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(Path(folder))
        books = record(recording, minutes)
        (chain,) = chains_of(recording.data, recording.wal, PROFILE.name, SESSION)
        rows, snaps = from_memory(recording, chain), len(chain.snap_ns)
        results: dict[str, object] = {
            "minutes": minutes,
            "snaps": snaps,
            "book updates by 93,600 snaps": round(books / snaps * SNAPS_A_DAY),
            "system.snaps": bytes_a_day(recording, snaps),
            "replay over judge": interleave(
                lambda: replaying(recording), lambda: judging(recording, chain, rows), ROUNDS, "snaps_per_s"
            ),
        }
    report("a session of 93,600 snaps is replayed in 120 s", {**results, "load": os.getloadavg()[0]})


if __name__ == "__main__":
    main()

"""Makes `before.tar.xz` with the code at commit 791e187, in whose worktree it is run: `python make.py TARGET`.

In the lake: two files and ten seconds of the simulated market in Bronze, in Silver, the first day archived; a record
that nobody reads in quarantine; a capture whose log had a torn tail, now in the log's quarantine, with a gap row.
In the log, as a kill leaves it: a sealed segment, an active one with rows below and above its watermark in one frame
that is larger than the frames of today, and half a frame behind them.
"""

# ruff: noqa: I001  # some of these modules have other names today

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa

from spymaster.events import Stream
from spymaster.lake.captures import Capture, begin_row
from spymaster.wal.gaps import DISK_FULL, Gap, gap_rows
from spymaster.wal.segment import scan
from spymaster.wal.writer import CaptureRows, StreamLog
from tests.normalize.dbn_bytes import T0, es_header, record, trade
from tests.rows import BOOKS, NOON_NS, TRADES, delivered

LARGE = 8_192  # rows; 1.2 MB
ES, BOOK = Stream("futures.trades", "ES"), Stream("futures.mbp10", "ES")
ROOTS = {"DATA_ROOT": "lake", "WAL_ROOT": "wal"}


def spymaster(*arguments: str, code: int = 0) -> None:
    done = subprocess.run([sys.executable, "-m", "spymaster", *arguments], env=os.environ | ROOTS)
    assert done.returncode == code, arguments


def constant(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Let all rows be as the first but for their times, so that they compress."""
    columns = [
        column if name.startswith("ts_event") else pa.repeat(column[0], rows.num_rows)
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def begin(capture_id: int, stream: Stream, run_capture: int) -> None:
    log = StreamLog(Path("wal"), Stream("system.captures", "spymaster"), segment_bytes=1 << 30)
    capture = Capture(capture_id, "databento.glbx", "live", None, 1, (stream,))
    CaptureRows(log, run_capture).append(begin_row(capture, NOON_NS))
    log.commit()
    log.close()


def tear(segment: Path) -> None:
    """Let half a frame follow the last one, as a kill amid a write leaves it."""
    raw = segment.read_bytes()
    frame = scan(memoryview(raw)).frames[1]
    with segment.open("ab") as file:
        file.write(raw[frame.end - 300 : frame.end - 100])


def main(target: Path) -> None:
    Path("a.dbn").write_bytes(es_header() + b"".join(trade(ts_event=T0 + number) for number in range(50)))
    Path("b.dbn").write_bytes(es_header() + trade(ts_event=T0 + 99) * 2 + record(10) + trade(ts_event=T0 + 100))
    spymaster("backfill", "dbn:a.dbn")
    spymaster("backfill", "dbn:b.dbn")
    spymaster("run", "--source", "sim:seed=1,rate=100,start=2026-01-05T15:00:00Z", "--speed", "5", "--duration", "2")
    spymaster("compact", "--all")
    spymaster("archive", "--before", "2025-12-17")

    begin(7, BOOK, 70)
    log = StreamLog(Path("wal"), BOOK, segment_bytes=1 << 30)
    rows = CaptureRows(log, 7)
    for start in (0, 5, 10):
        rows.append(delivered(BOOKS, 5, start=start))
        log.commit()
    log.close()
    gap = Gap(DISK_FULL, BOOK, 7, None, None, 5, NOON_NS, NOON_NS + 1, "futures.mbp10/ES: 5 rows were given up", 1)
    log = StreamLog(Path("wal"), Stream("system.gaps", "spymaster"), segment_bytes=1 << 30)
    log.append(gap_rows([gap], 70, 0, NOON_NS).combine_chunks().to_batches()[0])
    log.commit()
    log.close()
    tear(Path("wal/futures_mbp10_ES.arrow"))
    spymaster("recover")
    spymaster("compact", "--all")

    begin(8, ES, 80)
    log = StreamLog(Path("wal"), ES, segment_bytes=1 << 30)
    rows = CaptureRows(log, 8)
    rows.append(delivered(TRADES, 100))
    log.seal()
    log.commit()
    rows.append(delivered(TRADES, 100, start=100))
    log.commit()
    rows.append(constant(delivered(TRADES, LARGE, start=200)))  # the kill comes before its sync
    tear(Path("wal/futures_trades_ES.arrow"))

    silver = {
        str(path.relative_to("lake")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path("lake/silver").rglob("part-*.parquet"))
    }
    Path("made.json").write_text(json.dumps({"pyarrow": pa.__version__, "noon_ns": NOON_NS, "silver": silver}))
    with tarfile.open(target, "w:xz") as archive:
        for name in ("lake", "wal", "made.json", "a.dbn"):
            archive.add(name)
    os._exit(0)  # as a kill: nothing is closed


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main(target)

"""What the failing disks found: a seal whose sync failed, and a successor that names rows nobody was promised."""

from spymaster import durable, paths
from spymaster.events import Stream
from spymaster.events.captures import Capture, begin_row
from spymaster.lake.bronze import flush_segment
from spymaster.lake.catalog import Catalog
from spymaster.proof.verify import verify
from spymaster.recording.recovery import recover
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import retire
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import scan
from spymaster.wal.writer import StreamLog
from tests.rows import TRADES, delivered

STREAM = Stream("futures.trades", "ES")
OWN = Stream("system.captures", "spymaster")


def test_rows_of_a_segment_that_was_sealed_and_never_synced_are_no_finding(tmp_path):
    """They were not acknowledged, though the successor's opening frame, which survived, names them."""
    wal, bronze = tmp_path / "wal", tmp_path / "lake" / "bronze"
    durable.make_directories(wal)
    durable.make_directories(bronze)
    own = StreamLog(wal, OWN, 1 << 20)
    CaptureRows(own, 9).append(begin_row(Capture(7, "sim", "sim", None, 1, (STREAM,)), 1))
    own.commit()
    own.close()
    log = StreamLog(wal, STREAM, 1 << 20)
    rows = CaptureRows(log, 7)
    rows.append(delivered(TRADES, 10))
    log.seal()
    log.commit()
    (sealed,) = log.take_sealed()
    flush_segment(bronze, read_sealed(sealed), again=False)
    retire(sealed)
    rows.append(delivered(TRADES, 5, 10))
    log.seal()  # the next commit would sync it
    active = paths.active_segment(wal, paths.stream_stem(*STREAM))
    found = scan(durable.read(active))
    with active.open("r+b") as file:  # all that its last sync did not cover
        file.seek(found.frames[1].offset)
        file.write(bytes(found.size - found.frames[1].offset))
    catalog = Catalog(tmp_path / "lake")
    assert recover(wal, catalog, bronze, run_capture=1).exit_code == 0
    catalog.close()

    assert verify(wal, tmp_path / "lake").findings == []

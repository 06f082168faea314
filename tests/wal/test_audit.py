"""`wal verify` and `wal export`: what is sound, what is not, which rows are missing, and a file for stock readers."""

import json

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from spymaster.errors import UsageError, WalError
from spymaster.events import SCHEMAS, Stream
from spymaster.wal.audit import audit, export
from spymaster.wal.numbering import CaptureRows
from spymaster.wal.recovery import salvage
from spymaster.wal.segment import FrameEncoder, Header, Predecessor, scan
from spymaster.wal.segment_writer import SegmentWriter, encode_segment
from spymaster.wal.writer import StreamLog
from tests.rows import NOON_NS, TRADES, delivered, numbered

STREAM = Stream("futures.trades", "ES")
STEM = "futures_trades_ES"


def active_segment(folder, *commits: int, idle: bool = False):
    """Leave an active segment as a killed process does, with one frame and one commit for each number of rows."""
    log = StreamLog(folder, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=7)
    for count in commits:
        rows.append(delivered(TRADES, count, start=rows.next_seq))
        log.commit()
    if idle:
        log.mark_idle()
        log.commit()
    return folder / f"{STEM}.arrow"


def sealed_segment(folder, number: int = 1, rows: int = 40, per_frame: int = 8, after: Predecessor | None = None):
    header = Header(f"{number:032x}", STREAM, number, NOON_NS, None)
    table = pa.Table.from_batches(numbered(TRADES, rows, capture_id=7).to_batches(max_chunksize=per_frame))
    path = folder / f"{STEM}.{number:03d}.arrow"
    path.write_bytes(encode_segment(header, table, after))
    return path


def flip(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def frames(path):
    return scan(memoryview(path.read_bytes())).frames


def test_a_sound_log_is_called_sound_and_is_left_as_it_is(tmp_path):
    active_segment(tmp_path, 10, 10)
    sealed_segment(tmp_path, rows=40)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}

    found = audit(tmp_path)

    assert [(entry.path.name, entry.state, entry.rows, entry.durable_rows, entry.verdict) for entry in found] == [
        (f".{STEM}.next", "ahead", 0, 0, "sound"),
        (f"{STEM}.001.arrow", "sealed", 40, 40, "sound"),
        (f"{STEM}.arrow", "active", 20, 10, "sound"),
    ]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_what_is_torn_above_the_watermark_is_no_damage(tmp_path):
    path = active_segment(tmp_path, 10, 10)
    last = frames(path)[-1]
    path.write_bytes(path.read_bytes()[: last.end - 5])

    (entry,) = audit(path)

    assert (entry.verdict, entry.rows, entry.durable_rows, entry.missing) == ("torn tail", 10, 0, ())
    assert (entry.problem, entry.problem_at) == ("torn: the frame's body is cut", last.offset)


def test_the_same_cut_below_the_watermark_is_damage_and_names_the_rows(tmp_path):
    path = active_segment(tmp_path, 10, 10, idle=True)
    second = frames(path)[2]
    data = path.read_bytes()
    path.write_bytes(data[: second.end - 5] + data[second.end :])

    (entry,) = audit(path)

    assert entry.verdict == "damaged"
    (hole,) = entry.missing
    assert (hole.first_row, hole.end_row, hole.acknowledged) == (10, 20, True)
    assert hole.capture_id is None  # another may have begun in them; no next segment says


def test_damage_in_the_middle_is_delimited_by_byte_and_by_row(tmp_path):
    path = sealed_segment(tmp_path, rows=40, per_frame=8)
    third = frames(path)[3]
    flip(path, third.end - 20)

    (entry,) = audit(path)

    assert (entry.verdict, entry.problem, entry.problem_at) == ("damaged", "CRC32C does not match", third.offset)
    assert entry.rows == 16
    assert [(island.offset, island.first_row, island.end_row) for island in entry.islands] == [(third.end, 24, 40)]
    (hole,) = entry.missing
    assert (hole.first_row, hole.end_row, hole.acknowledged) == (16, 24, True)
    assert hole.describe().endswith("do not read (acknowledged, capture 7: 16 to 23)")


@pytest.mark.parametrize("successor", [True, False], ids=["successor names the count", "nobody does"])
def test_a_sealed_segment_without_its_end_is_damaged_and_its_successor_says_how_far(tmp_path, successor):
    path = sealed_segment(tmp_path, 1, rows=40, per_frame=8)
    if successor:
        sealed_segment(tmp_path, 2, after=Predecessor(f"{1:032x}", 40))
    path.write_bytes(path.read_bytes()[: frames(path)[4].offset])  # at a frame's edge: stock readers see a clean end

    entry = audit(tmp_path)[0]

    assert (entry.verdict, entry.problem, entry.rows) == ("damaged", "it ends without its seal", 24)
    (hole,) = entry.missing
    assert (hole.first_row, hole.end_row) == (24, 40 if successor else None)


def test_a_flipped_bit_anywhere_in_a_sealed_segment_is_damage(tmp_path):
    path = sealed_segment(tmp_path, rows=6, per_frame=3)
    good = path.read_bytes()
    for place in range(0, len(good), 31):  # every byte: in test_segment.py
        flip(path, place)
        assert audit(path)[0].verdict == "damaged", place
        path.write_bytes(good)


@pytest.mark.parametrize(("frame", "damaged"), [(None, False), (1, True), (2, True), (3, False)])
def test_the_verdict_agrees_with_what_recovery_then_reports(tmp_path, frame, damaged):
    path = active_segment(tmp_path, 10, 10, 10)  # the last frame says that 20 rows were durable
    if frame is not None:
        flip(path, frames(path)[frame].end - 20)

    verdicts = {entry.verdict for entry in audit(tmp_path)}

    assert ("damaged" in verdicts) == salvage(tmp_path, 9, set()).acknowledged_damage == damaged


def test_sound_bytes_that_are_no_sound_batch_are_damage(tmp_path):
    log = StreamLog(tmp_path, STREAM, 1 << 30)
    rows = CaptureRows(log, capture_id=7)
    rows.append(delivered(TRADES, 5))
    batch = delivered(TRADES, 5, start=5)
    text = pa.StringArray.from_buffers(5, pa.py_buffer(np.arange(6, dtype=np.int32)), pa.py_buffer(b"\xff" * 5))
    rows.append(batch.set_column(batch.schema.get_field_index("contract"), batch.schema.field("contract"), text))
    rows.append(delivered(TRADES, 5, start=10))
    path = tmp_path / f"{STEM}.arrow"

    (entry,) = audit(path)

    assert entry.verdict == "damaged"
    assert entry.problem.startswith("sound bytes that are no sound batch")
    assert (entry.problem_at, entry.rows) == (frames(path)[2].offset, 5)
    assert (entry.missing[0].first_row, entry.missing[0].end_row) == (5, 10)
    assert export(path, tmp_path / "out.arrow").rows == 5


def test_of_a_poisoned_segment_the_rows_that_its_successor_counts_were_acknowledged(tmp_path):
    path = sealed_segment(tmp_path, 1, rows=40, per_frame=8)
    data = path.read_bytes()[: frames(path)[4].offset]  # 24 rows; what follows was never synced
    path.unlink()
    poisoned = tmp_path / f"{STEM}.001.poisoned.arrow"
    poisoned.write_bytes(data)
    assert audit(poisoned)[0].verdict == "sound"

    sealed_segment(tmp_path, 2, after=Predecessor(f"{1:032x}", 32))

    (entry,) = audit(poisoned)
    assert (entry.state, entry.verdict) == ("poisoned", "damaged")
    assert (entry.missing[0].first_row, entry.missing[0].end_row) == (24, 32)

    (tmp_path / f"{STEM}.002.arrow").unlink()
    successor = SegmentWriter(tmp_path / f"{STEM}.arrow", Header.new(STREAM, 2, 0), FrameEncoder(TRADES.log))
    successor.mark("open", Predecessor(f"{1:032x}", 32))
    successor.mark("idle", Predecessor(f"{1:032x}", 24))  # the sync failed after all

    assert audit(poisoned)[0].verdict == "sound"


def test_files_in_quarantine_are_judged_by_the_name_they_had(tmp_path):
    path = sealed_segment(tmp_path, rows=40, per_frame=8)
    path.write_bytes(path.read_bytes()[: frames(path)[4].offset])
    salvage(tmp_path, 9, set())

    (entry,) = audit(tmp_path / "quarantine")

    assert (entry.state, entry.verdict, entry.rows) == ("quarantined sealed", "damaged", 24)
    assert entry.stream == STREAM


def test_a_folder_that_is_none_and_bytes_that_are_no_segment_are_told_apart(tmp_path):
    (tmp_path / f"{STEM}.arrow").write_bytes(b"hello")
    (tmp_path / f".{STEM}.next").write_bytes(b"")

    assert [entry.verdict for entry in audit(tmp_path)] == ["torn tail", "damaged"]
    with pytest.raises(UsageError, match="no segment and no folder"):
        audit(tmp_path / "nowhere")


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_an_export_opens_in_every_stock_reader_with_the_same_rows(tmp_path, schema):
    header = Header("ab" * 16, Stream(schema.name, "ES"), 1, NOON_NS, None)
    rows = numbered(schema, 40)
    source = tmp_path / "segment.arrow"
    source.write_bytes(encode_segment(header, pa.Table.from_batches(rows.to_batches(max_chunksize=16)), None))

    done = export(source, tmp_path / "out.arrow")

    assert (done.rows, done.left_out_bytes) == (40, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.arrow", "segment.arrow"]
    with pa.ipc.open_file(tmp_path / "out.arrow") as reader:
        table = reader.read_all()
    assert table.equals(rows)
    if not any(pa.types.is_map(column.type) for column in schema.log):  # polars has no such type
        assert pl.read_ipc(tmp_path / "out.arrow").height == 40
    with duckdb.connect() as connection:
        assert connection.from_arrow(table).count("*").fetchall() == [(40,)]


def test_an_export_of_a_torn_segment_holds_the_sound_prefix_and_says_what_is_left_out(tmp_path):
    path = active_segment(tmp_path, 10, 10, 10)
    second = frames(path)[2]
    flip(path, second.end - 20)
    size = path.stat().st_size

    done = export(path, tmp_path / "out.arrow")

    assert (done.rows, done.left_out_bytes) == (10, size - second.offset)
    assert done.audit.verdict == "damaged"
    with pa.ipc.open_file(tmp_path / "out.arrow") as reader:
        assert reader.read_all().equals(numbered(TRADES, 10, capture_id=7))


def test_an_export_never_replaces_a_file_and_leaves_nothing_behind_when_refused(tmp_path):
    path = active_segment(tmp_path, 10)
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "foreign.arrow").write_bytes(b"foreign" * 100)
    before = sorted(tmp_path.iterdir())

    with pytest.raises(UsageError, match="exists"):
        export(path, tmp_path / "mine")
    with pytest.raises(UsageError, match="does not exist"):
        export(path, tmp_path / "nowhere" / "out.arrow")
    with pytest.raises(WalError, match="no sound prefix to export: died in creation or foreign"):
        export(tmp_path / "foreign.arrow", tmp_path / "out.arrow")

    assert (tmp_path / "mine").read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before


def test_the_commands_exit_as_documented(tmp_path, capsys, monkeypatch):
    from spymaster import cli

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["spymaster", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "wal"
    folder.mkdir()
    path = sealed_segment(folder)

    code, printed = run("wal", "verify", "--json")
    assert (code, json.loads(printed.out)["sound"]) == (0, True)
    code, printed = run("wal", "export", path, "--out", tmp_path / "out.arrow", "--json")
    assert (code, json.loads(printed.out)["rows"]) == (0, 40)
    flip(path, frames(path)[2].end - 20)
    code, printed = run("wal", "verify", path)
    assert code == 1
    assert "CRC32C does not match at byte" in printed.out
    assert "do not read (acknowledged, capture 7: 8 to 15)" in printed.out
    code, printed = run("wal", "verify", tmp_path / "nowhere")
    assert code == 2
    assert printed.err.startswith("error: there is no segment")
    code, printed = run("wal", "export", path, "--out", tmp_path / "out.arrow")
    assert code == 2
    assert "Nothing was written" in printed.err

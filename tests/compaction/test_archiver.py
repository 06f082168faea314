"""Parts that move, and everything that must go on as if they had not."""

import errno
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from crc32c import crc32c

from spymaster import connect, durable, events, paths
from spymaster.compaction.archiver import archive_before
from spymaster.errors import LayoutError, LockedError, UsageError
from spymaster.events import Stream
from spymaster.lake import archive, layout, silver
from spymaster.lake.bronze import flush_segment
from spymaster.lake.catalog import Catalog, read_files, rebuild
from spymaster.lake.locks import archive_locks
from spymaster.proof.verify import verify
from spymaster.query.bronze_rows import Reader
from spymaster.query.status import status
from spymaster.recording.recovery import recover
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests import bad_sector
from tests.faults import storage_calls
from tests.faults.nursery import nursery
from tests.faults.storage_calls import Kill
from tests.rows import NOON_NS, TRADES, numbered
from tests.silver_files import compacted

AFTER = "2025-12-23"
PER_SEGMENT = 100
HOUR_MS = 3_600_000


def write_segment(root, number: int, schema=TRADES, *, shift_ms: int = 0, symbol: str = "ES") -> Path:
    """Write the `number`-th segment of a stream, 100 rows from noon on, each of the one capture."""
    stream = Stream(schema.name, symbol)
    rows = numbered(schema, PER_SEGMENT, number * PER_SEGMENT, capture_id=5, symbol=symbol)
    if shift_ms:
        at = rows.schema.get_field_index("ts_event_ns")
        later = numbered(schema, PER_SEGMENT, number * PER_SEGMENT + shift_ms)["ts_event_ns"]
        rows = rows.set_column(at, rows.schema.field(at), later)
    (root / "wal").mkdir(exist_ok=True)
    path = paths.sealed_segment(root / "wal", paths.stream_stem(*stream), number + 1)
    path.write_bytes(encode_segment(Header.new(stream, number + 1, NOON_NS + number), rows, None))
    return path


def flush(root, segment: Path) -> None:
    index = Catalog(root / "lake")
    index.record(flush_segment(root / "lake" / "bronze", read_sealed(segment), again=False))
    index.close()
    segment.unlink()


@pytest.fixture
def root(tmp_path):
    """A lake of two compacted hours, of two parts each, 400 rows in all."""
    for number in range(4):
        flush(tmp_path, write_segment(tmp_path, number, shift_ms=HOUR_MS if number > 1 else 0))
    compacted(tmp_path / "lake")
    return tmp_path


def names(root, tier: str) -> list[str]:
    return sorted(path.relative_to(root / "lake" / tier).as_posix() for path in (root / "lake" / tier).rglob("part-*"))


def recorded(root) -> list[int]:
    """Return the numbers of the rows that the lake has, after it was proven that it is sound."""
    assert findings(root) == []
    index = Catalog(root / "lake")
    numbers = index.recorded_numbers(5, "futures.trades").tolist()
    index.close()
    return numbers


def state(root) -> dict:
    """What readers see of the lake, wherever its parts lie."""
    index = Catalog(root / "lake")
    numbers = index.recorded_numbers(5, "futures.trades").tolist()
    index.close()
    return {
        "numbers": numbers,
        "catalog": read_files(root / "lake"),
        "read": Reader(root / "lake", "arrow").read("futures.trades", "ES")["capture_seq"].to_pylist(),
        "one hour": Reader(root / "lake", "arrow").read("futures.trades", "ES", end_ns=NOON_NS + 10**9).num_rows,
        "dates": Reader(root / "lake").get_available_dates("futures/trades", "symbol=ES"),
        "status": {key: status(root / "wal", root / "lake")[key] for key in ("bronze", "bronze_total", "alarms")},
    }


def findings(root, date=None) -> list[str]:
    return [line for line in verify(root / "wal", root / "lake", date).findings if "no begin row" not in line]


def first_archived(root) -> Path:
    return min((root / "lake" / "archive").rglob("part-*.parquet"))


def manifest_of(root) -> Path:
    return min((root / "lake" / "bronze").rglob("_archived.json"))


def test_archived_parts_are_read_counted_and_proven_as_before(root):
    before, parts = state(root), names(root, "bronze")
    done = archive_before(root / "lake", AFTER)

    assert (done.partitions, done.parts, done.rows, done.stayed) == (2, 4, 400, [])
    assert names(root, "bronze") == []
    assert names(root, "archive/bronze") == parts
    assert state(root) == before
    assert before["read"] == list(range(400))
    assert findings(root) == findings(root, "2025-12-22") == []
    assert verify(root / "wal", root / "lake").rows == 400
    (root / "lake" / "catalog.db").unlink()
    assert state(root) == before


def test_a_part_that_is_being_moved_counts_once_in_every_table(root):
    source = min((root / "lake" / "bronze").rglob("part-*.parquet"))
    target = root / "lake" / "archive" / source.relative_to(root / "lake")
    target.parent.mkdir(parents=True)
    os.link(source, target)

    with connect(root / "lake", root / "wal") as lake:
        for table in ("futures_trades", "bronze_futures_trades", "silver_futures_trades"):
            assert lake.execute(f"select count(*), count(distinct capture_seq) from {table}").fetchone() == (400, 400)


def test_a_reader_whose_parts_are_moved_after_it_listed_them_reads_them_where_they_are(root, monkeypatch):
    listed = silver.bronze_parts

    def moved_meanwhile(*arguments):
        parts = listed(*arguments)
        monkeypatch.undo()
        archive_before(root / "lake", AFTER)
        return parts

    monkeypatch.setattr(silver, "bronze_parts", moved_meanwhile)

    assert Reader(root / "lake", "arrow").read("futures.trades", "ES").num_rows == 400
    assert names(root, "bronze") == []


def test_a_move_that_ends_between_the_listing_and_the_manifest_is_no_loss(root, monkeypatch):
    listed = layout.part_names

    def moved_meanwhile(data_root, tier, partition):
        found = listed(data_root, tier, partition)
        if tier is layout.Tier.ARCHIVE:
            monkeypatch.undo()
            archive_before(root / "lake", AFTER)
        return found

    monkeypatch.setattr(layout, "part_names", moved_meanwhile)

    with connect(root / "lake", root / "wal") as lake:
        assert lake.execute("select count(*), count(distinct capture_seq) from futures_trades").fetchone() == (400, 400)


def test_a_manifest_says_what_each_part_holds(root):
    archive_before(root / "lake", AFTER)
    folder = first_archived(root).parent
    said = json.loads(manifest_of(root).read_text())["parts"]

    assert sorted(captures for *_, captures in said.values()) == [[[5, 100, 0, 99]], [[5, 100, 100, 199]]]
    for name, (rows, size, summed, segment, _) in said.items():
        data = (folder / name).read_bytes()
        assert (rows, size, summed) == (PER_SEGMENT, len(data), crc32c(data))
        assert segment[:8] in name


def test_archiving_again_changes_nothing(root):
    archive_before(root / "lake", AFTER)
    before = {path: path.stat().st_mtime_ns for path in (root / "lake" / "archive").rglob("*")}

    assert archive_before(root / "lake", AFTER).parts == 0
    assert {path: path.stat().st_mtime_ns for path in (root / "lake" / "archive").rglob("*")} == before


def test_only_dates_before_the_one_given_move(root):
    assert archive_before(root / "lake", "2025-12-22").parts == 0
    assert len(names(root, "bronze")) == 4


def test_hours_that_are_not_compacted_or_changed_since_stay_and_are_named(root):
    flush(root, write_segment(root, 4))
    done = archive_before(root / "lake", AFTER)

    assert [each.place for each in done.stayed] == ["futures.trades/ES 2025-12-22 12h"]
    assert "changed" in done.stayed[0].reason
    assert (done.parts, len(names(root, "bronze"))) == (2, 3)
    with pytest.raises(UsageError, match=r"ES 2025-12-22 12h has changed since it was compacted.*Next: spymaster comp"):
        archive_before(root / "lake", AFTER)
    for file in (root / "lake" / "silver").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(UsageError, match="12h is not compacted"):
        archive_before(root / "lake", AFTER)


def test_a_bad_sector_under_a_manifest_is_a_finding(root, monkeypatch):
    archive_before(root / "lake", AFTER)
    archive._decoded.cache_clear()
    bad_sector.lies_under(monkeypatch, "_archived.json")

    assert any("does not read ([Errno 5] Input/output error)" in line for line in findings(root))


def test_late_rows_of_an_archived_hour_are_read_with_it_and_archived_once_it_is_compacted_again(root):
    archive_before(root / "lake", AFTER)
    flush(root, write_segment(root, 4))

    assert state(root)["read"] == [*range(200), *range(400, 500), *range(200, 400)]
    compacted(root / "lake")
    assert archive_before(root / "lake", AFTER).parts == 1
    assert state(root)["read"] == [*range(200), *range(400, 500), *range(200, 400)]
    assert findings(root) == []


def test_our_own_events_stay(root):
    flush(root, write_segment(root, 0, events.SYSTEM_GAPS, symbol="spymaster"))

    assert archive_before(root / "lake", AFTER).stayed == []
    assert [name.split("/")[0] for name in names(root, "bronze")] == ["system"]


def test_recovery_publishes_no_row_that_an_archived_part_has(root):
    write_segment(root, 1)  # as of a daemon that was killed between publishing and retiring
    write_segment(root, 4)
    archive_before(root / "lake", AFTER)
    index = Catalog(root / "lake")
    report = recover(root / "wal", index, root / "lake" / "bronze", 1)
    index.close()

    assert report.rows == PER_SEGMENT
    assert sorted(state(root)["read"]) == list(range(500))
    assert findings(root) == []


@pytest.mark.parametrize("gone", [True, False])
def test_rows_of_an_archived_part_that_does_not_read_come_back_under_another_name(root, gone):
    segment = write_segment(root, 4)
    waiting = segment.read_bytes()
    flush(root, segment)
    compacted(root / "lake")
    archive_before(root / "lake", AFTER)
    segment.write_bytes(waiting)
    (part,) = [path for path in (root / "lake" / "archive").rglob("part-*") if seqs_of(path)[0] == 400]
    if gone:
        (root / "lake" / "archive").rename(root / "elsewhere")
    else:
        part.write_bytes(b"PAR1")
    index = Catalog(root / "lake")
    report = recover(root / "wal", index, root / "lake" / "bronze", 1)
    index.close()

    assert report.rows == PER_SEGMENT
    assert [Path(name).name for name in names(root, "bronze")] == [part.name.replace(".parquet", ".1.parquet")]


def seqs_of(part: Path) -> list[int]:
    return pq.read_table(part, columns=["capture_seq"], partitioning=None)["capture_seq"].to_pylist()


def test_an_archived_part_that_vanished_is_found_and_nothing_is_concluded_without_it(root):
    archive_before(root / "lake", AFTER)
    part = first_archived(root)
    partition = paths.Partition("futures.trades", "symbol", "ES", "2025-12-22", 12)
    part.unlink()

    for date in (None, "2025-12-22"):
        (finding,) = [line for line in findings(root, date) if "not on disk" in line]
        assert f"{part.name} is in its archive manifest (100 rows)" in finding
    with pytest.raises(LayoutError, match=f"{part.name} is not there"):
        silver.bronze_parts(root / "lake", partition)
    with pytest.raises(LayoutError, match="not there"):
        Reader(root / "lake").read("futures.trades", "ES")


def test_an_archive_that_is_not_there_is_missed(root):
    archive_before(root / "lake", AFTER)
    before = state(root)
    (root / "lake" / "archive").rename(root / "elsewhere")
    (root / "lake" / "catalog.db").unlink()

    assert sum("is in its archive manifest (100 rows) and not on disk" in line for line in findings(root)) == 4
    with pytest.raises(LayoutError, match="2 such parts"):
        Reader(root / "lake").read("futures.trades", "ES")
    (root / "elsewhere").rename(root / "lake" / "archive")
    assert (state(root), findings(root)) == (before, [])


def test_an_archived_part_with_other_bytes_is_found_without_the_catalog(root):
    archive_before(root / "lake", AFTER)
    (root / "lake" / "catalog.db").unlink()
    part = first_archived(root)
    other = max(part.parent.glob("part-*.parquet"))
    part.write_bytes(other.read_bytes())  # sound by its own sum, and not what was archived

    assert [line for line in findings(root) if "has other bytes" in line] == [
        f"{part.relative_to(root / 'lake')} has other bytes than were written (CRC32C differs)"
    ]


def test_a_file_that_no_manifest_names_is_found_and_read_and_named_by_the_next_run(root):
    archive_before(root / "lake", AFTER)
    before = state(root)
    shutil.rmtree(root / "lake" / "bronze" / "futures")

    assert sum("no manifest names it" in line for line in findings(root)) == 4
    assert state(root) == before
    archive_before(root / "lake", AFTER)
    assert findings(root) == []


def test_a_manifest_that_is_not_as_it_was_written_is_found(root):
    archive_before(root / "lake", AFTER)
    path = manifest_of(root)
    path.write_text(path.read_text().replace("[[5,100,", "[[5,101,", 1))

    (finding,) = findings(root)
    assert finding.startswith(f"{path} does not read (its CRC32C differs)")
    with pytest.raises(LayoutError, match="CRC32C differs"):
        Reader(root / "lake").read("futures.trades", "ES")


def test_a_part_that_does_not_read_stays_with_its_hour(root):
    part = min((root / "lake" / "bronze").rglob("part-*.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)
    done = archive_before(root / "lake", AFTER)

    assert [each.place for each in done.stayed] == ["futures.trades/ES 2025-12-22 12h"]
    assert str(part) in done.stayed[0].reason
    assert "does not read" in done.stayed[0].reason
    assert part.exists()
    assert done.parts == 2


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system here")  # noqa: S108
def test_the_archive_may_lie_on_another_disk(root, tmp_path_factory):
    elsewhere = Path("/dev/shm") / f"archive-{os.getpid()}"  # noqa: S108
    elsewhere.mkdir()
    try:
        (root / "lake" / "archive").symlink_to(elsewhere)
        before = state(root)
        done = archive_before(root / "lake", AFTER)

        assert (done.parts, names(root, "bronze")) == (4, [])
        assert first_archived(root).stat().st_dev != root.stat().st_dev
        assert state(root) == before
        assert findings(root) == []
    finally:
        for path in sorted(elsewhere.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        elsewhere.rmdir()


def test_nobody_else_may_write_meanwhile(root):
    for folder in ("wal", "lake/bronze", "lake/silver"):
        durable.make_directories(root / folder)
        with (
            durable.lock_directory(root / folder),
            pytest.raises(LockedError, match="in use"),
            archive_locks(root / "wal", root / "lake"),
        ):
            pass


def test_the_command_says_what_it_moved_and_what_stayed(root):
    command = ("archive", "--before", AFTER, "--data-root", "lake", "--wal-root", "wal")

    def answer(*more) -> tuple[int, str]:
        code, said = nursery().run(root, *command, *more)
        return code, said.splitlines()[-1]  # before it stands a warning of the nursery's settings

    flush(root, write_segment(root, 4))
    code, said = answer("--json")

    assert code == 1
    assert json.loads(said) | {"size_bytes": 0} == {
        "partitions": 1, "parts": 2, "rows": 200, "size_bytes": 0,
        "stayed": [
            {"partition": "futures.trades/ES 2025-12-22 12h", "reason": "has changed since it was compacted"}
        ],
    }  # fmt: skip
    code, said = answer()
    assert code == 2
    assert said.startswith("error: nothing before 2025-12-23 can be archived: futures.trades/ES 2025-12-22 12h has")
    compacted(root / "lake")
    code, said = answer()
    assert code == 0
    assert said.startswith("3 parts of 1 partitions archived: 300 rows, ")


def copied(root, target: Path) -> Path:
    """Return a copy of log and lake."""
    for path in sorted(root.rglob("*")):
        own = target / path.relative_to(root)
        if path.is_dir():
            own.mkdir(parents=True)
        else:
            own.write_bytes(path.read_bytes())
    return target


def test_a_run_that_is_killed_at_every_third_of_its_storage_calls_loses_and_doubles_nothing(root, tmp_path_factory):
    if reason := storage_calls.unsupported():
        pytest.skip(reason)
    for later in (root / "lake").rglob("hour=13/part-*"):
        later.unlink()
    rebuild(root / "lake")
    before = recorded(root)
    command = ("archive", "--before", AFTER, "--data-root", "lake", "--wal-root", "wal")
    for number in range(1, 1_000, 3):
        own = copied(root, tmp_path_factory.mktemp("killed") / "root")
        child = nursery().start(own, *command, watched=True)
        ended, code = child.watch(own / "lake", lambda call, at=number: Kill() if call.number == at else None, print)
        assert recorded(own) == before, ended.killed_at
        if ended.killed_at is None:
            break
        nursery().run(own, *command)
        assert (names(own, "bronze"), recorded(own)) == ([], before), ended.killed_at
        assert not list((own / "lake").rglob(".*.tmp")), ended.killed_at

    assert (before, code, number > 20) == (list(range(200)), 0, True)


@pytest.mark.parametrize("name", ["link", "sync_directory", "rewrite", "remove"])
def test_a_disk_that_refuses_costs_nothing_and_the_next_run_completes(root, monkeypatch, name):
    before, real, calls = state(root), getattr(durable, name), []

    def refuse_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == (1 if name == "rewrite" else 3):
            raise OSError(errno.EIO, "the disk refused")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(durable, name, refuse_the_third)
        with pytest.raises(OSError, match="the disk refused"):
            archive_before(root / "lake", AFTER)

    assert (state(root), findings(root)) == (before, [])
    archive_before(root / "lake", AFTER)
    assert (state(root), findings(root), names(root, "bronze")) == (before, [], [])

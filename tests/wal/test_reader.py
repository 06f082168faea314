"""Reading the log takes as much memory as the wanted rows and one segment, and refuses what would take more."""

import pyarrow as pa
import pytest

from spymaster import durable
from spymaster.errors import WalError
from spymaster.events import Stream
from spymaster.lake.layout import Within
from spymaster.query.lake import connect
from spymaster.query.one_table import OneTable
from spymaster.query.silver_rows import SilverRows
from spymaster.wal import reader
from spymaster.wal.reader import read_log
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import NOON_NS, TRADES, numbered

HOUR_MS = 3_600_000
ROWS = 20_000
HOURS = 6


@pytest.fixture
def wal(tmp_path):
    """A log of six hours that nobody drained, a segment each."""
    folder = tmp_path / "wal"
    folder.mkdir()
    for hour in range(HOURS):
        rows = numbered(TRADES, ROWS, hour * HOUR_MS)
        header = Header.new(Stream(TRADES.name, "ES"), hour + 1, NOON_NS)
        (folder / f"futures_trades_ES.{hour + 1:03d}.arrow").write_bytes(encode_segment(header, rows, None))
    return folder


@pytest.fixture
def one_segment(wal):
    """How much memory the rows of a segment take."""
    return read_log(wal, TRADES).nbytes // HOURS


def test_a_log_that_is_larger_than_the_bound_is_refused_in_one_line(wal, tmp_path, one_segment, monkeypatch):
    monkeypatch.setattr(reader, "MAX_LOG_BYTES", 2 * one_segment)

    with connect(tmp_path / "lake", wal) as lake:
        for query in ("from futures_trades", "select count(*) from futures_trades"):
            with pytest.raises(
                WalError, match="futures.trades that is not in Bronze.*Next: .*spymaster recover"
            ) as error:
                lake.execute(query)
            assert "\n" not in str(error.value)
        assert lake.execute("select count(*) from futures_mbp10").fetchone() == (0,)
    monkeypatch.setattr(reader, "MAX_LOG_BYTES", (HOURS + 1) * one_segment)
    with connect(tmp_path / "lake", wal) as lake:
        assert lake.execute("select count(*) from futures_trades").fetchone() == (HOURS * ROWS,)


def test_of_a_log_larger_than_the_bound_a_span_is_read(wal, tmp_path, one_segment, monkeypatch):
    monkeypatch.setattr(reader, "MAX_LOG_BYTES", 2 * one_segment)
    start_ns = NOON_NS + 3 * HOUR_MS * 1_000_000

    with connect(tmp_path / "lake", wal) as lake:
        rows = SilverRows(lake, "arrow")
        found = rows.read_date("2025-12-22", "futures.trades", start_ns=start_ns, end_ns=start_ns + 10_000_000)
        with pytest.raises(WalError):
            rows.read_date("2025-12-22", "futures.trades")

    assert found["capture_seq"].to_pylist() == [3 * HOUR_MS + number for number in range(10)]


def test_in_memory_are_the_wanted_rows_and_one_segment(wal, one_segment, monkeypatch):
    held = []
    read = durable.read
    monkeypatch.setattr(durable, "read", lambda path: held.append(pa.total_allocated_bytes()) or read(path))
    before = pa.total_allocated_bytes()

    found = read_log(wal, TRADES, lambda rows: rows.filter(pa.array([True] + [False] * (rows.num_rows - 1))))

    assert found.num_rows == HOURS
    assert len(held) == HOURS
    assert max(held) - before < 1.5 * one_segment  # the one before may be held until the next was read


@pytest.mark.parametrize(
    ("within", "hours"),
    [
        (Within("ES", "2025-12-22T13", "2025-12-22T14"), [1, 2]),
        (Within(None, "2025-12-22T14"), [2, 3, 4, 5]),
        (Within("NQ"), []),
        (Within("ES", "2025-12-23T00", "2025-12-23T23"), []),
        (Within(), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_of_the_log_the_partitions_asked_for_are_kept(wal, tmp_path, within, hours):
    log = OneTable(tmp_path / "lake", wal, TRADES).snapshot(within).log

    assert log.num_rows == len(hours) * ROWS
    assert sorted({seq // HOUR_MS for seq in log["capture_seq"].to_pylist()}) == hours

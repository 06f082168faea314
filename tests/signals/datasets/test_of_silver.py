"""Bars and books of sessions: equal to SQL over Silver, the same bytes again, and made again where Silver changed."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import connect
from spymaster.engines.profile import profile_named
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES
from spymaster.lake import datasets, layout
from spymaster.lake.datasets import BOOK_1S, OHLCV
from spymaster.lake.parquet import damage
from spymaster.proof.silver import list_files
from spymaster.signals.datasets import bars, books, build, of_silver
from spymaster.signals.datasets.bars import Thresholds, Trades
from tests.command_line import spymaster
from tests.signals.recordings import BEFORE, BEGIN_NS, FRONT, SECOND, SESSION, TRADES, Recording, market, parted
from tests.silver_files import compacted

SMALL = Thresholds(volume=13, ticks=5, dollars=5_000_000, point_dollars=50)
TIMES = {"1s": SECOND, "1m": 60 * SECOND, "2m": 120 * SECOND}
BOTH = [("ES", BEFORE.date), ("ES", SESSION.date)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Five seconds of one session and forty of the next, compacted."""
    recording = Recording(tmp_path_factory.mktemp("of_silver")).record(market(45))
    compacted(recording.data)
    return recording


@pytest.fixture
def lake(recorded, tmp_path, monkeypatch):
    monkeypatch.setitem(bars.THRESHOLDS, "ES", SMALL)
    return shutil.copytree(recorded.data, tmp_path / "lake")


def make(data_root, only=None):
    """Make bars and books, or one of both."""
    names = [only] if only else ["ohlcv", "book_1s"]
    log = data_root.parent / "no log"
    return [one for name in names for one in build.make(data_root, log, profile_named("SIM"), only=name)]


def file_of(lake, dataset, date=SESSION.date):
    return dataset.file(lake, ("ES", date))


def in_sql(lake, query):
    with connect(lake, lake.parent / "no log") as opened:
        return opened.sql(query).fetchall()


def bars_in_sql(lake, bar, number, begin="min(ts_event_ns)", end="max(ts_event_ns)"):
    """Return a session's bars as DuckDB makes them of Silver; `number` says which bar a trade is in."""
    order = "ts_event_ns, ts_recv_ns, capture_id, capture_seq"
    return in_sql(
        lake,
        f"""
        with trades as (
          select *, row_number() over (order by {order}) as n,
            sum(size) over (order by {order} rows unbounded preceding) - size as volume_before,
            sum(round(price * 10000)::hugeint * size * 50) over (order by {order} rows unbounded preceding)
              - round(price * 10000)::hugeint * size * 50 as worth_before
          from silver_futures_trades
          where contract = '{FRONT}' and price is not null and session_date = '{SESSION.date}'
        )
        select '{bar}', {begin}, {end}, first(price order by n), max(price), min(price), last(price order by n),
          sum(size)::bigint, count(*), coalesce(sum(size) filter (aggressor = 1), 0)::bigint,
          coalesce(sum(size) filter (aggressor = -1), 0)::bigint,
          sum(round(price * 10000)::bigint * size)::bigint / sum(size)::bigint / 10000
        from trades group by {number} order by min(n)""",
    )


def made(lake, bar, date=SESSION.date):
    columns = "bar, begin_ns, end_ns, open, high, low, close, volume, trades, bought, sold, vwap"
    where = f"symbol = 'ES' and date = '{date}' and bar = '{bar}'"
    return in_sql(lake, f"select {columns} from ohlcv where {where} order by begin_ns, volume")


def test_bars_of_time_are_those_of_sql(lake):
    make(lake)

    for bar, span in TIMES.items():
        number = f"ts_event_ns // {span}"
        expected = bars_in_sql(lake, bar, number, f"{number} * {span}", f"({number} + 1) * {span}")
        assert made(lake, bar) == expected
    assert len(made(lake, "1s")) > 20


@pytest.mark.parametrize(
    ("bar", "number", "least"),
    [
        ("volume", "volume_before // 13", 10),
        ("ticks", "(n - 1) // 5", 9),
        ("dollars", f"worth_before // {5_000_000 * 10_000}", 10),
    ],
)
def test_bars_of_volume_ticks_and_dollars_are_those_of_sql(lake, bar, number, least):
    make(lake)

    expected = bars_in_sql(lake, bar, number)
    assert sorted(made(lake, bar)) == sorted(expected)
    assert len(expected) > least


def test_what_a_trade_has_beyond_its_bar_counts_for_the_next():
    columns = ([1, 2, 3, 4], [7, 8, 9, 6], [10, 95, 10, 30], [1, 1, -1, 0])
    trades = Trades(*(np.array(each, np.int64) for each in columns))
    found = bars.bars_of(trades, "ESZ5", Thresholds(40, 3, 10**9, 50)).to_pylist()

    volume = [(row["begin_ns"], row["end_ns"], row["volume"], row["closed"]) for row in found if row["bar"] == "volume"]
    assert volume == [(1, 2, 105, True), (3, 4, 40, True)]
    ticks = [row for row in found if row["bar"] == "ticks"]
    assert [(row["trades"], row["closed"]) for row in ticks] == [(3, True), (1, False)]
    assert (ticks[0]["open"], ticks[0]["high"], ticks[0]["low"], ticks[0]["close"]) == (7e-4, 9e-4, 7e-4, 9e-4)
    assert (ticks[0]["bought"], ticks[0]["sold"]) == (105, 10)


def test_a_bar_is_closed_once_no_later_trade_can_be_in_it():
    trades = Trades(
        *(np.array(each, np.int64) for each in ([SECOND - 1, SECOND, 2 * SECOND], [1] * 3, [1] * 3, [0] * 3))
    )
    found = bars.bars_of(trades, "ESZ5", Thresholds(3, 4, 1, 1)).to_pylist()

    assert [row["closed"] for row in found if row["bar"] == "1s"] == [True, True, False]
    assert [row["closed"] for row in found if row["bar"] in ("1m", "ticks")] == [False, False]
    assert [row["closed"] for row in found if row["bar"] == "volume"] == [True]


def test_no_trade_makes_no_bar():
    none = Trades(*(np.empty(0, np.int64) for _ in range(4)))

    assert bars.bars_of(none, "ESZ5", SMALL).num_rows == 0


def test_the_last_whole_book_of_each_second_is_that_of_sql(lake):
    make(lake)

    columns = ", ".join(name for name in BOOK_1S.columns.names if name not in ("date", "second_ns"))
    expected = in_sql(
        lake,
        f"""
        select {columns}, ts_event_ns // {SECOND} * {SECOND} from silver_futures_mbp10
        where contract = '{FRONT}' and session_date = '{SESSION.date}'
          and flags & 128 != 0 and action is distinct from 'T' and not is_snapshot and bid_px_1 < ask_px_1
        qualify row_number() over (
          partition by ts_event_ns // {SECOND}
          order by ts_event_ns desc, ts_recv_ns desc, capture_id desc, capture_seq desc
        ) = 1 order by ts_event_ns""",
    )
    found = in_sql(lake, f"select {columns}, second_ns from book_1s where date = '{SESSION.date}' order by second_ns")
    assert found == expected
    assert len(found) > 30


def test_a_book_that_is_not_whole_is_passed_over():
    own = {name: pa.array([1] * 6) for name in ("ts_event_ns", "ts_recv_ns", "capture_id", "capture_seq")}
    own |= {"contract": pa.array(["ESZ5"] * 5 + ["ESH6"]), "is_snapshot": pa.array([False] * 4 + [True, False])}
    own |= {
        "flags": pa.array([128, 0, 128, 128, 128, 128], pa.int16()),
        "action": pa.array(["A", "A", "T", None, "A", "A"]),
    }
    own |= {"bid_px_1": pa.array([5.0] * 6), "ask_px_1": pa.array([6.0, 6.0, 6.0, 5.0, 6.0, 6.0])}
    own |= {"ts_event_ns": pa.array(range(6))}
    kinds = {name: FUTURES_MBP10.bronze.field(name).type for name in books.COLUMNS}
    rows = pa.table({name: own.get(name, pa.nulls(6)).cast(kind) for name, kind in kinds.items()})

    assert books.last_books(rows, "ESZ5")["ts_event_ns"].to_pylist() == [0]


def test_a_session_has_one_file_that_vouches_for_itself_and_verify_passes_it_over(lake):
    found = make(lake)

    assert [(one.dataset, one.of, one.status) for one in found] == [
        (name, of, "made") for name in ("ohlcv", "book_1s") for of in BOTH
    ]
    for one in found:
        file = file_of(lake, datasets.DATASETS[one.dataset], one.of[-1])
        assert damage(memoryview(file.read_bytes())) is None
        assert pq.read_metadata(file).metadata[b"spymaster_rows"] == str(one.rows).encode()
        assert one.rows == pq.read_metadata(file).num_rows > 0
    assert file_of(lake, OHLCV).relative_to(lake).as_posix() == (
        f"silver/datasets/ohlcv/symbol=ES/date={SESSION.date}/part-0000.parquet"
    )
    assert None not in list_files(lake).values()


def test_what_was_deleted_is_made_again_to_the_same_bytes(lake):
    make(lake)
    files = [file_of(lake, dataset, date) for dataset in (OHLCV, BOOK_1S) for _, date in BOTH]
    first = [file.read_bytes() for file in files]
    shutil.rmtree(layout.dataset_folder(lake, "ohlcv"))
    file_of(lake, BOOK_1S).unlink()

    assert [one.status for one in make(lake)] == ["made", "made", "unchanged", "made"]
    assert [file.read_bytes() for file in files] == first


def test_a_second_run_does_nothing(lake):
    make(lake)
    before = {file: layout.token(file) for file in layout.dataset_folder(lake, "").rglob("*.parquet")}

    assert {one.status for one in make(lake)} == {"unchanged"}
    assert {file: layout.token(file) for file in before} == before
    assert len(before) == 4


def test_rows_that_came_late_make_their_session_again_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setitem(bars.THRESHOLDS, "ES", SMALL)
    early, late = parted(market(45), BEGIN_NS + 20 * SECOND)
    recording = Recording(tmp_path).record(early)
    compacted(recording.data)
    make(recording.data)
    recording.record([(stream, rows) for stream, rows in late if stream == TRADES])
    compacted(recording.data)

    found = {(one.dataset, one.of[-1]): one.status for one in make(recording.data)}
    assert found == {
        ("ohlcv", BEFORE.date): "unchanged", ("ohlcv", SESSION.date): "made",
        ("book_1s", BEFORE.date): "unchanged", ("book_1s", SESSION.date): "unchanged",
    }  # fmt: skip
    whole = Recording(tmp_path / "whole").record(market(45))
    compacted(whole.data)
    make(whole.data)
    assert pq.read_table(file_of(recording.data, OHLCV)).equals(pq.read_table(file_of(whole.data, OHLCV)))


def test_another_threshold_or_contract_makes_a_session_again(lake, monkeypatch):
    make(lake)
    monkeypatch.setitem(bars.THRESHOLDS, "ES", SMALL._replace(ticks=16))
    assert {one.status for one in make(lake, only="ohlcv")} == {"made"}

    monkeypatch.setattr(of_silver, "contract_of", lambda *_: "ESH6")
    assert [one.status for one in make(lake, only="book_1s")] == ["made", "made"]
    assert in_sql(lake, "select distinct contract from book_1s") == [("ESH6",)]


def test_a_damaged_file_of_silver_refuses_its_session_alone(lake):
    first = layout.partitions(lake, FUTURES_TRADES, tiers=[layout.Tier.SILVER])[0]
    file = layout.path(lake, layout.Tier.SILVER, first.folder) / layout.SILVER_FILE
    columns = pq.read_metadata(file).row_group(0)
    price = columns.column([columns.column(at).path_in_schema for at in range(columns.num_columns)].index("price"))
    data = bytearray(file.read_bytes())
    data[price.data_page_offset + price.total_compressed_size - 3] ^= 1
    file.write_bytes(data)

    done = spymaster("datasets", "--all", "--only", "ohlcv", "--data-root", str(lake), "--json")
    assert done.returncode == 1
    (refused,) = [one for one in done.document["datasets"] if one["status"] == "refused"]
    assert "does not read" in refused["reason"]
    assert "Next: " in refused["reason"]


def test_the_command_makes_one_session_or_all_and_says_what(lake):
    root = ("--data-root", str(lake))
    one = spymaster("datasets", "--date", SESSION.date, "--only", "ohlcv", *root, "--json")

    assert one.returncode == 0
    assert [(each["dataset"], each["of"], each["date"], each["status"]) for each in one.document["datasets"]] == [
        ("ohlcv", ["ES"], SESSION.date, "made")
    ]
    every = spymaster("datasets", "--all", "--only", "ohlcv", *root)
    assert every.returncode == 0
    assert "2 files of sessions, 1 of them new or changed." in every.stdout
    for wrong in (["--all", "--only", "bars"], [], ["--all", "--date", SESSION.date], ["--date", "2025-13-01"]):
        refused = spymaster("datasets", *wrong, *root)
        assert refused.returncode == 4
        assert "Next: " in refused.stderr


def test_the_views_are_there_without_a_file_and_have_a_sessions_rows_with_it(lake):
    assert in_sql(lake, "select count(*) from ohlcv") == in_sql(lake, "select count(*) from book_1s") == [(0,)]

    with connect(lake, lake.parent / "no log") as opened:
        make(lake)
        query = "select symbol, date::varchar, count(*) from {} group by all order by all"
        assert [row[:2] for row in opened.sql(query.format("ohlcv")).fetchall()] == BOTH
        assert [row[:2] for row in opened.sql(query.format("book_1s")).fetchall()] == BOTH

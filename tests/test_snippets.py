"""The snippets of the documents that this project implements, run with only the import line changed."""

import asyncio
import errno
import inspect
import math
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest

from spymaster import BronzeReader, BronzeWriter, SilverCompactor, WALManager, connect, durable
from spymaster.bus import Bus
from spymaster.errors import BronzeRefusedError, LockedError, UsageError
from spymaster.events import Stream
from spymaster.proof.verify import verify
from spymaster.query.status import status
from spymaster.recording import capture
from tests.rows import NOON_NS, TRADES, delivered

TRADE = {
    "ts_event_ns": NOON_NS + 1,
    "ts_recv_ns": NOON_NS + 2,
    "source": "massive.stocks",
    "symbol": "SPY",
    "price": 687.25,
    "size": 100,
    "exchange": 4,
    "conditions": [12, 37],
    "seq": 1_234_567,
}
QUOTE = {"ts_event_ns": NOON_NS, "symbol": "SPY", "bid_px": 687.2, "bid_sz": 300, "ask_px": 687.3, "ask_sz": 200}
OPTION = SimpleNamespace(
    ts_event_ns=NOON_NS,
    underlying="SPY",
    option_symbol="O:SPY251222C00687000",
    strike=687.0,
    right="C",
    price=1.5,
    size=3,
)


@pytest.fixture(autouse=True)
def roots(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "lake"))
    monkeypatch.setenv("WAL_ROOT", str(tmp_path / "wal"))
    return tmp_path


def test_writing_to_bronze():
    trade, quote, opt_trade = TRADE, QUOTE, OPTION

    async def snippet():
        writer = BronzeWriter()

        # Append events to Bronze
        await writer.write_stock_trade(trade)
        await writer.write_stock_quote(quote)
        await writer.write_option_trade(opt_trade)

        # Manual flush (normally automatic every 5s)
        await writer.flush_all()
        stored = BronzeReader().arrow().read("stocks.trades", "SPY")
        await writer.stop()
        return stored

    (row,) = asyncio.run(snippet()).to_pylist()

    assert {name: row[name] for name in TRADE} == TRADE
    (option,) = BronzeReader().arrow().read_option_trades(underlying="SPY").to_pylist()
    assert (option["option_symbol"], option["strike"], option["aggressor"]) == ("O:SPY251222C00687000", 687.0, 0)


STATISTIC = {"symbol": "ES", "contract": "ESZ5", "kind": "open_interest", "kind_code": 9, "quantity": 2_000_000}
STATISTIC |= {"ts_event_ns": NOON_NS, "update_code": 1, "stat_flags": 255, "channel_id": 0}
HALT = {"symbol": "ES", "contract": "ESZ5", "action": "halt", "action_code": 8, "reason_code": 0}
HALT |= {"ts_event_ns": NOON_NS, "trading_event_code": 0, "is_trading": False}


def test_quotes_of_options_statistics_and_states_are_written_compacted_proven_and_read_as_trades_are(roots):
    quote = {name: value for name, value in vars(OPTION).items() if name not in ("price", "size")}
    quote |= {"bid_px": 1.4, "bid_sz": 10, "ask_px": 1.5, "ask_sz": 7}

    async def snippet():
        writer = BronzeWriter()
        await writer.write_option_quote(quote)
        await writer.write_statistic(STATISTIC)
        await writer.write_status(HALT)
        await writer.stop()

    asyncio.run(snippet())

    reader = BronzeReader().arrow()
    (stored,) = reader.read_option_quotes(underlying="SPY").to_pylist()
    assert {name: stored[name] for name in [*quote, "sample_s"]} == quote | {"sample_s": 0}  # no sample
    for rows, given in ((reader.read_statistics(), STATISTIC), (reader.read_status(), HALT)):
        (stored,) = rows.to_pylist()
        assert {name: stored[name] for name in given} == given
    results = SilverCompactor().compact_all_schemas("2025-12-22")
    assert [(result.status, result.counts.rows_out) for result in results] == [("compacted", 1)] * 3
    names = ["options_quotes", "reference_statistics", "reference_status"]
    with connect() as lake:
        for name in names:
            for view in (name, f"bronze_{name}", f"silver_{name}"):
                assert lake.execute(f"select count(*) from {view}").fetchall() == [(1,)], view
    verdict = verify(roots / "wal", roots / "lake")
    assert (verdict.findings, verdict.silver.audited) == ([], 3)
    held = status(roots / "wal", roots / "lake")["bronze"]
    assert {schema.replace(".", "_"): tier["rows"] for schema, tier in held.items()} == dict.fromkeys(names, 1) | {
        "system_captures": 2
    }


KILLED = """
import asyncio, os, sys
from spymaster import BronzeWriter
async def main():
    writer = BronzeWriter(buffer_limit=10**6, flush_interval_seconds=60)
    for seq in range(25):
        trade = {"ts_event_ns": 1766404800000000000 - seq, "symbol": "SPY", "price": 1.0, "seq": seq}
        await writer.write_stock_trade(trade)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def test_wal_recovery():
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == -9
    processed = []

    async def process_event(event):
        processed.append(event)

    async def snippet():
        wal = WALManager()

        # On startup: recover unflushed events
        recovered = wal.recover_all()
        print(f"Recovered {len(recovered)} unflushed events")

        # Process recovered events
        for event in recovered:
            await process_event(event)
        return recovered

    recovered = asyncio.run(snippet())

    trades = [event for event in processed if "price" in event]
    assert len(recovered) == len(processed) == sum(batch.num_rows for batch in recovered.batches())
    assert [event["seq"] for event in trades] == list(range(24, -1, -1))  # event-time order
    assert len(BronzeReader().arrow().read("stocks.trades", "SPY")) == 25
    assert len(WALManager().recover_all()) == 0


def test_force_recovery_and_flush():
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == -9

    async def snippet():
        wal = WALManager()
        recovered = wal.recover_all()  # Drains WAL into Bronze

        writer = BronzeWriter()
        await writer.flush_all()  # Forces Parquet write
        return recovered

    assert len(asyncio.run(snippet())) == 26  # the trades, and the begin row of their capture


def test_the_writer_has_the_documented_arguments():
    arguments = inspect.signature(BronzeWriter).parameters

    assert {name: argument.default for name, argument in arguments.items()} == {
        "bus": None, "data_root": None, "buffer_limit": 1000, "flush_interval_seconds": None, "use_s3": None,
    }  # fmt: skip
    reader = inspect.signature(BronzeReader.read_futures_trades).parameters
    assert list(reader)[1:] == ["symbol", "date", "start_ns", "end_ns", "front_month_only", "specific_contract"]


def test_a_writer_flushes_at_its_buffer_limit(roots):
    async def write():
        writer = BronzeWriter(buffer_limit=10, flush_interval_seconds=60)
        counts = []
        for seq in range(12):
            await writer.write_stock_trade(TRADE | {"seq": seq})
            counts.append(len(list((roots / "lake").rglob("stocks/trades/**/*.parquet"))))
        await writer.stop()
        return counts

    assert asyncio.run(write()) == [0] * 9 + [1] * 3
    assert BronzeWriter().get_bronze_path() == str(roots / "lake" / "bronze")


def test_a_writer_in_a_loop_keeps_few_rows_in_memory_and_the_event_loop_turning(monkeypatch):
    monkeypatch.setattr(capture, "MAX_UNACKNOWLEDGED_ROWS", 5_000)
    sync = durable.sync
    monkeypatch.setattr(durable, "sync", lambda descriptor: (time.sleep(0.01), sync(descriptor))[1])  # a slow disk
    batch = delivered(TRADES, 1_000)

    async def write():
        writer = BronzeWriter(buffer_limit=10**9, flush_interval_seconds=60)
        turns = 0

        async def turn():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        turning = asyncio.create_task(turn())
        waiting = []
        for _ in range(200):
            await writer.write("futures.trades", batch)
            (lane,) = [lane for stream, lane in writer._recorder.lanes.items() if stream.schema == "futures.trades"]
            waiting.append(lane.unacknowledged_rows)
        turning.cancel()
        await writer.stop()
        return waiting, turns

    waiting, turns = asyncio.run(write())

    assert max(waiting) <= 5_000
    assert turns >= 200
    assert len(BronzeReader().arrow().read("futures.trades", "ES")) == 200_000


def test_a_written_row_is_durable_one_sync_interval_later_though_nothing_follows_it():
    async def write():
        writer = BronzeWriter(flush_interval_seconds=60)
        await writer.write_stock_trade(TRADE)
        (lane,) = [lane for stream, lane in writer._recorder.lanes.items() if stream.schema == "stocks.trades"]
        async with asyncio.timeout(5):
            while lane.log.acknowledged_rows != 1:
                await asyncio.sleep(0.001)
        await writer.stop()

    asyncio.run(write())


def test_a_writer_flushes_when_its_interval_is_over_though_its_streams_hold_every_symbol(roots):
    async def write():
        writer = BronzeWriter(buffer_limit=10**6, flush_interval_seconds=1)
        await writer.write_stock_trade(TRADE)
        async with asyncio.timeout(20):
            while not list((roots / "lake").rglob("stocks/trades/**/*.parquet")):
                await asyncio.sleep(0.05)
        await writer.stop()

    asyncio.run(write())


def test_a_writer_that_is_told_no_interval_has_the_settings(roots, monkeypatch):
    monkeypatch.setenv("FLUSH_INTERVAL_SEC", "0.1")

    async def write():
        writer = BronzeWriter(buffer_limit=10**6)
        await writer.write_stock_trade(TRADE)
        began = time.monotonic()
        while not list((roots / "lake").rglob("stocks/trades/**/*.parquet")):
            assert time.monotonic() - began < 4
            await asyncio.sleep(0.05)
        await writer.stop()

    asyncio.run(write())


MANY_SYMBOLS = """
import asyncio, os, resource
from spymaster import BronzeWriter
async def main():
    writer = BronzeWriter(buffer_limit=10**6, flush_interval_seconds=60)
    await writer.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    for number in range(600):
        event = {"ts_event_ns": 1766404800000000000, "symbol": f"S{number}", "seq": number}
        await writer.write_stock_trade(event | {"price": 1.0})
        await writer.write_stock_quote(event | {"bid_px": 1.0, "bid_sz": 1, "ask_px": 2.0, "ask_sz": 1})
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def test_six_hundred_symbols_need_one_log_a_schema(roots):
    assert subprocess.run([sys.executable, "-c", MANY_SYMBOLS]).returncode == -9

    assert sorted(path.name for path in (roots / "wal").glob("*.arrow")) == [
        "stocks_quotes_ALL.arrow", "stocks_trades_ALL.arrow", "system_captures_spymaster.arrow",
    ]  # fmt: skip
    with connect() as lake:
        assert lake.execute("select count(distinct symbol) from stocks_trades").fetchall() == [(600,)]


def test_a_writer_follows_a_bus():
    bus = Bus()

    async def follow():
        writer = BronzeWriter(bus)
        await writer.start()
        for start in range(0, 100, 10):
            bus.publish(Stream("futures.trades", "ES"), [delivered(TRADES, 10, start)])
        await writer.stop()

    asyncio.run(follow())

    assert len(BronzeReader().arrow().read_futures_trades(front_month_only=False)) == 100


def test_a_writer_that_follows_a_bus_goes_on_behind_rows_that_do_not_fit_and_says_at_its_stop_how_many():
    bus = Bus()
    stream = Stream("futures.trades", "ES")

    async def follow():
        writer = BronzeWriter(bus)
        await writer.start()
        bus.publish(stream, [delivered(TRADES, 10), delivered(TRADES, 3).drop_columns(["ts_event_ns"])])
        bus.publish(Stream("no.such", "ES"), [delivered(TRADES, 4)])
        bus.publish(stream, [delivered(TRADES, 10, 10)])
        try:
            await writer.stop()
        finally:
            assert writer.refused_rows == 7

    with pytest.raises(UsageError, match=r"^7 rows .* not written: 7 were refused, 0 came too fast\.") as said:
        asyncio.run(follow())

    assert "The first refusal: futures.trades: field 'ts_event_ns' is missing" in str(said.value)
    assert "\n" not in str(said.value)
    assert len(BronzeReader().arrow().read_futures_trades(front_month_only=False)) == 20
    assert ends() == [(False, str(said.value))]


def test_a_writer_that_is_too_slow_for_its_bus_says_at_its_stop_how_many_rows_it_lacks():
    bus = Bus(max_bytes=1)

    async def follow():
        writer = BronzeWriter(bus)
        await writer.start()
        bus.publish(Stream("futures.trades", "ES"), [delivered(TRADES, 10, start) for start in (0, 10, 20)])
        await writer.stop()

    with pytest.raises(UsageError, match=r"^20 rows .*: 0 were refused, 20 came too fast\. .* Next: ") as said:
        asyncio.run(follow())

    assert len(BronzeReader().arrow().read_futures_trades(front_month_only=False)) == 10
    assert ends() == [(False, str(said.value))]


def test_a_writer_follows_its_bus_while_bronze_refuses_and_nothing_is_lost(monkeypatch):
    bus = Bus()

    async def follow():
        writer = BronzeWriter(bus, buffer_limit=10, flush_interval_seconds=60)
        await writer.start()
        refused = asyncio.Event()
        publish, loop = durable.publish, asyncio.get_running_loop()

        def refuse_once(data, target):
            monkeypatch.setattr(durable, "publish", publish)
            loop.call_soon_threadsafe(refused.set)
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(durable, "publish", refuse_once)
        bus.publish(Stream("futures.trades", "ES"), [delivered(TRADES, 10)])
        await asyncio.wait_for(refused.wait(), 10)
        bus.publish(Stream("futures.trades", "ES"), [delivered(TRADES, 10, 10)])
        await writer.stop()

    asyncio.run(follow())

    assert len(BronzeReader().arrow().read_futures_trades(front_month_only=False)) == 20
    assert ends() == [(True, None)]


def test_a_flush_that_was_refused_is_tried_again_with_the_next_full_buffer_and_not_with_each_row(monkeypatch):
    def refuse(data, target):
        raise OSError(errno.EIO, "Input/output error")

    async def write():
        writer = BronzeWriter(buffer_limit=10, flush_interval_seconds=60)
        await writer.start()
        with monkeypatch.context() as disk:
            disk.setattr(durable, "publish", refuse)
            with pytest.raises(BronzeRefusedError):
                await writer.write("futures.trades", delivered(TRADES, 10))
            await writer.write("futures.trades", delivered(TRADES, 9, 10))
            with pytest.raises(BronzeRefusedError):
                await writer.write("futures.trades", delivered(TRADES, 1, 19))
        await writer.stop()

    asyncio.run(write())

    assert len(BronzeReader().arrow().read_futures_trades(front_month_only=False)) == 20


def ends() -> list[tuple[bool, str | None]]:
    with connect() as lake:
        return lake.execute("select complete, detail from system_captures where event = 'end'").fetchall()


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"symbol": "SPY"}, "stocks.trades: field 'ts_event_ns' is missing"),
        (TRADE | {"price": "dear"}, "stocks.trades: field 'price' 'dear' is no double"),
        (TRADE | {"siz": 5}, "stocks.trades: field 'siz' is not known"),
        (TRADE | {"size": 2.7}, "stocks.trades: field 'size' 2.7 is no int32"),
        (TRADE | {"ts_event_ns": 1.5}, "stocks.trades: field 'ts_event_ns' 1.5 is no int64"),
        (TRADE | {"ts_event_ns": 1765897200000000123.0}, "a float holds no nanoseconds"),
        (TRADE | {"ts_event_ns": True}, "it is true or false"),
        (TRADE | {"size": datetime(2025, 12, 22, tzinfo=UTC)}, "it is a time"),
        (TRADE | {"size": date(2025, 12, 22)}, "it is a date, a time of day or a duration"),
        (TRADE | {"participant_ts_ns": timedelta(microseconds=5)}, "it is a date, a time of day or a duration"),
        (TRADE | {"trade_id": 5.0}, "it is a number"),
        (TRADE | {"conditions": [1, 2.5]}, "stocks.trades: field 'conditions' .* is no list"),
        (TRADE | {"size": 2**40}, "stocks.trades: field 'size'"),
        (TRADE | {"symbol": "X" * 100}, "100 bytes long"),
    ],
)
def test_an_event_that_does_not_fit_is_refused_in_one_line_and_nothing_is_written(event, line):
    async def write():
        writer = BronzeWriter()
        try:
            await writer.write_stock_trade(event)
        finally:
            await writer.stop()

    with pytest.raises(UsageError, match=line):
        asyncio.run(write())
    assert len(BronzeReader().arrow().read("stocks.trades", "SPY")) == 0


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ({"prise": pa.array([1.0])}, "stocks.trades: field 'prise' is not known"),
        ({"size": pa.array([2.7])}, "stocks.trades: field 'size' is double, not int32"),
        ({"ts_event_ns": pa.array([float(NOON_NS)])}, "a float holds no nanoseconds"),
        ({"ts_event_ns": pa.array([float(NOON_NS)]).dictionary_encode()}, "a float holds no nanoseconds"),
        ({"ts_event_ns": pa.array([NOON_NS // 10**6]).cast(pa.date64())}, "it is a date, a time of day or a duration"),
    ],
)
def test_columns_that_are_misspelt_or_would_be_cut_are_refused_in_one_line_and_nothing_is_written(column, line):
    async def write():
        writer = BronzeWriter()
        columns = {"ts_event_ns": pa.array([NOON_NS]), "symbol": pa.array(["SPY"]), "price": pa.array([1.0])} | column
        try:
            await writer.write("stocks.trades", pa.RecordBatch.from_pydict(columns))
        finally:
            await writer.stop()

    with pytest.raises(UsageError, match=line):
        asyncio.run(write())
    assert len(BronzeReader().arrow().read("stocks.trades", "SPY")) == 0


def test_whole_numbers_in_any_form_and_what_is_ours_to_fill_are_written():
    more = SimpleNamespace(**TRADE, comment="of the user's own")
    more.size, more.conditions = 7.0, (1, 2)

    async def write():
        writer = BronzeWriter()
        await writer.write_stock_trade(more)
        await writer.flush_all()
        for batch in BronzeReader().arrow().read("stocks.trades", "SPY").to_batches():
            await writer.write("stocks.trades", batch)  # with capture_id, date and hour of its own
        await writer.stop()

    asyncio.run(write())
    first, second = BronzeReader().arrow().read("stocks.trades", "SPY").to_pylist()
    assert first["size"] == second["size"] == 7
    assert first["conditions"] == second["conditions"] == [1, 2]
    assert first["capture_seq"] + 1 == second["capture_seq"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_a_time_of_any_unit_and_zone_is_the_same_moment_at_both_doors_and_what_is_no_number_is_null(unit, zone):
    stamps = pa.array([NOON_NS]).cast(pa.timestamp("ns", zone)).cast(pa.timestamp(unit, zone))
    columns = {"ts_event_ns": stamps, "symbol": pa.array(["SPY"]), "price": pa.array([math.nan])}
    moment = datetime.fromtimestamp(NOON_NS / 10**9, UTC)

    async def write():
        writer = BronzeWriter()
        await writer.write("stocks.trades", pa.RecordBatch.from_pydict(columns))
        await writer.write_stock_trade(TRADE | {"ts_event_ns": moment, "price": math.nan})
        await writer.stop()

    asyncio.run(write())
    rows = BronzeReader().arrow().read("stocks.trades", "SPY").to_pylist()
    assert [(row["ts_event_ns"], row["price"]) for row in rows] == [(NOON_NS, None)] * 2


def test_a_moment_of_pandas_keeps_its_nanoseconds_and_none_of_them_is_null():
    moment = pd.Timestamp(NOON_NS + 123, tz="America/New_York")

    async def write():
        writer = BronzeWriter()
        await writer.write_stock_trade(TRADE | {"ts_event_ns": moment, "participant_ts_ns": pd.NaT})
        await writer.stop()

    asyncio.run(write())
    (row,) = BronzeReader().arrow().read("stocks.trades", "SPY").to_pylist()
    assert (row["ts_event_ns"], row["participant_ts_ns"]) == (NOON_NS + 123, None)


def test_a_second_writer_and_a_manager_are_refused_while_one_writes():
    async def write():
        writer = BronzeWriter()
        await writer.start()
        with pytest.raises(LockedError):
            WALManager().recover_all()
        with pytest.raises(LockedError):
            await BronzeWriter().start()
        await writer.stop()

    asyncio.run(write())


def test_a_bus_of_another_kind_is_refused_in_one_line_and_nothing_is_opened(roots):
    writer = BronzeWriter(bus=SimpleNamespace(subscribe=lambda handler: handler))

    with pytest.raises(UsageError, match="^bus: a SimpleNamespace is no spymaster.bus.Bus. Nothing was opened"):
        asyncio.run(writer.start())
    assert not list(roots.iterdir())
    WALManager().recover_all()  # its locks are free


def test_object_storage_is_refused():
    with pytest.raises(UsageError, match="not built yet"):
        BronzeWriter(use_s3=True)


def test_a_recovered_batch_is_columns():
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == -9

    assert all(isinstance(batch, pa.RecordBatch) for batch in WALManager().recover_all().batches())


def test_a_writer_that_was_refused_the_lock_writes_nothing_afterwards(roots):
    async def write():
        holder, refused = BronzeWriter(), BronzeWriter()
        await holder.write_stock_trade(TRADE)
        for _ in range(2):
            with pytest.raises(LockedError):
                await refused.write_stock_trade(TRADE | {"seq": 2})
        await holder.stop()

    asyncio.run(write())
    assert len(BronzeReader().arrow().read("stocks.trades", "SPY")) == 1


def test_concurrent_writes_share_one_numbering():
    async def write():
        writer = BronzeWriter()
        await asyncio.gather(*(writer.write_stock_trade(TRADE | {"seq": seq}) for seq in range(20)))
        await writer.stop()

    asyncio.run(write())
    stored = BronzeReader().arrow().read("stocks.trades", "SPY")
    assert sorted(stored["capture_seq"].to_pylist()) == list(range(20))
    assert len(set(stored["capture_id"].to_pylist())) == 1


def test_of_a_batch_with_a_symbol_that_cannot_be_stored_no_row_is_written():
    batch = pa.concat_batches([delivered(TRADES, 2), delivered(TRADES, 2, symbol="X" * 65)])

    async def write():
        writer = BronzeWriter()
        with pytest.raises(UsageError, match="65 bytes long"):
            await writer.write("futures.trades", batch)
        await writer.stop()

    asyncio.run(write())
    assert len(BronzeReader().arrow().read("futures.trades", "ES")) == 0

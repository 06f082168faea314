"""Option trades with the greeks that were known then, against two engines that join by other means."""

import hashlib
import struct
from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import events
from spymaster.compaction.enrich import enrich, greeks_for
from spymaster.lake import silver
from spymaster.paths import Partition
from tests.compaction.silver_oracle import flush
from tests.rows import NOON_NS, numbered
from tests.silver_files import compacted

SECOND_NS = 1_000_000_000
TOLERANCE_NS = 10 * SECOND_NS
NAMES = [column.name for column in silver.ENRICHMENT]

# The rule again, for an engine that was not asked to be quick. A notional: delta * (size * multiplier).
ORACLE = """
with latest as (
  select * from greeks
  qualify row_number() over (
    partition by option_symbol, ts_recv_ns order by ts_event_ns desc, capture_id desc, capture_seq desc
  ) = 1
), joined as (
  select t.number, t.size * coalesce(shares_per_contract, case underlying when 'SPY' then 100 when 'ES' then 50 end)
           as units,
         g.*, t.ts_event_ns - g.ts_recv_ns as age
  from trades t asof left join latest g on t.option_symbol = g.option_symbol and t.ts_event_ns >= g.ts_recv_ns
)
select case when age <= $1 then snapshot_id end, case when age <= $1 then age end, case when age <= $1 then delta end,
       case when age <= $1 then gamma end, case when age <= $1 then delta * units end,
       case when age <= $1 then gamma * units end
from joined order by number
"""


def some(values, chance, share=0.05) -> pa.Array:
    """Return values of which some are null."""
    return pa.array(values, mask=chance.random(len(values)) < share)


def market(trades: int, greeks: int, options: int, seed: int = 1, hours: float = 6.5) -> tuple[pa.Table, pa.Table]:
    """Return a day: a few options trade much; snapshots come in pages, so that receipts are equal, and in disorder."""
    chance = np.random.default_rng(seed)
    day = int(hours * 3600 * SECOND_NS)
    names = np.array([f"O:SPY251222C{number:08d}" for number in range(options)])
    busy = np.minimum((chance.pareto(1.2, trades) * 20).astype(int), options - 1)
    received = NOON_NS + chance.integers(0, day, greeks) // SECOND_NS * SECOND_NS
    left = pa.table(
        {
            "ts_event_ns": NOON_NS + chance.integers(0, day, trades) // 10**6 * 10**6,  # whole seconds among them
            "underlying": pa.array(chance.choice(["SPY", "ES", "XYZ"], trades)),
            "option_symbol": some(names[busy], chance, 0.01),
            "size": some(chance.integers(1, 500, trades).astype(np.int32), chance),
        }
    )
    right = pa.table(
        {
            "ts_event_ns": received - chance.integers(0, 3, greeks),
            "ts_recv_ns": received,
            "option_symbol": pa.array(names[chance.integers(0, options, greeks)]),
            "delta": some(chance.uniform(-1, 1, greeks), chance),
            "gamma": some(chance.uniform(0, 1, greeks), chance),
            "snapshot_id": pa.array([f"{number:032x}" for number in range(greeks)], pa.string()),
            "shares_per_contract": some(np.full(greeks, 10, np.int32), chance, 0.9),
            "capture_id": chance.integers(1, 3, greeks),
            "capture_seq": chance.permutation(greeks),
        }
    )
    return left, right


def columns(table: pa.Table) -> dict[str, list]:
    return {name: table[name].to_pylist() for name in NAMES}


def by_sql(trades: pa.Table, greeks: pa.Table) -> dict[str, list]:
    with duckdb.connect() as connection:
        connection.execute("set asof_loop_join_threshold = 0")
        connection.register("trades", trades.append_column("number", pa.array(np.arange(trades.num_rows))))
        connection.register("greeks", greeks)
        found = connection.sql(ORACLE, params=[TOLERANCE_NS]).to_arrow_table()
    return {name: column.to_pylist() for name, column in zip(NAMES, found.columns, strict=True)}


def test_a_day_agrees_row_for_row_with_polars_and_with_sql():
    trades, greeks = market(100_000, 50_000, 40)
    enriched = enrich(trades, greeks, TOLERANCE_NS)

    left = pl.DataFrame(trades).with_row_index("number").sort("ts_event_ns")
    right = pl.DataFrame(greeks).sort("ts_recv_ns", "ts_event_ns", "capture_id", "capture_seq")
    joined = left.join_asof(
        right.select("ts_recv_ns", "option_symbol", "snapshot_id", "delta", "gamma"),
        left_on="ts_event_ns", right_on="ts_recv_ns", by="option_symbol", strategy="backward", tolerance=TOLERANCE_NS,
    ).sort("number")  # fmt: skip
    assert enriched.select(trades.column_names).equals(trades)
    for ours, theirs in (("greeks_snapshot_id", "snapshot_id"), ("delta", "delta"), ("gamma", "gamma")):
        assert enriched[ours].to_pylist() == joined[theirs].to_list(), ours
    assert columns(enriched) == by_sql(trades, greeks)
    covered = trades.num_rows - enriched["greeks_snapshot_id"].null_count
    assert 0.1 < covered / trades.num_rows < 0.9


@pytest.mark.parametrize("seed", range(40))
def test_small_days_full_of_equal_times_agree_with_sql(seed):
    chance = np.random.default_rng(seed)
    trades, greeks = market(*chance.integers(0, 60, 2).tolist(), 3, seed, hours=0.01)

    assert columns(enrich(trades, greeks, TOLERANCE_NS)) == by_sql(trades, greeks)


def test_nothing_that_comes_later_changes_what_was_known():
    trades, greeks = market(2_000, 20_000, 20, hours=1)
    cut = NOON_NS + 1800 * SECOND_NS
    then = trades.filter(pa.array(trades["ts_event_ns"].to_numpy() < cut))
    known = greeks.filter(pa.array(greeks["ts_recv_ns"].to_numpy() < cut))
    whole = enrich(trades, greeks, TOLERANCE_NS)

    assert columns(whole.filter(pa.array(trades["ts_event_ns"].to_numpy() < cut))) == columns(
        enrich(then, known, TOLERANCE_NS)
    )
    assert known.num_rows < greeks.num_rows
    assert whole["greeks_snapshot_id"].null_count < trades.num_rows // 2


def trade(*, stamp=NOON_NS, underlying="SPY", option="O:A", size=3) -> dict:
    return {"ts_event_ns": stamp, "underlying": underlying, "option_symbol": option, "size": size}


def snapshot(name="one", *, received=NOON_NS, updated=NOON_NS, option="O:A", delta=0.5, gamma=0.25, shares=None, seq=0):
    return {
        "ts_event_ns": updated, "ts_recv_ns": received, "option_symbol": option, "delta": delta, "gamma": gamma,
        "snapshot_id": name, "shares_per_contract": shares, "capture_id": 1, "capture_seq": seq,
    }  # fmt: skip


def enriched_row(trade_: dict, *snapshots: dict) -> list:
    bronze = events.OPTIONS_TRADES.bronze
    left = pa.Table.from_pylist([trade_], pa.schema([bronze.field(name) for name in trade_]))
    bronze = events.OPTIONS_GREEKS_SNAPSHOTS.bronze
    right = pa.Table.from_pylist(list(snapshots), pa.schema([bronze.field(name) for name in snapshot()]))
    done = enrich(left, right, TOLERANCE_NS)
    assert list(done.schema)[-len(NAMES) :] == list(silver.ENRICHMENT)
    return [done[name][0].as_py() for name in NAMES]


NOTHING = [None] * len(NAMES)


def test_a_snapshot_counts_from_the_instant_of_its_receipt_to_the_tolerance_inclusive():
    for age in (0, 1, TOLERANCE_NS):
        assert enriched_row(trade(stamp=NOON_NS + age), snapshot())[:2] == ["one", age]
    for age in (-1, TOLERANCE_NS + 1):
        assert enriched_row(trade(stamp=NOON_NS + age), snapshot()) == NOTHING


def test_a_snapshot_counts_by_its_receipt_though_the_vendor_updated_it_long_before():
    old = snapshot("old", updated=NOON_NS - 86_400 * SECOND_NS, received=NOON_NS)
    unheard = snapshot("unheard", updated=NOON_NS - 1, received=NOON_NS + 5)

    assert enriched_row(trade(stamp=NOON_NS + 1), old, unheard)[0] == "old"


def test_of_snapshots_that_came_together_the_last_updated_counts_and_then_the_last_numbered():
    first, second = snapshot("first", updated=NOON_NS - 2), snapshot("second", updated=NOON_NS - 1)
    third = snapshot("third", updated=NOON_NS - 1, seq=1)

    assert enriched_row(trade(), second, first)[0] == "second"
    assert enriched_row(trade(), third, second, first)[0] == "third"


def test_the_latest_counts_though_it_has_no_greeks():
    bare = snapshot("bare", received=NOON_NS + 1, delta=None)

    assert enriched_row(trade(stamp=NOON_NS + 1), snapshot(), bare) == ["bare", 0, None, 0.25, None, 75.0]


@pytest.mark.parametrize(
    ("underlying", "shares", "notional"), [("SPY", None, 150.0), ("ES", None, 75.0), ("SPY", 10, 15.0), ("X", 7, 10.5)]
)
def test_a_notional_is_by_the_units_that_the_snapshot_gives_or_else_the_root_implies(underlying, shares, notional):
    row = enriched_row(trade(underlying=underlying), snapshot(shares=shares))

    assert row == ["one", 0, 0.5, 0.25, notional, notional / 2]


def test_what_is_not_known_stays_null():
    assert enriched_row(trade(underlying="X"), snapshot()) == ["one", 0, 0.5, 0.25, None, None]
    assert enriched_row(trade(size=None), snapshot()) == ["one", 0, 0.5, 0.25, None, None]
    assert enriched_row(trade(option=None), snapshot()) == NOTHING
    assert enriched_row(trade(option="O:B"), snapshot()) == NOTHING
    assert enriched_row(trade()) == NOTHING


def test_no_trades_are_enriched_to_none():
    trades, greeks = market(0, 10, 3)

    assert enrich(trades, greeks, TOLERANCE_NS).num_rows == 0


HOUR = Partition("options.trades", "underlying", "SPY", "2025-12-22", 12)


def write_greeks(data_root, day: str, received: list[int], first_seq: int) -> None:
    """Write the Silver of greeks that the vendor updated on a date, in no order of receipt."""
    schema = events.OPTIONS_GREEKS_SNAPSHOTS
    rows = numbered(schema, len(received), first_seq, capture_id=9, symbol="SPY")
    rows = rows.set_column(rows.schema.get_field_index("ts_recv_ns"), schema.log.field("ts_recv_ns"), [received])
    target = silver.file_of(data_root, Partition(schema.name, "underlying", "SPY", day, None))
    target.parent.mkdir(parents=True)
    pq.write_table(rows.append_column("date", pa.repeat(day, rows.num_rows)), target)


def test_the_greeks_of_an_hour_are_those_received_from_the_tolerance_before_it_to_its_end(tmp_path):
    begin, end = NOON_NS, NOON_NS + 3600 * SECOND_NS
    edge = begin - TOLERANCE_NS
    oldest = date.fromisoformat(HOUR.date) - timedelta(days=silver.DAYS_BEFORE)
    write_greeks(tmp_path, "2025-12-22", [edge - 1, edge, begin, end - 1, end], 0)
    write_greeks(tmp_path, oldest.isoformat(), [begin + 1, edge - 1], 100)
    write_greeks(tmp_path, (oldest - timedelta(days=1)).isoformat(), [begin + 1], 200)
    rows, digest = greeks_for(tmp_path, HOUR, TOLERANCE_NS)

    assert sorted(rows["capture_seq"].to_pylist()) == [1, 2, 3, 100]
    assert digest == hashlib.sha256(struct.pack("<8q", 9, 9, 9, 9, 1, 2, 3, 100)).digest()
    assert greeks_for(tmp_path, HOUR._replace(hour=13), TOLERANCE_NS).rows["capture_seq"].to_pylist() == [3, 4]
    assert greeks_for(tmp_path, HOUR._replace(value="QQQ"), TOLERANCE_NS).rows.num_rows == 0


def test_where_there_are_no_greeks_trades_stay_as_they_are(tmp_path):
    rows, digest = greeks_for(tmp_path, HOUR, TOLERANCE_NS)
    trades, _ = market(10, 0, 3)

    assert enrich(trades, rows, TOLERANCE_NS)["greeks_snapshot_id"].null_count == 10
    assert digest == hashlib.sha256(b"").digest()


def test_a_trade_in_the_last_hour_of_64_bits_is_compacted(tmp_path):
    rows = numbered(events.OPTIONS_TRADES, 1, symbol="SPY")
    place = rows.schema.get_field_index("ts_event_ns")
    rows = rows.set_column(place, rows.schema.field(place), pa.array([2**63 - 1]))
    flush(tmp_path, events.OPTIONS_TRADES, rows, "SPY")

    (result,) = compacted(tmp_path / "lake")

    assert (result.status, result.counts.rows_out) == ("compacted", 1)

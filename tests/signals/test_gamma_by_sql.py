"""The SQL of docs/engines.md, over a lake that was recorded of a simulated market, says what the judge says."""

import re
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.option_model import Terms, implied, value
from spymaster.engines.option_rows import SCHEMAS
from spymaster.engines.profile import profile_named
from spymaster.events import (
    FUTURES_MBP10,
    OPTIONS_GREEKS_SNAPSHOTS,
    OPTIONS_QUOTES,
    OPTIONS_TRADES,
    REFERENCE_STATISTICS,
    Stream,
)
from spymaster.normalize.open import normalizer_of
from spymaster.query.lake import Lake
from spymaster.signals.sight import STRIKE_COLUMNS, gamma_document
from spymaster.signals.warm_up import WarmUp
from spymaster.simulation.source import SimulatedMarket, dbn_info
from tests.signals.recordings import FRONT, NOON_NS, SECOND, SESSION, Recording, arrived, last_of, numbered, stored

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
BLOCKS = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
ES = profile_named("ES")
NS = 130 * SECOND  # two minutes, of which the change of the pressure is made, and more
MESSAGES = 64  # that are normalized at once
WANTED = {FUTURES_MBP10, *SCHEMAS}


def recorded(root):
    """Record a market of which the venue says less than it could, so that each rule is needed somewhere."""
    market, recording, parts, waiting = SimulatedMarket(5, 700, NOON_NS, ("turns",)), Recording(root), {}, []
    normalizer = normalizer_of(dbn_info(market).encoding, origin="sim", simulated=True)
    for message in market.blocks():
        waiting.append(message)
        if len(waiting) < MESSAGES:
            continue
        for schema, part in normalizer.normalize([(b"".join(waiting), None)]).batches:
            if schema in WANTED:
                parts.setdefault(schema, []).append(part)
        waiting = []
        if parts[FUTURES_MBP10][-1].column("ts_event_ns")[-1].as_py() > NOON_NS + NS:
            break
    parts[OPTIONS_GREEKS_SNAPSHOTS] = [greeks_of(parts[OPTIONS_TRADES])]
    for schema, some in parts.items():
        (rows,) = pa.Table.from_batches(some).combine_chunks().to_batches()
        rows = silenced(schema, arrived(rows, rows.column("ts_recv_ns")))
        recording.write([(Stream(schema.name, "ES"), numbered(schema, rows, 0, 7))])
    return recording.drain()


def greeks_of(trades):
    """Return greeks of some options, as a vendor's that come twice: good for the prints of ten seconds each."""
    said = [row for batch in trades for row in batch.to_pylist() if row["strike"] % 70 == 0]
    terms = ("underlying", "option_symbol", "strike", "right", "exp_date")
    rows = [
        {name: row[name] for name in terms}
        | {"ts_event_ns": at, "ts_recv_ns": at, "source": "sim", "implied_volatility": 0.11 + after / SECOND / 1_000}
        for after in (20 * SECOND, 100 * SECOND)
        for at in [NOON_NS + after]
        for row in {one["option_symbol"]: one for one in said}.values()
    ]
    return stored(pa.RecordBatch.from_pylist(rows, schema=OPTIONS_GREEKS_SNAPSHOTS.delivered))


def silenced(schema, rows):
    """Leave out the aggressors of most strikes, the quotes of others, and the exchange's volatility of others still."""
    if schema == OPTIONS_TRADES:
        at = rows.schema.get_field_index("aggressor")
        said = np.where(strikes_of(rows) % 40 == 10, rows.column(at).to_numpy(), 0)
        return rows.set_column(at, rows.schema.field(at), pa.array(said, pa.int8()))
    if schema == OPTIONS_QUOTES:
        return rows.filter(pa.array(strikes_of(rows) % 20 != 0))
    if schema == REFERENCE_STATISTICS:
        days = rows.column("exp_date").cast(pa.int32()).to_numpy(zero_copy_only=False)
        unsaid = (strikes_of(rows) % 30 == 0) | (days == np.nanmax(days))
        return rows.filter(pa.array(~unsaid | (np.array(rows.column("kind").to_pylist()) != "volatility")))
    return rows


def strikes_of(rows):
    return rows.column("strike").to_numpy(zero_copy_only=False)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def told(recording):
    """Return what the judge says of its last snap, and what SQL does: single figures by name, and strikes."""
    snap = last_of(WarmUp(recording.data, recording.wal, ES, SESSION, FRONT).catch_up({}))
    figures, strikes = {}, []
    with Lake(recording.data, recording.wal) as lake:
        for block in BLOCKS:
            answer = lake.execute(block)
            if block.startswith("create"):
                if "table asked" in block:
                    asked = [snap.snap_ns, snap.gamma.looked_ns]
                    lake.execute("update asked set snap_ns = ?, looked_ns = ?", asked)
                continue
            names, rows = [column[0] for column in answer.description], answer.fetchall()
            if names == list(STRIKE_COLUMNS):
                strikes = rows
            else:
                (row,) = rows
                figures |= dict(zip(names, row, strict=True))
    return gamma_document(snap, "ES", "ES"), figures, np.array(strikes)


def test_counts_are_the_same(told):
    shares, by_sql, _ = told[0]["shares"], told[1], told[2]

    assert shares["prints"] == by_sql["prints"] > 500
    for of in ("aggressor", "volatility"):
        assert {name: count for name, count in shares[of].items() if count} == by_sql[of]
    assert min(shares["aggressor"].values()) > 0
    assert set(by_sql["volatility"]) >= {"snapshot", "print", "strike", "near"}
    for name in ("open_interest", "open_interest_valued"):
        assert shares[name] == by_sql[name] > 0


def test_walls_flip_and_turn_are_the_same(told):
    said, by_sql, _ = told

    assert (said["call_wall"], said["put_wall"]) == (by_sql["call_wall"], by_sql["put_wall"])
    assert said["gamma_flip"] == pytest.approx(by_sql["gamma_flip"], abs=1e-4)
    assert said["flow_turn"] == {"ts_event_ns": by_sql["turn_ns"], "dealers": by_sql["turn"]}


def test_gamma_by_strike_is_the_same_to_a_millionth(told):
    said, _, by_sql = told

    ours = np.array([list(row.values()) for row in said["strikes"]])
    assert ours[:, 0].tolist() == by_sql[:, 0].tolist()
    assert ((ours != 0).sum(axis=0) > 20).all()
    assert by_sql == pytest.approx(ours, rel=1e-6, abs=1e-4)


def test_pressure_and_fuel_are_the_same(told):
    said, by_sql, _ = told

    assert by_sql["pressure"] == pytest.approx(said["pressure"], rel=1e-6, abs=1e-4)
    assert by_sql["pressure_change"] == pytest.approx(said["pressure_change"], rel=1e-6, abs=1e-4)
    assert said["pressure_change"] not in (0.0, said["pressure"])
    for name in ("net", "error", "prints"):
        assert by_sql[f"fuel_{name}"] == pytest.approx(said["fuel"][name], rel=1e-6)


def test_the_exchanges_volatility_and_delta_are_ours(told, recording):
    """What is left is a tick of the settlement, half a tick of the future's, and that nothing is discounted there."""
    with Lake(recording.data, recording.wal) as lake:
        (forward,) = lake.execute("""
            select price from reference_statistics where contract = 'ESZ5' and kind = 'settlement_price'
        """).fetchone()
        rows = lake.execute("""
            with said as (
                pivot (select contract, kind, price, ts_event_ns from reference_statistics where price is not null)
                on kind using last(price)
            )
            select s.*, strike, instrument_class = 'C' as is_call, (expiration_ns - s.ts_event_ns) / 1e9 as seconds
            from said s join reference_instruments d on d.contract = s.contract and record = 'definition'
            where volatility > 0
        """).fetchnumpy()
    years = rows["seconds"] / (365 * 86_400)
    forwards = np.full(len(years), forward)
    terms = Terms(forwards, rows["strike"], years, np.exp(-ES.options.rate * years), rows["is_call"])
    vol = implied(terms, rows["settlement_price"], ES.options.least_time_value_ticks * ES.options.tick)
    known = ~np.isnan(vol)
    vols = np.abs(vol - rows["volatility"])[known]
    deltas = np.abs(value(terms, vol).delta - rows["delta"])[known]

    assert known.sum() == told[1]["compared"] > 200
    assert np.median(vols) == pytest.approx(told[1]["vol_apart"], rel=1e-6)
    assert np.median(deltas) == pytest.approx(told[1]["delta_apart"], rel=1e-6)
    assert np.median(vols) < 0.001 < vols.max() < 0.02
    assert np.median(deltas) < 0.001 < deltas.max() < 0.01


def test_where_the_exchange_says_no_volatility_none_is_compared():
    """As of all the real files that we have."""
    names = "symbol varchar, contract varchar, kind varchar, price double, ts_event_ns bigint, update_code int"
    with duckdb.connect() as lake:
        lake.execute(BLOCKS[0] + BLOCKS[1])
        lake.execute(f"create table reference_statistics ({names}, session_date date)")
        lake.execute("create table options (option varchar, strike double, is_call bool, expires_ns bigint)")
        assert lake.execute(BLOCKS[-1]).fetchall() == [(0, None, None)]

"""Rows of options: in the order of events however they come, of plain options alone, and as normalizers make them."""

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.option_rows import NO_DAY, option_rows
from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS, OPTIONS_QUOTES, OPTIONS_TRADES, REFERENCE_INSTRUMENTS
from spymaster.events.encoding import MassiveFrames
from spymaster.normalize.open import normalizer_of
from spymaster.simulation.deliveries import DbnWriter, OptionWriter
from spymaster.simulation.source import SimulatedMarket, dbn_info
from tests.engines.option_batches import CALL, NOON, PUT, batch, batches, definition, greeks, quote, statistic, trade
from tests.engines.option_tapes import definition_batch, quote_batch, recorded, trade_batch

LATER = "E1BZ5 C6950"


def test_rows_are_in_the_order_of_time_capture_and_number_however_they_come():
    rows = [
        trade(3, CALL, 1.0), trade(2, PUT, 2.0, capture_id=9, capture_seq=1),
        trade(2, LATER, 3.0, capture_id=8, capture_seq=5), trade(2, CALL, 4.0, capture_id=8, capture_seq=4),
        trade(1, PUT, 5.0),
    ]  # fmt: skip
    whole = option_rows(batches(trades=rows)).prints

    assert whole.values["price"].tolist() == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert whole.contracts.names == (PUT, CALL, LATER)
    assert whole.contract.tolist() == [0, 1, 2, 0, 1]
    for order in ([4, 3, 2, 1, 0], [1, 0, 2, 4, 3]):
        one = batch(OPTIONS_TRADES, rows).take(pa.array(order))
        cut = option_rows({OPTIONS_TRADES.name: [one.slice(0, 2), one.slice(2)]}).prints
        assert [column.tolist() for column in (cut.contract, cut.ts_ns, cut.values["price"])] == [
            column.tolist() for column in (whole.contract, whole.ts_ns, whole.values["price"])
        ]
        assert cut.contracts.names == whole.contracts.names


def test_what_is_not_said_is_not_zero():
    rows = option_rows(batches(
        quotes=[quote(1, CALL, None, 1.2)],
        trades=[trade(1, CALL, None, size=None, exp_date=None, strike=None, right=None, aggressor=-1)],
        greeks=[greeks(CALL, implied_volatility=None, open_interest=None)],
    ))  # fmt: skip

    assert np.isnan(rows.quotes.values["bid_px"]).tolist() == [True]
    assert np.isnan(rows.prints.values["price"]).tolist() == [True]
    assert rows.prints.values["aggressor"].tolist() == [-1]
    assert (rows.prints.contracts.exp_day[0], rows.prints.contracts.right[0]) == (NO_DAY, 0)
    assert rows.greeks.values["open_interest"].tolist() == [-1]


def test_futures_and_combinations_and_what_was_taken_back_are_left_out():
    defined = [
        definition(CALL, NOON), definition("ESZ5 C0", NOON, instrument_class="F"),
        definition("ESZ5 C0", NOON, instrument_class="T"),
    ]  # fmt: skip
    said = [
        statistic(CALL, "open_interest", quantity=5), statistic(CALL, "open_interest", quantity=6, update_code=2),
        statistic(CALL, "opening_price", price=5.0), statistic(CALL, "open_interest", quantity=9, right=None),
    ]  # fmt: skip
    rows = option_rows(batches(definitions=defined, statistics=said, trades=[trade(1, CALL, 1.0, option_symbol=None)]))

    assert rows.definitions.contracts.names == (CALL,)
    assert rows.statistics.values["quantity"].tolist() == [5]
    assert len(rows.prints.ts_ns) == 0


def test_nothing_is_no_rows():
    assert [len(rows.ts_ns) for rows in option_rows({})] == [0] * 5


@pytest.mark.parametrize("root", ["ES", "SPY"])
def test_tapes_are_the_rows_that_the_normalizers_make(root):
    market, seconds = SimulatedMarket(3, 200, NOON), 10
    tape = recorded(market, seconds, root)
    encoding = dbn_info(market).encoding if root == "ES" else MassiveFrames("options", "SPY")
    normalizer = normalizer_of(encoding, origin="sim", simulated=True)
    writer, made, seq = DbnWriter(market.seed) if root == "ES" else OptionWriter(), {}, 0
    for step in market.session(with_spy=root == "SPY").steps():
        if step.begin >= NOON + seconds * 10**9:
            break
        for sent in writer.write(step):
            messages = [b"".join(sent)] if root == "ES" else sent
            found = normalizer.normalize([(message, NOON) for message in messages])
            for schema, delivered in found.batches:
                count = delivered.num_rows
                keys = [pa.array(np.full(count, 7)), pa.array(np.arange(seq, seq + count))]
                seq += count
                made.setdefault(schema.name, []).append(
                    pa.RecordBatch.from_arrays([*delivered.columns, *keys], schema=schema.log)
                )
    ours = {OPTIONS_TRADES.name: [trade_batch(tape, said=root == "ES")], OPTIONS_QUOTES.name: [quote_batch(tape)]}
    if root == "ES":
        ours[REFERENCE_INSTRUMENTS.name] = [definition_batch(tape, 50.0)]
    one, other = option_rows(made), option_rows(ours)

    kinds = ("prints", "quotes") + ("definitions",) * (root == "ES")
    for kind in kinds:
        theirs, mine = getattr(one, kind), getattr(other, kind)
        assert len(mine.ts_ns) > 50
        assert facts(theirs, kind) == facts(mine, kind)
    assert OPTIONS_GREEKS_SNAPSHOTS.name not in made


def facts(rows, kind):
    """Return what rows say, in any order, 0 as none; of definitions, what is not their time."""
    contracts = rows.contracts
    values = [np.nan_to_num(column) if column.dtype.kind == "f" else column for column in rows.values.values()]
    times = rows.ts_ns if kind != "definitions" else np.zeros(len(rows.ts_ns))
    days = contracts.exp_day if kind != "definitions" else np.zeros(len(contracts.names))
    return sorted(
        (
            contracts.names[index],
            contracts.strike[index],
            contracts.right[index],
            days[index],
            at,
            *(c[place] for c in values),
        )
        for place, (index, at) in enumerate(zip(rows.contract.tolist(), times.tolist(), strict=True))
    )

"""`event_id` is the MD5 of a fixed layout, which anyone computes in one line; these vectors never change."""

import hashlib
import struct

import numpy as np
import pyarrow as pa
import pytest

from spymaster import events
from spymaster.events.identity import event_ids, identity_of
from tests.rows import NOON_NS, numbered

NULL = -(2**63)


def one_line(row, *more):
    """The layout as the documentation gives it."""
    price = NULL if row["price"] is None else round(row["price"] * 1e9)
    numbers = [row["ts_event_ns"], price, *(NULL if row[name] is None else row[name] for name in ("size", "seq"))]
    named = f"{row['source']}|{row['instrument']}".encode()
    return hashlib.md5(struct.pack("<64s4q", named, *numbers) + b"".join(more), usedforsecurity=False).hexdigest()


def ids(schema, **columns):
    """Return the ids of rows that have nulls where no column is given."""
    count = max(len(values) for values in columns.values())
    made = [
        pa.array(columns[column.name], column.type) if column.name in columns else pa.nulls(count, column.type)
        for column in schema.log
    ]
    rows = pa.table(made, schema=pa.schema([column.with_nullable(True) for column in schema.log]))
    return [value.hex() for value in event_ids(identity_of(schema, rows)).to_pylist()]


def number(value):
    return struct.pack("<q", NULL if value is None else value)


def text(value):
    return b"\xff" * 64 if value is None else value.encode().ljust(64, b"\0")


def test_a_futures_trade_is_the_layout_and_then_aggressor_and_publisher():
    (found,) = ids(
        events.FUTURES_TRADES, ts_event_ns=[NOON_NS], source=["databento.glbx"], contract=["ESZ5"], price=[6900.25],
        size=[3], seq=[77], aggressor=[-1], publisher_id=[1],
    )  # fmt: skip

    row = {"source": "databento.glbx", "instrument": "ESZ5", "price": 6900.25, "size": 3, "seq": 77}
    assert found == one_line(row | {"ts_event_ns": NOON_NS}, number(-1), number(1))
    assert found == "59ee2980c6a65e7524061c2dabf0df35"


def test_a_stock_trade_of_massive_has_its_time_floored_to_the_millisecond_and_a_block_for_its_trade_id():
    (live, history) = ids(
        events.STOCKS_TRADES, ts_event_ns=[NOON_NS, NOON_NS + 987_654], source=["massive.stocks"] * 2,
        symbol=["SPY"] * 2, price=[687.2501] * 2, size=[None, None], seq=[5, 5], exchange=[4, 4],
        trade_id=["52983525029461"] * 2,
    )  # fmt: skip

    row = {"source": "massive.stocks", "instrument": "SPY", "price": 687.2501, "size": None, "seq": 5}
    more = number(None), number(4), number(None), text("52983525029461")
    assert live == history == one_line(row | {"ts_event_ns": NOON_NS}, *more)
    assert live == "c4537c38ed0756fa09b1d4c5d44ca3f5"


def test_a_greeks_snapshot_has_no_price_size_or_seq_but_the_time_of_its_receipt():
    (found,) = ids(
        events.OPTIONS_GREEKS_SNAPSHOTS, ts_event_ns=[NOON_NS], source=["massive.options"],
        option_symbol=["O:SPY251222C00687000"], snapshot_id=["ab" * 32], ts_recv_ns=[NOON_NS + 7],
    )  # fmt: skip

    row = {"source": "massive.options", "instrument": "O:SPY251222C00687000", "price": None, "size": None, "seq": None}
    assert found == one_line(row | {"ts_event_ns": NOON_NS}, text("ab" * 32), number(NOON_NS + 7))


def test_an_empty_text_a_missing_one_a_long_one_and_one_that_ends_in_zero_are_four_different_blocks():
    long = "x" * 65
    found = ids(
        events.STOCKS_TRADES, ts_event_ns=[NOON_NS] * 4, source=["sim"] * 4, symbol=["SPY"] * 4,
        trade_id=["", None, long, "\0"],
    )  # fmt: skip

    row = {"source": "sim", "instrument": "SPY", "price": None, "size": None, "seq": None, "ts_event_ns": NOON_NS}
    before = [number(None)] * 3
    hashed = [text(hashlib.sha256(given.encode()).hexdigest()) for given in (long, "\0")]
    assert found == [one_line(row, *before, block) for block in (text(""), text(None), *hashed)]


def test_no_instrument_and_an_empty_one_are_one_identity():
    rows = numbered(events.FUTURES_TRADES, 2)
    for name in events.FUTURES_TRADES.log.names:
        place = rows.schema.get_field_index(name)
        values = pa.array([None, ""]) if name == "contract" else pa.concat_arrays([rows[name].chunk(0)[:1]] * 2)
        rows = rows.set_column(place, rows.schema.field(place).with_nullable(True), values)

    found = identity_of(events.FUTURES_TRADES, rows)

    assert found.instrument.codes[0] == found.instrument.codes[1]
    assert event_ids(found)[0] == event_ids(found)[1]


@pytest.mark.parametrize("price", [0.0001, 687.2501, 6900.25, -12.75, 0.0, 123_456.789, 1e12, 1e300, float("inf")])
def test_a_price_counts_as_its_exact_1e_9_integer_or_as_its_bits_where_it_has_none(price):
    (found,) = ids(events.FUTURES_TRADES, ts_event_ns=[NOON_NS], source=["sim"], contract=["ESZ5"], price=[price])

    exact = round(price * 1e9) if abs(price) < 9.2e9 else struct.unpack("<q", struct.pack("<d", price))[0]
    packed = struct.pack("<64s4q", b"sim|ESZ5", NOON_NS, exact, NULL, NULL) + number(None) * 2
    assert found == hashlib.md5(packed, usedforsecurity=False).hexdigest()


def test_a_book_is_told_from_another_by_every_number_of_every_level():
    rows = numbered(events.FUTURES_MBP10, 1)
    before = event_ids(identity_of(events.FUTURES_MBP10, rows))[0]
    for column in events.FUTURES_MBP10.log:
        if column.name[:4] in ("bid_", "ask_"):
            place = rows.schema.get_field_index(column.name)
            other = rows.set_column(place, column, pa.array([123], column.type))
            assert event_ids(identity_of(events.FUTURES_MBP10, other))[0] != before, column.name


@pytest.mark.parametrize("schema", events.SCHEMAS.values(), ids=lambda schema: schema.name)
def test_more_rows_than_are_summed_up_at_once_give_the_same_ids_as_one_by_one(schema):
    rows = numbered(schema, 20_000)
    found = event_ids(identity_of(schema, rows))

    for place in (0, 1, 16_383, 16_384, 19_999):
        assert event_ids(identity_of(schema, rows.slice(place, 1)))[0] == found[place]
    assert len(set(found.to_pylist())) == len(np.unique(rows["ts_event_ns"].to_numpy()))

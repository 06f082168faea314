"""Record batches of MBP-10 become the rows of one contract, in ticks and in order."""

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.rows import BOOK, NO_PRICE, OTHER, PRINT, SNAPSHOT, book_rows, no_rows
from tests.engines.books import OPEN_NS, batch, book, columns, even, listed, printed, wild_market
from tests.engines.plain_ledger import Row


def with_column(rows, name, values):
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))


def same_rows(one, other):
    return all(np.array_equal(a, b) and a.dtype == b.dtype and a.shape == b.shape
               for a, b in zip(one, other, strict=True))  # fmt: skip


def test_rows_are_what_was_written_in_whole_ticks():
    written = [
        book(OPEN_NS, [(27_600, 3), (27_599, 4)], [(27_601, 5)]),
        printed(OPEN_NS + 1, 1, 27_601, 2),
        printed(OPEN_NS + 2, 0, None, 44),
        even(OPEN_NS + 3, -5, kind=SNAPSHOT),
        Row(OPEN_NS + 4, OTHER, bids=((7, 1),)),
    ]
    rows, off_tick = book_rows([batch(written)], "ESZ5", 0.25)

    assert off_tick == 0
    assert rows.kind.tolist() == [BOOK, PRINT, PRINT, SNAPSHOT, OTHER]
    assert listed(rows) == written
    assert same_rows(rows, columns(written))


def test_a_tick_that_no_float_is_exactly_gives_whole_ticks_too():
    written = [even(OPEN_NS, 60_307), even(OPEN_NS + 1, 2**29)]
    rows, off_tick = book_rows([batch(written, tick=0.01)], "ESZ5", 0.01)

    assert (listed(rows), off_tick) == (written, 0)


@pytest.mark.parametrize("column", ["price", "bid_px_1", "ask_px_10"])
@pytest.mark.parametrize("price", [6900.1, 6900.0001, 2e9])
def test_a_row_with_a_price_off_the_tick_has_none_at_all_and_is_counted(column, price):
    written = [even(OPEN_NS + k, 27_600)._replace(price=27_600) for k in range(3)]
    good = batch(written)
    values = good.column(column).to_pylist()
    rows, off_tick = book_rows([with_column(good, column, [values[0], price, values[2]])], "ESZ5", 0.25)

    assert off_tick == 1
    assert listed(rows) == [written[0], Row(OPEN_NS + 1, BOOK, size=0), written[2]]
    assert (rows.bid_px[1] == NO_PRICE).all()


def test_rows_of_other_contracts_and_of_none_are_left_out():
    mine, other, unnamed = (batch([even(OPEN_NS + k, 100 + k)], contract=name)
                            for k, name in enumerate(("ESZ5", "ESH6", None)))  # fmt: skip

    assert listed(book_rows([unnamed, other, mine], "ESZ5", 0.25)[0]) == [even(OPEN_NS, 100)]
    assert listed(book_rows([other, mine], "ESH6", 0.25)[0]) == [even(OPEN_NS + 1, 101)]
    whole = pa.Table.from_batches([other, mine, unnamed]).combine_chunks().to_batches()
    assert listed(book_rows(whole, "ESZ5", 0.25)[0]) == [even(OPEN_NS, 100)]


@pytest.mark.parametrize("batches", [[], [batch([])], [batch([even(OPEN_NS, 100)], contract="ESH6")]])
def test_nothing_gives_no_rows(batches):
    rows, off_tick = book_rows(batches, "ESZ5", 0.25)

    assert off_tick == 0
    assert same_rows(rows, no_rows())


def test_rows_are_in_order_of_time_then_capture_then_number_however_they_came():
    written = wild_market(1)
    ordered = batch(written)
    captures = [9 if place % 3 else 4 for place in range(len(written))]
    ordered = with_column(ordered, "capture_id", captures)
    keys = [(row.ts, capture, place) for place, (row, capture) in enumerate(zip(written, captures, strict=True))]
    expected = [written[place] for *_, place in sorted(keys)]
    shuffled = ordered.take(np.random.default_rng(1).permutation(len(written)))

    for batches in ([ordered], [shuffled], [shuffled.slice(50), shuffled.slice(0, 50)]):
        assert listed(book_rows(batches, "ESZ5", 0.25)[0]) == expected
    assert expected != written


def test_a_null_letter_or_number_is_no_print_no_side_and_nothing():
    good = batch([printed(OPEN_NS, 1, 100, 5), printed(OPEN_NS + 1, -1, 100, 5), printed(OPEN_NS + 2, 1, 100, 5)])
    rows, _ = book_rows([with_column(good, "action", [None, "T", "F"])], "ESZ5", 0.25)
    assert (rows.kind.tolist(), rows.side.tolist()) == ([OTHER, PRINT, OTHER], [0, -1, 0])

    nulls = with_column(with_column(with_column(good, "side", [None] * 3), "size", [None] * 3), "flags", [None] * 3)
    rows, _ = book_rows([nulls], "ESZ5", 0.25)
    assert (rows.kind.tolist(), rows.side.tolist(), rows.size.tolist()) == ([PRINT] * 3, [0] * 3, [0] * 3)


def test_a_print_that_is_the_last_of_its_event_is_a_print_and_a_snapshot_before_all():
    good = batch([printed(OPEN_NS, 1, 100, 5)] * 2)
    flagged = with_column(with_column(good, "flags", [128, 168]), "is_snapshot", [False, True])
    rows, _ = book_rows([flagged], "ESZ5", 0.25)

    assert (rows.kind.tolist(), rows.side.tolist()) == ([PRINT, SNAPSHOT], [1, 0])

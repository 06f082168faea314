"""Quotes of options in DBN; those of futures are counted. What real files hold is in `test_databento_vendor`."""

from typing import Any

import databento_dbn as dbn
import numpy as np
import pytest
from databento_dbn import Action, BidAskPair, ConsolidatedBidAskPair, RType, Side
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster import events
from spymaster.normalize.databento import normalizer
from spymaster.normalize.databento.instruments import Names
from spymaster.normalize.symbols import Instrument
from tests.normalize.dbn_bytes import (
    BBO_1M,
    BBO_1S,
    CBBO_1M,
    CBBO_1S,
    CMBP1,
    DAY,
    MBP1,
    MBP10,
    STATISTICS,
    STATUS,
    T0,
    TCBBO,
    UNDEF_I64,
    UNDEF_U32,
    UNDEF_U64,
    Run,
    definition,
    header_of,
    mapping,
    quote,
    record,
    trade,
)

FUTURE, CALL, SPY = "ESZ5", "ESZ5 C6900", "SPY   251216C00680000"
NEXT_DAY = DAY.replace(day=17)
ALL = st.sampled_from([MBP1, CMBP1, TCBBO, CBBO_1S, CBBO_1M, BBO_1S, BBO_1M])
NAMES = {CMBP1: "cmbp-1", TCBBO: "tcbbo", CBBO_1S: "cbbo-1s", CBBO_1M: "cbbo-1m", BBO_1S: "bbo-1s", BBO_1M: "bbo-1m"}


def header(schema: str | None, symbol: str = CALL, dataset: str = "GLBX.MDP3") -> bytes:
    return header_of(dataset, schema, mappings={symbol: [(DAY, NEXT_DAY, 1)]})


def encoded(schema: str, kind: RType | None, changes: list[dict[str, Any]]) -> bytes:
    """Quotes as the vendor's own encoder writes them."""
    data = b""
    for number, change in enumerate(changes):
        fields = {
            "publisher_id": 30, "instrument_id": 1, "ts_event": T0 + number, "ts_recv": T0 + 50 + number,
            "price": 1_550_000_000, "size": 3, "action": Action.ADD, "side": Side.BID, "flags": 130,
            "ts_in_delta": 12_000 - number, **change,
        }  # fmt: skip
        if kind is None:
            level = BidAskPair(1_500_000_000, 1_600_000_000, 11 + number, 12, 2, 3)
            data += bytes(dbn.MBP1Msg(**fields, depth=0, sequence=900 + number, levels=level))
        else:
            pair = ConsolidatedBidAskPair(1_500_000_000, 1_600_000_000, 11 + number, 12, 22, 0)
            data += bytes(dbn.CMBP1Msg(**fields, rtype=kind, levels=pair))
    return data


CHANGES = [
    {},
    {"action": Action.TRADE, "side": Side.ASK},
    {"action": Action.CLEAR, "side": Side.NONE, "price": UNDEF_I64, "size": UNDEF_U32},
]


@pytest.mark.parametrize(
    ("schema", "kind", "sample_s"),
    [
        ("mbp-1", None, 0), ("tbbo", None, -1), ("cmbp-1", RType.CMBP_1, 0), ("tcbbo", RType.TCBBO, -1),
        (None, None, 0), (None, RType.TCBBO, -1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "OPRA.PILLAR"])
def test_a_change_of_an_options_quote_is_a_row_of_what_the_vendors_encoder_wrote(
    dataset: str, schema: str | None, kind: RType | None, sample_s: int
) -> None:
    es = dataset == "GLBX.MDP3"
    run = Run(header(schema, CALL if es else SPY, dataset), encoded(schema or "", kind, CHANGES))

    rows = run.rows("options.quotes")
    assert [(row["action"], row["side"], row["price"], row["size"]) for row in rows] == [
        ("A", "B", 1.55, 3), ("T", "A", 1.55, 3), ("R", "N", None, None),
    ]  # fmt: skip
    for number, row in enumerate(rows):
        del row["action"], row["side"], row["price"], row["size"]
        mbp1 = kind is None
        assert row == {
            "ts_event_ns": T0 + number,
            "ts_recv_ns": T0 + 50 + number,
            "ts_local_ns": None,
            "source": "databento.glbx" if es else "databento.opra",
            "underlying": "ES" if es else "SPY",
            "option_symbol": CALL if es else SPY,
            "contract": CALL if es else SPY,
            "instrument_id": 1,
            "publisher_id": 30,
            "exp_date": None if es else DAY,
            "strike": 6900.0 if es else 680.0,
            "right": "C",
            "bid_px": 1.5,
            "bid_sz": 11 + number,
            "bid_ct": 2 if mbp1 else None,
            "bid_exch": None if mbp1 else 22,
            "ask_px": 1.6,
            "ask_sz": 12,
            "ask_ct": 3 if mbp1 else None,
            "ask_exch": None if mbp1 else 0,
            "sample_s": sample_s,
            "trade_ts_ns": None,
            "flags": 130,
            "ts_in_delta_ns": 12_000 - number,
            "seq": 900 + number if mbp1 else None,
        }
    assert (run.unreadable, run.normalizer.ignored, run.normalizer.odd, run.warnings) == ([], {}, {}, [])


@pytest.mark.parametrize(("kind", "sample_s"), [(CBBO_1S, 1), (CBBO_1M, 60), (BBO_1S, 1), (BBO_1M, 60)])
def test_a_sample_is_of_the_end_of_its_interval_and_says_when_the_last_trade_was(kind: int, sample_s: int) -> None:
    hours_ago, interval = T0 - 5 * 3600 * 10**9, T0 + 60 * 10**9
    data = quote(kind, ts_event=hours_ago, ts_recv=interval) + quote(kind, ts_event=UNDEF_U64, ts_recv=interval)
    run = Run(header(NAMES[kind]), data)

    assert run.column("options.quotes", "ts_event_ns") == [interval, interval]
    assert run.column("options.quotes", "ts_recv_ns") == [interval, interval]
    assert run.column("options.quotes", "trade_ts_ns") == [hours_ago, None]
    assert run.column("options.quotes", "sample_s") == [sample_s, sample_s]
    assert run.column("options.quotes", "action") == [None, None]
    assert run.column("options.quotes", "ts_in_delta_ns") == [None, None]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (quote(CBBO_1S, ts_recv=UNDEF_U64), "ts_recv is undefined"),
        (quote(BBO_1M, ts_event=2**63), "ts_event does not fit"),
        (quote(MBP1, ts_event=UNDEF_U64), "ts_event is undefined"),
        (quote(MBP1, ask_ct_00=2**31), "ask_ct_00 does not fit"),
        (quote(CMBP1, bid_sz_00=2**31), "bid_sz_00 does not fit"),
        (quote(BBO_1S, size=2**31), "size does not fit"),
        (quote(TCBBO)[:76].replace(b"\x14", b"\x13", 1), "76 bytes instead of 80"),
    ],
)
def test_a_quote_that_cannot_be_a_row_is_handed_back_whole(bad: bytes, reason: str) -> None:
    run = Run(header(None), quote(size=1) + bad + quote(size=2))

    (unreadable,) = run.unreadable
    assert unreadable.data == bad
    assert reason in unreadable.reason
    assert run.column("options.quotes", "size") == [1, 2]


def test_a_crossed_quote_is_recorded_as_it_came_and_counted() -> None:
    locked, crossed = quote(bid=1_500_000_000, ask=1_500_000_000), quote(bid=1_500_000_001, ask=1_500_000_000)
    one_sided = quote(bid=UNDEF_I64) + quote(ask=UNDEF_I64) + quote(bid=UNDEF_I64, ask=UNDEF_I64)
    run = Run(header("mbp-1"), locked + crossed + one_sided + quote() + crossed, cuts=[200, 500])

    assert run.normalizer.odd == {"crossed quote": 2}
    assert run.column("options.quotes", "bid_px") == [1.5, 1.500000001, None, 1.25, None, 1.25, 1.500000001]
    assert run.column("options.quotes", "ask_px") == [1.5, 1.5, 1.5, None, None, 1.5, 1.5]


def test_a_crossed_quote_of_a_future_is_not_counted_as_recorded() -> None:
    run = Run(header("mbp-1", FUTURE), quote(bid=2_000_000_000))

    assert (run.normalizer.odd, run.normalizer.ignored) == ({}, {"mbp-1 of futures": 1})


def test_a_size_or_count_that_is_undefined_is_null() -> None:
    run = Run(header("mbp-1"), quote(bid_sz_00=UNDEF_U32, ask_ct_00=UNDEF_U32, ask_sz_00=2**31 - 1))

    (row,) = run.rows("options.quotes")
    assert (row["bid_sz"], row["ask_ct"], row["ask_sz"], row["bid_ct"]) == (None, None, 2**31 - 1, 0)


@pytest.mark.parametrize(
    ("dataset", "symbol", "underlying"),
    [("OPRA.PILLAR", "SPY   25121X", "SPY   25121X"), ("GLBX.MDP3", "ESZ5 X6900", "ESZ5 X6900")],
)
def test_a_quote_of_an_option_whose_symbol_does_not_parse_is_recorded_under_it_and_counted(
    dataset: str, symbol: str, underlying: str
) -> None:
    run = Run(header("cmbp-1", symbol, dataset), quote(CMBP1) * 3)

    rows = run.rows("options.quotes")
    assert [(row["option_symbol"], row["underlying"], row["strike"], row["right"]) for row in rows] == [
        (symbol, underlying, None, None)
    ] * 3
    assert run.normalizer.odd == {"option whose symbol does not read": 3}


@pytest.mark.parametrize(("parent", "kept"), [("ES.OPT", True), ("", True), ("ES.FUT", False)])
def test_quotes_of_a_user_defined_spread_are_kept_but_where_only_futures_were_asked_for(
    parent: str, kept: bool
) -> None:
    spans = {"UD:1V: VT 2858150": [(DAY, NEXT_DAY, 1)]}
    asked: dict[str, Any] = {"stype_in": "parent", "symbols": [parent]} if parent else {}
    run = Run(header_of(schema="bbo-1s", mappings=spans, **asked), quote(BBO_1S))

    assert len(run.rows("options.quotes")) == kept
    assert run.normalizer.ignored.total() == (not kept)
    assert not run.normalizer.odd


def test_quotes_of_a_spread_of_futures_of_two_roots_are_counted_as_those_of_futures() -> None:
    run = Run(header("mbp-1", "ESZ5-NQZ5"), quote())

    assert run.tables == {}
    assert (run.normalizer.ignored, run.normalizer.odd) == ({"mbp-1 of futures": 1}, {})


def test_a_quote_that_nothing_names_is_not_lost() -> None:
    run = Run(header("mbp-1"), quote(instrument_id=99))

    assert run.column("options.quotes", "option_symbol") == [None]
    assert (run.normalizer.unmapped, run.normalizer.ignored, run.normalizer.odd) == (1, {}, {})


def test_a_definition_decides_what_a_symbol_leaves_open() -> None:
    spread = "ESZ5-C6900"
    data = mapping(1, spread) + quote(size=1) + definition(spread, kind=b"S") + quote(size=2)
    run = Run(header_of(schema=None), data + definition(spread, kind=b"T") + quote(size=3))

    assert run.column("options.quotes", "size") == [1, 3]
    assert run.normalizer.ignored == {"mbp-1 of futures": 1}


def test_an_option_spread_that_a_definition_describes_needs_no_symbol_that_reads() -> None:
    spread = "ESZ5-C6900"
    data = mapping(1, spread) + definition(spread, kind=b"T", expiration=T0) + quote() + trade()
    run = Run(header_of(schema=None), data)

    for schema in ("options.quotes", "options.trades"):
        (row,) = run.rows(schema)
        assert (row["option_symbol"], row["exp_date"], row["strike"], row["right"]) == (spread, DAY, None, None)
    assert not run.normalizer.odd


@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "OPRA.PILLAR"])
def test_a_trade_of_an_option_whose_symbol_does_not_parse_is_counted_as_its_quotes_are(dataset: str) -> None:
    asked: dict[str, Any] = {"stype_in": "parent", "symbols": ["ES.OPT"]} if dataset == "GLBX.MDP3" else {}
    spans = {"SPY   25121X": [(DAY, NEXT_DAY, 1)], "UD:1V: VT 2858150": [(DAY, NEXT_DAY, 2)]}
    run = Run(header_of(dataset, "trades", mappings=spans, **asked), trade() * 2 + trade(instrument_id=2))

    assert len(run.rows("options.trades")) == 3
    assert run.normalizer.odd == {"option whose symbol does not read": 2}


@pytest.mark.parametrize("others", [events.FUTURES_TRADES, None])
@pytest.mark.parametrize("are_options", [False, True])
def test_records_that_all_go_one_way_are_not_copied(others: events.EventSchema | None, are_options: bool) -> None:
    names = Names([Instrument("a", "ES", are_options), Instrument("b", "ES", are_options)], np.array([0, 1], np.int32))

    assert normalizer._split((others, events.OPTIONS_TRADES), names) == [
        (events.OPTIONS_TRADES if are_options else others, slice(None))
    ]


def test_what_a_delivery_leaves_out_is_named_in_one_line_however_often_it_comes() -> None:
    run = Run(header(None, FUTURE), (quote() + quote(BBO_1S)) * 40, cuts=[160] * 40)

    assert run.normalizer.ignored == {"mbp-1 of futures": 40, "bbo-1s of futures": 40}
    (line,) = run.warnings
    assert line == (
        "dbn:x.dbn: bbo-1s of futures, mbp-1 of futures are not recorded, only counted, as futures.mbp10 has the book "
        "that they are the top of. What else the delivery holds is recorded. Next: fetch mbp-10 of them"
    )


def test_a_live_stream_of_every_kind_is_recorded_in_the_order_of_its_records() -> None:
    data = b"".join(
        [
            mapping(1, FUTURE), mapping(2, CALL), quote(sequence=1, instrument_id=2), quote(BBO_1S, instrument_id=2),
            trade(instrument_id=2), quote(CMBP1, instrument_id=1), record(STATISTICS, stat_type=9, instrument_id=2),
            quote(sequence=2, instrument_id=2), record(MBP10), quote(TCBBO, instrument_id=2),
            record(STATUS, action=7), quote(sequence=3), trade(), quote(CBBO_1M, instrument_id=2),
        ]
    )  # fmt: skip
    run = Run(header_of(schema=None, stype_in=None), data, ts_local_ns=T0 + 9)

    assert run.column("options.quotes", "sample_s") == [0, 1, 0, -1, 60]
    assert run.column("options.quotes", "seq") == [1, 0, 2, None, None]
    assert run.column("options.quotes", "ts_local_ns") == [T0 + 9] * 5
    assert {name: table.num_rows for name, table in run.tables.items()} == {
        "reference.instruments": 2, "options.quotes": 5, "options.trades": 1, "futures.trades": 1, "futures.mbp10": 1,
        "reference.statistics": 1, "reference.status": 1,
    }  # fmt: skip
    assert run.normalizer.ignored == {"cmbp-1 of futures": 1, "mbp-1 of futures": 1}
    (statistic,) = run.rows("reference.statistics")
    assert (statistic["contract"], statistic["symbol"], statistic["strike"], statistic["right"]) == (
        CALL, "ES", 6900.0, "C",
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    sent=st.lists(st.tuples(ALL, st.sampled_from([1, 2, 3]), st.integers(-3, 3)), min_size=1, max_size=30),
    cuts=st.lists(st.integers(1, 300), min_size=1, max_size=9),
)
def test_rows_of_mixed_quotes_do_not_depend_on_how_the_bytes_were_cut(
    sent: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    data = mapping(1, FUTURE) + mapping(2, CALL)
    data += b"".join(quote(kind, instrument_id=one, ask=10**9 + wide, bid=10**9) for kind, one, wide in sent)
    cut, whole = (Run(header_of(schema=None), data, some) for some in ([*cuts, 10**6], [10**6]))

    assert cut.tables == whole.tables
    counts = [(run.normalizer.ignored, run.normalizer.odd, run.normalizer.unmapped) for run in (cut, whole)]
    assert counts[0] == counts[1]
    recorded = [(kind, one, wide) for kind, one, wide in sent if one != 1]
    assert whole.column("options.quotes", "instrument_id") == [one for _, one, _ in recorded]
    assert whole.normalizer.odd["crossed quote"] == sum(wide < 0 for *_, wide in recorded)
    assert whole.normalizer.ignored.total() == len(sent) - len(recorded)

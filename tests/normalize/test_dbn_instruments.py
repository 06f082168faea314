import datetime as dt
from pathlib import Path
from typing import Any

import databento_dbn as dbn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster import paths
from spymaster.normalize.databento import instruments
from tests.normalize.dbn_bytes import (
    DAY,
    DAY_NS,
    DEFINITION,
    MAPPING,
    MBP10,
    T0,
    TRADE,
    UNDEF_U64,
    Run,
    contents_of,
    definition,
    es_header,
    header_of,
    mapping,
    record,
    trade,
)


def test_a_trade_before_a_mapping_in_the_same_piece_has_the_symbol_from_before() -> None:
    data = b"".join([trade(), mapping(1, "ESH6"), trade(), mapping(1, "ESM6"), trade(), trade(instrument_id=2)])
    for cuts in ([10**6], [1] * len(data)):
        run = Run(es_header(), data, cuts=cuts)

        assert run.column("futures.trades", "contract") == ["ESZ5", "ESH6", "ESM6", None]


def test_a_mapping_in_the_stream_holds_within_its_times_only() -> None:
    data = mapping(1, "ESH6", start_ts=T0 + 100, end_ts=T0 + 200)
    times = [T0 + 99, T0 + 100, T0 + 199, T0 + 200]
    run = Run(es_header(), data + b"".join(trade(ts_recv=time) for time in times))

    assert run.column("futures.trades", "contract") == ["ESZ5", "ESH6", "ESH6", "ESZ5"]


def test_of_a_session_that_maps_an_id_anew_for_years_the_newest_mappings_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(instruments, "MAX_SPANS", 3)
    monkeypatch.setattr(instruments, "MAX_EDGES", 6)
    days = range(10)
    data = b"".join(mapping(1, f"ES{day}", start_ts=T0 + day * DAY_NS, end_ts=T0 + (day + 1) * DAY_NS) for day in days)
    run = Run(header_of(), data + b"".join(trade(ts_recv=T0 + day * DAY_NS) for day in days))

    assert run.column("futures.trades", "contract") == [None] * 7 + ["ES7", "ES8", "ES9"]


def test_an_id_is_read_by_the_utc_date_of_ts_recv() -> None:
    tomorrow = DAY + dt.timedelta(1)
    spans = {"ESZ5": [(DAY, tomorrow, 1)], "ESH6": [(tomorrow, tomorrow + dt.timedelta(1), 1)]}
    times = [T0 - 1, T0, T0 + DAY_NS - 1, T0 + DAY_NS, T0 + 2 * DAY_NS]
    # A snapshot's ts_event lies days back; where ts_recv is undefined ts_event decides.
    data = b"".join(trade(ts_recv=time, ts_event=T0) for time in times) + trade(ts_event=T0 + DAY_NS, ts_recv=UNDEF_U64)
    run = Run(header_of(mappings=spans), data)

    assert run.column("futures.trades", "contract") == [None, "ESZ5", "ESZ5", "ESH6", None, "ESH6"]
    assert run.normalizer.unmapped == 2


def test_the_last_instant_of_64_bits_has_its_contract_and_its_rows_stand() -> None:
    last = 2**63 - 1
    for data in (trade(ts_event=last), mapping(1, "ESZ5") + trade(ts_event=last)):
        run = Run(header_of(schema=None, mappings={"ESZ5": [(DAY, dt.date(2300, 1, 1), 1)]}), data)

        (row,) = run.rows("futures.trades")
        assert (row["contract"], row["ts_event_ns"], row["ts_recv_ns"]) == ("ESZ5", last, last)


def test_where_several_symbols_of_the_header_claim_an_id_it_is_always_the_same_one_that_holds() -> None:
    week, tomorrow = DAY + dt.timedelta(7), DAY + dt.timedelta(1)
    spans = {f"UD:1V: GN {number}": [(DAY, week, 1)] for number in range(9)}
    spans |= {"UD:1V: BO 1": [(tomorrow, week, 1)], "UD:1V: VT 1": [(DAY - dt.timedelta(1), week, 1)]}
    for _ in range(10):  # the vendor's decoder lists them in another order each time
        run = Run(header_of(mappings=spans), trade(ts_recv=T0) + trade(ts_recv=T0 + DAY_NS))

        assert run.column("futures.trades", "contract") == ["UD:1V: GN 8", "UD:1V: BO 1"]


def test_a_row_whose_id_nothing_names_is_filed_under_the_deliverys_root_if_it_has_one() -> None:
    assert Run(es_header(), trade(instrument_id=9)).column("futures.trades", "symbol") == ["ES"]
    several = header_of(symbols=["ESZ5", "NQZ5"])
    assert Run(several, trade(instrument_id=9)).column("futures.trades", "symbol") == ["UNMAPPED"]


def test_a_header_that_maps_ids_to_symbols_is_read_too() -> None:
    mapped: Any = {"17077": [(DAY, DAY + dt.timedelta(1), "ESZ5")]}
    header = header_of(stype_in="instrument_id", mappings=mapped)

    run = Run(header, trade(instrument_id=17077))

    assert run.column("futures.trades", "contract") == ["ESZ5"]
    assert run.normalizer.streams["futures.trades"] == "ES"


def test_a_mapping_to_a_bare_id_takes_the_symbol_that_was_asked_for() -> None:
    run = Run(es_header(schema=None), mapping(7, "7", asked="ESH6") + trade(instrument_id=7))

    assert run.column("futures.trades", "contract") == ["ESH6"]
    assert run.column("reference.instruments", "contract") == ["ESH6"]


def test_mappings_and_definitions_of_older_versions_are_read_by_their_layout(real_data: Path) -> None:
    header, _ = contents_of(real_data / "dbn/test_data.trades.v1.dbn.zst")
    old_mapping = record(MAPPING, layout=dbn.SymbolMappingMsgV1, instrument_id=7, stype_out_symbol=b"ESM6")
    old_definition = record(DEFINITION, layout=dbn.InstrumentDefMsgV1, raw_symbol=b"ESM6", asset=b"ES")
    run = Run(header, old_mapping + old_definition + trade(instrument_id=7) + mapping(7, "ESU6"))

    assert header[3] == 1
    assert run.column("futures.trades", "contract") == ["ESM6"]
    assert run.column("reference.instruments", "contract") == ["ESM6", "ESM6"]
    assert [unreadable.data for unreadable in run.unreadable] == [mapping(7, "ESU6")]


def test_rows_of_many_instruments_keep_their_order() -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 400, 30_000)
    spans = {f"X{number}Z5": [(DAY, DAY + dt.timedelta(1), number)] for number in range(1, 400)}
    rows = np.frombuffer(trade() * len(ids), dbn.TradeMsg._dtypes).copy()
    rows["instrument_id"], rows["sequence"] = ids, np.arange(len(ids))
    run = Run(header_of(mappings=spans), rows.tobytes())

    assert run.column("futures.trades", "contract") == [f"X{number}Z5" for number in ids]
    assert run.column("futures.trades", "symbol") == [f"X{number}" for number in ids]
    assert run.column("futures.trades", "seq") == list(range(len(ids)))


@pytest.mark.parametrize("symbol", ["../../etc", "A" * 70, "é" * 35, "UD:1V: VT 2858150", " ", "a/b\\c"])
def test_an_odd_symbol_is_data_and_its_root_can_be_stored(symbol: str) -> None:
    run = Run(header_of(symbols=["ESZ5", "NQZ5"], schema=None), mapping(1, symbol) + trade())

    (row,) = run.rows("futures.trades")
    assert row["contract"] == symbol
    paths.encode_symbol(row["symbol"])
    assert run.column("reference.instruments", "symbol") == [row["symbol"]]


_ids = st.integers(1, 3)
_symbols = st.sampled_from(["ESZ5", "ESH6", "ESZ5 C6900", "UD:1V: VT 1", "NQZ5"])
_times = st.integers(T0 - 2, T0 + 6) | st.integers(T0 + DAY_NS - 2, T0 + DAY_NS + 6)
_bounds = st.tuples(_times | st.just(UNDEF_U64), _times | st.just(UNDEF_U64))
_events = st.one_of(
    st.tuples(st.just(MAPPING), _ids, _symbols, _bounds),
    st.tuples(st.just(DEFINITION), _symbols, st.sampled_from("FCST")),
    st.tuples(st.sampled_from([TRADE, MBP10]), _ids, _times),
)


@settings(max_examples=300, deadline=None)
@given(events=st.lists(_events, max_size=40), cuts=st.lists(st.integers(0, 4000), min_size=1, max_size=6))
def test_every_row_has_the_instrument_that_reading_record_by_record_gives(events: list[Any], cuts: list[int]) -> None:
    header = es_header(schema=None)  # 1 is ESZ5 for a week from T0 on
    said: list[tuple[int, str, int, int]] = [(1, "ESZ5", T0, T0 + 7 * DAY_NS)]
    classes: dict[str, str] = {}
    data = b""
    expected: dict[str, list[str | None]] = {"futures.trades": [], "options.trades": [], "futures.mbp10": []}
    for kind, *event in events:
        if kind == MAPPING:
            number, symbol, (start, end) = event
            data += mapping(number, symbol, start_ts=start, end_ts=end)
            said.append((number, symbol, -1 if start == UNDEF_U64 else start, end))
        elif kind == DEFINITION:
            symbol, classes[symbol] = event
            data += definition(symbol, kind=classes[symbol].encode())
        else:
            number, time = event
            data += record(kind, instrument_id=number, ts_recv=time)
            named = [symbol for n, symbol, start, end in said if n == number and start <= time < end]
            contract = named[-1] if named else None
            option = classes.get(contract or "", "C" if contract == "ESZ5 C6900" else "F") in "CT"
            schema = "futures.mbp10" if kind == MBP10 else "options.trades" if option else "futures.trades"
            expected[schema].append(contract)

    run = Run(header, data, cuts)

    for schema, contracts in expected.items():
        assert run.column(schema, "contract") == contracts
    assert run.normalizer.unmapped == sum(contracts.count(None) for contracts in expected.values())


@pytest.mark.parametrize("cuts", [[10**6], [48] * 20])
def test_a_mapping_that_contradicts_another_of_its_day_is_told_once_and_the_last_one_holds(cuts: list[int]) -> None:
    day = [(DAY, DAY + dt.timedelta(1), 1)]
    both = {"ESZ5": day, "ESH6": [(DAY, DAY + dt.timedelta(2), 1)]}
    in_header = Run(header_of(mappings=both), trade() * 5, cuts)
    in_stream = Run(
        header_of(schema=None), mapping(1, "ESH6") + mapping(1, "ESZ5") + trade() + mapping(1, "ESH6"), cuts
    )
    between = Run(header_of(schema=None, mappings={"ESH6": day}), mapping(1, "ESZ5") + trade(), cuts)

    for run in (in_header, in_stream, between):
        (line,) = run.warnings
        assert "instrument 1 is mapped to 'ESH6' and to 'ESZ5' for one day" in line
        assert set(run.column("futures.trades", "contract")) == {"ESZ5"}


def test_what_is_said_of_other_days_or_again_or_of_what_was_asked_for_contradicts_nothing() -> None:
    tomorrow = DAY + dt.timedelta(1)
    days = {
        "ESZ5": [(DAY, tomorrow, 1)],
        "ESH6": [(tomorrow, tomorrow + dt.timedelta(1), 1)],
        "ES.c.0": [(DAY, tomorrow, 1)],
    }
    said = [
        mapping(1, "ESZ5"),
        mapping(1, "ESZ5"),
        mapping(1, "ESH6", ts_event=T0 + DAY_NS),
        mapping(1, "1", asked="ES.FUT"),
    ]
    times = {"start_ts": T0 + DAY_NS, "end_ts": T0 + 2 * DAY_NS}
    for header in (header_of(mappings=days), header_of(schema=None)):
        assert Run(header, b"".join(said) + mapping(1, "ESH6", **times) + trade()).warnings == []


def test_records_of_several_publishers_are_recorded_and_told_once_where_the_dataset_has_one() -> None:
    data = (trade() * 3 + trade(publisher_id=2)) * 3
    for cuts in ([10**6], [48] * 12):
        run = Run(es_header(), data, cuts)

        (line,) = run.warnings
        assert "records of the publishers 1, 2 in a delivery of databento.glbx" in line
        assert run.column("futures.trades", "publisher_id") == [1, 1, 1, 2] * 3
    assert Run(header_of("OPRA.PILLAR"), data).warnings == []
    assert Run(es_header(), trade() * 9).warnings == []


# Options.


def test_trades_of_es_options_are_told_from_those_of_futures_and_each_keeps_its_order() -> None:
    spans = {"ESZ5": [(DAY, DAY + dt.timedelta(1), 1)], "EW2F6 C7000": [(DAY, DAY + dt.timedelta(1), 2)]}
    data = b"".join(trade(instrument_id=number, sequence=at) for at, number in enumerate([1, 2, 2, 1, 2]))
    run = Run(header_of(stype_in="parent", symbols=["ES.FUT", "EW2.OPT"], mappings=spans), data)

    assert run.column("futures.trades", "seq") == [0, 3]
    assert run.column("options.trades", "seq") == [1, 2, 4]
    row = run.rows("options.trades")[0]
    assert (row["underlying"], row["option_symbol"], row["contract"]) == ("ES", "EW2F6 C7000", "EW2F6 C7000")
    assert (row["strike"], row["right"], row["exp_date"]) == (7000.0, "C", None)


@pytest.mark.parametrize(("parent", "schema"), [("ES.OPT", "options.trades"), ("ES.FUT", "futures.trades")])
def test_a_user_defined_spread_is_of_the_kind_that_its_parent_asked_for(parent: str, schema: str) -> None:
    spans = {"UD:1V: VT 2858150": [(DAY, DAY + dt.timedelta(1), 1)]}
    run = Run(header_of(stype_in="parent", symbols=[parent], mappings=spans), trade())

    (row,) = run.rows(schema)
    assert row["contract"] == "UD:1V: VT 2858150"
    assert row["symbol" if schema == "futures.trades" else "underlying"] == "ES"


def test_in_a_live_session_the_parent_stands_in_the_mapping() -> None:
    run = Run(header_of(schema=None, stype_in=None), mapping(1, "UD:1V: VT 2858150", asked="ES.OPT") + trade())

    (row,) = run.rows("options.trades")
    assert (row["underlying"], row["strike"], row["right"]) == ("ES", None, None)


def test_a_definition_in_the_stream_says_more_of_an_option_than_its_symbol() -> None:
    expiration = T0 + 20 * DAY_NS + 13 * 3600 * 10**9
    said = definition("6EF6 C1085", kind=b"C", asset=b"6E", strike_price=1_085_000_000, expiration=expiration)
    data = b"".join([mapping(1, "6EF6 C1085"), trade(sequence=1), said, trade(sequence=2)])
    for cuts in ([10**6], [48] * 20):
        run = Run(header_of(schema=None), data, cuts=cuts)

        before, after = run.rows("options.trades")
        assert (before["strike"], before["exp_date"]) == (None, None)
        assert (after["strike"], after["exp_date"]) == (1.085, dt.date(2026, 1, 5))
        assert (after["right"], after["underlying"]) == ("C", "6E")


@pytest.mark.parametrize(
    ("symbol", "asset", "underlying", "root"),
    [
        ("EYCH6 C6900", b"EYC", b"ESH6", "ES"),
        ("XYZH6 C6900", b"XYZ", b"ESH6", "ES"),  # listed after our table was made
        ("QN3H6 C25000", b"QN3", b"NQH6", "NQ"),
        ("OZNH6 C110", b"OZN", b"ZNH6", "ZN"),
        ("EYCH6 C6900", b"EYC", b"", "ES"),
        ("XYZH6 C6900", b"XYZ", b"", "XYZ"),
    ],
)
def test_an_options_underlying_is_what_its_definition_says(
    symbol: str, asset: bytes, underlying: bytes, root: str
) -> None:
    said = definition(symbol, kind=b"C", asset=asset, underlying=underlying, strike_price=6_900_000_000_000)
    for data in (mapping(1, symbol) + said + trade(), said + mapping(1, symbol) + trade()):
        run = Run(header_of(schema=None), data)

        (row,) = run.rows("options.trades")
        assert (row["underlying"], row["strike"], row["contract"]) == (root, 6900.0, symbol)
        (defined,) = (row for row in run.rows("reference.instruments") if row["record"] == "definition")
        assert defined["symbol"] == root


def test_what_an_adjusted_stock_option_is_written_on_does_not_move_it_to_another_root() -> None:
    run = Run(
        header_of("OPRA.PILLAR", schema="definition"),
        definition("SPY1  251216C00680000", kind=b"C", asset=b"SPY1", underlying=b"SPY"),
    )

    assert run.column("reference.instruments", "symbol") == ["SPY1"]


def test_a_future_is_not_moved_by_its_underlying() -> None:
    run = Run(header_of(schema="definition"), definition("ESTH6", asset=b"EST", underlying=b"ESH6"))

    assert run.column("reference.instruments", "symbol") == ["EST"]


def test_a_definition_names_its_id_on_its_utc_date_alone_and_a_mapping_goes_before_it() -> None:
    tomorrow = T0 + DAY_NS
    said = definition("ESZ5", instrument_id=7, ts_recv=T0) + definition("ESH6", instrument_id=7, ts_recv=tomorrow)
    times = [T0, tomorrow - 1, tomorrow, tomorrow + DAY_NS]
    rows = b"".join(trade(instrument_id=7, ts_recv=time) for time in times)
    run = Run(header_of(schema=None), said + rows)

    assert run.column("futures.trades", "contract") == ["ESZ5", "ESZ5", "ESH6", None]
    mapped = Run(header_of(schema=None), mapping(7, "ESM6") + said + rows)
    assert mapped.column("futures.trades", "contract") == ["ESM6"] * 4


def test_a_continuous_name_gives_the_root_and_its_definition_the_contract() -> None:
    header = header_of(
        stype_in="continuous", symbols=["ES.c.0"], mappings={"ES.c.0": [(DAY, DAY + dt.timedelta(1), 7)]}
    )
    run = Run(header, trade(instrument_id=7))

    (row,) = run.rows("futures.trades")
    assert (row["symbol"], row["contract"], row["instrument_id"]) == ("ES", None, 7)
    assert run.normalizer.streams["futures.trades"] == "ES"
    live = Run(
        header_of(schema=None),
        mapping(7, "7", asked="ES.c.0")
        + trade(instrument_id=7)
        + definition("ESZ5", instrument_id=7)
        + trade(instrument_id=7),
    )
    assert live.column("futures.trades", "contract") == [None, "ESZ5"]
    assert live.column("futures.trades", "symbol") == ["ES", "ES"]
    assert live.column("reference.instruments", "contract") == [None, "ESZ5"]
    named = Run(header_of(schema=None), mapping(7, "ESZ5", asked="ES.c.0") + trade(instrument_id=7))
    assert named.column("futures.trades", "contract") == ["ESZ5"]


def test_an_id_is_no_name_of_itself() -> None:
    run = Run(header_of(schema=None, stype_in=None), mapping(7, "7", asked="7") + trade(instrument_id=7))

    assert run.column("futures.trades", "contract") == [None]
    assert run.column("reference.instruments", "contract") == [None]


def test_a_definition_makes_an_option_of_a_spread_whose_name_says_nothing() -> None:
    data = mapping(1, "UD:1V: VT 1") + trade() + definition("UD:1V: VT 1", kind=b"T") + trade()
    run = Run(header_of(schema=None), data)

    assert run.column("futures.trades", "symbol") == ["UD"]
    assert run.column("options.trades", "underlying") == ["ES"]


def test_an_opra_trade_is_read_by_its_occ_symbol() -> None:
    spans = {"SPY   251216P00680500": [(DAY, DAY + dt.timedelta(1), 1)]}
    run = Run(header_of("OPRA.PILLAR", symbols=["SPY.OPT"], stype_in="parent", mappings=spans), trade(side=b"A"))

    (row,) = run.rows("options.trades")
    assert (row["underlying"], row["exp_date"], row["strike"], row["right"]) == ("SPY", DAY, 680.5, "P")
    assert (row["source"], row["aggressor"], row["exchange"], row["opt_bid"]) == ("databento.opra", -1, None, None)


def test_a_stock_trade_is_filed_under_its_symbol() -> None:
    spans = {"BRK.B": [(DAY, DAY + dt.timedelta(1), 1)]}
    run = Run(header_of("XNAS.ITCH", symbols=["BRK.B"], mappings=spans), trade())

    (row,) = run.rows("stocks.trades")
    assert (row["symbol"], row["source"], row["price"], row["size"]) == ("BRK.B", "databento.xnas", 6900.25, 2)
    assert run.normalizer.streams["stocks.trades"] == "BRK.B"

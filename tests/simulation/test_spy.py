"""SPY and its options in the simulated market: the vendor's format, and the laws that hold between the instruments."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation import pricing
from spymaster.simulation.calendar import Contract
from spymaster.simulation.options import SPY_RATE, es_board, spy_board
from spymaster.simulation.stock import CONDITIONS, RATIO_BAND_E6, RATIO_E6
from tests.sim_recording import DEFINITION, MAPPING, NOON, TRADE, Recorded

MS = 1_000_000
# From the vendor's published description of its messages: names and types, those that are not always there last.
INTEGER, NUMBER, TEXT, LIST = int, (int, float), str, list
STOCK_TRADE = ({"ev": TEXT, "sym": TEXT, "x": INTEGER, "i": TEXT, "z": INTEGER, "p": NUMBER, "s": INTEGER,
                "t": INTEGER, "q": INTEGER}, {"c": LIST, "trfi": INTEGER, "trft": INTEGER})  # fmt: skip
STOCK_QUOTE = ({"ev": TEXT, "sym": TEXT, "bx": INTEGER, "bp": NUMBER, "bs": INTEGER, "ax": INTEGER, "ap": NUMBER,
                "as": INTEGER, "c": INTEGER, "i": LIST, "t": INTEGER, "q": INTEGER, "z": INTEGER}, {})  # fmt: skip
OPTION_TRADE = ({"ev": TEXT, "sym": TEXT, "x": INTEGER, "p": NUMBER, "s": INTEGER, "c": LIST, "t": INTEGER,
                 "q": INTEGER}, {})  # fmt: skip
CHANNELS = {"T.SPY": STOCK_TRADE, "Q.SPY": STOCK_QUOTE, "T.O:SPY": OPTION_TRADE}


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded(3, 3_000, 21)


# The vendor's format


@pytest.mark.parametrize("channel", CHANNELS)
def test_events_have_the_vendors_fields_and_types(recorded: Recorded, channel: str) -> None:
    always, sometimes = CHANNELS[channel]
    events = recorded.events(channel)

    assert len(events) > 1_000
    for event in events:
        assert set(always) <= set(event) <= set(always) | set(sometimes)
        assert all(isinstance(value, (always | sometimes)[name]) for name, value in event.items()), event
    assert all(any(name in event for event in events) for name in sometimes)
    assert all(any(name not in event for event in events) for name in sometimes)


@pytest.mark.parametrize(
    ("channel", "path"), [("T.SPY", "/stocks/T"), ("Q.SPY", "/stocks/Q"), ("T.O:SPY", "/options/T")]
)
def test_the_fields_are_those_that_the_vendor_describes(real_data: Path, channel: str, path: str) -> None:
    spec = json.loads((real_data / "massive-client/spec_websocket.json").read_text())
    described = spec["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    types = {"integer": INTEGER, "number": NUMBER, "string": TEXT, "array": LIST}
    properties = described["schema"]["properties"]
    always, sometimes = CHANNELS[channel]

    assert {name: types[one.get("type", "string")] for name, one in properties.items()} == always | sometimes


def test_a_frame_is_an_array_of_at_most_twenty_events_of_ten_milliseconds(recorded: Recorded) -> None:
    for frame in (*recorded.stock, *recorded.options):
        times = [event["t"] for event in json.loads(frame)]
        assert 1 <= len(times) <= 20
        assert max(times) - min(times) <= 10
        assert times == sorted(times)
    assert max(len(json.loads(frame)) for frame in recorded.stock) == 20


def test_sequence_numbers_of_a_channel_only_grow(recorded: Recorded) -> None:
    for channel in CHANNELS:
        assert (np.diff([event["q"] for event in recorded.events(channel)]) > 0).all()


def test_an_option_symbol_names_root_date_right_and_strike(recorded: Recorded) -> None:
    symbols = {event["sym"] for event in recorded.events("T.O:SPY")}

    assert len({symbol[5:11] for symbol in symbols}) == 6
    for symbol in symbols:
        assert symbol[:5] == "O:SPY"
        assert symbol[5:11].isdigit()
        assert symbol[11] in "CP"
        assert 650_000 <= int(symbol[12:]) < 730_000
        assert len(symbol) == 20


def test_chain_pages_hold_250_contracts_and_name_the_next_page(recorded: Recorded) -> None:
    pages = [json.loads(page) for page in recorded.chain]

    assert len(pages) == 6  # two each at 0, 10 and 20 s
    for first, second in zip(pages[::2], pages[1::2], strict=True):
        assert len(first["results"]) == 250
        assert "cursor=" in first["next_url"]
        assert len(second["results"]) == 230
        assert "next_url" not in second
        assert first["status"] == "OK"


# The laws


def test_a_quote_has_its_bid_below_its_ask_and_sizes_in_shares(recorded: Recorded) -> None:
    for quote in recorded.events("Q.SPY"):
        assert quote["bp"] < quote["ap"] < quote["bp"] + 0.03
        assert quote["bs"] % 100 == quote["as"] % 100 == 0
        assert min(quote["bs"], quote["as"]) > 0


def test_a_trade_is_at_the_quote_before_it_or_a_dealers_at_its_middle(recorded: Recorded) -> None:
    quote: dict[str, Any] = {}
    at_edge = inside = 0
    for frame in recorded.stock:
        for event in json.loads(frame):
            if event["ev"] == "Q":
                quote = event
            elif quote:
                edge = event["p"] in (quote["bp"], quote["ap"])
                at_edge, inside = at_edge + edge, inside + (not edge)
                assert edge or (event["x"] == 4 and math.isclose(event["p"], (quote["bp"] + quote["ap"]) / 2))
    assert at_edge > 5 * inside > 100


def test_an_odd_lot_says_so_and_a_dealers_report_names_the_facility(recorded: Recorded) -> None:
    for trade in recorded.events("T.SPY"):
        assert (37 in trade.get("c", [])) == (trade["s"] < 100)
        assert tuple(trade.get("c", ())) in CONDITIONS
        assert ("trfi" in trade) == ("trft" in trade) == (trade["x"] == 4)


def test_spy_follows_es_by_a_ratio_within_its_band(recorded: Recorded) -> None:
    books = recorded.front_books()
    quotes = recorded.events("Q.SPY")
    at = np.searchsorted(books["ts_event"], np.array([q["t"] for q in quotes]) * MS, "right") - 1
    es = (books["bid_px_00"][at] + books["ask_px_00"][at]) / 2e9
    ratio = es / np.array([(q["bp"] + q["ap"]) / 2 for q in quotes])

    assert np.abs(ratio - RATIO_E6 / 1e6).max() < RATIO_BAND_E6 / 1e6 + 0.002
    assert len(np.unique(books["bid_px_00"])) > 5


def test_calls_and_puts_of_a_snapshot_keep_parity_within_the_spread(recorded: Recorded) -> None:
    checked = 0
    for page_time in sorted({c["underlying_asset"]["last_updated"] for c in recorded.contracts()}):
        of_moment = [c for c in recorded.contracts() if c["underlying_asset"]["last_updated"] == page_time]
        by_key = {
            (c["details"]["expiration_date"], c["details"]["strike_price"], c["details"]["contract_type"]): c
            for c in of_moment
        }
        for (expiry, strike, kind), call in by_key.items():
            if kind == "call":
                put = by_key[expiry, strike, "put"]
                spot = call["underlying_asset"]["price"]
                days = (np.datetime64(f"{expiry}T21:00") - np.datetime64(page_time, "ns")) / np.timedelta64(1, "D")
                expected = spot - strike * math.exp(-SPY_RATE * float(days) / 365)
                quotes = (call["last_quote"], put["last_quote"])
                error = sum(q["ask"] - q["bid"] for q in quotes) / 2 + 0.02
                assert abs(quotes[0]["midpoint"] - quotes[1]["midpoint"] - expected) <= error
                checked += 1
    assert checked == 3 * 240


def test_greeks_have_the_signs_of_greeks_and_some_contracts_have_none(recorded: Recorded) -> None:
    contracts = recorded.contracts()
    known = [contract for contract in contracts if contract["greeks"]]

    assert 0 < len(contracts) - len(known) < len(contracts) / 20
    assert all("implied_volatility" not in contract for contract in contracts if not contract["greeks"])
    for contract in known:
        greeks, is_call = contract["greeks"], contract["details"]["contract_type"] == "call"
        assert 0 <= greeks["delta"] <= 1 if is_call else -1 <= greeks["delta"] <= 0
        assert greeks["gamma"] >= 0
        assert greeks["vega"] >= 0
        assert 0.05 < contract["implied_volatility"] < 0.5
    money = [c for c in known if abs(c["details"]["strike_price"] - c["underlying_asset"]["price"]) < 1]
    assert all(0.2 < abs(c["greeks"]["delta"]) < 0.8 for c in money)
    assert all(c["greeks"]["theta"] < 0 for c in money)


def test_a_snapshots_times_are_nanoseconds_at_or_before_it(recorded: Recorded) -> None:
    for contract in recorded.contracts():
        at = contract["underlying_asset"]["last_updated"]
        assert NOON <= at < NOON + 21 * NS_PER_SECOND
        assert at - 50_000_000 < contract["last_quote"]["last_updated"] <= at
        assert contract.get("last_trade", {"sip_timestamp": 0})["sip_timestamp"] < at
    assert any("last_trade" in contract for contract in recorded.contracts())


def test_option_trades_lie_within_the_models_bid_and_ask_on_either_side(recorded: Recorded) -> None:
    for tape in ("options", "es_options"):
        price, bid, ask, side = (recorded.joined(f"{tape}.{name}") for name in ("price", "bid", "ask", "side"))
        assert (bid < ask).all()
        assert ((bid <= price) & (price <= ask) & (price > 0)).all()
        assert (price[side > 0] == ask[side > 0]).all()
        assert (price[side < 0] == bid[side < 0]).all()
        assert set(side) == {-1, 0, 1}
    assert [round(e["p"] * 100) for e in recorded.events("T.O:SPY")] == recorded.joined("options.price").tolist()


def test_es_options_trade_in_the_same_dbn_under_ids_that_are_announced(recorded: Recorded) -> None:
    mappings, trades = recorded.records(MAPPING), recorded.records(TRADE)
    names = dict(zip(mappings["instrument_id"].tolist(), mappings["stype_out_symbol"].tolist(), strict=True))
    options = trades[trades["instrument_id"] >= 1_000_000]
    codes = {names[number].split()[0] for number in options["instrument_id"].tolist()}

    assert len(options) == len(recorded.joined("es_options.price")) > 500
    assert codes == {b"E1BZ5", b"E1CZ5", b"E1DZ5", b"EW1Z5", b"EW2Z5", b"ESZ5"}
    assert (options["price"] == recorded.joined("es_options.price") * 50_000_000).all()
    assert set(options["side"]) <= {b"A", b"B", b"N"}


def test_option_definitions_name_strike_right_underlying_and_expiration(recorded: Recorded) -> None:
    definitions = recorded.records(DEFINITION)
    options = {d["raw_symbol"]: d for d in definitions if d["instrument_class"] in (b"C", b"P")}
    quarterly, today = options[b"ESZ5 C6900"], options[b"E1BZ5 P6900"]

    assert len(options) == 480
    assert (quarterly["strike_price"], quarterly["instrument_class"]) == (6_900 * 10**9, b"C")
    assert quarterly["expiration"] == Contract(2025, 12).expiration_ns
    assert (quarterly["asset"], quarterly["security_type"], quarterly["cfi"]) == (b"ES", b"OOF", b"OCAFPS")
    assert quarterly["underlying"] == b"ESZ5"
    assert quarterly["underlying_id"] == definitions[0]["instrument_id"]
    assert (today["asset"], today["instrument_class"], today["cfi"]) == (b"E1B", b"P", b"OPEFPS")
    assert today["expiration"] == NOON + 4 * 3_600 * NS_PER_SECOND  # 16:00 in New York


@pytest.mark.parametrize(
    ("now", "es_codes"),
    [
        ("2025-12-18T12:00", ["E3DZ5", "ESZ5", "E4AZ5", "E4BZ5", "EW4Z5", "EW3F6"]),
        ("2025-12-30T12:00", ["E5BZ5", "EWZ5", "E1DF6", "EW1F6", "EW2F6", "EW3F6"]),
        ("2026-01-30T12:00", ["EWF6", "E1AG6", "E1BG6", "E1CG6", "EW1G6", "EW3G6"]),
    ],
)
def test_codes_of_es_options_follow_the_day_of_expiry(now: str, es_codes: list[str]) -> None:
    ns = int(np.datetime64(now, "ns").astype(np.int64))

    assert [series.code for series in es_board(69_000_000, ns, Contract(2025, 12)).series] == es_codes


def test_after_four_in_new_york_the_days_options_are_gone() -> None:
    def first(now: str) -> str:
        return spy_board(6_880_000, int(np.datetime64(now, "ns").astype(np.int64))).series[0].code

    assert first("2025-12-02T20:59:59") == "O:SPY251202"
    assert first("2025-12-02T21:00:00") == "O:SPY251203"
    assert first("2025-12-05T21:00:00") == "O:SPY251208"


def test_an_option_that_expires_stops_trading_at_that_instant() -> None:
    expiry = NOON + 4 * 3_600 * NS_PER_SECOND
    recorded = Recorded(2, 4_000, 4, start=expiry - 2 * NS_PER_SECOND)
    events = [event for event in recorded.events("T.O:SPY") if event["sym"].startswith("O:SPY251202")]

    assert len(events) > 50
    assert all(event["t"] * MS < expiry for event in events)
    assert any(event["t"] * MS >= expiry for event in recorded.events("T.O:SPY"))


# The model


def test_greeks_are_the_derivatives_of_the_price() -> None:
    spot, strike = np.full(9, 688.0), np.arange(680.0, 697.0, 2)
    left, call = np.full(9, 86_400 * NS_PER_SECOND), np.arange(9) % 2 == 0
    worth = pricing.worth(spot, strike, left, call, SPY_RATE)

    assert ((worth.gamma[1:-1] > 0) & (worth.theta[1:-1] < 0)).all()
    for number in range(9):
        own = worth.volatility[number]
        reference = black_scholes(688.0, strike[number], 1 / 365, own, call=bool(call[number]))
        higher, lower = (
            black_scholes(688.0 + step, strike[number], 1 / 365, own, call=bool(call[number])) for step in (0.01, -0.01)
        )
        assert worth.price[number] == pytest.approx(reference, abs=1e-9)
        assert worth.delta[number] == pytest.approx((higher - lower) / 0.02, abs=1e-5)
        assert worth.gamma[number] == pytest.approx((higher - 2 * reference + lower) / 1e-4, abs=1e-3)


def black_scholes(spot: float, strike: float, years: float, volatility: float, *, call: bool) -> float:
    deviation = volatility * math.sqrt(years)
    above = (math.log(spot / strike) + SPY_RATE * years) / deviation + deviation / 2

    def normal(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    discounted = strike * math.exp(-SPY_RATE * years)
    price = spot * normal(above) - discounted * normal(above - deviation)
    return price if call else price - spot + discounted

"""Option quotes of the simulated market: the vendors' formats, and the laws between quotes, prints and the truth."""

import csv
import gzip
import json
from bisect import bisect_right
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import databento
import numpy as np
import pytest

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.calendar import NS_PER_MINUTE
from spymaster.simulation.day import write_day
from spymaster.simulation.option_quotes import LEAD_SPAN_NS, LEAST_LEAD_NS
from spymaster.simulation.options import AT_ASK, AT_BID
from tests.sim_recording import MAPPING, MBP1, MBP10, NOON, TRADE, Recorded

MS = 1_000_000
LEAD_NS = LEAST_LEAD_NS + LEAD_SPAN_NS
FIRST_OPTION = 1_000_000
UNDEFINED = np.iinfo(np.int64).max
EXPIRY = NOON + 4 * 3_600 * NS_PER_SECOND


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded(3, 3_000, 40)


class Latest:
    """The latest quote of an option at a time, as a plain as-of join has it."""

    def __init__(self, quotes: list[tuple[Any, int, Any]]) -> None:
        self._times: dict[Any, list[int]] = defaultdict(list)
        self._quotes: dict[Any, list[Any]] = defaultdict(list)
        for option, time, quote in sorted(quotes, key=lambda one: one[1]):
            self._times[option].append(time)
            self._quotes[option].append(quote)

    def at(self, option: Any, time: int) -> tuple[int, Any] | None:
        number = bisect_right(self._times[option], time) - 1
        return None if number < 0 else (self._times[option][number], self._quotes[option][number])


def es_quotes(recorded: Recorded) -> Latest:
    rows = recorded.records(MBP1)
    columns = [rows[name].tolist() for name in ("instrument_id", "ts_event", "bid_px_00", "ask_px_00")]
    return Latest([(option, time, (bid, ask)) for option, time, bid, ask in zip(*columns, strict=True)])


def es_prints(recorded: Recorded) -> Any:
    trades = recorded.records(TRADE)
    return trades[trades["instrument_id"] >= FIRST_OPTION]


# The vendors' formats


def test_a_quote_of_spys_options_has_the_fields_that_the_vendor_describes(recorded: Recorded, real_data: Path) -> None:
    spec = json.loads((real_data / "massive-client/spec_websocket.json").read_text())
    described = spec["paths"]["/options/Q"]["get"]["responses"]["200"]["content"]["application/json"]
    names = described["schema"]["properties"]
    types = {"integer": int, "number": float, "string": str}

    quotes = recorded.events("Q.O:SPY")
    assert len(quotes) > 10_000
    for quote in quotes:
        assert set(quote) == set(names)
        assert all(isinstance(value, types[names[name].get("type", "string")]) for name, value in quote.items())
    assert (np.diff([quote["q"] for quote in quotes]) > 0).all()


def test_frames_of_option_quotes_hold_nothing_else_and_a_quote_comes_before_its_print(recorded: Recorded) -> None:
    latest: dict[str, int] = defaultdict(int)
    spans, seen = [], 0
    for frame in recorded.options:
        events = json.loads(frame)
        assert len({event["ev"] for event in events}) == 1
        assert 1 <= len(events) <= 20
        times = [event["t"] for event in events]
        assert times == sorted(times)
        assert times[-1] - times[0] <= 10
        spans.append(times[0] // 10)
        for event in events:
            if event["ev"] == "Q":
                latest[event["sym"]] = event["t"]
            else:
                assert event["t"] - 4 <= latest[event["sym"]]
                seen += 1
    assert spans == sorted(spans)
    assert seen > 10_000


def test_a_quote_of_es_options_is_a_record_of_a_change_at_the_best_price(recorded: Recorded) -> None:
    quotes = recorded.records(MBP1)
    announced = set(recorded.records(MAPPING)["instrument_id"].tolist())

    assert len(quotes) > 8_000
    assert set(quotes["instrument_id"].tolist()) <= announced
    assert quotes["instrument_id"].min() >= FIRST_OPTION
    assert set(quotes["action"]) == {b"A", b"M"}
    assert (np.diff(quotes["sequence"].astype(np.int64)) > 0).all()
    for letter, side in ((b"B", "bid"), (b"A", "ask")):
        changed = quotes[quotes["side"] == letter]
        assert len(changed) > 2_000
        assert (changed["price"] == changed[f"{side}_px_00"]).all()
        assert (changed["price"] != UNDEFINED).all()
        assert ((changed["size"] > 0) & (changed["size"] <= changed[f"{side}_sz_00"])).all()
        there = quotes[f"{side}_px_00"] != UNDEFINED
        assert (quotes[f"{side}_ct_00"] <= quotes[f"{side}_sz_00"]).all()
        assert ((quotes[f"{side}_sz_00"] > 0) == there).all()
        assert ((quotes[f"{side}_ct_00"] > 0) == there).all()
    assert (quotes["bid_px_00"] == UNDEFINED).any()
    assert (quotes["ask_px_00"] != UNDEFINED).all()


@pytest.mark.parametrize("plant", [(), ("sweeps", "late")])
def test_times_of_receipt_grow_through_the_whole_stream_of_dbn(plant: tuple[str, ...]) -> None:
    recorded = Recorded(3, 1_500, 90 if plant else 12, plant=plant)
    data = b"".join(recorded.dbn)
    at = np.sort(np.concatenate([recorded.offsets[kind] for kind in (TRADE, MBP10, MBP1)]))
    received = np.array([int.from_bytes(data[begin + 32 : begin + 40], "little") for begin in at.tolist()])
    quotes = recorded.records(MBP1)

    assert {truth["kind"] for truth in recorded.truths} == ({"sweep", "late"} if plant else set())
    assert len(quotes) > 1_000
    assert (np.diff(received) >= 0).all()
    assert (quotes["ts_recv"] >= quotes["ts_event"] + 80_000).all()
    assert (quotes["ts_recv"] < quotes["ts_event"] + 10 * MS).all()


def test_quotes_come_in_their_stated_numbers_beside_the_asked_rate(recorded: Recorded) -> None:
    spy, es = len(recorded.events("Q.O:SPY")), len(recorded.records(MBP1))
    prints = len(recorded.events("T.O:SPY"))

    assert spy / prints == pytest.approx(30 / 10, rel=0.02)
    assert es / len(es_prints(recorded)) == pytest.approx(10 / 2, rel=0.02)


# The laws


def test_quotes_are_not_crossed(recorded: Recorded) -> None:
    quotes = recorded.records(MBP1)
    bid = np.where(quotes["bid_px_00"] == UNDEFINED, 0, quotes["bid_px_00"])

    assert (bid < quotes["ask_px_00"]).all()
    assert all(quote["bp"] < quote["ap"] for quote in recorded.events("Q.O:SPY"))


def test_the_latest_quote_of_an_es_option_at_a_print_is_what_it_was_priced_from(recorded: Recorded) -> None:
    quotes, prints = es_quotes(recorded), es_prints(recorded)
    model = zip(*(recorded.joined(f"es_options.{name}").tolist() for name in ("bid", "ask")), strict=True)
    leads = []

    for trade, (bid, ask) in zip(prints, model, strict=True):
        time, quote = quotes.at(int(trade["instrument_id"]), int(trade["ts_event"]))
        assert quote == (bid * 50_000_000 if bid else UNDEFINED, ask * 50_000_000)
        leads.append(int(trade["ts_event"]) - time)
    assert len(leads) > 2_000
    assert min(leads) >= 0
    assert max(leads) < LEAD_NS
    assert np.mean(np.array(leads) >= LEAST_LEAD_NS) > 0.97


def test_a_quote_stands_in_the_stream_before_its_print(recorded: Recorded) -> None:
    data = b"".join(recorded.dbn)
    latest: dict[int, int] = {}
    seen = 0
    for at in np.sort(np.concatenate([recorded.offsets[TRADE], recorded.offsets[MBP1]])).tolist():
        option, time = int.from_bytes(data[at + 4 : at + 8], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        if data[at + 1] == MBP1:
            latest[option] = time
        elif option >= FIRST_OPTION:
            assert time - LEAD_NS < latest[option] <= time
            seen += 1
    assert seen > 2_000


def shares(prints: list[tuple[Any, Any, Any]]) -> dict[str, float]:
    """Return the shares of prints at the bid, at the ask and between, of options with a bid."""
    with_bid = [one for one in prints if one[1]]
    found = {"bid": 0, "ask": 0, "between": 0}
    for price, bid, ask in with_bid:
        assert bid <= price <= ask
        found["bid" if price == bid else "ask" if price == ask else "between"] += 1
    return {name: count / len(with_bid) for name, count in found.items()}


def test_prints_stand_at_bid_and_ask_by_their_stated_shares_and_where_the_truth_says_who_began_they_do_exactly(
    day: Path,
) -> None:
    for prints in (es_of_day(day), spy_of_day(day)):
        sides = [side for _, _, side in prints]
        assert len(sides) > 3_500
        for (price, bid, ask), _, side in prints:
            if side is not None:
                assert price == (ask if side == "buy" else bid)
        of_bid = [side for (_, bid, _), _, side in prints if bid]
        assert sides.count("buy") / len(sides) == pytest.approx(AT_ASK / 256, abs=0.025)
        assert of_bid.count("sell") / len(of_bid) == pytest.approx(AT_BID / 256, abs=0.025)
        assert "sell" not in {side for (_, bid, _), _, side in prints if not bid}
        seen = shares([quoted for quoted, _, _ in prints])
        assert seen["ask"] == pytest.approx(AT_ASK / 256, abs=0.025)
        # A print inside is at the bid where no tick lies between, so that it may look like a sale.
        assert AT_BID / 256 - 0.025 < seen["bid"] < 1 - AT_ASK / 256
        assert seen["between"] > 0.02


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quoted") / "day"
    write_day(date(2025, 12, 2), out, 6, 1_500, ("repeats",), minutes=(17 * 60, 17 * 60 + 2))
    return out


Print = tuple[tuple[float, float, float], int, Any]


def truths_of(day: Path, *, spy: bool) -> dict[tuple[str, int, float, int], list[Any]]:
    """The truth of each print by option, time, price and size."""
    found = defaultdict(list)
    for line in (day / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        if truth["kind"] == "option_trade" and truth["instrument"].startswith("O:") == spy:
            key = (truth["instrument"], truth["ts_event_ns"], truth["price"], truth["size"])
            found[key].append(truth)
    return found


def spy_of_day(day: Path) -> list[Print]:
    def rows(kind: str) -> list[dict[str, str]]:
        with gzip.open(day / f"us_options_opra/{kind}/2025-12-02.csv.gz", "rt") as text:
            return list(csv.DictReader(text))

    quotes = Latest(
        [
            (row["ticker"], int(row["sip_timestamp"]), (float(row["bid_price"]), float(row["ask_price"])))
            for row in rows("quotes_v1")
        ]
    )
    truths, prints = truths_of(day, spy=True), []
    for row in rows("trades_v1"):
        ticker, at, price = row["ticker"], int(row["sip_timestamp"]), float(row["price"])
        (truth,) = truths.pop((ticker, at, price, int(row["size"])))
        prints.append(((price, *quotes.at(ticker, at)[1]), at, truth["side"]))
    assert not truths
    return prints


def es_of_day(day: Path) -> list[Print]:
    def read(schema: str) -> tuple[Any, list[str]]:
        store = databento.DBNStore.from_bytes((day / f"glbx-mdp3-20251202.{schema}.dbn.zst").read_bytes())
        names = {
            int(interval["symbol"]): symbol for symbol, intervals in store.mappings.items() for interval in intervals
        }
        rows = store.to_ndarray()
        return rows, [names[number] for number in rows["instrument_id"].tolist()]

    rows, symbols = read("mbp-1")
    bids, asks = np.where(rows["bid_px_00"] == UNDEFINED, 0, rows["bid_px_00"]) / 1e9, rows["ask_px_00"] / 1e9
    columns = (symbols, rows["ts_event"].tolist(), zip(bids.tolist(), asks.tolist(), strict=True))
    quotes = Latest(list(zip(*columns, strict=True)))
    rows, symbols = read("trades")
    truths, prints = truths_of(day, spy=False), []
    for row, symbol in zip(rows, symbols, strict=True):
        if int(row["instrument_id"]) >= FIRST_OPTION:
            at, price = int(row["ts_event"]), int(row["price"]) / 1e9
            (truth,) = truths.pop((symbol, at, price, int(row["size"])))
            assert truth["seq"] == row["sequence"]
            assert row["side"] == {"buy": b"B", "sell": b"A", None: b"N"}[truth["side"]]
            prints.append(((price, *quotes.at(symbol, at)[1]), at, truth["side"]))
    assert not truths
    return prints


def test_the_truth_of_each_live_print_is_told_once_by_its_sequence_number() -> None:
    recorded = Recorded(3, 2_000, 20, plant=("repeats",))
    told = {(one["instrument"], one["seq"]): one for one in recorded.prints}
    spy = recorded.events("T.O:SPY")

    assert len(told) == len(recorded.prints)
    assert {(event["sym"], event["q"]) for event in spy} == {key for key in told if key[0].startswith("O:")}
    for event in spy:
        truth = told[event["sym"], event["q"]]
        assert (truth["price"], truth["size"], truth["ts_event_ns"] // MS) == (event["p"], event["s"], event["t"])
    mappings, prints = recorded.records(MAPPING), es_prints(recorded)
    names = dict(zip(mappings["instrument_id"].tolist(), mappings["stype_out_symbol"].tolist(), strict=True))
    es = {(names[trade["instrument_id"]].decode(), int(trade["sequence"])): trade for trade in prints}
    assert len(es) < len(prints), "some are sent twice"
    assert set(es) == {key for key in told if not key[0].startswith("O:")}
    for key, trade in es.items():
        assert told[key]["ts_event_ns"] == trade["ts_event"]
        assert round(told[key]["price"] * 1e9) == trade["price"]
        assert told[key]["size"] == trade["size"]


def test_the_latest_quote_at_a_live_print_of_spys_options_is_its_own_though_frames_have_milliseconds(
    recorded: Recorded,
) -> None:
    quotes = Latest([(one["sym"], one["t"], (one["bp"], one["ap"])) for one in recorded.events("Q.O:SPY")])
    trades = recorded.events("T.O:SPY")
    of_millisecond = Counter((trade["sym"], trade["t"]) for trade in trades)
    model = zip(*(recorded.joined(f"options.{name}").tolist() for name in ("bid", "ask")), strict=True)
    begins = np.array([step.begin for step in recorded.steps]) // MS
    before: dict[str, int] = defaultdict(int)
    seen = apart = 0

    for trade, (bid, ask) in zip(trades, model, strict=True):
        symbol, at = trade["sym"], trade["t"]
        if of_millisecond[symbol, at] == 1:
            found = quotes.at(symbol, at)
            assert found is not None
            assert found[1] == (bid / 100, ask / 100)
            seen += 1
            if before[symbol] < at - 4 and not ((begins > at - 4) & (begins <= at)).any():
                assert found[0] < at, "none comes in the print's own millisecond, not even after it"
                apart += 1
        before[symbol] = at
    assert seen > apart > 0.95 * len(trades) > 9_500


def test_an_expired_option_is_not_quoted() -> None:
    recorded = Recorded(2, 4_000, 4, start=EXPIRY - 2 * NS_PER_SECOND)
    spy = [event for event in recorded.events("Q.O:SPY") if event["sym"].startswith("O:SPY251202")]
    mappings, es = recorded.records(MAPPING), recorded.records(MBP1)
    mine = mappings["instrument_id"][np.char.startswith(mappings["stype_out_symbol"], b"E1B")]
    es = es[np.isin(es["instrument_id"], mine)]

    assert min(len(spy), len(es)) > 100
    assert all(event["t"] * MS < EXPIRY for event in spy)
    assert (es["ts_event"] < EXPIRY).all()
    assert any(event["t"] * MS > EXPIRY for event in recorded.events("Q.O:SPY"))


# What is planted


def test_quotes_of_spys_options_are_crossed_where_that_is_planted_and_only_there() -> None:
    recorded = Recorded(3, 2_000, 12, plant=("crossed",))
    (truth,) = recorded.truths
    quotes = recorded.events("Q.O:SPY")
    crossed = [quote for quote in quotes if quote["bp"] > quote["ap"]]

    assert len(crossed) > 100
    assert all(truth["begin_ns"] // MS <= quote["t"] <= truth["end_ns"] // MS for quote in crossed)
    assert all(quote["bp"] != quote["ap"] for quote in quotes)


def test_the_quote_of_a_late_print_comes_before_the_print_happened() -> None:
    recorded = Recorded(3, 3_000, 12, plant=("late",))
    quotes, prints = es_quotes(recorded), es_prints(recorded)
    bids, asks, late = (recorded.joined(f"es_options.{name}") for name in ("bid", "ask", "late_ns"))
    begins = [step.begin for step in recorded.steps if step.es_options is not None for _ in step.es_options.seq]

    held = 0
    for number, trade in enumerate(prints):
        found = quotes.at(int(trade["instrument_id"]), int(trade["ts_event"]))
        if trade["ts_event"] >= begins[number] or late[number] == 0:
            assert found[1] == (bids[number] * 50_000_000 or UNDEFINED, asks[number] * 50_000_000)
            held += late[number] > 0
    assert held > 20


def test_the_same_seed_gives_the_same_quotes_and_another_gives_others() -> None:
    def quoted(seed: int) -> tuple[Any, Any]:
        recorded = Recorded(seed, 500, 11)
        return recorded.records(MBP1).tobytes(), recorded.events("Q.O:SPY")

    assert quoted(5) == quoted(5)
    assert quoted(5)[0] != quoted(6)[0]


def test_dbn_with_its_quotes_is_the_same_without_spy() -> None:
    from spymaster.simulation.source import SimulatedMarket

    assert NOON % NS_PER_MINUTE == 0
    recorded = Recorded(4, 1_000, 11)
    blocks = SimulatedMarket(4, 1_000, NOON).blocks()

    assert [next(blocks) for _ in recorded.dbn] == recorded.dbn

"""What is planted in the simulated market shows in the bytes, where and when the truth says, and nowhere else."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from spymaster.clock import NS_PER_SECOND
from spymaster.errors import UsageError
from spymaster.simulation.plant import KIND_OF, LASTS_NS, parse_plant
from spymaster.simulation.source import SimFeed, SimulatedMarket
from tests.sim_recording import MBP1, MBP10, NOON, STATUS, TRADE, Recorded

MS = 1_000_000
TICK_E9 = 250_000_000
RATE = 1_500


def planted(kind: str, seed: int = 3, count: int = 1) -> Recorded:
    recorded = Recorded(seed, RATE, 20 * count + 1, plant=(kind,), truths=count)
    assert [truth["kind"] for truth in recorded.truths] == [KIND_OF[kind]] * count
    return recorded


def within(truth: dict[str, Any], records: Any) -> Any:
    return records[(records["ts_event"] >= truth["begin_ns"]) & (records["ts_event"] < truth["end_ns"])]


def test_without_plant_nothing_is_planted_and_no_book_is_crossed() -> None:
    recorded = Recorded(3, RATE, 25)
    books = recorded.records(MBP10)

    assert recorded.truths == []
    assert (books["bid_px_00"] < books["ask_px_00"]).all()
    assert set(recorded.records(STATUS)["action"]) == {7}
    for messages in (recorded.dbn, recorded.stock, recorded.options):
        assert all(before != after for before, after in pairwise(messages))


@pytest.mark.parametrize("rate", [RATE, 500])
def test_a_flow_turns_the_sign_of_what_customers_trade_in_todays_options_of_spy_and_es(rate: int) -> None:
    recorded = Recorded(3, rate, 21, plant=("turns",))
    truths = recorded.truths
    assert [truth["kind"] for truth in truths] == ["flow_turn"] * 2
    assert [truth["instrument"] for truth in truths] == ["SPY", "ESZ5"]
    for tape, truth in zip(("options", "es_options"), truths, strict=True):
        when, side, size = (recorded.joined(f"{tape}.{name}") for name in ("arrival_ns", "side", "size"))
        first = (when >= truth["begin_ns"]) & (when < truth["turn_ns"])
        second = (when >= truth["turn_ns"]) & (when < truth["end_ns"])
        bought = [(side * size)[span].sum() for span in (first, second)]
        assert np.sign(bought).tolist() == ([-1, 1] if truth["dealers_after"] == "short" else [1, -1])
        assert abs(bought[1]) > abs(bought[0]), "so that the sum since the begin changes its sign too"
        one_sided = min(abs(side[span].mean()) for span in (first, second))
        assert truth["strength"] == pytest.approx(one_sided, abs=1e-3)
        assert one_sided > 0.7
    inside = [e for e in recorded.events("T.O:SPY") if truths[0]["begin_ns"] <= e["t"] * MS < truths[0]["end_ns"] - MS]
    assert {event["sym"][5:11] for event in inside} == {"251202"}
    trades = recorded.records(TRADE)
    options = within(truths[1], trades[trades["instrument_id"] >= 1_000_000])
    assert {b"A", b"B"} == set(options["side"])


def test_a_quarter_of_the_events_come_late_in_every_delivery_but_with_their_own_time_and_price() -> None:
    recorded = planted("late")
    (truth,) = recorded.truths
    trades, books = recorded.records(TRADE), recorded.front_books()
    whole = books[(books["flags"] & 128) > 0]
    options = trades["instrument_id"] >= 1_000_000
    arrived = [
        *(of["ts_event"].astype(np.int64) for of in (trades[options], trades[~options], whole)),
        *(np.array([event["t"] for event in recorded.events(channel)]) * MS for channel in ("T.SPY", "T.O:SPY")),
    ]
    for time in arrived:
        behind = np.maximum.accumulate(time) - time
        late = behind > 0
        assert late.sum() > 10
        assert behind.max() <= 402 * MS
        assert time[late].min() >= truth["begin_ns"] - MS
        assert time[late].max() < truth["end_ns"]
    inside = within(truth, whole)
    waited = inside["ts_recv"].astype(np.int64) - inside["ts_event"].astype(np.int64)
    late = waited > 50 * MS
    assert late.mean() == pytest.approx(0.25, abs=0.03)
    assert late.mean() == pytest.approx(truth["strength"], abs=0.02)
    prints = within(truth, trades[options])
    print_waited = prints["ts_recv"].astype(np.int64) - prints["ts_event"].astype(np.int64)
    for of in (waited, print_waited):
        assert of[of > MS].min() >= 100 * MS
        assert of[of > MS].max() > 350 * MS
    assert np.unique(inside["ts_recv"][late], return_counts=True)[1].max() < 10, "they do not come all at once"
    assert waited.max() < 401 * MS
    for of in (trades, books):
        assert (np.diff(of["ts_recv"].astype(np.int64)) >= 0).all()
    ordered = inside[np.argsort(inside["ts_event"], kind="stable")]
    moved = np.abs(np.diff(ordered["bid_px_00"].astype(np.int64)))
    assert moved.max() <= TICK_E9, "in order of their own time books follow each other"
    assert np.abs(np.diff(inside["bid_px_00"].astype(np.int64))).sum() > moved.sum(), "but not as they arrive"


def test_a_late_print_has_the_price_of_its_own_time() -> None:
    recorded = planted("late", seed=5)
    quotes, prints = recorded.events("Q.SPY"), recorded.events("T.SPY")
    at = np.array([quote["t"] for quote in quotes])
    low, high = np.array([quote["bp"] for quote in quotes]), np.array([quote["ap"] for quote in quotes])
    for event in prints:
        near = slice(np.searchsorted(at, event["t"] - 150), np.searchsorted(at, event["t"] + 2))
        if near.stop > near.start:
            assert low[near].min() - 1e-9 <= event["p"] <= high[near].max() + 1e-9


def test_repeated_messages_come_twice_equal_to_the_byte() -> None:
    recorded = planted("repeats")
    (truth,) = recorded.truths
    for messages in (recorded.stock, recorded.options):
        twice = [a for a, b in pairwise(messages) if a == b]
        assert len(twice) >= 2
        assert all(truth["begin_ns"] - MS <= json.loads(message)[0]["t"] * MS < truth["end_ns"] for message in twice)
    trades = recorded.records(TRADE)
    options = trades[trades["instrument_id"] >= 1_000_000]
    twice = options[1:][options[1:] == options[:-1]]
    assert len(twice) > 5
    assert len(within(truth, twice)) == len(twice)


def test_in_a_halt_nothing_trades_and_the_venue_says_so() -> None:
    recorded = Recorded(3, RATE, 20, plant=("halts",))
    (truth,) = recorded.truths
    for kind in (TRADE, MBP10):
        assert len(within(truth, recorded.records(kind))) == 0
    for channel in ("T.SPY", "Q.SPY", "T.O:SPY"):
        times = np.array([event["t"] for event in recorded.events(channel)]) * MS
        assert not ((times >= truth["begin_ns"]) & (times < truth["end_ns"] - MS)).any()
        assert (times > truth["end_ns"]).any()
    status = recorded.records(STATUS)
    status = status[status["reason"] == 0]  # what is scheduled has another
    count = len(status) // 2
    assert count == 3 + 480
    assert status["action"].tolist() == [8] * count + [7] * count
    assert status["ts_event"].tolist() == [truth["begin_ns"]] * count + [truth["end_ns"]] * count
    assert (status["instrument_id"][:count] == status["instrument_id"][count:]).all()
    for kind, flag in ((8, b"N"), (7, b"Y")):
        said = status[status["action"] == kind]
        assert set(said["is_trading"]) == set(said["is_quoting"]) == {flag}
    for quotes in (recorded.records(MBP1)["ts_event"], np.array([e["t"] for e in recorded.events("Q.O:SPY")]) * MS):
        assert not ((quotes >= truth["begin_ns"]) & (quotes < truth["end_ns"] - MS)).any()


def test_a_book_is_crossed_within_a_planted_span_only() -> None:
    recorded = Recorded(3, RATE, 12, plant=("crossed",))
    (truth,) = recorded.truths
    books = recorded.front_books()
    crossed = books["bid_px_00"] >= books["ask_px_00"]
    inside = (books["ts_event"] >= truth["begin_ns"]) & (books["ts_event"] < truth["end_ns"])

    assert (crossed == inside).all()
    assert inside.sum() > 100
    quotes = recorded.events("Q.SPY")
    lies = [quote["t"] for quote in quotes if quote["bp"] >= quote["ap"]]
    assert len(lies) > 100
    assert truth["begin_ns"] // MS <= min(lies) <= max(lies) <= truth["end_ns"] // MS


def test_all_kinds_are_planted_and_told() -> None:
    recorded = Recorded(1, 60, 1_000, plant=parse_plant("all"), truths=10_000)

    assert {truth["kind"] for truth in recorded.truths} == set(KIND_OF.values())
    for truth in recorded.truths:
        assert set(truth) >= {"kind", "begin_ns", "end_ns", "instrument", "price", "side", "strength", "visible"}
        assert truth["visible"] >= 0.5
        assert json.loads(json.dumps(truth)) == truth


def test_what_is_planted_is_part_of_what_makes_the_same_bytes() -> None:
    one, again = planted("walls"), planted("walls")
    assert (one.dbn, one.stock, one.options, one.chain, one.truths) == (
        again.dbn, again.stock, again.options, again.chain, again.truths,
    )  # fmt: skip


def test_kinds_to_plant_are_named_once_each_or_all_together() -> None:
    assert parse_plant("all") == tuple(KIND_OF)
    assert parse_plant("sweeps+walls") == ("walls", "sweeps")
    assert parse_plant("classic") == ("classic",)
    assert parse_plant("gamma+classic+walls") == ("classic", "walls", "gamma")
    assert parse_plant("classic+all") == ("classic", *(kind for kind in LASTS_NS if kind != "turns"))
    feed = SimFeed.parse("seed=1,plant=walls+sweeps,strength=.25,price=calm,truth=t.jsonl")
    assert (feed.market.plant, feed.market.strength, feed.market.price) == (("walls", "sweeps"), 0.25, "calm")
    assert feed.market.origin.endswith(",plant=walls+sweeps,strength=0.25,price=calm")
    assert SimFeed.parse(feed.market.origin.removeprefix("sim:")).market == feed.market


@pytest.mark.parametrize("strength", ["0.123456789", "0.00001", "0.000000001", "0.30", "1.0"])
def test_the_origin_makes_the_same_market_again_whatever_its_strength(strength: str) -> None:
    feed = SimFeed.parse(f"seed=1,start=2025-12-16,plant=walls,strength={strength}")
    assert SimFeed.parse(feed.market.origin.removeprefix("sim:")).market == feed.market


def test_of_a_market_too_slow_to_show_it_nothing_is_told() -> None:
    recorded = Recorded(103, 1, 1_200, plant=("vacuums", "absorption"))
    books = recorded.front_books()
    assert "vacuum" in {truth["kind"] for truth in recorded.truths}
    for truth in recorded.truths:
        assert truth["strength"] > 0
        seen = books["ts_event"][books["ts_event"] >= truth["begin_ns"] + NS_PER_SECOND]
        assert (seen < truth["end_ns"]).any()
        if truth["kind"] == "absorption":
            assert truth["strength"] >= 0.8 * 12


@pytest.mark.parametrize(
    "text",
    [
        "plant=", "plant=walls+walls", "plant=classic+classic", "plant=all+walls", "plant=wall", "truth=x",
        "plant=all,truth=", "plant=gamma", "plant=classic+turns", "strength=0.5", "plant=classic+walls,strength=0.5",
        "plant=all,strength=0", "plant=all,strength=1.1", "plant=all,strength=", "plant=all,strength=-1",
        "plant=all,strength=.", "plant=all,strength=nan", "price=wild", "price=",
    ],
)  # fmt: skip
def test_a_plant_that_cannot_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="Next: ") as refusal:
        SimFeed.parse(text)
    assert "\n" not in str(refusal.value)


def moves_a_minute(price: str) -> float:
    session = SimulatedMarket(3, 500, NOON, price=price).session(with_spy=False)
    bids: list[Any] = []
    for step in session.steps():
        if step.begin >= NOON + 600 * NS_PER_SECOND:
            break
        for tape in step.tapes:
            mine = (tape.instrument == 0) & ~tape.print_only
            bids.append(tape.levels[tape.after[mine], 0].view(np.int64))
    return float((np.diff(np.concatenate(bids)) != 0).sum() / 10)


def test_a_calm_price_moves_ten_to_twenty_times_a_minute() -> None:
    assert 10 <= moves_a_minute("calm") <= 20
    assert 70 <= moves_a_minute("usual") <= 110

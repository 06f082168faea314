"""What is planted in the simulated market shows in the bytes, where and when the truth says, and nowhere else."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from spymaster.errors import UsageError
from spymaster.simulation.plant import KIND_OF, LASTS_NS, SLOT_NS, parse_plant
from spymaster.simulation.source import SimFeed
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


def sizes_at(books: Any, price_e9: int, side: str) -> Any:
    """The size at a price in each book, and -1 where the price is not among the ten levels."""
    prices = np.stack([books[f"{side}_px_{level:02}"] for level in range(10)])
    sizes = np.stack([books[f"{side}_sz_{level:02}"] for level in range(10)]).astype(np.int64)
    return np.where(prices == price_e9, sizes, -1).max(axis=0)


def test_without_plant_nothing_is_planted_and_no_book_is_crossed() -> None:
    recorded = Recorded(3, RATE, 25)
    books = recorded.records(MBP10)

    assert recorded.truths == []
    assert (books["bid_px_00"] < books["ask_px_00"]).all()
    assert set(recorded.records(STATUS)["action"]) == {7}
    for messages in (recorded.dbn, recorded.stock, recorded.options):
        assert all(before != after for before, after in pairwise(messages))


@pytest.mark.parametrize("seed", [1, 3])
def test_a_wall_holds_five_times_the_usual_size_at_its_price_for_its_span(seed: int) -> None:
    recorded = planted("walls", seed)
    (truth,) = recorded.truths
    books = recorded.front_books()
    price = round(truth["price"] * 1e9)
    inside = sizes_at(within(truth, books), price, truth["side"])
    usual = np.concatenate([books[f"{truth['side']}_sz_{level:02}"] for level in range(1, 6)])
    seen = inside[inside >= 0]

    assert len(seen) > 0.5 * len(inside) > 500
    assert seen[0] >= truth["least_size"]
    assert seen.min() >= 5 * np.median(usual)
    before = sizes_at(books[books["ts_event"] < truth["begin_ns"]], price, truth["side"])
    assert before.max() < truth["least_size"] / 2
    assert books["action"][np.searchsorted(books["ts_event"], truth["begin_ns"])] == b"A"


def test_a_wall_is_taken_away_at_the_end_of_its_span() -> None:
    recorded = Recorded(3, RATE, 20, plant=("walls",))
    (truth,) = recorded.truths
    books = recorded.front_books()
    after = sizes_at(books[books["ts_event"] > truth["end_ns"]], round(truth["price"] * 1e9), truth["side"])

    assert after.max() < truth["least_size"] / 2


def test_a_vacuum_pulls_a_side_by_cancels_without_a_trade() -> None:
    recorded = planted("vacuums")
    (truth,) = recorded.truths
    side, letter = truth["side"], {"ask": b"B", "bid": b"A"}[truth["side"]]
    books = recorded.front_books()
    inside = within(truth, books)
    late = inside[len(inside) // 4 :]

    def depth(of: Any) -> Any:
        return np.mean([of[f"{side}_sz_{level:02}"].mean() for level in range(1, 7)])

    assert depth(late) < 0.3 * depth(books[books["ts_event"] < truth["begin_ns"]])
    assert not ((inside["action"] == b"T") & (inside["side"] == letter)).any()


def test_absorption_takes_several_times_the_shown_size_and_the_price_stays() -> None:
    recorded = planted("absorption")
    (truth,) = recorded.truths
    side, letter = truth["side"], {"ask": b"B", "bid": b"A"}[truth["side"]]
    inside = within(truth, recorded.front_books())
    hits = inside[(inside["action"] == b"T") & (inside["side"] == letter)]

    assert set(inside[f"{side}_px_00"]) == {round(truth["price"] * 1e9)}
    assert set(hits["price"]) == {round(truth["price"] * 1e9)}
    assert hits["size"].sum() > 20 * np.median(inside[f"{side}_sz_00"])


@pytest.mark.parametrize(("kind", "levels"), [("sweeps", 5), ("jumps", 24)])
def test_a_sweep_and_a_jump_take_many_levels_at_once_on_one_side(kind: str, levels: int) -> None:
    recorded = planted(kind)
    (truth,) = recorded.truths
    letter, name = (b"B", "ask") if truth["side"] == "ask" else (b"A", "bid")
    books = recorded.front_books()
    prints = within(truth, books)
    prints = prints[prints["action"] == b"T"]
    before = books[books["ts_event"] < truth["begin_ns"]][-1]
    after = books[books["ts_event"] >= truth["end_ns"]]

    assert len(prints) == levels
    assert set(prints["side"]) == {letter}
    assert abs(int(prints["price"][-1]) - int(prints["price"][0])) == (levels - 1) * TICK_E9
    assert prints["price"][0] == before[f"{name}_px_00"]
    assert abs(truth["ticks"]) == levels
    if len(after):
        assert abs(int(after["bid_px_00"][0]) - int(before["bid_px_00"])) >= (levels - 2) * TICK_E9


@pytest.mark.parametrize("seed", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["breaks", "rejections"])
def test_a_level_breaks_and_holds_beyond_or_is_touched_and_rejects(kind: str, seed: int) -> None:
    recorded = planted(kind, seed)
    (truth,) = recorded.truths
    level = round(truth["price"] * 1e9)
    inside = within(truth, recorded.front_books())
    up = truth["side"] == "ask"
    touch = (inside["ask_px_00"] if up else inside["bid_px_00"]).astype(np.int64)
    beyond = (touch - level) // TICK_E9 * (1 if up else -1)
    done = (inside["ts_event"].astype(np.int64) - truth["begin_ns"]) / (truth["end_ns"] - truth["begin_ns"])

    assert beyond[0] == -6
    assert (beyond[(done > 0.36) & (done < 0.49)] == 0).all(), "at the level"
    if kind == "breaks":
        assert beyond[done > 0.75].min() >= 6
        assert truth["beyond_ticks"] >= 6
    else:
        assert beyond.max() == 0
        assert beyond[-1] == -6


def test_a_gamma_flip_turns_the_sign_of_what_customers_trade_in_todays_options() -> None:
    recorded = planted("gamma")
    (truth,) = recorded.truths
    for tape in ("options", "es_options"):
        when, side, size = (recorded.joined(f"{tape}.{name}") for name in ("arrival_ns", "side", "size"))
        first = (when >= truth["begin_ns"]) & (when < truth["flip_ns"])
        second = (when >= truth["flip_ns"]) & (when < truth["end_ns"])
        bought = [(side * size)[span].sum() for span in (first, second)]
        assert np.sign(bought).tolist() == ([-1, 1] if truth["dealers_after"] == "short" else [1, -1])
        assert abs(bought[1]) > abs(bought[0]), "so that the sum since the begin changes its sign too"
    inside = [e for e in recorded.events("T.O:SPY") if truth["begin_ns"] <= e["t"] * MS < truth["end_ns"] - MS]
    assert {event["sym"][5:11] for event in inside} == {"251202"}
    trades = recorded.records(TRADE)
    options = within(truth, trades[trades["instrument_id"] >= 1_000_000])
    assert {b"A", b"B"} == set(options["side"])


def test_late_messages_come_after_younger_ones_in_every_delivery() -> None:
    recorded = planted("late")
    (truth,) = recorded.truths
    trades = recorded.records(TRADE)
    times = [
        (trades["ts_event"].astype(np.int64), truth["late_ns"]),
        *(
            (np.array([event["t"] for event in recorded.events(channel)]) * MS, truth["late_ns"] - MS)
            for channel in ("T.SPY", "T.O:SPY")
        ),
    ]
    for time, late_ns in times:
        behind = np.maximum.accumulate(time) - time
        assert (behind > late_ns // 2).sum() > 10
        assert behind.max() <= late_ns + 2 * MS
        at = time[behind > late_ns // 2]
        assert at.min() >= truth["begin_ns"] - truth["late_ns"] - MS
        assert at.max() < truth["end_ns"]
    assert (np.diff(trades["ts_recv"].astype(np.int64)) >= 0).all()


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


def test_all_kinds_take_turns_a_slot_each() -> None:
    recorded = Recorded(1, 60, 20 * 13, plant=tuple(LASTS_NS))
    kinds = [truth["kind"] for truth in recorded.truths]

    assert set(kinds) >= set(KIND_OF.values()) - {"break", "reject"}, "a slow market may not reach a level"
    for truth in recorded.truths:
        assert 4_000 * MS <= (truth["begin_ns"] - NOON) % SLOT_NS < 6_000 * MS
        assert set(truth) >= {"kind", "begin_ns", "end_ns", "instrument", "price", "side"}
        assert json.loads(json.dumps(truth)) == truth


def test_what_is_planted_is_part_of_what_makes_the_same_bytes() -> None:
    one, again = planted("walls"), planted("walls")
    assert (one.dbn, one.stock, one.options, one.chain, one.truths) == (
        again.dbn, again.stock, again.options, again.chain, again.truths,
    )  # fmt: skip


def test_kinds_to_plant_are_named_once_each_or_all_together() -> None:
    assert parse_plant("all") == tuple(LASTS_NS)
    assert parse_plant("sweeps+walls") == ("walls", "sweeps")
    assert parse_plant("classic") == ("classic",)
    assert parse_plant("walls+classic") == ("classic", "walls")
    assert parse_plant("classic+all") == ("classic", *LASTS_NS)
    feed = SimFeed.parse("seed=1,plant=walls+sweeps,truth=t.jsonl")
    assert feed.market.plant == ("walls", "sweeps")
    assert feed.market.origin.endswith(",plant=walls+sweeps")


@pytest.mark.parametrize(
    "text",
    [
        "plant=",
        "plant=walls+walls",
        "plant=classic+classic",
        "plant=all+walls",
        "plant=wall",
        "truth=x",
        "plant=all,truth=",
    ],
)
def test_a_plant_that_cannot_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="Next: ") as refusal:
        SimFeed.parse(text)
    assert "\n" not in str(refusal.value)

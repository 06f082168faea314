"""A contest's evidence is in the data before the price arrives, and its outcome follows the stated odds alone.

The path and the evidence are read from the records alone, with nothing of the simulator's own but its truth.
"""

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from spymaster.clock import NS_PER_DAY
from spymaster.errors import UsageError
from spymaster.simulation import contests
from spymaster.simulation.contests import BREAKS, SHOWS, ContestPlan, breaks, draw_contest
from spymaster.simulation.deliveries import ChainWriter, DbnWriter, OptionWriter, StockWriter
from spymaster.simulation.plant import parse_plant
from spymaster.simulation.source import SimFeed, SimulatedMarket
from tests.long.contests import ContestFigures, Played, drawn, held_out_auc, judge, play, truths_of, wilson
from tests.sim_recording import NOON, TRADE, Recorded

S = 1_000_000_000
TICK = 0.25
PLANT = ("contests",)
# The seed and how many contests of each market that is read; of each the seed draws every state and part.
MARKETS = {(200, 1.0): (7, 40), (500, 1.0): (16, 9), (2_000, 1.0): (16, 6), (200, 0.25): (7, 24)}
RATES = (200, 500, 2_000)


class Read:
    """The front month's books and the prints of ES options in a market, and what was planted in it."""

    def __init__(self, rate: int, strength: float) -> None:
        seed, count = MARKETS[rate, strength]
        self.drawn = drawn(seed, NOON, count)
        session = SimulatedMarket(seed, rate, NOON, PLANT, strength).session(with_spy=False)
        writer = DbnWriter(seed)
        recorded = Recorded.__new__(Recorded)
        recorded.dbn = []
        for step in session.steps():
            if step.begin > self.drawn[-1].end_ns:
                break
            for messages in writer.write(step):
                recorded.dbn.extend(messages)
        self.truths = list(session.truths)
        self.books = recorded.front_books()
        self.t = self.books["ts_event"].astype(np.int64)
        self.px = {side: self._levels(f"{side}_px") / 1e9 for side in LETTER}
        self.sz = {side: self._levels(f"{side}_sz") for side in LETTER}
        self.whole = (self.books["flags"] & 128) > 0
        trades = recorded.records(TRADE)
        self.options = trades[trades["instrument_id"] >= 1_000_000]

    def _levels(self, name: str) -> Any:
        return np.stack([self.books[f"{name}_{level:02}"] for level in range(10)], 1).astype(np.int64)

    def books_of(self, begin: int, end: int) -> Any:
        return np.flatnonzero((self.t >= begin) & (self.t < end) & self.whole)

    def beyond(self, truth: dict[str, Any], rows: Any) -> Any:
        """By how many ticks each level of the truth's side is beyond its price."""
        return np.rint((self.px[truth["side"]][rows] - truth["price"]) / TICK * way(truth)).astype(int)

    def usual(self, truth: dict[str, Any]) -> Any:
        """The mean size of each level of the truth's side in the free time of the minute before."""
        free = self.whole & (self.t >= truth["begin_ns"] - 60 * S) & (self.t < truth["begin_ns"])
        for other in self.truths:
            free &= ~((self.t >= other["begin_ns"]) & (self.t < other["end_ns"]))
        return self.sz[truth["side"]][free].mean(0)

    def evidence(self, truth: dict[str, Any]) -> dict[str, float]:
        """What shows from a second after the begin to the arrival, of books and prints alone."""
        begin, arrival = truth["begin_ns"] + S, truth["arrival_ns"]
        rows = self.books_of(begin, arrival)
        beyond, sizes, usual = self.beyond(truth, rows), self.sz[truth["side"]][rows], self.usual(truth)
        seen = (beyond == 0).any(1)
        here, behind = (sizes / usual)[beyond == 0], (beyond >= 0) & (beyond < 10)
        left = ((sizes * behind).sum(1)[seen] / (usual * behind).sum(1)[seen]).max()
        prints = self.books[(self.t >= begin) & (self.t < arrival) & (self.books["action"] == b"T")]
        towards = prints["side"] == LETTER[truth["side"]]
        options = self.options[(self.options["ts_event"] >= begin) & (self.options["ts_event"] < arrival)]
        bought = options["side"] == b"B"
        return {
            "seen_s": float(arrival - self.t[rows][seen][0]) / S,
            "wall": float(here.min()),
            "tallest": float(here.max()),
            "left": float(left),
            "prints": float(towards.mean()),
            "lots": float(prints["size"][towards].sum() / prints["size"].sum()),
            "bought": float(bought.mean()) if len(options) else 0.5,
        }


LETTER = {"ask": b"B", "bid": b"A"}  # of the aggressor that consumes a side


def way(truth: dict[str, Any]) -> int:
    return 1 if truth["side"] == "ask" else -1


@cache
def read(rate: int, strength: float = 1.0) -> Read:
    return Read(rate, strength)


def shown(market: Read, state: str, part: str) -> list[dict[str, float]]:
    """The evidence of the contests of a state in which a part shows; `even` stands for those in which it does not."""
    return [
        market.evidence(truth)
        for truth in market.truths
        if (part in truth["shows"] and truth["state"] == state) or (state == "even" and part not in truth["shows"])
    ]


# The path


@pytest.mark.parametrize("rate", RATES)
def test_all_contests_that_are_drawn_come_off(rate: int) -> None:
    market = read(rate)

    assert [truth["number"] for truth in market.truths] == [contest.number for contest in market.drawn]
    for truth, contest in zip(market.truths, market.drawn, strict=True):
        assert json.loads(json.dumps(truth)) == truth
        assert (truth["state"], truth["p_break"]) == (contest.state, BREAKS[contest.state])
        assert truth["outcome"] == ("break" if breaks(MARKETS[rate, 1.0][0], contest) else "reject")


@pytest.mark.parametrize("rate", RATES)
def test_the_price_comes_to_a_level_stays_and_breaks_it_or_rejects(rate: int) -> None:
    market = read(rate)
    for truth in market.truths:
        stay, after = truth["decision_ns"] - truth["arrival_ns"], truth["outcome_ns"] - truth["decision_ns"]
        rows = market.books_of(truth["begin_ns"], truth["arrival_ns"])
        touch = market.beyond(truth, rows)[:, 0]

        assert truth["price"] % 2.5 == 0
        assert -16 <= touch[0] <= -6
        assert (touch < 0).all()
        assert (np.diff(touch) >= 0).all()
        at_level = market.beyond(truth, market.books_of(truth["arrival_ns"], truth["decision_ns"]))[:, 0]
        assert (at_level == 0).all()
        assert 1.5 * S <= stay <= 3 * S
        assert 0 < after < 5 * S
        rows = market.books_of(truth["decision_ns"], truth["outcome_ns"] + S // 10)
        both = [(market.px[side][rows, 0] - truth["price"]) / TICK * way(truth) for side in LETTER]
        if truth["outcome"] == "break":
            assert min(both[0].max(), both[1].max()) >= 6
            assert min(both[0].min(), both[1].min()) >= -1
        else:
            assert max(both[0].min(), both[1].min()) <= -6
            assert max(both[0].max(), both[1].max()) <= 1
    assert {truth["outcome"] for truth in market.truths} == {"break", "reject"}


@pytest.mark.parametrize("rate", RATES)
def test_no_book_is_crossed_and_each_print_is_at_the_touch(rate: int) -> None:
    market = read(rate)
    assert (market.px["bid"][market.whole, 0] < market.px["ask"][market.whole, 0]).all()
    prints = market.books["action"] == b"T"
    touch = np.where(market.books["side"] == b"B", market.px["ask"][:, 0], market.px["bid"][:, 0])
    assert np.array_equal(market.books["price"][prints] / 1e9, touch[prints])


# The evidence


@pytest.mark.parametrize("rate", RATES)
def test_a_defended_level_is_a_wall_or_is_pulled_well_before_the_price_arrives(rate: int) -> None:
    held, went, even = (shown(read(rate), state, "defence") for state in ("hold", "go", "even"))
    assert min(len(held), len(went), len(even)) >= 1
    assert min(one["seen_s"] for one in held + went) > 2
    assert min(one["wall"] for one in held) > 6.5
    assert max(one["left"] for one in went) < 0.06
    assert max(one["tallest"] for one in went + even) < 7
    assert min(one["left"] for one in held + even) > 0.3


@pytest.mark.parametrize("rate", RATES)
def test_a_level_that_comes_into_sight_is_defended_already(rate: int) -> None:
    market, late = read(rate), 0
    for truth in market.truths:
        rows = market.books_of(truth["begin_ns"] + S, truth["arrival_ns"])
        beyond, sizes = market.beyond(truth, rows), market.sz[truth["side"]][rows]
        late += beyond[0].max() < 9
        for price in range(10):
            sees = (beyond == price).any(1)
            first = sizes[sees][0][beyond[sees][0] == price] / market.usual(truth).mean() if sees.any() else np.empty(0)
            if "defence" in truth["shows"] and truth["state"] == "go":
                assert all(first <= 0.06)
            if "defence" in truth["shows"] and truth["state"] == "hold" and price == 0:
                assert all(first >= 6.5)
    assert late


@pytest.mark.parametrize("rate", RATES)
def test_prints_go_against_the_approach_or_towards_the_level(rate: int) -> None:
    market = read(rate)
    held, went, even = (shown(market, state, "aggression") for state in ("hold", "go", "even"))
    assert min(len(held), len(went), len(even)) >= 1
    assert max(one["prints"] for one in held) < 0.35
    assert max(one["lots"] for one in held) < 0.35
    assert min(one["prints"] for one in went) > 0.75
    assert min(one["lots"] for one in went) > 0.75
    assert all(0.3 < one["prints"] < 0.75 for one in even)
    volume: dict[bool, list[float]] = {True: [], False: []}
    for truth in market.truths:
        books = market.books[(market.t >= truth["begin_ns"]) & (market.t < truth["arrival_ns"])]
        prints = books["action"] == b"T"
        volume["aggression" in truth["shows"]].append(books["size"][prints].sum() / (~prints).sum())
    assert np.mean(volume[True]) > 1.3 * np.mean(volume[False])


@pytest.mark.parametrize("rate", RATES)
def test_customers_sell_or_buy_options(rate: int) -> None:
    held, went, even = (shown(read(rate), state, "gamma") for state in ("hold", "go", "even"))
    assert min(len(held), len(went), len(even)) >= 1
    assert max(one["bought"] for one in held) < 0.3
    assert min(one["bought"] for one in went) > 0.7
    assert 0.35 < np.mean([one["bought"] for one in even]) < 0.7


def test_spys_options_are_sold_and_bought_as_those_of_es_are() -> None:
    recorded = Recorded(7, 500, 400, plant=PLANT)
    when, side = recorded.joined("options.arrival_ns"), recorded.joined("options.side")
    told = 0
    for truth in recorded.truths:
        net = side[(when >= truth["begin_ns"]) & (when < truth["decision_ns"])].mean()
        if "gamma" in truth["shows"]:
            told += 1
            assert truth["strength"]["gamma_spy"] == pytest.approx(
                net * (1 if truth["state"] == "go" else -1), abs=1e-3
            )
            assert truth["strength"]["gamma_spy"] > 0.7
        else:
            assert abs(net) < 0.5
            assert truth["strength"]["gamma_spy"] is None
    assert told >= 2


@pytest.mark.parametrize("rate", RATES)
def test_the_truth_has_each_strength_as_it_came_out(rate: int) -> None:
    market = read(rate)
    for truth in market.truths:
        rows = market.books_of(truth["begin_ns"], truth["decision_ns"])
        beyond, sizes = market.beyond(truth, rows), market.sz[truth["side"]][rows]
        seen = (beyond == 0).any(1)
        spans = np.diff(np.append(market.t[rows], truth["decision_ns"]))
        strength, planted = truth["strength"], truth["shows"]

        assert truth["visible"] == pytest.approx(spans[seen].sum() / spans.sum(), abs=0.05)
        assert [strength[part] is not None for part in ("defence", "aggression", "gamma_es")] == [
            part in planted for part in SHOWS
        ]
        assert truth["state"] != "even" or not planted
        if "defence" in planted and truth["state"] == "hold":
            assert strength["defence"] == pytest.approx(sizes[beyond == 0].min() / truth["usual_size"], abs=1e-3)
            assert strength["defence"] >= 10
        elif "defence" in planted:
            assert strength["defence"] <= 0.05
        if "aggression" in planted:
            prints = market.books[(market.t >= truth["begin_ns"]) & (market.t < truth["decision_ns"])]
            prints = prints[prints["action"] == b"T"]
            towards = prints["size"][prints["side"] == LETTER[truth["side"]]].sum() / prints["size"].sum()
            assert strength["aggression"] == pytest.approx(towards if truth["state"] == "go" else 1 - towards, abs=1e-3)


@pytest.mark.parametrize("rate", RATES)
def test_what_was_held_is_let_go_at_the_decision(rate: int) -> None:
    market = read(rate)
    for truth in market.truths:
        if "defence" in truth["shows"]:
            rows = market.books_of(truth["decision_ns"] + 1, truth["end_ns"] + S)
            beyond, sizes = market.beyond(truth, rows), market.sz[truth["side"]][rows]
            behind = (beyond >= 0) & (beyond < 10)
            assert sizes[behind].max() < 5 * truth["usual_size"]
            full = (behind.sum(1) >= 2) & (market.t[rows] < truth["decision_ns"] + S // 4)
            assert ((sizes * behind).sum(1)[full] / behind.sum(1)[full]).mean() > 0.3 * market.usual(truth).mean()


def test_a_quarter_of_the_strength_is_faint_evidence_of_the_same_contests() -> None:
    whole, faint = read(200), read(200, 0.25)
    same = ("number", "begin_ns", "decision_ns", "end_ns", "side", "state", "shows", "p_break", "outcome")
    assert [[truth[name] for name in same] for truth in faint.truths] == [
        [truth[name] for name in same] for truth in whole.truths[:24]
    ]
    held, went = (shown(faint, state, "defence") for state in ("hold", "go"))
    assert all(1.8 < one["wall"] < 3.5 for one in held)
    assert all(0.4 < one["left"] < 1 for one in went)
    assert np.mean([one["bought"] for one in shown(faint, "go", "gamma")]) == pytest.approx(0.62, abs=0.08)
    assert np.mean([one["bought"] for one in shown(faint, "hold", "gamma")]) == pytest.approx(0.38, abs=0.08)


# The outcome


class Sent:
    """What four readers of a market got, a step after another."""

    def __init__(self, seed: int, until: int) -> None:
        session = SimulatedMarket(seed, 200, NOON, PLANT).session(with_spy=True)
        writers: list[Any] = [DbnWriter(seed), StockWriter(), OptionWriter(), ChainWriter()]
        self.steps: list[tuple[int, list[list[bytes]]]] = []
        for step in session.steps():
            if step.begin >= until:
                break
            messages = [[one for part in writer.write(step) for one in part] for writer in writers]
            self.steps.append((step.end, messages))
        self.truths = list(session.truths)

    def before(self, end: int) -> list[list[list[bytes]]]:
        return [messages for step_end, messages in self.steps if step_end <= end]

    def after(self, begin: int) -> list[list[list[bytes]]]:
        return [messages for step_end, messages in self.steps if step_end > begin]


def test_nothing_before_a_decision_depends_on_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = 37
    decided = drawn(seed, NOON, 3)
    plain = Sent(seed, decided[-1].end_ns + 1)
    draw = contests.outcome_draw
    for contest in decided:
        with monkeypatch.context() as inverted:
            inverted.setattr(
                contests, "outcome_draw",
                lambda seed, number, of=contest: draw(seed, number) ^ (0xFFFFFFFF * (number == of.number)),
            )  # fmt: skip
            other = Sent(seed, decided[-1].end_ns + 1)
        before = plain.before(contest.decide_ns)
        assert max(end for end, _ in plain.steps if end <= contest.decide_ns) == contest.decide_ns
        assert len(before) > 2
        assert all(sum(len(messages[delivery]) for messages in before) > 2 for delivery in range(4))
        assert other.before(contest.decide_ns) == before
        assert other.after(contest.decide_ns) != plain.after(contest.decide_ns), "and it was another outcome"
        number = contest.number
        assert other.truths[:number] == plain.truths[:number]
        after = ("outcome", "outcome_ns")
        told = [
            {name: value for name, value in of.truths[number].items() if name not in after} for of in (plain, other)
        ]
        assert told[0] == told[1]
        assert {of.truths[number]["outcome"] for of in (plain, other)} == {"break", "reject"}


def test_outcomes_of_five_thousand_follow_the_stated_odds_and_nothing_else() -> None:
    chosen = [(seed, contest) for seed in range(100) for contest in drawn(seed, NOON, 50)]
    broke = np.array([breaks(seed, contest) for seed, contest in chosen])
    states = np.array([contest.state for _, contest in chosen])
    for state, odds in BREAKS.items():
        low, high = wilson(int(broke[states == state].sum()), int((states == state).sum()))
        assert low <= odds <= high
        assert (states == state).mean() == pytest.approx(1 / 3, abs=0.03)
    before = np.array(
        [
            (
                c.number,
                c.rising,
                c.arrive_ns - c.begin_ns,
                c.decide_ns - c.arrive_ns,
                len(c.shows),
                c.begin_ns % S,
                seed,
            )
            for seed, c in chosen
        ]
    )
    spacing = np.concatenate(
        [np.diff([NOON, *(c.begin_ns for _, c in chosen[i : i + 50])]) for i in range(0, 5_000, 50)]
    )
    previous = np.roll(broke, 1)
    area, error = held_out_auc(np.column_stack([before, spacing, previous]), broke)
    assert abs(area - 0.5) < 3 * error
    by_odds, error = held_out_auc(np.array([[BREAKS[state]] for state in states]), broke)
    assert by_odds > 0.7
    assert error < 0.01


def test_a_rank_that_knows_the_outcome_is_found_and_one_that_does_not_is_not() -> None:
    random = np.random.default_rng(1)
    broke = random.random(2_000) < 0.5
    assert held_out_auc((broke + random.normal(size=2_000))[:, None], broke)[0] > 0.7
    area, error = held_out_auc(random.normal(size=(2_000, 4)), broke)
    assert abs(area - 0.5) < 3 * error
    assert error == pytest.approx(0.013, abs=0.001)
    assert wilson(50, 100, 1.96) == pytest.approx((0.404, 0.596), abs=1e-3)


def made_up(leak: float = 0.0, missed: float = 0.0, odds: float = 1.0) -> list[str]:
    """What is found in contests by the thousand where breaks like a rising side, do not come off, or are too rare."""
    random, figures = np.random.default_rng(3), ContestFigures()
    for number in range(3_000):
        state, rising = list(BREAKS)[number % 3], float(random.random() < 0.5)
        broke = bool(random.random() < BREAKS[state] * odds + leak * (rising - 0.5))
        told = not (broke and random.random() < missed)
        figures.played.append(Played(state, broke, (number, 20.0, rising, 6_900.0, 200), told))
    judge(figures)
    return figures.findings


def test_contests_by_the_thousand_are_found_wrong_where_they_are() -> None:
    assert made_up() == []
    assert any("foretell the outcome" in finding for finding in made_up(leak=0.3))
    assert any("came off" in finding for finding in made_up(missed=0.05))
    assert any("which is not 80%" in finding for finding in made_up(odds=0.9))


def test_what_did_not_arrive_in_time_is_not_told() -> None:
    played = play(3, 12, 25)
    told = [one.told for one in played]
    assert 3 < sum(told) < 22
    until = drawn(3, NOON, 25)[-1].end_ns + 1
    for truth in truths_of(SimulatedMarket(3, 12, NOON, PLANT), until):
        assert 1.5 * S <= truth["decision_ns"] - truth["arrival_ns"] <= 3 * S
        assert truth["decision_ns"] < truth["outcome_ns"] < truth["end_ns"]


# The draws


def test_states_sides_parts_and_spacing_are_drawn() -> None:
    chosen = drawn(5, NOON, 3_000)
    gaps = np.array([two.begin_ns - one.end_ns for one, two in pairwise(chosen)]) / S
    pairs = Counter((one.state, two.state) for one, two in pairwise(chosen))

    assert min(pairs.values()) > 3_000 / 9 * 0.8
    assert np.mean([contest.rising for contest in chosen]) == pytest.approx(0.5, abs=0.03)
    assert 12 <= gaps.min() < 12.1
    assert 29.9 < gaps.max() <= 30
    for part, odds in SHOWS.items():
        for state in ("hold", "go"):
            share = np.mean([part in contest.shows for contest in chosen if contest.state == state])
            assert share == pytest.approx(odds, abs=0.04)
    assert all(contest.shows == () for contest in chosen if contest.state == "even")
    assert draw_contest(5, 7, chosen[6].end_ns) == chosen[7]


def test_no_contest_touches_midnight() -> None:
    midnight = NOON - NOON % NS_PER_DAY + NS_PER_DAY
    for seed in range(40):
        plan, now = ContestPlan(seed, midnight - 60 * S), midnight - 60 * S
        while now < midnight + 60 * S:
            contest = plan.at(now)
            assert contest.begin_ns // NS_PER_DAY == (contest.end_ns + S) // NS_PER_DAY
            now = contest.end_ns


def test_contests_are_planted_alone_and_are_not_among_all() -> None:
    assert parse_plant("contests") == PLANT
    assert "contests" not in parse_plant("all")
    market = SimFeed.parse("seed=1,plant=contests,strength=0.25").market
    assert SimFeed.parse(market.origin.removeprefix("sim:")).market == market
    for text in ("contests+walls", "all+contests", "classic+contests", "contests+contests"):
        with pytest.raises(UsageError, match="contests are planted alone.* Next: plant=contests") as refusal:
            parse_plant(text)
        assert "\n" not in str(refusal.value)

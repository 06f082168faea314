"""Each scene that the truth tells of is in the recorded book, at every rate, as strong as the truth says.

What is read here is the records alone: a plain loop over MBP-10 rows, with nothing of the simulator's own.
"""

from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from spymaster.simulation.deliveries import DbnWriter
from spymaster.simulation.plant import Plan
from spymaster.simulation.source import SimulatedMarket
from tests.sim_recording import NOON, TRADE, Recorded

S = 1_000_000_000
TICK = 0.25
# The seed and the length of each rate's market, and of one in which all is half as strong. The seeds draw each kind.
MARKETS = {(200, 1.0): (216, 900), (500, 1.0): (2_250, 420), (2_000, 1.0): (2_170, 240), (500, 0.5): (2_250, 420)}
EACH = pytest.mark.parametrize(("rate", "strength"), list(MARKETS))
RATES = (200, 500, 2_000)
KINDS = ("walls", "vacuums", "absorption", "sweeps", "breaks", "rejections", "jumps")


class Told:
    """The front month's books of a market, and what was planted in it."""

    def __init__(self, rate: int, strength: float) -> None:
        seed, seconds = MARKETS[rate, strength]
        market = SimulatedMarket(seed, rate, NOON, KINDS, strength)
        session = market.session(with_spy=False)
        writer = DbnWriter(seed)
        recorded = Recorded.__new__(Recorded)
        recorded.dbn = []
        for step in session.steps():
            if step.begin >= NOON + seconds * S:
                break
            for messages in writer.write(step):
                recorded.dbn.extend(messages)
        self.books = recorded.front_books()
        trades = recorded.records(TRADE)
        self.trades = trades[trades["instrument_id"] == self.books["instrument_id"][0]]
        self.truths = list(session.truths)
        self.drawn = Counter(self._drawn(seed, seconds))
        self.t = self.books["ts_event"].astype(np.int64)
        names = ("bid_px", "ask_px", "bid_sz", "ask_sz")
        levels = {name: [self.books[f"{name}_{i:02}"] for i in range(10)] for name in names}
        self.px = {side: np.stack(levels[f"{side}_px"], 1) / 1e9 for side in SIDES}
        self.sz = {side: np.stack(levels[f"{side}_sz"], 1).astype(int) for side in SIDES}
        self.whole = (self.books["flags"] & 128) > 0

    @staticmethod
    def _drawn(seed: int, seconds: int) -> list[str]:
        plan, kinds = Plan(seed, NOON, KINDS), []
        scenario = plan.at(NOON)
        while scenario is not None and scenario.end_ns < NOON + (seconds - 10) * S:
            kinds.append(scenario.kind)
            scenario = plan.at(scenario.end_ns)
        return kinds

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [truth for truth in self.truths if truth["kind"] == kind]

    def within(self, truth: dict[str, Any], skip_s: float = 0) -> Any:
        return np.flatnonzero((self.t >= truth["begin_ns"] + skip_s * S) & (self.t < truth["end_ns"]) & self.whole)

    def usual(self, truth: dict[str, Any]) -> Any:
        """The mean size of each level of the truth's side in the minute before, where nothing else was planted."""
        at = self.whole & (self.t >= truth["begin_ns"] - 60 * S) & (self.t < truth["begin_ns"])
        for other in self.truths:
            at &= ~((self.t >= other["begin_ns"]) & (self.t < other["end_ns"] + 2 * S))
        return self.sz[truth["side"]][at].mean(0)

    def share_of_time(self, truth: dict[str, Any], rows: Any, seen: Any) -> float:
        spans = np.diff(np.append(self.t[rows], truth["end_ns"]))
        return float(spans[seen].sum() / (truth["end_ns"] - truth["begin_ns"]))


SIDES = ("bid", "ask")
LETTER = {"ask": b"B", "bid": b"A"}  # of the aggressor that consumes a side


@cache
def told(rate: int, strength: float) -> Told:
    return Told(rate, strength)


def all_of(kind: str, rate: int, strength: float = 1.0) -> list[tuple[Told, dict[str, Any]]]:
    market = told(rate, strength)
    assert market.of(kind)
    return [(market, truth) for truth in market.of(kind)]


def test_nine_of_ten_that_are_drawn_come_off() -> None:
    drawn = sum((told(*market).drawn for market in MARKETS), Counter())
    found = Counter(truth["kind"] for market in MARKETS for truth in told(*market).truths)

    assert min(drawn.values()) >= 8
    for kind, count in drawn.items():
        assert found[kind] >= 0.9 * count, kind


@EACH
def test_a_wall_is_ten_times_the_usual_size_at_its_price(rate: int, strength: float) -> None:
    for market, truth in all_of("wall", rate, strength):
        rows = market.within(truth)
        at = np.isclose(market.px[truth["side"]][rows], truth["price"])
        sizes = market.sz[truth["side"]][rows][at]

        assert sizes.min() == truth["least_size"]
        assert truth["strength"] == pytest.approx(sizes.min() / truth["usual_size"], abs=1e-3)
        assert 10 * strength <= truth["strength"] < 11.5 * strength
        assert truth["visible"] == pytest.approx(market.share_of_time(truth, rows, at.any(1)), abs=0.02)
        assert truth["visible"] >= 0.5
        assert market.usual(truth)[2:5].mean() == pytest.approx(truth["usual_size"], rel=0.4)
        after = np.flatnonzero((market.t > truth["end_ns"] + S) & market.whole)[:500]
        later = market.sz[truth["side"]][after][np.isclose(market.px[truth["side"]][after], truth["price"])]
        assert later.max(initial=0) < 5 * truth["usual_size"]


@EACH
def test_a_vacuum_is_pulled_within_a_second_by_cancels_and_stays(rate: int, strength: float) -> None:
    traded, moved = 0, []
    for market, truth in all_of("vacuum", rate, strength):
        first, rows = market.within(truth), market.within(truth, 1)
        depth = market.sz[truth["side"]][rows].sum(1)

        assert depth.max() == truth["greatest_depth"]
        assert truth["strength"] == pytest.approx(depth.max() / truth["usual_depth"], abs=1e-3)
        asked = 1 - strength * 0.95
        assert asked * 0.5 < truth["strength"] <= asked * 1.05
        assert truth["visible"] == 1.0
        assert market.usual(truth).sum() == pytest.approx(truth["usual_depth"], rel=0.3)
        books = market.books[first]
        cancels = (books["action"] == b"C") & (books["side"] == LETTER[{"ask": "bid", "bid": "ask"}[truth["side"]]])
        early = market.t[first] < truth["begin_ns"] + S
        assert books["size"][cancels & early].sum() > strength * 0.5 * truth["usual_depth"]
        span = (market.t >= truth["begin_ns"] + S) & (market.t < truth["end_ns"])
        prints = market.books[span & (market.books["action"] == b"T")]
        traded += int((prints["side"] == LETTER[truth["side"]]).sum())
        moves = np.diff(market.px["bid"][rows, 0]) * (1 if truth["side"] == "ask" else -1)
        moved += np.sign(moves[moves != 0]).tolist()
    assert traded > 20, "the side is traded"
    assert moved.count(1) > 3, "and the price goes into it"
    assert moved.count(-1) > 3


@EACH
def test_absorption_eats_ten_touches_at_its_price_and_the_price_stays(rate: int, strength: float) -> None:
    for market, truth in all_of("absorption", rate, strength):
        rows = market.within(truth)
        prints = market.books[(market.t >= truth["begin_ns"]) & (market.t < truth["end_ns"])]
        prints = prints[(prints["action"] == b"T") & (prints["side"] == LETTER[truth["side"]])]

        assert set(prints["price"] / 1e9) == {truth["price"]}
        assert prints["size"].sum() == truth["eaten"]
        assert truth["strength"] == pytest.approx(truth["eaten"] / truth["usual_size"], abs=1e-3)
        assert truth["strength"] >= 10 * strength
        assert (market.px[truth["side"]][rows, 0] == truth["price"]).all()
        assert market.usual(truth)[0] == pytest.approx(truth["usual_size"], rel=0.5)


def test_half_the_strength_eats_half() -> None:
    pairs = zip(all_of("absorption", 500, 1.0), all_of("absorption", 500, 0.5), strict=True)
    for (_, whole), (_, half) in pairs:
        assert half["begin_ns"] == whole["begin_ns"]
        assert half["strength"] == pytest.approx(whole["strength"] / 2, rel=0.2)


@pytest.mark.parametrize(("kind", "levels"), [("sweep", 6), ("jump", 24)])
@EACH
def test_a_sweep_and_a_jump_print_in_one_instant_and_then_come_the_books(
    rate: int, strength: float, kind: str, levels: int
) -> None:
    for market, truth in all_of(kind, rate, strength):
        instant = market.books[market.t == market.t[market.t >= truth["begin_ns"]][0]]
        prints, after = instant[: levels_of(instant)], instant[levels_of(instant) :]

        assert len(prints) == len(after) == truth["strength"] == abs(truth["ticks"]) == round(levels * strength) >= 3
        assert set(prints["action"]) == {b"T"}
        assert set(prints["side"]) == {LETTER[truth["side"]]}
        assert set(after["action"]) == {b"C"}
        assert after["flags"].tolist() == [0] * (len(after) - 1) + [128]
        assert set(prints["flags"]) == {0}
        assert np.abs(np.diff(prints["price"].astype(np.int64))).tolist() == [250_000_000] * (len(prints) - 1)
        assert prints["price"][0] / 1e9 == truth["price"]
        before = market.books[market.t < truth["begin_ns"]][-1]
        for level in range(min(len(prints), 10)):
            assert prints["size"][level] == before[f"{truth['side']}_sz_{level:02}"]
            assert (prints[f"{truth['side']}_sz_{level:02}"] == before[f"{truth['side']}_sz_{level:02}"]).all()
        assert len({*instant["sequence"]}) == len({*instant["ts_recv"]}) == 1
        trades = market.trades[market.trades["ts_event"] == instant["ts_event"][0]]
        for name in ("price", "size", "side", "action", "flags", "sequence", "ts_recv"):
            assert (trades[name] == prints[name]).all(), name


def levels_of(instant: Any) -> int:
    return int((instant["action"] == b"T").sum())


@pytest.mark.parametrize("rate", RATES)
def test_a_level_breaks_or_is_touched_and_rejects(rate: int) -> None:
    for kind, way in (("break", 1), ("reject", -1)):
        for market, truth in all_of(kind, rate):
            rows = market.within(truth)
            up = 1 if truth["side"] == "ask" else -1
            beyond = (market.px[truth["side"]][rows, 0] - truth["price"]) / TICK * up
            assert beyond[0] <= -5
            done = (market.t[rows] - truth["begin_ns"]) / (truth["end_ns"] - truth["begin_ns"])
            assert beyond[(done > 0.3) & (done < 0.55)].max() >= 0
            assert way * truth["beyond_ticks"] == truth["strength"] >= 0.8 * 6
            assert way * beyond[-1] >= 4
            assert kind == "break" or beyond.max() <= 0


@pytest.mark.parametrize("rate", RATES)
def test_no_book_of_a_whole_event_is_crossed_where_that_is_not_planted(rate: int) -> None:
    market = told(rate, 1.0)
    assert (market.px["bid"][:, 0] < market.px["ask"][:, 0]).all()


def test_kinds_sides_and_spacing_are_drawn() -> None:
    plan = Plan(5, NOON, KINDS)
    drawn: list[Any] = [plan.at(NOON)]
    while len(drawn) < 400:
        drawn.append(plan.at(drawn[-1].end_ns))
    kinds = Counter(scenario.kind for scenario in drawn)
    pairs = Counter((one.kind, two.kind) for one, two in pairwise(drawn))
    gaps = np.array([two.begin_ns - one.end_ns for one, two in pairwise(drawn)]) / S

    assert len(kinds) == len(KINDS)
    assert min(kinds.values()) > 30
    assert len(pairs) == len(KINDS) ** 2
    assert 0.4 < np.mean([scenario.rising for scenario in drawn]) < 0.6
    assert 8 <= gaps.min() < 9
    assert 31 < gaps.max() <= 32
    again = Plan(5, NOON, KINDS)
    assert again.at(drawn[100].begin_ns) == drawn[100]

"""What is planted is found, on one seed here, by the matching rules; `tests/long/truth.py` counts it on many.

The seed was taken for what is planted in its first minutes, before anything was run on it.
"""

from functools import cache

import numpy as np
import pytest

from spymaster.engines.holds import NEUTRAL, VACUUM, VOID, WALL
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import profile_named
from spymaster.engines.rows import BOOK, OTHER, PRINT, book_rows
from spymaster.simulation.plant import parse_plant
from spymaster.simulation.source import SimulatedMarket
from tests.engines.books import OPEN_NS, simulated
from tests.engines.tapes import joined, rows_of
from tests.engines.truths import (
    KINDS,
    Event,
    Score,
    Seen,
    Watcher,
    at_level,
    events,
    hits,
    level_events,
    level_scores,
    price_of,
    scores,
    sweep_hits,
    watch,
    wilson,
)
from tests.long import truth as long_truth

S = 1_000_000_000
START_NS = long_truth.START_NS
ES = profile_named("ES")
SEED, RATE, SECONDS = 173, 500, 420
PLANT = parse_plant("sweeps+jumps")


@cache
def seen():
    return watch(SimulatedMarket(SEED, RATE, START_NS, parse_plant("all")), SECONDS, ES)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_kind_is_found_and_nothing_else_is(kind):
    recall, precision = scores(seen(), ES)[kind]

    assert recall.of >= 2
    assert recall.right == recall.of
    assert precision.right == precision.of


def test_each_truths_own_level_shows_it():
    found = level_scores(seen(), ES, SEED)

    for kind in ("wall", "vacuum", "absorption"):
        assert found[kind][0].right == found[kind][0].of >= 2
        assert found[kind][1].share == 1


def test_a_level_holds_what_the_event_at_its_price_says():
    """The product's own memory of a level, and the matching rule, agree."""
    (wall, *_) = [truth for truth in seen().truths if truth["kind"] == "wall"]
    vacuums = [truth for truth in seen().truths if truth["kind"] == "vacuum"]
    prices = [price_of(truth) for truth in (wall, *vacuums)]
    held = {}

    class Judging(Watcher):
        def work(self, snap_ns, rows):
            super().work(snap_ns, rows)
            judged = self.barrier.judge(range(len(prices)), prices)
            for one, state, since_ns in zip(prices, judged.held, judged.held_since_ns.tolist(), strict=True):
                held.setdefault((one, int(state), since_ns), []).append(snap_ns)

    market, watcher = SimulatedMarket(SEED, RATE, START_NS, parse_plant("all")), Judging(ES)
    for step in market.session(with_spy=False).steps():
        watcher.void |= step.halted is not None
        for tape in step.tapes:
            watcher.take(rows_of(tape))
        if step.begin > START_NS + SECONDS * S:
            break
    (event,) = [one for one in level_events(seen(), WALL, 2, 5, prices[0]) if hits(one, wall, 5)]
    mine = held[prices[0], WALL, event.begin_ns]
    assert mine[0] == event.begin_ns + 2 * S
    assert mine[-1] <= event.end_ns + S

    found = {(price_of(t), e.begin_ns) for t in vacuums for e in level_events(seen(), VACUUM, 1.5, 5, price_of(t))}
    assert len({price for price, _ in found}) == len(vacuums) >= 2
    assert {(price, since_ns) for price, state, since_ns in held if state == VACUUM} == found


def test_tapes_are_the_rows_that_the_normalizer_makes():
    batches, contract = simulated(8, 200, PLANT, seed=5)
    rows, off = book_rows(batches, contract, 0.25)
    pieces = []
    for step in SimulatedMarket(5, 200, OPEN_NS, PLANT).session(with_spy=False).steps():
        pieces += [rows_of(tape) for tape in step.tapes]
        if step.begin > rows.ts_ns[-1]:
            break
    mine = joined(pieces)
    mine = mine.take(np.argsort(mine.ts_ns, kind="stable")[: len(rows.ts_ns)])

    assert off == 0
    assert set(rows.kind.tolist()) == {PRINT, BOOK, OTHER}
    for name, one, other in zip(rows._fields, rows, mine, strict=True):
        assert np.array_equal(one, other), name


# The rules themselves.


def of(*columns, touch=(100, 101), side=1):
    """Return what was seen of one side, a snap a column: the state at some offsets."""
    state = np.full((len(columns), 2, 10), NEUTRAL, np.int8)
    for number, cells in enumerate(columns):
        for offset, one in cells.items():
            state[number, side, offset] = one
    snaps, touches = np.arange(len(columns)) * SNAP_NS, np.tile(np.array(touch), (len(columns), 1))
    return Seen(snaps, touches, state, np.zeros(len(columns)), None, None, [], [])


def test_an_event_is_a_run_in_which_holes_of_a_second_are_bridged():
    wall, none = {2: WALL}, {}
    one = Event(1, 0, 12 * SNAP_NS, 103, 103)

    assert events(of(*[wall] * 6, *[none] * 4, *[wall] * 3), WALL, 2, 5) == [one]
    assert events(of(*[wall] * 9, *[none] * 5, *[wall] * 3), WALL, 2, 5) == [one._replace(end_ns=8 * SNAP_NS)]
    assert events(of(*[wall] * 8), WALL, 2, 5) == []
    assert events(of(*[wall] * 13), WALL, 2, 5, price=103) == [one]
    assert events(of(*[wall] * 13), WALL, 2, 5, price=104) == []


def test_prices_whose_zones_touch_are_one_event_and_others_are_their_own():
    both = of(*[{0: WALL, 5: WALL, 9: VACUUM}] * 9)
    assert events(both, WALL, 2, 5) == [Event(1, 0, 8 * SNAP_NS, 101, 106)]

    apart = of(*[{0: WALL, 6: WALL}] * 9)
    assert [(one.lowest, one.highest) for one in events(apart, WALL, 2, 5)] == [(101, 101), (107, 107)]
    assert events(of(*[{0: VOID}] * 9), WALL, 2, 5) == []


def test_an_event_hits_a_truth_of_its_side_time_and_price():
    truth = {"kind": "wall", "side": "ask", "price": 103 / 4, "begin_ns": 10 * S, "end_ns": 18 * S}
    event = Event(1, 12 * S, 17 * S, 101, 103)

    assert hits(event, truth, 5)
    assert hits(event._replace(begin_ns=23 * S), truth, 5)
    assert hits(event._replace(lowest=107, highest=107), truth, 5)
    assert not hits(event._replace(side=0), truth, 5)
    assert not hits(event._replace(begin_ns=10 * S - 1), truth, 5)
    assert not hits(event._replace(begin_ns=23 * S + 1), truth, 5)
    assert not hits(event._replace(lowest=108, highest=110), truth, 5)
    assert hits(event._replace(lowest=130, highest=130), truth | {"kind": "vacuum"}, 5)


def test_a_level_has_a_vacuum_that_its_side_confirms_within_a_hole():
    """The side's touch is at 101 while the level at 102 shows it, and beyond it from the third snap on."""
    ask = np.array([101] * 3 + [103] * 9)

    def judged(snaps, price=102, hold_s=1.5):
        shown = of(*[dict.fromkeys(range(8), VACUUM)] * snaps)
        return level_events(shown._replace(touch=np.stack([ask - 1, ask], axis=1)[:snaps]), VACUUM, hold_s, 5, price)

    own = Event(1, 0, 2 * SNAP_NS, 102, 102)
    assert judged(7) == [own]
    assert judged(6) == []
    assert judged(12) == [own]
    assert judged(12, hold_s=1.75) == []
    assert judged(12, price=104) == [Event(1, 0, 11 * SNAP_NS, 104, 104)]


def test_a_vacuum_is_no_truth_of_a_level_that_the_price_passed_before_it_was_pulled():
    ask = np.array([101] * 3 + [103] * 9)
    shown = of(*[{}] * 12)._replace(touch=np.stack([ask - 1, ask], axis=1))
    truth = {"kind": "vacuum", "side": "ask", "price": 102 / 4, "begin_ns": 0, "end_ns": 8 * S}

    assert not at_level(shown, truth)
    assert at_level(shown, truth | {"price": 103 / 4})
    assert at_level(shown, truth | {"begin_ns": -S})
    assert not at_level(shown, truth | {"price": 103 / 4, "side": "bid"})
    assert at_level(shown, truth | {"kind": "wall"})


def test_a_sweep_hits_a_truth_of_its_direction_and_time():
    (sweep, *_) = seen().sweeps
    truth = {
        "kind": "jump",
        "side": "ask" if sweep.direction > 0 else "bid",
        "begin_ns": sweep.ts_ns,
        "end_ns": sweep.ts_ns,
    }

    assert sweep_hits(sweep, truth)
    assert not sweep_hits(sweep, truth | {"side": "bid" if sweep.direction > 0 else "ask"})
    assert not sweep_hits(sweep, truth | {"begin_ns": sweep.end_ns + 1, "end_ns": sweep.end_ns + S})


def test_wilsons_bounds():
    low, high = wilson(50, 50)
    assert (round(low, 3), high) == (0.929, pytest.approx(1))
    assert [round(bound, 4) for bound in wilson(45, 50)] == [0.7864, 0.9565]
    assert wilson(0, 0) == (0, 1)
    assert wilson(0, 60)[0] == 0
    assert str(Score(45, 50)) == "45/50 (0.786 to 0.957)"


def test_a_rule_that_finds_nothing_or_everything_is_told():
    """Thresholds out of reach have no recall, and those within reach of anything no precision."""
    strict = ES.model_copy(update={"barrier": ES.barrier.model_copy(update={"wall_typ": 40.0})})
    loose = ES.model_copy(update={"barrier": ES.barrier.model_copy(update={"wall_typ": 2.0})})
    market = SimulatedMarket(SEED, 200, START_NS, parse_plant("all"))

    assert scores(watch(market, 240, strict), strict)["wall"][0].right == 0
    assert scores(watch(market, 240, loose), loose)["wall"][1].share < 0.5


def test_enough_truths_of_each_kind_are_gathered_whatever_their_seed(monkeypatch):
    """Without the markets, whose time is the long trial's."""
    judged = []

    class Here:
        def __init__(self, workers):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def map(self, judge, markets):
            judged.extend(markets)
            return [
                long_truth.Truth(one.rate, one.strength, dict.fromkeys(KINDS, PAIR), {"wall": PAIR}) for one in markets
            ]

    monkeypatch.setattr(long_truth, "ProcessPoolExecutor", Here)
    (found,) = long_truth.measure(50, 2, lambda done, total: None, [(200, 1.0)])

    assert [market.seed for market in judged] == [*range(61, 75)]
    assert found.everywhere["wall"] == (Score(42, 56), Score(14, 14))
    assert found.at_levels == {"wall": found.everywhere["wall"]}

    monkeypatch.setattr(long_truth, "MOST_MARKETS", 4)
    judged.clear()
    assert len(list(long_truth.measure(50, 2, lambda done, total: None, [(200, 1.0), (500, 0.5)]))) == 2
    assert [(one.seed, one.rate) for one in judged] == [
        (61 + number, rate) for rate in (200, 500) for number in range(4)
    ]


PAIR = (Score(3, 4), Score(1, 1))

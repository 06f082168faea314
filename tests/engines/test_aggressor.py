"""Who began a print: by the venue, the quote, its volatility, the tick; and how often that is right."""

from functools import cache

import numpy as np
import pytest

from spymaster.engines.aggressor import (
    HOW,
    IV,
    IV_UNIT,
    NO_IV,
    QUOTE,
    TICK,
    UNKNOWN,
    VENUE,
    Memory,
    Told,
    classify,
)
from spymaster.engines.profile import profile_named
from tests.engines.option_truths import judged

NONE = float("nan")


def told(price=1.0, bid=NONE, ask=NONE, said=0, iv=NO_IV, mean=NO_IV, tick=0):
    return Told(*(np.array([value]) for value in (np.int8(said), price, bid, ask, iv, mean, np.int8(tick))))


@pytest.mark.parametrize(
    ("one", "sign", "how"),
    [
        (told(1.2, 1.0, 1.2), 1, QUOTE),
        (told(1.3, 1.0, 1.2), 1, QUOTE),
        (told(1.0, 1.0, 1.2), -1, QUOTE),
        (told(0.9, 1.0, 1.2), -1, QUOTE),
        (told(1.1, 1.0, 1.2, iv=9, mean=5, tick=1), 0, UNKNOWN),  # nobody paid the spread
        (told(0.05, NONE, 0.05), 1, QUOTE),  # nobody bids
        (told(1.0, 1.0, NONE), -1, QUOTE),
        (told(1.1, NONE, 1.2, iv=4, mean=5), -1, IV),  # the one side that is known says nothing
        (told(1.1, 1.2, 1.0, iv=4, mean=5), -1, IV),  # crossed
        (told(1.1, 1.1, 1.1, tick=1), 1, TICK),  # locked
        (told(iv=6, mean=5, tick=-1), 1, IV),
        (told(iv=5, mean=5, tick=-1), -1, TICK),
        (told(iv=5, tick=-1), -1, TICK),
        (told(mean=5), 0, UNKNOWN),
        (told(1.2, 1.0, 1.2, said=-1), -1, VENUE),
    ],
)
def test_each_rule_is_asked_where_those_before_it_have_nothing_to_go_by(one, sign, how):
    found = classify(one)

    assert ([value.tolist() for value in found], HOW[how]) == ([[sign], [how]], HOW[int(found[1][0])])


def test_a_running_mean_is_a_plain_one_at_first_and_knows_nothing_of_the_print_itself():
    vols = [0.20, 0.10, 0.30, 0.20]
    iv = np.rint(np.array(vols) * IV_UNIT).astype(np.int64)
    mean, _ = Memory(0.05).follow(np.zeros(4, np.intp), np.ones(4), iv)

    assert mean[0] == NO_IV
    assert mean[1:] / IV_UNIT == pytest.approx([0.2, 0.15, 0.2], abs=1e-6)


def test_a_running_mean_forgets_by_its_weight_after_so_many_prints():
    iv = np.full(41, IV_UNIT // 5)
    iv[20] = IV_UNIT
    mean, _ = Memory(0.05).follow(np.zeros(41, np.intp), np.ones(41), iv)

    assert mean[21] / IV_UNIT == pytest.approx(0.2 + 0.05 * 0.8, abs=1e-4)
    assert mean[40] / IV_UNIT == pytest.approx(0.2 + 0.05 * 0.8 * 0.95**19, abs=1e-3)


def test_what_prints_are_compared_with_is_the_same_however_they_are_cut():
    random = np.random.default_rng(5)
    slot = random.integers(0, 7, 200).astype(np.intp)
    price = random.integers(1, 5, 200) / 20
    iv = np.where(random.random(200) < 0.2, NO_IV, random.integers(1, IV_UNIT, 200))
    whole = Memory(0.05).follow(slot, price, iv)
    for cuts in ([], [1], [100, 101], range(1, 200)):
        memory = Memory(0.05)
        pieces = [
            memory.follow(*columns)
            for columns in zip(*(np.split(c, list(cuts)) for c in (slot, price, iv)), strict=True)
        ]
        for one, other in zip(whole, zip(*pieces, strict=True), strict=True):
            assert one.tolist() == np.concatenate(other).tolist()


def test_the_tick_is_the_last_change_of_the_options_own_price():
    slot, price = np.array([0, 1, 0, 0, 1, 0], np.intp), np.array([1.0, 5.0, 1.2, 1.2, 5.0, 1.1])
    _, tick = Memory(0.05).follow(slot, price, np.full(6, NO_IV))

    assert tick.tolist() == [0, 0, 1, 1, 0, -1]


@cache
def run(root, rate, seconds, quotes):
    return judged(root, rate, seconds, seed=31, quotes=quotes, every_ns=2_000_000_000)


@pytest.mark.parametrize(("root", "rate", "seconds"), [("SPY", 500, 40), ("ES", 2_000, 40)])
def test_by_quotes_nearly_every_print_at_or_beyond_them_is_right(root, rate, seconds):
    truth = run(root, rate, seconds, quotes=True)
    sided = truth.side != 0

    assert sided.sum() > 0.8 * len(truth.side)
    assert (truth.prints.sign == truth.side)[sided].mean() >= 0.99
    assert (truth.prints.how == QUOTE)[sided].mean() >= 0.99


@pytest.mark.parametrize(("root", "rate", "seconds"), [("SPY", 100, 300), ("SPY", 2_000, 15)])
def test_by_volatility_alone_most_prints_are_right(root, rate, seconds):
    truth = run(root, rate, seconds, quotes=False)
    by_iv = (truth.prints.how == IV) & (truth.side != 0)

    assert by_iv.sum() > 0.5 * len(truth.side)
    assert (truth.prints.sign == truth.side)[by_iv].mean() >= 0.85
    assert (truth.prints.how != QUOTE).all()


@pytest.mark.parametrize(("root", "rate", "seconds"), [("SPY", 500, 40), ("ES", 2_000, 40)])
def test_the_net_flow_with_quotes_is_the_true_one(root, rate, seconds):
    assert run(root, rate, seconds, quotes=True).flow_correlation(2) >= 0.95


def test_the_vendors_word_is_taken_where_the_venue_says_who_began():
    truth = judged("ES", 500, 10, seed=31, quotes=True, said=True)
    sided = truth.side != 0

    assert (truth.prints.how[sided] == VENUE).all()
    assert (truth.prints.sign == truth.side)[sided].all()
    assert profile_named("ES").options.multiplier == 50


@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_loop_remembers_what_numpy_remembers(monkeypatch, seed):
    fast = Memory(0.1)
    monkeypatch.setattr("spymaster.engines.aggressor.loops", lambda: None)
    plain, random = Memory(0.1), np.random.default_rng(seed)
    for count in (0, 1, 10, 300, 2, 1_000):
        slot = random.integers(0, 40, count)
        price = random.integers(1, 5, count) / 4
        iv = np.where(random.random(count) < 0.2, NO_IV, random.integers(1, 2 * IV_UNIT, count))
        one, other = (by.follow(slot, price, iv) for by in (fast, plain))

        assert [column.tobytes() for column in one] == [column.tobytes() for column in other]

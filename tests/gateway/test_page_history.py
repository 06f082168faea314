"""What the page asks of log and lake: candles of one contract, and how often levels of a kind held."""

import asyncio
from contextlib import closing

import pytest

from spymaster.engines.profile import profile_named
from spymaster.gateway.history import History, candles, held, hold_rate
from tests.signals.datasets.test_report import DAYS, keep

SIM = profile_named("SIM")
SECOND_NS = 10**9


def asked(root, *reads):
    """Return the answers to questions about a lake."""

    async def ask():
        with closing(History(root, root.parent / "wal")) as history:
            return [await history.ask(read) for read in reads]

    return asyncio.run(ask())


def test_levels_held_as_often_as_the_touches_of_all_sessions_say(tmp_path):
    lake = tmp_path / "lake"
    keep(
        lake,
        DAYS[0],
        [
            *[(["VWAP", "ROUND"], 30.0, "REJECT", True)] * 14,
            *[(["VWAP"], 80.0, "BREAK", True)] * 7,
            (["ROUND", "STRIKE", "STRIKE"], 50.0, "NEITHER", True),
            (["VWAP"], 80.0, "BREAK", False),
            (["POC"], None, "UNKNOWN", False),
            (["POC"], 50.0, None, None),
        ],
    )
    keep(lake, DAYS[1], [(["VWAP"], None, "REJECT", True)] * 2)
    keep(lake, DAYS[1], [(["VWAP"], 10.0, "BREAK", True)] * 9, profile="ES")

    sim, es = asked(lake, held(SIM), held(profile_named("ES")))

    assert sim == {
        "ROUND": {"held": 14, "broke": 0, "neither": 1, "n": 15},
        "STRIKE": {"held": 0, "broke": 0, "neither": 1, "n": 1},
        "VWAP": hold_rate(16, 7, 0),
    }
    assert sim["VWAP"]["low"] < 16 / 23 < sim["VWAP"]["high"]
    assert es == {"VWAP": {"held": 0, "broke": 9, "neither": 0, "n": 9}}


def test_before_anything_is_judged_no_kind_is_known(tmp_path):
    assert asked(tmp_path / "lake", held(SIM)) == [{}]


@pytest.mark.parametrize("contract", ["ESZ5' or 1 = 1 --", "'", "\\", "{}", None])
def test_no_name_of_a_contract_is_read_as_a_question(tmp_path, contract):
    assert asked(tmp_path / "lake", candles(SIM, contract, 60, 0, 60 * SECOND_NS)) == [[]]

"""What of options stands in a signal: levels, fuel in the score, gamma at the strike, and only of this session."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines.board import Spots
from spymaster.engines.expiry import is_written_on, quarterly_from
from spymaster.engines.options import Options, of_strikes
from spymaster.engines.profile import profile_named
from tests.engines.leaving import FRONT, SESSION, judge, judged, simulated_streams
from tests.engines.option_batches import CALL, NOON, PUT, S, batches, snap, spots, statistic, trade
from tests.engines.test_judge import SEEDS

SIM = profile_named("SIM")
POINTS = {"AMPLIFY": 7.5, "DAMPEN": -7.5, "NEUTRAL": 0.0}


@pytest.fixture(scope="module")
def whole():
    """The snaps of some seconds in which options trade."""
    return judged(simulated_streams(12, 100, seed=5), judge(seeds=SEEDS))


def rows_of(snaps):
    return pa.Table.from_batches([each.levels for each in snaps]).to_pylist()


def test_strikes_near_the_price_are_levels(whole):
    last = whole[-1]
    levels = {name: level["price"] for level in last.levels.to_pylist() for name in level["ids"]}
    strikes = {price for name, price in levels.items() if name.startswith("STRIKE_")}
    reach = SIM.levels.round_range_ticks * SIM.market.tick

    assert strikes
    assert strikes <= set(last.gamma.strikes.strike.tolist())
    assert all(abs(price - last.spot) <= reach for price in strikes)


def test_walls_are_levels_at_their_strikes():
    found = Options(SIM.options, SIM.levels, SIM.market, "ESZ5", (), NOON)
    said = [statistic(name, "open_interest", quantity=many) for name, many in ((CALL, 500), (PUT, 200))]
    trades = [trade(5, CALL, 10.0), trade(6, PUT, 9.0)]
    found.work(snap(1), batches(trades=trades, statistics=said), spots((4, 6_900.0)), 6_900.0)
    found.work(snap(2), {}, spots((300, 6_900.0)), 6_900.0)

    assert [(name, price) for name, price, *_ in found.named()][:2] == [("CALL_WALL", 27_600), ("PUT_WALL", 27_600)]


def test_fuel_has_its_points_and_the_points_add_up(whole):
    rows = rows_of(whole)
    sound = [row for row in rows if row["score_raw"] is not None]

    assert all(row["points_fuel"] == POINTS[row["fuel"]] for row in sound)
    for row in sound:
        parts = row["points_barrier"] + row["points_tape"] + row["points_fuel"]
        assert row["score_raw"] == pytest.approx(50 + parts)
    assert all(row["fuel_net"] is None or abs(row["fuel_net"]) <= 1 for row in rows)


def test_gamma_stands_at_the_strike_and_nowhere_else(whole):
    last = whole[-1]
    of = dict(zip(last.gamma.strikes.strike.tolist(), last.gamma.strikes.flow_open.tolist(), strict=True))

    for level in last.levels.to_pylist():
        assert level["gamma_flow_open"] == of.get(level["price"])
    assert of_strikes(last.gamma.strikes._replace(strike=np.empty(0)), np.array([6_900.0]))["gamma_flow"] is None


def test_what_is_of_before_the_session_counts_for_nothing():
    def told(begin_ns):
        found = Options(SIM.options, SIM.levels, SIM.market, "ESZ5", (), begin_ns)
        at = batches(trades=[trade(5, CALL, 10.0, size=3), trade(60, CALL, 11.0, size=4)])
        found.work(snap(1), at, spots((4, 6_900.0)), 6_900.0)
        return found.gamma()

    assert told(NOON).shares.prints == 2
    assert told(NOON + 50 * S // 1_000).shares.prints == 1
    assert told(NOON + S).shares.prints == 0


def test_without_options_there_is_nothing_to_say():
    found = Options(SIM.options, SIM.levels, SIM.market, FRONT, (), SESSION.begin_ns)
    found.work(SESSION.begin_ns + S, {}, Spots(np.empty(0, np.int64), np.empty(0), included=True), None)
    gamma = found.gamma()

    assert found.named() == []
    assert found.strikes_near(55_200) == ()
    assert (gamma.walls.call, gamma.walls.put, gamma.flip, gamma.turn_ns, gamma.shares.prints) == (*[None] * 4, 0)


@pytest.mark.parametrize(("day", "contract"), [
    ("2025-12-01", "ESZ5"), ("2025-12-19", "ESZ5"), ("2025-12-20", "ESH6"), ("2026-01-30", "ESH6"),
    ("2026-03-20", "ESH6"), ("2026-03-21", "ESM6"), ("2029-12-31", "ESH0"),
])  # fmt: skip
def test_an_index_option_is_written_on_the_first_quarterly_that_outlives_it(day, contract):
    date = datetime.fromisoformat(day)
    expires = int(date.replace(hour=21, tzinfo=UTC).timestamp()) * S

    assert quarterly_from("ES", date.date()) == contract
    assert is_written_on(contract, expires)
    assert not is_written_on("ESU5", expires)
    assert is_written_on("SPY", expires)

"""What the simulated exchange says of its sessions: the trading state, open interest and settlement, in DBN."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import databento
import databento_dbn
import numpy as np
import pytest

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.simulation.book import Book
from spymaster.simulation.calendar import Contract
from spymaster.simulation.day import write_day
from spymaster.simulation.exchange import Exchange, last_close, open_interest
from spymaster.simulation.options import es_board, spy_board
from tests.sim_recording import DEFINITION, MAPPING, MBP10, NOON, STATISTIC, STATUS, Recorded

HOUR_NS = 3_600 * NS_PER_SECOND
CLOSE = NOON + 6 * HOUR_NS  # 17:00 in Chicago, 2025-12-02
DAY_BEFORE = CLOSE - NS_PER_DAY
SETTLEMENT, OPEN_INTEREST, VOLATILITY, DELTA = 3, 9, 14, 15
HALTED, TRADING, CLOSED = 8, 7, 12
FIRST_OPTION = 1_000_000
UNDEFINED = np.iinfo(np.int64).max
FRONT = Contract(2025, 12)
BOOKS = [Book(250_000_000, bid, (1,)) for bid in (27_600, 27_800)]


@pytest.fixture(scope="module")
def at_close() -> Recorded:
    return Recorded(4, 300, 60, start=CLOSE - 20 * NS_PER_SECOND)


def midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * NS_PER_SECOND


def said(recorded: Recorded, kind: int, at: int) -> Any:
    statistics = recorded.records(STATISTIC)
    return statistics[(statistics["stat_type"] == kind) & (statistics["ts_event"] == at)]


def by_symbol(recorded: Recorded, records: Any, column: str) -> dict[bytes, int]:
    mappings = recorded.records(MAPPING)
    names = dict(zip(mappings["instrument_id"].tolist(), mappings["stype_out_symbol"].tolist(), strict=True))
    pairs = zip(records["instrument_id"].tolist(), records[column].tolist(), strict=True)
    return {names[number]: value for number, value in pairs}


# At the begin of a delivery


def test_a_delivery_begins_with_how_things_stand_after_its_instruments(at_close: Recorded) -> None:
    kinds = [bytes(message[1:2]) for message in at_close.dbn[:3]]
    statistics, status = at_close.records(STATISTIC), at_close.records(STATUS)
    first, states = statistics[statistics["ts_event"] == DAY_BEFORE], status[status["ts_event"] == DAY_BEFORE]

    assert kinds == [bytes([MAPPING]), bytes([STATUS]), bytes([STATISTIC])]
    begin = CLOSE - 20 * NS_PER_SECOND
    for records in (first, states):
        assert set(records["ts_recv"].tolist()) == {begin + 80_000}
    assert set(states["action"]) == {TRADING}
    assert len(states) == 3 + 480
    assert {kind: int((first["stat_type"] == kind).sum()) for kind in set(first["stat_type"].tolist())} == {
        SETTLEMENT: 482, OPEN_INTEREST: 482, VOLATILITY: 480, DELTA: 480,
    }  # fmt: skip
    assert set(first["ts_ref"].tolist()) == {midnight(date(2025, 12, 1))}


def test_the_same_market_says_the_same_at_its_begin_whatever_its_rate() -> None:
    one, other = (Recorded(4, rate, 1).records(STATISTIC) for rate in (300, 2_000))

    assert (one == other).all()
    assert (one != Recorded(5, 300, 1).records(STATISTIC)).any()


def test_the_settlement_before_the_begin_is_up_to_ten_points_from_the_price_at_it() -> None:
    board, moved = es_board(69_000_000, NOON, FRONT), set()
    for seed in range(30):
        numbers = Exchange(seed, NOON).say(NOON, board, BOOKS, halted=False)
        assert numbers is not None
        front, following = numbers.settlement_e9[:2].tolist()
        assert following - front == 50 * 10**9
        moved.add(front // 250_000_000 - BOOKS[0].bid)
    assert -40 <= min(moved) < 0 < max(moved) <= 40
    assert len(moved) > 15


# At the close


def test_a_session_closes_and_the_next_opens_in_one_instant(at_close: Recorded) -> None:
    status = at_close.records(STATUS)
    there = status[status["ts_event"] == CLOSE]
    count = len(there) // 2

    assert len(status) == len(there) + count
    assert count == 3 + 480
    assert there["action"].tolist() == [CLOSED] * count + [TRADING] * count
    assert (there["instrument_id"][:count] == there["instrument_id"][count:]).all()
    assert set(there["reason"]) == {1}
    assert set(there["trading_event"]) == {0}
    assert set(there["is_trading"][:count]) == set(there["is_quoting"][:count]) == {b"N"}
    assert set(there["is_trading"][count:]) == set(there["is_quoting"][count:]) == {b"Y"}
    assert set(there["is_short_sell_restricted"]) == {b"~"}
    assert 0 < there["ts_recv"][0] - CLOSE < 1_000_000


def test_each_instrument_that_lives_is_settled_at_the_close_where_it_stood(at_close: Recorded) -> None:
    settled = by_symbol(at_close, said(at_close, SETTLEMENT, CLOSE), "price")
    books = at_close.records(MBP10)
    mappings = at_close.records(MAPPING)
    for symbol in (b"ESZ5", b"ESH6"):
        number = mappings["instrument_id"][mappings["stype_out_symbol"] == symbol][0]
        last = books[(books["instrument_id"] == number) & (books["ts_event"] < CLOSE)][-1]
        assert settled[symbol] == last["bid_px_00"]
    definitions = at_close.records(DEFINITION)
    living = definitions[(definitions["expiration"] > CLOSE) & (definitions["instrument_class"] != b"S")]
    assert set(settled) == set(living["raw_symbol"].tolist())
    for record in said(at_close, SETTLEMENT, CLOSE):
        assert record["price"] % (250_000_000 if record["instrument_id"] < FIRST_OPTION else 50_000_000) == 0
        assert record["quantity"] == UNDEFINED
        assert record["ts_ref"] == midnight(date(2025, 12, 2))
        assert (record["update_action"], record["rtype"], record["publisher_id"]) == (1, STATISTIC, 1)


def test_options_have_the_models_volatility_and_delta_and_prices_that_agree_by_parity(at_close: Recorded) -> None:
    settled, volatility, delta = (
        by_symbol(at_close, said(at_close, kind, CLOSE), "price") for kind in (SETTLEMENT, VOLATILITY, DELTA)
    )
    assert set(volatility) == set(delta) == {symbol for symbol in settled if b" " in symbol}
    checked = 0
    for symbol, value in delta.items():
        series, strike = symbol.split()
        other = series + (b" P" if strike[:1] == b"C" else b" C") + strike[1:]
        assert 0 <= value <= 10**9 if strike[:1] == b"C" else -(10**9) <= value <= 0
        assert abs(abs(value) + abs(delta[other]) - 10**9) <= 1
        assert 0.05e9 < volatility[symbol] < 0.5e9
        if strike[:1] == b"C":
            future = settled[b"ESZ5"] + (50 * 10**9 if int(series[-1:]) == 6 else 0)
            assert abs(settled[symbol] - settled[other] - (future - int(strike[1:]) * 10**9)) < 0.2e9
            checked += 1
    assert checked == 240


def test_an_option_that_has_expired_is_not_spoken_of() -> None:
    board = es_board(69_000_000, NOON, FRONT)
    exchange = Exchange(4, NOON)
    standing, closing = (exchange.say(now, board, BOOKS, halted=False) for now in (NOON, CLOSE))

    assert standing is not None
    assert closing is not None
    assert (board.series[0].expiration_ns, len(board.series)) == (NOON + 4 * HOUR_NS, 6)
    assert standing.options.tolist() == list(range(480))
    assert closing.options.tolist() == list(range(80, 480))
    assert len(closing.settlement_e9) == len(closing.open_interest) == 402


def test_open_interest_is_said_once_a_session_and_changes_from_one_to_the_next(at_close: Recorded) -> None:
    statistics = at_close.records(STATISTIC)
    interest = statistics[statistics["stat_type"] == OPEN_INTEREST]
    before, after = (by_symbol(at_close, said(at_close, OPEN_INTEREST, at), "quantity") for at in (DAY_BEFORE, CLOSE))

    assert len(interest) == len(before) + len(after)
    assert set(before) == set(after)
    assert (interest["price"] == UNDEFINED).all()
    assert set(interest["ts_ref"].tolist()) == {midnight(date(2025, 12, day)) for day in (1, 2)}
    assert np.mean([before[symbol] != after[symbol] for symbol in before]) > 0.95
    assert before[b"ESZ5"] != after[b"ESZ5"]
    assert before[b"ESH6"] != after[b"ESH6"]
    assert 1_900_000 < after[b"ESZ5"] < 2_200_000
    assert 120_000 < after[b"ESH6"] < 160_000


def test_sequence_numbers_of_statistics_only_grow(at_close: Recorded) -> None:
    assert (np.diff(at_close.records(STATISTIC)["sequence"].astype(np.int64)) > 0).all()


def test_a_session_closes_in_a_halt_and_the_next_opens_halted() -> None:
    for before in range(4, 7):  # a halt of five seconds begins four to six after the begin
        recorded = Recorded(3, 300, 20, start=CLOSE - (before + 2) * NS_PER_SECOND, plant=("halts",))
        (truth,) = recorded.truths
        if truth["begin_ns"] < CLOSE < truth["end_ns"]:
            break
    else:
        pytest.fail("no halt at the close")
    status = recorded.records(STATUS)
    states = [int(one["action"]) for one in status if one["instrument_id"] == status["instrument_id"][0]]

    assert states == [TRADING, HALTED, CLOSED, HALTED, TRADING]


# Open interest


def test_open_interest_is_a_function_of_seed_option_and_day() -> None:
    day = date(2025, 12, 2)
    early, late = es_board(69_000_000, NOON, FRONT), es_board(69_300_000, NOON, FRONT)
    one = dict(zip(early.symbols(), open_interest(7, early, day).tolist(), strict=True))
    other = dict(zip(late.symbols(), open_interest(7, late, day).tolist(), strict=True))

    both = one.keys() & other.keys()
    assert len(both) > 400
    assert all(one[symbol] == other[symbol] for symbol in both)
    assert one != dict(zip(early.symbols(), open_interest(8, early, day).tolist(), strict=True))
    following = dict(zip(early.symbols(), open_interest(7, early, day + timedelta(days=1)).tolist(), strict=True))
    assert np.mean([one[symbol] != following[symbol] for symbol in one]) > 0.95
    large = [symbol for symbol in one if one[symbol] > 500 and not symbol.startswith("E1B")]
    assert all(0.75 < following[symbol] / one[symbol] < 1.4 for symbol in large)


@pytest.mark.parametrize("underlying", ["ES", "SPY"])
def test_there_is_more_open_interest_near_the_money_near_the_expiry_and_at_round_strikes(underlying: str) -> None:
    board = es_board(69_000_000, NOON, FRONT) if underlying == "ES" else spy_board(6_880_000, NOON)
    middle, step = (6_900, 10) if underlying == "ES" else (688, 1)
    interest = sum(open_interest(seed, board, date(2025, 12, 2)) for seed in range(20)) / 20
    away = np.abs(board.strikes - middle) // step
    is_round = board.strikes % (5 * step) == 0

    assert (interest > 0).all()
    assert interest[(away <= 5) & ~is_round].mean() > 2 * interest[(away > 12) & ~is_round].mean()
    assert interest[is_round].mean() > 1.5 * interest[~is_round].mean()
    of_expiry = interest.reshape(len(board.series), -1).mean(1)
    assert all(near > far for near, far in pairwise(of_expiry[[0, 2, 4, 5]]))
    assert 100 < interest.mean() < 20_000


def test_the_chain_has_spys_open_interest_by_day_and_the_classic_market_its_own() -> None:
    def chain(start: int, plant: tuple[str, ...] = ()) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for contract in Recorded(5, 200, 21, start=start, plant=plant).contracts():
            found.setdefault(contract["details"]["ticker"], set()).add(contract["open_interest"])
        return found

    today, tomorrow = chain(NOON), chain(NOON + NS_PER_DAY)
    assert all(len(values) == 1 for values in today.values()), "in three snapshots"
    both = today.keys() & tomorrow.keys()
    assert np.mean([today[ticker] != tomorrow[ticker] for ticker in both]) > 0.95
    board = spy_board(6_880_000, NOON)
    own = dict(zip(board.symbols(), open_interest(5, board, date(2025, 12, 2)).tolist(), strict=True))
    assert all(own[ticker] in today[ticker] for ticker in own.keys() & today.keys())
    classic = chain(NOON, ("classic",))
    assert [min(classic[ticker]) for ticker in classic] == [number * 7_919 % 20_000 for number in range(480)]


# The clock


@pytest.mark.parametrize(
    ("now", "close"),
    [
        ("2025-12-02T22:59:59", "2025-12-01T23:00:00"),
        ("2025-12-02T23:00:00", "2025-12-02T23:00:00"),
        ("2025-07-02T21:59:59", "2025-07-01T22:00:00"),
        ("2025-07-02T22:00:00", "2025-07-02T22:00:00"),
        ("2025-12-03T00:30:00", "2025-12-02T23:00:00"),
        ("2025-11-02T22:30:00", "2025-11-01T22:00:00"),  # the clock goes back on the 2nd
        ("2025-12-06T12:00:00", "2025-12-05T23:00:00"),
    ],
)
def test_a_session_closes_at_five_in_chicago(now: str, close: str) -> None:
    assert last_close(int(np.datetime64(now, "ns").astype(int))) == int(np.datetime64(close, "ns").astype(int))


@pytest.mark.parametrize("first", ["2025-10-30T12:00", "2025-03-06T12:00", "2025-12-30T12:00"])
def test_each_day_closes_once_over_changes_of_the_clock_and_weekends(first: str) -> None:
    begin = int(np.datetime64(first, "ns").astype(int))
    exchange, sessions = Exchange(1, begin), []
    board = es_board(69_000_000, begin, FRONT)
    for minute in range(6 * 24 * 2):
        numbers = exchange.say(begin + minute * HOUR_NS // 2, board, BOOKS, halted=False)
        if numbers is not None:
            sessions.append(numbers.session)

    day = date.fromisoformat(first[:10]) - timedelta(days=1)
    assert sessions == [day + timedelta(days=number) for number in range(7)]


# The day's files


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # the vendor's client, with pandas 3.1
def test_a_days_files_say_what_a_live_session_says(tmp_path: Path) -> None:
    out = tmp_path / "day"
    write_day(date(2025, 12, 2), out, 4, 300, ("halts",), minutes=(22 * 60 + 59, 23 * 60 + 1))
    live = Recorded(4, 300, 120, start=CLOSE - 60 * NS_PER_SECOND, plant=("halts",))

    for schema, kind in (("statistics", STATISTIC), ("status", STATUS)):
        store = databento.DBNStore.from_bytes((out / f"glbx-mdp3-20251202.{schema}.dbn.zst").read_bytes())
        assert str(store.schema) == schema
        assert (store.to_ndarray() == live.records(kind)).all()
        assert store.to_df()["symbol"].notna().all()
    assert HALTED in live.records(STATUS)["action"]


def test_kinds_and_actions_are_those_of_the_vendors_library() -> None:
    kinds, actions = databento_dbn.StatType, databento_dbn.StatusAction
    known = (kinds.SETTLEMENT_PRICE, kinds.OPEN_INTEREST, kinds.VOLATILITY, kinds.DELTA)

    assert [int(kind.value) for kind in known] == [SETTLEMENT, OPEN_INTEREST, VOLATILITY, DELTA]
    assert [int(one.value) for one in (actions.HALT, actions.TRADING, actions.CLOSE)] == [HALTED, TRADING, CLOSED]

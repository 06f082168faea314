"""The simulated market: the vendor's format, a book that keeps the laws of books, and the same bytes every time."""

import asyncio
import hashlib
from datetime import UTC, date, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import databento
import databento_dbn
import numpy as np
import pytest

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND, utc_now_ns
from spymaster.errors import UsageError
from spymaster.feeds.feed import Delivery, Feed, RawMessage
from spymaster.simulation import deliveries as sim_deliveries
from spymaster.simulation.calendar import PPM, Activity, Contract, front_contract
from spymaster.simulation.source import SimFeed, SimulatedMarket
from tests.feeding import messages, opened

TRADE, MBP1, MBP10, DEFINITION, MAPPING = 0, 1, 10, 19, 22
DTYPES = {
    TRADE: np.dtype(databento_dbn.TradeMsg._dtypes),
    MBP10: np.dtype(databento_dbn.MBP10Msg._dtypes),
    DEFINITION: np.dtype(databento_dbn.InstrumentDefMsg._dtypes),
    MAPPING: np.dtype(databento_dbn.SymbolMappingMsg._dtypes),
}
FIRST_OPTION_ID = 1_000_000
TICKS_E9 = {"ESZ5": 250_000_000, "ESH6": 250_000_000, "ESZ5-ESH6": 50_000_000}


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_SECOND


MIDNIGHT = ns("2025-12-03T00:00:00")
NOON = ns("2025-12-02T17:00:00")  # of New York, in normal activity
OPEN = ns("2025-12-02T14:30:00")


class Recording:
    """The records of a span of simulated time, taken apart by their own length bytes, not by our code."""

    def __init__(self, seed: int, rate: int, start: int, seconds: float, plant: tuple[str, ...] = ()) -> None:
        end = start + int(seconds * NS_PER_SECOND)
        self.pieces: list[bytes] = []
        for piece in SimulatedMarket(seed, rate, start, plant).blocks():
            if first_ts_event(piece) >= end:
                break
            self.pieces.append(piece)
        self.data = b"".join(self.pieces)
        self.offsets, self.rtypes = frame(self.data)

    def records(self, rtype: int) -> Any:
        dtype = DTYPES[rtype]
        at = self.offsets[self.rtypes == rtype]
        rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(self.data, np.uint8), dtype.itemsize)[at]
        return np.ascontiguousarray(rows).view(dtype).reshape(-1)

    def symbols_of(self, records: Any) -> Any:
        """Resolve ids by the mappings in force on the day of receipt, as the vendor's reader does."""
        time = records["ts_recv"] if "ts_recv" in records.dtype.names else records["ts_event"]
        symbols = np.full(len(records), b"", "S71")
        for mapping in self.records(MAPPING):
            valid = (time >= mapping["start_ts"]) & (time < mapping["end_ts"])
            symbols[valid & (records["instrument_id"] == mapping["instrument_id"])] = mapping["stype_out_symbol"]
        return symbols


def first_ts_event(data: bytes) -> int:
    return int.from_bytes(data[8:16], "little")


def frame(data: bytes) -> tuple[Any, Any]:
    offsets, rtypes, at = [], [], 0
    while at < len(data):
        offsets.append(at)
        rtypes.append(data[at + 1])
        at += data[at] * 4
    assert at == len(data), "the last record is cut"
    return np.array(offsets), np.array(rtypes)


@pytest.fixture(
    scope="module", params=[(1, 60_000, MIDNIGHT), (2, 8_000, MIDNIGHT), (3, 4_000, OPEN + 2 * NS_PER_SECOND)]
)
def recording(request: Any) -> Recording:
    """Four seconds around a UTC midnight, at many records a block and at few, and around the open."""
    seed, rate, middle = request.param
    return Recording(seed, rate, middle - 2 * NS_PER_SECOND, 4)


class Books:
    """The MBP-10 records of one contract as arrays (records, side, level), bids first."""

    def __init__(self, records: Any) -> None:
        self.records = records
        self.px, self.sz, self.ct = (
            np.stack(
                [np.stack([records[f"{side}_{kind}_{i:02}"] for i in range(10)], 1) for side in ("bid", "ask")], 1
            ).astype(np.int64)
            for kind in ("px", "sz", "ct")
        )
        self.is_print = records["action"] == b"T"


@pytest.fixture(scope="module")
def books(recording: Recording) -> dict[str, Books]:
    records = recording.records(MBP10)
    symbols = recording.symbols_of(records)
    return {symbol: Books(records[symbols == symbol.encode()]) for symbol in TICKS_E9}


# The same bytes every time


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert Recording(7, 5_000, OPEN, 3).pieces == Recording(7, 5_000, OPEN, 3).pieces


def test_a_market_tells_the_same_story_each_time_it_is_asked() -> None:
    market = SimulatedMarket(7, 5_000, OPEN)

    assert [piece for piece, _ in zip(market.blocks(), range(50), strict=False)] == [
        piece for piece, _ in zip(market.blocks(), range(50), strict=False)
    ]


@pytest.mark.parametrize("other", [(8, 5_000, OPEN), (7, 5_001, OPEN), (7, 5_000, OPEN + 1)])
def test_another_seed_or_rate_or_start_gives_other_bytes(other: tuple[int, int, int]) -> None:
    assert Recording(*other, 2).data != Recording(7, 5_000, OPEN, 2).data


def test_the_bytes_of_a_seed_are_pinned_so_that_a_platform_that_draws_otherwise_is_seen() -> None:
    recording = Recording(1, 2_000, OPEN, 2, ("classic",))
    ends = [*recording.offsets[1:].tolist(), len(recording.data)]
    records = zip(recording.offsets.tolist(), ends, recording.rtypes.tolist(), strict=True)
    data = b"".join(recording.data[at:end] for at, end, rtype in records if rtype in DTYPES)

    assert hashlib.sha256(data).hexdigest() == "377e31acd013fdd9f1b6877317ae555109796f151b6901a8ef35d148edd9dbac"


# The vendor's format


def test_the_vendors_decoder_reads_header_and_records(recording: Recording) -> None:
    decoder = databento_dbn.DBNDecoder()
    decoder.write(opened(SimFeed(1))[0].info.encoding.header + recording.data)
    decoded: list[Any] = decoder.decode()
    metadata, *records = decoded

    assert (metadata.version, metadata.dataset, metadata.schema, metadata.symbols) == (3, "GLBX.MDP3", None, [])
    assert len(records) == len(recording.rtypes) > 5_000
    assert [int(record.rtype) for record in records] == recording.rtypes.tolist()
    last = next(record for record in reversed(records) if isinstance(record, databento_dbn.MBP10Msg))
    ours = recording.records(MBP10)[-1]
    assert (last.price, last.sequence, last.action) == (ours["price"], ours["sequence"], ours["action"].decode())
    assert [level.ask_sz for level in last.levels] == [ours[f"ask_sz_{i:02}"] for i in range(10)]
    assert last.levels[9].bid_px == ours["bid_px_09"]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # the vendor's client, with pandas 3.1
@pytest.mark.parametrize("schema", ["trades", "mbp-10"])
def test_the_vendors_store_maps_every_record_to_its_contract_across_midnight(schema: str) -> None:
    recording = Recording(4, 20_000, MIDNIGHT - NS_PER_SECOND, 2)
    store = databento.DBNStore.from_bytes(opened(SimFeed(1))[0].info.encoding.header + recording.data)
    frame = store.to_df(schema=schema)
    ours = recording.records(TRADE if schema == "trades" else MBP10)

    assert len(frame) == len(ours)
    assert frame["symbol"].tolist() == [symbol.decode() for symbol in recording.symbols_of(ours)]
    futures = frame[frame["instrument_id"] < FIRST_OPTION_ID]
    assert set(futures["symbol"]) == set(TICKS_E9)
    assert futures["instrument_id"].nunique() == 5  # three a day, one of which is another contract's the day after


def test_each_day_begins_with_mappings_and_definitions_under_ids_of_its_own() -> None:
    recording = Recording(4, 20_000, MIDNIGHT - NS_PER_SECOND, 2)
    mappings, definitions = recording.records(MAPPING), recording.records(DEFINITION)

    mappings = mappings[mappings["instrument_id"] < FIRST_OPTION_ID]
    definitions = definitions[definitions["instrument_id"] < FIRST_OPTION_ID]
    assert mappings["stype_out_symbol"].tolist() == [symbol.encode() for symbol in TICKS_E9] * 2
    assert set(mappings["stype_in_symbol"]) == {b"ES.FUT"}
    assert mappings["ts_event"].tolist() == [MIDNIGHT - NS_PER_SECOND] * 3 + [MIDNIGHT] * 3
    yesterday, today = mappings["instrument_id"].reshape(2, 3).tolist()
    assert all(before != after for before, after in zip(yesterday, today, strict=True))
    announced = recording.rtypes[: 7 + 2 * 480].tolist()
    assert announced == [MAPPING] * (3 + 480) + [DEFINITION] * (4 + 480)
    assert definitions["raw_symbol"].tolist() == [b"ESZ5", b"ESH6", b"ESZ5-ESH6", b"ESZ5-ESH6"] * 2
    assert definitions["instrument_id"][[0, 1, 2, 4, 5, 6]].tolist() == yesterday + today


def test_definitions_say_what_the_venue_says_of_an_es_future_and_of_its_spread() -> None:
    front, _, first_leg, second_leg = Recording(1, 2_000, OPEN, 0.1).records(DEFINITION)[:4]

    assert (front["instrument_class"], front["asset"], front["exchange"], front["currency"]) == (
        b"F", b"ES", b"XCME", b"USD",
    )  # fmt: skip
    assert (front["min_price_increment"], front["unit_of_measure_qty"]) == (250_000_000, 50_000_000_000)
    assert front["expiration"] == ns("2025-12-19T14:30:00")
    assert (front["maturity_year"], front["maturity_month"]) == (2025, 12)
    assert (first_leg["instrument_class"], first_leg["min_price_increment"]) == (b"S", 50_000_000)
    assert first_leg["expiration"] == front["expiration"]
    assert [(leg["leg_index"], leg["leg_raw_symbol"], leg["leg_side"]) for leg in (first_leg, second_leg)] == [
        (0, b"ESZ5", b"A"), (1, b"ESH6", b"B"),
    ]  # fmt: skip


def test_times_never_decrease_and_look_like_the_vendors(recording: Recording) -> None:
    events = np.sort(np.concatenate([recording.offsets[np.isin(recording.rtypes, (TRADE, MBP10, DEFINITION))]]))
    heads = {int(o): recording.data[o : o + 48] for o in events}
    ts_event = np.array([int.from_bytes(head[8:16], "little") for head in heads.values()])
    assert (np.diff(ts_event) >= 0).all()
    definitions, market = recording.records(DEFINITION), recording.records(MBP10)
    assert (np.diff(market["ts_recv"].astype(np.int64)) >= 0).all()
    for definition in definitions:
        before = market["ts_event"] < definition["ts_event"]
        assert (market["ts_recv"][before] <= definition["ts_recv"]).all()
        assert (market["ts_recv"][~before] >= definition["ts_recv"]).all()
    latency = (market["ts_recv"] - market["ts_event"]).astype(np.int64)
    assert latency.min() >= 80_000
    assert latency.max() < 300_000
    assert 13_000 <= market["ts_in_delta"].min() < market["ts_in_delta"].max() < 26_000
    assert (np.diff(market["sequence"].astype(np.int64)) >= 0).all()


def test_a_record_is_received_on_the_utc_day_that_its_id_is_valid_on(recording: Recording) -> None:
    for rtype in (TRADE, MBP10):
        records = recording.records(rtype)
        assert (records["ts_event"] // NS_PER_DAY == records["ts_recv"] // NS_PER_DAY).all()
        assert (recording.symbols_of(records) != b"").all()


# The laws of books


def test_there_are_enough_records_of_all_three_contracts(books: dict[str, Books]) -> None:
    counts = {symbol: len(book.records) for symbol, book in books.items()}

    assert counts["ESZ5"] > 10 * counts["ESH6"] > 10 * counts["ESZ5-ESH6"] > 100


def test_ten_levels_a_side_lie_one_tick_apart_and_bids_below_asks(books: dict[str, Books]) -> None:
    for symbol, book in books.items():
        tick = TICKS_E9[symbol]
        assert (np.diff(book.px[:, 0]) == -tick).all()
        assert (np.diff(book.px[:, 1]) == tick).all()
        assert np.isin(book.px[:, 1, 0] - book.px[:, 0, 0], (tick, 2 * tick)).all()
        assert (book.px % tick == 0).all()


def test_sizes_and_counts_are_positive_and_no_order_is_empty(books: dict[str, Books]) -> None:
    for book in books.values():
        assert (book.ct >= 1).all()
        assert (book.sz >= book.ct).all()
        assert book.sz.max() < 2_000


def test_the_spread_is_two_ticks_only_between_a_taken_touch_and_the_add_that_closes_it(books: dict[str, Books]) -> None:
    for symbol, book in books.items():
        wide = book.px[:, 1, 0] - book.px[:, 0, 0] == 2 * TICKS_E9[symbol]
        assert (book.records["action"][wide] == b"C").all()
        closing = np.flatnonzero(wide[:-1]) + 1
        assert not wide[closing].any()
        assert (book.records["action"][closing] == b"A").all()
        assert (book.records["depth"][closing] == 0).all()
        assert (book.records["ts_event"][closing] - book.records["ts_event"][closing - 1] < 320_000).all()


def test_a_trade_executes_at_the_touch_for_no_more_than_its_size(books: dict[str, Books]) -> None:
    for book in books.values():
        prints, at = book.records[book.is_print], np.flatnonzero(book.is_print)
        hit = (prints["side"] == b"B").astype(int)  # a buyer lifts the ask
        assert (prints["price"] == book.px[at, hit, 0]).all()
        assert (prints["size"] <= book.sz[at, hit, 0]).all()
        assert (prints["size"] > 0).all()
        assert (prints["depth"] == 0).all()


def test_a_trade_is_a_trade_record_a_print_with_the_book_before_and_the_reduced_book(recording: Recording) -> None:
    trades, mbp10 = recording.records(TRADE), recording.records(MBP10)
    of_future = trades["instrument_id"] < FIRST_OPTION_ID
    at, trades = np.flatnonzero(recording.rtypes == TRADE)[of_future], trades[of_future]
    assert len(at) > 300
    assert (recording.rtypes[at + 1] == MBP10).all()
    assert (recording.rtypes[at + 2] == MBP10).all()
    ordinal = np.cumsum(recording.rtypes == MBP10)[at]  # of the MBP-10 record after each trade
    prints, reduced = mbp10[ordinal], mbp10[ordinal + 1]
    assert (mbp10["action"] == b"T").sum() == len(trades)
    for name in DTYPES[TRADE].names or ():
        if name not in ("length", "rtype"):
            assert (trades[name] == prints[name]).all(), name
    for name in ("instrument_id", "ts_event", "ts_recv", "sequence", "price"):
        assert (prints[name] == reduced[name]).all(), name
    assert (prints["side"] != reduced["side"]).all()
    assert np.isin(reduced["action"], (b"M", b"C")).all()
    assert (reduced["size"] == prints["size"])[reduced["action"] == b"C"].all()


def test_only_the_last_record_of_an_event_is_flagged_last(recording: Recording) -> None:
    mbp10 = recording.records(MBP10)

    assert (recording.records(TRADE)["flags"] == 0).all()
    assert (mbp10["flags"] == np.where(mbp10["action"] == b"T", 0, 128)).all()


def test_each_record_changes_the_book_exactly_as_its_action_price_and_size_say(books: dict[str, Books]) -> None:
    for symbol, book in books.items():
        check_conservation(book, TICKS_E9[symbol])


def check_conservation(book: Books, tick: int) -> None:
    records, n = book.records, len(book.records)
    unchanged = changed_levels(book, np.arange(1, n)) == 0
    assert (unchanged == book.is_print[1:]).all(), "a print shows the book before it, everything else changes it"
    now = np.flatnonzero(~book.is_print[1:]) + 1
    side, depth = (records["side"][now] == b"A").astype(int), records["depth"][now].astype(int)
    touch_shift = np.where(side == 1, 1, -1) * (book.px[now, side, 0] - book.px[now - 1, side, 0]) // tick
    other_shift = book.px[now, 1 - side, 0] - book.px[now - 1, 1 - side, 0]
    assert np.isin(touch_shift, (-1, 0, 1)).all()
    assert (other_shift == 0).all(), "a record moves one side only"
    check_a_change_in_place(book, now[touch_shift == 0], side[touch_shift == 0], depth[touch_shift == 0])
    check_a_taken_touch(book, now[touch_shift == 1], side[touch_shift == 1])
    check_a_new_touch(book, now[touch_shift == -1], side[touch_shift == -1])


def changed_levels(book: Books, now: Any) -> Any:
    """Count the levels, of both sides, that differ from the record before."""
    return (
        (book.px[now] != book.px[now - 1]) | (book.sz[now] != book.sz[now - 1]) | (book.ct[now] != book.ct[now - 1])
    ).sum(axis=(1, 2))


def check_a_change_in_place(book: Books, now: Any, side: Any, depth: Any) -> None:
    records = book.records[now]
    assert (changed_levels(book, now) == 1).all()
    assert (records["price"] == book.px[now, side, depth]).all()
    change = book.sz[now, side, depth] - book.sz[now - 1, side, depth]
    joined = book.ct[now, side, depth] - book.ct[now - 1, side, depth]
    add, cancel, modify = (records["action"] == action for action in (b"A", b"C", b"M"))
    size = records["size"].astype(np.int64)
    traded = np.where(book.is_print[now - 1], book.records["size"][now - 1], 0).astype(np.int64)
    assert (change[add] == size[add]).all()
    assert (joined[add] == 1).all()
    assert (change[cancel] == -size[cancel]).all()
    assert (joined[cancel & (traded == 0)] == -1).all()
    assert (joined[cancel] < 0).all()
    assert (joined[modify] == 0).all()
    assert (change[traded > 0] == -traded[traded > 0]).all(), "what a trade takes is what leaves the book"
    others = book.ct[now, side, depth] - 1  # the size is one order's: each other order holds a lot at least
    assert (np.maximum(size - change, size) >= 1)[modify].all()
    assert (size - change >= 1)[modify].all()
    assert (size + others <= book.sz[now, side, depth])[modify].all()
    assert add.sum() > 10
    assert cancel.sum() > 10
    assert modify.sum() > 10


def check_a_taken_touch(book: Books, now: Any, side: Any) -> None:
    assert book.is_print[now - 1].all(), "only a trade takes the last of a touch"
    assert (book.records["action"][now] == b"C").all()
    assert (book.records["size"][now] == book.sz[now - 1, side, 0]).all()
    assert (book.records["size"][now - 1] == book.sz[now - 1, side, 0]).all()
    assert (book.records["price"][now] == book.px[now - 1, side, 0]).all()
    for levels in (book.px, book.sz, book.ct):
        assert (levels[now, side, :9] == levels[now - 1, side, 1:]).all()
        assert (levels[now, 1 - side] == levels[now - 1, 1 - side]).all()


def check_a_new_touch(book: Books, now: Any, side: Any) -> None:
    assert (book.records["action"][now] == b"A").all()
    assert (book.records["price"][now] == book.px[now, side, 0]).all()
    assert (book.records["size"][now] == book.sz[now, side, 0]).all()
    assert (book.ct[now, side, 0] == 1).all()
    for levels in (book.px, book.sz, book.ct):
        assert (levels[now, side, 1:] == levels[now - 1, side, :9]).all()
        assert (levels[now, 1 - side] == levels[now - 1, 1 - side]).all()


# A market that behaves


@pytest.fixture(scope="module")
def ten_minutes() -> Recording:
    return Recording(5, 300, NOON, 600)


def test_the_average_rate_over_ten_minutes_is_the_asked_one(ten_minutes: Recording) -> None:
    asked = np.isin(ten_minutes.rtypes, (TRADE, MBP10, DEFINITION, MAPPING))

    assert asked.sum() / 600 == pytest.approx(300, rel=0.01)
    assert (ten_minutes.rtypes == MBP1).sum() / 600 == pytest.approx(30, rel=0.01)


def test_the_next_month_has_four_percent_of_the_records_and_the_spread_one(ten_minutes: Recording) -> None:
    symbols = np.concatenate([ten_minutes.symbols_of(ten_minutes.records(rtype)) for rtype in (TRADE, MBP10)])

    assert (symbols == b"ESH6").mean() == pytest.approx(0.04, abs=0.01)
    assert (symbols == b"ESZ5-ESH6").mean() == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("rate", [20, 300])
def test_the_price_moves_and_the_next_month_and_the_spread_follow_it(rate: int) -> None:
    recording = Recording(5, rate, NOON, 600)
    records = recording.records(MBP10)
    symbols = recording.symbols_of(records)
    front, following, spread = (records[symbols == symbol.encode()] for symbol in TICKS_E9)
    assert len(set(front["bid_px_00"])) > 10
    basis = (following["bid_px_00"] - bids_at(front, following["ts_event"])) / 1e9
    assert np.abs(basis - 50).max() < 4
    later = following["ts_event"] > spread["ts_event"][0]
    difference = basis[later] - bids_at(spread, following["ts_event"][later]) / 1e9
    assert np.abs(difference).mean() < 0.5
    assert len(set(spread["bid_px_00"])) > 2


def bids_at(records: Any, times: Any) -> Any:
    return records["bid_px_00"][np.searchsorted(records["ts_event"], times, "right") - 1]


def test_there_are_bursts_and_lulls(ten_minutes: Recording) -> None:
    seconds = (ten_minutes.records(MBP10)["ts_event"] - NOON) // NS_PER_SECOND
    per_second = np.bincount(seconds.astype(int), minlength=600)

    assert (per_second > 4 * 300).sum() > 5
    assert (per_second < 0.3 * 300).sum() > 30


@pytest.mark.parametrize("seed", range(20))
def test_every_minute_of_normal_activity_averages_the_asked_rate(seed: int) -> None:
    activity = Activity(seed)
    quarters = [activity.level(NOON + i * NS_PER_SECOND // 4) for i in range(240)]

    assert sum(quarters) / 240 == pytest.approx(PPM, rel=0.001)


def test_the_open_in_new_york_is_a_burst_and_the_night_is_quiet_in_winter_and_in_summer() -> None:
    def mean(moment: str) -> float:
        activity = Activity(1)
        return sum(activity.level(ns(moment) + i * NS_PER_SECOND // 4) for i in range(240)) / 240 / PPM

    assert mean("2025-12-02T14:30:00") == pytest.approx(3, rel=0.001)
    assert mean("2025-07-01T13:30:00") == pytest.approx(3, rel=0.001)
    assert mean("2025-12-02T14:29:00") < 1
    assert mean("2025-12-02T06:00:00") == pytest.approx(0.25, rel=0.001)
    assert mean("2025-12-06T15:00:00") == pytest.approx(0.25, rel=0.001)  # a Saturday


@pytest.mark.parametrize(
    ("day", "front", "following"),
    [
        (date(2025, 12, 2), "ESZ5", "ESH6"),
        (date(2025, 12, 10), "ESZ5", "ESH6"),
        (date(2025, 12, 11), "ESH6", "ESM6"),
        (date(2025, 12, 31), "ESH6", "ESM6"),
        (date(2026, 3, 11), "ESH6", "ESM6"),
        (date(2026, 3, 12), "ESM6", "ESU6"),
        (date(2029, 12, 31), "ESH0", "ESM0"),
    ],
)
def test_the_front_month_rolls_eight_days_before_the_third_friday(day: date, front: str, following: str) -> None:
    assert front_contract(day).symbol == front
    assert front_contract(day).quarters_later(1).symbol == following


def test_contracts_expire_at_half_past_nine_in_new_york() -> None:
    assert Contract(2021, 3).expiration_ns == 1_616_160_600_000_000_000  # as in the vendor's file for ESH1
    assert Contract(2024, 9).expiration_ns == 1_726_839_000_000_000_000  # and for ESU4
    assert Contract(2021, 3).activation_ns == 1_576_852_200_000_000_000


def test_at_the_roll_the_next_month_becomes_the_front_month_and_keeps_its_book() -> None:
    roll = ns("2025-12-11T00:00:00")
    recording = Recording(3, 20_000, roll - NS_PER_SECOND, 2)
    records = recording.records(MBP10)
    symbols = recording.symbols_of(records)

    assert set(symbols[records["ts_event"] < roll]) == {b"ESZ5", b"ESH6", b"ESZ5-ESH6"}
    assert set(symbols[records["ts_event"] >= roll]) == {b"ESH6", b"ESM6", b"ESH6-ESM6"}
    check_conservation(Books(records[symbols == b"ESH6"]), TICKS_E9["ESH6"])


# The feed


def test_messages_are_whole_events_of_at_most_half_a_megabyte_and_fifty_milliseconds() -> None:
    for rate in (2_000, 1_000_000):
        recording = Recording(1, rate, OPEN, 2 if rate == 2_000 else 0.01)
        assert len(recording.pieces) > 20
        for piece in recording.pieces:
            offsets, _ = frame(piece)
            assert len(piece) <= 512 * 1024
            assert first_ts_event(piece[offsets[-1] :]) - first_ts_event(piece) <= 50_000_000
        for before, after in pairwise(recording.pieces[1:]):
            last = before[frame(before)[0][-1] :]
            if last[1] in (TRADE, MBP10, MBP1):
                assert last[30] == 128 or len(last) == 48, "ends with the last record of an event, or an option's print"
            assert first_ts_event(after) >= first_ts_event(before)


def test_a_message_that_would_be_too_long_is_cut_between_events(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Recording(1, 200_000, OPEN, 0.02)
    monkeypatch.setattr(sim_deliveries, "MESSAGE_BYTES", 10_000)
    cut = Recording(1, 200_000, OPEN, 0.02)

    assert len(cut.data) > 0.8 * len(whole.data)
    assert cut.data == whole.data[: len(cut.data)]
    events, of_whole = cut.pieces[3:], whole.pieces[3:]  # behind the instruments, their states and statistics
    assert max(map(len, events)) <= 10_000 < max(map(len, of_whole))
    last_records = [piece[frame(piece)[0][-1] :] for piece in events]
    assert all(last[30] == 128 or len(last) == 48 for last in last_records)


def test_the_feed_gives_one_paced_simulated_delivery_that_names_its_contracts() -> None:
    feed: Feed = SimFeed(seed=7, rate=500, start_ns=OPEN)
    (delivery,) = opened(feed)
    info = delivery.info

    assert not feed.waits
    assert feed.pace_by == "ts_recv_ns"
    assert info.simulated
    assert info.content_sha256 is None
    assert info.encoding.symbols_in_stream[:3] == ("ESZ5", "ESH6", "ESZ5-ESH6")
    assert len(info.encoding.symbols_in_stream) == 3 + 480
    assert info.origin.startswith("sim:seed=7,rate=500")
    assert info.encoding.header[:4] == b"DBN\x03"


def test_an_origin_is_enough_to_make_the_same_bytes_again() -> None:
    (delivery,) = opened(SimFeed(seed=7, rate=500, start_ns=OPEN + 123_456_789))
    (again,) = opened(SimFeed.parse(delivery.info.origin.removeprefix("sim:")))

    assert asyncio.run(first_messages(again, 20)) == asyncio.run(first_messages(delivery, 20))


async def first_messages(delivery: Delivery, count: int) -> list[bytes]:
    taken = []
    async for message in messages(delivery):
        taken.append(message.data)
        if len(taken) == count:
            break
    return taken


def test_messages_are_the_markets_blocks_stamped_with_our_clock_between_turns_of_the_event_loop() -> None:
    feed = SimFeed(seed=7, rate=500, start_ns=OPEN)
    turns = SimpleNamespace(count=0)

    async def other_task() -> None:
        while True:
            turns.count += 1
            await asyncio.sleep(0)

    async def taking() -> list[RawMessage]:
        other = asyncio.create_task(other_task())
        taken: list[RawMessage] = []
        delivery = await anext(feed.deliveries({}))
        async for message in messages(delivery):
            taken.append(message)
            if len(taken) == 30:
                break
        other.cancel()
        return taken

    begin = utc_now_ns()
    sent = asyncio.run(taking())
    assert [message.data for message in sent] == [
        piece for piece, _ in zip(feed.market.blocks(), range(30), strict=False)
    ]
    times = [message.ts_local_ns or 0 for message in sent]
    assert begin <= times[0] <= times[-1] <= utc_now_ns()
    assert turns.count >= 29


def test_a_feed_begins_now_unless_told_otherwise() -> None:
    before = utc_now_ns()
    market = SimFeed.parse("").market

    assert (market.seed, market.rate) == (1, 2_000)
    assert before <= market.start_ns <= utc_now_ns()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=7", (7, 2_000, None)),
        ("rate=10,seed=0", (0, 10, None)),
        ("start=2025-12-02T14:30:00Z", (1, 2_000, OPEN)),
        ("start=2025-12-02T14:30:00.000000001Z,rate=5", (1, 5, OPEN + 1)),
        ("start=2025-12-02T14:30:00+00:00", (1, 2_000, OPEN)),
        ("start=2025-12-02", (1, 2_000, ns("2025-12-02T00:00:00"))),
        (f"start={OPEN + 5}", (1, 2_000, OPEN + 5)),
    ],
)
def test_options_are_read(text: str, expected: tuple[int, int, int | None]) -> None:
    market = SimFeed.parse(text).market

    assert (market.seed, market.rate) == expected[:2]
    assert expected[2] in (None, market.start_ns)


@pytest.mark.parametrize(
    "text",
    [
        "speed=2", "seed", "seed=", "seed=-1", "seed=x", "seed=1.5", "seed=1,seed=2", ",", "rate=0", "rate=1000001",
        "start=yesterday", "start=2025-12-02T14:30:00-05:00", "start=2025-13-01", "start=17", "start=1969-01-01",
        "start=99999999999999999999", "seed=٣", "start=", "start=2025-12-02T14:30:00.1234567890Z",
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_in_one_line_that_says_what_to_do(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        SimFeed.parse(text)

    assert "Next: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_step_at_the_default_rate_is_worth_its_fixed_cost() -> None:
    steps = SimulatedMarket(1, 2_000, NOON).session(with_spy=False).steps()
    records = [sum(len(tape.traded) for tape in step.tapes) for step, _ in zip(steps, range(20), strict=False)]

    assert np.median(records) > 5_000


def test_within_a_step_events_are_spread_as_the_market_is_busy() -> None:
    activity = Activity(1)
    stretch = activity.stretch(NOON + 100_000_000, NOON + 60 * NS_PER_SECOND, 10**30)
    drawn = np.arange(0, 1 << 32, 1 << 16).astype(np.uint64)
    times = stretch.times(drawn)
    levels = np.array([activity.level(NOON + i * NS_PER_SECOND // 4) for i in range(240)])
    placed = np.bincount((times - NOON) // (NS_PER_SECOND // 4), minlength=240)

    assert (stretch.begin, stretch.end) == (times[0], NOON + 60 * NS_PER_SECOND)
    assert (np.diff(times) >= 0).all()
    assert times[-1] < stretch.end
    assert np.abs(placed[1:] / levels[1:] * levels.sum() / len(drawn) - 1).max() < 0.05
    assert max(levels) > 5 * np.median(levels)
    busy = activity.stretch(NOON, NOON + 60 * NS_PER_SECOND, stretch.busy // 2)
    assert stretch.busy // 2 <= busy.busy < stretch.busy // 2 + max(levels)


def test_a_slow_market_still_keeps_its_rate() -> None:
    recording = Recording(1, 1, NOON, 1_200)

    assert np.isin(recording.rtypes, (TRADE, MBP10)).sum() == pytest.approx(1_200, rel=0.05)

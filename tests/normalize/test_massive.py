"""Massive's frames, pages and day files become rows: exact, or in quarantine whole."""

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster.clock import NS_PER_MS
from spymaster.errors import SourceError, TruncatedError, UnsupportedError
from spymaster.events import SCHEMAS
from spymaster.normalize.massive import frame_columns
from spymaster.normalize.massive.day_files import DayFileNormalizer
from spymaster.normalize.massive.fields import RECORDS
from spymaster.normalize.normalizer import Normalized
from tests.normalize import massive_fuzz, massive_oracle
from tests.normalize.massive_fuzz import (
    LINES,
    OPTION,
    OPTION_QUOTE,
    OPTION_TRADE,
    SNAPSHOT,
    STATUS,
    STOCK_QUOTE,
    STOCK_TRADE,
    frame_reader,
    line_reader,
    page_reader,
)

RECEIVED = 1_790_000_000_000_000_007


def encoded(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def read(*frames: Any, cluster: str = "stocks", ts_local_ns: int | None = RECEIVED) -> Normalized:
    """Normalize frames, given as bytes or as what they say, in one call."""
    messages = [(frame if isinstance(frame, bytes) else encoded(frame), ts_local_ns) for frame in frames]
    return frame_reader(cluster).normalize(messages)


def rows(done: Normalized) -> list[dict[str, Any]]:
    """Return all rows without what the vendor did not send."""
    made = [row for _, batch in done.batches for row in batch.to_pylist()]
    return [{name: value for name, value in row.items() if value is not None} for row in made]


# Frames.


def test_a_stock_trade_keeps_all_that_was_sent() -> None:
    (row,) = rows(read([STOCK_TRADE]))

    assert row == {
        "ts_event_ns": 1536036818784000000,
        "ts_recv_ns": RECEIVED,
        "ts_local_ns": RECEIVED,
        "source": "massive.stocks",
        "symbol": "MSFT",
        "price": 114.125,
        "size": 100,
        "exchange": 4,
        "conditions": [0, 12],
        "seq": 3681328,
        "trade_id": "12345",
        "tape": 3,
        "trf_id": 201,
        "participant_ts_ns": 1536036818780000000,
        "trf_ts_ns": 1536036818783000000,
        "size_decimal": "100.5",
    }


def test_a_stock_quote_keeps_both_sides_its_condition_and_its_indicators() -> None:
    (row,) = rows(read([STOCK_QUOTE]))

    assert (row["bid_px"], row["bid_sz"], row["bid_exch"]) == (114.125, 100, 4)
    assert (row["ask_px"], row["ask_sz"], row["ask_exch"]) == (114.128, 160, 7)
    assert (row["conditions"], row["indicators"], row["seq"], row["tape"]) == ([0], [604], 50385480, 3)


def test_an_option_trade_is_read_from_the_right_of_its_symbol() -> None:
    (row, odd) = rows(read([OPTION_TRADE, OPTION_TRADE | {"sym": "O:SPY251399C00680000"}], cluster="options"))

    assert (row["underlying"], row["option_symbol"]) == ("SPY", "O:SPY251216C00680000")
    assert (row["exp_date"], row["strike"], row["right"]) == (dt.date(2025, 12, 16), 680.0, "C")
    assert (row["source"], row["aggressor"]) == ("massive.options", 0)
    assert (odd["underlying"], "exp_date" in odd) == ("O:SPY251399C00680000", False)


def test_an_option_quote_keeps_both_sides_and_what_the_vendor_does_not_give_is_null() -> None:
    done = read([OPTION_QUOTE], cluster="options")
    (row,) = rows(done)

    assert row == {
        "ts_event_ns": 1644506128351000000,
        "ts_recv_ns": RECEIVED,
        "ts_local_ns": RECEIVED,
        "source": "massive.options",
        "underlying": "SPY",
        "option_symbol": "O:SPY241220P00720000",
        "exp_date": dt.date(2024, 12, 20),
        "strike": 720.0,
        "right": "P",
        "bid_px": 9.71,
        "bid_sz": 17,
        "bid_exch": 302,
        "ask_px": 9.81,
        "ask_sz": 24,
        "ask_exch": 303,
        "sample_s": 0,
        "seq": 844090872,
    }
    ((schema, batch),) = done.batches
    assert batch.schema.equals(schema.delivered, check_metadata=True)


@pytest.mark.parametrize("spoiler", [[], [STATUS]])  # the second goes the slow way
def test_a_side_of_an_option_quote_is_null_where_it_is_left_out_and_0_where_it_is_sent_as_0(spoiler: Any) -> None:
    no_ask = {key: value for key, value in OPTION_QUOTE.items() if key not in ("ax", "ap", "as")}
    frames = [no_ask, OPTION_QUOTE | {"bx": 0, "bp": 0, "bs": 0}, OPTION_QUOTE | {"sym": "O:SPY251399C00680000"}]
    without, zero, odd = rows(read(frames + spoiler, cluster="options"))

    assert not {"ask_px", "ask_sz", "ask_exch"} & set(without)
    assert (without["bid_px"], without["bid_sz"], without["bid_exch"]) == (9.71, 17, 302)
    assert (zero["bid_px"], zero["bid_sz"], zero["bid_exch"]) == (0.0, 0, 0)
    assert (odd["underlying"], odd["option_symbol"]) == ("O:SPY251399C00680000", "O:SPY251399C00680000")
    assert not {"exp_date", "strike", "right"} & set(odd)


CROSSED = OPTION_QUOTE | {"bp": 9.82}
NOT_CROSSED = [
    OPTION_QUOTE | {"bp": 9.81},  # locked
    OPTION_QUOTE | {"ax": 0, "ap": 0, "as": 0},  # without an ask, as files say it
    {key: value for key, value in CROSSED.items() if key != "ap"},
    {key: value for key, value in CROSSED.items() if key != "bp"},
]
UNREAD = "O:SPY251399C00680000"


@pytest.mark.parametrize("spoiler", [[], [STATUS]])  # the second goes the slow way
def test_option_quotes_that_cross_are_recorded_as_they_came_and_counted(spoiler: Any) -> None:
    normalizer = frame_reader("options")
    done = normalizer.normalize([(encoded([CROSSED, *NOT_CROSSED, *spoiler]), RECEIVED)] * 2)

    assert normalizer.odd == {"crossed quote": 2}
    assert [(row.get("bid_px"), row.get("ask_px")) for row in rows(done)] == 2 * [
        (9.82, 9.81), (9.81, 9.81), (9.71, 0.0), (9.82, None), (None, 9.81)
    ]  # fmt: skip


def test_options_whose_symbol_does_not_read_are_filed_under_it_and_counted() -> None:
    normalizer = frame_reader("options")
    frame = encoded([event | {"sym": symbol} for event in (OPTION_TRADE, OPTION_QUOTE) for symbol in (UNREAD, OPTION)])
    done = normalizer.normalize([(frame, RECEIVED)])

    assert normalizer.odd == {"option whose symbol does not read": 2}
    assert [row["underlying"] for row in rows(done)] == [UNREAD, "SPY"] * 2


@pytest.mark.parametrize("other", [[], ["not a line"]])  # the second sends all lines the slow way
def test_odd_rows_of_pages_and_day_files_are_counted_once_each(other: list[str]) -> None:
    results = [massive_fuzz.OPTION_QUOTE_RECORD | {"bid_price": bid} for bid in (9.71, 9.82, 9.81)]
    pages = page_reader("options.quotes", UNREAD)
    assert len(rows(pages.normalize([(encoded({"results": results}), RECEIVED)]))) == 3
    assert pages.odd == {"crossed quote": 1, "option whose symbol does not read": 3}

    header, line, empty = LINES["options.quotes"]
    crossed = line.replace(",9.71,", ",9.82,")
    text = "".join(f"{some}\n" for some in [line, crossed, empty, crossed.replace("241220", "241399"), *other] * 10)
    lines = line_reader(f"{header}\n".encode(), OPTION)
    done = lines.normalize([(text.encode(), None)])
    assert (len(rows(done)), len(done.unreadable)) == (40, 10 * len(other))
    assert lines.odd == {"crossed quote": 20, "option whose symbol does not read": 10}


def test_the_messages_of_the_vendors_specification_load(real_data: Path) -> None:
    paths = json.loads((real_data / "massive-client" / "spec_websocket.json").read_bytes())["paths"]

    def example(path: str) -> Any:
        return paths[path]["get"]["responses"]["200"]["content"]["application/json"]["example"]

    for cluster in ("stocks", "options"):
        events = [example(path) for path in paths if path.startswith(f"/{cluster}/")]
        normalizer = frame_reader(cluster)
        done = normalizer.normalize([(encoded(events), RECEIVED)])
        expected, others = massive_oracle.frame(encoded(events), cluster)

        assert done.unreadable == []
        assert sum(normalizer.ignored.values()) == others > 0
        made = [(schema.name, row) for schema, batch in done.batches for row in batch.to_pylist()]
        assert {name for name, _ in made} == {f"{cluster}.trades", f"{cluster}.quotes"}
        assert len(made) == len(expected) == 2
        for (name, row), (other_name, other) in zip(made, expected, strict=True):
            assert name == other_name
            assert {key: row[key] for key in other} == other


def test_frames_of_one_call_keep_their_order_and_their_times_of_receipt() -> None:
    frames = [[STOCK_TRADE | {"q": 1}, STOCK_QUOTE | {"q": 2}, STOCK_TRADE | {"q": 3}], [STOCK_TRADE | {"q": 4}]]
    for more in ([], [STATUS]):  # the second goes the slow way
        messages = [(encoded(frame + more), RECEIVED + number) for number, frame in enumerate(frames)]
        trades, quotes = (batch for _, batch in frame_reader("stocks").normalize(messages).batches)

        assert trades["seq"].to_pylist() == [1, 3, 4]
        assert trades["ts_local_ns"].to_pylist() == [RECEIVED, RECEIVED, RECEIVED + 1]
        assert quotes["seq"].to_pylist() == [2]


def test_a_row_without_a_receipt_was_received_when_it_happened() -> None:
    (row,) = rows(read([STOCK_TRADE], ts_local_ns=None))

    assert "ts_local_ns" not in row
    assert row["ts_recv_ns"] == row["ts_event_ns"]


def test_the_vendors_own_messages_and_what_is_not_recorded_are_counted() -> None:
    normalizer = frame_reader("options", simulated=True)
    frames = [[STATUS, STATUS], [{"ev": "AM", "sym": "O:X"}, OPTION_TRADE], [{"ev": "unheard of"}]]
    done = normalizer.normalize([(encoded(frame), RECEIVED) for frame in frames])

    assert normalizer.ignored == {"status": 2, "AM": 1, "unheard of": 1}
    assert [row["source"] for row in rows(done)] == ["sim"]
    assert done.unreadable == []


@pytest.mark.parametrize(
    ("change", "size", "text"),
    [
        ({"s": 100}, 100, None),
        ({"s": 100, "ds": "100.25"}, 100, "100.25"),
        ({"s": 0.5}, None, "0.5"),
        ({"s": 0.5, "ds": "0.50"}, None, "0.50"),
        ({"s": 2**31}, None, "2147483648"),
        ({"s": 2**31 - 1}, 2**31 - 1, None),
        ({"s": 100.0}, 100, "100.0"),
        ({"s": None}, None, None),
    ],
)
def test_a_size_is_whole_or_null_with_its_text_beside_it(change: dict[str, Any], size: Any, text: Any) -> None:
    event = {key: value for key, value in STOCK_TRADE.items() if key != "ds"} | change
    ((_, batch),) = read([event]).batches

    assert (batch["size"][0].as_py(), batch["size_decimal"][0].as_py()) == (size, text)


UNREADABLE = {
    "broken": b'[{"ev":"T","sym":"A","t":5',
    "empty": b"",
    "an object": encoded(STOCK_TRADE),
    "no event": b"[3]",
    "no kind": encoded([{"sym": "A", "t": 5}]),
    "no symbol": encoded([{"ev": "T", "t": 5}]),
    "no time": encoded([{"ev": "T", "sym": "A"}]),
    "time zero": encoded([STOCK_TRADE | {"t": 0}]),
    "a text for a number": encoded([STOCK_TRADE | {"x": "4"}]),
    "a fraction for a time": encoded([STOCK_TRADE | {"t": 1536036818784.5}]),
    "a time beyond 64 bits": encoded([STOCK_TRADE | {"t": 9223372036855}]),
    "a number for a text": encoded([STOCK_TRADE | {"i": 12345}]),
    "true": encoded([STOCK_TRADE | {"p": True}]),
    "not a number": encoded([STOCK_TRADE | {"p": float("nan")}]),
    "infinite": encoded([STOCK_TRADE]).replace(b"114.125", b"1e400"),
    "code beyond 16 bits": encoded([STOCK_TRADE | {"c": [40_000]}]),
    "code beyond 64 bits": encoded([STOCK_TRADE | {"c": [2**70]}]),
    "the code for null": encoded([STOCK_TRADE | {"c": [-(2**15)]}]),
    "the size for null": encoded([STOCK_QUOTE | {"bs": -(2**31)}]),
    "size of a quote beyond 32 bits": encoded([STOCK_QUOTE | {"bs": 2**31}]),
    "no UTF-8": encoded([STOCK_TRADE | {"new": "?"}]).replace(b"?", b"\xff"),
    "half a surrogate pair": encoded([STOCK_TRADE | {"sym": "\ud800"}]),
    "another market's": encoded([OPTION_TRADE]),
    "a symbol that no path holds": encoded([STOCK_TRADE | {"sym": "A" * 65}]),
    "deeper than can be read": b"[" * 100_000,
    "the number for null": encoded([STOCK_TRADE | {"q": -(2**63)}]),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_frame_goes_to_quarantine_whole_and_alone(name: str) -> None:
    bad, good = UNREADABLE[name], encoded([STOCK_TRADE, STOCK_QUOTE])
    with_good = encoded([STOCK_QUOTE])[:-1] + b"," + bad[1:] if bad.startswith(b"[{") else bad
    done = read(good, bad, with_good, good)

    assert [unreadable.data for unreadable in done.unreadable] == [bad, with_good]
    assert [u.byte for u in done.unreadable] == [len(good), len(good) + len(bad)]
    assert all("\n" not in u.reason and len(u.reason) < 200 for u in done.unreadable)
    assert [batch.num_rows for _, batch in done.batches] == [2, 2]


PLAIN_EVENTS = st.lists(
    st.sampled_from([STOCK_TRADE, STOCK_QUOTE]).flatmap(
        lambda event: st.lists(
            st.sampled_from([key for key in event if key not in ("ev", "sym", "t")]), max_size=4
        ).map(lambda dropped: {key: value for key, value in event.items() if key not in dropped})
    ),
    min_size=1,
    max_size=4,
)
ANY_EVENT = st.dictionaries(
    st.sampled_from(["ev", *STOCK_TRADE, "new"]),
    st.sampled_from(["T", "Q", "A"]) | st.integers() | st.floats() | st.text(max_size=3) | st.none() | st.booleans()
    | st.lists(st.integers(0, 99), max_size=2),
)  # fmt: skip
CHANGED = st.tuples(st.sampled_from([STOCK_TRADE, STOCK_QUOTE]), ANY_EVENT).map(lambda both: both[0] | both[1])


@settings(max_examples=400, deadline=None)
@given(st.lists(PLAIN_EVENTS | st.lists(CHANGED | ANY_EVENT, max_size=2), min_size=1, max_size=3))
def test_both_ways_of_reading_frames_and_a_third_agree(frames: list[Any]) -> None:
    messages = [(encoded(frame), RECEIVED) for frame in frames]
    slow = frame_reader("stocks")
    slow._plain = None
    by_value = slow.normalize(messages)
    fast = frame_reader("stocks")
    done = fast.normalize(messages)
    assert done == by_value
    assert fast.ignored == slow.ignored

    expected = []
    for frame, _ in messages:
        try:
            expected += massive_oracle.frame(frame, "stocks")[0]
        except massive_oracle.BadError:
            assert any(unreadable.data == frame for unreadable in by_value.unreadable)
    made = [(schema.name, row) for schema, batch in by_value.batches for row in batch.to_pylist()]
    assert len(made) == len(expected)
    for name in SCHEMAS:
        theirs = [row for schema, row in expected if schema == name]
        ours = [row for schema, row in made if schema == name]
        assert [{key: row[key] for key in other} for row, other in zip(ours, theirs, strict=True)] == theirs


# Pages.


@pytest.mark.parametrize(
    ("name", "schema", "count"),
    [
        ("rest_v3_trades_AAPL", "stocks.trades", 2),
        ("rest_v3_quotes_AAPL", "stocks.quotes", 10),
        ("rest_v3_snapshot_options_AAPL", "options.greeks_snapshots", 1),
        ("rest_v3_snapshot_option_contract", "options.greeks_snapshots", 1),
    ],
)
def test_the_vendors_sample_pages_load_value_by_value(real_data: Path, name: str, schema: str, count: int) -> None:
    page = (real_data / "massive-client" / f"{name}.json").read_bytes()
    ((found, batch),) = page_reader(schema, "AAPL").normalize([(page, RECEIVED)]).batches

    expected = massive_oracle.page(page, schema, "AAPL", RECEIVED)
    assert (found.name, batch.num_rows, len(expected)) == (schema, count, count)
    for row, other in zip(batch.to_pylist(), expected, strict=True):
        assert {key: row[key] for key in other} == other
        assert row["ts_recv_ns"] == RECEIVED


def test_a_page_of_option_trades_has_nanoseconds_to_the_last(real_data: Path) -> None:
    trade = {"exchange": 302, "price": 1.54, "sip_timestamp": 2**60 + 1, "size": 1, "conditions": [233]}
    page = encoded({"results": [trade | {"correction": 1, "participant_timestamp": 2**60 + 3}]})
    done = page_reader("options.trades", OPTION).normalize([(page, None)])

    (row,) = rows(done)
    assert (row["ts_event_ns"], row["participant_ts_ns"]) == (2**60 + 1, 2**60 + 3)
    assert (row["underlying"], row["strike"], row["correction"]) == ("SPY", 680.0, 1)


def test_a_page_of_option_quotes_loads_value_by_value(real_data: Path) -> None:
    sample = json.loads((real_data / "massive-client" / "rest_v3_quotes_AAPL.json").read_bytes())
    results = [
        {key: value for key, value in quote.items() if key not in ("participant_timestamp", "tape")}
        | {"sip_timestamp": quote["sip_timestamp"] + 1, "bid_exchange": 302}  # which no float could hold
        for quote in sample["results"]
    ]
    results[1] |= {"ask_price": 0, "ask_size": 0, "ask_exchange": 0}
    del results[2]["bid_price"]
    page = encoded(sample | {"results": results})
    ((schema, batch),) = page_reader("options.quotes", OPTION).normalize([(page, RECEIVED)]).batches

    assert schema.name == "options.quotes"
    assert set(batch["source"].to_pylist()) == {"massive.options"}
    expected = massive_oracle.page(page, "options.quotes", OPTION, RECEIVED)
    assert len(expected) == batch.num_rows == 10
    assert [{key: row[key] for key in expected[0]} for row in batch.to_pylist()] == expected
    assert [(row["underlying"], row["strike"], row["ts_event_ns"]) for row in expected] == [
        ("SPY", 680.0, quote["sip_timestamp"]) for quote in results
    ]


def test_the_sample_of_option_contracts_becomes_definitions(real_data: Path) -> None:
    page = (real_data / "massive-client" / "rest_v3_reference_options_contracts.json").read_bytes()
    pages = page_reader("reference.instruments", "")
    made, sent = rows(pages.normalize([(page, RECEIVED)])), json.loads(page)["results"]

    assert len(made) == len(sent) == 10
    for row, contract in zip(made, sent, strict=True):
        assert row == {
            "ts_event_ns": RECEIVED,
            "ts_recv_ns": RECEIVED,
            "ts_local_ns": RECEIVED,
            "source": "massive.options",
            "symbol": contract["ticker"][2:-15],
            "contract": contract["ticker"],
            "record": "definition",
            "instrument_class": {"call": "C", "put": "P"}[contract["contract_type"]],
            "cfi": contract["cfi"],
            "exchange": contract["primary_exchange"],
            "underlying": contract["underlying_ticker"],
            "strike": contract["strike_price"],
            "unit_of_measure_qty": contract["shares_per_contract"],
        }
    assert len(pages.normalize([(page, None)]).unreadable) == 1


def snapshot(*results: Any, ts_local_ns: int | None = RECEIVED) -> Normalized:
    page = encoded({"results": results, "status": "OK"})
    return page_reader("options.greeks_snapshots", "AAPL").normalize([(page, ts_local_ns)])


def test_greeks_that_are_missing_or_empty_are_null_and_never_zero() -> None:
    for change in ({"greeks": {}}, {"greeks": None}, {"greeks": {"delta": None}, "implied_volatility": None}):
        (row,) = rows(snapshot(SNAPSHOT | change))
        assert not {"delta", "gamma", "theta", "vega"} & set(row)


def test_a_snapshots_time_is_its_quotes_then_its_underlyings_then_ours() -> None:
    def without(*groups: str) -> dict[str, Any]:
        return {key: value for key, value in SNAPSHOT.items() if key not in groups}

    assert rows(snapshot(SNAPSHOT))[0]["ts_event_ns"] == 1651254260800059648
    assert rows(snapshot(without("last_quote")))[0]["ts_event_ns"] == 1651254263172073152
    assert rows(snapshot(without("last_quote", "underlying_asset")))[0]["ts_event_ns"] == RECEIVED
    assert len(snapshot(without("last_quote", "underlying_asset"), ts_local_ns=None).unreadable) == 1


def test_a_snapshots_id_depends_on_what_was_said_alone() -> None:
    other = SNAPSHOT | {"open_interest": 1}
    backwards = dict(reversed(SNAPSHOT.items()))
    first, second = rows(snapshot(SNAPSHOT, other)), rows(snapshot(other, backwards, ts_local_ns=RECEIVED + 5))

    assert first[0]["snapshot_id"] == second[1]["snapshot_id"] != first[1]["snapshot_id"]
    assert first[1]["snapshot_id"] == second[0]["snapshot_id"]


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"[]",
        b'{"results":3}',
        encoded({"status": "ERROR", "error": "no such key"}),
        encoded({"results": [massive_fuzz.TRADE_RECORD, massive_fuzz.TRADE_RECORD | {"sip_timestamp": 1.5e18}]}),
        encoded({"results": [massive_fuzz.TRADE_RECORD | {"sip_timestamp": None}]}),
    ],
)
def test_an_unreadable_page_goes_to_quarantine_whole(page: bytes) -> None:
    done = page_reader("stocks.trades", "AAPL").normalize([(page, RECEIVED)])

    assert done.batches == []
    assert [unreadable.data for unreadable in done.unreadable] == [page]


def test_a_page_without_results_gives_no_rows() -> None:
    for page in ({"status": "OK"}, {"results": [], "status": "DELAYED"}):
        done = page_reader("stocks.trades", "AAPL").normalize([(encoded(page), RECEIVED)])
        assert done == Normalized([], [])


# Day files.


def flat_file(schema: str) -> DayFileNormalizer:
    ticker = OPTION if schema.startswith("options.") else "SPY"
    header = LINES[schema][0].encode() + b"\n"
    return line_reader(header, ticker)


def test_every_sample_day_file_loads_as_pandas_reads_it(real_data: Path) -> None:
    files = sorted((real_data / "lean" / "derived").glob("*trades_v1*.csv.gz"))
    assert files
    for path in files:
        header, _, text = gzip.decompress(path.read_bytes()).partition(b"\n")
        normalizer = line_reader(header + b"\n", "SPY")
        pieces = [text[at : at + 400_000] for at in range(0, len(text), 400_000)]
        done = [normalizer.normalize([(piece, None)]) for piece in pieces]
        normalizer.finish()
        ours = pd.concat([batch.to_pandas() for some in done for _, batch in some.batches], ignore_index=True)

        theirs = pd.read_csv(path, dtype={"conditions": str, "id": str}, keep_default_na=False, na_values=[""])
        assert len(ours) == len(theirs) == text.count(b"\n")
        assert not any(some.unreadable for some in done)
        names = {field.column: key for key, field in RECORDS["stocks.trades"].fields.items()}
        for column in (
            "ts_event_ns",
            "participant_ts_ns",
            "trf_ts_ns",
            "seq",
            "size",
            "exchange",
            "tape",
            "correction",
        ):
            assert theirs[names[column]].dtype == "int64"
            assert (ours[column] == theirs[names[column]]).all(), column
        assert (ours["trf_id"] == theirs["trf_id"]).all()
        assert (ours["price"] == theirs["price"]).all()
        assert (ours["trade_id"] == theirs["id"]).all()
        assert (ours["symbol"] == theirs["ticker"]).all()
        assert (ours["conditions"].isna() == theirs["conditions"].isna()).all()
        assert (ours["ts_recv_ns"] == ours["ts_event_ns"]).all()


@pytest.mark.parametrize("schema", LINES)
def test_lines_however_they_are_cut_give_the_same_rows(schema: str) -> None:
    header, *lines = LINES[schema]
    text = b"".join(line.encode() + b"\n" for line in lines * 3)
    expected = [massive_oracle.line(line.encode() + b"\n", header.split(","), schema) for line in lines * 3]
    for size in (1, 7, 100, len(text)):
        normalizer = flat_file(schema)
        made = [
            row
            for at in range(0, len(text), size)
            for _, batch in normalizer.normalize([(text[at : at + size], None)]).batches
            for row in batch.to_pylist()
        ]
        normalizer.finish()
        assert [{key: row[key] for key in other} for row, other in zip(made, expected, strict=True)] == expected


def test_columns_are_known_by_name_in_any_order_and_unknown_ones_counted_once() -> None:
    header, *lines = LINES["stocks.trades"]
    names, values = header.split(","), lines[1].split(",")
    turned = ",".join(["new", *reversed(names)]).encode() + b"\r\n"
    normalizer = line_reader(turned, "A")
    done = [normalizer.normalize([(",".join(["?", *reversed(values)]).encode() + b"\r\n", None)]) for _ in range(2)]

    straight = flat_file("stocks.trades").normalize([(lines[1].encode() + b"\n", None)])
    assert rows(done[0]) == rows(done[1]) == rows(straight)
    assert normalizer.ignored == {"column new": 1}


def test_a_line_that_cannot_be_read_goes_to_quarantine_and_the_others_do_not() -> None:
    good = LINES["stocks.trades"][2]
    bad = ["A,12,0", good.replace("1381132800464000001", "1.381e18"), good.replace("A,12", 'A,"12'), good + ",9"]
    bad += [good.replace("A,", "O:SPY251216C00680000,", 1), good.replace("A,", ",", 1), good.replace("100", "0x64")]
    bad += [good.replace("167.41", "nan"), good.replace("167.41", " 167.41"), good.replace("1381132800464000001", "0")]
    bad += [good.replace("A,12", 'A,"12"3'), good.replace("A,12", 'A,""12""')]
    text = "".join(f"{good}\n{line}\n" for line in bad).encode()
    done = flat_file("stocks.trades").normalize([(text, None)])

    assert [unreadable.data.decode() for unreadable in done.unreadable] == [f"{line}\n" for line in bad]
    assert [text[u.byte - len(LINES["stocks.trades"][0]) - 1 :][: len(u.data)] for u in done.unreadable] == [
        u.data for u in done.unreadable
    ]
    assert len(rows(done)) == len(bad)


@pytest.mark.parametrize(
    ("size", "exact", "whole", "text"),
    [
        ("100", "", 100, None),
        ("100.000000", "", 100, "100.000000"),
        ("00.0000000", "", 0, "00.0000000"),
        ("0.250000", "", None, "0.250000"),
        ("100", "100.25", 100, "100.25"),
        ("100.000000", "100.25", 100, "100.25"),
        ("", "", None, None),
        ("2147483648", "", None, "2147483648"),
    ],
)
@pytest.mark.parametrize("other", [b"", b"A,x\n"])  # the second sends all lines the slow way
def test_a_files_size_keeps_its_text_as_written(size: str, exact: str, whole: Any, text: Any, other: bytes) -> None:
    header = f"{LINES['stocks.trades'][0]},decimal_size\n".encode()
    line = LINES["stocks.trades"][2].replace(",100,", f",{size},") + f",{exact}\n"
    normalizer = line_reader(header, "A")
    ((_, batch),) = normalizer.normalize([(line.encode() + other, None)]).batches

    assert (batch["size"][0].as_py(), batch["size_decimal"][0].as_py()) == (whole, text)


def test_what_a_file_holds_follows_from_columns_and_tickers() -> None:
    def streams(schema: str, *tickers: str) -> dict[str, str]:
        header = LINES[schema][0].encode() + b"\n"
        return line_reader(header, *tickers).streams

    assert streams("stocks.trades", "SPY") == {"stocks.trades": "SPY"}
    assert streams("stocks.trades", "A", "B") == {"stocks.trades": "ALL"}
    assert streams("options.trades", OPTION, "O:SPY251216P00680000") == {"options.trades": "SPY"}
    assert streams("stocks.quotes") == {"stocks.quotes": "ALL"}
    assert streams("options.quotes", OPTION) == {"options.quotes": "SPY"}
    assert streams("options.quotes") == {"options.quotes": "ALL"}
    with pytest.raises(UnsupportedError, match="the columns a, b"):
        line_reader(b"a,b\n")
    with pytest.raises(UnsupportedError, match="twice"):
        line_reader(b"ticker,ticker\n")
    with pytest.raises(SourceError, match="column names"):
        line_reader(b'"a\n')


def test_a_file_that_ends_inside_a_line_is_truncated() -> None:
    normalizer = flat_file("stocks.trades")
    normalizer.normalize([(b"A,12", None)])

    with pytest.raises(TruncatedError, match=f"at byte {len(LINES['stocks.trades'][0]) + 5}"):
        normalizer.finish()


# All of them, damaged.


def test_damaged_messages_never_crash_and_never_give_a_wrong_row() -> None:
    figures = massive_fuzz.torture(10_000, 1, lambda done: None)

    assert figures.mutations >= 10_000
    assert (figures.crashes, figures.wrong_rows) == (0, 0), figures.example
    assert 0.1 < figures.quarantined / figures.mutations < 0.9


def test_the_torture_sees_a_planted_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_columns, "NS_PER_MS", NS_PER_MS + 1)

    assert massive_fuzz.torture(2_000, 1, lambda done: None).wrong_rows > 0

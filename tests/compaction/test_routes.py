"""One market recorded live and then backfilled from its day file: each event once, in Silver and in the one table."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import SilverReader, connect, events
from spymaster.compaction import compactor
from spymaster.compaction.compactor import compact, partitions
from spymaster.compaction.engines import Engine
from spymaster.events import MARKET_SCHEMAS, Stream
from spymaster.events.encoding import MassiveFrames, MassivePages
from spymaster.normalize.open import normalizer_of
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.compaction.silver_oracle import flush
from tests.compaction.test_compactor import as_capture, check_once_and_again, compacted, flat_file_rows
from tests.events.test_sameness import blank, statistic, trading_state, venue_quote
from tests.rows import NOON_NS, numbered

NOON_MS = NOON_NS // 1_000_000
STOCKS = (
    "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,sip_timestamp,size,tape,"
    "trf_id,trf_timestamp"
)
QUOTES = (
    "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,conditions,indicators,"
    "participant_timestamp,sequence_number,sip_timestamp,tape,trf_timestamp"
)
OPTIONS = "ticker,conditions,correction,exchange,price,sip_timestamp,size"
OPTION_QUOTES = "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,sequence_number,sip_timestamp"
FILE_BEGAN_NS = NOON_NS + 10**12
DAY_NS = 86_400 * 10**9


def live(cluster, messages):
    """Return the rows of websocket events, and their schema."""
    return rows_of(MassiveFrames(cluster, "SPY"), messages)


def rows_of(encoding, document):
    """Return the rows of a frame or a page that came live, and their schema."""
    normalizer = normalizer_of(encoding, origin="live")
    done = normalizer.normalize([(json.dumps(document).encode(), NOON_NS + 50_000_000)])
    assert not done.unreadable
    ((schema, batch),) = done.batches
    return schema, pa.Table.from_batches([batch])


def day_file(tmp_path, name, header, lines):
    path = tmp_path / f"{name}.csv.gz"
    path.write_bytes(gzip.compress(("\n".join([header, *lines]) + "\n").encode()))
    (rows,) = flat_file_rows(path).values()
    return rows


def recorded(tmp_path, schema, *captures):
    """Bring captures into Bronze, with the row that says when each began, in the order given; return the lake."""
    for number, rows in enumerate(captures, 1):
        began = pa.RecordBatch.from_pylist(
            [
                {
                    "ts_event_ns": NOON_NS + number, "ts_recv_ns": NOON_NS + number, "ts_local_ns": NOON_NS + number,
                    "source": "spymaster", "symbol": "spymaster", "event": "begin", "of_capture_id": number,
                    "of_source": "massive", "origin": "test", "content_sha256": None, "normalizer_version": 1,
                    "stream_rows": [], "complete": False, "detail": None, "capture_id": 99, "capture_seq": number,
                }
            ],
            schema=events.SYSTEM_CAPTURES.log,
        )  # fmt: skip
        flush(tmp_path, events.SYSTEM_CAPTURES, pa.Table.from_batches([began]), "spymaster", NOON_NS + number)
        flush(tmp_path, schema, as_capture(schema, rows, number), "SPY", NOON_NS + 100 + number)
    return tmp_path / "lake"


def both(tmp_path, lake, query):
    """Ask before and after a compaction; the answer has to be the same."""
    with connect(lake, tmp_path / "wal") as opened:
        before = opened.execute(query).fetchall()
    with compactor.lock(lake):
        results = compact(lake, partitions(lake, MARKET_SCHEMAS))
    assert {result.status for result in results} == {"compacted"}
    with connect(lake, tmp_path / "wal") as opened:
        assert opened.execute(query).fetchall() == before
    return before, results


def test_option_prints_that_came_live_and_in_the_day_file_are_there_once(tmp_path):
    option = "O:SPY251222C00680000"
    prints = [(0, 1.5, 3, 11), (0, 1.5, 3, 12), (1, 1.6, 1, 13)]
    frames = [
        {"ev": "T", "sym": option, "x": 300, "p": p, "s": s, "c": [209], "t": NOON_MS + t, "q": q}
        for t, p, s, q in prints
    ]
    lines = [f"{option},209,0,300,{p},{NOON_NS + t * 1_000_000 + 456},{s}" for t, p, s, _ in prints]
    schema, rows = live("options", frames)
    lake = recorded(tmp_path, schema, rows, day_file(tmp_path, "day", OPTIONS, lines))

    found, (result,) = both(tmp_path, lake, "select price, size, seq from options_trades order by seq")

    assert found == [(1.5, 3, 11), (1.5, 3, 12), (1.6, 1, 13)]  # the live rows, which have the sequence
    assert (result.counts.rows_out, result.counts.redelivered, result.counts.differing) == (3, 3, 0)


def test_fractional_prints_that_came_live_and_in_the_day_file_are_there_once(tmp_path):
    prints = [
        (1001, 0, "0.25", "0.250000", "a"),
        (1002, 1, "1.5", "1.500000", "b"),
        (1003, 100, "100", "100.000000", "c"),
    ]
    frames = [
        {"ev": "T", "sym": "SPY", "x": 4, "i": i, "z": 1, "p": 684.1, "s": s, "ds": text, "t": NOON_MS, "q": q}
        for q, s, text, _, i in prints
    ]
    lines = [f"SPY,37,0,4,{i},{NOON_NS},684.1,{q},{NOON_NS + 456789},{size},1,0,0" for q, _, _, size, i in prints]
    schema, rows = live("stocks", frames)
    lake = recorded(tmp_path, schema, rows, day_file(tmp_path, "day", STOCKS, lines))

    found, (result,) = both(tmp_path, lake, "select trade_id, size_decimal from stocks_trades order by 1")

    assert found == [("a", "0.25"), ("b", "1.5"), ("c", "100")]
    assert (result.counts.unproven, result.counts.differing) == (0, 0)  # a documented number joined them


def test_two_fractions_of_one_millisecond_without_an_id_stay_two(tmp_path):
    frames = [
        {"ev": "T", "sym": "SPY", "x": 4, "z": 1, "p": 684.1, "s": 0, "ds": text, "t": NOON_MS, "q": 0}
        for text in ("0.25", "0.5")
    ]
    lines = [f"SPY,37,0,4,,{NOON_NS},684.1,0,{NOON_NS + n},{size},1,0,0" for n, size in enumerate(("0.250000", "0.5"))]
    schema, rows = live("stocks", frames)
    lake = recorded(tmp_path, schema, rows, day_file(tmp_path, "day", STOCKS, lines))

    found, _ = both(tmp_path, lake, "select size_decimal from stocks_trades order by 1")

    assert found == [("0.25",), ("0.5",)]


def test_a_quote_whose_empty_side_is_left_out_live_and_zero_in_the_file_is_one(tmp_path):
    frames = [{"ev": "Q", "sym": "SPY", "bx": 4, "bp": 684.1, "bs": 3, "t": NOON_MS, "q": 7, "z": 1}]
    lines = [f"SPY,0,0.0,0,4,684.1,3,1,,{NOON_NS},7,{NOON_NS + 99},1,0"]
    schema, rows = live("stocks", frames)
    lake = recorded(tmp_path, schema, rows, day_file(tmp_path, "day", QUOTES, lines))

    found, _ = both(tmp_path, lake, "select count(*), any_value(ask_px) from stocks_quotes")

    assert found == [(1, None)]  # as it came live


# One row for each of some quotes of an option: its time, its sequence, and the sides as live, as a page has them and as
# a file writes them. An empty side is left out or 0.
OPTION_QUOTE_ROUTES = [
    (0, 7, {"bp": 1.5, "bs": 3, "ap": 1.55, "as": 9}, {}, ("1.550000", "9.000000", "1.500000", "3.000000")),
    (0, 8, {"bp": 1.5, "bs": 3, "ap": 1.55, "as": 9}, {}, ("1.55", "9", "1.5", "3")),  # the same sides again
    (1, 9, {"ap": 1.6, "as": 9}, {"bid_price": 0, "bid_size": 0}, ("1.6", "9", "", "")),
    (2, 10, {"bp": 1.5, "bs": 3, "ap": 0, "as": 0, "ax": 0}, {}, ("0", "0", "1.5", "3")),
    (3, 11, {"bp": 1.6, "bs": 3, "ap": 1.5, "as": 1}, {}, ("1.5", "1", "1.6", "3")),  # crossed
]
LONG_NAMES = {"bp": "bid_price", "bs": "bid_size", "ap": "ask_price", "as": "ask_size", "bx": "bid_exchange",
              "ax": "ask_exchange"}  # fmt: skip


def test_option_quotes_that_came_by_websocket_by_rest_and_in_the_day_file_are_there_once(tmp_path):
    option, frames, results, lines = "O:SPY251222C00680000", [], [], []
    for at, q, live_sides, page_sides, (ask, ask_size, bid, bid_size) in OPTION_QUOTE_ROUTES:
        venues = {f"{side}x": 300 + q for side in "ba" if f"{side}p" in live_sides}
        sides = venues | live_sides
        ns = NOON_NS + at * 1_000_000 + q * 1_000 + 456
        frames.append({"ev": "Q", "sym": option, **sides, "t": NOON_MS + at, "q": q})
        results.append({LONG_NAMES[key]: value for key, value in sides.items()} | page_sides)
        results[-1] |= {"sip_timestamp": ns, "sequence_number": q}
        venue = {side: sides.get(f"{side}x", 0) for side in "ba"}
        lines.append(f"{option},{venue['a']},{ask},{ask_size},{venue['b']},{bid},{bid_size},{q},{ns}")
    schema, websocket = live("options", frames)
    _, rest = rows_of(MassivePages(schema, option, "SPY"), {"results": results, "status": "OK"})
    lake = recorded(tmp_path, schema, websocket, rest, day_file(tmp_path, "day", OPTION_QUOTES, lines))

    query = "select seq, bid_px, ask_px, ask_exch, capture_id, sample_s from options_quotes order by seq"
    found, (result,) = both(tmp_path, lake, query)

    assert found == [  # as they came first
        (7, 1.5, 1.55, 307, 1, 0),
        (8, 1.5, 1.55, 308, 1, 0),
        (9, None, 1.6, 309, 1, 0),
        (10, 1.5, 0.0, 0, 1, 0),
        (11, 1.6, 1.5, 311, 1, 0),
    ]
    assert (result.counts.rows_in, result.counts.rows_out, result.counts.redelivered) == (15, 5, 10)


@pytest.mark.parametrize("code", [8, 10])
def test_a_print_that_the_day_file_cancels_is_left_out_of_the_one_table_and_stands_in_silver_as_it_came(tmp_path, code):
    frames = [
        {"ev": "T", "sym": "SPY", "x": 4, "i": i, "z": 1, "p": 684.1, "s": 100, "t": NOON_MS, "q": q}
        for q, i in enumerate("ab", 1)
    ]
    lines = [
        f"SPY,37,{correction},4,{i},{NOON_NS},684.1,{q},{NOON_NS},100,1,0,0"
        for q, (i, correction) in enumerate((("a", 0), ("b", code)), 1)
    ]
    schema, rows = live("stocks", frames)
    lake = recorded(tmp_path, schema, rows, day_file(tmp_path, "day", STOCKS, lines))

    found, _ = both(tmp_path, lake, "select trade_id, late_correction from stocks_trades")

    assert found == [("a", 0)]
    with connect(lake, tmp_path / "wal") as opened:
        tier = opened.execute(
            "select trade_id, correction, late_correction, ts_local_ns is null from silver_stocks_trades"
        )
        assert sorted(tier.fetchall()) == [("a", None, 0, False), ("b", None, code, False)]


def test_of_two_files_the_one_that_was_captured_later_is_kept_whatever_its_id(tmp_path):
    line = "SPY,37,{},4,a,{ns},{},1,{ns},100,1,0,0"
    first = day_file(tmp_path, "first", STOCKS, [line.format(0, 684.1, ns=NOON_NS)])
    second = day_file(tmp_path, "second", STOCKS, [line.format(1, 684.2, ns=NOON_NS)])
    for name, captures, price in (("a", (first, second), 684.2), ("b", (second, first), 684.1)):
        (tmp_path / name).mkdir()
        lake = recorded(tmp_path / name, events.STOCKS_TRADES, *captures)

        found, (result,) = both(tmp_path / name, lake, "select price from stocks_trades")

        assert found == [(price,)]
        assert (result.counts.differing, result.counts.unordered) == (1, 0)


def test_the_one_table_knows_which_file_is_the_later_while_the_log_alone_says_so(tmp_path):
    line = "SPY,37,{},4,a,{ns},{},1,{ns},100,1,0,0"
    old = day_file(tmp_path, "old", STOCKS, [line.format(0, 684.1, ns=NOON_NS)])
    corrected = day_file(tmp_path, "corrected", STOCKS, [line.format(1, 684.2, ns=NOON_NS)])
    lake = recorded(tmp_path, events.STOCKS_TRADES, old, corrected)
    begins = sorted((lake / "bronze" / "system").rglob("*.parquet"))
    rows = pa.concat_tables(pq.read_table(part, partitioning=None) for part in begins)
    for part in begins:
        part.unlink()
    (tmp_path / "wal").mkdir()
    header = Header.new(Stream("system.captures", "spymaster"), 1, NOON_NS)
    logged = rows.select(events.SYSTEM_CAPTURES.log.names).cast(events.SYSTEM_CAPTURES.log)
    (tmp_path / "wal" / "system_captures_spymaster.001.arrow").write_bytes(encode_segment(header, logged, None))

    with connect(lake, tmp_path / "wal") as opened:
        assert opened.execute("select price, late_correction from stocks_trades").fetchall() == [(684.2, 1)]


def test_the_one_table_counts_occurrences_of_a_source_in_nanoseconds_as_silver_does(tmp_path):
    two = numbered(events.STOCKS_TRADES, 2, symbol="SPY").to_pylist()
    two[1] = two[0] | {"ts_event_ns": two[0]["ts_event_ns"] + 1, "capture_seq": 1}  # in one millisecond
    rows = pa.Table.from_pylist([row | {"source": "api"} for row in two], schema=events.STOCKS_TRADES.log)
    flush(tmp_path, events.STOCKS_TRADES, rows, "SPY")
    reader = SilverReader(str(tmp_path / "lake"), wal_root=str(tmp_path / "wal")).arrow()

    before = reader.read_date("2025-12-22", "stocks.trades", columns=["event_id", "occurrence"])
    with compactor.lock(tmp_path / "lake"):
        compact(tmp_path / "lake", partitions(tmp_path / "lake", MARKET_SCHEMAS))

    assert before["occurrence"].to_pylist() == [1, 1]
    assert reader.read_date("2025-12-22", "stocks.trades", columns=["event_id", "occurrence"]).equals(before)


@pytest.mark.parametrize("engine", Engine)
def test_two_contracts_whose_rows_have_no_id_but_0_are_two(tmp_path, engine):
    (plain,) = numbered(events.FUTURES_TRADES, 1).to_pylist()
    for capture_id, contract in enumerate(("ESZ5", "ESH6"), 1):
        row = plain | {"source": "databento.glbx", "instrument_id": 0, "contract": contract, "capture_id": capture_id}
        flush(tmp_path, events.FUTURES_TRADES, pa.Table.from_pylist([row], schema=events.FUTURES_TRADES.log))

    with compactor.lock(tmp_path / "lake"):
        (result,) = compact(tmp_path / "lake", partitions(tmp_path / "lake", MARKET_SCHEMAS), engine=engine)

    assert result.counts.rows_out == 2


def test_equal_option_prints_of_two_live_deliveries_are_told_apart_by_their_sequence(tmp_path):
    option = "O:SPY251222C00680000"
    one, other = (
        live("options", [{"ev": "T", "sym": option, "x": 300, "p": 1.5, "s": 3, "t": NOON_MS, "q": q}])[1]
        for q in (11, 12)
    )
    lake = recorded(tmp_path, events.OPTIONS_TRADES, one, other)

    found, (result,) = both(tmp_path, lake, "select seq from options_trades order by 1")

    assert found == [(11,), (12,)]
    assert result.counts.redelivered == 0


@pytest.mark.parametrize(("source", "apart_ns", "occurrences"), [
    ("massive.stocks", 1, [1, 2]), ("databento.xnas", 1, [1, 1]), ("api", 0, [1, 2]),
])  # fmt: skip
def test_a_reader_counts_what_has_one_name_alike_before_and_after_a_compaction(tmp_path, source, apart_ns, occurrences):
    print_ = {"source": source, "symbol": "SPY", "price": 684.1, "size": 100, "ts_local_ns": NOON_NS}
    stamps = [{"ts_event_ns": NOON_NS + n * apart_ns, "ts_recv_ns": NOON_NS + n} for n in range(2)]
    blank = dict.fromkeys(events.STOCKS_TRADES.delivered.names)
    rows = pa.Table.from_pylist([blank | print_ | stamp for stamp in stamps], events.STOCKS_TRADES.delivered)
    lake = recorded(tmp_path, events.STOCKS_TRADES, rows)
    reader = SilverReader(lake, tmp_path / "wal").arrow()

    before = reader.read_date("2025-12-22", "stocks.trades")
    both(tmp_path, lake, "select count(*) from stocks_trades")
    after = reader.read_date("2025-12-22", "stocks.trades")

    assert before["occurrence"].to_pylist() == after["occurrence"].to_pylist() == occurrences
    assert before["event_id"].equals(after["event_id"])


# Time, price or time of reference, size, sequence: the third is given twice in one delivery and happened twice.
HAPPENED = [(0, 0, 1, 4), (0, 1, 1, 5), (2, 1, 1, 6), (2, 1, 1, 6), (5, 1, 2, 16), (9, 0, 1, 20)]


@pytest.mark.parametrize("kind", [venue_quote, statistic, trading_state])
def test_a_delivery_that_came_twice_or_in_overlapping_cuts_has_each_event_once_and_equal_ones_stay(tmp_path, kind):
    given = [kind((*event, 0), live=True) for event in HAPPENED]
    (schema,) = (own for own in MARKET_SCHEMAS if own.log.names == list(given[0]))
    rows = pa.Table.from_pylist(given, schema.delivered).combine_chunks()

    check_once_and_again(tmp_path / "cut", schema, rows)
    (tmp_path / "twice").mkdir()
    lake = recorded(tmp_path / "twice", schema, rows, rows)
    found, (result,) = both(
        tmp_path / "twice", lake, f"select ts_event_ns, capture_id from {schema.name.replace('.', '_')} order by all"
    )

    assert found == [(NOON_NS + at, 1) for at, *_ in HAPPENED]
    assert (result.counts.redelivered, result.counts.repeats, result.counts.differing) == (len(HAPPENED), 1, 0)


def standing(kind, day, event=(0, 0, 1, 4, 0)):
    """Return what stands, as a live delivery gives it that is subscribed that many days after."""
    row = kind(event, live=True)
    received = row["ts_event_ns"] + day * DAY_NS + 7
    return row | {"ts_recv_ns": received, "ts_local_ns": received + 3}


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("kind", [statistic, trading_state])
def test_what_stands_is_one_event_however_often_a_live_delivery_begins_with_it(tmp_path, kind, engine):
    schema = events.REFERENCE_STATISTICS if kind is statistic else events.REFERENCE_STATUS
    changed = standing(kind, 1, (5, 0, 2, 8, 0))
    deliveries = [[standing(kind, 0)], [standing(kind, 1), changed], [standing(kind, 2), changed], [changed]]
    lake = recorded(tmp_path, schema, *(pa.Table.from_pylist(rows, schema.delivered) for rows in deliveries))

    with compactor.lock(lake):
        (result,) = compact(lake, partitions(lake, MARKET_SCHEMAS), engine=engine)

    found = SilverReader(lake, tmp_path / "wal").arrow().read_date("2025-12-22", schema.name)
    kept = zip(found["ts_event_ns"].to_pylist(), found["capture_id"].to_pylist(), strict=True)
    assert [*kept] == [(NOON_NS, 1), (NOON_NS + 5, 2)]  # as each came first
    assert (result.counts.rows_in, result.counts.redelivered) == (6, 4)


def test_a_number_that_another_contract_has_the_next_day_joins_neither_quotes_nor_states_of_two_times(tmp_path):
    quotes = [venue_quote((0, 0, 1, 4, 0), live=False) | {"ts_recv_ns": NOON_NS + day * DAY_NS} for day in (0, 1)]
    states = [standing(trading_state, 0), standing(trading_state, 1, (1, 0, 1, 4, 0))]
    for schema, rows in ((events.OPTIONS_QUOTES, quotes), (events.REFERENCE_STATUS, states)):
        (tmp_path / schema.name).mkdir()
        lake = recorded(
            tmp_path / schema.name, schema, *(pa.Table.from_pylist([row], schema.delivered) for row in rows)
        )

        (result,) = compacted(lake)

        assert (result.counts.rows_out, result.counts.redelivered) == (2, 0)


def test_what_stood_the_day_before_changes_nothing_in_that_days_silver_when_it_is_given_again(tmp_path):
    schema, reader = events.REFERENCE_STATUS, SilverReader(tmp_path / "lake", tmp_path / "wal").arrow()
    lake = recorded(tmp_path, schema, pa.Table.from_pylist([standing(trading_state, 0)], schema.delivered))
    compacted(lake)
    before = reader.read_date("2025-12-22", schema.name)
    again = pa.Table.from_pylist([standing(trading_state, 1)], schema.delivered)
    flush(tmp_path, schema, as_capture(schema, again, 2), "ES", NOON_NS + DAY_NS)

    assert reader.read_date("2025-12-22", schema.name).equals(before)
    (result,) = compacted(lake)

    assert (result.status, result.counts.redelivered) == ("compacted", 1)
    assert reader.read_date("2025-12-22", schema.name).equals(before)


def test_an_option_quote_whose_empty_side_is_left_out_live_and_zero_in_the_file_is_one(tmp_path):
    schema = events.OPTIONS_QUOTES
    quote = blank(
        schema, source="massive.options", underlying="SPY", option_symbol="O:SPY251222C00680000", bid_px=1.5, bid_sz=3,
        bid_exch=300, seq=7, sample_s=0, ts_event_ns=NOON_NS, ts_recv_ns=NOON_NS + 9, ts_local_ns=NOON_NS + 9,
    )  # fmt: skip
    file = {"ts_event_ns": NOON_NS + 456_789, "ts_recv_ns": NOON_NS + 456_789, "ts_local_ns": None}
    zero = {"ask_px": 0.0, "ask_sz": 0, "ask_exch": 0}
    captures = (pa.Table.from_pylist([row], schema.delivered) for row in (quote, quote | file | zero))
    lake = recorded(tmp_path, schema, *captures)

    found, (result,) = both(tmp_path, lake, "select ask_px, ts_event_ns from options_quotes")

    assert found == [(None, NOON_NS)]  # as it came live
    assert (result.counts.redelivered, result.counts.differing) == (1, 0)

"""One event is one event whichever way it came: counted by keys of what every route gives, never by its name."""

import random
from collections import Counter

import pyarrow as pa
import pytest

from spymaster import events
from spymaster.events import MARKET_SCHEMAS, sameness
from spymaster.events.exactly_once import keep_once
from spymaster.events.sameness import keys_of, rule_of
from spymaster.normalize.massive.fields import FRAMES, RECORDS
from tests.compaction import silver_oracle
from tests.rows import NOON_NS

HISTORIES = 500  # of each kind; more of them with the seeds from there on
MS, DAY_NS = 1_000_000, 86_400 * 10**9


def table(schema, rows):
    columns = pa.schema([column.with_nullable(True) for column in schema.log])
    return pa.Table.from_pylist(rows, schema=columns)


def blank(schema, **values):
    return dict.fromkeys(column.name for column in schema.log) | values


def option_print(event, *, live):
    """Return an option print as the websocket gives it, or as the day file does, which has no sequence."""
    at, price, size, seq, cancelled = event
    stamp = NOON_NS + at
    return blank(
        events.OPTIONS_TRADES, ts_event_ns=stamp - stamp % MS if live else stamp, ts_recv_ns=stamp,
        ts_local_ns=stamp + 7 if live else None, source="massive.options", underlying="SPY",
        option_symbol="O:SPY251222C00680000", price=1.5 + price, size=size, exchange=300, seq=seq if live else None,
        correction=None if live else cancelled,
    )  # fmt: skip


def stock_print(event, *, live):
    """Return a stock print as the websocket gives it, its size rounded, or as the day file does."""
    at, price, size, seq, cancelled = event
    stamp = NOON_NS + at
    text = f"{size}.25" if size % 2 else None
    return blank(
        events.STOCKS_TRADES, ts_event_ns=stamp - stamp % MS if live else stamp, ts_recv_ns=stamp,
        ts_local_ns=stamp + 7 if live else None, source="massive.stocks", symbol="SPY", price=680.0 + price,
        size=size if live or not text else None, size_decimal=f"{text}0000" if text and live else text, exchange=4,
        trade_id=str(seq) if seq % 3 else None, seq=seq if seq % 3 else 0, correction=None if live else cancelled,
    )  # fmt: skip


def future_print(event, *, live):
    """Return a print of the venue's instrument 77, asked for by name live and by a continuous symbol in the file."""
    at, price, size, seq, _ = event
    stamp = NOON_NS + at
    return blank(
        events.FUTURES_TRADES, ts_event_ns=stamp, ts_recv_ns=stamp + 5, ts_local_ns=stamp + 9 if live else None,
        source="databento.glbx", symbol="ES", contract="ESZ5" if live else None, instrument_id=77, publisher_id=1,
        price=6900.0 + price, size=size, aggressor=1, seq=seq // 4,
    )  # fmt: skip


def option_quote(event, *, live):
    """Return an option's quote as the websocket gives it, which leaves out an empty side, or as the day file does."""
    at, price, size, seq, _ = event
    stamp = NOON_NS + at
    ask = {"ask_px": 1.6, "ask_sz": 4, "ask_exch": 302} if seq % 3 else {"ask_px": 0.0, "ask_sz": 0, "ask_exch": 0}
    if live and not seq % 3:
        ask = dict.fromkeys(ask)
    return blank(
        events.OPTIONS_QUOTES, ts_event_ns=stamp - stamp % MS if live else stamp, ts_recv_ns=stamp,
        ts_local_ns=stamp + 7 if live else None, source="massive.options", underlying="SPY",
        option_symbol="O:SPY251222C00680000", bid_px=1.5 + price, bid_sz=size, bid_exch=300, seq=seq // 4, sample_s=0,
        **ask,
    )  # fmt: skip


def venue_quote(event, *, live):
    """Return a change of an option's quote as a venue's packet gives it, or a sample of it; by name live alone."""
    at, price, size, seq, _ = event
    stamp = NOON_NS + at
    return blank(
        events.OPTIONS_QUOTES, ts_event_ns=stamp, ts_recv_ns=stamp + 5, ts_local_ns=stamp + 9 if live else None,
        source="databento.glbx", underlying="ES", option_symbol="ESZ5 C6900" if live else None, instrument_id=77,
        publisher_id=1, bid_px=20.0 + price, bid_sz=size, bid_ct=1, ask_px=21.0, ask_sz=2, ask_ct=2,
        sample_s=seq % 2, action="A", side="B", price=20.0 + price, size=size, seq=seq // 4,
    )  # fmt: skip


def statistic(event, *, live):
    """Return an open interest, which a live subscription of the next day gives again as it stands."""
    at, price, size, seq, _ = event
    stamp = NOON_NS + at
    return blank(
        events.REFERENCE_STATISTICS, ts_event_ns=stamp, ts_recv_ns=stamp + (DAY_NS if live else 5),
        ts_local_ns=stamp + DAY_NS if live else None, source="databento.glbx", symbol="ES",
        contract="ESZ5" if live else None, instrument_id=77, publisher_id=1, kind="open_interest", kind_code=9,
        quantity=1_000 + size, ref_ts_ns=NOON_NS + price, update_code=1, stat_flags=255, channel_id=0, seq=seq // 4,
    )  # fmt: skip


def trading_state(event, *, live):
    """Return a trading state, which a live subscription of the next day gives again as it stands."""
    at, price, size, _, _ = event
    stamp = NOON_NS + at
    return blank(
        events.REFERENCE_STATUS, ts_event_ns=stamp, ts_recv_ns=stamp + (DAY_NS if live else 5),
        ts_local_ns=stamp + DAY_NS if live else None, source="databento.glbx", symbol="ES",
        contract="ESZ5" if live else None, instrument_id=77, publisher_id=1, action="halt", action_code=8,
        reason_code=price, trading_event_code=size, is_trading=False,
    )  # fmt: skip


KINDS = {
    "options.trades": (events.OPTIONS_TRADES, option_print),
    "stocks.trades": (events.STOCKS_TRADES, stock_print),
    "futures.trades": (events.FUTURES_TRADES, future_print),
    "options.quotes": (events.OPTIONS_QUOTES, option_quote),
    "options.quotes of a venue": (events.OPTIONS_QUOTES, venue_quote),
    "reference.statistics": (events.REFERENCE_STATISTICS, statistic),
    "reference.status": (events.REFERENCE_STATUS, trading_state),
}


def history(chance, kind):
    """Return what really happened, and deliveries of it: live and files, cut, overlapping, again, reordered, late."""
    truth = sorted(
        (chance.randint(0, 3) * MS + chance.randint(0, 3), chance.randint(0, 1), chance.randint(1, 2))
        for _ in range(chance.randint(1, 12))
    )
    truth = [(*event, seq, chance.choice([0, 0, 8])) for seq, event in enumerate(truth, 1)]
    deliveries = []
    for capture_id in chance.sample(range(1, 100), chance.randint(1, 4)):
        live = chance.random() < 0.5
        begin, end = sorted((chance.randint(0, len(truth)), chance.randint(0, len(truth))))
        some = truth[begin:end] if chance.random() < 0.6 else [e for e in truth if chance.random() < 0.8]
        if chance.random() < 0.3:
            chance.shuffle(some)
        rows = [kind(event, live=live) for event in some]
        if live and kind is option_print and chance.random() < 0.3:
            for row in rows:
                row["seq"] = row["seq"] if chance.random() < 0.5 else None
        for number, row in enumerate(rows):
            row |= {"capture_id": capture_id, "capture_seq": number}
            if live:
                row["ts_local_ns"] += chance.randint(0, 3)
        deliveries.append((rows, some))
    begins = {
        own[0]["capture_id"]: chance.randint(0, 3) for own, _ in deliveries if own and own[0]["ts_local_ns"] is None
    }
    return truth, deliveries, begins


def group_of(schema, kind, event):
    """Return what an event has in common with those that some route cannot tell from it."""
    return silver_oracle.keys(schema, kind(event, live=False) | {"capture_id": 0, "capture_seq": 0})[0]


@pytest.mark.parametrize("name", KINDS)
def test_of_histories_of_mixed_routes_no_event_is_kept_twice_and_none_is_lost_that_some_delivery_holds_whole(name):
    schema, kind = KINDS[name]
    for seed in range(HISTORIES):
        chance = random.Random(seed)
        truth, deliveries, begins = history(chance, kind)
        rows = [row for own, _ in deliveries for row in own]
        chance.shuffle(rows)  # arrival changes nothing
        if not rows:
            continue
        columns = table(schema, rows)

        once = keep_once(schema, columns, keys_of(schema, columns), {}, begins)

        found = [rows[place] for place in once.kept.tolist()]
        expected = silver_oracle.once(schema, rows, begins)
        assert [(row["capture_id"], row["capture_seq"]) for row in found] == [
            (row["capture_id"], row["capture_seq"]) for row in expected
        ], seed
        if "correction" in schema.log.names:
            late = [None if place < 0 else rows[place]["correction"] for place in once.late.tolist()]
            assert late == [row["late_correction"] for row in expected], seed
        true = Counter(group_of(schema, kind, event) for event in truth)
        kept = Counter(silver_oracle.keys(schema, row)[0] for row in found)
        for group, count in true.items():
            assert kept[group] <= count, (seed, group)
            if any(Counter(group_of(schema, kind, event) for event in some)[group] == count for _, some in deliveries):
                assert kept[group] == count, (seed, group)
        assert set(once.kept.tolist()).isdisjoint(once.removed.tolist())
        assert set(once.kept_for.tolist()) <= set(once.kept.tolist())


@pytest.mark.parametrize("name", KINDS)
def test_another_delivery_never_lowers_the_count(name):
    schema, kind = KINDS[name]
    for seed in range(300):
        _, deliveries, begins = history(random.Random(seed), kind)
        before = 0
        rows = []
        for own, _ in deliveries:
            rows += own
            if rows:
                columns = table(schema, rows)
                kept = len(keep_once(schema, columns, keys_of(schema, columns), {}, begins).kept)
                assert kept >= before, seed
                before = kept


@pytest.mark.parametrize("schema", MARKET_SCHEMAS, ids=lambda schema: schema.name)
@pytest.mark.parametrize("source", ["sim", "massive.stocks", "massive.options", "databento.glbx", "databento.opra"])
def test_the_columns_of_a_rule_are_columns_and_a_number_stands_for_what_the_key_has(schema, source):
    rule = rule_of(schema, source)

    named = {*rule.instrument, *rule.key, *rule.richer, *rule.unique, *rule.content, *rule.zero}
    assert named <= {*schema.log.names}
    assert {*rule.content, *rule.zero, *rule.unique} <= {*rule.key, *rule.richer, *rule.instrument}
    assert not {*rule.key} & {*rule.richer}  # so that the poorer key is a subset of the richer
    assert named <= {*sameness.columns_of(schema)}


# What the vendor documents of its routes, beside the columns that our field tables read: the header of a day file, and
# what a route rounds. Times are compared to the millisecond, which all give.
DAY_FILES = {
    "stocks.trades": "ticker conditions correction exchange id participant_timestamp price sequence_number "
    "sip_timestamp size tape trf_id trf_timestamp",
    "stocks.quotes": "ticker ask_exchange ask_price ask_size bid_exchange bid_price bid_size conditions indicators "
    "participant_timestamp sequence_number sip_timestamp tape trf_timestamp",
    "options.trades": "ticker conditions correction exchange price sip_timestamp size",
    "options.quotes": "ticker ask_exchange ask_price ask_size bid_exchange bid_price bid_size sequence_number "
    "sip_timestamp",
}
# Of REST pages the results' fields; the ticker is the request's.
PAGES = {
    "stocks.trades": DAY_FILES["stocks.trades"] + " decimal_size",
    "stocks.quotes": DAY_FILES["stocks.quotes"],
    "options.trades": DAY_FILES["options.trades"] + " participant_timestamp sequence_number",
    "options.quotes": DAY_FILES["options.quotes"],
}
LIVE = {
    "stocks.trades": ("stocks", "T"),
    "stocks.quotes": ("stocks", "Q"),
    "options.trades": ("options", "T"),
    "options.quotes": ("options", "Q"),
}


def given(name):
    """Return of each route of Massive's whether it is live, and which columns it gives exactly."""
    cluster, kind = LIVE[name]
    live = {field.column for field in FRAMES[cluster][kind].fields.values()}
    rounded = {"size"} if name == "stocks.trades" and "size_decimal" not in live else set()
    by_name = RECORDS[name].fields
    file, page = ({by_name[field].column for field in route[name].split()} for route in (DAY_FILES, PAGES))
    return {"websocket": (True, live - rounded), "REST": (True, page), "day file": (False, file)}


@pytest.mark.parametrize("name", LIVE)
def test_each_column_of_a_key_is_given_exactly_by_every_route_that_the_key_serves(name):
    rule = rule_of(events.SCHEMAS[name], "massive.x")
    routes = given(name)

    for route, (_, columns) in routes.items():
        assert {*rule.instrument, *rule.key} <= columns, route
    richer = {route for route, (_, columns) in routes.items() if {*rule.richer} <= columns}
    assert richer, "some route has the richer key"
    poorer_is_live = any(live for route, (live, _) in routes.items() if route not in richer)
    assert not (poorer_is_live and any(not routes[route][0] for route in richer))  # else a file's row would be kept

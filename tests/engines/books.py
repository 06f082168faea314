"""Rows of MBP-10 for tests of the engines: written by hand, at random, and from real and simulated markets."""

import asyncio
import random
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from spymaster.engines.rows import NO_PRICE, BookRows
from spymaster.events import FUTURES_MBP10
from spymaster.feeds.dbn_files import DbnFileFeed
from spymaster.normalize.open import normalizer_of
from spymaster.simulation.source import SimulatedMarket, dbn_info
from tests.engines.plain_ledger import BOOK, PRINT, SNAPSHOT, Row
from tests.feeding import messages, opened

SNAP_NS = 250_000_000
OPEN_NS = 1_766_413_800_000_000_000  # 2025-12-22 14:30 UTC


def book(ts, bids, asks, kind=BOOK):
    return Row(ts, kind, bids=tuple(bids), asks=tuple(asks))


def printed(ts, side, price, size):
    return Row(ts, PRINT, side, price, size)


def ladder(touch, sizes, step):
    """Return levels of one tick each: `step` -1 for bids, 1 for asks."""
    return tuple((touch + step * level, size) for level, size in enumerate(sizes))


def even(ts, bid, size=50, spread=1, kind=BOOK):
    """Return a book of ten equal levels on each side."""
    return book(ts, ladder(bid, [size] * 10, -1), ladder(bid + spread, [size] * 10, 1), kind)


def columns(rows):
    """Return rows as the ledger takes them."""
    sides = [[row.bids for row in rows], [row.asks for row in rows]]
    px, sz = ([table(side, place) for side in sides] for place in (0, 1))
    prices = [NO_PRICE if row.price is None else row.price for row in rows]
    return BookRows(
        np.array([row.ts for row in rows], np.int64), np.array([row.kind for row in rows], np.int8),
        np.array([row.side for row in rows], np.int8), np.array(prices, np.int32),
        np.array([row.size for row in rows], np.int32), *px, *sz,
    )  # fmt: skip


def table(books, place):
    values = np.full((len(books), 10), (NO_PRICE, 0)[place], np.int32)
    for number, levels in enumerate(books):
        values[number, : len(levels)] = [level[place] for level in levels]
    return values


def listed(rows):
    """Return columns as rows: the way back."""
    sides = [zip(px.tolist(), sz.tolist(), strict=True)
             for px, sz in ((rows.bid_px, rows.bid_sz), (rows.ask_px, rows.ask_sz))]  # fmt: skip
    levels = [
        [tuple((p, s) for p, s in zip(px, sz, strict=True) if p != NO_PRICE) for px, sz in side] for side in sides
    ]
    singles = zip(*(column.tolist() for column in rows[:5]), *levels, strict=True)
    return [Row(ts, kind, side, None if price == NO_PRICE else price, size, bids, asks)
            for ts, kind, side, price, size, bids, asks in singles]  # fmt: skip


def mirrored(rows):
    """Return the market in which every price has the other sign and every side is the other."""
    turned = [tuple((-price, size) for price, size in levels) for row in rows for levels in (row.asks, row.bids)]
    return [
        row._replace(side=-row.side, price=None if row.price is None else -row.price, bids=bids, asks=asks)
        for row, bids, asks in zip(rows, turned[::2], turned[1::2], strict=True)
    ]


def batch(rows, tick=0.25, contract="ESZ5", first_seq=0):
    """Return rows as they come from the log, one capture, in this order."""
    letters = {1: "B", -1: "A", 0: "N"}
    values = {
        "ts_event_ns": [row.ts for row in rows],
        "ts_recv_ns": [row.ts for row in rows],
        "contract": [contract] * len(rows),
        "action": ["T" if row.kind == PRINT else "A" for row in rows],
        "side": [letters[row.side] for row in rows],
        "price": [None if row.price is None else row.price * tick for row in rows],
        "size": [row.size for row in rows],
        "flags": [{BOOK: 130, SNAPSHOT: 168}.get(row.kind, 0) for row in rows],
        "is_snapshot": [row.kind == SNAPSHOT for row in rows],
        "capture_id": [7] * len(rows),
        "capture_seq": list(range(first_seq, first_seq + len(rows))),
    }
    for side in ("bid", "ask"):
        for level in range(10):
            found = [levels[level] if level < len(levels) else None
                     for levels in (row.bids if side == "bid" else row.asks for row in rows)]  # fmt: skip
            values[f"{side}_px_{level + 1}"] = [None if one is None else one[0] * tick for one in found]
            values[f"{side}_sz_{level + 1}"] = [0 if one is None else one[1] for one in found]
    defaults = {"source": "sim", "symbol": "ES"}
    arrays = [pa.array(values.get(f.name, [defaults.get(f.name)] * len(rows)), f.type) for f in FUTURES_MBP10.log]
    return pa.RecordBatch.from_arrays(arrays, schema=FUTURES_MBP10.log)


def wild_market(seed, seconds=3, rate=200, oddities=True):
    """Return rows of a random market, in order: moving, gapped, one-sided, with several rows in an instant.

    With oddities also crossed books, books without a price, snapshots (some of an old time) and prints without a side.
    """
    rng = random.Random(seed)
    count = round(seconds * rate)
    gaps = [rng.choice((0, 1, rng.randrange(10**7), rng.randrange(2 * 10**9 // rate))) for _ in range(count)]
    times = [OPEN_NS + gap for gap in accumulate(gaps)]
    touch, rows = [rng.randrange(-40, 40), 0], []
    sides = None
    for ts in times:
        if sides is None or rng.random() < 0.1:
            touch[0] += rng.choice((-2, -1, -1, 0, 1, 1, 2))
            touch[1] = touch[0] + rng.choice((1, 1, 1, 2, 3))
            sides = [wild_side(rng, touch[side], step, least=not oddities) for side, step in ((0, -1), (1, 1))]
        chance = rng.random()
        side = rng.randrange(2)
        if chance < 0.25 and sides[side]:
            price, size = rng.choice(sides[side][:3])
            rows.append(
                printed(ts, (-1, 1)[side], price + rng.choice((0, 0, 0, 0, 1, -1, 12)), rng.randint(1, 2 * size))
            )
            if rng.random() < 0.3:
                continue
        if sides[side]:
            level = rng.randrange(len(sides[side]))
            price = sides[side][level][0]
            sides[side] = tuple((p, s if p != price else rng.randint(1, 90)) for p, s in sides[side])
        rows.append(book(ts, *sides, kind=rng.choice((BOOK, BOOK, BOOK, BOOK, 0))))
        if oddities and rng.random() < 0.06:
            rows.append(odd_row(rng, ts, touch, sides))
    return sorted(rows, key=lambda row: row.ts)


def wild_side(rng, touch, step, least):
    count = max(rng.choice((10, 10, 10, 10, 9, 4, 1, 0)), least)
    places = accumulate((rng.choice((1, 1, 1, 2, 7)) for _ in range(count)), initial=0)
    return tuple((touch + step * place, rng.randint(1, 90)) for place, _ in zip(places, range(count), strict=False))


def odd_row(rng, ts, touch, sides):
    kind = rng.choice((BOOK, SNAPSHOT))
    match rng.randrange(5):
        case 0:
            return even(ts, touch[0], spread=rng.choice((0, -3)), kind=kind)
        case 1:
            return Row(ts, kind)
        case 2:
            return even(ts - rng.choice((0, 0, 10**6, 10**15)), touch[0], kind=SNAPSHOT)
        case 3:
            return book(ts, sides[0], sides[1][::-1], kind)
        case _:
            return printed(ts, 0, touch[0], 44)


def simulated(seconds, rate, plant=(), seed=3):
    """Return batches of a simulated market as they stand in the log, and the front month's symbol."""
    market = SimulatedMarket(seed, rate, OPEN_NS, plant)
    info = dbn_info(market)
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=info.simulated)
    return in_the_log(normalizer, market.blocks(), OPEN_NS + round(seconds * 10**9))


def in_the_log(normalizer, blocks, until_ns):
    batches, seq = [], 0
    for block in blocks:
        for schema, found in normalizer.normalize([(block, OPEN_NS)]).batches:
            if schema is FUTURES_MBP10:
                keys = [pa.array(np.full(found.num_rows, 7)), pa.array(np.arange(seq, seq + found.num_rows))]
                batches.append(pa.RecordBatch.from_arrays([*found.columns, *keys], schema=FUTURES_MBP10.log))
                seq += found.num_rows
        if batches and batches[-1].column("ts_event_ns")[-1].as_py() >= until_ns:
            break
    named = pa.Table.from_batches(batches).column("contract").value_counts().to_pylist()
    return batches, max(named, key=lambda one: one["counts"])["values"]


def real_books(path: Path):
    """Return batches of a DBN file as they stand in the log, and its commonest symbol."""
    (delivery,) = opened(DbnFileFeed(str(path)))

    async def read():
        return [message.data async for message in messages(delivery)]

    return in_the_log(normalizer_of(delivery.info.encoding, origin=str(path)), asyncio.run(read()), 2**62)


def by_snap(rows):
    """Yield snaps and the rows that each works, in order, of rows as they arrive."""
    clock, waiting = None, []
    for row in rows:
        number = -(-row.ts // SNAP_NS)
        if row.kind != SNAPSHOT and clock is not None and number > clock:
            yield clock * SNAP_NS, sorted(waiting, key=lambda row: row.ts)
            waiting = []
        waiting.append(row)
        if row.kind != SNAPSHOT:
            clock = number if clock is None else max(number, clock)
    if waiting:
        yield clock * SNAP_NS, sorted(waiting, key=lambda row: row.ts)

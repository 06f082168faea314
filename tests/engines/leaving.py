"""Batches of all streams of a market in the order in which they leave the bus, and what a judge makes of them."""

import asyncio
import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from spymaster.engines.intake import Intake
from spymaster.engines.judge import Judge
from spymaster.engines.option_rows import SCHEMAS
from spymaster.engines.profile import profile_named
from spymaster.engines.session import Session
from spymaster.events import (
    FUTURES_MBP10,
    FUTURES_TRADES,
    REFERENCE_STATUS,
    STOCKS_QUOTES,
    STOCKS_TRADES,
    Stream,
)
from spymaster.events.encoding import MassiveFrames
from spymaster.feeds.dbn_files import DbnFileFeed
from spymaster.normalize.open import normalizer_of
from spymaster.simulation.deliveries import DbnWriter, StockWriter
from spymaster.simulation.source import SimulatedMarket, dbn_info
from tests.engines.books import OPEN_NS
from tests.feeding import messages, opened

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
COMMIT_NS = 20_000_000
BOOKS, TRADES, STATUS = (Stream(schema.name, "ES") for schema in (FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS))
OPTIONS = tuple(Stream(schema.name, "ES") for schema in SCHEMAS)
QUOTES, STOCK = (Stream(schema.name, "SPY") for schema in (STOCKS_QUOTES, STOCKS_TRADES))
FRONT = "ESH6"
SESSION = Session("2025-12-22", OPEN_NS, OPEN_NS + 6 * HOUR, OPEN_NS, OPEN_NS + 6 * HOUR)


@cache
def simulated_streams(seconds, rate, plant=(), seed=3):
    """Return (stream, batch) of a simulated market."""
    market = SimulatedMarket(seed, rate, OPEN_NS, plant)
    info = dbn_info(market)
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=True)
    return numbered(normalizer, market.blocks(), OPEN_NS + seconds * SECOND, capture=7)


@cache
def simulated_with_spy(seconds, rate, plant=(), seed=3):
    """Return (stream, batch) of ES and SPY in one simulated market, as they leave."""
    market, until_ns = SimulatedMarket(seed, rate, OPEN_NS, plant), OPEN_NS + seconds * SECOND
    futures, stock = [], []
    writers = (DbnWriter(seed), futures), (StockWriter(), stock)
    for step in market.session(with_spy=True).steps():
        for writer, sent in writers:
            sent.extend(message for messages in writer.write(step) for message in messages)
        if step.end >= until_ns:
            break
    streams = [
        (dbn_info(market).encoding, futures, 7, OPEN_NS),
        (MassiveFrames("stocks", "SPY"), stock, 9, None),
    ]
    found = [
        one
        for encoding, messages, capture, local_ns in streams
        for one in numbered(
            normalizer_of(encoding, origin="sim", simulated=True), messages, until_ns, capture, local_ns
        )
    ]
    return tuple(sorted(found, key=lambda one: one[1].column("ts_recv_ns")[-1].as_py()))


def numbered(normalizer, blocks, until_ns, capture, local_ns=OPEN_NS):
    """Return what a normalizer makes of blocks, numbered, a batch for each stream and 20 ms."""
    seqs, found, waiting = {}, [], {}
    for block in blocks:
        for schema, part in normalizer.normalize([(block, local_ns)]).batches:
            stream = Stream(schema.name, "SPY" if schema.name.startswith("stocks.") else "ES")
            if stream not in (BOOKS, TRADES, STATUS, QUOTES, STOCK, *OPTIONS):
                continue
            seq = seqs.get(stream, 0)
            seqs[stream] = seq + part.num_rows
            keys = pa.array(np.full(part.num_rows, capture)), pa.array(np.arange(seq, seq + part.num_rows))
            rows = pa.RecordBatch.from_arrays([*part.columns, *keys], schema=schema.log)
            begins = rows.column("ts_recv_ns").to_numpy() // COMMIT_NS
            cuts = [0, *(np.flatnonzero(np.diff(begins)) + 1).tolist(), part.num_rows]
            for begin, end in itertools.pairwise(cuts):
                waiting.setdefault((int(begins[begin]), stream), []).append(rows.slice(begin, end - begin))
        if waiting and max(waiting)[0] * COMMIT_NS >= until_ns:
            break
    for (_, stream), parts in sorted(waiting.items()):
        (whole,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
        found.append((stream, whole))
    return tuple(found)


def real_stream(path: Path, capture):
    """Return (stream, batch) of a DBN file."""
    (delivery,) = opened(DbnFileFeed(str(path)))

    async def read():
        return [message.data async for message in messages(delivery)]

    return numbered(normalizer_of(delivery.info.encoding, origin=str(path)), asyncio.run(read()), 2**62, capture)


def judge(sessions=(SESSION,), contract=FRONT, profile="SIM", **more):
    return Judge(profile_named(profile), sessions, contract, **more)


def judged(batches, by=None):
    """Return the snaps of rows as they leave."""
    by = by or judge()
    return [snap for stream, part in batches for snap in by.take(stream, part)]


def same(one, other):
    """Whether two snaps are equal in every bit."""
    levels = one.levels.equals(other.levels)
    return levels and _bits(one._replace(levels=None)) == _bits(other._replace(levels=None))


def _bits(value):
    """Return a value whose arrays are bytes, so that equal is equal in every bit."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    return tuple(_bits(each) for each in value) if isinstance(value, tuple) else value


def sliced(batches, rng):
    """Cut each batch at random, also into nothing."""
    for stream, part in batches:
        cuts = np.sort(rng.integers(0, part.num_rows + 1, rng.integers(0, 3))).tolist()
        for begin, end in zip([0, *cuts], [*cuts, part.num_rows], strict=True):
            yield stream, part.slice(begin, end - begin)


def up_to(batches, rows):
    """Return as much as has that many rows."""
    for stream, part in batches:
        if rows <= 0:
            return
        yield stream, part.slice(0, rows)
        rows -= part.num_rows


def pieces_of(batches, stock=None):
    """Yield (snap, what left before it and after the snap before)."""
    intake, left = Intake("ES", stock), []
    for stream, part in batches:
        begin = 0
        for at, snap_ns in intake._due(stream, part) if intake.wants(stream) else ():
            left.append((stream, part.slice(begin, at - begin)))
            yield snap_ns, left
            left, begin = [], at
            intake.snap(snap_ns)
        left.append((stream, part.slice(begin)))

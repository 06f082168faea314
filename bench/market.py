"""Rows and files for the benchmarks, from the simulated market: real books, not constants."""

import datetime
from pathlib import Path
from types import SimpleNamespace

import databento_dbn as dbn
import numpy as np
import pyarrow as pa

from spymaster.events import EventSchema
from spymaster.normalize.open import normalizer_of
from spymaster.simulation.source import SimFeed, SimulatedMarket

START_NS = 1_766_413_800_000_000_000  # 2025-12-22 14:30 UTC, the open in New York
SEED, RATE = 1, 20_000
BOOK_BYTES, BOOK_RTYPE = 368, 10


def delivered(schema: EventSchema, rows: int) -> pa.Table:
    """Return `rows` simulated rows of one schema, as a normalizer makes them, repeated where they run out."""
    delivery = next(SimFeed(SEED, RATE, START_NS).deliveries())
    info = delivery.info
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=info.simulated)
    batches: list[pa.RecordBatch] = []
    count = 0
    for block in SimulatedMarket(SEED, RATE, START_NS).blocks():
        for kind, batch in normalizer.normalize([(block, START_NS)]).batches:
            if kind is schema:
                batches.append(batch)
                count += batch.num_rows
        if count >= min(rows, 100_000):
            break
    table = pa.Table.from_batches(batches).combine_chunks()
    return pa.concat_tables([table] * -(-rows // table.num_rows)).slice(0, rows).combine_chunks()


def write_books(path: Path, records: int) -> None:
    """Write a genuine DBN file of `records` MBP-10 records."""
    books, names = [], {}
    count = 0
    for block in SimulatedMarket(SEED, RATE, START_NS).blocks():
        at = 0
        own = bytearray()
        while at < len(block):
            size = block[at] * 4
            if block[at + 1] == BOOK_RTYPE:
                own += block[at : at + size]
            elif block[at + 1] == 22:
                names[int.from_bytes(block[at + 4 : at + 8], "little")] = (
                    block[at + 89 : at + 160].split(b"\0")[0].decode()
                )
            at += size
        books.append(bytes(own))
        count += len(own) // BOOK_BYTES
        if count >= records:
            break
    day = datetime.datetime.fromtimestamp(START_NS // 10**9, datetime.UTC).date()
    mappings = [
        SimpleNamespace(
            raw_symbol=name,
            intervals=[SimpleNamespace(start_date=day, end_date=day + datetime.timedelta(days=1), symbol=str(number))],
        )
        for number, name in names.items()
    ]
    header = dbn.Metadata(
        dataset="GLBX.MDP3", start=START_NS, end=START_NS + 1, stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID, schema=dbn.Schema.MBP_10, symbols=list(names.values()), partial=[],
        not_found=[], mappings=mappings,
    )  # fmt: skip
    data = np.frombuffer(b"".join(books), dtype=np.uint8)[: records * BOOK_BYTES]
    path.write_bytes(bytes(header.encode()) + data.tobytes())

"""The simulator's tapes as rows of the front month's book, without the bytes between: what truth is measured on.

That they are the rows which the normalizer makes of the same market is tested in `test_truth.py`.
"""

import numpy as np
import pyarrow as pa

from spymaster.engines.rows import BOOK, NO_PRICE, OTHER, PRINT, BookRows
from spymaster.events import FUTURES_MBP10
from spymaster.simulation.book import LEVEL
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.held import ASK as SIM_ASK

TICK = 0.25


def rows_of(tape):
    """Return the rows of a tape's front month in the order in which they are sent."""
    mine = np.flatnonzero((tape.instrument == 0) & ~tape.print_only)
    traded = np.flatnonzero(tape.traded[mine] > 0)
    event = np.concatenate([mine[traded], mine])
    is_print = np.arange(len(event)) < len(traded)
    # Of an instant the prints come first, then the books.
    instant = np.cumsum(tape.last[mine]) - tape.last[mine]
    order = np.lexsort((event, ~is_print, np.concatenate([instant[traded], instant])))
    event, is_print = event[order], is_print[order]
    levels = tape.levels[np.where(is_print, tape.before[event], tape.after[event])].view(LEVEL)
    none = levels["bid_sz"] == 0, levels["ask_sz"] == 0
    bid_px, ask_px = (
        np.where(empty, NO_PRICE, levels[name] // OUTRIGHT_TICK_E9).astype(np.int32)
        for name, empty in zip(("bid_px", "ask_px"), none, strict=True)
    )
    return BookRows(
        tape.arrival_ns[event] - tape.late_ns[event],
        np.where(is_print, PRINT, np.where(tape.last[event], BOOK, OTHER)).astype(np.int8),
        (np.where(tape.side[event] == SIM_ASK, 1, -1) * is_print).astype(np.int8),
        (tape.price_e9[event] // OUTRIGHT_TICK_E9).astype(np.int32),
        np.where(is_print, tape.traded[event], tape.size[event]).astype(np.int32),
        bid_px, ask_px, levels["bid_sz"].astype(np.int32), levels["ask_sz"].astype(np.int32),
    )  # fmt: skip


def joined(pieces):
    """Return pieces of rows as one."""
    return BookRows(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))


def batch_of(rows, contract, first_seq=0):
    """Return rows as they leave the bus: what the engines read of them, in quarters of a point."""
    count, levels = len(rows.ts_ns), range(10)
    columns = {
        "contract": pa.array([contract] * count),
        "action": pa.array(np.where(rows.kind == PRINT, "T", "A")),
        "side": pa.array(np.select([rows.side > 0, rows.side < 0], ["B", "A"], "N")),
        "ts_event_ns": pa.array(rows.ts_ns),
        "ts_recv_ns": pa.array(rows.ts_ns),
        "flags": pa.array(np.where(rows.kind == BOOK, 128, 0).astype(np.uint8)),
        "is_snapshot": pa.array(np.zeros(count, np.bool_)),
        "capture_id": pa.array(np.full(count, 7)),
        "capture_seq": pa.array(np.arange(first_seq, first_seq + count)),
        "price": _prices(rows.price),
        "size": pa.array(rows.size),
    }
    for side in ("bid", "ask"):
        prices, sizes = getattr(rows, f"{side}_px"), getattr(rows, f"{side}_sz")
        columns |= {f"{side}_px_{level + 1}": _prices(prices[:, level]) for level in levels}
        columns |= {f"{side}_sz_{level + 1}": pa.array(np.ascontiguousarray(sizes[:, level])) for level in levels}
    fields = [FUTURES_MBP10.log.field(name) for name in columns]
    arrays = [column.cast(field.type) for column, field in zip(columns.values(), fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _prices(ticks):
    return pa.array(ticks * TICK, mask=ticks == NO_PRICE)

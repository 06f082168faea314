"""The simulator's tapes as rows of the front month's book, without the bytes between: what truth is measured on.

That they are the rows which the normalizer makes of the same market is tested in `test_truth.py`.
"""

import numpy as np

from spymaster.engines.rows import BOOK, NO_PRICE, OTHER, PRINT, BookRows
from spymaster.simulation.book import LEVEL
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.held import ASK as SIM_ASK


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

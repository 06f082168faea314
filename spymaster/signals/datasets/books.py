"""The last whole book of each second, of Silver's rows in their order.

Whole is what the engines take for a book (`engines/rows.py`): the last row of its event, no print and no snapshot, with
both sides and the bid below the ask. A second in which none came is no row: what stood before still stands, unless a
gap lies between, which `system_gaps` tells and a repeated row would hide.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.rows import LAST_OF_EVENT, values_of
from spymaster.lake.datasets import BOOK_1S

_OWN: Final = tuple(column for column in BOOK_1S.columns if column.name not in BOOK_1S.keys)
_MADE: Final = ("second_ns",)
NONE: Final = pa.schema(_OWN).empty_table()
COLUMNS: Final = (  # of Silver, that are read
    *(column.name for column in _OWN if column.name not in _MADE), "flags", "action", "is_snapshot",
)  # fmt: skip


def last_books(rows: pa.Table, contract: str) -> pa.Table:
    """Return the last whole book of each second: the columns of `BOOK_1S` but its keys.

    Args:
        rows: `COLUMNS` of `futures.mbp10`, in Silver's order.
        contract: whose book.
    """
    rows = rows.filter(pc.and_(pc.equal(rows["contract"], pa.scalar(contract)), pa.array(_whole(rows))))
    second_ns = rows["ts_event_ns"].to_numpy() // NS_PER_SECOND * NS_PER_SECOND
    rows = rows.append_column("second_ns", pa.array(second_ns))
    return latest(pa.table([rows[column.name] for column in _OWN], schema=pa.schema(_OWN)))


def latest(books: pa.Table) -> pa.Table:
    """Return the last row of each second, of rows in order."""
    second_ns = books["second_ns"].to_numpy()
    return books.filter(pa.array(np.diff(second_ns, append=second_ns[-1:] + 1) != 0))


def _whole(rows: pa.Table) -> NDArray[np.bool_]:
    last = (values_of(rows["flags"].combine_chunks()) & LAST_OF_EVENT) != 0
    printed: Any = pc.equal(rows["action"], pa.scalar("T"))
    bid, ask = (rows[name].to_numpy() for name in ("bid_px_1", "ask_px_1"))  # a side that is not there is NaN
    sound = ~printed.fill_null(False).to_numpy() & ~rows["is_snapshot"].to_numpy()
    whole: NDArray[np.bool_] = last & sound & (bid < ask)
    return whole

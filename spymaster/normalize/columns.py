"""Arrow columns of values that repeat: what many rows share is made once. Pure."""

from typing import Any

import numpy as np
import pyarrow as pa

Columns = dict[str, pa.Array]


def repeat_text(value: str, rows: int) -> pa.Array:
    """Return one text for every row. (From its buffers, as `take` needs ten times as long.)"""
    raw = value.encode()
    offsets: Any = np.arange(rows + 1, dtype=np.int32) * np.int32(len(raw))
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(raw * rows))

"""What Bronze holds, read without our code."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def stored(data_root: Path, schema: str) -> list[dict[str, Any]]:
    """Return the rows of a schema, ordered by their time and number."""
    parts = data_root.joinpath("bronze", *schema.split(".")).rglob("part-*.parquet")
    tables = [pq.read_table(part, partitioning=None) for part in parts]
    if not tables:
        return []
    return pa.concat_tables(tables).sort_by([("ts_event_ns", "ascending"), ("capture_seq", "ascending")]).to_pylist()

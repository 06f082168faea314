"""Silver made of what Bronze has, and files that only say of what they are made, for tests that read no row of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster.compaction.compactor import Compacted, compact, lock, partitions
from spymaster.events import MARKET_SCHEMAS, SCHEMAS
from spymaster.lake import layout, silver


def compacted(data_root: Path) -> list[Compacted]:
    """Compact all that there is."""
    with lock(data_root):
        return compact(data_root, partitions(data_root, MARKET_SCHEMAS))


def pretend_compacted(data_root: Path) -> None:
    """Leave an empty Silver file for each partition of market data, made of the parts that are there."""
    for partition in set(layout.find_parts(data_root).parts.values()):
        if not partition.schema.startswith("system."):
            target = silver.file_of(data_root, partition)
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = silver.inputs_digest(SCHEMAS[partition.schema], silver.bronze_parts(data_root, partition))
            footer = {"spymaster_parts": digest, "spymaster_inputs": digest, "spymaster_counts": "0,0,0,0,0,0"}
            pq.write_table(pa.table({}).replace_schema_metadata(footer), target)

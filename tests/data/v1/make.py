"""Makes a sample: three rows of each schema in version 1, in the log, in Bronze and in Silver, and what they are.

Run once from the repository's root, `python -m tests.data.v1.make NAME SCHEMA...`, by the code that first had version 1
of them: `v1` has those that came first, and whoever declares another adds a sample of it.
"""

import json
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa

from spymaster import events
from spymaster.compaction.compactor import compact, partitions
from spymaster.events import Stream
from spymaster.lake.bronze import flush_segment
from spymaster.query.lake import Lake
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import NOON_NS, numbered

ROWS = 3


def with_lists(rows: pa.Table) -> pa.Table:
    """Return rows whose lists have values."""
    columns = [
        pa.array([[1, 2], [], None], column.type) if pa.types.is_list(column.type) else column
        for column in rows.columns
    ]
    return pa.table(columns, schema=rows.schema)


def main(folder: Path, target: Path, names: list[str]) -> None:
    every = [events.schema_named(name) for name in names]
    wal, lake = folder / "wal", folder / "lake"
    wal.mkdir()
    for number, schema in enumerate(every):
        rows = with_lists(numbered(schema, ROWS, capture_id=number + 1, symbol="SPY"))
        file = wal / f"{schema.name.replace('.', '_')}_SPY.001.arrow"
        file.write_bytes(encode_segment(Header.new(Stream(schema.name, "SPY"), 1, NOON_NS), rows, None))
        flush_segment(lake / "bronze", read_sealed(file), again=False)
    compact(lake, partitions(lake, [schema for schema in every if schema.kind == "market"]))
    with Lake(lake, folder / "none") as tables:
        bronze, silver = (
            {
                schema.name: tables.sql(f"from {tier}_{schema.name.replace('.', '_')}").to_arrow_table().to_pylist()
                for schema in schemas
            }
            for tier, schemas in (
                ("bronze", every),
                ("silver", [schema for schema in every if schema.kind == "market"]),
            )
        )
    (folder / "rows.json").write_text(json.dumps({"bronze": bronze, "silver": silver}, default=str))
    with tarfile.open(target, "w:xz") as archive:
        for name in ("lake", "wal", "rows.json"):
            archive.add(folder / name, name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made), Path(__file__).with_name(f"{sys.argv[1]}.tar.xz"), sys.argv[2:])

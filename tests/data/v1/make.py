"""Makes an archive: three rows of some schemas in version 1, in the log, in Bronze and in Silver, and what they are.

Run once for each archive from the repository's root, by the code that first had version 1 of its schemas:
`python -m tests.data.v1.make v1`, and where schemas came later a name of their own and theirs. An archive that is there
is never made again.
"""

import json
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa

from spymaster import events
from spymaster.compaction.compactor import compact, partitions
from spymaster.events import EventSchema, Stream
from spymaster.lake.bronze import flush_segment
from spymaster.query.lake import Lake
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import NOON_NS, numbered

ROWS = 3
HERE = Path(__file__).parent


def with_lists(rows: pa.Table) -> pa.Table:
    """Return rows whose lists have values."""
    columns = [
        pa.array([[1, 2], [], None], column.type) if pa.types.is_list(column.type) else column
        for column in rows.columns
    ]
    return pa.table(columns, schema=rows.schema)


def main(folder: Path, target: Path, schemas: list[EventSchema]) -> None:
    wal, lake = folder / "wal", folder / "lake"
    wal.mkdir()
    for number, schema in enumerate(schemas):
        rows = with_lists(numbered(schema, ROWS, capture_id=number + 1, symbol="SPY"))
        file = wal / f"{schema.name.replace('.', '_')}_SPY.001.arrow"
        file.write_bytes(encode_segment(Header.new(Stream(schema.name, "SPY"), 1, NOON_NS), rows, None))
        flush_segment(lake / "bronze", read_sealed(file), again=False)
    compact(lake, partitions(lake, events.MARKET_SCHEMAS))
    with Lake(lake, folder / "none") as tables:
        bronze, silver = (
            {
                schema.name: tables.sql(f"from {tier}_{schema.name.replace('.', '_')}").to_arrow_table().to_pylist()
                for schema in schemas
                if tier == "bronze" or schema.kind == "market"
            }
            for tier in ("bronze", "silver")
        )
    (folder / "rows.json").write_text(json.dumps({"bronze": bronze, "silver": silver}, default=str))
    with tarfile.open(target, "x:xz") as archive:
        for name in ("lake", "wal", "rows.json"):
            archive.add(folder / name, name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        _, archive_name, *names = sys.argv
        wanted = [schema for schema in events.SCHEMAS.values() if not names or schema.name in names]
        main(Path(made), HERE / f"{archive_name}.tar.xz", wanted)

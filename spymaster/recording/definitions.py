"""What the lake says of instruments that a delivery's header does not name by their contracts.

The normalizer gets it as a value, before its first row. So which contract a row of such a file has depends on which
definitions were in Bronze when it was recorded; its id, its number and its root do not.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster.clock import utc_text
from spymaster.errors import LayoutError, SourceError
from spymaster.events import REFERENCE_INSTRUMENTS
from spymaster.events.encoding import Dbn, Encoding
from spymaster.lake import layout, silver
from spymaster.lake.layout import Within
from spymaster.normalize.databento.datasets import wanted
from spymaster.normalize.databento.instruments import DEFINITION_COLUMNS


def definitions_for(data_root: Path, encoding: Encoding, origin: str) -> pa.Table | None:
    """Return the definitions and mappings in Bronze of the ids and UTC dates that a header leaves unnamed.

    Memory: what is found, a row for each id, day and time it was said.

    Args:
        data_root: the lake.
        encoding: of the delivery.
        origin: the delivery as a user would name it.

    Returns:
        Columns `DEFINITION_COLUMNS`, by `ts_recv_ns`; None where nothing is wanted.

    Raises:
        SourceError: the header cannot be read, or the lake's definitions.
    """
    want = wanted(encoding, origin) if isinstance(encoding, Dbn) else None
    if want is None:
        return None
    ids, begin_ns, end_ns = want.unnamed
    # Parts lie by the time of the venue, which in a definition may be days before the date that it was sent for.
    within = Within(last=f"{utc_text(end_ns - 1)[:10]}T23")
    received = pc.field("ts_recv_ns")
    rows = (
        (received >= begin_ns)
        & (received <= end_ns - 1)
        & (pc.field("source") == want.source)
        & pc.field("instrument_id").isin(sorted(ids))
        & pc.field("contract").is_valid()
    )
    columns = pa.schema([REFERENCE_INSTRUMENTS.bronze.field(name) for name in DEFINITION_COLUMNS])
    found = [columns.empty_table()]
    try:
        for partition in layout.partitions(data_root, REFERENCE_INSTRUMENTS, within):
            for part in silver.bronze_parts(data_root, partition):
                found.append(
                    pq.read_table(
                        part, columns=columns.names, filters=rows, partitioning=None, page_checksum_verification=True
                    ).cast(columns)
                )
    except (LayoutError, pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{origin} asks for ids that definitions in the lake may name, and these cannot be read ({error}). Nothing "
            f"was recorded from it. Next: spymaster verify"
        ) from error
    return pa.concat_tables(found).sort_by("ts_recv_ns")

"""What a Silver file is, where it lies, and which Bronze parts it was made of.

One file per partition, published by one rename, the same bytes for the same Bronze. Its footer names its inputs by a
digest of their names: a part never changes and its name is never used again, so a listing tells whether a partition
is as it was when it was compacted.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import events
from spymaster.errors import LayoutError
from spymaster.events import EventSchema
from spymaster.lake import archive, layout, parquet
from spymaster.lake.layout import Tier
from spymaster.paths import Partition

SILVER_VERSION: Final = "5"  # grows when the same inputs make another file; then partitions are compacted again

# What an option trade of Silver may know, for whoever makes it and whoever proves it.
TOLERANCE_NS: Final = 10_000_000_000
DAYS_BEFORE: Final = 7  # how long a snapshot may have been the vendor's latest when it is fetched, weekend included
MULTIPLIERS: Final = {"SPY": 100, "ES": 50}  # units a contract stands for, where the snapshot does not say

EVENT_ID: Final = pa.field("event_id", pa.binary(16), nullable=False, metadata={"meaning": "MD5 of the identity"})
OCCURRENCE: Final = pa.field(
    "occurrence", pa.int32(), nullable=False,
    metadata={"meaning": "which of the events with this event_id, from 1; (event_id, occurrence) is unique"},
)  # fmt: skip
ENRICHMENT: Final = (
    pa.field("greeks_snapshot_id", pa.string(), metadata={"meaning": "the latest snapshot received by then; or null"}),
    pa.field("greeks_age_ns", pa.int64(), metadata={"meaning": "how long before the trade it was received"}),
    pa.field("delta", pa.float64(), metadata={"meaning": "the option's, per $1 of the underlying"}),
    pa.field("gamma", pa.float64(), metadata={"meaning": "the option's, per $1 of the underlying"}),
    pa.field("delta_notional", pa.float64(), metadata={"meaning": "delta * size * multiplier"}),
    pa.field("gamma_notional", pa.float64(), metadata={"meaning": "gamma * size * multiplier"}),
)


# What the file captured last says of an event, beside the row that is kept: a live print does not know of its end.
LATE: Final = (
    pa.field(
        "late_correction", pa.int16(), metadata={"meaning": "the correction code in the last captured file; or null"}
    ),
    pa.field("late_conditions", pa.list_(pa.int16()), metadata={"meaning": "the conditions in that file; or null"}),
)

# Codes of the tapes: marked erroneous, cancelled, and the records that follow such a print or a corrected one, which
# repeat what was wrong. Code 1 is a print whose record was corrected in place. Source: NYSE, TAQ client specification.
CANCELLED: Final = (7, 8, 10, 11, 12)


class Counts(NamedTuple):
    """What became of a partition's rows.

    Attributes:
        rows_in: rows of its Bronze.
        rows_out: rows of Silver.
        redelivered: rows removed, as another capture delivered the same event.
        repeats: rows kept though another kept row is equal: genuine events.
        unproven: of the removed, those not known to be the same event.
        enriched: option trades that a snapshot was found for.
        differing: of the removed, those that say something else than the row that is kept.
        repeated_numbers: rows kept though one delivery gave their documented number twice.
        unordered: captures of files of which nothing says when they began.
    """

    rows_in: int
    rows_out: int
    redelivered: int
    repeats: int
    unproven: int
    enriched: int = 0
    differing: int = 0
    repeated_numbers: int = 0
    unordered: int = 0


class Footer(NamedTuple):
    """What a Silver file says of itself.

    Attributes:
        parts: digest of the names of the Bronze parts it was made of.
        inputs: digest of all that it was made of.
        counts: what became of the rows.
        captures: whose rows they were, where several captures delivered them.
        ended: those of `captures` that did not go on in the next partition, on which `unproven` depends.
        tolerance_ns: how old greeks might be; 0 where none are asked for.
        begins: when those of `captures` that are files began, UTC nanoseconds; None where Bronze does not say.
    """

    parts: str
    inputs: str
    counts: Counts
    captures: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()
    tolerance_ns: int = 0
    begins: Mapping[int, int | None] = MappingProxyType({})


def columns_of(schema: EventSchema) -> pa.Schema:
    """Return the columns of a Silver file."""
    late = [column for column, _ in late_columns(schema)]
    more = ENRICHMENT if schema is events.OPTIONS_TRADES else ()
    return pa.schema(
        [*schema.bronze, EVENT_ID, OCCURRENCE, *late, *more],
        {"schema_name": layout.silver_name(schema), "schema_version": str(schema.version)},
    )


def late_columns(schema: EventSchema) -> list[tuple[pa.Field, str]]:
    """Return the columns that say what became of an event, each with the column of a file's row that says so."""
    return list(zip(LATE, ("correction", "conditions"), strict=True)) if "correction" in schema.log.names else []


def one_table_columns_of(schema: EventSchema) -> pa.Schema:
    """Return the columns of the one table: Silver's without the enrichment; of our own events, Bronze's."""
    if schema.kind == "own":
        return schema.bronze
    return pa.schema([*schema.bronze, EVENT_ID, OCCURRENCE, *(column for column, _ in late_columns(schema))])


def file_of(data_root: Path, partition: Partition) -> Path:
    """Return where a Bronze partition's Silver lies."""
    own = partition._replace(schema=layout.silver_name(events.SCHEMAS[partition.schema]))
    return layout.path(data_root, Tier.SILVER, f"{own.folder}/{layout.SILVER_FILE}")


def bronze_parts(data_root: Path, partition: Partition) -> list[Path]:
    """Return the parts of a partition, where they lie or were archived to, by name.

    Raises:
        LayoutError: an archived part is not where its manifest says; nothing may be concluded without it.
    """
    folder = layout.path(data_root, Tier.BRONZE, partition.folder)
    here = {name: folder / name for name in layout.part_names(data_root, Tier.BRONZE, partition)}
    here |= archive.parts_of(data_root, partition)
    return [here[name] for name in sorted(here)]


def inputs_digest(parts: Iterable[Path], more: bytes = b"") -> str:
    """Return what tells one set of inputs from another: the names of parts, and what else was read."""
    names = "\n".join(sorted(path.name for path in parts))
    return hashlib.sha256(f"{SILVER_VERSION}\n{names}\n".encode() + more).hexdigest()


def read_footer(file: Path) -> Footer | None:
    """Return what a Silver file says of itself; None where there is none.

    Raises:
        LayoutError: this version did not write it.
    """
    try:
        keys = pq.read_metadata(file).metadata or {}
        counts = Counts(*(int(number) for number in keys[b"spymaster_counts"].split(b",")))
        captures, ended = (
            tuple(map(int, keys.get(key, b"").split())) for key in (b"spymaster_captures", b"spymaster_ended")
        )
        begins = (pair.split(b":") for pair in keys.get(b"spymaster_begins", b"").split())
        return Footer(
            keys[b"spymaster_parts"].decode(), keys[b"spymaster_inputs"].decode(), counts, captures, ended,
            int(keys.get(b"spymaster_tolerance_ns", b"0")),
            {int(own): int(stamp) if stamp else None for own, stamp in begins},
        )  # fmt: skip
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise LayoutError(
            f"{file} is no Silver that spymaster wrote ({type(error).__name__}: {error}). Bronze has all of it. "
            f"Next: move it away and run spymaster compact"
        ) from error


def writer(sink: Path, schema: EventSchema) -> pq.ParquetWriter:
    """Open a Silver file for writing; `add_footer` completes it."""
    return parquet.writer(sink, columns_of(schema), ["ts_event_ns"], incompressible=[EVENT_ID.name])


def add_footer(file: pq.ParquetWriter, footer: Footer) -> None:
    """Let a file that is being written say of itself what `read_footer` returns."""
    file.add_key_value_metadata(
        {
            "spymaster_parts": footer.parts,
            "spymaster_inputs": footer.inputs,
            "spymaster_counts": ",".join(map(str, footer.counts)),
            "spymaster_captures": " ".join(map(str, footer.captures)),
            "spymaster_ended": " ".join(map(str, footer.ended)),
            "spymaster_tolerance_ns": str(footer.tolerance_ns),
            "spymaster_begins": " ".join(
                f"{own}:{'' if stamp is None else stamp}" for own, stamp in footer.begins.items()
            ),
        }
    )

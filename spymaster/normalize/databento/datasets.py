"""Which of the vendor's datasets and schemas are recorded, and what a delivery's header announces. Pure."""

from typing import Final, NamedTuple

import databento_dbn as dbn

from spymaster import clock
from spymaster.errors import SourceError, UnsupportedError
from spymaster.events import (
    FUTURES_MBP10,
    FUTURES_TRADES,
    OPTIONS_QUOTES,
    OPTIONS_TRADES,
    REFERENCE_STATISTICS,
    REFERENCE_STATUS,
    STOCKS_TRADES,
    EventSchema,
)
from spymaster.events.encoding import Dbn
from spymaster.normalize.databento.instruments import Instruments, Unnamed, unnamed
from spymaster.normalize.databento.records import (
    BBO_1M,
    BBO_1S,
    CBBO_1M,
    CBBO_1S,
    CMBP1,
    DEFINITION,
    LAYOUTS,
    MAX_NS,
    MBP1,
    MBP10,
    QUOTES,
    STATISTICS,
    STATUS,
    TCBBO,
    TRADE,
)
from spymaster.normalize.symbols import CME, OCC, STOCKS, Venue, newly_read

# What records of a kind become; where there are two, the second is of options, and None is what is not recorded.
Schemas = tuple[EventSchema | None, ...]
_REFERENCE: Final[dict[int, Schemas]] = {STATISTICS: (REFERENCE_STATISTICS,), STATUS: (REFERENCE_STATUS,)}


class Dataset(NamedTuple):
    """How a dataset of the vendor's is recorded.

    Attributes:
        source: as rows name it.
        venue: how its symbols are written.
        kinds: what its records become, but for definitions and mappings.
        several_publishers: whether it has more than one.
    """

    source: str
    venue: Venue
    kinds: dict[int, Schemas]
    several_publishers: bool = False


DATASETS: Final = {
    "GLBX.MDP3": Dataset(
        "databento.glbx",
        CME,
        {TRADE: (FUTURES_TRADES, OPTIONS_TRADES), MBP10: (FUTURES_MBP10,)}
        | dict.fromkeys(QUOTES, (None, OPTIONS_QUOTES))
        | _REFERENCE,
    ),
    "OPRA.PILLAR": Dataset(
        "databento.opra",
        OCC,
        {TRADE: (OPTIONS_TRADES,)} | dict.fromkeys(QUOTES, (OPTIONS_QUOTES,)) | _REFERENCE,
        several_publishers=True,
    ),
    "XNAS.ITCH": Dataset("databento.xnas", STOCKS, {TRADE: (STOCKS_TRADES,)} | _REFERENCE),
}
TRADES_WITH_QUOTES: Final = "tbbo"
_SCHEMA_KINDS: Final = {
    "trades": TRADE,
    "mbp-10": MBP10,
    "definition": DEFINITION,
    "statistics": STATISTICS,
    "status": STATUS,
    "mbp-1": MBP1,
    TRADES_WITH_QUOTES: MBP1,
    "bbo-1s": BBO_1S,
    "bbo-1m": BBO_1M,
    "cmbp-1": CMBP1,
    "cbbo-1s": CBBO_1S,
    "cbbo-1m": CBBO_1M,
    "tcbbo": TCBBO,
}


def decode_header(header: bytes, origin: str) -> dbn.Metadata:
    """Decode a delivery's header.

    Raises:
        UnsupportedError: it is of a DBN version that is not known.
        SourceError: it is no DBN header.
    """
    known = ", ".join(map(str, LAYOUTS))
    if header[:3] == b"DBN" and len(header) > 3 and header[3] not in LAYOUTS:
        raise UnsupportedError(
            f"{origin} is DBN of version {header[3]}; versions {known} can be read. Nothing was recorded from it. "
            f"Next: upgrade spymaster, or have the vendor's library rewrite the file"
        )
    try:
        as_is = dbn.VersionUpgradePolicy.AS_IS
        return dbn.Metadata.decode(header, as_is)  # type: ignore[arg-type]  # the stub takes its members for int
    except BaseException as error:
        # On some damage the vendor's decoder panics, and a Rust panic is no Exception.
        if not isinstance(error, dbn.DBNError) and type(error).__name__ != "PanicException":
            raise
        raise SourceError(
            f"{origin} begins with no DBN header that can be read ({error}). Nothing was recorded from it. "
            f"Next: check that it is a .dbn or .dbn.zst file, and fetch it again"
        ) from error


def contents_of(metadata: dbn.Metadata, origin: str) -> tuple[Dataset, dict[int, Schemas]]:
    """Return the dataset and which of its records the header announces; without a schema, all of them.

    Raises:
        UnsupportedError: they are not recorded.
    """
    dataset = DATASETS.get(metadata.dataset)
    name = None if metadata.schema is None else str(metadata.schema)
    kind = _SCHEMA_KINDS.get(name or "")
    if dataset is None or (name and kind != DEFINITION and kind not in dataset.kinds):
        known = "; ".join(
            f"{code} with {', '.join(n for n, k in _SCHEMA_KINDS.items() if k == DEFINITION or k in known.kinds)}"
            for code, known in DATASETS.items()
        )
        raise UnsupportedError(
            f"{origin} holds {name or 'records'} of {metadata.dataset!r}, which is not recorded. Nothing "
            f"was recorded from it. Next: fetch one of these instead: {known}"
        )
    return dataset, {k: schemas for k, schemas in dataset.kinds.items() if name is None or k == kind}


class Wanted(NamedTuple):
    """Definitions that name what a delivery's header does not.

    Attributes:
        source: of their rows.
        unnamed: which ids, and of when.
    """

    source: str
    unnamed: Unnamed


def wanted(encoding: Dbn, origin: str) -> Wanted | None:
    """Return which definitions a delivery wants beside its header; None if none.

    Raises:
        SourceError: it is no DBN header.
    """
    metadata = decode_header(encoding.header, origin)
    dataset = DATASETS.get(metadata.dataset)
    left = None if dataset is None else unnamed(metadata, dataset.venue)
    return None if dataset is None or left is None else Wanted(dataset.source, left)


def nameless(metadata: dbn.Metadata, dataset: Dataset, origin: str) -> SourceError:
    """Return what to say of ids that nothing names."""
    left = unnamed(metadata, dataset.venue)
    ids = sorted(left.ids) if left else []
    some = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    first = clock.utc_text(left.begin_ns if left else min(metadata.start, MAX_NS))[:10]
    last = clock.utc_text(left.end_ns - 1)[:10] if left and left.end_ns < MAX_NS else "its end"
    return SourceError(
        f"{origin} asks for bare ids ({some or 'none are listed'}), and neither its header, nor its stream, nor "
        f"definitions in the lake name them. Nothing was recorded from it. Next: backfill the definitions of "
        f"{metadata.dataset} for these ids from {first} to {last} (schema definition), then run the same command"
    )


def version_of(metadata: dbn.Metadata, dataset: Dataset, instruments: Instruments) -> int:
    """Return the first version that makes the rows of such a delivery that the newest does."""
    if metadata.schema is None:
        return 3
    asks_definitions = dataset.venue is CME and _SCHEMA_KINDS.get(str(metadata.schema), DEFINITION) == DEFINITION
    return 2 if asks_definitions or any(map(newly_read, instruments.names)) else 1

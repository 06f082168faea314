"""The data sets that Silver alone decides: bars and books of a session's front month, from the files that are there.

What was recorded and is not compacted yet is not in Silver, and so not in these; once it is, the session is made again.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster import events
from spymaster.clock import NS_PER_HOUR, NS_PER_SECOND
from spymaster.engines.rows import values_of
from spymaster.engines.session import Session
from spymaster.errors import LayoutError
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, EventSchema, Stream
from spymaster.lake import layout, silver
from spymaster.lake.datasets import BOOK_1S, OHLCV, DataSet
from spymaster.lake.layout import Tier, Within
from spymaster.paths import Partition
from spymaster.query.sessions import Market, session_at
from spymaster.signals.contract import front
from spymaster.signals.datasets import bars, books

SOURCES: Final[Mapping[str, EventSchema]] = {OHLCV.name: FUTURES_TRADES, BOOK_1S.name: FUTURES_MBP10}
ROOTS: Final = tuple(bars.THRESHOLDS)  # of futures that have a profile
_TRADES: Final = ("ts_event_ns", "contract", "price", "size", "aggressor")


class Hours(NamedTuple):
    """A session's files of Silver.

    Attributes:
        session: which one.
        stream: whose rows.
        partitions: by time.
    """

    session: Session
    stream: Stream
    partitions: Sequence[Partition]

    @property
    def values(self) -> tuple[str, str]:
        """Of a data set's keys."""
        return self.stream.symbol, self.session.date


def within(day: str | None, symbol: str) -> Within:
    """Return which partitions may hold rows of a session: it begins the evening before, and in no zone ends later."""
    if day is None:
        return Within(symbol)
    first, last = (date.fromisoformat(day) + timedelta(days=one) for one in (-1, 1))
    return Within(symbol, f"{first}T00", f"{last}T23")


def hours_of(
    data_root: Path, stream: Stream, tiers: Sequence[Tier], market: Market, day: str | None = None
) -> list[Hours]:
    """Return the sessions of which a stream has hours in some tiers, in order; the one of a date if it is given.

    Of Silver's tier each of its partitions has a file.
    """
    found: dict[Session, list[Partition]] = {}
    schema = events.SCHEMAS[stream.schema]
    for own in layout.partitions(data_root, schema, within(day, stream.symbol), tiers):
        session = session_at(begin_of_hour(own), market)
        has_file = Tier.SILVER not in tiers or silver.file_of(data_root, own).exists()
        if session is not None and has_file and day in {None, session.date}:
            found.setdefault(session, []).append(own)
    return [Hours(session, stream, own) for session, own in sorted(found.items())]


def begin_of_hour(own: Partition) -> int:
    """Return where a partition of an hour begins, UTC nanoseconds."""
    day = datetime.fromisoformat(own.date).replace(tzinfo=UTC)
    return int(day.timestamp()) * NS_PER_SECOND + (own.hour or 0) * NS_PER_HOUR


def contract_of(data_root: Path, root: str, session: Session) -> str:
    """Return the front month of a session."""
    return front(data_root, root, session).contract


def inputs_of(data_root: Path, dataset: DataSet, hours: Hours, contract: str) -> str:
    """Return the digest of all that a session's file is made of.

    Raises:
        LayoutError: a file is none of Silver's.
    """
    said = [dataset.columns.metadata[b"schema_version"].decode(), contract, repr(bars.THRESHOLDS[hours.stream.symbol])]
    for own in hours.partitions:
        footer = silver.read_footer(silver.file_of(data_root, own))
        if footer is not None:
            said.append(f"{own.folder} {footer.inputs} {sorted(footer.begins.items())}")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def rows_of(data_root: Path, dataset: DataSet, hours: Hours, contract: str) -> pa.Table:
    """Return a session's rows, the columns of the data set but its keys.

    Memory: of bars five columns of the session's trades; of books one row group, and a row for each second.

    Raises:
        LayoutError: a file does not read.
    """
    if dataset == OHLCV:
        return bars.bars_of(_trades(data_root, hours, contract), contract, bars.THRESHOLDS[hours.stream.symbol])
    found = [books.last_books(rows, contract) for rows in _groups(data_root, hours, books.COLUMNS)]
    return books.latest(pa.concat_tables([books.NONE, *found]))


def _trades(data_root: Path, hours: Hours, contract: str) -> bars.Trades:
    pieces = [
        rows.filter(pc.and_(pc.equal(rows["contract"], pa.scalar(contract)), pc.is_valid(rows["price"])))
        for rows in _groups(data_root, hours, _TRADES)
    ]
    fields = pa.schema([FUTURES_TRADES.bronze.field(name) for name in _TRADES])
    table = pa.concat_tables([fields.empty_table(), *(piece.cast(fields) for piece in pieces)])
    return bars.Trades(
        table["ts_event_ns"].to_numpy(),
        np.rint(table["price"].to_numpy() * bars.PRICE_UNITS).astype(np.int64),
        *(values_of(table[name].combine_chunks()).astype(np.int64) for name in ("size", "aggressor")),
    )


def _groups(data_root: Path, hours: Hours, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the session's rows in order, a row group at a time."""
    for own in hours.partitions:
        file = silver.file_of(data_root, own)
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as opened:
                for group in range(opened.num_row_groups):
                    yield opened.read_row_group(group, list(columns))
        except (pa.ArrowException, OSError) as error:
            raise LayoutError(
                f"{file} does not read ({' '.join(str(error).split())}). Nothing was made of its session. Next: "
                f"spymaster verify, then move it away and run spymaster compact"
            ) from error

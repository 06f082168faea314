"""What both the warm-up and the seeds need: which streams a judge wants, since when they are there, and its rows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from spymaster.engines.judge import Judge
from spymaster.engines.option_rows import SCHEMAS as OPTIONS
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events import (
    FUTURES_MBP10,
    FUTURES_TRADES,
    REFERENCE_STATUS,
    STOCKS_QUOTES,
    STOCKS_TRADES,
    SYSTEM_CAPTURES,
    SYSTEM_GAPS,
    SYSTEM_SYMBOL,
    Stream,
)
from spymaster.lake.begins import begins_in, capture_begins
from spymaster.query.recorded import Recorded
from spymaster.query.stretches import Bounds
from spymaster.wal.reader import read_log

_SCHEMAS: Final = (FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS, STOCKS_TRADES, STOCKS_QUOTES, *OPTIONS)

Given = Callable[[Stream, pa.RecordBatch], None]


class Roots(NamedTuple):
    """Where is read: the lake, and its log."""

    data: Path
    wal: Path


class Begin(NamedTuple):
    """Where the rows of a stream begin in a session.

    Attributes:
        since_ns: the first row's time; None where the recording had begun by then.
        first_ns: the first row's time.
    """

    since_ns: int | None
    first_ns: int


def streams_of(profile: Profile, judge: Judge) -> list[Stream]:
    """Return the streams that a judge of a profile wants, by their roots."""
    symbols = dict.fromkeys((profile.book.symbol, profile.market.underlying))
    found = [Stream(schema.name, symbol) for schema in _SCHEMAS for symbol in symbols]
    return [stream for stream in (*found, Stream(SYSTEM_GAPS.name, SYSTEM_SYMBOL)) if judge.wants(stream)]


def quoting_of(profile: Profile) -> list[Stream]:
    """Return the streams without which nothing is judged: the book, and the quotes of a stock."""
    book, stock = Stream(FUTURES_MBP10.name, profile.book.symbol), Stream(STOCKS_QUOTES.name, profile.market.underlying)
    return [book] if book.symbol == stock.symbol else [book, stock]


def begin_of(roots: Roots, stream: Stream, session: Session, bounds: Bounds) -> Begin | None:
    """Return where a stream's rows of a session begin; None where there are none.

    Raises:
        WalError: the log cannot be read.
        LayoutError: a file in the lake cannot be.
    """
    for _, batch in Recorded(*roots, [stream], bounds).batches():
        first_ns = int(batch.column("ts_event_ns")[0].as_py())
        capture_id, seq = (int(batch.column(name)[0].as_py()) for name in ("capture_id", "capture_seq"))
        begun = seq > 0 or _began_ns(roots, capture_id, first_ns) <= session.begin_ns
        return Begin(None if begun else first_ns, first_ns)
    return None


def _began_ns(roots: Roots, capture_id: int, otherwise: int) -> int:
    logged = begins_in(read_log(roots.wal, SYSTEM_CAPTURES))
    return min(found.get(capture_id, otherwise) for found in (logged, capture_begins(roots.data)))


def feed(
    judge: Judge,
    recorded: Recorded,
    taken: dict[tuple[str, int], int],
    *,
    to_the_end: bool,
    stopped: Callable[[], bool] = lambda: False,
    given: Given = lambda stream, rows: None,
) -> Iterator[list[Snap]]:
    """Give a judge what was recorded; yield the snaps that it makes due.

    Args:
        judge: gets it.
        recorded: has it.
        taken: has the last `capture_seq` of each schema's capture that the judge was given, when snaps are yielded.
        to_the_end: as of `Recorded.batches`.
        stopped: whether to end early; asked a batch.
        given: called with what the judge is given.

    Raises:
        LayoutError: a part does not read. The judge has what was before it.
    """
    for stream, batch in recorded.batches(to_the_end=to_the_end):
        if stopped():
            return
        given(stream, batch)
        snaps = judge.take(stream, batch)
        ids, numbers = batch.column("capture_id").to_numpy(), batch.column("capture_seq").to_numpy()
        for capture_id in np.unique(ids).tolist():
            key = stream.schema, capture_id
            taken[key] = max(taken.get(key, -1), int(numbers[ids == capture_id].max()))
        if snaps:
            yield snaps

"""What both the warm-up and the seeds need: which streams a judge wants, since when they are there, and its rows."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

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
from spymaster.query.stretches import FIRST, LAST, Bounds
from spymaster.wal.reader import read_log

_SCHEMAS: Final = (FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS, STOCKS_TRADES, STOCKS_QUOTES, *OPTIONS)


class Roots(NamedTuple):
    """Where is read: the lake, and its log."""

    data: Path
    wal: Path


class Caught(NamedTuple):
    """What a pass over log and lake gave a judge.

    Attributes:
        rows: how many it took.
        first_ns: the lowest `ts_event_ns` among those of the market; None where there were none.
        last_ns: the highest.
        took_s: seconds of the wall's clock.
        snap: the newest snap that they made due; None if there was none.
    """

    rows: int
    first_ns: int | None
    last_ns: int | None
    took_s: float
    snap: Snap | None


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
) -> Caught:
    """Give a judge what was recorded.

    Args:
        judge: gets it.
        recorded: has it.
        taken: on return has the last `capture_seq` of each schema's capture.
        to_the_end: as of `Recorded.batches`.
        stopped: whether to end early; asked a batch.

    Raises:
        LayoutError: a part does not read. The judge has what was before it.
    """
    began, rows, snap = time.perf_counter(), 0, None
    first_ns, last_ns = LAST, FIRST
    for stream, batch in recorded.batches(to_the_end=to_the_end):
        if stopped():
            break
        snaps = judge.take(stream, batch)
        snap = snaps[-1] if snaps else snap
        rows += batch.num_rows
        ids, numbers = batch.column("capture_id").to_numpy(), batch.column("capture_seq").to_numpy()
        for capture_id in np.unique(ids).tolist():
            key = stream.schema, capture_id
            taken[key] = max(taken.get(key, -1), int(numbers[ids == capture_id].max()))
        if stream.schema != SYSTEM_GAPS.name:
            ts_ns = batch.column("ts_event_ns").to_numpy()
            first_ns, last_ns = min(first_ns, int(ts_ns.min())), max(last_ns, int(ts_ns.max()))
    took_s = time.perf_counter() - began
    if last_ns == FIRST:
        return Caught(rows, None, None, took_s, snap)
    return Caught(rows, first_ns, last_ns, took_s, snap)

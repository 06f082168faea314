"""What a session takes over from those before it, from log and lake.

Of the session before: high, low, close and two-minute closes, by the trades of the contract that is judged now, or of
the stock. Of several: what was typical when their first half hour was over, each by its own front month.

The session before is the calendar's. One that the calendar has not, as on weekends, counts if the lake has rows of it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.engines.bars import LONGEST_AVERAGE
from spymaster.engines.judge import Judge
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.market import Earlier, Market, Prints
from spymaster.engines.profile import Profile
from spymaster.engines.rows import whole_ticks
from spymaster.engines.session import Session, Span
from spymaster.engines.stock import Stock
from spymaster.engines.typical import Norms, mean_of
from spymaster.events import (
    FUTURES_MBP10,
    FUTURES_TRADES,
    STOCKS_QUOTES,
    STOCKS_TRADES,
    SYSTEM_GAPS,
    SYSTEM_SYMBOL,
    Stream,
)
from spymaster.events.schema import WILDCARD
from spymaster.query import sessions
from spymaster.query.recorded import Recorded
from spymaster.query.stretches import Bounds, span_of
from spymaster.signals.contract import front
from spymaster.signals.feed import Roots, begin_of, feed, quoting_of, streams_of

_LOOK_BACK_NS: Final = 14 * NS_PER_DAY  # no exchange is closed for as long
_MOST_BEFORE: Final = 3  # sessions whose closes make up the longest average; a whole one has enough
_OPENING_NS: Final = 1_800 * NS_PER_SECOND
_COLUMNS: Final = ("ts_event_ns", "capture_id", "capture_seq", "price", "size", "aggressor")


class _Day(NamedTuple):
    """What was traded in a session.

    Attributes:
        prints: of one contract, in order.
        voids: where nobody listened, or something is known to be missing.
    """

    prints: Prints
    voids: list[Span]


def sessions_before(session: Session, profile: Profile) -> Iterator[tuple[Session, bool]]:
    """Yield the sessions before one, the latest first, and whether the calendar has them."""
    market, at_ns = profile.market.calendar, session.begin_ns
    while at_ns > session.begin_ns - _LOOK_BACK_NS:
        found = sessions.session_at(at_ns - 1, market)
        if found is None:
            at_ns -= sessions.HALF_HOUR_NS
            continue
        yield found, sessions.calendar().session_of(at_ns - 1, market) is not None
        at_ns = found.begin_ns


def earlier_of(roots: Roots, profile: Profile, session: Session, contract: str) -> Earlier | None:
    """Return what a session takes over from the one before; None where log and lake have no trade of the contract.

    Args:
        roots: the lake and its log.
        profile: the numbers.
        session: the session.
        contract: what is judged in it.

    Raises:
        WalError: the log cannot be read.
        LayoutError: a file in the lake cannot be.
    """
    return _earlier(roots, profile, session, contract, _MOST_BEFORE)


def _earlier(roots: Roots, profile: Profile, session: Session, contract: str, depth: int) -> Earlier | None:
    for past, in_calendar in sessions_before(session, profile):
        day = _day(roots, profile, past, session, contract)
        if day is not None:
            break
        if in_calendar:
            return None
    else:
        return None
    market = Market(profile.market, past)
    for span in day.voids:
        market.void(*span)
    market.work(past.end_ns, day.prints, None)
    found = market.earlier()
    if len(found.closes) < LONGEST_AVERAGE and depth > 1:
        before = _earlier(roots, profile, past, contract, depth - 1)
        if before is not None:
            found = found._replace(closes=(*before.closes, *found.closes)[-LONGEST_AVERAGE:])
    return found


def _day(roots: Roots, profile: Profile, past: Session, session: Session, contract: str) -> _Day | None:
    stocks = profile.book.ratio_s is not None
    traded, quoted = (STOCKS_TRADES, STOCKS_QUOTES) if stocks else (FUTURES_TRADES, FUTURES_MBP10)
    stream = Stream(traded.name, profile.market.underlying)
    # What its last snap had. A print between that and the end was never judged: the next snap is the next session's.
    bounds = Bounds(past.begin_ns, past.end_ns - SNAP_NS + 1, {}, {})
    columns = [*_COLUMNS, *(("conditions", "correction") if stocks else ("contract",))]
    trades = [batch.select(columns) for _, batch in Recorded(*roots, [stream], bounds).batches()]
    if not trades:
        return None
    prints = _stock_prints(profile, past, trades) if stocks else _prints(profile, contract, trades)
    if not len(prints.ts_ns):
        return None
    after = Bounds(session.begin_ns, session.end_ns, {}, {})
    going_on = next(iter(Recorded(*roots, [stream], after).batches()), None)
    heard = _heard(roots, stream, past, bounds, trades, None if going_on is None else going_on[1])
    gaps = [batch for _, batch in Recorded(*roots, [Stream(SYSTEM_GAPS.name, SYSTEM_SYMBOL)], bounds).batches()]
    return _Day(prints, [*_between(heard, past), *_gaps(gaps, (traded.name, quoted.name), stream.symbol)])


def _stock_prints(profile: Profile, past: Session, trades: Sequence[pa.RecordBatch]) -> Prints:
    stock = Stock(past, profile.market.tick, profile.score.stale_s, profile.book.ratio_s or 1)
    return stock.work(past.end_ns, {STOCKS_TRADES.name: trades}, None)


def _prints(profile: Profile, contract: str, trades: Sequence[pa.RecordBatch]) -> Prints:
    """Return a contract's trades as prints, in order; a price that is no whole tick is none."""
    rows = pa.Table.from_batches(trades)
    rows = rows.filter(pc.equal(rows["contract"], pa.scalar(contract)))
    keys = [rows[name].to_numpy() for name in ("capture_seq", "capture_id", "ts_event_ns")]
    order = np.lexsort(keys)
    (price,), _ = whole_ticks(rows["price"].to_numpy()[None, order], profile.market.tick)
    return Prints(keys[-1][order], price, rows["size"].to_numpy()[order], rows["aggressor"].to_numpy()[order])


def _heard(
    roots: Roots,
    stream: Stream,
    past: Session,
    bounds: Bounds,
    trades: Sequence[pa.RecordBatch],
    after: pa.RecordBatch | None,
) -> list[Span]:
    """Return from when to when somebody listened, by capture."""
    rows = pa.Table.from_batches(trades)
    ids, ts_ns = rows["capture_id"].to_numpy(), rows["ts_event_ns"].to_numpy()
    spans = {int(own): (int(ts_ns[ids == own].min()), int(ts_ns[ids == own].max())) for own in np.unique(ids)}
    begin = begin_of(roots, stream, past, bounds)
    first = min(spans, key=lambda own: spans[own])
    if begin is not None and begin.since_ns is None:
        spans[first] = (past.begin_ns, spans[first][1])
    for own in () if after is None else after.column("capture_id").unique().to_pylist():
        if own in spans:
            spans[own] = (spans[own][0], past.end_ns)
    return sorted(spans.values())


def _between(heard: Sequence[Span], past: Session) -> list[Span]:
    """Return what of a session lies in no span."""
    voids, until = [], past.begin_ns
    for begin_ns, end_ns in (*heard, (past.end_ns, past.end_ns)):
        if begin_ns > until:
            voids.append((until, begin_ns))
        until = max(until, end_ns)
    return voids


def _gaps(batches: Sequence[pa.RecordBatch], schemas: Sequence[str], symbol: str) -> list[Span]:
    """Return the gaps of some schemas' rows of a root."""
    found: list[Span] = []
    for rows in (pa.Table.from_batches([batch]) for batch in batches):
        named = zip(rows["of_schema"].to_pylist(), rows["of_symbol"].to_pylist(), strict=True)
        mine = [schema in schemas and own in (symbol, WILDCARD) for schema, own in named]
        begins, ends = span_of(rows)
        found += zip(begins[mine].tolist(), ends[mine].tolist(), strict=True)
    return found


def seed_of(roots: Roots, profile: Profile, session: Session) -> Norms | None:
    """Return what is typical as a session begins: the mean of what earlier ones had after their first half hour.

    Of the profile's `seed_sessions` sessions before it those count whose first half hour is there from its begin, but
    for as long as the warm-up of typical sizes takes. None where there are none.

    Args:
        roots: the lake and its log.
        profile: the numbers.
        session: the session.

    Raises:
        WalError: the log cannot be read.
        LayoutError: a file in the lake cannot be.
    """
    heard = (
        _opening(roots, profile, past)
        for past, in_calendar in sessions_before(session, profile)
        if in_calendar or begin_of(roots, quoting_of(profile)[0], past, _opening_bounds(past)) is not None
    )
    found = [norms for norms in islice(heard, profile.typical.seed_sessions) if norms is not None]
    return mean_of(found) if found else None


def _opening_bounds(past: Session) -> Bounds:
    return Bounds(past.begin_ns, min(past.begin_ns + _OPENING_NS, past.end_ns), {}, {})


def _opening(roots: Roots, profile: Profile, past: Session) -> Norms | None:
    """Return what was typical at the end of a session's first half hour; None where that is not there whole."""
    bounds = _opening_bounds(past)
    latest_ns = past.begin_ns + profile.typical.warm_up_s * NS_PER_SECOND
    begins = [begin_of(roots, stream, past, bounds) for stream in quoting_of(profile)]
    if any(begin is None or (begin.since_ns or past.begin_ns) > latest_ns for begin in begins):
        return None
    judge = Judge(profile, [past], front(roots.data, profile.book.symbol, past).contract)
    slack_ns, snap = latest_ns - past.begin_ns, None
    for snaps in feed(judge, Recorded(*roots, streams_of(profile, judge), bounds), {}, to_the_end=True):
        snap = snaps[-1]
    if snap is None or snap.whole_since_ns > latest_ns or snap.snap_ns < bounds.end_ns - slack_ns:
        return None
    return judge.norms

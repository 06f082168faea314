"""Which rows count for which snap, and what each snap had seen.

Snaps stand at whole multiples of SNAP_NS of event time. The clock is the book of one root and the trades of the
underlying, which is the same root or a stock that is judged by its book:

- The snap at T is taken when one of their rows of T + 100 ms or later leaves the bus. It has the rows that left before
  that one and whose time is at most T. Later ones wait for their own snap, else a signal at T would know its future.
- A row that leaves after the snap of its time is late: it is counted, and the next snap has it.
- Without a row there is no snap. After a pause there is one, the last that its row makes due.
- A row whose time is more than 5 s after its `ts_recv_ns` bears a wrong time: it is counted and goes no further. A row
  of a snapshot bears another event's time: it waits like others, but is never late and moves no clock.
- A row that another capture has told already comes again: it is counted and goes no further. Where a capture begins
  later than those before it had come, nobody listened in between, and that is missing (`deliveries.py`).

So given what had left before each snap, what a snap has is a function of the rows alone. Live, `take` decides when
snaps are due; a replay, which has the decisions on record, says so itself by `put` and `snap`.

What waits is at most MOST_WAITING rows. Beyond, those that left first are lost; the snap that misses them is told.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import chain, pairwise
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS, NS_PER_SECOND
from spymaster.engines import option_rows, rows
from spymaster.engines.deliveries import Deliveries
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.option_rows import SCHEMAS as OPTIONS
from spymaster.events import (
    FUTURES_MBP10,
    FUTURES_TRADES,
    OPTIONS_GREEKS_SNAPSHOTS,
    REFERENCE_INSTRUMENTS,
    REFERENCE_STATISTICS,
    REFERENCE_STATUS,
    SCHEMAS,
    STOCKS_QUOTES,
    STOCKS_TRADES,
    SYSTEM_GAPS,
    SYSTEM_SYMBOL,
    Stream,
)
from spymaster.events.schema import WILDCARD

GRACE_NS: Final = 100 * NS_PER_MS  # what a row may come late by, in event time, and still count in its snap
AHEAD_NS: Final = 5 * NS_PER_SECOND  # clocks of venue and vendor differ by less; beyond, the time is wrong
MOST_WAITING: Final = 400_000  # rows; 20 s of the open, 180 MB of books
_MOST_MISSING: Final = (
    256  # spans between two snaps; then a schema's last is widened: it says missing for longer than was
)
_NEVER: Final = -(2**63)
_LAST: Final = 2**63 - 1

# What is said of options at any time of what was true before: none of it comes too late.
_SAID_LATER: Final = {OPTIONS_GREEKS_SNAPSHOTS.name, REFERENCE_INSTRUMENTS.name, REFERENCE_STATISTICS.name}
_TRADES: Final = ("ts_event_ns", "capture_id", "capture_seq", "contract", "size")
_COLUMNS: Final = {FUTURES_MBP10.name: rows.COLUMNS, FUTURES_TRADES.name: _TRADES, **option_rows.COLUMNS}
_FOLLOWED: Final = {FUTURES_MBP10.name, FUTURES_TRADES.name, STOCKS_TRADES.name, STOCKS_QUOTES.name}

Loss = Literal["skipped", "gap", "overflow"]
Times = NDArray[np.int64]


class Missing(NamedTuple):
    """Rows of a span that are known to be missing: [begin, end), UTC nanoseconds of event time, why, and of what.

    The begin of a gap that says none is the least int64.
    """

    begin_ns: int
    end_ns: int
    reason: Loss
    schema: str = FUTURES_MBP10.name


class Seen(NamedTuple):
    """How far a stream's capture had left.

    Attributes:
        last_seq: the `capture_seq` of the last row.
        newest_ns: the highest event time among the rows since the snap before; None where none of them can be, and of
            gaps, whose times are our clock's.
    """

    last_seq: int
    newest_ns: int | None


class Piece(NamedTuple):
    """What one snap has to work.

    Attributes:
        snap_ns: the snap.
        since_ns: the snap before, None of the first.
        batches: rows by schema, in the order in which they left; who works them sorts them.
        missing: what became known to be missing since the snap before, of whatever time.
        late: rows among them that came after the snap of their time, by stream.
        ahead: rows since the snap before that were left out for a wrong time, by stream.
        again: rows since the snap before that were left out as another capture had told them, by stream.
        seen: how far each stream's captures had left, of those that moved since the snap before.
    """

    snap_ns: int
    since_ns: int | None
    batches: Mapping[str, list[pa.RecordBatch]]
    missing: tuple[Missing, ...]
    late: Mapping[Stream, int]
    ahead: Mapping[Stream, int]
    again: Mapping[Stream, int]
    seen: Mapping[tuple[Stream, int], Seen]


class _Waiting(NamedTuple):
    """Rows that wait for their snap, with their times, and whether these ascend."""

    schema: str
    batch: pa.RecordBatch
    ts_ns: Times
    ascends: bool


class Intake:
    """Gathers the rows of one root until their snaps are due.

    Attributes:
        snap_ns: the newest snap; None before the first.
    """

    def __init__(self, symbol: str, stock: str | None = None, *, most_waiting: int = MOST_WAITING) -> None:
        """Begin without rows.

        Args:
            symbol: the root whose book is judged, e.g. ES. Of a stream that has several, its rows count.
            stock: the ticker of the underlying where that is a stock, e.g. SPY.
            most_waiting: rows that may wait.
        """
        self.snap_ns: int | None = None
        self._roots = {FUTURES_MBP10.name: symbol, REFERENCE_STATUS.name: symbol}  # by schema
        self._roots |= dict.fromkeys((schema.name for schema in OPTIONS), stock or symbol)
        if stock is None:
            self._roots[FUTURES_TRADES.name] = symbol
            self._missed = {FUTURES_MBP10.name}  # not trades: the book's own rows have each print
        else:
            self._roots |= {STOCKS_TRADES.name: stock, STOCKS_QUOTES.name: stock}
            self._missed = {FUTURES_MBP10.name, STOCKS_TRADES.name, STOCKS_QUOTES.name}
        self._most_waiting = most_waiting
        self._left: list[tuple[Stream, pa.RecordBatch]] = []  # since the snap before, not yet looked into
        self._left_rows = 0
        self._waiting: list[_Waiting] = []
        self._waiting_rows = 0
        self._missing: list[Missing] = []
        self._late: Counter[Stream] = Counter()
        self._ahead: Counter[Stream] = Counter()
        self._again: Counter[Stream] = Counter()
        self._deliveries: dict[str, Deliveries] = {}  # by schema: a replay has a wildcard's rows by their root
        self._seen: dict[tuple[Stream, int], Seen] = {}

    @property
    def waiting_rows(self) -> int:
        """Rows that wait."""
        return self._left_rows + self._waiting_rows

    def wants(self, stream: Stream) -> bool:
        """Return whether rows of a stream mean anything here."""
        if stream.schema == SYSTEM_GAPS.name:
            return stream.symbol == SYSTEM_SYMBOL
        return stream.schema in self._roots and stream.symbol in (self._roots[stream.schema], WILDCARD)

    def take(self, stream: Stream, batch: pa.RecordBatch) -> list[Piece]:
        """Take rows as they leave the bus; return the snaps that they make due, which may lie within the batch."""
        if not self.wants(stream):
            return []
        pieces, begin = [], 0
        for at, snap_ns in self._due(stream, batch):
            self.put(stream, batch.slice(begin, at - begin))
            pieces.append(self.snap(snap_ns))
            begin = at
        self.put(stream, batch.slice(begin) if begin else batch)
        return pieces

    def put(self, stream: Stream, batch: pa.RecordBatch) -> None:
        """Let rows wait for the next snap that they are not after."""
        if batch.num_rows == 0 or not self.wants(stream):
            return
        self._left.append((stream, batch))
        self._left_rows += batch.num_rows
        if self.waiting_rows > self._most_waiting:
            self._settle()

    def _settle(self) -> None:
        """Look into what has left: all of a stream at once, since batches of a few rows cost what large ones do."""
        left, fits = self._left, self.waiting_rows <= self._most_waiting
        self._left, self._left_rows = [], 0
        # Where some are lost, in the order in which they left.
        for stream, batch in _joined(left) if fits else chain.from_iterable(_joined([one]) for one in left):
            self._admit(stream, batch)

    def _admit(self, stream: Stream, batch: pa.RecordBatch) -> None:
        ts_ns, sound, clocked = _times(stream, batch)
        if stream.schema == SYSTEM_GAPS.name:
            self._note_seen(stream, batch, np.full(len(ts_ns), _NEVER))
            self._note_gaps(batch)  # by when they are known: their own time is our clock's
            return
        self._note_seen(stream, batch, np.where(sound, ts_ns, _NEVER))
        if stream.symbol == WILDCARD:
            batch = self._mine(stream, batch)
            ts_ns, sound, clocked = _times(stream, batch)
        if not sound.all():
            self._ahead[stream] += int((~sound).sum())
            batch, ts_ns, clocked = batch.filter(pa.array(sound)), ts_ns[sound], clocked[sound]
        batch, ts_ns, clocked = self._followed(stream, batch, ts_ns, clocked)
        if not len(ts_ns):
            return
        if self.snap_ns is not None and (late := int((clocked & (ts_ns <= self.snap_ns)).sum())):
            self._late[stream] += late
        self._waiting.append(_Waiting(stream.schema, batch, ts_ns, bool((ts_ns[1:] >= ts_ns[:-1]).all())))
        self._waiting_rows += len(ts_ns)
        self._bound()

    def _followed(
        self, stream: Stream, batch: pa.RecordBatch, ts_ns: Times, clocked: NDArray[np.bool_]
    ) -> tuple[pa.RecordBatch, Times, NDArray[np.bool_]]:
        """Leave out what comes again, and note what nobody heard.

        What comes again of a status changes nothing; options are too many to be followed, and their prints count twice.
        """
        if not len(ts_ns) or stream.schema not in _FOLLOWED:
            return batch, ts_ns, clocked
        captures, instruments = batch.column("capture_id").to_numpy(), _instruments(batch)
        found = self._deliveries.setdefault(stream.schema, Deliveries()).follow(captures, instruments, ts_ns, clocked)
        if self._misses(*stream):
            for begin_ns, end_ns in found.missing:
                self._miss(Missing(begin_ns, end_ns, "gap", stream.schema))
        if found.order is not None:
            at = batch.schema.get_field_index("capture_id")
            batch = batch.set_column(at, batch.schema.field(at), pa.array(found.order))
        if found.again is None:
            return batch, ts_ns, clocked
        self._again[stream] += int(found.again.sum())
        told = ~found.again
        return batch.filter(pa.array(told)), ts_ns[told], clocked[told]

    def skip(self, stream: Stream, first_ns: int, last_ns: int) -> None:
        """Say that rows left without having come here: the bus was too fast for its reader.

        Args:
            stream: theirs.
            first_ns: the lowest of their times.
            last_ns: the highest.
        """
        if self._misses(stream.schema, stream.symbol):
            self._miss(Missing(first_ns, min(last_ns, _LAST - 1) + 1, "skipped", stream.schema))

    def snap(self, snap_ns: int) -> Piece:
        """Return what the snap at a time has, and go on to the next.

        Raises:
            ValueError: it is not on 250 ms, or not after the one before; nothing was taken.
        """
        if snap_ns % SNAP_NS or (self.snap_ns is not None and snap_ns <= self.snap_ns):
            raise ValueError(f"snap {snap_ns} is not on 250 ms, or not after the one before. Next: ask for the next")
        self._settle()
        batches: dict[str, list[pa.RecordBatch]] = {}
        rest: list[_Waiting] = []
        for waiting in self._waiting:
            due, later = _split(waiting, snap_ns)
            if due is not None:
                batches.setdefault(waiting.schema, []).append(due)
            if later is not None:
                rest.append(later)
        latest = snap_ns + SNAP_NS + GRACE_NS  # of rows that can have left before the one that made this snap due
        missing = tuple(
            sorted(span._replace(end_ns=latest) if span.end_ns == _LAST else span for span in self._missing)
        )
        counts = dict(self._late), dict(self._ahead), dict(self._again)
        piece = Piece(snap_ns, self.snap_ns, batches, missing, *counts, self._seen)
        self._waiting, self._waiting_rows = rest, sum(len(each.ts_ns) for each in rest)
        self.snap_ns, self._missing, self._seen = snap_ns, [], {}
        for counted in (self._late, self._ahead, self._again):
            counted.clear()
        return piece

    def _due(self, stream: Stream, batch: pa.RecordBatch) -> list[tuple[int, int]]:
        """Return before which rows of the batch a snap is due, and which."""
        if not moves_clock(stream) or batch.num_rows == 0:
            return []
        newest = int(batch.column("ts_event_ns").to_numpy().max())
        if self.snap_ns is not None and newest < self.snap_ns + SNAP_NS + GRACE_NS:
            return []  # as of nearly every batch
        ts_ns, sound, clocked = _times(stream, batch)
        moves = sound & clocked
        if stream.symbol == WILDCARD:
            moves &= self._are_mine(stream, batch)
        clock = np.maximum.accumulate(np.where(moves, ts_ns, _NEVER + GRACE_NS))
        numbers = (clock - GRACE_NS) // SNAP_NS
        before = _NEVER // SNAP_NS if self.snap_ns is None else self.snap_ns // SNAP_NS
        numbers = np.maximum(numbers, before)
        at = np.flatnonzero(np.diff(numbers, prepend=before))
        return list(zip(at.tolist(), (numbers[at] * SNAP_NS).tolist(), strict=True))

    def _mine(self, stream: Stream, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the root's rows of a stream that has several roots', as they were in a stream of the root alone."""
        alone = Stream(stream.schema, self._roots[stream.schema])
        return batch.filter(pa.array(self._are_mine(stream, batch))).select(_worked(alone))

    def _are_mine(self, stream: Stream, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        return rows.equal(batch.column(SCHEMAS[stream.schema].partition_by), self._roots[stream.schema])

    def _note_seen(self, stream: Stream, batch: pa.RecordBatch, ts_ns: Times) -> None:
        ids, numbers = batch.column("capture_id").to_numpy(), batch.column("capture_seq").to_numpy()
        turns = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        for first, end in pairwise((0, *turns.tolist(), len(ids))):
            key, newest_ns = (stream, int(ids[first])), int(ts_ns[first:end].max())
            before = self._seen[key].newest_ns if key in self._seen else None
            known = [ns for ns in (before, newest_ns) if ns is not None and ns != _NEVER]
            self._seen[key] = Seen(int(numbers[end - 1]), max(known, default=None))

    def _note_gaps(self, batch: pa.RecordBatch) -> None:
        """Note gaps of what is missed; one without a span reaches as far as a row may."""
        columns = ("of_schema", "of_symbol", "start_ns", "end_ns")
        for schema, symbol, begin, end in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            if self._misses(schema, symbol):
                span = (_NEVER if begin is None else begin, _LAST if end is None else end)
                self._miss(Missing(*span, "gap", schema))

    def _bound(self) -> None:
        while self._waiting_rows > self._most_waiting:
            schema, batch, ts_ns, ascends = self._waiting.pop(0)
            lost = min(self._waiting_rows - self._most_waiting, len(ts_ns))
            if schema in self._missed:
                self._miss(Missing(int(ts_ns[:lost].min()), int(ts_ns[:lost].max()) + 1, "overflow", schema))
            if lost < len(ts_ns):
                self._waiting.insert(0, _Waiting(schema, batch.slice(lost), ts_ns[lost:], ascends))
            self._waiting_rows -= lost

    def _misses(self, schema: str, symbol: str) -> bool:
        return schema in self._missed and symbol in (self._roots[schema], WILDCARD)

    def _miss(self, span: Missing) -> None:
        full = len(self._missing) >= _MOST_MISSING
        at = max((at for at, one in enumerate(self._missing) if one.schema == span.schema), default=None)
        last = None if at is None else self._missing[at]
        if at is not None and last is not None and (last.reason == span.reason == "overflow" or full):
            begin_ns, end_ns = min(span.begin_ns, last.begin_ns), max(span.end_ns, last.end_ns)
            self._missing[at] = last._replace(begin_ns=begin_ns, end_ns=end_ns)
        else:
            self._missing.append(span)


def _joined(batches: list[tuple[Stream, pa.RecordBatch]]) -> list[tuple[Stream, pa.RecordBatch]]:
    """Return one batch for each stream, of the columns that are worked: to join one costs what 300 of its rows do."""
    streams: dict[Stream, list[pa.RecordBatch]] = {}
    for stream, batch in batches:
        streams.setdefault(stream, []).append(batch)
    return [
        (stream, rows.joined([batch.select(_worked(stream)) for batch in found])) for stream, found in streams.items()
    ]


@cache
def _worked(stream: Stream) -> list[str]:
    """Return the columns that are of use from here on; of some schemas all. A stream of one root names it."""
    names = SCHEMAS[stream.schema].log.names
    if stream.schema not in _COLUMNS:
        return names
    root = {SCHEMAS[stream.schema].partition_by} if stream.symbol == WILDCARD else set()
    return [name for name in names if name in {*_COLUMNS[stream.schema], "ts_recv_ns", *root}]


def moves_clock(stream: Stream) -> bool:
    """Return whether a stream's rows make snaps due."""
    return stream.schema in (FUTURES_MBP10.name, FUTURES_TRADES.name, STOCKS_TRADES.name)


def _instruments(batch: pa.RecordBatch) -> pa.Array | None:
    """Return each row's instrument; None of a stock's stream, which has one."""
    return batch.column("contract") if "contract" in batch.schema.names else None


def _times(stream: Stream, batch: pa.RecordBatch) -> tuple[Times, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return event times, which of them can be, and which say when their row happened."""
    ts_ns: Times = batch.column("ts_event_ns").to_numpy()
    sound = ts_ns - AHEAD_NS <= batch.column("ts_recv_ns").to_numpy()
    if stream.schema == FUTURES_MBP10.name:
        return ts_ns, sound, ~batch.column("is_snapshot").to_numpy(zero_copy_only=False)
    said_later = stream.schema in _SAID_LATER
    return ts_ns, sound, np.full(len(ts_ns), not said_later)


def _split(waiting: _Waiting, snap_ns: int) -> tuple[pa.RecordBatch | None, _Waiting | None]:
    """Return the rows up to a snap, and those after it."""
    schema, batch, ts_ns, ascends = waiting
    if ascends:
        cut = int(np.searchsorted(ts_ns, snap_ns, side="right"))
        if cut == len(ts_ns):
            return batch, None
        if cut == 0:
            return None, waiting
        return batch.slice(0, cut), _Waiting(schema, batch.slice(cut), ts_ns[cut:], True)
    due = ts_ns <= snap_ns
    if due.all():
        return batch, None
    if not due.any():
        return None, waiting
    later = ts_ns[~due]
    rest = _Waiting(schema, batch.filter(pa.array(~due)), later, bool((later[1:] >= later[:-1]).all()))
    return batch.filter(pa.array(due)), rest

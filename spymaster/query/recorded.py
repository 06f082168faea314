"""Rows of streams as they were recorded, in the order in which they left the bus, as far as that is known.

A stream's rows leave as they arrived: of one capture by `capture_seq`; captures are merged by `ts_local_ns`, and where
files have none by event time, so that no instant of one is torn apart by another that has it too.
Streams are merged by their turn: the highest `ts_recv_ns` so far, which the vendors' clocks share. Where none of a
stretch was received within a minute of its event, that is another clock's (a market of the past is simulated, and the
vendor states none), and event time stands for it. A gap's turn is when it became known, or its end where that was not
in the span that is read.

Of a stretch those rows wait for the next one whose turn may not be known yet: of the newest 5 s, as no sound row is
received more than that before its event, and those that came late.

Batches are cut where a snap may become due, so that what had left before it is what had left before it live.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.intake import AHEAD_NS, GRACE_NS
from spymaster.engines.ledger import SNAP_NS
from spymaster.events import SYSTEM_GAPS, Stream
from spymaster.query.stretches import FIRST, LAST, MOST_ROWS, Bounds, Stretches, Times, ascends, span_of

MOST_HELD: Final = 150_000  # rows whose turn is not known; beyond, the first ones leave before their turn
_SHARED_NS: Final = 60 * NS_PER_SECOND


class _Turns(NamedTuple):
    """Rows of one stream in the order in which they leave, and the turn of each, ascending."""

    rows: pa.RecordBatch
    turns: Times


class Recorded:
    """One reading of some streams, in order. Memory: that of `Stretches`, and about `MOST_HELD` rows."""

    def __init__(
        self, data_root: Path, wal_root: Path, streams: Sequence[Stream], bounds: Bounds, most_rows: int = MOST_ROWS
    ) -> None:
        """Read the log, and list Bronze; arguments and errors are those of `Stretches`."""
        self._stretches = Stretches(data_root, wal_root, streams, bounds, most_rows)
        self._streams = list(streams)
        self._bounds = bounds
        self._held: list[_Turns | None] = [None for _ in streams]
        self._newest_of: dict[
            tuple[int, int], tuple[int, int]
        ] = {}  # each stream's capture: its last row's number and turn
        self._due = [FIRST for _ in streams]  # the newest snap that each would have made due

    def batches(self, *, to_the_end: bool = True) -> Iterator[tuple[Stream, pa.RecordBatch]]:
        """Yield rows as they left.

        Args:
            to_the_end: False where more rows may come: those of the newest 5 s are left out then, since the logs of
                several streams are not read at one instant.

        Raises:
            LayoutError: a part does not read.
        """
        newest = FIRST
        for end_ns, found in self._stretches:
            for rank, tables in enumerate(found):
                if tables:
                    self._hold(rank, pa.concat_tables(tables))
            newest = max(newest, self._last_turn())
            yield from self._leave(min(end_ns, newest) - AHEAD_NS)
            yield from self._leave(self._overfull())
        if to_the_end:
            yield from self._leave(LAST)

    def _last_turn(self) -> int:
        """Return the last turn of what waits; a gap's may be its end, which nobody has reached yet."""
        held = zip(self._streams, self._held, strict=True)
        return max(
            (int(own.turns[-1]) for stream, own in held if own and stream.schema != SYSTEM_GAPS.name), default=FIRST
        )

    def _hold(self, rank: int, table: pa.Table) -> None:
        """Let rows of a stretch wait for their turn."""
        new = self._turns(rank, table)
        held = self._held[rank]
        if held is not None:
            turns = np.concatenate([held.turns, new.turns])
            rows = _joined([held.rows, new.rows])
            order = None if ascends(turns) else np.argsort(turns, kind="stable")
            new = _Turns(rows, turns) if order is None else _Turns(rows.take(pa.array(order, pa.int64())), turns[order])
        self._held[rank] = new

    def _turns(self, rank: int, table: pa.Table) -> _Turns:
        """Put a stretch of a stream in the order in which it left."""
        captures, numbers = table["capture_id"].to_numpy(), table["capture_seq"].to_numpy()
        order = np.lexsort((numbers, captures))
        again = (np.diff(captures[order]) == 0) & (np.diff(numbers[order]) == 0)  # in Bronze, and in the log still
        order = order[np.append(True, ~again)]
        recv_ns = self._received(rank, table)[order]
        arrived = pc.coalesce(table["ts_local_ns"], table["ts_event_ns"]).to_numpy()[order]
        of_capture, numbers = captures[order], numbers[order]
        edges = [0, *(np.flatnonzero(np.diff(of_capture)) + 1).tolist(), len(order)]
        for begin, end in pairwise(edges):
            arrived[begin:end] = np.maximum.accumulate(arrived[begin:end])
            seq, turn = self._newest_of.get((rank, int(of_capture[begin])), (-1, FIRST))
            behind = begin + int(np.searchsorted(numbers[begin:end], seq, side="right"))
            recv_ns[behind:end] = np.maximum(recv_ns[behind:end], turn)
        by_arrival = np.argsort(arrived, kind="stable")
        order = order[by_arrival]
        turns = np.maximum.accumulate(recv_ns[by_arrival])
        self._note_newest(rank, of_capture[by_arrival], numbers[by_arrival], turns)
        rows = _joined(table.to_batches())
        in_order = len(order) == len(captures) and ascends(order)
        return _Turns(rows if in_order else rows.take(pa.array(order)), turns)

    def _note_newest(self, rank: int, captures: Times, numbers: Times, turns: Times) -> None:
        """Note the last row of each capture, before whose turn none of its later ones may leave."""
        for capture_id in np.unique(captures).tolist():
            last = int(np.flatnonzero(captures == capture_id)[-1])
            newest = int(numbers[last]), int(turns[last])
            self._newest_of[rank, capture_id] = max(newest, self._newest_of.get((rank, capture_id), newest))

    def _received(self, rank: int, table: pa.Table) -> Times:
        """Return when rows were received, by the clock that the streams share."""
        ts_ns, recv_ns = table["ts_event_ns"].to_numpy(), table["ts_recv_ns"].to_numpy()
        if self._streams[rank].schema == SYSTEM_GAPS.name:
            known = (self._bounds.begin_ns <= recv_ns) & (recv_ns < self._bounds.end_ns)
            begin, end = span_of(table)
            return np.where(known, recv_ns, np.where(end == LAST, begin, end).clip(*self._bounds[:2]))
        return recv_ns.copy() if (recv_ns - ts_ns).min() <= _SHARED_NS else ts_ns.copy()

    def _overfull(self) -> int:
        """Return before which turn rows have to leave, as too many wait."""
        turns = [held.turns for held in self._held if held is not None]
        excess = sum(map(len, turns)) - MOST_HELD
        return FIRST if excess <= 0 else int(np.partition(np.concatenate(turns), excess)[excess]) + 1

    def _leave(self, before: int) -> Iterator[tuple[Stream, pa.RecordBatch]]:
        """Let rows go whose turn is before another, in pieces that each begin where a snap may become due."""
        held = [(rank, own) for rank, own in enumerate(self._held) if own is not None]
        counts = {rank: int(np.searchsorted(own.turns, before)) for rank, own in held}
        going = {rank: _Turns(own.rows.slice(0, counts[rank]), own.turns[: counts[rank]]) for rank, own in held}
        cuts = sorted(cut for rank, own in going.items() for cut in self._cuts(rank, own))
        places = {rank: _places(rank, own.turns, cuts) for rank, own in going.items()}
        firsts = [None, *(rank for _, rank, _ in cuts)]
        for at, first in enumerate(firsts):
            for rank in sorted(going, key=lambda rank: (rank != first, rank)):
                begin, end = places[rank][at : at + 2]
                if begin < end:
                    yield self._streams[rank], going[rank].rows.slice(begin, end - begin)
        for rank, own in held:
            rest = _Turns(own.rows.slice(counts[rank]), own.turns[counts[rank] :])
            self._held[rank] = rest if len(rest.turns) else None

    def _cuts(self, rank: int, own: _Turns) -> list[tuple[int, int, int]]:
        """Return the turn, stream and place of each row that may make a snap due, whatever streams are the clock."""
        ts_ns, recv_ns = (own.rows.column(name).to_numpy() for name in ("ts_event_ns", "ts_recv_ns"))
        sound = np.where(ts_ns - AHEAD_NS <= recv_ns, ts_ns, FIRST + GRACE_NS)
        due = np.maximum.accumulate((sound - GRACE_NS) // SNAP_NS)
        at = np.flatnonzero(np.diff(np.maximum(due, self._due[rank]), prepend=self._due[rank]))
        if len(due):
            self._due[rank] = max(self._due[rank], int(due[-1]))
        return [(int(own.turns[place]), rank, place) for place in at.tolist()]


def _places(rank: int, turns: Times, cuts: Sequence[tuple[int, int, int]]) -> list[int]:
    """Return where the pieces of a stream begin, and its end; of equal turns the stream of lower rank goes first."""
    if not cuts:
        return [0, len(turns)]
    when, whose, place = np.array(cuts).T
    later = np.searchsorted(turns, when, side="right")
    at = np.where(whose < rank, np.searchsorted(turns, when), np.where(whose > rank, later, place))
    return [0, *np.maximum.accumulate(at).tolist(), len(turns)]


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]

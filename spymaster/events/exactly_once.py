"""Which rows of a partition are one event delivered again, and which are events of their own.

Equal content proves nothing: venues do print twice what cannot be told apart. So deliveries are *counted*: within a
capture the n-th row with an identity has occurrence n, and of each (identity, occurrence) one row is kept across
captures, the first by (`ts_recv_ns`, `capture_id`, `capture_seq`). That is exact wherever some capture holds all of a
group of equal events. Where each capture that has them begins or ends just there, none is known to hold them all, and
what is removed counts as *unproven*.

Equal events share their identity time, so only runs of one time need a look at the other columns, and a partition, as
well as any span of identity times in it, is a closed unit.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.events.identity import Identity

_FIRST_COLUMNS: Final = 5  # down to seq: they spare most rows a look at all of a book

Numbers = NDArray[np.int64]


class Edges(NamedTuple):
    """The identity times at which a capture is cut in this partition; None where it goes on before or after."""

    begin_ns: int | None
    end_ns: int | None


class Once(NamedTuple):
    """What of a partition's rows is kept.

    Attributes:
        kept: row numbers, by `ts_event_ns`, ties by (`ts_recv_ns`, `capture_id`, `capture_seq`).
        occurrence: of each kept row, counted from 1.
        removed: row numbers of what was delivered again.
        unproven: how many of the removed are not known to be the same event as a kept one.
    """

    kept: Numbers
    occurrence: NDArray[np.int32]
    removed: Numbers
    unproven: int

    @property
    def repeats(self) -> int:
        """Kept rows that another kept row equals: genuine events that a key would have deleted."""
        return int(np.count_nonzero(self.occurrence > 1))


class _Group(NamedTuple):
    """Rows that share their identity with another row, and which of the groups each is in."""

    rows: Numbers
    group: Numbers


def keep_once(rows: pa.Table, identity: Identity, edges: Mapping[int, Edges]) -> Once:
    """Decide which rows to keep.

    Args:
        rows: with `ts_event_ns`, `ts_recv_ns`, `capture_id`, `capture_seq`; all that share an identity time.
        identity: of these rows.
        edges: where captures are cut; one that is not named goes on before and after.
    """
    stamps, received, captures, numbers = (
        rows[name].to_numpy() for name in ("ts_event_ns", "ts_recv_ns", "capture_id", "capture_seq")
    )
    occurrence = np.ones(rows.num_rows, np.int32)
    removed = np.zeros(rows.num_rows, bool)
    unproven = 0
    equal = _equal_rows(identity)
    if len(equal.rows):
        order = np.lexsort((numbers[equal.rows], captures[equal.rows], equal.group))
        same, group = equal.rows[order], equal.group[order]
        occurrence[same] = _position_in_run(group, captures[same]) + 1
        order = np.lexsort((numbers[same], captures[same], received[same], occurrence[same], group))
        same, group = same[order], group[order]
        again = _position_in_run(group, occurrence[same]) > 0
        removed[same[again]] = True
        if again.any():
            whole = _is_whole(identity.time_ns[same], captures[same], edges)
            proven = np.zeros(int(group[-1]) + 1, bool)
            proven[group[whole]] = True
            unproven = int(np.count_nonzero(again & ~proven[group]))
    kept = np.flatnonzero(~removed)
    kept = kept[ordered(stamps[kept], received[kept], captures[kept], numbers[kept])]
    return Once(kept, occurrence[kept], np.flatnonzero(removed), unproven)


def ordered(first: Numbers, *ties: Numbers) -> Numbers:
    """Return the order by `first`, then by the ties. Quick where `first` is nearly sorted and seldom equal."""
    order = np.argsort(first, kind="stable") if np.any(first[1:] < first[:-1]) else np.arange(len(first))
    run = _in_runs(first[order])
    if run.any():
        among = order[run]
        order[run] = among[np.lexsort((*(tie[among] for tie in reversed(ties)), first[among]))]
    return order


def _equal_rows(identity: Identity) -> _Group:
    """Return the rows whose identity another row has, grouped by it."""
    stamps = identity.time_ns
    columns = [stamps, *identity.numbers()]
    order = np.argsort(stamps, kind="stable") if np.any(stamps[1:] < stamps[:-1]) else np.arange(len(stamps))
    among = order[_in_runs(stamps[order])]
    among = among[_recurring(_hash([column[among] for column in columns[:_FIRST_COLUMNS]]))]
    if not len(among):
        return _Group(among, among)
    keys = [column[among] for column in columns]
    hashed = _hash(keys)
    order = np.argsort(hashed, kind="stable")
    alike = hashed[order[1:]] == hashed[order[:-1]]
    one, other = order[1:][alike], order[:-1][alike]
    if any(np.any(key[one] != key[other]) for key in keys):  # two identities with one hash
        order = np.lexsort(keys)
        alike = np.logical_and.reduce([key[order[1:]] == key[order[:-1]] for key in keys])
    group = np.concatenate([[0], np.cumsum(~alike)])
    paired = _in_runs(group)
    return _Group(among[order[paired]], group[paired])


def _recurring(hashed: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether another value equals each."""
    order = np.argsort(hashed, kind="stable")
    recurring = np.empty(len(hashed), bool)
    recurring[order] = _in_runs(hashed[order])
    return recurring


def _hash(keys: list[Numbers]) -> NDArray[np.uint64]:
    """Mix columns into one number a row, so that sorting by all of them is mostly sorting by it."""
    mixed = np.zeros(len(keys[0]), np.uint64)
    for key in keys:
        mixed ^= key.view(np.uint64)
        mixed *= np.uint64(0x9E3779B97F4A7C15)  # wraps around, as it should
        mixed ^= mixed >> np.uint64(32)
    return mixed


def _in_runs(values: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each of some sorted values equals a neighbour."""
    run = np.zeros(len(values), bool)
    same = values[1:] == values[:-1]
    run[1:] |= same
    run[:-1] |= same
    return run


def _position_in_run(*columns: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return each row's place, from 0, among its neighbours with the same values."""
    places = np.arange(len(columns[0]))
    begins = np.ones(len(places), bool)
    begins[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return (places - np.maximum.accumulate(np.where(begins, places, 0))).astype(np.int32)


def _is_whole(times: Numbers, captures: Numbers, edges: Mapping[int, Edges]) -> NDArray[np.bool_]:
    """Whether the capture of each row goes on before and after the row's time, so that it holds all of its group."""
    whole = np.ones(len(times), bool)
    for capture_id, edge in edges.items():
        own = captures == capture_id
        if edge.begin_ns is not None:
            whole &= ~own | (times > edge.begin_ns)
        if edge.end_ns is not None:
            whole &= ~own | (times < edge.end_ns)
    return whole

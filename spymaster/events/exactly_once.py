"""Which rows of a partition are one event delivered again, which are events of their own, and which row is kept.

Equal content proves nothing: venues do print twice what cannot be told apart. So deliveries are *counted*. Within a
capture nothing is removed: its n-th row with a key has occurrence n. Rows with the richer key are one event where key
and occurrence are equal. Of rows that have only the poorer key, those are events of their own whose occurrence is
greater than the number of richer events with that poorer key; a capture's rows with the richer key come first in its
count. So an event is never counted twice, and where some capture holds all of a group, none is missing. Where each
capture that has them begins or ends just there, none is known to hold them all, and what is removed counts as
*unproven*, unless a number that the vendor documents as unique joined it.

The row that is kept is one row, whole: live before a file's, one that names its instrument before one that does not,
then the first that came; of files the one whose capture began last.

Equal events share their identity time, so only runs of one time need a look at the other columns, and a partition, as
well as any span of identity times in it, is a closed unit.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.events.identity import filled
from spymaster.events.sameness import Keys
from spymaster.events.schema import EventSchema

_FIRST_COLUMNS: Final = 5  # they spare most rows a look at all of a book
_NO_ROW: Final = -1
_ARRIVAL: Final = ["ts_recv_ns", "ts_local_ns", "capture_id", "capture_seq"]
_UNKNOWN: Final = -(2**63 - 1)  # when a capture began of which no row says so

Numbers = NDArray[np.int64]


class Edges(NamedTuple):
    """The identity times at which a capture is cut in this partition; None where it goes on before or after."""

    begin_ns: int | None
    end_ns: int | None


class Once(NamedTuple):
    """What of a partition's rows is kept.

    Attributes:
        kept: row numbers, by `ts_event_ns`, ties by (`ts_recv_ns`, `capture_id`, `capture_seq`).
        removed: row numbers of what was delivered again.
        kept_for: of each removed row, the row number of its event's kept row.
        late: of each kept row, the row of the file that was captured last and has its event; -1 for none.
        unproven: how many of the removed are not known to be the same event as a kept one.
        repeated_numbers: kept rows whose documented number another kept row of one delivery has too.
    """

    kept: Numbers
    removed: Numbers
    kept_for: Numbers
    late: Numbers
    unproven: int
    repeated_numbers: int


class _Group(NamedTuple):
    """Rows that share their poorer key with another row, and which of the groups each is in."""

    rows: Numbers
    group: Numbers


class _Events(NamedTuple):
    """Which event each of some rows is of, and which occurrence of its key within its capture."""

    event: Numbers
    occurrence: Numbers


def keep_once(
    schema: EventSchema, rows: pa.Table, keys: Keys, edges: Mapping[int, Edges], begins: Mapping[int, int]
) -> Once:
    """Decide which rows to keep.

    Args:
        schema: of the rows.
        rows: with `sameness.columns_of`; all that share an identity time.
        keys: of these rows.
        edges: where captures are cut; one that is not named goes on before and after.
        begins: when the captures of files began, UTC nanoseconds; one that is not named counts as the first.
    """
    places = np.arange(rows.num_rows)
    from_file = rows["ts_local_ns"].is_null().to_numpy()
    kept_for, late = places.copy(), np.where(from_file, places, _NO_ROW)
    unproven = repeated_numbers = 0
    same, group = _equal_rows(keys)
    if len(same):
        own = rows.select(_ARRIVAL).append_column("name", rows[str(schema.identity[0])]).take(same)
        found = _events_of(keys, same, group, own)
        began = _began(own, begins)
        poorer = np.zeros(len(same), bool) if keys.has_richer is None else ~keys.has_richer[same]
        order = np.lexsort((*reversed(_preference(own, began, poorer)), found.event))
        kept_for[same[order]] = same[order][_first_of_run(found.event[order])]
        late[same] = _latest_file(same, found.event, own, began)
        again = kept_for[same] != same
        whole = np.zeros(int(group.max()) + 1, bool)
        whole[group[_is_whole(keys.time_ns[same], own["capture_id"].to_numpy(), edges)]] = True
        unproven = int(np.count_nonzero(again & ~whole[group] & ~keys.unique[same]))
        repeated_numbers = int(np.count_nonzero(~again & keys.unique[same] & (found.occurrence > 1)))
    kept, removed = np.flatnonzero(kept_for == places), np.flatnonzero(kept_for != places)
    ties = ("ts_event_ns", "ts_recv_ns", "capture_id", "capture_seq")
    kept = kept[ordered(*(rows[name].to_numpy()[kept] for name in ties))]
    return Once(kept, removed, kept_for[removed], late[kept], unproven, repeated_numbers)


def _events_of(keys: Keys, same: Numbers, group: Numbers, own: pa.Table) -> _Events:
    """Say which event each row is of, from the occurrence of its key within its capture."""
    captures, numbers = own["capture_id"].to_numpy(), own["capture_seq"].to_numpy()
    if keys.has_richer is None:
        occurrence = _occurrence(group, captures, numbers)
        return _Events(_number(group, occurrence), occurrence)
    richer = keys.has_richer[same]
    of_richer = _number(group, richer, *(np.where(richer, column[same], 0) for column in keys.richer))
    occurrence = _occurrence(of_richer, captures, numbers)
    poor = np.flatnonzero(~richer)
    # A capture's rows with the richer key come first in its count of the poorer one.
    own_group = _number(group, captures)
    occurrence[poor] += np.bincount(own_group[richer], minlength=len(same))[own_group[poor]]
    # Numbered in the order of their groups, then of what they have more: the n-th of a group takes its n-th poorer row.
    event = _number(group, of_richer, occurrence)
    events, at = np.unique(event[richer], return_index=True)
    first, many = _runs(group[richer][at], len(same))
    own_event = len(same) + _number(group[poor], occurrence[poor])
    absorbed = occurrence[poor] <= many[group[poor]]
    taken = events[(first[group[poor]] + occurrence[poor] - 1)[absorbed]]
    event[poor] = own_event
    event[poor[absorbed]] = taken
    return _Events(event, occurrence)


def _occurrence(key: Numbers, captures: Numbers, numbers: Numbers) -> Numbers:
    """Return which row with its key each row is within its capture, from 1."""
    order = np.lexsort((numbers, captures, key))
    occurrence = np.empty(len(order), np.int64)
    occurrence[order] = _position_in_run(key[order], captures[order]) + 1
    return occurrence


def _number(*columns: NDArray[np.generic]) -> Numbers:
    """Number the distinct rows of some columns, in their order."""
    order = np.lexsort(columns[::-1])
    begins = np.zeros(len(order), bool)
    begins[1:] = np.logical_or.reduce([column[order[1:]] != column[order[:-1]] for column in columns])
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(begins)
    return numbers


def _runs(values: Numbers, size: int) -> tuple[Numbers, Numbers]:
    """Return of each number below `size` where it first stands in some sorted values, and how often."""
    return np.searchsorted(values, np.arange(size)), np.bincount(values, minlength=size)


def _first_of_run(values: Numbers) -> Numbers:
    """Return for each of some sorted values where its run begins."""
    begins = np.ones(len(values), bool)
    begins[1:] = values[1:] != values[:-1]
    return np.maximum.accumulate(np.where(begins, np.arange(len(values)), 0))


def _began(own: pa.Table, begins: Mapping[int, int]) -> Numbers:
    """Return when each row's capture began."""
    captures, of_row = np.unique(own["capture_id"].to_numpy(), return_inverse=True)
    return np.array([begins.get(capture_id, _UNKNOWN) for capture_id in captures.tolist()], np.int64)[of_row]


def _preference(own: pa.Table, began: Numbers, poorer: NDArray[np.bool_]) -> list[NDArray[np.generic]]:
    """Return columns by which the rows of one event are sorted: the first is kept."""
    from_file = own["ts_local_ns"].is_null().to_numpy()
    arrived = filled(own["ts_local_ns"], 0)
    received = own["ts_recv_ns"].to_numpy()
    return [
        poorer, from_file, own["name"].is_null().to_numpy(), np.where(from_file, -began, arrived),
        np.where(from_file, 0, received), own["capture_id"].to_numpy(), own["capture_seq"].to_numpy(),
    ]  # fmt: skip


def _latest_file(same: Numbers, event: Numbers, own: pa.Table, began: Numbers) -> Numbers:
    """Return of each row the row of the file captured last that has its event; -1 where no file has it."""
    files = np.flatnonzero(own["ts_local_ns"].is_null().to_numpy())
    captures, numbers = own["capture_id"].to_numpy(), own["capture_seq"].to_numpy()
    order = files[np.lexsort((numbers[files], captures[files], -began[files], event[files]))]
    in_files, at = np.unique(event[order], return_index=True)
    if not len(order):
        return np.full(len(same), _NO_ROW)
    place = np.minimum(np.searchsorted(in_files, event), len(in_files) - 1)
    return np.where(in_files[place] == event, same[order[at]][place], _NO_ROW)


def occurrence_of(time_ns: Numbers, ids: pa.Array) -> NDArray[np.int32]:
    """Number the rows that share an `event_id`, from 1, in the order in which they stand.

    Args:
        time_ns: the identity time of each row, which is part of its id.
        ids: 16 bytes each.
    """
    order = np.argsort(time_ns, kind="stable") if np.any(time_ns[1:] < time_ns[:-1]) else np.arange(len(time_ns))
    among = order[_in_runs(time_ns[order])]
    halves = np.frombuffer(memoryview(ids.buffers()[1] or b""), np.int64, 2 * len(ids)).reshape(-1, 2)[among]
    occurrence = np.ones(len(time_ns), np.int32)
    values = np.sort(halves[:, 0])  # which finds out that none recurs, as is usual, in a fifth of the time
    if (again := values[1:][values[1:] == values[:-1]]).size:
        recurs = np.isin(halves[:, 0], again)
        among, halves = among[recurs], halves[recurs]
        alike = np.lexsort((halves[:, 1], halves[:, 0]))  # stable, so that equal ones keep their order
        occurrence[among[alike]] += _position_in_run(halves[alike, 0], halves[alike, 1])
    return occurrence


def ordered(first: Numbers, *ties: Numbers) -> Numbers:
    """Return the order by `first`, then by the ties. Quick where `first` is nearly sorted and seldom equal."""
    order = np.argsort(first, kind="stable") if np.any(first[1:] < first[:-1]) else np.arange(len(first))
    run = _in_runs(first[order])
    if run.any():
        among = order[run]
        order[run] = among[np.lexsort((*(tie[among] for tie in reversed(ties)), first[among]))]
    return order


def _equal_rows(keys: Keys) -> _Group:
    """Return the rows whose poorer key another row has, grouped by it."""
    stamps = keys.time_ns
    columns = [stamps, *keys.key]
    order = np.argsort(stamps, kind="stable") if np.any(stamps[1:] < stamps[:-1]) else np.arange(len(stamps))
    among = order[_in_runs(stamps[order])]
    among = among[_recurring(_hash([column[among] for column in columns[:_FIRST_COLUMNS]]))]
    if not len(among):
        return _Group(among, among)
    values = [column[among] for column in columns]
    hashed = _hash(values)
    order = np.argsort(hashed, kind="stable")
    alike = hashed[order[1:]] == hashed[order[:-1]]
    one, other = order[1:][alike], order[:-1][alike]
    if any(np.any(value[one] != value[other]) for value in values):  # two keys with one hash
        order = np.lexsort(values)
        alike = np.logical_and.reduce([value[order[1:]] == value[order[:-1]] for value in values])
    group = np.concatenate([[0], np.cumsum(~alike)])
    paired = _in_runs(group)
    return _Group(among[order[paired]], _number(group[paired]))


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

"""The snaps of a session as `system.snaps` has them: each begins with a start, and goes on through restarts.

Another profile, or other code, begins another chain; the newest is the session's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.engines.session import Session
from spymaster.events.snaps import START, STOP, WARM
from spymaster.query.as_seen import Longs, Track
from spymaster.query.lake import Lake
from spymaster.signals.begun import Begun, begun_of

_QUERY: Final = """
    select snap_ns, mark, of_schema, of_capture_id, last_seq, newest_ns, begun
    from system_snaps
    where profile = ? and snap_ns >= ? and snap_ns < ? and date between ? and ?
    order by ts_recv_ns, capture_id, capture_seq
"""
_NEVER: Final = -(2**63)


class Chain(NamedTuple):
    """The snaps of one judge, k of them, through restarts.

    Attributes:
        begun: what the judge was begun with.
        snap_ns: their times, ascending.
        warm: which of them were not published.
        stops: the numbers of snaps behind which the judge had ended.
        tracks: by schema and capture id.
        newest_ns: as of each snap, the highest event time of all rows that had left.
    """

    begun: Begun
    snap_ns: Longs
    warm: NDArray[np.bool_]
    stops: frozenset[int]
    tracks: Mapping[tuple[str, int], Track]
    newest_ns: Longs


def chains_of(data_root: Path, wal_root: Path, profile: str, session: Session) -> list[Chain]:
    """Return a session's chains, the newest last; none where no snap was recorded, as of a day that was backfilled.

    Args:
        data_root: the lake.
        wal_root: its log.
        profile: by whose numbers they were judged.
        session: the session.

    Raises:
        SpymasterError, OSError: log or lake cannot be read.
    """
    first, last = (str(np.datetime64(at, "ns").astype("datetime64[D]")) for at in (session.begin_ns, session.end_ns))
    given = [profile, session.begin_ns, session.end_ns, first, last]
    with Lake(data_root, wal_root) as lake, lake.stream(_QUERY, given) as batches:
        rows = batches.read_all()
    begins = np.flatnonzero(pc.equal(rows["mark"], pa.scalar(START)).to_numpy(zero_copy_only=False))
    ends = [*begins[1:].tolist(), rows.num_rows][: len(begins)]
    return [_chain(rows.slice(begin, end - begin)) for begin, end in zip(begins.tolist(), ends, strict=True)]


def _chain(rows: pa.Table) -> Chain:
    """Make a chain of its rows, of which the start is the first."""
    begun, rows = begun_of(rows["begun"][0].as_py()), rows.slice(1)
    stop = pc.equal(rows["mark"], pa.scalar(STOP)).to_numpy(zero_copy_only=False)
    before = rows.filter(pa.array(~stop))
    snap_ns: Longs = before["snap_ns"].to_numpy()
    first = np.append(True, snap_ns[1:] != snap_ns[:-1])[: len(snap_ns)]
    number = np.cumsum(first) - 1
    warm: Any = pc.equal(before["mark"], pa.scalar(WARM)).to_numpy(zero_copy_only=False)
    behind = np.cumsum(~stop)[stop] - 1  # of a stop, the row before it
    newest = np.full(int(first.sum()), _NEVER)
    found: Any = pc.fill_null(before["newest_ns"], pa.scalar(_NEVER))
    np.maximum.at(newest, number, found.to_numpy())
    return Chain(
        begun,
        snap_ns[first],
        warm[first],
        frozenset(number[behind[behind >= 0]].tolist()),
        _tracks(before, number),
        np.maximum.accumulate(newest),
    )


def _tracks(rows: pa.Table, number: Longs) -> dict[tuple[str, int], Track]:
    moved = rows["of_schema"].is_valid().to_numpy(zero_copy_only=False)
    rows, number = rows.filter(pa.array(moved)), number[moved]
    schemas = rows["of_schema"].combine_chunks().dictionary_encode()
    names, codes = schemas.dictionary.to_pylist(), schemas.indices.to_numpy()
    captures, last_seq = rows["of_capture_id"].to_numpy(), rows["last_seq"].to_numpy()
    found = {}
    for code, capture in np.unique(np.stack([codes.astype(np.int64), captures]), axis=1).T.tolist():
        mine = (codes == code) & (captures == capture)
        found[names[code], capture] = Track(number[mine], last_seq[mine])
    return found

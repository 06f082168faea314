"""What a judged session's data sets are made of, told by a listing: whether it changed must not take a pass to say.

    the numbers, and the code that judges
    the parts of the judge's streams
    the snaps on record; where there are none, the parts of the sessions before too, which it takes something over from:
    they say which contract leads, what is named after the session before, and what is typical
    of the log, the newest row of each capture in the session
    the gaps that reach into the session

So rows that came late change their own session, and those after it that rest on it.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster import clock, events
from spymaster.engines.judge import Judge
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.events import SYSTEM_GAPS, Stream
from spymaster.events.schema import WILDCARD
from spymaster.lake import layout, silver
from spymaster.lake.layout import Within
from spymaster.query.lake import Lake
from spymaster.query.stretches import span_of
from spymaster.signals.begun import code_hash
from spymaster.signals.datasets.judged import MADE
from spymaster.signals.earlier import sessions_before
from spymaster.signals.feed import streams_of
from spymaster.wal.reader import read_log

Longs = NDArray[np.int64]
_BEFORE: Final = 3  # sessions whose closes make up the longest average
_SNAPS: Final = """
    select count(*), max(snap_ns), max(ts_recv_ns) from system_snaps
    where profile = ? and snap_ns >= ? and snap_ns < ? and date between ? and ?
"""


class Inputs:
    """What the sessions of one profile are made of, as log and lake are when it is begun."""

    def __init__(self, data_root: Path, wal_root: Path, profile: Profile, lake: Lake) -> None:
        """Read which of the log's rows are whose, and the gaps.

        Args:
            data_root: the lake.
            wal_root: its log.
            profile: the numbers.
            lake: the same two, open, for as long as digests are asked for.

        Raises:
            SpymasterError, OSError: log or lake cannot be read.
        """
        self._data_root, self._profile, self._lake = data_root, profile, lake
        streams = streams_of(profile, Judge(profile, (), ""))
        self._streams = [stream for stream in streams if stream.schema != SYSTEM_GAPS.name]
        self._logged = {stream: _logged(wal_root, stream) for stream in self._streams}
        gaps: pa.Table = lake.sql("select * from system_gaps order by capture_id, capture_seq").to_arrow_table()
        roots, schemas = {stream.symbol for stream in streams} | {WILDCARD}, {stream.schema for stream in self._streams}
        named = zip(gaps["of_schema"].to_pylist(), gaps["of_symbol"].to_pylist(), strict=True)
        self._gaps = gaps.filter(pa.array([schema in schemas and of in roots for schema, of in named], pa.bool_()))

    def digest(self, session: Session) -> str:
        """Return what tells a session's inputs from others.

        Raises:
            SpymasterError, OSError: log or lake cannot be read.
        """
        versions = [(each.columns.metadata or {})[b"schema_version"].decode() for each in MADE]
        found = hashlib.sha256(f"{self._profile.profile_hash} {code_hash()} {versions} {session}\n".encode())
        snaps = self._snaps(session)
        recorded = snaps[0] > 0
        lines = *self._parts(session, before=not recorded), *self._rows(session), *self._known_gaps(session)
        for line in (f"snaps {snaps}", *lines):
            found.update(f"{line}\n".encode())
        return found.hexdigest()

    def _snaps(self, session: Session) -> tuple[int, int | None, int | None]:
        """Return how many rows are on record of a session's snaps, and the newest by their time and by our clock."""
        dates = (clock.utc_text(at)[:10] for at in (session.begin_ns, session.end_ns))
        given = [self._profile.name, session.begin_ns, session.end_ns, *dates]
        ((count, snap_ns, recv_ns),) = self._lake.execute(_SNAPS, given).fetchall()
        return count, snap_ns, recv_ns

    def _parts(self, session: Session, *, before: bool) -> Iterator[str]:
        count = max(self._profile.typical.seed_sessions, _BEFORE) if before else 0
        past = [earlier for earlier, _ in islice(sessions_before(session, self._profile), count)]
        first_ns = min(one.begin_ns for one in (session, *past))
        first, last = (clock.utc_text(at)[:13] for at in (first_ns, session.end_ns - 1))
        for stream in self._streams:
            schema, within = events.SCHEMAS[stream.schema], Within(stream.symbol, first, last)
            for own in layout.partitions(self._data_root, schema, within):
                for part in silver.bronze_parts(self._data_root, own):
                    yield f"{own.folder}/{part.name}"

    def _rows(self, session: Session) -> Iterator[str]:
        for stream, (ts_ns, capture, seq) in self._logged.items():
            mine = (session.begin_ns <= ts_ns) & (ts_ns < session.end_ns)
            for own in np.unique(capture[mine]).tolist():
                numbers = seq[mine & (capture == own)]
                yield f"log {stream} {own} {len(numbers)} {int(numbers.max())}"

    def _known_gaps(self, session: Session) -> Iterator[str]:
        begin, end = span_of(self._gaps)
        here = (begin < session.end_ns) & (session.begin_ns < end)
        for row in self._gaps.filter(pa.array(here)).select(["capture_id", "capture_seq"]).to_pylist():
            yield f"gap {row['capture_id']} {row['capture_seq']}"


def _logged(wal_root: Path, stream: Stream) -> tuple[Longs, Longs, Longs]:
    """Return event time, capture and number of the log's rows of a stream."""
    schema = events.SCHEMAS[stream.schema]

    def wanted(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.equal(rows[schema.partition_by], pa.scalar(stream.symbol)))

    rows = read_log(wal_root, schema, wanted)
    ts_ns, capture, seq = (rows[name].to_numpy() for name in ("ts_event_ns", "capture_id", "capture_seq"))
    return ts_ns, capture, seq

"""What each snap of a session had, read again from log and lake, and the key of each of these rows.

The rows are those that the judge had: by recorded positions, or by when they were known; and `Intake`, the engines'
own, says which of them count for which snap. A row bears its place there, the how manieth of its schema it is, where
`capture_seq` stands otherwise: two captures may be put in an order there that is not that of their ids.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.engines.intake import AHEAD_NS, Intake, Piece
from spymaster.engines.judge import Judge
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.events import FUTURES_MBP10, OPTIONS_TRADES, SYSTEM_GAPS, Stream
from spymaster.query.as_seen import AsSeen, Track
from spymaster.query.recorded import Recorded
from spymaster.query.stretches import Bounds
from spymaster.signals.chain import Chain
from spymaster.signals.feed import Roots, streams_of

TRACED: Final = (FUTURES_MBP10.name, OPTIONS_TRADES.name)  # whose rows are named: 16 bytes each are kept

Longs = NDArray[np.int64]


class Key(NamedTuple):
    """Which row of a schema."""

    capture_id: int
    capture_seq: int


class Keys:
    """The keys of rows by their places. Memory: 16 bytes a row of TRACED."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._firsts: dict[str, list[int]] = {name: [] for name in TRACED}
        self._keys: dict[str, list[tuple[Longs, Longs]]] = {name: [] for name in TRACED}

    def placed(self, schema: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with their places, as they are read."""
        first = self._counts.get(schema, 0)
        self._counts[schema] = first + batch.num_rows
        if schema in TRACED:
            self._firsts[schema].append(first)
            self._keys[schema].append((batch["capture_id"].to_numpy(), batch["capture_seq"].to_numpy()))
        at = batch.schema.get_field_index("capture_seq")
        places = pa.array(np.arange(first, first + batch.num_rows))
        return batch.set_column(at, batch.schema.field(at), places)

    def of(self, schema: str, place: int) -> Key:
        """Return the key of a row of TRACED."""
        at = int(np.searchsorted(self._firsts[schema], place, side="right")) - 1
        captures, numbers = self._keys[schema][at]
        row = place - self._firsts[schema][at]
        return Key(int(captures[row]), int(numbers[row]))


def pieces(
    roots: Roots, profile: Profile, session: Session, contract: str, chain: Chain | None, until_ns: int, keys: Keys
) -> Iterator[Piece]:
    """Yield what each snap of a session had, up to one.

    Args:
        roots: lake and log.
        profile: the numbers.
        session: the session.
        contract: its front month.
        chain: the snaps on record; None where the rule of known time decides.
        until_ns: the last snap.
        keys: gets those of the rows.

    Raises:
        WalError: the log cannot be read.
        LayoutError: a file in the lake cannot be.
    """
    judge = Judge(profile, [session], contract)
    stock = None if profile.book.ratio_s is None else profile.market.underlying
    intake = Intake(profile.book.symbol, stock)
    intake.snap_ns = session.begin_ns - SNAP_NS
    streams = streams_of(profile, judge)
    if chain is None:
        yield from _by_known_time(roots, streams, session, until_ns, intake, keys)
        return
    last = int(np.searchsorted(chain.snap_ns, until_ns, side="right"))
    tracks = {
        key: Track(track.at[track.at < last], track.last_seq[track.at < last])
        for key, track in chain.tracks.items()
        if any((stream.schema == key[0]) for stream in streams) and track.at[0] < last
    }
    rows = AsSeen(*roots, streams, (session.begin_ns, session.end_ns), tracks, chain.newest_ns[:last])
    for number, batches in rows.snaps():
        for stream, batch in batches:
            _put(intake, stream, batch, keys)
        yield intake.snap(int(chain.snap_ns[number]))


def _by_known_time(
    roots: Roots, streams: list[Stream], session: Session, until_ns: int, intake: Intake, keys: Keys
) -> Iterator[Piece]:
    rows = Recorded(*roots, streams, Bounds(session.begin_ns, session.end_ns, {}, {}))
    for stream, batch in rows.batches():
        sound = _sound(stream, batch)
        for piece in intake.take(stream, keys.placed(stream.schema, sound)):
            if piece.snap_ns > until_ns:
                return
            yield piece


def _put(intake: Intake, stream: Stream, batch: pa.RecordBatch, keys: Keys) -> None:
    intake.put(stream, keys.placed(stream.schema, _sound(stream, batch)))


def _sound(stream: Stream, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows whose time can be; the others count for nothing."""
    if stream.schema == SYSTEM_GAPS.name:
        return batch
    sound = batch["ts_event_ns"].to_numpy() - AHEAD_NS <= batch["ts_recv_ns"].to_numpy()
    return batch if sound.all() else batch.filter(pa.array(sound))

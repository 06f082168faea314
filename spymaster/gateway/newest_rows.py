"""The newest rows that a level's score rests on: prints and book changes of the newest minute, from the bus.

What counts, as of the newest snap, is what the engines take (`explain` has the whole of it):

    barrier    book updates at a price of the level's zone, on its side
    tape       prints of the contract in the tape's window
    fuel       option prints whose strike is near the level
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.bus import Published
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.profile import Profile
from spymaster.engines.rows import values_of
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, OPTIONS_TRADES, Stream

COMPONENTS: Final = ("all", "barrier", "tape", "fuel")
KEPT_S: Final = 60
MOST_BYTES: Final = 48 << 20  # kept; beyond, the oldest go
PIECES: Final = 16  # of those bytes at least: a second that has more is more than one piece
MOST_BATCHES: Final = 1_000  # of a piece: to join them holds the loop up for some ms
MOST_ROWS: Final = 60  # of an answer
MOST_LOOKED_AT: Final = 200_000  # rows of a component: some 20 ms in a thread
_SCHEMAS: Final = {"barrier": FUTURES_MBP10.name, "tape": FUTURES_TRADES.name, "fuel": OPTIONS_TRADES.name}
_COMMON: Final = ("ts_event_ns", "capture_id", "capture_seq", "price", "size")
_SHOWN: Final = {
    "barrier": ("action", "side", "depth"),
    "tape": ("aggressor",),
    "fuel": ("aggressor", "strike", "right"),
}
_LOOKED_AT: Final = {
    FUTURES_MBP10.name: [*_COMMON, "contract", *_SHOWN["barrier"]],
    FUTURES_TRADES.name: [*_COMMON, "contract", *_SHOWN["tape"]],
    OPTIONS_TRADES.name: [*_COMMON, "underlying", *_SHOWN["fuel"]],
}
_SIDES: Final = {"bid": "B", "ask": "A"}
_Choice = Callable[[pa.RecordBatch], NDArray[np.bool_]]


class Place(NamedTuple):
    """Where rows of a level are looked for.

    Attributes:
        contract: whose book is judged.
        snap_ns: the newest snap.
        zone: lowest and highest price of the zone, in the book's unit; None where the barrier is void.
        side: bid or ask.
        price: of the level, in the underlying's unit.
    """

    contract: str
    snap_ns: int
    zone: tuple[float, float] | None
    side: str | None
    price: float


def place_of(profile: Profile, contract: str, snap_ns: int, level: pa.RecordBatch) -> Place:
    """Return where rows of a level are looked for.

    Args:
        profile: that it was judged by.
        contract: whose book.
        snap_ns: the snap.
        level: its row, of SIGNALS.
    """
    said = {
        name: level.column(name)[0].as_py() for name in ("price", "barrier_side", "zone_ticks", "level_void_reason")
    }
    side, begin, zone = said["barrier_side"], said["zone_ticks"], None
    if said["level_void_reason"] is None and side is not None and begin is not None:
        end = begin + (profile.barrier.zone_ticks - 1) * (1 if side == "ask" else -1)
        zone = (min(begin, end) * profile.book.tick, max(begin, end) * profile.book.tick)
    return Place(contract, snap_ns, zone, side, said["price"])


class _Second:
    """Rows of a stream while a second of them is collected; whole batches until they are joined."""

    def __init__(self, stream: Stream, begin_ns: int) -> None:
        self.stream, self._begin_ns, self.newest_ns = stream, begin_ns, begin_ns
        self._batches: list[pa.RecordBatch] = []
        self.bytes = 0

    def add(self, batch: pa.RecordBatch, newest_ns: int) -> int:
        """Keep a batch; return about what it holds, which until it is joined is the columns that are left out too."""
        size = batch.num_rows * (500 if self.stream.schema == FUTURES_MBP10.name else 150)
        self._batches.append(batch.select(_LOOKED_AT[self.stream.schema]))
        self.newest_ns = max(self.newest_ns, newest_ns)
        self.bytes += size
        return size

    @property
    def is_whole(self) -> bool:
        """Whether the next rows begin another."""
        is_much = self.bytes > MOST_BYTES // PIECES or len(self._batches) >= MOST_BATCHES
        return is_much or self.newest_ns - self._begin_ns >= NS_PER_SECOND

    def joined(self) -> Published:
        """Return its rows as one batch, which it has from then on: a copy, so that the others' memory goes."""
        if len(self._batches) > 1:
            self._batches = [pa.concat_batches(self._batches)]  # type: ignore[attr-defined]  # the stubs lack it
            self.bytes = self._batches[0].nbytes
        return Published(self.stream, self._batches[0])


class NewestRows:
    """The newest minute of what the engines read of the bus; at most `MOST_BYTES`.

    The bus has some 200 batches a second of a stream. A second of them is joined to one, of the columns that are looked
    at: to filter a minute costs by the batch, not by the row.
    """

    def __init__(self, profile: Profile) -> None:
        """Begin without rows."""
        self._symbols = {
            FUTURES_MBP10.name: {profile.book.symbol, "ALL"},
            FUTURES_TRADES.name: {profile.book.symbol, "ALL"},
            OPTIONS_TRADES.name: {profile.market.underlying, "ALL"},
        }
        self._whole: deque[tuple[Published, int, int]] = deque()  # with the newest time, and its bytes
        self._open: dict[Stream, _Second] = {}
        self._newest_ns = 0
        self._bytes = 0  # of both

    def wants(self, stream: Stream) -> bool:
        """Return whether a stream's rows are kept."""
        return stream.symbol in self._symbols.get(stream.schema, ())

    def take(self, item: Published) -> None:
        """Keep rows as they are published."""
        self._newest_ns = newest_ns = int(item.batch.column("ts_event_ns").to_numpy().max())
        second = self._open.get(item.stream)
        if second is None:
            second = self._open[item.stream] = _Second(item.stream, newest_ns)
        self._bytes += second.add(item.batch, newest_ns)
        if second.is_whole:
            del self._open[item.stream]
            self._whole.append((self._joined(second), second.newest_ns, second.bytes))
        while self._whole and (self._bytes > MOST_BYTES or self._whole[0][1] < self._since_ns):
            self._bytes -= self._whole.popleft()[2]

    @property
    def _since_ns(self) -> int:
        return self._newest_ns - KEPT_S * NS_PER_SECOND

    def _joined(self, second: _Second) -> Published:
        before = second.bytes
        joined = second.joined()
        self._bytes += second.bytes - before
        return joined

    def kept(self) -> list[Published]:
        """Return what is kept, newest first of each stream: for a thread to look through."""
        collecting = [self._joined(second) for second in self._open.values() if second.newest_ns >= self._since_ns]
        return collecting + [item for item, newest_ns, _ in reversed(self._whole) if newest_ns >= self._since_ns]

    @property
    def bytes(self) -> int:
        """What is kept, about."""
        return self._bytes


def rows_behind(profile: Profile, kept: Sequence[Published], place: Place, component: str) -> list[dict[str, Any]]:
    """Return the newest rows of a component, or of all, newest first. For a thread.

    Args:
        profile: that the level is judged by.
        kept: as `NewestRows.kept` returns it.
        place: where the level is.
        component: of `COMPONENTS`.
    """
    found: list[dict[str, Any]] = []
    for name in COMPONENTS[1:] if component == "all" else (component,):
        is_of_it = _chosen(profile, place, name)
        if is_of_it is None:
            continue
        for stream in {item.stream for item in kept if item.stream.schema == _SCHEMAS[name]}:
            found += _of_stream(stream, (batch for of, batch in kept if of == stream), name, is_of_it)
    return sorted(found, key=lambda row: (row["ts_event_ns"], row["capture_seq"]), reverse=True)[:MOST_ROWS]


def _of_stream(
    stream: Stream, batches: Iterator[pa.RecordBatch], component: str, is_of_it: _Choice
) -> Iterator[dict[str, Any]]:
    left, looked_at = MOST_ROWS, 0
    for batch in batches:
        looked_at += batch.num_rows
        rows = batch.filter(pa.array(is_of_it(batch)))
        rows = rows.slice(max(rows.num_rows - left, 0))
        for row in reversed(rows.select([*_COMMON, *_SHOWN[component]]).to_pylist()):
            row["capture_id"] = str(row["capture_id"])  # 63 bits are no number of JavaScript's
            yield {"component": component, "stream": str(stream), **row}
        left -= rows.num_rows
        if left <= 0 or looked_at > MOST_LOOKED_AT:
            return


def _chosen(profile: Profile, place: Place, component: str) -> _Choice | None:
    """Return what says which rows are of a component; None where none can be."""
    if component == "fuel":
        return partial(_is_fuel, profile, place)
    if component == "tape":
        return partial(_is_tape, profile, place)
    if place.zone is None or place.side is None:
        return None
    return partial(_is_barrier, profile.book.tick / 2, place.contract, place.zone, _SIDES[place.side])


def _is_fuel(profile: Profile, place: Place, batch: pa.RecordBatch) -> NDArray[np.bool_]:
    reach = (profile.options.near_ticks + 1e-6) * profile.market.tick
    near = np.abs(values_of(batch.column("strike")) - place.price) <= reach
    return near & is_text(batch.column("underlying"), profile.market.underlying)


def _is_tape(profile: Profile, place: Place, batch: pa.RecordBatch) -> NDArray[np.bool_]:
    since_ns = place.snap_ns - profile.tape.window_s * NS_PER_SECOND
    return is_text(batch.column("contract"), place.contract) & (batch.column("ts_event_ns").to_numpy() >= since_ns)


def _is_barrier(
    half: float, contract: str, zone: tuple[float, float], side: str, batch: pa.RecordBatch
) -> NDArray[np.bool_]:
    price = values_of(batch.column("price"))
    inside = (price > zone[0] - half) & (price < zone[1] + half)
    printed = is_text(batch.column("action"), "T")  # a print says its aggressor's side
    return is_text(batch.column("contract"), contract) & inside & (printed | is_text(batch.column("side"), side))


def is_text(column: Any, text: str | None) -> NDArray[np.bool_]:
    """Return which values of a column are this text; a null is none."""
    alike: Any = pc.equal(column, pa.scalar(text, pa.string()))
    found: Any = pc.fill_null(alike, False)
    values: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return values

"""The newest rows that a level's score rests on: prints and book changes of the newest minute, from the bus.

What counts, as of the newest snap, is what the engines take (`explain` has the whole of it):

    barrier    book updates at a price of the level's zone, on its side
    tape       prints of the contract in the tape's window
    fuel       option prints whose strike is near the level
"""

from collections import deque
from collections.abc import Iterator, Sequence
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
MOST_ROWS: Final = 60  # of an answer
MOST_LOOKED_AT: Final = 200_000  # rows of a component: some 20 ms in a thread
_SCHEMAS: Final = {"barrier": FUTURES_MBP10.name, "tape": FUTURES_TRADES.name, "fuel": OPTIONS_TRADES.name}
_COMMON: Final = ("ts_event_ns", "capture_id", "capture_seq", "price", "size")
_SHOWN: Final = {
    "barrier": ("action", "side", "depth"),
    "tape": ("aggressor",),
    "fuel": ("aggressor", "strike", "right"),
}
_SIDES: Final = {"bid": "B", "ask": "A"}


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


class NewestRows:
    """The newest minute of what the engines read of the bus; at most `MOST_BYTES`."""

    def __init__(self, profile: Profile) -> None:
        """Begin without rows."""
        self._profile = profile
        self._symbols = {
            FUTURES_MBP10.name: {profile.book.symbol, "ALL"},
            FUTURES_TRADES.name: {profile.book.symbol, "ALL"},
            OPTIONS_TRADES.name: {profile.market.underlying, "ALL"},
        }
        self._kept: deque[tuple[Published, int, int]] = deque()  # with the newest time, and its bytes
        self._bytes = 0

    def wants(self, stream: Stream) -> bool:
        """Return whether a stream's rows are kept."""
        return stream.symbol in self._symbols.get(stream.schema, ())

    def take(self, item: Published) -> None:
        """Keep rows as they are published."""
        newest_ns = int(item.batch.column("ts_event_ns").to_numpy().max())
        size = item.batch.num_rows * (500 if item.stream.schema == FUTURES_MBP10.name else 150)
        self._kept.append((item, newest_ns, size))
        self._bytes += size
        while self._bytes > MOST_BYTES or self._kept[0][1] < newest_ns - KEPT_S * NS_PER_SECOND:
            self._bytes -= self._kept.popleft()[2]

    def kept(self) -> list[Published]:
        """Return what is kept, newest first: for a thread to look through."""
        return [item for item, _, _ in reversed(self._kept)]

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
    names = COMPONENTS[1:] if component == "all" else (component,)
    found = [row for name in names for row in _of_component(profile, kept, place, name)]
    return sorted(found, key=lambda row: (row["ts_event_ns"], row["capture_seq"]), reverse=True)[:MOST_ROWS]


def _of_component(
    profile: Profile, kept: Sequence[Published], place: Place, component: str
) -> Iterator[dict[str, Any]]:
    left, looked_at = MOST_ROWS, 0
    for stream, batch in kept:
        if stream.schema != _SCHEMAS[component]:
            continue
        looked_at += batch.num_rows
        rows = batch.filter(pa.array(_mine(profile, batch, place, component)))
        rows = rows.slice(max(rows.num_rows - left, 0))
        for row in reversed(rows.select([*_COMMON, *_SHOWN[component]]).to_pylist()):
            row["capture_id"] = str(row["capture_id"])  # 63 bits are no number of JavaScript's
            yield {"component": component, "stream": str(stream), **row}
        left -= rows.num_rows
        if left <= 0 or looked_at > MOST_LOOKED_AT:
            return


def _mine(profile: Profile, batch: pa.RecordBatch, place: Place, component: str) -> NDArray[np.bool_]:
    """Return which rows are of a component."""
    if component == "fuel":
        reach = (profile.options.near_ticks + 1e-6) * profile.market.tick
        near = np.abs(values_of(batch.column("strike")) - place.price) <= reach
        return near & is_text(batch.column("underlying"), profile.market.underlying)
    ours = is_text(batch.column("contract"), place.contract)
    if component == "tape":
        since_ns = place.snap_ns - profile.tape.window_s * NS_PER_SECOND
        return ours & (batch.column("ts_event_ns").to_numpy() >= since_ns)
    if place.zone is None or place.side is None:
        return np.zeros(batch.num_rows, np.bool_)
    low, high = place.zone
    price, half = values_of(batch.column("price")), profile.book.tick / 2
    inside = (price > low - half) & (price < high + half)
    printed = is_text(batch.column("action"), "T")  # a print says its aggressor's side
    return ours & inside & (printed | is_text(batch.column("side"), _SIDES[place.side]))


def is_text(column: Any, text: str | None) -> NDArray[np.bool_]:
    """Return which values of a column are this text; a null is none."""
    alike: Any = pc.equal(column, pa.scalar(text, pa.string()))
    found: Any = pc.fill_null(alike, False)
    values: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return values

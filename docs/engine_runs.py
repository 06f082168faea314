"""What the pictures of docs/engines.md are drawn from: the engines over simulated markets, or over a DBN file.

A run is a function of its arguments, so a picture is the same wherever it is drawn.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.engines.judge import Judge
from spymaster.engines.levels import Zone
from spymaster.engines.profile import profile_named
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS, Stream
from spymaster.events.encoding import Encoding
from spymaster.feeds.dbn_files import DbnFileFeed
from spymaster.normalize.open import normalizer_of
from spymaster.query.sessions import calendar
from spymaster.simulation.deliveries import DbnWriter
from spymaster.simulation.source import SimulatedMarket, dbn_info

TICK: Final = 0.25  # index points
START_NS: Final = 1_766_413_800_000_000_000  # 2025-12-22 14:30 UTC, the open
FRONT: Final = "ESH6"
_DAY: Final = Session("2025-12-22", START_NS, START_NS + NS_PER_DAY // 4, START_NS, START_NS + NS_PER_DAY // 4)
_WORKED: Final = {schema.name for schema in (FUTURES_MBP10, FUTURES_TRADES, REFERENCE_STATUS)}

Floats = NDArray[np.float64]


class Market(NamedTuple):
    """A simulated market and the levels that are put into it.

    Attributes:
        plant: as in `sim:plant=`.
        seed: of it.
        rate: its records a second.
        seconds: how long it is played.
        zones: prices of hot zones, index points; beside them are the session's levels.
    """

    plant: str
    seed: int
    rate: int
    seconds: int
    zones: tuple[float, ...] = ()


class Run:
    """What came out of the engines.

    Attributes:
        snaps: one after another.
        start_ns: from where times are counted.
        truths: what was planted.
    """

    def __init__(self, snaps: Sequence[Snap], start_ns: int, truths: Sequence[dict[str, Any]], books: pa.Table) -> None:
        self.snaps, self.start_ns, self.truths = snaps, start_ns, truths
        self._books = books

    @cached_property
    def rows(self) -> pa.Table:
        """A row for each level and snap."""
        return pa.Table.from_batches([snap.levels for snap in self.snaps])

    def seconds(self, ts_ns: Any) -> Floats:
        """Return times in seconds since the start."""
        return (np.asarray(ts_ns, np.int64) - self.start_ns) / NS_PER_SECOND

    @cached_property
    def times(self) -> Floats:
        """Of the snaps, seconds."""
        return self.seconds([snap.snap_ns for snap in self.snaps])

    @cached_property
    def spot(self) -> Floats:
        """Mid at each snap, index points; NaN where there is none."""
        return np.array([np.nan if snap.spot is None else snap.spot for snap in self.snaps])

    def level(self, price: float) -> "LevelRun":
        """Return what was said of a price, in order."""
        return LevelRun(self, self.rows.filter(pc.equal(self.rows.column("price"), pa.scalar(price))))

    def prints(self) -> dict[str, NDArray[Any]]:
        """Return the book's own prints: `t` in seconds, `price`, `size`, `side` (+1 a buyer, -1 a seller)."""
        rows = self._books
        for name, value in (("action", "T"), ("contract", self.snaps[0].contract)):
            rows = rows.filter(pc.equal(rows.column(name), pa.scalar(value)))
        side = rows.column("side").to_numpy()
        return {
            "t": self.seconds(rows.column("ts_event_ns").to_numpy()),
            "price": rows.column("price").to_numpy(),
            "size": rows.column("size").to_numpy(),
            "side": np.where(side == "B", 1, np.where(side == "A", -1, 0)),
        }


class LevelRun:
    """One level's rows."""

    def __init__(self, run: Run, rows: pa.Table) -> None:
        self.times = run.seconds(rows.column("snap_ns").to_numpy())
        self._run, self._rows = run, rows

    def between(self, begin: float, end: float) -> "LevelRun":
        """Return the rows of some seconds."""
        return LevelRun(self._run, self._rows.filter(pa.array((self.times >= begin) & (self.times <= end))))

    def numbers(self, name: str) -> Floats:
        """Return a column; what is null is NaN."""
        found: Floats = self._rows.column(name).cast(pa.float64()).to_numpy()
        return found

    def words(self, name: str) -> NDArray[Any]:
        """Return a column of words."""
        return np.array(self._rows.column(name).to_pylist(), object)


@cache
def simulated(market: Market, profile: str = "SIM") -> Run:
    """Return what the engines make of a simulated market."""
    plant = tuple(market.plant.split("+"))
    source = SimulatedMarket(market.seed, market.rate, START_NS, plant)
    session, writer = source.session(with_spy=False), DbnWriter(source.seed)

    def blocks() -> Iterator[bytes]:
        for step in session.steps():
            if step.begin >= START_NS + market.seconds * NS_PER_SECOND:
                return
            for messages in writer.write(step):
                yield from messages

    info = dbn_info(source)
    zones = [Zone(f"{price:g}", round(price / TICK)) for price in market.zones]
    judge = Judge(profile_named(profile), [_DAY], FRONT, zones=zones)
    snaps, books = _judged(judge, _batches(blocks(), info.encoding, info.origin, capture=1))
    return Run(snaps, START_NS, list(session.truths), books)


def eaten() -> Run:
    """Return what the engines make of a market that is written by hand.

    A book of some 50 contracts at each of ten prices. After 75 s a buyer takes five prices in one instant, of whose
    contracts a tenth comes back, and four seconds later the rest.
    """
    bid, sweep, back = round(6900 / TICK), 75 * 20, 79 * 20  # prices in ticks, books of 50 ms
    rows: list[dict[str, Any]] = []
    for at in range(90 * 20):
        size, left = 50 + at % 3, (5 if sweep <= at < back else 50) + at % 3
        sizes = {"bid": [size] * 10, "ask": [left] * 5 + [size] * 5}
        ts_ns = START_NS + at * NS_PER_SECOND // 20
        ladder: dict[str, Any] = {"ts_event_ns": ts_ns, "ts_recv_ns": ts_ns, "contract": FRONT, "is_snapshot": False}
        ladder |= {"source": "sim", "symbol": "ES", "capture_id": 1}
        ladder |= {f"bid_px_{n + 1}": (bid - n) * TICK for n in range(10)}
        ladder |= {f"ask_px_{n + 1}": (bid + 1 + n) * TICK for n in range(10)}
        ladder |= {f"{side}_sz_{n + 1}": size for side, listed in sizes.items() for n, size in enumerate(listed)}
        if at == sweep:
            taken = [{"price": (bid + 1 + n) * TICK, "size": 50, "side": "B"} for n in range(5)]
        else:  # one lot each second and side, so that there is a tape
            taken = [{"price": (bid + (side == "B")) * TICK, "size": 1, "side": side} for side in "BA" if at % 20 == 10]
        rows += [{**ladder, **one, "action": "T", "flags": 0} for one in taken]
        rows.append({**ladder, "action": "A", "side": "B", "size": 0, "flags": 130})
    columns = [
        pa.array([row.get(column.name, number) for number, row in enumerate(rows)], column.type)
        if column.name == "capture_seq"
        else pa.array([row.get(column.name) for row in rows], column.type)
        for column in FUTURES_MBP10.log
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=FUTURES_MBP10.log)
    judge = Judge(profile_named("SIM"), [_DAY], FRONT)
    snaps, books = _judged(judge, [(Stream(FUTURES_MBP10.name, "ES"), batch)])
    return Run(snaps, START_NS, [], books)


def of_file(path: Path, zones: Sequence[float] = ()) -> Run:
    """Return what the engines make of an MBP-10 file of ES, judged from its own session's begin."""

    async def read() -> tuple[Encoding, list[bytes]]:
        async for delivery in DbnFileFeed(str(path)).deliveries({}):
            return delivery.info.encoding, [message.data async for burst in delivery.bursts() for message in burst]
        raise SystemExit(f"{path} has nothing. Next: give a DBN file of mbp-10")

    encoding, blocks = asyncio.run(read())
    batches = list(_batches(blocks, encoding, str(path), capture=1))
    books = pa.Table.from_batches([batch for stream, batch in batches if stream.schema == FUTURES_MBP10.name])
    named = Counter(str(name) for name in books.column("contract").drop_null().to_pylist())
    first_ns = int(books.column("ts_event_ns").to_numpy().min())
    sessions = calendar().sessions_between(first_ns - 7 * NS_PER_DAY, first_ns + 7 * NS_PER_DAY, "cme")
    placed = [Zone(f"{price:g}", round(price / TICK)) for price in zones]
    judge = Judge(profile_named("ES"), sessions, max(named, key=lambda name: named[name]), zones=placed)
    snaps, books = _judged(judge, batches)
    return Run(snaps, snaps[0].snap_ns, [], books)


def _judged(judge: Judge, batches: Iterable[tuple[Stream, pa.RecordBatch]]) -> tuple[list[Snap], pa.Table]:
    snaps, books = [], []
    for stream, batch in batches:
        snaps += judge.take(stream, batch)
        if stream.schema == FUTURES_MBP10.name:
            books.append(batch.select(["ts_event_ns", "contract", "action", "side", "price", "size"]))
    return snaps, pa.Table.from_batches(books)


def _batches(
    blocks: Iterable[bytes], encoding: Encoding, origin: str, capture: int
) -> Iterator[tuple[Stream, pa.RecordBatch]]:
    """Yield rows as they would leave the bus, numbered."""
    normalizer, numbered = normalizer_of(encoding, origin=origin, simulated=True), Counter[str]()
    for block in blocks:
        for schema, rows in normalizer.normalize([(block, None)]).batches:
            if schema.name not in _WORKED:
                continue
            first = numbered[schema.name]
            numbered[schema.name] += rows.num_rows
            keys = [
                pa.array(np.full(rows.num_rows, capture), pa.int64()),
                pa.array(np.arange(first, first + rows.num_rows), pa.int64()),
            ]
            yield Stream(schema.name, "ES"), pa.RecordBatch.from_arrays([*rows.columns, *keys], schema=schema.log)

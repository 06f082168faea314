"""What a Gold file is, how snaps become files, and how a file is published.

    gold/levels/signals/underlying=ES/date=YYYY-MM-DD/hour=HH/part-HHMMSS_micros.parquet

A row is a level in sight at a snap: the engines' columns under names whose prefix says which engine each is of. A part
is named by its first snap, and cut at absolute multiples of its span of event time, at each hour, and by its rows. So
its name and its bytes are a function of the snaps, the schema and the fingerprints in its footer: no clock, no host.
What is made again finds its name taken by the same rows, which is success; so Gold is exactly once without a log.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster import clock, durable, paths
from spymaster.clock import NS_PER_HOUR
from spymaster.engines.snap import SIGNALS
from spymaster.errors import LayoutError
from spymaster.events import EventSchema
from spymaster.events.schema import field, optional
from spymaster.lake import layout, parquet
from spymaster.lake.layout import Tier, Within
from spymaster.paths import Partition

VERSION: Final = 1
DAEMON_SPAN_S: Final = 60  # of event time: a part of the daemon's
DAEMON_ROWS: Final = 10_000  # more than that has of levels in sight
SORTED_BY: Final = "ts_event_ns"  # then, within a snap, by price

# A group is a prefix of columns, and an object of the JSON. A column of SIGNALS is of the group that the nearest of
# these at or before it begins.
_BEGINS: Final = {
    "snap_ns": "", "id": "level", "barrier_side": "barrier", "tape_imbalance": "tape", "runway_direction": "runway",
    "fuel": "fuel", "points_barrier": "break_score", "signal": "",
}  # fmt: skip
_NAMED: Final = {
    "snap_ns": "ts_event_ns",
    "level_void_reason": "barrier_void_reason",
    "fuel": "fuel_effect",
    "points_barrier": "break_score_barrier",
    "points_tape": "break_score_tape",
    "points_fuel": "break_score_fuel",
    "score_raw": "break_score_raw",
    "score": "break_score_smooth",
}
_MEANT: Final = {  # where SIGNALS speaks of another column by the name that it has there
    "break_score_barrier": "points: break_score_raw is 50, and these, and those of tape and fuel",
    "break_score_tape": "points of the tape",
    "break_score_fuel": "points of fuel",
    "barrier_replenishment_rank": "rank of barrier_replenishment_ratio_5s in its own history, 0 to 1",
}
_GIVEN: Final = frozenset({"ts_event_ns", "underlying", "level_id", "level_price"})  # by whoever writes a row
_OF_SNAP: Final = (
    field("underlying", pa.string(), "whose prices these are"),
    optional("session", pa.string(), "the trading day, YYYY-MM-DD"),
    optional("profile", pa.string(), "the name of what it was judged by"),
    optional("age_ns", pa.int64(), "of the newest row of the book, or of a stock's quote where that is older"),
    optional("void_until_ns", pa.int64(), "void at least until then, UTC nanoseconds; null where nobody knows"),
)
_OF_MODEL: Final = (
    optional("p_break", pa.float64(), "of a model: how likely a break is, 0 to 1; null without one"),
    optional("p_reject", pa.float64(), "likewise a rejection"),
    optional("p_neither", pa.float64(), "likewise neither; the three add up to 1"),
    optional("p_horizon_s", pa.float64(), "within so many seconds"),
    optional("model_id", pa.string(), "which model"),
    optional("similar", pa.list_(pa.string()), "ids of the touches most like this one, nearest first"),
    optional("model_note", pa.string(), "why there is no probability, where a model is there"),
)
_NOTE: Final = optional("note", pa.string(), "what stands out, in words; null where nothing does")
_ORDER: Final = (
    "ts_event_ns", "underlying", "session", "contract", "profile", "profile_hash", "spot", "bid", "ask", "age_ns",
    "whole_since_ns", "void_reason", "void_until_ns",
)  # fmt: skip
_GROUPS: Final = ("level", "break_score", "", "barrier", "tape", "fuel", "runway")  # as the documents list them


def _sources() -> dict[str, tuple[str, str]]:
    """Return the group and the column of SIGNALS of each column that has one, by its name in Gold."""
    found, group = {}, ""
    for name in SIGNALS.names:
        group = _BEGINS.get(name, group)
        own = _NAMED.get(name, name if not group or name.startswith(f"{group}_") else f"{group}_{name}")
        found[own] = group, name
    return found


_SOURCES: Final = _sources()
FROM: Final = {name: column for name, (_, column) in _SOURCES.items()}  # columns of SIGNALS, by their names in Gold


def _renamed(name: str) -> pa.Field:
    column = SIGNALS.field(FROM[name])
    meaning = {"meaning": _MEANT[name]} if name in _MEANT else column.metadata
    return pa.field(name, column.type, nullable=name not in _GIVEN, metadata=meaning)


def _columns() -> list[pa.Field]:
    own = {column.name: column for column in _OF_SNAP}
    first = [own.get(name) or _renamed(name) for name in _ORDER]
    of_levels = [
        _renamed(name)
        for group in _GROUPS
        for name, (its, _) in _SOURCES.items()
        if its == group and name not in _ORDER
    ]
    return [*first, *of_levels, *_OF_MODEL, _NOTE]


GOLD: Final = pa.schema(_columns(), {"schema_name": "levels.signals", "schema_version": str(VERSION)})
OF_SNAP: Final = _ORDER  # the columns that all rows of a snap have alike

# Not among `events.SCHEMAS`: it has no log, no Bronze and no Silver.
_IDENTITY: Final = ("underlying", "level_price", None, None, "level_id")
LEVELS_SIGNALS: Final = EventSchema("levels.signals", VERSION, "underlying", True, _IDENTITY, GOLD, "own")
FILES: Final = LEVELS_SIGNALS.bronze  # the columns of a file: with `date` and `hour`


class Footer(NamedTuple):
    """What the rows of a part were judged by; None each where a program wrote them.

    Attributes:
        profile: its name.
        profile_hash: of its numbers.
        code_hash: of the code that judged.
    """

    profile: str | None = None
    profile_hash: str | None = None
    code_hash: str | None = None


NOBODY: Final = Footer()  # says by what


class Parts:
    """Collects the snaps of one underlying until they are a part.

    Attributes:
        rows: how many wait for the end of their part.
        skipped_rows: how many were left out, as others of their span are missing.
    """

    def __init__(self, span_ns: int, most_rows: int) -> None:
        """Begin empty.

        Args:
            span_ns: event time of a part; it ends at the next multiple of it.
            most_rows: after how many rows it ends before; a snap is never divided.
        """
        self._span_ns, self._most_rows = span_ns, most_rows
        self._open: list[pa.RecordBatch] = []
        self._last_ns = 0
        self._spoiled: int | None = None  # the span that lacks rows
        self.rows = self.skipped_rows = 0

    def put(self, rows: pa.RecordBatch) -> list[pa.Table]:
        """Take rows of GOLD, snap after snap; return the parts that are finished by that.

        A snap that is no later than the one before finishes what is open: rows of a part are in order.
        """
        finished = []
        for ts_ns, one in _snaps(rows):
            if ts_ns // self._span_ns == self._spoiled:
                self.skipped_rows += one.num_rows
                continue
            if self._open and (ts_ns <= self._last_ns or self._window(ts_ns) != self._window(self._last_ns)):
                finished.append(self._taken())
            self._open.append(one)
            self.rows, self._last_ns = self.rows + one.num_rows, ts_ns
            if self.rows >= self._most_rows:
                finished.append(self._taken())
        return finished

    def cut(self) -> pa.Table | None:
        """Return what is open as a part; None if nothing is."""
        return self._taken() if self._open else None

    def skip(self, first_ns: int, last_ns: int) -> tuple[list[pa.Table], int]:
        """Learn that snaps are missing; return the part that was finished before them, and how many rows are forgotten.

        A part that lacks some of its rows would have the name of the one that has all. So what is open is forgotten if
        they belong to it, and so is all that follows them in their span.

        Args:
            first_ns: the first missing snap.
            last_ns: the last.
        """
        self._spoiled = last_ns // self._span_ns
        if self._open and self._window(first_ns) != self._window(self._last_ns):
            return [self._taken()], 0
        forgotten, self._open, self.rows = self.rows, [], 0
        return [], forgotten

    def _window(self, ts_ns: int) -> tuple[int, int]:
        return ts_ns // self._span_ns, ts_ns // NS_PER_HOUR

    def _taken(self) -> pa.Table:
        table, self._open, self.rows = pa.Table.from_batches(self._open, GOLD), [], 0
        return table


def _snaps(rows: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield each snap's time and rows; nearly always there is one."""
    times = rows.column("ts_event_ns").to_numpy()
    starts = [0, *(np.flatnonzero(times[1:] != times[:-1]) + 1).tolist(), len(times)]
    for begin, end in pairwise(starts):
        if begin < end:
            yield int(times[begin]), rows.slice(begin, end - begin)


def place_of(table: pa.Table) -> tuple[Partition, str]:
    """Return the partition and the name of a part, as its first row has them."""
    first_ns, underlying = table["ts_event_ns"][0].as_py(), table["underlying"][0].as_py()
    begins = datetime.fromtimestamp(first_ns // clock.NS_PER_SECOND, UTC)
    partition = Partition(LEVELS_SIGNALS.name, "underlying", underlying, f"{begins:%Y-%m-%d}", begins.hour)
    return partition, paths.gold_name(clock.part_stamp(first_ns))


def begun_within(data_root: Path, underlying: str, begin_ns: int, end_ns: int) -> dict[int, Path]:
    """Return the parts of an underlying whose first snap lies in a span, by its time, in order.

    Args:
        data_root: the lake.
        underlying: whose prices they are.
        begin_ns: the first time, UTC nanoseconds.
        end_ns: the first after.
    """
    first, last = (clock.utc_text(at)[:13] for at in (begin_ns, end_ns))
    found = {}
    for partition in layout.partitions(data_root, LEVELS_SIGNALS, Within(underlying, first, last), [Tier.GOLD]):
        folder = layout.path(data_root, Tier.GOLD, partition.folder)
        for name in layout.part_names(data_root, Tier.GOLD, partition):
            found[_first_ns(partition.date, name)] = folder / name
    return {at: found[at] for at in sorted(found) if begin_ns <= at < end_ns}


def _first_ns(date: str, name: str) -> int:
    """Return the time that a part's name says."""
    moment = datetime.strptime(f"{date} {name}", "%Y-%m-%d part-%H%M%S_%f.parquet").replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * clock.NS_PER_SECOND + moment.microsecond * 1_000


def encoded(table: pa.Table, footer: Footer) -> memoryview:
    """Return the bytes of a part.

    Args:
        table: rows of GOLD, of one underlying and one hour, in order.
        footer: what they were judged by.
    """
    partition, _ = place_of(table)
    table = table.combine_chunks()  # so that no byte depends on how the rows came
    rows = table.num_rows
    hour = pa.repeat(pa.scalar(partition.hour, pa.int32()), rows)
    filed = pa.table([*table.columns, pa.repeat(partition.date, rows), hour], schema=FILES)
    said = {f"spymaster_{name}": value or "" for name, value in footer._asdict().items()}
    return parquet.encode(FILES, filed, said, [SORTED_BY])


def publish(data_root: Path, table: pa.Table, footer: Footer) -> Path:
    """Publish a part, durable on return; that it is there already, with the same rows, is success.

    Args:
        data_root: the lake.
        table: as `Parts` gave it.
        footer: what its rows were judged by.

    Raises:
        LayoutError: other rows have the name; they are as they were.
        OSError: the disk refused; nothing was published.
    """
    partition, name = place_of(table)
    folder = layout.path(data_root, Tier.GOLD, partition.folder)
    durable.make_directories(folder)
    target, data = folder / name, encoded(table, footer)
    try:
        durable.publish(data, target)
    except FileExistsError:
        if durable.read(target) != data and not _same_rows(target, table):
            raise LayoutError(
                f"{target} holds other rows than were judged now. It was left as it is, and the new rows are in no "
                f"file; the snaps that they come from stand in the log. Next: spymaster verify"
            ) from None
        durable.sync_directory(folder)  # who published it may have been killed before this
    return target


def _same_rows(part: Path, table: pa.Table) -> bool:
    """Whether a part has these rows, though another version of a library wrote its bytes."""
    try:
        return bool(read(part).select(GOLD.names).equals(table))
    except LayoutError:
        return False


def read_footer(part: Path) -> Footer:
    """Return what a part says of itself.

    Raises:
        LayoutError: this version did not write it, or a later one did.
    """
    try:
        keys = pq.read_metadata(part).metadata or {}
        name, version = keys[b"schema_name"].decode(), int(keys[b"schema_version"])
        footer = Footer(*(keys[f"spymaster_{name}".encode()].decode() or None for name in Footer._fields))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise LayoutError(
            f"{part} is no Gold that spymaster wrote ({type(error).__name__}: {error}). It was left as it is. "
            f"Next: move it out of the lake"
        ) from error
    if name != LEVELS_SIGNALS.name or version > VERSION:
        raise LayoutError(
            f"{part} holds {name}.v{version}, which this version does not read. Nothing was changed. "
            f"Next: use the version of spymaster that wrote it"
        )
    return footer


def read(part: Path) -> pa.Table:
    """Return the rows of a part, with the columns of FILES.

    Raises:
        LayoutError: it does not read.
    """
    read_footer(part)
    try:
        return pq.read_table(part, schema=FILES, partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LayoutError(f"{part} does not read ({error}). It was left as it is. Next: spymaster verify") from error


def problems(part: Path, partition: Partition | None, data: memoryview) -> list[str]:
    """Say what is wrong with a part, if something is: its bytes, its version, its order, its place.

    Args:
        part: where it lies.
        partition: what its folder says; None where no Gold belongs.
        data: its bytes.

    Raises:
        LayoutError: a later version wrote it.
    """
    wrong = parquet.damage(data)
    if wrong is not None:
        return [wrong]
    table = read(part)
    times = table["ts_event_ns"]
    found = []
    if not table.num_rows:
        return ["it has no row"]
    if table.num_rows > 1 and pc.any(pc.less(times[1:], times[:-1])).as_py():
        found.append("its rows are not in order")
    own, name = place_of(table)
    hours = pc.unique(pc.divide(times, pa.scalar(NS_PER_HOUR)))
    if (own, name) != (partition, part.name) or len(hours) > 1 or len(table["underlying"].unique()) > 1:
        found.append("its name and folder do not follow from its rows")
    return found

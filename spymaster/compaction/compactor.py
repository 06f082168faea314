"""Bronze -> Silver: every event once, one partition at a time, each published by one rename.

The order that carries the guarantee, for one partition: list its parts, decide from their names whether anything has
changed, write a draft span by span of event time, prove by other means that the draft holds the rows of those parts
without those that were delivered again, and only then give it its name. A kill leaves the file that was there, or the
new one, and a draft that the next run removes.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from spymaster import durable, events, paths
from spymaster.compaction.conservation import Check, ConservationError
from spymaster.compaction.deliveries import Deliveries, deliveries_of, several_captures
from spymaster.compaction.engines import FASTER, Engine
from spymaster.compaction.inputs import NextPartitions, inputs_of
from spymaster.compaction.made import Greeks, open_parts
from spymaster.compaction.spans import spans
from spymaster.errors import LayoutError, UsageError
from spymaster.events import MARKET_SCHEMAS, EventSchema
from spymaster.lake import compactions, layout, silver
from spymaster.lake.bronze import read_footer, require_known_version
from spymaster.lake.compactions import Compaction
from spymaster.lake.layout import Tier, in_time
from spymaster.lake.parquet import ROW_GROUP_ROWS, damage
from spymaster.lake.silver import Counts, Footer
from spymaster.paths import Partition

THREADS: Final = 2
_MEMORY: Final = {Engine.NUMPY: "256MB", Engine.DUCKDB: "512MB"}  # of DuckDB, of each thread, to prove or to make too

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Compacted:
    """What became of one partition.

    Attributes:
        partition: of Bronze.
        status: `compacted`, `unchanged` since the last time, or `refused`: nothing was published, see `reason`.
        counts: of rows; of the last time if unchanged, None if refused.
        parts: Bronze parts.
        bytes_in: their size.
        bytes_out: the Silver file's.
        seconds: how long it took.
        reason: why it was refused.
    """

    partition: Partition
    status: Literal["compacted", "unchanged", "refused"]
    counts: Counts | None
    parts: int
    bytes_in: int
    bytes_out: int
    seconds: float
    reason: str | None = None

    @property
    def mb_per_s(self) -> float:
        """Megabytes of Bronze a second."""
        return self.bytes_in / 1e6 / self.seconds if self.seconds else 0.0


def partitions(
    data_root: Path, schemas: Sequence[EventSchema], start_date: str | None = None, end_date: str | None = None
) -> list[Partition]:
    """Return the partitions of market data that Bronze or the archive has, with both dates included.

    Raises:
        UsageError: a date is not a calendar date, or a schema has no Silver.
        LayoutError: the lake is laid out otherwise.
    """
    for date in (start_date, end_date):
        if date is not None:
            paths.check_date(date)
    for schema in schemas:
        if schema not in MARKET_SCHEMAS:
            raise UsageError(
                f"{schema.name} has no Silver: it is our own. Nothing was done. Next: name a market schema"
            )
    found = layout.find_parts(data_root)
    layout.require_own_layout(data_root, found)
    names = {schema.name for schema in schemas}
    first, last = start_date or "", end_date or "~"
    wanted = {own for own in found.parts.values() if own.schema in names and first <= own.date <= last}
    return sorted(wanted, key=lambda own: (own.schema, *in_time(own)))


@contextmanager
def lock(data_root: Path) -> Iterator[None]:
    """Hold the lock of the one process that writes Silver. The daemon may run beside it.

    Raises:
        LockedError: another process compacts here; names its pid.
        UsageError: there is no lake, or the folder cannot be written.
    """
    if not data_root.is_dir():
        raise UsageError(
            f"there is no lake at {data_root}. Nothing was done. Next: check DATA_ROOT; spymaster config show"
        )
    folder = Tier.SILVER.of(data_root)
    try:
        durable.make_directories(folder)
        with durable.lock_directory(folder):
            yield
    except PermissionError as error:
        raise UsageError(
            f"DATA_ROOT: {folder} cannot be written ({error.strerror}). Nothing was published. Next: mend its "
            f"permissions, or choose another folder with DATA_ROOT"
        ) from error


def compact(
    data_root: Path,
    wanted: Sequence[Partition],
    *,
    threads: int = THREADS,
    progress: Progress | None = None,
    tolerance_ns: int = silver.TOLERANCE_NS,
    engine: Engine = FASTER,
) -> list[Compacted]:
    """Make the Silver of some partitions, of those that changed. The caller holds the lock.

    Args:
        data_root: the lake.
        wanted: partitions of Bronze; option trades find the greeks of those that are compacted.
        threads: partitions at once.
        progress: called with (partitions done, of how many).
        tolerance_ns: how old greeks may be for an option trade.
        engine: what makes the rows; the bytes are the same.

    Raises:
        OSError: the disk refused; what was published before is whole.
        KeyboardInterrupt: as soon as the partitions under way are given up; the next call does them.
    """
    late = [partition for partition in wanted if partition.schema == events.OPTIONS_TRADES.name]  # they read Silver
    early = [partition for partition in wanted if partition.schema != events.OPTIONS_TRADES.name]
    done: list[Compacted] = []
    # The pool ends first: a thread that still proves a partition needs its connection.
    with closing(_Worker(data_root, tolerance_ns, engine)) as own, ThreadPoolExecutor(threads) as pool:
        try:
            for some in (early, late):
                for result in pool.map(own.compact, some):
                    done.append(result)
                    if progress is not None:
                        progress(len(done), len(wanted))
        except BaseException:  # Ctrl-C too: a partition may take a minute
            pool.shutdown(wait=False, cancel_futures=True)
            own.stop()
            raise
        compactions.record(data_root, own.published)
    return done


class _StoppedError(Exception):
    """Nobody waits for this partition any more."""


class _Worker:
    """Compacts partitions; each thread has its own connection.

    Attributes:
        published: what was, so far.
    """

    def __init__(self, data_root: Path, tolerance_ns: int, engine: Engine) -> None:
        self._data_root, self._tolerance_ns, self._engine = data_root, tolerance_ns, engine
        self._next_partitions = NextPartitions(data_root)
        self._own = threading.local()
        self._connections: list[duckdb.DuckDBPyConnection] = []
        self._stopped = False
        self.published: list[Compaction] = []

    def stop(self) -> None:
        """Let every thread give up soon: at its next span, or amid its proof. Their drafts go."""
        self._stopped = True
        for connection in self._connections:
            connection.interrupt()

    def close(self) -> None:
        """Close the threads' connections. The threads have ended."""
        for connection in self._connections:
            connection.close()

    def compact(self, partition: Partition) -> Compacted:
        began = time.monotonic()
        try:
            return self._compact(partition, began)
        except (LayoutError, ConservationError, pa.ArrowException, duckdb.Error) as error:
            return Compacted(partition, "refused", None, 0, 0, 0, time.monotonic() - began, str(error))

    def _compact(self, partition: Partition, began: float) -> Compacted:
        schema = events.SCHEMAS[partition.schema]
        target = silver.file_of(self._data_root, partition)
        inputs = inputs_of(self._data_root, partition, self._tolerance_ns)
        size = sum(path.stat().st_size for path in inputs.parts)
        before = silver.read_footer(target)
        if before is not None and self._next_partitions.is_current(before, inputs, partition):
            return Compacted(
                partition, "unchanged", before.counts, len(inputs.parts), size, target.stat().st_size,
                time.monotonic() - began,
            )  # fmt: skip
        durable.make_directories(target.parent)
        for path in inputs.parts:
            _require_sound(path)
        if before is not None:
            _require_no_fewer_rows(inputs.parts, target, before)
        source = open_parts(schema, inputs.parts)
        captures = several_captures(inputs.parts)
        ended = self._next_partitions.ended(partition, captures)
        if ended is None:
            ended = captures  # that none is known to go on is the most that may be unproven
        deliveries = deliveries_of(source, captures, ended, self._next_partitions.begins if captures else {})
        with durable.replacing(target) as draft:
            with silver.writer(draft, schema) as file:
                check = Check(self._connection(), schema)
                counts = self._write(file, schema, source, deliveries, inputs.greeks, check)
                tolerance_ns = 0 if inputs.greeks is None else self._tolerance_ns
                silver.add_footer(
                    file,
                    Footer(inputs.names, inputs.digest, counts, captures, ended, tolerance_ns, deliveries.begins),
                )
            self._go_on()
            check.conserved(inputs.parts, draft)
        place = target.relative_to(self._data_root).as_posix()
        own = Compaction(place, inputs.digest, self._engine.value)
        self.published.append(own)
        return Compacted(
            partition, "compacted", counts, len(inputs.parts), size, target.stat().st_size, time.monotonic() - began
        )

    def _write(
        self,
        file: pq.ParquetWriter,
        schema: EventSchema,
        source: ds.Dataset,
        deliveries: Deliveries,
        greeks: pa.Table | None,
        check: Check,
    ) -> Counts:
        """Write every event of a partition once, and tell the check what was left out."""
        known = None if greeks is None else Greeks(greeks, self._tolerance_ns)
        counts = Counts(0, 0, 0, 0, 0, unordered=deliveries.unordered)
        make = self._engine.maker(self._connection())
        for span in spans(schema, source):
            self._go_on()
            made = make(schema, source, span, deliveries, known)
            check.remove(made.removed)
            file.write_table(made.rows, row_group_size=ROW_GROUP_ROWS)
            counts = Counts(*(sum(pair) for pair in zip(counts, made.counts, strict=True)))
        return counts

    def _go_on(self) -> None:
        if self._stopped:
            raise _StoppedError

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = duckdb.connect(config={"threads": 1, "memory_limit": _MEMORY[self._engine]})
            self._own.connection.execute("set enable_progress_bar = false")  # on by default where Python is interactive
            self._connections.append(self._own.connection)
        connection: duckdb.DuckDBPyConnection = self._own.connection
        return connection


def _require_no_fewer_rows(parts: Sequence[Path], target: Path, before: Footer) -> None:
    """Refuse to replace what may be all that is left of some rows: Bronze only grows.

    Raises:
        LayoutError: some of the Bronze that a file was made of is gone.
    """
    rows = sum(read_footer(path).rows for path in parts)
    if rows < before.counts.rows_in:
        raise LayoutError(
            f"{target} was made of {before.counts.rows_in:,} rows of Bronze, which has {rows:,} of them now, so it may "
            f"be all that is left of the others. It was left as it is. Next: bring Bronze's parts back from a copy; or "
            f"move that file away, and run spymaster compact"
        )


def _require_sound(part: Path) -> None:
    """Refuse a part whose bytes are not those that were written: of some damage a Parquet reader says nothing.

    Raises:
        LayoutError: they are not, or a later version wrote them.
    """
    wrong = damage(durable.read(part))
    if wrong is not None:
        raise LayoutError(
            f"{part} does not read ({wrong}). Nothing was published of its hour. Next: spymaster verify, and restore "
            f"that file from a copy"
        )
    require_known_version(part, read_footer(part).version)

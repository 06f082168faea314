"""One table of a schema, from the newest row to the oldest: what to read so that each event is there once.

A partition is read from its Silver where that is of the Bronze parts that are there now; where it is not, or where rows
of the partition are still in the log, from Bronze and log. Rows that stand in both count once, by their key, and an
event that several captures delivered counts once, by counted occurrence.

The order is the guarantee: the log is read first, then Bronze is listed, then Silver is opened. A segment goes only
once its parts are durable, so a row that the log lacked is in a part that is listed; a part that appears later holds
rows that the log had. Silver that is published later names parts that were not listed, and is not taken. Nothing of
this takes a lock, or changes a file.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_HOUR, NS_PER_MS, utc_text
from spymaster.errors import LayoutError
from spymaster.events import SYSTEM_CAPTURES, EventSchema
from spymaster.events.exactly_once import keep_once
from spymaster.events.sameness import columns_of, keys_of
from spymaster.lake import layout, silver
from spymaster.lake.begins import Begins, begins_in, capture_begins
from spymaster.lake.bronze import CaptureSpan, read_footer, require_known_version, rows_not_held, split
from spymaster.lake.layout import ALL, RECEIVED, Tier, Token, Within, in_time
from spymaster.lake.parquet import is_foreign
from spymaster.paths import Partition
from spymaster.wal.reader import read_log

MAX_TRIES: Final = 3  # of a snapshot of the lake, each undone by files that were moved meanwhile
MAX_KNOWN_FILES: Final = 50_000  # of Silver, of about 500 bytes each; beyond that a footer is read again
_REMOVED: Final = -2  # beside `Once.late`, which has -1 for none
_CAPTURES_KEY: Final = b"spymaster_captures"
_VERSION_1: Final = b"schema_version\x18\x011"  # a footer's key, and its value's kind, length and text


class Snapshot(NamedTuple):
    """What makes up the table.

    Attributes:
        silver: files to read as they are.
        tokens: of these, what tells each from another that gets its name.
        bronze: parts to read as they are.
        mended: parts of which the rows in `removed` are left out, and those in `late` say more.
        removed: keys of events delivered again: the partition's column, `capture_id`, `capture_seq`.
        late: keys of rows with what a file that was captured later says of their events: the columns of `silver.LATE`.
        log: rows with Bronze's columns, and for a schema that has them with those.
    """

    silver: list[Path]
    tokens: list[Token]
    bronze: list[Path]
    mended: list[Path]
    removed: pa.Table
    late: pa.Table
    log: pa.Table


class _Once(NamedTuple):
    """What of a partition is left out, and what became of the rest: in which parts, which keys; and the log's rows."""

    mended: frozenset[Path]
    removed: pa.Table
    late: pa.Table
    log: pa.Table


class _Piece(NamedTuple):
    """A part, or the log's rows of its partition: whose rows it has, and from when to when."""

    path: Path | None
    captures: frozenset[int]
    first_ms: int
    last_ms: int

    def overlaps(self, others: Iterable["_Piece"]) -> bool:
        """Whether it shares a millisecond, the coarsest identity time, with rows of another capture."""
        return any(
            other.first_ms <= self.last_ms and self.first_ms <= other.last_ms and other.captures != self.captures
            for other in others
        )


class OneTable:
    """Takes snapshots of one schema's log and lake.

    Remembers what cannot change: footers, and what is left out of parts.
    """

    def __init__(self, data_root: Path, wal_root: Path, schema: EventSchema) -> None:
        self._data_root, self._wal_root, self._schema = data_root, wal_root, schema
        keys = [schema.bronze.field(name) for name in (schema.partition_by, "capture_id", "capture_seq")]
        self._late = dict(silver.late_columns(schema))
        self._no_keys = pa.schema(keys).empty_table()
        self._no_late = pa.schema([*keys, *self._late]).empty_table()
        self._no_log = pa.schema([*schema.bronze, *self._late]).empty_table()
        # Of parts that are not read from Silver; a stranger with a part's name has none.
        self._captures: dict[Path, tuple[CaptureSpan, ...]] = {}
        self._times: dict[Path, tuple[int, int]] = {}
        self._once: dict[Partition, tuple[list[Path], _Once]] = {}
        self._begins: dict[Path, Begins] = {}  # by parts of `system.captures`
        # Which parts a file is of, while it is not replaced; the latest used last.
        self._silver: OrderedDict[Path, tuple[Token, str]] = OrderedDict()

    def snapshot(self, within: Within = ALL) -> Snapshot:
        """Return what makes up the table now, or some partitions of it.

        Memory: the log's rows, and of an hour that several captures deliver at the same times its identity columns.

        Raises:
            WalError: the log cannot be read.
            LayoutError: a file in the lake cannot be.
        """
        for _ in range(MAX_TRIES - 1):
            try:
                return self._snapshot(within)
            except FileNotFoundError:
                continue  # archived meanwhile
            except LayoutError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        return self._snapshot(within)

    def require_known_parts(self) -> None:
        """Refuse parts of a later version, of whose columns a view of Bronze would leave some out.

        Raises:
            LayoutError: there is one.
        """
        for partition in layout.partitions(self._data_root, self._schema, ALL, RECEIVED):
            for path in silver.bronze_parts(self._data_root, partition):
                if path not in self._captures:
                    with suppress(FileNotFoundError):  # archived meanwhile
                        self._captures[path] = _captures_of(path)

    def still_valid(self, found: Snapshot) -> bool:
        """Whether the files of Silver that were found are still what has their names."""
        with suppress(FileNotFoundError):
            return all(layout.token(file) == token for file, token in zip(found.silver, found.tokens, strict=True))
        return False

    def _snapshot(self, within: Within) -> Snapshot:
        rows = read_log(self._wal_root, self._schema, lambda rows: self._within(rows, within))
        logged = dict(split(self._schema, rows)) if rows.num_rows else {}
        found = layout.partitions(self._data_root, self._schema, within, tuple(Tier))
        listed = {
            partition: silver.bronze_parts(self._data_root, partition)
            for partition in sorted({*found, *logged}, key=in_time)
        }
        unlogged = listed.keys() - logged.keys()
        tokens = {own: self._is_fresh(own, parts) for own, parts in listed.items() if own in unlogged}
        fresh = {own: token for own, token in tokens.items() if token is not None}
        hot = {partition: parts for partition, parts in listed.items() if partition not in fresh}
        self._read_footers(list(chain.from_iterable(hot.values())))
        hot = {partition: [path for path in parts if self._captures[path]] for partition, parts in hot.items()}
        begins = cache(self._capture_begins)  # most lakes have no hour for which it is asked
        once = {own: self._once_of(own, parts, logged.get(own), begins) for own, parts in hot.items()}
        self._once = {partition: (hot[partition], once[partition]) for partition in hot.keys() & unlogged}
        mended = frozenset(chain.from_iterable(found.mended for found in once.values()))
        return Snapshot(
            silver=[silver.file_of(self._data_root, partition) for partition in fresh],
            tokens=list(fresh.values()),
            bronze=[path for parts in hot.values() for path in parts if path not in mended],
            mended=sorted(mended),
            removed=pa.concat_tables([self._no_keys, *(found.removed for found in once.values())]),
            late=pa.concat_tables([self._no_late, *(found.late for found in once.values())]),
            log=pa.concat_tables([self._no_log, *(found.log for found in once.values())]),
        )

    def _within(self, rows: pa.Table, within: Within) -> pa.Table:
        """Return the rows of some partitions."""
        if within == ALL:
            return rows
        length_ns = NS_PER_HOUR if self._schema.hourly else NS_PER_DAY
        spans = rows["ts_event_ns"].to_numpy() // length_ns
        wanted = [span for span in np.unique(spans) if self._has_span(within, int(span) * length_ns)]
        kept = pa.array(np.isin(spans, wanted))
        if within.value is not None:
            kept = pc.and_(kept, pc.equal(rows[self._schema.partition_by], pa.scalar(within.value)))
        return rows.filter(kept)

    def _has_span(self, within: Within, begin_ns: int) -> bool:
        """Whether the partitions of a date or hour are among them, but for their value."""
        begins = utc_text(begin_ns)
        hour = int(begins[11:13]) if self._schema.hourly else None
        return within._replace(value=None).has(Partition(self._schema.name, "", "", begins[:10], hour))

    def _is_fresh(self, partition: Partition, parts: list[Path]) -> Token | None:
        """Return the token of a partition's Silver if it is of these parts, or of parts that someone took away."""
        file = silver.file_of(self._data_root, partition)
        try:
            token = layout.token(file)
        except FileNotFoundError:
            return None
        known, made_of = self._silver.get(file, (None, ""))
        if known != token:
            footer = silver.read_footer(file)
            if footer is None:
                return None
            made_of = footer.parts
        self._silver[file] = token, made_of
        self._silver.move_to_end(file)
        if len(self._silver) > MAX_KNOWN_FILES:
            self._silver.popitem(last=False)
        return token if not parts or made_of == silver.inputs_digest(parts) else None

    def _read_footers(self, parts: list[Path]) -> None:
        """Read the footers of parts that are new, and forget those of parts that are not read any more."""
        captures = {path: self._captures.get(path) or _captures_of(path) for path in parts}
        self._times = {path: times for path, times in self._times.items() if path in captures}
        self._captures = captures

    def _capture_begins(self) -> Begins:
        """Return when captures began, as log and Bronze say: a capture's first row may be in Bronze before that is."""
        logged = begins_in(read_log(self._wal_root, SYSTEM_CAPTURES))
        begins = capture_begins(self._data_root, self._begins)
        return begins | {own: min(stamp, begins.get(own, stamp)) for own, stamp in logged.items()}

    def _once_of(
        self, partition: Partition, parts: list[Path], logged: pa.Table | None, begins: Callable[[], Begins]
    ) -> _Once:
        """Find what is left out of a partition's Bronze and log, so that each event is there once."""
        known_parts, known = self._once.get(partition, ([], None))
        if known is not None and logged is None and known_parts == parts:
            return known
        log = self._schema.bronze.empty_table()
        if logged is not None:  # a sealed segment goes a moment after its parts appear
            log = rows_not_held(logged, {part: self._captures[part] for part in parts})
        pieces = self._overlapping_pieces(parts, log)
        if not pieces:
            return _Once(frozenset(), self._no_keys, self._no_late, self._with_late(log, log, np.arange(log.num_rows)))
        names = list(dict.fromkeys([*columns_of(self._schema), *self._late.values()]))
        tables = [
            log.select(names) if piece.path is None else _columns(piece.path, self._schema, names) for piece in pieces
        ]
        rows = pa.concat_tables(tables)
        once = keep_once(self._schema, rows, keys_of(self._schema, rows), {}, begins())
        says = np.full(rows.num_rows, _REMOVED)  # which row says what became of each
        says[once.kept] = once.late
        mended, removed, late = set(), [self._no_keys], [self._no_late]
        out = self._with_late(log, log, np.arange(log.num_rows))
        starts = np.cumsum([0, *(table.num_rows for table in tables)])
        for piece, begin, end in zip(pieces, starts[:-1], starts[1:], strict=True):
            own = says[begin:end]
            if piece.path is None:
                out = self._with_late(log, rows, own).filter(pa.array(own != _REMOVED))
                continue
            gone = begin + np.flatnonzero(own == _REMOVED)
            elsewhere = begin + np.flatnonzero((own >= 0) & (own != np.arange(begin, end)))
            if not self._late:
                elsewhere = elsewhere[:0]
            if len(gone) or len(elsewhere):
                mended.add(piece.path)
                removed.append(self._keys(partition, rows, gone))
                late.append(self._with_late(self._keys(partition, rows, elsewhere), rows, says[elsewhere]))
        return _Once(frozenset(mended), pa.concat_tables(removed), pa.concat_tables(late), out)

    def _keys(self, partition: Partition, rows: pa.Table, which: NDArray[np.int64]) -> pa.Table:
        """Return the keys of some rows of a partition."""
        key = rows.select(["capture_id", "capture_seq"]).take(which)
        return pa.table([pa.repeat(partition.value, len(which)), *key.columns], schema=self._no_keys.schema)

    def _with_late(self, table: pa.Table, rows: pa.Table, says: NDArray[np.int64]) -> pa.Table:
        """Return a table with what became of its rows: what the file's row says that `says` names among `rows`."""
        if not self._late:
            return table
        from_file = rows["ts_local_ns"].is_null().to_numpy()
        none = says < 0
        none[~none] = ~from_file[says[~none]]
        place = pa.array(says, pa.int64(), mask=none)
        for column, name in self._late.items():
            table = table.append_column(column, rows[name].take(place))
        return table

    def _overlapping_pieces(self, parts: list[Path], log: pa.Table) -> list[_Piece]:
        """Return the pieces that may hold an event that another capture delivered too; mostly none.

        All rows of an identity time that two captures have are in them, so the others need not be read.
        """
        held = {path: frozenset(span.capture_id for span in self._captures[path]) for path in parts}
        logged = frozenset(np.unique(log["capture_id"].to_numpy()).tolist())
        if len(logged.union(*held.values())) < 2:
            return []
        pieces = [_Piece(path, held[path], *self._times_of(path)) for path in parts]
        if log.num_rows:
            stamps = log["ts_event_ns"].to_numpy()
            pieces.append(_Piece(None, logged, int(stamps.min()) // NS_PER_MS, int(stamps.max()) // NS_PER_MS))
        spans = [_span(capture, pieces) for capture in logged.union(*held.values())]
        return [piece for piece in pieces if len(piece.captures) > 1 or piece.overlaps(spans)]

    def _times_of(self, part: Path) -> tuple[int, int]:
        """Return the first and the last millisecond of a part's rows."""
        if part not in self._times:
            metadata = pq.read_metadata(part)
            at = metadata.schema.to_arrow_schema().get_field_index("ts_event_ns")
            groups = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
            stamps: list[Any] = [stamp for group in groups if group is not None for stamp in (group.min, group.max)]
            self._times[part] = min(stamps) // NS_PER_MS, max(stamps) // NS_PER_MS
        return self._times[part]


def _span(capture: int, pieces: Iterable[_Piece]) -> _Piece:
    """Return from when to when a capture has rows."""
    own = [piece for piece in pieces if capture in piece.captures]
    return _Piece(None, frozenset([capture]), min(piece.first_ms for piece in own), max(piece.last_ms for piece in own))


def _captures_of(part: Path) -> tuple[CaptureSpan, ...]:
    """Return what a part's footer says of its captures.

    Straight from its bytes: of a thousand parts that wait for Silver, parsing each footer takes ten times as long.
    """
    with part.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(size - 8 - length, 0))
        footer = file.read(length)
    at = footer.rfind(_CAPTURES_KEY)  # the last: before the keys come statistics, with texts of a vendor's
    begin, end = footer.find(b"[[", at), footer.find(b"]]", at)
    with suppress(ValueError, TypeError):
        if at >= 0:
            if footer.rfind(_VERSION_1) < 0:
                require_known_version(part, read_footer(part).version)
            return tuple(CaptureSpan(*span) for span in json.loads(footer[begin : end + 2]))
    return () if is_foreign(part) else read_footer(part).captures  # which says what is wrong with it


def _columns(part: Path, schema: EventSchema, names: list[str]) -> pa.Table:
    """Read columns of a part; one that its version had not got is null."""
    with pq.ParquetFile(part, page_checksum_verification=True) as file:
        table = file.read([name for name in names if name in file.schema_arrow.names])
    for column in (schema.bronze.field(name) for name in names):
        if column.name not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    return table.select(names)

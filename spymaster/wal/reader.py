"""The rows that the log of one schema holds now, read beside its writer: no lock is taken, nothing is changed.

Exact means: every row that was acknowledged before the call, and is not in Bronze by its end, is read. So the log is
listed again once everything listed was opened, until two listings are equal. A row was then, when the active file was
opened by its name, either in that file; or in a segment that had its sealed name by then, and so is in the last
listing, whose segments are all read; or that segment had retired, and whoever lists Bronze next finds its rows there.
Recovery removes nothing before its rows have a copy, which has a new number, so the same holds beside it.

Segments are read one after another, and of each only the rows that are wanted are kept.

The next segment, ahead of need, is not read: none of its rows is acknowledged. Rows of sound frames beyond damage are,
as recovery will bring them to Bronze.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import durable, paths
from spymaster.errors import WalError
from spymaster.events import EventSchema, Stream
from spymaster.paths import SegmentName
from spymaster.wal.folder import LOG_ALARM_BYTES, segments
from spymaster.wal.segment import decode_rows, scan

MAX_LISTINGS: Final = 100  # a stream seals a few times a second at most, and a listing takes far less than that
# Of one schema's rows, for one query: twice the log that alarms, so that who was warned can still ask. A query needs
# up to three times as much for a moment.
MAX_LOG_BYTES: Final = 2 * LOG_ALARM_BYTES


def read_log(
    wal_root: Path, schema: EventSchema, wanted: Callable[[pa.Table], pa.Table] = lambda rows: rows
) -> pa.Table:
    """Return the schema's rows that the log holds, each (`capture_id`, `capture_seq`) of a stream once.

    In memory are at most `MAX_LOG_BYTES` of them, and the segment that is read.

    Args:
        wal_root: the log.
        schema: whose rows.
        wanted: takes a segment's rows and returns those to keep; of equal rows all or none.

    Raises:
        WalError: a segment is of another version, the log does not come to rest, or it holds more than that.
    """
    streams: dict[str, list[pa.Table]] = {}
    found = _read_segments(wal_root, schema, wanted)
    for name in sorted(found, key=lambda name: (name.number is None, name.number or 0)):  # as they were appended
        streams.setdefault(name.stem, []).append(found[name])
    return pa.concat_tables([schema.log.empty_table(), *(_each_once(tables) for tables in streams.values())])


def _read_segments(
    wal_root: Path, schema: EventSchema, wanted: Callable[[pa.Table], pa.Table]
) -> dict[SegmentName, pa.Table]:
    """Return the wanted rows of every segment of the schema's streams."""
    found: dict[SegmentName, pa.Table] = {}
    held = 0
    before: set[SegmentName] | None = None
    for _ in range(MAX_LISTINGS):
        listed = _list(wal_root, paths.stream_stem(schema.name, ""))
        if listed == before:
            return found
        for name in listed - found.keys():
            with suppress(FileNotFoundError):  # retired since, or copied by recovery: the next listing is another
                raw = durable.read(_path(wal_root, name))
                found[name] = wanted(_rows(wal_root, schema, name, raw))
                held += found[name].nbytes
            if held > MAX_LOG_BYTES:
                raise WalError(
                    f"{wal_root} holds over {MAX_LOG_BYTES / 1e9:.1f} GB of {schema.name} that is not in Bronze, more "
                    f"than a query keeps in memory. Nothing is lost. Next: if no daemon runs, spymaster recover; else "
                    f"wait until it has drained (spymaster status), or read fewer hours with SilverReader"
                )
        before = listed
    raise WalError(
        f"{wal_root} was listed {MAX_LISTINGS} times and was another each time. Nothing was changed. "
        f"Next: run the query again; spymaster wal ls shows what is there"
    )


def _list(wal_root: Path, prefix: str) -> set[SegmentName]:
    """Name the numbered segments, and the active one of every stream that has a file."""
    try:
        listed = segments(wal_root)
    except FileNotFoundError:
        return set()
    return {name._replace(ahead=False) for _, name in listed if name.stem.startswith(prefix)}


def _path(wal_root: Path, name: SegmentName) -> Path:
    if name.number is None:
        return paths.active_segment(wal_root, name.stem)
    return paths.sealed_segment(wal_root, name.stem, name.number, name.poisoned)


def _rows(wal_root: Path, schema: EventSchema, name: SegmentName, raw: memoryview) -> pa.Table:
    """Decode a segment's sound frames. What recovery would not bring to Bronze is not there for us either."""
    found = scan(raw)
    if found.header is None and not found.islands and "format version" in (found.problem or ""):
        raise WalError(
            f"{_path(wal_root, name)} has {found.problem}: another version of spymaster wrote it. Nothing was changed. "
            f"Next: query with that version"
        )
    numbers = {name.number, None if found.header is None else found.header.number}
    if found.header is not None and (found.header.stream.schema != schema.name or len(numbers - {None}) > 1):
        return schema.log.empty_table()  # another segment's bytes, as a recycled block leaves them
    rows, _ = decode_rows(raw, [*found.frames, *found.islands], Stream(schema.name, ""))
    return rows


def _each_once(tables: Iterable[pa.Table]) -> pa.Table:
    """Join the segments of a stream. Of equal keys one counts: a poisoned segment's rows have successors, a copy an
    origin, and a segment two names for an instant."""
    rows = pa.concat_tables(tables)
    captures, numbers = rows["capture_id"].to_numpy(), rows["capture_seq"].to_numpy()
    if _ascend(captures, numbers):
        return rows
    order = np.lexsort((numbers, captures))
    again = (np.diff(captures[order]) == 0) & (np.diff(numbers[order]) == 0)
    return rows if not again.any() else rows.take(pa.array(np.sort(order[np.append(True, ~again)])))


def _ascend(captures: NDArray[np.int64], numbers: NDArray[np.int64]) -> bool:
    """Whether captures follow one another and their numbers grow, as a log's nearly always do: then none is twice."""
    changes = captures[1:] != captures[:-1]
    heads = captures[np.flatnonzero(np.append(len(captures) > 0, changes))] if len(captures) else captures
    return len(np.unique(heads)) == len(heads) and bool(np.all(changes | (numbers[1:] > numbers[:-1])))

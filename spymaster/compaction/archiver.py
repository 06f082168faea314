"""Moves Bronze parts of compacted partitions to the archive. At no moment is a part in neither place.

The order that carries the guarantee, for one partition: give every part its archived name, by a link or where that is
another disk by a copy; sync the folder; read each back whole; make the manifest durable that names them; and only then
take the names in Bronze away. A kill anywhere leaves parts in both places, which count once, and the next run goes on.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from spymaster import durable, events, paths
from spymaster.compaction.inputs import NextPartitions, inputs_of
from spymaster.errors import LayoutError, UsageError
from spymaster.lake import archive, layout, silver
from spymaster.lake.archive import Entry
from spymaster.lake.bronze import misread, read_footer
from spymaster.lake.layout import Tier
from spymaster.paths import Partition

# Another disk, or a file system without second names.
_NO_LINKS: Final = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_MOST_NAMED: Final = 20  # partitions in a refusal, which is one line


class Stayed(NamedTuple):
    """A partition that was left where it is, and why."""

    partition: Partition
    reason: str

    @property
    def place(self) -> str:
        """The partition for people: schema, instrument, date and hour."""
        where = self.partition
        hour = "" if where.hour is None else f" {where.hour:02d}h"
        return f"{where.schema}/{where.value} {where.date}{hour}"


@dataclass
class Archived:
    """What was moved: partitions, parts, their rows and bytes; and the partitions that stayed."""

    partitions: int = 0
    parts: int = 0
    rows: int = 0
    size_bytes: int = 0
    stayed: list[Stayed] = field(default_factory=list)


class _StaysError(Exception):
    """A partition stays; says why."""


def archive_before(data_root: Path, date: str, progress: Callable[[int, int], None] | None = None) -> Archived:
    """Move the Bronze parts of dates before `date` whose Silver is of just these parts. The caller holds the locks.

    Our own events (`system`) stay: they have no Silver. Running it again completes what a crash cut short.

    Args:
        data_root: the lake.
        date: the first UTC date that stays.
        progress: called with (partitions done, of how many).

    Raises:
        UsageError: `date` is not a calendar date; or there is something to move and all of it has to stay, so that
            nothing was.
        LayoutError: the lake is laid out otherwise.
        OSError: the disk refused; what was moved before is whole.
    """
    paths.check_date(date)
    own = [file for file in layout.drafts(data_root, Tier.BRONZE) if file.name == f".{archive.MANIFEST}.tmp"]
    for draft in [*layout.drafts(data_root, Tier.ARCHIVE), *own]:
        durable.remove(draft)
    done = Archived()
    next_partitions = NextPartitions(data_root)
    found = layout.find_parts(data_root)
    layout.require_own_layout(data_root, found)
    before = dict.fromkeys(where for where in found.parts.values() if where.date < date)
    wanted = [where for where in before if events.SCHEMAS[where.schema].kind == "market"]
    for number, partition in enumerate(wanted, 1):
        try:
            moved = _move(data_root, partition, next_partitions)
        except _StaysError as stays:
            done.stayed.append(Stayed(partition, str(stays)))
        else:
            done.partitions += bool(moved)
            done.parts += len(moved)
            done.rows += sum(entry.rows for entry in moved)
            done.size_bytes += sum(entry.size_bytes for entry in moved)
        if progress is not None:
            progress(number, len(wanted))
    if done.stayed and not done.parts:
        raise UsageError(_refusal(date, done.stayed))
    return done


def _refusal(date: str, stayed: list[Stayed]) -> str:
    named = "; ".join(f"{each.place} {each.reason}" for each in stayed[:_MOST_NAMED])
    more = f"; and {len(stayed) - _MOST_NAMED} more" if len(stayed) > _MOST_NAMED else ""
    return f"nothing before {date} can be archived: {named}{more}. Nothing was moved. Next: spymaster compact --all"


def _move(data_root: Path, partition: Partition, next_partitions: NextPartitions) -> list[Entry]:
    """Move a partition's parts, or finish moving them; return what was moved.

    Raises:
        _StaysError: it has to stay.
    """
    source, target = (layout.path(data_root, tier, partition.folder) for tier in layout.RECEIVED)
    here = sorted(layout.part_names(data_root, Tier.BRONZE, partition))
    try:
        named = archive.read_manifest(source)
    except LayoutError as error:
        raise _StaysError(str(error)) from error
    new = set(here) | layout.part_names(data_root, Tier.ARCHIVE, partition) - named.keys()
    if not new:
        return []
    if here:
        _require_silver(data_root, partition, next_partitions)
    for folder in (source, target):
        durable.make_directories(folder)
    for name in here:
        _bring(source / name, target / name)
    durable.sync_directory(target)
    entries = {name: _read_back(target / name) for name in sorted(new)}
    if others := [name for name in entries if named.get(name, entries[name]) != entries[name]]:
        raise _StaysError(f"{target / others[0]} has other bytes than its manifest says. Next: spymaster verify")
    archive.write_manifest(source, named | entries)
    for name in here:
        durable.remove(source / name)
    return [entries[name] for name in here]


def _require_silver(data_root: Path, partition: Partition, next_partitions: NextPartitions) -> None:
    """Make sure that Silver has all of a partition, and is what it would be made again of the archive.

    Raises:
        _StaysError: it has not.
    """
    try:
        footer = silver.read_footer(silver.file_of(data_root, partition))
        inputs = inputs_of(data_root, partition, footer.tolerance_ns if footer is not None else 0)
    except LayoutError as error:
        raise _StaysError(f"{error}") from error
    if footer is None:
        raise _StaysError("is not compacted")
    if not next_partitions.is_current(footer, inputs, partition):
        raise _StaysError("has changed since it was compacted")


def _bring(source: Path, target: Path) -> None:
    """Give a sound part its archived name, which is durable once the folder is synced.

    Raises:
        _StaysError: one of the two does not read.
    """
    data = durable.read(source)
    if (problem := misread(source, data)) is not None:
        raise _StaysError(f"{source} does not read: {problem}. Next: spymaster verify")
    try:
        durable.link(source, target)
    except FileExistsError:
        pass  # a run that was cut short brought it
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        durable.publish(data, target)
    if crc32c(durable.read(target)) != crc32c(data):
        raise _StaysError(f"{target} has other bytes than {source}. Next: move the first away")


def _read_back(part: Path) -> Entry:
    data = durable.read(part)
    if (problem := misread(part, data)) is not None:
        raise _StaysError(f"{part} does not read: {problem}. Next: spymaster verify")
    footer = read_footer(part)
    spans = tuple((span.capture_id, span.rows, span.first_seq, span.last_seq) for span in footer.captures)
    return Entry(footer.rows, len(data), crc32c(data), footer.segment, spans)

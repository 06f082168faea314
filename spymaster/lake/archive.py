"""Bronze parts that were moved out of the way, and the manifests that prove them all there.

A part keeps its path: `bronze/X` becomes `archive/bronze/X`, and `archive` may be a link to another disk. A name is
never used for other bytes, so a part that stands in both places, as after a crash between, counts once, by its path.
Parts are found by listing, wherever they lie, so that losing a manifest loses no row.

The manifest of a partition stays in its folder in Bronze, `_archived.json` (readers of Parquet folders pass over names
that begin so), where it tells that parts are gone though the archive's disk is. It has each archived part by its name
with its rows, its bytes, the CRC32C of these, its segment and, of each capture in it, [capture_id, rows, first
capture_seq, last]; beside that the CRC32C of all this as compact JSON with sorted keys. Whoever needs all of a
partition refuses to go on without a part that is named there.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from spymaster import durable
from spymaster.errors import LayoutError
from spymaster.lake import layout
from spymaster.lake.layout import Tier, Token
from spymaster.paths import Partition

MANIFEST: Final = "_archived.json"


class Entry(NamedTuple):
    """What a manifest says of one part; `captures` has (capture_id, rows, first_seq, last_seq) of each."""

    rows: int
    size_bytes: int
    crc32c: int
    segment: str
    captures: tuple[tuple[int, int, int, int], ...]


def parts_of(data_root: Path, partition: Partition) -> dict[str, Path]:
    """Return the archived parts of a partition by their names.

    To miss none that is being moved, list Bronze before.

    Raises:
        LayoutError: a part is not where its manifest says, or the manifest does not read: some may be missing.
    """
    bronze, folder = (layout.path(data_root, tier, partition.folder) for tier in layout.RECEIVED)
    found = layout.part_names(data_root, Tier.ARCHIVE, partition)
    if read_manifest(bronze).keys() - found:
        found = layout.part_names(data_root, Tier.ARCHIVE, partition)  # a move may have ended between the two
    lost = read_manifest(bronze).keys() - found
    if lost := {name for name in lost if not (bronze / name).exists()}:
        raise LayoutError(
            f"{folder / min(lost)} is not there, and {bronze / MANIFEST} says that it was archived ({len(lost)} such "
            f"parts). Nothing was changed. Next: mount the archive's disk or bring it back from a backup, and run "
            f"spymaster verify"
        )
    return {name: folder / name for name in found}


def is_archived(data_root: Path, partition: Partition, name: str) -> bool:
    """Return whether a part of this name is in the archive, or was: a name is never used again."""
    bronze, archived = (layout.path(data_root, tier, partition.folder) for tier in layout.RECEIVED)
    try:
        return (archived / name).exists() or name in read_manifest(bronze)
    except LayoutError:
        return False  # of what cannot be known, verify speaks; rows that come late are not refused for it


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return what the manifest in a folder of Bronze says of each part; nothing where there is none.

    Raises:
        LayoutError: it is not as it was written.
    """
    path = folder / MANIFEST
    try:
        return _decoded(path, layout.token(path))
    except FileNotFoundError:
        return {}


@lru_cache(maxsize=64)  # an hour may have 720 parts
def _decoded(path: Path, _token: Token) -> dict[str, Entry]:
    """Read a manifest whose file was not replaced since; nobody changes what this returns."""
    try:
        document = json.loads(bytes(durable.read(path)))
        if crc32c(_compact(document["parts"])) != document["crc32c"]:
            raise ValueError("its CRC32C differs")
        return {
            name: Entry(rows, size, summed, segment, tuple((i, n, first, last) for i, n, first, last in captures))
            for name, (rows, size, summed, segment, captures) in document["parts"].items()
        }
    except (ValueError, TypeError, KeyError, OSError) as error:
        if isinstance(error, OSError) and not durable.is_damage(error):
            raise
        raise LayoutError(
            f"{path} does not read ({error}). The parts that it names are as they were. Next: move it away, run "
            f"spymaster verify, and then spymaster archive, which makes it again of the parts that are there"
        ) from error


def write_manifest(folder: Path, entries: dict[str, Entry]) -> None:
    """Make the manifest in a folder of Bronze say this, durable on return."""
    parts = {name: list(entry) for name, entry in entries.items()}
    durable.rewrite(_compact({"crc32c": crc32c(_compact(parts)), "parts": parts}), folder / MANIFEST)


def _compact(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

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
from spymaster.paths import Partition

MANIFEST: Final = "_archived.json"
_PARTS: Final = "part-*.parquet"


class Entry(NamedTuple):
    """What a manifest says of one part; `captures` has (capture_id, rows, first_seq, last_seq) of each."""

    rows: int
    size_bytes: int
    crc32c: int
    segment: str
    captures: tuple[tuple[int, int, int, int], ...]


def bronze_of(data_root: Path) -> Path:
    """Return the folder of archived parts, laid out as Bronze."""
    return data_root / "archive" / "bronze"


def parts_of(data_root: Path, partition: Partition) -> dict[str, Path]:
    """Return the archived parts of a partition by their names.

    To miss none that is being moved, list Bronze before.

    Raises:
        LayoutError: a part is not where its manifest says, or the manifest does not read: some may be missing.
    """
    bronze, folder = (tier / partition.folder for tier in _tiers(data_root))
    found = {path.name: path for path in folder.glob(_PARTS)}
    if read_manifest(bronze).keys() - found.keys():
        found = {path.name: path for path in folder.glob(_PARTS)}  # a move may have ended between the two
    lost = read_manifest(bronze).keys() - found.keys()
    if lost := {name for name in lost if not (bronze / name).exists()}:
        raise LayoutError(
            f"{folder / min(lost)} is not there, and {bronze / MANIFEST} says that it was archived ({len(lost)} such "
            f"parts). Nothing was changed. Next: mount the archive's disk or bring it back from a backup, and run "
            f"spymaster verify"
        )
    return found


def parts_in_both(data_root: Path, folders: str) -> list[Path]:
    """Return the archived parts that are in Bronze too, as amid a move, by a pattern of their folders."""
    bronze, archived = _tiers(data_root)
    return [
        folder / part.name
        for folder in archived.glob(folders)
        for part in (bronze / folder.relative_to(archived)).glob(_PARTS)
        if (folder / part.name).exists()
    ]


def present_parts(data_root: Path, partition: Partition) -> list[Path]:
    """Return the parts of a partition that lie in Bronze or in the archive, by name; of two of a name the archived."""
    return list(_by_path([tier / partition.folder for tier in _tiers(data_root)], _PARTS, deep=False).values())


def is_archived(data_root: Path, partition: Partition, name: str) -> bool:
    """Return whether a part of this name is in the archive, or was: a name is never used again."""
    bronze, archived = (tier / partition.folder for tier in _tiers(data_root))
    try:
        return (archived / name).exists() or name in read_manifest(bronze)
    except LayoutError:
        return False  # of what cannot be known, verify speaks; rows that come late are not refused for it


def find_parts(data_root: Path) -> dict[str, Path]:
    """Return every Parquet file of Bronze and archive by its path below `bronze/`, in order of these."""
    return _by_path(_tiers(data_root), "*.parquet", deep=True)


def locate(data_root: Path, relative: str) -> Path:
    """Return where a part lies of which its path below `bronze/` is known."""
    bronze, archived = (tier / relative for tier in _tiers(data_root))
    return archived if archived.exists() else bronze


def _tiers(data_root: Path) -> tuple[Path, Path]:
    """Return both places, Bronze first: a part that is being moved is in the second before it leaves the first."""
    return data_root / "bronze", bronze_of(data_root)


def _by_path(folders: list[Path] | tuple[Path, ...], pattern: str, *, deep: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.rglob(pattern) if deep else folder.glob(pattern):
            if not path.name.startswith("."):
                found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return what the manifest in a folder of Bronze says of each part; nothing where there is none.

    Raises:
        LayoutError: it is not as it was written.
    """
    path = folder / MANIFEST
    try:
        found = path.stat()
        return _decoded(path, found.st_ino, found.st_mtime_ns, found.st_size)
    except FileNotFoundError:
        return {}


@lru_cache(maxsize=64)  # an hour may have 720 parts
def _decoded(path: Path, *_state: int) -> dict[str, Entry]:
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

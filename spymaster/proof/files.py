"""Bytes on disk against what catalog, manifests and descriptions say of them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from crc32c import crc32c

from spymaster import durable, paths
from spymaster.errors import LayoutError
from spymaster.lake import archive, catalog, layout
from spymaster.lake.bronze import misread, read_footer, require_known_version
from spymaster.lake.catalog import IndexedFile
from spymaster.lake.layout import Listing, Tier
from spymaster.lake.parquet import is_foreign
from spymaster.paths import Partition
from spymaster.proof.verdict import Verdict
from spymaster.wal.folder import quarantine_descriptions
from spymaster.wal.quarantine import quarantined


def read_bytes(path: Path) -> memoryview | str:
    """Return a file's bytes, or what the medium says where it does not give them.

    Raises:
        OSError: they cannot be read for another reason, of which nothing follows.
    """
    try:
        return durable.read(path)
    except OSError as error:
        if not durable.is_damage(error):
            raise
        return f"cannot be read: {error.strerror}"


def list_twice(data_root: Path) -> tuple[Listing, dict[str, Partition]]:
    """Return what is there, and the parts that a second listing has more.

    A walk may pass a folder before a part comes, and meet a later part: what came before that one is in the second.

    Raises:
        LayoutError: the lake is laid out otherwise.
    """
    first, second = layout.find_parts(data_root), layout.find_parts(data_root)
    layout.require_own_layout(data_root, first)
    return first, {key: where for key, where in second.parts.items() if key not in first.parts}


def report_foreign(found: Listing, verdict: Verdict) -> None:
    """Add a finding for each Parquet file that is not ours."""
    verdict.findings += [
        f"{key} is not ours and was passed over. Next: move it out of the lake" for key in found.foreign
    ]
    if (more := found.foreign_count - len(found.foreign)) > 0:
        verdict.findings.append(f"{more} more Parquet files are not ours and were passed over")


def read_catalog(data_root: Path, verdict: Verdict) -> dict[str, IndexedFile]:
    """Return what the catalog says of every part; that it does not read is a finding."""
    try:
        catalog.read_totals(data_root)
        return catalog.read_files(data_root)
    except LayoutError as error:
        verdict.findings.append(str(error))
        return {}


def report_absent(absent: dict[str, IndexedFile], archived: dict[str, IndexedFile], verdict: Verdict) -> None:
    """Add a finding for each part that a manifest or the catalog names and that is not there."""
    verdict.findings += [
        f"bronze/{relative} is in {'its archive manifest' if relative in archived else 'the catalog'} "
        f"({absent[relative].rows} rows) and not on disk"
        for relative in sorted(absent)
    ]


def audit_archive(data_root: Path, verdict: Verdict) -> dict[str, IndexedFile]:
    """Return what the manifests of the archive say of every part, and compare them with what is there.

    An archiver names a part before its Bronze name goes, so of parts that no manifest names these are asked for first.
    """
    present = set(layout.find_parts(data_root).archived)
    doubled = {key for key in present if layout.path(data_root, Tier.BRONZE, key).exists()}
    named: dict[str, IndexedFile] = {}
    for folder in layout.files_named(data_root, Tier.BRONZE, archive.MANIFEST):
        try:
            entries = archive.read_manifest(layout.path(data_root, Tier.BRONZE, folder))
        except LayoutError as error:
            verdict.findings.append(str(error))
            present = {relative for relative in present if not relative.startswith(f"{folder}/")}
            continue
        for name, entry in entries.items():
            if (where := paths.parse_part(f"{folder}/{name}")) is not None:
                captures = frozenset(capture_id for capture_id, *_ in entry.captures)
                named[f"{folder}/{name}"] = IndexedFile(
                    where.schema, where.date, entry.rows, entry.size_bytes, entry.crc32c, captures
                )
    for relative in sorted(present - named.keys() - doubled):
        verdict.findings.append(f"archive/bronze/{relative} is there, and no manifest names it")
    for relative in sorted(doubled):
        verdict.notes.append(f"{relative} is in Bronze and in the archive. Next: spymaster archive, as before")
    return named


def audit_files(
    data_root: Path,
    parts: dict[str, Partition],
    indexed: dict[str, IndexedFile],
    archived: dict[str, IndexedFile],
    verdict: Verdict,
    progress: Callable[[int, int], None] | None,
    todo: int,
) -> dict[str, Partition]:
    """Compare every part's bytes with the CRC32C that catalog and archive have of it; return the parts that stand.

    Raises:
        LayoutError: a later version wrote one.
    """
    sound = {}
    for number, (relative, partition) in enumerate(parts.items(), 1):
        path = layout.locate(data_root, relative)
        data = read_bytes(path)
        claims = [claim for claim in (indexed.get(relative), archived.get(relative)) if claim is not None]
        if relative not in indexed:
            verdict.notes.append(
                f"bronze/{relative} is not in the catalog. Next: if no daemon runs, spymaster catalog rebuild"
            )
        place = path.relative_to(data_root).as_posix()
        if isinstance(data, str):
            verdict.findings.append(f"{place} {data}")
        elif any((len(data), crc32c(data)) != (claim.size_bytes, claim.crc32c) for claim in claims):
            verdict.findings.append(f"{place} has other bytes than were written (CRC32C differs)")
        elif (problem := misread(path, data)) is not None:
            stranger = "is not ours and was passed over. Next: move it out of the lake"
            verdict.findings.append(f"{place} {stranger if is_foreign(path) else f'does not read: {problem}'}")
        else:
            require_known_version(path, read_footer(path).version)
            sound[relative] = partition
        verdict.files += 1
        if progress is not None:
            progress(number, todo)
    return sound


def audit_quarantine(wal_root: Path, data_root: Path, verdict: Verdict) -> None:
    """Compare what lies in quarantine with its descriptions. Both are kept; that the bytes are gone is a finding."""
    for entry in quarantined(wal_root):
        if entry.description is None:
            verdict.notes.append(f"{entry.path} has no description: a recovery was cut short. Next: spymaster recover")
        elif isinstance(data := read_bytes(entry.path), str):
            verdict.findings.append(f"{entry.path} in quarantine {data}")
        elif hashlib.sha256(data).hexdigest() != entry.description.get("sha256"):
            verdict.notes.append(f"{entry.path} reads otherwise than when it was put there. Next: spymaster recover")
    described = {path: path.with_suffix("") for path in quarantine_descriptions(wal_root)}
    described |= {path: path.with_suffix(".bin") for path in layout.quarantine_descriptions(data_root)}
    for description, kept in sorted(described.items()):
        if not kept.exists():
            verdict.findings.append(f"{kept} is gone from quarantine; {description.name} says what it held")

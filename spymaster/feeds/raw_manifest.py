"""`raw/manifest.json`: which vendor files were ingested, by the hash of their content, and what became of each.

For people and scripts: whether a file in `raw/` may go is a question about its capture, and the lake answers that one
(`system.captures`). So losing the manifest loses nothing, and one that cannot be read is moved aside.
"""

import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from spymaster import durable

NAME: Final = "manifest.json"
MAX_FILES: Final = 100_000  # some decades of day files; beyond, those recorded first go
_turn = threading.Lock()  # each feed of files has a thread of its own
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def record(
    raw_root: Path, path: Path, sha256: str, size_bytes: int, rows_per_schema: Mapping[str, int], capture_id: int
) -> None:
    """Record that a file was ingested, durable on return. One that is there already is recorded anew, at the end.

    Args:
        raw_root: the folder of the manifest; made if it is not there.
        path: the file, stored relative to `raw_root` where it lies below it.
        sha256: of its bytes as they lie on disk.
        size_bytes: how many these are.
        rows_per_schema: how many rows it gave of each schema.
        capture_id: the capture that they are in.

    Raises:
        OSError: the disk refused; the manifest is as it was.
    """
    with _turn:
        durable.make_directories(raw_root)
        files = _read(raw_root)
        files.pop(sha256, None)
        inside = path.resolve().is_relative_to(raw_root.resolve())
        name = path.resolve().relative_to(raw_root.resolve()) if inside else path.resolve()
        files[sha256] = {
            "path": str(name),
            "bytes": size_bytes,
            "rows": sum(rows_per_schema.values()),
            "rows_per_schema": dict(sorted(rows_per_schema.items())),
            "capture_id": capture_id,
        }
        for oldest in list(files)[: max(0, len(files) - MAX_FILES)]:
            del files[oldest]
        durable.rewrite(json.dumps({"files": files}, indent=1).encode(), raw_root / NAME)


def entries(raw_root: Path) -> dict[str, dict[str, Any]]:
    """Return what was ingested, by hash: `path`, `bytes`, `rows`, `rows_per_schema` and `capture_id`.

    Entries of before have neither `bytes` nor `rows_per_schema`. Nothing where the manifest does not read.
    """
    return _decode(raw_root / NAME) or {}


def _read(raw_root: Path) -> dict[str, dict[str, Any]]:
    """Return the entries, having moved aside a manifest that does not read."""
    manifest = raw_root / NAME
    files = _decode(manifest)
    if files is None and manifest.exists():
        number = 1
        while (aside := raw_root / f"{NAME}.damaged-{number}").exists():
            number += 1
        with suppress(FileNotFoundError):
            durable.replace(manifest, aside)
            durable.sync_directory(raw_root)
    return files or {}


def _decode(manifest: Path) -> dict[str, dict[str, Any]] | None:
    """Return the entries of a manifest that reads, else None."""
    try:
        files = json.loads(manifest.read_bytes())["files"]
        sound = all(
            _SHA256.fullmatch(sha256)
            and isinstance(entry["path"], str)
            and isinstance(entry["rows"], int)
            and isinstance(entry["capture_id"], int)
            for sha256, entry in files.items()
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return files if sound else None

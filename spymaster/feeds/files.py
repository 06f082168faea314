"""Vendor files on disk: which ones a user's path means, and how one is opened."""

import os
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import NoReturn

from spymaster.errors import SourceError


def files_meant(path_text: str, scheme: str, suffixes: Sequence[str]) -> list[tuple[Path, str]]:
    """Return the files that a path means, sorted, each with its origin as a user would name it.

    Args:
        path_text: one file, whatever its name; or a folder or glob, for the files in it and below.
        scheme: the kind of source, which begins each origin.
        suffixes: how the names of files in folders must end.

    Raises:
        SourceError: there are none.
    """
    given = Path(path_text).expanduser() if path_text.startswith("~/") else Path(path_text)
    files = _files_meant(given, f"{scheme}:{given}", tuple(suffixes))
    if not files:
        raise SourceError(
            f"{scheme}:{path_text} holds no files that end in {' or '.join(suffixes)}. Nothing was recorded. "
            f"Next: name a file, a folder or a glob that does"
        )
    # A single file is called what the user called it.
    return [(file, f"{scheme}:{path_text if files == [given] else file}") for file in files]


def refuse(origin: str, reason: str, suffixes: Sequence[str], cause: BaseException | None = None) -> NoReturn:
    """Raise that a file cannot be read at all."""
    raise SourceError(
        f"{origin} cannot be read: {reason}. Nothing was recorded from it. "
        f"Next: check that it is a {' or '.join(suffixes)} file of the vendor's and that it may be read"
    ) from cause


def open_file(path: Path, origin: str, suffixes: Sequence[str]) -> BufferedReader:
    """Open a regular file.

    Raises:
        SourceError: it cannot be opened, or is none.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
            refuse(origin, "it is not a regular file", suffixes)
        return path.open("rb")
    except OSError as error:
        refuse(origin, error.strerror or str(error), suffixes, error)


def version_of(file: BufferedReader) -> tuple[int, ...]:
    """Return what changes when the file is written to or replaced."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_unchanged(file: BufferedReader, version: tuple[int, ...], origin: str) -> None:
    """Check that the file is the one whose version is known.

    Raises:
        SourceError: it is not.
    """
    if version_of(file) != version:
        raise SourceError(
            f"{origin} was changed while it was being read. What was recorded from it stays, and the capture "
            f"is marked incomplete. Next: wait until the file is finished, and run the same command"
        )


def _files_meant(path: Path, origin: str, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        if path.exists() or path.is_symlink():
            return _files_below(path, suffixes) if path.is_dir() else [path]
        matches = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not matches:
            refuse(origin, "there is no such file, folder or match", suffixes)
        files = (_files_below(match, suffixes) if match.is_dir() else [match] for match in matches)
        return sorted({file for some in files for file in some if file.name.endswith(suffixes)})
    except (OSError, ValueError, NotImplementedError) as error:
        refuse(origin, getattr(error, "strerror", None) or str(error), suffixes, error)


def _files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files in and below a folder; folders that are links are left out. One that is closed to us raises."""

    def refuse_folder(error: OSError) -> NoReturn:
        raise error

    return sorted(
        Path(where, name)
        for where, _, names in os.walk(folder, onerror=refuse_folder)
        for name in names
        if name.endswith(suffixes)
    )

"""Vendor files on disk: which ones a user's path means, how one is opened and read in bursts."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Final, Generic, NoReturn, Self, TypeVar

from spymaster.errors import SourceError
from spymaster.events.captures import CaptureSummary
from spymaster.feeds import raw_manifest
from spymaster.feeds.feed import Burst, DeliveryInfo, Frontiers, RawMessage


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
        SourceError: it cannot be opened, or is not a regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
            refuse(origin, "it is not a regular file", suffixes)
        return path.open("rb")
    except OSError as error:
        refuse(origin, error.strerror or str(error), suffixes, error)


SIZE: Final = 2  # its place in a version


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


class FileDelivery:
    """One file, read in a thread: its pieces are bursts of one message."""

    info: DeliveryInfo
    _version: tuple[int, ...]  # of the file that was hashed

    def __init__(self, path: Path, origin: str, thread: Executor | None, raw_root: Path | None) -> None:
        self.path, self._origin, self._thread, self._raw_root = path, origin, thread, raw_root
        self._closed = False

    def pieces(self) -> Generator[bytes]:
        """Yield the bytes after the header; runs in the thread."""
        raise NotImplementedError

    async def bursts(self) -> AsyncGenerator[Burst]:
        """Yield a piece of the file at a time.

        Raises:
            TruncatedError: after the last sound bytes, a file that ends amid a record, a line or its compression.
            SourceError: after the last sound bytes, a damaged file, or one whose disk does not give its bytes; or one
                that is not the one that was hashed.
        """
        loop = asyncio.get_running_loop()
        pieces = self.pieces()
        try:
            while not self._closed:
                piece = await loop.run_in_executor(self._thread, next, pieces, None)
                if piece is None:
                    return
                yield [RawMessage(piece, None)]
        except OSError as error:
            raise SourceError(
                f"{self._origin} cannot be read further: {error.strerror or error}. What was recorded from it stays, "
                f"and the capture is marked incomplete. Next: check its disk, then run the same command"
            ) from error
        finally:
            await loop.run_in_executor(self._thread, pieces.close)

    async def close(self) -> None:
        self._closed = True

    async def recorded(self, outcome: CaptureSummary) -> None:
        """List the file in the manifest of the folder of vendor files, if it lies there and is recorded whole."""
        if outcome.complete and outcome.capture_id is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._list, outcome, outcome.capture_id)

    def _list(self, outcome: CaptureSummary, capture_id: int) -> None:
        root, sha256 = self._raw_root, self.info.content_sha256
        if root is None or sha256 is None or not self.path.resolve().is_relative_to(root.resolve()):
            return
        if outcome.already_captured and "bytes" in raw_manifest.entries(root).get(sha256, {}):
            return  # else it was captured before the manifest listed such files, or the manifest was lost
        raw_manifest.record(root, self.path, sha256, self._version[SIZE], outcome.rows, capture_id)


Opened = TypeVar("Opened", bound=FileDelivery)


class FileFeed(Generic[Opened]):
    """Files one after another, in a thread of their own: while one is hashed, no other source waits for it."""

    waits = True

    def __init__(self, files: Sequence[tuple[Path, str]], opened: Callable[[Path, str, Executor], Opened]) -> None:
        self._files, self._opened = files, opened

    def deliveries(self, frontiers: Frontiers) -> AsyncIterator[Opened]:
        """Open one file after another. One that cannot be read raises in its turn; the next call goes on after it."""
        return _Deliveries(self._files, self._opened)


class _Deliveries(Generic[Opened]):
    def __init__(self, files: Sequence[tuple[Path, str]], opened: Callable[[Path, str, Executor], Opened]) -> None:
        self._left, self._opened = iter(files), opened
        self._thread = ThreadPoolExecutor(1, "file")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Opened:
        file = next(self._left, None)
        if file is None:
            raise StopAsyncIteration
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._opened, *file, self._thread)
        except OSError as error:
            raise SourceError(
                f"{file[1]} cannot be read: {error.strerror or error}. Nothing was recorded from it. "
                f"Next: check its disk, then run the same command"
            ) from error

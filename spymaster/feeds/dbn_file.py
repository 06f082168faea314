"""DBN files as the vendor delivers them: `.dbn`, or `.dbn.zst`, one after another. The bytes are handed on as they are.

A `.dbn.zst` file is a row of zstd frames; the vendor's own hold the metadata header in one and the records in the next.
Why each frame is decompressed by itself: the usual streaming reader takes a cut frame for the end of the file, and so
a download that broke off would pass for the whole.

What cannot be seen here: a `.dbn` file cut between two records, or a `.dbn.zst` file cut between two frames, as DBN has
no trailer and no record count; and a flipped bit where no checksum is: in a `.dbn` file, or in a frame without one
(the vendor's have one). A cut inside a record is seen by the normalizer, which knows where records end.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NoReturn, Self

import databento_dbn as dbn
import zstandard

from spymaster.errors import SourceError, TruncatedError
from spymaster.feeds.feed import DeliveryInfo, RawMessage

MESSAGE_BYTES: Final = 512 * 1024
_READ_BYTES: Final = 8 * 1024  # a few kB of hostile zstd can hold gigabytes, so little is decompressed at once
_SUFFIXES: Final = (".dbn", ".dbn.zst")
_DBN_MAGIC: Final = b"DBN"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE_MAGICS: Final = tuple(bytes([byte, 0x2A, 0x4D, 0x18]) for byte in range(0x50, 0x60))
_PREFIX_BYTES: Final = 8  # of the header: magic, version, length of what follows
_MAPPING: Final = 22
# Where a mapping record holds the symbol asked for and the one that its id stands for, by its size: DBN version 1,
# and versions 2 and 3; each may end in eight bytes of `ts_out`.
_SYMBOLS_V1, _SYMBOLS_V2 = (slice(16, 38), slice(38, 60)), (slice(17, 88), slice(89, 160))
_MAPPING_SYMBOLS: Final = {80: _SYMBOLS_V1, 88: _SYMBOLS_V1, 176: _SYMBOLS_V2, 184: _SYMBOLS_V2}


class DbnFileFeed:
    """The files that a path means: one file, or the `.dbn` and `.dbn.zst` files of a folder or of a glob's matches."""

    paced = False

    def __init__(self, path_text: str) -> None:
        """Find the files; none is opened yet.

        Raises:
            SourceError: there are none.
        """
        given = Path(path_text).expanduser() if path_text.startswith("~/") else Path(path_text)
        self._files = _files_meant(given)
        if not self._files:
            raise SourceError(
                f"dbn:{path_text} holds no files that end in {' or '.join(_SUFFIXES)}. Nothing was recorded. "
                f"Next: name a file, a folder or a glob that does"
            )
        # A single file is called what the user called it.
        self._origin = f"dbn:{path_text}" if self._files == [given] else None

    def deliveries(self) -> Iterator["DbnFileDelivery"]:
        """Open one file after another, sorted by path.

        A file that cannot be read raises in its turn; the call after that goes on with the file after it.
        """
        return map(self._open, self._files)

    def _open(self, path: Path) -> "DbnFileDelivery":
        return DbnFileDelivery(path, self._origin or f"dbn:{path}")


class DbnFileDelivery:
    """One file. On opening it is hashed and its header is read; then it is open only while `messages` runs."""

    def __init__(self, path: Path, origin: str) -> None:
        """Read what is known before the first row.

        Raises:
            TruncatedError: the file ends inside its header.
            SourceError: it cannot be opened, or is no DBN file.
        """
        self._path, self._origin = path, origin
        with _DbnReader(path, origin) as reader:
            self._version = reader.version()
            digest = reader.sha256()
            header = reader.read_header()
            symbols = () if _maps(header) else tuple(dict.fromkeys(_symbols_in_stream(reader)))
        self.info = DeliveryInfo(origin, digest, header, symbols)

    async def messages(self) -> AsyncGenerator[RawMessage, None]:
        """Yield the bytes after the header.

        Raises:
            TruncatedError: after the last sound bytes, a compressed file that ends inside a frame.
            SourceError: after the last sound bytes, a damaged frame; or a file that is not the one that was hashed.
        """
        with _DbnReader(self._path, self._origin) as reader:
            self._check_unchanged(reader)
            await asyncio.to_thread(reader.read_header)
            while piece := await asyncio.to_thread(reader.read):
                yield RawMessage(piece, None)
            self._check_unchanged(reader)

    def _check_unchanged(self, reader: "_DbnReader") -> None:
        if reader.version() != self._version:
            raise SourceError(
                f"{self._origin} was changed while it was being read. What was recorded from it stays, and the capture "
                f"is marked incomplete. Next: wait until the file is finished, and run the same command"
            )


class _DbnReader:
    """Reads one open DBN file, decompressed: first the header, then pieces of at most `MESSAGE_BYTES`."""

    def __init__(self, path: Path, origin: str) -> None:
        self._origin = origin
        self._pieces: Iterator[bytes] = iter(())
        self._held = b""  # what was read beyond the header
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
                _refuse(origin, "it is not a regular file")
            self._file = path.open("rb")
        except OSError as error:
            _refuse(origin, error.strerror or str(error), error)
        try:
            self._rewind()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def version(self) -> tuple[int, ...]:
        """Return what changes when the file is written to or replaced."""
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def sha256(self) -> str:
        """Hash the file as it lies on disk."""
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        self._rewind()
        return digest

    def read_header(self) -> bytes:
        """Return the metadata header. It may span pieces and frames."""
        held, size = bytearray(), _PREFIX_BYTES
        while len(held) < size:
            piece = next(self._pieces, b"")
            held += piece
            if held[:3] != _DBN_MAGIC[: len(held)]:
                _refuse(self._origin, "it does not begin as DBN does")
            if not piece:
                raise TruncatedError(self._origin, self._file.tell(), "the file ends inside its DBN header")
            if len(held) >= _PREFIX_BYTES:
                size = _PREFIX_BYTES + int.from_bytes(held[4:8], "little")
        self._held = bytes(held[size:])
        return bytes(held[:size])

    def read(self) -> bytes:
        """Return the next piece, or nothing at the end of the file."""
        piece, self._held = self._held or next(self._pieces, b""), b""
        return piece

    def _rewind(self) -> None:
        self._file.seek(0)
        magic = self._file.read(4)
        self._file.seek(0)
        self._held = b""
        if magic == _ZSTD_MAGIC or magic in _ZSTD_SKIPPABLE_MAGICS:
            self._pieces = _in_messages(_decompressed(self._file, self._origin))
        elif magic[:3] == _DBN_MAGIC:
            self._pieces = iter(lambda: self._file.read(MESSAGE_BYTES), b"")
        elif len(magic) < 4 and any(whole.startswith(magic) for whole in (_DBN_MAGIC, _ZSTD_MAGIC)):
            raise TruncatedError(self._origin, len(magic), "the file ends before its DBN header")
        else:
            _refuse(self._origin, "it begins neither as DBN nor as zstd does")


def _refuse(origin: str, reason: str, cause: BaseException | None = None) -> NoReturn:
    raise SourceError(
        f"{origin} cannot be read: {reason}. Nothing was recorded from it. "
        f"Next: check that it is a .dbn or .dbn.zst file of the vendor's and that it may be read"
    ) from cause


def _decompressed(file: BinaryIO, origin: str) -> Iterator[bytes]:
    """Decompress frame after frame, and raise if the last one does not reach its end."""
    at = begin = 0  # offsets in the file: of the next byte to decompress, of the frame it lies in
    frame = None
    while data := file.read(_READ_BYTES):
        while data:
            if frame is None:
                frame, begin = zstandard.ZstdDecompressor().decompressobj(), at
            try:
                part = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise SourceError(
                    f"{origin} is damaged at byte {at} of the file or within {len(data)} bytes after it, in the zstd "
                    f"frame that begins at byte {begin} ({error}). What comes before is recorded, and the capture is "
                    f"marked incomplete. Next: fetch the file again and run the same command"
                ) from error
            if part:
                yield part
            at += len(data) - len(frame.unused_data)
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise TruncatedError(origin, at, f"the file ends there, inside the zstd frame that begins at its byte {begin}")


def _in_messages(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Join and cut to messages of full size. What came before an error is yielded before it is raised."""
    held = bytearray()
    try:
        for part in parts:
            held += part
            while len(held) >= MESSAGE_BYTES:
                yield bytes(held[:MESSAGE_BYTES])
                del held[:MESSAGE_BYTES]
    except SourceError:
        if held:
            yield bytes(held)
        raise
    if held:
        yield bytes(held)


def _maps(header: bytes) -> bool:
    """Return whether the header says what ids mean. One that cannot be decoded the normalizer refuses."""
    try:
        return bool(dbn.Metadata.decode(header).mappings)
    except BaseException as error:
        # On some damage the vendor's decoder panics, and a Rust panic is no Exception.
        if not isinstance(error, dbn.DBNError) and type(error).__name__ != "PanicException":
            raise
        return True


def _symbols_in_stream(reader: _DbnReader) -> Iterator[str]:
    """Name what mapping records map ids to, as far as the file is sound; `messages` reports where it is not."""
    rest = b""
    with suppress(SourceError):
        while rest[:1] != b"\0" and (piece := reader.read()):
            rest += piece
            at = 0
            while at < len(rest) and (size := rest[at] * 4) and at + size <= len(rest):
                if rest[at + 1] == _MAPPING and size in _MAPPING_SYMBOLS:
                    asked_for, meant = (_text(rest[at : at + size][part]) for part in _MAPPING_SYMBOLS[size])
                    if name := asked_for if meant.isdigit() else meant:
                        yield name
                at += size
            rest = rest[at:]


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _files_meant(path: Path) -> list[Path]:
    try:
        if path.exists() or path.is_symlink():
            return _files_below(path) if path.is_dir() else [path]
        matches = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not matches:
            _refuse(f"dbn:{path}", "there is no such file, folder or match")
        files = (_files_below(match) if match.is_dir() else [match] for match in matches)
        return sorted({file for some in files for file in some if file.name.endswith(_SUFFIXES)})
    except (OSError, ValueError, NotImplementedError) as error:
        _refuse(f"dbn:{path}", getattr(error, "strerror", None) or str(error), error)


def _files_below(folder: Path) -> list[Path]:
    """List the files in and below a folder; folders that are links are left out. One that is closed to us raises."""

    def refuse(error: OSError) -> NoReturn:
        raise error

    return sorted(
        Path(where, name)
        for where, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.endswith(_SUFFIXES)
    )

"""DBN files as the vendor delivers them: `.dbn`, or `.dbn.zst`, one after another. The bytes are handed on as they are.

A `.dbn.zst` file is a row of zstd frames; the vendor's own hold the metadata header in one and the records in the next.
Why each frame is decompressed by itself: the usual streaming reader takes a cut frame for the end of the file, and so
a download that broke off would pass for the whole.

What cannot be seen here: a `.dbn` file cut between two records, or a `.dbn.zst` file cut between two frames, as DBN has
no trailer and no record count; and a flipped bit where no checksum is: in a `.dbn` file, or in a frame without one
(the vendor's have one). A cut inside a record is seen by the normalizer, which knows where records end.
"""

import hashlib
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import databento_dbn as dbn
import zstandard

from spymaster.errors import SourceError, TruncatedError
from spymaster.events.encoding import Dbn
from spymaster.feeds.feed import DeliveryInfo
from spymaster.feeds.files import FileDelivery, FileFeed, check_unchanged, files_meant, open_file, refuse, version_of

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


class DbnFileFeed(FileFeed["DbnFileDelivery"]):
    """The files that a path means: one file, or the `.dbn` and `.dbn.zst` files of a folder or of a glob's matches."""

    pace_by = "ts_recv_ns"  # the vendor's capture time

    def __init__(self, path_text: str, raw_root: Path | None = None) -> None:
        """Find the files; none is opened yet.

        Args:
            path_text: what the user named.
            raw_root: where vendor files are kept; one below it is listed in its manifest once it is recorded.

        Raises:
            SourceError: there are none.
        """
        super().__init__(
            files_meant(path_text, "dbn", _SUFFIXES),
            lambda path, origin, thread: DbnFileDelivery(path, origin, thread, raw_root),
        )


class DbnFileDelivery(FileDelivery):
    """One file. On opening it is hashed and its header is read; then it is open only while `bursts` runs."""

    def __init__(self, path: Path, origin: str, thread: Executor | None = None, raw_root: Path | None = None) -> None:
        """Read what is known before the first row.

        Raises:
            TruncatedError: the file ends inside its header.
            SourceError: it cannot be opened, or is no DBN file.
        """
        super().__init__(path, origin, thread, raw_root)
        with _DbnReader(path, origin) as reader:
            self._version = version_of(reader.file)
            digest = reader.sha256()
            header = reader.read_header()
            symbols = () if _maps(header) else tuple(dict.fromkeys(_symbols_in_stream(reader)))
        self.info = DeliveryInfo(origin, Dbn(header, symbols), digest)

    def pieces(self) -> Generator[bytes]:
        with _DbnReader(self.path, self._origin) as reader:
            check_unchanged(reader.file, self._version, self._origin)
            reader.read_header()
            while piece := reader.read():
                yield piece
            check_unchanged(reader.file, self._version, self._origin)


class _DbnReader:
    """Reads one open DBN file, decompressed: first the header, then pieces of at most `MESSAGE_BYTES`."""

    def __init__(self, path: Path, origin: str) -> None:
        self._origin = origin
        self._pieces: Iterator[bytes] = iter(())
        self._held = b""  # what was read beyond the header
        self.file = open_file(path, origin, _SUFFIXES)
        try:
            self._rewind()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def sha256(self) -> str:
        """Hash the file as it lies on disk."""
        self.file.seek(0)
        digest = hashlib.file_digest(self.file, "sha256").hexdigest()
        self._rewind()
        return digest

    def read_header(self) -> bytes:
        """Return the metadata header. It may span pieces and frames."""
        held, size = bytearray(), _PREFIX_BYTES
        while len(held) < size:
            piece = next(self._pieces, b"")
            held += piece
            if held[:3] != _DBN_MAGIC[: len(held)]:
                refuse(self._origin, "it does not begin as DBN does", _SUFFIXES)
            if not piece:
                raise TruncatedError(self._origin, self.file.tell(), "the file ends inside its DBN header")
            if len(held) >= _PREFIX_BYTES:
                size = _PREFIX_BYTES + int.from_bytes(held[4:8], "little")
        self._held = bytes(held[size:])
        return bytes(held[:size])

    def read(self) -> bytes:
        """Return the next piece, or nothing at the end of the file."""
        piece, self._held = self._held or next(self._pieces, b""), b""
        return piece

    def _rewind(self) -> None:
        self.file.seek(0)
        magic = self.file.read(4)
        self.file.seek(0)
        self._held = b""
        if magic == _ZSTD_MAGIC or magic in _ZSTD_SKIPPABLE_MAGICS:
            self._pieces = _in_messages(_decompressed(self.file, self._origin))
        elif magic[:3] == _DBN_MAGIC:
            self._pieces = iter(lambda: self.file.read(MESSAGE_BYTES), b"")
        elif len(magic) < 4 and any(whole.startswith(magic) for whole in (_DBN_MAGIC, _ZSTD_MAGIC)):
            raise TruncatedError(self._origin, len(magic), "the file ends before its DBN header")
        else:
            refuse(self._origin, "it begins neither as DBN nor as zstd does", _SUFFIXES)


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
    """Name what mapping records map ids to, as far as the file is sound; `bursts` reports where it is not."""
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

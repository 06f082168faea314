"""Massive's day files: `.csv.gz`, or `.csv`, one after another. Pieces of whole lines, as they are.

A file is whole if its gzip stream reaches its end with the right checksum and length (`zlib` compares both), nothing
but further gzip members follows, and its last line has an end. What cannot be seen here: a `.csv` file cut between two
lines, or a compressed one cut between two members, as the format has no trailer and no row count.

To name a file's streams its tickers must be known before its first row: those of its first and, where that is another
root, of a second one. A file of one root is read twice for it, as only its end says that there is no other.
"""

import csv
import hashlib
import io
import re
import zlib
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import BinaryIO, Final

from spymaster.errors import SourceError, TruncatedError
from spymaster.events.encoding import MassiveDayFile
from spymaster.feeds.feed import DeliveryInfo
from spymaster.feeds.files import FileDelivery, FileFeed, check_unchanged, files_meant, open_file, version_of

MESSAGE_BYTES: Final = 512 * 1024  # lines of less than eight bytes are none, so a piece has fewer than 65,536 rows
_READ_BYTES: Final = 64 * 1024
_SUFFIXES: Final = (".csv.gz", ".csv")
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP: Final = 31  # zlib's name for: a gzip header, and at the end its checksum and length, compared
_OCC: Final = re.compile(r"O:(.+)([0-9]{2})([0-9]{2})([0-9]{2})[CP][0-9]{8}")  # root; year, month, day; strike


class FlatFileFeed(FileFeed["FlatFileDelivery"]):
    """The files that a path means: one file, or the `.csv.gz` and `.csv` files of a folder or of a glob's matches."""

    pace_by = "ts_event_ns"  # of what Massive sends only the event has a vendor's time

    def __init__(self, path_text: str, raw_root: Path | None = None) -> None:
        """Find the files; none is opened yet.

        Args:
            path_text: what the user named.
            raw_root: where vendor files are kept; one below it is listed in its manifest once it is recorded.

        Raises:
            SourceError: there are none.
        """
        super().__init__(
            files_meant(path_text, "flatfile", _SUFFIXES),
            lambda path, origin, thread: FlatFileDelivery(path, origin, thread, raw_root),
        )


class FlatFileDelivery(FileDelivery):
    """One file. On opening it is hashed and its header is read; then it is open only while `bursts` runs.

    Attributes:
        info: what is known before the first row.
        path: the file.
        rows: lines delivered so far, the header not counted.
    """

    def __init__(self, path: Path, origin: str, thread: Executor | None = None, raw_root: Path | None = None) -> None:
        """Read what is known before the first row.

        Raises:
            TruncatedError: the file ends inside its header.
            SourceError: it cannot be opened, or is no such file.
        """
        super().__init__(path, origin, thread, raw_root)
        self.rows = 0
        with open_file(path, origin, _SUFFIXES) as file:
            self._version = version_of(file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines = _pieces(file, origin)
            header = next(lines)
            tickers = tuple(_tickers(header, lines))
        self.info = DeliveryInfo(origin, MassiveDayFile(header, tickers), digest)

    def pieces(self) -> Generator[bytes]:
        self.rows = 0
        with open_file(self.path, self._origin, _SUFFIXES) as file:
            check_unchanged(file, self._version, self._origin)
            lines = _pieces(file, self._origin)
            next(lines)  # the header
            for piece in lines:
                self.rows += piece.count(b"\n")
                yield piece
            check_unchanged(file, self._version, self._origin)


def _pieces(file: BinaryIO, origin: str) -> Iterator[bytes]:
    """Yield the header line, then pieces of whole lines. What came before an error is yielded before it is raised."""
    file.seek(0)
    begin = file.read(2)
    file.seek(0)
    if not begin:
        raise TruncatedError(origin, 0, "the file is empty")
    parts = _decompressed(file, origin) if begin == _GZIP_MAGIC else iter(lambda: file.read(_READ_BYTES), b"")
    held, header_seen = bytearray(), False
    try:
        for part in parts:
            held += part
            if not header_seen and (end := held.find(b"\n") + 1):
                yield bytes(held[:end])
                del held[:end]
                header_seen = True
            if len(held) >= MESSAGE_BYTES and (end := held.rfind(b"\n", 0, MESSAGE_BYTES) + 1):
                yield bytes(held[:end])
                del held[:end]
            if len(held) >= MESSAGE_BYTES + _READ_BYTES:
                raise _damaged(origin, file.tell(), f"it has a line of more than {MESSAGE_BYTES} bytes")
    except SourceError:
        if header_seen and (end := held.rfind(b"\n") + 1):
            yield bytes(held[:end])
        raise
    if not header_seen:
        raise TruncatedError(origin, file.tell(), "the file ends inside its header")
    while end := held.rfind(b"\n", 0, MESSAGE_BYTES) + 1:
        yield bytes(held[:end])
        del held[:end]
    if held:
        raise TruncatedError(origin, file.tell(), f"the file ends there, {len(held)} bytes into a line of its text")


def _decompressed(file: BinaryIO, origin: str) -> Iterator[bytes]:
    """Decompress member after member, and raise if the last one does not reach its end."""
    at = begin = 0  # offsets in the file: of the next byte to decompress, of the member it lies in
    member = None
    data = b""
    while data := data or file.read(_READ_BYTES):
        if member is None:
            if data[0] != _GZIP_MAGIC[0]:
                raise _damaged(origin, at, "what follows the gzip stream that ends there is no other")
            member, begin = zlib.decompressobj(_GZIP), at
        before = len(data)
        try:
            part = member.decompress(data, _READ_BYTES)
        except zlib.error as error:
            raise _damaged(
                origin, at, f"the gzip stream that begins at byte {begin} does not read ({error})"
            ) from error
        data = member.unused_data if member.eof else member.unconsumed_tail
        at += before - len(data)
        if part:
            yield part
        if member.eof:
            member = None
    if member is not None:
        raise TruncatedError(origin, at, f"the file ends there, inside the gzip stream that begins at its byte {begin}")


def _damaged(origin: str, byte: int, reason: str) -> SourceError:
    return SourceError(
        f"{origin} is damaged at byte {byte} of the file or a little after it: {reason}. What comes before is "
        f"recorded, and the capture is marked incomplete. Next: fetch the file again and run the same command"
    )


def _tickers(header: bytes, pieces: Iterator[bytes]) -> Iterator[str]:
    """Yield a ticker of the first root and of the second, if there is one; `bursts` reports where a file is bad."""
    names = next(csv.reader([header.decode("utf-8-sig", "replace").rstrip("\r\n")]), [])
    if "ticker" not in names:
        return
    column = names.index("ticker")
    known: set[str] = set()
    with suppress(SourceError):
        for piece in pieces:
            for ticker in _column(piece, column):
                root = _root(ticker)
                if root not in known:
                    known.add(root)
                    yield ticker
                    if len(known) > 1:
                        return


def _root(ticker: str) -> str:
    """Return what the tickers of one root share; an option's that does not read, as rows do, shares it with none."""
    if option := _OCC.fullmatch(ticker):
        root, year, month, day = option.groups()
        with suppress(ValueError):
            date(2000 + int(year), int(month), int(day))
            return root
    return ticker


def _column(piece: bytes, column: int) -> list[str]:
    """Return a column's distinct texts in order, of the lines that have it."""
    if column == 0 and b'"' not in piece:  # as the vendor writes it
        begins = dict.fromkeys(line.partition(b",")[0].rstrip(b"\r") for line in piece.split(b"\n"))
        return [begin.decode("utf-8", "replace") for begin in begins if begin]
    texts: dict[str, None] = {}
    with suppress(csv.Error):
        for values in csv.reader(io.StringIO(piece.decode("utf-8", "replace"))):
            if len(values) > column and values[column]:
                texts[values[column]] = None
    return list(texts)

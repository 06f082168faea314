"""The only place where a symbol becomes a path or a file name.

Whatever a vendor sends can stand in a name: every byte outside `A-Z 0-9 - _` is percent-encoded, lower case too,
because macOS folds case. So `../../etc` is a plain (if odd) file name, and DuckDB, pyarrow and polars decode it.
"""

import re
from datetime import date as calendar_date
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from spymaster.errors import UsageError

OWN_SYMBOL = "spymaster"  # of our own events; the one name in lower case, so that it reads as what it is
MAX_SYMBOL_BYTES = 64  # encoded at three characters a byte it still fits a 255-byte file name with its affixes
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")

_SEALED = re.compile(r"(?P<stem>[A-Za-z0-9_%-]+)\.(?P<number>\d{3,})(?P<poisoned>\.poisoned)?\.arrow")
_ACTIVE = re.compile(r"(?P<stem>[A-Za-z0-9_%-]+)\.arrow")
_NEXT = re.compile(r"\.(?P<stem>[A-Za-z0-9_%-]+)\.next")
_PARTITION = re.compile(
    r"(?P<asset>[a-z]+)/(?P<type>[a-z0-9_]+)/(?P<key>symbol|underlying)=(?P<value>spymaster|[A-Z0-9_%-]+)"
    r"/date=(?P<date>\d{4}-\d\d-\d\d)(?:/hour=(?P<hour>\d\d))?"
)
_PART = re.compile(r"part-\d{6}_\d{6}-[0-9a-f]{8}(?:\.\d+)?\.parquet")
_GOLD = re.compile(r"part-\d{6}_\d{6}\.parquet")


def encode_symbol(symbol: str) -> str:
    """Return `symbol` as one safe path component.

    Raises:
        UsageError: it is empty or longer than 64 bytes.
    """
    if symbol == OWN_SYMBOL:
        return symbol
    raw = symbol.encode()
    if not raw or len(raw) > MAX_SYMBOL_BYTES:
        raise UsageError(
            f"symbol {symbol[:80]!r} is {'empty' if not raw else f'{len(raw)} bytes long'}; "
            f"1 to {MAX_SYMBOL_BYTES} bytes can be stored. Nothing was written. Next: check the source's symbols"
        )
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)


def decode_symbol(component: str) -> str:
    """Undo `encode_symbol`."""
    return unquote(component)


def check_date(text: str) -> str:
    """Return `text` if it is a calendar date as the lake writes it, `YYYY-MM-DD`.

    Raises:
        UsageError: it is not one.
    """
    try:
        if calendar_date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise UsageError(f"{text!r} is not a date. Nothing was read. Next: give it as YYYY-MM-DD, e.g. 2025-12-22")


class SegmentName(NamedTuple):
    """What a WAL file's name says. `number` is None for an active segment and for the one ahead of need."""

    stem: str
    number: int | None
    poisoned: bool
    ahead: bool

    @property
    def sealed(self) -> bool:
        return self.number is not None and not self.poisoned

    @property
    def state(self) -> str:
        """In a word: `poisoned`, `sealed`, `ahead` or `active`."""
        return "poisoned" if self.poisoned else "sealed" if self.sealed else "ahead" if self.ahead else "active"


def stream_stem(schema: str, symbol: str) -> str:
    """Return the name that all segments of a stream share, e.g. `futures_trades_ES`; its prefix without a symbol."""
    return f"{schema.replace('.', '_')}_{encode_symbol(symbol) if symbol else ''}"


def active_segment(wal_root: Path, stem: str) -> Path:
    return wal_root / f"{stem}.arrow"


def next_segment(wal_root: Path, stem: str) -> Path:
    return wal_root / f".{stem}.next"


def sealed_segment(wal_root: Path, stem: str, number: int, poisoned: bool = False) -> Path:
    return wal_root / f"{stem}.{number:03d}{'.poisoned' if poisoned else ''}.arrow"


def parse_segment_name(name: str) -> SegmentName | None:
    """Return what a WAL file's name says, or None for a file that is no segment's."""
    if match := _SEALED.fullmatch(name):
        return SegmentName(match["stem"], int(match["number"]), match["poisoned"] is not None, False)
    if match := _ACTIVE.fullmatch(name):
        return SegmentName(match["stem"], None, False, False)
    if match := _NEXT.fullmatch(name):
        return SegmentName(match["stem"], None, False, True)
    return None


class Partition(NamedTuple):
    """One Bronze folder: a schema, its partition value, a UTC date and, for most schemas, a UTC hour."""

    schema: str
    key: str
    value: str
    date: str
    hour: int | None

    @property
    def folder(self) -> str:
        """The folder below `bronze/`, with forward slashes."""
        hour = "" if self.hour is None else f"/hour={self.hour:02d}"
        return f"{self.schema.replace('.', '/')}/{self.key}={encode_symbol(self.value)}/date={self.date}{hour}"


def part_name(stamp: str, segment: str, again: int = 0) -> str:
    """Return a part's name. It follows from its segment alone, never from the clock at flush time."""
    return f"part-{stamp}-{segment[:8]}{f'.{again}' if again else ''}.parquet"


def is_part_name(name: str) -> bool:
    """Whether a part may have this name."""
    return _PART.fullmatch(name) is not None


def gold_name(stamp: str) -> str:
    """Return the name of a part of Gold, by the time of its first snap."""
    return f"part-{stamp}.parquet"


def is_gold_name(name: str) -> bool:
    """Whether a part of Gold may have this name."""
    return _GOLD.fullmatch(name) is not None


def parse_part(relative: str) -> Partition | None:
    """Return the partition of a file below `bronze/`, or None if it does not lie where this version writes."""
    folder, _, name = relative.rpartition("/")
    return parse_partition(folder) if is_part_name(name) else None


def parse_partition(folder: str) -> Partition | None:
    """Return the partition whose folder below a tier this is, or None if it is laid out otherwise."""
    match = _PARTITION.fullmatch(folder)
    if match is None:
        return None
    hour = None if match["hour"] is None else int(match["hour"])
    own = Partition(
        f"{match['asset']}.{match['type']}", match["key"], decode_symbol(match["value"]), match["date"], hour
    )
    try:
        return own if own.folder == folder else None  # of two spellings of a symbol one is ours
    except UsageError:  # no symbol has such a name
        return None

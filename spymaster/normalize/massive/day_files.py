"""Massive's day files: CSV lines of `trades_v1` or `quotes_v1`, of stocks or of options, to rows. Pure.

What a file holds follows from the columns in its header and from its tickers (`O:` begins an option's), never from its
name. Columns may stand in any order; unknown ones are left out and counted once. A file's row has no receipt time, and
no `seq` where the file has no sequence number: the number of a line would pass for the venue's.

Blocks of whole lines go through pyarrow's CSV reader with a type for each column. It is lenient where a recorder must
not be (it trims blanks, reads `0x10`, takes a quote anywhere), so a block with anything but the vendor's plain form in
it, or that the reader refuses, is halved again and again until the odd lines stand in a few, which are read value by
value, some forty times as slowly. A line that cannot be read goes to quarantine.

What programs that save a day file again do to it changes no value: a UTF-8 byte order mark is skipped, lines may end
in CR LF, values may be quoted, empty lines say nothing and are counted. Text in another encoding is refused.
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

from spymaster.errors import SourceError, TruncatedError, UnsupportedError
from spymaster.events import OPTIONS_QUOTES, OPTIONS_TRADES, STOCKS_QUOTES, STOCKS_TRADES
from spymaster.events.encoding import MassiveDayFile
from spymaster.events.schema import WILDCARD
from spymaster.normalize.columns import Columns
from spymaster.normalize.massive.fields import RECORDS, VERSION, Channel, Field
from spymaster.normalize.massive.values import (
    OPTION_PREFIX,
    UnreadableError,
    batch_of,
    columns_of,
    each_distinct,
    odd_rows,
    read_codes,
    read_symbol,
)
from spymaster.normalize.normalizer import Message, Normalized, Unreadable, grouped
from spymaster.normalize.symbols import OCC, STOCKS, Asked, one_root

BLOCK_BYTES: Final = 512 * 1024  # of lines that become one batch
FEW_LINES: Final = 16  # read value by value in less time than a call of the CSV reader takes for any

_TRADES: Final = {"ticker", "sip_timestamp", "price", "size"}
_QUOTES: Final = {"ticker", "sip_timestamp", "bid_price", "ask_price"}
_NOT_PLAIN: Final = (b" ", b"\t", b"\r", b"\0", b"+", b"0x", b"0X")
_WHOLE: Final = re.compile(r"-?[0-9]{1,30}")
_DECIMAL: Final = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_AS_TEXT: Final = ("ticker", "option", "text", "codes", "size")
# Of text that is not UTF-8. UTF-32's come first: in little endian its mark begins as that of UTF-16 does.
_EMPTY_LINES: Final = (b"\n", b"\r\n")
_OTHER_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class _NotPlainError(Exception):
    """These lines may be sound, but are not for the CSV reader."""


class DayFileNormalizer:
    """Turns the lines of one day file into rows. It keeps the bytes of a line not yet whole.

    What it counts as ignored are columns that are not recorded, once each. Every line names its instrument.
    """

    version: int = VERSION

    def __init__(self, encoding: MassiveDayFile, *, origin: str, simulated: bool = False) -> None:
        """Read the header line.

        Raises:
            UnsupportedError: its columns, or its tickers, are of no kind of file that is recorded.
        """
        self._names = _names(encoding.header, origin)
        self._channel = _kind(self._names, encoding.tickers, origin)
        self._fields = {key: field for key, field in self._channel.fields.items() if key in self._names}
        market = self._channel.schema.name.partition(".")[0]
        self.source = "sim" if simulated else f"massive.{market}"
        read = (OCC if market == "options" else STOCKS).read
        root = one_root(read(symbol, Asked()).root for symbol in encoding.tickers)
        self.streams = {self._channel.schema.name: root or WILDCARD}
        self.ignored: Counter[str] = Counter({f"column {name}": 1 for name in self._names if name not in self._fields})
        self.odd: Counter[str] = Counter()
        self.unmapped = 0
        self._origin, self._rest, self._byte = origin, b"", len(encoding.header)
        kinds = {key: self._channel.schema.log.field(field.column).type for key, field in self._fields.items()}
        self._types = {
            key: pa.string() if field.unit in _AS_TEXT else kinds[key] for key, field in self._fields.items()
        }

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        """Turn the next bytes of the file into rows; a line cut at their end waits for the next call."""
        done = Normalized([], [])
        for group in grouped(messages, BLOCK_BYTES):
            self._rest += b"".join([data for data, _ in group])
            end = self._rest.rfind(b"\n") + 1
            if end:
                lines, self._rest = self._rest[:end], self._rest[end:]
                if batches := self._read(lines, self._byte, done.unreadable):
                    rows = pa.concat_batches(batches)  # type: ignore[attr-defined]  # the stubs do not have it
                    done.batches.append((self._channel.schema, rows))
                self._byte += end
        return done

    def finish(self) -> None:
        """Check that the file ended where a line ends.

        Raises:
            TruncatedError: it did not.
        """
        if self._rest:
            begun = f"the line that begins at byte {self._byte} of its text has no end"
            raise TruncatedError(self._origin, self._byte + len(self._rest), begun)

    def _read(self, lines: bytes, byte: int, unreadable: list[Unreadable]) -> list[pa.RecordBatch]:
        """Read lines at once, or each half of them by itself, until a line that cannot be read stands alone.

        Args:
            lines: whole ones.
            byte: where they begin in the file's text.
            unreadable: receives the lines that cannot be read, in order.
        """
        count = lines.count(b"\n")
        if count == 1 and lines in _EMPTY_LINES:
            self.ignored["empty line"] += 1
            return []
        try:
            columns = self._plain_columns(lines) if count > FEW_LINES else self._columns_by_value(lines)
        except (pa.ArrowInvalid, _NotPlainError, UnreadableError) as error:
            if count == 1:
                unreadable.append(Unreadable(lines, str(error), byte))
                return []
            middle = lines.rfind(b"\n", 0, len(lines) // 2) + 1 or lines.index(b"\n") + 1
            first = self._read(lines[:middle], byte, unreadable)
            return first + self._read(lines[middle:], byte + middle, unreadable)
        batch = batch_of(self._channel.schema, columns, self.source, None)
        self.odd.update(odd_rows(self._channel.schema, batch))
        return [batch]

    def _plain_columns(self, lines: bytes) -> Columns:
        """Read lines by the CSV reader.

        Raises:
            _NotPlainError, pa.ArrowInvalid: not all are plain.
        """
        lines = lines.replace(b"\r\n", b"\n")  # or a file that Windows saved would be read value by value
        if not lines.isascii() or any(mark in lines for mark in _NOT_PLAIN) or not _plain_quotes(lines):
            raise _NotPlainError
        reader: Any = pa.BufferReader(lines)
        table = read_csv(
            reader,
            ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=self._names),
            ParseOptions(ignore_empty_lines=False),
            ConvertOptions(
                column_types=self._types,
                include_columns=list(self._fields),
                null_values=[""],  # not `NA`, which is a ticker
                strings_can_be_null=True,
            ),
        )
        if table.num_rows != lines.count(b"\n"):
            raise _NotPlainError
        read = {key: table[key].combine_chunks() for key in self._fields}
        columns = {field.column: _plain_column(read[key], field, self._channel) for key, field in self._fields.items()}
        if self._channel.schema is STOCKS_TRADES:
            texts = _decimal_texts(read["size"])
            columns["size_decimal"] = pc.coalesce(read["decimal_size"], texts) if "decimal_size" in read else texts
        return columns

    def _columns_by_value(self, lines: bytes) -> Columns:
        """Read lines one by one and value by value.

        Raises:
            UnreadableError: a line cannot be read; it is for quarantine.
        """
        return columns_of([self._row(line) for line in _lines(lines)], self._channel)

    def _row(self, line: bytes) -> dict[str, Any]:
        try:
            text = line.decode().removesuffix("\n").removesuffix("\r")
            (values,) = csv.reader([text], strict=True)
        except (UnicodeDecodeError, csv.Error, ValueError) as error:
            raise UnreadableError(f"it is no line of CSV: {error}") from error
        if len(values) != len(self._names):
            raise UnreadableError(f"it has {len(values)} columns and the header {len(self._names)}")
        named = dict(zip(self._names, values, strict=True))
        row = {key: _value(named[key], key, field) for key, field in self._fields.items()}
        if type(row.get("size")) is Decimal and row.get("decimal_size") is None:
            row["decimal_size"] = named["size"]  # as it was written, zeros and all
        return row


def _names(header: bytes, origin: str) -> list[str]:
    if encoding := next((name for mark, name in _OTHER_MARKS if header.startswith(mark)), None):
        raise UnsupportedError(
            f"{origin} begins with the byte order mark of {encoding}, and day files are UTF-8. Nothing was recorded "
            f"from it. Next: save it as UTF-8 (iconv -f {encoding} -t UTF-8), or fetch it again"
        )
    try:
        (names,) = csv.reader([header.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")], strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise SourceError(
            f"{origin} does not begin with a line of column names ({error}). Nothing was recorded from it. "
            f"Next: check that it is a day file of Massive's"
        ) from error
    if len(set(names)) < len(names):
        raise UnsupportedError(
            f"{origin} has a column twice in its header. Nothing was recorded from it. Next: fetch it again"
        )
    return names


def _kind(names: Sequence[str], tickers: Sequence[str], origin: str) -> Channel:
    """Say what a file holds, by its columns and its tickers; by its columns alone, if it has no line."""
    options = tickers[0].startswith(OPTION_PREFIX) if tickers else "tape" not in names
    if set(names) >= _TRADES:
        return RECORDS[(OPTIONS_TRADES if options else STOCKS_TRADES).name]
    if set(names) >= _QUOTES:
        return RECORDS[(OPTIONS_QUOTES if options else STOCKS_QUOTES).name]
    raise UnsupportedError(
        f"{origin} holds the columns {', '.join(names)[:200]}, which are not recorded. Nothing was recorded from it. "
        f"Next: fetch trades_v1 or quotes_v1 of us_stocks_sip or us_options_opra"
    )


def _plain_quotes(lines: bytes) -> bool:
    """Return whether every quoted value is a whole field on one line."""
    if b'"' not in lines:
        return True
    data = np.frombuffer(b"\n" + lines, np.uint8)
    quotes = np.flatnonzero(data == ord('"'))
    begins, ends = quotes[::2], quotes[1::2]
    if len(begins) != len(ends):
        return False
    before, behind = data[begins - 1], data[ends + 1]
    ends_of_lines = np.flatnonzero(data == ord("\n"))
    same_line = np.searchsorted(ends_of_lines, begins) == np.searchsorted(ends_of_lines, ends)
    fields = np.isin(before, (ord(","), ord("\n"))) & np.isin(behind, (ord(","), ord("\n")))
    return bool((same_line & fields).all())


def _plain_column(values: pa.Array, field: Field, channel: Channel) -> pa.Array:
    """Turn a column that was read into ours; what the strict way would refuse is not plain."""
    kind = channel.schema.log.field(field.column).type
    try:
        if field.unit in ("ticker", "option"):
            _require(values.null_count == 0)
            for symbol in values.unique().to_pylist():
                read_symbol(field.unit, symbol)
            return values
        if field.unit == "codes":
            return each_distinct(values, kind, _codes)
    except ValueError as error:
        raise _NotPlainError from error
    if field.unit == "size":
        whole = pc.replace_substring_regex(values, r"\.0+$", "") if _any_dot(values) else values
        values = whole.cast(kind)
    if field.unit == "price":
        _require(pc.all(pc.is_finite(values), min_count=0).as_py())
    elif field.unit != "text":
        least = pc.min(values).as_py()
        bits = kind.bit_width - 1
        _require(least is None or least >= (0 if field.unit == "ns" else 1 - 2**bits))
        if field.column == "ts_event_ns":
            _require(values.null_count == 0 and least > 0)
    return values


def _require(sound: bool) -> None:
    if not sound:
        raise _NotPlainError


def _any_dot(values: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring(values, "."), min_count=0).as_py())


def _decimal_texts(sizes: pa.Array) -> pa.Array:
    """Return the texts of sizes that came as decimals."""
    texts: pa.Array = pc.if_else(pc.match_substring(sizes, "."), sizes, pa.scalar(None, pa.string()))
    return texts


def _codes(text: str | None) -> list[int] | None:
    """Read a list of codes such as `12,37`.

    Raises:
        ValueError: it is not such a list.
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(_WHOLE.fullmatch(part) for part in parts):
        raise ValueError
    return read_codes([int(part) for part in parts])


def _value(text: str, key: str, field: Field) -> Any:
    """Return what a field's text says, for `columns_of` to check; None for an empty one."""
    if not text:
        return None
    if field.unit in ("ticker", "option", "text"):
        return text
    try:
        if field.unit == "codes":
            return _codes(text)
        if _WHOLE.fullmatch(text):
            return int(text)
    except ValueError as error:
        raise UnreadableError(f"{key} cannot be {text[:60]!r}") from error
    if field.unit in ("price", "size") and _DECIMAL.fullmatch(text):
        return Decimal(text)
    raise UnreadableError(f"{key} cannot be {text[:60]!r}")


def _lines(data: bytes) -> Iterator[bytes]:
    """Cut at line feeds only."""
    begin = 0
    while begin < len(data):
        end = data.index(b"\n", begin) + 1
        yield data[begin:end]
        begin = end

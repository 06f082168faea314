"""DBN bytes to record batches: frame, sort by kind, decode by column. Pure; no object per record of market data.

A delivery is a metadata header and then records. The header's version and the record's length choose how a kind is
read (`records`); what id and header and stream say of it choose its instrument (`instruments`). Rows of one
schema keep the order in which their records came, however the bytes were cut on their way here.

What is not recorded is accounted for: kinds that we do not record are counted in `ignored`, rows whose instrument
nothing named in `unmapped`, and a record that cannot become a row is handed back whole as `Unreadable`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.errors import SourceError, TruncatedError
from spymaster.events import OPTIONS_QUOTES, OPTIONS_TRADES, REFERENCE_INSTRUMENTS, EventSchema
from spymaster.events.encoding import Dbn
from spymaster.events.schema import WILDCARD
from spymaster.normalize.columns import Columns, repeat_text
from spymaster.normalize.databento.datasets import (
    TRADES_WITH_QUOTES,
    Schemas,
    contents_of,
    decode_header,
    nameless,
    version_of,
)
from spymaster.normalize.databento.instruments import Instruments, Names, Span
from spymaster.normalize.databento.market_columns import (
    AT_A_TRADE,
    SAMPLE_S,
    book_columns,
    crossed,
    quote_columns,
    trade_columns,
)
from spymaster.normalize.databento.records import (
    DEFINITION,
    HEADER_MAGIC,
    KIND_NAMES,
    LAYOUTS,
    MAPPING,
    MAX_NS,
    MBP1,
    MBP10,
    QUOTES,
    STATISTICS,
    STATUS,
    TRADE,
    Group,
    Records,
    faults,
    frame,
    gather,
    second_header,
    text,
)
from spymaster.normalize.databento.reference_columns import (
    definition_columns,
    mapping_columns,
    statistics_columns,
    status_columns,
)
from spymaster.normalize.databento.warnings import OF_FUTURES, Warnings
from spymaster.normalize.normalizer import CROSSED, Message, Normalized, Rows, Unreadable, grouped
from spymaster.normalize.symbols import Instrument

# Decoded at once: what a busy connection gives in one burst, because each piece and each frame that it becomes costs
# half a millisecond whatever is in it; and of records of 48 bytes or more no batch gets beyond 65,536 rows.
PIECE_BYTES: Final = 1024 * 1024
_HEADER_BYTES: Final = 16
_HEADER_BEGIN_BYTES: Final = 24  # of a delivery's metadata, whose dataset stands behind magic, version and length
_HEADER_DATASET: Final = slice(8, _HEADER_BEGIN_BYTES)
_ALL: Final = slice(None)
_COLUMNS_OF: Final[dict[int, Callable[[Records], Columns]]] = {
    TRADE: trade_columns,
    MBP10: book_columns,
    STATISTICS: statistics_columns,
    STATUS: status_columns,
}
_OF_OPTIONS: Final = {OPTIONS_TRADES.name, OPTIONS_QUOTES.name}
_UNREAD: Final = "option whose symbol does not read"


class _Part(NamedTuple):
    """Rows that some records of one kind became, and where in the piece each began."""

    schema: EventSchema
    batch: pa.RecordBatch
    offsets: NDArray[np.int64]


class _Arrivals(NamedTuple):
    """When the bytes of a piece came: each message's end in it and its time; None for a file."""

    ends: NDArray[np.int64]
    times_ns: NDArray[np.int64] | None

    def of(self, ends: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return when records became whole that end there: with the message that brought their last byte."""
        return None if self.times_ns is None else self.times_ns[np.searchsorted(self.ends, ends)]


class DatabentoNormalizer:
    """Turns one delivery of DBN into rows. It keeps the symbols seen so far and the bytes of a record not yet whole.

    What it counts as ignored are records of kinds that are not recorded.

    Attributes:
        version: 3 of a file without a schema, of which version 2 left out quotes, statistics and status; 2 of one whose
            rows version 1 made otherwise, which took names that were asked for as contracts, EYC for no option of ES,
            and asked no definition; any other keeps its capture.
    """

    def __init__(self, encoding: Dbn, *, origin: str, simulated: bool = False, defined: pa.Table | None = None) -> None:
        """Read the metadata header.

        Args:
            encoding: the header, and what a look ahead found.
            origin: the delivery as a user would name it.
            simulated: the rows' source is `sim`.
            defined: rows of `reference.instruments` that name what `wanted` asks for; None if none are known.

        Raises:
            UnsupportedError: it announces a dataset, schema or DBN version that is not recorded.
            SourceError: it is no DBN header, or nothing names the ids that it asks for.
        """
        header = encoding.header
        metadata = decode_header(header, origin)
        self._dataset, self._kinds = contents_of(metadata, origin)
        self._layouts = {kind: LAYOUTS[header[3]][kind] for kind in (*self._kinds, DEFINITION, MAPPING)}
        self._ts_out_bytes = 8 if metadata.ts_out else 0
        self._start_ns = metadata.start if metadata.start <= MAX_NS else 0
        self._origin, self._rest, self._rest_begins = origin, b"", len(header)

        # Only where one stream gives trades of two schemas do definitions decide anything.
        learns = metadata.schema is None and len(self._kinds[TRADE]) > 1
        self._instruments = Instruments(metadata, self._dataset.venue, encoding.symbols_in_stream, learns)

        if defined is not None:
            self._instruments.know(defined)
        bare = metadata.schema is not None and str(metadata.stype_in) == "instrument_id"
        if bare and self._kinds and self._instruments.are_nameless:  # of a saved live session definitions may follow
            raise nameless(metadata, self._dataset, origin)
        self.version = version_of(metadata, self._dataset, self._instruments)
        self.source = "sim" if simulated else self._dataset.source
        self._quote_names = {kind: KIND_NAMES[kind] for kind in QUOTES}
        self._sample_s = dict(SAMPLE_S)
        if str(metadata.schema) == TRADES_WITH_QUOTES:
            self._quote_names[MBP1], self._sample_s[MBP1] = TRADES_WITH_QUOTES, AT_A_TRADE
        schemas = [REFERENCE_INSTRUMENTS, *(schema for kind in self._kinds.values() for schema in kind if schema)]
        self.streams = {schema.name: self._instruments.root or WILDCARD for schema in schemas}
        self._delivered = {
            schema.name: (schema.delivered, [(field.name, field.type) for field in schema.delivered])
            for schema in schemas
        }
        self.ignored: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.unmapped = 0
        self._warnings = Warnings(origin, None if self._dataset.several_publishers else self._dataset.source)

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        """Turn the next bytes of the delivery into rows; a record cut at their end waits for the next call.

        Small messages are joined to pieces, because a piece costs a millisecond whatever is in it.

        Args:
            messages: any number of bytes each, from where the one before left off.

        Raises:
            SourceError: a record of length zero begins here, so nothing from here on can be framed, or another header
                does. The rows before it came with the call before.
        """
        done = Normalized([], [])
        for number, (piece, arrivals) in enumerate(self._pieces(messages)):
            self._rest += piece
            if self._is_unframed():
                self._rest = self._rest[:_HEADER_BEGIN_BYTES]
                if number == 0:
                    raise self._unframed()
                break  # the rows before it go first
            self._normalize_rest(done, arrivals)
        quotes = [kind for kind in self.ignored if kind.endswith(OF_FUTURES)]
        return done._replace(warnings=self._warnings.new(self._instruments.contradicted, quotes))

    def finish(self) -> None:
        """Check that the delivery ended where a record ends.

        Raises:
            TruncatedError: it did not; names the byte where it ends.
            SourceError: it could not be framed to its end.
        """
        if not self._rest:
            return
        if self._is_unframed():
            raise self._unframed()
        begun = f"the record that begins at byte {self._rest_begins} has {len(self._rest)} of {self._rest[0] * 4} bytes"
        raise TruncatedError(self._origin, self._rest_begins + len(self._rest), begun)

    def _is_unframed(self) -> bool:
        """Whether no record can be read from here on."""
        return self._rest.startswith((b"\0", HEADER_MAGIC))

    def _unframed(self) -> SourceError:
        at = self._rest_begins
        if self._rest.startswith(HEADER_MAGIC):
            dataset = text(self._rest[_HEADER_DATASET])
            why = f"a second DBN header{f', of {dataset},' if dataset else ''} begins there, as where two were joined"
            step = f"split it there (head -c {at}; tail -c +{at + 1}; first zstd -d a .zst) and record each part"
        else:
            why = "a record of length zero begins there, so where the next one begins is unknown"
            step = "fetch the file again and run the same command"
        return SourceError(
            f"{self._origin} cannot be read on from byte {at}: {why}. The records before that byte are recorded, none "
            f"from it on, and the capture is marked incomplete. Next: {step}"
        )

    def _pieces(self, messages: Sequence[Message]) -> Iterator[tuple[bytes, _Arrivals]]:
        """Yield what is decoded at once: messages joined, or a part of a large one."""
        for group in grouped(messages, PIECE_BYTES):
            data = b"".join([message for message, _ in group])
            ends = np.cumsum([len(message) for message, _ in group])
            live = group[0][1] is not None
            times_ns = np.array([time for _, time in group], np.int64) if live else None
            for start in range(0, len(data), PIECE_BYTES):
                # What is left of the piece before stands in front of this one.
                yield data[start : start + PIECE_BYTES], _Arrivals(ends - start + len(self._rest), times_ns)

    def _normalize_rest(self, done: Normalized, arrivals: _Arrivals) -> None:
        offsets, end = frame(self._rest)
        if (header := second_header(self._rest, offsets, end)) is not None:
            offsets, end = offsets[offsets < header], header
        if end == 0:
            return
        unreadable: list[Unreadable] = []
        groups = dict(self._groups(offsets, arrivals, unreadable))
        spans = self._instruments.mapped(groups[MAPPING].records) if MAPPING in groups else []
        done.unreadable.extend(sorted(unreadable, key=lambda record: record.byte))
        done.batches.extend(_merged([*self._market(groups, spans), *self._reference(groups, spans)]))
        self._rest, self._rest_begins = self._rest[end:], self._rest_begins + end

    def _groups(
        self, offsets: NDArray[np.int64], arrivals: _Arrivals, unreadable: list[Unreadable]
    ) -> Iterator[tuple[int, Group]]:
        """Sort records by kind. Those that cannot become rows go to `unreadable`, those not wanted are counted."""
        heads = np.ndarray((len(self._rest) - 1,), "<u2", self._rest, strides=(1,))[offsets]
        for head in np.unique(heads).tolist():
            kind, size = head >> 8, (head & 255) * 4
            mine = offsets[heads == head]
            if reason := self._misfit(kind, size):
                unreadable.extend(self._unreadable(int(offset), reason) for offset in mine)
            elif kind not in self._layouts:
                self.ignored[KIND_NAMES[kind]] += len(mine)
            else:
                records = gather(self._rest, mine, size, self._layouts[kind])
                at_fault = faults(kind, records)
                unreadable.extend(self._unreadable(int(mine[row]), reason) for row, reason in at_fault.items())
                sound = np.delete(np.arange(len(mine)), list(at_fault)) if at_fault else slice(None)
                if len(at_fault) < len(mine):
                    yield kind, Group(records[sound], mine[sound], arrivals.of(mine[sound] + size))

    def _misfit(self, kind: int, size: int) -> str | None:
        """Say why no record of this kind and size can be read, or None if it can, or need not be."""
        name = KIND_NAMES.get(kind)
        if name is None:
            return f"no kind of record has the number {kind}"
        if size < _HEADER_BYTES:
            return f"a record of {size} bytes is shorter than a record's header"
        if kind in self._layouts:
            expected = self._layouts[kind].itemsize + self._ts_out_bytes
            return None if size == expected else f"a record of kind {name} has {size} bytes instead of {expected}"
        return f"the header announces no records of kind {name}" if kind in self._dataset.kinds else None

    def _unreadable(self, offset: int, reason: str) -> Unreadable:
        size = self._rest[offset] * 4
        return Unreadable(self._rest[offset : offset + size], reason, self._rest_begins + offset)

    def _market(self, groups: dict[int, Group], spans: list[Span]) -> Iterator[_Part]:
        market = {kind: group for kind, group in groups.items() if kind in self._kinds}
        controls = self._instruments.controls(groups.get(MAPPING), spans, groups.get(DEFINITION))
        named = self._instruments.name(list(market.values()), controls)
        for (kind, group), names in zip(market.items(), named, strict=True):
            self._warnings.note(kind, group.records)
            for schema, rows in _split(self._kinds[kind], names):
                records, own = group.records[rows], names.take(rows)
                if schema is None:
                    self.ignored[f"{self._quote_names[kind]}{OF_FUTURES}"] += len(records)
                    continue
                self.unmapped += int(own.where(instrument.symbol is None for instrument in names.distinct).sum())
                self._count_odd(schema, records, own)
                columns = _columns(kind, records, self._sample_s.get(kind, 0)) | own.columns(schema)
                yield _Part(schema, self._batch(schema, columns, group, rows), group.offsets[rows])

    def _count_odd(self, schema: EventSchema, records: Records, names: Names) -> None:
        """Count rows of options that are recorded as they came, though something is wrong with them."""
        if schema is OPTIONS_QUOTES and (count := crossed(records)):
            self.odd[CROSSED] += count
        if schema.name in _OF_OPTIONS and (count := int(names.where(map(_is_unread, names.distinct)).sum())):
            self.odd[_UNREAD] += count

    def _reference(self, groups: dict[int, Group], spans: list[Span]) -> Iterator[_Part]:
        """Make rows of definitions and mappings."""
        if DEFINITION in groups:
            columns = definition_columns(groups[DEFINITION].records)
            said = ("asset", "contract", "underlying", "instrument_class")
            named = zip(*(columns[name].to_pylist() for name in said), strict=True)
            columns["symbol"] = pa.array([self._instruments.root_of_definition(*names) for names in named])
            yield self._instruments_part(columns, groups[DEFINITION])
        if MAPPING in groups:
            meant = [self._instruments.meant_by(span) for span in spans]
            names = {
                "symbol": pa.array([instrument.root for instrument in meant]),
                "contract": pa.array([instrument.symbol for instrument in meant], pa.string()),
            }
            yield self._instruments_part(mapping_columns(groups[MAPPING], self._start_ns) | names, groups[MAPPING])

    def _instruments_part(self, columns: Columns, group: Group) -> _Part:
        return _Part(REFERENCE_INSTRUMENTS, self._batch(REFERENCE_INSTRUMENTS, columns, group), group.offsets)

    def _batch(
        self, schema: EventSchema, columns: Columns, group: Group, mine: slice | NDArray[np.intp] = _ALL
    ) -> pa.RecordBatch:
        """Put columns of some of a group's records in the schema's order; what the vendor does not send is null."""
        rows = len(columns["ts_event_ns"])
        columns["source"] = repeat_text(self.source, rows)
        if group.arrived_ns is not None:
            columns["ts_local_ns"] = pa.array(group.arrived_ns[mine])
        delivered, fields = self._delivered[schema.name]
        arrays = [columns[name] if name in columns else pa.nulls(rows, kind) for name, kind in fields]
        return pa.RecordBatch.from_arrays(arrays, schema=delivered)


def _split(schemas: Schemas, names: Names) -> list[tuple[EventSchema | None, slice | NDArray[np.intp]]]:
    """Return which rows go to which schema: options to the second, where there are two.

    Where the others are not recorded, neither is what is known to be no option; of the rest nothing may be lost.
    """
    if len(schemas) == 1:
        return [(schemas[0], _ALL)]
    others, options = schemas
    kinds = [instrument.is_option for instrument in names.distinct]
    is_option = names.where(kind is not False if others is None else bool(kind) for kind in kinds)
    if is_option.all() or not is_option.any():  # in most pieces, which need no copy then
        return [(options if is_option[0] else others, _ALL)]
    return [(others, np.flatnonzero(~is_option)), (options, np.flatnonzero(is_option))]


def _columns(kind: int, records: Records, sample_s: int) -> Columns:
    """Return the columns that do not follow from the instrument."""
    return quote_columns(kind, records, sample_s) if kind in QUOTES else _COLUMNS_OF[kind](records)


def _is_unread(instrument: Instrument) -> bool:
    """Whether nothing says an option's terms: not its symbol, as it should but for a user-defined spread, nor, of which
    an expiration is proof, a definition.
    """
    symbol, known = instrument.symbol, instrument.right or instrument.exp_date
    return symbol is not None and known is None and not symbol.startswith("UD:")


def _merged(parts: list[_Part]) -> Iterator[Rows]:
    """Join batches of one schema in the order in which their records came."""
    of_schema: dict[str, list[_Part]] = {}
    for part in parts:
        of_schema.setdefault(part.schema.name, []).append(part)
    for own in of_schema.values():
        if len(own) == 1:
            yield own[0].schema, own[0].batch
            continue
        rows = pa.Table.from_batches([part.batch for part in own])
        came = np.concatenate([part.offsets for part in own])
        yield own[0].schema, rows.take(np.argsort(came)).combine_chunks().to_batches()[0]

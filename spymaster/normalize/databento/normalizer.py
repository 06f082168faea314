"""DBN bytes to record batches: frame, sort by kind, decode by column. Pure; no object per record of market data.

A delivery is a metadata header and then records. The header's version and the record's length choose how a kind is
read (`records`); what id and header and stream say of it choose its instrument (`instruments`). Rows of one
schema keep the order in which their records came, however the bytes were cut on their way here.

What is not recorded is accounted for: kinds that we do not record are counted in `ignored`, rows whose instrument
nothing named in `unmapped`, and a record that cannot become a row is handed back whole as `Unreadable`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import databento_dbn as dbn
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster import clock
from spymaster.errors import SourceError, TruncatedError, UnsupportedError
from spymaster.events import (
    FUTURES_MBP10,
    FUTURES_TRADES,
    OPTIONS_TRADES,
    REFERENCE_INSTRUMENTS,
    STOCKS_TRADES,
    EventSchema,
)
from spymaster.events.encoding import Dbn
from spymaster.events.schema import WILDCARD
from spymaster.normalize.columns import Columns, repeat_text
from spymaster.normalize.databento.instruments import Instruments, Names, Span, Unnamed, unnamed
from spymaster.normalize.databento.records import (
    DEFINITION,
    HEADER_MAGIC,
    KIND_NAMES,
    LAYOUTS,
    MAPPING,
    MAX_NS,
    MBP10,
    TRADE,
    Group,
    book_columns,
    definition_columns,
    faults,
    frame,
    gather,
    mapping_columns,
    market_columns,
    second_header,
    text,
)
from spymaster.normalize.normalizer import Message, Normalized, Rows, Unreadable, grouped
from spymaster.normalize.symbols import CME, OCC, STOCKS, Venue, newly_read

# Decoded at once: what a busy connection gives in one burst, because each piece and each frame that it becomes costs
# half a millisecond whatever is in it; and of records of 48 bytes or more no batch gets beyond 65,536 rows.
PIECE_BYTES: Final = 1024 * 1024
_HEADER_BYTES: Final = 16
_HEADER_BEGIN_BYTES: Final = 24  # of a delivery's metadata, whose dataset stands behind magic, version and length
_HEADER_DATASET: Final = slice(8, _HEADER_BEGIN_BYTES)
_ALL: Final = slice(None)


class _Dataset(NamedTuple):
    source: str
    venue: Venue
    kinds: dict[int, tuple[EventSchema, ...]]  # what its market records become
    several_publishers: bool = False


DATASETS: Final = {
    "GLBX.MDP3": _Dataset("databento.glbx", CME, {TRADE: (FUTURES_TRADES, OPTIONS_TRADES), MBP10: (FUTURES_MBP10,)}),
    "OPRA.PILLAR": _Dataset("databento.opra", OCC, {TRADE: (OPTIONS_TRADES,)}, True),
    "XNAS.ITCH": _Dataset("databento.xnas", STOCKS, {TRADE: (STOCKS_TRADES,)}),
}
_SCHEMA_KINDS: Final = {"trades": TRADE, "mbp-10": MBP10, "definition": DEFINITION}


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
        version: 2 of a file whose rows version 1 made otherwise, which took names that were asked for as contracts, EYC
            for no option of ES, and asked no definition; any other keeps its capture.
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
        metadata = _decode_header(header, origin)
        self._dataset, self._kinds = _contents(metadata, origin)
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
            raise _nameless(metadata, self._dataset, origin)
        self.version = _version(metadata, self._dataset, self._instruments)
        self.source = "sim" if simulated else self._dataset.source
        schemas = [REFERENCE_INSTRUMENTS, *(schema for kind in self._kinds.values() for schema in kind)]
        self.streams = {schema.name: self._instruments.root or WILDCARD for schema in schemas}
        self._delivered = {
            schema.name: (schema.delivered, [(field.name, field.type) for field in schema.delivered])
            for schema in schemas
        }
        self.ignored: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.unmapped = 0
        self._publishers: set[int] = set()  # of market records, where the dataset has one
        self._warned: set[str] = set()

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
        return done._replace(warnings=list(self._new_warnings()))

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

    def _new_warnings(self) -> Iterator[str]:
        """Yield what contradicts itself and was not told yet."""
        if (said := self._instruments.contradicted) and "id" not in self._warned:
            self._warned.add("id")
            first, second, number = said
            yield (
                f"{self._origin}: instrument {number} is mapped to {first!r} and to {second!r} for one day. Every row "
                f"is recorded with its instrument_id, and named by the mapping that was said last. Next: compare with "
                f"the definitions of that day"
            )
        if len(self._publishers) > 1 and "publisher" not in self._warned:
            self._warned.add("publisher")
            found = ", ".join(map(str, sorted(self._publishers)))
            yield (
                f"{self._origin}: records of the publishers {found} in a delivery of {self._dataset.source}, which has "
                f"one. Every row is recorded under that source, with its publisher_id. Next: fetch each dataset into a "
                f"file of its own"
            )

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
        done.batches.extend(self._market(groups, spans))
        done.batches.extend(self._reference(groups, spans))
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

    def _market(self, groups: dict[int, Group], spans: list[Span]) -> Iterator[Rows]:
        market = {kind: group for kind, group in groups.items() if kind in self._kinds}
        controls = self._instruments.controls(groups.get(MAPPING), spans, groups.get(DEFINITION))
        named = self._instruments.name(list(market.values()), controls)
        for (kind, group), names in zip(market.items(), named, strict=True):
            if not self._dataset.several_publishers and len(self._publishers) < 2:
                publishers = group.records["publisher_id"]
                self._publishers |= {int(publishers[0])}
                if (publishers != publishers[0]).any():
                    self._publishers |= set(np.unique(publishers).tolist())
            self.unmapped += int(names.where(instrument.symbol is None for instrument in names.distinct).sum())
            for schema, rows in _split(self._kinds[kind], names):
                records = group.records[rows]
                columns = market_columns(records) | names.take(rows).columns(schema)
                if kind == MBP10:
                    columns |= book_columns(records)
                yield schema, self._batch(schema, columns, group, rows)

    def _reference(self, groups: dict[int, Group], spans: list[Span]) -> Iterator[Rows]:
        """Make rows of definitions and mappings, merged in the order in which they came."""
        parts: list[tuple[Columns, Group]] = []
        if DEFINITION in groups:
            columns = definition_columns(groups[DEFINITION].records)
            said = ("asset", "contract", "underlying", "instrument_class")
            named = zip(*(columns[name].to_pylist() for name in said), strict=True)
            roots = [self._instruments.root_of_definition(*names) for names in named]
            parts.append((columns | {"symbol": pa.array(roots)}, groups[DEFINITION]))
        if MAPPING in groups:
            meant = [self._instruments.meant_by(span) for span in spans]
            names = {
                "symbol": pa.array([instrument.root for instrument in meant]),
                "contract": pa.array([instrument.symbol for instrument in meant], pa.string()),
            }
            parts.append((mapping_columns(groups[MAPPING], self._start_ns) | names, groups[MAPPING]))
        if parts:
            rows = pa.Table.from_batches([self._batch(REFERENCE_INSTRUMENTS, *part) for part in parts])
            came = np.concatenate([group.offsets for _, group in parts])
            yield REFERENCE_INSTRUMENTS, rows.take(np.argsort(came)).combine_chunks().to_batches()[0]

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


def _decode_header(header: bytes, origin: str) -> dbn.Metadata:
    known = ", ".join(map(str, LAYOUTS))
    if header[:3] == b"DBN" and len(header) > 3 and header[3] not in LAYOUTS:
        raise UnsupportedError(
            f"{origin} is DBN of version {header[3]}; versions {known} can be read. Nothing was recorded from it. "
            f"Next: upgrade spymaster, or have the vendor's library rewrite the file"
        )
    try:
        as_is = dbn.VersionUpgradePolicy.AS_IS
        return dbn.Metadata.decode(header, as_is)  # type: ignore[arg-type]  # the stub takes its members for int
    except BaseException as error:
        # On some damage the vendor's decoder panics, and a Rust panic is no Exception.
        if not isinstance(error, dbn.DBNError) and type(error).__name__ != "PanicException":
            raise
        raise SourceError(
            f"{origin} begins with no DBN header that can be read ({error}). Nothing was recorded from it. "
            f"Next: check that it is a .dbn or .dbn.zst file, and fetch it again"
        ) from error


def _contents(metadata: dbn.Metadata, origin: str) -> tuple[_Dataset, dict[int, tuple[EventSchema, ...]]]:
    """Return the dataset and which of its market records the header announces; without a schema, all of them."""
    dataset = DATASETS.get(metadata.dataset)
    name = None if metadata.schema is None else str(metadata.schema)
    kind = _SCHEMA_KINDS.get(name or "")
    if dataset is None or (name and kind != DEFINITION and kind not in dataset.kinds):
        known = "; ".join(
            f"{code} with {', '.join(n for n, k in _SCHEMA_KINDS.items() if k == DEFINITION or k in known.kinds)}"
            for code, known in DATASETS.items()
        )
        raise UnsupportedError(
            f"{origin} holds {name or 'records'} of {metadata.dataset!r}, which is not recorded. Nothing "
            f"was recorded from it. Next: fetch one of these instead: {known}"
        )
    return dataset, {k: schemas for k, schemas in dataset.kinds.items() if name is None or k == kind}


class Wanted(NamedTuple):
    """Definitions that name what a delivery's header does not.

    Attributes:
        source: of their rows.
        unnamed: which ids, and of when.
    """

    source: str
    unnamed: Unnamed


def wanted(encoding: Dbn, origin: str) -> Wanted | None:
    """Return which definitions a delivery wants beside its header; None if none.

    Raises:
        SourceError: it is no DBN header.
    """
    metadata = _decode_header(encoding.header, origin)
    dataset = DATASETS.get(metadata.dataset)
    left = None if dataset is None else unnamed(metadata, dataset.venue)
    return None if dataset is None or left is None else Wanted(dataset.source, left)


def _nameless(metadata: dbn.Metadata, dataset: _Dataset, origin: str) -> SourceError:
    left = unnamed(metadata, dataset.venue)
    ids = sorted(left.ids) if left else []
    some = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    first = clock.utc_text(left.begin_ns if left else min(metadata.start, MAX_NS))[:10]
    last = clock.utc_text(left.end_ns - 1)[:10] if left and left.end_ns < MAX_NS else "its end"
    return SourceError(
        f"{origin} asks for bare ids ({some or 'none are listed'}), and neither its header, nor its stream, nor "
        f"definitions in the lake name them. Nothing was recorded from it. Next: backfill the definitions of "
        f"{metadata.dataset} for these ids from {first} to {last} (schema definition), then run the same command"
    )


def _version(metadata: dbn.Metadata, dataset: _Dataset, instruments: Instruments) -> int:
    asks_definitions = dataset.venue is CME and _SCHEMA_KINDS.get(str(metadata.schema), DEFINITION) == DEFINITION
    return 2 if asks_definitions or any(map(newly_read, instruments.names)) else 1


def _split(schemas: tuple[EventSchema, ...], names: Names) -> list[tuple[EventSchema, slice | NDArray[np.intp]]]:
    """Return which rows go to which schema: options to the second, where there are two."""
    if len(schemas) > 1 and (option := names.where(instrument.is_option for instrument in names.distinct)).any():
        rows = ((schemas[0], np.flatnonzero(~option)), (schemas[1], np.flatnonzero(option)))
        return [(schema, mine) for schema, mine in rows if len(mine)]
    return [(schemas[0], _ALL)]

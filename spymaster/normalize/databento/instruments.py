"""Which instrument a DBN record is of, as far as header and stream have said. Pure.

A record carries an id; venues may give it to another instrument the next day. What it means: what a mapping record
says, from its place in the stream on and within the times it gives; else what the header says of the UTC date of the
record's `ts_recv`; else what a definition of that date says. So an instrument is looked up once for each distinct
(controls so far, span between two changes, id) of a piece, never row by row. A control is a record that changes what
later records mean.

Why what a definition describes is remembered by its symbol, and its id for its date alone: tomorrow the id may be
another instrument's. What an option is written on is its definition's `underlying`, a future; its product only where
that is not said.

A name that was asked for (`ES.c.0`) or an id again is no contract: it gives a root at most.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

import databento_dbn as dbn
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.events import EventSchema
from spymaster.normalize.columns import Columns
from spymaster.normalize.databento.records import (
    MAX_NS,
    PRICE_SCALE,
    UNDEFINED_PRICE,
    UNDEFINED_TIME,
    Group,
    Records,
    received_ns,
    text,
)
from spymaster.normalize.symbols import UNMAPPED, Asked, Instrument, Venue, asked_by, one_root, partition_root

_MIN_NS: Final = -(2**63)
_EVERYTHING: Final = "ALL_SYMBOLS"
_OPTION_CLASSES: Final = frozenset("CPTM")
_COLUMNS: Final = {
    "symbol": "root",
    "underlying": "root",
    "contract": "symbol",
    "option_symbol": "symbol",
    "exp_date": "exp_date",
    "strike": "strike",
    "right": "right",
}


# What `Instruments.know` reads of rows of `reference.instruments`.
DEFINITION_COLUMNS: Final = (
    "instrument_id", "ts_recv_ns", "record", "contract", "asset", "underlying", "instrument_class", "strike",
    "expiration_ns",
)  # fmt: skip


class Span(NamedTuple):
    """A symbol that an id stands for within [start_ns, end_ns), and what was asked for to get it."""

    instrument_id: int
    start_ns: int
    end_ns: int
    symbol: str
    asked: Asked
    said_on: int | None = None  # UTC day, since 1970, of the mapping record that says it; of a header's none

    def covers(self, instant_ns: int) -> bool:
        """Whether an instant is in it; the last that 64 bits hold is where it has no end."""
        return self.start_ns <= instant_ns and (instant_ns < self.end_ns or self.end_ns == MAX_NS)

    def shares_a_day(self, other: "Span") -> bool:
        """Whether both are said of some instant of one day; a mapping without times speaks of its own day."""
        own, its = self._of_its_day(), other._of_its_day()
        return max(own[0], its[0]) < min(own[1], its[1])

    def _of_its_day(self) -> tuple[int, int]:
        if self.said_on is None:
            return self.start_ns, self.end_ns
        begin_ns = self.said_on * NS_PER_DAY
        return max(self.start_ns, begin_ns), min(self.end_ns, begin_ns + NS_PER_DAY)


# A live session maps its instruments anew each day. Beyond these the oldest go: rows that come so late lose their name.
MAX_SPANS: Final = 1_000  # of one id
MAX_EDGES: Final = 1 << 18


class Definition(NamedTuple):
    """An instrument, and that its id stands for it on a UTC date."""

    span: Span
    instrument: Instrument


class Control(NamedTuple):
    """A record that says that an id stands for a symbol, or describes an instrument."""

    offset: int
    says: Span | Definition


class Names(NamedTuple):
    """The instruments of some records: record i is of `distinct[numbers[i]]`."""

    distinct: list[Instrument]
    numbers: NDArray[np.int32]

    def columns(self, schema: EventSchema) -> Columns:
        """Return the columns of `schema` that follow from the instrument alone."""
        columns = {}
        for name, part in _COLUMNS.items():
            if name in schema.log.names:
                parts = [getattr(instrument, part) for instrument in self.distinct]
                columns[name] = pa.array(parts, schema.log.field(name).type).take(self.numbers)
        return columns

    def where(self, flags: Iterable[bool]) -> NDArray[np.bool_]:
        """Return for each record the flag of its instrument."""
        return np.fromiter(flags, np.bool_, len(self.distinct))[self.numbers]

    def take(self, rows: slice | NDArray[np.intp]) -> "Names":
        return Names(self.distinct, self.numbers[rows])


class Instruments:
    """What header and stream have said of instruments so far.

    Attributes:
        root: the one root of all symbols known before the first record; None if there are several, or none.
        names: these symbols.
        contradicted: the first two names that one id was given on one day, and the id; None if that did not happen.
    """

    def __init__(self, metadata: dbn.Metadata, venue: Venue, symbols_in_stream: tuple[str, ...], learns: bool) -> None:
        """Read the header.

        Args:
            metadata: the delivery's header.
            venue: how its symbols are written.
            symbols_in_stream: symbols that mapping records will name.
            learns: whether definitions in the stream decide anything, so that they are worth remembering.
        """
        self._venue, self._learns = venue, learns
        self._asked = asked_by(metadata.symbols if str(metadata.stype_in) == "parent" else (), venue)
        self._read = lru_cache(65_536)(venue.read)
        self._described: dict[str, Instrument] = {}
        self._spans: dict[int, list[Span]] = {}  # of mappings
        self._defined: dict[int, list[Span]] = {}  # of definitions
        self.contradicted: tuple[str, str, int] | None = None
        self._edges: NDArray[np.int64] = np.empty(0, np.int64)  # the times, sorted, at which some id may change

        spans = _header_spans(metadata, self._asked)
        self._learn(Control(0, span) for span in spans)
        self._add_edges(spans)
        names = self.names = {*({span.symbol for span in spans} or _symbols(metadata)), *symbols_in_stream}
        self.root = None if _EVERYTHING in names else one_root(self._read(name, self._asked).root for name in names)

    @property
    def are_nameless(self) -> bool:
        """Whether nothing so far names any id, nor will."""
        return not (self._spans or self._defined or self.names)

    def know(self, defined: pa.Table) -> None:
        """Learn rows of `reference.instruments`; each names its id on the UTC date of its `ts_recv_ns`.

        Raises:
            KeyError: a column of `DEFINITION_COLUMNS` is not there.
        """
        columns = (defined[name].to_pylist() for name in DEFINITION_COLUMNS)
        said = []
        for number, received, record, symbol, asset, underlying, kind, strike, expiration in zip(*columns, strict=True):
            plain = self._read(symbol, self._asked)
            if plain.symbol is None:
                continue
            if record == "definition":
                root = self.root_of_definition(asset, symbol, underlying, kind)
                plain = _defined(symbol, root, kind, expiration, strike)
            said.append(Definition(_span_of_day(number, received, symbol, self._asked), plain))
        self._add_edges(definition.span for definition in said)
        self._learn(Control(0, definition) for definition in said)
        if not self.names:
            self.root = one_root(definition.instrument.root for definition in said)

    def mapped(self, mappings: Records) -> list[Span]:
        """Return what mapping records say. Where the new symbol is only an id again, the one asked for names it.

        Its symbol is empty where that is an id too.
        """
        names = ("instrument_id", "ts_event", "start_ts", "end_ts", "stype_in_symbol", "stype_out_symbol")
        spans = []
        for number, at, start, end, symbol_in, symbol_out in zip(
            *(mappings[name].tolist() for name in names), strict=True
        ):
            asked_for, meant = text(symbol_in), text(symbol_out)
            parent = asked_by([asked_for], self._venue)
            span = Span(
                instrument_id=number,
                start_ns=_MIN_NS if start == UNDEFINED_TIME else start,
                end_ns=MAX_NS if end == UNDEFINED_TIME else end,
                symbol=next((name for name in (meant, asked_for) if not name.isdigit()), ""),
                asked=parent if parent.root else self._asked,
                said_on=None if at == UNDEFINED_TIME else at // NS_PER_DAY,
            )
            spans.append(span)
        return spans

    def described(self, definitions: Records) -> Iterator[Definition]:
        """Say what each definition tells of its instrument, and of its id on the UTC date of its `ts_recv`."""
        names = ("instrument_id", "raw_symbol", "asset", "underlying", "instrument_class", "expiration", "strike_price")
        rows = zip(*(definitions[name].tolist() for name in names), received_ns(definitions).tolist(), strict=True)
        for number, *texts, expiration, strike, received in rows:
            symbol, asset, underlying, kind = map(text, texts)
            instrument = _defined(
                symbol,
                self.root_of_definition(asset, symbol, underlying, kind),
                kind,
                None if expiration == UNDEFINED_TIME else expiration,
                None if strike == UNDEFINED_PRICE else strike / PRICE_SCALE,
            )
            yield Definition(_span_of_day(number, received, symbol, self._asked), instrument)

    def controls(self, mappings: Group | None, spans: list[Span], definitions: Group | None) -> list[Control]:
        """Return what a piece says of instruments, in order. Nothing is learned yet."""
        controls: list[Control] = []
        if mappings:
            self._add_edges(spans)
            controls += map(Control, mappings.offsets.tolist(), spans)
        if definitions and self._learns:
            said = list(self.described(definitions.records))
            self._add_edges(definition.span for definition in said)
            controls += map(Control, definitions.offsets.tolist(), said)
        return sorted(controls, key=lambda control: control.offset)

    def name(self, groups: list[Group], controls: list[Control]) -> list[Names]:
        """Find each record's instrument, as known where it stands in the stream, and learn what `controls` say."""
        waiting = iter(controls)
        if not groups:
            self._learn(waiting)
            return []
        ids = np.concatenate([group.records["instrument_id"] for group in groups]).astype(np.int64)
        times = np.concatenate([received_ns(group.records) for group in groups])
        offsets = np.concatenate([group.offsets for group in groups])
        learned = np.searchsorted([control.offset for control in controls], offsets)
        spans = np.searchsorted(self._edges, times, side="right")
        moments, _ = _number(learned * (len(self._edges) + 1) + spans)
        numbers, first = _number(moments.astype(np.int64) << 32 | ids)

        distinct = [_NOBODY] * len(first)
        known = 0
        for number in np.argsort(learned[first]).tolist():
            at = first[number]
            self._learn(islice(waiting, int(learned[at]) - known))
            known = int(learned[at])
            distinct[number] = self._at(int(ids[at]), int(times[at]))
        self._learn(waiting)
        ends = np.cumsum([len(group.records) for group in groups])
        return [Names(distinct, part) for part in np.split(numbers, ends[:-1])]

    def meant_by(self, span: Span) -> Instrument:
        """Return what a mapping's symbol says."""
        return self._read(span.symbol, span.asked) if span.symbol else Instrument(None, self.root or UNMAPPED)

    def root_of_definition(
        self, asset: str | None, symbol: str | None, underlying: str | None, instrument_class: str | None
    ) -> str:
        is_option = underlying and instrument_class in _OPTION_CLASSES
        if is_option and (root := self._venue.root_of_underlying(underlying or "")):
            return partition_root(root)
        if asset:
            return partition_root(self._venue.product_root(asset))
        return self._read(symbol, self._asked).root if symbol else self.root or UNMAPPED

    def _at(self, instrument_id: int, instant_ns: int) -> Instrument:
        """Return the instrument that an id stands for at an instant: of the spans that cover it, the latest learned."""
        asked_for: Instrument | None = None
        for spans in (self._spans, self._defined):
            for span in reversed(spans.get(instrument_id, ())):
                if span.covers(instant_ns) and span.symbol:
                    found = self._described.get(span.symbol) or self._read(span.symbol, span.asked)
                    if found.symbol is not None:
                        return found
                    asked_for = asked_for or found
        return asked_for or Instrument(None, self.root or UNMAPPED, self._asked.options)

    def _learn(self, controls: Iterable[Control]) -> None:
        for control in controls:
            said = control.says
            if isinstance(said, Definition):
                self._described[said.instrument.symbol or ""] = said.instrument
                _remember(self._defined, said.span)
            else:
                self._compare(said)
                _remember(self._spans, said)

    def _compare(self, said: Span) -> None:
        """Note the first mapping that gives an id a second contract on one day."""
        if self.contradicted is not None or self._contract(said) is None:
            return
        for known in self._spans.get(said.instrument_id, ()):
            if known.symbol != said.symbol and known.shares_a_day(said) and self._contract(known) is not None:
                self.contradicted = known.symbol, said.symbol, said.instrument_id
                return

    def _contract(self, span: Span) -> str | None:
        return self.meant_by(span).symbol

    def _add_edges(self, spans: Iterable[Span]) -> None:
        """Tell apart the times before, within and after each of `spans`."""
        edges = {edge for span in spans for edge in (span.start_ns, span.end_ns)} - {_MIN_NS, MAX_NS}
        if edges:
            self._edges = np.union1d(self._edges, np.array(list(edges), np.int64))[-MAX_EDGES:]


def _defined(symbol: str, root: str, kind: str | None, expiration_ns: int | None, strike: float | None) -> Instrument:
    """Return what a definition says; only an option has terms."""
    is_option, is_plain = kind in _OPTION_CLASSES, kind in ("C", "P")
    return Instrument(
        symbol=symbol,
        root=root,
        is_option=is_option if kind else None,
        exp_date=_utc_date(expiration_ns) if is_option and expiration_ns is not None else None,
        strike=strike if is_plain else None,
        right=kind if is_plain else None,
    )


def _remember(spans: dict[int, list[Span]], said: Span) -> None:
    known = spans.setdefault(said.instrument_id, [])
    if not known or known[-1] != said:  # a live session repeats each mapping for each of its schemas
        known.append(said)
        del known[:-MAX_SPANS]


_NOBODY: Final = Instrument(None, UNMAPPED)


class Unnamed(NamedTuple):
    """Ids that a header names by no contract, and when: UTC nanoseconds, half-open."""

    ids: frozenset[int]
    begin_ns: int
    end_ns: int


def unnamed(metadata: dbn.Metadata, venue: Venue) -> Unnamed | None:
    """Return what a header leaves without a contract; None if that is nothing that it tells."""
    bare = str(metadata.stype_in) == "instrument_id"
    ids = {int(symbol) for symbol in metadata.symbols if bare and symbol.isascii() and symbol.isdigit()}
    spans: list[tuple[int, int]] = []
    for name, intervals in metadata.mappings.items():
        for interval in intervals:
            number, symbol = (name, interval["symbol"]) if bare else (interval["symbol"], name)
            named = not symbol.isdigit() and venue.read(symbol, Asked()).symbol is not None
            if number.isascii() and number.isdigit() and not named:
                ids.add(int(number))
                spans.append((_midnight_ns(interval["start_date"]), _midnight_ns(interval["end_date"])))
            elif number.isdigit():
                ids.discard(int(number))
    if not ids:
        return None
    begin_ns = min((begin for begin, _ in spans), default=min(metadata.start, MAX_NS) // NS_PER_DAY * NS_PER_DAY)
    end_ns = max((end for _, end in spans), default=min(metadata.end or MAX_NS, MAX_NS))
    return Unnamed(frozenset(ids), begin_ns, end_ns)


def _header_spans(metadata: dbn.Metadata, asked: Asked) -> list[Span]:
    """Return what the header says of ids, those that override others last: as with the vendor, the latest to start.

    Why ties are settled too: where a header gives one id to two symbols for the same days, the vendor's decoder lists
    them in another order each time, so that the same file could become other rows.
    """
    spans = []
    for name, intervals in metadata.mappings.items():
        for interval in intervals:
            number, symbol = interval["symbol"], name
            if str(metadata.stype_in) == "instrument_id":
                number, symbol = symbol, number
            if number.isascii() and number.isdigit() and not symbol.isdigit():
                start_ns, end_ns = _midnight_ns(interval["start_date"]), _midnight_ns(interval["end_date"])
                spans.append(Span(int(number), start_ns, end_ns, symbol, asked))
    return sorted(spans, key=lambda span: (span.start_ns, -span.end_ns, span.symbol))


def _span_of_day(instrument_id: int, received_ns: int, symbol: str, asked: Asked) -> Span:
    begin_ns = received_ns // NS_PER_DAY * NS_PER_DAY
    return Span(instrument_id, begin_ns, min(begin_ns + NS_PER_DAY, MAX_NS), symbol, asked)


def _symbols(metadata: dbn.Metadata) -> list[str]:
    return [symbol for symbol in metadata.symbols if not symbol.isdigit()]


def _midnight_ns(day: date) -> int:
    return max(_MIN_NS, min(MAX_NS, (day - date(1970, 1, 1)).days * NS_PER_DAY))


def _utc_date(ns: int) -> date:
    return datetime.fromtimestamp(ns // NS_PER_SECOND, UTC).date()


def _number(keys: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Number distinct keys by first appearance; return each key's number, and where each number first appears."""
    numbers = pa.array(keys).dictionary_encode().indices.to_numpy()
    first = np.empty(numbers.max(initial=-1) + 1, np.intp)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]
    return numbers, first

"""What tells that two rows are one event, whichever way it was delivered. Apart from `event_id`, which names a row.

Routes differ in what they give: a live print's size is rounded where its day file has the fraction, an option print
has its sequence live and none in its day file, a contract may have been asked for under another name. So each schema of
each vendor has a *key* of what every route gives exactly, and at most one *richer* key, which has more columns that
some routes leave out. docs/silver.md has the table.

A number stands instead of price and size only where the vendor documents it as unique. The sequence of GLBX and OPRA
numbers a packet: one column more, deciding nothing alone.
"""

import re
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY
from spymaster.events import market
from spymaster.events.identity import NULL, Texts, filled, identity_time_ns, texts_of, values_of
from spymaster.events.schema import EventSchema

_NONE: Final = frozenset({None, "", "0"})  # texts by which a vendor says that there is no id
# What says how and when a row came, and where it lies: of one event each delivery has its own. The text of a size is
# compared as the size.
_ARRIVAL: Final = {
    "ts_event_ns", "ts_recv_ns", "ts_local_ns", "source", "capture_id", "capture_seq", "date", "hour", "size_decimal",
}  # fmt: skip
_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)  # a size that a row may give as a number
_OTHERS: Final = -(2**62)  # from here down sizes are numbered that are no whole number

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Rule(NamedTuple):
    """Which columns are the keys of one vendor's schema, beside the identity time and the source.

    Attributes:
        instrument: the columns that tell one instrument from another.
        key: what every route gives exactly.
        richer: what the richer key has more; a row without one of them has only `key`.
        unique: columns that the vendor documents as unique together, within an instrument and its day. Where a row has
            them all they stand instead of `content`.
        content: columns of `key` that `unique` stands for.
        zero: columns of `key` in which the vendor leaves out a zero on some routes.
        daily: whether a venue's own number of an instrument counts for the UTC day alone in which it was received.
    """

    instrument: tuple[str, ...]
    key: tuple[str, ...]
    richer: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    daily: bool = True


class Keys(NamedTuple):
    """The keys of rows, as columns of numbers that are equal exactly where the keys are.

    Attributes:
        time_ns: the identity time, which every key has.
        key: its other columns.
        richer: what the richer key has more.
        has_richer: which rows have it; None where no rule has one.
        unique: rows whose event a documented number tells from any other.
    """

    time_ns: Numbers
    key: list[Numbers]
    richer: list[Numbers]
    has_richer: Flags | None
    unique: Flags


MASSIVE: Final = "massive."
DATABENTO: Final = "databento."

# Beside these, the key of a schema is what `event_id` is made of.
_QUOTE_SIDES: Final = ("bid_px", "bid_sz", "ask_px", "ask_sz", "bid_exch", "ask_exch")
_MASSIVE: Final = {
    market.STOCKS_TRADES.name: Rule(
        instrument=("symbol",),
        key=("price", "size", "seq", "exchange", "trade_id"),
        unique=("trade_id", "exchange", "seq"),
        content=("price", "size"),
    ),
    market.STOCKS_QUOTES.name: Rule(instrument=("symbol",), key=("seq", *_QUOTE_SIDES), zero=_QUOTE_SIDES),
    market.OPTIONS_TRADES.name: Rule(instrument=("option_symbol",), key=("price", "size", "exchange"), richer=("seq",)),
    market.OPTIONS_QUOTES.name: Rule(instrument=("option_symbol",), key=("seq", *_QUOTE_SIDES), zero=_QUOTE_SIDES),
}
# What stands until it changes is given again to each who subscribes, and at the midnight of a file: as it was, with the
# time of its event, on whatever day that is received. So the day is left out; the time is in the key as in any.
_STANDING: Final = {market.REFERENCE_STATISTICS.name, market.REFERENCE_STATUS.name}


def rule_of(schema: EventSchema, source: str) -> Rule:
    """Return the rule of a source's rows."""
    if source.startswith(MASSIVE) and schema.name in _MASSIVE:
        return _MASSIVE[schema.name]
    instrument, *rest = (name for name in schema.identity if name is not None)
    if source.startswith(DATABENTO) and "instrument_id" in schema.log.names:
        key = tuple(name for name in rest if name not in ("publisher_id", "instrument_id"))
        daily = schema.name not in _STANDING
        return Rule(instrument=("instrument_id", "publisher_id", instrument), key=key, daily=daily)
    return Rule(instrument=(instrument,), key=tuple(rest))


def columns_of(schema: EventSchema) -> list[str]:
    """Return the columns that `keys_of` and `keep_once` read."""
    rules = [rule_of(schema, source) for source in ("", MASSIVE, DATABENTO)]
    used = [name for rule in rules for name in (*rule.instrument, *rule.key, *rule.richer)]
    named = [schema.identity[0] or "", "size_decimal" if "size_decimal" in schema.log.names else "source"]
    arrival = ["ts_event_ns", "ts_recv_ns", "ts_local_ns", "source", "capture_id", "capture_seq"]
    return list(dict.fromkeys([*arrival, *used, *named]))


def comes_in_two_precisions(schema: EventSchema) -> bool:
    """Whether a vendor gives a schema's times in milliseconds on one route and in nanoseconds on another."""
    return schema.name in _MASSIVE or not schema.hourly


def said_freely(schema: EventSchema, source: str) -> list[str]:
    """Return the columns in which two deliveries of one event of a source may say something else of it."""
    rule = rule_of(schema, source)
    fixed = {*rule.key} - {*rule.content, *rule.zero} | _ARRIVAL
    return [name for name in schema.bronze.names if name not in fixed]


def keys_of(schema: EventSchema, rows: pa.Table) -> Keys:
    """Return the keys of rows. `rows` may have more columns than `columns_of` names."""
    time_ns, source = identity_time_ns(rows), texts_of(rows["source"])
    rules = [rule_of(schema, str(name)) for name in source.distinct or [""]]
    if len(set(rules)) == 1:
        return _keys(rules[0], schema, rows, time_ns, source.codes)
    count = rows.num_rows
    which = np.array([rules.index(rule) for rule in rules], np.int64)[source.codes]
    parts = []
    for number in np.unique(which).tolist():
        at = np.flatnonzero(which == number)
        parts.append((at, _keys(rules[number], schema, rows.take(at), time_ns[at], source.codes[at])))
    wide, wider = max(len(part.key) for _, part in parts), max(len(part.richer) for _, part in parts)
    key, richer = (np.full((many, count), NULL) for many in (wide, wider))
    has_richer, unique = np.zeros(count, bool), np.zeros(count, bool)
    for at, part in parts:  # the source is among the columns, so that what stands in one place need not mean the same
        for place, column in enumerate(part.key):
            key[place, at] = column
        for place, column in enumerate(part.richer):
            richer[place, at] = column
        unique[at] = part.unique
        if part.has_richer is not None:
            has_richer[at] = part.has_richer
    return Keys(time_ns, list(key), list(richer), has_richer if wider else None, unique)


def _keys(rule: Rule, schema: EventSchema, rows: pa.Table, time_ns: Numbers, source: Numbers) -> Keys:
    """Return the keys of rows that share a rule; first what tells most of them apart."""
    values = {name: _column(rows, name) for name in rule.key}
    for name in rule.zero:
        values[name] = np.where(values[name] == NULL, 0, values[name])
    unique = np.zeros(rows.num_rows, bool)
    if rule.unique:
        for name in rule.unique:
            values[name] = np.where(_is_none(rows, name), NULL, values[name])
        unique = np.logical_and.reduce([values[name] != NULL for name in rule.unique])
        for name in rule.content:
            values[name] = np.where(unique, NULL, values[name])
    richer = [np.where(_is_none(rows, name), NULL, _column(rows, name)) for name in rule.richer]
    has_richer = np.logical_and.reduce([column != NULL for column in richer]) if richer else None
    instrument, *more = _instrument(rule, rows)
    return Keys(
        time_ns, [instrument, *values.values(), *more, source], richer, has_richer,
        unique if has_richer is None else has_richer,
    )  # fmt: skip


def _instrument(rule: Rule, rows: pa.Table) -> list[Numbers]:
    """Return what tells instruments apart: a venue's own key and its day, where a row has it; else the name."""
    name = rule.instrument[-1]
    if len(rule.instrument) == 1:
        return [_column(rows, name)]
    ids, *others = (_column(rows, other) for other in rule.instrument[:-1])
    days = [rows["ts_recv_ns"].to_numpy() // NS_PER_DAY] if rule.daily else []
    none = (ids == NULL) | (ids == 0)
    if not none.any():
        return [ids, *others, *days]
    days = [np.where(none, NULL, own) for own in days]
    return [np.where(none, NULL, ids), *others, *days, np.where(none, _column(rows, name), NULL)]


def _column(rows: pa.Table, name: str) -> Numbers:
    if name == "size" and "size_decimal" in rows.column_names:
        return compared_sizes(rows)
    values = values_of(rows[name])
    if not isinstance(values, Texts):
        return values
    absent = [number for number, text in enumerate(values.distinct) if text is None]
    return np.where(values.codes == absent[0], NULL, values.codes) if absent else values.codes


def _is_none(rows: pa.Table, name: str) -> Flags:
    """Whether a number or an id says that there is none."""
    values = values_of(rows[name])
    if isinstance(values, Texts):
        none: Flags = np.array([text in _NONE for text in values.distinct], bool)
        return none[values.codes]
    nothing: Flags = (values == NULL) | (values == 0)
    return nothing


def compared_sizes(rows: pa.Table) -> Numbers:
    """Return sizes as they compare: whole ones as they are, of all others each text as a number of its own."""
    sizes, texts = filled(rows["size"].cast(pa.int64()), NULL), texts_of(rows["size_decimal"])
    if texts.distinct == [None]:
        return sizes
    forms = [None if text is None else one_form(text) for text in texts.distinct]
    others = {form for form in forms if form is not None and not _WHOLE.fullmatch(form)}
    numbers = {form: _OTHERS - place for place, form in enumerate(sorted(others))}
    values = [NULL if form is None else numbers[form] if form in numbers else int(form) for form in forms]
    return np.where(rows["size_decimal"].is_null().to_numpy(), sizes, np.array(values, np.int64)[texts.codes])


def one_form(text: str) -> str:
    """Return digits, with a fraction or without, without the zeros that say nothing; any other text as it is."""
    if not _DECIMAL.fullmatch(text):
        return text
    whole, _, fraction = text.partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole

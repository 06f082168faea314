"""The rule of `events.sameness` and the layout of `events.identity`, as expressions of SQL over a row of Bronze.

Made from what the rules say, and not by what computes them on columns: each engine is the other's oracle.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import pyarrow as pa

from spymaster.events import EventSchema
from spymaster.events.sameness import DATABENTO, MASSIVE, Rule, rule_of, said_freely

NULL: Final = -(2**63)
_NS_PER_DAY: Final = 86_400_000_000_000
_SOURCES: Final = (MASSIVE, DATABENTO, "")  # how those of each rule begin; the last is any other
_WHOLE: Final = r"'\.0*$|(\.[0-9]*[1-9])0*$', '\1'"  # zeros that end a fraction
_LEADING: Final = r"'^0+([0-9])', '\1'"


class Keys(NamedTuple):
    """The keys of a row, as expressions.

    Attributes:
        key: the columns of the key that every route gives, by a name for each.
        richer: what the richer key has more; null where a row has not got it.
        has_richer: whether a row has all of it.
        unique: whether a documented number tells its event from any other.
    """

    key: dict[str, str]
    richer: dict[str, str]
    has_richer: str
    unique: str


def keys_of(schema: EventSchema) -> Keys:
    """Return the keys of a schema's rows, whatever their sources."""
    own = {source: _keys(schema, rule_of(schema, source)) for source in _SOURCES}
    return Keys(
        {
            **_merged("key", {source: keys.key for source, keys in own.items()}),
            "key_source": "source", "key_time": _identity_time(),
        },
        _merged("richer", {source: keys.richer for source, keys in own.items()}),
        _by_source({source: keys.has_richer for source, keys in own.items()}),
        _by_source({source: keys.unique for source, keys in own.items()}),
    )  # fmt: skip


def _merged(kind: str, columns: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the columns of all rules, each null where a row's own rule has not got it."""
    names = dict.fromkeys(name for own in columns.values() for name in own)
    return {
        f"{kind}_{name}": _by_source({source: own.get(name, "null") for source, own in columns.items()})
        for name in names
    }


def _keys(schema: EventSchema, rule: Rule) -> Keys:
    """Return the keys of the rows of one rule."""
    key = {name: _compared(schema, name) for name in rule.key}
    for name in rule.zero:
        key[name] = f"coalesce(nullif({key[name]}, {NULL}), 0)"
    unique = "false"
    if rule.unique:
        given = {name: _given(schema, name) for name in rule.unique}
        unique = _all_given(given.values())
        key |= given | {name: f"case when not ({unique}) then {key[name]} end" for name in rule.content}
    richer = {name: _given(schema, name) for name in rule.richer}
    has_richer = _all_given(richer.values()) if richer else "false"
    return Keys(key | _instrument(schema, rule), richer, has_richer, has_richer if richer else unique)


def _instrument(schema: EventSchema, rule: Rule) -> dict[str, str]:
    """Return a venue's own key and its day, where a row has it; else the name."""
    *venue, name = rule.instrument
    if not venue:
        return {name: f'"{name}"'}
    number = _given(schema, venue[0])
    known = f"({number}) is not null"
    key = {own: _exact(schema.log.field(own)) for own in venue} | {venue[0]: number}
    if rule.daily:
        day = f"(ts_recv_ns - (ts_recv_ns % {_NS_PER_DAY} + {_NS_PER_DAY}) % {_NS_PER_DAY})"
        key["day"] = f"case when {known} then {day} end"
    return key | {name: f'case when not ({known}) then "{name}" end'}


def _by_source(expressions: Mapping[str, str], source: str = "source") -> str:
    """Return the expression of a row's own source."""
    *named, (_, other) = expressions.items()
    if len(set(expressions.values())) == 1:
        return other
    whens = " ".join(f"when starts_with({source}, '{begin}') then {own}" for begin, own in named)
    return f"case {whens} else {other} end"


def _all_given(values: Iterable[str]) -> str:
    return " and ".join(f"({value}) is not null" for value in values)


def _given(schema: EventSchema, name: str) -> str:
    """Return a number or an id; null where it says that there is none."""
    column = schema.log.field(name)
    if pa.types.is_string(column.type):
        return f"case when \"{name}\" not in ('', '0') then \"{name}\" end"
    return f"nullif(nullif({_exact(column)}, {NULL}), 0)"


def _compared(schema: EventSchema, name: str) -> str:
    return _compared_size() if name == "size" and "size_decimal" in schema.log.names else _exact(schema.log.field(name))


def _compared_size(row: str = "") -> str:
    """Return the text that a size compares as: without zeros that say nothing where it is digits with a fraction."""
    text = f"{row}size_decimal"
    form = f"regexp_replace(regexp_replace({text}, {_WHOLE}), {_LEADING})"
    return (
        f"case when {text} is null then {row}size::varchar "
        rf"when regexp_full_match({text}, '[0-9]+(\.[0-9]*)?') then {form} else {text} end"
    )


def _identity_time() -> str:
    """Return the time that equal events share."""
    return f"case when starts_with(source, '{MASSIVE}') then {_to_ms('ts_event_ns')} else ts_event_ns end"


def _to_ms(value: str) -> str:
    return f"({value} - ({value} % 1000000 + 1000000) % 1000000)"


def identity_of(schema: EventSchema) -> dict[str, str]:
    """Return an expression for each piece of the layout that names an event, by the names they get."""
    instrument, *rest = schema.identity
    pieces = [
        f"source || '|' || coalesce(\"{instrument}\", '')", _identity_time(),
        *(_exact(schema.log.field(name)) if name else f"({NULL})::bigint" for name in rest),
    ]  # fmt: skip
    return {f"piece_{number}": piece for number, piece in enumerate(pieces)}


def _exact(column: pa.Field) -> str:
    """Return a text as it is, anything else as an integer: null as the smallest."""
    name = f'"{column.name}"'
    if pa.types.is_string(column.type):
        return name
    if pa.types.is_floating(column.type):  # one that is no price of 64 bits is the bits that it is made of
        exact = f"case when abs({name} * 1e9) < 9223372036854775808 then cast({name} * 1e9 as bigint)"
        return f"coalesce({exact} else {name}::bit::bigint end, {NULL})"
    return f"coalesce({name}::bigint, {NULL})"


def differs(schema: EventSchema, one: str, other: str) -> str:
    """Return whether a row says something else of an event than another; null says nothing."""
    by_source = {source: _any_differs(schema, source, one, other) for source in _SOURCES}
    return _by_source(by_source, f"{one}.source")


def _any_differs(schema: EventSchema, source: str, one: str, other: str) -> str:
    found = []
    for name in said_freely(schema, source):
        value, against = (_said(schema, name, row, to_ms=source == MASSIVE) for row in (one, other))
        found.append(f"coalesce(({value}) <> ({against}), false)")
    return f"({' or '.join(found) or 'false'})"


def _said(schema: EventSchema, name: str, row: str, *, to_ms: bool) -> str:
    """Return a value as it is compared with another's."""
    value = f'{row}."{name}"'
    if name == "size" and "size_decimal" in schema.log.names:
        return _compared_size(f"{row}.")
    if pa.types.is_list(schema.log.field(name).type):
        return f"case when list_count({value}) = len({value}) then {value} end"
    return _to_ms(value) if to_ms and name.endswith("_ts_ns") else value

"""`levels.signals`: the levels in sight of a snap as rows of bus and Gold, and as JSON; each from the other.

    {"ts": ms, "ts_event_ns": ns, "es": {"spot", "bid", "ask"}, ..., "levels": [{"id", "barrier": {"state", ...}, ...}]}

The quote stands under its underlying's name in lower case. A level is a row: an object in it is a prefix of the row's
columns, `barrier.state` is `barrier_state`; what stands in the level itself is `level_id`, or has its name as it is.
A document is strict JSON: what is not known is null. docs/levels.signals.v1.schema.json describes it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from spymaster.clock import NS_PER_MS, NS_PER_SECOND
from spymaster.engines.ledger import WINDOWS_S
from spymaster.engines.snap import SIGNALS, Snap
from spymaster.errors import UsageError
from spymaster.lake.gold import FROM, GOLD, OF_SNAP

QUOTE: Final = ("spot", "bid", "ask")
GROUPS: Final = ("barrier", "tape", "fuel", "runway")  # objects in a level
HEAD: Final = tuple(name for name in OF_SNAP if name not in {"ts_event_ns", "underlying", *QUOTE})
_BARE: Final = "level_"  # what a level says of itself has this prefix in a row, and none in the level
_AGAIN_S: Final = min(WINDOWS_S)  # nothing is judged before so much is whole


def place_of(column: str) -> tuple[str, ...]:
    """Return where a level has the value of a column: its keys, from outside in."""
    group, _, rest = column.partition("_")
    return (group, rest) if group in GROUPS else (column.removeprefix(_BARE),)


PLACES: Final = {name: place_of(name) for name in GOLD.names if name not in OF_SNAP}
_COLUMNS: Final = {place: name for name, place in PLACES.items()}
_NAMES: Final = GOLD.names
_AT: Final = [SIGNALS.get_field_index(FROM[name]) if name in FROM else None for name in _NAMES]
_MADE: Final = tuple(name for name in GOLD.names if name not in FROM)

_SAID: Final = {  # of a state that holds, and of fuel
    "VACUUM": "orders were pulled",
    "WALL": "a wall stands",
    "ABSORPTION": "it is hit and stays",
    "CONSUMED": "it was traded away",
    "WEAK": "it is thin",
    "AMPLIFY": "dealers amplify",
    "DAMPEN": "dealers dampen",
}
_NOTED: Final = ("touched", "held_state", "fuel", "signal")


def rows(snap: Snap, levels: pa.RecordBatch, underlying: str, profile: str | None = None) -> pa.RecordBatch:
    """Return the rows of a snap, of GOLD.

    Args:
        snap: the snap.
        levels: those in sight, of the columns SIGNALS.
        underlying: whose prices they are.
        profile: the name of what it was judged by.
    """
    return rows_of([(snap, levels)], underlying, profile)


def rows_of(seen: Sequence[tuple[Snap, pa.RecordBatch]], underlying: str, profile: str | None = None) -> pa.RecordBatch:
    """Return the rows of snaps, one behind the other: to make a batch costs what some hundred rows do.

    Args:
        seen: at least one, each with its levels in sight.
        underlying: whose prices they are.
        profile: the name of what they were judged by.
    """
    levels = seen[0][1] if len(seen) == 1 else pa.concat_batches([own for _, own in seen])  # type: ignore[attr-defined]
    said = [(_of_snap(snap, underlying, profile), own.num_rows) for snap, own in seen]
    given = levels.columns
    made = {name: _joined([_repeated(name, own.get(name), count) for own, count in said]) for name in _MADE}
    made["note"] = _notes(levels)
    columns = [made[name] if at is None else given[at] for name, at in zip(_NAMES, _AT, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=GOLD)


def _joined(arrays: list[pa.Array]) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def head(snap: Snap, underlying: str, profile: str | None = None) -> dict[str, Any]:
    """Return what a snap says of itself, by column: what `document` needs of one without a level in sight."""
    own = {name: getattr(snap, FROM[name]) for name in OF_SNAP if name in FROM}
    return own | _of_snap(snap, underlying, profile)


def _of_snap(snap: Snap, underlying: str, profile: str | None) -> dict[str, Any]:
    """Return what SIGNALS has no column for."""
    again_ns = snap.whole_since_ns + _AGAIN_S * NS_PER_SECOND
    until_ns = again_ns if snap.void_reason is not None and again_ns > snap.snap_ns else None
    return {
        "underlying": underlying,
        "session": snap.session,
        "profile": profile,
        "age_ns": snap.age_ns,
        "void_until_ns": until_ns,
    }


def _repeated(name: str, value: Any, count: int) -> pa.Array:
    return pa.array(np.full(count, value)) if isinstance(value, int) else _same(name, value, count)


@lru_cache(maxsize=512)
def _same(name: str, value: str | None, count: int) -> pa.Array:
    """Return a text, or null, for each level; few differ from snap to snap."""
    kind = GOLD.field(name).type
    made: pa.Array = pa.nulls(count, kind) if value is None else pa.array([value] * count, kind)
    return made


def _notes(levels: pa.RecordBatch) -> pa.Array:
    said = zip(*(levels.column(name).to_pylist() for name in _NOTED), strict=True)
    return pa.array([_note(*one) for one in said], pa.string())


@lru_cache(maxsize=1024)
def _note(touched: bool, held: str | None, fuel: str, signal: str) -> str | None:
    """Return what stands out at a level; None where nothing does, of one that is void only that it is touched."""
    found = ["touched now"] if touched else []
    found += [_SAID[name] for name in (held, fuel) if name in _SAID]
    words = ", ".join(found)
    if signal != "NEUTRAL":
        return f"{signal}: {words}" if words else signal
    return words or None


def document(given: pa.RecordBatch, of_snap: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the rows of one snap as a JSON document.

    Args:
        given: the rows, of GOLD.
        of_snap: as `head` returns it; read from the rows if None, of which there is one then.
    """
    said = {name: given.column(name)[0].as_py() for name in OF_SNAP} if of_snap is None else of_snap
    names = list(PLACES)
    return {
        "ts": said["ts_event_ns"] // NS_PER_MS,
        "ts_event_ns": said["ts_event_ns"],
        said["underlying"].lower(): {name: said[name] for name in QUOTE},
        **{name: said[name] for name in HEAD},
        "levels": [_nested(row) for row in given.select(names).to_pylist()],
    }


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    level: dict[str, Any] = {}
    for name, place in PLACES.items():
        inner = level if len(place) == 1 else level.setdefault(place[0], {})
        inner[place[-1]] = row[name]
    return level


def flatten(payload: Mapping[str, Any]) -> pa.RecordBatch:
    """Return a document's rows, of GOLD: what `document` made of them, exactly. What is absent is null.

    Raises:
        UsageError: a field is missing, is not known, or is of another kind.
    """
    said = _read_head(payload)
    levels = payload.get("levels")
    if not isinstance(levels, list | tuple) or not all(isinstance(one, Mapping) for one in levels):
        raise _misfit("levels", "is no list of objects")
    flat = [dict(_flat(level)) for level in levels]
    columns = []
    for column in GOLD:
        values = [said.get(column.name) if column.name in OF_SNAP else one.get(column.name) for one in flat]
        columns.append(_column(column, values))
    return pa.RecordBatch.from_arrays(columns, schema=GOLD)


def _read_head(payload: Mapping[str, Any]) -> dict[str, Any]:
    quotes = [key for key in payload if key not in {"ts", "ts_event_ns", "levels", *HEAD}]
    if len(quotes) != 1 or not isinstance(payload[quotes[0]], Mapping) or not payload[quotes[0]].keys() <= {*QUOTE}:
        shown = quotes[0] if quotes else "es"
        raise _misfit(shown, "is no quote of spot, bid and ask under an underlying's name, of which there is one")
    ms, ns = payload.get("ts"), payload.get("ts_event_ns")
    if not isinstance(ns if ns is not None else ms, int):
        raise _misfit("ts_event_ns", "is missing, and `ts` too")
    ts_ns = int(ms) * NS_PER_MS if ns is None else int(ns)  # type: ignore[arg-type]  # one of them is a number
    if ms not in {None, ts_ns // NS_PER_MS}:
        raise _misfit("ts", "is not the millisecond of ts_event_ns")
    known = {name: payload.get(name) for name in HEAD} | dict(payload[quotes[0]])
    return known | {"ts_event_ns": ts_ns, "underlying": quotes[0].upper()}


def _flat(level: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a level's values by their columns."""
    for key, value in level.items():
        if key in GROUPS:
            if not isinstance(value, Mapping):
                raise _misfit(key, "is no object")
            for inner, one in value.items():
                yield _known((key, inner)), one
        else:
            yield _known((key,)), value


def _known(place: tuple[str, ...]) -> str:
    if place not in _COLUMNS:
        raise _misfit(".".join(place), "is not known")
    return _COLUMNS[place]


def _column(column: pa.Field, values: Sequence[Any]) -> pa.Array:
    shown = ".".join(PLACES.get(column.name, (column.name,)))
    if not column.nullable and None in values:
        raise _misfit(shown, "is missing")
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise _misfit(shown, "is no finite number")
    try:
        made: pa.Array = pa.array(values, column.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise _misfit(shown, f"is not of type {column.type} ({error})") from error
    return made


def _misfit(name: str, reason: str) -> UsageError:
    return UsageError(
        f"levels.signals: {name!r} {reason}. Nothing of this payload was written. "
        f"Next: compare with docs/levels.signals.v1.schema.json"
    )

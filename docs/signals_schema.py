"""Makes the JSON schema of `levels.signals`, as the engines publish it, from the columns of Gold and their meanings."""

import json
from typing import Any, Final

import pyarrow as pa

from spymaster.engines import fuel, holds, runway, score
from spymaster.engines.snap import SIGNALS
from spymaster.lake.gold import FROM, GOLD, VERSION
from spymaster.signals.payload import GROUPS, HEAD, PLACES, QUOTE

NAME: Final = f"levels.signals.v{VERSION}.schema.json"
_WORDS: Final = {
    "signal": score.SIGNALS,
    "barrier_side": ("bid", "ask"),
    "barrier_state": holds.STATES,
    "barrier_held_state": holds.STATES[1:],  # VOID is held by none
    "fuel_effect": fuel.EFFECTS,
    "runway_quality": tuple(filter(None, runway.QUALITIES)),
}


def signals() -> str:
    """Return docs/levels.signals.v1.schema.json."""
    ns = {"type": "integer", "description": _meaning("ts_event_ns")}
    level: dict[str, Any] = _object({})
    for name, place in PLACES.items():
        inner = level if len(place) == 1 else level["properties"].setdefault(place[0], _object({}))
        inner["properties"][place[-1]] = _value(name)
    for one in (level, *(level["properties"][group] for group in GROUPS)):
        one["required"] = list(one["properties"])
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": NAME,
        "title": f"levels.signals, version {VERSION}",
        "description": "A snap: its quote under its underlying's name in lower case, `es`, and the levels in sight",
        "type": "object",
        "properties": {
            "ts": {"type": "integer", "description": "event time of the snap, UTC milliseconds, rounded down"},
            "ts_event_ns": ns,
            **{name: _value(name) for name in HEAD},
            "levels": {"type": "array", "items": level, "description": "ascending by price"},
        },
        "required": ["ts", "ts_event_ns", *HEAD, "levels"],
        "minProperties": len(HEAD) + 4,  # one more than are named
        "additionalProperties": _object({name: _value(name, nullable=True) for name in QUOTE}),
    }
    return json.dumps(schema, indent=1) + "\n"


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _value(name: str, *, nullable: bool = False) -> dict[str, Any]:
    """Describe a column's values; that of an engine's are null only where the engine says so."""
    column = GOLD.field(name)
    null = nullable or (SIGNALS.field(FROM[name]) if name in FROM else column).nullable
    found: dict[str, Any] = {"type": [_json(column.type), "null"] if null else _json(column.type)}
    if pa.types.is_list(column.type):
        found["items"] = {"type": "string"}
    if name in _WORDS:
        found["enum"] = [*_WORDS[name], *([None] if null else [])]
    return {**found, "description": _meaning(name)}


def _json(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "array"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_string(kind):
        return "string"
    return "number" if pa.types.is_floating(kind) else "integer"


def _meaning(name: str) -> str:
    return (GOLD.field(name).metadata or {})[b"meaning"].decode()

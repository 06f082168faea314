"""`/openapi.json`: what may be asked here, as a document that tools read. A test compares it with the routes."""

from typing import Any, Final, NamedTuple

from spymaster.gateway.history import STEPS_S
from spymaster.gateway.newest_rows import COMPONENTS
from spymaster.gateway.patch import Document

_NS: Final = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_LEVEL: Final = {"type": "string", "maxLength": 64}


class Parameter(NamedTuple):
    """One parameter of a query."""

    name: str
    meaning: str
    schema: dict[str, Any]
    required: bool = False


class Question(NamedTuple):
    """One route. `parameters` are those of its query; `kind` is the media type of its answer."""

    path: str
    meaning: str
    parameters: tuple[Parameter, ...] = ()
    kind: str = "application/json"


_OF_LEVEL: Final = Parameter("level", "its id, e.g. VWAP or ROUND_6900", _LEVEL, required=True)
QUESTIONS: Final = (
    Question("/", "The page.", kind="text/html"),
    Question("/page/{name}", "A file of the page.", kind="*/*"),
    Question("/health", "Whether what is recorded now may be relied on: 200, or 503 with reasons."),
    Question("/metrics", "The gauges, for Prometheus.", kind="text/plain"),
    Question("/openapi.json", "This document."),
    Question("/api/status", "How all stands: run, desk, streams, gaps, alerts, zones, hold rates, health."),
    Question("/api/levels", "The newest snap with the levels in sight, and dealer gamma by strike."),
    Question("/api/levels/scores", "The newest ten minutes of a level's score.", (_OF_LEVEL,)),
    Question(
        "/api/rows",
        "The newest rows that a level's score rests on.",
        (_OF_LEVEL, Parameter("component", "of the score", {"type": "string", "enum": list(COMPONENTS)})),
    ),
    Question(
        "/api/explain",
        "All rows behind a level's score at a snap, and where each lies. One at a time.",
        (_OF_LEVEL, Parameter("at", "UTC ns; the newest snap if absent", _NS)),
    ),
    Question(
        "/api/history/candles",
        "Candles of what is judged: second, open, high, low, close, volume, bought, sold.",
        (
            Parameter("step", "seconds of one", {"type": "integer", "enum": list(STEPS_S), "default": 60}),
            Parameter("from_ns", "UTC ns; 240 candles before the end if absent", _NS),
            Parameter("to_ns", "UTC ns, exclusive; now if absent", _NS),
        ),
    ),
    Question(
        "/api/gaps",
        "The gaps that touch a span, newest first.",
        (Parameter("from_ns", "UTC ns; a day before the end if absent", _NS), Parameter("to_ns", "UTC ns; now", _NS)),
    ),
    Question(
        "/api/alerts",
        "Alerts, newest first.",
        (Parameter("before_ns", "UTC ns: those recorded before it; those at hand if absent", _NS),),
    ),
)
_ZONE: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["zone", "price"],
    "properties": {
        "zone": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"},
        "price": {"type": ["number", "null"], "description": "null removes it"},
    },
}
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "what, what is safe, what to do: one line"}},
}


def openapi_document(version: str) -> Document:
    """Return the document.

    Args:
        version: of the package.
    """
    paths: Document = {question.path: {"get": _operation(question)} for question in QUESTIONS}
    paths["/api/config/hotzone"] = {
        "post": {
            "summary": "Set a hot zone, move it, or remove it. It counts from the next snap on.",
            "requestBody": {"required": True, "content": {"application/json": {"schema": _ZONE}}},
            "responses": _responses("application/json"),
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "spymaster", "version": version, "description": "docs/gateway.md says more."},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(question: Question) -> Document:
    parameters = [
        {"name": one.name, "in": "query", "required": one.required, "description": one.meaning, "schema": one.schema}
        for one in question.parameters
    ]
    if "{name}" in question.path:
        parameters.append({"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    return {"summary": question.meaning, "parameters": parameters, "responses": _responses(question.kind)}


def _responses(kind: str) -> Document:
    refusal = {"description": "refused, with a line", "content": {"application/json": {"schema": _ERROR}}}
    return {"200": {"description": "the answer", "content": {kind: {}}}, "4XX": refusal, "503": refusal}

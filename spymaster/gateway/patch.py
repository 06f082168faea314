"""JSON merge patches (RFC 7396): what a page is told of a document that it has already.

A patch says null for what is gone, so no document holds null: what is not known is left out.
"""

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]


def known(value: Any) -> Any:
    """Return a document without what is null in it, at any depth; lists stay as they are."""
    if isinstance(value, Mapping):
        return {key: known(inner) for key, inner in value.items() if inner is not None}
    return value


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """Return the patch that makes `after` of `before`; empty where they are alike."""
    patch: Document = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if old is value:
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := difference(old, value):
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch


def patched(document: Any, patch: Any) -> Any:
    """Return what a patch makes of a document, as RFC 7396 has it."""
    if not isinstance(patch, Mapping):
        return patch
    made = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = patched(made.get(key), value)
    return made

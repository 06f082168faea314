"""Says where a document is not what a JSON schema says, for the words that ours uses; others are refused."""

_KINDS = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
}
_WORDS = {"$schema", "$id", "title", "description", "type", "enum", "items", "properties", "required",
          "additionalProperties", "minProperties"}  # fmt: skip


def misfits(document, schema, at="$"):
    """Return a line for each place that does not fit."""
    assert schema.keys() <= _WORDS, schema.keys() - _WORDS
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_KINDS[kind](document) for kind in kinds):
        return [f"{at} is {document!r}, not {kinds}"]
    if "enum" in schema and document not in schema["enum"]:
        return [f"{at} is {document!r}, not of {schema['enum']}"]
    if isinstance(document, list):
        return [line for n, one in enumerate(document) for line in misfits(one, schema["items"], f"{at}[{n}]")]
    return _of_object(document, schema, at) if isinstance(document, dict) else []


def _of_object(document, schema, at):
    known, others = schema["properties"], schema["additionalProperties"]
    found = [f"{at} lacks {name}" for name in schema["required"] if name not in document]
    if len(document) < schema.get("minProperties", 0):
        found.append(f"{at} has {len(document)} properties")
    for name, value in document.items():
        if name in known or others:
            found += misfits(value, known.get(name, others), f"{at}.{name}")
        else:
            found.append(f"{at}.{name} is not known")
    return found

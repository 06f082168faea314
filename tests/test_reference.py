"""The pages that are made from the code are those that it makes now, and lack nothing."""

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Optional, Union

import pyarrow as pa
import pytest

import spymaster
from docs import make_reference, schema_page
from spymaster import events


@pytest.mark.parametrize("page", make_reference.PAGES)
def test_a_page_is_what_the_code_makes_now(page):
    written = (make_reference.HERE / page).read_text()

    assert written == make_reference.PAGES[page](), f"docs/{page} is behind. Next: make docs"


@pytest.mark.parametrize(
    ("kind", "spelling"),
    [
        (str | None, "str | None"),
        (Optional[str], "str | None"),  # noqa: UP045  # as libraries still write it
        (Union[int, Path], "int | Path"),  # noqa: UP007
        (Literal["a", "b"] | None, '"a" | "b" | None'),
        (Sequence[tuple[str, int]], "Sequence[tuple[str, int]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Callable[[int, str], None], "Callable[[int, str], None]"),
        (Callable[[], int], "Callable[[], int]"),
        (Annotated[list[str] | None, "help"], "list[str] | None"),
        (pa.RecordBatch, "RecordBatch"),
    ],
)  # fmt: skip
def test_a_type_is_spelled_alike_on_every_python(kind, spelling):
    assert make_reference.spelled(kind) == spelling


def test_a_docstring_is_taken_apart_where_its_margin_comes_back():
    told = make_reference.sections(
        "First.\n\nArgs:\n    one: is\n        long.\n    two: is not.\n\nAfter.\n\n"
        "Raises:\n    duckdb.Error: wrong.\n\nExample: a\n\nExample: b\n"
    )

    assert told.text == "First.\n\nAfter."
    assert told.entries("Args") == {"one": "is long.", "two": "is not."}
    assert told.entries("Raises") == {"duckdb.Error": "wrong."}
    assert told.parts["Example"].split() == ["a", "b"]


@pytest.mark.parametrize("column", [pa.field("weight", pa.int32()), pa.field("weight", pa.float64())])
def test_a_number_without_a_unit_is_refused(column):
    with pytest.raises(ValueError, match=r"^stocks\.trades: weight has no unit"):
        schema_page.unit("stocks.trades", column)


def test_every_column_is_on_the_page():
    page = schema_page.schemas()

    for schema in events.SCHEMAS.values():
        own = page.partition(f"## {schema.name}\n")[2].partition("\n## ")[0]
        for name in schema.bronze.names:
            book = name.rpartition("_")[0] + "_1` to `"
            assert f"`{name}`" in own or f"| `{book}" in own, name


def test_every_public_name_and_argument_is_on_the_page():
    page = make_reference.interfaces()

    for name in spymaster.__all__:
        own = page.partition(f"### {name}\n")[2].partition("\n### ")[0]
        thing = getattr(spymaster, name)
        members = dict(inspect.getmembers(thing, inspect.isfunction)) if inspect.isclass(thing) else {name: thing}
        public = {member: call for member, call in members.items() if not member.startswith("_")}
        assert public
        assert re.findall(r"^- `\w+: [^`]*`(?: \(by name\))?$", own, re.MULTILINE) == []  # each says what it means
        for member, call in public.items():
            called = (
                own.partition(f"#### {name}.{member}\n")[2].partition("\n#### ")[0] if inspect.isclass(thing) else own
            )
            for argument in list(inspect.signature(call).parameters)[inspect.isclass(thing) :]:
                assert f"\n- `{argument}: " in called, (name, member, argument)

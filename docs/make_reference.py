"""Makes docs/interfaces.md, docs/schemas.md and the JSON schema of signals from the code: `make docs`.

What a page says stands in a docstring, an option's help, a setting's description or a column's meaning, and is mended
there. The pages are the same on every supported Python, so types are spelled here and not by `repr`.
"""

import dataclasses
import enum
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer.main
from pydantic import SecretStr

import spymaster
from docs.markdown import MADE, cell, one_line
from docs.schema_page import schemas
from docs.signals_schema import NAME, signals
from spymaster import cli, errors
from spymaster.settings import Settings

HERE: Final = Path(__file__).parent
_SECTION: Final = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Example):[ \t]*(.*)$")
_ENTRY: Final = re.compile(r"^([\w.]+): (.*(?:\n[ \t]+.*)*)", re.MULTILINE)


class Sections(NamedTuple):
    """A docstring: what it says, and its Google sections by title."""

    text: str
    parts: dict[str, str]

    def entries(self, title: str) -> dict[str, str]:
        """Return the `name: meaning` lines of a section."""
        return {name: one_line(meaning) for name, meaning in _ENTRY.findall(self.parts.get(title, ""))}


def sections(documented: object) -> Sections:
    """Take the docstring of something apart, or a text that is one; a section ends where the margin comes back."""
    text = documented if isinstance(documented, str) else inspect.getdoc(documented) or ""
    plain: list[str] = []
    parts: dict[str, list[str]] = {}
    part = plain
    for line in text.splitlines():
        if (begin := _SECTION.match(line)) is not None:
            part = parts.setdefault(begin[1], [])
            line = begin[2]  # noqa: PLW2901  # an example may stand on the same line
        elif line and not line.startswith(" "):
            part = plain
        part.append(line)
    return Sections(
        "\n".join(plain).strip(), {title: inspect.cleandoc("\n".join(lines)) for title, lines in parts.items()}
    )


def spelled(kind: Any) -> str:
    """Spell a type as it stands in the code, on every Python alike."""
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case None if isinstance(kind, type) and issubclass(kind, enum.Enum):
            spelt = " | ".join(quoted(member.value) for member in kind)
        case None:
            plain = {None: "None", type(None): "None", Ellipsis: "..."}
            spelt = plain.get(kind) or (kind if isinstance(kind, str) else kind.__name__)
        case typing.Union | types.UnionType:
            spelt = " | ".join(map(spelled, arguments))
        case typing.Literal:
            spelt = " | ".join(map(quoted, arguments))
        case typing.Annotated:
            spelt = spelled(arguments[0])
        case origin if isinstance(arguments[0], list):
            spelt = f"{spelled(origin)}[[{', '.join(map(spelled, arguments[0]))}], {spelled(arguments[1])}]"
        case origin:
            spelt = f"{spelled(origin)}[{', '.join(map(spelled, arguments))}]"
    return str(spelt)


def quoted(value: Any) -> str:
    """Spell a default or a choice."""
    return f'"{value}"' if isinstance(value, str | Path) else repr(value)


# What a program imports


def interfaces() -> str:
    """Return docs/interfaces.md."""
    public = [getattr(spymaster, name) for name in spymaster.__all__]
    given = [kind for kind in _given(public) if kind not in public]
    lines = [
        MADE, "# Interfaces", "",
        "What a program imports, what a shell runs, and what is set. Columns: [schemas.md](schemas.md).", "",
        "## Python", "", f"`from spymaster import {', '.join(spymaster.__all__)}`", "",
        *(line for thing in public for line in _described(thing, "###")),
        "### What these give", "", *(line for kind in given for line in _described(kind, "####", made_by_us=True)),
        "### Errors", "",
        "`from spymaster.errors import SpymasterError`. Each says what, where, what is safe and what to do next, in "
        "one line.", "", *_errors(),
        "## Commands", "", *_commands(),
        "## Settings", "", *_settings(),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _described(thing: Any, heading: str, *, made_by_us: bool = False) -> Iterator[str]:
    """Describe a class with its methods, or a function. How a class is called says nobody who is given its objects."""
    own = sections(thing)
    yield from (f"{heading} {thing.__name__}", "", own.text, "")
    if not inspect.isclass(thing):
        yield from _called(thing, thing.__name__, own, {})
        return
    yield from _example(own)
    fields = _fields(thing)
    meanings = own.entries("Attributes")
    for name in fields or meanings:
        kind = f": {spelled(fields[name])}" if name in fields else ""
        yield f"- `{name}{kind}` {meanings.get(name, '')}".rstrip()
    yield from [""] if fields or meanings else []
    if not made_by_us:
        construct = thing.__init__
        yield from _called(
            construct, thing.__name__, sections(construct) if construct.__doc__ else Sections("", {}), {}
        )
    public = {name: method for name, method in _own_functions(thing).items() if not name.startswith("_")}
    shared = _meanings(public.values())
    for name, method in public.items():
        if isinstance(method, property):
            asked = sections(method)
            returned = spelled(inspect.signature(method.fget).return_annotation)  # type: ignore[arg-type]
            yield from (f"{heading}# {thing.__name__}.{name}", "", f"Property, `{returned}`. {asked.text}", "")
            continue
        told = sections(method)
        yield from (f"{heading}# {thing.__name__}.{name}", "")
        yield from (told.text, "") if told.text else ()
        yield from _called(method, name, told, shared)


def _called(function: Any, name: str, told: Sections, shared: dict[str, str]) -> Iterator[str]:
    """List how a function is called: each argument with type, default and meaning; what it returns and raises."""
    signature = inspect.signature(function)
    meanings = shared | told.entries("Args")
    arguments = [argument for argument in signature.parameters.values() if argument.name != "self"]
    shown = ", ".join(
        argument.name if argument.default is argument.empty else f"{argument.name}={quoted(argument.default)}"
        for argument in arguments
    )
    yield from ("```python", f"{'await ' * inspect.iscoroutinefunction(function)}{name}({shown})", "```", "")
    for argument in arguments:
        only = " (by name)" if argument.kind is argument.KEYWORD_ONLY else ""
        kind = spelled(argument.annotation)
        yield f"- `{argument.name}: {kind}`{only} {meanings.get(argument.name, '')}".rstrip()
    returned = signature.return_annotation
    if returned not in (None, signature.empty):
        what = f": {one_line(told.parts['Returns'])}" if "Returns" in told.parts else ""
        yield f"- returns `{spelled(returned)}`{what}"
    for error, reason in told.entries("Raises").items():
        yield f"- raises `{error}`: {reason}"
    yield ""
    yield from _example(told)


def _meanings(functions: Iterable[Any]) -> dict[str, str]:
    """Return what arguments mean where one of a class's functions does not say it again."""
    found: dict[str, str] = {}
    for function in functions:
        found = sections(function).entries("Args") | found
    return found


def _example(told: Sections) -> Iterator[str]:
    if "Example" in told.parts:
        yield from ("```python", told.parts["Example"], "```", "")


def _own_functions(kind: type) -> dict[str, Any]:
    """Return the methods and properties of a class that are written in this package, inherited ones included."""
    ours = [each for each in reversed(kind.__mro__) if each.__module__.startswith("spymaster")]
    members = {name: member for each in ours for name, member in vars(each).items()}
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, property) or (inspect.isfunction(member) and member.__module__.startswith("spymaster"))
    }


def _fields(kind: type) -> dict[str, Any]:
    """Return the fields of a dataclass or a named tuple."""
    if dataclasses.is_dataclass(kind):
        return {field.name: field.type for field in dataclasses.fields(kind)}
    return dict(kind.__annotations__) if issubclass(kind, tuple) and hasattr(kind, "_fields") else {}


def _given(public: Iterable[Any]) -> list[type]:
    """Return the classes of ours that public functions return, and those that are parts of these, as first met."""
    found: list[type] = []
    ahead = list(public)
    while ahead:
        thing = ahead.pop(0)
        kinds = list(_fields(thing).values()) if inspect.isclass(thing) else []
        members = _own_functions(thing).items() if inspect.isclass(thing) else [(thing.__name__, thing)]
        functions = [member for name, member in members if not name.startswith("_")]
        for function in functions:
            asked = function.fget if isinstance(function, property) else function
            kinds.append(inspect.signature(asked).return_annotation)  # type: ignore[arg-type]
        for kind in _flat(kinds):
            if inspect.isclass(kind) and kind.__module__.startswith("spymaster.") and kind not in found:
                found.append(kind)
                ahead.append(kind)
    return found


def _flat(kinds: Iterable[Any]) -> Iterator[Any]:
    for kind in kinds:
        yield from (
            _flat(kind if isinstance(kind, list) else typing.get_args(kind))
            if (isinstance(kind, list) or typing.get_args(kind))
            else [kind]
        )


def _errors() -> Iterator[str]:
    yield from ("| error | is a | when |", "|---|---|---|")
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, Exception):
            yield f"| `{name}` | `{kind.__base__.__name__}` | {cell(sections(kind).text)} |"  # type: ignore[union-attr]
    yield ""


# What a shell runs


def _commands() -> Iterator[str]:
    yield "Answers go to stdout, progress and errors to stderr; an error is one line and a non-zero exit."
    yield ""
    group: Any = typer.main.get_command(cli.app)
    for name, command in _leaves("spymaster", group):
        told = sections(command.help or "")
        yield from (
            f"### {name}",
            "",
            told.text,
            "",
            "```",
            *filter(None, told.parts["Example"].splitlines()),
            "```",
            "",
        )
        yield from ("| argument | type | default | meaning |", "|---|---|---|---|")
        signature = inspect.signature(command.callback)
        for option in command.params:
            if option.name == "help":
                continue
            kind = spelled(signature.parameters[option.name].annotation).removesuffix(" | None")
            kind = re.sub(r"list\[(.*)\]", r"\1, again and again", kind).replace(" | ", " or ")
            bounds = "".join(
                f", {word} {bound}" for word, bound in (("from", option.min), ("to", option.max)) if bound is not None
            )
            default = "required" if option.required else _default(option.default)
            names = ", ".join(f"`{each}`" for each in (*option.opts, *option.secondary_opts))
            yield f"| {names} | {kind}{bounds} | {default} | {cell(option.help or '')} |"
        yield ""


def _default(value: Any) -> str:
    return "" if value is None or value is False else f"`{value}`"


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the commands below one, as `--help` lists them."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for own, child in command.commands.items():
        yield from _leaves(f"{name} {own}", child)


def _settings() -> Iterator[str]:
    yield one_line((sys.modules[Settings.__module__].__doc__ or "").partition("\n\n")[2])
    yield from ("", "| setting | type | default | meaning |", "|---|---|---|---|")
    for name, field in Settings.model_fields.items():
        secret = SecretStr in typing.get_args(field.annotation)
        kind = "secret" if secret else spelled(field.annotation).removesuffix(" | None").replace("|", "or")
        default = "" if field.default is None else f"`{field.default}`"
        yield f"| `{name.upper()}` | {kind} | {default} | {cell(field.description or '')} |"


PAGES: Final = {"interfaces.md": interfaces, "schemas.md": schemas, NAME: signals}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make())

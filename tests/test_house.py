"""The house itself: the docstring states the route, every word of it is a room, and no room is too large to read."""

import ast
import re
from pathlib import Path

import pytest

import spymaster

PACKAGE = Path(spymaster.__file__).parent
REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))]

FILE_LINES, CLASS_LINES = 460, 250  # at most


def test_the_route_in_the_docstring_names_rooms():
    line = next(line for line in spymaster.__doc__.splitlines() if line.startswith("The route:"))

    for word in line.removeprefix("The route:").replace("->", " ").split():
        assert (PACKAGE / word).is_dir() or (PACKAGE / f"{word}.py").is_file(), word


def test_every_module_says_what_it_is_for():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)) or not text.strip(), path


def test_every_public_name_is_found_at_home():
    assert set(spymaster._HOMES) == set(spymaster.__all__)

    for name, home in spymaster._HOMES.items():
        assert getattr(spymaster, name).__module__.startswith(home)


def test_no_file_and_no_class_is_too_long():
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if too_long(path.read_text())}

    assert not found


def too_long(text):
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    longest = max((node.end_lineno - node.lineno + 1 for node in classes), default=0)
    return text.count("\n") > FILE_LINES or longest > CLASS_LINES


@pytest.mark.parametrize(("lines", "long"), [(CLASS_LINES, False), (CLASS_LINES + 1, True)])
def test_a_class_is_measured_from_its_name_to_its_last_line(lines, long):
    assert too_long("class C:\n" + "    x = 1\n" * (lines - 1)) is long


LISTERS = {  # each owns the folders that it lists
    "wal/folder.py", "lake/layout.py", "durable.py", "feeds/files.py", "gateway/page_files.py",
}  # fmt: skip
LISTING = {"glob", "rglob", "iterdir", "scandir", "listdir"}


def test_only_who_owns_a_folder_lists_it():
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if lists(path.read_text())}

    assert found == LISTERS


def lists(text):
    return any(
        node.attr in LISTING or (node.attr == "walk" and isinstance(node.value, ast.Name) and node.value.id == "os")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
    ) or any(
        alias.name in {*LISTING, "walk"}
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module in {"os", "glob"}
        for alias in node.names
    )


@pytest.mark.parametrize(
    ("text", "listing"),
    [
        ("folder.rglob('*')", True),
        ("list(map(Path.iterdir, folders))", True),
        ("os.walk(folder)", True),
        ("from os import scandir as look", True),
        ("from glob import glob", True),
        ("ast.walk(tree)", False),
        ("folder.exists()", False),
    ],
)
def test_a_listing_is_known_however_it_is_called(text, listing):
    assert lists(text) is listing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_is_there(document):
    text = (REPOSITORY / document).read_text()
    named = set(re.findall(r"(?:spymaster|tests|bench|docs)/[\w/]+\.(?:py|md)", text))

    assert {path for path in named if not (REPOSITORY / path).is_file()} == set()


def test_nobody_asks_which_feed_or_delivery_it_has_but_the_room_that_made_it():
    """What differs from feed to feed stands in the protocol, or the next feed would be forgotten somewhere."""
    made = {room.parent.name: concrete_feeds(room.parent) for room in PACKAGE.glob("*/__init__.py")}
    assert {"DbnFileFeed", "FlatFileDelivery"} < made["feeds"]
    assert {"SimFeed", "SimDelivery"} < made["simulation"]

    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        others = set().union(*(names for maker, names in made.items() if maker != room))
        assert asked_kinds(path.read_text()) & others == set(), path


def concrete_feeds(room):
    classes = [node.name for path in room.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.ClassDef)]  # fmt: skip
    return {name for name in classes if name.endswith(("Feed", "Delivery")) and name not in ("Feed", "Delivery")}


def asked_kinds(text):
    """Return the names in the second arguments of `isinstance`, and in the classes of `case`s."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call | ast.MatchClass)]
    asked = [
        node.cls if isinstance(node, ast.MatchClass) else node.args[1]
        for node in nodes
        if isinstance(node, ast.MatchClass) or (isinstance(node.func, ast.Name) and node.func.id == "isinstance")
    ]
    return {getattr(part, "attr", getattr(part, "id", None)) for kind in asked for part in ast.walk(kind)}


@pytest.mark.parametrize(
    "text", ["isinstance(x, SimFeed)", "isinstance(x, int | source.SimFeed)", "match x:\n    case SimFeed(): pass"]
)
def test_a_question_for_a_kind_is_seen_however_it_is_asked(text):
    assert "SimFeed" in asked_kinds(text)

"""The house itself: the docstring states the route, and every word of it is a room."""

import ast
from pathlib import Path

import spymaster

PACKAGE = Path(spymaster.__file__).parent


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

"""docs/engines.md shows pictures that are there, are small and were drawn for it, and quotes the profile as it is."""

import re
import tomllib
from pathlib import Path

import pytest

from spymaster.engines import score
from spymaster.engines.barrier import REASONS
from spymaster.engines.holds import STATES
from spymaster.engines.profile import KINDS, profile_named
from spymaster.engines.snap import SIGNALS, Counters

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "engines.md").read_text()
MOST_BYTES = 60_000


def shown(page):
    return re.findall(r"!\[[^\]]+\]\((pictures/[\w.]+)\)", page)


def quoted(page):
    """Return what stands as `table.key` 1.5."""
    return re.findall(r"`(\w+)\.(\w+)` (-?\d+(?:\.\d+)?)", " ".join(page.split()))


def test_each_picture_is_there_and_small_and_none_is_left_over():
    there = {f"pictures/{path.name}": path for path in (DOCS / "pictures").iterdir()}

    assert sorted(shown(PAGE)) == sorted(there)
    for path in there.values():
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        assert path.stat().st_size <= MOST_BYTES, path


def test_each_picture_says_from_what_it_can_be_drawn_again():
    """The market of each is in its caption, but for one that shows what another has shown."""
    captions = [part.split("\n\n")[1] for part in PAGE.split("](pictures/")[1:]]

    assert len(captions) == len(shown(PAGE))
    assert not [one for one in captions if not re.search(r"seed \d+|as the \w+|by hand|the \w+ above", one)]


def test_each_number_of_the_profile_is_what_the_page_says():
    profile = profile_named("ES").model_dump()

    assert len(quoted(PAGE)) > 25
    assert not [one for one in quoted(PAGE) if profile[one[0]][one[1]] != float(one[2])]


@pytest.mark.parametrize("column", ["whole_since_ns", "level_void_reason", "held_state", "depth_rank", "confidence"])
def test_columns_that_the_page_names_come_out(column):
    assert f"`{column}`" in PAGE
    assert column in SIGNALS.names


WORDS = {*KINDS, *STATES, *score.SIGNALS, *REASONS[2:], *Counters._fields}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_each_word_that_comes_out_is_explained(word):
    assert re.search(rf"(?:`|\*\*|### |\| ){re.escape(word)}\b", PAGE)


def test_nothing_that_runs_or_is_tested_needs_what_draws():
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]

    assert any(one.startswith("matplotlib") for one in project["project"]["optional-dependencies"]["plots"])
    assert not [one for one in wanted if one.startswith(("matplotlib", "pillow"))]

"""Text as it may stand in the pages that are made."""

from typing import Final

MADE: Final = "<!-- Made from the code by `make docs`. Mend what it says there. -->"


def one_line(text: str) -> str:
    """Return a text as one line."""
    return " ".join(text.split())


def cell(text: str) -> str:
    """Return a text as it may stand in a table."""
    return one_line(text).replace("|", "\\|")

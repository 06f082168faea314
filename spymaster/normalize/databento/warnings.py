"""What a delivery holds that contradicts what we know of its dataset, or that is left out. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from spymaster.normalize.databento.codes import UnknownCode, unknown_codes
from spymaster.normalize.databento.records import KIND_NAMES, Records

OF_FUTURES: Final = " of futures"  # ends the name of quotes that are counted


class Warnings:
    """What whoever watches a delivery is to be told: each kind of thing in one line, once."""

    def __init__(self, origin: str, source: str | None) -> None:
        """Know of nothing yet.

        Args:
            origin: the delivery as a user would name it.
            source: as rows name it, where it has one publisher; None where it has several.
        """
        self._origin, self._source = origin, source
        self._publishers: set[int] = set()  # where there is to be one
        self._unknown: dict[str, UnknownCode] = {}  # by column
        self._told: set[str] = set()

    def note(self, kind: int, records: Records) -> None:
        """Look through records of one kind, at least one."""
        if self._source and len(self._publishers) < 2:
            publishers = records["publisher_id"]
            self._publishers |= {int(publishers[0])}
            if (publishers != publishers[0]).any():
                self._publishers |= set(np.unique(publishers).tolist())
        for code in unknown_codes(kind, records):
            self._unknown.setdefault(code.column, code)

    def new(self, contradicted: tuple[str, str, int] | None, left_out: Sequence[str]) -> list[str]:
        """Return the lines that were not told yet.

        Args:
            contradicted: two names that one id was given on one day, and the id.
            left_out: the kinds of quotes of futures that were counted so far.
        """
        lines = []
        for about, line in self._lines(contradicted, left_out):
            if about not in self._told:
                self._told.add(about)
                lines.append(line)
        return lines

    def _lines(self, contradicted: tuple[str, str, int] | None, left_out: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each thing that is to be told, and its line."""
        if contradicted:
            first, second, number = contradicted
            yield (
                "id",
                f"{self._origin}: instrument {number} is mapped to {first!r} and to {second!r} for one day. Every row "
                f"is recorded with its instrument_id, and named by the mapping that was said last. Next: compare with "
                f"the definitions of that day",
            )
        if len(self._publishers) > 1:
            found = ", ".join(map(str, sorted(self._publishers)))
            yield (
                "publisher",
                f"{self._origin}: records of the publishers {found} in a delivery of {self._source}, which has "
                f"one. Every row is recorded under that source, with its publisher_id. Next: fetch each dataset into a "
                f"file of its own",
            )
        for column, code in sorted(self._unknown.items()):
            yield (
                f"code {column}",
                f"{self._origin}: {KIND_NAMES[code.kind]} records have the {column} {code.number}, whose name is not "
                f"known. They are recorded whole, by the number, with no name. Next: upgrade spymaster",
            )
        if left_out:
            yield (
                "quotes",
                f"{self._origin}: {', '.join(sorted(left_out))} are not recorded, only counted, as futures.mbp10 has "
                f"the book that they are the top of. What else the delivery holds is recorded. Next: fetch mbp-10 of "
                f"them",
            )

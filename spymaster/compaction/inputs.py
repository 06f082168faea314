"""What a partition's Silver is made of, and whether the file that is there was made of just that."""

from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from spymaster import events
from spymaster.compaction import enrich
from spymaster.errors import LayoutError
from spymaster.lake import layout, silver
from spymaster.lake.bronze import read_footer
from spymaster.lake.layout import Within, in_time
from spymaster.lake.silver import Footer
from spymaster.paths import Partition


class Inputs(NamedTuple):
    """What a partition's Silver is made of.

    Attributes:
        parts: of its Bronze, by name.
        greeks: that its option trades may know; None for other schemas.
        names: digest of the parts' names.
        digest: of all of it.
    """

    parts: list[Path]
    greeks: pa.Table | None
    names: str
    digest: str


def inputs_of(data_root: Path, partition: Partition, tolerance_ns: int) -> Inputs:
    """Return what a partition's Silver is to be made of now.

    Raises:
        LayoutError: an archived part is not there.
    """
    parts = silver.bronze_parts(data_root, partition)
    greeks, more = None, b""
    if partition.schema == events.OPTIONS_TRADES.name:
        greeks, keys = enrich.greeks_for(data_root, partition, tolerance_ns)
        more = keys + str(tolerance_ns).encode()
    schema = events.SCHEMAS[partition.schema]
    return Inputs(parts, greeks, silver.inputs_digest(schema, parts), silver.inputs_digest(schema, parts, more))


class NextPartitions:
    """What comes after partitions in time. Listed once, for one run over many of them."""

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root
        self._partitions: dict[tuple[str, str], list[Partition]] = {}  # by schema and value
        self._captures: dict[Partition, frozenset[int] | None] = {}

    def is_current(self, file: Footer, inputs: Inputs, partition: Partition) -> bool:
        """Whether compacting a partition would make its file as it is."""
        return file.inputs == inputs.digest and self.ended(partition, file.captures) in (None, file.ended)

    def ended(self, partition: Partition, captures: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return those of a partition's captures that do not go on in the next one; None if that cannot be known."""
        later = self._captures_after(partition) if captures else frozenset()
        return None if later is None else tuple(capture_id for capture_id in captures if capture_id not in later)

    def _captures_after(self, partition: Partition) -> frozenset[int] | None:
        """Return the captures of the next partition in time that Bronze or the archive has; None if it is damaged."""
        here = (partition.schema, partition.value)
        if here not in self._partitions:
            schema, within = events.SCHEMAS[partition.schema], Within(partition.value)
            self._partitions[here] = layout.partitions(self._data_root, schema, within)
        of_value = self._partitions[here]
        for later in of_value[bisect_right(of_value, in_time(partition), key=in_time) :]:
            if later not in self._captures:
                self._captures[later] = _captures_of(self._data_root, later)
            if self._captures[later] != frozenset():
                return self._captures[later]
        return frozenset()


def _captures_of(data_root: Path, partition: Partition) -> frozenset[int] | None:
    try:
        parts = silver.bronze_parts(data_root, partition)
        return frozenset(span.capture_id for path in parts for span in read_footer(path).captures)
    except LayoutError:
        return None

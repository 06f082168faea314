"""Where the deliveries of a partition are cut, and which of its files was captured later."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from spymaster.events.exactly_once import Edges
from spymaster.events.identity import identity_time_ns
from spymaster.lake.bronze import read_footer


class Deliveries(NamedTuple):
    """What is known of the captures of a partition. With one capture alone nothing depends on it.

    Attributes:
        edges: where captures begin and end.
        begins: when the captures of files began, UTC nanoseconds; None where Bronze does not say.
    """

    edges: Mapping[int, Edges]
    begins: Mapping[int, int | None]

    @property
    def began(self) -> dict[int, int]:
        """When captures began of which Bronze says so."""
        return {capture_id: stamp for capture_id, stamp in self.begins.items() if stamp is not None}

    @property
    def unordered(self) -> int:
        """How many files nothing says of when they were captured."""
        return len(self.begins) - len(self.began)


def several_captures(parts: Sequence[Path]) -> tuple[int, ...]:
    """Return the captures whose rows parts have, in order; none where it is one alone, as then no event came twice."""
    found = sorted({span.capture_id for path in parts for span in read_footer(path).captures})
    return tuple(found) if len(found) > 1 else ()


def deliveries_of(
    source: ds.Dataset, captures: tuple[int, ...], ended: tuple[int, ...], begins: Mapping[int, int]
) -> Deliveries:
    """Read where captures are cut.

    Args:
        source: all parts of a partition.
        captures: whose rows they are; none where it is one alone.
        ended: those of `captures` that do not go on in the next partition.
        begins: when captures began.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    files: set[int] = set()
    names = ["ts_event_ns", "ts_local_ns", "source", "capture_id", "capture_seq"]
    for batch in source.to_batches(columns=names) if captures else ():
        keys = pa.Table.from_batches([batch])
        times, by_row, numbers = identity_time_ns(keys), keys["capture_id"].to_numpy(), keys["capture_seq"].to_numpy()
        from_file = keys["ts_local_ns"].is_null().to_numpy()
        for capture_id in np.unique(by_row).tolist():
            own = by_row == capture_id
            for begin in times[own & (numbers == 0)].tolist():
                first[capture_id] = begin
            if capture_id in ended:
                last[capture_id] = max(last.get(capture_id, -(2**63)), int(times[own].max()))
            if from_file[own].any():
                files.add(capture_id)
    edges = {capture_id: Edges(first.get(capture_id), last.get(capture_id)) for capture_id in captures}
    return Deliveries(edges, {capture_id: begins.get(capture_id) for capture_id in sorted(files)})

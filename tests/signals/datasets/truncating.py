"""Builds of data up to a time, and what they say of touches beside a build of all of it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster.engines.profile import profile_named
from spymaster.lake.datasets import CONTROLS, LEVELS, OUTCOMES, TOUCHES
from spymaster.signals.datasets import build
from spymaster.signals.feed import Roots
from tests.signals.recordings import BEGIN_NS, BOOKS, SECOND, SESSION, Recording, market

SECONDS = 38  # of the session; in the first twelve no level is touched
EVERY, LATE_NS = 25, 800_000_000
_SIM = profile_named("SIM")
# Levels so near to one another that seconds have many touches, and an outcome soon after each.
LIVELY = _SIM.model_copy(
    update={
        "levels": _SIM.levels.model_copy(
            update={"round_spacing_ticks": 2, "round_range_ticks": 20, "touch_band_ticks": 1, "rearm_ticks": 2}
        ),
        "passage": _SIM.passage.model_copy(update={"horizon_s": 5, "distance_ticks": 3}),
    }
)


@cache
def lively_market():
    """Return (stream, batch) of five seconds of a session and of the next one's begin; some books come late."""
    found = market(SECONDS + 5, rate=80, plant=("contests",), seed=5)
    books = [at for at, (stream, _) in enumerate(found) if stream == BOOKS]
    late = {*books[EVERY::EVERY]}
    return tuple((stream, _late(rows) if at in late else rows) for at, (stream, rows) in enumerate(found))


def _late(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows as though they had come 0.8 s after their time, when its snap was over."""
    at = rows.schema.get_field_index("ts_event_ns")
    return rows.set_column(at, rows.schema.field(at), pc.subtract(rows.column(at), pa.scalar(LATE_NS)))


def truncated(folder: Path, count: int, seed: int) -> Iterator[tuple[int, Roots]]:
    """Yield random times, each with log and lake of the rows that had left by then, and the data sets of these."""
    random = np.random.default_rng(seed)
    for number, until_ns in enumerate((BEGIN_NS + random.integers(12 * SECOND, SECONDS * SECOND, count)).tolist()):
        recording = Recording(folder / str(number))
        left = [
            (stream, rows.filter(pc.less_equal(rows.column("ts_recv_ns"), pa.scalar(until_ns))))
            for stream, rows in lively_market()
        ]
        recording.record([(stream, rows) for stream, rows in left if rows.num_rows], pieces=1)
        build.make(recording.data, recording.wal, LIVELY, date=SESSION.date, only="touches")
        yield until_ns, Roots(recording.data, recording.wal)


def differing(whole: tuple[Path, Path], until: tuple[Path, Path]) -> list[str]:
    """Return the data sets whose rows as they stood at the end of a truncated build are not those that it has."""
    (levels, touches, controls, outcomes), found = _tables(whole[0]), _tables(until[0])
    end_ns = pc.max(found[0]["to_ns"]).as_py()  # its newest snap
    standing = levels.filter(pc.less_equal(levels["from_ns"], end_ns))
    at = standing.column_names.index("to_ns")
    standing = standing.set_column(at, standing.schema.field(at), pc.min_element_wise(standing["to_ns"], end_ns))
    expected = (
        standing,
        *(table.filter(pc.less_equal(table["snap_ns"], end_ns)) for table in (touches, controls)),
        outcomes.filter(pc.less_equal(outcomes["outcome_known_ns"], end_ns)),
    )
    return [
        dataset.name
        for dataset, one, other in zip((LEVELS, TOUCHES, CONTROLS, OUTCOMES), expected, found, strict=True)
        if not one.equals(other)
    ]


def _tables(data_root: Path) -> tuple[pa.Table, ...]:
    files = [each.file(data_root, ("ES", "SIM", SESSION.date)) for each in (LEVELS, TOUCHES, CONTROLS, OUTCOMES)]
    return tuple(pq.read_table(file, partitioning=None) for file in files)

"""Compares Bronze with what children reported before they died. It reads the files without our code, and asks
the simulated market alone what it gave."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spymaster.proof.kill_ledger import differing, market_rows
from spymaster.simulation.source import SimFeed

Key = tuple[str, int]  # a schema and a capture


@dataclass
class Journal:
    """What children reported: which rows they were about to append, and which were acknowledged.

    Attributes:
        market: the simulated market that the child records which is heard now, as `SimFeed.parse` takes it.
        markets: that of each capture.
        left: sealed segments that the start of the child which is heard now has found.
    """

    appending: dict[Key, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: dict[Key, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    acknowledged_rows: int = 0  # of market data
    market: str | None = None
    markets: dict[int, str] = field(default_factory=dict)
    stage: str = ""
    left: set[str] = field(default_factory=set)
    other: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        word, *rest = line.split()
        if word == "stage":
            self.stage = rest[0]
        elif word == "left":
            self.left.add(rest[0])
        elif word in ("appending", "acknowledged"):
            stream, capture, first, last = rest
            schema = stream.partition("/")[0]
            span = int(first), int(last)
            ranges = self.appending if word == "appending" else self.acknowledged
            ranges[schema, int(capture)].append(span)
            if word == "acknowledged" and not schema.startswith("system."):
                self.acknowledged_rows += span[1] - span[0] + 1
                if self.market is not None:
                    self.markets[int(capture)] = self.market
        else:
            self.other.append(line)

    @property
    def captures(self) -> set[int]:
        """Every capture that a child spoke of."""
        return {capture for ranges in (self.appending, self.acknowledged) for _, capture in ranges}


@dataclass
class Tally:
    """What Bronze holds beside what it should. All of these are to be 0.

    Attributes:
        lost: rows acknowledged and not in Bronze.
        doubled: rows that stand there more than once, each time after the first.
        invented: rows that nobody appended, or with other values.
        torn: visible files that do not read.
    """

    lost: int = 0
    doubled: int = 0
    invented: int = 0
    torn: int = 0

    def add(self, other: "Tally") -> None:
        self.lost += other.lost
        self.doubled += other.doubled
        self.invented += other.invented
        self.torn += other.torn

    @property
    def clean(self) -> bool:
        return self == Tally()


def numbers_in(ranges: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *[np.arange(first, last + 1) for first, last in ranges]])


def visible_files(lake: Path) -> list[Path]:
    """Return every file of Bronze that a reader would open: whose name, and folders' names, begin with no dot."""
    files = (path for path in (lake / "bronze").rglob("*") if path.is_file())
    return [path for path in files if not any(piece.startswith(".") for piece in path.relative_to(lake).parts)]


def read_bronze(lake: Path, tally: Tally) -> dict[Key, pa.Table]:
    """Return all rows of each schema and capture; count the files that do not read."""
    tables: dict[str, list[pa.Table]] = defaultdict(list)
    for path in visible_files(lake):
        try:
            rows = pq.ParquetFile(path, page_checksum_verification=True).read()
        except (pa.ArrowException, OSError):
            tally.torn += 1
            continue
        asset, kind, *_ = path.relative_to(lake / "bronze").parts
        tables[f"{asset}.{kind}"].append(rows)
    stored = {}
    for schema, pieces in tables.items():
        whole = pa.concat_tables(pieces)
        captures = whole["capture_id"].to_numpy()
        for capture in np.unique(captures).tolist():
            stored[schema, capture] = whole.filter(pa.array(captures == capture)).sort_by("capture_seq")
    return stored


def check(lake: Path, journal: Journal) -> Tally:
    """Count what is wrong with Bronze.

    Values are compared for the rows that children were heard to append, and for those of simulated markets.
    """
    from tests.faults.workload import STREAMS, batch

    tally = Tally()
    stored = read_bronze(lake, tally)
    for key, ranges in journal.acknowledged.items():
        held = stored[key]["capture_seq"].to_numpy() if key in stored else np.empty(0, np.int64)
        tally.lost += len(np.setdiff1d(numbers_in(ranges), held))
    for (schema, capture), rows in stored.items():
        numbers = rows["capture_seq"].to_numpy()
        tally.doubled += len(numbers) - len(np.unique(numbers))
        ranges = journal.appending.get((schema, capture))
        if ranges is None:
            if not schema.startswith("system."):
                tally.invented += _invented(schema, capture, rows, journal)
            continue
        stream = next(stream for stream in STREAMS if stream.schema == schema)
        given = pa.Table.from_batches([batch(stream, first, last - first + 1) for first, last in ranges])
        given = given.append_column("capture_seq", pa.array(numbers_in(ranges)))
        unknown = ~np.isin(numbers, given["capture_seq"].to_numpy())
        tally.invented += int(unknown.sum())
        known = given.filter(pa.array(np.isin(given["capture_seq"].to_numpy(), numbers)))
        kept = rows.filter(pa.array(~unknown)).select(given.column_names)
        first_of_each = np.unique(kept["capture_seq"].to_numpy(), return_index=True)[1]
        kept = kept.take(pa.array(first_of_each)).cast(given.schema)
        if not kept.equals(known):
            columns = zip(kept.columns, known.columns, strict=True)
            tally.invented += sum(1 for one, other in columns if not one.equals(other))
    return tally


def _invented(schema: str, capture: int, rows: pa.Table, journal: Journal) -> int:
    """Return how many rows no market gave: of a capture that nobody announced, or with other values."""
    if capture not in journal.captures:
        return rows.num_rows
    if capture not in journal.markets:
        return 0
    wanted = int(rows["capture_seq"].to_numpy().max()) + 1
    given = market_rows(SimFeed.parse(journal.markets[capture]), {schema: wanted}).get(schema)
    return rows.num_rows if given is None else differing(rows, given)

"""What a killed daemon had acknowledged, against what stands in Bronze and what the market gave."""

from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spymaster import durable
from spymaster.lake.layout import escape_glob
from spymaster.normalize.open import normalizer_of
from spymaster.proof.killed_daemon import Line
from spymaster.simulation.source import SimFeed, dbn_info

_OURS: Final = "system"
_NO_CLOCK_NS: Final = 0  # stands for our clock on arrival where the market is given again

Key = tuple[str, int]  # a schema and a capture


class Ledger:
    """What was acknowledged, and how often each row stands in Bronze. Reads Parquet files and nothing else of ours.

    Attributes:
        unreadable: a line for each part that does not read.
    """

    def __init__(self, bronze: Path) -> None:
        self.unreadable: list[str] = []
        self._bronze = bronze
        self._acknowledged: dict[Key, list[tuple[int, int]]] = {}
        self._times: dict[Key, NDArray[np.int64]] = {}  # by `capture_seq`
        self._announced: set[int] = set()
        self._read: set[Path] = set()
        self._doubled = 0

    def announce(self, capture_id: int) -> None:
        """Expect rows of our own of this process run."""
        self._announced.add(capture_id)

    def acknowledge(self, lines: list[Line]) -> None:
        for schema, capture_id, first, last in lines:
            self._announced.add(capture_id)
            self._acknowledged.setdefault((schema, capture_id), []).append((first, last))

    def is_acknowledged(self, key: Key, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of a capture's rows were acknowledged."""
        known = np.zeros(len(numbers), dtype=bool)
        for first, last in self._acknowledged.get(key, []):
            known |= (numbers >= first) & (numbers <= last)
        return known

    def count(self, market: SimFeed, acknowledged: list[Line]) -> tuple[int, int, int]:
        """Read the parts that are new, and return the rows lost, doubled and invented since the last call."""
        fresh: dict[Key, list[pa.Table]] = {}
        for path in durable.files_below(self._bronze):
            if path in self._read or not path.match("part-*.parquet"):
                continue
            self._read.add(path)
            schema = ".".join(path.relative_to(self._bronze).parts[:2])
            try:
                rows = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                self.unreadable.append(f"{path} does not read: {error}")
                continue
            captures = rows["capture_id"].to_numpy()
            for capture_id in np.unique(captures).tolist():
                key = (schema, capture_id)
                own = rows.filter(pa.array(captures == capture_id))
                fresh.setdefault(key, []).append(own)
                self._add(key, own["capture_seq"].to_numpy())
        lost = sum(self._lost(key) for key in {(schema, capture) for schema, capture, *_ in acknowledged})
        doubled = sum(int((times > 1).sum()) for times in self._times.values())
        doubled, self._doubled = doubled - self._doubled, doubled
        return lost, doubled, self._invented(fresh, market, acknowledged)

    def _add(self, key: Key, numbers: NDArray[np.int64]) -> None:
        times = np.bincount(numbers)
        known = self._times.get(key, times[:0])
        longer, shorter = (times, known) if len(times) > len(known) else (known, times)
        self._times[key] = longer.copy()
        self._times[key][: len(shorter)] += shorter

    def _lost(self, key: Key) -> int:
        times = self._times.get(key, np.zeros(0, dtype=np.int64))
        return sum(
            last - first + 1 - int((times[first : last + 1] > 0).sum()) for first, last in self._acknowledged[key]
        )

    def _invented(self, fresh: dict[Key, list[pa.Table]], market: SimFeed, acknowledged: list[Line]) -> int:
        """Return how many new rows no delivery gave: of captures that nobody announced, or with other values."""
        invented = sum(t.num_rows for (_, capture), ts in fresh.items() if capture not in self._announced for t in ts)
        ours = {capture for schema, capture, *_ in acknowledged if not schema.startswith(_OURS)}
        recorded = {schema: pa.concat_tables(ts) for (schema, capture), ts in fresh.items() if capture in ours}
        wanted = {schema: int(rows["capture_seq"].to_numpy().max()) + 1 for schema, rows in recorded.items()}
        given = market_rows(market, wanted)
        return invented + sum(differing(rows, given[schema]) for schema, rows in recorded.items())

    def count_again(self) -> tuple[int, list[str]]:
        """Count from the files alone, with DuckDB, and return the rows in Bronze and what is not as it should be."""
        rows, findings = 0, []
        held: dict[Key, NDArray[np.int64]] = {}
        with duckdb.connect() as connection:
            parts = [path for path in durable.files_below(self._bronze) if path.match("part-*.parquet")]
            for asset, kind in sorted({path.relative_to(self._bronze).parts[:2] for path in parts}):
                pattern = f"{escape_glob(self._bronze / asset / kind)}/**/part-*.parquet"
                keys = connection.execute(
                    "select capture_id, capture_seq, count(*) as times from read_parquet(?, hive_partitioning = false) "
                    "group by all order by all",
                    [pattern],
                ).fetchnumpy()
                schema = f"{asset}.{kind}"
                rows += int(keys["times"].sum())
                for capture_id in np.unique(keys["capture_id"]).tolist():
                    held[schema, capture_id] = keys["capture_seq"][keys["capture_id"] == capture_id]
                if doubled := int((keys["times"] > 1).sum()):
                    findings.append(f"counted again: {doubled} rows of {schema} stand twice in Bronze")
        for key, ranges in self._acknowledged.items():
            numbers = held.get(key, np.zeros(0, dtype=np.int64))
            there = int(self.is_acknowledged(key, numbers).sum())
            if lost := sum(last - first + 1 for first, last in ranges) - there:
                findings.append(f"counted again: {lost} acknowledged rows of {key[0]}, capture {key[1]}, are lost")
        return rows, findings


def market_rows(market: SimFeed, wanted: dict[str, int]) -> dict[str, pa.Table]:
    """Return the first rows that a simulated market gives, per schema at least as many as wanted; row k is number k."""
    info = dbn_info(market.market)
    normalizer = normalizer_of(info.encoding, origin=info.origin, simulated=info.simulated)
    given: dict[str, list[pa.RecordBatch]] = {schema: [] for schema in wanted}
    missing = dict(wanted)
    for data in market.market.blocks():
        if all(count <= 0 for count in missing.values()):
            break
        for schema, batch in normalizer.normalize([(data, _NO_CLOCK_NS)]).batches:
            if schema.name in given:
                given[schema.name].append(batch)
                missing[schema.name] -= batch.num_rows
    return {schema: pa.Table.from_batches(batches) for schema, batches in given.items() if batches}


def differing(stored: pa.Table, given: pa.Table) -> int:
    """Return how many stored rows are not the given ones of their number, whatever our clock said on arrival."""
    given = _without_our_clock(given.take(stored["capture_seq"].combine_chunks()))
    stored = _without_our_clock(stored).select(given.column_names)
    if stored.equals(given.cast(stored.schema)):
        return 0
    return sum(a != b for a, b in zip(stored.to_pylist(), given.to_pylist(), strict=True))


def _without_our_clock(rows: pa.Table) -> pa.Table:
    """Leave out when a row arrived here, which also stands for the vendor's capture time where it sends none."""
    received = pc.if_else(pc.equal(rows["ts_recv_ns"], rows["ts_local_ns"]), None, rows["ts_recv_ns"])
    others = [name for name in rows.column_names if name not in ("ts_recv_ns", "ts_local_ns")]
    return rows.select(others).append_column("ts_recv_ns", received)

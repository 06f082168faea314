"""Option trades with the greeks that were known when they happened.

For each trade the latest snapshot of its option whose *receipt* (`ts_recv_ns`) is at or before the *trade's event time*
(`ts_event_ns`): what was known when the trade happened, and nothing that came later. Joining by the snapshot's own time
would look ahead, as it says when the vendor updated it and not when we had it; by the trade's receipt too, as that
comes after the trade. Snapshots that were read from files have no receipt of their own: theirs is their event time.

The latest is the last by (`ts_recv_ns`, `ts_event_ns`, `capture_id`, `capture_seq`). If it is older than the tolerance,
the trade has none. Why numpy, and not the ASOF JOIN of DuckDB: bench/enrich.py; the SQL is the oracle in the tests.
"""

import hashlib
from datetime import date as calendar_date
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spymaster import clock, events
from spymaster.clock import NS_PER_DAY
from spymaster.lake import silver
from spymaster.paths import Partition

_COLUMNS: Final = (
    "ts_event_ns", "ts_recv_ns", "option_symbol", "delta", "gamma", "snapshot_id", "shares_per_contract",
    "capture_id", "capture_seq",
)  # fmt: skip
_EPOCH: Final = calendar_date(1970, 1, 1)
NONE: Final = pa.schema([events.OPTIONS_GREEKS_SNAPSHOTS.bronze.field(name) for name in _COLUMNS]).empty_table()

Numbers = NDArray[np.int64]


class Greeks(NamedTuple):
    """The snapshots that trades of one partition may need, and a digest that tells them from any others."""

    rows: pa.Table
    digest: bytes


def greeks_for(data_root: Path, partition: Partition, tolerance_ns: int) -> Greeks:
    """Return the snapshots received from `tolerance_ns` before a partition of option trades until its end.

    They are read from Silver, whose partitions go by the vendor's time of update: of the partition's date and of
    `silver.DAYS_BEFORE` dates before it. A snapshot that had not been updated for longer counts as unknown.
    """
    schema = events.OPTIONS_GREEKS_SNAPSHOTS
    day = calendar_date.fromisoformat(partition.date)
    dates = [(day - timedelta(days=back)).isoformat() for back in reversed(range(silver.DAYS_BEFORE + 1))]
    files = [silver.file_of(data_root, Partition(schema.name, partition.key, partition.value, d, None)) for d in dates]
    begin_ns = (day - _EPOCH).days * NS_PER_DAY + (partition.hour or 0) * clock.NS_PER_HOUR
    end_ns = begin_ns + (NS_PER_DAY if partition.hour is None else clock.NS_PER_HOUR)
    received, last_ns = pc.field("ts_recv_ns"), min(end_ns - 1, 2**63 - 1)  # 64 bits end within an hour
    known = (received >= begin_ns - tolerance_ns) & (received <= last_ns)
    found = [
        pq.read_table(
            file, columns=list(_COLUMNS), filters=known, partitioning=None, page_checksum_verification=True
        ).cast(NONE.schema)
        for file in files
        if file.exists()
    ]
    rows = pa.concat_tables([NONE, *found]).combine_chunks()
    captures, numbers = (rows[name].to_numpy() for name in ("capture_id", "capture_seq"))
    order = np.lexsort((numbers, captures))
    keys = np.stack([captures[order], numbers[order]])
    return Greeks(rows, hashlib.sha256(keys.astype("<i8").tobytes()).digest())


def enrich(trades: pa.Table, greeks: pa.Table, tolerance_ns: int) -> pa.Table:
    """Return trades, in their order, with the columns of `silver.ENRICHMENT`; null where no snapshot was known.

    A notional is delta or gamma times size times multiplier: the snapshot's `shares_per_contract`, or else that of
    `silver.MULTIPLIERS`; null where one of these is. How many were enriched: rows less nulls of `greeks_snapshot_id`.

    Args:
        trades: with `ts_event_ns`, `underlying`, `option_symbol` and `size`.
        greeks: as `greeks_for` returns them, in any order.
        tolerance_ns: the greatest age of a snapshot, inclusive.
    """
    stamps = trades["ts_event_ns"].to_numpy()
    latest = _latest(trades, greeks)
    age = np.where(latest < 0, 0, stamps - _at(greeks["ts_recv_ns"].to_numpy(), latest))
    none = (latest < 0) | (age > tolerance_ns)
    found = pa.array(latest, pa.int64(), mask=none)
    known = {name: greeks[name].take(found) for name in ("snapshot_id", "delta", "gamma", "shares_per_contract")}
    multiplier = pc.coalesce(known["shares_per_contract"], _multipliers(trades["underlying"]))
    units = pc.multiply(trades["size"].cast(pa.float64()), multiplier.cast(pa.float64()))
    columns: list[pa.ChunkedArray | pa.Array] = [
        known["snapshot_id"], pa.array(age, pa.int64(), mask=none), known["delta"], known["gamma"],
        pc.multiply(known["delta"], units), pc.multiply(known["gamma"], units),
    ]  # fmt: skip
    kinds: tuple[pa.Field, ...] = silver.ENRICHMENT
    for kind, column in zip(kinds, columns, strict=True):
        trades = trades.append_column(kind, column)
    return trades


def _latest(trades: pa.Table, greeks: pa.Table) -> Numbers:
    """Return for each trade the row of the latest snapshot that was received by its event time; -1 for none."""
    options, snapped = _codes(trades["option_symbol"], greeks["option_symbol"])
    if not len(snapped):
        return np.full(len(options), -1)
    received, updated, captures, numbers = (
        greeks[name].to_numpy() for name in ("ts_recv_ns", "ts_event_ns", "capture_id", "capture_seq")
    )
    order = np.lexsort((numbers, captures, updated, received))
    # Numbered in order of receipt, a snapshot is one integer: its option, then its number. No sum overflows.
    many = len(order) + 1
    keys = snapped[order] * many + np.arange(1, many)
    by_option = np.argsort(keys, kind="stable")
    received_by = np.searchsorted(received[order], trades["ts_event_ns"].to_numpy(), side="right")
    place = np.searchsorted(keys[by_option], options * many + received_by, side="right") - 1
    found = order[by_option][np.maximum(place, 0)]
    return np.where((place >= 0) & (options >= 0) & (snapped[found] == options), found, -1)


def _codes(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[Numbers, Numbers]:
    """Return two columns of texts as numbers that are equal where the texts are; -1 for null."""
    both = pa.concat_arrays([left.combine_chunks(), right.combine_chunks()]).dictionary_encode()
    codes = both.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes[: len(left)], codes[len(left) :]


def _at(values: Numbers, rows: Numbers) -> Numbers:
    """Return the values of some rows; anything for a negative one."""
    return values[rows] if len(values) else np.zeros(len(rows), np.int64)


def _multipliers(underlying: pa.ChunkedArray) -> pa.Array:
    known = pa.array(list(silver.MULTIPLIERS.values()), pa.int32())
    return known.take(pc.index_in(underlying, pa.array(list(silver.MULTIPLIERS))))

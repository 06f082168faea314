"""Record batches of options to columns: prints, quotes, greeks, definitions, statistics; and of which contract.

A contract is named as its vendor does, `option_symbol` or the venue's raw symbol, and its name is read once for each
snap in which it comes, not once for each row. Spreads, and what nothing names, are left out.
"""

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.engines.ledger import Longs
from spymaster.engines.rows import in_order, joined
from spymaster.events import (
    OPTIONS_GREEKS_SNAPSHOTS,
    OPTIONS_QUOTES,
    OPTIONS_TRADES,
    REFERENCE_INSTRUMENTS,
    REFERENCE_STATISTICS,
)
from spymaster.events.schema import EventSchema, no_rows

SCHEMAS: Final = (
    OPTIONS_GREEKS_SNAPSHOTS, OPTIONS_QUOTES, OPTIONS_TRADES, REFERENCE_INSTRUMENTS, REFERENCE_STATISTICS,
)  # fmt: skip
OPEN_INTEREST, SETTLEMENT, VOLATILITY, DELTA = KINDS = (
    "open_interest", "settlement_price", "volatility", "delta",
)  # fmt: skip
NO_DAY: Final = -(2**31)
_KEY: Final = ("ts_event_ns", "capture_id", "capture_seq")
_DELETED: Final = 2  # an update code of a statistic
_OPTION: Final = ("option_symbol", "strike", "right", "exp_date")
_PRINTED: Final = ("price", "size", "opt_bid", "opt_ask", "aggressor")
_QUOTED: Final = ("bid_px", "ask_px")
_GREEK: Final = ("implied_volatility", "open_interest", "shares_per_contract")
_DEFINED: Final = ("expiration_ns", "unit_of_measure_qty", "underlying")
_COUNTED: Final = ("kind", "price", "quantity")
COLUMNS: Final = {  # that are of use here, by schema; the others need not be handed over
    OPTIONS_TRADES.name: (*_KEY, *_OPTION, *_PRINTED),
    OPTIONS_QUOTES.name: (*_KEY, *_OPTION, *_QUOTED),
    OPTIONS_GREEKS_SNAPSHOTS.name: (*_KEY, *_OPTION, *_GREEK),
    REFERENCE_INSTRUMENTS.name: (*_KEY, "contract", "strike", "instrument_class", *_DEFINED),
    REFERENCE_STATISTICS.name: (*_KEY, "contract", "strike", "right", "exp_date", "update_code", *_COUNTED),
}

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


class Contracts:
    """The contracts that rows are of, each once. Their terms are read when asked for, as of one that is known none is.

    Attributes:
        names: as the vendor writes them.
    """

    def __init__(self, names: tuple[str, ...], rows: pa.RecordBatch, index: Codes) -> None:
        """Know the contracts.

        Args:
            names: of them, in the order in which they first come.
            rows: that say their terms; the first one of each speaks for it.
            index: of each row's contract.
        """
        self.names = names
        self._rows, self._index = rows, index

    @cached_property
    def strike(self) -> Floats:
        """NaN where the rows do not say."""
        strike: Floats = self._said("strike").to_numpy(zero_copy_only=False)
        return strike

    @cached_property
    def right(self) -> NDArray[np.int8]:
        """+1 a call, -1 a put, 0 where the rows do not say."""
        return np.array([{"C": 1, "P": -1}.get(right, 0) for right in self._said("right").to_pylist()], np.int8)

    @cached_property
    def exp_day(self) -> Codes:
        """Days since 1970, NO_DAY where the rows do not say."""
        if "exp_date" not in self._rows.schema.names:
            return np.full(len(self.names), NO_DAY, np.int32)
        days: Any = self._said("exp_date").cast(pa.int32()).fill_null(NO_DAY)
        return days.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    @cached_property
    def _first(self) -> pa.Array:
        return pa.array(np.searchsorted(np.maximum.accumulate(self._index), np.arange(len(self.names))))

    def _said(self, column: str) -> Any:
        return self._rows.column(column).take(self._first)


class Rows(NamedTuple):
    """Rows of one schema, n of them, in order of (`ts_event_ns`, `capture_id`, `capture_seq`).

    Attributes:
        contracts: whose rows they are.
        contract: index of each row's contract, int32.
        ts_ns: event times, UTC nanoseconds.
        values: further columns by the name they have in the schema; NaN, -1 (of 64 bits) or 0 where null.
    """

    contracts: Contracts
    contract: Codes
    ts_ns: Longs
    values: Mapping[str, NDArray[Any]]


class OptionRows(NamedTuple):
    """All that a snap has of options.

    Attributes:
        prints: `price`, `size`, `opt_bid`, `opt_ask`, `aggressor`.
        quotes: `bid_px`, `ask_px`.
        greeks: `implied_volatility`, `open_interest`, `shares_per_contract`.
        definitions: `expiration_ns`, `unit_of_measure_qty`; `underlying` as text.
        statistics: `kind` as text, `price`, `quantity`; of kinds KINDS alone, without those that were taken back.
    """

    prints: Rows
    quotes: Rows
    greeks: Rows
    definitions: Rows
    statistics: Rows


def option_rows(batches: Mapping[str, Sequence[pa.RecordBatch]], begin_ns: int = 0) -> OptionRows:
    """Return what a snap has of options, by schema; batches of other schemas are left alone.

    Args:
        batches: by schema, those of one with the same columns, in any order; of one underlying.
        begin_ns: rows of earlier times are left out.
    """

    def of(schema: EventSchema) -> pa.RecordBatch | None:
        found = batches.get(schema.name)
        return joined(found) if found else None

    def rows(batch: pa.RecordBatch | None, name: str, columns: tuple[str, ...]) -> Rows:
        return _no_rows(columns) if batch is None else _rows(batch, name, columns, begin_ns)

    return OptionRows(
        prints=rows(of(OPTIONS_TRADES), "option_symbol", _PRINTED),
        quotes=rows(of(OPTIONS_QUOTES), "option_symbol", _QUOTED),
        greeks=rows(of(OPTIONS_GREEKS_SNAPSHOTS), "option_symbol", _GREEK),
        definitions=rows(_plain_options(of(REFERENCE_INSTRUMENTS)), "contract", _DEFINED),
        statistics=rows(_standing(of(REFERENCE_STATISTICS)), "contract", _COUNTED),
    )


def _plain_options(batch: pa.RecordBatch | None) -> pa.RecordBatch | None:
    """Return the definitions of calls and puts; with `right`, as other schemas have it."""
    if batch is None:
        return None
    batch = batch.filter(pc.is_in(batch.column("instrument_class"), pa.array(["C", "P"])))
    return batch.append_column("right", batch.column("instrument_class"))


def _standing(batch: pa.RecordBatch | None) -> pa.RecordBatch | None:
    """Return the statistics of options that are of use here and were not taken back."""
    if batch is None:
        return None
    useful: Any = pc.and_(
        pc.is_in(batch.column("kind"), pa.array(KINDS)), pc.not_equal(batch.column("update_code"), pa.scalar(_DELETED))
    )
    return batch.filter(pc.and_(useful, pc.is_valid(batch.column("right"))))


def _rows(batch: pa.RecordBatch, name: str, columns: tuple[str, ...], begin_ns: int) -> Rows:
    if batch.column(name).null_count:
        batch = batch.filter(pc.is_valid(batch.column(name)))
    order = in_order(*(batch.column(key).to_numpy() for key in _KEY))
    if order is not None:
        batch = batch.take(order)
    ts_ns = batch.column("ts_event_ns").to_numpy()
    if len(ts_ns) and ts_ns[0] < begin_ns:
        first = int(np.searchsorted(ts_ns, begin_ns))
        batch, ts_ns = batch.slice(first), ts_ns[first:]
    # Numbered as they come in order, so that a contract's index does not depend on how rows arrived.
    coded: Any = batch.column(name).dictionary_encode()
    index: Codes = coded.indices.to_numpy()
    contracts = Contracts(tuple(coded.dictionary.to_pylist()), batch, index)
    values = {column: _values(batch.column(column)) for column in columns}
    return Rows(contracts, index, ts_ns, values)


def _values(column: pa.Array) -> NDArray[Any]:
    """Return a column; where it is null a price is NaN, a number of 64 bits -1, any other number 0."""
    if column.null_count and pa.types.is_integer(column.type):
        column = column.fill_null(-1 if column.type == pa.int64() else 0)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


@cache
def _no_rows(columns: tuple[str, ...]) -> Rows:
    nothing = no_rows(pa.schema([OPTIONS_TRADES.log.field(name) for name in _OPTION]))
    nobody = Contracts((), nothing, np.empty(0, np.int32))
    return Rows(nobody, np.empty(0, np.int32), np.empty(0, np.int64), {name: np.empty(0) for name in columns})

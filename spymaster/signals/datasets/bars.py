"""Bars of a session's trades, of equal time, volume, trades or dollars: a function of Silver's rows in their order.

A trade is never split: it belongs to the bar in which it begins. A bar of volume ends with the trade that brings the
session's volume to a multiple of the threshold or beyond; what is beyond counts for the next one. So the bar of a trade
is (what came before it) // threshold, which SQL says in one window, and a trade larger than a bar is one of its own.

Time has its own grid, whole multiples of a bar since the epoch, which every session begins on. A bar without a trade is
no row.

`engines/bars.py` makes other bars: a late print is in the snap that has it, as nothing later may change what was known.
These are by event time, and what came late is where it belongs.
"""

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.lake.datasets import OHLCV

PRICE_UNITS: Final = 10_000  # to a point: prices are summed as whole numbers, whose sum has no order
_TIMES: Final = {"1s": NS_PER_SECOND, "1m": 60 * NS_PER_SECOND, "2m": 120 * NS_PER_SECOND}

Longs = NDArray[np.int64]


class Thresholds(NamedTuple):
    """What ends a bar that is not of time, and what a point is worth.

    Attributes:
        volume: contracts.
        ticks: trades.
        dollars: price x `point_dollars` x contracts.
        point_dollars: of one contract.
    """

    volume: int
    ticks: int
    dollars: int
    point_dollars: int


# Of each underlying that has a profile. ES trades some 1.3 M contracts in 600,000 trades on an ordinary day, worth 450
# billion dollars: each makes some 600 bars, one and a half a minute in the regular hours.
THRESHOLDS: Final = {"ES": Thresholds(volume=2_000, ticks=1_000, dollars=750_000_000, point_dollars=50)}


class Trades(NamedTuple):
    """A session's trades of one contract, in Silver's order.

    Attributes:
        ts_ns: event times, ascending.
        price: whole `PRICE_UNITS`.
        size: contracts.
        side: +1 the aggressor bought, -1 sold, 0 not known.
    """

    ts_ns: Longs
    price: Longs
    size: Longs
    side: Longs


def bars_of(trades: Trades, contract: str, rules: Thresholds) -> pa.Table:
    """Return a session's bars of every kind: the columns of `OHLCV` but its keys, by `bar` and `begin_ns`."""
    worth = trades.price * trades.size * rules.point_dollars
    sums = {
        "volume": (trades.size, rules.volume),
        "ticks": (np.ones_like(trades.size), rules.ticks),
        "dollars": (worth, rules.dollars * PRICE_UNITS),
    }
    kinds = {}
    for name, span_ns in _TIMES.items():
        numbers = trades.ts_ns // span_ns
        begin = (numbers * span_ns)[_firsts(numbers)]
        over = begin + span_ns <= (trades.ts_ns[-1] if len(numbers) else 0)
        kinds[name] = _bars(trades, numbers)._replace(begin_ns=begin, end_ns=begin + span_ns, closed=over)
    for name, (amounts, threshold) in sums.items():
        until = np.cumsum(amounts)
        found = _bars(trades, (until - amounts) // threshold)
        over = np.ones(len(found.open), np.bool_)
        over[-1:] = until[-1:] // threshold > (until - amounts)[-1:] // threshold
        kinds[name] = found._replace(closed=over)
    tables = [_table(kinds[name], name, contract) for name in sorted(kinds)]
    return pa.concat_tables(tables)


class _Bars(NamedTuple):
    begin_ns: Longs
    end_ns: Longs
    open: Longs
    high: Longs
    low: Longs
    close: Longs
    volume: Longs
    trades: Longs
    bought: Longs
    sold: Longs
    worth: Longs
    closed: NDArray[np.bool_]


def _firsts(numbers: Longs) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))


def _bars(trades: Trades, numbers: Longs) -> _Bars:
    """Return the bar of each number; numbers ascend."""
    first = _firsts(numbers)
    last = np.append(first[1:], len(numbers))[: len(first)] - 1
    ts_ns, price, size, side = trades

    def summed(values: Longs) -> Longs:
        return np.add.reduceat(values, first) if len(first) else values

    return _Bars(
        begin_ns=ts_ns[first],
        end_ns=ts_ns[last],
        open=price[first],
        high=np.maximum.reduceat(price, first) if len(first) else price,
        low=np.minimum.reduceat(price, first) if len(first) else price,
        close=price[last],
        volume=summed(size),
        trades=last - first + 1,
        bought=summed(size * (side > 0)),
        sold=summed(size * (side < 0)),
        worth=summed(price * size),
        closed=np.ones(len(first), np.bool_),
    )


def _table(bars: _Bars, name: str, contract: str) -> pa.Table:
    count = len(bars.open)
    columns = bars._asdict()
    worth = columns.pop("worth")
    columns |= {each: columns[each] / PRICE_UNITS for each in ("open", "high", "low", "close")}
    # A print of no contracts sets a price and weighs nothing.
    columns["vwap"] = np.where(bars.volume > 0, worth / np.maximum(bars.volume, 1), bars.close) / PRICE_UNITS
    columns |= {"contract": pa.repeat(contract, count), "bar": pa.repeat(name, count)}
    own = [column for column in OHLCV.columns if column.name not in OHLCV.keys]
    return pa.table([columns[column.name] for column in own], schema=pa.schema(own))

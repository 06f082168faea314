"""The simulated SPY: a best bid and offer that follows ES by a slowly moving ratio, and trades that agree with it.

SPY's fair value is ES divided by a ratio near 10.03. Quotes lie around it, a cent wide and sometimes two, moved by a
small noise of their own. A trade executes at the bid or the ask of the quote before it, or, where a dealer reports it
(exchange 4), at their middle. Prices are in cents for quotes, in hundredths of a cent for trades.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATIO_E6 = 10_030_000
RATIO_BAND_E6 = 15_000  # how far the ratio wanders from it
_NOISE_STEP_E4, _NOISE_PULL_E4 = 5, 40
REPORTING_FACILITY = 4

_QUOTING = np.array([2, 8, 10, 11, 11, 12, 12, 12, 15, 19, 19, 21, 18, 17, 3, 7])  # the vendor's exchange ids
_TRADING = np.array([4, 4, 4, 4, 4, 12, 12, 12, 11, 11, 19, 19, 8, 21, 15, 10])
_ROUND_LOTS = np.repeat(np.array([1, 2, 3, 4, 5, 7, 10, 18, 30, 52]), [60, 52, 40, 28, 24, 20, 16, 8, 6, 2]) * 100
_SIZES = np.repeat(np.array([1, 5, 10, 25, 50, 75, 100, 200, 300, 500, 1_000, 2_500]),
                   [24, 20, 20, 24, 20, 12, 80, 24, 12, 12, 6, 2])  # fmt: skip
LARGEST_EXCHANGE = int(max(_QUOTING.max(), _TRADING.max()))
LARGEST_QUOTE, LARGEST_TRADE = int(_ROUND_LOTS.max()), int(_SIZES.max())
NO_CONDITION, ODD_LOT, SWEEP, ODD_SWEEP = range(4)
CONDITIONS = ((), (37,), (14, 41), (14, 37, 41))


class Path(NamedTuple):
    """A number that changes: its value from each time on; the first time is the begin."""

    times: NDArray[np.int64]
    value: NDArray[np.int64]

    def at(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        value: NDArray[np.int64] = self.value[np.searchsorted(self.times, times, "right") - 1]
        return value


class StockQuotes(NamedTuple):
    """Changes of the best bid and offer, in the order of their arrival; prices in cents, sizes in shares."""

    arrival_ns: NDArray[np.int64]
    bid: NDArray[np.int64]
    ask: NDArray[np.int64]
    bid_size: NDArray[np.int64]
    ask_size: NDArray[np.int64]
    bid_exchange: NDArray[np.int64]
    ask_exchange: NDArray[np.int64]
    seq: NDArray[np.int64]


class StockTrades(NamedTuple):
    """Prints in the order of their arrival; prices in hundredths of a cent."""

    arrival_ns: NDArray[np.int64]
    late_ns: NDArray[np.int64]  # by how much the event is older than its arrival
    price_e4: NDArray[np.int64]
    size: NDArray[np.int64]
    exchange: NDArray[np.int64]
    condition: NDArray[np.int64]  # an index of CONDITIONS
    seq: NDArray[np.int64]
    trade_id: NDArray[np.int64]


def fair_e4(bid_ticks: NDArray[np.int64], ratio_e6: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return SPY's value in hundredths of a cent, given ES' best bid in ticks of a quarter point."""
    return (2 * bid_ticks + 1) * 1_250 * 1_000_000 // ratio_e6


class Stock:
    """SPY's quote and those who trade it."""

    def __init__(self, entropy: tuple[int, ...], fair: int) -> None:
        self._random = np.random.PCG64(np.random.SeedSequence(entropy))
        self._noise = 0
        self._seq = [100_000, 50_000]  # quotes, trades
        self._trade_id = 52_983_525
        self._last = (fair // 100, fair // 100 + 1)

    def quote(self, times: NDArray[np.int64], fair: NDArray[np.int64], crossed_by: int = 0) -> StockQuotes:
        """Let the quote change at each of `times`, ascending, while SPY is worth `fair`."""
        drawn = self._bytes(len(times))
        pull = min(max(-self._noise // 2, -_NOISE_PULL_E4), _NOISE_PULL_E4)
        up = np.where(drawn[:, 0] < 128 + pull, 1, -1) * (drawn[:, 1] < 96) * _NOISE_STEP_E4
        noise = np.clip(self._noise + np.cumsum(up), -200, 200)
        bid = (fair + noise - 50) // 100
        ask = bid + 1 + (drawn[:, 2] < 20) - crossed_by
        if len(times):
            self._noise, self._last = int(noise[-1]), (int(bid[-1]), int(ask[-1]))
        return StockQuotes(
            times,
            bid,
            ask,
            _ROUND_LOTS[drawn[:, 3]],
            _ROUND_LOTS[drawn[:, 4]],
            _QUOTING[drawn[:, 5] & 15],
            _QUOTING[drawn[:, 5] >> 4],
            self._numbered(0, drawn[:, 6]),
        )

    def trade(self, times: NDArray[np.int64], quotes: StockQuotes, before: tuple[int, int]) -> StockTrades:
        """Let a trade happen at each of `times`, ascending, at the quote that is in force then."""
        drawn = self._bytes(len(times))
        at = np.searchsorted(quotes.arrival_ns, times, "right")
        bid, ask = np.append(before[0], quotes.bid)[at], np.append(before[1], quotes.ask)[at]
        exchange = _TRADING[drawn[:, 0] & 15]
        buyer = drawn[:, 1] < 128
        inside = (exchange == REPORTING_FACILITY) & (drawn[:, 2] < 128)
        size = _SIZES[drawn[:, 3]]
        sweep = (drawn[:, 4] < 48) & (exchange != REPORTING_FACILITY)
        self._trade_id += len(times)
        return StockTrades(
            times,
            np.zeros(len(times), np.int64),
            np.where(inside, (bid + ask) * 50, np.where(buyer, ask, bid) * 100),
            size,
            exchange,
            np.where(size < 100, ODD_LOT, NO_CONDITION) + np.where(sweep, SWEEP, 0),
            self._numbered(1, drawn[:, 5]),
            self._trade_id - len(times) + np.arange(len(times)),
        )

    @property
    def last(self) -> tuple[int, int]:
        """Best bid and ask, in cents."""
        return self._last

    def _bytes(self, n: int) -> NDArray[np.int64]:
        drawn = self._random.random_raw(n).astype("<u8", copy=False)
        return drawn.view(np.uint8).reshape(n, 8).astype(np.int64)

    def _numbered(self, kind: int, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        seq: NDArray[np.int64] = self._seq[kind] + np.cumsum(1 + drawn % 5)
        self._seq[kind] = int(seq[-1]) if len(seq) else self._seq[kind]
        return seq

"""The makers of a simulated option market: what they bid and ask, around the model price at which the crowd trades.

Each print has a quote of its own, up to 3 ms before it happened, that shows the bid and the ask which it was priced
from, and no other quote of its option comes from then until the millisecond of the print is over. So the quote at the
time of a print tells whether it stood at the bid, at the ask or inside, in the shares that `options.AT_ASK` and
`options.AT_BID` state, in a frame's milliseconds too. All other quotes are of options chosen as the crowd chooses, at
any time.

Prints of an option that follow soon: at one instant they share a quote; in one millisecond the next one's quote lies
halfway between them, so that nanoseconds tell them apart and milliseconds do not; else it waits until the first one's
millisecond is over. A print in the first millisecond of a step has a quote as old as the step. Of a print that arrives
late the quote came in time; where it happened before the step (in the classic market), its quote is late too, and is
of the nanosecond before it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS, NS_PER_SECOND
from spymaster.simulation.calendar import PPM, Stretch
from spymaster.simulation.options import EXCHANGES, Board, OptionTrades, choose

LEAST_LEAD_NS: Final = 1_000_000  # of a quote before its print, if time and the print before allow
LEAD_SPAN_NS: Final = 2_000_000
_UNIT: Final = 100 * PPM * NS_PER_SECOND
_LOTS = np.repeat(np.array([1, 2, 5, 10, 17, 25, 40, 60, 100, 150, 250, 400]),
                  [16, 16, 28, 40, 32, 36, 28, 24, 16, 10, 6, 4])  # fmt: skip
LARGEST_OPTION_QUOTE: Final = int(_LOTS.max())
_NO_TRADES = OptionTrades._make([*[np.zeros(0, np.int64)] * 10, np.zeros(0, np.bool_)])
_TIME_BITS: Final = 44  # of a key of option and time; a step is less than 2^34 ns long, a print at most 2^32 ns late


class OptionQuotes(NamedTuple):
    """Best bids and asks of a board's options, n of them in the order of their arrival.

    Prices are in ticks; a bid of 0 is none, and has neither size nor exchange.
    """

    arrival_ns: NDArray[np.int64]
    late_ns: NDArray[np.int64]  # by how much the quote is older than its arrival
    number: NDArray[np.int64]  # of the option
    bid: NDArray[np.int64]
    ask: NDArray[np.int64]
    bid_size: NDArray[np.int64]
    ask_size: NDArray[np.int64]
    bid_exchange: NDArray[np.int64]
    ask_exchange: NDArray[np.int64]
    side: NDArray[np.int64]  # that changed: 0 the bid, 1 the ask
    seq: NDArray[np.int64]


class Makers:
    """Those who quote the options of one underlying, so many times to 100 DBN records."""

    def __init__(self, entropy: tuple[int, ...], rate: int, per_100_records: int) -> None:
        self._random = np.random.PCG64(np.random.SeedSequence(entropy))
        self._rate = rate * per_100_records
        self._due = 0
        self._seq = 800_000

    def quote(
        self,
        board: Board,
        stretch: Stretch,
        trades: OptionTrades | None,
        spot_e4: Callable[[NDArray[np.int64]], NDArray[np.int64]],
        *,
        crossed: bool = False,
    ) -> OptionQuotes:
        """Quote options through the stretch.

        Args:
            trades: what the crowd did in it.
            spot_e4: price of the underlying at times.
            crossed: whether all quotes but those of prints have their sides exchanged.
        """
        trades = _NO_TRADES if trades is None else trades
        happened = trades.arrival_ns - trades.late_ns
        before, kept = self._before_prints(trades.number, happened, stretch.begin)
        self._due += self._rate * stretch.busy
        others = max(self._due // _UNIT - len(before), 0)
        self._due -= (len(before) + others) * _UNIT

        times = stretch.draw(self._random, others)
        spot = spot_e4(times)
        number = choose(board, times, spot, self._bytes(others))
        ends = _millisecond_after(happened[kept]) - 1
        spans = [_keys(trades.number[kept], edge, stretch.begin) for edge in (before, ends)]
        free = ~_between(_keys(number, times, stretch.begin), *spans)
        times, number = times[free], number[free]
        bid, ask = board.market(board.price(number, spot[free], times))
        if crossed:
            bid, ask = np.where(bid > 0, ask, bid), np.where(bid > 0, bid, ask)
        return self._described(
            stretch.begin,
            np.concatenate([before, times]),
            np.concatenate([trades.number[kept], number]),
            np.concatenate([trades.bid[kept], bid]),
            np.concatenate([trades.ask[kept], ask]),
        )

    def _before_prints(
        self, number: NDArray[np.int64], happened: NDArray[np.int64], begin: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return when the quotes before prints come, and of which prints, by option and time."""
        order = np.lexsort((happened, number))
        happened = happened[order]
        gap = np.diff(happened, prepend=0)
        room = happened - np.concatenate([[0], _millisecond_after(happened[:-1])])[: len(order)]
        room = np.where(room >= 0, room, gap // 2)
        first = np.flatnonzero(np.diff(number[order], prepend=-1))  # of an option
        gap[first] = room[first] = LEAST_LEAD_NS + LEAD_SPAN_NS
        drawn = (self._random.random_raw(len(order)) & np.uint64(0xFFFF)).astype(np.int64)
        lead = np.minimum(LEAST_LEAD_NS + (drawn * LEAD_SPAN_NS >> 16), room)
        lead = np.minimum(lead, np.where(happened >= begin, happened - begin, 1))
        alone = gap > 0
        return (happened - lead)[alone], order[alone]

    def _described(
        self,
        begin: int,
        times: NDArray[np.int64],
        number: NDArray[np.int64],
        bid: NDArray[np.int64],
        ask: NDArray[np.int64],
    ) -> OptionQuotes:
        """Put quotes in the order of their arrival, none before the begin, and draw their sizes and exchanges."""
        arrival = np.maximum(times, begin)
        order = np.argsort(arrival, kind="stable")
        bid, luck = bid[order], self._bytes(len(order))
        seq = self._seq + np.cumsum(1 + luck[:, 4] % 5)
        self._seq = int(seq[-1]) if len(seq) else self._seq
        bidden = bid > 0
        return OptionQuotes(
            arrival_ns=arrival[order],
            late_ns=(arrival - times)[order],
            number=number[order],
            bid=bid,
            ask=ask[order],
            bid_size=_LOTS[luck[:, 0]] * bidden,
            ask_size=_LOTS[luck[:, 1]],
            bid_exchange=EXCHANGES[luck[:, 2] % len(EXCHANGES)] * bidden,
            ask_exchange=EXCHANGES[luck[:, 3] % len(EXCHANGES)],
            side=np.where(bidden, luck[:, 5] & 1, 1),
            seq=seq,
        )

    def _bytes(self, n: int) -> NDArray[np.int64]:
        drawn = self._random.random_raw(n).astype("<u8", copy=False)
        return drawn.view(np.uint8).reshape(n, 8).astype(np.int64)


def _keys(number: NDArray[np.int64], times: NDArray[np.int64], begin: int) -> NDArray[np.int64]:
    """Return numbers that sort by option, then by time."""
    return (number << _TIME_BITS) + (times - begin + (1 << 34))


def _millisecond_after(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the end of the millisecond that each time is in."""
    ends: NDArray[np.int64] = (times // NS_PER_MS + 1) * NS_PER_MS
    return ends


def _between(keys: NDArray[np.int64], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each key lies within a span, its edges included; begins and ends both ascend."""
    between: NDArray[np.bool_] = np.searchsorted(begins, keys, "right") > np.searchsorted(ends, keys, "left")
    return between

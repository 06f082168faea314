"""Writes quotes of ES options as DBN's `mbp-1` records, and puts them among the records of a tape.

They have sequence numbers of their own, as they are of a channel of their own. A quote is received no sooner than the
record that it follows, so that `ts_recv` of the whole stream still only grows, and no record is received later for it.
"""

from typing import Final, NamedTuple

import databento_dbn
import numpy as np
from numpy.typing import NDArray

from spymaster.simulation.dbn import Records
from spymaster.simulation.option_quotes import OptionQuotes
from spymaster.simulation.options import ES_TICK_E9

LEAST_DELAY_NS: Final = 80_000  # from arrival to receipt, as of the tape's records
_MBP1 = np.dtype(databento_dbn.MBP1Msg._dtypes)
_WORDS: Final = _MBP1.itemsize // 8
_RECEIVED: Final = 4  # the word of a record, of a trade, a book or a quote, that is its `ts_recv`
_ORDERS: Final = 4  # at most, at a best price
_PUBLISHER_ID: Final = 1  # GLBX.MDP3


class Quoted(NamedTuple):
    """Quotes that belong among the events of a tape."""

    records: NDArray[np.void]
    arrival_ns: NDArray[np.int64]
    place: NDArray[np.int64]  # the number of the event that each stands before


class QuoteRecords:
    """The quotes of one step, which are taken in order as the tapes of the step are written."""

    def __init__(self, quotes: OptionQuotes | None, instrument_ids: tuple[int, ...]) -> None:
        self._arrival = np.zeros(0, np.int64) if quotes is None else quotes.arrival_ns
        self._records = np.zeros(0, _MBP1) if quotes is None else _encoded(quotes, instrument_ids)
        self._taken = 0

    def among(self, records: Records, times: NDArray[np.int64], received: int) -> Quoted:
        """Take the quotes that arrive no later than the last event of a tape.

        Args:
            records: of the tape.
            times: of arrival of its events.
            received: when the record before them is.
        """
        if not len(times):
            return Quoted(self._records[:0], times, times)
        end = int(np.searchsorted(self._arrival, times[-1], "right"))
        arrival = self._arrival[self._taken : end]
        place = np.searchsorted(times, arrival, "left")
        before = np.concatenate([[0], records.ends[:-1]])
        # An instant may have several events, all with its end; it has one time of receipt, that of its first record.
        begins = np.maximum.accumulate(np.where(records.ends > before, before, 0)) // 8
        known = np.frombuffer(records.data, np.int64)[begins[np.maximum(place - 1, 0)] + _RECEIVED]
        return Quoted(self._take(end, np.where(place > 0, known, received)), arrival, place)

    def rest(self, received: int) -> Quoted:
        """Take the quotes that are left, which belong behind all tapes."""
        arrival = self._arrival[self._taken :]
        none = np.zeros(len(arrival), np.int64)
        return Quoted(self._take(len(self._arrival), none + received), arrival, none)

    def _take(self, end: int, known: NDArray[np.int64]) -> NDArray[np.void]:
        """Take the quotes before number `end`, none received before what `known` says of it."""
        mine = slice(self._taken, end)
        self._taken = end
        taken = self._records[mine]
        taken["ts_recv"] = np.maximum(self._arrival[mine] + LEAST_DELAY_NS, known)
        return taken


def weave(records: Records, times: NDArray[np.int64], quoted: Quoted) -> tuple[Records, NDArray[np.int64]]:
    """Put quotes among the records of a tape; return them, and the time of arrival of each event or quote."""
    if not len(quoted.place):
        return records, times
    words = np.frombuffer(records.data, np.uint64)
    begins = np.concatenate([[0], records.ends // 8])
    data = np.insert(words, np.repeat(begins[quoted.place], _WORDS), quoted.records.view(np.uint64))
    ends = np.cumsum(np.insert(np.diff(begins), quoted.place, _WORDS)) * 8
    return Records(data.data.cast("B"), ends), np.insert(times, quoted.place, quoted.arrival_ns)


def alone(records: NDArray[np.void]) -> Records:
    """Return quotes as records that no tape is among."""
    return Records(records.view(np.uint64).data.cast("B"), np.arange(1, len(records) + 1) * _MBP1.itemsize)


def _encoded(quotes: OptionQuotes, instrument_ids: tuple[int, ...]) -> NDArray[np.void]:
    """Return the records of quotes, but for their times of receipt."""
    records = np.zeros(len(quotes.seq), _MBP1)
    records["length"], records["rtype"], records["publisher_id"] = _MBP1.itemsize // 4, 1, _PUBLISHER_ID
    records["instrument_id"] = np.array(instrument_ids)[3 + quotes.number]
    records["ts_event"] = quotes.arrival_ns - quotes.late_ns
    records["ts_in_delta"] = 13_000 + quotes.seq * 7_919 % 13_000
    records["sequence"], records["flags"] = quotes.seq & 0xFFFFFFFF, databento_dbn.F_LAST
    sides = (("bid", quotes.bid, quotes.bid_size), ("ask", quotes.ask, quotes.ask_size))
    for number, (name, price, size) in enumerate(sides):
        orders = np.minimum(size, 1 + (quotes.seq >> number) % _ORDERS)
        records[f"{name}_px_00"] = np.where(price > 0, price * ES_TICK_E9, databento_dbn.UNDEF_PRICE)
        records[f"{name}_sz_00"], records[f"{name}_ct_00"] = size, orders
        # The order that changed holds all but a lot of each other one.
        changed = quotes.side == number
        records["price"][changed] = records[f"{name}_px_00"][changed]
        records["size"][changed] = (size - orders + 1)[changed]
    records["side"] = np.where(quotes.side == 0, b"B", b"A")
    records["action"] = np.where(quotes.seq % 4 == 0, b"M", b"A")
    return records

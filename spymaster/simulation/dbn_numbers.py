"""Writes what the exchange says of its sessions as DBN: records of the trading state, and of statistics."""

from datetime import UTC, datetime
from typing import Final

import databento_dbn
import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.dbn import HALTED, TRADING, Listing, status
from spymaster.simulation.exchange import Numbers
from spymaster.simulation.options import expires_after

CLOSED: Final = 12  # an action of a status record
SCHEDULED: Final = 1  # a reason of one
SETTLEMENT, OPEN_INTEREST, VOLATILITY, DELTA = 3, 9, 14, 15  # kinds of a statistic
_STATISTIC = np.dtype(databento_dbn.StatMsg._dtypes)
_STATUS = np.dtype(databento_dbn.StatusMsg._dtypes)
STATISTIC_BYTES, STATUS_BYTES = _STATISTIC.itemsize, _STATUS.itemsize
_PUBLISHER_ID: Final = 1  # GLBX.MDP3
_NEW: Final = 1  # an update action
_FUTURES_CHANNEL, _OPTIONS_CHANNEL = 310, 311  # as their definitions have it
_NO_FLAGS, _FINAL, _TRADED_TICK = 255, 1, 2  # of a settlement: not preliminary; of a future, at a price of its ladder


class ExchangeEncoder:
    """Turns what the exchange says into records. Carries the counter of what it has said."""

    def __init__(self) -> None:
        self._sequence = 0

    def encode(self, numbers: Numbers, listing: Listing, received: int) -> tuple[bytes, bytes]:
        """Return the records of the trading state and those of statistics, all received at once."""
        ids = np.array(listing.instrument_ids)
        options = ids[3:][numbers.options]
        everything = np.concatenate([ids[:3], options])
        opened = HALTED if numbers.halted else TRADING
        states = (opened,) if numbers.standing else (CLOSED, opened)
        said = b"".join(scheduled(everything, action, numbers.said_ns, received) for action in states)
        outright = np.concatenate([ids[:2], options])
        statistics = [
            self._statistics(SETTLEMENT, outright, numbers, price=numbers.settlement_e9),
            self._statistics(VOLATILITY, options, numbers, price=numbers.volatility_e9),
            self._statistics(DELTA, options, numbers, price=numbers.delta_e9),
            self._statistics(OPEN_INTEREST, outright, numbers, quantity=numbers.open_interest),
        ]
        records = np.concatenate(statistics)
        records["ts_recv"] = received
        return said, records.tobytes()

    def _statistics(
        self,
        kind: int,
        instrument_ids: NDArray[np.int64],
        numbers: Numbers,
        price: NDArray[np.int64] | None = None,
        quantity: NDArray[np.int64] | None = None,
    ) -> NDArray[np.void]:
        n = len(instrument_ids)
        day = numbers.session
        records = np.zeros(n, _STATISTIC)
        records["length"], records["rtype"], records["publisher_id"] = _STATISTIC.itemsize // 4, 24, _PUBLISHER_ID
        records["instrument_id"], records["ts_event"] = instrument_ids, numbers.said_ns
        records["ts_ref"] = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * NS_PER_SECOND
        records["price"] = databento_dbn.UNDEF_PRICE if price is None else price
        records["quantity"] = databento_dbn.UNDEF_STAT_QUANTITY if quantity is None else quantity
        records["sequence"] = self._sequence + np.arange(1, n + 1)
        records["ts_in_delta"], records["stat_type"], records["update_action"] = 20_000, kind, _NEW
        is_option = np.arange(n) >= n - len(numbers.options)  # which come last
        records["channel_id"] = np.where(is_option, _OPTIONS_CHANNEL, _FUTURES_CHANNEL)
        final = np.where(is_option, _FINAL, _FINAL | _TRADED_TICK)
        records["stat_flags"] = final if kind == SETTLEMENT else _NO_FLAGS
        self._sequence += n
        return records


def scheduled(instrument_ids: NDArray[np.int64], action: int, ts_event: int, ts_recv: int) -> bytes:
    """Return a status record for each instrument, as `status` does, of what the timetable says."""
    records = np.frombuffer(bytearray(status(instrument_ids.tolist(), action, ts_event, ts_recv)), _STATUS)
    records["reason"] = SCHEDULED
    return records.tobytes()


def halts(listing: Listing, action: int, now: int, received: int) -> bytes:
    """Return the status records of a halt or of its end: of the futures, then of the options that have not expired."""
    board = listing.options
    alive = expires_after(board, np.arange(board.count), np.full(board.count, now))
    ids = [*listing.instrument_ids[:3], *np.array(listing.instrument_ids)[3:][alive].tolist()]
    return status(ids, action, now, received)

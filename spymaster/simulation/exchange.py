"""What the exchange and its clearing house say of the simulated market once a day: it closes, settles and opens.

A session ends and the next begins in one instant, at 17:00 in Chicago each day, weekends too, because the simulated
market never pauses. Its date is that of the day on which it ends, as CME's is. At that instant the exchange says:
trading is closed; the settlement of the session that has ended, of options with the model's volatility and delta;
trading is open; the open interest with which the session ended. What has expired by then is left out. An option that
is listed later, at UTC midnight, is spoken of for the first time at the next close.

To whoever begins to listen it says how that stands, as of the close before. The market had not begun then, so that
its settlement prices are drawn: some points from where the market begins.

Open interest is a function of seed, option and date alone. There is more of it near the money of the market's start,
in near expiries, and at round strikes. All integers and divisions, which are the same on every machine.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.simulation.book import Book
from spymaster.simulation.calendar import utc_date
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.options import STRIKES, Board, expires_after

CHICAGO: Final = ZoneInfo("America/Chicago")
CLOSE: Final = time(17)
_FIRST_OPEN_INTEREST: Final = (2_050_000, 140_000)  # of the front month and the next, about
_STANDING_TICKS: Final = 40  # at most, from the settlement before the begin to the price at it
_MIDDLES: Final = {"SPY": 688, "ES": 6_900}  # strikes at the market's start
_PEAK: Final = 6_000  # of open interest: of a strike in the middle that is not round, about to expire


class Numbers(NamedTuple):
    """What the exchange says of the day's instruments that have not expired, as one session ends and the next begins.

    Attributes:
        said_ns: when.
        session: the date of the one that has ended.
        standing: it was said before the market began, and is repeated to whoever begins to listen.
        halted: the next session begins halted.
        options: numbers of the options, m of them.
        open_interest: of the front month, the next one and the options, m + 2 of them.
        settlement_e9: of the same.
        volatility_e9: of the options.
        delta_e9: of the options.
    """

    said_ns: int
    session: date
    standing: bool
    halted: bool
    options: NDArray[np.int64]
    open_interest: NDArray[np.int64]
    settlement_e9: NDArray[np.int64]
    volatility_e9: NDArray[np.int64]
    delta_e9: NDArray[np.int64]


class Exchange:
    """Says what is due, once the market begins and at each close."""

    def __init__(self, seed: int, start: int) -> None:
        self._seed = seed
        self._close = last_close(start)
        self._standing = True

    def say(self, now: int, board: Board, books: Sequence[Book], *, halted: bool) -> Numbers | None:
        """Return what is said at `now`, if anything.

        Args:
            now: begin of a step; each close is the begin of one, or falls in one of some milliseconds before.
            board: the ES options that are listed.
            books: of the front month and the next, which settle at their best bids.
            halted: whether the futures are.
        """
        if now < self._close:
            return None
        said, standing = self._close, self._standing
        session = datetime.fromtimestamp(said // NS_PER_SECOND, CHICAGO).date()
        self._close, self._standing = last_close(said + 3 * NS_PER_DAY // 2), False
        ticks = np.array([book.bid for book in books[:2]])
        if standing:
            ticks += int(_hashed(self._seed, session.toordinal(), 0)[0]) % (2 * _STANDING_TICKS + 1) - _STANDING_TICKS
        number = np.flatnonzero(expires_after(board, np.arange(board.count), np.full(board.count, now)))
        many = np.ones(len(number), np.int64)
        worth = board.worth(number, many * ((2 * ticks[0] + 1) * 1_250), many * said)
        premium_e9 = np.rint(worth.price * 1e9 / board.tick_e9).astype(np.int64) * board.tick_e9
        return Numbers(
            said,
            session,
            standing,
            halted,
            number,
            np.concatenate([self._futures(session), open_interest(self._seed, board, session)[number]]),
            np.concatenate([ticks * OUTRIGHT_TICK_E9, premium_e9]),
            np.rint(worth.volatility * 1e9).astype(np.int64),
            np.rint(worth.delta * 1e9).astype(np.int64),
        )

    def _futures(self, session: date) -> NDArray[np.int64]:
        """Return the open interest of the front month and the next: one of up to 6 % more or less each day."""
        first = np.array(_FIRST_OPEN_INTEREST)
        luck = _hashed(self._seed, session.toordinal(), np.array([1, 2])).astype(np.int64) % 120_001 - 60_000
        return first + first * luck // 1_000_000


def last_close(now: int) -> int:
    """Return the last close at or before `now`."""
    day = datetime.fromtimestamp(now // NS_PER_SECOND, CHICAGO).date()
    closes = (datetime.combine(one, CLOSE, CHICAGO) for one in (day, day - timedelta(days=1)))
    return next(at for close in closes if (at := int(close.timestamp()) * NS_PER_SECOND) <= now)


def open_interest(seed: int, board: Board, day: date) -> NDArray[np.int64]:
    """Return the open interest of each option of a board on a day: a function of seed, option and day.

    From a day to the next it changes by up to a tenth, and grows as the expiry comes near.
    """
    root = "SPY" if board.series[0].code.startswith("O:") else "ES"
    expiry = np.array([utc_date(one.expiration_ns).toordinal() for one in board.series])
    expiry = np.repeat(expiry, 2 * STRIKES)
    identity = (expiry * 100_000 + board.strikes) * 4 + 2 * board.is_call + (root == "ES")
    strike = board.strikes // board.strike_step
    away = (board.strikes - _MIDDLES[root]) // board.strike_step
    left = np.maximum(expiry - day.toordinal(), 0)
    size = _PEAK * np.where(strike % 10 == 0, 4, np.where(strike % 5 == 0, 2, 1))
    size = size * 64 // (64 + away * away) * 10 // (10 + left)
    usual = size * (500 + (_hashed(seed, identity, 3) % 1_000).astype(np.int64)) // 1_000
    today = 900 + (_hashed(seed, identity, day.toordinal()) % 201).astype(np.int64)
    shown: NDArray[np.int64] = usual * today // 1_000
    return shown


def classic_interest(_seed: int, board: Board, _day: date) -> NDArray[np.int64]:
    """Return what the classic market says instead, on any day."""
    said: NDArray[np.int64] = np.arange(board.count) * 7_919 % 20_000
    return said


def _hashed(seed: int, *parts: int | NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return 32 bits of luck for each row of `parts`: splitmix64, a part after another."""
    mixed = np.array([seed % (1 << 64)], np.uint64)
    for part in parts:
        mixed = (mixed ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed >> np.uint64(32)

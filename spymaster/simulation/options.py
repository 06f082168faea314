"""The options of a simulated day: which are listed, what each is worth, and who trades them.

A board is all options of one underlying in one UTC day: some expiries, the nearest of them of the day itself (0DTE)
until it expires, each with forty strikes around the money at the day's begin, calls and puts. Option number
i = (expiry x 40 + strike) x 2 + (1 for a put).

Prices are in ticks of the board; bid and ask are the model's value less and plus half a spread, rounded outwards.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.exact import Floats
from spymaster.simulation.calendar import NEW_YORK, Contract
from spymaster.simulation.pricing import Worth, price, worth

STRIKES = 40
NEAR_EXPIRIES = 4  # consecutive weekdays
SPY_RATE = 0.04
SPY_TICK_E4, ES_TICK_E9 = 100, 50_000_000

_MONTH_LETTERS = "FGHJKMNQUVXZ"
_SHARE_OF_EXPIRY = (150, 40, 24, 18, 14, 10)  # of 256 trades; what is left over goes to the first
_LOTS = np.repeat(np.array([1, 2, 3, 5, 10, 20, 50, 100]), [120, 40, 24, 24, 24, 12, 8, 4])
AT_ASK, AT_BID = 112, 112  # of 256 prints, those at the ask and, if there is a bid, those at it; the others are inside
EXCHANGES = np.array([300, 301, 302, 303, 304, 307, 308, 309, 312, 313, 316, 318, 319, 320, 322, 323])

LARGEST_BIAS = 6  # times the usual size, of trades that are planted
LARGEST_OPTION_EXCHANGE, LARGEST_OPTION_TRADE = int(EXCHANGES.max()), int(_LOTS.max()) * LARGEST_BIAS


class Series(NamedTuple):
    """The options of one expiry."""

    code: str  # what its symbols begin with
    expiration_ns: int
    written_on: str
    forward_e4: int  # of the underlying above what the market quotes, for options on another month


class OptionTrades(NamedTuple):
    """Trades of a board's options, n of them in the order of their arrival, prices in ticks."""

    arrival_ns: NDArray[np.int64]
    late_ns: NDArray[np.int64]  # by how much the event is older than its arrival
    number: NDArray[np.int64]  # of the option
    price: NDArray[np.int64]
    bid: NDArray[np.int64]
    ask: NDArray[np.int64]
    size: NDArray[np.int64]
    side: NDArray[np.int64]  # +1 the buyer lifted the ask, -1 the seller hit the bid, 0 in between
    exchange: NDArray[np.int64]
    seq: NDArray[np.int64]
    repeated: NDArray[np.bool_]  # the trade before, once more


class Bias(NamedTuple):
    """Whose trades are planted, near the money and in the first expiry: of 256, those that buy."""

    bought: int
    size: int = 1  # times the usual, LARGEST_BIAS at the most


@dataclass(frozen=True)
class Board:
    """The options of one underlying in one UTC day."""

    series: tuple[Series, ...]
    first_strike: int
    strike_step: int
    tick_e9: int
    rate: float
    coarse: int  # prices of ten dollars or points and more are multiples of so many ticks

    @property
    def count(self) -> int:
        return len(self.series) * STRIKES * 2

    @property
    def strikes(self) -> NDArray[np.int64]:
        """The strike of each option, in dollars or points."""
        ladder = self.first_strike + self.strike_step * np.arange(STRIKES)
        return np.tile(np.repeat(ladder, 2), len(self.series))

    @property
    def is_call(self) -> NDArray[np.bool_]:
        calls: NDArray[np.bool_] = np.arange(self.count) % 2 == 0
        return calls

    @property
    def expiration_ns(self) -> NDArray[np.int64]:
        return np.repeat(np.array([one.expiration_ns for one in self.series]), 2 * STRIKES)

    def symbols(self) -> list[str]:
        """Return the symbol of each option, as CME or OCC writes it."""
        strikes, is_call = self.strikes.tolist(), self.is_call.tolist()
        codes = [one.code for one in self.series for _ in range(2 * STRIKES)]
        return [
            f"{code}{'C' if call else 'P'}{strike * 1000:08}" if code.startswith("O:")
            else f"{code} {'C' if call else 'P'}{strike}"
            for code, strike, call in zip(codes, strikes, is_call, strict=True)
        ]  # fmt: skip

    def worth(self, number: NDArray[np.int64], spot_e4: NDArray[np.int64], now: NDArray[np.int64]) -> Worth:
        """Return what options are worth, each at its own moment and price of the underlying."""
        return worth(*self._described(number, spot_e4, now), self.rate)

    def price(self, number: NDArray[np.int64], spot_e4: NDArray[np.int64], now: NDArray[np.int64]) -> Floats:
        """Return the price alone of what `worth` returns."""
        return price(*self._described(number, spot_e4, now), self.rate)

    def _described(
        self, number: NDArray[np.int64], spot_e4: NDArray[np.int64], now: NDArray[np.int64]
    ) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.bool_]]:
        series, place = np.divmod(number, 2 * STRIKES)
        forward = np.array([one.forward_e4 for one in self.series])[series]
        strike = self.first_strike + self.strike_step * (place // 2)
        left = np.array([one.expiration_ns for one in self.series])[series] - now
        return (spot_e4 + forward) / 10_000, strike.astype(np.float64), left, number % 2 == 0

    def market(self, price: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return bid and ask around model prices, in ticks; a bid of 0 means that there is no bid."""
        half = 0.004 * self.strike_step + price / 100
        tick = self.tick_e9 / 1e9
        unit = np.where(price >= 10, tick * self.coarse, tick)
        bid, ask = np.floor((price - half) / unit), np.ceil((price + half) / unit)
        steps = np.where(price >= 10, self.coarse, 1)
        return np.maximum(bid, 0).astype(np.int64) * steps, np.maximum(ask, 1).astype(np.int64) * steps


class OptionCrowd:
    """Those who trade the options of a board."""

    def __init__(self, entropy: tuple[int, ...]) -> None:
        self._random = np.random.PCG64(np.random.SeedSequence(entropy))
        self._seq = 1_000

    def trade(
        self, board: Board, times: NDArray[np.int64], spot_e4: NDArray[np.int64], bias: Bias | None = None
    ) -> OptionTrades:
        """Let one trade happen at each of `times`, ascending, while the underlying is at `spot_e4`.

        Those that fall on an option that has expired do not happen.
        """
        raw = self._random.random_raw(len(times)).astype("<u8", copy=False)
        drawn = raw.view(np.uint8).reshape(-1, 8).astype(np.int64)
        number = choose(board, times, spot_e4, drawn, focused=bias is not None)
        alive = expires_after(board, number, times)
        times, spot_e4, number, drawn = times[alive], spot_e4[alive], number[alive], drawn[alive]
        bid, ask = board.market(board.price(number, spot_e4, times))
        bought, sold = (AT_ASK, AT_ASK + AT_BID) if bias is None else (bias.bought, 256)
        side = np.where(drawn[:, 3] < bought, 1, np.where((drawn[:, 3] < sold) & (bid > 0), -1, 0))
        least = np.maximum(bid, 1)
        step = np.where((bid % board.coarse == 0) & (ask % board.coarse == 0) & (bid > 0), board.coarse, 1)
        inside = least + (ask - least) * drawn[:, 4] // (256 * step) * step
        seq = self._seq + np.cumsum(1 + drawn[:, 5] % 7)
        self._seq = int(seq[-1]) if len(seq) else self._seq
        return OptionTrades(
            arrival_ns=times,
            late_ns=np.zeros(len(times), np.int64),
            number=number,
            price=np.where(side > 0, ask, np.where(side < 0, bid, inside)),
            bid=bid,
            ask=ask,
            size=_LOTS[drawn[:, 6]] * (1 if bias is None else bias.size),
            side=side,
            exchange=EXCHANGES[drawn[:, 7] % len(EXCHANGES)],
            seq=seq,
            repeated=np.zeros(len(times), np.bool_),
        )


def choose(
    board: Board,
    times: NDArray[np.int64],
    spot_e4: NDArray[np.int64],
    drawn: NDArray[np.int64],
    *,
    focused: bool = False,
) -> NDArray[np.int64]:
    """Choose an option for each row of random bytes: most near the money, and in the first expiry still alive."""
    expiries = np.array([one.expiration_ns for one in board.series])
    first = np.searchsorted(np.sort(expiries), times, "right")
    shares = np.repeat(np.arange(len(board.series)), _SHARE_OF_EXPIRY[: len(board.series)])
    later = np.concatenate([shares, np.zeros(256 - len(shares), np.int64)])[drawn[:, 0]]
    expiry = first if focused else np.minimum(first + later, len(board.series) - 1)
    wide = (drawn[:, 1] * drawn[:, 1] >> 8) * (4 if focused else 20) >> 8  # squared, so that most are near
    money = (spot_e4 // 10_000 - board.first_strike + board.strike_step // 2) // board.strike_step
    strike = np.clip(money + np.where(drawn[:, 2] < 128, wide, -wide), 0, STRIKES - 1)
    number: NDArray[np.int64] = (np.minimum(expiry, len(board.series) - 1) * STRIKES + strike) * 2 + drawn[:, 2] % 2
    return number


def expires_after(board: Board, number: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each option is still alive at its moment."""
    alive: NDArray[np.bool_] = np.array([one.expiration_ns for one in board.series])[number // (2 * STRIKES)] > times
    return alive


def spy_board(spot_e4: int, now: int) -> Board:
    """List the SPY options of the rest of a UTC day."""
    series = tuple(Series(f"O:SPY{day:%y%m%d}", afternoon_ns(day), "SPY", 0) for day in _expiry_days(now))
    middle = (spot_e4 + 5_000) // 10_000
    return Board(series, middle - STRIKES // 2, 1, SPY_TICK_E4 * 100_000, SPY_RATE, 1)


def es_board(spot_e4: int, now: int, front: Contract) -> Board:
    """List the ES options of the rest of a UTC day, each on the quarter that its expiry falls in."""
    series = []
    for day in _expiry_days(now):
        future = _quarter_of(day)
        code = f"{_product(day)}{_MONTH_LETTERS[day.month - 1]}{day.year % 10}"
        expiration = future.expiration_ns if day == future.last_day else afternoon_ns(day)
        quarters = (future.year - front.year) * 4 + (future.month - front.month) // 3
        if expiration > now:
            series.append(Series(code, expiration, future.symbol, quarters * 500_000))
    middle = (spot_e4 + 50_000) // 100_000 * 10
    return Board(tuple(series), middle - 10 * (STRIKES // 2), 10, ES_TICK_E9, 0.0, 5)


def afternoon_ns(day: date) -> int:
    """Return four o'clock in New York, when most options expire."""
    return int(datetime.combine(day, time(16), NEW_YORK).timestamp()) * NS_PER_SECOND


def _expiry_days(now: int) -> list[date]:
    """Return the next weekdays on which options expire, a Friday after them, and a third Friday after that."""
    day = datetime.fromtimestamp(now // NS_PER_SECOND, NEW_YORK).date()
    days: list[date] = []
    while len(days) < NEAR_EXPIRIES:
        if day.weekday() < 5 and afternoon_ns(day) > now:
            days.append(day)
        day += timedelta(days=1)
    days.append(day + timedelta(days=(4 - day.weekday()) % 7))
    month = Contract(day.year, day.month)
    if month.last_day <= days[-1]:
        month = Contract(day.year + day.month // 12, day.month % 12 + 1)
    days.append(month.last_day)
    return days


def _quarter_of(day: date) -> Contract:
    """Return the quarterly future that options expiring on `day` are written on."""
    contract = Contract(day.year, 3)
    while day > contract.last_day:
        contract = contract.quarters_later(1)
    return contract


def _product(day: date) -> str:
    """Return CME's code: quarterly, month's end, Friday's week, or week and letter from Monday to Thursday."""
    if day == _quarter_of(day).last_day:
        return "ES"
    following = day + timedelta(days=3 if day.weekday() == 4 else 1)
    week = (day.day - 1) // 7 + 1
    if following.month != day.month:
        return "EW"
    return f"EW{week}" if day.weekday() == 4 else f"E{week}{'ABCD'[day.weekday()]}"

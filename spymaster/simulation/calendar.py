"""What the calendar says of the simulated market: which contracts are listed, and how busy an instant is.

The market never pauses, so that there is always something to record: where the venue does (17:00 to 18:00 in New York,
weekends) it is as quiet as at night; `exchange` says when its sessions end. Everything is in integers, because a float
that rounds differently on another machine would change the bytes.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND

NEW_YORK = ZoneInfo("America/New_York")
NS_PER_MINUTE = 60 * NS_PER_SECOND
CELL_NS = NS_PER_SECOND // 4  # activity is constant within a cell
CELLS_PER_MINUTE = 240
PPM = 1_000_000  # of the asked rate

_MONTH_CODES = {3: "H", 6: "M", 9: "U", 12: "Z"}
_ROLL = timedelta(days=8)  # before expiration, when the volume moves to the next contract
_LISTED_QUARTERS = 5  # a contract trades from the expiration of the fifth one before it
_LULL_PPM = 200_000
# Minute of the New York day and activity there, linear in between: night, Europe, the open's burst, the close.
_WEEKDAY_PPM = (
    (0, 250_000), (180, 250_000), (240, 400_000), (569, 600_000), (570, 3_000_000), (575, 2_000_000),
    (600, 1_000_000), (930, 1_000_000), (959, 1_600_000), (960, 500_000), (1020, 250_000), (1440, 250_000),
)  # fmt: skip
_NIGHT_PPM = 250_000


@dataclass(frozen=True)
class Contract:
    """One quarterly ES future."""

    year: int
    month: int

    @property
    def symbol(self) -> str:
        return f"ES{_MONTH_CODES[self.month]}{self.year % 10}"

    @property
    def last_day(self) -> date:
        """The third Friday of its month."""
        middle = date(self.year, self.month, 15)
        return middle + timedelta(days=(4 - middle.weekday()) % 7)

    @property
    def expiration_ns(self) -> int:
        """09:30 in New York on its last day: 13:30 UTC, in December 14:30."""
        return _utc_ns(datetime.combine(self.last_day, time(9, 30), NEW_YORK))

    @property
    def activation_ns(self) -> int:
        return self.quarters_later(-_LISTED_QUARTERS).expiration_ns

    def quarters_later(self, count: int) -> "Contract":
        quarter = self.year * 4 + self.month // 3 - 1 + count
        return Contract(quarter // 4, quarter % 4 * 3 + 3)


def front_contract(day: date) -> Contract:
    """Return the contract that most trading is in on `day`: the first one that is not yet about to expire."""
    contract = Contract(day.year, 3)
    while day >= contract.last_day - _ROLL:
        contract = contract.quarters_later(1)
    return contract


def utc_date(ns: int) -> date:
    return datetime.fromtimestamp(ns // NS_PER_SECOND, UTC).date()


class Stretch(NamedTuple):
    """A stretch of time [begin, end), and how its activity is spread over it.

    Its parts, of constant activity, lie between `edges`; `shares[i]` of 2^32 parts of all activity come before edge i.
    """

    begin: int
    end: int
    busy: int  # activity in parts per million, times nanoseconds
    edges: NDArray[np.int64]
    shares: NDArray[np.int64]

    def times(self, drawn: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Place numbers of 32 bits in time: the busier a part, the more of them; ascending ones stay ascending."""
        number = drawn.astype(np.int64)
        if len(self.shares) == 2:
            return self.begin + (number * (self.end - self.begin) >> 32)
        part = np.searchsorted(self.shares, number, "right") - 1
        # Products stay below 2^63: a part lasts less than 2^28 ns.
        into = (number - self.shares[part]) * np.diff(self.edges)[part] // np.diff(self.shares)[part]
        placed: NDArray[np.int64] = self.edges[part] + into
        return placed

    def draw(self, random: np.random.PCG64, n: int) -> NDArray[np.int64]:
        """Draw n times, ascending."""
        return self.times(np.sort(random.random_raw(n) >> np.uint64(32)))


class Activity:
    """How busy the market is in each quarter of a second, a pure function of the seed and the time.

    Each minute holds one burst (1 to 3.5 s at 5 to 10 times) and one lull (5 to 15 s at a fifth), and the rest of it
    is scaled so that the minute's mean is the profile of the day. Hence the mean over minutes has no luck in it.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._minute = -1
        self._cells: list[int] = []
        self._drift = 0

    def level(self, ns: int) -> int:
        """Return the activity at `ns` in parts per million of the asked rate."""
        self._turn_to(ns // NS_PER_MINUTE)
        return self._cells[ns % NS_PER_MINUTE // CELL_NS]

    def stretch(self, begin: int, latest: int, busy: int) -> Stretch:
        """Return the stretch from `begin` that ends at `latest`, or sooner where it is as busy as asked."""
        edges, spent, now = [begin], [0], begin
        while now < latest and spent[-1] < busy:
            level = self.level(now)
            end = min(now - now % CELL_NS + CELL_NS, latest, now - (spent[-1] - busy) // level)
            edges.append(end)
            spent.append(spent[-1] + level * (end - now))
            now = end
        shares = [(one << 32) // max(spent[-1], 1) for one in spent]
        return Stretch(begin, now, spent[-1], np.array(edges), np.array(shares))

    def drift(self, ns: int) -> int:
        """Return by how many in 1,024 up moves outnumber their half share in this minute."""
        self._turn_to(ns // NS_PER_MINUTE)
        return self._drift

    def _turn_to(self, minute: int) -> None:
        if minute == self._minute:
            return
        draws = np.random.PCG64(np.random.SeedSequence((self._seed, minute))).random_raw(6)
        burst, factor, lull, burst_at, lull_at, rest = (int(draw) >> 32 for draw in draws)
        burst, factor, lull = 4 + burst % 11, 5 + factor % 6, 20 + lull % 41
        half = CELLS_PER_MINUTE // 2
        burst_at, lull_at = burst_at % (half - burst), half + lull_at % (half - lull)
        spent = burst * factor * PPM + lull * _LULL_PPM
        calm = (CELLS_PER_MINUTE * PPM - spent) // (CELLS_PER_MINUTE - burst - lull)
        cells = [calm] * CELLS_PER_MINUTE
        cells[burst_at : burst_at + burst] = [factor * PPM] * burst
        cells[lull_at : lull_at + lull] = [_LULL_PPM] * lull
        if rest & 1:
            cells.reverse()
        profile = _profile_ppm(minute * NS_PER_MINUTE)
        self._minute, self._drift = minute, (rest >> 1) % 121 - 60
        self._cells = [cell * profile // PPM for cell in cells]


def _profile_ppm(ns: int) -> int:
    local = datetime.fromtimestamp(ns // NS_PER_SECOND, NEW_YORK)
    if local.weekday() >= 5:
        return _NIGHT_PPM
    minute = local.hour * 60 + local.minute
    after = next(i for i, (begin, _) in enumerate(_WEEKDAY_PPM) if begin > minute)
    (begin, first), (end, last) = _WEEKDAY_PPM[after - 1], _WEEKDAY_PPM[after]
    return first + (last - first) * (minute - begin) // (end - begin)


def _utc_ns(moment: datetime) -> int:
    return int(moment.timestamp()) * NS_PER_SECOND

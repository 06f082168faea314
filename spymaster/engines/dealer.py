"""What dealers have to hedge, by strike: from open interest, from volume and from what customers traded with them.

Gamma is in units of the underlying a point of it: of one contract, times contracts, times the multiplier (ES 50, SPY
100). More than 0 is long: dealers sell rallies and buy breaks, and dampen; less is short, and amplifies. g(S) is the
gamma of a contract at the underlying's price S (`option_model`), M the multiplier, of the options that count: those of
the usual size, on what is judged, alive, that expire within `expiry_days`.

    by open interest  g(spot) * (open interest of the call - that of the put) * M, by the usual assumption that dealers
                      are long the calls and short the puts; at the newest look, see below
    by volume         likewise of the contracts printed in the session
    by flow           -s g q M of each print whose gamma is known, g as of the print, s the aggressor (+1 a customer
                      bought); of a window (T - W, T], and since the session's open
    CALL_WALL         the strike with the most gamma of calls by open interest; by volume where none is known. Of two
                      the nearer to the spot, then the higher
    PUT_WALL          likewise of puts; then the lower
    GAMMA_FLIP        the price nearest to the spot at which the position by open interest (by volume where none is
                      known) has no gamma: between two of PRICES prices, `profile_step_ticks` apart around the spot, at
                      which it has opposite signs, with nothing but zeros between, by a straight line; of two as near
                      the lower
    pressure          gamma by flow in `flow_s`, all strikes; its change a minute is that less the same a minute ago

`flow_turn.py` says when the flow turns, `fuel.py` what it feeds.

A look at all that is open is taken at the first snap that has a spot, at the first that knows any open interest, and at
the first in each `profile_s` of the clock. Its spot, time and volatilities stand until the next; volatilities go
with the strike whatever the price.

Windows are of event time in steps of 250 ms; a print that comes late counts in the step of the snap that has it.
Sums are of integers of 1 / GAMMA_SCALE, a print's gamma having become one once, so that no order changes a bit.
"""

from collections import deque
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import option_model, profile
from spymaster.engines.asof import Keys
from spymaster.engines.board import UNKNOWN_GAMMA, Board, Valued
from spymaster.engines.flow_turn import FlowTurns
from spymaster.engines.fuel import Fuel, fuel
from spymaster.engines.ledger import SNAP_NS, Longs
from spymaster.engines.option_model import GAMMA_SCALE

PRICES: Final = 200
MINUTE_NS: Final = 60 * NS_PER_SECOND
MOST_WEIGHT: Final = 1 << 13  # gamma times contracts of one print, beyond which its square counts as that of so much
_SQUARE: Final = 1 << 24  # of gamma times contracts, squared: the unit, so that 8,192 of the heaviest stay in int64
NET, GROSS, SQUARES = range(3)

Floats = NDArray[np.float64]


class Strikes(NamedTuple):
    """Dealer gamma by strike, n of them ascending, in units of the underlying a point.

    Attributes:
        strike: in points or dollars.
        calls: by open interest, at the newest look; 0 where none is known.
        puts: likewise, negative.
        calls_by_volume: likewise by volume.
        puts_by_volume: likewise.
        flow: by flow, in `flow_s`.
        flow_open: by flow since the session's open.
    """

    strike: Floats
    calls: Floats
    puts: Floats
    calls_by_volume: Floats
    puts_by_volume: Floats
    flow: Floats
    flow_open: Floats

    @property
    def by_open_interest(self) -> Floats:
        return self.calls + self.puts

    @property
    def by_volume(self) -> Floats:
        return self.calls_by_volume + self.puts_by_volume


class Walls(NamedTuple):
    """CALL_WALL and PUT_WALL, in points or dollars; None where no gamma is known."""

    call: float | None
    put: float | None


class Shares(NamedTuple):
    """What the figures rest on, as counts.

    Attributes:
        prints: of options that count, since the open.
        how: (5) of them, by `aggressor.HOW`.
        vol_from: (5) of them, by `board.VOL_FROM`.
        interest: contracts of open interest that count.
        valued: of these, those with a volatility, at the newest look.
    """

    prints: int
    how: Longs
    vol_from: Longs
    interest: int
    valued: int


class Dealer:
    """Dealers of one underlying's options in one session, a snap after another.

    Attributes:
        looked_ns: of the newest look; None before the first.
        turns: of the flow.
    """

    def __init__(self, rules: profile.Options, tick: float) -> None:
        """Begin at the session's open.

        Args:
            rules: of the profile.
            tick: of the underlying, in points or dollars.
        """
        self.looked_ns: int | None = None
        self.turns = FlowTurns(rules)
        self._rules, self._tick = rules, tick
        self._flow = _Window(rules.flow_s * NS_PER_SECOND)
        self._minute: deque[tuple[int, int]] = deque()  # nets of the newest, at most one for each 250 ms
        self._before: deque[tuple[int, int]] = deque()  # likewise, of `flow_s` before that
        self._before_net = 0
        self._open = np.empty(0, np.int64)
        self._strikes = np.empty(0)  # by row, and their order
        self._order = np.empty(0, np.intp)
        self._position = np.zeros((4, 0), np.int64)  # calls and puts by open interest, by volume; by strike's row
        self._flip: float | None = None
        self._spot: float | None = None
        self._by_interest = False
        self._snap_ns: int | None = None
        self._how, self._vol_from = np.zeros(5, np.int64), np.zeros(5, np.int64)
        self._interest = self._valued = 0
        # What is asked for at each snap, until it changes.
        self._shown: Strikes | None = None
        self._walls: Walls | None = None
        self._fuel: Fuel | None = None

    def work(self, snap_ns: int, prints: Valued, board: Board, spot: float | None) -> None:
        """Count a snap's prints, and look at what is open if it is time.

        Args:
            snap_ns: later than the one before.
            prints: of the board, as it has worked them.
            board: where they were worked.
            spot: of the underlying, None where it is not known.
        """
        if board.strikes is not self._strikes:  # as none is ever changed in place
            self._strikes, self._order, self._shown = board.strikes, np.argsort(board.strikes), None
            self._open = _longer(self._open, len(board.strikes))
        if len(prints.slot):
            self._count(snap_ns, prints.take(board.counted(prints.slot, prints.ts_ns)), board)
        self._leave(snap_ns)
        self.turns.snap(snap_ns)
        period = self._rules.profile_s * NS_PER_SECOND
        due = self.looked_ns is None or snap_ns // period > self.looked_ns // period
        if spot is not None and (due or board.interest_known != self._by_interest):
            self._look(snap_ns, board, spot)
        self._snap_ns = snap_ns

    # What comes out

    def strikes(self) -> Strikes:
        """Return dealer gamma by strike, three ways."""
        if self._shown is None:
            count = len(self._strikes)
            columns = np.zeros((6, count), np.int64)
            columns[:4, : self._position.shape[1]] = self._position
            columns[4], columns[5] = -self._flow.of(count)[NET], -self._open
            gamma = columns[:, self._order] * (self._rules.multiplier / GAMMA_SCALE)
            self._shown = Strikes(self._strikes[self._order], *gamma)
        return self._shown

    def walls(self) -> Walls:
        """Return the walls, as of the newest look."""
        if self._walls is None:
            calls, puts = self._position[0:2] if self._by_interest else self._position[2:4]
            self._walls = Walls(self._wall(calls, 1), self._wall(-puts, -1))
        return self._walls

    def flip(self) -> float | None:
        """Return GAMMA_FLIP as of the newest look; None where the profile does not cross zero within its prices."""
        return self._flip

    def pressure(self) -> float:
        """Return the dealers' gamma by flow in `flow_s`, in units of the underlying a point."""
        return -int(self._flow.sums[NET].sum()) * self._rules.multiplier / GAMMA_SCALE

    def pressure_change(self) -> float:
        """Return by how much `pressure` has changed in a minute."""
        return self.pressure() + self._before_net * self._rules.multiplier / GAMMA_SCALE

    def fuel(self) -> Fuel:
        """Return the fuel of all strikes, one place."""
        if self._fuel is None:
            self._fuel = self._fuel_of(self._flow.sums.sum(axis=1)[:, None])
        return self._fuel

    def fuel_at(self, prices: Floats) -> Fuel:
        """Return the fuel of levels: of strikes within `near_ticks` of each.

        Args:
            prices: (n) in points or dollars.
        """
        order, ladder = self._order, self.strikes().strike
        reach, sums = (self._rules.near_ticks + 1e-6) * self._tick, np.zeros((3, len(order) + 1), np.int64)
        self._flow.of(len(order))[:, order].cumsum(axis=1, out=sums[:, 1:])
        first = np.searchsorted(ladder, prices - reach, side="left")
        last = np.searchsorted(ladder, prices + reach, side="right")
        return self._fuel_of(sums[:, last] - sums[:, first])

    def shares(self) -> Shares:
        """Return what the figures rest on."""
        return Shares(int(self._how.sum()), self._how.copy(), self._vol_from.copy(), self._interest, self._valued)

    # What goes in

    def _count(self, snap_ns: int, prints: Valued, board: Board) -> None:
        self._how += np.bincount(prints.how, minlength=5)
        self._vol_from += np.bincount(prints.vol_from, minlength=5)
        known = prints.gamma != UNKNOWN_GAMMA
        row, sign = board.options.row[prints.slot[known]], prints.sign[known]
        weight = prints.gamma[known] * prints.size[known]
        gross = weight / GAMMA_SCALE
        light = np.minimum(gross, MOST_WEIGHT)
        sums = np.array((weight * sign, weight, np.rint(light * light * _SQUARE).astype(np.int64)))
        np.add.at(self._open, row, sums[NET])
        since = -(2**62) if self._snap_ns is None else self._snap_ns + SNAP_NS
        step = np.maximum(-(-prints.ts_ns[known] // SNAP_NS) * SNAP_NS, since)
        for at in sorted(set(step.tolist())):
            here = step == at
            self._flow.add(at, row[here], sums[:, here])
            self.turns.add(at, sign[here], gross[here])
            self._minute.append((at, int(sums[NET, here].sum())))
            self._shown = self._fuel = None

    def _leave(self, snap_ns: int) -> None:
        """Let what is too old leave the flow."""
        if self._flow.end(snap_ns):
            self._shown = self._fuel = None
        minute_ns = snap_ns - MINUTE_NS
        while self._minute and self._minute[0][0] <= minute_ns:
            self._before.append(self._minute.popleft())
            self._before_net += self._before[-1][1]
        while self._before and self._before[0][0] <= minute_ns - self._rules.flow_s * NS_PER_SECOND:
            self._before_net -= self._before.popleft()[1]

    def _look(self, snap_ns: int, board: Board, spot: float) -> None:
        """Take the position at a moment, and the price at which it has no gamma."""
        self.looked_ns, self._spot, self._shown, self._walls = snap_ns, spot, None, None
        standing = board.standing(snap_ns, spot)
        self._by_interest = board.interest_known
        gamma = board.gamma(standing.terms, standing.vol)
        known = ~np.isnan(gamma)
        fixed = np.rint(np.where(known, gamma, 0.0) * GAMMA_SCALE).astype(np.int64)
        self._interest = int(standing.interest.sum())
        self._valued = int(standing.interest[known].sum())
        self._position = np.zeros((4, len(board.strikes)), np.int64)
        held = np.concatenate([standing.interest, standing.volume], axis=1).T * np.array([[1], [-1], [1], [-1]])
        for kind, contracts in enumerate(held):
            np.add.at(self._position[kind], standing.row, contracts * fixed)
        net = held[0] + held[1] if self._by_interest else held[2] + held[3]
        steps: Floats = np.arange(1 - PRICES, PRICES, 2) / 2  # as many on both sides
        prices = spot + steps * (self._rules.profile_step_ticks * self._tick)
        prices = prices[prices > 0]
        if len(prices):
            total = option_model.gamma_profile(standing.terms, standing.vol, net, spot, prices)
            self._flip = _crossing(prices, total, spot)

    def _wall(self, gamma: Longs, outward: int) -> float | None:
        if self._spot is None or not len(gamma) or gamma.max() <= 0:
            return None
        best = self._strikes[: len(gamma)][gamma == gamma.max()]
        return float(min(best, key=lambda strike: (abs(strike - self._spot), -outward * strike)))

    def _fuel_of(self, sums: Longs) -> Fuel:
        squares = sums[SQUARES] * (float(GAMMA_SCALE) ** 2 / _SQUARE)
        return fuel(sums[NET], sums[GROSS], squares, self._rules.flow_share, self._rules.errors)


class _Window:
    """Sums of prints by strike in the last so many nanoseconds.

    Attributes:
        sums: (3, strikes' rows) net, gross and squares.
    """

    def __init__(self, length_ns: int) -> None:
        self.sums = np.zeros((3, 0), np.int64)
        self._length_ns = length_ns
        self._steps: deque[tuple[int, Keys, Longs]] = deque()  # at most one for each 250 ms, one row for each strike

    def add(self, at_ns: int, row: Keys, values: Longs) -> None:
        """Add prints of a step, later than those before."""
        rows = np.flatnonzero(np.bincount(row))
        place = np.searchsorted(rows, row)
        total = np.zeros((3, len(rows)), np.int64)
        for one, column in zip(total, values, strict=True):
            np.add.at(one, place, column)
        self.sums = self.of(int(rows[-1]) + 1)
        self.sums[:, rows] += total
        self._steps.append((at_ns, rows, total))

    def end(self, now_ns: int) -> bool:
        """Let what is older than the window leave it; return whether something did."""
        before = len(self._steps)
        while self._steps and self._steps[0][0] <= now_ns - self._length_ns:
            _, rows, total = self._steps.popleft()
            self.sums[:, rows] -= total
        return len(self._steps) < before

    def of(self, count: int) -> Longs:
        """Return the sums of at least so many rows."""
        more = count - self.sums.shape[1]
        return np.pad(self.sums, ((0, 0), (0, more))) if more > 0 else self.sums


def _crossing(prices: Floats, total: Longs, spot: float) -> float | None:
    """Return the price nearest to the spot at which a profile is zero, None where it is not."""
    some = total != 0  # zeros are no sign: far from every strike there is no gamma at all
    prices, total = prices[some], total[some]
    below, above = total[:-1], total[1:]
    at = np.flatnonzero(np.sign(below) * np.sign(above) < 0)
    if not len(at):
        return None
    share = below[at] / (below[at] - above[at])
    found = prices[at] + share * (prices[at + 1] - prices[at])
    return float(found[np.argmin(np.abs(found - spot))])


def _longer(values: Longs, count: int) -> Longs:
    return np.append(values, np.zeros(max(count - len(values), 0), np.int64))

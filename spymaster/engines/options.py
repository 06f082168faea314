"""What options say at a snap: the board of one session's options and its dealers, and what of both stands in a signal.

Rows of options and of their reference data wait for their snap as all rows do, and move no clock. What bears a time of
before the session is left out, so that one that begins within it has the same bits; an option is known from its first
row of the session on, as every row names its terms.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.engines import fuel, profile
from spymaster.engines.board import Board, Spots
from spymaster.engines.dealer import Dealer, Shares, Strikes, Walls
from spymaster.engines.fuel import Fuel
from spymaster.engines.levels import LevelRows
from spymaster.engines.market import Named
from spymaster.engines.option_rows import option_rows
from spymaster.engines.profile import Kind

_STRIKE: Final = ("gamma_open_interest", "gamma_volume", "gamma_flow", "gamma_flow_open")

Floats = NDArray[np.float64]


class Gamma(NamedTuple):
    """Dealer gamma of one underlying at a snap, in units of the underlying a point of it.

    Attributes:
        strikes: three ways.
        walls: as of the newest look.
        flip: likewise; None where the position has no such price near.
        pressure: by flow in W_g.
        pressure_change: in a minute.
        fuel: of all strikes.
        turn_ns: the newest turn of the flow; None before the first.
        turn: +1 where dealers turned long at it, -1 short.
        looked_ns: when what is open was looked at; None before the first look.
        shares: what the figures rest on.
        refused: options beyond what the board holds.
        unnamed: prints of options that nothing names.
    """

    strikes: Strikes
    walls: Walls
    flip: float | None
    pressure: float
    pressure_change: float
    fuel: Fuel
    turn_ns: int | None
    turn: int | None
    looked_ns: int | None
    shares: Shares
    refused: int
    unnamed: int


class Options:
    """The options of one underlying in one session, a snap after another."""

    def __init__(
        self,
        rules: profile.Options,
        levels: profile.Levels,
        market: profile.Market,
        written_on: str,
        half_days: Container[date],
        begin_ns: int,
    ) -> None:
        """Begin without options.

        Args:
            rules: of the profile.
            levels: likewise; they say which strikes are levels.
            market: likewise.
            written_on: the contract that is judged, or the stock.
            half_days: dates on which options expire early.
            begin_ns: the session's; rows of times before it are left out, as one that begins late has none of them.
        """
        self._board = Board(rules, written_on, half_days)
        self._dealer = Dealer(rules, market.tick)
        self._tick, self._reach, self._begin_ns = market.tick, levels.round_range_ticks, begin_ns
        self._near: tuple[Floats, int, tuple[int, ...]] = (self._board.strikes, 0, ())  # strikes, spot, those near it

    def work(
        self, snap_ns: int, batches: Mapping[str, Sequence[pa.RecordBatch]], spots: Spots, spot: float | None
    ) -> None:
        """Work what a snap has of options.

        Args:
            snap_ns: the snap.
            batches: by schema.
            spots: prices of the underlying since the snap before.
            spot: the mid at the snap, in points or dollars; None where it is not known.
        """
        rows = option_rows(batches, self._begin_ns)
        self._dealer.work(snap_ns, self._board.work(snap_ns, rows, spots), self._board, spot)

    def named(self) -> list[Named]:
        """Return walls and flip, at the tick nearest to them."""
        walls = self._dealer.walls()
        found: tuple[tuple[Kind, float | None], ...] = (
            ("CALL_WALL", walls.call), ("PUT_WALL", walls.put), ("GAMMA_FLIP", self._dealer.flip())
        )  # fmt: skip
        return [Named(kind, round(price / self._tick), False, True) for kind, price in found if price is not None]

    def strikes_near(self, spot: int) -> tuple[int, ...]:
        """Return the strikes of options that are known within the reach of round numbers, in ticks, ascending.

        Args:
            spot: mid in half ticks.
        """
        strikes = self._board.strikes
        if strikes is not self._near[0] or spot != self._near[1]:
            ticks = np.rint(strikes / self._tick)
            near = np.abs(2 * ticks - spot) <= 2 * self._reach
            self._near = strikes, spot, tuple(sorted(ticks[near].astype(np.int64).tolist()))
        return self._near[2]

    def fuel_at(self, levels: LevelRows, rows: NDArray[np.intp]) -> Fuel:
        """Return the fuel of levels."""
        prices = np.multiply(levels.price[rows], self._tick, dtype=np.float64)
        return self._dealer.fuel_at(prices)

    def gamma(self) -> Gamma:
        """Return what there is to know at the newest snap."""
        turn, dealer = self._dealer.turns.newest, self._dealer
        return Gamma(
            dealer.strikes(), dealer.walls(), dealer.flip(), dealer.pressure(), dealer.pressure_change(), dealer.fuel(),
            None if turn is None else turn.snap_ns, None if turn is None else turn.dealers, dealer.looked_ns,
            dealer.shares(), self._board.refused, self._board.unnamed,
        )  # fmt: skip


def of_gamma(gamma: Gamma, snap_ns: int) -> dict[str, Any]:
    """Return the columns of a signal that all levels of a snap have alike."""
    return {
        "call_wall": gamma.walls.call,
        "put_wall": gamma.walls.put,
        "gamma_flip": gamma.flip,
        "dealer_pressure": gamma.pressure,
        "dealer_pressure_change": gamma.pressure_change,
        "flow_turn": gamma.turn,
        "flow_turn_age_ns": None if gamma.turn_ns is None else snap_ns - gamma.turn_ns,
        "gamma_age_ns": None if gamma.looked_ns is None else snap_ns - gamma.looked_ns,
    }


def of_fuel(of_levels: Fuel) -> dict[str, Any]:
    """Return the columns of each level's fuel."""
    return {
        "fuel": [fuel.EFFECTS[effect] for effect in of_levels.effect.tolist()],
        "fuel_net": of_levels.net,
        "fuel_error": of_levels.error,
        "fuel_prints": of_levels.speak,
    }


def of_strikes(strikes: Strikes, prices: Floats) -> dict[str, Any]:
    """Return the columns of dealer gamma at the strike that each level lies on; NaN where it lies on none."""
    figures = (strikes.by_open_interest, strikes.by_volume, strikes.flow, strikes.flow_open)
    if not len(strikes.strike):
        return dict.fromkeys(_STRIKE)
    place = np.minimum(np.searchsorted(strikes.strike, prices), len(strikes.strike) - 1)
    here = strikes.strike[place] == prices
    return {name: np.where(here, column[place], np.nan) for name, column in zip(_STRIKE, figures, strict=True)}

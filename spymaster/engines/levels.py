"""Which prices are levels, and how the market stands to each: in sight, touched, approached, confirmed by others.

A level is known by one id for the session, however its price moves: `VWAP`, `SESSION_HIGH`, `ROUND_6912.50`,
`HOTZONE_<name>`. Levels at one price are one row, led by the steadiest kind (the order of `profile.KINDS`), with the
ids and kinds of all; what each remembers goes on, so that a VWAP that passes a round number is itself again after it.

Distances are whole half ticks, `2 * price - spot`, where `spot` is bid + ask. A level above the mid has direction +1
(a break goes up), below it -1; one exactly at the mid has the side that it had, since the tie belongs to neither.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.engines import profile
from spymaster.engines.market import Named
from spymaster.engines.profile import KINDS, Kind

_MILLI: Final = 1_000  # weights are summed as whole thousandths
_MOST_LEVELS: Final = 4_096  # whose memory is kept; beyond, levels that are not in the universe are forgotten
_MOST_ZONES: Final = 1_000  # the first ones count: more than a screen could show, and less than the memory holds
_HALVES: Final = {  # of the session that a range lies in
    "PM": ("night",), "OVERNIGHT": ("night",), "OR": ("day",), "IB": ("day",), "SESSION": ("night", "day"),
}  # fmt: skip
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}


class Zone(NamedTuple):
    """A hot zone of the user: its name and its price in ticks."""

    name: str
    price: int


class LevelRows(NamedTuple):
    """The universe at a snap, a row for each price, ascending.

    Attributes:
        id: of the leading level.
        ids: of all levels at the price, the leading one first.
        kinds: of the same.
        price: ticks.
        fixed: the leading level will not move any more in this session.
        whole: nothing is missing in the span that the leading level is made of.
        direction: +1 where a break goes up, -1 where it goes down, 0 while it has only been seen at the mid.
        distance: from the mid to the level in half ticks, + is up.
        in_sight: within the monitor band.
        touched: this snap is a touch: the first within the touch band after having been a re-arm distance away.
        touches: touches so far, this one included.
        velocity: of the mid towards the level, ticks a second; NaN while it is not known.
        confluence: other levels nearer than the confluence band; an extreme that ranges share counts once.
        pressure: their weights, less the farther, as a share of the profile's full one, at most 1.
    """

    id: tuple[str, ...]
    ids: tuple[tuple[str, ...], ...]
    kinds: tuple[tuple[Kind, ...], ...]
    price: NDArray[np.int32]
    fixed: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    direction: NDArray[np.int8]
    distance: NDArray[np.int64]
    in_sight: NDArray[np.bool_]
    touched: NDArray[np.bool_]
    touches: NDArray[np.int32]
    velocity: NDArray[np.float64]
    confluence: NDArray[np.int32]
    pressure: NDArray[np.float64]


class _Level(NamedTuple):
    price: int
    rank: int
    id: str
    kind: Kind
    fixed: bool
    whole: bool


class _Universe(NamedTuple):
    """What follows from the levels alone, and is made anew only when one of them changes."""

    levels: tuple[_Level, ...]  # by price, the leading one first
    slots: NDArray[np.intp]  # of the memory, per level
    prices: NDArray[np.int64]  # per level
    leads: NDArray[np.intp]  # per row: the place of its leading level
    id: tuple[str, ...]
    ids: tuple[tuple[str, ...], ...]
    kinds: tuple[tuple[Kind, ...], ...]
    fixed: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    confluence: NDArray[np.int32]
    pressure: NDArray[np.float64]


def _repeats(levels: Sequence[_Level]) -> NDArray[np.bool_]:
    """Return which levels have their price from the very print of another one: the extreme of a range within a range.

    Until the regular hours OVERNIGHT_HIGH is SESSION_HIGH, and nothing confirms anything.
    """
    inner: set[tuple[int, str, str]] = set()
    found = []
    for level in levels:  # at one price the inner ranges come first
        stem, _, end = level.kind.rpartition("_")
        within = [(level.price, end, half) for half in _HALVES.get(stem, ())]
        found.append(any(place in inner for place in within))
        inner.update(within)
    return np.array(found, np.bool_)


class Levels:
    """One session's levels, snap by snap. Touches are counted from the session's begin."""

    def __init__(self, rules: profile.Levels, tick: float) -> None:
        self._rules = rules
        self._tick = tick
        self._decimals = len(f"{tick:f}".rstrip("0").partition(".")[2])
        self._weights = {kind: round(weight * _MILLI) for kind, weight in rules.weights.items()}
        self._rounds: tuple[tuple[int, int], list[_Level]] = ((0, 0), [])  # between which multiples, and they
        self._slots: dict[str, int] = {}
        self._free = list(range(_MOST_LEVELS))
        self._armed = np.zeros(_MOST_LEVELS, np.bool_)
        self._touches = np.zeros(_MOST_LEVELS, np.int32)
        self._direction = np.zeros(_MOST_LEVELS, np.int8)
        self._asked: tuple[Sequence[Named], Sequence[Zone], Sequence[int], Sequence[_Level]] = ((), (), (), ())
        self._universe = self._made(())

    def snap(
        self,
        named: Sequence[Named],
        zones: Sequence[Zone],
        spot: int,
        velocity: float | None,
        strikes: Sequence[int] = (),
    ) -> LevelRows:
        """Return the universe and work one snap into what each level remembers.

        Args:
            named: the session's prices.
            zones: the user's, each name once.
            spot: mid in half ticks.
            velocity: of the mid, ticks a second, + is up; None while it is not known.
            strikes: of options near the mid, in ticks.
        """
        asked = (tuple(named), tuple(zones), tuple(strikes), self._round(spot))
        if asked != self._asked:
            self._asked = asked
            levels = tuple(sorted([*self._named(named), *self._zones(zones), *self._strikes(strikes), *asked[-1]]))
            if levels != self._universe.levels:
                self._universe = self._made(levels)
        universe, rules = self._universe, self._rules
        gap = 2 * universe.prices - spot
        far = np.abs(gap)
        slots = universe.slots
        direction = np.where(gap == 0, self._direction[slots], np.sign(gap)).astype(np.int8)
        touched = self._armed[slots] & (far <= 2 * rules.touch_band_ticks)
        self._direction[slots] = direction
        self._armed[slots] = (self._armed[slots] & ~touched) | (far >= 2 * rules.rearm_ticks)
        self._touches[slots] += touched
        lead = universe.leads
        speed = np.nan if velocity is None else velocity
        return LevelRows(
            id=universe.id,
            ids=universe.ids,
            kinds=universe.kinds,
            price=universe.prices[lead].astype(np.int32),
            fixed=universe.fixed,
            whole=universe.whole,
            direction=direction[lead],
            distance=gap[lead],
            in_sight=far[lead] <= 2 * rules.monitor_band_ticks,
            touched=touched[lead],
            touches=self._touches[slots[lead]],
            velocity=np.multiply(direction[lead], speed, dtype=np.float64) + 0.0,  # no minus zero
            confluence=universe.confluence,
            pressure=universe.pressure,
        )

    def _named(self, named: Sequence[Named]) -> list[_Level]:
        return [_Level(price, _RANK[kind], kind, kind, fixed, whole) for kind, price, fixed, whole in named]

    def _zones(self, zones: Sequence[Zone]) -> list[_Level]:
        kind: Kind = "USER_HOTZONE"
        return [_Level(price, _RANK[kind], f"HOTZONE_{name}", kind, True, True) for name, price in zones[:_MOST_ZONES]]

    def _strikes(self, prices: Sequence[int]) -> list[_Level]:
        kind: Kind = "STRIKE"
        return [_Level(price, _RANK[kind], f"STRIKE_{self.shown(price)}", kind, True, True) for price in prices]

    def _round(self, spot: int) -> list[_Level]:
        """Every multiple of the spacing within the range, its ends included."""
        spacing, reach = self._rules.round_spacing_ticks, 2 * self._rules.round_range_ticks
        between = -((reach - spot) // (2 * spacing)), (spot + reach) // (2 * spacing) + 1
        if between != self._rounds[0]:
            kind: Kind = "ROUND"
            prices = [multiple * spacing for multiple in range(*between)]
            rows = [_Level(price, _RANK[kind], f"ROUND_{self.shown(price)}", kind, True, True) for price in prices]
            self._rounds = (between, rows)
        return self._rounds[1]

    def shown(self, price: int) -> str:
        """Return a price in ticks as ids have it."""
        return f"{price * self._tick:.{self._decimals}f}"

    def _made(self, levels: tuple[_Level, ...]) -> _Universe:
        prices = np.array([level.price for level in levels], np.int64)
        leads = np.flatnonzero(np.diff(prices, prepend=prices[:1] - 1))
        rows = [tuple(row) for _, row in groupby(levels, key=lambda level: level.price)]
        confluence, pressure = self._confluence(levels, prices, leads)
        return _Universe(
            levels=levels,
            slots=self._slots_of(levels),
            prices=prices,
            leads=leads,
            id=tuple(row[0].id for row in rows),
            ids=tuple(tuple(level.id for level in row) for row in rows),
            kinds=tuple(tuple(level.kind for level in row) for row in rows),
            fixed=np.array([row[0].fixed for row in rows], np.bool_),
            whole=np.array([row[0].whole for row in rows], np.bool_),
            confluence=confluence,
            pressure=pressure,
        )

    def _confluence(
        self, levels: tuple[_Level, ...], prices: NDArray[np.int64], leads: NDArray[np.intp]
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Weight times nearness, in thousandths times ticks: whole numbers, whose sum has no order."""
        band = self._rules.confluence_band_ticks
        counts = ~_repeats(levels)
        weights = np.array([self._weights[level.kind] for level in levels], np.int64) * counts
        nearness = np.maximum(band - np.abs(prices[leads, None] - prices), 0)
        near = ((nearness > 0) & counts).sum(axis=1) - 1  # less the leading level itself, which never repeats
        pressed = nearness @ weights - band * weights[leads]
        full = band * round(self._rules.confluence_full * _MILLI)
        return near.astype(np.int32), np.minimum(pressed, full) / full

    def _slots_of(self, levels: tuple[_Level, ...]) -> NDArray[np.intp]:
        unseen = {level.id for level in levels} - self._slots.keys()
        if len(unseen) > len(self._free):
            self._forget(self._slots.keys() - {level.id for level in levels})
        for name in sorted(unseen):
            self._slots[name] = self._free.pop()
        return np.array([self._slots[level.id] for level in levels], np.intp)

    def _forget(self, names: set[str]) -> None:
        slots = [self._slots.pop(name) for name in names]
        self._armed[slots], self._touches[slots], self._direction[slots] = False, 0, 0
        self._free += slots

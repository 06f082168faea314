"""Touches of levels at random prices: what a level that means nothing holds and breaks, beside those that are judged.

One lies between each two round ones, at a price that session and place decide and nothing else, so that it is the same
in every build. The live universe has none of them: they would be in the way of runways and confluence. They are touched
by the rule of every level (`engines/levels.py`), with a memory of their own.
"""

import hashlib
from typing import Final

import numpy as np

from spymaster.engines.levels import LevelRows, Levels, Zone
from spymaster.engines.profile import Profile
from spymaster.engines.snap import Snap

KIND: Final = "RANDOM"
_PREFIX: Final = "HOTZONE_"


class Control:
    """One session's random levels, a snap after another."""

    def __init__(self, profile: Profile, date: str) -> None:
        self._rules, self._tick = profile.levels, profile.market.tick
        self._levels = Levels(profile.levels, profile.market.tick)
        self._seed = f"{profile.name} {date}"
        self._zones: tuple[tuple[int, int], list[Zone]] = ((0, 0), [])

    def touched(self, snap: Snap) -> list[dict[str, object]]:
        """Return the touches of a snap: the columns that say which level, and how it stands to the mid."""
        state = snap.market
        if state.spot is None:
            return []
        rows = self._levels.snap((), self._near(state.spot), state.spot, state.velocity)
        places = np.flatnonzero(rows.touched).tolist()
        return [self._row(rows, place) for place in places if rows.id[place].startswith(_PREFIX)]

    def _row(self, rows: LevelRows, place: int) -> dict[str, object]:
        name = f"{KIND}_{self._levels.shown(int(rows.price[place]))}"
        return {
            "id": name,
            "ids": [name],
            "kinds": [KIND],
            "price": float(rows.price[place] * self._tick),
            "direction": int(rows.direction[place]),
            "distance_ticks": float(rows.distance[place] / 2),
            "touches": int(rows.touches[place]),
        }

    def _near(self, spot: int) -> list[Zone]:
        """Return the random levels in the cells between round ones that are in range of a mid in half ticks."""
        spacing, reach = self._rules.round_spacing_ticks, self._rules.round_range_ticks
        between = (spot // 2 - reach) // spacing, (spot // 2 + reach) // spacing + 1
        if between != self._zones[0]:
            prices = [cell * spacing + self._offset(cell) for cell in range(*between)]
            self._zones = between, [Zone(str(price), price) for price in prices]
        return self._zones[1]

    def _offset(self, cell: int) -> int:
        """Return where in its cell a level lies, in ticks: any place but the round one."""
        drawn = int.from_bytes(hashlib.sha256(f"{self._seed} {cell}".encode()).digest()[:8], "big")
        return 1 + drawn % (self._rules.round_spacing_ticks - 1)

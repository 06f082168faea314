"""What can be planted in the simulated market, and when: the ground truth for whoever claims to find it.

Time is cut into slots of twenty seconds; each slot holds one scenario, the kinds in turn. When, in which direction and
how large is a pure function of the seed and the slot. A scenario that would touch UTC midnight is left out.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.errors import UsageError

SLOT_NS: Final = 20 * NS_PER_SECOND
_FIRST_NS: Final = 4 * NS_PER_SECOND  # from the slot's begin
_JITTER_NS: Final = 2 * NS_PER_SECOND
_MS: Final = 1_000_000
# How long each lasts. What a user writes is the key; the truth names the kind as below.
LASTS_NS: Final = {
    "walls": 8_000 * _MS,
    "vacuums": 8_000 * _MS,
    "absorption": 6_000 * _MS,
    "sweeps": 5 * _MS,
    "gamma": 12_000 * _MS,
    "breaks": 12_000 * _MS,
    "rejections": 12_000 * _MS,
    "late": 3_000 * _MS,
    "repeats": 2_000 * _MS,
    "halts": 5_000 * _MS,
    "crossed": 1_000 * _MS,
    "jumps": 20 * _MS,
}
KIND_OF: Final = {
    "walls": "wall", "vacuums": "vacuum", "absorption": "absorption", "sweeps": "sweep", "gamma": "gamma_flip",
    "breaks": "break", "rejections": "reject", "late": "late", "repeats": "repeat", "halts": "halt",
    "crossed": "crossed", "jumps": "jump",
}  # fmt: skip

CLASSIC: Final = "classic"  # the word that chooses the market as it first was

Truth = dict[str, Any]


class Scenario(NamedTuple):
    """One planted thing. `rising` chooses the side or the direction, `luck` the rest."""

    kind: str
    begin_ns: int
    end_ns: int
    rising: bool
    luck: int


def parse_plant(text: str) -> tuple[str, ...]:
    """Read `all` or kinds joined by `+`, and `classic` beside them or alone.

    Returns:
        `classic` first, where it is asked for, then the kinds in the order of `LASTS_NS`.

    Raises:
        UsageError: a word is not known or given twice.
    """
    words = text.split("+")
    asked = [word for word in words if word != CLASSIC]
    asked = list(LASTS_NS) if asked == ["all"] else asked
    if not set(asked) <= set(LASTS_NS) or len(set(asked)) < len(asked) or words.count(CLASSIC) > 1:
        raise UsageError(f"sim: plant={text!r} is not all, nor of {'+'.join(LASTS_NS)}. Next: plant=walls+sweeps, say")
    return tuple(kind for kind in (CLASSIC, *LASTS_NS) if kind in asked or (kind == CLASSIC and CLASSIC in words))


class Plan:
    """The scenarios of a market."""

    def __init__(self, seed: int, start_ns: int, kinds: tuple[str, ...]) -> None:
        self._seed, self._start = seed, start_ns
        self._kinds = tuple(kind for kind in kinds if kind != CLASSIC)
        self._slot = -1
        self._current: Scenario | None = None

    def at(self, now: int) -> Scenario | None:
        """Return the scenario that begins at or after `now`, or is going on then, in the slot of `now`."""
        if not self._kinds:
            return None
        slot = (now - self._start) // SLOT_NS
        if slot != self._slot:
            self._slot, self._current = slot, self._scenario(slot)
        return self._current

    def _scenario(self, slot: int) -> Scenario | None:
        asked = self._kinds[(slot + self._seed) % len(self._kinds)]
        draws = np.random.PCG64(np.random.SeedSequence((self._seed, slot, 5))).random_raw(2)
        begin = self._start + slot * SLOT_NS + _FIRST_NS + int(draws[0] >> np.uint64(33)) % _JITTER_NS
        end = begin + LASTS_NS[asked]
        if begin // NS_PER_DAY != (end + NS_PER_SECOND) // NS_PER_DAY:
            return None
        return Scenario(KIND_OF[asked], begin, end, bool(draws[1] & np.uint64(1)), int(draws[1] >> np.uint64(40)))

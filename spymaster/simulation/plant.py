"""What can be planted in the simulated market, and when: the ground truth for whoever claims to find it.

Kinds, sides and how long nothing is planted between two scenarios are drawn, a pure function of the seed and the
scenario's number. A scenario that would touch UTC midnight is left out.
"""

import re
from typing import Any, Final, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.errors import UsageError

FIRST_NS: Final = 4 * NS_PER_SECOND  # from the market's begin
JITTER_NS: Final = 2 * NS_PER_SECOND
_LEAST_GAP_NS, _GAP_NS = 8 * NS_PER_SECOND, 24 * NS_PER_SECOND  # between the end of one and the begin of the next
_MS: Final = 1_000_000
# How long each lasts. What a user writes is the key; the truth names the kind as below.
LASTS_NS: Final = {
    "walls": 8_000 * _MS,
    "vacuums": 8_000 * _MS,
    "absorption": 6_000 * _MS,
    "sweeps": 5 * _MS,
    "gamma": 12_000 * _MS,
    "turns": 12_000 * _MS,
    "breaks": 12_000 * _MS,
    "rejections": 12_000 * _MS,
    "late": 3_000 * _MS,
    "repeats": 2_000 * _MS,
    "halts": 5_000 * _MS,
    "crossed": 1_000 * _MS,
    "jumps": 20 * _MS,
}
KIND_OF: Final = {
    "walls": "wall", "vacuums": "vacuum", "absorption": "absorption", "sweeps": "sweep", "turns": "flow_turn",
    "breaks": "break", "rejections": "reject", "late": "late", "repeats": "repeat", "halts": "halt",
    "crossed": "crossed", "jumps": "jump",
}  # fmt: skip
CLASSIC: Final = "classic"  # the word that chooses the market as it first was, in which `turns` are `gamma`
CONTESTS: Final = "contests"  # the word that plants those of `contests.py`, and stands alone
_CLASSIC_KINDS: Final = tuple(kind for kind in LASTS_NS if kind != "turns")
MOVES_PER_MINUTE: Final = {"usual": 90, "calm": 15}  # of the front month's price by one tick, in normal activity
USUAL_PRICE: Final = "usual"

Truth = dict[str, Any]


class Scenario(NamedTuple):
    """One planted thing. `rising` chooses the side or the direction, `luck` the rest."""

    kind: str
    begin_ns: int
    end_ns: int
    rising: bool
    luck: int

    @property
    def edges(self) -> tuple[int, ...]:
        """Where a step of the market ends."""
        return self.begin_ns, (self.begin_ns + self.end_ns) // 2, self.end_ns


def parse_plant(text: str) -> tuple[str, ...]:
    """Read `all` or kinds joined by `+`, and `classic` beside them or alone; or `contests` alone.

    Returns:
        `classic` first, where it is asked for, then the kinds in the order of `LASTS_NS`.

    Raises:
        UsageError: a word is not known or given twice.
    """
    words = text.split("+")
    if words == [CONTESTS]:
        return (CONTESTS,)
    if CONTESTS in words:
        raise UsageError(f"sim: plant={text!r}: contests are planted alone, or others touch them. Next: plant=contests")
    known = _CLASSIC_KINDS if CLASSIC in words else tuple(KIND_OF)
    asked = [word for word in words if word != CLASSIC]
    asked = list(known) if asked == ["all"] else asked
    if not set(asked) <= set(known) or len(set(asked)) < len(asked) or words.count(CLASSIC) > 1:
        raise UsageError(
            f"sim: plant={text!r} is not all, {CONTESTS}, nor of {'+'.join(known)}. Next: plant=walls+sweeps, say"
        )
    return (*(CLASSIC,) * words.count(CLASSIC), *(kind for kind in known if kind in asked))


def parse_strength(text: str, plant: tuple[str, ...]) -> float:
    """Read by what to multiply what is planted, such as 0.5.

    Raises:
        UsageError: it is not more than 0 and up to 1, or there is nothing to multiply.
    """
    if not re.fullmatch(r"[0-9]{0,9}(\.[0-9]{1,9})?", text, re.ASCII) or not text or not 0 < float(text) <= 1:
        raise UsageError(f"sim: strength={text!r} is not more than 0 and up to 1. Next: strength=0.5, say")
    if not plant or CLASSIC in plant:
        raise UsageError("sim: strength is of what is planted, and not in plant=classic. Next: plant=all,strength=0.5")
    return float(text)


def parse_price(text: str) -> str:
    """Read how often the price moves.

    Raises:
        UsageError: it is neither usual nor calm.
    """
    if text not in MOVES_PER_MINUTE:
        raise UsageError(f"sim: price={text!r} is not {' or '.join(MOVES_PER_MINUTE)}. Next: price=calm, say")
    return text


class Plan:
    """The scenarios of a market, one after another."""

    def __init__(self, seed: int, start_ns: int, kinds: tuple[str, ...]) -> None:
        self._seed, self._kinds = seed, kinds
        self._number = 0
        self._current = self._scenario(start_ns + FIRST_NS)

    def at(self, now: int) -> Scenario | None:
        """Return the scenario that is going on at `now`, or the next one; `now` never goes back."""
        while self._current is not None and now >= self._current.end_ns:
            self._number += 1
            self._current = self._scenario(self._current.end_ns + _LEAST_GAP_NS)
        return self._current

    def _scenario(self, earliest: int) -> Scenario | None:
        if not self._kinds:
            return None
        while True:
            raw = np.random.PCG64(np.random.SeedSequence((self._seed, self._number, 5))).random_raw(3)
            chosen, spaced, luck = (int(draw) for draw in raw)
            asked = self._kinds[(chosen >> 33) % len(self._kinds)]
            begin = earliest + (spaced >> 24) % (_GAP_NS if self._number else JITTER_NS)
            end = begin + LASTS_NS[asked]
            if begin // NS_PER_DAY == (end + NS_PER_SECOND) // NS_PER_DAY:
                return Scenario(KIND_OF[asked], begin, end, bool(luck & 1), luck >> 40)
            self._number, earliest = self._number + 1, end

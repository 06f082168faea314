"""What shows of a contest before its decision, measured in the book and the prints as they are sent."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.book import LEVEL, Tape
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.held import ASK
from spymaster.simulation.options import OptionTrades

_NOTHING = 1 << 60


class Approach:
    """Measures a contest from its begin to its decision.

    Args:
        level: in ticks.
        usual: sizes of the level's side by depth, in lots.
        span: begin and decision.

    Attributes:
        arrival_ns: when the level became a touch.
    """

    def __init__(self, level: int, side: int, usual: NDArray[np.int64], span: tuple[int, int]) -> None:
        self._level, self._side, self._usual = level, side, np.maximum(usual, 1)
        self._begin, self._decision = span
        self.arrival_ns: int | None = None
        self._clock, self._in_sight, self._visible_ns = self._begin, False, 0
        self._least, self._greatest = _NOTHING, 0.0
        self._lots = [0, 0]
        self._flows = {"ES": [0, 0], "SPY": [0, 0]}

    def watch(self, tape: Tape) -> None:
        """Measure what the front month's book shows, a tape after another in order of time."""
        if not len(tape.arrival_ns):
            return
        books = tape.levels[tape.after].view(LEVEL)
        name, way = ("ask", 1) if self._side == ASK else ("bid", -1)
        behind = (books[f"{name}_px"] // OUTRIGHT_TICK_E9 - self._level) * way
        sizes = books[f"{name}_sz"].astype(np.int64)
        here, outward = behind == 0, behind >= 0
        seen = here.any(axis=1)
        self._least = min(self._least, int(sizes[here].min(initial=self._least)))
        settled = seen & (tape.arrival_ns >= self._begin + NS_PER_SECOND)
        shares = (sizes * outward).sum(axis=1)[settled] / (self._usual * outward).sum(axis=1)[settled]
        self._greatest = max(self._greatest, float(shares.max(initial=0)))
        for side in (0, 1):
            self._lots[side] += int(tape.traded[tape.side == side].sum())
        arrived = np.flatnonzero(here[:, 0])
        if self.arrival_ns is None and len(arrived):
            self.arrival_ns = int(tape.arrival_ns[arrived[0]])
        spans = np.diff(np.concatenate([[self._clock], tape.arrival_ns]))
        self._visible_ns += int(spans[np.concatenate([[self._in_sight], seen[:-1]])].sum())
        self._clock, self._in_sight = int(tape.arrival_ns[-1]), bool(seen[-1])

    def watch_flow(self, underlying: str, trades: OptionTrades) -> None:
        """Measure on whose side the options of an underlying trade."""
        self._flows[underlying][0] += int(trades.side.sum())
        self._flows[underlying][1] += len(trades.side)

    def told(self, state: str, shows: tuple[str, ...]) -> dict[str, Any]:
        """Return the arrival, the share of the time in which the level was in sight, and how strong each evidence is.

        A wall's is its least size as a multiple of the usual one of any depth. What is pulled: the greatest share of
        what is usual there that was left after the first second. Aggression: the share of lots that were traded by its
        side. Gamma: by how much customers on its side outnumber the others, of all prints. None where it is not
        planted, or nothing traded.
        """
        lots, towards = sum(self._lots), self._lots[self._side]
        strength: dict[str, float | None] = dict.fromkeys(("defence", "aggression", "gamma_es", "gamma_spy"))
        if "defence" in shows and self._least != _NOTHING:
            strength["defence"] = self._least / int(self._usual.max()) if state == "hold" else self._greatest
        if "aggression" in shows and lots:
            strength["aggression"] = (towards if state == "go" else lots - towards) / lots
        for underlying, (net, count) in self._flows.items():
            if "gamma" in shows and count:
                strength[f"gamma_{underlying.lower()}"] = (net if state == "go" else -net) / count
        visible = (self._visible_ns + (self._decision - self._clock) * self._in_sight) / (self._decision - self._begin)
        return {
            "arrival_ns": self.arrival_ns,
            "visible": round(visible, 3),
            "strength": {name: value if value is None else round(value, 4) for name, value in strength.items()},
            "usual_size": int(self._usual.max()),
        }


def best_bids(tape: Tape) -> NDArray[np.int64]:
    """Return the best bid after each event, in ticks."""
    bid: NDArray[np.int64] = tape.levels[tape.after].view(LEVEL)["bid_px"][:, 0] // OUTRIGHT_TICK_E9
    return bid

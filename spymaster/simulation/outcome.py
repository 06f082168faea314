"""What came of a planted scenario, measured in what the market shows: the truth about it, or nothing."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.book import LEVEL, Tape
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.held import ASK
from spymaster.simulation.options import Board, OptionTrades
from spymaster.simulation.plant import Scenario, Truth

COMES_OFF: Final = 0.8  # of what was asked, or it is not told
VISIBLE: Final = 0.5  # of its time
_SIDED = ("wall", "vacuum", "absorption", "sweep", "break", "reject", "jump")
_OF_MARKET = ("halt", "late", "repeat")


class Place(NamedTuple):
    """Where a scenario is played, in ticks: the prices `nearest` to `farthest`, of which `level` is what is told."""

    side: int
    level: int
    nearest: int
    farthest: int


class Outcome:
    """Measures one scenario while it is played."""

    def __init__(self, scenario: Scenario, place: Place, usual_size: int, usual_depth: int) -> None:
        self._scenario, self._kind, self._place = scenario, scenario.kind, place
        self._usual_size, self._usual_depth = max(usual_size, 1), max(usual_depth, 1)
        self._clock, self._in_sight, self._visible_ns = scenario.begin_ns, True, 0
        self._least, self._greatest = 1 << 60, 0
        self._eaten = 0
        self._prices: set[int] = set()
        self._late = [0, 0]
        self._flows = {"SPY": _Flow(scenario), "ES": _Flow(scenario)}

    def watch(self, tape: Tape) -> None:
        """Measure what the front month's book shows, a tape after another in order of time."""
        if not len(tape.arrival_ns):
            return
        sizes, seen = self._sizes_in_sight(tape)
        begun = tape.arrival_ns >= self._scenario.begin_ns + NS_PER_SECOND
        self._least = min(self._least, int(sizes[seen].min(initial=self._least)))
        self._greatest = max(self._greatest, int(sizes[seen & begun].max(initial=0)))
        here = (tape.side == self._place.side) & (tape.price_e9 == self._place.level * OUTRIGHT_TICK_E9)
        self._eaten += int(tape.traded[here].sum())
        if self._kind in ("sweep", "jump"):
            self._prices.update(tape.price_e9[tape.traded > 0].tolist())
        times = np.concatenate([[self._clock], tape.arrival_ns])
        spans = np.diff(np.maximum(times, self._clock))
        self._visible_ns += int(spans[np.concatenate([[self._in_sight], seen[:-1]])].sum())
        self._clock, self._in_sight = int(times[-1]), bool(seen[-1])

    def _sizes_in_sight(self, tape: Tape) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the size at the scenario's price, or of a vacuum on its side, after each event, and if it shows."""
        books = tape.levels[tape.after].view(LEVEL)
        names = ("ask", "bid") if self._place.side == ASK else ("bid", "ask")
        prices: list[NDArray[np.int64]] = [books[f"{name}_px"] // OUTRIGHT_TICK_E9 for name in names]
        sizes: NDArray[np.int64] = books[f"{names[0]}_sz"].astype(np.int64)
        if self._kind == "vacuum":
            lowest, highest = sorted((self._place.nearest, self._place.farthest))
            return sizes.sum(axis=1), np.all((prices[0] >= lowest) & (prices[0] <= highest), axis=1)
        at = np.equal(prices[0], self._place.level)
        seen = np.any(at, axis=1)
        if self._kind in ("break", "reject"):  # it is the other side's once it is broken
            seen |= np.any(np.equal(prices[1], self._place.level), axis=1)
        return (sizes * at).sum(axis=1), seen

    def count_late(self, tape: Tape) -> None:
        """Measure how many of the front month's events come late."""
        self._late[0] += int((tape.late_ns > 0).sum())
        self._late[1] += len(tape.late_ns)

    def watch_flow(self, underlying: str, trades: OptionTrades) -> None:
        """Measure on whose side the options of an underlying, SPY or ES, trade."""
        self._flows[underlying].add(trades)

    def truths(self, contract: str, boards: dict[str, Board], asked: float, moved: int) -> list[Truth]:
        """Return what is told: nothing, where too little came off.

        Args:
            contract: the front month's symbol.
            boards: the options of SPY and of ES.
            asked: how strong the scenario should be, in the units of its strength.
            moved: by how many ticks the front month's price is beyond the scenario's level.
        """
        if self._kind == "flow_turn":
            flows = {name: self._flows[name].least for name in boards}
            turned = [name for name, strength in flows.items() if strength >= COMES_OFF * asked]
            return [self._told(*_turn(self._scenario, boards[name], flows[name])) for name in turned]
        strength, detail = self._strength(asked, moved)
        lasted = self._scenario.end_ns - self._scenario.begin_ns
        seen_ns = self._visible_ns + (self._scenario.end_ns - self._clock) * self._in_sight
        visible = seen_ns / lasted if self._kind in ("wall", "vacuum", "absorption", "break", "reject") else 1.0
        came_off = 1 - strength >= COMES_OFF * (1 - asked) if self._kind == "vacuum" else strength >= COMES_OFF * asked
        if not strength or not came_off or visible < VISIBLE:  # 0 is what a market too slow for an event shows
            return []
        return [self._told("ALL" if self._kind in _OF_MARKET else contract, strength, visible, detail)]

    def _strength(self, asked: float, moved: int) -> tuple[float, dict[str, Any]]:
        """Return how strong it came out, and what else is told."""
        detail: dict[str, Any] = {"usual_size": self._usual_size}
        match self._kind:
            case "wall":
                strength, detail = self._least / self._usual_size, {"least_size": self._least, **detail}
            case "vacuum":
                edges = [price * OUTRIGHT_TICK_E9 / 1e9 for price in (self._place.nearest, self._place.farthest)]
                strength = self._greatest / self._usual_depth
                detail = {"greatest_depth": self._greatest, "usual_depth": self._usual_depth, "prices": edges}
            case "absorption":
                strength, detail = self._eaten / self._usual_size, {"eaten": self._eaten, **detail}
            case "sweep" | "jump":
                strength, detail = (
                    len(self._prices),
                    {"ticks": len(self._prices) * (1 if self._scenario.rising else -1)},
                )
            case "break" | "reject":
                strength, detail = moved if self._kind == "break" else -moved, {"beyond_ticks": moved}
            case "crossed":
                strength, detail = asked, {"ticks": round(asked), "also": "SPY"}
            case "late":
                strength, detail = self._late[0] / max(self._late[1], 1), {}
            case _:
                strength, detail = asked, {}
        return strength, detail

    def _told(self, instrument: str, strength: float, visible: float, detail: dict[str, Any]) -> Truth:
        nowhere = self._kind in _OF_MARKET or self._kind == "flow_turn"
        return {
            "kind": self._kind,
            "begin_ns": self._scenario.begin_ns,
            "end_ns": self._scenario.end_ns,
            "instrument": instrument,
            "price": None if nowhere else self._place.level * OUTRIGHT_TICK_E9 / 1e9,
            "side": ("ask" if self._place.side == ASK else "bid") if self._kind in _SIDED else None,
            "strength": round(strength, 4),
            "visible": round(visible, 3),
            **detail,
        }


class _Flow:
    """How one-sided the option trades of each half of a scenario are."""

    def __init__(self, scenario: Scenario) -> None:
        self._middle = (scenario.begin_ns + scenario.end_ns) // 2
        self._first_way = -1 if scenario.rising else 1
        self._net, self._count = [0, 0], [0, 0]

    def add(self, trades: OptionTrades) -> None:
        later = trades.arrival_ns >= self._middle
        for half, within in enumerate((~later, later)):
            self._net[half] += int(trades.side[within].sum())
            self._count[half] += int(within.sum())

    @property
    def least(self) -> float:
        """By how much, of all its trades, customers' in the planted direction outnumber the others in either half."""
        ways = (self._first_way, -self._first_way)
        return min(way * net / max(count, 1) for way, net, count in zip(ways, self._net, self._count, strict=True))


def _turn(scenario: Scenario, board: Board, strength: float) -> tuple[str, float, float, dict[str, Any]]:
    """Return of a turn what is written on the options that trade, how strong it is, its visible share, and the rest."""
    middle = (scenario.begin_ns + scenario.end_ns) // 2
    before, after = ("long", "short") if scenario.rising else ("short", "long")
    first = min((one for one in board.series if one.expiration_ns > middle), key=lambda one: one.expiration_ns)
    detail = {
        "turn_ns": middle, "dealers_before": before, "dealers_after": after, "expiration_ns": first.expiration_ns,
    }  # fmt: skip
    return first.written_on, strength, 1.0, detail

"""The scenes of `plant=classic`, as the market first planted them: a market keeps the bytes of its seed."""

from spymaster.simulation.book import ASK, BID, DEPTH, Book, Hold, Planted, Tape
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.options import Board
from spymaster.simulation.plant import Scenario, Truth

_LEVEL_TICKS, _BEYOND_TICKS = 6, 6  # how far a level to break or reject lies from the touch, and how far it goes on
_WALL_LOTS, _WALL_FLOOR, _WALL_DEPTH = 500, 460, 3
TICKS_AT_ONCE = {"sweep": 5, "jump": 24}
LATE_NS = 400_000_000
CROSSED_TICKS = 3


class Scene:
    """A scenario that is being played in the front month's book."""

    def __init__(self, scenario: Scenario, book: Book, contract: str) -> None:
        self.scenario, self.kind = scenario, scenario.kind
        self._book, self._contract = book, contract
        self.bid_at_begin = book.bid
        self.planted = Planted()
        self.burst = TICKS_AT_ONCE.get(scenario.kind, 0)
        self.leads = scenario.kind in ("break", "reject")
        up = scenario.rising
        self.side = ASK if up else BID
        touch = book.bid + 1 if up else book.bid
        away = 1 if up else -1
        self.level = touch + away * (_LEVEL_TICKS if self.leads else 0)
        if self.kind == "wall":
            self.level = touch + away * _WALL_DEPTH
            self.planted = Planted(hold=Hold(self.side, self.level, 2, _WALL_FLOOR))
        elif self.kind == "vacuum":
            self.planted = Planted(thin=self.side)
        elif self.kind == "absorption":
            self.planted = Planted(hit=self.side)
        elif self.kind == "crossed":
            self.planted = Planted(crossed=CROSSED_TICKS)

    def raise_wall(self, now: int) -> Tape:
        return self._book.force(now, self.side, _WALL_DEPTH, 1, _WALL_LOTS - 1)

    def lower_wall(self, now: int) -> list[Tape]:
        """Take the wall away, if it is still in sight."""
        touch = self._book.bid + (self.side == ASK)
        depth = (self.level - touch) * (1 if self.side == ASK else -1)
        if self.kind != "wall" or not 0 <= depth < DEPTH:
            return []
        orders, extra = self._book.level(self.side, depth)
        if orders < 2 or extra < _WALL_FLOOR:
            return []
        return [self._book.force(now, self.side, depth, -1, 1 - _WALL_FLOOR)]

    def forbids(self, side: int, bid: int) -> bool:
        """Return whether the touch of `side` must not be taken now."""
        if self.kind in ("absorption", "crossed"):
            return True
        if self.kind == "vacuum":
            return side == self.side
        return self.kind == "wall" and side == self.side and bid + (side == ASK) == self.level

    def target(self, bid: int, now: int) -> int | None:
        """Return how far the price is from where it should be at `now`; None where it is free."""
        if not self.leads:
            return None
        begin, end = self.scenario.begin_ns, self.scenario.end_ns
        done = (now - begin) * 1_000 // (end - begin)
        way = 1 if self.scenario.rising else -1
        at_level = self.level - (1 if self.scenario.rising else 0)  # the bid while the level is a touch
        if done < 350:
            goal = self.bid_at_begin + (at_level - self.bid_at_begin) * done // 350
        elif done < 500:
            goal = at_level
        else:
            beyond = min((done - 500) * _BEYOND_TICKS // 200, _BEYOND_TICKS)
            goal = at_level + way * (beyond + 1 if self.kind == "break" else -beyond)
        return goal - bid

    def truth(self, spy: Board) -> Truth | None:
        """Return what was planted, or None if the market was too slow for it to come off."""
        moved = self._book.bid - self.bid_at_begin
        way = 1 if self.scenario.rising else -1
        at_level = self.level - (1 if self.scenario.rising else 0)
        detail: dict[str, object] = {}
        match self.kind:
            case "wall":
                detail = {"least_size": _WALL_FLOOR + 1}
            case "break" | "reject":
                beyond = (self._book.bid - at_level) * way
                detail = {"beyond_ticks": beyond}
                if (beyond < _BEYOND_TICKS) if self.kind == "break" else (beyond > -_BEYOND_TICKS):
                    return None
            case "sweep" | "jump":
                detail = {"ticks": moved}
            case "crossed":
                detail = {"ticks": CROSSED_TICKS, "also": "SPY"}
            case "late":
                detail = {"late_ns": LATE_NS}
            case "gamma_flip":
                middle = (self.scenario.begin_ns + self.scenario.end_ns) // 2
                before, after = ("long", "short") if self.scenario.rising else ("short", "long")
                detail = {
                    "flip_ns": middle, "dealers_before": before, "dealers_after": after,
                    "expiration_ns": min(one.expiration_ns for one in spy.series if one.expiration_ns > middle),
                }  # fmt: skip
            case _:
                pass
        of_market = self.kind in ("halt", "late", "repeat")
        sided = self.kind in ("wall", "vacuum", "absorption", "sweep", "break", "reject", "jump")
        return {
            "kind": self.kind,
            "begin_ns": self.scenario.begin_ns,
            "end_ns": self.scenario.end_ns,
            "instrument": "ALL" if of_market else "SPY" if self.kind == "gamma_flip" else self._contract,
            "price": None if of_market or self.kind == "gamma_flip" else self.level * OUTRIGHT_TICK_E9 / 1e9,
            "side": ("ask" if self.side == ASK else "bid") if sided else None,
            **detail,
        }

"""One simulated market, a step of event time after another: ES and its options, and SPY, which follows.

Everything hangs on one price path, the front month's. The next month follows it at a basis of about 50 points, their
calendar spread trades that basis, SPY follows by a slowly moving ratio, and options are priced from a model. All
randomness is PCG64's raw output, a generator for each part, so that what one part does never depends on whether
another is asked for.

A day has its own instrument ids, announced at the start and at each UTC midnight; when the front month is about to
expire, the next one takes its place at midnight, with its book. A step lasts until the next whole second at most, and
less where the market is busy or something planted begins or ends.

Why no events in the last millisecond of a UTC day: their receive time would be tomorrow's, and which day's ids they
carry would depend on the clock that a reader takes. The vendor's own reader takes the receive time.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.feeds.sim_book import ASK, BID, BOOK_WORDS, DEPTH, Book, Hold, Move, Planted, Tape, cut, interleave
from spymaster.feeds.sim_calendar import CELL_NS, NS_PER_DAY, PPM, Activity, front_contract, utc_date
from spymaster.feeds.sim_dbn import OUTRIGHT_TICK_E9, SPREAD_TICK_E9, Listing, listing_of
from spymaster.feeds.sim_options import ES_TICK_E9, Bias, Board, OptionCrowd, OptionTrades, es_board, spy_board
from spymaster.feeds.sim_plant import Plan, Scenario, Truth
from spymaster.feeds.sim_stock import RATIO_BAND_E6, RATIO_E6, Path, Stock, StockQuotes, StockTrades, fair_e4

CHAIN_NS: Final = 10 * NS_PER_SECOND  # between two snapshots of the option chain
_MAX_TRUTHS: Final = 10_000  # that nobody has taken yet; the oldest go first
_BLOCK_RECORDS: Final = 3_000  # of one book, generated at once
_LEAST_RECORDS: Final = 200  # in a block: less, and numpy's calls cost more than their work
_STEP_RECORDS: Final = 24_000
_STEP_RECORDS_OF_A_SLOW_MARKET: Final = 1_000
_SHARES: Final = (93, 4, 1, 2)  # of 100 DBN records: front month, next month, spread, options
_PER_100_RECORDS: Final = {"quotes": 40, "trades": 14, "options": 10}  # of SPY's events
_EVENTS_PER_100_RECORDS: Final = 90  # a trade has three records; what this misses, the next block makes up for
_LEAST_EVENTS: Final = 2  # a move takes two events, so that a slow book waits for them
_MOVES_PER_MINUTE: Final = 90  # of the front month's price by one tick, in normal activity
_RAREST_MOVE: Final = 40  # but at most one event in so many
_START_TICKS: Final = 6_900 * 4
_BASIS: Final = 50 * 20  # in the spread's ticks
_SPREAD_TICKS_PER_TICK: Final = OUTRIGHT_TICK_E9 // SPREAD_TICK_E9
_QUIET_BEFORE_MIDNIGHT_NS: Final = 1_000_000
_DUE_UNIT: Final = 100 * PPM * NS_PER_SECOND

_LEVEL_TICKS, _BEYOND_TICKS = 6, 6  # how far a level to break or reject lies from the touch, and how far it goes on
_WALL_LOTS, _WALL_FLOOR, _WALL_DEPTH = 400, 360, 3
_TICKS_AT_ONCE = {"sweep": 5, "jump": 24}
_LATE_NS = 400_000_000
_CROSSED_TICKS = 3


@dataclass
class Step:
    """What happened within [begin, end)."""

    begin: int
    end: int
    listing: Listing
    spy: Board
    opened: bool = False  # a day began: its instruments are announced first
    halted: bool | None = None  # True where a halt begins, False where it ends
    tapes: list[Tape] = field(default_factory=list)  # of everything that DBN carries, one after another
    quotes: StockQuotes | None = None
    trades: StockTrades | None = None
    options: OptionTrades | None = None
    es_options: OptionTrades | None = None
    chain_spot_e4: int | None = None  # a snapshot of the chain is due at the begin, while SPY is at this price
    repeating: bool = False  # the last message of each kind is sent once more


class Session:
    """The state of a simulated market between two steps.

    Attributes:
        truths: what was planted and has come to its end, for the caller to take; of more than 10,000 the oldest go.
    """

    def __init__(
        self, seed: int, rate: int, start: int, plant: tuple[str, ...], *, with_spy: bool, chain_ns: int = CHAIN_NS
    ) -> None:
        self.truths: deque[Truth] = deque(maxlen=_MAX_TRUTHS)
        self._seed, self._rate, self._now, self._with_spy = seed, rate, start, with_spy
        self._activity, self._plan = Activity(seed), Plan(seed, start, plant)
        self._random = np.random.PCG64(np.random.SeedSequence((seed, 0, 1)))
        self._ratio_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 3)))
        self._es_options_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 8)))
        self._spy_random = np.random.PCG64(np.random.SeedSequence((seed, 0, 9)))
        self._basis, self._ratio_e6 = _BASIS, RATIO_E6
        self._due = dict.fromkeys((0, 1, 2, 3, *_PER_100_RECORDS), 0)  # in units of 1 / _DUE_UNIT
        self._next_chain, self._chain_ns = start, chain_ns
        self._longest_ns = min(max(_STEP_RECORDS_OF_A_SLOW_MARKET // rate, 1), 10) * NS_PER_SECOND
        self._es_crowd, self._spy_crowd = OptionCrowd((seed, 0, 6)), OptionCrowd((seed, 0, 7))
        self._day = date.min
        self._scene: _Scene | None = None
        day = utc_date(start)
        self._front = front_contract(day)
        self._books = self._list_behind(Book(OUTRIGHT_TICK_E9, _START_TICKS, (seed, 1)), day)
        self._stock = Stock((seed, 0, 4), self._fair(_START_TICKS))

    def steps(self) -> Iterator[Step]:
        """Yield what happens, without end."""
        while True:
            yield self._step()

    def _step(self) -> Step:
        now = self._now
        opened = utc_date(now) != self._day
        if opened:
            self._open_day(now)
        closed = self._scene_closing(now)
        step = Step(now, self._step_end(now), self._listing, self._spy, opened)
        if closed is not None:
            self._close_scene(closed, step)
        scene = self._scene_opening(now, step)
        if self._with_spy and now >= self._next_chain:
            step.chain_spot_e4 = self._fair(self._books[0].bid)
            self._next_chain += self._chain_ns
        if step.end > now and (scene is None or scene.kind != "halt"):
            self._trade(step, scene)
        midnight = now - now % NS_PER_DAY + NS_PER_DAY
        self._now = midnight if step.end >= midnight - _QUIET_BEFORE_MIDNIGHT_NS else step.end
        return step

    def _open_day(self, now: int) -> None:
        """List the day's instruments, and roll to the next contract if it is time."""
        self._day = utc_date(now)
        front = front_contract(self._day)
        if front != self._front:
            self._front, self._books = front, self._list_behind(self._books[1], self._day)
        bid = self._books[0].bid
        self._listing = listing_of(front, self._day, es_board(bid * 2_500, now, front))
        self._spy = spy_board(self._fair(bid), now)

    def _list_behind(self, front: Book, day: date) -> list[Book]:
        """Return the three books of which `front` is the first, the others new."""
        entropy = (self._seed, day.toordinal())
        following = Book(OUTRIGHT_TICK_E9, front.bid + self._basis // _SPREAD_TICKS_PER_TICK, (*entropy, 2))
        return [front, following, Book(SPREAD_TICK_E9, self._basis, (*entropy, 3))]

    def _step_end(self, now: int) -> int:
        """Return until when to run at once."""
        per_second = self._rate * self._activity.level(now) // PPM
        busy_end = now + _STEP_RECORDS * NS_PER_SECOND // max(per_second, 1)
        end = min(busy_end, now - now % self._longest_ns + self._longest_ns)
        scenario = self._plan.at(now)
        if scenario is not None:
            if scenario.begin_ns == now and scenario.kind in _TICKS_AT_ONCE:
                return scenario.end_ns
            middle = (scenario.begin_ns + scenario.end_ns) // 2
            end = min([end, *(edge for edge in (scenario.begin_ns, middle, scenario.end_ns) if edge > now)])
        return max(now, min(end, now - now % NS_PER_DAY + NS_PER_DAY - _QUIET_BEFORE_MIDNIGHT_NS))

    def _trade(self, step: Step, scene: "_Scene | None") -> None:
        """Let everything trade within the step."""
        if step.begin % NS_PER_SECOND == 0:
            self._shift()
        owed = self._owe(step)
        front = [*step.tapes, *self._run_front(step, scene)]
        path = _path(step.begin, front, self._books[0].bid)
        behind = self._books[0].bid + self._basis // _SPREAD_TICKS_PER_TICK - self._books[1].bid
        others = [
            self._follow(1, step, behind),
            self._follow(2, step, self._basis - self._books[2].bid),
            self._run_es_options(step, path, scene),
        ]
        step.tapes = _merge(front, [tape for tape in others if tape is not None], step)
        if self._with_spy:
            self._run_spy(step, path, scene, owed)

    def _owe(self, step: Step) -> int:
        """Add what the step owes to all but the front month, whose blocks do it themselves; return its activity."""
        busy, cell = 0, step.begin
        while cell < step.end:
            following = min(cell - cell % CELL_NS + CELL_NS, step.end)
            busy += self._activity.level(cell) * (following - cell)
            cell = following
        for instrument in (1, 2, 3):
            self._due[instrument] += self._rate * _SHARES[instrument] * busy
        for kind, share in _PER_100_RECORDS.items():
            self._due[kind] += self._rate * share * busy
        return busy

    def _take_due(self, kind: int | str) -> int:
        """Return how many whole events are due, and owe them no longer."""
        n, self._due[kind] = divmod(self._due[kind], _DUE_UNIT)
        return n

    def _settle(self, instrument: int, tape: Tape) -> Tape:
        """Take the records of a book's tape off what is due."""
        self._due[instrument] -= int((1 + 2 * (tape.traded > 0)).sum()) * _DUE_UNIT
        return tape

    # ES

    def _run_front(self, step: Step, scene: "_Scene | None") -> list[Tape]:
        """Let the front month run, a block after another."""
        if scene is not None and scene.burst:
            times = step.begin + np.arange(2 * scene.burst) * (step.end - step.begin) // (2 * scene.burst + 1)
            moves = [Move(2 * i, ASK if scene.scenario.rising else BID) for i in range(scene.burst)]
            return [self._settle(0, self._books[0].evolve(times, moves))]
        tapes: list[Tape] = []
        now = step.begin
        while now < step.end:
            begin, busy = now, 0
            while now < step.end:  # a cell, a part of a busy one, or several quiet ones
                level = self._activity.level(now)
                span = _BLOCK_RECORDS * NS_PER_SECOND // max(self._rate * level // PPM, 1)
                end = min(now + span, now - now % CELL_NS + CELL_NS, step.end)
                busy, now = busy + level * (end - now), end
                if self._rate * busy >= _LEAST_RECORDS * PPM * NS_PER_SECOND:
                    break
            self._due[0] += self._rate * _SHARES[0] * busy
            goal = None if scene is None else scene.target(self._books[0].bid, now)
            tape = self._run_book(0, begin, now, goal, scene, busy)
            tapes += [] if tape is None else [tape]
        return tapes

    def _follow(self, instrument: int, step: Step, behind: int) -> Tape | None:
        """Let a book run whose price follows another that it is `behind` by so many ticks."""
        return self._run_book(instrument, step.begin, step.end, behind, None, 0)

    def _run_book(
        self, instrument: int, begin: int, end: int, behind: int | None, scene: "_Scene | None", busy: int
    ) -> Tape | None:
        n = self._due[instrument] * _EVENTS_PER_100_RECORDS // (100 * _DUE_UNIT)
        if n < _LEAST_EVENTS:
            return None
        # Sorted by its high half, which is the time; the low half stays random.
        drawn = np.sort(self._random.random_raw(n))
        times = begin + ((drawn >> 32) * np.uint64(end - begin) >> 32).astype(np.int64)
        luck = (drawn & 0xFFFFFFFF).astype(np.int64)
        moves = self._wandering(luck, begin, busy, scene) if behind is None else _catching_up(behind, n)
        for event, _ in moves:  # whoever closes the spread is quick
            times[event + 1] = min(times[event + 1], times[event] + 20_000 + luck[event] % 300_000)
        planted = Planted() if scene is None else scene.planted
        return self._settle(instrument, self._books[instrument].evolve(times, moves, instrument, planted))

    def _wandering(self, luck: NDArray[np.int64], begin: int, busy: int, scene: "_Scene | None") -> list[Move]:
        """Choose the front month's moves: a random walk with the minute's drift, held loosely to where it began."""
        n = len(luck)
        likely = min((busy * _MOVES_PER_MINUTE << 32) // (60 * PPM * NS_PER_SECOND * n), (1 << 32) // _RAREST_MOVE)
        price = self._books[0].bid
        moves: list[Move] = []
        for event in np.flatnonzero(luck[: n - 1] < likely).tolist():
            if moves and event < moves[-1].event + 2:
                continue
            home = min(max((_START_TICKS - price) // 64, -200), 200)
            up = int(self._random.random_raw()) >> 54 < 512 + self._activity.drift(begin) + home
            if scene is not None and scene.forbids(ASK if up else BID, price):
                continue
            price += 1 if up else -1
            moves.append(Move(event, ASK if up else BID))
        return moves

    def _shift(self) -> None:
        """Let basis and ratio wander by a little."""
        drawn = int(self._random.random_raw())
        if drawn & 7 == 0:
            self._basis += 1 if drawn >> 54 < 512 + 8 * (_BASIS - self._basis) else -1
        home = min(max((RATIO_E6 - self._ratio_e6) * 512 // RATIO_BAND_E6, -512), 512)
        self._ratio_e6 += 20 if int(self._ratio_random.random_raw()) >> 54 < 512 + home else -20

    def _run_es_options(self, step: Step, path: Path, scene: "_Scene | None") -> Tape | None:
        times = _times(self._es_options_random, self._take_due(3), step)
        if not len(times):
            return None
        spot = (2 * path.at(times) + 1) * 1_250
        trades = self._es_crowd.trade(self._listing.options, times, spot, _bias(scene, step))
        step.es_options = trades = _repeated(_late(trades, scene), scene)
        n = len(trades.arrival_ns)
        none = np.zeros(n, np.int64)
        return Tape(
            arrival_ns=trades.arrival_ns,
            instrument=3 + trades.number,
            side=np.where(trades.side >= 0, BID, ASK),
            depth=none,
            price_e9=trades.price * ES_TICK_E9,
            action=np.full(n, b"T"),
            size=trades.size,
            traded=trades.size,
            before=none,
            after=none,
            late_ns=trades.late_ns,
            repeated=trades.repeated,
            print_only=np.ones(n, np.bool_),
            levels=np.zeros((1, BOOK_WORDS), np.uint64),
        )

    # SPY

    def _fair(self, bid_ticks: int) -> int:
        return int(fair_e4(np.array([bid_ticks]), self._ratio_e6)[0])

    def _run_spy(self, step: Step, path: Path, scene: "_Scene | None", busy: int) -> None:
        quoted, traded, opted = (_times(self._spy_random, self._take_due(kind), step) for kind in _PER_100_RECORDS)
        crossed = _CROSSED_TICKS if scene is not None and scene.kind == "crossed" else 0
        before = self._stock.last
        step.quotes = self._stock.quote(quoted, fair_e4(path.at(quoted), self._ratio_e6), crossed)
        step.trades = self._stock.trade(traded, step.quotes, before)
        if scene is not None and scene.kind == "late":
            step.trades = step.trades._replace(late_ns=np.where(step.trades.seq % 4 == 0, _LATE_NS, 0))
        fair = fair_e4(path.at(opted), self._ratio_e6)
        step.options = _late(self._spy_crowd.trade(self._spy, opted, fair, _bias(scene, step)), scene)
        step.repeating = scene is not None and scene.kind == "repeat"

    # What is planted

    def _scene_closing(self, now: int) -> "_Scene | None":
        scene = self._scene
        if scene is None or now < scene.scenario.end_ns:
            return None
        self._scene = None
        return scene

    def _scene_opening(self, now: int, step: Step) -> "_Scene | None":
        if self._scene is None:
            scenario = self._plan.at(now)
            if scenario is not None and scenario.begin_ns == now:
                self._scene = _Scene(scenario, self._books[0], self._listing.front.symbol)
                step.halted = True if scenario.kind == "halt" else step.halted
                if scenario.kind == "wall":
                    step.tapes.append(self._scene.raise_wall(now))
        return self._scene

    def _close_scene(self, scene: "_Scene", step: Step) -> None:
        if scene.kind == "halt":
            step.halted = False
        step.tapes += scene.lower_wall(step.begin)
        truth = scene.truth(self._spy)
        if truth is not None:
            self.truths.append(truth)


class _Scene:
    """A scenario that is being played in the front month's book."""

    def __init__(self, scenario: Scenario, book: Book, contract: str) -> None:
        self.scenario, self.kind = scenario, scenario.kind
        self._book, self._contract = book, contract
        self.bid_at_begin = book.bid
        self.planted = Planted()
        self.burst = _TICKS_AT_ONCE.get(scenario.kind, 0)
        up = scenario.rising
        self.side = ASK if up else BID
        touch = book.bid + 1 if up else book.bid
        away = 1 if up else -1
        self.level = touch + away * (_LEVEL_TICKS if self.kind in ("break", "reject") else 0)
        if self.kind == "wall":
            self.level = touch + away * _WALL_DEPTH
            self.planted = Planted(hold=Hold(self.side, self.level, 2, _WALL_FLOOR))
        elif self.kind == "vacuum":
            self.planted = Planted(thin=self.side)
        elif self.kind == "absorption":
            self.planted = Planted(hit=self.side)
        elif self.kind == "crossed":
            self.planted = Planted(crossed=_CROSSED_TICKS)

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
        if self.kind not in ("break", "reject"):
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
                detail = {"ticks": _CROSSED_TICKS, "also": "SPY"}
            case "late":
                detail = {"late_ns": _LATE_NS}
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


def _bias(scene: "_Scene | None", step: Step) -> Bias | None:
    """Return who trades options while their dealers' gamma changes sign."""
    if scene is None or scene.kind != "gamma_flip":
        return None
    second_half = step.begin * 2 >= scene.scenario.begin_ns + scene.scenario.end_ns
    customers_buy = second_half == scene.scenario.rising
    return Bias(bought=236 if customers_buy else 20, size=6 if second_half else 2)


def _times(random: np.random.PCG64, n: int, step: Step) -> NDArray[np.int64]:
    """Draw n times within the step, ascending."""
    drawn = np.sort(random.random_raw(n) >> np.uint64(32))
    return step.begin + (drawn * np.uint64(step.end - step.begin) >> np.uint64(32)).astype(np.int64)


def _late(trades: OptionTrades, scene: "_Scene | None") -> OptionTrades:
    """Make every fourth trade late, where that is planted."""
    if scene is None or scene.kind != "late":
        return trades
    return trades._replace(late_ns=np.where(trades.seq % 4 == 0, _LATE_NS, 0))


def _repeated(trades: OptionTrades, scene: "_Scene | None") -> OptionTrades:
    """Send every fourth trade twice, where that is planted."""
    if scene is None or scene.kind != "repeat":
        return trades
    row = np.repeat(np.arange(len(trades.seq)), 1 + (trades.seq % 4 == 0))
    return OptionTrades._make([*(column[row] for column in trades[:-1]), np.diff(row, prepend=-1) == 0])


def _catching_up(behind: int, n: int) -> list[Move]:
    """Choose the moves of a book whose price follows another, spread over the block's n events."""
    count = min(abs(behind), (n + 2) // 4)
    return [Move((i + 1) * n // (count + 1) - 1, ASK if behind > 0 else BID) for i in range(count)]


def _path(begin: int, tapes: list[Tape], bid: int) -> Path:
    """Return the front month's best bid through a step, which ends at `bid`."""
    happened = [tape for tape in tapes if len(tape.arrival_ns)]
    if not happened:
        return Path(np.array([begin]), np.array([bid]))
    first, *bids = (
        tape.levels[rows, 0].view(np.int64) // OUTRIGHT_TICK_E9
        for tape, rows in [(happened[0], happened[0].before[:1]), *((tape, tape.after) for tape in happened)]
    )
    return Path(np.concatenate([[begin], *(tape.arrival_ns for tape in happened)]), np.concatenate([first, *bids]))


def _merge(front: list[Tape], others: list[Tape], step: Step) -> list[Tape]:
    """Sort the events of other instruments into the front month's blocks."""
    if not front:
        return [interleave(others)] if others else []
    edges = [step.begin, *(int(tape.arrival_ns[0]) for tape in front[1:] if len(tape.arrival_ns)), step.end]
    blocks = [tape for i, tape in enumerate(front) if i == 0 or len(tape.arrival_ns)]
    return [
        interleave([tape, *(cut(other, begin, end) for other in others)])
        for tape, begin, end in zip(blocks, edges[:-1], edges[1:], strict=True)
    ]

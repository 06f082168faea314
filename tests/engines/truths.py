"""What engines see of what was planted in the simulated market: matching rules, recall, precision, their bounds.

    event      of a state: a maximal run of snaps of one side in which it is seen, holes of up to 1 s bridged, prices
               whose zones overlap or touch merged, that lasts as long as the state must hold
    hit        an event of the truth's side that overlaps its time and the 5 s after, in which flow still shows it,
               did not begin before it, and whose prices, widened by the zone, have the truth's price; of a vacuum the
               side alone decides, as the plant is a side's and the price leaves sight
    sweep      a hit has the truth's direction and lies in its time; jumps are sweeps too
    recall     truths that were hit / truths after the warm-up
    precision  events that hit something / events; several on one truth are all right

Seen are either all prices within ten ticks of the touch, or one price alone: that of a level. There a vacuum's event is
a run of the level's own that the side's event has confirmed, having lasted as long as it must, a hole later at most. A
truth that is told of a price which the price had passed for good within the second in which it is pulled is no truth of
that level: on its side there was nothing of the vacuum to be seen. It counts for all prices.
"""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_MS, NS_PER_SECOND
from spymaster.engines.barrier import Barrier
from spymaster.engines.holds import ABSORPTION, STATES, VACUUM, WALL
from spymaster.engines.ledger import SNAP_NS, Ledger
from spymaster.engines.profile import Profile
from spymaster.engines.rows import NO_PRICE
from spymaster.engines.sweeps import Sweep
from spymaster.engines.tape import Tape
from spymaster.engines.typical import OFFSETS, Typical
from tests.engines.tapes import joined, rows_of

STATE_OF = {"wall": WALL, "vacuum": VACUUM, "absorption": ABSORPTION}
KINDS = (*STATE_OF, "sweep")
HOLE_NS = NS_PER_SECOND
AFTER_NS = 5 * NS_PER_SECOND
PULLED_NS = NS_PER_SECOND  # from a vacuum's begin; the simulator promises nothing before
ANYWHERE = 2**31  # ticks, of zones that touch wherever they are
TICK = 0.25
GRACE_NS = 100 * NS_PER_MS  # how long a snap waits for rows
OUTWARD = np.array([-1, 1])


class Event(NamedTuple):
    """A state that was seen for as long as it must hold: on a side, within prices that zones begin at."""

    side: int
    begin_ns: int
    end_ns: int
    lowest: int
    highest: int


class Seen(NamedTuple):
    """What the engines saw of a market: S snaps.

    Attributes:
        snap_ns: (S).
        touch: (S, 2) ticks.
        state: (S, 2, 10) by side and offset.
        reason: (S) why it is void.
        ratios: (S, 4, 2, 10) as `Ladder.ratios`.
        imbalance: (S).
        sweeps: each once.
        truths: what was planted and came off, after the warm-up.
    """

    snap_ns: Any
    touch: Any
    state: Any
    reason: Any
    ratios: Any
    imbalance: Any
    sweeps: list[Sweep]
    truths: list[dict[str, Any]]


class Score(NamedTuple):
    """How many of how many."""

    right: int
    of: int

    @property
    def share(self) -> float:
        return self.right / self.of if self.of else float("nan")

    @property
    def bounds(self) -> tuple[float, float]:
        return wilson(self.right, self.of)

    def __str__(self) -> str:
        low, high = self.bounds
        return f"{self.right}/{self.of} ({low:.3f} to {high:.3f})"


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return the bounds of a share, at 95 %."""
    if not of:
        return 0.0, 1.0
    share, spread = right / of, z * z / of
    half = z * sqrt(share * (1 - share) / of + spread / (4 * of))
    middle = share + spread / 2
    return max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0)


class Watcher:
    """The engines over a market's rows, in the order in which they came.

    Attributes:
        void: something is wrong with the next snap, a halt before it.
    """

    def __init__(self, profile: Profile) -> None:
        self.ledger, self.typical = Ledger(), Typical(profile.typical)
        self.barrier, self.tape = Barrier(profile.barrier), Tape(profile.tape, profile.barrier.flow_s)
        self._newest_ns = self._due_ns = -(2**62)
        self.void = False
        self._waiting: list[Any] = []
        self._found: list[tuple[Any, ...]] = []
        self.sweeps: dict[int, Sweep] = {}

    def take(self, rows: Any) -> None:
        """Work rows as they arrive: a snap is due when a time 100 ms after it has come."""
        if not len(rows.ts_ns):
            return
        newest = np.maximum(np.maximum.accumulate(rows.ts_ns), self._newest_ns)
        due = (newest - GRACE_NS) // SNAP_NS * SNAP_NS  # when each row arrives, before it counts itself
        begun = 0
        for at in np.flatnonzero(np.diff(due, prepend=self._due_ns) > 0).tolist():
            self._waiting.append(rows.take(slice(begun, at)))
            begun = at
            self._snap(int(due[at]))
        self._waiting.append(rows.take(slice(begun, None)))
        self._newest_ns, self._due_ns = int(newest[-1]), int(due[-1])

    def _snap(self, snap_ns: int) -> None:
        rows = joined(self._waiting)
        now = rows.ts_ns <= snap_ns
        self._waiting, rows = [rows.take(~now)], rows.take(now)
        if (np.diff(rows.ts_ns) < 0).any():
            rows = rows.take(np.argsort(rows.ts_ns, kind="stable"))
        self.work(snap_ns, rows)

    def work(self, snap_ns: int, rows: Any) -> None:
        """Work one snap."""
        norms = self.typical.norms
        self.ledger.work(rows, snap_ns)
        traded = self.tape.work(snap_ns, rows, norms)
        ladder = self.barrier.work(snap_ns, self.ledger, norms, warm=self.typical.ready, void=self.void)
        book = None if self.void or self.ledger.crossed else self.ledger.book
        self.typical.work(snap_ns, book, self.barrier.flow)
        self.void = False
        if traded.sweep is not None:
            self.sweeps[traded.sweep.ts_ns] = traded.sweep
        self._found.append((snap_ns, ladder.touch, ladder.state, ladder.reason, ladder.ratios, traded.imbalance))

    def seen(self, truths: list[dict[str, Any]]) -> Seen:
        """Return what was seen, and the truths that begin after the first snap that was not void."""
        snap_ns, touch, state, reason, ratios, imbalance = map(np.array, zip(*self._found, strict=True))
        sound = np.flatnonzero(reason == 0)
        since = snap_ns[sound[0]] if len(sound) else snap_ns[-1]
        return Seen(snap_ns, touch, state, reason, ratios, imbalance, list(self.sweeps.values()),
                    [truth for truth in truths if truth["begin_ns"] >= since])  # fmt: skip


def watch(market: Any, seconds: float, profile: Profile) -> Seen:
    """Run the engines over the front month of a simulated market."""
    session, watcher = market.session(with_spy=False), Watcher(profile)
    truths: list[dict[str, Any]] = []
    for step in session.steps():
        if step.begin >= market.start_ns + seconds * NS_PER_SECOND:
            break
        watcher.void |= step.halted is not None
        for tape in step.tapes:
            watcher.take(rows_of(tape))
        while session.truths:
            truths.append(session.truths.popleft())
    return watcher.seen([truth for truth in truths if truth["kind"] != "flow_turn"])


def events(seen: Seen, state: int, hold_s: float, zone_ticks: int, price: int | None = None) -> list[Event]:
    """Return the events of a state, at all prices that are in sight, or at zones that begin at one price."""
    cells = seen.state == state
    if price is not None:
        places = seen.touch[:, :, None] + OUTWARD[:, None] * np.arange(OFFSETS)
        cells = cells & (places == price) & (seen.touch[:, :, None] != NO_PRICE)
    found: list[Event] = []
    for side in (0, 1):
        going: list[Event] = []
        for at in np.flatnonzero(cells[:, side].any(axis=1)).tolist():
            now = int(seen.snap_ns[at])
            ended = [one for one in going if now - SNAP_NS - one.end_ns > HOLE_NS]
            found += ended
            going = [one for one in going if one not in ended]
            for offset in np.flatnonzero(cells[at, side]).tolist():
                here = int(seen.touch[at, side]) + int(OUTWARD[side]) * offset
                one = Event(side, now, now, here, here)
                near = [other for other in going if other.lowest - zone_ticks <= here <= other.highest + zone_ticks]
                going = [other for other in going if other not in near]
                going.append(_merged([one, *near]))
        found += going
    return sorted(
        (one for one in found if one.end_ns - one.begin_ns >= hold_s * NS_PER_SECOND), key=lambda one: one.begin_ns
    )


def level_events(seen: Seen, state: int, hold_s: float, zone_ticks: int, price: int) -> list[Event]:
    """Return the events of a state at a level, as the product holds it."""
    if state != VACUUM:
        return events(seen, state, hold_s, zone_ticks, price)
    confirmed = [(one, one.begin_ns + hold_s * NS_PER_SECOND) for one in events(seen, state, hold_s, ANYWHERE)]
    return [
        own
        for own in events(seen, state, 0, zone_ticks, price)
        if any(
            one.side == own.side and one.begin_ns <= own.begin_ns <= one.end_ns and since_ns <= own.end_ns + HOLE_NS
            for one, since_ns in confirmed
        )
    ]


def at_level(seen: Seen, truth: dict[str, Any]) -> bool:
    """Return whether the price that is told could show what was planted: of a vacuum, was on its side once pulled."""
    if truth["kind"] != "vacuum":
        return True
    side = 0 if truth["side"] == "bid" else 1
    pulled = (seen.snap_ns >= truth["begin_ns"] + PULLED_NS) & (seen.snap_ns <= truth["end_ns"])
    offset = (price_of(truth) - seen.touch[pulled, side]) * OUTWARD[side]
    return bool(((offset >= 0) & (offset < OFFSETS)).any())


def _merged(ones: list[Event]) -> Event:
    return Event(
        ones[0].side, min(one.begin_ns for one in ones), max(one.end_ns for one in ones),
        min(one.lowest for one in ones), max(one.highest for one in ones),
    )  # fmt: skip


def hits(event: Event, truth: dict[str, Any], zone_ticks: int) -> bool:
    """Return whether an event is right about a truth of its kind."""
    if event.side != (0 if truth["side"] == "bid" else 1):
        return False
    if not truth["begin_ns"] <= event.begin_ns or not event.begin_ns <= truth["end_ns"] + AFTER_NS:
        return False
    if truth["kind"] == "vacuum":
        return True
    return event.lowest - zone_ticks < price_of(truth) < event.highest + zone_ticks


def price_of(truth: dict[str, Any]) -> int:
    """Return a truth's price in ticks."""
    return round(truth["price"] / TICK)


def sweep_hits(sweep: Sweep, truth: dict[str, Any]) -> bool:
    """Return whether a sweep is right about a sweep or a jump."""
    up = truth["side"] == "ask"
    return sweep.direction == (1 if up else -1) and truth["begin_ns"] <= sweep.end_ns and sweep.ts_ns <= truth["end_ns"]


def scores(seen: Seen, profile: Profile) -> dict[str, tuple[Score, Score]]:
    """Return recall and precision of each kind, at all prices in sight."""
    rules, result = profile.barrier, {}
    for kind, state in STATE_OF.items():
        found = events(seen, state, getattr(rules, f"{STATES[state].lower()}_hold_s"), rules.zone_ticks)
        truths = [truth for truth in seen.truths if truth["kind"] == kind]
        right = [[hits(event, truth, rules.zone_ticks) for truth in truths] for event in found]
        result[kind] = _both(right, len(truths))
    since = seen.snap_ns[np.argmax(seen.reason == 0)]
    swept = [sweep for sweep in seen.sweeps if sweep.ts_ns >= since]
    truths = sorted((t for t in seen.truths if t["kind"] in ("sweep", "jump")), key=lambda t: t["kind"] == "jump")
    right = [[sweep_hits(sweep, truth) for truth in truths] for sweep in swept]
    result["sweep"] = _both(right, sum(truth["kind"] == "sweep" for truth in truths))
    return result


def level_scores(seen: Seen, profile: Profile, seed: int) -> dict[str, tuple[Score, Score]]:
    """Return the same of levels: one at each truth's price, and as many at random prices within its ten ticks.

    Recall is of each truth by its own level, precision of the events of all levels, each by itself, at all times.
    """
    rules, random, result = profile.barrier, np.random.default_rng(seed), {}
    for kind, state in STATE_OF.items():
        truths = [truth for truth in seen.truths if truth["kind"] == kind]
        prices = [price_of(truth) for truth in truths]
        hold_s = getattr(rules, f"{STATES[state].lower()}_hold_s")
        sound = np.flatnonzero(seen.reason == 0)
        control = [int(seen.touch[random.choice(sound), 0] + random.integers(-10, 11)) for _ in prices]
        found = {price: level_events(seen, state, hold_s, rules.zone_ticks, price) for price in {*prices, *control}}
        hit = [
            any(hits(event, truth, rules.zone_ticks) for event in found[price_of(truth)])
            for truth in truths
            if at_level(seen, truth)
        ]
        all_found = [event for one in found.values() for event in one]
        right = [any(hits(event, truth, rules.zone_ticks) for truth in truths) for event in all_found]
        result[kind] = Score(sum(hit), len(hit)), Score(sum(right), len(right))
    return result


def _both(right: list[list[bool]], truths: int) -> tuple[Score, Score]:
    """Return recall over the first so many truths, and precision over all of them."""
    return (
        Score(sum(any(row[column] for row in right) for column in range(truths)), truths),
        Score(sum(any(row) for row in right), len(right)),
    )

"""Which transitions there are between one look and the next. Each is told once, however long what it says lasts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from spymaster import clock
from spymaster.clock import NS_PER_SECOND
from spymaster.engines.snap import Snap
from spymaster.events.alerts import CLEARED, RAISED, TOLD, Alert
from spymaster.recording.disk import DiskLevel
from spymaster.watch.documents import GapDocument, Halt, Silent
from spymaster.watch.rules import Rules

NEUTRAL: Final = "NEUTRAL"
LAG_CLEARS: Final = 0.8  # of what raises it, so that it does not flap
_BEGINNING: Final = frozenset({"no book", "not whole", "warm-up", "roll"})  # what each session begins with
_READ: Final = (
    "level_id", "level_price", "level_direction", "signal", "signal_since_ns", "break_score_smooth",
    "barrier_held_state",
)  # fmt: skip
MOST_NAMED: Final = 4  # streams of one alert
MOST_LEVELS: Final = 1_000  # whose signal is remembered; the oldest go
MOST_GAPS: Final = 10_000  # likewise; damage to a log may be thousands of holes
_OWN_KINDS: Final = frozenset({"judge", "gold"})  # problems that are a kind by themselves
_OTHERWISE: Final = frozenset({"disk"})  # problems that are told by another kind


class Look(NamedTuple):
    """What is known at a moment, but for signals and gaps, which come as rows."""

    now_ns: int
    snap: Snap | None
    silent: Mapping[str, Silent]
    halt: Halt | None
    disk_level: DiskLevel
    disk_text: str
    lags_ms: Mapping[str, float]
    problems: Mapping[str, str]


class Changes:
    """Remembers what was told, by kind and subject."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._signals: dict[str, tuple[str, int]] = {}  # by level the newest that was given, and since when
        self._gaps: dict[str, GapDocument] = {}
        self._silent: dict[str, int] = {}  # by stream since when
        self._lagging: set[str] = set()
        self._problems: set[str] = set()
        self._halt: Halt | None = None
        self._disk = DiskLevel.OK
        self._contract: str | None = None
        self._was_whole = False  # in this session
        self._session: str | None = None
        self._void_ns: int | None = None  # since when the snaps are
        self._void: str | None = None  # what was told of them

    def snap(self, rows: pa.RecordBatch) -> Iterator[Alert]:
        """Yield the signals that a snap's levels in sight have now and had not. A level that changed is in sight.

        A signal bears the time of the snap that gave it, so that a run that goes on with it tells the same alert.

        Args:
            rows: of `levels.signals`.
        """
        values = (rows.column(name).to_pylist() for name in _READ)
        for level, price, direction, signal, since_ns, score, held in zip(*values, strict=True):
            given = (signal, since_ns)
            if signal == NEUTRAL or since_ns is None or self._signals.get(level) == given:
                continue
            self._signals[level] = given
            if signal in self._rules.signals:
                text = _signal_text(level, price, direction, signal, score, held)
                yield Alert("signal", TOLD, level, since_ns, text, price, signal, score)
        _bound(self._signals, MOST_LEVELS)

    def gaps(self, gaps: Sequence[GapDocument], now_ns: int) -> Iterator[Alert]:
        """Yield an alert where gaps are new, or are others than before; those of one cause are one transition.

        Args:
            gaps: that became known at once, as a lost connection leaves one in each of its streams.
            now_ns: our clock.
        """
        changed = [gap for gap in gaps if gap != self._gaps.get(gap["gap_id"])]
        causes = dict.fromkeys((gap["gap_id"] not in self._gaps, gap["cause"]) for gap in changed)
        of_each = [
            [gap for gap in changed if (gap["gap_id"] not in self._gaps, gap["cause"]) == cause] for cause in causes
        ]
        for (is_new, _), together in zip(causes, of_each, strict=True):
            yield _gap_alert(together, now_ns, is_new=is_new)
        self.knows(changed)

    def knows(self, gaps: Collection[GapDocument]) -> None:
        """Take note of gaps that were told before."""
        self._gaps |= {gap["gap_id"]: gap for gap in gaps}
        _bound(self._gaps, MOST_GAPS)

    def look(self, look: Look) -> Iterator[Alert]:
        """Yield what is another than at the look before."""
        yield from self._of_halt(look)
        yield from self._of_silence(look)
        yield from self._of_disk(look)
        yield from self._of_lags(look)
        yield from self._of_problems(look)
        if look.snap is not None:
            yield from self._of_contract(look.snap)
            yield from self._of_void(look.snap)

    def _of_halt(self, look: Look) -> Iterator[Alert]:
        before, self._halt = self._halt, look.halt
        if look.halt is not None and (before is None or before["word"] != look.halt["word"]):
            text = f"the exchange says {look.halt['word']} since {_time(look.halt['since_ns'])}"
            yield Alert("halt", RAISED, "exchange", look.now_ns, text)
        elif look.halt is None and before is not None:
            yield Alert("halt", CLEARED, "exchange", look.now_ns, f"trading again after {before['word']}")

    def _of_silence(self, look: Look) -> Iterator[Alert]:
        """While trading is halted no stream falls silent, but one may come back."""
        for name, silence in look.silent.items() if look.halt is None else ():
            if name not in self._silent:
                self._silent[name] = silence["since_ns"]
                text = f"{name} is silent since {_time(silence['since_ns'])}, and it flowed before"
                yield Alert("silent", RAISED, name, look.now_ns, text, value=silence["age_ms"] / 1000)
        for name in [name for name in self._silent if name not in look.silent]:
            seconds = (look.now_ns - self._silent.pop(name)) / NS_PER_SECOND
            yield Alert("silent", CLEARED, name, look.now_ns, f"{name} is back after {seconds:.1f} s", value=seconds)

    def _of_disk(self, look: Look) -> Iterator[Alert]:
        told = look.disk_level if look.disk_level >= self._rules.thresholds.disk_level else DiskLevel.OK
        before, self._disk = self._disk, told
        if told != before:
            yield Alert("disk", CLEARED if told is DiskLevel.OK else RAISED, "disk", look.now_ns, look.disk_text)

    def _of_lags(self, look: Look) -> Iterator[Alert]:
        most = self._rules.thresholds.lag_ms
        for name, lag in look.lags_ms.items():
            if lag > most and name not in self._lagging:
                self._lagging.add(name)
                text = f"{name} comes {lag:,.0f} ms late, by the median of a minute"
                yield Alert("lag", RAISED, name, look.now_ns, text, value=round(lag, 1))
            elif lag < most * LAG_CLEARS and name in self._lagging:
                self._lagging.remove(name)
                text = f"{name} comes in time again, {lag:,.0f} ms late"
                yield Alert("lag", CLEARED, name, look.now_ns, text, value=round(lag, 1))

    def _of_problems(self, look: Look) -> Iterator[Alert]:
        now = {about: line for about, line in look.problems.items() if about not in _OTHERWISE}
        before, self._problems = self._problems, set(now)
        for about in sorted(now.keys() - before):
            yield Alert(_kind_of(about), RAISED, about, look.now_ns, now[about])
        for about in sorted(before - now.keys()):
            yield Alert(_kind_of(about), CLEARED, about, look.now_ns, f"right again: {about}")

    def _of_contract(self, snap: Snap) -> Iterator[Alert]:
        before, self._contract = self._contract, snap.contract
        if before not in {None, snap.contract}:
            yield Alert(
                "roll", TOLD, snap.contract, snap.snap_ns, f"{snap.contract} is judged from now on, {before} before"
            )

    def _of_void(self, snap: Snap) -> Iterator[Alert]:
        """Tell of signals that were whole in this session and are void for a while; a halt says so itself."""
        if snap.session != self._session:
            self._session, self._was_whole, self._void_ns = snap.session, False, None
        reason = snap.void_reason
        if reason is None:
            self._was_whole, self._void_ns = True, None
            told, self._void = self._void, None
            if told is not None:
                yield Alert("void", CLEARED, "signals", snap.snap_ns, f"signals are judged again, after {told}")
            return
        if self._void_ns is None:
            self._void_ns = snap.snap_ns
        lasts = snap.snap_ns - self._void_ns >= self._rules.thresholds.void_s * NS_PER_SECOND
        if self._void is None and lasts and reason != "halt" and (self._was_whole or reason not in _BEGINNING):
            self._void = reason
            text = f"signals are void since {_time(self._void_ns)}: {reason}"
            yield Alert("void", RAISED, "signals", snap.snap_ns, text)


def _gap_alert(gaps: Sequence[GapDocument], now_ns: int, *, is_new: bool) -> Alert:
    first = gaps[0]
    streams = ", ".join(gap["stream"] for gap in gaps[:MOST_NAMED])
    more = f" and {len(gaps) - MOST_NAMED} more" if len(gaps) > MOST_NAMED else ""
    text = f"{'gap' if is_new else 'gap changed'} in {streams}{more} ({first['cause']}): {first['detail']}"
    spans = [(gap["start_ns"], gap["end_ns"]) for gap in gaps]
    seconds = [(end - start) / NS_PER_SECOND for start, end in spans if start is not None and end is not None]
    longest = round(max(seconds), 3) if seconds else None
    return Alert("gap", RAISED if is_new else TOLD, first["gap_id"], now_ns, text, value=longest)


def _bound(kept: dict[str, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]


def _kind_of(about: str) -> str:
    return about if about in _OWN_KINDS else "problem"


def _signal_text(level: str, price: float, direction: int, signal: str, score: float | None, held: Any) -> str:
    """Return the line of a signal; its arrow says where price would go."""
    would = {"BREAK": direction, "REJECT": -direction}.get(signal, 0)
    arrow = {1: " up", -1: " down"}.get(would, "")
    figures = [] if score is None else [f"score {score:.0f}"]
    figures += [] if held is None else [f"barrier {held}"]
    return f"{signal}{arrow} at {price:,.2f}, {level}" + (f": {', '.join(figures)}" if figures else "")


def _time(ns: int) -> str:
    return clock.utc_text(ns)[11:19] + " UTC"

"""What may be trusted at this second: one function of what is known, so that no two places decide it.

The first that is true:
    empty   no row was ever recorded here
    halt    the exchange stopped trading in the judged contract
    stale   a stream that flowed is silent
    first   the judge warms up, or what its windows need has not been recorded for long enough, and no hole explains it
    gap     a hole lies in a window of the score
    void    another input is missing, or the judge is
    live    none of these
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.ledger import WINDOWS_S
from spymaster.engines.snap import Snap
from spymaster.engines.whole import HALTING
from spymaster.signals.live import BETWEEN
from spymaster.watch.documents import First, GapDocument, Halt, Silent, State

LATE_NS: Final = 5 * NS_PER_SECOND  # by which the newest snap is behind its book
FIRST_NS: Final = 300 * NS_PER_SECOND  # after the begin, for what is short of rows and not of luck
_LONGEST_NS: Final = max(WINDOWS_S) * NS_PER_SECOND
_SHORTEST_NS: Final = min(WINDOWS_S) * NS_PER_SECOND
_BEGINNING: Final = frozenset({"no book", "not whole", "warm-up"})  # void reasons that a start explains
_HOLES: Final = ("gap", "skipped", "overflow")  # void reasons, of a stock with the stream behind


class Status(NamedTuple):
    """The exchange's newest word on a contract that stops or resumes trading, and when."""

    word: str
    since_ns: int


class Facts(NamedTuple):
    """What is known at a moment.

    Attributes:
        now_ns: our clock.
        began_ns: since when this run records.
        recorded: any row was, in this run or before.
        silent: streams that flowed, by name.
        judge_state: None where nothing is judged.
        snap: the newest.
        book_ns: the newest durable row of the judged book; None before the first.
        status: of the judged contract.
        gaps: those that are open.
        judged_streams: those whose rows are in a window of the score, by name.
        warm_up_s: how long sizes are seen before what is typical of them is known.
    """

    now_ns: int
    began_ns: int
    recorded: bool
    silent: Mapping[str, Silent]
    judge_state: str | None
    snap: Snap | None
    book_ns: int | None
    status: Status | None
    gaps: Collection[GapDocument]
    judged_streams: frozenset[str]
    warm_up_s: int


class Condition(NamedTuple):
    """What may be trusted.

    Attributes:
        state: see the top of this file.
        reason: the engines' or the exchange's word, or the stream's that is silent.
        since_ns: since when, where what is known says so.
        halt: while it lasts, whatever the state.
        first: when scores come, while the state is `first`.
        gap: the hole, while the state is `gap`.
    """

    state: State
    reason: str | None = None
    since_ns: int | None = None
    halt: Halt | None = None
    first: First | None = None
    gap: GapDocument | None = None


def condition(facts: Facts) -> Condition:
    """Return what may be trusted by these facts."""
    if not facts.recorded:
        return Condition("empty")
    halt = halted(facts.status, facts.snap)
    if halt is not None:
        return Condition("halt", halt["word"], halt["since_ns"], halt)
    if facts.silent:
        name, silence = min(facts.silent.items(), key=lambda one: one[1]["since_ns"])
        return Condition("stale", name, silence["since_ns"])
    return Condition("live") if facts.judge_state is None else _judged(facts, facts.snap)


def _judged(facts: Facts, snap: Snap | None) -> Condition:
    if facts.judge_state == "ended":
        return Condition("void", "the judge ended")
    if facts.judge_state == BETWEEN:
        return Condition("void", BETWEEN)
    if snap is None or facts.judge_state != "judging":
        return Condition("first", facts.judge_state, facts.began_ns, first=_first(facts, snap))
    reason = snap.void_reason
    if reason is None and _is_warming(snap):
        reason = "warm-up"
    begins = facts.now_ns - facts.began_ns < FIRST_NS and _hole(facts, snap) is None
    if reason in _BEGINNING and begins:
        return Condition("first", reason, facts.began_ns, first=_first(facts, snap))
    return _windowed(facts, snap)


def _is_warming(snap: Snap) -> bool:
    """Whether no level has a score yet for want of what is typical."""
    scores, reasons = snap.levels.column("score"), snap.levels.column("level_void_reason")
    is_warm_up: Any = pc.any(pc.equal(reasons, pa.scalar("warm-up")))
    return scores.null_count == len(scores) and is_warm_up.as_py() is True


def _windowed(facts: Facts, snap: Snap) -> Condition:
    """Return what holes in the windows, and the snap itself, leave of trust."""
    gap, reason = _hole(facts, snap), snap.void_reason
    if gap is not None or (reason is not None and reason.startswith(_HOLES)):
        return Condition("gap", reason or "gap", None if gap is None else gap["start_ns"], gap=gap)
    if reason is not None:
        return Condition("void", reason)
    if facts.book_ns is not None and facts.book_ns - snap.snap_ns > LATE_NS:
        return Condition("void", "the judge is late", snap.snap_ns)
    return Condition("live")


def halted(status: Status | None, snap: Snap | None) -> Halt | None:
    """Return what stopped trading. A snap behind that word that is not void for it knows better: its session began."""
    if status is None or status.word not in HALTING:
        return None
    if snap is not None and snap.snap_ns > status.since_ns and snap.void_reason != "halt":
        return None
    return {"word": status.word, "since_ns": status.since_ns}


def _first(facts: Facts, snap: Snap | None) -> First:
    """Return when scores come: once what is typical is known and the shortest window whole, and once the longest is."""
    whole_ns = facts.began_ns if snap is None else snap.whole_since_ns
    scores_ns = whole_ns + max(_SHORTEST_NS, facts.warm_up_s * NS_PER_SECOND)
    return {"scores_ns": scores_ns, "whole_ns": max(scores_ns, whole_ns + _LONGEST_NS)}


def _hole(facts: Facts, snap: Snap) -> GapDocument | None:
    """Return the newest gap that a window of the score reaches back to."""
    found = [gap for gap in facts.gaps if gap["stream"] in facts.judged_streams and _touches(gap, snap.snap_ns)]
    return max(found, key=lambda gap: gap["end_ns"] or 0, default=None)


def _touches(gap: GapDocument, snap_ns: int) -> bool:
    start_ns, end_ns = gap["start_ns"], gap["end_ns"]
    if start_ns is None or end_ns is None or start_ns > snap_ns:
        return False
    return end_ns > snap_ns - _LONGEST_NS

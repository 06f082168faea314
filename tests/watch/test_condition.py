"""What may be trusted is one function of what is known."""

import pyarrow as pa
import pytest

from spymaster.watch.condition import Facts, Status, condition
from tests.watch.watched import NOW_NS, snap

SECOND = 10**9
BOOK = "futures.mbp10/ES"
SILENT = {BOOK: {"since_ns": NOW_NS - 3 * SECOND, "age_ms": 3_000}}
HALT = Status("halt", NOW_NS + SECOND)


def gap(start_s, end_s, stream=BOOK):
    """Return a gap that lies so many seconds before the snap."""
    return {"gap_id": "1", "stream": stream, "start_ns": NOW_NS - start_s * SECOND, "end_ns": NOW_NS - end_s * SECOND}


def levels(*reasons, score=None):
    """Return levels that are void for these reasons, and one more that has a score if one is given."""
    none = [None] * len(reasons)
    scores = [*none, score] if score is not None else none
    return pa.record_batch(
        {"score": pa.array(scores, pa.float64()), "level_void_reason": pa.array([*reasons, None][: len(scores)])}
    )


WARMING = levels("warm-up", "beyond ten levels")


def facts(**values):
    """Return the facts of a whole day, but for these."""
    whole = Facts(
        now_ns=NOW_NS, began_ns=NOW_NS - 10**13, recorded=True, silent={}, judge_state="judging", snap=snap(),
        book_ns=NOW_NS, status=None, gaps=[], judged_streams=frozenset({BOOK}), warm_up_s=60,
    )  # fmt: skip
    return whole._replace(**values)


@pytest.mark.parametrize(("changes", "state", "reason"), [
    ({}, "live", None),
    ({"recorded": False, "silent": SILENT}, "empty", None),
    ({"status": HALT, "silent": SILENT}, "halt", "halt"),
    ({"status": Status("close", NOW_NS - SECOND), "snap": snap(void_reason="halt")}, "halt", "close"),
    ({"status": Status("trading", NOW_NS)}, "live", None),
    ({"status": Status("close", NOW_NS - 10**14)}, "live", None),  # the next session trades; its snap knows
    ({"silent": SILENT, "snap": snap(void_reason="gap")}, "stale", BOOK),
    ({"silent": SILENT, "judge_state": None, "snap": None}, "stale", BOOK),
    ({"judge_state": None, "snap": None}, "live", None),
    ({"judge_state": "warming up"}, "first", "warming up"),
    ({"judge_state": "waiting", "snap": None}, "first", "waiting"),
    ({"began_ns": NOW_NS - 60 * SECOND, "snap": snap(void_reason="warm-up")}, "first", "warm-up"),
    ({"snap": snap(void_reason="warm-up")}, "void", "warm-up"),  # recorded for hours: there is another cause
    ({"began_ns": NOW_NS - 60 * SECOND, "snap": snap(levels=WARMING)}, "first", "warm-up"),
    ({"began_ns": NOW_NS - 60 * SECOND, "snap": snap(levels=levels("warm-up", score=50.0))}, "live", None),
    ({"began_ns": NOW_NS - 60 * SECOND, "snap": snap(levels=levels("beyond ten levels"))}, "live", None),
    ({"snap": snap(levels=WARMING)}, "live", None),  # after a hole, say; its levels say that they are not yet judged
    ({"began_ns": NOW_NS - 10**11, "snap": snap(void_reason="not whole"), "gaps": [gap(9, 6)]}, "gap", "not whole"),
    ({"snap": snap(void_reason="gap")}, "gap", "gap"),
    ({"snap": snap(void_reason="skipped")}, "gap", "skipped"),
    ({"snap": snap(void_reason="gap in stocks.quotes")}, "gap", "gap in stocks.quotes"),
    ({"gaps": [gap(300, 200)]}, "gap", "gap"),  # the window of 240 s reaches back to it
    ({"gaps": [gap(400, 241)]}, "live", None),
    ({"gaps": [gap(300, 200, "options.quotes/ES")]}, "live", None),  # fuel alone has options
    ({"snap": snap(void_reason="crossed")}, "void", "crossed"),
    ({"book_ns": NOW_NS + 6 * SECOND}, "void", "the judge is late"),
    ({"judge_state": "ended"}, "void", "the judge ended"),
    ({"judge_state": "between sessions", "snap": None}, "void", "between sessions"),
])  # fmt: skip
def test_the_first_state_that_is_true_is_the_condition(changes, state, reason):
    found = condition(facts(**changes))

    assert (found.state, found.reason) == (state, reason)


def test_a_condition_says_since_when_and_what_it_rests_on():
    assert condition(facts(silent=SILENT)).since_ns == NOW_NS - 3 * SECOND
    assert condition(facts(status=HALT)).halt == {"word": "halt", "since_ns": NOW_NS + SECOND}
    assert condition(facts(gaps=[gap(300, 200)])).gap == gap(300, 200)
    first = condition(facts(judge_state="warming up", snap=snap(whole_since_ns=NOW_NS))).first
    assert first == {"scores_ns": NOW_NS + 60 * SECOND, "whole_ns": NOW_NS + 240 * SECOND}

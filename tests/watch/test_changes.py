"""Which transitions there are: each is one alert, however many looks what it says lasts."""

from types import MappingProxyType

import pyarrow as pa
import pytest

from spymaster.lake.gold import GOLD
from spymaster.recording.disk import DiskLevel
from spymaster.watch.changes import Changes, Look
from spymaster.watch.rules import Rules
from tests.watch.watched import NOW_NS, snap

SECOND = 10**9
STREAM = "futures.mbp10/ES"
QUIET = Look(
    now_ns=NOW_NS, snap=None, silent={}, halt=None, disk_level=DiskLevel.OK, disk_text="the disks have room",
    lags_ms={}, problems=MappingProxyType({}),
)  # fmt: skip
SILENT = {"silent": {STREAM: {"since_ns": NOW_NS - 5 * SECOND, "age_ms": 5_000}}}
HALT = {"halt": {"word": "halt", "since_ns": NOW_NS}}
LOOKS = 50


def told(changes, *looks):
    """Return kind, state and subject of what many looks at each of these find."""
    return [
        (alert.kind, alert.state, alert.subject)
        for values in looks
        for _ in range(LOOKS)
        for alert in changes.look(QUIET._replace(**values))
    ]


@pytest.mark.parametrize(("what", "kind", "subject"), [
    (SILENT, "silent", STREAM),
    (HALT, "halt", "exchange"),
    ({"disk_level": DiskLevel.WARN}, "disk", "disk"),
    ({"lags_ms": {STREAM: 1_500.0}}, "lag", STREAM),
    ({"problems": {"judge": "levels are judged no more"}}, "judge", "judge"),
    ({"problems": {"gold": "a part was not written"}}, "gold", "gold"),
    ({"problems": {"log": "the log holds 2 GB"}}, "problem", "log"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_lasts_is_one_alert_what_ends_is_one_more_and_what_comes_again_is_another(what, kind, subject):
    over = {"lags_ms": {STREAM: 10.0}} if kind == "lag" else {}

    once = [(kind, "raised", subject), (kind, "cleared", subject)]
    assert told(Changes(Rules()), {}, what, over, what, over) == once * 2


def test_a_disk_that_gets_worse_is_told_again_and_room_once():
    levels = [{"disk_level": level} for level in (DiskLevel.WARN, DiskLevel.INGEST_STOPPED, DiskLevel.OK)]

    assert [state for _, state, _ in told(Changes(Rules()), *levels)] == ["raised", "raised", "cleared"]


def test_a_disk_below_the_rule_is_not_told():
    changes = Changes(Rules.model_validate({"thresholds": {"disk": "bronze_stopped"}}))

    assert told(changes, {"disk_level": DiskLevel.WARN}) == []


def test_a_full_disk_is_told_as_that_and_not_as_a_problem_as_well():
    full = {"disk_level": DiskLevel.INGEST_STOPPED, "problems": {"disk": "the log's disk is full"}}

    assert told(Changes(Rules()), full) == [("disk", "raised", "disk")]


def test_no_stream_falls_silent_while_the_exchange_has_stopped_trading():
    assert told(Changes(Rules()), {**SILENT, **HALT}) == [("halt", "raised", "exchange")]


def test_a_lag_is_over_only_once_it_is_well_below_what_raises_it():
    lags = [{"lags_ms": {STREAM: ms}} for ms in (1_100.0, 900.0, 1_100.0, 700.0)]

    assert [state for _, state, _ in told(Changes(Rules()), *lags)] == ["raised", "cleared"]


def snaps(*reasons, first_s=0):
    """Return looks, a second of event time apart, at snaps with these reasons to be void."""
    at = enumerate(reasons, first_s)
    return [{"snap": snap(snap_ns=NOW_NS + second * SECOND, void_reason=reason)} for second, reason in at]


def test_void_signals_are_told_once_they_have_lasted_and_whole_ones_then():
    looks = snaps(None, "crossed", None, "gap", "gap", "gap", "gap", None)

    assert told(Changes(Rules()), *looks) == [("void", "raised", "signals"), ("void", "cleared", "signals")]


def test_what_a_session_begins_with_is_no_alert():
    assert told(Changes(Rules()), *snaps(*["warm-up"] * 9, None, "halt", "halt", "halt", "halt", None)) == []


def test_a_roll_is_told_with_both_contracts():
    changes = Changes(Rules())
    (told_of,) = [
        alert
        for contract in ("ESZ5", "ESZ5", "ESH6", "ESH6")
        for alert in changes.look(QUIET._replace(snap=snap(contract=contract)))
    ]

    assert (told_of.kind, told_of.text) == ("roll", "ESH6 is judged from now on, ESZ5 before")


def rows(second, **signals):
    """Return what `levels.signals` has of a snap's levels in sight that is read; a signal and the second it began."""
    values = {
        "ts_event_ns": NOW_NS + second * SECOND,
        "level_price": 6_874.25,
        "level_direction": 1,
        "break_score_smooth": 81.2,
        "barrier_held_state": "VACUUM",
    }
    levels = [
        values | {"level_id": level, "signal": signal, "signal_since_ns": NOW_NS + since * SECOND}
        for level, (signal, since) in signals.items()
    ]
    columns = [GOLD.field(name) for name in levels[0]]
    return pa.RecordBatch.from_pylist(levels, schema=pa.schema(columns))


def given(changes, *snaps):
    return [(one.subject, one.signal, one.ts_event_ns) for each in snaps for one in changes.snap(each)]


def test_each_signal_is_one_alert_with_the_time_of_the_snap_that_gave_it():
    assert given(
        Changes(Rules()),
        rows(0, VWAP=("NEUTRAL", 0), POC=("NEUTRAL", 0)),
        rows(1, VWAP=("BREAK", 1), POC=("NEUTRAL", 0)),
        *(rows(second, VWAP=("BREAK", 1)) for second in range(2, LOOKS)),
        rows(60, POC=("NEUTRAL", 0)),  # the other one is out of sight
        rows(61, VWAP=("BREAK", 61)),  # was neutral meanwhile
        rows(62, VWAP=("CONTESTED", 62)),
    ) == [
        ("VWAP", "BREAK", NOW_NS + SECOND),
        ("VWAP", "BREAK", NOW_NS + 61 * SECOND),
        ("VWAP", "CONTESTED", NOW_NS + 62 * SECOND),
    ]


@pytest.mark.parametrize(("signal", "text"), [
    ("BREAK", "BREAK up at 6,874.25, VWAP: score 81, barrier VACUUM"),
    ("REJECT", "REJECT down at 6,874.25, VWAP: score 81, barrier VACUUM"),
    ("CONTESTED", "CONTESTED at 6,874.25, VWAP: score 81, barrier VACUUM"),
])  # fmt: skip
def test_a_signal_says_where_price_would_go_and_what_made_it(signal, text):
    (alert,) = Changes(Rules()).snap(rows(1, VWAP=(signal, 1)))

    assert (alert.text, alert.level_price, alert.value) == (text, 6_874.25, 81.2)


def test_a_signal_that_a_run_goes_on_with_is_the_same_alert():
    first, again = (next(Changes(Rules()).snap(rows(second, VWAP=("BREAK", 1)))) for second in (1, 900))

    assert first.alert_id == again.alert_id


def test_only_signals_that_a_rule_names_are_told():
    changes = Changes(Rules(signals=["CONTESTED"]))

    assert [one[1] for one in given(changes, rows(1, A=("BREAK", 1), B=("CONTESTED", 1)))] == ["CONTESTED"]


def gap(number, cause="disconnect", **more):
    return {"gap_id": str(number), "stream": f"futures.trades/{number}", "cause": cause, "start_ns": NOW_NS,
            "end_ns": NOW_NS + SECOND, "rows": None, "detail": "lost at 40", "state": "open"} | more  # fmt: skip


def test_gaps_that_a_lost_connection_leaves_in_each_stream_are_one_alert_and_their_change_is_another():
    changes = Changes(Rules())
    lost = [gap(1), gap(2), gap(3, "disk_full")]

    first = list(changes.gaps(lost, NOW_NS))
    assert [(one.kind, one.state, one.subject, one.value) for one in first] == [
        ("gap", "raised", "1", 1.0),
        ("gap", "raised", "3", 1.0),
    ]
    assert first[0].text == "gap in futures.trades/1, futures.trades/2 (disconnect): lost at 40"
    assert list(changes.gaps(lost, NOW_NS)) == []
    (changed,) = changes.gaps([gap(1, rows=7)], NOW_NS)
    assert (changed.state, changed.subject) == ("", "1")

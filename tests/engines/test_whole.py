"""What is missing voids the snaps that it touches and no others."""

from spymaster.engines.intake import Missing, Piece
from spymaster.engines.session import Session
from spymaster.engines.whole import Holes, Whole
from spymaster.events import REFERENCE_STATUS
from tests.engines.test_intake import BEGIN, SNAP, STATUS, batch

DAY = 345_600 * SNAP
SESSION = Session("2025-12-22", BEGIN, BEGIN + DAY, BEGIN + DAY // 2, BEGIN + DAY // 2 + 10)


class Snaps:
    """A session's holes, snap by snap."""

    def __init__(self, **more):
        self.whole, self.snap_ns = Whole(SESSION, "ESZ5", **more), None

    def at(self, snap, *missing, status=()):
        """Return what a snap lacks, times after BEGIN."""
        since, self.snap_ns = self.snap_ns, BEGIN + snap * SNAP
        spans = tuple(Missing(BEGIN + begin, BEGIN + end, *of) for begin, end, *of in missing)
        rows = [
            {"ts_event_ns": BEGIN + ts, "action": action, "contract": contract, "capture_seq": seq}
            for seq, (ts, action, contract) in enumerate((*one, "ESZ5")[:3] for one in status)
        ]
        batches = {REFERENCE_STATUS.name: [batch(STATUS, *rows)]} if rows else {}
        found = self.whole.work(Piece(self.snap_ns, since, batches, spans, {}, {}, {}))
        spans = tuple((begin - BEGIN, end - BEGIN) for begin, end in found.spans)
        books, quotes = (None if at is None else at - BEGIN for at in (found.books_from_ns, found.quotes_from_ns))
        return found._replace(spans=spans, books_from_ns=books, quotes_from_ns=quotes)

    @property
    def since(self):
        return self.whole.since_ns - BEGIN


WHOLE = Holes(None, (), None)


def test_where_nothing_is_missing_all_is_whole_since_the_session_began():
    snaps = Snaps()
    assert [snaps.at(snap) for snap in (1, 2, 9)] == [WHOLE] * 3
    assert snaps.since == 0


def test_a_hole_voids_each_snap_that_it_touches():
    snaps = Snaps()
    snaps.at(1)
    assert snaps.at(2, (SNAP + 5, 4 * SNAP + 1, "skipped")) == Holes("skipped", ((SNAP + 5, 2 * SNAP),), 4 * SNAP + 1)
    assert snaps.at(3) == Holes("skipped", ((2 * SNAP, 3 * SNAP),), 4 * SNAP + 1)
    assert snaps.at(5) == Holes("skipped", ((3 * SNAP, 4 * SNAP + 1),), 4 * SNAP + 1)
    assert snaps.since == 5 * SNAP
    assert snaps.at(6) == WHOLE
    assert snaps.since == 5 * SNAP


def test_a_hole_of_the_past_marks_its_span_and_voids_nothing_now():
    snaps = Snaps()
    snaps.at(100)
    assert snaps.at(101, (SNAP, 9 * SNAP, "gap")) == Holes(None, ((SNAP, 9 * SNAP),), None)
    assert snaps.since == 9 * SNAP


def test_a_hole_that_ends_with_the_snap_before_voids_no_other():
    snaps = Snaps()
    snaps.at(1)
    assert snaps.at(2, (5, SNAP, "gap")) == Holes(None, ((5, SNAP),), None)


def test_a_hole_of_earlier_sessions_is_none():
    snaps = Snaps()
    assert snaps.at(1, (-9 * SNAP, 0, "gap")) == WHOLE
    assert snaps.at(2, (-9 * SNAP, 1, "gap")) == Holes(None, ((0, 1),), None)
    assert Snaps().at(1, (-9 * SNAP, 1, "gap")) == Holes("gap", ((0, 1),), 1)


def test_a_hole_that_has_not_begun_waits():
    snaps = Snaps()
    assert snaps.at(1, (SNAP + 1, SNAP + 2, "gap")) == WHOLE
    assert snaps.since == 0
    assert snaps.at(2) == Holes("gap", ((SNAP + 1, SNAP + 2),), SNAP + 2)
    assert snaps.at(3) == WHOLE


def test_a_halt_voids_until_it_trades_again_and_nothing_is_missing():
    snaps = Snaps()
    snaps.at(1)
    assert snaps.at(2, status=[(SNAP + 5, "halt")]) == Holes("halt", ((SNAP + 5, 2 * SNAP),), None)
    assert snaps.whole.halted
    assert snaps.at(4) == Holes("halt", ((2 * SNAP, 4 * SNAP),), None)
    assert snaps.at(5, status=[(4 * SNAP + 1, "pre_open"), (4 * SNAP + 2, None)]).reason == "halt"
    assert snaps.at(6, status=[(5 * SNAP + 9, "trading")]) == Holes("halt", ((5 * SNAP, 5 * SNAP + 9),), None)
    assert (snaps.at(7), snaps.since) == (WHOLE, 6 * SNAP)


def test_every_end_of_trading_is_a_halt():
    for action in ("halt", "pause", "suspend", "close", "post_close", "not_available_for_trading"):
        assert Snaps().at(1, status=[(5, action)]).reason == "halt"
    for action in ("trading", "pre_open", "ssr_change", None):
        assert Snaps().at(1, status=[(5, action)]).reason is None


def test_a_halt_of_another_contract_and_an_older_status_change_nothing():
    snaps = Snaps()
    assert snaps.at(1, status=[(5, "halt", "ESH6"), (6, "halt", None)]) == WHOLE
    snaps.at(2, status=[(SNAP + 5, "trading")])
    assert snaps.at(3, status=[(SNAP + 4, "halt")]) == WHOLE
    assert Snaps().at(1, status=[(-5, "close")]) == WHOLE  # the session before


def test_statuses_are_worked_by_time_whatever_their_order():
    for order in (1, -1):
        snaps = Snaps()
        snaps.at(1)
        halted = snaps.at(9, status=[(2 * SNAP, "halt"), (3 * SNAP, "trading")][::order])
        assert halted == Holes("halt", ((2 * SNAP, 3 * SNAP),), None)
        assert not snaps.whole.halted

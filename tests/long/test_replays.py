"""The trial of a session that goes wrong finds what it is there to find."""

import pyarrow as pa
import pytest

from spymaster.lake import gold
from spymaster.signals.chain import chains_of
from spymaster.signals.replay import replay
from tests.long.replays import LEGS, PROFILE, Roots, missing_spans, of_gaps, of_gold
from tests.signals.living import lived
from tests.signals.recordings import BEGIN_NS, SECOND, SESSION, Recording, market, parted, renumbered


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A minute of a market with ten seconds in its middle of which nobody heard."""
    recording = Recording(tmp_path_factory.mktemp("recorded"))
    first, rest = parted(market(100), BEGIN_NS + 70 * SECOND)
    lived(recording, first, end="kill")
    _, second = parted(rest, BEGIN_NS + 80 * SECOND)
    lived(recording.drain(), list(renumbered(second, capture=9)))
    recording.drain()
    published = []
    made = replay(recording.data, recording.wal, PROFILE, SESSION, shown=published.append)
    (chain,) = chains_of(recording.data, recording.wal, PROFILE.name, SESSION)
    parts = gold.begun_within(recording.data, "ES", SESSION.begin_ns, SESSION.end_ns)
    rows = pa.concat_tables([gold.read(part) for part in parts.values()])
    return Roots(recording.data, recording.wal), chain, rows, published, made.certificate


def test_nothing_is_found_where_nothing_is_wrong(recorded):
    roots, chain, rows, published, certificate = recorded
    gaps, holes = missing_spans(roots, chain)
    reasons = {snap.snap_ns: snap.void_reason for snap in published}

    assert (len(gaps), len(holes)) == (0, 1)
    assert list(of_gold(chain, rows, published)) == []
    assert list(of_gaps(chain, holes, reasons, certificate["void"]["named"])) == []


def test_a_row_that_stands_twice_and_a_snap_that_lacks_are_found(recorded):
    _, chain, rows, published, _ = recorded
    last_ns = int(chain.snap_ns[-1])
    twice = pa.concat_tables([rows, rows.slice(0, 2)])
    lacking = rows.filter(pa.array([at != last_ns for at in rows["ts_event_ns"].to_pylist()]))

    assert [found[:14] for found in of_gold(chain, twice, published)] == ["2 rows of Gold"]
    assert [found[:30] for found in of_gold(chain, lacking, published)] == ["1 snaps on record have levels,"]
    assert [found[:32] for found in of_gold(chain, rows, published[:-1])] == ["a replay publishes other snaps t"]


def test_a_sound_snap_behind_a_hole_and_one_that_is_not_named_are_found(recorded):
    roots, chain, _, published, certificate = recorded
    _, holes = missing_spans(roots, chain)
    reasons, named = {snap.snap_ns: snap.void_reason for snap in published}, certificate["void"]["named"]
    ((_, end_ns, known),) = holes
    (after_ns,) = {int(at) for at in chain.snap_ns[known:] if at < end_ns + SECOND // 4 and at >= end_ns}

    (sound,) = of_gaps(chain, holes, reasons | {after_ns: None}, named)
    # A judge that comes late to it does not publish it.
    (unnamed,) = of_gaps(
        chain, holes, reasons | {after_ns: "no book"}, [one for one in named if one["first_ns"] > after_ns]
    )
    assert sound.endswith("is sound")
    assert unnamed.endswith("is not named as void")


def test_its_legs_are_of_every_kind_and_the_last_makes_good_what_kills_took():
    assert {leg.end for leg in LEGS} == {"stop", "kill -9", "kill -9 while it warms up"}
    assert sum(leg.part for leg in LEGS) == pytest.approx(1)
    assert LEGS[-1].end == "stop"

"""Levels, touches and what became of them: the engines' own rows, told when they were known and not before."""

import shutil
from functools import cache
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import connect
from spymaster.engines.judge import Judge
from spymaster.engines.profile import Passage, profile_named
from spymaster.engines.rows import BOOK, book_rows
from spymaster.engines.snap import SIGNALS
from spymaster.lake.datasets import CONTROLS, DATASETS, LEVELS, OUTCOMES, TOUCHES
from spymaster.lake.parquet import damage
from spymaster.proof.doctor import check_datasets
from spymaster.query.status import status
from spymaster.signals.datasets import build
from spymaster.signals.datasets.control import Control
from spymaster.signals.datasets.judged import MADE, touch_id
from spymaster.signals.datasets.passages import Mids, Touched
from spymaster.signals.feed import Roots
from spymaster.signals.past import Past
from spymaster.signals.record import Record
from spymaster.signals.warm_up import WarmUp, half_days_from
from tests.command_line import clean_environment, spymaster
from tests.signals.datasets.truncating import LIVELY, differing, lively_market, truncated
from tests.signals.recordings import BEFORE, BEGIN_NS, BOOKS, FRONT, SECOND, SESSION, Recording, parted, renumbered

SIM = profile_named("SIM")
SNAP_NS = SECOND // 4
MADE_NAMES = [each.name for each in MADE]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A market in which many levels are touched, in Bronze, and its data sets."""
    recording = Recording(tmp_path_factory.mktemp("judged")).record(lively_market())
    build.make(recording.data, recording.wal, LIVELY, only="touches")
    return recording


@pytest.fixture
def own(recorded, tmp_path):
    """A copy, to be changed."""
    shutil.copytree(recorded.data, tmp_path / "lake")
    shutil.copytree(recorded.wal, tmp_path / "wal")
    return Roots(tmp_path / "lake", tmp_path / "wal")


def make(roots):
    return build.make(*roots, LIVELY, only="touches")


def file_of(roots, dataset, date=SESSION.date):
    return dataset.file(roots[0], ("ES", "SIM", date))


def in_sql(roots, query):
    with connect(*roots) as opened:
        return opened.sql(query).fetchall()


def rows_of(recording, dataset):
    return pq.read_table(file_of((recording.data, recording.wal), dataset), partitioning=None)


@cache
def snaps_of(recording):
    return [snap for _, snap in Past(recording.data, recording.wal, LIVELY, SESSION).snaps()]


def test_the_snaps_are_those_of_a_judge_that_gets_the_rows_as_they_leave(recorded):
    warm = Past(recorded.data, recorded.wal, LIVELY, SESSION)._warm_up
    judge = Judge(LIVELY, [SESSION], FRONT, earlier=warm.earlier, half_days=half_days_from(SESSION))
    found = [snap for stream, part in lively_market() for snap in judge.take(stream, part)]

    assert len(snaps_of(recorded)) > 80
    assert [snap.snap_ns for snap in snaps_of(recorded)] == [snap.snap_ns for snap in found][: len(snaps_of(recorded))]
    assert all(one.levels.equals(other.levels) for one, other in zip(snaps_of(recorded), found, strict=False))


def test_a_touch_is_the_engines_whole_row_of_its_snap(recorded):
    expected = pa.Table.from_batches(
        [snap.levels.filter(snap.levels["touched"]) for snap in snaps_of(recorded)], SIGNALS
    )
    found = rows_of(recorded, TOUCHES)

    assert found.select(SIGNALS.names).equals(
        expected.cast(pa.schema([TOUCHES.columns.field(n) for n in SIGNALS.names]))
    )
    assert found.num_rows > 8
    ids = found["touch_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert ids[0] == touch_id(LIVELY.profile_hash, SESSION.date, found["id"][0].as_py(), found["snap_ns"][0].as_py())
    assert set(found["known_by"].to_pylist()) == {"known time"}
    assert set(found["mark"].to_pylist()) == {"snap"}


def test_the_universe_of_each_snap_is_in_the_rows_that_reach_over_it(recorded):
    names = ["id", "ids", "kinds", "price", "fixed", "level_whole"]
    rows = rows_of(recorded, LEVELS).to_pylist()

    for snap in snaps_of(recorded):
        there = [row for row in rows if row["from_ns"] <= snap.snap_ns <= row["to_ns"]]
        there.sort(key=lambda row: row["price"])
        assert [{name: row[name] for name in names} for row in there] == snap.levels.select(names).to_pylist()
    assert len(rows) > 50


def plain_outcomes(recording, touches):
    """Return (id, outcome, time) by a loop over every book of the contract that did not come late."""
    parts, newest = [], 0
    for part in (part for stream, part in lively_market() if stream == BOOKS):
        last = part.column("ts_event_ns")[-1].as_py()
        parts += [part] if last > newest else []
        newest = max(newest, last)
    rows, _ = book_rows(parts, FRONT, 0.25)
    rows = rows.take((rows.kind == BOOK) & (rows.ts_ns >= SESSION.begin_ns))
    mids = list(zip(rows.ts_ns.tolist(), (rows.bid_px[:, 0] + rows.ask_px[:, 0]).tolist(), strict=True))
    end_ns, rules = snaps_of(recording)[-1].snap_ns, LIVELY.passage
    for touch in touches.to_pylist():
        price, until = round(touch["price"] / 0.125), touch["snap_ns"] + rules.horizon_s * SECOND
        for ts_ns, mid in mids:
            gone = touch["direction"] * (mid - price)
            if touch["snap_ns"] < ts_ns <= min(until, end_ns) and abs(gone) >= 2 * rules.distance_ticks:
                yield touch["touch_id"], "BREAK" if gone > 0 else "REJECT", ts_ns
                break
        else:
            if until <= end_ns:
                yield touch["touch_id"], "NEITHER", until


def test_an_outcome_is_that_of_a_plain_loop_over_every_book(recorded):
    found = rows_of(recorded, OUTCOMES)
    columns = ["touch_id", "outcome", "decided_ns"]
    expected = [one for each in (TOUCHES, CONTROLS) for one in plain_outcomes(recorded, rows_of(recorded, each))]

    assert sorted(zip(*(found[name].to_pylist() for name in columns), strict=True)) == sorted(expected)
    assert {"BREAK", "REJECT", "NEITHER"} == set(found["outcome"].to_pylist())
    lag = found["outcome_known_ns"].to_numpy() - found["decided_ns"].to_numpy()
    assert ((lag >= 0) & (lag < SNAP_NS)).all()
    assert not set(rows_of(recorded, TOUCHES)["touch_id"].to_pylist()) <= set(found["touch_id"].to_pylist())
    assert any(snap.counters.late for snap in snaps_of(recorded))


def test_how_far_the_price_went_until_then_either_way(recorded):
    found = {row["touch_id"]: row for row in rows_of(recorded, OUTCOMES).to_pylist()}
    distance = LIVELY.passage.distance_ticks

    for row in found.values():
        assert row["beyond_ticks"] >= 0 <= row["back_ticks"]
        assert (row["beyond_ticks"] >= distance) is (row["outcome"] == "BREAK")
        assert (row["back_ticks"] >= distance) is (row["outcome"] == "REJECT")


def test_the_view_has_each_touch_with_its_outcome_and_null_where_nobody_knows_it(own):
    columns = "touch_id, outcome, decided_ns, outcome_known_ns, beyond_ticks, back_ticks, data_whole, unknown_because"
    outcomes = {row[0]: row for row in in_sql(own, f"select {columns} from outcomes")}
    for view in ("touches", "controls"):
        found = in_sql(own, f"select {columns} from {view} where date = '{SESSION.date}'")
        assert found == [outcomes.get(row[0], (row[0], *[None] * 7)) for row in found]
        assert None in {row[1] for row in found} > {None}

    assert in_sql(own, "select distinct underlying, profile, date::varchar from touches") == [
        ("ES", "SIM", SESSION.date)
    ]
    file_of(own, OUTCOMES).unlink()
    file_of(own, OUTCOMES, BEFORE.date).unlink()
    assert in_sql(own, "select count(*), count(outcome) from touches") == [(rows_of_(own, TOUCHES), 0)]


def rows_of_(roots, dataset):
    return pq.read_metadata(file_of(roots, dataset)).num_rows


def test_random_levels_are_touched_by_the_rule_of_every_level_and_are_in_no_universe(recorded):
    found = rows_of(recorded, CONTROLS).to_pylist()
    spacing, tick = LIVELY.levels.round_spacing_ticks, LIVELY.market.tick

    assert len(found) > 5
    assert {row["kinds"][0] for row in found} == {"RANDOM"}
    assert all(row["price"] / tick % spacing for row in found)
    assert len({row["price"] // (tick * spacing) for row in found}) == len({row["price"] for row in found})
    ids = {one for row in rows_of(recorded, LEVELS)["ids"].to_pylist() for one in row}
    assert not any(one.startswith("RANDOM") for one in ids)
    for row in found:
        assert row["id"] == f"RANDOM_{row['price']:.2f}"
        armed, touched = False, []
        for snap in snaps_of(recorded):
            far = abs(2 * row["price"] / tick - snap.market.spot) if snap.market.spot is not None else None
            if far is not None and armed and far <= 2 * LIVELY.levels.touch_band_ticks:
                touched.append(snap.snap_ns)
                armed = False
            armed |= far is not None and far >= 2 * LIVELY.levels.rearm_ticks
        assert row["snap_ns"] in touched


def test_a_random_level_depends_on_session_and_place_alone():
    def prices(date, spot):
        return [zone.price for zone in Control(SIM, date)._near(spot)]

    assert prices("2025-12-02", 55_000) == prices("2025-12-02", 55_000)
    assert len(set(prices("2025-12-02", 55_000)) & set(prices("2025-12-02", 55_040))) > 5
    assert prices("2025-12-02", 55_000) != prices("2025-12-03", 55_000)
    many = [price % 10 for day in range(10, 30) for price in prices(f"2025-12-{day}", 55_000)]
    assert set(many) == {*range(1, SIM.levels.round_spacing_ticks)}


def test_a_file_vouches_for_itself_and_names_who_judged(recorded):
    for dataset in MADE:
        file = file_of((recorded.data, recorded.wal), dataset)
        said = pq.read_metadata(file).metadata
        assert damage(memoryview(file.read_bytes())) is None
        assert said[b"spymaster_profile_hash"].decode() == LIVELY.profile_hash
        assert (said[b"spymaster_profile"], said[b"spymaster_contract"]) == (b"SIM", FRONT.encode())
        assert len(said[b"spymaster_code_hash"]) == 16
        assert f"/datasets/{dataset.name}/underlying=ES/profile=SIM/date={SESSION.date}/" in file.as_posix()


def test_status_and_doctor_say_what_they_take(recorded):
    files = [path for path in (recorded.data / "silver" / "datasets").rglob("*.parquet") if path.is_file()]
    taken = sum(path.stat().st_size for path in files)

    assert status(recorded.wal, recorded.data)["datasets"] == {"bytes": taken, "files": len(files)}
    assert len(files) >= len(MADE)
    assert check_datasets(recorded.data).found == f"{len(files):,} files, {taken:,} bytes"


def test_what_was_deleted_is_made_again_to_the_same_bytes_and_nothing_else_is(own):
    files = [file_of(own, each, date) for each in MADE for date in (BEFORE.date, SESSION.date)]
    before = [file.read_bytes() for file in files]
    assert {one.status for one in make(own)} == {"unchanged"}

    file_of(own, OUTCOMES).unlink()
    found = make(own)
    assert {(one.of[-1], one.status) for one in found} == {(BEFORE.date, "unchanged"), (SESSION.date, "made")}
    assert [file.read_bytes() for file in files] == before


def test_other_numbers_and_other_code_make_a_session_again(own, monkeypatch):
    other = LIVELY.model_copy(update={"passage": LIVELY.passage.model_copy(update={"distance_ticks": 4})})
    found = build.make(*own, other, date=SESSION.date, only="outcomes")
    assert [(one.dataset, one.status) for one in found] == [(name, "made") for name in MADE_NAMES]

    monkeypatch.setattr("spymaster.signals.datasets.inputs.code_hash", lambda: "another")
    assert {one.status for one in build.make(*own, other, date=SESSION.date, only="outcomes")} == {"made"}


def test_rows_that_came_late_make_their_session_again_and_not_the_one_before(tmp_path):
    early, late = parted(lively_market(), BEGIN_NS + 15 * SECOND)
    recording = Recording(tmp_path).record(early)
    roots = recording.data, recording.wal
    make(roots)
    recording.write(late)  # in the log alone
    found = make(roots)
    assert {(one.of[-1], one.status) for one in found} == {(BEFORE.date, "unchanged"), (SESSION.date, "made")}
    logged = [file_of(roots, each).read_bytes() for each in MADE]

    recording.drain()
    assert {one.status for one in make(roots)} == {"unchanged", "made"}
    rows = [pq.read_table(file_of(roots, each), partitioning=None) for each in MADE]
    assert rows == [pq.read_table(pa.BufferReader(each)) for each in logged]


def test_of_snaps_on_record_touches_are_what_they_were_live_whatever_came_after(tmp_path):
    recording = Recording(tmp_path)
    roots = recording.data, recording.wal
    warm, record = WarmUp(*roots, LIVELY, SESSION, FRONT), Record("SIM")
    warm.begin(None)
    record.begin(warm)
    live = [snap for stream, part in lively_market() for snap in warm.take(stream, part)]
    rows = [*record.rows(live[:100], "warm"), *record.rows(live[100:], "snap"), *record.stop()]
    recording.write_own("system.snaps", pa.Table.from_batches(rows).combine_chunks().to_batches()[0])
    recording.record(lively_market())
    make(roots)
    before = [pq.read_table(file_of(roots, each), partitioning=None) for each in MADE]

    touched = pa.concat_tables([pa.table(snap.levels.filter(snap.levels["touched"])) for snap in live])
    assert before[1].select(SIGNALS.names).to_pylist() == touched.to_pylist()
    assert set(before[1]["known_by"].to_pylist()) == {"record"}
    marks = [("warm" if ns <= live[99].snap_ns else "snap") for ns in before[1]["snap_ns"].to_pylist()]
    assert before[1]["mark"].to_pylist() == marks
    assert set(marks) == {"warm", "snap"}

    assert {one.status for one in make(roots)} == {"unchanged"}
    healed = [(stream, rows) for stream, rows in renumbered(lively_market(), 9) if stream == BOOKS]
    recording.record(healed)
    assert [one.of[-1] for one in make(roots) if one.status == "made" and one.dataset == "touches"] == [
        BEFORE.date, SESSION.date
    ]  # fmt: skip
    assert [pq.read_table(file_of(roots, each), partitioning=None) for each in MADE] == before


def test_a_touchs_row_as_it_stood_at_any_time_is_what_a_build_of_the_data_until_then_gives(recorded, tmp_path):
    for number, (until_ns, lake) in enumerate(truncated(tmp_path, count=12, seed=5)):
        assert differing((recorded.data, recorded.wal), lake) == [], f"{number}: until {until_ns}"


def test_a_touchs_row_that_knew_later_rows_would_be_found(recorded, tmp_path):
    _, lake = next(truncated(tmp_path, count=1, seed=6))
    file = file_of(lake, OUTCOMES)
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.slice(1), file)

    assert differing((recorded.data, recorded.wal), lake) == ["outcomes"]


def test_the_command_makes_what_the_profile_judges(own):
    shutil.rmtree(own.data / "silver")
    environment = clean_environment(SPYMASTER_PROFILE="SIM")
    roots = ("--data-root", str(own.data), "--wal-root", str(own.wal))
    done = spymaster("datasets", "--date", SESSION.date, *roots, "--json", environment=environment)

    assert done.returncode == 0
    assert [(one["dataset"], one["of"]) for one in done.document["datasets"]] == [
        (name, ["ES", "SIM"]) for name in MADE_NAMES
    ]
    assert {one["date"] for one in done.document["datasets"]} == {SESSION.date}
    assert set(DATASETS) == {"ohlcv", "book_1s", *MADE_NAMES}


# The path, of snaps made by hand: seconds, and mids in half ticks.


def snap(second, *mids, spot=None, void=None, whole_since=0.0):
    times, values = (np.array(column, np.float64) for column in (zip(*mids, strict=True) if mids else ((), ())))
    return SimpleNamespace(
        snap_ns=round(second * SECOND), void_reason=void, whole_since_ns=round(whole_since * SECOND),
        market=SimpleNamespace(spot=spot or (mids[-1][1] if mids else None)),
        mids=((times * SECOND).astype(np.int64), values.astype(np.int64)),
    )  # fmt: skip


RULES = Passage(horizon_s=3, distance_ticks=2)


def outcome(*snaps, start=1.0, price=100, direction=1):
    """Return what is known of one touch, its level at 200 half ticks."""
    path = Mids()
    for one in snaps:
        path.add(one)
    touched = Touched(["a"], np.array([round(start * SECOND)]), np.array([price]), np.array([direction]))
    found = path.outcomes(touched, RULES).to_pylist()
    if not found:
        return None
    (row,) = found
    decided, known = (round(row[name] / SECOND, 6) for name in ("decided_ns", "outcome_known_ns"))
    return row["outcome"], decided, known, row["unknown_because"]


FIRST = snap(1, (0.5, 199))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([snap(2, (1.2, 203), (1.4, 204), (1.6, 196))], ("BREAK", 1.4, 2, None)),
        ([snap(2, (1.2, 197), (1.4, 196), (1.6, 204))], ("REJECT", 1.4, 2, None)),
        ([snap(2, (1.2, 203)), snap(4)], ("UNKNOWN", 2, 4, "not whole")),
        ([snap(2, (1.2, 203)), snap(3.75, spot=203)], None),
        ([snap(2, (1.2, 203)), snap(4, spot=203)], ("NEITHER", 4, 4, None)),
        ([snap(2, (1.2, 203)), snap(5, (4.5, 204))], ("NEITHER", 4, 5, None)),
        ([snap(2, spot=199), snap(3, (1.5, 204), (2.5, 203))], None),  # 1.5 came after its snap
        ([snap(2, spot=199, void="crossed")], ("UNKNOWN", 1, 2, "crossed")),
        ([snap(2, (1.5, 204), void="gap")], ("UNKNOWN", 1, 2, "gap")),
        ([snap(2, (1.2, 204), (1.8, 203), whole_since=1.5)], ("UNKNOWN", 1, 2, "not whole")),
        ([snap(2, (1.5, 204), void="warm-up")], ("BREAK", 1.5, 2, None)),
        ([snap(2, (1.5, 204), void="not whole")], ("BREAK", 1.5, 2, None)),
    ],
)
def test_the_first_mid_at_the_distance_decides_and_the_snap_that_had_it_knows(after, expected):
    assert outcome(FIRST, *after) == expected


def test_a_turned_direction_has_the_opposite_outcome_and_none_has_none():
    after = snap(2, (1.4, 204))

    assert outcome(FIRST, after, direction=-1)[0] == "REJECT"
    assert outcome(FIRST, after, direction=0) is None


def test_where_the_price_was_not_known_at_the_touch_the_outcome_is_not():
    assert outcome(snap(1, void="no book"), snap(2, (1.4, 204)))[::3] == ("UNKNOWN", "no book")


def test_a_book_that_stood_through_a_halt_is_known_again_after_it():
    halted = [FIRST, snap(2, void="halt"), snap(3, spot=199)]

    assert outcome(*halted, snap(7, spot=199), start=3) == ("NEITHER", 6, 7, None)
    assert outcome(*halted, snap(7, (6.5, 199)), start=2)[0] == "UNKNOWN"


def test_data_is_whole_where_no_snap_from_the_touch_to_the_outcome_was_void():
    def whole(*snaps):
        path = Mids()
        for one in snaps:
            path.add(one)
        touched = Touched(["a"], np.array([SECOND]), np.array([100]), np.array([1]))
        return path.outcomes(touched, RULES)["data_whole"].to_pylist()

    later = snap(3, (2.5, 204))
    assert whole(FIRST, snap(2, (1.5, 203)), later) == [True]
    assert whole(FIRST, snap(2, (1.5, 203), void="warm-up"), later) == [False]
    assert whole(snap(1, (0.5, 199), void="warm-up"), snap(2, (1.5, 203)), later) == [False]
    assert whole(FIRST, snap(2, (1.5, 204)), snap(3, void="gap")) == [True]


def test_nothing_touched_is_nothing_known():
    none = np.empty(0, np.int64)

    assert Mids().outcomes(Touched([], none, none, none), RULES).num_rows == 0

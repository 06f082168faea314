"""A judge that was warmed up has the bits of one that ran all along, whatever lies where in log and lake."""

import asyncio
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster.bus import Bus
from spymaster.compaction import compactor
from spymaster.compaction.archiver import archive_before
from spymaster.engines.judge import Judge
from spymaster.engines.levels import Zone
from spymaster.engines.profile import profile_named
from spymaster.engines.snap import Snap
from spymaster.engines.typical import SCALE, Norms
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, SYSTEM_GAPS
from spymaster.events.captures import Capture, begin_row
from spymaster.query.recorded import Recorded
from spymaster.query.stretches import MOST_ROWS, Bounds, Stretches
from spymaster.recording.recorder import Recorder
from spymaster.signals.feed import Roots
from spymaster.signals.warm_up import WarmUp
from tests.engines.leaving import same
from tests.engines.test_intake import rows_of
from tests.signals.recordings import (
    BEFORE,
    BEGIN_NS,
    BOOKS,
    FRONT,
    SECOND,
    SESSION,
    STREAMS,
    TRADES,
    Recording,
    last_of,
    market,
    parted,
    renumbered,
)  # fmt: skip

SECONDS = 45
MIDDLE_NS = BEGIN_NS + 25 * SECOND
FIRST_NS = BEGIN_NS - 5 * SECOND
PROFILE = profile_named("SIM")
SEED = Norms(np.full((2, 10), 50 * SCALE, np.int64), 300 * SCALE, 3_000 * SCALE, SCALE // 10)  # so that none warms up
ZONES = [Zone(str(at), 27_600 + 2 * at) for at in range(-12, 12)]


def whole():
    return market(SECONDS)


@cache
def whole_run():
    return all_along(whole())


def all_along(batches) -> list[Snap]:
    """Return the session's snaps of a judge that ran since before it."""
    first_ns = batches[0][1].column("ts_event_ns")[0].as_py()
    seeds = {SESSION.date: SEED}
    by = Judge(PROFILE, [BEFORE, SESSION], FRONT, zones=ZONES, since_ns=first_ns, seeds=seeds)
    return [snap for stream, part in batches for snap in by.take(stream, part) if snap.session == SESSION.date]


def warmed(recording, most_rows=MOST_ROWS) -> WarmUp:
    found = WarmUp(recording.data, recording.wal, PROFILE, SESSION, FRONT, zones=ZONES, most_rows=most_rows)
    assert found.seed is None
    found.seed = SEED
    return found


def comparable(snap, but):
    """Return a snap without the count of rows before the session, which a warm-up does not read, and some others."""
    return snap._replace(counters=snap.counters._replace(before=0, **dict.fromkeys(but)))


def differing(along, warm_up, caught, rest, but=()):
    """Return how many snaps after a warm-up, and its own last one, are not those of a judge that ran all along."""
    found = [caught, *(snap for stream, part in rest for snap in warm_up.judge.take(stream, part))]
    expected = along[-len(found) :]
    assert [snap.snap_ns for snap in found] == [snap.snap_ns for snap in expected]
    assert len(found) > 60
    assert {None} < {snap.void_reason for snap in along}
    found[0], expected[0] = found[0]._replace(seen={}), expected[0]._replace(seen={})
    return sum(
        not same(comparable(one, but), comparable(other, but)) for one, other in zip(found, expected, strict=True)
    )


def test_a_judge_that_was_warmed_up_from_the_lake_has_the_bits_of_one_that_ran_all_along(tmp_path):
    before, rest = parted(whole(), MIDDLE_NS)
    recording = Recording(tmp_path).record(before)
    warm_up = warmed(recording)
    first = last_of(warm_up.catch_up())
    last = last_of(warm_up.catch_up(recording.positions()))

    assert differing(whole_run(), warm_up, last, rest) == 0
    assert MIDDLE_NS - 6 * SECOND < first.snap_ns < MIDDLE_NS - 4 * SECOND < last.snap_ns
    given = {(stream.schema, 7): own[7] for stream, own in recording.positions().items()}
    assert warm_up.taken == given
    assert warm_up.since_ns is None
    assert warm_up.earlier.whole is False  # of the session before, all but 5 s are missing


def test_rows_that_stand_in_the_log_alone_or_in_both_count_once(tmp_path):
    before, rest = parted(whole(), MIDDLE_NS)
    early, late = parted(before, BEGIN_NS + 18 * SECOND)
    earliest, early = parted(early, BEGIN_NS + 10 * SECOND)
    recording = Recording(tmp_path).record(earliest).write(early).drain(leave=True).write(late)
    warm_up = warmed(recording)
    caught = last_of(warm_up.catch_up(recording.positions()))

    assert differing(whole_run(), warm_up, caught, rest) == 0


def test_archived_rows_count_and_silver_is_not_asked(tmp_path):
    before, rest = parted(whole(), MIDDLE_NS)
    recording = Recording(tmp_path).record(before)
    with compactor.lock(recording.data):
        compactor.compact(
            recording.data, compactor.partitions(recording.data, [FUTURES_MBP10, FUTURES_TRADES]), threads=1
        )
        archive_before(recording.data, "2026-01-01")
    assert list((recording.data / "archive").rglob("*.parquet"))
    for file in (recording.data / "silver").rglob("*.parquet"):
        file.unlink()
    warm_up = warmed(recording)

    assert differing(whole_run(), warm_up, last_of(warm_up.catch_up(recording.positions())), rest) == 0


@pytest.mark.parametrize("most_rows", [1, 300])
def test_rows_are_the_same_however_few_are_read_at_once(tmp_path, most_rows):
    before, rest = parted(whole(), MIDDLE_NS)
    recording = Recording(tmp_path).record(before, pieces=20)
    warm_up = warmed(recording, most_rows)

    assert differing(whole_run(), warm_up, last_of(warm_up.catch_up(recording.positions())), rest) == 0


def test_a_stretch_has_no_more_rows_than_asked_for_and_a_part(tmp_path):
    recording = Recording(tmp_path).record(whole(), pieces=20)
    largest = max(part.num_rows for _, part in Recorded(recording.data, recording.wal, [BOOKS], everything()).batches())
    stretches = Stretches(recording.data, recording.wal, STREAMS, everything(), most_rows=300)
    sizes = [sum(table.num_rows for tables in found for table in tables) for _, found in stretches]

    assert sum(sizes) == sum(part.num_rows for _, part in whole())
    assert len(sizes) > 5
    assert max(sizes) < 300 + 2 * max(map(rows_in, recording.data.rglob("*.parquet")))
    assert largest < 100  # and what leaves at once is less than a snap's


def rows_in(part):
    return pq.read_metadata(part).num_rows


def everything():
    return Bounds(BEFORE.begin_ns, SESSION.end_ns, {}, {})


def test_a_capture_that_goes_on_where_another_was_cut_is_read_after_it(tmp_path):
    """A restart in the middle of the session, with rows delivered again.

    When these left is known of their own stream alone, so which of them were late may differ.
    """
    before, rest = parted(whole(), MIDDLE_NS)
    first, _ = parted(before, BEGIN_NS + 15 * SECOND)
    _, again = parted(whole(), BEGIN_NS + 14 * SECOND)
    second = list(
        renumbered(again, capture=5, since_ns=BEGIN_NS + 15 * SECOND)
    )  # the lower id: it is not what orders them
    until = len(second) - len(rest)
    recording = Recording(tmp_path).record(first).record(second[:until])
    warm_up = warmed(recording)
    caught = last_of(warm_up.catch_up(recording.positions()))

    along = all_along([*first, *second])
    assert differing(along, warm_up, caught, second[until:], but=("late",)) == 0


def test_of_a_capture_with_a_position_what_is_beyond_comes_from_the_bus(tmp_path):
    before, rest = parted(whole(), MIDDLE_NS)
    recording = Recording(tmp_path).record(before)
    positions = recording.positions()
    recording.write(rest[: len(rest) // 2])
    warm_up = warmed(recording)

    assert differing(whole_run(), warm_up, last_of(warm_up.catch_up(positions)), rest) == 0


def test_it_says_what_it_has_taken_of_a_capture_without_a_position(tmp_path):
    before, _ = parted(whole(), MIDDLE_NS)
    recording = Recording(tmp_path).record(before)
    warm_up = warmed(recording)
    last_of(warm_up.catch_up({}))

    expected = {(stream.schema, capture): last for stream, own in recording.positions().items()
                for capture, last in own.items()}  # fmt: skip
    assert {key: last for key, last in warm_up.taken.items() if key in expected} == expected


def test_a_warm_up_beside_a_recorder_goes_on_with_the_bus(tmp_path):
    before, rest = parted(whole(), MIDDLE_NS)

    wal, data = tmp_path / "wal", tmp_path / "lake"

    async def run():
        recorder = Recorder(wal, data, bus=Bus(), flush_interval_s=60, segment_mb=1, sync_ms=1)
        await recorder.start()
        capture = recorder.capture(Capture(7, "sim", "sim", None, 1, STREAMS))
        for number, (stream, part) in enumerate(before):
            await capture.append(stream.schema, part.select(part.schema.names[:-2]))
            if number == len(before) // 2:
                await recorder.flush()
        while sum(subscription_rows(recorder)) < sum(part.num_rows for _, part in before):
            await asyncio.sleep(0.01)
        warm_up = await asyncio.to_thread(warmed, Roots(data, wal))
        subscription = recorder.bus.subscribe()
        for stream, part in rest:
            await capture.append(stream.schema, part.select(part.schema.names[:-2]))
        caught = await asyncio.to_thread(lambda: last_of(warm_up.catch_up(subscription.positions)))
        await recorder.stop()
        left = [one async for one in subscription if one.stream in STREAMS]
        return warm_up, caught, left

    warm_up, caught, left = asyncio.run(run())

    by_stream = {stream: pa.Table.from_batches([part for own, part in left if own == stream]) for stream in STREAMS if
                 any(own == stream for own, _ in left)}  # fmt: skip
    for stream, table in by_stream.items():  # what the bus had is the rest; it leaves in the order of the test's own
        assert table.equals(pa.Table.from_batches([part for own, part in rest if own == stream]))
    assert differing(whole_run(), warm_up, caught, rest) == 0


def subscription_rows(recorder):
    positions = recorder.bus.subscribe().positions
    return [positions.get(stream, {}).get(7, -1) + 1 for stream in STREAMS]


# Where rows begin


def test_a_recording_that_began_within_the_session_says_since_when(tmp_path):
    late = list(renumbered(parted(whole(), BEGIN_NS + 10 * SECOND)[1], capture=9))
    recording = Recording(tmp_path).record(late)
    warm_up = warmed(recording)
    caught = last_of(warm_up.catch_up(recording.positions()))

    assert warm_up.since_ns == next(part.column("ts_event_ns")[0].as_py() for stream, part in late if stream == BOOKS)
    assert caught.market.voids == 1
    assert caught.whole_since_ns >= warm_up.since_ns
    assert warm_up.earlier is None


def test_a_capture_that_began_before_the_session_and_had_no_rows_yet_is_whole(tmp_path):
    late = list(renumbered(parted(whole(), BEGIN_NS)[1], capture=9))
    recording = Recording(tmp_path).record(late)
    capture = Capture(9, "sim", "sim", None, 1, STREAMS)
    recording.write_own("system.captures", begin_row(capture, BEGIN_NS - SECOND)).drain()
    warm_up = warmed(recording)
    last_of(warm_up.catch_up(recording.positions()))

    assert warm_up.since_ns is None


def test_nothing_in_the_lake_makes_no_judge_until_the_bus_has_rows(tmp_path):
    recording = Recording(tmp_path)
    warm_up = warmed(recording)
    caught = last_of(warm_up.catch_up({}))

    assert (caught, warm_up.judge, warm_up.earlier) == (None, None, None)
    judge = warm_up.begin(BEGIN_NS + SECOND)
    found = [snap for stream, part in whole() for snap in judge.take(stream, part)]
    assert found[-1].market.voids == 1


def test_a_lake_of_another_contract_gives_no_book(tmp_path):
    before, _ = parted(whole(), MIDDLE_NS)
    recording = Recording(tmp_path).record(before)
    warm_up = WarmUp(recording.data, recording.wal, PROFILE, SESSION, "ESU7", zones=ZONES)
    caught = last_of(warm_up.catch_up(recording.positions()))

    assert (caught.contract, caught.void_reason, caught.spot) == ("ESU7", "no book", None)
    assert caught.counters.rows == 0
    assert sum(warm_up.taken.values()) > 0
    assert warm_up.earlier is None


# Gaps


def test_a_gap_on_record_voids_its_time_wherever_its_row_stands(tmp_path):
    """Its row is of our clock: here it was found a year later."""
    before, _ = parted(whole(), MIDDLE_NS)
    span = BEGIN_NS + 10 * SECOND, BEGIN_NS + 15 * SECOND
    rows = [
        {"ts_event_ns": BEGIN_NS + 365 * 86_400 * SECOND, "of_schema": "futures.mbp10", "of_symbol": "ES",
         "symbol": "spymaster", "start_ns": span[0], "end_ns": span[1]},
        {"ts_event_ns": BEGIN_NS + 365 * 86_400 * SECOND, "of_schema": "futures.mbp10", "of_symbol": "ES",
         "symbol": "spymaster", "start_ns": BEGIN_NS - 9 * SECOND, "end_ns": BEGIN_NS - 8 * SECOND},
    ]  # fmt: skip
    rows = [row | {"ts_recv_ns": row["ts_event_ns"]} for row in rows]
    recording = Recording(tmp_path).record(before)
    recording.write_own(SYSTEM_GAPS.name, rows_of(SYSTEM_GAPS, rows)).drain()
    caught = last_of(warmed(recording).catch_up(recording.positions()))

    assert caught.market.voids == 1
    assert span[1] <= caught.whole_since_ns <= span[1] + SECOND


# Order


def test_a_streams_rows_leave_in_the_order_of_their_numbers_and_streams_by_receipt(tmp_path):
    recording = Recording(tmp_path).record(whole(), pieces=8)
    seqs, newest = {}, 0
    for stream, part in Recorded(recording.data, recording.wal, STREAMS, everything(), 500).batches():
        numbers = part.column("capture_seq").to_numpy()
        assert (numbers == seqs.get(stream, 0) + np.arange(len(numbers))).all()
        seqs[stream] = int(numbers[-1]) + 1
        received = part.column("ts_recv_ns").to_numpy()
        assert received.max() >= newest - SECOND // 4
        newest = max(newest, int(received.max()))
    assert sum(seqs.values()) == sum(part.num_rows for _, part in whole())


def test_a_row_that_came_a_minute_late_leaves_when_it_came(tmp_path):
    late = [
        {"ts_event_ns": BEGIN_NS + at * SECOND, "ts_recv_ns": BEGIN_NS + received * SECOND, "capture_seq": number,
         "contract": FRONT, "ts_local_ns": BEGIN_NS + received * SECOND}
        for number, (at, received) in enumerate([(0, 0), (1, 1), (400, 400), (2, 401), (402, 400), (900, 900)])
    ]  # fmt: skip
    recording = Recording(tmp_path).write([(TRADES, rows_of(FUTURES_TRADES, late))]).drain()
    left = [
        number
        for _, part in Recorded(recording.data, recording.wal, [TRADES], everything(), 1).batches()
        for number in part.column("capture_seq").to_pylist()
    ]

    assert left == list(range(6))

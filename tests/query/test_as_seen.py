"""Rows come to each recorded snap as it had seen them, whatever lies where in log and lake."""

import numpy as np
import pyarrow as pa
import pytest

from spymaster.query.as_seen import AsSeen, Track
from tests.signals.recordings import BEGIN_NS, SECOND, SESSION, STREAMS, Recording, market, parted, renumbered

SPAN = (SESSION.begin_ns, SESSION.end_ns)


def in_session():
    return list(renumbered(parted(market(30), BEGIN_NS)[1], capture=7))


def positions(batches, cuts):
    """Return the tracks and newest times of snaps that stand behind so many batches each."""
    last, newest, tracks, found = {}, BEGIN_NS, {}, []
    for number, (begin, end) in enumerate(zip([0, *cuts], cuts, strict=False)):
        moved = set()
        for stream, part in batches[begin:end]:
            last[stream.schema] = part.column("capture_seq")[-1].as_py()
            newest = max(newest, int(part.column("ts_event_ns").to_numpy().max()))
            moved.add(stream.schema)
        for schema in moved:
            tracks.setdefault((schema, 7), []).append((number, last[schema]))
        found.append(newest)
    made = {key: Track(*(np.array(column) for column in zip(*rows, strict=True))) for key, rows in tracks.items()}
    return made, np.array(found)


def numbers_of(batches):
    return sorted((stream.schema, seq) for stream, part in batches for seq in part.column("capture_seq").to_pylist())


@pytest.mark.parametrize("most_rows", [200, 50_000])
@pytest.mark.parametrize("kept", ["in the log", "in Bronze", "in both"])
def test_each_snap_has_the_rows_that_had_left_before_it(tmp_path, most_rows, kept):
    batches = in_session()
    cuts = np.sort(np.random.default_rng(4).choice(len(batches), 60, replace=False)).tolist()
    tracks, newest_ns = positions(batches, cuts)
    recording = Recording(tmp_path).write(batches)
    if kept != "in the log":
        recording.drain(leave=kept == "in both")

    rows = AsSeen(recording.data, recording.wal, STREAMS, SPAN, tracks, newest_ns, most_rows)
    found = dict(rows.snaps())

    assert list(found) == list(range(60))
    for number, (begin, end) in enumerate(zip([0, *cuts], cuts, strict=False)):
        assert numbers_of(found[number]) == numbers_of(batches[begin:end])


def test_a_capture_that_no_snap_had_seen_is_left_out(tmp_path):
    batches = in_session()
    tracks, newest_ns = positions(batches, [len(batches)])
    healed = list(renumbered(batches, capture=9))
    recording = Recording(tmp_path).write([*batches, *healed]).drain()

    ((number, found),) = AsSeen(recording.data, recording.wal, STREAMS, SPAN, tracks, newest_ns).snaps()

    assert number == 0
    assert {capture for _, part in found for capture in part.column("capture_id").to_pylist()} == {7}


def test_a_row_far_ahead_of_its_snap_is_not_waited_for(tmp_path):
    batches = in_session()
    stream, part = batches[30]
    at = part.schema.get_field_index("ts_event_ns")
    ahead = part.column(at).to_numpy().copy()
    ahead[0] += 600 * SECOND  # more than 5 s after its receipt: it is nobody's newest time
    batches[30] = stream, part.set_column(at, part.schema.field(at), pa.array(ahead))
    tracks, newest_ns = positions(in_session(), [40, len(batches)])
    recording = Recording(tmp_path).write(batches).drain()

    rows = AsSeen(recording.data, recording.wal, STREAMS, SPAN, tracks, newest_ns)
    first, second = (found for _, found in rows.snaps())

    key = stream.schema, part.column("capture_seq")[0].as_py()
    assert sorted([key, *numbers_of(first), *numbers_of(second)]) == numbers_of(batches)


def test_a_snap_whose_rows_are_lost_is_there_without_them(tmp_path):
    batches = in_session()
    tracks, newest_ns = positions(batches, [10, 20, 30])
    recording = Recording(tmp_path)

    assert list(AsSeen(recording.data, recording.wal, STREAMS, SPAN, tracks, newest_ns).snaps()) == [
        (0, []), (1, []), (2, []),
    ]  # fmt: skip

"""A session judged again has the bytes that it had live, through restarts, and says what came of what."""

import json

import numpy as np
import pyarrow as pa
import pytest

from spymaster.engines import ledger
from spymaster.engines.profile import profile_named
from spymaster.lake import gold
from spymaster.signals import begun, start
from spymaster.signals.chain import chains_of
from spymaster.signals.check import check
from spymaster.signals.past import Past
from spymaster.signals.replay import replay
from tests.signals.living import lived
from tests.signals.recordings import BEGIN_NS, SECOND, SESSION, Recording, market, parted, renumbered

SIM = profile_named("SIM")
MIDDLE_NS = BEGIN_NS + 75 * SECOND


def parts_of(root):
    return gold.begun_within(root, "ES", SESSION.begin_ns, SESSION.end_ns)


def replayed(recording, profile=SIM):
    return replay(recording.data, recording.wal, profile, SESSION)


def compared(recording, made):
    return check(recording.data, made.folder, SIM, SESSION)


def rows_of(seconds):
    """Return rows from the session's begin on, as a capture delivers them."""
    return list(renumbered(parted(market(seconds), BEGIN_NS)[1], capture=7))


def halves():
    """Return rows of two and a half minutes as two captures deliver them, with nothing in between."""
    first, second = parted(rows_of(150), MIDDLE_NS)
    return first, list(renumbered(second, capture=9))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two minutes' parts of a session that was judged live, and its replay."""
    recording = Recording(tmp_path_factory.mktemp("recorded"))
    lived(recording, rows_of(75))
    return recording, replayed(recording)


def test_a_run_and_a_restart_give_the_bytes_of_a_replay(tmp_path):
    recording, (first, second) = Recording(tmp_path), halves()
    lived(recording, first)
    lived(recording.drain(), second)
    made = replayed(recording.drain())

    found, (chain,) = compared(recording, made), chains_of(recording.data, recording.wal, "SIM", SESSION)
    assert (found.different, found.other) == (0, 0)
    assert found.same == found.same_bytes >= 2  # four where the machine lets the first warm-up end in time
    assert len(chain.stops) == 2
    assert made.certificate["snaps_by"] == "record"
    assert made.certificate["outputs"]["snaps"] == (~chain.warm).sum() > 200
    assert {own["capture_id"] for own in made.certificate["inputs"]} == {7, 9}


def test_what_a_kill_took_from_gold_is_made_again_by_the_next_start(tmp_path):
    recording, (first, second) = Recording(tmp_path), halves()
    lived(recording, first, end="kill")
    before = parts_of(recording.data)
    lived(recording, second)
    made = replayed(recording)

    found = compared(recording, made)
    assert len(before) == 1
    assert (found.same_bytes, found.different) == (3, 0)
    (chain,) = chains_of(recording.data, recording.wal, "SIM", SESSION)
    assert len(chain.stops) == 1


def test_gold_of_a_session_that_a_kill_ended_is_made_whole_in_the_next(tmp_path):
    recording = Recording(tmp_path)
    lived(recording, rows_of(100), end="kill")
    recording.drain()
    later = SESSION._replace(
        date="2025-12-03", **{name: getattr(SESSION, name) + 86_400 * SECOND for name in SESSION._fields[1:]}
    )
    start.start(recording.data, recording.wal, SIM, later, pytest.fail, lambda: False)

    assert compared(recording, replayed(recording)).different == 0


def test_a_replay_names_the_first_row_that_differs_and_parts_that_lack(tmp_path):
    recording = Recording(tmp_path)
    lived(recording, rows_of(130))
    made = replayed(recording)
    first, second, third = parts_of(recording.data).values()
    rows = gold.read(second)
    scores = rows["barrier_coverage"].to_numpy().copy()
    scores[70] += 1 / 1024
    at = rows.schema.get_field_index("barrier_coverage")
    changed = rows.set_column(at, rows.schema.field(at), pa.array(scores)).select(gold.GOLD.names)
    second.write_bytes(gold.encoded(changed, start.footer_of(SIM)))
    third.unlink()

    found = compared(recording, made)
    assert (found.same, found.different) == (1, 2)
    assert [one.part.split("/")[-1] for one in found.differences] == [second.name, third.name]
    assert found.differences[0].what.startswith("row 70, snap 2025-12-01T23:01:")
    assert "barrier_coverage" in found.differences[0].what
    assert found.differences[1].what == "the replay has it, and it was not recorded"
    assert first.exists()


def test_gold_of_other_code_is_not_compared(recorded, monkeypatch):
    monkeypatch.setattr(start, "code_hash", lambda: "0123456789abcdef")
    found = compared(*recorded)

    assert (found.same, found.different, found.other) == (0, 0, 2)


def test_the_certificate_depends_on_the_rows_alone(recorded):
    recording, once = recorded
    text = (once.folder / "certificate.json").read_text()
    before = pa.cpu_count()
    try:
        pa.set_cpu_count(1)
        again = replayed(recording.drain())
        assert (again.folder / "certificate.json").read_text() == text
    finally:
        pa.set_cpu_count(before)
    numpy_body = replay(recording.data, recording.wal, SIM, SESSION, body=ledger.account)
    assert json.loads(text) == numpy_body.certificate


def test_of_a_backfilled_day_the_rows_count_from_when_they_were_known(tmp_path):
    recording = Recording(tmp_path).record(rows_of(75))
    made = replayed(recording)
    past = Past(recording.data, recording.wal, SIM, SESSION)

    assert not past.recorded
    assert made.certificate["snaps_by"] == "known time"
    assert made.certificate["outputs"]["snaps"] == len([snap for _, snap in past.snaps()]) > 200
    assert compared(recording, made).different == len(parts_of(made.folder)) == 2


def test_a_row_that_is_another_gives_another_certificate(tmp_path):
    rows = rows_of(75)
    stream, part = rows[1_000]
    at = part.schema.get_field_index("ts_recv_ns")
    moved = part.set_column(at, part.schema.field(at), pa.array(part.column(at).to_numpy() + np.int64(1)))
    recordings = [Recording(tmp_path / name).record(list(own)) for name, own in (
        ("a", rows), ("b", [*rows[:1_000], (stream, moved), *rows[1_001:]])
    )]  # fmt: skip
    one, other = (replayed(recording).certificate for recording in recordings)

    assert one["outputs"] == other["outputs"]
    assert one["sha256"] != other["sha256"]


def test_the_certificate_of_the_session_before_is_part_of_the_next(tmp_path):
    recording = Recording(tmp_path).record(rows_of(75))
    before = replayed(recording)
    later = SESSION._replace(
        date="2025-12-03", **{name: getattr(SESSION, name) + 86_400 * SECOND for name in SESSION._fields[1:]}
    )
    after = replay(recording.data, recording.wal, SIM, later)

    assert after.certificate["before"] == before.certificate["sha256"]
    assert after.certificate["outputs"]["snaps"] == 0


def test_the_code_that_judges_is_told_by_its_sources():
    assert begun.code_hash() == begun.code_hash()
    assert len(begun.code_hash()) == 16


def test_what_a_judge_was_begun_with_is_read_as_it_was_written(tmp_path):
    recording = Recording(tmp_path)
    lived(recording, rows_of(10))
    (chain,) = chains_of(recording.data, recording.wal, "SIM", SESSION)

    assert begun.begun_of(chain.begun.to_json()).to_json() == chain.begun.to_json()

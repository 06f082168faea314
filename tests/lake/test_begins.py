"""When captures began, as `system.captures` in Bronze says."""

import pyarrow as pa
import pytest

from spymaster import events
from spymaster.errors import LayoutError
from spymaster.lake import begins
from spymaster.lake.begins import capture_begins
from tests.compaction.silver_oracle import flush
from tests.rows import NOON_NS, numbered


def begun(tmp_path, capture_id, stamp):
    rows = numbered(events.SYSTEM_CAPTURES, 1, symbol="spymaster").to_pylist()
    rows[0] |= {"event": "begin", "of_capture_id": capture_id, "ts_event_ns": stamp}
    table = pa.Table.from_pylist(rows, schema=events.SYSTEM_CAPTURES.log)
    (part,) = flush(tmp_path, events.SYSTEM_CAPTURES, table, "spymaster", stamp)
    return tmp_path / "lake" / "bronze" / part.relative


def test_the_first_begin_row_counts_and_a_part_that_was_read_is_not_read_again(tmp_path, monkeypatch):
    known = {}
    begun(tmp_path, 7, NOON_NS + 5)
    assert capture_begins(tmp_path / "lake", known) == {7: NOON_NS + 5}
    later = begun(tmp_path, 7, NOON_NS + 3)
    reads, read = [], begins.pq.read_table
    monkeypatch.setattr(begins.pq, "read_table", lambda part, **more: reads.append(part) or read(part, **more))

    assert capture_begins(tmp_path / "lake", known) == {7: NOON_NS + 3}

    assert reads == [later]


def test_a_part_that_does_not_read_is_named_with_what_to_do(tmp_path):
    part = begun(tmp_path, 7, NOON_NS)
    part.write_bytes(part.read_bytes()[:100])

    with pytest.raises(LayoutError, match=r"Next: spymaster verify") as refused:
        capture_begins(tmp_path / "lake")

    assert str(part) in str(refused.value)
    assert "\n" not in str(refused.value)

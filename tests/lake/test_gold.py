"""Parts of Gold: cut by event time, named by their first snap, published once, the same bytes for the same snaps."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster import durable
from spymaster.errors import LayoutError
from spymaster.lake import gold, layout, parquet
from spymaster.lake.gold import FILES, GOLD, LEVELS_SIGNALS, NOBODY, Footer, Parts
from spymaster.lake.layout import Tier
from spymaster.paths import Partition
from tests.signals import snaps

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
NOON_NS = 1_766_404_800 * SECOND  # 2025-12-22 12:00 UTC
JUDGED = Footer("SIM", "abc", "def")
MANY = 1_000_000


def at(*seconds, levels=2, underlying="ES"):
    """Return a batch of rows for each time after noon."""
    return [_rows(NOON_NS + round(each * SECOND), levels, underlying) for each in seconds]


def _rows(ts_ns, levels, underlying):
    template = snaps.gold()[-1].slice(0, 1)
    rows = pa.concat_batches([template] * levels)
    given = {
        "ts_event_ns": pa.array([ts_ns] * levels),
        "underlying": pa.array([underlying] * levels),
        "level_id": pa.array([f"ROUND_{n}" for n in range(levels)]),
        "level_price": pa.array([6_000.0 + n for n in range(levels)]),
    }
    columns = [given.get(name, rows.column(name)) for name in GOLD.names]
    return pa.RecordBatch.from_arrays(columns, schema=GOLD)


def parts_of(batches, span_s=60, most_rows=MANY):
    """Return the seconds after noon of the snaps of each part."""
    parts = Parts(span_s * SECOND, most_rows)
    found = [table for rows in batches for table in parts.put(rows)]
    return [seconds(table) for table in [*found, parts.cut()] if table is not None]


def seconds(table):
    times = [(ns - NOON_NS) / SECOND for ns in table["ts_event_ns"].to_pylist()]
    return list(dict.fromkeys(times))


# Cut


def test_a_part_ends_at_each_multiple_of_its_span_and_at_the_end():
    assert parts_of(at(59.75, 60, 60.25, 119.75, 120)) == [[59.75], [60, 60.25, 119.75], [120]]


def test_a_part_ends_at_an_hour_though_its_span_goes_on():
    assert parts_of(at(3_590, 3_600), span_s=7_000) == [[3_590], [3_600]]


def test_a_part_ends_after_so_many_rows_and_no_snap_is_divided():
    assert parts_of(at(1, 2, 3, 4, 5), most_rows=3) == [[1, 2], [3, 4], [5]]
    assert parts_of(at(1, 59, 61, 62), most_rows=4) == [[1, 59], [61, 62]]


def test_rows_are_counted_from_the_cut():
    assert parts_of(at(58, 59, 60, 61, 62), most_rows=6) == [[58, 59], [60, 61, 62]]


def test_a_snap_that_comes_late_begins_a_part_of_its_own():
    assert parts_of(at(1, 2, 1.5, 3)) == [[1, 2], [1.5, 3]]


def test_a_batch_of_several_snaps_is_cut_as_they_would_be():
    batches = at(59, 60, 61, 121)
    assert parts_of([pa.concat_batches(batches)]) == parts_of(batches) == [[59], [60, 61], [121]]


def test_rows_that_wait_are_counted():
    parts = Parts(MINUTE, MANY)
    for rows in at(1, 2):
        parts.put(rows)
    assert parts.rows == 4
    assert parts.cut().num_rows == 4
    assert (parts.rows, parts.cut()) == (0, None)


# What was skipped


def skipping(before, first, last, after):
    parts = Parts(MINUTE, MANY)
    found = [table for rows in at(*before) for table in parts.put(rows)]
    finished, forgotten = parts.skip(NOON_NS + round(first * SECOND), NOON_NS + round(last * SECOND))
    found += finished + [table for rows in at(*after) for table in parts.put(rows)]
    return [seconds(table) for table in [*found, parts.cut()] if table is not None], forgotten, parts.skipped_rows


def test_of_a_span_that_lacks_snaps_nothing_becomes_a_part():
    assert skipping([1, 61, 62], 63, 64, [65, 119, 120]) == ([[1], [120]], 4, 4)


def test_a_part_that_lacks_nothing_is_finished_though_snaps_after_it_are_missing():
    assert skipping([61, 62], 121, 122, [123, 180]) == ([[61, 62], [180]], 0, 2)


def test_snaps_missing_over_several_spans_spoil_the_first_and_the_last():
    assert skipping([61], 62, 241, [242, 300, 301]) == ([[300, 301]], 2, 2)


# Published


@pytest.fixture
def table():
    return pa.Table.from_batches(at(3_725.25, 3_726, levels=3))


def test_a_part_lies_where_its_first_snap_says(tmp_path, table):
    found = gold.publish(tmp_path, table, JUDGED)

    key = "levels/signals/underlying=ES/date=2025-12-22/hour=13/part-130205_250000.parquet"
    assert found == tmp_path / "gold" / key
    own = Partition("levels.signals", "underlying", "ES", "2025-12-22", 13)
    assert layout.gold_files(tmp_path, LEVELS_SIGNALS) == {key: own}
    assert layout.partitions(tmp_path, LEVELS_SIGNALS, tiers=[Tier.GOLD]) == [own]
    assert layout.dates(tmp_path, LEVELS_SIGNALS, "ES", [Tier.GOLD]) == ["2025-12-22"]
    assert layout.gold_sizes(tmp_path, LEVELS_SIGNALS) == [found.stat().st_size]


def test_a_part_says_what_it_is_and_vouches_for_itself(tmp_path, table):
    part = gold.publish(tmp_path, table, JUDGED)

    assert gold.read_footer(part) == JUDGED
    assert parquet.damage(durable.read(part)) is None
    rows = gold.read(part)
    assert rows.schema.equals(FILES)
    assert rows.select(GOLD.names).equals(table)
    assert set(rows["hour"].to_pylist()) == {13}
    assert set(rows["date"].to_pylist()) == {"2025-12-22"}
    read = pq.ParquetFile(part)
    assert read.metadata.metadata[b"schema_version"] == b"1"
    assert read.metadata.num_rows == table.num_rows
    assert {read.metadata.row_group(0).column(n).compression for n in range(len(FILES))} == {"ZSTD"}
    assert gold.read_footer(gold.publish(tmp_path / "other", table, NOBODY)) == NOBODY


def test_a_part_that_is_there_with_the_same_rows_is_success_and_stays(tmp_path, table):
    part = gold.publish(tmp_path, table, JUDGED)
    before = part.stat().st_ino

    assert gold.publish(tmp_path, table, JUDGED) == part
    assert gold.publish(tmp_path, table, JUDGED._replace(code_hash="of a later version")) == part
    assert part.stat().st_ino == before
    assert gold.read_footer(part) == JUDGED


def test_other_rows_never_take_a_name(tmp_path, table):
    part = gold.publish(tmp_path, table, JUDGED)
    bytes_before = part.read_bytes()

    with pytest.raises(LayoutError, match=r"holds other rows than were judged now.*Next: "):
        gold.publish(tmp_path, table.slice(0, 3), JUDGED)
    assert part.read_bytes() == bytes_before
    assert [path.name for path in part.parent.iterdir()] == [part.name]


def test_a_damaged_part_is_not_taken_for_the_same(tmp_path, table):
    part = gold.publish(tmp_path, table, JUDGED)
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)

    with pytest.raises(LayoutError):
        gold.publish(tmp_path, table, JUDGED)


@pytest.mark.parametrize("change", [{"schema_version": "2"}, {"schema_name": "levels.other"}])
def test_a_part_of_a_later_version_is_refused(tmp_path, table, change, monkeypatch):
    monkeypatch.setattr(gold, "FILES", FILES.with_metadata({**_text(FILES.metadata), **change}))
    part = gold.publish(tmp_path, table, JUDGED)

    with pytest.raises(LayoutError, match="which this version does not read"):
        gold.read_footer(part)


def _text(metadata):
    return {key.decode(): value.decode() for key, value in metadata.items()}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 10), max_size=4), st.booleans())
def test_bytes_depend_on_the_snaps_alone_and_not_on_how_their_rows_came(cuts, whole):
    """As pieces of larger batches, with bitmaps that say nothing, or each for itself."""
    rows = pa.Table.from_batches(_cached_snaps()).combine_chunks()
    edges = sorted({0, rows.num_rows, *(rows.num_rows * cut // 10 for cut in cuts)})
    pieces = [rows.slice(begin, end - begin) for begin, end in itertools.pairwise(edges)]
    table = pa.concat_tables(pieces)

    assert bytes(gold.encoded(table, JUDGED)) == _cached_bytes()
    if whole:
        taken = table.take(np.arange(table.num_rows))
        assert bytes(gold.encoded(taken, JUDGED)) == _cached_bytes()


def _cached_snaps():
    return snaps.gold()[:200]


def _cached_bytes(found=[]):  # noqa: B006  # once for all examples
    if not found:
        found.append(bytes(gold.encoded(pa.Table.from_batches(_cached_snaps()), JUDGED)))
    return found[0]


def test_another_fingerprint_gives_other_bytes(table):
    assert gold.encoded(table, JUDGED) != gold.encoded(table, JUDGED._replace(profile_hash="other"))


# Problems


def problems(part, own=None):
    own = own or Partition("levels.signals", "underlying", "ES", "2025-12-22", 13)
    return gold.problems(part, own, durable.read(part))


def rewritten(part, rows, sorted_by="ts_event_ns"):
    part.write_bytes(parquet.encode(FILES, rows, {"spymaster_profile": "", "spymaster_profile_hash": "",
                                                  "spymaster_code_hash": ""}, [sorted_by]))  # fmt: skip


def test_a_part_as_it_was_published_has_no_problem(tmp_path, table):
    assert problems(gold.publish(tmp_path, table, JUDGED)) == []


def test_each_problem_of_a_part_is_named(tmp_path, table):
    part = gold.publish(tmp_path, table, JUDGED)
    rows = gold.read(part)

    rewritten(part, rows.take([3, 4, 5, 0, 1, 2]))
    assert "its rows are not in order" in problems(part)
    rewritten(part, rows.slice(3))
    assert problems(part) == ["its name and folder do not follow from its rows"]
    rewritten(part, rows.slice(0, 0))
    assert problems(part) == ["it has no row"]
    rewritten(part, rows)
    assert problems(part) == []
    assert problems(part, Partition("levels.signals", "underlying", "ES", "2025-12-22", 14))
    two = pa.concat_tables([rows, rows.set_column(1, FILES.field(1), pa.array(["SPY"] * rows.num_rows))])
    rewritten(part, two.sort_by("ts_event_ns"))
    assert problems(part) == ["its name and folder do not follow from its rows"]
    data = bytearray(part.read_bytes())
    data[50] ^= 4
    part.write_bytes(data)
    assert problems(part) == ["its bytes do not match their CRC32C"]


def test_files_of_others_in_gold_are_told_apart(tmp_path, table):
    part = gold.publish(tmp_path, table, JUDGED)
    (part.parent / "mine.parquet").write_bytes(b"x")
    (part.parents[1] / part.name).write_bytes(b"x")
    (part.parent / ".part-130205_250000.parquet.tmp").write_bytes(b"x")

    found = layout.gold_files(tmp_path, LEVELS_SIGNALS)
    assert sorted(key.rpartition("/")[2] for key, own in found.items() if own is None) == ["mine.parquet", part.name]
    assert len(found) == 3

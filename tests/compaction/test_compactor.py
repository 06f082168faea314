"""Silver of Bronze: each event once, the same bytes for the same Bronze, proven before it is published."""

import asyncio
import json
import os
import random
import shutil
import time

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import SilverCompactor, events
from spymaster.compaction import by_columns, compactor, spans
from spymaster.compaction.archiver import archive_before
from spymaster.compaction.compactor import compact, partitions
from spymaster.errors import LockedError, UsageError
from spymaster.events import MARKET_SCHEMAS
from spymaster.feeds.day_files import FlatFileFeed
from spymaster.feeds.dbn_files import DbnFileDelivery
from spymaster.lake import layout, silver
from spymaster.normalize.open import normalizer_of
from spymaster.proof import silver as verify_silver
from tests.command_line import spymaster
from tests.compaction import silver_oracle
from tests.compaction.silver_oracle import flush
from tests.feeding import messages, opened
from tests.rows import BOOKS, NOON_NS, TRADES, numbered

HOUR_NS = 3_600_000_000_000
KEYS = ("capture_id", "capture_seq")


def compacted(lake, threads=2):
    with compactor.lock(lake):
        return compact(lake, partitions(lake, MARKET_SCHEMAS), threads=threads)


def silver_of(lake, schema):
    """Return a schema's Silver without our readers, in the order of partitions and of rows."""
    files = sorted(layout.schema_folder(lake, layout.Tier.SILVER, schema).rglob("*.parquet"))
    assert all(file.name == "part-0000.parquet" for file in files)
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]) if files else None


def as_captured(table):
    """Return what does not depend on which delivery a row came from."""
    names = [name for name in table.column_names if name not in KEYS]
    return table.select(names).replace_schema_metadata(None)


def as_capture(schema, rows, capture_id):
    """Number delivered rows as one capture."""
    count = rows.num_rows
    keys = [pa.repeat(pa.scalar(capture_id, pa.int64()), count), pa.array(np.arange(count))]
    return pa.Table.from_arrays([*rows.columns, *keys], schema=schema.log)


def overlapping(rows, chance, floor_ns=1):
    """Cut a delivery into captures, each resumed inclusively from a whole time at or before the last one's end."""
    stamps = rows["ts_event_ns"].to_numpy() // floor_ns
    latest = np.maximum.accumulate(stamps)
    begin, pieces = 0, []
    for end in [*sorted(chance.sample(range(1, rows.num_rows), min(5, rows.num_rows - 1))), rows.num_rows]:
        pieces.append(rows.slice(begin, end - begin))
        whole = latest[max(end - 1 - chance.randint(0, 200), 0)]  # a time that the capture may have been cut in
        begin = int(np.flatnonzero(stamps >= whole)[0])
    return pieces


def dbn_rows(path):
    delivery = DbnFileDelivery(path, str(path))
    return _rows(delivery)


def flat_file_rows(path):
    (delivery,) = opened(FlatFileFeed(str(path)))
    return _rows(delivery)


def _rows(delivery):
    async def read():
        return [(message.data, message.ts_local_ns) async for message in messages(delivery)]

    batches = {}
    normalizer = normalizer_of(delivery.info.encoding, origin=delivery.info.origin)
    for schema, batch in normalizer.normalize(asyncio.run(read())).batches:
        batches.setdefault(schema.name, []).append(batch)
    return {name: pa.Table.from_batches(own).combine_chunks() for name, own in batches.items()}


def check_once_and_again(tmp_path, schema, rows, floor_ns=1):
    """Captured once nothing is removed; captured in overlapping pieces Silver is that single capture, row for row."""
    for name in ("single", "again"):
        (tmp_path / name).mkdir(parents=True)
    symbol = rows[schema.partition_by][0].as_py() if len(rows[schema.partition_by].unique()) == 1 else "ALL"
    flush(tmp_path / "single", schema, as_capture(schema, rows, 1), symbol)
    results = compacted(tmp_path / "single" / "lake")
    single = silver_of(tmp_path / "single" / "lake", schema)
    assert single.num_rows == rows.num_rows
    assert {result.counts.redelivered for result in results} == {0}

    chance = random.Random(rows.num_rows)
    pieces = overlapping(rows, chance, floor_ns)
    identifiers = chance.sample(range(1, 100), len(pieces))
    for number, (piece, capture_id) in enumerate(zip(pieces, identifiers, strict=True)):
        flush(tmp_path / "again", schema, as_capture(schema, piece, capture_id), symbol, NOON_NS + number)
    results = compacted(tmp_path / "again" / "lake")
    again = silver_of(tmp_path / "again" / "lake", schema)
    assert sum(result.counts.redelivered for result in results) == sum(map(len, pieces)) - rows.num_rows
    assert as_captured(again).equals(as_captured(single))
    return results


def test_every_real_dbn_file_comes_through_whole_and_out_of_overlapping_captures_as_it_was(tmp_path, recorded_dbn_file):
    for name, rows in dbn_rows(recorded_dbn_file).items():
        if rows.num_rows > 1:
            check_once_and_again(tmp_path / name, events.SCHEMAS[name], rows)


def test_real_spy_prints_without_their_sequence_come_through_whole(tmp_path, real_data):
    path = real_data / "lean" / "derived" / "us_stocks_sip_trades_v1_2013-10-07_SPY.csv.gz"
    rows = flat_file_rows(path)["stocks.trades"]
    for name in ("seq", "trade_id"):  # made of the file's row numbers, which would tell genuine repeats apart
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.nulls(rows.num_rows, rows.schema.field(place).type))

    results = check_once_and_again(tmp_path, events.STOCKS_TRADES, rows, floor_ns=1_000_000)

    assert sum(result.counts.repeats for result in results) > 10_000  # genuine prints that a key would have deleted


def test_silver_is_what_plain_python_keeps_of_every_row_that_was_captured(tmp_path):
    """Random captures, received at random times, some of them late, over an hour's edge."""
    chance = random.Random(5)
    truth = numbered(TRADES, 400)
    stamps = sorted(NOON_NS + HOUR_NS - 5_000 + 50 * chance.randint(0, 200) for _ in range(400))
    columns = {"ts_event_ns": stamps, "price": [6900.0 + chance.randint(0, 1) for _ in stamps], "seq": [7] * 400}
    columns |= {"contract": ["ESZ5"] * 400, "size": [1] * 400, "aggressor": [1] * 400, "publisher_id": [1] * 400}
    columns |= {"source": ["sim"] * 400}
    for name, values in columns.items():
        place = truth.schema.get_field_index(name)
        truth = truth.set_column(place, truth.schema.field(place), pa.array(values, truth.schema.field(place).type))
    captured = []
    for number, capture_id in enumerate(chance.sample(range(100), 6)):
        own = truth.take(sorted(chance.sample(range(400), 250)))
        received = [stamp + chance.randint(0, 3) for stamp in own["ts_event_ns"].to_pylist()]
        place = own.schema.get_field_index("ts_recv_ns")
        own = own.set_column(place, own.schema.field(place), pa.array(received))
        own = as_capture(TRADES, own.drop_columns(list(KEYS)).to_batches()[0], capture_id)
        flush(tmp_path, TRADES, own, created_ns=NOON_NS + number)
        captured += own.to_pylist()

    compacted(tmp_path / "lake")

    expected = silver_oracle.once(TRADES, captured)
    found = silver_of(tmp_path / "lake", TRADES).to_pylist()
    assert [{name: row[name] for name in expected[0]} for row in found] == expected
    assert len({(row["event_id"], row["occurrence"]) for row in found}) == len(found)
    assert {(row["date"], row["hour"]) for row in found} == {("2025-12-22", 12), ("2025-12-22", 13)}


@pytest.mark.parametrize("schema", MARKET_SCHEMAS, ids=lambda schema: schema.name)
def test_every_schema_has_its_silver_in_its_folder_with_what_names_each_event(tmp_path, schema):
    flush(tmp_path, schema, numbered(schema, 500, symbol="SPY"), "SPY")

    (result,) = compacted(tmp_path / "lake")

    assert (result.status, result.counts.rows_in, result.counts.rows_out) == ("compacted", 500, 500)
    file = silver.file_of(tmp_path / "lake", result.partition)
    name = "options/trades_enriched" if schema is events.OPTIONS_TRADES else schema.name.replace(".", "/")
    hour = "/hour=12" if schema.hourly else ""
    assert file == tmp_path / f"lake/silver/{name}/{schema.partition_by}=SPY/date=2025-12-22{hour}/part-0000.parquet"
    rows = pq.read_table(file, partitioning=None)
    assert rows.schema.equals(silver.columns_of(schema))
    assert rows.select(schema.log.names).equals(numbered(schema, 500, symbol="SPY").cast(schema.log))
    assert rows.schema.field("event_id").type == pa.binary(16)
    assert result.bytes_out == file.stat().st_size
    assert result.mb_per_s > 0


def with_columns(rows, **columns):
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))
    return rows


def test_greeks_that_did_not_change_are_known_again_after_each_poll_also_of_a_later_capture(tmp_path):
    second = 1_000_000_000

    def polls(capture_id, begin_s):
        received = [NOON_NS + (begin_s + number) * second for number in range(5)]
        rows = numbered(events.OPTIONS_GREEKS_SNAPSHOTS, 5, 0, capture_id, "SPY")
        return with_columns(
            rows, ts_event_ns=[NOON_NS - second] * 5, ts_recv_ns=received, option_symbol=["O:A"] * 5,
            snapshot_id=["x"] * 5, source=["massive.options"] * 5,
        )  # fmt: skip

    for capture_id, begin_s in ((1, 0), (2, 60)):
        greeks = polls(capture_id, begin_s)
        flush(tmp_path, events.OPTIONS_GREEKS_SNAPSHOTS, greeks, "SPY", NOON_NS + capture_id)
    trades = with_columns(
        numbered(events.OPTIONS_TRADES, 3, 0, 3, "SPY"),
        ts_event_ns=[NOON_NS + 4 * second + 1, NOON_NS + 59 * second, NOON_NS + 64 * second + 1],
        option_symbol=["O:A"] * 3,
    )
    flush(tmp_path, events.OPTIONS_TRADES, trades, "SPY", NOON_NS + 3)

    snapshots, _ = compacted(tmp_path / "lake")

    assert (snapshots.counts.rows_in, snapshots.counts.rows_out) == (10, 10)
    ages = silver_of(tmp_path / "lake", events.OPTIONS_TRADES)["greeks_age_ns"].to_pylist()
    assert ages == [1, None, 1]


def test_the_same_bronze_gives_the_same_bytes_whatever_the_threads_and_the_order_of_files(tmp_path, monkeypatch):
    chance = random.Random(3)
    for number in range(6):
        piece = numbered(TRADES, 3_000, chance.randrange(4_000), capture_id=number % 3)
        flush(tmp_path, TRADES, as_capture(TRADES, piece.drop_columns(list(KEYS)), number), created_ns=NOON_NS + number)
    flush(tmp_path, BOOKS, numbered(BOOKS, 3_000))
    monkeypatch.setattr(spans, "_SPAN_BYTES", 300_000)  # several spans
    bronze_parts = silver.bronze_parts

    def shuffled(data_root, partition):
        parts = bronze_parts(data_root, partition)
        chance.shuffle(parts)
        return parts

    found = []
    for threads in (1, 2, 4):
        compacted(tmp_path / "lake", threads)
        files = sorted((tmp_path / "lake" / "silver").rglob("*.parquet"))
        found.append({file: file.read_bytes() for file in files})
        shutil.rmtree(tmp_path / "lake" / "silver")
        monkeypatch.setattr(silver, "bronze_parts", shuffled)

    assert len(found[0]) == 2
    assert found[0] == found[1] == found[2]


def test_a_partition_in_many_spans_holds_the_rows_of_one_in_a_single_span(tmp_path, monkeypatch):
    chance = random.Random(4)
    for number in range(4):
        piece = numbered(TRADES, 2_000, chance.randrange(1_000)).drop_columns(list(KEYS))
        flush(tmp_path, TRADES, as_capture(TRADES, piece, number), created_ns=NOON_NS + number)
    (whole,) = compacted(tmp_path / "lake")
    expected = silver_of(tmp_path / "lake", TRADES)
    shutil.rmtree(tmp_path / "lake" / "silver")
    monkeypatch.setattr(spans, "_SPAN_BYTES", 20_000)

    (cut,) = compacted(tmp_path / "lake")

    assert cut.counts == whole.counts
    assert silver_of(tmp_path / "lake", TRADES).equals(expected)


def test_what_did_not_change_is_not_done_again_and_late_bronze_redoes_its_hour_alone(tmp_path):
    for hour in range(3):
        rows = numbered(TRADES, 100, hour * 3_600_000)
        flush(tmp_path, TRADES, rows, created_ns=NOON_NS + hour)
    first = compacted(tmp_path / "lake")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "lake" / "silver").rglob("*.parquet")}

    again = compacted(tmp_path / "lake")
    flush(tmp_path, TRADES, numbered(TRADES, 7, 3_600_000 + 500, capture_id=2), created_ns=NOON_NS + 9)
    late = compacted(tmp_path / "lake")

    assert [result.status for result in first] == ["compacted"] * 3
    assert [result.status for result in again] == ["unchanged"] * 3
    assert [result.counts for result in again] == [result.counts for result in first]
    assert [(result.partition.hour, result.status) for result in late] == [
        (12, "unchanged"), (13, "compacted"), (14, "unchanged"),
    ]  # fmt: skip
    changed = [file for file, stamp in before.items() if file.stat().st_mtime_ns != stamp]
    assert [file.parent.name for file in changed] == ["hour=13"]
    assert silver_of(tmp_path / "lake", TRADES).num_rows == 307


def test_a_repeat_at_the_end_of_an_hour_is_proven_where_its_capture_goes_on_in_the_next(tmp_path):
    """Both captures have the last event of the hour; the second begins with it, and the first has rows after it."""
    last_ms = 3_599_999
    first = [numbered(TRADES, 1, last_ms), numbered(TRADES, 1, 2 * 3_600_000)]  # nothing traded for an hour
    flush(tmp_path, TRADES, as_capture(TRADES, first[0].drop_columns(list(KEYS)), 1))
    flush(tmp_path, TRADES, as_capture(TRADES, first[0].drop_columns(list(KEYS)), 2), created_ns=NOON_NS + 1)
    (cut,) = compacted(tmp_path / "lake")
    shutil.rmtree(tmp_path / "lake" / "silver")
    later = as_capture(TRADES, pa.concat_tables([numbered(TRADES, 1, 0), *first]).drop_columns(list(KEYS)), 3)
    flush(tmp_path, TRADES, later, created_ns=NOON_NS + 2)

    whole, _ = compacted(tmp_path / "lake")

    assert (cut.counts.redelivered, cut.counts.unproven) == (1, 1)
    assert (whole.counts.redelivered, whole.counts.unproven) == (2, 0)


def test_silver_that_is_made_again_of_archived_parts_is_the_same_bytes(tmp_path):
    lake = tmp_path / "lake"
    for schema in MARKET_SCHEMAS:
        for capture in (1, 2):
            rows = numbered(schema, 300, 3_599_800 + 50 * capture, capture_id=capture, symbol="SPY")
            flush(tmp_path, schema, rows, "SPY", NOON_NS + capture)
    compacted(lake)
    before = {file: file.read_bytes() for file in (lake / "silver").rglob("*.parquet")}

    moved = archive_before(lake, "2025-12-23")
    shutil.rmtree(lake / "silver")
    again = compacted(lake)

    assert (len(moved.stayed), moved.partitions) == (0, len(before))
    assert len(before) > len(MARKET_SCHEMAS)
    assert not list((lake / "bronze").rglob("*.parquet"))
    assert {result.status for result in again} == {"compacted"}
    assert {file: file.read_bytes() for file in (lake / "silver").rglob("*.parquet")} == before


def test_silver_is_the_same_bytes_whether_the_next_hour_came_before_it_or_after(tmp_path):
    """Whether a capture ends in an hour or goes on in the next one decides what is proven of its last rows."""
    lake = tmp_path / "lake"
    for capture in (1, 2):
        flush(tmp_path, TRADES, numbered(TRADES, 100, capture_id=capture), created_ns=NOON_NS + capture)
    (alone,) = compacted(lake)
    for capture in (1, 2):
        rows = numbered(TRADES, 100, 3_600_000, capture_id=capture)
        flush(tmp_path, TRADES, rows, created_ns=NOON_NS + 2 + capture)

    first, second = compacted(lake)
    before = {file: file.read_bytes() for file in (lake / "silver").rglob("*.parquet")}
    shutil.rmtree(lake / "silver")
    compacted(lake)

    assert (alone.counts.unproven, first.counts.unproven, second.counts.unproven) == (2, 1, 1)
    assert (first.status, second.status) == ("compacted", "compacted")
    assert {file: file.read_bytes() for file in (lake / "silver").rglob("*.parquet")} == before
    assert [result.status for result in compacted(lake)] == ["unchanged"] * 2


def test_ctrl_c_gives_up_the_partition_under_way_and_begins_no_other(tmp_path, monkeypatch):
    for hour in range(3):
        flush(tmp_path, TRADES, numbered(TRADES, 2_000, hour * 3_600_000), created_ns=NOON_NS + hour)
    keep_once = by_columns.keep_once

    def slowly(*arguments):
        time.sleep(0.05)
        return keep_once(*arguments)

    def interrupted(done, of):
        monkeypatch.setattr(by_columns, "keep_once", slowly)  # so that the next partition would take some seconds
        raise KeyboardInterrupt

    monkeypatch.setattr(spans, "_SPAN_BYTES", 4_000)
    with compactor.lock(tmp_path / "lake"), pytest.raises(KeyboardInterrupt):
        compact(tmp_path / "lake", partitions(tmp_path / "lake", [TRADES]), threads=1, progress=interrupted)

    hours = [path for path in (tmp_path / "lake" / "silver").rglob("*") if path.is_file() and "hour=" in str(path)]
    assert [path.parent.name for path in hours] == ["hour=12"]
    monkeypatch.setattr(by_columns, "keep_once", keep_once)
    assert [result.status for result in compacted(tmp_path / "lake")] == ["unchanged", "compacted", "compacted"]


def test_a_compaction_closes_the_connections_of_its_threads(tmp_path, monkeypatch):
    for hour in range(2):
        flush(tmp_path, TRADES, numbered(TRADES, 10, hour * 3_600_000), created_ns=NOON_NS + hour)
    opened, connect = [], duckdb.connect

    def noted(**how):
        opened.append(connect(**how))
        return opened[-1]

    monkeypatch.setattr(duckdb, "connect", noted)
    assert [result.status for result in compacted(tmp_path / "lake")] == ["compacted"] * 2

    assert opened
    for connection in opened:
        with pytest.raises(duckdb.ConnectionException):
            connection.execute("select 1")


def test_a_draft_that_lost_or_changed_a_row_is_never_published(tmp_path, monkeypatch):
    flush(tmp_path, TRADES, numbered(TRADES, 100))
    keep_once, read = by_columns.keep_once, by_columns.read

    def forgetful(rows, *more):
        once = keep_once(rows, *more)
        return once._replace(kept=once.kept[1:], late=once.late[1:])

    def mistaken(*arguments):
        rows = read(*arguments)
        place = rows.schema.get_field_index("size")
        return rows.set_column(place, rows.schema.field(place), pa.array([3] + [1] * 99, pa.int32()))

    for name, broken, complaint in (
        ("keep_once", forgetful, "has 99 rows where 100 were due"),
        ("read", mistaken, "has 100 rows where 100 were due, and not the same ones"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(by_columns, name, broken)
            (result,) = compacted(tmp_path / "lake")
        assert result.status == "refused"
        assert complaint in result.reason
        assert not [
            path for path in (tmp_path / "lake" / "silver").rglob("*") if path.is_file() and "hour" in str(path)
        ]
    assert [result.status for result in compacted(tmp_path / "lake")] == ["compacted"]


def test_silver_that_may_be_all_that_is_left_of_rows_is_not_replaced(tmp_path):
    flush(tmp_path, TRADES, numbered(TRADES, 10))
    (lost,) = flush(tmp_path, TRADES, numbered(TRADES, 10, 10), created_ns=NOON_NS + 1)
    lake = tmp_path / "lake"
    compacted(lake)
    before = silver_of(lake, TRADES)
    (lake / "bronze" / lost.relative).unlink()

    (result,) = compacted(lake)

    assert result.status == "refused"
    assert "was made of 20 rows of Bronze, which has 10 of them now" in result.reason
    assert silver_of(lake, TRADES).equals(before)
    silver.file_of(lake, result.partition).unlink()
    assert compacted(lake)[0].counts.rows_out == 10


def two_captures(tmp_path, first):
    """Flush two captures of 100 equal rows."""
    for capture_id in (1, 2):
        rows = numbered(TRADES, 100, first, capture_id=capture_id)
        flush(tmp_path, TRADES, rows, created_ns=NOON_NS + capture_id + first)


def test_an_hour_is_compacted_though_the_one_after_it_is_damaged(tmp_path):
    lake = tmp_path / "lake"
    two_captures(tmp_path, 0)
    alone = compacted(lake)
    before = silver_of(lake, TRADES)
    two_captures(tmp_path, 3_600_000)
    next((lake / "bronze").rglob("hour=13/part-*.parquet")).write_bytes(b"PAR1PAR1")

    noon, later = compacted(lake)
    shutil.rmtree(lake / "silver")
    again, _ = compacted(lake)

    assert [alone[0].status, noon.status, later.status, again.status] == [
        "compacted", "unchanged", "refused", "compacted",
    ]  # fmt: skip
    assert again.counts == alone[0].counts
    assert silver_of(lake, TRADES).equals(before)


def test_an_hour_of_which_compacting_would_make_another_file_now_is_not_archived(tmp_path):
    lake = tmp_path / "lake"
    last = 12 * 3_600_000 - 100  # just before midnight
    two_captures(tmp_path, last)
    flush(tmp_path, events.OPTIONS_TRADES, numbered(events.OPTIONS_TRADES, 10, symbol="SPY"), "SPY")
    compacted(lake)
    two_captures(tmp_path, last + 100)  # so both went on after midnight
    greeks = numbered(events.OPTIONS_GREEKS_SNAPSHOTS, 10, symbol="SPY")
    flush(tmp_path, events.OPTIONS_GREEKS_SNAPSHOTS, greeks, "SPY")
    with compactor.lock(lake):
        compact(lake, partitions(lake, [events.OPTIONS_GREEKS_SNAPSHOTS]))
        compact(lake, partitions(lake, [TRADES], "2025-12-23", "2025-12-23"))
        stayed = {stay.partition.schema: stay.reason for stay in archive_before(lake, "2025-12-23").stayed}
    assert stayed == dict.fromkeys(["futures.trades", "options.trades"], "has changed since it was compacted")

    compacted(lake)
    files = {file: file.read_bytes() for file in (lake / "silver").rglob("*.parquet")}
    with compactor.lock(lake):
        assert archive_before(lake, "2025-12-23").stayed == []
    shutil.rmtree(lake / "silver")
    compacted(lake)
    assert {file: file.read_bytes() for file in (lake / "silver").rglob("*.parquet")} == files


def test_how_old_greeks_may_be_can_be_chosen_and_verify_knows_what_was(tmp_path):
    lake, second = tmp_path / "lake", 1_000_000_000
    greeks = with_columns(
        numbered(events.OPTIONS_GREEKS_SNAPSHOTS, 1, symbol="SPY"), ts_recv_ns=[NOON_NS], option_symbol=["O:A"]
    )
    trades = with_columns(
        numbered(events.OPTIONS_TRADES, 2, symbol="SPY"),
        ts_event_ns=[NOON_NS + 2 * second, NOON_NS + 20 * second], option_symbol=["O:A"] * 2,
    )  # fmt: skip
    flush(tmp_path, events.OPTIONS_GREEKS_SNAPSHOTS, greeks, "SPY")
    flush(tmp_path, events.OPTIONS_TRADES, trades, "SPY")

    found = []
    for seconds in ("10", "30", "30", "1"):
        done = spymaster(
            "compact", "--all", "--json", "--data-root", str(lake),
            environment=os.environ | {"GREEKS_TOLERANCE_SEC": seconds},
        )  # fmt: skip
        result = done.document["partitions"][-1]
        found.append((result["status"], result["enriched"]))
        verdict = verify_silver.audit_silver(lake, verify_silver.list_files(lake), (), lambda number: None)
        assert (verdict.findings, verdict.notes) == ([], [])

    assert found == [("compacted", 1), ("compacted", 2), ("unchanged", 2), ("compacted", 0)]


def test_a_partition_that_duckdb_cannot_prove_is_refused_and_the_others_are_done(tmp_path, monkeypatch):
    flush(tmp_path, TRADES, numbered(TRADES, 100))
    flush(tmp_path, BOOKS, numbered(BOOKS, 100))
    conserved = compactor.Check.conserved

    def out_of_memory(check, parts, draft):
        if "trades" in str(draft):
            check._connection.execute("select error('Out of Memory')")
        conserved(check, parts, draft)

    monkeypatch.setattr(compactor.Check, "conserved", out_of_memory)

    books, trades = compacted(tmp_path / "lake")

    assert (books.status, trades.status) == ("compacted", "refused")
    assert "Out of Memory" in trades.reason
    folder = silver.file_of(tmp_path / "lake", trades.partition).parent
    assert list(folder.iterdir()) == []


def test_a_damaged_part_is_refused_by_name_and_the_other_partitions_are_done(tmp_path):
    (part,) = flush(tmp_path, TRADES, numbered(TRADES, 2_000))
    flush(tmp_path, BOOKS, numbered(BOOKS, 100))
    path = tmp_path / "lake" / "bronze" / part.relative
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)

    books, trades = compacted(tmp_path / "lake")

    assert (books.status, trades.status) == ("compacted", "refused")
    assert not silver.file_of(tmp_path / "lake", trades.partition).exists()


@pytest.mark.parametrize("name", ["options.trades", "options.trades_enriched", "options.trades_enriched.v1"])
def test_option_trades_are_compacted_by_the_name_of_their_silver_too(tmp_path, name):
    flush(tmp_path, events.OPTIONS_TRADES, numbered(events.OPTIONS_TRADES, 10, symbol="SPY"), "SPY")

    (result,) = SilverCompactor(tmp_path / "lake").compact_date("2025-12-22", schema=name)
    again = spymaster("compact", "--all", "--schema", name, "--data-root", str(tmp_path / "lake"))

    assert (result.status, result.counts.rows_out) == ("compacted", 10)
    assert "1 partitions, 0 of them new or changed." in again.stdout


def test_a_lake_that_is_not_there_is_refused_in_one_line_and_not_made(tmp_path):
    done = spymaster("compact", "--all", "--data-root", str(tmp_path / "lake"))

    assert done.returncode == 4
    assert done.stderr.startswith(f"error: there is no lake at {tmp_path / 'lake'}. Nothing was done. Next: ")
    assert not list(tmp_path.iterdir())


def test_one_process_compacts_at_a_time(tmp_path):
    (tmp_path / "lake").mkdir()
    with compactor.lock(tmp_path / "lake"), pytest.raises(LockedError):
        SilverCompactor(data_root=tmp_path / "lake").compact_all_dates("futures.trades")


def test_our_own_events_have_no_silver_and_a_date_must_be_one(tmp_path):
    (tmp_path / "lake").mkdir()
    with pytest.raises(UsageError, match=r"system\.gaps has no Silver"):
        SilverCompactor(data_root=tmp_path / "lake").compact_date("2025-12-22", schema="system.gaps")
    with pytest.raises(UsageError, match="is not a date"):
        SilverCompactor(data_root=tmp_path / "lake").compact_all_schemas("yesterday")


def test_the_snippets_of_the_documents_compact(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "lake"))
    flush(tmp_path, TRADES, numbered(TRADES, 100))
    flush(tmp_path, BOOKS, numbered(BOOKS, 100, 24 * 3_600_000))
    c = SilverCompactor()

    c.compact_date("2025-12-22", schema="futures.trades")
    both = c.compact_all_schemas("2025-12-22")
    books = c.compact_all_dates(schema="futures.mbp10")
    none = c.compact_all_dates(schema="futures.trades.v1", start_date="2025-11-01", end_date="2025-11-30")

    assert [(result.partition.schema, result.status) for result in both] == [("futures.trades", "unchanged")]
    assert [(result.partition.date, result.counts.rows_out) for result in books] == [("2025-12-23", 100)]
    assert none == []


def test_compact_says_what_it_did_in_a_table_and_in_json(tmp_path):
    flush(tmp_path, TRADES, numbered(TRADES, 100))

    def run(*more):
        return spymaster("compact", "--data-root", str(tmp_path / "lake"), *more)

    document = json.loads(run("--date", "2025-12-22", "--json").stdout)
    table = run("--all")

    (entry,) = document["partitions"]
    assert entry["schema"] == "futures.trades"
    assert (entry["rows_in"], entry["rows_out"], entry["redelivered"], entry["unproven"]) == (100, 100, 0, 0)
    assert "1 partitions, 0 of them new or changed." in table.stdout
    for arguments in ((), ("--date", "2025-12-22", "--all")):
        refused = run(*arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)
        assert "name one date, or all" in refused.stderr


def test_compact_shows_what_a_removed_row_says_otherwise(tmp_path):
    """A day's file has another price for one of a live capture's prints, and a second file one number for five."""
    live = with_columns(
        numbered(events.STOCKS_TRADES, 5, symbol="SPY"), source=["massive.stocks"] * 5, correction=[None] * 5,
        seq=[1, 2, 3, 4, 5], trade_id=["1", "2", "3", "4", "5"], exchange=[4] * 5, size=[1] * 5,
    )  # fmt: skip
    day = with_columns(live, ts_local_ns=[None] * 5, price=[1.5, *live["price"].to_pylist()[1:]], conditions=[[41]] * 5)
    again = with_columns(day, trade_id=["7"] * 5, seq=[7] * 5, ts_event_ns=[NOON_NS] * 5)  # one number for five prints
    for capture_id, rows in ((1, live), (2, day), (3, again)):
        own = as_capture(events.STOCKS_TRADES, rows.drop_columns(list(KEYS)), capture_id)
        flush(tmp_path, events.STOCKS_TRADES, own, "SPY", NOON_NS + capture_id)

    def run(*more):
        return spymaster("compact", "--data-root", str(tmp_path / "lake"), "--all", *more)

    first = run("--json")
    shown = run("--json", "--show", "differing", "--engine", "duckdb")
    table = run("--show", "differing", "--format", "table")

    assert first.stderr.count("\n") == 1
    assert "stocks.trades: 4 rows have a number that their vendor documents as unique" in first.stderr
    (counts,) = first.document["partitions"]
    assert (counts["differing"], counts["repeated_numbers"], counts["unordered"]) == (1, 4, 2)
    assert "differing" not in first.document
    assert shown.document["differing"] == [
        {
            "schema": "stocks.trades", "partition": "symbol=SPY", "ts_event_ns": NOON_NS,
            "capture_id": 2, "capture_seq": 0, "kept_capture_id": 1, "kept_capture_seq": 0,
            "values": {"price": {"removed": 1.5, "kept": 6900.0}},
        }
    ]  # fmt: skip
    assert "removed says" in table.stdout
    assert "1 of 1 removed rows that say something else than the row that is kept." in table.stdout
    for wrong in (("--show", "all"), ("--engine", "polars")):
        refused = run(*wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)


def test_silver_reads_without_our_code(tmp_path):
    flush(tmp_path, TRADES, numbered(TRADES, 100))
    compacted(tmp_path / "lake")

    counted = duckdb.sql(
        f"select count(*), count(distinct event_id) from "
        f"read_parquet('{tmp_path}/lake/silver/futures/trades/**/*.parquet', hive_partitioning = true) where hour = 12"
    )
    assert counted.fetchall() == [(100, 100)]
